"""How many units, at which price: quantities, limits of a user, the facts of a sale, and stock that two sellers change."""

import asyncio
from decimal import Decimal
from json import dumps
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.support.envelopes import JSON, LONG_AGO, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import (
    ask_change,
    ask_purchase,
    ask_reserve,
    change,
    make_drop,
    make_due,
    make_user,
    purchase,
    read,
    reserve,
)
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")


async def left(http: httpx.AsyncClient, drop: Row) -> int:
    """The units that are left of the drop."""
    stock: int = (await read(http, drop))["available_stock"]
    return stock


# Quantities


async def test_several_units_at_once(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """They are held, bought and given back together."""
    held = await reserve(http, drop["id"], user, {"qty": 3})
    assert (held["qty"], held["unit_price"], held["amount"]) == (3, Decimal("199.90"), Decimal("599.70"))
    assert await left(http, drop) == 2
    bought = await purchase(http, drop["id"], user)
    assert (bought["qty"], bought["unit_price"], bought["amount"]) == (3, Decimal("199.90"), Decimal("599.70"))
    again = await reserve(http, drop["id"], user, {"qty": 2})
    assert await left(http, drop) == 0
    await http.delete(f"/reservations/{again['id']}", headers=as_user(user))
    assert await left(http, drop) == 2


async def test_all_or_nothing(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """A reserve of more than is left is refused, and says how many are left. If none is left the sentence is the usual one."""
    await reserve(http, drop["id"], user, {"qty": 4})
    other = await make_user(owner)
    for qty in (2, 5, 2**31 - 1):
        assert "1 left" in assert_error(await ask_reserve(http, drop["id"], other, {"qty": qty}), 409, "OUT_OF_STOCK")
    assert await left(http, drop) == 1
    await reserve(http, drop["id"], other)
    last = await make_user(owner)
    sentences = {
        assert_error(await ask_reserve(http, drop["id"], last, body), 409, "OUT_OF_STOCK") for body in (None, {"qty": 2})
    }
    assert len(sentences) == 1


async def test_due_units_make_room_for_several(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """Holds that ran out are taken back by the reserve that needs their units, as many as it needs."""
    holders = [await make_user(owner) for _ in range(5)]
    await make_due(owner, *[(await reserve(http, drop["id"], holder))["id"] for holder in holders])
    assert await left(http, drop) == 5
    await reserve(http, drop["id"], user, {"qty": 4})
    assert await left(http, drop) == 1


@pytest.mark.parametrize("qty", [0, -1, 1.5, "2", True, 2**31, [1], {}])
async def test_no_quantities(http: httpx.AsyncClient, user: str, drop: Row, qty: object) -> None:
    """A quantity is a whole number from 1 on."""
    assert_invalid(await ask_reserve(http, drop["id"], user, {"qty": qty}), "qty")
    assert await left(http, drop) == 5


async def test_a_key_is_for_one_quantity(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """The same key with another quantity is 422, and with the same a replay; one unit may be written or left out."""
    held = await reserve(http, drop["id"], user, {"qty": 1}, idempotency_key="k")
    assert_error(await ask_reserve(http, drop["id"], user, {"qty": 2}, idempotency_key="k"), 422, "IDEMPOTENCY_KEY_REUSED")
    assert assert_success(await ask_reserve(http, drop["id"], user, idempotency_key="k"), "reservation") == held
    assert await left(http, drop) == 4


# The limit of a user


async def test_the_limit_counts_what_is_held_and_bought(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str
) -> None:
    """The refusal says the limit and what one has. A cancel and a refund make room."""
    drop = await make_drop(http, seller, total_stock=9, limit_per_user=3)
    message = assert_error(await ask_reserve(http, drop["id"], user, {"qty": 4}), 409, "LIMIT_EXCEEDED")
    assert {"3", "0"} <= set(message.replace(",", "").replace(".", "").split()), message
    await reserve(http, drop["id"], user, {"qty": 2})
    bought = await purchase(http, drop["id"], user)
    message = assert_error(await ask_reserve(http, drop["id"], user, {"qty": 2}), 409, "LIMIT_EXCEEDED")
    assert {"3", "2"} <= set(message.replace(",", "").replace(".", "").split()), message
    held = await reserve(http, drop["id"], user)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    assert_error(await ask_reserve(http, drop["id"], user), 409, "LIMIT_EXCEEDED")
    await owner.fetch("select api.refund_purchase($1)", UUID(bought["id"]))
    await reserve(http, drop["id"], user, {"qty": 2})
    await reserve(http, drop["id"], await make_user(owner), {"qty": 3})


async def test_the_limit_is_over_all_variants(http: httpx.AsyncClient, user: str, seller: str) -> None:
    """Not for each of them."""
    sizes = [{"name": name, "total_stock": 5} for name in ("41", "42")]
    drop = await make_drop(http, seller, total_stock=None, variants=sizes, limit_per_user=2)
    first, second = (variant["id"] for variant in drop["variants"])
    await reserve(http, drop["id"], user, {"variant_id": first})
    assert_error(await ask_reserve(http, drop["id"], user, {"variant_id": second, "qty": 2}), 409, "LIMIT_EXCEEDED")
    await reserve(http, drop["id"], user, {"variant_id": second})


async def test_a_hold_that_ran_out_counts_no_more(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str) -> None:
    """For the limit, whether or not it has been taken back."""
    sizes = [{"name": name, "total_stock": 5} for name in ("41", "42")]
    drop = await make_drop(http, seller, total_stock=None, variants=sizes, limit_per_user=1)
    first, second = (variant["id"] for variant in drop["variants"])
    await make_due(owner, (await reserve(http, drop["id"], user, {"variant_id": first}))["id"])
    await reserve(http, drop["id"], user, {"variant_id": second})


async def test_a_limit_is_set_and_taken_away(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """By PATCH. A lower one takes nothing from who has more."""
    await reserve(http, drop["id"], user, {"qty": 3})
    assert (await change(http, drop, limit_per_user=2))["limit_per_user"] == 2
    await purchase(http, drop["id"], user)
    assert_error(await ask_reserve(http, drop["id"], user), 409, "LIMIT_EXCEEDED")
    assert (await change(http, drop, limit_per_user=None))["limit_per_user"] is None
    await reserve(http, drop["id"], user)


# The facts of a sale


async def test_a_sale_keeps_its_price(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str) -> None:
    """What the seller changes after the reserve does not touch the hold, the purchase, nor the refund."""
    drop = await make_drop(http, seller, price=100)
    held = await reserve(http, drop["id"], user, {"qty": 2}, idempotency_key="k")
    await change(http, drop, price=999)
    [mine] = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
    assert mine == held
    bought = await purchase(http, drop["id"], user)
    await change(http, drop, price=1)
    facts = (Decimal("100.00"), "USD", Decimal("200.00"))
    for row in (held, bought):
        assert (row["unit_price"], row["currency"], row["amount"]) == facts
    await owner.fetch("select api.refund_purchase($1)", UUID(bought["id"]))
    [refunded] = assert_success(await http.get("/purchases/me", headers=as_user(user)), "purchases")
    assert refunded == bought | {
        "status": "refunded",
        "refunded_amount": Decimal("200.00"),
        "refunded_at": refunded["updatedAt"],
        "refunded_qty": 2,
        "updatedAt": refunded["updatedAt"],
    }
    assert (await reserve(http, drop["id"], user))["unit_price"] == Decimal("1.00")


async def test_the_price_of_a_size_is_kept(http: httpx.AsyncClient, user: str, seller: str) -> None:
    """That of a variant too, whether it has its own or that of the drop."""
    sizes = [{"name": "41", "total_stock": 5}, {"name": "42", "total_stock": 5, "price": 150}]
    drop = await make_drop(http, seller, price=100, total_stock=None, variants=sizes)
    held = [await reserve(http, drop["id"], user, {"variant_id": variant["id"]}) for variant in drop["variants"]]
    await change(http, drop, price=7, variants=[{"id": variant["id"], "price": 9} for variant in drop["variants"]])
    bought = [await purchase(http, drop["id"], user, {"reservation_id": hold["id"]}) for hold in held]
    assert [row["amount"] for row in bought] == [Decimal("100.00"), Decimal("150.00")]


async def test_a_late_purchase_buys_no_other_hold(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str) -> None:
    """A purchase that names a hold which was cancelled, bought, or is another user's, does not buy the hold that there is now."""
    drop = await make_drop(http, seller, price=100)
    cancelled = await reserve(http, drop["id"], user)
    await http.delete(f"/reservations/{cancelled['id']}", headers=as_user(user))
    lapsed = await reserve(http, drop["id"], user)
    await make_due(owner, lapsed["id"])
    bought = await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user, {"reservation_id": bought["id"]}, idempotency_key="k")
    others = await reserve(http, drop["id"], await make_user(owner))
    await change(http, drop, price=900)
    held = await reserve(http, drop["id"], user)
    for reservation, status, code in (
        (cancelled, 409, "NO_ACTIVE_RESERVATION"),
        (lapsed, 409, "RESERVATION_EXPIRED"),
        (bought, 409, "NO_ACTIVE_RESERVATION"),
        (others, 404, "RESERVATION_NOT_FOUND"),
    ):
        assert_error(await ask_purchase(http, drop["id"], user, {"reservation_id": reservation["id"]}), status, code)
    answer = await ask_purchase(http, drop["id"], user, {"reservation_id": held["id"]}, idempotency_key="k")
    assert_error(answer, 422, "IDEMPOTENCY_KEY_REUSED")
    assert_invalid(await ask_purchase(http, drop["id"], user, {"reservation_id": "x"}), "reservation_id")
    assert_invalid(await ask_purchase(http, drop["id"], user, {"qty": 1}), "qty")
    sold = await purchase(http, drop["id"], user, {"reservation_id": held["id"].upper()})
    assert (sold["reservation_id"], sold["amount"]) == (held["id"], Decimal("900.00"))


@pytest.mark.parametrize(
    ("currency", "price", "amount", "bad"),
    [("JPY", "1500", "4500", "1500.5"), ("EUR", "19.90", "59.70", "19.905"), ("KWD", "1.005", "3.015", "1.0005")],
)
async def test_amounts_have_the_decimals_of_their_currency(
    http: httpx.AsyncClient, user: str, seller: str, currency: str, price: str, amount: str, bad: str
) -> None:
    """Prices and amounts are exact, with as many decimals as the currency has, and more are refused."""

    async def create(price: str) -> httpx.Response:
        terms = f'"price": {price}, "currency": "{currency}"'
        body = f'{{"name": "Air", {terms}, "total_stock": 5, "starts_at": "{LONG_AGO}"}}'
        return await http.post("/drops", content=body, headers=as_user(seller) | JSON)

    assert_invalid(await create(bad), "price")
    drop = assert_success(await create(price), "drop", 201)
    assert (drop["currency"], str(drop["price"])) == (currency, price)
    assert_invalid(
        await http.patch(f"/drops/{drop['id']}", content=f'{{"price": {bad}}}', headers=as_user(seller) | JSON), "price"
    )
    held = await reserve(http, drop["id"], user, {"qty": 3})
    bought = await purchase(http, drop["id"], user)
    for row in (held, bought):
        assert (row["currency"], str(row["unit_price"]), str(row["amount"])) == (currency, price, amount)


# Stock that two sellers change


async def test_two_sellers_add_stock(http: httpx.AsyncClient, owner: asyncpg.Pool, drop: Row) -> None:
    """Two who each add 2 to 5 get 9, because add_stock is no new total."""
    sellers = [as_user(await make_user(owner)) | JSON for _ in range(2)]
    path, body = f"/drops/{drop['id']}", dumps({"add_stock": 2})
    answers = await asyncio.gather(*(http.patch(path, content=body, headers=headers) for headers in sellers))
    assert sorted(assert_success(answer, "drop")["total_stock"] for answer in answers) == [7, 9]
    assert (await change(http, drop, add_stock=-4))["available_stock"] == 5


async def test_stock_is_not_taken_from_buyers(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """add_stock takes away no more than is left, and no drop is without units."""
    await reserve(http, drop["id"], user, {"qty": 3})
    assert_error(await ask_change(http, drop, {"add_stock": -3}), 409, "STOCK_BELOW_COMMITTED")
    assert_invalid(await ask_change(http, drop, {"add_stock": -5}), "total_stock")
    assert "2147483647 or less" in assert_invalid(await ask_change(http, drop, {"add_stock": 2**31 - 1}), "total_stock")
    for bad in (0.5, "1", None, True, 2**31):
        assert_invalid(await ask_change(http, drop, {"add_stock": bad}), "add_stock")
    assert_invalid(await ask_change(http, drop, {"add_stock": 1, "total_stock": 9}), "add_stock")
    assert (await change(http, drop, add_stock=-2))["available_stock"] == 0
