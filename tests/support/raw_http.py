"""Bare connections: the bytes of requests and answers, in the form and at the time that a test chooses."""

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.waiting import PATIENCE_SECONDS

GET_HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /api/ws?%b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""A WebSocket handshake, whose query is still to be filled in."""


@contextmanager
def connected(url: str, *, receive_buffer_bytes: int | None = None) -> Iterator[socket.socket]:
    """A TCP connection to the server at this URL."""
    address = urlsplit(url)
    with socket.socket() as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.connect((address.hostname, address.port))
        yield connection


def reset(connection: socket.socket) -> None:
    """Close the connection with RST instead of FIN, as when the client's process is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_answer(connection: socket.socket, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of one answer; its Content-Length counts unless it has no body, as after HEAD."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1) or pytest.fail(f"closed after {received!r}")
    status_line, *lines = received.decode().split("\r\n")[:-2]
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body, length = b"", int(headers.get("content-length", "0")) if has_body else 0
    while len(body) < length:
        body += connection.recv(length - len(body)) or pytest.fail("closed within the body")
    return int(status_line.split()[1]), headers, body


def read_to_the_end(connection: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def talk(url: str, request: bytes) -> bytes:
    """Send these bytes over a connection of their own; returns everything that comes back."""
    with connected(url) as connection:
        connection.sendall(request)
        return read_to_the_end(connection)


def answers_in(received: bytes) -> list[tuple[int, bytes]]:
    """The status and the body of each answer, none of which may be chunked or without a Content-Length."""
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert status, head
        assert length, head
        answers.append((int(status[1]), received[: int(length[1])]))
        received = received[int(length[1]) :]
    return answers
