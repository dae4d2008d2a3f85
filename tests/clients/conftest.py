"""Fixtures of the clients' tests: a service in this process, on a database of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.factories import assert_healthy
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import fresh_database


@pytest.fixture(scope="package")
async def database_url(database: Database) -> AsyncIterator[str]:
    """A migrated database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
async def own_database(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Sessions of its owner. The test ends with a clean audit."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=5) as pool:
        yield pool
        await assert_healthy(pool)


@pytest.fixture(scope="package")
async def service(database_url: str) -> AsyncIterator[InProcess]:
    """The service in this process."""
    async with served(settings_for(database_url)) as service:
        yield service
