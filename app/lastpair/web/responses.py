"""Writing an HTTP answer: the success and the error envelope."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lastpair.errors import Refusal
from lastpair.shop.outcome import Outcome, Page
from lastpair.web.error_codes import NOT_FOUND, RefusalWithHeaders

ANSWER_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer but a page's or a stream's, which have their own. An answer is never for another request, and never
anything else than its type says."""

FIXED_HEADERS = [
    (b"content-type", b"application/json"),
    *((name.encode(), value.encode()) for name, value in ANSWER_HEADERS.items()),
]
REPLAYED = {"idempotency-replayed": "true"}


class Json(Response):
    """A value as JSON. It makes its headers itself, because Starlette first inspects which headers it was given."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return orjson.dumps(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Set the headers: the body's length, those of every answer, and these."""
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), *FIXED_HEADERS]
        if headers:
            self.raw_headers += [(name.encode(), value.encode()) for name, value in headers.items()]


def answer(request: Request, outcome: Outcome, name: str, headers: Mapping[str, str] | None = None) -> Response:
    """An outcome of the shop as a response, its data under `name`; of a refused basket, the refused items in the error.

    A success has these headers besides.
    """
    status, code, message, replayed, data = outcome
    if code is not None:
        return failure(request, Refusal(status, code, message or ""), data)
    if replayed:
        headers = REPLAYED | dict(headers or {})
    return success(request, {name: data}, status, headers)


def answer_page(request: Request, outcome: Outcome, name: str) -> Response:
    """An outcome of the shop whose data is a page of a list, its rows under `name`."""
    if outcome.code is not None:
        return answer(request, outcome, name)
    page: Page = outcome.data
    meta = {"requestId": request.scope["request_id"]}
    if page.next_cursor is not None:
        meta["nextCursor"] = page.next_cursor
    return Json({"success": True, "data": {name: page.rows}, "meta": meta})


def success(request: HTTPConnection, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The success envelope around `data`, in which orjson.Fragment embeds JSON that the database made."""
    body = {"success": True, "data": data, "meta": {"requestId": request.scope["request_id"]}}
    return Json(body, status, headers)


def failure(request: HTTPConnection, refusal: Refusal, items: Any = None) -> Response:
    """The error envelope. `items` are the refused items of a basket."""
    request.scope["outcome"] = refusal.code
    error = {"code": refusal.code, "message": refusal.message}
    body = {
        "success": False,
        "error": error if items is None else error | {"items": items},
        "meta": {"requestId": request.scope["request_id"]},
    }
    return Json(body, refusal.status, _headers_of(refusal))


def _headers_of(refusal: Refusal) -> Mapping[str, str] | None:
    if isinstance(refusal, RefusalWithHeaders):
        return refusal.headers
    if refusal.retry_after_seconds is not None:
        return {"retry-after": str(refusal.retry_after_seconds)}
    return None


class AnsweringRefusals:
    """Answers what the router and the handlers raise: a Refusal, and Starlette's HTTPException, which is that there is no such
    file or method. RequestContext answers the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await self.app(scope, receive, send)
            return
        except Refusal as error:
            refusal = error
        except HTTPException as error:
            refusal = NOT_FOUND
            if error.status_code == 405:
                message = f"{scope['method']} is not possible here; the Allow header lists what is."
                refusal = RefusalWithHeaders(405, "METHOD_NOT_ALLOWED", message, error.headers or {})
        await failure(HTTPConnection(scope), refusal)(scope, receive, send)
        refusal.__traceback__ = None  # some refusals are constants, whose tracebacks would grow
