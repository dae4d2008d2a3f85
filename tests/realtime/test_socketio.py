"""Front ends that speak Socket.IO: npm's socket.io-client gets the five events of its contract, each once and in order."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import dumps, loads
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import psutil
import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidStatus

from tests.support.database import Database, connected
from tests.support.envelopes import assert_error
from tests.support.factories import change, make_drop, make_due, make_user, purchase, reserve
from tests.support.in_process import InProcess, served, settings_for
from tests.support.servers import STOP_SECONDS
from tests.support.socketio import TYPES, Given, SocketIOClients, announced, socketio_clients
from tests.support.streams import LOCK, Api, fresh_database, newest_id, publish, serving
from tests.support.waiting import eventually

TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]]
OPEN = "/socket.io/?EIO=4&transport=polling"
CREATE = "select id from api.create_drop('Air', 1, 5, $1, now())"
names = pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)


@pytest.fixture(scope="module")
async def url(database: Database) -> AsyncIterator[str]:
    """A migrated database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
async def owner(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of that database's owner."""
    async with connected(url) as connection:
        yield connection


@pytest.fixture
async def service(url: str) -> AsyncIterator[InProcess]:
    """The service in this process, on that database."""
    async with served(settings_for(url)) as service:
        yield service


@pytest.fixture
async def clients(pytestconfig: pytest.Config) -> AsyncIterator[SocketIOClients]:
    """Clients, which the test connects."""
    assert pytestconfig.cache is not None
    async with socketio_clients(pytestconfig.cache) as clients:
        yield clients


def clients_of(service: InProcess) -> list[Any]:
    """The clients that the service knows."""
    app: Any = service.server.config.app
    return list(app.router.routes[-1]._server._clients.values())


async def sell(service: InProcess, owner: asyncpg.Connection) -> str:
    """Everything that happens in the seed's contract, with one drop; returns its id."""
    seller, buyer, late = [await make_user(owner) for _ in range(3)]
    drop_id: str = (await make_drop(service.http, seller))["id"]
    await reserve(service.http, drop_id, buyer)
    await purchase(service.http, drop_id, buyer)
    await make_due(owner, (await reserve(service.http, drop_id, late))["id"])
    assert (await service.http.post("/internal/expire-now")).status_code == 200
    return drop_id


@names
async def test_the_five_events(
    service: InProcess, owner: asyncpg.Connection, clients: SocketIOClients, transports: list[str]
) -> None:
    """A client gets the five events of its contract, with the data of the log, once and in order."""
    await clients.connect(service.url, transports=transports)
    start_id = await newest_id(owner)
    drop_id = await sell(service, owner)
    expected = await announced(owner, start_id)
    given = await clients.given(count=len(expected))
    assert given == expected
    assert {event for event, _ in given} == TYPES
    by_type = dict(given)
    assert by_type["DROP_CREATED"]["drop"]["id"] == drop_id
    assert by_type["STOCK_UPDATED"].keys() >= {"dropId", "availableStock"}
    assert by_type["RESERVATION_EXPIRED"].keys() >= {"dropId", "reservationId"}
    assert by_type["PURCHASE_COMPLETED"].keys() >= {"dropId", "username", "purchasedAt"}
    assert by_type["ACTIVITY_UPDATED"]["latestPurchasers"][0].keys() >= {"userId", "username", "qty", "createdAt"}
    [state] = await clients.states()
    assert (state["transport"], state["log"]) == (transports[-1], ["connect"])


@names
async def test_what_is_for_one_user(
    service: InProcess, owner: asyncpg.Connection, clients: SocketIOClients, transports: list[str]
) -> None:
    """No client gets it, whatever its type."""
    await clients.connect(service.url, transports=transports)
    drop_id, user = UUID(str(await owner.fetchval(CREATE, UUID(await make_user(owner))))), UUID(await make_user(owner))
    start_id = await newest_id(owner)
    statement = "select inventory.publish(array[row($1, $2, $3::json, $4)::inventory.new_event])"
    async with owner.transaction():
        await owner.execute(LOCK)
        for event_type in ("PURCHASE_COMPLETED", "STOCK_UPDATED", "PAYMENT_UPDATED"):
            await owner.execute(statement, drop_id, event_type, '{"secret":1}', user)
        await owner.execute(statement, drop_id, "PURCHASE_COMPLETED", '{"isLast":true}', None)
    [last] = await announced(owner, start_id)
    async with asyncio.timeout(60):
        while last not in (given := await clients.given()):
            await asyncio.sleep(0.05)
    assert not [data for _, data in given if "secret" in data]


@names
async def test_clients_that_come_during_a_sale(
    service: InProcess, owner: asyncpg.Connection, clients: SocketIOClients, transports: list[str]
) -> None:
    """Whenever a client connects, and while it changes from polling to WebSocket, from its first event on it misses none."""
    start_id = await newest_id(owner)
    drop_id = str(await owner.fetchval(CREATE, UUID(await make_user(owner))))
    is_over = asyncio.Event()

    async def sell() -> None:
        while not is_over.is_set():
            await give_and_take(owner, drop_id, 1)

    selling = asyncio.create_task(sell())
    for _ in range(10):
        await clients.connect(service.url, count=3, transports=transports)
    is_over.set()
    await selling
    await give_and_take(owner, drop_id, 5)
    expected = await announced(owner, start_id)
    for number in range(30):
        given = await clients.given(number)
        await eventually(lambda given=given, number=number: ends_like(clients, number, expected))
        given = await clients.given(number)
        assert len(given) > 1
        assert given == expected[-len(given) :]
    assert {(state["transport"], *state["log"]) for state in await clients.states()} == {(transports[-1], "connect")}


async def give_and_take(owner: asyncpg.Connection, drop_id: str, times: int) -> None:
    """Reserve a unit and give it back, so many times, with a STOCK_UPDATED each."""
    user = UUID(await make_user(owner))
    for _ in range(times):
        reservation = await owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), user)
        await owner.fetch("select from api.cancel_reservation($1, $2)", reservation, user)
        await asyncio.sleep(0.005)


async def ends_like(clients: SocketIOClients, number: int, expected: Given) -> bool:
    """Whether the client was given the last of these events."""
    return (await clients.given(number))[-1:] == expected[-1:]


@names
async def test_joining_and_leaving(
    service: InProcess, owner: asyncpg.Connection, clients: SocketIOClients, transports: list[str]
) -> None:
    """Every client is in the room of all drops, and still gets each event once when it joins one. A client that names a drop when
    it connects gets the events of its drops only."""
    seller = UUID(await make_user(owner))
    drops = [str(await owner.fetchval(CREATE, seller)) for _ in range(3)]
    await clients.connect(service.url, transports=transports)
    await clients.connect(service.url, transports=transports, query={"dropId": drops[0]})
    done = {"success": True}
    for client in (0, 1):
        assert await clients.command("ask", client=client, event=["drops:join", {"dropId": drops[1]}]) == done
        assert await clients.command("ask", client=client, event=["drops:leave", {"dropId": drops[0]}]) == done
        for bad in ("?", 7, None):
            answer = await clients.command("ask", client=client, event=["drops:join", {"dropId": bad}])
            assert (answer["success"], answer["error"]["code"]) == (False, "VALIDATION_ERROR")
        assert (await clients.command("ask", client=client, event=["drops:join"]))["success"] is False
        await clients.command("emit", client=client, event=["chat", {"deep": [[[]]]}, "ignored"])
    start_id = await newest_id(owner)
    for drop_id in drops:
        await give_and_take(owner, drop_id, 1)
    expected = await announced(owner, start_id)
    assert await clients.given(0, count=len(expected)) == expected
    assert await clients.given(1, count=2) == [event for event in expected if event[1]["dropId"] == drops[1]]
    assert [state["log"] for state in await clients.states()] == [["connect"]] * 2


async def test_a_draft_is_not_announced(service: InProcess, owner: asyncpg.Connection, clients: SocketIOClients) -> None:
    """It comes as DROP_CREATED when it is published."""
    await clients.connect(service.url, transports=["websocket"])
    seller = await make_user(owner)
    draft = await make_drop(service.http, seller, starts_at=None)
    await change(service.http, draft, status="live")
    [(event, data)] = await clients.given(count=1)
    assert (event, data["drop"]["status"]) == ("DROP_CREATED", "live")


async def test_limits_and_metrics(url: str, owner: asyncpg.Connection, clients: SocketIOClients) -> None:
    """Clients count as streams: for MAX_STREAMS, for the address, for the rate, and in the metrics. Who left does not."""
    async with served(settings_for(url, max_streams=2, rate_limit_streams_per_minute=4)) as service:
        await clients.connect(service.url, transports=["polling", "websocket"])
        await clients.connect(service.url, transports=["polling"])
        assert 'lastpair_streams{transport="socketio"} 2.0' in (await service.http.get(f"{service.url}/metrics")).text
        assert_error(await service.http.get(f"{service.url}{OPEN}"), 503, "OVERLOADED")
        await clients.command("disconnect", client=0)
        await clients.command("disconnect", client=1)
        await service.has_streams(0)
        await service.has_subscribers(0)
        assert (await service.http.get(f"{service.url}{OPEN}")).status_code == 200
        assert_error(await service.http.get(f"{service.url}{OPEN}"), 429, "RATE_LIMITED")
    async with served(settings_for(url, max_streams_per_address=1)) as service:
        await clients.connect(service.url, transports=["websocket"])
        assert_error(await service.http.get(f"{service.url}{OPEN}"), 429, "RATE_LIMITED")


async def test_origins(url: str, clients: SocketIOClients) -> None:
    """A page of a foreign origin can read no answer, post nothing and open no WebSocket; one of CORS_ORIGINS can."""
    shop, evil = ({"origin": f"https://{name}.example"} for name in ("shop", "evil"))
    async with served(settings_for(url, cors_origins=["https://shop.example"])) as service:
        for headers, allowed in ((shop, "https://shop.example"), (evil, None)):
            opened = await service.http.get(f"{service.url}{OPEN}", headers=headers)
            assert (opened.status_code, opened.headers.get("access-control-allow-origin")) == (200, allowed)
            assert opened.headers["cache-control"] == "no-store"
            assert opened.headers["x-content-type-options"] == "nosniff"
            session = f"{service.url}{OPEN}&sid={loads(opened.text[1:])['sid']}"
            posted = await service.http.post(session, content="40", headers=headers)
            assert posted.status_code == (200 if allowed else 403)
        await clients.connect(service.url, transports=["websocket"], extraHeaders=shop)
        await clients.command("connect", url=service.url, count=1, options={"transports": ["websocket"], "extraHeaders": evil})

        async def is_refused() -> bool:
            return any("403" in str(entry) or "error" in entry for entry in (await clients.states())[1]["log"])

        await eventually(is_refused)
        assert not (await clients.states())[1]["connected"]


@asynccontextmanager
async def session(service: InProcess) -> AsyncIterator[str]:
    """The URL of a new session of long polling, which is connected."""
    opened = await service.http.get(f"{service.url}{OPEN}")
    url = f"{service.url}{OPEN}&sid={loads(opened.text[1:])['sid']}"
    assert (await service.http.post(url, content="40")).text == "ok"
    assert (await service.http.get(url)).text.startswith('40{"sid":')
    yield url


@pytest.mark.parametrize(
    "body",
    [
        '451-["a",{"_placeholder":true,"num":0}]',
        "bAAAA",
        "4",
        "",
        "2",
        "44{}",
        "9",
        "3\x1ex",
        "\udcff".encode(errors="surrogateescape"),
    ],
)
async def test_packets_that_no_client_sends(service: InProcess, caplog: pytest.LogCaptureFixture, body: str | bytes) -> None:
    """The session ends, and nothing is logged but the request."""
    async with session(service) as url:
        assert_error(await service.http.post(url, content=body), 400, "VALIDATION_ERROR")
        await service.has_streams(0)
        assert_error(await service.http.get(url), 400, "VALIDATION_ERROR")
    async with connect_websocket(f"{service.url.replace('http', 'ws')}{OPEN.replace('polling', 'websocket')}") as socket:
        await socket.recv()
        await socket.send(body)
        async with asyncio.timeout(60):
            await socket.wait_closed()
    await service.has_streams(0)
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


async def test_too_many_packets(service: InProcess) -> None:
    """The session ends, because handling them would hold others up."""
    async with session(service) as url:
        assert (await service.http.post(url, content="\x1e".join(['42["a"]'] * 100))).text == "ok"
        many = await service.http.post(url, content="\x1e".join(["40"] * 101))
        assert assert_error(many, 400, "VALIDATION_ERROR").startswith("body: ")
        await service.has_streams(0)


@pytest.mark.parametrize("end", ["1", "41"])
async def test_packets_behind_the_end(service: InProcess, caplog: pytest.LogCaptureFixture, end: str) -> None:
    """They are ignored: nothing is logged but the request, and nothing is kept."""
    packets = [end, "40", '420["drops:join",{}]']
    async with session(service) as url:
        assert (await service.http.post(url, content="\x1e".join(packets))).text == "ok"
    async with connect_websocket(f"{service.url.replace('http', 'ws')}{OPEN.replace('polling', 'websocket')}") as socket:
        for packet in ["40", *packets]:
            await socket.send(packet)
        async with asyncio.timeout(5):
            await socket.wait_closed()
    await service.has_streams(0)
    app: Any = service.server.config.app
    await eventually(lambda: not list(app.router.routes[-1]._server.manager.get_namespaces()))
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


async def test_packets_that_are_ignored(service: InProcess) -> None:
    """Other events, acknowledgements, what is no JSON or nested deeply, and other namespaces, which cannot be joined."""
    async with session(service) as url:
        for body in ('42["a",1]', "421[]", "42[", "42" + "[" * 500 + "]" * 500, "431[]", "42/admin,[1]", "41/admin,"):
            assert (await service.http.post(url, content=body)).text == "ok"
        for body in ("40/admin,{}", "40"):
            assert (await service.http.post(url, content=body)).text == "ok"
            assert (await service.http.get(url)).text.startswith("44")
        await service.has_streams(1)


async def test_an_upgrade_that_fails(service: InProcess, owner: asyncpg.Connection) -> None:
    """The client goes on with polling, and misses nothing."""
    drop_id = str(await owner.fetchval(CREATE, UUID(await make_user(owner))))
    start_id = await newest_id(owner)
    async with session(service) as url:
        websocket_url = url.replace("http", "ws").replace("polling", "websocket")
        for packets in ([], ["2probe"], ["2probe", "3"]):
            async with connect_websocket(websocket_url) as socket:
                for packet in packets:
                    await socket.send(packet)
                await give_and_take(owner, drop_id, 1)
        texts: list[str] = []
        expected = await announced(owner, start_id)
        while len(texts) < len(expected):
            texts += [text for text in (await service.http.get(url)).text.split("\x1e") if text.startswith("42")]
        assert [tuple(loads(text[2:])) for text in texts] == expected
        async with connect_websocket(websocket_url) as socket:
            await socket.send("2probe")
            assert await socket.recv() == "3probe"
            await socket.send("5")
            await give_and_take(owner, drop_id, 1)
            assert await socket.recv() == "6"  # would have ended the poll, if there were one
            assert str(await socket.recv()).startswith('42["STOCK_UPDATED"')
            assert_error(await service.http.get(url), 400, "VALIDATION_ERROR")
            with pytest.raises(InvalidStatus):
                await connect_websocket(websocket_url)
    await service.has_streams(0)


async def test_requests_that_are_refused(service: InProcess) -> None:
    """What is wrong is said in the envelope."""
    for query, field in [
        ("", "transport"),
        ("?EIO=4&transport=websocket", "transport"),
        ("?EIO=3&transport=polling", "EIO"),
        ("?EIO=4&transport=polling&j=1", "j"),
        ("?EIO=4&transport=polling&sid=unknown", "sid"),
        ("?EIO=4&transport=polling&dropId=1", "dropId"),
        ("?EIO=3&EIO=4&transport=polling", "EIO"),
        ("?EIO=4&transport=websocket&transport=polling", "transport"),
        ("?EIO=4&transport=polling&sid=a&sid=b", "sid"),
        (f"?EIO=4&transport=polling{'&a' * 500}", "query"),
    ]:
        answer = await service.http.get(f"{service.url}/socket.io/{query}")
        assert assert_error(answer, 400, "VALIDATION_ERROR").startswith(f"{field}: ")
    assert_error(await service.http.put(f"{service.url}{OPEN}"), 405, "METHOD_NOT_ALLOWED")
    assert_error(await service.http.post(f"{service.url}{OPEN}"), 400, "VALIDATION_ERROR")
    assert (await service.http.head(f"{service.url}{OPEN}")).status_code == 200
    assert "Did you mean /socket.io/?" in assert_error(await service.http.get(f"{service.url}/socket.io"), 404, "NOT_FOUND")
    async with session(service) as url:
        [client] = clients_of(service)
        poll = asyncio.create_task(service.http.get(url))
        await eventually(lambda: client.is_polling)
        assert_error(await service.http.get(url), 400, "VALIDATION_ERROR")
        encoded = await service.http.post(url, content="3", headers={"Content-Encoding": "gzip"})
        assert_error(encoded, 415, "UNSUPPORTED_MEDIA_TYPE")
        assert_error(await service.http.post(url, content="3" * 5000), 413, "PAYLOAD_TOO_LARGE")
        assert (await poll).text == "1"
    await service.has_streams(0)


async def test_a_request_of_two_sessions(service: InProcess) -> None:
    """It is of neither, because Engine.IO would take the first one, and the service the last."""
    async with session(service) as one, session(service) as other:
        query = f"{one.partition('?')[2]}&sid={other.rpartition('=')[2]}"
        assert_error(await service.http.post(f"{service.url}/socket.io/?{query}", content="41"), 400, "VALIDATION_ERROR")
        websocket_url = f"{service.url.replace('http', 'ws')}/socket.io/?{query.replace('polling', 'websocket')}"
        with pytest.raises(InvalidStatus):
            await connect_websocket(websocket_url)
        await service.has_streams(2)


async def test_sessions_that_are_abandoned(service: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that connects too late, or is silent, is forgotten, with all that was kept for it."""
    monkeypatch.setattr("lastpair.web.socketio_server.SILENCE_SECONDS", 2.5)
    before = asyncio.all_tasks()
    assert (await service.http.get(f"{service.url}{OPEN}")).status_code == 200
    async with session(service) as url:
        for _ in range(4):
            await asyncio.sleep(1)
            assert (await service.http.post(url, content="3")).text == "ok"
        await service.has_streams(1)
        await service.has_streams(0)
    await service.has_subscribers(0)

    def has_task() -> bool:
        return any("_send_ping" in repr(task) or "Client._run" in repr(task) for task in asyncio.all_tasks() - before)

    await eventually(lambda: not has_task())


async def publish_big(url: str, drop_id: str, count: int, size_bytes: int) -> None:
    """Publish events that no newer one replaces, each in a transaction of its own."""
    async with asyncpg.create_pool(url, min_size=1) as pool:
        for _ in range(count):
            await publish(pool, drop_id, "PURCHASE_COMPLETED", [dumps({"dropId": drop_id, "username": "x" * size_bytes})])


async def test_a_client_that_does_not_poll(service: InProcess, url: str, owner: asyncpg.Connection, small_bounds: None) -> None:
    """Little is kept for it. When it polls at last, it is told to connect again, because it has missed events."""
    drop_id = str(await owner.fetchval(CREATE, UUID(await make_user(owner))))
    async with session(service) as session_url:
        await publish_big(url, drop_id, 100, 5000)
        [client] = clients_of(service)
        assert client.socket.queue._texts_bytes < 128 * 1024
        texts = []
        while (answer := await service.http.get(session_url)).status_code == 200:
            texts += [*answer.text.split("\x1e")]
        assert_error(answer, 400, "VALIDATION_ERROR")
        assert 1 < len([text for text in texts if text.startswith("42")]) < 100
        await service.has_streams(0)


async def test_a_client_that_only_answers_pings(
    service: InProcess, url: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is forgotten when its outbox is full."""
    monkeypatch.setattr("lastpair.web.socketio_server.SILENCE_SECONDS", 2)
    drop_id = str(await owner.fetchval(CREATE, UUID(await make_user(owner))))
    async with session(service) as session_url:
        await publish_big(url, drop_id, 40, 5000)
        for _ in range(5):
            await service.http.post(session_url, content="3")
        await service.has_streams(0)
        await service.has_subscribers(0)
        assert_error(await service.http.post(session_url, content="3"), 400, "VALIDATION_ERROR")


async def test_answers_that_are_not_polled(service: InProcess) -> None:
    """A client that asks, and does not poll, is cut off."""
    async with session(service) as session_url:
        for _ in range(7):
            await service.http.post(session_url, content="\x1e".join(['421["drops:join",{}]'] * 16))
        await service.has_streams(0)


async def test_a_client_that_reads_too_slowly(
    service: InProcess, url: str, owner: asyncpg.Connection, clients: SocketIOClients, small_bounds: None
) -> None:
    """It is cut off, and connects again by itself."""
    drop_id = str(await owner.fetchval(CREATE, UUID(await make_user(owner))))
    await clients.connect(service.url, transports=["websocket"])
    await clients.command("pause", client=0)
    await publish_big(url, drop_id, 150, 100_000)
    await clients.command("resume", client=0)

    async def is_back() -> bool:
        return bool((await clients.states())[0]["log"] == ["connect", "transport close", "connect"])

    await eventually(is_back)
    start_id = await newest_id(owner)
    given = len(await clients.given())
    await give_and_take(owner, drop_id, 2)
    expected = await announced(owner, start_id)
    assert (await clients.given(count=given + len(expected)))[given:] == expected
    await service.has_streams(1)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_process_stops(url: str, clients: SocketIOClients, workers: str) -> None:
    """All clients are told at once, so that they connect to another process."""
    async with serving(url, WEB_CONCURRENCY=workers) as api:
        for transports in TRANSPORTS if workers == "1" else [["websocket"]]:
            await clients.connect(api.url, count=5, transports=transports, reconnection=False)
        assert await asyncio.to_thread(api.service.stop) < STOP_SECONDS

        async def all_left() -> bool:
            return all(state["log"] == ["connect", "transport close"] for state in await clients.states())

        await eventually(all_left)


def busy_workers(api: Api) -> set[int]:
    """The processes that have connections of clients."""
    port = urlsplit(api.url).port
    workers = psutil.Process(api.service.process.pid).children(recursive=True)
    return {worker.pid for worker in workers for each in worker.net_connections() if each.laddr.port == port and each.raddr}


async def test_two_processes(url: str, clients: SocketIOClients) -> None:
    """Over WebSocket alone clients of any process get every event, without a proxy that knows their sessions."""
    async with serving(url, WEB_CONCURRENCY="2") as api:
        count = 0
        while len(busy_workers(api)) < 2:
            await clients.connect(api.url, count=5, transports=["websocket"])
            count += 5
        start_id = await newest_id(api.owner)
        drop_id = str(await api.owner.fetchval(CREATE, UUID(await make_user(api.owner))))
        async with api.owner.acquire() as connection:
            await give_and_take(connection, drop_id, 20)
        expected = await announced(api.owner, start_id)
        for number in range(count):
            assert await clients.given(number, count=len(expected)) == expected


async def test_it_is_not_installed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then requests and handshakes get 404, with a message that says what to install."""
    monkeypatch.setitem(sys.modules, "socketio", None)
    async with served(settings_for(url)) as service:
        answer = await service.http.get(f"{service.url}{OPEN}")
        assert "pip install 'lastpair[socketio]'" in assert_error(answer, 404, "NOT_FOUND")
        with pytest.raises(InvalidStatus) as refused:
            await connect_websocket(f"{service.url.replace('http', 'ws')}{OPEN.replace('polling', 'websocket')}")
        assert refused.value.response.status_code == 404


def test_it_costs_nothing_until_it_is_used() -> None:
    """Its packages are not imported at the start."""
    check = "import sys, lastpair.web.application; print({'socketio', 'engineio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "set()\n"
