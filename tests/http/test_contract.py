"""The endpoint table of the HTTP API, to the letter: statuses, envelopes, fields and their types, on both base paths."""

from collections.abc import AsyncIterator
from decimal import Decimal
from json import dumps
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.api import JSON, LONG_AGO, SOON, as_user, assert_error, assert_success
from tests.support.factories import assert_healthy, available_stock, make_drop, make_due, make_user, purchase, reserve
from tests.support.shapes import DROP, DROP_STATUSES, LISTED_DROP, PURCHASE, PURCHASER, RESERVATION, USER, Row, assert_row

# What the database can refuse with; HTTP relays the status and the code.
ERRORS = {
    "VALIDATION_ERROR": 400,
    "AUTH_REQUIRED": 401,
    "DROP_NOT_FOUND": 404,
    "RESERVATION_NOT_FOUND": 404,
    "PURCHASE_NOT_FOUND": 404,
    "DROP_NOT_ACTIVE": 409,
    "OUT_OF_STOCK": 409,
    "ALREADY_RESERVED": 409,
    "NO_ACTIVE_RESERVATION": 409,
    "RESERVATION_EXPIRED": 409,
    "RESERVATION_NOT_ACTIVE": 409,
    "INVALID_STATUS_CHANGE": 409,
    "STOCK_BELOW_COMMITTED": 409,
    "USERNAME_TAKEN": 409,
}


@pytest.fixture(params=["", "/v1"], ids=["api", "api-v1"])
def base(request: pytest.FixtureRequest) -> str:
    """Each of the base paths, relative to /api."""
    path: str = request.param
    return path


@pytest.fixture
async def user(owner: asyncpg.Pool) -> str:
    """A new user."""
    return await make_user(owner)


@pytest.fixture(autouse=True)
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """Every test ends with a clean audit."""
    yield
    await assert_healthy(owner)


async def test_the_error_table(owner: asyncpg.Pool) -> None:
    """Codes and statuses are those of the design; every code has a sentence for people."""
    rows = await owner.fetch("select * from api.errors()")
    assert {row["code"]: row["status"] for row in rows} == ERRORS
    assert len(rows) == len(ERRORS)
    assert all(row["message"].endswith(".") for row in rows)


async def test_create_a_drop_with_every_field(http: httpx.AsyncClient, base: str, user: str) -> None:
    """What was sent comes back, with all its stock available."""
    sent = {"name": "Åir ✨ One", "price": 199.9, "total_stock": 3, "starts_at": SOON, "ends_at": None, "status": "scheduled"}
    drop = assert_success(await http.post(f"{base}/drops", content=dumps(sent), headers=as_user(user) | JSON), "drop", 201)
    assert_row(drop, DROP)
    assert drop | sent == drop | {"price": 199.9}
    assert drop["price"] == Decimal("199.90")
    assert (drop["available_stock"], drop["created_by"]) == (3, user)


async def test_create_a_drop_with_the_fewest_fields(http: httpx.AsyncClient, base: str, user: str) -> None:
    """A draft without times."""
    sent = {"name": "Air", "price": 0, "total_stock": 1}
    drop = assert_success(await http.post(f"{base}/drops", content=dumps(sent), headers=as_user(user) | JSON), "drop", 201)
    assert assert_row(drop, DROP) == drop | sent | {"status": "draft", "starts_at": None, "ends_at": None}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"starts_at": None}, "draft"),
        ({"starts_at": LONG_AGO}, "live"),
        ({"starts_at": SOON}, "scheduled"),
        ({"starts_at": LONG_AGO, "status": None}, "live"),
        ({"starts_at": LONG_AGO, "status": "draft"}, "draft"),
        ({"starts_at": LONG_AGO, "status": "scheduled"}, "scheduled"),
    ],
)
async def test_the_times_decide_the_status(http: httpx.AsyncClient, user: str, fields: Row, status: str) -> None:
    """Unless a status is given."""
    assert (await make_drop(http, user, **fields))["status"] == status


async def test_a_drop_that_is_made_live_starts_now(http: httpx.AsyncClient, user: str) -> None:
    """A live drop always has a starts_at."""
    drop = await make_drop(http, user, starts_at=None, status="live")
    assert drop["starts_at"] == drop["createdAt"]


async def test_offsets_are_understood(http: httpx.AsyncClient, user: str) -> None:
    """Times leave in UTC whatever offset they came with."""
    drop = await make_drop(http, user, starts_at="2999-01-01T02:30:00.25+02:30", ends_at="2999-01-01T01:00Z")
    assert (drop["starts_at"], drop["ends_at"]) == ("2999-01-01T00:00:00.25+00:00", "2999-01-01T01:00:00+00:00")


async def test_the_list_holds_what_is_on_sale(http: httpx.AsyncClient, base: str, user: str) -> None:
    """Started, not ended, scheduled or live; the times decide, whether or not the poller has been by."""
    on_sale = [
        await make_drop(http, user),
        await make_drop(http, user, ends_at=SOON),
        await make_drop(http, user, status="scheduled"),
        await make_drop(http, user, total_stock=1),
    ]
    await reserve(http, on_sale[-1]["id"], user)  # sold out is still on sale
    not_on_sale = [
        await make_drop(http, user, starts_at=None),
        await make_drop(http, user, starts_at=SOON),
        await make_drop(http, user, status="draft"),
        await make_drop(http, user, ends_at="2020-01-02T00:00:00Z"),
        await make_drop(http, user),
        await make_drop(http, user),
    ]
    for drop, status in zip(not_on_sale[-2:], ["ended", "cancelled"], strict=True):
        await http.patch(f"/drops/{drop['id']}", json={"status": status}, headers=as_user(user))
    listed = assert_success(await http.get(f"{base}/drops"), "drops")
    for drop in listed:
        assert_row(drop, LISTED_DROP)
    made = {drop["id"] for drop in on_sale + not_on_sale}
    assert {drop["id"] for drop in listed} & made == {drop["id"] for drop in on_sale}


async def test_the_activity_feed(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str) -> None:
    """The three latest purchasers, newest first; what was refunded does not count, nor do holds."""
    drop = await make_drop(http, user, total_stock=9)
    buyers = [await make_user(owner) for _ in range(5)]
    bought = []
    for buyer in buyers:
        await reserve(http, drop["id"], buyer)
        bought.append(await purchase(http, drop["id"], buyer))
    await reserve(http, drop["id"], user)
    await owner.fetch("select api.refund_purchase($1)", bought[-1]["id"])
    [listed] = [d for d in assert_success(await http.get(f"{base}/drops"), "drops") if d["id"] == drop["id"]]
    feed = listed["activity_feed"]["latest_purchasers"]
    for purchaser in feed:
        assert_row(purchaser, PURCHASER)
    names = [await owner.fetchval("select username from inventory.users where id = $1", buyer) for buyer in buyers]
    expected = [(buyers[n], names[n], 1, bought[n]["createdAt"]) for n in (3, 2, 1)]
    assert [tuple(purchaser.values()) for purchaser in feed] == expected
    assert (listed["total_stock"], listed["available_stock"], listed["activity_feed"]["held_stock"]) == (9, 4, 1)


async def test_a_drop_without_sales_has_an_empty_feed(http: httpx.AsyncClient, user: str) -> None:
    """An empty list rather than null."""
    drop = await make_drop(http, user)
    [listed] = [d for d in assert_success(await http.get("/drops"), "drops") if d["id"] == drop["id"]]
    assert listed == drop | {"activity_feed": {"latest_purchasers": [], "held_stock": 0}}


@pytest.mark.parametrize("status", ["draft", "scheduled", "live", "ended", "cancelled"])
async def test_a_drop_of_any_status_can_be_read(http: httpx.AsyncClient, base: str, user: str, status: str) -> None:
    """GET /drops/{dropId} needs no user and shows exactly what the last write answered."""
    drop = await make_drop(http, user, starts_at={"draft": None, "scheduled": SOON}.get(status, LONG_AGO))
    if status in ("ended", "cancelled"):
        response = await http.patch(f"{base}/drops/{drop['id']}", json={"status": status}, headers=as_user(user))
        drop = assert_success(response, "drop")
    read = assert_success(await http.get(f"{base}/drops/{drop['id']}"), "drop")
    assert assert_row(read, DROP) == drop
    assert read["status"] == status


async def test_ids_may_be_in_upper_case(http: httpx.AsyncClient, user: str) -> None:
    """A UUID is a number: its case means nothing."""
    drop = await make_drop(http, user)
    assert assert_success(await http.get(f"/drops/{drop['id'].upper()}"), "drop") == drop
    await reserve(http, drop["id"].upper(), user.upper())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "B"},
        {"price": 2.5},
        {"total_stock": 9},
        {"starts_at": "2021-01-01T00:00:00+00:00"},
        {"ends_at": SOON},
        {"ends_at": None},
        {"status": "ended", "ends_at": "2021-01-01T00:00:00+00:00"},
        {"name": "B", "price": 0, "total_stock": 1, "starts_at": "2021-01-01T00:00:00+00:00", "ends_at": SOON, "status": "live"},
    ],
    ids=lambda changes: "-".join(changes),
)
async def test_patch_changes_what_it_names(http: httpx.AsyncClient, base: str, user: str, changes: Row) -> None:
    """And nothing else but updatedAt, and available_stock with total_stock."""
    drop = await make_drop(http, user, ends_at="2998-01-01T00:00:00Z")
    response = await http.patch(f"{base}/drops/{drop['id']}", json=changes, headers=as_user(user))
    changed = assert_success(response, "drop")
    expected = drop | changes | {"updatedAt": changed["updatedAt"], "available_stock": changes.get("total_stock", 5)}
    assert assert_row(changed, DROP) == expected | {"price": Decimal(str(expected["price"]))}
    assert changed["updatedAt"] > drop["updatedAt"]
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == changed


async def test_a_restock_counts_what_is_held_and_sold(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """Down to that, and no further."""
    drop, buyer = await make_drop(http, user), await make_user(owner)
    await reserve(http, drop["id"], user)
    await reserve(http, drop["id"], buyer)
    await purchase(http, drop["id"], buyer)
    path = f"/drops/{drop['id']}"
    changed = assert_success(await http.patch(path, json={"total_stock": 2}, headers=as_user(user)), "drop")
    assert (changed["total_stock"], changed["available_stock"]) == (2, 0)
    message = assert_error(await http.patch(path, json={"total_stock": 1}, headers=as_user(user)), 409, "STOCK_BELOW_COMMITTED")
    assert "2 units" in message
    assert assert_success(await http.get(path), "drop") == changed


async def test_cancelling_a_drop_releases_its_holds(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """What was sold stays sold."""
    drop, buyer = await make_drop(http, user), await make_user(owner)
    await reserve(http, drop["id"], user)
    await reserve(http, drop["id"], buyer)
    await purchase(http, drop["id"], buyer)
    response = await http.patch(f"/drops/{drop['id']}", json={"status": "cancelled"}, headers=as_user(user))
    assert assert_success(response, "drop")["available_stock"] == 4
    assert assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations") == []


@pytest.mark.parametrize(
    ("moves", "legal"),
    [
        ([], {"draft", "scheduled", "live", "cancelled"}),
        (["scheduled"], {"draft", "scheduled", "live", "ended", "cancelled"}),
        (["live"], {"live", "ended", "cancelled"}),
        (["live", "ended"], {"ended"}),
        (["cancelled"], {"cancelled"}),
    ],
    ids=["draft", "scheduled", "live", "ended", "cancelled"],
)
async def test_moves_of_status(http: httpx.AsyncClient, user: str, moves: list[str], legal: set[str]) -> None:
    """Legal ones are made, the others are 409 INVALID_STATUS_CHANGE naming both ends; to stay is always legal."""
    for status in DROP_STATUSES:
        drop = await make_drop(http, user, starts_at=SOON, status="draft")
        path, headers = f"/drops/{drop['id']}", as_user(user)
        for move in moves:
            drop = assert_success(await http.patch(path, json={"status": move}, headers=headers), "drop")
            assert drop["status"] == move
        response = await http.patch(path, json={"status": status}, headers=headers)
        if status in legal:
            assert assert_success(response, "drop")["status"] == status
        else:
            message = assert_error(response, 409, "INVALID_STATUS_CHANGE")
            assert drop["status"] in message
            assert status in message
            assert assert_success(await http.get(path), "drop") == drop


async def test_reserve_and_purchase(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str) -> None:
    """The whole way of one unit, as both sides see it."""
    drop = await make_drop(http, user)
    response = await http.post(f"{base}/drops/{drop['id']}/reserve", headers=as_user(user))
    held = assert_row(assert_success(response, "reservation", 201), RESERVATION)
    assert "idempotency-replayed" not in response.headers
    assert (held["drop_id"], held["user_id"], held["status"]) == (drop["id"], user, "ACTIVE")
    mine = assert_success(await http.get(f"{base}/reservations/me", headers=as_user(user)), "reservations")
    assert mine == [held]
    assert assert_success(await http.get(f"{base}/purchases/me", headers=as_user(user)), "purchases") == []

    response = await http.post(f"{base}/drops/{drop['id']}/purchase", headers=as_user(user))
    bought = assert_row(assert_success(response, "purchase", 201), PURCHASE)
    assert bought == bought | {"drop_id": drop["id"], "reservation_id": held["id"], "user_id": user, "qty": 1, "status": "paid"}
    assert assert_success(await http.get(f"{base}/reservations/me", headers=as_user(user)), "reservations") == []
    assert assert_success(await http.get(f"{base}/purchases/me", headers=as_user(user)), "purchases") == [bought]
    assert await available_stock(owner, drop["id"]) == 4


@pytest.mark.parametrize("ending", ["", "/cancel"])
async def test_cancel(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str, ending: str) -> None:
    """Both paths give the unit back and answer the reservation."""
    drop = await make_drop(http, user)
    held = await reserve(http, drop["id"], user)
    response = await http.delete(f"{base}/reservations/{held['id']}{ending}", headers=as_user(user))
    cancelled = assert_row(assert_success(response, "reservation"), RESERVATION)
    assert cancelled == held | {"status": "CANCELLED", "updatedAt": cancelled["updatedAt"]}
    assert await available_stock(owner, drop["id"]) == 5


async def test_internal_users(http: httpx.AsyncClient, base: str) -> None:
    """Development makes users by name."""
    name = f"älice {uuid4().hex}"
    made = assert_success(await http.post(f"{base}/internal/users", json={"username": name}), "user", 201)
    assert assert_row(made, USER)["username"] == name
    assert_error(await http.post(f"{base}/internal/users", json={"username": name}), 409, "USERNAME_TAKEN")


@pytest.mark.parametrize("content", [None, "{}"])
async def test_expire_now(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str, content: str | None) -> None:
    """Development sweeps on demand, and says how many were due."""
    path = f"{base}/internal/expire-now"
    await http.post(path)
    drop = await make_drop(http, user)
    held = await reserve(http, drop["id"], user)
    state = "select status from inventory.reservations where id = $1"
    assert_success(await http.post(path), "expired")
    assert await owner.fetchval(state, held["id"]) == "ACTIVE"
    await make_due(owner, held["id"])
    assert assert_success(await http.post(path, content=content, headers=JSON), "expired") >= 1  # other tests' run out, too
    assert await owner.fetchval(state, held["id"]) == "EXPIRED"
    assert await available_stock(owner, drop["id"]) == 5


@pytest.mark.parametrize(("path", "status"), [("/healthz", "ok"), ("/readyz", "ready")])
async def test_health(http: httpx.AsyncClient, api_url: str, path: str, status: str) -> None:
    """Liveness and readiness, at the root."""
    assert assert_success(await http.get(f"{api_url}{path}"), "status") == status
    assert_error(await http.get(path), 404, "NOT_FOUND")
