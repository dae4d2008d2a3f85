"""The rush of the development tools: it sells exactly the stock, during outages too, and says how it went."""

import asyncio
import re
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from tests.support.browser import OUTAGE, Visitor, visiting
from tests.support.dashboard import card_of, expect_stock, newest_drop, started_at
from tests.support.factories import assert_healthy, make_user, reserve
from tests.support.servers import Service, free_port
from tests.support.streams import Api
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

# Notes the text and the progress bar of the rush at each change.
NOTE_PROGRESS = """() => {
  const progress = document.getElementById("rush-progress"), line = document.getElementById("rush-served");
  window.said = [];
  new MutationObserver(() => window.said.push([line.textContent, progress.value, progress.checkVisibility()]))
    .observe(line, { childList: true });
}"""


async def start_rush(page: Page, buyers: int, units: int) -> None:
    """Fill in the form and press Start."""
    form = page.locator("#rush-form")
    await page.evaluate(NOTE_PROGRESS)
    await form.locator("[name=buyers]").fill(str(buyers))
    await form.locator("[name=stock]").fill(str(units))
    await form.get_by_role("button", name="Start").click()


async def expect_end_of_rush(page: Page, text: str | re.Pattern[str], timeout_ms: float = 60_000) -> list[Any]:
    """The rush ends with this text and can be started again; returns what NOTE_PROGRESS has noted."""
    form = page.locator("#rush-form")
    await expect(form.get_by_role("button", name="Start")).to_be_enabled(timeout=timeout_ms)
    await expect(form.get_by_role("status")).to_have_text(text)
    await expect(page.locator("#rush-progress")).to_be_hidden()
    said: list[Any] = await page.evaluate("window.said")
    return said


async def assert_sold(api: Api, drop_id: UUID, units: int, of: int) -> None:
    """In the database this many units are sold, and none is held."""
    drop = await api.owner.fetchrow("select * from inventory.drops where id = $1", drop_id)
    assert drop is not None
    assert (drop["total_stock"], drop["available_stock"]) == (of, of - units)
    paid = "select count(distinct user_id) from inventory.purchases where drop_id = $1 and status = 'paid'"
    assert await api.owner.fetchval(paid, drop_id) == units
    assert await api.owner.fetchval("select count(*) from inventory.purchases where drop_id = $1", drop_id) == units
    assert await api.owner.fetchval("select feed ->> 'held_stock' from inventory.activity_feed($1)", drop_id) == "0"
    await assert_healthy(api.owner)


async def test_rush(api: Api, page: Page) -> None:
    """300 buyers want one of 20 units: exactly 20 are sold. The page shows the progress and then the result."""
    await start_rush(page, 300, 20)
    said = await expect_end_of_rush(page, "20 of 300 buyers got one, 280 found it sold out. Nothing was oversold: 20 sold of 20.")
    assert [re.sub(", .*", "", text) for text, _, _ in said] == [f"{n} of 300 buyers served" for n in range(1, 301)]
    assert said[-1][0] == "300 of 300 buyers served, 20 got one"
    assert [value for _, value, _ in said] == pytest.approx([n / 300 for n in range(1, 301)])
    assert all(is_shown for _, _, is_shown in said)
    drop = await newest_drop(api)
    await assert_sold(api, drop["id"], 20, 20)
    await expect_stock(page, drop["id"], 0, 0, 20)
    await expect(card_of(page, drop["id"]).locator(".status")).to_have_text("sold out")
    await expect(card_of(page, drop["id"]).locator(".purchasers li")).to_have_count(3)


async def test_rush_that_went_wrong(api: Api, visitor: Visitor) -> None:
    """The rush reports it if fewer units are gone than were bought."""

    async def tell_less(route: Route) -> None:
        answer = await (await route.fetch()).json()
        answer["data"]["drop"]["available_stock"] += 1
        await route.fulfill(json=answer)

    page = await visitor.open()
    await page.route(re.compile("/api/drops/[^/]+$"), tell_less)
    await start_rush(page, 5, 3)
    await expect_end_of_rush(
        page, "3 of 5 buyers got one, 2 found it sold out. Something is wrong, 2 units are gone: 3 sold of 3."
    )


async def test_rush_with_units_left(api: Api, page: Page) -> None:
    """With fewer buyers than units every buyer gets one. A rush can be repeated."""
    for buyers, text in ((5, "5 of 5 buyers got one"), (1, "1 of 1 buyers got one")):
        await start_rush(page, buyers, 30)
        await expect_end_of_rush(page, f"{text}. Nothing was oversold: {buyers} sold of 30.")
        drop = await newest_drop(api)
        await assert_sold(api, drop["id"], buyers, 30)
        await expect_stock(page, drop["id"], 30 - buyers, 0, buyers)


async def test_rush_with_another_user(api: Api, visitor: Visitor) -> None:
    """A unit that another user holds in the end is not reported as oversold."""
    stranger = await make_user(api.owner)
    page = await visitor.open()
    has_reserved = asyncio.Event()

    async def wait(route: Route) -> None:
        await has_reserved.wait()
        await route.continue_()

    await page.route("**/reserve", wait)
    await start_rush(page, 150, 100)

    async def has_begun() -> bool:
        return str((await newest_drop(api)).get("name")) == "Rush for 100"

    await eventually(has_begun)
    drop = await newest_drop(api)
    await reserve(api.http, str(drop["id"]), stranger)
    has_reserved.set()
    await expect_end_of_rush(page, re.compile("^99 of 150 buyers got one.* Nothing was oversold"))
    await expect_stock(page, drop["id"], 0, 1, 99)


async def run_clock_to_the_end(page: Page) -> None:
    """Move the page's clock until the rush is over."""

    async def has_ended() -> bool:
        await page.clock.run_for(1000)
        return await page.locator("#rush-form").get_by_role("button", name="Start").is_enabled()

    await eventually(has_ended, timeout_seconds=30)


async def test_rush_with_lost_answers(api: Api, visitor: Visitor) -> None:
    """A request whose answer was lost is not carried out twice and not taken for a refusal."""
    visitor.expected = OUTAGE
    lost: set[str] = set()

    async def lose_first(route: Route) -> None:
        answer, what = await route.fetch(), route.request.url.rpartition("/")[2]
        await (route.fulfill(response=answer) if what in lost else route.abort())
        lost.add(what)

    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    await page.route(re.compile("/(reserve|purchase)$"), lose_first)
    await start_rush(page, 3, 3)
    await run_clock_to_the_end(page)
    await expect_end_of_rush(page, "3 of 3 buyers got one. Nothing was oversold: 3 sold of 3.")
    await assert_sold(api, (await newest_drop(api))["id"], 3, 3)
    assert lost == {"reserve", "purchase"}


async def stop_at_the_fifth_purchase(context: BrowserContext, service: Service) -> asyncio.Event:
    """Stop the server when the fifth buyer is about to purchase; the event is set after that."""
    purchases, stopped = 0, asyncio.Event()

    async def count(route: Route) -> None:
        nonlocal purchases
        purchases += 1
        if purchases == 5:
            await asyncio.to_thread(service.stop)
            stopped.set()
        await route.continue_()

    await context.route("**/purchase", count)
    return stopped


async def test_rush_and_the_server_restarts(api: Api, browser: Browser) -> None:
    """The server restarts during a rush: the rush goes on and sells exactly the stock."""
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        with started_at(port, api.database_url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            page = await visitor.open(context)
            stopped = await stop_at_the_fifth_purchase(context, first)
            await start_rush(page, 40, 15)
            await asyncio.wait_for(stopped.wait(), 30)
        with started_at(port, api.database_url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            await expect_end_of_rush(page, "15 of 40 buyers got one, 25 found it sold out. Nothing was oversold: 15 sold of 15.")
            drop = await newest_drop(api)
            await assert_sold(api, drop["id"], 15, 15)
            await expect_stock(page, drop["id"], 0, 0, 15)
            await visitor.close()
            await asyncio.to_thread(second.stop)


async def test_rush_and_the_server_is_gone(api: Api, browser: Browser) -> None:
    """The server is stopped during a rush for good: the rush gives up and says so."""
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        with started_at(port, api.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            page = await visitor.open(context)
            stopped = await stop_at_the_fifth_purchase(context, service)
            await start_rush(page, 12, 12)
            await asyncio.wait_for(stopped.wait(), 10)
        await run_clock_to_the_end(page)
        await expect_end_of_rush(page, "The server cannot be reached. Try again in a moment.")
        await expect(page.locator("#rush-form .answer")).to_contain_class("refusal")
