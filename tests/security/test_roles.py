"""Who may do what in the database: the service's login, and clients of PostgREST, each with a role and the claims of a token."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lastpair.database.pool import SESSION_SETTINGS
from tests.support.database import Database, connected
from tests.support.factories import make_drop, make_user, purchase, reserve

READ = {"activity", "currencies", "errors", "events_after", "get_drop", "help", "list_drops", "snapshot"}
OWN = {
    "ensure_user",
    "forget_user",
    "my_purchases",
    "my_reservations",
    "get_purchase",
    "get_reservation",
    "reservation_history",
} | {"create_stream_ticket"}
ALLOWED = {
    "anonymous": set(),
    "lastpair_buyer": READ
    | OWN
    | {"cancel_reservation", "purchase", "reserve", "extend_reservation"}
    | {"cancel_basket", "get_basket", "purchase_basket", "reserve_basket", "cancel_payment", "get_payment"},
    "lastpair_seller": READ
    | OWN
    | {"create_drop", "create_drop_from_json", "update_drop", "cancel_drop", "refund_purchase", "refund_drop"}
    | {"history", "list_purchases", "list_reservations", "drop_money"}
    | {"list_payments", "list_payment_problems", "list_provider_calls", "retry_provider_call"}
    | {"create_webhook_endpoint", "update_webhook_endpoint", "delete_webhook_endpoint", "get_webhook_endpoint"}
    | {"list_webhook_endpoints", "list_webhook_deliveries", "rotate_webhook_secret", "send_test_webhook"}
    | {"replay_webhook_delivery"},
}
"""The public functions that each role of a client may execute; `anonymous` is a role that was granted nothing."""

CALLS = """
select p.proname, format('select from %s(%s)', p.oid::regproc,
  (select string_agg('null::' || format_type(a.type, null), ', ' order by a.n)
    from unnest(p.proargtypes) with ordinality as a (type, n)))
from pg_proc p where p.pronamespace = 'api'::regnamespace order by 2
"""
TABLES = (
    "select c.oid::regclass::text from pg_class c where c.relnamespace = 'inventory'::regnamespace and c.relkind in ('r', 'p')"
)


@pytest.fixture(scope="module")
async def authenticator(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A session as PostgREST has it: the login has no rights of its own and can become the roles of clients."""
    name = f"authenticator_{uuid4().hex[:8]}"
    async with connected(database.superuser_url) as superuser:
        await superuser.execute(f"create role {name} noinherit in role lastpair_buyer, lastpair_seller")
        await superuser.execute(f"create role {name}_anonymous; grant {name}_anonymous to {name}")
        async with connected(database.superuser_url) as session:
            await session.execute(f"set session authorization {name}")
            yield session
        await superuser.execute(f"drop role {name}, {name}_anonymous")


@asynccontextmanager
async def request_of(session: asyncpg.Connection, role: str, subject: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A transaction as PostgREST makes it for a request, with the role and the subject of a verified token; rolled back."""
    transaction = session.transaction()
    await transaction.start()
    try:
        if role == "anonymous":
            role = await session.fetchval("select session_user || '_anonymous'")
        claims = json.dumps({"role": role} | ({"sub": subject} if subject else {}))
        await session.execute("select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", role, claims)
        yield session
    finally:
        await transaction.rollback()


async def outcome(session: asyncpg.Connection, statement: str, *arguments: object) -> str:
    """The SQLSTATE and, if it is a refusal of the functions, the code that the statement raises; empty if nothing."""
    savepoint = session.transaction()
    await savepoint.start()
    try:
        await session.fetch(statement, *arguments)
    except asyncpg.PostgresError as error:
        await savepoint.rollback()
        return f"{error.sqlstate} {error.args[0]}" if error.sqlstate.startswith("PT") else str(error.sqlstate)
    await savepoint.commit()
    return ""


@pytest.mark.parametrize("role", ALLOWED)
async def test_every_public_function(authenticator: asyncpg.Connection, owner: asyncpg.Pool, role: str) -> None:
    """Each is either among the role's, and then it works or raises a refusal of its own, or PostgreSQL refuses it."""
    calls = await owner.fetch(CALLS)
    assert {name for name, _ in calls} >= set.union(*ALLOWED.values())
    for name, statement in calls:
        async with request_of(authenticator, role, str(uuid4())) as session:
            found = await outcome(session, statement)
        if name in ALLOWED[role]:
            assert found == "" or found.startswith("PT"), statement
        else:
            assert found == "42501", statement


@pytest.mark.parametrize("role", [None, *ALLOWED])
async def test_no_table(authenticator: asyncpg.Connection, owner: asyncpg.Pool, role: str | None) -> None:
    """No role of a client, nor the login itself, reads or writes a table."""
    tables = [name for (name,) in await owner.fetch(TABLES)]
    assert "inventory.drops" in tables
    for name in [*tables, "public.schema_migrations"]:
        for statement in (f"table {name}", f"insert into {name} default values", f"truncate {name} cascade"):
            if role is None:
                assert await outcome(authenticator, statement) == "42501"
            else:
                async with request_of(authenticator, role, str(uuid4())) as session:
                    assert await outcome(session, statement) == "42501"


async def test_the_login_alone_can_do_nothing(authenticator: asyncpg.Connection) -> None:
    """A request for which PostgREST sets no role has no right."""
    assert await outcome(authenticator, "select api.errors()") == "42501"
    assert await outcome(authenticator, "set role lastpair_service") == "42501"
    assert await outcome(authenticator, "set role lastpair_api") == "42501"


async def test_a_buyer_buys_for_oneself(authenticator: asyncpg.Connection, http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Register, hold, cancel, hold, purchase and look; the subject may be written in capitals."""
    drop = await make_drop(http, await make_user(owner), total_stock=2)
    user = str(uuid4())
    async with request_of(authenticator, "lastpair_buyer", user.upper()) as session:
        await session.execute("select api.ensure_user($1)", user)
        hold = await session.fetchval("select id from api.reserve($1, $2)", drop["id"], user)
        await session.execute("select api.cancel_reservation($1, $2)", hold, user)
        await session.execute("select api.reserve($1, $2)", drop["id"], user)
        assert len(await session.fetch("select from api.my_reservations($1)", user)) == 1
        assert await session.fetchval("select status from api.purchase($1, $2)", drop["id"], user) == "paid"
        assert len(await session.fetch("select from api.my_purchases($1)", user)) == 1
        assert await session.fetchval("select available_stock from api.get_drop($1)", drop["id"]) == 1


async def test_nobody_acts_for_another(authenticator: asyncpg.Connection, http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Every function that takes a user refuses another one, whatever the other has; and null, and everybody without a subject."""
    user, other = await make_user(owner), await make_user(owner)
    drop = await make_drop(http, other, total_stock=3)
    hold = await reserve(http, drop["id"], other)
    calls = {
        "lastpair_buyer": [
            ("select api.reserve($2, $1)", drop["id"]),
            ("select api.purchase($2, $1)", drop["id"]),
            ("select api.cancel_reservation($2, $1)", hold["id"]),
            ("select api.my_reservations($1)",),
            ("select api.my_purchases($1)",),
            ("select api.ensure_user($1, 'mallory')",),
        ],
        "lastpair_seller": [
            ("select api.create_drop('Forged', 1, 1, $1)",),
            ("select api.my_reservations($1)",),
            ("select api.my_purchases($1)",),
            ("select api.ensure_user($1)",),
        ],
    }
    for role, statements in calls.items():
        for statement, *arguments in statements:
            for subject, named in ((user, other), (user, None), (None, other), (None, None), ("auth0|7", other)):
                async with request_of(authenticator, role, subject) as session:
                    assert await outcome(session, statement, named, *arguments) == "PT403 FORBIDDEN", (statement, subject)
    await purchase(http, drop["id"], other)


async def test_a_seller_runs_drops(authenticator: asyncpg.Connection, http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Make a drop, change it, refund a purchase; the event log and the batches are out of reach."""
    buyer, seller = await make_user(owner), str(uuid4())
    drop = await make_drop(http, buyer, total_stock=1)
    await reserve(http, drop["id"], buyer)
    bought = await purchase(http, drop["id"], buyer)
    async with request_of(authenticator, "lastpair_seller", seller) as session:
        await session.execute("select api.ensure_user($1)", seller)
        made = await session.fetchval("select id from api.create_drop('Air', 1, 1, $1)", seller)
        assert await session.fetchval("""select status from api.update_drop($1, '{"status": "live"}')""", made) == "live"
        assert await session.fetchval("select status from api.refund_purchase($1)", bought["id"]) == "refunded"
        assert await outcome(session, "select api.prune_events(0)") == "42501"
        assert await outcome(session, "select api.reserve($1, $2)", drop["id"], seller) == "42501"


async def test_the_login_of_the_service_owns_nothing(database: Database, owner: asyncpg.Pool) -> None:
    """No table can be touched, before or after `set role none`, and it cannot become the owner."""
    if database.service_url == database.url:
        pytest.skip("the server of DATABASE_URL has no lastpair_app")
    tables = [name for (name,) in await owner.fetch(TABLES)]
    async with connected(database.service_url) as plain:
        session = await asyncpg.connect(database.service_url, server_settings=SESSION_SETTINGS)
        try:
            assert await session.fetchval("select current_user") == "lastpair_service"
            for statement in ("select", "set role none", "reset role", "set role lastpair_service"):
                await session.execute(statement)
                for name in [*tables, "public.schema_migrations"]:
                    for touch in (f"table {name}", f"insert into {name} default values", f"truncate {name} cascade"):
                        assert await outcome(session, touch) == "42501", (statement, touch)
                        assert await outcome(plain, touch) == "42501", touch
                assert await outcome(session, "set role lastpair") == "42501"
                assert await outcome(session, "select inventory.publish(null)") == "42501"
            owned = "select count(*) from pg_shdepend where refobjid = 'lastpair_app'::regrole and deptype = 'o'"
            assert await owner.fetchval(owned) == 0
        finally:
            await session.close()
