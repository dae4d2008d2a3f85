"""The terms of a sale over HTTP: currency, how long a hold lasts, when the next may follow, pauses; and reads by the clock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from json import dumps
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.support.database import Database, client_of, running_api
from tests.support.envelopes import JSON, LONG_AGO, SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import (
    ask_change,
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
from tests.support.row_checks import Row
from tests.support.streams import close_streams, open_stream

pytestmark = pytest.mark.usefixtures("healthy")

TERMS: Row = {
    "currency": "EUR",
    "limit_per_user": 4,
    "hold_seconds": 90,
    "rehold_after_seconds": 30,
    "extension_seconds": 60,
    "image_url": "https://shop.example/shoe.jpg",
}


@pytest.mark.parametrize(
    ("sent", "terms"),
    [
        (
            {},
            {
                "currency": "USD",
                "limit_per_user": None,
                "hold_seconds": None,
                "rehold_after_seconds": 0,
                "extension_seconds": None,
                "image_url": None,
            },
        ),
        (
            dict.fromkeys(["currency", "limit_per_user", "hold_seconds", "extension_seconds", "image_url"]),
            {"currency": "USD", "hold_seconds": None},
        ),
        (TERMS, TERMS),
    ],
    ids=["none", "null", "all"],
)
async def test_the_terms_of_a_drop(http: httpx.AsyncClient, seller: str, sent: Row, terms: Row) -> None:
    """They are those that were sent, or the defaults."""
    drop = await make_drop(http, seller, **sent)
    assert drop == drop | terms
    assert await read(http, drop) == drop


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("currency", ["usd", "US", "XXX", "XAU", "ZZZ", "", 1]),
        ("limit_per_user", [0, -1, 1.5, "1", 2**31]),
        ("hold_seconds", [0, 86_401, "60", 1.5]),
        ("rehold_after_seconds", [-1, 86_401, "60", None]),
        ("extension_seconds", [0, 86_401, "60"]),
        ("image_url", ["", "shoe.jpg", "//x.example/a", "http://x.example/a", "https://x.example/\n", "/" + "a" * 2000, 1]),
    ],
)
async def test_terms_that_no_drop_can_have(
    http: httpx.AsyncClient, seller: str, drop: Row, field: str, values: list[object]
) -> None:
    """They are refused by name, when a drop is made and when it is changed. The currency never changes."""
    for value in values:
        body = dumps({"name": "Air", "price": 1, "total_stock": 1, field: value})
        assert_invalid(await http.post("/drops", content=body, headers=as_user(seller) | JSON), field)
        assert_invalid(await ask_change(http, drop, {field: value}), field)
    assert_invalid(await ask_change(http, drop, {"currency": "USD"}), "currency")
    assert await read(http, drop) == drop


async def test_terms_are_changed(http: httpx.AsyncClient, drop: Row) -> None:
    """By PATCH; null takes one away."""
    terms = {name: value for name, value in TERMS.items() if name != "currency"}
    changed = await change(http, drop, **terms)
    assert changed == drop | terms | {"updatedAt": changed["updatedAt"], "revision": drop["revision"] + 1}
    nothing = dict.fromkeys(["limit_per_user", "hold_seconds", "extension_seconds", "image_url"])
    cleared = await change(http, drop, rehold_after_seconds=0, **nothing)
    assert cleared == drop | {"updatedAt": cleared["updatedAt"], "revision": drop["revision"] + 2}


@pytest.fixture(scope="module")
async def in_yen(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with DEFAULT_CURRENCY=JPY."""
    with running_api(database.service_url, EXPIRY_POLL_MS="3600000", DEFAULT_CURRENCY="JPY") as url:
        async with client_of(url) as client:
            yield client


@pytest.mark.parametrize(("sent", "currency"), [({}, "JPY"), ({"currency": None}, "JPY"), ({"currency": "EUR"}, "EUR")])
async def test_the_default_currency(in_yen: httpx.AsyncClient, seller: str, sent: Row, currency: str) -> None:
    """A drop that is made without a currency has that of DEFAULT_CURRENCY."""
    drop = await make_drop(in_yen, seller, price=1500, **sent)
    assert (drop["currency"], str(drop["price"])) == (currency, "1500" if currency == "JPY" else "1500.00")


# How long a hold lasts, and when the next may follow


async def test_a_drop_says_how_long_a_hold_lasts(http: httpx.AsyncClient, user: str, seller: str) -> None:
    """hold_seconds goes before RESERVATION_TTL_SECONDS; a hold keeps the time that it was made with."""
    drop = await make_drop(http, seller, hold_seconds=7)
    held = await reserve(http, drop["id"], user)
    lasts = datetime.fromisoformat(held["expires_at"]) - datetime.fromisoformat(held["createdAt"])
    assert lasts == timedelta(seconds=7)
    await change(http, drop, hold_seconds=700)
    [mine] = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
    assert mine == held


async def test_who_lets_a_hold_go_waits(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str) -> None:
    """After a cancel or a hold that ran out, for rehold_after_seconds; the message says how long. Others do not wait."""
    drop, other = await make_drop(http, seller, rehold_after_seconds=100), await make_user(owner)
    held = await reserve(http, drop["id"], user)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    lapsed = await reserve(http, drop["id"], other)
    await make_due(owner, lapsed["id"])
    for buyer in (user, other):
        message = assert_error(await ask_reserve(http, drop["id"], buyer), 409, "RESERVED_TOO_SOON")
        assert {"98", "99", "100"} & set(message.split()), message
    await reserve(http, drop["id"], await make_user(owner))
    for reservation in (held, lapsed):
        await owner.execute(
            "update inventory.reservations"
            " set expires_at = expires_at - interval '101 s', updated_at = updated_at - interval '101 s' where id = $1",
            UUID(reservation["id"]),
        )
    for buyer in (user, other):
        await reserve(http, drop["id"], buyer)


async def test_who_bought_does_not_wait(http: httpx.AsyncClient, user: str, seller: str) -> None:
    """A purchase is no hold that was let go. Without the term nobody waits."""
    drop = await make_drop(http, seller, rehold_after_seconds=100)
    await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    held = await reserve(http, drop["id"], user)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    await change(http, drop, rehold_after_seconds=0)
    await reserve(http, drop["id"], user)


# Pause and resume


async def test_a_drop_is_paused_and_resumed(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """While it is paused nothing is held; what was held before can be bought. To pause it again changes nothing of it."""
    await reserve(http, drop["id"], user)
    paused = await change(http, drop, paused=True)
    assert paused["paused_at"] == paused["updatedAt"]
    assert (await change(http, drop, paused=True))["paused_at"] == paused["paused_at"]
    other = await make_user(owner)
    assert_error(await ask_reserve(http, drop["id"], other), 409, "DROP_NOT_ACTIVE")
    await purchase(http, drop["id"], user)
    assert (await read(http, drop))["status"] == "live"
    assert (await change(http, drop, paused=False))["paused_at"] is None
    await reserve(http, drop["id"], other)
    for bad in (None, "true", 1):
        assert_invalid(await ask_change(http, drop, {"paused": bad}), "paused")


# Reads by the clock: every poller of this service sleeps


async def shown(http: httpx.AsyncClient, api_url: str, drop: Row) -> list[Row]:
    """The drop as GET shows it, as the SNAPSHOT does, and as the list does if it is there."""
    try:
        snapshot = await (await open_stream("sse", api_url, [drop["id"]])).receive()
    finally:
        await close_streams()
    listed = [row for row in await drops_on_sale(http) if row["id"] == drop["id"]]
    return [await read(http, drop), *snapshot.data["drops"], *listed]


async def test_a_due_hold_is_stock(http: httpx.AsyncClient, api_url: str, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """Before any sweep: in every read, in held_stock, in what its user is told, and in an event of the same drop."""
    held = await reserve(http, drop["id"], user, {"qty": 3}, idempotency_key="k")
    lives = await reserve(http, drop["id"], await make_user(owner))
    assert [row["available_stock"] for row in await shown(http, api_url, drop)] == [1, 1, 1]
    await make_due(owner, held["id"])
    rows = await shown(http, api_url, drop)
    assert [row["available_stock"] for row in rows] == [4, 4, 4]
    assert [row["activity_feed"]["held_stock"] for row in rows[1:]] == [1, 1]
    assert assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations") == []
    await change(http, drop, paused=True)  # else the next reserve would take the hold back
    replay = assert_success(await ask_reserve(http, drop["id"], user, {"qty": 3}, idempotency_key="k"), "reservation")
    assert replay == held | {"status": "EXPIRED", "expires_at": replay["expires_at"]}
    assert await owner.fetchval("select status from inventory.reservations where id = $1", UUID(held["id"])) == "ACTIVE"
    await http.delete(f"/reservations/{lives['id']}", headers=as_user(lives["user_id"]))
    assert [row["available_stock"] for row in await shown(http, api_url, drop)] == [5, 5, 5]


async def test_times_that_have_come(http: httpx.AsyncClient, api_url: str, owner: asyncpg.Pool, seller: str, user: str) -> None:
    """A scheduled drop is live from its start, and ended from its end, in every read, before any sweep."""
    drop = await make_drop(http, seller, starts_at=SOON, ends_at="3000-01-01T00:00:00Z")
    assert [row["status"] for row in await shown(http, api_url, drop)] == ["scheduled"] * 2
    await owner.execute("update inventory.drops set starts_at = now() - interval '1 hour' where id = $1", UUID(drop["id"]))
    assert [row["status"] for row in await shown(http, api_url, drop)] == ["live"] * 3
    await reserve(http, drop["id"], user)
    await owner.execute("update inventory.drops set ends_at = now() where id = $1", UUID(drop["id"]))
    assert [row["status"] for row in await shown(http, api_url, drop)] == ["ended"] * 2
    assert_error(await ask_reserve(http, drop["id"], user), 409, "DROP_NOT_ACTIVE")


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweep", "after the sweep"])
async def test_a_drop_that_is_over_stays_over(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, *, swept: bool) -> None:
    """To extend it gets the same answer before and after the sweep has noticed its end."""
    drop = await make_drop(http, seller, starts_at=LONG_AGO, ends_at=SOON)
    await owner.execute("update inventory.drops set ends_at = now() where id = $1", UUID(drop["id"]))
    if swept:
        while (await owner.fetchval("select status from inventory.drops where id = $1", UUID(drop["id"]))) != "ended":
            await owner.fetch("select * from api.advance_drops()")
            await asyncio.sleep(0)
    for changes in ({"ends_at": SOON}, {"ends_at": None}, {"status": "live"}, {"status": "live", "ends_at": SOON}):
        assert_error(await ask_change(http, drop, changes), 409, "INVALID_STATUS_CHANGE")
    assert (await change(http, drop, name="Over"))["status"] == "ended"
