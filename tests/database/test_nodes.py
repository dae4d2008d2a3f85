"""What makes a database a node: its number, which every id carries, and calls for a router, which leave nothing in a session."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from lastpair.database.embedded import BIN_DIR
from lastpair.database.migrate import migrate, roll_back
from tests.support.database import Database, another_database, connected
from tests.support.waiting import eventually

NODES_OF_NEW_IDS = "select array[inventory.node_of(inventory.uuid_v7()), inventory.node_of((inventory.new_ids(2))[2])]"
MAKE_DROP = "select inventory.node_of(id) from api.create_drop('Air One', 1, 10, $1, now())"
NODES_VERSION = "20261130040000"


@pytest.fixture
async def other(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A second session with the database."""
    async with connected(migrated_url) as session:
        yield session


@pytest.fixture
async def user_id(session: asyncpg.Connection) -> UUID:
    """A user who makes drops."""
    user_id: UUID = await session.fetchval("select id from api.ensure_user(gen_random_uuid())")
    return user_id


async def until_it_waits(url: str, session: asyncpg.Connection) -> None:
    """Wait until the session waits for a lock."""
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    async with connected(url) as observer:
        await eventually(lambda: observer.fetchval(query, session.get_server_pid()), timeout_seconds=60)


async def test_what_other_sessions_have_planned(session: asyncpg.Connection, other: asyncpg.Connection, user_id: UUID) -> None:
    """They plan anew once the number is set."""
    statement = await other.prepare(NODES_OF_NEW_IDS)
    for _ in range(7):  # after five calls PostgreSQL keeps a plan
        assert await statement.fetchval() == [0, 0]
        transaction = other.transaction()
        await transaction.start()
        assert await other.fetchval(MAKE_DROP, user_id) == 0
        await transaction.rollback()
    await session.execute("select inventory.set_node(171)")
    assert await statement.fetchval() == [171, 171]
    assert await other.fetchval(MAKE_DROP, user_id) == 171


async def test_a_drop_that_is_being_made(
    migrated_url: str, session: asyncpg.Connection, other: asyncpg.Connection, user_id: UUID
) -> None:
    """The number waits for its transaction, finds the drop, and stays as it is."""
    async with other.transaction():
        assert await other.fetchval(MAKE_DROP, user_id) == 0
        setting = asyncio.create_task(session.execute("select inventory.set_node(171)"))
        await until_it_waits(migrated_url, session)
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="this database is node 0 and has drops"):
        await setting
    assert await session.fetchval(NODES_OF_NEW_IDS) == [0, 0]


async def test_a_drop_that_is_made_while_the_number_is_set(
    migrated_url: str, session: asyncpg.Connection, other: asyncpg.Connection, user_id: UUID
) -> None:
    """It waits, and has the new number; if the number is not set after all, the old one."""
    for number in (171, 172):
        transaction = session.transaction()
        await transaction.start()
        await session.execute("select inventory.set_node($1)", number)
        making = asyncio.create_task(other.fetchval(MAKE_DROP, user_id))
        await until_it_waits(migrated_url, other)
        await (transaction.commit() if number == 172 else transaction.rollback())
        assert await making == (172 if number == 172 else 0)
        await session.execute("delete from inventory.drops")


async def test_a_deployment_keeps_the_number(migrated_url: str, session: asyncpg.Connection) -> None:
    """Also one that applies every function again. Going back to the version before takes the number out of new ids."""
    await session.execute("select inventory.set_node(171)")
    await session.execute("delete from inventory.function_files")
    await migrate(migrated_url)
    assert await session.fetchval(NODES_OF_NEW_IDS) == [171, 171]
    while await session.fetchval("select max(version) from schema_migrations") >= NODES_VERSION:
        await roll_back(migrated_url)
    rows = await session.fetch("select get_byte(uuid_send(inventory.uuid_v7()), 9) as byte from generate_series(1, 100)")
    assert len({row["byte"] for row in rows}) > 1
    await migrate(migrated_url)
    async with connected(migrated_url) as again:
        assert await again.fetchval(NODES_OF_NEW_IDS) == [0, 0]


async def test_a_call_leaves_nothing_in_a_session(database: Database, owner: asyncpg.Pool) -> None:
    """After a call, a refusal and an error the session is what it was, and works on; what was refused is undone."""
    settings = "select current_user::text, current_setting('role'), coalesce(current_setting('request.jwt.claims', true), '')"
    seller: UUID = await owner.fetchval("select id from api.ensure_user(gen_random_uuid())")
    claims = json.dumps({"sub": str(seller)})
    drop = {"p_name": "Air", "p_price": 1, "p_total_stock": 1, "p_created_by": str(seller), "p_idempotency_key": "k"}
    session = await asyncpg.connect(database.service_url)
    try:
        before = tuple(await session.fetchrow(settings))
        for status, change in ((400, {"p_status": "ended"}), (200, {}), (422, {"p_price": 2})):
            arguments = json.dumps(drop | change)
            answer = await session.fetchrow(
                "select * from api.call($1, $2, $3, $4)", "lastpair_seller", claims, "create_drop", arguments
            )
            assert (answer["status"], answer["rows"] is None) == (status, status != 200)
            assert tuple(await session.fetchrow(settings)) == before
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for function audit"):
            await session.execute("select api.call('lastpair_buyer', '', 'audit', '{}')")
        assert tuple(await session.fetchrow(settings)) == before
    finally:
        await session.close()
    assert await owner.fetchval("select count(*) from inventory.drops where created_by = $1", seller) == 1


async def test_a_dump_keeps_the_number(
    database: Database, tmp_path: Path, migrated_url: str, session: asyncpg.Connection
) -> None:
    """A database that is restored from it is the same node."""
    assert BIN_DIR is not None
    await session.execute("select inventory.set_node(171)")
    dump = tmp_path / "dump"
    subprocess.run([BIN_DIR / "pg_dump", "--format=custom", f"--file={dump}", migrated_url], check=True)
    async with another_database(database) as url:
        subprocess.run([BIN_DIR / "pg_restore", f"--dbname={url}", dump], check=True)
        async with connected(url) as restored:
            assert await restored.fetchval(NODES_OF_NEW_IDS) == [171, 171]
