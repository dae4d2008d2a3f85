"""A database that is missing, goes away, cuts sessions off or breaks; killed processes; and the sweeper in real processes."""

import asyncio
import re
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import httpx
import psutil
import pytest

from lastpair.database.migrate import FUNCTIONS_DIR
from tests.support.batch_statements import LISTENERS
from tests.support.buyers import Buyers, sell_through
from tests.support.database import Database, client_of, connected, running_api
from tests.support.envelopes import as_user, assert_envelope, assert_error, assert_success, assert_unavailable
from tests.support.factories import (
    assert_healthy,
    available_stock,
    hold,
    make_drop,
    make_drop_by_sql,
    make_due,
    make_user,
    make_users,
    purchase,
    reserve,
)
from tests.support.ordered_requests import lock_waits, locked
from tests.support.servers import UVICORN, Crashable, Service, started
from tests.support.waiting import eventually, wait_for

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
SLEEPS = {"EXPIRY_POLL_MS": "3600000"}
"""The setting for a sweeper that runs once, at the start."""


@pytest.mark.slow
async def test_an_outage(server: Crashable) -> None:
    """Every endpoint answers 503 while it lasts, and each job logs it once; then all works without help and nothing is lost."""
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
            assert service.answers("/healthz", 200)
            assert_error(await http.get("/nothing"), 404, "NOT_FOUND")
            assert monotonic() - begin < 20  # no request waits for the database; each may wait a while for the machine
            for job in ("expire_holds", "advance_drops"):
                wait_for(lambda: f"the sweeper's job {job} cannot run" in service.log())  # noqa: B023 - awaited here

            server.start()
            service.wait_until_ready()
            for user, reservation in zip(users[1:], held[1:], strict=True):
                mine = assert_success(await http.get("/reservations/me", headers=as_user(user)), "reservations")
                assert mine == [reservation]
                await purchase(http, drop["id"], user)
            assert assert_success(await http.get("/purchases/me", headers=as_user(users[0])), "purchases") == [bought]
            async with connected(server.url) as owner:
                await make_due(owner, (await reserve(http, drop["id"], users[0]))["id"])
                swept = "select available_stock = 80 from api.get_drop($1)"
                await eventually(lambda: owner.fetchval(swept, drop["id"]))
                await assert_healthy(owner)
        logged = re.findall(r"the sweeper's job (\w+) cannot run", service.log())
        assert len(logged) == len(set(logged))
        service.stop()


@pytest.mark.slow
@pytest.mark.parametrize("end", [Crashable.crash, Crashable.kill])
async def test_postgresql_ends_under_load(server: Crashable, end: Any) -> None:
    """It crashes, or its processes are killed without a word: every request gets an answer and what was confirmed is there."""
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            async with connected(server.url) as owner:
                buyers = await Buyers.make(owner, http)
            await sell_through(service, http, buyers, break_down=lambda: end(server), repair=server.start)
            async with connected(server.url) as owner:
                await buyers.assert_all_served_once(owner)
        service.stop()


@pytest.mark.slow
async def test_sessions_cut_off_under_load(server: Crashable) -> None:
    """Again and again: every request gets an answer, none takes effect by half, and afterwards all are served."""
    terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'lastpair'"
    with started(DATABASE_URL=server.url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http, connected(server.url) as owner, connected(server.superuser_url) as superuser:
            refused = 0
            for buyers in [await Buyers.make(owner, http) for _ in range(20)]:
                buying = asyncio.create_task(buyers.run())
                buyers.broken.set()
                await buyers.have_confirmed(1)
                while refused + buyers.statuses[503] < 40 and not buying.done():
                    await superuser.fetchval(terminate)
                    await asyncio.sleep(0.02)
                await buying
                assert buyers.lost == 0
                await buyers.assert_all_served_once(owner)
                refused += buyers.statuses[503]
                if refused >= 40:
                    break
            assert refused >= 40
        service.stop()


async def test_a_database_that_comes_later(server: Crashable) -> None:
    """The application itself, as any ASGI server runs it, starts without a database and serves as soon as there is one."""
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
    """It has no functions, does not exist or does not know the user: /readyz is red and /healthz is green."""
    parts = urlsplit(empty_url)
    url = {
        "functions": empty_url,
        "database": urlunsplit(parts._replace(path="/lastpair_missing")),
        "role": urlunsplit(parts._replace(netloc="nobody@" + parts.netloc.rpartition("@")[2])),
    }[missing]
    with started(*UVICORN, DATABASE_URL=url, **SLEEPS) as service:
        wait_for(lambda: service.answers("/healthz", 200))
        for _ in range(2):
            assert_unavailable(httpx.get(f"{service.url}/readyz"))
        assert_unavailable(httpx.get(f"{service.url}/api/drops"))


async def test_a_function_that_fails(server: Crashable) -> None:
    """A failure that may pass is 503; a fault is 500 without internals, and the log has them with the request's id."""
    states = dict.fromkeys(["40001", "40P01", "42804", "53300", "55P03", "57014"], 503)
    states |= dict.fromkeys(["P0001", "XX000", "22P02"], 500)
    failures = {f"raise exception 'secret' using errcode = '{state}'": status for state, status in states.items()}
    failures |= {"perform 1 / 0": 500, "perform secret from nowhere": 500}
    head = "create or replace function api.get_drop(p_drop_id uuid, p_drafts boolean default true) returns setof api.drop_row"
    head += " language plpgsql as"
    with started(DATABASE_URL=server.url, CORS_ORIGINS="https://shop.example", **SLEEPS) as service:
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


async def test_the_sweeper_needs_no_request(database: Database, owner: asyncpg.Pool) -> None:
    """Due holds expire, drops go live and end, at the start of a process and from then on."""
    seller = await make_user(owner)
    create = "select id::text from api.create_drop('sweep', 1, 5, $1, $2, $3, $4)"

    async def new_drop(starts_in_seconds: float, ends_in_seconds: float, status: str | None = None) -> str:
        now = datetime.now(UTC)
        times = (now + timedelta(seconds=seconds) for seconds in (starts_in_seconds, ends_in_seconds))
        return str(await owner.fetchval(create, seller, *times, status))

    async def new_due() -> str:
        drop_id = await new_drop(-60, 600)
        await make_due(owner, *(await hold(owner, drop_id, [seller])).values())
        return drop_id

    async def show(due: str, begun: str, over: str) -> None:
        shown = "select (select (available_stock, status) = ($2, $3) from api.get_drop($1))"
        for drop_id, status in ((due, "live"), (begun, "live"), (over, "ended")):
            await eventually(lambda: owner.fetchval(shown, drop_id, 5, status))  # noqa: B023 - awaited here

    due, begun, over = await new_due(), await new_drop(-60, 600, "scheduled"), await new_drop(-60, -30)
    with running_api(database.url, **SLEEPS):
        await show(due, begun, over)
    with running_api(database.url, EXPIRY_POLL_MS="100"):
        due, soon, brief = await new_due(), await new_drop(4, 600), await new_drop(-60, 4)
        statuses = [await owner.fetchval("select status from api.get_drop($1)", drop_id) for drop_id in (soon, brief)]
        assert statuses == ["scheduled", "live"]
        await show(due, soon, brief)
    await assert_healthy(owner)


@pytest.mark.slow
async def test_many_processes(database: Database, owner: asyncpg.Pool) -> None:
    """Three processes share a port and a database: any of them serves, and each due hold expires once."""
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="50", WEB_CONCURRENCY="3") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            users, drops = await make_users(owner, 100), [await make_drop_by_sql(owner, 100) for _ in range(5)]
            for drop_id in drops:
                await make_due(owner, *(await hold(owner, drop_id, users)).values())
            held = "select count(*) = 0 from inventory.reservations where drop_id = any ($1) and status = 'ACTIVE'"
            await eventually(lambda: owner.fetchval(held, drops))
            for drop_id in drops:
                assert await available_stock(owner, drop_id) == 100
                answers = await asyncio.gather(*(http.get(f"/drops/{drop_id}") for _ in range(10)))  # over many connections
                assert {assert_success(answer, "drop")["available_stock"] for answer in answers} == {100}
        await assert_healthy(owner)
        service.stop()
        assert "sweeper" not in service.log()


@pytest.mark.slow
async def test_requests_that_wait_at_shutdown(database: Database, owner: asyncpg.Pool) -> None:
    """A request that can still be served is served, another is answered 503; then the process ends, cleanly."""
    with started(DATABASE_URL=database.url, **SLEEPS) as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            users, drops = await make_users(owner, 2), [await make_drop_by_sql(owner, 5) for _ in range(2)]
            idle, idle_writer = await asyncio.open_connection(*service.url.removeprefix("http://").split(":"))
            async with locked(owner, drops[1]):
                async with locked(owner, drops[0]):
                    requests = [
                        asyncio.create_task(http.post(f"/drops/{drop_id}/reserve", headers=as_user(user)))
                        for drop_id, user in zip(drops, users, strict=True)
                    ]
                    await lock_waits(owner, 2)
                    stopped = asyncio.create_task(asyncio.to_thread(service.stop))
                    assert await idle.read() == b""  # an idle connection is closed when the shutdown has begun
                    idle_writer.close()
                assert_success(await requests[0], "reservation", 201)
                refused = await requests[1]
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["retry-after"]) > 0
                assert assert_envelope(refused)["success"] is False
                assert await stopped < 20
        await assert_healthy(owner)


@pytest.mark.slow
async def test_one_of_two_processes_is_killed(migrated_url: str) -> None:
    """Requests in flight there lose their connection; the other process serves every buyer, and sweeps."""
    variables = {"DATABASE_URL": migrated_url, "EXPIRY_POLL_MS": "50"}
    with started(**variables) as doomed, started(**variables) as other:
        for service in (doomed, other):
            service.wait_until_ready()
        async with connected(migrated_url) as owner, client_of(doomed.url) as one, client_of(other.url) as two:
            buyers = await Buyers.make(owner, one, two)
            buying = asyncio.create_task(buyers.run())
            await buyers.have_confirmed(20)
            doomed.process.kill()
            buyers.broken.set()
            await buying
            assert buyers.lost > 0
            assert buyers.statuses[503] == 0
            assert other.answers("/readyz", 200)
            with pytest.raises(httpx.ConnectError):  # which is red for a load balancer
                await one.get(f"{doomed.url}/readyz")
            await buyers.assert_all_served_once(owner)
            await make_due(owner, (await reserve(two, buyers.drop["id"], buyers.users[0]))["id"])
            swept = "select count(*) = 1 from inventory.reservations where status = 'EXPIRED'"
            await eventually(lambda: owner.fetchval(swept))
            await assert_healthy(owner)
        other.stop()


def workers_of(service: Service) -> set[int]:
    """The process ids of the service's workers."""
    found = set()
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


@pytest.mark.slow
async def test_one_of_two_workers_is_killed(migrated_url: str) -> None:
    """The other one serves every buyer, and a new worker takes the place of the killed one."""
    with started(DATABASE_URL=migrated_url, EXPIRY_POLL_MS="50", WEB_CONCURRENCY="2") as service:
        await asyncio.to_thread(service.wait_until_ready)
        async with connected(migrated_url) as owner, client_of(service.url) as http:
            await eventually(lambda: owner.fetchval(f"select ({LISTENERS}) = 2"))
            buyers = await Buyers.make(owner, http)
            buying = asyncio.create_task(buyers.run())
            await buyers.have_confirmed(20)
            killed = min(workers_of(service))
            psutil.Process(killed).send_signal(signal.SIGKILL)
            buyers.broken.set()
            await buying
            await buyers.assert_all_served_once(owner)
            await eventually(lambda: asyncio.to_thread(lambda: len(workers_of(service) - {killed}) == 2))
            await eventually(lambda: owner.fetchval(f"select ({LISTENERS}) = 2"))
            await eventually(lambda: asyncio.to_thread(lambda: all(service.answers("/readyz", 200) for _ in range(20))))
            assert_error(await http.get("/nothing"), 404, "NOT_FOUND")
        service.stop()
