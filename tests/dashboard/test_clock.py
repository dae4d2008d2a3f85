"""What the dashboard changes by the clock, without an event: drops begin, end, move and leave, holds expire, charts go on."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import Visitor, visiting
from tests.support.dashboard import expect_outcome, expect_stock, feed_of, press, row_of, set_clock, update_drop
from tests.support.factories import make_drop, make_user, reserve
from tests.support.streams import Api, serving


@pytest.mark.slow
async def test_order(api: Api, visitor: Visitor) -> None:
    """Drops on sale or soon on sale come first and do not move when they begin; the focus stays with its card."""
    seller = await make_user(api.owner)
    minutes = {"Old": -60, "New": -1, "Soon": 0.9, "Next": 30, "Later": 60, "Over": -2}
    ids = {}
    for name, starts_in in minutes.items():
        starts_at = (datetime.now(UTC) + timedelta(minutes=starts_in)).isoformat()
        ids[name] = (await make_drop(api.http, seller, name=name, starts_at=starts_at))["id"]
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)
    await expect(page.locator(".row")).to_have_count(6)
    await update_drop(api, ids["Over"], status="ended")
    order = ["Soon", "New", "Old", "Next", "Later", "Over"]
    await expect(page.locator(".row .name")).to_have_text(order)
    button = row_of(page, ids["New"]).get_by_role("button", name="Reserve")
    await button.focus()
    await context.clock.fast_forward(55_000)
    await expect(row_of(page, ids["Soon"]).locator(".status")).to_have_text("Live")
    assert await page.locator(".row .name").all_inner_texts() == order
    await update_drop(api, ids["Later"], starts_at=(datetime.now(UTC) + timedelta(minutes=20)).isoformat())
    await expect(page.locator(".row .name")).to_have_text(["Soon", "New", "Old", "Later", "Next", "Over"])
    await update_drop(api, ids["New"], status="ended")
    await expect(page.locator(".row .name")).to_have_text(["Soon", "Old", "Later", "Next", "New", "Over"])
    await expect(button).to_be_disabled()
    await expect(button).to_be_focused()


@pytest.mark.slow
async def test_over(api: Api, visitor: Visitor) -> None:
    """A drop that has ended is shown for five more minutes. Without a drop the page says so."""
    seller = await make_user(api.owner)
    ends_at = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    drops = [
        (await make_drop(api.http, seller, name=name, ends_at=ends))["id"] for name, ends in (("First", None), ("Last", ends_at))
    ]
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)
    await expect(page.locator(".row .name")).to_have_text(["Last", "First"])
    await update_drop(api, drops[0], status="cancelled")
    await expect(row_of(page, drops[0]).locator(".status")).to_have_text("Cancelled")
    await context.clock.run_for(1000)  # the page notices it once a second
    await context.clock.fast_forward(4 * 60_000)
    await expect(row_of(page, drops[1]).locator(".status")).to_have_text("Ended")
    await expect(page.locator(".row")).to_have_count(2)
    await context.clock.run_for(1000)
    await context.clock.fast_forward(60_000)
    await expect(page.locator(".row .name")).to_have_text(["Last"])
    await context.clock.fast_forward(4 * 60_000)
    await expect(page.locator(".row")).to_have_count(0)
    await expect(page.get_by_text("No drops yet")).to_be_visible()


@pytest.mark.slow
async def test_chart(api: Api, visitor: Visitor) -> None:
    """The chart has the stock since the page knows the drop. Pointer and arrow keys show the figures of a moment."""
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller, total_stock=4))["id"]
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context, path=f"/drops/{drop_id}")
    chart, tip = page.locator("#chart"), page.locator(".tip")
    await expect(chart).to_have_attribute("aria-label", re.compile(r"^Stock since .*: 0 sold, 0 held, 4 left now\."))
    await context.clock.fast_forward(60_000)
    await reserve(api.http, drop_id, seller)
    await expect(page.locator("#drop-held")).to_have_text("1")
    await context.clock.fast_forward(60_000)
    await expect(chart).to_have_attribute("aria-label", re.compile("0 sold, 1 held, 3 left now"))
    line = await chart.locator(".total-line").get_attribute("d")
    assert line is not None
    assert line.count("H") == 1  # the total did not change
    await chart.focus()
    await page.keyboard.press("ArrowLeft")
    await expect(tip.locator("b")).to_have_text(["3", "1", "0"])
    for _ in range(5):
        await page.keyboard.press("ArrowLeft")
    await expect(tip.locator("b")).to_have_text(["4", "0", "0"])
    await expect(chart).to_have_attribute("aria-label", re.compile("0 sold, 0 held, 4 left$"))
    await page.keyboard.press("Escape")
    await expect(tip).to_be_hidden()
    await chart.hover(position={"x": 60, "y": 100})
    await expect(tip.locator("b")).to_have_text(["4", "0", "0"])


@pytest.mark.slow
async def test_clock(api: Api, visitor: Visitor) -> None:
    """A drop turns live at starts_at and ended at ends_at without an event, even if the browser's clock is wrong."""
    seller = await make_user(api.owner)
    fast = await visitor.context()
    await fast.clock.install(time=datetime.now(UTC) + timedelta(hours=1))
    pages = [await visitor.open(), await visitor.open(fast)]
    moment = datetime.now(UTC) + timedelta(seconds=20)
    coming = (await make_drop(api.http, seller, name="Coming", starts_at=moment.isoformat()))["id"]
    going = (await make_drop(api.http, seller, name="Going", ends_at=moment.isoformat()))["id"]
    for page in pages:
        await expect(row_of(page, coming).locator(".status")).to_have_text("Scheduled")
        await expect(row_of(page, coming).locator(".countdown")).to_have_text(re.compile(r"^opens in 0:[012]\d$"))
        await expect(row_of(page, coming).get_by_role("button")).to_have_count(0)
        await expect(row_of(page, going).locator(".status")).to_have_text("Live")
        await expect(row_of(page, going).locator(".countdown")).to_have_text(re.compile(r"^0:[012]\d to go$"))
        await expect(row_of(page, going).get_by_role("button", name="Reserve")).to_be_enabled()
    assert datetime.now(UTC) < moment

    async def watch(page: Page) -> None:
        await row_of(page, coming).locator(".status", has_text="Live").wait_for()
        assert moment <= datetime.now(UTC) < moment + timedelta(seconds=20)
        await expect(row_of(page, coming).get_by_role("button", name="Reserve")).to_be_enabled()
        await expect(row_of(page, coming).locator(".countdown")).to_have_text("until sold out")
        await expect(row_of(page, going).locator(".status")).to_have_text("Ended")
        await expect(row_of(page, going).get_by_role("button")).to_have_count(0)

    await asyncio.gather(*map(watch, pages))
    statuses = await api.owner.fetch(
        "select status from inventory.drops where id = any ($1) order by name", [UUID(coming), UUID(going)]
    )
    assert [row["status"] for row in statuses] == ["scheduled", "live"]
    await press(pages[0], coming, "Reserve")
    for page in pages:
        await expect_stock(page, coming, 4, 1, 0)
    await api.owner.fetch("select id from api.advance_drops()")
    await expect(feed_of(pages[0]).filter(has_text="Coming is live")).to_be_visible()
    await expect(feed_of(pages[0]).filter(has_text="Going has ended")).to_be_visible()


# Notes the stock and the button of a row, at each change.
NOTE_ROW = """(row) => {
  window.said = [];
  const note = () => window.said.push(`${row.querySelector(".bar").ariaLabel}, ${row.querySelector("button").textContent}`);
  new MutationObserver(note).observe(row, { attributes: true, childList: true, characterData: true, subtree: true });
}"""


@pytest.mark.slow
async def test_hold_runs_out(api: Api, browser: Browser, drop_id: str) -> None:
    """The seconds of a hold count down, the unit comes back, and the page says so and can reserve again."""
    impatience = {"RESERVATION_TTL_SECONDS": "9", "EXPIRY_POLL_MS": "50"}
    async with serving(api.database_url, **impatience) as brief, visiting(browser, brief.url) as visitor:
        page = await visitor.open()
        row = row_of(page, drop_id)
        await row.evaluate(NOTE_ROW)
        await press(page, drop_id, "Reserve")
        await expect_outcome(page, "Time ran out, so Air One went back. Nothing was paid.")
        await expect_stock(page, drop_id, 5, 0, 0)
        await expect(row.get_by_role("button")).to_have_text(["Reserve"])
        counted_down = {f"0 sold, 1 held, 4 left of 5, Pay 0:0{seconds}" for seconds in range(1, 9)}
        assert len(counted_down & set(await page.evaluate("window.said"))) >= 2
