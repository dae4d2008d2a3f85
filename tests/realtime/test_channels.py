"""Channels: an event that is for one user reaches this user's streams, once and in order, and nobody else."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import loads
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.factories import make_drop_by_sql, make_user
from tests.support.hub import the_track
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import MAKE_OLD, TRANSPORTS, Message, fresh_database, newest_id, open_stream, publish
from tests.support.waiting import eventually

LOG = """
select type, id::text, data, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
from inventory.events e
where id > $1 and (user_id = $2 or user_id is null and (cardinality($3::uuid[]) = 0 or drop_id = any ($3)))
order by e.id
"""
MEMORIES = {"in memory": 8192, "in the log": 8}
"""Where missed events are: the memory of the process reaches back to all of them, or only the log does."""


@pytest.fixture(scope="module")
async def own_database_url(database: Database) -> AsyncIterator[str]:
    """A database that only these tests use."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Sessions of its owner."""
    async with asyncpg.create_pool(own_database_url, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture(params=MEMORIES)
async def service(
    own_database_url: str, owner: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[InProcess]:
    """The service in this process, with a memory of this size, after an event of an earlier day."""
    monkeypatch.setattr("lastpair.realtime.hub.MEMORY_EVENTS", MEMORIES[request.param])
    await make_drop_by_sql(owner, 1)
    async with served(settings_for(own_database_url)) as service:
        yield service


@pytest.fixture
async def drops(owner: asyncpg.Pool) -> list[str]:
    """Two drops."""
    return [await make_drop_by_sql(owner, 1) for _ in range(2)]


@pytest.fixture
async def users(owner: asyncpg.Pool) -> list[str]:
    """Two users."""
    return [await make_user(owner) for _ in range(2)]


async def expected(owner: asyncpg.Pool, after: int, user: str | None, drop_ids: list[str]) -> list[Message]:
    """What a stream of this user and these drops gets after this id."""
    rows = await owner.fetch(LOG, after, None if user is None else UUID(user), [UUID(drop_id) for drop_id in drop_ids])
    return [Message(*row) for row in rows]


@asynccontextmanager
async def streaming(transport: str, service: InProcess, user: str | None, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
    """A stream of this user."""
    headers = {} if user is None else {"X-User-Id": user}
    stream = await open_stream(transport, service.url, *arguments, headers=headers, **options)
    try:
        yield stream
    finally:
        await stream.close()


async def happen(owner: asyncpg.Pool, drops: list[str], users: list[str], transactions: int) -> None:
    """Events of random drops, for everybody or for a random user, one or some in a transaction."""
    chance = random.Random(transactions)  # noqa: S311 - a run to repeat, not a secret
    for number in range(transactions):
        user = chance.choice([None, *users, str(uuid4())])
        texts = [f'{{"number":{number},"user":"{user}"}}'] * chance.choice([1, 1, 1, 5])
        await publish(owner, chance.choice(drops), chance.choice(["PAYMENT_UPDATED", "PURCHASE_COMPLETED"]), texts, user)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_stream_gets_its_own(
    service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str], transport: str
) -> None:
    """Public events, and the own ones of every drop: live, and after a reconnect at any place, with the same words and times."""
    start = await newest_id(owner)
    wanted = [(user, named) for user in (None, *users) for named in ([], drops[:1])]
    headers: list[dict[str, str]] = [{} if user is None else {"X-User-Id": user} for user, _ in wanted]
    streams = [
        await open_stream(transport, service.url, named, last_event_id=start, headers=said)
        for (_, named), said in zip(wanted, headers, strict=True)
    ]
    await happen(owner, drops, users, 60)
    await publish(owner, drops[0], "END", ["{}"])
    for (user, named), stream, said in zip(wanted, streams, headers, strict=True):
        log = await expected(owner, start, user, named)
        if service.components.hub.capacity > len(log) * 4:  # a small memory lets even a quick stream fall behind
            assert [await stream.receive() for _ in log] == log
        for position in (0, len(log) // 3, len(log) - 2):
            again = await open_stream(transport, service.url, named, last_event_id=log[position].id, headers=said)
            assert [await again.receive() for _ in log[position + 1 :]] == log[position + 1 :]
            await again.close()
        await stream.close()
    private = {message.type: message for message in await expected(owner, start, users[0], drops[:1])}
    assert private.keys() == {"PAYMENT_UPDATED", "PURCHASE_COMPLETED", "END"}
    await service.has_subscribers(0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_room_of_a_user_cannot_be_joined(
    service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str], transport: str
) -> None:
    """A user's id is no drop: who names it gets the events of a drop with this id, if there were one, and nothing private."""
    ann, bob = users
    start = await newest_id(owner)
    async with streaming(transport, service, bob, [ann], last_event_id=start) as stream:
        await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"], ann)
        await publish(owner, ann, "PAYMENT_UPDATED", ["{}"], ann)
        await publish(owner, ann, "END", ["{}"])
        assert (await stream.receive()).type == "END"


@pytest.mark.parametrize("room", ["{ann}", "user:{ann}"])
async def test_joining_by_message(service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str], room: str) -> None:
    """The same over an open WebSocket."""
    ann, bob = users
    start = await newest_id(owner)
    async with streaming("ws", service, bob, [drops[0]], last_event_id=start, snapshot=False) as stream:
        await stream.connection.send(f'{{"type":"drops:join","dropId":"{room.format(ann=ann)}"}}')
        await stream.connection.send('{"type":"drops:leave"}')  # the answer, an ERROR, comes when the first was carried out
        while (answer := await stream.receive()).data["message"] != "dropId: is required":
            assert answer.type == "ERROR"
        await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"], ann)
        await publish(owner, ann, "PAYMENT_UPDATED", ["{}"], ann)
        await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"], bob)
        await publish(owner, drops[0], "END", ["{}"])
        assert [(await stream.receive()).type for _ in range(2)] == ["PAYMENT_UPDATED", "END"]


async def test_a_user_who_leaves_all_drops(service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str]) -> None:
    """The own events still come, of any drop."""
    start = await newest_id(owner)
    async with streaming("ws", service, users[0], [drops[0]], last_event_id=start, snapshot=False) as stream:
        await stream.connection.send(f'{{"type":"drops:leave","dropId":"{drops[0]}"}}')
        await stream.connection.send('{"type":"drops:leave"}')
        assert (await stream.receive()).type == "ERROR"
        await publish(owner, drops[0], "PURCHASE_COMPLETED", ["{}"])
        await publish(owner, drops[1], "PAYMENT_UPDATED", ["{}"], users[0])
        assert (await stream.receive()).type == "PAYMENT_UPDATED"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("is_narrow", [False, True])
async def test_positions_among_private_events(
    service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str], transport: str, is_narrow: bool
) -> None:
    """A stream without identity may begin, and go on, at the id of an event that it never gets."""
    named = drops[:1] if is_narrow else []
    await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"], users[0])
    newest = await newest_id(owner)
    await eventually(lambda: the_track(service.components.hub).head_id == newest)
    async with streaming(transport, service, None, named, snapshot=False) as stream:
        position = await stream.receive_any()
        assert (position.type, position.id, position.text) == ("POSITION", str(newest), "{}")
    await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"] * 20, users[0])
    await publish(owner, drops[0], "END", ["{}"])
    async with streaming(transport, service, None, named, last_event_id=newest) as stream:
        assert (await stream.receive()).type == "END"


async def test_what_was_pruned(service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str]) -> None:
    """Private events of others may be gone; a user whose own ones may be gone starts again. Nobody is told of others."""
    ann, bob = users
    await publish(owner, drops[0], "PURCHASE_COMPLETED", ["{}"])
    seen = await newest_id(owner)
    await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"] * 12, ann)
    await owner.execute(MAKE_OLD)
    await publish(owner, drops[0], "PURCHASE_COMPLETED", ["{}"])
    assert await owner.fetchval("select api.prune_events(600)") > 0
    assert await owner.fetchval("select min(id) from inventory.events") == seen
    await owner.execute(f"{MAKE_OLD} where user_id is null")
    assert await owner.fetchval("select api.prune_events(600)") == 13
    await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"], bob)
    await publish(owner, drops[0], "END", ["{}"] * 9)
    newest = await newest_id(owner)
    await eventually(lambda: the_track(service.components.hub).head_id == newest)
    async with streaming("sse", service, None, drops[:1], last_event_id=seen + 1) as stream:
        assert (await stream.receive()).type == "PURCHASE_COMPLETED"
    async with streaming("sse", service, bob, drops[:1], last_event_id=seen + 1) as stream:
        types = [(await stream.receive()).type for _ in range(2)]
        is_in_memory = the_track(service.components.hub).reaches(seen + 1)
        assert types == (["PURCHASE_COMPLETED", "PAYMENT_UPDATED"] if is_in_memory else ["RESYNC_REQUIRED", "SNAPSHOT"])


async def test_a_notification_tells_nothing(owner: asyncpg.Pool, drops: list[str], users: list[str]) -> None:
    """A role that may only connect can listen. Of a private event it hears the id and a code."""
    heard: list[str] = []
    async with owner.acquire() as connection:
        await connection.add_listener("lastpair_events", lambda *notification: heard.append(notification[-1]))
        secret = uuid4().hex
        await publish(owner, drops[0], "PAYMENT_UPDATED", [f'{{"client_secret":"{secret}"}}'], users[0])
        await eventually(lambda: len(heard) > 0)
        await connection.remove_listener("lastpair_events", lambda *_: None)
        await connection.reset()
    [payload] = heard
    newest = await newest_id(owner)
    assert loads(payload)["events"] == [{"id": str(newest)}]
    assert list(loads(payload)) == ["mac", "committedAt", "events"]


async def test_private_events_come_at_once(service: InProcess, owner: asyncpg.Pool, drops: list[str], users: list[str]) -> None:
    """A proven notification makes the relay read the log now, without the pause after one that proves nothing."""
    relay = service.components.relays.all[0]
    start = await newest_id(owner)
    async with streaming("sse", service, users[0], last_event_id=start) as stream:
        for _ in range(5):  # more than the notifications that prove nothing after which a relay stops listening
            await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"] * 300, users[1])
        await publish(owner, drops[0], "PAYMENT_UPDATED", ["{}"], users[0])
        assert (await stream.receive()).type == "PAYMENT_UPDATED"
    assert relay.is_connected
    assert not relay._is_flooded
    assert relay._warn_at == {}
