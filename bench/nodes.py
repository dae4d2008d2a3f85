"""What is measured of several nodes: what a router costs, and how much more two and four nodes sell.

All of it runs on one machine, so more nodes do not bring more processors. Therefore each node gets the same small share of
processor time, as if it were a slow machine, and the router, the service and wrk share the rest. Without control groups a fixed
delay of each commit slows the nodes instead. bench/results.md says which it was.

A node needs less processor time for a reserve if its calls are larger, and the same clients spread over more nodes make smaller
calls. So the sales of many drops are measured with the same clients for all, few and many, and with the same clients for each
node. Rates swing with everything else that the machine does. The processor time of the nodes swings less, so it is told as well.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bench.bench import Bench, reserve
from bench.http import reserve_path
from bench.load import Load, cpu_seconds_of_server, wrk
from bench.quota import is_there, slowed
from bench.rows import Row, in_turn, medians
from tests.support.clusters import Cluster
from tests.support.router import running_node, running_router

SHARE = 0.12
"""The share of one processor that each node gets."""

DROPS = 200
CLIENTS = 256
CROWD = 1024
DURABLE = ("max_connections = 200",)
DELAYED = (*DURABLE, "commit_delay = 20000", "commit_siblings = 0")


def router(bench: Bench) -> Iterator[Row]:
    """Reserves through a router and one node, beside the same node without a router."""
    with ExitStack() as stack:
        there = stack.enter_context(running_router(0, settings=DURABLE))
        node = _on(there.nodes[0], stack, bench)
        direct, through = node.service(), node.service(DATABASE_URL=there.url)
        for clients in (64, CLIENTS):
            rate = medians(
                {
                    "direct": lambda c=clients: reserve(node, direct, c).rate,
                    "through": lambda c=clients: reserve(node, through, c).rate,
                }
            )
            yield Row(
                f"reserve, {clients} clients, through a router ÷ straight to its node", rate["through"], rate["direct"], 0.85
            )
        node.audit()


def nodes(bench: Bench) -> Iterator[Row]:
    """Reserves of many drops on one, two and four nodes that are slowed alike, and of one hot drop."""
    has_quota = is_there()
    how = f"{SHARE:g} of a processor each" if has_quota else "a commit delay of 20 ms each"
    settings = DURABLE if has_quota else DELAYED
    with ExitStack() as stack:
        single_server = stack.enter_context(running_node(0, settings=settings))
        alone = _on(single_server, stack, bench)
        routers = {number: stack.enter_context(running_router(*range(number), settings=settings)) for number in (1, 2, 4)}
        benches = {number: [_on(server, stack, bench) for server in there.nodes.values()] for number, there in routers.items()}
        services = {number: alone.service(DATABASE_URL=there.url) for number, there in routers.items()}
        single = alone.service()
        if has_quota:
            for server in [single_server, *(server for there in routers.values() for server in there.nodes.values())]:
                stack.enter_context(slowed(server.pid, SHARE))

        def many(number: int, drops: int, clients: int) -> Sale:
            of_nodes = benches[number]
            paths = [reserve_path(of_nodes[n % number].drop()) for n in range(drops)]
            return sale(routers[number].nodes.values(), lambda: wrk(services[number], clients, "POST", paths, {"201"}))

        def hot() -> Sale:
            return sale([routers[4].nodes[0]], lambda: reserve(benches[4][0], services[4], CLIENTS))

        def hot_alone() -> Sale:
            return sale([single_server], lambda: reserve(alone, single, CLIENTS))

        loads: dict[str, Callable[[int], Sale]] = {
            f"{DROPS} drops and {CLIENTS} clients in all": lambda number: many(number, DROPS, CLIENTS),
            f"{DROPS} drops and {CROWD:,} clients in all": lambda number: many(number, DROPS, CROWD),
            "50 drops and 64 clients for each node": lambda number: many(number, 50 * number, 64 * number),
        }
        for what, load in loads.items():
            found = _medians({str(number): lambda n=number, on=load: on(n) for number in routers})
            one, two, four = (found[str(number)] for number in routers)
            yield Row(f"{what}, two nodes ÷ one, {how}", two.rate, one.rate, 1.8)
            yield Row(f"{what}, four nodes ÷ one, {how}", four.rate, one.rate, 3.2)
            if has_quota:
                may_use = 100 * len(routers[4].nodes) * SHARE
                yield Row(f"{what}: % of a processor that four nodes used ÷ may use", four.cpu_percent, may_use, 0.9)
        found = _medians({"through": hot, "alone": hot_alone})
        through, direct = found["through"], found["alone"]
        what = "one hot drop, through a router with four nodes ÷ a single database"
        yield Row(f"{what}, {how}", through.rate, direct.rate, 0.85)
        yield Row(f"the same, µs of the node's processor for a reserve, {how}", through.cpu_us, direct.cpu_us, 1.15, True)
        for each in [alone, *(one for some in benches.values() for one in some)]:
            each.audit()


@dataclass(frozen=True)
class Sale:
    """Reserves, and the processor time of the nodes meanwhile."""

    rate: float
    """Reserves a second."""

    cpu_us: float
    """Microseconds for a reserve."""

    cpu_percent: float
    """Percent of one processor, all nodes together."""


def sale(servers: Iterable[Cluster], load: Callable[[], Load]) -> Sale:
    """What this load sells, and the processor time that these servers use meanwhile."""
    pids = [server.pid for server in servers]
    begin = sum(map(cpu_seconds_of_server, pids))
    found = load()
    used_seconds = sum(map(cpu_seconds_of_server, pids)) - begin
    return Sale(found.rate, used_seconds / found.requests * 1e6, used_seconds / found.seconds * 100)


def _medians(measures: dict[str, Callable[[], Sale]]) -> dict[str, Sale]:
    return {
        name: Sale(*(statistics.median(getattr(one, field) for one in sales) for field in ("rate", "cpu_us", "cpu_percent")))
        for name, sales in in_turn(measures).items()
    }


def _on(server: Cluster, stack: ExitStack, bench: Bench) -> Bench:
    # With the users on it, who act on every node.
    return Bench(server.url_with_password, stack, bench.rates)
