"""live() and snapshot() of the JavaScript client in a browser, against a server that sends exactly the bytes of a test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from json import dumps
from typing import Any

import pytest
from playwright.async_api import Page

from tests.support.browser import OUTAGE, Visitor, chromium, visiting
from tests.support.stream_page import RECORDER, SILENCE_MS, SLOW_CALL_SECONDS, Connection, PageListener, ScriptedServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

Event = list[Any]
"""Type, data and id, as onChange gets them."""

RETRY, HEARTBEAT = b"retry: 1000\n", b": heartbeat\n"
TRICKY = ': heartbeat, id: 3,\u2028data: {}\u2029\u0085\ufeffevent: A:B \\n\\n "\n\n" \' é 漢字 👩\u200d👩\u200d👧 🧦: '
FEED = {"latest_purchasers": [], "held_stock": 0}
DROP = {"id": "a", "name": TRICKY, "total_stock": 5, "available_stock": 5, "variants": [], "activity_feed": FEED}
SNAPSHOT: Event = ["SNAPSHOT", {"drops": [DROP, DROP | {"id": "b", "name": "🧦"}]}, "7"]
SALE: Event = ["STOCK_UPDATED", {"dropId": "a", "availableStock": 4}, "8"]
LATER_SALE: Event = ["STOCK_UPDATED", {"dropId": "a", "availableStock": 3}, "9007199254740993"]  # no number of JavaScript's
RESYNC: Event = ["RESYNC_REQUIRED", {"reason": "slow"}, "9007199254740994"]
NEW_SNAPSHOT: Event = ["SNAPSHOT", {"drops": []}, "9007199254740995"]


def encoded(*events: Event) -> bytes:
    """The events as bytes of the stream."""
    lines = (f"event: {name}\nid: {id}\ndata: {dumps(data, ensure_ascii=False)}\n\n" for name, data, id in events)
    return "".join(lines).encode()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    """One server for all tests."""
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def visitor(server: ScriptedServer) -> AsyncIterator[Visitor]:
    """A visitor that expects lost connections."""
    async with chromium() as browser, visiting(browser, server.url) as visitor:
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
async def listener(page: Page, visitor: Visitor, server: ScriptedServer) -> AsyncIterator[PageListener]:
    """The page, loaded again. Everything that happens must be expected by the test."""
    server.forget()
    visitor.problems.clear()
    await page.goto("/")
    await page.evaluate(f"({RECORDER})()")
    listener = PageListener(page, server)
    await listener.chance(1)
    yield listener
    await listener.hears_no_more()
    assert visitor.problems == []


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_cuts(listener: PageListener, size: int) -> None:
    """Wherever the bytes are cut, even within a character, the events are the same to the letter."""
    sent = RETRY + encoded(SNAPSHOT, SALE) + HEARTBEAT + HEARTBEAT + encoded(RESYNC) + HEARTBEAT + encoded(LATER_SALE)
    connection = await listener.listen()
    await connection.answer()
    for at in range(0, len(sent), size):
        await listener.receives(connection, sent[at : at + size])
    await listener.hears("live", SNAPSHOT, SALE, RESYNC, LATER_SALE)


async def test_heartbeats(listener: PageListener) -> None:
    """With heartbeats alone a connection stays. Without them it is closed, and the next one continues after the last event."""
    connection = await listener.listen()
    assert connection.position is None
    assert connection.query == ""
    await connection.answer()
    await listener.receives(connection, encoded(SNAPSHOT, SALE, LATER_SALE))
    await listener.hears("live", SNAPSHOT, SALE, LATER_SALE)
    for _ in range(4):
        await listener.passes(30_000)
        await listener.receives(connection, HEARTBEAT)
    await listener.ends_after_silence(connection, "reconnecting", "pauses")
    connection = await listener.pauses(1000)
    assert connection.position == LATER_SALE[2]


@pytest.mark.parametrize("answered", [False, True])
async def test_silence_from_the_beginning(listener: PageListener, answered: bool) -> None:
    """A connection on which nothing comes, or only the head of an answer, is closed, too."""
    connection = await listener.listen()
    if answered:
        await connection.answer()
    await listener.ends_after_silence(connection, "reconnecting", "pauses")
    connection = await listener.pauses(1000)
    assert connection.position is None


@pytest.mark.parametrize("missing", [1, 20])
@pytest.mark.parametrize("hang_up", [Connection.end, Connection.cut])
async def test_half_an_event(listener: PageListener, hang_up: Callable[[Connection], Awaitable[None]], missing: int) -> None:
    """If a connection ends within an event, properly or not, the next one brings that event whole and once."""
    connection = await listener.listen()
    await connection.answer()
    await listener.receives(connection, encoded(SNAPSHOT, SALE))
    await listener.receives(connection, encoded(LATER_SALE)[:-missing])
    await hang_up(connection)
    connection = await listener.reconnects(1000, "live", SNAPSHOT, SALE)
    assert connection.position == SALE[2]
    await connection.answer()
    await listener.receives(connection, RETRY)
    await hang_up(connection)
    connection = await listener.reconnects(1000, "live")
    assert connection.position == SALE[2]
    await connection.answer()
    await listener.receives(connection, encoded(LATER_SALE))
    await listener.hears("live", LATER_SALE)


async def refuse(connection: Connection) -> None:
    """Answer 503, with a body that looks like events."""
    await connection.answer("503 Service Unavailable")
    await connection.send(encoded(SNAPSHOT))
    await connection.end()


async def pretend(connection: Connection) -> None:
    """Answer with the login page of a proxy."""
    await connection.answer(media_type="text/html")
    await connection.send(b"<!doctype html>\n\n" + encoded(SALE))
    await connection.end()


async def say_nothing(connection: Connection) -> None:
    """Begin a stream and end it."""
    await connection.answer()
    await connection.end()


@pytest.mark.parametrize("fail", [refuse, pretend, say_nothing, Connection.cut])
async def test_pauses_grow(listener: PageListener, fail: Callable[[Connection], Awaitable[None]]) -> None:
    """While connections fail, the pauses grow up to a limit; after a connection that brought something they start again."""
    connection = await listener.listen()
    for milliseconds in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]:
        await fail(connection)
        connection = await listener.reconnects(milliseconds)
    await connection.answer()
    await listener.receives(connection, HEARTBEAT)
    await connection.end()
    connection = await listener.reconnects(1000, "live")
    await fail(connection)
    await listener.reconnects(2000)


@pytest.mark.parametrize("chance", [0, 0.5])
async def test_pauses_vary(listener: PageListener, chance: float) -> None:
    """Pauses vary at random between half and the whole of their length, so that pages do not all reconnect at once."""
    await listener.chance(chance)
    connection = await listener.listen()
    for milliseconds in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]:
        await refuse(connection)
        connection = await listener.reconnects(round(milliseconds * (1 + chance) / 2))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("120", 120),
        ("300", 300),
        ("3000000", 300),  # in milliseconds this is more than a timer can wait, and it would not wait at all
        ("1e999", 300),
        ("0", 1),
        ("-120", 1),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 1),
        ("soon", 1),
        ("", 1),
        (None, 1),
    ],
)
async def test_retry_after(listener: PageListener, retry_after: str | None, seconds: int) -> None:
    """After Retry-After the page asks at that time, no sooner, and after at most five minutes."""
    connection = await listener.listen()
    await connection.answer("503 Service Unavailable", **({} if retry_after is None else {"Retry-After": retry_after}))
    await connection.end()
    connection = await listener.reconnects(seconds * 1000)
    await connection.answer()
    await listener.receives(connection, encoded(SNAPSHOT))
    await listener.hears("live", SNAPSHOT)


async def test_retry_after_holds_once(listener: PageListener) -> None:
    """Retry-After counts once; the next pause is the one that grows."""
    connection = await listener.listen()
    await connection.answer("503 Service Unavailable", **{"Retry-After": "120"})
    await connection.end()
    connection = await listener.reconnects(120_000)
    await refuse(connection)
    await listener.reconnects(2000)


@pytest.mark.parametrize(("event", "target"), [("visibilitychange", "document"), ("online", "window"), ("pageshow", "window")])
async def test_a_page_that_is_seen_waits_no_longer(listener: PageListener, event: str, target: str) -> None:
    """When a page is seen again, or online again, it asks at once, but not sooner than the server asked for."""
    connection = await listener.listen()
    await refuse(connection)
    await listener.hears("reconnecting", "pauses")
    await listener.dispatch(event, target)
    connection = await listener.asks()
    await connection.answer("503 Service Unavailable", **{"Retry-After": "120"})
    await connection.end()
    await listener.hears("pauses")
    await listener.dispatch(event, target)
    await listener.passes(119_999)
    await listener.dispatch(event, target)
    connection = await listener.pauses(1)
    await connection.answer()
    await listener.receives(connection, encoded(SNAPSHOT))
    await listener.hears("live", SNAPSHOT)
    await listener.dispatch(event, target)


async def test_a_lost_network(listener: PageListener) -> None:
    """When the browser says that it is offline, the connection ends; when it is online again, the page asks at once."""
    connection = await listener.listen()
    await connection.answer()
    await listener.receives(connection, encoded(SNAPSHOT, SALE))
    await listener.hears("live", SNAPSHOT, SALE)
    await listener.dispatch("offline")
    await listener.hears("reconnecting")
    await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)
    await listener.passes(SILENCE_MS)
    await listener.dispatch("online")
    connection = await listener.asks()
    assert connection.position == SALE[2]


async def test_a_handler_that_throws(listener: PageListener, visitor: Visitor) -> None:
    """An exception in a handler is reported; the page does not reconnect and gets the next events."""
    connection = await listener.listen()
    await connection.answer()
    fault: Event = ["STOCK_UPDATED", {"dropId": "a", "availableStock": 4, "fault": "thrown"}, "8"]
    await listener.receives(connection, encoded(SNAPSHOT, fault, LATER_SALE))
    await listener.hears("live", SNAPSHOT, fault, LATER_SALE)
    await eventually(lambda: len(visitor.problems) == 1)
    assert "thrown" in visitor.problems.pop()


@pytest.mark.parametrize("reconnected", [False, True])
async def test_resync(listener: PageListener, reconnected: bool) -> None:
    """RESYNC_REQUIRED and the SNAPSHOT after it are events like others, on a new connection, too."""
    connection = await listener.listen()
    await connection.answer()
    await listener.receives(connection, RETRY + encoded(SNAPSHOT))
    await listener.receives(connection, encoded(SALE))
    await listener.hears("live", SNAPSHOT, SALE)
    if reconnected:
        await connection.end()
        connection = await listener.reconnects(1000)
        await connection.answer()
        await listener.receives(connection, RETRY)
        await listener.hears("live")
    await listener.receives(connection, encoded(RESYNC))
    await listener.hears(RESYNC)
    await listener.receives(connection, encoded(NEW_SNAPSHOT))
    await listener.hears(NEW_SNAPSHOT)


async def test_late_first_snapshot(listener: PageListener) -> None:
    """If a connection is lost before its SNAPSHOT, the next connection's SNAPSHOT is the first."""
    connection = await listener.listen()
    await connection.answer()
    await listener.receives(connection, RETRY)
    await connection.end()
    connection = await listener.reconnects(1000, "live")
    await connection.answer()
    await listener.receives(connection, RETRY + encoded(SNAPSHOT))
    await listener.hears("live", SNAPSHOT)


async def test_snapshot(listener: PageListener) -> None:
    """snapshot asks for these drops, resolves to their SNAPSHOT and closes the connection."""
    connection = await listener.look("a", "b")
    assert connection.query == "dropId=a&dropId=b"
    assert connection.position is None
    await connection.answer()
    await listener.receives(connection, RETRY + encoded(SNAPSHOT)[:50])
    await listener.hears_no_more()
    assert not connection.closed.is_set()
    await listener.receives(connection, encoded(SNAPSHOT)[50:] + encoded(SALE, NEW_SNAPSHOT))
    await listener.hears({"drops": SNAPSHOT[1]["drops"], "id": "7"})
    await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)
    await listener.passes(SILENCE_MS)


async def stop_within_snapshot(connection: Connection) -> None:
    """End the stream one byte before the end of the SNAPSHOT."""
    await connection.answer()
    await connection.send(RETRY + encoded(SALE, SNAPSHOT)[:-1])
    await connection.end()


@pytest.mark.parametrize("fail", [refuse, pretend, say_nothing, Connection.cut, stop_within_snapshot])
async def test_no_snapshot(listener: PageListener, fail: Callable[[Connection], Awaitable[None]]) -> None:
    """snapshot rejects if no SNAPSHOT comes, and does not try again."""
    connection = await listener.look("a")
    await fail(connection)
    await listener.hears("rejects")
    await listener.passes(SILENCE_MS)


async def test_no_snapshot_for_long(listener: PageListener) -> None:
    """snapshot rejects after a silence."""
    connection = await listener.look("a")
    await connection.answer()
    await listener.receives(connection, RETRY)
    await listener.ends_after_silence(connection, "rejects")
