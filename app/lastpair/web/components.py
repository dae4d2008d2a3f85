"""The components of an application: one of each, made at the start and found by every handler."""

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Scope

from lastpair.database.nodes import Nodes
from lastpair.database.pool import Database
from lastpair.payments.payments import Payments
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.hub import Hub
from lastpair.realtime.relays import Relays
from lastpair.realtime.watchers import Watchers
from lastpair.shop.shop import Shop
from lastpair.web.identity import Identity
from lastpair.web.limits import RateLimit, StreamSlots
from lastpair.web.rushes import Rushes
from lastpair.webhooks.endpoints import Webhooks
from lastpair.webhooks.worker import Workers


@dataclass
class Components:
    """What handlers use."""

    shop: Shop
    database: Database
    nodes: Nodes
    identity: Identity
    address_limit: RateLimit
    read_limit: RateLimit
    stream_limit: RateLimit
    user_limit: RateLimit
    forgery_limit: RateLimit
    """Messages with a wrong signature that one address may send to the webhooks of payment providers."""

    stream_slots: StreamSlots
    hub: Hub
    event_log: EventLog
    relays: Relays
    watchers: Watchers
    rushes: Rushes
    payments: Payments
    webhooks: Webhooks
    webhook_workers: Workers


class Lastpair(Starlette):
    """The application. It has an attribute of its own, because an attribute is found much faster than Starlette's `app.state`."""

    components: Components
    hot_path: object = None
    """A HotPath, or None: all requests go the ordinary way."""

    def build_middleware_stack(self) -> ASGIApp:
        """The middleware around the router. Starlette would add two of its own, whose work middleware.py does in less time."""
        app: ASGIApp = self.router.app
        for middleware, args, kwargs in reversed(self.user_middleware):
            app = middleware(app, *args, **kwargs)
        return app


def components_of(connection: HTTPConnection) -> Components:
    """The components of the application that serves this connection."""
    return components_in(connection.scope)


def components_in(scope: Scope) -> Components:
    """The same by the connection's scope."""
    components: Components = scope["app"].components
    return components
