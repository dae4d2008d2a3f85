"""Fixtures of the tests of security: the audit at the end of a test, a database for streams, and a clock."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.factories import assert_healthy
from tests.support.streams import fresh_database
from tests.support.waiting import Clock


@pytest.fixture
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """The test must end with a clean audit."""
    yield
    await assert_healthy(owner)


@pytest.fixture(scope="module")
async def own_database_url(database: Database) -> AsyncIterator[str]:
    """A database that only the tests of one file use, so that their streams hear of no other tests."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of rate limits and of the keys of tokens."""
    clock = Clock()
    monkeypatch.setattr("lastpair.web.limits.monotonic", clock)
    monkeypatch.setattr("lastpair.web.tokens.monotonic", clock)
    return clock
