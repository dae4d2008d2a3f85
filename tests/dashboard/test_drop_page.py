"""The page of a drop: its address, what its seller does, and the tables of holders, buyers and history."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import Visitor
from tests.support.dashboard import REFUND, buy, expect_outcome, make_named_user, open_drop, row_of, update_drop
from tests.support.factories import make_drop, make_user, read, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api

pytestmark = pytest.mark.slow

SIZES = [{"name": "41", "total_stock": 2}, {"name": "42", "total_stock": 3}]


@pytest.fixture
async def drop(api: Api) -> Row:
    """A live drop of five units."""
    return await make_drop(api.http, await make_named_user(api, f"seller {uuid4().hex[:8]}"))


async def open_page(visitor: Visitor, drop: Row) -> Page:
    """The page of the drop."""
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await expect(page.locator("#drop-body")).to_be_visible()
    return page


async def press(page: Page, button: str) -> None:
    """Press a button of the seller."""
    await page.locator("#seller-actions").get_by_role("button", name=button).click()


async def confirm(page: Page, button: str) -> None:
    """Press the button that ends a dialog; it closes."""
    await page.locator("#ask").get_by_role("button", name=button).click()
    await expect(page.locator("#ask")).to_be_hidden()


async def test_address(api: Api, visitor: Visitor, drop: Row) -> None:
    """A drop has an address: from the list, back, forward, after a reload, and typed."""
    page = await visitor.open()
    await open_drop(page, drop["id"])
    await expect(page).to_have_url(f"{api.url}/drops/{drop['id']}")
    await expect(page).to_have_title("Air One · Lastpair")
    await page.go_back()
    await expect(row_of(page, drop["id"])).to_be_visible()
    await page.go_forward()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Air One")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Air One")
    await page.goto(f"/drops/{uuid4()}")
    await expect(page.get_by_text("There is no such drop")).to_be_visible()


async def test_drops_that_no_event_has(api: Api, visitor: Visitor) -> None:
    """The pages of a draft and of a drop that is over are there, too; a draft can be started."""
    seller = await make_user(api.owner)
    over = await make_drop(api.http, seller, name="Over")
    await buy(api, over["id"], seller)
    await update_drop(api, over["id"], status="ended")
    draft = await make_drop(api.http, seller, name="Draft", starts_at=None)
    page = await open_page(visitor, over)
    await expect(page.locator("#drop-status")).to_have_text("Ended")
    await expect(page.locator("#drop-sold")).to_have_text("1")
    await expect(page.locator("#buy-note")).to_have_text("The sale has ended.")
    page = await open_page(visitor, draft)
    await expect(page.locator("#drop-status")).to_have_text("Draft")
    await expect(page.locator("#buy-note")).to_have_text("This is a draft. Only you see it.")
    await press(page, "Start now")
    await expect(page.locator("#drop-status")).to_have_text("Live")
    await expect_outcome(page, "Draft is live.")


async def test_edit(api: Api, visitor: Visitor, drop: Row) -> None:
    """Price, times and terms are changed, and nothing that was not touched; a refusal stays in the dialog."""
    page = await open_page(visitor, drop)
    await press(page, "Edit")
    dialog = page.locator("#ask")
    await dialog.get_by_label("Price, USD").fill("0.123")
    visitor.expected = r"Failed to load resource: the server responded with a status of 400 \(Bad Request\)"
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("status")).to_contain_class("refusal")
    await dialog.get_by_label("Price, USD").fill("150.5")
    ends_at = (datetime.now(UTC) + timedelta(days=2)).replace(second=0, microsecond=0)
    await dialog.get_by_label("Ends").fill(f"{ends_at.astimezone():%Y-%m-%dT%H:%M}")
    await dialog.get_by_label("Units a buyer may have").fill("2")
    await confirm(page, "Save")
    await expect_outcome(page, "Air One was changed.")
    await expect(page.locator("#drop-terms")).to_contain_text("$150.50 · 2 per buyer")
    now = await read(api.http, drop)
    changed = {name for name in drop if now[name] != drop[name]}
    assert changed == {"price", "ends_at", "limit_per_user", "revision", "updatedAt"}
    assert datetime.fromisoformat(now["ends_at"]) == ends_at
    await page.get_by_role("tab", name="History").click()
    await expect(page.locator("#table-body tr").first).to_contain_text("Price $199.90 → $150.50")
    await expect(page.locator("#table-body tr").first).to_contain_text("seller")


@pytest.mark.parametrize("sized", [False, True])
async def test_stock(api: Api, visitor: Visitor, sized: bool) -> None:
    """Units are added to a drop, or to one of its sizes."""
    fields = {"total_stock": None, "variants": SIZES} if sized else {}
    drop = await make_drop(api.http, await make_user(api.owner), **fields)
    page = await open_page(visitor, drop)
    await press(page, "Add stock")
    if sized:
        await page.locator("#ask").get_by_label("Size").select_option("42")
    await page.locator("#ask").get_by_label("Units").fill("7")
    await confirm(page, "Add")
    await expect_outcome(page, "Air One has 7 more.")
    await expect(page.locator("#drop-left")).to_have_text("12")
    if sized:
        await expect(page.locator(".size")).to_have_text(["412 left", "4210 left"])


async def test_pause_end_cancel(api: Api, visitor: Visitor, drop: Row) -> None:
    """Pause, resume, end and cancel, each by a button that is there when it makes sense; what cannot be taken back is asked."""
    buyer = await make_user(api.owner)
    await buy(api, drop["id"], buyer)
    page = await open_page(visitor, drop)
    buttons = page.locator("#seller-actions").get_by_role("button")
    await expect(buttons).to_have_text(["Edit", "Add stock", "Pause", "End now", "Cancel drop"])
    await press(page, "Pause")
    await expect(page.locator("#drop-status")).to_have_text("Paused")
    await expect_outcome(page, "Air One is paused. What is held can still be paid.")
    await press(page, "Resume")
    await expect(page.locator("#drop-status")).to_have_text("Live")
    await press(page, "End now")
    await page.locator("#ask").get_by_role("button", name="Close").click()
    await expect(page.locator("#drop-status")).to_have_text("Live")
    await press(page, "End now")
    await confirm(page, "End now")
    await expect(page.locator("#drop-status")).to_have_text("Ended")
    await expect(buttons).to_have_text(["Refund all"])
    await press(page, "Refund all")
    await confirm(page, "Refund all")
    await expect_outcome(page, "The sales of Air One are refunded.")
    await expect(page.locator("#drop-sold")).to_have_text("0")
    await expect(page.locator("#drop-status")).to_have_text("Ended")


async def test_cancel_with_refunds(api: Api, visitor: Visitor, drop: Row) -> None:
    """A drop that sells is cancelled, and its sales are refunded with it if the seller wants that."""
    await buy(api, drop["id"], await make_user(api.owner))
    page = await open_page(visitor, drop)
    await press(page, "Cancel drop")
    await page.get_by_label("Refund all that was sold").check()
    await confirm(page, "Cancel the drop")
    await expect_outcome(page, "Air One was cancelled, and its sales are refunded.")
    await expect(page.locator("#drop-sold")).to_have_text("0")
    await expect(page.locator("#drop-status")).to_have_text("Cancelled")


async def test_tables(api: Api, visitor: Visitor, drop: Row) -> None:
    """Holders with the time left, buyers with a refund, history; they follow what happens."""
    ann, bea = [await make_named_user(api, f"{name} {uuid4().hex[:8]}") for name in ("ann", "bea")]
    await buy(api, drop["id"], ann)
    page = await open_page(visitor, drop)
    rows = page.locator("#table-body tr")
    await expect(page.get_by_text("Nobody holds a unit now.")).to_be_visible()
    await reserve(api.http, drop["id"], bea)
    await expect(rows).to_have_text([re.compile(r"^bea .*1.*\d:\d\d [AP]M(1:00|0:\d\d)$")])
    await page.get_by_role("tab", name="Buyers").click()
    await expect(rows).to_have_text([re.compile(r"^ann .*\$199\.90Refund$")])
    await rows.get_by_role("button", name="Refund ann").click()
    await confirm(page, "Refund")
    await expect(rows).to_have_text([re.compile(r"^ann .*refunded$")])
    await expect(page.locator("#drop-sold")).to_have_text("0")
    await page.get_by_role("tab", name="History").click()
    await expect(rows.first).to_contain_text("Refunded")
    await expect(rows.last).to_contain_text("Created")


async def test_long_tables(api: Api, visitor: Visitor) -> None:
    """Buyers come in pages."""
    seller = await make_user(api.owner)
    drop = await make_drop(api.http, seller, total_stock=100)
    for _ in range(30):
        await buy(api, drop["id"], await make_user(api.owner))
    page = await open_page(visitor, drop)
    await page.get_by_role("tab", name="Buyers").click()
    await expect(page.locator("#table-body tr")).to_have_count(25)
    await page.get_by_role("button", name="Show more").click()
    await expect(page.locator("#table-body tr")).to_have_count(30)
    await expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    bought = await api.owner.fetchval("select max(id::text) from inventory.purchases where drop_id = $1", UUID(drop["id"]))
    await api.owner.fetchval(REFUND, UUID(bought))
    await expect(page.locator("#drop-sold")).to_have_text("29")
    await expect(page.locator("#table-body tr").filter(has_text="refunded")).to_have_count(1)
    await expect(page.locator("#table-body tr")).to_have_count(30)
