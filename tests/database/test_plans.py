"""The hot functions walk the same indexes from the first row on.

PL/pgSQL keeps a session's plans, and a drop starts with empty tables, where the planner has nothing to go by. A plan made
then must still be right when the tables are full, so each is looked at three times in one session: on freshly migrated
tables, 20,000 rows later, and when autovacuum has come round.
"""

import re
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import orjson
import pytest

from lastpair.database.migrate import migrate

# One drop, its users and their keys; reservations and their users.
RESERVE = (
    "select * from api.reserve_batch(array(select row($1::uuid, q.user_id, q.key)::api.reserve_request"
    " from unnest($2::uuid[], $3::text[]) with ordinality as q (user_id, key, n) order by q.n))"
)
PURCHASE = (
    "select * from api.purchase_batch(array(select row($1::uuid, q.user_id, q.key)::api.purchase_request"
    " from unnest($2::uuid[], $3::text[]) with ordinality as q (user_id, key, n) order by q.n))"
)
CANCEL = (
    "select * from api.cancel_batch(array(select row(q.id, q.user_id)::api.cancel_request"
    " from unnest($1::uuid[], $2::uuid[]) with ordinality as q (id, user_id, n) order by q.n))"
)

# Which index each call, its commit included, may use on the tables that grow. Foreign keys are checked through primary keys. What
# changes stock or sells is noted in changes and read there when it commits; a sale is looked up for its event, too.
EXPECTED = {
    "reserve": {"reservations_due_idx", "reservations_active_key", "reservations_idempotency_key", "changes_pkey"},
    "purchase": {
        *("purchases_idempotency_key", "reservations_active_key", "reservations_pkey"),
        *("changes_pkey", "purchases_pkey", "purchases_latest_idx"),
    },
    "cancel": {"reservations_pkey", "changes_pkey"},
    "sweep": {"reservations_due_idx", "reservations_pkey", "changes_pkey"},
    "feed": {"purchases_latest_idx", "reservations_active_key"},
    "mine": {"reservations_user_idx"},
    "missed events": {"events_pkey"},
    "latest events": {"events_pkey"},
    "a drop's events": {"events_pkey", "events_drop_idx"},
    "snapshot": {"events_pkey", "purchases_latest_idx", "reservations_active_key"},
    "prune": {"events_pkey"},
}


class Explained:
    """A session that notes the plan of every statement it runs, those inside functions included."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.plans: list[str] = []

    async def open(self) -> None:
        self.connection.add_log_listener(lambda _, message: self.plans.append(message.message))
        await self.connection.execute(
            "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;"
            " set client_min_messages = log"
        )

    async def indexes(self, statement: str, *arguments: object) -> tuple[list[asyncpg.Record], set[str]]:
        """Run a statement; its rows, and the indexes walked on the tables that grow. Fails on any other way to their rows."""
        rows = await self._run(statement, *arguments)
        plan = "\n".join(self.plans)
        assert "Index" in plan
        assert not re.search(r"(Seq|Bitmap Heap) Scan on (reservations|purchases|users|changes|events)\b", plan), plan
        # A step that is not put into its caller's statement would be planned at every call.
        assert not re.search(r"Function Scan on (\w+_decisions|holds_to_purchase)", plan), plan
        walked = r"Index (?:Only )?Scan (?:Backward )?using (\w+) on (?:reservations|purchases|changes|events)\b"
        return rows, set(re.findall(walked, plan))

    async def notes(self, statement: str, *arguments: object) -> list[str]:
        """Run a statement; the plans by which triggers note in changes what it did to reservations and purchases."""
        await self._run(statement, *arguments)
        return [plan for plan in self.plans if re.search(r"insert into inventory\.changes.* new_rows", plan, re.DOTALL)]

    async def _run(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        self.plans.clear()
        rows = await self.connection.fetch(statement, *arguments)
        await self.connection.execute("select")  # messages come with an answer; after this one, all are here
        return rows


@pytest.fixture
async def session(empty_url: str) -> AsyncIterator[Explained]:
    """A superuser's session on a freshly migrated, empty database."""
    await migrate(empty_url)
    connection = await asyncpg.connect(empty_url.replace("lastpair@", "postgres@"))
    session = Explained(connection)
    await session.open()
    yield session
    await connection.close()


async def test_plans_are_the_same_on_empty_and_on_full_tables(session: Explained) -> None:
    """Every call, first on empty tables, then on 20,000 rows in the same session, and once more when they are analysed."""
    connection = session.connection
    users = [
        row["id"]
        for row in await connection.fetch(
            "insert into inventory.users (username) select 'u' || n from generate_series(1, 20300) n returning id"
        )
    ]
    drop_id = await connection.fetchval("select id from api.create_drop('plans', 1, 30000, $1, now())", users[0])

    first = await _walk(session, drop_id, users[:100])
    for start in range(100, 20100, 1000):
        batch = users[start : start + 1000]
        await connection.fetch(RESERVE, drop_id, batch, [f"key-{n}" for n in range(len(batch))])
        await connection.fetch(PURCHASE, drop_id, batch[:500], [None] * 500)
    assert await _walk(session, drop_id, users[20100:]) == first
    await connection.execute("vacuum analyze")
    assert await _walk(session, drop_id, users[20200:]) == first
    assert first == EXPECTED
    assert await connection.fetch("select * from api.audit()") == []


async def test_a_plan_made_for_one_row_serves_thousands(session: Explained) -> None:
    """Triggers see the rows of a statement as lists: no plan compares each with each, though it was made for a list of one."""
    connection = session.connection
    users = [
        row["id"]
        for row in await connection.fetch(
            "insert into inventory.users (username) select 'u' || n from generate_series(1, 3001) n returning id"
        )
    ]
    drop_id = await connection.fetchval("select id from api.create_drop('plans', 1, 6002, $1, now())", users[0])

    async def sell(buyers: list[UUID]) -> None:
        none = [None] * len(buyers)
        await connection.fetch(RESERVE, drop_id, buyers, none)
        plans = await session.notes(PURCHASE, drop_id, buyers, none)
        plans += await session.notes("update inventory.purchases set status = 'pending'")
        plans += await session.notes("update inventory.purchases set status = 'paid'")
        await connection.fetch(RESERVE, drop_id, buyers, none)
        await connection.execute("update inventory.reservations set expires_at = now() where status = 'ACTIVE'")
        plans += await session.notes("select from api.expire_reservations(100000)")
        assert len(plans) == 5  # a purchase consumes reservations, too
        assert not [plan for plan in plans if re.search(r"Nested Loop|Join|Materialize|SubPlan", plan)]

    await sell(users[:1])
    await sell(users[1:])
    events = "select count(*) from inventory.events where type = $1"
    assert await connection.fetchval(events, "PURCHASE_COMPLETED") == (1 + 1) + (3000 + 3001)
    assert await connection.fetchval(events, "RESERVATION_EXPIRED") == 3001


async def _walk(session: Explained, drop_id: UUID, users: list[UUID]) -> dict[str, set[str]]:
    """The indexes of each call, with 10 requests in each batch."""
    walked = {}
    ten, none = users[:10], [None] * 10
    rows, walked["reserve"] = await session.indexes(RESERVE, drop_id, ten, none)
    assert {row["code"] for row in rows} == {None}
    held = [UUID(orjson.loads(row["data"])["id"]) for row in rows]
    _, walked["mine"] = await session.indexes("select * from api.my_reservations($1)", ten[0])
    _, walked["cancel"] = await session.indexes(CANCEL, held[:2], ten[:2])
    rows, walked["purchase"] = await session.indexes(PURCHASE, drop_id, ten, none)
    assert [row["code"] for row in rows] == ["NO_ACTIVE_RESERVATION"] * 2 + [None] * 8
    _, walked["feed"] = await session.indexes("select inventory.activity_feed($1)", drop_id)
    await session.indexes(RESERVE, drop_id, users[10:20], none)
    await session.connection.execute(
        "update inventory.reservations set expires_at = now() where user_id = any ($1)", users[10:20]
    )
    rows, walked["sweep"] = await session.indexes("select * from api.expire_reservations(10)")
    assert len(rows) == 10
    _, walked["latest events"] = await session.indexes("select * from api.events_after(null, 10)")
    newest = await session.connection.fetchval("select max(id) from inventory.events")
    rows, walked["missed events"] = await session.indexes("select * from api.events_after($1, 10)", newest - 10)
    assert [int(row["id"]) for row in rows] == list(range(newest - 9, newest + 1))
    _, walked["a drop's events"] = await session.indexes("select * from api.events_after($1, 10, $2)", newest - 10, [drop_id])
    _, walked["snapshot"] = await session.indexes("select * from api.snapshot()")
    _, walked["prune"] = await session.indexes("select api.prune_events(3600)")
    return walked
