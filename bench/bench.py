"""What all parts need: a database with users and drops in it, and services on it."""

import asyncio
import json
import sys
from contextlib import ExitStack, redirect_stdout
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from bench.load import Load, wrk
from lastpair.database.migrate import migrate
from tests.support.explained import Explained
from tests.support.servers import Service, started
from tests.support.waiting import wait_for

USERS = 400_000
PLENTY = 10_000_000
SELLER = UUID("00000000-0000-7000-8000-000000000001")


def user_id(number: int) -> UUID:
    """The id of the user with this number, which load.lua makes as well."""
    return UUID(f"00000000-0000-7000-8000-{number:012x}")


class Bench:
    """A database with users and drops in it, and services beside each other on it."""

    def __init__(self, url: str, stack: ExitStack, rates: dict[str, float]) -> None:
        """Make the tables and the users. `rates` is for the picture: what, and how many a second."""
        self.url = url
        self.rates = rates
        self.stack = stack
        """What is to be ended with the part."""

        with redirect_stdout(sys.stderr):
            asyncio.run(migrate(url))
        self._runner = stack.enter_context(asyncio.Runner())
        self._connection = self.connect()
        self.sql(
            "insert into inventory.users (id, username)"
            " select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user ' || n from generate_series(1, $1) n",
            USERS,
        )

    def do(self, awaitable: Any) -> Any:
        """Wait for something asynchronous."""

        async def run() -> Any:
            return await awaitable

        return self._runner.run(run())

    def connect(self, *, as_superuser: bool = False) -> asyncpg.Connection:
        """A new session, of the owner or of who may do everything."""
        return self.do(asyncpg.connect(self.url.replace("lastpair@", "postgres@") if as_superuser else self.url))

    def explained(self) -> Explained:
        """A new session that tells its plans."""
        session = Explained(self.connect(as_superuser=True))
        self.do(session.open())
        return session

    def sql(self, statement: str, *arguments: object) -> Any:
        """The rows of a statement, run as the owner."""
        return self.do(self._connection.fetch(statement, *arguments))

    def script(self, statements: str) -> None:
        """Run several statements as the owner."""
        self.do(self._connection.execute(statements))

    def another_database(self) -> "Bench":
        """A second database on the same server, with the same tables and users."""
        self.do(self.connect(as_superuser=True).execute("create database another owner lastpair"))
        return Bench(self.url.replace("/lastpair?", "/another?"), self.stack, self.rates)

    def drop(self, stock: int = PLENTY) -> str:
        """A new live drop; returns its id."""
        return str(self.sql("select id from api.create_drop('Bench', 1, $1, $2, now())", stock, SELLER)[0][0])

    def service(self, **environment: str) -> Service:
        """The service on this database. At LOG_LEVEL=warning, which `started` sets, it logs no requests."""
        variables = {"DATABASE_URL": self.url, "EXPIRY_POLL_MS": "3600000", "RESERVATION_TTL_SECONDS": "86400"} | environment
        service = self.stack.enter_context(started(**variables))
        service.wait_until_ready()
        return service

    def bare(self, service: Service, method: str, path: str, user: int) -> Service:
        """bench/bare.py with the answer that the service gives to this request."""
        headers = {"X-User-Id": str(user_id(user))}
        real = httpx.request(method, service.url + path, headers=headers)
        answer = {
            "status": real.status_code,
            "headers": [[name, value] for name, value in real.headers.multi_items() if name != "date"],  # uvicorn sends it
            "body": real.text,
        }
        options = ["--no-access-log", "--no-server-header", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
        command = ("uvicorn", "bench.bare:create_app", "--factory", "--lifespan", "off", "--port", "PORT", *options)
        bare = self.stack.enter_context(started(*command, ANSWER=json.dumps(answer)))
        wait_for(lambda: bare.answers("/", real.status_code), timeout_seconds=20)
        copy = httpx.request(method, bare.url + path, headers=headers)
        assert len(bytes_of(copy)) == len(bytes_of(real))
        return bare

    def audit(self) -> None:
        """Nothing was oversold or lost."""
        assert self.sql("select * from api.audit()") == []


def bytes_of(response: httpx.Response) -> bytes:
    """An answer as it was sent, the first line apart."""
    return b"\r\n".join([*map(b": ".join, response.headers.raw), b"", response.content])


def reserve(bench: Bench, service: Service, clients: int, stock: int = PLENTY) -> Load:
    """Reserves on a new drop, by a user each."""
    expected = {"201"} if stock == PLENTY else {"201", "409 OUT_OF_STOCK"}
    return wrk(service, clients, "POST", [f"/api/drops/{bench.drop(stock)}/reserve"], expected)
