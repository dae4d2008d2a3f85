"""Stripe as a provider, against localstripe: calls, their repetition, and what is told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from pydantic import SecretStr

from lastpair.payments.minor_units import NotRepresentable, from_minor_units, to_minor_units
from lastpair.payments.provider import Call, Payment, ProviderRefused, ProviderUnavailable
from lastpair.payments.stripe_provider import StripeProvider
from tests.support.in_process import settings_for
from tests.support.localstripe import DECLINED, SECRET_KEY, WEBHOOK_SECRET, Stripe, local_stripe


@pytest.fixture(scope="module")
async def stripe() -> AsyncIterator[Stripe]:
    """A Stripe that tells nothing to a service."""
    async with local_stripe() as found:
        found.delivers = False
        yield found


@pytest.fixture(scope="module")
async def provider(stripe: Stripe) -> AsyncIterator[StripeProvider]:
    """The provider that calls it."""
    secrets = {"stripe_secret_key": SecretStr(SECRET_KEY), "stripe_webhook_secret": SecretStr(WEBHOOK_SECRET)}
    found = StripeProvider(settings_for("", stripe_api_url=stripe.url, **secrets))
    yield found
    await found.close()


def payment_of(amount: str = "199.90", currency: str = "USD", reference: str | None = None) -> Payment:
    """A payment that the service knows."""
    return Payment(str(uuid4()), "pending", Decimal(amount), currency, Decimal(0), "stripe", reference, datetime.now(UTC))


def call_of(payment: Payment, action: str = "create", amount: str | None = None, attempts: int = 1, call_id: str = "") -> Call:
    """A call for it."""
    return Call(call_id or str(uuid4()), action, None if amount is None else Decimal(amount), attempts, payment)  # type: ignore[arg-type]


async def test_paid(stripe: Stripe, provider: StripeProvider) -> None:
    """An intent is made with the payment's id, and its status is told as a webhook would tell it."""
    payment = payment_of()
    created = await provider.create(call_of(payment))
    assert created.client_secret
    assert created.reference
    payment = payment._replace(provider_reference=created.reference)
    row = {"provider_reference": created.reference}
    intent = await stripe.intent(row)
    assert (intent["amount"], intent["currency"], intent["metadata"]) == (19990, "usd", {"payment_id": payment.id})
    assert await provider.status(payment) is None
    await stripe.pay(row, DECLINED)
    failed = await provider.status(payment)
    assert failed is not None
    assert failed.status == "failed"
    await stripe.pay(row)
    paid = await provider.status(payment)
    assert paid is not None
    assert (paid.status, paid.amount, paid.currency, paid.payment_id) == ("paid", Decimal("199.90"), "USD", payment.id)
    assert await provider.cancel(call_of(payment, "cancel")) == paid


async def test_refund_is_made_once(stripe: Stripe, provider: StripeProvider) -> None:
    """The same call refunds once, also when Stripe has forgotten its key."""
    payment = payment_of()
    reference = (await provider.create(call_of(payment))).reference
    payment, row = payment._replace(provider_reference=reference), {"provider_reference": reference}
    await stripe.pay(row)
    call = call_of(payment, "refund", "99.95")
    await provider.refund(call)
    await provider.refund(call)
    stripe.forget_keys()
    await provider.refund(call_of(payment, "refund", "99.95", 2, call.id))
    status = await provider.status(payment)
    assert status is not None
    assert (status.status, status.refunded_amount) == ("refunded", Decimal("99.95"))
    told = [event async for event in provider.refunded_since(datetime.fromtimestamp(0, UTC))]
    assert status in told


async def test_refund_of_more_than_is_left(stripe: Stripe, provider: StripeProvider) -> None:
    """What somebody refunded at the dashboard before the call came is not refunded again, and the rest is."""
    payment = payment_of()
    reference = (await provider.create(call_of(payment))).reference
    payment, row = payment._replace(provider_reference=reference), {"provider_reference": reference}
    await stripe.pay(row)
    await stripe.refund(row, 990)
    call = call_of(payment, "refund", "199.90")
    for attempts in (1, 2):
        await provider.refund(call_of(payment, "refund", "199.90", attempts, call.id))
    await provider.refund(call_of(payment, "refund", "10.00"))
    status = await provider.status(payment)
    assert status is not None
    assert (status.status, status.refunded_amount) == ("refunded", Decimal("199.90"))


async def test_cancel(provider: StripeProvider) -> None:
    """An intent that is cancelled stays so, and the call may be repeated."""
    payment = payment_of()
    assert await provider.cancel(call_of(payment, "cancel")) is None
    payment = payment._replace(provider_reference=(await provider.create(call_of(payment))).reference)
    call = call_of(payment, "cancel")
    assert await provider.cancel(call) is None
    status = await provider.status(payment)
    assert status is not None
    assert status.status == "cancelled"
    assert await provider.cancel(call) == status


async def test_refusals(stripe: Stripe, provider: StripeProvider) -> None:
    """What Stripe refuses is refused for good; what it does not answer may be tried again."""
    with pytest.raises(ProviderRefused):
        await provider.refund(call_of(payment_of(reference="pi_unknown"), "refund", "1"))
    with pytest.raises(ProviderRefused, match=r"10\.005 KWD"):
        await provider.create(call_of(payment_of("10.005", "KWD")))
    stripe.fails = True
    try:
        with pytest.raises(ProviderUnavailable):
            await provider.create(call_of(payment_of()))
    finally:
        stripe.fails = False


AMOUNTS = [
    ("199.90", "USD", 19990),
    ("500", "JPY", 500),
    ("5", "ISK", 500),
    ("5", "UGX", 500),
    ("5.120", "KWD", 5120),
    ("100", "MGA", 100),
    ("0.01", "HUF", 1),
]


@pytest.mark.parametrize(("amount", "currency", "units"), AMOUNTS)
def test_units(amount: str, currency: str, units: int) -> None:
    """Amounts are in the units that Stripe counts in, both ways."""
    assert to_minor_units(Decimal(amount), currency) == units
    assert from_minor_units(units, currency) == Decimal(amount)


@pytest.mark.parametrize(("amount", "currency"), [("5.001", "KWD"), ("0.5", "MGA"), ("0.005", "USD"), ("5.50", "ISK")])
def test_no_such_units(amount: str, currency: str) -> None:
    """An amount is never rounded."""
    with pytest.raises(NotRepresentable):
        to_minor_units(Decimal(amount), currency)
