"""The fixtures that every test may use: a server of its own, one migrated database on it, pgTAP, and the API over HTTP."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import psycopg
import pytest

from lastpair.database.migrate import migrate
from tests.support.database import Database, fresh_embedded_database, running_api, scratch_database
from tests.support.pgtap import install_pgtap
from tests.support.servers import ROOT


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A fresh database: on the server of DATABASE_URL, as a superuser there, or on an embedded one for this run."""
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
async def empty_url(database: Database) -> AsyncIterator[str]:
    """The owner's URL of an empty database on the same server."""
    name = f"lastpair_empty_{uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(database.url)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(f"create database {name} owner {urlsplit(database.url).username}")
    yield url
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


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
