"""Fixtures of the pages' tests: one browser for a package, and a visitor of its service. A conftest imports them."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.support.browser import Visitor, chromium, visiting
from tests.support.streams import Api


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests. Each opens windows of its own."""
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def visitor(browser: Browser, api: Api) -> AsyncIterator[Visitor]:
    """A visitor of the service. The test fails if a page reports a problem."""
    async with visiting(browser, api.url) as visitor:
        yield visitor
