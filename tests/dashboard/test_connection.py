"""Lost connections: the badge says so, and then the page is right again by itself."""

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
from tests.support.dashboard import buy, card_of, expect_stock, press, started_at
from tests.support.factories import make_drop, make_due, make_user
from tests.support.servers import Service, free_port
from tests.support.streams import Stage
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@dataclass
class Outage:
    """Somebody who looks at a drop of five units, on a service that can go away and come back."""

    stage: Stage
    visitor: Visitor
    context: BrowserContext
    port: int
    drop_id: str
    users: list[str]

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Service]:
        """The service, until it is stopped; killed at the end of the block if it was not."""
        with started_at(self.port, self.stage.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            yield service

    @asynccontextmanager
    async def last_server(self) -> AsyncIterator[Service]:
        """The service to the end, in which it stops cleanly."""
        async with self.server() as service:
            yield service
            await self.visitor.close()
            await asyncio.to_thread(service.stop)

    async def make_changes(self) -> None:
        """What nobody tells the page: one unit is sold and two are held then."""
        for user in self.users:
            await self.stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(self.drop_id), UUID(user))
        await self.stage.owner.fetchval("select id from api.purchase($1, $2)", UUID(self.drop_id), UUID(self.users[0]))


@pytest.fixture
async def outage(stage: Stage, browser: Browser) -> AsyncIterator[Outage]:
    """With a clock that the test can put forward; the page may be loaded once, and complain of nothing but the outage."""
    users = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, users[0]))["id"]
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        yield Outage(stage, visitor, context, port, drop_id, users)
        assert visitor.requests.count(f"{visitor.url}/") == 1


async def badges_of(page: Page) -> list[str]:
    """What the badge has said."""
    said: list[str] = await page.evaluate("window.badges")
    return said


@pytest.mark.parametrize("pruned", [False, True])
async def test_server_restarts(stage: Stage, outage: Outage, pruned: bool) -> None:
    """The badge says so, and then all is right without a reload: by what was missed, or by a SNAPSHOT where that is forgotten."""
    drop_id = outage.drop_id
    async with outage.server() as first:
        page = await outage.visitor.open(outage.context)
        await press(page, drop_id, "Reserve")
        await expect_stock(page, drop_id, 4, 1, 0)
        await asyncio.to_thread(first.stop)
        await expect(page.locator("#badge")).to_have_text("Reconnecting")
    [mine] = await stage.owner.fetch("select id from inventory.reservations where drop_id = $1", UUID(drop_id))
    await make_due(stage.owner, str(mine["id"]))
    await stage.owner.fetch("select from api.expire_reservations()")
    await outage.make_changes()
    if pruned:
        await stage.owner.fetchval("select api.prune_events(0)")
        assert await stage.owner.fetchval("select count(*) from inventory.events") == 1
    async with outage.last_server():
        await expect(page.locator("#badge")).to_have_text("Resynced" if pruned else "Live")
        await expect_stock(page, drop_id, 2, 2, 1)
        if pruned:
            await outage.context.clock.fast_forward(5000)
            await expect(page.locator("#badge")).to_have_text("Live")
        assert await badges_of(page) == ["Live", "Reconnecting", "Live", *(["Resynced", "Live"] if pruned else [])]
        await stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(outage.users[0]))
        await expect_stock(page, drop_id, 1, 3, 1)
        # The hold that ran out meanwhile is gone, too, and the keyboard is where it was.
        await expect(card_of(page, drop_id).get_by_role("button")).to_have_text(["Reserve"])
        await expect(card_of(page, drop_id).get_by_role("button")).to_be_focused()


async def test_sale_that_was_missed(stage: Stage, outage: Outage) -> None:
    """Is told late, and when it was."""
    async with outage.server():
        page = await outage.visitor.open(outage.context)
        await expect_stock(page, outage.drop_id, 5, 0, 0)
    await outage.make_changes()
    sold_at: datetime = await stage.owner.fetchval(
        "select created_at from inventory.purchases where drop_id = $1", UUID(outage.drop_id)
    )
    await outage.context.clock.fast_forward(30_000)
    async with outage.last_server():
        sale = page.locator("#news li", has_text="was bought by")
        shown = datetime.fromisoformat(await sale.locator("time").get_attribute("datetime") or "")
        assert abs(shown - sold_at).total_seconds() < 0.001


async def test_server_that_answers_503(outage: Outage) -> None:
    """Killed, and then somebody else says when to come again: the page does so, no sooner, and then all is right."""
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 300\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if b"/api/events" in request:
            refused.set()

    async with outage.server():
        page = await outage.visitor.open(outage.context)
        await expect_stock(page, outage.drop_id, 5, 0, 0)
    server = await asyncio.start_server(refuse, "127.0.0.1", outage.port)
    await asyncio.wait_for(refused.wait(), 10)
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
    """No heartbeat comes any more, and nobody ends the connection: the page does, and learns what it could not before."""
    await outage.context.route("**/dashboard/settings.json", lambda route: route.abort())
    async with outage.last_server() as service:
        page = await outage.visitor.open(outage.context)
        await expect_stock(page, outage.drop_id, 5, 0, 0)
        await expect(page.locator("#tools")).to_be_hidden()
        os.kill(service.process.pid, signal.SIGSTOP)
        await outage.make_changes()
        await outage.context.clock.fast_forward(30_000)
        assert await badges_of(page) == ["Live"]  # a heartbeat may be late
        await outage.context.clock.fast_forward(15_000)
        await expect(page.locator("#badge")).to_have_text("Reconnecting")
        await outage.context.unroute("**/dashboard/settings.json")
        os.kill(service.process.pid, signal.SIGCONT)
        await expect(page.locator("#badge")).to_have_text("Live")
        await expect_stock(page, outage.drop_id, 2, 2, 1)
        await press(page, outage.drop_id, "Reserve")
        await expect_stock(page, outage.drop_id, 1, 3, 1)
        await expect(page.locator("#tools")).to_be_visible()


# Listens as the page does, and stumbles over the first event that tells of a sale.
STUMBLE = """async () => {
  const { listen } = await import("/dashboard/stream.js");
  window.heard = [];
  listen((type) => {
    window.heard.push(type);
    if (type === "STOCK_UPDATED") throw new Error("stumbled");
  }, (connection) => window.heard.push(connection));
}"""


async def test_mistake_of_the_page(stage: Stage, browser: Browser) -> None:
    """An event it cannot digest is an error in the console, and no reason to connect anew: the next ones are heard."""
    seller = await make_user(stage.owner)
    drop_id = (await make_drop(stage.http, seller))["id"]
    async with visiting(browser, stage.url) as visitor:
        page = await visitor.open()
        await page.evaluate(f"({STUMBLE})(), null")
        await eventually(lambda: page.evaluate("window.heard?.includes('SNAPSHOT')"))
        await buy(stage, drop_id, seller)
        await eventually(lambda: page.evaluate("window.heard.includes('ACTIVITY_UPDATED')"))
        heard = await page.evaluate("window.heard")
        assert heard == ["live", "SNAPSHOT", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"]
        assert len(visitor.problems) == 1
        assert "stumbled" in visitor.problems.pop()
