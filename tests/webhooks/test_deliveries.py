"""What a receiver gets, and what becomes of a delivery that fails."""

import pytest
from standardwebhooks import WebhookVerificationError

from tests.support.envelopes import as_user, assert_error, assert_success
from tests.support.factories import change, make_drop, make_due, make_user, purchase, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually
from tests.support.webhook_receiver import HANG, Receiver
from tests.support.webhooks import PATIENCE_SECONDS, Endpoint, let_be_due, make_endpoint


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


async def failed(endpoint: Endpoint, attempts: int) -> Row:
    """Wait until the only delivery of the endpoint has failed so often; returns it."""
    await eventually(lambda: has_failed(endpoint, attempts), PATIENCE_SECONDS)
    [delivery] = await endpoint.deliveries()
    return delivery


async def has_failed(endpoint: Endpoint, attempts: int) -> bool:
    """Has the oldest delivery failed so often?"""
    deliveries = await endpoint.deliveries()
    return bool(deliveries) and deliveries[-1]["attempts"] >= attempts and deliveries[-1]["last_error"] is not None


async def test_what_fails_is_repeated_before_the_rest(api: Api, endpoint: Endpoint) -> None:
    """While the first message of a drop fails, the others of this drop wait. In the end all have come, in order."""
    endpoint.answer(500)
    drop = await make_drop(api.http, endpoint.seller)
    for name in ("B", "C", "D"):
        await change(api.http, drop, name=name)
    await eventually(lambda: has_failed(endpoint, 1), PATIENCE_SECONDS)
    deliveries = (await endpoint.deliveries())[::-1]
    assert [(each["attempts"] > 0, each["status"]) for each in deliveries] == [(True, "pending"), *[(False, "pending")] * 3]
    assert (deliveries[0]["last_status"], deliveries[0]["last_error"]) == (500, "answered 500")
    assert deliveries[0]["next_attempt_at"] > deliveries[0]["last_attempt_at"]
    assert (await endpoint.now())["failing_since"] is not None
    await let_be_due(api.owner)
    await eventually(lambda: has_failed(endpoint, 2), PATIENCE_SECONDS)
    endpoint.answer(204)
    await let_be_due(api.owner)
    taken = await endpoint.comes(4)
    names = [request.message["data"]["drop"]["name"] for request in taken]
    assert names == ["Air One", "B", "C", "D"]
    assert {request.id for request in endpoint.received()} == {request.id for request in taken}
    attempts = [request for request in endpoint.received() if request.answered == "500"]
    assert {request.text for request in attempts} == {taken[0].text}
    await eventually(lambda: all_delivered(endpoint), PATIENCE_SECONDS)
    assert (await endpoint.now())["failing_since"] is None


async def test_after_a_day_a_message_is_given_up(api: Api, endpoint: Endpoint) -> None:
    """The next one is tried. The seller sees what was given up, and replays it; the request may be repeated."""
    endpoint.answer(503)
    drop = await make_drop(api.http, endpoint.seller)
    await change(api.http, drop, name="B")
    await eventually(lambda: has_failed(endpoint, 1), PATIENCE_SECONDS)
    first = (await endpoint.deliveries())[-1]["id"]
    await api.owner.execute("update inventory.webhook_deliveries set give_up_at = now() where id = $1", first)
    await let_be_due(api.owner)

    async def given_up() -> list[str]:
        return [delivery["id"] for delivery in await endpoint.deliveries("&status=given_up")]

    await eventually(given_up, PATIENCE_SECONDS)
    assert await given_up() == [first]
    endpoint.answer(200)
    await let_be_due(api.owner)
    assert [request.message["type"] for request in await endpoint.comes(1)] == ["drop.updated"]
    key = as_user(endpoint.seller, idempotency_key="replay")
    path = f"/webhook-deliveries/{first}/replay"
    assert assert_success(await api.http.post(path, headers=key), "webhook_delivery", 202)["status"] == "pending"
    repeated = await api.http.post(path, headers=key)
    assert assert_success(repeated, "webhook_delivery")["id"] == first
    assert repeated.headers["idempotency-replayed"] == "true"
    assert [request.message["type"] for request in await endpoint.comes(2)] == ["drop.updated", "drop.created"]
    await eventually(lambda: all_delivered(endpoint), PATIENCE_SECONDS)
    assert len({request.id for request in endpoint.received()}) == 2


async def test_an_endpoint_that_is_gone(api: Api, endpoint: Endpoint) -> None:
    """410 disables it at once and gives up what waits. Nothing is sent until the seller turns it on again."""
    endpoint.answer(410)
    drop = await make_drop(api.http, endpoint.seller)
    await change(api.http, drop, name="B")

    async def disabled() -> bool:
        return not (await endpoint.now())["active"]

    await eventually(disabled, PATIENCE_SECONDS)
    now = await endpoint.now()
    assert now["disabled_reason"] == "gone"
    assert now["disabled_at"] is not None
    assert {delivery["status"] for delivery in await endpoint.deliveries()} == {"given_up"}
    assert_error(await endpoint.ask("POST", "/test"), 409, "WEBHOOK_ENDPOINT_INACTIVE")
    await change(api.http, drop, name="missed")
    on = assert_success(await endpoint.ask("PATCH", json={"active": True}), "webhook_endpoint")
    assert (on["active"], on["disabled_at"], on["disabled_reason"]) == (True, None, None)
    endpoint.answer(200)
    await change(api.http, drop, name="C")
    assert [request.message["data"]["drop"]["name"] for request in await endpoint.comes(1)] == ["C"]


async def test_an_endpoint_that_fails_for_days(api: Api, endpoint: Endpoint) -> None:
    """It is disabled and says so, with the next failure after three days without a success."""
    endpoint.answer(500)
    await make_drop(api.http, endpoint.seller)
    await failed(endpoint, 1)
    long_ago = "update inventory.webhook_endpoints set failing_since = now() - interval '4 days' where id = $1"
    await api.owner.execute(long_ago, endpoint.id)
    await let_be_due(api.owner)

    async def disabled() -> bool:
        return (await endpoint.now())["disabled_reason"] == "failing"

    await eventually(disabled, PATIENCE_SECONDS)
    assert (await endpoint.now())["active"] is False


async def test_one_that_hangs_delays_no_other(api: Api, receiver: Receiver, endpoint: Endpoint) -> None:
    """While many messages hang at one endpoint, another one gets all of its own."""
    slow = await make_endpoint(api, receiver)
    slow.answer(HANG)
    drops = [await make_drop(api.http, endpoint.seller) for _ in range(12)]
    await eventually(lambda: len(slow.received()) >= 4, PATIENCE_SECONDS)
    for drop in drops:
        await change(api.http, drop, name="B")
    await endpoint.comes(2 * len(drops))
    await eventually(lambda: has_failed(slow, 1), PATIENCE_SECONDS)
    assert (await slow.deliveries())[-1]["last_error"] == "no answer within 10 seconds"
    assert slow.taken() == []
    await slow.remove()


async def test_a_redirect_is_a_failure(api: Api, receiver: Receiver, endpoint: Endpoint) -> None:
    """It is not followed."""
    endpoint.answer(302)
    await make_drop(api.http, endpoint.seller)
    assert (await failed(endpoint, 1))["last_error"] == "answered 302, and redirects are not followed"
    assert receiver.received("/elsewhere") == []


async def test_a_receiver_that_was_away(api: Api, endpoint: Endpoint) -> None:
    """Nothing listens, then it is back."""
    endpoint.receiver.kill()
    await make_drop(api.http, endpoint.seller)
    assert (await failed(endpoint, 1))["last_error"].startswith("cannot be reached: ")
    endpoint.receiver.start()
    await let_be_due(api.owner)
    await endpoint.comes(1)


async def test_a_secret_is_rotated(api: Api, endpoint: Endpoint) -> None:
    """For a day messages have two signatures. Then only the new secret counts. A repeated request rotates once."""
    drop = await make_drop(api.http, endpoint.seller)
    key = {"Idempotency-Key": "rotate"}
    rotated = assert_success(await endpoint.ask("POST", "/rotate-secret", headers=key), "webhook_endpoint")
    assert rotated["secret"] != endpoint.secret
    again = assert_success(await endpoint.ask("POST", "/rotate-secret", headers=key), "webhook_endpoint")
    assert again["secret"] == rotated["secret"]
    await change(api.http, drop, name="B")
    _, second = await endpoint.comes(2)
    second.verify(endpoint.secret)
    second.verify(rotated["secret"])
    ended = "update inventory.webhook_endpoints set previous_secret_ends_at = now() where id = $1"
    await api.owner.execute(ended, endpoint.id)
    await change(api.http, drop, name="C")
    _, _, third = await endpoint.comes(3)
    third.verify(rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        third.verify(endpoint.secret)


async def test_a_test(api: Api, receiver: Receiver) -> None:
    """It comes to an endpoint that wants other types; a repeated request sends it once."""
    endpoint = await make_endpoint(api, receiver, ["drop.sold_out"])
    key = {"Idempotency-Key": "test"}
    sent = assert_success(await endpoint.ask("POST", "/test", headers=key), "webhook_delivery", 202)
    assert assert_success(await endpoint.ask("POST", "/test", headers=key), "webhook_delivery")["id"] == sent["id"]
    [request] = await endpoint.comes(1)
    request.verify(endpoint.secret)
    assert request.message["type"] == "webhook.test"
    assert request.message["data"] == {"endpoint_id": endpoint.id}
    assert request.id == sent["webhook_id"]
    await make_drop(api.http, endpoint.seller)
    await eventually(lambda: all_delivered(endpoint), PATIENCE_SECONDS)
    assert [delivery["type"] for delivery in await endpoint.deliveries()] == ["webhook.test"]
    await endpoint.remove()


async def test_nobody_pays_who_tells_nobody(api: Api, receiver: Receiver) -> None:
    """Without an endpoint no message is written, nor one of a type that nobody wants."""
    count = "select count(*) from inventory.webhook_messages where type <> 'webhook.test'"
    assert await api.owner.fetchval("select webhook_types from inventory.settings") == []
    before = await api.owner.fetchval(count)
    seller = await make_user(api.owner)
    await make_drop(api.http, seller)
    assert await api.owner.fetchval(count) == before
    endpoint = await make_endpoint(api, receiver, ["purchase.paid", "drop.updated"])
    assert await api.owner.fetchval("select webhook_types from inventory.settings") == ["drop.updated", "purchase.paid"]
    drop = await make_drop(api.http, seller)
    assert await api.owner.fetchval(count) == before
    await change(api.http, drop, name="B")
    assert await api.owner.fetchval(count) == before + 1
    await endpoint.remove()
    assert await api.owner.fetchval("select webhook_types from inventory.settings") == []
