"""The handlers: each parses a request, calls one method of the shop and renders the outcome."""

from typing import Literal

from orjson import Fragment
from pydantic import AwareDatetime
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from lastpair import __version__
from lastpair.errors import Unavailable
from lastpair.observability.metrics import CONTENT_TYPE, exposition
from lastpair.shop.outcome import Caller
from lastpair.shop.shared_calls import BasketItem, BasketRequest, CancelRequest, PurchaseRequest, ReserveRequest
from lastpair.web.buyers import caller_of, carry_out, writer
from lastpair.web.components import components_of
from lastpair.web.conditions import IF_NONE_MATCH, drop_answer, known_etags
from lastpair.web.handshakes import NOT_A_HANDSHAKE
from lastpair.web.operation import (
    ACTIVITY_PARAMETERS,
    EVENT_STREAM,
    FRAMES,
    STREAM_PARAMETERS,
    BuyersOperation,
    Raw,
    SharedPage,
    operation,
    status_parameter,
)
from lastpair.web.requests import (
    TIMED_CURSOR,
    NoFields,
    activity_seconds,
    choice_in_query,
    expect_no_body,
    idempotency_key,
    limit_and_cursor,
    read_body,
    uuid_in_path,
)
from lastpair.web.responses import ANSWER_HEADERS, REPLAYED, answer, answer_page, success
from lastpair.web.schemas import (
    DROP_STATUSES,
    Activity,
    Basket,
    Drop,
    ListedDrop,
    NewBasket,
    NewRush,
    NewUser,
    Purchase,
    PurchaseBody,
    Reservation,
    ReservationChange,
    ReserveBody,
    Rush,
    User,
)
from lastpair.web.sellers import is_admin, seller
from lastpair.web.sse import event_stream
from lastpair.web.stream_requests import drop_ids_in
from lastpair.web.turns import in_turn
from lastpair.web.websocket import serve_events

STREAM_REFUSALS = ("AUTH_REQUIRED", "IDENTITY_UNAVAILABLE", "TICKET_INVALID")
DROPS_ON_SALE = SharedPage("drops")
NOT_COUNTED = "The watchers were not counted yet. Try again in a moment."
NOT_LISTENING = "The database answers, but what it announces is not heard. Try again in a moment."


async def reader(request: Request) -> Caller:
    """The user of a request that reads the user's own rows. Raises AUTH_REQUIRED or IDENTITY_UNAVAILABLE."""
    identity = components_of(request).identity
    return caller_of(request.scope, identity, await identity.user_id(request.scope))


async def reader_of_others(request: Request) -> tuple[Caller, str | None]:
    """The same user, and whose rows may be read: the user's, or anyone's if None. Raises the same as `reader`."""
    identity = components_of(request).identity
    reader_id = await identity.reader_id(request.scope)
    return caller_of(request.scope, identity, request.scope["user_id"]), reader_id


RESERVE = BuyersOperation(
    "dropId",
    ReserveBody,
    "reservation",
    lambda user_id, drop_id, key, body: ReserveRequest(drop_id, user_id, key, body.variant_id, body.qty),
)
PURCHASE = BuyersOperation(
    "dropId",
    PurchaseBody,
    "purchase",
    lambda user_id, drop_id, key, body: PurchaseRequest(drop_id, user_id, key, body.reservation_id),
)
CANCEL = BuyersOperation(
    "id", NoFields, "reservation", lambda user_id, reservation_id, _, __: CancelRequest(reservation_id, user_id), takes_key=False
)
RESERVE_BASKET = BuyersOperation(
    None,
    NewBasket,
    "basket",
    lambda user_id, _, key, body: BasketRequest(
        user_id, [BasketItem(item.drop_id, item.variant_id, item.qty) for item in body.items], key
    ),
    needs_body=True,
)


@operation(
    "reservations",
    {201: {"reservation": Reservation}, 200: {"reservation": Reservation}},
    *["DROP_NOT_FOUND", "DROP_NOT_ACTIVE", "VARIANT_NOT_FOUND", "OUT_OF_STOCK", "ALREADY_RESERVED"],
    *["LIMIT_EXCEEDED", "RESERVED_TOO_SOON", "IDEMPOTENCY_KEY_REUSED"],
    caller="user",
    is_idempotent=True,
    body=ReserveBody,
    buyers=RESERVE,
)
async def reserve(request: Request) -> Response:
    """Hold units of a drop.

    They are held until `expires_at` and go back to stock then. All that are asked for are held, or none. A user has one
    reservation at a time of a variant, or of a drop that has none.
    """
    return await carry_out(request, RESERVE)


@operation(
    "purchases",
    {201: {"purchase": Purchase}, 200: {"purchase": Purchase}},
    *["DROP_NOT_FOUND", "DROP_NOT_ACTIVE", "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED", "RESERVATION_NOT_FOUND"],
    *["SEVERAL_RESERVATIONS", "IDEMPOTENCY_KEY_REUSED"],
    caller="user",
    is_idempotent=True,
    body=PurchaseBody,
    buyers=PURCHASE,
)
async def purchase(request: Request) -> Response:
    """Buy what you hold.

    Stock is not taken a second time, and the price is that of the hold. With holds of several variants, `reservation_id` says
    which.
    """
    return await carry_out(request, PURCHASE)


@operation(
    "reservations",
    {200: {"reservation": Reservation}},
    *["RESERVATION_NOT_FOUND", "RESERVATION_NOT_ACTIVE", "RESERVATION_EXPIRED"],
    caller="user",
    buyers=CANCEL,
)
async def cancel_reservation(request: Request) -> Response:
    """Give back the units of a reservation that you hold.

    The reservation must be yours, and ACTIVE or cancelled: a repeated request changes nothing and answers the reservation.
    `DELETE /reservations/{id}/cancel` is an alias of it.
    """
    return await carry_out(request, CANCEL)


@operation(
    "reservations",
    {200: {"reservation": Reservation}},
    *["RESERVATION_NOT_FOUND", "RESERVATION_NOT_ACTIVE", "RESERVATION_EXPIRED", "EXTENSION_NOT_ALLOWED"],
    "IDEMPOTENCY_KEY_REUSED",
    caller="user",
    is_idempotent=True,
)
async def extend_reservation(request: Request) -> Response:
    """Let a hold end later, by `extension_seconds` of its drop.

    A reservation is extended once. A repeated request changes nothing and answers the reservation, with or without a key.
    """
    reservation_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.extend(await writer(request), reservation_id, key), "reservation")


@operation(
    "baskets",
    {201: {"basket": Basket}, 200: {"basket": Basket}},
    *["BASKET_REFUSED", "BASKET_SPANS_NODES", "IDEMPOTENCY_KEY_REUSED"],
    caller="user",
    is_idempotent=True,
    body=NewBasket,
    buyers=RESERVE_BASKET,
)
async def reserve_basket(request: Request) -> Response:
    """Hold units of several drops and variants: all items, or none.

    If an item is refused, nothing is held, and `error.items` has `index`, `code` and `message` of each that is.
    """
    return await carry_out(request, RESERVE_BASKET)


@operation(
    "baskets",
    {201: {"purchases": list[Purchase]}, 200: {"purchases": list[Purchase]}},
    *["BASKET_NOT_FOUND", "BASKET_NOT_ACTIVE", "RESERVATION_EXPIRED", "IDEMPOTENCY_KEY_REUSED"],
    caller="user",
    is_idempotent=True,
)
async def purchase_basket(request: Request) -> Response:
    """Buy all that you hold in a basket, or nothing.

    A repeated request answers the same purchases, with or without a key.
    """
    basket_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.purchase_basket(await writer(request), basket_id, key), "purchases")


@operation("baskets", {200: {"basket": Basket}}, "BASKET_NOT_FOUND", "BASKET_NOT_ACTIVE", caller="user")
async def cancel_basket(request: Request) -> Response:
    """Give back all that you hold in a basket.

    What ran out or was cancelled before is no error. If something was bought, nothing is given back.
    """
    basket_id = uuid_in_path(request, "id")
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.cancel_basket(await writer(request), basket_id), "basket")


@operation("baskets", {200: {"basket": Basket}}, "BASKET_NOT_FOUND", caller="user")
async def get_basket(request: Request) -> Response:
    """One of your baskets, with its reservations as they are now."""
    basket_id = uuid_in_path(request, "id")
    return answer(request, await components_of(request).shop.get_basket(await reader(request), basket_id), "basket")


@operation(
    "drops",
    {200: {"drop": Drop}, 304: None},
    *["DROP_NOT_FOUND", "AUTH_REQUIRED", "IDENTITY_UNAVAILABLE"],
    has_etag=True,
    parameters=[IF_NONE_MATCH],
)
async def get_drop(request: Request) -> Response:
    """One drop, in any status.

    A draft is found by those only who may change drops. With If-None-Match, the answer is 304 if the drop is as it was when that
    ETag was read, its stock included.
    """
    shop, drop_id = components_of(request).shop, uuid_in_path(request, "dropId")
    outcome = await shop.get_drop(drop_id, drafts=False)
    if outcome.code == "DROP_NOT_FOUND" and await is_admin(request):
        outcome = await shop.get_drop(drop_id, drafts=True)
    return drop_answer(request, outcome, known=known_etags(request))


@operation(
    "drops",
    {200: {"drops": list[ListedDrop]}},
    *["AUTH_REQUIRED", "FORBIDDEN", "IDENTITY_UNAVAILABLE"],
    parameters=[status_parameter("Drops of this status instead. Drafts are shown to the seller only.", "DropStatus")],
    is_paged=True,
    shared_page=DROPS_ON_SALE,
)
async def list_drops(request: Request) -> Response:
    """The drops on sale now.

    Drops that have started and not ended, newest start first, each with its latest purchasers. With `status`, the drops that have
    this status by the clock.
    """
    shop = components_of(request).shop
    if not request.scope["query_string"]:
        return answer_page(request, await shop.drops_on_sale(), DROPS_ON_SALE.data)
    status, page = choice_in_query(request, "status", DROP_STATUSES), limit_and_cursor(request, TIMED_CURSOR)
    if status == "draft":
        await seller(request)
    return answer_page(request, await shop.list_drops(status, *page), "drops")


@operation("reservations", {200: {"reservation": Reservation}}, "RESERVATION_NOT_FOUND", caller="user")
async def get_reservation(request: Request) -> Response:
    """One reservation: yours, or of a drop that you sell."""
    reservation_id = uuid_in_path(request, "id")
    caller, reader_id = await reader_of_others(request)
    outcome = await components_of(request).shop.get_reservation(caller, reservation_id, reader_id)
    return answer(request, outcome, "reservation")


@operation("reservations", {200: {"history": list[ReservationChange]}}, "RESERVATION_NOT_FOUND", caller="user")
async def get_reservation_history(request: Request) -> Response:
    """What became of a reservation: yours, or of a drop that you sell.

    Who did what when, the oldest first.
    """
    reservation_id = uuid_in_path(request, "id")
    caller, reader_id = await reader_of_others(request)
    outcome = await components_of(request).shop.reservation_history(caller, reservation_id, reader_id)
    return answer(request, outcome, "history")


@operation("purchases", {200: {"purchase": Purchase}}, "PURCHASE_NOT_FOUND", caller="user")
async def get_purchase(request: Request) -> Response:
    """One purchase: yours, or of a drop that you sell."""
    purchase_id = uuid_in_path(request, "id")
    caller, reader_id = await reader_of_others(request)
    outcome = await components_of(request).shop.get_purchase(caller, purchase_id, reader_id)
    return answer(request, outcome, "purchase")


@operation("reservations", {200: {"reservations": list[Reservation]}}, caller="user", is_paged=True)
async def list_my_reservations(request: Request) -> Response:
    """The units that you hold.

    Reservations that are ACTIVE and not due, newest first.
    """
    caller = await reader(request)
    outcome = await components_of(request).shop.my_reservations(caller, *limit_and_cursor(request, TIMED_CURSOR))
    return answer_page(request, outcome, "reservations")


@operation("purchases", {200: {"purchases": list[Purchase]}}, caller="user", is_paged=True)
async def list_my_purchases(request: Request) -> Response:
    """The units that you have bought.

    In any status, newest first.
    """
    caller = await reader(request)
    outcome = await components_of(request).shop.my_purchases(caller, *limit_and_cursor(request, TIMED_CURSOR))
    return answer_page(request, outcome, "purchases")


@operation("users", {200: {"user": User}}, caller="user")
async def forget_me(request: Request) -> Response:
    """Make yourself anonymous.

    Your name is replaced by one that says nothing, and the units that you hold go back to stock. What you have bought stays
    yours.
    """
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.forget_user(await writer(request)), "user")


@operation("realtime", {200: {"activity": Activity}}, parameters=ACTIVITY_PARAMETERS)
async def get_activity(request: Request) -> Response:
    """What happened lately.

    The answer has the latest events, the stock of each drop by time, and a `position`. A client that shows it and then opens a
    stream with that `lastEventId` misses nothing and gets nothing twice. Without `dropId` the events are of all drops, and the
    points are of those on sale.
    """
    seconds, drop_ids = activity_seconds(request), drop_ids_in(request)
    return answer(request, await components_of(request).shop.activity(seconds, sorted(drop_ids) or None), "activity")


@operation("realtime", {200: {"watchers": int, "as_of": AwareDatetime}})
async def get_watchers(request: Request) -> Response:
    """How many streams are open, over all processes of the service.

    They are counted every 5 seconds, and `as_of` is the time of the count. Tabs of a browser that share a stream count as one.
    The streams of a process that was killed count for 20 seconds more.
    """
    latest = components_of(request).watchers.latest
    if latest is None:
        raise Unavailable(NOT_COUNTED)
    return success(request, latest._asdict())


@operation("realtime", {201: {"ticket": str, "expires_at": AwareDatetime}}, caller="user", is_idempotent=True)
async def create_stream_ticket(request: Request) -> Response:
    """Get a ticket for a stream.

    A browser's EventSource and WebSocket cannot send a header. With `?ticket=` they get the events that are for the user alone. A
    ticket is good for 60 seconds, in every process. Get a new one for each connection. An Idempotency-Key changes nothing.
    """
    idempotency_key(request.scope)
    await expect_no_body(request)
    outcome = await components_of(request).shop.create_stream_ticket(await writer(request))
    return answer(request, outcome, "ticket") if outcome.code is not None else success(request, Fragment(outcome.data), 201)


@operation("realtime", {200: EVENT_STREAM}, *STREAM_REFUSALS, parameters=STREAM_PARAMETERS)
async def stream_events(request: Request) -> Response:
    """Server-Sent Events, until the client leaves.

    The first event is SNAPSHOT, `{ drops }`. Then, in the order of the commits: DROP_CREATED and DROP_UPDATED, `{ drop }`;
    DROP_REMOVED, `{ dropId }`; STOCK_UPDATED, `{ dropId, availableStock }`, with `variants: [{ id, availableStock }]` if the drop
    has variants; RESERVATION_EXPIRED, `{ dropId, reservationId }`; PURCHASE_COMPLETED, `{ dropId, username, qty, purchasedAt }`;
    ACTIVITY_UPDATED, `{ dropId, latestPurchasers }`. Drafts are not among them. If events were missed that the log no longer has:
    RESYNC_REQUIRED, `{ reason }`, and a SNAPSHOT. POSITION, `{ }`, says that nothing happened up to its id. An event that was
    committed also has `at`, the time of its commit. With a ticket, or with the header that says whose a request is, the stream
    also has what is for this user alone: PAYMENT_UPDATED, `{ dropId, payment }`. In a terminal `curl -N` shows the stream.
    """
    return await event_stream(request)


@operation("realtime", {101: FRAMES}, *STREAM_REFUSALS, "UPGRADE_REQUIRED", parameters=STREAM_PARAMETERS)
async def open_websocket(websocket: WebSocket) -> None:
    """The same events over WebSocket.

    Text frames `{ "type", "id", "data" }`. A client may send `{ "type": "drops:join", "dropId": "…" }` and `drops:leave` to
    choose its drops, and `{ "type": "ping" }`, which is answered with `{ "type": "pong" }`. A request that is not a WebSocket
    handshake is answered with 426.
    """
    await serve_events(websocket)


async def refuse_without_upgrade(request: Request) -> Response:
    """GET of the WebSocket's path without a handshake. Raises UPGRADE_REQUIRED."""
    raise NOT_A_HANDSHAKE


@operation(
    "development",
    {201: {"user": User}, 200: {"user": User}},
    *["USERNAME_TAKEN", "IDEMPOTENCY_KEY_REUSED"],
    is_idempotent=True,
    body=NewUser,
)
async def create_user(request: Request) -> Response:
    """Make a user."""
    key = idempotency_key(request.scope)
    body = await read_body(request, NewUser)
    return answer(request, await components_of(request).shop.create_user(body.username, key), "user")


@operation("development", {200: {"expired": int}}, is_idempotent=True)
async def expire_now(request: Request) -> Response:
    """Take back every hold that is due.

    `expired` is the number of holds that went back to stock. An Idempotency-Key changes nothing, because a repeated request takes
    nothing back twice.
    """
    idempotency_key(request.scope)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.expire_due_holds(), "expired")


@operation(
    "development",
    {202: {"rush": Rush}},
    *["RUSH_RUNNING", "IDEMPOTENCY_KEY_REUSED"],
    is_idempotent=True,
    needs_database=False,
    body=NewRush,
)
async def start_rush(request: Request) -> Response:
    """Let a crowd of buyers want a new drop.

    They ask from a process of their own, over HTTP, as `lastpair rush` does; each has a user and an address of its own, so limits
    hold for each. One rush runs at a time, and ends with the service. A repeated request with the `Idempotency-Key` of the latest
    rush answers that one as it is now; older keys are forgotten.
    """
    key = idempotency_key(request.scope)
    body = await read_body(request, NewRush)
    rush, replayed = await components_of(request).rushes.start(body.buyers, body.stock, key)
    return success(request, {"rush": rush}, 202, REPLAYED if replayed else None)


@operation("development", {200: {"rush": Rush | None}}, needs_database=False)
async def get_rush(request: Request) -> Response:
    """The latest rush, as far as it is; null if there was none."""
    return success(request, {"rush": components_of(request).rushes.latest()})


@operation("operations", {200: {"status": Literal["ok"], "version": str}}, needs_database=False)
async def get_health(request: Request) -> Response:
    """Whether the process answers, and its version."""
    return success(request, {"status": "ok", "version": __version__})


@operation("operations", {200: {"status": Literal["ready"]}})
async def get_readiness(request: Request) -> Response:
    """Whether the database answers and has the functions, and whether this process receives its events."""
    components = components_of(request)
    await components.database.ready()
    if not components.relays.is_connected:
        raise Unavailable(NOT_LISTENING)
    return success(request, {"status": "ready"})


@operation("operations", {200: Raw(CONTENT_TYPE, {"type": "string"})}, needs_database=False)
async def get_metrics(request: Request) -> Response:
    """The metrics, in Prometheus' text format."""
    pieces, content = exposition(), b""
    while piece := await in_turn(lambda: next(pieces, b"")):
        content += piece
    return Response(content, headers=ANSWER_HEADERS, media_type=CONTENT_TYPE)
