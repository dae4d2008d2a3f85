"""Behind a transaction pooler: each call is a transaction of lastpair_service's, in a server session of the pooler's choice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lastpair.database import pool
from lastpair.errors import Refusal, Unavailable
from tests.support.buyers import Buyers, sell_through
from tests.support.database import Database, calling, client_of, connected
from tests.support.envelopes import as_user, assert_success
from tests.support.factories import assert_healthy, available_stock, make_drop, make_users
from tests.support.row_checks import Row
from tests.support.servers import Pooler, Service, pooler, started
from tests.support.streams import close_streams, fresh_database, logged, newest_id, open_stream
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

SERVER_SESSIONS = 3
SERVICE_SESSIONS = "select count(*) from pg_stat_activity where application_name = 'lastpair' and datname = current_database()"
SESSION = """
select current_user::text, current_setting('timezone'), current_setting('statement_timeout'), current_setting('lock_timeout'),
  current_setting('idle_in_transaction_session_timeout')
"""


@pytest.fixture(scope="module")
async def database_url(database: Database) -> AsyncIterator[str]:
    """A database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture(scope="module")
def bouncer(database_url: str) -> Iterator[Pooler]:
    """A pooler with fewer sessions than its clients have."""
    with pooler(database_url, SERVER_SESSIONS) as bouncer:
        yield bouncer


@pytest.fixture(scope="module")
async def service(bouncer: Pooler, database_url: str) -> AsyncIterator[Service]:
    """A service behind the pooler."""
    variables = {"DATABASE_URL": bouncer.url, "DATABASE_DIRECT_URL": database_url, "DATABASE_POOL_SIZE": "12"}
    with started(EXPIRY_POLL_MS="3600000", **variables) as service:
        await asyncio.to_thread(service.wait_until_ready)
        yield service
        await close_streams()
        await asyncio.to_thread(service.stop)


@pytest.fixture(scope="module")
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service."""
    async with client_of(service.url) as http:
        yield http


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of the owner, past the pooler."""
    async with connected(database_url) as session:
        yield session


@pytest.fixture
async def calls(bouncer: Pooler) -> AsyncIterator[pool.Database]:
    """The service's way to call functions, without the service."""
    async with calling(bouncer.url, sessions=8, pooled=True) as calls:
        yield calls


async def test_many_buyers_at_once(service: Service, http: httpx.AsyncClient, direct: asyncpg.Connection) -> None:
    """Several drops sell exactly, each answer is the buyer's own, streams get every event in order, and sessions are few."""
    users = await make_users(direct, 30)
    drops = [await make_drop(http, users[0], total_stock=10) for _ in range(4)]
    before = await newest_id(direct)
    stream = await open_stream("sse", service.url, snapshot=False)
    outcomes: Counter[tuple[str, int]] = Counter()

    async def want(drop: Row, n: int, user: str) -> None:
        response = await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user))
        outcomes["reserve", response.status_code] += 1
        if response.status_code == 201:
            reservation = assert_success(response, "reservation", 201)
            assert (reservation["user_id"], reservation["drop_id"]) == (user, drop["id"])
            mine = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
            assert reservation in mine
            if n % 2:
                answer = await http.delete(f"/reservations/{reservation['id']}", headers=as_user(user))
                assert assert_success(answer, "reservation")["status"] == "CANCELLED"
            else:
                answer = await http.post(f"/drops/{drop['id']}/purchase", headers=as_user(user))
                assert assert_success(answer, "purchase", 201)["reservation_id"] == reservation["id"]
                outcomes["purchase", 201] += 1

    await asyncio.gather(*(want(drop, n, user) for n, user in enumerate(users) for drop in drops))
    assert {status for action, status in outcomes if action == "reserve"} == {201, 409}
    stock = [await available_stock(direct, drop["id"]) for drop in drops]
    assert sum(stock) == 40 - outcomes["purchase", 201]
    assert all(left >= 0 for left in stock)
    log = await logged(direct, before)
    assert [await stream.receive() for _ in log] == log
    assert 0 < await direct.fetchval(SERVICE_SESSIONS) <= SERVER_SESSIONS
    await assert_healthy(direct)


async def test_no_table_can_be_touched(calls: pool.Database, bouncer: Pooler) -> None:
    """The pooler's sessions may be another role's: each call is lastpair_service's, with its limits, and leaves no setting."""
    session = await asyncpg.connect(bouncer.url, statement_cache_size=0)
    try:
        usual = tuple(await session.fetchrow(SESSION))
        assert usual[0] != "lastpair_service"
        for _ in range(2):
            found = await asyncio.gather(*(calls.fetch(SESSION) for _ in range(20)))
            assert {tuple(row) for [row] in found} == {("lastpair_service", "UTC", "10s", "5s", "10s")}
            for statement in ("select from inventory.drops", "delete from inventory.reservations"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await calls.fetch(statement)
            assert {tuple(await session.fetchrow(SESSION)) for _ in range(5)} == {usual}
        assert await session.fetchval("select count(*) >= 0 from inventory.drops")
    finally:
        await session.close()


async def test_statements_are_not_mixed_up(calls: pool.Database) -> None:
    """Many different statements run at once on few sessions, with different types: each gets its own rows."""

    async def ask(n: int) -> None:
        kind = ["text", "integer", "bigint[]", "numeric"][n % 4]
        value = [str(n), n, [n], n][n % 4]
        assert await calls.fetch(f"select $1::{kind} as a, {n} as n", value) == [(value, n)]

    await asyncio.gather(*(ask(n) for n in range(200)))


@pytest.fixture
async def proof(direct: asyncpg.Connection) -> AsyncIterator[str]:
    """The schema of a function `call` that counts its calls, inserts a row and, at the commit, runs the given statement."""
    schema = f"proof_{uuid4().hex[:8]}"
    await direct.execute(f"""
        create schema {schema};
        grant usage on schema {schema} to lastpair_service;
        create sequence {schema}.calls;
        create table {schema}.rows (at_commit text);
        create function {schema}.finish() returns trigger language plpgsql as $$ begin execute new.at_commit; return null; end $$;
        create constraint trigger finish after insert on {schema}.rows initially deferred for each row
          execute function {schema}.finish();
        create function {schema}.call(p_at_commit text, p_seconds float default 0) returns bigint language plpgsql
          security definer as $$
          begin
            perform pg_sleep(p_seconds);
            insert into {schema}.rows values (p_at_commit);
            return nextval('{schema}.calls');
          end $$;
    """)  # noqa: S608
    yield schema
    await direct.execute(f"drop schema {schema} cascade")


@pytest.mark.parametrize(
    ("at_commit", "expected", "status"),
    [
        ("do $x$ begin raise sqlstate 'PT409' using message = 'LATE', detail = 'Too late.'; end $x$", Refusal, 409),
        ("do $x$ begin raise serialization_failure; end $x$", Unavailable, 503),
        ("select pg_terminate_backend(pg_backend_pid())", Unavailable, 503),
        ("select 1 / 0", asyncpg.DivisionByZeroError, None),
    ],
)
async def test_a_commit_that_fails(
    calls: pool.Database, proof: str, direct: asyncpg.Connection, at_commit: str, expected: type[Exception], status: int | None
) -> None:
    """It is an error like any other: no effect, no second try, and the session is used again or given up."""
    for n in range(1, 10):
        with pytest.raises(expected) as raised:
            await calls.value(f"select {proof}.call($1)", at_commit)
        assert getattr(raised.value, "status", None) == status
        assert await direct.fetchval(f"select last_value from {proof}.calls") == n  # noqa: S608
    assert await calls.value(f"select {proof}.call('select 1')") == 10
    assert await direct.fetchval(f"select count(*) from {proof}.rows") == 1  # noqa: S608


async def test_a_call_that_is_given_up_leaves_nothing_behind(
    bouncer: Pooler, caplog: pytest.LogCaptureFixture, proof: str, direct: asyncpg.Connection
) -> None:
    """It is rolled back, and its session is not used again."""
    async with calling(bouncer.url, pooled=True) as calls:
        given_up = asyncio.create_task(calls.value(f"select {proof}.call('select 1', 8)"))
        sleeping = "select count(*) = $1 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
        await eventually(lambda: direct.fetchval(sleeping, 1))
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert await calls.value(f"select {proof}.call('select 1')") > 0
        await eventually(lambda: direct.fetchval(sleeping, 0))
        assert await direct.fetchval(f"select count(*) from {proof}.rows") == 1  # noqa: S608
        assert caplog.messages == []  # such as: a session was given back within a transaction


async def test_the_pooler_is_killed_under_load(
    service: Service, http: httpx.AsyncClient, bouncer: Pooler, direct: asyncpg.Connection
) -> None:
    """Every request gets an answer, what was confirmed is there, and all are served as soon as the pooler is back."""
    buyers = await Buyers.make(direct, http)
    await sell_through(service, http, buyers, break_down=bouncer.kill, repair=bouncer.start)
    await buyers.assert_all_served_once(direct)
