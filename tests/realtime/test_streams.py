"""The streams as a client meets them: what comes, in which form, in which rooms, and what is refused."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from json import dumps
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from lastpair.database.embedded import BIN_DIR
from tests.support.api import JSON, as_user, assert_invalid, assert_success
from tests.support.database import Database
from tests.support.factories import assert_healthy, make_drop, make_due, make_user, purchase, reserve
from tests.support.shapes import DROP, LISTED_DROP, PURCHASER, Row, assert_row, is_time
from tests.support.streams import (
    TRANSPORTS,
    Message,
    Stage,
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
async def stage(database: Database) -> AsyncIterator[Stage]:
    """Where all of this happens."""
    async with fresh_database(database) as url, serving(url) as stage:
        yield stage
        await assert_healthy(stage.owner)


@pytest.fixture(scope="module")
async def seller(stage: Stage) -> str:
    """Whose drops they are."""
    return await make_user(stage.owner)


@asynccontextmanager
async def streaming(transport: str, stage: Stage, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
    """A stream of the service; without a SNAPSHOT, one that begins now, whatever the service has yet to hear of."""
    if options.get("snapshot") is False:
        options["last_event_id"] = await newest_id(stage.owner)
    stream = await open_stream(transport, stage.url, *arguments, **options)
    try:
        yield stream
    finally:
        await stream.close()


async def rename(stage: Stage, drop_id: str, name: str | None = None) -> Row:
    """A change that is announced with one event, DROP_UPDATED; returns the drop."""
    drop: Row = await patch(stage, drop_id, name=name or uuid4().hex)
    return drop


async def patch(stage: Stage, drop_id: str, **changes: object) -> Row:
    """PATCH /drops/{dropId}."""
    response = await stage.http.patch(f"/drops/{drop_id}", content=dumps(changes), headers=as_user(uuid4()) | JSON)
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


async def assert_silent_until(stream: Any, stage: Stage, drop_id: str) -> None:
    """The next thing the stream brings is this drop's new name."""
    name = (await rename(stage, drop_id))["name"]
    message = await stream.receive()
    assert (message.type, message.data["drop"]["name"]) == ("DROP_UPDATED", name)


@pytest.mark.parametrize("base", BASES)
async def test_headers_and_the_beginning_of_an_sse_stream(stage: Stage, seller: str, base: str) -> None:
    """`retry:` first, then a SNAPSHOT of the drops that are not over, in the form of GET /drops, under the newest event's id."""
    drop = await make_drop(stage.http, seller)
    for status in ("draft", "scheduled"):
        await make_drop(stage.http, seller, starts_at="2999-01-01T00:00:00Z", status=status)
    await patch(stage, (await make_drop(stage.http, seller))["id"], status="ended")
    buyer = await make_user(stage.owner)
    await reserve(stage.http, drop["id"], buyer)
    await purchase(stage.http, drop["id"], buyer)

    async with streaming("sse", stage, base=base, headers={"X-Request-Id": "stream.1"}) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "no-store" in headers["cache-control"]
        assert headers["x-accel-buffering"] == "no"
        assert headers["x-request-id"] == "stream.1"
        assert "content-length" not in headers
        snapshot = await stream.receive()
        assert stream.parser.retry_ms == [1000]
        assert int(snapshot.id) == await newest_id(stage.owner)
        shown = await truth(stage.owner)
        drops = assert_snapshot(snapshot, list(shown))
        assert {drop["status"] for drop in drops} == {"draft", "scheduled", "live"}
        listed = assert_success(await stage.http.get("/drops"), "drops")
        assert [drop for drop in drops if drop["status"] == "live"] == listed
        assert listed[0]["activity_feed"]["latest_purchasers"][0]["userId"] == buyer
        await assert_silent_until(stream, stage, drop["id"])
        assert stream.parser.retry_ms == [1000]


@pytest.mark.parametrize("base", BASES)
async def test_the_beginning_of_a_websocket(stage: Stage, seller: str, base: str) -> None:
    """The same SNAPSHOT."""
    drop = await make_drop(stage.http, seller)
    async with streaming("ws", stage, base=base, headers={"X-Request-Id": "stream.2"}) as stream, streaming("sse", stage) as sse:
        assert stream.connection.response.headers["x-request-id"] == "stream.2"
        snapshot = await stream.receive()
        assert snapshot == await sse.receive()
        assert_snapshot(snapshot, list(await truth(stage.owner)))
        await assert_silent_until(stream, stage, drop["id"])


@pytest.mark.parametrize("base", BASES)
async def test_head_is_answered_with_the_headers(stage: Stage, base: str) -> None:
    """And ends. Other methods are refused."""
    answer = await stage.http.head(f"{stage.url}{base}/events?dropId={uuid4()}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content == b""
    assert (await stage.http.head(f"{stage.url}{base}/events?dropId=x")).status_code == 400
    answer = await stage.http.post(f"{stage.url}{base}/events")
    assert (answer.status_code, sorted(answer.headers["allow"].split(", "))) == (405, ["GET", "HEAD"])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_a_snapshot_it_begins_now(stage: Stage, seller: str, transport: str) -> None:
    """`snapshot=true` is the same as nothing; another value is refused, see below."""
    drop = await make_drop(stage.http, seller)
    async with streaming(transport, stage, snapshot=True) as other:
        assert (await other.receive()).type == "SNAPSHOT"
    await caught_up(stage, drop["id"])
    stream = await open_stream(transport, stage.url, snapshot=False)
    await assert_silent_until(stream, stage, drop["id"])
    await stream.close()


async def test_every_event_on_both_transports(stage: Stage) -> None:
    """The same on both, to the letter as the log has it: all there is to announce, in order, whoever did it."""
    http, owner = stage.http, stage.owner
    seller, ann, bob = [await make_user(owner) for _ in range(3)]
    start = await newest_id(owner)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(streaming(transport, stage, snapshot=False)) for transport in TRANSPORTS]
        expected: list[tuple[str, Row]] = []

        def expect(event_type: str, **data: object) -> None:
            expected.append((event_type, data))

        def expect_stock(units: int) -> None:
            expect("STOCK_UPDATED", dropId=drop_id, availableStock=units)

        drop = await make_drop(http, seller, price=5000, total_stock=3)
        drop_id = drop["id"]
        expect("DROP_CREATED", drop=drop)
        expect("DROP_UPDATED", drop=await patch(stage, drop_id, price=120.5, name='Naïve \u2028 "quoted" \\ 靴\U0001f45f'))
        expect("DROP_UPDATED", drop=await patch(stage, drop_id, total_stock=5))
        expect_stock(5)
        await reserve(http, drop_id, ann)
        expect_stock(4)
        bought = await purchase(http, drop_id, ann)
        name = await owner.fetchval("select username from inventory.users where id = $1", UUID(ann))
        purchaser = {"userId": ann, "username": name, "qty": 1, "createdAt": bought["createdAt"]}
        expect("PURCHASE_COMPLETED", dropId=drop_id, username=name, purchasedAt=bought["createdAt"])
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
        await psql(stage, f"set timezone = 'Asia/Tokyo'; select api.refund_purchase('{bought['id']}')")
        expect_stock(5)
        expect("ACTIVITY_UPDATED", dropId=drop_id, latestPurchasers=[])
        await psql(stage, f"select api.reserve('{drop_id}', '{ann}'), api.reserve('{drop_id}', '{bob}')")
        expect_stock(3)
        expect("DROP_UPDATED", drop=await patch(stage, drop_id, status="cancelled"))
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


async def psql(stage: Stage, statements: str) -> None:
    """A person at psql."""
    command = [BIN_DIR / "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", stage.database_url, "--command", statements]
    await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_event_larger_than_a_notification(stage: Stage, seller: str, transport: str) -> None:
    """Comes whole and in its place."""
    drop_id = (await make_drop(stage.http, seller))["id"]
    fillers = ["", "ö" * 50_000, "x" * 8000, ""]
    texts = [dumps({"dropId": drop_id, "n": n, "filler": filler}, ensure_ascii=False) for n, filler in enumerate(fillers)]
    async with streaming(transport, stage, snapshot=False) as stream, streaming(transport, stage, [drop_id]) as narrow:
        assert_snapshot(await narrow.receive(), [drop_id])
        last_id = await newest_id(stage.owner)
        await publish(stage.owner, drop_id, "LARGE", texts)
        for receiver in (stream, narrow):
            received = [await receiver.receive(3) for _ in texts]  # and not only when the relay looks by itself
            assert received == await logged(stage.owner, last_id)
            assert [message.text for message in received] == texts


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_named_drops(stage: Stage, seller: str, transport: str) -> None:
    """Only theirs come, however they are written; the SNAPSHOT has them in any status, and drops nobody knows are not in it."""
    drops = [await make_drop(stage.http, seller) for _ in range(3)]
    live, ended, other = (drop["id"] for drop in drops)
    await patch(stage, ended, status="ended")
    async with streaming(transport, stage, [live.upper(), live, ended, uuid4()]) as stream:
        assert_snapshot(await stream.receive(), list(await truth(stage.owner, [live, ended])))
        for drop_id in (other, live, other, other, ended, live):
            if drop_id == other:
                await rename(stage, drop_id)
            else:
                await assert_silent_until(stream, stage, drop_id)
    async with streaming(transport, stage, [uuid4()]) as stream:
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
async def test_bad_queries_are_refused(stage: Stage, base: str, query: list[tuple[str, str]]) -> None:
    """400 with the envelope; a WebSocket gets it in place of the handshake."""
    answers = [await stage.http.get(f"{stage.url}{base}/events", params=query)]
    with pytest.raises(InvalidStatus) as refused:
        await open_stream("ws", stage.url, base=base, query=query)
    response = refused.value.response
    headers = list(response.headers.raw_items())
    answers.append(httpx.Response(response.status_code, headers=headers, content=bytes(response.body or b"")))
    for answer in answers:
        assert_invalid(answer, query[0][0])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_hundred_drops(stage: Stage, seller: str, transport: str) -> None:
    """Are not too many, named twice or not; one more cannot be joined."""
    drop = await make_drop(stage.http, seller)
    ids = [drop["id"], *(str(UUID(int=n)) for n in range(99))]
    async with streaming(transport, stage, [*ids, drop["id"]], snapshot=False) as stream:
        if transport == "ws":
            await stream.join(uuid4())
            assert_refusal(await stream.receive(), "dropId")
            await stream.join(ids[50])
        await assert_silent_until(stream, stage, drop["id"])


def assert_refusal(message: Message, field: str) -> None:
    """An ERROR frame that names the field and the reason."""
    assert message.type == "ERROR"
    assert list(message.data) == ["code", "message"]
    assert message.data["code"] == "VALIDATION_ERROR"
    assert re.match(rf"{re.escape(field)}: \w+", message.data["message"]), message.data


async def test_join_and_leave_of_one_that_named_drops(stage: Stage, seller: str) -> None:
    """Each drop joined comes with a SNAPSHOT of its own; what is left is silent; without any drop nothing comes at all."""
    first, second, third = [(await make_drop(stage.http, seller))["id"] for _ in range(3)]
    async with streaming("ws", stage, [first]) as stream:
        assert_snapshot(await stream.receive(), [first])
        await stream.join(second.upper())
        assert_snapshot(await stream.receive(), [second])
        await rename(stage, third)
        for drop_id in (first, second, first):
            await assert_silent_until(stream, stage, drop_id)
        await stream.join(second)  # is joined already
        await stream.leave(third)  # is not
        await stream.leave(first)
        await stream.leave(first)
        assert await stream.settle() == []
        await rename(stage, first)
        await assert_silent_until(stream, stage, second)
        await stream.leave(second)
        assert await stream.settle() == []
        for drop_id in (first, second, third):
            await rename(stage, drop_id)
        await stream.join(first)
        assert_snapshot(await stream.receive(), [first])
        await rename(stage, second)
        await assert_silent_until(stream, stage, first)


async def test_join_and_leave_of_one_that_named_none(stage: Stage, seller: str) -> None:
    """The first join narrows it to one drop, which it knows; leaving the last one brings all back, with a SNAPSHOT."""
    first, second, third = [(await make_drop(stage.http, seller))["id"] for _ in range(3)]
    async with streaming("ws", stage) as stream:
        everything = list(await truth(stage.owner))
        assert_snapshot(await stream.receive(), everything)
        await assert_silent_until(stream, stage, second)
        await stream.join(first)
        assert await stream.settle() == []
        await rename(stage, second)
        await assert_silent_until(stream, stage, first)
        await stream.join(second)
        snapshot = await stream.receive()
        assert_snapshot(snapshot, [second])
        await rename(stage, third)
        await assert_silent_until(stream, stage, second)
        await stream.leave(first)
        assert await stream.settle() == []
        await rename(stage, first)
        await assert_silent_until(stream, stage, second)
        await stream.leave(second)
        assert_snapshot(await stream.receive(), everything)
        for drop_id in (first, second, third):
            await assert_silent_until(stream, stage, drop_id)


async def test_join_without_snapshots(stage: Stage, seller: str) -> None:
    """One that wants none gets none when it joins, either."""
    first, second = [(await make_drop(stage.http, seller))["id"] for _ in range(2)]
    async with streaming("ws", stage, [first], snapshot=False) as stream:
        await stream.join(second)
        assert await stream.settle() == []
        for drop_id in (first, second):
            await assert_silent_until(stream, stage, drop_id)


BAD_MESSAGES: list[tuple[str | bytes, str]] = [
    ("", "body"),
    ("?", "body"),
    ("null", "body"),
    ("[]", "body"),
    ('"drops:join"', "body"),
    ("{}", "dropId"),
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
async def test_a_message_that_is_not_understood(stage: Stage, seller: str, said: str | bytes, field: str) -> None:
    """Is answered with an ERROR and has no effect; the connection goes on, and hears when the client leaves."""
    first, second = [(await make_drop(stage.http, seller))["id"] for _ in range(2)]
    async with streaming("ws", stage, [first]) as stream:
        last_id = (await stream.receive()).id
        await stream.connection.send(said)
        error = await stream.receive(5)
        assert_refusal(error, field)
        assert error.id == last_id
        await rename(stage, second)
        await assert_silent_until(stream, stage, first)
        await stream.join(second)
        assert_snapshot(await stream.receive(), [second])


async def test_a_message_may_come_as_binary(stage: Stage, seller: str) -> None:
    """What is in it counts."""
    first, second = [(await make_drop(stage.http, seller))["id"] for _ in range(2)]
    async with streaming("ws", stage, [first], snapshot=False) as stream:
        await stream.connection.send(dumps({"type": "drops:join", "dropId": second}).encode())
        assert await stream.settle() == []
        await assert_silent_until(stream, stage, second)


async def test_a_message_that_is_too_long(stage: Stage) -> None:
    """4096 bytes are read; one more ends the connection."""
    async with streaming("ws", stage, snapshot=False) as stream:
        await stream.connection.send("x" * 4096)
        assert_refusal(await stream.receive(), "body")
        await stream.connection.send("x" * 4097)
        with pytest.raises(StreamEnded) as ended:
            await stream.receive()
        assert ended.value.code == 1009


async def test_talking_much(stage: Stage, seller: str) -> None:
    """A thousand joins and leaves in one go end in the room of the last one."""
    first, second = [(await make_drop(stage.http, seller))["id"] for _ in range(2)]
    async with streaming("ws", stage, [first], snapshot=False) as stream:
        for _ in range(500):
            await stream.join(second)
            await stream.leave(second)
        await stream.join(second)
        await stream.leave(first)
        assert await stream.settle() == []
        await rename(stage, first)
        await assert_silent_until(stream, stage, second)


async def test_a_browsers_page_of_another_origin(stage: Stage) -> None:
    """Without CORS_ORIGINS the stream names none, so a browser keeps it from such a page."""
    async with streaming("sse", stage, headers={"Origin": "https://shop.example"}) as stream:
        assert "access-control-allow-origin" not in stream.response.headers
