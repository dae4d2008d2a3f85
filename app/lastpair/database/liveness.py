"""Finds connections that are dead although they are open: the other side is frozen, or a machine in between forgot them.

A long silence proves nothing, because a statement may wait for a lock. So what has been silent for SILENT_SECONDS is looked up on
another session: PostgreSQL says whether it works on the statement. If it waits for the client instead, or does not know the
statement, then a message was lost and no answer will come.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg

from lastpair.database.servers import CONNECTION_FAULTS, Servers

Answer = TypeVar("Answer")

SILENT_SECONDS = 1
LOOK_SECONDS = 0.3
"""The time between two looks at what is silent. Two of them must find the same, because an answer may be on its way."""

KEPT_SECONDS, NEW_SECONDS, SLOW_SECONDS = 0.5, 1.2, 3
"""How long the probe waits on the session that it has, and then on a new one. If that was not enough, the next new one gets
SLOW_SECONDS: to connect to a server that is far away takes many round trips."""

BACKEND_PID = "select pg_backend_pid()::text"
MARK = "/* {} */ "
"""The beginning of a statement that is found by a mark, because a pooler hides the process id of its server session."""

# A backend that serves a statement is not idle, and waits for everything but the client's next message. `state` is null if
# another role owns the session; then nothing is concluded. Both are looked at, because a backend is idle for some time before it
# waits for the client, and may be frozen in between.
SERVED = """
select key from unnest($1::text[]) key
where current_setting('track_activities') = 'off' or exists (
  select from pg_stat_activity
  where (pid::text = key or starts_with(query, '/* ' || key || ' */'))
    and (state like 'idle%' or wait_event = 'ClientRead') is not true)
"""
# A transaction whose client is given up may hold locks.
END_TRANSACTIONS = """
select pg_terminate_backend(pid) from pg_stat_activity, unnest($1::text[]) key
where starts_with(query, '/* ' || key || ' */') and state like 'idle in transaction%'
"""

logger = logging.getLogger("lastpair")


class Probe:
    """A session of its own, which asks whether PostgreSQL answers. It is opened when it is needed, and kept."""

    def __init__(self, servers: Servers, behind: Servers | None = None) -> None:
        """`behind` are the servers to which that one has to connect before it can answer."""
        self.servers = servers
        self._behind = behind
        self._session: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._was_dead = False
        self._new_seconds: float = NEW_SECONDS

    async def ask(self, question: Callable[[asyncpg.Connection], Awaitable[Answer]]) -> tuple[Answer, bool]:
        """The answer, and whether the session that was kept turned out to be dead since the last answer.

        Raises CONNECTION_FAULTS.
        """
        async with self._turn:
            if self._session is not None:
                try:
                    async with asyncio.timeout(KEPT_SECONDS):
                        return await question(self._session), False
                except CONNECTION_FAULTS:
                    self._was_dead = True
                    self.close()
            try:
                async with asyncio.timeout(self._new_seconds):
                    answer = await self._ask_on_new_session(question)
            except TimeoutError:
                # The system needs three seconds to find that a machine is gone, and then the next server is tried.
                self._new_seconds = SLOW_SECONDS * (len(self._behind.urls) if self._behind else 1)
                raise
            self._new_seconds = NEW_SECONDS
            was_dead, self._was_dead = self._was_dead, False
            return answer, was_dead

    async def _ask_on_new_session(self, question: Callable[[asyncpg.Connection], Awaitable[Answer]]) -> Answer:
        self._session = await self.servers.connect(
            timeout=self._new_seconds,
            command_timeout=self._new_seconds,
            statement_cache_size=0,  # there may be a pooler
            server_settings={"application_name": "lastpair probe"},
        )
        try:
            return await question(self._session)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cut the session off."""
        if self._session is not None:
            self._session.terminate()
            self._session = None


class Wait:
    """Something that the database was asked for, and that has not been answered yet."""

    def __init__(self, what: str, key: str | None, deadline: asyncio.Timeout, begin: float) -> None:
        self.what = what
        self.key = key
        self.deadline = deadline
        self.begin = begin
        self.is_suspect = False
        self.is_dead = False

    def show_life(self) -> None:
        """Something else came on the connection, behind which the answer may stand: the wait begins anew."""
        self.begin = asyncio.get_running_loop().time()
        self.is_suspect = False


class Watch:
    """Looks at everything that waits for the database, and ends what waits on a dead connection."""

    def __init__(self, probe: Probe) -> None:
        self.on_loss: list[Callable[[], None]] = []
        """Called when one connection was found dead, because others that lead to the same place are suspect."""

        self._probe = probe
        self._waits: set[Wait] = set()

    @asynccontextmanager
    async def waiting(self, what: str, key: str | None, limit_seconds: float | None = None) -> AsyncIterator[Wait]:
        """Raise TimeoutError from the block, with a message, if it takes too long or if its connection is dead.

        `what` names for a person what is waited for. `key` is the process id of the backend as text, or the mark of the
        statement. None means that the block only waits for its turn: then it is dead if the probe, which asked later, was served.
        """
        wait = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_seconds) as deadline:
                wait = Wait(what, key, deadline, loop.time())
                self._waits.add(wait)
                yield wait
        except TimeoutError as error:
            if wait is not None and wait.is_dead:
                raise TimeoutError(f"{what}: the connection is dead") from error
            seconds = f" after {loop.time() - wait.begin:.1f} s" if wait is not None else ""
            raise TimeoutError(f"{what}: no answer{seconds}") from error
        finally:
            if wait is not None:
                self._waits.discard(wait)

    def lost(self) -> None:
        """Tell the others that a connection was found dead."""
        for callback in self.on_loss:
            callback()

    def silent_since(self) -> float:
        """When the wait that has lasted longest began, by the clock of the event loop; now, if nothing waits."""
        return min((wait.begin for wait in self._waits), default=asyncio.get_running_loop().time())

    def give_up(self, seconds: float = 0) -> None:
        """End what has waited for so long."""
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            if now - wait.begin >= seconds and not wait.deadline.expired():
                wait.is_dead = True
                wait.deadline.reschedule(now)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except CONNECTION_FAULTS:
                pass  # nothing is served, so each wait lasts until its own limit
            except Exception:
                logger.exception("the watch of the database's connections failed")

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        silent = [wait for wait in self._waits if loop.time() - wait.begin > SILENT_SECONDS]
        if not silent:
            return
        keys = [wait.key for wait in silent if wait.key is not None]
        rows, was_dead = await self._probe.ask(lambda session: session.fetch(SERVED, keys))
        if was_dead:
            self.lost()
        served = {key for (key,) in rows}
        dead = []
        for wait in silent:
            if wait not in self._waits or wait.key in served:
                wait.is_suspect = False
            elif not wait.is_suspect:
                wait.is_suspect = True
            elif not wait.is_dead and not wait.deadline.expired():
                dead.append(wait)
        if not dead:
            return
        for wait in dead:
            wait.is_dead = True
            wait.deadline.reschedule(loop.time())
        logger.warning("given up, because the connection is dead: %s", ", ".join(sorted(wait.what for wait in dead)))
        self.lost()
        marks = [wait.key for wait in dead if wait.key is not None]
        await self._probe.ask(lambda session: session.fetch(END_TRANSACTIONS, marks))
