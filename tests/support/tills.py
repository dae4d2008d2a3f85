"""Two shops with a payment provider each, Stripe and one of its own, that tests can use in the same way."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from json import loads
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from lastpair.payments.payments import NodePayments
from tests.support.database import Database
from tests.support.envelopes import as_user, assert_success
from tests.support.factories import make_drop, make_user, reserve
from tests.support.in_process import served, settings_for
from tests.support.localstripe import DECLINED, PUBLISHABLE_KEY, SECRET_KEY, WEBHOOK_SECRET, Stripe, local_stripe
from tests.support.payment_provider import SECRET, OwnProvider, own_provider
from tests.support.row_checks import Row
from tests.support.streams import fresh_database
from tests.support.waiting import eventually

STATUS = "select status from api.get_payment($1, null)"
MAKE_DUE = """
with moved as (
  update inventory.payments set expires_at = now() - interval '1 second' where id = $1 returning id, expires_at
)
update inventory.purchases p set payment_expires_at = m.expires_at from moved m where p.payment_id = m.id
"""


@dataclass
class Till(ABC):
    """A shop, and what happens at its provider. The sweeper sleeps, so a test does its jobs itself."""

    http: httpx.AsyncClient
    owner: asyncpg.Pool
    payments: NodePayments
    seller: str
    url: str
    database_url: str

    name = ""

    async def drop(self, **fields: object) -> Row:
        """A new live drop."""
        return await make_drop(self.http, self.seller, **fields)

    async def buy(self, drop: Row, user: str, qty: int = 1, *, is_payable: bool = True) -> tuple[Row, Row]:
        """Hold units and buy them; returns the purchase and its payment, which can be paid then unless nobody waits for that."""
        await reserve(self.http, drop["id"], user, {"qty": qty})
        response = await self.http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user))
        assert response.status_code == 201, response.text
        data = loads(response.text, parse_float=Decimal)["data"]
        assert data.keys() == {"purchase", "payment"}
        payment: Row = data["payment"]

        async def can_be_paid() -> bool:
            nonlocal payment
            if payment["client_secret"] or payment["url"]:
                return True
            # On a slow machine the answer of the provider comes after that of the service.
            await self.let_calls_be_due()
            await self.payments.work_off()
            payment = await self.payment(payment)
            return False

        if is_payable:
            await eventually(can_be_paid, timeout_seconds=60)
        return data["purchase"], payment

    async def bought(self, *, is_payable: bool = True, **fields: object) -> tuple[Row, Row]:
        """A purchase of a unit of a new drop by a new user, and its payment."""
        return await self.buy(await self.drop(**fields), await make_user(self.owner), is_payable=is_payable)

    async def payment(self, payment: Row) -> Row:
        """The payment as its buyer reads it now."""
        response = await self.http.get(f"/payments/{payment['id']}", headers=as_user(payment["user_id"]))
        found: Row = assert_success(response, "payment")
        return found

    async def purchase(self, purchase: Row) -> Row:
        """The purchase as its buyer reads it now."""
        response = await self.http.get(f"/purchases/{purchase['id']}", headers=as_user(purchase["user_id"]))
        found: Row = assert_success(response, "purchase")
        return found

    async def becomes(self, payment: Row, status: str) -> None:
        """Wait until the payment has this status."""

        async def has_it() -> bool:
            return bool(await self.owner.fetchval(STATUS, payment["id"]) == status)

        await eventually(has_it, timeout_seconds=60)

    async def make_due(self, payment: Row) -> None:
        """Let the time for a payment run out; nothing has noticed yet."""
        await self.owner.execute(MAKE_DUE, payment["id"])

    async def let_calls_be_due(self) -> None:
        """Let the time pass after which calls that failed, or whose process died, are made again."""
        await self.owner.execute("update inventory.provider_calls set next_attempt_at = now() where done_at is null")

    async def problems(self, payment: Row) -> list[str]:
        """What the seller has to look at, of this payment, the latest first."""
        response = await self.http.get("/payments/problems?limit=200", headers=as_user(self.seller))
        return [row["problem"] for row in assert_success(response, "problems") if row["payment_id"] == payment["id"]]

    @abstractmethod
    async def pay(self, payment: Row) -> None:
        """Pay, and let the provider tell it."""

    @abstractmethod
    async def decline(self, payment: Row) -> None:
        """Try to pay with a card that is declined, and let the provider tell it."""

    @abstractmethod
    async def refund_there(self, payment: Row, part: Decimal | None = None) -> None:
        """Refund at the provider, all or a part, and let the provider tell it."""

    @abstractmethod
    async def lose(self, payment: Row) -> None:
        """Pay, and let nobody hear of it."""

    @abstractmethod
    async def stands_at(self, payment: Row) -> tuple[str, Decimal]:
        """The status at the provider, and what it has given back."""

    @abstractmethod
    def fail(self, *, fails: bool) -> None:
        """Let the provider answer 503, or work again."""


@dataclass
class StripeTill(Till):
    """With Stripe."""

    stripe: Stripe

    name = "stripe"

    async def pay(self, payment: Row) -> None:
        """Pay with a card that works."""
        await self.stripe.pay(payment)
        await self.stripe.has_told(payment, "payment_intent.succeeded")

    async def decline(self, payment: Row) -> None:
        """Pay with another."""
        await self.stripe.pay(payment, DECLINED)
        await self.stripe.has_told(payment, "payment_intent.payment_failed")

    async def refund_there(self, payment: Row, part: Decimal | None = None) -> None:
        """Refund at the dashboard. localstripe does not tell it, so the test does."""
        await self.stripe.refund(payment, None if part is None else int(part * 100))
        assert (await self.stripe.tell_refunded(payment)).status_code == 200

    async def lose(self, payment: Row) -> None:
        """Drop the webhook."""
        self.stripe.delivers = False
        try:
            await self.pay(payment)
        finally:
            self.stripe.delivers = True

    async def stands_at(self, payment: Row) -> tuple[str, Decimal]:
        """The PaymentIntent."""
        intent = await self.stripe.intent(payment)
        charge = intent["latest_charge"]
        return intent["status"], Decimal(charge["amount_refunded"] if charge else 0) / 100

    def fail(self, *, fails: bool) -> None:
        """At the proxy."""
        self.stripe.fails = fails


@dataclass
class OwnTill(Till):
    """With a provider of its own."""

    provider: OwnProvider

    name = "webhook"

    async def tell(self, payment: Row, status: str, **more: Any) -> Row:
        """What is answered to a notice."""
        response = await self.provider.tell(payment, status, **more)
        assert response.status_code == 200, response.text
        found: Row = response.json()["data"]
        return found

    async def pay(self, payment: Row) -> None:
        """Tell that it is paid."""
        await self.lose(payment)
        await self.tell(payment, "paid", amount=float(payment["amount"]), currency=payment["currency"])

    async def decline(self, payment: Row) -> None:
        """Tell that it failed."""
        await self.tell(payment, "failed")

    async def refund_there(self, payment: Row, part: Decimal | None = None) -> None:
        """Tell that it was refunded."""
        refunded = payment["amount"] if part is None else part
        self.provider.statuses[payment["id"]] = {"status": "refunded", "refunded_amount": str(refunded)}
        await self.tell(payment, "refunded", refunded_amount=float(refunded))

    async def lose(self, payment: Row) -> None:
        """Tell nothing."""
        self.provider.statuses[payment["id"]] = {"status": "paid"}

    async def stands_at(self, payment: Row) -> tuple[str, Decimal]:
        """What the provider knows, in Stripe's words."""
        found = self.provider.statuses[payment["id"]]
        words = {"pending": "requires_payment_method", "cancelled": "canceled", "paid": "succeeded", "refunded": "succeeded"}
        return words[found["status"]], Decimal(found.get("refunded_amount", 0))

    def fail(self, *, fails: bool) -> None:
        """At the provider."""
        self.provider.fails = fails


@asynccontextmanager
async def till_of(name: str, database: Database) -> AsyncIterator[Till]:
    """A shop with this provider, on a database of its own."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fresh_database(database))
        owner = await stack.enter_async_context(asyncpg.create_pool(url, min_size=1, max_size=10))
        if name == "stripe":
            stripe = await stack.enter_async_context(local_stripe())
            secrets = {"stripe_secret_key": SecretStr(SECRET_KEY), "stripe_webhook_secret": SecretStr(WEBHOOK_SECRET)}
            stripe_settings = {"stripe_api_url": stripe.url, "stripe_publishable_key": PUBLISHABLE_KEY}
            settings = settings_for(url, payment_provider=name, **stripe_settings, **secrets)
        else:
            provider = await stack.enter_async_context(own_provider())
            secret = SecretStr(SECRET)
            settings = settings_for(url, payment_provider=name, payment_webhook_secret=secret, payment_provider_url=provider.url)
        service = await stack.enter_async_context(served(settings))
        payments = service.components.payments.on(service.components.nodes.whole)
        common = (service.http, owner, payments, await make_user(owner), service.url, url)
        if name == "stripe":
            stripe.webhook_url = f"{service.url}/api/webhooks/stripe"
            yield StripeTill(*common, stripe)
        else:
            provider.webhook_url = f"{service.url}/api/webhooks/payments"
            yield OwnTill(*common, provider)
