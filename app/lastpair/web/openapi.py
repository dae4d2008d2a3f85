"""The contract as an OpenAPI document, made of the operations of the route table."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, get_args, get_origin

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from lastpair import __version__
from lastpair.web.conditions import ETAG
from lastpair.web.error_codes import ERRORS
from lastpair.web.operation import Operation, Raw, Schema, Tag, object_schema, reference_to
from lastpair.web.requests import IDEMPOTENCY_KEY, REQUEST_ID
from lastpair.web.stream_schemas import EVENT_DATA, stream_schemas
from lastpair.web.url_paths import PROBE_PATHS
from lastpair.web.webhook_schemas import WEBHOOKS, webhook_operations, webhook_schemas

TAGS: dict[Tag, str] = {
    "drops": "Create, change and list drops.",
    "reservations": "Hold units for a limited time, and give them back.",
    "baskets": "Hold units of several drops together, all or none, and buy them or give them back together.",
    "purchases": "Buy held units.",
    "payments": "Pay for purchases with the help of a payment provider.",
    "providers": "For payment providers, which tell what became of payments.",
    "users": "Yourself.",
    "realtime": "Receive every committed change.",
    "webhooks": "Tell other systems what happens.",
    "operations": "For operators.",
    "development": "Helpers, in development only.",
}

ABOUT = """Lastpair sells limited drops without ever overselling.

Every path under `/api` is also served under `/api/v1`. Each has a contract of its own, which leaves the paths of the other one
out: `/api/openapi.json` and `/api/v1/openapi.json`. Every GET has a HEAD. Times are ISO 8601 with an offset, a price is a number
with the decimals of its currency. Bodies are strict: an unknown field, or a value of another type or out of bounds, is refused,
never trimmed, rounded or converted. So are queries: an unknown parameter, or one that is given twice, is refused.

An answer's `requestId` is the `X-Request-Id` of the request if that has 1 to 128 of `A-Z a-z 0-9 . _ -`, and is made otherwise.
Use `error.code` to tell errors apart; the message is for people. Every operation lists the codes that it may answer with.

The events of the streams are the schemas `Event` and those named after each type, such as `StockUpdated`.

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
    "description": "Makes it safe to repeat the request, because a request with one key is carried out once. A key counts "
    "once for a user; that of a reserve, and that of a purchase, once for a user and a drop.",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"},
}
USER_ID: Schema = {
    "type": "apiKey",
    "in": "header",
    "name": "X-User-Id",
    "description": "Any UUID. In development a missing user is made, with the name of the header X-User-Name if there is one.",
}
BEARER: Schema = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The user is the token's subject (`sub`), and is made on first use.",
}
HEADERS: dict[str, Schema] = {
    "X-Request-Id": {
        "description": "The id of the request, to be quoted.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$", "examples": ["0f3d8a52c6b14e7f9a1d2b3c4e5f6a70"]},
    },
    "ETag": {
        "description": "The version of the drop, for If-Match and If-None-Match.",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{ETAG.pattern}$", "examples": ['"3-9f86d081884c7d65"']},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Idempotency-Replayed": {
        "description": "This request was served before.",
        "required": True,
        "schema": {"type": "string", "const": "true"},
    },
}


NEXT_CURSOR: Schema = {
    "type": "string",
    "description": "The `cursor` of the next page; missing on the last one. Opaque: what is in it may change.",
}
INCOMPLETE: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "examples": ["node 2"]},
    "description": "The nodes that cannot be reached, whose rows are missing here; it is there only if there is one.",
}
MESSAGE: Schema = {"type": "string", "minLength": 1, "description": "For people."}
RESPONSE_NAMES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "ContentTooLarge",
    415: "UnsupportedMediaType",
    422: "UnprocessableContent",
    426: "UpgradeRequired",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
"""The components in which the contract describes the errors of a status. Python's own phrases change from release to release."""

BASKET_REFUSED = "BasketRefused"
BASKET_CODES = ["BASKET_REFUSED", "BASKET_SPANS_NODES"]
"""The first one comes with the items that were refused."""

"""The component of the one error that says more than a code and a message."""

OTHER_ERROR = "OtherError"
"""The component of any other answer of an operation that has no success in HTTP: the WebSocket."""


def document(table: Mapping[str, Mapping[str, Operation]], *, is_jwt: bool) -> bytes:
    """The OpenAPI document of these paths, each with its operations by method, as JSON."""
    operations = [operation for by_method in table.values() for operation in by_method.values()]
    schemas, definitions = _schemas(operations)
    paths: Schema = {}
    answers: dict[str, Schema] = {}
    responses: dict[str, Schema] = {}
    for path, by_method in table.items():
        paths[path] = {"parameters": [_path_parameter(name) for name in PATH_PARAMETER.findall(path)]}
        for method, operation in by_method.items():
            for name, schema in _answer_schemas(operation, schemas).items():
                assert answers.setdefault(name, schema) == schema, name  # noqa: S101 - one name means one schema
            errors = _errors(_codes(operation, path, method, is_jwt))
            if HTTPStatus.SWITCHING_PROTOCOLS in operation.answers:
                errors["default"] = {"$ref": f"#/components/responses/{OTHER_ERROR}"}
            responses |= {name: _error_response(name) for name in map(_component_of, errors.values())}
            paths[path][method.lower()] = {
                "operationId": _operation_id(operation),
                **_described(operation, is_jwt),
                **_taken(operation),
                "responses": _answers(operation) | errors,
            }
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Lastpair",
                "version": __version__,
                "license": {"name": "MIT", "identifier": "MIT"},
                "description": ABOUT % _error_table(),
            },
            "servers": [{"url": "/", "description": "The server that this contract comes from."}],
            "tags": [
                {"name": name, "description": description}
                for name, description in TAGS.items()
                if any(operation.tag == name for operation in operations)
            ],
            "paths": paths,
            "webhooks": webhook_operations(),
            "components": {
                "schemas": {**definitions, **answers, **_envelope_schemas(), **stream_schemas(), **webhook_schemas()},
                "responses": responses,
                "headers": HEADERS,
                "securitySchemes": {"user": BEARER if is_jwt else USER_ID},
            },
        }
    )


def _envelope_schemas() -> dict[str, Schema]:
    # What the envelopes consist of, and that of an error.
    meta = object_schema(requestId=HEADERS["X-Request-Id"]["schema"])
    error = object_schema(code=reference_to("ErrorCode"), message=MESSAGE)
    item = object_schema(
        index={"type": "integer", "minimum": 0, "description": "The place in the request's `items`, from 0 on."},
        code=reference_to("ErrorCode"),
        message=MESSAGE,
    )
    refused = {"type": "array", "minItems": 1, "items": reference_to("RefusedItem")}
    refused_items, spans_nodes = (object_schema(code={"type": "string", "const": code}, message=MESSAGE) for code in BASKET_CODES)
    refused_items = object_schema(**refused_items["properties"], items=refused)
    return {
        "Meta": meta,
        "PageMeta": meta | {"properties": meta["properties"] | {"nextCursor": NEXT_CURSOR, "incomplete": INCOMPLETE}},
        "ErrorCode": {"type": "string", "enum": list(ERRORS)},
        "Error": error | {"description": "Why a request was refused, or failed."},
        "ErrorAnswer": _envelope(False, "error", reference_to("Error")),
        "RefusedItem": item | {"description": "An item of a basket that cannot be held."},
        "BasketError": {"oneOf": [refused_items, spans_nodes]},
        "BasketRefusedAnswer": _envelope(False, "error", reference_to("BasketError")),
    }


def _envelope(success: bool, name: str, content: Schema, meta: str = "Meta") -> Schema:
    return object_schema(success={"type": "boolean", "const": success}, **{name: content}, meta=reference_to(meta))


def _operation_id(operation: Operation) -> str:
    name = CAMEL_CASE.sub(lambda match: match[1].upper(), operation.handler.__name__)
    return f"{name}Alias" if operation.alias_of else name


class _Generator(GenerateJsonSchema):
    """Schemas without titles, which repeat the name, and without defaults, which only the service needs."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _schemas(operations: Iterable[Operation]) -> tuple[Mapping[Any, JsonSchemaValue], Mapping[str, Schema]]:
    # The schema of each type in a request or an answer, and the definitions that these refer to.
    messages = (data for data, _ in WEBHOOKS.values())
    modes: dict[Any, JsonSchemaMode] = dict.fromkeys((*EVENT_DATA.values(), *messages), "serialization")
    for operation in operations:
        for answer in operation.answers.values():
            if isinstance(answer, Mapping):
                modes |= dict.fromkeys(answer.values(), "serialization")
        if operation.body is not None:
            modes[operation.body] = "validation"
    return _schemas_of(tuple(modes.items()))


@cache  # they take 40 ms, and the same types are in the documents of all base paths
def _schemas_of(modes: tuple[tuple[Any, JsonSchemaMode], ...]) -> tuple[Mapping[Any, JsonSchemaValue], Mapping[str, Schema]]:
    found, rest = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in modes],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    definitions: dict[str, Schema] = rest["$defs"]
    for definition in definitions.values():
        definition.pop("title", None)  # the title repeats the name
    return {kind: schema for (kind, _), schema in found.items()}, definitions


def _described(operation: Operation, is_jwt: bool) -> Schema:
    summary, _, description = cleandoc(operation.handler.__doc__ or "").partition("\n")
    if operation.caller == "admin" and is_jwt:
        description += "\n\nTakes a token with the claim `role: admin`."
    said: Schema = {"tags": [operation.tag], "summary": summary.removesuffix("."), "description": description.strip()}
    if operation.alias_of:
        said |= {"description": f"Use {operation.alias_of}, which does the same.", "deprecated": True}
    if operation.caller != "anyone":
        return said | {"security": [{"user": []}]}
    return said | {"security": [{}, {"user": []}] if "AUTH_REQUIRED" in operation.codes else []}


def _taken(operation: Operation) -> Schema:
    taken: Schema = {"parameters": [*([KEY] if operation.is_idempotent else []), *operation.parameters]}
    if operation.body is not None:
        schema = reference_to(operation.body.__name__)
        taken["requestBody"] = {"required": not _may_be_empty(operation.body), **_json(schema)}
    return taken


def _may_be_empty(body: type[BaseModel]) -> bool:
    try:
        body.model_validate({})
    except ValidationError:
        return False
    return True


def _path_parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _answers(operation: Operation) -> Schema:
    answers = {}
    for status, answer in operation.answers.items():
        is_replay = operation.is_idempotent and status == HTTPStatus.OK and HTTPStatus.CREATED in operation.answers
        headers = [*(["Idempotency-Replayed"] if is_replay else []), *(["ETag"] if operation.has_etag else [])]
        answers[str(status)] = _answer(HTTPStatus(status).phrase, *headers)
        if not is_replay and status == HTTPStatus.OK and "IDEMPOTENCY_KEY_REUSED" in operation.codes:
            answers[str(status)]["headers"]["Idempotency-Replayed"] = HEADERS["Idempotency-Replayed"] | {"required": False}
        if is_replay:
            answers[str(status)]["description"] = (
                "This Idempotency-Key was used before: what the first request made, as it is now"
            )
        if operation.offers_csv:
            answers[str(status)]["description"] += "; as CSV, the whole list, with these fields as columns"
        if isinstance(answer, Raw):
            answers[str(status)]["content"] = {answer.media_type: {"schema": answer.schema}}
        elif answer is not None:
            answers[str(status)] |= _json(reference_to(_answer_name(operation, answer)))
            if operation.offers_csv:
                answers[str(status)]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return answers


def _answer_schemas(operation: Operation, schemas: Mapping[Any, Schema]) -> dict[str, Schema]:
    # The components of the operation's answers in the envelope, by name.
    meta = "PageMeta" if operation.is_paged else "Meta"
    return {
        _answer_name(operation, answer): _envelope(
            True, "data", object_schema(**{name: schemas[kind] for name, kind in answer.items()}), meta
        )
        for answer in operation.answers.values()
        if isinstance(answer, Mapping)
    }


def _answer_name(operation: Operation, answer: Mapping[str, Any]) -> str:
    # The name of the row, if the answer is one or a list of them; those of the data, if there are more with it; else that of the
    # operation.
    [kind, *others] = answer.values()
    is_list = get_origin(kind) is list
    row = get_args(kind)[0] if is_list else kind
    if isinstance(row, type) and issubclass(row, BaseModel):
        if others:
            return "".join(name.capitalize() for name in answer) + "Answer"
        return f"{row.__name__}{'Page' if operation.is_paged else 'List' if is_list else 'Answer'}"
    name = _operation_id(operation)
    return f"{name[0].upper()}{name[1:]}Answer"


def _codes(operation: Operation, path: str, method: str, is_jwt: bool) -> set[str]:
    # A URL that is too long is a VALIDATION_ERROR everywhere. What web/guard.py refuses is in the table of errors only, because
    # clients that are no browsers do not meet it.
    codes = {"VALIDATION_ERROR", "INTERNAL_ERROR", *operation.codes}
    if method not in READS or (operation.needs_database and path not in PROBE_PATHS):
        codes.add("RATE_LIMITED")
    if operation.needs_database:
        codes |= {"DATABASE_UNAVAILABLE", "OVERLOADED"}
    if PATH_PARAMETER.search(path):
        codes.add("NOT_FOUND")  # a slash in a parameter makes it another path
    if method not in READS:  # an operation without a body refuses any body but {}
        codes |= {"PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
    if operation.caller != "anyone":
        codes |= {"AUTH_REQUIRED", *(["IDENTITY_UNAVAILABLE"] if is_jwt else [])}
    if operation.caller == "admin" and is_jwt:
        codes.add("FORBIDDEN")
    return codes if is_jwt else codes - {"FORBIDDEN", "IDENTITY_UNAVAILABLE"}


def _errors(codes: set[str]) -> Schema:
    # The responses of these codes by status. What a component says of its status is said again only if not all of it is meant.
    by_status = _by_status(codes)
    assert codes == {code for of_status in by_status.values() for code in of_status}, codes  # noqa: S101 - declared in ERRORS
    errors = {}
    for status, of_status in by_status.items():
        name = BASKET_REFUSED if of_status == BASKET_CODES else RESPONSE_NAMES[status]
        errors[str(status.value)] = {"$ref": f"#/components/responses/{name}"}
        if (said := _said_of(of_status)) != _error_response(name)["description"]:
            errors[str(status.value)]["description"] = said
    return errors


def _by_status(codes: Iterable[str]) -> dict[HTTPStatus, list[str]]:
    by_status = defaultdict(list)
    for code, (status, _) in ERRORS.items():
        if code in codes:
            by_status[status].append(code)
    return by_status


def _said_of(codes: Iterable[str]) -> str:
    return "\n".join(f"- `{code}`: {ERRORS[code][1]}" for code in codes)


def _component_of(reference: Schema) -> str:
    name: str = reference["$ref"].rpartition("/")[2]
    return name


@cache
def _error_response(name: str) -> Schema:
    # The component of an error: all codes of its status, except those of a refused basket.
    if name == BASKET_REFUSED:
        return _answer(_said_of(BASKET_CODES)) | _json(reference_to("BasketRefusedAnswer"))
    if name == OTHER_ERROR:
        return _answer("Any other answer is an error as well.") | _json(reference_to("ErrorAnswer"))
    [status] = [status for status in _by_status(ERRORS) if RESPONSE_NAMES.get(status) == name]
    codes = [code for code in _by_status(ERRORS)[status] if code not in BASKET_CODES]
    return _answer(_said_of(codes), *(["Retry-After"] if status in RETRIED else [])) | _json(reference_to("ErrorAnswer"))


def _answer(description: str, *headers: str) -> Schema:
    names = ["X-Request-Id", *headers]
    return {"description": description, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _error_table() -> str:
    return "\n".join(f"| {status.value} | `{code}` | {when} |" for code, (status, when) in ERRORS.items())
