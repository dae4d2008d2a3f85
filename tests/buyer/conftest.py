"""Fixtures of the tests of the buyer's page: one browser, one service, a visitor, a seller."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.support.database import Database
from tests.support.factories import assert_healthy, make_user
from tests.support.page_fixtures import browser, visitor
from tests.support.streams import Api, fresh_database, serving

__all__ = ["browser", "visitor"]


@pytest.fixture(scope="package")
async def service(browser: Browser, database: Database) -> AsyncIterator[Api]:
    """One service for all tests, on a database of its own. Holds last longer than any test."""
    async with fresh_database(database) as url, serving(url, RESERVATION_TTL_SECONDS="3600") as service:
        yield service


@pytest.fixture
async def api(service: Api) -> AsyncIterator[Api]:
    """The service. The test ends with a clean audit."""
    yield service
    await assert_healthy(service.owner)


@pytest.fixture
async def seller(api: Api) -> str:
    """A user who makes drops."""
    return await make_user(api.owner)
