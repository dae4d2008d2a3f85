"""What a receiver gets, and what becomes of a delivery that fails."""

from tests.support.envelopes import as_user
from tests.support.factories import change, make_drop, make_due, make_user, purchase, reserve
from tests.support.streams import Api
from tests.support.waiting import eventually
from tests.support.webhooks import PATIENCE_SECONDS, Endpoint


async def test_a_sale(api: Api, endpoint: Endpoint) -> None:
    """Each thing that happens to a drop comes once, in order, signed, with the time of its commit."""
    buyer = await make_user(api.owner)
    drop = await make_drop(api.http, endpoint.seller, total_stock=2)
    held = await reserve(api.http, drop["id"], buyer)
    await make_due(api.owner, held["id"])
    await api.http.post("/internal/expire-now")
    await change(api.http, drop, name="Renamed")
    await reserve(api.http, drop["id"], buyer, {"qty": 2})
    bought = await purchase(api.http, drop["id"], buyer)
    await api.http.post(f"/purchases/{bought['id']}/refund", headers=as_user(endpoint.seller))
    await change(api.http, drop, status="cancelled")
    received = await endpoint.comes(7)
    types = [request.message["type"] for request in received]
    assert types == [
        "drop.created",
        "hold.expired",
        "drop.updated",
        "purchase.paid",
        "drop.sold_out",
        "purchase.refunded",
        "drop.cancelled",
    ]
    for request in received:
        request.verify(endpoint.secret)
        assert request.message.keys() == {"type", "timestamp", "data"}
    of_type = {request.message["type"]: request.message["data"] for request in received}
    assert of_type["drop.created"]["drop"]["id"] == drop["id"]
    assert of_type["drop.updated"]["drop"]["name"] == "Renamed"
    assert of_type["hold.expired"]["reservation"]["id"] == held["id"]
    paid = of_type["purchase.paid"]["purchase"]
    assert (paid["id"], paid["user_id"], paid["qty"], paid["amount"]) == (bought["id"], buyer, 2, 399.8)
    assert of_type["purchase.refunded"]["purchase"]["status"] == "refunded"
    assert len({request.id for request in received}) == 7
    deliveries = await endpoint.deliveries()
    assert [delivery["type"] for delivery in deliveries] == types[::-1]
    await eventually(lambda: all_delivered(endpoint), PATIENCE_SECONDS)
    assert {delivery["drop_id"] for delivery in deliveries} == {drop["id"]}


async def all_delivered(endpoint: Endpoint) -> bool:
    """Is there no delivery that is not delivered?"""
    return {delivery["status"] for delivery in await endpoint.deliveries()} == {"delivered"}
