"""Reading an HTTP request: headers, ids, and JSON bodies, all of them strictly."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from json import JSONDecodeError, JSONDecoder
from random import randbytes
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from lastpair.errors import Refusal, invalid
from lastpair.realtime.feed import MAX_DROPS
from lastpair.shop.shared_calls import DEFAULT_LIMIT
from lastpair.web.error_codes import MAX_BODY_BYTES, RefusalWithHeaders
from lastpair.web.operation import DEFAULT_ACTIVITY_SECONDS, MAX_ACTIVITY_SECONDS, MAX_LIMIT, Schema
from lastpair.web.schemas import CANONICAL_UUID
from lastpair.web.turns import in_turn

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
NUMBER = re.compile(r"[0-9]{1,18}")
TIME = "(~([0-9]{1,18}|-[0-9]{1,17}|infinity))?"
"""In microseconds since 1970; PostgreSQL has no time as long before as 18 digits may say."""

TIMED_CURSOR = re.compile(CANONICAL_UUID.pattern + TIME)
"""A cursor of page_by_time."""

TIMED_NUMBER = re.compile(NUMBER.pattern + TIME)
"""The same if rows have numbers instead of UUIDs."""

SECONDS = re.compile(r"[0-9]{1,5}")
LIMIT = re.compile(r"[0-9]{1,3}")
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")

HEADERS = "lastpair.headers"
"""Where a scope keeps what headers_of returned."""

MAX_COMMAS = 2000
"""The most commas in JSON, and so about the most values. Parsing that many holds the event loop for 2 ms; 64 KiB of tiny values
would hold it for 20 ms."""

PIECE_BYTES = 4096
"""A larger body waits for its turn, so that one of several clients at a time has its JSON parsed."""

MAX_SMALL_BYTES = 512
"""The longest body where few fields are taken, or none. It is parsed before anything is known of who sends it."""

MAX_PARAMETERS = 2 * MAX_DROPS
"""Parsing the query of 8 KiB that has 4,000 empty parameters would hold the event loop for 5 ms."""

MAX_NAMED_FIELDS = 5
MAX_NAME_LENGTH = 100
"""Of more unknown fields an error names MAX_NAMED_FIELDS and says how many follow. A longer name is cut."""

MAX_ITEM_FIELDS = 20
"""The most fields of an object within a list, if the body is larger than MAX_SMALL_BYTES. None has that many, so the error does
not say which ones are unknown."""

Body = TypeVar("Body", bound=BaseModel)


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this name, which is in lower case. Faster than Starlette's Headers, and every request needs some."""
    value = (scope.get(HEADERS) or headers_of(scope)).get(name)
    return None if value is None else value.decode("latin-1")


def _all(scope: Scope, name: bytes) -> list[bytes]:
    return [value for each, value in scope["headers"] if each == name]


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers by name, the first of each name."""
    headers: dict[bytes, bytes] | None = scope.get(HEADERS)
    if headers is None:
        headers = scope[HEADERS] = dict(reversed(scope["headers"]))
    return headers


def request_id_of(scope: Scope) -> str:
    """The X-Request-Id that the client gave, or a new one. It is no secret, so it need not be hard to guess."""
    given = header(scope, b"x-request-id")
    return given if given is not None and REQUEST_ID.fullmatch(given) else randbytes(16).hex()  # noqa: S311 - see above


def parse_uuid(name: str, value: str) -> str:
    """A UUID in its canonical form of 36 characters, in lower case; raises VALIDATION_ERROR naming the field."""
    if not CANONICAL_UUID.fullmatch(value):
        raise invalid(name, "must be a UUID such as 0190b6c5-7d3e-7abc-9def-0123456789ab")
    return value.lower()


def uuid_in_path(request: Request, name: str) -> str:
    """The path parameter `name`; raises VALIDATION_ERROR."""
    return parse_uuid(name, request.path_params[name])


def idempotency_key(scope: Scope) -> str | None:
    """The Idempotency-Key header, if there is one; raises VALIDATION_ERROR, also for two of them, because either may count."""
    key = header(scope, b"idempotency-key")
    if key is None:
        return None
    if len(_all(scope, b"idempotency-key")) > 1:
        raise invalid("Idempotency-Key", "must not be sent twice")
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return key


def check_query(query_string: bytes, parameters: Iterable[Schema]) -> None:
    """Refuse a query with a parameter that is not among these, or with one twice that is no array. Raises VALIDATION_ERROR."""
    check_number_of_parameters(query_string)
    known = {parameter["name"]: parameter["schema"] for parameter in parameters if parameter["in"] == "query"}
    seen = set()
    for name, _ in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise invalid(_shortened(name) or "query", "is not a parameter here")
        if name in seen and known[name].get("type") != "array":
            raise invalid(name, "must not be given twice")
        seen.add(name)


def check_number_of_parameters(query_string: bytes) -> None:
    """Refuse a query that would take long to parse. Raises VALIDATION_ERROR."""
    if query_string.count(b"&") >= MAX_PARAMETERS:
        raise invalid("query", f"must not have more than {MAX_PARAMETERS} parameters")


def choice_in_query(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """The query parameter `name`, one of the choices, if there is one. Raises VALIDATION_ERROR."""
    value = request.query_params.get(name)
    if value is not None and value not in choices:
        raise invalid(name, f"must be one of {', '.join(choices)}")
    return value


def uuid_in_query(request: Request, name: str) -> str | None:
    """The query parameter `name`, if there is one. Raises VALIDATION_ERROR."""
    value = request.query_params.get(name)
    return None if value is None else parse_uuid(name, value)


def activity_seconds(request: Request) -> int:
    """How far back the activity is wanted. Raises VALIDATION_ERROR."""
    seconds = request.query_params.get("seconds", str(DEFAULT_ACTIVITY_SECONDS))
    if not SECONDS.fullmatch(seconds) or not 1 <= int(seconds) <= MAX_ACTIVITY_SECONDS:
        raise invalid("seconds", f"must be a whole number from 1 to {MAX_ACTIVITY_SECONDS}")
    return int(seconds)


def limit_and_cursor(request: Request, cursors: re.Pattern[str] = CANONICAL_UUID) -> tuple[int, str | None]:
    """Which page of a list is wanted: how many rows, and after which cursor. Raises VALIDATION_ERROR."""
    limit, cursor = request.query_params.get("limit", str(DEFAULT_LIMIT)), request.query_params.get("cursor")
    if not LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise invalid("limit", f"must be a whole number from 1 to {MAX_LIMIT}")
    if cursor is not None and not cursors.fullmatch(cursor):
        raise invalid("cursor", "must be the nextCursor of a page")
    return int(limit), cursor


async def read_optional_body(request: Request, model: type[Body]) -> Body:
    """The body as `model`, or what an empty body means to it. Raises as read_body does.

    Most requests have none, so it is not awaited.
    """
    return optional_body(request.scope, await read_bytes(request) if has_body(request.scope) else b"", model)


def optional_body(scope: Scope, body: bytes, model: type[Body]) -> Body:
    """The same of a body that has arrived."""
    if not body:
        empty: Body = _empty(model)
        return empty
    _check_media_type(scope)
    if len(body) > MAX_SMALL_BYTES:
        raise invalid("body", f"must not be larger than {MAX_SMALL_BYTES} bytes here")
    return cast(Body, _known_body(body, model))


@lru_cache(maxsize=1024)
def _known_body(body: bytes, model: type[BaseModel]) -> BaseModel:
    # Most bodies of buyers name one of few sizes, and parsing one takes as long as parsing its head. Nobody changes a body.
    return parse_json(body, model)


@cache
def _empty(model: type[BaseModel]) -> Any:
    return model()


def has_body(scope: Scope) -> bool:
    """Whether the request announces a body."""
    return header(scope, b"transfer-encoding") is not None or header(scope, b"content-length") not in {None, "0"}


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body as `model`, strictly: raises VALIDATION_ERROR, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE."""
    body = await read_bytes(request)
    if len(body) > PIECE_BYTES:
        return await in_turn(lambda: required_body(request.scope, body, model))
    return required_body(request.scope, body, model)


def required_body(scope: Scope, body: bytes, model: type[Body]) -> Body:
    """The same of a body that has arrived."""
    if body:
        _check_media_type(scope)
    return parse_json(body or b"{}", model)


def parse_json(raw: str | bytes, model: type[Body]) -> Body:
    """JSON as `model`, strictly: raises VALIDATION_ERROR."""
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
        if text.count(",") > MAX_COMMAS:
            raise invalid("body", f"must not have more than {MAX_COMMAS} commas")
        value = DECODER.decode(text)
    except JSONDecodeError as error:
        raise invalid("body", f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise invalid("body", "is not UTF-8") from None
    except RecursionError:
        raise invalid("body", "is nested too deeply") from None
    unnamed = 0
    if isinstance(value, dict):
        if len(text) > MAX_SMALL_BYTES:
            _refuse_large_items(value)
        unnamed = _leave_out_unknown(value, model)
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        reasons = sorted({f"{_name(detail)}: {_reason(detail)}" for detail in error.errors(include_url=False)})
        if unnamed:
            reasons.append(f"{unnamed} more are not fields here")
        raise Refusal(400, "VALIDATION_ERROR", "; ".join(reasons)) from None


def _leave_out_unknown(value: dict[str, Any], model: type[BaseModel]) -> int:
    # Leave out the fields that would make an error too long, or too slow to make. Returns how many they are.
    if len(value) <= MAX_NAMED_FIELDS:
        return 0
    known = model.model_fields
    surplus = [name for name in value if name not in known][MAX_NAMED_FIELDS:]
    for name in surplus:
        del value[name]
    return len(surplus)


def _refuse_large_items(value: dict[str, Any]) -> None:
    for name, items in value.items():
        for n, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict) and len(item) > MAX_ITEM_FIELDS:
                raise invalid(f"{_shortened(name)}.{n}", f"must not have more than {MAX_ITEM_FIELDS} fields")


async def expect_no_body(request: Request) -> None:
    """Refuse a body that has fields; no body and {} are accepted. Raises as read_body does."""
    await read_optional_body(request, NoFields)


class NoFields(BaseModel, extra="forbid"):
    """The body of an endpoint that takes none."""


async def read_bytes(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body as it is. Raises PAYLOAD_TOO_LARGE."""
    # A body that is a little too large is read to its end and dropped, because a client that is still sending does not see the
    # answer.
    most_read_bytes = 16 * MAX_BODY_BYTES
    body = bytearray()
    received_bytes = int(header(request.scope, b"content-length") or 0)
    has_more = received_bytes <= most_read_bytes
    if has_more:
        received_bytes = 0
    while has_more and received_bytes <= most_read_bytes:
        received = await request.receive()
        if received["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = received.get("body", b"")
        received_bytes += len(chunk)
        if received_bytes <= max_bytes:
            body += chunk
        has_more = received.get("more_body", False)
    if received_bytes > max_bytes:
        message = f"body: must not be larger than {max_bytes} bytes"
        raise RefusalWithHeaders(413, "PAYLOAD_TOO_LARGE", message, {"connection": "close"})
    return bytes(body)


def check_coding(scope: Scope) -> None:
    """Refuse a body with a Content-Encoding. Raises UNSUPPORTED_MEDIA_TYPE."""
    # A proxy or a filter may look at another one of two headers, so each one counts.
    if {coding.strip().lower() for coding in _all(scope, b"content-encoding")} - {b"", b"identity"}:
        message = "Content-Encoding: must not be given, because bodies are not decoded"
        raise RefusalWithHeaders(415, "UNSUPPORTED_MEDIA_TYPE", message, {"accept-encoding": "identity"})


def _check_media_type(scope: Scope) -> None:
    headers = headers_of(scope)
    is_plain = headers.get(b"content-type") == b"application/json" and b"content-encoding" not in headers
    if is_plain and len(headers) == len(scope["headers"]):  # none came twice
        return
    check_coding(scope)
    # Of two headers each one counts here, too.
    content_types = [each.partition(b";")[0].strip().lower() for each in _all(scope, b"content-type")]
    if content_types != [b"application/json"]:
        reason = "must not be given twice" if len(content_types) > 1 else "must be application/json"
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", f"Content-Type: {reason}")


# Decimal keeps every digit of a number, so that nothing is rounded before it is checked. An exponent of more than 17 digits,
# which even Decimal may not hold, and an integer of more than 19 digits become values that no field accepts. The length of the
# exponent is checked, because raising thousands of exceptions would hold the event loop.
def _decimal(text: str) -> Decimal:
    exponent = text.lower().partition("e")[2]
    return Decimal(text if len(exponent.lstrip("+-")) <= 17 else "Infinity")


def _integer(text: str) -> int | Decimal:
    return int(text[:40])  # one with more digits is too large anyway


def _refuse_constant(name: str) -> None:
    raise invalid("body", f"is not JSON: {name} is not a number there")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise invalid("body", "must not give a field twice")
    return fields


# It is made once, because to make it takes longer than to decode a small body.
DECODER = JSONDecoder(
    parse_float=_decimal, parse_int=_integer, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
)

REASONS = {
    "bool_type": "must be true or false",
    "decimal_max_digits": "must have at most {max_digits} digits",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_whole_digits": "must have at most {whole_digits} digits before the point",
    "extra_forbidden": "is not a field here",
    "finite_number": "must be a number that can be written out",
    "greater_than_equal": "must be {ge} or more",
    "int_type": "must be a whole number",
    "is_instance_of": "must be a number",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "missing": "is required",
    "model_type": "must be a JSON object",
    "string_pattern_mismatch": "must not be blank or hold control characters, or others that cannot be in a name",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} character",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} item",
    "value_error": "{error}",
}
"""What is wrong with a value, in words for people, by pydantic's type of the error."""


def _name(detail: ErrorDetails) -> str:
    return _shortened(".".join(map(str, detail["loc"])) or "body")


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…"


def _reason(detail: ErrorDetails) -> str:
    return REASONS.get(detail["type"], "is not acceptable").format(**detail.get("ctx", {}))
