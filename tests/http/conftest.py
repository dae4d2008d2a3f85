"""Fixtures of the tests over HTTP: users, a drop, and the audit at the end of a test."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.row_checks import Row


@pytest.fixture(scope="session")
async def seller(owner: asyncpg.Pool) -> str:
    """The user who sells in tests that do not care who does."""
    return await make_user(owner)


@pytest.fixture
async def user(owner: asyncpg.Pool) -> str:
    """A new user."""
    return await make_user(owner)


@pytest.fixture
async def drop(http: httpx.AsyncClient, seller: str) -> Row:
    """A new live drop of five units."""
    return await make_drop(http, seller)


@pytest.fixture
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """The test must end with a clean audit."""
    yield
    await assert_healthy(owner)
