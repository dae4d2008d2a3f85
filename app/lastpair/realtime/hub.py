"""The hub: the latest events, in the memory of this process, and the clients that wait for them.

An event has two numbers. Its `id` is its node's and rises with the commits there. Its `sequence` says where it is in this
process's memory: event number n is kept in slot n modulo MEMORY_EVENTS. The memory has the events of all nodes, in the order in
which this process heard of them. A single database is one node.

A client's position is a vector: for each node the id of the latest event that the client has. While the client follows the
memory, its place is a sequence number, and the ids only say what it has already although it is behind that place: events that it
got from another process, for example, which heard of the nodes' events in another order.

The events are kept once for all clients; each client has only a position in them, its `Subscriber`. What waits for a slow client
is therefore bounded and costs no work until the client reads on. Everything here happens in one event loop.

A client is given its events in rounds (rounds.py). A client that waits for events, and whose transport has room, gets them
without its task: the round writes bytes to the transport, which are made once for all clients that are equally far in the same
rooms. Otherwise the round wakes the client's task.

An event that is for one user is in memory and in order like the others, and is heard in the room of this user only.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from lastpair.realtime.event import POSITION, Event, make_event
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.rounds import Rounds
from lastpair.realtime.track import Track, Vector

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

EVENT_ID = re.compile("[0-9]{1,18}")
PART = "(?:0|[1-9][0-9]{0,2}):[0-9]{1,18}"
SEVERAL_IDS = re.compile(f"{PART}(?:,{PART}){{0,255}}")
"""A position on several nodes: the number of each and an event's id."""

FOREVER = 2**63
"""More than any id, and more than any sequence number."""

GONE = make_event("GONE", 0, {})
"""Stands in the memory for an event whose log was started again."""

GONE.user_id = ""  # it is for nobody


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

    def write(self, data: bytes, position: str) -> None:
        """Write bytes, after which the client is at this position. If the client is gone, nothing happens."""


class Hub:
    """The latest events, and for each room the clients that follow it: one room for each drop, and the global one."""

    def __init__(self, tick_seconds: float = TICK_SECONDS, node_of: Callable[[str], int | None] = lambda _: None) -> None:
        """`node_of` says the number of the node that a drop is on."""
        self.tracks: list[Track] = []
        """One for each node, in the order in which the nodes joined."""

        self.is_single = True  # there is one database and no router
        self.closed = False
        self.count = 0  # events published so far, and so the sequence number of the next one
        self.capacity = MEMORY_EVENTS
        self._node_of = node_of
        self._events: list[Event] = []
        self._newest: dict[object, int] = {}  # the sequence number of the newest event of each subject
        self._rooms: dict[Room, set[Subscriber]] = {GLOBAL_ROOM: set()}
        self._subscribers: set[Subscriber] = set()
        self._rounds = Rounds(self._rooms, Subscriber.serve, tick_seconds)
        self._position = make_event(POSITION, "", {})
        self.shared: dict[object, Shared] = {}
        """What clients that were equally far were given last, while no other event came."""

    def add(self, number: int | None, log: EventLog) -> Track:
        """A node has joined: its events come as soon as its track is started."""
        track = Track(self, number, log)
        self.tracks.append(track)
        self.is_single = number is None
        return track

    def remove(self, track: Track) -> None:
        """The node has left."""
        self.forget(track)
        self.tracks.remove(track)
        self.lose(track)

    def track_of(self, drop_id: str) -> Track | None:
        """The track that has the events of this drop. None only while no node is known."""
        if len(self.tracks) > 1:
            number = self._node_of(drop_id)
            for track in self.tracks:
                if track.number == number:
                    return track
        return self.tracks[0] if self.tracks else None

    def tracks_of(self, rooms: Iterable[Room]) -> list[Track]:
        """The tracks that have the events of these rooms."""
        if len(self.tracks) < 2:
            return self.tracks
        heard: set[Track | None] = set()
        for room in rooms:
            if room is None or is_of_user(room):
                return self.tracks
            heard.add(self.track_of(room))
        return [track for track in self.tracks if track in heard]

    def heads(self) -> Vector:
        """Where a client is that has everything which this process has heard of."""
        return {track: track.head_id for track in self.tracks if track.head_id is not None}

    def position_of(self, vector: Mapping[Track, int]) -> str:
        """What clients get as the id for this position: an event's id; or with a router `0:12,1:34`, an id for each node."""
        if self.is_single:
            return str(next(iter(vector.values()), 0))
        return ",".join([f"{track.number}:{vector[track]}" for track in self.tracks if track in vector]) or "0"

    def vector_of(self, position: str) -> Vector | None:
        """The vector of a position that a client sent; None if it is none.

        A single id is of the first node, because its client comes from a time without a router. Nodes that do not exist are left
        out. In a single database the position of a cluster is one if it has one node.
        """
        if EVENT_ID.fullmatch(position):
            return {self.tracks[0]: int(position)} if self.tracks else {}
        if not SEVERAL_IDS.fullmatch(position):
            return None
        parts = [part.split(":") for part in position.split(",")]
        ids = {int(number): int(event_id) for number, event_id in parts}
        if len(ids) < len(parts) or max(ids) > 255 or (self.is_single and len(ids) > 1):
            return None
        if self.is_single:
            return dict.fromkeys(self.tracks, *ids.values())
        return {track: ids[track.number] for track in self.tracks if track.number in ids}

    def forget(self, track: Track) -> None:
        """Take the events of a node out of the memory."""
        for sequence in track.sequences:
            slot = sequence % self.capacity
            self._newest.pop(self._events[slot].subject, None)
            self._events[slot] = GONE
        track.sequences.clear()
        self.shared.clear()

    def lose(self, track: Track, *, log_changed: bool = False) -> None:
        """Tell the clients that hear a node that the memory no longer has what comes next."""
        for subscriber in self._subscribers:
            if track in subscriber.tracks() or track not in self.tracks:
                subscriber.lose_track(LogChanged if log_changed else LostTrack)

    def publish(self, event: Event) -> None:
        """Keep a new event of a track, and give it to the clients that it is for in the next round."""
        self.shared.clear()
        sequence = self.count
        self.count += 1
        if not self.is_single:
            event.position = self.position_of(self.heads())
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
                    subscriber.is_alone_up_to(sequence)
                self._rounds.announce(own_room, sequence)
            return
        for room in (GLOBAL_ROOM, event.drop_id):
            if self._rooms.get(room):
                self._rounds.announce(room, sequence)

    def _replace_oldest(self, sequence: int, event: Event) -> None:
        slot = sequence % self.capacity
        forgotten = self._events[slot]
        if forgotten.track is not None:
            forgotten.track.forgotten_id = forgotten.id
            forgotten.track.sequences.popleft()
        if not self.is_replaced(sequence - self.capacity):
            self._newest.pop(forgotten.subject, None)
        self._events[slot] = event

    def position(self) -> Event:
        """A POSITION at the latest event, made once for all clients."""
        position = self.position_of(self.heads())
        if self._position.position != position:
            self._position = make_event(POSITION, position, {})
        return self._position

    def event(self, sequence: int) -> Event:
        """One of the events in memory."""
        return self._events[sequence % self.capacity]

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
        for track in self.tracks:
            for event in (track.started, track.settled, track.hearing):
                event.set()
        for subscriber in self._subscribers:
            subscriber.wake()


Shared = tuple[bytes, str, int, bool]
"""The bytes that a client was given, and its position then: `position`, `_next` and `_is_pending`."""


class Subscriber:
    """One client's position.

    - `position`: what the client got as the id of the last event that it was given.
    - `rooms`: the client's rooms. Each has a `since`: only events with larger ids count in that room, because the client's
      snapshot contains the others, or because the client joined the room after them.
    - `held`: the tracks whose events the client must not be given yet, because it has to read a log or a snapshot first, and the
      id of its latest event of each; None if it has nothing of the node.
    - `is_following`: it takes events from the hub's memory. Otherwise it must read the log or a snapshot first.

    While it follows, `_next` is the sequence number of the first event in memory that it has not looked at.
    """

    __slots__ = (
        "_floors", "_hub", "_is_ahead", "_is_pending", "_is_slow", "_is_woken", "_loss", "_merged_from", "_next", "_outlet",
        "_room_key", "_shared_from", "_slow_before", "_waiter", "held", "is_following", "position", "rooms",
    )  # fmt: skip

    def __init__(self, hub: Hub, rooms: dict[Room, Vector]) -> None:
        self.position = "0"
        self.rooms = rooms
        self.held: dict[Track, int | None] = {}
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
        self._floors: Vector = {}  # the client has the events up to these ids, although `_next` may be before them
        self._is_ahead = False  # some of these events are not in memory yet
        self._merged_from = 0  # from this sequence number on, the client has nothing yet, and its position is that of the event
        self._shared_from = 0  # from this one on, clients in the same rooms, those of users not counted, get the same events

    def tracks(self) -> list[Track]:
        """The tracks that it hears."""
        return self._hub.tracks_of(self.rooms)

    @property
    def vector(self) -> Vector:
        """The position as a vector."""
        return self._hub.vector_of(self.position) or {}

    def stop_following(self) -> None:
        """Take nothing more from the hub's memory until follow() is called. The position stays."""
        self.is_following = False
        self._hub.leave(self)

    def move_to(self, vector: Vector) -> None:
        """The client has every event up to these ids, or a snapshot that contains them. Not while it follows."""
        assert not self.is_following  # noqa: S101 - the place in memory would not agree with the ids
        self.position = self._hub.position_of(vector)
        self.held = {}

    def pass_on(self, vector: Vector) -> None:
        """The client begins to hear these tracks, after these ids."""
        self.position = self._hub.position_of(self.vector | vector)

    def follow(self) -> None:
        """Take the events after `position` from the hub's memory, which must have all of them but those of the tracks held."""
        self._is_pending = False
        self._slow_before = 0
        self._is_slow = False
        self._loss = None
        self.is_following = True
        self._enter()
        self._go_back_to(self._floors)

    def change_rooms(self, rooms: dict[Room, Vector], since: Vector) -> None:
        """Move into these rooms. In those that are new to it, events after the ids `since` count, and some may be in memory
        already."""
        if self.is_following:
            self._hub.leave(self)
        self.rooms = rooms
        if self.is_following:
            self._enter()
            if any(event_id < track.forgotten_id for track, event_id in since.items()):
                self._loss = self._loss or LostTrack
            self._go_back_to(since)

    def hold(self, held: dict[Track, int | None]) -> None:
        """Hold these tracks and no others."""
        vector = self.vector
        for track, event_id in held.items():
            vector.pop(track, None)
            if event_id is not None:
                vector[track] = event_id
        self.held, self.position = held, self._hub.position_of(vector)
        if self.is_following:
            self._enter()

    def release(self, track: Track, event_id: int) -> None:
        """The client has everything of this track up to this id, and the hub's memory has what comes next."""
        self.held = {other: own for other, own in self.held.items() if other is not track}
        self.position = self._hub.position_of(self.vector | {track: event_id})
        if self.is_following:
            self._enter()
            self._go_back_to({track: event_id})

    def _go_back_to(self, vector: Mapping[Track, int]) -> None:
        # Look at the events after these ids again. Those that wait for the next round may be for this client as well.
        hub = self._hub
        sequences = [track.sequence_after(vector.get(track, 0)) for track in self.tracks() if track not in self.held]
        self._next = min([self._next if self._is_pending else hub.count, hub.oldest_waiting(), *sequences])
        self._is_pending = self._next < hub.count

    def take_logged(self, page: Sequence[Event], vector: Vector) -> list[Event]:
        """The events of a page of the log that are for this client. Afterwards it has every event up to these ids."""
        self.position = self._hub.position_of(vector)
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
                event = hub.event(self._next)
                batch.append(event if self._next >= self._merged_from else self._placed(event, self._next))
                batch_bytes += event.size_bytes
            self._next += 1
            self._is_pending = self._next < hub.count
        if batch:
            self.position = batch[-1].position
        if self._is_ahead:
            self._look_ahead()
        return batch

    def was_slow(self) -> None:
        """The transport was busy. Of the events that came meanwhile, the client gets only those that no newer event replaces."""
        self._slow_before = self._hub.count
        self._shared_from = max(self._shared_from, self._slow_before)
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
        hub, outlet = self._hub, self._outlet
        if first is not None and not self._is_pending:
            if first > self._next:
                self._next = first
            self._is_pending = self._next < hub.count
        if outlet is None or self._loss is not None or self._waiter is None or self._waiter.done():
            if first is None:
                self.wake()
            elif self._is_pending:
                self._return()
        elif self._is_pending:
            self._write(outlet, hub.shared)
        elif first is None and outlet.heartbeat and not outlet.is_busy:
            outlet.write(outlet.heartbeat, self.position)

    def _write(self, outlet: Outlet, shared: dict[object, Shared]) -> None:
        # Write all that is pending. If that is not possible, the client's task goes on.
        while self._is_pending:
            if outlet.is_busy:
                self._return()
                return
            key = self._next, self._room_key, outlet.encode
            # Whether every other client in the same rooms, of which the same can be said, gets the same next events.
            is_like_others = self._next >= self._shared_from
            found = shared.get(key) if is_like_others else None
            if found is not None:
                data, position, self._next, self._is_pending = found
                if data:  # else the position is one that the other client was given before, maybe as the only one
                    self.position = position
            else:
                try:
                    batch = self.take()
                except FellBehind:
                    self._return()
                    return
                data = outlet.encode(batch) if batch else b""
                if is_like_others:
                    shared[key] = data, self.position, self._next, self._is_pending
            if data:
                outlet.write(data, self.position)

    def is_alone_up_to(self, sequence: int) -> None:
        """The event with this number is for this client's user, so others get other events up to it."""
        self._shared_from = max(self._shared_from, sequence + 1)

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
        # What is in memory now may be partly known to this client. What comes later is the same for all in the same rooms.
        public = [room for room in self.rooms if not is_of_user(room)]
        self._room_key = public[0] if len(public) == 1 else frozenset(public)
        if self.held:
            self._room_key = self._room_key, frozenset(self.held.items())
        heads, vector, heard = self._hub.heads(), self.vector, self.tracks()
        # The ids of nodes that the client does not hear only have to be passed on. Nobody has looked whether they are true.
        self._floors = {
            track: event_id if track in heard else min(event_id, heads.get(track, 0)) for track, event_id in vector.items()
        } | dict.fromkeys(self.held, FOREVER)
        self._look_ahead()
        self._hub.enter(self)

    def _look_ahead(self) -> None:
        known = [*self.rooms.values(), {track: event_id for track, event_id in self._floors.items() if track not in self.held}]
        self._is_ahead = any(event_id > (track.head_id or 0) for vector in known for track, event_id in vector.items())
        self._merged_from = FOREVER if self._is_ahead or self.held else self._hub.count
        self._shared_from = max(FOREVER if self._is_ahead else self._hub.count, self._slow_before)

    def _placed(self, event: Event, sequence: int) -> Event:
        # The event with the position that this client then has, which is not the same for others.
        hub = self._hub
        if hub.is_single:
            return event
        reached, vector = hub.vector_of(event.position) or {}, Vector()
        for track in hub.tracks:
            event_id = self.held[track] if track in self.held else self._floors.get(track)
            if track in reached and track not in self.held and sequence >= track.restarted_at:
                event_id = max(event_id or 0, reached[track])
            if event_id is not None:
                vector[track] = event_id
        position = hub.position_of(vector)
        return event if position == event.position else event.at(position)

    def _is_in_room(self, event: Event) -> bool:
        since = self._since(event)
        return since is not None and event.id > since.get(event.track, 0)  # type: ignore[arg-type]

    def _since(self, event: Event) -> Vector | None:
        if event.user_id is not None:
            return self.rooms.get(room_of_user(event.user_id))
        return self.rooms.get(event.drop_id, self.rooms.get(GLOBAL_ROOM))

    def _is_due(self, sequence: int) -> bool:
        event = self._hub.event(sequence)
        since = self._since(event)
        if since is None or (sequence < self._slow_before and self._hub.is_replaced(sequence)):
            return False
        if sequence >= self._merged_from:
            return True
        return event.id > max(self._floors.get(event.track, 0), since.get(event.track, 0))  # type: ignore[arg-type]

    def _has_too_many_waiting(self) -> bool:
        hub = self._hub
        waiting = hub.count - self._next
        if self._is_slow and QUEUE_EVENTS < waiting <= hub.capacity:
            waiting = sum(map(self._is_due, range(self._next, hub.count)))
        most = QUEUE_EVENTS if self._is_slow else hub.capacity
        self._is_slow = False
        return waiting > most
