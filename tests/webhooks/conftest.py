"""Fixtures of the tests of outbound webhooks."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.database import Database
from tests.support.factories import assert_healthy
from tests.support.streams import Api, fresh_database, serving
from tests.support.webhook_receiver import Receiver, receiving
from tests.support.webhooks import PRIVATE_TARGETS, Endpoint, make_endpoint


@pytest.fixture(scope="package")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service that may send to this machine, on a database of its own."""
    async with fresh_database(database) as url, serving(url, **PRIVATE_TARGETS) as api:
        yield api
        await assert_healthy(api.owner)


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def endpoint(api: Api, receiver: Receiver) -> AsyncIterator[Endpoint]:
    """An endpoint that wants every type of message, with a path of its own."""
    endpoint = await make_endpoint(api, receiver)
    yield endpoint
    await endpoint.remove()
