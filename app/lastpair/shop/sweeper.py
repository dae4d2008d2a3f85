"""The sweeper: jobs that run again and again.

They take back due holds, start and end drops, prune the event log, old keys and webhooks, and read gauges; payments add theirs.
Every process runs them on each node; locks in the database keep two processes from doing the same work. Each job on each node has
its own task, its own interval and its own failures, so that one job or node that is slow or fails does not delay the others.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import time

from lastpair.database.nodes import Node
from lastpair.database.pool import Database
from lastpair.database.servers import reason
from lastpair.errors import Refusal
from lastpair.observability.metrics import (
    DISABLED_ENDPOINTS,
    EXPIRED,
    EXPIRY_LAG,
    NOTIFY_QUEUE,
    PENDING_WEBHOOKS,
    WEBHOOK_LAG,
    swept_at,
)
from lastpair.settings import Settings

EXPIRE_LIMIT = 1000
"""Holds that one transaction takes back at most, so that it does not keep drops locked for long."""

PRUNE_LIMIT = 10_000
PRUNE_INTERVAL_SECONDS = (1, 60)
"""The shortest and the longest time between two prunings."""

KEY_RETENTION_SECONDS = 86_400
"""How long the Idempotency-Key of a rare request counts. That of a reserve or a purchase counts as long as its row is there."""

KEY_PRUNE_INTERVAL_SECONDS = 60
GAUGE_INTERVAL_SECONDS = 5
WEBHOOK_RETENTION_SECONDS = 7 * 86_400
"""How long a webhook that was delivered can be replayed; one that was given up, four times as long."""

WEBHOOK_PRUNE_INTERVAL_SECONDS = 60
WEBHOOK_GAUGE_INTERVAL_SECONDS = 15
EXPIRE_RESERVATIONS = "select count(*), extract(epoch from max(now() - expires_at))::float from api.expire_reservations($1)"
ADVANCE_DROPS = "select from api.advance_drops()"
PRUNE_EVENTS = "select api.prune_events($1, $2)"
PRUNE_KEYS = "select api.prune_idempotency_keys($1)"
PRUNE_WEBHOOKS = "select api.prune_webhooks($1, $2)"
WEBHOOK_BACKLOG = "select pending, lag_seconds, disabled from api.webhook_backlog()"

logger = logging.getLogger("lastpair")


@dataclass(frozen=True)
class Job:
    """A function that runs again and again, with a pause of `interval_seconds` after each run."""

    name: str
    """The label `sweeper_job` of the metric (Prometheus has a label `job` of its own), and its name in the process log."""

    interval_seconds: float
    run: Callable[[], Awaitable[object]]


def jobs(node: Node, settings: Settings) -> list[Job]:
    """The jobs of a process on a node."""
    database = node.database
    poll_seconds = settings.expiry_poll_ms / 1000
    shortest, longest = PRUNE_INTERVAL_SECONDS
    prune_seconds = min(max(settings.event_retention_seconds / 10, shortest), longest)
    return [
        Job("expire_holds", poll_seconds, partial(expire_due_holds, node)),
        Job("advance_drops", poll_seconds, partial(database.fetch, ADVANCE_DROPS)),
        Job("prune_events", prune_seconds, partial(prune_events, database, settings.event_retention_seconds)),
        Job("prune_idempotency_keys", KEY_PRUNE_INTERVAL_SECONDS, partial(database.fetch, PRUNE_KEYS, KEY_RETENTION_SECONDS)),
        Job("prune_webhooks", WEBHOOK_PRUNE_INTERVAL_SECONDS, partial(prune_webhooks, database)),
        Job("measure_webhooks", WEBHOOK_GAUGE_INTERVAL_SECONDS, partial(measure_webhooks, node)),
        Job("measure_notify_queue", GAUGE_INTERVAL_SECONDS, partial(measure_notify_queue, node)),
    ]


async def sweep(node: Node, settings: Settings, more: Iterable[Job] = ()) -> None:
    """Run every job on a node, and those of others, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for job in (*jobs(node, settings), *more):
            group.create_task(repeat(job, node))


async def repeat(job: Job, node: Node) -> None:
    """Run one job again and again until cancelled. It survives a lost database, which it logs once an outage."""
    failing = False
    title = job.name if node.number is None else f"{job.name} on {node.name}"
    succeeded_at = swept_at(job.name)
    succeeded_at.add(node.name)  # so that an alert sees a job that never succeeds
    while True:
        try:
            await job.run()
            succeeded_at.set(node.name, time())
            failing = False
        except Refusal as refusal:
            if not failing:
                cause = f" ({reason(refusal.__cause__)})" if refusal.__cause__ else ""
                logger.warning("the sweeper's job %s cannot run: %s%s", title, refusal.message, cause)
            failing = True
        except asyncio.CancelledError:
            # A cancellation of this task ends it. One that escapes from a driver's own task must not end the job for ever.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            logger.warning("the sweeper's job %s was interrupted", title)
        except Exception:
            logger.exception("the sweeper's job %s failed", title)
        await asyncio.sleep(job.interval_seconds)


async def expire_due_holds(node: Node) -> int:
    """Take back due holds until one call finds fewer than EXPIRE_LIMIT. Holds on locked drops wait for the next sweep.

    Returns the number of holds taken back. Raises Refusal when the database cannot serve.
    """
    expired: int
    lag_of_batch: float | None
    total, lag_seconds = 0, 0.0
    while True:
        [(expired, lag_of_batch)] = await node.database.fetch(EXPIRE_RESERVATIONS, EXPIRE_LIMIT)
        total += expired
        lag_seconds = max(lag_seconds, lag_of_batch or 0)
        EXPIRED.inc(expired)
        if expired < EXPIRE_LIMIT:
            EXPIRY_LAG.set(node.name, lag_seconds)
            if total:
                logger.debug("expired %d reservations", total)
            return total


async def prune_events(database: Database, retention_seconds: int) -> None:
    """Delete events older than `retention_seconds` from the event log; the newest of them stays.

    Raises Refusal when the database cannot serve.
    """
    pruned = PRUNE_LIMIT
    while pruned == PRUNE_LIMIT:
        [(pruned,)] = await database.fetch(PRUNE_EVENTS, retention_seconds, PRUNE_LIMIT)


async def prune_webhooks(database: Database) -> None:
    """Delete old webhooks. Raises Refusal when the database cannot serve."""
    pruned = PRUNE_LIMIT
    while pruned == PRUNE_LIMIT:
        [(pruned,)] = await database.fetch(PRUNE_WEBHOOKS, WEBHOOK_RETENTION_SECONDS, PRUNE_LIMIT)


async def measure_webhooks(node: Node) -> None:
    """Set the gauges of the webhooks. Raises Refusal when the database cannot serve."""
    [(pending, lag_seconds, disabled)] = await node.database.fetch(WEBHOOK_BACKLOG)
    PENDING_WEBHOOKS.set(node.name, pending)
    WEBHOOK_LAG.set(node.name, lag_seconds)
    DISABLED_ENDPOINTS.set(node.name, disabled)


async def measure_notify_queue(node: Node) -> None:
    """Set the gauge of PostgreSQL's notification queue, and end listeners that let it grow.

    Raises Refusal when the database cannot serve.
    """
    usage = await node.database.notify_queue_usage()
    NOTIFY_QUEUE.set(node.name, usage)
    if usage and (ended := await node.database.end_blocked_listeners()):
        logger.warning("the sweeper ended %d listeners that took no notifications; their processes are frozen", ended)
