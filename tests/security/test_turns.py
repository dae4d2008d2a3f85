"""What one client can ask for at once is bounded, and what it cannot help is not held against it."""

import asyncio
import gc
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.requests import Request
from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from websockets.frames import Frame, Opcode

from lastpair.errors import Refusal
from lastpair.web import closing, handlers, http_protocol, requests, turns, websocket_protocol
from lastpair.web.http_protocol import HttpProtocol
from lastpair.web.schemas import NewDrop
from lastpair.web.websocket_protocol import WebSocketProtocol
from tests.support.in_process import server_for, url_of
from tests.support.raw_http import GET_HEALTHZ, UPGRADE
from tests.support.waiting import eventually

CHUNKED = b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
GET_LARGE = GET_HEALTHZ.replace(b"healthz", b"large")
MASK = b"\0\0\0\0"
PING, PONG, TEXT, BINARY = (bytes([0x80 | opcode, 0x80]) + MASK for opcode in (9, 10, 1, 2))
FIRST, EMPTY, LAST = (bytes([opcode, 0x80]) + MASK for opcode in (1, 0, 0x80))
"""The frames of a message: the first fragment, a fragment, and the last one; all without data."""


class Application:
    """Answers each request by its path, and keeps the messages of WebSocket clients."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.failures: list[BaseException] = []
        self.clients_left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        try:
            await (self.websocket(scope, receive, send) if scope["type"] == "websocket" else self.http(scope, receive, send))
        except BaseException as failure:
            self.failures.append(failure)
            raise

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        """Accept the connection and take its messages; of the query `large`, send a megabyte again and again."""
        await receive()
        await send({"type": "websocket.accept"})
        sending = asyncio.create_task(self.send_large(send)) if scope["query_string"] == b"large" else None
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                text = message.get("text")
                self.messages.append(message["bytes"] if text is None else text)
        finally:
            self.clients_left += 1
            if sending:
                sending.cancel()

    async def send_large(self, send: Any) -> None:
        """Send frames without end."""
        frames = Frame(Opcode.BINARY, bytes(1_000_000)).serialize(mask=False)
        while True:
            await send({"type": "websocket.send", "frames": frames})

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        """/length: the length of the body; /late: the same, 1.5 seconds later; /large: 64 MB; /close: the last answer of its
        connection; /api/events: a stream without events; else an answer that does not wait for the body."""
        path, length, more_body = scope["path"], 0, scope["path"] in ("/length", "/late")
        if path == "/late":
            await asyncio.sleep(1.5)
        while more_body:
            message = await receive()
            length, more_body = length + len(message.get("body", b"")), message.get("more_body", False)
        body = b"%d" % length if length else bytes(64_000_000) if path == "/large" else b"no"
        headers = [(b"content-length", b"%d" % len(body))] + [(b"connection", b"close")] * (path == "/close")
        if path == "/api/events":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(body), 1_000_000):
            await send({"type": "http.response.body", "body": body[start : start + 1_000_000], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def application() -> Application:
    """Such an application."""
    return Application()


@pytest.fixture
async def server(application: Application) -> AsyncIterator[Server]:
    """A server of the product's protocols for it. No connection may be left in the end, and no exception."""
    server = server_for(application, interface="asgi3", lifespan="off", ws_max_size=4096)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    try:
        yield server
        await eventually(lambda: not server.server_state.connections and not server.server_state.tasks)
        assert application.failures == []
    finally:
        server.should_exit = server.force_exit = True
        await task


@asynccontextmanager
async def connected(server: Server, request: bytes = b"") -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection on which this is sent at once."""
    host, _, port = url_of(server).rpartition("/")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def websocket(server: Server, query: bytes = b"") -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A WebSocket connection whose handshake is over."""
    async with connected(server, UPGRADE % query) as (reader, writer):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


async def read_answer(reader: StreamReader) -> bytes:
    """The body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))


async def read_close(reader: StreamReader) -> int:
    """Read frames until the close frame; returns its code. The connection must end behind it, without a reset."""
    while True:
        opcode, length = await reader.readexactly(2)
        data = await reader.readexactly(length)
        if opcode == 0x88:
            assert await reader.read() == b""
            return int.from_bytes(data[:2])


def cut_off(reason: str) -> float:
    """The number of connections that were cut off for this reason."""
    return REGISTRY.get_sample_value("lastpair_connections_cut_off_total", {"reason": reason}) or 0


# Turns


@pytest.fixture
async def parsed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[tuple[int, int]]]:
    """The bytes that were parsed at once, each with the number of the event loop's iteration, where a turn has one piece."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)
    found: list[tuple[int, int]] = []
    iteration = 0

    async def count() -> None:
        nonlocal iteration
        while True:
            await asyncio.sleep(0)
            iteration += 1

    def watch(cls: Any, largest: int) -> None:
        original = cls._parse

        def parse(self: Any, data: bytes) -> None:
            if len(data) <= largest:
                found.append((iteration, len(data)))
            original(self, data)

        monkeypatch.setattr(cls, "_parse", parse)

    watch(HttpProtocol, http_protocol.FEED_BYTES)
    watch(WebSocketProtocol, websocket_protocol.FRAME_PIECE_BYTES)
    counting = asyncio.create_task(count())
    yield found
    counting.cancel()


def assert_in_turns(parsed: list[tuple[int, int]], total_bytes: int, piece_bytes: int) -> None:
    """All of it was parsed, and of each iteration of the event loop no more than a piece."""
    assert sum(size for _, size in parsed) == total_bytes
    iterations = [iteration for iteration, size in parsed if size == piece_bytes]
    assert len(iterations) >= total_bytes / piece_bytes / 2
    assert len(set(iterations)) == len(iterations)


async def test_many_small_chunks(server: Server, parsed: list[tuple[int, int]]) -> None:
    """A body in chunks of a byte is parsed in turns, and is whole afterwards."""
    request = CHUNKED % b"length" + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n"
    async with connected(server, request + GET_HEALTHZ) as (reader, _):
        assert await read_answer(reader) == b"30000"
        assert await read_answer(reader) == b"no"
    assert_in_turns(parsed, len(request + GET_HEALTHZ), http_protocol.FEED_BYTES)


async def test_many_small_messages(
    server: Server, application: Application, parsed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are parsed in turns as well, although uvicorn itself pauses after each; none is lost, and the order is kept."""
    monkeypatch.setattr(websocket_protocol, "FRAMES_PER_SECOND", 10**9)
    expected = [f"{number}" for number in range(20_000)]
    async with websocket(server) as (_, writer):
        del parsed[:]
        frames = [Frame(Opcode.TEXT, text.encode()).serialize(mask=True) for text in expected]
        writer.write(b"".join(frames))
        await eventually(lambda: len(application.messages) == len(expected))
    assert application.messages == expected
    assert_in_turns(parsed, len(b"".join(frames)), websocket_protocol.FRAME_PIECE_BYTES)


async def test_many_connections_take_turns(server: Server, parsed: list[tuple[int, int]]) -> None:
    """The pieces of many connections share the iterations of the event loop, and a small request does not wait for them."""
    request = CHUNKED % b"length" + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n"
    async with connected(server, request) as (one, _), connected(server, request) as (two, _):
        await eventually(lambda: len(parsed) > 2)
        async with connected(server, GET_HEALTHZ) as (small, _):
            assert await read_answer(small) == b"no"
            assert sum(size for _, size in parsed) < len(request)
        assert [await read_answer(reader) for reader in (one, two)] == [b"30000"] * 2
    assert_in_turns(parsed, 2 * len(request) + len(GET_HEALTHZ), http_protocol.FEED_BYTES)


async def test_a_handshake_behind_a_large_body(server: Server, application: Application) -> None:
    """A connection that had to wait for its turn can still become a WebSocket, which then reads."""
    request = CHUNKED % b"length" + b"1\r\nx\r\n" * 3_000 + b"0\r\n\r\n"
    async with connected(server, request) as (reader, writer):
        assert await read_answer(reader) == b"3000"
        writer.write(b"\r\n" * 3000 + UPGRADE % b"")
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(Frame(Opcode.TEXT, b"hello").serialize(mask=True))
        await eventually(lambda: application.messages == ["hello"])


async def test_a_client_that_leaves_within_its_turn(server: Server) -> None:
    """A client that leaves while its bytes wait for their turn leaves nothing behind."""
    for request in (CHUNKED % b"length" + b"1\r\nx\r\n" * 30_000, CHUNKED % b"late" + b"1\r\nx\r\n" * 30_000):
        async with connected(server, request) as (_, writer):
            await writer.drain()
            writer.transport.abort()


# Frames


@pytest.mark.parametrize("frame", [PING, PONG, TEXT, BINARY], ids=["ping", "pong", "text", "binary"])
async def test_too_many_frames(server: Server, application: Application, frame: bytes) -> None:
    """Up to a limit, frames of any kind may come at once. More end the connection with 1008, which the client can read."""
    before = cut_off("too_fast")
    async with websocket(server) as (reader, writer):
        writer.write(frame * (websocket_protocol.FRAMES_AT_ONCE - 2) + TEXT)
        await eventually(lambda: "" in application.messages[-1:])
        assert cut_off("too_fast") == before
    async with websocket(server) as (reader, writer):
        writer.write(frame * 100_000)
        assert await read_close(reader) == 1008
    assert cut_off("too_fast") == before + 1
    await eventually(lambda: application.clients_left == 2)


async def test_frames_are_allowed_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client may send grows again with time, up to the limit."""
    monkeypatch.setattr(websocket_protocol, "FRAMES_PER_SECOND", 1000)
    monkeypatch.setattr(WebSocketProtocol, "_frames_left", 400)
    monkeypatch.setattr(websocket_protocol, "FRAMES_AT_ONCE", 400)
    async with websocket(server) as (reader, writer):
        for _ in range(5):
            writer.write(PING * 300)
            await reader.readexactly(2 * 300)
            await asyncio.sleep(0.35)


async def test_too_many_fragments(server: Server, application: Application) -> None:
    """A message may have a limited number of fragments, even if they are empty; more end the connection with 1009."""
    before = cut_off("too_large")
    async with websocket(server) as (reader, writer):
        writer.write((FIRST + EMPTY * (websocket_protocol.MAX_FRAGMENTS - 2) + LAST) * 2)
        await eventually(lambda: application.messages == ["", ""])
        writer.write(FIRST + EMPTY * 100_000)
        assert await read_close(reader) == 1009
    assert cut_off("too_large") == before + 1


NOT_UTF8 = b"\x81\x81" + MASK + b"\xff"
CLOSE_1000 = b"\x88\x82" + MASK + b"\x03\xe8"
REFUSED_FRAMES = {
    "no mask": (b"\x81\x02hi", 1002),
    "a reserved bit": (b"\xf1\x80" + MASK, 1002),
    "a bad opcode": (b"\x83\x80" + MASK, 1002),
    "a bad close code": (b"\x88\x82" + MASK + b"\0\1", 1002),
    "too large": (b"\x82\xfe\x20\x00" + MASK, 1009),
    "fragments": (FIRST + EMPTY * 80, 1009),
    "no UTF-8": (NOT_UTF8, 1007),
    "no UTF-8 again and again": (NOT_UTF8 * 9, 1007),
    "no UTF-8 in fragments": (FIRST + b"\x80\x81" + MASK + b"\xff", 1007),
    "no UTF-8 as the reason of a close": (b"\x88\x83" + MASK + b"\x03\xe8\xff", 1007),
    # The client has closed the WebSocket, so it gets its own code back.
    "no UTF-8 and a close": (NOT_UTF8 * 3 + CLOSE_1000, 1000),
    "fragments and a close": (FIRST + EMPTY * 63 + LAST + FIRST + EMPTY * 63 + LAST + CLOSE_1000, 1009),
    "pings": (PING * 2000, 1008),
}


@pytest.mark.parametrize("is_early", [True, False], ids=["early", "after the handshake"])
@pytest.mark.parametrize("kind", REFUSED_FRAMES)
async def test_refused_frames(
    server: Server, application: Application, caplog: pytest.LogCaptureFixture, kind: str, is_early: bool
) -> None:
    """The handshake is answered first, then the client gets a close frame with the reason, and nothing is logged."""
    frames, code = REFUSED_FRAMES[kind]
    counts = [cut_off(reason) for reason in ("malformed", "too_large", "too_fast")]
    async with connected(server, UPGRADE % b"" + frames * is_early) as (reader, writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(frames * (not is_early))
        assert await read_close(reader) == code
    await eventually(lambda: application.clients_left == 1)
    assert sum(cut_off(reason) for reason in ("malformed", "too_large", "too_fast")) == sum(counts) + 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("is_large", [False, True])
async def test_early_frames(server: Server, application: Application, is_large: bool) -> None:
    """Frames that come before the handshake is answered are kept, and handled in their order behind the answer."""
    expected = [f"{number}" for number in range(600 if is_large else 2)]
    frames = b"".join(Frame(Opcode.TEXT, text.encode()).serialize(mask=True) for text in expected)
    async with connected(server, UPGRADE % b"" + PING + frames) as (reader, writer):
        writer.write(CLOSE_1000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(2) == b"\x8a\0"
        assert await read_close(reader) == 1000
    assert application.messages == expected


async def test_a_close_while_the_process_stops(server: Server) -> None:
    """A client that has closed its WebSocket and has not read everything does not disturb the shutdown."""
    async with websocket(server, b"large") as (_, writer):
        (connection,) = server.server_state.connections
        await eventually(connection.transport.get_write_buffer_size)
        writer.write(CLOSE_1000)
        await eventually(connection.transport.is_closing)
        try:
            connection.shutdown()
        finally:
            connection.transport.abort()


@pytest.mark.parametrize("size_bytes", [4096, 4097])
@pytest.mark.parametrize("fragments", [1, 2, 60])
async def test_the_largest_message(server: Server, application: Application, size_bytes: int, fragments: int) -> None:
    """The size of a message is limited, in one frame or in many."""
    step = -(-size_bytes // fragments)
    pieces = [bytes(size_bytes)[start : start + step] for start in range(0, size_bytes, step)]
    opcodes = [Opcode.BINARY] + [Opcode.CONT] * (len(pieces) - 1)
    frames = [
        Frame(opcode, data, fin=number == len(pieces) - 1).serialize(mask=True)
        for number, (opcode, data) in enumerate(zip(opcodes, pieces, strict=True))
    ]
    async with websocket(server) as (reader, writer):
        writer.write(b"".join(frames))
        if size_bytes > 4096:
            assert await read_close(reader) == 1009
        else:
            await eventually(lambda: application.messages == [bytes(size_bytes)])


# Bodies that nobody wants


async def test_the_rest_of_a_large_body(server: Server) -> None:
    """After an early answer a limited part of the body is read. Then the connection ends, and the client can read the answer."""
    before = cut_off("too_large")
    async with connected(server, CHUNKED % b"early") as (reader, writer):
        assert await read_answer(reader) == b"no"
        writer.write(b"1\r\nx\r\n" * 700_000)
        assert await reader.read() == b""
    assert cut_off("too_large") == before + 1


async def test_the_rest_of_a_small_body(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an early answer the rest of a usual body is read, and the connection goes on, however long it is idle then."""
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_SECONDS", 1)
    body = b"x" * 65_536
    async with connected(server, b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n") as (reader, writer):
        for _ in range(5):
            assert await read_answer(reader) == b"no"
            writer.write(body + b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n")
        assert await read_answer(reader) == b"no"
        writer.write(body)
        await asyncio.sleep(1.5)
        writer.write(GET_HEALTHZ)
        assert await read_answer(reader) == b"no"


async def test_a_last_answer_before_the_end_of_a_body(server: Server) -> None:
    """A client that is still sending can read an answer that ends the connection."""
    async with connected(server) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(CHUNKED % b"close" + b"1000\r\n" + bytes(4096) + b"\r\n")
        await asyncio.sleep(0.1)  # the answer is sent meanwhile
        for _ in range(3):
            writer.write((b"1000\r\n" + bytes(4096) + b"\r\n") * 30)
            await asyncio.sleep(0.05)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await read_answer(reader) == b"no"
        assert await reader.read() == b""


async def test_a_body_behind_an_open_stream(server: Server) -> None:
    """A stream whose request goes on and on is cut off."""
    before = cut_off("out_of_turn")
    async with connected(server, CHUNKED.replace(b"POST", b"GET") % b"api/events") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"1\r\nx\r\n" * 700_000)
        with suppress(ConnectionError):
            await reader.read()
    assert cut_off("out_of_turn") == before + 1


async def test_bytes_behind_the_last_request(server: Server) -> None:
    """A client that sends without end behind the request of an open stream is cut off, whatever it sends."""
    before = cut_off("out_of_turn")
    async with connected(server, b"GET /api/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes(http_protocol.DRAIN_BYTES + 8192))
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 60)
    assert cut_off("out_of_turn") == before + 1


# Slow, and not idle


async def test_a_client_that_this_process_paused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in which this process did not read is not counted against a client."""
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_SECONDS", 1)
    request = b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    async with connected(server, request + bytes(90_000)) as (reader, writer):
        await asyncio.sleep(1.3)
        writer.write(bytes(10_000))
        assert await read_answer(reader) == b"100000"


async def read_slowly(reader: StreamReader, seconds: float, is_over: Callable[[], bool], piece_bytes: int = 20_000) -> None:
    """Take some bytes every now and then for so long. Fails when it is over before."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert await reader.read(piece_bytes)
        assert not is_over()
        await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_slow_is_not_idle(server: Server, monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    """A client that takes bytes steadily is not cut off, however long it takes; one that takes nothing is."""
    monkeypatch.setattr(closing, "STALL_SECONDS", 2)
    before = cut_off("unread")
    server.config.ws_ping_interval = server.config.ws_ping_timeout = 0.2
    open_connection = connected(server, GET_LARGE) if transport == "http" else websocket(server, b"large")
    async with open_connection as (reader, _):
        (connection,) = server.server_state.connections
        await read_slowly(reader, 4, lambda: not server.server_state.connections, piece_bytes=65_536)
        assert connection.transport.get_write_buffer_size()  # the server was never through
        await eventually(lambda: not server.server_state.connections)
    assert cut_off("unread") == before + 1


async def test_a_client_that_takes_too_little(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes bytes, but fewer than the least rate, is cut off."""
    monkeypatch.setattr(closing, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(closing, "LEAST_BYTES_PER_SECOND", 10**10)
    async with connected(server, GET_LARGE) as (reader, _):
        with pytest.raises(AssertionError):
            await read_slowly(reader, 20, lambda: not server.server_state.connections)


async def test_a_system_that_does_not_say_what_was_taken(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TCP does not say how much was acknowledged, the transport's buffer tells."""
    monkeypatch.delattr("socket.TCP_INFO")
    monkeypatch.setattr(closing, "STALL_SECONDS", 2)
    async with connected(server, GET_LARGE) as (reader, _):
        (connection,) = server.server_state.connections
        await eventually(connection.transport.get_write_buffer_size)
        before = closing.taken_bytes(connection.transport)
        assert before < 0
        await reader.readexactly(30_000_000)
        await eventually(lambda: closing.taken_bytes(connection.transport) > before)
        await eventually(lambda: not server.server_state.connections)


def request_with(body: bytes) -> Request:
    """A request with this JSON."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)


async def test_large_bodies_are_parsed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in an iteration of its own of the event loop, so that others are served between two."""
    done: list[str] = []

    def parse(*_: object) -> None:
        done.append("parsed")
        end = perf_counter() + turns.TURN_SECONDS
        while perf_counter() < end:
            pass

    async def other() -> None:
        while done.count("parsed") < 3:
            done.append("other")
            await asyncio.sleep(0)

    monkeypatch.setattr(requests, "parse_json", parse)
    await asyncio.gather(*(requests.read_body(request_with(bytes(5000)), NewDrop) for _ in range(3)), other())
    assert "parsed parsed" not in " ".join(done)


async def test_a_large_body_whose_client_left() -> None:
    """It is not parsed, and what is wrong with another one reaches the request that has it."""
    left = asyncio.create_task(turns.in_turn(lambda: pytest.fail("it was parsed")))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(Refusal):
        await requests.read_body(request_with(b"{" + b" " * 5000), NewDrop)


async def test_metrics_are_written_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop goes on between the pieces, and the answer is all of them."""
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)  # within a turn a fast machine would write several
    iterations = 0

    async def count() -> None:
        nonlocal iterations
        while not answer.done():
            iterations += 1
            await asyncio.sleep(0)

    async def ask() -> bytes:
        return bytes((await handlers.get_metrics.handler(request_with(b""))).body)

    answer = asyncio.create_task(ask())
    await count()
    assert iterations > 20
    body = answer.result()
    assert body.count(b"# HELP lastpair_") == body.count(b"# TYPE lastpair_") > 15


# Memory


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET_HEALTHZ,
        GET_LARGE + GET_HEALTHZ * 2,
        GET_HEALTHZ.replace(b"healthz", b"api/events"),
        CHUNKED % b"early",
        b"nonsense\r\n\r\n",
        UPGRADE % b"",
        UPGRADE % b"" + NOT_UTF8,
    ],
    ids=["answered", "waiting", "stream", "body", "refused", "websocket", "refused websocket"],
)
async def test_a_connection_leaves_nothing_behind(server: Server, request_bytes: bytes) -> None:
    """The memory of a connection is free when the client leaves, and does not wait for the garbage collector."""
    kinds = HttpProtocol, WebSocketProtocol, RequestResponseCycle
    gc.collect()
    gc.disable()
    try:
        async with connected(server, request_bytes) as (reader, writer):
            await reader.readexactly(9)
            writer.transport.abort()
        await eventually(lambda: not any(isinstance(found, kinds) for found in gc.get_objects()))
    finally:
        gc.enable()
