"""What providers tell: twice, in any order, before the answer to the creating call, wrongly signed, and of what is not ours."""

import asyncio
from collections.abc import AsyncIterator
from json import dumps
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from tests.support import payment_provider
from tests.support.envelopes import JSON, as_user, assert_error, assert_success
from tests.support.factories import available_stock, make_user, reserve
from tests.support.in_process import InProcess, served, settings_for
from tests.support.localstripe import DECLINED, signed
from tests.support.payment_provider import SECRET
from tests.support.payments import EVENT
from tests.support.tills import OwnTill, StripeTill, Till
from tests.support.waiting import eventually

only_stripe = pytest.mark.parametrize("till", ["stripe"], indirect=True)
only_own = pytest.mark.parametrize("till", ["webhook"], indirect=True)
PAID, FAILED = "payment_intent.succeeded", "payment_intent.payment_failed"
OLD_SECONDS = 600


def outcome_of(response: httpx.Response) -> str:
    """What became of a message that was kept."""
    outcome: str = assert_success(response, "outcome")
    return outcome


@only_stripe
async def test_stripe_tells_twice(stripe_till: StripeTill) -> None:
    """A webhook that comes again changes nothing, also when several come at once."""
    bought, payment = await stripe_till.bought()
    await stripe_till.pay(payment)
    number = await stripe_till.stripe.has_told(payment, PAID)
    answers = await asyncio.gather(*(stripe_till.stripe.deliver(number) for _ in range(5)))
    assert [outcome_of(answer) for answer in answers] == ["unchanged"] * 5
    assert (await stripe_till.payment(payment))["status"] == "paid"
    assert await available_stock(stripe_till.owner, bought["drop_id"]) == 4


@only_stripe
async def test_stripe_tells_in_reverse_order(stripe_till: StripeTill) -> None:
    """A payment that failed and was then paid is paid, also if the failure is told last."""
    stripe = stripe_till.stripe
    _, payment = await stripe_till.bought()
    stripe.delivers = False
    try:
        await stripe.pay(payment, DECLINED)
        await stripe.pay(payment)
        failed, paid = [await stripe.has_told(payment, kind) for kind in (FAILED, PAID)]
    finally:
        stripe.delivers = True
    assert outcome_of(await stripe.deliver(paid)) == "applied"
    assert outcome_of(await stripe.deliver(failed)) == "unchanged"
    assert (await stripe_till.payment(payment))["status"] == "paid"


@only_stripe
async def test_refund_is_told_before_the_payment(stripe_till: StripeTill) -> None:
    """The state that results does not depend on the order."""
    stripe = stripe_till.stripe
    bought, payment = await stripe_till.bought(total_stock=1)
    await stripe_till.lose(payment)
    await stripe.refund(payment)
    await stripe.tell_refunded(payment)
    await stripe.deliver(await stripe.has_told(payment, PAID))
    await stripe_till.payments.work_off()
    found = await stripe_till.payment(payment)
    assert found["status"] == "refunded"
    assert await available_stock(stripe_till.owner, bought["drop_id"]) == 1
    assert (await stripe_till.stands_at(payment))[1] == payment["amount"]


@only_stripe
async def test_told_before_the_answer(stripe_till: StripeTill) -> None:
    """A webhook that comes before the answer to the creating call finds the payment by its metadata."""
    stripe, user = stripe_till.stripe, await make_user(stripe_till.owner)
    drop = await stripe_till.drop()
    await reserve(stripe_till.http, drop["id"], user)
    stripe.answers_are_held.clear()
    try:
        buying = asyncio.create_task(stripe_till.http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user)))
        row: Any = None

        async def is_made() -> bool:
            nonlocal row
            payment = await stripe_till.owner.fetchrow(
                "select p.id, p.user_id from inventory.payments p where p.user_id = $1", user
            )
            intents = (await stripe.ask("GET", "/v1/payment_intents?limit=100"))["data"]
            found = [intent for intent in intents if payment and intent["metadata"].get("payment_id") == str(payment["id"])]
            if found:
                row = {"id": str(payment["id"]), "user_id": user, "provider_reference": found[0]["id"]}
            return bool(found)

        await eventually(is_made, timeout_seconds=60)
        await stripe_till.pay(row)
        assert (await stripe_till.payment(row))["status"] == "paid"
    finally:
        stripe.answers_are_held.set()
    answer = await buying
    assert answer.status_code == 201
    assert answer.json()["data"]["payment"]["id"] == row["id"]
    assert (await stripe_till.payment(row))["status"] == "paid"
    await stripe_till.let_calls_be_due()
    await stripe_till.payments.work_off()
    assert (await stripe_till.payment(row))["provider_reference"] == row["provider_reference"]


@only_stripe
@pytest.mark.parametrize(
    ("kind", "livemode", "changes", "outcome", "problem"),
    [
        (PAID, False, {"amount": 1}, "flagged", "wrong_amount"),
        (PAID, False, {"amount_received": 1}, "flagged", "wrong_amount"),
        (PAID, False, {"currency": "eur"}, "flagged", "wrong_currency"),
        (PAID, True, {}, "flagged", "wrong_mode"),
        ("refund.failed", False, {}, "flagged", "refund_failed"),
        ("payment_intent.canceled", False, {}, "applied", None),
        ("payment_intent.created", False, {}, "ignored", None),
        ("customer.created", False, {}, "ignored", None),
    ],
)
async def test_stripe_tells_what_does_not_fit(
    stripe_till: StripeTill, kind: str, livemode: bool, changes: dict[str, Any], outcome: str, problem: str | None
) -> None:
    """What does not fit is kept, changes nothing and is on the seller's list. What is not about payments is not kept."""
    _, payment = await stripe_till.bought()
    found = await stripe_till.stripe.intent(payment) | changes
    if kind == "refund.failed":
        found |= {"id": "re_1", "payment_intent": payment["provider_reference"]}
    answer = await stripe_till.stripe.tell(kind, found, livemode=livemode)
    assert outcome_of(answer) == outcome
    assert (await stripe_till.payment(payment))["status"] == ("cancelled" if outcome == "applied" else "pending")
    assert await stripe_till.problems(payment) == ([problem] if problem else [])


@only_stripe
async def test_stripe_tells_of_another_payment(stripe_till: StripeTill) -> None:
    """A payment that is not known is kept for the seller."""
    found = {"id": "pi_other", "currency": "usd", "amount": 100, "metadata": {"payment_id": "not a UUID"}}
    event_id = f"evt_{uuid4().hex}"
    assert outcome_of(await stripe_till.stripe.tell(PAID, found, event_id)) == "flagged"
    answer = await stripe_till.http.get("/payments/problems", headers=as_user(stripe_till.seller))
    [problem] = [row for row in assert_success(answer, "problems") if row["event_id"] == event_id]
    assert (problem["problem"], problem["payment_id"]) == ("unknown_payment", None)


@only_stripe
async def test_another_payment_is_told_of_at_once(stripe_till: StripeTill) -> None:
    """An event of a payment that is not known counts once, and nobody gets an error, when it comes twice at once."""
    owner, told = stripe_till.owner, (stripe_till.name, f"evt_{uuid4().hex}", str(uuid4()), "paid", None)
    async with owner.acquire() as session:
        transaction = session.transaction()
        await transaction.start()
        # Nobody can record an event until this ends, so both have looked for it before.
        await session.execute("lock table inventory.payment_events in share row exclusive mode")
        telling = [asyncio.create_task(owner.fetchval(EVENT, *told)) for _ in range(2)]
        waiting = "select count(*) = 2 from pg_locks where relation = 'inventory.payment_events'::regclass and not granted"
        try:
            await eventually(lambda: owner.fetchval(waiting), timeout_seconds=60)
        finally:
            await transaction.rollback()
    assert sorted(await asyncio.gather(*telling)) == ["flagged", "unchanged"]


@only_stripe
@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("{}", {"secret": "whsec_another"}),
        ("{}", {"age_seconds": OLD_SECONDS}),
    ],
)
async def test_stripe_signature_is_refused(stripe_till: StripeTill, body: str, changes: dict[str, Any]) -> None:
    """A message that Stripe did not sign, or signed long ago."""
    assert_error(await post(stripe_till, signed(body, **changes), body), 401, "SIGNATURE_INVALID")


async def post(till: Till, headers: dict[str, str], body: str | bytes) -> httpx.Response:
    """A message to the webhook of this till."""
    path = "stripe" if isinstance(till, StripeTill) else "payments"
    return await till.http.post(f"/webhooks/{path}", content=body, headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"stripe-signature": "", "webhook-id": "", "webhook-timestamp": "", "webhook-signature": ""},
        {"stripe-signature": "t=1", "webhook-id": "a", "webhook-timestamp": "nan", "webhook-signature": "v1,a"},
        {"stripe-signature": "t=9999999999,v1=", "webhook-id": "a", "webhook-timestamp": "1e400", "webhook-signature": "x"},
        {"stripe-signature": "t=9999999999,v1,", "webhook-id": "a", "webhook-timestamp": "0", "webhook-signature": "v1"},
        {"stripe-signature": f"t={'9' * 5000},v1=a", "webhook-id": "\xe9", "webhook-timestamp": "0", "webhook-signature": "v1"},
        {"stripe-signature": "t=9999999999,v1=\xe9", "webhook-id": "a", "webhook-timestamp": "\xb2", "webhook-signature": ", ,"},
    ],
)
async def test_no_signature(till: Till, headers: dict[str, str]) -> None:
    """Headers that no provider sends are refused before the body is read."""
    sent = {name: value.encode("latin-1") for name, value in (JSON | headers).items()}
    answer = await till.http.post(
        f"/webhooks/{'stripe' if isinstance(till, StripeTill) else 'payments'}", content=b"{}", headers=sent
    )
    assert_error(answer, 401, "SIGNATURE_INVALID")


def signed_for(till: Till, body: str) -> dict[str, str]:
    """The headers of a message of the till's provider."""
    if isinstance(till, StripeTill):
        return signed(body)
    return payment_provider.signed(body, f"msg_{uuid4().hex}")


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '"paid"', '{"id": 1}', '{"payment_id": "x", "status": "paid"}', "nan"])
async def test_signed_nonsense(till: Till, body: str) -> None:
    """What is signed and is no message of the provider."""
    assert_error(await post(till, signed_for(till, body), body), 400, "VALIDATION_ERROR")


async def test_an_encoded_message(till: Till) -> None:
    """The service refuses a body that has a Content-Encoding, even if the signature is right."""
    headers = signed_for(till, "{}") | {"content-encoding": "gzip"}
    assert_error(await post(till, headers, "{}"), 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_large_message(till: Till) -> None:
    """A message of 256 KiB is read, a larger one is not."""
    body = dumps({"id": "evt_1", "type": "ping", "livemode": False, "data": {"object": {}}, "padding": "x" * 262_000})
    is_stripe = isinstance(till, StripeTill)
    assert (await post(till, signed_for(till, body), body)).status_code == (200 if is_stripe else 400)
    assert_error(await post(till, signed_for(till, body * 2), body * 2), 413, "PAYLOAD_TOO_LARGE")


async def test_other_provider_is_not_there(till: Till) -> None:
    """Nothing is taken for a provider without a secret."""
    path = "payments" if isinstance(till, StripeTill) else "stripe"
    assert_error(await till.http.post(f"/webhooks/{path}", content=b"{}", headers=JSON), 404, "NOT_FOUND")


@only_own
async def test_own_provider_tells_twice_and_in_reverse(own_till: OwnTill) -> None:
    """A notice counts once by its webhook-id, and an earlier one that comes later changes nothing."""
    _, payment = await own_till.bought()
    answers = await asyncio.gather(*(own_till.tell(payment, "paid", message_id=f"paid-{payment['id']}") for _ in range(5)))
    assert sorted(answer["outcome"] for answer in answers) == ["applied"] + ["unchanged"] * 4
    assert await own_till.tell(payment, "failed") == {"outcome": "unchanged"}
    assert (await own_till.payment(payment))["status"] == "paid"


@only_own
@pytest.mark.parametrize(
    ("notice", "problem"),
    [
        ({"amount": 1}, "wrong_amount"),
        ({"amount": "199.91"}, "wrong_amount"),
        ({"currency": "EUR"}, "wrong_currency"),
        ({"payment_id": str(uuid4())}, "unknown_payment"),
    ],
)
async def test_own_provider_tells_what_does_not_fit(own_till: OwnTill, notice: dict[str, Any], problem: str) -> None:
    """What does not fit is kept, changes nothing and is on the seller's list."""
    _, payment = await own_till.bought()
    message_id = uuid4().hex
    assert await own_till.tell(payment, "paid", message_id=message_id, **notice) == {"outcome": "flagged"}
    assert (await own_till.payment(payment))["status"] == "pending"
    answer = await own_till.http.get("/payments/problems", headers=as_user(own_till.seller))
    [found] = [row for row in assert_success(answer, "problems") if row["event_id"] == message_id]
    assert found["problem"] == problem


@only_own
@pytest.mark.parametrize("notice", [{"provider_reference": "a\0"}, {"currency": "\0"}, {"message_id": "msg_" * 64}])
async def test_own_provider_tells_what_cannot_be_stored(own_till: OwnTill, notice: dict[str, Any]) -> None:
    """A text with a NUL, and an id that is too long for an index, are refused, and not answered with 500."""
    _, payment = await own_till.bought()
    assert_error(await own_till.provider.tell(payment, "paid", **notice), 400, "VALIDATION_ERROR")
    assert (await own_till.payment(payment))["status"] == "pending"


@only_own
async def test_own_providers_signature_is_refused(own_till: OwnTill) -> None:
    """A wrong secret, and a message from long ago. One that the service itself signed is not taken as the provider's."""
    _, payment = await own_till.bought()
    for wrong in ({"secret": SECRET[:-4] + "AAAA"}, {"age_seconds": OLD_SECONDS}, {"age_seconds": -OLD_SECONDS}):
        assert_error(await own_till.provider.tell(payment, "paid", **wrong), 401, "SIGNATURE_INVALID")
    body = dumps({"action": "refund", "payment": payment}, default=str)
    assert_error(await post(own_till, signed_for(own_till, body), body), 400, "VALIDATION_ERROR")
    assert (await own_till.payment(payment))["status"] == "pending"


@pytest.fixture(scope="module")
async def limited(till_database_url: str) -> AsyncIterator[InProcess]:
    """A service that takes three writes of an address in a minute."""
    secret = SecretStr(SECRET)
    settings = settings_for(
        till_database_url, payment_provider="webhook", payment_webhook_secret=secret, rate_limit_address_per_minute=3
    )
    async with served(settings) as service:
        yield service


async def test_strangers_are_limited(limited: InProcess) -> None:
    """An address that sends wrong signatures is refused after some; right ones do not count."""

    async def tell(secret: str = SECRET) -> httpx.Response:
        body = dumps({"payment_id": str(uuid4()), "status": "paid", "provider_reference": "x"})
        headers = payment_provider.signed(body, uuid4().hex, secret)
        return await limited.http.post("/webhooks/payments", content=body, headers=headers)

    for _ in range(5):
        assert outcome_of(await tell()) == "flagged"
    for _ in range(3):
        assert_error(await tell(SECRET[:-4] + "AAAA"), 401, "SIGNATURE_INVALID")
    assert_error(await tell(SECRET[:-4] + "AAAA"), 429, "RATE_LIMITED")
