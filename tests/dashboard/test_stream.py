"""The page's ear, stream.js, and a server that says exactly what a test wants, byte for byte and when it wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from json import dumps
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.support.browser import OUTAGE, Visitor, visiting
from tests.support.stream_page import EAR, SLOW_CALL_SECONDS, Connection, Ear, Server

pytestmark = pytest.mark.slow

Event = list[Any]
"""Type, data and id, as onEvent gets them."""

SILENCE_MS = 40_000
RETRY, HEARTBEAT = b"retry: 1000\n\n", b": heartbeat\n\n"
TRICKY = ': heartbeat, id: 3,\u2028data: {}\u2029\u0085\ufeffevent: A:B \\n\\n "\n\n" \' é 漢字 👩\u200d👩\u200d👧 🧦: '
SNAPSHOT: Event = ["SNAPSHOT", {"drops": [{"id": "a", "name": TRICKY}, {"id": "b", "name": "🧦"}]}, "7"]
SALE: Event = ["STOCK_UPDATED", {"dropId": "a", "available": 4}, "8"]
LATER_SALE: Event = ["STOCK_UPDATED", {"dropId": "a", "available": 3}, "9007199254740993"]  # no number of JavaScript's
RESYNC: Event = ["RESYNC_REQUIRED", {"reason": "slow"}, "9007199254740994"]
NEW_SNAPSHOT: Event = ["SNAPSHOT", {"drops": []}, "9007199254740995"]


def encoded(*events: Event) -> bytes:
    """The events as the server sends them."""
    lines = (f"event: {name}\nid: {id}\ndata: {dumps(data, ensure_ascii=False)}\n\n" for name, data, id in events)
    return "".join(lines).encode()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    """One for all tests."""
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def visitor(browser: Browser, server: Server) -> AsyncIterator[Visitor]:
    """One who knows that connections are lost here."""
    async with visiting(browser, server.url) as visitor:
        visitor.expected = OUTAGE
        yield visitor


@pytest.fixture(scope="module")
async def page(visitor: Visitor) -> Page:
    """A page whose clock stands still."""
    context = await visitor.context()
    await context.clock.install(time="2026-01-01T00:00:00Z")
    page = await context.new_page()
    await page.goto("/")
    await context.clock.pause_at("2026-01-02T00:00:00Z")
    return page


@pytest.fixture
async def ear(page: Page, visitor: Visitor, server: Server) -> AsyncIterator[Ear]:
    """The page loaded anew. In the end all that happened was expected."""
    server.forget()
    visitor.problems.clear()
    await page.goto("/")
    await page.evaluate(f"({EAR})()")
    ear = Ear(page, server)
    await ear.chance(1)
    yield ear
    await ear.hears_no_more()
    assert visitor.problems == []


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_cuts(ear: Ear, size: int) -> None:
    """However the bytes are cut, amid a character, too: the same events, to the letter."""
    sent = RETRY + encoded(SNAPSHOT, SALE) + HEARTBEAT + HEARTBEAT + encoded(RESYNC) + HEARTBEAT + encoded(LATER_SALE)
    connection = await ear.listen()
    await connection.answer()
    for at in range(0, len(sent), size):
        await ear.receives(connection, sent[at : at + size])
    await ear.hears("live", SNAPSHOT, SALE, RESYNC, LATER_SALE)


async def test_heartbeats(ear: Ear) -> None:
    """They are all that a connection needs to stay. Without them it is given up, and the next goes on after the last event."""
    connection = await ear.listen()
    assert "last-event-id" not in connection.headers
    assert connection.query == ""
    await connection.answer()
    await ear.receives(connection, encoded(SNAPSHOT, SALE, LATER_SALE))
    await ear.hears("live", SNAPSHOT, SALE, LATER_SALE)
    for _ in range(4):
        await ear.passes(30_000)
        await ear.receives(connection, HEARTBEAT)
    await ear.passes(SILENCE_MS - 1)
    await ear.hears_no_more()
    assert not connection.closed.is_set()
    await ear.passes(1)
    await ear.hears("reconnecting")
    await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)
    connection = await ear.pauses(1000)
    assert connection.headers["last-event-id"] == LATER_SALE[2]


@pytest.mark.parametrize("answered", [False, True])
async def test_silence_from_the_beginning(ear: Ear, answered: bool) -> None:
    """A server that takes the connection and says nothing, or no more than the head of its answer, is given up, too."""
    connection = await ear.listen()
    if answered:
        await connection.answer()
    await ear.passes(SILENCE_MS - 1)
    await ear.hears_no_more()
    await ear.passes(1)
    await ear.hears("reconnecting")
    await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)
    connection = await ear.pauses(1000)
    assert "last-event-id" not in connection.headers


@pytest.mark.parametrize("missing", [1, 20])
@pytest.mark.parametrize("hang_up", [Connection.end, Connection.cut])
async def test_half_an_event(ear: Ear, hang_up: Callable[[Connection], Awaitable[None]], missing: int) -> None:
    """A connection that ends amid an event, by the book or not: it is heard whole from the next one, once, as all others are."""
    connection = await ear.listen()
    await connection.answer()
    await ear.receives(connection, encoded(SNAPSHOT, SALE))
    await ear.receives(connection, encoded(LATER_SALE)[:-missing])
    await hang_up(connection)
    await ear.hears("live", SNAPSHOT, SALE, "reconnecting")
    connection = await ear.pauses(1000)
    assert connection.headers["last-event-id"] == SALE[2]
    await connection.answer()
    await ear.receives(connection, RETRY)
    await hang_up(connection)
    await ear.hears("live", "reconnecting")
    connection = await ear.pauses(1000)
    assert connection.headers["last-event-id"] == SALE[2]
    await connection.answer()
    await ear.receives(connection, encoded(LATER_SALE))
    await ear.hears("live", LATER_SALE)


async def refuse(connection: Connection) -> None:
    """No, whatever else it says."""
    await connection.answer("503 Service Unavailable")
    await connection.send(encoded(SNAPSHOT))
    await connection.end()


async def pretend(connection: Connection) -> None:
    """What somebody in between says, who wants the visitor to log in first."""
    await connection.answer(media_type="text/html")
    await connection.send(b"<!doctype html>\n\n" + encoded(SALE))
    await connection.end()


async def say_nothing(connection: Connection) -> None:
    """The beginning of a stream, and its end."""
    await connection.answer()
    await connection.end()


@pytest.mark.parametrize("fail", [refuse, pretend, say_nothing, Connection.cut])
async def test_pauses_grow(ear: Ear, fail: Callable[[Connection], Awaitable[None]]) -> None:
    """While connections fail it asks ever less often, up to a bound; who said something is asked again at once."""
    connection = await ear.listen()
    for milliseconds in [1000, 2000, 4000, 8000, 10_000, 10_000]:
        await fail(connection)
        await ear.hears("reconnecting")
        connection = await ear.pauses(milliseconds)
    await connection.answer()
    await ear.receives(connection, HEARTBEAT)
    await connection.end()
    await ear.hears("live", "reconnecting")
    connection = await ear.pauses(1000)
    await fail(connection)
    await ear.hears("reconnecting")
    await ear.pauses(2000)


@pytest.mark.parametrize("chance", [0, 0.5])
async def test_pauses_vary(ear: Ear, chance: float) -> None:
    """Not all pages come at the same moment: the pauses are half as long at least."""
    await ear.chance(chance)
    connection = await ear.listen()
    for milliseconds in [1000, 2000, 4000, 8000, 10_000, 10_000]:
        await refuse(connection)
        await ear.hears("reconnecting")
        connection = await ear.pauses(round(milliseconds * (1 + chance) / 2))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("120", 120),
        ("300", 300),
        ("3000000", 300),  # in milliseconds more than a timer can do, which would then not wait at all
        ("1e999", 300),
        ("0", 1),
        ("-120", 1),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 1),
        ("soon", 1),
        ("", 1),
        (None, 1),
    ],
)
async def test_retry_after(ear: Ear, retry_after: str | None, seconds: int) -> None:
    """A server that says when to come again is asked then, and no sooner, though in no more than five minutes."""
    connection = await ear.listen()
    await connection.answer("503 Service Unavailable", **({} if retry_after is None else {"Retry-After": retry_after}))
    await connection.end()
    await ear.hears("reconnecting")
    connection = await ear.pauses(seconds * 1000)
    await connection.answer()
    await ear.receives(connection, encoded(SNAPSHOT))
    await ear.hears("live", SNAPSHOT)


async def test_retry_after_holds_once(ear: Ear) -> None:
    """The server that said it was asked again then; the next time only the pause that grows counts."""
    connection = await ear.listen()
    await connection.answer("503 Service Unavailable", **{"Retry-After": "120"})
    await connection.end()
    await ear.hears("reconnecting")
    connection = await ear.pauses(120_000)
    await refuse(connection)
    await ear.hears("reconnecting")
    await ear.pauses(2000)


@pytest.mark.parametrize("reconnected", [False, True])
async def test_resync(ear: Ear, reconnected: bool) -> None:
    """A SNAPSHOT after the first is followed by the news that all is right again; that it was needed is an event like others."""
    connection = await ear.listen()
    await connection.answer()
    await ear.receives(connection, RETRY + encoded(SNAPSHOT))
    await ear.receives(connection, encoded(SALE))
    await ear.hears("live", SNAPSHOT, SALE)
    if reconnected:
        await connection.end()
        await ear.hears("reconnecting")
        connection = await ear.pauses(1000)
        await connection.answer()
        await ear.receives(connection, RETRY)
        await ear.hears("live")
    await ear.receives(connection, encoded(RESYNC))
    await ear.hears(RESYNC)
    await ear.receives(connection, encoded(NEW_SNAPSHOT))
    await ear.hears(NEW_SNAPSHOT, "resynced")


async def test_late_first_snapshot(ear: Ear) -> None:
    """A connection lost before its SNAPSHOT does not make the next one's a second."""
    connection = await ear.listen()
    await connection.answer()
    await ear.receives(connection, RETRY)
    await connection.end()
    await ear.hears("live", "reconnecting")
    connection = await ear.pauses(1000)
    await connection.answer()
    await ear.receives(connection, RETRY + encoded(SNAPSHOT))
    await ear.hears("live", SNAPSHOT)


async def test_snapshot_of(ear: Ear) -> None:
    """It asks for these drops, tells what the SNAPSHOT says, and hangs up."""
    connection = await ear.look("a", "b")
    assert connection.query == "dropId=a&dropId=b"
    assert "last-event-id" not in connection.headers
    await connection.answer()
    await ear.receives(connection, RETRY + encoded(SNAPSHOT)[:50])
    await ear.hears_no_more()
    assert not connection.closed.is_set()
    await ear.receives(connection, encoded(SNAPSHOT)[50:] + encoded(SALE, NEW_SNAPSHOT))
    await ear.hears({"drops": SNAPSHOT[1]["drops"], "id": "7"})
    await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)
    await ear.passes(SILENCE_MS)


async def stop_amid_snapshot(connection: Connection) -> None:
    """It would have come."""
    await connection.answer()
    await connection.send(RETRY + encoded(SALE, SNAPSHOT)[:-1])
    await connection.end()


@pytest.mark.parametrize("fail", [refuse, pretend, say_nothing, Connection.cut, stop_amid_snapshot])
async def test_no_snapshot(ear: Ear, fail: Callable[[Connection], Awaitable[None]]) -> None:
    """It rejects when there is none, and leaves it at that."""
    connection = await ear.look("a")
    await fail(connection)
    await ear.hears("rejects")
    await ear.passes(SILENCE_MS)


async def test_no_snapshot_for_long(ear: Ear) -> None:
    """It does not wait for ever for a server that has fallen silent."""
    connection = await ear.look("a")
    await connection.answer()
    await ear.receives(connection, RETRY)
    await ear.passes(SILENCE_MS - 1)
    await ear.hears_no_more()
    await ear.passes(1)
    await ear.hears("rejects")
    await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)
