"""The class `Payments`: tells the providers what was decided, and records what they tell, on each node by itself.

The database decides. What a provider has to be told is a row of `inventory.provider_calls`, written in the transaction that
decided it, so a crash cannot lose it. Here the calls are taken with a lease, made outside of any transaction, and finished. If a
process ends between a call and its finish, the lease ends, and another process makes the call again with the same key.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

from lastpair.database.nodes import Node, Nodes
from lastpair.errors import Refusal, Unavailable
from lastpair.observability.metrics import (
    GIVEN_UP_CALLS,
    PAYMENT_EVENTS,
    PAYMENTS_EXPIRED,
    PROVIDER_CALL_SECONDS,
    PROVIDER_CALLS,
    WAITING_CALLS,
)
from lastpair.payments.provider import Call, Created, Payment, Provider, ProviderEvent, ProviderRefused, ProviderUnavailable
from lastpair.payments.wire import as_number
from lastpair.settings import Settings

PAYMENT_TIMEOUT_SECONDS = 5
"""How long the answer to a purchase waits for the provider."""

CALL_TIMEOUT_SECONDS = 12
"""How long a call may take with all that the provider's own timeouts leave open."""

LEASE_SECONDS = 30
"""How long a call belongs to the process that took it: longer than it takes to make and to finish it."""

CALLS_AT_ONCE = 16
"""How many calls for payments of one node a process makes at the same time, at most."""

EXPIRE_LIMIT = 1000
RECONCILE_PAGE = 100
RECONCILED_AT_ONCE = 4
RECONCILE_INTERVAL_SECONDS = 86_400
SETTLED_AFTER_SECONDS = 60
"""Younger payments are left alone by the nightly comparison, because what happened to them is still being told."""

REFUNDS_BACK = timedelta(days=3)
"""How far back the comparison looks for refunds that were made at the provider."""

MAX_ERROR_LENGTH = 300
PAYABLE = frozenset({"pending", "failed"})
CALL_NOT_FOUND = "PROVIDER_CALL_NOT_FOUND"
UNANSWERED = "unanswered"

SET_PROVIDER = "select api.set_payment_provider($1, $2)"
PAYMENT = ", ".join(
    f"(c.payment).{name}"
    for name in (
        *("id::text", "status", "amount", "currency", "refunded_amount"),
        *("provider", "provider_reference", "expires_at"),
    )
)
TAKE_CALLS = f"select c.id::text, c.action, c.amount, c.attempts, {PAYMENT} from api.take_provider_calls($1, $2, $3) c"  # noqa: S608
FINISH_CALL = "select api.finish_provider_call($1, $2, $3, $4)"
FAIL_CALL = "select api.fail_provider_call($1, $2, $3)"
RECORD_EVENT = """
select outcome, problem, (payment).id::text
from api.record_payment_event(json_populate_record(null::api.payment_event, $1::text::json))
"""
EXPIRE_PAYMENTS = "select api.expire_payments($1)"
UNSETTLED = f"select {PAYMENT} from (select p from api.unsettled_payments($1, $2, $3) p) c (payment)"  # noqa: S608
COUNT_CALLS = "select waiting, gave_up from api.count_provider_calls()"
CLAIM_RECONCILIATION = "select api.claim_reconciliation($1)"

logger = logging.getLogger("lastpair")


class Recorded(NamedTuple):
    """What became of an event of a provider."""

    outcome: str
    """applied, unchanged or flagged."""

    problem: str | None
    payment_id: str | None


class Reconciled(NamedTuple):
    """What a comparison with the providers found."""

    compared: int
    mended: int
    flagged: int
    unanswered: int
    """Payments of which the provider did not say how they stand."""


class Payments:
    """The payments of a process. With PAYMENT_PROVIDER=none and no provider's secrets it does nothing."""

    def __init__(self, nodes: Nodes, settings: Settings, providers: Mapping[str, Provider]) -> None:
        """`providers` are those whose secrets are set, so that one which was used before is still served."""
        self.providers = providers
        self._nodes = nodes
        self._settings = settings
        self._on_nodes: dict[Node, NodePayments] = {}
        nodes.on_leave.append(self._forget)

    def at(self, row_id: str) -> "NodePayments":
        """The payments of the node where the row with this id is."""
        return self.on(self._nodes.of(row_id))

    def on(self, node: Node) -> "NodePayments":
        """The payments of this node."""
        payments = self._on_nodes.get(node)
        if payments is None:
            payments = self._on_nodes[node] = NodePayments(node, self._nodes, self._settings, self.providers)
        return payments

    async def record(self, event: ProviderEvent) -> Recorded:
        """Record what a provider told; the database decides what it means. Raises Unavailable."""
        return await (self.on(self._nodes.whole) if event.payment_id is None else self.at(event.payment_id)).record(event)

    async def reconcile(self) -> Reconciled:
        """Compare payments that may still change, of all nodes, with the providers, and record what was never told."""
        found = [await self.on(node).reconcile() for node in self._nodes.all]
        return Reconciled(*map(sum, zip(*found, strict=True)))

    def _forget(self, node: Node) -> None:
        if (payments := self._on_nodes.pop(node, None)) is not None:
            payments.cancel()

    async def close(self) -> None:
        """End what is in flight, and close the connections to the providers."""
        ending = [attempt for payments in self._on_nodes.values() for attempt in payments.cancel()]
        await asyncio.gather(*ending, return_exceptions=True)
        for provider in self.providers.values():
            await provider.close()


class NodePayments:
    """The payments on one node."""

    def __init__(self, node: Node, nodes: Nodes, settings: Settings, providers: Mapping[str, Provider]) -> None:
        self.providers = providers
        self._node = node
        self._nodes = nodes
        self._database = node.database
        self._provider_name = settings.payment_provider
        self._ttl_seconds = settings.payment_ttl_seconds
        self._is_announced = False
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._attempts: set[asyncio.Task[None]] = set()

    async def announce(self) -> None:
        """Tell the database who takes the money, once. Raises Unavailable.

        A purchase must wait for this, because the database would sell without a payment.
        """
        if not self._is_announced:
            await self._database.fetch(SET_PROVIDER, self._provider_name, self._ttl_seconds)
            self._is_announced = True

    async def begin(self, payment_id: str) -> None:
        """Tell the provider of a payment that was just made, and wait PAYMENT_TIMEOUT_SECONDS at most.

        What takes longer goes on, and what fails is tried again by work_off().
        """
        attempt = asyncio.create_task(self._begin(payment_id))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._ended)
        await asyncio.wait({attempt}, timeout=PAYMENT_TIMEOUT_SECONDS)

    def _ended(self, attempt: "asyncio.Task[None]") -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and (error := attempt.exception()) is not None:
            logger.error("a payment was not begun, and is tried again", exc_info=error)

    async def _begin(self, payment_id: str) -> None:
        with suppress(Refusal):  # the purchase is committed, and the worker makes the call later
            async with self._slots:
                for call in await self._take(1, payment_id):
                    await self._carry_out(call)

    async def work_off(self) -> None:
        """Make the calls that are due, until there are none. Raises Refusal when the database cannot serve."""
        making: set[asyncio.Task[None]] = set()
        try:
            # The next call is taken as soon as one ends, because one that waits for a slow answer must not delay the others.
            while True:
                making |= {asyncio.create_task(self._in_slot(call)) for call in await self._take(CALLS_AT_ONCE - len(making))}
                if not making:
                    break
                ended, making = await asyncio.wait(making, return_when=asyncio.FIRST_COMPLETED)
                for call in ended:
                    call.result()
        finally:
            for call in making:
                call.cancel()
            await asyncio.gather(*making, return_exceptions=True)
        [(waiting, gave_up)] = await self._database.fetch(COUNT_CALLS)
        WAITING_CALLS.set(self._node.name, waiting)
        GIVEN_UP_CALLS.set(self._node.name, gave_up)

    async def _in_slot(self, call: Call) -> None:
        async with self._slots:
            await self._carry_out(call)

    async def _take(self, limit: int, payment_id: str | None = None) -> list[Call]:
        rows = await self._database.fetch(TAKE_CALLS, limit, LEASE_SECONDS, payment_id)
        return [Call(row[0], row[1], row[2], row[3], Payment(*row[4:])) for row in rows]

    async def _carry_out(self, call: Call) -> None:
        # A Refusal of the database goes on to the caller: the lease ends, and the call is made again. What the database cannot
        # keep is a failure of this call, so that it is given up some day and the calls for other payments are made.
        try:
            created = await self._tell(call)
            await self._write(FINISH_CALL, call.id, *created)
        except Refusal:
            raise
        except ProviderRefused as error:
            await self._fail(call, str(error), is_final=True)
        except ProviderUnavailable as error:
            await self._fail(call, str(error), is_final=False)
        except TimeoutError:
            await self._fail(call, f"no answer within {CALL_TIMEOUT_SECONDS} s", is_final=False)
        except Exception as error:  # of one call, and others are in flight
            logger.exception("the call %s of payment %s met a fault of ours", call.action, call.payment.id)
            await self._fail(call, f"{type(error).__name__} in the service", is_final=False)
        else:
            PROVIDER_CALLS.labels(call.payment.provider, call.action, "done").inc()

    async def _tell(self, call: Call) -> Created:
        provider = self.providers.get(call.payment.provider)
        if provider is None:
            raise ProviderUnavailable(f"the settings of the provider {call.payment.provider} are missing")
        with PROVIDER_CALL_SECONDS.labels(provider.name, call.action).time():
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                match call.action:
                    case "create":
                        # A payment that has ended meanwhile is not made there.
                        return await provider.create(call) if call.payment.status in PAYABLE else Created(None)
                    case "cancel":
                        event = await provider.cancel(call)
                    case "refund":
                        await provider.refund(call)
                        event = None
        if event is not None:
            await self.record(event)
        return Created(None)

    async def _fail(self, call: Call, error: str, *, is_final: bool) -> None:
        PROVIDER_CALLS.labels(call.payment.provider, call.action, "refused" if is_final else "failed").inc()
        logger.warning(
            "the call %s of payment %s to %s %s, attempt %d: %s",
            call.action,
            call.payment.id,
            call.payment.provider,
            "was refused" if is_final else "failed",
            call.attempts,
            error[:MAX_ERROR_LENGTH],
        )
        await self._write(FAIL_CALL, call.id, error[:MAX_ERROR_LENGTH], is_final)

    async def _write(self, statement: str, *arguments: object) -> None:
        # The call is gone if what the provider told meanwhile has made it unnecessary.
        try:
            await self._database.fetch(statement, *arguments)
        except Refusal as refusal:
            if refusal.code != CALL_NOT_FOUND:
                raise

    async def record(self, event: ProviderEvent) -> Recorded:
        """Record what a provider told; the database decides what it means. Raises Unavailable."""
        [row] = await self._database.fetch_single(RECORD_EVENT, orjson.dumps(asdict(event), default=as_number).decode())
        recorded = Recorded(*row)
        PAYMENT_EVENTS.labels(event.provider, recorded.outcome).inc()
        if recorded.outcome == "flagged":
            logger.warning(
                "the event %s of %s is flagged %s; payment %s",
                event.event_id,
                event.provider,
                recorded.problem,
                recorded.payment_id or "unknown",
            )
        return recorded

    async def expire(self) -> None:
        """Let payments end that are over, so that their units go back. Raises Refusal when the database cannot serve."""
        expired = EXPIRE_LIMIT
        while expired == EXPIRE_LIMIT:
            [(expired,)] = await self._database.fetch(EXPIRE_PAYMENTS, EXPIRE_LIMIT)
            PAYMENTS_EXPIRED.inc(expired)

    async def reconcile_daily(self) -> None:
        """Compare the payments with the providers, once a day by one of all processes."""
        [(is_due,)] = await self._database.fetch(CLAIM_RECONCILIATION, RECONCILE_INTERVAL_SECONDS)
        if is_due:
            found = await self.reconcile(SETTLED_AFTER_SECONDS)
            where = "" if self._node.number is None else f" {self._node.name}"
            logger.info("reconciled%s: %d payments compared, %d mended, %d flagged, %d unanswered", where, *found)

    async def reconcile(self, older_than_seconds: int = 0) -> Reconciled:
        """Compare payments that may still change with the providers, and record what was never told."""
        outcomes: Counter[str] = Counter()
        after = None
        while True:
            rows = await self._database.fetch(UNSETTLED, older_than_seconds, after, RECONCILE_PAGE)
            for first in range(0, len(rows), RECONCILED_AT_ONCE):
                payments = [Payment(*row) for row in rows[first : first + RECONCILED_AT_ONCE]]
                outcomes.update(await asyncio.gather(*map(self._compare, payments)))
            if len(rows) < RECONCILE_PAGE:
                break
            after = rows[-1][0]
        since = datetime.now(UTC) - REFUNDS_BACK
        for provider in self.providers.values():
            try:
                async for event in provider.refunded_since(since):
                    if event.payment_id is None or self._nodes.of(event.payment_id) is self._node:
                        outcomes[await self._record_found(event)] += 1
            except (ProviderRefused, ProviderUnavailable) as error:
                logger.warning("%s does not say what was refunded: %s", provider.name, str(error)[:MAX_ERROR_LENGTH])
                outcomes[UNANSWERED] += 1
        return Reconciled(outcomes.total(), outcomes["applied"], outcomes["flagged"], outcomes[UNANSWERED])

    async def _compare(self, payment: Payment) -> str:
        # What became of what the provider says of this payment.
        provider = self.providers.get(payment.provider)
        if provider is None:
            return UNANSWERED
        try:
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                event = await provider.status(payment)
        except (ProviderRefused, ProviderUnavailable, TimeoutError) as error:
            reason = str(error)[:MAX_ERROR_LENGTH]
            logger.warning("%s does not say how payment %s stands: %s", payment.provider, payment.id, reason)
            return UNANSWERED
        if event is None or (event.status == payment.status and event.status != "refunded"):
            return "unchanged"
        return await self._record_found(event)

    async def _record_found(self, event: ProviderEvent) -> str:
        # What became of an event that was asked for. One that the database refuses must not end the comparison of the others.
        try:
            return (await self.record(event)).outcome
        except Unavailable:
            raise
        except Refusal as refusal:
            logger.warning("what %s says of payment %s is refused: %s", event.provider, event.payment_id, refusal.message)
            return UNANSWERED

    def cancel(self) -> set[asyncio.Task[None]]:
        """End what is in flight. Returns the tasks that end."""
        for attempt in self._attempts:
            attempt.cancel()
        return self._attempts
