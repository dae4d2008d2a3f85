"""The events over Socket.IO, for front ends that speak it. This module needs the extra `socketio`.

python-socketio and python-engineio know the protocol: the handshake, the pings, long polling, and the upgrade to WebSocket. They
do not send the events, because they would wake two tasks for each event and client. Instead, each client has a feed like the
clients of the other transports, and is its outlet: over WebSocket a round writes frames that were made once for all clients, and
for long polling it leaves one text in the client's outbox.

Packets that a client sends are checked (socketio_packets.py) before these packages see them.
"""

import asyncio
import logging
from contextlib import ExitStack, aclosing, suppress
from typing import Any

import engineio  # type: ignore[import-untyped]
import socketio  # type: ignore[import-untyped]
from engineio.async_drivers import asgi  # type: ignore[import-untyped]
from engineio.exceptions import EngineIOError  # type: ignore[import-untyped]
from engineio.packet import Packet  # type: ignore[import-untyped]
from engineio.payload import Payload  # type: ignore[import-untyped]
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from lastpair.errors import STOPPING, Refusal, Unavailable, invalid
from lastpair.observability.metrics import CUT_OFF, STREAMS
from lastpair.realtime.event import RESYNC_REQUIRED
from lastpair.realtime.feed import Feed
from lastpair.realtime.hub import Hub
from lastpair.web.components import Components
from lastpair.web.limits import address_of
from lastpair.web.requests import check_coding, check_number_of_parameters, headers_of, parse_uuid, read_bytes
from lastpair.web.responses import ANSWER_HEADERS
from lastpair.web.socketio_packets import JOIN, LEAVE, PONG, SEPARATOR, frames, payload, understood
from lastpair.web.stream_requests import drop_ids_in
from lastpair.web.websocket import MAX_MESSAGE_BYTES, RESTART_REASON, SERVICE_RESTART
from lastpair.web.websocket_protocol import FRAMES, WebSocketProtocol

PING_INTERVAL_SECONDS, PING_TIMEOUT_SECONDS = 25, 20
SILENCE_SECONDS = PING_INTERVAL_SECONDS + PING_TIMEOUT_SECONDS
"""A client that connects too late, or does not answer pings, is gone after this time."""

UPGRADE_SECONDS = 10
"""How long a client has for each step of its upgrade to WebSocket."""

OUTBOX_BYTES = 64 * 1024
"""Of events that wait for the client's next poll. The rest waits in the hub's memory, which all clients share."""

POLL_PAUSE_SECONDS = 0.25
"""The least time between two answers to polls that have events, because a poll costs the process as much as dozens of frames."""

OUTBOX_PACKETS = 100
"""Other packets, such as acknowledgements, that may wait. With more of them the client is cut off."""

MAX_PACKETS = 100
"""The most packets of a request, because handling 1,000 tiny ones takes 70 ms."""

ENGINE_PARAMETERS = ("EIO", "transport", "sid")
"""The query parameters of Engine.IO. A front end may add any others."""

CLIENT = "lastpair.socketio"
TEXT = "text/plain; charset=UTF-8"
UNKNOWN_SESSION = (
    "is not a session of this process. With several processes a proxy must send all requests of a session to the same one,"
    ' or the client uses WebSocket alone (transports: ["websocket"])'
)

logger = logging.getLogger("lastpair.socketio")
logger.setLevel(logging.ERROR)


class Texts:
    """Packets of events in an outbox. For Engine.IO it is a packet."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def encode(self, b64: bool = False) -> str:
        """The packets with separators."""
        return self.text


class Outbox(asyncio.Queue[Any]):
    """What waits for the client's next poll, or for the task that writes to its WebSocket."""

    client: "Client | None" = None
    pinging: asyncio.Task[None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.is_full = asyncio.Event()
        self._texts_bytes = 0
        self._packets = 0

    def _put(self, item: Any) -> None:
        super()._put(item)
        if isinstance(item, Texts):
            self._texts_bytes += len(item.text)
            if self._texts_bytes > OUTBOX_BYTES:
                self.has_room.clear()
                self.is_full.set()
        else:
            self._packets += 1
            if self._packets == OUTBOX_PACKETS and self.client is not None:
                CUT_OFF.labels("unread").inc()
                self.client.leave()

    def _get(self) -> Any:
        item = super()._get()
        if isinstance(item, Texts):
            self._texts_bytes -= len(item.text)
            if self._texts_bytes <= OUTBOX_BYTES:
                self.has_room.set()
                self.is_full.clear()
        else:
            self._packets -= 1
        return item

    async def get(self) -> Any:
        """The next item. Who calls this has sent the items before."""
        if self.client is not None and self.empty():
            self.client.all_is_sent()
        return await super().get()


class Client:
    """A client: its session of Engine.IO, and the outlet of its feed."""

    heartbeat = b""  # pings show that the client is there

    def __init__(self, hub: Hub, feed: Feed, slot: ExitStack, *, is_narrow: bool) -> None:
        self.socket: Any = None  # of Engine.IO
        self.protocol: WebSocketProtocol | None = None
        self.is_polling = False
        self.next_poll_at = 0.0
        self.slot = slot
        self.feed = feed
        self._hub = hub
        self._is_narrow = is_narrow
        self._direct: WebSocketProtocol | None = None  # the protocol, when nothing is before the events any more
        self._is_connected = asyncio.Event()
        self._has_ended = False
        self._silence: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def begin(self, socket: Any) -> None:
        """The session was made."""
        self.socket = socket
        socket.queue.client = self
        self._silence = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self.leave)
        self._running = asyncio.create_task(self._run())

    def connect(self) -> None:
        """The client has connected to the namespace `/`. The packet that tells it so is put into the outbox next."""
        self._direct = None
        self._is_connected.set()

    def leave(self) -> None:
        """The client left, or is cut off."""
        self.feed.close()
        self._is_connected.set()
        self.socket.queue.has_room.set()

    def hear(self, text: str) -> str | None:
        """Take a packet of the client; returns what understood() does. Raises ValueError."""
        try:
            packet = understood(text)
        except ValueError:
            CUT_OFF.labels("malformed").inc()
            raise
        # A client that answers pings, but does not poll, is gone as well.
        if packet == PONG and self._silence is not None and self.socket.queue.has_room.is_set():
            self._silence.cancel()
            self._silence = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self.leave)
        return packet

    def change_drops(self, event: str, drop_id: str | None) -> dict[str, Any]:
        """Join or leave a drop; returns the acknowledgement. Who named no drops when it connected gets the events of all."""
        try:
            room = parse_uuid("dropId", drop_id or "")
            if self._is_narrow:
                (self.feed.join if event == JOIN else self.feed.leave)(room)
        except Refusal as refusal:
            return {"success": False, "error": {"code": refusal.code, "message": refusal.message}}
        return {"success": True}

    def all_is_sent(self) -> None:
        """The outbox is empty, and what was in it is sent. From now on events are written to the WebSocket directly."""
        if self.socket.upgraded:
            self._direct = self.protocol

    @property
    def encode(self) -> Any:
        """The function that makes the bytes for a batch."""
        return frames if self._direct is not None else payload

    @property
    def is_busy(self) -> bool:
        """Whether the client has not taken what was sent before."""
        return self._direct.is_busy if self._direct is not None else not self.socket.queue.has_room.is_set()

    async def drain(self) -> None:
        """Return when it is not busy, or the client is gone."""
        await (self._direct.writable if self._direct is not None else self.socket.queue.has_room).wait()

    def write(self, data: bytes, position: str) -> None:
        """Send the bytes that `encode` has made. If the client is gone, nothing happens."""
        if self._has_ended or not data:
            return
        if self._direct is not None:
            self._direct.write_frames(data)
        else:
            self.socket.queue.put_nowait(Texts(data.decode()))

    async def close(self) -> None:
        """End the session, if it has not ended."""
        if self._has_ended:
            return
        self._has_ended = True
        self.leave()
        self.slot.close()
        outbox = self.socket.queue
        for waiting in (self._silence, outbox.pinging):
            if waiting is not None:
                waiting.cancel()
        with suppress(EngineIOError):
            await self.socket.close(wait=False)
        outbox.put_nowait(None)  # ends the task that writes to the WebSocket, which closes it
        # Nothing may point back, because the garbage collector runs seldom.
        outbox.client = outbox.pinging = self._silence = self._direct = self.protocol = self._running = None

    @property
    def is_stopping(self) -> bool:
        """Whether the process stops."""
        return self._hub.closed

    async def _run(self) -> None:
        try:
            await self._is_connected.wait()
            async with aclosing(self.feed.batches(self)) as batches:
                async for batch in batches:
                    if any(event.type == RESYNC_REQUIRED for event in batch):
                        break  # the client missed events; it connects again and reads the drops
                    self.write(self.encode(batch), "")
                    if self.is_busy:
                        await self.drain()
        finally:
            await self.close()


class WebSocket(asgi.WebSocket):  # type: ignore[misc]
    """The WebSocket of a session, as Engine.IO uses it."""

    def __init__(self, handler: Any, server: Any) -> None:
        super().__init__(handler, server)
        self._socket = handler.__self__
        self._client: Client = self._socket.queue.client

    async def __call__(self, environ: dict[str, Any]) -> str:
        """Serve it until it ends."""
        protocol = environ["asgi.scope"].get("extensions", {}).get(FRAMES)
        self._client.protocol = protocol() if protocol else None
        try:
            await super().__call__(environ)
        finally:
            await self.close()
        return ""

    async def send(self, message: str) -> None:
        """Send packets, each in a frame of its own."""
        for packet in message.split(SEPARATOR):
            await super().send(packet)

    async def wait(self) -> str | None:
        """The next packet; None if there is none, or if it is not one of this service's clients.

        It raises nothing, because Engine.IO would keep the exception in a reference cycle.
        """
        packet = None
        with suppress(OSError, TimeoutError, ValueError):
            while packet is None:
                async with asyncio.timeout(None if self._socket.upgraded else UPGRADE_SECONDS):
                    text = await super().wait()
                if not isinstance(text, str):
                    break
                packet = self._client.hear(text)
        return packet

    async def close(self) -> None:
        """Close it, if it is open."""
        closing = {"code": SERVICE_RESTART, "reason": RESTART_REASON} if self._client.is_stopping else {"code": 1000}
        with suppress(Exception):  # it was closed before
            await self.asgi_send({"type": "websocket.close", **closing})


async def environment_of(scope: Scope, receive: Receive, send: Send) -> dict[str, Any]:
    """A handshake as Engine.IO reads it. Its own function makes a class for each, and with it a reference cycle."""
    await receive()  # websocket.connect, or the end of the request
    headers = headers_of(scope)
    names = [name for name in ("connection", "upgrade") if name.encode() in headers]
    return {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "asgi.scope": scope,
        "asgi.receive": receive,
        "asgi.send": send,
    } | {f"HTTP_{name.upper()}": headers[name.encode()].decode("latin-1") for name in names}


class Engine(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO with our outboxes and WebSockets."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._async: dict[str, Any] = asgi._async | {"websocket": WebSocket, "translate_request": environment_of}

    def create_queue(self, *args: Any, **kwargs: Any) -> Outbox:
        """The queue of a session."""
        return Outbox()

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a ping that is sent later."""
        task = target.__self__.queue.pinging = super().start_background_task(target, *args, **kwargs)
        return task


class SocketIOServer(socketio.AsyncServer):  # type: ignore[misc]
    """The ASGI application at /socket.io/."""

    def __init__(self, components: Components) -> None:
        super().__init__(
            async_mode="asgi",
            async_handlers=False,
            ping_interval=PING_INTERVAL_SECONDS,
            ping_timeout=PING_TIMEOUT_SECONDS,
            monitor_clients=False,  # each client has a timer
            max_http_buffer_size=MAX_MESSAGE_BYTES,
            http_compression=False,
            cors_allowed_origins=[],  # guard.py and the CORS of all routes know the origins
            logger=logger,
            engineio_logger=logger,
        )
        self._components = components
        self._clients: dict[str, Client] = {}  # by the id of the session of Engine.IO
        self._connected: dict[str, Client] = {}  # by the id that Socket.IO gave to the connected client
        self.on("connect", self._connect)
        self.on("disconnect", self._disconnect)
        self.on(JOIN, lambda sid, drop_id: self._connected[sid].change_drops(JOIN, drop_id))
        self.on(LEAVE, lambda sid, drop_id: self._connected[sid].change_drops(LEAVE, drop_id))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Refusal before anything is sent."""
        check_number_of_parameters(scope["query_string"])
        query = HTTPConnection(scope).query_params
        for name in ENGINE_PARAMETERS:  # this function reads the last of two, and Engine.IO the first
            if len(query.getlist(name)) > 1:
                raise invalid(name, "must not be given twice")
        is_websocket = scope["type"] == "websocket"
        if query.get("transport") != ("websocket" if is_websocket else "polling"):
            raise invalid("transport", "must be polling, or websocket in a WebSocket handshake")
        if "j" in query:
            raise invalid("j", "JSONP is not possible")
        sid = query.get("sid")
        if sid is None:
            await self._open(scope, receive, send)
            return
        client = self._clients.get(sid)
        if client is None:
            raise invalid("sid", UNKNOWN_SESSION)
        if client.socket.upgraded or (is_websocket and client.socket.upgrading):
            raise invalid("sid", "has a WebSocket already")
        scope["is_poll"] = not is_websocket
        if is_websocket:
            await self._upgrade(client, scope, receive, send)
        elif scope["method"] == "POST":
            await self._take(client, scope, receive, send)
        else:
            await self._poll(client, scope, receive, send)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        if connection.query_params.get("EIO") != "4":
            raise invalid("EIO", "must be 4, which socket.io-client speaks from version 3 on")
        if scope["type"] == "http" and scope["method"] != "GET":
            raise invalid("sid", "is required")
        components, address = self._components, address_of(scope)
        if components.hub.closed:
            raise Unavailable(STOPPING)
        components.stream_limit.count(address)
        with ExitStack() as slot:
            slot.enter_context(components.stream_slots.slot(address))
            slot.enter_context(STREAMS.labels("socketio").track_inprogress())
            drop_ids = drop_ids_in(connection)
            feed = Feed(components.hub, drop_ids, wants_snapshot=False)
            await feed.open(None)
            client = scope[CLIENT] = Client(components.hub, feed, slot.pop_all(), is_narrow=bool(drop_ids))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in ANSWER_HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            with suppress(OSError):  # the client left
                await self.handle_request(scope, receive, send_with_headers)
        finally:
            if client.socket is None:
                client.slot.close()
            elif scope["type"] == "websocket":
                await client.close()

    async def _upgrade(self, client: Client, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(OSError):  # the client left
            await self.handle_request(scope, receive, send)
        if client.socket.upgraded:
            await client.close()
        else:
            client.socket.upgrading = False  # the client goes on with polling

    async def _take(self, client: Client, scope: Scope, receive: Receive, send: Send) -> None:
        check_coding(scope)
        try:
            body = await read_bytes(Request(scope, receive), MAX_MESSAGE_BYTES)
        except Refusal:
            client.leave()
            raise
        if body.count(SEPARATOR.encode()) >= MAX_PACKETS:
            client.leave()
            raise invalid("body", f"must not have more than {MAX_PACKETS} packets")
        try:
            texts = body.decode().split(SEPARATOR)
            packets = [packet for text in texts if (packet := client.hear(text)) is not None]
        except ValueError:
            client.leave()
            raise invalid("body", "has a packet that is not one of Socket.IO, or is not for this service") from None
        with suppress(EngineIOError):  # the session ended meanwhile
            for packet in packets:
                await client.socket.receive(Packet(encoded_packet=packet))
                await asyncio.sleep(0)  # let other tasks run
        await Response("ok", headers=ANSWER_HEADERS, media_type=TEXT)(scope, receive, send)

    async def _poll(self, client: Client, scope: Scope, receive: Receive, send: Send) -> None:
        if client.is_polling:
            raise invalid("sid", "has a poll already that is not answered")
        client.is_polling = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(client.next_poll_at):
                    await client.socket.queue.is_full.wait()
            packets = await client.socket.handle_get_request({})
        except EngineIOError:
            raise invalid("sid", UNKNOWN_SESSION) from None
        finally:
            client.is_polling = False
        if any(isinstance(packet, Texts) for packet in packets):
            client.next_poll_at = asyncio.get_running_loop().time() + POLL_PAUSE_SECONDS
        await Response(Payload(packets=packets).encode(), headers=ANSWER_HEADERS, media_type=TEXT)(scope, receive, send)

    def _connect(self, sid: str, environ: dict[str, Any], _: object = None) -> None:
        client = self._connected[sid] = self._clients[self.manager.eio_sid_from_sid(sid, "/")]
        client.connect()

    def _disconnect(self, sid: str, _: str) -> None:
        self._connected.pop(sid).leave()

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        client = self._clients[eio_sid] = environ["asgi.scope"].pop(CLIENT)
        client.begin(self.eio.sockets[eio_sid])

    async def _handle_eio_message(self, eio_sid: str, data: str) -> None:
        if eio_sid in self.environ:  # what comes behind the end of a session would be an error, and be kept for ever
            await super()._handle_eio_message(eio_sid, data)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self.eio.sockets.pop(eio_sid, None)
        client = self._clients.pop(eio_sid, None)
        if client is not None:
            client.leave()

    def _engineio_server_class(self) -> type[Engine]:
        return Engine
