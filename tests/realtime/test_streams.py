"""The streams over HTTP: which messages come, in which form, in which rooms, and which requests are refused."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from json import dumps
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from lastpair.database.embedded import BIN_DIR
from tests.support.database import Database
from tests.support.envelopes import JSON, as_user, assert_invalid, assert_success
from tests.support.factories import assert_healthy, drops_on_sale, make_drop, make_due, make_user, purchase, reserve
from tests.support.in_process import served, settings_for
from tests.support.row_checks import DROP, LISTED_DROP, PURCHASER, Row, assert_row, is_time
from tests.support.streams import (
    TRANSPORTS,
    Api,
    Message,
    StreamEnded,
    caught_up,
    fresh_database,
    logged,
    newest_id,
    open_stream,
    publish,
    serving,
    truth,
)

BASES = ["/api", "/api/v1"]
BAD_UUIDS = [
    "",
    "x",
    "0190b6c57d3e7abc9def0123456789ab",
    "{0190b6c5-7d3e-7abc-9def-0123456789ab}",
    "0190b6c5-7d3e-7abc-9def-0123456789az",
]


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a database of its own."""
    async with fresh_database(database) as url, serving(url) as api:
        yield api
        await assert_healthy(api.owner)


@pytest.fixture(scope="module")
async def seller(api: Api) -> str:
    """The user who makes the drops."""
    return await make_user(api.owner)


@pytest.fixture
async def drops(api: Api, seller: str) -> list[str]:
    """The ids of three new live drops."""
    return [(await make_drop(api.http, seller))["id"] for _ in range(3)]


@asynccontextmanager
async def streaming(transport: str, api: Api, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
    """A stream of the service. Without a SNAPSHOT it begins now, even if the service has not yet heard of the latest commits."""
    if options.get("snapshot") is False and "last_event_id" not in options:
        options["last_event_id"] = await newest_id(api.owner)
    stream = await open_stream(transport, api.url, *arguments, **options)
    try:
        yield stream
    finally:
        await stream.close()


async def rename(api: Api, drop_id: str, name: str | None = None) -> Row:
    """Rename the drop, which one DROP_UPDATED announces; returns the drop."""
    return await patch(api, drop_id, name=name or uuid4().hex)


async def patch(api: Api, drop_id: str, **changes: object) -> Row:
    """PATCH /drops/{dropId}."""
    response = await api.http.patch(f"/drops/{drop_id}", content=dumps(changes), headers=as_user(uuid4()) | JSON)
    drop: Row = assert_success(response, "drop")
    return drop


def assert_snapshot(message: Message, drop_ids: list[str]) -> list[Row]:
    """A SNAPSHOT of these drops in this order, each in the form of GET /drops; returns them."""
    assert message.type == "SNAPSHOT"
    assert list(message.data) == ["drops"]
    drops: list[Row] = message.data["drops"]
    assert [drop["id"] for drop in drops] == drop_ids
    for drop in drops:
        assert_row(drop, LISTED_DROP)
        for purchaser in drop["activity_feed"]["latest_purchasers"]:
            assert_row(purchaser, PURCHASER)
    return drops


async def assert_silent_until(stream: Any, api: Api, drop_id: str) -> None:
    """The next message of the stream is the drop's new name."""
    name = (await rename(api, drop_id))["name"]
    message = await stream.receive()
    assert (message.type, message.data["drop"]["name"]) == ("DROP_UPDATED", name)


@pytest.mark.parametrize("base", BASES)
async def test_headers_and_the_beginning_of_an_sse_stream(api: Api, seller: str, base: str) -> None:
    """An SSE stream begins with a SNAPSHOT of the drops that are not over, with the id of the newest event, and says `retry`."""
    drop = await make_drop(api.http, seller)
    for status in ("draft", "scheduled"):
        await make_drop(api.http, seller, starts_at="2999-01-01T00:00:00Z", status=status)
    await patch(api, (await make_drop(api.http, seller))["id"], status="ended")
    buyer = await make_user(api.owner)
    await reserve(api.http, drop["id"], buyer)
    await purchase(api.http, drop["id"], buyer)

    async with streaming("sse", api, base=base, headers={"X-Request-Id": "stream.1"}) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "no-store" in headers["cache-control"]
        assert headers["x-accel-buffering"] == "no"
        assert headers["x-request-id"] == "stream.1"
        assert "content-length" not in headers
        snapshot = await stream.receive()
        [retry_ms] = stream.parser.retry_ms
        assert 1000 <= retry_ms <= 3000
        assert int(snapshot.id) == await newest_id(api.owner)
        shown = await truth(api.owner)
        drops = assert_snapshot(snapshot, list(shown))
        assert {drop["status"] for drop in drops} == {"scheduled", "live"}
        listed = await drops_on_sale(api.http)
        assert [drop for drop in drops if drop["status"] == "live"] == listed
        assert listed[0]["activity_feed"]["latest_purchasers"][0]["userId"] == buyer
        await assert_silent_until(stream, api, drop["id"])
        assert stream.parser.retry_ms == [retry_ms]


@pytest.mark.parametrize("base", BASES)
async def test_the_beginning_of_a_websocket(api: Api, drops: list[str], base: str) -> None:
    """A WebSocket begins with the same SNAPSHOT as an SSE stream."""
    headers = {"X-Request-Id": "stream.2"}
    async with streaming("ws", api, base=base, headers=headers) as stream, streaming("sse", api) as sse:
        assert stream.connection.response.headers["x-request-id"] == "stream.2"
        snapshot = await stream.receive()
        assert snapshot == await sse.receive()
        assert_snapshot(snapshot, list(await truth(api.owner)))
        await assert_silent_until(stream, api, drops[0])


@pytest.mark.parametrize("base", BASES)
async def test_head_is_answered_with_the_headers(api: Api, base: str) -> None:
    """HEAD gets the headers of a stream and no body. Other methods than GET and HEAD are refused."""
    answer = await api.http.head(f"{api.url}{base}/events?dropId={uuid4()}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (await api.http.head(f"{api.url}{base}/events?dropId=x")).status_code == 400
    answer = await api.http.post(f"{api.url}{base}/events")
    assert (answer.status_code, sorted(answer.headers["allow"].split(", "))) == (405, ["GET", "HEAD"])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_a_snapshot_it_begins_now(api: Api, drops: list[str], transport: str) -> None:
    """With `snapshot=false` a POSITION comes in place of the SNAPSHOT, with the id to come back with; then the next event."""
    async with streaming(transport, api, snapshot=True) as other:
        assert (await other.receive()).type == "SNAPSHOT"
    await caught_up(api, drops[0])
    async with streaming(transport, api, drops[1:], snapshot=False, last_event_id=None) as stream:
        first = await stream.receive_any()
        assert first == Message("POSITION", str(await newest_id(api.owner)), "{}")
    await rename(api, drops[0])
    missed = await rename(api, drops[1])
    async with streaming(transport, api, drops[1:], last_event_id=first.id) as stream:
        message = await stream.receive_any()
        assert (message.type, message.data["drop"]) == ("DROP_UPDATED", missed)


async def test_every_event_on_both_transports(api: Api) -> None:
    """Both transports bring every event, in order and to the letter as the log has it, of HTTP requests and of psql."""
    http, owner = api.http, api.owner
    seller, ann, bob = [await make_user(owner) for _ in range(3)]
    start = await newest_id(owner)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(streaming(transport, api, snapshot=False)) for transport in TRANSPORTS]
        expected: list[tuple[str, Row]] = []

        def expect(event_type: str, **data: object) -> None:
            expected.append((event_type, data))

        def expect_stock(units: int) -> None:
            expect("STOCK_UPDATED", dropId=drop_id, availableStock=units)

        drop = await make_drop(http, seller, price=5000, total_stock=3)
        drop_id = drop["id"]
        expect("DROP_CREATED", drop=drop)
        expect("DROP_UPDATED", drop=await patch(api, drop_id, price=120.5, name='Naïve "quoted" \\ 靴\U0001f45f'))
        expect("DROP_UPDATED", drop=await patch(api, drop_id, total_stock=5))
        expect_stock(5)
        await reserve(http, drop_id, ann)
        expect_stock(4)
        bought = await purchase(http, drop_id, ann)
        name = await owner.fetchval("select username from inventory.users where id = $1", UUID(ann))
        purchaser = {"userId": ann, "username": name, "qty": 1, "createdAt": bought["createdAt"]}
        expect("PURCHASE_COMPLETED", dropId=drop_id, username=name, qty=1, purchasedAt=bought["createdAt"])
        expect("ACTIVITY_UPDATED", dropId=drop_id, latestPurchasers=[purchaser])
        hold = await reserve(http, drop_id, bob)
        expect_stock(3)
        assert_success(await http.delete(f"/reservations/{hold['id']}/cancel", headers=as_user(bob)), "reservation")
        expect_stock(4)
        hold = await reserve(http, drop_id, bob)
        expect_stock(3)
        await make_due(owner, hold["id"])
        assert assert_success(await http.post("/internal/expire-now"), "expired") == 1
        expect("RESERVATION_EXPIRED", dropId=drop_id, reservationId=hold["id"])
        expect_stock(4)
        await psql(api, f"set timezone = 'Asia/Tokyo'; select api.refund_purchase('{bought['id']}')")
        expect_stock(5)
        expect("ACTIVITY_UPDATED", dropId=drop_id, latestPurchasers=[])
        await psql(api, f"select api.reserve('{drop_id}', '{ann}'), api.reserve('{drop_id}', '{bob}')")
        expect_stock(3)
        expect("DROP_UPDATED", drop=await patch(api, drop_id, status="cancelled"))
        expect_stock(5)

        log = await logged(owner, start)
        assert [message.type for message in log] == [event_type for event_type, _ in expected]
        for stream in streams:
            received = [await stream.receive() for _ in log]
            assert received == log
            for message, (event_type, data) in zip(received, expected, strict=True):
                assert (message.type, message.data, list(message.data)) == (event_type, data, list(data))
    assert '"price":5000.00,' in log[0].text
    assert '"price":120.50,' in log[1].text
    assert_row(log[0].data["drop"], DROP)
    assert_row(log[6].data["latestPurchasers"][0], PURCHASER)
    assert is_time(log[5].data["purchasedAt"])
    assert log[0].data["drop"]["price"] == Decimal("5000.00")


async def psql(api: Api, statements: str) -> None:
    """Run the statements in psql."""
    command = [
        BIN_DIR / "psql",
        "--quiet",
        "--no-psqlrc",
        "--set=ON_ERROR_STOP=1",
        api.database_url,
        "--command",
        statements,
    ]
    await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_event_larger_than_a_notification(
    api: Api, drops: list[str], transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that does not fit in a notification comes whole and in its place, and the log need not be looked at for it."""
    monkeypatch.setattr("lastpair.realtime.relay.CHECK_SECONDS", 3600)
    fillers = ["", "ö" * 50_000, "x" * 8000, ""]
    texts = [dumps({"dropId": drops[0], "n": n, "filler": filler}, ensure_ascii=False) for n, filler in enumerate(fillers)]
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(served(settings_for(api.database_url)))
        told: Any = replace(api, service=service)  # type: ignore[arg-type]
        stream = await stack.enter_async_context(streaming(transport, told, snapshot=False))
        narrow = await stack.enter_async_context(streaming(transport, told, drops[:1]))
        assert_snapshot(await narrow.receive(), drops[:1])
        last_id = await newest_id(api.owner)
        await publish(api.owner, drops[0], "LARGE", texts)
        for receiver in (stream, narrow):
            received = [await receiver.receive() for _ in texts]
            assert received == await logged(api.owner, last_id)
            assert [message.text for message in received] == texts


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_named_drops(api: Api, drops: list[str], transport: str) -> None:
    """Only events of the named drops come. The SNAPSHOT has them in any status, and ids of no drop are ignored."""
    live, ended, other = drops
    await patch(api, ended, status="ended")
    async with streaming(transport, api, [live.upper(), live, ended, uuid4()]) as stream:
        assert_snapshot(await stream.receive(), list(await truth(api.owner, [live, ended])))
        for drop_id in (other, live, other, other, ended, live):
            if drop_id == other:
                await rename(api, drop_id)
            else:
                await assert_silent_until(stream, api, drop_id)
    async with streaming(transport, api, [uuid4()]) as stream:
        assert_snapshot(await stream.receive(), [])


BAD_QUERIES = [
    *([("dropId", bad)] for bad in BAD_UUIDS),
    [("dropId", str(uuid4())), ("dropId", "x")],
    [("dropId", str(UUID(int=n))) for n in range(101)],
    [("snapshot", "no")],
    [("snapshot", "")],
]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("query", BAD_QUERIES, ids=range(len(BAD_QUERIES)))
async def test_bad_queries_are_refused(api: Api, base: str, query: list[tuple[str, str]]) -> None:
    """A bad query is a 400 with the envelope; a WebSocket gets it in place of the handshake."""
    answers = [await api.http.get(f"{api.url}{base}/events", params=query)]
    with pytest.raises(InvalidStatus) as refused:
        await open_stream("ws", api.url, base=base, query=query)
    response = refused.value.response
    headers = list(response.headers.raw_items())
    answers.append(httpx.Response(response.status_code, headers=headers, content=bytes(response.body or b"")))
    for answer in answers:
        assert_invalid(answer, query[0][0])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_hundred_drops(api: Api, drops: list[str], transport: str) -> None:
    """A client may name 100 drops, of which repeated ones count once, and join no more."""
    ids = [drops[0], *(str(UUID(int=n)) for n in range(99))]
    async with streaming(transport, api, [*ids, drops[0]], snapshot=False) as stream:
        if transport == "ws":
            await stream.join(uuid4())
            assert_refusal(await stream.receive(), "dropId")
            await stream.join(ids[50])
        await assert_silent_until(stream, api, drops[0])


def assert_refusal(message: Message, field: str) -> None:
    """An ERROR frame that names the field and the reason."""
    assert message.type == "ERROR"
    assert list(message.data) == ["code", "message"]
    assert message.data["code"] == "VALIDATION_ERROR"
    assert re.match(rf"{re.escape(field)}: \w+", message.data["message"]), message.data


async def test_join_and_leave_of_a_client_that_named_drops(api: Api, drops: list[str]) -> None:
    """A joined drop comes with a SNAPSHOT of its own; no events come of a drop that was left, and none at all without a drop."""
    first, second, third = drops
    async with streaming("ws", api, [first]) as stream:
        assert_snapshot(await stream.receive(), [first])
        await stream.join(second.upper())
        assert_snapshot(await stream.receive(), [second])
        await rename(api, third)
        for drop_id in (first, second, first):
            await assert_silent_until(stream, api, drop_id)
        await stream.join(second)  # it is in this room already
        await stream.leave(third)  # it is not in this one
        await stream.leave(first)
        await stream.leave(first)
        assert await stream.settle() == []
        await rename(api, first)
        await assert_silent_until(stream, api, second)
        await stream.leave(second)
        assert await stream.settle() == []
        for drop_id in drops:
            await rename(api, drop_id)
        await stream.join(first)
        assert_snapshot(await stream.receive(), [first])
        await rename(api, second)
        await assert_silent_until(stream, api, first)


async def test_join_and_leave_of_a_client_that_named_no_drop(api: Api, drops: list[str]) -> None:
    """The first join narrows it to one drop, which it has already; leaving the last one brings all back, with a SNAPSHOT."""
    first, second, third = drops
    async with streaming("ws", api) as stream:
        everything = list(await truth(api.owner))
        assert_snapshot(await stream.receive(), everything)
        await assert_silent_until(stream, api, second)
        await stream.join(first)
        assert await stream.settle() == []
        await rename(api, second)
        await assert_silent_until(stream, api, first)
        await stream.join(second)
        assert_snapshot(await stream.receive(), [second])
        await rename(api, third)
        await assert_silent_until(stream, api, second)
        await stream.leave(first)
        assert await stream.settle() == []
        await rename(api, first)
        await assert_silent_until(stream, api, second)
        await stream.leave(second)
        assert_snapshot(await stream.receive(), everything)
        for drop_id in drops:
            await assert_silent_until(stream, api, drop_id)


@pytest.mark.parametrize("is_binary", [False, True])
async def test_join_without_snapshots(api: Api, drops: list[str], is_binary: bool) -> None:
    """A client that wants no SNAPSHOT gets none when it joins a drop. A message may be a text or a binary frame."""
    first, second, _ = drops
    async with streaming("ws", api, [first], snapshot=False) as stream:
        text = dumps({"type": "drops:join", "dropId": second})
        await stream.connection.send(text.encode() if is_binary else text)
        assert await stream.settle() == []
        for drop_id in (first, second):
            await assert_silent_until(stream, api, drop_id)


BAD_MESSAGES: list[tuple[str | bytes, str]] = [
    ("", "body"),
    ("?", "body"),
    ("null", "body"),
    ("[]", "body"),
    ('"drops:join"', "body"),
    ("{}", "type"),
    ("[" * 4000, "body"),
    ("NaN", "body"),
    (b"", "body"),
    (b"\x00\xff", "body"),
    (b"\xc3\x28", "body"),
    (dumps({"type": "drops:join"}), "dropId"),
    (dumps({"type": "drops:join", "dropId": None}), "dropId"),
    (dumps({"type": "drops:join", "dropId": 5}), "dropId"),
    (dumps({"type": "drops:join", "dropId": "x"}), "dropId"),
    (dumps({"type": "drops:join", "dropId": ""}), "dropId"),
    (dumps({"type": "drops:join", "dropId": "\ud800"}), "dropId"),
    (dumps({"type": "drops:join", "dropId": str(uuid4()), "more": 1}), "more"),
    (dumps({"type": "drops:look", "dropId": str(uuid4())}), "type"),
    (dumps({"dropId": str(uuid4())}), "type"),
    (f'{{"type": "drops:join", "dropId": "{uuid4()}", "dropId": "{uuid4()}"}}', "body"),
]


@pytest.mark.parametrize(("said", "field"), BAD_MESSAGES, ids=range(len(BAD_MESSAGES)))
async def test_a_message_that_is_not_valid(api: Api, drops: list[str], said: str | bytes, field: str) -> None:
    """It is answered with an ERROR and has no effect; the connection goes on, and later messages are carried out."""
    first, second, _ = drops
    async with streaming("ws", api, [first]) as stream:
        last_id = (await stream.receive()).id
        await stream.connection.send(said)
        error = await stream.receive()
        assert_refusal(error, field)
        assert error.id == last_id
        await rename(api, second)
        await assert_silent_until(stream, api, first)
        await stream.join(second)
        assert_snapshot(await stream.receive(), [second])


async def test_a_message_that_is_too_long(api: Api) -> None:
    """A message of 4096 bytes is read; one more byte ends the connection."""
    async with streaming("ws", api, snapshot=False) as stream:
        await stream.connection.send("x" * 4096)
        assert_refusal(await stream.receive(), "body")
        await stream.connection.send("x" * 4097)
        with pytest.raises(StreamEnded) as ended:
            await stream.receive()
        assert ended.value.code == 1009


async def test_many_messages(api: Api, drops: list[str]) -> None:
    """A thousand joins and leaves at once end in the room of the last one."""
    first, second, _ = drops
    async with streaming("ws", api, [first], snapshot=False) as stream:
        for _ in range(500):
            await stream.join(second)
            await stream.leave(second)
        await stream.join(second)
        await stream.leave(first)
        assert await stream.settle() == []
        await rename(api, first)
        await assert_silent_until(stream, api, second)


async def test_a_page_of_another_origin(api: Api) -> None:
    """Without CORS_ORIGINS a stream allows no origin, so a browser hides it from pages of other origins."""
    async with streaming("sse", api, headers={"Origin": "https://shop.example"}) as stream:
        assert "access-control-allow-origin" not in stream.response.headers
