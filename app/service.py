"""The service: its routes, each of which parses a request, calls one function and renders the answer."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import chain
from types import FrameType
from typing import Any

from asyncpg import Record
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from app.batcher import Batcher
from app.bodies import DropChanges, NewDrop, NewUser
from app.database import Database
from app.events import EventLog
from app.http import (
    Refusal,
    RequestContext,
    Unavailable,
    expect_no_body,
    failure,
    idempotency_key,
    not_routed,
    read_body,
    refused,
    success,
    uuid_in_path,
)
from app.hub import Hub
from app.identity import as_user, provision, user_id_of
from app.pages import page_routes
from app.poller import expire_due, poll
from app.relay import Relay
from app.settings import Settings, load_settings
from app.streams import HEARTBEAT_SECONDS, events, websocket_events

RESERVE = "select * from api.reserve_batch($1, $2, $3, $4)"
RESERVE_OF_MANY_DROPS = "select * from api.reserve_batches($1, $2, $3, $4)"
PURCHASE = "select * from api.purchase_batch($1, $2, $3)"
PURCHASE_OF_MANY_DROPS = "select * from api.purchase_batches($1, $2, $3)"
CANCEL = "select * from api.cancel_batch($1, $2)"
CREATE_DROP = "select to_json(d) from api.create_drop($1, $2, $3, $4, $5::text::timestamptz, $6::text::timestamptz, $7) d"
UPDATE_DROP = "select to_json(d) from api.update_drop($1, $2) d"
GET_DROP = "select to_json(d) from api.get_drop($1) d"
LIST_DROPS = "select to_json(array(select d from api.list_drops() d))"
MY_RESERVATIONS = "select to_json(array(select r from api.my_reservations($1) r))"
MY_PURCHASES = "select to_json(array(select p from api.my_purchases($1) p))"
CREATE_USER = "select to_json(u) from api.create_user($1) u"

Claim = tuple[str, str | None]
"""Who asks, by id, and the Idempotency-Key."""

Handler = Callable[[Request], Awaitable[Response]]


def database_of(request: Request) -> Database:
    """The application's database."""
    database: Database = request.app.state.database
    return database


def batchers_of(request: Request) -> "Batchers":
    """The application's batchers."""
    batchers: Batchers = request.app.state.batchers
    return batchers


@dataclass(frozen=True)
class Batchers:
    """Where requests that can share a call wait for it. The lane is the drop; of a cancel, which names none, the reservation."""

    reserve: Batcher[str, Claim, Record]
    purchase: Batcher[str, Claim, Record]
    cancel: Batcher[str, Claim, Record]
    list_drops: Batcher[None, None, Any]


def batchers(database: Database, settings: Settings) -> Batchers:
    """The batchers of a process."""

    async def call(one_drop: str, many_drops: str, claims: Mapping[str, list[Claim]], *arguments: Any) -> list[Record]:
        user_ids, keys = zip(*chain.from_iterable(claims.values()), strict=True)
        if len(claims) == 1:
            return await database.fetch(one_drop, *claims, user_ids, keys, *arguments)
        drop_ids = [drop_id for drop_id, of_drop in claims.items() for _ in of_drop]
        return await database.fetch(many_drops, drop_ids, user_ids, keys, *arguments)

    async def reserve(claims: Mapping[str, list[Claim]]) -> list[Record]:
        return await call(RESERVE, RESERVE_OF_MANY_DROPS, claims, settings.reservation_ttl_seconds)

    async def purchase(claims: Mapping[str, list[Claim]]) -> list[Record]:
        return await call(PURCHASE, PURCHASE_OF_MANY_DROPS, claims)

    async def cancel(claims: Mapping[str, list[Claim]]) -> list[Record]:
        reservation_ids = [reservation_id for reservation_id, of_reservation in claims.items() for _ in of_reservation]
        return await database.fetch(CANCEL, reservation_ids, [user_id for user_id, _ in chain.from_iterable(claims.values())])

    async def list_drops(requests: Mapping[None, list[None]]) -> list[Any]:
        return [await database.value(LIST_DROPS)] * len(requests[None])

    size, pending = settings.batch_max_size, settings.max_pending
    return Batchers(
        reserve=Batcher(reserve, max_size=size, max_pending=pending),
        purchase=Batcher(purchase, max_size=size, max_pending=pending),
        cancel=Batcher(cancel, max_size=size, max_pending=pending),
        list_drops=Batcher(list_drops, max_size=pending, max_pending=pending),
    )


async def claim(request: Request, batcher: Batcher[str, Claim, Record], lane: str, key: str | None, name: str) -> Response:
    """One outcome of a batch as a response, the row under `name`. A refusal is not raised: most answers of a hot drop are one."""
    user_id = user_id_of(request)
    _, status, code, message, replayed, row = await batcher.submit(lane, (user_id, key))
    if code == "AUTH_REQUIRED" and await provision(request, user_id):
        _, status, code, message, replayed, row = await batcher.submit(lane, (user_id, key))
    if code is not None:
        return failure(request, Refusal(status, code, message))
    return success(request, {name: row}, status, {"idempotency-replayed": "true"} if replayed else None)


async def reserve(request: Request) -> Response:
    """POST /drops/{dropId}/reserve: hold one unit. `{ reservation }`, 201; 200 when an Idempotency-Key repeats."""
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    await expect_no_body(request)
    return await claim(request, batchers_of(request).reserve, drop_id, key, "reservation")


async def purchase(request: Request) -> Response:
    """POST /drops/{dropId}/purchase: buy the unit held. `{ purchase }`, 201; 200 when an Idempotency-Key repeats."""
    drop_id, key = uuid_in_path(request, "dropId"), idempotency_key(request)
    await expect_no_body(request)
    return await claim(request, batchers_of(request).purchase, drop_id, key, "purchase")


async def cancel(request: Request) -> Response:
    """DELETE /reservations/{id} and …/cancel: give the unit back. `{ reservation }`."""
    reservation_id = uuid_in_path(request, "id")
    await expect_no_body(request)
    return await claim(request, batchers_of(request).cancel, reservation_id, None, "reservation")


async def create_drop(request: Request) -> Response:
    """POST /drops. `{ drop }`, 201."""
    body = await read_body(request, NewDrop)

    async def call(user_id: str) -> Any:
        return await database_of(request).value(
            CREATE_DROP, body.name, body.price, body.total_stock, user_id, body.starts_at, body.ends_at, body.status
        )

    return success(request, {"drop": await as_user(request, call)}, 201)


async def update_drop(request: Request) -> Response:
    """PATCH /drops/{dropId}. `{ drop }`."""
    drop_id = uuid_in_path(request, "dropId")
    user_id_of(request)
    changes = (await read_body(request, DropChanges)).given()
    return success(request, {"drop": await database_of(request).value(UPDATE_DROP, drop_id, changes)})


async def get_drop(request: Request) -> Response:
    """GET /drops/{dropId}: any status. `{ drop }`."""
    return success(request, {"drop": await database_of(request).value(GET_DROP, uuid_in_path(request, "dropId"))})


async def list_drops(request: Request) -> Response:
    """GET /drops: those on sale now, each with its latest purchasers. `{ drops }`."""
    return success(request, {"drops": await batchers_of(request).list_drops.submit(None, None)})


async def my_reservations(request: Request) -> Response:
    """GET /reservations/me: what the user holds. `{ reservations }`."""
    rows = await as_user(request, lambda user_id: database_of(request).value(MY_RESERVATIONS, user_id))
    return success(request, {"reservations": rows})


async def my_purchases(request: Request) -> Response:
    """GET /purchases/me: what the user bought. `{ purchases }`."""
    rows = await as_user(request, lambda user_id: database_of(request).value(MY_PURCHASES, user_id))
    return success(request, {"purchases": rows})


async def create_user(request: Request) -> Response:
    """POST /internal/users, development only. `{ user }`, 201."""
    body = await read_body(request, NewUser)
    return success(request, {"user": await database_of(request).value(CREATE_USER, body.username)}, 201)


async def expire_now(request: Request) -> Response:
    """POST /internal/expire-now, development only: sweep at once. `{ expired }`, how many."""
    await expect_no_body(request)
    return success(request, {"expired": await expire_due(database_of(request))})


async def healthz(request: Request) -> Response:
    """GET /healthz: the process answers."""
    return success(request, {"status": "ok"})


async def readyz(request: Request) -> Response:
    """GET /readyz: the database answers, too, has the functions and is listened to. 503 DATABASE_UNAVAILABLE otherwise."""
    await database_of(request).ready()
    if not request.app.state.relay.is_connected:
        raise Unavailable("The database answers, but what it announces is not heard. Try again in a moment.")
    return success(request, {"status": "ready"})


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
    """The handlers of a path by method, as an ASGI application. What they raise is for the middleware around all routes."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        response = await self._handlers[scope["method"]](Request(scope, receive, send))
        await response(scope, receive, send)


def route(path: str, **handlers: Handler) -> Route:
    """One route for a path, with a handler for each method, so that 405 lists them all."""
    by_method = {method.upper(): handler for method, handler in handlers.items()}
    methods = list(by_method)
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]
    return Route(path, Endpoint(by_method), methods=methods)


def routes(settings: Settings) -> list[BaseRoute]:
    """The route table; the busiest first, for it is searched from the top."""
    table: list[BaseRoute] = []
    for base in ("/api", "/api/v1"):
        table += [
            route(f"{base}/drops/{{dropId}}/reserve", post=reserve),
            route(f"{base}/drops/{{dropId}}/purchase", post=purchase),
            route(f"{base}/drops", get=list_drops, post=create_drop),
            route(f"{base}/drops/{{dropId}}", get=get_drop, patch=update_drop),
            route(f"{base}/reservations/me", get=my_reservations),
            route(f"{base}/reservations/{{id}}", delete=cancel),
            route(f"{base}/reservations/{{id}}/cancel", delete=cancel),
            route(f"{base}/purchases/me", get=my_purchases),
            route(f"{base}/events", get=events),
            WebSocketRoute(f"{base}/ws", websocket_events),
        ]
        if settings.development:
            table += [
                route(f"{base}/internal/users", post=create_user),
                route(f"{base}/internal/expire-now", post=expire_now),
            ]
    return [*table, route("/healthz", get=healthz), route("/readyz", get=readyz), *page_routes(settings)]


def create_app(settings: Settings | None = None) -> Starlette:
    """The ASGI application; reads the settings from the environment unless they are given."""
    settings = settings or load_settings()
    if settings.database_url is None:
        raise ValueError("DATABASE_URL: not set; python -m app run provides the embedded server's")
    database = Database(settings.database_url, settings.database_pool_size)
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
        try:
            with closed_on_signal(hub):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await database.close()

    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id", "X-User-Id", "X-User-Name"],
        expose_headers=["Idempotency-Replayed", "Retry-After", "X-Request-Id"],
    )
    app = Starlette(
        routes=routes(settings),
        # CORS outermost, so that even a 500 can be read by a page of an allowed origin.
        middleware=[*([cors] if settings.cors_origins else []), Middleware(RequestContext)],
        exception_handlers={Refusal: refused, HTTPException: not_routed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.settings = settings
    app.state.database = database
    app.state.batchers = batchers(database, settings)
    app.state.hub = hub
    app.state.event_log = EventLog(database)
    app.state.relay = relay
    return app
