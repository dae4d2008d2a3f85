"""docs/reference.md and .env.example are what the code says; `make reference` writes them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lastpair.cli import COMMANDS, NODE_ACTIONS
from lastpair.realtime.event import EVENTS
from lastpair.settings import Settings
from lastpair.web.error_codes import ERRORS
from lastpair.web.handlers import stream_events
from lastpair.web.operation import Schema
from lastpair.web.stream_schemas import EVENT_DATA, stream_schemas
from lastpair.web.webhook_schemas import WEBHOOKS, webhook_schemas
from tests.support.servers import ROOT
from tools.reference import EXAMPLE, REFERENCE, contract, example, operations, reference


@pytest.mark.parametrize(("file", "generate"), [(REFERENCE, reference), (EXAMPLE, example)], ids=["reference", "example"])
def test_the_file_is_up_to_date(file: Path, generate: Callable[[], str]) -> None:
    """The committed file is what the code generates now. `make reference` corrects it."""
    assert file.read_text() == generate()


def test_the_reference_misses_nothing() -> None:
    """Every setting has a description, and every setting, error, event, command and endpoint has a row."""
    rows = set(re.findall(r"^\| (?:\d+ \| )?(.*?) \|", REFERENCE.read_text(), re.MULTILINE))
    cells = {cell for row in rows for cell in row.split("<br>")}
    assert all(field.description for field in Settings.model_fields.values())
    assert {f"`{name.upper()}`" for name in Settings.model_fields} <= cells
    assert {f"`{name}`" for name in [*ERRORS, *EVENTS]} <= cells
    commands = (COMMANDS.keys() - {"node"}) | {f"node {action}" for action in NODE_ACTIONS}
    assert {f"`lastpair {name}`" for name in commands} <= cells
    endpoints = {f"`{method} {path}`" for path, by_method in operations().items() for method in by_method}
    assert len(endpoints) > 15
    assert endpoints <= cells


def values_of(schema: Schema) -> list[str]:
    """The values of a schema, or of the one that it refers to, if it lists them."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: list[str] = (contract()["components"]["schemas"][name] if name else schema).get("enum", [])
    return found


def test_the_reference_has_all_of_the_contract() -> None:
    """Each operation names its parameters and its body; each parameter, header, body, row and field is described."""
    text = REFERENCE.read_text()
    rows = [[cell.strip() for cell in line.split(" | ")] for line in re.findall(r"^\| (.*) \|$", text, re.MULTILINE)]
    first_cells = {row[0] for row in rows}
    for path, item in contract()["paths"].items():
        for method in item.keys() - {"parameters"}:
            [row] = [row for row in rows if f"`{method.upper()} {path}`" in row[0].split("<br>") and len(row) == 5]
            for given in item[method]["parameters"]:
                assert f"`{given['name']}`" in row[2].split(", ")
                said = [row for row in rows if row[:2] == [f"`{given['name']}`", given["in"]]]
                values = [f"`{value}`" for value in values_of(given["schema"])]
                assert any(each[3] == given["description"] and all(value in each[2] for value in values) for each in said)
            if "requestBody" in item[method]:
                body = item[method]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert f"body [{body}](#{body.lower()})" in row[2]
    assert {f"`{name}`" for name in contract()["components"]["headers"]} <= first_cells
    sections = dict(re.findall(r"^#### (\w+)\n(.*?)(?=^#)", text, re.MULTILINE | re.DOTALL))
    schemas = contract()["components"]["schemas"]
    envelopes = {name for name, schema in schemas.items() if "success" in schema.get("properties", {})}
    of_envelopes = {"Meta", "PageMeta", "Error", "BasketError", "RefusedItem"}
    of_streams = stream_schemas().keys() | {kind.__name__ for kind in EVENT_DATA.values()} | {"VariantStock", "ChangedPayment"}
    of_webhooks = webhook_schemas().keys() | {data.__name__ for data, _ in WEBHOOKS.values()}
    values = {name for name, schema in schemas.items() if "enum" in schema}
    assert sections.keys() == schemas.keys() - envelopes - of_envelopes - of_streams - of_webhooks - values
    for name, section in sections.items():
        base = re.search(r"It has all fields of \[(\w+)\]", section)
        fields = re.findall(r"^\| `(\w+)` \|", section + (sections[base[1]] if base else ""), re.MULTILINE)
        assert sorted(fields) == sorted(schemas[name]["properties"])


def test_every_event_is_in_the_contract_and_in_sql() -> None:
    """The stream's description names every event, and the database publishes every event that is not made by a process."""
    assert all(name in (stream_events.handler.__doc__ or "") for name in EVENTS)
    functions = ROOT / "db" / "functions" / "inventory"
    sql = "".join((functions / f"{name}.sql").read_text() for name in ("publish_changes", "payment_updates"))
    assert set(re.findall(r"'([A-Z]+_[A-Z]+)'", sql)) == set(EVENTS) - {"SNAPSHOT", "RESYNC_REQUIRED", "POSITION"}
