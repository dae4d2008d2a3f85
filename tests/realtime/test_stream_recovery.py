"""What was missed is made up for: replay, snapshots under load, and every client told everything once through any outage."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
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
from tests.database.test_faults import UVICORN
from tests.support.database import Database
from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.market import Market, has_seen_the_end
from tests.support.servers import Crashable, started
from tests.support.streams import (
    TRANSPORTS,
    Dashboard,
    Message,
    Stage,
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

LISTENER = "select pid from pg_stat_activity where application_name = 'lastpair listener' and datname = $1"
IN_MEMORY = 4096
"""So many of the log's events a process has in memory when it starts."""


@pytest.fixture(scope="module")
async def stage(database: Database) -> AsyncIterator[Stage]:
    """A service on a log of 5,100 events, of which it has the latest in memory: one in ten of them is the first drop's."""
    async with fresh_database(database) as url:
        async with asyncpg.create_pool(url) as owner:
            seller = UUID(await make_user(owner))
            create = "select id from api.create_drop('A', 1, 5, $1, now())"
            drops = [await owner.fetchval(create, seller) for _ in range(2)]
            for _ in range(51):
                first = [dumps({"dropId": str(drops[0]), "n": n}) for n in range(10)]
                second = [dumps({"dropId": str(drops[1]), "n": n}) for n in range(90)]
                await publish(owner, drops[0], "FILLER", first)
                await publish(owner, drops[1], "FILLER", second)
        async with serving(url) as stage:
            yield stage
            await assert_healthy(stage.owner)


@pytest.fixture(scope="module")
async def drops(stage: Stage) -> list[str]:
    """The two drops of the stage."""
    return [str(row["id"]) for row in await stage.owner.fetch("select id from inventory.drops order by created_at limit 2")]


async def receive(stream: Any, count: int) -> list[Message]:
    """So many events; leaves the stream then."""
    try:
        return [await stream.receive() for _ in range(count)]
    finally:
        await stream.close()


async def rename(owner: asyncpg.Pool, drop_id: str) -> None:
    """Announce one DROP_UPDATED."""
    await owner.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": uuid4().hex}))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("back", "way"),
    [
        (0, "header"),
        (0, "query"),
        (1, "header"),
        (1, "query"),
        (50, "header"),
        (IN_MEMORY - 1, "query"),
        (IN_MEMORY, "query"),
        (IN_MEMORY + 1, "header"),
        (IN_MEMORY + 1, "query"),
        (IN_MEMORY + 150, "query"),
        (None, "header"),
        (None, "query"),
    ],
)
async def test_replay(stage: Stage, drops: list[str], transport: str, back: int | None, way: str) -> None:
    """What came after the event a client has, from memory or the log, in order and whole; then what happens. No SNAPSHOT."""
    last_id = 0 if back is None else await newest_id(stage.owner) - back
    options: dict[str, Any] = {"headers": {"Last-Event-ID": str(last_id)}} if way == "header" else {"last_event_id": last_id}
    stream = await open_stream(transport, stage.url, **options)
    await rename(stage.owner, drops[1])
    log = await logged(stage.owner, last_id)
    assert back is None or len(log) == back + 1
    assert await receive(stream, len(log)) == log


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("last_id", [2, 900, 4000])
async def test_replay_of_one_drop(stage: Stage, drops: list[str], transport: str, last_id: int) -> None:
    """Though it be the others' that fill the log."""
    stream = await open_stream(transport, stage.url, [drops[0]], last_event_id=last_id)
    for drop_id in reversed(drops):
        await rename(stage.owner, drop_id)
    log = [message for message in await logged(stage.owner, last_id) if drops[0] in message.text]
    assert await receive(stream, len(log)) == log


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_header_counts_more_than_the_query(stage: Stage, drops: list[str], transport: str) -> None:
    """A browser that reconnects sends it, and the query is what it first connected with. An empty one is none."""
    log = await logged(stage.owner, 0)
    stream = await open_stream(transport, stage.url, last_event_id=1, headers={"Last-Event-ID": log[-4].id})
    assert await receive(stream, 3) == log[-3:]
    stream = await open_stream(transport, stage.url, last_event_id=log[-3].id, headers={"Last-Event-ID": ""})
    assert await receive(stream, 2) == log[-2:]
    stream = await open_stream(transport, stage.url, last_event_id="")
    assert [message.type for message in await receive(stream, 1)] == ["SNAPSHOT"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("unknown", ["garbage", "-1", "+1", "1.5", "0x10", "٣", " ", "9" * 18, "9" * 19, "9" * 500, "newest + 1"])
async def test_an_id_that_nobody_gave_out(stage: Stage, drops: list[str], transport: str, unknown: str) -> None:
    """RESYNC_REQUIRED with a reason, then a SNAPSHOT, if one is wanted, then what happens."""
    await caught_up(stage, drops[0])
    last_id = await newest_id(stage.owner)
    given = str(last_id + 1) if unknown == "newest + 1" else unknown
    stream = await open_stream(transport, stage.url, [drops[0]], last_event_id=given)
    other = await open_stream(transport, stage.url, [drops[0]], last_event_id=given, snapshot=False)
    resyncs = [await stream.receive(), await other.receive()]
    for resync in resyncs:
        assert resync.type == "RESYNC_REQUIRED"
        assert list(resync.data) == ["reason"]
        assert resync.data["reason"]
    snapshot = await stream.receive()
    assert (snapshot.type, snapshot.id) == ("SNAPSHOT", str(last_id))
    assert [drop["id"] for drop in snapshot.data["drops"]] == [drops[0]]
    await rename(stage.owner, drops[1])
    await rename(stage.owner, drops[0])
    assert await receive(stream, 1) == await receive(other, 1) == (await logged(stage.owner, last_id))[1:]


async def test_joining_while_the_log_is_replayed(stage: Stage, drops: list[str]) -> None:
    """After the SNAPSHOT of the drop joined comes nothing of it that is in the SNAPSHOT."""
    stream = await open_stream("ws", stage.url, [drops[1]], last_event_id=2, receive_buffer_bytes=4096)
    try:
        await stream.join(drops[0])
        while (await stream.receive()).type != "SNAPSHOT":
            pass
        end = await newest_id(stage.owner)
        await rename(stage.owner, drops[0])
        late = []
        while not late or int(late[-1].id) <= end:
            message = await stream.receive()
            if drops[0] in message.text:
                late.append(message)
        assert late == await logged(stage.owner, end)
    finally:
        await stream.close()


async def test_a_log_that_was_pruned(database: Database) -> None:
    """Who is too far behind must begin anew; whoever the log or the memory can serve need not."""
    async with fresh_database(database) as url, asyncpg.create_pool(url) as owner:
        create = "select id from api.create_drop('A', 1, 5, $1, now())"
        drop_id = await owner.fetchval(create, UUID(await make_user(owner)))
        await publish(owner, drop_id, "FILLER", ["{}"] * 5000)
        newest = await newest_id(owner)
        async with serving(url, EVENT_RETENTION_SECONDS="1", EXPIRY_POLL_MS="50") as stage:
            oldest = "select min(id) from inventory.events"
            await eventually(lambda: owner.fetchval(f"select ({oldest}) = $1", newest))
            for transport in TRANSPORTS:
                for last_id in (0, 1, newest - IN_MEMORY - 1):
                    stream = await open_stream(transport, stage.url, last_event_id=last_id)
                    resync, snapshot = await receive(stream, 2)
                    assert (resync.type, snapshot.type, snapshot.id) == ("RESYNC_REQUIRED", "SNAPSHOT", str(newest))
                    stream = await open_stream(transport, stage.url, last_event_id=last_id, snapshot=False)
                    assert (await receive(stream, 1))[0].type == "RESYNC_REQUIRED"
                stream = await open_stream(transport, stage.url, last_event_id=newest - IN_MEMORY)
                assert {message.type for message in await receive(stream, IN_MEMORY)} == {"FILLER"}
            await asyncio.to_thread(stage.service.stop)
        async with serving(url) as stage:
            for transport in TRANSPORTS:
                stream = await open_stream(transport, stage.url, last_event_id=newest - 1)
                assert (await receive(stream, 1))[0].id == str(newest)
                stream = await open_stream(transport, stage.url, last_event_id=newest - 2)
                assert [message.type for message in await receive(stream, 2)] == ["RESYNC_REQUIRED", "SNAPSHOT"]


async def test_a_listener_away_for_longer_than_the_log(database: Database) -> None:
    """Meanwhile /readyz is 503; then everybody connected is told to begin anew, and does."""
    async with fresh_database(database) as url, serving(url) as stage:
        drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
        name = urlsplit(url).path[1:]
        dashboards = [Dashboard(transport, stage.url, ids) for transport in TRANSPORTS for ids in ([], [drop_id])]
        for dashboard in dashboards:
            await dashboard.connect()
            dashboard.apply(await dashboard.stream.receive())
        await assert_silent_before_rename(dashboards, stage, drop_id)
        [pid] = [row["pid"] for row in await stage.owner.fetch(LISTENER, name)]
        admin = await asyncpg.connect(database.superuser_url)
        try:
            await admin.execute(f"alter database {name} allow_connections false")
            assert await stage.owner.fetchval("select pg_terminate_backend($1)", pid)
            await asyncio.to_thread(wait_for, lambda: stage.service.answers("/readyz", 503))
            for _ in range(3):
                await rename(stage.owner, drop_id)
            assert await stage.owner.fetchval("select api.prune_events(0)") > 0
        finally:
            await admin.execute(f"alter database {name} allow_connections true")
            await admin.close()
        for dashboard in dashboards:
            for event_type in ("RESYNC_REQUIRED", "SNAPSHOT"):
                dashboard.apply(await dashboard.stream.receive())
                assert dashboard.types[-1] == event_type
            assert dashboard.shows() == await truth(stage.owner)
        await asyncio.to_thread(stage.service.wait_until_ready)
        await assert_silent_before_rename(dashboards, stage, drop_id)
        for dashboard in dashboards:
            await dashboard.stream.close()


async def assert_silent_before_rename(dashboards: list[Dashboard], stage: Stage, drop_id: str) -> None:
    """The next thing that any of them gets is a DROP_UPDATED."""
    await rename(stage.owner, drop_id)
    for dashboard in dashboards:
        dashboard.apply(await dashboard.stream.receive())
        assert dashboard.types[-1] == "DROP_UPDATED"
        assert dashboard.shows() == await truth(stage.owner)


@pytest.mark.slow
async def test_snapshots_under_load(database: Database) -> None:
    """Whenever a client comes, its SNAPSHOT and the events that follow lead to what the database holds in the end."""
    chance = random.Random(4)  # noqa: S311 - a load to repeat, not a secret
    async with fresh_database(database) as url, serving(url) as stage:
        async with Market(stage, buyers=10).open() as market:
            dashboards, shown = [], []
            for n in range(30):
                await market.answered(chance.randint(1, 20))
                dashboards.append(Dashboard(TRANSPORTS[n % 2], stage.url, chance.sample(market.drops, 2) if n % 3 == 0 else []))
                shown.append(asyncio.create_task(dashboards[-1].run(has_seen_the_end)))
            await market.answered(100)
        await market.finish()
        await asyncio.gather(*shown)
        for dashboard in dashboards:
            assert dashboard.shows() == await truth(stage.owner, dashboard.drop_ids)
            assert dashboard.types.count("SNAPSHOT") == 1
            await assert_told_all(dashboard, stage.owner)
        assert len({dashboard.start_id for dashboard in dashboards}) > 20
        await assert_healthy(stage.owner)


async def assert_told_all(dashboard: Dashboard, owner: asyncpg.Pool) -> None:
    """From its first SNAPSHOT on it got every event there was for it, once and in order."""
    assert dashboard.start_id is not None
    log = await logged(owner, dashboard.start_id)
    ids = dashboard.drop_ids
    assert dashboard.ids == [int(message.id) for message in log if not ids or any(drop_id in message.text for drop_id in ids)]
    assert "RESYNC_REQUIRED" not in dashboard.types


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
async def test_snapshots_of_drops_joined_under_load(stage: Stage, drops: list[str], named: bool) -> None:
    """A drop whose name counts up, joined again and again: after the SNAPSHOT come the numbers that follow, without a gap."""
    seller = await make_user(stage.owner)
    quiet, counting = [(await make_drop(stage.http, seller, name="0"))["id"] for _ in range(2)]
    counts = True

    async def count() -> None:
        async with stage.owner.acquire() as connection:
            n = 1
            while counts:
                await connection.execute("update inventory.drops set name = $2 where id = $1", UUID(counting), str(n))
                n += 1

    counter = asyncio.create_task(count())
    stream = await open_stream("ws", stage.url, [quiet] if named else [])
    try:
        assert (await stream.receive()).type == "SNAPSHOT"
        for _ in range(100):
            if named:
                await stream.leave(counting)
                await stream.settle()
                await stream.join(counting)
            else:
                await stream.join(quiet)
                await stream.settle()
                await stream.leave(quiet)
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
    """A PostgreSQL to break, migrated."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(migrate(url))
        yield Crashable(Path(folder), url)


async def listener_of(owner: asyncpg.Pool | asyncpg.Connection, *others: int) -> int:
    """The process id of the listener's session, once there is one and it is none of these."""
    name = await owner.fetchval("select current_database()")
    found: list[int] = []

    async def is_there() -> bool:
        found[:] = [row["pid"] for row in await owner.fetch(LISTENER, name) if row["pid"] not in others]
        return bool(found)

    await eventually(is_there)
    return found[0]


def dashboards_of(market: Market, url: str, chance: random.Random) -> list[Dashboard]:
    """Twelve clients, half of them of each transport, some of a few drops only."""
    narrow = [chance.sample(market.drops, 2) if n % 6 < 2 else [] for n in range(12)]
    return [Dashboard(TRANSPORTS[n % 2], url, drop_ids) for n, drop_ids in enumerate(narrow)]


async def assert_all_told_all(dashboards: list[Dashboard], owner: asyncpg.Pool) -> None:
    """Every one of them, and what it shows is right."""
    for dashboard in dashboards:
        await assert_told_all(dashboard, owner)
        assert dashboard.shows() == await truth(owner, dashboard.drop_ids)
    await assert_healthy(owner)


@pytest.mark.slow
async def test_a_listener_that_is_cut_off_under_load(server: Crashable) -> None:
    """Twenty times, and the clients' connections at random: each client is told everything, once and in order."""
    chance = random.Random(5)  # noqa: S311 - an outage to repeat, not a secret
    async with serving(server.url) as stage:
        async with Market(stage).open() as market:
            dashboards = dashboards_of(market, stage.url, chance)
            shown = [asyncio.create_task(dashboard.run(has_seen_the_end)) for dashboard in dashboards]
            cut_off: list[int] = []
            for _ in range(20):
                await market.answered(chance.randint(5, 30))
                cut_off.append(await listener_of(stage.owner, *cut_off))
                assert await stage.owner.fetchval("select pg_terminate_backend($1)", cut_off[-1])
                for dashboard in chance.sample(dashboards, 3):
                    dashboard.drop()
            await listener_of(stage.owner, *cut_off)
        await market.finish()
        await asyncio.gather(*shown)
        await assert_all_told_all(dashboards, stage.owner)


@pytest.mark.slow
async def test_a_database_that_crashes_under_load(server: Crashable) -> None:
    """Three times: streams stay open, and nothing is told that is not there after the recovery, nothing twice or never."""
    chance = random.Random(6)  # noqa: S311 - an outage to repeat, not a secret
    async with serving(server.url) as stage:
        async with Market(stage, is_down_at_times=True).open() as market:
            dashboards = dashboards_of(market, stage.url, chance)
            shown = [asyncio.create_task(dashboard.run(has_seen_the_end)) for dashboard in dashboards]
            for _ in range(3):
                await market.answered(100)
                await asyncio.to_thread(server.crash)
                assert await asyncio.to_thread(stage.service.answers, "/readyz", 503)
                for dashboard in chance.sample(dashboards, 4):
                    dashboard.drop()
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(stage.service.wait_until_ready)
            await market.answered(100)
        await market.finish()
        await asyncio.gather(*shown)
        await assert_all_told_all(dashboards, stage.owner)


@pytest.mark.slow
async def test_a_listener_that_is_silently_dead(server: Crashable) -> None:
    """Its session answers nothing and nobody says so: it is noticed, and what was not heard is made up for."""
    async with serving(server.url) as stage:
        drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
        last_id = await newest_id(stage.owner)
        streams = [await open_stream(transport, stage.url, [drop_id], last_event_id=last_id) for transport in TRANSPORTS]
        await caught_up(stage, drop_id)
        pid = await listener_of(stage.owner)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                await rename(stage.owner, drop_id)
            log = await logged(stage.owner, last_id)
            for stream in streams:
                assert await receive(stream, len(log)) == log
            assert await listener_of(stage.owner, pid) != pid
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_database_that_comes_later(server: Crashable) -> None:
    """Clients of a service that has none yet wait a moment, and are served when it is there."""
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
            await owner.fetchval("select id from api.create_drop('A', 1, 5, $1, now())", seller)
            log = await logged(owner, last_id)
            for stream in streams:
                assert await receive(stream, 1) == log
        assert "Traceback" not in service.log(), service.log()
