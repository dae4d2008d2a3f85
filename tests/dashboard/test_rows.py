"""The list: its rows, which follow every change of a drop, search and filters, and the feed."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.browser import Visitor
from tests.support.dashboard import (
    REFUND,
    buy,
    expect_outcome,
    expect_stock,
    expect_truth,
    feed_of,
    make_named_user,
    open_drop,
    press,
    row_of,
    set_clock,
    update_drop,
)
from tests.support.envelopes import LONG_AGO, as_user, assert_success
from tests.support.factories import make_drop, make_due, make_user, purchase, reserve
from tests.support.random_buyers import RandomBuyers
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually

CREATE = "select id from api.create_drop('At once', 10, 5, $1, now())"
PAID = "array(select id from inventory.purchases where status = 'paid' and drop_id = any ($1) order by id)"


async def test_without_drops(api: Api, page: Page) -> None:
    """Without a drop the page says so and how to make one."""
    await expect(page.get_by_role("heading", name="No drops yet")).to_be_visible()
    await expect(page.get_by_text("Sales show here as they happen.")).to_be_visible()
    await make_drop(api.http, await make_user(api.owner), name="Air One")
    await expect(page.get_by_role("heading", name="Air One")).to_be_visible()
    await expect(page.get_by_text("No drops yet")).to_be_hidden()
    await expect(page.get_by_text("Sales show here as they happen.")).to_be_hidden()


async def test_row(api: Api, visitor: Visitor) -> None:
    """A row has name, price, status, the stock as bar and numbers, and what was sold in money."""
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller, name="Air One", price=1234.5, total_stock=8))["id"]
    for n in range(4):
        await buy(api, drop_id, await make_named_user(api, f"buyer {n}"))
    await reserve(api.http, drop_id, seller)
    page = await visitor.open()
    row = row_of(page, drop_id)
    await expect(row.get_by_role("heading", level=2)).to_have_text("Air One")
    await expect(row.locator(".terms")).to_have_text("$1,234.50")
    await expect(row.locator(".status")).to_have_text("Live")
    await expect(row.locator(".countdown")).to_have_text("until sold out")
    await expect(row.locator(".money")).to_contain_text("$4,938")
    await expect_stock(page, drop_id, 3, 1, 4)
    await expect(row.locator(".bar")).to_have_attribute("style", "--sold: 50%; --held: 62.5%;")
    await update_drop(api, drop_id, name="Air Two", price=10, total_stock=10)
    await expect(row.get_by_role("heading", level=2)).to_have_text("Air Two")
    await expect(row.locator(".terms")).to_have_text("$10.00")
    await expect(row.locator(".money")).to_contain_text("$40.00")
    await expect_stock(page, drop_id, 5, 1, 4)


@pytest.mark.parametrize(
    ("currency", "price", "shown"), [("JPY", 24000, "¥24,000"), ("KWD", 45.125, "KWD\xa045.125"), ("EUR", 9.5, "€9.50")]
)
async def test_currencies(api: Api, page: Page, currency: str, price: float, shown: str) -> None:
    """A price has its currency, with as many decimals as that has."""
    drop = await make_drop(api.http, await make_user(api.owner), currency=currency, price=price)
    await expect(row_of(page, drop["id"]).locator(".terms")).to_have_text(shown)


async def test_totals(api: Api, visitor: Visitor) -> None:
    """The strip adds up all drops, but no currencies; it follows what is sold."""
    seller, buyer = await make_user(api.owner), await make_user(api.owner)
    dollars, yen = [(await make_drop(api.http, seller, price=500, currency=currency))["id"] for currency in ("USD", "JPY")]
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await make_drop(api.http, seller, starts_at=later)
    await buy(api, yen, buyer)
    page = await visitor.open()
    await expect(page.locator("#total-live")).to_have_text("2")
    await expect(page.locator("#note-live")).to_have_text("1 to come")
    await expect(page.locator("#total-revenue")).to_have_text("¥500")
    for user in (seller, buyer):
        await buy(api, dollars, user)
    await reserve(api.http, yen, seller)
    await expect(page.locator("#total-sold")).to_have_text("3")
    await expect(page.locator("#total-held")).to_have_text("1")
    await expect(page.locator("#total-left")).to_have_text("6")
    await expect(page.locator("#note-left")).to_have_text("of 10")
    await expect(page.locator("#total-revenue")).to_have_text("$1,000")
    await expect(page.locator("#note-revenue")).to_have_text("¥500")
    await expect(page.locator("#total-pace")).not_to_have_text("0")


@pytest.mark.slow
async def test_search_and_filter(api: Api, visitor: Visitor) -> None:
    """The key / searches, from the page of a drop as well. A filter shows one status, drafts and what is over included."""
    seller = await make_user(api.owner)
    changes: dict[str, Row] = {
        "Air live": {},
        "Air paused": {"paused": True},
        "Dunk sold": {},
        "Air draft": {"status": "draft"},
        "Air over": {"status": "ended"},
    }
    ids = {}
    for name, change in changes.items():
        is_draft = change.get("status") == "draft"
        ids[name] = (await make_drop(api.http, seller, name=name, total_stock=1, starts_at=None if is_draft else LONG_AGO))["id"]
        if change and not is_draft:
            await update_drop(api, ids[name], **change)
    await buy(api, ids["Dunk sold"], seller)
    page = await visitor.open()
    names = page.locator(".row .name")
    await expect(names).to_have_text(["Dunk sold", "Air paused", "Air live"])
    await page.keyboard.press("/")
    await expect(page.get_by_label("Find a drop")).to_be_focused()
    await page.keyboard.type("AIR")
    await expect(names).to_have_text(["Air paused", "Air live"])
    await page.get_by_label("Find a drop").fill("nothing")
    await expect(page.get_by_text("No drop is like that.")).to_be_visible()
    await page.get_by_label("Find a drop").fill("")
    for filter_name, shown in (("Live 1", "Air live"), ("Paused 1", "Air paused"), ("Sold out 1", "Dunk sold")):
        await page.get_by_role("button", name=filter_name).click()
        await expect(names).to_have_text([shown])
    await page.get_by_role("button", name="Drafts").click()
    await expect(names.filter(has_text="Air draft")).to_have_count(1)
    await page.get_by_role("button", name="Over").click()
    await expect(names.filter(has_text="Air over").first).to_be_visible()
    await page.get_by_role("button", name="All").click()
    await open_drop(page, ids["Air live"])
    await page.keyboard.press("/")
    await expect(page.get_by_label("Find a drop")).to_be_focused()
    await expect(page).to_have_url(f"{api.url}/")


@pytest.mark.slow
async def test_many_drops(api: Api, visitor: Visitor) -> None:
    """Of 606 drops only the rows near the window are filled; a row that is scrolled to is filled and right."""
    seller = await make_user(api.owner)
    create = (
        "select api.create_drop('Air ' || n, 10, 5, $1, now() - interval '1 hour' - n * interval '1 s')"
        " from generate_series(1, 606) n"
    )
    await api.owner.fetch(create, UUID(seller))
    page = await visitor.open()
    await expect(page.locator(".row")).to_have_count(606)
    filled = page.locator(".row .bar")
    assert await filled.count() < 60
    last = page.locator(".row").last
    await expect(last.locator(".name")).to_have_text("Air 606")
    drop_id = await last.get_attribute("data-drop-id")
    assert drop_id
    await reserve(api.http, drop_id, seller)
    await expect_stock(page, drop_id, 4, 1, 0)
    assert await filled.count() < 120


@pytest.mark.slow
async def test_status(api: Api, visitor: Visitor) -> None:
    """A new status is in the row and in the feed at once. Only what can be had has a button."""
    seller = await make_user(api.owner)
    page = await visitor.open()
    cases: list[tuple[Row, str, str]] = [
        ({"status": "ended"}, "Ended", "has ended"),
        ({"status": "cancelled"}, "Cancelled", "is cancelled"),
        ({"paused": True}, "Paused", "is paused"),
        ({"total_stock": 1}, "Sold out", "has 4 fewer"),
    ]
    for changes, status, line in cases:
        drop_id = (await make_drop(api.http, seller, name=f"Soon {status}"))["id"]
        await buy(api, drop_id, seller)
        button = row_of(page, drop_id).get_by_role("button")
        await expect(button).to_have_text("Reserve")
        await update_drop(api, drop_id, **changes)
        await expect(row_of(page, drop_id).locator(".status")).to_have_text(status)
        await expect(feed_of(page).first).to_contain_text(f"Soon {status} {line}")
        await expect(button).to_have_count(0)


# Events of one drop, whose times are not in their order: a unit that came back has the time when the page received it.
OUT_OF_ORDER = """async () => {
  const { Feed } = await import("/dashboard/feed.js");
  const feed = new Feed(), drop = { id: "1", name: "Air One" };
  feed.add({ kind: "held", drop, units: 1, at: 9000 });
  feed.add({ kind: "sold", drop, units: 1, at: 5000 });
  feed.add({ kind: "returned", drop, units: 1, at: 9500 });
  feed.add({ kind: "changed", drop, text: "has another price", at: 6000 });
  feed.add({ kind: "held", drop, units: 2, at: 8000 });
  feed.addOlder([{ type: "DROP_CREATED", dropId: "1", at: new Date(9900).toISOString(), data: {} }], () => drop);
  return feed.entries.map(({ kind, units, from, to }) => [kind, units, from, to]);
}"""


async def test_order_of_the_feed(visitor: Visitor) -> None:
    """The lines are in the order of the events, whatever times they show; what the server remembers is below them."""
    page = await visitor.open()
    assert await page.evaluate(OUT_OF_ORDER) == [
        ["changed", 0, 6000, 6000],
        ["returned", 1, 9500, 9500],
        ["sold", 1, 5000, 5000],
        ["held", 3, 9000, 9000],
        ["added", 0, 9900, 9900],
    ]


@pytest.mark.slow
async def test_feed(api: Api, page: Page) -> None:
    """The feed tells what happens, newest first; alike things that follow each other quickly are one line with their number."""
    users = [await make_named_user(api, name) for name in ("ann", "bea", "cleo")]
    first, second = [(await make_drop(api.http, users[0], name=name, total_stock=9))["id"] for name in ("Air One", "Air Two")]
    for user in users:
        await reserve(api.http, first, user, {"qty": 2})
    for user in users:
        await purchase(api.http, first, user)
    held = await reserve(api.http, second, users[0])
    await make_due(api.owner, held["id"])
    await api.http.post("/internal/expire-now")
    await update_drop(api, second, price=10)
    lines = [
        "Air Two has another price",
        "1 came back to Air Two",
        "1 held of Air Two",
        r"6 sold of Air One( in \d+\ss| in the last second)?",
        r"6 held of Air One( in \d+\ss| in the last second)?",
        "Air Two was added",
        "Air One was added",
    ]
    await expect(feed_of(page).locator("p")).to_have_text([re.compile(f"^{line}$") for line in lines])
    await expect(feed_of(page).nth(3).locator("small")).to_have_text("ann, bea and 1 more")
    await expect(feed_of(page).locator("time").first).to_have_text(re.compile(r"^now|\d+ s$"))
    await feed_of(page).first.get_by_role("link").click()
    await expect(page.get_by_role("heading", name="Air Two", level=1)).to_be_visible()


@pytest.mark.slow
async def test_stock_moves(api: Api, visitor: Visitor) -> None:
    """Left, held and sold are right after each reserve, purchase, cancel and refund, over HTTP and by SQL."""
    users = [await make_user(api.owner) for _ in range(8)]
    drop_id = (await make_drop(api.http, users[0], total_stock=2000))["id"]
    page = await visitor.open()
    await expect_stock(page, drop_id, 2000, 0, 0)
    await reserve(api.http, drop_id, users[0])
    await expect_stock(page, drop_id, 1999, 1, 0)
    bought = await purchase(api.http, drop_id, users[0])
    await expect_stock(page, drop_id, 1999, 0, 1)
    held = await reserve(api.http, drop_id, users[1])
    await expect_stock(page, drop_id, 1998, 1, 1)
    await api.owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(users[2]))
    await expect_stock(page, drop_id, 1997, 2, 1)
    assert_success(await api.http.delete(f"/reservations/{held['id']}", headers=as_user(users[1])), "reservation")
    await expect_stock(page, drop_id, 1998, 1, 1)
    await api.owner.fetchval("select id from api.purchase($1, $2)", UUID(drop_id), UUID(users[2]))
    await expect_stock(page, drop_id, 1998, 0, 2)
    batch = [UUID(user) for user in users[3:]]
    await api.owner.fetch(
        "select api.reserve_batch("
        "array(select row($1::uuid, u, null, null, null)::api.reserve_request from unnest($2::uuid[]) u))",
        UUID(drop_id),
        batch,
    )
    await expect_stock(page, drop_id, 1993, 5, 2)
    await api.owner.fetch(
        "select api.purchase_batch(array(select row($1::uuid, u, null, null)::api.purchase_request from unnest($2::uuid[]) u))",
        UUID(drop_id),
        batch[:4],
    )
    await expect_stock(page, drop_id, 1993, 1, 6)
    assert await api.owner.fetchval(REFUND, UUID(bought["id"]))  # this is not one of the latest purchases
    await expect_stock(page, drop_id, 1994, 1, 5)
    await update_drop(api, drop_id, total_stock=1006)
    await expect_stock(page, drop_id, 1000, 1, 5)
    await api.owner.execute("update inventory.reservations set expires_at = now() where drop_id = $1", UUID(drop_id))
    assert await api.http.post("/internal/expire-now")
    await expect_stock(page, drop_id, 1001, 0, 5)


@pytest.mark.slow
async def test_refund_after_the_end(api: Api, visitor: Visitor) -> None:
    """A refund of a drop that has ended counts, and a hold of it stays."""
    seller, buyer = await make_user(api.owner), await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller))["id"]
    bought = await buy(api, drop_id, seller)
    await reserve(api.http, drop_id, buyer)
    page = await visitor.open()
    await expect_stock(page, drop_id, 3, 1, 1)
    await update_drop(api, drop_id, status="ended")
    await api.owner.fetchval(REFUND, UUID(bought["id"]))
    await expect_stock(page, drop_id, 4, 1, 0)


@pytest.mark.slow
async def test_several_changes_in_one_transaction(api: Api, visitor: Visitor) -> None:
    """The row is right after a refund with a sale, a new drop with a sale, and a unit that is refunded, held and sold again."""
    seller, *buyers = [await make_user(api.owner) for _ in range(3)]
    reserve_one, purchase_one = "select id from api.reserve($1, $2)", "select id from api.purchase($1, $2)"
    drops = [(await make_drop(api.http, seller))["id"] for _ in range(2)]
    bought = [UUID((await buy(api, drop_id, seller))["id"]) for drop_id in drops]
    for buyer in buyers:
        await reserve(api.http, drops[0], buyer)
    page = await visitor.open()
    await expect_stock(page, drops[0], 2, 2, 1)
    async with api.owner.acquire() as connection, connection.transaction():
        await connection.fetchval(REFUND, bought[0])
        await connection.fetchval(purchase_one, UUID(drops[0]), UUID(buyers[0]))
    await expect_stock(page, drops[0], 3, 1, 1)

    async with api.owner.acquire() as connection, connection.transaction():
        created = await connection.fetchval(CREATE, UUID(seller))
        for buyer in buyers:
            await connection.fetchval(reserve_one, created, UUID(buyer))
        await connection.fetchval(purchase_one, created, UUID(buyers[0]))
    await expect_stock(page, created, 3, 1, 1)

    dora = UUID(await make_named_user(api, "dora"))
    async with api.owner.acquire() as connection, connection.transaction():
        await connection.fetchval(REFUND, bought[1])
        await connection.fetchval(reserve_one, UUID(drops[1]), dora)
        await connection.fetchval(purchase_one, UUID(drops[1]), dora)
    await expect(page.locator("#feed")).to_contain_text("dora")
    await expect_stock(page, drops[1], 4, 0, 1)


@pytest.mark.slow
async def test_only_a_refund_makes_the_page_ask(api: Api, visitor: Visitor) -> None:
    """The events of holds, cancels and sales suffice, so the page asks for a snapshot of the drop only after a refund."""
    users = [await make_user(api.owner) for _ in range(2)]
    drop_id = (await make_drop(api.http, users[0]))["id"]
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)

    async def asked() -> int:
        await context.clock.fast_forward(2000)
        await page.evaluate("new Promise((resolve) => requestAnimationFrame(resolve))")
        return sum(map(is_question, visitor.requests))

    def is_question(url: str) -> bool:
        return "dropId=" in url

    for n in range(2):
        held = await reserve(api.http, drop_id, users[1])
        assert_success(await api.http.delete(f"/reservations/{held['id']}", headers=as_user(users[1])), "reservation")
        bought = await buy(api, drop_id, users[0])
        await expect_stock(page, drop_id, 4, 0, 1)
        assert await asked() == n
        await api.owner.fetchval(REFUND, UUID(bought["id"]))
        async with page.expect_request(lambda request: is_question(request.url)):
            await context.clock.fast_forward(2000)
        await expect_stock(page, drop_id, 5, 0, 0)
        assert await asked() == n + 1


@pytest.mark.slow
async def test_sale_while_the_page_asks_about_a_refund(api: Api, visitor: Visitor) -> None:
    """A snapshot may contain a sale whose event has not come yet: the sale is not counted twice."""
    seller, buyer = await make_user(api.owner), await make_named_user(api, "carla")
    drop_id = (await make_drop(api.http, seller))["id"]
    bought = await buy(api, drop_id, seller)
    await reserve(api.http, drop_id, buyer)
    page = await visitor.open()
    asked = 0

    async def sell_first(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await purchase(api.http, drop_id, buyer)
        await route.continue_()

    await page.route(lambda url: "dropId=" in url, sell_first)
    await api.owner.fetchval(REFUND, UUID(bought["id"]))
    await expect(page.locator("#feed")).to_contain_text("carla")
    await expect_stock(page, drop_id, 4, 0, 1)
    await reserve(api.http, drop_id, seller)
    await expect_stock(page, drop_id, 3, 1, 1)


@pytest.mark.slow
async def test_cancelled_with_a_hold(api: Api, drop_id: str, page: Page) -> None:
    """When a drop is cancelled, the page says that the hold is gone."""
    await press(page, drop_id, "Reserve")
    await expect(row_of(page, drop_id).get_by_role("button")).to_have_text(re.compile("^Pay"))
    await update_drop(api, drop_id, status="cancelled")
    await expect_outcome(page, "Air One was cancelled, and your hold with it.")
    await expect(row_of(page, drop_id).get_by_role("button")).to_be_disabled()  # it has the focus, so it stays
    await expect_stock(page, drop_id, 5, 0, 0)


async def test_cancelled_while_the_holds_are_read(page: Page) -> None:
    """A hold may be gone from the answer before the event of its drop comes: the page says why then, and says it once."""
    said = await page.evaluate("""async () => {
        const { Buying } = await import("/dashboard/buying.js");
        const said = [], drop = { id: "d", name: "Air One", status: "live" };
        const shop = { state: { drops: new Map([["d", drop]]) }, users: { current: "u" } };
        const buying = new Buying(shop.state, shop.users, {
            clock: () => Date.now(), say: (text) => said.push(text), onHoldsChange: () => {},
        });
        const read = (reservations) => {
            window.fetch = async () => Response.json({ success: true, data: { reservations } });
            return buying.readHolds();
        };
        await read([{ id: "r", drop_id: "d", variant_id: null, qty: 1, expires_at: "2999-01-01T00:00:00Z" }]);
        await read([]);
        buying.removeOldHolds();
        drop.status = "cancelled";
        buying.removeOldHolds();
        buying.removeOldHolds();
        return said;
    }""")
    assert said == ["Air One was cancelled, and your hold with it."]


@pytest.mark.slow
async def test_two_tabs_agree(api: Api, visitor: Visitor) -> None:
    """After many changes two tabs, one opened during them, agree with each other and with the database."""
    context = await visitor.context()
    async with RandomBuyers(api, buyers=6).running() as buyers:
        tabs = [await visitor.open(context)]
        await buyers.answered(60)
        tabs.append(await visitor.open(context))
        await buyers.answered(60)
        drop_ids = [UUID(drop_id) for drop_id in buyers.drops]
        await eventually(lambda: api.owner.fetchval(f"select cardinality({PAID}) >= 6", drop_ids))
    for purchase_id in (await api.owner.fetchval(f"select {PAID}", drop_ids))[::3]:
        await api.owner.fetchval(REFUND, purchase_id)
    await buyers.finish()
    for tab in tabs:
        await expect(tab.get_by_role("heading", name="The end")).to_have_count(len(buyers.drops))
        await expect_truth(tab, api.owner, buyers.drops)
    texts = "(rows) => rows.map((row) => row.querySelector('.stock').innerText)"
    shown = [await tab.locator(".row").evaluate_all(texts) for tab in tabs]
    assert len(shown[0]) == len(buyers.drops)
    assert shown[0] == shown[1]
