"""Providers that are down, answers that are lost, processes that die, and webhooks that never come."""

import asyncio
import gzip
import os
import re
import signal
from datetime import timedelta
from json import dumps, loads
from uuid import UUID

import asyncpg
import pytest

from lastpair.payments.payments import CALLS_AT_ONCE
from lastpair.payments.provider import Call, Created
from lastpair.web.lifespan import payment_jobs
from tests.support.commands import lastpair
from tests.support.database import client_of
from tests.support.envelopes import as_user, assert_error, assert_success
from tests.support.factories import available_stock, make_drop, make_drop_by_sql, make_user, make_users, reserve
from tests.support.in_process import served, settings_for
from tests.support.localstripe import SECRET_KEY, WEBHOOK_SECRET
from tests.support.payments import begin_payments, payment_statuses, payments_taken_by, tell
from tests.support.servers import started
from tests.support.tills import MAKE_DUE, OwnTill, StripeTill, Till
from tests.support.waiting import eventually

only_stripe = pytest.mark.parametrize("till", ["stripe"], indirect=True)
only_own = pytest.mark.parametrize("till", ["webhook"], indirect=True)


async def test_provider_is_down(till: Till) -> None:
    """The purchase is made, and the payment gets what the buyer needs as soon as the provider works again."""
    till.fail(fails=True)
    try:
        bought, payment = await till.bought(is_payable=False)
        assert (bought["status"], payment["status"]) == ("pending", "pending")
        assert (payment["client_secret"], payment["url"]) == (None, None)

        async def has_failed() -> bool:
            [call] = await calls_of(till, payment)
            assert (call["action"], call["status"]) == ("create", "open")
            return "503" in str(call["last_error"])

        await eventually(has_failed, timeout_seconds=60)
    finally:
        till.fail(fails=False)
    await till.let_calls_be_due()
    await till.payments.work_off()
    ready = await till.payment(payment)
    assert ready["client_secret"] or ready["url"]
    await till.pay(ready)
    await till.becomes(payment, "paid")


async def calls_of(till: Till, payment: dict[str, str]) -> list[dict[str, object]]:
    """What the provider is told of this payment, as the seller sees it."""
    response = await till.http.get(f"/drops/{payment['drop_id']}/provider-calls", headers=as_user(till.seller))
    return [row for row in assert_success(response, "calls") if row["payment_id"] == payment["id"]]


@only_stripe
async def test_answer_is_lost(stripe_till: StripeTill) -> None:
    """A call that the provider carried out and did not answer is made again, and counts once."""
    stripe = stripe_till.stripe
    stripe.loses_answers = True
    try:
        _, payment = await stripe_till.bought(is_payable=False)
    finally:
        stripe.loses_answers = False
    assert payment["client_secret"] is None
    made = stripe.asked.count(("POST", "/v1/payment_intents"))
    await stripe_till.let_calls_be_due()
    await stripe_till.payments.work_off()
    payment = await stripe_till.payment(payment)
    assert payment["client_secret"]
    assert stripe.asked.count(("POST", "/v1/payment_intents")) == made
    await stripe_till.pay(payment)
    await stripe_till.becomes(payment, "paid")


@only_stripe
async def test_refund_is_answered_late(stripe_till: StripeTill) -> None:
    """A refund whose answer was lost is made once, also after the provider has forgotten its key."""
    stripe = stripe_till.stripe
    bought, payment = await stripe_till.bought()
    await stripe_till.pay(payment)
    await stripe_till.becomes(payment, "paid")
    answer = await stripe_till.http.post(f"/purchases/{bought['id']}/refund", headers=as_user(stripe_till.seller))
    assert_success(answer, "purchase")
    stripe.loses_answers = True
    try:
        await stripe_till.payments.work_off()
    finally:
        stripe.loses_answers = False
    assert (await stripe_till.stands_at(payment))[1] == payment["amount"]
    stripe.forget_keys()
    await stripe_till.let_calls_be_due()
    await stripe_till.payments.work_off()
    assert (await stripe_till.stands_at(payment))[1] == payment["amount"]
    assert {call["status"] for call in await calls_of(stripe_till, payment)} == {"done"}


@only_stripe
async def test_call_that_is_refused(stripe_till: StripeTill) -> None:
    """What Stripe refuses for good is given up at once; the seller sees it and may have it tried again."""
    _, payment = await stripe_till.bought(is_payable=False, price=10.005, currency="KWD")
    assert payment["client_secret"] is None

    async def is_given_up() -> bool:
        [call] = await calls_of(stripe_till, payment)
        return call["status"] == "given_up"

    await eventually(is_given_up, timeout_seconds=60)
    [call] = await calls_of(stripe_till, payment)
    assert call["attempts"] == 1
    assert "10.005 KWD" in str(call["last_error"])
    path = f"/provider-calls/{call['id']}/retry"
    retried = assert_success(await stripe_till.http.post(path, headers=as_user(stripe_till.seller)), "call")
    assert retried["status"] == "open"
    await stripe_till.payments.work_off()
    assert [row["status"] for row in await calls_of(stripe_till, payment)] == ["given_up"]
    unknown = f"/provider-calls/{payment['id']}/retry"
    assert_error(await stripe_till.http.post(unknown, headers=as_user(stripe_till.seller)), 404, "PROVIDER_CALL_NOT_FOUND")


async def test_reconciled(till: Till) -> None:
    """What a lost webhook would have told is found out by asking."""
    bought, payment = await till.bought(total_stock=1)
    await till.lose(payment)
    _, untouched = await till.bought()
    found = await till.payments.reconcile()
    assert found.mended >= 1
    assert found.unanswered == 0
    assert (await till.payment(payment))["status"] == "paid"
    assert (await till.purchase(bought))["status"] == "paid"
    assert (await till.payment(untouched))["status"] == "pending"
    assert (await till.payments.reconcile()).mended == 0


@only_own
async def test_a_wrong_answer_is_put_right(own_till: OwnTill) -> None:
    """What was flagged once counts when the provider says it as it is."""
    _, payment = await own_till.bought()
    for amount, status in ((19990, "pending"), (199.90, "paid")):
        own_till.provider.statuses[payment["id"]] = {"status": "paid", "amount": amount, "currency": "USD"}
        await own_till.payments.reconcile()
        assert (await own_till.payment(payment))["status"] == status
    assert await own_till.problems(payment) == ["wrong_amount"]


@only_stripe
async def test_refund_there_is_reconciled(stripe_till: StripeTill) -> None:
    """A refund at Stripe of which no webhook came is found as well."""
    _, payment = await stripe_till.bought()
    await stripe_till.pay(payment)
    await stripe_till.becomes(payment, "paid")
    await stripe_till.stripe.refund(payment)
    await stripe_till.payments.reconcile()
    assert (await stripe_till.payment(payment))["status"] == "refunded"


async def test_provider_does_not_say(till: Till) -> None:
    """A provider that is down is asked again another day, and nothing is changed."""
    _, payment = await till.bought()
    till.fail(fails=True)
    try:
        assert (await till.payments.reconcile()).unanswered >= 1
    finally:
        till.fail(fails=False)
    assert (await till.payment(payment))["status"] == "pending"


async def test_reconciled_once_a_day(till: Till) -> None:
    """Of all processes one compares, and again when a day is over."""
    claim = "select api.claim_reconciliation(86400)"
    await till.owner.fetchval(claim)
    assert await till.owner.fetchval(claim) is False
    await till.owner.execute("update inventory.settings set reconciled_at = now() - $1::interval", timedelta(days=1))
    _, payment = await till.bought()
    await till.lose(payment)
    await till.owner.execute(
        "update inventory.payments set updated_at = now() - interval '2 minutes' where id = $1", payment["id"]
    )
    await till.payments.reconcile_daily()
    assert (await till.payment(payment))["status"] == "paid"
    assert await till.owner.fetchval(claim) is False


def stripe_environment(stripe_url: str) -> dict[str, str]:
    """The settings of a service with this Stripe."""
    return {
        "PAYMENT_PROVIDER": "stripe",
        "STRIPE_SECRET_KEY": SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_API_URL": stripe_url,
    }


class OneIsSlow:
    """A provider that answers the first of its calls when `is_over` is set, and the others at once."""

    name = "stripe"

    def __init__(self) -> None:
        self.calls = 0
        self.is_over = asyncio.Event()

    async def create(self, call: Call) -> Created:
        """Make a payment there."""
        self.calls += 1
        if self.calls == 1:
            await self.is_over.wait()
        return Created(None)


@only_stripe
async def test_one_call_is_slow(stripe_till: StripeTill, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits for its answer delays no other, however many there are."""
    provider, number = OneIsSlow(), 3 * CALLS_AT_ONCE
    drop = await stripe_till.drop(total_stock=number)
    await stripe_till.payments.announce()
    await begin_payments(stripe_till.owner, drop["id"], await make_users(stripe_till.owner, number))
    monkeypatch.setitem(stripe_till.payments.providers, "stripe", provider)  # type: ignore[arg-type]
    working = asyncio.create_task(stripe_till.payments.work_off())
    made = "select count(done_at) from inventory.provider_calls where drop_id = $1"

    async def are_made() -> bool:
        return bool(await stripe_till.owner.fetchval(made, drop["id"]) == number - 1)

    try:
        await eventually(are_made, timeout_seconds=60)
        assert not working.done()
    finally:
        provider.is_over.set()
        await working
    assert await stripe_till.owner.fetchval(made, drop["id"]) == number


async def test_the_provider_is_removed(till_database_url: str) -> None:
    """What was open ends by the sweep of a service without any provider, and the calls that it cannot make fail."""
    async with asyncpg.create_pool(till_database_url, min_size=1, max_size=2) as owner:
        paying, idle = await make_users(owner, 2)
        drop_id = await make_drop_by_sql(owner, 2)
        async with payments_taken_by(owner, "stripe"):
            payments = await begin_payments(owner, drop_id, [paying, idle])
            await tell(owner, payments[paying], "paid")
        purchase = await owner.fetchval("select id from inventory.purchases where user_id = $1", paying)
        await owner.fetch("select * from api.refund_purchase($1)", purchase)
        await owner.execute(MAKE_DUE, payments[idle])
        settings = settings_for(till_database_url)
        async with served(settings) as service:
            components = service.components
            for job in payment_jobs(components.payments.on(components.nodes.whole), settings):
                await job.run()
            shown = "select count(*) from api.list_provider_calls($1) where last_error like 'the settings%stripe%'"

            async def is_over() -> bool:  # the service may be doing the same jobs at this moment
                ended = await payment_statuses(owner, drop_id) == {"cancelled": 1, "refunded": 1}
                return ended and await owner.fetchval(shown, drop_id) == len(payments)

            await eventually(is_over, timeout_seconds=60)
        assert await available_stock(owner, drop_id) == 2


class OneIsUnkeepable:
    """A provider that answers the first of its calls with what PostgreSQL cannot keep."""

    name = "stripe"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def create(self, call: Call) -> Created:
        """Make a payment there."""
        self.asked.append(call.payment.id)
        return Created(None, "\x00" if call.payment.id == self.asked[0] else "secret")


@only_stripe
async def test_an_answer_that_cannot_be_kept(stripe_till: StripeTill, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seller sees it, the calls for other payments are made, and some day it is given up."""
    provider, number = OneIsUnkeepable(), 2 * CALLS_AT_ONCE
    drop = await stripe_till.drop(total_stock=number)
    await stripe_till.payments.announce()
    payments = await begin_payments(stripe_till.owner, drop["id"], await make_users(stripe_till.owner, number))
    monkeypatch.setitem(stripe_till.payments.providers, "stripe", provider)  # type: ignore[arg-type]
    await stripe_till.payments.work_off()
    assert sorted(provider.asked) == sorted(payments.values())
    [bad] = await calls_of(stripe_till, {"id": provider.asked[0], "drop_id": drop["id"]})
    assert (bad["status"], bad["attempts"]) == ("open", 1)
    assert str(bad["last_error"]).endswith(" in the service")
    made = "select count(done_at) from inventory.provider_calls where drop_id = $1"
    assert await stripe_till.owner.fetchval(made, drop["id"]) == number - 1
    await stripe_till.owner.execute("update inventory.provider_calls set attempts = 19 where id = $1", bad["id"])
    await stripe_till.let_calls_be_due()
    await stripe_till.payments.work_off()
    assert await stripe_till.owner.fetchval("select status from inventory.payments where id = $1", provider.asked[0]) == "failed"


@only_own
async def test_one_reference_for_two_payments(own_till: OwnTill) -> None:
    """The provider has made a mistake. Both payments can be paid, because they are known by their own ids."""
    own_till.provider.created = {"provider_reference": "the same", "url": "https://pay.example/"}
    try:
        payments = [(await own_till.bought())[1] for _ in range(2)]
    finally:
        own_till.provider.created = None
    assert [payment["provider_reference"] for payment in payments] == ["the same", None]
    for payment in payments:
        await own_till.pay(payment)
        await own_till.becomes(payment, "paid")


@only_own
async def test_an_answer_is_not_unpacked(own_till: OwnTill) -> None:
    """Its length is limited, so it must not grow after it came. What is compressed all the same is no answer."""
    own_till.provider.bomb = gzip.compress(dumps({"url": "https://pay.example/"}).encode())
    try:
        _, payment = await own_till.bought(is_payable=False)

        async def has_failed() -> bool:
            [call] = await calls_of(own_till, payment)
            return "is not JSON" in str(call["last_error"])

        await eventually(has_failed, timeout_seconds=60)
    finally:
        own_till.provider.bomb = b""


@only_stripe
async def test_process_dies(stripe_till: StripeTill) -> None:
    """A process that is killed between a call and its answer loses nothing: another one makes the call with the same key.

    No secret is in its log, at any level.
    """
    stripe, user = stripe_till.stripe, await make_user(stripe_till.owner)
    environment = stripe_environment(stripe.url) | {"LOG_LEVEL": "debug", "EXPIRY_POLL_MS": "100"}
    with started(DATABASE_URL=stripe_till.database_url, **environment) as service:
        await asyncio.to_thread(service.wait_until_ready)
        async with client_of(service.url) as http:
            drop = await make_drop(http, stripe_till.seller)
            await reserve(http, drop["id"], user)
            stripe.answers_are_held.clear()
            before = len(stripe.asked)
            buying = asyncio.create_task(http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user)))
            try:
                await eventually(lambda: ("POST", "/v1/payment_intents") in stripe.asked[before:], timeout_seconds=60)
                os.killpg(service.process.pid, signal.SIGKILL)
            finally:
                stripe.answers_are_held.set()
            await asyncio.gather(buying, return_exceptions=True)
    row = await stripe_till.owner.fetchrow("select id::text, user_id::text from inventory.payments where user_id = $1", user)
    assert row is not None
    assert (await stripe_till.payment(dict(row)))["client_secret"] is None
    await stripe_till.let_calls_be_due()
    with started(DATABASE_URL=stripe_till.database_url, **environment) as service:

        async def is_ready() -> bool:
            return (await stripe_till.payment(dict(row)))["client_secret"] is not None

        await eventually(is_ready, timeout_seconds=60)
        payment = await stripe_till.payment(dict(row))
        assert stripe.asked[before:].count(("POST", "/v1/payment_intents")) == 1
        await stripe_till.pay(payment)
        await stripe_till.becomes(payment, "paid")
        log = service.log()
    for secret in (SECRET_KEY, WEBHOOK_SECRET, payment["client_secret"]):
        assert secret not in log


@only_stripe
async def test_command_reconcile(stripe_till: StripeTill) -> None:
    """`lastpair reconcile` mends what a lost webhook left, and says what it found."""
    _, payment = await stripe_till.bought()
    await stripe_till.lose(payment)
    environment = stripe_environment(stripe_till.stripe.url) | {"DATABASE_URL": stripe_till.database_url}
    ended = await asyncio.to_thread(lastpair, "reconcile", **environment)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"[0-9]+ payments compared: [1-9][0-9]* mended, 0 flagged, 0 unanswered\n", ended.stdout)
    assert (await stripe_till.payment(payment))["status"] == "paid"
    ended = await asyncio.to_thread(lastpair, "reconcile", DATABASE_URL=stripe_till.database_url)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("PAYMENT_PROVIDER: none")


async def test_sellers_lists(till: Till) -> None:
    """The seller sees the payments, the money, and what the provider was told."""
    drop = await till.drop(price=10)
    _, paid = await till.buy(drop, await make_user(till.owner), 2)
    bought, _ = await till.buy(drop, await make_user(till.owner))
    await till.pay(paid)
    await till.becomes(paid, "paid")
    headers = as_user(till.seller)
    answer = await till.http.get(f"/drops/{drop['id']}/payments?limit=1", headers=headers)
    [first] = assert_success(answer, "payments")
    assert (first["id"], first["status"]) == (bought["payment_id"], "pending")
    assert "client_secret" not in first
    cursor = loads(answer.text)["meta"]["nextCursor"]
    answer = await till.http.get(f"/drops/{drop['id']}/payments?limit=1&cursor={cursor}", headers=headers)
    assert [row["id"] for row in assert_success(answer, "payments")] == [paid["id"]]
    answer = await till.http.get(f"/drops/{drop['id']}/payments?status=paid", headers=headers)
    assert [row["id"] for row in assert_success(answer, "payments")] == [paid["id"]]
    [money] = assert_success(await till.http.get(f"/drops/{drop['id']}/money", headers=headers), "money")
    assert (money["currency"], money["sold_for"], money["refunded"], money["open"]) == ("USD", 20, 0, 10)
    assert money["counts"] == {"paid": 1, "pending": 1}
    assert {call["status"] for call in await calls_of(till, paid)} == {"done"}


async def test_a_call_that_is_done_between_pages(till: Till) -> None:
    """The next page goes on among the calls that are open."""
    till.fail(fails=True)
    try:
        drop = await till.drop()
        for _ in range(3):
            await till.buy(drop, await make_user(till.owner), is_payable=False)
        path, headers = f"/drops/{drop['id']}/provider-calls", as_user(till.seller)
        ids = [call["id"] for call in assert_success(await till.http.get(path, headers=headers), "calls")]
        first = (await till.http.get(path, params={"limit": 1}, headers=headers)).json()
        await till.owner.execute("select api.finish_provider_call($1)", UUID(ids[0]))
        for cursor, expected in ((first["meta"]["nextCursor"], [*ids[1:], ids[0]]), (ids[1], [ids[2], ids[0]])):
            rest = await till.http.get(path, params={"cursor": cursor}, headers=headers)
            assert [call["id"] for call in assert_success(rest, "calls")] == expected
    finally:
        till.fail(fails=False)
    await till.let_calls_be_due()
    await till.payments.work_off()


async def test_metrics(till: Till) -> None:
    """What is told and what is called is counted, and what waits is measured."""

    async def value(name: str, **labels: str) -> float:
        text = (await till.http.get(f"{till.url}/metrics")).text
        wanted = "".join(f'(?=.*{label}="{value}")' for label, value in labels.items())
        found = re.search(rf"^lastpair_{name}(?:\{{{wanted}.*\}})? (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    counted = [
        ("payment_events_total", {"provider": till.name, "outcome": "applied"}),
        ("provider_calls_total", {"provider": till.name, "action": "create", "result": "done"}),
        ("provider_calls_total", {"provider": till.name, "action": "create", "result": "failed"}),
        ("provider_call_duration_seconds_count", {"provider": till.name, "action": "create"}),
    ]
    before = [await value(name, **labels) for name, labels in counted]
    till.fail(fails=True)
    try:
        _, payment = await till.bought(is_payable=False)

        async def has_failed() -> bool:
            return await value(*counted[2][:1], **counted[2][1]) > before[2]

        await eventually(has_failed, timeout_seconds=60)
    finally:
        till.fail(fails=False)
    await till.payments.work_off()
    assert await value("provider_calls_waiting") >= 1
    await till.let_calls_be_due()
    await till.payments.work_off()
    assert await value("provider_calls_waiting") == 0
    await till.pay(await till.payment(payment))
    await till.becomes(payment, "paid")
    after = [await value(name, **labels) for name, labels in counted]
    assert [now > then for now, then in zip(after, before, strict=True)] == [True] * 4
