"""Feeds without a database: snapshots, replays, rooms, slow clients, and that nothing is kept of a client that has left."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from json import loads
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.types import Message

from lastpair.errors import Refusal, Unavailable
from lastpair.realtime.event import REPLACEABLE, Event, make_event
from lastpair.realtime.event_log import MAX_WAITING_SETS, SHARED_DROPS, SHARED_SETS, TAKE_DROPS, EventLog
from lastpair.realtime.feed import Feed
from lastpair.realtime.hub import GLOBAL_ROOM, Hub
from lastpair.web.lifespan import beat
from lastpair.web.limits import StreamSlots
from lastpair.web.sse import EventStream, sse
from tests.support.hub import DROPS, QUEUE, TYPES, event_of, started_hub, the_track
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("small_bounds")


class FakeLog(EventLog):
    """A log that contains the events that a test puts into it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_away = False
        self.is_pruned = False
        self.during_snapshot: Callable[[], object] = lambda: None

    async def after(self, event_id: int, limit: int, drop_ids: Sequence[str] | None, user_id: str | None = None) -> list[Event]:
        """Answer as the database does."""
        await self._travel()
        if self.is_pruned:
            return [make_event("RESYNC_REQUIRED", event_id, {"reason": "It is gone."})]

        def is_for_reader(event: Event) -> bool:
            if event.user_id is not None:
                return event.user_id == user_id
            return drop_ids is None or event.drop_id in drop_ids

        return [each for each in self.events if each.id > event_id and is_for_reader(each)][:limit]

    async def snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        """Answer as the database does; `during_snapshot` is called after the snapshot was taken and before it arrives."""
        await self._travel()
        snapshot = make_event("SNAPSHOT", self.events[-1].id if self.events else 0, {"drops": []})
        self.during_snapshot()
        await asyncio.sleep(0)
        return snapshot

    async def _travel(self) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("away")


class Client:
    """A client's feed, with a hub and a log of its own."""

    def __init__(self, *drop_ids: str, wants_snapshot: bool = True) -> None:
        self.log = FakeLog()
        self.hub = started_hub(log=self.log)
        self.feed = Feed(self.hub, drop_ids, wants_snapshot=wants_snapshot)
        self.batches: AsyncIterator[list[Event]] = aiter(self.feed.batches())

    def happen(self, event_type: str, drop_id: str = DROPS[0]) -> Event:
        """An event commits and is published."""
        event = event_of(event_type, len(self.log.events) + 1, drop_id)
        self.log.events.append(event)
        the_track(self.hub).publish(event)
        return event

    async def open(self, last_event_id: str | None = None) -> list[Event]:
        """Open the feed; returns the first batch."""
        await self.feed.open(last_event_id)
        return await self.next()

    async def next(self) -> list[Event]:
        """The next batch, which comes at once."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await anext(self.batches)

    async def waiting(self) -> asyncio.Task[list[Event]]:
        """A task that waits for the next batch."""
        task = asyncio.create_task(self.next())
        await asyncio.sleep(0)
        return task

    async def assert_ends(self, waiting: asyncio.Task[list[Event]]) -> None:
        """The stream ends at once, perhaps after an empty batch, and the hub keeps nothing of the client."""
        with pytest.raises(StopAsyncIteration):  # noqa: PT012
            assert await waiting == []
            await self.next()
        assert self.hub._subscribers == set()
        assert self.hub._rooms == {GLOBAL_ROOM: set()}


def types(batch: list[Event]) -> list[str]:
    """The types of the events."""
    return [event.type for event in batch]


async def test_a_heartbeat() -> None:
    """A heartbeat is an empty batch, again and again, and does not hide an event."""
    client = Client(wants_snapshot=False)
    assert types(await client.open()) == ["POSITION"]
    beating = asyncio.create_task(beat(client.hub, 0.001))
    assert await client.next() == []
    assert await client.next() == []
    beating.cancel()
    event = client.happen("STOCK_UPDATED")
    while not (batch := await client.next()):
        pass
    assert batch == [event]


async def test_a_heartbeat_over_sse() -> None:
    """An SSE stream sends a heartbeat as a comment, which is no block of its own."""
    client, sent, gone = Client(wants_snapshot=False), asyncio.Queue[Message](), asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def next_body() -> bytes | None:
        return (await asyncio.wait_for(sent.get(), PATIENCE_SECONDS)).get("body")

    response = EventStream(client.feed, None, StreamSlots(1, 0))
    stream = asyncio.create_task(response({"type": "http", "method": "GET"}, receive, sent.put))
    assert await next_body() is None
    assert re.fullmatch(rb"retry: \d{4}\nevent: POSITION\nid: 0\ndata: \{\}\n\n", await next_body() or b"")
    client.hub.beat()
    assert await next_body() == b": heartbeat\n"
    event = client.happen("STOCK_UPDATED")
    assert await next_body() == event.encoded(sse)
    gone.set()
    await stream
    assert await next_body() == b""
    assert client.hub._subscribers == set()


@pytest.mark.parametrize("is_waiting", [False, True])
@pytest.mark.parametrize("drop_ids", [(), (DROPS[0],), tuple(DROPS)])
async def test_a_client_that_leaves_is_forgotten(drop_ids: tuple[str, ...], is_waiting: bool) -> None:
    """The hub keeps nothing of a client that leaves, in any number of rooms, while it waits or is sent something."""
    client = Client(*drop_ids)
    assert types(await client.open()) == ["SNAPSHOT"]
    client.happen("STOCK_UPDATED")
    assert types(await client.next()) == ["STOCK_UPDATED"]
    waiting = await client.waiting() if is_waiting else asyncio.create_task(client.next())
    client.feed.close()
    await client.assert_ends(waiting)


async def test_the_end() -> None:
    """When the hub closes, every stream ends."""
    client = Client()
    await client.open()
    waiting = await client.waiting()
    client.hub.close()
    await client.assert_ends(waiting)


async def test_before_the_relay_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client waits a limited time for the relay, and is refused with 503 after it."""
    monkeypatch.setattr("lastpair.realtime.feed.START_TIMEOUT_SECONDS", 0.05)
    hub = Hub()
    track = hub.add(None, FakeLog())
    feed = Feed(hub, [], wants_snapshot=True)
    with pytest.raises(Refusal) as refused:
        await feed.open(None)
    assert (refused.value.status, refused.value.code) == (503, "DATABASE_UNAVAILABLE")
    assert refused.value.retry_after_seconds == 1
    opening = asyncio.create_task(feed.open(None))
    await asyncio.sleep(0)
    track.restart(0)
    await opening


async def test_a_moderately_slow_client() -> None:
    """Of the events while it was busy it gets the last STOCK_UPDATED and ACTIVITY_UPDATED of each drop, and all others."""
    client = Client()
    await client.open()
    client.happen("STOCK_UPDATED")
    assert types(await client.next()) == ["STOCK_UPDATED"]
    events = [client.happen(event_type, drop_id) for event_type in TYPES for drop_id in DROPS[:2] for _ in range(2)]
    assert len(events) == QUEUE
    received = await client.next() + await client.next()
    assert received == [event for n, event in enumerate(events) if event.type not in REPLACEABLE or n % 2]
    events = [client.happen("STOCK_UPDATED") for _ in range(2)]  # it is busy again, with the second of those batches
    assert await client.next() == events[1:]


async def test_a_client_that_is_too_slow_while_the_database_is_away() -> None:
    """It goes on without the database as long as the hub's memory has the events that it missed."""
    client = Client()
    await client.open()
    first = client.happen("STOCK_UPDATED")
    assert await client.next() == [first]
    events = [client.happen("DROP_UPDATED") for _ in range(QUEUE + 1)]
    client.log.is_away = True
    received = []
    while len(received) < len(events):
        received += await client.next()
    assert received == events


@pytest.mark.parametrize("wants_snapshot", [True, False])
async def test_a_client_that_is_too_slow_starts_again(wants_snapshot: bool) -> None:
    """It gets RESYNC_REQUIRED, then a SNAPSHOT if it wants one, and goes on from there."""
    client = Client(wants_snapshot=wants_snapshot)
    await client.open()
    client.happen("STOCK_UPDATED")
    assert types(await client.next()) == ["STOCK_UPDATED"]
    for _ in range(QUEUE + 1):
        client.happen("DROP_UPDATED")
    assert types(await client.next()) == ["RESYNC_REQUIRED", "SNAPSHOT"][: 1 + wants_snapshot]
    events = [client.happen("DROP_UPDATED") for _ in range(3)]
    assert await client.next() == events


@pytest.mark.parametrize("is_pending", [False, True])
@pytest.mark.parametrize("named", [True, False])
async def test_events_during_the_snapshot_of_a_joined_drop(named: bool, is_pending: bool) -> None:
    """They come after the snapshot and under a higher id; the events that the snapshot contains do not come again."""
    client = Client(*([DROPS[0]] if named else []))
    await client.open()
    if not named:
        client.feed.join(DROPS[0])
    first = client.happen("DROP_UPDATED")
    assert await client.next() == [first]
    if named:
        client.feed.join(DROPS[1])
    else:
        client.feed.leave(DROPS[0])
    before = [client.happen("DROP_UPDATED", drop_id) for drop_id in DROPS[: 2 * is_pending]]
    missed: list[Event] = []
    client.log.during_snapshot = lambda: missed.append(client.happen("DROP_UPDATED", DROPS[1]))
    batch = await client.next()
    assert types(batch) == ["SNAPSHOT"]
    last = client.happen("DROP_UPDATED", DROPS[1])
    received: list[Event] = []
    while last not in received:
        received += await client.next()
    assert received == [*(before[:1] if named else []), *missed, last]
    assert int(batch[0].position) < received[0].id


async def test_a_client_that_is_ahead_of_the_process() -> None:
    """A client that has events of another process, which this one has not heard of yet, does not get them again."""
    client = Client()
    for _ in range(3):
        client.happen("DROP_UPDATED")
    ahead = [event_of("DROP_UPDATED", event_id) for event_id in (4, 5, 6)]
    client.log.events += ahead[:2]
    assert await client.open("5") == []
    waiting = asyncio.create_task(client.next())
    for event in ahead:
        await asyncio.sleep(0)
        the_track(client.hub).publish(event)
    batch = await waiting
    assert (batch or await client.next()) == [ahead[2]]


@pytest.mark.parametrize("drop_ids", [(), (DROPS[0],)])
@pytest.mark.parametrize("log_changed", [False, True])
async def test_a_restart_of_the_hub(drop_ids: tuple[str, ...], log_changed: bool) -> None:
    """Every client goes on from the log. If the log lost events that were published, the client starts again."""
    client = Client(*drop_ids)
    await client.open()
    waiting = await client.waiting()
    missed = event_of("DROP_UPDATED", 50)
    client.log.events.append(missed)
    the_track(client.hub).restart(50, log_changed=log_changed)
    if log_changed:
        the_track(client.hub).restart(50)  # this does not hide the loss
        resync, snapshot = await waiting
        assert (resync.type, snapshot.type) == ("RESYNC_REQUIRED", "SNAPSHOT")
        assert "lost" in resync.data
    else:
        assert await waiting == [missed]
    event = event_of("DROP_UPDATED", 51)
    the_track(client.hub).publish(event)
    assert await client.next() == [event]


async def test_a_restart_of_the_hub_under_a_quiet_drop() -> None:
    """The log was pruned past the client's last event, but nothing of the client's drop is gone: it goes on."""
    client = Client(DROPS[0])
    await client.open()
    first = client.happen("DROP_UPDATED")
    assert await client.next() == [first]
    waiting = await client.waiting()
    client.log.events = [event_of("DROP_UPDATED", event_id, DROPS[1]) for event_id in (50, 51)]
    the_track(client.hub).restart(50)
    the_track(client.hub).publish(client.log.events[-1])
    assert await waiting == []
    event = event_of("DROP_UPDATED", 52)
    the_track(client.hub).publish(event)
    while not (batch := await client.next()):
        pass
    assert batch == [event]


async def test_a_restart_of_the_hub_after_the_log_was_pruned() -> None:
    """If an event of the client's drop is gone, the log says so, and the client starts again."""
    client = Client(DROPS[0])
    await client.open()
    waiting = await client.waiting()
    client.log.is_pruned = True
    the_track(client.hub).restart(50)
    assert types(await waiting) == ["RESYNC_REQUIRED", "SNAPSHOT"]


NO_DROP = str(uuid4())


class FakeDatabase:
    """A database that needs a moment to answer, and counts the calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_away = False
        self.running = 0
        self.asked: list[set[str]] = []

    async def fetch_single(self, statement: str, drop_ids: list[str] | None) -> list[tuple[Any, ...]]:
        """A SNAPSHOT whose id is the number of the call."""
        self.calls += 1
        call = self.calls
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0)
        self.running -= 1
        if self.is_away:
            raise Unavailable("away")
        if statement == TAKE_DROPS:
            assert drop_ids is not None
            self.asked.append(set(drop_ids))
            existing = [drop_id for drop_id in sorted(drop_ids) if drop_id != NO_DROP]
            return [(str(call), drop_id, f'{{"id":"{drop_id}"}}') for drop_id in existing] or [(str(call), None, None)]
        return [(f'{{"type":"SNAPSHOT","id":"{call}","drop_id":null,"data":{{"drops":[]}}}}',)]


async def test_a_snapshot_of_all_is_shared() -> None:
    """Clients that ask at one time share the answer or the failure, even if the first of them leaves before it comes."""
    database = FakeDatabase()
    log = EventLog(database)  # type: ignore[arg-type]
    first, *others = [asyncio.create_task(log.snapshot(None)) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    assert [snapshot.id for snapshot in await asyncio.gather(*others)] == [1] * 9
    assert (await log.snapshot(None)).id == 2
    database.is_away = True
    refused = await asyncio.gather(*(log.snapshot(None) for _ in range(3)), return_exceptions=True)
    assert [type(refusal) for refusal in refused] == [Unavailable] * 3
    database.is_away = False
    assert (await log.snapshot(None)).id == 4


def drops_in(snapshot: Event) -> list[str]:
    """The ids of the drops in a SNAPSHOT, in its order."""
    return [drop["id"] for drop in loads(snapshot.data)["drops"]]


async def test_snapshots_of_drops_share_queries() -> None:
    """One query runs at a time. Equal sets of drops share its answer, and a few different sets share a query."""
    database = FakeDatabase()
    log = EventLog(database)  # type: ignore[arg-type]
    first, *equal = [asyncio.create_task(log.snapshot(drops)) for drops in [DROPS[:2], DROPS[:2][::-1], DROPS[:2]]]
    await asyncio.sleep(0)
    first.cancel()
    one, two = await asyncio.gather(*equal)
    assert one is two
    assert (one.type, one.id, drops_in(one)) == ("SNAPSHOT", 1, sorted(DROPS[:2]))

    sets = [[str(UUID(int=n)), str(UUID(int=n + 1))] for n in range(3 * SHARED_SETS)]
    snapshots = await asyncio.gather(*map(log.snapshot, sets), log.snapshot([NO_DROP]))
    assert [drops_in(snapshot) for snapshot in snapshots] == [*sets, []]
    assert [snapshot.id for snapshot in snapshots] == [2 + n // SHARED_SETS for n in range(3 * SHARED_SETS + 1)]

    large = [[str(UUID(int=100 * n + m)) for m in range(100)] for n in range(SHARED_SETS)]
    await asyncio.gather(*map(log.snapshot, large))
    assert [len(asked) for asked in database.asked[-SHARED_SETS // 2 :]] == [SHARED_DROPS] * (SHARED_SETS // 2)


async def test_snapshots_of_drops_that_cannot_be_taken() -> None:
    """All that wait hear at once that the database is away, and too many are refused; afterwards snapshots come again."""
    database = FakeDatabase()
    log = EventLog(database)  # type: ignore[arg-type]
    sets = [[str(UUID(int=n))] for n in range(MAX_WAITING_SETS + 1)]
    database.is_away = True
    refused: list[Any] = await asyncio.gather(*map(log.snapshot, sets), return_exceptions=True)
    assert [error.code for error in refused] == ["DATABASE_UNAVAILABLE"] * MAX_WAITING_SETS + ["OVERLOADED"]
    assert database.calls == 1
    database.is_away = False
    assert drops_in(await log.snapshot(sets[0])) == sets[0]
    assert not log._drop_snapshots
