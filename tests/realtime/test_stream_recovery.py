"""Clients miss nothing: replay, snapshots under load, and every event once to every client through any outage."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.support.database import Database
from tests.support.factories import Owner, assert_healthy, make_drop, make_user
from tests.support.random_buyers import RandomBuyers, has_seen_the_end
from tests.support.servers import Crashable, started
from tests.support.streams import (
    TRANSPORTS,
    Api,
    Follower,
    Message,
    caught_up,
    fresh_database,
    logged,
    newest_id,
    open_stream,
    publish,
    serving,
    truth,
)
from tests.support.waiting import eventually, wait_for

CREATE = "select id from api.create_drop('A', 1, 5, $1, now())"
LISTENER = "select pid from pg_stat_activity where application_name = 'lastpair listener' and datname = current_database()"
UVICORN = ("uvicorn", "--factory", "lastpair.web.application:create_app", "--port", "PORT", "--log-level", "warning")
IN_MEMORY = 4096
"""The number of events that a process reads from the log into its memory when it starts."""


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a log of 5,100 events, the latest of them in its memory. Every tenth is the first drop's."""
    async with fresh_database(database) as url:
        async with asyncpg.create_pool(url) as owner:
            seller = UUID(await make_user(owner))
            drops = [await owner.fetchval(CREATE, seller) for _ in range(2)]
            for _ in range(51):
                for drop_id, count in zip(drops, (10, 90), strict=True):
                    await publish(owner, drop_id, "FILLER", [dumps({"dropId": str(drop_id), "n": n}) for n in range(count)])
        async with serving(url) as api:
            yield api
            await assert_healthy(api.owner)


@pytest.fixture(scope="module")
async def drops(api: Api) -> list[str]:
    """The two drops of that log."""
    return [str(row["id"]) for row in await api.owner.fetch("select id from inventory.drops order by created_at limit 2")]


async def receive(stream: Any, count: int) -> list[Message]:
    """The next `count` messages; closes the stream afterwards."""
    try:
        return [await stream.receive() for _ in range(count)]
    finally:
        await stream.close()


async def types_of(stream: Any, count: int) -> list[str]:
    """The types of the next `count` messages; closes the stream afterwards."""
    return [message.type for message in await receive(stream, count)]


async def rename(owner: Owner, drop_id: object) -> None:
    """Rename the drop, which one DROP_UPDATED announces."""
    await owner.fetch("select from api.update_drop($1, $2)", UUID(str(drop_id)), dumps({"name": uuid4().hex}))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("way", ["header", "query"])
@pytest.mark.parametrize("back", [0, 1, 50, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, IN_MEMORY + 150, None])
async def test_replay(api: Api, drops: list[str], transport: str, back: int | None, way: str) -> None:
    """After the client's last event come all later ones, from memory or the log, in order and whole; no SNAPSHOT comes."""
    last_id = 0 if back is None else await newest_id(api.owner) - back
    options: dict[str, Any] = {"headers": {"Last-Event-ID": str(last_id)}} if way == "header" else {"last_event_id": last_id}
    stream = await open_stream(transport, api.url, **options)
    await rename(api.owner, drops[1])
    log = await logged(api.owner, last_id)
    assert back is None or len(log) == back + 1
    assert await receive(stream, len(log)) == log


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("last_id", [2, 900, 4000])
async def test_replay_of_one_drop(api: Api, drops: list[str], transport: str, last_id: int) -> None:
    """A client of one drop gets all of its events, although most of the log are events of another drop."""
    stream = await open_stream(transport, api.url, [drops[0]], last_event_id=last_id)
    for drop_id in reversed(drops):
        await rename(api.owner, drop_id)
    log = [message for message in await logged(api.owner, last_id) if drops[0] in message.text]
    assert await receive(stream, len(log)) == log


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_header_counts_more_than_the_query(api: Api, drops: list[str], transport: str) -> None:
    """A browser reconnects with its first query and the header. An empty value is no id."""
    log = await logged(api.owner, 0)
    stream = await open_stream(transport, api.url, last_event_id=1, headers={"Last-Event-ID": log[-4].id})
    assert await receive(stream, 3) == log[-3:]
    stream = await open_stream(transport, api.url, last_event_id=log[-3].id, headers={"Last-Event-ID": ""})
    assert await receive(stream, 2) == log[-2:]
    assert await types_of(await open_stream(transport, api.url, last_event_id=""), 1) == ["SNAPSHOT"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("unknown", ["garbage", "-1", "+1", "1.5", "0x10", "٣", " ", "9" * 18, "9" * 19, "9" * 500, "newest + 1"])
async def test_an_id_of_no_event(api: Api, drops: list[str], transport: str, unknown: str) -> None:
    """The client gets RESYNC_REQUIRED with a reason, then a SNAPSHOT if it wants one, then the next events."""
    await caught_up(api, drops[0])
    last_id = await newest_id(api.owner)
    given = str(last_id + 1) if unknown == "newest + 1" else unknown
    stream = await open_stream(transport, api.url, [drops[0]], last_event_id=given)
    other = await open_stream(transport, api.url, [drops[0]], last_event_id=given, snapshot=False)
    for resync in (await stream.receive(), await other.receive()):
        assert (resync.type, list(resync.data)) == ("RESYNC_REQUIRED", ["reason"])
        assert resync.data["reason"]
    snapshot = await stream.receive()
    assert (snapshot.type, snapshot.id) == ("SNAPSHOT", str(last_id))
    assert [drop["id"] for drop in snapshot.data["drops"]] == [drops[0]]
    await rename(api.owner, drops[1])
    await rename(api.owner, drops[0])
    assert await receive(stream, 1) == await receive(other, 1) == (await logged(api.owner, last_id))[1:]


async def test_joining_while_the_log_is_replayed(api: Api, drops: list[str]) -> None:
    """After the SNAPSHOT of a joined drop come only the events of it that the SNAPSHOT does not contain."""
    stream = await open_stream("ws", api.url, [drops[1]], last_event_id=2, receive_buffer_bytes=4096)
    await stream.join(drops[0])
    while (await stream.receive()).type != "SNAPSHOT":
        pass
    end = await newest_id(api.owner)
    await rename(api.owner, drops[0])
    late: list[Message] = []
    while not late or int(late[-1].id) <= end:
        message = await stream.receive()
        if drops[0] in message.text:
            late.append(message)
    assert late == await logged(api.owner, end)
    await stream.close()


@pytest.mark.slow
async def test_a_log_that_was_pruned(database: Database) -> None:
    """A client starts again only if neither the log nor the memory has the events that it missed."""
    async with fresh_database(database) as url, asyncpg.create_pool(url) as owner:
        drop_id = await owner.fetchval(CREATE, UUID(await make_user(owner)))
        await publish(owner, drop_id, "FILLER", ["{}"] * 5000)
        newest = await newest_id(owner)
        async with serving(url, EVENT_RETENTION_SECONDS="20") as api:  # the sweeper prunes every 2 seconds
            await owner.execute("update inventory.events set created_at = now() - interval '1 day'")
            await eventually(lambda: owner.fetchval("select min(id) = $1 from inventory.events", newest))
            for transport in TRANSPORTS:
                for last_id in (0, 1, newest - IN_MEMORY - 1):
                    stream = await open_stream(transport, api.url, last_event_id=last_id)
                    resync, snapshot = await receive(stream, 2)
                    assert (resync.type, snapshot.type, snapshot.id) == ("RESYNC_REQUIRED", "SNAPSHOT", str(newest))
                    stream = await open_stream(transport, api.url, last_event_id=last_id, snapshot=False)
                    assert await types_of(stream, 1) == ["RESYNC_REQUIRED"]
                stream = await open_stream(transport, api.url, last_event_id=newest - IN_MEMORY)
                assert set(await types_of(stream, IN_MEMORY)) == {"FILLER"}
        async with serving(url) as api:
            for transport in TRANSPORTS:
                stream = await open_stream(transport, api.url, last_event_id=newest - 1)
                assert (await receive(stream, 1))[0].id == str(newest)
                stream = await open_stream(transport, api.url, last_event_id=newest - 2)
                assert await types_of(stream, 2) == ["RESYNC_REQUIRED", "SNAPSHOT"]


@pytest.mark.slow
async def test_a_listener_away_for_longer_than_the_log(database: Database) -> None:
    """While it is away /readyz is 503. Afterwards every connected client is told to start again, and is right again."""
    async with fresh_database(database) as url, serving(url) as api:
        drop_id = (await make_drop(api.http, await make_user(api.owner)))["id"]
        followers = [Follower(transport, api.url, ids) for transport in TRANSPORTS for ids in ([], [drop_id])]
        for follower in followers:
            await follower.connect()

        async def expect(*event_types: str) -> None:
            for follower in followers:
                for event_type in event_types:
                    follower.apply(await follower.stream.receive())
                    assert follower.types[-1] == event_type
                assert follower.shows() == await truth(api.owner)

        await expect("SNAPSHOT")
        await rename(api.owner, drop_id)
        await expect("DROP_UPDATED")
        [pid] = [row["pid"] for row in await api.owner.fetch(LISTENER)]
        allow_connections = f"alter database {urlsplit(url).path[1:]} allow_connections"
        admin = await asyncpg.connect(database.superuser_url)
        try:
            await admin.execute(f"{allow_connections} false")
            assert await api.owner.fetchval("select pg_terminate_backend($1)", pid)
            await asyncio.to_thread(wait_for, lambda: api.service.answers("/readyz", 503))
            for _ in range(3):
                await rename(api.owner, drop_id)
            assert await api.owner.fetchval("select api.prune_events(0)") > 0
        finally:
            await admin.execute(f"{allow_connections} true")
            await admin.close()
        await expect("RESYNC_REQUIRED", "SNAPSHOT")
        await asyncio.to_thread(api.service.wait_until_ready)
        await rename(api.owner, drop_id)
        await expect("DROP_UPDATED")


async def assert_told_all(follower: Follower, owner: asyncpg.Pool) -> None:
    """From its first SNAPSHOT on it got every event for it, once and in order, and it shows what the database has."""
    assert follower.start_id is not None
    log, ids = await logged(owner, follower.start_id), follower.drop_ids
    assert follower.ids == [int(message.id) for message in log if not ids or any(drop_id in message.text for drop_id in ids)]
    assert "RESYNC_REQUIRED" not in follower.types
    assert follower.shows() == await truth(owner, follower.drop_ids)


@pytest.mark.slow
async def test_snapshots_under_load(database: Database) -> None:
    """A SNAPSHOT taken at any time and the events after it lead to what the database holds in the end."""
    chance = random.Random(4)  # noqa: S311 - a load to repeat, not a secret
    async with fresh_database(database) as url, serving(url) as api:
        followers, following = [], []
        async with RandomBuyers(api, buyers=10).running() as buyers:
            for n in range(30):
                await buyers.answered(chance.randint(1, 20))
                followers.append(Follower(TRANSPORTS[n % 2], api.url, chance.sample(buyers.drops, 2) if n % 3 == 0 else []))
                following.append(asyncio.create_task(followers[-1].run(has_seen_the_end)))
                await eventually(lambda: followers[-1].start_id is not None)  # so that they do not all begin at once
            await buyers.answered(100)
        await buyers.finish()
        await asyncio.gather(*following)
        for follower in followers:
            assert follower.types.count("SNAPSHOT") == 1
            await assert_told_all(follower, api.owner)
        assert len({follower.start_id for follower in followers}) > 20
        await assert_healthy(api.owner)


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
async def test_snapshots_of_drops_joined_under_load(api: Api, named: bool) -> None:
    """A drop whose name counts up is joined again and again: after each SNAPSHOT come the next numbers, without a gap."""
    seller = await make_user(api.owner)
    quiet, counting = [(await make_drop(api.http, seller, name="0"))["id"] for _ in range(2)]
    counts = True

    async def count() -> None:
        async with api.owner.acquire() as connection:
            n = 1
            while counts:
                await connection.execute("update inventory.drops set name = $2 where id = $1", UUID(counting), str(n))
                n += 1

    counter = asyncio.create_task(count())
    stream = await open_stream("ws", api.url, [quiet] if named else [])
    try:
        assert (await stream.receive()).type == "SNAPSHOT"
        for _ in range(100):
            await (stream.leave(counting) if named else stream.join(quiet))
            await stream.settle()
            await (stream.join(counting) if named else stream.leave(quiet))
            message = await stream.receive()
            assert message.type == "SNAPSHOT"
            [number] = [int(drop["name"]) for drop in message.data["drops"] if drop["id"] == counting]
            for _ in range(3):
                message = await stream.receive()
                number += 1
                assert int(message.data["drop"]["name"]) == number
    finally:
        counts = False
        await counter
        await stream.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Crashable]:
    """A migrated PostgreSQL server of these tests' own, which they may crash."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        yield Crashable(Path(folder), url)


async def listener_of(owner: Owner, *others: int) -> int:
    """Wait for a session of the listener that is none of `others`; returns its process id."""
    found: list[int] = []

    async def is_there() -> bool:
        found[:] = [row["pid"] for row in await owner.fetch(LISTENER) if row["pid"] not in others]
        return bool(found)

    await eventually(is_there)
    return found[0]


@asynccontextmanager
async def followed(api: Api, chance: random.Random, **options: Any) -> AsyncIterator[tuple[RandomBuyers, list[Follower]]]:
    """Buyers, and twelve clients that follow them, some of them only two drops. In the end each client got every event once."""
    async with RandomBuyers(api, **options).running() as buyers:
        narrow = [chance.sample(buyers.drops, 2) if n % 6 < 2 else [] for n in range(12)]
        followers = [Follower(TRANSPORTS[n % 2], api.url, drop_ids) for n, drop_ids in enumerate(narrow)]
        following = [asyncio.create_task(follower.run(has_seen_the_end)) for follower in followers]
        yield buyers, followers
    await buyers.finish()
    await asyncio.gather(*following)
    for follower in followers:
        await assert_told_all(follower, api.owner)
    await assert_healthy(api.owner)


@pytest.mark.slow
async def test_a_listener_that_is_cut_off_under_load(server: Crashable) -> None:
    """The listener's session is ended twenty times, and clients lose their connections: each gets every event once, in order."""
    chance = random.Random(5)  # noqa: S311 - an outage to repeat, not a secret
    async with serving(server.url) as api, followed(api, chance) as (buyers, followers):
        cut_off: list[int] = []
        for _ in range(20):
            await buyers.answered(chance.randint(5, 30))
            cut_off.append(await listener_of(api.owner, *cut_off))
            assert await api.owner.fetchval("select pg_terminate_backend($1)", cut_off[-1])
            for follower in chance.sample(followers, 3):
                follower.disconnect()
        await listener_of(api.owner, *cut_off)


@pytest.mark.slow
async def test_a_database_that_crashes_under_load(server: Crashable) -> None:
    """Three crashes: streams stay open, no client hears of what was lost, and each gets every event once."""
    chance = random.Random(6)  # noqa: S311 - an outage to repeat, not a secret
    async with serving(server.url) as api, followed(api, chance, is_down_at_times=True) as (buyers, followers):
        for _ in range(3):
            await buyers.answered(100)
            await asyncio.to_thread(server.crash)
            assert await asyncio.to_thread(api.service.answers, "/readyz", 503)
            for follower in chance.sample(followers, 4):
                follower.disconnect()
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(api.service.wait_until_ready)
        await buyers.answered(100)


@pytest.mark.slow
async def test_a_listener_that_is_silently_dead(server: Crashable) -> None:
    """The listener's session hangs without an error: this is noticed, and clients get the events that it did not hear."""
    async with serving(server.url) as api:
        drop_id = (await make_drop(api.http, await make_user(api.owner)))["id"]
        last_id = await newest_id(api.owner)
        streams = [await open_stream(transport, api.url, [drop_id], last_event_id=last_id) for transport in TRANSPORTS]
        await caught_up(api, drop_id)
        pid = await listener_of(api.owner)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                await rename(api.owner, drop_id)
            log = await logged(api.owner, last_id)
            for stream in streams:
                assert await receive(stream, len(log)) == log
            assert await listener_of(api.owner, pid) != pid
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_a_database_that_comes_later(server: Crashable) -> None:
    """Clients that connect before the database is there wait a moment, and are then served."""
    server.crash()
    with started(*UVICORN, DATABASE_URL=server.url, EXPIRY_POLL_MS="3600000") as service:
        wait_for(lambda: service.answers("/healthz", 200))
        opening = [asyncio.create_task(open_stream(transport, service.url)) for transport in TRANSPORTS]
        server.start()
        streams = [await task for task in opening]
        async with asyncpg.create_pool(server.url) as owner:
            seller = UUID(await make_user(owner))
            last_id = await newest_id(owner)
            for stream in streams:
                snapshot = await stream.receive()
                assert (snapshot.type, snapshot.id) == ("SNAPSHOT", str(last_id))
            await owner.fetchval(CREATE, seller)
            log = await logged(owner, last_id)
            for stream in streams:
                assert await receive(stream, 1) == log
        assert "Traceback" not in service.log(), service.log()
