"""Fixtures of the dashboard's tests: one browser, one service, a visitor, a drop."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from tests.support.browser import Visitor
from tests.support.dashboard import end_all_drops
from tests.support.database import Database
from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.page_fixtures import browser, visitor
from tests.support.streams import Api, fresh_database, serving

__all__ = ["browser", "visitor"]


@pytest.fixture(scope="package")
async def service(browser: Browser, database: Database) -> AsyncIterator[Api]:
    """One service for all tests, on a database of its own."""
    async with fresh_database(database) as url, serving(url) as service:
        yield service


@pytest.fixture
async def api(service: Api) -> AsyncIterator[Api]:
    """The service, without an open drop. The test ends with a clean audit."""
    await end_all_drops(service.owner)
    yield service
    await assert_healthy(service.owner)


@pytest.fixture
async def drop_id(api: Api) -> str:
    """A new live drop of five units."""
    drop_id: str = (await make_drop(api.http, await make_user(api.owner)))["id"]
    return drop_id


@pytest.fixture
async def page(visitor: Visitor) -> Page:
    """The dashboard, connected. It shows what fixtures before it have made."""
    return await visitor.open()
