"""Calls to the database's functions: a pool of sessions, and the errors that callers get."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from time import perf_counter
from typing import Any
from uuid import uuid4

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from lastpair.database.liveness import BACKEND_PID, MARK, Probe, Wait, Watch
from lastpair.database.servers import CONNECTION_FAULTS, Servers
from lastpair.errors import DATABASE_UNAVAILABLE, Busy, Refusal, Unavailable, overloaded
from lastpair.observability.metrics import DATABASE_ERRORS, POOL_BUSY_SESSIONS, POOL_MAX_SESSIONS, POOL_WAIT_SECONDS

ACQUIRE_TIMEOUT_SECONDS = 5
COMMAND_TIMEOUT_SECONDS = 15
"""How long to wait for a server that does not answer. A working server ends a statement earlier (statement_timeout)."""
READY_TIMEOUT_SECONDS = 1.8
RELEASE_TIMEOUT_SECONDS = 1
"""How long a session may take to cancel a statement that is not waited for any more. It is closed if it takes longer."""

SPARE_SECONDS = 0.02
"""How long at most a free session is kept for the next call, before it goes back to the pool."""

CACHED_STATEMENTS = 100

SERVICE_ROLE = "lastpair_service"

# The role is lastpair_service, so that a bug here cannot touch a table. Times are in UTC. Every wait has a limit. To compile a
# statement takes hundreds of times longer than to run it.
SESSION_SETTINGS = {
    "role": SERVICE_ROLE,
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",
}
# The server closes a session whose client's machine is gone, or whose client has taken nothing for half a minute. Over a Unix
# socket these have no effect.
TCP_SETTINGS = {
    "tcp_user_timeout": "30s",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "4",
}
BLOCKED_SECONDS = 30
"""How long a listener may be blocked in the middle of telling its client, before another process ends its session."""

# A frozen process takes no notifications. As soon as its socket's buffers are full, its listener is blocked in a transaction:
# rows that were deleted since then cannot be vacuumed, and the queue of notifications grows until every commit fails.
END_BLOCKED_LISTENERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'lastpair listener' and usename = session_user and datname = current_database()
  and wait_event = 'ClientWrite' and xact_start < now() - make_interval(secs => $1)
"""
NO_SESSION = f"no session of the pool within {ACQUIRE_TIMEOUT_SECONDS} s"
UNAVAILABLE = "{} cannot serve this right now. Try again in a moment."
NOTIFY_QUEUE = "select pg_notification_queue_usage()"
READY = "select from api.errors() limit 1"
READ_ONLY = "25006"
LOCK_NOT_AVAILABLE = "55P03"
INTERNAL_ERROR = "XX000"
PROXY_FAULT = "PL/Proxy function "
"""How an INTERNAL_ERROR of a router begins that says that a node cannot be reached. It goes on with the node's address."""

FROM_NODE = re.compile(r"[\w.]+\(\d+\): \[[^]]*\] REMOTE \w+: ")
"""What a router puts before the message of an error that was raised on a node; the error keeps its SQLSTATE."""

DETAIL_FROM_NODE = "Remote detail: "

TRANSIENT_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
"""SQLSTATE classes of errors that may pass: connection, rollback by the server, resources, object state, operator, system."""

TRANSIENT_STATES = frozenset({"25P03", READ_ONLY, "3F000", "42704", "42804", "42883"})
"""Single states of the same kind: the transaction idled too long, the server is a standby, or the schema, a type or a function is
missing or of another shape because a deployment is in progress."""


def begin_with(settings: Mapping[str, str]) -> str:
    """The statements that begin a transaction with these settings. The settings end with the transaction."""
    return ";".join(["begin", *(f"set local {name} = '{value}'" for name, value in settings.items())])


BEGIN = begin_with(SESSION_SETTINGS)
ROUTER_SETTINGS = SESSION_SETTINGS | {"client_connection_check_interval": "2s"}
"""Those of a session of a router that waits for a node. It ends soon after its client has given the node up."""


class Session(asyncpg.Connection):
    """A session that runs single statements only, so it has nothing to reset. That saves one round trip for each call."""

    key: str
    """The process id of its backend. A pooler tells another one to its client, so the backend itself was asked."""

    def get_reset_query(self) -> str:
        """An empty query: there is nothing to reset."""
        return ""


class Database:
    """Calls the database's functions as the role lastpair_service. It connects on first use and again after a loss.

    Role and timeouts are set once for each connection. Behind a transaction pooler (`pooled`) a connection may get another server
    session for each transaction, so there every call is a transaction that begins with SET LOCAL.
    """

    settings: Mapping[str, str] = SESSION_SETTINGS

    def __init__(self, servers: str | Servers, pool_size: int, *, pooled: bool, max_pending: int) -> None:
        """`servers` may be their URL."""
        self.servers = Servers(servers) if isinstance(servers, str) else servers
        self.pool_size = pool_size
        self.pooled = pooled
        self.max_single_calls = max_pending
        self._name = "The database"
        self._single_sessions = asyncio.Semaphore(max(1, pool_size // 2))
        self._single_calls = 0
        self.probe = Probe(self.servers)
        self.watch = Watch(self.probe)
        self.watch.on_loss.append(self._close_idle)
        self._watching: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._pool: asyncpg.Pool | None = None
        self._releases: set[asyncio.Future[None]] = set()
        self._acquiring = 0  # calls that wait for the pool
        # Sessions for the next calls, because to return one to the pool and to get one takes longer than a small call. If a call
        # waits for the pool, they are returned at once.
        self._spare: list[PoolConnectionProxy] = []
        self._releasing_spare: asyncio.TimerHandle | None = None

    @property
    def unavailable(self) -> str:
        """The text of DATABASE_UNAVAILABLE."""
        return UNAVAILABLE.format(self._name)

    async def open(self) -> None:
        """Make the pool. The database need not be reachable yet."""
        POOL_MAX_SESSIONS.inc(self.pool_size)
        self._pool = await asyncpg.create_pool(
            connect=self._connect,
            min_size=0,
            max_size=self.pool_size,
            connection_class=Session,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            timeout=ACQUIRE_TIMEOUT_SECONDS,
            # Behind a pooler a prepared statement is missing in the next transaction, which runs in another server session.
            statement_cache_size=0 if self.pooled else CACHED_STATEMENTS,
            server_settings={"application_name": "lastpair"} | ({} if self.pooled else {**self.settings, **TCP_SETTINGS}),
        )
        self._watching = asyncio.create_task(self.watch.run())
        self._check()  # a probe that is connected from the start notices when the connections die

    async def close(self) -> None:
        """Close the pool. Sessions that are still busy after a second are cut off."""
        for task in filter(None, (self._watching, self._checking)):
            task.cancel()
        self.probe.close()
        if self._releasing_spare is not None:
            self._releasing_spare.cancel()
            self._release_spare()
        if self._pool is not None:
            POOL_MAX_SESSIONS.dec(self.pool_size)
            try:
                await asyncio.wait_for(self._pool.close(), timeout=1)
            except TimeoutError:
                self._pool.terminate()

    async def ready(self) -> None:
        """Raises Unavailable unless the database answers and has the functions. Takes READY_TIMEOUT_SECONDS at most.

        It waits for no session of the pool. Checks that are asked for at the same time are one.
        """
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                await asyncio.shield(self._check())
        except CONNECTION_FAULTS as error:
            raise Unavailable(self.unavailable) from error

    def _check(self) -> "asyncio.Task[None]":
        # The check that is under way, or a new one. It goes on when it is not waited for any more, because to connect anew may
        # take longer.
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._ask_probe())
            self._checking.add_done_callback(_retrieve)
        return self._checking

    async def _ask_probe(self) -> None:
        async def question(session: asyncpg.Connection) -> None:
            await session.execute(f"{BEGIN}; {READY}; rollback")

        _, was_dead = await self.probe.ask(question)
        if was_dead:
            self.watch.lost()

    async def notify_queue_usage(self) -> float:
        """The share of PostgreSQL's notification queue that is used. Raises Unavailable."""
        [(usage,)] = await self.fetch(NOTIFY_QUEUE)
        return float(usage)

    async def end_blocked_listeners(self) -> int:
        """End the sessions of listeners whose processes are frozen. Returns how many. Raises Unavailable.

        A process that wakes up connects anew and reads what it missed.
        """
        try:
            rows, _ = await self.probe.ask(lambda session: session.fetch(END_BLOCKED_LISTENERS, BLOCKED_SECONDS))
        except CONNECTION_FAULTS as error:
            raise Unavailable(self.unavailable) from error
        return len(rows)

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows.

        Raises Refusal: the database's own (SQLSTATE PTxyz, where xyz is the status), or Unavailable when the database cannot be
        reached or cannot serve. If the connection was lost during the call, it is not known whether the call took effect.
        """
        return await self._fetch(perf_counter(), statement, *arguments)

    async def fetch_single(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement of a request that shares no call with others, and return its rows.

        All such calls together use at most half of the sessions, so that batches always find a free one. Raises what fetch
        raises, and OVERLOADED at once if too many such calls are waiting.
        """
        if self._single_calls >= self.max_single_calls:
            raise overloaded()
        self._single_calls += 1
        begin = perf_counter()
        try:
            try:
                async with asyncio.timeout(ACQUIRE_TIMEOUT_SECONDS):
                    await self._single_sessions.acquire()
            except TimeoutError:
                POOL_WAIT_SECONDS.observe(perf_counter() - begin)
                raise Unavailable(self.unavailable) from None
            try:
                return await self._fetch(begin, statement, *arguments)
            finally:
                self._single_sessions.release()
        finally:
            self._single_calls -= 1

    async def value(self, statement: str, *arguments: Any) -> Any:
        """The first column of the first row that fetch_single returns, or None if there are no rows."""
        rows = await self.fetch_single(statement, *arguments)
        return rows[0][0] if rows else None

    async def _fetch(self, begin: float, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        # `begin` is when the request began to wait for a session, by perf_counter().
        assert self._pool is not None  # noqa: S101 - opened at startup
        try:
            session = await self._acquire(self._pool)
        except CONNECTION_FAULTS as error:
            DATABASE_ERRORS.labels(getattr(error, "sqlstate", None) or "none").inc()
            raise Unavailable(self.unavailable) from error
        finally:
            POOL_WAIT_SECONDS.observe(perf_counter() - begin)
        POOL_BUSY_SESSIONS.inc()
        what = _name_of(statement)
        is_reusable = False
        try:
            if not self.pooled:
                async with self._waiting(what, session.key, COMMAND_TIMEOUT_SECONDS):  # type: ignore[attr-defined]
                    rows = await session.fetch(statement, *arguments)
                is_reusable = True
                return rows
            key = uuid4().hex
            async with self._waiting(what, key, COMMAND_TIMEOUT_SECONDS):
                rows = await session.fetch(MARK.format(key) + statement, *arguments)
                await session.execute(MARK.format(key) + "commit")  # it may fail as well, because deferred triggers run now
            return rows
        except CONNECTION_FAULTS as error:
            await self._keep_or_drop(session, error)
            if isinstance(error, TimeoutError):
                self._close_idle()  # the other connections lead to the same silent server
            raise self._error_for(error) from error
        except asyncio.CancelledError:
            if self.pooled:
                _drop(session)  # the server rolls back what was not committed
            raise
        finally:
            POOL_BUSY_SESSIONS.dec()
            if is_reusable and not self._acquiring:
                self._keep(session)
            else:
                self._release(session)

    def _waiting(self, what: str, key: str | None, limit_seconds: float | None = None) -> AbstractAsyncContextManager[Wait]:
        return self.watch.waiting(what, key, limit_seconds)

    async def _connect(self, *arguments: Any, **options: Any) -> asyncpg.Connection:
        session = await self.servers.connect(*arguments, **options)
        assert isinstance(session, Session)  # noqa: S101 - the pool's connection_class
        try:
            # Its process id is not known yet, so the watch takes it for dead if the probe, which asked later, is served.
            async with self._waiting("a new session", None):
                session.key = await session.fetchval(BACKEND_PID)
        except BaseException:
            session.terminate()
            raise
        return session

    def _close_idle(self) -> None:
        # They are replaced when they are needed. Pool.expire_connections() would wait for each dead one to say goodbye.
        for session in self._spare:
            _drop(session)
        for holder in self._pool._holders if self._pool else ():  # type: ignore[attr-defined]
            if holder.is_idle():
                holder.terminate()

    async def _acquire(self, pool: asyncpg.Pool) -> PoolConnectionProxy:
        while self._spare:
            session = self._spare.pop()
            if _is_open(session):
                return session
            self._release(session)
        self._acquiring += 1
        try:
            session = await pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
        except TimeoutError as error:
            if str(error):  # connecting took too long
                raise
            raise TimeoutError(NO_SESSION) from error
        finally:
            self._acquiring -= 1
        if self.pooled:
            try:
                # The pooler may have no server session free.
                async with self._waiting("begin", None, ACQUIRE_TIMEOUT_SECONDS):
                    await session.execute(begin_with(self.settings))
            except BaseException:
                _drop(session)
                await pool.release(session)
                raise
        return session

    async def _keep_or_drop(self, session: PoolConnectionProxy, error: Exception) -> None:
        # Keep the session after an ordinary SQL error. Drop it if the connection itself failed, or if the server is read-only
        # because it was demoted.
        with suppress(*CONNECTION_FAULTS):
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate != READ_ONLY:
                if self.pooled and session.is_in_transaction():
                    await session.execute("rollback")
                return
        _drop(session)

    def _error_for(self, error: Exception) -> Exception:
        # The exception that the caller gets for an error of asyncpg.
        if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith("PT"):
            code = FROM_NODE.sub("", str(error.args[0]), count=1)
            message = (error.detail or "").removeprefix(DETAIL_FROM_NODE)
            return Unavailable(message) if code == DATABASE_UNAVAILABLE else Refusal(int(error.sqlstate[2:]), code, message)
        sqlstate = (error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""
        DATABASE_ERRORS.labels(sqlstate or "none").inc()
        if sqlstate == LOCK_NOT_AVAILABLE:
            return Busy(self.unavailable)
        if not isinstance(error, asyncpg.PostgresError) or sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_STATES:
            return Unavailable(self.unavailable)
        if sqlstate == INTERNAL_ERROR and str(error).startswith(PROXY_FAULT):
            return Unavailable(self.unavailable)
        return error

    def _keep(self, session: PoolConnectionProxy) -> None:
        self._spare.append(session)
        if self._releasing_spare is None:
            self._releasing_spare = asyncio.get_running_loop().call_later(SPARE_SECONDS, self._release_spare)

    def _release_spare(self) -> None:
        self._releasing_spare = None
        while self._spare:
            self._release(self._spare.pop())

    def _release(self, session: PoolConnectionProxy) -> None:
        # The release is not awaited, because it takes several iterations of the event loop.
        assert self._pool is not None  # noqa: S101 - it gave the session
        release = asyncio.ensure_future(self._pool.release(session, timeout=RELEASE_TIMEOUT_SECONDS))
        self._releases.add(release)
        release.add_done_callback(self._released)

    def _released(self, release: asyncio.Future[None]) -> None:
        self._releases.discard(release)
        if not release.cancelled():
            release.exception()  # asyncpg reports a session that was lost meanwhile, although the pool has handled it


def _is_open(session: PoolConnectionProxy) -> bool:
    try:
        return not session.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back, because its connection was lost
        return False


def _drop(session: PoolConnectionProxy) -> None:
    with suppress(asyncpg.InterfaceError):  # the session may be closed already
        session.terminate()


@cache
def _name_of(statement: str) -> str:
    # The function that a statement calls; or its beginning.
    called = re.search(r"\b(?:api|router|node_\d+)\.\w+", statement)
    return called[0] if called else statement.strip()[:40]


def _retrieve(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # those who asked may have left, and asyncio logs an exception that nobody looked at
