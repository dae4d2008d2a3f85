"""Clients of the event streams, SSE and WebSocket, with the same methods; a client that follows drops; and a service to test."""

import asyncio
import re
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from json import dumps, loads
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lastpair.database.migrate import migrate
from tests.support.database import Database, another_database
from tests.support.factories import Owner
from tests.support.positions import Position, event_id_of, node_of_event, node_of_id, node_of_table
from tests.support.row_checks import Row
from tests.support.servers import Service, started
from tests.support.waiting import PATIENCE_SECONDS

TRANSPORTS = ["sse", "ws"]
SLOW_CALL_SECONDS = PATIENCE_SECONDS
SSE_FIELDS = re.compile(rb"event: ([A-Z_]+)\nid: ([0-9]+|[0-9]+:[0-9]+(?:,[0-9]+:[0-9]+)*)\ndata: (.*)")
FRAME = re.compile(r'\{"type":\s*"([A-Z_]+)",\s*"id":\s*"([0-9:,]+)",\s*"data":\s*(.*)\}', re.DOTALL)
LOCK = "lock table inventory.event_order in share update exclusive mode"
MAKE_OLD = "update inventory.events set created_at = now() - interval '20 minutes'"
"""Older than the ten minutes that the tests keep, but not than the hour that the sweeper of a service beside them keeps."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would read all certificates of the machine for every client
AT = re.compile(r'(.*?),?"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"\}', re.DOTALL)
LOG = """
select id, type, data, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at,
  tableoid::regclass::text as table_name
from inventory.events
where id > case tableoid::regclass::text when 'data_1.events' then $2::bigint else $1::bigint end and user_id is null
order by table_name, id
"""
NEWEST = "select tableoid::regclass::text, max(id) from inventory.events group by 1"


class StreamEnded(Exception):
    """The server has ended the stream; `code` is the WebSocket's close code."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Message:
    """An event as a client received it; `text` is its data to the letter, without the time of the commit, which is in `at`."""

    type: str
    id: str
    text: str
    at: str | None = None
    position: str = field(default="", compare=False)
    """The id as the server wrote it."""

    @property
    def whole_text(self) -> str:
        """The data to the letter, with the time."""
        return self.text if self.at is None else f'{self.text[:-1]},"at":"{self.at}"}}'

    @property
    def data(self) -> Any:
        """The data, with all the digits of its numbers."""
        return loads(self.text, parse_float=Decimal)


def message_of(event_type: str, event_id: str, text: str) -> Message:
    """The message with this data. An event that is not of the log has no time."""
    match = AT.fullmatch(text)
    data, at = (match[1] + "}", match[2]) if match else (text, None)
    return Message(event_type, str(Position.of(event_id)), data, at, event_id)


class SseParser:
    """Parses the bytes of an SSE stream, wherever they were cut: events, comments and the field `retry`.

    Fails at an empty block, and at a line that is no line to every reader.
    """

    def __init__(self) -> None:
        self.comments: list[bytes] = []
        self.retry_ms: list[int] = []
        self._rest = b""
        self._fields: list[bytes] = []

    def feed(self, received: bytes) -> list[Message]:
        """Add bytes; returns the events that are complete with them."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        messages = []
        for line in lines:
            if line.startswith(b":"):
                self.comments.append(line)
            elif line.startswith(b"retry: "):
                self.retry_ms.append(int(line.removeprefix(b"retry: ")))
            elif line:
                assert len(line.decode().splitlines()) == 1, "some readers see more than one line here"
                self._fields.append(line)
            else:
                match = SSE_FIELDS.fullmatch(b"\n".join(self._fields))
                assert match, self._fields
                messages.append(message_of(*(group.decode() for group in match.groups())))
                self._fields = []
        return messages

    def assert_complete(self) -> None:
        """Fail if the stream ended in the middle of an event."""
        assert (self._rest, self._fields) == (b"", [])


class Receiver(ABC):
    """What the streams of both transports have in common."""

    @abstractmethod
    async def receive_any(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next message; raises StreamEnded, TimeoutError, and httpx.HTTPError when an SSE body is broken off."""

    async def receive(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next message after the POSITION that begins a stream without a SNAPSHOT; raises the same."""
        message = await self.receive_any(timeout_seconds)
        return await self.receive_any(timeout_seconds) if message.type == "POSITION" else message


class SseStream(Receiver):
    """A connection to GET /events."""

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response) -> None:
        self.response = response
        self.parser = SseParser()
        self._client = client
        self._chunks = response.aiter_raw()
        self._messages: list[Message] = []

    async def receive_any(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next message."""
        async with asyncio.timeout(timeout_seconds):
            while not self._messages:
                try:
                    self._messages = self.parser.feed(await anext(self._chunks))[::-1]
                except StopAsyncIteration:
                    self.parser.assert_complete()
                    raise StreamEnded from None
        return self._messages.pop()

    async def close(self) -> None:
        """Disconnect."""
        await self.response.aclose()
        await self._client.aclose()


class WebSocketStream(Receiver):
    """A connection to the WebSocket /ws."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def receive_any(self, timeout_seconds: float = SLOW_CALL_SECONDS) -> Message:
        """The next message."""
        try:
            async with asyncio.timeout(timeout_seconds):
                frame = await self.connection.recv()
        except ConnectionClosed as closed:
            raise StreamEnded(closed.rcvd.code if closed.rcvd else None) from None
        assert isinstance(frame, str)
        match = FRAME.fullmatch(frame)
        assert match, frame
        assert len(frame.splitlines()) == 1
        assert list(loads(frame)) == ["type", "id", "data"]
        return message_of(*match.groups())

    async def join(self, drop_id: object) -> None:
        """Send drops:join."""
        await self.connection.send(f'{{"type": "drops:join", "dropId": "{drop_id}"}}')

    async def leave(self, drop_id: object) -> None:
        """Send drops:leave."""
        await self.connection.send(f'{{"type": "drops:leave", "dropId": "{drop_id}"}}')

    async def settle(self) -> list[Message]:
        """Wait until the server has carried out every message so far; returns the events that came meanwhile.

        The server answers a message that is not valid, so two such messages mark the end.
        """
        received = []
        for _ in range(2):
            await self.connection.send("?")
            while (message := await self.receive()).type != "ERROR":
                received.append(message)
        return received

    async def close(self) -> None:
        """Disconnect without waiting for the server's part of the closing handshake."""
        self.connection.transport.abort()
        await self.connection.wait_closed()


Stream = SseStream | WebSocketStream


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
    """Connect to a service. Raises httpx.HTTPStatusError (SSE) or InvalidStatus (WebSocket) if it refuses.

    With receive_buffer_bytes the client buffers no more than that until receive() is called.
    """
    named: dict[str, object] = {"snapshot": snapshot if snapshot is None else str(snapshot).lower(), "lastEventId": last_event_id}
    given = [(name, str(value)) for name, value in named.items() if value is not None]
    parameters = httpx.QueryParams([*(("dropId", str(drop_id)) for drop_id in drop_ids), *given, *query])
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
    """Close every stream that a failed test left open."""
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


class Follower:
    """A client that keeps a copy of drops: it begins with a SNAPSHOT, applies events and reconnects with the last id it has."""

    def __init__(self, transport: str, url: str, drop_ids: Iterable[object] = ()) -> None:
        self.drop_ids = {str(drop_id) for drop_id in drop_ids}  # empty: all drops
        self.drops: dict[str, Row] = {}
        self.types: list[str] = []  # of everything received, snapshots too
        self.start_id: Position | None = None  # of the first snapshot
        self.last_id: Position | None = None
        self.stream: Any = None
        self._transport = transport
        self._url = url
        self._ids: list[int] = []
        self._position: str | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def ids(self) -> list[int]:
        """Of the events, as they came; on a cluster first those of the first node."""
        return sorted(self._ids, key=node_of_event)

    async def connect(self) -> None:
        """Connect; the stream continues after the last event that the follower has."""
        self.stream = await open_stream(self._transport, self._url, self.drop_ids, last_event_id=self._position)

    async def run(self, is_done: Callable[["Follower"], bool]) -> None:
        """Apply events until `is_done`, and connect again after each disconnect()."""
        while not is_done(self):
            self._reading = asyncio.create_task(self._read(is_done))
            try:
                await asyncio.wait({self._reading})
            finally:
                self._reading.cancel()
            if not self._reading.cancelled():
                self._reading.result()

    def disconnect(self) -> None:
        """Lose the connection."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, is_done: Callable[["Follower"], bool]) -> None:
        try:
            await self.connect()
        except (httpx.HTTPStatusError, InvalidStatus) as refused:
            if refused.response.status_code != 503:
                raise
            await asyncio.sleep(0.1)
            return
        try:
            while not is_done(self):
                self.apply(await self.stream.receive_any())
        finally:
            await self.stream.close()

    def apply(self, message: Message) -> None:
        """Apply a message. Fails if its id does not rise."""
        self.types.append(message.type)
        data, position = message.data, Position.of(message.id)
        if message.type == "SNAPSHOT":
            assert self.last_id is None or position.reaches(self.last_id)
            shown = {drop["id"]: drop for drop in data["drops"]}
            self.drops = self.drops | shown if self.drop_ids else shown
            if self.start_id is None:
                self.start_id = position
        elif message.type == "RESYNC_REQUIRED":
            assert list(data) == ["reason"]
            return
        elif message.type == "POSITION":
            assert self.last_id is None or position.reaches(self.last_id)
            assert data == {}
        else:
            drop_id = data["drop"]["id"] if "drop" in data else data["dropId"]
            node = node_of_id(drop_id) if len(position.ids) > 1 else min(position.ids)
            if self.last_id is not None:
                assert position.reaches(self.last_id)
                assert position.ids[node] > self.last_id.ids.get(node, 0)
            self._ids.append(event_id_of(node, position.ids[node]))
            self._change(message.type, data)
        self.last_id, self._position = position, message.position

    def _change(self, event_type: str, data: Row) -> None:
        if event_type in ("DROP_CREATED", "DROP_UPDATED"):
            old = self.drops.get(data["drop"]["id"], {"activity_feed": {"latest_purchasers": []}})
            self.drops[data["drop"]["id"]] = old | data["drop"]
        elif event_type == "DROP_REMOVED":
            self.drops.pop(data["dropId"], None)
        elif data.get("dropId") in self.drops:
            drop = self.drops[data["dropId"]]
            if event_type == "STOCK_UPDATED":
                drop["available_stock"] = data["availableStock"]
            elif event_type == "ACTIVITY_UPDATED":
                drop["activity_feed"] = {"latest_purchasers": data["latestPurchasers"]}

    def shows(self) -> dict[str, Row]:
        """Its drops by id: those it named, or all that are not over."""
        is_shown = self.drop_ids.__contains__ if self.drop_ids else lambda drop_id: self.drops[drop_id]["status"] in OPEN
        return {drop_id: as_announced(drop) for drop_id, drop in self.drops.items() if is_shown(drop_id)}


OPEN = ("scheduled", "live")


def as_announced(drop: Row) -> Row:
    """A drop without what events do not contain: when its stock changed, and how many units are held."""
    return drop | {"updatedAt": None, "activity_feed": {"latest_purchasers": drop["activity_feed"]["latest_purchasers"]}}


async def truth(owner: asyncpg.Pool, drop_ids: Iterable[object] = ()) -> dict[str, Row]:
    """The drops that a follower should show, as the database has them."""
    ids = [UUID(str(drop_id)) for drop_id in drop_ids] or None
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute("set local timezone = 'UTC'")
        data = await connection.fetchval("select data from api.snapshot($1)", ids)
    return {drop["id"]: as_announced(drop) for drop in loads(data, parse_float=Decimal)["drops"]}


async def newest_id(owner: Owner) -> Position:
    """The id of the newest event in the log, of each node on a cluster."""
    return Position({node_of_table(name): newest for name, newest in await owner.fetch(NEWEST)})


async def logged(owner: Owner, after: int) -> list[Message]:
    """The events of the log after this id; on a cluster first those of the first node."""
    ids = Position.of(after).ids
    return [
        Message(row["type"], str(event_id_of(node_of_table(row["table_name"]), row["id"])), row["data"], row["at"])
        for row in await owner.fetch(LOG, ids.get(0, 0), ids.get(1, 0))
    ]


async def publish(owner: asyncpg.Pool, drop_id: object, event_type: str, texts: list[str], user_id: str | None = None) -> None:
    """Publish an event for each of the JSON texts, all in one transaction; for this user alone, or for everybody."""
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute(LOCK)
        statement = (
            "select inventory.publish(array(select row($1, $2, e, $4::uuid)::inventory.new_event from unnest($3::json[]) e))"
        )
        await connection.execute(statement, UUID(str(drop_id)), event_type, texts, user_id)


@dataclass(frozen=True)
class Api:
    """A service and the database that it runs on."""

    database_url: str
    owner: asyncpg.Pool
    service: Service
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        """The URL of the service."""
        return self.service.url


async def caught_up(api: Api, drop_id: object) -> None:
    """Rename the drop and wait until a stream has the new name: the service (of one process) has then heard of every commit."""
    stream, name = await open_stream("sse", api.url, snapshot=False), uuid4().hex
    await api.owner.fetch("select from api.update_drop($1, $2)", UUID(str(drop_id)), dumps({"name": name}))
    while name not in (await stream.receive()).text:
        pass
    await stream.close()


@asynccontextmanager
async def fresh_database(database: Database) -> AsyncIterator[str]:
    """A new migrated database on the tests' server; yields the owner's URL."""
    if database.template:
        async with another_database(database, database.template) as url:
            yield url
        return
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
async def serving(database_url: str, **environment: str) -> AsyncIterator[Api]:
    """A service on that database, whose sweeper sleeps for an hour. It must stop cleanly at the end of the block."""
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(asyncpg.create_pool(database_url, min_size=1, max_size=30))
        variables = {"EXPIRY_POLL_MS": "3600000", "DATABASE_POOL_SIZE": "20"} | environment
        service = stack.enter_context(started(DATABASE_URL=database_url, **variables))
        await asyncio.to_thread(service.wait_until_ready)
        limits = httpx.Limits(max_connections=100)
        client = httpx.AsyncClient(base_url=f"{service.url}/api", timeout=30, limits=limits, verify=NO_TLS)
        stack.push_async_callback(close_streams)
        yield Api(database_url, owner, service, await stack.enter_async_context(client))
        if service.process.poll() is None:
            await asyncio.to_thread(service.stop)
