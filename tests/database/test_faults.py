"""Faults: a database that is not there, goes away, cuts sessions off or breaks; and what the clock does without any request."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import httpx
import pytest

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import FUNCTIONS_DIR, migrate
from tests.support.api import as_user, assert_envelope, assert_error, assert_success, assert_unavailable
from tests.support.database import Database, client_of, connected, running_api
from tests.support.factories import assert_healthy, available_stock, make_drop, make_due, make_user, make_users, purchase, reserve
from tests.support.servers import Crashable, started
from tests.support.shapes import Row
from tests.support.waiting import eventually, wait_for

UVICORN = ("uvicorn", "--factory", "lastpair.web.application:create_app", "--port", "PORT", "--log-level", "warning")
ANY = str(UUID(int=0))
ENDPOINTS = [
    ("POST", "/drops", {"name": "A", "price": 1, "total_stock": 1}),
    ("GET", "/drops", None),
    ("GET", f"/drops/{ANY}", None),
    ("PATCH", f"/drops/{ANY}", {"name": "B"}),
    ("POST", f"/drops/{ANY}/reserve", None),
    ("POST", f"/drops/{ANY}/purchase", None),
    ("GET", "/reservations/me", None),
    ("GET", "/purchases/me", None),
    ("DELETE", f"/reservations/{ANY}", None),
    ("DELETE", f"/reservations/{ANY}/cancel", None),
    ("POST", "/internal/users", {"username": "a"}),
    ("POST", "/internal/expire-now", None),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Crashable]:
    """A PostgreSQL to break, migrated."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        yield Crashable(Path(folder), url)


async def buy_all(http: httpx.AsyncClient, drop_id: str, users: list[str], answered: list[httpx.Response]) -> None:
    """A hold and, if it was got, a purchase for each user, twenty users at a time; answers are added as they come."""
    gate = asyncio.Semaphore(20)

    async def buy(user: str) -> None:
        async with gate:
            for action in ("reserve", "purchase"):
                answered.append(await http.post(f"/drops/{drop_id}/{action}", headers=as_user(user, idempotency_key="once")))
                if answered[-1].status_code >= 400:
                    break

    await asyncio.gather(*(buy(user) for user in users))


def confirmed(answered: list[httpx.Response]) -> set[str]:
    """The ids of the reservations and purchases that were answered 201; what was not was 503."""
    for response in answered:
        if response.status_code != 201:
            assert_unavailable(response)
    return {row["id"] for response in answered if response.status_code == 201 for row in response.json()["data"].values()}


async def assert_nothing_lost(owner: asyncpg.Connection, drop: Row, ids: set[str]) -> None:
    """What was confirmed is there, and nothing took effect by half."""
    there = set()
    for table in ("reservations", "purchases"):
        rows = await owner.fetch(f"select id from inventory.{table} where drop_id = $1", UUID(drop["id"]))  # noqa: S608
        there |= {str(row["id"]) for row in rows}
    assert there >= ids
    await assert_healthy(owner)


async def assert_all_served_once(http: httpx.AsyncClient, owner: asyncpg.Connection, drop: Row, users: list[str]) -> None:
    """Everybody repeats the requests: all are served, and each user has bought one unit."""
    answered: list[httpx.Response] = []
    await buy_all(http, drop["id"], users, answered)
    assert set(Counter(response.status_code for response in answered)) <= {200, 201}
    for table, status in (("reservations", "CONSUMED"), ("purchases", "paid")):
        rows = await owner.fetch(f"select user_id, status from inventory.{table} where drop_id = $1", UUID(drop["id"]))  # noqa: S608
        assert sorted((str(row["user_id"]), row["status"]) for row in rows) == sorted((user, status) for user in users)
    assert await available_stock(owner, drop["id"]) == drop["total_stock"] - len(users)
    await assert_healthy(owner)


async def test_an_outage(server: Crashable) -> None:
    """503 at every endpoint while it lasts, said once in the log; then all works by itself and nothing confirmed is lost."""
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            async with connected(server.url) as owner:
                users = await make_users(owner, 20)
            drop = await make_drop(http, users[0], total_stock=100)
            held = [await reserve(http, drop["id"], user) for user in users]
            bought = await purchase(http, drop["id"], users[0])

            server.crash()
            begin = monotonic()
            for method, path, body in ENDPOINTS * 2:
                assert_unavailable(await http.request(method, path, json=body, headers=as_user(users[0])))
            assert_unavailable(await http.get(f"{service.url}/readyz"))
            assert assert_success(await http.get(f"{service.url}/healthz"), "status") == "ok"
            assert_error(await http.get("/nothing"), 404, "NOT_FOUND")
            assert monotonic() - begin < 5
            wait_for(lambda: "the poller cannot work" in service.log())

            server.start()
            service.wait_until_ready()
            for user, reservation in zip(users[1:], held[1:], strict=True):
                mine = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
                assert mine == [reservation]
                await purchase(http, drop["id"], user)
            assert assert_success(await http.get("/purchases/me", headers=as_user(users[0])), "purchases") == [bought]
            async with connected(server.url) as owner:
                await make_due(owner, (await reserve(http, drop["id"], users[0]))["id"])
                poll = "select available_stock = 80 from api.get_drop($1)"
                await eventually(lambda: owner.fetchval(poll, UUID(drop["id"])))
                await assert_healthy(owner)
        assert service.log().count("the poller cannot work") == 1
        service.stop()


async def test_a_crash_under_load(server: Crashable) -> None:
    """Every request gets an answer; what was answered 201 is there after the recovery; what was not can be repeated."""
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="3600000") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            async with connected(server.url) as owner:
                users = await make_users(owner, 100)
            drop = await make_drop(http, users[0], total_stock=1000)
            answered: list[httpx.Response] = []
            load = asyncio.create_task(buy_all(http, drop["id"], users, answered))
            while len(answered) < 40:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(server.crash)
            await load
            ids = confirmed(answered)
            assert 40 <= len(ids) < 200

            server.start()
            service.wait_until_ready()
            async with connected(server.url) as owner:
                await assert_nothing_lost(owner, drop, ids)
                await assert_all_served_once(http, owner, drop, users)
        service.stop()


async def test_sessions_cut_off_under_load(server: Crashable) -> None:
    """Again and again: every request gets an answer, none takes effect by half, and afterwards all are served."""
    terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'lastpair'"
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http, connected(server.url) as owner, connected(server.superuser_url) as superuser:
            users = await make_users(owner, 80)
            drop = await make_drop(http, users[0], total_stock=1000)
            answered: list[httpx.Response] = []
            load = asyncio.create_task(buy_all(http, drop["id"], users, answered))
            terminated = 0
            while not load.done():
                terminated += await superuser.fetchval(terminate)
                await asyncio.sleep(0.02)
            await load
            assert terminated > 0
            await assert_nothing_lost(owner, drop, confirmed(answered))
            service.wait_until_ready()
            await assert_all_served_once(http, owner, drop, users)
        service.stop()


async def test_a_database_that_comes_later(server: Crashable) -> None:
    """The application itself, as any ASGI server runs it, starts without one and serves as soon as it is there."""
    server.crash()
    with started(*UVICORN, DATABASE_URL=server.url, EXPIRY_POLL_MS="50") as service:
        wait_for(lambda: service.answers("/healthz", 200))
        async with client_of(service.url) as http:
            assert_unavailable(await http.get(f"{service.url}/readyz"))
            assert_unavailable(await http.get("/drops"))
            server.start()
            service.wait_until_ready()
            assert_success(await http.get("/drops"), "drops")
        assert "Traceback" not in service.log(), service.log()


@pytest.mark.parametrize("missing", ["functions", "database", "role"])
async def test_a_database_that_is_not_ready(empty_url: str, missing: str) -> None:
    """One without the functions, one that does not exist, one that does not know the user: /readyz says so, /healthz stays."""
    parts = urlsplit(empty_url)
    url = {
        "functions": empty_url,
        "database": urlunsplit(parts._replace(path="/lastpair_missing")),
        "role": urlunsplit(parts._replace(netloc="nobody@" + parts.netloc.rpartition("@")[2])),
    }[missing]
    with started(*UVICORN, DATABASE_URL=url, EXPIRY_POLL_MS="3600000") as service:
        wait_for(lambda: service.answers("/healthz", 200))
        for _ in range(2):
            assert_unavailable(httpx.get(f"{service.url}/readyz"))
        if missing != "functions":  # those are missed for good, until somebody migrates
            assert_unavailable(httpx.get(f"{service.url}/api/drops"))


async def test_a_function_that_fails(server: Crashable) -> None:
    """What may work in a moment is 503; a fault is 500 without internals, and the log has them with the request's id."""
    states = {"40001": 503, "40P01": 503, "53300": 503, "55P03": 503, "57014": 503, "P0001": 500, "XX000": 500, "22P02": 500}
    failures = {f"raise exception 'secret' using errcode = '{state}'": status for state, status in states.items()}
    failures |= {"perform 1 / 0": 500, "perform secret from nowhere": 500}
    head = "create or replace function api.get_drop(p_drop_id uuid) returns setof api.drop language plpgsql as"
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="3600000", CORS_ORIGINS="https://shop.example") as service:
        service.wait_until_ready()
        async with connected(server.url) as owner, client_of(service.url) as http:
            try:
                for n, (failure, status) in enumerate(failures.items()):
                    await owner.execute(f"{head} $$ begin {failure}; end $$")
                    headers = {"X-Request-Id": f"find-me-{n}.", "Origin": "https://shop.example"}
                    response = await http.get(f"/drops/{ANY}", headers=headers)
                    assert response.headers["access-control-allow-origin"] == headers["Origin"]
                    if status == 503:
                        assert_unavailable(response)
                    else:
                        message = assert_error(response, 500, "INTERNAL_ERROR")
                        assert re.search("secret|zero|nowhere", message) is None
                        assert re.search(rf"find-me-{n}\..*(secret|zero|nowhere)", service.log(), re.DOTALL)
            finally:
                await owner.execute((FUNCTIONS_DIR / "api" / "get_drop.sql").read_text())
            assert_error(await http.get(f"/drops/{ANY}"), 404, "DROP_NOT_FOUND")


async def test_the_poller_works_by_itself(database: Database, owner: asyncpg.Pool) -> None:
    """Without a request: what is due expires, what has begun is live, what is over has ended; at boot and from then on."""
    seller = await make_user(owner)
    create = "select id from api.create_drop('poll', 1, 5, $1, $2, $3, $4)"
    status = "select status from api.get_drop($1)"

    async def new_drop(starts_in_seconds: float, ends_in_seconds: float, given: str | None = None) -> str:
        now = datetime.now(UTC)
        times = (now + timedelta(seconds=seconds) for seconds in (starts_in_seconds, ends_in_seconds))
        return str(await owner.fetchval(create, UUID(seller), *times, given))

    async def new_due() -> str:
        drop_id = await new_drop(-60, 600)
        await make_due(owner, str(await owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(seller))))
        return drop_id

    due, begun, over = await new_due(), await new_drop(-60, 600, "scheduled"), await new_drop(-60, -30)
    with running_api(database.url, EXPIRY_POLL_MS="3600000"):  # once, at boot
        await eventually(lambda: owner.fetchval("select available_stock = 5 from api.get_drop($1)", UUID(due)))
        await eventually(lambda: owner.fetchval(f"select ({status}) = 'live'", UUID(begun)))
        await eventually(lambda: owner.fetchval(f"select ({status}) = 'ended'", UUID(over)))
    with running_api(database.url, EXPIRY_POLL_MS="100"):
        due, soon, brief = await new_due(), await new_drop(2, 600), await new_drop(-60, 2)
        assert [await owner.fetchval(status, UUID(drop_id)) for drop_id in (soon, brief)] == ["scheduled", "live"]
        await eventually(lambda: owner.fetchval("select available_stock = 5 from api.get_drop($1)", UUID(due)))
        await eventually(lambda: owner.fetchval(f"select ({status}) = 'live'", UUID(soon)))
        await eventually(lambda: owner.fetchval(f"select ({status}) = 'ended'", UUID(brief)))
    await assert_healthy(owner)


async def test_many_processes(database: Database, owner: asyncpg.Pool) -> None:
    """On one port and one database: any of them serves, and their pollers meet at the same holds, each of which expires once."""
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="50", WEB_CONCURRENCY="3") as service:
        service.wait_until_ready()
        async with connected(database.url) as session, client_of(service.url) as http:
            users = await make_users(session, 100)
            drops = [await make_drop(http, users[0], total_stock=100) for _ in range(5)]
            ids = [UUID(drop["id"]) for drop in drops]
            for drop_id in ids:
                await owner.fetch(
                    "select from api.reserve_batch("
                    "array(select row($1::uuid, user_id, null)::api.reserve_request from unnest($2::uuid[]) user_id))",
                    drop_id,
                    users,
                )
            await owner.execute("update inventory.reservations set expires_at = now() where drop_id = any ($1)", ids)
            held = "select count(*) = 0 from inventory.reservations where drop_id = any ($1) and status = 'ACTIVE'"
            await eventually(lambda: owner.fetchval(held, ids))
            for drop in drops:
                assert await available_stock(owner, drop["id"]) == 100
                answers = await asyncio.gather(*(http.get(f"/drops/{drop['id']}") for _ in range(10)))  # over many connections
                assert {assert_success(answer, "drop")["available_stock"] for answer in answers} == {100}
        await assert_healthy(owner)
        service.stop()
        assert "poller" not in service.log()


@pytest.mark.slow
async def test_requests_that_wait_at_shutdown(database: Database, owner: asyncpg.Pool) -> None:
    """One that can still be served is served; one that cannot is told 503 to go elsewhere; then the process ends, cleanly."""
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="3600000") as service:
        service.wait_until_ready()
        lock = "select from inventory.drops where id = $1 for update"
        waiting = "select count(*) = 2 from pg_stat_activity where application_name = 'lastpair' and wait_event_type = 'Lock'"
        async with client_of(service.url) as http, connected(database.url) as one, connected(database.url) as other:
            users = await make_users(one, 2)
            drops = [await make_drop(http, users[0]) for _ in users]
            async with other.transaction():
                await other.execute(lock, UUID(drops[1]["id"]))
                async with one.transaction():
                    await one.execute(lock, UUID(drops[0]["id"]))
                    requests = [
                        asyncio.create_task(http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user)))
                        for drop, user in zip(drops, users, strict=True)
                    ]
                    await eventually(lambda: owner.fetchval(waiting))
                    stopped = asyncio.create_task(asyncio.to_thread(service.stop))
                    await eventually(lambda: asyncio.to_thread(lambda: not service.answers("/healthz", 200)))
                assert_success(await requests[0], "reservation", 201)
                refused = await requests[1]
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["retry-after"]) > 0
                assert assert_envelope(refused)["success"] is False
                assert await stopped < 8
        await assert_healthy(owner)
