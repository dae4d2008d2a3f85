"""The contract: what each handler takes and answers, declared beside it; the OpenAPI document of that and the route table."""

import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, Generic, Literal, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema
from starlette.requests import Request

from app.context import REQUEST_ID
from app.feed import MAX_DROPS
from app.http import IDEMPOTENCY_KEY, MAX_BODY_BYTES, read_body

Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[Any], Awaitable[Any]]
"""Of a Request, what answers it with a Response; of a WebSocket, what serves it."""

Tag = Literal["drops", "reservations", "purchases", "realtime", "operations", "development"]
Caller = Literal["anyone", "user", "admin"]
Schema = dict[str, Any]


@dataclass(frozen=True)
class Raw:
    """An answer that is not in the envelope."""

    media_type: str
    schema: Schema


ERRORS: dict[str, tuple[HTTPStatus, str]] = {
    "VALIDATION_ERROR": (
        HTTPStatus.BAD_REQUEST,
        "a body, path, query or header is not acceptable; the message names the field and the reason",
    ),
    "AUTH_REQUIRED": (HTTPStatus.UNAUTHORIZED, "nobody, or nobody known, is asking"),
    "FORBIDDEN": (HTTPStatus.FORBIDDEN, "this takes a token with the claim `role: admin`"),
    "DROP_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such drop"),
    "RESERVATION_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such reservation, or it is not yours"),
    "PURCHASE_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such purchase"),
    "NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is nothing at this path"),
    "METHOD_NOT_ALLOWED": (HTTPStatus.METHOD_NOT_ALLOWED, "the path has other methods; see `Allow`"),
    "DROP_NOT_ACTIVE": (HTTPStatus.CONFLICT, "the drop has not started, has ended or was cancelled"),
    "OUT_OF_STOCK": (HTTPStatus.CONFLICT, "every unit is held or sold"),
    "ALREADY_RESERVED": (HTTPStatus.CONFLICT, "you hold a unit of this drop already"),
    "NO_ACTIVE_RESERVATION": (HTTPStatus.CONFLICT, "you hold no unit to purchase"),
    "RESERVATION_EXPIRED": (HTTPStatus.CONFLICT, "your hold has just run out; the unit went back"),
    "RESERVATION_NOT_ACTIVE": (HTTPStatus.CONFLICT, "this reservation was consumed, was cancelled or expired"),
    "INVALID_STATUS_CHANGE": (HTTPStatus.CONFLICT, "the drop cannot move to that status"),
    "STOCK_BELOW_COMMITTED": (HTTPStatus.CONFLICT, "`total_stock` would be less than the units held and sold"),
    "USERNAME_TAKEN": (HTTPStatus.CONFLICT, "another user has this name"),
    "PAYLOAD_TOO_LARGE": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body over {MAX_BODY_BYTES // 1024} KiB"),
    "UNSUPPORTED_MEDIA_TYPE": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body that is not JSON"),
    "RATE_LIMITED": (HTTPStatus.TOO_MANY_REQUESTS, "more requests, or streams, than one user or address may have"),
    "INTERNAL_ERROR": (HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of ours; quote the request id"),
    "OVERLOADED": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too many requests wait, or streams are open, already; this one was not begun",
    ),
    "IDENTITY_UNAVAILABLE": (HTTPStatus.SERVICE_UNAVAILABLE, "the keys that tokens are verified with cannot be fetched"),
    "DATABASE_UNAVAILABLE": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the database cannot serve right now, and may or may not have done it: repeat it with the same `Idempotency-Key`",
    ),
}
"""Every code that an answer can have: its status, and when. A test compares them with the database's and with the README."""

TAGS: dict[Tag, str] = {
    "drops": "What is sold.",
    "reservations": "Units held, for a while.",
    "purchases": "Units bought.",
    "realtime": "What commits, as it happens.",
    "operations": "For those who run it.",
    "development": "Helpers that production does not have.",
}

ABOUT = """Lastpair sells limited drops without ever overselling.

Every path under `/api` is there under `/api/v1`, too. Where there is a GET there is a HEAD. Times are ISO 8601 with an
offset, a price is a number with at most two decimals. Bodies are strict: an unknown field, or a value of another type or out
of bounds, is refused, never trimmed, rounded or converted.

An answer's `requestId` is the request's `X-Request-Id` if that is 1 to 128 of `A-Z a-z 0-9 . _ -`, else it is made. Use
`error.code` to tell errors apart; the message is for people.

<details><summary>What can go wrong</summary>

| status | code | when |
|---|---|---|
%s

</details>
"""

PATH_PARAMETER = re.compile(r"{(\w+)}")
CAMEL_CASE = re.compile("_(.)")
READS = frozenset({"GET", "HEAD"})
RETRIED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it safe to repeat the request: it counts once for each user, drop and key.",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"},
}
USER_ID: Schema = {
    "type": "apiKey",
    "in": "header",
    "name": "X-User-Id",
    "description": "Any UUID: a user who is missing is made in development, and named by the header X-User-Name if there is one.",
}
BEARER: Schema = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The user is the token's subject (`sub`, a UUID), and is made on first use.",
}
EVENT_ID: Schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
STREAM_PARAMETERS: tuple[Schema, ...] = (
    {
        "name": "dropId",
        "in": "query",
        "description": "Only these drops, whatever their status.",
        "schema": {"type": "array", "items": {"type": "string", "format": "uuid"}, "maxItems": MAX_DROPS},
    },
    {
        "name": "lastEventId",
        "in": "query",
        "description": "Go on after this event: no SNAPSHOT, but all that came since.",
        "schema": EVENT_ID,
    },
    {"name": "Last-Event-ID", "in": "header", "description": "The same; it goes first.", "schema": EVENT_ID},
    {
        "name": "snapshot",
        "in": "query",
        "description": "`false` is without SNAPSHOT.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
)
"""What the two transports of events take."""

EVENT_STREAM = Raw("text/event-stream", {"type": "string", "description": "For each event `event`, `id`, and `data` in JSON."})
HEADERS: dict[str, Schema] = {
    "X-Request-Id": {
        "description": "The request's id, to be quoted.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$", "examples": ["0f3d8a52c6b14e7f9a1d2b3c4e5f6a70"]},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Idempotency-Replayed": {
        "description": "This request was served before.",
        "required": True,
        "schema": {"type": "string", "const": "true"},
    },
}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


META: Schema = {"$ref": "#/components/schemas/Meta"}
MESSAGE: Schema = {"type": "string", "minLength": 1, "description": "For people."}


@dataclass(frozen=True)
class Operation:
    """A handler, and what there is to know about it."""

    handler: Handler
    tag: Tag
    answers: Mapping[int, Mapping[str, Any] | Raw | None]
    """By status: the data by its names and types, something that is not in the envelope, or nothing."""

    codes: tuple[str, ...]
    """With what it can be refused besides what its other properties let expect."""

    caller: Caller
    is_idempotent: bool
    """Does it take an Idempotency-Key?"""

    needs_database: bool

    parameters: tuple[Schema, ...]
    """Those in the query and in headers of its own."""

    body: type[BaseModel] | None = None


@dataclass(frozen=True)
class OperationWithBody(Operation, Generic[Body]):
    """One that takes a body."""

    body: type[Body]

    async def read(self, request: Request) -> Body:
        """The body, strictly: raises VALIDATION_ERROR, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE."""
        return await read_body(request, self.body)


def operation(
    tag: Tag,
    answers: Mapping[int, Mapping[str, Any] | Raw | None],
    *codes: str,
    caller: Caller = "anyone",
    is_idempotent: bool = False,
    needs_database: bool = True,
    parameters: Iterable[Schema] = (),
) -> Callable[[Handler], Operation]:
    """Declare a handler. The first line of its docstring is the summary, the rest the description."""

    def declare(handler: Handler) -> Operation:
        return Operation(handler, tag, answers, codes, caller, is_idempotent, needs_database, tuple(parameters))

    return declare


def takes(body: type[Body]) -> Callable[[Operation], OperationWithBody[Body]]:
    """Declare its body, which it gets by `read`."""

    def declare(operation: Operation) -> OperationWithBody[Body]:
        return OperationWithBody(**vars(operation) | {"body": body})

    return declare


def document(table: Mapping[str, Mapping[str, Operation]], *, is_jwt: bool) -> bytes:
    """The OpenAPI document of these paths, each with its operations by method, as JSON."""
    operations = [operation for by_method in table.values() for operation in by_method.values()]
    schemas, definitions = _schemas(operations)
    names = Counter[str]()
    paths: Schema = {}
    for path, by_method in table.items():
        paths[path] = {"parameters": [_path_parameter(name) for name in PATH_PARAMETER.findall(path)]}
        for method, operation in by_method.items():
            name = CAMEL_CASE.sub(lambda match: match[1].upper(), operation.handler.__name__)
            names[name] += 1
            paths[path][method.lower()] = {
                "operationId": name if names[name] == 1 else f"{name}{names[name]}",
                **_described(operation, is_jwt),
                **_taken(operation),
                "responses": _answers(operation, schemas) | _errors(_codes(operation, path, method, is_jwt)),
            }
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Lastpair", "version": "1", "description": ABOUT % _error_table()},
            "tags": [
                {"name": name, "description": description}
                for name, description in TAGS.items()
                if any(operation.tag == name for operation in operations)
            ],
            "paths": paths,
            "components": {
                "schemas": definitions | {"Meta": _object(requestId=HEADERS["X-Request-Id"]["schema"])},
                "headers": HEADERS,
                "securitySchemes": {"user": BEARER if is_jwt else USER_ID},
            },
        }
    )


class _Generator(GenerateJsonSchema):
    """Schemas as people would write them: without titles, and without defaults, which only the service knows."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, JsonSchemaValue], dict[str, Schema]]:
    # The schema of each type that is taken or answered, and those that they refer to.
    modes: dict[Any, JsonSchemaMode] = {}
    for operation in operations:
        for answer in operation.answers.values():
            if isinstance(answer, Mapping):
                modes |= dict.fromkeys(answer.values(), "serialization")
        if operation.body is not None:
            modes[operation.body] = "validation"
    found, rest = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in modes.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    definitions: dict[str, Schema] = rest["$defs"]
    for definition in definitions.values():
        definition.pop("title")  # its name once more
    return {kind: schema for (kind, _), schema in found.items()}, definitions


def _described(operation: Operation, is_jwt: bool) -> Schema:
    summary, _, description = cleandoc(operation.handler.__doc__ or "").partition("\n")
    if operation.caller == "admin" and is_jwt:
        description += "\n\nTakes a token with the claim `role: admin`."
    said = {"tags": [operation.tag], "summary": summary.removesuffix("."), "description": description.strip()}
    return said if operation.caller == "anyone" else said | {"security": [{"user": []}]}


def _taken(operation: Operation) -> Schema:
    taken: Schema = {"parameters": [*([KEY] if operation.is_idempotent else []), *operation.parameters]}
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        taken["requestBody"] = {"required": True, **_json(schema)}
    return taken


def _path_parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _answers(operation: Operation, schemas: Mapping[Any, Schema]) -> Schema:
    answers = {}
    for status, answer in operation.answers.items():
        is_replay = operation.is_idempotent and status == HTTPStatus.OK
        answers[str(status)] = _answer(HTTPStatus(status).phrase, "Idempotency-Replayed" if is_replay else None)
        if is_replay:
            answers[str(status)]["description"] = "A repeat of this Idempotency-Key: what the first request made, as it is now"
        if isinstance(answer, Raw):
            answers[str(status)]["content"] = {answer.media_type: {"schema": answer.schema}}
        elif answer is not None:
            data = _object(**{name: schemas[kind] for name, kind in answer.items()})
            schema = _object(success={"type": "boolean", "const": True}, data=data, meta=META)
            answers[str(status)] |= _json(schema)
    return answers


def _codes(operation: Operation, path: str, method: str, is_jwt: bool) -> set[str]:
    codes = {"VALIDATION_ERROR", "INTERNAL_ERROR", *operation.codes}  # the former of a URL that is too long, if of nothing else
    if operation.needs_database:
        codes |= {"DATABASE_UNAVAILABLE", "OVERLOADED"}
    if PATH_PARAMETER.search(path):
        codes.add("NOT_FOUND")  # a slash in a parameter makes it another path
    if method not in READS:  # where no body is taken, none but {} may be sent
        codes |= {"PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "RATE_LIMITED"}
    if operation.caller != "anyone":
        codes |= {"AUTH_REQUIRED", *(["IDENTITY_UNAVAILABLE"] if is_jwt else [])}
    if operation.caller == "admin" and is_jwt:
        codes.add("FORBIDDEN")
    return codes


def _errors(codes: set[str]) -> Schema:
    by_status = defaultdict(list)
    for code, (status, _) in ERRORS.items():
        if code in codes:
            by_status[status].append(code)
    assert codes == {code for of_status in by_status.values() for code in of_status}, codes  # noqa: S101 - declared in ERRORS
    errors = {}
    for status, of_status in by_status.items():
        description = "\n".join(f"- `{code}`: {ERRORS[code][1]}" for code in of_status)
        error = _object(code={"type": "string", "enum": of_status}, message=MESSAGE)
        schema = _object(success={"type": "boolean", "const": False}, error=error, meta=META)
        errors[str(status.value)] = _answer(description, "Retry-After" if status in RETRIED else None) | _json(schema)
    return errors


def _answer(description: str, header: str | None) -> Schema:
    names = ["X-Request-Id", *([header] if header else [])]
    return {"description": description, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _error_table() -> str:
    return "\n".join(f"| {status.value} | `{code}` | {when} |" for code, (status, when) in ERRORS.items())
