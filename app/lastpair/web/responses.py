"""Writing an HTTP answer: the success and the error envelope."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

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


class HasScope(Protocol):
    """A request, of which its ASGI scope is needed."""

    @property
    def scope(self) -> Any:
        """The scope."""


Rendered = tuple[int, str, Mapping[str, str] | None, bytes]
"""An answer in JSON: its status, its body, its headers besides Content-Length and FIXED_HEADERS, and the beginning that its body
shares with other answers. That is sent without being copied.

It is a plain tuple, because to make a named one takes longer than to render the body.
"""


class Json(Response):
    """A rendered answer. It makes its headers itself, because Starlette first inspects which headers it was given."""

    def __init__(self, rendered: Rendered) -> None:
        status, body, headers, shared = rendered
        super().__init__(shared + body.encode(), status, headers)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Set the headers: the body's length, those of every answer, and these."""
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), *FIXED_HEADERS]
        if headers:
            self.raw_headers += [(name.encode(), value.encode()) for name, value in headers.items()]


def answer(request: HasScope, outcome: Outcome, name: str, headers: Mapping[str, str] | None = None) -> Response:
    """An outcome of the shop as a response, its data under `name`; of a refused basket, the refused items in the error.

    A success has these headers besides.
    """
    return Json(rendered(request, outcome, name, headers))


def rendered(request: HasScope, outcome: Outcome, name: str, headers: Mapping[str, str] | None = None) -> Rendered:
    """The same, but not as a response."""
    status, code, message, replayed, data = outcome
    if code is not None:
        return _refused(request, status, code, message or "", None, data)
    if replayed:
        headers = REPLAYED | dict(headers or {})
    return _succeeded(request, f'{{"{name}":{"null" if data is None else data}}}', status, headers)


def answer_page(request: HasScope, outcome: Outcome, name: str) -> Response:
    """An outcome of the shop whose data is a page of a list, its rows under `name`."""
    return Json(rendered_page(request, outcome, name))


def rendered_page(request: HasScope, outcome: Outcome, name: str) -> Rendered:
    """The same, but not as a response."""
    if outcome.code is not None:
        return rendered(request, outcome, name)
    before, after = around_request_id(outcome.data, name)
    return 200, f"{before}{request.scope['request_id']}{after}", None, b""


def around_request_id(page: Page, name: str) -> tuple[str, str]:
    """The body of an answer with this page, its rows under `name`: what comes before the request id, and what comes after it."""
    meta: dict[str, Any] = {}
    if page.next_cursor is not None:
        meta["nextCursor"] = page.next_cursor
    if page.incomplete is not None:
        meta["incomplete"] = page.incomplete.split(", ")
    start = f'{{"success":true,"data":{{"{name}":{page.rows}}},"meta":{{"requestId":"'
    return start, f'"{"," if meta else ""}{orjson.dumps(meta).decode()[1:-1]}}}}}'


def success(request: HasScope, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The success envelope around `data`, in which orjson.Fragment embeds JSON that the database made."""
    return Json(_succeeded(request, orjson.dumps(data).decode(), status, headers))


def failure(request: HasScope, refusal: Refusal) -> Response:
    """The error envelope."""
    return Json(rendered_refusal(request, refusal))


def rendered_refusal(request: HasScope, refusal: Refusal) -> Rendered:
    """The same, but not as a response."""
    return _refused(request, refusal.status, refusal.code, refusal.message, _headers_of(refusal))


# A request id has no character that JSON would escape.
def _succeeded(request: HasScope, data: str, status: int, headers: Mapping[str, str] | None) -> Rendered:
    return status, f'{{"success":true,"data":{data},"meta":{{"requestId":"{request.scope["request_id"]}"}}}}', headers, b""


def _refused(
    request: HasScope, status: int, code: str, message: str, headers: Mapping[str, str] | None, items: str | None = None
) -> Rendered:
    # `items` are the refused items of a basket.
    request.scope["outcome"] = code
    error = f'"code":{orjson.dumps(code).decode()},"message":{orjson.dumps(message).decode()}'
    if items is not None:
        error += f',"items":{items}'
    return status, f'{{"success":false,"error":{{{error}}},"meta":{{"requestId":"{request.scope["request_id"]}"}}}}', headers, b""


def _headers_of(refusal: Refusal) -> Mapping[str, str] | None:
    if isinstance(refusal, RefusalWithHeaders):
        return refusal.headers
    if refusal.retry_after_seconds is not None:
        return {"retry-after": str(refusal.retry_after_seconds)}
    return None


def refusal_in(error: Exception, scope: Scope) -> Refusal | None:
    """The refusal that an exception of the router or a handler stands for; None if the exception is a fault of ours.

    Starlette raises HTTPException where there is no such file or method.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        if error.status_code != 405:
            return NOT_FOUND
        message = f"{scope['method']} is not possible here; the Allow header lists what is."
        return RefusalWithHeaders(405, "METHOD_NOT_ALLOWED", message, error.headers or {})
    return None
