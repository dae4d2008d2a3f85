"""Where a message ends: each request gets one answer, no body is read as a request, and what is not clear is refused."""

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from tests.support.debian import needed
from tests.support.in_process import server_for, url_of
from tests.support.raw_http import UPGRADE, answers_in, connected, read_answer, read_to_the_end, talk
from tests.support.waiting import wait_for

HOST = b"Host: x\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
IN_CHUNKS = b"5\r\n%b\r\n%x;name=value\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (HIDDEN[:5], len(HIDDEN) - 5, HIDDEN[5:])
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HANDSHAKE = (UPGRADE % b"").split(b"\r\n", 1)[1].removesuffix(b"\r\n")
"""The headers of a WebSocket handshake."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """ASGI: answer with the method, the Host, the path and the body.

    The answer of /stream has no length, and the one of /early does not wait for the body.
    """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body, more_body = b"", scope["path"] != "/early"
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more_body = body + message["body"], message["more_body"]
    host = dict(scope["headers"]).get(b"host", b"-")
    answer = b" ".join([scope["method"].encode(), host, scope["raw_path"], body])
    streams = scope["path"] == "/stream"
    headers = [] if streams else [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if streams:
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of that application behind the product's protocols, on a thread of its own."""
    server = server_for(echo, interface="asgi3", loop="uvloop", lifespan="off", timeout_keep_alive=3600)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve())

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: server.started)
    yield url_of(server)
    server.should_exit = server.force_exit = True
    thread.join(timeout=20)


def pieces(request: bytes, way: str) -> Iterator[bytes]:
    """The request as a whole, its head before the rest, or single bytes, with pauses so that each is read by itself."""
    head, separator, rest = request.partition(b"\r\n\r\n")
    if way == "at once":
        yield request
    elif way == "head first":
        yield head + separator
        time.sleep(0.01)
        yield rest
    else:
        for index in range(len(request)):
            yield request[index : index + 1]
            time.sleep(0.0001)


def sent(url: str, request: bytes, way: str) -> list[tuple[int, bytes]]:
    """All the answers to these bytes."""
    with connected(url) as connection:
        for piece in pieces(request, way):
            connection.sendall(piece)
        return answers_in(read_to_the_end(connection))


in_every_way = pytest.mark.parametrize("way", ["at once", "head first", pytest.param("byte by byte", marks=pytest.mark.slow)])


@pytest.mark.parametrize(
    "first",
    [
        *[b"Connection: %b\r\nUpgrade: foo\r\n" % value for value in (b"upgrade", b"keep-alive, Upgrade", b"UPGRADE,x")],
        *[
            b"Upgrade: %b\r\nConnection: Upgrade\r\n" % value
            for value in (b"h2c", b"websocket", b"a, b/1, websocket", b"TLS/1.0")
        ],
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        b"Upgrade: foo\r\nUpgrade: bar\r\nConnection: x\r\nConnection: upgrade\r\n",
        HANDSHAKE.replace(HOST, b""),
    ],
    ids=lambda first: first.decode().replace("\r\n", "; ")[:60],
)
@pytest.mark.parametrize("method", [b"POST", b"GET", b"DELETE", b"M-SEARCH"])
@in_every_way
def test_an_upgrade_that_is_not_taken(url: str, way: str, method: bytes, first: bytes) -> None:
    """The body is the body, with a length or in chunks, and the requests behind it are answered."""
    for body in (LENGTH + HIDDEN, CHUNKED + IN_CHUNKS) if way != "byte by byte" or method == b"POST" else (LENGTH + HIDDEN,):
        request = b"%b /api/ws HTTP/1.1\r\n%b%b%b" % (method, HOST, first, body)
        answer = 200, b"%b x /api/ws %b" % (method, HIDDEN)
        assert sent(url, request * 2 + LAST, way) == [answer, answer, (200, b"GET x /last ")]


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        (b"GET /elsewhere HTTP/1.1", HANDSHAKE),
        (b"GET /api/%77s HTTP/1.1", HANDSHAKE),
        (b"HEAD /api/ws HTTP/1.1", HANDSHAKE),
        (b"GET /api/ws HTTP/1.1", HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: websocket, foo")),
        (b"GET /api/ws HTTP/1.1", HANDSHAKE + b"Upgrade: foo\r\n"),
        (b"GET /api/ws HTTP/1.1", HANDSHAKE.replace(b"Connection: Upgrade\r\n", b"")),
        (b"GET /api/ws HTTP/1.1", HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: upgraded")),
    ],
)
@in_every_way
def test_what_is_no_handshake(url: str, way: str, request_line: bytes, headers: bytes) -> None:
    """It is an ordinary request, and so is the one behind it."""
    with connected(url) as connection:
        for piece in pieces(request_line + b"\r\n" + headers + b"\r\n" + LAST, way):
            connection.sendall(piece)
        is_head = request_line.startswith(b"HEAD")
        assert read_answer(connection, has_body=not is_head)[0] == 200
        assert read_answer(connection)[2] == b"GET x /last "


@pytest.mark.parametrize("target", [b"/api/ws", b"/api/v1/ws?dropId=1", b"http://x/api/ws"])
@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_handshake(url: str, target: bytes, is_at_once: bool) -> None:
    """A handshake on a path of the WebSocket leaves HTTP. Frames that come with it or right behind it are not lost."""
    handshake, frame = b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HANDSHAKE), b"\x81\x82\0\0\0\0hi"
    with connected(url) as connection:
        for piece in [handshake + frame] if is_at_once else [handshake, frame]:
            connection.sendall(piece)
        assert read_answer(connection)[0] == 101
        assert connection.recv(4, socket.MSG_WAITALL) == b"\x81\x02hi"


CLEAR = {
    b"GET /a HTTP/1.1\r\nHost: x.example:8080 \r\n\r\n": b"GET x.example:8080 /a ",
    b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n": b"GET [::1]:80 /a ",
    b"GET http://b.example/a?b HTTP/1.1\r\nHost: x\r\n\r\n": b"GET b.example /a ",
    b"GET HTTPS://b.example:1 HTTP/1.1\r\nHost: x\r\n\r\n": b"GET b.example:1 / ",
    b"GET http://b?a HTTP/1.1\r\nHost: x\r\n\r\n": b"GET b / ",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n": b"OPTIONS x * ",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 03 \r\n\r\nabc": b"POST x /a abc",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED \r\n\r\n0003\r\nabc\r\n0\r\n\r\n": b"POST x /a abc",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc": b"POST x /a abc",
    b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n": b"GET x /a ",
    b"GET /a HTTP/1.1\r\nA: /a RTSP/1.1\r\nHost: x\r\nB: GET /a RTSP/1.1\r\nC: b ICE/\r\n\r\n": b"GET x /a ",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\nGET /a RTSP/1.1\r\n": b"POST x /a GET /a RTSP/1.1\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\na  RTSP": b"POST x /a a  RTSP",
    b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: foo\r\nContent-Length: 6\r\n\r\n RTSP/": b"POST x /a  RTSP/",
    b"SOURCE /a HTTP/1.1\r\nHost: x\r\n\r\n": b"SOURCE x /a ",
}


@pytest.mark.parametrize("request_bytes", CLEAR)
@in_every_way
def test_clear_requests(url: str, way: str, request_bytes: bytes) -> None:
    """Unusual requests that every parser reads in the same way are served."""
    assert sent(url, request_bytes + LAST, way) == [(200, CLEAR[request_bytes]), (200, b"GET x /last ")]


def each(template: bytes, values: str, body: bytes = b"") -> list[bytes]:
    """The template with each of these values, which have a bar between them; the body goes behind it."""
    return [template % value.encode("latin-1") + body for value in values.split("|")]


POST = b"POST /a HTTP/1.1\r\n" + HOST
LINE = POST + b"%b\r\n\r\n"
CODING = POST + b"Transfer-Encoding:%b\r\n\r\n"
NO_CHUNK = b"0\r\n\r\n"
UNCLEAR = [
    # the version
    *each(b"GET /a HTTP/%b\r\nHost: x\r\n\r\n", "2.0|1.2|0.9|3.0|1.10|11|1.1 |"),
    *each(b"GET /a%b/1.1\r\nHost: x\r\n\r\n", " RTSP|  RTSP|            RTSP"),
    b"GET RTSP/1.1 RTSP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\rGET /a RTSP/1.0\r\n\r\n",
    b"SOURCE /a ICE/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * RTSP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a RTSP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: foo\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /api/ws RTSP/1.1\r\n" + HANDSHAKE + b"\r\n",
    *[b"GET /a\r\n\r\n", b"GET /a http/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    # the host
    b"GET /a HTTP/1.1\r\n\r\n",
    *each(b"GET /a HTTP/1.1\r\nHost: %b\r\n\r\n", "|a b|a,b|a/b|u@a|a:b|[|a:1:2|\xe4"),
    *each(b"GET /a HTTP/1.1\r\nHost: x\r\nHost: %b\r\n\r\n", "x|y|"),
    *each(b"GET /a HTTP/1.0\r\nHost: %b\r\n\r\n", "x\r\nHost: x|x\r\nHost: y|a b"),
    # the request target
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n" + LENGTH,
    b"CONNECT /api/ws HTTP/1.1\r\n" + HANDSHAKE + b"\r\n",
    *each(
        b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n",
        "*|a|http:///a|http://u@b/|ftp://b/|/a#b|http://b/a#b|/\x80|/\0|/\t|/a b|http://a b/",
    ),
    # the length
    *each(POST + b"Content-Length:%b\r\n\r\n", "| | +3| -3| 0x3| 3,3| 3, 3| 3_0| 3 3| 3.0| 3;|\x0b3| \xb2| three| 1" + "0" * 30),
    *each(
        POST + b"Content-Length: 3\r\n%b\r\n\r\n",
        "Content-Length: 3|Content-Length: 4|content-length:|Transfer-Encoding: chunked",
    ),
    *each(LINE, "Content-Length : 3|Transfer-Encoding: chunked\r\ncontent-length: 3|Content-Length: 0\r\nTransfer-Encoding: x"),
    # the transfer coding
    *each(CODING, " gzip, chunked| chunked, chunked| identity| chunked, identity| ,chunked| chunked,||xchunked", NO_CHUNK),
    *each(CODING, ' chunked;a=b| "chunked"| \x0bchunked| gzip| chunked\0| identity, chunked', NO_CHUNK),
    *each(CODING, " chunked\r\nTransfer-Encoding: chunked| identity\r\nTransfer-Encoding: chunked", NO_CHUNK),
    *each(CODING, " chunked\r\nTransfer-Encoding: identity| gzip\r\ntransfer-encoding: chunked", NO_CHUNK),
    *each(b"POST /a HTTP/1.0\r\nTransfer-Encoding: %b\r\n\r\n", "chunked|gzip, chunked|identity", NO_CHUNK),
    *each(LINE, "Upgrade: foo\r\nConnection: upgrade\r\nTransfer-Encoding: gzip, chunked", NO_CHUNK),
    *each(LINE, "Upgrade: foo\r\nConnection: upgrade\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", NO_CHUNK),
    # lines
    *each(LINE, "A : b|A\t: b|: b|A b: c|A|A\0: b|A: b\0|A: b\rC: d|A: b\nC: d|A: b\r\n c|A: b\r\n\tc| A: b|A: \x7f|\xe4: b"),
    *[b"GET /a HTTP/1.1\nHost: x\n\n", b"GET /a HTTP/1.1\r\nHost: x\r\n\n", b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n"],
    *[b" GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n", b"get /a HTTP/1.1\r\nHost: x\r\n\r\n"],
    # chunks
    *each(POST + CHUNKED + b"%b\r\nabc\r\n0\r\n\r\n", "0x3| 3|3 |+3|-3||3_|g|3,3|3\t|3;|3;a\n|3;a\r|3;a=\0|1" + "0" * 16),
    *each(POST + CHUNKED + b"%b\r\n0\r\n\r\n", '3\nabc|3\r\nabc\n0|3\r\nabcd|3;a="\n"\r\nabc|0\n\n|0\n|0\r\rX'),
    *each(POST + CHUNKED + b"3\r\nabc\r\n0\r\n%b\r\n\r\n", "A : b|A: b\nC: d| A: b|Content-Length: 3|Transfer-Encoding: chunked"),
]


@pytest.mark.parametrize("request_bytes", UNCLEAR, ids=lambda request_bytes: repr(request_bytes[:90]))
@in_every_way
def test_unclear_requests(url: str, way: str, request_bytes: bytes) -> None:
    """What two parsers could read in two ways is refused, the connection is closed, and what follows is not read."""
    ((status, body),) = sent(url, request_bytes + LAST, way)
    assert status == 400
    assert json.loads(body)["error"]["code"] == "VALIDATION_ERROR"


PROTOCOL_PARTS = [
    [b"GET /a", b" RTSP/1.1\r\n"],
    [b"GET /a ", b"RTSP/1.1\r\n"],
    [b"GET /a ", b" ", b" RTSP/1.1\r\n"],
    [b"GET /a RT", b"SP/1.1\r\n"],
    [b"GET /a RTS", b"P", b"/", b"1.1\r\n"],
    [b"SOURCE /a  I", b"CE/1.1\r\n"],
]


@pytest.mark.parametrize("before", [b"", POST + b"Content-Length: 3\r\n\r\nabc"], ids=["first", "second"])
@pytest.mark.parametrize("parts", PROTOCOL_PARTS, ids=lambda parts: b"|".join(parts).decode().strip())
def test_another_protocol_in_parts(url: str, parts: list[bytes], before: bytes) -> None:
    """Another protocol in the request line is refused wherever TCP cuts it; the same bytes in a body are taken."""
    body = b"".join(parts)
    good = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    for begin, answers in ((before, [400]), (before + good, [200, 200])):
        with connected(url) as connection:
            for piece in [begin + parts[0], *parts[1:], HOST + b"\r\n" if answers == [400] else LAST]:
                connection.sendall(piece)
                time.sleep(0.005)  # so that each is read by itself
            found = [status for status, _ in answers_in(read_to_the_end(connection))]
            assert found == [200] * bool(before) + answers


@in_every_way
def test_an_unclear_request_behind_others(url: str, way: str) -> None:
    """The requests before it are answered, then it is refused."""
    good = POST + b"Content-Length: 3\r\n\r\nabc"
    for bad in (b"nonsense\r\n\r\n", POST + CHUNKED + b"x"):
        first, second, (status, _) = sent(url, good * 2 + bad + LAST, way)
        assert first == second == (200, b"POST x /a abc")
        assert status == 400


@pytest.mark.parametrize(
    ("trailer", "is_last"),
    [
        (b"Connection: close", True),
        (b"A: b\r\nconnection: x, Close", True),
        (b"Connection: keep-alive", False),
        (b"Connection: upgrade\r\nUpgrade: websocket", False),
        (b"Expect: 100-continue", False),
    ],
)
@pytest.mark.parametrize("way", ["at once", "head first"])
def test_a_trailer_about_the_connection(url: str, way: str, trailer: bytes, is_last: bool) -> None:
    """A trailer `Connection: close` ends the connection behind the answer, and no request disappears without a word."""
    request = POST + CHUNKED + b"3\r\nabc\r\n0\r\n%b\r\n\r\n" % trailer
    answers = [(200, b"POST x /a abc"), (200, b"GET x /last ")]
    with connected(url) as connection:
        for piece in pieces(request + LAST, way):
            connection.sendall(piece)
        assert answers_in(read_to_the_end(connection)) == answers[: 1 if is_last else 2]


def test_a_trailer_behind_the_answer(url: str) -> None:
    """A trailer `Connection: close` of a request that is answered already ends the connection."""
    with connected(url) as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\n" + HOST + CHUNKED)
        assert read_answer(connection)[0] == 200
        connection.sendall(b"0\r\nConnection: close\r\n\r\n")
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "connection_header", [b"", b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"]
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_an_old_client(url: str, method: bytes, connection_header: bytes) -> None:
    """An answer without a length goes to an HTTP/1.0 client as it is, without chunks, and the end of the connection ends it."""
    request = b"%b /stream HTTP/1.0\r\nExpect: 100-continue\r\n%b\r\n" % (method, connection_header)
    head, _, body = talk(url, request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close" in head
    assert b"transfer-encoding" not in head
    assert body == (b"" if method == b"HEAD" else b"first GET - /stream ")
    answer = talk(url, request.replace(b"/stream", b"/a"))
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" if method == b"HEAD" else b"\r\n\r\nGET - /a ")


def test_events_for_an_old_client(api_url: str) -> None:
    """The event stream goes to an HTTP/1.0 client without chunks."""
    with connected(api_url) as connection:
        connection.sendall(b"GET /api/events HTTP/1.0\r\n\r\n")
        received = b""
        while b"data: " not in received:
            received += connection.recv(65_536) or pytest.fail(f"closed after {received!r}")
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"retry: ")


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"br", b"gzip, identity", b"aws-chunked", b"x"])
@pytest.mark.parametrize("path", [b"/api/drops", b"/api/internal/expire-now"])
def test_an_encoded_body(api_url: str, path: bytes, coding: bytes) -> None:
    """A Content-Encoding is refused with 415 that names the header and says which coding is accepted."""
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nX-User-Id: 0190b6c5-7d3e-7abc-9def-0123456789ab\r\nConnection: close\r\n" % path
    content = b"Content-Type: application/json\r\nContent-Encoding: %b\r\nContent-Length: 2\r\n\r\n{}" % coding
    answer = talk(api_url, head + content)
    ((status, body),) = answers_in(answer)
    assert (status, json.loads(body)["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert b"Content-Encoding" in body
    assert b"\r\naccept-encoding: identity\r\n" in answer
    identity = answers_in(talk(api_url, head + content.replace(coding, b"identity")))
    assert identity[0][0] != 415


ENCODED = "Content-Type: application/json|Content-Encoding: %s|content-encoding: %s"
TWO_CODINGS = [ENCODED % pair for pair in (("identity", "gzip"), ("gzip", "identity"), ("", "br"), ("identity", "identity, x"))]
TWO_TYPES = "Content-Type: application/json|content-type: %s"


@pytest.mark.parametrize("headers", [*TWO_CODINGS, *(TWO_TYPES % other for other in ("text/plain", "application/json", ""))])
@pytest.mark.parametrize("path", ["drops", "internal/expire-now"])
def test_a_second_header_about_the_body(api_url: str, path: str, headers: str) -> None:
    """A second Content-Encoding or Content-Type is not overlooked, because a proxy may have looked at that one."""
    head = f"POST /api/{path} HTTP/1.1|Host: x|X-User-Id: 0190b6c5-7d3e-7abc-9def-0123456789ab|Connection: close|{headers}"
    request = f"{head}|Content-Length: 2||{{}}".replace("|", "\r\n").encode()
    ((status, body),) = answers_in(talk(api_url, request))
    assert (status, json.loads(body)["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_curl_with_http2(url: str) -> None:
    """`curl --http2` asks for an upgrade to h2c. Its request is answered over HTTP/1.1."""
    curl = needed(lambda: shutil.which("curl"), "curl", "curl")
    command = [curl, "--silent", "--http2", "--data", "hello", "--max-time", "60", f"{url}/a"]
    run = subprocess.run(command, capture_output=True, check=True)
    assert run.stdout.startswith(b"POST 127.0.0.1:")
    assert run.stdout.endswith(b" /a hello")
