"""The relay: listens for commits on a connection of its own and publishes them to the hub. After a loss it reads what it
missed."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from time import time

import asyncpg
import orjson

from lastpair.database.liveness import BACKEND_PID, Watch
from lastpair.database.pool import SESSION_SETTINGS, TCP_SETTINGS
from lastpair.database.servers import CONNECTION_FAULTS, Servers, reason
from lastpair.observability.metrics import EVENTS_RELAYED, LISTENING, RELAY_LAG_SECONDS
from lastpair.realtime.event import RESYNC_REQUIRED, Event
from lastpair.realtime.event_log import EVENTS_AFTER
from lastpair.realtime.hub import Hub

CHANNEL = "lastpair_events"
LISTEN = "listen lastpair_events"
MAX_NOTIFICATIONS = 10_000
"""Notifications that may wait to be published. If there are more, they are dropped and the log is read instead."""

PAGE_EVENTS = 1000
YIELD_EVENTS = 256
"""After so many events the relay lets the clients' tasks run. Otherwise the hub could forget events before a fast client takes
them."""

CONNECT_TIMEOUT_SECONDS = 5
CHECK_SECONDS = 5
"""How often the relay reads the log although it listens. That finds a dead server, lost notifications and forged ones."""

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2)
"""How long to wait before each new try to connect; the last value repeats."""

logger = logging.getLogger("lastpair")


class Relay:
    """One for each process. `is_connected` says whether it hears of commits now."""

    def __init__(self, url: str, hub: Hub, watch: Watch) -> None:
        self.is_connected = False
        self._watch = watch
        watch.on_loss.append(self._check_now)
        self._check_at = 0.0
        self._backend_pid = ""
        self._servers = Servers(url)
        self._hub = hub
        self._notifications: deque[str] = deque()
        self._wakeup = asyncio.Event()

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
            self._notifications.clear()
            self._backend_pid = await connection.fetchval(BACKEND_PID)
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
                        await connection.execute(LISTEN)
                    await self._read_log(connection)
                    self._check_at = now() + CHECK_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._check_at):
                        await self._wakeup.wait()
            raise ConnectionError("the connection was closed")
        finally:
            connection.terminate()

    def _check_now(self) -> None:
        # Another connection was found dead, so this one may be dead as well.
        self._check_at = 0
        self._wakeup.set()

    def _hear(self, payload: str) -> None:
        if len(self._notifications) == MAX_NOTIFICATIONS:
            self._notifications.clear()
            payload = ""  # this is no event, so the log is read
        self._notifications.append(payload)
        self._wakeup.set()

    async def _publish_heard(self, connection: asyncpg.Connection) -> None:
        published = 0
        while self._notifications:
            event = _parse(self._notifications.popleft())
            head_id = self._hub.head_id or 0
            if event is not None and (event.id <= head_id + 1 or head_id == 0):
                self._publish(event)
            else:  # the event was too large for a notification, or ids are missing, or another session forged it: the log decides
                await self._read_log(connection)
            published += 1
            if published % YIELD_EVENTS == 0:
                await asyncio.sleep(0)

    async def _read_log(self, connection: asyncpg.Connection) -> None:
        # Publish everything that the log has and the hub has not. A hub that is new, or that missed events which the log has
        # pruned, begins with the latest events.
        events: list[Event] | None = None
        while events is None or len(events) == PAGE_EVENTS:
            events = [] if self._hub.head_id is None else await self._read_page(connection, self._hub.head_id, PAGE_EVENTS)
            if self._hub.head_id is None or (events and events[0].type == RESYNC_REQUIRED):
                events = await self._read_page(connection, None, self._hub.capacity // 2)
                self._hub.restart(events[0].id - 1 if events else 0)
            for event in events:
                self._publish(event)
            await asyncio.sleep(0)

    def _publish(self, event: Event) -> None:
        if event.id > (self._hub.head_id or 0):
            EVENTS_RELAYED.labels(event.type).inc()
            if event.committed_at is not None:
                RELAY_LAG_SECONDS.observe(max(0, time() - event.committed_at))
        self._hub.publish(event)

    async def _read_page(self, connection: asyncpg.Connection, after: int | None, limit: int) -> list[Event]:
        async with self._watch.waiting("the listener's reading of the log", self._backend_pid):
            rows = await connection.fetch(EVENTS_AFTER, after, limit, None)
        return [Event(text) for (text,) in rows]


def _parse(payload: str) -> Event | None:
    # The event of a notification; None if it is not one, so that the log must be read.
    try:
        event = Event(payload)
        orjson.loads(event.data)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    # Any session that may NOTIFY can forge a notification. Clients get its data as it is, so the data must be JSON, and the hub
    # uses these two as keys.
    return event if isinstance(event.type, str) and isinstance(event.drop_id, str) else None
