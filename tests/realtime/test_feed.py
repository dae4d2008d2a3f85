"""The feeds without a database: snapshots, replays, rooms and slow clients, and that nothing is left of who has gone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from starlette.types import Message

from lastpair.errors import Refusal, Unavailable
from lastpair.realtime.event import REPLACEABLE, Event, make_event
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.feed import Feed
from lastpair.realtime.hub import GLOBAL_ROOM, Hub
from lastpair.web.lifespan import beat
from lastpair.web.limits import StreamSlots
from lastpair.web.sse import EventStream, sse
from tests.support.hubs import DROPS, QUEUE, TYPES, event_of, small_bounds, started_hub

__all__ = ["small_bounds"]
pytestmark = pytest.mark.usefixtures("small_bounds")


class FakeLog(EventLog):
    """A log that knows what the hub has published and whatever else the test says."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.events: list[Event] = []
        self.snapshots: list[tuple[int, Sequence[str] | None]] = []
        self.is_away = False
        self.meanwhile: Callable[[], None] = lambda: None

    async def after(self, position: int, limit: int, drop_ids: Sequence[str] | None) -> list[Event]:
        """As the database answers."""
        await self._travel()
        wanted = None if drop_ids is None else {str(drop_id) for drop_id in drop_ids}
        events = [event for event in self.events if event.id > position and (wanted is None or event.drop_id in wanted)]
        return events[:limit]

    async def snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        """As the database answers; `meanwhile` happens while the answer is on its way."""
        await self._travel()
        position = self.events[-1].id if self.events else 0
        self.snapshots.append((position, drop_ids))
        self.meanwhile()
        await asyncio.sleep(0)
        return make_event("SNAPSHOT", position, {"drops": []})

    async def _travel(self) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("away")


class Stand:
    """A hub, its log, and a client of it."""

    def __init__(self, *drop_ids: str, wants_snapshot: bool = True) -> None:
        self.hub = started_hub()
        self.log = FakeLog(self.hub)
        self.feed = Feed(self.hub, self.log, drop_ids, wants_snapshot=wants_snapshot)
        self.batches: AsyncIterator[list[Event]] = aiter(self.feed.batches())

    def happen(self, event_type: str, drop_id: str = DROPS[0]) -> Event:
        """Commit and publish."""
        event = event_of(event_type, len(self.log.events) + 1, drop_id)
        self.log.events.append(event)
        self.hub.publish(event)
        return event

    async def next(self) -> list[Event]:
        """What is handed out next: at once, or there is nothing."""
        async with asyncio.timeout(1):
            return await anext(self.batches)

    async def open(self, last_event_id: str | None = None) -> list[Event]:
        """Begin; returns the first batch."""
        await self.feed.open(last_event_id)
        return await self.next()


def types(batch: list[Event]) -> list[str]:
    """The types of events."""
    return [event.type for event in batch]


async def test_a_heartbeat() -> None:
    """The service wakes all feeds again and again, and each then hands out an empty batch."""
    stand = Stand(wants_snapshot=False)
    assert await stand.open() == []
    beating = asyncio.create_task(beat(stand.hub, 0.001))
    assert await stand.next() == []
    assert await stand.next() == []
    beating.cancel()
    event = stand.happen("STOCK_UPDATED")
    while not (batch := await stand.next()):
        pass
    assert batch == [event]


async def test_a_heartbeat_over_sse() -> None:
    """Is a comment; nothing else comes of it."""
    stand, sent = Stand(wants_snapshot=False), list[Message]()
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def sent_are(count: int) -> None:
        async with asyncio.timeout(1):
            while len(sent) < count:
                await asyncio.sleep(0)

    stream = asyncio.create_task(
        EventStream(stand.feed, None, StreamSlots(1, 0))({"type": "http", "method": "GET"}, receive, send)
    )
    await sent_are(2)
    stand.hub.wake_all()
    await sent_are(3)
    event = stand.happen("STOCK_UPDATED")
    await sent_are(4)
    gone.set()
    await stream
    bodies = [message.get("body") for message in sent]
    assert bodies == [None, b"retry: 1000\n\n", b": heartbeat\n\n", event.encoded(sse), b""]
    assert_nobody_is_left(stand.hub)


def assert_nobody_is_left(hub: Hub) -> None:
    """Whoever has gone is forgotten."""
    assert hub._subscribers == set()
    assert hub._rooms == {GLOBAL_ROOM: set()}


async def assert_ends(stand: Stand, waiting: asyncio.Task[list[Event]]) -> None:
    """At once, perhaps after an empty batch."""
    with pytest.raises(StopAsyncIteration):  # noqa: PT012
        assert await waiting == []
        await stand.next()


@pytest.mark.parametrize("drop_ids", [(), (DROPS[0],), tuple(DROPS)])
async def test_a_client_that_leaves_is_forgotten(drop_ids: tuple[str, ...]) -> None:
    """However many rooms it was in, and whether it waits or is being sent something."""
    for is_waiting in (False, True):
        stand = Stand(*drop_ids)
        assert types(await stand.open()) == ["SNAPSHOT"]
        stand.happen("STOCK_UPDATED")
        assert types(await stand.next()) == ["STOCK_UPDATED"]
        waiting = asyncio.create_task(stand.next())
        if is_waiting:
            await asyncio.sleep(0)
        stand.feed.close()
        await assert_ends(stand, waiting)
        assert_nobody_is_left(stand.hub)


async def test_the_end() -> None:
    """close() ends every stream, and one that opens afterwards at once."""
    stand = Stand()
    await stand.open()
    waiting = asyncio.create_task(stand.next())
    await asyncio.sleep(0)
    stand.hub.close()
    await assert_ends(stand, waiting)
    assert_nobody_is_left(stand.hub)


async def test_before_the_relay_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client waits for it, but not for long."""
    monkeypatch.setattr("lastpair.realtime.feed.START_TIMEOUT_SECONDS", 0.05)
    hub = Hub()
    feed = Feed(hub, FakeLog(hub), [], wants_snapshot=True)
    with pytest.raises(Refusal) as refused:
        await feed.open(None)
    assert (refused.value.status, refused.value.code) == (503, "DATABASE_UNAVAILABLE")
    assert refused.value.retry_after_seconds == 1
    opening = asyncio.create_task(feed.open(None))
    await asyncio.sleep(0)
    hub.restart(0)
    await opening


async def test_a_moderately_slow_client() -> None:
    """Of what came while it was busy it gets the last STOCK_UPDATED and ACTIVITY_UPDATED of each drop, and all the rest."""
    stand = Stand()
    await stand.open()
    stand.happen("STOCK_UPDATED")
    assert types(await stand.next()) == ["STOCK_UPDATED"]
    events = [stand.happen(event_type, drop_id) for event_type in TYPES for drop_id in DROPS[:2] for _ in range(2)]
    assert len(events) == QUEUE
    received = await stand.next() + await stand.next()
    wanted = [event for n, event in enumerate(events) if event.type not in REPLACEABLE or n % 2]
    assert received == wanted
    events = [stand.happen("STOCK_UPDATED") for _ in range(2)]  # it is busy again, with the second of those batches
    assert await stand.next() == events[1:]


async def test_a_client_that_is_too_slow_while_the_database_is_away() -> None:
    """Goes on as long as there is a way: here what it missed is still in memory."""
    stand = Stand()
    await stand.open()
    first = stand.happen("STOCK_UPDATED")
    assert await stand.next() == [first]
    events = [stand.happen("DROP_UPDATED") for _ in range(QUEUE + 1)]
    stand.log.is_away = True
    received = []
    while len(received) < len(events):
        received += await stand.next()
    assert received == events


async def test_a_client_that_is_too_slow_begins_anew() -> None:
    """With RESYNC_REQUIRED and a SNAPSHOT, and goes on from there; one that wants no SNAPSHOT from now on."""
    for wants_snapshot in (True, False):
        stand = Stand(wants_snapshot=wants_snapshot)
        await stand.open()
        stand.happen("STOCK_UPDATED")
        assert types(await stand.next()) == ["STOCK_UPDATED"]
        for _ in range(QUEUE + 1):
            stand.happen("DROP_UPDATED")
        assert types(await stand.next()) == ["RESYNC_REQUIRED", "SNAPSHOT"][: 1 + wants_snapshot]
        events = [stand.happen("DROP_UPDATED") for _ in range(3)]
        assert await stand.next() == events


@pytest.mark.parametrize("is_pending", [False, True])
@pytest.mark.parametrize("named", [True, False])
async def test_what_happens_while_the_snapshot_of_a_drop_joined_is_on_its_way(named: bool, is_pending: bool) -> None:
    """Comes after it and under a higher id, and what is in it does not come again."""
    stand = Stand(*([DROPS[0]] if named else []))
    await stand.open()
    if not named:
        stand.feed.join(DROPS[0])
    first = stand.happen("DROP_UPDATED")
    assert await stand.next() == [first]
    if named:
        stand.feed.join(DROPS[1])
    else:
        stand.feed.leave(DROPS[0])
    before = [stand.happen("DROP_UPDATED", drop_id) for drop_id in DROPS[: 2 * is_pending]]
    missed: list[Event] = []
    stand.log.meanwhile = lambda: missed.append(stand.happen("DROP_UPDATED", DROPS[1]))
    batch = await stand.next()
    assert types(batch) == ["SNAPSHOT"]
    last = stand.happen("DROP_UPDATED", DROPS[1])
    received: list[Event] = []
    while last not in received:
        received += await stand.next()
    assert received == [*(before[:1] if named else []), *missed, last]
    assert batch[0].id < received[0].id


async def test_a_client_that_is_ahead_of_the_process() -> None:
    """What it had from another one is not told again."""
    stand = Stand()
    for _ in range(3):
        stand.happen("DROP_UPDATED")
    ahead = [event_of("DROP_UPDATED", event_id, DROPS[0]) for event_id in (4, 5, 6)]
    stand.log.events += ahead[:2]
    assert await stand.open("5") == []
    waiting = asyncio.create_task(stand.next())
    for event in ahead:
        await asyncio.sleep(0)
        stand.hub.publish(event)
    batch = await waiting
    assert (batch or await stand.next()) == [ahead[2]]


async def test_a_restart_of_the_hub() -> None:
    """When events were missed for good everybody begins anew."""
    stands = [Stand(), Stand(DROPS[0])]
    for stand in stands:
        await stand.open()
        waiting = asyncio.create_task(stand.next())
        await asyncio.sleep(0)
        stand.log.events.append(event_of("DROP_UPDATED", 50, DROPS[0]))
        stand.hub.restart(50)
        assert types(await waiting) == ["RESYNC_REQUIRED", "SNAPSHOT"]
        event = event_of("DROP_UPDATED", 51, DROPS[0])
        stand.hub.publish(event)
        assert await stand.next() == [event]


class FakeDatabase:
    """Takes its time to answer, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_away = False

    async def fetch_single(self, _statement: str, *_arguments: Any) -> list[tuple[str]]:
        """A SNAPSHOT whose id is the number of the call."""
        self.calls += 1
        call = self.calls
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("away")
        return [(f'{{"type":"SNAPSHOT","id":"{call}","data":{{"drops":[]}}}}',)]


async def test_a_snapshot_of_all_is_shared() -> None:
    """By those who ask while it is under way, whether or not the first of them waits for it, and in its failure, too."""
    database = FakeDatabase()
    log = EventLog(database)  # type: ignore[arg-type]
    first, *others = [asyncio.create_task(log.snapshot(None)) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    assert [snapshot.id for snapshot in await asyncio.gather(*others)] == [1] * 9
    assert (await log.snapshot(None)).id == 2
    named = await asyncio.gather(*(log.snapshot([DROPS[0]]) for _ in range(2)))
    assert [snapshot.id for snapshot in named] == [3, 4]
    database.is_away = True
    refused = await asyncio.gather(*(log.snapshot(None) for _ in range(3)), return_exceptions=True)
    assert [type(refusal) for refusal in refused] == [Unavailable] * 3
    database.is_away = False
    assert (await log.snapshot(None)).id == 6
