"""Two nodes, a router, and the service on it, on this machine: `make cluster`. Ctrl-C stops all of them.

The servers are Debian's PostgreSQL 15, because PL/Proxy is a package of it. Their data is in .data/cluster, and only this user
can reach them, by their sockets.
"""

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from lastpair.database.migrate import MigrationFailed, migrate
from lastpair.database.private_server import PrivateServer
from lastpair.database.router import NodeRefused, add_node, address_of, deploy
from lastpair.settings import InvalidSettings
from tests.support.servers import ROOT

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
PLPROXY = PROGRAMS.parent / "lib" / "plproxy.so"
RECIPES = ROOT / "db" / "recipes"
NODES = (0, 1)
NOT_INSTALLED = (
    "make cluster: PL/Proxy for PostgreSQL 15 is not installed here. On Debian: apt install postgresql-15 postgresql-15-plproxy."
    " compose.cluster.yaml does the same with images."
)


def as_role(superuser_url: str, role: str) -> str:
    """The URL of the database lastpair for another role."""
    return superuser_url.replace("postgres:@/postgres", f"{role}@/lastpair")


def run_recipe(name: str, url: str) -> None:
    """Run a recipe in psql."""
    command = [PROGRAMS / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", RECIPES / name, url]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(f"make cluster: db/recipes/{name} failed")


async def prepare_node(number: int, superuser_url: str) -> None:
    """Migrate a node and give it its number."""
    owner = as_role(superuser_url, "lastpair")
    await migrate(owner)
    connection = await asyncpg.connect(owner)
    try:
        await connection.execute(f"select inventory.set_node({number})")
    finally:
        await connection.close()


async def connect_nodes(router_url: str, node_urls: dict[int, str]) -> None:
    """Make the router, and tell it where the nodes are."""
    owner = as_role(router_url, "lastpair")
    await deploy(owner)
    connection = await asyncpg.connect(owner)
    try:
        known = {row[0] for row in await connection.fetch("select number from router.nodes")}
        for number in known & node_urls.keys():  # the checkout may have moved since
            address, _ = address_of(node_urls[number])
            literal = await connection.fetchval("select quote_literal($1::text)", address)
            await connection.execute(f"alter server node_{number} options (set p0 {literal})")
    finally:
        await connection.close()
    for number in node_urls.keys() - known:
        await add_node(owner, number, node_urls[number])


def serve(router_url: str) -> None:
    """Run the service on the router until Ctrl-C."""
    urls = {"DATABASE_URL": as_role(router_url, "lastpair_app"), "MIGRATION_DATABASE_URL": as_role(router_url, "lastpair")}
    with subprocess.Popen([Path(sys.executable).parent / "lastpair", "run"], env=os.environ | urls) as service:
        try:
            service.wait()
        except KeyboardInterrupt:  # the terminal has interrupted the service, too
            service.wait()


def main() -> None:
    """Start all, serve, stop all."""
    if not PLPROXY.exists():
        sys.exit(NOT_INSTALLED)
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name in (*(f"node-{number}" for number in NODES), "router"):
            server = PrivateServer(ROOT / ".data" / "cluster" / name)
            server.programs = PROGRAMS
            urls[name] = stack.enter_context(server.used())
            run_recipe("role.sql", urls[name])
        run_recipe("router.sql", urls["router"])
        for number in NODES:
            asyncio.run(prepare_node(number, urls[f"node-{number}"]))
        asyncio.run(connect_nodes(urls["router"], {number: as_role(urls[f"node-{number}"], "lastpair_app") for number in NODES}))
        print("Two nodes and a router run; their data is in .data/cluster", flush=True)
        serve(urls["router"])


if __name__ == "__main__":
    try:
        main()
    except (InvalidSettings, MigrationFailed, NodeRefused, OSError) as error:
        sys.exit(f"make cluster: {error}")
    except KeyboardInterrupt:
        pass
