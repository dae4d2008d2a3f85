"""How an HTTP answer is written: head and body in one write, and without chunks for HTTP/1.0."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

DECIDED_BY_UVICORN = frozenset({b"connection", b"transfer-encoding"})
"""Headers that say how the answer ends."""


class WholeAnswerCycle(RequestResponseCycle):
    """A request of an HTTP/1.1 client, with a short way for an answer that is whole and has a length, as nearly all have.

    uvicorn looks at every header with two regular expressions and three comparisons. All other answers are written by it.
    """

    _has_short_head = False

    async def send(self, message: Any) -> None:
        """ASGI."""
        is_open = not self.disconnected and not self.flow.write_paused
        if is_open and not self.response_started and message["type"] == "http.response.start" and self._start(message):
            return
        if is_open and self._has_short_head and self._is_rest(message):
            self.transport.write(message["body"])
            self.expected_content_length = 0
            self.response_complete = True
            self.message_event.set()
            self.on_response()
            return
        await super().send(message)

    def _start(self, message: Any) -> bool:
        # Write the head, if its answer has a length and the connection stays open. The names are in lower case, as ASGI wants it.
        if not self.keep_alive or self.scope["method"] == "HEAD":
            return False
        headers = [*self.default_headers, *message.get("headers", ())]
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
        self.response_started = self._has_short_head = True
        self.waiting_for_100_continue = self.chunked_encoding = False
        self.expected_content_length = int(length)
        self.transport.write(head)
        return True

    def _is_rest(self, message: Any) -> bool:
        # Whether this is all of the body.
        return (
            self.keep_alive
            and not self.response_complete
            and message["type"] == "http.response.body"
            and not message.get("more_body", False)
            and len(message.get("body", b"")) == self.expected_content_length > 0
        )


class CloseDelimitedCycle(RequestResponseCycle):
    """A request of an HTTP/1.0 client, which does not know chunks. The end of the connection ends an answer without a length."""

    _has_length = True

    async def send(self, message: Any) -> None:
        """ASGI."""
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not self._has_length:
                self.chunked_encoding = False
        elif not self._has_length:
            self.expected_content_length = len(message.get("body", b""))  # a part of the body is as long as it should be
        await super().send(message)


class CoalescedWrites:
    """A transport that sends an answer's head together with its body.

    uvicorn writes the two one after the other, and uvloop sends each write at once. Two system calls, two packets and a client
    that wakes up twice took a tenth of the time of a request.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        """`close` closes the connection when all is sent."""
        self._transport = transport
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
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that was kept although no body followed."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.flush()
        self._close()
