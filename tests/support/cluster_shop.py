"""A service whose database is a router, in the process of the tests."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import psutil

from lastpair.web.components import Components
from tests.support.clusters import Cluster
from tests.support.factories import make_drop_by_sql
from tests.support.in_process import served, settings_for
from tests.support.router import Router
from tests.support.waiting import eventually

PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class ClusterShop:
    """The service, and the owner's sessions with its nodes."""

    components: Components
    http: httpx.AsyncClient
    owners: dict[int, asyncpg.Pool]

    async def drops(self, total_stock: int = 100, **terms: int) -> dict[int, str]:
        """A new live drop on each node: number to id."""
        return {number: await make_drop_by_sql(owner, total_stock, **terms) for number, owner in self.owners.items()}


@asynccontextmanager
async def serving(router: Router, url: str | None = None, **settings: Any) -> AsyncIterator[ClusterShop]:
    """The service with these settings. `url` leads to the router, too."""
    async with AsyncExitStack() as stack:
        owners = {
            number: await stack.enter_async_context(asyncpg.create_pool(node.url_with_password, min_size=0, max_size=4))
            for number, node in router.nodes.items()
        }
        service = await stack.enter_async_context(served(settings_for(url or router.url, **settings)))
        await eventually(lambda: len(service.components.nodes.all) == len(owners), PATIENCE_SECONDS)
        yield ClusterShop(service.components, service.http, owners)


def processes_of(server: Cluster) -> list[psutil.Process]:
    """The processes of a server, the first one first."""
    first = psutil.Process(int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
    return [first, *first.children(recursive=True)]


def kill(server: Cluster) -> None:
    """Kill all processes of a server at once."""
    processes = processes_of(server)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes)
    (server.folder / "data" / "postmaster.pid").unlink()  # nobody has to stop it any more


@contextmanager
def frozen(server: Cluster) -> Iterator[None]:
    """No process of the server runs during the block, but the system still takes connections for it."""
    processes = processes_of(server)
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
