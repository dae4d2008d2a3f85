"""uvicorn's WebSocket protocol, with limits on clients that misbehave and faster writes to many clients.

The frames of a client are counted, and those that arrive at once are parsed in turns (turns.py).
"""

import asyncio
import weakref
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHeader
from websockets.frames import CloseCode, Frame
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request

from lastpair.errors import STOPPING, Unavailable, invalid
from lastpair.web.closing import WriteTimeout, refusal_bytes
from lastpair.web.handshakes import refusal_of
from lastpair.web.turns import PacedReading

FRAMES = "lastpair.frames"
"""The ASGI extension that gives an application the `WebSocketProtocol`, as a weak reference."""

FRAME_PIECE_BYTES = 512
"""The number of bytes that the parser gets at once.

It is smaller than for HTTP, because parsing a frame of 6 bytes takes 15 microseconds.
"""

MAX_FRAGMENTS = 64
"""The frames of one WebSocket message."""

FRAMES_PER_SECOND = 20
FRAMES_AT_ONCE = 1200
"""The frames of any kind that a WebSocket client may send at once; FRAMES_PER_SECOND are then added each second."""

BAD_HANDSHAKE = (
    "WebSocket handshake",
    f"must have at most {MAX_NUM_HEADERS} headers, none of them larger than {MAX_LINE_LENGTH} bytes",
)


class WebSocketProtocol(PacedReading, WriteTimeout, WebSocketsSansIOProtocol):
    """Limits the frames of a client, and tells a client that reads slowly from one that is gone.

    It also sends encoded frames: `{"type": "websocket.send", "frames": bytes}`, any number of them at once.

    An event's frame is the same for every client. Encoding it for each client limited the fan-out: with 1,000 clients 68,000
    deliveries a second in bursts and a p99 latency of 590 ms, instead of 390,000 and 140 ms (bench/fanout.py).
    """

    _handshake_scope: dict[str, list[tuple[bytes, bytes]]] | None = None  # of a refused handshake, for refusal_bytes
    _piece_bytes = FRAME_PIECE_BYTES
    _frames_left: float = FRAMES_AT_ONCE
    _frames_counted_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Parse what arrived. The handshake comes at once and whole, from HttpProtocol.

        Frames wait until the handshake is answered. If they were parsed before, a pong or a close frame would come before the
        status line.
        """
        if not self.handshake_initiated:
            self._parse(data)
        elif self.handshake_complete:
            super().data_received(data)
        else:
            self.transport.pause_reading()
            self._waiting = memoryview(b"".join((self._waiting, data)))

    def _parse(self, data: bytes) -> None:
        # Refuse an invalid handshake, which uvicorn would never answer.
        WebSocketsSansIOProtocol.data_received(self, data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self._count_as("malformed")
            error = self.conn.handshake_exc
            refusal = refusal_of(error) if isinstance(error, InvalidHeader) else invalid(*BAD_HANDSHAKE)
            self.transport.write(refusal_bytes(refusal, self._handshake_scope, self.default_headers))
            self.transport.close()

    def shutdown(self) -> None:
        """The process stops. A handshake that is not answered yet gets 503, and an open WebSocket gets a close frame."""
        if self.transport.is_closing():  # uvicorn would send a close frame again
            return
        if self.handshake_complete:
            super().shutdown()
        else:
            self.transport.write(refusal_bytes(Unavailable(STOPPING), self.scope, self.default_headers))
            self.disconnected = True  # the application gets ClientDisconnected if it answers as well
            self.transport.close()
            self._start_write_timer_if_unsent()

    def handle_connect(self, event: Request) -> None:
        """The handshake is complete. If it is not acceptable, data_received answers, because websockets' answer is plain text."""
        if self.conn.accept(event).status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            super().handle_connect(event)
            extensions: dict[str, object] = self.scope["extensions"]  # type: ignore[assignment] # uvicorn's type is narrower
            extensions[FRAMES] = weakref.ref(self)  # weak, because the protocol refers to its scope
        else:
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in event.headers.raw_items()]
            self._handshake_scope = {"headers": headers}

    def handle_events(self) -> None:
        """Handle the frames that were parsed, unless the client sent too many in too short a time."""
        now = self.loop.time()
        earned = (now - self._frames_counted_at) * FRAMES_PER_SECOND
        self._frames_left = min(FRAMES_AT_ONCE, self._frames_left + earned) - len(self.conn.events)
        self._frames_counted_at = now
        if self._frames_left < 0:
            self._fail(CloseCode.POLICY_VIOLATION, f"more than {FRAMES_PER_SECOND} frames a second", "too_fast")
        else:
            super().handle_events()

    def handle_cont(self, event: Frame) -> None:
        """A fragment of a message arrived. Each is kept until the last one, even if it is empty."""
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"more than {MAX_FRAGMENTS} fragments", "too_large")

    def handle_parser_exception(self) -> None:
        """The client broke the protocol, or a limit. uvicorn closes at once, and the client would lose the reason."""
        if not self._is_listening():
            return
        closing = self.conn.close_sent
        assert closing is not None  # noqa: S101 - the exception was answered with a close frame
        self._count_as("too_large" if closing.code == CloseCode.MESSAGE_TOO_BIG else "malformed")
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.disconnected = True
        self.writable.set()  # the application must not wait for a client that it has lost
        # When the application has ended, uvicorn leaves the closing to this timer.
        self.close_timer = self._linger()

    def send_receive_event_to_app(self) -> None:
        """A message is complete. Text that is not UTF-8 is refused here, because uvicorn would log it as an error."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA, "text that is not UTF-8", "malformed")
                return
        super().send_receive_event_to_app()

    def handle_close(self, event: Frame) -> None:
        """A close frame arrived. If a frame before it was refused, the connection is being closed already."""
        if self._is_listening():
            super().handle_close(event)

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read, because the pongs would pile up."""
        if self.writable.is_set() and not self.disconnected:
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def send_keepalive_ping(self) -> None:
        """Send a ping, and note how much the client has taken before it."""
        self._takes_bytes()
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """The client does not answer a ping. If it takes bytes, then the ping is behind those that it has not taken yet."""
        if self._takes_bytes():
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self._start_write_timer_if_unsent()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has ended. The client gets a limited time for its closing handshake."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._start_write_timer()

    def _is_paused(self) -> bool:
        return self.read_paused or not self.handshake_complete

    def _fail(self, code: CloseCode, reason: str, counted_as: str) -> None:
        # Close the connection because of what the client sent.
        if self._is_listening():
            self._count_as(counted_as)
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def _read_on(self) -> None:
        # uvicorn itself would resume the transport, although bytes wait.
        if self.read_paused:
            self.read_paused = False
            self.resume_reading()

    async def receive(self) -> Any:
        """ASGI."""
        message = await self.queue.get()
        if self.queue.empty():
            self._read_on()
        return message

    async def send(self, message: Any) -> None:
        """ASGI."""
        frames: bytes | None = message.get("frames")
        if frames is None:
            if message["type"] == "websocket.close":
                self._read_on()
            await super().send(message)
            if message["type"] == "websocket.accept" and self._is_listening():
                self.resume_reading()  # frames that came before the handshake was answered
            if message["type"] == "websocket.http.response.body":
                # uvicorn would log an error, because it does not see that this answer, too, completes the handshake.
                self.handshake_complete = True
            return
        await self.writable.wait()
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frames)

    @property
    def is_busy(self) -> bool:
        """Whether the client has not read so much that `send` would wait."""
        return not self.writable.is_set()

    def write_frames(self, frames: bytes) -> None:
        """Send encoded frames at once, without a task. If the client is gone, nothing happens."""
        if not (self.disconnected or self.transport.is_closing()):
            self.transport.write(frames)
