"""The hub and the feeds without a database: who gets which event, held against a simple model, and what is left out when."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from starlette.types import Message

from app.events import REPLACEABLE, Event, EventLog, make_event
from app.feed import Feed
from app.http import Refusal, Unavailable
from app.hub import GLOBAL_ROOM, FellBehind, Hub, Subscriber
from app.service import beat
from app.streams import EventStream

MEMORY, QUEUE, BATCH = 64, 16, 8
DROPS = [str(UUID(int=n)) for n in range(4)]
TYPES = ["DROP_UPDATED", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"]


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they are met often."""
    for name, value in [("MEMORY_EVENTS", MEMORY), ("QUEUE_EVENTS", QUEUE), ("BATCH_EVENTS", BATCH)]:
        monkeypatch.setattr(f"app.hub.{name}", value)
    monkeypatch.setattr("app.feed.RETRY_SECONDS", 0)


def event_of(event_type: str, event_id: int, drop_id: str) -> Event:
    """An event of a drop."""
    content = {"drop": {"id": drop_id}} if event_type.startswith("DROP") else {"dropId": drop_id}
    return make_event(event_type, event_id, content)


def started_hub(position: int = 0) -> Hub:
    """A hub whose relay has read the log."""
    hub = Hub()
    hub.restart(position)
    return hub


class Model:
    """What a subscriber should get: all events of its rooms, of which those that came while it was slow may be replaced."""

    def __init__(self, hub: Hub, rooms: Sequence[str | None]) -> None:
        self.hub = hub
        self.subscriber = Subscriber(hub)
        self.owed: list[tuple[int, Event]] = []  # by their numbers
        self.slow_before = 0
        self.is_slow = False
        self.unread_from: int | None = None
        self.fell_behind = 0
        self.left_out = 0
        self.move(rooms)
        self.start()

    def start(self) -> None:
        """Begin now."""
        self.owed = []
        self.slow_before = 0
        self.is_slow = False
        self.unread_from = None
        self.subscriber.start(self.hub.head_id or 0)

    def move(self, rooms: Sequence[str | None]) -> None:
        """Be in these rooms; of those it was not in before it gets what comes from now on."""
        kept = self.subscriber.floors
        now = self.hub.head_id or 0
        floors = {room: 0 if GLOBAL_ROOM in kept else kept.get(room, now) for room in rooms}
        self.owed = [(n, event) for n, event in self.owed if event.id > floors.get(event.drop_id, floors.get(GLOBAL_ROOM, now))]
        self.hub.enter(self.subscriber, floors)

    def publish(self, number: int, event: Event) -> None:
        """It happens."""
        if {GLOBAL_ROOM, event.drop_id} & self.subscriber.floors.keys():
            self.owed.append((number, event))
            if self.unread_from is None:
                self.unread_from = number

    def was_slow(self) -> None:
        """It was busy until now."""
        self.subscriber.was_slow()
        self.slow_before = self.hub.count
        self.is_slow = True

    def take(self, newest: dict[tuple[str, str | None], int]) -> None:
        """It takes what there is, which must be what the model says; `newest` has the ids of the newest events."""

        def is_left_out(number: int, event: Event) -> bool:
            return event.type in REPLACEABLE and number < self.slow_before and newest[event.type, event.drop_id] > event.id

        unread = 0 if self.unread_from is None else self.hub.count - self.unread_from
        wanted = [(n, event) for n, event in self.owed if not is_left_out(n, event)]
        falls_behind = unread > MEMORY or (self.is_slow and len(wanted) > QUEUE)
        self.is_slow = self.is_slow and not unread
        try:
            batch = self.subscriber.take()
        except FellBehind:
            assert falls_behind
            self.fell_behind += 1
            self.start()
            return
        assert not falls_behind
        wanted = wanted[:BATCH]
        assert batch == [event for _, event in wanted]
        read = wanted[-1][0] + 1 if len(wanted) == BATCH else self.hub.count
        self.left_out += sum(n < read for n, _ in self.owed) - len(wanted)
        self.owed = [(n, event) for n, event in self.owed if n >= read]
        self.unread_from = read if read < self.hub.count else None


@pytest.mark.parametrize("seed", range(20))
def test_random_interleavings(seed: int) -> None:
    """Six subscribers that come, go, move, keep up or do not, through many times the memory: each gets what the model says."""
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    hub, newest = started_hub(100), dict[tuple[str, str | None], int]()
    choices: list[list[str | None]] = [[GLOBAL_ROOM], [DROPS[0]], [DROPS[1], DROPS[2]], []]
    models = [Model(hub, chance.choice(choices)) for _ in range(6)]
    laziness = [chance.choice([1, 2, 20, 80]) for _ in models]
    head_id = 100
    for number in range(4000):
        head_id += chance.choice([1, 1, 1, 5])
        event = event_of(chance.choice(TYPES), head_id, chance.choices(DROPS, [8, 4, 2, 1])[0])
        newest[event.type, event.drop_id] = event.id
        hub.publish(event)
        if chance.random() < 0.1:
            hub.publish(event)  # heard twice, as after a reconnect
        for n, model in enumerate(models):
            model.publish(number, event)
            if chance.random() < 0.02:
                model.was_slow()
            if chance.random() < 1 / laziness[n]:
                model.take(newest)
            if chance.random() < 0.003:
                model.move(chance.choice(choices))
            if chance.random() < 0.001:
                hub.leave(model.subscriber)
                models[n] = Model(hub, chance.choice(choices))
    for model in models:
        while model.owed:
            model.take(newest)
    assert hub.count == 4000


def test_the_model_meets_all_cases() -> None:
    """As above: some get everything, some leave events out, some fall behind."""
    hub, newest = started_hub(), dict[tuple[str, str | None], int]()
    models = [Model(hub, [GLOBAL_ROOM]) for _ in range(3)]
    for event_id in range(1, 1000):
        event = event_of(TYPES[event_id % 2], event_id, DROPS[0])
        hub.publish(event)
        newest[event.type, event.drop_id] = event.id
        for model, every in zip(models, (1, 10, 100), strict=True):
            model.publish(event_id - 1, event)
            if event_id % every == 0:
                if every > 1:
                    model.was_slow()
                model.take(newest)
                model.take(newest)
    assert [model.fell_behind > 0 for model in models] == [False, False, True]
    assert [model.left_out > 0 for model in models] == [False, True, False]


def test_a_room_where_nothing_happens_keeps_up_for_ever() -> None:
    """Others' events, many times the memory, are no reason to fall behind, not even for one that was slow."""
    hub = started_hub()
    model = Model(hub, [DROPS[1]])
    model.take({})
    for event_id in range(1, 10 * MEMORY):
        hub.publish(event_of("STOCK_UPDATED", event_id, DROPS[0]))
        model.was_slow()
        assert model.subscriber.take() == []
    hub.publish(last := event_of("STOCK_UPDATED", 10 * MEMORY, DROPS[1]))
    assert model.subscriber.take() == [last]


def test_one_that_is_woken_late_but_not_slow_gets_all_of_a_burst() -> None:
    """As much as there is in memory; one more, and something is gone."""
    for count in (MEMORY, MEMORY + 1):
        hub = started_hub()
        subscriber = Model(hub, [GLOBAL_ROOM]).subscriber
        events = [event_of("STOCK_UPDATED", n, DROPS[0]) for n in range(1, count + 1)]
        for event in events:
            hub.publish(event)
        if count > MEMORY:
            with pytest.raises(FellBehind):
                subscriber.take()
        else:
            assert [event for _ in range(0, count, BATCH) for event in subscriber.take()] == events


@pytest.mark.parametrize("count", [0, 1, MEMORY - 1, MEMORY, MEMORY + 1, 3 * MEMORY + 7])
def test_what_is_in_memory(count: int) -> None:
    """Whoever has seen an id which the memory reaches back to gets all that came after it."""
    hub = started_hub(1000)
    ids = list(range(1010, 1010 + 10 * count, 10))
    for event_id in ids:
        hub.publish(event_of("PURCHASE_COMPLETED", event_id, DROPS[0]))
    for position in range(990, 1020 + 10 * count):
        after = [event_id for event_id in ids if event_id > position]
        oldest_position = 1000 if count <= MEMORY else ids[-MEMORY - 1]
        assert hub.reaches(position) == (oldest_position <= position <= (ids[-1] if ids else 1000))
        if hub.reaches(position):
            subscriber = Subscriber(hub)
            hub.enter(subscriber, {GLOBAL_ROOM: 0})
            subscriber.start(position)
            assert [event.id for _ in range(0, count + 1, BATCH) for event in subscriber.take()] == after
            hub.leave(subscriber)


def test_restart_forgets_everything() -> None:
    """Everybody has lost track until he starts anew; numbers begin again."""
    hub = started_hub()
    subscriber = Model(hub, [GLOBAL_ROOM]).subscriber
    for event_id in range(1, MEMORY + 10):
        hub.publish(event_of("STOCK_UPDATED", event_id, DROPS[0]))
    hub.restart(500)
    assert hub.reaches(500)
    assert not hub.reaches(499)
    assert not hub.reaches(501)
    for _ in range(2):
        with pytest.raises(FellBehind):
            subscriber.take()
    hub.publish(last := event_of("STOCK_UPDATED", 501, DROPS[0]))
    subscriber.start(500)
    assert subscriber.take() == [last]


class FakeLog(EventLog):
    """A log that knows what the hub has published and whatever else the test says."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.events: list[Event] = []
        self.snapshots: list[tuple[int, Sequence[UUID] | None]] = []
        self.is_away = False
        self.meanwhile: Callable[[], None] = lambda: None

    async def after(self, position: int, limit: int, drop_ids: Sequence[UUID] | None) -> list[Event]:
        """As the database answers."""
        await self._travel()
        wanted = None if drop_ids is None else {str(drop_id) for drop_id in drop_ids}
        events = [event for event in self.events if event.id > position and (wanted is None or event.drop_id in wanted)]
        return events[:limit]

    async def snapshot(self, drop_ids: Sequence[UUID] | None) -> Event:
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
        self.feed = Feed(self.hub, self.log, map(UUID, drop_ids), wants_snapshot=wants_snapshot)
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

    await stand.feed.open(None)
    stream = asyncio.create_task(EventStream(stand.feed)({"type": "http", "method": "GET"}, receive, send))
    await sent_are(2)
    stand.hub.wake_all()
    await sent_are(3)
    event = stand.happen("STOCK_UPDATED")
    await sent_are(4)
    gone.set()
    await stream
    bodies = [message.get("body") for message in sent]
    assert bodies == [None, b"retry: 1000\n\n", b": heartbeat\n\n", event.sse, b""]
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
    monkeypatch.setattr("app.feed.START_TIMEOUT_SECONDS", 0.05)
    hub = Hub()
    feed = Feed(hub, FakeLog(hub), [], wants_snapshot=True)
    with pytest.raises(Refusal) as refused:
        await feed.open(None)
    assert (refused.value.status, refused.value.code) == (503, "DATABASE_UNAVAILABLE")
    assert refused.value.headers is not None
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
        stand.feed.join(UUID(DROPS[0]))
    first = stand.happen("DROP_UPDATED")
    assert await stand.next() == [first]
    if named:
        stand.feed.join(UUID(DROPS[1]))
    else:
        stand.feed.leave(UUID(DROPS[0]))
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

    async def fetch(self, _statement: str, *_arguments: Any) -> list[tuple[str]]:
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
    named = await asyncio.gather(*(log.snapshot([UUID(DROPS[0])]) for _ in range(2)))
    assert [snapshot.id for snapshot in named] == [3, 4]
    database.is_away = True
    refused = await asyncio.gather(*(log.snapshot(None) for _ in range(3)), return_exceptions=True)
    assert [type(refusal) for refusal in refused] == [Unavailable] * 3
    database.is_away = False
    assert (await log.snapshot(None)).id == 6
