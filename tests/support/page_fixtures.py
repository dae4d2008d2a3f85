"""Fixtures of the pages' tests: one browser and one service for a package, and a visitor. A conftest imports them."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.support.browser import Visitor, chromium, visiting
from tests.support.database import Database
from tests.support.streams import Api, fresh_database, serving


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests. Each opens windows of its own."""
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
async def service(browser: Browser, database: Database) -> AsyncIterator[Api]:
    """One service for all tests, on a database of its own."""
    async with fresh_database(database) as url, serving(url) as service:
        yield service


@pytest.fixture
async def visitor(browser: Browser, api: Api) -> AsyncIterator[Visitor]:
    """A visitor of the service. The test fails if a page reports a problem."""
    async with visiting(browser, api.url) as visitor:
        yield visitor
