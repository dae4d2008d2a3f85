"""Fixtures of the shop's tests."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from lastpair.shop import batcher as batcher_module
from tests.support.batcher import NEVER_SECONDS
from tests.support.database import Database, running_api
from tests.support.ordered_requests import Client, client_of


@pytest.fixture
def slow_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set SLOW_CALL_SECONDS of the batcher. Until the test does, no call counts as slow, even on a slow machine."""

    def set_seconds(seconds: float) -> None:
        monkeypatch.setattr(batcher_module, "SLOW_CALL_SECONDS", seconds)

    set_seconds(NEVER_SECONDS)
    return set_seconds


@pytest.fixture
async def client(api_url: str) -> AsyncIterator[Client]:
    """A client of the API with the default settings."""
    async with client_of(api_url) as client:
        yield client


@pytest.fixture(scope="package")
def unbatched_url(database: Database) -> Iterator[str]:
    """The URL of an API that makes a call for each request alone."""
    with running_api(database.url, EXPIRY_POLL_MS="3600000", BATCH_MAX_SIZE="1") as url:
        yield url
