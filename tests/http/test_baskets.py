"""Baskets and extending over HTTP."""

from datetime import datetime, timedelta
from json import dumps
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.envelopes import JSON, as_user, assert_error, assert_success
from tests.support.factories import available_stock, make_drop, make_due, make_user, reserve
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")


@pytest.fixture
async def drops(http: httpx.AsyncClient, seller: str) -> list[Row]:
    """Two drops without variants and one with two."""
    made = [await make_drop(http, seller, price=10), await make_drop(http, seller, price=700, currency="JPY")]
    sizes = [{"name": "S", "total_stock": 1}, {"name": "M", "total_stock": 5, "price": 12.5}]
    return [*made, await make_drop(http, seller, price=11, total_stock=None, variants=sizes)]


def item(drop: Row, qty: int | None = None, variant: int | None = None) -> Row:
    """An item of a request."""
    given = {"variant_id": None if variant is None else drop["variants"][variant]["id"], "qty": qty}
    return {"drop_id": drop["id"]} | {name: value for name, value in given.items() if value is not None}


async def post(http: httpx.AsyncClient, user: str, items: object, key: str | None = None) -> httpx.Response:
    """The answer to a request for a basket."""
    headers = as_user(user, idempotency_key=key) if key else as_user(user)
    return await http.post("/baskets", content=dumps({"items": items}), headers=headers | JSON)


async def stocks(owner: asyncpg.Pool, drops: list[Row]) -> list[int]:
    """How many units of each drop are left."""
    return [await available_stock(owner, drop["id"]) for drop in drops]


async def test_a_basket_is_held_bought_and_shown(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drops: list[Row]
) -> None:
    """Its reservations and purchases have the order of the items; a repeated request answers the same."""
    items = [item(drops[2], 2, variant=1), item(drops[0]), item(drops[1], 3), item(drops[2], variant=0)]
    response = await post(http, user, items, "k")
    basket = assert_success(response, "basket", 201)
    assert list(basket) == ["id", "user_id", "reservations", "amounts", "expires_at", "createdAt"]
    assert [(held["drop_id"], held["qty"], held["status"]) for held in basket["reservations"]] == [
        (asked["drop_id"], asked.get("qty", 1), "ACTIVE") for asked in items
    ]
    assert {held["basket_id"] for held in basket["reservations"]} == {basket["id"]}
    assert basket["amounts"] == {"USD": 46, "JPY": 2100}
    assert basket["expires_at"] == basket["reservations"][0]["expires_at"]
    assert await stocks(owner, drops) == [4, 2, 3]
    again = await post(http, user, items, "k")
    assert (assert_success(again, "basket"), again.headers["idempotency-replayed"]) == (basket, "true")
    assert_error(await post(http, user, items[:1], "k"), 422, "IDEMPOTENCY_KEY_REUSED")
    assert assert_success(await http.get(f"/baskets/{basket['id']}", headers=as_user(user)), "basket") == basket

    path = f"/baskets/{basket['id']}/purchase"
    purchases = assert_success(await http.post(path, headers=as_user(user)), "purchases", 201)
    assert [bought["reservation_id"] for bought in purchases] == [held["id"] for held in basket["reservations"]]
    again = await http.post(path, headers=as_user(user, idempotency_key="other"))
    assert (assert_success(again, "purchases"), again.headers["idempotency-replayed"]) == (purchases, "true")
    assert_error(await http.delete(f"/baskets/{basket['id']}", headers=as_user(user)), 409, "BASKET_NOT_ACTIVE")


async def test_a_refused_basket_holds_nothing(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drops: list[Row]) -> None:
    """Every item that cannot be held is named; the key is not spent."""
    items = [item(drops[0], 6), item(drops[1]), item(drops[2]), {"drop_id": str(uuid4())}]
    response = await post(http, user, items, "k")
    error = response.json()["error"]
    assert (response.status_code, error["code"], list(error)) == (409, "BASKET_REFUSED", ["code", "message", "items"])
    assert [(refused["index"], refused["code"]) for refused in error["items"]] == [
        (0, "OUT_OF_STOCK"),
        (2, "VARIANT_NOT_FOUND"),
        (3, "DROP_NOT_FOUND"),
    ]
    assert error["items"][0]["message"] == "Only 5 left of what you asked for."
    assert await stocks(owner, drops) == [5, 5, 6]
    assert_success(await post(http, user, items[1:2], "k"), "basket", 201)


async def test_a_basket_is_given_back(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drops: list[Row]) -> None:
    """All its units come back once, however often it is asked."""
    basket = assert_success(await post(http, user, [item(drop) for drop in drops[:2]]), "basket", 201)
    await make_due(owner, basket["reservations"][0]["id"])
    refused = assert_error(
        await http.post(f"/baskets/{basket['id']}/purchase", headers=as_user(user)), 409, "RESERVATION_EXPIRED"
    )
    assert refused == "The hold of item 0 ran out, so nothing of this basket is bought."
    for _ in range(2):
        gone = assert_success(await http.delete(f"/baskets/{basket['id']}", headers=as_user(user)), "basket")
        assert [held["status"] for held in gone["reservations"]] == ["EXPIRED", "CANCELLED"]
        assert await stocks(owner, drops) == [5, 5, 6]
    await http.post("/internal/expire-now")


async def test_nobody_learns_of_anothers_basket(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drops: list[Row]
) -> None:
    """Another user's basket is refused word for word as if it did not exist."""
    basket, other = assert_success(await post(http, user, [item(drops[0])]), "basket", 201), as_user(await make_user(owner))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/purchase")):
        refused, unknown = [
            assert_error(await http.request(method, f"/baskets/{given}{path}", headers=other), 404, "BASKET_NOT_FOUND")
            for given in (basket["id"], uuid4())
        ]
        assert refused == unknown


async def test_a_new_user_may_begin_with_a_basket(http: httpx.AsyncClient, drops: list[Row]) -> None:
    """A user who is unknown is made, as with a reserve."""
    assert_success(await post(http, str(uuid4()), [item(drops[0])]), "basket", 201)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (None, "items: must be a list"),
        ([], "items: must have at least 1 item"),
        ([{"drop_id": str(uuid4())}] * 21, "items: must have at most 20 items"),
        ([{}], "items.0.drop_id: is required"),
        ([{"drop_id": str(uuid4()), "qty": 0}], "items.0.qty: must be 1 or more"),
        ([{"drop_id": str(uuid4()), "size": 1}], "items.0.size: is not a field here"),
        ([{"drop_id": str(uuid4())}, "x"], "items.1: must be a JSON object"),
        ([{"drop_id": "00000000-0000-0000-0000-00000000000a"}, {"drop_id": "00000000-0000-0000-0000-00000000000A"}],
         "items: two items are the same drop and variant; give one with their qty together"),
    ],
)  # fmt: skip
async def test_bad_items(http: httpx.AsyncClient, user: str, items: object, says: str) -> None:
    """A 400 names what is wrong."""
    assert assert_error(await post(http, user, items), 400, "VALIDATION_ERROR") == says


async def test_a_hold_is_extended_once(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str) -> None:
    """It ends `extension_seconds` later; a repeated request changes nothing; a drop without them refuses."""
    drop = await make_drop(http, seller, extension_seconds=30)
    held = await reserve(http, drop["id"], user)
    path = f"/reservations/{held['id']}/extend"
    extended = assert_success(await http.post(path, headers=as_user(user)), "reservation")
    gained = datetime.fromisoformat(extended["expires_at"]) - datetime.fromisoformat(held["expires_at"])
    assert (gained, extended["status"], held["extended_at"]) == (timedelta(seconds=30), "ACTIVE", None)
    again = await http.post(path, headers=as_user(user, idempotency_key="k"))
    assert (assert_success(again, "reservation"), again.headers["idempotency-replayed"]) == (extended, "true")
    assert_error(await http.post(path, headers=as_user(await make_user(owner))), 404, "RESERVATION_NOT_FOUND")
    await make_due(owner, held["id"])
    assert_error(await http.post(path, headers=as_user(user)), 409, "RESERVATION_EXPIRED")
    await http.post("/internal/expire-now")
    plain = await reserve(http, (await make_drop(http, seller))["id"], user)
    assert_error(await http.post(f"/reservations/{plain['id']}/extend", headers=as_user(user)), 409, "EXTENSION_NOT_ALLOWED")
