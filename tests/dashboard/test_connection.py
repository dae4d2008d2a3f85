"""Lost connections: the badge says so, and then the page is right again by itself."""

import asyncio
import os
import signal
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import OUTAGE, Visitor, visiting
from tests.dashboard.acts import buy, card_of, expect_stock, press, started_at
from tests.helpers import eventually, make_drop, make_due, make_user
from tests.servers import free_port
from tests.streams import Stage


@dataclass
class Outage:
    """A page of a service that can be stopped and started again."""

    page: Page
    visitor: Visitor
    port: int
    drop_id: str
    users: list[str]

    async def badges(self) -> list[str]:
        """What the badge has said."""
        said: list[str] = await self.page.evaluate("window.badges")
        return said


async def make_changes(stage: Stage, outage: Outage) -> None:
    """What nobody tells the page: of five units one is sold and two are held then."""
    for user in outage.users[:3]:
        await stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(outage.drop_id), UUID(user))
    await stage.owner.fetchval("select id from api.purchase($1, $2)", UUID(outage.drop_id), UUID(outage.users[0]))


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True])
async def test_server_restarts(stage: Stage, browser: Browser, pruned: bool) -> None:
    """The badge says so, and then all is right without a reload: by what was missed, or by a SNAPSHOT where that is forgotten."""
    users = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, users[0]))["id"]
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        with started_at(port, stage.database_url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            page = await visitor.open(context)
            outage = Outage(page, visitor, port, drop_id, users)
            await press(page, drop_id, "Reserve")
            await expect_stock(page, drop_id, 4, 1, 0)
            await asyncio.to_thread(first.stop)
            await expect(page.locator("#badge")).to_have_text("Reconnecting")
        [mine] = await stage.owner.fetch("select id from inventory.reservations where drop_id = $1", UUID(drop_id))
        await make_due(stage.owner, str(mine["id"]))
        await stage.owner.fetch("select from api.expire_reservations()")
        await make_changes(stage, outage)
        if pruned:
            await stage.owner.fetchval("select api.prune_events(0)")
            assert await stage.owner.fetchval("select count(*) from inventory.events") == 1
        with started_at(port, stage.database_url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            await expect(page.locator("#badge")).to_have_text("Resynced" if pruned else "Live")
            await expect_stock(page, drop_id, 2, 2, 1)
            if pruned:
                await context.clock.fast_forward(5000)
                await expect(page.locator("#badge")).to_have_text("Live")
            assert await outage.badges() == ["Live", "Reconnecting", "Live", *(["Resynced", "Live"] if pruned else [])]
            await stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(users[0]))
            await expect_stock(page, drop_id, 1, 3, 1)
            if not pruned:  # the sale is told late, and when it was
                sold_at = await stage.owner.fetchval(
                    "select created_at from inventory.purchases where drop_id = $1", UUID(drop_id)
                )
                shown = page.locator("#feed li", has_text="was bought by").first.locator("time")
                assert datetime.fromisoformat(await shown.get_attribute("datetime") or "") == sold_at.replace(
                    microsecond=sold_at.microsecond // 1000 * 1000
                )
            # The hold that ran out meanwhile is gone, too, and the keyboard is where it was.
            await expect(card_of(page, drop_id).get_by_role("button")).to_have_text(["Reserve"])
            await expect(card_of(page, drop_id).get_by_role("button")).to_be_focused()
            assert visitor.requests.count(f"{visitor.url}/") == 1
            await visitor.close()
            await asyncio.to_thread(second.stop)


@pytest.mark.slow
async def test_server_that_answers_503(stage: Stage, browser: Browser) -> None:
    """Killed, and then somebody else says when to come again: the page does so, no sooner, and then all is right."""
    users = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, users[0]))["id"]
    port = free_port()
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 300\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if b"/api/events" in request:
            refused.set()

    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        with started_at(port, stage.database_url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            page = await visitor.open(context)
            outage = Outage(page, visitor, port, drop_id, users)
            await expect_stock(page, drop_id, 5, 0, 0)
        server = await asyncio.start_server(refuse, "127.0.0.1", port)
        await asyncio.wait_for(refused.wait(), 10)
        await expect(page.locator("#badge")).to_have_text("Reconnecting")
        server.close()
        await server.wait_closed()
        await make_changes(stage, outage)
        with started_at(port, stage.database_url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            requests = len(visitor.requests)
            await context.clock.fast_forward(200_000)
            assert await outage.badges() == ["Live", "Reconnecting"]
            assert len(visitor.requests) == requests
            await context.clock.fast_forward(100_000)
            await expect(page.locator("#badge")).to_have_text("Live")
            await expect_stock(page, drop_id, 2, 2, 1)
            assert await outage.badges() == ["Live", "Reconnecting", "Live"]
            assert visitor.requests.count(f"{visitor.url}/") == 1
            await visitor.close()
            await asyncio.to_thread(second.stop)


@pytest.mark.slow
async def test_silence(stage: Stage, browser: Browser) -> None:
    """No heartbeat comes any more, and nobody ends the connection: the page does. What it never learned it learns then."""
    users = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, users[0]))["id"]
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        await context.route("**/dashboard/settings.json", lambda route: route.abort(), times=1)
        with started_at(port, stage.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            page = await visitor.open(context)
            outage = Outage(page, visitor, port, drop_id, users)
            await expect_stock(page, drop_id, 5, 0, 0)
            await expect(page.locator("#tools")).to_be_hidden()
            os.kill(service.process.pid, signal.SIGSTOP)
            await make_changes(stage, outage)
            await context.clock.fast_forward(30_000)
            assert await outage.badges() == ["Live"]  # two heartbeats may be late
            await context.clock.fast_forward(15_000)
            await expect(page.locator("#badge")).to_have_text("Reconnecting")
            os.kill(service.process.pid, signal.SIGCONT)
            await expect(page.locator("#badge")).to_have_text("Live")
            await expect_stock(page, drop_id, 2, 2, 1)
            await press(page, drop_id, "Reserve")
            await expect_stock(page, drop_id, 1, 3, 1)
            await expect(page.locator("#tools")).to_be_visible()
            await visitor.close()
            await asyncio.to_thread(service.stop)


# Listens as the page does, and stumbles over the first event that tells of a sale.
STUMBLE = """async () => {
  const { listen } = await import("/dashboard/stream.js");
  window.heard = [];
  listen((type) => {
    window.heard.push(type);
    if (type === "STOCK_UPDATED") throw new Error("stumbled");
  }, (connection) => window.heard.push(connection));
}"""


@pytest.mark.slow
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
