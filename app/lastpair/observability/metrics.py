"""The metrics, in Prometheus' text format. docs/operations.md says how to use each one.

With several processes (WEB_CONCURRENCY) each process writes its figures to files in PROMETHEUS_MULTIPROC_DIR, which `lastpair
run` sets before they start. The process that is asked for /metrics adds the files up and answers for all.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

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

from lastpair import __version__

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

disable_created_metrics()  # type: ignore[no-untyped-call] # each metric would get one more series: the time when it was made

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

BUILD_INFO = Gauge("lastpair_build_info", "1, with the version that runs as a label.", ["version"], multiprocess_mode="livemax")
BUILD_INFO.labels(__version__).set(1)

REQUESTS = Counter("lastpair_http_requests", "Requests answered; the method of a WebSocket is WS.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "lastpair_http_request_duration_seconds",
    "From a request's head to the end of its answer, without streams.",
    ["route"],
    buckets=SECONDS,
)
CUT_OFF = Counter(
    "lastpair_connections_cut_off",
    "Connections closed because of what the client did: malformed, too_large, slow, unread, out_of_turn, too_fast.",
    ["reason"],
)
BATCH_SIZE = Histogram("lastpair_batch_size", "Requests that shared a call.", ["call"], buckets=SIZES)
BATCH_WAIT_SECONDS = Histogram(
    "lastpair_batch_wait_seconds", "How long the oldest request of a call waited for it.", ["call"], buckets=SECONDS
)
BATCH_CALL_SECONDS = Histogram("lastpair_batch_call_duration_seconds", "How long a call took.", ["call"], buckets=SECONDS)
POOL_MAX_SESSIONS = Gauge("lastpair_pool_max_sessions", "Database sessions that a process may have.", multiprocess_mode="livesum")
POOL_BUSY_SESSIONS = Gauge("lastpair_pool_busy_sessions", "Database sessions in use.", multiprocess_mode="livesum")
POOL_WAIT_SECONDS = Histogram("lastpair_pool_wait_seconds", "How long a call waited for a database session.", buckets=SECONDS)
DATABASE_ERRORS = Counter("lastpair_database_errors", "Calls that failed, refusals not counted.", ["sqlstate"])
EVENTS_RELAYED = Counter("lastpair_events_relayed", "Events published to this process's clients.", ["type"])
UNPROVEN_NOTIFICATIONS = Counter(
    "lastpair_unproven_notifications", "Notifications without a valid code, for which the relay reads the log instead."
)
RELAY_LAG_SECONDS = Histogram(
    "lastpair_relay_lag_seconds", "From a transaction's commit to the relay, by the two clocks.", buckets=SECONDS
)
LISTENING = Gauge("lastpair_listener_connected", "1 while the relay hears of commits.", multiprocess_mode="livemin")
NODE_LISTENING = Gauge(
    "lastpair_node_listener_connected",
    "Behind a router: 1 while the relay hears of the node's commits.",
    ["node"],
    multiprocess_mode="livemin",
)
STREAMS = Gauge("lastpair_streams", "Open streams.", ["transport"], multiprocess_mode="livesum")
RESYNCS = Counter(
    "lastpair_resyncs",
    "Clients that were told to start again from a snapshot: slow, unknown_id, forgotten, restarted, away.",
    ["reason"],
)
EXPIRED = Counter("lastpair_reservations_expired", "Holds that this service's sweeps took back, expire-now included.")
EXPIRY_LAG_SECONDS = Gauge(
    "lastpair_expiry_lag_seconds",
    "At the last sweep: how long the hold that was due first had been due.",
    multiprocess_mode="livemax",
)
PAYMENT_EVENTS = Counter(
    "lastpair_payment_events",
    "What payment providers told: applied, unchanged, flagged, ignored (of no payment), refused (a wrong or old signature).",
    ["provider", "outcome"],
)
PAYMENTS_EXPIRED = Counter("lastpair_payments_expired", "Payments that this service's sweeps let end because nobody paid.")
PROVIDER_CALLS = Counter(
    "lastpair_provider_calls", "Calls to payment providers: done, failed, refused.", ["provider", "action", "result"]
)
PROVIDER_CALL_SECONDS = Histogram(
    "lastpair_provider_call_duration_seconds", "How long a payment provider took.", ["provider", "action"], buckets=SECONDS
)
PROVIDER_CALLS_WAITING = Gauge(
    "lastpair_provider_calls_waiting", "Calls to payment providers that are still to be made.", multiprocess_mode="livemostrecent"
)
PROVIDER_CALLS_GIVEN_UP = Gauge(
    "lastpair_provider_calls_given_up",
    "Calls to payment providers that are not tried again until a seller says so.",
    multiprocess_mode="livemostrecent",
)
WEBHOOK_ATTEMPTS = Counter("lastpair_webhook_attempts", "Attempts to deliver a webhook: delivered, failed.", ["result"])
WEBHOOK_ATTEMPT_SECONDS = Histogram(
    "lastpair_webhook_attempt_duration_seconds", "How long an attempt to deliver a webhook took.", buckets=SECONDS
)
WEBHOOKS_PENDING = Gauge("lastpair_webhooks_pending", "Webhooks that are to be delivered.", multiprocess_mode="livemostrecent")
WEBHOOK_LAG_SECONDS = Gauge(
    "lastpair_webhook_lag_seconds", "The age of the oldest webhook that is to be delivered.", multiprocess_mode="livemostrecent"
)
WEBHOOK_ENDPOINTS_DISABLED = Gauge(
    "lastpair_webhook_endpoints_disabled",
    "Webhook endpoints that the service has given up.",
    multiprocess_mode="livemostrecent",
)
SWEPT_AT = Gauge(
    "lastpair_poller_last_success_timestamp_seconds",
    "When each job of the sweeper last succeeded; 0 until then.",
    ["sweeper_job"],
    multiprocess_mode="livemostrecent",
)
NOTIFY_QUEUE_USAGE = Gauge(
    "lastpair_notify_queue_usage_ratio",
    "The share of PostgreSQL's notification queue that is used, 0 to 1.",
    multiprocess_mode="livemostrecent",
)


class OverNodes:
    """A gauge that is made of the values of all nodes: their sum, the largest or the smallest."""

    every: ClassVar["list[OverNodes]"] = []

    def __init__(self, gauge: Gauge, combine: Callable[[Iterable[float]], float]) -> None:
        self._gauge = gauge
        self._combine = combine
        self._values: dict[str, float] = {}
        self.every.append(self)

    def add(self, node: str) -> None:
        """The value of this node is 0 until another is set."""
        self._values.setdefault(node, 0)

    def set(self, node: str, value: float) -> None:
        """The value of this node."""
        self._values[node] = value
        self._gauge.set(self._combine(self._values.values()))

    def forget(self, node: str) -> None:
        """The node was taken out."""
        if self._values.pop(node, None) is not None and self._values:
            self._gauge.set(self._combine(self._values.values()))


def forget_node(node: str) -> None:
    """The node was taken out, so its values count no more."""
    for gauge in OverNodes.every:
        gauge.forget(node)


EXPIRY_LAG = OverNodes(EXPIRY_LAG_SECONDS, max)
NOTIFY_QUEUE = OverNodes(NOTIFY_QUEUE_USAGE, max)
PENDING_WEBHOOKS = OverNodes(WEBHOOKS_PENDING, sum)
WEBHOOK_LAG = OverNodes(WEBHOOK_LAG_SECONDS, max)
DISABLED_ENDPOINTS = OverNodes(WEBHOOK_ENDPOINTS_DISABLED, max)
"""The largest, because every node has the same endpoints."""

WAITING_CALLS = OverNodes(PROVIDER_CALLS_WAITING, sum)
GIVEN_UP_CALLS = OverNodes(PROVIDER_CALLS_GIVEN_UP, sum)


@cache
def swept_at(job: str) -> OverNodes:
    """When this job of the sweeper last succeeded. The node where that is longest ago counts, so that none is overlooked."""
    return OverNodes(SWEPT_AT.labels(job), min)


class Processes(Collector):
    """CPU, memory and open files of each process, with its pid as a label.

    A process that runs alone has them in the default registry instead.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """The metrics that prometheus_client has for one process, for all of them."""
        merged: dict[str, Metric] = {}
        for pid in self._pids:
            for found in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                metric = merged.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    metric.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return merged.values()


class Files(Collector):
    """The figures that the processes wrote to files. Empty files are skipped, because their processes have just begun."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The figures of all processes, merged as each kind of metric requires."""
        files = [str(file) for file in self._folder.glob("*.db") if _size_bytes(file)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Observe each of these amounts, as `histogram.observe` does, but change each number only once, because each has a lock."""
    histogram._sum.inc(sum(amounts))
    amounts = sorted(amounts)
    end = len(amounts)
    begin = 0
    for bound, bucket in zip(histogram._upper_bounds, histogram._buckets, strict=True):
        if begin == end:
            break
        if count := bisect_right(amounts, bound, begin) - begin:
            bucket.inc(count)
            begin += count


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # another process removed it, because its owner is dead
        return 0


class One(Collector):
    """One metric, as generate_latest takes it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """The metric."""
        return [self._metric]


def exposition() -> Iterator[bytes]:
    """All metrics, in Prometheus' text format: a piece for each metric, because all together take 10 milliseconds or more.

    With several processes the first pieces take longer, because the files of all processes are read at once.
    """
    registry = REGISTRY
    if folder := os.environ.get(FOLDER_VARIABLE):
        registry = CollectorRegistry()
        registry.register(Processes(remove_dead_processes(Path(folder))))
        registry.register(Files(Path(folder)))
    for metric in registry.collect():
        yield generate_latest(One(metric))


def remove_dead_processes(folder: Path) -> set[int]:
    """Remove the gauges of processes that have ended; returns the pids of the others."""
    alive = set()
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if psutil.pid_exists(pid):
            alive.add(pid)
        else:
            file.unlink(missing_ok=True)  # another process may do the same at this moment
    return alive
