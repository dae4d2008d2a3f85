"""Fixtures of the tests of payments: a shop with a provider, on a database of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.streams import fresh_database
from tests.support.tills import OwnTill, StripeTill, Till, till_of


@pytest.fixture(scope="package", params=["stripe", "webhook"])
async def till(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Till]:
    """A shop with Stripe, and one with a provider of its own."""
    async with till_of(request.param, database) as found:
        yield found


@pytest.fixture(scope="session")
async def owner() -> None:
    """The database of the other tests is not used here, because a shop with a provider is another one."""


@pytest.fixture(autouse=True)
async def healthy(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The test must end with a clean audit of its shop, if it has one."""
    yield
    if "till" in request.fixturenames:
        pool: asyncpg.Pool = request.getfixturevalue("till").owner
        violations = [tuple(row) for row in await pool.fetch("select * from api.audit()")]
        assert violations == []


@pytest.fixture(scope="module")
async def till_database_url(database: Database) -> AsyncIterator[str]:
    """A database for one file's own service."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
def own_till(till: Till) -> OwnTill:
    """The shop with a provider of its own."""
    assert isinstance(till, OwnTill)
    return till


@pytest.fixture
def stripe_till(till: Till) -> StripeTill:
    """The shop with Stripe."""
    assert isinstance(till, StripeTill)
    return till
