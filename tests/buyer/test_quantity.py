"""How many units the buyer takes, and more time to pay for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import OUTAGE, REFUSED, Visitor
from tests.support.buyer_page import SIZES, button, choose, expect_said, in_time, open_drop, press
from tests.support.dashboard import without_worker
from tests.support.factories import change, make_drop, make_user, purchase, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api

pytestmark = pytest.mark.slow

YOURS = "They\u2019re yours."


@asynccontextmanager
async def page_without_events(visitor: Visitor, drop: Row) -> AsyncIterator[Page]:
    """The page of a drop, to which no event comes."""
    visitor.expected = OUTAGE
    context = await visitor.context()
    await without_worker(context)
    await context.route("**/api/events**", lambda route: route.abort())
    page = await context.new_page()
    await page.goto(f"/d/{drop['id']}")
    yield page


async def expect_units(page: Page, units: int, hint: str) -> None:
    """The page shows that the buyer would take so many, and why no more."""
    field = page.get_by_role("spinbutton", name="How many")
    await expect(field).to_have_value(str(units))
    await expect(page.locator("#quantity-hint")).to_have_text(hint)


async def test_how_many(api: Api, visitor: Visitor, seller: str) -> None:
    """Buttons and the keyboard choose, up to the limit; what is held, paid and bought is that many."""
    drop = await make_drop(api.http, seller, price=180, total_stock=None, variants=SIZES, limit_per_user=4)
    page = await open_drop(visitor, drop)
    await choose(page, "9")
    await expect_units(page, 1, "Up to 4 for each buyer")
    await expect(button(page, "One less")).to_have_attribute("aria-disabled", "true")
    await button(page, "One more").click(force=True)
    await expect_said(page, "2. Up to 4 for each buyer")
    await expect(page.locator("#note")).to_have_text("$360.00 in all, held for you for 1 hour.")
    field = page.get_by_role("spinbutton", name="How many")
    await expect(field).to_have_accessible_description("Up to 4 for each buyer")
    await field.fill("99")
    await expect_units(page, 4, "Up to 4 for each buyer")
    await expect(button(page, "One more")).to_have_attribute("aria-disabled", "true")
    await button(page, "One more").click(force=True)
    await expect_units(page, 4, "Up to 4 for each buyer")
    await field.press("ArrowDown")
    await field.fill("")
    await expect(button(page, "Reserve 3 \u00d7 size 9")).to_be_visible()
    await field.blur()
    await expect_units(page, 3, "Up to 4 for each buyer")
    await press(page, "Reserve 3 \u00d7 size 9")
    await expect(page.locator("#panel-title")).to_have_text("3 \u00d7 size 9 are held for you")
    await expect_said(page, "3 \u00d7 size 9 are held for you.")
    await expect(page.locator("#quantity")).to_be_hidden()
    await expect(page.locator("#receipt")).to_have_text("Size 9$180.00Units3Total$540.00")
    await press(page, "Pay $540.00")
    await expect(page.locator("#panel-title")).to_have_text(YOURS)
    await press(page, "Reserve another")
    await expect(page.locator("#quantity")).to_be_hidden()  # one more is all that the buyer may have
    await press(page, "Reserve size 9")
    await press(page, "Let it go")
    assert await api.owner.fetchval("select sum(qty) from inventory.purchases where drop_id = $1", UUID(drop["id"])) == 3


async def test_as_many_as_are_left(api: Api, visitor: Visitor, seller: str) -> None:
    """Without a limit the stock of the size is the bound; it is told when it is reached, and when others take some."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    page = await open_drop(visitor, drop)
    await choose(page, "8.5")
    await button(page, "One more").click()
    await expect_units(page, 2, "2 are left of size 8.5")
    await choose(page, "8")
    await expect_units(page, 1, "1 is left of size 8")
    await choose(page, "8.5")
    await expect_units(page, 2, "2 are left of size 8.5")
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][1]["id"]})
    await expect_units(page, 1, "1 is left of size 8.5")
    await expect(page.locator("#answer")).to_have_text("Only 1 can be reserved now.")
    await expect_said(page, "Only 1 can be reserved now.")


async def test_one_for_each_buyer(api: Api, visitor: Visitor, seller: str) -> None:
    """Where a buyer may have one, there is nothing to choose."""
    for terms in ({"limit_per_user": 1, "total_stock": 5}, {"total_stock": 1}):
        page = await open_drop(visitor, await make_drop(api.http, seller, **terms))
        await expect(button(page, "Reserve")).to_be_visible()
        await expect(page.locator("#quantity")).to_be_hidden()


async def test_others_were_faster(api: Api, visitor: Visitor, seller: str) -> None:
    """A refused request for several says how many are left."""
    drop = await make_drop(api.http, seller, total_stock=3)
    async with page_without_events(visitor, drop) as page:
        await page.get_by_label("How many").fill("3")
        await reserve(api.http, drop["id"], await make_user(api.owner), {"qty": 2})
        await press(page, "Reserve 3")
        await expect(page.locator("#answer")).to_have_text("Somebody was faster. Only 1 left of what you asked for.")


async def test_the_limit_is_reached_elsewhere(api: Api, visitor: Visitor, seller: str) -> None:
    """What the buyer bought on another device counts. The refusal says so, and then the page shows what was bought."""
    visitor.expected = REFUSED
    drop = await make_drop(api.http, seller, total_stock=9, limit_per_user=2)
    page = await open_drop(visitor, drop)
    await press(page, "Reserve")
    await press(page, "Let it go")
    guest = await page.evaluate("localStorage.getItem('lastpair.buyer')")
    await button(page, "One more").click()
    await reserve(api.http, drop["id"], guest)
    await purchase(api.http, drop["id"], guest)
    await press(page, "Reserve 2")
    await expect(page.locator("#answer")).to_have_text("You may have 2 of this drop, and you hold or have bought 1.")
    await expect(page.locator("#pill")).to_have_text("Yours")


async def test_more_time(api: Api, visitor: Visitor, seller: str) -> None:
    """A hold can be prolonged once. Afterwards the button is gone, also after a reload, and the clock runs on."""
    drop = await make_drop(api.http, seller, total_stock=5, hold_seconds=3600, extension_seconds=7200)
    page = await open_drop(visitor, drop)
    await expect(page.locator("#facts")).to_contain_text("2 hours more, once")
    await press(page, "Reserve")
    await expect(page.locator("#ring text")).to_contain_text(":")
    await press(page, "Add 2 hours")
    await expect(button(page, "Add 2 hours")).to_be_hidden()
    await expect(page.get_by_role("status")).to_contain_text("You have until")
    await expect(page.locator("#ring text")).to_have_text("3 h")
    await expect(button(page, "Pay $199.90")).to_be_focused()
    await page.reload()
    await expect(page.locator("#ring text")).to_have_text("3 h")
    await expect(button(page, "Add 2 hours")).to_be_hidden()


async def test_no_more_time(api: Api, visitor: Visitor, seller: str) -> None:
    """The button comes and goes with the terms of the drop. A refusal that comes in between is told."""
    drop = await make_drop(api.http, seller, total_stock=5, hold_seconds=600, ends_at=in_time(hours=3))
    page = await open_drop(visitor, drop)
    await press(page, "Reserve")
    await expect(page.locator("#pill")).to_have_text("Held for you")
    await expect(page.locator("#longer")).to_be_hidden()
    await change(api.http, drop, extension_seconds=90)
    await expect(button(page, "Add 90 seconds")).to_be_visible()
    await change(api.http, drop, extension_seconds=None)
    await expect(page.locator("#longer")).to_be_hidden()
    drop = await make_drop(api.http, seller, total_stock=5, hold_seconds=600, extension_seconds=60)
    async with page_without_events(visitor, drop) as page:
        await press(page, "Reserve")
        await expect(button(page, "Add 1 minute")).to_be_visible()
        await change(api.http, drop, extension_seconds=None)
        await press(page, "Add 1 minute")
        await expect(page.locator("#answer")).to_have_text("Holds of this drop cannot be extended.")
