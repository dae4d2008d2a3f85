"""Clients and neighbours that misbehave: they leave nothing behind, cost the others nothing, and silence nobody."""

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest
import uvicorn

from lastpair.realtime.hub import GLOBAL_ROOM, Hub
from lastpair.settings import Settings
from lastpair.web.application import create_app
from lastpair.web.uvicorn_protocols import FrameProtocol, StreamProtocol
from tests.support.database import Database
from tests.support.factories import make_user
from tests.support.servers import started
from tests.support.streams import fresh_database, logged, open_stream

GET = "GET /api/events?snapshot=false HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    "GET /api/ws?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Local:
    """The service in this process, so that its hub can be looked at."""

    hub: Hub
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    async def is_empty(self) -> bool:
        """Has it forgotten all its clients, within a while?"""
        return await happens(lambda: not self.hub._subscribers and self.hub._rooms == {GLOBAL_ROOM: set()})

    async def has(self, subscribers: int) -> bool:
        """Does it come to have so many?"""
        return await happens(lambda: len(self.hub._subscribers) == subscribers)


async def happens(condition: object, timeout_seconds: float = 10) -> bool:
    """Does it, within that time?"""
    assert callable(condition)
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


@pytest.fixture
async def local(database: Database) -> AsyncIterator[Local]:
    """A service with a database of its own, in this process; it must not log an error."""
    async with fresh_database(database) as url, serving_here(url) as local:
        yield local


@asynccontextmanager
async def serving_here(url: str) -> AsyncIterator[Local]:
    """The service in this event loop."""
    app = create_app(Settings(database_url=url, expiry_poll_ms=3_600_000))
    config = uvicorn.Config(
        app, port=0, http=StreamProtocol, ws=FrameProtocol, log_config=None, access_log=False, ws_per_message_deflate=False
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    try:
        assert await happens(lambda: server.started)
        await app.components.hub.started.wait()
        yield Local(app.components.hub, server.servers[0].sockets[0].getsockname()[1])
    finally:
        app.components.hub.close()
        server.should_exit = True
        await running


def reset(connection: socket.socket) -> None:
    """Be gone without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def test_an_empty_message(local: Local) -> None:
    """It is not understood, and its client is still noticed when it leaves."""
    stream = await open_stream("ws", local.url, [uuid4()])
    await stream.receive()
    await stream.connection.send("")
    assert (await stream.receive()).type == "ERROR"
    await stream.close()
    assert await local.is_empty()


@pytest.mark.parametrize("query", ["", f"dropId={UUID(int=1)}", f"dropId={UUID(int=1)}&lastEventId=0", "dropId=bad"])
async def test_leaving_before_the_handshake_is_over(local: Local, caplog: pytest.LogCaptureFixture, query: str) -> None:
    """Nothing is left of it, nothing is logged."""
    local.hub.restart(10)  # so that 0 must be looked up in the log
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            connection = local.connect()
            connection.sendall(UPGRADE.format(query=query).encode())
            reset(connection)
            await asyncio.sleep(0)
        witness = await open_stream("sse", local.url)  # comes after them all
        assert await local.has(1)
        await witness.close()
        assert await local.is_empty()
    assert caplog.messages == []


@pytest.mark.parametrize("second", [GET, UPGRADE.format(query="snapshot=false"), "POST /api/drops HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_another_request_behind_an_open_stream(
    local: Local, caplog: pytest.LogCaptureFixture, second: str, at_once: bool
) -> None:
    """The connection is cut: what comes behind is never answered, and would hide the client's leaving from the stream."""
    loop = asyncio.get_running_loop()
    connection = local.connect()
    connection.setblocking(False)
    if at_once:
        await loop.sock_sendall(connection, (GET + second).encode())
    else:
        await loop.sock_sendall(connection, GET.encode())
        assert await local.has(1)
        await loop.sock_sendall(connection, second.encode())
    with suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            while await loop.sock_recv(connection, 65536):
                pass
    connection.close()
    assert await local.is_empty()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_requests_one_after_the_other_are_no_abuse(local: Local) -> None:
    """Sent at once, too: each is answered."""
    loop = asyncio.get_running_loop()
    connection = local.connect()
    connection.setblocking(False)
    await loop.sock_sendall(connection, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    received = b""
    async with asyncio.timeout(10):
        while received.count(b'"ok"') < 3:
            received += await loop.sock_recv(connection, 65536)
    connection.close()


@pytest.mark.parametrize("payload", ["", "garbage", "[]", '{"type":"STOCK_UPDATED"}', "١٢", '{"type":"X","id":"x","data":{}}'])
async def test_a_notification_that_is_no_event(database: Database, payload: str) -> None:
    """It is looked up in the log, where there is nothing."""
    async with fresh_database(database) as url, serving_here(url) as local:
        owner = await asyncpg.connect(url)
        await owner.execute("select pg_notify('lastpair_events', $1)", payload)
        await sell_and_see(owner, local)
        await owner.close()


async def test_a_forged_event(database: Database) -> None:
    """One with an id from the future does not make the real ones look old, even while there is no quiet moment."""
    async with fresh_database(database) as url, serving_here(url) as local:
        owner = await asyncpg.connect(url)
        await sell_and_see(owner, local)
        forged = f'{{"type":"STOCK_UPDATED","id":"999999999","data":{{"dropId":"{uuid4()}","availableStock":1}}}}'
        await owner.execute("select pg_notify('lastpair_events', $1)", forged)
        await sell_and_see(owner, local)
        await owner.close()


async def sell_and_see(owner: asyncpg.Connection, local: Local) -> None:
    """What happens in the database is seen by a client, to the last event."""
    stream = await open_stream("sse", local.url)
    start_id = int((await stream.receive()).id)
    seller = await make_user(owner)
    drop_id = await owner.fetchval("select id from api.create_drop('Air', 1, 5, $1, now())", seller)
    await owner.execute("select api.reserve($1, $2)", drop_id, seller)
    expected = await logged(owner, start_id)
    assert len(expected) == 2
    assert [await stream.receive() for _ in expected] == expected
    await stream.close()


async def test_a_log_that_was_emptied(database: Database) -> None:
    """As db/seed/reset.sql does: who is there begins anew, and so does who comes back with an id of before."""
    async with fresh_database(database) as url, serving_here(url) as local:
        owner = await asyncpg.connect(url)
        await sell_and_see(owner, local)
        stays = await open_stream("sse", local.url)
        old_id = int((await stays.receive()).id)
        await owner.execute(
            "truncate inventory.users, inventory.drops, inventory.reservations, inventory.purchases, inventory.events"
        )
        await owner.execute("select pg_notify('lastpair_events', nextval('inventory.events_id_seq')::text)")
        assert (await stays.receive()).type == "RESYNC_REQUIRED"
        assert (await stays.receive()).data == {"drops": []}
        await sell_and_see(owner, local)
        assert (await stays.receive()).type == "DROP_CREATED"
        back = await open_stream("sse", local.url, last_event_id=old_id)
        assert [(await back.receive()).type for _ in range(2)] == ["RESYNC_REQUIRED", "SNAPSHOT"]
        await stays.close()
        await back.close()
        await owner.close()


@pytest.mark.slow
async def test_stopping_while_the_database_hangs(database: Database) -> None:
    """Streams end, and the process is gone within 5 seconds, whatever waits for the database."""
    async with fresh_database(database) as url:
        owner = await asyncpg.connect(url)
        with started(DATABASE_URL=url, EXPIRY_POLL_MS="3600000") as service:
            await asyncio.to_thread(service.wait_until_ready)
            streams = [await open_stream(transport, service.url) for transport in ("sse", "ws") for _ in range(3)]
            async with owner.transaction():
                await owner.execute("lock table inventory.drops in access exclusive mode")
                waiting = [asyncio.create_task(open_stream("sse", service.url, [uuid4()])) for _ in range(3)]
                while await owner.fetchval("select count(*) from pg_locks where not granted") < 3:
                    await asyncio.sleep(0.01)
                assert await asyncio.to_thread(service.stop) < 5
            await asyncio.gather(*waiting, return_exceptions=True)
            for stream in streams:
                await stream.close()
        await owner.close()
