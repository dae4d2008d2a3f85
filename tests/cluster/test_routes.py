"""Where a router carries out what it is asked for."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from tests.support.database import connected
from tests.support.router import Router


@pytest.fixture
async def service(router: Router) -> AsyncIterator[asyncpg.Connection]:
    async with connected(router.url) as connection:
        await connection.execute("set role lastpair_service")
        yield connection


async def make_user(service: asyncpg.Connection, node: int) -> str:
    user_id = str(uuid4())
    await service.fetch("select * from router.ensure_users($1, array[row($2::uuid, null)]::api.user_request[])", node, user_id)
    return user_id


async def make_drop(service: asyncpg.Connection, node: int, stock: int = 100) -> str:
    user_id = await make_user(service, node)
    return str(
        await service.fetchval(
            f"select id from node_{node}.create_drop('sneaker', 10, $2, $1, now() - interval '1 minute')", user_id, stock
        )
    )


async def test_an_id_says_on_which_node_its_row_is(service: asyncpg.Connection) -> None:
    for node in 0, 1:
        drop_id = await make_drop(service, node)
        assert int(drop_id[21:23], 16) == node
        assert await service.fetchval("select id from api.get_drop($1)", drop_id)
        assert await service.fetchval(f"select id from node_{node}.get_drop($1)", drop_id)


async def test_a_batch_is_carried_out_on_each_node_and_answered_in_its_order(service: asyncpg.Connection) -> None:
    drops = [await make_drop(service, node, stock=2) for node in (0, 1)]
    users = [str(uuid4()) for _ in range(3)]
    for user_id in users:  # each known on node 0 only
        await service.fetch("select * from router.ensure_users(0, array[row($1::uuid, null)]::api.user_request[])", user_id)
    requests = [(drops[n % 2], user_id, None, None, 1) for user_id in users for n in (0, 1)]
    rows = await service.fetch(
        "select n, status, code, data ->> 'drop_id' as drop_id from api.reserve_batch($1::api.reserve_request[])", requests
    )
    assert [row["n"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["status"] for row in rows] == [201, 201, 201, 201, 409, 409]
    assert [row["drop_id"] for row in rows[:4]] == [request[0] for request in requests[:4]]
    mine = await service.fetch("select drop_id::text from api.my_reservations($1)", users[0])
    assert {row["drop_id"] for row in mine} == set(drops)
