"""An operation: a handler, and what the contract says of it, declared beside it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from lastpair.realtime.feed import MAX_DROPS

Handler = Callable[[Any], Awaitable[Any]]
"""It answers a Request with a Response, or serves a WebSocket."""

Tag = Literal["drops", "reservations", "purchases", "users", "realtime", "operations", "development"]
AllowedCaller = Literal["anyone", "user", "admin"]
Schema = dict[str, Any]


@dataclass(frozen=True)
class Raw:
    """An answer without the envelope."""

    media_type: str
    schema: Schema


EVENT_ID: Schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
STREAM_PARAMETERS: tuple[Schema, ...] = (
    {
        "name": "dropId",
        "in": "query",
        "description": "Only these drops, in any status but draft.",
        "schema": {"type": "array", "items": {"type": "string", "format": "uuid"}, "maxItems": MAX_DROPS},
    },
    {
        "name": "lastEventId",
        "in": "query",
        "description": "Go on after this event: no SNAPSHOT, but every event since.",
        "schema": EVENT_ID,
    },
    {"name": "Last-Event-ID", "in": "header", "description": "The same. If both are given, this one counts.", "schema": EVENT_ID},
    {
        "name": "snapshot",
        "in": "query",
        "description": "`false`: no SNAPSHOT at the beginning.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
)
"""The parameters of both transports of events."""

EVENT_STREAM = Raw("text/event-stream", {"type": "string", "description": "For each event `event`, `id`, and `data` in JSON."})


@dataclass(frozen=True)
class Operation:
    """A handler, and what the contract says of it."""

    handler: Handler
    tag: Tag
    answers: Mapping[int, Mapping[str, Any] | Raw | None]
    """By status: the names and types of the data in the envelope, an answer without the envelope, or None for no body."""

    codes: tuple[str, ...]
    """The error codes that do not follow from the other properties."""

    caller: AllowedCaller
    is_idempotent: bool
    """Does it take an Idempotency-Key?"""

    needs_database: bool

    has_etag: bool
    """Does an answer that succeeds have an ETag?"""

    parameters: tuple[Schema, ...]
    """Parameters in the query and in headers."""

    body: type[BaseModel] | None


def operation(
    tag: Tag,
    answers: Mapping[int, Mapping[str, Any] | Raw | None],
    *codes: str,
    caller: AllowedCaller = "anyone",
    is_idempotent: bool = False,
    needs_database: bool = True,
    has_etag: bool = False,
    parameters: Iterable[Schema] = (),
    body: type[BaseModel] | None = None,
) -> Callable[[Handler], Operation]:
    """Declare a handler. The first line of its docstring is the summary, the rest the description."""

    def declare(handler: Handler) -> Operation:
        return Operation(handler, tag, answers, codes, caller, is_idempotent, needs_database, has_etag, tuple(parameters), body)

    return declare
