"""The service: its routes, each of which parses a request, calls one function and renders the answer."""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import perf_counter
from types import FrameType
from typing import Any, Literal

from asyncpg import Record
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from app.batcher import Batcher
from app.bodies import DropChanges, NewDrop, NewUser
from app.calls import Claim, batchers
from app.context import RequestContext
from app.contract import EVENT_STREAM, READS, STREAM_PARAMETERS, Operation, Raw, document, operation, takes
from app.database import Database
from app.events import EventLog
from app.http import (
    NOT_FOUND,
    Refusal,
    Unavailable,
    expect_no_body,
    failure,
    idempotency_key,
    not_routed,
    refused,
    success,
    uuid_in_path,
)
from app.hub import Hub
from app.identity import Identity, TrustedHeader
from app.limits import Places, RateLimit, address_of
from app.metrics import CONTENT_TYPE, exposition
from app.pages import page_routes
from app.poller import expire_due, poll
from app.relay import Relay
from app.rows import Drop, ListedDrop, Purchase, Reservation, User
from app.services import Lastpair, Services, as_user, provision, services_of
from app.settings import Settings, load_settings
from app.streams import HEARTBEAT_SECONDS, events, websocket_events
from app.tracing import tracing

CREATE_DROP = "select to_json(d) from api.create_drop($1, $2, $3, $4, $5::text::timestamptz, $6::text::timestamptz, $7) d"
UPDATE_DROP = "select to_json(d) from api.update_drop($1, $2) d"
GET_DROP = "select to_json(d) from api.get_drop($1) d"
MY_RESERVATIONS = "select to_json(array(select r from api.my_reservations($1) r))"
MY_PURCHASES = "select to_json(array(select p from api.my_purchases($1) p))"
CREATE_USER = "select to_json(u) from api.create_user($1) u"

logger = logging.getLogger("lastpair")


async def writer_of(request: Request) -> str:
    """The id of a user who wants something done; raises AUTH_REQUIRED, RATE_LIMITED."""
    services = services_of(request)
    user_id = await services.identity.user_id(request)
    services.user_limit.count(user_id)
    return user_id


async def admin_of(request: Request) -> str:
    """The same of one who may create and change drops; raises FORBIDDEN, too."""
    services = services_of(request)
    user_id = await services.identity.admin_id(request)
    services.user_limit.count(user_id)
    return user_id


async def claim(request: Request, batcher: Batcher[str, Claim, Record], lane: str, key: str | None, name: str) -> Response:
    """One outcome of a batch as a response, the row under `name`. A refusal is not raised: most answers of a hot drop are one."""
    user_id = await writer_of(request)
    _, status, code, message, replayed, row = await batcher.submit(lane, (user_id, key, perf_counter()))
    if code == "AUTH_REQUIRED" and await provision(request, user_id):
        _, status, code, message, replayed, row = await batcher.submit(lane, (user_id, key, perf_counter()))
    if code is not None:
        return failure(request, Refusal(status, code, message))
    return success(request, {name: row}, status, {"idempotency-replayed": "true"} if replayed else None)


@operation(
    "reservations",
    {201: {"reservation": Reservation}, 200: {"reservation": Reservation}},
    *["DROP_NOT_FOUND", "DROP_NOT_ACTIVE", "OUT_OF_STOCK", "ALREADY_RESERVED"],
    caller="user",
    is_idempotent=True,
)
async def reserve(request: Request) -> Response:
    """Hold one unit of a drop.

    It is held until `expires_at`, and then back in stock. One at a time for each user and drop.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    await expect_no_body(request)
    return await claim(request, services_of(request).batchers.reserve, drop_id, key, "reservation")


@operation(
    "purchases",
    {201: {"purchase": Purchase}, 200: {"purchase": Purchase}},
    *["DROP_NOT_FOUND", "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED"],
    caller="user",
    is_idempotent=True,
)
async def purchase(request: Request) -> Response:
    """Buy the unit held.

    Stock is not taken a second time.
    """
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    await expect_no_body(request)
    return await claim(request, services_of(request).batchers.purchase, drop_id, key, "purchase")


@operation(
    "reservations",
    {200: {"reservation": Reservation}},
    *["RESERVATION_NOT_FOUND", "RESERVATION_NOT_ACTIVE", "RESERVATION_EXPIRED"],
    caller="user",
)
async def cancel(request: Request) -> Response:
    """Give back a unit held.

    One's own, ACTIVE. `/reservations/{id}` and `/reservations/{id}/cancel` are the same.
    """
    reservation_id = uuid_in_path(request, "id")
    await expect_no_body(request)
    return await claim(request, services_of(request).batchers.cancel, reservation_id, None, "reservation")


@takes(NewDrop)
@operation("drops", {201: {"drop": Drop}}, caller="admin")
async def create_drop(request: Request) -> Response:
    """Put a drop up for sale.

    Without a status the times decide it: no start is a draft, a future one scheduled, a past one live.
    """
    admin_id = await admin_of(request)
    body = await create_drop.read(request)

    async def call(user_id: str) -> Any:
        return await services_of(request).database.value(
            CREATE_DROP, body.name, body.price, body.total_stock, user_id, body.starts_at, body.ends_at, body.status
        )

    return success(request, {"drop": await as_user(request, admin_id, call)}, 201)


@takes(DropChanges)
@operation("drops", {200: {"drop": Drop}}, "DROP_NOT_FOUND", "INVALID_STATUS_CHANGE", "STOCK_BELOW_COMMITTED", caller="admin")
async def update_drop(request: Request) -> Response:
    """Change a drop.

    Only the fields given; null clears a time. Cancelling it releases every hold. A drop moves from draft to scheduled, live or
    cancelled; from scheduled to draft, live, ended or cancelled; from live to ended or cancelled.
    """
    drop_id = uuid_in_path(request, "dropId")
    await admin_of(request)
    changes = (await update_drop.read(request)).given()
    return success(request, {"drop": await services_of(request).database.value(UPDATE_DROP, drop_id, changes)})


@operation("drops", {200: {"drop": Drop}}, "DROP_NOT_FOUND")
async def get_drop(request: Request) -> Response:
    """A drop, whatever its status."""
    return success(request, {"drop": await services_of(request).database.value(GET_DROP, uuid_in_path(request, "dropId"))})


@operation("drops", {200: {"drops": list[ListedDrop]}})
async def list_drops(request: Request) -> Response:
    """The drops on sale now.

    Those that have started and not ended, newest start first, each with its latest purchasers.
    """
    return success(request, {"drops": await services_of(request).batchers.list_drops.submit(None, None)})


@operation("reservations", {200: {"reservations": list[Reservation]}}, caller="user")
async def my_reservations(request: Request) -> Response:
    """What one holds.

    Those that are ACTIVE and not due, newest first.
    """
    user_id = await services_of(request).identity.user_id(request)
    rows = await as_user(request, user_id, lambda user_id: services_of(request).database.value(MY_RESERVATIONS, user_id))
    return success(request, {"reservations": rows})


@operation("purchases", {200: {"purchases": list[Purchase]}}, caller="user")
async def my_purchases(request: Request) -> Response:
    """What one has bought, newest first."""
    user_id = await services_of(request).identity.user_id(request)
    rows = await as_user(request, user_id, lambda user_id: services_of(request).database.value(MY_PURCHASES, user_id))
    return success(request, {"purchases": rows})


@operation("realtime", {200: EVENT_STREAM}, "RATE_LIMITED", parameters=STREAM_PARAMETERS)
async def stream(request: Request) -> Response:
    """Server-Sent Events, until the client leaves.

    The first is SNAPSHOT, `{ drops }`. Then, in the order of the commits: DROP_CREATED and DROP_UPDATED, `{ drop }`;
    STOCK_UPDATED, `{ dropId, availableStock }`; RESERVATION_EXPIRED, `{ dropId, reservationId }`; PURCHASE_COMPLETED, `{
    dropId, username, purchasedAt }`; ACTIVITY_UPDATED, `{ dropId, latestPurchasers }`. Where what was missed cannot be told
    any more: RESYNC_REQUIRED, `{ reason }`, and a SNAPSHOT.
    """
    return await events(request)


@operation(
    "realtime",
    {101: None},
    *["RATE_LIMITED", "NOT_FOUND"],
    parameters=STREAM_PARAMETERS,
)
async def socket(websocket: WebSocket) -> None:
    """The same over WebSocket.

    Text frames `{ "type", "id", "data" }`. A client may send `{ "type": "drops:join", "dropId": "…" }` and `drops:leave` to
    choose what it hears of. A request that is no WebSocket handshake finds nothing here.
    """
    await websocket_events(websocket)


@takes(NewUser)
@operation("development", {201: {"user": User}}, "USERNAME_TAKEN")
async def create_user(request: Request) -> Response:
    """Make a user."""
    body = await create_user.read(request)
    return success(request, {"user": await services_of(request).database.value(CREATE_USER, body.username)}, 201)


@operation("development", {200: {"expired": int}})
async def expire_now(request: Request) -> Response:
    """Sweep at once.

    `expired` is how many holds had run out and went back to stock.
    """
    await expect_no_body(request)
    return success(request, {"expired": await expire_due(services_of(request).database)})


@operation("operations", {200: {"status": Literal["ok"]}}, needs_database=False)
async def healthz(request: Request) -> Response:
    """Does the process answer?"""
    return success(request, {"status": "ok"})


@operation("operations", {200: {"status": Literal["ready"]}})
async def readyz(request: Request) -> Response:
    """Does the database answer, too, have the functions, and is it listened to?"""
    await services_of(request).database.ready()
    if not services_of(request).relay.is_connected:
        raise Unavailable("The database answers, but what it announces is not heard. Try again in a moment.")
    return success(request, {"status": "ready"})


@operation("operations", {200: Raw(CONTENT_TYPE, {"type": "string"})}, needs_database=False)
async def metrics(request: Request) -> Response:
    """The figures, in Prometheus' text format."""
    return Response(exposition(), media_type=CONTENT_TYPE)


async def beat(hub: Hub, interval_seconds: float) -> None:
    """Give every stream an occasion for a heartbeat, until cancelled."""
    while True:
        await asyncio.sleep(interval_seconds)
        hub.wake_all()


@contextmanager
def closed_on_signal(hub: Hub) -> Iterator[None]:
    """Close the hub at SIGTERM or SIGINT, before the server's own handler runs: it waits for open streams and ends none."""
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hub.close)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Endpoint:
    """The handlers of a path by method, as an ASGI application. What they raise is for the middleware around all routes.

    Writes of one address are limited here, before anything is read.
    """

    def __init__(self, path: str, operations: dict[str, Operation]) -> None:
        self.operations = operations
        self._path = path
        self._handlers = {method: operation.handler for method, operation in operations.items()}
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["route"] = self._path
        request = Request(scope, receive, send)
        if scope["method"] not in READS:
            services_of(request).address_limit.count(address_of(scope))
        response = await self._handlers[scope["method"]](request)
        await response(scope, receive, send)


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """What answers where no route does: a handshake for a WebSocket, too, is told so in the envelope."""
    await failure(HTTPConnection(scope), NOT_FOUND)(scope, receive, send)


def route(path: str, **operations: Operation) -> Route:
    """One route for a path, with a handler for each method, so that 405 lists them all."""
    by_method = {method.upper(): operation for method, operation in operations.items()}
    return Route(path, Endpoint(path, by_method), methods=list(by_method))


def routes(settings: Settings) -> list[BaseRoute]:
    """The route table; the busiest first, for it is searched from the top."""
    documents: dict[str, bytes] = {}

    @operation("operations", {200: Raw("application/json", {"type": "object"})}, needs_database=False)
    async def openapi(request: Request) -> Response:
        """This contract, as OpenAPI 3.1."""
        return Response(documents[request.scope["route"]], media_type="application/json")

    table: list[BaseRoute] = []
    operational = [route("/healthz", get=healthz), route("/readyz", get=readyz), route("/metrics", get=metrics)]
    for base in ("/api", "/api/v1"):
        served: list[Route | WebSocketRoute] = [
            route(f"{base}/drops/{{dropId}}/reserve", post=reserve),
            route(f"{base}/drops/{{dropId}}/purchase", post=purchase),
            route(f"{base}/drops", get=list_drops, post=create_drop),
            route(f"{base}/drops/{{dropId}}", get=get_drop, patch=update_drop),
            route(f"{base}/reservations/me", get=my_reservations),
            route(f"{base}/reservations/{{id}}", delete=cancel),
            route(f"{base}/reservations/{{id}}/cancel", delete=cancel),
            route(f"{base}/purchases/me", get=my_purchases),
            route(f"{base}/events", get=stream),
            WebSocketRoute(f"{base}/ws", socket.handler),
            route(f"{base}/openapi.json", get=openapi),
        ]
        if settings.development:
            served += [
                route(f"{base}/internal/users", post=create_user),
                route(f"{base}/internal/expire-now", post=expire_now),
            ]
        table += served
        documents[f"{base}/openapi.json"] = document(operations_of([*served, *operational]), is_jwt=settings.auth_mode == "jwt")
    return [*table, *operational, *page_routes(settings)]


def operations_of(table: Iterable[Route | WebSocketRoute]) -> dict[str, dict[str, Operation]]:
    """The operations of these routes, by path and method."""
    return {route.path: route.endpoint.operations if isinstance(route.endpoint, Endpoint) else {"GET": socket} for route in table}


def identity_for(settings: Settings) -> Identity:
    """How this process knows who is asking."""
    if settings.auth_mode == "header":
        return TrustedHeader(makes_users=settings.development)
    from app.tokens import BearerToken, Keys, KeySet, public_key, secret_key

    keys: Keys
    if settings.jwt_secret is not None:
        keys = secret_key(settings.jwt_secret.get_secret_value())
    elif settings.jwt_public_key is not None:
        keys = public_key(settings.jwt_public_key)
    else:
        keys = KeySet(settings.jwt_jwks_url or "")
    return BearerToken(keys, audience=settings.jwt_audience or "", issuer=settings.jwt_issuer or "")


def create_app(settings: Settings | None = None) -> Lastpair:
    """The ASGI application; reads the settings from the environment unless they are given."""
    settings = settings or load_settings()
    if settings.database_url is None:
        raise ValueError("DATABASE_URL: not set; python -m app run provides the embedded server's")
    database = Database(
        settings.database_url,
        settings.database_pool_size,
        pooled=settings.database_direct_url not in {None, settings.database_url},
        max_pending=settings.max_pending,
    )
    hub = Hub()
    relay = Relay(settings.database_direct_url or settings.database_url, hub)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await database.open()
        # What is loaded by now stays, so the collector need not look at it again and again; and requests leave few cycles behind.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        work = [
            poll(database, settings.expiry_poll_ms, settings.event_retention_seconds),
            relay.run(),
            beat(hub, HEARTBEAT_SECONDS),
        ]
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        if settings.development:
            logger.info("The dashboard is at http://localhost:%d, what else there is at /docs.", settings.port)
        try:
            with closed_on_signal(hub):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await database.close()

    # CORS is around a 500, too, so that a page of an allowed origin can read it; and within what logs and counts preflights.
    cors = partial(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "X-Request-Id",
            "X-User-Id",
            "X-User-Name",
        ],
        expose_headers=["Idempotency-Replayed", "Retry-After", "WWW-Authenticate", "X-Request-Id"],
    )
    app = Lastpair(
        routes=routes(settings),
        middleware=[*tracing(settings), Middleware(RequestContext, *([cors] if settings.cors_origins else []))],
        exception_handlers={Refusal: refused, HTTPException: not_routed},
        lifespan=lifespan,
    )
    app.router.default = nowhere
    app.router.redirect_slashes = False
    app.services = Services(
        database=database,
        identity=identity_for(settings),
        address_limit=RateLimit(settings.rate_limit_address_per_minute),
        user_limit=RateLimit(settings.rate_limit_user_per_minute),
        places=Places(settings.max_streams, settings.max_streams_per_address),
        batchers=batchers(database, settings),
        hub=hub,
        event_log=EventLog(database),
        relay=relay,
    )
    return app
