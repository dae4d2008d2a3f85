"""Both clients have every operation of the contract, and every field of its rows and bodies."""

import re
from inspect import signature
from typing import Any, get_type_hints
from uuid import UUID

import pytest

from lastpair.settings import Settings
from lastpair.web import schemas
from lastpair_client import Request, rows
from lastpair_client.methods import ListMethod, Method, Methods
from tests.clients.test_javascript import CLIENT, FOLDER, run_node
from tests.support.in_process import contract_of

AN_ID = str(UUID(int=0))
OTHER_TAGS = {"operations", "providers", "development"}
STREAMS = {"GET /api/events", "GET /api/ws", "POST /api/stream-tickets"}
ALIAS = "DELETE /api/reservations/{}/cancel"


@pytest.fixture(scope="module")
def operations() -> list[str]:
    """Method and path of every operation that a client has a method for."""
    paths = contract_of(Settings.model_construct())["paths"]
    found = [
        f"{method.upper()} {re.sub('{.*?}', '{}', path)}"
        for path, item in paths.items()
        for method, operation in item.items()
        if isinstance(operation, dict) and not OTHER_TAGS & set(operation.get("tags", []))
    ]
    assert ALIAS in found
    return sorted(set(found) - STREAMS - {ALIAS})


async def test_operations_in_javascript(operations: list[str]) -> None:
    """Each operation has a method."""
    output = await run_node(FOLDER / "requests.mjs", AN_ID)
    assert sorted(set(output.replace(AN_ID, "{}").splitlines())) == operations  # two lists also have a method for CSV


def test_operations_in_python(operations: list[str]) -> None:
    """Each operation has a method. Each method has a docstring."""
    found = []
    for method in vars(Methods).values():
        if isinstance(method, Method | ListMethod):
            kinds = signature(method._make_request).parameters.values()
            positional = [each.name for each in kinds if each.kind is each.POSITIONAL_OR_KEYWORD]
            values = [AN_ID if name.endswith("_id") else {} for name in positional]
            request: Request[Any] = method._make_request(*values)
            found.append(f"{request.method} /api{request.path.replace(AN_ID, '{}')}")
            assert method.__doc__
    assert sorted(set(found)) == operations


def declared() -> dict[str, set[str]]:
    """The fields of every interface of lastpair.d.ts."""
    text, fields = (CLIENT / "lastpair.d.ts").read_text(), {}
    for name, bases, body in re.findall(
        r"^export interface (\w+)(?: extends ([\w, ]+))? \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE
    ):
        inherited = [fields[base] for base in re.findall(r"\w+", bases)]
        fields[name] = set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE)).union(*inherited)
    return fields


ROWS = [
    "Activity",
    "ActivityEvent",
    "ActivityFeed",
    "ActivityOfDrop",
    "ActivityPoint",
    "Basket",
    "BasketItem",
    "BuyersPayment",
    "BuyersPurchase",
    "BuyersReservation",
    "Drop",
    "DropChange",
    "DropChanges",
    "ListedDrop",
    "MoneyOfDrop",
    "NewDrop",
    "NewVariant",
    "NewWebhookEndpoint",
    "Payment",
    "PaymentProblem",
    "ProviderCall",
    "Purchase",
    "Purchaser",
    "Reservation",
    "ReservationChange",
    "User",
    "Variant",
    "VariantChanges",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEndpointChanges",
    "WebhookEndpointWithSecret",
]


@pytest.mark.parametrize("name", ROWS)
def test_fields(name: str) -> None:
    """A row or body has the fields of the contract in Python, and in TypeScript if it has a name of its own there."""
    wanted = {field.alias or name for name, field in getattr(schemas, name).model_fields.items()}
    assert set(get_type_hints(getattr(rows, name))) == wanted
    of_javascript = declared()
    if name in {"BuyersPurchase", "BuyersReservation"}:
        assert of_javascript[name.removeprefix("Buyers")] | of_javascript["Named"] == wanted
    elif name in of_javascript:
        assert of_javascript[name] == wanted
    else:
        assert name in {"ActivityFeed", "NewVariant", "VariantChanges"}
