"""Selling over HTTP: every refusal with its status and code, Idempotency-Key, and what a user gets to see of it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.support.api import LONG_AGO, SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import assert_healthy, available_stock, make_drop, make_due, make_user, purchase, reserve
from tests.support.shapes import Row

ON_DROP = ["reserve", "purchase"]
CANCEL_PATHS = ["/reservations/{}", "/reservations/{}/cancel"]


@pytest.fixture
async def user(owner: asyncpg.Pool) -> str:
    """A new user."""
    return await make_user(owner)


@pytest.fixture
async def drop(http: httpx.AsyncClient, user: str) -> Row:
    """A live drop of five units."""
    return await make_drop(http, user)


@pytest.fixture(autouse=True)
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """Every test ends with a clean audit."""
    yield
    await assert_healthy(owner)


async def reservation_status(owner: asyncpg.Pool, reservation_id: str) -> str:
    """What the database says."""
    status: str = await owner.fetchval("select status from inventory.reservations where id = $1", UUID(reservation_id))
    return status


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_no_such_drop(http: httpx.AsyncClient, user: str, method: str) -> None:
    """404 DROP_NOT_FOUND on the drop itself."""
    body = None if method == "GET" else {"name": "B"}
    assert_error(await http.request(method, f"/drops/{uuid4()}", json=body, headers=as_user(user)), 404, "DROP_NOT_FOUND")


@pytest.mark.parametrize("action", ON_DROP)
async def test_no_such_drop_to_sell(http: httpx.AsyncClient, user: str, action: str) -> None:
    """404 DROP_NOT_FOUND."""
    assert_error(await http.post(f"/drops/{uuid4()}/{action}", headers=as_user(user)), 404, "DROP_NOT_FOUND")


@pytest.mark.parametrize(
    "fields",
    [
        {"starts_at": None},
        {"starts_at": SOON},
        {"status": "draft"},
        {"ends_at": "2020-01-02T00:00:00Z"},
        {"status": "scheduled", "ends_at": "2020-01-02T00:00:00Z"},
    ],
)
async def test_a_drop_that_is_not_on_sale(http: httpx.AsyncClient, user: str, fields: Row) -> None:
    """409 DROP_NOT_ACTIVE, by the clock and not only by the status."""
    drop = await make_drop(http, user, **fields)
    assert_error(await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user)), 409, "DROP_NOT_ACTIVE")


@pytest.mark.parametrize("status", ["ended", "cancelled"])
async def test_a_drop_that_is_over(http: httpx.AsyncClient, user: str, drop: Row, status: str) -> None:
    """409 DROP_NOT_ACTIVE."""
    await http.patch(f"/drops/{drop['id']}", json={"status": status}, headers=as_user(user))
    assert_error(await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user)), 409, "DROP_NOT_ACTIVE")


async def test_a_scheduled_drop_sells_from_its_start(http: httpx.AsyncClient, user: str) -> None:
    """Whether or not the poller has made it live."""
    drop = await make_drop(http, user, starts_at=LONG_AGO, status="scheduled")
    await reserve(http, drop["id"], user)


async def test_a_hold_outlives_the_sale(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """Who holds a unit when a drop ends may still buy it."""
    await reserve(http, drop["id"], user)
    await http.patch(f"/drops/{drop['id']}", json={"status": "ended"}, headers=as_user(user))
    await purchase(http, drop["id"], user)


async def test_out_of_stock(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """409 OUT_OF_STOCK when every unit is held, until one comes back."""
    drop, other = await make_drop(http, user, total_stock=1), await make_user(owner)
    held = await reserve(http, drop["id"], user)
    assert_error(await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(other)), 409, "OUT_OF_STOCK")
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    await reserve(http, drop["id"], other)
    await purchase(http, drop["id"], other)
    assert_error(await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user)), 409, "OUT_OF_STOCK")


async def test_a_unit_is_for_the_next_the_moment_its_hold_runs_out(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str
) -> None:
    """No poll in between."""
    drop, other = await make_drop(http, user, total_stock=1), await make_user(owner)
    held = await reserve(http, drop["id"], user)
    await make_due(owner, held["id"])
    await reserve(http, drop["id"], other)
    assert await reservation_status(owner, held["id"]) == "EXPIRED"


async def test_already_reserved(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """409 ALREADY_RESERVED while a hold is ACTIVE; a user may hold again after buying."""
    await reserve(http, drop["id"], user)
    assert_error(await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user)), 409, "ALREADY_RESERVED")
    await purchase(http, drop["id"], user)
    await reserve(http, drop["id"], user)
    assert await available_stock(owner, drop["id"]) == 3


async def test_a_stale_hold_is_not_in_the_way(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """A user whose hold ran out reserves anew, and the old unit is back."""
    held = await reserve(http, drop["id"], user)
    await make_due(owner, held["id"])
    assert (await reserve(http, drop["id"], user))["id"] != held["id"]
    assert await available_stock(owner, drop["id"]) == 4


async def test_no_active_reservation(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """409 NO_ACTIVE_RESERVATION: never reserved, another's hold, another drop's, cancelled, bought already."""
    path = f"/drops/{drop['id']}/purchase"
    other, elsewhere = await make_user(owner), await make_drop(http, user)
    await reserve(http, drop["id"], other)
    await reserve(http, elsewhere["id"], user)
    assert_error(await http.post(path, headers=as_user(user)), 409, "NO_ACTIVE_RESERVATION")
    held = await reserve(http, drop["id"], user)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    assert_error(await http.post(path, headers=as_user(user)), 409, "NO_ACTIVE_RESERVATION")
    await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    assert_error(await http.post(path, headers=as_user(user)), 409, "NO_ACTIVE_RESERVATION")


async def test_purchase_of_a_hold_that_ran_out(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """409 RESERVATION_EXPIRED, and by then the hold is EXPIRED and its unit back."""
    held = await reserve(http, drop["id"], user)
    await make_due(owner, held["id"])
    assert_error(await http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user)), 409, "RESERVATION_EXPIRED")
    assert await reservation_status(owner, held["id"]) == "EXPIRED"
    assert await available_stock(owner, drop["id"]) == 5
    assert_error(await http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user)), 409, "NO_ACTIVE_RESERVATION")


@pytest.mark.parametrize("path", CANCEL_PATHS)
async def test_cancel_of_a_hold_that_ran_out(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, path: str
) -> None:
    """409 RESERVATION_EXPIRED, and by then the hold is EXPIRED and its unit back."""
    held = await reserve(http, drop["id"], user)
    await make_due(owner, held["id"])
    assert_error(await http.delete(path.format(held["id"]), headers=as_user(user)), 409, "RESERVATION_EXPIRED")
    assert await reservation_status(owner, held["id"]) == "EXPIRED"
    assert await available_stock(owner, drop["id"]) == 5


@pytest.mark.parametrize("path", CANCEL_PATHS)
async def test_cancel_of_what_is_no_hold_any_more(http: httpx.AsyncClient, user: str, drop: Row, path: str) -> None:
    """409 RESERVATION_NOT_ACTIVE: cancelled already, bought."""
    held = await reserve(http, drop["id"], user)
    assert_success(await http.delete(path.format(held["id"]), headers=as_user(user)), "reservation")
    assert_error(await http.delete(path.format(held["id"]), headers=as_user(user)), 409, "RESERVATION_NOT_ACTIVE")
    held = await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    assert_error(await http.delete(path.format(held["id"]), headers=as_user(user)), 409, "RESERVATION_NOT_ACTIVE")


@pytest.mark.parametrize("path", CANCEL_PATHS)
async def test_nobody_learns_of_anothers_hold(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, path: str
) -> None:
    """404 RESERVATION_NOT_FOUND, word for word as for one that does not exist; the hold stays."""
    held, other = await reserve(http, drop["id"], user), await make_user(owner)
    refused = assert_error(await http.delete(path.format(held["id"]), headers=as_user(other)), 404, "RESERVATION_NOT_FOUND")
    assert refused == assert_error(await http.delete(path.format(uuid4()), headers=as_user(other)), 404, "RESERVATION_NOT_FOUND")
    assert await reservation_status(owner, held["id"]) == "ACTIVE"


async def test_a_user_sees_only_what_is_held_now(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """Neither what ran out, noticed or not, nor what was cancelled or bought, nor another's; newest first."""
    drops = [await make_drop(http, user) for _ in range(5)]
    held = [await reserve(http, drop["id"], user) for drop in drops]
    await reserve(http, drops[0]["id"], await make_user(owner))
    await make_due(owner, held[1]["id"])
    await http.delete(f"/reservations/{held[2]['id']}", headers=as_user(user))
    await purchase(http, drops[3]["id"], user)
    mine = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
    assert mine == [held[4], held[0]]


async def test_a_user_sees_every_purchase(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """Newest first, what was refunded included, another's not."""
    drop, other = await make_drop(http, user), await make_user(owner)
    bought = []
    for buyer in (user, other, user):
        await reserve(http, drop["id"], buyer)
        bought.append(await purchase(http, drop["id"], buyer))
    await owner.fetch("select api.refund_purchase($1)", UUID(bought[0]["id"]))
    mine = assert_success(await http.get("/purchases/me", headers=as_user(user)), "purchases")
    assert [(row["id"], row["status"]) for row in mine] == [(bought[2]["id"], "paid"), (bought[0]["id"], "refunded")]
    assert await available_stock(owner, drop["id"]) == 3


async def test_a_hold_lasts_the_configured_time(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """RESERVATION_TTL_SECONDS, 60 by default."""
    held = await reserve(http, drop["id"], user)
    lasts = datetime.fromisoformat(held["expires_at"]) - datetime.fromisoformat(held["createdAt"])
    assert lasts == timedelta(seconds=60)


@pytest.mark.parametrize("key", ["k", "~!" * 127 + "x", str(UUID(int=1))])
async def test_a_repeated_key_replays(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, key: str) -> None:
    """200 and `Idempotency-Replayed: true` with the first answer's row; stock moves once."""
    headers = as_user(user, idempotency_key=key)
    held = await reserve(http, drop["id"], user, idempotency_key=key)
    bought: Row = {}
    replay = await http.post(f"/drops/{drop['id']}/reserve", headers=headers)
    assert assert_success(replay, "reservation") == held
    assert replay.headers["idempotency-replayed"] == "true"
    for status in (201, 200, 200):
        response = await http.post(f"/drops/{drop['id']}/purchase", headers=headers)
        bought = bought or assert_success(response, "purchase", 201)
        assert assert_success(response, "purchase", status) == bought
        assert response.headers.get("idempotency-replayed") == (None if status == 201 else "true")
    assert await available_stock(owner, drop["id"]) == 4
    assert await owner.fetchval("select count(*) from inventory.purchases where drop_id = $1", UUID(drop["id"])) == 1


async def test_a_replay_answers_the_row_as_it_is_now(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """Whatever became of it, and of the drop."""
    headers, path = as_user(user, idempotency_key="k"), f"/drops/{drop['id']}"
    held = await reserve(http, drop["id"], user, idempotency_key="k")
    bought = await purchase(http, drop["id"], user, idempotency_key="k")
    await owner.fetch("select api.refund_purchase($1)", UUID(bought["id"]))
    await http.patch(path, json={"status": "cancelled"}, headers=as_user(user))
    replayed = assert_success(await http.post(f"{path}/reserve", headers=headers), "reservation")
    assert replayed == held | {"status": "CONSUMED", "updatedAt": replayed["updatedAt"]}
    replayed = assert_success(await http.post(f"{path}/purchase", headers=headers), "purchase")
    assert replayed == bought | {"status": "refunded", "updatedAt": replayed["updatedAt"]}


async def test_a_replay_of_a_cancelled_hold_does_not_hold_again(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """The key is spent; another key gets a new unit."""
    held = await reserve(http, drop["id"], user, idempotency_key="k")
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    headers = as_user(user, idempotency_key="k")
    replayed = assert_success(await http.post(f"/drops/{drop['id']}/reserve", headers=headers), "reservation")
    assert (replayed["id"], replayed["status"]) == (held["id"], "CANCELLED")
    assert (await reserve(http, drop["id"], user, idempotency_key="k2"))["id"] != held["id"]


async def test_a_key_belongs_to_a_user_and_a_drop(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """Others may use the same one, and the same user on another drop."""
    other, elsewhere = await make_user(owner), await make_drop(http, user)
    first = await reserve(http, drop["id"], user, idempotency_key="same")
    second = await reserve(http, drop["id"], other, idempotency_key="same")
    third = await reserve(http, elsewhere["id"], user, idempotency_key="same")
    assert len({first["id"], second["id"], third["id"]}) == 3
    assert (await purchase(http, drop["id"], user, idempotency_key="same"))["reservation_id"] == first["id"]
    assert (await purchase(http, drop["id"], other, idempotency_key="same"))["reservation_id"] == second["id"]


async def test_a_refusal_does_not_spend_the_key(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """What was refused may succeed later under the same key."""
    drop, other = await make_drop(http, user, total_stock=1), await make_user(owner)
    held = await reserve(http, drop["id"], user)
    headers = as_user(other, idempotency_key="k")
    assert_error(await http.post(f"/drops/{drop['id']}/reserve", headers=headers), 409, "OUT_OF_STOCK")
    assert_error(await http.post(f"/drops/{drop['id']}/purchase", headers=headers), 409, "NO_ACTIVE_RESERVATION")
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    await reserve(http, drop["id"], other, idempotency_key="k")
    await purchase(http, drop["id"], other, idempotency_key="k")


@pytest.mark.parametrize("action", ON_DROP)
@pytest.mark.parametrize(
    "key", [b"", b"x" * 256, b"a b", b"a\tb", b"caf\xc3\xa9", b"\xff"], ids=["empty", "long", "space", "tab", "utf-8", "latin-1"]
)
async def test_keys_that_are_none(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, action: str, key: bytes
) -> None:
    """400 naming the header; nothing is held or bought."""
    held = await reserve(http, drop["id"], user) if action == "purchase" else None
    headers = [(b"X-User-Id", user.encode()), (b"Idempotency-Key", key)]
    assert_invalid(await http.post(f"/drops/{drop['id']}/{action}", headers=headers), "Idempotency-Key")
    assert await available_stock(owner, drop["id"]) == (4 if held else 5)
    assert held is None or await reservation_status(owner, held["id"]) == "ACTIVE"
