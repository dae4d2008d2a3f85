"""Both clients over restarts of the service: each event once, RESYNC_REQUIRED where events are gone, and one purchase."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from json import dumps
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from lastpair_client import AsyncClient, Client
from tests.clients.test_javascript import FOLDER, find_node
from tests.support.dashboard import started_at
from tests.support.factories import assert_healthy, make_drop_by_sql
from tests.support.servers import Service, free_port
from tests.support.streams import logged, newest_id
from tests.support.waiting import eventually

Given = list[tuple[str, str]]
"""Type and id of each event; of a purchase "purchase" and its id."""


async def follow_in_node(process: Process, given: Given) -> None:
    """Note what the program prints."""
    assert process.stdout is not None
    async for line in process.stdout:
        given.append(tuple(json.loads(line)))


async def follow(client: AsyncClient, given: Given, last_name: str) -> None:
    """Note what the async client is given."""
    async for drop, event in client.live(retry_seconds=0.05):
        given.append((event.type, event.id))
        if drop is not None and drop["name"] == last_name:
            return


def follow_in_thread(client: Client, given: Given, last_name: str) -> None:
    """Note what the sync client is given."""
    for drop, event in client.live(retry_seconds=0.05):
        given.append((event.type, event.id))
        if drop is not None and drop["name"] == last_name:
            return


@pytest.fixture
async def own_database(migrated_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Sessions with a new database, because a service that starts takes back every hold that other tests let run out."""
    async with asyncpg.create_pool(migrated_url, min_size=1, max_size=5) as pool:
        yield pool
        await assert_healthy(pool)


async def test_restarts(migrated_url: str, own_database: asyncpg.Pool) -> None:
    """The service stops and starts twice, the second time after the log was pruned."""
    port, last_name, url = free_port(), uuid4().hex, ""
    drop_id = await make_drop_by_sql(own_database, 9)
    node, python, sync = [], [], []
    followers: list[Given] = [node, python, sync]

    @contextmanager
    def running() -> Iterator[Service]:
        with started_at(port, migrated_url) as service:
            service.wait_until_ready()
            yield service
            service.stop()

    async def rename(name: str = "") -> str:
        await own_database.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": name or uuid4().hex}))
        return str(await newest_id(own_database))

    async def all_have(event_id: str) -> None:
        await eventually(lambda: all(any(given[1] == event_id for given in follower) for follower in followers), 60)

    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        find_node(), str(FOLDER / "follow.mjs"), url, last_name, stdin=PIPE, stdout=PIPE
    )
    async with AsyncClient(url, user_id=uuid4(), retries=12) as client, asyncio.TaskGroup() as group:
        with Client(url, user_id=uuid4(), retries=12) as sync_client, ExitStack() as services:
            await asyncio.to_thread(services.enter_context, running())
            group.create_task(follow_in_node(process, node))
            group.create_task(follow(client, python, last_name))
            group.create_task(asyncio.to_thread(follow_in_thread, sync_client, sync, last_name))
            await eventually(lambda: all(followers))
            start_id = await newest_id(own_database)
            await all_have(await rename())
            await asyncio.to_thread(services.close)

            # While the service is away, a drop is changed, and three buyers want a unit.
            await rename()

            def buy() -> Any:
                sync_client.reserve(drop_id)
                return sync_client.purchase(drop_id)

            async def buy_async() -> Any:
                await client.reserve(drop_id)
                return await client.purchase(drop_id)

            purchases = [group.create_task(buy_async()), group.create_task(asyncio.to_thread(buy))]
            assert process.stdin is not None
            process.stdin.write(dumps({"dropId": drop_id, "userId": str(uuid4())}).encode() + b"\n")
            await asyncio.to_thread(services.enter_context, running())
            bought = {(await task)["id"] for task in purchases}
            await eventually(lambda: any(given[0] == "purchase" for given in node), 60)
            [bought_in_node] = [given for given in node if given[0] == "purchase"]
            node.remove(bought_in_node)
            sold = await own_database.fetch("select id::text from inventory.purchases where drop_id = $1", UUID(drop_id))
            assert {row["id"] for row in sold} == bought | {bought_in_node[1]}
            await all_have(str(await newest_id(own_database)))
            log = [(event.type, event.id) for event in await logged(own_database, start_id)]
            for follower in followers:
                assert [tuple(given) for given in follower] == [("SNAPSHOT", str(start_id)), *log]
            await asyncio.to_thread(services.close)

            for _ in range(2):
                last_id = await rename()
            await own_database.fetchval("select api.prune_events(0)")
            await asyncio.to_thread(services.enter_context, running())
            await all_have(last_id)
            last_id = await rename(last_name)
            await all_have(last_id)
            assert await process.wait() == 0
            await asyncio.to_thread(services.close)
    for follower in followers:
        assert [given[0] for given in follower[len(log) + 1 :]] == ["RESYNC_REQUIRED", "SNAPSHOT", "DROP_UPDATED"]
