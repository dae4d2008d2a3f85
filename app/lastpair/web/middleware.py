"""The middleware around all handlers: request ids, the access log, request metrics, and the answers to exceptions."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter, time

import prometheus_client
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastpair.errors import STOPPING, Refusal, Unavailable
from lastpair.observability.logs import access_logger, log_request, printable
from lastpair.observability.metrics import REQUEST_SECONDS, REQUESTS, observe_all
from lastpair.web.error_codes import INTERNAL_ERROR
from lastpair.web.requests import request_id_of
from lastpair.web.responses import failure, refusal_in
from lastpair.web.schemas import CANONICAL_UUID
from lastpair.web.url_paths import PROBE_PATHS, STREAM_PATHS

RESPONSE_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
SWITCHING_PROTOCOLS = 101
CLIENT_CLOSED_REQUEST = 499
"""The status, in the log and the metrics only, of a request whose client left before there was an answer (nginx uses the
same)."""

REFUSED = "REFUSED"
"""The outcome of a request that Starlette refuses in plain text, without a code: a foreign preflight, or a range that cannot be
had."""

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "WS"})
OTHER_METHOD = "other"
UNROUTED = "none"
MAX_LOGGED_PATH = 256

logger = logging.getLogger("lastpair")


class RequestContext:
    """Gives each request its id, answers what the router and the handlers raise, logs and counts.

    A Refusal is answered as it says, and an unexpected exception with a 500 without details.

    The handlers leave in the scope: `route` (the path's template), `user_id`, and through responses.failure the `outcome`.
    """

    def __init__(
        self,
        app: ASGIApp,
        around: Callable[[ASGIApp], ASGIApp] = lambda answering: answering,
        log: "DeferredLog | None" = None,
    ) -> None:
        """`around` wraps both the application and the answer to an exception of it (it is used for CORS)."""
        self.app = around(app)
        self._refuse = around(answer_refusal)
        self._log = log or DeferredLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        begin = perf_counter()
        scope["request_id"] = request_id = request_id_of(scope)
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
            scope["refusal"] = refusal
            await self._refuse(scope, receive, send_with_id)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass  # the client left, so there is no one to answer
        except asyncio.CancelledError:  # the server is stopping and has waited long enough
            if not status:
                await fail(Unavailable(STOPPING))
        except Exception as error:
            if status:
                log_fault(error, scope)
                raise
            await fail(refusal_for(error, scope))
            error.__traceback__ = None  # some refusals are constants, whose tracebacks would grow
        finally:
            if not status:
                status = CLIENT_CLOSED_REQUEST
                scope["outcome"] = "CLIENT_CLOSED_REQUEST"
            self._log.add((scope, status, time(), perf_counter() - begin))


def refusal_for(error: Exception, scope: Scope) -> Refusal:
    """What is answered to the request that raised this. A fault of ours is logged."""
    refusal = refusal_in(error, scope)
    if refusal is None:
        log_fault(error, scope)
    return refusal or INTERNAL_ERROR


def log_fault(error: Exception, scope: Scope) -> None:
    """Log an exception that is a fault of ours."""
    method, path = scope.get("method", "WS"), logged_path(scope)
    logger.error("request %s failed: %s %s", scope["request_id"], method, path, exc_info=error)


async def answer_refusal(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the refusal in the scope, as an ASGI application."""
    await failure(HTTPConnection(scope), scope["refusal"])(scope, receive, send)


EndedRequest = tuple[Scope, int, float, float]
"""Its scope, its status, the time at which it ended (seconds since 1970), and how many seconds it took."""


class DeferredLog:
    """Defers access log and metrics to the end of the event-loop iteration, because doing them in one go halves their cost."""

    def __init__(self) -> None:
        self._ended: list[EndedRequest] = []

    def add(self, ended: EndedRequest) -> None:
        """Count and log this request soon."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._write)
        self._ended.append(ended)

    def _write(self) -> None:
        requests, self._ended = self._ended, []
        seconds_by_kind: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        logs_info = access_logger.isEnabledFor(logging.INFO)
        for scope, status, ended_at, seconds in requests:
            method, route = scope.get("method", "WS"), route_of(scope)
            seconds_by_kind[method, route, status].append(seconds)
            if logs_info or status >= 500:
                log(method, route, scope, status, ended_at, seconds)
        for (method, route, status), each_seconds in seconds_by_kind.items():
            counter_of(method, route, status).inc(len(each_seconds))
            if route not in STREAM_PATHS:  # a stream lasts as long as its client likes
                observe_all(histogram_of(route), each_seconds)


def log(method: str, route: str, scope: Scope, status: int, ended_at: float, seconds: float) -> None:
    """Log a request that has ended. `seconds` is how long it took."""
    level = logging.WARNING if status >= 500 else logging.DEBUG if route in PROBE_PATHS or scope.get("is_poll") else logging.INFO
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


# These are cached, because finding a metric by its labels takes longer than counting. The caches are bounded, because the client
# chooses the method.
@lru_cache(maxsize=1024)
def counter_of(method: str, route: str, status: int) -> prometheus_client.Counter:
    """The counter of such requests."""
    return REQUESTS.labels(method if method in METHODS else OTHER_METHOD, route, status)


@lru_cache(maxsize=1024)
def histogram_of(route: str) -> prometheus_client.Histogram:
    """The histogram of such requests."""
    return REQUEST_SECONDS.labels(route)


def route_of(scope: Scope) -> str:
    """The template of the request's path, which its handler or the router left in the scope; never the path itself."""
    route = scope.get("route")
    template: str = route if isinstance(route, str) else getattr(route, "path", UNROUTED)
    return template


def drop_id_of(scope: Scope) -> str | None:
    """The drop in the path, if it is a UUID; the client may have written anything there."""
    drop_id: str | None = scope.get("path_params", {}).get("dropId")
    return drop_id if drop_id is not None and CANONICAL_UUID.fullmatch(drop_id) else None


def logged_path(scope: Scope) -> str:
    """The path as the client sent it, percent-encoded and so on one line. The query is left out, because it may hold a secret."""
    raw: bytes = scope.get("raw_path") or b""
    return printable(raw[:MAX_LOGGED_PATH].decode("latin-1"))
