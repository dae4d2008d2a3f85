"""The handlers of sellers: they make and change drops, and see who holds and who buys."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from lastpair.errors import Refusal
from lastpair.shop.outcome import Caller
from lastpair.shop.shop import OfDrop
from lastpair.web.buyers import caller_of
from lastpair.web.components import components_of
from lastpair.web.conditions import IF_MATCH, drop_answer, revision_to_match
from lastpair.web.lists import answer_list
from lastpair.web.operation import filters, operation
from lastpair.web.requests import (
    NUMBER,
    choice_in_query,
    idempotency_key,
    limit_and_cursor,
    read_body,
    read_optional_body,
    uuid_in_path,
    uuid_in_query,
)
from lastpair.web.responses import answer, answer_page
from lastpair.web.schemas import (
    PURCHASE_STATUSES,
    RESERVATION_STATUSES,
    BuyersPurchase,
    BuyersReservation,
    CancelDropBody,
    Drop,
    DropChange,
    DropChanges,
    NewDrop,
    Purchase,
    RefundBody,
)


async def seller(request: Request) -> Caller:
    """The user of a request that reads what is the seller's. Raises the same as `reader`, and FORBIDDEN."""
    identity = components_of(request).identity
    return caller_of(request.scope, identity, await identity.admin_id(request.scope))


async def admin(request: Request) -> Caller:
    """The user of a request that creates or changes a drop. Raises the same, and FORBIDDEN."""
    components = components_of(request)
    user_id = await components.identity.admin_id(request.scope)
    components.user_limit.count(user_id)
    return caller_of(request.scope, components.identity, user_id)


async def is_admin(request: Request) -> bool:
    """Whether the request names a user who may create and change drops; raises if it names one in a way that is refused."""
    identity = components_of(request).identity
    if identity.is_anonymous(request.scope):
        return False
    try:
        await identity.admin_id(request.scope)
    except Refusal as refusal:
        if refusal.code != "FORBIDDEN":
            raise
        return False
    return True


@operation(
    "drops",
    {201: {"drop": Drop}, 200: {"drop": Drop}},
    *["DROP_NOT_FOUND", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
    has_etag=True,
    body=NewDrop,
)
async def create_drop(request: Request) -> Response:
    """Put a drop up for sale.

    Without a status, `starts_at` decides: if it is missing the drop is a draft, if it is in the future the drop is scheduled,
    otherwise live.
    """
    key = idempotency_key(request.scope)
    caller = await admin(request)
    body = await read_body(request, NewDrop)
    return drop_answer(request, await components_of(request).shop.create_drop(caller, body.as_json(), key))


@operation(
    "drops",
    {200: {"drop": Drop}},
    *["DROP_NOT_FOUND", "INVALID_STATUS_CHANGE", "STOCK_BELOW_COMMITTED", "VARIANT_NOT_FOUND", "VARIANT_IN_USE", "DROP_CHANGED"],
    caller="admin",
    has_etag=True,
    parameters=[IF_MATCH],
    body=DropChanges,
)
async def update_drop(request: Request) -> Response:
    """Change a drop.

    Only the fields given are changed; null clears a time, a term or the picture. Cancelling a drop releases every hold. A drop
    moves from draft to scheduled, live or cancelled; from scheduled to draft, live, ended or cancelled; from live to ended or
    cancelled.

    With If-Match, the drop is changed only if no other seller has changed it since the ETag was read. Sales do not count.
    """
    drop_id = uuid_in_path(request, "dropId")
    caller = await admin(request)
    revision, changes = revision_to_match(request), (await read_body(request, DropChanges)).given()
    return drop_answer(request, await components_of(request).shop.update_drop(caller, drop_id, changes, revision))


@operation(
    "drops",
    {200: {"drop": Drop}},
    *["DROP_NOT_FOUND", "INVALID_STATUS_CHANGE", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
    has_etag=True,
    body=CancelDropBody,
)
async def cancel_drop(request: Request) -> Response:
    """Cancel a drop, and refund its sales.

    Every hold is released. With `refund` every paid purchase is refunded, in many transactions if there are many. Repeat the
    request if it fails: what was refunded stays so, and the rest follows. A drop that is over stays over, and with `refund` its
    holds are released and its sales are refunded.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request.scope)
    caller = await admin(request)
    refund = (await read_optional_body(request, CancelDropBody)).refund
    outcome = await components_of(request).shop.cancel_drop(caller, drop_id, refund=refund, idempotency_key=key)
    return drop_answer(request, outcome)


@operation(
    "purchases",
    {200: {"purchase": Purchase}},
    *["PURCHASE_NOT_FOUND", "INVALID_STATUS_CHANGE", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
    body=RefundBody,
)
async def refund_purchase(request: Request) -> Response:
    """Refund a purchase, or some of its units.

    The units go back to stock, and a payment provider gives the money back. Without `qty` it is all that are left. A purchase of
    which nothing is left is not refunded again.
    """
    purchase_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    caller = await admin(request)
    qty = (await read_optional_body(request, RefundBody)).qty
    return answer(request, await components_of(request).shop.refund_purchase(caller, purchase_id, qty, key), "purchase")


@operation(
    "drops",
    {200: {"reservations": list[BuyersReservation]}},
    "DROP_NOT_FOUND",
    caller="admin",
    parameters=filters("ReservationStatus"),
    is_paged=True,
    offers_csv=True,
)
async def list_reservations_of_drop(request: Request) -> Response:
    """Who holds, or held, units of a drop.

    The newest first. To `Accept: text/csv` the answer is the whole list as CSV, without pages.
    """
    of_drop = await of_drop_for_seller(request, RESERVATION_STATUSES)
    return await answer_list(request, components_of(request).shop.list_reservations, of_drop, "reservations", BuyersReservation)


@operation(
    "drops",
    {200: {"purchases": list[BuyersPurchase]}},
    "DROP_NOT_FOUND",
    caller="admin",
    parameters=filters("PurchaseStatus"),
    is_paged=True,
    offers_csv=True,
)
async def list_purchases_of_drop(request: Request) -> Response:
    """Who bought on a drop.

    The newest first. To `Accept: text/csv` the answer is the whole list as CSV, without pages.
    """
    of_drop = await of_drop_for_seller(request, PURCHASE_STATUSES)
    return await answer_list(request, components_of(request).shop.list_purchases, of_drop, "purchases", BuyersPurchase)


async def of_drop_for_seller(request: Request, statuses: Sequence[str]) -> OfDrop:
    """What a list for the seller of a drop is to have. Raises what `seller` raises, and VALIDATION_ERROR."""
    drop_id = uuid_in_path(request, "dropId")
    await seller(request)
    return OfDrop(
        drop_id,
        choice_in_query(request, "status", statuses),
        uuid_in_query(request, "variant_id"),
        uuid_in_query(request, "user_id"),
    )


@operation("drops", {200: {"history": list[DropChange]}}, "DROP_NOT_FOUND", caller="admin", is_paged=True)
async def get_drop_history(request: Request) -> Response:
    """What sellers did to a drop.

    Who did what when, the newest first. Rows are only added.
    """
    drop_id = uuid_in_path(request, "dropId")
    await seller(request)
    limit, cursor = limit_and_cursor(request, NUMBER)
    outcome = await components_of(request).shop.history(drop_id, limit, None if cursor is None else int(cursor))
    return answer_page(request, outcome, "history")
