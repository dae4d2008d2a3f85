"""The sweep inside the database, by pg_cron; and the product on PostgreSQL 15, the oldest it takes (Debian's packages)."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from lastpair.database.embedded import BIN_DIR
from lastpair.database.migrate import migrate
from tests.support.batch_statements import RESERVE
from tests.support.clusters import OPERATIONS, Cluster, cluster, commands, sh
from tests.support.database import Database
from tests.support.debian import needed
from tests.support.factories import assert_healthy, available_stock, make_due, make_users
from tests.support.servers import ROOT
from tests.support.waiting import eventually

BIN_15 = Path("/usr/lib/postgresql/15/bin")
RECIPES = ROOT / "db" / "recipes"


@pytest.fixture(scope="module")
def server(database: Database) -> Iterator[Cluster]:
    """PostgreSQL 15 with pg_cron, set up as docs/operations.md says."""
    library = BIN_15.parent / "lib" / "pg_cron.so"
    needed(lambda: library if library.exists() else None, "PostgreSQL 15 with pg_cron", "postgresql-15", "postgresql-15-cron")
    document = OPERATIONS.read_text()
    [settings] = re.findall(r"```ini\n(shared_preload_libraries = 'pg_cron'\n.*?)```", document, re.DOTALL)
    [statements] = re.findall(r"```sql\n(create extension pg_cron;\n.*?)```", document, re.DOTALL)
    with cluster(BIN_15, *settings.splitlines()) as server:
        server.psql(statements, server.superuser_url.replace("/postgres?", "/lastpair?"))
        asyncio.run(migrate(server.url_with_password))
        yield server


@pytest.fixture
async def owner(server: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to that server; afterwards all is healthy and nothing is scheduled."""
    connection = await asyncpg.connect(server.url_with_password)
    yield connection
    await assert_healthy(connection)
    server.psql(RECIPES / "pg_cron_off.sql", server.url)
    assert await connection.fetchval("select count(*) from cron.job") == 0
    await connection.close()


async def make_hold(owner: asyncpg.Connection) -> tuple[UUID, UUID, str]:
    """A live drop of two units, one of them held; returns the drop's, the user's and the reservation's ids."""
    user_id = await owner.fetchval("select id from api.ensure_user(gen_random_uuid(), gen_random_uuid()::text)")
    drop_id = await owner.fetchval("select id from api.create_drop('Fifteen', 1, 2, $1, now())", user_id)
    reservation_id = await owner.fetchval("select id from api.reserve($1, $2)", drop_id, user_id)
    assert await available_stock(owner, drop_id) == 1
    return drop_id, user_id, str(reservation_id)


async def taken_back(server: Cluster, owner: asyncpg.Connection) -> dict[str, str]:
    """Unschedule all jobs and return their commands by name, so that no minute turns while a test runs them by hand."""
    jobs = {row["jobname"]: row["command"] for row in await owner.fetch("select jobname, command from cron.job")}
    server.psql(RECIPES / "pg_cron_off.sql", server.url)
    return jobs


async def test_a_sale_on_postgresql_15(owner: asyncpg.Connection) -> None:
    """Reserve, purchase, cancel, expire, refund; ids are UUIDv7 without help from the server."""
    assert owner.get_server_version().major == 15
    drop_id, user_id, reservation_id = await make_hold(owner)
    assert UUID(reservation_id).version == 7
    purchase = await owner.fetchrow("select * from api.purchase($1, $2)", drop_id, user_id)
    assert purchase["status"] == "paid"
    held = await owner.fetchrow(
        "select * from api.reserve_batch(array[row($1::uuid, $2::uuid, null, null, null)]::api.reserve_request[])",
        drop_id,
        user_id,
    )
    assert held["status"] == 201
    other_id = await owner.fetchval("select id from api.create_user('other')")
    with pytest.raises(asyncpg.PostgresError, match="OUT_OF_STOCK") as refusal:
        await owner.execute("select api.reserve($1, $2)", drop_id, other_id)
    assert refusal.value.sqlstate == "PT409"
    await owner.execute("select api.refund_purchase($1)", purchase["id"])
    assert await available_stock(owner, drop_id) == 1
    types = {event["type"] for event in await owner.fetch("select * from api.events_after(0)")}
    assert {"DROP_CREATED", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"} <= types


async def test_the_jobs_do_what_the_sweeper_does(server: Cluster, owner: asyncpg.Connection) -> None:
    """Their commands expire more holds than one transaction takes, move on a drop whose time has come, and prune old events."""
    recipe = (RECIPES / "pg_cron.sql").read_text()
    for settings in ("\\set retention_seconds 0\n", ""):  # the second time it replaces
        server.psql(settings + recipe, server.url)
    assert await owner.fetchval("select bool_and(username = 'lastpair' and database = 'lastpair') from cron.job")
    jobs = await taken_back(server, owner)
    names = ["advance", "expire", "expire payments", "forget runs", "prune", "prune keys", "prune webhooks"]
    assert sorted(jobs) == [f"lastpair {name}" for name in names]

    user_id = await owner.fetchval("select id from api.ensure_user(gen_random_uuid(), gen_random_uuid()::text)")
    drop_id = await owner.fetchval("select id from api.create_drop('Many', 1, 3000, $1, now())", user_id)
    await owner.fetch(RESERVE, drop_id, await make_users(owner, 2500), [None] * 2500, 1)
    await owner.execute("update inventory.reservations set expires_at = now() where drop_id = $1", drop_id)
    not_taken_back = "select available_stock from inventory.drops where id = $1"
    assert await owner.fetchval(not_taken_back, drop_id) == 500
    before = await owner.fetchval("select count(*) from inventory.events")
    await owner.execute(jobs["lastpair expire"])
    assert await owner.fetchval(not_taken_back, drop_id) == 3000
    stock_events = "select count(*) from inventory.events where drop_id = $1 and type = 'STOCK_UPDATED'"
    assert await owner.fetchval(stock_events, drop_id) == 1 + 3, "three transactions"

    await owner.execute("select api.set_payment_provider('webhook', 1)")
    buyer_id = await owner.fetchval("select user_id from inventory.reservations where drop_id = $1 limit 1", drop_id)
    await owner.execute("select from api.reserve($1, $2)", drop_id, buyer_id)
    await owner.execute("select from api.purchase($1, $2)", drop_id, buyer_id)
    make_payments_due = """
    with moved as (update inventory.payments set expires_at = now() where drop_id = $1 returning id, expires_at)
    update inventory.purchases p set payment_expires_at = m.expires_at from moved m where p.payment_id = m.id
    """
    assert await owner.execute(make_payments_due, drop_id) == "UPDATE 1"
    await owner.execute("select api.set_payment_provider('none', 900)")
    await owner.execute(jobs["lastpair expire payments"])
    assert await owner.fetchval(not_taken_back, drop_id) == 3000

    soon_id = await owner.fetchval("select id from api.create_drop('Soon', 1, 1, $1, now() + interval '1 hour')", user_id)
    await owner.execute("update inventory.drops set starts_at = now() where id = $1", soon_id)
    await owner.execute(jobs["lastpair advance"])
    assert await owner.fetchval("select status from api.get_drop($1)", soon_id) == "live"

    old_key = "insert into inventory.idempotency_keys (key, fingerprint, row_id, created_at) values ('old', '', $1, '2020-01-01')"
    await owner.execute(old_key, user_id)
    await owner.execute(jobs["lastpair prune keys"])
    assert await owner.fetchval("select count(*) from inventory.idempotency_keys") == 0

    old_message = "insert into inventory.webhook_messages (type, data, created_at) values ('webhook.test', '{}', '2020-01-01')"
    await owner.execute(old_message)
    await owner.execute("update inventory.webhook_position set last_message = (select max(id) from inventory.webhook_messages)")
    await owner.execute(jobs["lastpair prune webhooks"])
    assert await owner.fetchval("select count(*) from inventory.webhook_messages") == 0

    await owner.execute(jobs["lastpair prune"])
    assert await owner.fetchval("select count(*) from inventory.events") > before, "nothing is old"
    server.psql("\\set retention_seconds 0\n" + recipe, server.url)
    await owner.execute((await taken_back(server, owner))["lastpair prune"])
    assert await owner.fetchval("select count(*) from inventory.events") == 1


@pytest.mark.slow
async def test_upgrade_to_18(server: Cluster, owner: asyncpg.Connection, tmp_path: Path) -> None:
    """A dump by the old pg_dump is restored without pg_cron by the new pg_restore; the hold is there, and the sale goes on."""
    drop_id, user_id, _ = await make_hold(owner)
    server.psql(RECIPES / "pg_cron.sql", server.url)
    with cluster(BIN_DIR) as newer:
        sh(commands("backup without pg_cron"), tmp_path, BIN_15, MIGRATION_DATABASE_URL=server.url)
        assert (
            sh(commands("restore without pg_cron"), tmp_path, BIN_DIR, NEW_DATABASE_URL=newer.url).rstrip().endswith("(0 rows)")
        )
        await migrate(newer.url_with_password)
        upgraded = await asyncpg.connect(newer.url_with_password)
        assert upgraded.get_server_version().major == 18
        await upgraded.execute("select api.purchase($1, $2)", drop_id, user_id)
        await upgraded.execute("select api.reserve($1, $2)", drop_id, user_id)
        assert await available_stock(upgraded, drop_id) == 0
        await assert_healthy(upgraded)
        await upgraded.close()


@pytest.mark.slow
async def test_cron_takes_a_hold_back_with_no_process_of_the_service(server: Cluster, owner: asyncpg.Connection) -> None:
    """Each job runs within about a minute, and reports success."""
    drop_id, _, reservation_id = await make_hold(owner)
    await make_due(owner, reservation_id)
    server.psql(RECIPES / "pg_cron.sql", server.url)

    async def is_back() -> bool:
        return await available_stock(owner, drop_id) == 2

    async def ended() -> dict[str, set[str]]:
        runs = "select distinct jobname, d.status from cron.job_run_details d join cron.job using (jobid)"
        ends: dict[str, set[str]] = {}
        for job, end in await owner.fetch(runs):
            if end in ("succeeded", "failed"):
                ends.setdefault(job, set()).add(end)
        return ends

    async def every_job_ran() -> bool:  # the others are rarer
        return {f"lastpair {job}" for job in ("advance", "expire", "expire payments", "prune")} <= (await ended()).keys()

    await eventually(is_back, timeout_seconds=180)
    # A job that was made a moment after the minute has turned runs a minute after one that was made a moment before.
    await eventually(every_job_ran, timeout_seconds=180)
    assert set.union(*(await ended()).values()) == {"succeeded"}
