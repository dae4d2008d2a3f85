"""What the HTTP tests share: users and drops to work with, and the envelope and the rows checked to the letter."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from json import dumps, loads
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

Row = dict[str, Any]
Check = Callable[[object], bool]
Owner = asyncpg.Pool | asyncpg.Connection

JSON = {"Content-Type": "application/json"}
DROP_STATUSES = ["draft", "scheduled", "live", "ended", "cancelled"]
RESERVATION_STATUSES = ["ACTIVE", "EXPIRED", "CANCELLED", "CONSUMED"]
PURCHASE_STATUSES = ["pending", "paid", "failed", "cancelled", "refunded"]
LONG_AGO, SOON = "2020-01-01T00:00:00+00:00", "2999-12-31T00:00:00+00:00"


def is_uuid(value: object) -> bool:
    """A UUID as PostgreSQL writes it."""
    return isinstance(value, str) and str(UUID(value)) == value


def is_time(value: object) -> bool:
    """A time in UTC as PostgreSQL writes it in JSON."""
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00", value) is not None


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def is_integer(value: object) -> bool:
    """An integer, and no boolean."""
    return type(value) is int


def is_money(value: object) -> bool:
    """A number with two decimals."""
    return isinstance(value, Decimal) and value.as_tuple().exponent == -2


def optional(check: Check) -> Check:
    """Null, or what the check wants."""
    return lambda value: value is None or check(value)


USER = {"id": is_uuid, "username": is_text, "createdAt": is_time, "updatedAt": is_time}
DROP = {
    "id": is_uuid,
    "name": is_text,
    "price": is_money,
    "total_stock": is_integer,
    "available_stock": is_integer,
    "starts_at": optional(is_time),
    "ends_at": optional(is_time),
    "status": DROP_STATUSES.__contains__,
    "created_by": is_uuid,
    "createdAt": is_time,
    "updatedAt": is_time,
}
LISTED_DROP = DROP | {"activity_feed": lambda feed: isinstance(feed, dict) and list(feed) == ["latest_purchasers", "held_stock"]}
PURCHASER = {"userId": is_uuid, "username": is_text, "qty": is_integer, "createdAt": is_time}
RESERVATION = {
    "id": is_uuid,
    "drop_id": is_uuid,
    "user_id": is_uuid,
    "status": RESERVATION_STATUSES.__contains__,
    "expires_at": is_time,
    "createdAt": is_time,
    "updatedAt": is_time,
}
PURCHASE = {
    "id": is_uuid,
    "drop_id": is_uuid,
    "reservation_id": is_uuid,
    "user_id": is_uuid,
    "qty": is_integer,
    "status": PURCHASE_STATUSES.__contains__,
    "createdAt": is_time,
    "updatedAt": is_time,
}


def assert_row(row: Row, shape: Mapping[str, Check]) -> Row:
    """The row has these fields, no others, and each is of its type."""
    assert list(row) == list(shape)
    wrong = {name: row[name] for name, check in shape.items() if not check(row[name])}
    assert wrong == {}
    return row


def assert_envelope(response: httpx.Response) -> Row:
    """The answer is JSON with the request's id in it; returns all of it."""
    assert response.headers["content-type"] == "application/json", response.text
    body: Row = loads(response.text, parse_float=Decimal)
    assert body["meta"] == {"requestId": response.headers["x-request-id"]}
    return body


def assert_success(response: httpx.Response, name: str, status: int = 200) -> Any:
    """The success envelope exactly, with nothing but `name` in its data; returns that."""
    assert response.status_code == status, response.text
    body = assert_envelope(response)
    assert body == {"success": True, "data": {name: body["data"][name]}, "meta": body["meta"]}
    return body["data"][name]


def assert_error(response: httpx.Response, status: int, code: str) -> str:
    """The error envelope exactly; returns the message."""
    assert response.status_code == status, response.text
    body = assert_envelope(response)
    message: str = body["error"]["message"]
    assert body == {"success": False, "error": {"code": code, "message": message}, "meta": body["meta"]}
    assert re.search(r"\w", message)
    return message


def assert_invalid(response: httpx.Response, field: str) -> str:
    """400 VALIDATION_ERROR whose message begins with the field and goes on with a reason; returns the message."""
    message = assert_error(response, 400, "VALIDATION_ERROR")
    assert re.match(rf"(.*; )?{re.escape(field)}: \w+", message), message
    return message


def as_user(user_id: object, **more: str) -> dict[str, str]:
    """The headers of a user's request; `idempotency_key="k"` adds Idempotency-Key: k."""
    return {"X-User-Id": str(user_id)} | {name.replace("_", "-"): value for name, value in more.items()}


async def make_user(owner: Owner) -> str:
    """A new user; returns the id."""
    return str(await owner.fetchval("select id from api.create_user($1)", uuid4().hex))


async def make_drop(http: httpx.AsyncClient, seller: str, **fields: object) -> Row:
    """A new drop, live with five units unless the fields say otherwise."""
    body = {"name": "Air One", "price": 199.9, "total_stock": 5, "starts_at": LONG_AGO} | fields
    response = await http.post("/drops", content=dumps(body), headers=as_user(seller) | JSON)
    drop: Row = assert_success(response, "drop", 201)
    return drop


async def reserve(http: httpx.AsyncClient, drop_id: str, user: str, **more: str) -> Row:
    """A hold of one unit."""
    response = await http.post(f"/drops/{drop_id}/reserve", headers=as_user(user, **more))
    reservation: Row = assert_success(response, "reservation", 201)
    return reservation


async def purchase(http: httpx.AsyncClient, drop_id: str, user: str, **more: str) -> Row:
    """The unit held, bought."""
    bought: Row = assert_success(await http.post(f"/drops/{drop_id}/purchase", headers=as_user(user, **more)), "purchase", 201)
    return bought


async def make_due(owner: Owner, reservation_id: str) -> None:
    """Let a hold run out; nothing has noticed yet."""
    changed = await owner.execute(
        "update inventory.reservations set expires_at = now() - interval '1 second' where id = $1", UUID(reservation_id)
    )
    assert changed == "UPDATE 1"


async def available_stock(owner: Owner, drop_id: str) -> int:
    """The drop's units to be had, as the database knows them."""
    stock: int = await owner.fetchval("select available_stock from api.get_drop($1)", UUID(drop_id))
    return stock


async def assert_healthy(owner: Owner) -> None:
    """No invariant is violated anywhere."""
    assert await owner.fetch("select * from api.audit()") == []


async def eventually(condition: Callable[[], Awaitable[object]], timeout_seconds: float = 10) -> None:
    """Wait until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
