"""Fixtures of the tests of payments: a shop with a provider, on a database of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.tills import StripeTill, Till, till_of


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
    for name in {"till", "stripe_till"} & set(request.fixturenames):
        pool: asyncpg.Pool = request.getfixturevalue(name).owner
        violations = [tuple(row) for row in await pool.fetch("select * from api.audit()")]
        assert violations == []


@pytest.fixture
def stripe_till(till: Till) -> StripeTill:
    """The shop with Stripe."""
    if not isinstance(till, StripeTill):
        pytest.fail("parametrize with only_stripe")
    return till
