"""Clients and database users that misbehave: they leave nothing behind, cost other clients nothing, and silence no stream."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.support.database import connected as owner_of
from tests.support.factories import make_user
from tests.support.hub import the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.raw_http import UPGRADE, connected, reset
from tests.support.servers import ROOT, STOP_SECONDS, started
from tests.support.streams import logged, open_stream
from tests.support.waiting import eventually

GET = b"GET /api/events?snapshot=false HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /api/drops HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def service(own_database_url: str) -> AsyncIterator[InProcess]:
    """The service in this process, on a database of these tests' own."""
    async with served(settings_for(own_database_url)) as service:
        yield service


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of that database's owner."""
    async with owner_of(own_database_url) as connection:
        yield connection


async def test_an_empty_message(service: InProcess) -> None:
    """An empty message is answered with an ERROR, and the hub still notices when its client leaves."""
    stream = await open_stream("ws", service.url, [uuid4()])
    await stream.receive()
    await stream.connection.send("")
    assert (await stream.receive()).type == "ERROR"
    await stream.close()
    await service.has_subscribers(0)


@pytest.mark.parametrize("query", ["", f"dropId={UUID(int=1)}", f"dropId={UUID(int=1)}&lastEventId=0", "dropId=bad"])
async def test_leaving_before_the_handshake_is_over(service: InProcess, caplog: pytest.LogCaptureFixture, query: str) -> None:
    """Clients that leave within their handshake leave nothing behind, and nothing is logged."""
    the_track(service.components.hub).restart(10)  # so that 0 must be looked up in the log
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            with connected(service.url) as connection:
                connection.sendall(UPGRADE % query.encode())
                reset(connection)
            await asyncio.sleep(0)
        witness = await open_stream("sse", service.url)  # comes after them all
        await service.has_subscribers(1)
        await witness.close()
        await service.has_subscribers(0)
    assert caplog.messages == []


@pytest.mark.parametrize("second", [GET, UPGRADE % b"snapshot=false", POST], ids=["sse", "ws", "post"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_another_request_behind_an_open_stream(
    service: InProcess, caplog: pytest.LogCaptureFixture, second: bytes, at_once: bool
) -> None:
    """A request behind an open stream ends the connection: it would never be answered, and would hide that the client leaves."""
    loop = asyncio.get_running_loop()
    with connected(service.url) as connection:
        connection.setblocking(False)
        if at_once:
            await loop.sock_sendall(connection, GET + second)
        else:
            await loop.sock_sendall(connection, GET)
            await service.has_subscribers(1)
            await loop.sock_sendall(connection, second)
        with suppress(ConnectionResetError):
            async with asyncio.timeout(60):
                while await loop.sock_recv(connection, 65536):
                    pass
    await service.has_subscribers(0)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def sell_and_see(owner: asyncpg.Connection, service: InProcess) -> None:
    """Sell a unit; a client must see every event of it."""
    stream = await open_stream("sse", service.url)
    start_id = int((await stream.receive()).id)
    seller = await make_user(owner)
    drop_id = await owner.fetchval("select id from api.create_drop('Air', 1, 5, $1, now())", seller)
    await owner.execute("select api.reserve($1, $2)", drop_id, seller)
    expected = await logged(owner, start_id)
    assert len(expected) == 2
    assert [await stream.receive() for _ in expected] == expected
    await stream.close()


FORGED = f'{{"type":"STOCK_UPDATED","id":"999999999","data":{{"dropId":"{UUID(int=1)}","availableStock":1}}}}'


@pytest.mark.parametrize(
    "payload", ["", "garbage", "[]", '{"type":"STOCK_UPDATED"}', "١٢", '{"type":"X","id":"x","data":{}}', FORGED]
)
async def test_a_forged_notification(service: InProcess, owner: asyncpg.Connection, payload: str) -> None:
    """A notification that is no event, or has an id from the future, does not make a later event look old."""
    await sell_and_see(owner, service)
    await owner.execute("select pg_notify('lastpair_events', $1)", payload)
    await sell_and_see(owner, service)


async def test_a_log_that_was_emptied(service: InProcess, owner: asyncpg.Connection) -> None:
    """After db/seed/reset.sql a client that is connected begins anew, and so does one that comes back with an old id."""
    await sell_and_see(owner, service)
    stays = await open_stream("sse", service.url)
    old_id = int((await stays.receive()).id)
    await owner.execute((ROOT / "db" / "seed" / "reset.sql").read_text())
    assert (await stays.receive()).type == "RESYNC_REQUIRED"
    assert (await stays.receive()).data == {"drops": []}
    await sell_and_see(owner, service)
    assert (await stays.receive()).type == "DROP_CREATED"
    back = await open_stream("sse", service.url, last_event_id=old_id)
    assert [(await back.receive()).type for _ in range(2)] == ["RESYNC_REQUIRED", "SNAPSHOT"]
    await stays.close()
    await back.close()


@pytest.mark.slow
async def test_stopping_while_the_database_hangs(own_database_url: str, owner: asyncpg.Connection) -> None:
    """Although requests wait for the database, the process ends its streams and is gone within 5 seconds."""
    with started(DATABASE_URL=own_database_url, EXPIRY_POLL_MS="3600000") as service:
        await asyncio.to_thread(service.wait_until_ready)
        streams = [await open_stream(transport, service.url) for transport in ("sse", "ws") for _ in range(3)]
        async with httpx.AsyncClient(base_url=f"{service.url}/api", timeout=60) as http, owner.transaction():
            await owner.execute("lock table inventory.drops in access exclusive mode")
            waiting = [asyncio.create_task(open_stream("sse", service.url, [uuid4()])) for _ in range(3)]
            waiting += [asyncio.create_task(http.get(f"/drops/{uuid4()}")) for _ in range(3)]

            async def all_wait() -> bool:
                count: int = await owner.fetchval("select count(*) from pg_locks where not granted")
                return count >= 3

            await eventually(all_wait)
            assert await asyncio.to_thread(service.stop) < STOP_SECONDS
            await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.close()
