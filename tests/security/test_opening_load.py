"""Clients that open streams of many drops without end, and what another client notices of them."""

import asyncio
import statistics
import subprocess
import sys
import time
from uuid import UUID

import pytest

from tests.support.factories import make_user
from tests.support.openers import DROPS, OPENERS
from tests.support.servers import ROOT
from tests.support.streams import Api, serving

BUY = "select api.purchase(r.drop_id, r.user_id) from api.reserve($1, $2) r"


async def read_ms(api: Api, drop_id: str, count: int) -> float:
    """The median of the times of this many reads, in milliseconds."""
    times = []
    for _ in range(count):
        begin = time.monotonic()
        assert (await api.http.get(f"/drops/{drop_id}")).status_code == 200
        times.append(1000 * (time.monotonic() - begin))
    return statistics.median(times)


@pytest.mark.slow
async def test_openings_of_many_drops(own_database_url: str) -> None:
    """Sixty clients that open streams of a hundred drops each without end leave sessions of the pool to others."""
    async with serving(own_database_url, DATABASE_POOL_SIZE="10") as api:
        seller = UUID(await make_user(api.owner))
        create = "select id::text from api.create_drop('A', 1, 5, $1, now())"
        ids = [await api.owner.fetchval(create, seller) for _ in range(DROPS + OPENERS)]
        buyers = [UUID(await make_user(api.owner)) for _ in range(3)]
        for drop_id in ids:  # the purchasers of a drop are the dearest part of its snapshot
            for buyer in buyers:
                await api.owner.fetch(BUY, UUID(drop_id), buyer)
        quiet_ms = await read_ms(api, ids[0], 20)
        command = [sys.executable, "-m", "tests.support.openers", api.url, *ids]
        with subprocess.Popen(command, cwd=ROOT) as openers:
            try:
                await asyncio.sleep(2)  # all of them are at it
                found_ms = min([await read_ms(api, ids[0], 20) for _ in range(5)])  # something else may take a while
                assert openers.poll() is None
            finally:
                openers.kill()
        assert found_ms < 150 + 5 * quiet_ms, f"{quiet_ms} ms without them"
