"""The database that tests run on, and the API on it."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import psycopg

from lastpair.database import pool
from lastpair.database.embedded import embedded_database, service_url
from tests.support.servers import started


@dataclass(frozen=True)
class Database:
    """A migrated database that only the tests use."""

    url: str
    """As the owner of its schemas; an ordinary role on the embedded server."""

    superuser_url: str

    service_url: str
    """As the role that the service logs in as: lastpair_app on the embedded server, else the same as `url`."""

    template: str = ""
    """The name of a migrated database on the same server, if there is one that can be copied."""

    @asynccontextmanager
    async def copy(self, template: str) -> AsyncIterator[str]:
        """The owner's URL of another database on the same server, a copy of the template; it is dropped afterwards."""
        name, parts = f"lastpair_other_{uuid4().hex[:12]}", urlsplit(self.url)
        async with connected(self.superuser_url) as superuser:
            await superuser.execute(f"create database {name} template {template} owner {parts.username}")
            yield urlunsplit(parts._replace(path=f"/{name}"))
            await superuser.execute(f"drop database {name} with (force)")


@contextmanager
def fresh_embedded_database() -> Iterator[Database]:
    """An embedded server in a temporary folder."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        Path(folder).chmod(0o711)  # PgBouncer runs as the server's user, and must reach the socket
        yield Database(url, url.replace("lastpair@", "postgres@"), service_url(url))


@contextmanager
def scratch_database(url: str) -> Iterator[Database]:
    """A database made for this run on a server that is there, dropped afterwards."""
    name = f"lastpair_test_{os.getpid()}"
    scratch = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        try:
            yield Database(scratch, scratch, scratch)
        finally:
            connection.execute(f"drop database {name} with (force)".encode())


@asynccontextmanager
async def another_database(database: Database, template: str = "template1") -> AsyncIterator[str]:
    """The owner's URL of another database on the same server, a copy of the template; it is dropped afterwards."""
    async with database.copy(template) as url:
        yield url


@contextmanager
def running_api(database_url: str, **environment: str) -> Iterator[str]:
    """The API as `make run` starts it, with these settings, in a process of its own; yields its base URL.

    At the end of the block it must stop cleanly on SIGTERM, without ever having logged a stack trace.
    """
    with started(DATABASE_URL=database_url, **environment) as service:
        service.wait_until_ready()
        yield service.url
        service.stop()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API at this URL."""
    async with httpx.AsyncClient(base_url=f"{url}/api", timeout=30, limits=httpx.Limits(max_connections=100)) as client:
        yield client


@asynccontextmanager
async def calling(url: str, sessions: int = 1, *, pooled: bool = False, max_pending: int = 100) -> AsyncIterator[pool.Database]:
    """The service's way to call functions, without the service."""
    database = pool.Database(url, sessions, pooled=pooled, max_pending=max_pending)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session with the database of this URL."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
