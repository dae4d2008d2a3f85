"""The hub: who gets which event. It keeps the latest events in memory, and of each subscriber how far it has come in there.

What waits for a slow subscriber is thus the part of that memory it has not read: bounded, shared, and no work for anybody until
it reads on. Everything here happens in one event loop; nothing waits but `Subscriber.wait`.

An event's id is the database's; its number says where in this process's memory it is. A position is the id of the last event that
somebody has got. A floor is such a position for one room: of a drop that was joined later than others only later events count.
"""

import asyncio
from bisect import bisect_right

from app.events import REPLACEABLE, Event

MEMORY_EVENTS = 8192
"""How many events are kept for those who come back after a moment."""

QUEUE_EVENTS = 1024
"""How many, after replacing, may wait for a subscriber that is slow; beyond that it has to start anew."""

BATCH_EVENTS, BATCH_BYTES = 64, 32_768
"""How much is handed out at once, and so what a transport may have to buffer, beyond one event."""

GLOBAL_ROOM = None


class FellBehind(Exception):
    """What comes next for this subscriber is gone."""


class LostTrack(FellBehind):
    """It was no fault of the subscriber's: the hub has started anew, say."""


class Hub:
    """The latest events, and the rooms the subscribers are in: one for each drop somebody asked for, and the global one."""

    def __init__(self) -> None:
        self.head_id: int | None = None  # the latest event's; None until the relay has read the log for the first time
        self.started = asyncio.Event()
        self.closed = False
        self.count = 0  # events published so far; number n of them is kept at n modulo MEMORY_EVENTS
        self._events: list[Event] = []
        self.floor_id = 0  # every event after this one is in memory
        self._newest: dict[tuple[str, str | None], int] = {}  # the number of a drop's newest event of a replaceable type
        self._rooms: dict[str | None, set[Subscriber]] = {GLOBAL_ROOM: set()}
        self._subscribers: set[Subscriber] = set()

    def restart(self, position: int) -> None:
        """Go on after this id. Memory is emptied; subscribers have missed something and must start anew."""
        self._events.clear()
        self._newest.clear()
        self.count = 0
        self.head_id = self.floor_id = position
        for subscriber in self._subscribers:
            subscriber.lose_track()
        self.started.set()

    def publish(self, event: Event) -> None:
        """Keep an event and wake those it is for. One that is not newer than the latest was published before."""
        assert self.head_id is not None  # noqa: S101 - restart() comes first
        if event.id <= self.head_id:
            return
        if self.head_id == 0:
            self.floor_id = event.id - 1  # the log was empty, and where it used to end is not known
        self.head_id = event.id
        number = self.count
        self.count += 1
        if number < MEMORY_EVENTS:
            self._events.append(event)
        else:
            forgotten = self._events[number % MEMORY_EVENTS]
            self.floor_id = forgotten.id
            if not self.is_replaced(number - MEMORY_EVENTS):
                self._newest.pop((forgotten.type, forgotten.drop_id), None)
            self._events[number % MEMORY_EVENTS] = event
        if event.type in REPLACEABLE:
            self._newest[event.type, event.drop_id] = number
        for room in (GLOBAL_ROOM, event.drop_id):
            for subscriber in self._rooms.get(room, ()):
                subscriber.notice(number)

    def reaches(self, position: int) -> bool:
        """Is every event after this id in memory?"""
        return self.head_id is not None and self.floor_id <= position <= self.head_id

    def event(self, number: int) -> Event:
        """One of the latest MEMORY_EVENTS events by its number."""
        return self._events[number % MEMORY_EVENTS]

    def number_after(self, position: int) -> int:
        """The number of the first event in memory after this id."""
        oldest = max(0, self.count - MEMORY_EVENTS)
        return bisect_right(range(self.count), position, lo=oldest, key=lambda number: self.event(number).id)

    def is_replaced(self, number: int) -> bool:
        """Does a newer event say all that this one did?"""
        event = self.event(number)
        return self._newest.get((event.type, event.drop_id), number) > number

    def enter(self, subscriber: "Subscriber", floors: dict[str | None, int]) -> None:
        """Put a subscriber in these rooms and out of others; of each room it gets the events after an id of its own."""
        self.leave(subscriber)
        self._subscribers.add(subscriber)
        subscriber.floors = floors
        for room in floors:
            self._rooms.setdefault(room, set()).add(subscriber)

    def leave(self, subscriber: "Subscriber") -> None:
        """Take a subscriber out of all rooms."""
        self._subscribers.discard(subscriber)
        for room in subscriber.floors:
            members = self._rooms[room]
            members.discard(subscriber)
            if not members and room is not GLOBAL_ROOM:
                del self._rooms[room]
        subscriber.floors = {}

    def wake_all(self) -> None:
        """Let every subscriber return from wait(), as one does for a heartbeat."""
        for subscriber in self._subscribers:
            subscriber.wake()

    def close(self) -> None:
        """The process stops: all streams end."""
        self.closed = True
        self.started.set()
        self.wake_all()


class Subscriber:
    """How far one client has come. In which rooms it is, the hub sets."""

    __slots__ = (
        "_hub", "_is_lost", "_is_pending", "_is_slow", "_is_woken", "_next", "_slow_before", "_waiter", "floors", "position"
    )  # fmt: skip

    def __init__(self, hub: Hub) -> None:
        self.position = 0
        self.floors: dict[str | None, int] = {}
        self._hub = hub
        self._next = 0  # number of the first event it has not looked at ...
        self._is_pending = False  # ... where there is one for it
        self._slow_before = 0  # events before this number came while its transport was busy
        self._is_slow = False  # it has been since it last took something
        self._is_lost = False
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None

    def start(self, position: int) -> None:
        """Go on after this id, which is in memory or not yet published."""
        self.position = position
        self._next = self._hub.number_after(position)
        self._is_pending = self._next < self._hub.count
        self._slow_before = 0
        self._is_slow = self._is_lost = False

    def look_back(self, position: int) -> None:
        """Look at the events after this id once more: it has come into rooms where they count."""
        self._is_lost = self._is_lost or position < self._hub.floor_id
        number = self._hub.number_after(position)
        self._next = min(self._next, number) if self._is_pending else number
        self._is_pending = self._next < self._hub.count

    def take(self) -> list[Event]:
        """The next events for it, a batch at most; raises FellBehind."""
        hub = self._hub
        if self._is_lost:
            raise LostTrack
        if self._is_pending and self._has_too_many_waiting():
            raise FellBehind
        batch: list[Event] = []
        batch_bytes = 0
        while self._is_pending and len(batch) < BATCH_EVENTS and batch_bytes < BATCH_BYTES:
            if self._is_due(self._next):
                batch.append(hub.event(self._next))
                batch_bytes += len(batch[-1].sse)
            self._next += 1
            self._is_pending = self._next < hub.count
        if batch:
            self.position = batch[-1].id
        return batch

    def _is_due(self, number: int) -> bool:
        event = self._hub.event(number)
        return (
            event.id > self.position
            and is_after(event, self.floors)
            and not (number < self._slow_before and self._hub.is_replaced(number))
        )

    def _has_too_many_waiting(self) -> bool:
        waiting = self._hub.count - self._next
        if self._is_slow and QUEUE_EVENTS < waiting <= MEMORY_EVENTS:
            waiting = sum(map(self._is_due, range(self._next, self._hub.count)))
        bound = QUEUE_EVENTS if self._is_slow else MEMORY_EVENTS
        self._is_slow = False
        return waiting > bound

    def was_slow(self) -> None:
        """Its transport kept it waiting: of what came meanwhile it gets only what no newer event replaces."""
        self._slow_before = self._hub.count
        self._is_slow = True

    async def wait(self) -> None:
        """Return when there may be something to take, or when it is woken."""
        if not (self._is_pending or self._is_lost or self._is_woken or self._hub.closed):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_woken = False

    def notice(self, number: int) -> None:
        """There is an event for it."""
        if not self._is_pending:
            self._is_pending = True
            self._next = number
            self._return()

    def lose_track(self) -> None:
        """What comes next for it is gone."""
        self._is_lost = True
        self._return()

    def wake(self) -> None:
        """Make it return from wait()."""
        self._is_woken = True
        self._return()

    def _return(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def is_after(event: Event, floors: dict[str | None, int]) -> bool:
    """Is the event for somebody in these rooms, and after the room's floor?"""
    floor = floors.get(event.drop_id, floors.get(GLOBAL_ROOM))
    return floor is not None and event.id > floor
