"""The contract: valid, complete, as strict as the service, and the same as the docs and the database about errors and rows."""

import ast
import asyncio
import re
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Any, get_args

import asyncpg
import httpx
import jsonschema_rs
import orjson
import pytest
import schemathesis
from pydantic import BaseModel
from starlette.routing import Route, WebSocketRoute

from lastpair import __version__
from lastpair.errors import Refusal, Unavailable
from lastpair.settings import Settings
from lastpair.web.error_codes import ERRORS
from lastpair.web.requests import parse_json
from lastpair.web.routes import Endpoint, routes
from lastpair.web.schemas import Drop, ListedDrop, NewDrop, Purchase, Purchaser, Reservation, User, Variant
from tests.support.in_process import contract_of
from tests.support.servers import ROOT

Schema = dict[str, Any]

SETTINGS = {
    "header": Settings.model_construct(),
    "jwt": Settings.model_construct(auth_mode="jwt"),
    "production": Settings.model_construct(app_env="production", auth_mode="jwt"),
    "payments": Settings.model_construct(app_env="production", auth_mode="jwt", payment_provider="webhook"),
}
DOCUMENTED = ROOT / "docs" / "reference.md"
if not DOCUMENTED.exists():
    DOCUMENTED = ROOT / "README.md"
DEVELOPMENT_PATHS = {"/api/internal/users", "/api/internal/expire-now"}
RUSH_PATHS = {"/api/internal/rush"}  # in development without tokens
RETRIED = {"429", "503"}
CODES = {
    400: ["VALIDATION_ERROR"],
    401: ["AUTH_REQUIRED", "SIGNATURE_INVALID", "TICKET_INVALID"],
    403: ["FORBIDDEN"],
    404: [
        *["NOT_FOUND", "DROP_NOT_FOUND", "RESERVATION_NOT_FOUND", "VARIANT_NOT_FOUND", "PURCHASE_NOT_FOUND", "BASKET_NOT_FOUND"],
        *["WEBHOOK_ENDPOINT_NOT_FOUND", "WEBHOOK_DELIVERY_NOT_FOUND"],
        *["PAYMENT_NOT_FOUND", "PROVIDER_CALL_NOT_FOUND"],
    ],
    405: ["METHOD_NOT_ALLOWED"],
    409: [
        *["DROP_NOT_ACTIVE", "OUT_OF_STOCK", "ALREADY_RESERVED", "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED"],
        *["RESERVATION_NOT_ACTIVE", "INVALID_STATUS_CHANGE", "STOCK_BELOW_COMMITTED", "USERNAME_TAKEN", "LIMIT_EXCEEDED"],
        *["RESERVED_TOO_SOON", "SEVERAL_RESERVATIONS", "VARIANT_IN_USE", "BASKET_REFUSED", "BASKET_NOT_ACTIVE"],
        *["RUSH_RUNNING", "SEVERAL_CURRENCIES", "BASKET_SPANS_NODES"],
        *["EXTENSION_NOT_ALLOWED", "WEBHOOK_ENDPOINT_INACTIVE", "TOO_MANY_WEBHOOK_ENDPOINTS"],
    ],
    412: ["DROP_CHANGED"],
    413: ["PAYLOAD_TOO_LARGE"],
    415: ["UNSUPPORTED_MEDIA_TYPE"],
    421: ["MISDIRECTED_REQUEST"],
    422: ["IDEMPOTENCY_KEY_REUSED"],
    426: ["UPGRADE_REQUIRED"],
    429: ["RATE_LIMITED"],
    500: ["INTERNAL_ERROR"],
    503: ["OVERLOADED", "IDENTITY_UNAVAILABLE", "DATABASE_UNAVAILABLE"],
}
STATUSES = {code: status for status, codes in CODES.items() for code in codes}
OF_ONE_DROP = {"cancelDrop", "createDrop", "updateDrop", "getDrop"}
OF_THE_SERVICE = {
    *["FORBIDDEN", "NOT_FOUND", "METHOD_NOT_ALLOWED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "RATE_LIMITED"],
    *["INTERNAL_ERROR", "MISDIRECTED_REQUEST", "OVERLOADED", "IDENTITY_UNAVAILABLE", "DATABASE_UNAVAILABLE", "UPGRADE_REQUIRED"],
    *["RUSH_RUNNING", "SIGNATURE_INVALID"],
}
"""The codes that the service refuses with by itself; the database knows FORBIDDEN as well."""

OF_BOTH = {"VALIDATION_ERROR", "AUTH_REQUIRED", "IDEMPOTENCY_KEY_REUSED", "TICKET_INVALID"}
"""The codes that the service refuses with, too: the third one of a rush, which is no matter of the database, the last one of what
cannot be a ticket."""


@pytest.fixture(scope="module")
def contracts() -> dict[str, Schema]:
    """The documents by the name of their settings."""
    return {name: contract_of(settings) for name, settings in SETTINGS.items()}


@pytest.fixture(params=SETTINGS)
def contract(contracts: dict[str, Schema], request: pytest.FixtureRequest) -> Schema:
    """Each of the documents."""
    return contracts[request.param]


def operations_of(contract: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The path and the method of each operation, and its description."""
    for path, item in contract["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def responses_of(contract: Schema, operation: Schema) -> Iterator[tuple[str, Schema]]:
    """The responses of an operation by status; one that refers to a component is that component, with its own description."""
    for status, response in operation["responses"].items():
        name = response.get("$ref", "").rpartition("/")[2]
        if status != "default":
            yield status, (contract["components"]["responses"][name] if name else {}) | response


def codes_in(response: Schema) -> list[str]:
    """The codes that the description of an error lists."""
    return re.findall(r"^- `([A-Z_]+)`: ", response["description"], re.MULTILINE)


def schemas_in(value: Any) -> Iterator[Schema]:
    """All schemas of objects in this part of the contract."""
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
    """The document is valid OpenAPI 3.1 with the service's version; the validator would notice what is not."""
    assert (contract["openapi"], contract["info"]["version"]) == ("3.1.0", __version__)
    schemathesis.openapi.from_dict(contract).validate()
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(contract | {"info": {}}).validate()
    for schema in contract["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


@pytest.mark.parametrize("base", ["/api", "/api/v1"])
async def test_it_is_served(api_url: str, base: str) -> None:
    """The contract is served under both base paths; each document lists the paths under its own base."""
    async with httpx.AsyncClient(base_url=api_url) as client:
        response = await client.get(f"{base}/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == await asyncio.to_thread(contract_of, SETTINGS["header"], base)
    assert {path for path in response.json()["paths"] if not path.startswith(f"{base}/")} == {"/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_has_every_route(name: str) -> None:
    """The contract has every path and method of the route table but the pages, and the same under both base paths."""
    table = routes(SETTINGS[name])
    endpoints = [route for route in table if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)]
    served = {route.path: set(route.endpoint.operations) for route in endpoints}
    served |= {route.path: {"GET"} for route in table if isinstance(route, WebSocketRoute)}
    told: dict[str, set[str]] = {}
    for base in ("/api", "/api/v1"):
        for path, method, _ in operations_of(contract_of(SETTINGS[name], base)):
            told.setdefault(path, set()).add(method.upper())
    assert told == served
    assert {path.replace("/v1", "") for path in told} == {path for path in told if "/v1" not in path}
    assert {path for path in told if path in DEVELOPMENT_PATHS} == (DEVELOPMENT_PATHS if name in {"header", "jwt"} else set())
    assert {path for path in told if path in RUSH_PATHS} == (RUSH_PATHS if name == "header" else set())


def test_every_operation_is_described(contract: Schema) -> None:
    """Every operation has an id of its own, a tag that is explained, a summary, and its path's parameters."""
    operations = list(operations_of(contract))
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids)
    assert {tag for _, _, operation in operations for tag in operation["tags"]} == {tag["name"] for tag in contract["tags"]}
    assert all(tag["description"] for tag in contract["tags"])
    for path, _, operation in operations:
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", operation["operationId"])
        assert re.fullmatch(r"[A-Z].*[^.\s]", operation["summary"]), operation["summary"]
        assert set(re.findall("{(.*?)}", path)) == {given["name"] for given in contract["paths"][path]["parameters"]}


def test_bodies_that_may_be_missing(contract: Schema) -> None:
    """A body is required unless an empty one is accepted."""
    bodies = {operation["operationId"]: operation.get("requestBody") for _, _, operation in operations_of(contract)}
    optional = {name for name, body in bodies.items() if body and not body["required"]}
    assert optional == {"reserve", "purchase", "cancelDrop", "refundPurchase"}


def test_every_answer_is_described(contract: Schema) -> None:
    """Every answer lists its headers, and every error the codes that it may have."""
    for path, _, operation in operations_of(contract):
        may_be_replayed = "422" in operation["responses"]
        assert {"400", "500"} < set(operation["responses"])
        for status, response in responses_of(contract, operation):
            wanted = {"X-Request-Id"} | ({"Retry-After"} if status in RETRIED else set())
            wanted |= {"Idempotency-Replayed"} if may_be_replayed and status == "200" else set()
            wanted |= {"ETag"} if operation["operationId"] in OF_ONE_DROP and int(status) < 400 else set()
            assert set(response["headers"]) == wanted, (path, status)
            if int(status) >= 400:
                codes = codes_in(response)
                assert codes
                assert {ERRORS[code][0] for code in codes} == {int(status)}
                of_basket = codes == ["BASKET_REFUSED", "BASKET_SPANS_NODES"]
                name = "BasketRefusedAnswer" if of_basket else "ErrorAnswer"
                assert response["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    assert all(header["required"] for header in contract["components"]["headers"].values())


def test_amounts_of_answers(contract: Schema) -> None:
    """A validator that divides in floating point finds nothing wrong with an amount: 19.9 / 0.001 is 19899.999999999996 there."""
    schemas = contract["components"]["schemas"]
    answers = ["Variant", *(name for name, schema in schemas.items() if "createdAt" in schema.get("properties", {}))]
    assert "Drop" in answers
    assert [name for name in answers if "multipleOf" in dumps(schemas[name])] == []


def test_nothing_unknown_is_possible(contract: Schema) -> None:
    """Every object lists its fields and allows no others; only the contract's own answer, and details of a history, do not."""
    open_ended = [schema for schema in schemas_in(contract) if schema.get("additionalProperties", True) is True]
    assert [schema for schema in open_ended if "additionalProperties" not in schema] == [{"type": "object"}]
    histories = [contract["components"]["schemas"][name] for name in ("DropChange", "ReservationChange")]
    details = [history["properties"]["details"] for history in histories]
    assert all(schema in details for schema in open_ended if "additionalProperties" in schema)


@pytest.mark.parametrize("name", SETTINGS)
def test_allowed_callers(contracts: dict[str, Schema], name: str) -> None:
    """The contract says how a user is named, which operations need one, and which need an admin."""
    contract = contracts[name]
    scheme = contract["components"]["securitySchemes"]["user"]
    if name == "header":
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-User-Id")
    else:
        assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    by_id = {operation["operationId"]: operation for _, _, operation in operations_of(contract)}
    of_users = {operation_id for operation_id, operation in by_id.items() if operation["security"] == [{"user": []}]}
    admins = {"createDrop", "updateDrop", "cancelDrop", "getDropHistory", "refundPurchase"}
    admins |= {"listReservationsOfDrop", "listPurchasesOfDrop", "listPaymentsOfDrop", "getMoneyOfDrop", "listPaymentProblems"}
    admins |= {"listProviderCallsOfDrop", "retryProviderCall"}
    admins |= {"createWebhookEndpoint", "listWebhookEndpoints", "getWebhookEndpoint", "updateWebhookEndpoint"}
    admins |= {"deleteWebhookEndpoint", "rotateWebhookSecret", "sendTestWebhook", "listWebhookDeliveries"}
    admins |= {"replayWebhookDelivery"}
    readers = {"getReservation", "getReservationHistory", "getPurchase"}
    buyers = {"reserve", "purchase", "cancelReservation", "cancelReservationAlias", "extendReservation"}
    buyers |= {"listMyReservations", "listMyPurchases", "forgetMe", "getPayment", "cancelPayment", "createStreamTicket"}
    of_baskets = {"reserveBasket", "purchaseBasket", "cancelBasket", "getBasket"}
    assert of_users == admins | readers | buyers | of_baskets
    of_either = {"listDrops", "getDrop"}  # drafts are the admin's
    of_either |= {"streamEvents", "openWebsocket"}  # what is for one user
    assert all(by_id[operation_id]["security"] == [{}, {"user": []}] for operation_id in of_either)
    of_providers = {"receiveFromStripe", "receiveFromProvider"}  # they sign
    refused = {operation_id for operation_id, operation in by_id.items() if "401" in operation["responses"]}
    assert refused == of_users | of_either | of_providers
    assert {operation_id for operation_id, operation in by_id.items() if operation["security"]} == of_users | of_either
    of_admins = {operation_id for operation_id, operation in by_id.items() if "403" in operation["responses"]}
    assert of_admins == (set() if name == "header" else admins | {"listDrops"})


@pytest.fixture(scope="module")
def new_drop(contracts: dict[str, Schema]) -> jsonschema_rs.Validator:
    """The schema of a drop to be made."""
    schema = {"$ref": "#/components/schemas/NewDrop", "components": contracts["header"]["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


DROP = {"name": "Air", "price": 1, "total_stock": 3}


GOOD: dict[str, list[Any]] = {
    "name": ["a", "a b", "x" * 200, "\U0001f45f"],
    "price": [0, 0.01, 0.29, 199.9, 1.999, 9_999_999_999.99],
    "total_stock": [1, 2**31 - 1, None],
    "variants": [None, [{"name": "42", "total_stock": 1}, {"name": "43", "total_stock": 2, "price": 1.5}]],
    "currency": [None, "JPY"],
    "limit_per_user": [None, 1],
    "hold_seconds": [None, 1, 86_400],
    "rehold_after_seconds": [0, 86_400],
    "extension_seconds": [None, 86_400],
    "image_url": [None, "https://x.example", "https://x.example:8443/a%20b?c#d", "/shoe.jpg", "http://localhost:4000/a"],
    "near": [None, "01a202a2-e18f-7d92-8fac-e3384b7a3441"],
    "starts_at": [None, "2026-12-24T18:00:00Z", "2026-12-24T18:00:00.123456+05:30", "2024-02-29T00:00:00-00:00"],
    "status": [None, "draft"],
}
BAD: dict[str, list[Any]] = {
    "name": ["", " ", "a\tb", "a\n", "x" * 201, "\x7f", None, 1],
    "price": [-0.01, 0.0001, 1.9999, 10_000_000_000, "1", None],
    "total_stock": [0, -1, 2**31, 1.5, "1"],
    "variants": [[], {}, "42", [{"name": "42"}], [{"total_stock": 1}], [{"name": "42", "total_stock": 1, "id": "x"}]],
    "currency": ["", "usd", "USDT", "US$", 840],
    "limit_per_user": [0, 1.5, "1"],
    "hold_seconds": [0, 86_401, "60"],
    "rehold_after_seconds": [-1, 86_401, None],
    "extension_seconds": [0, 86_401],
    "image_url": [
        *["", "shoe.jpg", "//x.example/a", "/\\x.example", "http://x.example/a", "https://u@x.example/", "https://x.example?a"],
        *["javascript:alert(1)", "data:image/png;base64,AA", "/a b", '/"', "/é", "/a\n", "/" + "a" * 2000, 1],
    ],
    "near": ["", "Air", 1],
    "starts_at": [
        *["2026-12-24", "2026-12-24T18:00:00", "2026-12-24 18:00:00Z", "2026-12-24t18:00:00z", "2023-02-29T00:00:00Z"],
        *["2026-12-24T18:00:00.1234567Z", "2026-12-24T18:00:00+24:00", "2026-12-24T18:00:60Z", "", 0, "infinity"],
    ],
    "status": ["ended", "Draft"],
    "colour": ["red"],
}


@pytest.mark.parametrize(
    ("field", "value", "good"),
    [
        (field, value, good)
        for values_of, good in ((GOOD, True), (BAD, False))
        for field, values in values_of.items()
        for value in values
    ],
)
def test_bodies_are_as_strict_as_the_service(new_drop: jsonschema_rs.Validator, field: str, value: Any, good: bool) -> None:
    """The contract forbids exactly what the service refuses."""
    body = DROP | {field: value}
    try:
        parse_json(orjson.dumps(body), NewDrop)
        done = True
    except Refusal:
        done = False
    assert (new_drop.is_valid(body), done) == (good, good)


# Errors


def errors_in(text: str) -> dict[str, int]:
    """The codes and statuses in a Markdown table."""
    rows = re.findall(r"^\| (\d{3}) \| ([A-Z_, `]+) \|", text, re.MULTILINE)
    return {code.strip("`"): int(status) for status, codes in rows for code in codes.split(", ")}


async def test_errors_are_the_same_everywhere(owner: asyncpg.Pool, contract: Schema) -> None:
    """The service, the docs, the contract and the database have the same codes and statuses, and a sentence for each."""
    assert {code: int(status) for code, (status, _) in ERRORS.items()} == STATUSES
    assert errors_in(DOCUMENTED.read_text()) == STATUSES
    assert errors_in(contract["info"]["description"]) == STATUSES
    rows = await owner.fetch("select * from api.errors()")
    assert {row["code"]: row["status"] for row in rows} == {
        code: status for code, status in STATUSES.items() if code not in OF_THE_SERVICE - {"FORBIDDEN"}
    }
    assert all(row["message"].endswith(".") for row in rows)


def test_every_error_can_be_met(contracts: dict[str, Schema]) -> None:
    """Every code belongs to an operation, except those of a wrong method and a wrong Host."""
    met = {
        code
        for contract in (contracts["jwt"], contracts["header"], contracts["payments"])
        for _, _, operation in operations_of(contract)
        for status, response in responses_of(contract, operation)
        if int(status) >= 400
        for code in codes_in(response)
    }
    assert met == set(ERRORS) - {"METHOD_NOT_ALLOWED", "MISDIRECTED_REQUEST"}


def refusals_in(path: Path) -> Iterator[tuple[int | None, str]]:
    """The statuses and codes that are written out in the calls of this file; None for what the class decides."""
    for call in ast.walk(ast.parse(path.read_text())):
        name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
        if isinstance(call, ast.Call) and name in {"Refusal", "RefusalWithHeaders", "Unavailable", "Busy"}:
            given = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
            given += [keyword.value.value for keyword in call.keywords if isinstance(keyword.value, ast.Constant)]
            statuses = [value for value in given if isinstance(value, int)]
            for code in (value for value in given if isinstance(value, str) and re.fullmatch("[A-Z_]+", value)):
                yield (statuses or [None])[0], code


def test_the_app_refuses_with_nothing_else() -> None:
    """Every code in the app's source is known, with that status; the codes that the database refuses with are not in it."""
    found = {refusal for path in (ROOT / "app").rglob("*.py") for refusal in refusals_in(path)}
    assert {code for _, code in found} | {Unavailable("").code} == OF_THE_SERVICE | OF_BOTH
    for status, code in {*found, (503, Unavailable("").code)}:
        assert STATUSES[code] == (status or 503), code


# Rows


def columns_of(model: type[BaseModel]) -> dict[str, tuple[str, bool]]:
    """The type of each field, as PostgreSQL calls it, and whether it may be null."""
    types = {"uuid": "uuid", "date-time": "timestamp with time zone", "string": "text", "integer": "integer", "number": "numeric"}
    types |= {"array": "api.variant_row[]"}
    columns = {}
    schema = model.model_json_schema(mode="serialization")
    for name, field in schema["properties"].items():
        field = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        kinds = field.get("anyOf", [field])
        [kind] = [kind for kind in kinds if kind.get("type") != "null"]
        columns[name] = types[kind.get("format", kind.get("type", ""))], len(kinds) > 1
    return columns


@pytest.mark.parametrize(
    ("model", "row_type", "table"),
    [
        (User, "user", "users"),
        (Drop, "drop_row", "drops"),
        (Variant, "variant_row", None),
        (Reservation, "reservation_row", "reservations"),
        (Purchase, "purchase_row", "purchases"),
        (Purchaser, "purchaser", None),
    ],
)
async def test_rows_are_the_databases(owner: asyncpg.Pool, model: type[BaseModel], row_type: str, table: str | None) -> None:
    """A row has the fields of the database's row type, in order; a field can be null if its column can."""
    attributes = await owner.fetch(
        "select attname, format_type(atttypid, null) as type from pg_attribute where attrelid = $1::regclass order by attnum",
        f'api."{row_type}"',
    )
    nullable = await owner.fetch(
        "select attname from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attnotnull",
        f"inventory.{table}",
    )
    names = {row["attname"] for row in nullable}
    names |= {"amount"} if "unit_price" in names else set()  # that of a reservation is computed from it
    assert list(columns_of(model).items()) == [(row["attname"], (row["type"], row["attname"] in names)) for row in attributes]
    if "status" in model.model_fields:
        rule = await owner.fetchval(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = $1", f"{table}_status_check"
        )
        assert set(get_args(model.model_fields["status"].annotation.__value__)) == set(re.findall("'(.*?)'", rule))


async def test_listed_drops_are_the_databases(owner: asyncpg.Pool) -> None:
    """A listed drop has the columns of `api.list_drops`."""
    names = await owner.fetchval("select proargnames from pg_proc where oid = 'api.list_drops'::regproc")
    assert list(ListedDrop.model_fields) == [name for name in names if not name.startswith("p_")]
