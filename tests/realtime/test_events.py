"""The event log under fire: what commits is announced, all of it, once, to listeners and readers alike, in order of commits."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from json import dumps, loads
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from lastpair.realtime.event import Event
from tests.shop.test_races import healthy
from tests.support.database import Database
from tests.support.factories import make_drop_by_sql, make_users
from tests.support.statements import CANCEL, PURCHASE, RESERVE
from tests.support.waiting import eventually

__all__ = ["healthy"]  # every test ends with a clean audit and no deadlock

AFTER = "select type, id, data from api.events_after($1, $2)"
LOG = "select to_json(e)::text as event from api.events_after($1, 1000000) e"
LOCK = "select pg_advisory_xact_lock('inventory.events'::regclass::oid::bigint)"
SLOW_CALL_SECONDS = 10


async def newest(owner: asyncpg.Pool) -> int:
    """The id of the newest event."""
    found: int = await owner.fetchval("select max(id) from inventory.events")
    return found


async def events_after(owner: asyncpg.Connection | asyncpg.Pool, last_id: int) -> list[str]:
    """Each event after this one, as the log has it, in the form in which it is notified but for the moment."""
    return [row["event"] for row in await owner.fetch(LOG, last_id)]


async def take_unit(connection: asyncpg.Connection | asyncpg.Pool, drop_id: UUID, user: UUID) -> None:
    """A reserve, which must succeed: it is announced by one STOCK_UPDATED."""
    [row] = await connection.fetch(RESERVE, drop_id, [user], [None], 600)
    assert row["code"] is None


@pytest.fixture
async def heard(database: Database) -> AsyncIterator[list[str]]:
    """The payloads of the notifications, as they arrive from now on, without the moment that each of an event begins with."""
    payloads: list[str] = []

    def note(_connection: object, _pid: object, _channel: object, payload: object) -> None:
        payloads.append(re.sub(r'^{"committedAt":[0-9]{10}\.[0-9]{3},', "{", str(payload)))

    connection = await asyncpg.connect(database.url)
    await connection.add_listener("lastpair_events", note)
    yield payloads
    await connection.remove_listener("lastpair_events", note)
    await connection.close()


async def test_what_commits_is_notified_as_it_is_logged_and_nothing_else_is(owner: asyncpg.Pool, heard: list[str]) -> None:
    """A transaction that is rolled back leaves no event and no notification between those of the ones that commit."""
    drop_id, [ann, bob] = await make_drop_by_sql(owner, 5), await make_users(owner, 2)
    await take_unit(owner, drop_id, ann)
    last_id = await newest(owner)
    await eventually(lambda: _is_true(len(heard) == 2))  # DROP_CREATED, STOCK_UPDATED
    heard.clear()

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
    await eventually(lambda: _is_true(len(heard) >= len(logged)))
    assert heard == logged
    assert list(loads(heard[0])) == ["type", "id", "drop_id", "data"]
    assert await owner.fetchval("select count(*) from inventory.changes") == 0


async def _is_true(value: bool) -> bool:
    return value


async def test_a_notification_says_when_it_was(database: Database, owner: asyncpg.Pool) -> None:
    """By the database's clock, at the end of the transaction, however long that took; the relay measures how late it is."""
    drop_id, [ann] = await make_drop_by_sql(owner, 1), await make_users(owner, 1)
    listener = await asyncpg.connect(database.url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("lastpair_events", lambda *notification: heard.put_nowait(str(notification[-1])))
    async with owner.acquire() as connection:
        async with connection.transaction():
            await take_unit(connection, drop_id, ann)
            await connection.execute("select pg_sleep(0.05)")
            before: float = await connection.fetchval("select extract(epoch from clock_timestamp())::float")
        after: float = await connection.fetchval("select extract(epoch from clock_timestamp())::float")
    payload = await asyncio.wait_for(heard.get(), SLOW_CALL_SECONDS)
    await listener.close()
    assert before - 0.001 <= loads(payload)["committedAt"] <= after + 0.001
    assert Event(payload).committed_at == loads(payload)["committedAt"]


async def test_ids_are_in_the_order_of_commits(owner: asyncpg.Pool, heard: list[str]) -> None:
    """Who wrote first commits last, and is announced last."""
    first, second = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)
    [user] = await make_users(owner, 1)
    last_id = await newest(owner)
    async with owner.acquire() as early, owner.acquire() as late:
        open_transaction = early.transaction()
        await open_transaction.start()
        await take_unit(early, first, user)
        await take_unit(late, second, user)
        await open_transaction.commit()
    events = [loads(event) for event in await events_after(owner, last_id)]
    assert [event["data"]["dropId"] for event in events] == [str(second), str(first)]
    await eventually(lambda: _is_true(len(heard) >= 4))
    assert [loads(payload) for payload in heard[-2:]] == events


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_an_id_is_drawn_by_one_transaction_at_a_time(owner: asyncpg.Pool, end: str) -> None:
    """While somebody has drawn ids and not committed, another's commit waits, and a reader sees neither; then all in order."""
    first, second = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)
    [user] = await make_users(owner, 1)
    last_id = await newest(owner)
    waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
    async with owner.acquire() as slow:
        await slow.execute("begin")
        await take_unit(slow, first, user)
        await slow.execute("set constraints all immediate")
        quick = asyncio.create_task(take_unit(owner, second, user))

        async def quick_waits() -> bool:
            return bool(await owner.fetchval(waiting))

        await eventually(quick_waits)
        assert await events_after(owner, last_id) == []
        assert await owner.fetchval("select available_stock from api.get_drop($1)", second) == 5
        await slow.execute(end)
        await asyncio.wait_for(quick, SLOW_CALL_SECONDS)
    announced = [loads(event)["data"]["dropId"] for event in await events_after(owner, last_id)]
    assert announced == ([str(first)] if end == "commit" else []) + [str(second)]


class Storm:
    """Sessions that reserve, purchase, cancel and refund at random while others read what is announced."""

    def __init__(self, owner: asyncpg.Pool, drops: list[UUID], users: list[UUID]) -> None:
        self.owner, self.drops, self.users = owner, drops, users
        self.chance = random.Random(7)  # noqa: S311 - a storm to repeat, not a secret
        self.outcomes: Counter[str | None] = Counter()
        self.running = True

    async def buy(self, rounds: int) -> None:
        """One session: so many transactions."""
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
                raise  # none left, or another session's

    async def read(self, last_id: int) -> list[asyncpg.Record]:
        """What a reader sees who asks again and again for what came after the last event he has, at most 50 at a time."""
        seen: list[asyncpg.Record] = []
        polls = 0
        async with self.owner.acquire() as connection:
            while True:
                was_running = self.running
                rows = await connection.fetch(AFTER, last_id, 50)
                for row in rows:
                    assert int(row["id"]) > last_id, "an event came after a later one"
                    last_id = int(row["id"])
                seen += rows
                polls += bool(rows)
                if not was_running and not rows:
                    break
        assert polls > 20, "the reader was never there in time"
        return seen

    async def look(self) -> list[tuple[int, Any]]:
        """Snapshots while it goes on: id, and each drop by id."""
        snapshots = []
        async with self.owner.acquire() as connection:
            while self.running:
                row = await connection.fetchrow("select id, data from api.snapshot($1)", self.drops)
                snapshots.append((int(row["id"]), {drop["id"]: drop for drop in loads(row["data"])["drops"]}))
                await asyncio.sleep(0.01)
        return snapshots


async def test_storm_is_announced_in_order_and_to_the_last_unit(owner: asyncpg.Pool, heard: list[str]) -> None:
    """Thousands of transactions of eight sessions on six drops: readers and listeners see the same, and it adds up."""
    drops = [await make_drop_by_sql(owner, 30) for _ in range(6)]
    users = await make_users(owner, 40)
    last_id = await newest(owner)
    await eventually(lambda: _is_true(len(heard) == len(drops)))
    heard.clear()

    storm = Storm(owner, drops, users)
    reader, looker = asyncio.create_task(storm.read(last_id)), asyncio.create_task(storm.look())
    await asyncio.gather(*(storm.buy(400) for _ in range(8)))
    storm.running = False
    seen, snapshots = await reader, await looker

    assert min(storm.outcomes[code] for code in (None, "NO_ACTIVE_RESERVATION", "ALREADY_RESERVED", "refunded")) > 20
    logged = await events_after(owner, last_id)
    assert [(row["type"], row["id"], row["data"]) for row in seen] == [_fields(event) for event in logged]
    await eventually(lambda: _is_true(len(heard) >= len(logged)))
    assert heard == logged
    events = [loads(event) for event in logged]
    assert Counter(event["type"] for event in events).keys() == {"STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"}

    sold = await owner.fetchval("select count(*) from inventory.purchases where drop_id = any ($1)", drops)
    assert sum(event["type"] == "PURCHASE_COMPLETED" for event in events) == sold
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute("set local timezone = 'UTC'")
        end = await connection.fetchval("select data from api.snapshot($1)", drops)
    snapshots.append((int(events[-1]["id"]), {drop["id"]: drop for drop in loads(end)["drops"]}))
    assert len(snapshots) > 5, "nobody looked while it went on"
    _assert_snapshots_are_what_was_announced(snapshots, events, {str(drop_id): 30 for drop_id in drops})


def _fields(event: str) -> tuple[str, str, str]:
    """Type, id and data of an event, data to the letter."""
    content = loads(event)
    return content["type"], content["id"], event.split('"data":', 1)[1][:-1]


def _assert_snapshots_are_what_was_announced(
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


@pytest.mark.parametrize(("size", "is_whole"), [(7900, True), (7901, False), (100_000, False)])
async def test_an_event_too_large_to_notify_is_notified_as_its_id(
    owner: asyncpg.Pool, heard: list[str], size: int, is_whole: bool
) -> None:
    """The bound is of bytes, and no event of the product comes near it, so this one is published by hand."""
    drop_id = await make_drop_by_sql(owner, 1)
    last_id = await newest(owner)
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute(LOCK)
        event_id = str(await connection.fetchval("select last_value + 1 from inventory.events_id_seq"))

        def payload(filler: str) -> str:
            data = dumps({"filler": filler}, ensure_ascii=False)
            return f'{{"type":"LARGE","id":"{event_id}","drop_id":"{drop_id}","data":{data}}}'

        missing = size - len(payload("").encode())
        filler = "é" * (missing // 2) + "x" * (missing % 2)
        data = dumps({"filler": filler}, ensure_ascii=False)
        await connection.execute("select inventory.publish($1, 'LARGE', variadic array[$2::json])", drop_id, data)
    [logged] = await events_after(owner, last_id)
    assert logged == payload(filler)
    assert len(logged.encode()) == size
    await eventually(lambda: _is_true(len(heard) == 2))
    assert heard[1] == (logged if is_whole else event_id)


async def fill_log(owner: asyncpg.Pool, count: int) -> list[int]:
    """A log whose events are all a day old, at least so many of them; their ids."""
    drop_id = await make_drop_by_sql(owner, 1)
    async with owner.acquire() as connection, connection.transaction():
        await connection.execute(LOCK)
        await connection.execute(
            "select inventory.publish($1, 'OLD', variadic array(select '{}'::json from generate_series(1, $2::integer)))",
            drop_id,
            count,
        )
    await owner.execute("update inventory.events set created_at = now() - interval '1 day'")
    return await log_ids(owner)


async def log_ids(owner: asyncpg.Pool) -> list[int]:
    """The ids of all events there are."""
    return [row["id"] for row in await owner.fetch("select id from inventory.events order by id")]


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(("first", "second"), [(100, 250), (250, 100), (100, 100)])
async def test_prunes_side_by_side_leave_no_hole(owner: asyncpg.Pool, first: int, second: int, end: str) -> None:
    """The second waits for the first; whatever becomes of that, what is left is the end of the log."""
    ids = await fill_log(owner, 400)
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"

    async def second_waits() -> bool:
        return bool(await owner.fetchval(waiting))

    async with owner.acquire() as connection:
        await connection.execute("begin")
        assert await connection.fetchval("select api.prune_events(3600, $1)", first) == first
        other = asyncio.create_task(owner.fetchval("select api.prune_events(3600, $1)", second))
        await eventually(second_waits)
        await connection.execute(end)
    pruned = await asyncio.wait_for(other, SLOW_CALL_SECONDS) + (first if end == "commit" else 0)
    assert pruned == (max(first, second) if end == "commit" else second)
    assert await log_ids(owner) == ids[pruned:]


async def test_prunes_of_many_processes_while_others_read_and_write(owner: asyncpg.Pool) -> None:
    """Four prune at once, counting each event once; a reader always finds the end of the log; the newest old event stays."""
    ids = await fill_log(owner, 3000)
    drop_id, users = await make_drop_by_sql(owner, 200), await make_users(owner, 200)
    pruning = True

    async def prune() -> int:
        total, pruned = 0, 1
        while pruned:
            pruned = await owner.fetchval("select api.prune_events(3600, 37)")
            total += pruned
        return total

    async def read() -> int:
        times = 0
        while pruning:
            left = [found for found in await log_ids(owner) if found <= ids[-1]]
            assert left == ids[-len(left) :]
            times += 1
        return times

    reader = asyncio.create_task(read())
    writer = asyncio.gather(*(take_unit(owner, drop_id, user) for user in users))
    totals = await asyncio.gather(*(prune() for _ in range(4)))
    pruning = False
    await writer
    assert await reader > 5
    # Each stops when it finds nothing to do, which another may have in hand; the last one leaves nothing.
    assert sum(totals) + await prune() == len(ids) - 1
    left = await log_ids(owner)
    assert left[0] == ids[-1]
    assert len(await events_after(owner, ids[-1])) == len(left) - 1 == 201
    resync = await owner.fetch(AFTER, ids[-3], 10)
    assert [row["type"] for row in resync] == ["RESYNC_REQUIRED"]
