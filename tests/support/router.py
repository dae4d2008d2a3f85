# ruff: noqa: S608 - the names of schemas are our own
"""A router with nodes, on Debian's PostgreSQL 15: what a cluster of several machines is, on one."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from lastpair.database.migrate import migrate
from lastpair.database.router import add_node, deploy
from tests.support.clusters import PASSWORD, Cluster, cluster
from tests.support.database import connected
from tests.support.debian import needed
from tests.support.servers import ROOT

ROUTER_RECIPE = ROOT / "db" / "recipes" / "router.sql"
BIN_DIR = Path("/usr/lib/postgresql/15/bin")
FAST = ("fsync = off", "max_connections = 200")


@dataclass(frozen=True)
class Router:
    """A running router and its nodes, by number."""

    server: Cluster
    nodes: dict[int, Cluster]

    @property
    def url(self) -> str:
        """The service's URL of the router."""
        return self.server.service_url.replace("@", f":{PASSWORD}@")

    @property
    def owner_url(self) -> str:
        """The owner's URL of the router."""
        return self.server.url_with_password

    @property
    def superuser_url(self) -> str:
        """The superuser's URL of the router's database."""
        return self.server.superuser_url.replace("/postgres?", "/lastpair?")

    def node_url(self, number: int) -> str:
        """The service's URL of a node."""
        return service_url_of(self.nodes[number])


def service_url_of(server: Cluster) -> str:
    """The service's URL of a server, with its password."""
    return server.service_url.replace("@", f":{PASSWORD}@")


def run(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine in an event loop of its own, also where one runs already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, coroutine).result()


def plproxy() -> Path:
    """The programs of a PostgreSQL 15 that has PL/Proxy."""
    library = BIN_DIR.parent / "lib" / "plproxy.so"
    needed(lambda: library if library.exists() else None, "PL/Proxy for PostgreSQL 15", "postgresql-15", "postgresql-15-plproxy")
    return BIN_DIR


@contextmanager
def running_node(number: int, bin_dir: Path = BIN_DIR, settings: Sequence[str] = FAST) -> Iterator[Cluster]:
    """A migrated server with this number, which no router knows yet."""
    with cluster(bin_dir, *settings) as server:
        run(migrate(server.url_with_password))
        server.psql(f"select inventory.set_node({number})", server.url)
        yield server


def take_drops(router: Router) -> None:
    """Let new drops go to nodes that have just joined."""
    router.server.psql("update router.nodes set drops_from = joined_at", router.server.url)


@contextmanager
def running_router(*numbers: int, settings: Sequence[str] = FAST) -> Iterator[Router]:
    """A router with nodes of these numbers, 0 and 1 by default, and with these settings of all servers; all gone afterwards."""
    bin_dir = plproxy()
    with ExitStack() as stack:
        server = stack.enter_context(cluster(bin_dir, *settings))
        server.psql(ROUTER_RECIPE, server.superuser_url)
        nodes = {number: stack.enter_context(running_node(number, settings=settings)) for number in numbers or (0, 1)}
        router = Router(server, nodes)
        run(deploy(router.owner_url))
        for number in nodes:
            run(add_node(router.owner_url, number, router.node_url(number)))
        take_drops(router)
        yield router


@contextmanager
def another_router(router: Router) -> Iterator[Router]:
    """A second router before the same nodes, which must have no drops yet."""
    with cluster(plproxy(), *FAST) as server:
        server.psql(ROUTER_RECIPE, server.superuser_url)
        other = Router(server, router.nodes)
        run(deploy(other.owner_url))
        for number in router.nodes:
            run(add_node(other.owner_url, number, router.node_url(number)))
        take_drops(other)
        yield other


@asynccontextmanager
async def service_of(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session with the rights of the service."""
    async with connected(url) as connection:
        await connection.execute("set role lastpair_service")
        yield connection


async def make_user(service: asyncpg.Connection, node: int, name: str | None = None) -> str:
    """A new user who is known on this node; returns the id."""
    user_id = str(uuid4())
    await service.fetch("select from router.ensure_users($1, array[row($2::uuid, $3)]::api.user_request[])", node, user_id, name)
    return user_id


async def make_drop(service: asyncpg.Connection, node: int, stock: int = 100) -> str:
    """A new drop on this node, on sale; returns the id."""
    user_id = await make_user(service, node)
    statement = f"select id from node_{node}.create_drop('sneaker', 10, $2, $1, now() - interval '1 minute')"
    return str(await service.fetchval(statement, user_id, stock))
