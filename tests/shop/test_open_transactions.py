"""An open transaction that a psql user forgot delays only those who want the same row.

The locks of `begin; select * from api.purchase(…)` without an end are the worst that a client can do to a drop.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from tests.support.batch_statements import CANCEL, PURCHASE, PURCHASE_NAMED, RESERVE, SWEEP
from tests.support.factories import Owner, hold, make_drop_by_sql, make_due, make_user, make_users, statuses
from tests.support.ordered_requests import TIMEOUT_SECONDS, lock_waits, locked
from tests.support.payments import begin_payments, payments_taken_by, tell
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("healthy")

EVERYTHING = 100_000


async def soon(owner: Owner, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of a statement; fails if they do not come in time."""
    return await asyncio.wait_for(owner.fetch(statement, *arguments), TIMEOUT_SECONDS)


async def codes(owner: Owner, statement: str, *arguments: object) -> list[str | None]:
    """The outcome of each request of a batch, in their order; fails if they do not come in time."""
    return [row["code"] for row in sorted(await soon(owner, statement, *arguments), key=lambda row: row["n"])]


async def make_sizes(owner: Owner) -> tuple[str, list[str]]:
    """A new live drop with two sizes; returns its id and theirs."""
    sizes = '[{"name": "S", "total_stock": 5}, {"name": "M", "total_stock": 5}]'
    create = "select id from api.create_drop('sizes', 1, null, $1, now(), p_variants => $2)"
    drop_id = await owner.fetchval(create, await make_user(owner), sizes)
    return drop_id, [row[0] for row in await owner.fetch("select id from inventory.variants where drop_id = $1", drop_id)]


async def hold_size(owner: Owner, drop_id: str, user: str, variant: str, ttl_seconds: int = 600) -> UUID:
    """The user holds a unit of this size; returns the id of the reservation."""
    reserve = "select id from api.reserve($1, $2, null, $3, $4)"
    reservation_id: UUID = await owner.fetchval(reserve, drop_id, user, ttl_seconds, variant)
    return reservation_id


@pytest.fixture
async def forgotten(owner: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A session with an open transaction, rolled back at the end unless the test ends it."""
    async with owner.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await connection.execute("rollback")


async def test_reserves_that_waited_for_the_drop_find_the_units_that_are_due(owner: asyncpg.Pool) -> None:
    """Ten calls queue for one lock while twenty units are due: each call gets a unit of its own, not all the same one."""
    drop_id, users = await make_drop_by_sql(owner, 20), await make_users(owner, 30)
    await make_due(owner, *(await hold(owner, drop_id, users[:20])).values())
    async with locked(owner, drop_id):
        calls = [asyncio.create_task(codes(owner, RESERVE, drop_id, [user], [None], 600)) for user in users[20:]]
        await lock_waits(owner, 10)
    assert await asyncio.gather(*calls) == [[None]] * 10


async def test_an_open_purchase_hides_no_other_unit(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """The oldest hold is locked by its purchase; a reserve and a smaller total_stock take back the next holds that are due."""
    drop_id, users = await make_drop_by_sql(owner, 3), await make_users(owner, 5)
    holds = await hold(owner, drop_id, users[:3])
    assert await codes(forgotten, PURCHASE, drop_id, [users[0]], [None]) == [None]
    await make_due(owner, holds[users[1]], holds[users[2]])  # the open purchase keeps its own row from this update
    assert await codes(owner, RESERVE, drop_id, [users[3]], [None], 600) == [None]
    await soon(owner, "select * from api.update_drop($1, '{\"total_stock\": 2}')", drop_id)
    assert await codes(owner, RESERVE, drop_id, [users[4]], [None], 600) == ["OUT_OF_STOCK"]
    await forgotten.execute("commit")


async def test_a_purchase_that_waited_for_the_cancel_of_its_drop(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """It is told of the cancel, as the next purchase is."""
    drop_id, users = await make_drop_by_sql(owner, 1), await make_users(owner, 1)
    await hold(owner, drop_id, users)
    await forgotten.execute('select from api.update_drop($1, \'{"status": "cancelled"}\')', drop_id)
    purchase = asyncio.create_task(codes(owner, PURCHASE, drop_id, users, [None]))
    await lock_waits(owner, 1)
    await forgotten.execute("commit")
    assert await purchase == await codes(owner, PURCHASE, drop_id, users, [None]) == ["DROP_NOT_ACTIVE"]


async def test_the_oldest_due_hold_is_passed_over_while_it_is_locked(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """Its buyer locked it after it ran out, so it is due and the first that every scan for due holds meets."""
    drop_id, users = await make_drop_by_sql(owner, 2), await make_users(owner, 3)
    holds = await hold(owner, drop_id, users[:2])
    for user in users[:2]:
        await make_due(owner, holds[user])
    await forgotten.execute("select from inventory.reservations where id = $1 for no key update", holds[users[0]])
    assert await codes(owner, RESERVE, drop_id, [users[2]], [None], 600) == [None]
    await soon(owner, SWEEP, EVERYTHING)
    assert await statuses(owner, drop_id) == {"ACTIVE": 2, "EXPIRED": 1}


async def test_a_locked_drop_is_passed_over_by_the_sweep_and_the_clock(
    owner: asyncpg.Pool, forgotten: asyncpg.Connection
) -> None:
    """Although the locked drop has the lower id, the other one is swept and ended; once it is free it is swept and ended too."""
    stuck, free = sorted([await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)])
    users = await make_users(owner, 4)
    for drop_id, pair in ((stuck, users[:2]), (free, users[2:])):
        await make_due(owner, *(await hold(owner, drop_id, pair)).values())
        await owner.execute("update inventory.drops set ends_at = now() where id = $1", drop_id)

    async def advanced() -> set[str]:
        return {row["id"] for row in await soon(owner, "select id::text from api.advance_drops()")} & {stuck, free}

    await forgotten.execute("select from inventory.drops where id = $1 for update", stuck)
    await soon(owner, SWEEP, EVERYTHING)
    assert (await statuses(owner, free), await statuses(owner, stuck)) == ({"EXPIRED": 2}, {"ACTIVE": 2})
    assert await advanced() == {free}
    assert await advanced() == set()
    await forgotten.execute("commit")
    assert await advanced() == {stuck}
    await soon(owner, SWEEP, EVERYTHING)
    assert await statuses(owner, stuck) == {"EXPIRED": 2}


@pytest.mark.parametrize("key", ["the-same", None])
async def test_a_repeated_purchase_learns_how_the_open_one_ended(
    owner: asyncpg.Pool, forgotten: asyncpg.Connection, key: str | None
) -> None:
    """The first is in time and open when the hold runs out; the second waits for it and is not told RESERVATION_EXPIRED."""
    drop_id, [user, other] = await make_drop_by_sql(owner, 2), await make_users(owner, 2)
    holds = await hold(owner, drop_id, [user], ttl_seconds=1)
    assert await codes(forgotten, PURCHASE, drop_id, [user], [key]) == [None]
    is_due = "select expires_at <= now() from inventory.reservations where id = $1"
    await eventually(lambda: owner.fetchval(is_due, holds[user]))
    repeated = asyncio.create_task(soon(owner, PURCHASE, drop_id, [user], [key]))
    await lock_waits(owner, 1)
    assert await codes(owner, RESERVE, drop_id, [other], [None], 600) == [None]
    await forgotten.execute("commit")
    [row] = await repeated
    assert (row["code"], row["replayed"]) == ((None, True) if key else ("NO_ACTIVE_RESERVATION", False))
    assert await statuses(owner, drop_id) == {"CONSUMED": 1, "ACTIVE": 1}


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_key_that_another_session_is_using_for_another_hold(
    owner: asyncpg.Pool, forgotten: asyncpg.Connection, end: str
) -> None:
    """The request is refused as if the other purchase had come before, and only that one."""
    [user, other] = await make_users(owner, 2)
    drop_id, variants = await make_sizes(owner)
    first, second = [await hold_size(owner, drop_id, user, variant) for variant in variants]
    of_other = await hold_size(owner, drop_id, other, variants[0])
    assert await codes(forgotten, PURCHASE_NAMED, drop_id, [user], ["key"], [first]) == [None]
    together = asyncio.create_task(codes(owner, PURCHASE_NAMED, drop_id, [other, user], [None, "key"], [of_other, second]))
    await lock_waits(owner, 1)
    await forgotten.execute(end)
    assert await together == [None, "IDEMPOTENCY_KEY_REUSED" if end == "commit" else None]
    assert await statuses(owner, drop_id) == {"CONSUMED": 2, "ACTIVE": 1}


async def test_a_repeated_purchase_that_means_another_hold_by_now(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """The hold that the first one is selling has run out meanwhile, and the user has another one. It is a replay."""
    [user] = await make_users(owner, 1)
    drop_id, [small, medium] = await make_sizes(owner)
    first = await hold_size(owner, drop_id, user, small, ttl_seconds=1)
    assert await codes(forgotten, PURCHASE, drop_id, [user], ["key"]) == [None]
    await hold_size(owner, drop_id, user, medium)
    await eventually(lambda: owner.fetchval("select expires_at <= now() from inventory.reservations where id = $1", first))
    repeated = asyncio.create_task(soon(owner, "select * from api.purchase($1, $2, 'key')", drop_id, user))
    await lock_waits(owner, 1)
    await forgotten.execute("commit")
    [row] = await repeated
    assert (row["reservation_id"], row["replayed"]) == (first, True)
    assert await statuses(owner, drop_id) == {"CONSUMED": 1, "ACTIVE": 1}


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("change", ["delete from {}", "update {} set id = gen_random_uuid()"])
async def test_a_hold_that_is_removed_by_hand_while_it_is_sold_by_hand(
    owner: asyncpg.Pool, forgotten: asyncpg.Connection, change: str, isolation: str
) -> None:
    """It stays, because it was sold, as with a foreign key."""
    drop_id, [user] = await make_drop_by_sql(owner, 1), await make_users(owner, 1)
    [hold_id] = (await hold(owner, drop_id, [user])).values()
    await owner.execute("select from api.cancel_reservation($1, $2)", hold_id, user)
    async with owner.acquire() as other:
        transaction = other.transaction(isolation=isolation.replace(" ", "_"))
        await transaction.start()
        await other.execute("select from inventory.drops")  # it has its snapshot now
        await forgotten.execute(
            "insert into inventory.purchases (drop_id, user_id, reservation_id, status) values ($1, $2, $3, 'cancelled')",
            *(drop_id, user, hold_id),
        )
        statement = change.format("inventory.reservations") + " where id = $1"
        removal = asyncio.create_task(other.execute(statement, hold_id))
        await lock_waits(owner, 1)
        await forgotten.execute("commit")
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await removal
        await transaction.rollback()
    await owner.execute("delete from inventory.purchases where reservation_id = $1", hold_id)


async def test_a_cancel_that_waits_for_a_purchase_delays_no_reserve(owner: asyncpg.Pool, forgotten: asyncpg.Connection) -> None:
    """Others reserve meanwhile, although the cancel will need the drop."""
    drop_id, [user, other] = await make_drop_by_sql(owner, 2), await make_users(owner, 2)
    holds = await hold(owner, drop_id, [user])
    assert await codes(forgotten, PURCHASE, drop_id, [user], [None]) == [None]
    cancel = asyncio.create_task(codes(owner, CANCEL, [holds[user]], [user]))
    await lock_waits(owner, 1)
    assert await codes(owner, RESERVE, drop_id, [other], [None], 600) == [None]
    await forgotten.execute("commit")
    assert await cancel == ["RESERVATION_NOT_ACTIVE"]
    assert await statuses(owner, drop_id) == {"CONSUMED": 1, "ACTIVE": 1}


@pytest.mark.parametrize("other", [CANCEL, PURCHASE])
async def test_holds_that_run_out_between_two_batches_do_not_deadlock(owner: asyncpg.Pool, other: str) -> None:
    """A purchase that began in time waits among its rows; a later call finds some of them due. No deadlock, fifteen times."""
    drop_id = await make_drop_by_sql(owner, 1000)
    outcomes: Counter[str | None] = Counter()
    for _ in range(15):
        users = await make_users(owner, 3)
        holds = await hold(owner, drop_id, users)
        first, middle, last = sorted(users, key=lambda user: holds[user])
        async with owner.acquire() as blocker, blocker.transaction():
            await blocker.execute("select from inventory.reservations where id = $1 for no key update", holds[middle])
            in_time = asyncio.create_task(codes(owner, PURCHASE, drop_id, [first, middle, last], [None] * 3))
            await lock_waits(owner, 1)
            await make_due(owner, holds[last])
            arguments = ([holds[last], holds[first]], [last, first]) if other == CANCEL else (drop_id, [last, first], [None] * 2)
            late = asyncio.create_task(codes(owner, other, *arguments))
            await lock_waits(owner, 2)
        for answer in await asyncio.gather(in_time, late):
            outcomes.update(answer)
    assert outcomes[None] >= 30
    assert set(outcomes) <= {None, "RESERVATION_EXPIRED", "RESERVATION_NOT_ACTIVE", "NO_ACTIVE_RESERVATION"}


@pytest.mark.parametrize("what", ["purchase", "extend", "pay"])
async def test_a_commit_after_the_end_tells_the_stock(owner: asyncpg.Pool, forgotten: asyncpg.Connection, what: str) -> None:
    """A hold is bought or extended, or a payment paid, in time, but others tell meanwhile that its unit is free."""
    drop_id, users = await make_drop_by_sql(owner, 3), await make_users(owner, 2)
    await owner.execute("update inventory.drops set extension_seconds = 60 where id = $1", drop_id)
    holds = await hold(owner, drop_id, users[:1])
    if what == "pay":
        async with payments_taken_by(owner, "stripe"):
            payments = await begin_payments(owner, drop_id, users[:1])
        await owner.execute(
            "with ended as (update inventory.payments set expires_at = clock_timestamp() where id = $1 returning id, expires_at)"
            " update inventory.purchases p set payment_expires_at = e.expires_at from ended e where p.payment_id = e.id",
            payments[users[0]],
        )
        assert (await tell(forgotten, payments[users[0]], "paid"))["outcome"] == "applied"
    else:
        await owner.execute("update inventory.reservations set expires_at = clock_timestamp() where id = $1", holds[users[0]])
        if what == "purchase":
            assert await codes(forgotten, PURCHASE, drop_id, users[:1], [None]) == [None]
        else:
            await forgotten.execute("select from api.extend_reservation($1, $2)", holds[users[0]], users[0])
    assert await codes(owner, RESERVE, drop_id, users[1:], [None], 600) == [None]
    assert await last_stock_told(owner, drop_id) == 2
    await forgotten.execute("commit")
    assert await last_stock_told(owner, drop_id) == 1
    assert await owner.fetchval("select available_stock from api.get_drop($1)", drop_id) == 1


async def last_stock_told(owner: Owner, drop_id: str) -> int:
    """The stock in the last STOCK_UPDATED of a drop."""
    return await owner.fetchval(
        "select (data ->> 'availableStock')::integer from inventory.events"
        " where drop_id = $1 and type = 'STOCK_UPDATED' order by id desc limit 1",
        drop_id,
    )
