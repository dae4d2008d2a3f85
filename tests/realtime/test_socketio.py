"""Front ends that speak Socket.IO: npm's socket.io-client gets the five events of its contract, each once and in order."""

import asyncio
from collections.abc import AsyncIterator
from json import loads
from uuid import UUID

import asyncpg
import pytest

from tests.support.database import Database, connected
from tests.support.factories import make_drop, make_due, make_user, purchase, reserve
from tests.support.in_process import InProcess, served, settings_for
from tests.support.servers import started
from tests.support.socketio import Given, SocketIOClients, socketio_clients
from tests.support.streams import fresh_database, logged, newest_id, serving
from tests.support.waiting import eventually

TYPES = {"DROP_CREATED", "STOCK_UPDATED", "RESERVATION_EXPIRED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"}
TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]]
names = pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)


@pytest.fixture(scope="module")
async def url(database: Database) -> AsyncIterator[str]:
    """A migrated database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
async def owner(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of that database's owner."""
    async with connected(url) as connection:
        yield connection


@pytest.fixture
async def service(url: str) -> AsyncIterator[InProcess]:
    """The service in this process, on that database."""
    async with served(settings_for(url)) as service:
        yield service


@pytest.fixture
async def clients(pytestconfig: pytest.Config) -> AsyncIterator[SocketIOClients]:
    """Clients, which the test connects."""
    assert pytestconfig.cache is not None
    async with socketio_clients(pytestconfig.cache) as clients:
        yield clients


async def sell(service: InProcess, owner: asyncpg.Connection) -> str:
    """Everything that happens in the seed's contract, with one drop; returns its id."""
    seller, buyer, late = [await make_user(owner) for _ in range(3)]
    drop_id: str = (await make_drop(service.http, seller))["id"]
    await reserve(service.http, drop_id, buyer)
    await purchase(service.http, drop_id, buyer)
    await make_due(owner, (await reserve(service.http, drop_id, late))["id"])
    assert (await service.http.post("/internal/expire-now")).status_code == 200
    return drop_id


async def announced(owner: asyncpg.Connection, after: int) -> Given:
    """The events of the log after this id that Socket.IO clients get."""
    return [(event.type, loads(event.text)) for event in await logged(owner, after) if event.type in TYPES]


@names
async def test_the_five_events(
    service: InProcess, owner: asyncpg.Connection, clients: SocketIOClients, transports: list[str]
) -> None:
    """A client gets the five events of its contract, with the data of the log, once and in order."""
    await clients.connect(service.url, transports=transports)
    start_id = await newest_id(owner)
    drop_id = await sell(service, owner)
    expected = await announced(owner, start_id)
    given = await clients.given(count=len(expected))
    assert given == expected
    assert {event for event, _ in given} == TYPES
    by_type = dict(given)
    assert by_type["DROP_CREATED"]["drop"]["id"] == drop_id
    assert by_type["STOCK_UPDATED"].keys() >= {"dropId", "availableStock"}
    assert by_type["RESERVATION_EXPIRED"].keys() >= {"dropId", "reservationId"}
    assert by_type["PURCHASE_COMPLETED"].keys() >= {"dropId", "username", "purchasedAt"}
    assert by_type["ACTIVITY_UPDATED"]["latestPurchasers"][0].keys() >= {"userId", "username", "qty", "createdAt"}
    [state] = await clients.states()
    assert (state["transport"], state["log"]) == (transports[-1], ["connect"])
