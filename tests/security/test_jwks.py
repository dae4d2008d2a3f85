"""JWT_JWKS_URL: keys that come and go, and key servers that are slow, broken or hostile."""

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from lastpair.web import tokens
from lastpair.web.components import Lastpair
from lastpair.web.tokens import KEYS_LIFESPAN_SECONDS, KEYS_PAUSE_SECONDS, MAX_KEYS_BYTES, BearerToken, KeySet
from tests.support.database import Database
from tests.support.envelopes import assert_error, assert_success
from tests.support.in_process import client_of_app, running_app, settings_for
from tests.support.servers import free_port, started
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, PrivateKey, bearer, claims, ec_key, forged, public_jwk, rsa_key, token
from tests.support.waiting import Clock, eventually

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("healthy")]

OLD, NEW, OTHER = rsa_key(), ec_key(), rsa_key()
UNKNOWN = "not known here (kid)"
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class KeyServer:
    """A server of a JWKS with these entries, or of another answer. It can be made to wait, and it runs only in `running`."""

    port: int = field(default_factory=free_port)
    entries: list[Any] = field(default_factory=lambda: [entry("old", OLD)])
    answer: Answer | None = None
    paths: list[str] = field(default_factory=list)
    """The paths that were asked for."""

    open: Event = field(default_factory=Event)
    """Answers wait until this is set."""

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def url(self) -> str:
        """JWT_JWKS_URL."""
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @property
    def count(self) -> int:
        """The number of requests so far."""
        return len(self.paths)

    async def is_asked(self, count: int) -> None:
        """Wait until there were this many requests."""
        await eventually(lambda: self.count == count)

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        self.paths.append(handler.path)
        assert self.open.wait(30)
        (self.answer or content(json.dumps({"keys": self.entries}).encode()))(handler)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen while the block runs."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):  # the client has left
                    server.respond(self)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as listener:
            listener.daemon_threads = True
            thread = Thread(target=listener.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield
            finally:
                self.open.set()
                listener.shutdown()
                thread.join()


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    """A key server that runs and has one key, whose kid is old."""
    server = KeyServer()
    with server.running():
        yield server


@pytest.fixture(scope="module")
async def app(database: Database) -> AsyncIterator[Lastpair]:
    """The application; each test chooses its keys."""
    async with running_app(settings_for(database.url)) as app:
        yield app


@pytest.fixture
async def http(app: Lastpair, keys: KeyServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application with the keys from that server, which it has not asked for yet."""
    async with client_with(app, keys) as client:
        yield client


@asynccontextmanager
async def client_with(app: Lastpair, keys: KeyServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application with the keys from this server."""
    app.components.identity = BearerToken(KeySet(keys.url), audience=AUDIENCE, issuer=ISSUER)
    async with client_of_app(app) as client:
        yield client


def entry(kid: str, key: PrivateKey, **fields: Any) -> dict[str, Any]:
    """A key as it is published."""
    return public_jwk(key, kid=kid, use="sig") | fields


def by(key: PrivateKey, kid: str | None) -> dict[str, str]:
    """The header of a request with a token that this key signed and that names this kid."""
    return bearer(token(key, header=None if kid is None else {"kid": kid}))


async def accepted(http: httpx.AsyncClient, headers: dict[str, str]) -> bool:
    """Is the token accepted? If not, it is because its key is not known."""
    response = await http.get("/purchases/me", headers=headers)
    if response.status_code == 401:
        assert UNKNOWN in assert_error(response, 401, "AUTH_REQUIRED")
        return False
    assert_success(response, "purchases")
    return True


# Keys come and go


async def test_a_key_that_is_there(http: httpx.AsyncClient, keys: KeyServer) -> None:
    """The keys are fetched once for all tokens; a token is accepted if the key of its kid signed it."""
    keys.entries.append(entry("new", NEW))
    assert keys.count == 0
    for _ in range(3):
        assert await accepted(http, by(OLD, "old"))
        assert await accepted(http, by(NEW, "new"))
    assert keys.count == 1
    for headers in (by(OTHER, "old"), by(OLD, "new"), by(NEW, "old")):  # the kid of one key, the signature of another
        assert_error(await http.get("/purchases/me", headers=headers), 401, "AUTH_REQUIRED")


@pytest.mark.parametrize("kid", [None, "", "OLD", "old ", "../old", "old' or ''='", "x" * 9000, "__class__", "\ud800"], ids=repr)
async def test_bad_kids(http: httpx.AsyncClient, kid: str | None) -> None:
    """A token whose kid is none of the keys' is 401, even if one of the keys signed it."""
    assert not await accepted(http, by(OLD, kid))


async def test_the_key_rotates(http: httpx.AsyncClient, keys: KeyServer, clock: Clock) -> None:
    """A new key is accepted with the first token that names it, and the old one as long as it is published."""
    assert await accepted(http, by(OLD, "old"))
    keys.entries.append(entry("new", NEW))
    clock.now += KEYS_PAUSE_SECONDS
    assert await accepted(http, by(NEW, "new"))
    assert await accepted(http, by(OLD, "old"))
    assert keys.count == 2


async def test_a_key_that_comes_within_the_pause(http: httpx.AsyncClient, keys: KeyServer, clock: Clock) -> None:
    """A new key is not known before the pause is over, because the server is not asked before."""
    assert await accepted(http, by(OLD, "old"))
    keys.entries.append(entry("new", NEW))
    clock.now += KEYS_PAUSE_SECONDS - 0.1
    assert not await accepted(http, by(NEW, "new"))
    assert keys.count == 1
    clock.now += 0.1
    assert await accepted(http, by(NEW, "new"))


@pytest.mark.parametrize("later", [[("new", NEW)], [], [("old", NEW)]], ids=["another", "none", "another of the same kid"])
async def test_a_key_that_was_taken_out(
    http: httpx.AsyncClient, keys: KeyServer, clock: Clock, later: list[tuple[str, PrivateKey]]
) -> None:
    """A key that is no longer published stops working after its lifespan, even if no request came meanwhile."""
    known = by(OLD, "old")
    assert await accepted(http, known)
    keys.entries = [entry(*key) for key in later]
    clock.now += KEYS_LIFESPAN_SECONDS
    for headers in (known, by(OLD, "old")):
        assert_error(await http.get("/purchases/me", headers=headers), 401, "AUTH_REQUIRED")
    assert keys.count == 2
    for kid, key in later:
        assert await accepted(http, by(key, kid))


async def test_keys_in_use_are_fetched_ahead(http: httpx.AsyncClient, keys: KeyServer, clock: Clock) -> None:
    """When half of the keys' lifespan is over they are fetched again, and are used until the new ones are there."""
    assert await accepted(http, by(OLD, "old"))
    keys.entries = []
    keys.open.clear()
    clock.now += KEYS_LIFESPAN_SECONDS / 2
    assert await accepted(http, by(OLD, "old"))
    await keys.is_asked(2)
    assert await accepted(http, by(OLD, "old"))
    keys.open.set()
    while await accepted(http, by(OLD, "old")):
        await asyncio.sleep(0)
    assert keys.count == 2


# Tokens cannot make it ask too often


async def test_unknown_kids_make_few_requests(http: httpx.AsyncClient, keys: KeyServer, clock: Clock) -> None:
    """Tokens that name unknown keys lead to one fetch in each pause, however many come at once."""
    assert await accepted(http, by(OLD, "old"))
    pauses = 4
    for _ in range(pauses):
        clock.now += KEYS_PAUSE_SECONDS
        for _ in range(2):
            answers = await asyncio.gather(*(accepted(http, by(OTHER, uuid4().hex)) for _ in range(20)))
            assert not any(answers)
            assert await accepted(http, by(OLD, "old"))
    assert keys.count == 1 + pauses


async def test_many_share_one_fetch(http: httpx.AsyncClient, keys: KeyServer) -> None:
    """Requests that come while the keys are first fetched share that fetch; requests that need no key are served meanwhile."""
    keys.open.clear()
    waiting = [asyncio.create_task(accepted(http, by(OLD, "old"))) for _ in range(50)]
    await keys.is_asked(1)
    assert_success(await http.get("/drops"), "drops")
    assert not any(task.done() for task in waiting)
    keys.open.set()
    assert all(await asyncio.gather(*waiting))
    assert keys.count == 1


async def test_known_keys_do_not_wait_for_unknown_ones(http: httpx.AsyncClient, keys: KeyServer, clock: Clock) -> None:
    """A token with an unknown key waits for the slow server; tokens with known keys do not."""
    assert await accepted(http, by(OLD, "old"))
    clock.now += KEYS_PAUSE_SECONDS
    keys.open.clear()
    attack = asyncio.create_task(accepted(http, by(OTHER, "other")))
    await keys.is_asked(2)
    assert await accepted(http, by(OLD, "old"))
    assert not attack.done()
    keys.open.set()
    assert not await attack


async def test_a_client_that_leaves_does_not_stop_the_fetch(http: httpx.AsyncClient, keys: KeyServer) -> None:
    """The client whose request began the fetch leaves, and the others get their answer."""
    keys.open.clear()
    first, second = [asyncio.create_task(accepted(http, by(OLD, "old"))) for _ in range(2)]
    await keys.is_asked(1)
    first.cancel()
    await asyncio.wait([first])
    keys.open.set()
    assert await second
    assert keys.count == 1


# Servers that are down, broken or hostile


def content(body: bytes, status: int = 200, **headers: str) -> Answer:
    """An answer with this body, status and headers."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(first: bytes, rest: bytes = b"", wait_seconds: float = 0) -> Answer:
    """An answer of these bytes, and then of the rest again and again until the client leaves."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first)
        pause = Event()
        while rest:
            handler.wfile.write(rest)
            pause.wait(wait_seconds)
        handler.connection.shutdown(socket.SHUT_RDWR)

    return answer


GOOD_SET = json.dumps({"keys": [entry("old", OLD)]}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
BROKEN: dict[str, tuple[Answer, str]] = {
    "302": (content(b"", 302, Location="/elsewhere"), "the answer is 302"),
    "301 to where TLS ends": (content(GOOD_SET, 301, Location="http://127.0.0.1:1/jwks.json"), "the answer is 301"),
    "308 to a private place": (content(GOOD_SET, 308, Location="http://169.254.169.254/latest"), "the answer is 308"),
    "307 to a file": (content(b"", 307, Location="file:///etc/passwd"), "the answer is 307"),
    "404": (content(GOOD_SET, 404), "the answer is 404"),
    "500": (content(GOOD_SET, 500), "the answer is 500"),
    "204": (content(b"", 204), "the answer is 204"),
    "HTML": (content(b"<!doctype html><title>Log in</title>", Content_Type="text/html"), "no JWKS"),
    "nothing": (content(b""), "no JWKS"),
    **{
        f"{text!r:.20}": (content(text), "no JWKS")
        for text in [b"[]", b"7", b"null", b'{"keys"', b'{"keys": {}}', b"{}", b"\xff"]
    },
    "not a list": (content(b'{"keys": "keys"}'), "no JWKS"),
    "brackets": (content(b'{"keys": ' + b"[" * 100_000), "no JWKS"),
    "zeros, compressed": (content(gzip.compress(GOOD_SET + b" " * 10_000_000), Content_Encoding="gzip"), "no JWKS"),
    "too much": (content(GOOD_SET + b" " * MAX_KEYS_BYTES), "more than"),
    "no end": (raw(OK + b"\r\n", b" " * 65536), "more than"),
    "no end of headers": (raw(OK, b"X: " + b"x" * 1000 + b"\r\n"), ""),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), ""),
    "cut off": (raw(OK + b"Content-Length: 9999\r\n\r\n" + GOOD_SET), ""),
    "reset": (raw(b""), ""),
    "drop by drop": (raw(OK + b"\r\n", b" ", 0.05), "TimeoutError"),
    "headers drop by drop": (raw(OK, b"X: x\r\n", 0.05), "TimeoutError"),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_server(
    monkeypatch: pytest.MonkeyPatch,
    http: httpx.AsyncClient,
    keys: KeyServer,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    """Before any keys are known the answer is 503; known keys go on being used. The log says why in one line."""
    answer, reason = BROKEN[what]
    if reason == "TimeoutError":
        monkeypatch.setattr(tokens, "KEYS_TIMEOUT_SECONDS", 2)
    keys.answer = answer
    response = await asyncio.wait_for(http.get("/purchases/me", headers=by(OLD, "old")), 60)
    assert_error(response, 503, "IDENTITY_UNAVAILABLE")
    assert response.headers["retry-after"] == "1"
    keys.answer = None
    clock.now += KEYS_PAUSE_SECONDS
    assert await accepted(http, by(OLD, "old"))
    keys.answer = answer
    clock.now += KEYS_LIFESPAN_SECONDS
    assert await accepted(http, by(OLD, "old"))
    assert not await accepted(http, by(OTHER, "other"))
    assert keys.paths == ["/jwks.json"] * 3
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING and "JWKS" in record.getMessage()]
    assert len(lines) == 2
    for line in lines:
        assert line.getMessage().startswith("JWT_JWKS_URL: the keys cannot be fetched: ")
        assert reason in line.getMessage()
        assert "\n" not in line.getMessage()
        assert line.exc_info is None


async def test_a_server_that_is_not_there_yet(app: Lastpair, clock: Clock) -> None:
    """The application starts without the key server, refuses tokens until it is there, and asks once in a pause."""
    keys = KeyServer()
    async with client_with(app, keys) as http:
        for _ in range(3):
            for path in ("/purchases/me", f"/drops/{uuid4()}"):  # which may be a draft
                assert_error(await http.get(path, headers=by(OLD, "old")), 503, "IDENTITY_UNAVAILABLE")
            assert_success(await http.get("/drops"), "drops")
        with keys.running():
            assert_error(await http.get("/purchases/me", headers=by(OLD, "old")), 503, "IDENTITY_UNAVAILABLE")
            assert keys.count == 0
            clock.now += KEYS_PAUSE_SECONDS
            assert await accepted(http, by(OLD, "old"))


async def test_a_server_that_goes(app: Lastpair, clock: Clock) -> None:
    """While the key server is away the known keys are used, and no others; when it is back, its keys count again."""
    keys = KeyServer()
    async with client_with(app, keys) as http:
        with keys.running():
            assert await accepted(http, by(OLD, "old"))
        for _ in range(5):
            clock.now += KEYS_LIFESPAN_SECONDS
            assert await accepted(http, by(OLD, "old"))
            assert not await accepted(http, by(NEW, "new"))
        keys.entries = [entry("new", NEW)]
        clock.now += KEYS_PAUSE_SECONDS
        with keys.running():
            assert await accepted(http, by(NEW, "new"))
            assert not await accepted(http, by(OLD, "old"))


async def test_no_proxy_replaces_the_keys(app: Lastpair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS the keys come from this machine only, so they are not asked of the proxy that the environment names."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    keys = KeyServer()
    with keys.running():
        async with client_with(app, keys) as http:
            assert await accepted(http, by(OLD, "old"))
    assert keys.paths == ["/jwks.json"]


async def test_few_wait_for_a_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch, http: httpx.AsyncClient, keys: KeyServer, clock: Clock
) -> None:
    """Tokens with known keys wait for a server that hangs once in a lifespan, although it is asked in every pause."""
    assert await accepted(http, by(OLD, "old"))
    monkeypatch.setattr(tokens, "KEYS_TIMEOUT_SECONDS", 0.1)
    keys.open.clear()
    clock.now += KEYS_LIFESPAN_SECONDS
    assert await accepted(http, by(OLD, "old"))  # waited
    monkeypatch.setattr(tokens, "KEYS_TIMEOUT_SECONDS", 30)
    for _ in range(3):
        clock.now += KEYS_PAUSE_SECONDS
        assert await asyncio.wait_for(accepted(http, by(OLD, "old")), 20)
    keys.open.set()


# Keys that cannot be used


def oct_entry() -> dict[str, Any]:
    """A secret, as if it were a key to publish."""
    return HMACAlgorithm.to_jwk(SECRET, as_dict=True) | {"kid": "odd", "alg": "HS256"}


def without(name: str) -> dict[str, Any]:
    """The entry of a good key without this field."""
    return {key: value for key, value in entry("odd", OTHER).items() if key != name}


ODD: dict[str, Any] = {
    "secret": oct_entry(),
    "secret said to be RSA": oct_entry() | {"kty": "RSA"},
    "secret without value": {"kty": "oct", "kid": "odd"},
    "RSA of 1024 bits": entry("odd", rsa_key(1024)),
    "P-384": ECAlgorithm.to_jwk(generate_private_key(SECP384R1()).public_key(), as_dict=True) | {"kid": "odd"},
    "P-384, said to be for ES256": public_jwk(generate_private_key(SECP384R1()), kid="odd", alg="ES256"),
    "Ed25519": OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True) | {"kid": "odd"},
    "private": RSAAlgorithm.to_jwk(OTHER, as_dict=True) | {"kid": "odd"},
    "private, and minutes to read": {"kty": "RSA", "kid": "odd", "n": "w" * 2730 + "Q", "e": "AQAB", "d": "w" * 2730 + "Q"},
    "private EC": ECAlgorithm.to_jwk(ec_key(), as_dict=True) | {"kid": "odd"},
    "encryption": entry("odd", OTHER, use="enc"),
    **{f"use {use!r}": entry("odd", OTHER, use=use) for use in ["", "SIG", None, 7, ["sig"], {}]},
    **{
        f"alg {alg!r}": entry("odd", OTHER, alg=alg)
        for alg in ["RS512", "PS256", "RSA-OAEP", "none", "HS256", "ES256", 7, ["RS256"]]
    },
    "alg an object": entry("odd", OTHER, alg={"a": 1}),
    **{f"kty {kty!r}": entry("odd", OTHER, kty=kty) for kty in ["EC", "oct", "OKP", "", None, 7, ["RSA"], {}]},
    **{f"n {n!r}": entry("odd", OTHER, n=n) for n in ["", "AQAB", "!", 7, None, ["n"], {}]},
    **{f"e {e!r}": entry("odd", OTHER, e=e) for e in ["", "AA", "AQ", "Ag", 7, None]},
    "point not on the curve": entry("odd", NEW, x=public_jwk(ec_key())["x"]),
    "kty a list": entry("odd", OTHER, kty=["RSA"]),
    "brackets in it": entry("odd", OTHER, n=[[[[]]]]),
    "no n": without("n"),
    "no e": without("e"),
    "no kty": without("kty"),
    "no kid": without("kid"),
    **{f"kid {kid!r}": entry("odd", OTHER) | {"kid": kid} for kid in [None, 7, ["odd"], {}]},
    **{repr(value): value for value in [None, 7, "key", [], {}, [["a"]], True]},
}


async def test_unusable_keys(http: httpx.AsyncClient, keys: KeyServer, clock: Clock) -> None:
    """Unusable keys are left out; the usable ones beside them work."""
    odd = {what: key | {"kid": what} if isinstance(key, dict) and key.get("kid") == "odd" else key for what, key in ODD.items()}
    keys.entries = [entry("old", OLD), *odd.values(), entry("new", NEW)]
    assert await accepted(http, by(OLD, "old"))
    assert await accepted(http, by(NEW, "new"))
    for what in odd:
        for key in (OTHER, SECRET, json.dumps(public_jwk(OTHER))):
            algorithm = "HS256" if isinstance(key, str) else "RS256"
            assert not await accepted(http, bearer(forged({"alg": algorithm, "kid": what}, claims(), key)))
    assert keys.count == 1


@pytest.mark.parametrize("what", ["kty a list", "alg an object", "secret without value", "brackets in it"])
async def test_one_unusable_key(http: httpx.AsyncClient, keys: KeyServer, what: str) -> None:
    """Each entry that PyJWT does not expect is left out on its own."""
    keys.entries = [ODD[what], entry("old", OLD)]
    assert await accepted(http, by(OLD, "old"))


async def test_one_kid_of_two_keys(http: httpx.AsyncClient, keys: KeyServer) -> None:
    """Of several keys with one kid, the first usable one counts."""
    keys.entries = [
        oct_entry() | {"kid": "old"},
        entry("old", OLD, use="enc"),
        entry("old", OLD),
        entry("old", NEW),
        entry("old", OTHER),
    ]
    assert await accepted(http, by(OLD, "old"))
    for key in (NEW, OTHER):
        assert_error(await http.get("/purchases/me", headers=by(key, "old")), 401, "AUTH_REQUIRED")


async def test_optional_fields(http: httpx.AsyncClient, keys: KeyServer) -> None:
    """A key need not say what it is for, and x5c and the like are not read."""
    keys.entries = [
        {name: value for name, value in entry("old", OLD).items() if name not in {"use", "key_ops"}},
        entry("new", NEW, alg="ES256", x5c=["MIIB"], x5u="https://attacker.example/", x5t="AAAA"),
    ]
    assert await accepted(http, by(OLD, "old"))
    assert await accepted(http, by(NEW, "new"))


# The command


async def test_production_with_a_server_that_hangs(database: Database, keys: KeyServer) -> None:
    """`lastpair run` starts and serves what needs no key while a fetch hangs, and stops without waiting for it."""
    keys.open.clear()
    environment = {"JWT_JWKS_URL": keys.url, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER, "DATABASE_URL": database.url}
    with started(**environment, APP_ENV="production", AUTH_MODE="jwt", LOG_LEVEL="debug") as service:
        await asyncio.to_thread(service.wait_until_ready)
        async with httpx.AsyncClient(base_url=f"{service.url}/api", timeout=30) as http:
            begin = monotonic()
            waiting = asyncio.create_task(http.get("/purchases/me", headers=by(OLD, "old")))
            await keys.is_asked(1)
            assert_success(await http.get("/drops"), "drops")
            assert not waiting.done()
            await asyncio.to_thread(service.stop)
            assert monotonic() - begin < tokens.KEYS_TIMEOUT_SECONDS
            await asyncio.gather(waiting, return_exceptions=True)
    assert keys.count == 1
