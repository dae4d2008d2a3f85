"""The pool of database sessions, and what becomes of the database's errors."""

import asyncio
import json
from typing import Any

import asyncpg
import orjson

from app.http import Busy, Refusal, Unavailable

ACQUIRE_TIMEOUT_SECONDS = 5
COMMAND_TIMEOUT_SECONDS = 15
UNAVAILABLE = "The database cannot serve this right now. Try again in a moment."
READY = "select from api.errors() limit 1"
FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class Session(asyncpg.Connection):
    """A session that runs single statements only and so has nothing to reset: that saves a round trip a call."""

    def get_reset_query(self) -> str:
        """Nothing to do."""
        return ""


class Database:
    """Calls to the database's functions as the role lastpair_api. Connects on first use and again after a loss."""

    def __init__(self, url: str, pool_size: int) -> None:
        self._url = url
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self._releases: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Make the pool. The database need not be there yet."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._pool_size,
            connection_class=Session,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            timeout=ACQUIRE_TIMEOUT_SECONDS,
            init=_prepare_session,
            # A bug in the app cannot touch a table: the session is lastpair_api's. Times leave in UTC.
            server_settings={"application_name": "lastpair", "role": "lastpair_api", "timezone": "UTC"},
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
        assert self._pool is not None  # noqa: S101 - opened at startup
        try:
            session = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
        except FAULTS as error:
            raise Unavailable(UNAVAILABLE) from error
        try:
            return await session.fetch(statement, *arguments)
        except FAULTS as error:
            if not isinstance(error, asyncpg.PostgresError):
                session.terminate()  # lost or in doubt: not to be used again
            raise _refusal(error) from error
        finally:
            # Not waited for: that takes several turns of the event loop, and who waits for the rows may have a next call to make.
            release = asyncio.ensure_future(self._pool.release(session))
            self._releases.add(release)
            release.add_done_callback(self._released)

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

    async def value(self, statement: str, *arguments: Any) -> Any:
        """Run one statement and return the first column of its first row, None without rows. Raises as fetch does."""
        rows = await self.fetch(statement, *arguments)
        return rows[0][0] if rows else None


async def _prepare_session(session: asyncpg.Connection) -> None:
    # JSON made by the database goes into the answer as it is, never parsed.
    await session.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=orjson.Fragment)


def _refusal(error: Exception) -> Exception:
    if not isinstance(error, asyncpg.PostgresError):
        return Unavailable(UNAVAILABLE)
    sqlstate = error.sqlstate or ""
    if sqlstate.startswith("PT"):
        return Refusal(int(sqlstate[2:]), str(error.args[0]), error.detail or "")
    if sqlstate == "55P03":  # lock_not_available
        return Busy(UNAVAILABLE)
    # Connection, resources, operator's intervention, rollback by the server: it may work in a moment. So may a call whose schema
    # or function is not there: the database is being deployed.
    if sqlstate[:2] in {"08", "40", "53", "55", "57", "58"} or sqlstate in {"3F000", "42883"}:
        return Unavailable(UNAVAILABLE)
    return error
