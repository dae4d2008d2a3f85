"""The hub: the latest events, in the memory of this process, and the clients that wait for them.

An event has two numbers. Its `id` is the database's and rises with the commits. Its `sequence` says where it is in this process's
memory: event number n is kept in slot n modulo MEMORY_EVENTS.

The events are kept once for all clients; each client has only a position in them, its `Subscriber`. What waits for a slow client
is therefore bounded and costs no work until the client reads on. Everything here happens in one event loop.

A client is given its events in rounds (rounds.py). A client that waits for events, and whose transport has room, gets them
without its task: the round writes bytes to the transport, which are made once for all clients that are equally far in the same
rooms. Otherwise the round wakes the client's task.

An event that is for one user is in memory and in order like the others, and is heard in the room of this user only.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import Protocol

from lastpair.realtime.event import POSITION, Event, make_event
from lastpair.realtime.rounds import Rounds

MEMORY_EVENTS = 8192
"""Events kept for clients that come back after a moment."""

QUEUE_EVENTS = 1024
"""Events that may wait for a client whose transport was busy, replaced ones not counted. Beyond that the client starts again."""

BATCH_EVENTS, BATCH_BYTES = 256, 32_768
"""The most that take() returns at once, and so what a transport may have to buffer, beyond one event."""

Room = str | None
"""A drop's id; or GLOBAL_ROOM, in which the public events of every drop are heard; or the room of a user."""

GLOBAL_ROOM: Room = None
USER_PREFIX = "user:"


def room_of_user(user_id: str) -> Room:
    """The room of the events that are for this user alone. It is no UUID, so a client cannot join it as it joins a drop."""
    return USER_PREFIX + user_id


def is_of_user(room: Room) -> bool:
    """Whether the room is that of a user."""
    return room is not None and room.startswith(USER_PREFIX)


TICK_SECONDS = 0.02
"""The default of the setting TICK_MS."""


class FellBehind(Exception):
    """The hub no longer has the events that come next for this client."""


class LostTrack(FellBehind):
    """The same, but not because the client was slow: the hub started again, for example. The log may have what comes next."""


class LogChanged(FellBehind):
    """The hub published events that the log has no more, so a client's position may mean another event."""


class Outlet(Protocol):
    """The transport of a client. A round writes to it directly, because waking the client's task would cost more."""

    @property
    def encode(self) -> Callable[[list[Event]], bytes]:
        """The function that makes the bytes for a batch. Clients whose outlets have the same one share these bytes."""

    @property
    def heartbeat(self) -> bytes:
        """What keeps the connection open; nothing if the server does that."""

    @property
    def is_busy(self) -> bool:
        """Whether more bytes would have to wait, because the client has not taken those before."""

    def drain(self) -> Awaitable[object]:
        """Return when it is not busy, or the client is gone."""

    def write(self, data: bytes, last_event_id: int) -> None:
        """Write bytes, whose last event has this id. If the client is gone, nothing happens."""


class Hub:
    """The latest events, and for each room the clients that follow it: one room for each drop, and the global one."""

    def __init__(self, tick_seconds: float = TICK_SECONDS) -> None:
        self.head_id: int | None = None  # the latest event's; None until the relay has read the log for the first time
        self.forgotten_id = 0  # every event after this one, up to head_id, is in memory; see reaches()
        self.started = asyncio.Event()
        self.closed = False
        self.count = 0  # events published so far, and so the sequence number of the next one
        self.capacity = MEMORY_EVENTS
        self._events: list[Event] = []
        self._newest: dict[object, int] = {}  # the sequence number of the newest event of each subject
        self._rooms: dict[Room, set[Subscriber]] = {GLOBAL_ROOM: set()}
        self._subscribers: set[Subscriber] = set()
        self._rounds = Rounds(self._rooms, Subscriber.serve, tick_seconds)
        self._position = make_event(POSITION, 0, {})
        self.shared: dict[object, Shared] = {}
        """What clients that were equally far were given last, while no other event came."""

    def restart(self, event_id: int, *, log_changed: bool = False) -> None:
        """Empty the memory and go on after this event (0: the log is empty).

        The clients go on from the log, or start again from a snapshot if the log lost events that were published.
        """
        self._events.clear()
        self._newest.clear()
        self.shared.clear()
        self._rounds.forget()
        self.count = 0
        self.head_id = self.forgotten_id = event_id
        for subscriber in self._subscribers:
            subscriber.lose_track(LogChanged if log_changed else LostTrack)
        self.started.set()

    def publish(self, event: Event) -> None:
        """Keep an event, and give it to the clients that it is for in the next round. An event that is not newer than the latest
        was published before."""
        assert self.head_id is not None  # noqa: S101 - restart() comes first
        if event.id <= self.head_id:
            return
        if self.head_id == 0 and event.id > 1:
            self.forgotten_id = -1  # the log was emptied before this event; a client that comes with 0 may have missed others
        self.head_id = event.id
        self.shared.clear()
        sequence = self.count
        self.count += 1
        if sequence < self.capacity:
            self._events.append(event)
        else:
            self._replace_oldest(sequence, event)
        if event.subject is not None:
            self._newest[event.subject] = sequence
        if event.user_id is not None:
            own_room = room_of_user(event.user_id)
            if members := self._rooms.get(own_room):
                for subscriber in members:
                    subscriber.is_alone_up_to(event.id)
                self._rounds.announce(own_room, sequence)
            return
        for room in (GLOBAL_ROOM, event.drop_id):
            if self._rooms.get(room):
                self._rounds.announce(room, sequence)

    def _replace_oldest(self, sequence: int, event: Event) -> None:
        slot = sequence % self.capacity
        forgotten = self._events[slot]
        self.forgotten_id = forgotten.id
        if not self.is_replaced(sequence - self.capacity):
            self._newest.pop(forgotten.subject, None)
        self._events[slot] = event

    def reaches(self, event_id: int) -> bool:
        """Whether this is the id of an event, and every event after it is in memory.

        An id between two events may be one that was lost, so it is looked up in the log.
        """
        if self.head_id is None or not self.forgotten_id <= event_id <= self.head_id:
            return False
        return event_id == self.forgotten_id or self._in_memory(event_id) is not None

    def has_id(self, event_id: int) -> bool:
        """Whether an event with this id is in memory."""
        return self._in_memory(event_id) is not None

    def has(self, event: Event) -> bool:
        """Whether this very event is in memory."""
        found = self._in_memory(event.id)
        return found is not None and found.identity == event.identity

    def _in_memory(self, event_id: int) -> Event | None:
        sequence = self.sequence_after(event_id - 1)
        found = self.event(sequence) if sequence < self.count else None
        return found if found is not None and found.id == event_id else None

    def agrees_with(self, latest: list[Event]) -> bool:
        """Whether the events in memory are those of the log, as far as its latest events, given oldest first, can tell."""
        oldest_id = latest[0].id if latest else 0
        if self.head_id is None or oldest_id > self.head_id:
            return True
        if self.head_id not in {event.id for event in latest} | {0}:
            return False
        published = [self.event(sequence) for sequence in range(self.sequence_after(oldest_id - 1), self.count)]
        logged = [event for event in latest if self.forgotten_id < event.id <= self.head_id]
        return [event.identity for event in published] == [event.identity for event in logged]

    def position(self) -> Event:
        """A POSITION with the id of the latest event, made once for all clients."""
        head_id = self.head_id or 0
        if self._position.id != head_id:
            self._position = make_event(POSITION, head_id, {})
        return self._position

    def event(self, sequence: int) -> Event:
        """One of the events in memory."""
        return self._events[sequence % self.capacity]

    def sequence_after(self, event_id: int) -> int:
        """The sequence number of the first event in memory after this id."""
        oldest = max(0, self.count - self.capacity)
        return bisect_right(range(self.count), event_id, lo=oldest, key=lambda sequence: self.event(sequence).id)

    def is_replaced(self, sequence: int) -> bool:
        """Whether a newer event makes this one unnecessary."""
        return self._newest.get(self.event(sequence).subject, sequence) > sequence

    async def caught_up(self) -> None:
        """Let other tasks run. If the clients are far behind, wait for them, because the memory could forget what comes next."""
        await asyncio.sleep(0)
        while self.count - self.oldest_waiting() > self.capacity // 2:
            await self._rounds.end()

    def oldest_waiting(self) -> int:
        """The sequence number of the first event that some client may not have been given yet."""
        return self._rounds.oldest(self.count)

    def enter(self, subscriber: "Subscriber") -> None:
        """Give this client the events of its rooms from now on."""
        self._subscribers.add(subscriber)
        for room in subscriber.rooms:
            self._rooms.setdefault(room, set()).add(subscriber)

    def leave(self, subscriber: "Subscriber") -> None:
        """Take a client out of its rooms, if it is in them."""
        if subscriber not in self._subscribers:
            return
        self._subscribers.discard(subscriber)
        for room in subscriber.rooms:
            members = self._rooms[room]
            members.discard(subscriber)
            if not members and room is not GLOBAL_ROOM:
                del self._rooms[room]

    def beat(self) -> None:
        """Send every client a heartbeat, in the next round."""
        self._rounds.beat(self._subscribers)

    def close(self) -> None:
        """The process stops: all streams end."""
        self.closed = True
        self.started.set()
        for subscriber in self._subscribers:
            subscriber.wake()


Shared = tuple[int, bytes, int, int, bool]
"""The id of the first event that a client looked at, the bytes that it was given, and its position then: `last_event_id`, `_next`
and `_is_pending`."""


class Subscriber:
    """One client's position.

    - `last_event_id`: the id of the last event that the client was given.
    - `rooms`: the client's rooms. Each has a `since`: only events with a larger id count in that room, because the client's
      snapshot contains the others, or because the client joined the room after them.
    - `is_following`: it takes events from the hub's memory. Otherwise it must read the log or a snapshot first.

    While it follows, `_next` is the sequence number of the first event in memory that it has not looked at.
    """

    __slots__ = (
        "_hub", "_is_pending", "_is_slow", "_is_woken", "_loss", "_next", "_outlet", "_room_key", "_shared_after",
        "_slow_before", "_waiter", "is_following", "last_event_id", "rooms",
    )  # fmt: skip

    def __init__(self, hub: Hub, rooms: dict[Room, int]) -> None:
        self.last_event_id = 0
        self.rooms = rooms
        self.is_following = False
        self._hub = hub
        self._next = 0
        self._is_pending = False  # the event numbered `_next` is in memory
        self._slow_before = 0  # events with a smaller sequence number came while the transport was busy
        self._is_slow = False  # the transport was busy since the client last took something
        self._loss: type[FellBehind] | None = None  # take() raises it
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None
        self._outlet: Outlet | None = None  # while it waits
        self._room_key: object = None  # equal for clients in the same rooms, those of users not counted
        self._shared_after = 0  # clients in the same rooms, those of users not counted, get the same events with a larger id

    def stop_following(self) -> None:
        """Take nothing more from the hub's memory until follow() is called. The position stays."""
        self.is_following = False
        self._hub.leave(self)

    def move_to(self, event_id: int) -> None:
        """The client has every event up to this id, or a snapshot that contains them. Not while it follows."""
        assert not self.is_following  # noqa: S101 - the place in memory would not agree with the id
        self.last_event_id = event_id

    def follow(self) -> None:
        """Take the events after `last_event_id` from the hub's memory, which must have all of them."""
        self._next = self._hub.sequence_after(self.last_event_id)
        self._is_pending = self._next < self._hub.count
        self._slow_before = 0
        self._is_slow = False
        self._loss = None
        self.is_following = True
        self._enter()

    def change_rooms(self, rooms: dict[Room, int], since: int) -> None:
        """Move into these rooms. In those that are new to it, events after the id `since` count, and some may be in memory
        already."""
        if self.is_following:
            self._hub.leave(self)
        self.rooms = rooms
        if self.is_following:
            self._enter()
            if since < self._hub.forgotten_id:
                self._loss = self._loss or LostTrack
            # Events that wait for the next round may be in a room that the client keeps.
            sequence = min(self._hub.sequence_after(since), self._hub.oldest_waiting())
            self._next = min(self._next, sequence) if self._is_pending else sequence
            self._is_pending = self._next < self._hub.count

    def take_logged(self, page: list[Event], up_to: int) -> list[Event]:
        """The events of a page of the log that are for this client. Afterwards it has every event up to the id `up_to`."""
        self.last_event_id = up_to
        return [event for event in page if self._is_in_room(event)]

    def take(self) -> list[Event]:
        """The next events from memory, one batch at most. Raises FellBehind."""
        if self._loss is not None:
            raise self._loss
        if self._is_pending and self._has_too_many_waiting():
            raise FellBehind
        hub = self._hub
        batch: list[Event] = []
        batch_bytes = 0
        while self._is_pending and len(batch) < BATCH_EVENTS and batch_bytes < BATCH_BYTES:
            if self._is_due(self._next):
                batch.append(hub.event(self._next))
                batch_bytes += batch[-1].size_bytes
            self._next += 1
            self._is_pending = self._next < hub.count
        if batch:
            self.last_event_id = batch[-1].id
        return batch

    def was_slow(self) -> None:
        """The transport was busy. Of the events that came meanwhile, the client gets only those that no newer event replaces."""
        self._slow_before = self._hub.count
        self._is_slow = True

    async def wait(self, outlet: Outlet | None = None) -> None:
        """Return when there may be something to take, or when wake() is called.

        If there is an outlet, events and heartbeats are written to it meanwhile. If it is busy, there may be something to take.
        """
        if not (self._is_pending or self._loss or self._is_woken or self._hub.closed):
            self._waiter = asyncio.get_running_loop().create_future()
            self._outlet = outlet
            try:
                await self._waiter
            finally:
                self._waiter = self._outlet = None
        self._is_woken = False

    def serve(self, first: int | None) -> None:
        """The turn of this client in a round: the event numbered `first` may be new to it. If it is None, this is a heartbeat."""
        if first is not None and not self._is_pending:
            self._next = max(self._next, first)
            self._is_pending = self._next < self._hub.count
        if self._outlet is None or self._loss is not None or self._waiter is None or self._waiter.done():
            if first is None:
                self.wake()
            elif self._is_pending:
                self._return()
        elif self._is_pending:
            self._write(self._outlet)
        elif first is None and self._outlet.heartbeat and not self._outlet.is_busy:
            self._outlet.write(self._outlet.heartbeat, self.last_event_id)

    def _write(self, outlet: Outlet) -> None:
        # Write all that is pending. If that is not possible, the client's task goes on.
        shared = self._hub.shared
        while self._is_pending:
            if outlet.is_busy:
                self._return()
                return
            key = self._next, self._room_key, outlet.encode
            found = shared.get(key)
            if found is not None and self._is_like_others(found[0]):
                _, data, last_event_id, self._next, self._is_pending = found
                if data:  # else the id is of an event that the other client was given before, maybe as the only one
                    self.last_event_id = last_event_id
            else:
                first_id = self._hub.event(self._next).id
                is_like_others = self._is_like_others(first_id)
                try:
                    batch = self.take()
                except FellBehind:
                    self._return()
                    return
                data = outlet.encode(batch) if batch else b""
                if is_like_others:
                    shared[key] = first_id, data, self.last_event_id, self._next, self._is_pending
            if data:
                outlet.write(data, self.last_event_id)

    def _is_like_others(self, first_id: int) -> bool:
        # Whether every other client in the same rooms, of which the same can be said, gets the same next events. `first_id` is
        # the id of the event numbered `_next`.
        return first_id > self.last_event_id and first_id > self._shared_after and self._next >= self._slow_before

    def is_alone_up_to(self, event_id: int) -> None:
        """The event with this id is for this client's user, so others get other events up to it."""
        self._shared_after = event_id

    def lose_track(self, loss: type[FellBehind]) -> None:
        """The hub no longer has what comes next: take() raises `loss`."""
        if self._loss is not LogChanged:
            self._loss = loss
        self._return()

    def wake(self) -> None:
        """Make wait() return."""
        self._is_woken = True
        self._return()

    def _return(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _enter(self) -> None:
        public = [room for room in self.rooms if not is_of_user(room)]
        self._room_key = public[0] if len(public) == 1 else frozenset(public)
        # The memory may have events for the user that were published before the client came. It does not say which ones.
        since = [*self.rooms.values(), self._hub.head_id or 0 if len(public) < len(self.rooms) else 0]
        self._shared_after = max(since)
        self._hub.enter(self)

    def _is_in_room(self, event: Event) -> bool:
        if event.user_id is not None:
            since = self.rooms.get(room_of_user(event.user_id))
        else:
            since = self.rooms.get(event.drop_id, self.rooms.get(GLOBAL_ROOM))
        return since is not None and event.id > since

    def _is_due(self, sequence: int) -> bool:
        event = self._hub.event(sequence)
        return (
            event.id > self.last_event_id
            and self._is_in_room(event)
            and not (sequence < self._slow_before and self._hub.is_replaced(sequence))
        )

    def _has_too_many_waiting(self) -> bool:
        hub = self._hub
        waiting = hub.count - self._next
        if self._is_slow and QUEUE_EVENTS < waiting <= hub.capacity:
            waiting = sum(map(self._is_due, range(self._next, hub.count)))
        most = QUEUE_EVENTS if self._is_slow else hub.capacity
        self._is_slow = False
        return waiting > most
