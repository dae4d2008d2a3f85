"""A crowd of Socket.IO clients at a sale: each gets the events once and in order, and the buyers keep most of their speed."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import psutil
import pytest

from lastpair.realtime.event import REPLACEABLE
from tests.support.database import Database
from tests.support.factories import ask_purchase, ask_reserve, assert_healthy, make_drop_by_sql, make_users
from tests.support.socketio import Given, announced, socketio_clients
from tests.support.streams import Api, fresh_database, newest_id, serving
from tests.support.waiting import eventually

UNITS, BUYERS, AT_ONCE = 300, 600, 50
WEBSOCKETS, POLLING = 200, 50


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a database of its own."""
    async with fresh_database(database) as url, serving(url) as api:
        yield api
        await assert_healthy(api.owner)


async def sell_out(api: Api, *, purchases: bool) -> tuple[float, float]:
    """Sell a drop out to more buyers than it has units; returns the seconds, and the CPU seconds of the process."""
    drop_id = await make_drop_by_sql(api.owner, UNITS)
    users = await make_users(api.owner, BUYERS)
    process, turns = psutil.Process(api.service.process.pid), asyncio.Semaphore(AT_ONCE)

    async def buy(user: str) -> int:
        async with turns:
            status = (await ask_reserve(api.http, drop_id, user)).status_code
            if purchases and status == 201:
                assert (await ask_purchase(api.http, drop_id, user)).status_code == 201
            return status

    before, begin = process.cpu_times(), time.monotonic()
    statuses = await asyncio.gather(*map(buy, users))
    seconds, after = time.monotonic() - begin, process.cpu_times()
    assert statuses.count(201) == UNITS
    assert statuses.count(409) == BUYERS - UNITS
    return seconds, after.user + after.system - before.user - before.system


def assert_told(expected: Given, given: Given) -> None:
    """A client was given these events, once and in order. If it was slow, those that a newer one replaces may be missing."""
    newest = {(name, data["dropId"]): place for place, (name, data) in enumerate(expected) if name in REPLACEABLE}
    rest = iter([*given, None])
    following = next(rest)
    for place, (name, data) in enumerate(expected):
        if following == (name, data):
            following = next(rest)
        else:
            assert newest.get((name, data.get("dropId")), place) > place, f"was not given {name} {data}"
    assert following is None, f"was given {following}, which is not next"


@pytest.mark.slow
async def test_a_crowd_at_a_sale(api: Api, pytestconfig: pytest.Config) -> None:
    """200 clients over WebSocket and 50 by polling are given the events of a sale, once and in order."""
    assert pytestconfig.cache is not None
    async with socketio_clients(pytestconfig.cache) as clients:
        await clients.connect(api.url, count=WEBSOCKETS, transports=["websocket"])
        await clients.connect(api.url, count=POLLING, transports=["polling"])
        start_id = await newest_id(api.owner)
        await sell_out(api, purchases=True)
        expected = await announced(api.owner, start_id)
        assert len(expected) > UNITS

        async def have_the_last() -> bool:
            return all(state["newest"] == [*expected[-1]] for state in await clients.states())

        await eventually(have_the_last)
        for given in await clients.command("variety"):
            assert_told(expected, [(name, data) for name, data in given])
        assert {tuple(state["log"]) for state in await clients.states()} == {("connect",)}


@pytest.mark.slow
async def test_buyers_beside_a_crowd(api: Api, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """What 200 clients over WebSocket cost the process: for each event and client a few microseconds, because the frames are made
    once. An `emit` of python-socketio takes 23. The clients take processor time, too, so the speed itself is only printed."""
    assert pytestconfig.cache is not None
    await sell_out(api, purchases=True)
    alone, watched, deliveries = [], [], []
    for _ in range(3):
        alone.append(await sell_out(api, purchases=True))
        async with socketio_clients(pytestconfig.cache) as clients:
            clients.give_way()
            await clients.connect(api.url, count=WEBSOCKETS, transports=["websocket"])
            start_id = await newest_id(api.owner)
            watched.append(await sell_out(api, purchases=True))
            deliveries.append(WEBSOCKETS * len(await announced(api.owner, start_id)))
    wall, cpu = (statistics.median(column) for column in zip(*alone, strict=True))
    wall_watched, cpu_watched = (statistics.median(column) for column in zip(*watched, strict=True))
    us_per_delivery = (cpu_watched - cpu) / statistics.median(deliveries) * 1e6
    with capsys.disabled():
        print(
            f"\n{WEBSOCKETS} Socket.IO clients: {wall / wall_watched:.2f} of the speed without ({BUYERS / wall_watched:.0f}"
            f" instead of {BUYERS / wall:.0f} buyers a second), {cpu_watched:.2f} instead of {cpu:.2f} CPU seconds,"
            f" {us_per_delivery:.1f} microseconds for each event and client"
        )
    assert us_per_delivery < 15
