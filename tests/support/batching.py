"""What the batching tests share: an HTTP client that sends in order, and drops that somebody holds up."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from json import loads
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from tests.support.shapes import Row
from tests.support.waiting import eventually

SLOW_CALL_SECONDS = 10
WAITING = (
    "select array_agg(pid) from pg_stat_activity"
    " where datname = current_database() and application_name = 'lastpair' and wait_event_type = 'Lock'"
)
HOLD_UP = "select from inventory.drops where id = any ($1) for update"
HOLD_UP_PURCHASES = "select from inventory.reservations where drop_id = any ($1) and status = 'ACTIVE' for update"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Row

    @property
    def code(self) -> str | None:
        """Of the refusal, if it is one."""
        return self.body["error"]["code"] if "error" in self.body else None

    @property
    def row(self) -> Any:
        """The only value in the data."""
        [row] = self.body["data"].values()
        return row


Pending = asyncio.Task[Answer]


class Connection:
    """One connection, kept alive, that has served a request already."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, method: str, path: str, user: object = None, key: str | None = None) -> Pending:
        """Send a request now; its answer comes later."""
        headers = {"Host": "lastpair", "Content-Length": "0", "X-User-Id": user, "Idempotency-Key": key}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        return asyncio.create_task(self._receive())

    async def _receive(self) -> Answer:
        head, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = loads(await self._reader.readexactly(int(headers["content-length"])))
        return Answer(int(head.split()[1]), headers, body)


class Client:
    """Sends each request on a connection of its own, so that the service has them in the order in which they were sent."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._stack = stack
        self._idle: list[Connection] = []
        self._probe: Connection | None = None

    async def connect(self) -> Connection:
        """A connection that the service knows of."""
        reader, writer = await asyncio.open_connection(*self._address)
        self._stack.callback(writer.close)
        connection = Connection(reader, writer)
        assert (await connection.send("GET", "/healthz")).status == 200
        return connection

    async def connections(self, count: int) -> list[Connection]:
        """As many."""
        return [await self.connect() for _ in range(count)]

    async def begun(self) -> None:
        """Wait until the service has begun with everything that was sent: it reads and begins what is later later."""
        self._probe = self._probe or await self.connect()
        for _ in range(2):
            await self._probe.send("GET", "/healthz")

    async def send(self, method: str, path: str, user: object = None, key: str | None = None) -> Pending:
        """Send a request after all that were sent before; comes back when the service has begun with it."""
        connection = self._idle.pop() if self._idle else await self.connect()
        pending = connection.send(method, f"/api{path}", user, key)
        pending.add_done_callback(lambda task: None if task.cancelled() or task.exception() else self._idle.append(connection))
        await self.begun()
        return pending

    async def get(self, path: str, user: object = None) -> Answer:
        """The answer of a GET."""
        return await soon(await self.send("GET", path, user))

    async def reserve(self, drop_id: UUID, user: object, key: str | None = None) -> Pending:
        """Send a reserve."""
        return await self.send("POST", f"/drops/{drop_id}/reserve", user, key)

    async def purchase(self, drop_id: UUID, user: object, key: str | None = None) -> Pending:
        """Send a purchase."""
        return await self.send("POST", f"/drops/{drop_id}/purchase", user, key)

    async def cancel(self, reservation_id: UUID, user: object) -> Pending:
        """Send a cancel."""
        return await self.send("DELETE", f"/reservations/{reservation_id}", user)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    """A client of the service; its connections are closed at the end."""
    async with AsyncExitStack() as stack:
        yield Client(url, stack)


@pytest.fixture
async def client(api_url: str) -> AsyncIterator[Client]:
    """A client of the API with the default settings."""
    async with client_of(api_url) as client:
        yield client


async def soon(pending: Pending) -> Answer:
    """The answer, which must come."""
    return await asyncio.wait_for(pending, SLOW_CALL_SECONDS)


async def all_soon(pending: Iterable[Pending]) -> list[Answer]:
    """The answers, which must come."""
    return await asyncio.wait_for(asyncio.gather(*pending), SLOW_CALL_SECONDS)


def codes(answers: Iterable[Answer]) -> list[str | int]:
    """The code of each refusal, the status of each success."""
    return [answer.code or answer.status for answer in answers]


@asynccontextmanager
async def locked(owner: asyncpg.Pool, *drop_ids: UUID) -> AsyncIterator[None]:
    """While somebody holds the rows of these drops."""
    async with owner.acquire() as session, session.transaction():
        await session.execute(HOLD_UP, drop_ids)
        yield


async def waiting(owner: asyncpg.Pool, count: int) -> list[int]:
    """Wait until this many of the service's sessions wait for a lock; returns their process ids."""
    pids: list[int] = []

    async def found() -> bool:
        pids[:] = await owner.fetchval(WAITING) or []
        return len(pids) == count

    await eventually(found)
    return pids
