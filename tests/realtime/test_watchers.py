"""GET /watchers: how many streams are open, whichever process answers."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import httpx
import psutil
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from lastpair.database.pool import Database as Pool
from lastpair.realtime.watchers import Watchers
from tests.support.database import Database, connected
from tests.support.envelopes import assert_envelope, assert_error
from tests.support.in_process import served, settings_for
from tests.support.servers import Service, started
from tests.support.streams import TRANSPORTS, Stream, StreamEnded, close_streams, fresh_database, open_stream
from tests.support.waiting import eventually, wait_for

PATIENCE_SECONDS = 120
ANSWERS = 10
"""So many new connections come to both processes, nearly always."""


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    """A database of the test's own, because every service of a database counts."""
    async with fresh_database(database) as url:
        yield url


async def answer_of(url: str) -> Any:
    """The data of an answer, asked for on a new connection; None for each from a process that has just begun."""
    async with httpx.AsyncClient(timeout=60) as http:
        return assert_envelope(await http.get(f"{url}/api/watchers")).get("data", {"watchers": None, "as_of": None})


async def all_say(url: str, count: int) -> None:
    """Wait until every process says that there are so many."""

    async def is_said() -> bool:
        return {(await answer_of(url))["watchers"] for _ in range(ANSWERS)} == {count}

    await eventually(is_said, PATIENCE_SECONDS)


@asynccontextmanager
async def socketio_session(url: str) -> AsyncIterator[None]:
    """A session of Socket.IO over WebSocket, which answers the pings."""

    async def answer_pings(connection: ClientConnection) -> None:
        async for packet in connection:
            if packet == "2":
                await connection.send("3")

    address = f"{url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
    async with connect_websocket(address, open_timeout=60) as connection:
        answering = asyncio.create_task(answer_pings(connection))
        yield
        answering.cancel()


async def test_every_transport(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of each counts as long as it is open, and `as_of` is the time of the count."""
    monkeypatch.setattr("lastpair.web.lifespan.COUNT_SECONDS", 0.05)
    async with served(settings_for(url)) as service, connected(url) as owner:
        await all_say(service.url, 0)
        streams: list[Stream] = [await open_stream(transport, service.url) for transport in TRANSPORTS]
        async with socketio_session(service.url):
            await all_say(service.url, 3)
            before = await owner.fetchval("select now()")
            await streams.pop().close()
            await all_say(service.url, 2)
        found = await answer_of(service.url)
        assert list(found) == ["watchers", "as_of"]
        assert datetime.fromisoformat(found["as_of"]) > before
        await streams.pop().close()
        await all_say(service.url, 0)
        assert await owner.fetchval("select count(*) from inventory.watchers") == 0


async def test_an_answer_waits_for_no_call(url: str) -> None:
    """It comes from the memory of the process: the table is locked meanwhile."""
    async with served(settings_for(url)) as service:
        await eventually(lambda: service.components.watchers.latest is not None, PATIENCE_SECONDS)
        async with connected(url) as owner, owner.transaction():
            await owner.execute("lock table inventory.watchers")
            assert (await answer_of(service.url))["watchers"] == 0


async def test_nothing_is_counted_yet(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero would be a lie, so the answer is an error that passes."""
    monkeypatch.setattr(Watchers, "count", lambda _: asyncio.sleep(0))
    async with served(settings_for(url)) as service:
        assert "not counted yet" in assert_error(await service.http.get("/watchers"), 503, "DATABASE_UNAVAILABLE")


async def test_a_process_that_stops(url: str) -> None:
    """Its streams are taken off at once. The others stay."""
    pool = Pool(url, 1, pooled=False, max_pending=10)
    await pool.open()
    stopping, staying = Watchers(pool, lambda: 3), Watchers(pool, lambda: 4)
    for process in (stopping, staying):
        await process.count()
    assert staying.latest is not None
    assert staying.latest.watchers == 7
    await stopping.leave()
    await staying.count()
    assert staying.latest.watchers == 4
    await pool.close()


@pytest.mark.slow
async def test_a_process_is_killed(url: str) -> None:
    """Both processes give the same sum. After kill -9 of one its streams, which have ended, count no more."""
    with started(DATABASE_URL=url, EXPIRY_POLL_MS="3600000", WEB_CONCURRENCY="2") as service:
        await asyncio.to_thread(wait_for, lambda: service.answers("/readyz", 200), 120)
        streams: list[Stream] = []
        while len(workers := busy_workers(service)) < 2:
            streams += [await open_stream("ws", service.url, snapshot=False) for _ in range(5)]
        reading = [asyncio.create_task(read_to_the_end(stream)) for stream in streams]
        await all_say(service.url, len(streams))
        os.kill(min(workers), signal.SIGKILL)
        await eventually(lambda: any(reader.done() for reader in reading), PATIENCE_SECONDS)

        async def is_said() -> bool:
            said = {(await answer_of(service.url))["watchers"] for _ in range(ANSWERS)}
            return said == {sum(not reader.done() for reader in reading)}

        await eventually(is_said, PATIENCE_SECONDS)
        assert 0 < sum(not reader.done() for reader in reading) < len(streams)
        for reader in reading:
            reader.cancel()
        ends = await asyncio.gather(*reading, return_exceptions=True)
        assert {type(end) for end in ends} == {StreamEnded, asyncio.CancelledError}
        await close_streams()


def busy_workers(service: Service) -> set[int]:
    """The processes of the service that have several connections of clients. One could be that of a request that has ended."""
    port, counts = int(service.url.rpartition(":")[2]), Counter[int]()
    for worker in psutil.Process(service.process.pid).children(recursive=True):
        counts[worker.pid] += sum(each.laddr.port == port and bool(each.raddr) for each in worker.net_connections())
    return {pid for pid, count in counts.items() if count > 1}


async def read_to_the_end(stream: Stream) -> None:
    """Read until the connection is lost."""
    while True:
        with suppress(TimeoutError):
            await stream.receive_any()
