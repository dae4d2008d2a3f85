"""docs/reference.md and .env.example are what the code says; `make reference` writes them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lastpair.cli import COMMANDS
from lastpair.realtime.event import EVENTS
from lastpair.settings import Settings
from lastpair.web.error_codes import ERRORS
from lastpair.web.handlers import stream
from tests.support.servers import ROOT
from tools.reference import EXAMPLE, REFERENCE, example, operations, reference


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
    assert {f"`lastpair {name}`" for name in COMMANDS} <= cells
    endpoints = {f"`{method} {path}`" for path, by_method in operations().items() for method in by_method}
    assert len(endpoints) > 15
    assert endpoints <= cells


def test_every_event_is_in_the_contract_and_in_sql() -> None:
    """The stream's description names every event, and the database publishes every event that is not made by a process."""
    assert all(name in (stream.handler.__doc__ or "") for name in EVENTS)
    sql = (ROOT / "db" / "functions" / "inventory" / "publish_change.sql").read_text()
    assert set(re.findall(r"'([A-Z]+_[A-Z]+)'", sql)) == set(EVENTS) - {"SNAPSHOT", "RESYNC_REQUIRED", "POSITION"}
