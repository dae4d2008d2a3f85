"""The hot path answers, logs and counts as the ordinary way does, to the byte.

The same requests go both ways, each time with drops and users of their own. A request takes the ordinary way if its path ends
with an empty query.
"""

import asyncio
import gc
import logging
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from json import dumps, loads
from string import Template
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from lastpair.errors import STOPPING
from lastpair.observability.logs import ACCESS
from lastpair.shop.shared_calls import NodeCalls
from lastpair.shop.shop import Begun
from lastpair.web.hot_path import HotPath, HotRequest
from lastpair.web.http_protocol import HttpProtocol
from tests.support.database import Database
from tests.support.factories import assert_healthy, make_user
from tests.support.in_process import InProcess, served, settings_for
from tests.support.ordered_requests import lock_waits, locked
from tests.support.raw_http import connected, read_answer
from tests.support.servers import started
from tests.support.streams import fresh_database
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token
from tests.support.waiting import eventually

HOT, ORDINARY = "", "?"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|\+00:00)")
REQUEST_ID = re.compile(r"\b[0-9a-f]{32}\b")
COUNTERS = ("lastpair_http_requests_total", "lastpair_http_request_duration_seconds_count")
SIZES = dumps([{"name": "EU 42", "total_stock": 5}])
CREATE = "select id::text from api.create_drop('Air', 1, $1, $2, $3)"
CREATE_SIZES = "select id::text, (variants[1]).id::text from api.create_drop('Air', 1, null, $1, now(), p_variants => $2::jsonb)"


class Ask(NamedTuple):
    """A request, in whose parts $drop and the like stand for what the world of its way has. $id is the id of the last row."""

    line: str
    headers: tuple[str, ...] = ()
    body: str | None = None
    host: str | None = "Host: localhost"
    version: str = "1.1"
    is_hot: bool = True
    """Whether it is plain enough for the hot path."""

    is_split: bool = False
    """Whether its body comes later than its head."""

    def parts(self, way: str, world: dict[str, str]) -> tuple[bytes, bytes]:
        """Its head, and its body."""
        method, _, path = self.line.partition(" ")
        body = Template(self.body or "").substitute(world).encode()
        headers = [*([] if self.host is None else [self.host]), *self.headers]
        names = {header.partition(":")[0] for header in headers}
        if self.body is not None:
            headers += [] if "Transfer-Encoding" in names else [f"Content-Length: {len(body)}"]
            headers += [] if "Content-Type" in names else ["Content-Type: application/json"]
        head = "\r\n".join([f"{method} /api{path}{way} HTTP/{self.version}", *headers, "", ""])
        return Template(head).substitute(world).encode("latin-1"), body


def ask(line: str, *headers: str, user: str | None = "$ann", **more: Any) -> Ask:
    """A request of this user."""
    return Ask(line, (*([] if user is None else [f"X-User-Id: {user}"]), *headers), **more)


def reserves(*headers: str, bodies: tuple[str, ...], **more: Any) -> list[Ask]:
    """A reserve with each of these bodies."""
    return [ask(RESERVE, *headers, body=body, **more) for body in bodies]


RESERVE, PURCHASE, CANCEL = "POST /drops/$drop/reserve", "POST /drops/$drop/purchase", "DELETE /reservations/$id"
KEY, JSON, NAME = "Idempotency-Key: once", "Content-Type: application/json", "X-User-Name: Zoë".encode().decode("latin-1")
BASKETS = "POST /baskets"
BASKET = '{"items": [{"drop_id": "$drop", "qty": 2}, {"drop_id": "$sizes", "variant_id": "$size"}]}'
CASES: dict[str, list[Ask]] = {
    "reserve, purchase": [ask(RESERVE), ask(PURCHASE)],
    "reserve, cancel, cancel again": [ask(RESERVE), ask(CANCEL), ask(CANCEL)],
    "the other path of cancel": [ask(RESERVE), ask(CANCEL + "/cancel")],
    "under v1": [ask(line.replace(" /", " /v1/")) for line in (RESERVE, CANCEL, RESERVE, PURCHASE)],
    "one hold at a time": [ask(RESERVE), ask(RESERVE)],
    "sold out": [ask("POST /drops/$small/reserve", user=user) for user in ("$ann", "$bob")],
    "nothing to purchase": [ask(PURCHASE)],
    "a hold of somebody else": [ask(RESERVE), ask(CANCEL, user="$bob")],
    "nothing there": [ask(line.replace("$drop", "$id")) for line in (RESERVE, PURCHASE, CANCEL)],
    "a draft": [ask("POST /drops/$draft/reserve")],
    "an id in capital letters": [ask("POST /drops/$CAPITALS/reserve")],
    "bad ids": [ask(f"POST /drops/{bad}/reserve", is_hot=False) for bad in ("1", "%20", "${drop}0", "$drop/")],
    "bad paths": [ask(f"POST /{bad}", is_hot=False) for bad in ("drops/$drop/reserve/", "Drops/$drop/reserve", "v2/drops/$drop")],
    "other methods": [ask(line, is_hot=False) for line in ("GET /drops/$drop/reserve", "DELETE /drops/$drop/purchase")],
    "a new user": [ask(RESERVE, NAME, user="$new"), ask(PURCHASE, user="$new")],
    "a new user who has nothing": [ask(PURCHASE, user="$new")],
    "a new user's bad name": [ask(RESERVE, "X-User-Name: \x85", user="$new")],
    "no user": [ask(line, user=None) for line in (RESERVE, PURCHASE, CANCEL)],
    "a bad user": [ask(RESERVE, user="ann")],
    "a replay": [ask(RESERVE, KEY), ask(RESERVE, KEY), ask(PURCHASE, KEY), ask(PURCHASE, KEY)],
    "a key for another request": [ask(RESERVE, KEY), ask(RESERVE, KEY, body='{"qty": 2}')],
    "bad keys": [ask(RESERVE, f"Idempotency-Key: {bad}") for bad in ("", "a b", "\xe9", "k" * 256)],
    "two keys": [ask(RESERVE, KEY, KEY), ask(CANCEL, KEY, KEY)],
    "bodies": reserves(bodies=("", "{}", '{"qty": 2}', '{"qty": 1, "variant_id": null}')),
    "baskets": [ask(BASKETS, KEY, body=BASKET), ask(BASKETS, KEY, body=BASKET), ask("POST /v1/baskets", body=BASKET)],
    "a new user's basket": [ask(BASKETS, NAME, user="$new", body=BASKET)],
    "nobody's basket": [ask(BASKETS, user=None, body=BASKET)],
    "refused baskets": [
        ask(BASKETS, body='{"items": [{"drop_id": "$draft"}, {"drop_id": "$drop"}, {"drop_id": "$small", "qty": 2}]}'),
        ask(BASKETS, KEY, body=BASKET),
        ask(BASKETS, KEY, body='{"items": [{"drop_id": "$small"}]}'),
    ],
    "bad baskets": [
        ask(BASKETS, body=body)
        for body in ("", "{}", "[]", "nonsense", '{"items": []}', '{"items": [{}]}', '{"items": [{"drop_id": 1}]}')
    ],
    "a basket without a body": [ask(BASKETS), ask(BASKETS, "Content-Length: 0")],
    "a basket of another type": [ask(BASKETS, "Content-Type: text/plain", body=BASKET)],
    "a large basket": [ask(BASKETS, body=BASKET + " " * 400, is_hot=False)],
    "no body": [ask(RESERVE, "Content-Length: 0"), ask(PURCHASE, "Content-Length: 0")],
    "a size": [
        ask("POST /drops/$sizes/reserve", body='{"variant_id": "$size", "qty": 3}'),
        ask("POST /drops/$sizes/purchase", body='{"reservation_id": "$id"}'),
    ],
    "no size": [ask("POST /drops/$sizes/reserve")],
    "bad bodies": reserves(bodies=("nonsense", "[]", '{"qty": 0}', '{"qty": 1.5}', '{"x": 1}', '{"qty": 1, "qty": 1}')),
    "bad bodies of others": [ask(PURCHASE, body='{"reservation_id": 1}'), ask(CANCEL, body='{"x": 1}'), ask(CANCEL, body="{}")],
    "a body of the largest size": reserves(bodies=('{"qty": 1}' + " " * 502,)),
    "large bodies": reserves(bodies=(" " * 513, " " * 2_000_000), is_hot=False),
    "media types": [
        ask(RESERVE, f"Content-Type: {each}", body="{}") for each in ("text/plain", "application/json; charset=utf-8")
    ],
    "two media types": [ask(RESERVE, JSON, JSON, body="{}")],
    "codings": [ask(RESERVE, f"Content-Encoding: {each}", body="{}") for each in ("gzip", "identity")],
    "a body that comes later": reserves(bodies=('{"qty": 2}',), is_hot=False, is_split=True),
    "a chunked body": reserves("Transfer-Encoding: chunked", bodies=("2\r\n{}\r\n0\r\n\r\n",), is_hot=False),
    "a foreign host": [ask(RESERVE, host="Host: evil.example")],
    "a form of another site": [ask(RESERVE, f"Sec-Fetch-Site: {site}") for site in ("cross-site", "same-origin")],
    "pages": [
        ask(RESERVE, f"Origin: {each}") for each in ("https://shop.example", "https://evil.example", "http://localhost", "")
    ],
    "a page's bad request": [ask(RESERVE, "Origin: https://shop.example", user="ann")],
    "a page's replay": [ask(RESERVE, KEY, "Origin: https://shop.example"), ask(RESERVE, KEY, "Origin: https://shop.example")],
    "behind a proxy": [ask(RESERVE, "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")],
    "request ids": [ask(RESERVE, f"X-Request-Id: {given}") for given in ("mine", "not mine", "x" * 129)],
    "close": [ask(RESERVE, "Connection: close")],
    "HTTP/1.0": [ask(RESERVE, version="1.0")],
    "HTTP/1.0 without Host": [ask(RESERVE, version="1.0", host=None)],
    "an upgrade": [ask(RESERVE, "Connection: Upgrade", "Upgrade: h2c")],
    "an expectation": [ask(RESERVE, "Expect: 100-continue", body="{}", is_hot=False)],
}
LISTS: dict[str, list[Ask]] = {
    "anybody": [ask(line, user=None) for line in ("GET /drops", "GET /v1/drops", "GET /drops")],
    "a user": [ask("GET /drops")],
    "pages": [ask("GET /drops", f"Origin: {each}") for each in ("https://shop.example", "https://evil.example")],
    "bodies": [ask("GET /drops", body="{}"), ask("GET /drops", body="nonsense")],
    "a foreign host": [ask("GET /drops", host="Host: evil.example")],
    "other methods": [ask(line, is_hot=False) for line in ("PUT /drops", "DELETE /drops")],
    "other paths": [ask(line, is_hot=False) for line in ("GET /drops/", "GET /Drops")],
}
LIMITED = {
    "a user": [ask(line) for line in (RESERVE, PURCHASE, PURCHASE, CANCEL, RESERVE)],
    "an address": [
        ask(RESERVE, "X-Forwarded-For: $address", user=user)
        for user in ("$ann", "$bob", "$new", "nobody", "$ann", "$bob", "$ann")
    ],
}


@dataclass
class Seen:
    """What a client and an operator see of the requests of one way, without what differs from one run to the next."""

    answers: list[str] = field(default_factory=list)
    lines: list[Any] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)


class Ways:
    """Sends requests on both ways."""

    def __init__(self, service: InProcess, owner: asyncpg.Pool, caplog: pytest.LogCaptureFixture, hot: list[object]) -> None:
        self.service = service
        self.owner = owner
        self.hot = hot
        """The requests that took the hot path so far."""

        self._caplog = caplog
        caplog.set_level(logging.INFO, ACCESS)

    async def world(self) -> dict[str, str]:
        """Drops and users that no other test has."""
        ann, bob, seller = [await make_user(self.owner) for _ in range(3)]
        now = await self.owner.fetchval("select now()")
        drop, small, draft = [
            await self.owner.fetchval(CREATE, stock, seller, start) for stock, start in ((5, now), (1, now), (5, None))
        ]
        sizes, size = await self.owner.fetchrow(CREATE_SIZES, seller, SIZES)
        found = {"ann": ann, "bob": bob, "drop": drop, "CAPITALS": drop.upper(), "small": small, "draft": draft}
        address = f"203.0.{uuid4().int % 256}.{uuid4().int % 256}"
        return found | {"sizes": sizes, "size": size, "new": str(uuid4()), "id": str(uuid4()), "address": address}

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        address = urlsplit(self.service.url)
        return await asyncio.open_connection(address.hostname, address.port)

    async def see(self, way: str, requests: list[Ask], world: dict[str, str] | None = None) -> Seen:
        """Send the requests, each after the answer to the one before, on one connection as long as it is open."""
        world = await self.world() if world is None else world
        seen = Seen()
        reader, writer = await self.connect()
        before = counted()
        self._caplog.clear()
        for request in requests:
            if reader.at_eof():
                writer.close()
                reader, writer = await self.connect()
            head, body = request.parts(way, world)
            if request.is_split:
                writer.write(head)
                await asyncio.sleep(0.05)
                head = b""
            writer.write(head + body)
            answer = await read(reader)
            seen.answers.append(answer)
            if row := loads(answer.partition("\r\n\r\n")[2] or "{}").get("data"):
                [row] = row.values()
                if isinstance(row, dict):
                    world["id"] = row["id"]
        writer.close()
        await eventually(lambda: len(self.lines()) == len(requests))
        seen.lines = self.lines()
        seen.counted = counted()
        seen.counted.subtract(before)
        return normal(seen)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of requests since the log was cleared."""
        return [
            dict(record.__dict__["request"], level=record.levelname) for record in self._caplog.records if record.name == ACCESS
        ]

    async def compare(self, requests: list[Ask], world: dict[str, str] | None = None) -> Seen:
        """Both ways must see the same, in this world or one each, and every request take its way. Returns what they see."""
        await self.see(HOT, requests, world)  # some things are said to the first only
        self.hot.clear()
        expected = await self.see(ORDINARY, requests, world)
        assert self.hot == []
        found = await self.see(HOT, requests, world)
        assert len(self.hot) == sum(request.is_hot for request in requests)
        assert found == expected
        return found


async def read(reader: asyncio.StreamReader) -> str:
    """The next answer, all of it; the text `100` before it stands for an interim answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    if head.startswith(b"HTTP/1.1 100 "):
        return "100 " + await read(reader)
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None, head
    body = await reader.readexactly(int(length[1]))
    head = head.replace(length[0], b"content-length: <length>")  # times have six digits or fewer
    if b"connection: close" in head:
        assert await asyncio.wait_for(reader.read(), 10) == b"", "more than one answer"
    return (head + body).decode()


def counted() -> Counter[str]:
    """How often requests were counted, by metric, method, route and status."""
    return Counter(
        {
            f"{sample.name} {sorted(sample.labels.items())}": int(sample.value)
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.name in COUNTERS
        }
    )


def normal(seen: Seen) -> Seen:
    """The same, without times, and with a number instead of each id."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return names.setdefault(found[0].lower(), f"<id {len(names)}>")

    def plain(text: str) -> str:
        return REQUEST_ID.sub("<request id>", TIME.sub("<time>", re.sub(r"(?m)^date: .*$", "date", UUID.sub(name, text))))

    for line in seen.lines:
        assert line["durationMs"] >= 0
        line["durationMs"] = "some"
    return Seen([plain(answer) for answer in seen.answers], [plain(dumps(line)) for line in seen.lines], +seen.counted)


@pytest.fixture(scope="module")
async def database_url(database: Database) -> AsyncIterator[str]:
    """A database of which every drop is made here."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture(scope="module")
async def its_owner(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """The owner of that database, which passes the audit in the end."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as owner:
        yield owner
        await assert_healthy(owner)


@pytest.fixture(scope="module")
async def service(database_url: str) -> AsyncIterator[InProcess]:
    """A service in development, without limits."""
    settings = settings_for(
        database_url,
        allowed_hosts=["localhost"],
        cors_origins=["https://shop.example"],
        rate_limit_user_per_minute=0,
        rate_limit_address_per_minute=0,
    )
    async with served(settings) as service:
        yield service


@pytest.fixture
def hot(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The requests that took the hot path so far."""
    requests: list[object] = []
    begin = HotPath.begin

    def note(self: HotPath, request: Any) -> None:
        requests.append(request)
        begin(self, request)

    monkeypatch.setattr(HotPath, "begin", note)
    return requests


@pytest.fixture
def ways(service: InProcess, its_owner: asyncpg.Pool, caplog: pytest.LogCaptureFixture, hot: list[object]) -> Ways:
    """Both ways of that service."""
    return Ways(service, its_owner, caplog, hot)


@pytest.mark.parametrize("case", CASES)
async def test_both_ways_are_the_same(ways: Ways, case: str) -> None:
    """Answers, log lines and metrics are the same, and each plain request takes the hot path."""
    seen = await ways.compare(CASES[case])
    assert len(seen.answers) == len(seen.lines) == len(CASES[case])


@pytest.mark.parametrize("case", LISTS)
async def test_the_drops_on_sale(ways: Ways, case: str) -> None:
    """They are the same on both ways."""
    seen = await ways.compare(LISTS[case], await ways.world())
    assert len(seen.answers) == len(seen.lines) == len(LISTS[case])


async def test_the_drops_on_sale_have_another_page(ways: Ways) -> None:
    """Both ways say so in `meta`, and give each request its own id there and in its header, also where all share a call."""
    ann = await make_user(ways.owner)
    await ways.owner.execute("select api.create_drop('Air', 1, 1, $1, now()) from generate_series(1, 51)", ann)
    asked = [ask("GET /drops", f"X-Request-Id: id-{n}") for n in range(20)]
    [single] = (await ways.compare(asked[:1], {"ann": ann})).answers
    assert '"meta":{"requestId":"id-0","nextCursor":"' in single

    async def answer(n: int) -> str:
        reader, writer = await ways.connect()
        writer.write(b"".join(asked[n].parts(HOT, {"ann": ann})))
        found = await read(reader)
        writer.close()
        return found

    answers = await asyncio.gather(*map(answer, range(20)))
    assert [normal(Seen([each])).answers[0] for each in answers] == [single.replace("id-0", f"id-{n}") for n in range(20)]


@pytest.mark.parametrize("case", LIMITED)
async def test_limits(
    database_url: str, its_owner: asyncpg.Pool, caplog: pytest.LogCaptureFixture, hot: list[object], case: str
) -> None:
    """Both ways count for the limits of users and addresses, in the same order as they look at the rest."""
    settings = settings_for(database_url, rate_limit_user_per_minute=4, rate_limit_address_per_minute=6)
    async with served(settings) as service:
        ways = Ways(service, its_owner, caplog, hot)
        if case == "a user":
            service.components.address_limit._per_minute = 0
        seen = await ways.compare(LIMITED[case])
    assert "429 Too Many Requests" in seen.answers[-1]
    assert "retry-after: 60\r\n" in seen.answers[-1]


@pytest.mark.parametrize("overload", [True, False], ids=["overloaded", "a fault"])
async def test_requests_that_fail(ways: Ways, monkeypatch: pytest.MonkeyPatch, overload: bool) -> None:
    """When too many wait, and when something is wrong here, both ways say so alike, and a fault is logged."""

    async def fail(*_: object) -> None:
        raise RuntimeError("wrong")

    batcher = ways.service.components.shop._batches.whole.reserve._batcher
    if overload:
        monkeypatch.setattr(batcher, "_max_pending", 0)
    else:
        monkeypatch.setattr(NodeCalls, "_outcomes", fail)
    seen = await ways.compare([ask(RESERVE)])
    assert ("503 Service Unavailable" if overload else "500 Internal Server Error") in seen.answers[0]
    assert overload or any(record.exc_info for record in ways._caplog.records)


@pytest.mark.parametrize("user", ["$ann", "$new"])
async def test_tokens(
    database_url: str, its_owner: asyncpg.Pool, caplog: pytest.LogCaptureFixture, hot: list[object], user: str
) -> None:
    """With AUTH_MODE=jwt both ways take the same tokens, make users, and follow their names."""
    from pydantic import SecretStr

    secret = SecretStr(SECRET)
    settings = settings_for(database_url, auth_mode="jwt", jwt_secret=secret, jwt_audience=AUDIENCE, jwt_issuer=ISSUER)
    requests = [
        Ask(line, (f"Authorization: {given}",))
        for line in (RESERVE, PURCHASE)
        for given in ("Bearer $good", "Bearer $late", "Bearer $forged", "Basic x")
    ]
    async with served(settings) as service:
        ways = Ways(service, its_owner, caplog, hot)
        worlds = []
        for _ in range(2):
            world = await ways.world()
            subject = Template(user).substitute(world)
            tokens = {"good": token(SECRET, subject, preferred_username=f"n {subject}"), "late": token(SECRET, subject, exp=1)}
            worlds.append(world | tokens | {"forged": token(SECRET + "!", subject)})
        expected = await ways.see(ORDINARY, requests, worlds[0])
        assert hot == []
        assert await ways.see(HOT, requests, worlds[1]) == expected
        assert len(hot) == len(requests)
    assert [answer.split()[1] for answer in expected.answers] == ["201", "401", "401", "401"] * 2
    for world in worlds:
        name = await its_owner.fetchval("select username from inventory.users where id = $1", Template(user).substitute(world))
        assert name.startswith("n ")


async def test_an_identity_that_waits(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the keys of tokens are fetched first, both ways wait, and count the request once. A client may leave meanwhile."""
    components = ways.service.components
    user_id, opened = components.identity.known_user_id, asyncio.Event()

    async def wait(scope: Any) -> str | None:
        await opened.wait()
        opened.clear()
        asyncio.get_running_loop().call_later(0.01, opened.set)
        return user_id(scope)

    opened.set()
    monkeypatch.setattr(components.identity, "user_id", wait)
    monkeypatch.setattr(components.identity, "known_user_id", lambda _: None)
    for limit in (components.user_limit, components.address_limit):
        monkeypatch.setattr(limit, "_per_minute", 1000)
    requests = [ask(RESERVE), ask(PURCHASE), ask(PURCHASE, user="$bob"), ask(CANCEL), ask(RESERVE, user=None)]
    await ways.compare(requests)
    assert sum(map(len, components.user_limit._times.values())) == 3 * 4
    assert sum(map(len, components.address_limit._times.values())) == 3 * 5

    await asyncio.sleep(0.05)  # the last timer has run
    opened.clear()
    world = await ways.world()
    _, writer = await ways.connect()
    writer.write(b"".join(ask(RESERVE).parts(HOT, world)))
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    ways._caplog.clear()
    opened.set()
    await eventually(lambda: [line["outcome"] for line in ways.lines()] == ["OK"])
    assert not ways.service.server.server_state.tasks


@pytest.mark.parametrize("pattern", [[HOT], [HOT, ORDINARY], [ORDINARY, HOT]], ids=["hot", "hot first", "ordinary first"])
async def test_requests_that_do_not_wait(ways: Ways, pattern: list[str]) -> None:
    """Pipelined requests are carried out and answered in order. The first may take the hot path, those behind it do not."""
    requests = [ask(RESERVE), ask(PURCHASE), Ask("GET /nothing"), ask(RESERVE), ask(PURCHASE), ask(PURCHASE)]

    async def answers(pattern: list[str]) -> list[str]:
        world = await ways.world()
        sent = [b"".join(request.parts(pattern[n % len(pattern)], world)) for n, request in enumerate(requests)]
        reader, writer = await ways.connect()
        for _ in range(2):
            writer.write(b"".join(sent))
            found = [await read(reader) for _ in sent]
        writer.close()
        return normal(Seen(found)).answers

    expected = await answers([ORDINARY])
    assert [answer.split()[1] for answer in expected] == ["201", "201", "404", "201", "201", "409"]
    ways.hot.clear()
    assert await answers(pattern) == expected
    assert len(ways.hot) == (2 if pattern[0] == HOT else 0)


async def test_a_client_that_leaves(ways: Ways) -> None:
    """A call that has begun goes on, on both ways, and its outcome is logged. A request that waits is dropped on the hot path."""
    for way, outcomes in ((ORDINARY, ["OK", "OK"]), (HOT, ["CLIENT_CLOSED_REQUEST", "OK"])):
        world = await ways.world()
        ways._caplog.clear()
        async with locked(ways.owner, world["drop"]):
            writers = []
            for user in ("$ann", "$bob"):
                _, writer = await ways.connect()
                writer.write(b"".join(ask(RESERVE, user=user).parts(way, world)))
                await lock_waits(ways.owner, 1)  # of the first request; the second one waits in its lane
                writers.append(writer)
            await asyncio.sleep(0.05)
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.05)
        await eventually(lambda: len(ways.lines()) == 2)
        assert sorted(line["outcome"] for line in ways.lines()) == outcomes
        held = await ways.owner.fetchval("select count(*) from inventory.reservations where drop_id = $1", world["drop"])
        assert held == outcomes.count("OK")
    tasks = ways.service.server.server_state.tasks
    await eventually(lambda: not tasks)


@pytest.mark.parametrize("way", [HOT, ORDINARY], ids=["hot", "ordinary"])
async def test_idle_connections(ways: Ways, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is closed when it was idle for long enough since its last answer, and not while a request is in flight."""
    monkeypatch.setattr(ways.service.server.config, "timeout_keep_alive", 1.5)
    world = await ways.world()
    reader, writer = await ways.connect()
    for _ in range(3):
        async with locked(ways.owner, world["drop"]):
            writer.write(b"".join(ask(RESERVE).parts(way, world)))
            await asyncio.sleep(1.7)
        await read(reader)
        await asyncio.sleep(0.6)
    assert not reader.at_eof()
    begin = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert asyncio.get_running_loop().time() - begin > 0.1
    writer.close()


@pytest.mark.parametrize("begin", [False, True], ids=["a body to come", "in flight"])
async def test_a_request_leaves_nothing_behind(ways: Ways, begin: bool) -> None:
    """The memory of a request is free when it ends, and does not wait for the garbage collector."""
    kinds = HotRequest, HttpProtocol, Begun
    world = await ways.world()
    head, body = ask(RESERVE, body="{}").parts(HOT, world)
    gc.collect()
    gc.disable()
    try:
        async with locked(ways.owner, world["drop"]):
            _, writer = await ways.connect()
            writer.write(head + body if begin else head)
            if begin:
                await lock_waits(ways.owner, 1)
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await asyncio.sleep(0.05)
        ways.hot.clear()
        await eventually(lambda: not any(isinstance(found, kinds) for found in gc.get_objects()))
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("way", [HOT, ORDINARY], ids=["hot", "ordinary"])
async def test_a_process_that_stops(database_url: str, its_owner: asyncpg.Pool, ways: Ways, way: str) -> None:
    """A request that is in flight when the process has waited long enough gets 503, and the last connections close."""
    world = await ways.world()
    with started(DATABASE_URL=database_url, EXPIRY_POLL_MS="3600000") as service:
        await asyncio.to_thread(service.wait_until_ready)
        with connected(service.url) as connection:
            async with locked(its_owner, world["drop"]):
                connection.sendall(b"".join(ask(RESERVE).parts(way, world)))
                await lock_waits(its_owner, 1)
                service.process.send_signal(signal.SIGTERM)
                status, headers, body = await asyncio.to_thread(read_answer, connection)
                assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
                assert loads(body)["error"]["message"] == STOPPING
            assert connection.recv(1) == b""
        assert await asyncio.to_thread(service.process.wait, 10) == 0, service.log()
        assert "Traceback" not in service.log()
