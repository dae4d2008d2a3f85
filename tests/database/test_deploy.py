"""Migrations and function files: applied once, taken back, safe side by side, and never stale."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from lastpair.cli import seed
from lastpair.database.migrate import FUNCTIONS_DIR, SCHEMA_FILE, MigrationFailed, apply_functions, dbmate, migrate, write_schema
from lastpair.settings import InvalidSettings, Settings

SHAPE = """
select 'relation ' || c.oid || ' ' || c.relname || ' ' || c.relfilenode as thing
from pg_class c where c.relnamespace in ('api'::regnamespace, 'inventory'::regnamespace)
union all
select 'function ' || p.oid || ' ' || p.xmin || ' ' || p.oid::regprocedure || ' ' || coalesce(p.proacl::text, '')
from pg_proc p where p.pronamespace in ('api'::regnamespace, 'inventory'::regnamespace)
union all
select 'file ' || path || ' ' || checksum || ' ' || applied_at from inventory.function_files
order by 1
"""
FUNCTION = """
create or replace function inventory.try_out({arguments}) returns {result} language sql as $$ select {value} $$;
"""


@pytest.fixture
async def connection(empty_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a freshly migrated database."""
    await migrate(empty_url)
    connection = await asyncpg.connect(empty_url)
    yield connection
    await connection.close()


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """A copy of the function files to change."""
    return Path(shutil.copytree(FUNCTIONS_DIR, tmp_path / "functions"))


async def _names(connection: asyncpg.Connection) -> list[str]:
    """What there is, without the numbers that differ each time it is made."""
    return sorted(
        re.sub(r"\d+", "", row["thing"]) for row in await connection.fetch(SHAPE) if not row["thing"].startswith("file")
    )


async def _signatures(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "select oid::regprocedure || ' ' || prorettype::regtype from pg_proc where proname = 'try_out' order by 1"
    )
    return [row[0] for row in rows]


async def test_migrating_twice_changes_nothing_and_locks_no_table(empty_url: str, connection: asyncpg.Connection) -> None:
    """The second run gets through while every table is locked by somebody else."""
    before = await connection.fetch(SHAPE)
    async with connection.transaction():
        await connection.execute(
            "lock inventory.users, inventory.drops, inventory.reservations, inventory.purchases, inventory.events,"
            " inventory.changes in access exclusive mode"
        )
        await asyncio.wait_for(migrate(empty_url), timeout=20)
    assert await connection.fetch(SHAPE) == before
    assert len(before) > 50


async def test_migrations_go_down_and_up_again(empty_url: str, connection: asyncpg.Connection) -> None:
    """Rolling back leaves no trace in the database; migrating again gives the same product."""
    before = await _names(connection)
    applied = await connection.fetchval("select count(*) from public.schema_migrations")
    for _ in range(applied):
        await dbmate(empty_url, "rollback")
    assert await connection.fetchval("select count(*) from pg_namespace where nspname in ('api', 'inventory')") == 0
    await migrate(empty_url)
    assert await _names(connection) == before


async def test_the_event_log_goes_down_and_comes_up_working(empty_url: str, connection: asyncpg.Connection) -> None:
    """Without the migration of events what is sold is not announced; with it again, it is."""
    user_id = await connection.fetchval("select id from api.create_user('seller')")
    for _ in range(2):  # the batches' requests came later
        await dbmate(empty_url, "rollback")
    drop_id = await connection.fetchval("select id from api.create_drop('Quiet', 1, 2, $1, now())", user_id)
    await migrate(empty_url)
    assert await connection.fetch("select * from api.events_after(0)") == []
    await connection.execute("select api.reserve($1, $2)", drop_id, user_id)
    assert [event["type"] for event in await connection.fetch("select * from api.events_after(0)")] == ["STOCK_UPDATED"]


async def test_deployments_wait_for_each_other(empty_url: str) -> None:
    """Three processes that start on an empty database at once all come up."""
    await asyncio.gather(*(_migrate_process(empty_url) for _ in range(3)))


async def _migrate_process(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastpair", "migrate"),
        env=os.environ | {"DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_a_changed_signature_replaces_the_old_function(connection: asyncpg.Connection, functions: Path) -> None:
    """Other arguments, another return type, and no more file: each time what was is gone."""
    file = functions / "inventory" / "try_out.sql"
    file.write_text(FUNCTION.format(arguments="p_a integer", result="integer", value="p_a"))
    assert await apply_functions(connection, functions) == ["inventory/try_out.sql"]
    assert await apply_functions(connection, functions) == []
    assert await _signatures(connection) == ["inventory.try_out(integer) integer"]

    file.write_text(FUNCTION.format(arguments="p_a integer, p_b integer", result="integer", value="p_a + p_b"))
    await apply_functions(connection, functions)
    assert await _signatures(connection) == ["inventory.try_out(integer,integer) integer"]

    file.write_text(FUNCTION.format(arguments="p_a integer, p_b integer", result="text", value="'x'"))
    await apply_functions(connection, functions)
    assert await _signatures(connection) == ["inventory.try_out(integer,integer) text"]

    file.write_text(FUNCTION.format(arguments="p_c integer, p_b integer", result="text", value="'renamed'"))
    await apply_functions(connection, functions)
    assert await connection.fetchval("select inventory.try_out(p_c => 1, p_b => 2)") == "renamed"
    public = "select has_function_privilege('public', 'inventory.try_out(integer, integer)', 'execute')"
    assert await connection.fetchval(public) is False

    file.unlink()
    assert await apply_functions(connection, functions) == ["inventory/try_out.sql"]
    assert await _signatures(connection) == []


async def test_a_broken_file_changes_nothing(connection: asyncpg.Connection, functions: Path) -> None:
    """All in one transaction; the message names the file."""
    before = await connection.fetch(SHAPE)
    (functions / "api" / "get_drop.sql").write_text((functions / "api" / "get_drop.sql").read_text() + "-- changed\n")
    (functions / "inventory" / "try_out.sql").write_text("create or replace function inventory.try_out() returns nonsense;")
    with pytest.raises(MigrationFailed, match=r"inventory/try_out\.sql"):
        await apply_functions(connection, functions)
    (functions / "inventory" / "try_out.sql").write_text(
        FUNCTION.replace("try_out", "other").format(arguments="", result="integer", value="1")
    )
    with pytest.raises(MigrationFailed, match="does not define the function it is named after"):
        await apply_functions(connection, functions)
    assert await connection.fetch(SHAPE) == before


def test_schema_file_is_what_dbmate_dumps(tmp_path: Path) -> None:
    """db/schema/schema.sql is not stale; `make schema` writes it."""
    write_schema(tmp_path / "schema.sql")
    assert (tmp_path / "schema.sql").read_text() == SCHEMA_FILE.read_text(), "run make schema"


def test_seed_fills_every_table_and_reset_starts_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a server of its own, through the public functions; seeding twice adds, resetting empties first."""
    settings = Settings.model_validate({"data_dir": tmp_path, "database_url": None, "database_direct_url": None})

    def counts() -> dict[str, int]:
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}

    seed(settings)
    first = counts()
    seed(settings)
    second = counts()
    seed(settings, reset=True)
    assert counts() == first
    assert set(first) == {"users", "drops", "reservations", "purchases"}
    assert min(first.values()) > 0
    assert second["drops"] == 2 * first["drops"]
    assert second["users"] == first["users"]


def test_seeding_is_refused_in_production() -> None:
    """It is a development convenience."""
    with pytest.raises(InvalidSettings, match="APP_ENV"):
        seed(Settings.model_construct(app_env="production"))
