"""The functions that are called most use the same indexes from the first row on.

PL/pgSQL keeps a session's plans, and a drop starts with empty tables, about which the planner knows nothing. A plan made then
must still be right when the tables are full, so each is looked at three times in one session: on freshly migrated tables, 20,000
rows later, and after a vacuum.
"""

import re
from collections.abc import AsyncIterator
from itertools import product
from urllib.parse import urlsplit, urlunsplit

import orjson
import pytest

from tests.support.batch_statements import CANCEL, PURCHASE, RESERVE, RESERVE_BASKETS
from tests.support.database import Database, connected
from tests.support.explained import Explained
from tests.support.factories import assert_healthy, make_drop_by_sql, make_users
from tests.support.payments import EVENT, begin_payments, tell

# Which index each call, its commit included, may use on the tables that grow. Foreign keys are checked through primary keys. What
# changes stock or sells is noted in changes and read there when it commits; a sale is looked up for its event, too, and holds
# that are due, because an event counts them as stock.
EXPECTED = {
    "reserve": {
        "purchases_due_idx",
        "reservations_due_idx",
        "reservations_active_key",
        "reservations_idempotency_key",
        "changes_pkey",
    },
    "basket": {
        "purchases_due_idx",
        "reservations_due_idx",
        "reservations_active_key",
        "reservations_idempotency_key",
        "changes_pkey",
    },
    # What became of a hold that is gone is looked up for a purchase that is refused.
    "purchase": {
        *("reservations_lapsed_idx", "purchases_user_idx"),
        *("purchases_idempotency_key", "reservations_active_key", "reservations_pkey"),
        *("changes_pkey", "purchases_pkey", "purchases_latest_idx"),
    },
    "cancel": {"reservations_pkey", "changes_pkey", "purchases_due_idx", "reservations_due_idx"},
    "sweep": {"purchases_due_idx", "reservations_due_idx", "reservations_pkey", "changes_pkey"},
    "sweep of nothing": {"purchases_due_idx", "reservations_due_idx"},
    "feed": {"purchases_latest_idx", "purchases_due_idx", "reservations_due_idx"},
    "mine": {"reservations_user_idx"},
    "missed events": {"events_pkey"},
    "latest events": {"events_pkey"},
    "a drop's events": {"events_pkey", "events_drop_idx", "events_user_idx"},
    "snapshot": {"events_pkey", "purchases_latest_idx", "purchases_due_idx", "reservations_due_idx"},
    "prune": {"events_pkey"},
}

# The same with a provider of payments. An event is found by its id, so it is recorded once; what is told of a payment when the
# transaction commits is read by its id.
EXPECTED_OF_PAYMENTS = {
    "purchase": {"purchases_idempotency_key", "purchases_pkey", "payments_pkey", "changes_pkey"},
    "take calls": {"provider_calls_next_idx", "provider_calls_payment_idx", "provider_calls_pkey", "payments_pkey"},
    "take a call": {"provider_calls_payment_idx", "provider_calls_pkey", "payments_pkey"},
    "finish a call": {"provider_calls_pkey", "payments_pkey", "payments_provider_reference_key", "changes_pkey"},
    "fail a call": {"provider_calls_pkey", "payments_pkey"},
    "get": {"payments_pkey"},
    "paid": {
        *("payment_events_event_id_key", "payment_events_payment_idx"),
        *("payments_pkey", "provider_calls_payment_idx", "purchases_payment_idx"),
        *("changes_pkey", "purchases_pkey", "purchases_latest_idx", "reservations_pkey"),
    },
    "failed": {"payment_events_event_id_key", "payment_events_payment_idx", "payments_pkey", "changes_pkey"},
    "cancelled": {
        *("payment_events_event_id_key", "payment_events_payment_idx", "payments_pkey", "purchases_payment_idx"),
        *("changes_pkey", "purchases_due_idx", "reservations_due_idx"),
    },
    "paid late": {
        *("payment_events_event_id_key", "payment_events_payment_idx"),
        *("payments_pkey", "provider_calls_payment_idx", "purchases_payment_idx"),
        *("purchases_of_user_idx", "reservations_active_key"),  # for the limit of the drop
        *("changes_pkey", "purchases_due_idx", "reservations_due_idx", "purchases_pkey", "purchases_latest_idx"),
    },
    "cancel": {"payments_pkey", "purchases_payment_idx", "changes_pkey", "purchases_due_idx", "reservations_due_idx"},
    "refund": {
        *("payments_pkey", "purchases_pkey", "purchases_payment_idx"),
        *("changes_pkey", "purchases_due_idx", "reservations_due_idx", "purchases_latest_idx"),
    },
    "reserve": {
        *("purchases_due_idx", "purchases_pkey", "payments_pkey"),
        *("reservations_due_idx", "reservations_active_key", "reservations_idempotency_key", "changes_pkey"),
    },
    "sweep": {"purchases_due_idx", "purchases_pkey", "payments_pkey", "reservations_due_idx", "changes_pkey"},
    "sweep of nothing": {"purchases_due_idx", "reservations_due_idx"},
    "unsettled": {"payments_unsettled_idx"},
}

SOMETHING_MAY_BE_DUE = "update inventory.drops set nothing_due_before = '-infinity'"
"""Before the first hold of a drop ends, no call looks for what is due."""

LARGE_INDEXES = """
select c.oid::regclass::text as name
from pg_index i
join pg_class c on c.oid = i.indexrelid
where i.indrelid = any (array['inventory.reservations', 'inventory.purchases', 'inventory.events']::regclass[])
  and pg_relation_size(c.oid) > 200000
order by 1
"""


NEVER_ANALYSE = """
do $$
declare
  v_table regclass;
begin
  for v_table in select oid from pg_class where relnamespace = 'inventory'::regnamespace and relkind = 'r' loop
    execute format('alter table %s set (autovacuum_enabled = off)', v_table);
  end loop;
end
$$
"""


@pytest.fixture
async def session(database: Database, migrated_url: str) -> AsyncIterator[Explained]:
    """A superuser's session on a database that was migrated a moment ago, and is empty. Only the test analyses its tables."""
    superuser_url = urlsplit(database.superuser_url)._replace(path=urlsplit(migrated_url).path)
    async with connected(urlunsplit(superuser_url)) as connection:
        await connection.execute(NEVER_ANALYSE)
        session = Explained(connection)
        await session.open()
        yield session


@pytest.mark.slow
async def test_plans_are_the_same_on_empty_and_on_full_tables(session: Explained) -> None:
    """Every call is planned on empty tables, then on 20,000 rows in the same session, and once more after they are analysed."""
    connection = session.connection
    users, drop_id = await make_users(connection, 20300), await make_drop_by_sql(connection, 30000)

    first = await walk(session, drop_id, users[:100])
    for start in range(100, 20100, 1000):
        batch = users[start : start + 1000]
        await connection.fetch(RESERVE, drop_id, batch, [f"key-{n}" for n in range(len(batch))], 60)
        await connection.fetch(PURCHASE, drop_id, batch[:500], [None] * 500)
    assert await walk(session, drop_id, users[20100:]) == first
    await connection.execute("vacuum analyze")
    assert await walk(session, drop_id, users[20200:]) == first
    assert first == EXPECTED
    await assert_healthy(connection)


@pytest.mark.slow
async def test_plans_do_not_depend_on_the_sizes_of_indexes(session: Explained) -> None:
    """Each index in turn is ten times as large as it was, so that another one looks cheaper. No call may take that one
    instead, on tables that were never analysed or on others."""
    connection = session.connection
    users, drop_id = await make_users(connection, 8000), await make_drop_by_sql(connection, 30000)
    for start in range(0, 6000, 1000):
        batch = users[start : start + 1000]
        await connection.fetch(RESERVE, drop_id, batch, [f"key-{n}" for n in range(len(batch))], 60)
        await connection.fetch(PURCHASE, drop_id, batch, batch)
    large = await connection.fetch(LARGE_INDEXES)
    assert {"inventory.purchases_latest_idx", "inventory.purchases_of_user_idx"} <= {row["name"] for row in large}
    others: set[tuple[str, str, str]] = set()
    for n, (statement, row) in enumerate(product(("select", "vacuum analyze"), large)):
        await connection.execute(f"alter index {row['name']} set (fillfactor = 10); reindex index {row['name']}")
        await connection.execute(statement)
        for call, indexes in (await walk(session, drop_id, users[6000 + 30 * n :][:30])).items():
            others |= {(call, index, row["name"]) for index in indexes - EXPECTED[call]}
        await connection.execute(f"alter index {row['name']} reset (fillfactor); reindex index {row['name']}")
    assert others == set()


async def test_terms_are_looked_up_by_user(session: Explained) -> None:
    """What a user has, and has let go, is found without the rows of the drop's other users: in plans made on empty tables, and
    when the index that has them is so large that another one looks cheaper."""
    connection = session.connection
    drop_id = await make_drop_by_sql(connection, 6000, limit_per_user=1, rehold_after_seconds=60)
    await connection.execute(SOMETHING_MAY_BE_DUE)
    users, none = await make_users(connection, 3040), [None] * 3000
    of_terms = {"purchases_of_user_idx", "reservations_lapsed_idx", "purchases_user_idx"}
    large = "alter index inventory.purchases_user_idx set (fillfactor = 10); reindex index inventory.purchases_user_idx"
    for n, statement in enumerate(("select", "select", large, "vacuum analyze")):
        await connection.execute(statement)
        _, walked = await session.indexes(RESERVE, drop_id, users[10 * n :][:10], none[:10], 60)
        assert walked == EXPECTED["reserve"] | of_terms
        if n == 0:
            await connection.fetch(RESERVE, drop_id, users[40:], none, 60)
            await connection.fetch(PURCHASE, drop_id, users[40:], none)


async def test_that_a_drop_is_sold_out_is_found_by_index(session: Explained) -> None:
    """A webhook endpoint is told when nothing is held and nothing is to be paid. All that was sold is not read for that."""
    connection = session.connection
    [seller, *users], drop_id = await make_users(connection, 3), await make_drop_by_sql(connection, 2)
    await connection.execute("select from api.create_webhook_endpoint('https://shop.example/', '{drop.sold_out}', $1)", seller)
    await connection.fetch(RESERVE, drop_id, users, [None] * 2, 60)
    for user in users:
        _, walked = await session.indexes(PURCHASE, drop_id, [user], [None])
        of_others = {"reservations_lapsed_idx", "purchases_user_idx", "purchases_due_idx"}  # refusals, and what the message shows
        assert walked - of_others == EXPECTED["purchase"] - of_others | {"reservations_due_idx", "purchases_unpaid_idx"}
    assert await connection.fetchval("select count(*) from inventory.webhook_messages where type = 'drop.sold_out'") == 1


async def test_a_plan_made_for_one_row_serves_thousands(session: Explained) -> None:
    """Triggers see the rows of a statement as lists: no plan compares each with each, although it was made for a list of one."""
    connection = session.connection
    users, drop_id = await make_users(connection, 3001), await make_drop_by_sql(connection, 6002)

    async def sell(buyers: list[str]) -> None:
        none = [None] * len(buyers)
        await connection.fetch(RESERVE, drop_id, buyers, none, 60)
        plans = await session.notes(PURCHASE, drop_id, buyers, none)
        plans += await session.notes("update inventory.purchases set status = 'pending'")
        plans += await session.notes("update inventory.purchases set status = 'paid'")
        await connection.fetch(RESERVE, drop_id, buyers, none, 60)
        await connection.execute("update inventory.reservations set expires_at = now() where status = 'ACTIVE'")
        plans += await session.notes("select from api.expire_reservations(100000)")
        assert len(plans) == 7  # a purchase consumes reservations, and a sweep gives units back to drops and variants, too
        assert not [plan for plan in plans if re.search(r"Nested Loop|Join|Materialize|SubPlan", plan)]

    await sell(users[:1])
    await sell(users[1:])
    events = "select count(*) from inventory.events where type = $1"
    assert await connection.fetchval(events, "PURCHASE_COMPLETED") == (1 + 1) + (3000 + 3001)
    assert await connection.fetchval(events, "RESERVATION_EXPIRED") == 3001


async def test_pages_of_drops_are_read_along_an_index(session: Explained) -> None:
    """One kept plan serves all pages, with and without a cursor: it reads from there on, and sorts only equal starts."""
    connection = session.connection
    [seller] = await make_users(connection, 1)
    await connection.execute("set auto_explain.log_analyze = on")

    async def look(status: str | None, cursor: str | None) -> None:
        [plan] = await session.plans_with("v_stored", "select from api.list_drops($1, 10, $2)", status, cursor)
        passed_over = sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan)))
        assert status is not None or cursor is not None or passed_over == 0, plan
        assert plan.count("Index Scan Backward using drops_active_idx") == plan.count(" on drops ") == 2, plan
        assert len(re.findall(r"Index Cond: .*status.* AND .*starts_at", plan)) == 2, plan
        assert len(re.findall(r"Presorted Key: \S*starts_at", plan)) == 2, plan

    async def look_again() -> None:
        ask, version = "select api.on_sale_version(10, $1)", None
        for _ in range(100):
            version = await connection.fetchval(ask, version)
            if plans := await session.plans_with("v_seen_at", ask, version):
                break  # nothing was committed in between, in another database either
        [plan] = plans
        indexes = re.findall(r"Scan (?:Backward )?using (\w+)", plan)
        assert indexes == ["drops_active_idx", "reservations_due_idx", "purchases_due_idx"], plan
        assert "Seq Scan" not in plan, plan

    await look(None, None)
    await look_again()
    for start in ("now()", "null", "now() + interval '1 day'"):
        await connection.execute(
            f"select api.create_drop('Air', 1, 1, '{seller}', {start}) from generate_series(1, 1000)"  # noqa: S608 - constants
        )
    for statement in ("select", "vacuum analyze"):
        await connection.execute(statement)
        for status in (None, "draft", "ended"):
            await look(status, None)
        for status in (None, "draft"):
            rows = await connection.fetch("select id from api.list_drops($1, 500)", status)
            assert len(rows) == 500
            await look(status, rows[-1]["id"])
        await look_again()


async def walk(session: Explained, drop_id: str, users: list[str]) -> dict[str, set[str]]:
    """The indexes that each call uses, with 10 requests in each batch."""
    walked = {}
    ten, none = users[:10], [None] * 10
    await session.connection.execute(SOMETHING_MAY_BE_DUE)
    rows, walked["reserve"] = await session.indexes(RESERVE, drop_id, ten, none, 60)
    assert {row["code"] for row in rows} == {None}
    held = [orjson.loads(row["data"])["id"] for row in rows]
    _, walked["mine"] = await session.indexes("select * from api.my_reservations($1)", ten[0])
    _, walked["cancel"] = await session.indexes(CANCEL, held[:2], ten[:2])
    rows, walked["purchase"] = await session.indexes(PURCHASE, drop_id, ten, none)
    assert [row["code"] for row in rows] == ["NO_ACTIVE_RESERVATION"] * 2 + [None] * 8
    baskets = [{"user_id": user, "items": [{"drop_id": drop_id}], "idempotency_key": "basket"} for user in users[20:30]]
    rows, walked["basket"] = await session.indexes(RESERVE_BASKETS, orjson.dumps(baskets).decode(), 60)
    assert {row["code"] for row in rows} == {None}
    _, walked["feed"] = await session.indexes("select * from api.list_drops()")
    await session.indexes(RESERVE, drop_id, users[10:20], none, 60)
    await session.connection.execute(
        "update inventory.reservations set expires_at = now() where user_id = any ($1)", users[10:20]
    )
    rows, walked["sweep"] = await session.indexes("select * from api.expire_reservations(10)")
    assert len(rows) == 10
    rows, walked["sweep of nothing"] = await session.indexes("select * from api.expire_reservations(10)")
    assert len(rows) == 0
    _, walked["latest events"] = await session.indexes("select * from api.events_after(null, 10)")
    newest = await session.connection.fetchval("select max(id) from inventory.events")
    rows, walked["missed events"] = await session.indexes("select * from api.events_after($1, 10)", newest - 10)
    assert [int(row["id"]) for row in rows] == list(range(newest - 9, newest + 1))
    _, walked["a drop's events"] = await session.indexes("select * from api.events_after($1, 10, $2)", newest - 10, [drop_id])
    _, walked["snapshot"] = await session.indexes("select * from api.snapshot()")
    _, walked["prune"] = await session.indexes("select api.prune_events(3600)")
    return walked


@pytest.mark.slow
async def test_plans_of_payments_are_the_same_on_empty_and_on_full_tables(session: Explained) -> None:
    """The same for what payments add: planned on empty tables, then on 3,000 payments, and once more after they are analysed."""
    connection = session.connection
    users, drop_id = await make_users(connection, 3300), await make_drop_by_sql(connection, 30000)
    await connection.execute("select api.set_payment_provider('stripe', 600)")

    first = await walk_payments(session, drop_id, users[:100])
    for start in range(100, 3100, 500):
        payments = await begin_payments(connection, drop_id, users[start : start + 500])
        for payment in list(payments.values())[:50]:
            await tell(connection, payment, "paid")
        await connection.execute("update inventory.provider_calls set done_at = now() where done_at is null")
    assert await walk_payments(session, drop_id, users[3100:]) == first
    await connection.execute("vacuum analyze")
    assert await walk_payments(session, drop_id, users[3200:]) == first
    assert first == EXPECTED_OF_PAYMENTS
    await assert_healthy(connection)


async def walk_payments(session: Explained, drop_id: str, users: list[str]) -> dict[str, set[str]]:
    """The indexes that each call uses, the commit included."""
    walked: dict[str, set[str]] = {}
    connection, none = session.connection, [None] * 20
    await connection.execute(SOMETHING_MAY_BE_DUE)
    await connection.fetch(RESERVE, drop_id, users[:20], none, 600)
    rows, indexes = await session.indexes(PURCHASE, drop_id, users[:20], none)
    walked["purchase"] = {index for index in indexes if not index.startswith("reservations")}  # the other test looks at holds
    bought = [orjson.loads(row["data"]) for row in rows]
    payments = [purchase["payment_id"] for purchase in bought]
    assert {purchase["status"] for purchase in bought} == {"pending"}

    async def told(name: str, payment: str, status: str) -> None:
        rows, walked[name] = await session.indexes(EVENT, "stripe", f"{name} {payment}", payment, status, None)
        assert rows[0]["outcome"] == "applied"

    await connection.execute("analyze inventory.provider_calls")  # autovacuum may, and knows the calls of one drop only
    calls, walked["take calls"] = await session.indexes("select id from api.take_provider_calls(5, 60)")
    assert len(calls) == 5
    _, walked["take a call"] = await session.indexes("select id from api.take_provider_calls(1, 60, $1)", payments[0])
    finish = "select api.finish_provider_call($1, $2, 'secret', null)"
    _, walked["finish a call"] = await session.indexes(finish, calls[0]["id"], f"reference of {calls[0]['id']}")
    _, walked["fail a call"] = await session.indexes("select api.fail_provider_call($1, 'no answer')", calls[1]["id"])
    _, walked["get"] = await session.indexes("select * from api.get_payment($1, $2)", payments[0], users[0])
    await told("paid", payments[0], "paid")
    await told("failed", payments[1], "failed")
    await told("cancelled", payments[2], "cancelled")
    await told("paid late", payments[2], "paid")
    _, walked["cancel"] = await session.indexes("select * from api.cancel_payment($1, $2)", payments[3], users[3])
    _, walked["refund"] = await session.indexes("select * from api.refund_purchase($1)", bought[0]["id"])
    await connection.execute(
        "with ended as (update inventory.payments set expires_at = now() where id = any ($1))"
        " update inventory.purchases set payment_expires_at = now() where payment_id = any ($1)",
        payments[4:14],
    )
    _, walked["reserve"] = await session.indexes(RESERVE, drop_id, users[20:25], none[:5], 600)
    rows, walked["sweep"] = await session.indexes("select api.expire_payments(100) as n")
    assert rows[0]["n"] == 5
    _, walked["sweep of nothing"] = await session.indexes("select api.expire_payments(100)")
    _, walked["unsettled"] = await session.indexes("select * from api.unsettled_payments(p_limit => 10)")
    return walked
