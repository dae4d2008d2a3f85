"""What the contract says of messages is what endpoints get."""

from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest

from lastpair.web.webhook_schemas import WEBHOOKS, message_name
from tests.support.envelopes import as_user
from tests.support.factories import change, make_drop, make_due, make_user, make_users, purchase, reserve
from tests.support.payments import begin_payments, payments_taken_by, tell
from tests.support.streams import Api
from tests.support.webhook_receiver import Received
from tests.support.webhooks import Endpoint


@pytest.fixture
async def components(api: Api) -> dict[str, Any]:
    """The components of the contract that the service answers."""
    found: dict[str, Any] = (await api.http.get("/openapi.json")).json()["components"]
    return found


async def cause_every_message(api: Api, endpoint: Endpoint) -> None:
    """Sell, refund, let a hold run out, change and cancel drops, with sizes and without; let a provider take money, and not."""
    buyer = await make_user(api.owner)
    sizes = [{"name": "42", "total_stock": 2}, {"name": "43", "total_stock": 1, "price": 2}]
    sized = await make_drop(api.http, endpoint.seller, total_stock=None, variants=sizes)
    plain = await make_drop(api.http, endpoint.seller, total_stock=1)
    for drop, body in ((plain, {"qty": 1}), (sized, {"variant_id": sized["variants"][0]["id"], "qty": 2})):
        await reserve(api.http, drop["id"], buyer, body)
        bought = await purchase(api.http, drop["id"], buyer)
    part = await api.http.post(f"/purchases/{bought['id']}/refund", json={"qty": 1}, headers=as_user(endpoint.seller))
    assert part.status_code == 200, part.text
    held = await reserve(api.http, sized["id"], endpoint.seller, {"variant_id": sized["variants"][1]["id"]})
    await make_due(api.owner, held["id"])
    await api.http.post("/internal/expire-now")
    await change(api.http, sized, name="Renamed")
    await change(api.http, sized, status="cancelled")
    paid = await make_drop(api.http, endpoint.seller)
    users = await make_users(api.owner, 2)
    async with payments_taken_by(api.owner, "stripe"):
        payments = await begin_payments(api.owner, paid["id"], users)
        await tell(api.owner, payments[users[0]], "paid")
        await tell(api.owner, payments[users[1]], "cancelled")
        await tell(api.owner, str(uuid4()), "paid")
    await endpoint.ask("POST", "/test")


async def test_messages_are_as_the_contract_says(api: Api, endpoint: Endpoint, components: dict[str, Any]) -> None:
    """Every type comes, and each message fits the schema of its type and no other. None has a field more, or one less."""
    await cause_every_message(api, endpoint)

    def missing() -> set[str]:
        return set(WEBHOOKS) - {request.message["type"] for request in endpoint.taken()}

    count = 1
    while missing():
        received: list[Received] = await endpoint.comes(count)
        count = len(received) + 1 if missing() else count
    schemas = {
        kind: jsonschema_rs.validator_for(
            {"$ref": f"#/components/schemas/{message_name(kind)}", "components": components}, validate_formats=True
        )
        for kind in WEBHOOKS
    }
    for request in endpoint.taken():
        message = request.message
        schemas[message["type"]].validate(message)
        assert [kind for kind, schema in schemas.items() if schema.is_valid(message)] == [message["type"]]
        for name, value in message["data"].items():
            if isinstance(value, dict):
                assert not schemas[message["type"]].is_valid(message | {"data": {name: value | {"more": 1}}})
                for field in value:
                    less = {each: value[each] for each in value if each != field}
                    assert not schemas[message["type"]].is_valid(message | {"data": {name: less}}), field


async def test_the_contract_has_the_requests(api: Api) -> None:
    """The webhooks of the contract are the types, each with the schema of its message."""
    contract = (await api.http.get("/openapi.json")).json()
    assert set(contract["webhooks"]) == set(WEBHOOKS)
    for kind, item in contract["webhooks"].items():
        body = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": f"#/components/schemas/{message_name(kind)}"}
        assert contract["components"]["schemas"][message_name(kind)]["properties"]["type"]["const"] == kind
