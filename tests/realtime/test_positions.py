"""Positions: a client always has an id to come back with, before the first event and after a long silence, too."""

from collections.abc import AsyncIterator
from json import dumps, loads
from uuid import UUID, uuid4

import asyncpg
import pytest

from lastpair.realtime.event import Event
from lastpair.web.sse import sse
from lastpair.web.websocket import message_text
from tests.support.database import Database, connected
from tests.support.factories import make_user
from tests.support.hub import the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import TRANSPORTS, Message, fresh_database, logged, newest_id, open_stream

CREATE = "select id from api.create_drop($1, 1, 5, $2, now())"


@pytest.fixture(scope="module")
async def url(database: Database) -> AsyncIterator[str]:
    """A migrated database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture(scope="module")
async def service(url: str) -> AsyncIterator[InProcess]:
    """The service in this process, on that database."""
    async with served(settings_for(url)) as service:
        yield service


@pytest.fixture
async def owner(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of that database's owner."""
    async with connected(url) as connection:
        yield connection


@pytest.fixture
async def drops(owner: asyncpg.Connection) -> list[str]:
    """Two live drops: a quiet one and a busy one."""
    seller = UUID(await make_user(owner))
    return [str(await owner.fetchval(CREATE, name, seller)) for name in ("quiet", "busy")]


async def rename(service: InProcess, owner: asyncpg.Connection, drop_id: str, name: str | None = None) -> int:
    """Rename the drop, and wait until the service has heard of it; returns the id of the event."""
    stream = await open_stream("sse", service.url, [drop_id], last_event_id=await newest_id(owner))
    await owner.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": name or uuid4().hex}))
    event = await stream.receive()
    await stream.close()
    return int(event.id)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stream_without_a_snapshot(
    service: InProcess, owner: asyncpg.Connection, drops: list[str], transport: str
) -> None:
    """It begins with a POSITION. Cut off before any event and after it, the client comes back and has missed nothing."""
    await rename(service, owner, drops[1])
    stream = await open_stream(transport, service.url, snapshot=False)
    first = await stream.receive_any()
    assert first == Message("POSITION", str(await newest_id(owner)), "{}")
    await stream.close()
    await rename(service, owner, drops[0])
    await rename(service, owner, drops[1])
    log = await logged(owner, int(first.id))
    assert len(log) == 2
    stream = await open_stream(transport, service.url, last_event_id=first.id, snapshot=False)
    assert [await stream.receive_any() for _ in log] == log
    await stream.close()


async def test_an_empty_log(database: Database) -> None:
    """The position before the first event of a log is an id to come back with, too."""
    async with fresh_database(database) as url, served(settings_for(url)) as service, connected(url) as owner:
        for transport in TRANSPORTS:
            stream = await open_stream(transport, service.url, snapshot=False)
            assert await stream.receive_any() == Message("POSITION", "0", "{}")
            await stream.close()
        await owner.fetchval(CREATE, "first", UUID(await make_user(owner)))
        for transport in TRANSPORTS:
            stream = await open_stream(transport, service.url, last_event_id=0, snapshot=False)
            assert [await stream.receive_any()] == await logged(owner, 0)
            await stream.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_quiet_drop(service: InProcess, owner: asyncpg.Connection, drops: list[str], transport: str) -> None:
    """Its client comes back when its last event is gone from the log: it goes on if only other drops' events were missed, and
    starts again if one of its own was."""
    stream = await open_stream(transport, service.url, [drops[0]])
    snapshot = await stream.receive_any()
    await stream.close()

    async def pruned() -> None:
        assert await owner.fetchval("select api.prune_events(0)") > 0
        # As in another process, whose memory has none of these events.
        the_track(service.components.hub).restart(await newest_id(owner))

    for _ in range(3):
        await rename(service, owner, drops[1])
    await pruned()
    assert await owner.fetchval("select count(*) from inventory.events where id <= $1", int(snapshot.id)) == 0
    stream = await open_stream(transport, service.url, [drops[0]], last_event_id=int(snapshot.id))
    newest = await rename(service, owner, drops[0])
    assert (await stream.receive_any()).id == str(newest)
    await stream.close()
    await rename(service, owner, drops[1])
    await rename(service, owner, drops[1])
    await pruned()
    stream = await open_stream(transport, service.url, [drops[0]], last_event_id=int(snapshot.id))
    assert (await stream.receive_any()).type == "RESYNC_REQUIRED"
    assert (await stream.receive_any()).type == "SNAPSHOT"
    await stream.close()


async def test_an_answer_keeps_the_position(service: InProcess, owner: asyncpg.Connection, drops: list[str]) -> None:
    """The ERROR of a client that came back, and was sent nothing yet, has the id that it came with; a pong has no id."""
    await rename(service, owner, drops[1])
    newest = await newest_id(owner)
    stream = await open_stream("ws", service.url, last_event_id=newest)
    await stream.connection.send("?")
    error = await stream.receive_any()
    assert (error.type, error.id) == ("ERROR", str(newest))
    for ping in ('{"type":"ping"}', b' {"type" : "ping"}'):
        await stream.connection.send(ping)
        assert await stream.connection.recv() == '{"type":"pong"}'
    for wrong in ({"type": "ping", "dropId": drops[0]}, {"type": "ping", "more": 1}, {"type": "PING"}):
        await stream.connection.send(dumps(wrong))
        error = await stream.receive_any()
        assert (error.type, error.id) == ("ERROR", str(newest))
    event_id = await rename(service, owner, drops[0])
    assert (await stream.receive_any()).id == str(event_id)
    await stream.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_characters_that_break_lines(
    service: InProcess, owner: asyncpg.Connection, drops: list[str], transport: str
) -> None:
    """A name that has them comes in one line, whatever a reader takes for the end of a line, in events and in a SNAPSHOT."""
    name = "a\u2028b\u2029c 靴\U0001f45f"
    stream = await open_stream(transport, service.url, [drops[0]])
    await stream.receive_any()
    await rename(service, owner, drops[0], name)
    event = await stream.receive_any()
    await stream.close()
    stream = await open_stream(transport, service.url, [drops[0]])
    snapshot = await stream.receive_any()
    await stream.close()
    for text, drop in ((event.text, event.data["drop"]), (snapshot.text, snapshot.data["drops"][0])):
        assert drop["name"] == name
        assert r"a\u2028b\u2029c 靴" in text
        assert text.splitlines() == [text]
    async with service.http.stream("GET", f"/drops/{drops[0]}") as response:
        assert name in (await response.aread()).decode()  # an answer is JSON from end to end and has no lines


async def test_reconnects_are_spread(service: InProcess) -> None:
    """Streams are told different times after which to reconnect, between one and three seconds."""
    told = set()
    for _ in range(20):
        stream = await open_stream("sse", service.url, snapshot=False)
        await stream.receive_any()
        told |= set(stream.parser.retry_ms)
        await stream.close()
    assert len(told) > 10
    assert 1000 <= min(told) <= max(told) <= 3000


def test_no_data_breaks_a_line() -> None:
    """The JSON of an event is one line to every reader, and the same JSON, even if its author broke lines between its tokens."""
    for data in ('{\r\n"a":\r[1,\n2]}', '{"a":"\x85 \u2028 \u2029"}', '{"\u2028":1}', '{"a":"\\\\\u2028"}'):
        event = Event(f'{{"type":"X","id":"1","drop_id":null,"data":{data}}}')
        assert loads(event.data) == loads(data)
        for text in (event.data, message_text(event)):
            assert text.splitlines() == [text]
        assert len(sse(event).decode().splitlines()) == 4
        assert event.size_bytes == len(event.data.encode())
