"""docs/operations.md tells the truth: metrics, alerts and links are compared, what it says to type is typed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import asyncpg
import prometheus_client
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from lastpair.database.embedded import BIN_DIR
from lastpair.database.migrate import migrate
from lastpair.observability import metrics
from lastpair.settings import Settings
from lastpair.shop.sweeper import jobs
from lastpair.web.lifespan import payment_jobs
from tests.support.clusters import OPERATIONS, PASSWORD, ROLE_RECIPE, Cluster, cluster, commands, sh
from tests.support.database import Database, client_of, running_api
from tests.support.envelopes import as_user, assert_success, assert_unavailable
from tests.support.factories import assert_healthy, make_drop, make_user, purchase, reserve
from tests.support.servers import ROOT

DOCUMENT = OPERATIONS.read_text()
ALERTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "docs" / "alerts.yml").read_text())["groups"][0]["rules"]
SUFFIXES = {prometheus_client.Counter: "_total", prometheus_client.Gauge: "", prometheus_client.Histogram: ""}


def section(title: str) -> str:
    """The text under `## title`."""
    return DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(title: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the titles of a page."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def documented_metrics() -> dict[str, MetricWrapperBase]:
    """The metrics that the code defines, by the name that /metrics gives them."""
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {metric._name + SUFFIXES[type(metric)]: metric for metric in found}


def test_every_metric_is_explained() -> None:
    """The table has every metric with its labels, and no other."""
    written = {row[0]: [label for label in row[1].split(", ") if label] for row in table("Every metric")}
    assert written == {name: list(metric._labelnames) for name, metric in documented_metrics().items()}


def test_every_metric_named_anywhere_exists() -> None:
    """The pages and the alerts name only metrics that exist, besides the roles and the channel."""
    known = {"lastpair_events", *re.findall(r"'(lastpair_\w+)'", ROLE_RECIPE.read_text())}
    for name, metric in documented_metrics().items():
        endings = ("", "_bucket", "_sum", "_count") if isinstance(metric, prometheus_client.Histogram) else ("",)
        known |= {name + ending for ending in endings}
    for file in [*(ROOT / "docs").glob("*.md"), ROOT / "docs" / "alerts.yml", ROOT / "README.md"]:
        assert set(re.findall(r"\blastpair_\w+", file.read_text())) <= known, file


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_alert(rule: dict[str, Any]) -> None:
    """A rule uses metrics, labels and routes that exist, and the document has a section that says what to do."""
    known = documented_metrics()
    labels = {"instance", "job", "le"}
    for name in re.findall(r"\b(?:lastpair_\w+|up)\b", rule["expr"]):
        if name == "up":
            continue
        metric = known.get(name) or known[re.sub(r"_(bucket|sum|count)$", "", name)]
        assert name.endswith("_bucket") == isinstance(metric, prometheus_client.Histogram), name
        labels |= set(metric._labelnames)
    selected = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", rule["expr"]) + re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"])
    assert {label.strip() for group in selected for label in group.split(",")} <= labels
    for pattern in re.findall(r"route=\"([^\"]+)\"", rule["expr"]):
        assert f'route("{pattern}"' in (ROOT / "app/lastpair/web/routes.py").read_text()
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    steps = section("What to do for each alert").partition(f"\n### {rule['alert']}\n")[2].partition("\n### ")[0]
    assert len(steps) > 200


def test_every_job_of_the_sweeper_has_an_alert() -> None:
    """Rules ask for the jobs by name: together for all of them, and for each only once."""
    named = [re.findall(r'sweeper_job=~"([^"]*)"', rule["expr"]) for rule in ALERTS]
    settings = Settings.model_construct(expiry_poll_ms=1, event_retention_seconds=1)
    payments = Mock(providers={"stripe": Mock()})
    expected = sorted(job.name for job in [*jobs(Mock(), settings), *payment_jobs(payments, settings)])
    assert sorted(job for patterns in named for pattern in patterns for job in pattern.split("|")) == expected


def test_every_section_about_an_alert_has_one() -> None:
    """The sections are about the alerts, in the order of the rules."""
    titles = re.findall(r"^### (Lastpair\w+)$", DOCUMENT, re.MULTILINE)
    assert titles == [rule["alert"] for rule in ALERTS]


@pytest.mark.parametrize(
    "file", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")], ids=lambda file: file.name
)
def test_links_lead_somewhere(file: Path) -> None:
    """Every file and every title that a link names exists."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text):
        link = "".join(target)
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            page = file.parent / path if path else file
            assert page.exists(), link
            assert not anchor or anchor in anchors(page.read_text()), link


@pytest.fixture(scope="module")
def new_server(database: Database) -> Iterator[Cluster]:
    """Another server, on which only role.sql has been run."""
    with cluster(BIN_DIR) as server:
        yield server


@pytest.mark.slow
async def test_a_restored_dump_is_sound_and_sells(empty_url: str, new_server: Cluster, tmp_path: Path) -> None:
    """Back up and restore with the commands of the document: the service goes on with every hold and sale."""
    user = str(uuid4())
    with running_api(empty_url) as url:
        async with client_of(url) as client:
            drop = await make_drop(client, user, total_stock=3)
            held = await reserve(client, drop["id"], user)
    sh(commands("backup"), tmp_path, BIN_DIR, MIGRATION_DATABASE_URL=empty_url)
    printed = sh(commands("restore"), tmp_path, BIN_DIR, NEW_DATABASE_URL=new_server.url)
    assert printed.rstrip().endswith("(0 rows)")
    with running_api(new_server.service_url, PGPASSWORD=PASSWORD) as url:
        async with client_of(url) as client:
            [reservation] = assert_success(await client.get("/reservations/me", headers=as_user(user)), "reservations")
            assert reservation["id"] == held["id"]
            await purchase(client, drop["id"], user)
            again = assert_success(await client.get(f"/drops/{drop['id']}"), "drop")
            assert (again["total_stock"], again["available_stock"]) == (3, 2)
    for statement, expected in [
        ("select * from api.audit()", ""),
        ("select count(*) from inventory.purchases where status = 'paid'", "1"),
        ("select has_table_privilege('lastpair_service', 'inventory.drops', 'select')", "f"),
    ]:
        assert new_server.psql(statement, new_server.url) == expected


async def test_an_old_process_that_starts_late_puts_its_functions_back(empty_url: str, tmp_path: Path) -> None:
    """This is why a deployment ends with another migrate, and how going back works."""
    await migrate(empty_url)
    shutil.copytree(ROOT / "app", tmp_path / "app")
    old_functions = tmp_path / "app" / "lastpair" / "db" / "functions"
    file = old_functions / "inventory" / "errors.sql"
    file.write_text(file.read_text().replace("Every unit of this drop is held or sold.", "Sold out."))
    (old_functions / "api" / "snapshot.sql").unlink()
    connection = await asyncpg.connect(empty_url)
    shape = "select pg_get_functiondef('inventory.errors()'::regprocedure), to_regproc('api.snapshot')::text"
    new = await connection.fetchrow(shape)

    variables = os.environ | {"DATABASE_URL": empty_url, "PYTHONPATH": str(tmp_path / "app")}
    subprocess.run([sys.executable, "-m", "lastpair", "migrate"], cwd=tmp_path, env=variables, check=True)
    old = await connection.fetchrow(shape)
    assert "Sold out." in old[0]
    assert old[1] is None
    await migrate(empty_url)
    assert await connection.fetchrow(shape) == new
    await assert_healthy(connection)
    await connection.close()


async def test_a_process_whose_function_is_gone_says_try_again(empty_url: str) -> None:
    """An old process answers 503 for a function that a newer version dropped, and goes on with all others."""
    await migrate(empty_url)
    connection = await asyncpg.connect(empty_url)
    with running_api(empty_url) as url:
        async with client_of(url) as client:
            await connection.execute("drop function api.list_drops(text, integer, uuid, timestamptz)")
            assert_unavailable(await client.get("/drops"))
            await make_drop(client, await make_user(connection))
    await connection.close()
