"""What is measured of streams: how fast a drop sells while many watch, how soon they know, and what a delivery costs.

The watchers are one process on the same machine (bench/watchers.py). Each of them must get each event once and in order, else the
run fails. Latency is the time at which a client read an event less the time at which the transaction wrote it to the log, just
before its commit was synced to disk.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx

from bench.bench import Bench, reserve, user_id
from bench.load import Load, cpu_seconds, wrk
from bench.peers import node
from bench.rows import Row, in_turn
from bench.watchers import Crowd, crowd
from tests.support.servers import Service

READ_PAUSE_SECONDS = 0.05
"""How long watchers of a drop that sells pause after they have read; it is a part of the latency."""

PACED_WATCHERS, PACED_EVENTS, PACED_EVENTS_A_SECOND = 2000, 60, 20


def events_path(drop_id: str) -> str:
    """The events of a drop, without a SNAPSHOT of it."""
    return f"/api/events?dropId={drop_id}&snapshot=false"


class WatchedDrop:
    """A drop, and the events of it that were not yet looked for."""

    def __init__(self, bench: Bench) -> None:
        self.id = bench.drop()
        self._bench = bench
        self._last_id = self._latest_id()
        self._first_user = 0

    def _latest_id(self) -> int:
        latest_id: int = self._bench.sql("select max(id) from inventory.events where drop_id = $1", UUID(self.id))[0][0]
        return latest_id

    def new_events(self) -> dict[int, float]:
        """The events since the last call, once there are no more, and when each was written, in seconds since the epoch."""
        latest_id = self._latest_id()
        while True:
            time.sleep(0.3)
            before, latest_id = latest_id, self._latest_id()
            if latest_id == before:
                break
        rows = self._bench.sql(
            "select id, extract(epoch from created_at)::float8 from inventory.events where drop_id = $1 and id > $2 order by id",
            UUID(self.id),
            self._last_id,
        )
        self._last_id = latest_id
        return dict(map(tuple, rows))

    def reserve(self, service: Service, clients: int) -> Load:
        """Reserves of users who have not reserved yet."""
        load = wrk(service, clients, "POST", [f"/api/drops/{self.id}/reserve"], {"201"}, first_user=self._first_user)
        self._first_user += load.requests + clients  # wrk does not count the requests under way when its time is up
        return load

    def reserve_paced(self) -> None:
        """PACED_EVENTS reserves, each an event."""
        begin = time.monotonic()
        for number in range(PACED_EVENTS):
            time.sleep(max(0, begin + number / PACED_EVENTS_A_SECOND - time.monotonic()))
            self._first_user += 1
            self._bench.sql("select from api.reserve($1, $2)", UUID(self.id), user_id(self._first_user))


def watched(bench: Bench) -> Iterator[Row]:
    """Reserves on a drop that many watch. They are compared with reserves on another process of the service, with no watchers."""
    service, quiet = bench.service(), bench.service()
    for watchers, bound in ((1000, 0.75), (5000, 0.4)):
        drop = WatchedDrop(bench)
        p99s_ms: list[float] = []
        with crowd(service.url, events_path(drop.id), watchers, READ_PAUSE_SECONDS) as clients:

            def reserve_watched(drop: WatchedDrop = drop, clients: Crowd = clients, p99s_ms: list[float] = p99s_ms) -> float:
                load = drop.reserve(service, 256)
                p99s_ms.append(clients.check(drop.new_events()))
                return load.rate

            rates = in_turn({"watched": reserve_watched, "none": lambda: reserve(bench, quiet, 256).rate}, rounds=3)
        rate = {name: statistics.median(found) for name, found in rates.items()}
        name = f"reserve, 256 clients, with {watchers:,} SSE clients of the drop ÷ with none"
        yield Row(name, rate["watched"], rate["none"], bound)
        bench.rates[f"Lastpair: reserve, {watchers:,} SSE clients watching"] = rate["watched"]
    name = "the same with 5,000 SSE clients: commit to client, p99 in seconds"
    yield Row(name, statistics.median(p99s_ms[1:]) / 1000, 1, 1, is_upper_bound=True)


@dataclass(frozen=True)
class Delivery:
    """What it took to deliver the paced events to all watchers."""

    p99_ms: float
    cpu_seconds: float

    @property
    def deliveries_a_cpu_second(self) -> float:
        """Events times watchers, by the processor time of the process that sent them."""
        return PACED_EVENTS * PACED_WATCHERS / self.cpu_seconds


def paced(bench: Bench) -> Iterator[Row]:
    """20 events a second to 2,000 clients, by SSE, and by Socket.IO over WebSocket without compression.

    A service that is late writes several events at once, which takes less of the processor. So deliveries a CPU second count only
    together with the latency; on a busy machine both are higher.
    """
    service, drop = bench.service(), WatchedDrop(bench)
    ours = bench.stack.enter_context(crowd(service.url, events_path(drop.id), PACED_WATCHERS))

    def sell() -> Delivery:
        begin = cpu_seconds(service)
        drop.reserve_paced()
        p99_ms = ours.check(drop.new_events())
        return Delivery(p99_ms, cpu_seconds(service) - begin)

    measures = {"lastpair": sell}
    socketio = bench.stack.enter_context(node("socketio", DROP_ID=drop.id))
    if socketio is not None:
        path = "/socket.io/?EIO=4&transport=websocket"
        theirs = bench.stack.enter_context(crowd(socketio.url, path, PACED_WATCHERS, transport_name="socket.io"))
        measures["socket.io"] = lambda: broadcast(socketio, theirs)
    found = in_turn(measures, rounds=3)
    p99_ms = statistics.median(delivery.p99_ms for delivery in found["lastpair"])
    yield Row("2,000 SSE clients, 20 events a second: commit to client, p99 in ms ÷ 100", p99_ms, 100, 1, is_upper_bound=True)
    rates = {name: statistics.median(each.deliveries_a_cpu_second for each in results) for name, results in found.items()}
    name = "the same: deliveries a CPU second of the process ÷ Socket.IO's"
    yield Row(name, rates["lastpair"], rates.get("socket.io"), 1.5)


def broadcast(socketio: Service, clients: Crowd) -> Delivery:
    """As many events at the same pace, sent by socketio/server.js."""
    begin = cpu_seconds(socketio)
    already = len(httpx.get(f"{socketio.url}/sent").json())
    pause_ms = 1000 // PACED_EVENTS_A_SECOND
    httpx.post(f"{socketio.url}/start?events={PACED_EVENTS}&pause_ms={pause_ms}")
    time.sleep(PACED_EVENTS / PACED_EVENTS_A_SECOND)
    while len(sent_at := httpx.get(f"{socketio.url}/sent").json()) < already + PACED_EVENTS:
        time.sleep(0.1)
    p99_ms = clients.check({event_id: at for event_id, at in enumerate(sent_at, 1) if event_id > already})
    return Delivery(p99_ms, cpu_seconds(socketio) - begin)
