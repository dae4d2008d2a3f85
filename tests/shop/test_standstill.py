"""A transaction that somebody forgot to end holds up nobody but those who want the very same thing.

The holds of a psql session, `begin; select * from api.purchase(…)` and off to lunch, are the worst a client can do to a drop.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.shop.test_races import healthy
from tests.support.factories import hold, make_drop_by_sql, make_users, statuses
from tests.support.statements import CANCEL, PURCHASE, RESERVE, SWEEP

__all__ = ["healthy"]  # every test ends with a clean audit and no deadlock

SLOW_CALL_SECONDS = 10
EVERYTHING = 100_000


async def run_out(owner: asyncpg.Pool, reservation_ids: list[UUID]) -> None:
    """Let these holds be due."""
    await owner.execute("update inventory.reservations set expires_at = now() where id = any ($1)", reservation_ids)


async def codes(connection: asyncpg.Connection | asyncpg.Pool, statement: str, *arguments: object) -> list[str | None]:
    """The outcome of each request of a batch, which must come soon."""
    rows = await asyncio.wait_for(connection.fetch(statement, *arguments), SLOW_CALL_SECONDS)
    return [row["code"] for row in sorted(rows, key=lambda row: row["n"])]


async def waits(owner: asyncpg.Pool, count: int) -> None:
    """Wait until this many sessions wait for a lock."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with asyncio.timeout(SLOW_CALL_SECONDS):
        while await owner.fetchval(waiting) < count:
            await asyncio.sleep(0.01)


@pytest.fixture
async def forgotten(owner: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A session with an open transaction, rolled back at the end unless the test ends it."""
    async with owner.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await connection.execute("rollback")


async def test_reserves_that_waited_for_the_drop_find_the_units_that_are_due(owner: asyncpg.Pool) -> None:
    """Ten queue behind one lock with twenty units due: each gets its own, not all the same one."""
    drop_id, users = await make_drop_by_sql(owner, 20), await make_users(owner, 30)
    await run_out(owner, list((await hold(owner, drop_id, users[:20])).values()))
    async with owner.acquire() as blocker, blocker.transaction():
        await blocker.execute("select from inventory.drops where id = $1 for update", drop_id)
        calls = [asyncio.create_task(codes(owner, RESERVE, drop_id, [user], [None], 600)) for user in users[20:]]
        await waits(owner, 10)
    assert await asyncio.gather(*calls) == [[None]] * 10


async def test_a_purchase_under_way_hides_no_other_unit(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """The oldest due hold is locked by its buyer: the next one is taken back, by a reserve and by a smaller total_stock."""
    drop_id, users = await make_drop_by_sql(owner, 3), await make_users(owner, 5)
    holds = await hold(owner, drop_id, users[:3])
    assert await codes(forgotten, PURCHASE, drop_id, [users[0]], [None]) == [None]
    # The open purchase keeps its row from an update; the others are due, and younger than it will be taken for.
    await run_out(owner, [holds[users[1]], holds[users[2]]])
    await forgotten.execute("savepoint sold")
    assert await codes(owner, RESERVE, drop_id, [users[3]], [None], 600) == [None]
    await asyncio.wait_for(owner.fetch("select * from api.update_drop($1, '{\"total_stock\": 2}')", drop_id), SLOW_CALL_SECONDS)
    assert await codes(owner, RESERVE, drop_id, [users[4]], [None], 600) == ["OUT_OF_STOCK"]
    await forgotten.execute("commit")


async def test_the_oldest_due_hold_locked_by_its_buyer_is_passed_over(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """The lock is taken after the hold ran out, so the hold is due and in the way of every scan for due holds."""
    drop_id, users = await make_drop_by_sql(owner, 2), await make_users(owner, 3)
    holds = await hold(owner, drop_id, users[:2])
    await run_out(owner, [holds[users[0]]])
    await run_out(owner, [holds[users[1]]])
    await forgotten.execute("select from inventory.reservations where id = $1 for no key update", holds[users[0]])
    assert await codes(owner, RESERVE, drop_id, [users[2]], [None], 600) == [None]
    await asyncio.wait_for(owner.fetch(SWEEP, EVERYTHING), SLOW_CALL_SECONDS)
    assert await statuses(owner, drop_id) == {"ACTIVE": 2, "EXPIRED": 1}


async def test_a_busy_drop_holds_up_no_other(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """The sweep and the clock pass a locked drop over, whatever its id, and see to the others."""
    stuck, free = sorted([await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)])
    users = await make_users(owner, 4)
    for drop_id, pair in ((stuck, users[:2]), (free, users[2:])):
        await run_out(owner, list((await hold(owner, drop_id, pair)).values()))
        await owner.execute("update inventory.drops set ends_at = now() where id = $1", drop_id)
    await forgotten.execute("select from inventory.drops where id = $1 for update", stuck)
    await asyncio.wait_for(owner.fetch(SWEEP, EVERYTHING), SLOW_CALL_SECONDS)
    assert await statuses(owner, free) == {"EXPIRED": 2}
    assert await statuses(owner, stuck) == {"ACTIVE": 2}
    advanced = await asyncio.wait_for(owner.fetch("select id from api.advance_drops()"), SLOW_CALL_SECONDS)
    assert [row["id"] for row in advanced if row["id"] in (stuck, free)] == [free]
    assert stuck not in [row["id"] for row in await owner.fetch("select id from api.advance_drops()")]
    await forgotten.execute("commit")
    assert stuck in [row["id"] for row in await owner.fetch("select id from api.advance_drops()")]
    await owner.fetch(SWEEP, EVERYTHING)
    assert await statuses(owner, stuck) == {"EXPIRED": 2}


@pytest.mark.parametrize("key", ["the-same", None])
async def test_a_copy_of_a_purchase_under_way_learns_how_it_ended(
    owner: asyncpg.Pool, forgotten: asyncpg.Connection, key: str | None
) -> None:
    """The first is in time and still under way when the hold runs out; the second waits for it and never says EXPIRED."""
    drop_id, [user, bystander] = await make_drop_by_sql(owner, 2), await make_users(owner, 2)
    holds = await hold(owner, drop_id, [user], ttl_seconds=1)
    assert await codes(forgotten, PURCHASE, drop_id, [user], [key]) == [None]
    async with asyncio.timeout(SLOW_CALL_SECONDS):
        while not await owner.fetchval("select expires_at <= now() from inventory.reservations where id = $1", holds[user]):
            await asyncio.sleep(0.05)
    copy = asyncio.create_task(owner.fetchrow(PURCHASE, drop_id, [user], [key]))
    await waits(owner, 1)
    assert await codes(owner, RESERVE, drop_id, [bystander], [None], 600) == [None]
    await forgotten.execute("commit")
    row = await asyncio.wait_for(copy, SLOW_CALL_SECONDS)
    assert (row["code"], row["replayed"]) == ((None, True) if key else ("NO_ACTIVE_RESERVATION", False))
    assert await statuses(owner, drop_id) == {"CONSUMED": 1, "ACTIVE": 1}


async def test_a_cancel_waits_for_the_purchase_under_way_and_for_no_more(
    owner: asyncpg.Pool, forgotten: asyncpg.Connection
) -> None:
    """Meanwhile others reserve, though the cancel will need the drop."""
    drop_id, [user, bystander] = await make_drop_by_sql(owner, 2), await make_users(owner, 2)
    holds = await hold(owner, drop_id, [user])
    assert await codes(forgotten, PURCHASE, drop_id, [user], [None]) == [None]
    cancel = asyncio.create_task(codes(owner, CANCEL, [holds[user]], [user]))
    await waits(owner, 1)
    assert await codes(owner, RESERVE, drop_id, [bystander], [None], 600) == [None]
    await forgotten.execute("commit")
    assert await cancel == ["RESERVATION_NOT_ACTIVE"]
    assert await statuses(owner, drop_id) == {"CONSUMED": 1, "ACTIVE": 1}


@pytest.mark.parametrize("other", [CANCEL, PURCHASE])
async def test_holds_that_run_out_between_two_batches_do_not_deadlock(owner: asyncpg.Pool, other: str) -> None:
    """A purchase that began in time waits among its rows while a later call finds some of them due: no circle, many times."""
    drop_id = await make_drop_by_sql(owner, 1000)
    outcomes: Counter[str | None] = Counter()
    for _ in range(15):
        users = await make_users(owner, 3)
        holds = await hold_more(owner, drop_id, users)
        first, middle, last = sorted(users, key=lambda user: holds[user])
        async with owner.acquire() as blocker, blocker.transaction():
            await blocker.execute("select from inventory.reservations where id = $1 for no key update", holds[middle])
            in_time = asyncio.create_task(codes(owner, PURCHASE, drop_id, [first, middle, last], [None] * 3))
            await waits(owner, 1)
            await run_out(owner, [holds[last]])
            arguments = ([holds[last], holds[first]], [last, first]) if other == CANCEL else (drop_id, [last, first], [None] * 2)
            late = asyncio.create_task(codes(owner, other, *arguments))
            await waits(owner, 2)
        for answer in await asyncio.gather(in_time, late):
            outcomes.update(answer)
    assert outcomes[None] >= 30
    assert set(outcomes) <= {None, "RESERVATION_EXPIRED", "RESERVATION_NOT_ACTIVE", "NO_ACTIVE_RESERVATION"}


async def hold_more(owner: asyncpg.Pool, drop_id: UUID, users: list[UUID]) -> dict[UUID, UUID]:
    """Holds for these users, on a drop where others hold some already."""
    key = uuid4().hex
    await owner.fetch(RESERVE, drop_id, users, [key] * len(users), 600)
    rows = await owner.fetch(
        "select id, user_id from inventory.reservations where drop_id = $1 and idempotency_key = $2", drop_id, key
    )
    return {row["user_id"]: row["id"] for row in rows}
