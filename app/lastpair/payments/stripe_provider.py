"""Stripe, by its official package: a PaymentIntent for each payment.

The package is the extra `stripe`, so this module is imported only if STRIPE_SECRET_KEY is set.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import datetime
from decimal import Decimal
from time import time
from typing import Any, TypeVar

import stripe
from pydantic import BaseModel, ValidationError

from lastpair.payments.minor_units import NotRepresentable, from_minor_units, to_minor_units
from lastpair.payments.provider import (
    Call,
    Created,
    Payment,
    ProviderEvent,
    ProviderRefused,
    ProviderUnavailable,
    SignatureRefused,
    ToldStatus,
    Unreadable,
)
from lastpair.payments.wire import uuid_or_none
from lastpair.settings import STRIPE_KEY, Settings

TIMEOUT_SECONDS = 4
RETRIES = 1
TOLERANCE_SECONDS = 300
"""How old a signature may be."""

SIGNATURE = re.compile(r"t=([0-9]{1,12}),[!-~]{1,1000}")
PAYMENT_ID = "payment_id"
CALL_ID = "call_id"
"""The metadata of what is made at Stripe: the payment's id, and the id of the call that asked for a refund."""

REFUNDS_OF_A_PAGE = 100
UNMADE = frozenset({"failed", "canceled"})
"""The statuses of a refund that gave nothing back."""

Answer = TypeVar("Answer")


class StripeObject(BaseModel):
    """What is read of a PaymentIntent, a charge or a refund. Stripe adds fields as it likes."""

    id: str
    currency: str
    amount: int
    amount_received: int | None = None
    amount_refunded: int | None = None
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class StripeEventData(BaseModel):
    """The part of an event that has the object."""

    object: dict[str, Any]


class StripeEvent(BaseModel):
    """An event of Stripe, as it comes in a webhook."""

    id: str
    type: str
    livemode: bool
    data: StripeEventData


STATUS_OF_TYPE: dict[str, ToldStatus] = {
    "payment_intent.succeeded": "paid",
    "payment_intent.payment_failed": "failed",
    "payment_intent.canceled": "cancelled",
    "charge.refunded": "refunded",
    "refund.failed": "refunded",
}
"""The events that say something of a payment. Those of refunds besides `charge.refunded` have no total, so they say less."""


class StripeProvider:
    """Stripe as a Provider."""

    name = "stripe"

    def __init__(self, settings: Settings) -> None:
        key = settings.stripe_secret_key.get_secret_value() if settings.stripe_secret_key else ""
        secret = settings.stripe_webhook_secret
        match = STRIPE_KEY.fullmatch(key)
        self._is_live = match is not None and match[1] == "live"
        self._webhook_secret = secret.get_secret_value() if secret else ""
        self._http = stripe.HTTPXClient(timeout=TIMEOUT_SECONDS)
        self._client = stripe.StripeClient(
            key,
            http_client=self._http,
            base_addresses={"api": settings.stripe_api_url.rstrip("/")},
            max_network_retries=RETRIES,
        )

    async def create(self, call: Call) -> Created:
        """Make a PaymentIntent, which a page confirms with its client secret."""
        payment = call.payment
        intent = await _answered(
            self._client.v1.payment_intents.create_async(
                {
                    "amount": _units(payment.amount, payment.currency),
                    "currency": payment.currency.lower(),
                    "metadata": {PAYMENT_ID: payment.id},
                },
                {"idempotency_key": call.id},
            )
        )
        return Created(intent.id, intent.client_secret)

    async def cancel(self, call: Call) -> ProviderEvent | None:
        """Cancel the PaymentIntent, so that it can no longer be paid."""
        reference = call.payment.provider_reference
        if reference is None:
            return None  # no buyer has got the client secret
        try:
            # It has no idempotency key, because Stripe would repeat a refusal for a day, and to cancel twice is harmless.
            await _answered(self._client.v1.payment_intents.cancel_async(reference))
        except ProviderRefused:
            event = await self.status(call.payment)
            if event is None or event.status == "failed":  # it is being paid at this moment, or was
                raise ProviderUnavailable("it cannot be cancelled now, because it is being processed") from None
            return event
        return None

    async def refund(self, call: Call) -> None:
        """Refund a part of the PaymentIntent, or all of it; less if somebody refunded some of it at the dashboard meanwhile."""
        reference, payment = _reference(call), call.payment
        asked = _units(call.amount or Decimal(0), payment.currency)
        # Stripe forgets an idempotency key after a day, and a seller may have the call made again later than that.
        has_refund, left = await self._refunds(call)
        units = min(asked, left)
        if has_refund or units <= 0:
            return
        try:
            await _answered(
                self._client.v1.refunds.create_async(
                    {
                        "payment_intent": reference,
                        "amount": units,
                        "metadata": {PAYMENT_ID: payment.id, CALL_ID: call.id},
                    },
                    # Stripe refuses a key that comes again with another amount. Two amounts cannot both be refunded, because the
                    # smaller one is all that is left.
                    {"idempotency_key": call.id if units == asked else f"{call.id}:{units}"},
                )
            )
        except ProviderRefused:
            if (await self._refunds(call))[1] < units:
                raise ProviderUnavailable("some of it was refunded at Stripe at this moment") from None
            raise

    async def _refunds(self, call: Call) -> tuple[bool, int]:
        # Whether this call was carried out before, and how much of the PaymentIntent is left.
        parameters: Any = {"payment_intent": _reference(call), "limit": REFUNDS_OF_A_PAGE}
        page = await _answered(self._client.v1.refunds.list_async(parameters))
        refunded = sum(refund.amount for refund in page.data if refund.status not in UNMADE)
        has_refund = any(getattr(refund.metadata, CALL_ID, None) == call.id for refund in page.data)
        return has_refund, _units(call.payment.amount, call.payment.currency) - refunded

    async def status(self, payment: Payment) -> ProviderEvent | None:
        """What a webhook would have told of the PaymentIntent."""
        return None if payment.provider_reference is None else await self._status_of(payment.provider_reference)

    async def _status_of(self, reference: str) -> ProviderEvent | None:
        intent = await _answered(self._client.v1.payment_intents.retrieve_async(reference, {"expand": ["latest_charge"]}))
        try:
            found = StripeObject.model_validate(intent.to_dict())
        except ValidationError:
            raise ProviderUnavailable("the answer is not a PaymentIntent") from None
        refunded = getattr(intent.latest_charge, "amount_refunded", None) or 0
        status: ToldStatus
        if intent.status == "succeeded":
            status = "refunded" if refunded else "paid"
        elif intent.status == "canceled":
            status = "cancelled"
        elif intent.status == "requires_payment_method" and intent.last_payment_error is not None:
            status = "failed"
        else:
            return None
        found.amount_refunded = refunded if status == "refunded" else None
        event_id = f"reconciled:{found.id}:{status}:{refunded}"
        return self._told(event_id, status, found, found.id, is_live=intent.livemode, body=found.model_dump_json())

    async def refunded_since(self, moment: datetime) -> AsyncIterator[ProviderEvent]:
        """How the PaymentIntents of ours stand that were refunded since then, the latest refund first."""
        seen: set[str] = set()
        parameters: Any = {"limit": REFUNDS_OF_A_PAGE}
        while True:
            page = await _answered(self._client.v1.refunds.list_async(parameters))
            for refund in page.data:
                if refund.created < moment.timestamp():
                    return
                reference = refund.payment_intent
                if isinstance(reference, str) and reference not in seen:
                    seen.add(reference)
                    event = await self._status_of(reference)
                    if event is not None and event.payment_id is not None:
                        yield event
            if not page.has_more:
                return
            parameters = parameters | {"starting_after": page.data[-1].id}

    def check_signature(self, headers: Mapping[str, str]) -> None:
        """Look at the header Stripe-Signature without the body."""
        match = SIGNATURE.fullmatch(headers.get("stripe-signature", ""))
        if match is None:
            raise SignatureRefused("Stripe-Signature: missing, or not t=…,v1=…")
        if int(match[1]) < time() - TOLERANCE_SECONDS:
            raise SignatureRefused(f"Stripe-Signature: older than {TOLERANCE_SECONDS} s")

    def event_of(self, headers: Mapping[str, str], body: bytes) -> ProviderEvent | None:
        """What an event of Stripe tells of a payment."""
        self.check_signature(headers)
        try:
            stripe.WebhookSignature.verify_header(
                body, headers["stripe-signature"], self._webhook_secret, tolerance=TOLERANCE_SECONDS
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            raise SignatureRefused("Stripe-Signature: not made of this body with STRIPE_WEBHOOK_SECRET") from None
        try:
            event = StripeEvent.model_validate_json(body, strict=True)
            status = STATUS_OF_TYPE.get(event.type)
            found = None if status is None else StripeObject.model_validate(event.data.object, strict=True)
        except ValidationError:
            raise Unreadable("body: is not an event of Stripe") from None
        if status is None or found is None:
            return None
        is_intent = event.type.startswith("payment_intent.")
        reference = found.id if is_intent else found.payment_intent
        if reference is None:  # a charge that no PaymentIntent made is not ours
            return None
        if is_intent:
            found.amount_refunded = None
        problem = "refund_failed" if event.type == "refund.failed" else None
        return self._told(event.id, status, found, reference, is_live=event.livemode, body=body.decode(), problem=problem)

    def _told(
        self,
        event_id: str,
        status: ToldStatus,
        found: StripeObject,
        reference: str,
        *,
        is_live: bool,
        body: str,
        problem: str | None = None,
    ) -> ProviderEvent:
        currency = found.currency.upper()
        received = found.amount if found.amount_received is None or status != "paid" else found.amount_received
        refunded = found.amount_refunded
        return ProviderEvent(
            provider=self.name,
            event_id=event_id,
            payment_id=uuid_or_none((found.metadata or {}).get(PAYMENT_ID)),
            provider_reference=reference,
            status=status,
            amount=from_minor_units(received, currency) if problem is None else None,
            currency=currency,
            refunded_amount=None if refunded is None else from_minor_units(refunded, currency),
            body=body,
            problem=problem if is_live == self._is_live else "wrong_mode",
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]


def _units(amount: Decimal, currency: str) -> int:
    try:
        return to_minor_units(amount, currency)
    except NotRepresentable as error:
        raise ProviderRefused(str(error)) from None


def _reference(call: Call) -> str:
    if call.payment.provider_reference is None:
        raise ProviderUnavailable("the payment has no PaymentIntent yet")
    return call.payment.provider_reference


async def _answered(request: Awaitable[Answer]) -> Answer:
    # What Stripe answers. Only a request that it understood and refused is refused for good; a wrong key may be replaced.
    try:
        return await request
    except (stripe.InvalidRequestError, stripe.IdempotencyError, stripe.CardError) as error:
        raise ProviderRefused(f"{error.code or type(error).__name__}: {error.user_message}") from error
    except stripe.StripeError as error:
        raise ProviderUnavailable(f"{type(error).__name__} {error.http_status or ''}".strip()) from error
