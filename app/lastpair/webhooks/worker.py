"""The workers: they make deliveries of the messages that transactions wrote, and send those that are due.

Every process has one for each node. Leases in the database keep two of them from sending the same. A lane, which is one endpoint
and one drop, is sent by one task, one message after the other; a task of another lane does not wait for it. See the migration of
the webhooks.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import Any

import orjson

from lastpair.database.nodes import Node, Nodes, on_each
from lastpair.database.servers import reason
from lastpair.errors import Refusal, Unavailable
from lastpair.observability.metrics import WEBHOOK_ATTEMPT_SECONDS, WEBHOOK_ATTEMPTS
from lastpair.webhooks.sender import GONE, Attempt, Sender

POLL_SECONDS = 0.5
IDLE_POLL_SECONDS = 5
"""How often to look for messages, and how often if there is no endpoint."""

FAN_OUT_LIMIT = 1000
"""Messages of which deliveries are made in one transaction."""

LANES_PER_ENDPOINT = 4
"""Lanes of an endpoint that a process sends at the same time."""

DELIVERIES_PER_LANE = 50
"""Deliveries that are taken, and whose results are noted, in one go."""

LEASE_SECONDS = 30
SENDING_SECONDS = 10
"""After this time a lane begins no further delivery, so that the results are noted well before the lease ends."""

FAN_OUT = "select api.fan_out_webhooks($1)"
TAKE = """
select endpoint_id::text, lane::text, lease::text, url, secrets, delivery_id::text, webhook_id::text, body
from api.take_webhook_deliveries($1::text[]::uuid[], $2, $3, $4)
"""
FINISH = "select from api.finish_webhook_deliveries($1, $2, $3, $4::text::json, $5)"

logger = logging.getLogger("lastpair")


class Workers:
    """The workers of a process. Nodes do not wait for each other's deliveries."""

    def __init__(self, nodes: Nodes, sender: Sender) -> None:
        self._nodes = nodes
        self._sender = sender
        self._workers: set[Worker] = set()

    def wake(self) -> None:
        """Look at once, because an endpoint or a delivery is new."""
        for worker in self._workers:
            worker.wake()

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            await on_each(self._nodes, self._work)
        finally:
            await self._sender.close()

    async def _work(self, node: Node) -> None:
        worker = Worker(node, self._sender)
        self._workers.add(worker)
        try:
            await worker.run()
        finally:
            self._workers.discard(worker)


class Worker:
    """Sends what is due on a node until it is cancelled."""

    def __init__(self, node: Node, sender: Sender) -> None:
        self._database = node.database
        self._sender = sender
        self._wake = asyncio.Event()
        self._lanes: dict[asyncio.Task[None], str] = {}

    def wake(self) -> None:
        """Look at once, because an endpoint or a delivery is new."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled. It survives a lost database, which it logs once an outage."""
        failing = False
        try:
            while True:
                self._wake.clear()
                pause_seconds: float = POLL_SECONDS
                try:
                    if not await self._look():
                        pause_seconds = IDLE_POLL_SECONDS
                    failing = False
                except Refusal as refusal:
                    if not failing:
                        cause = f" ({reason(refusal.__cause__)})" if refusal.__cause__ else ""
                        logger.warning("webhooks cannot be sent: %s%s", refusal.message, cause)
                    failing = True
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    logger.warning("the worker of the webhooks was interrupted")
                except Exception:
                    logger.exception("the worker of the webhooks failed")
                await self._pause(pause_seconds)
        finally:
            await self._stop()

    async def _look(self) -> bool:
        # Returns whether there is an endpoint.
        new = FAN_OUT_LIMIT
        while new == FAN_OUT_LIMIT:
            [(new,)] = await self._database.fetch(FAN_OUT, FAN_OUT_LIMIT)
        if new is None:
            return False
        rows = await self._database.fetch(
            TAKE, list(self._lanes.values()), LANES_PER_ENDPOINT, DELIVERIES_PER_LANE, LEASE_SECONDS
        )
        lanes: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
        for row in rows:
            lanes[row["endpoint_id"], row["lane"], row["lease"]].append(row)
        for lane, deliveries in lanes.items():
            task = asyncio.create_task(self._send_lane(*lane, deliveries))
            self._lanes[task] = lane[0]
            task.add_done_callback(self._lane_ended)
        return True

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        del self._lanes[task]
        self._wake.set()  # the lane may have more, or another lane waits for its place
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("webhooks of a lane failed", exc_info=error)

    async def _send_lane(self, endpoint_id: str, lane: str, lease: str, deliveries: Sequence[Any]) -> None:
        begin = monotonic()
        results: list[dict[str, Any]] = []
        attempt = Attempt(None, None)
        try:
            for delivery in deliveries:
                if attempt.error is not None or monotonic() - begin > SENDING_SECONDS:
                    break
                attempt = await self._send(delivery)
                results.append({"id": delivery["delivery_id"], "status": attempt.status, "error": attempt.error})
        finally:  # also if this process stops, so that another one need not wait for the end of the lease
            arguments = (endpoint_id, lane, lease, orjson.dumps(results).decode(), attempt.status == GONE)
            await self._finish(begin + LEASE_SECONDS, arguments)

    async def _send(self, delivery: Any) -> Attempt:
        begin = perf_counter()
        attempt = await self._sender.send(delivery["url"], delivery["secrets"], delivery["webhook_id"], delivery["body"].encode())
        WEBHOOK_ATTEMPT_SECONDS.observe(perf_counter() - begin)
        WEBHOOK_ATTEMPTS.labels("delivered" if attempt.error is None else "failed").inc()
        if attempt.error is not None:
            logger.info("a webhook was not delivered: the endpoint %s %s", delivery["endpoint_id"], attempt.error)
        return attempt

    async def _finish(self, deadline: float, arguments: Sequence[Any]) -> None:
        # If the results cannot be noted, the deliveries are sent again.
        while True:
            try:
                await self._database.fetch(FINISH, *arguments)
                return
            except Unavailable:
                if monotonic() > deadline:
                    raise
                await asyncio.sleep(1)

    async def _stop(self) -> None:
        lanes = list(self._lanes)
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
