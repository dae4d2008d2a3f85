"""The contract as an OpenAPI document, made of the operations of the route table."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from lastpair import __version__
from lastpair.web.conditions import ETAG
from lastpair.web.error_codes import ERRORS
from lastpair.web.operation import Operation, Raw, Schema, Tag
from lastpair.web.requests import IDEMPOTENCY_KEY, REQUEST_ID
from lastpair.web.url_paths import PROBE_PATHS

TAGS: dict[Tag, str] = {
    "drops": "Create, change and list drops.",
    "reservations": "Hold units for a limited time, and give them back.",
    "baskets": "Hold units of several drops together, all or none, and buy them or give them back together.",
    "purchases": "Buy held units.",
    "users": "Yourself.",
    "realtime": "Receive every committed change.",
    "operations": "For operators.",
    "development": "Helpers, in development only.",
}

ABOUT = """Lastpair sells limited drops without ever overselling.

Every path under `/api` is also served under `/api/v1`. Every GET has a HEAD. Times are ISO 8601 with an offset, a price is a
number with the decimals of its currency. Bodies are strict: an unknown field, or a value of another type or out of bounds, is
refused, never trimmed, rounded or converted. So are queries: an unknown parameter, or one that is given twice, is refused.

An answer's `requestId` is the `X-Request-Id` of the request if that has 1 to 128 of `A-Z a-z 0-9 . _ -`, and is made otherwise.
Use `error.code` to tell errors apart; the message is for people.

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


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


META: Schema = {"$ref": "#/components/schemas/Meta"}
PAGE_META: Schema = {"$ref": "#/components/schemas/PageMeta"}
NEXT_CURSOR: Schema = {
    "type": "string",
    "description": "The `cursor` of the next page; missing on the last one. Opaque: what is in it may change.",
}
MESSAGE: Schema = {"type": "string", "minLength": 1, "description": "For people."}
REFUSED_ITEMS: Schema = {
    "type": "array",
    "minItems": 1,
    "description": "The items that cannot be held.",
    "items": _object(
        index={"type": "integer", "minimum": 0, "description": "The place in the request's `items`, from 0 on."},
        code={"type": "string"},
        message=MESSAGE,
    ),
}


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
            "info": {"title": "Lastpair", "version": __version__, "description": ABOUT % _error_table()},
            "tags": [
                {"name": name, "description": description}
                for name, description in TAGS.items()
                if any(operation.tag == name for operation in operations)
            ],
            "paths": paths,
            "components": {
                "schemas": {**definitions, **_metas()},
                "headers": HEADERS,
                "securitySchemes": {"user": BEARER if is_jwt else USER_ID},
            },
        }
    )


def _metas() -> dict[str, Schema]:
    meta = _object(requestId=HEADERS["X-Request-Id"]["schema"])
    return {"Meta": meta, "PageMeta": meta | {"properties": meta["properties"] | {"nextCursor": NEXT_CURSOR}}}


class _Generator(GenerateJsonSchema):
    """Schemas without titles, which repeat the name, and without defaults, which only the service needs."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _schemas(operations: Iterable[Operation]) -> tuple[Mapping[Any, JsonSchemaValue], Mapping[str, Schema]]:
    # The schema of each type in a request or an answer, and the definitions that these refer to.
    modes: dict[Any, JsonSchemaMode] = {}
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
        definition.pop("title")  # the title repeats the name
    return {kind: schema for (kind, _), schema in found.items()}, definitions


def _described(operation: Operation, is_jwt: bool) -> Schema:
    summary, _, description = cleandoc(operation.handler.__doc__ or "").partition("\n")
    if operation.caller == "admin" and is_jwt:
        description += "\n\nTakes a token with the claim `role: admin`."
    said = {"tags": [operation.tag], "summary": summary.removesuffix("."), "description": description.strip()}
    if operation.caller != "anyone":
        return said | {"security": [{"user": []}]}
    return said | {"security": [{}, {"user": []}]} if "AUTH_REQUIRED" in operation.codes else said


def _taken(operation: Operation) -> Schema:
    taken: Schema = {"parameters": [*([KEY] if operation.is_idempotent else []), *operation.parameters]}
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
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


def _answers(operation: Operation, schemas: Mapping[Any, Schema]) -> Schema:
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
            data = _object(**{name: schemas[kind] for name, kind in answer.items()})
            meta = PAGE_META if operation.is_paged else META
            schema = _object(success={"type": "boolean", "const": True}, data=data, meta=meta)
            answers[str(status)] |= _json(schema)
            if operation.offers_csv:
                answers[str(status)]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return answers


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
    by_status = defaultdict(list)
    for code, (status, _) in ERRORS.items():
        if code in codes:
            by_status[status].append(code)
    assert codes == {code for of_status in by_status.values() for code in of_status}, codes  # noqa: S101 - declared in ERRORS
    errors = {}
    for status, of_status in by_status.items():
        description = "\n".join(f"- `{code}`: {ERRORS[code][1]}" for code in of_status)
        items = {"items": REFUSED_ITEMS} if of_status == ["BASKET_REFUSED"] else {}
        error = _object(code={"type": "string", "enum": of_status}, message=MESSAGE, **items)
        schema = _object(success={"type": "boolean", "const": False}, error=error, meta=META)
        errors[str(status.value)] = _answer(description, *(["Retry-After"] if status in RETRIED else [])) | _json(schema)
    return errors


def _answer(description: str, *headers: str) -> Schema:
    names = ["X-Request-Id", *headers]
    return {"description": description, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _error_table() -> str:
    return "\n".join(f"| {status.value} | `{code}` | {when} |" for code, (status, when) in ERRORS.items())
