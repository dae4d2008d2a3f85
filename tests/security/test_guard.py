"""Who may talk to the service: the Host of a request, the Origin of a page, and the headers of every answer."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from json import loads

import httpx
import pytest

from tests.support.envelopes import assert_error, assert_success
from tests.support.in_process import InProcess, served, settings_for
from tests.support.raw_http import UPGRADE, connected, read_answer, talk
from tests.support.streams import TRANSPORTS, open_stream

SHOP = "https://shop.example"
APPS = ["capacitor://localhost", "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc"]
EXTENSION = "safari-web-extension://2C127FA4-62C7-7E4F-90E5-472B45EECFDC"
FOREIGN = [
    "https://evil.example", "null", "http://shop.example", f"{SHOP}:444", f"{SHOP}.evil.example", f"{SHOP}/", "shop.example",
    "https://evil.example https://shop.example", "", "chrome-extension://abc", "http://localhost", "*", "https://",
    "ionic://localhost", "capacitor://localhost.evil.example",
]  # fmt: skip
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EXPIRE = "/internal/expire-now"


@pytest.fixture(scope="module")
async def service(own_database_url: str) -> AsyncIterator[InProcess]:
    """A service in development that takes the hosts of its default, and the pages of one shop, two apps and an extension."""
    settings = settings_for(own_database_url, allowed_hosts=[], cors_origins=[SHOP, *APPS, EXTENSION], max_streams=3)
    async with served(settings) as service:
        yield service


def status_of(url: str, request: bytes) -> tuple[int, dict[str, str], str | None]:
    """Send this request; returns the status, the headers and the code of the answer."""
    with connected(url) as connection:
        connection.sendall(request)
        status, headers, body = read_answer(connection)
    code = loads(body)["error"]["code"] if status >= 400 else None
    return status, headers, code


def handshake(origin: str | None, host: str, *more: str) -> bytes:
    """A WebSocket handshake with this Origin."""
    lines = [f"Host: {host}", *([] if origin is None else [f"Origin: {origin}"]), *more]
    return (UPGRADE % b"snapshot=false").replace(b"Host: x", "\r\n".join(lines).encode("latin-1"))


# The page that opens a WebSocket


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_handshake_of_a_foreign_page(service: InProcess, origin: str) -> None:
    """A WebSocket for a page of another origin is 403 in the envelope, before a SNAPSHOT is made or a slot is taken."""
    slots = service.components.stream_slots
    host = service.url.removeprefix("http://")
    for _ in range(slots._most + 1):
        status, headers, code = await asyncio.to_thread(status_of, service.url, handshake(origin, host))
        assert (status, code) == (403, "FORBIDDEN")
        assert headers["cache-control"] == "no-store"
    assert slots._count == 0
    assert not service.components.hub._subscribers


@pytest.mark.parametrize(
    "origin", [None, "http://{host}", "HTTP://{host}", SHOP, f"{SHOP}:443", "HTTPS://Shop.Example", *APPS, EXTENSION]
)
async def test_a_handshake_that_is_taken(service: InProcess, origin: str | None) -> None:
    """No Origin (a client that is no browser), the service's own, and a listed one get the stream, however they are written."""
    host = service.url.removeprefix("http://")
    given = origin and origin.format(host=host)
    assert (await asyncio.to_thread(status_of, service.url, handshake(given, host)))[0] == 101
    stream = await open_stream("ws", service.url, headers={"Origin": given} if given else None)
    assert (await stream.receive()).type == "SNAPSHOT"
    await stream.close()
    await service.has_streams(0)


@pytest.mark.parametrize(
    ("origin", "host", "more", "status"),
    [
        ("http://localhost", "LOCALHOST", (), 101),
        ("http://localhost", "localhost:80", (), 101),
        ("http://localhost:80", "localhost", (), 101),
        ("http://localhost", "localhost:", (), 101),
        ("http://[::1]:4000", "[::1]:4000", (), 101),
        ("http://[::1]", "[::1]:80", (), 101),
        ("http://localhost:443", "localhost", (), 403),
        ("http://localhost:4000", "localhost:4001", (), 403),
        ("http://127.0.0.1:4000", "localhost:4000", (), 403),
        ("https://localhost", "localhost", (), 403),
        ("https://localhost", "localhost", ("X-Forwarded-Proto: https",), 101),
        ("https://localhost", "localhost:443", ("X-Forwarded-Proto: https",), 101),
        ("http://localhost", "localhost", ("X-Forwarded-Proto: https",), 403),
        ("http://localhost", "localhost", ("Sec-Fetch-Site: cross-site",), 101),  # Firefox says so of its own WebSockets
    ],
)
async def test_the_own_origin(service: InProcess, origin: str, host: str, more: tuple[str, ...], status: int) -> None:
    """The service's own origin is its Host and the scheme that the proxy tells, without the scheme's own port."""
    assert (await asyncio.to_thread(status_of, service.url, handshake(origin, host, *more)))[0] == status


async def test_only_a_proxy_is_believed(own_database_url: str) -> None:
    """X-Forwarded-Proto of a client that is no proxy changes nothing."""
    request = handshake("https://localhost", "localhost", "X-Forwarded-Proto: https")
    async with served(settings_for(own_database_url), proxies="192.0.2.1") as service:
        assert (await asyncio.to_thread(status_of, service.url, request))[0] == 403


async def test_any_origin_in_development(own_database_url: str) -> None:
    """CORS_ORIGINS=*, which only development takes, lets any page in."""
    async with served(settings_for(own_database_url, cors_origins=["*"])) as service:
        for origin in ("https://evil.example", "null"):
            stream = await open_stream("ws", service.url, headers={"Origin": origin})
            await stream.close()
            assert_success(await service.http.post(EXPIRE, headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"}), "expired")


async def test_no_page_reads_the_events(service: InProcess) -> None:
    """A page of another origin gets no header that would let a browser show it an answer or a stream."""
    stream = await open_stream("sse", service.url, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stream.response.headers
    await stream.close()


# The page that sends a form


@pytest.mark.parametrize(
    "headers",
    [*({"Origin": origin} for origin in FOREIGN), {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
    ids=str,
)
async def test_a_form_of_a_foreign_page(service: InProcess, headers: dict[str, str]) -> None:
    """Nothing is changed for a page of another origin, whether its browser says so by Origin or by Sec-Fetch-Site."""
    for method, path in [
        ("POST", EXPIRE),
        ("POST", "/drops"),
        ("DELETE", "/reservations/x"),
        ("PATCH", "/drops/x"),
        ("PUT", "/"),
    ]:
        assert_error(await service.http.request(method, path, headers=FORM | headers), 403, "FORBIDDEN")


@pytest.mark.parametrize("site", [None, "same-origin", "none"])
async def test_who_may_write(service: InProcess, site: str | None) -> None:
    """The service's own page, a listed one, and a client that is no browser may write."""
    said = {} if site is None else {"Sec-Fetch-Site": site}
    for headers in (said, {"Origin": service.url} | said, {"Origin": SHOP, "Sec-Fetch-Site": "cross-site"}):
        assert_success(await service.http.post(EXPIRE, headers=headers), "expired")


async def test_reads_are_left_to_cors(service: InProcess) -> None:
    """A GET changes nothing, so it is answered; the browser hides the answer from a page that CORS_ORIGINS does not list."""
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        response = await service.http.get("/drops", headers=headers)
        assert_success(response, "drops")
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["vary"] == "Origin"


# The name that the service is called by

LOCAL = ["localhost", "LocalHost", "localhost:4000", "localhost.", "localhost:", "localhost:0", "a.localhost", "a.b.localhost:1"]
LOCAL += ["127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:4000"]
OTHERS = ["evil.example", "evil.example:4000", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost", ".localhost"]
OTHERS += ["[::2]", "192.168.0.1", str(IPv4Address(0)), "1"]
MALFORMED = ["evil.example:localhost", "localhost@evil.example", "evil.example#.localhost", "[::1", "::1", "", "localhost:4000:1"]
MALFORMED += ["localhost,evil.example", "*", "*.localhost:x", "localhost\xe9"]


@pytest.mark.parametrize("host", LOCAL)
async def test_names_of_this_machine(service: InProcess, host: str) -> None:
    """Names of this machine are taken in development, with any port."""
    for path in ("/healthz", "/", "/api/drops"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert (await asyncio.to_thread(talk, service.url, request.encode())).startswith(b"HTTP/1.1 200 ")
    assert (await asyncio.to_thread(status_of, service.url, handshake(None, host)))[0] == 101


@pytest.mark.parametrize("host", OTHERS + MALFORMED)
async def test_other_names(service: InProcess, host: str) -> None:
    """Any other name is refused everywhere, because a page's own name may lead here (DNS rebinding)."""
    refusal = (400, "VALIDATION_ERROR") if host in MALFORMED else (421, "MISDIRECTED_REQUEST")
    for line in (
        "GET /healthz",
        "GET /",
        "GET /api/events",
        "POST /api/internal/expire-now",
        "OPTIONS /api/drops",
        "GET /nothing",
    ):
        more = f"Host: {host}\r\nOrigin: {SHOP}\r\nAccess-Control-Request-Method: GET\r\nContent-Length: 0"
        request = f"{line} HTTP/1.1\r\n{more}\r\n\r\n".encode("latin-1")
        assert (await asyncio.to_thread(status_of, service.url, request))[::2] == refusal
    assert (await asyncio.to_thread(status_of, service.url, handshake(f"http://{host}", host)))[::2] == refusal


async def test_no_name(service: InProcess) -> None:
    """HTTP/1.0 has requests without Host. No browser sends them."""
    assert b" 200 " in (await asyncio.to_thread(talk, service.url, b"GET /healthz HTTP/1.0\r\n\r\n"))[:15]


async def test_the_target_counts_more_than_host(service: InProcess) -> None:
    """If the target of a request is a whole URL, its host counts and the header does not (RFC 9112, 3.2.2)."""
    for target, host, status in [
        ("http://evil.example/healthz", "localhost", 421),
        ("http://evil.example:80/healthz", "localhost", 421),
        ("HTTP://[::2]:80/healthz", "localhost", 421),
        ("http://localhost:4000/healthz", "evil.example", 200),
        ("http://[::1]/healthz", "evil.example", 200),
    ]:
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        assert (await asyncio.to_thread(status_of, service.url, request))[0] == status


@pytest.mark.parametrize(
    ("allowed", "production", "taken", "refused"),
    [
        (
            ["drops.example.com"],
            False,
            ["drops.example.com", "DROPS.example.com:443", "localhost"],
            ["x.drops.example.com", "com"],
        ),
        (["drops.example.com"], True, ["drops.example.com.", "127.0.0.1"], ["example.com", "10.0.0.1"]),
        (["*.example.com"], True, ["a.example.com", "a.b.example.com"], ["example.com", "aexample.com", ".example.com"]),
        (["10.0.0.1", "[fd00::1]"], True, ["10.0.0.1:80", "[fd00::1]:80"], ["10.0.0.2", "[fd00::2]"]),
        (["*"], False, ["evil.example", "10.0.0.1"], []),
        ([], True, ["evil.example", "10.0.0.1:4000"], []),
    ],
)
async def test_allowed_hosts(
    own_database_url: str, allowed: list[str], production: bool, taken: list[str], refused: list[str]
) -> None:
    """ALLOWED_HOSTS adds names, also for all below one; production takes any name without it."""
    env = "production" if production else "development"
    async with served(settings_for(own_database_url, app_env=env, allowed_hosts=allowed)) as service:
        for hosts, status in ((taken, 200), (refused, 421)):
            for host in hosts:
                request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
                assert (await asyncio.to_thread(status_of, service.url, request))[0] == status, host


# The headers of every answer


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/api/drops", {}),
        ("HEAD", "/api/drops", {}),
        ("GET", "/api/drops/x", {}),
        ("GET", "/nothing", {}),
        ("PUT", "/api/drops", {}),
        ("POST", "/", {}),
        ("GET", "/api/reservations/me", {}),
        ("POST", EXPIRE, {"Origin": "null"}),
        ("POST", "/api" + EXPIRE, {}),
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/metrics", {}),
        ("GET", "/api/openapi.json", {}),
        ("GET", "/api/ws", {}),
        ("GET", "/healthz", {"Host": "evil.example"}),
        ("OPTIONS", "/api/drops", {"Origin": SHOP, "Access-Control-Request-Method": "POST"}),
        ("OPTIONS", "/api/drops", {"Origin": "null", "Access-Control-Request-Method": "POST"}),
    ],
)
async def test_headers_of_answers(service: InProcess, method: str, path: str, headers: dict[str, str]) -> None:
    """No answer is kept by a cache or taken for another type than it says."""
    async with httpx.AsyncClient(base_url=service.url) as http:
        response = await http.request(method, path, headers=headers)
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]


async def test_headers_below_the_application(service: InProcess) -> None:
    """The same holds for what the server refuses itself, and for streams, which proxies may not transform either."""
    for request in (b"what?\r\n\r\n", b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        answer = (await asyncio.to_thread(talk, service.url, request)).lower()
        assert b"\r\ncache-control: no-store\r\n" in answer
        assert b"\r\nx-content-type-options: nosniff\r\n" in answer
    head = await service.http.head("/events")
    assert head.headers["cache-control"] == "no-store, no-transform"
    assert head.headers["x-content-type-options"] == "nosniff"
    stream = await open_stream(TRANSPORTS[0], service.url)
    assert stream.response.headers["x-content-type-options"] == "nosniff"
    await stream.close()


async def test_pages_are_kept_by_browsers(service: InProcess) -> None:
    """Files of pages are revalidated and not fetched again."""
    async with httpx.AsyncClient(base_url=service.url) as http:
        for path in ("/", "/dashboard/index.html", "/docs"):
            response = await http.get(path)
            assert response.headers.get_list("cache-control") == ["no-cache"]
            assert response.headers.get_list("x-content-type-options") == ["nosniff"]
