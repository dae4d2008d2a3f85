"""Every state of the buyer's page: what it says, and what can be pressed."""

import re
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import OUTAGE, Visitor
from tests.support.buyer_page import BOUGHT, SIZES, button, choose, expect_said, hold_size, in_time, open_drop, press
from tests.support.dashboard import without_worker
from tests.support.factories import change, make_drop, make_due, make_user, make_users, purchase, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api

pytestmark = pytest.mark.slow


async def expect_panel(page: Page, pill: str, title: str, text: str) -> None:
    """The page is in this state."""
    await expect(page.locator("#pill")).to_have_text(pill)
    await expect(page.locator("#panel-title")).to_have_text(title)
    await expect(page.locator("#panel-text")).to_have_text(text)


async def sizes_of(page: Page) -> list[str]:
    """The words of each size."""
    return [" ".join((await label.inner_text()).split()) for label in await page.locator(".sizes label").all()]


async def test_before_the_start(api: Api, visitor: Visitor, seller: str) -> None:
    """The time until it opens runs, each size says what there is, and nothing can be pressed. At the start it opens by itself."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES, starts_at=in_time(hours=2), limit_per_user=1)
    context = await visitor.context()
    await context.clock.install()
    page = await open_drop(visitor, drop, context)
    await expect(page.locator("#pill")).to_contain_text("Opens ")
    await expect(page.locator("#opens-at")).to_contain_text("UTC")
    assert await sizes_of(page) == ["8 1 in stock", "8.5 2 in stock", "9 12 in stock", "10 5 in stock"]
    await expect(page.locator(".clock")).to_contain_text("seconds")
    await expect(page.get_by_role("button")).to_have_count(0)
    await expect(page.locator("#facts")).to_contain_text("Each buyer")
    await context.clock.fast_forward("02:00:01")  # no event says so
    await expect(page.locator("#pill")).to_have_text("On sale")
    await expect(page.locator("#countdown")).to_be_hidden()
    await expect(button(page, "Choose a size")).to_be_visible()


async def test_on_sale(api: Api, visitor: Visitor, seller: str) -> None:
    """The stock of each size is told in words and is live; the whole stock in numbers. The price is that of the chosen size."""
    sizes = [*SIZES, {"name": "Wide", "total_stock": 9, "price": 210}]
    drop = await make_drop(
        api.http, seller, price=180, total_stock=None, variants=sizes, ends_at=in_time(hours=2, minutes=30), limit_per_user=2
    )
    page = await open_drop(visitor, drop)
    assert await sizes_of(page) == ["8 1 left", "8.5 2 left", "9 Plenty", "10 A few", "Wide A few $210.00"]
    await expect(page.locator("#price")).to_have_text("From $180.00")
    await expect(page.locator("#ends")).to_have_text(re.compile(r"^Ends in 2 h [12]\d min$"))
    await expect(page.locator(".bar")).to_have_attribute("aria-label", "0 sold, 0 held, 29 left of 29")
    await expect(page.locator("#facts")).to_contain_text("Up to 2")
    await choose(page, "Wide")
    await expect(page.locator("#price")).to_have_text("$210.00")
    await expect(button(page, "Reserve Wide")).to_be_visible()
    [one, two] = await make_users(api.owner, 2)
    await reserve(api.http, drop["id"], one, {"variant_id": drop["variants"][0]["id"]})
    await reserve(api.http, drop["id"], two, {"variant_id": drop["variants"][2]["id"], "qty": 2})
    await purchase(api.http, drop["id"], two)
    await expect(page.locator(".bar")).to_have_attribute("aria-label", "2 sold, 1 held, 26 left of 29")
    await expect(page.locator("#stock")).to_contain_text("1 held by others")
    assert (await sizes_of(page))[0] == "8 Sold out"
    await expect(page.locator(".sizes input").first).to_be_disabled()
    await change(api.http, drop, name="Air Two", image_url="/buyer/icon.svg")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Air Two")
    await expect(page.get_by_role("img", name="Air Two")).to_be_visible()


async def test_a_size_that_costs_less(api: Api, visitor: Visitor, seller: str) -> None:
    """Every size that costs more than the lowest price, which is above them, has its own, also one with the price of the drop."""
    sizes = [{"name": "S", "total_stock": 1, "price": 8.5}, {"name": "M", "total_stock": 1}]
    page = await open_drop(visitor, await make_drop(api.http, seller, price=10, total_stock=None, variants=sizes))
    await expect(page.locator("#price")).to_have_text("From $8.50")
    assert await sizes_of(page) == ["S 1 left", "M 1 left $10.00"]


async def test_reserve_and_pay(api: Api, visitor: Visitor, seller: str) -> None:
    """Reserve, pay: the hold's time runs, the total is told, and what was bought stays on the page after a reload."""
    drop = await make_drop(api.http, seller, price=180, total_stock=None, variants=SIZES, limit_per_user=1)
    page = await open_drop(visitor, drop)
    await press(page, "Choose a size")
    await expect(page.locator("#answer")).to_have_text("Choose a size first.")
    await expect_said(page, "Choose a size first.")
    await hold_size(page, "9")
    await expect_said(page, "Size 9 is held for you.")
    await expect(page.locator("#ring text")).to_have_text(re.compile(r"^5\d:\d\d$"))
    await expect(page.get_by_role("timer")).to_have_attribute("aria-label", re.compile(r"^5\d minutes? \d+ seconds? left$"))
    await expect(page.locator("#receipt")).to_have_text("Size 9$180.00Total$180.00")
    await page.reload()
    await expect(page.locator("#panel-title")).to_have_text("Size 9 is held for you")
    await press(page, "Pay $180.00")
    await expect_panel(page, "Yours", BOUGHT, "Keep the order number until you have it.")
    await expect_said(page, BOUGHT)
    await expect(page.get_by_role("button")).to_have_count(0)
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    order = str(await api.owner.fetchval("select id from inventory.purchases where drop_id = $1", UUID(drop["id"])))
    await page.reload()
    await expect(page.locator("#receipt")).to_contain_text(order)
    await expect(page.locator("#pill")).to_have_text("Yours")
    assert not any(url.endswith(("/paying.js", "/stripe.js")) for url in visitor.requests)  # without a provider


async def test_let_it_go(api: Api, visitor: Visitor, seller: str) -> None:
    """What is let go can be reserved again, and the page says that nothing was charged."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    page = await open_drop(visitor, drop)
    await hold_size(page, "8")
    await press(page, "Let it go")
    await expect_panel(page, "On sale", "You let size 8 go.", "Nothing was charged. 1 is left of size 8.")
    await hold_size(page, "8")


async def test_held_beyond_the_end(api: Api, visitor: Visitor, seller: str) -> None:
    """What is held when a sale ends can be paid; no time until the end is shown any more."""
    drop = await make_drop(api.http, seller, price=180, total_stock=None, variants=SIZES, ends_at=in_time(hours=2))
    page = await open_drop(visitor, drop)
    await hold_size(page, "9")
    await expect(page.locator("#ends")).to_have_text(re.compile("^Ends in "))
    await change(api.http, drop, status="ended")
    await expect(page.locator("#ends")).to_have_text("")
    await expect(page.locator("#pill")).to_have_text("Held for you")
    await press(page, "Pay $180.00")
    await expect(page.locator("#pill")).to_have_text("Yours")


async def test_a_hold_runs_out(api: Api, visitor: Visitor, seller: str) -> None:
    """At 0 it is let go in words, though no event has come; then it can be reserved again."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    context = await visitor.context()
    await context.clock.install()
    page = await open_drop(visitor, drop, context)
    await hold_size(page, "9")
    visitor.expected = OUTAGE
    await context.route("**/me?**", lambda route: route.abort())  # else an answer would put the page's clock right again
    await context.clock.fast_forward("59:35")
    await expect_said(page, "30 seconds left to pay.")
    await context.clock.fast_forward("00:26")
    title = "Time ran out, so we let size 9 go."
    await expect(page.locator("#panel-title")).to_have_text(title)
    await expect_said(page, f"{title} Nothing was charged.")
    await make_due(api.owner, str(await held_id(api, drop)))
    await api.owner.fetch("select from api.expire_reservations()")
    await expect_panel(page, "On sale", title, "Nothing was charged. 12 are left of size 9.")
    await press(page, "Reserve size 9 again")
    await expect(page.locator("#panel-title")).to_have_text("Size 9 is held for you")


async def held_id(api: Api, drop: Row) -> UUID:
    """The id of the one reservation of the drop."""
    reservation_id: UUID = await api.owner.fetchval("select id from inventory.reservations where drop_id = $1", UUID(drop["id"]))
    return reservation_id


async def test_the_server_says_that_a_hold_ran_out(api: Api, visitor: Visitor, seller: str) -> None:
    """A hold that the server has let go is gone, whatever the page's clock says."""
    drop = await make_drop(api.http, seller, total_stock=2)
    page = await open_drop(visitor, drop)
    await press(page, "Reserve")
    await expect(page.locator("#panel-title")).to_have_text("Air One is held for you")
    await make_due(api.owner, str(await held_id(api, drop)))
    await api.owner.fetch("select from api.expire_reservations()")
    await expect_panel(page, "On sale", "Time ran out, so we let Air One go.", "Nothing was charged. 2 are left.")
    await press(page, "Reserve again")
    await expect(page.locator("#pill")).to_have_text("Held for you")


async def test_sold_out(api: Api, visitor: Visitor, seller: str) -> None:
    """With units held some may come back; with none held it is over. A unit that comes back can be reserved."""
    drop = await make_drop(api.http, seller, total_stock=2)
    [one, two] = await make_users(api.owner, 2)
    await reserve(api.http, drop["id"], one)
    await purchase(api.http, drop["id"], one)
    page = await open_drop(visitor, drop)
    await reserve(api.http, drop["id"], two)
    text = "1 is held and not yet paid for. If one comes back, you can reserve it here."
    await expect_panel(page, "Sold out", "All 2 are gone.", text)
    await expect(page.get_by_role("button")).to_have_count(0)
    await purchase(api.http, drop["id"], two)
    await expect_panel(page, "Sold out", "All 2 are gone.", "Every one is paid for, so none comes back.")
    sale = await api.owner.fetchval("select id from inventory.purchases where drop_id = $1 limit 1", UUID(drop["id"]))
    await api.owner.fetchval("select id from api.refund_purchase($1)", sale)
    await expect(button(page, "Reserve")).to_be_visible()
    await expect(page.locator(".bar")).to_have_attribute("aria-label", "1 sold, 0 held, 1 left of 2")


async def test_a_size_sells_out_while_looking(api: Api, visitor: Visitor, seller: str) -> None:
    """The chosen size goes to somebody else: the page says so, and the focus stays usable."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    page = await open_drop(visitor, drop)
    await choose(page, "8")
    await page.locator(".sizes input").first.focus()
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    await expect(page.locator("#answer")).to_have_text("Size 8 has just sold out. Choose another size.")
    await expect(button(page, "Choose a size")).to_be_focused()
    await choose(page, "9")
    await expect(page.locator("#answer")).to_be_hidden()


async def test_the_last_size_sells_out_while_looking(api: Api, visitor: Visitor, seller: str) -> None:
    """A screen reader is told that the drop opens and that it is sold out. Then no other size can be chosen."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES[:1], starts_at=in_time(hours=1))
    page = await open_drop(visitor, drop)
    await change(api.http, drop, starts_at=in_time(seconds=-1))
    await expect_said(page, "On sale.")
    await choose(page, "8")
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    await expect_panel(
        page, "Sold out", "It is gone.", "1 is held and not yet paid for. If one comes back, you can reserve it here."
    )
    await expect_said(page, "Sold out.")
    await expect(page.locator("#answer")).to_be_hidden()


async def test_somebody_was_faster(api: Api, visitor: Visitor, seller: str) -> None:
    """A refusal is told beside the button, in plain words."""
    drop = await make_drop(api.http, seller, total_stock=None, variants=SIZES)
    visitor.expected = OUTAGE
    context = await visitor.context()
    await without_worker(context)
    await context.route("**/api/events**", lambda route: route.abort())
    page = await context.new_page()
    await page.goto(f"/d/{drop['id']}")
    await choose(page, "8")
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    await press(page, "Reserve size 8")
    await expect(page.locator("#answer")).to_have_text("Somebody was faster: no size 8 is left.")
    await expect_said(page, "Somebody was faster: no size 8 is left.")


@pytest.mark.parametrize(
    ("changes", "pill", "title"),
    [
        ({"paused": True}, "Paused", "The sale is paused."),
        ({"status": "ended"}, "Ended", "This drop is over."),
        ({"status": "cancelled"}, "Cancelled", "This drop was cancelled."),
    ],
    ids=["paused", "ended", "cancelled"],
)
async def test_the_seller_changes_it(api: Api, visitor: Visitor, seller: str, changes: Row, pill: str, title: str) -> None:
    """Paused, ended, cancelled: told at once, and still after a reload, and nothing can be reserved."""
    drop = await make_drop(api.http, seller, total_stock=3)
    page = await open_drop(visitor, drop)
    await expect(button(page, "Reserve")).to_be_visible()
    await change(api.http, drop, **changes)
    await expect_said(page, f"{pill}.")
    for _ in range(2):
        await expect(page.locator("#pill")).to_have_text(pill)
        await expect(page.locator("#panel-title")).to_have_text(title)
        await expect(page.get_by_role("button")).to_have_count(0)
        await page.reload()
    if pill == "Paused":
        await expect(page.locator("#connection")).to_have_text("Live")
        await change(api.http, drop, paused=False)
        await expect(button(page, "Reserve")).to_be_visible()
        await expect_said(page, "On sale.")


async def test_cancelled_with_a_hold(api: Api, visitor: Visitor, seller: str) -> None:
    """A hold goes with its drop."""
    drop = await make_drop(api.http, seller, total_stock=3)
    page = await open_drop(visitor, drop)
    await press(page, "Reserve")
    await expect(page.locator("#pill")).to_have_text("Held for you")
    await change(api.http, drop, status="cancelled")
    text = "Nothing is held any more, and nothing was charged for a hold."
    await expect_panel(page, "Cancelled", "This drop was cancelled.", text)
    await expect_said(page, "Cancelled.")


async def test_taken_back(api: Api, visitor: Visitor, seller: str) -> None:
    """A drop that becomes a draft is not for sale, and comes back by itself."""
    drop = await make_drop(api.http, seller, total_stock=3, starts_at=in_time(hours=1))
    page = await open_drop(visitor, drop)
    await change(api.http, drop, status="draft")
    await expect(page.locator("#pill")).to_have_text("Not for sale")
    await change(api.http, drop, status="live")
    await expect(button(page, "Reserve")).to_be_visible()


@pytest.mark.parametrize(("currency", "price", "shown"), [("JPY", 6800, "¥6,800"), ("KWD", 12.345, "KWD\xa012.345")])
async def test_currencies(api: Api, visitor: Visitor, seller: str, currency: str, price: Any, shown: str) -> None:
    """Money has the decimals of its currency, everywhere."""
    drop = await make_drop(api.http, seller, currency=currency, price=price, total_stock=3)
    page = await open_drop(visitor, drop)
    await expect(page.locator("#price")).to_have_text(shown)
    await press(page, "Reserve")
    await expect(page.locator("#receipt dd").last).to_have_text(shown)
    await page.locator("#main", has_text=f"Pay {shown}").wait_for()


async def test_options(api: Api, visitor: Visitor, seller: str) -> None:
    """Variants that are no sizes are called by their names."""
    tiers = [{"name": name, "total_stock": 5} for name in ("Front row", "Balcony")]
    page = await open_drop(visitor, await make_drop(api.http, seller, price=10, total_stock=None, variants=tiers))
    await expect(page.get_by_role("group", name="Option")).to_be_visible()
    await press(page, "Choose an option")
    await expect(page.locator("#answer")).to_have_text("Choose an option first.")
    await choose(page, "Balcony")
    await press(page, "Reserve Balcony")
    await expect(page.locator("#panel-title")).to_have_text("Balcony is held for you")
    await press(page, "Pay $10.00")
    await expect(page.locator("#receipt")).to_contain_text("OptionBalcony")


async def test_free(api: Api, visitor: Visitor, seller: str) -> None:
    """What costs nothing is not paid."""
    page = await open_drop(visitor, await make_drop(api.http, seller, price=0, total_stock=3))
    await press(page, "Reserve")
    await press(page, "Get it for free")
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)


async def test_reserve_another(api: Api, visitor: Visitor, seller: str) -> None:
    """Who has bought and may have more can reserve another one; the limit of the drop is told by the server."""
    page = await open_drop(visitor, await make_drop(api.http, seller, price=10, total_stock=3, limit_per_user=2))
    for n in range(2):
        await press(page, "Reserve")
        await press(page, "Pay $10.00")
        await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
        if n == 0:
            await press(page, "Reserve another")
    await expect(button(page, "Reserve another")).to_have_count(0)
