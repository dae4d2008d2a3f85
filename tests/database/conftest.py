"""Fixtures of the database's tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.support.database import connected
from tests.support.servers import Crashable


@pytest.fixture(scope="package")
def server() -> Iterator[Crashable]:
    """A migrated PostgreSQL that tests may break; each leaves it running."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        yield Crashable(Path(folder), url)


@pytest.fixture
async def session(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's session with a database of the test's own, migrated a moment ago."""
    async with connected(migrated_url) as session:
        yield session
