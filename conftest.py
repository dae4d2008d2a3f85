"""The fixtures that every test may use: a server of its own, one migrated database on it, pgTAP, and the API over HTTP."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import psycopg
import pytest
from _pytest.nodeid import coerce_node_id
from schemathesis.pytest.plugin import SchemathesisFunction

from lastpair.database.migrate import migrate
from tests.support.cluster_suite import LEFT_OUT, SUITE, TOGETHER
from tests.support.database import (
    Database,
    another_database,
    client_of,
    fresh_embedded_database,
    running_api,
    scratch_database,
)
from tests.support.factories import assert_healthy
from tests.support.pgtap import install_pgtap
from tests.support.servers import ROOT
from tests.support.whole_cluster import clustered_database, put_drops_together


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of one database run on a cluster."""
    parser.addoption("--cluster", action="store_true", help="run the tests of one database on a router with two nodes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI set, a test that is skipped has failed: what this machine lacks must not go unnoticed there."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """On a cluster new drops go to both nodes, or all to the first one if the test needs that."""
    if item.config.getoption("cluster"):
        put_drops_together(item.nodeid.startswith(TOGETHER))


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test of Schemathesis gets an id of its own. With pytest 9.2 all operations have the id of their function."""
    if isinstance(item, SchemathesisFunction) and item.parent is not None:
        item._id = coerce_node_id(f"{item.parent.nodeid}::{item.name}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """No two tests have one id, because of those only one would run in several processes. On a cluster some do not run."""
    twice = [node_id for node_id, number in Counter(item.nodeid for item in items).items() if number > 1]
    assert not twice, f"these ids belong to several tests: {twice}"
    if config.getoption("cluster"):
        left_out = [item for item in items if not item.nodeid.startswith(SUITE) or item.nodeid.startswith(tuple(LEFT_OUT))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def database(pytestconfig: pytest.Config) -> Iterator[Database]:
    """A fresh database: on the server of DATABASE_URL, as a superuser there, or on an embedded one for this run.

    With --cluster it is a router with two nodes.
    """
    if pytestconfig.getoption("cluster"):
        with clustered_database() as database:
            yield database
        return
    given = os.environ.get("DATABASE_URL")
    with scratch_database(given) if given else fresh_embedded_database() as database:
        asyncio.run(migrate(database.url))
        yield database


@pytest.fixture(scope="session")
def pgtap_connection(database: Database) -> Iterator[psycopg.Connection]:
    """The owner's connection on which pytest-pgtap runs db/tests/*.sql."""
    install_pgtap(database.superuser_url, ROOT / ".data")
    with psycopg.connect(database.url) as connection:
        connection.execute((ROOT / "db" / "tests" / "helpers.sql").read_text().encode())
        connection.commit()
        yield connection


@pytest.fixture(scope="session")
async def owner(database: Database) -> AsyncIterator[asyncpg.Pool]:
    """A pool of the owner's connections: for looking behind the API and for psql users' calls."""
    pool = await asyncpg.create_pool(database.url, min_size=1, max_size=30)
    yield pool
    await pool.close()


@pytest.fixture
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """The test must end with a clean audit and without a deadlock."""
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    before = await owner.fetchval(deadlocks)
    yield
    await assert_healthy(owner)
    await owner.execute("select pg_stat_clear_snapshot()")
    assert await owner.fetchval(deadlocks) == before


@pytest.fixture
async def empty_url(database: Database) -> AsyncIterator[str]:
    """The owner's URL of an empty database on the same server."""
    async with another_database(database) as url:
        yield url


@pytest.fixture(scope="session")
async def migrated_template(database: Database) -> AsyncIterator[str]:
    """The name of a migrated database that nobody is connected to, because copying one is faster than migrating one."""
    if database.template:
        yield database.template
        return
    async with another_database(database) as url:
        await migrate(url)
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
async def migrated_url(database: Database, migrated_template: str) -> AsyncIterator[str]:
    """The owner's URL of a database that was migrated a moment ago."""
    async with another_database(database, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def api_url(database: Database) -> Iterator[str]:
    """The API, as a role that owns nothing. Its sweeper sleeps: tests expire holds when they mean to."""
    with running_api(database.service_url, EXPIRY_POLL_MS="3600000", DATABASE_POOL_SIZE="20") as url:
        yield url


@pytest.fixture(scope="session")
async def http(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API; its base is /api."""
    async with client_of(api_url) as client:
        yield client
