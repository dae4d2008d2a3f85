"""The feed: what one client is told, whatever the transport: how things are, what it missed, and then everything that happens."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable

from app.events import RESYNC_REQUIRED, Event, EventLog, make_event, renumbered
from app.http import Refusal, Unavailable, invalid
from app.hub import GLOBAL_ROOM, FellBehind, Hub, LostTrack, Subscriber, is_after
from app.metrics import RESYNCS

MAX_DROPS = 100
"""How many drops one client may name."""

REPLAY_EVENTS = 100
"""How many missed events are read at once for one client."""

START_TIMEOUT_SECONDS = 5
RETRY_SECONDS = 1

UNKNOWN_ID = "This is not the id of an event."
TOO_SLOW = "Events came faster than they were taken, and some are gone."
NOT_STARTED = "Events do not flow yet. Try again in a moment."


class Feed:
    """One client's events: open(), then batches(). The methods join, leave and close may be called meanwhile."""

    def __init__(self, hub: Hub, log: EventLog, drop_ids: Iterable[str], *, wants_snapshot: bool) -> None:
        self._hub = hub
        self._log = log
        self._wants_snapshot = wants_snapshot
        self._drop_ids = set(drop_ids)
        self._is_narrow = bool(self._drop_ids)  # else it is in the global room whenever it names no drop
        self._subscriber = Subscriber(hub)
        self._floors = dict.fromkeys(self._rooms(), 0)
        self._rooms_are_stale = False  # it joined or left since
        self._opening: list[Event] = []
        self._is_live = False  # what comes next is in the hub's memory; else in the log
        self.closed = False

    @property
    def position(self) -> int:
        """The id of the last event the client was given."""
        return self._subscriber.position

    async def open(self, last_event_id: str | None) -> None:
        """Begin after an event that the client has, with a SNAPSHOT or, where it wants neither, now. Raises Refusal."""
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                await self._hub.started.wait()
        except TimeoutError:
            raise Unavailable(NOT_STARTED) from None
        if not last_event_id:
            self._opening = await self._begin()
        elif re.fullmatch("[0-9]{1,18}", last_event_id):
            self._subscriber.position = int(last_event_id)
            self._opening = await self._read_missed()
        else:
            self._opening = await self._begin_anew(self._resync(UNKNOWN_ID, "unknown_id"))

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        """The events in order, some at a time; none for a heartbeat. Ends when the client is gone or the process stops."""
        batch = self._opening
        try:
            while not (self.closed or self._hub.closed):
                published = self._hub.count
                yield batch
                if self._hub.count > published:
                    self._subscriber.was_slow()
                try:
                    batch = await self._next()
                except Refusal:  # the database is away, which the client need not care about
                    batch = []
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._hub.leave(self._subscriber)

    def join(self, drop_id: str) -> None:
        """Send the events of this drop, too; to one in the global room, of this drop only. Raises VALIDATION_ERROR."""
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
        """The client is gone."""
        self.closed = True
        self._subscriber.wake()

    async def _next(self) -> list[Event]:
        if self._rooms_are_stale and (batch := await self._change_rooms()):
            return batch
        if not self._is_live:
            if batch := await self._read_missed():
                return batch
            self._is_live = True
            self._hub.enter(self._subscriber, self._floors)
            self._subscriber.start(self.position)
        try:
            if batch := self._subscriber.take():
                return batch
            await self._subscriber.wait()
            return self._subscriber.take()
        except FellBehind as error:
            counted_as = "restarted" if isinstance(error, LostTrack) else "slow"
            return await self._begin_anew(self._resync(TOO_SLOW, counted_as))

    async def _begin(self) -> list[Event]:
        # From a snapshot, else from now on.
        self._is_live = False
        self._hub.leave(self._subscriber)
        if not self._wants_snapshot:
            self._subscriber.position = self._hub.head_id or 0
            return []
        snapshot = await self._log.snapshot(None if GLOBAL_ROOM in self._floors else list(self._drop_ids))
        self._subscriber.position = snapshot.id
        return [snapshot]

    async def _begin_anew(self, resync: Event) -> list[Event]:
        # The client keeps its position until it has the snapshot: should it be cut off in between, it is told again.
        batch = await self._begin()
        return [resync if batch else renumbered(resync, self.position), *batch]

    async def _read_missed(self) -> list[Event]:
        # What the log has and the hub's memory has not; none when all that is left to come is in memory or yet to happen.
        drop_ids = None if GLOBAL_ROOM in self._floors else list(self._drop_ids)
        while not (self._hub.reaches(self.position) or self.closed or self._hub.closed):
            head_id = self._hub.head_id or 0
            page = await self._log.after(self.position, REPLAY_EVENTS, drop_ids)
            if page and page[0].type == RESYNC_REQUIRED:
                RESYNCS.labels("forgotten").inc()
                return await self._begin_anew(page[0])
            if len(page) < REPLAY_EVENTS:  # so that is all there was, when the hub had come to head_id at least
                self._subscriber.position = max([self.position, head_id, *(event.id for event in page)])
            else:
                self._subscriber.position = page[-1].id
            if wanted := [event for event in page if is_after(event, self._floors)]:
                return wanted
            if self.position > head_id:
                break  # the client is ahead of this process, which has yet to hear of what it knows
        return []

    def _resync(self, reason: str, counted_as: str) -> Event:
        RESYNCS.labels(counted_as).inc()
        return make_event(RESYNC_REQUIRED, self.position, {"reason": reason})

    def _rooms(self) -> set[str | None]:
        if self._drop_ids or self._is_narrow:
            return set(self._drop_ids)
        return {GLOBAL_ROOM}

    async def _change_rooms(self) -> list[Event]:
        # How the drops that are new to the client are, as a SNAPSHOT, and of them only the events that are not in it.
        rooms = self._rooms()
        added = set() if GLOBAL_ROOM in self._floors else rooms - self._floors.keys()
        everywhere = self._floors.get(GLOBAL_ROOM, 0)
        floor, batch = self._hub.head_id or 0, []
        if added and self._wants_snapshot:
            snapshot = await self._log.snapshot(None if GLOBAL_ROOM in added else [room for room in added if room])
            # Under the id of what the client has, for the others' events on the way are older than the snapshot.
            floor, batch = snapshot.id, [renumbered(snapshot, self.position)]
        self._floors = {room: floor if room in added else self._floors.get(room, everywhere) for room in rooms}
        if self._is_live:
            self._hub.enter(self._subscriber, self._floors)
            self._subscriber.look_back(floor)  # what happened while the snapshot was on its way
        self._rooms_are_stale = rooms != self._rooms()
        return batch
