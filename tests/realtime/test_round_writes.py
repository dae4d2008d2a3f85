"""What rounds write over real connections: one chunk, or some frames in one piece, without waking a task."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from lastpair.realtime.hub import Hub, Subscriber
from tests.support.hub import DROPS, event_of, the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import TRANSPORTS, open_stream
from tests.support.waiting import eventually

TICK_MS = 100
GET_EVENTS = b"GET /api/events?snapshot=false HTTP/1.%d\r\nHost: x\r\n\r\n"


@pytest.fixture
async def service(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InProcess]:
    """The service in this process, with long ticks. Its relay does not find out that the tests' events are not in the log."""
    monkeypatch.setattr("lastpair.realtime.relay.CHECK_SECONDS", 3600)
    async with served(settings_for(migrated_url, tick_ms=TICK_MS)) as service:
        yield service


@asynccontextmanager
async def reading(service: InProcess, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that has sent this request, and whose stream waits for events."""
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    await waiting(service.components.hub, 1)
    yield reader
    writer.close()
    await service.has_streams(0)


async def waiting(hub: Hub, number: int) -> None:
    """Wait until so many clients are served without their tasks."""
    await eventually(lambda: sum(each._outlet is not None for each in hub._subscribers) == number)


def happen(hub: Hub, number: int, size: int = 0) -> list[int]:
    """So many events are published, with this many bytes of data; returns their ids."""
    ids = [(the_track(hub).head_id or 0) + 1 + n for n in range(number)]
    for event_id in ids:
        the_track(hub).publish(event_of("DROP_UPDATED", event_id, DROPS[0], "x" * size))
    return ids


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[Subscriber]:
    """The clients whose tasks are woken from now on."""
    found: list[Subscriber] = []
    wake = Subscriber._return
    monkeypatch.setattr(Subscriber, "_return", lambda self: found.append(self) or wake(self))
    return found


def ids_in(data: bytes, pattern: bytes = rb"\nid: (\d+)\n") -> list[int]:
    """The ids of the events in these bytes."""
    return [int(found) for found in re.findall(pattern, data)]


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk."""
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def test_a_tick_is_one_chunk(service: InProcess, woken: list[Subscriber]) -> None:
    """The first event is a chunk at once, the events of the tick after it are one, and a heartbeat is one."""
    hub = service.components.hub
    async with reading(service, GET_EVENTS % 1) as reader:
        assert b"event: POSITION" in await read_chunk(reader)
        woken.clear()
        first = happen(hub, 1)
        await asyncio.sleep(0)
        more = happen(hub, 3) + happen(hub, 2)
        assert ids_in(await read_chunk(reader)) == first
        assert ids_in(await read_chunk(reader)) == more
        hub.beat()
        assert await read_chunk(reader) == b": heartbeat\n"
        assert woken == []


async def test_http_1_0_has_no_chunks(service: InProcess, woken: list[Subscriber]) -> None:
    """An HTTP/1.0 client gets the events and heartbeats as they are."""
    hub = service.components.hub
    async with reading(service, GET_EVENTS % 0) as reader:
        await reader.readuntil(b"data: {}\n\n")
        woken.clear()
        ids = happen(hub, 3)
        expected = b"".join(b"event: DROP_UPDATED\nid: %d\ndata: {}\n\n" % event_id for event_id in ids)
        assert await reader.readexactly(len(expected)) == expected
        hub.beat()
        assert await reader.readline() == b": heartbeat\n"
        assert woken == []


async def test_a_tick_is_frames_in_one_piece(service: InProcess, woken: list[Subscriber]) -> None:
    """A WebSocket gets a frame for each event. An ERROR has the id of the last of them."""
    hub = service.components.hub
    stream = await open_stream("ws", service.url, snapshot=False)
    await stream.receive_any()
    await waiting(hub, 1)
    woken.clear()
    first = happen(hub, 1)
    await asyncio.sleep(0)
    more = happen(hub, 3)
    assert [int((await stream.receive()).id) for _ in range(4)] == first + more
    hub.beat()
    await stream.connection.send("?")
    error = await stream.receive()
    assert (error.type, int(error.id)) == ("ERROR", more[-1])
    assert woken == []
    await stream.close()
    await service.has_streams(0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_does_not_read(service: InProcess, transport: str) -> None:
    """It does not hold the others, and gets every event when it reads again."""
    hub = service.components.hub
    hub._rounds._tick_seconds = 0.001
    slow = await open_stream(transport, service.url, snapshot=False, receive_buffer_bytes=131_072)
    await waiting(hub, 1)
    [follower] = hub._subscribers
    quick = await open_stream(transport, service.url, snapshot=False)
    assert (await quick.receive_any()).type == "POSITION"
    await waiting(hub, 2)
    ids, outlet = list[int](), follower._outlet
    assert outlet is not None
    while not outlet.is_busy or follower._outlet is not None:
        assert len(ids) < 1000, "it takes everything"
        ids += happen(hub, 1, 20_000)
        assert int((await quick.receive()).id) == ids[-1]
    ids += happen(hub, 20, 20_000)
    assert [int((await quick.receive()).id) for _ in range(20)] == ids[-20:]
    assert [int((await slow.receive()).id) for _ in ids] == ids
    await waiting(hub, 2)
    [last] = happen(hub, 1)
    for stream in (slow, quick):
        assert int((await stream.receive()).id) == last
        await stream.close()
    await service.has_streams(0)
