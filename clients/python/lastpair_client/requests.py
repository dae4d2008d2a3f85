"""A request, its repeats and its answer, without any input or output, so that both clients share them."""

import json
import random
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx

from lastpair_client.rows import RefusedItem

T = TypeVar("T")
Id = str | UUID

CSV = "text/csv"
MAX_RETRY_SECONDS = 4.0
MAX_RETRY_AFTER_SECONDS = 30.0
PASSING_STATUSES = frozenset({0, 429, 502, 503, 504})
NOT_STARTED_CODES = frozenset({"RATE_LIMITED", "OVERLOADED", "IDENTITY_UNAVAILABLE"})
REMOVED_CODE = "WEBHOOK_ENDPOINT_NOT_FOUND"
"""The answer to a DELETE whose row is gone. All other DELETEs leave the row, and answer it each time."""

LOST = (httpx.TimeoutException, httpx.NetworkError, httpx.ProxyError, httpx.RemoteProtocolError)
"""What may pass. The other errors of httpx say that the request itself cannot be sent."""

BASE_URL = re.compile(r"https?://[^\s/?#@]+(/[^?#]*)?", re.IGNORECASE)
NO_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")


class LastpairError(Exception):
    """A refusal of the API, or a request that got no answer: then `status` is 0, and `code` is UNREACHABLE or TIMEOUT."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str | None = None,
        items: list[RefusedItem] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.items = items
        """The items of a basket that were refused."""

        self.retry_after_seconds = retry_after_seconds
        """How long the server asks you to wait."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class Settings:
    """How a client calls the service."""

    base_url: str
    token: str | Callable[[], str] | None
    user_id: Id | None
    user_name: str | None
    timeout_seconds: float
    retries: int
    retry_seconds: float

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError if no request can be sent with these."""
        check_base_url(self.base_url)
        self._headers(None if callable(self.token) else self.token)

    def headers(self) -> httpx.Headers:
        """The headers that name the user. Raises ValueError or TypeError if a function returned no token."""
        return self._headers(self.token() if callable(self.token) else self.token)

    def _headers(self, token: str | None) -> httpx.Headers:
        if not isinstance(token, str | None):
            raise TypeError(f"token: it must be a string, and not of the type {type(token).__name__}")
        named = {"Authorization": token and f"Bearer {token}", "X-User-Id": self.user_id, "X-User-Name": self.user_name}
        return headers_of({name: str(value) for name, value in named.items() if value})


def check_base_url(base_url: str) -> None:
    """Raise ValueError if no request can be sent to this."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url: {error}") from error
    if BASE_URL.fullmatch(base_url) is None or not url.host or (url.port or 0) > 65535:
        raise ValueError("base_url: it must be http:// or https:// with a host, perhaps a port and a path, and nothing else")


def headers_of(values: Mapping[str, str]) -> httpx.Headers:
    """These headers, in UTF-8, because a user's name has any characters. An error does not show a value: it may be secret."""
    for name, value in values.items():
        if NO_HEADER.search(value):
            raise ValueError(f"{name}: a header has no line breaks or other control characters, and no space at its ends")
    return httpx.Headers(dict(values), encoding="utf-8")


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request whose answer has a T under `name`."""

    method: str
    path: str
    name: str
    body: Any = None
    query: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    if_match: str | None = None
    accept: str | None = None

    def with_cursor(self, cursor: str | None) -> "Request[T]":
        """The same of another page."""
        return Request(self.method, self.path, self.name, query={**self.query, "cursor": cursor})


class ListRequest(Request[T]):
    """A request for a list of T, of which an answer has a page."""


@dataclass(frozen=True)
class Answer:
    """What the API answered."""

    data: Any
    meta: dict[str, Any]
    etag: str | None
    """For `if_match` of update_drop."""


def path_of(*segments: Id) -> str:
    """A path of these segments."""
    return "".join(f"/{quote(str(segment), safe='')}" for segment in segments)


Steps = Generator[httpx.Request | float, httpx.Response | httpx.TransportError | None, Answer]
"""What a client has to do: send a request and say what became of it, or wait so many seconds."""


def exchange(settings: Settings, http: httpx.Client | httpx.AsyncClient, request: Request[Any]) -> Steps:
    """Send the request, again after a failure that passes, if that is safe. Raises LastpairError.

    Raises ValueError, TypeError or an error of httpx if the request cannot be sent at all.

    All attempts of a POST have one key, so nothing happens twice.
    """
    headers: dict[str, str] = {}
    method = request.method.upper()
    if method == "POST":
        headers["Idempotency-Key"] = request.idempotency_key or uuid4().hex
    if request.if_match is not None:
        headers["If-Match"] = request.if_match
    if request.accept is not None:
        headers["Accept"] = request.accept
    content = None
    if request.body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(request.body, default=_encoded)
    query = {name: _strings(value) for name, value in request.query.items() if value is not None}
    failures, may_be_done = 0, False
    while True:
        reply = yield http.build_request(
            method,
            f"{settings.base_url}/api{request.path}",
            params=query,
            headers=[*settings.headers().raw, *headers_of(headers).raw],
            content=content,
            timeout=settings.timeout_seconds,
        )
        try:
            return _answer(reply)
        except LastpairError as error:
            if may_be_done and method == "DELETE" and error.code == REMOVED_CODE:
                return Answer({request.name: None}, {"requestId": error.request_id}, None)
            may_be_done |= error.code not in NOT_STARTED_CODES
            if failures >= settings.retries or not _may_retry(method, error):
                raise
            pause_seconds = backoff(settings.retry_seconds, failures, MAX_RETRY_SECONDS)
            yield pause_seconds + (error.retry_after_seconds or 0)
            failures += 1


def backoff(first_seconds: float, failures: int, max_seconds: float) -> float:
    """The pause after so many failures in a row, with jitter, so that not all clients come back at the same moment."""
    return min(first_seconds * 2.0 ** min(failures, 30), max_seconds) * random.uniform(0.5, 1)  # noqa: S311 - no secret


def _may_retry(method: str, error: LastpairError) -> bool:
    # A PATCH has no key and may add stock, so it is repeated only if it was not started.
    if error.status not in PASSING_STATUSES or (error.retry_after_seconds or 0) > MAX_RETRY_AFTER_SECONDS:
        return False
    return method != "PATCH" or error.code in NOT_STARTED_CODES


def _answer(reply: httpx.Response | httpx.TransportError | None) -> Answer:
    if isinstance(reply, httpx.TimeoutException):
        raise LastpairError(0, "TIMEOUT", "The server did not answer in time.") from reply
    if not isinstance(reply, httpx.Response):
        raise LastpairError(0, "UNREACHABLE", "The server cannot be reached. Try again in a moment.") from reply
    if reply.is_success and reply.headers.get("content-type", "").startswith(CSV):
        return Answer({"csv": reply.text}, {}, None)
    body = _body(reply)
    if reply.is_success and body.get("success") and "data" in body:
        return Answer(body["data"], _object(body.get("meta")), reply.headers.get("etag"))
    raise refusal(reply)


def _strings(value: object) -> str | list[str]:
    # A list is sent as a parameter for each.
    return [str(each) for each in value] if isinstance(value, list) else str(value)


def refusal(response: httpx.Response) -> LastpairError:
    """What a response other than a success says."""
    body = _body(response)
    error = _object(body.get("error"))
    if not (isinstance(error.get("code"), str) and isinstance(error.get("message"), str)):  # a proxy's may be any JSON
        error = {"code": "UNEXPECTED_ANSWER", "message": f"The answer {response.status_code} is not one of the API."}
    retry_after = response.headers.get("retry-after", "")
    return LastpairError(
        response.status_code,
        error["code"],
        error["message"],
        _object(body.get("meta")).get("requestId"),
        error.get("items"),
        float(retry_after) if retry_after.isdecimal() else None,
    )


def _body(response: httpx.Response) -> dict[str, Any]:
    # Empty if something between answered, a proxy for example.
    try:
        return _object(decoded(response.text))
    except ValueError:
        return {}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def decoded(text: str) -> Any:
    """JSON as Python has it. Amounts of money keep every digit."""
    return json.loads(text, parse_float=Decimal)


def _encoded(value: object) -> object:
    # The database takes prices of 13 digits, and a float keeps 15.
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
