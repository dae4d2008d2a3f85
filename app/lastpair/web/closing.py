"""How a connection ends before its client wants it: the last answer, and a limit for clients that do not read it.

A client must take what is sent to it at a least rate. Otherwise the connection is closed, so that its memory and its stream slot
are free again. The HTTP and the WebSocket protocol share this.
"""

import asyncio
import socket
import struct
from typing import Any

from starlette.requests import HTTPConnection

from lastpair.errors import Refusal
from lastpair.observability.metrics import CUT_OFF
from lastpair.web.http_answers import head_lines, whole_answer
from lastpair.web.requests import request_id_of
from lastpair.web.responses import rendered_refusal

STALL_SECONDS = 60
LEAST_BYTES_PER_SECOND = 256
"""A client that takes fewer bytes than this, on average over STALL_SECONDS, while more wait for it is cut off."""

LINGER_SECONDS = 2
"""How long a connection stays open after a refusal, so that a client that is still sending can read it."""

LINGER_PAUSE_SECONDS = 0.01
"""The pause between two reads of up to 256 KiB meanwhile."""


def refusal_bytes(refusal: Refusal, scope: Any, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The answer to a request that never reaches the application. It is the last one on its connection."""
    request_id = request_id_of(scope or {"headers": ()})
    rendered = rendered_refusal(HTTPConnection({"type": "http", "request_id": request_id}), refusal)
    return b"".join(whole_answer(rendered, request_id, head_lines(headers), keep_alive=False))


def taken_bytes(transport: asyncio.Transport) -> int:
    """A number that grows by each byte that the client's side of the connection takes.

    It is what TCP says was acknowledged (on Linux since 4.1). Elsewhere it is what the transport could not hand over to the
    system yet, as a negative number.
    """
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        (acknowledged_bytes,) = struct.unpack_from("Q", info, 120)  # tcpi_bytes_acked
    except (AttributeError, OSError, struct.error):
        acknowledged_bytes = 0
    return acknowledged_bytes or -transport.get_write_buffer_size()


class WriteTimeout(asyncio.Protocol):
    """Cuts off a client that does not take what is sent to it.

    The limit is for idle clients: a client that takes LEAST_BYTES_PER_SECOND may take as long as it needs. TCP_USER_TIMEOUT is
    not used, because it also cuts off a client that reads, but more slowly than the server has bytes to send.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _write_timer: asyncio.TimerHandle | None = None
    _is_counted = False
    # When the client had last taken enough, and what taken_bytes said then.
    _took_at = 0.0
    _had_taken = 0

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
            self._took_at, self._had_taken = self.loop.time(), taken_bytes(self.transport)
            self._write_timer = self.loop.call_later(STALL_SECONDS / 4, self._abort_unread)

    def _abort_unread(self) -> None:
        if self._takes_bytes():
            self._write_timer = self.loop.call_later(STALL_SECONDS / 4, self._abort_unread)
        else:
            self._write_timer = None
            self._count_as("unread")
            self.transport.abort()

    def _takes_bytes(self) -> bool:
        """Whether the client took bytes at the least rate at some time in the last STALL_SECONDS."""
        now, taken = self.loop.time(), taken_bytes(self.transport)
        if taken - self._had_taken >= LEAST_BYTES_PER_SECOND * STALL_SECONDS:
            self._took_at, self._had_taken = now, taken
        return now - self._took_at < STALL_SECONDS

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _linger(self) -> asyncio.TimerHandle:
        """Close the connection so that a client that is still sending can read the last answer."""
        self.transport.write_eof()
        protocol = self.transport.get_protocol()
        return (protocol if isinstance(protocol, LingeringClose) else self._discard_input()).start_timer()

    def _discard_input(self) -> "LingeringClose":
        """Read no more of what the client sends. The connection stays open for answers."""
        lingering = LingeringClose(self)
        self.transport.set_protocol(lingering)
        self.transport.resume_reading()
        return lingering


class LingeringClose(asyncio.Protocol):
    """Discards what a refused client still sends, and closes the connection LINGER_SECONDS after the refusal.

    If a socket is closed with unread input, TCP sends RST and the client loses the answer.
    """

    def __init__(self, protocol: WriteTimeout) -> None:
        self._protocol = protocol
        self.timer: asyncio.TimerHandle | None = None

    def start_timer(self) -> asyncio.TimerHandle:
        """The last answer was written, so the client has LINGER_SECONDS to read it. Returns the timer."""
        self.timer = self._protocol.loop.call_later(LINGER_SECONDS, self._end)
        return self.timer

    def data_received(self, data: bytes) -> None:
        """Discard what arrived. The pause before the next read keeps a client that sends without end from costing much."""
        self._protocol.transport.pause_reading()
        self._protocol.loop.call_later(LINGER_PAUSE_SECONDS, self._read_on)

    def pause_writing(self) -> None:
        """The transport's buffer is full of earlier answers."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The client has read enough of them."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self.timer is not None:
            self.timer.cancel()
        self._protocol.connection_lost(exc)

    def _read_on(self) -> None:
        if not self._protocol.transport.is_closing():
            self._protocol.transport.resume_reading()

    def _end(self) -> None:
        transport = self._protocol.transport
        if transport.get_write_buffer_size():
            transport.close()  # when the rest is sent
            self._protocol._start_write_timer()
        else:
            transport.abort()
