"""Nodes: which one an id belongs to, what is done for each, and how they are reached. Without a router; tests/cluster has one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry, Gauge

from lastpair.database import nodes as nodes_module
from lastpair.database.node_database import on_node
from lastpair.database.nodes import Node, Nodes, on_each
from lastpair.database.pool import Database
from lastpair.database.router import NodeRefused, address_of
from lastpair.database.servers import Servers, url_of
from lastpair.errors import Refusal, Unavailable
from lastpair.observability.metrics import OverNodes
from lastpair.shop.shared_calls import RESERVE
from tests.support.waiting import eventually

LOGIN_URL = "postgresql://app:it%27s@router/lastpair"
OWN_ID = "01a22aa3-ea90-788f-b9{}-99fbf551b6dd"
OLD_ID = "01a22aa2-ffff-788f-b900-99fbf551b6dd"
RANDOM_ID = "01a22aa3-ea90-488f-b900-99fbf551b6dd"


class FakeRouter:
    """A router's database, which answers what the test says."""

    watch = None

    def __init__(self, *rows: Any) -> None:
        self.rows = list(rows)
        self.is_away = False

    async def fetch(self, statement: str) -> list[Any]:
        """The rows of the statement."""
        if self.is_away:
            raise Unavailable("away")
        return [(True,)] if statement == nodes_module.IS_ROUTER else self.rows


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes have no database, and the router is asked all the time."""

    async def nothing() -> None:
        pass

    monkeypatch.setattr(nodes_module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(nodes_module, "NodeDatabase", lambda *_: SimpleNamespace(open=nothing, close=nothing))


def row(number: int, address: str = "host=a dbname=lastpair") -> tuple[int, bool, str, int]:
    """A node as the router tells of it; ids are numbered from 01a22aa3-0000 on."""
    return number, False, address, 0x01A22AA30000


def nodes_of(router: FakeRouter) -> Nodes:
    """The nodes of this router."""
    return Nodes(router, Servers(LOGIN_URL))  # type: ignore[arg-type]


async def test_an_id_says_its_node() -> None:
    """Ids that are too old, no UUIDv7, or of a number that no node has are the first node's."""
    nodes = nodes_of(FakeRouter(row(2), row(0), row(171)))
    assert nodes.of(OWN_ID.format("ab")).number is None
    await nodes.open()
    numbers = {digits: nodes.of(OWN_ID.format(digits)).number for digits in ("00", "02", "ab", "03")}
    assert numbers == {"00": 0, "02": 2, "ab": 171, "03": 2}
    assert nodes.of(OLD_ID).number == 2
    assert nodes.of(RANDOM_ID).number == 2
    assert nodes.of("not an id").number == 2
    await nodes.close()


async def test_work_is_done_for_each_node() -> None:
    """It begins when a node joins and ends when it leaves, or when all ends. A router that is away changes nothing."""
    router, running = FakeRouter(row(0)), set()

    async def work(node: Node) -> None:
        running.add(node.name)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(node.name)

    nodes = nodes_of(router)
    await nodes.open()
    tasks = [asyncio.create_task(coroutine) for coroutine in (nodes.run(), on_each(nodes, work))]
    await eventually(lambda: running == {"node 0"})
    router.rows.append(row(1))
    await eventually(lambda: running == {"node 0", "node 1"})
    first = nodes.all[0]
    router.rows[0] = row(0, "host=b,c port=5433 dbname=lastpair")
    await eventually(lambda: len(first.servers.urls) == 2)
    router.is_away = True
    await asyncio.sleep(0.1)
    assert running == {"node 0", "node 1"}
    assert nodes.all[0] is first
    router.is_away = False
    router.rows.pop(0)
    await eventually(lambda: running == {"node 1"})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not running
    await nodes.close()


async def test_a_router_that_is_away_at_the_start() -> None:
    """Until it answers its database is taken for a single one, which leaves then."""
    router, told = FakeRouter(row(0)), []
    router.is_away = True
    nodes = nodes_of(router)
    nodes.on_join.append(lambda node: told.append(("joined", node.number)))
    nodes.on_leave.append(lambda node: told.append(("left", node.number)))
    await nodes.open()
    assert told == [("joined", None)]
    router.is_away = False
    task = asyncio.create_task(nodes.run())
    await eventually(lambda: told == [("joined", None), ("left", None), ("joined", 0)])
    task.cancel()
    await nodes.close()


@pytest.mark.parametrize(
    ("address", "urls"),
    [
        ("host=a port=5433 dbname=lastpair connect_timeout=2", ["postgresql://app:it%27s@/lastpair?host=a&port=5433"]),
        (
            "host=a,b dbname='two words' target_session_attrs=read-write",
            [f"postgresql://app:it%27s@/two%20words?host={host}&target_session_attrs=read-write" for host in "ab"],
        ),
        (r"host='/a \'b\'' sslmode = require", ["postgresql://app:it%27s@/lastpair?host=%2Fa%20%27b%27&sslmode=require"]),
        ("host=a.example hostaddr=10.0.0.1", ["postgresql://app:it%27s@/lastpair?host=10.0.0.1"]),
        ("host=::1,a", [f"postgresql://app:it%27s@/lastpair?host={host}" for host in ("%5B%3A%3A1%5D", "a")]),
    ],
)
def test_addresses(address: str, urls: list[str]) -> None:
    """The relay connects to the address that the router has, with the service's own login."""
    assert Servers(url_of(address, LOGIN_URL)).urls == urls


@pytest.mark.parametrize(
    ("at", "host", "port"),
    [
        ("[::1]", "::1", "5432"),
        ("[::1]:5433,[fe80::2%25eth0],a:5434", "'::1,fe80::2%eth0,a'", "5433,5432,5434"),
        ("a,b:", "a,b", "5432,5432"),
        ("%2Frun%2Fpostgresql:5433", "/run/postgresql", "5433"),
    ],
)
def test_the_address_that_a_router_keeps(at: str, host: str, port: str) -> None:
    """It is for libpq, which takes an IPv6 address without brackets."""
    address, user = address_of(f"postgresql://lastpair_app:it%27s@{at}/lastpair")
    assert address.startswith(f"host={host} port={port} dbname=lastpair ")
    assert user == "lastpair_app"


@pytest.mark.parametrize("at", ["[::1", "::1", "a:x", "a:0", "a:65536", "a:5432:1", "[]", ""])
def test_a_url_of_a_node_that_is_none(at: str) -> None:
    """It is refused before anything uses it."""
    with pytest.raises(NodeRefused, match="--url: "):
        address_of(f"postgresql://lastpair_app@{at}/lastpair")


def test_statements_of_a_node() -> None:
    """Functions run on the node; types are the router's."""
    statement = on_node(RESERVE, 12)
    assert "from node_12.reserve_batch(" in statement
    assert "null::api.reserve_request," in statement
    assert "api.reserve_batch" not in statement


def pl_proxy(sqlstate: str, message: str, detail: str = "") -> asyncpg.PostgresError:
    """An error as a router raises it."""
    fields = {"S": "ERROR", "C": sqlstate, "M": message} | ({"D": detail} if detail else {})
    return asyncpg.PostgresError.new(fields)


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (("PT503", "DATABASE_UNAVAILABLE", "Node 2 is away."), 503, "DATABASE_UNAVAILABLE", "Node 2 is away."),
        (("XX000", "PL/Proxy function node_2.f(1): [lastpair] PQconnectPoll: 10.0.0.1"), 503, "DATABASE_UNAVAILABLE", None),
        (("57P01", "f(1): [lastpair] REMOTE FATAL: terminating connection"), 503, "DATABASE_UNAVAILABLE", None),
        (
            ("PT404", "f(1): [lastpair] REMOTE ERROR: DROP_NOT_FOUND", "Remote detail: No drop."),
            404,
            "DROP_NOT_FOUND",
            "No drop.",
        ),
    ],
)
def test_errors_of_a_router(error: tuple[str, ...], status: int, code: str, message: str | None) -> None:
    """A node that is away is like a database that is away, and what a node refused is refused. No answer has an address."""
    found = Database(LOGIN_URL, 1, pooled=False, max_pending=1)._error_for(pl_proxy(*error))
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (status, code)
    assert found.message == message or (message is None and "10.0.0.1" not in found.message)
    assert (found.retry_after_seconds is not None) == (status == 503)


def test_a_fault_of_a_function_is_none_of_a_node() -> None:
    """An internal error of another kind is not hidden."""
    error = pl_proxy("XX000", "cache lookup failed")
    assert Database(LOGIN_URL, 1, pooled=False, max_pending=1)._error_for(error) is error


def test_gauges_are_made_of_the_values_of_all_nodes() -> None:
    """A node that has left counts no more; one that was never heard of counts as 0 where that matters."""
    gauge = Gauge("test_over_nodes", "Of a test.", registry=CollectorRegistry())
    smallest = OverNodes(gauge, min)
    smallest.add("node 0")
    smallest.set("node 1", 5)
    assert gauge._value.get() == 0
    smallest.set("node 0", 7)
    assert gauge._value.get() == 5
    smallest.forget("node 1")
    assert gauge._value.get() == 7
    OverNodes.every.remove(smallest)
