"""Who gets a database session: requests that share no call with others never take all of them."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastpair.database.pool import Database as Calls
from lastpair.errors import Unavailable
from lastpair.settings import Settings
from lastpair.web.application import create_app
from tests.support.database import Database
from tests.support.waiting import eventually

URL = "postgresql://lastpair@db.example/lastpair"


@pytest.fixture
async def calls(database: Database) -> AsyncIterator[Calls]:
    """Four sessions, and room for three single requests."""
    calls = Calls(database.url, 4, pooled=False, max_pending=3)
    await calls.open()
    yield calls
    await calls.close()


async def test_single_requests_use_half_of_the_sessions(calls: Calls, owner: asyncpg.Pool) -> None:
    """However many there are, the other half serves batches; beyond the bound they are refused at once, and later are served."""
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted"
    async with owner.acquire() as holder:
        await holder.execute("select pg_advisory_lock(4711)")
        stuck = [asyncio.create_task(calls.value("select 3 from pg_advisory_xact_lock_shared(4711)")) for _ in range(3)]

        async def two_wait() -> bool:
            [(count,)] = await calls.fetch(waiting)
            return bool(count == 2)

        await eventually(two_wait)
        with pytest.raises(Unavailable) as refused:
            await calls.value("select 1")
        assert refused.value.code == "OVERLOADED"
        assert await two_wait()  # the third waits here, and batches are served
        await holder.execute("select pg_advisory_unlock(4711)")
    assert await asyncio.gather(*stuck) == [3, 3, 3]
    assert await calls.value("select 2") == 2


@pytest.mark.parametrize(("direct_url", "is_pooled"), [(None, False), (URL, False), (URL.replace("db.", "db1."), True)])
def test_another_direct_url_means_a_pooler(direct_url: str | None, is_pooled: bool) -> None:
    """The same one says nothing."""
    app = create_app(Settings(database_url=URL, database_direct_url=direct_url))
    assert app.components.database._pooled is is_pooled
