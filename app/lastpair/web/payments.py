"""The handlers of payments: for buyers, for sellers, and for what payment providers tell."""

from collections.abc import Mapping
from dataclasses import replace
from json import loads
from typing import Literal

from orjson import Fragment
from starlette.requests import Request
from starlette.responses import Response

from lastpair.errors import Refusal
from lastpair.observability.metrics import PAYMENT_EVENTS
from lastpair.payments.notice import PaymentNotice
from lastpair.payments.provider import Provider, ProviderEvent, SignatureRefused, Unreadable
from lastpair.shop.outcome import Caller, Outcome
from lastpair.web import handlers
from lastpair.web.buyers import read, writer
from lastpair.web.components import components_of
from lastpair.web.error_codes import NOT_FOUND
from lastpair.web.handlers import PURCHASE, reader
from lastpair.web.limits import address_of
from lastpair.web.operation import Handler, Operation, operation, status_parameter
from lastpair.web.requests import (
    PIECE_BYTES,
    TIMED_CURSOR,
    TIMED_NUMBER,
    check_coding,
    choice_in_query,
    expect_no_body,
    idempotency_key,
    limit_and_cursor,
    read_bytes,
    uuid_in_path,
)
from lastpair.web.responses import REPLAYED, answer, answer_page, failure, success
from lastpair.web.schemas import PAYMENT_STATUSES, BuyersPayment, MoneyOfDrop, Payment, PaymentProblem, ProviderCall
from lastpair.web.sellers import admin, seller
from lastpair.web.turns import in_turn

MAX_MESSAGE_BYTES = 256 * 1024
"""The longest message of a provider. An event of Stripe with all that it can hold is smaller."""


def with_payment(buying: Operation, handler: Handler, *codes: str) -> Operation:
    """An operation that buys, as it is with a payment provider: without the hot path, and with the payment in its answers."""
    bought = {status: data for status, data in buying.answers.items() if isinstance(data, Mapping)}
    answers = {status: {**data, "payment": Payment | None} for status, data in bought.items()}
    return replace(buying, handler=handler, answers=answers, codes=(*buying.codes, *codes), buyers=None)


async def purchase(request: Request) -> Response:
    """Buy what you hold, and pay for it.

    The purchase is `pending` until its payment is paid. Units that cost nothing are bought at once, without a payment. Stock is
    not taken a second time, and the price is that of the hold. With holds of several variants, `reservation_id` says which.
    """
    caller, asked = await read(request, PURCHASE)
    components = components_of(request)
    await components.payments.at(uuid_in_path(request, "dropId")).announce()
    return await answer_with_payment(request, caller, await components.shop.carry_out(caller, asked), "purchase")


async def purchase_basket(request: Request) -> Response:
    """Buy all that you hold in a basket, or nothing, and pay for it at once.

    The purchases are `pending` until their payment is paid. If all cost nothing there is no payment. A repeated request answers
    the same purchases, with or without a key.
    """
    basket_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    await expect_no_body(request)
    caller, components = await writer(request), components_of(request)
    await components.payments.at(basket_id).announce()
    return await answer_with_payment(request, caller, await components.shop.purchase_basket(caller, basket_id, key), "purchases")


async def answer_with_payment(request: Request, caller: Caller, outcome: Outcome, name: str) -> Response:
    """What was bought, under this name, and its payment after the provider was told of it."""
    if outcome.code is not None:
        return answer(request, outcome, name)
    components = components_of(request)
    bought = loads(outcome.data)
    ids = [row["payment_id"] for row in (bought if isinstance(bought, list) else [bought]) if row["payment_id"] is not None]
    payment = None
    if ids:
        await components.payments.at(ids[0]).begin(ids[0])
        found = await components.shop.get_payment(caller, ids[0])
        if found.code is not None:
            return answer(request, found, "payment")
        payment = Fragment(found.data)
    data = {name: Fragment(outcome.data), "payment": payment}
    return success(request, data, outcome.status, REPLAYED if outcome.replayed else None)


PURCHASE_WITH_PAYMENT = with_payment(handlers.purchase, purchase)
PURCHASE_BASKET_WITH_PAYMENT = with_payment(handlers.purchase_basket, purchase_basket, "SEVERAL_CURRENCIES")


@operation("payments", {200: {"payment": Payment}}, "PAYMENT_NOT_FOUND", caller="user")
async def get_payment(request: Request) -> Response:
    """One of your payments.

    `client_secret` or `url` is there as soon as the payment provider has answered, and until the payment ends.
    """
    payment_id = uuid_in_path(request, "id")
    return answer(request, await components_of(request).shop.get_payment(await reader(request), payment_id), "payment")


@operation("payments", {200: {"payment": Payment}}, "PAYMENT_NOT_FOUND", "INVALID_STATUS_CHANGE", caller="user")
async def cancel_payment(request: Request) -> Response:
    """Do not pay.

    The payment and its purchases are cancelled, and the units go back to stock. A repeated request changes nothing and answers
    the payment. What is paid can only be refunded by the seller.
    """
    payment_id = uuid_in_path(request, "id")
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.cancel_payment(await writer(request), payment_id), "payment")


@operation(
    "payments",
    {200: {"payments": list[BuyersPayment]}},
    "DROP_NOT_FOUND",
    caller="admin",
    parameters=[status_parameter("Only payments with this status.", "PaymentStatus")],
    is_paged=True,
)
async def list_payments_of_drop(request: Request) -> Response:
    """Who pays, paid or did not pay for purchases on a drop.

    The newest first. The payment of a basket is listed with each of its drops.
    """
    drop_id = uuid_in_path(request, "dropId")
    await seller(request)
    status = choice_in_query(request, "status", PAYMENT_STATUSES)
    outcome = await components_of(request).shop.list_payments(drop_id, status, *limit_and_cursor(request))
    return answer_page(request, outcome, "payments")


@operation("payments", {200: {"money": list[MoneyOfDrop]}}, "DROP_NOT_FOUND", caller="admin")
async def get_money_of_drop(request: Request) -> Response:
    """How much money a drop has earned, has given back and still waits for, in one row per currency."""
    drop_id = uuid_in_path(request, "dropId")
    await seller(request)
    return answer(request, await components_of(request).shop.drop_money(drop_id), "money")


@operation("payments", {200: {"problems": list[PaymentProblem]}}, caller="admin", is_paged=True)
async def list_payment_problems(request: Request) -> Response:
    """What payment providers told and you have to look at.

    The newest first, of all drops: a payment that is not known, another amount or currency than was asked for, an event of the
    other mode, a refund that was made at the provider for a part, a refund that failed there, money that came too late and is
    refunded, money that was taken twice.
    """
    await seller(request)
    outcome = await components_of(request).shop.list_payment_problems(*limit_and_cursor(request, TIMED_NUMBER))
    return answer_page(request, outcome, "problems")


@operation("payments", {200: {"calls": list[ProviderCall]}}, "DROP_NOT_FOUND", caller="admin", is_paged=True)
async def list_provider_calls_of_drop(request: Request) -> Response:
    """What the payment provider was told, or is to be told.

    Calls that are open or were given up come first, then those that are done, each the newest first.
    """
    drop_id = uuid_in_path(request, "dropId")
    await seller(request)
    outcome = await components_of(request).shop.list_provider_calls(drop_id, *limit_and_cursor(request, TIMED_CURSOR))
    return answer_page(request, outcome, "calls")


@operation(
    "payments",
    {200: {"call": ProviderCall}},
    "PROVIDER_CALL_NOT_FOUND",
    "INVALID_STATUS_CHANGE",
    caller="admin",
    is_idempotent=True,
)
async def retry_provider_call(request: Request) -> Response:
    """Make a call to the payment provider again that failed or was given up.

    It is made soon, with the same idempotency key. An Idempotency-Key of the request changes nothing, because a repeated request
    makes the call no second time.
    """
    call_id = uuid_in_path(request, "id")
    idempotency_key(request.scope)
    caller = await admin(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.retry_provider_call(caller, call_id), "call")


EventOutcome = Literal["applied", "unchanged", "flagged", "ignored"]


@operation("providers", {200: {"outcome": EventOutcome}}, "SIGNATURE_INVALID", "NOT_FOUND", is_signed=True)
async def receive_from_stripe(request: Request) -> Response:
    """What Stripe tells: the address of a webhook endpoint there.

    `Stripe-Signature` must be made with `STRIPE_WEBHOOK_SECRET` in the last five minutes. An event is recorded once. It is
    answered with 200 also if it is flagged for the seller, or says nothing of a payment.
    """
    return await receive(request, "stripe")


@operation(
    "providers",
    {200: {"outcome": EventOutcome}},
    *["SIGNATURE_INVALID", "NOT_FOUND"],
    body=PaymentNotice,
    is_signed=True,
)
async def receive_from_provider(request: Request) -> Response:
    """What another payment provider tells.

    The message is signed as Standard Webhooks describes it with `PAYMENT_WEBHOOK_SECRET` in the last five minutes. It is recorded
    once, by its `webhook-id`. It is answered with 200 also if it is flagged for the seller.
    """
    return await receive(request, "webhook")


async def receive(request: Request, name: str) -> Response:
    """Record what a provider tells. What a stranger sends is refused by its headers alone, or costs no more than a hash of it."""
    components, address = components_of(request), address_of(request.scope)
    provider = components.payments.providers.get(name)
    if provider is None:
        raise NOT_FOUND
    components.forgery_limit.check(address)
    try:
        event = await event_in(request, provider)
    except SignatureRefused as error:
        PAYMENT_EVENTS.labels(name, "refused").inc()
        components.forgery_limit.count(address)
        return failure(request, Refusal(401, "SIGNATURE_INVALID", f"{error}."))
    except Unreadable as error:
        PAYMENT_EVENTS.labels(name, "refused").inc()
        return failure(request, Refusal(400, "VALIDATION_ERROR", str(error)))
    if event is None:
        PAYMENT_EVENTS.labels(name, "ignored").inc()
        return success(request, {"outcome": "ignored"})
    return success(request, {"outcome": (await components.payments.record(event)).outcome})


async def event_in(request: Request, provider: Provider) -> ProviderEvent | None:
    """What the message tells. Raises what the provider raises, PAYLOAD_TOO_LARGE and UNSUPPORTED_MEDIA_TYPE."""
    headers = dict(request.headers)
    provider.check_signature(headers)
    check_coding(request.scope)
    body = await read_bytes(request, MAX_MESSAGE_BYTES)
    if len(body) > PIECE_BYTES:
        return await in_turn(lambda: provider.event_of(headers, body))
    return provider.event_of(headers, body)
