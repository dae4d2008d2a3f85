"""The handlers: each parses a request, calls one method of the shop and renders the outcome."""

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from lastpair import __version__
from lastpair.errors import Unavailable
from lastpair.observability.metrics import CONTENT_TYPE, exposition
from lastpair.shop.outcome import Caller
from lastpair.web.components import components_of
from lastpair.web.identity import Identity
from lastpair.web.operation import EVENT_STREAM, STREAM_PARAMETERS, Raw, operation
from lastpair.web.requests import expect_no_body, idempotency_key, read_body, uuid_in_path
from lastpair.web.responses import ANSWER_HEADERS, answer, success
from lastpair.web.schemas import Drop, DropChanges, ListedDrop, NewDrop, NewUser, Purchase, Reservation, User
from lastpair.web.sse import event_stream
from lastpair.web.turns import in_turn
from lastpair.web.websocket import serve_events

NOT_LISTENING = "The database answers, but what it announces is not heard. Try again in a moment."


async def reader(request: Request) -> Caller:
    """The user of a request that reads the user's own rows. Raises AUTH_REQUIRED or IDENTITY_UNAVAILABLE."""
    identity = components_of(request).identity
    return caller_of(request, identity, await identity.user_id(request.scope))


async def writer(request: Request) -> Caller:
    """The user of a request that changes something. Raises the same, and RATE_LIMITED."""
    components = components_of(request)
    user_id = await components.identity.user_id(request.scope)
    components.user_limit.count(user_id)
    return caller_of(request, components.identity, user_id)


async def admin(request: Request) -> Caller:
    """The user of a request that creates or changes a drop. Raises the same, and FORBIDDEN."""
    components = components_of(request)
    user_id = await components.identity.admin_id(request.scope)
    components.user_limit.count(user_id)
    return caller_of(request, components.identity, user_id)


def caller_of(request: Request, identity: Identity, user_id: str) -> Caller:
    """This user as the shop takes it, with the name that the request gives if missing users are made here."""
    return Caller(user_id, (lambda: identity.user_name(request.scope)) if identity.creates_users else None)


@operation(
    "reservations",
    {201: {"reservation": Reservation}, 200: {"reservation": Reservation}},
    *["DROP_NOT_FOUND", "DROP_NOT_ACTIVE", "OUT_OF_STOCK", "ALREADY_RESERVED"],
    caller="user",
    is_idempotent=True,
)
async def reserve(request: Request) -> Response:
    """Hold one unit of a drop.

    It is held until `expires_at` and goes back to stock then. A user holds one unit of a drop at a time.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.reserve(await writer(request), drop_id, key), "reservation")


@operation(
    "purchases",
    {201: {"purchase": Purchase}, 200: {"purchase": Purchase}},
    *["DROP_NOT_FOUND", "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED"],
    caller="user",
    is_idempotent=True,
)
async def purchase(request: Request) -> Response:
    """Buy the unit that you hold.

    Stock is not taken a second time.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).shop.purchase(await writer(request), drop_id, key), "purchase")


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


@operation("drops", {201: {"drop": Drop}}, caller="admin", body=NewDrop)
async def create_drop(request: Request) -> Response:
    """Put a drop up for sale.

    Without a status, `starts_at` decides: if it is missing the drop is a draft, if it is in the future the drop is scheduled,
    otherwise live.
    """
    caller = await admin(request)
    body = await read_body(request, NewDrop)
    return answer(request, await components_of(request).shop.create_drop(caller, **dict(body)), "drop")


@operation(
    "drops",
    {200: {"drop": Drop}},
    *["DROP_NOT_FOUND", "INVALID_STATUS_CHANGE", "STOCK_BELOW_COMMITTED"],
    caller="admin",
    body=DropChanges,
)
async def update_drop(request: Request) -> Response:
    """Change a drop.

    Only the fields given are changed; null clears a time. Cancelling a drop releases every hold. A drop moves from draft to
    scheduled, live or cancelled; from scheduled to draft, live, ended or cancelled; from live to ended or cancelled.
    """
    drop_id = uuid_in_path(request, "dropId")
    await admin(request)
    changes = (await read_body(request, DropChanges)).given()
    return answer(request, await components_of(request).shop.update_drop(drop_id, changes), "drop")


@operation("drops", {200: {"drop": Drop}}, "DROP_NOT_FOUND")
async def get_drop(request: Request) -> Response:
    """One drop, in any status."""
    return answer(request, await components_of(request).shop.get_drop(uuid_in_path(request, "dropId")), "drop")


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


@operation("realtime", {200: EVENT_STREAM}, parameters=STREAM_PARAMETERS)
async def stream(request: Request) -> Response:
    """Server-Sent Events, until the client leaves.

    The first event is SNAPSHOT, `{ drops }`. Then, in the order of the commits: DROP_CREATED and DROP_UPDATED, `{ drop }`;
    STOCK_UPDATED, `{ dropId, availableStock }`; RESERVATION_EXPIRED, `{ dropId, reservationId }`; PURCHASE_COMPLETED, `{ dropId,
    username, purchasedAt }`; ACTIVITY_UPDATED, `{ dropId, latestPurchasers }`. If events were missed that the log no longer has:
    RESYNC_REQUIRED, `{ reason }`, and a SNAPSHOT. POSITION, `{ }`, says that nothing happened up to its id.
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


@operation("development", {201: {"user": User}}, "USERNAME_TAKEN", body=NewUser)
async def create_user(request: Request) -> Response:
    """Make a user."""
    body = await read_body(request, NewUser)
    return answer(request, await components_of(request).shop.create_user(body.username), "user")


@operation("development", {200: {"expired": int}})
async def expire_now(request: Request) -> Response:
    """Take back every hold that is due.

    `expired` is the number of holds that went back to stock.
    """
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
    pieces, content = exposition(), b""
    while piece := await in_turn(lambda: next(pieces, b"")):
        content += piece
    return Response(content, headers=ANSWER_HEADERS, media_type=CONTENT_TYPE)
