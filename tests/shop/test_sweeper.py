"""The sweeper: each job runs at its own time and fails on its own."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import asyncpg
import pytest

from lastpair.database.nodes import Node
from lastpair.database.pool import NOTIFY_QUEUE
from lastpair.errors import Unavailable
from lastpair.observability.metrics import EXPIRED, EXPIRY_LAG_SECONDS, NOTIFY_QUEUE_USAGE, SWEPT_AT, OverNodes
from lastpair.settings import Settings
from lastpair.shop import sweeper
from lastpair.shop.sweeper import Job, expire_due_holds, jobs, prune_events, repeat, sweep
from tests.support.batch_statements import RESERVE_OF_MANY_DROPS
from tests.support.database import calling, connected
from tests.support.factories import assert_healthy, make_user, make_users
from tests.support.waiting import PATIENCE_SECONDS, eventually

JOBS = ["expire_holds", "advance_drops", "prune_events", "prune_idempotency_keys", "prune_webhooks", "measure_webhooks"]
JOBS += ["measure_notify_queue"]
POLL_MS = 50
FAKE_POLL_MS = 5


class FakeDatabase:
    """Answers the sweeper's statements, and fails those that the test wants to fail."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {
            sweeper.EXPIRE_RESERVATIONS: [(0, None)],
            sweeper.ADVANCE_DROPS: [],
            sweeper.PRUNE_EVENTS: [(0,)],
            sweeper.PRUNE_KEYS: [(0,)],
            sweeper.PRUNE_WEBHOOKS: [(0,)],
            sweeper.WEBHOOK_BACKLOG: [(0, 0.0, 0)],
            NOTIFY_QUEUE: [(0.25,)],
        }
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}

    async def fetch(self, statement: str, *_: object) -> list[Any]:
        """The rows of the statement."""
        job = JOBS[list(self.answers).index(statement)]
        self.calls[job] += 1
        if job in self.failures:
            await self.failures[job]()
        return self.answers[statement]

    async def notify_queue_usage(self) -> float:
        """A quarter."""
        [(usage,)] = await self.fetch(NOTIFY_QUEUE)
        return float(usage)

    async def end_blocked_listeners(self) -> int:
        """No listener is blocked."""
        return 0

    async def called_again(self, *names: str, times: int = 3) -> None:
        """Wait until each of these jobs has made this many calls more."""
        goals = {name: self.calls[name] + times for name in names}
        await eventually(lambda: all(self.calls[name] >= goal for name, goal in goals.items()))


async def refuse() -> None:
    """Fail as a call does when the database is away."""
    raise Unavailable("the database is away")


async def break_down() -> None:
    """Fail as a call does when the code has a fault."""
    raise ZeroDivisionError("a fault")


async def hang() -> None:
    """Never return."""
    await asyncio.Event().wait()


def node_of(database: Any) -> Node:
    """The only node, with this database."""
    return Node(None, database, database)


@asynccontextmanager
async def sweeping(database: Any, poll_ms: int = FAKE_POLL_MS) -> AsyncIterator[None]:
    """The sweeper runs during the block."""
    task = asyncio.create_task(sweep(node_of(database), Settings.model_construct(expiry_poll_ms=poll_ms)))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDatabase:
    """A database that answers; every job is due after the poll interval. It is the only node of which metrics tell."""
    for gauge in OverNodes.every:
        gauge._values.clear()  # those of nodes that other tests in this process had
    monkeypatch.setattr(sweeper, "PRUNE_INTERVAL_SECONDS", (0, FAKE_POLL_MS / 1000))
    monkeypatch.setattr(sweeper, "GAUGE_INTERVAL_SECONDS", FAKE_POLL_MS / 1000)
    for name in ("KEY_PRUNE_INTERVAL_SECONDS", "WEBHOOK_PRUNE_INTERVAL_SECONDS", "WEBHOOK_GAUGE_INTERVAL_SECONDS"):
        monkeypatch.setattr(sweeper, name, FAKE_POLL_MS / 1000)
    return FakeDatabase()


def last_success(job: str) -> float:
    """When the job last succeeded, by its metric."""
    return SWEPT_AT.labels(job)._value.get()  # type: ignore[no-any-return]


@pytest.mark.parametrize(("retention_seconds", "prune_seconds"), [(1, 1), (100, 10), (3600, 60), (2_592_000, 60)])
def test_each_job_has_its_own_interval(retention_seconds: int, prune_seconds: float) -> None:
    """Holds and drops are looked at every EXPIRY_POLL_MS, the log is pruned ten times within its retention but not too
    often, and old keys and webhooks every minute."""
    settings = Settings.model_construct(expiry_poll_ms=250, event_retention_seconds=retention_seconds)
    intervals = {job.name: job.interval_seconds for job in jobs(node_of(FakeDatabase()), settings)}
    assert intervals == dict(zip(JOBS, [0.25, 0.25, prune_seconds, 60, 60, 15, 5], strict=True))


@pytest.mark.parametrize("failure", [refuse, break_down, hang])
@pytest.mark.parametrize("failing", JOBS)
async def test_a_job_that_fails_stops_no_other(fake: FakeDatabase, failing: str, failure: Any) -> None:
    """The others run on and their metrics move; the metric of the failing job stands still until it succeeds again."""
    others = [job for job in JOBS if job != failing]
    async with sweeping(fake):
        await fake.called_again(*JOBS)
        fake.failures[failing] = failure
        await fake.called_again(failing, times=1)
        before = {job: last_success(job) for job in JOBS}
        await fake.called_again(*others)
        assert last_success(failing) == before[failing]
        assert all(last_success(job) > before[job] for job in others)
        fake.failures.clear()
        if failure is not hang:
            await eventually(lambda: last_success(failing) > before[failing])


async def test_a_job_that_takes_long_is_not_run_twice_at_a_time(fake: FakeDatabase) -> None:
    """The interval begins when the job has ended."""
    fake.failures["expire_holds"] = hang
    async with sweeping(fake):
        await fake.called_again("advance_drops", times=5)
    assert fake.calls["expire_holds"] == 1


async def test_each_job_logs_an_outage_once(fake: FakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    """After a recovery the next outage is logged again, and never with a stack trace."""
    async with sweeping(fake):
        for outages in (1, 2):
            fake.failures = dict.fromkeys(JOBS, refuse)
            await fake.called_again(*JOBS, times=4)
            logged = [(record.levelno, record.exc_info, record.getMessage()) for record in caplog.records]
            lines = [(logging.WARNING, None, f"the sweeper's job {job} cannot run: the database is away") for job in JOBS]
            assert Counter(logged) == Counter(lines * outages)
            fake.failures.clear()
            await fake.called_again(*JOBS)


async def test_a_fault_is_logged_each_time_with_its_stack_trace(fake: FakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    """A fault is no outage; the job goes on."""
    fake.failures["prune_events"] = break_down
    async with sweeping(fake):
        await fake.called_again("prune_events")
    logged = [record for record in caplog.records if record.getMessage() == "the sweeper's job prune_events failed"]
    assert len(logged) >= 2
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in logged)


async def test_a_job_is_repeated_until_cancelled() -> None:
    """The sweeper leaves at once when the process stops, also between two runs."""
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1

    task = asyncio.create_task(repeat(Job("test", 3600, run), node_of(FakeDatabase())))
    await eventually(lambda: runs)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_SECONDS)
    assert runs == 1


async def test_a_sweep_goes_on_until_nothing_is_due() -> None:
    """It takes EXPIRE_LIMIT holds at a time; the metrics have the sum, and the longest time that a hold had been due."""
    batches = [(sweeper.EXPIRE_LIMIT, 2.5), (sweeper.EXPIRE_LIMIT, 7.5), (3, 1.0)]

    class Due:
        async def fetch(self, *_: object) -> list[Any]:
            return [batches.pop(0)]

    expired: float = EXPIRED._value.get()
    assert await expire_due_holds(node_of(Due())) == 2 * sweeper.EXPIRE_LIMIT + 3
    assert batches == []
    assert EXPIRED._value.get() - expired == 2 * sweeper.EXPIRE_LIMIT + 3
    assert EXPIRY_LAG_SECONDS._value.get() == 7.5


async def test_pruning_goes_on_until_nothing_is_old() -> None:
    """It removes PRUNE_LIMIT events at a time."""
    pruned, arguments = [(sweeper.PRUNE_LIMIT,), (sweeper.PRUNE_LIMIT,), (1,)], set()

    class Old:
        async def fetch(self, _: str, *given: object) -> list[Any]:
            arguments.add(given)
            return [pruned.pop(0)]

    await prune_events(Old(), 77)  # type: ignore[arg-type]
    assert (pruned, arguments) == ([], {(77, sweeper.PRUNE_LIMIT)})


async def test_the_gauge_of_the_notification_queue(fake: FakeDatabase) -> None:
    """It has the share that the database says."""
    async with sweeping(fake):
        await fake.called_again("measure_notify_queue", times=2)
    assert NOTIFY_QUEUE_USAGE._value.get() == 0.25


LATENESS = "select extract(epoch from updated_at - starts_at)::float from inventory.drops where id = $1 and status = 'live'"


async def schedule(owner: asyncpg.Connection, seconds: float) -> str:
    """A drop that starts in so many seconds."""
    create = "select id::text from api.create_drop('soon', 1, 5, $1, now() + $2::float * interval '1 s')"
    drop_id: str = await owner.fetchval(create, await make_user(owner), seconds)
    return drop_id


async def went_live_after(owner: asyncpg.Connection, drop_id: str, timeout_seconds: float = 60) -> float:
    """Wait until the drop is live; returns by how many seconds it was late."""
    await eventually(lambda: owner.fetchval(LATENESS, drop_id), timeout_seconds)
    return float(await owner.fetchval(LATENESS, drop_id))


@pytest.mark.parametrize("failure", [refuse, break_down, hang])
async def test_a_drop_goes_live_in_time_while_the_sweep_fails(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch, failure: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """A sweep that is refused, raises or never returns does not keep a scheduled drop from starting."""
    monkeypatch.setattr(sweeper, "expire_due_holds", lambda _: failure())
    async with connected(migrated_url) as owner, calling(migrated_url, sessions=4) as database, sweeping(database, POLL_MS):
        assert await went_live_after(owner, await schedule(owner, 0.2)) < 5


@pytest.mark.parametrize(("holds", "drops"), [(3000, 300), pytest.param(30_000, 3000, marks=pytest.mark.slow)])
async def test_a_drop_goes_live_in_time_while_many_holds_are_due(
    migrated_url: str, record_property: Callable[[str, object], None], holds: int, drops: int
) -> None:
    """The drop starts while the sweep is still busy, within about one poll interval of its time."""
    async with connected(migrated_url) as owner, calling(migrated_url, sessions=4) as database:
        await make_due_holds(owner, holds, drops)
        drop_id = await schedule(owner, 0.1)
        begin = monotonic()
        async with sweeping(database, POLL_MS):
            late_seconds = await went_live_after(owner, drop_id, timeout_seconds=60)
            left = "select count(*) from inventory.reservations where status = 'ACTIVE'"
            assert await owner.fetchval(left) > 0, "the sweep had ended before the drop's time came"
            await eventually(lambda: owner.fetchval(f"select ({left}) = 0"), timeout_seconds=120)
        sweep_seconds = monotonic() - begin
        print(f"{holds} holds on {drops} drops: swept in {sweep_seconds:.2f} s, the drop was live after {late_seconds:.3f} s")
        record_property("late_seconds", late_seconds)
        assert late_seconds < max(POLL_MS / 1000 + 1, sweep_seconds / 2)  # on a slow machine the sweep is slow, too
        await assert_healthy(owner)


async def make_due_holds(owner: asyncpg.Connection, holds: int, drops: int) -> None:
    """So many holds that are due, spread evenly over so many drops."""
    users = await make_users(owner, holds // drops)
    create = "select d.id::text from generate_series(1, $1) n, api.create_drop('due ' || n, 1, $2, $3, now()) d"
    drop_ids = [row["id"] for row in await owner.fetch(create, drops, len(users), users[0])]
    for first in range(0, drops, 300):
        places = [(drop_id, user) for drop_id in drop_ids[first : first + 300] for user in users]
        await owner.fetch(RESERVE_OF_MANY_DROPS, *map(list, zip(*places, strict=True)), [None] * len(places), 600)
    await owner.execute("update inventory.reservations set expires_at = now()")
