"""Users, drops, holds and sales for tests to work with, and what the database says of them. Ids are text, as on the wire."""

from collections import Counter
from json import dumps
from uuid import uuid4

import asyncpg
import httpx

from tests.support.batch_statements import RESERVE
from tests.support.envelopes import JSON, LONG_AGO, as_user, assert_success
from tests.support.row_checks import Row

Owner = asyncpg.Pool | asyncpg.Connection


async def make_user(owner: Owner) -> str:
    """A new user; returns the id."""
    return str(await owner.fetchval("select id from api.create_user($1)", uuid4().hex))


async def make_users(owner: Owner, count: int) -> list[str]:
    """New users; returns their ids."""
    users = "insert into inventory.users (username) select $1 || n from generate_series(1, $2::integer) n returning id::text"
    return [row["id"] for row in await owner.fetch(users, uuid4().hex, count)]


async def make_drop(http: httpx.AsyncClient, seller: str, **fields: object) -> Row:
    """A new drop, live with five units unless the fields say otherwise."""
    body = {"name": "Air One", "price": 199.9, "total_stock": 5, "starts_at": LONG_AGO} | fields
    response = await http.post("/drops", content=dumps(body), headers=as_user(seller) | JSON)
    drop: Row = assert_success(response, "drop", 201)
    return drop


async def make_drop_by_sql(owner: Owner, total_stock: int, **terms: int) -> str:
    """A new live drop with a seller of its own, and these terms; returns the id."""
    create = "select id::text from api.create_drop('race', 1, $1, $2, now(), p_terms => $3)"
    drop_id: str = await owner.fetchval(create, total_stock, await make_user(owner), dumps(terms))
    return drop_id


async def ask_reserve(http: httpx.AsyncClient, drop_id: str, user: str, body: Row | None = None, **more: str) -> httpx.Response:
    """The answer to a reserve with this body, and with more headers."""
    return await http.post(f"/drops/{drop_id}/reserve", json=body, headers=as_user(user, **more))


async def reserve(http: httpx.AsyncClient, drop_id: str, user: str, body: Row | None = None, **more: str) -> Row:
    """A hold, of one unit unless the body says otherwise."""
    reservation: Row = assert_success(await ask_reserve(http, drop_id, user, body, **more), "reservation", 201)
    return reservation


async def ask_purchase(http: httpx.AsyncClient, drop_id: str, user: str, body: Row | None = None, **more: str) -> httpx.Response:
    """The answer to a purchase with this body, and with more headers."""
    return await http.post(f"/drops/{drop_id}/purchase", json=body, headers=as_user(user, **more))


async def purchase(http: httpx.AsyncClient, drop_id: str, user: str, body: Row | None = None, **more: str) -> Row:
    """What is held, bought."""
    bought: Row = assert_success(await ask_purchase(http, drop_id, user, body, **more), "purchase", 201)
    return bought


async def ask_change(http: httpx.AsyncClient, drop: Row, changes: Row) -> httpx.Response:
    """The answer to a PATCH of the drop by its seller."""
    return await http.patch(f"/drops/{drop['id']}", content=dumps(changes), headers=as_user(drop["created_by"]) | JSON)


async def change(http: httpx.AsyncClient, drop: Row, **changes: object) -> Row:
    """The drop, changed by its seller."""
    changed: Row = assert_success(await ask_change(http, drop, changes), "drop")
    return changed


async def read(http: httpx.AsyncClient, drop: Row) -> Row:
    """The drop as anybody may read it."""
    found: Row = assert_success(await http.get(f"/drops/{drop['id']}"), "drop")
    return found


async def hold(owner: Owner, drop_id: str, users: list[str], ttl_seconds: int = 600) -> dict[str, str]:
    """A hold for each of the users: user id to reservation id."""
    await owner.fetch(RESERVE, drop_id, users, [None] * len(users), ttl_seconds)
    rows = await owner.fetch(
        "select id::text, user_id::text from inventory.reservations"
        " where drop_id = $1 and user_id = any ($2) and status = 'ACTIVE'",
        drop_id,
        users,
    )
    assert len(rows) == len(users)
    return {row["user_id"]: row["id"] for row in rows}


async def make_due(owner: Owner, *reservation_ids: str) -> None:
    """Let these holds run out; nothing has noticed yet."""
    changed = await owner.execute(
        "update inventory.reservations set expires_at = now() - interval '1 second' where id = any ($1)", reservation_ids
    )
    assert changed == f"UPDATE {len(reservation_ids)}"


async def make_some_due(owner: asyncpg.Pool, drop_ids: list[str], limit: int) -> None:
    """Let some holds on these drops run out, but none that another transaction has locked. The drops are locked first."""
    async with owner.acquire() as session, session.transaction():
        await session.execute("select from inventory.drops where id = any ($1) order by id for no key update", drop_ids)
        await session.execute(
            "update inventory.reservations set expires_at = now() where id = any (array("
            "select id from inventory.reservations where status = 'ACTIVE' and drop_id = any ($1)"
            " limit $2 for no key update skip locked))",
            drop_ids,
            limit,
        )


async def available_stock(owner: Owner, drop_id: str) -> int:
    """How many units of the drop are left, as the database knows it."""
    stock: int = await owner.fetchval("select available_stock from api.get_drop($1)", drop_id)
    return stock


async def statuses(owner: Owner, drop_id: str) -> Counter[str]:
    """How many reservations of the drop have each status."""
    rows = await owner.fetch("select status, count(*) as n from inventory.reservations where drop_id = $1 group by 1", drop_id)
    return Counter({row["status"]: row["n"] for row in rows})


async def assert_healthy(owner: Owner) -> None:
    """No invariant is violated anywhere."""
    violations = [tuple(row) for row in await owner.fetch("select * from api.audit()")]
    assert violations == [], violations


async def name_of(owner: Owner, user_id: object) -> str | None:
    """The user's name; None if there is no such user."""
    name: str | None = await owner.fetchval("select username from inventory.users where id = $1", user_id)
    return name


async def drops_on_sale(http: httpx.AsyncClient, base: str = "") -> list[Row]:
    """All drops that GET /drops lists, page after page."""
    drops: list[Row] = []
    cursor = ""
    while True:
        response = await http.get(f"{base}/drops?limit=200{cursor}")
        drops += assert_success(response, "drops")
        if "nextCursor" not in response.json()["meta"]:
            return drops
        cursor = "&cursor=" + response.json()["meta"]["nextCursor"]
