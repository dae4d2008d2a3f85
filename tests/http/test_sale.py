"""Selling over HTTP: every refusal with its status and code, Idempotency-Key, and what a user gets to see of it."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from lastpair.web.error_codes import ERRORS
from tests.support.envelopes import LONG_AGO, SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import available_stock, make_drop, make_due, make_user, purchase, reserve
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")

CANCEL_PATHS = ["/reservations/{}", "/reservations/{}/cancel"]
OVER = "2020-01-02T00:00:00Z"

# Steps are separated by commas: a buyer's request and the code it is refused with, if it is; or what is true by then.
SCENARIOS: dict[str, tuple[Row, str]] = {
    "no start": ({"starts_at": None}, "ann reserve DROP_NOT_ACTIVE"),
    "not started": ({"starts_at": SOON}, "ann reserve DROP_NOT_ACTIVE"),
    "a draft": ({"status": "draft"}, "ann reserve DROP_NOT_ACTIVE"),
    "over": ({"ends_at": OVER}, "ann reserve DROP_NOT_ACTIVE"),
    "over, and the sweeper never came": ({"status": "scheduled", "ends_at": OVER}, "ann reserve DROP_NOT_ACTIVE"),
    "ended": ({}, "drop ended, ann reserve DROP_NOT_ACTIVE"),
    "cancelled": ({}, "drop cancelled, ann reserve DROP_NOT_ACTIVE"),
    "a scheduled drop sells from its start": ({"starts_at": LONG_AGO, "status": "scheduled"}, "ann reserve"),
    "a hold outlives the sale": ({}, "ann reserve, drop ended, ann purchase"),
    "every unit is held or sold": (
        {"total_stock": 1},
        "ann reserve, bob reserve OUT_OF_STOCK, ann cancel, bob reserve, bob purchase, ann reserve OUT_OF_STOCK",
    ),
    "a hold that ran out makes room at once": ({"total_stock": 1}, "ann reserve, ann is due, bob reserve, ann is EXPIRED"),
    "one hold at a time": ({}, "ann reserve, ann reserve ALREADY_RESERVED, ann purchase, ann reserve, 3 left"),
    "a hold that ran out is not in the way": ({}, "ann reserve, ann is due, ann reserve, 4 left"),
    "another user's hold": ({}, "bob reserve, ann purchase NO_ACTIVE_RESERVATION"),
    "a hold on another drop": ({}, "ann elsewhere, ann purchase NO_ACTIVE_RESERVATION"),
    "a hold that was cancelled": ({}, "ann reserve, ann cancel, ann purchase NO_ACTIVE_RESERVATION"),
    "a hold that was bought": ({}, "ann reserve, ann purchase, ann purchase NO_ACTIVE_RESERVATION"),
    "purchase of a hold that ran out": (
        {},
        "ann reserve, ann is due, ann purchase RESERVATION_EXPIRED, ann is EXPIRED, 5 left, ann purchase RESERVATION_EXPIRED",
    ),
    "cancel of a hold that ran out": (
        {},
        "ann reserve, ann is due, ann cancel RESERVATION_EXPIRED, ann is EXPIRED, 5 left, ann cancel RESERVATION_EXPIRED",
    ),
    "cancel twice": ({}, "ann reserve, ann cancel, 5 left, ann cancel, 5 left"),
    "cancel of what was bought": ({}, "ann reserve, ann purchase, ann cancel RESERVATION_NOT_ACTIVE"),
}


async def reservation_status(owner: asyncpg.Pool, reservation_id: str) -> str:
    """The status in the database."""
    status: str = await owner.fetchval("select status from inventory.reservations where id = $1", UUID(reservation_id))
    return status


class Sale:
    """A drop and its buyers, who take the steps of a scenario. A buyer is made when first named."""

    def __init__(self, http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, drop: Row, cancel_path: str) -> None:
        self._http = http
        self._owner = owner
        self._seller = seller
        self._drop = drop
        self._cancel_path = cancel_path
        self._buyers: dict[str, str] = {}
        self._held: dict[str, str] = {}

    async def take(self, step: str) -> None:
        """Take one step."""
        match step.split():
            case ["drop", status]:
                await self._http.patch(f"/drops/{self._drop['id']}", json={"status": status}, headers=as_user(self._seller))
            case [count, "left"]:
                assert await available_stock(self._owner, self._drop["id"]) == int(count)
            case [buyer, "is", "due"]:
                await make_due(self._owner, self._held[buyer])
            case [buyer, "is", status]:
                assert await reservation_status(self._owner, self._held[buyer]) == status
            case [buyer, action, *code]:
                response = await self._request(buyer, action)
                if code:
                    assert_error(response, ERRORS[code[0]][0], code[0])
                elif action == "reserve":
                    reservation_id = assert_success(response, "reservation", 201)["id"]
                    assert reservation_id not in self._held.values()
                    self._held[buyer] = reservation_id
                else:
                    assert response.is_success, response.text

    async def _request(self, buyer: str, action: str) -> httpx.Response:
        if buyer not in self._buyers:
            self._buyers[buyer] = await make_user(self._owner)
        headers = as_user(self._buyers[buyer])
        if action == "cancel":
            return await self._http.delete(self._cancel_path.format(self._held[buyer]), headers=headers)
        if action == "elsewhere":
            return await self._http.post(f"/drops/{(await make_drop(self._http, self._seller))['id']}/reserve", headers=headers)
        return await self._http.post(f"/drops/{self._drop['id']}/{action}", headers=headers)


@pytest.mark.parametrize(
    ("name", "cancel_path"),
    [
        (name, path)
        for name, (_, steps) in SCENARIOS.items()
        for path in (CANCEL_PATHS if "cancel" in steps else CANCEL_PATHS[:1])
    ],
)
async def test_scenario(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, name: str, cancel_path: str) -> None:
    """Each step of the scenario succeeds, or is refused with the status and code of the contract."""
    fields, steps = SCENARIOS[name]
    sale = Sale(http, owner, seller, await make_drop(http, seller, **fields), cancel_path)
    for step in steps.split(", "):
        await sale.take(step)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("POST", "/reserve"), ("POST", "/purchase")],
    ids=lambda value: value or "drop",
)
async def test_no_such_drop(http: httpx.AsyncClient, user: str, method: str, path: str) -> None:
    """A drop that does not exist is 404 DROP_NOT_FOUND to every request about it."""
    body = {"name": "B"} if method == "PATCH" else None
    assert_error(await http.request(method, f"/drops/{uuid4()}{path}", json=body, headers=as_user(user)), 404, "DROP_NOT_FOUND")


@pytest.mark.parametrize("cancel_path", CANCEL_PATHS)
async def test_nobody_learns_of_anothers_hold(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, cancel_path: str
) -> None:
    """To cancel another user's hold is refused word for word as if it did not exist; the hold stays."""
    held, other = await reserve(http, drop["id"], user), as_user(await make_user(owner))
    refused, unknown = [
        assert_error(await http.delete(cancel_path.format(given), headers=other), 404, "RESERVATION_NOT_FOUND")
        for given in (held["id"], uuid4())
    ]
    assert refused == unknown
    assert await reservation_status(owner, held["id"]) == "ACTIVE"


async def test_a_user_sees_only_what_is_held_now(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str) -> None:
    """/reservations/me leaves out holds that ran out, were cancelled or bought, and other users'; the newest comes first."""
    drops = [await make_drop(http, user) for _ in range(5)]
    held = [await reserve(http, drop["id"], user) for drop in drops]
    await reserve(http, drops[0]["id"], await make_user(owner))
    await make_due(owner, held[1]["id"])
    await http.delete(f"/reservations/{held[2]['id']}", headers=as_user(user))
    await purchase(http, drops[3]["id"], user)
    mine = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
    assert mine == [held[4], held[0]]


async def test_a_user_sees_every_purchase(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """/purchases/me shows refunded purchases as well, but not other users'; the newest comes first."""
    bought = []
    for buyer in (user, await make_user(owner), user):
        await reserve(http, drop["id"], buyer)
        bought.append(await purchase(http, drop["id"], buyer))
    await owner.fetch("select api.refund_purchase($1)", UUID(bought[0]["id"]))
    mine = assert_success(await http.get("/purchases/me", headers=as_user(user)), "purchases")
    assert [(row["id"], row["status"]) for row in mine] == [(bought[2]["id"], "paid"), (bought[0]["id"], "refunded")]
    assert await available_stock(owner, drop["id"]) == 3


async def test_a_hold_lasts_the_configured_time(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """RESERVATION_TTL_SECONDS is 60 by default."""
    held = await reserve(http, drop["id"], user)
    lasts = datetime.fromisoformat(held["expires_at"]) - datetime.fromisoformat(held["createdAt"])
    assert lasts == timedelta(seconds=60)


# Idempotency-Key


@pytest.mark.parametrize("key", ["k", "~!" * 127 + "x", str(UUID(int=1))])
async def test_a_repeated_key_replays(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, key: str) -> None:
    """A repeated request is 200 with `Idempotency-Replayed: true` and the first answer's row; stock moves once."""
    for action, name in (("reserve", "reservation"), ("purchase", "purchase")):
        answers = [await http.post(f"/drops/{drop['id']}/{action}", headers=as_user(user, idempotency_key=key)) for _ in range(3)]
        first = assert_success(answers[0], name, 201)
        assert "idempotency-replayed" not in answers[0].headers
        for replay in answers[1:]:
            assert assert_success(replay, name) == first
            assert replay.headers["idempotency-replayed"] == "true"
    assert await available_stock(owner, drop["id"]) == 4
    assert await owner.fetchval("select count(*) from inventory.purchases where drop_id = $1", UUID(drop["id"])) == 1


async def assert_replayed(http: httpx.AsyncClient, drop: Row, user: str, action: str, row: Row, status: str) -> None:
    """The repeated request with the key `k` answers the same row, which has this status by now."""
    response = await http.post(f"/drops/{drop['id']}/{action}", headers=as_user(user, idempotency_key="k"))
    replayed = assert_success(response, "reservation" if action == "reserve" else "purchase")
    changed = {"status": status, "updatedAt": replayed["updatedAt"]}
    if status == "refunded":
        changed |= {"refunded_amount": row["amount"], "refunded_at": replayed["updatedAt"], "refunded_qty": row["qty"]}
    assert replayed == row | changed


async def test_a_replay_answers_the_row_as_it_is_now(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str, drop: Row
) -> None:
    """A replay shows the current status of a row, even when its drop is cancelled by now."""
    held = await reserve(http, drop["id"], user, idempotency_key="k")
    bought = await purchase(http, drop["id"], user, idempotency_key="k")
    await owner.fetch("select api.refund_purchase($1)", UUID(bought["id"]))
    await http.patch(f"/drops/{drop['id']}", json={"status": "cancelled"}, headers=as_user(seller))
    await assert_replayed(http, drop, user, "reserve", held, "CONSUMED")
    await assert_replayed(http, drop, user, "purchase", bought, "refunded")


async def test_a_replay_of_a_cancelled_hold_does_not_hold_again(http: httpx.AsyncClient, user: str, drop: Row) -> None:
    """The key of a cancelled hold is spent; another key gets a new unit."""
    held = await reserve(http, drop["id"], user, idempotency_key="k")
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    await assert_replayed(http, drop, user, "reserve", held, "CANCELLED")
    assert (await reserve(http, drop["id"], user, idempotency_key="k2"))["id"] != held["id"]


async def test_a_key_belongs_to_a_user_and_a_drop(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row) -> None:
    """Another user may use the same key, and the same user on another drop."""
    other, elsewhere = await make_user(owner), await make_drop(http, user)
    pairs = [(drop["id"], user), (drop["id"], other), (elsewhere["id"], user)]
    held = [(await reserve(http, drop_id, buyer, idempotency_key="same"))["id"] for drop_id, buyer in pairs]
    assert len(set(held)) == 3
    for (drop_id, buyer), reservation_id in zip(pairs[:2], held, strict=False):
        assert (await purchase(http, drop_id, buyer, idempotency_key="same"))["reservation_id"] == reservation_id


async def test_a_refusal_does_not_spend_the_key(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str) -> None:
    """A request that was refused may succeed later under the same key."""
    drop, other = await make_drop(http, seller, total_stock=1), await make_user(owner)
    held = await reserve(http, drop["id"], user)
    for action, code in (("reserve", "OUT_OF_STOCK"), ("purchase", "NO_ACTIVE_RESERVATION")):
        response = await http.post(f"/drops/{drop['id']}/{action}", headers=as_user(other, idempotency_key="k"))
        assert_error(response, 409, code)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    await reserve(http, drop["id"], other, idempotency_key="k")
    await purchase(http, drop["id"], other, idempotency_key="k")


@pytest.mark.parametrize("action", ["reserve", "purchase"])
@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", b"a\tb", b"caf\xc3\xa9", b"\xff"], ids=lambda key: repr(key)[:9])
async def test_bad_keys(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, action: str, key: bytes) -> None:
    """A key that is empty, too long or not visible ASCII is a 400 naming the header; nothing is held or bought."""
    held = await reserve(http, drop["id"], user) if action == "purchase" else None
    headers = [(b"X-User-Id", user.encode()), (b"Idempotency-Key", key)]
    assert_invalid(await http.post(f"/drops/{drop['id']}/{action}", headers=headers), "Idempotency-Key")
    assert await available_stock(owner, drop["id"]) == (4 if held else 5)
    assert held is None or await reservation_status(owner, held["id"]) == "ACTIVE"
