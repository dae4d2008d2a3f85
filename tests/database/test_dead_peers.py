"""Peers that die without a word: connections that stay open and carry nothing, frozen backends, and frozen listeners."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import uvloop

from lastpair.cli import database_errors_in_one_line
from lastpair.database import liveness, pool, servers
from lastpair.database.embedded import BIN_DIR
from lastpair.database.liveness import Probe
from lastpair.database.servers import CONNECTION_FAULTS, Servers, reason
from lastpair.errors import Unavailable
from lastpair.realtime.hub import Hub
from lastpair.realtime.relay import Relay
from lastpair.settings import InvalidSettings
from tests.support.clusters import PASSWORD, cluster
from tests.support.database import Database, calling, connected
from tests.support.envelopes import as_user, assert_unavailable
from tests.support.factories import assert_healthy, make_drop_by_sql, make_users
from tests.support.hub import NO_LOG, the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.ordered_requests import lock_waits, locked
from tests.support.proxies import Proxy, proxied
from tests.support.servers import pooler
from tests.support.waiting import eventually

SERVED_WITHIN_SECONDS = 8
READY_WITHIN_SECONDS = 5
WAYS_TO_DIE = pytest.mark.parametrize("die", [Proxy.swallow, Proxy.drop_packets])


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[Proxy]:
    """A proxy before the tests' database."""
    async with proxied(database.url) as proxy:
        yield proxy


@pytest.fixture
async def service(proxy: Proxy) -> AsyncIterator[InProcess]:
    """A service behind the proxy, whose pool has several sessions."""
    async with served(settings_for(proxy.url, app_env="development", auth_mode="header")) as service:
        await asyncio.gather(*(service.components.database.fetch("select pg_sleep(0.1)") for _ in range(4)))
        await eventually(lambda: service.components.relays.is_connected)
        yield service


async def reserve_until_served(http: httpx.AsyncClient, drop_id: str, user: str) -> float:
    """Repeat one request with its key until it is confirmed; a failure must be a 503. Returns the seconds it took."""
    begin = monotonic()
    while (answer := await http.post(f"/drops/{drop_id}/reserve", headers=as_user(user, idempotency_key="once"))).is_error:
        assert_unavailable(answer)
    assert answer.status_code in (200, 201)
    return monotonic() - begin


async def readiness(service: InProcess) -> int:
    """The status of /readyz, which must come in time."""
    begin = monotonic()
    answer = await service.http.get(f"{service.url}/readyz")
    assert monotonic() - begin < READY_WITHIN_SECONDS
    return answer.status_code


@pytest.mark.slow
@WAYS_TO_DIE
async def test_idle_connections_die(
    service: InProcess, proxy: Proxy, owner: asyncpg.Pool, die: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The next request is served in time, streams are heard of again, and the log says what was given up."""
    drop_id, users = await make_drop_by_sql(owner, 5), await make_users(owner, 1)
    die(proxy)
    assert await reserve_until_served(service.http, drop_id, users[0]) < SERVED_WITHIN_SECONDS
    hub, newest = service.components.hub, await owner.fetchval("select max(id) from inventory.events")
    await eventually(lambda: the_track(hub).head_id == newest and service.components.relays.is_connected, SERVED_WITHIN_SECONDS)
    assert await readiness(service) == 200
    assert "the connection is dead" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    await assert_healthy(owner)


@WAYS_TO_DIE
async def test_connections_die_under_a_call(service: InProcess, proxy: Proxy, owner: asyncpg.Pool, die: Any) -> None:
    """Its answer is lost: the request is answered 503, its repetition says what happened, and others are served."""
    drop_id, users = await make_drop_by_sql(owner, 5), await make_users(owner, 2)
    async with locked(owner, drop_id):
        requests = [asyncio.create_task(reserve_until_served(service.http, drop_id, user)) for user in users]
        await lock_waits(owner, 1)
        die(proxy)
    died = monotonic()
    await asyncio.gather(*requests)
    assert monotonic() - died < SERVED_WITHIN_SECONDS
    assert await owner.fetchval("select count(*) from inventory.reservations where drop_id = $1", drop_id) == 2
    await assert_healthy(owner)


async def test_a_new_session_dies(proxy: Proxy) -> None:
    """While it is set up: its call fails in time with a message that says so, and the next one gets another session."""
    async with calling(proxy.url) as calls:
        proxy.swallows_from = b"pg_backend_pid"
        begin = monotonic()
        with pytest.raises(Unavailable) as raised:
            await calls.fetch("select 1")
        assert str(raised.value.__cause__) == "a new session: the connection is dead"
        await calls.fetch("select 1")
        assert monotonic() - begin < SERVED_WITHIN_SECONDS


@pytest.mark.parametrize(
    "statement", [b"pg_backend_pid", b"api.event_key", b"api.ensure_epoch", b"LISTEN", b"api.relayed_events_after"]
)
async def test_a_new_listener_dies(database: Database, proxy: Proxy, statement: bytes) -> None:
    """While it is set up: another one is there in time."""
    async with calling(database.url) as calls:
        proxy.swallows_from = statement
        relay = Relay(Servers(proxy.url), Hub().add(None, NO_LOG), calls.watch)
        running = asyncio.create_task(relay.run())
        await eventually(lambda: relay.is_connected, SERVED_WITHIN_SECONDS)
        assert proxy.swallows_from is None
        running.cancel()


@WAYS_TO_DIE
@pytest.mark.slow
async def test_the_first_of_two_servers_dies(database: Database, proxy: Proxy, owner: asyncpg.Pool, die: Any) -> None:
    """Before anything asked /readyz. Requests, streams and /readyz find the other server in time."""
    async with proxied(database.url) as other:
        here, there = (urlsplit(each.url).netloc.rpartition("@")[2] for each in (proxy, other))
        url = proxy.url.replace(here, f"{here},{there}")
        async with served(settings_for(url, app_env="development", auth_mode="header")) as service:
            hub, relay = service.components.hub, service.components.relays
            assert (await service.http.get("/drops")).status_code == 200
            await eventually(lambda: relay.is_connected and len(proxy._alive) >= 3)  # the pool's, the listener's, the probe's
            die(proxy)
            proxy.swallows_new = True
            died = monotonic()
            await make_drop_by_sql(owner, 1)
            newest = await owner.fetchval("select max(id) from inventory.events")
            while (await service.http.get("/drops")).is_error:
                assert monotonic() - died < SERVED_WITHIN_SECONDS
            await eventually(lambda: the_track(hub).head_id == newest and relay.is_connected, SERVED_WITHIN_SECONDS)
            assert await readiness(service) == 200


async def test_what_died_while_nothing_could_be_connected(proxy: Proxy) -> None:
    """The probe says that its session was dead as soon as it has a new one, so that others look after theirs."""
    probe = Probe(Servers(proxy.url))
    assert await probe.ask(lambda session: session.fetchval("select 1")) == (1, False)
    proxy.swallow()
    proxy.swallows_new = True
    with pytest.raises(TimeoutError):
        await probe.ask(lambda session: session.fetchval("select 2"))
    proxy.swallows_new = False
    assert await probe.ask(lambda session: session.fetchval("select 3")) == (3, True)
    assert await probe.ask(lambda session: session.fetchval("select 4")) == (4, False)
    probe.close()


async def test_a_question_that_was_given_up(database: Database) -> None:
    """It does not make the probe take its session for dead."""
    probe = Probe(Servers(database.url))
    await probe.ask(lambda session: session.execute("select 1"))
    given_up = asyncio.create_task(probe.ask(lambda session: session.execute("select pg_sleep(0.4)")))
    await asyncio.sleep(0.1)
    given_up.cancel()
    assert await probe.ask(lambda session: session.fetchval("select 2")) == (2, False)
    probe.close()


async def test_a_server_that_is_far_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """To connect takes longer than one look at /readyz may; the process is ready all the same, and stays so."""
    connect = Servers.connect

    async def slowly(servers: Servers, *arguments: Any, **options: Any) -> asyncpg.Connection:
        await asyncio.sleep(1.5)
        return await connect(servers, *arguments, **options)

    monkeypatch.setattr(Servers, "connect", slowly)
    monkeypatch.setattr(liveness, "NEW_SECONDS", 0.1)
    monkeypatch.setattr(pool, "READY_TIMEOUT_SECONDS", 0.7)
    async with calling(database.url) as calls:
        with pytest.raises(Unavailable):
            await calls.ready()

        async def is_ready() -> bool:
            try:
                await calls.ready()
            except Unavailable:
                return False
            return True

        await eventually(is_ready)
        assert await is_ready()


@pytest.mark.slow
async def test_no_connection_carries_anything_for_a_while(service: InProcess, proxy: Proxy, owner: asyncpg.Pool) -> None:
    """Neither old ones nor new ones: /readyz is red in time, and all is served in time from when new ones work."""
    drop_id, users = await make_drop_by_sql(owner, 5), await make_users(owner, 2)
    proxy.swallow()
    proxy.swallows_new = True
    first = asyncio.create_task(reserve_until_served(service.http, drop_id, users[0]))
    assert [await readiness(service) for _ in range(2)] == [503, 503]
    proxy.swallows_new = False
    works = monotonic()
    await asyncio.gather(first, reserve_until_served(service.http, drop_id, users[1]))
    assert monotonic() - works < SERVED_WITHIN_SECONDS
    await eventually(lambda: service.components.relays.is_connected, SERVED_WITHIN_SECONDS)
    assert await readiness(service) == 200
    await assert_healthy(owner)


@pytest.mark.slow
async def test_a_call_that_waits_for_a_lock_is_alive(
    service: InProcess, owner: asyncpg.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it is silent: PostgreSQL says that it works on it."""
    drop_id, users = await make_drop_by_sql(owner, 5), await make_users(owner, 1)
    async with locked(owner, drop_id):
        request = asyncio.create_task(service.http.post(f"/drops/{drop_id}/reserve", headers=as_user(users[0])))
        await lock_waits(owner, 1)
        await asyncio.sleep(2.5)  # within which a dead one is given up
    assert (await request).status_code == 201
    assert "dead" not in caplog.text
    await assert_healthy(owner)


async def test_readiness_beside_a_pool_that_is_full(database: Database, owner: asyncpg.Pool) -> None:
    """The database is ready although every session of the pool waits for a lock."""
    async with calling(database.url, sessions=2) as calls, owner.acquire() as holder:
        await holder.execute("select pg_advisory_lock(4713)")
        stuck = [asyncio.create_task(calls.fetch("select pg_advisory_xact_lock_shared(4713)")) for _ in range(3)]
        await eventually(lambda: owner.fetchval("select count(*) = 2 from pg_locks where objid = 4713 and not granted"))
        begin = monotonic()
        await asyncio.gather(*(calls.ready() for _ in range(50)))
        assert monotonic() - begin < READY_WITHIN_SECONDS
        await holder.execute("select pg_advisory_unlock(4713)")
        await asyncio.gather(*stuck)


async def test_a_frozen_backend(database: Database) -> None:
    """Its call fails in time, and the calls that follow get other sessions."""
    async with calling(database.url, sessions=1) as calls:
        pid = await calls.value("select pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        try:
            begin = monotonic()
            with pytest.raises(Unavailable):
                await calls.value("select 1")
            assert await calls.value("select 2") == 2
            assert monotonic() - begin < SERVED_WITHIN_SECONDS
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_connections_to_a_pooler_die(database: Database, owner: asyncpg.Pool) -> None:
    """Also in the middle of a transaction, whose locks are given up with it; and one that works on is waited for."""
    drop_id, users = await make_drop_by_sql(owner, 5), await make_users(owner, 2)
    reserve = "select code from api.reserve_batch(array[row($1::uuid, $2::uuid, null, null, null)]::api.reserve_request[])"
    with pooler(database.url, server_sessions=3) as bouncer:
        async with proxied(bouncer.url) as proxy, calling(proxy.url, sessions=4, pooled=True) as calls:
            assert await calls.value("select 1") == 1
            async with locked(owner, drop_id):
                call = asyncio.create_task(calls.value(reserve, drop_id, users[0]))
                await lock_waits(owner, 1)
                await asyncio.sleep(2)
                assert not call.done()
                proxy.swallow()
            died = monotonic()
            with pytest.raises(Unavailable, match="DATABASE_UNAVAILABLE"):
                await call
            assert await calls.value(reserve, drop_id, users[1]) is None
            assert monotonic() - died < SERVED_WITHIN_SECONDS
    await assert_healthy(owner)


async def blocked_listener(url: str, owner: asyncpg.Connection, **settings: str) -> asyncpg.Connection:
    """A listener whose client takes nothing any more, blocked in the middle of a notification."""
    listener = await asyncpg.connect(url, server_settings={"application_name": "lastpair listener"} | settings)
    await listener.add_listener("dead_peers", lambda *_: None)
    listener._transport.pause_reading()
    pid = listener.get_server_pid()

    async def is_blocked() -> bool:
        await owner.execute("select pg_notify('dead_peers', n || repeat('x', 7000)) from generate_series(1, 200) n")
        return bool(await owner.fetchval("select wait_event = 'ClientWrite' from pg_stat_activity where pid = $1", pid))

    await eventually(is_blocked)
    return listener


async def test_the_listener_of_a_frozen_process(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds back vacuum and the queue; another process ends its session, and then the queue is empty."""
    usage = "select pg_notification_queue_usage()"
    async with connected(database.superuser_url) as owner, calling(database.url) as calls:
        listener = await blocked_listener(database.url, owner)
        pid = listener.get_server_pid()
        holds = "select backend_xmin is not null from pg_stat_activity where pid = $1"
        assert await owner.fetchval(holds, pid)
        assert await calls.end_blocked_listeners() == 0
        monkeypatch.setattr(pool, "BLOCKED_SECONDS", 0)
        assert await calls.end_blocked_listeners() == 1
        await eventually(lambda: owner.fetchval("select not exists (select from pg_stat_activity where pid = $1)", pid))
        await owner.execute("notify dead_peers")
        assert await owner.fetchval(usage) < 0.001
        listener.terminate()


@pytest.mark.slow
async def test_the_server_ends_a_listener_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TCP the settings of its session are enough, without another process."""
    assert BIN_DIR is not None
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    there = "select exists (select from pg_stat_activity where pid = $1)"
    with cluster(BIN_DIR) as server:
        async with connected(server.url) as owner:
            kept = await blocked_listener(server.url, owner)
            ended = await blocked_listener(server.url, owner, **pool.TCP_SETTINGS | {"tcp_user_timeout": "1s"})
            pid = ended.get_server_pid()
            await eventually(lambda: owner.fetchval(f"select not ({there})", pid))
            assert await owner.fetchval(there, kept.get_server_pid())
            for listener in (kept, ended):
                listener.terminate()


async def test_sessions_ask_the_server_to_look_after_them(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the pool and the listener's, so that the server closes them when their machine is gone."""
    asked: dict[str, dict[str, str]] = {}
    connect = Servers.connect

    async def spy(servers: Servers, *arguments: Any, **options: Any) -> asyncpg.Connection:
        asked[options["server_settings"]["application_name"]] = options["server_settings"]
        return await connect(servers, *arguments, **options)

    monkeypatch.setattr(Servers, "connect", spy)
    async with served(settings_for(database.url)) as service:
        await service.components.database.fetch("select 1")
        for name in ("lastpair", "lastpair listener"):
            assert asked[name].items() >= pool.TCP_SETTINGS.items()


async def test_a_timeout_says_what_timed_out(proxy: Proxy, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that was connected to, the statement, or the pool; never an empty string."""
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT_SECONDS", 0.1)
    async with calling(database.url) as calls:
        slow = asyncio.create_task(calls.fetch("select from api.errors(), pg_sleep(2)"))
        await asyncio.sleep(0)
        for call, message in ((calls.fetch("select 1"), "no session of the pool"), (slow, "api.errors: no answer after 0.2 s")):
            with pytest.raises(Unavailable) as raised:
                await call
            assert message in str(raised.value.__cause__)
    proxy.swallows_new = True
    with pytest.raises(TimeoutError, match=r"^127\.0\.0\.1:\d+ did not answer in 0\.2 s$"):
        await Servers(proxy.url).connect(timeout=0.2)
    assert reason(TimeoutError()) == "no answer in time"
    assert reason(ConnectionError(" a\nb ")) == "a b"
    with (
        pytest.raises(InvalidSettings, match=r"cannot use the database: no answer in time$"),
        database_errors_in_one_line("DATABASE_URL"),
    ):
        raise TimeoutError


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_is_lost_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Whichever loop runs it, the first call fails in the way that callers expect of a database that is away."""

    async def connect_and_lose(url: str, *_: object) -> asyncpg.Connection:
        connection = await asyncpg.connect(url)
        connection.terminate()
        await asyncio.sleep(0.01)  # the loop closes the socket in one of its next iterations
        return connection

    async def use_it() -> None:
        async with proxied(database.url) as proxy:
            connection = await Servers(proxy.url).connect()
            with pytest.raises(CONNECTION_FAULTS):
                await connection.fetchval("select 1")

    monkeypatch.setattr(servers, "_connect", connect_and_lose)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(use_it())
