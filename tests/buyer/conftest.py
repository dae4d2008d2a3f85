"""Fixtures of the tests of the buyer's page: one browser, one service, a visitor, a seller."""

from collections.abc import AsyncIterator

import pytest

from tests.support.factories import assert_healthy, make_user
from tests.support.page_fixtures import browser, service, visitor
from tests.support.streams import Api

__all__ = ["browser", "service", "visitor"]


@pytest.fixture
async def api(service: Api) -> AsyncIterator[Api]:
    """The service. The test ends with a clean audit."""
    yield service
    await assert_healthy(service.owner)


@pytest.fixture
async def seller(api: Api) -> str:
    """A user who makes drops."""
    return await make_user(api.owner)
