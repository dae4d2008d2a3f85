"""The sweeper: jobs that run again and again.

They take back due holds, start and end drops, prune the event log, old keys and webhooks, and read gauges; payments add theirs.
Every process runs them; locks in the database keep two processes from doing the same work. Each job has its own task, its own
interval and its own failures, so that one job that is slow or fails does not delay the others.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from lastpair.database.pool import Database
from lastpair.database.servers import reason
from lastpair.errors import Refusal
from lastpair.observability.metrics import (
    EXPIRED,
    EXPIRY_LAG_SECONDS,
    NOTIFY_QUEUE_USAGE,
    SWEPT_AT,
    WEBHOOK_ENDPOINTS_DISABLED,
    WEBHOOK_LAG_SECONDS,
    WEBHOOKS_PENDING,
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
NOTIFY_QUEUE = "select pg_notification_queue_usage()"
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


def jobs(database: Database, settings: Settings) -> list[Job]:
    """The jobs of a process."""
    poll_seconds = settings.expiry_poll_ms / 1000
    shortest, longest = PRUNE_INTERVAL_SECONDS
    prune_seconds = min(max(settings.event_retention_seconds / 10, shortest), longest)
    return [
        Job("expire_holds", poll_seconds, partial(expire_due_holds, database)),
        Job("advance_drops", poll_seconds, partial(database.fetch, ADVANCE_DROPS)),
        Job("prune_events", prune_seconds, partial(prune_events, database, settings.event_retention_seconds)),
        Job("prune_idempotency_keys", KEY_PRUNE_INTERVAL_SECONDS, partial(database.fetch, PRUNE_KEYS, KEY_RETENTION_SECONDS)),
        Job("prune_webhooks", WEBHOOK_PRUNE_INTERVAL_SECONDS, partial(prune_webhooks, database)),
        Job("measure_webhooks", WEBHOOK_GAUGE_INTERVAL_SECONDS, partial(measure_webhooks, database)),
        Job("measure_notify_queue", GAUGE_INTERVAL_SECONDS, partial(measure_notify_queue, database)),
    ]


async def sweep(database: Database, settings: Settings, more: Iterable[Job] = ()) -> None:
    """Run every job, and those of others, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for job in (*jobs(database, settings), *more):
            group.create_task(repeat(job))


async def repeat(job: Job) -> None:
    """Run one job again and again until cancelled. It survives a lost database, which it logs once an outage."""
    failing = False
    succeeded_at = SWEPT_AT.labels(job.name)  # 0 from now on, so that an alert sees a job that never succeeds
    while True:
        try:
            await job.run()
            succeeded_at.set_to_current_time()
            failing = False
        except Refusal as refusal:
            if not failing:
                cause = f" ({reason(refusal.__cause__)})" if refusal.__cause__ else ""
                logger.warning("the sweeper's job %s cannot run: %s%s", job.name, refusal.message, cause)
            failing = True
        except asyncio.CancelledError:
            # A cancellation of this task ends it. One that escapes from a driver's own task must not end the job for ever.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            logger.warning("the sweeper's job %s was interrupted", job.name)
        except Exception:
            logger.exception("the sweeper's job %s failed", job.name)
        await asyncio.sleep(job.interval_seconds)


async def expire_due_holds(database: Database) -> int:
    """Take back due holds until one call finds fewer than EXPIRE_LIMIT. Holds on locked drops wait for the next sweep.

    Returns the number of holds taken back. Raises Refusal when the database cannot serve.
    """
    expired: int
    lag_of_batch: float | None
    total, lag_seconds = 0, 0.0
    while True:
        [(expired, lag_of_batch)] = await database.fetch(EXPIRE_RESERVATIONS, EXPIRE_LIMIT)
        total += expired
        lag_seconds = max(lag_seconds, lag_of_batch or 0)
        EXPIRED.inc(expired)
        if expired < EXPIRE_LIMIT:
            EXPIRY_LAG_SECONDS.set(lag_seconds)
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


async def measure_webhooks(database: Database) -> None:
    """Set the gauges of the webhooks. Raises Refusal when the database cannot serve."""
    [(pending, lag_seconds, disabled)] = await database.fetch(WEBHOOK_BACKLOG)
    WEBHOOKS_PENDING.set(pending)
    WEBHOOK_LAG_SECONDS.set(lag_seconds)
    WEBHOOK_ENDPOINTS_DISABLED.set(disabled)


async def measure_notify_queue(database: Database) -> None:
    """Set the gauge of PostgreSQL's notification queue, and end listeners that let it grow.

    Raises Refusal when the database cannot serve.
    """
    [(usage,)] = await database.fetch(NOTIFY_QUEUE)
    NOTIFY_QUEUE_USAGE.set(usage)
    if usage and (ended := await database.end_blocked_listeners()):
        logger.warning("the sweeper ended %d listeners that took no notifications; their processes are frozen", ended)
