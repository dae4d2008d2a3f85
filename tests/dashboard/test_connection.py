"""Lost connections: the badge shows it, and afterwards the page is right again without a reload."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.support.browser import OUTAGE, Visitor, visiting
from tests.support.dashboard import expect_stock, feed_of, press, row_of, started_at, without_worker
from tests.support.factories import make_drop, make_due, make_user
from tests.support.servers import Service, free_port
from tests.support.streams import Api
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow


@dataclass
class Outage:
    """A visitor of a drop of five units, on a service that can be stopped and started again."""

    api: Api
    visitor: Visitor
    context: BrowserContext
    port: int
    drop_id: str
    users: list[str]

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Service]:
        """The service, which is killed at the end of the block if it was not stopped before."""
        with started_at(self.port, self.api.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            yield service

    @asynccontextmanager
    async def last_server(self) -> AsyncIterator[Service]:
        """The last service of a test, which must stop cleanly."""
        async with self.server() as service:
            yield service
            await self.visitor.close()
            await asyncio.to_thread(service.stop)

    async def make_changes(self) -> None:
        """Change the drop while the page is not connected: afterwards one unit is sold and two are held."""
        for user in self.users:
            await self.api.owner.fetchval("select id from api.reserve($1, $2)", UUID(self.drop_id), UUID(user))
        await self.api.owner.fetchval("select id from api.purchase($1, $2)", UUID(self.drop_id), UUID(self.users[0]))


@pytest.fixture
async def outage(api: Api, browser: Browser) -> AsyncIterator[Outage]:
    """With a clock that the test can move. The page is loaded once and reports only the outage."""
    users = [await make_user(api.owner) for _ in range(3)]
    drop_id = (await make_drop(api.http, users[0]))["id"]
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        yield Outage(api, visitor, context, port, drop_id, users)
        assert visitor.requests.count(f"{visitor.url}/") == 1


async def badges_of(page: Page) -> list[str]:
    """The texts that the badge has had."""
    said: list[str] = await page.evaluate("window.badges")
    return said


@pytest.mark.parametrize("pruned", [False, True])
async def test_server_restarts(api: Api, outage: Outage, pruned: bool) -> None:
    """After a restart of the server the page is right, by the events that it missed, or by a SNAPSHOT if they were pruned."""
    drop_id = outage.drop_id
    async with outage.server() as first:
        page = await outage.visitor.open(outage.context)
        await press(page, drop_id, "Reserve")
        await expect_stock(page, drop_id, 4, 1, 0)
        await asyncio.to_thread(first.stop)
        await expect(page.locator("#badge")).to_have_text("Reconnecting")
    [mine] = await api.owner.fetch("select id from inventory.reservations where drop_id = $1", UUID(drop_id))
    await make_due(api.owner, str(mine["id"]))
    await api.owner.fetch("select from api.expire_reservations()")
    await outage.make_changes()
    if pruned:
        await api.owner.fetchval("select api.prune_events(0)")
        assert await api.owner.fetchval("select count(*) from inventory.events") == 1
    async with outage.last_server():
        await expect(page.locator("#badge")).to_have_text("Resynced" if pruned else "Live")
        await expect_stock(page, drop_id, 2, 2, 1)
        if pruned:
            await outage.context.clock.fast_forward(5000)
            await expect(page.locator("#badge")).to_have_text("Live")
        assert await badges_of(page) == ["Live", "Reconnecting", "Live", *(["Resynced", "Live"] if pruned else [])]
        await api.owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(outage.users[0]))
        await expect_stock(page, drop_id, 1, 3, 1)
        # The hold that expired meanwhile is gone, too, and the focus is where it was.
        await expect(row_of(page, drop_id).get_by_role("button")).to_have_text(["Reserve"])
        await expect(row_of(page, drop_id).get_by_role("button")).to_be_focused()


async def test_sale_that_was_missed(api: Api, outage: Outage) -> None:
    """A sale that was missed is in the news with the time of the sale."""
    async with outage.server():
        page = await outage.visitor.open(outage.context)
        await expect_stock(page, outage.drop_id, 5, 0, 0)
    await outage.make_changes()
    sold_at: datetime = await api.owner.fetchval(
        "select created_at from inventory.purchases where drop_id = $1", UUID(outage.drop_id)
    )
    await outage.context.clock.fast_forward(30_000)
    async with outage.last_server():
        sale = feed_of(page).filter(has_text="1 sold of")
        shown = datetime.fromisoformat(await sale.locator("time").get_attribute("datetime") or "")
        assert abs(shown - sold_at).total_seconds() < 0.001


async def test_server_that_answers_503(outage: Outage) -> None:
    """A proxy answers 503 with Retry-After: the page reconnects after that time, no sooner, and is right."""
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 300\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if b"/api/events" in request:
            refused.set()

    await without_worker(outage.context)
    async with outage.server():
        page = await outage.visitor.open(outage.context)
        await expect_stock(page, outage.drop_id, 5, 0, 0)
    server = await asyncio.start_server(refuse, "127.0.0.1", outage.port)
    await asyncio.wait_for(refused.wait(), PATIENCE_SECONDS)
    await expect(page.locator("#badge")).to_have_text("Reconnecting")
    server.close()
    await server.wait_closed()
    await outage.make_changes()
    async with outage.last_server():
        requests = len(outage.visitor.requests)
        await outage.context.clock.fast_forward(200_000)
        assert await badges_of(page) == ["Live", "Reconnecting"]
        assert len(outage.visitor.requests) == requests
        await outage.context.clock.fast_forward(100_000)
        await expect(page.locator("#badge")).to_have_text("Live")
        await expect_stock(page, outage.drop_id, 2, 2, 1)
        assert await badges_of(page) == ["Live", "Reconnecting", "Live"]


async def test_silence(outage: Outage) -> None:
    """Without heartbeats the page ends the connection by itself; afterwards it also reads the settings that it could not read."""
    await without_worker(outage.context)
    await outage.context.route("**/dashboard/settings.json", lambda route: route.abort())
    async with outage.last_server() as service:
        page = await outage.visitor.open(outage.context)
        await expect_stock(page, outage.drop_id, 5, 0, 0)
        await expect(page.get_by_role("button", name="Create a drop")).to_be_hidden()
        os.kill(service.process.pid, signal.SIGSTOP)
        await outage.make_changes()
        await outage.context.clock.fast_forward(20_000)
        assert await badges_of(page) == ["Live"]  # a heartbeat may be late
        await outage.context.clock.fast_forward(25_000)
        await expect(page.locator("#badge")).to_have_text("Reconnecting")
        await outage.context.unroute("**/dashboard/settings.json")
        os.kill(service.process.pid, signal.SIGCONT)
        await expect(page.locator("#badge")).to_have_text("Live")
        await expect_stock(page, outage.drop_id, 2, 2, 1)
        await press(page, outage.drop_id, "Reserve")
        await expect_stock(page, outage.drop_id, 1, 3, 1)
        await expect(page.get_by_role("button", name="Create a drop")).to_be_visible()
