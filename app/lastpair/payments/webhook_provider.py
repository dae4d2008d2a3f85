"""Any other provider: it and the service tell each other what happened, in messages signed as Standard Webhooks describes it.

docs/payments.md has the messages.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from time import time
from typing import Any, Literal, TypeVar
from uuid import uuid4

import httpx
import orjson
from pydantic import BaseModel, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from lastpair.payments.notice import Amount, Currency, PaymentNotice, Reference, Text
from lastpair.payments.provider import (
    Action,
    Call,
    Created,
    Payment,
    ProviderEvent,
    ProviderRefused,
    ProviderUnavailable,
    SignatureRefused,
    Unreadable,
)
from lastpair.payments.wire import as_number
from lastpair.settings import Settings

TIMEOUT_SECONDS = 4
TOLERANCE_SECONDS = 300
MAX_ANSWER_BYTES = 64 * 1024
REFUSED = frozenset({400, 404, 409, 410, 422})
"""The statuses with which a provider says that it will never carry out a call."""

MAX_ID_LENGTH = 255
"""An id is in an index, which holds no text of any length."""

SIGNED_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

Model = TypeVar("Model", bound=BaseModel)


class CreatedAnswer(BaseModel):
    """What a provider answers to `create`."""

    provider_reference: Reference | None = None
    client_secret: Text | None = None
    url: Text | None = None


class StatusAnswer(BaseModel):
    """What a provider answers to `status`."""

    status: Literal["pending", "paid", "failed", "cancelled", "refunded"]
    provider_reference: Reference | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    refunded_amount: Amount | None = None


class Ignored(BaseModel):
    """An answer that says nothing."""


class WebhookProvider:
    """A provider that is told by messages to PAYMENT_PROVIDER_URL, and tells by messages to /api/webhooks/payments."""

    name = "webhook"

    def __init__(self, settings: Settings) -> None:
        secret = settings.payment_webhook_secret
        self._signer = Webhook(secret.get_secret_value() if secret else "")
        self._url = settings.payment_provider_url
        self._http: httpx.AsyncClient | None = None  # made on first use, because most of its time goes to reading certificates

    async def create(self, call: Call) -> Created:
        """Tell the provider of the payment. It may answer a reference, and a client secret or a URL for the buyer."""
        if self._url is None:
            return Created(None)
        answer = await self._tell("create", call.payment, CreatedAnswer, call_id=call.id)
        return Created(answer.provider_reference, answer.client_secret, answer.url)

    async def cancel(self, call: Call) -> ProviderEvent | None:
        """Tell the provider that the payment has ended."""
        if self._url is None:
            return None
        try:
            await self._tell("cancel", call.payment, Ignored, call_id=call.id)
        except ProviderRefused:
            event = await self.status(call.payment)
            if event is None:
                raise
            return event
        return None

    async def refund(self, call: Call) -> None:
        """Tell the provider to give back an amount."""
        if self._url is None:
            raise ProviderRefused("PAYMENT_PROVIDER_URL is not set, so this has to be refunded at the provider by hand")
        await self._tell("refund", call.payment, Ignored, call_id=call.id, amount=call.amount)

    async def status(self, payment: Payment) -> ProviderEvent | None:
        """Ask the provider how the payment stands."""
        if self._url is None:
            return None
        answer = await self._tell("status", payment, StatusAnswer, call_id=str(uuid4()))
        if answer.status == "pending":
            return None
        # The id has all that the answer says, because a mistake that was flagged may be put right, and must count then.
        said = f"{answer.status}:{answer.amount}:{answer.currency}:{answer.refunded_amount}"
        return ProviderEvent(
            provider=self.name,
            event_id=f"reconciled:{payment.id}:{said}",
            payment_id=payment.id,
            provider_reference=answer.provider_reference,
            status=answer.status,
            body=answer.model_dump_json(),
            amount=answer.amount,
            currency=answer.currency,
            refunded_amount=answer.refunded_amount,
        )

    async def refunded_since(self, moment: datetime) -> AsyncIterator[ProviderEvent]:
        """Nothing, because there is no message that asks for this."""
        nothing: tuple[ProviderEvent, ...] = ()
        for event in nothing:
            yield event

    async def _tell(
        self,
        action: Action | Literal["status"],
        payment: Payment,
        model: type[Model],
        *,
        call_id: str,
        amount: Decimal | None = None,
    ) -> Model:
        message: dict[str, Any] = {"action": action, "payment": payment._asdict()}
        if amount is not None:
            message["amount"] = amount
        body = orjson.dumps(message, default=as_number)
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # because a compressed answer is short until it is unpacked
            "idempotency-key": call_id,
            "webhook-id": call_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(call_id, now, body.decode()),
        }
        self._http = self._http or httpx.AsyncClient(timeout=TIMEOUT_SECONDS)
        received = b""
        try:
            async with self._http.stream("POST", self._url or "", content=body, headers=headers) as response:
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > MAX_ANSWER_BYTES:
                        raise ProviderUnavailable(f"the answer to {action} is larger than {MAX_ANSWER_BYTES} bytes")
        except httpx.HTTPError as error:
            raise ProviderUnavailable(type(error).__name__) from error
        if response.status_code in REFUSED:
            raise ProviderRefused(f"the answer to {action} is {response.status_code}")
        if not response.is_success:
            raise ProviderUnavailable(f"the answer to {action} is {response.status_code}")
        try:
            return model.model_validate_json(received or b"{}")
        except ValidationError:
            raise ProviderUnavailable(f"the answer to {action} is not JSON with the fields that it should have") from None

    def check_signature(self, headers: Mapping[str, str]) -> None:
        """Look at the three headers of Standard Webhooks without the body."""
        if not all(headers.get(name, "").isascii() and headers.get(name) for name in SIGNED_HEADERS):
            raise SignatureRefused(f"{', '.join(SIGNED_HEADERS)}: at least one is missing")
        try:
            age_seconds = time() - float(headers["webhook-timestamp"])
        except ValueError:
            raise SignatureRefused("webhook-timestamp: not a number of seconds since 1970") from None
        if not -TOLERANCE_SECONDS <= age_seconds <= TOLERANCE_SECONDS:
            raise SignatureRefused(f"webhook-timestamp: more than {TOLERANCE_SECONDS} s from now")

    def event_of(self, headers: Mapping[str, str], body: bytes) -> ProviderEvent | None:
        """What the message tells of a payment."""
        self.check_signature(headers)
        try:
            self._signer.verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            raise SignatureRefused("webhook-signature: not made of this body with PAYMENT_WEBHOOK_SECRET") from None
        if len(headers["webhook-id"]) > MAX_ID_LENGTH:
            raise Unreadable(f"webhook-id: must have at most {MAX_ID_LENGTH} characters")
        try:
            notice = PaymentNotice.model_validate_json(body, strict=True)
        except ValidationError as error:
            fields = sorted({".".join(map(str, each["loc"])) or "body" for each in error.errors(include_input=False)})
            raise Unreadable(f"{', '.join(fields)[:200]}: not as docs/payments.md describes it") from None
        return ProviderEvent(
            provider=self.name,
            event_id=headers["webhook-id"],
            payment_id=str(notice.payment_id),
            provider_reference=notice.provider_reference,
            status=notice.status,
            amount=notice.amount,
            currency=notice.currency,
            refunded_amount=notice.refunded_amount,
            body=body.decode(),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
