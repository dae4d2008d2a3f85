"""What a client gets that connects, or sends its request, at the moment when the process stops: an answer, and no reset."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from lastpair import server
from lastpair.realtime.feed import Feed
from tests.support.in_process import InProcess, served, settings_for
from tests.support.raw_http import GET_HEALTHZ, UPGRADE, answers_in, connected, read_answer, read_to_the_end
from tests.support.servers import Service, started
from tests.support.waiting import PATIENCE_SECONDS, eventually

REQUEST = b"GET /api/drops HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST /api/drops HTTP/1.1\r\nHost: x\r\nX-User-Id: 0190b6c5-7d3e-7abc-9def-0123456789ab\r\nContent-Length: 2\r\n\r\n"
CLIENTS = 100


def assert_stopping(answer: tuple[int, dict[str, str], bytes]) -> None:
    """The answer must be the 503 of a process that stops."""
    status, headers, body = answer
    assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
    assert b"DATABASE_UNAVAILABLE" in body
    assert b"stopping" in body


@pytest.fixture
def service(own_database_url: str, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service with this many processes."""
    with started(DATABASE_URL=own_database_url, EXPIRY_POLL_MS="3600000", WEB_CONCURRENCY=str(request.param)) as service:
        service.wait_until_ready()
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("service", [1, 2], indirect=True)
def test_clients_that_connect_while_it_stops(service: Service) -> None:
    """Clients that connect after the process stopped accepting get 503. One that sends nothing gets the end of the connection."""
    with ExitStack() as stack:
        held = [stack.enter_context(connected(service.url)) for _ in range(20)]  # as many that each process has some
        for connection in held:
            connection.sendall(HALF)  # in flight, so that the shutdown waits
        idle = stack.enter_context(connected(service.url))
        idle.sendall(GET_HEALTHZ)
        assert read_answer(idle)[0] == 200
        os.kill(service.process.pid, signal.SIGTERM)
        assert idle.recv(1) == b""  # one process has closed its listener, and its idle connections after it
        clients = [stack.enter_context(connected(service.url)) for _ in range(CLIENTS)]
        silent = stack.enter_context(connected(service.url))
        for client in clients:
            client.sendall(REQUEST)
        for connection in held:
            connection.sendall(b"{}")
        for client in clients:
            status, headers, body = read_answer(client)
            # With two processes the other one may still accept some.
            assert status == 503 or (status == 200 and b"drops" in body)
            if status == 503:
                assert_stopping((status, headers, body))
                assert client.recv(1) == b""
        assert silent.recv(1) == b""
        for connection in held:
            assert read_answer(connection)[0] == 415  # no media type, but an answer
    assert service.process.wait(timeout=PATIENCE_SECONDS) == 0, service.log()


@pytest.mark.slow
@pytest.mark.parametrize("service", [1, 2], indirect=True)
def test_a_full_backlog(service: Service) -> None:
    """A process that was frozen wakes up with a full backlog and SIGTERM: every request is answered."""
    with ExitStack() as stack:
        idle = stack.enter_context(connected(service.url))
        idle.sendall(GET_HEALTHZ)
        assert read_answer(idle)[0] == 200
        os.killpg(service.process.pid, signal.SIGSTOP)
        idle.sendall(REQUEST)
        clients = [idle, *(stack.enter_context(connected(service.url)) for _ in range(CLIENTS))]
        for client in clients[1:]:
            client.sendall(REQUEST)
        os.kill(service.process.pid, signal.SIGTERM)
        os.killpg(service.process.pid, signal.SIGCONT)
        for client in clients:
            answer = read_answer(client)
            if answer[0] != 200:
                assert_stopping(answer)
    assert service.process.wait(timeout=PATIENCE_SECONDS) == 0, service.log()
    assert "ERROR" not in service.log()


def test_the_backlog_is_answered() -> None:
    """Each client in the queue gets one 503 when its request arrives, however large that is, and one that says nothing none."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(url)) for _ in range(3)]
        gone = stack.enter_context(connected(url))
        gone.close()
        clients[0].sendall(REQUEST)
        clients[1].sendall(HALF + b"x" * 500_000)
        server.answer_backlog([listener])
        for client in clients[:2]:
            ((status, body),) = answers_in(read_to_the_end(client))
            assert status == 503
            assert b"stopping" in body
        assert read_to_the_end(clients[2]) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


def test_an_empty_backlog_takes_no_time() -> None:
    """Without clients the listener is closed at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    server.answer_backlog([listener])
    assert listener.fileno() == -1


@pytest.fixture
async def in_process(own_database_url: str) -> AsyncIterator[InProcess]:
    """The service in this process."""
    async with served(settings_for(own_database_url)) as service:
        yield service


@pytest.mark.parametrize("before", [b"", GET_HEALTHZ, REQUEST[:10], REQUEST[:-2]], ids=["new", "idle", "begun", "almost"])
async def test_a_request_on_an_open_connection(in_process: InProcess, before: bytes) -> None:
    """A request that arrives on a connection that was idle when the process began to stop gets 503, and no handshake is taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(in_process.url.rpartition(":")[2]))
    writer.write(before)
    if before == GET_HEALTHZ:
        await reader.readuntil(b"}}")
    while not in_process.server.server_state.connections:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    for connection in list(in_process.server.server_state.connections):
        connection.shutdown()
    rest = REQUEST if before in (b"", GET_HEALTHZ) else REQUEST[len(before) :]
    writer.write(rest + b"GET /api/drops HTTP/1.1\r\nHost: x\r\n\r\n")
    ((status, body),) = answers_in(await reader.read())
    assert status == 503
    assert b"stopping" in body
    writer.close()


@pytest.mark.parametrize("before", [b"", REQUEST[:10]], ids=["nothing", "a part"])
async def test_no_request_on_an_open_connection(in_process: InProcess, before: bytes) -> None:
    """A connection on which nothing happens is closed soon, with 503 if a part of a request has arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(in_process.url.rpartition(":")[2]))
    writer.write(before)
    while not in_process.server.server_state.connections:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    for connection in list(in_process.server.server_state.connections):
        connection.shutdown()
    assert [status for status, _ in answers_in(await reader.read())] == ([503] if before else [])
    writer.close()


async def test_a_handshake_that_is_not_answered(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A WebSocket handshake whose answer waits for the database gets 503 with its request id, and nothing is logged."""
    is_opening, may_open, open_feed = asyncio.Event(), asyncio.Event(), Feed.open

    async def open_later(feed: Feed, last_event_id: str | None) -> None:
        is_opening.set()
        await may_open.wait()
        await open_feed(feed, last_event_id)

    monkeypatch.setattr(Feed, "open", open_later)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(in_process.url.rpartition(":")[2]))
    writer.write((UPGRADE % b"").replace(b"Host: x\r\n", b"Host: x\r\nX-Request-Id: mine-1\r\n"))
    await is_opening.wait()
    (connection,) = in_process.server.server_state.connections
    connection.shutdown()
    may_open.set()
    answer = await reader.read()
    ((status, body),) = answers_in(answer)
    assert (status, b"stopping" in body) == (503, True)
    assert b"\r\nretry-after: 1\r\n" in answer
    assert b"\r\nx-request-id: mine-1\r\n" in answer
    await eventually(lambda: not in_process.server.server_state.tasks)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    writer.close()
