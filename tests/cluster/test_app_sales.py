"""Sales over HTTP on drops of two nodes: each request goes to the node of its id, and users are the same everywhere."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.support.cluster_shop import PATIENCE_SECONDS, ClusterShop, serving
from tests.support.envelopes import as_user, assert_error, assert_success
from tests.support.factories import (
    ask_purchase,
    ask_reserve,
    assert_healthy,
    hold,
    make_drop,
    make_due,
    make_users,
    name_of,
    purchase,
    reserve,
    statuses,
)
from tests.support.payment_provider import SECRET, own_provider
from tests.support.router import Router, running_router
from tests.support.servers import pooler
from tests.support.waiting import eventually
from tests.support.webhook_receiver import receiving


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    """A router with two nodes."""
    with running_router() as router:
        yield router


@pytest.fixture
async def shop(router: Router) -> AsyncIterator[ClusterShop]:
    """The service on it."""
    async with serving(router) as shop:
        yield shop
        for owner in shop.owners.values():
            await assert_healthy(owner)


async def test_the_same_user_buys_on_both_nodes(shop: ClusterShop) -> None:
    """A user who is new becomes known where each request acts, with the same id and name. Ids say where a row is."""
    user = str(uuid4())
    for number, drop_id in (await shop.drops()).items():
        held = await reserve(shop.http, drop_id, user)
        given_back = await shop.http.delete(f"/reservations/{held['id']}", headers=as_user(user))
        assert assert_success(given_back, "reservation")["status"] == "CANCELLED"
        held = await reserve(shop.http, drop_id, user)
        bought = await purchase(shop.http, drop_id, user)
        assert bought["reservation_id"] == held["id"]
        assert {shop.components.nodes.of(row_id).number for row_id in (drop_id, held["id"], bought["id"])} == {number}
        found = await shop.http.get(f"/purchases/{bought['id']}", headers=as_user(user))
        assert assert_success(found, "purchase")["id"] == bought["id"]
    names = {await name_of(owner, user) for owner in shop.owners.values()}
    assert len(names) == 1
    assert None not in names


async def test_refusals_are_those_of_a_single_database(shop: ClusterShop) -> None:
    """Whether they come from a batch or from a call of one request."""
    user = str(uuid4())
    for drop_id in (await shop.drops(1)).values():
        await reserve(shop.http, drop_id, user)
        assert_error(await ask_reserve(shop.http, drop_id, user), 409, "ALREADY_RESERVED")
        assert_error(await ask_reserve(shop.http, drop_id, str(uuid4())), 409, "OUT_OF_STOCK")
        missing = f"{drop_id[:-12]}000000000000"
        assert_error(await ask_reserve(shop.http, missing, user), 404, "DROP_NOT_FOUND")
        assert_error(await shop.http.get(f"/drops/{missing}"), 404, "DROP_NOT_FOUND")
        again = await shop.http.post(f"/reservations/{missing}/extend", headers=as_user(user))
        assert_error(again, 404, "RESERVATION_NOT_FOUND")


async def test_baskets(shop: ClusterShop) -> None:
    """All drops of a basket are on one node; otherwise it is refused."""
    user, first, second = str(uuid4()), await shop.drops(), await shop.drops()
    for number in shop.owners:
        items = [{"drop_id": drops[number]} for drops in (first, second)]
        made = await shop.http.post("/baskets", json={"items": items}, headers=as_user(user))
        basket = assert_success(made, "basket", 201)
        bought = await shop.http.post(f"/baskets/{basket['id']}/purchase", headers=as_user(user))
        assert len(assert_success(bought, "purchases", 201)) == 2
    items = [{"drop_id": drop_id} for drop_id in (await shop.drops()).values()]
    spanning = await shop.http.post("/baskets", json={"items": items}, headers=as_user(user))
    assert_error(spanning, 409, "BASKET_SPANS_NODES")


async def test_lists_have_the_rows_of_all_nodes(shop: ClusterShop) -> None:
    """The drops on sale, and what one holds."""
    user, drops = str(uuid4()), await shop.drops()
    held = {(await reserve(shop.http, drop_id, user))["id"] for drop_id in drops.values()}
    on_sale = assert_success(await shop.http.get("/drops"), "drops")
    assert set(drops.values()) <= {drop["id"] for drop in on_sale}
    mine = assert_success(await shop.http.get("/reservations/me", headers=as_user(user)), "reservations")
    assert {row["id"] for row in mine} == held


@pytest.mark.slow
async def test_behind_a_pooler(router: Router) -> None:
    """A call is a transaction there, and the sessions of all nodes share those of the pooler."""
    with pooler(router.url, 3) as bouncer:
        async with serving(router, bouncer.url, database_direct_url=router.url) as shop:
            user = str(uuid4())
            for drop_id in (await shop.drops()).values():
                await reserve(shop.http, drop_id, user)
                await purchase(shop.http, drop_id, user)
                assert_error(await ask_purchase(shop.http, drop_id, user), 409, "NO_ACTIVE_RESERVATION")


async def due_holds(shop: ClusterShop) -> dict[int, str]:
    """A drop on each node with three holds that are due: number to drop."""
    drops = await shop.drops()
    for number, owner in shop.owners.items():
        await make_due(owner, *(await hold(owner, drops[number], await make_users(owner, 3))).values())
    return drops


async def test_expire_now_takes_back_the_holds_of_all_nodes(shop: ClusterShop) -> None:
    """It answers the sum."""
    drops = await due_holds(shop)
    expired = assert_success(await shop.http.post("/internal/expire-now"), "expired")
    assert expired >= 6  # a hold of another test may have become due
    assert [(await statuses(shop.owners[number], drop_id))["EXPIRED"] for number, drop_id in drops.items()] == [3, 3]


async def test_each_node_is_swept(router: Router) -> None:
    """Holds that are due are taken back on both."""
    async with serving(router, expiry_poll_ms=50) as shop:
        drops = await due_holds(shop)
        for number, owner in shop.owners.items():

            async def is_swept(owner=owner, drop_id=drops[number]) -> bool:  # type: ignore[no-untyped-def]
                return (await statuses(owner, drop_id))["EXPIRED"] == 3

            await eventually(is_swept, PATIENCE_SECONDS)


async def test_a_new_seller_puts_drops_beside_each_other(shop: ClusterShop) -> None:
    """The user is made on the node that the router chooses, and `near` puts a drop on the node of another."""
    seller = str(uuid4())
    drop = await make_drop(shop.http, seller)
    near = await make_drop(shop.http, seller, near=drop["id"])
    nodes = shop.components.nodes
    assert nodes.of(drop["id"]) is nodes.of(near["id"])


async def test_webhooks_tell_of_the_drops_of_both_nodes(router: Router) -> None:
    """An endpoint that is made once gets what happens on each node."""
    with receiving() as receiver:
        async with serving(router, webhook_private_targets=["127.0.0.1"]) as shop:
            seller, path = str(uuid4()), f"/{uuid4().hex}"
            body = {"url": receiver.url + path, "event_types": ["purchase.paid"]}
            made = await shop.http.post("/webhook-endpoints", json=body, headers=as_user(seller))
            endpoint = assert_success(made, "webhook_endpoint", 201)
            drops = await shop.drops()
            for drop_id in drops.values():
                buyer = str(uuid4())
                await reserve(shop.http, drop_id, buyer)
                await purchase(shop.http, drop_id, buyer)

            def told() -> set[str]:
                return {received.message["data"]["purchase"]["drop_id"] for received in receiver.received(path)}

            await eventually(lambda: told() == set(drops.values()), PATIENCE_SECONDS)
            gone = await shop.http.delete(f"/webhook-endpoints/{endpoint['id']}", headers=as_user(seller))
            assert gone.status_code == 200


async def test_payments_on_both_nodes(router: Router) -> None:
    """The provider is told of each payment, and what it tells is recorded on the node of the payment."""
    async with own_provider() as provider:
        settings = {"payment_webhook_secret": SecretStr(SECRET), "payment_provider_url": provider.url}
        async with serving(router, payment_provider="webhook", **settings) as shop:
            provider.webhook_url = f"{shop.http.base_url}webhooks/payments"
            for number, drop_id in (await shop.drops()).items():
                buyer = str(uuid4())
                await reserve(shop.http, drop_id, buyer)
                bought = (await ask_purchase(shop.http, drop_id, buyer)).json()["data"]
                payment = bought["payment"]
                assert shop.components.nodes.of(payment["id"]).number == number
                assert payment["url"] == f"https://pay.example/{payment['id']}"
                assert (
                    await provider.tell(payment, "paid", amount=payment["amount"], currency=payment["currency"])
                ).status_code == 200
                found = await shop.http.get(f"/payments/{payment['id']}", headers=as_user(buyer))
                assert assert_success(found, "payment")["status"] == "paid"
            await shop.components.payments.reconcile()
    for node in router.nodes.values():
        node.psql("select api.set_payment_provider('none', 600)", node.url)
