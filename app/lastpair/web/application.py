"""The ASGI application: its components, routes and middleware, put together in one place."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from lastpair.database.nodes import Nodes
from lastpair.database.pool import Database
from lastpair.database.servers import Servers
from lastpair.payments.payments import Payments
from lastpair.payments.providers import providers_of
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.hub import Hub
from lastpair.realtime.relays import Relays
from lastpair.realtime.watchers import Watchers
from lastpair.settings import Settings, load_settings
from lastpair.shop.shop import Shop
from lastpair.web.components import Components, Lastpair
from lastpair.web.guard import Guard, Guarded
from lastpair.web.hot_path import HotPath
from lastpair.web.identity import Identity, TrustedHeader
from lastpair.web.lifespan import running
from lastpair.web.limits import RateLimit, StreamSlots
from lastpair.web.middleware import DeferredLog, RequestContext
from lastpair.web.nowhere import Nowhere
from lastpair.web.responses import ANSWER_HEADERS
from lastpair.web.routes import routes
from lastpair.web.rushes import Rushes
from lastpair.web.tracing import tracing
from lastpair.web.url_paths import PROBE_PATHS
from lastpair.webhooks.endpoints import Webhooks
from lastpair.webhooks.sender import Sender
from lastpair.webhooks.targets import Targets
from lastpair.webhooks.worker import Workers

RESPONSE_HEADERS = ("ETag", "Idempotency-Replayed", "Retry-After", "WWW-Authenticate", "X-Request-Id")


def create_app(settings: Settings | None = None) -> Lastpair:
    """The application. It reads the settings from the environment unless they are given."""
    settings = settings or load_settings()
    components = components_for(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running(components, settings):
            yield

    guard, log, tracers = Guard(settings), DeferredLog(), tracing(settings)
    app = Lastpair(
        routes=routes(settings),
        middleware=[*tracers, Middleware(RequestContext, guarded(settings, guard), log)],
        lifespan=lifespan,
    )
    elsewhere = PROBE_PATHS if settings.admin_port is not None else ()
    app.router.default = Nowhere(route for route in app.routes if getattr(route, "path", "") not in elsewhere)
    app.router.redirect_slashes = False
    app.components = components
    if not tracers:  # spans are made by the middleware
        app.hot_path = HotPath(app, guard, log, with_cors(app, settings))
    return app


def components_for(settings: Settings) -> Components:
    """One of each component."""
    if settings.database_url is None:
        raise ValueError("DATABASE_URL: not set; `lastpair run` provides the embedded server's")
    direct_url = settings.database_direct_url or settings.database_url
    is_pooled = direct_url != settings.database_url
    database = Database(settings.database_url, settings.database_pool_size, pooled=is_pooled, max_pending=settings.max_pending)
    slots = StreamSlots(settings.max_streams, settings.max_streams_per_address)
    # The pool and the listener share what they know of the servers, so that both find the one that answers at once.
    servers = Servers(direct_url) if is_pooled else database.servers
    nodes = Nodes(database, servers)
    hub = Hub(settings.tick_ms / 1000, lambda drop_id: nodes.of(drop_id).number)
    shop = Shop(nodes, settings)
    targets = Targets(settings.webhook_private_targets, only_https=not settings.development)
    webhook_workers = Workers(nodes, Sender(targets))
    return Components(
        shop=shop,
        database=database,
        nodes=nodes,
        identity=identity_for(settings),
        address_limit=RateLimit(settings.rate_limit_address_per_minute),
        read_limit=RateLimit(settings.rate_limit_reads_per_minute),
        stream_limit=RateLimit(settings.rate_limit_streams_per_minute),
        user_limit=RateLimit(settings.rate_limit_user_per_minute),
        forgery_limit=RateLimit(settings.rate_limit_address_per_minute),
        stream_slots=slots,
        hub=hub,
        event_log=EventLog(database),
        relays=Relays(nodes, hub, settings.purchaser_names),
        watchers=Watchers(database, slots.used),
        rushes=Rushes(settings),
        payments=Payments(nodes, settings, providers_of(settings)),
        webhooks=Webhooks(database, shop, targets, webhook_workers.wake),
        webhook_workers=webhook_workers,
    )


def identity_for(settings: Settings) -> Identity:
    """The Identity for AUTH_MODE."""
    if settings.auth_mode == "header":
        return TrustedHeader(creates_users=settings.development)
    from lastpair.token_keys import public_key, secret_key
    from lastpair.web.tokens import BearerToken, Keys, KeySet, OneKey

    keys: Keys
    if settings.jwt_secret is not None:
        keys = OneKey(secret_key(settings.jwt_secret.get_secret_value()))
    elif settings.jwt_public_key is not None:
        keys = OneKey(public_key(settings.jwt_public_key))
    else:
        keys = KeySet(settings.jwt_jwks_url or "")
    audience, issuer = settings.jwt_audience or "", settings.jwt_issuer or ""
    return BearerToken(
        keys, audience=audience, issuer=issuer, role_claim=settings.jwt_role_claim, name_claim=settings.jwt_name_claim
    )


def guarded(settings: Settings, guard: Guard) -> Callable[[ASGIApp], ASGIApp]:
    """What an application is wrapped in: the guard, and inside it CORS if CORS_ORIGINS names an origin.

    RequestContext wraps it around the application and around the answers to exceptions, so that a page of an allowed origin can
    read those as well, and so that preflights and what the guard refuses are logged and counted.
    """

    def wrap(app: ASGIApp) -> ASGIApp:
        return Guarded(with_cors(app, settings) or app, guard)

    return wrap


def with_cors(app: ASGIApp, settings: Settings) -> "Cors | None":
    """The application inside CORS; None without CORS_ORIGINS."""
    if not settings.cors_origins:
        return None
    return Cors(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["*"],  # libraries for tracing add headers of many names, and an allowed page may send any
        expose_headers=RESPONSE_HEADERS,
    )


class Cors(CORSMiddleware):
    """Starlette's, whose answers to preflights have the headers of all answers as well."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer."""
        response = super().preflight_response(request_headers)
        response.headers.update(ANSWER_HEADERS)
        return response
