"""An operation: a handler, and what the contract says of it, declared beside it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from lastpair.realtime.feed import MAX_DROPS
from lastpair.shop.shared_calls import DEFAULT_LIMIT, BuyersRequest

Handler = Callable[[Any], Awaitable[Any]]
"""It answers a Request with a Response, or serves a WebSocket."""

Tag = Literal[
    "drops",
    "reservations",
    "baskets",
    "purchases",
    "payments",
    "providers",
    "users",
    "realtime",
    "webhooks",
    "operations",
    "development",
]
AllowedCaller = Literal["anyone", "user", "admin"]
Schema = dict[str, Any]


@dataclass(frozen=True)
class Raw:
    """An answer without the envelope."""

    media_type: str
    schema: Schema


UUID: Schema = {"type": "string", "format": "uuid"}


def reference_to(name: str) -> Schema:
    """A reference to the schema of this name in the contract."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_schema(**properties: Schema) -> Schema:
    """An object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def status_parameter(description: str, schema: str) -> Schema:
    """The parameter `status` of a list; the schema of this name has its values."""
    return {"name": "status", "in": "query", "description": description, "schema": reference_to(schema)}


def filters(status_schema: str) -> tuple[Schema, ...]:
    """The parameters that narrow a list of what belongs to a drop; the schema of this name has the statuses of its rows."""
    return (
        status_parameter("Only rows with this status.", status_schema),
        {"name": "variant_id", "in": "query", "description": "Only rows of this variant.", "schema": UUID},
        {"name": "user_id", "in": "query", "description": "Only rows of this user.", "schema": UUID},
    )


DROP_IDS: Schema = {
    "name": "dropId",
    "in": "query",
    "description": "Only these drops, in any status but draft.",
    "schema": {"type": "array", "items": {"type": "string", "format": "uuid"}, "maxItems": MAX_DROPS},
}
EVENT_ID: Schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
STREAM_PARAMETERS: tuple[Schema, ...] = (
    DROP_IDS,
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
    {
        "name": "ticket",
        "in": "query",
        "description": "A ticket of `POST /stream-tickets`: the stream also gets the events that are for its user alone.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
)
"""The parameters of both transports of events."""

MAX_ACTIVITY_SECONDS = 86_400
DEFAULT_ACTIVITY_SECONDS = 3600
ACTIVITY_PARAMETERS: tuple[Schema, ...] = (
    {
        "name": "seconds",
        "in": "query",
        "description": f"How far back; {DEFAULT_ACTIVITY_SECONDS} if it is not given.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_ACTIVITY_SECONDS},
    },
    DROP_IDS,
)

MAX_LIMIT = 200
PAGE_PARAMETERS: tuple[Schema, ...] = (
    {
        "name": "limit",
        "in": "query",
        "description": f"Rows of a page; {DEFAULT_LIMIT} if it is not given.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    },
    {
        "name": "cursor",
        "in": "query",
        "description": "The `nextCursor` of the page before. Clients do not make one.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 100},
    },
)
"""The parameters of every list that has pages."""

EVENT_STREAM = Raw(
    "text/event-stream",
    {
        "type": "string",
        "description": "For each Event: its type as `event`, its `id`, and its `data` in JSON.",
        "examples": ['event: RESERVATION_EXPIRED\nid: 42\ndata: {"dropId":"0190b6c5-…","reservationId":"0190b6c6-…"}\n\n'],
        "contentMediaType": "text/event-stream",
        "contentSchema": reference_to("Event"),
    },
)
FRAMES = Raw("application/json", reference_to("WebSocketFrame"))


@dataclass(frozen=True)
class BuyersOperation:
    """What buyers do most: reserve, purchase and cancel, and reserve baskets. Their requests share calls, and are served by
    hot_path.py if they are plain."""

    id_name: str | None
    """The parameter of the path, if it has one."""

    body: type[BaseModel]

    data: str
    """The name of what is answered."""

    request: Callable[[str, str, str | None, Any], BuyersRequest]
    """What the shop is asked for, by the user, the id in the path (or ""), the Idempotency-Key and the body."""

    takes_key: bool = True
    """Does it take an Idempotency-Key?"""

    needs_body: bool = False
    """Is an empty body an error?"""


@dataclass(frozen=True)
class SharedPage:
    """A list of which all who ask without a query get the same page, from one call. hot_path.py serves it, too."""

    data: str
    """The name of the list."""


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

    is_paged: bool
    """Is the answer a page of a list?"""

    buyers: BuyersOperation | None
    """The operation as buyers.py carries it out, if it is one of those."""

    shared_page: SharedPage | None

    offers_csv: bool
    """Is it the whole list, as CSV, to a client that prefers that?"""

    is_signed: bool
    """Is it a message that proves by a signature who sent it? Then only wrong ones are limited."""

    alias_of: str | None = None
    """The method and the path that clients are to use instead, if this is another way to the same."""


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
    is_paged: bool = False,
    buyers: BuyersOperation | None = None,
    shared_page: SharedPage | None = None,
    offers_csv: bool = False,
    is_signed: bool = False,
) -> Callable[[Handler], Operation]:
    """Declare a handler. The first line of its docstring is the summary, the rest the description."""

    def declare(handler: Handler) -> Operation:
        taken = (*parameters, *(PAGE_PARAMETERS if is_paged else ()))
        return Operation(
            *(handler, tag, answers, codes, caller, is_idempotent, needs_database, has_etag),
            *(taken, body, is_paged, buyers, shared_page, offers_csv, is_signed),
        )

    return declare
