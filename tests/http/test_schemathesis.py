"""Schemathesis tries requests that the contract allows and requests that it forbids; the answers must be as it says."""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from lastpair.settings import Settings
from tests.support.database import Database, running_api
from tests.support.envelopes import JSON, LONG_AGO
from tests.support.in_process import contract_of
from tests.support.servers import free_port, started
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, bearer, token
from tests.support.waiting import wait_for

UNSAYABLE = re.compile(
    r"(starts_at|ends_at): (must be later than starts_at|a scheduled or live drop needs one|a live drop has started)"
    r"|[a-z_.0-9]+: must be a whole number"
    r"|(total_stock|add_stock): (give it|is required, or variants instead)"
    r"|currency: must be an ISO 4217 code|(variants\.)?price: must be less than"
    r"|qty: must be between 1 and \d+, the units|cursor: |limit: must not be given with Accept"
    r"|url: has a host or a port that cannot be"
)
"""Why a request that fits the schema may be refused: a schema has no rules between fields, and takes 5.0 as an integer.

A cursor is one that a page gave. How many units can be refunded depends on the purchase. Which codes of ISO 4217 there are, and
with how many decimals, the database knows.
"""

OF_ANOTHER = {"/api/reservations/me", "/api/payments/problems"}
"""Paths whose DELETE is that of `{id}`."""

OF_A_PROVIDER = {"getPayment", "cancelPayment", "retryProviderCall", "receiveFromStripe", "receiveFromProvider"}
"""Operations that succeed with a payment provider only; tests/payments has them."""

load_all_checks()
CONFIG = schemathesis.Config.from_dict({"seed": 1, "generation": {"deterministic": True}})
whole_contract, whole_contract_of_production = (
    schemathesis.openapi.from_dict(contract_of(settings), config=CONFIG)
    for settings in (Settings.model_construct(), Settings.model_construct(app_env="production", auth_mode="jwt"))
)
contract = whole_contract.exclude(tag="realtime")  # a stream never ends
contract_of_production = whole_contract_of_production.exclude(tag="realtime")
CONFORMANCE = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
DROP = {"name": "Air One", "price": 199.9, "total_stock": 1_000_000, "starts_at": LONG_AGO, "extension_seconds": 60}
ENDPOINT = {"url": "http://localhost:1/hook", "event_types": ["drop.cancelled"]}
UVICORN = ("uvicorn", "--factory", "lastpair.web.application:create_app", "--port", "PORT")  # which does not migrate first


def operation_id(case: Case) -> str:
    """The id of the operation that the case tries."""
    found: str = case.operation.definition.raw["operationId"]
    return found


class Requests:
    """Makes what a good request needs, so that it is served, and notes the statuses of the answers."""

    def __init__(self, client: httpx.Client) -> None:
        self.answered: dict[str, set[int]] = defaultdict(set)
        self._client = client
        self._numbers = count(1)
        self._drop_id = self._make_drop()
        self._endpoint_id = self._make_endpoint()

    def prepare(self, case: Case) -> dict[str, str]:
        """Let most good requests be about a drop or a hold that exists; returns the headers of a new user, who sends it."""
        user, name = self._new_user(), operation_id(case)
        if name == "startRush" and case.meta.generation.mode == GenerationMode.POSITIVE:
            case.body = {"buyers": 1, "stock": 1}  # more would keep the other tests waiting
        if case.meta.generation.mode == GenerationMode.POSITIVE and next(self._numbers) % 8:
            if name == "forgetMe":
                self._make("reservation", f"/drops/{self._drop_id}/reserve", user)
            elif name == "reserveBasket":
                case.body = {"items": [{"drop_id": self._drop_id}]}
            elif name.endswith("Basket"):
                case.path_parameters = {"id": self._make("basket", "/baskets", user, {"items": [{"drop_id": self._drop_id}]})}
            elif name == "replayWebhookDelivery":
                case.path_parameters = {
                    "id": self._make("webhook_delivery", f"/webhook-endpoints/{self._endpoint_id}/test", user)
                }
            elif "Webhook" in name and "id" in case.path_parameters:
                spare = name in {"deleteWebhookEndpoint", "updateWebhookEndpoint"}  # an update may turn it off
                endpoint_id = self._spare_endpoint() if spare else self._endpoint_id
                case.path_parameters = {"id": endpoint_id}
            elif name == "purchase" or "id" in case.path_parameters:
                made_id = self._make("reservation", f"/drops/{self._drop_id}/reserve", user)
                if name in {"getPurchase", "refundPurchase"}:
                    made_id = self._make("purchase", f"/drops/{self._drop_id}/purchase", user)
                case.path_parameters = {"dropId": self._drop_id} if name == "purchase" else {"id": made_id}
            elif "dropId" in case.path_parameters:
                drop_id = self._make_drop() if name in {"updateDrop", "cancelDrop"} else self._drop_id
                case.path_parameters = {"dropId": drop_id}
            case.query.pop("cursor", None)
        return user

    def _new_user(self) -> dict[str, str]:
        return {"X-User-Id": str(UUID(int=0x5C4E << 64 | next(self._numbers)))}

    def _make_drop(self) -> str:
        return self._make("drop", "/drops", self._new_user(), DROP)

    def _make_endpoint(self) -> str:
        return self._make("webhook_endpoint", "/webhook-endpoints", self._new_user(), ENDPOINT)

    def _spare_endpoint(self) -> str:
        answer = self._client.get("/webhook-endpoints", params={"limit": 200}, headers=self._new_user()).json()
        others = [row["id"] for row in answer["data"]["webhook_endpoints"] if row["id"] != self._endpoint_id]
        return others[0] if others else self._make_endpoint()  # there is a limit, which the tests of POST have reached

    def _make(self, name: str, path: str, user: dict[str, str], body: object = None) -> str:
        made: str = self._client.post(path, json=body, headers=user).json()["data"][name]["id"]
        return made


@pytest.fixture(scope="module")
def requests(api_url: str, database: Database) -> Iterator[Requests]:
    """The requests. All must end with a clean audit, and with every good status of each operation that was tried."""
    with httpx.Client(base_url=f"{api_url}/api") as client:
        requests = Requests(client)
        yield requests
    for operation, answered in requests.answered.items():
        assert operation in OF_A_PROVIDER or {status for status in documented(operation) if status < 300} <= answered, operation
    with psycopg.connect(database.url) as connection:
        assert connection.execute("select * from api.audit()").fetchall() == []


@pytest.fixture(scope="module")
def production_url(database: Database) -> Iterator[str]:
    """The URL of an API that wants tokens."""
    tokens = {"AUTH_MODE": "jwt", "JWT_SECRET": SECRET, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER}
    with running_api(database.url, EXPIRY_POLL_MS="3600000", APP_ENV="production", **tokens) as url:
        yield url


def documented(operation_id: str) -> set[int]:
    """The statuses that an operation may answer with."""
    return {int(status) for status in contract.find_operation_by_id(operation_id).definition.raw["responses"]}


def examples(most: int) -> settings:
    """This many cases for each operation, the same ones each time."""
    return settings(max_examples=most, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def try_case(case: Case, url: str, user: dict[str, str]) -> int:
    """Send the case as this user, and compare the answer with the contract; returns its status."""
    # Schemathesis makes headers of letters and digits only, so it has no ETag to try a body with, and sends this with each.
    if case.headers.get("If-Match") == "0":
        del case.headers["If-Match"]
    response = case.call(url, headers=user)
    excluded = [unsupported_method] if case.path in OF_ANOTHER else []
    of_earlier_requests = response.status_code in (412, 422)  # an ETag, or an Idempotency-Key that came before
    if of_earlier_requests or (response.status_code == 400 and UNSAYABLE.search(response.text)):
        excluded.append(positive_data_acceptance)
    case.validate_response(response, headers=user, excluded_checks=excluded, transport_kwargs={"base_url": url})
    assert_code_is_documented(case, response)
    return response.status_code


def assert_code_is_documented(case: Case, response: Any) -> None:
    """The code of an error is one that the operation lists for its status; the schema of an error has all codes."""
    described = case.operation.definition.raw["responses"].get(str(response.status_code))
    if response.status_code >= 400 and described and response.content:
        document = case.operation.schema.raw_schema
        component = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        code = response.json()["error"]["code"]
        assert f"- `{code}`: " in (component | described)["description"], (operation_id(case), code)


@pytest.mark.slow
@contract.parametrize()
@examples(20)
def test_contract(case: Case, api_url: str, requests: Requests) -> None:
    """There is no 500, and nothing that the contract does not have; nothing good is refused and nothing bad accepted."""
    user = requests.prepare(case)
    for _ in range(2 if "Idempotency-Key" in case.headers else 1):
        requests.answered[operation_id(case)].add(try_case(case, api_url, user))


@pytest.mark.slow
@contract_of_production.parametrize()
@examples(6)
def test_contract_of_production(case: Case, production_url: str) -> None:
    """The same holds in production, with a token."""
    try_case(case, production_url, bearer(token(SECRET, role="admin")))


# Answers that other settings, or an outage, lead to


def assert_conforms(response: httpx.Response, path: str, status: int, contract: BaseSchema = contract) -> None:
    """The answer has this status, and is as the contract says."""
    assert response.status_code == status, response.text
    names = re.findall("{(.*?)}", path)
    case = contract[path][response.request.method].Case(path_parameters=dict.fromkeys(names, str(uuid4())))
    case.validate_response(response, checks=CONFORMANCE)
    assert_code_is_documented(case, response)


def test_refusals(api_url: str) -> None:
    """Refusals of bodies, whether the operation takes one or not, and of a stream's query are as the contract says."""
    with httpx.Client(base_url=api_url, headers={"X-User-Id": str(uuid4())}) as client:
        for path in ("/api/drops", "/api/internal/users", "/api/drops/{dropId}/reserve"):
            url = path.replace("{dropId}", str(uuid4()))
            assert_conforms(client.post(url, content=b" " * 70_000, headers=JSON), path, 413)
            assert_conforms(client.post(url, content=b"<xml>", headers={"Content-Type": "text/xml"}), path, 415)
        assert_conforms(client.get("/api/events?snapshot=perhaps"), "/api/events", 400, whole_contract)


def test_activity(api_url: str) -> None:
    """What happened lately is as the contract says, with and without a choice of drops; so is a refusal."""
    with httpx.Client(base_url=f"{api_url}/api", headers={"X-User-Id": str(uuid4())}) as client:
        drop_id = client.post("/drops", json=DROP).json()["data"]["drop"]["id"]
        for action in ("reserve", "purchase"):
            assert client.post(f"/drops/{drop_id}/{action}").status_code == 201
        for query, status in (("", 200), (f"?seconds=1&dropId={drop_id}", 200), ("?seconds=0", 400)):
            assert_conforms(client.get(f"/activity{query}"), "/api/activity", status, whole_contract)


def test_an_amount_above_every_price(api_url: str) -> None:
    """Two units of the highest price cost more than a price may be, and the contract allows that."""
    with httpx.Client(base_url=f"{api_url}/api", headers={"X-User-Id": str(uuid4())}) as client:
        made = client.post("/drops", json=DROP | {"price": 9_999_999_999.99}).json()["data"]["drop"]["id"]
        held = client.post(f"/drops/{made}/reserve", json={"qty": 2})
        assert held.json()["data"]["reservation"]["amount"] == 19_999_999_999.98
        assert_conforms(held, "/api/drops/{dropId}/reserve", 201)


def test_an_outage_and_a_rush() -> None:
    """Without a database the operations that need it are 503, too many writes are 429, and the others are served."""
    with (
        started(
            *UVICORN, DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", RATE_LIMIT_ADDRESS_PER_MINUTE="1"
        ) as service,
        httpx.Client(base_url=service.url, headers={"X-User-Id": str(uuid4())}) as client,
    ):
        wait_for(lambda: service.answers("/healthz", 200))
        for path in ("/api/drops", "/api/drops/{dropId}", "/api/reservations/me", "/api/purchases/me", "/readyz"):
            assert_conforms(client.get(path.replace("{dropId}", str(uuid4()))), path, 503)
        for status in (503, 429):
            assert_conforms(client.post(f"/api/drops/{uuid4()}/reserve"), "/api/drops/{dropId}/reserve", status)
        for path in ("/healthz", "/metrics", "/api/openapi.json"):
            assert_conforms(client.get(path), path, 200)


def test_production(production_url: str) -> None:
    """Requests without a token, or without the role, are refused as the contract says."""
    contract = whole_contract_of_production
    plain, admin = (bearer(token(SECRET, role=role)) for role in (None, "admin"))
    with httpx.Client(base_url=production_url) as client:
        assert client.get("/api/openapi.json").json() == contract.raw_schema
        for status, headers in ((401, {}), (401, bearer("x")), (403, plain), (201, admin)):
            made = client.post("/api/drops", json=DROP, headers=headers)
            assert_conforms(made, "/api/drops", status, contract)
        reserved = client.post(f"/api/drops/{made.json()['data']['drop']['id']}/reserve", headers=plain)
        assert_conforms(reserved, "/api/drops/{dropId}/reserve", 201, contract)
