"""How an answer is sent: its head together with its body, and in the order of the requests."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.raw_http import connected, read_answer, read_to_the_end

TIMES = 100


@pytest.fixture
def connection(api_url: str) -> Iterator[socket.socket]:
    """A connection for many requests."""
    with connected(api_url) as connection:
        yield connection


def ask(connection: socket.socket, request: str) -> bytes:
    """What one read of the socket gets after this request."""
    connection.sendall(f"{request} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return connection.recv(2**20)


@pytest.mark.parametrize("path", ["/healthz", "/dashboard/icon.svg", "/api/nothing"])
def test_head_and_body_together(connection: socket.socket, path: str) -> None:
    """A client gets the head and the body of an answer in one read, so that it wakes up once."""
    for _ in range(TIMES):
        head, end, body = ask(connection, f"GET {path}").partition(b"\r\n\r\n")
        assert end
        assert f"\r\ncontent-length: {len(body)}\r\n".encode() in head + b"\r\n"
        assert body


def test_a_head_alone(connection: socket.socket) -> None:
    """The answer to HEAD promises a body and has none; its head comes nevertheless, also when the connection closes after it."""
    for _ in range(TIMES):
        answer = ask(connection, "HEAD /healthz")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: " in answer
        assert answer.endswith(b"\r\n\r\n")
    answer = ask(connection, "HEAD /healthz HTTP/1.1\r\nConnection: close\r\nX:") + read_to_the_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


def test_answers_in_order(connection: socket.socket) -> None:
    """Requests may be sent without waiting for answers; each answer is whole and in its place."""
    requests = ["GET /healthz", "HEAD /healthz", "GET /api/nothing", "HEAD /api/drops", "GET /healthz"] * 10
    sent = [f"{request} HTTP/1.1\r\nHost: a\r\n\r\n" for request in requests]
    sent[-1] = sent[-1].replace("Host", "Connection: close\r\nHost")
    connection.sendall("".join(sent).encode())
    for request in requests:
        status, headers, body = read_answer(connection, has_body=request.startswith("GET"))
        assert status == (404 if request.endswith("/nothing") else 200)
        assert len(body) == (int(headers["content-length"]) if request.startswith("GET") else 0)
    assert read_to_the_end(connection) == b""
