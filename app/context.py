"""The middleware around all handlers: request ids, the line in the log and the figures of each request, and a bare 500."""

import asyncio
import logging
import os
import re
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter, time

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import CANONICAL_UUID, Refusal, Unavailable, failure, header
from app.logs import access_logger, log_request, printable
from app.metrics import REQUEST_SECONDS, REQUESTS

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
RESPONSE_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
SWITCHING_PROTOCOLS = 101
CLIENT_CLOSED_REQUEST = 499
"""The status, in the log and the figures only, of a request whose client left before there was an answer (as nginx has it)."""

REFUSED = "REFUSED"
"""The outcome of what Starlette refuses in text, without a code: a preflight of a foreign origin, a range that is none."""

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "WS"})
OTHER_METHOD = "other"
UNROUTED = "none"
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is asked all the time by machines, and logged at level debug."""

STREAM_ROUTES = frozenset({"/api/events", "/api/v1/events", "/api/ws", "/api/v1/ws"})
"""What lasts as long as its client likes, so that its duration says nothing."""

MAX_LOGGED_PATH = 256

logger = logging.getLogger("lastpair")


class RequestContext:
    """Gives each request its id, turns an unforeseen exception into a bare 500, logs and counts.

    Handlers leave in the scope what they know: `route` (the path's template), `user_id`, and by http.failure the `outcome`.
    """

    def __init__(self, app: ASGIApp, around: Callable[[ASGIApp], ASGIApp] = lambda answering: answering) -> None:
        """A middleware that has `around` put around whatever answers: the application, and the 500 in its place."""
        self.app = around(app)
        self._around = around
        self._ended = Ended()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        begin = perf_counter()
        given = header(scope, b"x-request-id")
        request_id = given if given is not None and REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        scope["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in RESPONSE_STARTS:
                status = message.get("status", SWITCHING_PROTOCOLS)
                if status >= 400:
                    scope.setdefault("outcome", REFUSED)
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        async def fail(refusal: Refusal) -> None:
            await self._around(failure(HTTPConnection(scope), refusal))(scope, receive, send_with_id)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass  # nobody is left to answer
        except asyncio.CancelledError:  # the server is stopping and has waited long enough
            if not status:
                await fail(Unavailable("This process is stopping. Try again, and another one answers."))
        except Exception:
            logger.exception("request %s failed: %s %s", request_id, scope.get("method", "WS"), logged_path(scope))
            if status:
                raise
            await fail(Refusal(500, "INTERNAL_ERROR", "Something went wrong here. Quote the request id when you report it."))
        finally:
            if not status:
                status = CLIENT_CLOSED_REQUEST
                scope["outcome"] = "CLIENT_CLOSED_REQUEST"
            self._ended.add((scope, status, time(), perf_counter() - begin))


Ending = tuple[Scope, int, float, float]
"""A request that is over: its scope, its status, when it ended, and how many seconds it took."""


class Ended:
    """Counts and logs requests when the event loop has done all else of a turn.

    Many in a row take half the time of each by itself, between all that its answer takes.
    """

    def __init__(self) -> None:
        self._endings: list[Ending] = []

    def add(self, ending: Ending) -> None:
        """One more."""
        if not self._endings:
            asyncio.get_running_loop().call_soon(self._account)
        self._endings.append(ending)

    def _account(self) -> None:
        endings, self._endings = self._endings, []
        for ending in endings:
            account(*ending)


def account(scope: Scope, status: int, ended_at: float, seconds: float) -> None:
    """Count a request that is over, and log it."""
    method, route = scope.get("method", "WS"), route_of(scope)
    counter_of(method, route, status).inc()
    if route not in STREAM_ROUTES:
        histogram_of(route).observe(seconds)
    level = logging.WARNING if status >= 500 else logging.DEBUG if route in QUIET_ROUTES else logging.INFO
    if access_logger.isEnabledFor(level):
        line = {
            "requestId": scope["request_id"],
            "traceId": scope.get("trace_id"),
            "method": method,
            "path": logged_path(scope),
            "route": route,
            "status": status,
            "outcome": scope.get("outcome", "OK"),
            "userId": scope.get("user_id"),
            "dropId": drop_id_of(scope),
            "durationMs": round(seconds * 1000, 3),
        }
        log_request(level, ended_at, line)


# Kept, for finding a figure by its labels takes longer than counting. Bounded, for the method is the client's.
@lru_cache(maxsize=1024)
def counter_of(method: str, route: str, status: int) -> Counter:
    """The count of such requests."""
    return REQUESTS.labels(method if method in METHODS else OTHER_METHOD, route, status)


@lru_cache(maxsize=1024)
def histogram_of(route: str) -> Histogram:
    """How long such requests take."""
    return REQUEST_SECONDS.labels(route)


def route_of(scope: Scope) -> str:
    """The template of the request's path: as its handler left it, else as the router did; never the path itself."""
    route = scope.get("route")
    template: str = route if isinstance(route, str) else getattr(route, "path", UNROUTED)
    return template


def drop_id_of(scope: Scope) -> str | None:
    """The drop that the path names, if it is one: else the client may have written anything there."""
    drop_id: str | None = scope.get("path_params", {}).get("dropId")
    return drop_id if drop_id is not None and CANONICAL_UUID.fullmatch(drop_id) else None


def logged_path(scope: Scope) -> str:
    """The path as it came, percent-encoded and so on one line; without the query, which may hold anything."""
    raw: bytes = scope.get("raw_path") or b""
    return printable(raw[:MAX_LOGGED_PATH].decode("latin-1"))
