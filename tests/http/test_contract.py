"""The endpoint table of the HTTP API, to the letter: statuses, envelopes, fields and their types, on both base paths."""

from decimal import Decimal
from json import dumps
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lastpair import __version__
from tests.support.envelopes import JSON, LONG_AGO, SOON, as_user, assert_envelope, assert_error, assert_success
from tests.support.factories import available_stock, drops_on_sale, make_drop, make_due, make_user, purchase, reserve
from tests.support.row_checks import DROP, DROP_STATUSES, LISTED_DROP, PURCHASE, PURCHASER, RESERVATION, USER, Row, assert_row

pytestmark = pytest.mark.usefixtures("healthy")

EARLIER = "2021-01-01T00:00:00+00:00"


@pytest.fixture(params=["", "/v1"], ids=["api", "api-v1"])
def base(request: pytest.FixtureRequest) -> str:
    """Each of the base paths, relative to /api."""
    path: str = request.param
    return path


async def patch(http: httpx.AsyncClient, drop: Row, changes: Row, base: str = "") -> httpx.Response:
    """The answer to a change of the drop by the user who made it."""
    return await http.patch(f"{base}/drops/{drop['id']}", json=changes, headers=as_user(drop["created_by"]))


async def listed_drop(http: httpx.AsyncClient, drop: Row, base: str = "") -> Row:
    """The drop as the list shows it."""
    [listed] = [row for row in await drops_on_sale(http, base) if row["id"] == drop["id"]]
    return assert_row(listed, LISTED_DROP)


# Drops


@pytest.mark.parametrize(
    ("sent", "unsent"),
    [
        (
            {"name": "Åir ✨ One", "price": 199.9, "total_stock": 3, "starts_at": SOON, "ends_at": None, "status": "scheduled"},
            {},
        ),
        ({"name": "Air", "price": 0, "total_stock": 1}, {"status": "draft", "starts_at": None, "ends_at": None}),
    ],
    ids=["every field", "the fewest fields"],
)
async def test_create_a_drop(http: httpx.AsyncClient, base: str, user: str, sent: Row, unsent: Row) -> None:
    """The answer has the fields that were sent, the others' defaults, and all of the stock available."""
    drop = assert_success(await http.post(f"{base}/drops", content=dumps(sent), headers=as_user(user) | JSON), "drop", 201)
    made = {"price": Decimal(str(sent["price"])), "available_stock": sent["total_stock"], "created_by": user}
    assert assert_row(drop, DROP) == drop | sent | unsent | made


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"starts_at": None}, "draft"),
        ({"starts_at": LONG_AGO}, "live"),
        ({"starts_at": SOON}, "scheduled"),
        ({"starts_at": LONG_AGO, "status": None}, "live"),
        ({"starts_at": LONG_AGO, "status": "draft"}, "draft"),
        ({"starts_at": LONG_AGO, "status": "scheduled"}, "live"),
        ({"starts_at": None, "status": "live"}, "live"),
    ],
)
async def test_the_times_decide_the_status(http: httpx.AsyncClient, user: str, fields: Row, status: str) -> None:
    """Without a status the start decides it. A drop that is made live without a start starts now. Once started it is live."""
    drop = await make_drop(http, user, **fields)
    start = drop["createdAt"] if fields == {"starts_at": None, "status": "live"} else fields["starts_at"]
    assert (drop["status"], drop["starts_at"]) == (status, start)


async def test_the_list_holds_what_is_on_sale(http: httpx.AsyncClient, base: str, user: str) -> None:
    """The list has drops that have started and not ended, by their times and not only by their status; sold out is on sale."""
    on_sale: list[Row] = [{}, {"ends_at": SOON}, {"status": "scheduled"}, {"total_stock": 1}]
    others: list[Row] = [{"starts_at": None}, {"starts_at": SOON}, {"status": "draft"}, {"ends_at": "2020-01-02T00:00:00Z"}]
    made = [await make_drop(http, user, **fields) for fields in [*on_sale, *others, {}, {}]]
    await reserve(http, made[3]["id"], user)
    for drop, status in zip(made[-2:], ["ended", "cancelled"], strict=True):
        await patch(http, drop, {"status": status})
    ids = {drop["id"] for drop in made}
    listed = [assert_row(drop, LISTED_DROP)["id"] for drop in await drops_on_sale(http, base) if drop["id"] in ids]
    assert set(listed) == {drop["id"] for drop in made[:4]}


async def test_the_activity_feed(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str) -> None:
    """A listed drop shows its three latest purchasers, newest first, without refunded purchases, and counts what is held."""
    drop = await make_drop(http, user, total_stock=9)
    assert await listed_drop(http, drop, base) == drop | {"activity_feed": {"latest_purchasers": [], "held_stock": 0}}
    buyers = [await make_user(owner) for _ in range(5)]
    bought = []
    for buyer in buyers:
        await reserve(http, drop["id"], buyer)
        bought.append(await purchase(http, drop["id"], buyer))
    await reserve(http, drop["id"], user)
    await owner.fetch("select api.refund_purchase($1)", bought[-1]["id"])
    listed = await listed_drop(http, drop, base)
    feed = [assert_row(purchaser, PURCHASER) for purchaser in listed["activity_feed"]["latest_purchasers"]]
    names = [await owner.fetchval("select username from inventory.users where id = $1", buyer) for buyer in buyers]
    expected = [(buyers[n], names[n], 1, bought[n]["createdAt"]) for n in (3, 2, 1)]
    assert [tuple(purchaser.values()) for purchaser in feed] == expected
    assert (listed["total_stock"], listed["available_stock"], listed["activity_feed"]["held_stock"]) == (9, 4, 1)


@pytest.mark.parametrize("status", DROP_STATUSES)
async def test_a_drop_of_any_status_can_be_read(http: httpx.AsyncClient, base: str, user: str, status: str) -> None:
    """GET /drops/{dropId} needs no user but for a draft. It shows what the last write answered; the id may be in upper case."""
    drop = await make_drop(http, user, starts_at={"draft": None, "scheduled": SOON}.get(status, LONG_AGO))
    if status in ("ended", "cancelled"):
        drop = assert_success(await patch(http, drop, {"status": status}, base), "drop")
    assert assert_row(drop, DROP)["status"] == status
    for drop_id in (drop["id"], drop["id"].upper()):
        headers = as_user(user) if status == "draft" else {}
        assert assert_success(await http.get(f"{base}/drops/{drop_id}", headers=headers), "drop") == drop


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "B"},
        {"price": 2.5},
        {"total_stock": 9},
        {"starts_at": EARLIER},
        {"ends_at": SOON},
        {"ends_at": None},
        {"status": "ended", "ends_at": EARLIER},
        {"name": "B", "price": 0, "total_stock": 1, "starts_at": EARLIER, "ends_at": SOON, "status": "live"},
    ],
    ids="-".join,
)
async def test_patch_changes_what_it_names(http: httpx.AsyncClient, base: str, user: str, changes: Row) -> None:
    """PATCH changes the fields it names, updatedAt, and with total_stock available_stock; it leaves all others alone."""
    drop = await make_drop(http, user, ends_at="2998-01-01T00:00:00Z")
    changed = assert_success(await patch(http, drop, changes, base), "drop")
    expected = drop | changes | {"updatedAt": changed["updatedAt"], "available_stock": changes.get("total_stock", 5)}
    assert assert_row(changed, DROP) == expected | {"price": Decimal(str(expected["price"])), "revision": drop["revision"] + 1}
    assert changed["updatedAt"] > drop["updatedAt"]
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == changed


async def test_stock_that_is_held_and_sold(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """Stock can be lowered to what is held and sold, and no further. To cancel the drop releases what is held and not sold."""
    drop, buyer = await make_drop(http, user), await make_user(owner)
    for holder in (user, buyer):
        await reserve(http, drop["id"], holder)
    await purchase(http, drop["id"], buyer)
    lowered = assert_success(await patch(http, drop, {"total_stock": 2}), "drop")
    assert (lowered["total_stock"], lowered["available_stock"]) == (2, 0)
    assert "2 units" in assert_error(await patch(http, drop, {"total_stock": 1}), 409, "STOCK_BELOW_COMMITTED")
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == lowered
    assert assert_success(await patch(http, drop, {"status": "cancelled"}), "drop")["available_stock"] == 1
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
    ids=DROP_STATUSES,
)
async def test_moves_of_status(http: httpx.AsyncClient, user: str, moves: list[str], legal: set[str]) -> None:
    """A legal move is made; any other is 409 INVALID_STATUS_CHANGE naming both ends. A drop may always stay where it is."""
    for status in DROP_STATUSES:
        drop = await make_drop(http, user, starts_at=SOON, status="draft")
        for move in moves:
            drop = assert_success(await patch(http, drop, {"status": move}), "drop")
            assert drop["status"] == move
        response = await patch(http, drop, {"status": status})
        if status in legal:
            assert assert_success(response, "drop")["status"] == status
        else:
            message = assert_error(response, 409, "INVALID_STATUS_CHANGE")
            assert {drop["status"], status} <= set(message.replace(".", "").split()), message
            read = await http.get("/drops/" + drop["id"], headers=as_user(user))
            assert assert_success(read, "drop") == drop


# Reservations and purchases


async def test_reserve_and_purchase(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """One unit is held and then bought, as the answers, both lists of the user and the stock show. Ids may be in upper case."""

    async def mine(name: str) -> list[Row]:
        rows: list[Row] = assert_success(await http.get(f"{base}/{name}/me", headers=as_user(user)), name)
        return rows

    response = await http.post(f"{base}/drops/{drop['id'].upper()}/reserve", headers=as_user(user.upper()))
    held = assert_row(assert_success(response, "reservation", 201), RESERVATION)
    assert "idempotency-replayed" not in response.headers
    assert (held["drop_id"], held["user_id"], held["status"]) == (drop["id"], user, "ACTIVE")
    assert (await mine("reservations"), await mine("purchases")) == ([held], [])

    response = await http.post(f"{base}/drops/{drop['id']}/purchase", headers=as_user(user))
    bought = assert_row(assert_success(response, "purchase", 201), PURCHASE)
    assert bought == bought | {"drop_id": drop["id"], "reservation_id": held["id"], "user_id": user, "qty": 1, "status": "paid"}
    assert (await mine("reservations"), await mine("purchases")) == ([], [bought])
    assert await available_stock(owner, drop["id"]) == 4


@pytest.mark.parametrize("ending", ["", "/cancel"])
async def test_cancel(http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str, drop: Row, ending: str) -> None:
    """Both paths give the unit back and answer the reservation."""
    held = await reserve(http, drop["id"], user)
    response = await http.delete(f"{base}/reservations/{held['id']}{ending}", headers=as_user(user))
    cancelled = assert_row(assert_success(response, "reservation"), RESERVATION)
    assert cancelled == held | {"status": "CANCELLED", "updatedAt": cancelled["updatedAt"]}
    assert await available_stock(owner, drop["id"]) == 5


# Development and operations


async def test_internal_users(http: httpx.AsyncClient, base: str) -> None:
    """In development /internal/users makes a user by name, if the name is free."""
    name = f"älice {uuid4().hex}"
    made = assert_success(await http.post(f"{base}/internal/users", json={"username": name}), "user", 201)
    assert assert_row(made, USER)["username"] == name
    assert_error(await http.post(f"{base}/internal/users", json={"username": name}), 409, "USERNAME_TAKEN")


@pytest.mark.parametrize("content", [None, "{}"])
async def test_expire_now(
    http: httpx.AsyncClient, base: str, owner: asyncpg.Pool, user: str, drop: Row, content: str | None
) -> None:
    """In development /internal/expire-now takes back the holds that are due, and only those, and answers their number."""
    path = f"{base}/internal/expire-now"
    held = await reserve(http, drop["id"], user)
    state = "select status from inventory.reservations where id = $1"
    assert_success(await http.post(path), "expired")
    assert await owner.fetchval(state, held["id"]) == "ACTIVE"
    await make_due(owner, held["id"])
    assert assert_success(await http.post(path, content=content, headers=JSON), "expired") >= 1  # other tests' run out, too
    assert await owner.fetchval(state, held["id"]) == "EXPIRED"
    assert await available_stock(owner, drop["id"]) == 5


@pytest.mark.parametrize(
    ("path", "data"), [("/healthz", {"status": "ok", "version": __version__}), ("/readyz", {"status": "ready"})]
)
async def test_health(http: httpx.AsyncClient, api_url: str, path: str, data: Row) -> None:
    """Liveness and readiness are at the root, and not under /api."""
    response = await http.get(f"{api_url}{path}")
    body = assert_envelope(response)
    assert (response.status_code, body) == (200, {"success": True, "data": data, "meta": body["meta"]})
    assert_error(await http.get(path), 404, "NOT_FOUND")
