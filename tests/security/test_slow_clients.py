"""Requests that are too large or too slow, and answers that are not read: they end, and no other client notices."""

import asyncio
import json
import logging
import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from json import dumps
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import uvloop
from prometheus_client import REGISTRY

from lastpair.web import closing, http_protocol
from lastpair.web.http_answers import DRAIN_BYTES
from lastpair.web.http_protocol import MAX_PIPELINED
from tests.support.factories import assert_healthy, make_user
from tests.support.in_process import served, server_for, settings_for, url_of
from tests.support.raw_http import GET_HEALTHZ, connected, read_answer, reset
from tests.support.raw_http import UPGRADE as HANDSHAKE
from tests.support.streams import TRANSPORTS, Stream, open_stream, publish
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

GET = GET_HEALTHZ.removesuffix(b"\r\n")
UPGRADE = (HANDSHAKE % b"snapshot=false").removesuffix(b"\r\n")
LATE = GET_HEALTHZ.replace(b"/healthz", b"/late")
POST = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
SHORT, LONG = 0.8, 3600.0
SOON = 5
"""So many seconds later a limit has an effect, on a busy machine as well."""
MAX_HEAD_BYTES, MAX_URL_BYTES = 32 * 1024, 8 * 1024
SMALL_BUFFER_BYTES = 8192
PING = b"\x89\xfd\0\0\0\0" + bytes(125)
BIG = "x" * 1_000_000


class Server:
    """A small application behind the product's protocols, on a thread of its own."""

    def __init__(self) -> None:
        self.left: list[str] = []
        """The paths of the requests that have ended."""

        self.uvicorn = server_for(self.app, interface="asgi3", loop="uvloop", lifespan="off")
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.uvicorn.serve())

    def __enter__(self) -> "Server":
        self._thread.start()
        wait_for(lambda: self.uvicorn.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.uvicorn.should_exit = self.uvicorn.force_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        """Its URL."""
        return url_of(self.uvicorn)

    def is_alone(self) -> bool:
        """Is no client connected, and no request being answered?"""
        return not self.uvicorn.server_state.connections and not self.uvicorn.server_state.tasks

    def transport(self) -> Any:
        """The transport of the only connection."""
        (connection,) = self.uvicorn.server_state.connections
        return connection.transport

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        try:
            await (self.websocket(receive, send) if scope["type"] == "websocket" else self.http(scope, receive, send))
        finally:
            self.left.append(scope["path"])

    async def websocket(self, receive: Any, send: Any) -> None:
        """Accept the connection, and wait for its end."""
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer by path: /healthz "ok", /length the body's length, /late the same later, /large 64 MB, /rest what fits."""
        path = scope["path"]
        if path == "/late":
            await asyncio.sleep(2.5 * SHORT)
        body, more_body = b"", path in ("/length", "/late")
        while more_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more_body = body + message["body"], message["more_body"]
        if path in ("/large", "/rest"):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
            for _ in range(64_000 if path == "/rest" else 64):
                chunk = bytes(1000 if path == "/rest" else 1_000_000)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if path == "/rest" and self.transport().get_write_buffer_size():
                    break
            await send({"type": "http.response.body", "body": b""})
            return
        answer = b"%d" % len(body) if body else b"ok"
        length = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
def server() -> Iterator[Server]:
    """Such a server."""
    with Server() as server:
        yield server


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets the time limits; those that it is not given are too long to matter."""

    def set_times(*, head: float = LONG, body: float = LONG, stall: float = LONG, linger: float = LONG) -> None:
        monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_SECONDS", head)
        monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_SECONDS", body)
        monkeypatch.setattr(closing, "STALL_SECONDS", stall)
        monkeypatch.setattr(closing, "LINGER_SECONDS", linger)

    set_times()
    return set_times


def seconds_until_closed(connection: socket.socket) -> float:
    """Wait until the server closes the connection, without another byte; returns the seconds that it took."""
    begin = time.monotonic()
    with suppress(ConnectionResetError):
        assert connection.recv(65_536) == b""
    return time.monotonic() - begin


def assert_refused(connection: socket.socket, message: str, request_id: str | None = None) -> None:
    """The server must send the envelope of a 400 with this message, and then close the connection."""
    status, headers, body = read_answer(connection)
    assert (status, headers["connection"], headers["content-type"]) == (400, "close", "application/json")
    answer = json.loads(body)
    assert answer == {
        "success": False,
        "error": {"code": "VALIDATION_ERROR", "message": answer["error"]["message"]},
        "meta": {"requestId": headers["x-request-id"]},
    }
    assert message in answer["error"]["message"]
    assert request_id is None or headers["x-request-id"] == request_id
    assert connection.recv(65_536) == b""


def send(connection: socket.socket, content: bytes, piece_bytes: int | None) -> None:
    """Send this at once, or in pieces with pauses."""
    for start in range(0, len(content), piece_bytes or len(content)):
        connection.sendall(content[start : start + (piece_bytes or len(content))])
        if piece_bytes:
            time.sleep(0.0005)


def head_of(size_bytes: int, begin: bytes = GET) -> bytes:
    """The head of a request, filled up to this size with headers of up to 5,000 bytes."""
    head = begin
    while (rest := size_bytes - 2 - len(head)) > 0:
        line = min(rest, 5000) if rest - 5000 not in range(1, 10) else 4000
        head += b"X: " + b"x" * (line - 5) + b"\r\n"
    assert len(head) + 2 == size_bytes
    return head + b"\r\n"


# Too large


@pytest.mark.parametrize("is_second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("piece_bytes", [None, 900])
@pytest.mark.parametrize("begin", [GET, UPGRADE], ids=["http", "websocket"])
def test_the_largest_head(api_url: str, begin: bytes, piece_bytes: int | None, is_second: bool) -> None:
    """A head may have 32 KiB and not one byte more, in one piece or many, for HTTP or WebSocket, first or second."""
    for size_bytes in (MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1):
        with connected(api_url) as connection:
            if is_second:
                connection.sendall(GET_HEALTHZ)
                assert read_answer(connection)[0] == 200
            send(connection, head_of(size_bytes, begin), piece_bytes)
            if size_bytes > MAX_HEAD_BYTES:
                assert_refused(connection, f"headers: must not be larger than {MAX_HEAD_BYTES} bytes")
            else:
                assert read_answer(connection)[0] == (101 if begin is UPGRADE else 200)


@pytest.mark.parametrize("size_bytes", [MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1])
def test_the_largest_head_behind_a_body(server: Server, size_bytes: int) -> None:
    """The limit of a head does not count bytes of the request before it, even if both are sent together."""
    with connected(server.url) as connection:
        body = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
        connection.sendall(body + GET_HEALTHZ)
        assert [read_answer(connection)[2] for _ in range(2)] == [b"100000", b"ok"]
        head = head_of(size_bytes)
        connection.sendall(body + head[:3000])
        assert read_answer(connection)[2] == b"100000"
        send(connection, head[3000:], 3000)
        if size_bytes > MAX_HEAD_BYTES:
            assert_refused(connection, "headers: ")
        else:
            assert read_answer(connection)[2] == b"ok"


def test_heads_do_not_add_up(server: Server) -> None:
    """The heads of several requests on a connection are not added up."""
    with connected(server.url) as connection:
        for _ in range(5):
            send(connection, head_of(20_000), 5000)
            assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("head", [head_of(100_000), GET.replace(b"z", b"z" * 20_000) + b"\r\n"], ids=["head", "url"])
def test_what_is_too_large_behind_another_request(server: Server, head: bytes) -> None:
    """A request that is too large is not served behind another one, although both are sent at once."""
    received = b""
    with connected(server.url) as connection, suppress(ConnectionResetError):
        connection.sendall(GET_HEALTHZ + head)
        while chunk := connection.recv(65_536):
            received += chunk
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"400"]
    wait_for(server.is_alone)


@pytest.mark.parametrize("piece_bytes", [None, 900])
def test_the_largest_url(api_url: str, piece_bytes: int | None) -> None:
    """A URL may have 8 KiB and not one byte more, the query included."""
    for size_bytes in (MAX_URL_BYTES, MAX_URL_BYTES + 1):
        for begin in (b"/api/drops?cursor=", b"/healthz"):
            with connected(api_url) as connection:
                send(connection, b"GET " + begin.ljust(size_bytes, b"q") + b" HTTP/1.1\r\nHost: x\r\n\r\n", piece_bytes)
                if size_bytes > MAX_URL_BYTES:
                    assert_refused(connection, f"URL: must not be larger than {MAX_URL_BYTES} bytes")
                else:
                    status, _, body = read_answer(connection)
                    assert (status, b"URL" in body) == (404 if begin == b"/healthz" else 400, False)


@pytest.mark.parametrize("begin", [b"GET /", GET + b"X: ", GET + b"X", b"\r\n", GET + b"X: y\r\n", b"G"])
def test_a_head_without_end(server: Server, begin: bytes) -> None:
    """A head without end is refused at the limit; the client can read that, even if it goes on sending for a while."""
    filler = b"X: y\r\n" * 10_000 if begin.endswith(b"y\r\n") else b"\r\n" * 30_000 if begin == b"\r\n" else b"x" * 60_000
    with connected(server.url) as connection:
        connection.sendall(begin)
        for _ in range(100):
            connection.sendall(filler)
        message = "request: " if begin == b"G" else "URL: " if begin == b"GET /" else "headers: "
        assert_refused(connection, message)
    wait_for(server.is_alone)


def test_a_client_that_goes_on_sending_is_cut_off(server: Server, times: Callable[..., None]) -> None:
    """A client that goes on sending after the refusal is cut off after a while."""
    times(linger=SHORT)
    with connected(server.url) as connection:
        begin = time.monotonic()
        with pytest.raises(ConnectionError):  # noqa: PT012
            while time.monotonic() < begin + 10:
                connection.sendall(bytes(100_000))
        assert time.monotonic() - begin > SHORT / 2
    wait_for(server.is_alone)


@pytest.mark.parametrize(("length", "connection_header"), [(DRAIN_BYTES, None), (DRAIN_BYTES + 1, "close")])
def test_a_body_that_is_not_read(api_url: str, length: int, connection_header: str | None) -> None:
    """An answer that comes before a body too large to be read says that the connection closes, so no proxy uses it again."""
    with connected(api_url) as connection:
        connection.sendall(b"POST /api/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n{" % length)
        status, headers, _ = read_answer(connection)
        assert (status, headers.get("connection")) == (404, connection_header)


CHUNKED = b"POST %s HTTP/1.1\r\nHost: x\r\nX-User-Name: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("begin", [b"0\r\nX: ", b"0\r\n", b"2\r\n{}\r\n0\r\nX: y\r\nY: ", b"2;a=", b'2;a="'])
def test_trailers_are_no_way_round(api_url: str, begin: bytes) -> None:
    """Trailers and the extensions of chunks have the limit that heads have."""
    filler = b"X: y\r\n" * 10_000 if begin == b"0\r\n" else b"x" * 60_000
    with connected(api_url) as connection:
        connection.sendall(CHUNKED % b"/api/internal/expire-now" + begin)
        for _ in range(20):
            connection.sendall(filler)
        assert_refused(connection, "body: must not have trailers")


def test_small_chunks_are_no_trailers(server: Server) -> None:
    """A body may come in chunks of a byte, however many, and with trailers within the limit."""
    with connected(server.url) as connection:
        connection.sendall(CHUNKED % b"/length" + b"1;a=b\r\nx\r\n" * 50_000 + b"0\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
        assert read_answer(connection)[2] == b"50000"
        connection.sendall(GET_HEALTHZ)
        assert read_answer(connection)[2] == b"ok"


def test_trailers_are_no_headers(api_url: str) -> None:
    """A trailer does not count as a header, because a proxy that checks headers does not look there."""
    user = b"0190b6c5-7d3e-7abc-9def-0123456789ab"
    body = b'{"name": "A", "price": 1, "total_stock": 1}'
    for is_trailer in (True, False):
        header = b"X-User-Id: %b\r\n" % user
        head = CHUNKED % b"/api/drops"
        with connected(api_url) as connection:
            chunks = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, header if is_trailer else b"")
            connection.sendall((head if is_trailer else head.replace(b"\r\n", b"\r\n" + header, 1)) + chunks)
            assert read_answer(connection)[0] == (401 if is_trailer else 201)


@pytest.mark.parametrize("begin", [b"nonsense\r\n", GET + b"X-Request-Id: mine-1\r\nX: y\r\nZ y\r\n"], ids=["all", "header"])
def test_bytes_that_are_not_http(server: Server, begin: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are not HTTP get the envelope, with the request id if it can be read, and leave no line in the log."""
    with caplog.at_level(logging.INFO), connected(server.url) as connection:
        connection.sendall(begin)
        assert_refused(connection, "request: is not", "mine-1" if b"mine" in begin else None)
    wait_for(server.is_alone)
    assert [record.message for record in caplog.records if record.name == "uvicorn.error"] == []


@pytest.mark.parametrize("behind", [b"nonsense\r\n\r\n", head_of(MAX_HEAD_BYTES + 1)], ids=["nonsense", "large"])
def test_a_refusal_is_no_answer_to_an_earlier_request(server: Server, behind: bytes) -> None:
    """A bad request behind one that is not answered yet is refused after that answer."""
    with connected(server.url) as connection:
        connection.sendall(LATE + behind)
        assert read_answer(connection)[2] == b"ok"
        assert_refused(connection, "")
    wait_for(server.is_alone)


@pytest.mark.parametrize("line", [b"X: " + b"x" * 9000, b"\r\n".join([b"X: y"] * 200)])
def test_a_bad_handshake(server: Server, line: bytes) -> None:
    """A handshake with too large or too many headers is refused with an answer."""
    with connected(server.url) as connection:
        connection.sendall(UPGRADE + line + b"\r\n\r\nx")
        assert_refused(connection, "WebSocket handshake: ")
    wait_for(server.is_alone)


def test_too_many_requests_at_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Up to a limit, requests may come before the first is answered; they are answered in order. More end the connection."""
    with connected(server.url) as connection:
        connection.sendall(LATE + GET_HEALTHZ * (MAX_PIPELINED - 1))
        assert [read_answer(connection)[2] for _ in range(MAX_PIPELINED)] == [b"ok"] * MAX_PIPELINED
        connection.sendall(LATE + GET_HEALTHZ * 3000)
        received = b""
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
        assert received.count(b"HTTP/1.1 200") < MAX_PIPELINED
    wait_for(server.is_alone)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


# Too slow


def test_a_client_that_says_nothing(server: Server, times: Callable[..., None]) -> None:
    """A client that sends nothing is cut off, and counted."""
    times(head=SHORT)
    before = cut_off("slow")
    begin = time.monotonic()
    with connected(server.url) as connection:
        seconds_until_closed(connection)
        assert SHORT - 0.1 < time.monotonic() - begin < SHORT + SOON
    wait_for(server.is_alone)
    assert cut_off("slow") == before + 1


def cut_off(reason: str) -> float:
    """The number of connections that were cut off for this reason."""
    return REGISTRY.get_sample_value("lastpair_connections_cut_off_total", {"reason": reason}) or 0


def dribble(connection: socket.socket, first: bytes, content: Iterator[bytes]) -> float:
    """Send a piece every now and then until the server closes the connection; returns the seconds that it took."""
    begin = time.monotonic()
    connection.sendall(first)
    connection.settimeout(0.02)
    while time.monotonic() < begin + 10:
        try:
            connection.sendall(next(content))
            if connection.recv(65_536) == b"":
                break
        except TimeoutError:
            pass
        except ConnectionError:
            break
    return time.monotonic() - begin


def each_byte(begin: bytes) -> Iterator[bytes]:
    """These bytes one by one, and then x without end."""
    for byte in begin:
        yield bytes([byte])
    while True:
        yield b"x"


@pytest.mark.parametrize("is_second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("begin", [b"GET /", GET + b"X: ", UPGRADE + b"X: "], ids=["line", "header", "websocket"])
def test_a_head_that_dribbles(server: Server, times: Callable[..., None], begin: bytes, is_second: bool) -> None:
    """A head that comes a byte at a time is cut off in time, although the client is never silent for long."""
    times(head=SHORT)
    with connected(server.url) as connection:
        if is_second:
            for _ in range(3):
                connection.sendall(GET_HEALTHZ)
                assert read_answer(connection)[0] == 200
                time.sleep(SHORT / 2)
            time.sleep(SHORT * 1.5)  # an idle connection is uvicorn's affair, and it waits longer
        assert SHORT - 0.1 < dribble(connection, begin[:20], each_byte(begin[20:])) < SHORT + SOON
    wait_for(server.is_alone)


def test_empty_lines_are_no_request(server: Server, times: Callable[..., None]) -> None:
    """Empty lines before a request do not keep a connection open, neither the first nor a later one."""
    times(head=SHORT)
    for begin in (b"", GET_HEALTHZ):
        with connected(server.url) as connection:
            connection.sendall(begin)
            if begin:
                assert read_answer(connection)[0] == 200
            assert dribble(connection, b"\r\n", iter(lambda: b"\r\n", b"")) < SHORT + SOON
    wait_for(server.is_alone)


@pytest.mark.parametrize("begin", [POST[:-2] + b"X: y\r\n\r\n", CHUNKED % b"/length" + b"f\r\n"], ids=["length", "chunked"])
def test_a_body_that_dribbles(server: Server, times: Callable[..., None], begin: bytes) -> None:
    """A body that comes a byte at a time is cut off in time, and the application is told."""
    times(head=SHORT, body=2 * SHORT)
    with connected(server.url) as connection:
        assert 2 * SHORT - 0.1 < dribble(connection, begin, iter([b"x"] * 3 + [b""] * 1000)) < 2 * SHORT + SOON
    wait_for(server.is_alone)
    assert server.left == ["/length"]


def test_slow_but_not_too_slow(server: Server, times: Callable[..., None]) -> None:
    """Each request has all of the time for itself, however many there are on a connection."""
    times(head=4 * SHORT, body=4 * SHORT)
    with connected(server.url) as connection:
        for _ in range(2):
            connection.sendall(POST[:10])
            time.sleep(2.25 * SHORT)
            connection.sendall(POST[10:] + b"x")
            time.sleep(2.25 * SHORT)
            connection.sendall(b"x" * 9)
            assert read_answer(connection)[2] == b"10"


def test_the_application_may_be_slow(server: Server, times: Callable[..., None]) -> None:
    """A client is not cut off because the application is slow to answer or to read."""
    times(head=SHORT, body=SHORT)
    for size_bytes in (0, 10, 2_000_000):
        with connected(server.url) as connection:
            head = b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size_bytes
            sending = threading.Thread(target=connection.sendall, args=(head + bytes(size_bytes),))
            sending.start()
            assert read_answer(connection)[2] == (b"%d" % size_bytes if size_bytes else b"ok")
            sending.join()


def test_hundreds_of_slow_clients(server: Server, times: Callable[..., None]) -> None:
    """Hundreds of slow clients do not slow another one down, and are cut off."""
    times(head=10, body=10)

    def usual_seconds() -> float:
        seconds = []
        with connected(server.url) as connection:
            for _ in range(200):
                begin = time.perf_counter()
                connection.sendall(GET_HEALTHZ)
                assert read_answer(connection)[0] == 200
                seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)

    before = usual_seconds()
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server.url)) for _ in range(400)]
        for n, connection in enumerate(slow):
            connection.sendall([b"", b"G", GET, POST][n % 4])
        wait_for(lambda: len(server.uvicorn.server_state.connections) == len(slow))
        for connection in slow[2::4]:
            connection.sendall(b"X: y\r\n")
        assert min(usual_seconds() for _ in range(3)) < 3 * before + 0.005
        wait_for(server.is_alone)
        for connection in slow:
            seconds_until_closed(connection)


# Not read


@pytest.mark.parametrize("path", [b"/large", b"/rest"])
def test_an_answer_that_is_not_read(server: Server, times: Callable[..., None], path: bytes) -> None:
    """An answer that is not read ends after a while, be it much of it or a last piece that the application has sent."""
    times(stall=SHORT)
    before = cut_off("unread")
    with connected(server.url, receive_buffer_bytes=SMALL_BUFFER_BYTES) as connection:
        begin = time.monotonic()
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        wait_for(lambda: server.left and server.is_alone())
        assert time.monotonic() - begin > SHORT - 0.1
    assert cut_off("unread") == before + 1


def test_an_answer_that_is_read_in_the_end(server: Server, times: Callable[..., None]) -> None:
    """A client that pauses for less than the limit gets all of the answer; its pauses are not added up."""
    times(stall=2)
    with connected(server.url, receive_buffer_bytes=SMALL_BUFFER_BYTES) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        for _ in range(5):
            time.sleep(0.5)
            for _ in range(100):
                received += len(connection.recv(65_536))
        while chunk := connection.recv(1_000_000):
            received += len(chunk)
        assert received > 64_000_000


def test_pongs_that_are_not_read(server: Server) -> None:
    """Pongs are not kept in memory for a client that sends pings and does not read."""
    with connected(server.url, receive_buffer_bytes=SMALL_BUFFER_BYTES) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        assert read_answer(connection)[0] == 101
        for _ in range(10):
            connection.sendall(PING * 8000)
        assert server.transport().get_write_buffer_size() < 1_000_000
        reset(connection)
    wait_for(server.is_alone)


def test_a_websocket_behind_an_answer_that_is_not_read(server: Server) -> None:
    """A WebSocket behind an unread answer is not opened: it would get that answer's notices about the connection."""
    for earlier in (b"/late", b"/large"):
        with connected(server.url, receive_buffer_bytes=SMALL_BUFFER_BYTES) as connection:
            connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % earlier + UPGRADE + b"\r\n")
            wait_for(lambda earlier=earlier: earlier.decode() in server.left)  # type: ignore[misc]
            wait_for(server.is_alone)
    assert server.left == ["/late", "/large"]


async def test_streams_that_are_not_read(own_database_url: str, times: Callable[..., None]) -> None:
    """Streams that are not read end on both transports, and their slots are free; a stream that is read stays."""
    times(stall=3)
    async with served(settings_for(own_database_url)) as service, asyncpg.create_pool(own_database_url, min_size=1) as owner:
        drop_id = await owner.fetchval("select id from api.create_drop('A', 1, 5, $1, now())", UUID(await make_user(owner)))
        reading = [await open_stream(name, service.url) for name in TRANSPORTS]
        stuck = [await open_stream(name, service.url, receive_buffer_bytes=SMALL_BUFFER_BYTES) for name in TRANSPORTS * 3]
        await service.has_streams(8)
        await publish(owner, drop_id, "BIG", [dumps({"dropId": str(drop_id), "filler": BIG})] * 20)

        async def read(stream: Stream) -> None:
            while (await stream.receive()).type != "BIG":
                pass
            for _ in range(19):
                await stream.receive()

        await asyncio.gather(*map(read, reading))
        await service.has_streams(2)
        await publish(owner, drop_id, "LAST", [dumps({"dropId": str(drop_id)})])
        for stream in reading:
            assert (await stream.receive()).type == "LAST"
        await service.has_subscribers(2)
        for stream in [*reading, *stuck]:
            await stream.close()
        await assert_healthy(owner)
