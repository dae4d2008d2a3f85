"""How an answer leaves: head and body in one piece."""

import socket
from urllib.parse import urlsplit

import pytest

TIMES = 100


def ask(connection: socket.socket, request: str) -> bytes:
    """What comes back at first."""
    connection.sendall(f"{request} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return connection.recv(2**20)


@pytest.fixture
def connection(api_url: str) -> socket.socket:
    """One to the server, for many requests."""
    url = urlsplit(api_url)
    return socket.create_connection((url.hostname or "", url.port or 0), timeout=5)


@pytest.mark.parametrize("path", ["/healthz", "/dashboard/icon.svg", "/api/nothing"])
def test_head_and_body_together(connection: socket.socket, path: str) -> None:
    """The client wakes up once for an answer: it never sees a head whose body is yet to come."""
    with connection:
        for _ in range(TIMES):
            head, end, body = ask(connection, f"GET {path}").partition(b"\r\n\r\n")
            assert end
            assert f"\r\ncontent-length: {len(body)}\r\n".encode() in head + b"\r\n"
            assert body


def test_a_head_alone(connection: socket.socket) -> None:
    """Of an answer that promises a body and has none, HEAD's, the head comes when the answer is over."""
    with connection:
        for _ in range(TIMES):
            answer = ask(connection, "HEAD /healthz")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"content-length: " in answer
            assert answer.endswith(b"\r\n\r\n")


def test_a_head_alone_and_last(connection: socket.socket) -> None:
    """So it does when the connection closes after it."""
    with connection:
        answer = ask(connection, "HEAD /healthz HTTP/1.1\r\nConnection: close\r\nX:")
        while more := connection.recv(2**20):
            answer += more
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")


def test_answers_in_order(connection: socket.socket) -> None:
    """Of requests that did not wait for one another, each answer is whole and in its place."""
    paths = ["GET /healthz", "HEAD /healthz", "GET /api/nothing", "HEAD /api/drops", "GET /healthz"] * 10
    with connection:
        requests = [f"{path} HTTP/1.1\r\nHost: a\r\n" for path in paths]
        connection.sendall("\r\n".join([*requests[:-1], f"{requests[-1]}Connection: close\r\n\r\n"]).encode())
        received = b""
        for path in paths:
            while b"\r\n\r\n" not in received:
                received += connection.recv(2**20)
            head, _, received = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 " if path.endswith("/nothing") else b"HTTP/1.1 200 ")
            if path.startswith("GET"):
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                while len(received) < length:
                    received += connection.recv(2**20)
                received = received[length:]
        assert received + connection.recv(1) == b""
