"""The poller: what the clock does to drops and holds. Runs in every process; the database keeps them apart."""

import asyncio
import logging

from app.database import Database
from app.http import Refusal
from app.metrics import EXPIRED, EXPIRY_LAG_SECONDS, NOTIFY_QUEUE_USAGE, POLLED_AT

SWEEP_LIMIT = 1000
PRUNE_LIMIT = 10_000
EXPIRE_RESERVATIONS = "select count(*), extract(epoch from max(now() - expires_at))::float from api.expire_reservations($1)"
ADVANCE_DROPS = "select from api.advance_drops()"
NOTIFY_QUEUE = "select pg_notification_queue_usage()"
PRUNE_EVENTS = "select api.prune_events($1, $2)"

logger = logging.getLogger("lastpair")


async def expire_due(database: Database) -> int:
    """Expire reservations until nothing is due; returns how many. Raises Refusal when the database cannot serve."""
    expired: int
    latest_seconds: float | None
    total, lag_seconds = 0, 0.0
    while True:
        [(expired, latest_seconds)] = await database.fetch(EXPIRE_RESERVATIONS, SWEEP_LIMIT)
        total += expired
        lag_seconds = max(lag_seconds, latest_seconds or 0)
        EXPIRED.inc(expired)
        if expired < SWEEP_LIMIT:
            EXPIRY_LAG_SECONDS.set(lag_seconds)
            return total


async def prune_old(database: Database, retention_seconds: int) -> None:
    """Forget the events older than that. Raises Refusal when the database cannot serve."""
    pruned = PRUNE_LIMIT
    while pruned == PRUNE_LIMIT:
        [(pruned,)] = await database.fetch(PRUNE_EVENTS, retention_seconds, PRUNE_LIMIT)


async def poll(database: Database, interval_ms: int, retention_seconds: int) -> None:
    """Once now and then every `interval_ms`, until cancelled. Survives a lost database."""
    failing = False
    while True:
        try:
            expired = await expire_due(database)
            await database.fetch(ADVANCE_DROPS)
            await prune_old(database, retention_seconds)
            [(usage,)] = await database.fetch(NOTIFY_QUEUE)
            NOTIFY_QUEUE_USAGE.set(usage)
            POLLED_AT.set_to_current_time()
            if expired:
                logger.debug("expired %d reservations", expired)
            failing = False
        except Refusal as refusal:
            if not failing:  # once an outage, not once a poll
                logger.warning("the poller cannot work: %s", refusal.message)
            failing = True
        except Exception:
            logger.exception("the poller failed")
        await asyncio.sleep(interval_ms / 1000)
