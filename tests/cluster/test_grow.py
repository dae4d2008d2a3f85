"""docs/cluster.md with the commands of the page: from one database to two while people buy, and what an operator does later."""

import asyncio
import random
import re
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
from tests.support.cluster_shop import kill, serving
from tests.support.clusters import PASSWORD, Cluster, cluster, commands, empty_server, sh
from tests.support.database import connected
from tests.support.envelopes import as_user, assert_unavailable
from tests.support.factories import ask_reserve, assert_healthy, make_drop, reserve
from tests.support.killable import KillableService
from tests.support.router import FAST, Router, plproxy, run, running_router, service_of, service_url_of
from tests.support.servers import ROOT
from tests.support.streams import open_stream
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

BUYERS = 6
WATCHERS = 6
PROCESSES = 2
PATIENCE_SECONDS = 120
STOCK = 1_000_000
LESS_STOCK = 10_000
"""Still more than the buyers buy. The node without the first drop has fewer units to sell, so it gets the next drop."""

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
        """What must not be."""

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
def servers() -> Iterator[tuple[Cluster, Cluster, Cluster, Cluster]]:
    """The database of a shop, and three new servers, two of which can be routers."""
    with ExitStack() as stack:
        found = [stack.enter_context(cluster(bin_dir, *FAST)) for bin_dir in (BIN_DIR, BIN_DIR, plproxy(), plproxy())]
        let_in(*found)
        first, second, router, another_router = found
        run(migrate(first.url_with_password))
        first.psql("revoke lastpair_buyer, lastpair_seller from lastpair_app", first.superuser_url)  # an older installation
        yield first, second, router, another_router


def let_in(*servers: Cluster) -> None:
    """Let the superuser in with a password, as from another machine."""
    for server in servers:
        server.psql("alter role postgres password 'it''s'", server.superuser_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with db/ and the programs that the page uses."""
    (tmp_path / "db").symlink_to(ROOT / "db")
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("psql", "pg_dump", "pg_restore"):
        (folder / name).symlink_to(plproxy() / name)
    (folder / "lastpair").write_text(f'#!/bin/sh\nexec {sys.executable} -m lastpair "$@"\n')
    (folder / "lastpair").chmod(0o755)
    return tmp_path


class Page:
    """Runs commands of the page in a folder, with these servers in its variables."""

    def __init__(self, folder: Path, **servers: Cluster) -> None:
        self._folder = folder
        self._variables = {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}

    async def run(self, *names: str, then: str = "true", **more: str) -> str:
        """Run the blocks of these names one after the other; returns what they print."""
        script = "\n".join([*(commands(name) for name in ("on", *names)), then])
        passwords = {"LASTPAIR_PASSWORD": PASSWORD, "LASTPAIR_APP_PASSWORD": PASSWORD}
        variables = self._variables | passwords | {"PYTHONPATH": str(ROOT / "app")} | more
        return await asyncio.to_thread(sh, script, self._folder, self._folder / "programs", **variables)


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


async def test_from_one_database_to_two(servers: tuple[Cluster, Cluster, Cluster, Cluster], folder: Path) -> None:
    """No sale fails, every event comes once, and nothing is oversold."""
    first, second, router, another_router = servers
    page = Page(folder, NODE_0=first, NODE_1=second, ROUTER=router, ROUTER_2=another_router)
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

        assert "up to date" in await page.run("first node")
        assert "node 0 has joined" in await page.run("router")
        assert len({*(await page.run("compare")).split()}) == 1
        await shop.sells_on(buying)

        database_url = (await page.run("processes", then='echo "$DATABASE_URL"')).strip()
        await shop.replace_processes(database_url)
        await shop.sells_on(buying)

        assert "node 1 has joined" in await page.run("second node")
        for process in shop.processes:
            await eventually(lambda process=process: knows_node(shop, process, 1), PATIENCE_SECONDS)
        fresh = hot
        while node_of(fresh) == 0:  # a new node gets drops as soon as every process must know it
            await asyncio.sleep(1)
            fresh = await shop.new_drop(LESS_STOCK)
        assert node_of(fresh) == 1
        await shop.sells_on(buying, hot)
        await shop.sells_on(buying, fresh)

        shop.close()
        await asyncio.gather(*buying)
        assert shop.refused * 10 < len(shop.bought)
        assert "0 violations" in await page.run("see")
        assert "node 1 " in (await page.run("second router")).splitlines()[-1]
        assert (await page.run("upgrade")).splitlines() == ["Functions: up to date"] * 3
        await check_sales(shop, first, second)
        await check_watchers(shop, watchers, first, second)
        # The position of a client from before there was a router still counts.
        stream = await open_stream("ws", shop.processes[0].url, [hot], last_event_id=position)
        assert (await stream.receive(PATIENCE_SECONDS)).type not in {"RESYNC_REQUIRED", "SNAPSHOT"}
        await stream.close()
    assert shop.found == []


async def position_of_a_new_stream(shop: Shop, drop_id: str) -> str:
    """The id of the SNAPSHOT of a stream."""
    stream = await open_stream("ws", shop.processes[0].url, [drop_id])
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
            watcher.heard[number].ids[-1:]
            >= [row["id"] for row in log if not watcher.drop_ids or row["drop_id"] in watcher.drop_ids][-1:]
            for watcher in watchers
            for number, log in logs.items()
        )

    await eventually(have_all, PATIENCE_SECONDS)
    for watcher in watchers:
        for number, log in logs.items():
            watcher.check(number, log)


@pytest.fixture
def router_and_servers() -> Iterator[tuple[Router, Cluster, Cluster]]:
    """A router with two nodes, and two new servers."""
    with running_router() as router, cluster(plproxy(), *FAST) as one, cluster(plproxy(), *FAST) as other:
        let_in(one, other)
        yield router, one, other


async def test_a_router_and_a_node_are_restored_and_a_node_leaves(
    router_and_servers: tuple[Router, Cluster, Cluster], folder: Path
) -> None:
    """Only clients of the restored node start again."""
    router, new_router, restored = router_and_servers
    old = router.nodes[1]
    page = Page(folder, ROUTER=router.server, NEW_ROUTER=new_router, NEW_NODE=restored)
    async with serving(router) as shop:
        drops = await shop.drops()
        assert "node 1 " in await page.run("backup of a router", "restore a router")
        async with service_of(service_url_of(new_router)) as service:
            assert {str(row["id"]) for row in await service.fetch("select id from api.list_drops()")} == {*drops.values()}

        url = str(shop.http.base_url).removesuffix("/api/")
        streams = {number: await open_stream("ws", url, [drop_id]) for number, drop_id in drops.items()}
        for number, stream in streams.items():
            await stream.receive(PATIENCE_SECONDS)
            await reserve(shop.http, drops[number], str(uuid4()))
            assert (await stream.receive(PATIENCE_SECONDS)).type == "STOCK_UPDATED"
        await page.run("backup", MIGRATION_DATABASE_URL=old.url)
        await reserve(shop.http, drops[1], str(uuid4()))
        lost = await streams[1].receive(PATIENCE_SECONDS)

        old.crash()
        number, *audit = (await page.run("restore a node")).split("invariant")
        assert re.search(r"^ +1$", number, re.MULTILINE)
        assert "(0 rows)" in audit[0]
        await page.run("address", NODE="1", HOSTS="127.0.0.1", PORTS=str(restored.port))

        async def sells() -> bool:
            return (await ask_reserve(shop.http, drops[1], str(uuid4()))).status_code == 201

        await eventually(sells, PATIENCE_SECONDS)
        assert [(await streams[1].receive(PATIENCE_SECONDS)).type for _ in range(2)] == ["RESYNC_REQUIRED", "SNAPSHOT"]
        again = await open_stream("ws", url, [drops[1]], last_event_id=lost.id)
        assert (await again.receive(PATIENCE_SECONDS)).type == "RESYNC_REQUIRED"
        await reserve(shop.http, drops[0], str(uuid4()))
        assert (await streams[0].receive(PATIENCE_SECONDS)).type == "STOCK_UPDATED"

        assert "draining" in await page.run("drain")
        async with connected(restored.url_with_password) as owner:
            await assert_healthy(owner)
            await owner.fetch("select from api.cancel_drop($1)", drops[1])
        assert "node 1 is detached" in await page.run("detach")
        await eventually(lambda: len(shop.components.nodes.all) == 1, PATIENCE_SECONDS)
        await reserve(shop.http, drops[0], str(uuid4()))


EPOCHS = "select count(*) from inventory.event_epochs"


async def test_the_standby_of_a_node_takes_over(folder: Path) -> None:
    """The node is killed under load and its standby promoted: nothing that was confirmed is lost, every event comes once."""
    with running_router() as router, empty_server(plproxy()) as standby:
        first, old = router.nodes.values()
        let_in(old)
        page = Page(folder, ROUTER=router.server, NODE_1=old, STANDBY=standby)
        async with open_shop(router.server.service_url) as shop, AsyncExitStack() as stack:
            drops = [await shop.new_drop(STOCK) for _ in range(2)]
            [drop_id] = [drop_id for drop_id in drops if node_of(drop_id) == 1]
            watchers = [Watcher(shop, f"watcher {n}", [drop_id] if n % 2 else []) for n in range(WATCHERS)]
            tasks = [asyncio.create_task(watcher.watch()) for watcher in watchers]
            buying = [asyncio.create_task(shop.buy()) for _ in range(BUYERS)]
            for task in (*tasks, *buying):
                stack.callback(task.cancel)
            await eventually(lambda: all(watcher.start for watcher in watchers), PATIENCE_SECONDS)
            await shop.sells_on(buying, drop_id)

            await page.run("standby", DATA=f"{standby.folder}/data")
            standby.configure()
            await asyncio.to_thread(standby.start)
            await eventually(lambda: is_waited_for(page), PATIENCE_SECONDS)
            await page.run("address", NODE="1", HOSTS="127.0.0.1,127.0.0.1", PORTS=f"{old.port},{standby.port}")
            await shop.sells_on(buying, drop_id)
            async with connected(old.url_with_password) as owner:
                assert await owner.fetchval(EPOCHS) == 1

            await asyncio.to_thread(kill, old)
            await eventually(lambda: shop.refused > 0, PATIENCE_SECONDS)
            await page.run("promote")
            await shop.sells_on(buying, drop_id)
            shop.close()
            await asyncio.gather(*buying)
            await check_sales(shop, first, standby)
            await check_watchers(shop, watchers, first, standby)
            async with connected(standby.url_with_password) as owner:
                assert await owner.fetchval(EPOCHS) == 2
        assert shop.found == []


async def is_waited_for(page: Page) -> bool:
    """Whether commits wait for the standby."""
    return "streaming|sync" in await page.run("synchronous")


async def test_what_the_standby_of_a_node_lacks_is_lost(folder: Path) -> None:
    """Without synchronous replication. Who saw an event that was lost starts again; streams of another node notice nothing."""
    with running_router() as router, empty_server(plproxy()) as standby:
        old = router.nodes[1]
        let_in(old)
        page = Page(folder, ROUTER=router.server, NODE_1=old, STANDBY=standby)
        async with serving(router) as shop:
            drops = await shop.drops()
            await page.run("standby", DATA=f"{standby.folder}/data")
            standby.configure()
            await page.run("address", NODE="1", HOSTS="127.0.0.1,127.0.0.1", PORTS=f"{old.port},{standby.port}")
            url = str(shop.http.base_url).removesuffix("/api/")
            streams = {number: await open_stream("ws", url, [drop_id]) for number, drop_id in drops.items()}
            for stream in streams.values():
                await stream.receive(PATIENCE_SECONDS)
            await reserve(shop.http, drops[1], str(uuid4()))  # the standby does not run yet
            lost = await streams[1].receive(PATIENCE_SECONDS)
            await asyncio.to_thread(kill, old)
            await asyncio.to_thread(standby.start)
            await page.run("promote")

            assert [(await streams[1].receive(PATIENCE_SECONDS)).type for _ in range(2)] == ["RESYNC_REQUIRED", "SNAPSHOT"]
            again = await open_stream("ws", url, [drops[1]], last_event_id=lost.id)
            assert (await again.receive(PATIENCE_SECONDS)).type == "RESYNC_REQUIRED"
            snapshot = await again.receive(PATIENCE_SECONDS)
            assert [drop["available_stock"] for drop in snapshot.data["drops"]] == [100]
            await reserve(shop.http, drops[0], str(uuid4()))
            assert (await streams[0].receive(PATIENCE_SECONDS)).type == "STOCK_UPDATED"
        async with connected(standby.url_with_password) as owner:
            await assert_healthy(owner)
