"""Clients that generators make of the contract: the contract pleases a linter, and small clients come of it, which work."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from lastpair.settings import Settings
from tests.support.debian import needed
from tests.support.in_process import contract_of
from tests.support.npm import npm_packages

pytestmark = pytest.mark.slow

GENERATORS = Path(__file__).with_name("generators")
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
STRICT = ["--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--skipLibCheck"]
CONTRACTS = {
    "header": (Settings.model_construct(), "/api"),
    "v1": (Settings.model_construct(), "/api/v1"),
    "production": (Settings.model_construct(app_env="production", auth_mode="jwt"), "/api"),
}
MOST_MODELS = 210
"""Before answers, errors and events had names there were 770."""


@pytest.fixture(scope="module")
def node_modules(pytestconfig: pytest.Config) -> Path:
    """The generators and the linter that npm has."""
    assert pytestconfig.cache is not None
    return npm_packages(pytestconfig.cache, GENERATORS)


@pytest.fixture(scope="module")
def contract_file(api_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract that the service answers with, in a file."""
    file = tmp_path_factory.mktemp("contract") / "openapi.json"
    file.write_bytes(httpx.get(f"{api_url}/api/openapi.json").content)
    return file


def run(*command: str | Path, folder: Path) -> str:
    """The standard output of a command, which must succeed."""
    done = subprocess.run(command, cwd=folder, env=os.environ | QUIET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node() -> str:
    """The path of Node.js."""
    return needed(lambda: shutil.which("node"), "Node.js", "nodejs")


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_linter_finds_nothing(node_modules: Path, tmp_path: Path, name: str) -> None:
    """Redocly's recommended rules find no error and no warning, and would find one."""
    contract = contract_of(*CONTRACTS[name])
    for found, document in ((0, contract), (1, contract | {"servers": []})):
        (tmp_path / "openapi.json").write_bytes(orjson.dumps(document))
        command = [node(), str(node_modules / ".bin" / "redocly"), "lint", "openapi.json", "--format=json"]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | QUIET, capture_output=True, text=True, check=False)
        result = json.loads(done.stdout)
        assert sum(result["totals"].values()) == found, result


def test_typescript(node_modules: Path, contract_file: Path, tmp_path: Path, api_url: str) -> None:
    """The types of openapi-typescript are strict, and openapi-fetch sells with them."""
    (tmp_path / "node_modules").symlink_to(node_modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(GENERATORS / "client.ts", tmp_path)
    run(node(), "node_modules/.bin/openapi-typescript", contract_file, "--output", "lastpair.ts", folder=tmp_path)
    assert (tmp_path / "lastpair.ts").read_text().count("\n") < 6_500
    run(node(), "node_modules/.bin/tsc", *STRICT, "client.ts", folder=tmp_path)
    met = json.loads(run(node(), "--experimental-websocket", "client.js", api_url, str(uuid4()), folder=tmp_path))
    assert met == {
        "first": [201, "ACTIVE"],
        "repeated": [200, "ACTIVE"],
        "refused": ["BASKET_REFUSED", "ALREADY_RESERVED"],
        "amount": 10,
        "mine": [True],
        "again": "NO_ACTIVE_RESERVATION",
        "snapshot": "Typed: 0",
    }


@pytest.fixture(scope="module")
def generated(contract_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the package that openapi-python-client makes, which can be imported."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yaml").write_text("post_hooks: []\n")  # which would format the code
    command = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", contract_file, "--meta", "none"]
    said = run(*command, "--config", "config.yaml", "--output-path", "generated_lastpair", folder=folder)
    assert "warning" not in said.lower(), said
    sys.path.insert(0, str(folder))
    yield "generated_lastpair"
    sys.path.remove(str(folder))


def test_the_python_client_is_small(generated: str) -> None:
    """There is a model for each row, body, answer and event, and not one for each answer of each operation."""
    models = importlib.import_module(f"{generated}.models").__all__
    assert len(models) < MOST_MODELS
    assert {"Drop", "Reservation", "Purchase", "Basket", "Error", "ErrorCode", "DropStatus", "StockUpdated"} <= set(models)


def test_python(generated: str, api_url: str) -> None:
    """The client sells: it makes a drop, holds, repeats, buys, reads lists, and knows refusals by their code."""
    lastpair, models = importlib.import_module(generated), importlib.import_module(f"{generated}.models")
    client = lastpair.AuthenticatedClient(api_url, token=str(uuid4()), prefix="", auth_header_name="X-User-Id")

    def call(tag: str, name: str, *arguments: object, **options: object) -> Any:
        return importlib.import_module(f"{generated}.api.{tag}.{name}").sync(*arguments, client=client, **options)

    body = models.NewDrop(name="Typed", price=10, total_stock=1, status="live")
    drop = call("drops", "create_drop", body=body).data.drop
    assert isinstance(drop, models.Drop)
    assert (drop.price, drop.status) == (10, models.DropStatus.LIVE)
    held = [
        call("reservations", "reserve", drop.id, body=models.ReserveBody(qty=1), idempotency_key="typed-1").data.reservation
        for _ in range(2)
    ]
    assert held[0] == held[1]
    refused = call("baskets", "reserve_basket", body=models.NewBasket(items=[models.BasketItem(drop_id=drop.id)]))
    assert isinstance(refused, models.BasketRefusedAnswer)
    assert [item.code for item in refused.error.items] == [models.ErrorCode.ALREADY_RESERVED]
    bought = call("purchases", "purchase", drop.id, body=models.PurchaseBody()).data.purchase
    assert bought.reservation_id == held[0].id
    assert call("purchases", "list_my_purchases", limit=1).data.purchases == [bought]
    again = call("purchases", "purchase", drop.id)
    assert isinstance(again, models.ErrorAnswer)
    assert again.error.code == models.ErrorCode.NO_ACTIVE_RESERVATION
    assert UUID(str(drop.id)) in {listed.id for listed in call("drops", "list_drops", limit=200).data.drops}
    assert call("operations", "get_health").data.status == "ok"
    client.get_httpx_client().close()


def test_python_reads_events(generated: str) -> None:
    """The models of events parse the data of a stream; one of another type is refused."""
    models = importlib.import_module(f"{generated}.models")
    data = {"dropId": str(uuid4()), "availableStock": 3, "at": "2026-11-30T10:00:00.125000+00:00"}
    event = models.StockUpdated.from_dict({"type": "STOCK_UPDATED", "id": "7", "data": data})
    assert (event.id, event.data.available_stock, event.to_dict()["data"]) == ("7", 3, data)
    with pytest.raises(ValueError, match="STOCK_UPDATED"):
        models.StockUpdated.from_dict({"type": "DROP_REMOVED", "id": "7", "data": data})
