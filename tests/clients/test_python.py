"""The Python client: each method, repeats, and the state of drops. Everything is tested with both clients."""

import asyncio
import os
import re
import shutil
import sys
import time
import tomllib
import zipfile
from collections.abc import AsyncIterator, Callable
from csv import DictReader
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from json import dumps
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lastpair import __version__ as version_of_service
from lastpair_client import AsyncClient, Client, Event, LastpairError, Request, __version__
from lastpair_client.events import State
from tests.clients.test_javascript import lines_of_readme
from tests.operations.test_wheel import build
from tests.support.in_process import InProcess
from tests.support.servers import ROOT
from tests.support.streams import publish
from tests.support.waiting import PATIENCE_SECONDS

CLIENT = ROOT / "clients" / "python"

Send = Callable[[], httpx.Response]
Fault = Callable[[Send], httpx.Response]
"""What becomes of a request instead of an answer. It may send the request."""


def cut(send: Send) -> httpx.Response:
    """The connection breaks before the request arrives."""
    raise httpx.ConnectError("cut")


def cut_after(send: Send) -> httpx.Response:
    """The connection breaks before the answer arrives."""
    send()
    raise httpx.ReadError("cut")


def is_late(send: Send) -> httpx.Response:
    """The answer does not arrive in time."""
    raise httpx.ReadTimeout("late")


def refuses(status: int, code: str | None = None, **headers: str) -> Fault:
    """The service refuses the request, or something between, which answers with no code."""
    body = {"success": False, "error": {"code": code, "message": "No."}, "meta": {"requestId": "r"}}
    content = "<html>" if code is None else dumps(body)
    return lambda send: httpx.Response(status, text=content, headers={k.replace("_", "-"): v for k, v in headers.items()})


class Faulty(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Sends requests to the service, but lets the next ones meet the faults."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: list[httpx.Request] = []
        self._sync = httpx.HTTPTransport()
        self._async = httpx.AsyncHTTPTransport()

    def fail(self, *faults: Fault) -> None:
        """The next requests meet these faults."""
        self.faults, self.requests = list(faults), []

    def close(self) -> None:
        """Of the sync client: aclose() closes everything."""

    async def aclose(self) -> None:
        """Close the connections."""
        self._sync.close()
        await self._async.aclose()

    @property
    def keys(self) -> list[str | None]:
        """The Idempotency-Keys of the requests."""
        return [request.headers.get("idempotency-key") for request in self.requests]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Of the sync client."""
        self.requests.append(request)
        if self.faults:
            return self.faults.pop(0)(lambda: self._sync.handle_request(request))
        return self._sync.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Of the async client. A fault that sends the request does so in a thread."""
        self.requests.append(request)
        if self.faults:
            return await asyncio.to_thread(self.faults.pop(0), lambda: self._sync.handle_request(request))
        return await self._async.handle_async_request(request)


class InThreads:
    """The sync client, whose calls run in threads, so that one test serves for both."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith("list_") or name in {"events", "live"}:
            return method
        return lambda *args, **kwargs: asyncio.to_thread(method, *args, **kwargs)


async def rows_of(rows: Any) -> list[Any]:
    """All rows of a list, or all pages of its pages()."""
    return await asyncio.to_thread(list, rows) if hasattr(rows, "__iter__") else [row async for row in rows]


class World:
    """Clients of one kind, and the faults that the requests of a shaky one meet."""

    def __init__(self, kind: str, url: str) -> None:
        self.faulty = Faulty()
        self._kind = kind
        self._url = url
        self._clients: list[Any] = []
        self.seller = self.client()

    def client(self, *, shaky: bool = False, **settings: Any) -> Any:
        """A client of a new user."""
        settings = {"user_id": uuid4(), "retry_seconds": 0.001} | settings
        client: Any
        if self._kind == "async":
            http = httpx.AsyncClient(transport=self.faulty) if shaky else None
            client = AsyncClient(self._url, **settings, http=http)
        else:
            client = InThreads(Client(self._url, **settings, http=httpx.Client(transport=self.faulty) if shaky else None))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients:
            await (client.aclose() if self._kind == "async" else client.close())
        await self.faulty.aclose()

    async def drop(self, **fields: Any) -> Any:
        """A new live drop."""
        return await self.seller.create_drop(
            {"name": "Air", "price": Decimal("19.90"), "total_stock": 5, "status": "live"} | fields
        )


@pytest.fixture(params=["sync", "async"])
async def world(request: pytest.FixtureRequest, service: InProcess, own_database: asyncpg.Pool) -> AsyncIterator[World]:
    """Clients of the service."""
    world = World(request.param, service.url)
    yield world
    await world.close()


async def refusal_of(call: Any) -> LastpairError:
    """The error that a call raises."""
    with pytest.raises(LastpairError) as caught:
        await call
    return caught.value


async def test_drops(world: World) -> None:
    """A drop is made, read, changed and listed. Money is exact, and a time may be a datetime."""
    seller = world.seller
    drop = await world.drop(starts_at=datetime.now(UTC), status=None)
    assert drop["price"] == Decimal("19.90")
    assert isinstance(drop["price"], Decimal)
    assert await seller.get_drop(drop["id"]) == drop
    assert drop["id"] in [row["id"] for row in await rows_of(seller.list_drops())]
    answer = await seller.ask(Request("GET", f"/drops/{drop['id']}", "drop"))
    assert answer.data["drop"] == drop
    changed = await seller.update_drop(drop["id"], {"price": 20.5}, if_match=answer.etag)
    assert changed["price"] == Decimal("20.50")
    stale = await refusal_of(seller.update_drop(drop["id"], {"price": 21}, if_match=answer.etag))
    assert (stale.status, stale.code) == (412, "DROP_CHANGED")
    history = await rows_of(seller.list_drop_history(drop["id"], limit=1))
    assert [change["action"] for change in history] == ["updated", "created"]


async def test_a_name_in_any_script(world: World) -> None:
    """A new user's name may have any characters, also in the headers of a stream."""
    name = f"Zo\u00eb \u540d\u524d {uuid4()}"
    drop, buyer = await world.drop(), world.client(user_name=name)
    await buyer.reserve(drop["id"])
    [held] = await rows_of(world.seller.list_drop_reservations(drop["id"]))
    assert held["username"] == name
    assert [row["id"] for row in await buyer.snapshot([drop["id"]])] == [drop["id"]]


async def test_a_hold_and_a_purchase(world: World) -> None:
    """Everything that a buyer does with a drop, and the seller afterwards."""
    seller, buyer = world.seller, world.client(user_name=uuid4().hex)
    drop = await world.drop(extension_seconds=60, total_stock=None, variants=[{"name": "42", "total_stock": 9}])
    variant_id = drop["variants"][0]["id"]
    held = await buyer.reserve(drop["id"], variant_id=variant_id, qty=2)
    assert (held["qty"], held["variant_id"], held["amount"]) == (2, variant_id, Decimal("39.80"))
    extended = await buyer.extend_reservation(held["id"])
    assert extended["expires_at"] > held["expires_at"]
    assert await buyer.get_reservation(held["id"]) == extended
    assert await rows_of(buyer.list_my_reservations()) == [extended]
    [seen] = await rows_of(seller.list_drop_reservations(drop["id"], status="ACTIVE", variant_id=variant_id))
    assert seen["variant_name"] == "42"
    purchase = await buyer.purchase(drop["id"], reservation_id=held["id"])
    assert await buyer.get_purchase(purchase["id"]) == purchase
    assert await rows_of(buyer.list_my_purchases()) == [purchase]
    [seen] = await rows_of(seller.list_drop_purchases(drop["id"], status="paid"))
    assert seen["id"] == purchase["id"]
    history = await buyer.get_reservation_history(held["id"])
    assert [change["action"] for change in history] == ["reserved", "extended", "purchased"]
    assert (await seller.refund_purchase(purchase["id"]))["status"] == "refunded"
    other = await buyer.reserve(drop["id"], variant_id=variant_id)
    assert (await buyer.cancel_reservation(other["id"]))["status"] == "CANCELLED"
    assert (await seller.cancel_drop(drop["id"], refund=True))["status"] == "cancelled"
    assert (await buyer.forget_me())["username"].startswith("former-user-")


async def test_baskets(world: World) -> None:
    """A basket is held, given back, held again and bought. A refusal names the items."""
    buyer, drops = world.client(), [await world.drop(), await world.drop(total_stock=1)]
    items = [{"drop_id": drop["id"], "qty": 1} for drop in drops]
    basket = await buyer.reserve_basket(items)
    assert await buyer.get_basket(basket["id"]) == basket
    assert (await buyer.cancel_basket(basket["id"]))["reservations"][0]["status"] == "CANCELLED"
    again = await buyer.reserve_basket(items)
    assert {row["drop_id"] for row in await buyer.purchase_basket(again["id"])} == {drop["id"] for drop in drops}
    error = await refusal_of(world.client().reserve_basket(items))
    assert (error.status, error.code) == (409, "BASKET_REFUSED")
    assert [(item["index"], item["code"]) for item in error.items or []] == [(1, "OUT_OF_STOCK")]
    assert error.request_id


async def test_csv(world: World) -> None:
    """A seller gets the whole of a list as CSV, also if the connection is lost meanwhile. A refusal is the same as ever."""
    drop, shaky = await world.drop(), world.client(shaky=True)
    for _ in range(2):
        buyer = world.client()
        await buyer.reserve(drop["id"], qty=2)
        await buyer.purchase(drop["id"])
    holder = world.client()
    held = await holder.reserve(drop["id"])
    world.faulty.fail(cut_after, cut)
    [row] = DictReader(StringIO(await shaky.export_drop_reservations(drop["id"], status="ACTIVE"), newline=""))
    assert (row["id"], row["qty"], row["amount"]) == (held["id"], "1", "19.90")
    sold = list(DictReader(StringIO(await shaky.export_drop_purchases(drop["id"]), newline="")))
    assert [(row["status"], row["amount"]) for row in sold] == [("paid", "39.80")] * 2
    assert set(sold[0]) == set((await rows_of(world.seller.list_drop_purchases(drop["id"])))[0])
    error = await refusal_of(shaky.export_drop_purchases(uuid4()))
    assert (error.status, error.code) == (404, "DROP_NOT_FOUND")


async def test_activity(world: World) -> None:
    """What happened on some drops, and the position from which a stream goes on."""
    drop, other, end = await world.drop(), await world.drop(), uuid4().hex
    before = await world.seller.get_activity(seconds=600, drop_ids=[drop["id"]])
    assert [(event["type"], event["dropId"]) for event in before["events"]] == [("DROP_CREATED", drop["id"])]
    both = await world.seller.get_activity(drop_ids=[drop["id"], other["id"]])
    assert {each["dropId"] for each in both["drops"]} == {drop["id"], other["id"]}
    await world.client().reserve(drop["id"])
    await world.seller.update_drop(drop["id"], {"name": end})
    following = Following(world.seller.events([drop["id"]], last_event_id=before["position"]), end)
    await following.has(lambda given: len(given) == 2)
    assert [event.type for event in following.given] == ["STOCK_UPDATED", "DROP_UPDATED"]


async def test_pages(world: World) -> None:
    """A list is read page by page."""
    buyer, drops = world.client(shaky=True), [await world.drop() for _ in range(5)]
    for drop in drops:
        await buyer.reserve(drop["id"])
    newest_first = [drop["id"] for drop in reversed(drops)]
    world.faulty.fail()
    pages = await rows_of(buyer.list_my_reservations(limit=2).pages())
    assert [[row["drop_id"] for row in page] for page in pages] == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    assert len(world.faulty.requests) == 3
    assert [row["drop_id"] for row in await rows_of(buyer.list_my_reservations(limit=2))] == newest_first


def client_of(world: World, answer: Callable[[httpx.Request], httpx.Response]) -> Any:
    """A client of this kind, whose requests the function answers."""
    transport = httpx.MockTransport(answer)
    if isinstance(world.seller, AsyncClient):
        return AsyncClient("http://test", http=httpx.AsyncClient(transport=transport))
    return InThreads(Client("http://test", http=httpx.Client(transport=transport)))


async def test_a_list_that_lacks_a_node(world: World) -> None:
    """The node that a page lacked is named after the last page, too, and no longer when the list is read anew."""
    metas: list[dict[str, Any]] = [{"nextCursor": "1", "incomplete": ["node 2"]}, {"nextCursor": "2"}, {}, {}]
    client = client_of(world, lambda _: httpx.Response(200, json={"success": True, "data": {"drops": []}, "meta": metas.pop(0)}))
    drops = client.list_drops()
    assert await rows_of(drops) == []
    assert drops.incomplete == ["node 2"]
    assert await rows_of(drops) == []
    assert drops.incomplete == []


@pytest.mark.parametrize("content", ['{"error": "no"}', '{"error": null, "meta": null}', '{"error": {}}', "[]", '"no"', "{"])
async def test_what_a_proxy_answers(world: World, content: str) -> None:
    """It may be any JSON. It is a failure that passes, and no error of the client."""
    replies = [httpx.Response(502, text=content), httpx.Response(200, text='{"success": true}')]
    drop = {"success": True, "data": {"drop": {"id": "a"}}, "meta": {}}
    client = client_of(world, lambda _: replies.pop(0) if replies else httpx.Response(200, json=drop))
    error = await refusal_of(client.get_drop("a"))
    assert (error.status, error.code) == (200, "UNEXPECTED_ANSWER")
    assert (await client.get_drop("a"))["id"] == "a"


async def test_a_method_in_lower_case(world: World) -> None:
    """A POST has a key, and a PATCH that may have been started is not repeated."""
    shaky, drop = world.client(shaky=True), await world.drop()
    world.faulty.fail(cut)
    await shaky.send(Request("post", f"/drops/{drop['id']}/reserve", "reservation"))
    [key] = set(world.faulty.keys)
    assert key is not None
    world.faulty.fail(cut)
    more = Request("patch", f"/drops/{drop['id']}", "drop", {"add_stock": 1})
    assert (await refusal_of(shaky.send(more))).code == "UNREACHABLE"
    assert len(world.faulty.requests) == 1


async def test_a_purchase_over_failures_happens_once(world: World) -> None:
    """All attempts of a call have one key, and each call has its own."""
    drop, buyer = await world.drop(), world.client(shaky=True)
    world.faulty.fail(cut, cut_after, refuses(502), is_late, refuses(503, "DATABASE_UNAVAILABLE", retry_after="0"))
    held = await buyer.reserve(drop["id"])
    [key] = set(world.faulty.keys)
    assert len(world.faulty.requests) == 6
    world.faulty.fail(cut_after, cut_after)
    assert (await buyer.purchase(drop["id"]))["reservation_id"] == held["id"]
    [other_key] = set(world.faulty.keys)
    assert key != other_key
    assert (await world.seller.get_drop(drop["id"]))["available_stock"] == 4
    assert len(await rows_of(buyer.list_my_purchases())) == 1
    world.faulty.fail(cut)
    await buyer.reserve(drop["id"], idempotency_key="mine")
    assert world.faulty.keys == ["mine", "mine"]


async def test_a_removal_over_a_lost_connection(world: World) -> None:
    """The repeat finds nothing, because the first attempt removed it. It says nothing if no attempt can have done so."""
    seller = world.client(shaky=True)
    endpoint = {"url": "https://example.com/hook", "event_types": ["drop.updated"]}
    first, second = [await seller.create_webhook_endpoint(endpoint) for _ in range(2)]
    world.faulty.fail(cut_after, refuses(503, "OVERLOADED", retry_after="0"))
    assert await seller.delete_webhook_endpoint(first["id"]) is None
    assert len(world.faulty.requests) == 3
    assert (await refusal_of(seller.delete_webhook_endpoint(first["id"]))).code == "WEBHOOK_ENDPOINT_NOT_FOUND"
    world.faulty.fail(refuses(503, "OVERLOADED", retry_after="0"))
    assert (await refusal_of(seller.delete_webhook_endpoint(first["id"]))).code == "WEBHOOK_ENDPOINT_NOT_FOUND"
    world.faulty.fail(cut)
    assert (await seller.delete_webhook_endpoint(second["id"]))["id"] == second["id"]


async def test_giving_back_over_a_lost_connection(world: World) -> None:
    """The repeat answers the row as the first attempt left it. A row that never was is an error, however often it is said."""
    buyer, drop = world.client(shaky=True), await world.drop()
    held = await buyer.reserve(drop["id"])
    world.faulty.fail(cut_after)
    assert (await buyer.cancel_reservation(held["id"]))["status"] == "CANCELLED"
    basket = await buyer.reserve_basket([{"drop_id": drop["id"]}])
    world.faulty.fail(cut_after)
    assert (await buyer.cancel_basket(basket["id"]))["reservations"][0]["status"] == "CANCELLED"
    world.faulty.fail(cut_after)
    assert (await refusal_of(buyer.cancel_reservation(uuid4()))).code == "RESERVATION_NOT_FOUND"
    world.faulty.fail(cut_after)
    assert (await buyer.forget_me())["username"].startswith("former-user-")


async def test_what_is_not_repeated(world: World) -> None:
    """A refusal is not; nor is a PATCH that may have been started, nor what has failed too often, nor what must wait long."""
    drop, buyer = await world.drop(total_stock=1), world.client(shaky=True, retries=2)
    await world.client().reserve(drop["id"])
    world.faulty.fail()
    error = await refusal_of(buyer.reserve(drop["id"]))
    assert (error.status, error.code, len(world.faulty.requests)) == (409, "OUT_OF_STOCK", 1)
    assert error.message in str(error)
    owner = world.client(shaky=True, user_id=drop["created_by"])
    world.faulty.fail(cut_after)
    assert (await refusal_of(owner.update_drop(drop["id"], {"add_stock": 1}))).code == "UNREACHABLE"
    assert (await owner.get_drop(drop["id"]))["total_stock"] == 2
    world.faulty.fail(refuses(503, "OVERLOADED", retry_after="0"))
    assert (await owner.update_drop(drop["id"], {"add_stock": 1}))["total_stock"] == 3
    world.faulty.fail(cut, cut, is_late)
    assert (await refusal_of(buyer.get_drop(drop["id"]))).code == "TIMEOUT"
    world.faulty.fail(refuses(502), refuses(504), refuses(502))
    error = await refusal_of(buyer.get_drop(drop["id"]))
    assert (error.status, error.code) == (502, "UNEXPECTED_ANSWER")
    world.faulty.fail(cut)
    assert (await refusal_of(world.client(shaky=True, retries=-1).get_drop(drop["id"]))).code == "UNREACHABLE"
    world.faulty.fail(refuses(429, "RATE_LIMITED", retry_after="60"))
    error = await refusal_of(buyer.get_drop(drop["id"]))
    assert (error.code, error.retry_after_seconds, len(world.faulty.requests)) == ("RATE_LIMITED", 60, 1)


async def test_retry_after(world: World) -> None:
    """The pause is at least as long as the service asks for. A token that a function returns is asked for at each attempt."""
    tokens = iter(["a", "b"])
    buyer, drop, begin = world.client(shaky=True, token=lambda: next(tokens)), await world.drop(), time.monotonic()
    world.faulty.fail(refuses(429, "RATE_LIMITED", retry_after="1"))
    await buyer.get_drop(drop["id"])
    assert time.monotonic() - begin >= 1
    assert [request.headers["authorization"] for request in world.faulty.requests] == ["Bearer a", "Bearer b"]


BAD_URLS = [
    "", "localhost:4000", "http://", "http:///shop", "http://:4000", "ftp://localhost", " http://localhost", "http://local host",
    "http://localhost:4000\n", "http://localhost:port", "http://localhost:65536", "http://[::1", "http://\ud800",
    "http://localhost?a=1", "http://localhost/shop#a", "http://user:password@localhost", "http://user@localhost",
]  # fmt: skip


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("base_url", BAD_URLS)
def test_a_base_url_that_leads_nowhere(kind: type[Client | AsyncClient], base_url: str) -> None:
    """It is refused at once."""
    with pytest.raises(ValueError, match=r"^base_url: "):
        kind(base_url)


BAD_VALUES = {
    "token": ["a\nb", "token\n", "token ", "to\x00ken", "\ud800"],
    "user_id": ["a\r\nX-User-Name: b", " ann", "a\x7f"],
    "user_name": ["Ann\nBob", "Ann\t", "\x0bAnn"],
}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_identity_that_no_header_can_have(kind: type[Client | AsyncClient]) -> None:
    """It is refused at once. The error does not show it, because a token is a secret."""
    for name, values in BAD_VALUES.items():
        for value in values:
            settings: dict[str, Any] = {name: value}
            with pytest.raises(ValueError, match=r"header|surrogate") as refused:
                kind("http://localhost", **settings)
            assert value not in str(refused.value)
    for token in (5, b"token"):
        bad_token: Any = token
        with pytest.raises(TypeError, match=r"^token: "):
            kind("http://localhost", token=bad_token)


@pytest.mark.parametrize(("token", "error"), [("a\nb", ValueError), (b"token", TypeError)])
async def test_a_bad_token_of_a_function(world: World, token: Any, error: type[Exception]) -> None:
    """A request and a stream end with it, because the next token would be no better."""
    for call in (lambda client: client.get_drop(uuid4()), lambda client: rows_of(client.events())):
        with pytest.raises(error):
            await call(world.client(token=[token].pop))


async def test_what_cannot_be_sent(world: World) -> None:
    """It is not taken for a lost connection, wherever in a request it is."""
    drop = await world.drop()
    with pytest.raises(ValueError, match="Idempotency-Key"):
        await world.seller.reserve(drop["id"], idempotency_key="a\nb")
    with pytest.raises(ValueError, match="If-Match"):
        await world.seller.update_drop(drop["id"], {"add_stock": 1}, if_match='"1"\n')
    with pytest.raises(httpx.LocalProtocolError):
        await world.seller.ask(Request("GET\n", "/drops", "drops"))

    def fail(request: httpx.Request) -> httpx.Response:
        raise errors.pop()

    for error in (httpx.LocalProtocolError("bad"), httpx.UnsupportedProtocol("bad")):
        for call in (lambda client: client.get_drop(drop["id"]), lambda client: rows_of(client.events())):
            errors: list[Exception] = [error]
            with pytest.raises(type(error)):
                await call(client_of(world, fail))
    odd_ids = ["a b", "a\nb", "a/../b", "..", "\u540d", "%"]
    assert {(await refusal_of(world.seller.get_drop(odd_id))).status for odd_id in odd_ids} <= {400, 404}


class Following:
    """Iterates over events() or live() of either client, in a task or a thread, until the drop has this name."""

    def __init__(self, iterable: Any, last_name: str) -> None:
        self.given: list[Any] = []
        self._last_name = last_name
        if hasattr(iterable, "__aiter__"):
            self._task = asyncio.create_task(self._follow(iterable))
        else:
            Thread(target=self._follow_in_thread, args=(iterable,), daemon=True).start()

    async def has(self, condition: Callable[[list[Any]], object]) -> None:
        """Wait until the condition holds for what was given so far."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition(self.given):
                await asyncio.sleep(0.01)

    def _is_last(self, item: Any) -> bool:
        self.given.append(item)
        event: Event = item if isinstance(item, Event) else item.event
        return bool(event.data.get("drop", {}).get("name") == self._last_name)

    async def _follow(self, iterable: Any) -> None:
        async for item in iterable:
            if self._is_last(item):
                return

    def _follow_in_thread(self, iterable: Any) -> None:
        for item in iterable:
            if self._is_last(item):
                return


async def test_live(world: World) -> None:
    """The drops are what a SNAPSHOT says, after every kind of change."""
    seller, (alice, bob, carol) = world.seller, [world.client() for _ in range(3)]
    plain = await world.drop(total_stock=9)
    sizes = [{"name": name, "total_stock": 4} for name in ("42", "43")]
    sized = await world.drop(total_stock=None, variants=sizes)
    drop_ids, end = [plain["id"], sized["id"]], uuid4().hex
    live = seller.live(drop_ids)
    following = Following(live, end)
    await following.has(lambda given: given)

    async def is_right() -> None:
        def shown(drop: Any) -> Any:
            return {name: value for name, value in drop.items() if name != "updatedAt"}  # no event tells this

        rows = {row["id"]: shown(row) for row in await seller.snapshot(drop_ids)}
        await following.has(lambda _: rows == {drop_id: shown(drop) for drop_id, drop in live.drops.items()})

    variant_id = sized["variants"][1]["id"]
    await alice.reserve(plain["id"], qty=2)
    await bob.reserve(sized["id"], variant_id=variant_id, qty=3)
    held = await carol.reserve(plain["id"])
    await is_right()
    purchase = await alice.purchase(plain["id"])
    await bob.purchase(sized["id"])
    await carol.cancel_reservation(held["id"])
    await is_right()
    await seller.update_drop(plain["id"], {"price": 6, "add_stock": 3})
    more = [{"id": variant["id"], "add_stock": 1} for variant in sized["variants"]]
    await seller.update_drop(sized["id"], {"variants": more, "paused": True})
    await is_right()
    await carol.reserve(plain["id"])
    await seller.refund_purchase(purchase["id"])
    await is_right()
    await seller.update_drop(plain["id"], {"name": end})
    await is_right()
    last = following.given[-1]
    assert last.drop["name"] == last.event.data["drop"]["name"] == end
    types = {change.event.type for change in following.given}
    assert types == {"SNAPSHOT", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED", "DROP_UPDATED"}


async def test_live_after_two_refunds(world: World) -> None:
    """The units held become right without a further event, of two drops as well. Each event is told once."""
    seller, drops, end = world.seller, [await world.drop(), await world.drop()], uuid4().hex
    purchases = []
    for drop in [drops[0], *drops]:
        buyer = world.client()
        await buyer.reserve(drop["id"])
        purchases.append(await buyer.purchase(drop["id"]))
    live = seller.live([drop["id"] for drop in drops])
    following = Following(live, end)
    await following.has(lambda given: given)
    for purchase in purchases:
        await seller.refund_purchase(purchase["id"])
    await following.has(
        lambda _: all((drop["available_stock"], drop["activity_feed"]["held_stock"]) == (5, 0) for drop in live.drops.values())
    )
    assert len(live.drops) == 2
    await seller.update_drop(drops[0]["id"], {"name": end})
    await following.has(lambda given: given[-1].event.type == "DROP_UPDATED")
    types = [change.event.type for change in following.given]
    assert types == ["SNAPSHOT", *["STOCK_UPDATED", "ACTIVITY_UPDATED"] * 3, "DROP_UPDATED"]


async def test_live_after_a_refund_of_one_unit(world: World) -> None:
    """The unit is left again, and none is held."""
    drop, buyer, end = await world.drop(), world.client(), uuid4().hex
    await buyer.reserve(drop["id"], qty=3)
    purchase = await buyer.purchase(drop["id"])
    live = world.seller.live([drop["id"]])
    following = Following(live, end)
    await following.has(lambda given: given)
    await world.seller.refund_purchase(purchase["id"], qty=1)
    await following.has(lambda given: len(given) == 3)
    await following.has(lambda _: live.drops[drop["id"]]["activity_feed"]["held_stock"] == 0)
    assert live.drops[drop["id"]]["available_stock"] == 3
    await world.seller.update_drop(drop["id"], {"name": end})
    await following.has(lambda given: given[-1].event.type == "DROP_UPDATED")
    assert [change.event.type for change in following.given[:3]] == ["SNAPSHOT", "STOCK_UPDATED", "ACTIVITY_UPDATED"]


async def test_leaving_while_a_drop_is_read_again() -> None:
    """A task that is cancelled while it waits ends at once, and closes its stream."""
    drop = {"id": "a", "total_stock": 5, "available_stock": 2, "variants": []}
    drop |= {"activity_feed": {"latest_purchasers": [], "held_stock": 2}}
    other = drop | {"available_stock": 3}  # of another moment, so it is read again for ever
    closed = []

    class Stream(httpx.AsyncByteStream):
        def __init__(self, *events: tuple[str, Any]) -> None:
            self._events = events

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for name, data in self._events:
                yield f"event: {name}\nid: 7\ndata: {dumps(data)}\n\n".encode()
            await asyncio.Event().wait()

        async def aclose(self) -> None:
            closed.append(self)

    def answer(request: httpx.Request) -> httpx.Response:
        streams.append(Stream(*([("SNAPSHOT", {"drops": [other]})] if streams else events)))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=streams[-1])

    async def follow() -> None:
        async for change in client.live(["a"]):
            given.put_nowait(change.event.type)

    streams: list[Stream] = []
    given: asyncio.Queue[str] = asyncio.Queue()
    events = [("SNAPSHOT", {"drops": [drop]}), ("ACTIVITY_UPDATED", {"dropId": "a", "latestPurchasers": []})]
    async with AsyncClient("http://test", http=httpx.AsyncClient(transport=httpx.MockTransport(answer))) as client:
        task = asyncio.create_task(follow())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(streams) < 4:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
    assert task.cancelled()
    assert [given.get_nowait() for _ in range(given.qsize())] == ["SNAPSHOT", "ACTIVITY_UPDATED"]
    assert streams[0] in closed


async def test_live_while_rereads_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go on, and the units held are right as soon as a drop can be read again."""
    monkeypatch.setattr("lastpair_client.events.REREAD_SECONDS", 0.01)
    feed: dict[str, Any] = {"latest_purchasers": [], "held_stock": 2}
    drop = {"id": "a", "total_stock": 5, "available_stock": 2, "variants": [], "activity_feed": feed}
    right = drop | {"available_stock": 4, "activity_feed": feed | {"held_stock": 0}}
    events: list[tuple[str, Any]] = [
        ("SNAPSHOT", {"drops": [drop]}),
        ("ACTIVITY_UPDATED", {"dropId": "a", "latestPurchasers": []}),
        *(("STOCK_UPDATED", {"dropId": "a", "availableStock": left}) for left in (1, 2, 3, 4)),
    ]
    last: list[tuple[str, Any]] = []
    rereads = iter([429, httpx.ReadTimeout("late"), 503, [("SNAPSHOT", {"drops": [right]})]])
    is_new = True

    def stream(events: list[tuple[str, Any]]) -> httpx.Response:
        text = "".join(f"event: {name}\nid: 7\ndata: {dumps(data)}\n\n" for name, data in events)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text or ": heartbeat\n")

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal is_new
        if is_new or "lastEventId" in request.url.params:  # the stream itself, which ends again and again
            given, is_new = events if is_new else last, False
            return stream(given)
        reply = next(rereads)
        if isinstance(reply, httpx.TransportError):
            raise reply
        return stream(reply) if isinstance(reply, list) else httpx.Response(reply, headers={"retry-after": "300"})

    end = uuid4().hex
    live = client_of(world, answer).live(["a"], retry_seconds=0.01)
    following = Following(live, end)
    await following.has(lambda given: len(given) == len(events))
    await following.has(lambda _: live.drops["a"]["activity_feed"]["held_stock"] == 0)
    last.append(("DROP_UPDATED", {"drop": {"id": "a", "name": end}}))
    await following.has(lambda given: given[-1].event.type == "DROP_UPDATED")
    assert [change.event.type for change in following.given] == [*(name for name, _ in events), "DROP_UPDATED"]


def test_a_refund_and_a_purchase_in_one_transaction() -> None:
    """The units held are read again after both together, and not after a purchase alone."""
    feed = {"latest_purchasers": [], "held_stock": 2}
    drop = {"id": "a", "total_stock": 5, "available_stock": 2, "variants": [], "activity_feed": feed}
    purchase = Event("PURCHASE_COMPLETED", {"dropId": "a", "username": "ann", "qty": 1}, "8")
    stock = Event("STOCK_UPDATED", {"dropId": "a", "availableStock": 3}, "9")
    activity = Event("ACTIVITY_UPDATED", {"dropId": "a", "latestPurchasers": []}, "10")
    state = State()
    state.apply(Event("SNAPSHOT", {"drops": [drop]}, "7"))
    for events, seconds in (([purchase, activity], None), ([purchase, stock, activity], 0)):
        for event in events:
            state.apply(event)
        assert state.seconds_to_reread() == seconds
    assert state.to_reread() == ["a"]


def test_a_snapshot_that_completes() -> None:
    """The drops of a node that was away are added, and those of the other nodes stay as they are."""
    feed = {"latest_purchasers": [], "held_stock": 0}
    first, second = ({"id": drop_id, "available_stock": 5, "variants": [], "activity_feed": feed} for drop_id in "ab")
    state = State()
    state.apply(Event("SNAPSHOT", {"drops": [first], "incomplete": ["node 2"]}, "0:7"))
    state.apply(Event("SNAPSHOT", {"drops": [second], "completes": ["node 2"]}, "0:7,2:3"))
    assert state.drops == {"a": first, "b": second}
    state.apply(Event("SNAPSHOT", {"drops": [second]}, "0:8,2:3"))
    assert state.drops == {"b": second}


async def test_live_of_all_drops(world: World) -> None:
    """New drops come, and drafts go."""
    live, end = world.seller.live(), uuid4().hex
    following = Following(live, end)
    await following.has(lambda given: given)
    drop = await world.drop(status=None, starts_at="2999-01-01T00:00:00Z")
    await following.has(lambda _: live.drops.get(drop["id"], {}).get("activity_feed", {}).get("held_stock") == 0)
    await world.seller.update_drop(drop["id"], {"status": "draft"})
    await following.has(lambda _: drop["id"] not in live.drops)
    assert following.given[-1].drop["id"] == drop["id"]
    await world.drop(name=end)
    await following.has(lambda given: given[-1].drop["name"] == end)


async def test_a_wrong_stream_is_refused(world: World) -> None:
    """Another try would be in vain, so the client does not make one."""
    error = await refusal_of(rows_of(world.seller.events(["1"])))
    assert (error.status, error.code) == (400, "VALIDATION_ERROR")


async def test_a_stream_with_an_identity(world: World, own_database: asyncpg.Pool) -> None:
    """It gets what is for its user alone, with the time; another user's stream does not."""
    drop, user, end = await world.drop(), uuid4(), uuid4().hex
    clients = [world.client(user_id=user), world.client()]
    followers = [Following(client.events([drop["id"]]), end) for client in clients]
    for following in followers:
        await following.has(lambda given: len(given) == 1)
    await publish(own_database, drop["id"], "PAYMENT_UPDATED", [dumps({"dropId": drop["id"]})], str(user))
    await world.seller.update_drop(drop["id"], {"name": end})
    for following, types in zip(followers, (["PAYMENT_UPDATED", "DROP_UPDATED"], ["DROP_UPDATED"]), strict=True):
        await following.has(lambda given: given[-1].type == "DROP_UPDATED")
        assert [event.type for event in following.given] == ["SNAPSHOT", *types]
        assert all(event.data["at"].endswith("Z") for event in following.given[1:])


async def test_an_identity_that_is_refused(service: InProcess) -> None:
    """Another try would be in vain, unless a function makes a new token each time."""
    with Client(service.url, user_id="x") as client, pytest.raises(LastpairError) as refused:
        await asyncio.to_thread(next, client.events())
    assert (refused.value.status, refused.value.code) == (401, "AUTH_REQUIRED")


async def test_a_stream_that_fails(world: World) -> None:
    """Whatever a connection ends with, the next one goes on after the last event."""
    events = [
        b'event: SNAPSHOT\nid: 7\ndata: {"drops":[]}\n\n',
        b"event: POSITION\nid: 8\ndata: {}\n\n: heartbeat\nevent: NEW\nid",
    ]
    stream = {"content-type": "text/event-stream; charset=utf-8"}
    answers: list[Fault] = [
        refuses(502),
        cut,
        refuses(503, "OVERLOADED", retry_after="0"),
        lambda _: httpx.Response(200, text="<html>"),
        lambda _: httpx.Response(200, content=b"retry: 1000\n" + events[0] + events[1], headers=stream),
        lambda _: httpx.Response(200, content=b'event: DROP_UPDATED\nid: 9\ndata: {"drop":{"name":"end"}}\n\n', headers=stream),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("lastEventId"))
        return answers.pop(0)(lambda: httpx.Response(500))

    asked: list[str | None] = []
    following = Following(client_of(world, answer).events(retry_seconds=0.001), "end")
    await following.has(lambda given: len(given) == 2)
    assert [(event.type, event.id) for event in following.given] == [("SNAPSHOT", "7"), ("DROP_UPDATED", "9")]
    assert asked == [None, None, None, None, None, "8"]


async def run_python(*arguments: object) -> str:
    """Run Python, which must succeed; returns its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, arguments),
        env=os.environ | {"PYTHONPATH": str(CLIENT), "MYPYPATH": str(CLIENT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_leaving_the_loop(service: InProcess) -> None:
    """A program that leaves the loop over live() and ends prints no error."""
    program = f"""
import asyncio
from lastpair_client import AsyncClient

async def follow():
    async with AsyncClient({service.url!r}) as client:
        async for change in client.live():
            break

asyncio.run(follow())
"""
    assert await run_python("-c", program) == ""


@pytest.fixture
def example(service: InProcess, tmp_path: Path) -> Path:
    """The example of the README, as it stands."""
    [example] = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    program = tmp_path / "example.py"
    program.write_text(example.replace("http://localhost:4000", service.url))
    return program


async def test_the_example(example: Path) -> None:
    """It runs, and prints what it says."""
    assert (await run_python(example)).splitlines() == ["399.80", "SNAPSHOT 1 left"]


def test_the_readme() -> None:
    """It has ten lines, of words and code together."""
    assert lines_of_readme(CLIENT) == 10


@pytest.mark.slow
async def test_the_example_is_typed(example: Path) -> None:
    """A type checker finds nothing wrong in it, and finds what is wrong."""
    mypy = ["-m", "mypy", "--strict", f"--cache-dir={example.parent}", example]
    await run_python(*mypy)
    example.write_text(example.read_text() + '    shop.reserve(drop["id"], amount=2)\n    shop.get_drop("")["prize"]\n')
    with pytest.raises(AssertionError, match=r'"amount"(.|\n)*"prize"'):
        await run_python(*mypy)


@pytest.mark.slow
async def test_the_wheel(tmp_path: Path) -> None:
    """It has the modules and the mark that they are typed, and needs nothing but httpx."""
    source = shutil.copytree(CLIENT, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    with zipfile.ZipFile(build("wheel", source, tmp_path)) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [metadata] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
    assert names == {path.relative_to(source).as_posix() for path in (source / "lastpair_client").iterdir()}
    assert "lastpair_client/py.typed" in names
    assert re.findall("^Requires-Dist: ([a-z]+)", metadata, re.MULTILINE) == ["httpx"]


def test_the_version() -> None:
    """The client has the version of the service."""
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    assert __version__ == project["version"] == version_of_service
