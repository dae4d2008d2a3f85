"""uvicorn's HTTP and WebSocket protocols, with limits on clients that misbehave and faster writes to many clients.

An incomplete request has a largest size and a time limit. What is sent to a client must be read within a time limit. Beyond these
the connection is closed, so that its memory and its stream slot are free again.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade
from starlette.requests import HTTPConnection
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request

from lastpair.errors import Refusal, invalid
from lastpair.observability.metrics import CUT_OFF
from lastpair.web.requests import REQUEST_ID, header
from lastpair.web.responses import failure
from lastpair.web.url_paths import SSE_PATHS

FRAMES = "lastpair.frames"
"""The ASGI extension that tells an application that the server uses `FrameProtocol`."""

MAX_HEAD_BYTES = 32 * 1024
"""The most bytes of the request line and all headers together, and of the trailers of a body."""

MAX_URL_BYTES = 8 * 1024
FEED_BYTES = 4 * 1024
"""The number of bytes that the parser gets at once.

The size of a head is therefore known with an error of at most FEED_BYTES. It must be at most half of MAX_URL_BYTES.
"""

MAX_PIPELINED = 100
"""Requests of one connection that may wait for the answers to earlier ones."""

HEAD_TIMEOUT_SECONDS = 10
BODY_TIMEOUT_SECONDS = 30
STALL_SECONDS = 60
"""How long a client may leave unread bytes that were sent to it."""

LINGER_SECONDS = 2
"""How long a connection stays open after a refusal, so that a client that is still sending can read it."""

WHOLE_URL = re.compile(rb"[^/?#]+://(?:[^/?#]*@)?([^/?#]*)")
"""A request's target with the host that counts then, while the header Host does not (RFC 9112, 3.2.2)."""

NOT_HTTP = "request", "is not well-formed HTTP/1.1"
HEAD_TOO_LARGE = "headers", f"must not be larger than {MAX_HEAD_BYTES} bytes, the request line included"
TRAILERS_TOO_LARGE = "body", f"must not have trailers or chunk extensions larger than {MAX_HEAD_BYTES} bytes"
URL_TOO_LARGE = "URL", f"must not be larger than {MAX_URL_BYTES} bytes"
BAD_HANDSHAKE = (
    "WebSocket handshake",
    f"must have at most {MAX_NUM_HEADERS} headers, none of them larger than {MAX_LINE_LENGTH} bytes, and no body",
)


def refusal_bytes(refusal: Refusal, scope: Any, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The answer to a request that never reaches the application. It is the last one on its connection."""
    given = scope and header(scope, b"x-request-id")
    request_id = given if given and REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
    response = failure(HTTPConnection({"type": "http", "request_id": request_id}), refusal)
    head = [*headers, *response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
    lines = [b"%b: %b\r\n" % line for line in head]
    return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])


class _TooLarge(Exception):
    """A head is too large; the field and the reason."""


class WriteTimeout(asyncio.Protocol):
    """Cuts off a client that does not read what is sent to it.

    TCP_USER_TIMEOUT is not used, because it also cuts off a client that reads, but more slowly than the server has bytes to send.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _write_timer: asyncio.TimerHandle | None = None
    _is_counted = False

    def _count_as(self, reason: str) -> None:
        """Count the connection among those that are cut off, with the first reason that was found."""
        if not self._is_counted:
            self._is_counted = True
            CUT_OFF.labels(reason).inc()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """The client has read enough."""
        super().resume_writing()
        self._stop_write_timer()
        if self.transport.is_closing():
            self._start_write_timer_if_unsent()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_write_timer()
        super().connection_lost(exc)

    def _start_write_timer_if_unsent(self) -> None:
        # The transport closes the connection when the rest is sent. It calls pause_writing for a full buffer only, so the timer
        # starts here.
        if self.transport.get_write_buffer_size():
            self._start_write_timer()

    def _start_write_timer(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(STALL_SECONDS, self._abort_unread)

    def _abort_unread(self) -> None:
        self._count_as("unread")
        self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class LingeringClose(asyncio.Protocol):
    """Keeps a refused connection open for LINGER_SECONDS and discards what the client still sends.

    If a socket is closed with unread input, TCP sends RST and the client loses the answer.
    """

    def __init__(self, protocol: "StreamProtocol") -> None:
        self._protocol = protocol
        self._timer = protocol.loop.call_later(LINGER_SECONDS, protocol.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._timer.cancel()
        self._protocol.connection_lost(exc)


class CoalescedWrites:
    """A transport that sends an answer's head together with its body.

    uvicorn writes the two one after the other, and uvloop sends each write at once. Two system calls, two packets and a client
    that wakes up twice took a tenth of the time of a request.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send these bytes, or keep them until the body follows."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and b"\r\ncontent-length: " in data:
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that was kept although no body followed."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._transport.close()


class StreamProtocol(WriteTimeout, HttpToolsProtocol):
    """Sends each answer in one write, refuses heads that are too large, and closes connections whose request does not end in
    time.

    It cuts off a client that sends a second request while an event stream is open on the connection. The second request would
    wait forever. If it is a WebSocket handshake, uvicorn would tell only the WebSocket that the client is slow, and unread events
    of the stream would fill the memory.
    """

    _unread_bytes = 0  # bytes fed to the parser since it last completed a head or a part of a body, to within FEED_BYTES
    _unanswered: Sequence[RequestResponseCycle] = ()  # requests before the latest one; some may be answered by now
    _answers: CoalescedWrites
    _deadline: asyncio.TimerHandle | None = None
    # What the deadline waits for: a head (a request's scope), a body (its cycle) or the first head (None).
    _awaited: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._answers = CoalescedWrites(transport)
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._expire, HEAD_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._cancel_deadline()
        self._disconnect_cycles()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived. uvicorn's own method would log a warning for each request that is not HTTP."""
        if len(data) > FEED_BYTES:
            for start in range(0, len(data), FEED_BYTES):
                if self._is_listening():
                    self.data_received(data[start : start + FEED_BYTES])
            return
        self._unset_keepalive_if_required()
        self._unread_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except HttpParserError as error:
            cause = error.__context__
            self._refuse(*(cause.args if isinstance(cause, _TooLarge) else NOT_HTTP))
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.more_body or cycle.response_complete:
            self._set_deadline()
        elif self._deadline is not None:
            self._cancel_deadline()

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        if self._unread_bytes > FEED_BYTES:
            self._check_head()
        self._unread_bytes = 0
        if (target := WHOLE_URL.match(self.url)) is not None:
            self.headers[:] = [(b"host", target[1]), *(header for header in self.headers if header[0] != b"host")]
        running = self.cycle
        super().on_headers_complete()
        if self.cycle is not running:
            self.cycle.transport = self._answers  # type: ignore[assignment] # it has what a cycle uses of a transport
            self.headers = []  # trailers go here, because they are not headers of the request
        if running is not None and not running.response_complete:
            self._unanswered = [cycle for cycle in (*self._unanswered, running) if not cycle.response_complete]
            if running.scope["path"] in SSE_PATHS or len(self._unanswered) > MAX_PIPELINED:
                self._cut_off()

    def on_body(self, body: bytes) -> None:
        """A part of a request's body arrived."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """A request is answered."""
        self._answers.flush()
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_write_timer_if_unsent()

    def timeout_keep_alive_handler(self) -> None:
        """No other request arrived in time."""
        super().timeout_keep_alive_handler()
        self._start_write_timer_if_unsent()

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the WebSocket protocol. Cut off a client that has not read the answer to an earlier request."""
        if self.cycle is not None and (not self.cycle.response_complete or self.flow.write_paused):
            self._cut_off()
        elif not self.transport.is_closing():
            self._cancel_deadline()
            super().handle_websocket_upgrade()

    def _is_listening(self) -> bool:
        return not self.transport.is_closing() and self.transport.get_protocol() is self

    def _cut_off(self) -> None:
        self._count_as("out_of_turn")
        self._disconnect_cycles()
        self.transport.abort()

    def _disconnect_cycles(self) -> None:
        # uvicorn tells only the latest request that the client left.
        for cycle in (*self._unanswered, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _check_head(self) -> None:
        if len(self.url) > MAX_URL_BYTES:
            raise _TooLarge(*URL_TOO_LARGE)
        request_line_bytes = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        if request_line_bytes + sum(len(name) + len(value) + 4 for name, value in self.headers) + 2 > MAX_HEAD_BYTES:
            raise _TooLarge(*HEAD_TOO_LARGE)

    def _set_deadline(self) -> None:
        # The received bytes end inside a request or between two requests, so the next part needs a deadline.
        if not self._is_listening():
            return
        cycle = self.cycle
        is_body = cycle is not None and cycle.scope is self.scope and cycle.more_body
        if self._unread_bytes > MAX_HEAD_BYTES:
            self._refuse(*(TRAILERS_TOO_LARGE if is_body else HEAD_TOO_LARGE))
            return
        if self.scope is not None and len(self.url) > MAX_URL_BYTES:
            self._refuse(*URL_TOO_LARGE)
            return
        awaited = cycle if is_body else self.scope if cycle is not None else None
        if self._deadline is None or awaited is not self._awaited:
            self._cancel_deadline()
            self._awaited = awaited
            seconds = BODY_TIMEOUT_SECONDS if is_body else HEAD_TIMEOUT_SECONDS
            self._deadline = self.loop.call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        if self.flow.read_paused:  # this process stopped reading, so the client is not to blame
            self._deadline = self.loop.call_later(seconds, self._expire, seconds)
        else:
            self._deadline = None
            self._count_as("slow")
            self.transport.close()
            self._start_write_timer_if_unsent()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, field: str, reason: str) -> None:
        if self.transport.is_closing():
            return
        refusal = invalid(field, reason)
        self._count_as("malformed" if (field, reason) == NOT_HTTP else "too_large")
        self._cancel_deadline()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or cycle.response_started or cycle.scope is not self.scope:
                # The client would take a refusal for the answer to an earlier request, or for a part of it.
                self.transport.close()
                self._start_write_timer_if_unsent()
                return
            self._disconnect_cycles()
        self.transport.write(refusal_bytes(refusal, self.scope, self.server_state.default_headers))
        self.transport.write_eof()
        self.transport.set_protocol(LingeringClose(self))


class FrameProtocol(WriteTimeout, WebSocketsSansIOProtocol):
    """Also sends encoded frames: `{"type": "websocket.send", "frames": bytes}`, any number of them at once.

    An event's frame is the same for every client. Encoding it for each client limited the fan-out: with 1,000 clients 68,000
    deliveries a second in bursts and a p99 latency of 590 ms, instead of 390,000 and 140 ms (bench/fanout.py).
    """

    def data_received(self, data: bytes) -> None:
        """Parse what arrived. Refuse an invalid handshake, which uvicorn would never answer."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self._count_as("malformed")
            self.transport.write(refusal_bytes(invalid(*BAD_HANDSHAKE), None, self.default_headers))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """The handshake is complete."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][FRAMES] = {}

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read, because the pongs would pile up."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """The client does not answer pings."""
        super().keepalive_timeout()
        self._start_write_timer_if_unsent()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has ended. The client gets a limited time for its closing handshake."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._start_write_timer()

    async def send(self, message: Any) -> None:
        """ASGI."""
        frames: bytes | None = message.get("frames")
        if frames is None:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frames)
