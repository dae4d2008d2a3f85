"""What /metrics tells, for Prometheus. docs/operations.md says what each is good for.

With several processes (WEB_CONCURRENCY) each writes its figures to files in PROMETHEUS_MULTIPROC_DIR, which `python -m app run`
sets before they start, and whichever is asked answers for all.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import psutil
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each, which says when it was made

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

REQUESTS = Counter("lastpair_http_requests", "Requests answered; of a WebSocket the method is WS.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "lastpair_http_request_duration_seconds",
    "From a request's head to its answer's end, streams excepted.",
    ["route"],
    buckets=SECONDS,
)
CUT_OFF = Counter(
    "lastpair_connections_cut_off",
    "Connections closed for what their clients did: malformed, too_large, slow, unread, out_of_turn.",
    ["reason"],
)
BATCH_SIZE = Histogram("lastpair_batch_size", "Requests that shared a call.", ["call"], buckets=SIZES)
BATCH_WAIT_SECONDS = Histogram(
    "lastpair_batch_wait_seconds", "How long the request that waited longest for a call did.", ["call"], buckets=SECONDS
)
BATCH_CALL_SECONDS = Histogram("lastpair_batch_call_duration_seconds", "How long a call took.", ["call"], buckets=SECONDS)
POOL_MAX_SESSIONS = Gauge("lastpair_pool_max_sessions", "Database sessions that there may be.", multiprocess_mode="livesum")
POOL_BUSY_SESSIONS = Gauge("lastpair_pool_busy_sessions", "Database sessions in use.", multiprocess_mode="livesum")
POOL_WAIT_SECONDS = Histogram("lastpair_pool_wait_seconds", "How long a call waited for a database session.", buckets=SECONDS)
DATABASE_ERRORS = Counter("lastpair_database_errors", "Calls that failed otherwise than by a refusal.", ["sqlstate"])
EVENTS_RELAYED = Counter("lastpair_events_relayed", "Events published to this process's clients.", ["type"])
RELAY_LAG_SECONDS = Histogram(
    "lastpair_relay_lag_seconds", "From a transaction's commit to the relay, by the two clocks.", buckets=SECONDS
)
LISTENING = Gauge("lastpair_listener_connected", "Does the relay hear of commits?", multiprocess_mode="livemin")
STREAMS = Gauge("lastpair_streams", "Open streams.", ["transport"], multiprocess_mode="livesum")
RESYNCS = Counter("lastpair_resyncs", "Clients that were told to start anew: slow, unknown_id, forgotten, restarted.", ["reason"])
EXPIRED = Counter("lastpair_reservations_expired", "Holds that the sweep took back.")
EXPIRY_LAG_SECONDS = Gauge(
    "lastpair_expiry_lag_seconds", "How long the latest of them had been due, at the last sweep.", multiprocess_mode="livemax"
)
POLLED_AT = Gauge(
    "lastpair_poller_last_success_timestamp_seconds", "When a sweep last came to its end.", multiprocess_mode="livemostrecent"
)
NOTIFY_QUEUE_USAGE = Gauge(
    "lastpair_notify_queue_usage_ratio",
    "How full PostgreSQL's queue of notifications is, 0 to 1.",
    multiprocess_mode="livemostrecent",
)


class Processes(Collector):
    """CPU, memory and open files of each process by its pid; of one alone they are in the default registry, without pid."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """What prometheus_client says of one process, of all of them."""
        merged: dict[str, Metric] = {}
        for pid in self._pids:
            for found in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                metric = merged.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    metric.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return merged.values()


class Files(Collector):
    """What the processes have counted, but for those which are only just making their files: these are empty at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """All figures, those of several processes put together as their kind asks for."""
        files = [str(file) for file in self._folder.glob("*.db") if _size_bytes(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # another process was asked, too, and has found it to be a dead one's
        return 0


def exposition() -> bytes:
    """All of it, in Prometheus' text format."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    registry.register(Processes(forget_the_dead(Path(folder))))
    registry.register(Files(Path(folder)))
    return generate_latest(registry)


def forget_the_dead(folder: Path) -> set[int]:
    """Leave the gauges of processes that are gone out of account; returns the pids of the others."""
    alive = set()
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if psutil.pid_exists(pid):
            alive.add(pid)
        else:
            file.unlink(missing_ok=True)  # another process may be asked at the same moment
    return alive
