"""Variants (sizes, tiers) over HTTP: how a drop with them is made and changed, and how its sizes are held and bought."""

from decimal import Decimal
from json import dumps
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.envelopes import JSON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import (
    ask_change,
    ask_purchase,
    ask_reserve,
    change,
    drops_on_sale,
    make_drop,
    make_due,
    make_user,
    purchase,
    read,
    reserve,
)
from tests.support.row_checks import DROP, PURCHASE, RESERVATION, Row, assert_row
from tests.support.streams import close_streams, newest_id, open_stream

pytestmark = pytest.mark.usefixtures("healthy")

SIZES = [{"name": "41", "total_stock": 2}, {"name": "42", "total_stock": 3, "price": 219.5}]


@pytest.fixture
async def sizes(http: httpx.AsyncClient, seller: str) -> Row:
    """A new live drop of two sizes, with two and three units, of which the second has a price of its own."""
    return await make_drop(http, seller, total_stock=None, variants=SIZES)


def of(drop: Row, name: str) -> Row:
    """The variant of the drop with this name."""
    [variant] = [variant for variant in drop["variants"] if variant["name"] == name]
    found: Row = variant
    return found


def stocks(drop: Row) -> tuple[int, ...]:
    """What is left of the drop, and then of each of its variants."""
    return (drop["available_stock"], *(variant["available_stock"] for variant in drop["variants"]))


# Making a drop


async def test_a_drop_with_variants(http: httpx.AsyncClient, sizes: Row) -> None:
    """It has its variants in their order, each with its price, and its stock is their sum, wherever it is read."""
    assert_row(sizes, DROP)
    assert [(v["name"], v["price"], v["total_stock"]) for v in sizes["variants"]] == [
        ("41", Decimal("199.90"), 2),
        ("42", Decimal("219.50"), 3),
    ]
    assert (sizes["total_stock"], stocks(sizes)) == (5, (5, 2, 3))
    assert await read(http, sizes) == sizes
    [listed] = [drop for drop in await drops_on_sale(http) if drop["id"] == sizes["id"]]
    assert listed == sizes | {"activity_feed": {"latest_purchasers": [], "held_stock": 0}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"total_stock": 5, "variants": SIZES}, "total_stock"),
        ({"variants": []}, "variants"),
        ({"variants": [{"name": str(n), "total_stock": 1} for n in range(201)]}, "variants"),
        ({"variants": [SIZES[0], SIZES[0]]}, "variants.name"),
        ({"variants": [{"total_stock": 1}]}, "variants.0.name"),
        ({"variants": [{"name": " ", "total_stock": 1}]}, "variants.0.name"),
        ({"variants": [{"name": "41"}]}, "variants.0.total_stock"),
        ({"variants": [{"name": "41", "total_stock": 0}]}, "variants.0.total_stock"),
        ({"variants": [{"name": "41", "total_stock": 1, "price": -1}]}, "variants.0.price"),
        ({"variants": [{"name": "41", "total_stock": 1, "price": 1.005}]}, "variants.price"),
        ({"variants": [{"name": "41", "total_stock": 1, "colour": "red"}]}, "variants.0.colour"),
        ({"variants": [{"name": name, "total_stock": 2**31 - 1} for name in "ab"]}, "variants"),
    ],
)
async def test_variants_that_no_drop_can_have(http: httpx.AsyncClient, seller: str, fields: Row, field: str) -> None:
    """They are refused by name, and no drop is made."""
    body = dumps({"name": "Air", "price": 1} | fields)
    assert_invalid(await http.post("/drops", content=body, headers=as_user(seller) | JSON), field)


# Holding and buying


async def test_a_size_is_held_and_bought(http: httpx.AsyncClient, user: str, sizes: Row) -> None:
    """The hold and the purchase say which variant, how many units, at which price; the stock of both moves."""
    size = of(sizes, "42")
    held = assert_row(await reserve(http, sizes["id"], user, {"variant_id": size["id"].upper(), "qty": 2}), RESERVATION)
    facts = {"variant_id": size["id"], "qty": 2, "unit_price": Decimal("219.50"), "currency": "USD", "amount": Decimal("439.00")}
    assert held == held | facts
    assert stocks(await read(http, sizes)) == (3, 2, 1)
    bought = assert_row(await purchase(http, sizes["id"], user), PURCHASE)
    assert bought == bought | facts | {"reservation_id": held["id"], "refunded_at": None, "refunded_amount": None}
    assert stocks(await read(http, sizes)) == (3, 2, 1)


async def test_units_come_back_to_their_size(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, sizes: Row) -> None:
    """A cancel, a hold that runs out and a refund give the units back to the variant that they are of."""
    first, second = (of(sizes, name)["id"] for name in ("41", "42"))
    held = await reserve(http, sizes["id"], user, {"variant_id": first, "qty": 2})
    assert stocks(await read(http, sizes)) == (3, 0, 3)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    assert stocks(await read(http, sizes)) == (5, 2, 3)
    await make_due(owner, (await reserve(http, sizes["id"], user, {"variant_id": second, "qty": 3}))["id"])
    assert stocks(await read(http, sizes)) == (5, 2, 3)
    await http.post("/internal/expire-now")
    assert stocks(await read(http, sizes)) == (5, 2, 3)
    await reserve(http, sizes["id"], user, {"variant_id": second, "qty": 2})
    bought = await purchase(http, sizes["id"], user)
    await owner.fetch("select api.refund_purchase($1)", bought["id"])
    assert stocks(await read(http, sizes)) == (5, 2, 3)


async def test_a_drop_with_variants_asks_for_one(http: httpx.AsyncClient, user: str, seller: str, sizes: Row, drop: Row) -> None:
    """Without a variant, or with one of another drop, it is 404 VARIANT_NOT_FOUND; so is any on a drop without variants."""
    for body in (None, {}, {"qty": 1}, {"variant_id": None}):
        message = assert_error(await ask_reserve(http, sizes["id"], user, body), 404, "VARIANT_NOT_FOUND")
        assert "variant_id" in message
    other = await make_drop(http, seller, total_stock=None, variants=SIZES)
    for drop_id, variant_id in (
        (sizes["id"], other["variants"][0]["id"]),
        (sizes["id"], str(uuid4())),
        (drop["id"], sizes["variants"][0]["id"]),
    ):
        assert_error(await ask_reserve(http, drop_id, user, {"variant_id": variant_id}), 404, "VARIANT_NOT_FOUND")
    assert_invalid(await ask_reserve(http, sizes["id"], user, {"variant_id": "42"}), "variant_id")
    assert [stocks(await read(http, each)) for each in (sizes, other, drop)] == [(5, 2, 3), (5, 2, 3), (5,)]


async def test_one_size_is_sold_out(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, sizes: Row) -> None:
    """It is refused alone. The message says how many are left, if some are."""
    first, second = (of(sizes, name)["id"] for name in ("41", "42"))
    other = await make_user(owner)
    message = assert_error(await ask_reserve(http, sizes["id"], user, {"variant_id": first, "qty": 3}), 409, "OUT_OF_STOCK")
    assert "2 left" in message
    await reserve(http, sizes["id"], other, {"variant_id": first, "qty": 2})
    assert_error(await ask_reserve(http, sizes["id"], user, {"variant_id": first}), 409, "OUT_OF_STOCK")
    await reserve(http, sizes["id"], user, {"variant_id": second})
    assert stocks(await read(http, sizes)) == (2, 0, 2)


async def test_one_hold_of_each_size(http: httpx.AsyncClient, user: str, sizes: Row) -> None:
    """A user holds each size once, and says which hold to buy if there are several."""
    first, second = (of(sizes, name)["id"] for name in ("41", "42"))
    held = [await reserve(http, sizes["id"], user, {"variant_id": variant_id}) for variant_id in (first, second)]
    assert_error(await ask_reserve(http, sizes["id"], user, {"variant_id": first}), 409, "ALREADY_RESERVED")
    assert "reservation_id" in assert_error(await ask_purchase(http, sizes["id"], user), 409, "SEVERAL_RESERVATIONS")
    bought = await purchase(http, sizes["id"], user, {"reservation_id": held[1]["id"]})
    assert (bought["reservation_id"], bought["variant_id"]) == (held[1]["id"], second)
    assert (await purchase(http, sizes["id"], user))["reservation_id"] == held[0]["id"]
    assert_error(await ask_purchase(http, sizes["id"], user), 409, "NO_ACTIVE_RESERVATION")


async def test_a_key_is_for_one_size(http: httpx.AsyncClient, user: str, sizes: Row) -> None:
    """A key that comes again with another size or number is 422; with the same it is a replay."""
    first, second = (of(sizes, name)["id"] for name in ("41", "42"))
    held = await reserve(http, sizes["id"], user, {"variant_id": first}, idempotency_key="k")
    for body in ({"variant_id": second}, {"variant_id": first, "qty": 2}):
        answer = await ask_reserve(http, sizes["id"], user, body, idempotency_key="k")
        assert_error(answer, 422, "IDEMPOTENCY_KEY_REUSED")
    answer = await ask_reserve(http, sizes["id"], user, {"variant_id": first, "qty": 1}, idempotency_key="k")
    assert assert_success(answer, "reservation") == held
    assert stocks(await read(http, sizes)) == (4, 1, 3)


async def test_streams_hear_of_the_size(
    http: httpx.AsyncClient, api_url: str, owner: asyncpg.Pool, user: str, sizes: Row
) -> None:
    """STOCK_UPDATED has the variants that changed, and no others."""
    first = of(sizes, "41")["id"]
    try:
        stream = await open_stream("sse", api_url, [sizes["id"]], last_event_id=str(await newest_id(owner)), snapshot=False)
        await reserve(http, sizes["id"], user, {"variant_id": first, "qty": 2})
        message = await stream.receive()
        assert (message.type, message.data) == (
            "STOCK_UPDATED",
            {"dropId": sizes["id"], "availableStock": 3, "variants": [{"id": first, "availableStock": 0}]},
        )
        changed = await change(http, sizes, variants=[{"id": variant["id"], "add_stock": 1} for variant in sizes["variants"]])
        updated, stock = await stream.receive(), await stream.receive()
        assert (updated.type, updated.data) == ("DROP_UPDATED", {"drop": changed})
        assert stock.data["availableStock"] == 5
        assert sorted(v["availableStock"] for v in stock.data["variants"]) == [1, 4]
    finally:
        await close_streams()


# Changing them


async def test_variants_are_changed(http: httpx.AsyncClient, sizes: Row) -> None:
    """The array is what the drop is to have: renamed, in another order, with other prices and stock, one new, one gone."""
    first, second = sizes["variants"]
    renamed = [
        {"id": second["id"], "name": "41", "price": 5},
        {"id": first["id"], "name": "42", "add_stock": 4},
        {"name": "43", "total_stock": 7},
    ]
    changed = await change(http, sizes, variants=renamed)
    third = changed["variants"][2]
    assert changed["variants"] == [
        second | {"name": "41", "price": Decimal("5.00")},
        first | {"name": "42", "total_stock": 6, "available_stock": 6},
        {"id": third["id"], "name": "43", "price": Decimal("199.90"), "total_stock": 7, "available_stock": 7},
    ]
    assert (changed["total_stock"], stocks(changed)) == (16, (16, 3, 6, 7))
    fewer = await change(http, sizes, variants=[{"id": third["id"]}, {"id": second["id"], "price": None}])
    assert [(v["name"], v["price"]) for v in fewer["variants"]] == [("43", Decimal("199.90")), ("41", Decimal("199.90"))]
    assert await read(http, sizes) == fewer


async def test_a_size_in_use_stays(http: httpx.AsyncClient, user: str, sizes: Row) -> None:
    """One that is held or sold cannot go, nor have less stock than that; what is refused changes nothing."""
    first, second = sizes["variants"]
    await reserve(http, sizes["id"], user, {"variant_id": first["id"], "qty": 2})
    before = await read(http, sizes)
    without = {"variants": [{"id": second["id"]}]}
    assert "41" in assert_error(await ask_change(http, sizes, without), 409, "VARIANT_IN_USE")
    for less in ({"total_stock": 1}, {"add_stock": -1}):
        changes = {"variants": [{"id": first["id"]} | less, {"id": second["id"]}]}
        assert "2 units" in assert_error(await ask_change(http, sizes, changes), 409, "STOCK_BELOW_COMMITTED")
    await purchase(http, sizes["id"], user)
    assert_error(await ask_change(http, sizes, without), 409, "VARIANT_IN_USE")
    assert await read(http, sizes) | {"updatedAt": 0} == before | {"updatedAt": 0}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"total_stock": 9}, 400, "VALIDATION_ERROR"),
        ({"add_stock": 1}, 400, "VALIDATION_ERROR"),
        ({"variants": []}, 400, "VALIDATION_ERROR"),
        ({"variants": [{"id": "first"}, {"id": "first"}]}, 404, "VARIANT_NOT_FOUND"),
        ({"variants": [{"id": "none"}]}, 404, "VARIANT_NOT_FOUND"),
        ({"variants": [{"id": "first", "name": "42"}, {"id": "second"}]}, 400, "VALIDATION_ERROR"),
        ({"variants": [{"id": "first", "total_stock": 2, "add_stock": 1}, {"id": "second"}]}, 400, "VALIDATION_ERROR"),
        ({"variants": [{"id": "first", "name": None}, {"id": "second"}]}, 400, "VALIDATION_ERROR"),
        ({"variants": [{"name": "43"}]}, 400, "VALIDATION_ERROR"),
        ({"variants": [{"id": "first"}], "total_stock": 9}, 400, "VALIDATION_ERROR"),
    ],
)
async def test_changes_that_are_refused(http: httpx.AsyncClient, sizes: Row, changes: Row, status: int, code: str) -> None:
    """They are refused, and change nothing."""
    ids = {"first": sizes["variants"][0]["id"], "second": sizes["variants"][1]["id"], "none": str(uuid4())}
    for variant in changes.get("variants", []):
        variant |= {"id": ids.get(variant["id"], variant["id"])} if "id" in variant else {}
    assert_error(await ask_change(http, sizes, changes), status, code)
    assert await read(http, sizes) == sizes


async def test_a_drop_gets_variants_later(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """As long as no unit of it was held without one."""
    changed = await change(http, drop, variants=SIZES)
    assert (changed["total_stock"], stocks(changed)) == (5, (5, 2, 3))
    assert_error(await ask_reserve(http, drop["id"], user), 404, "VARIANT_NOT_FOUND")
    await reserve(http, drop["id"], user, {"variant_id": changed["variants"][0]["id"]})


async def test_a_drop_that_has_sold_gets_no_variants(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """Its units are of none of them, and would come back to none."""
    held = await reserve(http, drop["id"], user)
    before = await read(http, drop)
    assert_error(await ask_change(http, drop, {"variants": SIZES}), 409, "VARIANT_IN_USE")
    assert await read(http, drop) == before
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    assert_error(await ask_change(http, drop, {"variants": SIZES}), 409, "VARIANT_IN_USE")
