"""Races of payments, run many times: whichever side wins, no unit is lost, no money is kept without one, nothing deadlocks."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from json import dumps

import asyncpg
import pytest

from tests.shop.test_races import sizes
from tests.support.batch_statements import PURCHASE, RESERVE, SWEEP
from tests.support.factories import available_stock, make_drop_by_sql, make_users
from tests.support.payments import (
    SWEEP_PAYMENTS,
    begin_payments,
    make_payments_due,
    payment_statuses,
    payments_taken_by,
    tell,
)

pytestmark = pytest.mark.usefixtures("healthy", "provider")


@pytest.fixture
async def provider(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """A provider takes the money."""
    async with payments_taken_by(owner, "stripe"):
        yield


async def refused(call: Awaitable[object]) -> str | None:
    """The code with which a call was refused; None if it was not."""
    try:
        await call
    except asyncpg.PostgresError as error:
        if not (error.sqlstate or "").startswith("PT"):
            raise  # not a refusal: a deadlock, a violated constraint, a fault
        return str(error.args[0])
    return None


async def all_at_once(calls: list[Awaitable[object]], gate: asyncio.Semaphore) -> list[object]:
    """Await all of these in a random order, beside those of other duels."""
    order = random.sample(range(len(calls)), len(calls))
    async with gate:
        answers = await asyncio.gather(*(calls[n] for n in order))
    return [answer for _, answer in sorted(zip(order, answers, strict=True), key=lambda pair: pair[0])]


@sizes("count", 100, 700)
async def test_one_event_in_eight_sessions(owner: asyncpg.Pool, count: int) -> None:
    """It is applied once, and all others find it unchanged."""
    users = await make_users(owner, count)
    drop_id = await make_drop_by_sql(owner, count)
    payments = await begin_payments(owner, drop_id, users)
    gate = asyncio.Semaphore(3)

    async def duel(payment: str) -> None:
        answers = await all_at_once([tell(owner, payment, "paid", f"event of {payment}") for _ in range(8)], gate)
        assert Counter(answer["outcome"] for answer in answers) == {"applied": 1, "unchanged": 7}  # type: ignore[index]
        assert {answer["status"] for answer in answers} == {"paid"}  # type: ignore[index]

    await asyncio.gather(*(duel(payment) for payment in payments.values()))
    assert await payment_statuses(owner, drop_id) == {"paid": count}
    told = "select count(*) from inventory.payment_events where payment_id = any ($1)"
    assert await owner.fetchval(told, list(payments.values())) == count


@sizes("count", 200, 1200)
async def test_paid_against_the_buyers_cancel(owner: asyncpg.Pool, count: int) -> None:
    """Paid first: the cancel is refused. Cancelled first: the unit is taken again, because nobody else wants it."""
    users = await make_users(owner, count)
    drop_id = await make_drop_by_sql(owner, count)
    payments = await begin_payments(owner, drop_id, users)
    gate = asyncio.Semaphore(8)

    async def duel(user: str, payment: str) -> None:
        cancel = refused(owner.fetch("select * from api.cancel_payment($1, $2)", payment, user))
        event, code = await all_at_once([tell(owner, payment, "paid"), cancel], gate)
        assert event["status"] == "paid"  # type: ignore[index]
        assert code in (None, "INVALID_STATUS_CHANGE")

    await asyncio.gather(*(duel(*item) for item in payments.items()))
    assert await payment_statuses(owner, drop_id) == {"paid": count}
    assert await available_stock(owner, drop_id) == 0


@sizes("count", 200, 1200)
async def test_paid_against_the_sweep_and_other_buyers(owner: asyncpg.Pool, count: int) -> None:
    """Payments end while they are paid. Others want the units: each unit is sold once, and the money of the rest returns."""
    users, rivals = await make_users(owner, count), await make_users(owner, count)
    drop_id = await make_drop_by_sql(owner, count)
    payments = await begin_payments(owner, drop_id, users)
    await make_payments_due(owner, [drop_id], count, in_seconds=0.5)
    gate, sweeping = asyncio.Semaphore(6), True

    async def sweep() -> None:
        while sweeping:
            await owner.execute(SWEEP_PAYMENTS, random.choice([3, 1000]))  # noqa: S311

    async def duel(payment: str, rival: str) -> None:
        reserve = owner.fetchrow(RESERVE, drop_id, [rival], [None], 600)
        event, held = await all_at_once([tell(owner, payment, "paid"), reserve], gate)
        assert event["status"] in ("paid", "refunded")  # type: ignore[index]
        assert held["code"] in (None, "OUT_OF_STOCK")  # type: ignore[index]

    sweeps = [asyncio.create_task(sweep()) for _ in range(2)]
    await asyncio.gather(*(duel(payment, rival) for payment, rival in zip(payments.values(), rivals, strict=True)))
    sweeping = False
    await asyncio.gather(*sweeps)
    held = await owner.fetchval(
        "select count(*) from inventory.reservations where drop_id = $1 and status = 'ACTIVE' and user_id = any ($2)",
        drop_id,
        rivals,
    )
    became = await payment_statuses(owner, drop_id)
    assert set(became) <= {"paid", "refunded"}
    assert became["paid"] + held + await available_stock(owner, drop_id) == count
    calls = "select count(*) from inventory.provider_calls where drop_id = $1 and action = 'refund'"
    assert await owner.fetchval(calls, drop_id) == became.get("refunded", 0)


@sizes("count", 100, 700)
async def test_the_last_unit(owner: asyncpg.Pool, count: int) -> None:
    """Late money for the last unit meets two reserves: it is sold once, and the money of one who does not get it returns."""
    users, gate = await make_users(owner, 3 * count), asyncio.Semaphore(4)

    async def duel(late: str, *others: str) -> str:
        drop_id = await make_drop_by_sql(owner, 1)
        [payment] = (await begin_payments(owner, drop_id, [late])).values()
        if random.random() < 0.5:  # noqa: S311
            await owner.fetch("select * from api.cancel_payment($1, $2)", payment, late)
        else:
            await make_payments_due(owner, [drop_id], 1)
        reserves = [owner.fetchrow(RESERVE, drop_id, [other], [None], 600) for other in others]
        event, *held = await all_at_once([tell(owner, payment, "paid"), *reserves], gate)
        got = [row["code"] for row in held].count(None)  # type: ignore[index]
        assert (event["status"], got) in (("paid", 0), ("refunded", 1))  # type: ignore[index]
        assert await available_stock(owner, drop_id) == 0
        return str(event["status"])  # type: ignore[index]

    await asyncio.gather(*(duel(*users[n : n + 3]) for n in range(0, 3 * count, 3)))


@sizes("count", 100, 700)
async def test_paid_against_the_cancel_of_the_drop(owner: asyncpg.Pool, count: int) -> None:
    """Three payments are paid while the seller cancels the drop and refunds all: the money of each comes back."""
    users, gate = await make_users(owner, 3 * count), asyncio.Semaphore(4)
    refund_all = "select remaining from api.cancel_drop($1, true)"

    async def duel(*buyers: str) -> None:
        drop_id = await make_drop_by_sql(owner, 5)
        payments = await begin_payments(owner, drop_id, list(buyers))
        events = [tell(owner, payment, random.choice(["paid", "paid", "failed"])) for payment in payments.values()]  # noqa: S311
        await all_at_once([owner.fetchval(refund_all, drop_id), *events], gate)
        for payment in payments.values():
            await tell(owner, payment, "paid")
        await owner.execute(SWEEP_PAYMENTS, 100)
        while await owner.fetchval(refund_all, drop_id):
            pass
        assert await payment_statuses(owner, drop_id) == {"refunded": 3}
        assert await available_stock(owner, drop_id) == 5

    await asyncio.gather(*(duel(*users[n : n + 3]) for n in range(0, 3 * count, 3)))


@sizes("count", 100, 700)
async def test_refunds_here_and_there(owner: asyncpg.Pool, count: int) -> None:
    """The seller refunds a purchase twice while the provider tells of the payment and of its refund: the unit comes back once."""
    users = await make_users(owner, count)
    drop_id = await make_drop_by_sql(owner, count)
    payments = await begin_payments(owner, drop_id, users)
    gate = asyncio.Semaphore(4)

    async def duel(payment: str) -> None:
        purchase = await owner.fetchval("select id from inventory.purchases where payment_id = $1", payment)

        def refund() -> Awaitable[str | None]:
            return refused(owner.fetch("select * from api.refund_purchase($1)", purchase))

        if random.random() < 0.5:  # noqa: S311
            await tell(owner, payment, "paid")
        await all_at_once([tell(owner, payment, "refunded"), tell(owner, payment, "paid"), refund(), refund()], gate)

    await asyncio.gather(*(duel(payment) for payment in payments.values()))
    assert await payment_statuses(owner, drop_id) == {"refunded": count}
    assert await available_stock(owner, drop_id) == count


async def blocked(owner: asyncpg.Pool, session: asyncpg.Connection) -> None:
    """Return once this session waits for a lock."""
    pid = session.get_server_pid()
    while not await owner.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
        await asyncio.sleep(0.01)


async def test_paid_behind_an_open_cancel(owner: asyncpg.Pool) -> None:
    """The event has locked nothing but waits for a cancel. When that commits, the event begins again and takes the unit again."""
    [user] = await make_users(owner, 1)
    drop_id = await make_drop_by_sql(owner, 1)
    [payment] = (await begin_payments(owner, drop_id, [user])).values()
    async with owner.acquire() as buyer, owner.acquire() as teller:
        cancel = buyer.transaction()
        await cancel.start()
        await buyer.fetch("select * from api.cancel_payment($1, $2)", payment, user)
        event = asyncio.create_task(tell(teller, payment, "paid"))
        await blocked(owner, teller)
        await cancel.commit()
        assert tuple(await event)[:3] == ("applied", None, "paid")
    assert await available_stock(owner, drop_id) == 0


async def test_a_sweep_leaves_what_is_being_paid(owner: asyncpg.Pool) -> None:
    """It waits for nothing, and a due payment stays whose event began in time. So does a reserve, which finds no unit."""
    user, other = await make_users(owner, 2)
    drop_id = await make_drop_by_sql(owner, 1)
    [payment] = (await begin_payments(owner, drop_id, [user])).values()
    async with owner.acquire() as teller:
        event = teller.transaction()
        await event.start()
        await make_payments_due(owner, [drop_id], 1)
        assert (await tell(teller, payment, "paid"))["outcome"] == "applied"
        assert await owner.fetchval("select nothing_due_before <= now() from inventory.drops where id = $1", drop_id)
        assert await owner.fetchval(SWEEP_PAYMENTS, 100) == 0
        assert (await owner.fetchrow(RESERVE, drop_id, [other], [None], 600))["code"] == "OUT_OF_STOCK"
        await event.commit()
    assert await payment_statuses(owner, drop_id) == {"paid": 1}


@pytest.mark.parametrize("is_paid_first", [True, False])
async def test_the_drop_is_cancelled_while_a_payment_is_being_paid(owner: asyncpg.Pool, is_paid_first: bool) -> None:
    """One call cancels the drop and refunds all: it waits for the event, or the event waits for it."""
    [user] = await make_users(owner, 1)
    drop_id = await make_drop_by_sql(owner, 1)
    [payment] = (await begin_payments(owner, drop_id, [user])).values()

    async def cancel(session: asyncpg.Connection) -> None:
        assert await session.fetchval("select remaining from api.cancel_drop($1, true)", drop_id) == 0

    async def pay(session: asyncpg.Connection) -> None:
        await tell(session, payment, "paid")

    calls = [pay, cancel] if is_paid_first else [cancel, pay]
    async with owner.acquire() as first, owner.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await calls[0](first)
        other = asyncio.create_task(calls[1](second))
        await blocked(owner, second)
        await transaction.commit()
        await other
    assert await payment_statuses(owner, drop_id) == {"refunded": 1}
    assert await available_stock(owner, drop_id) == 1


async def test_a_drop_of_a_basket_is_cancelled_while_the_other_is_locked(owner: asyncpg.Pool) -> None:
    """The payment stays open, because the units of the other drop cannot go back. If it is paid then, the money returns."""
    [user] = await make_users(owner, 1)
    drops = [await make_drop_by_sql(owner, 1) for _ in range(2)]
    basket = await owner.fetchval(
        "select (b.basket).id from api.reserve_basket($1, array(select row(d, null, 1)::api.basket_item"
        " from unnest($2::uuid[]) d)) b",
        user,
        drops,
    )
    rows = await owner.fetch("select (p.purchase).payment_id from api.purchase_basket($1, $2) p", basket, user)
    [payment] = {row["payment_id"] for row in rows}
    async with owner.acquire() as other, other.transaction():
        await other.execute("select from inventory.drops where id = $1 for no key update", drops[1])
        assert await owner.fetchval("select remaining from api.cancel_drop($1, true)", drops[0]) == 0
        assert await owner.fetchval("select status from inventory.payments where id = $1", payment) == "pending"
    assert (await tell(owner, str(payment), "paid"))["status"] == "refunded"
    assert [await available_stock(owner, drop) for drop in drops] == [1, 1]
    assert await owner.fetchval(SWEEP_PAYMENTS, 100) == 0


@sizes("calls_each", 40, 400)
async def test_mixed_storm_of_payments(owner: asyncpg.Pool, calls_each: int) -> None:
    """Every call on 8 drops, baskets too, with events in any order and time that passes: no deadlock, no fault, a clean audit."""
    chance = random.Random(17)  # noqa: S311 - a storm to repeat, not a secret
    seller, *users = await make_users(owner, 41)
    drops, variants = [await make_drop_by_sql(owner, chance.randint(3, 20)) for _ in range(6)], {}
    for _ in range(2):
        row = await owner.fetchrow(
            "select d.id::text, array(select v.id::text from unnest(d.variants) v) as variants"
            " from api.create_drop('sizes', 3, null, $1, now(), p_variants => $2, p_terms => '{\"limit_per_user\": 4}') d",
            seller,
            dumps([{"name": name, "total_stock": 6} for name in "SM"]),
        )
        drops.append(row["id"])
        variants[row["id"]] = row["variants"]
    answers: Counter[str] = Counter()

    async def buy() -> None:
        drop = chance.choice(drops[:6])
        batch = chance.choices(users, k=chance.choice([1, 1, 3, 10]))
        await owner.fetch(RESERVE, drop, batch, [None] * len(batch), 600)
        await owner.fetch(PURCHASE, drop, batch, [None] * len(batch))

    async def buy_basket() -> None:
        user = chance.choice(users)
        chosen = chance.sample(drops, 3)
        items = [(drop, chance.choice(variants[drop]) if drop in variants else None, 1) for drop in chosen]
        basket = await owner.fetchval(
            "select (b.basket).id from api.reserve_basket($1, array(select row(i.d, i.v, i.q)::api.basket_item"
            " from unnest($2::uuid[], $3::uuid[], $4::integer[]) i (d, v, q))) b",
            user,
            *zip(*items, strict=True),
        )
        await owner.fetch("select * from api.purchase_basket($1, $2)", basket, user)

    async def some_payment() -> asyncpg.Record | None:
        rows = await owner.fetch(
            "select id::text, user_id::text from inventory.payments where drop_id = any ($1) order by updated_at desc limit 60",
            drops,
        )
        return chance.choice(rows) if rows else None

    async def event() -> None:
        if (payment := await some_payment()) is not None:
            status = chance.choices(["paid", "failed", "cancelled", "refunded"], [10, 3, 2, 1])[0]
            again = f"{payment['id']} {status}" if chance.random() < 0.3 else None
            await tell(owner, payment["id"], status, again, chance.choice([None, 1]) if status == "refunded" else None)

    async def cancel() -> None:
        if (payment := await some_payment()) is not None:
            await owner.fetch("select * from api.cancel_payment($1, $2)", payment["id"], payment["user_id"])

    async def refund() -> None:
        rows = await owner.fetch(
            "select id, qty from inventory.purchases where drop_id = any ($1) and status = 'paid' limit 50", drops
        )
        if rows:
            await owner.fetch(
                "select * from api.refund_purchase($1, p_qty => $2)", chance.choice(rows)["id"], chance.choice([None, 1])
            )

    async def work() -> None:
        for call in await owner.fetch("select * from api.take_provider_calls($1, 60)", chance.choice([1, 10])):
            if chance.random() < 0.2:
                await owner.execute("select api.fail_provider_call($1, 'no answer', $2)", call["id"], chance.random() < 0.1)
            else:
                await owner.execute(
                    "select api.finish_provider_call($1, $2, 'secret', null)", call["id"], str(call["payment_id"])
                )

    async def pass_time() -> None:  # not a call of the API
        await make_payments_due(owner, drops, 10, chance.choice([0, 0.05]))

    async def sweep() -> None:
        await owner.fetch(SWEEP, 100)
        await owner.execute(SWEEP_PAYMENTS, chance.choice([2, 1000]))

    async def change() -> None:
        if chance.random() < 0.1:
            await owner.fetch("select * from api.cancel_drop($1, $2)", chance.choice(drops), chance.random() < 0.5)
        else:
            await owner.fetch("select * from api.update_drop($1, $2)", chance.choice(drops[:6]), '{"add_stock": 3}')

    async def look() -> None:
        assert [tuple(row) for row in await owner.fetch("select * from api.audit()")] == []

    calls: list[Callable[[], Awaitable[None]]] = [buy, buy_basket, event, cancel, refund, work, pass_time, sweep, change, look]

    async def client() -> None:
        for _ in range(calls_each):
            call = chance.choices(calls, [20, 10, 40, 5, 6, 10, 8, 8, 3, 2])[0]
            try:
                code = await refused(call())
            except asyncpg.LockNotAvailableError:
                assert call is buy_basket  # it does not wait long for one of several drops
                code = "55P03"
            answers[code or call.__name__] += 1

    await asyncio.gather(*(client() for _ in range(16)))
    assert all(answers[call.__name__] > 0 for call in (buy, event, refund, work, sweep))
