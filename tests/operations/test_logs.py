"""The log: a line a request, of one form whoever speaks, and nothing in it that is secret or that a client wrote to break it."""

import asyncio
import logging
import logging.config
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from json import loads
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lastpair.database.migrate import FUNCTIONS_DIR
from lastpair.observability.logs import ACCESS, BatchedLines, JsonLines, ReadableLines, WithoutConnections, log_config, printable
from lastpair.settings import Settings
from tests.support.api import JSON, as_user
from tests.support.database import Database
from tests.support.servers import Service, started
from tests.support.streams import fresh_database, open_stream
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token
from tests.support.waiting import wait_for

MIGRATE = ("Applying: ", "Applied: ", "Functions: ")
"""How the lines begin that `run` prints before it serves."""

READABLE = re.compile(
    r"\d\d:\d\d:\d\d (debug|info|warning|error) +\S.*|"
    r"\d\d:\d\d:\d\d \d{3} +[\d.]+ ms  [A-Z]+ +/\S*(  [A-Z_]+)?(  user [\w-]+)?  request [\w.-]+|"
    r"    .+"
)
DROP = '{"name": "Air", "price": 1, "total_stock": 3, "starts_at": "2020-01-01T00:00:00+00:00"}'
HOSTILE = "a\nb\r\x1b[31m\x00\x7f\x9b\u2028\u202e\ud800 é"
PASSWORD = "hunter2"  # noqa: S105
ORIGIN = "https://shop.example"
PRODUCTION = {
    "APP_ENV": "production",
    "AUTH_MODE": "jwt",
    "JWT_SECRET": SECRET,
    "JWT_AUDIENCE": AUDIENCE,
    "JWT_ISSUER": ISSUER,
    "EXPIRY_POLL_MS": "100",
    "CORS_ORIGINS": ORIGIN,
}


def lines_of(service: Service) -> list[str]:
    """What it has logged so far."""
    return [line for line in service.log().splitlines() if not line.startswith(MIGRATE)]


def json_lines(service: Service) -> list[dict[str, Any]]:
    """The same in production: each line is an object with these fields at least."""
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
    """The database's URL; its server believes whatever password it is told."""
    user = urlsplit(url).username
    return url.replace(f"//{user}@", f"//{user}:{PASSWORD}@")


@pytest.fixture(scope="module")
async def database_url(database: Database) -> AsyncIterator[str]:
    """A database to break."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture(scope="module")
def production(database_url: str) -> Iterator[Service]:
    """A service that says all it can."""
    with started(DATABASE_URL=with_password(database_url), LOG_LEVEL="debug", **PRODUCTION) as service:
        service.wait_until_ready()
        yield service
        service.stop()


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A client."""
    with httpx.Client() as client:
        yield client


def bearer(user_id: str, **claims: Any) -> dict[str, str]:
    """Who is asking."""
    return {"Authorization": f"Bearer {token(SECRET, user_id, **claims)}", "X-Request-Id": uuid4().hex}


def test_the_line_of_a_request(production: Service, http: httpx.Client) -> None:
    """Who, what, how it went and how long it took; nulls where there is nothing to say."""
    user = str(uuid4())
    made = http.post(f"{production.url}/api/drops", content=DROP, headers=bearer(user, role="admin") | JSON)
    drop_id = made.json()["data"]["drop"]["id"]
    headers = bearer(user)
    path = f"/api/drops/{drop_id}/reserve"
    for outcome, status in [("OK", 201), ("ALREADY_RESERVED", 409)]:
        headers["X-Request-Id"] = uuid4().hex
        response = http.post(f"{production.url}{path}?q=secret", headers=headers)
        assert response.status_code == status
        line = line_of(production, headers["X-Request-Id"])
        assert 0 < line.pop("durationMs") < 5000
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
    request_id = http.get(f"{production.url}/nothing").headers["x-request-id"]
    line = line_of(production, request_id)
    assert (line["route"], line["userId"], line["dropId"], line["outcome"]) == ("none", None, None, "NOT_FOUND")


@pytest.mark.parametrize("level", ["info", "warning"])
def test_levels(database_url: str, http: httpx.Client, level: str) -> None:
    """Requests at info, the questions of machines at debug, faults of ours at warning."""
    with started(DATABASE_URL=database_url, LOG_LEVEL=level, MAX_PENDING="1", **PRODUCTION) as service:
        service.wait_until_ready()
        for path in ("/healthz", "/readyz", "/metrics", "/api/drops", "/nothing"):
            http.get(service.url + path)
        with httpx.stream("GET", f"{service.url}/api/events") as stream:
            next(stream.iter_raw())
        break_get_drop(database_url, "raise exception 'x' using errcode = '40001'")
        try:
            request_id = http.get(f"{service.url}/api/drops/{uuid4()}").headers["x-request-id"]
        finally:
            mend_get_drop(database_url)
        wait_for(lambda: request_id in service.log())
        service.stop()
        found = [(line["level"], line["path"], line["status"]) for line in json_lines(service) if "requestId" in line]
        assert ("warning", 503) in {(level, status) for level, _, status in found}
        expected = [("info", "/api/drops", 200), ("info", "/api/events", 200), ("info", "/nothing", 404)]
        assert sorted(line for line in found if line[2] != 503) == (expected if level == "info" else [])
        said = "Uvicorn running on http" in service.log()
        assert said == (level == "info")


def break_get_drop(database_url: str, body: str) -> None:
    """Let the function do this instead."""
    head = "create or replace function api.get_drop(p_drop_id uuid) returns setof api.drop language plpgsql as"
    execute(database_url, f"{head} $$ begin {body}; end $$")


def mend_get_drop(database_url: str) -> None:
    """As it was."""
    execute(database_url, (FUNCTIONS_DIR / "api" / "get_drop.sql").read_text())


def execute(database_url: str, statement: str) -> None:
    """As the owner, or whoever the URL says."""

    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(statement)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))  # this one has a loop already
    thread.start()
    thread.join()


def test_nothing_secret_is_logged(production: Service, database_url: str, http: httpx.Client) -> None:
    """Of headers, bodies, queries and tokens, good and bad; nor what an exception says; nor the database's password."""
    url, secrets = production.url, [f"sesame{n}" for n in range(12)]
    headers = bearer(str(uuid4()), role="admin", preferred_username=secrets[0])
    given = headers["Authorization"]
    http.post(f"{url}/api/drops", content=DROP.replace("Air", secrets[1]), headers=headers | JSON)
    http.post(f"{url}/api/drops?token={secrets[2]}", content=f'{{"{secrets[3]}": 1}}', headers=headers | JSON)
    http.post(f"{url}/api/drops", content=f'{{"name": "{secrets[4]}', headers=headers | JSON)
    http.get(f"{url}/api/reservations/me", headers={"Authorization": f"Bearer {secrets[5]}.x.y", "Cookie": secrets[6]})
    http.get(f"{url}/api/reservations/me", headers={"Authorization": f"Basic {secrets[5]}"})
    http.post(f"{url}/api/drops/{uuid4()}/reserve", headers=headers | {"Idempotency-Key": secrets[7]})
    http.get(f"{url}/api/events?lastEventId={secrets[8]}&dropId={secrets[8]}")
    break_get_drop(database_url, f"raise exception '{secrets[9]}' using detail = '{secrets[9]}'")
    try:
        failed = http.get(f"{url}/api/drops/{uuid4()}?{secrets[10]}", headers=headers)
        assert failed.status_code == 500
    finally:
        mend_get_drop(database_url)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
        client.sendall(f"GET http://user:{secrets[11]}@host/nothing HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b"404" in client.recv(65536)
    last = http.get(f"{url}/nothing").headers["x-request-id"]
    line_of(production, last)
    log = production.log()
    assert [secret for secret in [*secrets, PASSWORD, SECRET, given, given.split(".")[1]] if secret in log] == []

    [report] = [line for line in json_lines(production) if "exceptions" in line]
    assert report["level"] == "error"
    assert failed.headers["x-request-id"] in report["message"]
    assert report["exceptions"][0]["type"] == "asyncpg.exceptions.RaiseError"
    assert any(re.search(r"app/service\.py:\d+ in get_drop$", call) for call in report["exceptions"][0]["calls"])


async def test_streams_and_their_queries(production: Service) -> None:
    """A line each when they are over, refused ones too; uvicorn's lines with the query are left out, and so are frames."""
    query = [("token", "sesame")]
    stream = await open_stream("ws", production.url, query=query)
    await stream.receive()
    await stream.connection.send("sesame")
    assert (await stream.receive()).type == "ERROR"
    await stream.close()
    with pytest.raises(Exception, match="HTTP 400"):
        await open_stream("ws", production.url, ["sesame"], query=query)
    with pytest.raises(Exception, match="HTTP 404"):
        await open_stream("ws", f"{production.url}/nowhere", query=query)

    def found() -> list[tuple[Any, ...]]:
        lines = [line for line in json_lines(production) if line.get("method") == "WS"]
        return [(line["path"], line["status"], line["outcome"]) for line in lines]

    expected = [("/api/ws", 101, "OK"), ("/api/ws", 400, "VALIDATION_ERROR"), ("/nowhere/api/ws", 404, "NOT_FOUND")]
    await asyncio.to_thread(wait_for, lambda: len(found()) == 3)
    assert sorted(found()) == expected
    assert "sesame" not in production.log()
    assert not [line for line in json_lines(production) if "WebSocket" in line["message"] or "connection" in line["message"]]


def test_preflights(production: Service, http: httpx.Client) -> None:
    """Are requests like others: what a browser asks before it sends one has a line, too, and is counted."""
    for origin, status, outcome in [(ORIGIN, 200, "OK"), ("https://evil.example", 400, "REFUSED")]:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "X-Request-Id": uuid4().hex}
        response = http.options(f"{production.url}/api/drops", headers=headers)
        assert response.status_code == status
        assert response.headers["x-request-id"] == headers["X-Request-Id"]
        line = line_of(production, headers["X-Request-Id"])
        assert (line["method"], line["route"], line["status"], line["outcome"]) == ("OPTIONS", "none", status, outcome)
        counted = f'lastpair_http_requests_total{{method="OPTIONS",route="none",status="{status}"}} 1.0'
        asking = {"X-Request-Id": uuid4().hex}
        assert counted in http.get(f"{production.url}/metrics", headers=asking).text
        line_of(production, asking["X-Request-Id"])  # so that it does not come in the middle of the next test


def talk(service: Service, *parts: bytes) -> bytes:
    """Say this on a connection of its own; returns the first that is answered."""
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10) as client:
        for part in parts[:-1]:
            client.sendall(part)
            client.recv(65536)
        client.sendall(parts[-1])
        return client.recv(65536)


UPGRADE = (
    b"GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BAD_TEXT = b"\x81\x82\x00\x00\x00\x00\xff\xfe"


def test_requests_that_are_none(production: Service) -> None:
    """Are not logged: who wants to fill the disk has to send requests. No client makes the service report an exception."""
    before = len(lines_of(production))
    assert talk(production, b"GARBAGE\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert talk(production, b"GET / HTTP/9.9\r\n\r\n").startswith(b"HTTP/1.1 400")
    talk(production, UPGRADE, BAD_TEXT)
    wait_for(lambda: len(lines_of(production)) > before)
    [line] = json_lines(production)[before:]
    assert (line["method"], line["status"]) == ("WS", 101)


@pytest.fixture(scope="module", params=["production", "development"])
def either(request: pytest.FixtureRequest, production: Service, database_url: str) -> Iterator[Service]:
    """A service that logs in one form or the other."""
    if request.param == "production":
        yield production
    else:
        with started(DATABASE_URL=with_password(database_url), LOG_LEVEL="debug") as service:
            service.wait_until_ready()
            yield service
            service.stop()


@pytest.mark.parametrize(
    "path",
    [
        b"/%0a%0d{} 12:00:00 info forged %1b[31m",
        b"/api/drops/%0a%1b[31m%00/reserve",
        b"/api/drops/\xe2\x80\xa8\xc2\x9b\xff\x85/reserve",
        b"/%s%d%(x)s{0}",
        b"/" + b"x" * 5000,
        b"/\x1b[31m",
        b'/"},"level":"error',
    ],
    ids=["line", "drop", "bytes", "format", "long", "escape", "json"],
)
def test_a_path_that_would_break_a_line(either: Service, path: bytes) -> None:
    """Is on it, cut off and escaped, if it is a path at all."""
    marker = uuid4().hex
    path = path.replace(b" ", b"%20")
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + marker.encode() + b"\r\nX-User-Id: \x1b[31m\r\n\r\n"
    if talk(either, head).startswith(b"HTTP/1.1 400 ") and marker not in either.log():
        marker = httpx.get(f"{either.url}/nothing").headers["x-request-id"]  # the parser would have none of it
    wait_for(lambda: marker in either.log())
    assert_form(either)


def assert_form(service: Service) -> None:
    """Each line is one that was meant, and no terminal does anything but show it."""
    for line in lines_of(service):
        assert line.isprintable(), ascii(line)
        assert len(line) < 5000  # the calls that led to an exception are the longest
        if not READABLE.fullmatch(line):
            assert list(loads(line))[:4] == ["time", "level", "logger", "message"], line


@pytest.mark.parametrize("given", [b"a\tb", b"\x1b[31m", b"a b", b"x" * 200, b"%s", b"\xff", b"a\r\n\tb: c"])
def test_a_request_id_that_would_break_a_line(either: Service, given: bytes) -> None:
    """Is not taken."""
    answer = talk(either, b"GET /nothing HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + given + b"\r\n\r\n")
    if b" 404 " in answer:
        [request_id] = re.findall(rb"x-request-id: ([\w.-]+)\r\n", answer)
        wait_for(lambda: request_id.decode() in either.log())
    assert_form(either)


async def test_a_database_that_goes_away(database: Database) -> None:
    """What is said about it has the form, too, and neither its password nor a line for each try."""
    async with fresh_database(database) as url:
        name = urlsplit(url).path[1:]
        superuser = await asyncpg.connect(database.superuser_url)
        with started(DATABASE_URL=with_password(url), LOG_LEVEL="debug", **PRODUCTION) as service:
            await asyncio.to_thread(service.wait_until_ready)
            await superuser.execute(f"alter database {name} allow_connections false")
            await superuser.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{service.url}/api/drops")).status_code == 503
            await asyncio.to_thread(wait_for, lambda: "listener" in service.log() and "poller" in service.log())
            await superuser.execute(f"alter database {name} allow_connections true")
            await asyncio.to_thread(service.wait_until_ready)
            await asyncio.to_thread(service.stop)
            warnings = [line["message"] for line in json_lines(service) if line["level"] == "warning" and "requestId" not in line]
            assert len(warnings) <= 4, warnings
            assert PASSWORD not in service.log()
        await superuser.close()


def test_all_processes_log_alike(database_url: str) -> None:
    """The parent's lines and the workers', from the first to the last."""
    with started(DATABASE_URL=database_url, LOG_LEVEL="info", WEB_CONCURRENCY="2", **PRODUCTION) as service:
        service.wait_until_ready()
        wait_for(lambda: service.log().count("Application startup complete.") == 2)
        service.stop()
        messages = [line["message"] for line in json_lines(service)]
        for beginning, times in [
            ("Uvicorn running on http", 1),
            ("Started parent process", 1),
            ("Started server process", 2),
            ("Application startup complete", 2),
            ("Finished server process", 2),
            ("Stopping parent process", 1),
        ]:
            assert len([message for message in messages if message.startswith(beginning)]) == times, messages


def record_of(message: object, error: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    """A record as logging makes it."""
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
    """Whatever is logged stays on its line and is no command to a terminal; letters are letters."""
    assert printable("Zoë buys 靴") == "Zoë buys 靴"
    for formatter in (JsonLines(), ReadableLines()):
        line = formatter.format(record_of(HOSTILE))
        assert line.isprintable()
        assert line.count("é") == 1
    line = ReadableLines().format(record_of("it failed", failure_of(HOSTILE)))
    assert all(part.isprintable() for part in line.split("\n"))
    assert all(part.startswith("    ") for part in line.split("\n")[1:])


def test_exceptions() -> None:
    """Development shows them, production their types and where they came from, causes included, cycles or not."""
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
    """Only where there is a terminal, and where it is not told otherwise."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    request = {"method": "GET", "path": "/", "status": 503, "outcome": "X", "durationMs": 1.0, "requestId": "r", "userId": None}
    record = record_of("", request=request | {"traceId": None})
    assert ("\x1b[31m" in ReadableLines().format(record)) == is_terminal
    assert ("\x1b[31m" in ReadableLines().format(record_of("it failed"))) == is_terminal
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ReadableLines().format(record)


def test_what_uvicorn_says_of_connections() -> None:
    """Is left out below errors, and so are errors that are the client's; what it says of itself is not."""
    wanted = WithoutConnections().filter
    protocol = {"pathname": "/site-packages/uvicorn/protocols/http/httptools_impl.py"}
    assert wanted(record_of("Uvicorn running", pathname="/site-packages/uvicorn/server.py", levelno=logging.INFO))
    assert wanted(record_of("Exception in ASGI application", **protocol))
    assert not wanted(record_of("connection open", pathname="/site-packages/websockets/server.py", levelno=logging.INFO))
    assert not wanted(record_of("Invalid HTTP request received.", levelno=logging.WARNING, **protocol))
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert not wanted(record_of("Invalid UTF-8 sequence received from client.", error, **protocol))


class Written(list[str]):
    """Standard error, write by write."""

    write = list.append

    def flush(self) -> None:
        """It is written already."""


class Full:
    """Standard error on a disk that is full."""

    def write(self, _text: str) -> None:
        raise OSError("No space left on device")


def test_what_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the lines, and no more; a line that cannot be formatted costs itself."""
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


def test_lines_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that end in one turn of a loop are one write, none is lost when the loop ends, and all else is written at once."""
    written = Written()
    monkeypatch.setattr(sys, "stderr", written)
    handler = BatchedLines()
    handler.setFormatter(logging.Formatter("%(message)s"))

    def answer(message: str) -> None:
        handler.handle(record_of(message, name=ACCESS))

    def say(message: str) -> None:
        handler.handle(record_of(message))

    async def turns() -> None:
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

    asyncio.run(turns())
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


def test_levels_of_loggers() -> None:
    """Uvicorn's debug would write headers and frames, so it has none; in which process does not matter."""
    for level, expected in [("debug", "INFO"), ("info", "INFO"), ("error", "ERROR")]:
        config = log_config(Settings.model_construct(app_env="production", log_level=level))
        assert config["loggers"]["uvicorn"]["level"] == expected
        assert config["loggers"]["lastpair"]["level"] == level.upper()


def test_users_are_named_in_development(database_url: str, http: httpx.Client) -> None:
    """A line a person reads: status, duration, method, path, outcome, user, request."""
    user, request_id = str(uuid4()), uuid4().hex
    with started(DATABASE_URL=database_url, LOG_LEVEL="info") as service:
        service.wait_until_ready()
        path = f"/api/drops/{uuid4()}/reserve"
        http.post(service.url + path, headers=as_user(user) | {"X-Request-Id": request_id})
        wait_for(lambda: request_id in service.log())
        [line] = [line for line in lines_of(service) if request_id in line]
        assert re.fullmatch(
            rf"\d\d:\d\d:\d\d 404 +\d+\.\d ms  POST   {path}  DROP_NOT_FOUND  user {user}  request {request_id}", line
        )
        service.stop()
