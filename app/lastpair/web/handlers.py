"""The handlers: each parses a request, calls one method of the shop and renders the outcome."""

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from lastpair import __version__
from lastpair.errors import Refusal, Unavailable
from lastpair.observability.metrics import CONTENT_TYPE, exposition
from lastpair.shop.outcome import Caller
from lastpair.web.components import components_of
from lastpair.web.conditions import IF_MATCH, IF_NONE_MATCH, drop_answer, known_etags, revision_to_match
from lastpair.web.operation import EVENT_STREAM, STREAM_PARAMETERS, Raw, operation
from lastpair.web.requests import expect_no_body, idempotency_key, read_body, read_optional_body, uuid_in_path
from lastpair.web.responses import ANSWER_HEADERS, answer, success
from lastpair.web.schemas import (
    Drop,
    DropChanges,
    ListedDrop,
    NewDrop,
    NewUser,
    Purchase,
    PurchaseBody,
    Reservation,
    ReserveBody,
    User,
)
from lastpair.web.sse import event_stream
from lastpair.web.websocket import serve_events

NOT_LISTENING = "The database answers, but what it announces is not heard. Try again in a moment."


async def reader(request: Request) -> Caller:
    """The user of a request that reads the user's own rows. Raises AUTH_REQUIRED or IDENTITY_UNAVAILABLE."""
    return caller_of(request, await components_of(request).identity.user_id(request.scope))


async def writer(request: Request) -> Caller:
    """The user of a request that changes something. Raises the same, and RATE_LIMITED."""
    caller = await reader(request)
    components_of(request).user_limit.count(caller.id)
    return caller


async def admin(request: Request) -> Caller:
    """The user of a request that creates or changes a drop. Raises the same, and FORBIDDEN."""
    caller = caller_of(request, await components_of(request).identity.admin_id(request.scope))
    components_of(request).user_limit.count(caller.id)
    return caller


async def is_admin(request: Request) -> bool:
    """Whether the request names a user who may create and change drops. Costs nothing unless it is asked."""
    try:
        await components_of(request).identity.admin_id(request.scope)
    except Refusal:
        return False
    return True


def caller_of(request: Request, user_id: str) -> Caller:
    """This user as the shop takes it, with the name that the request gives if missing users are made here."""
    identity = components_of(request).identity
    return Caller(user_id, (lambda: identity.user_name(request.scope)) if identity.creates_users else None)


@operation(
    "reservations",
    {201: {"reservation": Reservation}, 200: {"reservation": Reservation}},
    *["DROP_NOT_FOUND", "DROP_NOT_ACTIVE", "VARIANT_NOT_FOUND", "OUT_OF_STOCK", "ALREADY_RESERVED"],
    *["LIMIT_EXCEEDED", "RESERVED_TOO_SOON", "IDEMPOTENCY_KEY_REUSED"],
    caller="user",
    is_idempotent=True,
    body=ReserveBody,
)
async def reserve(request: Request) -> Response:
    """Hold units of a drop.

    They are held until `expires_at` and go back to stock then. All that are asked for are held, or none. A user has one
    reservation of a variant at a time.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    body = await read_optional_body(request, ReserveBody)
    shop, caller = components_of(request).shop, await writer(request)
    return answer(request, await shop.reserve(caller, drop_id, key, body.variant_id, body.qty), "reservation")


@operation(
    "purchases",
    {201: {"purchase": Purchase}, 200: {"purchase": Purchase}},
    *["DROP_NOT_FOUND", "DROP_NOT_ACTIVE", "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED", "RESERVATION_NOT_FOUND"],
    *["SEVERAL_RESERVATIONS", "IDEMPOTENCY_KEY_REUSED"],
    caller="user",
    is_idempotent=True,
    body=PurchaseBody,
)
async def purchase(request: Request) -> Response:
    """Buy what you hold.

    Stock is not taken a second time, and the price is that of the hold. With holds of several variants, `reservation_id` says
    which.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    body = await read_optional_body(request, PurchaseBody)
    shop, caller = components_of(request).shop, await writer(request)
    return answer(request, await shop.purchase(caller, drop_id, key, body.reservation_id), "purchase")


@operation(
    "reservations",
    {200: {"reservation": Reservation}},
    *["RESERVATION_NOT_FOUND", "RESERVATION_NOT_ACTIVE", "RESERVATION_EXPIRED"],
    caller="user",
)
async def cancel(request: Request) -> Response:
    """Give back a unit that you hold.

    The reservation must be yours and ACTIVE. `/reservations/{id}` and `/reservations/{id}/cancel` do the same.
    """
    reservation_id = uuid_in_path(request, "id")
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.cancel(await writer(request), reservation_id), "reservation")


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
    key = idempotency_key(request)
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

    Only the fields given are changed; null clears a time or a term. Cancelling a drop releases every hold. A drop moves from
    draft to scheduled, live or cancelled; from scheduled to draft, live, ended or cancelled; from live to ended or cancelled.

    With If-Match, the drop is changed only if no other seller has changed it since the ETag was read. Sales do not count.
    """
    drop_id, revision = uuid_in_path(request, "dropId"), revision_to_match(request)
    await admin(request)
    changes = (await read_body(request, DropChanges)).given()
    return drop_answer(request, await components_of(request).shop.update_drop(drop_id, changes, revision))


@operation("drops", {200: {"drop": Drop}, 304: None}, "DROP_NOT_FOUND", has_etag=True, parameters=[IF_NONE_MATCH])
async def get_drop(request: Request) -> Response:
    """One drop, in any status.

    A draft is found by those only who may change drops.
    """
    shop, drop_id = components_of(request).shop, uuid_in_path(request, "dropId")
    outcome = await shop.get_drop(drop_id, drafts=False)
    if outcome.code == "DROP_NOT_FOUND" and await is_admin(request):
        outcome = await shop.get_drop(drop_id, drafts=True)
    return drop_answer(request, outcome, known=known_etags(request))


@operation("drops", {200: {"drops": list[ListedDrop]}})
async def list_drops(request: Request) -> Response:
    """The drops on sale now.

    Drops that have started and not ended, newest start first, each with its latest purchasers.
    """
    return answer(request, await components_of(request).shop.list_drops(), "drops")


@operation("reservations", {200: {"reservations": list[Reservation]}}, caller="user")
async def my_reservations(request: Request) -> Response:
    """The units that you hold.

    Reservations that are ACTIVE and not due, newest first.
    """
    return answer(request, await components_of(request).shop.my_reservations(await reader(request)), "reservations")


@operation("purchases", {200: {"purchases": list[Purchase]}}, caller="user")
async def my_purchases(request: Request) -> Response:
    """The units that you have bought, newest first."""
    return answer(request, await components_of(request).shop.my_purchases(await reader(request)), "purchases")


@operation("users", {200: {"user": User}}, caller="user")
async def forget_me(request: Request) -> Response:
    """Make yourself anonymous.

    Your name is replaced by one that says nothing. What you have bought stays yours.
    """
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.forget_user((await writer(request)).id), "user")


@operation("realtime", {200: EVENT_STREAM}, parameters=STREAM_PARAMETERS)
async def stream(request: Request) -> Response:
    """Server-Sent Events, until the client leaves.

    The first event is SNAPSHOT, `{ drops }`. Then, in the order of the commits: DROP_CREATED and DROP_UPDATED, `{ drop }`;
    DROP_REMOVED, `{ dropId }`; STOCK_UPDATED, `{ dropId, availableStock }`; RESERVATION_EXPIRED, `{ dropId, reservationId }`;
    PURCHASE_COMPLETED, `{ dropId, username, purchasedAt }`; ACTIVITY_UPDATED, `{ dropId, latestPurchasers }`. Drafts are not
    among them. If events were missed that the log no longer has: RESYNC_REQUIRED, `{ reason }`, and a SNAPSHOT. POSITION, `{ }`,
    says that nothing happened up to its id.
    """
    return await event_stream(request)


@operation("realtime", {101: None}, "NOT_FOUND", "UPGRADE_REQUIRED", parameters=STREAM_PARAMETERS)
async def socket(websocket: WebSocket) -> None:
    """The same events over WebSocket.

    Text frames `{ "type", "id", "data" }`. A client may send `{ "type": "drops:join", "dropId": "…" }` and `drops:leave` to
    choose its drops, and `{ "type": "ping" }`, which is answered with `{ "type": "pong" }`. A request that is not a WebSocket
    handshake is answered with 404.
    """
    await serve_events(websocket)


@operation(
    "development",
    {201: {"user": User}, 200: {"user": User}},
    *["USERNAME_TAKEN", "IDEMPOTENCY_KEY_REUSED"],
    is_idempotent=True,
    body=NewUser,
)
async def create_user(request: Request) -> Response:
    """Make a user."""
    key = idempotency_key(request)
    body = await read_body(request, NewUser)
    return answer(request, await components_of(request).shop.create_user(body.username, key), "user")


@operation("development", {200: {"expired": int}}, is_idempotent=True)
async def expire_now(request: Request) -> Response:
    """Take back every hold that is due.

    `expired` is the number of holds that went back to stock. An Idempotency-Key changes nothing, because a repeated request takes
    nothing back twice.
    """
    idempotency_key(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.expire_due_holds(), "expired")


@operation("operations", {200: {"status": Literal["ok"], "version": str}}, needs_database=False)
async def healthz(request: Request) -> Response:
    """Whether the process answers, and its version."""
    return success(request, {"status": "ok", "version": __version__})


@operation("operations", {200: {"status": Literal["ready"]}})
async def readyz(request: Request) -> Response:
    """Whether the database answers and has the functions, and whether this process receives its events."""
    components = components_of(request)
    await components.database.ready()
    if not components.relay.is_connected:
        raise Unavailable(NOT_LISTENING)
    return success(request, {"status": "ready"})


@operation("operations", {200: Raw(CONTENT_TYPE, {"type": "string"})}, needs_database=False)
async def metrics(request: Request) -> Response:
    """The metrics, in Prometheus' text format."""
    return Response(exposition(), headers=ANSWER_HEADERS, media_type=CONTENT_TYPE)
