"""Killed without a word, under load: PostgreSQL, a process of the service, a worker. All get an answer, and nothing is lost."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import asyncpg
import httpx
import psutil
import pytest

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.database.test_faults import assert_nothing_lost
from tests.support.api import as_user, assert_error, assert_success, assert_unavailable
from tests.support.database import Database, client_of, connected
from tests.support.factories import assert_healthy, available_stock, make_drop, make_users
from tests.support.servers import Crashable, Service, started
from tests.support.shapes import Row
from tests.support.streams import fresh_database
from tests.support.waiting import eventually

BACK_WITHIN_SECONDS = 5
BUYERS = 60


class Rush:
    """Buyers of a drop who reserve a unit and purchase it, and try again whatever was not answered or not served."""

    def __init__(self, drop: Row, clients: list[httpx.AsyncClient]) -> None:
        self.drop = drop
        self.confirmed: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self.latest_seconds = 0.0
        """When the latest was served."""

        self._clients = clients

    async def run(self, users: list[str]) -> None:
        """Until all have bought."""
        await asyncio.gather(*(self._buy(n, user) for n, user in enumerate(users)))

    async def confirmed_some(self, count: int) -> None:
        """Wait until so many units are held or sold."""
        while len(self.confirmed) < count:
            await asyncio.sleep(0.001)

    async def _buy(self, n: int, user: str) -> None:
        for action in ("reserve", "purchase"):
            while not await self._ask(self._clients[n % len(self._clients)], action, user):
                n += 1  # the next one may be alive
                await asyncio.sleep(0.2)

    async def _ask(self, http: httpx.AsyncClient, action: str, user: str) -> bool:
        try:
            answer = await http.post(f"/drops/{self.drop['id']}/{action}", headers=as_user(user, idempotency_key="once"))
        except httpx.TransportError:
            self.lost += 1
            return False
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            assert_unavailable(answer)
            return False
        assert answer.status_code in (200, 201), answer.text
        self.confirmed |= {row["id"] for row in answer.json()["data"].values()}
        self.latest_seconds = monotonic()
        return True


async def assert_all_sold(owner: asyncpg.Connection, rush: Rush, users: list[str]) -> None:
    """What was confirmed at any time is there, and each user has bought one unit."""
    await assert_nothing_lost(owner, rush.drop, rush.confirmed)
    sold = await owner.fetch("select user_id::text from inventory.purchases where drop_id = $1::text::uuid", rush.drop["id"])
    assert sorted(row["user_id"] for row in sold) == sorted(users)
    assert await available_stock(owner, rush.drop["id"]) == rush.drop["total_stock"] - len(users)


@pytest.fixture(scope="module")
def server() -> Iterator[Crashable]:
    """A PostgreSQL to kill, migrated."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        yield Crashable(Path(folder), url)


async def test_postgresql_is_killed(server: Crashable) -> None:
    """Nobody hangs, /readyz is red, and within seconds of its return all are served: by the same processes, by themselves."""
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            async with connected(server.url) as owner:
                users = await make_users(owner, BUYERS)
            rush = Rush(await make_drop(http, users[0], total_stock=100), [http])
            load = asyncio.create_task(rush.run(users))
            await rush.confirmed_some(20)
            await asyncio.to_thread(server.kill)
            assert_unavailable(await http.get(f"{service.url}/readyz"))
            assert_success(await http.get(f"{service.url}/healthz"), "status")
            served = len(rush.confirmed)
            await asyncio.sleep(0)
            assert not load.done()

            await asyncio.to_thread(server.start)
            back = monotonic()
            await eventually(lambda: asyncio.to_thread(service.answers, "/readyz", 200), BACK_WITHIN_SECONDS)
            await load
            assert rush.latest_seconds - back < BACK_WITHIN_SECONDS
            assert len(rush.confirmed) > served
            assert rush.lost == 0
            assert rush.statuses[503] > 0
            async with connected(server.url) as owner:
                await assert_all_sold(owner, rush, users)
        service.stop()


@pytest.fixture
async def database_url(database: Database) -> AsyncIterator[str]:
    """A database of the test's own."""
    async with fresh_database(database) as url:
        yield url


@pytest.mark.slow
async def test_one_of_two_processes_is_killed(database_url: str) -> None:
    """What was in flight there fails as a connection does; the other serves everybody, and sweeps."""
    variables = {"DATABASE_URL": database_url, "EXPIRY_POLL_MS": "50"}
    with started(**variables) as doomed, started(**variables) as other:
        for service in (doomed, other):
            service.wait_until_ready()
        async with connected(database_url) as owner, client_of(doomed.url) as one, client_of(other.url) as two:
            users = await make_users(owner, BUYERS)
            rush = Rush(await make_drop(two, users[0], total_stock=100), [one, two])
            load = asyncio.create_task(rush.run(users))
            await rush.confirmed_some(20)
            doomed.process.kill()
            await load
            assert rush.lost > 0
            assert rush.statuses[503] == 0
            assert other.answers("/readyz", 200)
            with pytest.raises(httpx.ConnectError):  # which is red to whoever balances loads
                await one.get(f"{doomed.url}/readyz")
            await assert_all_sold(owner, rush, users)
            await owner.execute("select api.reserve($1::text::uuid, $2::text::uuid, null, 1)", rush.drop["id"], users[0])
            swept = "select count(*) = 1 from inventory.reservations where status = 'EXPIRED'"
            await eventually(lambda: owner.fetchval(swept))
            await assert_healthy(owner)
        other.stop()


LISTENERS = "select count(*) from pg_stat_activity where application_name = 'lastpair listener' and datname = current_database()"
"""Each process has one."""


def workers_of(service: Service) -> set[int]:
    """The processes that serve."""
    found = set()
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has just gone
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


@pytest.mark.slow
async def test_one_of_two_workers_is_killed(database_url: str) -> None:
    """The other serves everybody, and another one takes its place."""
    with started(DATABASE_URL=database_url, EXPIRY_POLL_MS="50", WEB_CONCURRENCY="2") as service:
        await asyncio.to_thread(service.wait_until_ready)
        async with connected(database_url) as owner, client_of(service.url) as http:
            await eventually(lambda: owner.fetchval(f"select ({LISTENERS}) = 2"))
            users = await make_users(owner, BUYERS)
            rush = Rush(await make_drop(http, users[0], total_stock=100), [http])
            load = asyncio.create_task(rush.run(users))
            await rush.confirmed_some(20)
            before = workers_of(service)
            psutil.Process(min(before)).send_signal(signal.SIGKILL)
            await load
            await assert_all_sold(owner, rush, users)
            await eventually(lambda: asyncio.to_thread(lambda: len(workers_of(service) - {min(before)}) == 2))
            await eventually(lambda: owner.fetchval(f"select ({LISTENERS}) = 2"))
            await eventually(lambda: asyncio.to_thread(lambda: all(service.answers("/readyz", 200) for _ in range(20))))
            assert_error(await http.get("/nothing"), 404, "NOT_FOUND")
        service.stop()
