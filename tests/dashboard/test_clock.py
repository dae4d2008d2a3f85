"""What the dashboard changes by the clock, without an event: drops begin, end, move and leave, holds expire, charts go on."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import Visitor, visiting
from tests.support.dashboard import card_of, expect_answer, expect_stock, news_of, press, set_clock, update_drop
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
    await expect(page.locator(".card")).to_have_count(6)
    await update_drop(api, ids["Over"], status="ended")
    order = ["Soon", "New", "Old", "Next", "Later", "Over"]
    await expect(page.locator(".card .name")).to_have_text(order)
    button = card_of(page, ids["New"]).get_by_role("button", name="Reserve")
    await button.focus()
    await context.clock.fast_forward(55_000)
    await expect(card_of(page, ids["Soon"]).locator(".status")).to_have_text("live")
    assert await page.locator(".card .name").all_inner_texts() == order
    await update_drop(api, ids["Later"], starts_at=(datetime.now(UTC) + timedelta(minutes=20)).isoformat())
    await expect(page.locator(".card .name")).to_have_text(["Soon", "New", "Old", "Later", "Next", "Over"])
    await update_drop(api, ids["New"], status="ended")
    await expect(page.locator(".card .name")).to_have_text(["Soon", "Old", "Later", "Next", "New", "Over"])
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
    await expect(page.locator(".card .name")).to_have_text(["Last", "First"])
    await update_drop(api, drops[0], status="cancelled")
    await expect(card_of(page, drops[0]).locator(".status")).to_have_text("cancelled")
    await context.clock.run_for(1000)  # the page notices it once a second
    await context.clock.fast_forward(4 * 60_000)
    await expect(card_of(page, drops[1]).locator(".status")).to_have_text("ended")
    await expect(page.locator(".card")).to_have_count(2)
    await context.clock.run_for(1000)
    await context.clock.fast_forward(60_000)
    await expect(page.locator(".card .name")).to_have_text(["Last"])
    await context.clock.fast_forward(4 * 60_000)
    await expect(page.locator(".card")).to_have_count(0)
    await expect(page.get_by_text("There are no drops yet.")).to_be_visible()


@pytest.mark.slow
async def test_chart(api: Api, visitor: Visitor) -> None:
    """The chart has the units left since the page knows the drop; its scale says how long that is, at most five minutes."""
    seller = await make_user(api.owner)
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)
    drop_id = (await make_drop(api.http, seller, total_stock=4))["id"]
    await reserve(api.http, drop_id, seller)
    await expect_stock(page, drop_id, 3, 1, 0)
    chart, scale = card_of(page, drop_id).locator(".chart"), card_of(page, drop_id).locator(".ago")
    await expect(scale).to_have_text("10 s ago")
    await expect(chart).to_have_attribute("aria-label", "Units left over the last 10 s: 4 at first, 3 now")
    # The height is 48 with a margin of 2 above and below, so 4 of 4 are at 2 and 3 of 4 at 13.
    await expect(chart.locator(".line")).to_have_attribute("d", re.compile(r"^M\d+ 2\.0H\d+V13\.0H300$"))
    await context.clock.fast_forward(60_000)
    await expect(scale).to_have_text(re.compile(r"^1 min \d s ago$"))
    await expect(chart.locator(".line")).to_have_attribute("d", re.compile(r"^M0 2\.0H\d+V13\.0H300$"))
    await context.clock.fast_forward(300_000)
    await expect(scale).to_have_text("5 min 0 s ago")


@pytest.mark.slow
async def test_clock(api: Api, visitor: Visitor) -> None:
    """A drop turns live at starts_at and ended at ends_at without an event, even if the browser's clock is wrong."""
    seller = await make_user(api.owner)
    fast = await visitor.context()
    await fast.clock.install(time=datetime.now(UTC) + timedelta(hours=1))
    pages = [await visitor.open(), await visitor.open(fast)]
    moment = datetime.now(UTC) + timedelta(seconds=6)
    coming = (await make_drop(api.http, seller, name="Coming", starts_at=moment.isoformat()))["id"]
    going = (await make_drop(api.http, seller, name="Going", ends_at=moment.isoformat()))["id"]
    for page in pages:
        await expect(card_of(page, coming).locator(".status")).to_have_text("scheduled")
        await expect(card_of(page, coming).locator(".countdown")).to_have_text(re.compile("^starts in [1-6] s$"))
        await expect(card_of(page, coming).get_by_role("button", name="Reserve")).to_be_disabled()
        await expect(card_of(page, going).locator(".status")).to_have_text("live")
        await expect(card_of(page, going).locator(".countdown")).to_have_text(re.compile("^ends in [1-6] s$"))
        await expect(card_of(page, going).get_by_role("button", name="Reserve")).to_be_enabled()
    assert datetime.now(UTC) < moment

    async def watch(page: Page) -> None:
        await card_of(page, coming).locator(".status", has_text="live").wait_for()
        assert moment <= datetime.now(UTC) < moment + timedelta(seconds=6)
        await expect(card_of(page, coming).get_by_role("button", name="Reserve")).to_be_enabled()
        await expect(card_of(page, coming).locator(".countdown")).to_have_text("")
        await expect(card_of(page, going).locator(".status")).to_have_text("ended")
        await expect(card_of(page, going).get_by_role("button", name="Reserve")).to_be_disabled()

    await asyncio.gather(*map(watch, pages))
    statuses = await api.owner.fetch("select status from inventory.drops where id = any ($1)", [UUID(coming), UUID(going)])
    assert [row["status"] for row in statuses] == ["scheduled", "live"]
    await press(pages[0], coming, "Reserve")
    for page in pages:
        await expect_stock(page, coming, 4, 1, 0)
    await api.owner.fetch("select id from api.advance_drops()")
    await expect(news_of(pages[0]).filter(has_text="Coming is live")).to_be_visible()
    await expect(news_of(pages[0]).filter(has_text="Going has ended")).to_be_visible()


# Notes the stock and the hold that a card shows, at each change.
NOTE_CARD = """(card) => {
  window.said = [];
  const note = () => window.said.push(`${card.querySelector(".bar").ariaLabel}, ${card.querySelector(".hold").textContent}`);
  new MutationObserver(note).observe(card, { attributes: true, childList: true, characterData: true, subtree: true });
}"""


@pytest.mark.slow
async def test_hold_runs_out(api: Api, browser: Browser, drop_id: str) -> None:
    """The seconds of a hold count down, the unit comes back, and the card says so and can be reserved again."""
    impatience = {"RESERVATION_TTL_SECONDS": "4", "EXPIRY_POLL_MS": "50"}
    async with serving(api.database_url, **impatience) as brief, visiting(browser, brief.url) as visitor:
        page = await visitor.open()
        card = card_of(page, drop_id)
        await card.evaluate(NOTE_CARD)
        await press(page, drop_id, "Reserve")
        await expect_answer(page, drop_id, "Your hold ran out, and the unit went back.")
        await expect_stock(page, drop_id, 5, 0, 0)
        await expect(card.locator(".hold")).to_have_text("")
        await expect(card.get_by_role("button")).to_have_text(["Reserve"])
        counted_down = {f"4 left, 1 held, 0 sold of 5, held for {seconds} s, $199.90" for seconds in (1, 2, 3)}
        assert len(counted_down & set(await page.evaluate("window.said"))) >= 2
