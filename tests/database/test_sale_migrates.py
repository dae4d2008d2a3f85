"""The migration of the sale takes over a database that is in use, and can be undone while sizes are sold."""

from uuid import UUID

import asyncpg

from lastpair.database.migrate import migrate, roll_back
from tests.support.factories import assert_healthy

FIRST_OF_SALE = "20261128200000"
SELLER, HOLDER, BUYER, LATE = (UUID(int=n) for n in range(1, 5))
DROP, HOLD = UUID(int=10), UUID(int=20)
# As the version before wrote them: a drop of five units, of which one is sold, one is held and one was held until an hour ago.
OLD_ROWS = f"""
alter table inventory.users disable trigger user;
alter table inventory.drops disable trigger user;
alter table inventory.reservations disable trigger user;
alter table inventory.purchases disable trigger user;
insert into inventory.users (id, username)
values ('{SELLER}', 'seller'), ('{HOLDER}', 'holder'), ('{BUYER}', 'buyer'), ('{LATE}', 'late');
insert into inventory.drops (id, name, price, total_stock, available_stock, starts_at, status, created_by)
values ('{DROP}', 'Old', 12.50, 5, 2, now() - interval '1 day', 'live', '{SELLER}');
insert into inventory.reservations (id, drop_id, user_id, status, expires_at)
values
  ('{HOLD}', '{DROP}', '{HOLDER}', 'ACTIVE', now() + interval '1 hour'),
  ('{UUID(int=21)}', '{DROP}', '{BUYER}', 'CONSUMED', now() - interval '2 hours'),
  ('{UUID(int=22)}', '{DROP}', '{LATE}', 'ACTIVE', now() - interval '1 hour');
insert into inventory.purchases (id, drop_id, reservation_id, user_id, status)
values ('{UUID(int=30)}', '{DROP}', '{UUID(int=21)}', '{BUYER}', 'paid');
alter table inventory.users enable trigger user;
alter table inventory.drops enable trigger user;
alter table inventory.reservations enable trigger user;
alter table inventory.purchases enable trigger user;
"""  # noqa: S608 - of constants
PURCHASE = "select code from api.purchase_batch(array[row($1, $2, null, null)::api.purchase_request])"
RESERVE = "select code from api.reserve_batch(array[row($1, $2, null, $3, $4)::api.reserve_request], 600)"
STOCK = "select total_stock, available_stock from inventory.drops where id = $1"


async def undo(url: str, session: asyncpg.Connection) -> None:
    """Roll back the migrations of the sale."""
    for _ in range(await session.fetchval("select count(*) from public.schema_migrations where version >= $1", FIRST_OF_SALE)):
        await roll_back(url)


async def test_a_drop_that_is_being_sold_goes_on(migrated_url: str, session: asyncpg.Connection) -> None:
    """Old holds are sold at the price of the drop, old sales are refunded, and what was due comes back."""
    await undo(migrated_url, session)
    await session.execute(OLD_ROWS)
    await migrate(migrated_url)
    await session.reload_schema_state()
    await assert_healthy(session)

    drop = await session.fetchrow("select available_stock, currency, variants::text, limit_per_user from api.get_drop($1)", DROP)
    assert tuple(drop) == (3, "USD", "{}", None)  # by the clock the unit that was due is back
    bought = await session.fetchrow("select qty, amount, currency from api.purchase($1, $2)", DROP, HOLDER)
    assert (bought["qty"], float(bought["amount"]), bought["currency"]) == (1, 12.5, "USD")
    [old] = await session.fetch("select qty, amount, status from api.my_purchases($1)", BUYER)
    assert tuple(old) == (1, None, "paid")  # nobody knows what it cost
    assert await session.fetchval(PURCHASE, DROP, LATE) == "RESERVATION_EXPIRED"
    refunded = await session.fetchrow("select status, refunded_amount from api.refund_purchase($1)", UUID(int=30))
    assert tuple(refunded) == ("refunded", None)
    assert tuple(await session.fetchrow(STOCK, DROP)) == (5, 4)
    await session.execute("select api.update_drop($1, '{\"limit_per_user\": 1}')", DROP)
    assert await session.fetchval(RESERVE, DROP, HOLDER, None, 1) == "LIMIT_EXCEEDED"
    assert await session.fetchval(RESERVE, DROP, BUYER, None, 1) is None
    await assert_healthy(session)


async def test_sizes_become_one_stock_on_the_way_back(migrated_url: str, session: asyncpg.Connection) -> None:
    """What is left of a drop with sizes is one number again; a hold of several units becomes one of one unit."""
    await session.execute("insert into inventory.users (id, username) values ($1, 'seller'), ($2, 'buyer')", SELLER, BUYER)
    sizes = '[{"name": "41", "total_stock": 4}, {"name": "42", "total_stock": 5}]'
    drop_id = await session.fetchval(
        "select id from api.create_drop('New', 10, null, $1, now(), p_variants => $2)", SELLER, sizes
    )
    [small, large] = await session.fetch("select id from inventory.variants where drop_id = $1 order by position", drop_id)
    assert await session.fetchval(RESERVE, drop_id, SELLER, small["id"], 3) is None
    assert await session.fetchval(PURCHASE, drop_id, SELLER) is None
    assert await session.fetchval(RESERVE, drop_id, BUYER, large["id"], 2) is None
    assert tuple(await session.fetchrow(STOCK, drop_id)) == (9, 4)
    await undo(migrated_url, session)
    await session.reload_schema_state()
    assert tuple(await session.fetchrow(STOCK, drop_id)) == (9, 5)
    await migrate(migrated_url)
    await session.reload_schema_state()
    await assert_healthy(session)
    assert await session.fetchval(PURCHASE, drop_id, BUYER) is None
    await assert_healthy(session)
