"""How an HTTP answer is written: head and body in one write, and without chunks for HTTP/1.0."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from lastpair.web.error_codes import MAX_BODY_BYTES
from lastpair.web.requests import headers_of
from lastpair.web.responses import FIXED_HEADERS, Rendered
from lastpair.web.url_paths import SSE_PATHS

CONNECTION = "lastpair.connection"
"""The ASGI extension that gives an event stream its transport and flow control, so that it can write without a task."""

DRAIN_BYTES = 2 * MAX_BODY_BYTES
"""The most bytes of a request's body that are read after its answer has begun."""

DECIDED_BY_UVICORN = frozenset({b"connection", b"transfer-encoding"})
"""Headers that say how the answer ends."""


def with_own_answers(app: ASGI3Application) -> ASGI3Application:
    """The application, for uvicorn's requests to it, whose answers the two classes below write."""

    def run(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        cycle: RequestResponseCycle = send.__self__  # type: ignore[attr-defined] # uvicorn gives a method of its own
        answer = CloseDelimitedAnswer(cycle) if scope["http_version"] == "1.0" else WholeAnswer(cycle)
        if scope["path"] in SSE_PATHS:
            scope.setdefault("extensions", {})[CONNECTION] = cycle.transport, cycle.flow
        return app(scope, receive, answer.send)  # type: ignore[arg-type] # uvicorn's types of ASGI, which are narrower

    return run  # type: ignore[return-value] # the same


STATUS_LINES = {status: line.decode() for status, line in STATUS_LINE.items()}


def head_lines(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The lines of these headers."""
    return "".join([f"{name.decode()}: {value.decode()}\r\n" for name, value in headers])


FIXED_LINES = head_lines(FIXED_HEADERS)


def whole_answer(rendered: Rendered, request_id: str, default_lines: str, *, keep_alive: bool) -> tuple[bytes, ...]:
    """The bytes of an answer that no application sends, in one piece or, if it begins as others do, in three.

    `default_lines` are the headers of every answer, such as Date.
    """
    status, body, headers, shared = rendered
    length = len(shared) + (len(body) if body.isascii() else len(body.encode()))
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
    end = "" if keep_alive else "connection: close\r\n"
    head = (
        f"{STATUS_LINES[status]}{default_lines}content-length: {length}\r\n{FIXED_LINES}{lines}"
        f"x-request-id: {request_id}\r\n{end}\r\n"
    )
    return (head.encode(), shared, body.encode()) if shared else (f"{head}{body}".encode(),)


class WholeAnswer:
    """The answer to a HTTP/1.1 client, with a short way for one that is whole and has a length, as nearly all have.

    uvicorn looks at every header with two regular expressions and three comparisons. All other answers are written by it.
    """

    __slots__ = ("_cycle", "_has_short_head")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._has_short_head = False

    async def send(self, message: Any) -> None:
        """ASGI."""
        cycle = self._cycle
        if not cycle.disconnected and not cycle.flow.write_paused:
            if not cycle.response_started:
                if message["type"] == "http.response.start" and self._start(message):
                    return
            elif self._has_short_head and self._is_rest(message):
                cycle.transport.write(message["body"])
                cycle.expected_content_length = 0
                cycle.response_complete = True
                cycle.message_event.set()
                cycle.on_response()
                return
        await cycle.send(message)

    def _start(self, message: Any) -> bool:
        # Write the head, if its answer has a length and the connection stays open. The names are in lower case, as ASGI wants it.
        cycle = self._cycle
        scope: Any = cycle.scope
        if cycle.more_body and int(headers_of(scope).get(b"content-length", 0)) > DRAIN_BYTES:
            cycle.keep_alive = False  # a proxy that was not told so would use the connection again while it is being closed
        if not cycle.keep_alive or scope["method"] == "HEAD":
            return False
        headers = [*cycle.default_headers, *message.get("headers", ())]
        content = [STATUS_LINE[message["status"]]]
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = value
            elif name in DECIDED_BY_UVICORN:
                return False
            content += (name, b": ", value, b"\r\n")
        content.append(b"\r\n")
        head = b"".join(content)
        # A line more than there are headers is an answer that someone split. uvicorn raises the error.
        if length is None or head.count(b"\n") != len(headers) + 2 or head.count(b"\r") != len(headers) + 2 or b"\0" in head:
            return False
        cycle.response_started = self._has_short_head = True
        cycle.waiting_for_100_continue = cycle.chunked_encoding = False
        cycle.expected_content_length = int(length)
        cycle.transport.write(head)
        return True

    def _is_rest(self, message: Any) -> bool:
        # Whether this is all of the body.
        cycle = self._cycle
        return (
            cycle.keep_alive
            and not cycle.response_complete
            and message["type"] == "http.response.body"
            and not message.get("more_body", False)
            and len(message.get("body", b"")) == cycle.expected_content_length > 0
        )


class CloseDelimitedAnswer:
    """The answer to a HTTP/1.0 client, which does not know chunks. The end of the connection ends an answer without a length."""

    __slots__ = ("_cycle", "_has_length")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._has_length = True

    async def send(self, message: Any) -> None:
        """ASGI."""
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self._cycle.chunked_encoding = False
        elif not self._has_length:
            # A part of the body is as long as it should be.
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._cycle.send(message)


class CoalescedWrites:
    """A transport that sends an answer's head together with its body.

    uvicorn writes the two one after the other, and uvloop sends each write at once. Two system calls, two packets and a client
    that wakes up twice took a tenth of the time of a request.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        """`close` closes the connection when all is sent."""
        self.transport = transport
        """The transport itself. Events of a stream are written to it directly, because nothing of a stream is held back here."""

        self._close = close
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send these bytes, or keep them until the body follows."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and b"\r\ncontent-length: " in data:
            self._head = data
            return
        self.transport.write(data)

    def flush(self) -> None:
        """Send a head that was kept although no body followed."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._close()
