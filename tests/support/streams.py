"""Clients of the streams, SSE and WebSocket, that are used alike; and a dashboard, which is what they are for."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from json import dumps, loads
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lastpair.database.migrate import migrate
from tests.support.database import Database
from tests.support.factories import Owner
from tests.support.servers import Service, started
from tests.support.shapes import Row

TRANSPORTS = ["sse", "ws"]
SLOW_CALL_SECONDS = 15
SSE_FIELDS = re.compile(rb"event: ([A-Z_]+)\nid: ([0-9]+)\ndata: (.*)", re.DOTALL)
FRAME = re.compile(r'\{"type":\s*"([A-Z_]+)",\s*"id":\s*"([0-9]+)",\s*"data":\s*(.*)\}', re.DOTALL)
LOCK = "select pg_advisory_xact_lock('inventory.events'::regclass::oid::bigint)"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would read all certificates of the machine for every client
LOG = "select id, type, data from inventory.events where id > $1 order by id"


class StreamEnded(Exception):
    """The server has ended the stream; `code` is the WebSocket's close code."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Message:
    """An event as it came; `text` is its data to the letter."""

    type: str
    id: str
    text: str

    @property
    def data(self) -> Any:
        """The data, numbers with all their digits."""
        return loads(self.text, parse_float=Decimal)


class Stream(Protocol):
    """One connection to /events or /ws."""

    async def receive(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next event; raises StreamEnded, TimeoutError."""

    async def close(self) -> None:
        """Leave, in whatever state it is."""


class SseParser:
    """The bytes of a stream, however they were cut: events, and of the rest comments and `retry:`."""

    def __init__(self) -> None:
        self.comments: list[bytes] = []
        self.retry_ms: list[int] = []
        self._rest = b""

    def feed(self, received: bytes) -> list[Message]:
        """The events that are complete by now."""
        *blocks, self._rest = (self._rest + received).split(b"\n\n")
        messages = []
        for block in blocks:
            if block.startswith(b":"):
                self.comments.append(block)
            elif block.startswith(b"retry: "):
                self.retry_ms.append(int(block.removeprefix(b"retry: ")))
            else:
                match = SSE_FIELDS.fullmatch(block)
                assert match, block
                event_type, event_id, data = match.groups()
                assert re.search(rb"[\r\n]", data) is None, "data must be one line"
                messages.append(Message(event_type.decode(), event_id.decode(), data.decode()))
        return messages

    def assert_complete(self) -> None:
        """Nothing was cut off in the middle."""
        assert self._rest == b""


class SseStream:
    """GET /events."""

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response) -> None:
        self.response = response
        self.parser = SseParser()
        self._client = client
        self._chunks = response.aiter_raw()
        self._messages: list[Message] = []

    async def receive(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next event; raises StreamEnded, TimeoutError, and httpx.HTTPError when the body is broken off."""
        async with asyncio.timeout(timeout_seconds):
            while not self._messages:
                try:
                    self._messages = self.parser.feed(await anext(self._chunks))[::-1]
                except StopAsyncIteration:
                    self.parser.assert_complete()
                    raise StreamEnded from None
        return self._messages.pop()

    async def close(self) -> None:
        """Leave."""
        await self.response.aclose()
        await self._client.aclose()


class WebSocketStream:
    """WebSocket /ws."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def receive(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next event; raises StreamEnded, TimeoutError."""
        try:
            async with asyncio.timeout(timeout_seconds):
                frame = await self.connection.recv()
        except ConnectionClosed as closed:
            raise StreamEnded(closed.rcvd.code if closed.rcvd else None) from None
        assert isinstance(frame, str)
        match = FRAME.fullmatch(frame)
        assert match, frame
        assert list(loads(frame)) == ["type", "id", "data"]
        return Message(*match.groups())

    async def join(self, drop_id: object) -> None:
        """Say drops:join."""
        await self.connection.send(f'{{"type": "drops:join", "dropId": "{drop_id}"}}')

    async def leave(self, drop_id: object) -> None:
        """Say drops:leave."""
        await self.connection.send(f'{{"type": "drops:leave", "dropId": "{drop_id}"}}')

    async def settle(self) -> list[Message]:
        """Return when the server has read all that was said and acted on it; with what came meanwhile.

        It answers what it does not understand.
        """
        received = []
        for _ in range(2):
            await self.connection.send("?")
            while (message := await self.receive()).type != "ERROR":
                received.append(message)
        return received

    async def close(self) -> None:
        """Leave without waiting for the server's part of the handshake."""
        self.connection.transport.abort()
        await self.connection.wait_closed()


def query_of(drop_ids: Iterable[object], snapshot: bool | None, last_event_id: object) -> list[tuple[str, str]]:
    """The query of a stream."""
    query = [("dropId", str(drop_id)) for drop_id in drop_ids]
    if snapshot is not None:
        query.append(("snapshot", str(snapshot).lower()))
    if last_event_id is not None:
        query.append(("lastEventId", str(last_event_id)))
    return query


async def open_stream(
    transport: str,
    url: str,
    drop_ids: Iterable[object] = (),
    *,
    snapshot: bool | None = None,
    last_event_id: object = None,
    headers: dict[str, str] | None = None,
    base: str = "/api",
    query: Iterable[tuple[str, str]] = (),
    receive_buffer_bytes: int | None = None,
) -> Any:
    """Connect to a service; refused, that is httpx.HTTPStatusError or websockets' InvalidStatus.

    With a receive_buffer_bytes the client takes nothing in beyond that but when it is asked to receive.
    """
    parameters = httpx.QueryParams([*query_of(drop_ids, snapshot, last_event_id), *query])
    options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)] if receive_buffer_bytes else []
    if transport == "ws":
        _opened.append(await _open_websocket(f"{url}{base}/ws?{parameters}", headers, options))
        return _opened[-1]
    tcp = httpx.AsyncHTTPTransport(verify=NO_TLS, socket_options=options)
    client = httpx.AsyncClient(timeout=SLOW_CALL_SECONDS, transport=tcp)
    try:
        request = client.build_request("GET", f"{url}{base}/events", params=parameters, headers=headers)
        response = await client.send(request, stream=True)
        if response.status_code != 200:
            await response.aread()
            response.raise_for_status()
    except BaseException:
        await client.aclose()
        raise
    _opened.append(SseStream(client, response))
    return _opened[-1]


_opened: list[Stream] = []


async def close_streams() -> None:
    """Close whatever was opened, in case a test has failed before it did."""
    while _opened:
        await _opened.pop().close()


async def _open_websocket(url: str, headers: dict[str, str] | None, options: list[tuple[int, int, int]]) -> WebSocketStream:
    address = urlsplit(url)
    tcp = socket.socket()
    try:
        tcp.setblocking(False)
        for option in options:
            tcp.setsockopt(*option)
        await asyncio.get_running_loop().sock_connect(tcp, (address.hostname, address.port))
        connection = await connect_websocket(
            urlunsplit(address._replace(scheme="ws")),
            sock=tcp,
            additional_headers=headers,
            compression=None,
            max_size=None,
            max_queue=1 if options else None,
            ping_interval=None,
            open_timeout=SLOW_CALL_SECONDS,
            close_timeout=1,
        )
    except BaseException:
        tcp.close()
        raise
    return WebSocketStream(connection)


class Dashboard:
    """A client that shows drops: it begins with a SNAPSHOT, applies what comes and reconnects with the last id it has."""

    def __init__(self, transport: str, url: str, drop_ids: Iterable[object] = ()) -> None:
        self.drop_ids = {str(drop_id) for drop_id in drop_ids}  # none: all
        self.drops: dict[str, Row] = {}
        self.ids: list[int] = []  # of the events
        self.types: list[str] = []  # of all that came
        self.start_id: int | None = None  # the first snapshot's
        self.last_id: int | None = None
        self.stream: Any = None
        self._transport = transport
        self._url = url
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, after the last event it has if there is one."""
        self.stream = await open_stream(self._transport, self._url, self.drop_ids, last_event_id=self.last_id)

    async def run(self, is_done: Callable[["Dashboard"], bool]) -> None:
        """Show what happens until that is so, connecting anew whenever drop() was called."""
        while not is_done(self):
            self._reading = asyncio.create_task(self._read(is_done))
            try:
                await asyncio.wait({self._reading})
            finally:
                self._reading.cancel()
            if not self._reading.cancelled():
                self._reading.result()

    def drop(self) -> None:
        """Lose the connection."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, is_done: Callable[["Dashboard"], bool]) -> None:
        try:
            await self.connect()
        except (httpx.HTTPStatusError, InvalidStatus) as refused:
            if refused.response.status_code != 503:
                raise
            await asyncio.sleep(0.1)
            return
        try:
            while not is_done(self):
                self.apply(await self.stream.receive())
        finally:
            await self.stream.close()

    def apply(self, message: Message) -> None:
        """Show it. Ids must rise."""
        self.types.append(message.type)
        data, event_id = message.data, int(message.id)
        if message.type == "SNAPSHOT":
            assert self.last_id is None or event_id >= self.last_id
            shown = {drop["id"]: drop for drop in data["drops"]}
            self.drops = self.drops | shown if self.drop_ids else shown
            if self.start_id is None:
                self.start_id = event_id
        elif message.type == "RESYNC_REQUIRED":
            assert list(data) == ["reason"]
            return
        else:
            assert self.last_id is None or event_id > self.last_id
            self.ids.append(event_id)
            self._change(message.type, data)
        self.last_id = event_id

    def _change(self, event_type: str, data: Row) -> None:
        if event_type in ("DROP_CREATED", "DROP_UPDATED"):
            old = self.drops.get(data["drop"]["id"], {"activity_feed": {"latest_purchasers": []}})
            self.drops[data["drop"]["id"]] = old | data["drop"]
        elif data.get("dropId") in self.drops:
            drop = self.drops[data["dropId"]]
            if event_type == "STOCK_UPDATED":
                drop["available_stock"] = data["availableStock"]
            elif event_type == "ACTIVITY_UPDATED":
                drop["activity_feed"] = {"latest_purchasers": data["latestPurchasers"]}

    def shows(self) -> dict[str, Row]:
        """What is on it: the drops named, or all that are not over."""
        is_shown = self.drop_ids.__contains__ if self.drop_ids else lambda drop_id: self.drops[drop_id]["status"] in OPEN
        return {drop_id: told(drop) for drop_id, drop in self.drops.items() if is_shown(drop_id)}


OPEN = ("draft", "scheduled", "live")


def told(drop: Row) -> Row:
    """A drop as far as events tell of it: not when its stock changed, and not how many units of it are held."""
    return drop | {"updatedAt": None, "activity_feed": {"latest_purchasers": drop["activity_feed"]["latest_purchasers"]}}


async def truth(owner: asyncpg.Pool, drop_ids: Iterable[object] = ()) -> dict[str, Row]:
    """What a dashboard should show."""
    ids = [UUID(str(drop_id)) for drop_id in drop_ids] or None
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute("set local timezone = 'UTC'")
        data = await connection.fetchval("select data from api.snapshot($1)", ids)
    return {drop["id"]: told(drop) for drop in loads(data, parse_float=Decimal)["drops"]}


async def newest_id(owner: Owner) -> int:
    """The id of the log's newest event."""
    found: int = await owner.fetchval("select coalesce(max(id), 0) from inventory.events")
    return found


async def logged(owner: Owner, after: int) -> list[Message]:
    """What the log has after this event."""
    return [Message(row["type"], str(row["id"]), row["data"]) for row in await owner.fetch(LOG, after)]


async def publish(owner: asyncpg.Pool, drop_id: object, event_type: str, texts: list[str]) -> None:
    """Announce something by hand, in a transaction of its own: an event for each of the texts, which are JSON."""
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute(LOCK)
        statement = "select inventory.publish($1, $2, variadic $3::json[])"
        await connection.execute(statement, UUID(str(drop_id)), event_type, texts)


@dataclass(frozen=True)
class Stage:
    """A database of its own and a service on it."""

    database_url: str
    owner: asyncpg.Pool
    service: Service
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        """The service's."""
        return self.service.url


async def caught_up(stage: Stage, drop_id: object) -> None:
    """Return when the service has heard of all that was committed: it tells of a new name of the drop. For one process."""
    stream, name = await open_stream("sse", stage.url, snapshot=False), uuid4().hex
    await stage.owner.fetch("select from api.update_drop($1, $2)", UUID(str(drop_id)), dumps({"name": name}))
    while name not in (await stream.receive()).text:
        pass
    await stream.close()


@asynccontextmanager
async def fresh_database(database: Database) -> AsyncIterator[str]:
    """One more migrated database on the tests' server; yields the owner's URL."""
    name = f"lastpair_streams_{uuid4().hex[:12]}"
    parts = urlsplit(database.url)
    url = urlunsplit(parts._replace(path=f"/{name}"))
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(f"create database {name} owner {parts.username}")
        await asyncio.to_thread(asyncio.run, migrate(url))
        yield url
        await connection.execute(f"drop database {name} with (force)")
    finally:
        await connection.close()


@asynccontextmanager
async def serving(database_url: str, **environment: str) -> AsyncIterator[Stage]:
    """A service on that database, whose poller sleeps; it must stop cleanly in the end."""
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(asyncpg.create_pool(database_url, min_size=1, max_size=30))
        variables = {"EXPIRY_POLL_MS": "3600000", "DATABASE_POOL_SIZE": "20"} | environment
        service = stack.enter_context(started(DATABASE_URL=database_url, **variables))
        await asyncio.to_thread(service.wait_until_ready)
        limits = httpx.Limits(max_connections=100)
        client = httpx.AsyncClient(base_url=f"{service.url}/api", timeout=30, limits=limits, verify=NO_TLS)
        stack.push_async_callback(close_streams)
        yield Stage(database_url, owner, service, await stack.enter_async_context(client))
        if service.process.poll() is None:
            await asyncio.to_thread(service.stop)
