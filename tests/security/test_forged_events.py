"""Roles that may connect to the database can NOTIFY. No client ever gets what they say, and no client misses what is true."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from json import dumps
from time import sleep
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from lastpair.realtime.event import Event, make_event
from lastpair.realtime.notification import LoggedEvent, events_of
from lastpair.realtime.relay import Relay
from tests.support.database import connected as owner_of
from tests.support.factories import make_user
from tests.support.hub import the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import TRANSPORTS, Message, logged, newest_id, open_stream, publish
from tests.support.waiting import eventually

KEY = bytes(range(64))
DROP = str(UUID(int=7))
FIELDS: dict[str, Any] = {
    "type": "STOCK_UPDATED",
    "id": "8",
    "drop_id": DROP,
    "data": {"dropId": DROP, "availableStock": 0},
}


def signed(text: str, key: bytes = KEY) -> str:
    """The notification with this text and a code that is right for the key."""
    return f'{{"mac":"{hmac.digest(key, text.encode(), "sha256").hex()}",{text[1:]}'


def line_of(**changes: object) -> str:
    """The line of an event with these fields changed."""
    return dumps(FIELDS | changes, separators=(",", ":"))


def text_of(*lines: str, committed_at: object = 1764352000.123) -> str:
    """The text of a notification with these events; without any it has that of FIELDS."""
    events = ",\n".join(lines or [line_of()])
    return f'{{"committedAt":{committed_at},"events":[\n{events}]}}'


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


@pytest.fixture
async def drop_id(service: InProcess, owner: asyncpg.Connection) -> UUID:
    """A drop of 100 units, of which the service has heard."""
    seller = await make_user(owner)
    found: UUID = await owner.fetchval("select id from api.create_drop('Air', 1, 100, $1, now())", seller)
    newest = await newest_id(owner)
    await eventually(lambda: the_track(service.components.hub).head_id == newest)
    return found


async def notify(owner: asyncpg.Connection, payload: str) -> None:
    """Send a notification as any role may."""
    await owner.execute("select pg_notify('lastpair_events', $1)", payload)


async def reserve(owner: asyncpg.Connection, drop_id: UUID) -> None:
    """Hold a unit, which one STOCK_UPDATED announces."""
    await owner.execute("select api.reserve($1, $2)", drop_id, UUID(await make_user(owner)))


def unproven() -> float:
    """How many notifications proved nothing so far."""
    return REGISTRY.get_sample_value("lastpair_unproven_notifications_total") or 0


LOGGED = '{"id":"9"}'


def test_what_the_key_signs_are_events() -> None:
    """Each has the fields of its line. Of one that only the log has there is the id."""
    first, second, third = events_of(signed(text_of(line_of(), LOGGED, line_of(id="10", data={}))), KEY)
    assert isinstance(first, Event)
    assert (first.type, first.id, first.drop_id, first.committed_at) == ("STOCK_UPDATED", 8, DROP, 1764352000.123)
    assert first.data == '{"dropId":"' + DROP + '","availableStock":0}'
    assert second == LoggedEvent(9)
    assert isinstance(third, Event)
    assert (third.id, third.committed_at, third.data) == (10, 1764352000.123, "{}")


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "9",
        text_of(),
        signed(text_of(), KEY[::-1]),
        signed(text_of(), b""),
        signed(text_of()).replace('"availableStock":0', '"availableStock":9'),
        signed(text_of()).replace(".123", ".124"),
        signed(text_of()).replace('"id":"8"', '"id":"9"'),
        signed(text_of(LOGGED)).replace('"9"', '"8"'),
        signed(text_of(line_of(), LOGGED)).replace(",\n" + LOGGED, ""),
        signed(text_of()) + "\n",
        signed(text_of()) + " ",
        " " + signed(text_of()),
        signed(text_of()).replace('{"mac"', '{ "mac"'),
        signed(text_of()).replace('{"mac":"', '{"mac":"A'),
    ],
)
def test_what_the_key_does_not_sign_has_no_events(payload: str) -> None:
    """No other key, no other text, no other form."""
    assert events_of(payload, KEY) == []


def test_without_a_key_there_are_no_events() -> None:
    """A relay that could not read the key must not take the empty one."""
    assert events_of(signed(text_of(), b""), None) == []
    assert events_of(signed(text_of()), None) == []
    assert events_of(signed(text_of(LOGGED)), None) == []


LINES = [
    line_of(type="STOCK_UPDATED\nid: 9"),
    line_of(type="X").replace('"X"', '"X\nid: 9"'),
    line_of(type="stock"),
    line_of(type=""),
    line_of(type="X" * 41),
    line_of(type=["X"]),
    line_of(id=8),
    line_of(id="08"),
    line_of(id="-8"),
    line_of(id="\u0668"),
    line_of(id="1" * 19),
    line_of(drop_id=None),
    line_of(drop_id=[1]),
    line_of(drop_id="x"),
    line_of(drop_id=DROP.replace("-", "")),
    line_of(drop_id=str(uuid4()).upper()),
    line_of(data={}).replace("{}", "{\n}"),
    line_of(data={}).replace("{}", "{\r}"),
    line_of(more=1),
    dumps({"id": "8", "type": "X", "drop_id": DROP, "data": {}}, separators=(",", ":")),
    '{"id":"08"}',
    '{"id":"0"}',
    '{"id":8}',
    '{"id":"1234567890123456789"}',
    '{"id":"8","data":{}}',
    '{"id":"8","type":"PAYMENT_UPDATED"}',
    '{"id":"٨"}',
    "",
    "{}",
    "9",
]


@pytest.mark.parametrize(
    "text",
    [
        *(text_of(line) for line in LINES),
        *(text_of(line_of(), line, line_of(id="9")) for line in LINES),
        text_of(line_of() + ","),
        text_of(line_of() + line_of()),
        text_of(line_of() + "," + line_of()),
        text_of().replace("[\n", "["),
        text_of().replace("]}", "\n]}"),
        text_of(committed_at='"soon"'),
        text_of(committed_at="null"),
        text_of(committed_at="NaN"),
        text_of().replace("]}", '],"more":1}'),
        line_of(),
        LOGGED,
    ],
)
def test_another_form_has_no_events_even_if_it_is_signed(text: str) -> None:
    """What inventory.publish never writes is not guessed at, and takes what stands beside it along."""
    assert events_of(signed(text), KEY) == []


def test_data_on_several_lines_becomes_one_line() -> None:
    """The owner may publish such JSON by hand; in a stream a line break would begin another field."""
    event = make_event("X", 8, {}, DROP)
    for newline in ("\n", "\r", "\r\n"):
        text = f'{{"type":"X","id":"8","drop_id":"{DROP}","data":{{{newline}"a": {newline}1}}}}'
        assert type(event)(text).data.split() == ["{", '"a":', "1}"]
        assert not set(type(event)(text).data) & set("\r\n")


FORGERIES = [
    '{{"type":"STOCK_UPDATED","id":"{next_id}","drop_id":"{drop_id}","data":{{"dropId":"{drop_id}","availableStock":666}}}}',
    '{{"type":"STOCK_UPDATED","id":"{next_id}","data":{{"dropId":"{drop_id}","availableStock":666}}}}',
    '{{"committedAt":1764352000.123,"events":[\n{{"type":"STOCK_UPDATED","id":"{next_id}","drop_id":"{drop_id}","data":{{}}}}]}}',
    '{{"mac":"' + "0" * 64 + '","committedAt":1764352000.123,"events":[\n{{"type":"STOCK_UPDATED","id":"{next_id}",'
    '"drop_id":"{drop_id}","data":{{"dropId":"{drop_id}","availableStock":666}}}}]}}',
    '{{"mac":"' + "0" * 64 + '","committedAt":1764352000.123,"events":[\n{{"id":"{next_id}"}}]}}',
    '{{"type":"STOCK_UPDATED","id":"{next_id}","data":{{"dropId":[1]}}}}',
    '{{"type":"STOCK_UPDATED","id":"{next_id}","drop_id":[1],"data":{{}}}}',
    '{{"type":["X"],"id":"{next_id}","drop_id":"{drop_id}","data":{{}}}}',
    '{{"type":"X\\nid: 1\\ndata: {{}}\\n","id":"{next_id}","drop_id":"{drop_id}","data":{{}}}}',
    '{{"type":"INVENTED_TYPE","id":"{next_id}","drop_id":"{drop_id}","data":{{}}}}',
    '{{"type":"X","id":"' + "9" * 5000 + '","drop_id":"{drop_id}","data":{{}}}}',
    "[" * 7000,
    '{{"type":"X","id":"{next_id}","drop_id":"{drop_id}","data":{{"a":\n"\ud7ff"}}}}',
]


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_event_reaches_no_client(
    service: InProcess,
    owner: asyncpg.Connection,
    drop_id: UUID,
    caplog: pytest.LogCaptureFixture,
    forgery: str,
) -> None:
    """Streams stay open and get exactly what is in the log; the listener goes on; no metric gets a label."""
    streams = [
        await open_stream(transport, service.url, ids, snapshot=False) for transport in TRANSPORTS for ids in ([], [drop_id])
    ]
    await reserve(owner, drop_id)
    last_id, counted = await newest_id(owner), unproven()
    first = [await stream.receive() for stream in streams]
    assert {message.id for message in first} == {str(last_id)}
    with caplog.at_level(logging.WARNING):
        for next_id in range(last_id + 1, last_id + 4):
            await notify(owner, forgery.format(next_id=next_id, drop_id=drop_id))
        for _ in range(3):
            await reserve(owner, drop_id)
        log = await logged(owner, last_id)
        assert len(log) == 3
        for stream in streams:
            assert [await stream.receive() for _ in log] == log
            await stream.close()
    assert unproven() - counted == 3
    assert [record.exc_info for record in caplog.records if record.exc_info] == []
    assert len(caplog.records) <= 1, "it is logged once a minute"
    types = {sample.labels.get("type") for metric in REGISTRY.collect() for sample in metric.samples}
    assert types.isdisjoint({"INVENTED_TYPE", "X", "X\nid: 1\ndata: {}\n"})


async def test_a_notification_that_is_repeated(service: InProcess, owner: asyncpg.Connection, drop_id: UUID) -> None:
    """Anybody who may connect can hear a true notification and send it again: it is published once."""
    heard: list[str] = []
    await owner.add_listener("lastpair_events", lambda *notification: heard.append(str(notification[-1])))
    stream = await open_stream("sse", service.url, snapshot=False)
    await reserve(owner, drop_id)
    await eventually(lambda: heard)
    counted = unproven()
    for _ in range(3):
        await notify(owner, heard[0])
        await reserve(owner, drop_id)
    log = await logged(owner, await newest_id(owner) - 4)
    assert [await stream.receive() for _ in log] == log
    assert unproven() == counted
    await stream.close()


async def test_a_notification_of_many_events_that_is_repeated(
    service: InProcess, owner: asyncpg.Connection, own_database_url: str, drop_id: UUID
) -> None:
    """It counts once, however many events it has, so that a few of them do not make the listener deaf."""
    heard: list[str] = []
    await owner.add_listener("lastpair_events", lambda *notification: heard.append(str(notification[-1])))
    async with asyncpg.create_pool(own_database_url) as pool:
        await publish(pool, drop_id, "FILLER", ["{}"] * 32)
    newest = await newest_id(owner)
    await eventually(lambda: heard and the_track(service.components.hub).head_id == newest)
    stream = await open_stream("sse", service.url, snapshot=False)
    for _ in range(50):
        await notify(owner, heard[0])
    await reserve(owner, drop_id)
    assert [await stream.receive()] == await logged(owner, newest)
    assert service.components.relays.all[0]._listen_at == 0
    await stream.close()


@pytest.mark.parametrize("data", ['{"variants":[1]}', '{"variants":1}', '{"variants":[{"id":"\\ud800"}]}'])
async def test_what_the_owner_publishes_by_hand(service: InProcess, own_database_url: str, data: str) -> None:
    """Odd data is passed on as it is, and the listener goes on."""
    stream = await open_stream("sse", service.url, snapshot=False)
    async with asyncpg.create_pool(own_database_url) as pool:
        await publish(pool, uuid4(), "STOCK_UPDATED", [data])
        await publish(pool, uuid4(), "FILLER", ["{}"])
    assert [(await stream.receive()).type for _ in range(2)] == ["STOCK_UPDATED", "FILLER"]
    await stream.close()


async def test_an_event_too_large_to_notify(service: InProcess, owner: asyncpg.Connection, own_database_url: str) -> None:
    """Its notification has only the id, and the log is read at once."""
    stream, counted = await open_stream("sse", service.url, snapshot=False), unproven()
    async with asyncpg.create_pool(own_database_url) as pool:
        await publish(pool, uuid4(), "LARGE", [dumps({"filler": "x" * 100_000})])
    assert [await stream.receive()] == await logged(owner, await newest_id(owner) - 1)
    assert unproven() == counted
    await stream.close()


@pytest.fixture
def losses(service: InProcess) -> list[str]:
    """One entry for each time that a connection to the database was taken for dead."""
    found: list[str] = []
    service.components.database.watch.on_loss.append(lambda: found.append("lost"))
    return found


FLOODS = {
    "tiny forgeries": "select pg_notify('lastpair_events', n::text) from generate_series(1, 20000) n",
    "large forgeries": "select pg_notify('lastpair_events', n || repeat('x', 7900)) from generate_series(1, 2000) n",
    "true events again": "select pg_notify('lastpair_events', payload) from heard",
}


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood(
    service: InProcess,
    owner: asyncpg.Connection,
    own_database_url: str,
    drop_id: UUID,
    losses: list[str],
    monkeypatch: pytest.MonkeyPatch,
    flood: str,
) -> None:
    """While it lasts every sale is heard soon, the log is read a few times a second, and the process is ready. Afterwards the
    process listens again."""
    monkeypatch.setattr("lastpair.realtime.relay.DEAF_SECONDS", 0.5)
    taken = reads = 0
    read_log = Relay._read_log

    def counted_events_of(*notification: Any) -> object:
        nonlocal taken
        taken += 1
        return events_of(*notification)

    async def counted_read_log(relay: Relay, connection: asyncpg.Connection) -> None:
        nonlocal reads
        reads += 1
        await read_log(relay, connection)

    loop, heard = asyncio.get_running_loop(), asyncio.Queue[str]()
    async with asyncpg.create_pool(own_database_url, min_size=3) as pool, owner_of(own_database_url) as stranger:
        await stranger.add_listener("lastpair_events", lambda *notification: heard.put_nowait(str(notification[-1])))
        await publish(pool, drop_id, "FILLER", [dumps({"dropId": str(drop_id), "n": n}) for n in range(2000)])
        await stranger.execute("drop table if exists public.heard; create table public.heard (payload text)")
        payloads: list[str] = []
        while sum(payload.count("\n") for payload in payloads) < 2000:  # each event is a line
            payloads.append(await heard.get())
        await stranger.copy_records_to_table("heard", records=[(payload,) for payload in payloads])
        await stranger.execute("unlisten *")
        stream = await open_stream("sse", service.url, last_event_id=await newest_id(owner))
        monkeypatch.setattr("lastpair.realtime.relay.events_of", counted_events_of)
        monkeypatch.setattr(Relay, "_read_log", counted_read_log)
        begin, late = loop.time(), []

        async def send() -> None:
            while loop.time() < begin + 2:
                await pool.execute(FLOODS[flood])

        flooding = asyncio.gather(send(), send())
        while not flooding.done():
            sold_at = loop.time()
            await reserve(owner, drop_id)
            assert (await stream.receive()).type == "STOCK_UPDATED"
            late.append(loop.time() - sold_at)
            assert (await service.http.get(f"{service.url}/readyz")).status_code == 200
        await flooding
        seconds = loop.time() - begin
        assert reads <= 2 + 6 * seconds
        assert taken <= 1001 * (1 + seconds / 0.5)
        assert max(late) < 10
        assert losses == []
        await eventually(lambda: not service.components.relays.all[0]._log_is_due)
        await reserve(owner, drop_id)
        assert (await stream.receive()).type == "STOCK_UPDATED"
        await stream.close()


async def test_an_answer_behind_notifications(
    service: InProcess, owner: asyncpg.Connection, drop_id: UUID, losses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Megabytes of notifications stand before the answer of the log. They are no sign that the connection is dead."""
    monkeypatch.setattr("lastpair.database.liveness.SILENT_SECONDS", 0.8)
    monkeypatch.setattr("lastpair.database.liveness.LOOK_SECONDS", 0.2)

    def slow_events_of(*notification: Any) -> object:
        sleep(0.003)
        return events_of(*notification)

    monkeypatch.setattr("lastpair.realtime.relay.events_of", slow_events_of)
    counted = unproven()
    await owner.execute("select pg_notify('lastpair_events', n || repeat('x', 7900)) from generate_series(1, 900) n")
    await eventually(lambda: unproven() - counted == 900)
    await eventually(lambda: not service.components.relays.all[0]._log_is_due)
    assert losses == []


async def test_more_events_at_once_than_may_wait(
    service: InProcess, own_database_url: str, drop_id: UUID, losses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream gets all of them from the log, and the process stays ready."""
    monkeypatch.setattr("lastpair.realtime.relay.MAX_HEARD_EVENTS", 100)
    connected: list[bool] = []
    monkeypatch.setattr("lastpair.realtime.relay.LISTENING.set", connected.append)
    async with asyncpg.create_pool(own_database_url) as pool:
        before = await newest_id(pool)
        stream = await open_stream("sse", service.url, last_event_id=before)
        await publish(pool, drop_id, "FILLER", [dumps({"dropId": str(drop_id), "n": n}) for n in range(3000)])
        log = await logged(pool, before)
    assert [await stream.receive() for _ in log] == log
    assert connected
    assert all(connected)
    assert losses == []
    await stream.close()


async def test_functions_that_prove_nothing(service: InProcess, owner: asyncpg.Connection, drop_id: UUID) -> None:
    """An old process may put back functions that know no key. What they publish comes from the log."""
    stream = await open_stream("sse", service.url, snapshot=False)
    definition: str = await owner.fetchval("select pg_get_functiondef('inventory.publish(inventory.new_event[])'::regprocedure)")
    try:
        await owner.execute(
            """
            create or replace function inventory.publish(p_events inventory.new_event[])
            returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
            declare
              v_event text;
            begin
              insert into inventory.events (drop_id, type, data) values (p_events[1].drop_id, p_events[1].type, p_events[1].data)
              returning to_json(events)::text into v_event;
              perform pg_notify('lastpair_events', v_event);
            end $$
            """
        )
        for _ in range(3):
            await reserve(owner, drop_id)
    finally:
        await owner.execute(definition)
    await reserve(owner, drop_id)
    log = await logged(owner, await newest_id(owner) - 4)
    assert [await stream.receive() for _ in log] == log
    await stream.close()


async def test_a_key_that_is_changed(
    service: InProcess, owner: asyncpg.Connection, drop_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the relay reads the key again, events come from the log."""
    monkeypatch.setattr("lastpair.realtime.relay.CHECK_SECONDS", 0.2)
    stream = await open_stream("sse", service.url, snapshot=False)
    await owner.execute("update inventory.event_key set inner_key = outer_key, outer_key = inner_key")
    try:
        await reserve(owner, drop_id)
        assert [await stream.receive()] == await logged(owner, await newest_id(owner) - 1)
    finally:
        await owner.execute("update inventory.event_key set inner_key = outer_key, outer_key = inner_key")
    await stream.close()


@pytest.mark.slow
async def test_a_published_event_that_the_log_does_not_have(
    service: InProcess, owner: asyncpg.Connection, drop_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an event was published that is not in the log, even with the right key, all clients start again soon."""
    monkeypatch.setattr("lastpair.realtime.relay.CHECK_SECONDS", 0.1)
    stream = await open_stream("sse", service.url, [drop_id], snapshot=True)
    assert (await stream.receive()).type == "SNAPSHOT"
    for _ in range(2):
        await reserve(owner, drop_id)
        assert (await stream.receive()).type == "STOCK_UPDATED"
    key = await owner.fetchval("select api.event_key()")
    forged = line_of(
        id=str(await newest_id(owner) + 1), drop_id=str(drop_id), data={"dropId": str(drop_id), "availableStock": 66}
    )
    await notify(owner, signed(text_of(forged), key))
    received: list[Message] = []
    while not received or received[-1].type != "SNAPSHOT":
        received.append(await stream.receive())
    assert [message.type for message in received][-2:] == ["RESYNC_REQUIRED", "SNAPSHOT"]
    await reserve(owner, drop_id)
    assert [await stream.receive()] == await logged(owner, await newest_id(owner) - 1)
    await stream.close()
