"""A process of many clients that watch events, over SSE or Socket.IO, and take little of the processors that the server needs.

Real watchers are on machines of their own. These read with a pause: they wait until there is something to read, read all that
came, and pause. A socket that got several writes in the pause is read once, and the pause counts as latency. Bytes that several
clients have got alike are parsed once.
"""

import base64
import re
import resource
import selectors
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection

CONNECT_AT_ONCE = 50
WAIT_SECONDS = 60
RECEIVE_BYTES = 1 << 20


@dataclass(frozen=True)
class Transport:
    """How a client opens a stream, knows that it is open, and finds the ids of the events in it."""

    request: bytes
    """With {path} in it."""

    opened: re.Pattern[bytes]
    event: re.Pattern[bytes]
    hello: re.Pattern[bytes] | None = None
    """After which a client must say `answer`."""

    answer: bytes = b""


TRANSPORTS = {
    "sse": Transport(
        b"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        opened=re.compile(rb"event: POSITION\n.*?\n\n", re.DOTALL),
        event=re.compile(rb"\nid: (\d+)\ndata: [^\n]*\n\n"),
    ),
    # The server says 0{…}, the client 40, and the server 40{…}; the first two digits of an event are 42.
    "socket.io": Transport(
        b"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n",
        hello=re.compile(rb"0\{[^}]*\}"),
        answer=b"\x81\x82\0\0\0\x0040",  # a text frame, masked with zeros
        opened=re.compile(rb"40\{[^}]*\}"),
        event=re.compile(rb'42\["[A-Z_]+",\{"id":"(\d+)"[^}]*\}\]'),
    ),
}


@dataclass
class Watcher:
    """A client, and which events it got when."""

    socket: socket.socket
    rest: bytes = b""
    got: list[tuple[tuple[int, ...], float]] = field(default_factory=list)

    @property
    def last_id(self) -> int:
        """The id of the latest event; 0 if it has none."""
        return self.got[-1][0][-1] if self.got else 0


class Watchers:
    """The clients, in their process."""

    def __init__(self, transport: Transport, port: int, path: str, number: int, pause_seconds: float) -> None:
        """Connect them."""
        self._transport = transport
        self._pause_seconds = pause_seconds
        self._selector = selectors.DefaultSelector()
        self._watchers: list[Watcher] = []
        self._parsed: dict[bytes, tuple[tuple[int, ...], bytes]] = {}
        for first in range(0, number, CONNECT_AT_ONCE):
            sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(CONNECT_AT_ONCE, number - first))]
            for each in sockets:
                each.sendall(transport.request.replace(b"{path}", path.encode()))
            for each in sockets:
                watcher = self._open(each)
                each.setblocking(False)
                self._watchers.append(watcher)
                self._selector.register(each, selectors.EVENT_READ, watcher)

    def __enter__(self) -> "Watchers":
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for watcher in self._watchers:
            watcher.socket.close()

    def _open(self, connection: socket.socket) -> Watcher:
        transport, buffer = self._transport, b""
        connection.settimeout(WAIT_SECONDS)
        has_answered = transport.hello is None
        while (opened := transport.opened.search(buffer)) is None:
            received = connection.recv(RECEIVE_BYTES)
            assert received, buffer
            buffer += received
            if not has_answered and transport.hello is not None and transport.hello.search(buffer):
                connection.sendall(transport.answer)
                has_answered = True
        watcher = Watcher(connection)
        self._take(watcher, buffer[opened.end() :])
        return watcher

    def read(self, wait_seconds: float) -> None:
        """Read what there is, or wait for it."""
        for key, _ in self._selector.select(wait_seconds):
            watcher = key.data
            received = watcher.socket.recv(RECEIVE_BYTES)
            assert received, "a client was disconnected"
            self._take(watcher, received)
        time.sleep(self._pause_seconds)

    def _take(self, watcher: Watcher, received: bytes) -> None:
        buffer = watcher.rest + received
        found = self._parsed.get(buffer)
        if found is None:
            found = self._parsed[buffer] = self._parse(buffer)
        ids, watcher.rest = found
        if ids:
            watcher.got.append((ids, time.time()))

    def _parse(self, buffer: bytes) -> tuple[tuple[int, ...], bytes]:
        # The ids of the complete events, and what is after the last of these, without what only frames an event.
        matches = list(self._transport.event.finditer(buffer))
        rest = buffer[matches[-1].end() :] if matches else buffer
        return tuple(int(match[1]) for match in matches), rest.lstrip(b"\r\n")

    def check(self, written_at: Mapping[int, float]) -> float:
        """Read until all have the last of these events. Each must have got each once, in order. Returns the p99 in ms."""
        last_id = max(written_at)
        deadline = time.monotonic() + WAIT_SECONDS
        while any(watcher.last_id != last_id for watcher in self._watchers):
            assert time.monotonic() < deadline, "events were lost"
            self.read(0.1)
        everything = list(written_at)
        latencies_ms = []
        for watcher in self._watchers:
            ids = [event_id for ids, _ in watcher.got for event_id in ids]
            assert ids == everything, "a client did not get every event once and in order"
            latencies_ms += [(at - written_at[event_id]) * 1000 for ids, at in watcher.got for event_id in ids]
            watcher.got.clear()
        self._parsed.clear()
        return statistics.quantiles(latencies_ms, n=100)[98]


def run(pipe: Connection, transport_name: str, port: int, path: str, number: int, pause_seconds: float) -> None:
    """The process: connects the clients, reads, and checks what they got whenever the other side of the pipe sends events."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Watchers(TRANSPORTS[transport_name], port, path, number, pause_seconds) as watchers:
        pipe.send(None)
        while True:
            while not pipe.poll():
                watchers.read(0.1)
            written_at = pipe.recv()
            if written_at is None:
                break
            pipe.send(watchers.check(written_at))


class Crowd:
    """The clients, seen from the bench."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._pipe.recv()  # they are connected

    def check(self, written_at: Mapping[int, float]) -> float:
        """Each client must get each of these events once, in order, which happened since the last check.

        `written_at` says when each was written, in seconds since the epoch. Returns the 99th percentile of what it took, in ms.
        """
        self._pipe.send(written_at)
        p99_ms: float = self._pipe.recv()
        return p99_ms


@contextmanager
def crowd(url: str, path: str, number: int, pause_seconds: float = 0, transport_name: str = "sse") -> Iterator[Crowd]:
    """So many clients of a server, until the block ends."""
    pipe, their_pipe = Pipe()
    port = int(url.rpartition(":")[2])
    process = get_context("spawn").Process(target=run, args=(their_pipe, transport_name, port, path, number, pause_seconds))
    process.start()
    their_pipe.close()  # if the clients fail, so does recv()
    try:
        yield Crowd(pipe)
        pipe.send(None)
        process.join(WAIT_SECONDS)
    finally:
        process.kill()
        process.join()
