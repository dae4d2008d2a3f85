"""Every wait has an end: statements, locks and transactions have limits, beyond which the answer is 503."""

import asyncio
from time import monotonic

import asyncpg
import pytest

from lastpair.database import pool
from lastpair.database.nodes import Node
from lastpair.database.pool import Session
from lastpair.errors import Busy, Unavailable
from lastpair.shop.sweeper import expire_due_holds
from tests.support.database import Database, calling, client_of, connected
from tests.support.envelopes import as_user, assert_unavailable
from tests.support.factories import (
    assert_healthy,
    available_stock,
    hold,
    make_drop_by_sql,
    make_due,
    make_user,
    make_users,
    reserve,
)
from tests.support.ordered_requests import locked
from tests.support.waiting import eventually

LIMITS = """
select current_setting(name)
from unnest(array['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']) name
"""
DROP_LOCK = "select from inventory.drops where id = $1 for update"
COMMIT_LOCK = "lock table inventory.event_order in share update exclusive mode"
MODES = pytest.mark.parametrize("pooled", [False, True])


@MODES
async def test_every_call_has_limits(database: Database, pooled: bool) -> None:
    """The limits are those of the constants; a statement's ends before the client gives up."""
    async with calling(database.url, pooled=pooled) as calls:
        assert [row[0] for row in await calls.fetch(LIMITS)] == ["10s", "5s", "10s"]
    assert pool.COMMAND_TIMEOUT_SECONDS > 10


def shorten(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Let one of the limits be reached soon."""
    monkeypatch.setattr(pool.Database, "settings", pool.SESSION_SETTINGS | {limit: "500ms"})


@MODES
async def test_a_statement_that_takes_too_long(database: Database, monkeypatch: pytest.MonkeyPatch, pooled: bool) -> None:
    """The database ends it, the caller gets Unavailable, and the session is used again."""
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
@pytest.mark.parametrize("lock", [DROP_LOCK, COMMIT_LOCK], ids=["drop", "commit"])
async def test_a_lock_that_another_transaction_holds(
    database: Database, owner: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, pooled: bool, lock: str
) -> None:
    """Busy says that the call had no effect, also if the lock is one that the commit waits for."""
    shorten(monkeypatch, "lock_timeout")
    drop_id, user = await make_drop_by_sql(owner, 5), await make_user(owner)
    reserve = "select code from api.reserve_batch(array[row($1::uuid, $2::uuid, null, null, null)]::api.reserve_request[])"
    async with calling(database.url, pooled=pooled) as calls:
        async with owner.acquire() as other, other.transaction():
            await other.execute(lock, *([drop_id] if lock == DROP_LOCK else []))
            with pytest.raises(Busy):
                await calls.fetch(reserve, drop_id, user)
        assert await available_stock(owner, drop_id) == 5
        assert await calls.value(reserve, drop_id, user) is None
    await assert_healthy(owner)


async def test_a_transaction_that_stands_still(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when this process is held up between two messages: the database ends it, the call fails, the next one is served."""
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
async def test_errors_that_may_pass(database: Database, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """The caller gets Unavailable, although asyncpg has another class for each."""

    async def fail(*_: object) -> None:
        raise error("it did not")

    async with calling(database.url, pooled=False) as calls:
        monkeypatch.setattr(Session, "fetch", fail)
        with pytest.raises(Unavailable):
            await calls.value("select 1")


async def test_a_sweep_of_thousands_is_in_time(migrated_url: str) -> None:
    """The limits leave the sweeper enough time for a thousand holds in one transaction."""
    async with connected(migrated_url) as owner, calling(migrated_url) as calls:
        drop_id, users = await make_drop_by_sql(owner, 3000), await make_users(owner, 3000)
        await make_due(owner, *(await hold(owner, drop_id, users)).values())
        begin = monotonic()
        assert await expire_due_holds(Node(None, calls, calls.servers)) == 3000
        assert monotonic() - begin < 30
        await assert_healthy(owner)


@pytest.mark.slow
async def test_a_lock_held_over_http(api_url: str, owner: asyncpg.Pool) -> None:
    """Requests for the locked drop are answered 503 in time, while others are served; then the sale goes on."""
    stuck, free, user = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5), await make_user(owner)
    async with client_of(api_url) as http:
        async with locked(owner, stuck):
            begin = monotonic()
            waiting = asyncio.create_task(http.post(f"/drops/{stuck}/reserve", headers=as_user(user)))
            await make_due(owner, (await reserve(http, free, user))["id"])
            await reserve(http, free, user)
            assert_unavailable(await waiting)
            assert 4 < monotonic() - begin < 20
        await reserve(http, stuck, user)
    await assert_healthy(owner)
