"""What a seller asks for over HTTP: endpoints, lists, and what is refused."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.envelopes import as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import make_drop, make_user
from tests.support.streams import Api
from tests.support.waiting import eventually
from tests.support.webhook_receiver import Receiver
from tests.support.webhooks import PATIENCE_SECONDS, Endpoint, make_endpoint

GOOD = {"url": "https://shop.example/hook", "event_types": ["purchase.paid"]}


async def test_an_endpoint(api: Api) -> None:
    """It is made, read, listed, changed and removed; the secret is shown once, and to a repeated request."""
    seller = await make_user(api.owner)
    key = as_user(seller, idempotency_key="make")
    made = assert_success(await api.http.post("/webhook-endpoints", json=GOOD, headers=key), "webhook_endpoint", 201)
    repeated = await api.http.post("/webhook-endpoints", json=GOOD, headers=key)
    assert assert_success(repeated, "webhook_endpoint") == made
    assert repeated.headers["idempotency-replayed"] == "true"
    other = GOOD | {"url": "https://other.example/"}
    assert_error(await api.http.post("/webhook-endpoints", json=other, headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    secret = made.pop("secret")
    path = f"/webhook-endpoints/{made['id']}"
    read = await api.http.get(path, headers=as_user(seller))
    assert assert_success(read, "webhook_endpoint") == made
    listed = await api.http.get("/webhook-endpoints", headers=as_user(seller))
    assert made in assert_success(listed, "webhook_endpoints")
    assert secret not in read.text + listed.text
    changes = {"event_types": ["drop.updated", "drop.created", "drop.updated"], "url": "https://other.example/"}
    changed = assert_success(await api.http.patch(path, json=changes, headers=as_user(seller)), "webhook_endpoint")
    assert (changed["url"], changed["event_types"]) == ("https://other.example/", ["drop.created", "drop.updated"])
    off = assert_success(await api.http.patch(path, json={"active": False}, headers=as_user(seller)), "webhook_endpoint")
    assert (off["active"], off["disabled_at"]) == (False, None)
    assert assert_success(await api.http.delete(path, headers=as_user(seller)), "webhook_endpoint")["id"] == made["id"]
    for method in ("GET", "DELETE"):
        assert_error(await api.http.request(method, path, headers=as_user(seller)), 404, "WEBHOOK_ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("url", url) for url in ("", "shop.example", "ftp://shop.example/", "https://", "https://a:b@shop.example/", None, 5)],
        *[("url", f"https://shop.example{rest}") for rest in ("/a b", "/#a", ":x/", "/ä", "/\n", "/" + "a" * 2000)],
        *[("url", f"http://{host}/") for host in ("10.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "0.0.0.0")],  # noqa: S104
        ("event_types", []),
        ("event_types", ["purchase.made"]),
        ("event_types", "purchase.paid"),
        ("event_types", ["purchase.paid"] * 20),
        ("secret", "whsec_mine"),
    ],
)
async def test_what_is_refused(api: Api, endpoint: Endpoint, field: str, value: Any) -> None:
    """Of a new endpoint and of one that is there."""
    response = await api.http.post("/webhook-endpoints", json=GOOD | {field: value}, headers=as_user(endpoint.seller))
    assert_invalid(response, field if value != ["purchase.made"] else "event_types.0")
    assert_error(await endpoint.ask("PATCH", json={field: value}), 400, "VALIDATION_ERROR")
    assert (await endpoint.now())["url"] == endpoint.row["url"]


async def test_a_url_of_a_network_that_is_allowed(api: Api, endpoint: Endpoint) -> None:
    """WEBHOOK_PRIVATE_TARGETS of this service names one address of this machine, and no other."""
    assert endpoint.row["url"].startswith("http://127.0.0.1:")
    response = await endpoint.ask("PATCH", json={"url": "http://127.0.0.2/"})
    assert "not public" in assert_invalid(response, "url")


async def test_the_deliveries_have_pages_and_filters(api: Api, receiver: Receiver) -> None:
    """By status, type and drop; the newest first."""
    endpoint = await make_endpoint(api, receiver, ["drop.created"])
    drops = [await make_drop(api.http, endpoint.seller) for _ in range(5)]
    await endpoint.ask("POST", "/test")
    await endpoint.comes(6)

    async def done() -> bool:
        return len(await endpoint.deliveries("&status=delivered")) == 6

    await eventually(done, PATIENCE_SECONDS)
    every = await endpoint.deliveries()
    assert {delivery["drop_id"] for delivery in every} == {None, *(drop["id"] for drop in drops)}
    assert [delivery["drop_id"] for delivery in await endpoint.deliveries(f"&drop_id={drops[2]['id']}")] == [drops[2]["id"]]
    assert len(await endpoint.deliveries("&type=drop.created")) == 5
    assert await endpoint.deliveries("&type=drop.updated") == await endpoint.deliveries("&status=pending") == []
    pages, cursor = [], ""
    while True:
        response = await endpoint.ask("GET", f"/deliveries?limit=4{cursor}")
        pages += assert_success(response, "webhook_deliveries")
        if "nextCursor" not in response.json()["meta"]:
            break
        cursor = "&cursor=" + response.json()["meta"]["nextCursor"]
    assert pages == every
    assert_invalid(await endpoint.ask("GET", "/deliveries?status=lost"), "status")
    assert_invalid(await endpoint.ask("GET", "/deliveries?type=all"), "type")
    assert_invalid(await endpoint.ask("GET", f"/deliveries?cursor={uuid4()}"), "cursor")
    await endpoint.remove()


async def test_a_delivery_that_is_removed_between_pages(api: Api, receiver: Receiver) -> None:
    """The next page begins where the last one ended, although the last delivery was old and is gone."""
    endpoint = await make_endpoint(api, receiver, ["drop.created"])
    for _ in range(4):
        await make_drop(api.http, endpoint.seller)
    await endpoint.comes(4)
    every = [delivery["id"] for delivery in await endpoint.deliveries()]
    first = (await endpoint.ask("GET", "/deliveries?limit=2")).json()
    await api.owner.execute("delete from inventory.webhook_deliveries where id = $1", UUID(every[1]))
    rest = await endpoint.ask("GET", f"/deliveries?cursor={first['meta']['nextCursor']}")
    assert [delivery["id"] for delivery in assert_success(rest, "webhook_deliveries")] == every[2:]
    await endpoint.remove()


async def test_an_endpoint_that_is_removed_between_pages(api: Api) -> None:
    """The next page begins where the last one ended."""
    headers, path = as_user(await make_user(api.owner)), "/webhook-endpoints"
    made = [await api.http.post(path, json=GOOD, headers=headers) for _ in range(4)]
    ids = [assert_success(answer, "webhook_endpoint", 201)["id"] for answer in made]
    first = (await api.http.get(f"{path}?limit=2", headers=headers)).json()
    assert [row["id"] for row in first["data"]["webhook_endpoints"]] == ids[:1:-1]
    by_id = await api.http.get(f"{path}?limit=2&cursor={ids[2]}", headers=headers)
    await api.http.delete(f"{path}/{ids[2]}", headers=headers)
    rest = await api.http.get(f"{path}?limit=2&cursor={first['meta']['nextCursor']}", headers=headers)
    for answer in (by_id, rest):
        assert [row["id"] for row in assert_success(answer, "webhook_endpoints")] == ids[1::-1]
    for endpoint_id in ids:
        await api.http.delete(f"{path}/{endpoint_id}", headers=headers)


async def test_there_are_few(api: Api) -> None:
    """The twenty-first is refused."""
    seller = await make_user(api.owner)
    paths = []
    while (response := await api.http.post("/webhook-endpoints", json=GOOD, headers=as_user(seller))).status_code == 201:
        paths.append(f"/webhook-endpoints/{response.json()['data']['webhook_endpoint']['id']}")
        assert len(paths) <= 20
    assert_error(response, 409, "TOO_MANY_WEBHOOK_ENDPOINTS")
    for path in paths:
        assert_success(await api.http.delete(path, headers=as_user(seller)), "webhook_endpoint")


async def test_what_is_not_there(api: Api) -> None:
    """404, with the code of what is missing."""
    seller, missing = await make_user(api.owner), uuid4()
    for method, path in (("PATCH", ""), ("POST", "/test"), ("POST", "/rotate-secret"), ("GET", "/deliveries")):
        body = {"active": True} if method == "PATCH" else None
        response = await api.http.request(method, f"/webhook-endpoints/{missing}{path}", json=body, headers=as_user(seller))
        assert_error(response, 404, "WEBHOOK_ENDPOINT_NOT_FOUND")
    response = await api.http.post(f"/webhook-deliveries/{missing}/replay", headers=as_user(seller))
    assert_error(response, 404, "WEBHOOK_DELIVERY_NOT_FOUND")
