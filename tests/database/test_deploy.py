"""Migrations and function files: applied once, taken back, safe side by side, and never stale."""

import asyncio
import os
import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import asyncpg
import pytest

from lastpair.cli import seed
from lastpair.database import migrate as migrations
from lastpair.database.migrate import (
    DB_DIR,
    FUNCTIONS_DIR,
    SCHEMA_FILE,
    MigrationFailed,
    apply_functions,
    migrate,
    roll_back,
    write_schema,
)
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
EVENT_LOG = "20261122130000"
FUNCTION = """
create or replace function inventory.try_out({arguments}) returns {result} language sql as $$ select {value} $$;
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """A copy of the function files to change."""
    return Path(shutil.copytree(FUNCTIONS_DIR, tmp_path / "functions"))


async def things(session: asyncpg.Connection) -> list[str]:
    """The relations and functions that there are, without the numbers that differ each time they are made."""
    rows = await session.fetch(SHAPE)
    return sorted(re.sub(r"\d+", "", row["thing"]) for row in rows if not row["thing"].startswith("file"))


async def signatures(session: asyncpg.Connection) -> list[str]:
    """The versions of the function inventory.try_out."""
    rows = await session.fetch(
        "select oid::regprocedure || ' ' || prorettype::regtype from pg_proc where proname = 'try_out' order by 1"
    )
    return [row[0] for row in rows]


async def test_migrating_twice_changes_nothing_and_locks_no_table(migrated_url: str, session: asyncpg.Connection) -> None:
    """The second run succeeds while another transaction has locked every table."""
    before = await session.fetch(SHAPE)
    async with session.transaction():
        await session.execute(
            "lock inventory.users, inventory.drops, inventory.reservations, inventory.purchases, inventory.events,"
            " inventory.changes in access exclusive mode"
        )
        await asyncio.wait_for(migrate(migrated_url), timeout=60)
    assert await session.fetch(SHAPE) == before
    assert len(before) > 50


async def roll_back_to(url: str, session: asyncpg.Connection, version: str) -> None:
    """Roll back the migration of this version and all after it."""
    for _ in range(await session.fetchval("select count(*) from public.schema_migrations where version >= $1", version)):
        await roll_back(url)


async def test_migrations_go_down_and_up_again(migrated_url: str, session: asyncpg.Connection) -> None:
    """Rolling back leaves no trace in the database; migrating again gives the same product."""
    before = await things(session)
    await roll_back_to(migrated_url, session, "")
    assert await session.fetchval("select count(*) from pg_namespace where nspname in ('api', 'inventory')") == 0
    await migrate(migrated_url)
    assert await things(session) == before


@pytest.mark.slow
async def test_going_back_a_few_migrations_and_up_again(migrated_url: str, session: asyncpg.Connection) -> None:
    """The functions are what they were: what a down half drops and its up half makes as a stub is applied again."""
    bodies = "select proname, prosrc from pg_proc where pronamespace::regnamespace::text in ('api', 'inventory') order by 1, 2"
    before = await session.fetch(bodies)
    latest = await session.fetch("select version from public.schema_migrations order by 1 desc limit 10")
    for row in latest:
        await roll_back_to(migrated_url, session, row["version"])
        await migrate(migrated_url)
        assert await session.fetch(bodies) == before, row["version"]


async def test_the_event_log_goes_down_and_comes_up_working(migrated_url: str, session: asyncpg.Connection) -> None:
    """What was made before is sold and announced after; of what happened before, the log knows nothing any more."""
    user_id = await session.fetchval("select id from api.create_user('seller')")
    drop_id = await session.fetchval("select id from api.create_drop('Quiet', 1, 2, $1, now())", user_id)
    await roll_back_to(migrated_url, session, EVENT_LOG)
    await migrate(migrated_url)
    assert await session.fetch("select * from api.events_after(0)") == []
    await session.execute("select api.reserve($1, $2)", drop_id, user_id)
    assert [event["type"] for event in await session.fetch("select * from api.events_after(0)")] == ["STOCK_UPDATED"]


async def test_deployments_wait_for_each_other(empty_url: str) -> None:
    """Three processes that start on an empty database at once all come up."""
    await asyncio.gather(*(migrate_process(empty_url) for _ in range(3)))


async def migrate_process(url: str) -> None:
    """Run `lastpair migrate`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastpair", "migrate"),
        env=os.environ | {"DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_a_changed_signature_replaces_the_old_function(session: asyncpg.Connection, functions: Path) -> None:
    """New arguments, another return type, renamed arguments, no file any more: each time the old version is gone."""
    file = functions / "inventory" / "try_out.sql"
    versions = [
        ("p_a integer", "integer", "p_a", "inventory.try_out(integer) integer"),
        ("p_a integer, p_b integer", "integer", "p_a + p_b", "inventory.try_out(integer,integer) integer"),
        ("p_a integer, p_b integer", "text", "'x'", "inventory.try_out(integer,integer) text"),
        ("p_c integer, p_b integer", "text", "'renamed'", "inventory.try_out(integer,integer) text"),
    ]
    for arguments, result, value, signature in versions:
        file.write_text(FUNCTION.format(arguments=arguments, result=result, value=value))
        assert await apply_functions(session, functions) == ["inventory/try_out.sql"]
        assert await apply_functions(session, functions) == []
        assert await signatures(session) == [signature]
    assert await session.fetchval("select inventory.try_out(p_c => 1, p_b => 2)") == "renamed"
    public = "select has_function_privilege('public', 'inventory.try_out(integer, integer)', 'execute')"
    assert await session.fetchval(public) is False
    file.unlink()
    assert await apply_functions(session, functions) == ["inventory/try_out.sql"]
    assert await signatures(session) == []


async def test_a_broken_file_changes_nothing(session: asyncpg.Connection, functions: Path) -> None:
    """All files are applied in one transaction; the message names the file."""
    before = await session.fetch(SHAPE)
    (functions / "api" / "get_drop.sql").write_text((functions / "api" / "get_drop.sql").read_text() + "-- changed\n")
    (functions / "inventory" / "try_out.sql").write_text("create or replace function inventory.try_out() returns nonsense;")
    with pytest.raises(MigrationFailed, match=r"inventory/try_out\.sql"):
        await apply_functions(session, functions)
    (functions / "inventory" / "try_out.sql").write_text(
        FUNCTION.replace("try_out", "other").format(arguments="", result="integer", value="1")
    )
    with pytest.raises(MigrationFailed, match="does not define the function it is named after"):
        await apply_functions(session, functions)
    assert await session.fetch(SHAPE) == before


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations and function files, which migrate and roll_back use."""
    for name in ("migrations", "functions"):
        shutil.copytree(DB_DIR / name, tmp_path / name)
    monkeypatch.setattr(migrations, "DB_DIR", tmp_path)
    monkeypatch.setattr(migrations, "FUNCTIONS_DIR", tmp_path / "functions")
    return tmp_path


async def test_migrations_and_functions_commit_together(migrated_url: str, session: asyncpg.Connection, folder: Path) -> None:
    """No call meets a new table with an old function: if a function file fails, no migration has run."""
    (folder / "migrations" / "29990101000000_try_out.sql").write_text(
        "-- migrate:up\ncreate table inventory.try_out ();\n-- migrate:down\ndrop table inventory.try_out;\n"
    )
    function = folder / "functions" / "inventory" / "try_out.sql"
    function.write_text("create or replace function inventory.try_out() returns nonsense;")
    before = await session.fetch(SHAPE)
    with pytest.raises(MigrationFailed, match=r"inventory/try_out\.sql"):
        await migrate(migrated_url)
    assert await session.fetch(SHAPE) == before
    function.write_text(FUNCTION.format(arguments="", result="integer", value="1"))
    assert await migrate(migrated_url) == "Migrated: 29990101000000_try_out.sql\nFunctions: 1 applied"
    assert await roll_back(migrated_url) == "Rolled back: 29990101000000_try_out.sql"
    assert await session.fetchval("select to_regclass('inventory.try_out')") is None


async def test_what_cannot_be_taken_back(migrated_url: str, folder: Path) -> None:
    """A migration whose file another version has; and a file that has no down half."""
    file = max((folder / "migrations").iterdir())
    file.write_text(file.read_text().partition("-- migrate:down")[0])
    with pytest.raises(MigrationFailed, match=rf"^db/migrations/{file.name}: must have the lines"):
        await roll_back(migrated_url)
    file.unlink()
    with pytest.raises(MigrationFailed, match=f"no file of the migration {file.name.partition('_')[0]}"):
        await roll_back(migrated_url)


def test_schema_file_is_what_dbmate_dumps(tmp_path: Path) -> None:
    """db/schema/schema.sql is not stale; `make schema` writes it."""
    write_schema(tmp_path / "schema.sql")
    assert (tmp_path / "schema.sql").read_text() == SCHEMA_FILE.read_text(), "run make schema"


def test_seed_fills_every_table_and_reset_starts_over(empty_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeding migrates first and uses the public functions; a second time adds, and --reset empties first."""
    settings = Settings.model_construct(database_url=empty_url)

    def counts(*, reset: bool = False) -> dict[str, int]:
        seed(settings, Namespace(reset=reset))
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}

    first, second = counts(), counts()
    assert counts(reset=True) == first
    assert set(first) == {"users", "drops", "reservations", "purchases"}
    assert min(first.values()) > 0
    assert (second["drops"], second["users"]) == (2 * first["drops"], first["users"])


def test_seeding_is_refused_in_production() -> None:
    """It is a convenience for development, and would fill a shop with invented drops."""
    with pytest.raises(InvalidSettings, match="APP_ENV"):
        seed(Settings.model_construct(app_env="production"), Namespace(reset=False))
