"""The relay: listens for the commits of a node on a connection of its own and publishes them to the hub. After a loss it reads
what it missed.

The events of a notification are published as they are, if it proves where it is from. Any other one, which any role that may
connect can send, only makes the relay read the log, a few times a second at most. From time to time the relay compares what it
published last with the log. An event that only the log has is read from it at once, because a proven notification has its id.

The answers of the database come on the same connection, behind the notifications. So if too many arrive that are of no use, or
more than the relay can publish, it goes on with a new session that does not listen, and reads the log for a while.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from time import time
from typing import Any

import asyncpg
from prometheus_client import Counter

from lastpair.database.liveness import BACKEND_PID, Wait, Watch
from lastpair.database.pool import SESSION_SETTINGS, TCP_SETTINGS
from lastpair.database.servers import CONNECTION_FAULTS, Servers, reason
from lastpair.observability.metrics import (
    EVENTS_RELAYED,
    LISTENING,
    NODE_LISTENING,
    RELAY_LAG_SECONDS,
    UNPROVEN_NOTIFICATIONS,
    observe_all,
)
from lastpair.realtime.event import EVENTS, RESYNC_REQUIRED, Event
from lastpair.realtime.notification import LoggedEvent, events_of
from lastpair.realtime.track import Track

CHANNEL = "lastpair_events"
LISTEN = "listen lastpair_events"
EVENTS_AFTER = "select to_json(e)::text from api.relayed_events_after($1, $2) e"
EVENT_KEY = "select api.event_key()"
SET_PURCHASER_NAMES = "select api.set_purchaser_names($1)"
ENSURE_EPOCH = "select api.ensure_epoch($1)"
MAX_HEARD_EVENTS = 10_000
"""Events that may wait to be published. If there are more, the relay stops listening for a while."""

MAX_USELESS = 1000
"""Notifications between two readings of the log that may prove nothing, or have only events that were published already. If there
are more, the relay stops listening for a while."""

DEAF_SECONDS = 5
"""How long the relay then only reads the log."""

PAGE_EVENTS = 1000
YIELD_EVENTS = 256
"""After so many events the relay waits for the clients if they are far behind. Otherwise the hub could forget events before a
fast client gets them."""

CONNECT_TIMEOUT_SECONDS = 5
CHECK_SECONDS = 5
"""How often the relay compares what it published last with the log. That finds a dead server and lost notifications, too."""

CHECKED_EVENTS = 32
READ_PAUSE_SECONDS = 0.25
"""How long a notification that proves nothing waits for the log to be read, counted from the last time."""

WARN_SECONDS = 60
"""How often the same warning is logged at most."""

UNPROVEN = (
    "a notification does not prove that it has events, so the log is read: a deployment is under way, or a role that may connect"
    " to the database has sent it"
)
TOO_MANY = f"notifications come faster than the listener can use them, so it only reads the log for {DEAF_SECONDS} s"

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2)
"""How long to wait before each new try to connect; the last value repeats."""

logger = logging.getLogger("lastpair")


class Relay:
    """One for each process and node. `is_connected` says whether it hears of commits now, or reads them from the log all the
    time."""

    def __init__(self, servers: Servers, track: Track, watch: Watch, purchaser_names: str = "full") -> None:
        """`purchaser_names` is the setting, which the relay tells the database before it first hears of an event."""
        self.is_connected = False
        self._watch = watch
        self._purchaser_names = purchaser_names
        self._name = "the listener" if track.number is None else f"the listener of {track.name}"
        watch.on_loss.append(self._check_now)
        self._check_at = 0.0
        self._backend_pid = ""
        self._wait: Wait | None = None  # the latest one on the connection
        self._is_following = False  # the present session has read the log
        self._is_flooded = False  # the present session was given up because of too many notifications
        self._useless = 0  # see MAX_USELESS
        self._listen_at = 0.0  # the relay does not listen earlier; a time of the event loop, as the next three
        self._servers = servers
        self._track = track
        self._key: bytes | None = None
        self._heard: deque[Event | LoggedEvent] = deque()
        self._wakeup = asyncio.Event()
        self._log_is_due = False
        self._read_at = 0.0  # the log is not read earlier only because it is due
        self._warn_at: dict[str, float] = {}

    async def run(self) -> None:
        """Relay until cancelled. Survives a lost database."""
        tries = 0
        while True:
            was_connected = False
            self._is_flooded = self._is_following = False
            try:
                try:
                    await self._serve()
                finally:
                    was_connected = self.is_connected
                    self._set_connected(was_connected and self._is_flooded)
            except Exception as error:
                if self._is_flooded:
                    continue
                self._track.settled.set()
                if not isinstance(error, CONNECTION_FAULTS):
                    logger.exception("%s failed and starts anew", self._name)
                else:
                    if was_connected or tries == 0:  # log once an outage, not once a try
                        logger.warning("%s lost the database and tries again: %s", self._name, reason(error))
                    if was_connected:
                        self._watch.lost()
            tries = 1 if was_connected else tries + 1
            await asyncio.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1])

    def _set_connected(self, is_connected: bool) -> None:
        self.is_connected = is_connected
        (self._track.hearing.set if is_connected else self._track.hearing.clear)()
        LISTENING.set(all(track.hearing.is_set() for track in self._track.hub.tracks))
        if self._track.number is not None:
            NODE_LISTENING.labels(str(self._track.number)).set(is_connected)

    async def _serve(self) -> None:
        connection = await self._servers.connect(
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"application_name": "lastpair listener"} | SESSION_SETTINGS | TCP_SETTINGS,
        )
        try:
            self._heard.clear()
            async with self._watch.waiting("the listener's first call", None):
                self._backend_pid = await connection.fetchval(BACKEND_PID)
            connection.add_termination_listener(lambda _: self._wakeup.set())
            async with self._waiting("the listener's first calls"):
                self._key = await _call(connection, EVENT_KEY)
                await _call(connection, ENSURE_EPOCH, False)
                await _call(connection, SET_PURCHASER_NAMES, self._purchaser_names)
            is_listening = await self._listen(connection)
            await self._read_log(connection)
            self._is_following = True
            self._set_connected(True)
            now = asyncio.get_running_loop().time
            self._check_at = now() + CHECK_SECONDS
            while not connection.is_closed():
                self._wakeup.clear()
                await self._publish_heard(connection)
                if now() >= self._check_at:
                    async with self._waiting("the listener's check"):
                        self._key = await _call(connection, EVENT_KEY)
                        if is_listening:
                            await connection.execute(LISTEN)
                    await self._check(connection)
                    self._check_at = now() + CHECK_SECONDS
                elif self._log_is_due and now() >= self._read_at:
                    is_listening = is_listening or await self._listen(connection)
                    await self._check(connection)
                self._log_is_due = self._log_is_due or not is_listening
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(self._check_at, self._read_at) if self._log_is_due else self._check_at):
                        await self._wakeup.wait()
            raise ConnectionError("the connection was closed")
        finally:
            connection.terminate()

    async def _listen(self, connection: asyncpg.Connection) -> bool:
        # Whether the session listens now. The log must be read afterwards, because of what was committed before.
        if asyncio.get_running_loop().time() < self._listen_at:
            return False
        async with self._waiting("the listener's LISTEN"):
            await connection.add_listener(CHANNEL, lambda *notification: self._hear(connection, notification[-1]))
        return True

    def _check_now(self) -> None:
        # Another connection was found dead, so this one may be dead as well.
        self._check_at = 0
        self._wakeup.set()

    def _hear(self, connection: asyncpg.Connection, payload: str) -> None:
        if connection.is_closed():
            return  # the rest of too many, see below
        if self._wait is not None:
            self._wait.show_life()
        events = events_of(payload, self._key)
        if not events:
            self._log_is_due = True
            UNPROVEN_NOTIFICATIONS.inc()
            self._warn(UNPROVEN)
        head_id = self._track.head_id or 0
        new = [event for event in events if event.id > head_id]
        self._heard += new
        self._useless += not new
        # The others were published from the log before they were heard. If not, they are old ones that were sent again, or ids
        # are given out anew.
        self._log_is_due = self._log_is_due or not all(self._has(event) for event in events if event.id <= head_id)
        if self._useless > MAX_USELESS or len(self._heard) > MAX_HEARD_EVENTS:
            self._warn(TOO_MANY)
            self._is_flooded = True
            self._listen_at = asyncio.get_running_loop().time() + DEAF_SECONDS
            connection.terminate()
        self._wakeup.set()

    def _has(self, event: Event | LoggedEvent) -> bool:
        return self._track.has(event) if isinstance(event, Event) else self._track.has_id(event.id)

    def _warn(self, message: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._warn_at.get(message, 0):
            self._warn_at[message] = now + WARN_SECONDS
            logger.warning(message)

    async def _publish_heard(self, connection: asyncpg.Connection) -> None:
        published = 0
        lags_seconds: list[float] = []
        try:
            while self._heard:
                event = self._heard.popleft()
                head_id = self._track.head_id or 0
                if event.id <= head_id:
                    self._log_is_due = self._log_is_due or not self._has(event)  # as in _hear
                elif isinstance(event, Event) and event.id == head_id + 1:
                    self._publish(event)
                    if event.committed_at is not None:
                        lags_seconds.append(max(0, time() - event.committed_at))
                else:  # the log alone has the event, or ids are missing: rolled back, or not heard
                    await self._read_log(connection)
                published += 1
                if published % YIELD_EVENTS == 0:
                    observe_all(RELAY_LAG_SECONDS, lags_seconds)
                    lags_seconds.clear()
                    await self._track.hub.caught_up()
        finally:
            observe_all(RELAY_LAG_SECONDS, lags_seconds)

    async def _read_log(self, connection: asyncpg.Connection) -> None:
        # Publish everything that the log has and the hub has not. A hub that is new, or that missed events which the log has
        # pruned, begins with the latest events.
        self._log_is_due = False
        while True:
            events = await self._read_missed(connection)
            if events is None:
                await self._restart(connection, is_lost=False)
                break
            for event in events:
                self._publish(event)
            if len(events) < PAGE_EVENTS:
                break
            await self._track.hub.caught_up()
        self._useless = 0
        self._read_at = asyncio.get_running_loop().time() + READ_PAUSE_SECONDS

    async def _read_missed(self, connection: asyncpg.Connection) -> list[Event] | None:
        # The first events after the head of the hub; None if the hub must restart.
        if self._track.head_id is None:
            return None
        if self._track.head_id == 0 and self._is_following:
            # The log was empty when this session read it before, so all its events are new, whatever the id of the first one is.
            events = await self._read_page(connection, None, PAGE_EVENTS)
            return events if len(events) < PAGE_EVENTS else None
        events = await self._read_page(connection, self._track.head_id, PAGE_EVENTS)
        return None if events and events[0].type == RESYNC_REQUIRED else events

    async def _check(self, connection: asyncpg.Connection) -> None:
        # Compare what was published last with the log, after publishing what was missed.
        await self._read_log(connection)
        if not self._track.agrees_with(await self._read_page(connection, None, CHECKED_EVENTS)):
            logger.warning("the event log is not the one that was published, so all clients start again")
            await self._restart(connection, is_lost=True)

    async def _restart(self, connection: asyncpg.Connection, *, is_lost: bool) -> None:
        # Begin with the latest events of the log. The clients go on from the log as well. But if it lost events that were
        # published, their ids must not be given out anew, and the clients start again.
        head_id = self._track.head_id or 0
        events = await self._read_page(connection, None, 1 + self._track.hub.capacity // 2)
        is_lost = is_lost or (head_id > 0 and (not events or events[0].id < head_id))
        if is_lost:
            await _call(connection, ENSURE_EPOCH, True)
        # The first event is a known position and is not kept.
        start_id, events = (events[0].id, events[1:]) if events else (0, [])
        if start_id > 0 and self._track.number is not None and len(events) < self._track.hub.capacity // 2:
            # A client that has nothing of a node that joined goes on from the beginning, if the log has it.
            from_begin = await self._read_page(connection, 0, 1 + self._track.hub.capacity // 2)
            if from_begin and from_begin[0].type != RESYNC_REQUIRED:
                start_id, events = 0, from_begin
        self._track.restart(start_id, log_changed=is_lost)
        for event in events:
            self._publish(event)

    def _publish(self, event: Event) -> None:
        if event.id > (self._track.head_id or 0):
            relayed(event.type if event.type in EVENTS else "other").inc()
        self._track.publish(event)

    async def _read_page(self, connection: asyncpg.Connection, after: int | None, limit: int) -> list[Event]:
        async with self._waiting("the listener's reading of the log"):
            rows = await connection.fetch(EVENTS_AFTER, after, limit)
        return [Event(text) for (text,) in rows]

    @asynccontextmanager
    async def _waiting(self, what: str) -> AsyncIterator[None]:
        async with self._watch.waiting(what, self._backend_pid) as self._wait:
            yield


@cache
def relayed(event_type: str) -> Counter:
    """The counter of such events. It is cached, because finding it by its label takes longer than counting."""
    return EVENTS_RELAYED.labels(event_type)


async def _call(connection: asyncpg.Connection, statement: str, *arguments: object) -> Any:
    # None if an old process has put back its functions, which do without this one.
    try:
        return await connection.fetchval(statement, *arguments)
    except asyncpg.UndefinedFunctionError:
        return None
