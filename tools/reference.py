"""Writes docs/reference.md and .env.example from the code: `make reference`. test_reference.py compares them with the code.

Tables come from the settings, the parser of the command line, the route table, the errors and the events. The prose between them
stands here, because it belongs to no single line of code.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo
from starlette.routing import Route, WebSocketRoute

from lastpair.cli import parser
from lastpair.realtime.event import EVENTS
from lastpair.settings import Settings
from lastpair.web.error_codes import ERRORS
from lastpair.web.openapi import TAGS
from lastpair.web.operation import STREAM_PARAMETERS, Operation, Raw
from lastpair.web.routes import operations_of, routes
from lastpair.web.schemas import (
    ActivityFeed,
    Basket,
    BasketItem,
    Drop,
    DropChanges,
    NewBasket,
    NewDrop,
    NewUser,
    Purchase,
    Purchaser,
    Reservation,
    User,
)
from tests.support.servers import ROOT

REFERENCE = ROOT / "docs" / "reference.md"
EXAMPLE = ROOT / ".env.example"

HEAD = """<!-- `make reference` writes this page from the code. Change the code, or tools/reference.py. -->

# Reference

- [Endpoints](#endpoints): [answers](#answers), [who is asking](#who-is-asking), [bodies](#bodies), [rows](#rows)
- [Errors](#errors)
- [Events](#events)
- [Settings](#settings)
- [Commands](#commands)
"""

ENDPOINTS = """
## Endpoints

The base path is `/api`, and `/api/v1` is the same. Every GET has a HEAD. `/docs` shows the endpoints and lets you try them;
`/api/openapi.json` describes them for programs (OpenAPI 3.1). The dashboard is at `/`.
"""

ANSWERS = """
### Answers

Every answer except a stream, a page, the contract and the metrics is one of these two:

```
{ "success": true,  "data": {…}, "meta": { "requestId": "…" } }
{ "success": false, "error": { "code": "OUT_OF_STOCK", "message": "…" }, "meta": { "requestId": "…" } }
```

If a basket is refused (`BASKET_REFUSED`), `error` has `items` besides: `index` (from 0 on), `code` and `message` of each item
that cannot be held.

`requestId` repeats the header `X-Request-Id` of the request if that has 1 to 128 of `A-Z a-z 0-9 . _ -`, and is made otherwise.
It comes back as a header as well. Times are ISO 8601 with an offset from UTC. A price is a number with at most two decimals.

With `Idempotency-Key` a request may be repeated: it counts once for each user, drop and key. A repeat answers 200 with what the
first request made, as it is now, and the header `Idempotency-Replayed: true`.
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
`preferred_username` if that is a name (1 to 200 characters; a taken one gets a suffix).

An admin is a user whose token has `admin` in the claim `JWT_ROLE_CLAIM`, by default `role: admin`. The claim is a string, or a
list of strings; a string is not split at its spaces. `JWT_ROLE_CLAIM` is the exact name of a claim
(`https://lastpair.example/roles`) or else a path (`realm_access.roles`).

The keys of `JWT_JWKS_URL` go by the token's `kid`. They are fetched when a token names an unknown key, at most every 10 s, and
again while they are in use: a new key works within 10 seconds, and a removed key stops working within 5 minutes. While they
cannot be fetched, the known keys remain valid.
"""

BODIES = """
### Bodies

A body is JSON (`Content-Type: application/json`) of at most 64 KiB. Bodies are strict: an unknown field, an empty PATCH, or a
value of another type or out of bounds is refused, and never trimmed, rounded or converted. Fields with a default may be left
out.
"""

ROWS = """
### Rows

The fields have the names of the columns in the database. A drop in `GET /api/drops` has the field `activity_feed` besides.
"""

ERRORS_HEAD = """
## Errors

Use `code` to tell errors apart; the message is for people. [`api.errors()`](../db/functions/api/errors.sql) defines the
refusals of the database, with the same codes and statuses, for callers in SQL as well. 429 and 503 come with `Retry-After`, in
seconds.
"""

EVENTS_HEAD = """
## Events

`GET /api/events` sends Server-Sent Events. The WebSocket `/api/ws` sends the same as text frames `{ "type", "id", "data" }`;
there a client may send `{ "type": "drops:join", "dropId": "…" }` and `drops:leave` to choose its drops.
[realtime.md](realtime.md) says what a client can rely on.
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
    """The command, its options, and its description."""
    [commands] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        options = [option for option in command._actions if option.dest != "help"]
        described = "".join(f"<br>`{option.option_strings[0]}`: {option.help}" for option in options)
        yield f"`lastpair {name}`", f"{command.description}{described}"


def operations() -> dict[str, dict[str, Operation]]:
    """The operations in development, which has all of them, by path and method."""
    table = [route for route in routes(Settings.model_construct()) if isinstance(route, Route | WebSocketRoute)]
    shown = [route for route in table if not route.path.startswith("/api/v1") and is_operation(route)]
    return operations_of(shown)


def is_operation(route: Route | WebSocketRoute) -> bool:
    """Whether the contract describes the route; it does not describe pages."""
    return isinstance(route, WebSocketRoute) or hasattr(route.endpoint, "operations")


def endpoint_rows(tag: str) -> Iterator[tuple[str, ...]]:
    """The endpoint, who may call it, the data of its answers by status, and its description."""
    endpoints: dict[Any, list[str]] = {}
    found: dict[Any, Operation] = {}
    for path, by_method in operations().items():
        for method, operation in by_method.items():
            if operation.tag == tag:
                endpoints.setdefault(operation.handler, []).append(f"`{method} {path}`")
                found[operation.handler] = operation
    for handler, operation in found.items():
        key = " Takes an `Idempotency-Key`." if operation.is_idempotent else ""
        about = " ".join(cleandoc(handler.__doc__).split())
        answers = "<br>".join(f"{status} {data_of(answer)}".strip() for status, answer in operation.answers.items())
        yield "<br>".join(endpoints[handler]), operation.caller, answers, about + key


def data_of(answer: Mapping[str, Any] | Raw | None) -> str:
    """What an answer contains."""
    if answer is None:
        return ""
    return answer.media_type.partition(";")[0] if isinstance(answer, Raw) else f"`{{ {', '.join(answer)} }}`"


def field_rows(model: Any, mode: Literal["validation", "serialization"]) -> Iterator[tuple[str, ...]]:
    """The fields of a body or a row: name, type, and what else its schema says."""
    schema = model.model_json_schema(mode=mode)
    for name, field in schema["properties"].items():
        kinds = field.get("anyOf", [field])
        types = " or ".join(type_of(kind) for kind in kinds)
        bounds = [text.format(kind[key]) for kind in kinds for key, text in BOUNDS.items() if key in kind]
        optional = ["optional"] if mode == "validation" and name not in schema.get("required", []) else []
        yield f"`{name}`", types, "; ".join([*optional, *bounds, *([field["description"]] if "description" in field else [])])


BOUNDS = {
    "minimum": "at least {:,}",
    "maximum": "at most {:,}",
    "maxLength": "at most {:,} characters",
    "multipleOf": "a multiple of {:,}",
}


def type_of(kind: dict[str, Any]) -> str:
    """The type in a JSON schema, for people."""
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if "const" in kind:
        return f"`{kind['const']}`"
    if "$ref" in kind:
        return str(kind["$ref"].rpartition("/")[2])
    if kind.get("type") == "array":
        return f"list of {type_of(kind['items'])}"
    return str({"uuid": "UUID", "date-time": "time"}.get(kind.get("format", ""), kind.get("type", "")))


def reference() -> str:
    """The whole page."""
    parts = [HEAD, ENDPOINTS]
    for tag, about in TAGS.items():
        rows = list(endpoint_rows(tag))
        parts += [f"\n**{tag.capitalize()}.** {about}\n", table(("endpoint", "caller", "answer", "what it does"), rows)]
    parts += [
        "\nThe streams take these parameters:\n",
        table(
            ("parameter", "where", ""),
            [(f"`{given['name']}`", given["in"], given["description"]) for given in STREAM_PARAMETERS],
        ),
        ANSWERS,
        IDENTITY,
        BODIES,
    ]
    for body in (NewDrop, DropChanges, NewBasket, BasketItem, NewUser):
        parts += [f"\n**{body.__name__}.** {body.__doc__}\n", table(("field", "type", ""), field_rows(body, "validation"))]
    parts.append(ROWS)
    for row in (Drop, ActivityFeed, Purchaser, Reservation, Basket, Purchase, User):
        parts += [f"\n**{row.__name__}.** {row.__doc__}\n", table(("field", "type", ""), field_rows(row, "serialization"))]
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
