"""Behind nginx, with the very configuration of docs/operations.md."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import httpx
import pytest

from lastpair.web.payments import MAX_MESSAGE_BYTES
from tests.support.envelopes import assert_error
from tests.support.nginx import nginx
from tests.support.raw_http import UPGRADE, answers_in, connected, read_answer, read_to_the_end
from tests.support.streams import TRANSPORTS, open_stream

USER = b"X-User-Id: 0190b6c5-7d3e-7abc-9def-0123456789ab\r\n"
HIDDEN = b"GET /api/drops?hidden HTTP/1.1\r\nHost: x\r\nX-Request-Id: hidden\r\n\r\n"
HANDSHAKE = (UPGRADE % b"").split(b"\r\n", 1)[1].removesuffix(b"\r\n")


@pytest.fixture(scope="module")
def url(api_url: str) -> Iterator[str]:
    """The URL of nginx in front of the API."""
    with nginx(api_url) as url:
        yield url


ATTACKS = [
    (method, path, headers)
    for method in (b"POST", b"GET", b"DELETE")
    for path in (b"/api/drops/1", b"/api/ws", b"/api/v1/ws?dropId=1", b"/api/%77s", b"/api/ws/")
    for headers in (
        b"Connection: upgrade\r\nUpgrade: foo\r\n",
        b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        HANDSHAKE.partition(b"\r\n")[2],
    )
]


@pytest.mark.parametrize(("method", "path", "headers"), ATTACKS)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_is_no_request(url: str, method: bytes, path: bytes, headers: bytes, is_chunked: bool) -> None:
    """A body that looks like a request gets no answer, and nobody else gets it: each request has the answer with its own id."""
    head = b"%b %b HTTP/1.1\r\nHost: x\r\nX-Request-Id: attack\r\n%b%b" % (method, path, USER, headers)
    length = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" if is_chunked else b"Content-Length: %d\r\n\r\n"
    request = head + length % len(HIDDEN) + HIDDEN + (b"\r\n0\r\n\r\n" if is_chunked else b"")
    with ExitStack() as stack:
        for number in range(4):
            attacker, victim = (stack.enter_context(connected(url)) for _ in range(2))
            attacker.sendall(request)
            status, answer_headers, _ = read_answer(attacker)
            assert status in range(400, 500) or method == b"GET"
            assert answer_headers["x-request-id"] == "attack"
            victim.sendall(b"GET /api/drops HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: victim-%d\r\n\r\n" % number)
            received = read_to_the_end(victim)
            assert received.lower().count(b"\r\nx-request-id: victim-%d\r\n" % number) == 1
            assert b"hidden" not in received
            assert [status for status, _ in answers_in(received)] == [200]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("drops", [[], [UUID(int=1)]])
async def test_streams(url: str, transport: str, drops: list[UUID]) -> None:
    """Both kinds of stream work through it: the first event arrives at once, because nothing is buffered."""
    stream = await open_stream(transport, url, drops)
    assert (await stream.receive()).type == "SNAPSHOT"
    await stream.close()


async def test_what_it_adds(url: str) -> None:
    """Every answer has HSTS, also an error; /metrics is not served; and many requests share few connections."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for path, status in [("/api/drops", 200), ("/api/nothing", 404), ("/metrics", 404), ("/api/ws", 426)]:
            response = await client.get(path)
            assert response.status_code == status
            assert response.headers["strict-transport-security"] == "max-age=31536000"
        inside = await client.get(httpx.URL(url).copy_with(raw_path=b"/metrics%0A"))
        assert_error(inside, 404, "NOT_FOUND")
        # A message of a payment provider may be as long. This service has no provider.
        told = await client.post("/api/webhooks/stripe", content=b"x" * MAX_MESSAGE_BYTES)
        assert_error(told, 404, "NOT_FOUND")
        answers = await asyncio.gather(*(client.get("/api/drops") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
