"""The relay: listens for commits on a connection of its own and publishes them to the hub. After a loss it reads what it
missed.

A notification that proves that it is an event is published as it is. Any other one, which any role that may connect can send,
only makes the relay read the log, a few times a second at most. From time to time the relay compares what it published last with
the log.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from time import time
from typing import Any

import asyncpg

from lastpair.database.liveness import BACKEND_PID, Watch
from lastpair.database.pool import SESSION_SETTINGS, TCP_SETTINGS
from lastpair.database.servers import CONNECTION_FAULTS, Servers, reason
from lastpair.observability.metrics import EVENTS_RELAYED, LISTENING, RELAY_LAG_SECONDS, UNPROVEN_NOTIFICATIONS
from lastpair.realtime.event import EVENTS, RESYNC_REQUIRED, Event
from lastpair.realtime.event_log import EVENTS_AFTER
from lastpair.realtime.hub import Hub
from lastpair.realtime.notification import event_of

CHANNEL = "lastpair_events"
LISTEN = "listen lastpair_events"
EVENT_KEY = "select api.event_key()"
SET_PURCHASER_NAMES = "select api.set_purchaser_names($1)"
ENSURE_EPOCH = "select api.ensure_epoch($1)"
MAX_HEARD_EVENTS = 10_000
"""Events that may wait to be published. If there are more, they are dropped and the log is read instead."""

PAGE_EVENTS = 1000
YIELD_EVENTS = 256
"""After so many events the relay lets the clients' tasks run. Otherwise the hub could forget events before a fast client takes
them."""

CONNECT_TIMEOUT_SECONDS = 5
CHECK_SECONDS = 5
"""How often the relay compares what it published last with the log. That finds a dead server and lost notifications, too."""

CHECKED_EVENTS = 32
READ_PAUSE_SECONDS = 0.25
"""How long a notification that proves nothing waits for the log to be read, counted from the last time."""

WARN_SECONDS = 60
"""How often such notifications are logged at most."""

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2)
"""How long to wait before each new try to connect; the last value repeats."""

logger = logging.getLogger("lastpair")


class Relay:
    """One for each process. `is_connected` says whether it hears of commits now."""

    def __init__(self, url: str, hub: Hub, watch: Watch, purchaser_names: str = "full") -> None:
        """`purchaser_names` is the setting, which the relay tells the database before it first hears of an event."""
        self.is_connected = False
        self._watch = watch
        self._purchaser_names = purchaser_names
        watch.on_loss.append(self._check_now)
        self._check_at = 0.0
        self._backend_pid = ""
        self._servers = Servers(url)
        self._hub = hub
        self._key: bytes | None = None
        self._heard: deque[Event] = deque()
        self._wakeup = asyncio.Event()
        self._log_is_due = False
        self._read_at = 0.0  # the log is not read earlier only because it is due; the time of the event loop, as the next one
        self._warn_at = 0.0

    async def run(self) -> None:
        """Relay until cancelled. Survives a lost database."""
        tries = 0
        while True:
            was_connected = False
            try:
                try:
                    await self._listen()
                finally:
                    was_connected = self.is_connected
                    self._set_connected(False)
            except CONNECTION_FAULTS as error:
                if was_connected or tries == 0:  # log once an outage, not once a try
                    logger.warning("the listener lost the database and tries again: %s", reason(error))
                if was_connected:
                    self._watch.lost()
            except Exception:
                logger.exception("the listener failed and starts anew")
            tries = 1 if was_connected else tries + 1
            await asyncio.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1])

    def _set_connected(self, is_connected: bool) -> None:
        self.is_connected = is_connected
        LISTENING.set(is_connected)

    async def _listen(self) -> None:
        connection = await self._servers.connect(
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"application_name": "lastpair listener"} | SESSION_SETTINGS | TCP_SETTINGS,
        )
        try:
            self._heard.clear()
            self._backend_pid = await connection.fetchval(BACKEND_PID)
            async with self._watch.waiting("the listener's first calls", self._backend_pid):
                self._key = await _call(connection, EVENT_KEY)
                await _call(connection, ENSURE_EPOCH, False)
                await _call(connection, SET_PURCHASER_NAMES, self._purchaser_names)
            connection.add_termination_listener(lambda _: self._wakeup.set())
            await connection.add_listener(CHANNEL, lambda *notification: self._hear(notification[-1]))
            await self._read_log(connection)
            self._set_connected(True)
            now = asyncio.get_running_loop().time
            self._check_at = now() + CHECK_SECONDS
            while not connection.is_closed():
                self._wakeup.clear()
                await self._publish_heard(connection)
                if now() >= self._check_at:
                    async with self._watch.waiting("the listener's check", self._backend_pid):
                        self._key = await _call(connection, EVENT_KEY)
                        await connection.execute(LISTEN)
                    await self._check(connection)
                    self._check_at = now() + CHECK_SECONDS
                elif self._log_is_due and now() >= self._read_at:
                    await self._check(connection)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(self._check_at, self._read_at) if self._log_is_due else self._check_at):
                        await self._wakeup.wait()
            raise ConnectionError("the connection was closed")
        finally:
            connection.terminate()

    def _check_now(self) -> None:
        # Another connection was found dead, so this one may be dead as well.
        self._check_at = 0
        self._wakeup.set()

    def _hear(self, payload: str) -> None:
        event = event_of(payload, self._key)
        if event is None:
            self._log_is_due = True
            UNPROVEN_NOTIFICATIONS.inc()
            self._warn()
        elif len(self._heard) == MAX_HEARD_EVENTS:
            self._heard.clear()
            self._log_is_due = True
        else:
            self._heard.append(event)
        self._wakeup.set()

    def _warn(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._warn_at:
            self._warn_at = now + WARN_SECONDS
            logger.warning(
                "a notification does not prove that it is an event, so the log is read: a deployment is under way, or a role that"
                " may connect to the database has sent it"
            )

    async def _publish_heard(self, connection: asyncpg.Connection) -> None:
        published = 0
        while self._heard:
            event = self._heard.popleft()
            head_id = self._hub.head_id or 0
            if event.id <= head_id and not self._hub.has(event):
                self._log_is_due = True  # an old one that was sent again, or ids are given out anew
            elif event.id <= head_id + 1:
                self._publish(event)
            else:  # ids are missing: rolled back, or not heard
                await self._read_log(connection)
            published += 1
            if published % YIELD_EVENTS == 0:
                await asyncio.sleep(0)

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
            await asyncio.sleep(0)
        self._read_at = asyncio.get_running_loop().time() + READ_PAUSE_SECONDS

    async def _read_missed(self, connection: asyncpg.Connection) -> list[Event] | None:
        # The first events after the head of the hub; None if the hub must restart.
        if self._hub.head_id is None:
            return None
        if self._hub.head_id == 0 and self.is_connected:
            # The log was empty while this session listened, so all its events are new, whatever the id of the first one is.
            events = await self._read_page(connection, None, PAGE_EVENTS)
            return events if len(events) < PAGE_EVENTS else None
        events = await self._read_page(connection, self._hub.head_id, PAGE_EVENTS)
        return None if events and events[0].type == RESYNC_REQUIRED else events

    async def _check(self, connection: asyncpg.Connection) -> None:
        # Compare what was published last with the log, after publishing what was missed.
        await self._read_log(connection)
        if not self._hub.agrees_with(await self._read_page(connection, None, CHECKED_EVENTS)):
            logger.warning("the event log is not the one that was published, so all clients start again")
            await self._restart(connection, is_lost=True)

    async def _restart(self, connection: asyncpg.Connection, *, is_lost: bool) -> None:
        # Begin with the latest events of the log. All clients start again. If the log lost events that were published, their ids
        # must not be given out anew.
        head_id = self._hub.head_id or 0
        events = await self._read_page(connection, None, 1 + self._hub.capacity // 2)
        if is_lost or (head_id > 0 and (not events or events[0].id < head_id)):
            await _call(connection, ENSURE_EPOCH, True)
        self._hub.restart(events[0].id if events else 0)  # the first one is a known position and is not kept
        for event in events[1:]:
            self._publish(event)

    def _publish(self, event: Event) -> None:
        if event.id > (self._hub.head_id or 0):
            EVENTS_RELAYED.labels(event.type if event.type in EVENTS else "other").inc()
            if event.committed_at is not None:
                RELAY_LAG_SECONDS.observe(max(0, time() - event.committed_at))
        self._hub.publish(event)

    async def _read_page(self, connection: asyncpg.Connection, after: int | None, limit: int) -> list[Event]:
        async with self._watch.waiting("the listener's reading of the log", self._backend_pid):
            rows = await connection.fetch(EVENTS_AFTER, after, limit, None)
        return [Event(text) for (text,) in rows]


async def _call(connection: asyncpg.Connection, statement: str, *arguments: object) -> Any:
    # None if an old process has put back its functions, which do without this one.
    try:
        return await connection.fetchval(statement, *arguments)
    except asyncpg.UndefinedFunctionError:
        return None
