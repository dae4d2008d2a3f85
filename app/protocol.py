"""HTTP and WebSocket as uvicorn speaks them, but for what endless answers to many clients ask for, and clients that misbehave.

A request that is not whole has a largest size, and a time to become so; what is sent to a client has a time to be read in. Beyond
these its connection is closed, so that memory and places come back.
"""

import asyncio
import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade
from starlette.requests import HTTPConnection
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request

from app.context import REQUEST_ID
from app.http import Refusal, failure, header, invalid
from app.metrics import CUT_OFF

FRAMES = "lastpair.frames"
"""The ASGI extension by which an application knows of `FrameProtocol`."""

STREAM_PATHS = frozenset({"/api/events", "/api/v1/events"})

MAX_HEAD_BYTES = 32 * 1024
"""The request line and all headers, and apart from them the trailers of a body."""

MAX_URL_BYTES = 8 * 1024
FEED_BYTES = 4 * 1024
"""What is parsed at once, so that it is known about where a head begins. Not more than half of MAX_URL_BYTES."""

MAX_PIPELINED = 100
"""How many requests of a connection may wait for the answer to the one before them."""

HEAD_TIMEOUT_SECONDS = 10
BODY_TIMEOUT_SECONDS = 30
STALL_SECONDS = 60
"""How long a client may leave unread what is sent to it."""

LINGER_SECONDS = 2
"""How long a client that sends what is refused unread may go on sending before it has read so."""

NOT_HTTP = "request", "is not well-formed HTTP/1.1"
HEAD_TOO_LARGE = "headers", f"must not be larger than {MAX_HEAD_BYTES} bytes, the request line included"
TRAILERS_TOO_LARGE = "body", f"must not have trailers or chunk extensions larger than {MAX_HEAD_BYTES} bytes"
URL_TOO_LARGE = "URL", f"must not be larger than {MAX_URL_BYTES} bytes"
BAD_HANDSHAKE = (
    "WebSocket handshake",
    f"must have at most {MAX_NUM_HEADERS} headers, none of them larger than {MAX_LINE_LENGTH} bytes, and no body",
)


def refusal_bytes(refusal: Refusal, scope: Any, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The answer to a request that no application gets to see, the last one on its connection."""
    given = scope and header(scope, b"x-request-id")
    request_id = given if given and REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
    response = failure(HTTPConnection({"type": "http", "request_id": request_id}), refusal)
    head = [*headers, *response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
    lines = [b"%b: %b\r\n" % line for line in head]
    return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])


class _TooLarge(Exception):
    """A head is; the field and the reason."""


class _Patience(asyncio.Protocol):
    """Cuts off a client that does not read what is sent to it.

    TCP_USER_TIMEOUT would do so, too, but also to a client that does read, only slower than there is something to send.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _stall: asyncio.TimerHandle | None = None
    _is_counted = False

    def _count_as(self, reason: str) -> None:
        """Count the connection among those that are cut off; for the first reason there is."""
        if not self._is_counted:
            self._is_counted = True
            CUT_OFF.labels(reason).inc()

    def pause_writing(self) -> None:
        """More is unsent than the transport cares to have."""
        super().pause_writing()
        self._lose_patience()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._be_calm()
        if self.transport.is_closing():
            self._see_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._be_calm()
        super().connection_lost(exc)

    def _see_off(self) -> None:
        # The connection is closed as soon as the rest is sent, of which the transport tells nothing when it is little.
        if self.transport.get_write_buffer_size():
            self._lose_patience()

    def _lose_patience(self) -> None:
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._count_as("unread")
        self.transport.abort()

    def _be_calm(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class _Deafness(asyncio.Protocol):
    """Ignores what a client goes on sending until it has read a refusal. Closed with something unread, TCP would lose that."""

    def __init__(self, protocol: "StreamProtocol") -> None:
        self._protocol = protocol
        self._timer = protocol.loop.call_later(LINGER_SECONDS, protocol.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._timer.cancel()
        self._protocol.connection_lost(exc)


class _Answers:
    """The transport as answers are written to it: a head that promises a body is sent together with that.

    uvicorn writes them one after the other, and uvloop sends what is written at once: two system calls, two packets, and a client
    that wakes up twice, which took a tenth of the time of a request.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send this, or keep it for what follows."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and b"\r\ncontent-length: " in data:
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send what was kept: there was no body, after all."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._transport.close()


class StreamProtocol(_Patience, HttpToolsProtocol):
    """Sends answers whole, refuses heads that are too large, closes connections on which a request does not come to its end.

    Cuts off a client that sends another request on a connection whose event stream is open: that request would wait for ever; and
    of slowness uvicorn would tell only the WebSocket it may ask to become, so that what its client does not read would pile up.
    """

    _unread_bytes = 0  # fed to the parser since it last told of something whole, give or take what was fed together with that
    _unanswered: Sequence[RequestResponseCycle] = ()  # the requests before the latest, and some that were answered since
    _answers: _Answers
    _deadline: asyncio.TimerHandle | None = None
    _awaited: object = None  # what the deadline is for: a request's scope, for its head; its cycle, for its body; None: the first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._answers = _Answers(transport)
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._expire, HEAD_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._cancel_deadline()
        self._give_up_answers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something has come. In place of uvicorn's, which logs a warning for each request that is not HTTP."""
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
            self._await_rest()
        elif self._deadline is not None:
            self._cancel_deadline()

    def on_headers_complete(self) -> None:
        """A request has come."""
        if self._unread_bytes > FEED_BYTES:
            self._check_head()
        self._unread_bytes = 0
        running = self.cycle
        super().on_headers_complete()
        if self.cycle is not running:
            self.cycle.transport = self._answers  # type: ignore[assignment] # it has what a cycle asks of one
            self.headers = []  # for trailers, which are none of the request's headers
        if running is not None and not running.response_complete:
            self._unanswered = [cycle for cycle in (*self._unanswered, running) if not cycle.response_complete]
            if running.scope["path"] in STREAM_PATHS or len(self._unanswered) > MAX_PIPELINED:
                self._cut_off()

    def on_body(self, body: bytes) -> None:
        """A part of a request's body has come."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """A request is answered."""
        self._answers.flush()
        super().on_response_complete()
        if self.transport.is_closing():
            self._see_off()

    def timeout_keep_alive_handler(self) -> None:
        """No other request has come."""
        super().timeout_keep_alive_handler()
        self._see_off()

    def handle_websocket_upgrade(self) -> None:
        """The request was one for a WebSocket. Cuts off a client that has not taken the answer to an earlier one."""
        if self.cycle is not None and (not self.cycle.response_complete or self.flow.write_paused):
            self._cut_off()
        elif not self.transport.is_closing():
            self._cancel_deadline()
            super().handle_websocket_upgrade()

    def _is_listening(self) -> bool:
        return not self.transport.is_closing() and self.transport.get_protocol() is self

    def _cut_off(self) -> None:
        self._count_as("out_of_turn")
        self._give_up_answers()
        self.transport.abort()

    def _give_up_answers(self) -> None:
        # uvicorn tells only the latest request of the client's leaving.
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

    def _await_rest(self) -> None:
        # What has come ends within a request, or between two.
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
        if self.flow.read_paused:  # so it is this process that is late
            self._deadline = self.loop.call_later(seconds, self._expire, seconds)
        else:
            self._deadline = None
            self._count_as("slow")
            self.transport.close()
            self._see_off()

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
                self.transport.close()  # the client would take this for the answer to an earlier request, or for a part of it
                self._see_off()
                return
            self._give_up_answers()
        self.transport.write(refusal_bytes(refusal, self.scope, self.server_state.default_headers))
        self.transport.write_eof()
        self.transport.set_protocol(_Deafness(self))


class FrameProtocol(_Patience, WebSocketsSansIOProtocol):
    """Also sends frames that are ready to go: `{"type": "websocket.send", "frames": bytes}`, any number of them at once.

    An event's frame is the same for every client. Making it anew for each is what limited the fan-out: with 1,000 clients 68,000
    deliveries a second in bursts and a p99 latency of 590 ms, instead of 390,000 and 140 ms (bench/fanout.py).
    """

    def data_received(self, data: bytes) -> None:
        """Something has come. Refuses a handshake that is none; uvicorn would leave it without an answer for ever."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self._count_as("malformed")
            self.transport.write(refusal_bytes(invalid(*BAD_HANDSHAKE), None, self.default_headers))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """The handshake has come."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][FRAMES] = {}

    def handle_ping(self) -> None:
        """A ping has come. Whoever does not read gets no more pongs, which would pile up."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """The client does not answer pings."""
        super().keepalive_timeout()
        self._see_off()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done; the client may have to say goodbye yet."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._lose_patience()

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
