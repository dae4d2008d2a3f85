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
from lastpair.database.embedded import service_url
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
EVENT_LOG = "20261122130000"
SALE = "20261128200000"
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
        await asyncio.wait_for(migrate(migrated_url), timeout=20)
    assert await session.fetch(SHAPE) == before
    assert len(before) > 50


async def roll_back(url: str, session: asyncpg.Connection, version: str) -> None:
    """Roll back the migration of this version and all after it."""
    for _ in range(await session.fetchval("select count(*) from public.schema_migrations where version >= $1", version)):
        await dbmate(url, "rollback")


async def test_migrations_go_down_and_up_again(migrated_url: str, session: asyncpg.Connection) -> None:
    """Rolling back leaves no trace in the database; migrating again gives the same product."""
    before = await things(session)
    await roll_back(migrated_url, session, "")
    assert await session.fetchval("select count(*) from pg_namespace where nspname in ('api', 'inventory')") == 0
    await migrate(migrated_url)
    assert await things(session) == before


async def test_the_event_log_goes_down_and_comes_up_working(migrated_url: str, session: asyncpg.Connection) -> None:
    """A drop that was made without the migration of the event log was not announced; with it again, its sale is."""
    user_id = await session.fetchval("select id from api.create_user('seller')")
    await roll_back(migrated_url, session, EVENT_LOG)
    drop_id = await session.fetchval(
        "insert into inventory.drops (name, price, total_stock, available_stock, starts_at, status, created_by)"
        " values ('Quiet', 1, 2, 2, now(), 'live', $1) returning id",
        user_id,
    )
    await migrate(migrated_url)
    assert await session.fetch("select * from api.events_after(0)") == []
    await session.execute("select api.reserve($1, $2)", drop_id, user_id)
    assert [event["type"] for event in await session.fetch("select * from api.events_after(0)")] == ["STOCK_UPDATED"]


async def test_the_sale_goes_down_and_comes_up_with_data_in_it(migrated_url: str, session: asyncpg.Connection) -> None:
    """Stock balances for the release before, which knows holds of one unit only, and for this one afterwards; it sells."""
    ann, bob, cat = [await session.fetchval("select id from api.create_user($1)", name) for name in ("ann", "bob", "cat")]
    made = await session.fetchrow(
        """select id, variants[1].id as small from api.create_drop(
          'Sizes', 1.5, null, $1, now(), p_variants => '[{"name": "S", "total_stock": 9}, {"name": "M", "total_stock": 3}]',
          p_terms => '{"currency": "KWD", "limit_per_user": 4}')""",
        ann,
    )
    held = "select id from api.reserve($1, $2, p_variant_id => $3, p_qty => $4)"
    await session.execute(held, made["id"], ann, made["small"], 3)
    for buyer, units in ((bob, 2), (cat, 1)):
        await session.execute(held, made["id"], buyer, made["small"], units)
        purchase = await session.fetchval("select id from api.purchase($1, $2)", made["id"], buyer)
    await session.execute("select api.refund_purchase($1)", purchase)

    await roll_back(migrated_url, session, SALE)
    assert (
        await session.fetchval(
            "select d.total_stock = d.available_stock"
            " + (select count(*) from inventory.reservations r where r.drop_id = d.id and r.status = 'ACTIVE')"
            " + (select sum(p.qty) from inventory.purchases p where p.drop_id = d.id and p.status = 'paid')"
            " from inventory.drops d"
        )
        is True
    )

    await migrate(migrated_url)
    assert await session.fetch("select * from api.audit()") == []
    await session.execute("select api.purchase($1, $2)", made["id"], ann)
    await session.execute("select api.reserve($1, $2, p_qty => 2)", made["id"], cat)
    assert await session.fetchval("select available_stock from api.get_drop($1)", made["id"]) == 7
    assert await session.fetch("select * from api.audit()") == []


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


async def test_an_older_version_serves_on_newer_functions(
    migrated_url: str, session: asyncpg.Connection, functions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of a version that was deployed before may start. One that is not deployed, or was gone back from, may not."""
    url = service_url(migrated_url)
    if url == migrated_url:
        pytest.skip("the server of DATABASE_URL has no lastpair_app")
    (functions / "api" / "errors.sql").write_text((functions / "api" / "errors.sql").read_text() + "-- newer\n")
    (functions / "inventory" / "try_out.sql").write_text(FUNCTION.format(arguments="", result="integer", value="1"))
    (functions / "api" / "my_purchases.sql").unlink()

    async def start(of: Path) -> str | None:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "FUNCTIONS_DIR", of)
            return await migrate(url)

    def up_to_date(line: str | None) -> bool:
        return (line or "").startswith("The schema is up to date")

    for _ in range(2):
        assert up_to_date(await start(FUNCTIONS_DIR))
        with pytest.raises(MigrationFailed, match=r"functions/api/errors\.sql is pending"):
            await start(functions)
        assert len(await apply_functions(session, functions)) == 3
        assert up_to_date(await start(functions))
        assert await start(FUNCTIONS_DIR) == "A newer version has replaced the functions; this version serves on them"
        await session.execute("delete from public.schema_migrations where version = $1", EVENT_LOG)
        with pytest.raises(MigrationFailed, match=f"migrations/{EVENT_LOG} is pending"):
            await start(FUNCTIONS_DIR)
        await session.execute("insert into public.schema_migrations values ($1)", EVENT_LOG)
        assert len(await apply_functions(session, FUNCTIONS_DIR)) == 3  # the operator goes back


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
