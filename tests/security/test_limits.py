"""Rate limits of writes, and places for streams: what is refused, what is not, and when it is possible again."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import uvicorn
from websockets.exceptions import InvalidStatus

from lastpair.errors import Refusal, Unavailable
from lastpair.settings import Settings
from lastpair.web.application import create_app
from lastpair.web.components import Lastpair
from lastpair.web.limits import RateLimit, StreamSlots, address_of
from lastpair.web.uvicorn_protocols import FrameProtocol, StreamProtocol
from tests.support.api import JSON, as_user, assert_error
from tests.support.database import Database
from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.streams import TRANSPORTS, open_stream
from tests.support.waiting import eventually

PROXY = "127.0.0.1"
GET = b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Clock:
    """Time as the test wants it."""

    def __init__(self) -> None:
        self.now = 1_000_000.125

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The rate limits' clock."""
    clock = Clock()
    monkeypatch.setattr("lastpair.web.limits.monotonic", clock)
    return clock


@dataclass(frozen=True)
class Local:
    """The service in this process."""

    app: Lastpair
    url: str
    http: httpx.AsyncClient

    @property
    def places(self) -> StreamSlots:
        """Its places for streams."""
        places: StreamSlots = self.app.components.stream_slots
        return places

    async def has_streams(self, count: int) -> None:
        """Wait until so many are open."""
        await eventually(lambda: asyncio.sleep(0, self.places._count == count))


@asynccontextmanager
async def serving(database: Database, proxies: str = PROXY, **settings: int) -> AsyncIterator[Local]:
    """The service in this event loop, with these settings."""
    app = create_app(Settings(database_url=database.url, expiry_poll_ms=3_600_000, **settings))  # type: ignore[arg-type]
    config = uvicorn.Config(
        app,
        port=0,
        http=StreamProtocol,
        ws=FrameProtocol,
        log_config=None,
        access_log=False,
        forwarded_allow_ips=proxies,
        ws_per_message_deflate=False,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: asyncio.sleep(0, server.started))
        await app.components.hub.started.wait()
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=f"{url}/api", timeout=30) as http:
            yield Local(app, url, http)
    finally:
        app.components.hub.close()
        server.should_exit = True
        await running


def refused_after(limit: RateLimit, name: str) -> int:
    """The seconds after which a refused request is to be tried again."""
    with pytest.raises(Refusal) as refused:
        limit.count(name)
    assert refused.value.retry_after_seconds is not None
    return refused.value.retry_after_seconds


def test_as_many_in_any_minute(clock: Clock) -> None:
    """Each of them counts for exactly a minute, and a refused one not at all: whoever waits as long as told is let through."""
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
    """Is never in vain, and a second before is, however the requests fall; no minute has more than allowed."""
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
    """0 is none, and nothing is remembered."""
    limit = RateLimit(0)
    for n in range(1000):
        limit.count(str(n % 2))
    assert not limit._times


def test_only_those_alive_are_remembered(clock: Clock) -> None:
    """Whoever has not asked for a minute is forgotten while others ask, however many there were, and nobody else is."""
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
    """A flood of them takes no memory, and does not make the wait longer."""
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
    """Of IPv6 it is the network that one client has."""
    assert address_of({"client": (host, 1)}) == address


def test_no_address() -> None:
    """A server that does not know it."""
    assert address_of({"client": None}) == ""


def from_address(address: str) -> dict[str, str]:
    """The header a proxy adds."""
    return {"X-Forwarded-For": address}


def assert_limited(response: httpx.Response) -> int:
    """It was one too many; returns when to try again."""
    seconds = int(response.headers["retry-after"])
    assert f"{seconds} s" in assert_error(response, 429, "RATE_LIMITED")
    return seconds


async def test_writes_of_a_user(database: Database, owner: asyncpg.Pool, clock: Clock) -> None:
    """Are limited together, whatever they do; others', and reads, are not. After the time told the next one goes through."""
    async with serving(database, rate_limit_user_per_minute=4) as local:
        user, other, seller = [await make_user(owner) for _ in range(3)]
        drop = await make_drop(local.http, seller)
        path = f"/drops/{drop['id']}"
        writes = [
            local.http.build_request("POST", f"{path}/reserve", headers=as_user(user)),
            local.http.build_request("POST", f"{path}/purchase", headers=as_user(user)),
            local.http.build_request("PATCH", path, content='{"name": "B"}', headers=as_user(user) | JSON),
            local.http.build_request("DELETE", f"/reservations/{uuid4()}", headers=as_user(user)),
        ]
        statuses = []
        for request in writes:
            statuses.append((await local.http.send(request)).status_code)
            clock.now += 1
        assert 429 not in statuses
        new_drop = '{"name": "A", "price": 1, "total_stock": 1}'
        writes.append(local.http.build_request("POST", "/drops", content=new_drop, headers=as_user(user) | JSON))
        for request in writes:
            assert assert_limited(await local.http.send(request)) == 56
        for read in ("/drops", path, "/reservations/me", "/purchases/me"):
            assert (await local.http.get(read, headers=as_user(user))).status_code == 200
        assert (await local.http.post(f"{path}/reserve", headers=as_user(other))).status_code == 201
        clock.now += 55
        assert assert_limited(await local.http.post(f"{path}/reserve", headers=as_user(user))) == 1
        clock.now += 1
        assert (await local.http.post(f"{path}/reserve", headers=as_user(user))).status_code == 201
        await assert_healthy(owner)


async def test_writes_of_an_address(database: Database, owner: asyncpg.Pool, clock: Clock) -> None:
    """Whoever asks, and before anything of the request is looked at; the address is the one the proxy tells."""
    async with serving(database, rate_limit_address_per_minute=3) as local:
        path = f"/drops/{uuid4()}/reserve"
        for address in ("203.0.113.1", "203.0.113.2"):
            for _ in range(3):
                response = await local.http.post(path, headers=as_user(await make_user(owner)) | from_address(address))
                assert_error(response, 404, "DROP_NOT_FOUND")
            for headers in ({}, as_user(await make_user(owner))):
                assert assert_limited(await local.http.post(path, headers=headers | from_address(address))) == 60
            # What a client says to a proxy is put before what the proxy adds.
            assert_limited(await local.http.post(path, headers=from_address(f"198.51.100.9, {address}")))
        for _ in range(10):
            assert (await local.http.get("/drops", headers=from_address("203.0.113.1"))).status_code == 200
            assert (await local.http.head("/drops", headers=from_address("203.0.113.1"))).status_code == 200
        for transport in TRANSPORTS * 3:
            stream = await open_stream(transport, local.url, headers=from_address("203.0.113.1"))
            await stream.close()
        clock.now += 60
        assert_error(await local.http.post(path, headers=as_user(uuid4()) | from_address("203.0.113.1")), 404, "DROP_NOT_FOUND")
        await assert_healthy(owner)


@pytest.mark.parametrize("proxies", ["192.0.2.1", "192.0.2.0/24"])
async def test_who_is_no_proxy_is_not_believed(database: Database, proxies: str) -> None:
    """X-Forwarded-For of anybody else is nothing, for writes and for streams."""
    async with serving(database, proxies, rate_limit_address_per_minute=2, max_streams_per_address=1) as local:
        answers = [await local.http.post("/drops", headers=from_address(f"203.0.113.{n}")) for n in range(4)]
        assert [answer.status_code == 429 for answer in answers] == [False, False, True, True]
        stream = await open_stream("sse", local.url, headers=from_address("203.0.113.1"))
        for transport in TRANSPORTS:
            assert await refusal_of(local, transport, from_address("203.0.113.2")) == (429, "RATE_LIMITED")
        await stream.close()


async def test_off_by_default(database: Database, owner: asyncpg.Pool) -> None:
    """Nothing is limited, nothing remembered."""
    settings = Settings(database_url=database.url)
    assert settings.rate_limit_user_per_minute == settings.rate_limit_address_per_minute == settings.max_streams_per_address == 0
    async with serving(database) as local:
        user = await make_user(owner)
        answers = [await local.http.post(f"/drops/{uuid4()}/reserve", headers=as_user(user)) for _ in range(100)]
        assert {answer.status_code for answer in answers} == {404}
        assert not local.app.components.user_limit._times
        assert not local.app.components.address_limit._times


async def refusal_of(local: Local, transport: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """The status and code with which one more stream is refused; with a Retry-After."""
    response: Any
    if transport == "sse":
        response = await local.http.get("/events", headers=headers)
        assert_error(response, response.status_code, response.json()["error"]["code"])
    else:
        with pytest.raises(InvalidStatus) as refused:
            await open_stream("ws", local.url, headers=headers)
        response = refused.value.response
        response = httpx.Response(response.status_code, headers=list(response.headers.raw_items()), content=bytes(response.body))
        assert_error(response, response.status_code, response.json()["error"]["code"])
    assert int(response.headers["retry-after"]) >= 1
    return response.status_code, response.json()["error"]["code"]


async def test_as_many_streams_as_there_are_places(database: Database) -> None:
    """The next is refused on either transport and harms nobody; a place comes back when a client leaves."""
    async with serving(database, max_streams=2) as local:
        streams = [await open_stream(transport, local.url) for transport in TRANSPORTS]
        for leaving in (0, 1):
            for transport in TRANSPORTS * 2:
                assert await refusal_of(local, transport) == (503, "OVERLOADED")
            assert (await local.http.head("/events")).status_code == 200, "its headers take no place"
            assert (await local.http.get("/drops")).status_code == 200
            await streams[leaving].close()
            await local.has_streams(1)
            streams[leaving] = await open_stream(TRANSPORTS[1 - leaving], local.url)
        for stream in streams:
            assert (await stream.receive()).type == "SNAPSHOT"
            await stream.close()
        await local.has_streams(0)
        assert not local.places._taken


async def test_streams_of_an_address(database: Database) -> None:
    """SSE and WebSocket together; the neighbours have their own."""
    async with serving(database, max_streams_per_address=2) as local:
        mine, yours = from_address("203.0.113.1"), from_address("203.0.113.2")
        streams = [await open_stream(transport, local.url, headers=mine) for transport in TRANSPORTS]
        for transport in TRANSPORTS:
            assert await refusal_of(local, transport, mine) == (429, "RATE_LIMITED")
        streams += [await open_stream(transport, local.url, headers=yours) for transport in TRANSPORTS]
        await streams[0].close()
        await local.has_streams(3)
        streams[0] = await open_stream("ws", local.url, headers=mine)
        for stream in streams:
            await stream.close()
        await local.has_streams(0)
        assert not local.places._taken


@pytest.mark.parametrize("request_bytes", [GET, UPGRADE], ids=TRANSPORTS)
async def test_leaving_while_it_opens(database: Database, request_bytes: bytes) -> None:
    """The place comes back, whether or not the stream could have been opened."""
    async with serving(database, max_streams=3) as local:
        local.app.components.hub.started.clear()
        port = int(local.url.rpartition(":")[2])
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for connection in connections:
            connection.sendall(request_bytes)
        await local.has_streams(3)
        assert await refusal_of(local, "sse") == (503, "OVERLOADED")
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        local.app.components.hub.started.set()
        await local.has_streams(0)
        stream = await open_stream("sse", local.url)
        await stream.close()


async def test_a_stream_that_is_refused_takes_no_place(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is refused for."""
    async with serving(database, max_streams=1) as local:

        async def is_away(*_: object) -> None:
            raise Unavailable("The database is away.")

        monkeypatch.setattr(local.app.components.event_log, "snapshot", is_away)
        for transport in TRANSPORTS * 2:
            assert (await local.http.get("/events?dropId=bad")).status_code == 400
            assert await refusal_of(local, transport) == (503, "DATABASE_UNAVAILABLE")
        assert local.places._count == 0
        assert not local.places._taken
