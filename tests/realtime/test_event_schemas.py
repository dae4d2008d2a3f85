"""What the contract says of events is what streams send, over SSE and WebSocket."""

from collections.abc import AsyncIterator
from json import dumps, loads
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest

from lastpair.realtime.event import EVENTS
from lastpair.web.stream_schemas import FROM_CLIENT, FROM_SERVICE, schema_name
from tests.support.database import Database
from tests.support.factories import assert_healthy, change, make_drop, make_due, make_user, purchase, reserve
from tests.support.streams import TRANSPORTS, Api, Message, caught_up, fresh_database, open_stream, publish, serving

USER = str(uuid4())
PAYMENT_UPDATED = """{"dropId":"%s","payment":{"id":"0190b6c5-7d3e-7abc-9def-0123456789ab","amount":199.90,"currency":"USD",
"status":"pending","refunded_amount":0.00,"expires_at":"2026-01-02T03:04:05+00:00","client_secret":null,"url":null}}"""


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a database of its own."""
    async with fresh_database(database) as url, serving(url) as api:
        yield api
        await assert_healthy(api.owner)


@pytest.fixture
async def schemas(api: Api) -> dict[str, Any]:
    """The components of the contract that the service answers."""
    components: dict[str, Any] = (await api.http.get("/openapi.json")).json()["components"]
    return components


def validator(components: dict[str, Any], name: str) -> jsonschema_rs.Validator:
    """A validator of the schema of this name."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


async def cause_every_event(api: Api) -> None:
    """Sell, let a hold run out, change and hide drops, with variants and without."""
    seller, buyer = await make_user(api.owner), await make_user(api.owner)
    plain = await make_drop(api.http, seller, ends_at="2998-01-01T00:00:00Z", limit_per_user=3)
    sizes = [{"name": "42", "total_stock": 2}, {"name": "43", "total_stock": 1, "price": 2}]
    sized = await make_drop(api.http, seller, total_stock=None, variants=sizes)
    for drop, body in ((plain, {"qty": 2}), (sized, {"variant_id": sized["variants"][0]["id"]})):
        await reserve(api.http, drop["id"], buyer, body)
        await purchase(api.http, drop["id"], buyer)
    held = await reserve(api.http, plain["id"], seller)
    await make_due(api.owner, held["id"])
    await api.http.post("/internal/expire-now")
    await change(api.http, plain, name="Renamed")
    hidden = await make_drop(api.http, seller, starts_at="2998-01-01T00:00:00Z")
    await change(api.http, hidden, status="draft")
    await publish(api.owner, plain["id"], "PAYMENT_UPDATED", [PAYMENT_UPDATED % plain["id"]], user_id=USER)
    await caught_up(api, plain["id"])


async def all_from(api: Api, transport: str) -> list[Message]:
    """Every message of streams of this transport that begin in each way, and are open while every event is caused."""
    later = {"snapshot": False}, {"last_event_id": 10**17}, {}
    streams = [await open_stream(transport, api.url, headers={"X-User-Id": USER}, **options) for options in later]
    received = [await stream.receive_any() for stream in streams]
    received.append(await streams[1].receive_any())  # the SNAPSHOT after RESYNC_REQUIRED
    await cause_every_event(api)
    while {message.type for message in received} < set(EVENTS):
        received.append(await streams[0].receive_any())
    with_drops = await open_stream(transport, api.url)
    received.append(await with_drops.receive_any())
    for stream in (*streams, with_drops):
        await stream.close()
    return received


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_events_are_as_the_contract_says(api: Api, schemas: dict[str, Any], transport: str) -> None:
    """Every type comes, and each message fits the schema of its type, and no other, and `Event`."""
    received = await all_from(api, transport)
    assert {message.type for message in received} == set(EVENTS)
    of_type = {event_type: validator(schemas, schema_name(event_type)) for event_type in EVENTS}
    any_event = validator(schemas, "Event")
    for message in received:
        event = {"type": message.type, "id": message.id, "data": loads(message.whole_text)}
        of_type[message.type].validate(event)
        any_event.validate(event)
        assert [event_type for event_type in EVENTS if of_type[event_type].is_valid(event)] == [message.type]
        assert not any_event.is_valid(event | {"data": event["data"] | {"more": 1}})
        assert not any_event.is_valid({"type": message.type, "data": event["data"]})
        for field in event["data"].keys() - {"variants"}:
            less = {name: value for name, value in event["data"].items() if name != field}
            assert not any_event.is_valid(event | {"data": less})
    stock = [loads(message.text) for message in received if message.type == "STOCK_UPDATED"]
    assert {"variants" in data for data in stock} == {True, False}
    assert any(loads(message.text)["drops"] for message in received if message.type == "SNAPSHOT")


async def test_frames_of_a_websocket(api: Api, schemas: dict[str, Any]) -> None:
    """What a client may send is carried out, what the contract forbids is refused, and both answers are as the contract says."""
    stream = await open_stream("ws", api.url, snapshot=False)
    connection = stream.connection
    await connection.recv()  # POSITION
    of_client, of_service = validator(schemas, "ClientFrame"), validator(schemas, "ServiceFrame")
    drop_id = str(uuid4())
    good = [{"type": "ping"}, {"type": "drops:join", "dropId": drop_id}, {"type": "drops:leave", "dropId": drop_id}]
    bad = [{"type": "drops:join"}, {"type": "ping", "dropId": drop_id}, {"type": "drops:join", "dropId": "x"}, {"type": "x"}, {}]
    assert {frame["type"] for frame in good} == set(FROM_CLIENT)
    answers = []
    for frame in [*good, *bad]:
        await connection.send(dumps(frame))
        assert of_client.is_valid(frame) == (frame in good), frame
    await connection.send('{"type": "ping"}')
    while [answer["type"] for answer in answers].count("pong") < 2:
        answers.append(loads(await connection.recv()))
        of_service.validate(answers[-1])
    assert [answer["type"] for answer in answers] == ["pong", *["ERROR"] * len(bad), "pong"]
    assert {answer["type"] for answer in answers} == set(FROM_SERVICE)
    await stream.close()
