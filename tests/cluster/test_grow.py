"""docs/cluster.md: from one database to two while buyers buy and watchers watch, with the commands of the page."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lastpair.database.embedded import BIN_DIR
from lastpair.database.migrate import migrate
from tests.cluster.faults import Watcher, node_of
from tests.support.clusters import PASSWORD, Cluster, cluster, commands, sh
from tests.support.database import connected
from tests.support.envelopes import as_user, assert_success, assert_unavailable
from tests.support.factories import assert_healthy, make_drop
from tests.support.killable import KillableService
from tests.support.router import FAST, plproxy, run
from tests.support.servers import ROOT
from tests.support.streams import open_stream
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

BUYERS = 6
WATCHERS = 6
PROCESSES = 2
PATIENCE_SECONDS = 120
STOCK = 1_000_000
FEW = 50
SALES = "select user_id::text, drop_id::text, status from inventory.purchases"
LOG = "select id, type, drop_id::text from inventory.events where user_id is null order by id"


class Shop:
    """Processes of the service, of which some may be replaced, with buyers who buy and watchers who watch."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.chance = random.Random("grow")  # noqa: S311 - chance that can be repeated, not a secret
        self.processes: list[KillableService] = []
        """Those that get requests."""

        self.drops: list[str] = []
        self.bought: set[tuple[str, str]] = set()
        """User and drop of each purchase that was confirmed."""

        self.refused = 0
        """Requests that were answered 503, or not at all. Each was repeated with the same key."""

        self.found: list[str] = []
        self._is_open = True

    def wrong(self, finding: str) -> None:
        """Note what must not be."""
        self.found.append(finding)

    async def replace_processes(self, database_url: str) -> None:
        """A new process on this database for each old one; an old one gets no requests any more before it stops."""
        for old in self.processes or [None] * PROCESSES:
            new = KillableService({"DATABASE_URL": database_url, "PGPASSWORD": PASSWORD, "EXPIRY_POLL_MS": "200"})
            new.start()
            await self.is_ready(new)
            self.processes = [*(process for process in self.processes if process is not old), new]
            if old is not None:
                await asyncio.to_thread(old.stop)

    async def is_ready(self, process: KillableService) -> None:
        """Wait until /readyz answers 200."""

        async def answers() -> bool:
            try:
                return (await self.http.get(f"{process.url}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, PATIENCE_SECONDS)

    async def new_drop(self, total_stock: int) -> str:
        """A drop on sale, which the buyers buy from now on; returns its id."""
        async with httpx.AsyncClient(base_url=f"{self.processes[-1].url}/api", timeout=60) as http:
            drop = await make_drop(http, str(uuid4()), total_stock=total_stock)
        self.drops.append(drop["id"])
        return str(drop["id"])

    async def buy(self) -> None:
        """Buy as one user after the other, until the shop closes."""
        while self._is_open:
            user, drop_id = str(uuid4()), self.chance.choice(self.drops)
            for action in ("reserve", "purchase"):
                await self._ask(f"/drops/{drop_id}/{action}", user)
            self.bought.add((user, drop_id))
            await asyncio.sleep(self.chance.uniform(0, 0.1))

    async def _ask(self, path: str, user: str) -> None:
        # With the same key until it is answered.
        while True:
            url = f"{self.chance.choice(self.processes).url}/api{path}"
            try:
                answer = await self.http.post(url, headers=as_user(user, idempotency_key="once", x_user_name="ann"))
            except httpx.TransportError:
                self.refused += 1
                continue
            if answer.status_code != 503:
                assert answer.status_code in {200, 201}, answer.text
                return
            assert_unavailable(answer)
            self.refused += 1
            await asyncio.sleep(0.1)

    async def sells_on(self, buying: list[asyncio.Task[None]], drop_id: str | None = None) -> None:
        """Wait until twenty more purchases are confirmed, all or those of one drop."""

        def count() -> int:
            return sum(1 for _, bought in self.bought if drop_id in {bought, None})

        goal = count() + 20

        def is_reached() -> bool:
            for task in buying:
                if task.done():
                    task.result()
            return count() >= goal

        await eventually(is_reached, PATIENCE_SECONDS)

    def close(self) -> None:
        """Let the buyers finish what they began."""
        self._is_open = False


@pytest.fixture
def servers() -> Iterator[tuple[Cluster, Cluster, Cluster]]:
    """The database of a shop, and two new servers. The superuser gets in with a password, as from another machine."""
    with ExitStack() as stack:
        found = [stack.enter_context(cluster(bin_dir, *FAST)) for bin_dir in (BIN_DIR, BIN_DIR, plproxy())]
        for server in found:
            server.psql("alter role postgres password 'it''s'", server.superuser_url)
        first, second, router = found
        run(migrate(first.url_with_password))
        first.psql("revoke lastpair_buyer, lastpair_seller from lastpair_app", first.superuser_url)  # an older installation
        yield first, second, router


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the commands that the page uses."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "psql").symlink_to(plproxy() / "psql")
    (folder / "lastpair").write_text(f'#!/bin/sh\nexec {sys.executable} -m lastpair "$@"\n')
    (folder / "lastpair").chmod(0o755)
    return folder


@asynccontextmanager
async def open_shop(database_url: str) -> AsyncIterator[Shop]:
    """Processes of the service on this database."""
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100)) as http:
        shop = Shop(http)
        try:
            await shop.replace_processes(database_url)
            yield shop
        finally:
            for process in shop.processes:
                process.kill()


async def test_from_one_database_to_two(servers: tuple[Cluster, Cluster, Cluster], programs: Path) -> None:
    """No sale fails, every event comes once, and nothing is oversold."""
    first, second, router = servers
    variables = {
        "NODE_0": f"127.0.0.1:{first.port}",
        "NODE_1": f"127.0.0.1:{second.port}",
        "ROUTER": f"127.0.0.1:{router.port}",
        "LASTPAIR_PASSWORD": PASSWORD,
        "LASTPAIR_APP_PASSWORD": PASSWORD,
        "PYTHONPATH": str(ROOT / "app"),
    }

    async def step(*names: str, then: str = "true") -> str:
        script = "\n".join([*(commands(name) for name in ("on", *names)), then])
        return await asyncio.to_thread(sh, script, ROOT, programs, **variables)

    async with open_shop(first.service_url) as shop, AsyncExitStack() as stack:
        hot = await shop.new_drop(STOCK)
        position = await position_of_a_new_stream(shop, hot)
        watchers = [Watcher(shop, f"watcher {n}", [hot] if n % 2 else []) for n in range(WATCHERS)]
        tasks = [asyncio.create_task(watcher.watch()) for watcher in watchers]
        buying = [asyncio.create_task(shop.buy()) for _ in range(BUYERS)]
        for task in (*tasks, *buying):
            stack.callback(task.cancel)
        await eventually(lambda: all(watcher.start for watcher in watchers), PATIENCE_SECONDS)
        await shop.sells_on(buying)

        assert "up to date" in await step("first node")
        assert "node 0 has joined" in await step("router")
        assert len({*(await step("compare")).split()}) == 1
        await shop.sells_on(buying)

        database_url = (await step("processes", then='echo "$DATABASE_URL"')).strip()
        await shop.replace_processes(database_url)
        await shop.sells_on(buying)

        assert "node 1 has joined" in await step("second node")
        for process in shop.processes:
            await eventually(lambda process=process: knows_node(shop, process, 1), PATIENCE_SECONDS)
        fresh = await shop.new_drop(FEW * 1000)
        assert (node_of(hot), node_of(fresh)) == (0, 1)
        await shop.sells_on(buying, hot)
        await shop.sells_on(buying, fresh)

        shop.close()
        await asyncio.gather(*buying)
        seen = await step("see")
        assert "0 violations" in seen
        await check_sales(shop, first, second)
        await check_watchers(shop, watchers, first, second)
        # The position of a client from before there was a router still counts.
        stream = await open_stream("sse", shop.processes[0].url, [hot], last_event_id=position)
        assert (await stream.receive(PATIENCE_SECONDS)).type == "STOCK_UPDATED"
        await stream.close()
    assert shop.found == []


async def position_of_a_new_stream(shop: Shop, drop_id: str) -> str:
    """The id of the SNAPSHOT of a stream."""
    stream = await open_stream("sse", shop.processes[0].url, [drop_id])
    snapshot = await stream.receive(PATIENCE_SECONDS)
    await stream.close()
    assert snapshot.id.isdecimal()
    return str(snapshot.id)


async def knows_node(shop: Shop, process: KillableService, number: int) -> bool:
    """Whether a process hears of the commits of this node."""
    return f'lastpair_node_listener_connected{{node="{number}"}} 1.0' in (await shop.http.get(f"{process.url}/metrics")).text


async def check_sales(shop: Shop, *nodes: Cluster) -> None:
    """Every purchase that was confirmed is there once, and no other."""
    there: Counter[tuple[str, str]] = Counter()
    for number, node in enumerate(nodes):
        async with connected(node.url_with_password) as owner:
            await assert_healthy(owner)
            rows = await owner.fetch(SALES)
            assert {row["status"] for row in rows} == {"paid"}
            assert {node_of(row["drop_id"]) for row in rows} == {number}
            there.update((row["user_id"], row["drop_id"]) for row in rows)
    assert there == Counter(shop.bought)


async def check_watchers(shop: Shop, watchers: list[Watcher], *nodes: Cluster) -> None:
    """Every watcher hears every event of its drops once, in the order of each node."""
    logs: dict[int, list[asyncpg.Record]] = {}
    for number, node in enumerate(nodes):
        async with connected(node.url_with_password) as owner:
            logs[number] = await owner.fetch(LOG)

    def have_all() -> bool:
        return all(
            watcher.heard[number].ids[-1:] >= [row["id"] for row in log if not watcher.drop_ids or row["drop_id"] in watcher.drop_ids][-1:]
            for watcher in watchers
            for number, log in logs.items()
        )

    await eventually(have_all, PATIENCE_SECONDS)
    for watcher in watchers:
        for number, log in logs.items():
            watcher.check(number, log)
