"""The event log under load: every commit is announced once, to listeners and readers, in the order of the commits."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from json import dumps, loads
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest

from lastpair.realtime.event import Event
from lastpair.realtime.notification import events_of
from tests.support.batch_statements import CANCEL, PURCHASE, RESERVE
from tests.support.database import Database
from tests.support.factories import Owner, make_drop_by_sql, make_users
from tests.support.streams import LOCK, MAKE_OLD, newest_id, publish
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("healthy")

AFTER = "select type, id, data from api.events_after($1, $2)"
LOG = "select to_json(e)::text as event from api.events_after($1, 1000000) e"
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
SLOW_CALL_SECONDS = 60


async def events_after(owner: Owner, last_id: int) -> list[str]:
    """The events of the log after this id, as they are notified (but without the code and the time)."""
    return [row["event"] for row in await owner.fetch(LOG, last_id)]


async def take_unit(owner: Owner, drop_id: UUID, user: UUID) -> None:
    """Reserve a unit, which one STOCK_UPDATED announces."""
    [row] = await owner.fetch(RESERVE, drop_id, [user], [None], 600)
    assert row["code"] is None


async def a_call_waits(owner: asyncpg.Pool) -> None:
    """Wait until a session waits for a lock."""
    await eventually(lambda: owner.fetchval(WAITING))


class Listener:
    """Hears the notifications from now on."""

    def __init__(self) -> None:
        self.payloads: list[str] = []

    @property
    def events(self) -> list[str]:
        """The lines of the notifications, each of which is an event."""
        form = re.compile(r'{"mac":"[0-9a-f]{64}","committedAt":[0-9]{10}\.[0-9]{3},"events":\[\n(.+)\]}', re.DOTALL)
        return [line for payload in self.payloads for line in cast("re.Match[str]", form.fullmatch(payload))[1].split(",\n")]

    async def hears(self, count: int) -> list[str]:
        """Wait until it has heard `count` events; returns them."""

        async def has_heard() -> bool:
            return len(self.events) >= count

        await eventually(has_heard)
        return self.events


@pytest.fixture
async def listener(database: Database) -> AsyncIterator[Listener]:
    """A listener with a connection of its own."""
    listener, connection = Listener(), await asyncpg.connect(database.url)
    await connection.add_listener("lastpair_events", lambda *notification: listener.payloads.append(str(notification[-1])))
    yield listener
    await connection.close()


async def test_what_commits_is_notified_as_it_is_logged_and_nothing_else_is(owner: asyncpg.Pool, listener: Listener) -> None:
    """A transaction that is rolled back leaves no event and no notification between those that commit."""
    drop_id, [ann, bob] = await make_drop_by_sql(owner, 5), await make_users(owner, 2)
    await take_unit(owner, drop_id, ann)
    last_id = await newest_id(owner)
    await listener.hears(2)  # DROP_CREATED, STOCK_UPDATED
    listener.payloads.clear()

    async with owner.acquire() as connection:
        for published in (False, True):
            transaction = connection.transaction()
            await transaction.start()
            await take_unit(connection, drop_id, bob)
            if published:
                await connection.execute("set constraints all immediate")
                assert len(await events_after(connection, last_id)) == 1
            await transaction.rollback()
            assert await events_after(owner, last_id) == []

    await owner.fetch(PURCHASE, drop_id, [ann], [None])
    await take_unit(owner, drop_id, bob)
    logged = await events_after(owner, last_id)
    assert [loads(event)["type"] for event in logged] == ["PURCHASE_COMPLETED", "ACTIVITY_UPDATED", "STOCK_UPDATED"]
    assert await listener.hears(len(logged)) == logged
    assert [list(loads(event)) for event in logged] == [["type", "id", "drop_id", "data"]] * 3
    assert {loads(event)["drop_id"] for event in logged} == {str(drop_id)}
    assert await owner.fetchval("select count(*) from inventory.changes") == 0


async def test_a_notification_has_the_time_of_its_commit(owner: asyncpg.Pool, listener: Listener) -> None:
    """It is the database's time at the end of the transaction, however long that took; the relay measures its lag by it."""
    drop_id, [ann] = await make_drop_by_sql(owner, 1), await make_users(owner, 1)
    clock = "select extract(epoch from clock_timestamp())::float"
    async with owner.acquire() as connection:
        async with connection.transaction():
            await take_unit(connection, drop_id, ann)
            await connection.execute("select pg_sleep(0.05)")
            before: float = await connection.fetchval(clock)
        after: float = await connection.fetchval(clock)
    await listener.hears(2)
    committed_at = loads(listener.payloads[1])["committedAt"]
    assert before - 0.001 <= committed_at <= after + 0.001
    [event] = events_of(listener.payloads[1], await owner.fetchval("select api.event_key()"))
    assert isinstance(event, Event)
    assert event.committed_at == committed_at


async def test_ids_are_in_the_order_of_commits(owner: asyncpg.Pool, listener: Listener) -> None:
    """A transaction that wrote first and commits last is announced last."""
    first, second = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)
    [user] = await make_users(owner, 1)
    last_id = await newest_id(owner)
    async with owner.acquire() as early, owner.acquire() as late:
        open_transaction = early.transaction()
        await open_transaction.start()
        await take_unit(early, first, user)
        await take_unit(late, second, user)
        await open_transaction.commit()
    logged = await events_after(owner, last_id)
    assert [loads(event)["data"]["dropId"] for event in logged] == [str(second), str(first)]
    assert (await listener.hears(4))[-2:] == logged


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_an_id_is_drawn_by_one_transaction_at_a_time(owner: asyncpg.Pool, end: str) -> None:
    """While a transaction has drawn ids, another one's commit waits and a reader sees neither; afterwards all are in order."""
    first, second = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)
    [user] = await make_users(owner, 1)
    last_id = await newest_id(owner)
    async with owner.acquire() as slow:
        await slow.execute("begin")
        await take_unit(slow, first, user)
        await slow.execute("set constraints all immediate")
        quick = asyncio.create_task(take_unit(owner, second, user))
        await a_call_waits(owner)
        assert await events_after(owner, last_id) == []
        assert await owner.fetchval("select available_stock from api.get_drop($1)", second) == 5
        await slow.execute(end)
        await asyncio.wait_for(quick, SLOW_CALL_SECONDS)
    announced = [loads(event)["data"]["dropId"] for event in await events_after(owner, last_id)]
    assert announced == ([str(first)] if end == "commit" else []) + [str(second)]


class Storm:
    """Sessions that reserve, purchase, cancel and refund at random, and others that read what is announced."""

    def __init__(self, owner: asyncpg.Pool, drops: list[UUID], users: list[UUID]) -> None:
        self.owner, self.drops, self.users = owner, drops, users
        self.chance = random.Random(7)  # noqa: S311 - a storm to repeat, not a secret
        self.outcomes: Counter[str | None] = Counter()
        self.running = True

    async def buy(self, rounds: int) -> None:
        """Run that many transactions in one session."""
        async with self.owner.acquire() as connection:
            for _ in range(rounds):
                drop_id, user = self.chance.choice(self.drops), self.chance.choice(self.users)
                call = self.chance.choices([RESERVE, PURCHASE, CANCEL, "refund"], [8, 8, 2, 2])[0]
                if call == "refund":
                    await self._refund(connection, drop_id)
                    continue
                arguments: list[Any] = [drop_id, [user], [None]]
                if call == RESERVE:
                    arguments.append(600)
                if call == CANCEL:
                    held = "select id from inventory.reservations where drop_id = $1 and user_id = $2 and status = 'ACTIVE'"
                    arguments = [[await connection.fetchval(held, drop_id, user)], [user]]
                [row] = await connection.fetch(call, *arguments)
                self.outcomes[row["code"]] += 1

    async def _refund(self, connection: asyncpg.Connection, drop_id: UUID) -> None:
        paid = "select id from inventory.purchases where drop_id = $1 and status = 'paid' limit 1"
        try:
            await connection.fetch("select from api.refund_purchase($1)", await connection.fetchval(paid, drop_id))
            self.outcomes["refunded"] += 1
        except asyncpg.PostgresError as error:
            if error.args[0] not in ("PURCHASE_NOT_FOUND", "INVALID_STATUS_CHANGE"):
                raise  # none is left, or another session refunded it

    async def read(self, last_id: int) -> list[tuple[str, str, str]]:
        """Ask again and again for at most 50 events after the last one; returns type, id and data of all."""
        seen: list[tuple[str, str, str]] = []
        polls = 0
        async with self.owner.acquire() as connection:
            while True:
                was_running = self.running
                rows = await connection.fetch(AFTER, last_id, 50)
                for row in rows:
                    assert int(row["id"]) > last_id, "an event came after a later one"
                    last_id = int(row["id"])
                seen += [tuple(row) for row in rows]
                polls += bool(rows)
                if not was_running and not rows:
                    break
        assert polls > 20, "the reader never read while the storm went on"
        return seen

    async def look(self) -> list[tuple[int, Any]]:
        """Take snapshots while it goes on; returns the id of each and its drops by id."""
        snapshots = []
        async with self.owner.acquire() as connection:
            while self.running:
                snapshots.append(await snapshot_of(connection, self.drops))
                await asyncio.sleep(0.01)
        return snapshots


async def snapshot_of(owner: Owner, drops: list[UUID]) -> tuple[int, dict[str, Any]]:
    """A snapshot's id, and its drops by id."""
    row = await owner.fetchrow("select id, data from api.snapshot($1)", drops)
    assert row
    return int(row["id"]), {drop["id"]: drop for drop in loads(row["data"])["drops"]}


@pytest.mark.slow
async def test_storm_is_announced_in_order_and_to_the_last_unit(owner: asyncpg.Pool, listener: Listener) -> None:
    """Eight sessions, thousands of transactions, six drops: readers, listeners and snapshots agree, and the figures add up."""
    drops = [await make_drop_by_sql(owner, 30) for _ in range(6)]
    users = await make_users(owner, 40)
    last_id = await newest_id(owner)
    await listener.hears(len(drops))
    listener.payloads.clear()

    storm = Storm(owner, drops, users)
    reader, looker = asyncio.create_task(storm.read(last_id)), asyncio.create_task(storm.look())
    await asyncio.gather(*(storm.buy(400) for _ in range(8)))
    storm.running = False
    seen, snapshots = await reader, await looker

    assert min(storm.outcomes[code] for code in (None, "NO_ACTIVE_RESERVATION", "ALREADY_RESERVED", "refunded")) > 20
    logged = await events_after(owner, last_id)
    assert await listener.hears(len(logged)) == logged
    events = [loads(event) for event in logged]
    assert seen == [
        (event["type"], event["id"], text.split('"data":', 1)[1][:-1]) for event, text in zip(events, logged, strict=True)
    ]
    assert Counter(event["type"] for event in events).keys() == {"STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"}
    sold = await owner.fetchval("select count(*) from inventory.purchases where drop_id = any ($1)", drops)
    assert sum(event["type"] == "PURCHASE_COMPLETED" for event in events) == sold
    assert len(snapshots) > 5, "no snapshot was taken while the storm went on"
    assert_snapshots_are_what_was_announced(
        [*snapshots, await snapshot_of(owner, drops)], events, {str(drop_id): 30 for drop_id in drops}
    )


def assert_snapshots_are_what_was_announced(
    snapshots: list[tuple[int, Any]], events: list[dict[str, Any]], stock: dict[str, int]
) -> None:
    """Each snapshot is the first state with all the events up to its id applied, and not one more."""
    purchasers: dict[str, list[str]] = {drop_id: [] for drop_id in stock}
    remaining = iter([*events, {"id": "999999999999999"}])
    event = next(remaining)
    for snapshot_id, drops in snapshots:
        while int(event["id"]) <= snapshot_id:
            data = event["data"]
            if event["type"] == "STOCK_UPDATED":
                stock[data["dropId"]] = data["availableStock"]
            elif event["type"] == "ACTIVITY_UPDATED":
                purchasers[data["dropId"]] = [purchaser["userId"] for purchaser in data["latestPurchasers"]]
            event = next(remaining)
        assert {drop_id: drop["available_stock"] for drop_id, drop in drops.items()} == stock
        feeds = {drop_id: drop["activity_feed"]["latest_purchasers"] for drop_id, drop in drops.items()}
        assert {drop_id: [purchaser["userId"] for purchaser in feed] for drop_id, feed in feeds.items()} == purchasers


AT_THE_END = re.compile(r',"at":"[^"]{24}"\}\}$')


@pytest.mark.parametrize(("size_bytes", "is_whole"), [(7800, True), (7801, False), (100_000, False)])
async def test_an_event_too_large_to_notify_is_notified_as_its_id(
    owner: asyncpg.Pool, listener: Listener, size_bytes: int, is_whole: bool
) -> None:
    """The limit counts bytes. No event of the product comes near it, so this one is published by hand."""
    drop_id = await make_drop_by_sql(owner, 1)
    last_id = await newest_id(owner)
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute(LOCK)
        event_id = str(await connection.fetchval("select last_value + 1 from inventory.events_id_seq"))

        def payload(filler: str) -> str:
            data = dumps({"filler": filler}, ensure_ascii=False)
            return f'{{"type":"LARGE","id":"{event_id}","drop_id":"{drop_id}","data":{data}}}'

        missing = size_bytes - len(payload("").encode()) - len(',"at":"2026-01-02T03:04:05.678Z"')
        filler = "é" * (missing // 2) + "x" * (missing % 2)
        data = dumps({"filler": filler}, ensure_ascii=False)
        event = "row($1, 'LARGE', $2::json, null)::inventory.new_event"
        await connection.execute(f"select inventory.publish(array[{event}])", drop_id, data)
    [logged] = await events_after(owner, last_id)
    assert AT_THE_END.sub("}}", logged) == payload(filler)
    assert len(logged.encode()) == size_bytes
    assert (await listener.hears(2))[1] == (logged if is_whole else f'{{"id":"{event_id}"}}')


async def test_without_a_key_events_are_only_logged(owner: asyncpg.Pool, listener: Listener) -> None:
    """A dump may leave the key out. Listeners find the events in the log."""
    drop_id, [ann] = await make_drop_by_sql(owner, 1), await make_users(owner, 1)
    await listener.hears(1)
    last_id = await newest_id(owner)
    async with owner.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("set local statement_timeout = '20s'; delete from inventory.event_key")
        await take_unit(connection, drop_id, ann)
        await connection.execute("set constraints all immediate")
        assert len(await events_after(connection, last_id)) == 1
        await transaction.rollback()


@pytest.mark.parametrize("count", [1, 31, 32, 33, 1000, 1001, 2500])
@pytest.mark.parametrize("size_bytes", [0, 300, 5000])
async def test_events_share_notifications(owner: asyncpg.Pool, listener: Listener, count: int, size_bytes: int) -> None:
    """Each event is told once and in order, with as many others as there is room for, however many and large they are."""
    drop_id = await make_drop_by_sql(owner, 1)
    last_id = await newest_id(owner)
    chance = random.Random(count)  # noqa: S311 - sizes to repeat, not a secret
    texts = [dumps({"n": n, "filler": "é" * (chance.randrange(size_bytes + 1) // 2)}, ensure_ascii=False) for n in range(count)]
    await publish(owner, drop_id, "FILLER", texts)
    logged = await events_after(owner, last_id)
    assert [loads(event)["data"]["n"] for event in logged] == list(range(count))
    assert (await listener.hears(1 + count))[1:] == logged
    assert max(len(payload.encode()) for payload in listener.payloads) < 8000
    told = len(listener.payloads) - 1
    assert told >= count / 32
    assert told <= 1 + count / 32 * {0: 1.1, 300: 1.1 * 2, 5000: 32}[size_bytes]


async def fill_log(owner: asyncpg.Pool, count: int) -> list[int]:
    """A log of at least `count` events, all of them old; returns their ids."""
    await publish(owner, await make_drop_by_sql(owner, 1), "OLD", ["{}"] * count)
    await owner.execute(MAKE_OLD)
    return await log_ids(owner)


async def log_ids(owner: asyncpg.Pool) -> list[int]:
    """The ids of all events."""
    return [row["id"] for row in await owner.fetch("select id from inventory.events order by id")]


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(("first", "second"), [(100, 250), (250, 100), (100, 100)])
async def test_prunes_side_by_side_leave_no_hole(owner: asyncpg.Pool, first: int, second: int, end: str) -> None:
    """The second pruning waits for the first, and whether that commits or not, the end of the log is left."""
    ids = await fill_log(owner, 400)
    async with owner.acquire() as connection:
        await connection.execute("begin")
        assert await connection.fetchval("select api.prune_events(600, $1)", first) == first
        other = asyncio.create_task(owner.fetchval("select api.prune_events(600, $1)", second))
        await a_call_waits(owner)
        await connection.execute(end)
    pruned = await asyncio.wait_for(other, SLOW_CALL_SECONDS) + (first if end == "commit" else 0)
    assert pruned == (max(first, second) if end == "commit" else second)
    assert await log_ids(owner) == ids[pruned:]


@pytest.mark.slow
async def test_prunes_of_many_processes_while_others_read_and_write(owner: asyncpg.Pool) -> None:
    """Four processes prune and count each event once; a reader always finds the end of the log; the newest old event stays."""
    ids = await fill_log(owner, 3000)
    drop_id, users = await make_drop_by_sql(owner, 200), await make_users(owner, 200)
    pruning, times = True, 0

    async def prune() -> int:
        total, pruned = 0, 1
        while pruned:
            pruned = await owner.fetchval("select api.prune_events(600, 37)")
            total += pruned
            while times < total // 100:  # so that the reader looks while there is still something to prune
                await asyncio.sleep(0.001)
        return total

    async def read() -> None:
        nonlocal times
        while pruning:
            left = [found for found in await log_ids(owner) if found <= ids[-1]]
            assert left == ids[-len(left) :]
            times += 1

    reader = asyncio.create_task(read())
    writer = asyncio.gather(*(take_unit(owner, drop_id, user) for user in users))
    totals = await asyncio.gather(*(prune() for _ in range(4)))
    pruning = False
    await writer
    await reader
    assert times > 5
    # Each stops when it finds nothing to prune, and another may still be at work on the rest; one more leaves nothing.
    assert sum(totals) + await prune() == len(ids) - 1
    left = await log_ids(owner)
    assert left[0] == ids[-1]
    assert len(await events_after(owner, ids[-1])) == len(left) - 1 == 201
    resync = await owner.fetch(AFTER, ids[-3], 10)
    assert [row["type"] for row in resync] == ["RESYNC_REQUIRED"]
