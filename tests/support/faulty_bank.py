"""A payment provider that keeps the money, and loses, doubles, delays and reorders what passes between it and the service.

It speaks as Stripe does, or as docs/payments.md asks of any other provider. What it does is decided by one chance, so that a run
can be repeated with the same seed, as far as its order is the same.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from json import dumps, loads
from urllib.parse import parse_qsl
from uuid import uuid4

import httpx
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support import localstripe, payment_provider
from tests.support.in_process import server_for, url_of
from tests.support.row_checks import Row
from tests.support.waiting import eventually

LOST_SHARE = 0.12
"""The share of the webhooks that never come."""

ANSWERS = {
    "good": 70,
    "fails before": 6,
    "fails after": 6,
    "is cut before": 4,
    "is cut after": 6,
    "comes too late": 3,
    "acts too late": 2,
}
"""What becomes of a request of the service, and how often."""

TOO_LATE_SECONDS = 5
"""Longer than the service waits for an answer."""

STRIPE_STATUS = {
    "open": "requires_payment_method",
    "failed": "requires_payment_method",
    "cancelled": "canceled",
    "paid": "succeeded",
}


@dataclass
class Refund:
    """Money that was given back."""

    amount: Decimal
    call_id: str | None
    id: str = field(default_factory=lambda: f"re_{uuid4().hex}")
    created: float = field(default_factory=time.time)


@dataclass
class Account:
    """A payment as the provider has it."""

    payment_id: str
    reference: str
    amount: Decimal
    currency: str
    status: str = "open"
    refunds: list[Refund] = field(default_factory=list)

    @property
    def refunded(self) -> Decimal:
        """What was given back so far."""
        return sum((refund.amount for refund in self.refunds), Decimal(0))

    @property
    def kept(self) -> Decimal:
        """What the seller has of it."""
        return self.amount - self.refunded if self.status == "paid" else Decimal(0)


class RefusedError(Exception):
    """The provider will not do this."""


class FaultyBank:
    """The accounts, and the two ways to them: the service's requests, and the webhooks."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.url = ""
        self.webhook_urls: list[str] = []
        self.accounts: dict[str, Account] = {}
        """By the id of the payment."""

        self.is_calm = False
        """Whether all requests are answered, and webhooks come at once."""

        self.wrong_answers: list[str] = []
        """Answers to webhooks that the service must not give."""

        self.told: set[str] = set()
        """The ids of the events that were brought to the service."""

        self.lost = 0
        self.broken = 0
        self._chance = random.Random(f"bank {seed}")  # noqa: S311 - chance that can be repeated, not a secret
        self._answers: dict[str, tuple[int, Row]] = {}
        self._in_progress: set[str] = set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=50))

    # What buyers and people at the provider do.

    def pay(self, payment_id: str) -> bool:
        """Pay, if that is still possible."""
        account = self.accounts.get(payment_id)
        if account is None or account.status not in {"open", "failed"}:
            return False
        account.status = "paid"
        self._tell(account, "paid")
        return True

    def decline(self, payment_id: str) -> None:
        """Try to pay with a card that is declined."""
        account = self.accounts.get(payment_id)
        if account is not None and account.status in {"open", "failed"}:
            account.status = "failed"
            self._tell(account, "failed")

    def refund(self, account: Account, amount: Decimal, call_id: str | None = None) -> None:
        """Give money back. More than is left is refused."""
        if account.status != "paid" or not 0 < amount <= account.amount - account.refunded:
            raise RefusedError("charge_already_refunded" if account.refunded == account.amount else "amount_too_large")
        account.refunds.append(Refund(amount, call_id))
        self._tell(account, "refunded", is_lost_for_ever=self.kind == "stripe" or call_id is not None)

    def cancel(self, account: Account) -> None:
        """Let nobody pay any more."""
        if account.status == "paid":
            raise RefusedError("payment_intent_unexpected_state")
        if account.status != "cancelled":
            account.status = "cancelled"
            self._tell(account, "cancelled")

    def tell_of_unknown(self, times: int) -> None:
        """Tell of a payment that nobody made, several times at once."""
        account = Account(str(uuid4()), f"pi_{uuid4().hex}", Decimal(10), "USD", "paid")
        self._deliver(*self._event(account, "paid"), copies=times)

    # The webhooks.

    def _tell(self, account: Account, status: str, *, is_lost_for_ever: bool = True) -> None:
        event_id, body = self._event(account, status)
        if not self.is_calm and is_lost_for_ever and self._chance.random() < LOST_SHARE:
            self.lost += 1
            return
        self._deliver(event_id, body, copies=1 if self.is_calm else self._chance.choice([1, 1, 1, 2, 2, 4]))

    def _event(self, account: Account, status: str) -> tuple[str, str]:
        if self.kind == "webhook":
            notice: Row = {"payment_id": account.payment_id, "status": status, "provider_reference": account.reference}
            notice |= {"amount": float(account.amount), "currency": account.currency}
            if status == "refunded":
                notice["refunded_amount"] = float(account.refunded)
            return f"msg_{uuid4().hex}", dumps(notice)
        kind, found = {
            "paid": ("payment_intent.succeeded", self._intent(account)),
            "failed": ("payment_intent.payment_failed", self._intent(account)),
            "cancelled": ("payment_intent.canceled", self._intent(account)),
            "refunded": ("charge.refunded", self._charge(account)),
        }[status]
        event_id = f"evt_{uuid4().hex}"
        event = {"id": event_id, "object": "event", "type": kind, "livemode": False, "data": {"object": found}}
        return event_id, dumps(event)

    def _deliver(self, event_id: str, body: str, copies: int) -> None:
        together = self._chance.random() < 0.5
        first = 0 if self.is_calm else self._chance.choice([0, 0, self._chance.uniform(0, 1), self._chance.uniform(0, 6)])
        for _ in range(copies):
            delay = first if together else first + self._chance.uniform(0, 2)
            task = asyncio.create_task(self._deliver_once(event_id, body, delay))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver_once(self, event_id: str, body: str, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        while True:
            headers = localstripe.signed(body) if self.kind == "stripe" else payment_provider.signed(body, event_id)
            try:
                answer = await self._http.post(self._chance.choice(self.webhook_urls), content=body, headers=headers)
            except httpx.TransportError:  # the service was killed
                answer = None
            if answer is not None and answer.status_code == 200:
                self.told.add(event_id)
                return
            if answer is not None and answer.status_code != 503:
                self.wrong_answers.append(f"webhook {event_id}: {answer.status_code} {answer.text[:300]}")
                if answer.status_code < 500:
                    return
            await asyncio.sleep(0.3)

    async def delivered(self) -> None:
        """Wait until every webhook that is not lost was taken."""
        while self._deliveries:
            await asyncio.wait(self._deliveries)

    # The requests of the service.

    async def take(self, request: Request) -> Response:
        """A request of the service, and what becomes of it on the way."""
        fate = "good" if self.is_calm else self._chance.choices(list(ANSWERS), list(ANSWERS.values()))[0]
        self.broken += fate != "good"
        body = await request.body()
        if fate == "fails before":
            return Response(status_code=self._chance.choice([500, 502, 503, 429]))
        if fate == "is cut before":
            return cut()
        if fate == "acts too late":
            await asyncio.sleep(TOO_LATE_SECONDS)
        answer = await self._answer(request, body, TOO_LATE_SECONDS if fate == "comes too late" else 0)
        return Response(status_code=500) if fate == "fails after" else cut() if fate == "is cut after" else answer

    async def _answer(self, request: Request, body: bytes, seconds: float) -> Response:
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is not None and key in self._in_progress:
            return JSONResponse(
                {"error": {"type": "invalid_request_error", "code": "idempotency_key_in_use"}},
                409 if self.kind == "stripe" else 503,
            )
        if key is None or key not in self._answers:
            carry_out: Callable[[Request, bytes], Row] = self._as_stripe if self.kind == "stripe" else self._as_documented
            try:
                answer = 200, carry_out(request, body)
            except RefusedError as error:
                refused = {"type": "invalid_request_error", "code": str(error), "message": str(error)}
                answer = 400 if self.kind == "stripe" else 409, {"error": refused}
            if key is not None:
                self._in_progress.add(key)
                self._answers[key] = answer
        else:
            answer = self._answers[key]
        await asyncio.sleep(seconds)
        if key is not None:
            self._in_progress.discard(key)
        return JSONResponse(answer[1], answer[0])

    def _as_stripe(self, request: Request, body: bytes) -> Row:
        given = dict(parse_qsl(body.decode())) | dict(request.query_params)
        path = request.url.path.removeprefix("/v1/").split("/")
        match request.method, path:
            case "POST", ["payment_intents"]:
                amount, currency = Decimal(given["amount"]) / 100, given["currency"].upper()
                return self._intent(self._made(given["metadata[payment_id]"], amount, currency))
            case "GET", ["payment_intents", reference]:
                return self._intent(self._by_reference(reference))
            case "POST", ["payment_intents", reference, "cancel"]:
                account = self._by_reference(reference)
                if account.status == "cancelled":
                    raise RefusedError("payment_intent_unexpected_state")
                self.cancel(account)
                return self._intent(account)
            case "POST", ["refunds"]:
                account = self._by_reference(given["payment_intent"])
                self.refund(account, Decimal(given["amount"]) / 100, given["metadata[call_id]"])
                return self._refund(account, account.refunds[-1])
            case "GET", ["refunds"]:
                found = [self._refund(account, refund) for account in self.accounts.values() for refund in account.refunds
                         if given.get("payment_intent") in {None, account.reference}]  # fmt: skip
                found.sort(key=lambda refund: refund["created"], reverse=True)
                first = 1 + [refund["id"] for refund in found].index(given["starting_after"]) if "starting_after" in given else 0
                page = found[first : first + int(given["limit"])]
                return {"object": "list", "data": page, "has_more": len(found) > first + len(page), "url": "/v1/refunds"}
        raise AssertionError(f"{request.method} {request.url}")

    def _as_documented(self, request: Request, body: bytes) -> Row:
        Webhook(payment_provider.SECRET).verify(body.decode(), dict(request.headers))
        message = loads(body, parse_float=Decimal)
        payment = message["payment"]
        account = self.accounts.get(payment["id"])
        match message["action"]:
            case "create":
                account = self._made(payment["id"], Decimal(payment["amount"]), payment["currency"])
                return {"provider_reference": account.reference, "url": f"https://pay.example/{account.payment_id}"}
            case "status":
                if account is None:
                    return {"status": "pending"}
                status = {"open": "pending", "paid": "refunded" if account.refunds else "paid"}.get(
                    account.status, account.status
                )
                found: Row = {"status": status, "provider_reference": account.reference}
                found |= {"amount": float(account.amount), "currency": account.currency}
                return found | ({"refunded_amount": float(account.refunded)} if status == "refunded" else {})
            case "cancel":
                self.cancel(account or self._made(payment["id"], Decimal(payment["amount"]), payment["currency"]))
            case "refund":
                assert account is not None
                left = account.amount - account.refunded
                if left > 0:
                    self.refund(account, min(left, Decimal(message["amount"])), request.headers["webhook-id"])
        return {}

    def _made(self, payment_id: str, amount: Decimal, currency: str) -> Account:
        return self.accounts.setdefault(payment_id, Account(payment_id, f"pi_{uuid4().hex}", amount, currency))

    def _by_reference(self, reference: str) -> Account:
        return next(account for account in reversed(self.accounts.values()) if account.reference == reference)

    def _intent(self, account: Account) -> Row:
        return {
            "id": account.reference,
            "object": "payment_intent",
            "livemode": False,
            "amount": int(account.amount * 100),
            "amount_received": int(account.amount * 100) if account.status == "paid" else 0,
            "currency": account.currency.lower(),
            "client_secret": f"{account.reference}_secret",
            "status": STRIPE_STATUS[account.status],
            "last_payment_error": {"type": "card_error"} if account.status == "failed" else None,
            "latest_charge": self._charge(account) if account.status == "paid" else None,
            "metadata": {"payment_id": account.payment_id},
        }

    def _charge(self, account: Account) -> Row:
        return {
            "id": f"ch_{account.reference}",
            "object": "charge",
            "amount": int(account.amount * 100),
            "amount_refunded": int(account.refunded * 100),
            "currency": account.currency.lower(),
            "payment_intent": account.reference,
            "metadata": {"payment_id": account.payment_id},
        }

    def _refund(self, account: Account, refund: Refund) -> Row:
        return {
            "id": refund.id,
            "object": "refund",
            "amount": int(refund.amount * 100),
            "status": "succeeded",
            "created": int(refund.created),
            "currency": account.currency.lower(),
            "payment_intent": account.reference,
            "metadata": {} if refund.call_id is None else {"payment_id": account.payment_id, "call_id": refund.call_id},
        }


def cut() -> Response:
    """An answer that ends in its middle."""

    async def half() -> AsyncIterator[bytes]:
        yield b"{"

    return StreamingResponse(half(), headers={"content-length": "1000", "content-type": "application/json"})


@asynccontextmanager
async def faulty_bank(kind: str, seed: int) -> AsyncIterator[FaultyBank]:
    """A provider that serves in this event loop."""
    found = FaultyBank(kind, seed)
    server = server_for(Starlette(routes=[Route("/{path:path}", found.take, methods=["GET", "POST"])]))
    serving = asyncio.create_task(server.serve())
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.disabled = True  # because each answer that is cut would be an error in it
    try:
        await eventually(lambda: server.started or serving.done())
        found.url = url_of(server)
        yield found
    finally:
        server.should_exit = True
        await serving
        uvicorn_log.disabled = False
        await found._http.aclose()


def settings_of(bank: FaultyBank) -> dict[str, str]:
    """The variables of a service whose payments this bank takes."""
    if bank.kind == "stripe":
        return {
            "PAYMENT_PROVIDER": "stripe",
            "STRIPE_SECRET_KEY": localstripe.SECRET_KEY,
            "STRIPE_WEBHOOK_SECRET": localstripe.WEBHOOK_SECRET,
            "STRIPE_API_URL": bank.url,
        }
    return {
        "PAYMENT_PROVIDER": "webhook",
        "PAYMENT_WEBHOOK_SECRET": payment_provider.SECRET,
        "PAYMENT_PROVIDER_URL": f"{bank.url}/lastpair",
    }
