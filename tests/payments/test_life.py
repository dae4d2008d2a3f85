"""The life of a payment over HTTP, with each provider: paid, declined, expired, too late, refunded here and there."""

import asyncio
from decimal import Decimal

from tests.support.envelopes import as_user, assert_error, assert_success
from tests.support.factories import available_stock, make_user, reserve
from tests.support.tills import Till


async def test_pay(till: Till) -> None:
    """A purchase is pending until it is paid, and its units are committed meanwhile."""
    bought, payment = await till.bought()
    assert (bought["status"], bought["payment_id"]) == ("pending", payment["id"])
    assert (payment["status"], payment["amount"], payment["currency"]) == ("pending", Decimal("199.90"), "USD")
    assert payment["client_secret"] or payment["url"]
    assert await available_stock(till.owner, bought["drop_id"]) == 4
    await till.pay(payment)
    await till.becomes(payment, "paid")
    paid = await till.payment(payment)
    assert paid["paid_at"]
    assert (paid["client_secret"], paid["url"]) == (None, None)
    assert (await till.purchase(bought))["status"] == "paid"
    assert await available_stock(till.owner, bought["drop_id"]) == 4


async def test_declined_then_paid(till: Till) -> None:
    """After a payment failed the buyer may try again, and the units are still committed."""
    bought, payment = await till.bought(total_stock=1)
    await till.decline(payment)
    await till.becomes(payment, "failed")
    assert (await till.purchase(bought))["status"] == "pending"
    await till.pay(payment)
    await till.becomes(payment, "paid")
    assert (await till.purchase(bought))["status"] == "paid"


async def test_expired(till: Till) -> None:
    """A payment that is over reads as cancelled at once. Its units go back, and the provider is told."""
    bought, payment = await till.bought(total_stock=1)
    await till.make_due(payment)
    assert (await till.payment(payment))["status"] == "cancelled"
    assert (await till.purchase(bought))["status"] == "cancelled"
    await till.payments.expire()
    assert await available_stock(till.owner, bought["drop_id"]) == 1
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("canceled", 0)


async def test_paid_too_late_with_stock(till: Till) -> None:
    """Money that comes after the end buys the units if they are still there."""
    bought, payment = await till.bought(total_stock=1)
    await till.make_due(payment)
    await till.payments.expire()
    await till.pay(payment)
    await till.becomes(payment, "paid")
    assert (await till.purchase(bought))["status"] == "paid"
    assert await available_stock(till.owner, bought["drop_id"]) == 0
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("succeeded", 0)


async def test_paid_too_late_without_stock(till: Till) -> None:
    """Money that comes when the units are gone goes back, and the seller sees it."""
    drop = await till.drop(total_stock=1)
    bought, payment = await till.buy(drop, await make_user(till.owner))
    await till.make_due(payment)
    other = await make_user(till.owner)
    _, paid = await till.buy(drop, other)  # the reserve takes the units of the due payment
    await till.pay(paid)
    await till.pay(payment)
    await till.becomes(payment, "refunded")
    assert (await till.purchase(bought))["status"] in {"cancelled", "refunded"}
    assert await till.problems(payment) == ["too_late"]
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("succeeded", Decimal("199.90"))


async def test_cancelled_by_the_buyer(till: Till) -> None:
    """A buyer who does not want to pay gives the units back. Another user cannot, and what is paid stays."""
    bought, payment = await till.bought(total_stock=1)
    path, other = f"/payments/{payment['id']}", await make_user(till.owner)
    for method in ("GET", "DELETE"):
        assert_error(await till.http.request(method, path, headers=as_user(other)), 404, "PAYMENT_NOT_FOUND")
    for _ in range(2):
        cancelled = assert_success(await till.http.delete(path, headers=as_user(payment["user_id"])), "payment")
        assert cancelled["status"] == "cancelled"
    assert await available_stock(till.owner, bought["drop_id"]) == 1
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("canceled", 0)
    _, paid = await till.bought()
    await till.pay(paid)
    await till.becomes(paid, "paid")
    answer = await till.http.delete(f"/payments/{paid['id']}", headers=as_user(paid["user_id"]))
    assert_error(answer, 409, "INVALID_STATUS_CHANGE")


async def test_refunded_here(till: Till) -> None:
    """A seller refunds some units, then the rest. A repeated request refunds nothing more."""
    drop = await till.drop()
    bought, payment = await till.buy(drop, await make_user(till.owner), 3)
    await till.pay(payment)
    await till.becomes(payment, "paid")
    path = f"/purchases/{bought['id']}/refund"
    for _ in range(2):
        answer = await till.http.post(path, json={"qty": 1}, headers=as_user(till.seller, idempotency_key=bought["id"]))
        refunded = assert_success(answer, "purchase")
        assert (refunded["status"], refunded["refunded_qty"], refunded["refunded_amount"]) == ("paid", 1, Decimal("199.90"))
    assert await available_stock(till.owner, drop["id"]) == 3
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("succeeded", Decimal("199.90"))
    assert (await till.payment(payment))["status"] == "paid"
    assert_success(await till.http.post(path, headers=as_user(till.seller)), "purchase")
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("succeeded", Decimal("599.70"))
    assert (await till.payment(payment))["status"] == "refunded"
    assert await available_stock(till.owner, drop["id"]) == 5


async def test_refunded_there(till: Till) -> None:
    """What was refunded at the provider is refunded here, too, and the provider is not told to do it again."""
    bought, payment = await till.bought(total_stock=1)
    await till.pay(payment)
    await till.becomes(payment, "paid")
    await till.refund_there(payment)
    assert (await till.payment(payment))["status"] == "refunded"
    assert (await till.purchase(bought))["status"] == "refunded"
    assert await available_stock(till.owner, bought["drop_id"]) == 1
    await till.payments.work_off()
    assert await till.stands_at(payment) == ("succeeded", Decimal("199.90"))


async def test_refunded_there_in_part(till: Till) -> None:
    """Of a part that was refunded at the provider it is not known which units it is for, so the seller has to look at it."""
    bought, payment = await till.bought(total_stock=1)
    await till.pay(payment)
    await till.becomes(payment, "paid")
    await till.refund_there(payment, Decimal("9.90"))
    found = await till.payment(payment)
    assert (found["status"], found["refunded_amount"]) == ("paid", Decimal("9.90"))
    assert (await till.purchase(bought))["status"] == "paid"
    assert await till.problems(payment) == ["refunded_in_part"]


async def test_drop_cancelled(till: Till) -> None:
    """A drop that is cancelled with refunds gives all money back, and lets nobody pay any more."""
    drop = await till.drop()
    _, paid = await till.buy(drop, await make_user(till.owner))
    _, pending = await till.buy(drop, await make_user(till.owner))
    await till.pay(paid)
    await till.becomes(paid, "paid")
    answer = await till.http.post(f"/drops/{drop['id']}/cancel", json={"refund": True}, headers=as_user(till.seller))
    assert_success(answer, "drop")
    await till.payments.expire()
    await till.payments.work_off()
    assert (await till.payment(paid))["status"] == "refunded"
    assert (await till.payment(pending))["status"] == "cancelled"
    assert await till.stands_at(paid) == ("succeeded", Decimal("199.90"))
    assert await till.stands_at(pending) == ("canceled", 0)
    assert await available_stock(till.owner, drop["id"]) == 5


async def test_basket(till: Till) -> None:
    """The purchases of a basket have one payment, which is paid for all of them."""
    user = await make_user(till.owner)
    drops = [await till.drop(price=price) for price in (10, 20, 0)]
    items = [{"drop_id": drop["id"]} for drop in drops]
    basket = assert_success(await till.http.post("/baskets", json={"items": items}, headers=as_user(user)), "basket", 201)
    answers = [await till.http.post(f"/baskets/{basket['id']}/purchase", headers=as_user(user)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    data = answers[0].json()["data"]
    assert data == answers[1].json()["data"]
    purchases, payment = data["purchases"], data["payment"]
    assert payment["amount"] == 30
    assert payment["basket_id"] == basket["id"]
    assert [row["status"] for row in purchases] == ["pending", "pending", "paid"]
    await till.pay(payment)
    await till.becomes(payment, "paid")
    assert [(await till.purchase(row))["status"] for row in purchases] == ["paid", "paid", "paid"]


async def test_basket_of_several_currencies(till: Till) -> None:
    """One payment has one currency, so nothing is bought."""
    user = await make_user(till.owner)
    drops = [await till.drop(price=10, currency=currency) for currency in ("USD", "EUR")]
    items = [{"drop_id": drop["id"]} for drop in drops]
    basket = assert_success(await till.http.post("/baskets", json={"items": items}, headers=as_user(user)), "basket", 201)
    answer = await till.http.post(f"/baskets/{basket['id']}/purchase", headers=as_user(user))
    assert_error(answer, 409, "SEVERAL_CURRENCIES")
    assert assert_success(await till.http.get("/purchases/me", headers=as_user(user)), "purchases") == []


async def test_free_drop(till: Till) -> None:
    """What costs nothing is bought at once."""
    user = await make_user(till.owner)
    drop = await till.drop(price=0)
    await reserve(till.http, drop["id"], user)
    answer = await till.http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user))
    assert answer.status_code == 201
    assert answer.json()["data"]["payment"] is None
    assert answer.json()["data"]["purchase"]["status"] == "paid"


async def test_repeated_purchase(till: Till) -> None:
    """A request with the same Idempotency-Key answers the same purchase and payment."""
    user, drop = await make_user(till.owner), await till.drop()
    await reserve(till.http, drop["id"], user)
    path, headers = f"/drops/{drop['id']}/purchase", as_user(user, idempotency_key="once")
    answers = await asyncio.gather(*(till.http.post(path, headers=headers) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 201]
    assert len({answer.json()["data"]["payment"]["id"] for answer in answers}) == 1
    assert_error(await till.http.post(path, headers=as_user(user)), 409, "NO_ACTIVE_RESERVATION")
