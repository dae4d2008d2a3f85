"""A fault run of a cluster: buyers, sellers and watchers over HTTP, while nodes, routers and processes of the service fail.

    PYTHONPATH=app:. .venv/bin/python -m tests.cluster.faults --faults 500 --seed 1

At the end everything is let settle: the audit of each node is empty, what was answered is in the database, and every watcher has
heard every event of its drops once and in order, over every reconnect. It exits with 1 if anything is wrong, and prints it. The
seed decides who does what; the machine decides in which order it happens.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from json import loads
from statistics import median
from typing import Protocol
from uuid import UUID

import asyncpg
import httpx
import psutil

from tests.support.clusters import Cluster
from tests.support.envelopes import LONG_AGO, SOON, as_user
from tests.support.killable import KillableService
from tests.support.router import Router, another_router, running_router
from tests.support.row_checks import Row

PROCESSES = 2
DROPS_PER_NODE = 4
WATCHERS = 8
HOLD_SECONDS = 3
ANSWER_SECONDS = 3
"""In this time a request for a drop of a dead node is answered, and every request for a drop of another node."""

PATIENCE_SECONDS = 20
"""The longest that a request may take, if something is frozen."""

FAULTS = {
    "node killed": 10,
    "node restarted": 4,
    "node frozen": 8,
    "backend of a node killed": 5,
    "sessions of a node ended": 8,
    "listeners of a node ended": 8,
    "router killed": 8,
    "router restarted": 3,
    "router frozen": 5,
    "sessions of a router ended": 8,
    "process killed": 8,
    "process stopped": 4,
    "process frozen": 5,
    "drop locked": 6,
}
"""What fails, and how often."""

REPLACEABLE = {"STOCK_UPDATED", "ACTIVITY_UPDATED"}
"""Events that a slow client does not get when a newer one replaces them."""

END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity
where pid <> pg_backend_pid() and usename in ('lastpair', 'lastpair_app') and application_name like $1
"""


@dataclass
class Heard:
    """What a watcher was told since a SNAPSHOT, of one node: the ids of events in their order."""

    ids: list[int] = field(default_factory=list)
    types: dict[int, str] = field(default_factory=dict)


def position_of(text: str) -> dict[int, int]:
    """The ids, by the number of the node, in a position. A plain id is one of node 0. Only a test may look into it."""
    return {int(node or 0): int(event_id) for node, _, event_id in (part.rpartition(":") for part in text.split(","))}


def node_of(row_id: str) -> int:
    """The number of the node that made the id."""
    return int(row_id[21:23], 16)


class Run(Protocol):
    """What watchers watch."""

    chance: random.Random
    processes: list[KillableService]
    http: httpx.AsyncClient

    def wrong(self, finding: str) -> None:
        """Note what must not be."""


class Watcher:
    """A client of the event stream that comes back with the id of its last event, and notes what it is told."""

    def __init__(self, run: Run, name: str, drop_ids: list[str]) -> None:
        self.name, self.drop_ids = name, drop_ids
        self.start: dict[int, int] = {}
        """The position of its SNAPSHOT."""

        self.heard: dict[int, Heard] = defaultdict(Heard)
        self.last_id = ""
        self.connects = 0
        self._run = run

    async def watch(self) -> None:
        """Follow until cancelled."""
        while True:
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                await self._connect()
            await asyncio.sleep(self._run.chance.uniform(0.05, 0.5))

    async def _connect(self) -> None:
        run = self._run
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        parameters = [("dropId", drop_id) for drop_id in self.drop_ids]
        url = f"{run.chance.choice(run.processes).url}/api/events"
        timeout = httpx.Timeout(10, read=40)
        ends_at = time.monotonic() + run.chance.expovariate(1 / 20)
        async with run.http.stream("GET", url, params=parameters, headers=headers, timeout=timeout) as answer:
            answer.raise_for_status()
            self.connects += 1
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line == "" and "event" in fields:
                    self._hear(fields)
                    fields = {}
                elif name in {"event", "id", "data"}:
                    fields[name] = value
                if time.monotonic() > ends_at and not fields:
                    return

    def _hear(self, fields: dict[str, str]) -> None:
        kind, position, data = fields["event"], position_of(fields["id"]), loads(fields["data"])
        self.last_id = fields["id"]
        if kind == "SNAPSHOT":
            if self.start:
                self._run.wrong(
                    f"{self.name} got another SNAPSHOT, which has {len(data['drops'])} drops: {data.get('incomplete')}"
                )
            self.start = position
        elif kind == "RESYNC_REQUIRED":
            self._run.wrong(f"{self.name} was told to start again: {data}")
        else:
            drop_id = data.get("dropId") or data["drop"]["id"]
            node = node_of(drop_id)
            event_id, heard = position[node], self.heard[node]
            if heard.ids and event_id <= heard.ids[-1]:
                self._run.wrong(f"{self.name} heard {kind} {event_id} of node {node} after {heard.ids[-1]}")
            if event_id <= self.start.get(node, 0):
                self._run.wrong(f"{self.name} heard {kind} {event_id} of node {node}, which its SNAPSHOT has")
            if self.drop_ids and drop_id not in self.drop_ids:
                self._run.wrong(f"{self.name} heard {kind} of a drop that it did not ask for")
            heard.ids.append(event_id)
            heard.types[event_id] = kind

    def check(self, node: int, logged: list[asyncpg.Record]) -> None:
        """Compare with the whole log of a node."""
        heard = self.heard[node]
        wanted = [
            row
            for row in logged
            if row["id"] > self.start.get(node, 0) and (not self.drop_ids or row["drop_id"] in self.drop_ids)
        ]
        types = {row["id"]: row["type"] for row in wanted}
        for event_id, kind in types.items():
            if event_id not in heard.types and kind not in REPLACEABLE:
                self._run.wrong(f"{self.name} was not told of {kind} {event_id} of node {node}")
        for event_id, kind in heard.types.items():
            if types.get(event_id) != kind:
                self._run.wrong(f"{self.name} heard {kind} {event_id} of node {node}; the log has {types.get(event_id)}")
        last = {row["drop_id"]: row["id"] for row in wanted if row["type"] == "STOCK_UPDATED"}
        for drop_id, event_id in last.items():
            if event_id not in heard.types:
                self._run.wrong(f"{self.name} was not told the last stock of the drop {drop_id}")


@dataclass(frozen=True)
class Probe:
    """A request for a drop of a node."""

    node: int
    begin: float
    seconds: float
    status: int


@dataclass(frozen=True)
class Window:
    """A time in which a fault lasted."""

    kind: str
    node: int | None
    """The node that failed, if it was one."""

    begin: float
    end: float


class FaultRun:
    """A run on a cluster: `faults` faults, one after the other or two at once, while `buyers` buyers are at work."""

    def __init__(self, routers: Sequence[Router], seed: int, faults: int, buyers: int) -> None:
        self.found: list[str] = []
        """What must not be."""

        self.counts: Counter[str] = Counter()
        self.chance = random.Random(f"run {seed}")  # noqa: S311 - chance that can be repeated, not a secret
        self._routers, self._nodes = [router.server for router in routers], routers[0].nodes
        self._url = url_of_any(routers)
        self._seed, self._faults, self._buyers = seed, faults, buyers
        environment = {
            "DATABASE_URL": self._url,
            "EXPIRY_POLL_MS": "300",
            "RESERVATION_TTL_SECONDS": str(HOLD_SECONDS),
            "EVENT_RETENTION_SECONDS": "86400",
            "DATABASE_POOL_SIZE": "8",
            "LOG_LEVEL": "error",
        }
        self.processes = [KillableService(environment) for _ in range(PROCESSES)]
        self._drops: dict[int, list[str]] = {node: [] for node in self._nodes}
        self._reservations: dict[str, str] = {}
        self._purchases: dict[str, str] = {}
        self._probes: list[Probe] = []
        self._windows: list[Window] = []
        self.recovered: list[tuple[float, list[str]]] = []
        """How many seconds after these faults every process served every node again."""

        self._broken: list[KillableService | Cluster] = []
        """What a fault is at work on."""

        self._stopping = False

    def wrong(self, finding: str) -> None:
        """Note what must not be."""
        if len(self.found) < 200:
            self.found.append(finding)
            print(f"{time.strftime('%H:%M:%S')} WRONG: {finding}", flush=True)

    async def run(self) -> list[str]:
        """Do it all; returns what is wrong."""
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(timeout=60, limits=limits) as self.http:
            for process in self.processes:
                process.start()
            try:
                await self._all_ready()
                self._seller = self._new_user()
                for node in self._drops:
                    for _ in range(DROPS_PER_NODE):
                        await self._new_drop(node)
                some = [drops[0] for drops in self._drops.values()]
                watchers = [
                    Watcher(self, f"watcher {n}", [] if n % 2 else some[: 1 + n // 2 % len(some)]) for n in range(WATCHERS)
                ]
                watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]
                while not all(watcher.start for watcher in watchers):
                    await asyncio.sleep(0.05)
                working = [
                    *(asyncio.create_task(self._buy_on(n)) for n in range(self._buyers)),
                    *(asyncio.create_task(self._probe_on(node)) for node in self._drops),
                    asyncio.create_task(self._sell_on()),
                ]
                await self._break_all()
                self._stopping = True
                await asyncio.gather(*working)
                await self._settle(watchers)
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
                await self._check(watchers)
            finally:
                for process in self.processes:
                    process.kill()
        return self.found

    # Over HTTP

    def _new_user(self) -> str:
        return str(UUID(int=self.chance.getrandbits(128), version=4))

    async def _ask_once(
        self, method: str, path: str, user: str, body: Row | None = None, key: str | None = None
    ) -> tuple[int, Row] | None:
        # What any process answers; None if it is not known whether the request took effect.
        headers = as_user(user, idempotency_key=key) if key else as_user(user)
        begin = time.monotonic()
        try:
            url = f"{self.chance.choice(self.processes).url}/api{path}"
            answer = await self.http.request(method, url, json=body, headers=headers)
        except httpx.TransportError:
            return None
        seconds = time.monotonic() - begin
        if seconds > PATIENCE_SECONDS:
            self.wrong(f"{method} {path} was answered after {seconds:.1f} s")
        self.counts[f"answers {answer.status_code}"] += 1
        if answer.status_code == 503:
            if "Retry-After" not in answer.headers:
                self.wrong(f"{method} {path} was answered 503 without Retry-After")
            return None
        if answer.status_code >= 500:
            self.wrong(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
            return None
        told = answer.json()
        return answer.status_code, told.get("data") or told["error"]

    async def _ask(self, method: str, path: str, user: str, body: Row | None = None, key: str | None = None) -> tuple[int, Row]:
        # Asked again with the same key until it is answered.
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if answer := await self._ask_once(method, path, user, body, key):
                return answer
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))
        raise AssertionError(f"{method} {path} was not answered")

    async def _new_drop(self, node: int | None = None) -> str:
        stock = self.chance.choice([2, 5, 20, 100, 400])
        body: Row = {"name": "Air One", "price": 10.5, "total_stock": stock, "starts_at": LONG_AGO, "ends_at": SOON}
        if node is not None and self._drops[node]:
            body["near"] = self._drops[node][0]
        status, data = await self._ask("POST", "/drops", self._seller, body, f"drop-{self.chance.getrandbits(64):x}")
        assert status in {200, 201}, data
        drop_id: str = data["drop"]["id"]
        if node is not None and node_of(drop_id) != node and not self._drops[node]:
            return await self._new_drop(node)  # the emptiest node gets it
        self._drops[node_of(drop_id)].append(drop_id)
        return drop_id

    # Buyers, sellers, probes

    async def _buy_on(self, number: int) -> None:
        chance = random.Random(f"{self._seed} buyer {number}")  # noqa: S311
        user = self._new_user()
        while not self._stopping:
            await asyncio.sleep(chance.expovariate(1.5))
            if chance.random() < 0.2:
                user = self._new_user()
            drop_id = chance.choice(self._drops[chance.choice(list(self._drops))][-6:])
            await self._shop(chance, user, drop_id)

    async def _shop(self, chance: random.Random, user: str, drop_id: str) -> None:
        key = f"k-{chance.getrandbits(64):x}"
        path = f"/drops/{drop_id}/reserve"
        answers = await asyncio.gather(*(self._ask("POST", path, user, None, key) for _ in range(chance.choice([1, 1, 1, 2]))))
        good = [data["reservation"] for status, data in answers if status in {200, 201}]
        if len({row["id"] for row in good}) > 1:
            self.wrong(f"the key {key} made {len(good)} holds")
        if not good:
            return
        reservation = good[0]
        self._reservations[reservation["id"]] = drop_id
        await asyncio.sleep(chance.uniform(0, 0.8))
        dice = chance.random()
        if dice < 0.6:
            status, data = await self._ask("POST", f"/drops/{drop_id}/purchase", user, None, f"{key}-p")
            if status in {200, 201}:
                self._purchases[data["purchase"]["id"]] = reservation["id"]
        elif dice < 0.8:
            await self._ask("DELETE", f"/reservations/{reservation['id']}", user)

    async def _sell_on(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self.chance.uniform(0.5, 2))
            await self._new_drop()
            if self.chance.random() < 0.3:
                drop_id = self.chance.choice(self._drops[self.chance.choice(list(self._drops))])
                await self._ask("PATCH", f"/drops/{drop_id}", self._seller, {"price": self.chance.randrange(1, 10_000) / 100})

    async def _probe_on(self, node: int) -> None:
        user = self._new_user()
        asking = set()

        async def probe() -> None:
            begin = time.monotonic()
            url = f"{self.chance.choice(self.processes).url}/api/drops/{self._drops[node][-1]}/reserve"
            try:
                status = (await self.http.post(url, headers=as_user(user))).status_code
            except httpx.TransportError:
                status = 0
            self._probes.append(Probe(node, begin, time.monotonic() - begin, status))

        while not self._stopping:
            if len(asking) < 20:
                task = asyncio.create_task(probe())
                asking.add(task)
                task.add_done_callback(asking.discard)
            await asyncio.sleep(0.1)
        await asyncio.gather(*asking)

    # Faults

    async def _break_all(self) -> None:
        kinds, weights = list(FAULTS), list(FAULTS.values())
        done = 0
        while done < self._faults:
            at_once = min(self.chance.choice([1, 1, 1, 2]), self._faults - done)
            chosen = self.chance.choices(kinds, weights, k=at_once)
            await asyncio.gather(*(self._break(kind) for kind in chosen))
            done += at_once
            if done % 25 < at_once:
                print(f"{time.strftime('%H:%M:%S')} {done} faults, {len(self.found)} findings", flush=True)
            begin = time.monotonic()
            await self._all_serve()
            self.recovered.append((time.monotonic() - begin, chosen))

    async def _break(self, kind: str) -> None:
        # Of two faults at once, each has a process or server of its own.
        what, _, how = kind.rpartition(" ")
        of_node = what != "process" and "router" not in what
        victims: Sequence[KillableService | Cluster] = (
            list(self._nodes.values()) if of_node else self._routers if what != "process" else self.processes
        )
        free = [victim for victim in victims if victim not in self._broken]
        if not free:
            return
        victim = self.chance.choice(free)
        node = next((number for number, server in self._nodes.items() if server is victim), None)
        self.counts[f"fault: {kind}"] += 1
        self._broken.append(victim)
        begin = time.monotonic()
        seconds = self.chance.choice([0, self.chance.uniform(0, 1), self.chance.uniform(1, 4)])
        if isinstance(victim, KillableService):
            await self._break_process(victim, how, seconds)
        elif kind == "drop locked":
            assert node is not None
            await self._lock_a_drop(node, seconds)
        else:
            await self._break_server(victim, what, how, seconds)
        self._windows.append(Window(kind, node, begin, time.monotonic()))
        self._broken.remove(victim)

    async def _break_process(self, process: KillableService, how: str, seconds: float) -> None:
        if how == "frozen":
            await freeze([process.pid], seconds)
        else:
            await asyncio.to_thread(process.kill if how == "killed" else process.stop)
            await asyncio.sleep(seconds / 2)
            process.start()

    async def _break_server(self, server: Cluster, what: str, how: str, seconds: float) -> None:
        match how:
            case "killed" if what.startswith("backend"):
                pids = [pid for pid in pids_of(server)[1:] if is_client_backend(pid)]
                if pids:
                    kill(self.chance.choice(pids))
                await until_it_serves(server)
            case "killed":
                kill(server.pid)
                await asyncio.sleep(seconds)
                await start_again(server)
            case "restarted":
                await asyncio.to_thread(server.crash)
                await asyncio.sleep(seconds)
                await start_again(server)
            case "frozen":
                await freeze(pids_of(server), seconds)
            case "ended":
                await end_sessions(server, "lastpair listener" if what.startswith("listeners") else "%")

    async def _lock_a_drop(self, node: int, seconds: float) -> None:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            connection = await asyncpg.connect(self._nodes[node].url_with_password, timeout=3)
            try:
                async with connection.transaction():
                    drop_id = self.chance.choice(self._drops[node][-6:])
                    await connection.execute("set local lock_timeout = '3s'")
                    await connection.execute("select from inventory.drops where id = $1 for update", drop_id)
                    await asyncio.sleep(seconds)
            finally:
                connection.terminate()

    async def _all_serve(self) -> None:
        # Wait until every process serves reserves on every node again, which it does by itself.
        deadline = time.monotonic() + 60
        user = self._new_user()
        for process in self.processes:
            for node, drops in self._drops.items():
                while True:
                    with suppress(httpx.TransportError):
                        url = f"{process.url}/api/drops/{drops[-1]}/reserve"
                        if (await self.http.post(url, headers=as_user(user), timeout=5)).status_code in {200, 201, 409}:
                            break
                    if time.monotonic() > deadline:
                        self.wrong(f"a process does not serve node {node} again after a minute")
                        return
                    await asyncio.sleep(0.05)

    async def _all_ready(self) -> None:
        for process in self.processes:
            while True:
                with suppress(httpx.TransportError):
                    if (await self.http.get(f"{process.url}/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.1)

    # The end

    async def _settle(self, watchers: list[Watcher]) -> None:
        # Until no hold is left and every watcher has what the logs have.
        await self._all_ready()
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            heads = {}
            open_holds = 0
            for node, server in self._nodes.items():
                connection = await asyncpg.connect(server.url_with_password)
                open_holds += await connection.fetchval("select count(*) from inventory.reservations where status = 'ACTIVE'")
                heads[node] = await connection.fetchval("select coalesce(max(id), 0) from inventory.events where user_id is null")
                await connection.close()
            reached = [
                all(watcher.heard[node].ids[-1:] >= [head] for node, head in heads.items())
                for watcher in watchers
                if not watcher.drop_ids
            ]
            if open_holds == 0 and all(reached):
                await asyncio.sleep(1)
                return
        self.wrong(f"it does not settle: {open_holds} holds, watchers {reached}")

    async def _check(self, watchers: list[Watcher]) -> None:
        known_reservations: set[str] = set()
        known_purchases: dict[str, str] = {}
        for node, server in self._nodes.items():
            connection = await asyncpg.connect(server.url_with_password)
            for row in await connection.fetch("select * from api.audit()"):
                self.wrong(f"audit of node {node}: {tuple(row)}")
            known_reservations |= {row[0] for row in await connection.fetch("select id::text from inventory.reservations")}
            rows = await connection.fetch("select id::text, reservation_id::text from inventory.purchases")
            known_purchases |= {row[0]: row[1] for row in rows}
            logged = await connection.fetch(
                "select id, type, drop_id::text from inventory.events where user_id is null order by id"
            )
            self.counts["events"] += len(logged)
            for watcher in watchers:
                watcher.check(node, logged)
            sold = await connection.fetchval("select count(*) from inventory.purchases where status = 'paid'")
            self.counts[f"units sold on node {node}"] = sold
            strangers = await connection.fetchval("select count(*) from inventory.drops where inventory.node_of(id) <> $1", node)
            if strangers:
                self.wrong(f"node {node} has {strangers} drops with the number of another node")
            await connection.close()
        for router in self._routers:
            connection = await asyncpg.connect(router.url_with_password)
            for row in await connection.fetch("select * from api.audit()"):
                self.wrong(f"audit of a router: {tuple(row)}")
            await connection.close()
        for reservation_id in self._reservations.keys() - known_reservations:
            self.wrong(f"the hold {reservation_id} was confirmed and is not there")
        for purchase_id, reservation_id in self._purchases.items():
            if known_purchases.get(purchase_id) != reservation_id:
                self.wrong(f"the purchase {purchase_id} was confirmed and is not there")
        self._check_probes()
        for seconds, kinds in sorted(self.recovered)[-5:]:
            print(f"served again {seconds:.1f} s after {' and '.join(kinds)}")
        log = "".join(process.full_log() for process in self.processes)
        lines = log.splitlines()
        for place, line in enumerate(lines):
            if "Traceback" in line or " ERROR " in line or '"level":"error"' in line:
                self.wrong("log: " + "\n".join(lines[max(0, place - 2) : place + 12]))
        self.counts["reconnects of watchers"] = sum(watcher.connects for watcher in watchers)
        self.counts["holds confirmed"], self.counts["purchases confirmed"] = len(self._reservations), len(self._purchases)

    def _check_probes(self) -> None:
        # While nothing but a node fails, requests for other nodes' drops go on, and those for its drops are answered soon.
        others, own = [], []
        # How long a request takes at most beside what the faults do is a matter of the machine.
        quiet = [
            p.seconds for p in self._probes if not any(w.begin <= p.begin + p.seconds and p.begin <= w.end for w in self._windows)
        ]
        limit = ANSWER_SECONDS + max(quiet, default=0)
        for window in self._windows:
            if window.node is None or window.kind == "drop locked":
                continue
            if any(w is not window and w.begin < window.end and window.begin < w.end for w in self._windows):
                continue
            for probe in self._probes:
                if window.begin <= probe.begin <= window.end:
                    (own if probe.node == window.node else others).append((window, probe))
        for window, probe in others:
            if probe.status not in {200, 201, 409} or probe.seconds > limit:
                self.wrong(
                    f"{window.kind} {window.node}: a request for node {probe.node} was answered {probe.status}"
                    f" after {probe.seconds:.2f} s"
                )
        for window, probe in own:
            if window.kind == "node killed" and (probe.seconds > limit or probe.status not in {200, 201, 409, 503}):
                self.wrong(f"{window.kind}: a request for it was answered {probe.status} after {probe.seconds:.2f} s")
        for name, probes in {"other nodes": others, "the node itself": own}.items():
            seconds = [probe.seconds for _, probe in probes]
            if seconds:
                longest, middle = max(seconds) * 1000, median(seconds) * 1000
                print(f"while a node fails, {len(seconds)} requests for {name}: median {middle:.0f} ms, longest {longest:.0f} ms")


def pids_of(server: Cluster) -> list[int]:
    """The processes of a server, the postmaster first."""
    try:
        return [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return []


def is_client_backend(pid: int) -> bool:
    """Whether the process serves a client."""
    with suppress(psutil.Error):
        return "lastpair" in " ".join(psutil.Process(pid).cmdline())
    return False


def kill(pid: int) -> None:
    """Kill it with -9."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def freeze(pids: list[int], seconds: float) -> None:
    """Stop the processes for a while."""
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def start_again(server: Cluster) -> None:
    """Start a server that was killed; what is left of it must end first."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await asyncio.to_thread(server.start)
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def until_it_serves(server: Cluster) -> None:
    """Wait until a server accepts connections."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = await asyncpg.connect(server.superuser_url, timeout=2)
            await connection.close()
            return
        except (asyncpg.PostgresError, OSError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def end_sessions(server: Cluster, name: str) -> None:
    """End sessions of the service, or of a router, whose application_name is like this."""
    with suppress(asyncpg.PostgresError, OSError, TimeoutError):
        connection = await asyncpg.connect(server.superuser_url, timeout=3)
        await connection.execute(END_SESSIONS, name)
        await connection.close()


def url_of_any(routers: Sequence[Router]) -> str:
    """The service's URL of the router that can be reached."""
    hosts = [router.url.partition("@")[2].partition("/")[0] for router in routers]
    return routers[0].url.replace(hosts[0], ",".join(hosts))


async def fault_run(routers: Sequence[Router], seed: int, faults: int, buyers: int) -> FaultRun:
    """Do a run on the nodes of these routers; returns it with what it found and counted."""
    run = FaultRun(routers, seed, faults, buyers)
    await run.run()
    return run


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="A cluster under failure.")
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--buyers", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begin = time.monotonic()
    with running_router(*range(given.nodes)) as router, another_router(router) as other:
        run = asyncio.run(fault_run([router, other], given.seed, given.faults, given.buyers))
    for name, number in sorted(run.counts.items()):
        print(f"{number:8} {name}")
    for finding in run.found:
        print(f"WRONG: {finding}")
    print(f"seed {given.seed}: {given.faults} faults in {time.monotonic() - begin:.0f} s, {len(run.found)} findings")
    return 1 if run.found else 0


if __name__ == "__main__":
    sys.exit(main())
