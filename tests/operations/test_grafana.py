"""docs/grafana.json: Grafana can import it, and it shows every metric and no other."""

import re
from json import loads
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram, ProcessCollector

from lastpair.observability import metrics
from lastpair.settings import Settings
from lastpair.web.application import create_app
from tests.support.servers import ROOT

DASHBOARD: dict[str, Any] = loads((ROOT / "docs" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
ENDINGS = {Counter: ["_total"], Gauge: [""], Histogram: ["_bucket", "_count", "_sum"]}
COLUMNS = 24


def series() -> dict[str, tuple[str, set[str]]]:
    """Every name that a query may use, with its metric and its labels."""
    known = {}
    for metric in vars(metrics).values():
        if type(metric) in ENDINGS:
            for ending in ENDINGS[type(metric)]:
                labels = {*metric._labelnames, *(["le"] if ending == "_bucket" else [])}
                known[metric._name + ending] = (metric._name, labels)
    for family in ProcessCollector(registry=None).collect():
        known |= {sample.name: (family.name, {"pid"}) for sample in family.samples}
    return known


def test_every_metric_is_shown_and_no_other() -> None:
    """The panels show every metric of the code and those of the processes, and name no other."""
    known = series()
    used = {name for expression in EXPRESSIONS for name in re.findall(r"\b(?:lastpair|process)_\w+", expression)}
    assert used - known.keys() == set()
    shown = {known[name][0] for name in used}
    assert {name for name, _ in known.values() if name.startswith("lastpair_")} - shown == set()
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= shown


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression(expression: str) -> None:
    """It uses labels of its metrics, selects the chosen instances, and takes a rate of every counter over Grafana's interval."""
    known = series()
    assert re.sub(r'"[^"]*"', "", expression).count("(") == re.sub(r'"[^"]*"', "", expression).count(")")
    found = re.findall(r"\b((?:lastpair|process)_\w+)\{((?:[^\"}]|\"[^\"]*\")*)\}(\[\$__rate_interval\])?", expression)
    assert len(found) == len(re.findall(r"\b(?:lastpair|process)_\w+", expression))
    labels = {"job", "instance"}
    for name, selector, window in found:
        assert {"job", "instance"} <= set(re.findall(r"(\w+)=~?\"", selector)) <= known[name][1] | {"job", "instance"}
        assert bool(window) == name.endswith(("_total", "_bucket", "_count", "_sum"))
        labels |= known[name][1]
    for group in re.findall(r"by \(([\w, ]+)\)", expression):
        assert set(group.split(", ")) <= labels
    assert ("histogram_quantile" in expression) == ("_bucket" in expression)
    if "_bucket" in expression:
        assert re.search(r"by \(le[,)]", expression)


def test_selectors_find_something() -> None:
    """A pattern of routes matches routes of the service."""
    app = create_app(Settings.model_construct(app_env="development", database_url="postgresql://x"))
    templates = {getattr(route, "path", "") for route in app.routes}
    for pattern in {found for expression in EXPRESSIONS for found in re.findall(r'route=~"([^"]*)"', expression)}:
        regex = pattern.replace(r"\\", "\\")  # as PromQL reads the string
        assert len([path for path in templates if re.fullmatch(regex, path)]) >= 2, regex


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_a_panel(panel: dict[str, Any]) -> None:
    """It has a title and a unit and uses the chosen data source."""
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"] in {"s", "ops", "reqps", "percentunit", "bytes", "short", "none"}
    assert panel["targets"]
    ids = [target["refId"] for target in panel["targets"]]
    assert len(ids) == len(set(ids))
    for each in [panel, *panel["targets"]]:
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    legends = {name for target in panel["targets"] for name in re.findall(r"{{(\w+)}}", target["legendFormat"])}
    labels = {label for _, found in series().values() for label in found}
    assert legends <= labels | {"instance"}
    seconds = re.search(r"_seconds(_bucket|_sum)?\{", panel["targets"][0]["expr"]) and "cpu" not in panel["targets"][0]["expr"]
    assert (panel["fieldConfig"]["defaults"]["unit"] == "s") == bool(seconds or "time()" in panel["targets"][0]["expr"])


def test_no_panel_lies_on_another() -> None:
    """Panels fill the page without gaps, and each has an id of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert taken == {(x, y) for x in range(COLUMNS) for y in range(max(y for _, y in taken) + 1)}, "there are gaps"
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))
    assert PANELS[0]["type"] == "row"


def test_it_can_be_imported() -> None:
    """It asks for the data source, the job and the instances, and contains nothing of another installation."""
    assert DASHBOARD["uid"] == "lastpair"
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 36
    assert "id" not in DASHBOARD
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    known = series()
    for name in ("job", "instance"):
        query = variables[name]["query"]["query"]
        assert query == variables[name]["definition"]
        assert set(re.findall(r"lastpair_\w+", query)) < known.keys()
        assert variables[name]["current"]["value"] == ["$__all"]
    used = {found for expression in EXPRESSIONS for found in re.findall(r"\$(\w+)", expression)}
    assert used <= variables.keys() | {"__rate_interval"}
