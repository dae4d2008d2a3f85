"""The route table, and how a path finds its handler by method."""

import re
from collections.abc import Iterable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from lastpair.settings import Settings
from lastpair.web import handlers, payments, sellers, webhook_endpoints
from lastpair.web.components import components_in
from lastpair.web.limits import address_of
from lastpair.web.openapi import READS, document
from lastpair.web.operation import Operation, Raw, operation
from lastpair.web.pages import page_routes
from lastpair.web.requests import check_query
from lastpair.web.responses import ANSWER_HEADERS
from lastpair.web.socketio import SocketIORoute
from lastpair.web.url_paths import API_BASES, PROBE_PATHS, SSE_PATHS

UNLIMITED_READS = PROBE_PATHS | SSE_PATHS


class Endpoint:
    """The handlers of a path by method, as an ASGI application. The middleware around all routes handles what they raise.

    The limits on one address's writes and reads are here, before anything is read. Only reads of the database count. Probes do
    not, because one address asks for all, and streams have a limit of their own. Then the query is checked; most have none.
    """

    def __init__(self, path: str, operations: dict[str, Operation]) -> None:
        self.operations = operations
        self._path = path
        self._handlers = {method: operation.handler for method, operation in operations.items()}
        self._parameters = {method: operation.parameters for method, operation in operations.items()}
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]
            self._parameters["HEAD"] = self._parameters["GET"]
            self._is_limited_read = operations["GET"].needs_database and path not in UNLIMITED_READS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["route"] = self._path
        if scope["method"] not in READS:
            if not self.operations[scope["method"]].is_signed:
                components_in(scope).address_limit.count(address_of(scope))
        elif self._is_limited_read:
            components_in(scope).read_limit.count(address_of(scope))
        if scope["query_string"]:
            check_query(scope["query_string"], self._parameters[scope["method"]])
        response = await self._handlers[scope["method"]](Request(scope, receive, send))
        await response(scope, receive, send)


def route(path: str, **operations: Operation) -> Route:
    """One route for a path with a handler for each method, so that a 405 lists them all."""
    by_method = {method.upper(): operation for method, operation in operations.items()}
    return Route(path, Endpoint(path, by_method), methods=list(by_method))


def routes(settings: Settings) -> list[BaseRoute]:
    """The route table, the busiest routes first because it is searched from the top."""
    documents: dict[str, bytes] = {}

    @operation("operations", {200: Raw("application/json", {"type": "object"})}, needs_database=False)
    async def get_contract(request: Request) -> Response:
        """This contract, as OpenAPI 3.1."""
        return Response(documents[request.scope["route"]], headers=ANSWER_HEADERS, media_type="application/json")

    table: list[BaseRoute] = []
    operational = [
        route("/healthz", get=handlers.get_health),
        route("/readyz", get=handlers.get_readiness),
        route("/metrics", get=handlers.get_metrics),
    ]
    probes = operational if settings.admin_port is None else []
    purchase, purchase_basket = handlers.purchase, handlers.purchase_basket
    if settings.payment_provider != "none":
        purchase, purchase_basket = payments.PURCHASE_WITH_PAYMENT, payments.PURCHASE_BASKET_WITH_PAYMENT
    cancel_alias = replace(handlers.cancel_reservation, alias_of="`DELETE /reservations/{id}`")
    for base in API_BASES:
        served: list[Route | WebSocketRoute] = [
            route(f"{base}/drops/{{dropId}}/reserve", post=handlers.reserve),
            route(f"{base}/drops/{{dropId}}/purchase", post=purchase),
            route(f"{base}/drops", get=handlers.list_drops, post=sellers.create_drop),
            route(f"{base}/drops/{{dropId}}", get=handlers.get_drop, patch=sellers.update_drop),
            route(f"{base}/drops/{{dropId}}/history", get=sellers.get_drop_history),
            route(f"{base}/drops/{{dropId}}/cancel", post=sellers.cancel_drop),
            route(f"{base}/drops/{{dropId}}/reservations", get=sellers.list_reservations_of_drop),
            route(f"{base}/drops/{{dropId}}/purchases", get=sellers.list_purchases_of_drop),
            route(f"{base}/reservations/me", get=handlers.list_my_reservations),
            route(f"{base}/reservations/{{id}}", get=handlers.get_reservation, delete=handlers.cancel_reservation),
            route(f"{base}/reservations/{{id}}/history", get=handlers.get_reservation_history),
            route(f"{base}/reservations/{{id}}/cancel", delete=cancel_alias),
            route(f"{base}/reservations/{{id}}/extend", post=handlers.extend_reservation),
            route(f"{base}/baskets", post=handlers.reserve_basket),
            route(f"{base}/baskets/{{id}}", get=handlers.get_basket, delete=handlers.cancel_basket),
            route(f"{base}/baskets/{{id}}/purchase", post=purchase_basket),
            route(f"{base}/purchases/me", get=handlers.list_my_purchases),
            route(f"{base}/purchases/{{id}}", get=handlers.get_purchase),
            route(f"{base}/purchases/{{id}}/refund", post=sellers.refund_purchase),
            route(f"{base}/drops/{{dropId}}/payments", get=payments.list_payments_of_drop),
            route(f"{base}/drops/{{dropId}}/money", get=payments.get_money_of_drop),
            route(f"{base}/drops/{{dropId}}/provider-calls", get=payments.list_provider_calls_of_drop),
            route(f"{base}/provider-calls/{{id}}/retry", post=payments.retry_provider_call),
            route(f"{base}/payments/problems", get=payments.list_payment_problems),
            route(f"{base}/payments/{{id}}", get=payments.get_payment, delete=payments.cancel_payment),
            route(f"{base}/webhooks/stripe", post=payments.receive_from_stripe),
            route(f"{base}/webhooks/payments", post=payments.receive_from_provider),
            route(f"{base}/users/me", delete=handlers.forget_me),
            route(
                f"{base}/webhook-endpoints",
                get=webhook_endpoints.list_webhook_endpoints,
                post=webhook_endpoints.create_webhook_endpoint,
            ),
            route(
                f"{base}/webhook-endpoints/{{id}}",
                get=webhook_endpoints.get_webhook_endpoint,
                patch=webhook_endpoints.update_webhook_endpoint,
                delete=webhook_endpoints.delete_webhook_endpoint,
            ),
            route(f"{base}/webhook-endpoints/{{id}}/deliveries", get=webhook_endpoints.list_webhook_deliveries),
            route(f"{base}/webhook-endpoints/{{id}}/rotate-secret", post=webhook_endpoints.rotate_webhook_secret),
            route(f"{base}/webhook-endpoints/{{id}}/test", post=webhook_endpoints.send_test_webhook),
            route(f"{base}/webhook-deliveries/{{id}}/replay", post=webhook_endpoints.replay_webhook_delivery),
            route(f"{base}/activity", get=handlers.get_activity),
            route(f"{base}/watchers", get=handlers.get_watchers),
            route(f"{base}/stream-tickets", post=handlers.create_stream_ticket),
            route(f"{base}/events", get=handlers.stream_events),
            WebSocketRoute(f"{base}/ws", handlers.open_websocket.handler),
            route(f"{base}/openapi.json", get=get_contract),
        ]
        if settings.development:
            served += [
                route(f"{base}/internal/users", post=handlers.create_user),
                route(f"{base}/internal/expire-now", post=handlers.expire_now),
            ]
            if settings.auth_mode == "header":  # its buyers have no tokens
                served.append(route(f"{base}/internal/rush", post=handlers.start_rush, get=handlers.get_rush))
        table += [*served, Route(f"{base}/ws", handlers.refuse_without_upgrade)]
        documents[f"{base}/openapi.json"] = document(operations_of([*served, *probes]), is_jwt=settings.auth_mode == "jwt")
    return [*exact([*table, *operational, *page_routes(settings)]), SocketIORoute()]


def exact(table: list[BaseRoute]) -> list[BaseRoute]:
    """These routes, so that none takes a path that ends with a line break more.

    Starlette's patterns end with `$`, which also matches before such a line break. `/metrics%0A` would be served where a proxy
    keeps `/metrics` inside, and `/api/events%0A` would be a stream without the limits of one.
    """
    for each in table:
        if isinstance(each, Route | WebSocketRoute):
            each.path_regex = re.compile(each.path_regex.pattern.removesuffix("$") + r"\Z")
    return table


def operations_of(table: Iterable[Route | WebSocketRoute]) -> dict[str, dict[str, Operation]]:
    """The operations of these routes, by path and method."""
    return {
        route.path: route.endpoint.operations if isinstance(route.endpoint, Endpoint) else {"GET": handlers.open_websocket}
        for route in table
    }
