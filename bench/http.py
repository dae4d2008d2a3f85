"""What is measured over HTTP: reserves and purchases, beside a bare ASGI application and beside the peers.

All get the same requests from the same wrk. Answers have the same status and body: those of the bare application have as many
bytes as the service's, those of the peers have the same fields. Neither the service nor what it is compared with logs requests.
Everything that is compared is durable: PostgreSQL with its default settings (fsync and synchronous_commit are on), and Redis with
an append-only file that is synced before each answer.
"""

import json
import statistics
from collections.abc import Iterator
from uuid import UUID

from bench.bench import PLENTY, SELLER, Bench, reserve
from bench.load import SECONDS, Load, lone_p50_ms, wrk
from bench.peers import Peer, holdfast_peer, redis_peer
from bench.rows import Row, in_turn, medians
from tests.support.servers import Service


def reserve_path(drop_id: str) -> str:
    """Where a drop is reserved."""
    return f"/api/drops/{drop_id}/reserve"


def bare_reserve(bench: Bench, service: Service) -> Service:
    """The bare application with the answer to a reserve."""
    return bench.bare(service, "POST", reserve_path(bench.drop()), 1)


def bare_sold_out(bench: Bench, service: Service) -> Service:
    """The bare application with the answer to a reserve on a drop that is sold out."""
    drop_id = bench.drop(1)
    bench.sql("select from api.reserve($1, $2)", UUID(drop_id), SELLER)
    return bench.bare(service, "POST", reserve_path(drop_id), 2)


def on_bare(bare: Service, clients: int, expected: str = "201") -> Load:
    """The requests of a reserve to the bare application."""
    return wrk(bare, clients, "POST", [reserve_path(str(SELLER))], {expected})


def on_peer(peer: Peer, clients: int, stock: int = PLENTY) -> Load:
    """Reserves on a new drop of a peer."""
    expected = {"201"} if stock == PLENTY else {"201", "409 OUT_OF_STOCK"}
    return wrk(peer.service, clients, "POST", [reserve_path(peer.drop(stock))], expected)


def hot_drop(bench: Bench) -> Iterator[Row]:
    """Reserves on one drop, with stock and sold out."""
    service = bench.service()
    bare, bare_refusal, redis = bare_reserve(bench, service), bare_sold_out(bench, service), redis_peer(bench.stack)
    for clients in (64, 256):
        measures = {
            "bare": lambda c=clients: on_bare(bare, c),
            "reserve": lambda c=clients: reserve(bench, service, c),
            "bare refusal": lambda c=clients: on_bare(bare_refusal, c, "409 OUT_OF_STOCK"),
            "sold out": lambda c=clients: reserve(bench, service, c, 1),
        }
        if redis is not None:
            measures |= {
                "redis": lambda c=clients: on_peer(redis, c),
                "redis sold out": lambda c=clients: on_peer(redis, c, 1),
            }
        loads = in_turn(measures)
        rate = {name: statistics.median(load.rate for load in found) for name, found in loads.items()}
        cpu_us = {name: statistics.median(load.cpu_us for load in found) for name, found in loads.items()}
        peer = "Fastify + ioredis + Lua, AOF always"
        low = clients == 64
        yield Row(f"reserve, {clients} clients ÷ {peer}", rate["reserve"], rate.get("redis"), 1 if low else 1.2)
        yield Row(f"sold out, {clients} clients ÷ {peer}, sold out", rate["sold out"], rate.get("redis sold out"), 1)
        yield Row(f"reserve, {clients} clients ÷ bare ASGI app", rate["reserve"], rate["bare"], 0.38 if low else 0.45)
        yield Row(f"sold out, {clients} clients ÷ bare ASGI app", rate["sold out"], rate["bare refusal"], 0.6 if low else 0.65)
        yield Row(
            f"CPU of the process, µs a reserve, {clients} clients ÷ a request of the bare ASGI app",
            cpu_us["reserve"],
            cpu_us["bare"],
            1.5,
            is_upper_bound=True,
        )
    bench.rates |= {
        "Bare ASGI app on uvicorn, same bytes": rate["bare"],
        "Lastpair: reserve, one hot drop": rate["reserve"],
        "Lastpair: sold out": rate["sold out"],
    }
    if redis is not None:
        bench.rates |= {
            "Fastify, ioredis, Lua script, AOF always": rate["redis"],
            "Fastify, ioredis, Lua script: sold out": rate["redis sold out"],
        }


def without_batching(bench: Bench) -> Iterator[Row]:
    """Reserves on one drop with BATCH_MAX_SIZE=1, beside those with batching and beside holdfast."""
    service, one_by_one, holdfast = bench.service(), bench.service(BATCH_MAX_SIZE="1"), holdfast_peer(bench)
    for clients in (64, 256):
        measures = {
            "batched": lambda c=clients: reserve(bench, service, c).rate,
            "single": lambda c=clients: reserve(bench, one_by_one, c).rate,
        }
        if holdfast is not None:
            measures["holdfast"] = lambda c=clients: on_peer(holdfast, c).rate
        rate = medians(measures)
        yield Row(f"reserve, {clients} clients ÷ BATCH_MAX_SIZE=1", rate["batched"], rate["single"], 5)
        if clients == 64:
            peer = "holdfast's shape (Fastify + pg, a transaction a request)"
            yield Row(f"BATCH_MAX_SIZE=1, 64 clients ÷ {peer}", rate["single"], rate.get("holdfast"), 1.5)
    bench.rates["Lastpair: reserve, one call a request"] = rate["single"]
    if holdfast is not None:
        bench.rates["Fastify, pg, a transaction a request (holdfast)"] = rate["holdfast"]

    p50_ms = lone_p50_ms({"batched": service, "single": one_by_one}, reserve_path(bench.drop()))
    yield Row(
        "p50 in ms of one request at a time, batching ÷ BATCH_MAX_SIZE=1",
        p50_ms["batched"],
        p50_ms["single"],
        1.05,
        is_upper_bound=True,
    )


def sale(bench: Bench) -> Iterator[Row]:
    """Purchases after reserves, and reserves on many drops."""
    service = bench.service()
    bare = bare_reserve(bench, service)

    def reserve_then_purchase(clients: int) -> float:
        drop_id = bench.drop()
        first = wrk(service, clients, "POST", [reserve_path(drop_id)], {"201"})
        # The same users again; not quite all, because wrk drops what is under way when its time is up.
        second = wrk(
            service,
            clients,
            "POST",
            [f"/api/drops/{drop_id}/purchase"],
            {"201", "409 NO_ACTIVE_RESERVATION"},
            seconds=max(1, SECONDS - 1),
        )
        [[sold]] = bench.sql("select count(*) from inventory.purchases where drop_id = $1", UUID(drop_id))
        return 2 / (1 / first.rate + second.seconds / sold)

    for clients in (64, 256):
        rate = medians(
            {
                "bare": lambda c=clients: on_bare(bare, c).rate,
                "both": lambda c=clients: reserve_then_purchase(c),
            }
        )
        bound = 0.3 if clients == 64 else 0.35
        yield Row(f"reserve then purchase, both counted, {clients} clients ÷ bare ASGI app", rate["both"], rate["bare"], bound)
    bench.rates["Lastpair: reserve then purchase, both counted"] = rate["both"]

    def hundred() -> float:
        return wrk(service, 256, "POST", [reserve_path(bench.drop()) for _ in range(100)], {"201"}).rate

    rate = medians({"hundred": hundred, "one": lambda: reserve(bench, service, 256).rate})
    yield Row("100 drops at once, 256 clients ÷ one hot drop", rate["hundred"], rate["one"], 0.8)
    bench.rates["Lastpair: reserve, 100 drops at once"] = rate["hundred"]


def sizes_and_baskets(bench: Bench) -> Iterator[Row]:
    """Reserves on a drop with sizes, and baskets. They are compared with reserves that say nothing of either."""
    service = bench.service()

    def of_a_size(clients: int) -> float:
        sizes = json.dumps([{"name": f"EU {36 + n}", "total_stock": PLENTY} for n in range(12)])
        statement = "select id, variants from api.create_drop('Bench', 1, null, $1, now(), p_variants => $2::jsonb)"
        [[drop_id, variants]] = bench.sql(statement, SELLER, sizes)
        bodies = [{"variant_id": str(variant["id"])} for variant in variants]
        return wrk(service, clients, "POST", [reserve_path(drop_id)], {"201"}, bodies=bodies).rate

    def of_a_basket(clients: int) -> float:
        basket = {"items": [{"drop_id": bench.drop()} for _ in range(3)]}
        return wrk(service, clients, "POST", ["/api/baskets"], {"201"}, bodies=[basket]).rate

    for clients in (64, 256):
        rate = medians(
            {
                "plain": lambda c=clients: reserve(bench, service, c).rate,
                "sized": lambda c=clients: of_a_size(c),
                "baskets": lambda c=clients: of_a_basket(c),
            }
        )
        yield Row(f"reserve, a drop with 12 sizes, {clients} clients ÷ one hot drop", rate["sized"], rate["plain"], 0.85)
        yield Row(f"baskets of three drops, {clients} clients ÷ reserves on one hot drop", rate["baskets"], rate["plain"], 0.3)
    bench.rates |= {"Lastpair: reserve, a drop with 12 sizes": rate["sized"], "Lastpair: baskets of three drops": rate["baskets"]}


def listing(bench: Bench) -> Iterator[Row]:
    """GET /drops, with 50 of them on sale."""
    for _ in range(50):
        bench.drop()
    service = bench.service()
    bare = bench.bare(service, "GET", "/api/drops", 1)
    rate = medians(
        {
            "drops": lambda: wrk(service, 64, "GET", ["/api/drops"], {"200"}).rate,
            "bare": lambda: wrk(bare, 64, "GET", ["/api/drops"], {"200"}).rate,
        }
    )
    yield Row("GET /drops with 50 drops, 64 clients ÷ the same bytes from the bare ASGI app", rate["drops"], rate["bare"], 0.75)


def two_processes(bench: Bench) -> Iterator[Row]:
    """Reserves on one drop, by two processes of the service and by one."""
    one, two = bench.service(), bench.service(WEB_CONCURRENCY="2")
    rate = medians({"one": lambda: reserve(bench, one, 256).rate, "two": lambda: reserve(bench, two, 256).rate})
    yield Row("two processes (WEB_CONCURRENCY=2), 256 clients ÷ one, one hot drop", rate["two"], rate["one"], 0.9)
