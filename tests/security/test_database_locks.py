"""A role that may connect and has no other right can stop neither sales nor deployments."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest

from lastpair.database import migrate as migrations
from lastpair.database.migrate import DB_DIR, FUNCTIONS_DIR, MigrationFailed, apply_functions, migrate, roll_back
from tests.support.database import Database, connected
from tests.support.factories import make_drop_by_sql, make_user, make_users
from tests.support.servers import ROOT
from tests.support.waiting import eventually

TABLE = "lock table inventory.event_order in share update exclusive mode"
HOLD_MIGRATIONS = "lock table public.schema_migrations in share update exclusive mode"
ADVISORY_LOCKS = ["inventory_events", 0x6C617374, 48372615]
"""The locks of 0.1: that of events (the oid of the log), that of function files, and dbmate's."""


@pytest.fixture
def stranger(database: Database) -> Iterator[str]:
    """A role without rights."""
    name = f"stranger_{uuid4().hex[:12]}"
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(f"create role {name}".encode())
        yield name
        superuser.execute(f"drop role {name}".encode())


@pytest.fixture
async def session(database: Database, migrated_url: str, stranger: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of that role with a database of the test's own."""
    url = urlsplit(database.superuser_url)._replace(path=urlsplit(migrated_url).path)
    async with connected(urlunsplit(url)) as connection:
        oid = await connection.fetchval("select 'inventory.events'::regclass::oid::bigint")
        await connection.execute(f"set session authorization {stranger}")
        for lock in ADVISORY_LOCKS:
            await connection.execute("select pg_advisory_lock($1)", oid if lock == "inventory_events" else lock)
        yield connection


async def test_a_stranger_with_all_advisory_locks(migrated_url: str, session: asyncpg.Connection) -> None:
    """Sales, migrations and function files go on."""
    async with connected(migrated_url) as owner:
        assert await owner.fetchval("select count(*) from pg_locks where locktype = 'advisory' and granted") == 3
        await owner.execute("set lock_timeout = '2s'")
        drop_id, user = await make_drop_by_sql(owner, 5), UUID(await make_user(owner))
        await owner.execute("select api.reserve($1, $2)", drop_id, user)
        await owner.execute("delete from inventory.function_files where path = 'api/errors.sql'")
        async with asyncio.timeout(60):
            assert await migrate(migrated_url) == "Functions: 1 applied"
        await owner.execute("delete from inventory.function_files where path = 'api/errors.sql'")
        assert await apply_functions(owner, FUNCTIONS_DIR) == ["api/errors.sql"]
        await owner.execute("select api.purchase($1, $2)", drop_id, user)


@pytest.mark.parametrize("table", ["inventory.event_order", "inventory.changes", "public.schema_migrations"])
async def test_a_stranger_locks_no_table(session: asyncpg.Connection, table: str) -> None:
    """Not in the weakest mode either."""
    for mode in ("access share", "share update exclusive", "access exclusive"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.execute(f"begin; lock table {table} in {mode} mode")
        await session.execute("rollback")


async def test_a_deployment_names_the_session_that_it_waits_for(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up after a while and has changed nothing; when the session is gone, it succeeds."""
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_SECONDS", 1)
    async with connected(migrated_url) as holder:
        await holder.execute("set application_name = 'a forgotten psql'")
        async with holder.transaction():
            await holder.execute(HOLD_MIGRATIONS)
            pid = holder.get_server_pid()
            with pytest.raises(
                MigrationFailed, match=rf"pid {pid}, .*'a forgotten psql'.*idle in transaction since \d{{4}}-"
            ) as failed:
                await migrate(migrated_url)
            assert "\n" not in str(failed.value)
    assert await migrate(migrated_url) is None


SLOW_LOCK = """
-- migrate:up
set local lock_timeout = '700ms';
alter table inventory.changes add column tried integer;
-- migrate:down
set local lock_timeout = '700ms';
alter table inventory.changes drop column tried;
"""


async def test_a_migration_names_the_sessions_that_hold_its_lock(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Forwards and backwards, and although the URL names the application. Who holds other locks is not named."""
    shutil.copytree(DB_DIR / "migrations", tmp_path / "migrations")
    (tmp_path / "migrations" / "20991231000000_slow_lock.sql").write_text(SLOW_LOCK)
    monkeypatch.setattr(migrations, "DB_DIR", tmp_path)
    url = f"{migrated_url}{'&' if '?' in migrated_url else '?'}application_name=a+deployment"
    async with connected(migrated_url) as holder, connected(migrated_url) as second, connected(migrated_url) as other:
        await holder.execute("set application_name = 'a forgotten psql'")
        for change in (migrate, roll_back):
            await holder.execute("begin; select from inventory.changes")
            await second.execute("begin; lock table inventory.changes in row exclusive mode")
            await other.execute("begin; select from inventory.drops; select from public.schema_migrations")
            named = rf"pid {holder.get_server_pid()}, application_name 'a forgotten psql', .*idle in transaction since \d{{4}}-"
            with pytest.raises(MigrationFailed, match=rf"lock timeout; it waited for {named}") as failed:
                await change(url)
            assert f"pid {second.get_server_pid()}, " in str(failed.value)
            assert f"pid {other.get_server_pid()}, " not in str(failed.value)
            for session in (holder, second, other):
                await session.execute("rollback")
            await change(url)


async def test_function_files_name_the_session_that_they_wait_for(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not wait for ever."""
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_SECONDS", 1)
    async with connected(migrated_url) as holder:
        change = "update inventory.function_files set checksum = '' where path = 'api/errors.sql'"
        await holder.execute(change)
        async with holder.transaction(), asyncio.timeout(60):
            await holder.execute(change)
            with pytest.raises(MigrationFailed, match=rf"lock timeout; it waited for pid {holder.get_server_pid()}, "):
                await migrate(migrated_url)
    assert await migrate(migrated_url) == "Functions: 1 applied"


async def test_a_failed_deployment_lets_the_next_one_begin(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock ends with the deployment, whatever its end."""

    async def fail(*_: object, **__: object) -> None:
        raise MigrationFailed("it did not")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "apply_functions", fail)
        with pytest.raises(MigrationFailed, match="it did not"):
            await migrate(migrated_url)
    async with asyncio.timeout(60):
        assert await migrate(migrated_url) is None


def test_the_product_takes_no_advisory_lock() -> None:
    """Any role that may connect can take one. Only the comment of the migration that did away with them names it."""
    files = [*(ROOT / "app").rglob("*.py"), *(DB_DIR / "functions").rglob("*.sql"), *(DB_DIR / "recipes").rglob("*.sql")]
    assert len(files) > 50
    assert [file for file in files if re.search(r"advisory_(xact_)?lock|migration-lock", file.read_text())] == []


OLD_BODY = "perform pg_advisory_xact_lock('inventory.events'::regclass::oid::bigint);\n  with taken as ("


PUBLISH_CHANGES = (FUNCTIONS_DIR / "inventory" / "publish_changes.sql").read_text()
BODIES = {"new": PUBLISH_CHANGES, "old": PUBLISH_CHANGES.replace("with taken as (", OLD_BODY)}
MIGRATIONS = [
    (DB_DIR / "migrations" / f"{name}.sql").read_text().split("-- migrate:down")
    for name in ("20261128190011_event_order", "20261130061000_one_trigger_announces")
]
UP, DOWN = "".join(up for up, _ in MIGRATIONS), "".join(down for _, down in reversed(MIGRATIONS))
WAITING = "select count(*) from pg_locks where not granted and pid = $1"


@pytest.mark.parametrize(("first", "second"), [("old", "new"), ("new", "old"), ("new", "new")])
async def test_a_transaction_of_another_version_has_drawn_ids(migrated_url: str, first: str, second: str) -> None:
    """The function of the other version waits for it, although it takes another lock itself."""
    async with connected(migrated_url) as owner, connected(migrated_url) as early, connected(migrated_url) as late:
        users, drops = await make_users(owner, 2), [await make_drop_by_sql(owner, 5) for _ in range(2)]
        await owner.execute(BODIES[first])
        await early.execute("begin")
        await early.execute("select api.reserve($1, $2)", drops[0], UUID(users[0]))
        await early.execute("set constraints all immediate")
        await owner.execute(BODIES[second])
        waits = asyncio.create_task(late.execute("select api.reserve($1, $2)", drops[1], UUID(users[1])))
        await eventually(lambda: owner.fetchval(WAITING, late.get_server_pid()))
        await early.execute("commit")
        await waits


async def test_the_migration_waits_for_transactions_without_its_trigger(migrated_url: str) -> None:
    """Those that noted a change before the trigger was there have ended when it is."""
    async with connected(migrated_url) as owner, connected(migrated_url) as early, connected(migrated_url) as migration:
        [user], drop_id = await make_users(owner, 1), await make_drop_by_sql(owner, 5)
        await owner.execute(DOWN)
        await owner.execute(BODIES["old"])
        await early.execute("begin")
        await early.execute("select api.reserve($1, $2)", drop_id, UUID(user))
        waits = asyncio.create_task(migration.execute(UP))
        await eventually(lambda: owner.fetchval(WAITING, migration.get_server_pid()))
        await early.execute("commit")
        await waits


@pytest.mark.parametrize("with_migration", [False, True])
@pytest.mark.slow
async def test_events_are_in_order_while_deployments_change_the_lock(migrated_url: str, with_migration: bool) -> None:
    """Sessions commit all the time while the function, old and new, and the trigger come and go: no id appears late.

    The old function takes an advisory lock and the new one none; the trigger of the migration holds the two together.
    """
    selling, reading, sold = True, True, 0

    async def sell(drop_id: UUID, user: str) -> None:
        nonlocal sold
        async with connected(migrated_url) as buyer:
            while selling:
                reservation_id = await buyer.fetchval("select id from api.reserve($1, $2)", drop_id, UUID(user))
                await buyer.execute("select api.cancel_reservation($1, $2)", reservation_id, UUID(user))
                sold += 2

    async def read() -> list[int]:
        seen = [0]
        async with connected(migrated_url) as reader:
            while reading or seen[-1] < await reader.fetchval("select max(id) from inventory.events"):
                rows = await reader.fetch("select id from inventory.events where id > $1 order by id", seen[-1])
                seen += [row["id"] for row in rows]
        return seen[1:]

    async with connected(migrated_url) as owner:
        users = await make_users(owner, 12)
        drops = [await make_drop_by_sql(owner, 5) for _ in users]
        sellers = [asyncio.create_task(sell(*pair)) for pair in zip(drops, users, strict=True)]
        readers = [asyncio.create_task(read()) for _ in range(2)]
        try:
            for n in range(10):
                await owner.execute(BODIES["old" if n % 2 == 0 else "new"])
                if with_migration and n % 2 == 0:
                    async with owner.transaction():
                        await owner.execute(DOWN)
                    await asyncio.sleep(0.02)
                    async with owner.transaction():
                        await owner.execute(UP)
                until = sold + 100
                while sold < until:
                    await asyncio.sleep(0.01)
                    assert not any(seller.done() for seller in sellers)
        finally:
            selling = False
        await asyncio.gather(*sellers)
        reading = False
        logged = [row["id"] for row in await owner.fetch("select id from inventory.events order by id")]
        for reader in readers:
            assert await reader == logged
        assert len(logged) > 1000
