"""The cards, which follow every change of a drop, and the news."""

import re
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.browser import Visitor
from tests.support.dashboard import (
    REFUND,
    buy,
    row_of,
    expect_outcome,
    open_drop,
    expect_stock,
    expect_truth,
    make_named_user,
    feed_of,
    press,
    set_clock,
    update_drop,
)
from tests.support.envelopes import as_user, assert_success
from tests.support.factories import make_drop, make_due, make_user, purchase, reserve
from tests.support.random_buyers import RandomBuyers
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually

CREATE = "select id from api.create_drop('At once', 10, 5, $1, now())"
PAID = "array(select id from inventory.purchases where status = 'paid' and drop_id = any ($1) order by id)"


async def test_without_drops(api: Api, page: Page) -> None:
    """Without a drop the page says how to make one."""
    await expect(
        page.get_by_text("There are no drops yet. Create one with the development tools, or simulate a rush.")
    ).to_be_visible()
    await expect(page.get_by_text("Nothing yet.")).to_have_count(0)  # the style sheet adds it, so it is not in the text
    await make_drop(api.http, await make_user(api.owner), name="Air One")
    await expect(page.get_by_role("heading", name="Air One")).to_be_visible()
    await expect(page.get_by_text("There are no drops yet")).to_be_hidden()


async def test_card(api: Api, visitor: Visitor) -> None:
    """A card has name, price, status, the stock as bar, numbers and line, and the three latest purchasers, newest first."""
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller, name="Air One", price=1234.5, total_stock=8))["id"]
    for n in range(4):
        await buy(api, drop_id, await make_named_user(api, f"buyer {n}"))
    await reserve(api.http, drop_id, seller)
    page = await visitor.open()
    card = row_of(page, drop_id)
    await expect(card.get_by_role("heading", level=3)).to_have_text("Air One")
    await expect(card.locator(".price")).to_have_text("$1,234.50")
    await expect(card.locator(".status")).to_have_text("live")
    await expect(card.locator(".countdown")).to_have_text("")
    await expect_stock(page, drop_id, 3, 1, 4)
    for part, share in {"left": 37.5, "held": 12.5, "sold": 50}.items():
        await expect(card.locator(f".bar .{part}")).to_have_attribute("style", f"width: {share}%;")
    await expect(card.locator(".purchasers li")).to_have_text([re.compile(rf"^buyer {n} \d") for n in (3, 2, 1)])
    await buy(api, drop_id, await make_named_user(api, "buyer 4"))
    await expect(card.locator(".purchasers li")).to_have_text([re.compile(rf"^buyer {n} \d") for n in (4, 3, 2)])
    await update_drop(api, drop_id, name="Air Two", price=10, total_stock=10)
    await expect(card.get_by_role("heading", level=3)).to_have_text("Air Two")
    await expect(card.locator(".price")).to_have_text("$10.00")
    await expect_stock(page, drop_id, 4, 1, 5)
    # The line ends on the right at the height of what is left: 4 of 10 are 2 + 44 * 0.6 from the top.
    await expect(card.locator(".chart .line")).to_have_attribute("d", re.compile(r"(M[\d.]+ |V)28\.4H300$"))


@pytest.mark.slow
async def test_status(api: Api, visitor: Visitor) -> None:
    """A new status is on the card and in the news at once. Only a live drop can be reserved."""
    seller = await make_user(api.owner)
    page = await visitor.open()
    cases: list[tuple[Row, str, str]] = [
        ({"status": "ended"}, "ended", "has ended"),
        ({"status": "cancelled"}, "cancelled", "is cancelled"),
        ({"total_stock": 1}, "sold out", "has none left"),
    ]
    for changes, status, news in cases:
        drop_id = (await make_drop(api.http, seller, name=f"Soon {status}"))["id"]
        await buy(api, drop_id, seller)
        reserve_button = row_of(page, drop_id).get_by_role("button", name="Reserve")
        await expect(reserve_button).to_be_enabled()
        await update_drop(api, drop_id, **changes)
        await expect(row_of(page, drop_id).locator(".status")).to_have_text(status)
        await expect(feed_of(page).first).to_contain_text(f"Soon {status} {news}")
        await expect(reserve_button).to_be_enabled(enabled=status == "sold out")


async def test_news(api: Api, page: Page) -> None:
    """The news lists the events of all drops, newest first, with times, and only the latest stock of several."""
    users = [await make_named_user(api, name) for name in ("ann", "bea")]
    first, second = [(await make_drop(api.http, users[0], name=name))["id"] for name in ("Air One", "Air Two")]
    for user in users:
        await reserve(api.http, first, user)
    await purchase(api.http, first, users[1])
    held = await reserve(api.http, second, users[0])
    await make_due(api.owner, held["id"])
    await api.http.post("/internal/expire-now")
    lines = [
        "Air Two has 5 left",
        "Air Two got a unit back: a hold ran out",
        "Air Two has 4 left",
        "Air One was bought by bea",
        "Air One has 3 left",
        "Air Two was added",
        "Air One was added",
    ]
    await expect(feed_of(page)).to_have_text([re.compile(rf"^\d+:\d\d:\d\d [AP]M {line}$") for line in lines])


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
    """The card is right after a refund with a sale, a new drop with a sale, and a unit that is refunded, held and sold again."""
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
    await expect(page.locator("#feed")).to_contain_text("was bought by dora")
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
        await expect(page.locator(f'.card[data-drop-id="{drop_id}"] .purchasers li')).to_have_count(0)
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
    await expect(page.locator("#feed")).to_contain_text("was bought by carla")
    await expect_stock(page, drop_id, 4, 0, 1)
    await reserve(api.http, drop_id, seller)
    await expect_stock(page, drop_id, 3, 1, 1)


@pytest.mark.slow
async def test_cancelled_with_a_hold(api: Api, drop_id: str, page: Page) -> None:
    """When a drop is cancelled, the card says that the hold is gone."""
    await press(page, drop_id, "Reserve")
    await expect(row_of(page, drop_id).get_by_role("button")).to_have_text(["Purchase", "Cancel"])
    await update_drop(api, drop_id, status="cancelled")
    await expect_answer(page, drop_id, "The drop was cancelled, and your hold with it.")
    await expect(row_of(page, drop_id).get_by_role("button")).to_have_text(["Reserve"])
    await expect(row_of(page, drop_id).get_by_role("button")).to_be_disabled()
    await expect(row_of(page, drop_id).locator(".hold")).to_have_text("")
    await expect_stock(page, drop_id, 5, 0, 0)


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
    # All of the text but the time since which the tab has been watching.
    texts = "(cards) => cards.map((card) => card.innerText.replace(card.querySelector('.ago').innerText, ''))"
    shown = [await tab.locator(".card").evaluate_all(texts) for tab in tabs]
    assert len(shown[0]) == len(buyers.drops)
    assert shown[0] == shown[1]
