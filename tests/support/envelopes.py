"""Requests and answers of the API: headers, and the envelope checked to the letter."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Iterable
from decimal import Decimal
from importlib.util import find_spec
from json import loads
from typing import Any

import httpx

if find_spec("sniffio") is None:
    # httpx looks for this package in every request. None remembers that it is not installed, because a search takes as long as a
    # request.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

Row = dict[str, Any]

JSON = {"Content-Type": "application/json"}
LONG_AGO, SOON = "2020-01-01T00:00:00+00:00", "2999-12-31T00:00:00+00:00"


def assert_envelope(response: httpx.Response) -> Row:
    """The answer is JSON with the request's id in it; returns all of it."""
    assert response.headers["content-type"] == "application/json", response.text
    body: Row = loads(response.text, parse_float=Decimal)
    assert body["meta"].keys() - {"nextCursor"} == {"requestId"}  # a page that is not the last has a cursor
    assert body["meta"]["requestId"] == response.headers["x-request-id"]
    return body


def assert_success(response: httpx.Response, name: str, status: int = 200) -> Any:
    """The success envelope exactly, with nothing but `name` in its data; returns that."""
    assert response.status_code == status, response.text
    body = assert_envelope(response)
    assert body == {"success": True, "data": {name: body["data"][name]}, "meta": body["meta"]}
    return body["data"][name]


def assert_error(response: httpx.Response, status: int, code: str) -> str:
    """The error envelope exactly; returns the message."""
    assert response.status_code == status, response.text
    body = assert_envelope(response)
    message: str = body["error"]["message"]
    assert body == {"success": False, "error": {"code": code, "message": message}, "meta": body["meta"]}
    assert re.search(r"\w", message)
    return message


def assert_invalid(response: httpx.Response, field: str) -> str:
    """400 VALIDATION_ERROR with the field and a reason that says nothing of how the service is made; returns the message."""
    message = assert_error(response, 400, "VALIDATION_ERROR")
    assert re.match(rf"(.*; )?{re.escape(field)}: \w+", message), message
    assert not re.search(r"Decimal|NewDrop|instance|dictionary|pattern|sys\.|recursion|codec|raw data", message), message
    return message


def as_user(user_id: object, **more: str) -> dict[str, str]:
    """The headers of a user's request; `idempotency_key="k"` adds Idempotency-Key: k."""
    return {"X-User-Id": str(user_id)} | {name.replace("_", "-"): value for name, value in more.items()}


def assert_unavailable(response: httpx.Response) -> None:
    """503 that says when to come again."""
    assert_error(response, 503, "DATABASE_UNAVAILABLE")
    assert int(response.headers["retry-after"]) > 0


async def at_once(requests: Iterable[Awaitable[httpx.Response]]) -> list[httpx.Response]:
    """The answers to these requests of the fixture `http`, sent at once by as many as it has connections.

    With asyncio.gather alone the rest would wait in httpx's pool, which takes quadratic time: 10 s instead of 3 for 300 requests.
    """
    places = asyncio.Semaphore(100)

    async def send(request: Awaitable[httpx.Response]) -> httpx.Response:
        async with places:
            return await request

    return await asyncio.gather(*map(send, requests))
