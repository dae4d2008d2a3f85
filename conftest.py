"""What every test stands on: a server of its own, one migrated database on it, pgTAP, and the API over HTTP."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import psycopg
import pytest

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.pgtap import install_pgtap
from tests.servers import ROOT, started


@dataclass(frozen=True)
class Database:
    """A migrated database that only the tests use."""

    url: str
    """As the owner of its schemas; an ordinary role on the embedded server."""

    superuser_url: str


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A fresh database: on the server of DATABASE_URL, as a superuser there, or on an embedded one for this run."""
    given = os.environ.get("DATABASE_URL")
    with scratch_database(given) if given else fresh_embedded_database() as database:
        asyncio.run(migrate(database.url))
        yield database


@contextmanager
def fresh_embedded_database() -> Iterator[Database]:
    """An embedded server in a temporary folder."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        yield Database(url, url.replace("lastpair@", "postgres@"))


@contextmanager
def scratch_database(url: str) -> Iterator[Database]:
    """A database made for this run on a server that is there, dropped afterwards."""
    name = f"lastpair_test_{os.getpid()}"
    scratch = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        try:
            yield Database(scratch, scratch)
        finally:
            connection.execute(f"drop database {name} with (force)".encode())


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
async def empty_url(database: Database) -> AsyncIterator[str]:
    """The owner's URL of an empty database on the same server."""
    name = f"lastpair_empty_{uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(database.url)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(f"create database {name} owner {urlsplit(database.url).username}")
    yield url
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


@contextmanager
def running_api(database_url: str, **environment: str) -> Iterator[str]:
    """The API as `make run` starts it, with these settings, in a process of its own; yields its base URL.

    On the way out it must stop cleanly on SIGTERM, without ever having logged a stack trace.
    """
    with started(DATABASE_URL=database_url, **environment) as service:
        service.wait_until_ready()
        yield service.url
        service.stop()


@pytest.fixture(scope="session")
def api_url(database: Database) -> Iterator[str]:
    """The API, whose poller sleeps: tests expire holds when they mean to."""
    with running_api(database.url, EXPIRY_POLL_MS="3600000", DATABASE_POOL_SIZE="20") as url:
        yield url


@pytest.fixture(scope="session")
async def http(api_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API; its base is /api."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=f"{api_url}/api", timeout=30, limits=limits) as client:
        yield client
