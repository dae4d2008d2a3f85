"""Lost connections, hidden tabs, other tabs, answers that never came, and wrong clocks."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.support.browser import OUTAGE, Visitor, visiting
from tests.support.buyer_page import BOUGHT, SIZES, button, expect_said, hold_size, in_time, open_drop, press
from tests.support.dashboard import started_at, without_worker
from tests.support.factories import make_drop, make_user, reserve
from tests.support.servers import free_port
from tests.support.streams import Api
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

HIDDEN_MS = 11_000
"""Longer than a page may be hidden before it ends its stream."""

ATTEMPTS = 4
"""How often the page sends a request before it tells the buyer that there is no answer."""


async def set_hidden(page: Page, is_hidden: bool) -> None:
    """Hide the page, as when another tab is chosen, or show it again. Headless pages are always seen."""
    await page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        is_hidden,
    )


async def test_the_server_restarts(api: Api, browser: Browser, seller: str) -> None:
    """A lost connection is told and spoken; afterwards the page is right without a reload, and so is the hold."""
    port = free_port()
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES, hold_seconds=600)
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        with started_at(port, api.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            page = await open_drop(visitor, drop)
            await hold_size(page, "9")
            await visitor_stops(service)
            await expect(page.locator("#connection")).to_have_text("Connection lost, trying again")
            await expect_said(page, "Connection lost. What you see may be old.")
            await press(page, "Pay $199.90")
            await expect(page.locator("#answer")).to_have_text("The shop cannot be reached. Try again: nothing is done twice.")
            await expect(page.locator("#pill")).to_have_text("Held for you")
        with started_at(port, api.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            await expect(page.locator("#connection")).to_have_text("Live")
            await expect_said(page, "Connected again.")
            await expect(page.locator("#answer")).to_be_hidden()  # it said that the shop cannot be reached
            await press(page, "Pay $199.90")
            await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
            await visitor.close()
            await asyncio.to_thread(service.stop)


async def visitor_stops(service: object) -> None:
    """Stop the service."""
    await asyncio.to_thread(service.stop)  # type: ignore[attr-defined]


async def test_a_hidden_page(api: Api, visitor: Visitor, seller: str) -> None:
    """Hidden for ten seconds it ends its stream, and goes on from its last event when it is seen again."""
    drop = await make_drop(api.http, seller, total_stock=5)
    context = await visitor.context()
    await without_worker(context)
    await context.clock.install()
    page = await open_drop(visitor, drop, context)
    assert len([url for url in visitor.requests if "/api/events" in url]) == 1
    await set_hidden(page, True)
    async with page.expect_event("requestfailed", lambda request: "/api/events" in request.url):
        await context.clock.run_for(HIDDEN_MS)
    await reserve(api.http, drop["id"], await make_user(api.owner))
    await expect(page.locator("#stock-left")).to_have_text("5")
    async with page.expect_request("**/api/events**") as request:
        await set_hidden(page, False)
    assert re.search(r"&lastEventId=\d+$", (await request.value).url)
    await context.clock.run_for(1000)
    await expect(page.locator("#stock-left")).to_have_text("4")
    await expect(page.locator("#connection")).to_have_text("Live")


async def test_two_tabs_agree(api: Api, visitor: Visitor, seller: str) -> None:
    """What is done in one tab shows in the other: held, let go, bought."""
    drop = await make_drop(api.http, seller, price=5, total_stock=None, variants=SIZES)
    context = await visitor.context()
    one, two = [await open_drop(visitor, drop, context) for _ in range(2)]
    await hold_size(one, "9")
    await expect(two.locator("#panel-title")).to_have_text("Size 9 is held for you")
    await press(two, "Let it go")
    await expect(button(one, "Choose a size").or_(button(one, "Reserve size 9"))).to_be_visible()
    await hold_size(two, "10")
    await press(one, "Pay $5.00")
    for page in (one, two):
        await expect(page.locator("#panel-title")).to_have_text(BOUGHT)


@pytest.mark.parametrize("lost", [1, ATTEMPTS], ids=["once", "each time"])
async def test_an_answer_that_never_came(api: Api, visitor: Visitor, seller: str, lost: int) -> None:
    """A reserve whose answer is lost is repeated with its key, by the page and then by the buyer, so one unit is held."""
    visitor.expected = OUTAGE
    drop = await make_drop(api.http, seller, total_stock=5)
    page = await open_drop(visitor, drop)
    keys: list[str] = []

    async def lose_some(route: Route) -> None:
        keys.append((await route.request.all_headers())["idempotency-key"])
        response = await route.fetch()
        await (route.abort() if len(keys) <= lost else route.fulfill(response=response))

    await page.route("**/reserve", lose_some)
    await page.route("**/reservations/me**", lambda route: route.abort())  # else the page finds the hold by itself
    await press(page, "Reserve")
    if lost == ATTEMPTS:
        await expect(page.locator("#answer")).to_have_text("The shop cannot be reached. Try again: nothing is done twice.")
        await press(page, "Reserve")
    await expect(page.locator("#pill")).to_have_text("Held for you")
    assert keys == [keys[0]] * (lost + 1)
    assert await api.owner.fetchval("select count(*) from inventory.reservations where drop_id = $1", UUID(drop["id"])) == 1


async def test_an_answer_that_takes_long(api: Api, visitor: Visitor, seller: str) -> None:
    """The page says that it still tries, and takes that back when the answer comes."""
    page = await open_drop(visitor, await make_drop(api.http, seller, total_stock=5))
    may_go = asyncio.Event()

    async def wait(route: Route) -> None:
        await may_go.wait()
        await route.continue_()

    await page.route("**/reserve", wait)
    await press(page, "Reserve")
    await expect(page.locator("#answer")).to_have_text("This takes longer than usual. We keep trying, and nothing is done twice.")
    await expect(button(page, "Reserve")).to_have_attribute("aria-disabled", "true")
    may_go.set()
    await expect(page.locator("#pill")).to_have_text("Held for you")
    await expect(page.locator("#answer")).to_be_hidden()


async def test_tabs_share_a_stream(api: Api, visitor: Visitor, seller: str) -> None:
    """All tabs of a drop have one stream, so that they leave connections for requests."""
    drop = await make_drop(api.http, seller, total_stock=5)
    context = await visitor.context()
    pages = [await open_drop(visitor, drop, context) for _ in range(8)]

    async def has_one_stream() -> bool:
        return 'lastpair_streams{transport="sse"} 1.0' in (await api.http.get(f"{api.url}/metrics")).text

    await eventually(has_one_stream)
    await reserve(api.http, drop["id"], await make_user(api.owner))
    for page in pages:
        await expect(page.locator("#stock-left")).to_have_text("4")
    await press(pages[-1], "Reserve")
    for page in pages:
        await expect(page.locator("#pill")).to_have_text("Held for you")


async def test_a_refund(api: Api, visitor: Visitor, seller: str) -> None:
    """What the seller refunds is the buyer's no more."""
    drop = await make_drop(api.http, seller, price=5, total_stock=5)
    page = await open_drop(visitor, drop)
    await press(page, "Reserve")
    await press(page, "Pay $5.00")
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
    sale = await api.owner.fetchval("select id from inventory.purchases where drop_id = $1", UUID(drop["id"]))
    await api.owner.fetchval("select id from api.refund_purchase($1)", sale)
    await expect(page.locator("#pill")).to_have_text("On sale")


async def test_a_double_click(api: Api, visitor: Visitor, seller: str) -> None:
    """It reserves, and does not pay."""
    page = await open_drop(visitor, await make_drop(api.http, seller, price=5, total_stock=5))
    await page.wait_for_timeout(600)
    await button(page, "Reserve").dblclick()
    await expect(page.locator("#pill")).to_have_text("Held for you")
    await page.wait_for_timeout(700)
    await expect(page.locator("#pill")).to_have_text("Held for you")


@pytest.mark.parametrize("hours", [-30, 30])
async def test_a_wrong_clock(api: Api, visitor: Visitor, seller: str, hours: int) -> None:
    """Times run by the server's clock, whatever the device's says."""
    drop = await make_drop(api.http, seller, total_stock=5, ends_at=in_time(hours=3, minutes=30), hold_seconds=3 * 3600)
    context = await visitor.context()
    await context.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
    page = await open_drop(visitor, drop, context)
    await expect(page.locator("#ends")).to_contain_text("Ends in 3 h")
    await press(page, "Reserve")
    await expect(page.locator("#ring text")).to_have_text("3 h")
