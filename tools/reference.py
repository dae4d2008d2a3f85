"""Writes docs/reference.md and .env.example from the code: `make reference`. test_reference.py compares them with the code.

Tables come from the settings, the parser of the command line, the OpenAPI contract, the errors and the events. The prose between
them stands here, because it belongs to no single line of code.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

import orjson
from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.routing import Route, WebSocketRoute

from lastpair.cli import parser
from lastpair.realtime.event import EVENTS
from lastpair.settings import Settings
from lastpair.web.error_codes import ERRORS
from lastpair.web.openapi import TAGS, document
from lastpair.web.operation import Operation, Raw, Schema
from lastpair.web.routes import operations_of, routes
from tests.support.servers import ROOT

REFERENCE = ROOT / "docs" / "reference.md"
EXAMPLE = ROOT / ".env.example"

HEAD = """<!-- `make reference` writes this page from the code. Change the code, or tools/reference.py. -->

# Reference

- [Endpoints](#endpoints): [parameters](#parameters), [answers](#answers), [repeated requests](#repeated-requests),
  [who is asking](#who-is-asking), [bodies](#bodies), [rows](#rows)
- [Errors](#errors)
- [Events](#events)
- [Settings](#settings)
- [Commands](#commands)
"""

ENDPOINTS = """
## Endpoints

The base path is `/api`, and `/api/v1` is the same. Every GET has a HEAD. `/docs` shows the endpoints and lets you try them;
`/api/openapi.json` describes them for programs (OpenAPI 3.1), with the events of the streams. The dashboard is at `/`, the
page of a drop at `/drops/{dropId}`.

Programs make clients of the contract: `npx openapi-typescript http://localhost:4000/api/openapi.json -o lastpair.ts`, or
`openapi-python-client generate --url http://localhost:4000/api/openapi.json`. The tests do both, and call the service.
"""

PARAMETERS = """
### Parameters

An id in a path is a UUID. These are the parameters in queries and headers. An unknown query parameter, or one that is given twice
(except `dropId`), is a 400. The headers that name a user are [below](#who-is-asking).
"""

ANSWERS = """
### Answers

Every answer except a stream, a page, CSV, the contract and the metrics is one of these two:

```
{ "success": true,  "data": {…}, "meta": { "requestId": "…" } }
{ "success": false, "error": { "code": "OUT_OF_STOCK", "message": "…" }, "meta": { "requestId": "…" } }
```

A list comes in pages. If more rows follow, `meta` has `nextCursor` besides, which is the `cursor` of the next page. If a node of
the service cannot be reached, its rows are missing, and `meta` has `incomplete`, such as `["node 2"]`.

If a basket is refused (`BASKET_REFUSED`), `error` has `items` besides: `index` (from 0 on), `code` and `message` of each item
that cannot be held.

Times are ISO 8601 with an offset from UTC. An amount of money is a number with as many decimals as its currency has: two of USD,
none of JPY, three of KWD.

`requestId` repeats the header `X-Request-Id` of the request if that has 1 to 128 of `A-Z a-z 0-9 . _ -`, and is made otherwise.
These are the headers of answers; each operation of the contract says which ones its answers have:
"""

REPEATED = """
### Repeated requests

A POST may be repeated if it has an `Idempotency-Key`: 1 to 255 visible ASCII characters, which the client chooses anew for each
request. The request is carried out once. A repeat is answered with 200, with what the first request made, as it is now, and with
the header `Idempotency-Replayed: true`. If the first request was refused, it made nothing, and a repeat is a new try.

| request | a key counts once for each | it is kept |
|---|---|---|
| `POST /api/drops/{dropId}/reserve` | user and drop | with the reservation |
| `POST /api/drops/{dropId}/purchase` | user and drop | with the purchase |
| `POST /api/baskets` | user | with the basket |
| every other POST | user, whichever of these requests it came with | a day |

(`POST /api/internal/users` of development names no user, so there a key counts once for all.) A key that comes again with
another request is 422 `IDEMPOTENCY_KEY_REUSED`, and two headers `Idempotency-Key` are a 400. The DELETE of a reservation or a
basket needs no key, because a repeat changes nothing.
"""

IDENTITY = """
### Who is asking

With `AUTH_MODE=header`, the default in development, the header `X-User-Id: <uuid>` names the user. A missing user is made, with
the name in `X-User-Name`, or else `user-<first 8 hex digits of the id>`. Production refuses to start with this mode.

With `AUTH_MODE=jwt` the user is the subject of the token in `Authorization: Bearer …`, and `X-User-Id` has no effect. The token
must be signed with the key of the settings, and the kind of the key alone decides the algorithm. The token must have `exp`,
`JWT_ISSUER` as `iss`, `JWT_AUDIENCE` as `aud` or among several, and a `sub` of 1 to 255 characters. If its header has a
`typ`, that must be `JWT` or `at+jwt`. Its claims `typ`, `type`, `token_type` and `token_use` must not say that it is a refresh,
offline, logout or ID token. Clocks may differ by 10 s. The message of a 401 says what is wrong. `lastpair token` signs a token
with `JWT_SECRET`.

A `sub` that is a UUID is the user's id. Any other one becomes a UUIDv5 of issuer and subject, so that a user always has the same
id; in PostgreSQL: `uuid_generate_v5(uuid_generate_v5(uuid_ns_url(), iss), sub)`. The user is made on first use, with the name in
the claim `JWT_NAME_CLAIM`, by default `preferred_username`, if that is a name (1 to 200 characters; a taken one gets a suffix).
If a later token has another name there, the user gets it soon after that request.

An admin is a user whose token has `admin` in the claim `JWT_ROLE_CLAIM`, by default `role: admin`. The claim is a string, or a
list of strings; a string is not split at its spaces. `JWT_ROLE_CLAIM` is the exact name of a claim
(`https://lastpair.example/roles`) or else a path (`realm_access.roles`).

The keys of `JWT_JWKS_URL` go by the token's `kid`. They are fetched when a token names an unknown key, at most every 10 s, and
again while they are in use: a new key works within 10 seconds, and a removed key stops working within 5 minutes. While they
cannot be fetched, the known keys remain valid.
"""

BODIES = """
### Bodies

A body is JSON (`Content-Type: application/json`). Bodies are strict: an unknown field, an empty PATCH, or a value of another type
or out of bounds is refused, and never trimmed, rounded or converted. Optional fields may be left out.

A body has at most 64 KiB (413). [ReserveBody](#reservebody), [PurchaseBody](#purchasebody) and [CancelDropBody](#canceldropbody)
may be left out as a whole, and have at most 512 bytes (400). A POST or DELETE that takes no body may have `{}`, within the same
512 bytes.

A drop has **terms**:

- `currency`: that of its prices. Without one it is `DEFAULT_CURRENCY`. It cannot be changed.
- `limit_per_user`: how many units of the drop, of all variants together, a user may hold and have bought. null: any number.
- `hold_seconds`: how long a hold lasts. null: `RESERVATION_TTL_SECONDS`.
- `rehold_after_seconds`: how long a user whose hold, or its payment, expired or was cancelled waits before the next one. 0: not
  at all.
- `extension_seconds`: by how much a user may extend a hold, once. null: not at all.

`image_url` is a picture of the drop, for the [buyer's page](../README.md#the-buyers-page): an https URL, or a path on this host,
of characters that a URL has (others are percent-encoded). http is for `localhost` and `127.0.0.1`, in development.

`near` is the id of another drop. One basket can have both, also where drops are spread over several databases. It is not stored.
"""

ROWS = """
### Rows

The fields have the names of the columns in the database.
"""

ERRORS_HEAD = """
## Errors

Use `code` to tell errors apart; the message is for people. [`api.errors()`](../db/functions/inventory/errors.sql) has the
refusals of the database, with the same codes and statuses, for callers in SQL as well. 429 and 503 come with `Retry-After`, in
seconds.
"""

EVENTS_HEAD = """
## Events

`GET /api/events` sends Server-Sent Events. The WebSocket `/api/ws` sends the same as text frames `{ "type", "id", "data" }`;
there a client may send `{ "type": "drops:join", "dropId": "…" }` and `drops:leave` to choose its drops.
[realtime.md](realtime.md) says what a client can rely on. Each event has a schema in `/api/openapi.json`: `Event` is any of them,
`StockUpdated` is STOCK_UPDATED and `StockUpdatedData` its data, and so on.
"""

SETTINGS_HEAD = """
## Settings

Settings come from the environment or from a file `.env` in the working directory; the environment goes first. An empty variable
counts as not set. A bad value stops the start with a line that names the variable. [operations.md](operations.md#every-setting)
says which ones an operator has to decide.
"""

COMMANDS_HEAD = """
## Commands

Without `DATABASE_URL` every command that needs a database starts the embedded one, or joins it if it runs. An error is one line
on standard error, and exit code 1; wrong arguments have exit code 2. `audit` has exit code 1 only if an invariant is violated.
If nobody reads a command's output any more, it ends with exit code 141. `psql` needs PostgreSQL's client or the extra
`lastpair[embedded]`, and `schema` needs the extra; the other commands need no program of PostgreSQL.
"""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join(["", lines[0], "|" + "---|" * len(head), *lines[1:], ""])


def settings_rows() -> Iterator[tuple[str, ...]]:
    """The variable, its default, the values it takes, and its description."""
    for name, field in Settings.model_fields.items():
        yield f"`{name.upper()}`", default_of(field), values_of(field), field.description or ""


def default_of(field: FieldInfo) -> str:
    """The default of a setting; empty when it has none."""
    return "" if field.default in (None, []) else f"`{field.default}`"


def values_of(field: FieldInfo) -> str:
    """The values that a setting takes, if its type says so."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    low = [bound.ge for bound in field.metadata if isinstance(bound, Ge)]
    high = [bound.le for bound in field.metadata if isinstance(bound, Le)]
    return f"{low[0]} to {high[0]:,}" if low and high else ""  # type: ignore[str-bytes-safe]


def example() -> str:
    """.env.example: a commented line for each setting, with its default or an example."""
    lines = ["# Copy this file to .env. Every line shows the default or an example. docs/reference.md explains each setting.", ""]
    for name, field in Settings.model_fields.items():
        value = (field.examples or [""])[0] if field.default in (None, []) else field.default
        lines.append(f"# {name.upper()}={value}")
    return "\n".join([*lines, ""])


def command_rows() -> Iterator[tuple[str, ...]]:
    """The command, its options, and its description; one that has actions is in several rows."""
    yield from _rows_of_commands(parser(), "lastpair")


def _rows_of_commands(parent: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, ...]]:
    [commands] = [action for action in parent._actions if isinstance(action, argparse._SubParsersAction)]
    for word, command in commands.choices.items():
        if any(isinstance(action, argparse._SubParsersAction) for action in command._actions):
            yield from _rows_of_commands(command, f"{name} {word}")
            continue
        options = [option for option in command._actions if option.dest != "help"]
        described = "".join(f"<br>`{(*option.option_strings, option.metavar)[0]}`: {option.help}" for option in options)
        yield f"`{name} {word}`", f"{command.description}{described}"


def operations() -> dict[str, dict[str, Operation]]:
    """The operations in development, which has all of them, by path and method."""
    table = [route for route in routes(Settings.model_construct()) if isinstance(route, Route | WebSocketRoute)]
    shown = [route for route in table if not route.path.startswith("/api/v1") and is_operation(route)]
    return operations_of(shown)


def is_operation(route: Route | WebSocketRoute) -> bool:
    """Whether the contract describes the route; it does not describe pages."""
    return isinstance(route, WebSocketRoute) or hasattr(route.endpoint, "operations")


@cache
def contract() -> Schema:
    """The contract of the operations in development, as the service shows it."""
    parsed: Schema = orjson.loads(document(operations(), is_jwt=False))
    return parsed


def endpoint_rows(tag: str) -> Iterator[tuple[str, ...]]:
    """The endpoint, who may call it, what it takes, the data of its answers by status, and its description."""
    endpoints: dict[Any, list[str]] = {}
    found: dict[Any, tuple[Operation, str]] = {}
    for path, by_method in operations().items():
        for method, operation in by_method.items():
            if operation.tag == tag:
                endpoints.setdefault(operation.handler, []).append(f"`{method} {path}`")
                found[operation.handler] = operation, taken_by(contract()["paths"][path][method.lower()])
    for handler, (operation, taken) in found.items():
        about = " ".join(cleandoc(handler.__doc__).split())
        answers = "<br>".join(f"{status} {data_of(answer)}".strip() for status, answer in operation.answers.items())
        yield "<br>".join(endpoints[handler]), operation.caller, taken, answers, about


def taken_by(operation: Schema) -> str:
    """The body and the parameters of an operation of the contract."""
    names = [f"`{given['name']}`" for given in operation["parameters"]]
    if "requestBody" in operation:
        body = name_in(operation["requestBody"]["content"]["application/json"]["schema"])
        names.insert(0, f"body [{body}](#{body.lower()})")
    return ", ".join(names)


def data_of(answer: Mapping[str, Any] | Raw | None) -> str:
    """What an answer contains: the names of its data, and of their rows."""
    if answer is None:
        return ""
    if isinstance(answer, Raw):
        return answer.media_type.partition(";")[0]
    return f"`{{ {', '.join(f'{name}{row_of(kind)}' for name, kind in answer.items())} }}`"


def row_of(kind: Any) -> str:
    """Which row a field of an answer is, or a list of which; empty if it is none."""
    if get_origin(kind) is list:
        return f": [{get_args(kind)[0].__name__}]"
    return f": {kind.__name__}" if isinstance(kind, type) and issubclass(kind, BaseModel) else ""


def parameter_rows() -> Iterator[tuple[str, ...]]:
    """Each parameter in a query or a header: its name, where it stands, its values, and its description."""
    seen = set()
    for operation in contract_operations():
        for given in operation["parameters"]:
            schema = given["schema"]
            values = "; ".join([type_of(schema), *bounds_of(schema)])
            row = (f"`{given['name']}`", given["in"], values, given["description"])
            if row not in seen:
                seen.add(row)
                yield row


def header_rows() -> Iterator[tuple[str, ...]]:
    """Each header of an answer that the contract has."""
    for name, header in contract()["components"]["headers"].items():
        yield f"`{name}`", header["description"]


def contract_operations() -> list[Schema]:
    """The operations of the contract, in the order of the tags."""
    of_paths = [item[method] for item in contract()["paths"].values() for method in item if method != "parameters"]
    return [operation for tag in TAGS for operation in of_paths if operation["tags"] == [tag]]


def name_in(reference_to: Schema) -> str:
    """The name of the schema that `$ref` names."""
    return str(reference_to["$ref"].rpartition("/")[2])


def referred_to(reference_to: Schema) -> Schema:
    """The schema that `$ref` names."""
    found: Schema = contract()["components"]["schemas"][name_in(reference_to)]
    return found


def models_in(part: Any) -> Iterator[str]:
    """The names of the schemas of objects that a part of the contract refers to, each before those within it."""
    if isinstance(part, dict):
        if "$ref" in part:
            if part["$ref"].startswith("#/components/schemas/") and "properties" in referred_to(part):
                yield name_in(part)
                yield from models_in(referred_to(part))
        else:
            for value in part.values():
                yield from models_in(value)
    elif isinstance(part, list):
        for value in part:
            yield from models_in(value)


def bodies() -> list[str]:
    """The schemas of bodies, in the order of the operations."""
    return list(dict.fromkeys(name for each in contract_operations() for name in models_in(each.get("requestBody"))))


def rows() -> list[str]:
    """The schemas of rows, in the order of the operations, each behind the one that it extends."""
    answers = [answer for each in contract_operations() for answer in data_in(each["responses"])]
    named = dict.fromkeys(name for data in answers for name in models_in(data))
    return list(dict.fromkeys(each for name in named for each in (base_of(name, named), name) if each is not None))


def data_in(responses: Schema) -> Iterator[Schema]:
    """The schema of the data of each answer that succeeds and has the envelope."""
    for response in responses.values():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in schema and "data" in referred_to(schema).get("properties", {}):
            yield referred_to(schema)["properties"]["data"]


def base_of(name: str, others: Iterable[str]) -> str | None:
    """The one of the others whose fields the schema has all, and more; None if there is none."""
    schemas = contract()["components"]["schemas"]
    fields = schemas[name]["properties"]
    return next((other for other in others if schemas[other]["properties"].items() < fields.items()), None)


def model(name: str, *, is_body: bool) -> str:
    """The title, the description and the table of a body or a row. A row that extends another one has only its own fields."""
    schemas = contract()["components"]["schemas"]
    schema = schemas[name]
    fields = schema["properties"]
    base = base_of(name, rows())
    about = " ".join(schema["description"].split())
    if base is not None:
        fields = {field: fields[field] for field in fields if field not in schemas[base]["properties"]}
        about += f" It has all fields of [{base}](#{base.lower()}), and these:"
    optional = set(fields) - set(schema.get("required", [])) if is_body else set()
    return f"\n#### {name}\n\n{about}\n" + table(("field", "type", ""), field_rows(fields, optional))


def field_rows(fields: Schema, optional: set[str]) -> Iterator[tuple[str, ...]]:
    """The fields of a body or a row: name, type, and what else its schema says."""
    for name, field in fields.items():
        kinds = field.get("anyOf", [field])
        types = " or ".join(type_of(kind) for kind in kinds)
        said = dict.fromkeys(each["description"] for each in (field, *kinds) if "description" in each)
        known = (["optional"] if name in optional else []) + [bound for kind in kinds for bound in bounds_of(kind)]
        yield f"`{name}`", types, "; ".join([*known, *said])


BOUNDS = {
    "minimum": "at least {:,}",
    "maximum": "at most {:,}",
    "maxLength": "at most {:,} characters",
    "minItems": "at least {:,}",
    "maxItems": "at most {:,}",
}
DECIMALS = "no more decimals than its currency has"


def bounds_of(kind: Schema) -> list[str]:
    """The bounds in a JSON schema, for people. Only amounts of money have a `multipleOf`."""
    bounds = [text.format(kind[key]) for key, text in BOUNDS.items() if key in kind]
    return [*bounds, DECIMALS] if "multipleOf" in kind else bounds


def type_of(kind: dict[str, Any]) -> str:
    """The type in a JSON schema, for people."""
    if "$ref" in kind and "enum" in referred_to(kind):
        kind = referred_to(kind)
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if "const" in kind:
        return f"`{kind['const']}`"
    if "$ref" in kind:
        return f"[{name_in(kind)}](#{name_in(kind).lower()})"
    if kind.get("type") == "array":
        return f"list of {type_of(kind['items'])}"
    return str({"uuid": "UUID", "date-time": "time"}.get(kind.get("format", ""), kind.get("type", "")))


def reference() -> str:
    """The whole page."""
    parts = [HEAD, ENDPOINTS]
    for tag, about in TAGS.items():
        head = ("endpoint", "caller", "takes", "answer", "what it does")
        parts += [f"\n**{tag.capitalize()}.** {about}\n", table(head, endpoint_rows(tag))]
    parts += [PARAMETERS, table(("parameter", "where", "values", ""), parameter_rows())]
    parts += [ANSWERS, table(("header", ""), header_rows()), REPEATED, IDENTITY, BODIES]
    parts += [model(name, is_body=True) for name in bodies()]
    parts.append(ROWS)
    parts += [model(name, is_body=False) for name in rows()]
    parts += [
        ERRORS_HEAD,
        table(("status", "code", "when"), [(str(status.value), f"`{code}`", when) for code, (status, when) in ERRORS.items()]),
        EVENTS_HEAD,
        table(("event", "data", "when"), [(f"`{name}`", f"`{data}`", when) for name, (data, when) in EVENTS.items()]),
        SETTINGS_HEAD,
        table(("variable", "default", "values", ""), settings_rows()),
        COMMANDS_HEAD,
        table(("command", ""), command_rows()),
    ]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).rstrip("\n") + "\n"


def main() -> None:
    """Write both files."""
    REFERENCE.write_text(reference())
    EXAMPLE.write_text(example())


if __name__ == "__main__":
    main()
