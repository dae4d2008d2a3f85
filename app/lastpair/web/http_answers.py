"""How an HTTP answer is written: head and body in one write, and without chunks for HTTP/1.0."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


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
