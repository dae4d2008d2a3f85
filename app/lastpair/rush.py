"""A rush: a crowd of buyers, each with a user and an address of its own, who want one unit each of a new drop at the same time.

They ask over HTTP, from a process that is not the service's, on connections that stay open. Each connection serves one buyer
after the other: a reserve, and a purchase if it got a unit. The figures that come meanwhile are counted here. What was sold in
the end, and whether anything is wrong, comes from the database.
"""

import asyncio
import http.client
import re
import signal
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import getrandbits
from time import perf_counter
from typing import NamedTuple, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import asyncpg
import orjson
import uvloop

from lastpair.web.rushes import Progress, new_progress, write_progress

CONNECTIONS = 256
"""How many buyers ask at the same time. Fewer do not fill the batches, and more only wait longer."""

MAX_TRIES, RETRY_SECONDS = 20, 0.5
"""How often a buyer asks while the service is too busy or out of reach, and the pause before that. A hold is one per user, and a
purchase has a key, so nothing is done twice."""

USERS = UUID("6b1f8f8e-6a52-4d0c-9d2e-5f0f5d0b7a10")
"""The name space of the ids of buyers. All rushes have the same buyers, because to make them takes as long as a rush. A limit on
the requests of a user counts those of all rushes within a minute."""

USERS_PER_CALL = 1000
PURCHASES_PER_PAGE = 1000
HTTP_TIMEOUT_SECONDS = 15
REPORT_SECONDS = 0.2
SILENCE_SECONDS = 30
ADDRESS_BITS = 24

MAKE_USERS = """
select count(*) from api.ensure_user_batch(array(select row(id, null)::api.user_request from unnest($1::uuid[]) as id))
"""
AUDIT = "select drop_id::text, invariant, expected, found from api.audit()"
PURCHASES = "select id, user_id, qty from api.list_purchases($1, 'paid', null, null, $2, $3)"
DROP = "select total_stock, available_stock from api.get_drop($1)"

DROP_NOT_FOUND = "PT404"
ANOTHER_DATABASE = "the service at this URL has another database than DATABASE_URL; set that of the service"

HEAD_END, CONTENT_LENGTH = b"\r\n\r\n", re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CODE = re.compile(rb'"code":"(\w+)"')


class RushFailed(Exception):
    """The rush could not be carried out. The message is one line that says why."""


class Target(NamedTuple):
    """Where the service is."""

    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Its `Host`."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Crowd:
    """The buyers, and what became of them."""

    def __init__(self, target: Target, drop_id: str, users: list[str]) -> None:
        self.waiting: Iterator[tuple[int, str]] = enumerate(users)
        self.sold = 0
        self.failed: Counter[str] = Counter()  # why buyers got no answer
        self._reserved = 0
        self._refused: Counter[str] = Counter()
        self._buyers = len(users)
        self._first_address = getrandbits(ADDRESS_BITS)
        self._latencies = array("d")  # of requests, in seconds
        self._begun_at = self._answered_at = perf_counter()
        self._seconds: list[list[int]] = []  # of each second the holds, sales and refusals
        self._everybody_served = asyncio.Event()
        head = f"HTTP/1.1\r\nHost: {target.netloc}\r\nX-User-Id: "
        self._reserve = f"POST /api/drops/{drop_id}/reserve {head}"
        self._purchase = f"POST /api/drops/{drop_id}/purchase {head}"

    def request(self, n: int, user: str, *, holds: bool) -> bytes:
        """What the buyer of this number asks: to purchase what it holds, or to reserve.

        Each buyer has an address, as behind a proxy, so that a limit on one address counts each buyer, and not this machine.
        """
        address = f"\r\nX-Forwarded-For: {address_of(self._first_address + n)}"
        if holds:
            return f"{self._purchase}{user}{address}\r\nIdempotency-Key: {user}\r\n\r\n".encode()
        return f"{self._reserve}{user}{address}\r\n\r\n".encode()

    def note_answer(self, asked_at: float) -> None:
        """An answer came, to a request that was sent at this time of perf_counter()."""
        self._answered_at = perf_counter()
        self._latencies.append(self._answered_at - asked_at)

    def note_hold(self) -> None:
        """A buyer holds a unit."""
        self._reserved += 1
        self._count(0)

    def note_sale(self) -> None:
        """A buyer has bought a unit, and is served."""
        self.sold += 1
        self._count(1)
        self._check()

    def note_refusal(self, code: str, *, is_failure: bool) -> None:
        """A buyer was refused, or got no answer that can be right, and is served."""
        (self.failed if is_failure else self._refused)[code] += 1
        self._count(2)
        self._check()

    @property
    def is_over(self) -> bool:
        """Whether all buyers are served."""
        return self._everybody_served.is_set()

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until all buyers are served. Raises RushFailed if no answer came for long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._everybody_served.wait(), seconds)
        if perf_counter() - self._answered_at > SILENCE_SECONDS:
            raise RushFailed(f"no answer came for {SILENCE_SECONDS} seconds")

    def figures(self) -> Progress:
        """The figures of the progress."""
        latencies = sorted(self._latencies)
        refused = self._refused.total() + self.failed.total()
        seconds = self._answered_at - self._begun_at
        return {
            "asked": self.sold + refused,
            "reserved": self._reserved,
            "sold": self.sold,
            "refused": refused,
            "refusals": dict(self._refused + self.failed),
            "p50_ms": _percentile_ms(latencies, 0.5),
            "p99_ms": _percentile_ms(latencies, 0.99),
            "requests_per_second": round(len(latencies) / seconds) if latencies else None,
            "seconds": [
                {"second": n, "reserved": reserved, "sold": sold, "refused": refused}
                for n, (reserved, sold, refused) in enumerate(self._seconds, 1)
            ],
        }

    def _count(self, column: int) -> None:
        second = int(self._answered_at - self._begun_at)
        while len(self._seconds) <= second:
            self._seconds.append([0, 0, 0])
        self._seconds[second][column] += 1

    def _check(self) -> None:
        if self.sold + self._refused.total() + self.failed.total() == self._buyers:
            self._everybody_served.set()


def address_of(n: int) -> str:
    """One of the addresses that buyers and sellers have here."""
    return f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"


def _percentile_ms(latencies: list[float], part: float) -> float | None:
    return round(1000 * latencies[int(part * (len(latencies) - 1))], 1) if latencies else None


class Connection(asyncio.Protocol):
    """A connection that stays open, and the buyer whom it serves at the moment. If it is lost, the buyer connects anew."""

    def __init__(self, crowd: Crowd, target: Target) -> None:
        self._crowd = crowd
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._next_try: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_asking = False  # a request waits for its answer
        self._buyer: tuple[int, str] | None = None
        self._holds = False
        self._tries = 0
        self._received = b""  # a part of an answer
        self._asked_at = 0.0

    def next_buyer(self) -> None:
        """Serve the next buyer, if one is left; else close the connection."""
        self._buyer = next(self._crowd.waiting, None)
        self._holds = False
        self._tries = 0
        if self._buyer is not None:
            self._ask()
        elif self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """Try again, unless nobody is left."""
        self._transport = None
        self._is_asking = False
        if self._buyer is not None:
            self._try_again("connection lost")

    def data_received(self, data: bytes) -> None:
        """Take an answer, which nearly always comes whole."""
        if not self._is_asking:  # what belongs to no request must not be taken for the next answer
            assert self._transport is not None  # noqa: S101 - it has just received
            self._transport.abort()
            return
        if self._received:
            data = self._received + data
        head_end = data.find(HEAD_END)
        length = CONTENT_LENGTH.search(data, 0, head_end + 2) if head_end >= 0 else None
        if length is None or len(data) < head_end + len(HEAD_END) + int(length[1]):
            self._received = data
            return
        self._received = b""
        self._is_asking = False
        self._crowd.note_answer(self._asked_at)
        status, code = int(data[9:12]), CODE.search(data, head_end)
        name = code[1].decode() if code else f"status {status}"
        if status in {200, 201} or (name == "ALREADY_RESERVED" and self._tries):  # the answer to an earlier try was lost
            self._got_it()
        elif status == 503:
            self._try_again(name)
        else:
            self._crowd.note_refusal(name, is_failure=status >= 500)
            self.next_buyer()

    def _got_it(self) -> None:
        if self._holds:
            self._crowd.note_sale()
            self.next_buyer()
        else:
            self._crowd.note_hold()
            self._holds = True
            self._tries = 0
            self._ask()

    def _ask(self) -> None:
        self._next_try = None
        if self._buyer is None or self._is_asking:
            return
        if self._transport is None:
            self._opening = asyncio.create_task(self._open())
        else:
            request = self._crowd.request(*self._buyer, holds=self._holds)
            self._is_asking = True
            self._asked_at = perf_counter()
            self._transport.write(request)

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self._target)
        except OSError:
            self._try_again("cannot connect")

    def _try_again(self, reason: str) -> None:
        if self._next_try is not None:
            return  # a connection that is lost at once is reported twice
        self._tries += 1
        if self._tries < MAX_TRIES:
            self._next_try = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._ask)
        else:
            self._crowd.note_refusal(reason, is_failure=True)
            self.next_buyer()


async def rush(url: str, target: Target, buyers: int, stock: int, watch: Callable[[Progress], None]) -> Progress:
    """Carry out a rush, and return what became of it. `url` is that of the service's database.

    `watch` gets the progress, again and again. Raises RushFailed.
    """
    progress = new_progress(buyers, stock)
    connection = await asyncpg.connect(url)
    try:
        seller, *users = [str(uuid5(USERS, str(n))) for n in range(buyers + 1)]
        await make_users(connection, [seller, *users])
        drop_id = progress["dropId"] = await asyncio.to_thread(make_drop, target, seller, stock)
        try:
            await connection.fetch(DROP, UUID(drop_id))
        except asyncpg.PostgresError as error:
            if error.sqlstate == DROP_NOT_FOUND:
                raise RushFailed(ANOTHER_DATABASE) from None
            raise
        crowd = Crowd(target, drop_id, users)
        for _ in range(min(CONNECTIONS, buyers)):
            Connection(crowd, target).next_buyer()
        while not crowd.is_over:
            await crowd.wait(REPORT_SECONDS)
            progress |= crowd.figures()
            watch(progress)
        await settle(connection, progress, crowd, users)
    finally:
        await connection.close()
    watch(progress)
    return progress


async def make_users(connection: asyncpg.Connection, user_ids: list[str]) -> None:
    """Make those of these users that are missing, a thousand at once."""
    for start in range(0, len(user_ids), USERS_PER_CALL):
        await connection.fetch(MAKE_USERS, user_ids[start : start + USERS_PER_CALL])


def make_drop(target: Target, seller: str, stock: int) -> str:
    """Make the drop as every seller does, over HTTP; returns its id. Raises RushFailed."""
    body = {"name": f"Rush for {stock:,}", "price": 100, "total_stock": stock, "status": "live"}
    connection = http.client.HTTPConnection(*target, timeout=HTTP_TIMEOUT_SECONDS)
    try:
        headers = {
            "X-User-Id": seller,
            "Content-Type": "application/json",
            "X-Forwarded-For": address_of(getrandbits(ADDRESS_BITS)),
        }
        connection.request("POST", "/api/drops", orjson.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RushFailed(f"the service at {target.netloc} cannot be reached: {error}") from None
    finally:
        connection.close()
    if response.status != 201:
        raise RushFailed(
            f"the service at {target.netloc} makes no drop: {response.status} {answer.decode(errors='replace')[:200]}"
        )
    drop_id: str = orjson.loads(answer)["data"]["drop"]["id"]
    return drop_id


async def settle(connection: asyncpg.Connection, progress: Progress, crowd: Crowd, users: list[str]) -> None:
    """Add to the progress what the database says of the drop in the end, and whether all of it is right."""
    drop_id = UUID(progress["dropId"])
    [(total_stock, available_stock)] = await connection.fetch(DROP, drop_id)
    everybody, own = 0, 0
    buyers = {UUID(user) for user in users}
    after = None
    while rows := await connection.fetch(PURCHASES, drop_id, PURCHASES_PER_PAGE, after):
        everybody += sum(row["qty"] for row in rows)
        own += sum(row["qty"] for row in rows if row["user_id"] in buyers)
        after = rows[-1]["id"]
    progress["sold"] = own
    progress["oversold"] = max(0, everybody - total_stock, -available_stock)
    progress["audit"] = [dict(row) for row in await connection.fetch(AUDIT)]
    wrong = [f"{count:,} x {name}" for name, count in crowd.failed.items()]
    if progress["oversold"]:
        wrong.append(f"{progress['oversold']:,} oversold")
    if own != crowd.sold:
        wrong.append(f"{crowd.sold:,} buyers were told that they bought, and the database has {own:,}")
    if progress["audit"]:
        wrong.append(f"{len(progress['audit']):,} violated invariants")
    progress["error"] = "; ".join(wrong) or None
    progress["status"] = "failed" if wrong else "done"
    progress["endedAt"] = datetime.now(UTC)


class Reporter:
    """Prints a line for each second."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._reported: int | None = None  # seconds

    def __call__(self, progress: Progress) -> None:
        """Print what is new."""
        if self._reported is None:
            self._reported = 0
            self._report(
                f"{progress['buyers']:,} buyers want one of {progress['stock']:,} units of the drop {progress['dropId']}"
            )
        is_over = progress["endedAt"] is not None
        seconds = progress["seconds"]
        latency = f"p50 {progress['p50_ms']} ms, p99 {progress['p99_ms']} ms"
        for second in seconds[self._reported : len(seconds) if is_over else len(seconds) - 1]:
            requests = second["reserved"] + second["sold"] + second["refused"]
            self._report(
                f"{second['second']:>4} s {second['reserved']:>8,} reserved {second['sold']:>8,} sold"
                f" {second['refused']:>8,} refused {requests:>8,} requests/s, {latency}"
            )
            self._reported += 1
        if is_over:
            codes = ", ".join(f"{code} {count:,}" for code, count in progress["refusals"].items())
            self._report(
                f"{progress['asked']:,} buyers asked, {progress['refused']:,} were refused ({codes or 'none'}),"
                f" {progress['requests_per_second']:,} requests/s, {latency}"
            )
            for violation in progress["audit"]:
                self._report("drop {drop_id}: {invariant}: expected {expected}, found {found}".format_map(violation))
            if progress["error"] is not None:
                self._report(f"Something is wrong: {progress['error']}")
            self._report(f"{progress['sold']:,} sold · {progress['oversold']:,} oversold")


class FileWriter:
    """Writes the progress to the file that the service has begun."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._begun: Progress = orjson.loads(file.read_bytes())

    def __call__(self, progress: Progress) -> None:
        """Write it; the file keeps what identifies the rush."""
        kept = {name: self._begun[name] for name in ("id", "startedAt", "idempotencyKey")}
        write_progress(self._file, self._begun | progress | kept)


def target_of(url: str) -> Target:
    """The service at this URL. Raises RushFailed."""
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = None
    if parts.scheme != "http" or not parts.hostname or port is None or parts.path not in {"", "/"}:
        raise RushFailed("--url must be as http://localhost:4000, without a path")
    return Target(parts.hostname, port)


def carry_out(
    database_url: str, url: str, buyers: int, stock: int, progress_file: Path | None, report: Callable[[str], None]
) -> bool:
    """Carry out a rush and report it in lines; returns whether all is right. Raises RushFailed.

    If there is a file for the progress, the service has started this process, and it ends with its standard input.
    """
    watch = Reporter(report) if progress_file is None else FileWriter(progress_file)
    target = target_of(url)

    async def until_ended() -> Progress:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        if progress_file is not None:
            loop.add_reader(sys.stdin, task.cancel)
        try:
            return await rush(database_url, target, buyers, stock, watch)
        except asyncio.CancelledError:
            raise RushFailed("it was ended early") from None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return bool(runner.run(until_ended())["status"] == "done")
        except RushFailed as error:
            if isinstance(watch, FileWriter):
                watch({"status": "failed", "error": str(error), "endedAt": datetime.now(UTC)})
            raise
