"""Payments for the tests of the database: who takes the money, what a provider tells, and time that passes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from tests.support.batch_statements import PURCHASE
from tests.support.factories import Owner, hold

EVENT = (  # provider, event_id, payment_id, status, refunded_amount
    "select outcome, problem, (payment).status, (payment).id"
    " from api.record_payment_event(row($1::text, $2::text, $3::uuid, null, $4::text, null, null, $5::numeric, '{}', null)"
    "::api.payment_event)"
)
SWEEP_PAYMENTS = "select api.expire_payments($1)"


@asynccontextmanager
async def payments_taken_by(owner: Owner, provider: str, ttl_seconds: int = 600) -> AsyncIterator[None]:
    """Let this provider take the money for what is bought meanwhile."""
    await owner.execute("select api.set_payment_provider($1, $2)", provider, ttl_seconds)
    try:
        yield
    finally:
        await owner.execute("select api.set_payment_provider('none', 900)")


async def begin_payments(owner: Owner, drop_id: str, users: list[str]) -> dict[str, str]:
    """Hold and buy a unit for each of these users: user id to the id of the payment, which is pending."""
    await hold(owner, drop_id, users)
    await owner.fetch(PURCHASE, drop_id, users, [None] * len(users))
    rows = await owner.fetch(
        "select user_id::text, payment_id::text from inventory.purchases"
        " where drop_id = $1 and user_id = any ($2) and status = 'pending'",
        drop_id,
        users,
    )
    assert len(rows) == len(users)
    return {row["user_id"]: row["payment_id"] for row in rows}


async def tell(
    owner: Owner, payment_id: str, status: str, event_id: str | None = None, refunded_amount: int | None = None
) -> asyncpg.Record:
    """Record an event of the provider; the outcome, the problem and the payment's status after it."""
    return await owner.fetchrow(EVENT, "stripe", event_id or uuid4().hex, payment_id, status, refunded_amount)


async def make_payments_due(owner: asyncpg.Pool, drop_ids: list[str], limit: int, in_seconds: float = 0) -> None:
    """Let some open payments end in so many seconds, but none that another transaction has locked."""
    async with owner.acquire() as session, session.transaction():
        payments = await session.fetchval(
            "select array(select distinct payment_id from (select payment_id from inventory.purchases"
            " where status = 'pending' and drop_id = any ($1) limit $2) p)",
            drop_ids,
            limit,
        )
        await session.execute(
            "select from inventory.drops where id in (select drop_id from inventory.purchases where payment_id = any ($1))"
            " order by id for no key update",
            payments,
        )
        # All purchases of a payment and the payment itself end together, so what is locked in part is left out.
        free = await session.fetchval(
            "with locked as materialized (select p.payment_id from inventory.purchases p"
            " where p.payment_id = any ($1) and p.status = 'pending' order by p.id for no key update skip locked)"
            " select array(select l.payment_id from locked l group by 1 having count(*) ="
            " (select count(*) from inventory.purchases p where p.payment_id = l.payment_id))",
            payments,
        )
        free = await session.fetchval(
            "select array(select id from inventory.payments where id = any ($1) order by id for no key update skip locked)", free
        )
        ends_at = await session.fetchval("select clock_timestamp() + $1::float * interval '1 s'", in_seconds)
        await session.execute("update inventory.payments set expires_at = $2 where id = any ($1)", free, ends_at)
        await session.execute("update inventory.purchases set payment_expires_at = $2 where payment_id = any ($1)", free, ends_at)


async def payment_statuses(owner: Owner, drop_id: str) -> dict[str, int]:
    """How many payments of the drop have each status, as they are stored."""
    rows = await owner.fetch("select status, count(*) as n from inventory.payments where drop_id = $1 group by 1", drop_id)
    return {row["status"]: row["n"] for row in rows}
