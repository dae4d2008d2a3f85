"""What tests of batches over HTTP share: a client that decides the order of requests, and locks that hold calls up."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from json import loads
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg

from tests.support.factories import Owner
from tests.support.row_checks import Row
from tests.support.waiting import PATIENCE_SECONDS, eventually

TIMEOUT_SECONDS = PATIENCE_SECONDS
LOCK_WAITERS = "select array_agg(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
DROP_ROWS = "select from inventory.drops where id = any ($1) for update"
HOLD_ROWS = "select from inventory.reservations where drop_id = any ($1) and status = 'ACTIVE' for update"


class Request(NamedTuple):
    """A request without a body; the path is below /api."""

    method: str
    path: str
    user: str | None = None
    key: str | None = None


def reserve(drop_id: str, user: str, key: str | None = None) -> Request:
    """The request that reserves a unit."""
    return Request("POST", f"/drops/{drop_id}/reserve", user, key)


def purchase(drop_id: str, user: str, key: str | None = None) -> Request:
    """The request that purchases the unit held."""
    return Request("POST", f"/drops/{drop_id}/purchase", user, key)


def cancel(reservation_id: str, user: str) -> Request:
    """The request that gives a unit back."""
    return Request("DELETE", f"/reservations/{reservation_id}", user)


LIST_DROPS = Request("GET", "/drops")


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: Row

    @property
    def code(self) -> str | None:
        """The code of a refusal."""
        return self.body["error"]["code"] if "error" in self.body else None

    @property
    def row(self) -> Any:
        """The only value in the data."""
        [row] = self.body["data"].values()
        return row


Pending = asyncio.Task[Answer]


class Connection:
    """A connection that is kept alive and has served a request already, so that the service knows it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, request: Request, base: str = "/api") -> Pending:
        """Send a request now; its answer comes later."""
        method, path, user, key = request
        headers = {"Host": "lastpair", "Content-Length": "0", "X-User-Id": user, "Idempotency-Key": key}
        lines = [f"{method} {base}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        return asyncio.create_task(self._receive())

    async def ping(self) -> None:
        """Ask whether the process answers."""
        assert (await self.send(Request("GET", "/healthz"), base="")).status == 200

    def abort(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    async def _receive(self) -> Answer:
        head, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = loads(await self._reader.readexactly(int(headers["content-length"])))
        return Answer(int(head.split()[1]), headers, body)


class Client:
    """Sends each request on a connection of its own, so that the service gets them in the order in which they were sent."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._stack = stack
        self._idle: list[Connection] = []
        self._probe: Connection | None = None

    async def connect(self) -> Connection:
        """A new connection."""
        reader, writer = await asyncio.open_connection(*self._address)
        self._stack.callback(writer.close)
        connection = Connection(reader, writer)
        await connection.ping()
        return connection

    async def begun(self) -> None:
        """Wait until the service has begun all requests sent so far: it reads and begins what comes later after them."""
        self._probe = self._probe or await self.connect()
        for _ in range(2):
            await self._probe.ping()

    async def send(self, *requests: Request) -> list[Pending]:
        """Send the requests one after the other; returns when the service has begun the last one."""
        pending = []
        for request in requests:
            pending += await self.send_at_once([request])
            await self.begun()
        return pending

    async def send_at_once(self, requests: Iterable[Request]) -> list[Pending]:
        """Send the requests at the same moment."""
        requests = list(requests)
        while len(self._idle) < len(requests):
            self._idle.append(await self.connect())
        return [self._send(self._idle.pop(), request) for request in requests]

    def _send(self, connection: Connection, request: Request) -> Pending:
        pending = connection.send(request)
        pending.add_done_callback(lambda task: None if task.cancelled() or task.exception() else self._idle.append(connection))
        return pending

    async def ask(self, *requests: Request) -> list[Answer]:
        """Send the requests one after the other, each after the answer of the one before; returns the answers."""
        return [await soon(pending) for request in requests for pending in await self.send_at_once([request])]

    async def ask_at_once(self, requests: Iterable[Request]) -> list[Answer]:
        """Send the requests at the same moment; returns the answers."""
        return await all_soon(await self.send_at_once(requests))


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    """A client of the service; its connections are closed at the end of the block."""
    async with AsyncExitStack() as stack:
        yield Client(url, stack)


async def soon(pending: Pending) -> Answer:
    """The answer; fails if it does not come in time."""
    return await asyncio.wait_for(pending, TIMEOUT_SECONDS)


async def all_soon(pending: Iterable[Pending]) -> list[Answer]:
    """The answers; fails if one does not come in time."""
    return await asyncio.wait_for(asyncio.gather(*pending), TIMEOUT_SECONDS)


def codes(answers: Iterable[Answer]) -> list[str | int]:
    """The code of each refusal, and the status of each success."""
    return [answer.code or answer.status for answer in answers]


@asynccontextmanager
async def locked(owner: asyncpg.Pool, *drop_ids: str, kind: str = "reserve") -> AsyncIterator[None]:
    """During the block another transaction has locked what requests of this kind for these drops need."""
    async with owner.acquire() as session, session.transaction():
        await session.execute(HOLD_ROWS if kind == "purchase" else DROP_ROWS, drop_ids)
        yield


async def lock_waits(owner: Owner, count: int) -> list[int]:
    """Wait until this many sessions of the database wait for a lock; returns their process ids."""
    pids: list[int] = []

    async def found() -> bool:
        pids[:] = await owner.fetchval(LOCK_WAITERS) or []
        return len(pids) == count

    await eventually(found, TIMEOUT_SECONDS)
    return pids
