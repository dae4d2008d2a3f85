"""The log: a line for each request, in one form in every process, without secrets and safe from what clients send."""

import asyncio
import logging
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from json import loads
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import psycopg
import pytest

from lastpair import __version__
from lastpair.database.embedded import service_url
from lastpair.database.migrate import FUNCTIONS_DIR
from lastpair.observability.logs import ACCESS, BatchedLines, JsonLines, ReadableLines, WithoutConnections, log_config, printable
from lastpair.settings import Settings
from tests.support.database import Database
from tests.support.envelopes import JSON, as_user
from tests.support.production_settings import ORIGIN, PRODUCTION
from tests.support.servers import Service, started
from tests.support.streams import fresh_database, open_stream
from tests.support.tokens import SECRET, bearer, token
from tests.support.waiting import wait_for

MIGRATE = ("Migrated: ", "Functions: ")
"""How the lines begin that `run` prints before it serves."""

READABLE = re.compile(
    r"\d\d:\d\d:\d\d (debug|info|warning|error) +\S.*|"
    r"\d\d:\d\d:\d\d \d{3} +[\d.]+ ms  [A-Z]+ +/\S*(  [A-Z_]+)?(  user [\w-]+)?  request [\w.-]+|"
    r"    .+"
)
DROP = '{"name": "Air", "price": 1, "total_stock": 3, "starts_at": "2020-01-01T00:00:00+00:00"}'
HOSTILE = "a\nb\r\x1b[31m\x00\x7f\x9b\u2028\u202e\ud800 é"
PASSWORD = "hunter2"  # noqa: S105


def lines_of(service: Service) -> list[str]:
    """The lines that the service has logged so far."""
    return [line for line in service.log().splitlines() if not line.startswith(MIGRATE)]


def json_lines(service: Service) -> list[dict[str, Any]]:
    """The same in production, where each line is an object with these fields at least."""
    found: list[dict[str, Any]] = [loads(line) for line in lines_of(service)]
    for line in found:
        assert list(line)[:4] == ["time", "level", "logger", "message"], line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", line["time"])
        assert line["level"] in {"debug", "info", "warning", "error"}
    return found


def line_of(service: Service, request_id: str) -> dict[str, Any]:
    """The one line of a request, which may come a moment after its answer."""
    wait_for(lambda: request_id in service.log())
    [found] = [line for line in json_lines(service) if line.get("requestId") == request_id]
    return found


def with_password(url: str) -> str:
    """The database's URL with a password, which the server does not check."""
    user = urlsplit(url).username
    return url.replace(f"//{user}@", f"//{user}:{PASSWORD}@")


@pytest.fixture(scope="module")
async def database_url(database: Database) -> AsyncIterator[str]:
    """A database whose functions these tests may break."""
    async with fresh_database(database) as url:
        yield url


@contextmanager
def logging_service(database_url: str, **environment: str) -> Iterator[Service]:
    """A service that logs at level debug, unless the environment says otherwise."""
    urls = {"DATABASE_URL": with_password(service_url(database_url)), "MIGRATION_DATABASE_URL": with_password(database_url)}
    with started(**urls, **{"LOG_LEVEL": "debug"} | environment) as service:
        service.wait_until_ready()
        yield service
        if service.process.poll() is None:
            service.stop()


@pytest.fixture(scope="module")
def production(database_url: str) -> Iterator[Service]:
    """A service in production."""
    with logging_service(database_url, **PRODUCTION) as service:
        yield service


@pytest.fixture(scope="module")
def development(database_url: str) -> Iterator[Service]:
    """A service in development."""
    with logging_service(database_url) as service:
        yield service


@pytest.fixture(scope="module", params=["production", "development"])
def either(request: pytest.FixtureRequest) -> Service:
    """The service in production, and the one in development."""
    service: Service = request.getfixturevalue(request.param)
    return service


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A client of the services."""
    with httpx.Client(timeout=60) as client:
        yield client


def signed_in(user_id: str, **claims: Any) -> dict[str, str]:
    """The headers of a user's request, with an id of its own."""
    return bearer(token(SECRET, user_id, **claims)) | {"X-Request-Id": uuid4().hex}


def test_the_line_of_a_request(production: Service, http: httpx.Client) -> None:
    """It has the user, the request, its outcome and duration, and null where there is no value."""
    user = str(uuid4())
    made = http.post(f"{production.url}/api/drops", content=DROP, headers=signed_in(user, role="admin") | JSON)
    drop_id = made.json()["data"]["drop"]["id"]
    path = f"/api/drops/{drop_id}/reserve"
    for outcome, status in [("OK", 201), ("ALREADY_RESERVED", 409)]:
        headers = signed_in(user)
        assert http.post(f"{production.url}{path}", headers=headers).status_code == status
        line = line_of(production, headers["X-Request-Id"])
        assert 0 < line.pop("durationMs") < 60_000
        del line["time"]
        assert line == {
            "level": "info",
            "logger": "lastpair.access",
            "message": f"POST {path} {status} {outcome}",
            "requestId": headers["X-Request-Id"],
            "traceId": None,
            "method": "POST",
            "path": path,
            "route": "/api/drops/{dropId}/reserve",
            "status": status,
            "outcome": outcome,
            "userId": user,
            "dropId": drop_id,
        }
    line = line_of(production, http.get(f"{production.url}/nothing").headers["x-request-id"])
    assert (line["route"], line["userId"], line["dropId"], line["outcome"]) == ("none", None, None, "NOT_FOUND")


def test_the_line_of_a_request_in_development(development: Service, http: httpx.Client) -> None:
    """It is for a person: time, status, duration, method, path, outcome, user, request."""
    user, request_id, path = str(uuid4()), uuid4().hex, f"/api/drops/{uuid4()}/reserve"
    http.post(development.url + path, headers=as_user(user) | {"X-Request-Id": request_id})
    wait_for(lambda: request_id in development.log())
    [line] = [line for line in lines_of(development) if request_id in line]
    expected = rf"\d\d:\d\d:\d\d 404 +\d+\.\d ms  POST   {path}  DROP_NOT_FOUND  user {user}  request {request_id}"
    assert re.fullmatch(expected, line)


@pytest.mark.parametrize(("level", "workers"), [pytest.param("info", 2, marks=pytest.mark.slow), ("warning", 1)])
def test_levels(database_url: str, http: httpx.Client, level: str, workers: int) -> None:
    """Requests are logged at info, those of probes at debug, faults at warning; every process says at info that it serves."""
    variables = {"LOG_LEVEL": level, "WEB_CONCURRENCY": str(workers), "MAX_PENDING": "1"}
    with logging_service(database_url, **variables, **PRODUCTION) as service:
        says_it_serves = f"Lastpair {__version__} serves http://localhost:{service.url.rpartition(':')[2]}"
        if level == "info":
            wait_for(lambda: service.log().count(says_it_serves) == workers)
            assert [line["message"] for line in json_lines(service) if "requestId" not in line] == [says_it_serves] * workers
        for path in ("/healthz", "/readyz", "/metrics", "/api/drops", "/nothing"):
            http.get(service.url + path)
        with httpx.stream("GET", f"{service.url}/api/events") as stream:
            next(stream.iter_raw())
        with broken_get_drop(database_url, "raise exception 'x' using errcode = '40001'"):
            request_id = http.get(f"{service.url}/api/drops/{uuid4()}").headers["x-request-id"]
        wait_for(lambda: request_id in service.log())
        service.stop()
        found = [(line["level"], line["path"], line["status"]) for line in json_lines(service) if "requestId" in line]
        assert ("warning", 503) in {(level, status) for level, _, status in found}
        expected = [("info", "/api/drops", 200), ("info", "/api/events", 200), ("info", "/nothing", 404)]
        assert sorted(line for line in found if line[2] != 503) == (expected if level == "info" else [])
        assert (says_it_serves in service.log()) == (level == "info")


@contextmanager
def broken_get_drop(database_url: str, body: str) -> Iterator[None]:
    """The function api.get_drop does this while the block runs."""
    head = "create or replace function api.get_drop(p_drop_id uuid, p_drafts boolean default true) returns setof api.drop_row"
    head += " language plpgsql as"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"{head} $$ begin {body}; end $$".encode())
        try:
            yield
        finally:
            connection.execute((FUNCTIONS_DIR / "api" / "get_drop.sql").read_bytes())


def test_nothing_secret_is_logged(production: Service, database_url: str, http: httpx.Client) -> None:
    """Headers, bodies, queries, tokens, the text of exceptions and the database's password are not in the log."""
    url, secrets = production.url, [f"sesame{n}" for n in range(12)]
    headers = signed_in(str(uuid4()), role="admin", preferred_username=secrets[0])
    given = headers["Authorization"]
    http.post(f"{url}/api/drops", content=DROP.replace("Air", secrets[1]), headers=headers | JSON)
    http.post(f"{url}/api/drops?token={secrets[2]}", content=f'{{"{secrets[3]}": 1}}', headers=headers | JSON)
    http.post(f"{url}/api/drops", content=f'{{"name": "{secrets[4]}', headers=headers | JSON)
    http.get(f"{url}/api/reservations/me", headers={"Authorization": f"Bearer {secrets[5]}.x.y", "Cookie": secrets[6]})
    http.get(f"{url}/api/reservations/me", headers={"Authorization": f"Basic {secrets[5]}"})
    http.post(f"{url}/api/drops/{uuid4()}/reserve", headers=headers | {"Idempotency-Key": secrets[7]})
    http.get(f"{url}/api/events?lastEventId={secrets[8]}&dropId={secrets[8]}")
    http.get(f"{url}/api/drops/{uuid4()}?{secrets[10]}", headers=headers)
    with broken_get_drop(database_url, f"raise exception '{secrets[9]}' using detail = '{secrets[9]}'"):
        failed = http.get(f"{url}/api/drops/{uuid4()}", headers=headers)
    assert failed.status_code == 500
    assert b" 400 " in talk(production, f"GET http://user:{secrets[11]}@host/nothing HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    line_of(production, http.get(f"{url}/nothing").headers["x-request-id"])
    log = production.log()
    assert [secret for secret in [*secrets, PASSWORD, SECRET, given, given.split(".")[1]] if secret in log] == []

    [report] = [line for line in json_lines(production) if "exceptions" in line]
    assert report["level"] == "error"
    assert failed.headers["x-request-id"] in report["message"]
    assert report["exceptions"][0]["type"] == "asyncpg.exceptions.RaiseError"
    assert any(re.search(r"lastpair/shop/shop\.py:\d+ in get_drop$", call) for call in report["exceptions"][0]["calls"])


async def test_streams_and_their_queries(production: Service) -> None:
    """A stream has one line when it is over or refused; neither its query nor its frames are logged."""
    query = [("lastEventId", "sesame")]
    stream = await open_stream("ws", production.url, query=query)
    await stream.connection.send("sesame")
    while (await stream.receive()).type != "ERROR":
        pass
    await stream.close()
    with pytest.raises(Exception, match="HTTP 400"):
        await open_stream("ws", production.url, ["sesame"], query=query)
    with pytest.raises(Exception, match="HTTP 404"):
        await open_stream("ws", f"{production.url}/nowhere", query=query)

    def found() -> list[tuple[Any, ...]]:
        lines = [line for line in json_lines(production) if line.get("path", "").endswith("/ws")]
        return [(line["path"], line["status"], line["outcome"]) for line in lines]

    expected = [("/api/ws", 101, "OK"), ("/api/ws", 400, "VALIDATION_ERROR"), ("/nowhere/api/ws", 404, "NOT_FOUND")]
    await asyncio.to_thread(wait_for, lambda: len(found()) == 3)
    assert sorted(found()) == expected
    assert "sesame" not in production.log()
    assert not [line for line in json_lines(production) if "WebSocket" in line["message"] or "connection" in line["message"]]


@pytest.mark.parametrize(("origin", "status", "outcome"), [(ORIGIN, 200, "OK"), ("https://evil.example", 400, "REFUSED")])
def test_preflights(production: Service, http: httpx.Client, origin: str, status: int, outcome: str) -> None:
    """A browser's preflight request has a line and is counted like other requests."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "X-Request-Id": uuid4().hex}
    response = http.options(f"{production.url}/api/drops", headers=headers)
    assert (response.status_code, response.headers["x-request-id"]) == (status, headers["X-Request-Id"])
    line = line_of(production, headers["X-Request-Id"])
    assert (line["method"], line["route"], line["status"], line["outcome"]) == ("OPTIONS", "none", status, outcome)
    metrics = http.get(f"{production.url}/metrics")
    assert f'lastpair_http_requests_total{{method="OPTIONS",route="none",status="{status}"}} 1.0' in metrics.text
    line_of(production, metrics.headers["x-request-id"])  # wait, so that this line does not come during the next test


def talk(service: Service, *parts: bytes) -> bytes:
    """Send the parts on a connection of its own, each after the answer to the one before; returns the last answer."""
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=60) as client:
        for part in parts:
            client.sendall(part)
            answer = client.recv(65536)
        return answer


UPGRADE = (
    b"GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BAD_TEXT = b"\x81\x82\x00\x00\x00\x00\xff\xfe"


def test_what_is_not_http(production: Service) -> None:
    """It is not logged, so that only requests can fill the disk; and no client makes the service report an exception."""
    before = len(lines_of(production))
    for garbage in (b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        assert talk(production, garbage).startswith(b"HTTP/1.1 400")
    talk(production, UPGRADE, BAD_TEXT)
    wait_for(lambda: len(lines_of(production)) > before)
    [line] = json_lines(production)[before:]
    assert (line["method"], line["status"]) == ("WS", 101)


HOSTILE_HEADS = [
    *(
        b"POST " + path.replace(b" ", b"%20") + b" HTTP/1.1\r\nX-Request-Id: MARKER\r\nX-User-Id: \x1b[31m"
        for path in [
            b"/%0a%0d{} 12:00:00 info forged %1b[31m",
            b"/api/drops/%0a%1b[31m%00/reserve",
            b"/api/drops/\xe2\x80\xa8\xc2\x9b\xff\x85/reserve",
            b"/%s%d%(x)s{0}",
            b"/" + b"x" * 5000,
            b"/\x1b[31m",
            b'/"},"level":"error',
        ]
    ),
    *(
        b"GET /nothing HTTP/1.1\r\nX-Request-Id: " + request_id
        for request_id in [b"a\tb", b"\x1b[31m", b"a b", b"x" * 200, b"%s", b"\xff", b"a\r\n\tb: c"]
    ),
]


@pytest.mark.parametrize("head", HOSTILE_HEADS, ids=range(len(HOSTILE_HEADS)))
def test_a_head_that_would_break_a_line(either: Service, head: bytes) -> None:
    """A path is on the line cut off and escaped, a bad request id is not taken; no line breaks or controls a terminal."""
    answer = talk(either, head.replace(b"MARKER", uuid4().hex.encode()) + b"\r\nHost: x\r\n\r\n")
    [request_id] = re.findall(r"x-request-id: ([\w.-]+)\r\n", answer.decode())
    if answer.startswith(b"HTTP/1.1 400 "):  # the parser may have refused it, and then it has no line: wait for another one's
        request_id = httpx.get(f"{either.url}/nothing").headers["x-request-id"]
    wait_for(lambda: request_id in either.log())
    for line in lines_of(either):
        assert line.isprintable(), ascii(line)
        assert len(line) < 5000  # the calls that led to an exception are the longest
        if not READABLE.fullmatch(line):
            assert list(loads(line))[:4] == ["time", "level", "logger", "message"], line


@pytest.mark.slow
async def test_a_database_that_goes_away(database: Database) -> None:
    """Each part of the service logs this once, without the database's password and not once for each try."""
    async with fresh_database(database) as url:
        name = urlsplit(url).path[1:]
        superuser = await asyncpg.connect(database.superuser_url)
        urls = {"DATABASE_URL": with_password(service_url(url)), "MIGRATION_DATABASE_URL": with_password(url)}
        with started(**urls, LOG_LEVEL="debug", **PRODUCTION) as service:
            await asyncio.to_thread(service.wait_until_ready)
            await superuser.execute(f"alter database {name} allow_connections false")
            await superuser.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
            async with httpx.AsyncClient(timeout=60) as client:
                assert (await client.get(f"{service.url}/api/drops")).status_code == 503
            sayings = ["the listener lost the database", *(f"job {job} cannot run" for job in ("expire_holds", "advance_drops"))]
            await asyncio.to_thread(wait_for, lambda: all(saying in service.log() for saying in sayings))
            await superuser.execute(f"alter database {name} allow_connections true")
            await asyncio.to_thread(service.wait_until_ready)
            await asyncio.to_thread(service.stop)
            messages = [line["message"] for line in json_lines(service) if line["level"] == "warning" and "requestId" not in line]
            beginnings = [message.partition(":")[0] for message in messages]
            assert sorted(beginnings) == sorted(set(beginnings)), messages
            assert PASSWORD not in service.log()
        await superuser.close()


def record_of(message: object, error: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    """A record as the package logging makes it."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("lastpair", logging.ERROR, "/x/y.py", 1, message, (), exc_info)
    record.__dict__.update(fields)
    return record


def failure_of(message: str) -> BaseException:
    """An exception with a cause, both with this message."""
    try:
        try:
            raise KeyError(message)
        except KeyError as cause:
            raise ValueError(message) from cause
    except ValueError as error:
        return error


def test_hostile_messages() -> None:
    """A message stays on its line and does not control a terminal; letters of any alphabet are not escaped."""
    assert printable("Zoë buys 靴") == "Zoë buys 靴"
    for formatter in (JsonLines(), ReadableLines()):
        line = formatter.format(record_of(HOSTILE))
        assert line.isprintable()
        assert line.count("é") == 1
    line = ReadableLines().format(record_of("it failed", failure_of(HOSTILE)))
    assert all(part.isprintable() for part in line.split("\n"))
    assert all(part.startswith("    ") for part in line.split("\n")[1:])


def test_exceptions() -> None:
    """Development logs them whole, production their types and calls, causes included, even if these form a cycle."""
    error = failure_of("sesame")
    assert "ValueError: sesame" in ReadableLines().format(record_of("it failed", error))
    line = JsonLines().format(record_of("it failed", error))
    assert "sesame" not in line
    found = loads(line)["exceptions"]
    assert [each["type"] for each in found] == ["builtins.ValueError", "builtins.KeyError"]
    assert all(re.fullmatch(r".*/test_logs\.py:\d+ in failure_of", each["calls"][0]) for each in found)
    assert error.__cause__ is not None
    error.__cause__.__context__ = error
    assert len(loads(JsonLines().format(record_of("it failed", error)))["exceptions"]) == 2
    assert "exceptions" not in loads(JsonLines().format(record_of("no exception", exc_info=(None, None, None))))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_colours(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    """Lines are coloured only for a terminal, and not if NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    request = {"method": "GET", "path": "/", "status": 503, "outcome": "X", "durationMs": 1.0, "requestId": "r", "userId": None}
    record = record_of("", request=request | {"traceId": None})
    assert ("\x1b[31m" in ReadableLines().format(record)) == is_terminal
    assert ("\x1b[31m" in ReadableLines().format(record_of("it failed"))) == is_terminal
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ReadableLines().format(record)


@pytest.mark.parametrize(
    ("pathname", "message", "level", "error", "is_kept"),
    [
        ("uvicorn/server.py", "Uvicorn running", logging.INFO, None, True),
        ("uvicorn/protocols/http/x.py", "Exception in ASGI application", logging.ERROR, None, True),
        ("websockets/server.py", "connection open", logging.INFO, None, False),
        ("uvicorn/protocols/http/x.py", "Invalid HTTP request received.", logging.WARNING, None, False),
        ("uvicorn/protocols/http/x.py", "Bad UTF-8.", logging.ERROR, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "start"), False),
    ],
)
def test_lines_about_connections(pathname: str, message: str, level: int, error: BaseException | None, is_kept: bool) -> None:
    """Lines of uvicorn and websockets about connections are left out, except errors that are not the client's."""
    record = record_of(message, error, pathname=f"/site-packages/{pathname}", levelno=level)
    assert WithoutConnections().filter(record) == is_kept


class Written(list[str]):
    """Standard error that keeps each write."""

    write = list.append

    def flush(self) -> None:
        """Do nothing, because it is written already."""


class Full:
    """Standard error on a full disk."""

    def write(self, _text: str) -> None:
        raise OSError("No space left on device")


def test_a_line_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk loses lines and stops nothing else; a line that cannot be formatted loses only itself."""
    handler = BatchedLines()
    handler.setFormatter(JsonLines())
    monkeypatch.setattr(sys, "stderr", Full())
    handler.handle(record_of("lost"))
    written = Written()
    monkeypatch.setattr(sys, "stderr", written)
    handler.handle(record_of("no number", args=("too many",)))
    handler.handle(record_of("there"))
    assert "no number" not in "".join(written)
    assert [loads(line)["message"] for line in written if line.startswith("{")] == ["there"]


def test_lines_of_one_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that end in one iteration of the event loop are one write, none is lost, and other lines are written at once."""
    written = Written()
    monkeypatch.setattr(sys, "stderr", written)
    handler = BatchedLines()
    handler.setFormatter(logging.Formatter("%(message)s"))

    def answer(message: str) -> None:
        handler.handle(record_of(message, name=ACCESS))

    def say(message: str) -> None:
        handler.handle(record_of(message))

    async def iterations() -> None:
        answer("a")
        answer("b")
        assert written == []
        await asyncio.sleep(0)
        assert written == ["a\nb\n"]
        answer("c")
        await asyncio.to_thread(say, "d")
        answer("e")
        say("f")
        assert "".join(written) == "a\nb\nc\nd\ne\nf\n"

    asyncio.run(iterations())
    say("g")
    assert written[-1] == "g\n"

    async def cut_off() -> None:
        asyncio.get_running_loop().stop()
        answer("h")

    loop = asyncio.new_event_loop()
    task = loop.create_task(cut_off())
    loop.run_forever()
    assert task.done()
    loop.close()

    async def later() -> None:
        answer("i")
        await asyncio.sleep(0)

    asyncio.run(later())
    assert "".join(written).endswith("g\nh\ni\n")


@pytest.mark.parametrize(("level", "expected"), [("debug", "WARNING"), ("info", "WARNING"), ("error", "ERROR")])
def test_levels_of_loggers(level: str, expected: str) -> None:
    """Uvicorn logs at most at level WARNING, because below it logs its steps, and at DEBUG headers and frames."""
    config = log_config(Settings.model_construct(app_env="production", log_level=level))
    assert config["loggers"]["uvicorn"]["level"] == expected
    assert config["loggers"]["lastpair"]["level"] == level.upper()
