"""What is measured of several nodes: what a router costs, and how much more two and four nodes sell.

All of it runs on one machine, so more nodes do not bring more processors. Therefore each node gets the same small share of
processor time, as if it were a slow machine, and the router, the service and wrk share the rest. Without control groups a fixed
delay of each commit slows the nodes instead. bench/results.md says which it was.
"""

from collections.abc import Iterator
from contextlib import ExitStack

from bench.bench import Bench, reserve
from bench.http import reserve_path
from bench.load import wrk
from bench.quota import is_there, slowed
from bench.rows import Row, medians
from tests.support.clusters import Cluster
from tests.support.router import running_node, running_router

SHARE = 0.12
"""The share of one processor that each node gets."""

DROPS = 200
CLIENTS = 256
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

        def many(number: int) -> float:
            of_nodes = benches[number]
            paths = [reserve_path(of_nodes[n % number].drop()) for n in range(DROPS)]
            return wrk(services[number], CLIENTS, "POST", paths, {"201"}).rate

        def hot(number: int) -> float:
            return reserve(benches[number][0], services[number], CLIENTS).rate

        rate = medians({f"{number} nodes": lambda n=number: many(n) for number in routers})
        yield Row(f"{DROPS} drops, two nodes ÷ one, {how}", rate["2 nodes"], rate["1 nodes"], 1.8)
        yield Row(f"{DROPS} drops, four nodes ÷ one, {how}", rate["4 nodes"], rate["1 nodes"], 3.2)
        rate = medians({"four": lambda: hot(4), "alone": lambda: reserve(alone, single, CLIENTS).rate})
        yield Row(f"one hot drop, through a router with four nodes ÷ a single database, {how}", rate["four"], rate["alone"], 0.85)
        for each in [alone, *(one for some in benches.values() for one in some)]:
            each.audit()


def _on(server: Cluster, stack: ExitStack, bench: Bench) -> Bench:
    # With the users on it, who act on every node.
    return Bench(server.url_with_password, stack, bench.rates)
