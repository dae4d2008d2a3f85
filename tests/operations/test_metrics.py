"""/metrics: each figure changes by the right amount at the right moment, and no label contains what a client made up."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from json import dumps
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import psutil
import pytest
from prometheus_client import REGISTRY
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families

from lastpair import __version__
from lastpair.database.liveness import Probe, Watch
from lastpair.database.servers import Servers
from lastpair.observability.metrics import FOLDER_VARIABLE, exposition
from lastpair.realtime.event import Event
from lastpair.realtime.relay import Relay
from tests.support.database import Database
from tests.support.envelopes import as_user, assert_error
from tests.support.factories import assert_healthy, make_drop, make_due, make_user, purchase, reserve
from tests.support.hub import started_hub, the_track
from tests.support.streams import (
    NO_TLS,
    TRANSPORTS,
    Api,
    SseStream,
    caught_up,
    fresh_database,
    newest_id,
    open_stream,
    publish,
    serving,
)
from tests.support.waiting import eventually

POOL_SIZE = 4
RESERVE, PURCHASE, CANCEL = "/api/drops/{dropId}/reserve", "/api/drops/{dropId}/purchase", "/api/reservations/{id}"
BLOCKED = "select count(*) from pg_stat_activity where $1 = any (pg_blocking_pids(pid))"
Labels = frozenset[tuple[str, str]]


class Figures:
    """The metrics at one moment."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        """One value; 0 if it does not exist yet."""
        return self.values.get((f"lastpair_{name}", frozenset(labels.items())), 0)

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of every series with this name."""
        return [dict(labels) for found, labels in self.values if found == name]


async def figures(api: Api) -> Figures:
    """The metrics now, on a connection of its own, so that any of several processes may answer."""
    async with httpx.AsyncClient(verify=NO_TLS, timeout=60) as client:
        response = await client.get(f"{api.url}/metrics")
        assert response.status_code == 200, response.text
        return Figures(response.text)


class Change:
    """How much the figures have changed since a moment."""

    def __init__(self, api: Api, before: Figures) -> None:
        self._api = api
        self._before = before

    async def of(self, name: str, **labels: str) -> float:
        """By how much one value has changed."""
        return (await figures(self._api)).get(name, **labels) - self._before.get(name, **labels)

    async def comes_to(self, expected: float, name: str, **labels: str) -> None:
        """Wait until one value has changed by this much; it must not be more then."""

        async def is_there() -> bool:
            now = await self.of(name, **labels)
            return now == expected or now > expected > 0  # what comes back to 0 falls

        await eventually(is_there)
        assert await self.of(name, **labels) == expected


async def from_now(api: Api) -> Change:
    """The change from now on."""
    return Change(api, await figures(api))


@pytest.fixture(scope="module")
async def database_url(database: Database) -> AsyncIterator[str]:
    """A database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture(scope="module")
async def api(database_url: str) -> AsyncIterator[Api]:
    """A service that only these tests use. No hold of one test falls due while another counts."""
    async with serving(database_url, DATABASE_POOL_SIZE=str(POOL_SIZE), RESERVATION_TTL_SECONDS="3600") as api:
        yield api
        await assert_healthy(api.owner)


@pytest.fixture
async def seller(api: Api) -> str:
    """A new user."""
    return await make_user(api.owner)


@pytest.fixture
async def drop_id(api: Api, seller: str) -> str:
    """A new live drop of 100 units, of which the service has heard."""
    drop_id: str = (await make_drop(api.http, seller, total_stock=100))["id"]
    await caught_up(api, drop_id)
    return drop_id


@asynccontextmanager
async def locked(api: Api, drop_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Another session holds the drop's row; yields what waits until a call of the service waits for it."""
    async with api.owner.acquire() as connection, connection.transaction():
        await connection.execute("select from inventory.drops where id = $1 for update", UUID(drop_id))
        yield lambda: eventually(lambda: api.owner.fetchval(BLOCKED, connection.get_server_pid()))


async def test_form(api: Api) -> None:
    """The text format of Prometheus, for GET and HEAD; each metric of ours has a help text, and none comes twice."""
    response = await api.http.get(f"{api.url}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = Figures(response.text)
    ours = [family for name, family in found.families.items() if name.startswith("lastpair_")]
    assert len(ours) > 15
    assert all(family.documentation.endswith((".", "?")) for family in ours)
    assert found.get("build_info", version=__version__) == 1
    samples = [line.rpartition(" ")[0] for line in response.text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"} <= found.families.keys()

    head = await api.http.head(f"{api.url}/metrics")
    assert (head.status_code, head.headers["content-type"], head.content) == (200, response.headers["content-type"], b"")
    assert_error(await api.http.post(f"{api.url}/metrics"), 405, "METHOD_NOT_ALLOWED")


async def test_requests(api: Api, seller: str, drop_id: str) -> None:
    """Requests are counted by method, template of the path and status, and their durations by template."""
    change = await from_now(api)
    begin = time.monotonic()
    await reserve(api.http, drop_id, seller)
    for _ in range(3):
        assert_error(await api.http.post(f"/drops/{drop_id}/reserve", headers=as_user(seller)), 409, "ALREADY_RESERVED")
    await api.http.post(f"/v1/drops/{drop_id}/reserve", headers=as_user(seller))
    await api.http.head("/drops")
    await api.http.get("/drops/x")
    await api.http.put("/drops")
    await api.http.get("/nothing")
    spent = time.monotonic() - begin
    for count, method, route, status in [
        (1, "POST", RESERVE, "201"),
        (3, "POST", RESERVE, "409"),
        (1, "POST", "/api/v1/drops/{dropId}/reserve", "409"),
        (1, "HEAD", "/api/drops", "200"),
        (1, "GET", "/api/drops/{dropId}", "400"),
        (1, "PUT", "/api/drops", "405"),
        (1, "GET", "none", "404"),
    ]:
        assert await change.of("http_requests_total", method=method, route=route, status=status) == count
    seconds = "http_request_duration_seconds"
    assert await change.of(f"{seconds}_count", route=RESERVE) == 4
    assert await change.of(f"{seconds}_bucket", route=RESERVE, le="+Inf") == 4
    assert 0 < await change.of(f"{seconds}_sum", route=RESERVE) < spent
    assert await change.of(f"{seconds}_count", route="none") == 1


async def test_how_long_a_request_takes(api: Api, seller: str, drop_id: str) -> None:
    """A duration runs from the head of a request to the end of its answer, with the time that it waited for a lock."""
    change = await from_now(api)
    async with locked(api, drop_id) as a_call_waits:
        begin = time.monotonic()
        waiting = asyncio.create_task(api.http.post(f"/drops/{drop_id}/reserve", headers=as_user(seller)))
        await a_call_waits()
        blocked = time.monotonic()
        await asyncio.sleep(0.2)
        held = time.monotonic() - blocked
    assert (await waiting).status_code == 201
    seconds = await change.of("http_request_duration_seconds_sum", route=RESERVE)
    spent = time.monotonic() - begin  # measured now, because the service may note the end after its client has the answer
    assert held < seconds < spent
    assert await change.of("http_request_duration_seconds_bucket", route=RESERVE, le="0.1") == 0
    assert held < await change.of("batch_call_duration_seconds_sum", call="reserve") < spent


async def test_what_a_client_makes_up_is_no_label(api: Api) -> None:
    """Made-up paths, queries, methods and headers add no series: there are as many after the second round as after the first."""
    known = {"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "WS", "other"}

    async def send_nonsense() -> Figures:
        for method in ["GET", "POST", "PROPFIND", "M-SEARCH", "TRACE", "MKCALENDAR", "LINK"]:
            for path in ["", "/", f"/{uuid4()}", "/api/drops/{dropId}", f"/api/drops/{uuid4()}", f"/api/drops/{uuid4()}/reserve"]:
                await api.http.request(method, f"{api.url}{path}?{uuid4()}", headers={"X-Request-Id": str(uuid4())})
            await api.http.request(method, f"{api.url}/dashboard/{uuid4()}")
        for _ in range(2):
            for path in (uuid4(), "dashboard", "docs"):
                with pytest.raises(Exception, match="HTTP 404"):
                    await open_stream("ws", f"{api.url}/{path}")
            with pytest.raises(Exception, match="HTTP 4"):
                await open_stream("ws", api.url, [uuid4().hex])
        return await figures(api)

    first, second = await send_nonsense(), await send_nonsense()
    assert second.values.keys() == first.values.keys()
    requests = second.labels("lastpair_http_requests_total")
    assert {labels["method"] for labels in requests} <= known
    assert {labels["method"] for labels in requests} >= {"GET", "POST", "WS", "other"}
    routes = {labels["route"] for labels in requests}
    assert {"none", "/api/drops/{dropId}", "/api/ws", "/dashboard"} <= routes
    assert len(routes) < 30


async def test_batches(api: Api, drop_id: str) -> None:
    """For reserve, purchase and cancel: how many requests share a call, how long they waited for it, how long it took."""
    users = [await make_user(api.owner) for _ in range(21)]
    change = await from_now(api)

    async def post(user: str) -> Any:
        return (await reserve(api.http, drop_id, user))["id"]

    async with locked(api, drop_id) as a_call_waits:
        begin = time.monotonic()
        tasks = [asyncio.create_task(post(users[0]))]
        await a_call_waits()
        blocked = time.monotonic()
        tasks += [asyncio.create_task(post(user)) for user in users[1:]]
        for _ in range(20):
            await api.http.get(f"{api.url}/healthz")
        held = time.monotonic() - blocked
    held_ids = await asyncio.gather(*tasks)
    spent = time.monotonic() - begin
    calls = await change.of("batch_size_count", call="reserve")
    assert 2 <= calls < len(users)
    assert await change.of("batch_size_sum", call="reserve") == len(users)
    assert await change.of("batch_size_bucket", call="reserve", le="1.0") >= 1
    assert await change.of("batch_wait_seconds_count", call="reserve") == calls
    assert 0 < await change.of("batch_wait_seconds_sum", call="reserve") < calls * spent
    assert await change.of("batch_call_duration_seconds_count", call="reserve") == calls
    assert held < await change.of("batch_call_duration_seconds_sum", call="reserve") < spent

    await purchase(api.http, drop_id, users[0])
    for reservation_id, user in zip(held_ids[1:3], users[1:3], strict=True):
        assert (await api.http.delete(f"/reservations/{reservation_id}", headers=as_user(user))).status_code == 200
    for call, count in [("purchase", 1), ("cancel", 2)]:
        for name in ("batch_size_count", "batch_size_sum", "batch_call_duration_seconds_count"):
            assert await change.of(name, call=call) == count


async def test_the_pool(api: Api, drop_id: str) -> None:
    """How many sessions there may be, how many are in use, and how long a call waited for one."""
    change = await from_now(api)
    assert (await figures(api)).get("pool_max_sessions") == POOL_SIZE
    await change.comes_to(0, "pool_busy_sessions")
    async with api.owner.acquire() as connection, connection.transaction():
        await connection.execute("lock table inventory.drops in access exclusive mode")
        reading = [asyncio.create_task(api.http.get(f"/drops/{drop_id}")) for _ in range(2)]
        await change.comes_to(2, "pool_busy_sessions")
        reading += [asyncio.create_task(api.http.get(f"/drops/{drop_id}")) for _ in range(POOL_SIZE)]
        listing = asyncio.create_task(api.http.get("/drops"))  # whose call is shared, and so not one of those that have to wait
        await change.comes_to(3, "pool_busy_sessions")
        begin = time.monotonic()
        for _ in range(20):
            await api.http.get(f"{api.url}/healthz")
        held = time.monotonic() - begin
    assert {response.status_code for response in await asyncio.gather(*reading, listing)} == {200}
    await change.comes_to(0, "pool_busy_sessions")
    calls = 2 + POOL_SIZE + 1
    assert calls <= await change.of("pool_wait_seconds_count") <= calls + 3  # jobs of the sweeper may have come by
    assert await change.of("pool_wait_seconds_sum") > held


async def test_database_errors(api: Api) -> None:
    """Failed calls are counted by SQLSTATE; a refusal is not counted."""
    change = await from_now(api)
    assert_error(await api.http.get(f"/drops/{uuid4()}"), 404, "DROP_NOT_FOUND")
    await api.owner.execute("alter function api.get_drop(uuid, boolean) rename to get_drop_elsewhere")
    try:
        for _ in range(2):
            assert_error(await api.http.get(f"/drops/{uuid4()}"), 503, "DATABASE_UNAVAILABLE")
    finally:
        await api.owner.execute("alter function api.get_drop_elsewhere(uuid, boolean) rename to get_drop")
    assert await change.of("database_errors_total", sqlstate="42883") == 2
    labels = (await figures(api)).labels("lastpair_database_errors_total")
    assert "PT404" not in {found["sqlstate"] for found in labels}


async def test_events_and_their_lag(api: Api, drop_id: str) -> None:
    """Each event is counted once, by type, with the time since its commit, even if no client is connected."""
    change = await from_now(api)
    begin = time.monotonic()
    for user in [await make_user(api.owner) for _ in range(3)]:
        await reserve(api.http, drop_id, user)
        await purchase(api.http, drop_id, user)
    for event_type in ("PURCHASE_COMPLETED", "ACTIVITY_UPDATED"):
        await change.comes_to(3, "events_relayed_total", type=event_type)
    await change.comes_to(3, "events_relayed_total", type="STOCK_UPDATED")  # a purchase moves no stock
    await change.comes_to(9, "relay_lag_seconds_count")
    assert 0 < await change.of("relay_lag_seconds_sum") < 9 * (time.monotonic() - begin)
    assert (await figures(api)).get("listener_connected") == 1


async def test_a_clock_that_is_ahead() -> None:
    """If the database's clock is a minute ahead, the lag is 0 and not less."""
    track = the_track(started_hub())
    servers = Servers("postgresql://nowhere")
    relay = Relay(servers, track, Watch(Probe(servers)))

    def lag() -> tuple[float, float]:
        found = [REGISTRY.get_sample_value(f"lastpair_relay_lag_seconds_{name}") for name in ("count", "sum")]
        return found[0] or 0, found[1] or 0

    async def hear(ahead_seconds: int, event_id: int) -> None:
        text = f'{{"type":"STOCK_UPDATED","id":"{event_id}","drop_id":"x","data":{{"dropId":"x"}}}}'
        relay._heard.append(Event(text, time.time() + ahead_seconds))
        await relay._publish_heard(None)

    count, seconds = lag()
    await hear(60, 1)
    assert lag() == (count + 1, seconds)
    await hear(-60, 2)
    assert lag() == (count + 2, pytest.approx(seconds + 60, abs=5))
    await hear(-60, 2)  # heard before: neither relayed nor counted again
    assert lag()[0] == count + 2


@pytest.mark.parametrize("forged_time", ['"soon"', "null", "[]", "{}"])
async def test_a_forged_time(api: Api, seller: str, drop_id: str, forged_time: str) -> None:
    """A forged notification with a bad time is looked up in the log, and the listener goes on."""
    event = f'{{"type":"X","id":"{await newest_id(api.owner) + 1}","drop_id":"{drop_id}","data":{{}}}}'
    forged = f'{{"mac":"{"0" * 64}","committedAt":{forged_time},"events":[\n{event}]}}'
    change = await from_now(api)
    await api.owner.execute("select pg_notify('lastpair_events', $1)", forged)
    await reserve(api.http, drop_id, seller)
    await change.comes_to(1, "events_relayed_total", type="STOCK_UPDATED")
    assert await change.of("events_relayed_total", type="X") == 0


async def test_streams(api: Api) -> None:
    """Open streams are counted by transport, and as requests when they are over, without a duration."""
    change = await from_now(api)
    opened = [await open_stream(transport, api.url) for transport in ("sse", "sse", "ws")]
    await change.comes_to(2, "streams", transport="sse")
    await change.comes_to(1, "streams", transport="websocket")
    for stream in opened:
        await stream.close()
    await change.comes_to(1, "http_requests_total", method="WS", route="/api/ws", status="101")
    await change.comes_to(2, "http_requests_total", method="GET", route="/api/events", status="200")
    assert await change.of("streams", transport="sse") == await change.of("streams", transport="websocket") == 0
    assert not [found for found in (await figures(api)).values if dict(found[1]).get("route") in {"/api/ws", "/api/events"}
                and "duration" in found[0]]  # fmt: skip


async def test_clients_that_misbehave(api: Api) -> None:
    """Each connection that is closed because of its client is counted once, by the reason."""
    change = await from_now(api)
    pad = b"x" * 8200
    handshake = b"GET /api/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    handshake += b"a: b\r\n" * 200 + b"\r\n"
    misbehaviour = {
        b"NOT HTTP\r\n\r\n": "malformed",
        b"GET / HTTP/1.1\r\n\r\n": "malformed",
        handshake: "malformed",
        b"GET /" + pad + b" HTTP/1.1\r\nHost: a\r\n\r\n": "too_large",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"a: " + pad[:8000] + b"\r\n") * 5: "too_large",
        b"GET /api/events HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100: "out_of_turn",
    }
    for said in misbehaviour:
        await asyncio.to_thread(say, api, said)
    for reason, count in Counter(misbehaviour.values()).items():
        await change.comes_to(count, "connections_cut_off_total", reason=reason)


def say(api: Api, said: bytes) -> None:
    """Send this on a connection of its own and read until it closes."""
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=60) as client:
        client.sendall(said)
        with suppress(ConnectionResetError):
            while client.recv(65536):
                pass


async def test_resyncs(api: Api, drop_id: str) -> None:
    """Clients that must start again are counted by reason: a bad id, a log that begins too late, a relay that lost track."""
    await caught_up(api, drop_id)
    change = await from_now(api)
    for transport in TRANSPORTS:
        stream = await open_stream(transport, api.url, last_event_id="yesterday")
        assert (await stream.receive()).type == "RESYNC_REQUIRED"
    await change.comes_to(2, "resyncs_total", reason="unknown_id")

    await api.owner.execute("delete from inventory.events where id < $1", await newest_id(api.owner))
    async with serving(api.database_url) as other:  # which has none of them in memory
        changed = await from_now(other)
        stream = await open_stream("sse", other.url, last_event_id=1)
        assert (await stream.receive()).type == "RESYNC_REQUIRED"
        await changed.comes_to(1, "resyncs_total", reason="forgotten")

        followers = [await open_stream(transport, other.url) for transport in TRANSPORTS]
        for follower in followers:
            await follower.receive()
        await other.owner.execute("truncate inventory.events")
        await other.owner.execute("select pg_notify('lastpair_events', nextval('inventory.events_id_seq')::text)")
        for follower in followers:
            assert (await follower.receive()).type == "RESYNC_REQUIRED"
        assert await changed.of("resyncs_total", reason="restarted") >= 2  # the first stream is still open, too
        assert await changed.of("resyncs_total", reason="slow") == 0


async def test_slow_clients(api: Api, drop_id: str) -> None:
    """A client that did not read for too long is counted when it reads on."""
    change = await from_now(api)
    slow = await open_stream("ws", api.url, last_event_id=await newest_id(api.owner), receive_buffer_bytes=4096)
    big = dumps({"dropId": drop_id, "filler": "x" * 1_000_000})
    await publish(api.owner, drop_id, "BIG", [big] * 12)
    for _ in range(15):
        await publish(api.owner, drop_id, "SMALL", [dumps({"dropId": drop_id})] * 100)
    await change.comes_to(12 + 1500, "events_relayed_total", type="other")
    while (await slow.receive()).type != "RESYNC_REQUIRED":
        pass
    await change.comes_to(1, "resyncs_total", reason="slow")
    await slow.close()


async def test_expiry(api: Api, drop_id: str) -> None:
    """How many holds a sweep took back, and how late it took them back."""
    holds = [await reserve(api.http, drop_id, await make_user(api.owner)) for _ in range(3)]
    change = await from_now(api)
    for hold in holds[:2]:
        await make_due(api.owner, hold["id"])
    await api.http.post("/internal/expire-now")
    assert await change.of("reservations_expired_total") == 2
    assert 1 <= (await figures(api)).get("expiry_lag_seconds") < 60
    await api.http.post("/internal/expire-now")
    assert await change.of("reservations_expired_total") == 2
    assert (await figures(api)).get("expiry_lag_seconds") == 0


async def test_the_queue_of_notifications(api: Api) -> None:
    """The share of the queue that is used, which grows while a listener stays in a transaction."""
    listener = await asyncpg.connect(api.database_url)
    await listener.execute("listen lastpair_events")
    try:
        async with listener.transaction():
            await listener.execute("select 1")
            for _ in range(5):
                fill = "select count(pg_notify('elsewhere', n || repeat('x', 7000))) from generate_series(1, 40) n"
                await api.owner.execute(fill)
            filled: float = await api.owner.fetchval("select pg_notification_queue_usage()")
            assert filled > 0.0001
            async with serving(api.database_url) as measuring:

                async def is_seen() -> bool:
                    return (await figures(measuring)).get("notify_queue_usage_ratio") >= filled

                await eventually(is_seen)
    finally:
        await listener.close()


async def test_the_jobs_of_the_sweeper(api: Api) -> None:
    """Each job has the time of its last success, and 0 before the first: a job that fails does not stop the others."""
    await api.owner.execute("alter function api.advance_drops() rename to advance_drops_elsewhere")
    try:
        async with serving(api.database_url, EXPIRY_POLL_MS="100") as sweeping:

            async def succeeded_at(job: str) -> float:
                return (await figures(sweeping)).get("poller_last_success_timestamp_seconds", sweeper_job=job)

            for job in ("expire_holds", "prune_events", "measure_notify_queue"):
                await eventually(lambda: succeeded_at(job))  # noqa: B023 - awaited here
                assert abs(await succeeded_at(job) - time.time()) < 300
            first = await succeeded_at("expire_holds")

            async def has_succeeded_again() -> bool:
                return await succeeded_at("expire_holds") > first

            await eventually(has_succeeded_again)
            jobs = (await figures(sweeping)).labels("lastpair_poller_last_success_timestamp_seconds")
            assert {"sweeper_job": "advance_drops"} in jobs
            assert await succeeded_at("advance_drops") == 0
            await api.owner.execute("alter function api.advance_drops_elsewhere() rename to advance_drops")

            async def has_recovered() -> bool:
                return await succeeded_at("advance_drops") > first

            await eventually(has_recovered)
    finally:
        if await api.owner.fetchval("select to_regproc('api.advance_drops_elsewhere')"):
            await api.owner.execute("alter function api.advance_drops_elsewhere() rename to advance_drops")


@pytest.mark.slow
async def test_two_processes(database_url: str) -> None:
    """Each process answers for both. The gauges of a killed process vanish, its counts stay, its successor's are added."""
    async with serving(database_url, WEB_CONCURRENCY="2", DATABASE_POOL_SIZE="3") as api:

        async def both_serve() -> bool:
            return (await figures(api)).get("pool_max_sessions") == 6 and (await figures(api)).get("listener_connected") == 1

        await eventually(both_serve)
        workers = {int(labels["pid"]) for labels in (await figures(api)).labels("process_resident_memory_bytes")}
        assert workers < {child.pid for child in psutil.Process(api.service.process.pid).children()}
        assert len(workers) == 2

        streams: list[SseStream] = []
        while not all(served(pid, streams) for pid in workers):
            assert len(streams) < 100
            stream = await open_stream("sse", api.url)
            assert isinstance(stream, SseStream)
            await stream.receive()
            streams.append(stream)
        count = "http_requests_total"
        for _ in range(20):
            async with httpx.AsyncClient(verify=NO_TLS, timeout=60) as client:
                await client.get(f"{api.url}/api/drops/x")

        async def all_are_counted() -> bool:
            return (await figures(api)).get(count, method="GET", route="/api/drops/{dropId}", status="400") == 20

        await eventually(all_are_counted)  # a worker counts a request when it has been answered
        for _ in range(10):
            found = await figures(api)
            assert found.get(count, method="GET", route="/api/drops/{dropId}", status="400") == 20
            assert found.get("streams", transport="sse") == len(streams)

        victim = min(workers)
        lost = served(victim, streams)
        os.kill(victim, signal.SIGKILL)

        async def is_replaced() -> bool:
            pids = {int(labels["pid"]) for labels in (await figures(api)).labels("process_resident_memory_bytes")}
            return len(pids) == 2 and victim not in pids and await both_serve()

        await eventually(is_replaced)
        found = await figures(api)
        assert found.get("streams", transport="sse") == len(streams) - lost
        assert found.get(count, method="GET", route="/api/drops/{dropId}", status="400") == 20


def test_a_process_that_begins_and_one_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is still empty, or that another process removes at this moment, does not disturb /metrics."""
    dead = tmp_path / "gauge_livesum_999999999.db"
    for file, name in ((tmp_path / "counter_1.db", "things_total"), (dead, "places")):
        with closing(MmapedDict(str(file))) as written:
            written.write_value(mmap_key(name, name, [], [], "How many."), 3.0, 0.0)
    (tmp_path / "counter_2.db").touch()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    exists = psutil.pid_exists

    def removes_it_first(pid: int) -> bool:
        dead.unlink(missing_ok=True)
        return exists(pid)

    monkeypatch.setattr(psutil, "pid_exists", removes_it_first)
    assert Figures(b"".join(exposition()).decode()).values == {("things_total", frozenset()): 3}


def served(pid: int, streams: list[SseStream]) -> int:
    """How many of these streams the process serves."""
    ours = {stream.response.extensions["network_stream"].get_extra_info("client_addr")[1] for stream in streams}
    return sum(bool(each.raddr) and each.raddr.port in ours for each in psutil.Process(pid).net_connections("tcp"))
