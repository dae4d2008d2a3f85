"""The hot path: reserve (also baskets), purchase, cancel, and the drops on sale, without what the rest of the application costs.

A plain request of one of these needs no task, no router and no middleware. Its protocol hands it over when it is complete. The
shop takes it with a function for the outcome, and the answers of a call are written in one pass, after the next call has gone
out. Every rule is that of the ordinary way, because both call the same functions: Guard.refusal, RateLimit.count, buyers.read,
responses.rendered, DeferredLog.add.

A request that is not plain goes the ordinary way, through Starlette. http_protocol.py decides, with HotPath.target_of, before
anything was done for the request.
"""

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Sequence
from copy import copy
from functools import lru_cache, partial
from time import perf_counter, time
from typing import Any, NamedTuple, Protocol

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from lastpair.errors import STOPPING, Unavailable
from lastpair.shop.outcome import Caller, Outcome, Page
from lastpair.shop.shop import Begun
from lastpair.web.at_once import at_once
from lastpair.web.buyers import key_of, known_writer, writer
from lastpair.web.components import Lastpair
from lastpair.web.guard import Guard
from lastpair.web.http_answers import head_lines, whole_answer
from lastpair.web.limits import address_of
from lastpair.web.middleware import CLIENT_CLOSED_REQUEST, DeferredLog, refusal_for
from lastpair.web.operation import BuyersOperation, SharedPage
from lastpair.web.requests import MAX_SMALL_BYTES, headers_of, optional_body, request_id_of, required_body
from lastpair.web.responses import Rendered, around_request_id, rendered, rendered_refusal
from lastpair.web.routes import Endpoint

UUID_SEGMENT = re.compile(rb"(?<=/)[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?=/|\Z)")
CONTENT_LENGTHS = frozenset(b"%d" % length for length in range(MAX_SMALL_BYTES + 1))
MAX_TARGET_BYTES = 100
"""No route of the hot path is as long. Longer URLs are not remembered."""

FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})

NOT_PLAIN = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers whose requests go the ordinary way, because they change how a request is read."""


class HotRoute(NamedTuple):
    """A route of the hot path."""

    template: str
    operation: BuyersOperation


class Target(NamedTuple):
    """What the method and the URL of a request say."""

    method: str
    url: bytes
    path: str
    path_params: dict[str, str]
    asked_id: str
    """The id in the path, in lower case; empty if there is none."""

    template: str
    operation: BuyersOperation | SharedPage


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application that does nothing."""


async def unsent(message: Message) -> None:
    """A function to send messages with, which sends nothing."""


class Answering(Protocol):
    """The protocol of a connection, as a request of the hot path uses it."""

    tasks: set[Any]
    server_state: ServerState

    def finish(self, request: "HotRequest", answer: Sequence[bytes]) -> None:
        """Send these pieces of an answer, which is whole."""


class HotPath:
    """Serves plain requests of buyers in an event loop."""

    def __init__(self, app: Lastpair, guard: Guard, log: DeferredLog, cors: CORSMiddleware | None) -> None:
        self.app = app
        self._cors = cors
        self._guard = guard
        self.log = log
        self._routes = hot_routes(app.routes)
        self._pages = shared_pages(app.routes)
        self._methods = {method for method, _, _ in self._routes}
        self._known_target = lru_cache(maxsize=1024)(self._target)  # most requests are for few drops
        self._proxies = ProxyHeadersMiddleware(nothing)  # type: ignore[arg-type] # uvicorn's types of ASGI, which are narrower
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = ""
        self._answers: deque[tuple[HotRequest, Outcome | Exception]] = deque()  # those that are ready
        self._page: Page | None = None  # the latest one that was answered, and its body
        self._around_request_id = b"", ""

    def trust(self, proxies: ProxyHeadersMiddleware) -> None:
        """Believe X-Forwarded-For of the proxies that this middleware around the application believes."""
        if self._proxies.trusted_hosts is not proxies.trusted_hosts:
            self._proxies = copy(proxies)
            self._proxies.app = nothing  # type: ignore[assignment] # the same

    def target_of(self, method: bytes, url: bytes, fields: dict[bytes, bytes]) -> Target | None:
        """The target of a request with these headers; None if it is not plain."""
        if method == b"GET":
            target = self._pages.get(url)
        elif method not in self._methods or len(url) > MAX_TARGET_BYTES:
            return None
        else:
            target = self._known_target(method, url)
        if target is None or not NOT_PLAIN.isdisjoint(fields) or fields.get(b"content-length", b"0") not in CONTENT_LENGTHS:
            return None
        return target

    def _target(self, method: bytes, url: bytes) -> Target | None:
        found = UUID_SEGMENT.search(url)
        before, after = (url, b"") if found is None else (url[: found.start()], url[found.end() :])
        route = self._routes.get((method, before, after))
        if route is None or (found is None) != (route.operation.id_name is None):
            return None  # an id is missing, or is where none belongs
        asked_id = "" if found is None else found[0].decode()
        path_params = {} if found is None else {str(route.operation.id_name): asked_id}
        return Target(method.decode(), url, url.decode(), path_params, asked_id.lower(), route.template, route.operation)

    def begin(self, request: "HotRequest") -> None:
        """Carry the request out."""
        scope = request.scope
        scope["app"] = self.app
        scope["request_id"] = request_id_of(scope)
        try:
            headers = headers_of(scope)
            if not FORWARDED.isdisjoint(headers):
                at_once(self._proxies(scope, None, None))  # type: ignore[arg-type] # it changes the scope only
            refusal = self._guard.refusal(scope)
            if refusal is not None:
                raise refusal
            scope["route"], scope["path_params"] = request.target.template, request.target.path_params
            operation, components = request.target.operation, self.app.components
            if isinstance(operation, SharedPage):
                components.read_limit.count(address_of(scope))
                components.shop.begin_drops_on_sale(partial(self.receive, request))
                return
            components.address_limit.count(address_of(scope))
            key = key_of(request, operation) if b"idempotency-key" in headers else None
            body = (required_body if operation.needs_body else optional_body)(scope, request.body, operation.body)
            caller = known_writer(request)
            if caller is None:
                request.waits_for = asyncio.create_task(self._submit_later(request, operation, key, body))
            else:
                self._submit(request, operation, caller, key, body)
        except Exception as error:
            self.receive(request, error)

    async def _submit_later(self, request: "HotRequest", operation: BuyersOperation, key: str | None, body: Any) -> None:
        # The keys that verify the token are being fetched.
        try:
            self._submit(request, operation, await writer(request), key, body)
        except Exception as error:
            self.receive(request, error)

    def _submit(self, request: "HotRequest", operation: BuyersOperation, caller: Caller, key: str | None, body: Any) -> None:
        asked = operation.request(caller.id, request.target.asked_id, key, body)
        request.waits_for = self.app.components.shop.begin(caller, asked, partial(self.receive, request))

    def receive(self, request: "HotRequest", outcome: Outcome | Exception) -> None:
        """Answer with this in the next iteration of the event loop, together with the other answers that are ready then."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._answer)
        self._answers.append((request, outcome))

    def _answer(self) -> None:
        try:
            while self._answers:
                request, outcome = self._answers.popleft()
                request.answer(outcome)
        finally:
            if self._answers:  # answering this request failed, and the others must not wait for ever
                asyncio.get_running_loop().call_soon(self._answer)

    def rendered_page(self, page: Page, name: str, request_id: str) -> Rendered:
        """The answer with this page. Its bytes are made once for all requests of a call, which get the same page."""
        if page is not self._page:
            before, after = around_request_id(page, name)
            self._page, self._around_request_id = page, (before.encode(), after)
        shared, after = self._around_request_id
        return 200, request_id + after, None, shared

    def for_pages(self, found: Rendered, scope: Scope) -> Rendered:
        """The answer with the headers of CORS, if there are any, and if the request passed the guard, inside which CORS is."""
        if self._cors is None or "route" not in scope:
            return found
        status, body, headers, shared = found
        given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        start: Message = {"type": "http.response.start", "headers": given}
        at_once(self._cors.send(start, unsent, Headers(scope=scope)))
        return status, body, {name.decode(): value.decode() for name, value in start["headers"]}, shared

    def default_lines(self, headers: list[tuple[bytes, bytes]]) -> str:
        """The lines of the headers of every answer. uvicorn makes a new list of them every second."""
        if headers is not self._default_headers:
            self._default_headers, self._default_lines = headers, head_lines(headers)
        return self._default_lines


class HotRequest(RequestResponseCycle):
    """A request of the hot path. To its protocol it is a request like others, and to uvicorn's shutdown it is a task."""

    scope: Any
    message_event = asyncio.Event()
    """No task waits for news of the request, so all share this event."""

    # uvicorn's own __init__ is not called, because it makes what only its coroutines use.
    body: Any = b""
    more_body = True
    disconnected = response_started = response_complete = waiting_for_100_continue = False
    waits_for: "Begun | asyncio.Task[None] | None" = None
    """Where the outcome comes from."""

    def __init__(self, hot_path: HotPath, protocol: Answering, target: Target, scope: Any, *, keep_alive: bool) -> None:
        self.scope = scope
        self.target = target
        self.keep_alive = keep_alive
        self._hot_path = hot_path
        self._protocol: Answering | None = protocol
        self._begun_at = perf_counter()
        scope["method"] = target.method
        scope["path"] = target.path
        scope["raw_path"] = target.url
        scope["query_string"] = b""

    def begin(self) -> None:
        """The request is complete."""
        assert self._protocol is not None  # noqa: S101 - it has no answer yet
        self._protocol.tasks.add(self)
        self._hot_path.begin(self)

    def leave(self) -> None:
        """The client left. If no call took the request yet, none will; otherwise its outcome is logged."""
        self.disconnected = True
        if isinstance(self.waits_for, Begun) and self.waits_for.withdraw():
            self.scope["outcome"] = "CLIENT_CLOSED_REQUEST"
            self._end(CLIENT_CLOSED_REQUEST)

    def cancel(self, msg: Any = None) -> None:
        """The process stops and has waited long enough."""
        if isinstance(self.waits_for, Begun):
            self.waits_for.withdraw()
        elif self.waits_for is not None:
            self.waits_for.cancel()
        self._hot_path.receive(self, Unavailable(STOPPING))

    def answer(self, outcome: Outcome | Exception) -> None:
        """Send the answer, unless the client has left."""
        protocol = self._protocol
        if protocol is None:
            return  # the request was cancelled meanwhile
        found = self._rendered(outcome)
        if not self.disconnected:
            found = self._hot_path.for_pages(found, self.scope)
            default_lines = self._hot_path.default_lines(protocol.server_state.default_headers)
            protocol.finish(self, whole_answer(found, self.scope["request_id"], default_lines, keep_alive=self.keep_alive))
        self._end(found[0])

    def _rendered(self, outcome: Outcome | Exception) -> Rendered:
        if isinstance(outcome, Outcome):
            try:
                operation, data = self.target.operation, outcome.data
                if isinstance(data, Page):
                    return self._hot_path.rendered_page(data, operation.data, self.scope["request_id"])
                return rendered(self, outcome, operation.data)
            except Exception as error:
                outcome = error
        refusal = refusal_for(outcome, self.scope)
        outcome.__traceback__ = None  # some refusals are constants, whose tracebacks would grow
        return rendered_refusal(self, refusal)

    def _end(self, status: int) -> None:
        assert self._protocol is not None  # noqa: S101 - it ends once
        self._protocol.tasks.discard(self)
        self._protocol = self.waits_for = None
        self._hot_path.log.add((self.scope, status, time(), perf_counter() - self._begun_at))


def hot_routes(routes: Iterable[BaseRoute]) -> dict[tuple[bytes, bytes, bytes], HotRoute]:
    """The routes of buyers' operations, by the method and by what is before and after the id in the path, if there is one."""
    found = {}
    for route in routes:
        if isinstance(route, Route) and isinstance(route.endpoint, Endpoint):
            for method, operation in route.endpoint.operations.items():
                if operation.buyers is not None:
                    before, _, after = route.path.encode().partition(f"{{{operation.buyers.id_name}}}".encode())
                    found[method.encode(), before, after] = HotRoute(route.path, operation.buyers)
    return found


def shared_pages(routes: Iterable[BaseRoute]) -> dict[bytes, Target]:
    """The targets of pages that all share, by their URL."""
    found = {}
    for route in routes:
        if isinstance(route, Route) and isinstance(route.endpoint, Endpoint):
            operation = route.endpoint.operations.get("GET")
            if operation is not None and operation.shared_page is not None:
                url = route.path.encode()
                found[url] = Target("GET", url, route.path, {}, "", route.path, operation.shared_page)
    return found


def hot_path_behind(app: ASGI3Application) -> HotPath | None:
    """The hot path of an application that uvicorn serves, if it has one."""
    inner: Any = app
    if isinstance(app, ProxyHeadersMiddleware):
        inner = app.app
    found = inner.hot_path if isinstance(inner, Lastpair) else None
    if not isinstance(found, HotPath):
        return None
    if isinstance(app, ProxyHeadersMiddleware):
        found.trust(app)
    return found
