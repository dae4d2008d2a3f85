"""The contract: valid, complete, as strict as the service, and of one mind with the README and the database about errors."""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import asyncpg
import httpx
import jsonschema_rs
import orjson
import pytest
import schemathesis
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from lastpair.errors import Refusal, Unavailable
from lastpair.settings import Settings
from lastpair.web.errors import ERRORS
from lastpair.web.requests import parse_json
from lastpair.web.routes import Endpoint, routes
from lastpair.web.schemas import Drop, ListedDrop, NewDrop, Purchase, Purchaser, Reservation, User
from tests.support.api import assert_error
from tests.support.servers import ROOT

Schema = dict[str, Any]

SETTINGS = {
    "header": Settings.model_construct(),
    "jwt": Settings.model_construct(auth_mode="jwt"),
    "production": Settings.model_construct(app_env="production", auth_mode="jwt"),
}
DEVELOPMENT_PATHS = {"/api/internal/users", "/api/internal/expire-now"}
RETRIED = {"429", "503"}


def contract_of(settings: Settings, base: str = "/api") -> Schema:
    """The contract that the service tells with these settings."""

    async def get() -> Schema:
        transport = httpx.ASGITransport(Starlette(routes=routes(settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            found: Schema = (await client.get(f"{base}/openapi.json")).json()
        return found

    return asyncio.run(get())


@pytest.fixture(scope="module", params=SETTINGS)
def contract(request: pytest.FixtureRequest) -> Schema:
    """Each of the documents."""
    return contract_of(SETTINGS[request.param])


def operations_of(contract: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The path, the method and what is said of it."""
    for path, item in contract["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def schemas_in(value: Any) -> Iterator[Schema]:
    """All schemas of objects in there."""
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield value
        for item in value.values():
            yield from schemas_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from schemas_in(item)


# The document


def test_it_is_openapi(contract: Schema) -> None:
    """Version 3.1, valid; and what is not would be noticed."""
    assert contract["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(contract).validate()
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(contract | {"info": {}}).validate()
    for schema in contract["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


@pytest.mark.parametrize("base", ["/api", "/api/v1"])
async def test_it_is_served(api_url: str, base: str) -> None:
    """Under both base paths, of which each tells its own."""
    async with httpx.AsyncClient(base_url=api_url) as client:
        response = await client.get(f"{base}/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == await asyncio.to_thread(contract_of, SETTINGS["header"], base)
    assert {path for path in response.json()["paths"] if not path.startswith(f"{base}/")} == {"/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_has_every_route(name: str) -> None:
    """And every method, but for the pages; the same under both base paths."""
    table = routes(SETTINGS[name])
    served = {route.path: set(route.endpoint.operations) for route in table if isinstance(route, Route) and is_endpoint(route)}
    served |= {route.path: {"GET"} for route in table if isinstance(route, WebSocketRoute)}
    told: dict[str, set[str]] = {}
    for base in ("/api", "/api/v1"):
        for path, method, _ in operations_of(contract_of(SETTINGS[name], base)):
            told.setdefault(path, set()).add(method.upper())
    assert told == served
    assert {path.replace("/v1", "") for path in told} == {path for path in told if "/v1" not in path}
    assert {path for path in told if path in DEVELOPMENT_PATHS} == (set() if name == "production" else DEVELOPMENT_PATHS)


def is_endpoint(route: Route) -> bool:
    """Is it none of the pages'?"""
    return isinstance(route.endpoint, Endpoint)


async def test_other_methods_are_refused(http: httpx.AsyncClient, api_url: str) -> None:
    """Allow lists the methods that the contract does, and HEAD where there is GET."""
    contract = (await http.get("/openapi.json")).json()
    for path, item in contract["paths"].items():
        if path != "/api/ws":
            response = await http.options(f"{api_url}{re.sub('{[^}]*}', str(uuid4()), path)}")
            assert_error(response, 405, "METHOD_NOT_ALLOWED")
            methods = {method.upper() for method in item if method != "parameters"}
            assert set(response.headers["allow"].split(", ")) == methods | ({"HEAD"} if "GET" in methods else set())


def test_every_operation_is_described(contract: Schema) -> None:
    """By an id of its own, a tag that is explained, a summary."""
    operations = list(operations_of(contract))
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids)
    assert {tag for _, _, operation in operations for tag in operation["tags"]} == {tag["name"] for tag in contract["tags"]}
    assert all(tag["description"] for tag in contract["tags"])
    for path, _, operation in operations:
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*2?", operation["operationId"])
        assert re.fullmatch(r"[A-Z].*[^.\s]", operation["summary"]), operation["summary"]
        assert set(re.findall("{(.*?)}", path)) == {given["name"] for given in contract["paths"][path]["parameters"]}


def test_every_answer_is_described(contract: Schema) -> None:
    """With its headers; all but the raw ones are in an envelope that says its codes."""
    for path, _, operation in operations_of(contract):
        has_key = any(given["name"] == "Idempotency-Key" for given in operation["parameters"])
        assert {"400", "500"} < set(operation["responses"])
        for status, response in operation["responses"].items():
            wanted = {"X-Request-Id"} | ({"Retry-After"} if status in RETRIED else set())
            wanted |= {"Idempotency-Replayed"} if has_key and status == "200" else set()
            assert set(response["headers"]) == wanted, (path, status)
            if int(status) >= 400:
                envelope = response["content"]["application/json"]["schema"]["properties"]
                codes = envelope["error"]["properties"]["code"]["enum"]
                assert codes
                assert {ERRORS[code][0] for code in codes} == {int(status)}
                assert all(code in response["description"] for code in codes)
    assert all(header["required"] for header in contract["components"]["headers"].values())


def test_nothing_unknown_is_possible(contract: Schema) -> None:
    """Every object lists its fields and allows no others; only the contract does not contain itself."""
    open_ended = [schema for schema in schemas_in(contract) if schema.get("additionalProperties") is not False]
    assert open_ended == [{"type": "object"}]


def test_who_may_call(contract: Schema, request: pytest.FixtureRequest) -> None:
    """Whoever X-User-Id or a token names, which some operations take."""
    name = request.node.callspec.params["contract"]
    scheme = contract["components"]["securitySchemes"]["user"]
    if name == "header":
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-User-Id")
    else:
        assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    of_users, of_admins = set(), set()
    for _, _, operation in operations_of(contract):
        if "security" in operation:
            of_users.add(operation["operationId"])
            assert operation["security"] == [{"user": []}]
        if "403" in operation["responses"]:
            of_admins.add(operation["operationId"])
        assert ("401" in operation["responses"]) == ("security" in operation)
    admins = {"createDrop", "updateDrop"}
    assert of_users == admins | {"reserve", "purchase", "cancel", "cancel2", "myReservations", "myPurchases"}
    assert of_admins == (set() if name == "header" else admins)


@pytest.fixture(scope="module")
def new_drop() -> jsonschema_rs.Validator:
    """The schema of a drop to be made."""
    components = contract_of(SETTINGS["header"])["components"]
    schema = {"$ref": "#/components/schemas/NewDrop", "components": components}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


DROP = {"name": "Air", "price": 1, "total_stock": 3}


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        *[({"name": name}, True) for name in ("a", "a b", "x" * 200, "\U0001f45f")],
        *[({"name": name}, False) for name in ("", " ", "a\tb", "a\n", "x" * 201, "\x7f", None, 1)],
        *[({"price": price}, True) for price in (0, 0.01, 0.29, 199.9, 9_999_999_999.99)],
        *[({"price": price}, False) for price in (-0.01, 0.001, 1.999, 10_000_000_000, "1", None)],
        *[({"total_stock": stock}, True) for stock in (1, 2**31 - 1)],
        *[({"total_stock": stock}, False) for stock in (0, -1, 2**31, 1.5, "1", None)],
        *[({"starts_at": None}, True), ({"status": None}, True), ({"status": "draft"}, True)],
        *[({"status": "ended"}, False), ({"status": "Draft"}, False), ({"colour": "red"}, False)],
        *[
            ({"starts_at": moment}, True)
            for moment in ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00.123456+05:30", "2024-02-29T00:00:00-00:00")
        ],
        *[
            ({"starts_at": moment}, False)
            for moment in (
                *["2026-12-24", "2026-12-24T18:00:00", "2026-12-24 18:00:00Z", "2026-12-24t18:00:00z", "2023-02-29T00:00:00Z"],
                *["2026-12-24T18:00:00.1234567Z", "2026-12-24T18:00:00+24:00", "2026-12-24T18:00:60Z", "", 0, "infinity"],
            )
        ],
    ],
    ids=repr,
)
def test_bodies_are_as_strict_as_the_service(new_drop: jsonschema_rs.Validator, fields: Schema, good: bool) -> None:
    """What the contract forbids the service refuses, and the reverse."""
    said = new_drop.is_valid(DROP | fields)
    try:
        parse_json(orjson.dumps(DROP | fields), NewDrop)
        done = True
    except Refusal:
        done = False
    assert (said, done) == (good, good)


# Errors


def errors_in(text: str) -> dict[str, int]:
    """The codes and statuses in a Markdown table."""
    rows = re.findall(r"^\| (\d{3}) \| ([A-Z_, `]+) \|", text, re.MULTILINE)
    return {code.strip("`"): int(status) for status, codes in rows for code in codes.split(", ")}


async def test_errors_are_the_same_everywhere(owner: asyncpg.Pool, contract: Schema) -> None:
    """In the contract, in the README, in the document; and the database's are among them."""
    known = {code: int(status) for code, (status, _) in ERRORS.items()}
    assert errors_in((ROOT / "README.md").read_text()) == known
    assert errors_in(contract["info"]["description"]) == known
    assert {row["code"]: row["status"] for row in await owner.fetch("select * from api.errors()")}.items() <= known.items()


def test_every_error_can_be_met() -> None:
    """By some operation; a wrong method is none, and refunds are for psql."""
    met = {
        code
        for _, _, operation in operations_of(contract_of(SETTINGS["jwt"]))
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["schema"]["properties"]["error"]["properties"]["code"]["enum"]
    }
    assert met == set(ERRORS) - {"METHOD_NOT_ALLOWED", "PURCHASE_NOT_FOUND"}


def refusals_in(path: Path) -> Iterator[tuple[int | None, str]]:
    """The statuses and codes that are written out in the calls of this file; None for what the class decides."""
    for call in ast.walk(ast.parse(path.read_text())):
        name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
        if isinstance(call, ast.Call) and name in {"Refusal", "Unavailable", "Busy"}:
            given = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
            given += [keyword.value.value for keyword in call.keywords if isinstance(keyword.value, ast.Constant)]
            statuses = [value for value in given if isinstance(value, int)]
            for code in (value for value in given if isinstance(value, str) and re.fullmatch("[A-Z_]+", value)):
                yield (statuses or [None])[0], code


def test_the_app_refuses_with_nothing_else() -> None:
    """Every code in its source is known, with that status; only the database says codes that are not written there."""
    found = {refusal for path in (ROOT / "app").rglob("*.py") for refusal in refusals_in(path)}
    assert {code for _, code in found} >= {"AUTH_REQUIRED", "FORBIDDEN", "RATE_LIMITED", "OVERLOADED", "IDENTITY_UNAVAILABLE"}
    for status, code in {*found, (503, Unavailable("").code)}:
        assert ERRORS[code][0] == (status or 503), code


# Rows


def columns_of(model: type[BaseModel]) -> dict[str, tuple[str, bool]]:
    """The type of each field, as PostgreSQL calls it, and whether it may be null."""
    types = {"uuid": "uuid", "date-time": "timestamp with time zone", "string": "text", "integer": "integer", "number": "numeric"}
    columns = {}
    for name, field in model.model_json_schema(mode="serialization")["properties"].items():
        kinds = field.get("anyOf", [field])
        [kind] = [kind for kind in kinds if kind.get("type") != "null"]
        columns[name] = types[kind.get("format", kind.get("type", ""))], len(kinds) > 1
    return columns


@pytest.mark.parametrize(
    ("model", "row_type", "table"),
    [
        (User, "user", "users"),
        (Drop, "drop", "drops"),
        (Reservation, "reservation", "reservations"),
        (Purchase, "purchase", "purchases"),
        (Purchaser, "purchaser", None),
    ],
)
async def test_rows_are_the_databases(owner: asyncpg.Pool, model: type[BaseModel], row_type: str, table: str | None) -> None:
    """Their fields, in order, are those of the row type; what can be null is what can be in the table."""
    attributes = await owner.fetch(
        "select attname, format_type(atttypid, null) as type from pg_attribute where attrelid = $1::regclass order by attnum",
        f'api."{row_type}"',
    )
    nullable = await owner.fetch(
        "select attname from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attnotnull",
        f"inventory.{table}",
    )
    names = {row["attname"] for row in nullable}
    assert list(columns_of(model).items()) == [(row["attname"], (row["type"], row["attname"] in names)) for row in attributes]
    if "status" in model.model_fields:
        rule = await owner.fetchval(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = $1", f"{table}_status_check"
        )
        assert set(get_args(model.model_fields["status"].annotation)) == set(re.findall("'(.*?)'", rule))


async def test_listed_drops_are_the_databases(owner: asyncpg.Pool) -> None:
    """A drop, and what `api.list_drops` adds."""
    names = await owner.fetchval("select proargnames from pg_proc where oid = 'api.list_drops'::regproc")
    assert list(ListedDrop.model_fields) == names
