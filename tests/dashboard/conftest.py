"""What the dashboard's tests share: one browser, one service, and whoever looks at it."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.support.browser import Visitor, chromium, visiting
from tests.support.dashboard import end_all_drops
from tests.support.database import Database
from tests.support.factories import assert_healthy
from tests.support.streams import Stage, fresh_database, serving


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests; each opens windows of its own."""
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
async def service(browser: Browser, database: Database) -> AsyncIterator[Stage]:
    """A service for all tests, on a database of its own."""
    async with fresh_database(database) as url, serving(url) as stage:
        yield stage


@pytest.fixture
async def stage(service: Stage) -> AsyncIterator[Stage]:
    """The service, without an open drop. In the end no invariant is violated."""
    await end_all_drops(service.owner)
    yield service
    await assert_healthy(service.owner)


@pytest.fixture
async def visitor(browser: Browser, stage: Stage) -> AsyncIterator[Visitor]:
    """Whoever looks at it, and may find nothing to complain of."""
    async with visiting(browser, stage.url) as visitor:
        yield visitor
