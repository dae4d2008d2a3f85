"""Ids that a restore would give out anew: every client is right again, whatever id it comes back with."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from lastpair.database.embedded import BIN_DIR
from lastpair.database.migrate import migrate, roll_back
from tests.support.database import Database, another_database, connected
from tests.support.factories import make_drop_by_sql, make_user
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import TRANSPORTS, logged, newest_id, open_stream

FIRST_ID_OF_AN_EPOCH = 1_700_000_000_000_000


async def reserve(owner: asyncpg.Connection, drop_id: UUID, count: int) -> None:
    """Hold units, each of which one STOCK_UPDATED announces."""
    for _ in range(count):
        await owner.execute("select api.reserve($1, $2)", drop_id, UUID(await make_user(owner)))


async def types_after(service: InProcess, transport: str, last_id: int, count: int) -> list[str]:
    """The types of the first messages of a client that comes back with this id."""
    stream = await open_stream(transport, service.url, last_event_id=last_id)
    try:
        return [(await stream.receive()).type for _ in range(count)]
    finally:
        await stream.close()


@pytest.fixture
async def migrated_url(empty_url: str) -> str:
    """The owner's URL of a database that is no copy of another one, because a copy begins an epoch."""
    await migrate(empty_url)
    return empty_url


@pytest.fixture
async def other_url(database: Database) -> AsyncIterator[str]:
    """The owner's URL of another, empty database."""
    async with another_database(database) as url:
        yield url


@pytest.mark.slow
@pytest.mark.skipif(BIN_DIR is None, reason="pg_dump comes with the embedded server")
async def test_a_dump_that_is_restored(migrated_url: str, other_url: str, tmp_path: Path) -> None:
    """Clients that have an event of the dump go on. Those that have a later one, which is lost, start again."""
    assert BIN_DIR is not None
    async with connected(migrated_url) as owner, served(settings_for(migrated_url)):
        drop_id = await make_drop_by_sql(owner, 100)
        await reserve(owner, drop_id, 3)
        dumped_id, dump = await newest_id(owner), tmp_path / "dump"
        subprocess.run([BIN_DIR / "pg_dump", "--format=custom", f"--file={dump}", migrated_url], check=True)
        await reserve(owner, drop_id, 5)
        lost_ids = range(dumped_id + 1, await newest_id(owner) + 1)
    subprocess.run([BIN_DIR / "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={other_url}", dump], check=True)
    async with connected(other_url) as owner, served(settings_for(other_url)) as service:
        await reserve(owner, drop_id, 10)
        after = await logged(owner, dumped_id)
        assert len(after) == 10
        assert FIRST_ID_OF_AN_EPOCH < int(after[0].id) < int(after[-1].id) < 2**53
        for transport in TRANSPORTS:
            stream = await open_stream(transport, service.url, last_event_id=dumped_id)
            assert [await stream.receive() for _ in after] == after
            await stream.close()
            for lost_id in lost_ids:
                assert await types_after(service, transport, lost_id, 2) == ["RESYNC_REQUIRED", "SNAPSHOT"]
    async with connected(other_url) as owner, served(settings_for(other_url)) as service:  # the ids are not moved again
        newest = await newest_id(owner)
        await reserve(owner, drop_id, 1)
        assert await newest_id(owner) == newest + 1
        for lost_id in lost_ids:
            assert await types_after(service, "sse", lost_id, 2) == ["RESYNC_REQUIRED", "SNAPSHOT"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("back", [1, 4, 1000])
async def test_a_log_that_is_set_back_under_a_process(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch, transport: str, back: int
) -> None:
    """As when a volume is set back. The process has published events that are gone, notices that, and begins an epoch."""
    monkeypatch.setattr("lastpair.realtime.relay.CHECK_SECONDS", 0.2)
    async with connected(migrated_url) as owner, served(settings_for(migrated_url)) as service:
        drop_id = await make_drop_by_sql(owner, 100)
        stream = await open_stream(transport, service.url)
        assert (await stream.receive()).type == "SNAPSHOT"
        await reserve(owner, drop_id, 6)
        old_head = await newest_id(owner)
        while int((await stream.receive()).id) < old_head:
            pass
        async with owner.transaction():
            await owner.execute("delete from inventory.events where id > $1", old_head - back)
            await owner.execute("select setval('inventory.events_id_seq', $1, $2)", max(1, old_head - back), back < old_head)
        await reserve(owner, drop_id, 2)
        messages = [await stream.receive()]
        while messages[-1].type != "SNAPSHOT":
            messages.append(await stream.receive())
        assert messages[-2].type == "RESYNC_REQUIRED"
        await reserve(owner, drop_id, 1)
        while int((message := await stream.receive()).id) < FIRST_ID_OF_AN_EPOCH:
            assert message.type == "STOCK_UPDATED"
        assert message in await logged(owner, 0)
        if back > 2:  # otherwise the two events before the process noticed have taken the id
            assert await types_after(service, transport, old_head, 2) == ["RESYNC_REQUIRED", "SNAPSHOT"]
        await stream.close()


async def test_a_process_that_comes_and_goes(migrated_url: str) -> None:
    """A start of the service begins no epoch, and a client goes on with the id that it has."""
    async with connected(migrated_url) as owner:
        drop_id = await make_drop_by_sql(owner, 100)
        for _ in range(3):
            async with served(settings_for(migrated_url)) as service:
                last_id = await newest_id(owner)
                await reserve(owner, drop_id, 1)
                assert await newest_id(owner) == last_id + 1
                assert await types_after(service, "sse", last_id, 1) == ["STOCK_UPDATED"]


async def test_a_backup_that_is_older_than_the_epochs(migrated_url: str) -> None:
    """It may have been restored, so its migration begins an epoch. A client that has an event of the log goes on, and one that
    has a later event, which is lost, starts again."""
    async with connected(migrated_url) as owner:
        drop_id = await make_drop_by_sql(owner, 100)
        await reserve(owner, drop_id, 3)
        last_id = await newest_id(owner)
        while await owner.fetchval("select to_regclass('inventory.event_epochs') is not null"):
            await roll_back(migrated_url)
        await migrate(migrated_url)
        async with served(settings_for(migrated_url)) as service:
            await reserve(owner, drop_id, 4)
            log = await logged(owner, last_id)
            assert len(log) == 4
            assert int(log[0].id) > FIRST_ID_OF_AN_EPOCH
            assert await types_after(service, "sse", last_id, 4) == ["STOCK_UPDATED"] * 4
            assert await types_after(service, "sse", last_id + 2, 2) == ["RESYNC_REQUIRED", "SNAPSHOT"]


async def test_a_new_database_begins_with_the_first_id(migrated_url: str) -> None:
    """Its migrations begin no epoch."""
    async with connected(migrated_url) as owner:
        assert await owner.fetchval("select array_agg(first_id) from inventory.event_epochs") == [0]
        await make_drop_by_sql(owner, 100)
        assert await newest_id(owner) < 10
