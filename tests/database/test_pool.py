"""Who gets a database session: requests that share no call with others never take all of them."""

import asyncio

import asyncpg
import pytest

from lastpair.errors import Unavailable
from lastpair.settings import Settings
from lastpair.web.application import create_app
from tests.support.database import Database, calling
from tests.support.waiting import eventually

URL = "postgresql://lastpair@db.example/lastpair"


async def test_single_requests_use_half_of_the_sessions(database: Database, owner: asyncpg.Pool) -> None:
    """The other half serves batches; beyond the bound single requests are refused at once, and later they are served."""
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted"
    async with calling(database.url, sessions=4, max_pending=3) as calls, owner.acquire() as holder:
        await holder.execute("select pg_advisory_lock(4711)")
        stuck = [asyncio.create_task(calls.value("select 3 from pg_advisory_xact_lock_shared(4711)")) for _ in range(3)]

        async def two_wait() -> bool:
            [(count,)] = await calls.fetch(waiting)
            return bool(count == 2)

        await eventually(two_wait)
        with pytest.raises(Unavailable) as refused:
            await calls.value("select 1")
        assert refused.value.code == "OVERLOADED"
        assert await two_wait()  # the third waits for a session, and batches are served
        await holder.execute("select pg_advisory_unlock(4711)")
        assert await asyncio.gather(*stuck) == [3, 3, 3]
        assert await calls.value("select 2") == 2


@pytest.mark.parametrize(("direct_url", "is_pooled"), [(None, False), (URL, False), (URL.replace("db.", "db1."), True)])
def test_another_direct_url_means_a_pooler(direct_url: str | None, is_pooled: bool) -> None:
    """DATABASE_DIRECT_URL says so only if it differs from DATABASE_URL."""
    app = create_app(Settings(database_url=URL, database_direct_url=direct_url))
    assert app.components.database.pooled is is_pooled


async def test_the_next_call_keeps_its_session(database: Database) -> None:
    """A call that follows at once runs in the session of the one before, because another one would take longer to get."""
    backend = "select pg_backend_pid(), pg_sleep($1::float8)::text"
    async with calling(database.url, sessions=3) as calls:
        both = await asyncio.gather(*(calls.fetch(backend, 0.1) for _ in range(2)))
        assert both[0][0][0] != both[1][0][0]
        assert len({(await calls.fetch(backend, 0))[0][0] for _ in range(20)}) == 1


async def test_a_session_that_is_kept_goes_back(database: Database) -> None:
    """A session waits a moment for the next call, and is then the pool's again. It is not used if it was lost meanwhile."""
    async with calling(database.url, sessions=1) as calls:
        pool = calls._pool
        assert pool is not None
        await calls.fetch("select 1")
        await eventually(lambda: pool.get_idle_size() == 1)
        for _ in range(3):
            await calls.fetch("select 1")
            [session] = calls._spare
            session.terminate()
            assert [tuple(row) for row in await calls.fetch("select 2")] == [(2,)]
        calls._close_idle()
        assert [tuple(row) for row in await calls.fetch("select 3")] == [(3,)]
        await eventually(lambda: pool.get_idle_size() == 1 and not calls._spare)


async def test_a_session_goes_to_who_waits(database: Database) -> None:
    """A caller that makes one call after the other keeps no session from others."""
    order = []

    async def call_often(name: str) -> None:
        for _ in range(5):
            await calls.fetch("select 1")
            order.append(name)

    async with calling(database.url, sessions=1) as calls:
        await calls.fetch("select 1")
        await asyncio.gather(call_often("a"), call_often("b"))
    assert "".join(order) == "ab" * 5
