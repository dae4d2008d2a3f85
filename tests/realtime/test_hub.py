"""The hub: which client gets which event, compared with a simple model, and which events a slow client does not get."""

import asyncio
import random
from collections.abc import Callable, Sequence
from json import dumps
from uuid import UUID

import pytest

from lastpair.realtime.event import REPLACEABLE, Event
from lastpair.realtime.hub import GLOBAL_ROOM, FellBehind, Hub, Room, Subscriber, room_of_user
from lastpair.realtime.track import Vector
from tests.support.hub import BATCH, DROPS, MEMORY, QUEUE, TYPES, event_of, hub_without_rounds, started_hub, the_track
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("small_bounds")


def follow_after(subscriber: Subscriber, event_id: int) -> None:
    """Let the subscriber follow the hub's memory after this id."""
    subscriber.stop_following()
    subscriber.move_to(dict.fromkeys(subscriber.tracks(), event_id))
    subscriber.follow()


Subject = tuple[str, str | None, str]


def subject_of(event: Event) -> Subject:
    """What the event is about: its data says nothing but which variants it is of."""
    return event.type, event.drop_id, event.data


class Model:
    """What a subscriber should get: all events of its rooms, except those that came while it was slow and were replaced."""

    def __init__(self, hub: Hub, rooms: Sequence[str | None]) -> None:
        self.hub = hub
        self.subscriber = Subscriber(hub, {})
        self.owed: list[tuple[int, Event]] = []  # with their sequence numbers
        self.slow_before = 0
        self.is_slow = False
        self.unread_from: int | None = None
        self.fell_behind = 0
        self.left_out = 0
        self.move(rooms)
        self.start()

    def start(self) -> None:
        """Follow from now on."""
        self.owed = []
        self.slow_before = 0
        self.is_slow = False
        self.unread_from = None
        follow_after(self.subscriber, the_track(self.hub).head_id or 0)

    def move(self, rooms: Sequence[str | None]) -> None:
        """Change to these rooms; of a new room it gets the events from now on."""
        kept, track = self.subscriber.rooms, the_track(self.hub)
        now = self.hub.heads()
        since = {room: kept.get(room, kept.get(GLOBAL_ROOM, now)) for room in rooms}

        def is_owed(event: Event) -> bool:
            return event.id > since.get(event.drop_id, since.get(GLOBAL_ROOM, now)).get(track, 0)

        self.owed = [(n, event) for n, event in self.owed if is_owed(event)]
        self.subscriber.change_rooms(since, now)

    def publish(self, number: int, event: Event) -> None:
        """An event is published."""
        if {GLOBAL_ROOM, event.drop_id} & self.subscriber.rooms.keys():
            self.owed.append((number, event))
            if self.unread_from is None:
                self.unread_from = number

    def was_slow(self) -> None:
        """The transport was busy until now."""
        self.subscriber.was_slow()
        self.slow_before = self.hub.count
        self.is_slow = True

    def take(self, newest: dict[Subject, int]) -> None:
        """Take a batch and compare it; `newest` has the id of the newest event of each subject."""

        def is_left_out(number: int, event: Event) -> bool:
            return event.type in REPLACEABLE and number < self.slow_before and newest[subject_of(event)] > event.id

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
    """Six subscribers come, go, change rooms, keep up or not, over many times the memory: each gets what the model says."""
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    hub, newest = hub_without_rounds(100), dict[Subject, int]()
    choices: list[list[str | None]] = [[GLOBAL_ROOM], [DROPS[0]], [DROPS[1], DROPS[2]], []]
    models = [Model(hub, chance.choice(choices)) for _ in range(6)]
    laziness = [chance.choice([1, 2, 20, 80]) for _ in models]
    head_id = 100
    for number in range(4000):
        head_id += chance.choice([1, 1, 1, 5])
        event_type, variants = chance.choice(TYPES), chance.choice(["", "A", "B", "AB"])
        event = event_of(event_type, head_id, chance.choices(DROPS, [8, 4, 2, 1])[0], variants)
        newest[subject_of(event)] = event.id
        the_track(hub).publish(event)
        if chance.random() < 0.1:
            the_track(hub).publish(event)  # published twice, as after a reconnect
        for n, model in enumerate(models):
            model.publish(number, event)
            if chance.random() < 0.02:
                model.was_slow()
            if chance.random() < 1 / laziness[n]:
                model.take(newest)
            if chance.random() < 0.003:
                model.move(chance.choice(choices))
            if chance.random() < 0.001:
                model.subscriber.stop_following()
                models[n] = Model(hub, chance.choice(choices))
    for model in models:
        while model.owed:
            model.take(newest)
    assert hub.count == 4000


def test_the_model_covers_all_cases() -> None:
    """A quick subscriber gets everything, a slower one not the replaced events, the slowest one falls behind."""
    hub, newest = hub_without_rounds(), dict[Subject, int]()
    models = [Model(hub, [GLOBAL_ROOM]) for _ in range(3)]
    for event_id in range(1, 1000):
        event = event_of(TYPES[event_id % 2], event_id)
        the_track(hub).publish(event)
        newest[subject_of(event)] = event.id
        for model, every in zip(models, (1, 10, 100), strict=True):
            model.publish(event_id - 1, event)
            if event_id % every == 0:
                if every > 1:
                    model.was_slow()
                model.take(newest)
                model.take(newest)
    assert [model.fell_behind > 0 for model in models] == [False, False, True]
    assert [model.left_out > 0 for model in models] == [False, True, False]


def test_events_of_other_rooms_do_not_count() -> None:
    """A subscriber does not fall behind by the events of other rooms, even many times the memory and while it is slow."""
    hub = hub_without_rounds()
    model = Model(hub, [DROPS[1]])
    model.take({})
    for event_id in range(1, 10 * MEMORY):
        the_track(hub).publish(event_of("STOCK_UPDATED", event_id))
        model.was_slow()
        assert model.subscriber.take() == []
    the_track(hub).publish(last := event_of("STOCK_UPDATED", 10 * MEMORY, DROPS[1]))
    assert model.subscriber.take() == [last]


@pytest.mark.parametrize("count", [MEMORY, MEMORY + 1])
def test_a_burst_for_a_client_that_was_not_slow(count: int) -> None:
    """It gets every event of a burst that fits in memory, and falls behind by one event more."""
    hub = hub_without_rounds()
    subscriber = Model(hub, [GLOBAL_ROOM]).subscriber
    events = [event_of("STOCK_UPDATED", n) for n in range(1, count + 1)]
    for event in events:
        the_track(hub).publish(event)
    if count > MEMORY:
        with pytest.raises(FellBehind):
            subscriber.take()
    else:
        assert [event for _ in range(0, count, BATCH) for event in subscriber.take()] == events


@pytest.mark.parametrize("count", [0, 1, MEMORY - 1, MEMORY, MEMORY + 1, 3 * MEMORY + 7])
def test_what_is_in_memory(count: int) -> None:
    """A client whose last event the memory reaches back to gets every later event."""
    hub = hub_without_rounds(1000)
    ids = list(range(1010, 1010 + 10 * count, 10))
    for event_id in ids:
        the_track(hub).publish(event_of("PURCHASE_COMPLETED", event_id))
    for position in range(990, 1020 + 10 * count):
        after = [event_id for event_id in ids if event_id > position]
        oldest_position = 1000 if count <= MEMORY else ids[-MEMORY - 1]
        is_known = position == oldest_position or (position in ids and position > oldest_position)
        assert the_track(hub).reaches(position) == is_known
        if the_track(hub).reaches(position):
            subscriber = Subscriber(hub, {GLOBAL_ROOM: {}})
            follow_after(subscriber, position)
            assert [event.id for _ in range(0, count + 1, BATCH) for event in subscriber.take()] == after
            subscriber.stop_following()


def test_restart_forgets_everything() -> None:
    """After a restart every subscriber has fallen behind until it starts again."""
    hub = hub_without_rounds()
    subscriber = Model(hub, [GLOBAL_ROOM]).subscriber
    for event_id in range(1, MEMORY + 10):
        the_track(hub).publish(event_of("STOCK_UPDATED", event_id))
    the_track(hub).restart(500)
    assert the_track(hub).reaches(500)
    assert not the_track(hub).reaches(499)
    assert not the_track(hub).reaches(501)
    for _ in range(2):
        with pytest.raises(FellBehind):
            subscriber.take()
    the_track(hub).publish(last := event_of("STOCK_UPDATED", 501))
    follow_after(subscriber, 500)
    assert subscriber.take() == [last]


USERS = [str(UUID(int=n)) for n in range(1000, 1200)]
"""Ids that no drop has. The test below has a drop and a user with the same id as well."""


class Reader:
    """A client with its task, as Feed has one, and its outlet. It collects the ids that it is given."""

    heartbeat = b""

    def __init__(self, hub: Hub, user: str | None, drop_ids: Sequence[str], encode: Callable[[list[Event]], bytes]) -> None:
        self.user, self.drop_ids = user, drop_ids
        self.encode = encode
        self.ids: list[int] = []
        self.is_busy = False
        self.has_drained = asyncio.Event()
        self.writes = 0
        rooms: list[Room] = [*drop_ids] or [GLOBAL_ROOM]
        self.subscriber = Subscriber(hub, {room: {} for room in (rooms if user is None else [*rooms, room_of_user(user)])})
        self.start(hub.heads())

    def start(self, vector: Vector) -> None:
        """Come, after these events."""
        self.subscriber.move_to(vector)
        self.subscriber.follow()
        self.task = asyncio.create_task(self.run())

    async def come_back(self) -> None:
        """Lose the connection, and reconnect with the last id."""
        self.task.cancel()
        await asyncio.wait([self.task])
        self.subscriber.stop_following()
        self.is_busy = False
        self.start(self.subscriber.vector)

    async def run(self) -> None:
        """Take events, and wait for rounds to write them."""
        while True:
            while batch := self.subscriber.take():
                self.ids += [event.id for event in batch]
            await self.subscriber.wait(self)
            if self.is_busy:
                await self.drain()
                self.subscriber.was_slow()

    async def drain(self) -> None:
        """Wait until it is not busy."""
        self.has_drained.clear()
        await self.has_drained.wait()
        self.is_busy = False

    def write(self, data: bytes, position: str) -> None:
        """A round gives it events."""
        self.writes += 1
        ids = [int(each) for each in data.split()]
        assert str(ids[-1]) == position
        self.ids += ids


@pytest.mark.parametrize("seed", range(3))
async def test_random_users(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10,000 events for everybody or for one of 200 users, each client gets the public ones of its drops and its own.

    Clients with and without identity share bytes in rounds. Some are busy for a while, and some reconnect.
    """
    for name, value in [("MEMORY_EVENTS", 8192), ("QUEUE_EVENTS", 8192), ("BATCH_EVENTS", 16)]:
        monkeypatch.setattr(f"lastpair.realtime.hub.{name}", value)
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    hub = started_hub(100, tick_seconds=0)
    drop_ids, users = [*DROPS, USERS[0]], [*USERS, DROPS[0]]
    encoded: list[int] = []

    def encode(batch: list[Event]) -> bytes:
        encoded.append(len(batch))
        return b" ".join(b"%d" % event.id for event in batch)

    named: list[list[str]] = [[], [], [], [DROPS[0]], [DROPS[1], USERS[0]]]
    readers = [Reader(hub, chance.choice([None, None, *users[:8], DROPS[0]]), chance.choice(named), encode) for _ in range(60)]
    events: list[Event] = []
    while len(events) < 10_000:
        for _ in range(chance.choice([1, 1, 2, 3, 10, 40])):
            user = chance.choice([None, None, None, chance.choice(users[:8]), chance.choice(users)])
            event_id = (the_track(hub).head_id or 0) + chance.choice([1, 1, 3])
            fields = {"type": "PURCHASE_COMPLETED", "id": str(event_id), "drop_id": chance.choice(drop_ids), "user_id": user}
            events.append(Event(dumps(fields | {"data": {}}, separators=(",", ":"))))
            the_track(hub).publish(events[-1])
        for reader in chance.sample(readers, 3):
            reader.is_busy = reader.is_busy or chance.random() < 0.2
            reader.has_drained.set()
        if chance.random() < 0.1:
            await chance.choice(readers).come_back()
        for _ in range(chance.choice([0, 1, 3])):
            await asyncio.sleep(0)
        await hub.caught_up()
    for reader in readers:
        reader.is_busy = False
        reader.has_drained.set()

    def wanted_by(reader: Reader) -> list[int]:
        return [
            event.id
            for event in events
            if (event.user_id == reader.user if event.user_id else event.drop_id in (reader.drop_ids or drop_ids))
        ]

    wanted = [wanted_by(reader) for reader in readers]
    await eventually(lambda: all(len(reader.ids) >= len(ids) for reader, ids in zip(readers, wanted, strict=True)))
    await hub._rounds.end() if hub._rounds._is_scheduled else None
    assert [reader.ids for reader in readers] == wanted
    assert len(encoded) < sum(reader.writes for reader in readers), "no bytes were shared"
    for reader in readers:
        reader.task.cancel()
        reader.subscriber.stop_following()
    assert hub._rooms == {GLOBAL_ROOM: set()}


async def test_rooms_change_while_an_event_waits_for_its_round() -> None:
    """A client that joins or leaves a drop before the round still gets what was published in the rooms that it keeps."""
    hub = started_hub(100, tick_seconds=0)
    reader = Reader(hub, None, [], lambda batch: b" ".join(b"%d" % event.id for event in batch))
    await asyncio.sleep(0)
    the_track(hub).publish(event_of("PURCHASE_COMPLETED", 101))
    reader.subscriber.change_rooms({DROPS[0]: {}}, {the_track(hub): 101})
    reader.subscriber.wake()
    await eventually(lambda: reader.ids == [101])
    reader.task.cancel()
