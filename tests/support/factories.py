"""Users, drops, holds and sales for tests to work with, and what the database says of them."""

from collections import Counter
from json import dumps
from uuid import UUID, uuid4

import asyncpg
import httpx

from tests.support.api import JSON, LONG_AGO, as_user, assert_success
from tests.support.shapes import Row
from tests.support.statements import RESERVE

Owner = asyncpg.Pool | asyncpg.Connection


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


async def make_users(owner: Owner, count: int) -> list[UUID]:
    """That many users."""
    prefix = uuid4().hex
    rows = await owner.fetch(
        "insert into inventory.users (username) select $1 || n from generate_series(1, $2::integer) n returning id", prefix, count
    )
    return [row["id"] for row in rows]


async def make_drop_by_sql(owner: Owner, total_stock: int) -> UUID:
    """A live drop of that many units."""
    [seller] = await make_users(owner, 1)
    drop_id: UUID = await owner.fetchval("select id from api.create_drop('race', 1, $1, $2, now())", total_stock, seller)
    return drop_id


async def hold(owner: Owner, drop_id: UUID, users: list[UUID], ttl_seconds: int = 600) -> dict[UUID, UUID]:
    """A hold for each of the users: user id to reservation id."""
    await owner.fetch(RESERVE, drop_id, users, [None] * len(users), ttl_seconds)
    rows = await owner.fetch("select id, user_id from inventory.reservations where drop_id = $1 and status = 'ACTIVE'", drop_id)
    assert len(rows) == len(users)
    return {row["user_id"]: row["id"] for row in rows}


async def statuses(owner: Owner, drop_id: UUID) -> Counter[str]:
    """How many reservations of the drop have each status."""
    rows = await owner.fetch("select status, count(*) as n from inventory.reservations where drop_id = $1 group by 1", drop_id)
    return Counter({row["status"]: row["n"] for row in rows})


async def name_of(owner: Owner, user_id: UUID) -> str | None:
    """The user's name; None if there is no such user."""
    name: str | None = await owner.fetchval("select username from inventory.users where id = $1", user_id)
    return name
