"""The feed: what one client is told over either transport: a snapshot, the events that it missed, and then every event."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable

from lastpair.errors import Refusal, Unavailable, invalid
from lastpair.observability.metrics import RESYNCS
from lastpair.realtime.event import RESYNC_REQUIRED, Event, make_event, renumbered
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.hub import GLOBAL_ROOM, FellBehind, Hub, LogChanged, LostTrack, Outlet, Room, Subscriber, room_of_user

MAX_DROPS = 100
"""Drops that one client may name."""

REPLAY_EVENTS = 100
"""Missed events that are read at once for one client."""

START_TIMEOUT_SECONDS = 5
RETRY_SECONDS = 1

UNKNOWN_ID = "This is not the id of an event."
TOO_SLOW = "Events came faster than they were taken, and some are gone."
LOG_CHANGED = "The event log lost events that were sent."
NOT_STARTED = "Events do not flow yet. Try again in a moment."


class Feed:
    """One client's events: call open(), then batches(). join, leave and close may be called meanwhile.

    The client's position is its Subscriber, which only the methods below move: from a snapshot or the log, until the hub's memory
    has what comes next; then it follows the memory.
    """

    def __init__(
        self, hub: Hub, log: EventLog, drop_ids: Iterable[str], *, wants_snapshot: bool, user_id: str | None = None
    ) -> None:
        """The public events of these drops, or of all if there is none; and those that are for the user, whatever their drop."""
        self._user_id = user_id
        self._hub = hub
        self._log = log
        self._wants_snapshot = wants_snapshot
        self._drop_ids = set(drop_ids)  # the drops that the client asks for; the rooms follow in _change_rooms
        # The client named drops when it connected. When it has left all of them, it gets no events instead of the events of all
        # drops.
        self._is_narrow = bool(self._drop_ids)
        self._subscriber = Subscriber(hub, dict.fromkeys(self._wanted_rooms(), 0))
        self._rooms_are_stale = False  # the client joined or left a drop since the rooms were changed
        self._opening: list[Event] = []
        self._outlet: Outlet | None = None
        self.start_id = 0
        """The id that the client came with; 0 if it came with none."""

        self.closed = False

    async def open(self, last_event_id: str | None) -> None:
        """Begin after the event that the client has; else with a SNAPSHOT, or a POSITION if it wants none. Raises Refusal."""
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                await self._hub.started.wait()
        except TimeoutError:
            raise Unavailable(NOT_STARTED) from None
        if not last_event_id:
            self._opening = await self._begin() or [self._hub.position()]
        elif re.fullmatch("[0-9]{1,18}", last_event_id):
            self.start_id = int(last_event_id)
            self._subscriber.move_to(self.start_id)
            self._opening = await self._read_missed()
        else:
            self._opening = await self._begin_again(self._resync(UNKNOWN_ID, "unknown_id"))

    async def batches(self, outlet: Outlet | None = None) -> AsyncGenerator[list[Event], None]:
        """Yield the events in order, a few at a time. It ends when the client leaves or the process stops.

        An empty list means that there is nothing to send; the transport then sends a heartbeat. While the next batch is waited
        for, events are written to the outlet, if there is one.
        """
        self._outlet = outlet
        batch = self._opening
        try:
            while not (self.closed or self._hub.closed):
                published = self._hub.count
                yield batch
                if self._hub.count > published:
                    self._subscriber.was_slow()
                try:
                    batch = await self._next()
                except Refusal:  # the database is away; the stream stays open and goes on afterwards
                    batch = []
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._subscriber.stop_following()
            self._outlet = None  # it may refer to this feed

    def join(self, drop_id: str) -> None:
        """Send the events of this drop as well. A client of the global room then gets this drop only. Raises VALIDATION_ERROR."""
        if len(self._drop_ids | {drop_id}) > MAX_DROPS:
            raise invalid("dropId", f"must not be more than {MAX_DROPS} drops")
        self._drop_ids.add(drop_id)
        self._rooms_are_stale = True
        self._subscriber.wake()

    def leave(self, drop_id: str) -> None:
        """Send no more events of this drop."""
        self._drop_ids.discard(drop_id)
        self._rooms_are_stale = True
        self._subscriber.wake()

    def close(self) -> None:
        """The client left."""
        self.closed = True
        self._subscriber.wake()

    async def _next(self) -> list[Event]:
        if self._rooms_are_stale and (batch := await self._change_rooms()):
            return batch
        if not self._subscriber.is_following:
            if batch := await self._read_missed():
                return batch
            self._subscriber.follow()
        try:
            if batch := self._subscriber.take():
                return batch
            await self._subscriber.wait(self._outlet)
            if self._outlet is not None and self._outlet.is_busy:
                await self._outlet.drain()
                self._subscriber.was_slow()
            return self._subscriber.take()
        except LostTrack:
            self._subscriber.stop_following()
            return await self._read_missed()
        except LogChanged:
            return await self._begin_again(self._resync(LOG_CHANGED, "restarted"))
        except FellBehind:
            return await self._begin_again(self._resync(TOO_SLOW, "slow"))

    async def _begin(self) -> list[Event]:
        # Begin with a snapshot, or with the next event if the client wants no snapshot.
        self._subscriber.stop_following()
        if not self._wants_snapshot:
            self._subscriber.move_to(self._hub.head_id or 0)
            return []
        snapshot = await self._log.snapshot(self._drops_of_rooms())
        self._subscriber.move_to(snapshot.id)
        return [snapshot]

    async def _begin_again(self, resync: Event) -> list[Event]:
        # RESYNC_REQUIRED has the client's old id. If the connection breaks before the SNAPSHOT arrives, the client reconnects
        # with this id and gets RESYNC_REQUIRED again. Without a SNAPSHOT, RESYNC_REQUIRED has the new id.
        batch = await self._begin()
        return [resync if batch else renumbered(resync, self._subscriber.last_event_id), *batch]

    async def _read_missed(self) -> list[Event]:
        # The next events for the client that are in the log and not in the hub's memory. None if the rest is in memory, or is
        # still to happen.
        subscriber = self._subscriber
        while not (self._hub.reaches(subscriber.last_event_id) or self.closed or self._hub.closed):
            head_id = self._hub.head_id or 0
            page = await self._log.after(subscriber.last_event_id, REPLAY_EVENTS, self._drops_of_rooms(), self._user_id)
            if page and page[0].type == RESYNC_REQUIRED:
                RESYNCS.labels("forgotten").inc()
                return await self._begin_again(page[0])
            if len(page) < REPLAY_EVENTS:  # the log had nothing more for these drops when the hub was at head_id
                up_to = max([subscriber.last_event_id, head_id, *(event.id for event in page)])
            else:
                up_to = page[-1].id
            if wanted := subscriber.take_logged(page, up_to):
                return wanted
            if up_to > (self._hub.head_id or 0):
                break  # the log is ahead of this process's relay, which will hear of these events
        return []

    def _resync(self, reason: str, counted_as: str) -> Event:
        RESYNCS.labels(counted_as).inc()
        return make_event(RESYNC_REQUIRED, self._subscriber.last_event_id, {"reason": reason})

    def _drops_of_rooms(self) -> list[str] | None:
        # The drops to read from the log; None for those of the global room, which are all.
        if GLOBAL_ROOM in self._subscriber.rooms:
            return None
        return list(self._drop_ids)

    def _wanted_rooms(self) -> set[Room]:
        public: set[Room] = {*self._drop_ids} if self._drop_ids or self._is_narrow else {GLOBAL_ROOM}
        return public if self._user_id is None else public | {room_of_user(self._user_id)}

    async def _change_rooms(self) -> list[Event]:
        # Drops that are new to the client come as a SNAPSHOT, and of their events only those after it.
        wanted, present = self._wanted_rooms(), self._subscriber.rooms
        added = set() if GLOBAL_ROOM in present else wanted - present.keys()
        since, batch = self._hub.head_id or 0, []
        if added and self._wants_snapshot:
            snapshot = await self._log.snapshot(None if GLOBAL_ROOM in added else [room for room in added if room])
            # The snapshot has the client's current id, because events of other drops that are still in flight are older than it
            # and must not look as if the client had seen them.
            since, batch = snapshot.id, [renumbered(snapshot, self._subscriber.last_event_id)]
        of_global = present.get(GLOBAL_ROOM, 0)
        rooms = {room: since if room in added else present.get(room, of_global) for room in wanted}
        self._subscriber.change_rooms(rooms, since)
        self._rooms_are_stale = wanted != self._wanted_rooms()
        return batch
