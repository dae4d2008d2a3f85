"""The database's servers, the pool of sessions on them, and what becomes of the database's errors."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from app.http import TOO_MANY, Busy, Refusal, Unavailable
from app.metrics import DATABASE_ERRORS, POOL_BUSY_SESSIONS, POOL_MAX_SESSIONS, POOL_WAIT_SECONDS

ACQUIRE_TIMEOUT_SECONDS = 5
COMMAND_TIMEOUT_SECONDS = 15
"""When a server that says nothing is given up: long after it would have ended the statement itself."""
CACHED_STATEMENTS = 100

# A bug in the app cannot touch a table: the session is lastpair_api's. Times leave in UTC. Nothing is waited for without end.
SESSION_SETTINGS = {
    "role": "lastpair_api",
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
}
UNAVAILABLE = "The database cannot serve this right now. Try again in a moment."
READY = "select from api.errors() limit 1"
READ_ONLY = "25006"
FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


def begin_with(settings: Mapping[str, str]) -> str:
    """What begins a transaction with these settings, which end with it."""
    return ";".join(["begin", *(f"set local {name} = '{value}'" for name, value in settings.items())])


BEGIN = begin_with(SESSION_SETTINGS)


class Session(asyncpg.Connection):
    """A session that runs single statements only and so has nothing to reset: that saves a round trip a call."""

    def get_reset_query(self) -> str:
        """Nothing to do."""
        return ""


class Servers:
    """The server that a URL names; or the several (`host=a,b&target_session_attrs=read-write`) of which one takes writes."""

    def __init__(self, url: str) -> None:
        self.urls = _urls_of_servers(url)
        """One for each; first the one connected to last."""

    async def connect(self, dsn: str | None = None, *, timeout: float = 60, **options: Any) -> asyncpg.Connection:
        """A session on the first that can be used, as asyncpg.connect makes it; the one connected to last is tried first.

        One that does not answer leaves the others their share of the time. A `dsn` is what a pool gives; it is not looked at.
        """
        last_error: Exception | None = None
        for url in list(self.urls):
            try:
                session: asyncpg.Connection = await asyncpg.connect(url, timeout=timeout / len(self.urls), **options)
            except FAULTS as error:
                last_error = error
            else:
                self.urls.remove(url)
                self.urls.insert(0, url)
                return session
        assert last_error is not None  # noqa: S101 - a URL names one server at least
        raise last_error


class Database:
    """Calls to the database's functions as the role lastpair_api. Connects on first use and again after a loss.

    Sessions are made so for good; but those of a transaction pooler (`pooled`) are another server session's with each
    transaction, so there each call is a transaction that begins by it.
    """

    def __init__(self, url: str, pool_size: int, *, pooled: bool, max_pending: int) -> None:
        self._single_sessions = asyncio.Semaphore(max(1, pool_size // 2))
        self._singles = 0
        self._max_singles = max_pending
        self._servers = Servers(url)
        self._pool_size = pool_size
        self._pooled = pooled
        self._pool: asyncpg.Pool | None = None
        self._releases: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Make the pool. The database need not be there yet."""
        POOL_MAX_SESSIONS.set(self._pool_size)
        self._pool = await asyncpg.create_pool(
            connect=self._servers.connect,
            min_size=0,
            max_size=self._pool_size,
            connection_class=Session,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            timeout=ACQUIRE_TIMEOUT_SECONDS,
            init=_prepare_session,
            # A statement prepared in one transaction is not there in the pooler's next.
            statement_cache_size=0 if self._pooled else CACHED_STATEMENTS,
            server_settings={"application_name": "lastpair"} | ({} if self._pooled else SESSION_SETTINGS),
        )

    async def close(self) -> None:
        """Close the pool; sessions still busy after a moment are cut off."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), timeout=1)
            except TimeoutError:
                self._pool.terminate()

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows.

        Raises Refusal: the database's own (SQLSTATE PTxyz, xyz the HTTP status), or 503 DATABASE_UNAVAILABLE when it cannot be
        reached or cannot serve. Whether a call that was lost on the way took effect is then not known.
        """
        return await self._fetch(perf_counter(), statement, *arguments)

    async def _fetch(self, begin: float, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        # It has waited for a session since `begin`.
        assert self._pool is not None  # noqa: S101 - opened at startup
        try:
            session = await self._acquire(self._pool)
        except FAULTS as error:
            DATABASE_ERRORS.labels(getattr(error, "sqlstate", None) or "none").inc()
            raise Unavailable(UNAVAILABLE) from error
        finally:
            POOL_WAIT_SECONDS.observe(perf_counter() - begin)
        POOL_BUSY_SESSIONS.inc()
        try:
            if not self._pooled:
                return await session.fetch(statement, *arguments)
            async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
                rows = await session.fetch(statement, *arguments)
                await session.execute("commit")  # which may fail, too: deferred triggers run
            return rows
        except FAULTS as error:
            await self._leave(session, error)
            if isinstance(error, TimeoutError):
                await self._pool.expire_connections()  # the others go to the same silent server
            raise _refusal(error) from error
        except asyncio.CancelledError:
            if self._pooled:
                _give_up(session)  # the server rolls back what was not committed
            raise
        finally:
            POOL_BUSY_SESSIONS.dec()
            # Not waited for: that takes several turns of the event loop, and who waits for the rows may have a next call to make.
            release = asyncio.ensure_future(self._pool.release(session))
            self._releases.add(release)
            release.add_done_callback(self._released)

    async def _acquire(self, pool: asyncpg.Pool) -> PoolConnectionProxy:
        session: PoolConnectionProxy = await pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
        if self._pooled:
            try:
                await session.execute(BEGIN, timeout=ACQUIRE_TIMEOUT_SECONDS)  # the pooler may have no server session free
            except BaseException:
                _give_up(session)
                await pool.release(session)
                raise
        return session

    async def _leave(self, session: PoolConnectionProxy, error: Exception) -> None:
        # Of use again after an error that the server told of and that was not its end. A server that takes no writes was the
        # primary once: another one is now.
        with suppress(*FAULTS):
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate != READ_ONLY:
                if self._pooled and session.is_in_transaction():
                    await session.execute("rollback")
                return
        _give_up(session)

    def _released(self, release: asyncio.Future[None]) -> None:
        self._releases.discard(release)
        if not release.cancelled():
            release.exception()  # a session that was lost meanwhile is back in the pool already, and asyncpg says so

    async def ready(self) -> None:
        """Raises 503 DATABASE_UNAVAILABLE unless the database can be called and has the functions."""
        try:
            await self.fetch(READY)
        except asyncpg.PostgresError as error:
            raise Unavailable(UNAVAILABLE) from error

    async def fetch_single(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The same for a request that shares no call with others: all of these use half of the sessions, and batches the rest.

        Raises as fetch does, and 503 OVERLOADED at once when too many wait.
        """
        if self._singles >= self._max_singles:
            raise Unavailable(TOO_MANY, "OVERLOADED")
        self._singles += 1
        begin = perf_counter()
        try:
            try:
                async with asyncio.timeout(ACQUIRE_TIMEOUT_SECONDS):
                    await self._single_sessions.acquire()
            except TimeoutError:
                POOL_WAIT_SECONDS.observe(perf_counter() - begin)
                raise Unavailable(UNAVAILABLE) from None
            try:
                return await self._fetch(begin, statement, *arguments)
            finally:
                self._single_sessions.release()
        finally:
            self._singles -= 1

    async def value(self, statement: str, *arguments: Any) -> Any:
        """The first column of the first row of fetch_single, None without rows."""
        rows = await self.fetch_single(statement, *arguments)
        return rows[0][0] if rows else None


def _give_up(session: PoolConnectionProxy) -> None:
    with suppress(asyncpg.InterfaceError):  # it may be gone already
        session.terminate()


def _urls_of_servers(url: str) -> list[str]:
    parts = urlsplit(url)
    credentials, at, netloc_hosts = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query))
    if "," in netloc_hosts:
        return [urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}")) for host in netloc_hosts.split(",")]
    hosts = query.get("host", "").split(",")
    if netloc_hosts or len(hosts) == 1:
        return [url]
    ports = query.get("port", "").split(",")
    urls = []
    for n, host in enumerate(hosts):
        one = query | {"host": host} | ({"port": ports[n % len(ports)]} if "port" in query else {})
        urls.append(f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(one, quote_via=quote)}")
    return urls


async def _prepare_session(session: asyncpg.Connection) -> None:
    # JSON made by the database goes into the answer as it is, never parsed.
    await session.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=orjson.Fragment)


def _refusal(error: Exception) -> Exception:
    sqlstate = (isinstance(error, asyncpg.PostgresError) and error.sqlstate) or ""
    if isinstance(error, asyncpg.PostgresError) and sqlstate.startswith("PT"):
        return Refusal(int(sqlstate[2:]), str(error.args[0]), error.detail or "")
    DATABASE_ERRORS.labels(sqlstate or "none").inc()
    if not isinstance(error, asyncpg.PostgresError):
        return Unavailable(UNAVAILABLE)
    if sqlstate == "55P03":  # lock_not_available
        return Busy(UNAVAILABLE)
    # Connection, resources, operator's intervention, rollback by the server: it may work in a moment. So may a transaction that
    # took too long, or was on a server that takes no writes. And so may a call whose schema or function is not there: the
    # database is being deployed.
    if sqlstate[:2] in {"08", "40", "53", "55", "57", "58"} or sqlstate in {"25P03", READ_ONLY, "3F000", "42883"}:
        return Unavailable(UNAVAILABLE)
    return error
