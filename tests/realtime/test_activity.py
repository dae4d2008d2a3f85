"""GET /activity: what happened lately, and a position from which a stream goes on without a gap and without an overlap."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from json import loads
from uuid import uuid4

import pytest

from tests.support.database import Database
from tests.support.envelopes import as_user, assert_invalid, assert_success
from tests.support.factories import assert_healthy, make_drop, make_user, make_users, purchase, reserve
from tests.support.ordered_requests import Request, all_soon, client_of
from tests.support.row_checks import Row
from tests.support.streams import Api, Message, fresh_database, logged, newest_id, open_stream, serving
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a database of its own, whose purchasers are shown by their initials."""
    async with fresh_database(database) as url, serving(url, PURCHASER_NAMES="initials") as api:
        yield api
        await assert_healthy(api.owner)


async def activity(api: Api, query: str = "") -> Row:
    """The activity."""
    found: Row = assert_success(await api.http.get(f"/activity{query}"), "activity")
    return found


@pytest.mark.parametrize("base", ["/api", "/api/v1"])
async def test_what_happened(api: Api, base: str) -> None:
    """The events are those of the log, with their times; the points end with the stock as it is."""
    drop = await make_drop(api.http, await make_user(api.owner))
    for user in await make_users(api.owner, 2):
        await reserve(api.http, drop["id"], user)
    await purchase(api.http, drop["id"], user)
    found = assert_success(await api.http.get(f"{api.url}{base}/activity?dropId={drop['id']}"), "activity")

    assert list(found) == ["position", "from", "to", "events", "bucket_seconds", "drops"]
    assert found["position"] == str(await newest_id(api.owner))
    assert datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"]) == timedelta(hours=1)
    assert [event["type"] for event in found["events"]] == [
        *["DROP_CREATED", "STOCK_UPDATED", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"]
    ]
    log = {message.id: message for message in await logged(api.owner, 0)}
    times = [datetime.fromisoformat(event["at"]) for event in found["events"]]
    assert times == sorted(times)
    for event in found["events"]:
        assert list(event) == ["id", "type", "dropId", "at", "data"]
        assert (event["type"], event["data"]) == (log[event["id"]].type, log[event["id"]].data)
        assert event["dropId"] == drop["id"]
    assert len(found["events"][3]["data"]["username"]) <= 4  # initials
    assert found["bucket_seconds"] == 15
    [chart] = found["drops"]
    assert chart["dropId"] == drop["id"]
    assert chart["points"][0] | {"at": ""} == {"at": "", "sold": 0, "held": None, "available": None}
    assert chart["points"][-1] == {"at": found["to"], "sold": 1, "held": 1, "available": 3}


async def test_drops(api: Api) -> None:
    """Several drops can be asked for, each once; a draft and one that does not exist are not there."""
    seller = await make_user(api.owner)
    shown = [(await make_drop(api.http, seller))["id"] for _ in range(2)]
    draft = (await make_drop(api.http, seller, status="draft", starts_at=None))["id"]
    query = "&".join(f"dropId={drop_id}" for drop_id in [*shown, *shown, draft, uuid4(), shown[0].upper()])
    found = await activity(api, f"?seconds=60&{query}")
    assert [chart["dropId"] for chart in found["drops"]] == shown[::-1]
    assert {event["dropId"] for event in found["events"]} == set(shown)
    everything = await activity(api)
    assert everything["bucket_seconds"] == 60
    assert set(shown) <= {chart["dropId"] for chart in everything["drops"]}
    assert draft not in str(everything)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *[("seconds=0", "seconds"), ("seconds=86401", "seconds"), ("seconds=1e3", "seconds"), ("seconds=-1", "seconds")],
        *[("seconds=", "seconds"), ("seconds=000001", "seconds"), ("seconds=٣", "seconds")],
        *[("seconds=1&seconds=1", "seconds"), ("dropId=x", "dropId"), ("dropId=", "dropId"), ("limit=1", "limit")],
        ("&".join(f"dropId={uuid4()}" for _ in range(101)), "dropId"),
    ],
)
async def test_bad_queries(api: Api, query: str, field: str) -> None:
    """The query is strict."""
    assert_invalid(await api.http.get(f"/activity?{query}"), field)


async def test_bounds(api: Api) -> None:
    """A second and a day are within bounds."""
    assert [(await activity(api, f"?seconds={seconds}"))["bucket_seconds"] for seconds in (1, 86400)] == [1, 1440]


async def test_those_who_ask_together_share_a_call(api: Api) -> None:
    """Of many who ask while a call takes long, the first gets the answer of this call, and all others that of the next one."""
    async with client_of(api.url) as client:
        async with api.owner.acquire() as session, session.transaction():
            await session.execute("lock table inventory.events")
            first = asyncio.create_task(activity(api, "?seconds=77"))
            await eventually(lambda: is_waiting(api))
            others = await client.send_at_once([Request("GET", "/activity?seconds=77")] * 20)
            await client.begun()
        times = {answer.row["to"] for answer in await all_soon(others)}
    assert len({*times, (await first)["to"]}) == 2
    assert len(times) == 1


async def is_waiting(api: Api) -> bool:
    """Does a session wait for a lock?"""
    return bool(await api.owner.fetchval("select exists (select from pg_locks where not granted)"))


@pytest.mark.slow
@pytest.mark.parametrize("of_one_drop", [False, True])
async def test_a_stream_goes_on_from_the_position(api: Api, of_one_drop: bool) -> None:
    """While others buy, no event is missing between an answer and the stream from its position, and none is in both."""
    seller = await make_user(api.owner)
    drops = [await make_drop(api.http, seller, total_stock=10_000) for _ in range(3)]
    users = await make_users(api.owner, 600)
    chosen = drops[0]["id"]
    query = f"?seconds=3600&dropId={chosen}" if of_one_drop else "?seconds=3600"
    is_over = asyncio.Event()
    sold_some = "select count(*) from inventory.events where drop_id = $1 and type = 'STOCK_UPDATED'"

    async def buy(lane: int) -> None:
        n = lane
        while not is_over.is_set():
            drop_id, user = drops[n % 3]["id"], users[n % len(users)]
            held = await api.http.post(f"/drops/{drop_id}/reserve", headers=as_user(user))
            if held.status_code == 201 and n % 4:
                await api.http.post(f"/drops/{drop_id}/purchase", headers=as_user(user))
            n += 8

    async def compare() -> None:
        found = await activity(api, query)
        stream = await open_stream(
            "sse", api.url, [chosen] if of_one_drop else [], last_event_id=found["position"], snapshot=False
        )
        followed: list[Message] = [await stream.receive() for _ in range(40)]
        await stream.close()
        rows = await api.owner.fetch("select e.id::text, e.drop_id::text from inventory.events e order by e.id")
        ids = [row["id"] for row in rows if not of_one_drop or row["drop_id"] == chosen]
        place = [int(event_id) for event_id in ids].index(int(found["events"][-1]["id"])) + 1
        assert int(found["events"][-1]["id"]) <= int(found["position"])
        told = [*(event["id"] for event in found["events"]), *(message.id for message in followed)]
        assert told == ids[max(0, place - 200) : place + 40]
        if of_one_drop:
            until = (
                "select data from inventory.events where drop_id = $1 and id <= $2 and type = 'STOCK_UPDATED' order by id desc"
            )
            last = loads(await api.owner.fetchval(until, chosen, int(found["position"])))
            point = found["drops"][0]["points"][-1]
            assert point["available"] == last["availableStock"]

    buyers = [asyncio.create_task(buy(lane)) for lane in range(8)]
    try:
        while await api.owner.fetchval(sold_some, chosen) < 100:
            await asyncio.sleep(0.05)
        for _ in range(15):
            await compare()
    finally:
        is_over.set()
        await asyncio.gather(*buyers, return_exceptions=True)
