"""Rate limits of writes, reads and openings of streams, and slots for streams: what is refused, and when it is possible again."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from websockets.exceptions import InvalidStatus

from lastpair.errors import Refusal, Unavailable
from lastpair.settings import Settings
from lastpair.web.limits import RateLimit, address_of
from tests.support.database import Database
from tests.support.envelopes import JSON, as_user, assert_error
from tests.support.factories import make_drop, make_user
from tests.support.hub import the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.raw_http import UPGRADE, connected, reset
from tests.support.streams import TRANSPORTS, open_stream
from tests.support.waiting import Clock

GET = b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(database: Database, proxies: str = "127.0.0.1", **settings: int) -> AsyncIterator[InProcess]:
    """The service in this event loop, with these settings."""
    async with served(settings_for(database.url, **settings), proxies) as service:
        yield service


# The limits by themselves


def refused_after(limit: RateLimit, name: str) -> int:
    """Make a request that must be refused; returns the seconds after which it is to be tried again."""
    with pytest.raises(Refusal) as refused:
        limit.count(name)
    assert refused.value.retry_after_seconds is not None
    return refused.value.retry_after_seconds


def test_the_limit_holds_for_any_minute(clock: Clock) -> None:
    """A request counts for exactly a minute, and a refused one not at all. After the time that is told, one is let through."""
    limit = RateLimit(3)
    for _ in range(3):
        limit.count("a")
        clock.now += 10.5
    for waited in range(20):
        assert refused_after(limit, "a") == pytest.approx(28.5 - waited, abs=0.5)
        clock.now += 1
    clock.now += refused_after(limit, "a")  # 8.5, rounded up
    limit.count("a")
    assert refused_after(limit, "a") == 10
    clock.now += 9.999
    assert refused_after(limit, "a") == 1
    clock.now += 1
    limit.count("a")


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60])
def test_trying_as_soon_as_told(clock: Clock, per_minute: int) -> None:
    """A request at the time that was told passes, and one a second earlier does not; no minute has more than the limit."""
    limit, passed = RateLimit(per_minute), []
    for n in range(500):
        try:
            limit.count("a")
            passed.append(clock.now)
            clock.now += (n * 7919 % 1000) / 1000 * 90 / per_minute
        except Refusal as refusal:
            seconds = refusal.retry_after_seconds or 0
            if seconds > 1:
                clock.now += seconds - 1
                assert refused_after(limit, "a") == 1
                seconds = 1
            clock.now += seconds
            limit.count("a")
            passed.append(clock.now)
    assert all(later - earlier >= 60 for earlier, later in zip(passed, passed[per_minute:], strict=False))


def test_no_limit() -> None:
    """A limit of 0 is none, and no name is remembered."""
    limit = RateLimit(0)
    for n in range(1000):
        limit.count(str(n % 2))
    assert not limit._times


def test_idle_names_are_forgotten(clock: Clock) -> None:
    """A name without requests for a minute is forgotten while others ask, however many there were; no other name is."""
    limit = RateLimit(2)
    for n in range(5000):
        limit.count(f"first {n}")
    clock.now += 30
    limit.count("first 0")
    for n in range(5000):
        limit.count(f"second {n}")
    assert len(limit._times) == 10_000
    clock.now += 30
    for n in range(5000):
        limit.count(f"third {n}")
    assert len(limit._times) == 10_001, "first 0 and all the second and third"
    limit.count("first 0")
    refused_after(limit, "first 0")
    clock.now += 60
    for n in range(10_000):
        limit.count(f"fourth {n % 5000}")
    assert len(limit._times) == 5000
    assert sum(map(len, limit._times.values())) == 10_000


def test_refused_requests_are_not_remembered(clock: Clock) -> None:
    """A flood of refused requests takes no memory, and does not make the wait longer."""
    limit = RateLimit(5)
    for _ in range(10_000):
        try:
            limit.count("a")
        except Refusal:
            clock.now += 0.001
    assert len(limit._times["a"]) == 5
    assert refused_after(limit, "a") == 51


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unix:", "unix:"),
    ],
)
def test_what_an_address_is(host: str, address: str) -> None:
    """A client's address is its IPv4 address, or the IPv6 network that one client has."""
    assert address_of({"client": (host, 1)}) == address


def test_no_address() -> None:
    """A server may not know the address, as on a Unix socket."""
    assert address_of({"client": None}) == ""


# The limits of the service


def from_address(address: str) -> dict[str, str]:
    """The header a proxy adds."""
    return {"X-Forwarded-For": address}


def assert_limited(response: httpx.Response) -> int:
    """The request was one too many; returns the seconds after which it is to be tried again."""
    seconds = int(response.headers["retry-after"])
    assert f"{seconds} s" in assert_error(response, 429, "RATE_LIMITED")
    return seconds


@pytest.mark.usefixtures("healthy")
async def test_writes_of_a_user(database: Database, owner: asyncpg.Pool, clock: Clock) -> None:
    """All writes of a user share one limit; other users' writes, and reads, do not count. After the time told one passes."""
    async with serving(database, rate_limit_user_per_minute=4) as service:
        user, other, seller = [await make_user(owner) for _ in range(3)]
        path = f"/drops/{(await make_drop(service.http, seller))['id']}"
        new_drop = '{"name": "A", "price": 1, "total_stock": 1}'
        writes = [
            service.http.build_request(method, to, content=content, headers=as_user(user) | (JSON if content else {}))
            for method, to, content in [
                ("POST", f"{path}/reserve", None),
                ("POST", f"{path}/purchase", None),
                ("PATCH", path, '{"name": "B"}'),
                ("DELETE", f"/reservations/{uuid4()}", None),
                ("POST", "/drops", new_drop),
            ]
        ]
        for request in writes[:4]:
            assert (await service.http.send(request)).status_code != 429
            clock.now += 1
        for request in writes:
            assert assert_limited(await service.http.send(request)) == 56
        for read in ("/drops", path, "/reservations/me", "/purchases/me"):
            assert (await service.http.get(read, headers=as_user(user))).status_code == 200
        assert (await service.http.post(f"{path}/reserve", headers=as_user(other))).status_code == 201
        clock.now += 55
        assert assert_limited(await service.http.post(f"{path}/reserve", headers=as_user(user))) == 1
        clock.now += 1
        assert (await service.http.post(f"{path}/reserve", headers=as_user(user))).status_code == 201


@pytest.mark.usefixtures("healthy")
async def test_writes_of_an_address(database: Database, owner: asyncpg.Pool, clock: Clock) -> None:
    """All writes from an address share one limit, before anything else of the request is read. The proxy tells the address."""
    async with serving(database, rate_limit_address_per_minute=3) as service:
        path = f"/drops/{uuid4()}/reserve"
        for address in ("203.0.113.1", "203.0.113.2"):
            for _ in range(3):
                response = await service.http.post(path, headers=as_user(await make_user(owner)) | from_address(address))
                assert_error(response, 404, "DROP_NOT_FOUND")
            for headers in ({}, as_user(await make_user(owner))):
                assert assert_limited(await service.http.post(path, headers=headers | from_address(address))) == 60
            # What a client says to a proxy is put before what the proxy adds.
            assert_limited(await service.http.post(path, headers=from_address(f"198.51.100.9, {address}")))
        for _ in range(10):
            assert (await service.http.get("/drops", headers=from_address("203.0.113.1"))).status_code == 200
            assert (await service.http.head("/drops", headers=from_address("203.0.113.1"))).status_code == 200
        for transport in TRANSPORTS * 3:
            stream = await open_stream(transport, service.url, headers=from_address("203.0.113.1"))
            await stream.close()
        clock.now += 60
        assert_error(await service.http.post(path, headers=as_user(uuid4()) | from_address("203.0.113.1")), 404, "DROP_NOT_FOUND")


async def test_reads_of_an_address(database: Database, clock: Clock) -> None:
    """All reads of the database from an address share one limit. Probes, pages, writes and streams do not count."""
    async with serving(database, rate_limit_reads_per_minute=3) as service:
        for address in ("203.0.113.1", "203.0.113.2"):
            headers = from_address(address)
            for _ in range(3):
                for path in ("/healthz", "/readyz", "/metrics", "/", "/api/openapi.json"):
                    assert (await service.http.get(service.url + path, headers=headers)).status_code == 200
                assert (await service.http.head("/events", headers=headers)).status_code == 200
                assert (await service.http.post("/drops", headers=headers)).status_code == 401
            stream = await open_stream("sse", service.url, headers=headers)
            await stream.close()
            for path, status in (("/drops", 200), (f"/drops/{uuid4()}", 404), ("/reservations/me", 401)):
                assert (await service.http.get(path, headers=headers)).status_code == status
            assert assert_limited(await service.http.get("/drops", headers=headers)) == 60
            assert (await service.http.head("/drops", headers=headers)).status_code == 429
            assert assert_limited(await service.http.get("/purchases/me", headers=headers)) == 60
        clock.now += 60
        assert (await service.http.get("/drops", headers=from_address("203.0.113.1"))).status_code == 200


async def test_openings_of_streams_of_an_address(database: Database, clock: Clock) -> None:
    """All streams that an address opens in a minute share one limit, whether they are still open or not."""
    async with serving(database, rate_limit_streams_per_minute=4) as service:
        for address in ("203.0.113.1", "203.0.113.2"):
            headers = from_address(address)
            for transport in TRANSPORTS * 2:
                stream = await open_stream(transport, service.url, headers=headers)
                await stream.close()
            for transport in TRANSPORTS:
                assert await refusal_of(service, transport, headers) == (429, "RATE_LIMITED")
            assert (await service.http.head("/events", headers=headers)).status_code == 200
            assert (await service.http.get("/drops", headers=headers)).status_code == 200
        clock.now += 60
        stream = await open_stream("ws", service.url, headers=from_address("203.0.113.1"))
        await stream.close()
        await service.has_streams(0)


@pytest.mark.parametrize("proxies", ["192.0.2.1", "192.0.2.0/24"])
async def test_only_proxies_are_believed(database: Database, proxies: str) -> None:
    """X-Forwarded-For from an address that is no proxy's is ignored, for writes and for streams."""
    async with serving(database, proxies, rate_limit_address_per_minute=2, max_streams_per_address=1) as service:
        answers = [await service.http.post("/drops", headers=from_address(f"203.0.113.{n}")) for n in range(4)]
        assert [answer.status_code == 429 for answer in answers] == [False, False, True, True]
        stream = await open_stream("sse", service.url, headers=from_address("203.0.113.1"))
        for transport in TRANSPORTS:
            assert await refusal_of(service, transport, from_address("203.0.113.2")) == (429, "RATE_LIMITED")
        await stream.close()


async def test_off_by_default(database: Database, owner: asyncpg.Pool) -> None:
    """By default nothing is limited, and no name is remembered."""
    settings = Settings(database_url=database.url)
    assert settings.rate_limit_user_per_minute == settings.rate_limit_address_per_minute == settings.max_streams_per_address == 0
    assert settings.rate_limit_reads_per_minute == settings.rate_limit_streams_per_minute == 0
    async with serving(database) as service:
        user = await make_user(owner)
        answers = [await service.http.post(f"/drops/{uuid4()}/reserve", headers=as_user(user)) for _ in range(100)]
        assert {answer.status_code for answer in answers} == {404}
        assert not service.components.user_limit._times
        assert not service.components.address_limit._times


async def refusal_of(service: InProcess, transport: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Open one more stream, which must be refused with a Retry-After; returns the status and the code."""
    response: Any
    if transport == "sse":
        response = await service.http.get("/events", headers=headers)
        assert_error(response, response.status_code, response.json()["error"]["code"])
    else:
        with pytest.raises(InvalidStatus) as refused:
            await open_stream("ws", service.url, headers=headers)
        response = refused.value.response
        response = httpx.Response(response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body))
        assert_error(response, response.status_code, response.json()["error"]["code"])
    assert int(response.headers["retry-after"]) >= 1
    return response.status_code, response.json()["error"]["code"]


async def test_as_many_streams_as_there_are_slots(database: Database) -> None:
    """When all slots are used, one more stream is refused and nothing else is; a slot is free when its client leaves."""
    async with serving(database, max_streams=2) as service:
        streams = [await open_stream(transport, service.url) for transport in TRANSPORTS]
        for leaving in (0, 1):
            for transport in TRANSPORTS * 2:
                assert await refusal_of(service, transport) == (503, "OVERLOADED")
            assert (await service.http.head("/events")).status_code == 200, "its headers take no slot"
            assert (await service.http.get("/drops")).status_code == 200
            await streams[leaving].close()
            await service.has_streams(1)
            streams[leaving] = await open_stream(TRANSPORTS[1 - leaving], service.url)
        for stream in streams:
            assert (await stream.receive()).type == "SNAPSHOT"
            await stream.close()
        await service.has_streams(0)


async def test_streams_of_an_address(database: Database) -> None:
    """Streams of both transports from one address share a limit; another address has its own."""
    async with serving(database, max_streams_per_address=2) as service:
        mine, yours = from_address("203.0.113.1"), from_address("203.0.113.2")
        streams = [await open_stream(transport, service.url, headers=mine) for transport in TRANSPORTS]
        for transport in TRANSPORTS:
            assert await refusal_of(service, transport, mine) == (429, "RATE_LIMITED")
        streams += [await open_stream(transport, service.url, headers=yours) for transport in TRANSPORTS]
        await streams[0].close()
        await service.has_streams(3)
        streams[0] = await open_stream("ws", service.url, headers=mine)
        for stream in streams:
            await stream.close()
        await service.has_streams(0)


@pytest.mark.parametrize("request_bytes", [GET, UPGRADE % b""], ids=TRANSPORTS)
async def test_leaving_while_it_opens(database: Database, request_bytes: bytes) -> None:
    """The slot of a client that leaves before its stream is open is free again."""
    async with serving(database, max_streams=3) as service:
        hub = service.components.hub
        the_track(hub).started.clear()
        with ExitStack() as stack:
            connections = [stack.enter_context(connected(service.url)) for _ in range(3)]
            for connection in connections:
                connection.sendall(request_bytes)
            await service.has_streams(3)
            assert await refusal_of(service, "sse") == (503, "OVERLOADED")
            for connection in connections:
                reset(connection)
        the_track(hub).started.set()
        await service.has_streams(0)
        stream = await open_stream("sse", service.url)
        await stream.close()


async def test_a_stream_that_is_refused_takes_no_slot(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is refused, whether for its query or for the database, leaves its slot free."""
    async with serving(database, max_streams=1) as service:

        async def fail(*_: object) -> None:
            raise Unavailable("The database is away.")

        monkeypatch.setattr(the_track(service.components.hub).log, "snapshot", fail)
        for transport in TRANSPORTS * 2:
            assert (await service.http.get("/events?dropId=bad")).status_code == 400
            assert await refusal_of(service, transport) == (503, "DATABASE_UNAVAILABLE")
        await service.has_streams(0)
