"""Whatever the contract allows is served as it says, and whatever it forbids is refused as it says: Schemathesis tries both."""

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from uuid import UUID, uuid4

import httpx
import jwt
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
from tests.support.api import JSON, LONG_AGO
from tests.support.database import Database, running_api
from tests.support.in_process import contract_of
from tests.support.servers import free_port, started
from tests.support.waiting import wait_for

UNSAYABLE = re.compile(
    r"(starts_at|ends_at): (must be later than starts_at|a scheduled or live drop needs one|a live drop has started)"
    r"|total_stock: must be a whole number"
)
"""Why a good request may be refused nevertheless: of rules between fields a schema cannot tell, and to it 5.0 is an integer."""

load_all_checks()
CONFIG = schemathesis.Config.from_dict({"seed": 1, "generation": {"deterministic": True}})
whole_contract = schemathesis.openapi.from_dict(contract_of(Settings.model_construct()), config=CONFIG)
contract = whole_contract.exclude(tag="realtime")  # which never ends
in_production = Settings.model_construct(app_env="production", auth_mode="jwt")
whole_contract_of_production = schemathesis.openapi.from_dict(contract_of(in_production), config=CONFIG)
contract_of_production = whole_contract_of_production.exclude(tag="realtime")
CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SECRET = "s" * 32
served_in_production: dict[str, set[int]] = defaultdict(set)
UVICORN = ("uvicorn", "--factory", "lastpair.web.application:create_app", "--port", "PORT")  # which does not migrate first


def operation_id(case: Case) -> str:
    """What it tries."""
    found: str = case.operation.definition.raw["operationId"]
    return found


class Market:
    """What there is to ask for, so that a good request can be served, and what was answered."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._numbers = count(1)
        self.answered: dict[str, set[int]] = defaultdict(set)
        self.drop_id = self._make_drop()

    def user(self) -> dict[str, str]:
        """The headers of somebody new."""
        return {"X-User-Id": str(UUID(int=0x5C4E << 64 | next(self._numbers)))}

    def prepare(self, case: Case) -> dict[str, str]:
        """Let a good request be about something that is there, mostly; returns who sends it."""
        user, name = self.user(), operation_id(case)
        if case.meta.generation.mode == GenerationMode.POSITIVE and next(self._numbers) % 8:
            if name == "purchase" or name.startswith("cancel"):
                reservation = self._reserve(user)
                case.path_parameters = {"dropId": self.drop_id} if name == "purchase" else {"id": reservation}
            elif name == "updateDrop":
                case.path_parameters = {"dropId": self._make_drop()}
            elif "dropId" in case.path_parameters:
                case.path_parameters = {"dropId": self.drop_id}
        return user

    def _make_drop(self) -> str:
        body = {"name": "Air One", "price": 199.9, "total_stock": 1_000_000, "starts_at": LONG_AGO}
        drop_id: str = self._client.post("/drops", json=body, headers=self.user()).json()["data"]["drop"]["id"]
        return drop_id

    def _reserve(self, user: dict[str, str]) -> str:
        response = self._client.post(f"/drops/{self.drop_id}/reserve", headers=user)
        reservation_id: str = response.json()["data"]["reservation"]["id"]
        return reservation_id


@pytest.fixture(scope="module")
def market(api_url: str, database: Database) -> Iterator[Market]:
    """Ends with a clean audit, and with every good answer seen of the operations that were tried."""
    with httpx.Client(base_url=f"{api_url}/api") as client:
        market = Market(client)
        yield market
    for operation, answered in market.answered.items():
        assert {status for status in documented(operation) if status < 300} <= answered, operation
    with psycopg.connect(database.url) as connection:
        assert connection.execute("select * from api.audit()").fetchall() == []


@pytest.fixture(scope="module")
def production_url(database: Database) -> Iterator[str]:
    """An API that wants tokens."""
    variables = {
        "APP_ENV": "production",
        "AUTH_MODE": "jwt",
        "JWT_SECRET": SECRET,
        "JWT_AUDIENCE": "shop",
        "JWT_ISSUER": "issuer",
    }
    with running_api(database.url, EXPIRY_POLL_MS="3600000", **variables) as url:
        yield url


def documented(operation_id: str) -> set[int]:
    """The statuses of an operation."""
    return {int(status) for status in contract.find_operation_by_id(operation_id).definition.raw["responses"]}


def examples(most: int) -> settings:
    """So many for each operation, the same ones each time."""
    return settings(max_examples=most, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def try_case(case: Case, url: str, user: dict[str, str]) -> int:
    """Send it as this user, and hold the answer against the contract; returns its status."""
    response = case.call(url, headers=user)
    excluded = [unsupported_method] if case.path == "/api/reservations/me" else []  # DELETE is that of {id}, which "me" is not
    if response.status_code == 400 and UNSAYABLE.search(response.text):
        excluded.append(positive_data_acceptance)
    case.validate_response(response, headers=user, excluded_checks=excluded, transport_kwargs={"base_url": url})
    return response.status_code


@pytest.mark.slow
@contract.parametrize()
@examples(20)
def test_contract(case: Case, api_url: str, market: Market) -> None:
    """No 500, no status, content type, header or field that is not there; nothing good is refused, nothing bad accepted."""
    user = market.prepare(case)
    for _ in range(2 if "Idempotency-Key" in case.headers else 1):
        market.answered[operation_id(case)].add(try_case(case, api_url, user))


@pytest.mark.slow
@contract_of_production.parametrize()
@examples(6)
def test_contract_of_production(case: Case, production_url: str) -> None:
    """The same of whoever shows a token; and of whoever shows none, where one is needed."""
    served_in_production[operation_id(case)].add(try_case(case, production_url, bearer(role="admin")))


# What takes other settings, or an outage, to be answered


def assert_conforms(response: httpx.Response, path: str, status: int, contract: BaseSchema = contract) -> None:
    """It has this status, and is as the contract says."""
    assert response.status_code == status, response.text
    names = re.findall("{(.*?)}", path)
    case = contract[path][response.request.method].Case(path_parameters=dict.fromkeys(names, str(uuid4())))
    case.validate_response(response, checks=CONFORMANCE)


def test_refusals(api_url: str) -> None:
    """Of a body that is too large or no JSON, where one is taken and where none is; of a stream's query."""
    with httpx.Client(base_url=api_url, headers={"X-User-Id": str(uuid4())}) as client:
        for path in ("/api/drops", "/api/internal/users", "/api/drops/{dropId}/reserve"):
            url = path.replace("{dropId}", str(uuid4()))
            assert_conforms(client.post(url, content=b" " * 70_000, headers=JSON), path, 413)
            assert_conforms(client.post(url, content=b"<xml>", headers={"Content-Type": "text/xml"}), path, 415)
        assert_conforms(client.get("/api/events?snapshot=perhaps"), "/api/events", 400, whole_contract)


def test_an_outage_and_a_rush() -> None:
    """503 from whatever needs the database, 429 after too many writes; the others go on."""
    with (
        started(
            *UVICORN, DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", RATE_LIMIT_ADDRESS_PER_MINUTE="1"
        ) as service,
        httpx.Client(base_url=service.url, headers={"X-User-Id": str(uuid4())}) as client,
    ):
        wait_for(lambda: service.answers("/healthz", 200), timeout_seconds=20)
        for path in ("/api/drops", "/api/drops/{dropId}", "/api/reservations/me", "/api/purchases/me", "/readyz"):
            assert_conforms(client.get(path.replace("{dropId}", str(uuid4()))), path, 503)
        for status in (503, 429):
            assert_conforms(client.post(f"/api/drops/{uuid4()}/reserve"), "/api/drops/{dropId}/reserve", status)
        for path in ("/healthz", "/metrics", "/api/openapi.json"):
            assert_conforms(client.get(path), path, 200)


def test_production(production_url: str) -> None:
    """Who has no token, or no role, is told so; what is for development is not there."""
    contract = whole_contract_of_production
    drop = {"name": "Air One", "price": 199.9, "total_stock": 1, "starts_at": LONG_AGO}
    with httpx.Client(base_url=production_url) as client:
        assert client.get("/api/openapi.json").json() == contract.raw_schema
        for token in ({}, {"Authorization": "Bearer x"}):
            assert_conforms(client.post("/api/drops", json=drop, headers=token), "/api/drops", 401, contract)
        assert_conforms(client.post("/api/drops", json=drop, headers=bearer()), "/api/drops", 403, contract)
        response = client.post("/api/drops", json=drop, headers=bearer(role="admin"))
        assert_conforms(response, "/api/drops", 201, contract)
        reserved = client.post(f"/api/drops/{response.json()['data']['drop']['id']}/reserve", headers=bearer())
        assert_conforms(reserved, "/api/drops/{dropId}/reserve", 201, contract)
        assert client.post("/api/internal/expire-now").status_code == 404


def bearer(**claims: str) -> dict[str, str]:
    """The headers of somebody new."""
    claims = {"sub": str(uuid4()), "aud": "shop", "iss": "issuer"} | claims
    return {"Authorization": f"Bearer {jwt.encode(claims | {'exp': int(time.time()) + 60}, SECRET, 'HS256')}"}
