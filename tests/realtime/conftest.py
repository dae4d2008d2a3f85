"""Fixtures of the realtime tests."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.factories import assert_healthy
from tests.support.hub import BATCH, MEMORY, QUEUE


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of a hub are small, so that tests reach them often."""
    for name, value in [("MEMORY_EVENTS", MEMORY), ("QUEUE_EVENTS", QUEUE), ("BATCH_EVENTS", BATCH)]:
        monkeypatch.setattr(f"lastpair.realtime.hub.{name}", value)
    monkeypatch.setattr("lastpair.realtime.feed.RETRY_SECONDS", 0)


@pytest.fixture
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """The test ends with a clean audit and without a deadlock."""
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    before = await owner.fetchval(deadlocks)
    yield
    await assert_healthy(owner)
    await owner.execute("select pg_stat_clear_snapshot()")
    assert await owner.fetchval(deadlocks) == before
