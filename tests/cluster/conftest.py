"""A router with the nodes 0 and 1, for all tests that break nothing."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.support.router import Router, running_router, service_of


@pytest.fixture(scope="session")
def router() -> Iterator[Router]:
    """A router with two nodes that no test may stop."""
    with running_router() as router:
        yield router


@pytest.fixture
async def service(router: Router) -> AsyncIterator[asyncpg.Connection]:
    """A session on the router with the rights of the service."""
    async with service_of(router.url) as connection:
        yield connection
