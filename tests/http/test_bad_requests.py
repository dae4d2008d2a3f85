"""Requests that are wrong outside of the JSON in their body: sizes, media types, ids, and bytes that are not HTTP."""

from collections.abc import AsyncIterator
from json import dumps
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.envelopes import JSON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import available_stock, reserve
from tests.support.raw_http import GET_HEALTHZ, connected, talk
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")

LIMIT_BYTES = 64 * 1024
NEW_DROP = dumps({"name": "Air", "price": 1, "total_stock": 3}).encode()
ID = "0190b6c5-7d3e-7abc-9def-0123456789ab"


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    """The content in pieces, so that its length is not announced."""
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("size_bytes", "status"), [(LIMIT_BYTES - 1, 201), (LIMIT_BYTES, 201), (LIMIT_BYTES + 1, 413), (900_000, 413)]
)
async def test_the_largest_body(http: httpx.AsyncClient, seller: str, chunked: bool, size_bytes: int, status: int) -> None:
    """A body may have 64 KiB and not one byte more, whether or not its size is announced."""
    content = NEW_DROP.ljust(size_bytes)
    response = await http.post("/drops", content=chunks(content) if chunked else content, headers=as_user(seller) | JSON)
    if status == 201:
        assert_success(response, "drop", 201)
    else:
        assert str(LIMIT_BYTES) in assert_error(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("PATCH", f"/drops/{ID}"), ("POST", f"/drops/{ID}/reserve"), ("POST", f"/drops/{ID}/purchase")],
        *[("DELETE", f"/reservations/{ID}"), ("POST", "/internal/users"), ("POST", "/internal/expire-now")],
    ],
)
async def test_too_large_everywhere(http: httpx.AsyncClient, seller: str, method: str, path: str) -> None:
    """A body that is too large is refused even where no body is wanted."""
    content = NEW_DROP.ljust(LIMIT_BYTES + 1)
    for sent in (content, chunks(content)):
        response = await http.request(method, path, content=sent, headers=as_user(seller) | JSON)
        assert_error(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("length", [10**7, 10**12, 2**63 - 1])
def test_a_gigantic_body_is_refused_unread(api_url: str, seller: str, length: int) -> None:
    """A gigantic body is refused by its announced length alone, and the connection is closed."""
    head = f"POST /api/drops HTTP/1.1\r\nHost: a\r\nX-User-Id: {seller}\r\nContent-Length: {length}\r\n\r\n"
    answer = talk(api_url, head.encode() + b"{")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"PAYLOAD_TOO_LARGE"' in answer


@pytest.mark.parametrize(
    "media_type",
    [
        *[None, "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*"],
        *["application/merge-patch+json", "application/json, text/plain", "application", "application/jsonp", "json", ";"],
    ],
)
async def test_media_types_that_are_not_json(http: httpx.AsyncClient, seller: str, drop: Row, media_type: str | None) -> None:
    """A body of another media type is 415 UNSUPPORTED_MEDIA_TYPE, whether or not the endpoint reads one."""
    headers = as_user(seller) | ({} if media_type is None else {"Content-Type": media_type})
    for method, path, content in [
        ("POST", "/drops", NEW_DROP),
        ("PATCH", f"/drops/{drop['id']}", b'{"name": "B"}'),
        ("POST", f"/drops/{drop['id']}/reserve", b"{}"),
        ("POST", "/internal/users", b"{}"),
    ]:
        message = assert_error(await http.request(method, path, content=content, headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")
        assert "Content-Type" in message


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        "Application/JSON",
        "application/json ; x=y",
        "application/json;",
    ],
)
async def test_media_types_that_are_json(http: httpx.AsyncClient, seller: str, media_type: str) -> None:
    """The case and the parameters of application/json do not matter."""
    response = await http.post("/drops", content=NEW_DROP, headers=as_user(seller) | {"Content-Type": media_type})
    assert_success(response, "drop", 201)


@pytest.mark.parametrize("media_type", ["text/plain", "application/json", ""])
async def test_no_body_needs_no_media_type(http: httpx.AsyncClient, user: str, drop: Row, media_type: str) -> None:
    """Any Content-Type is accepted if there is no body."""
    response = await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user) | {"Content-Type": media_type})
    assert_success(response, "reservation", 201)


@pytest.mark.parametrize("action", ["reserve", "purchase", "cancel", "expire-now"])
async def test_endpoints_that_need_no_body(
    http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, drop: Row, action: str
) -> None:
    """An empty object is accepted, with or without a length. An unknown field is refused, and nothing is done."""
    held = None if action == "reserve" else await reserve(http, drop["id"], user)
    method, path = "POST", f"/drops/{drop['id']}/{action}"
    if action == "cancel":
        method, path = "DELETE", f"/reservations/{held and held['id']}/cancel"
    if action == "expire-now":
        path = "/internal/expire-now"

    async def send(content: bytes, *, chunked: bool) -> httpx.Response:
        return await http.request(method, path, content=chunks(content) if chunked else content, headers=as_user(user) | JSON)

    before = await available_stock(owner, drop["id"])
    for content in (b'{"colour": 2}', b"[]", b"null", b"x", b'{"a": 1, "a": 1}'):
        for chunked in (False, True):
            assert_invalid(await send(content, chunked=chunked), "colour" if b"colour" in content else "body")
    assert await available_stock(owner, drop["id"]) == before
    response = await send(b"{}", chunked=True)
    assert response.status_code in (200, 201), response.text
    response = await send(b"{}", chunked=False)
    assert response.status_code in (200, 409), response.text


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":[' + b",".join([b"0"] * 1990) + b"]}",
        b'{"a":' + b"1" * 60_000 + b"}",
        b'{"a":"' + b"\\u0041" * 9000 + b'"}',
        b"[" * 60_000,
    ],
    ids=lambda content: repr(content[:10]),
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", f"/drops/{ID}/{action}") for action in ("reserve", "purchase")],
        *[("DELETE", f"/reservations/{ID}"), ("POST", "/internal/expire-now")],
    ],
)
async def test_a_long_body_that_is_not_wanted(http: httpx.AsyncClient, method: str, path: str, content: bytes) -> None:
    """It is refused unparsed, because anybody can send it and parsing it would hold up others."""
    response = await http.request(method, path, content=content, headers=JSON)
    assert assert_error(response, 400, "VALIDATION_ERROR") == "body: must not be larger than 512 bytes here"


async def test_a_body_on_get_is_ignored(http: httpx.AsyncClient) -> None:
    """A body means nothing to a GET."""
    assert_success(await http.request("GET", "/drops", content=b"nope", headers=JSON), "drops")


@pytest.mark.parametrize(
    "given",
    [
        *["1", "me", "null", ID[:-1], ID + "0", ID.replace("-", ""), "{" + ID + "}", "urn:uuid:" + ID, ID.replace("-", "_")],
        *[ID.replace("a", "g"), ID + "%00", "%00", ID + "%0a", ID + "%20", "%20" + ID, "%ff", "%F0%9F%91%9F", "x" * 8_000],
        *["' or 1=1 --", "..%5C..", ID + "%3Fa"],
        ID.replace("0", "%D9%A0"),  # Arabic-Indic zeros
        ID.replace("0", "%EF%BC%90"),  # full-width zeros
    ],
    ids=lambda given: given[:40],
)
async def test_bad_ids(http: httpx.AsyncClient, seller: str, api_url: str, given: str) -> None:
    """An id in any form but the canonical 36 characters is a 400 that names the path's parameter."""
    for method, path, field in [
        ("GET", "/drops/{}", "dropId"),
        ("PATCH", "/drops/{}", "dropId"),
        ("POST", "/drops/{}/reserve", "dropId"),
        ("POST", "/v1/drops/{}/purchase", "dropId"),
        ("DELETE", "/reservations/{}", "id"),
        ("DELETE", "/v1/reservations/{}/cancel", "id"),
    ]:
        url = httpx.URL(api_url).copy_with(raw_path=("/api" + path.format(given.replace(" ", "%20"))).encode())
        content = b'{"name": "B"}' if method == "PATCH" else None
        response = await http.request(method, url, content=content, headers=as_user(seller) | (JSON if content else {}))
        assert_invalid(response, field)


async def test_unknown_headers_are_ignored(http: httpx.AsyncClient, seller: str) -> None:
    """Headers may be many, long, repeated or not even text; of X-User-Id the first counts."""
    headers = [(b"X-User-Id", seller.encode()), (b"X-User-Id", b"second"), (b"X-Junk", b"\xff\xfe"), (b"X-Long", b"x" * 30_000)]
    headers += [(f"X-Many-{n}".encode(), b"1") for n in range(100)]
    assert_success(await http.get("/purchases/me", headers=headers), "purchases")


# Bytes


LIST, POST, HOST, LAST = (
    b"GET /api/drops HTTP/1.1\r\n",
    b"POST /api/drops HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Host: a\r\nConnection: close\r\n",
)
EXPIRE = b"POST /api/internal/expire-now HTTP/1."


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n\0\0\0 nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # a TLS greeting
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /api/drops HTTP/9.9\r\n" + HOST + b"\r\n",
        b"get /api/drops HTTP/1.1\r\n" + HOST + b"\r\n",
        b"BREW /api/drops HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /api/dr ops HTTP/1.1\r\n" + HOST + b"\r\n",
        LIST + b"Host a\r\n\r\n",
        LIST + HOST + b"X-Nul: a\0b\r\n\r\n",
        POST + HOST + b"Content-Length: nine\r\n\r\n{}",
        POST + HOST + b"Content-Length: -1\r\n\r\n{}",
        POST + HOST + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n{}",
        POST + HOST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
    ids=lambda request_bytes: repr(request_bytes[:60]),
)
async def test_bytes_that_are_not_http(http: httpx.AsyncClient, api_url: str, request_bytes: bytes) -> None:
    """Bytes that are not HTTP get a 4xx and the end of the connection; the next client is served."""
    answer = talk(api_url, request_bytes)
    assert answer.startswith(b"HTTP/1.1 4"), answer
    assert (await http.get(f"{api_url}/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /api/drops HTTP/1.0\r\n\r\n", 200),
        (LIST + LAST + b"X-Huge: " + b"x" * 30_000 + b"\r\n\r\n", 200),
        (b"GET /api/drops?" + b"q" * 8_000 + b" HTTP/1.1\r\n" + LAST + b"\r\n", 400),
        (b"GET /api/" + b"x" * 8_000 + b" HTTP/1.1\r\n" + LAST + b"\r\n", 404),
        (b"GET http://elsewhere.example/api/drops HTTP/1.1\r\n" + LAST + b"\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\n" + LAST + b"\r\n", 404),
        (LIST + HOST + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
        (EXPIRE + b"1\r\n" + LAST + b"Content-Length: 0\r\n\r\n", 200),
        (EXPIRE + b"1\r\n" + LAST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
        (GET_HEALTHZ + b"GET /nothing HTTP/1.1\r\n" + LAST + b"\r\n", 200),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_unusual_but_http(api_url: str, request_bytes: bytes, status: int) -> None:
    """A request may be unusual and is served, if it is HTTP."""
    assert talk(api_url, request_bytes).startswith(f"HTTP/1.1 {status} ".encode())


def test_blanks_behind_values(api_url: str, user: str) -> None:
    """They are no part of the value of a header, whichever header it is."""
    user_id = user.encode()
    mine = b"GET /api/reservations/me HTTP/1.1\r\nHost: localhost \t\r\nX-User-Id: %b \r\nConnection: close\t\r\n\r\n" % user_id
    assert talk(api_url, mine).startswith(b"HTTP/1.1 200 ")
    expect = b"Expect: 100-continue \r\nContent-Type: application/json\r\nContent-Length: 2 \r\n\r\n{}"
    assert talk(api_url, EXPIRE + b"1\r\n" + LAST + expect).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"GET /api/dr",
        LIST + HOST + b"X-Half",
        POST + HOST + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        POST + HOST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        (LIST + HOST + b"\r\n") * 50,
    ],
    ids=lambda request_bytes: repr(request_bytes[:60]),
)
async def test_clients_that_hang_up(http: httpx.AsyncClient, api_url: str, request_bytes: bytes) -> None:
    """A client may leave within a request or before its answer, and the next one is served. A stack trace fails the run's end."""
    for _ in range(5):
        with connected(api_url) as connection:
            connection.sendall(request_bytes)
    assert (await http.get(f"{api_url}/readyz")).status_code == 200


async def test_one_connection_after_many_refusals(api_url: str) -> None:
    """A request that is refused before its body is read does not garble the next one on the same connection."""
    async with httpx.AsyncClient(base_url=f"{api_url}/api", limits=httpx.Limits(max_connections=1)) as client:
        for _ in range(3):
            content, user = f'{{"name": "{uuid4().hex}"}}', as_user(ID)
            assert_error(await client.post("/nothing", content=content, headers=JSON), 404, "NOT_FOUND")
            assert_error(await client.put("/drops", content=content, headers=JSON), 405, "METHOD_NOT_ALLOWED")
            assert_error(await client.post(f"/drops/{ID}/reserve", content=content, headers=JSON), 400, "VALIDATION_ERROR")
            assert_error(await client.post("/drops", content=content * 4000, headers=user | JSON), 413, "PAYLOAD_TOO_LARGE")
            assert_success(await client.get("/drops"), "drops")
