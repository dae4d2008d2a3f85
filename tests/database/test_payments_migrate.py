"""The migration of payments takes over a database that is in use, and can be undone while payments are open."""

import asyncpg

from lastpair.database.migrate import migrate, roll_back
from tests.support.factories import assert_healthy, make_drop_by_sql, make_users
from tests.support.payments import begin_payments, tell

FIRST_OF_PAYMENTS = "20261130020000"
SALE = "select p.id::text from api.reserve($1, $2, p_qty => $3) r cross join lateral api.purchase($1, $2) p"
BOUGHT = "select status, qty, amount from inventory.purchases where user_id = $1"
STOCK = "select available_stock from inventory.drops where id = $1"


async def undo(url: str, session: asyncpg.Connection) -> None:
    """Roll back the migration of payments, and those after it."""
    newer = "select count(*) from public.schema_migrations where version >= $1"
    for _ in range(await session.fetchval(newer, FIRST_OF_PAYMENTS)):
        await roll_back(url)
    await session.reload_schema_state()


async def test_sales_go_on_and_payments_end_on_the_way_back(migrated_url: str, session: asyncpg.Connection) -> None:
    """What was sold and refunded stays, there and back; what is pending ends, and what was refunded in part is a smaller sale."""
    kept, refunded, pending, paid, part = await make_users(session, 5)
    drop_id = await make_drop_by_sql(session, 20)
    await session.execute(SALE, drop_id, kept, 2)
    await session.execute("select api.refund_purchase($1)", await session.fetchval(SALE, drop_id, refunded, 1))
    sold_in_part = await session.fetchval(SALE, drop_id, part, 3)
    await session.execute("select api.refund_purchase($1, p_qty => 1)", sold_in_part)
    await session.execute("select api.set_payment_provider('stripe', 600)")
    payments = await begin_payments(session, drop_id, [pending, paid])
    assert (await tell(session, payments[paid], "paid"))["status"] == "paid"
    assert await session.fetchval(STOCK, drop_id) == 20 - 2 - 2 - 2

    await undo(migrated_url, session)
    assert await session.fetchval(STOCK, drop_id) == 20 - 2 - 2 - 1
    assert await session.fetchval("select to_regclass('inventory.payments')") is None
    assert [tuple(row) for row in await session.fetch(BOUGHT, part)] == [("paid", 2, 2)]
    assert await session.fetchval("select status from inventory.purchases where user_id = $1", pending) == "cancelled"

    await migrate(migrated_url)
    await session.reload_schema_state()
    await assert_healthy(session)
    assert await session.fetchval("select refunded_qty from inventory.purchases where user_id = $1", refunded) == 1
    assert await session.fetchval("select payment_provider from inventory.settings") == "none"
    assert (await session.fetchrow("select status from api.refund_purchase($1)", sold_in_part))["status"] == "refunded"
    await session.execute(SALE, drop_id, pending, 1)
    assert await session.fetchval(STOCK, drop_id) == 20 - 2 - 1 - 1
    await assert_healthy(session)
