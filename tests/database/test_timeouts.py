"""Nothing is waited for without end: statements, locks and transactions have their limits, past which the answer is 503."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from uuid import UUID

import asyncpg
import pytest

from lastpair.database import pool as calls_module
from lastpair.database.pool import Database as Calls
from lastpair.database.pool import Session
from lastpair.errors import Busy, Unavailable
from tests.support.api import as_user, assert_unavailable
from tests.support.database import Database, connected
from tests.support.factories import assert_healthy, make_drop, make_due, make_user, make_users, reserve
from tests.support.streams import fresh_database, serving
from tests.support.waiting import eventually

LIMITS = "select current_setting(name) from unnest(array['statement_timeout', 'lock_timeout', {}]) name"
LIMITS = LIMITS.format("'idle_in_transaction_session_timeout'")
LOCK = "select from inventory.drops where id = $1 for update"
MODES = pytest.mark.parametrize("pooled", [False, True])


@asynccontextmanager
async def calling(url: str, *, pooled: bool) -> AsyncIterator[Calls]:
    """The service's way to call functions, with one session."""
    calls = Calls(url, 1, pooled=pooled, max_pending=100)
    await calls.open()
    try:
        yield calls
    finally:
        await calls.close()


@MODES
async def test_every_call_has_limits(database: Database, pooled: bool) -> None:
    """Those that the constants say, of which the statement's is shorter than the client's patience."""
    async with calling(database.url, pooled=pooled) as calls:
        assert [row[0] for row in await calls.fetch(LIMITS)] == ["10s", "5s", "10s"]
    assert calls_module.COMMAND_TIMEOUT_SECONDS > 10


def shorten(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Let one of them be reached soon."""
    settings = calls_module.SESSION_SETTINGS | {limit: "500ms"}
    monkeypatch.setattr(calls_module, "SESSION_SETTINGS", settings)
    monkeypatch.setattr(calls_module, "BEGIN", calls_module.begin_with(settings))


@MODES
async def test_a_statement_that_takes_too_long(database: Database, monkeypatch: pytest.MonkeyPatch, pooled: bool) -> None:
    """503, by the database's doing; the session is of use."""
    shorten(monkeypatch, "statement_timeout")
    async with calling(database.url, pooled=pooled) as calls:
        pid = await calls.value("select pg_backend_pid()")
        begin = monotonic()
        with pytest.raises(Unavailable) as raised:
            await calls.fetch("select pg_sleep(10)")
        assert isinstance(raised.value.__cause__, asyncpg.QueryCanceledError)
        assert monotonic() - begin < 5
        assert await calls.value("select pg_backend_pid()") == pid


@MODES
async def test_a_lock_that_is_not_to_be_had(
    database: Database, owner: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    """503, which says that nothing was done; that holds for the lock at the commit, too."""
    shorten(monkeypatch, "lock_timeout")
    seller = UUID(await make_user(owner))
    drop_id = await owner.fetchval("select id from api.create_drop('A', 1, 5, $1, now())", seller)
    reserve = "select code from api.reserve_batch(array[row($1::uuid, $2::uuid, null)]::api.reserve_request[])"
    async with calling(database.url, pooled=pooled) as calls, connected(database.url) as other:
        for lock in (LOCK, "select pg_advisory_xact_lock('inventory.events'::regclass::oid::bigint) where $1::uuid is not null"):
            async with other.transaction():
                await other.execute(lock, drop_id)
                with pytest.raises(Busy):
                    await calls.fetch(reserve, drop_id, seller)
        assert await owner.fetchval("select available_stock from api.get_drop($1)", drop_id) == 5
        assert await calls.value(reserve, drop_id, seller) is None
    await assert_healthy(owner)


async def test_a_transaction_that_stands_still(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when this process is held up between two messages: the database ends it, the call is 503, the next one is served."""
    shorten(monkeypatch, "idle_in_transaction_session_timeout")
    fetch = Session.fetch

    async def held_up(session: Session, *arguments: object) -> list[asyncpg.Record]:
        await eventually(lambda: asyncio.sleep(0, session.is_closed()))
        return await fetch(session, *arguments)

    async with calling(database.url, pooled=True) as calls:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "fetch", held_up)
            with pytest.raises(Unavailable):
                await calls.value("select 1")
        assert await calls.value("select 1") == 1


@pytest.mark.parametrize(
    "error",
    [asyncpg.IdleInTransactionSessionTimeoutError, asyncpg.ReadOnlySQLTransactionError, asyncpg.ConnectionDoesNotExistError],
)
async def test_what_may_work_in_a_moment(database: Database, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """However it is told of."""

    async def fail(*_: object) -> None:
        raise error("it did not")

    async with calling(database.url, pooled=False) as calls:
        monkeypatch.setattr(Session, "fetch", fail)
        with pytest.raises(Unavailable):
            await calls.value("select 1")


async def test_a_sweep_of_thousands_is_in_time(database: Database) -> None:
    """The limits are no hindrance to the poller, who calls for a thousand at a time."""
    async with fresh_database(database) as url, serving(url) as stage:
        async with stage.owner.acquire() as owner:
            users = await make_users(owner, 3000)
        drop = await make_drop(stage.http, users[0], total_stock=3000)
        hold = (
            "select count(*) from api.reserve_batch("
            "array(select row($1::uuid, user_id, null)::api.reserve_request from unnest($2::uuid[]) user_id))"
        )
        assert await stage.owner.fetchval(hold, UUID(drop["id"]), users) == 3000
        await stage.owner.execute("update inventory.reservations set expires_at = now()")
        begin = monotonic()
        answer = await stage.http.post("/internal/expire-now")
        assert answer.json()["data"] == {"expired": 3000}
        assert monotonic() - begin < 10
        await assert_healthy(stage.owner)


@pytest.mark.slow
async def test_a_lock_held_over_http(database: Database) -> None:
    """Whoever wants the unit is told 503 in time, while others are served; then the sale goes on."""
    async with fresh_database(database) as url, serving(url) as stage:
        seller = await make_user(stage.owner)
        stuck, free = [await make_drop(stage.http, seller) for _ in range(2)]
        async with stage.owner.acquire() as owner, owner.transaction():
            await owner.execute(LOCK, UUID(stuck["id"]))
            begin = monotonic()
            waiting = asyncio.create_task(stage.http.post(f"/drops/{stuck['id']}/reserve", headers=as_user(seller)))
            await make_due(stage.owner, (await reserve(stage.http, free["id"], seller))["id"])
            await reserve(stage.http, free["id"], seller)
            assert_unavailable(await waiting)
            assert 4 < monotonic() - begin < 10
        await reserve(stage.http, stuck["id"], seller)
        await assert_healthy(stage.owner)
