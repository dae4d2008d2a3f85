"""What a payment provider is to the service. docs/payments.md says how to write one.

The database decides what becomes of a payment. A provider is told what was decided (create, cancel, refund), and what it tells is
recorded. Both may happen twice, late and out of order, so a provider must do the same call once, by the id of the call.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

Action = Literal["create", "cancel", "refund"]
ToldStatus = Literal["paid", "failed", "cancelled", "refunded"]


class Payment(NamedTuple):
    """A payment, as far as a provider has to know it."""

    id: str
    status: str
    amount: Decimal
    currency: str
    refunded_amount: Decimal
    provider: str
    provider_reference: str | None
    """The id that the provider gave to it; None until a create call has succeeded."""

    expires_at: datetime


@dataclass(frozen=True)
class Call:
    """Something that a provider has to be told: a row of `inventory.provider_calls`."""

    id: str
    """The idempotency key: the provider carries out the call with this id once."""

    action: Action
    amount: Decimal | None
    """How much to refund."""

    attempts: int
    """How often it was tried, this time included."""

    payment: Payment


class Created(NamedTuple):
    """What a buyer needs to pay."""

    reference: str | None
    client_secret: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class ProviderEvent:
    """What a provider told: `api.payment_event` in the database."""

    provider: str
    event_id: str
    """It is recorded once, whatever else it says."""

    payment_id: str | None
    provider_reference: str | None
    status: ToldStatus
    body: str
    """What was told, as it came."""

    amount: Decimal | None = None
    currency: str | None = None
    refunded_amount: Decimal | None = None
    """All that the provider has given back so far. None with status refunded: everything."""

    problem: str | None = None
    """Why the event is kept and changes nothing: wrong_mode, or refund_failed."""


class ProviderRefused(Exception):
    """The provider will never carry out this call. The message is for the seller and has no secret."""


class ProviderUnavailable(Exception):
    """The provider did not carry out the call, or it is not known whether it did. Trying again is safe."""


class SignatureRefused(Exception):
    """A message to the service is not signed by the provider, or its signature is too old."""


class Unreadable(Exception):
    """A message is signed, and is not one of the provider's messages. The exception says why."""


class Provider(Protocol):
    """A payment provider. Its methods may raise ProviderRefused and ProviderUnavailable, and wait a few seconds at most."""

    name: str

    async def create(self, call: Call) -> Created:
        """Make the payment there. It carries the payment's id, so that what the provider tells of it can be understood."""

    async def cancel(self, call: Call) -> ProviderEvent | None:
        """Let the payment end there. Returns how it stands if it cannot be cancelled any more."""

    async def refund(self, call: Call) -> None:
        """Give `call.amount` back to the buyer."""

    async def status(self, payment: Payment) -> ProviderEvent | None:
        """How the payment stands there; None if nothing has happened that would have been told."""

    def refunded_since(self, moment: datetime) -> AsyncIterator[ProviderEvent]:
        """How the payments stand that were refunded there since then, as far as the provider can say."""

    def check_signature(self, headers: Mapping[str, str]) -> None:
        """Raise SignatureRefused if the headers alone show that a message is not the provider's. Names are in lower case."""

    def event_of(self, headers: Mapping[str, str], body: bytes) -> ProviderEvent | None:
        """What this message tells; None if it is not about a payment. Raises SignatureRefused and Unreadable."""

    async def close(self) -> None:
        """Close the connections."""
