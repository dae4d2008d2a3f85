"""The feed: what one client is told over either transport: a snapshot, the events that it missed, and then every event."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence

from lastpair.errors import Refusal, Unavailable, invalid
from lastpair.observability.metrics import RESYNCS
from lastpair.realtime.event import RESYNC_REQUIRED, SNAPSHOT, Event, make_event
from lastpair.realtime.event_log import merged
from lastpair.realtime.hub import GLOBAL_ROOM, FellBehind, Hub, LogChanged, LostTrack, Outlet, Room, Subscriber, room_of_user
from lastpair.realtime.track import Track

MAX_DROPS = 100
"""Drops that one client may name."""

REPLAY_EVENTS = 100
"""Missed events that are read at once for one client."""

START_TIMEOUT_SECONDS = 5
RETRY_SECONDS = 1

PATIENCE_SECONDS = 2
"""How long a client of several nodes waits for the snapshot of one before it goes on without it."""

UNKNOWN_ID = "This is not the id of an event."
TOO_SLOW = "Events came faster than they were taken, and some are gone."
LOG_CHANGED = "The event log lost events that were sent."
NODE_WAS_AWAY = "Events of {} could not be heard when the stream was opened."
NOT_STARTED = "Events do not flow yet. Try again in a moment."

Page = tuple[list[Event], int]
"""Events of a log, and the id up to which there are no others."""


class Feed:
    """One client's events: call open(), then batches(). join, leave and close may be called meanwhile.

    The client's position is its Subscriber, which only the methods below move: from a snapshot or the log, until the hub's memory
    has what comes next; then it follows the memory.

    A client of one node waits for that node's log. A client of several nodes never waits for one of them while events of others
    come: the tracks whose log or snapshot it needs are held, tasks ask for these, and what they answer is given as it comes.
    """

    def __init__(self, hub: Hub, drop_ids: Iterable[str], *, wants_snapshot: bool, user_id: str | None = None) -> None:
        """The public events of these drops, or of all if there is none; and those that are for the user, whatever their drop."""
        self._user_id = user_id
        self._hub = hub
        self._wants_snapshot = wants_snapshot
        self._drop_ids = set(drop_ids)  # the drops that the client asks for; the rooms follow in _change_rooms
        # The client named drops when it connected. When it has left all of them, it gets no events instead of the events of all
        # drops.
        self._is_narrow = bool(self._drop_ids)
        self._subscriber = Subscriber(hub, {room: {} for room in self._wanted_rooms()})
        self._rooms_are_stale = False  # the client joined or left a drop since the rooms were changed
        self._opening: list[Event] = []
        self._asked: dict[Track, asyncio.Task[Page | Event | None]] = {}
        self._outlet: Outlet | None = None
        self.start_id = "0"
        """The id that the client came with; 0 if it came with none."""

        self.closed = False

    async def open(self, last_event_id: str | None) -> None:
        """Begin after the event that the client has; else with a SNAPSHOT, or a POSITION if it wants none. Raises Refusal."""
        await self._started()
        if not last_event_id:
            self._opening = await self._begin() or [self._here(self._hub.position())]
        elif (vector := self._hub.vector_of(last_event_id)) is not None:
            self.start_id = last_event_id
            self._subscriber.move_to(vector)
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
            self._stop_asking()
            self._outlet = None  # it may refer to this feed

    def join(self, drop_id: str) -> None:
        """Send the events of this drop as well. A client of the global room then gets this drop only. Raises VALIDATION_ERROR."""
        if len(self._drop_ids | {drop_id}) > MAX_DROPS:
            raise invalid("dropId", f"must not be more than {MAX_DROPS} drops")
        self._drop_ids.add(drop_id)
        self._look_at_rooms()

    def leave(self, drop_id: str) -> None:
        """Send no more events of this drop."""
        self._drop_ids.discard(drop_id)
        self._look_at_rooms()

    def close(self) -> None:
        """The client left."""
        self.closed = True
        self._subscriber.wake()

    def _look_at_rooms(self) -> None:
        self._rooms_are_stale = True
        self._subscriber.wake()

    async def _started(self) -> None:
        # Wait until the relay has read the log. A client of several nodes does not wait for one that is away.
        tracks = self._subscriber.tracks()
        try:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                for track in tracks:
                    await (track.started if len(tracks) == 1 else track.settled).wait()
        except TimeoutError:
            pass
        if tracks and not any(track.started.is_set() for track in tracks):
            raise Unavailable(NOT_STARTED)

    async def _next(self) -> list[Event]:
        if self._rooms_are_stale and (batch := await self._change_rooms()):
            return batch
        if not self._subscriber.is_following:
            if batch := await self._read_missed():
                return batch
            self._subscriber.follow()
        if self._subscriber.held and (batch := await self._take_answers()):
            return batch
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
        subscriber = self._subscriber
        subscriber.stop_following()
        self._stop_asking()
        tracks = subscriber.tracks()
        if not self._wants_snapshot:
            subscriber.move_to(self._hub.heads())
            subscriber.hold({track: None for track in tracks if track.head_id is None})
            return []
        snapshots = await self._snapshots({track: self._drops_on(track) for track in tracks}, is_only=len(tracks) == 1)
        if tracks and not snapshots:
            raise Unavailable(NOT_STARTED)
        subscriber.move_to({track: snapshot.id for track, snapshot in snapshots.items()})
        subscriber.hold({track: None for track in tracks if track not in snapshots})
        return [self._merged(snapshots)]

    async def _begin_again(self, resync: Event) -> list[Event]:
        # RESYNC_REQUIRED has the client's old id. If the connection breaks before the SNAPSHOT arrives, the client reconnects
        # with this id and gets RESYNC_REQUIRED again. Without a SNAPSHOT, RESYNC_REQUIRED has the new id.
        resync = self._here(resync)
        batch = await self._begin()
        return [resync if batch else self._here(resync), *batch]

    async def _read_missed(self) -> list[Event]:
        # The next events for the client that are in the log and not in the hub's memory. None if the rest is in memory, or is
        # still to happen.
        subscriber = self._subscriber
        tracks, vector = subscriber.tracks(), subscriber.vector
        held = {track: event_id for track, event_id in subscriber.held.items() if track in tracks}
        if len(tracks) == 1 and not held:
            return await self._read_missed_of(tracks[0])
        for track in tracks:
            event_id = vector.get(track)
            if track not in held and not track.reaches(event_id or 0):
                held[track] = event_id if event_id is not None or self._wants_snapshot else 0
        subscriber.hold(held)
        return []

    async def _read_missed_of(self, track: Track) -> list[Event]:
        after = self._subscriber.vector.get(track)
        if after is None and self._wants_snapshot and not track.reaches(0):
            return await self._begin()
        after = after or 0
        while not (track.reaches(after) or self.closed or self._hub.closed):
            page, after = await self._page(track, after)
            if page and page[0].type == RESYNC_REQUIRED:
                RESYNCS.labels("forgotten").inc()
                return await self._begin_again(page[0])
            if wanted := self._take_page(track, page, after):
                return wanted
            if after > (track.head_id or 0):
                break  # the log is ahead of this process's relay, which will hear of these events
        return []

    async def _page(self, track: Track, after: int) -> Page:
        head_id = track.head_id or 0
        page = await track.log.after(after, REPLAY_EVENTS, self._drops_on(track), self._user_id)
        if len(page) < REPLAY_EVENTS:  # the log had nothing more for these drops when the hub was at head_id
            return page, max([after, head_id, *(event.id for event in page)])
        return page, page[-1].id

    def _take_page(self, track: Track, page: Sequence[Event], up_to: int) -> list[Event]:
        vector = self._subscriber.vector
        for event in page:
            event.track = track
            event.position = self._hub.position_of(vector | {track: event.id})
        return self._subscriber.take_logged(page, vector | {track: up_to})

    async def _take_answers(self) -> list[Event]:
        # The next events that were answered for the tracks that are held.
        while True:
            held = self._subscriber.held
            for track in self._asked.keys() - held.keys():
                self._asked.pop(track).cancel()
            for track in held.keys() - self._asked.keys():
                self._asked[track] = asyncio.create_task(self._ask(track, held[track]))
                self._asked[track].add_done_callback(lambda _: self._subscriber.wake())
            answered = next((track for track, asked in self._asked.items() if asked.done()), None)
            if answered is None:
                return []
            if batch := await self._take_answer(answered, self._asked.pop(answered).result()):
                return batch

    async def _ask(self, track: Track, after: int | None) -> Page | Event | None:
        # The next page of a node's log, or a snapshot if the client has nothing of the node; None if it wants no snapshot.
        while True:
            await track.hearing.wait()
            try:
                if after is not None:
                    return await self._page(track, after)
                return await track.log.snapshot(self._drops_on(track)) if self._wants_snapshot else None
            except Refusal:
                await asyncio.sleep(RETRY_SECONDS)

    async def _take_answer(self, track: Track, answer: Page | Event | None) -> list[Event]:
        if answer is None:
            return await self._begin_again(self._resync(NODE_WAS_AWAY.format(track.name), "away"))
        if isinstance(answer, Event):
            self._hold_or_release(track, answer.id)
            return [self._merged({track: answer}, completes=(track.name,))]
        page, up_to = answer
        if page and page[0].type == RESYNC_REQUIRED:
            RESYNCS.labels("forgotten").inc()
            return await self._begin_again(page[0])
        wanted = self._take_page(track, page, up_to)
        self._hold_or_release(track, up_to)
        return wanted

    def _hold_or_release(self, track: Track, event_id: int) -> None:
        if track.reaches(event_id) or event_id > (track.head_id or 0):
            self._subscriber.release(track, event_id)
        else:
            self._subscriber.hold(self._subscriber.held | {track: event_id})

    def _stop_asking(self) -> None:
        for asked in self._asked.values():
            asked.cancel()
        self._asked.clear()

    async def _snapshots(self, drops: dict[Track, list[str] | None], *, is_only: bool) -> dict[Track, Event]:
        # The snapshots of these drops of each node, without those of nodes that are away. If the client hears one node only, it
        # waits for this one. Raises Refusal.
        if is_only:
            return {track: await track.log.snapshot(drop_ids) for track, drop_ids in drops.items()}

        async def take(track: Track, drop_ids: list[str] | None) -> Event:
            if drop_ids == [] and track.head_id is not None:  # only the user's own events of this node are for the client
                return make_event(SNAPSHOT, track.head_id, {"drops": []})
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await track.log.snapshot(drop_ids)

        answers = await asyncio.gather(*(take(*each) for each in drops.items()), return_exceptions=True)
        found: dict[Track, Event] = {}
        for track, answer in zip(drops, answers, strict=True):
            if isinstance(answer, Event):
                found[track] = answer
            elif not isinstance(answer, (Unavailable, TimeoutError)):
                raise answer
        return found

    def _merged(self, snapshots: dict[Track, Event], completes: tuple[str, ...] = ()) -> Event:
        # The SNAPSHOT for the client, at its position.
        incomplete = tuple(track.name for track, event_id in self._subscriber.held.items() if event_id is None)
        if len(snapshots) == 1 and not (incomplete or completes):
            return self._here(*snapshots.values())
        return merged(tuple(snapshots.values()), self._subscriber.position, incomplete, completes)

    def _here(self, event: Event) -> Event:
        # The event with the client's position.
        position = self._subscriber.position
        return event if event.position == position else event.at(position)

    def _resync(self, reason: str, counted_as: str) -> Event:
        RESYNCS.labels(counted_as).inc()
        return make_event(RESYNC_REQUIRED, self._subscriber.position, {"reason": reason})

    def _drops_on(self, track: Track) -> list[str] | None:
        # The drops of a node to read from its log; None for those of the global room, which are all.
        if GLOBAL_ROOM in self._subscriber.rooms:
            return None
        return [drop_id for drop_id in self._drop_ids if self._hub.track_of(drop_id) is track]

    def _wanted_rooms(self) -> set[Room]:
        public: set[Room] = {*self._drop_ids} if self._drop_ids or self._is_narrow else {GLOBAL_ROOM}
        return public if self._user_id is None else public | {room_of_user(self._user_id)}

    async def _change_rooms(self) -> list[Event]:
        # Drops that are new to the client come as a SNAPSHOT, and of their events only those after it. Those on a node that is
        # away come later.
        subscriber, hub = self._subscriber, self._hub
        wanted, present = self._wanted_rooms(), subscriber.rooms
        added = set() if GLOBAL_ROOM in present else wanted - present.keys()
        heard, since, snapshots = subscriber.tracks(), hub.heads(), dict[Track, Event]()
        away, late = set[Track](), set[Room]()
        if added and self._wants_snapshot:
            drops: dict[Track, list[str] | None] = dict.fromkeys(hub.tracks)
            if GLOBAL_ROOM not in added:
                of_rooms = [(hub.track_of(room), room) for room in added if room]
                drops = {track: [room for other, room in of_rooms if other is track] for track, _ in of_rooms if track}
            snapshots = await self._snapshots(drops, is_only=len(hub.tracks_of(wanted)) == 1)
            since |= {track: snapshot.id for track, snapshot in snapshots.items()}
            away = drops.keys() - snapshots.keys()
            late = {room for track in away for room in drops[track] or ()}
        of_global = present.get(GLOBAL_ROOM, {})
        rooms = {room: since if room in added else present.get(room, of_global) for room in wanted - late}
        self._stop_asking()  # the rooms that were asked for are others now
        held = {track: event_id for track, event_id in subscriber.held.items() if track in hub.tracks_of(rooms)}
        if new := [track for track in hub.tracks_of(rooms) if track not in heard]:
            subscriber.pass_on({track: since[track] for track in new if track in since})
            held |= {track: None for track in new if track in away or track not in since}
        if held != subscriber.held:
            subscriber.hold(held)
        subscriber.change_rooms(rooms, since)
        self._rooms_are_stale = wanted != self._wanted_rooms()
        if late:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._look_at_rooms)
        # The snapshot has the client's current id, because events of other drops that are still in flight are older than it
        # and must not look as if the client had seen them.
        return [self._merged(snapshots)] if snapshots else []
