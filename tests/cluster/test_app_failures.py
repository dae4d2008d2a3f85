"""A node that is killed or frozen: only the requests for its drops fail, and it comes back by itself."""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from uuid import uuid4

import httpx
import pytest

from tests.support.cluster_shop import PATIENCE_SECONDS, ClusterShop, frozen, kill, serving
from tests.support.envelopes import as_user, assert_success, assert_unavailable
from tests.support.factories import ask_reserve, assert_healthy, make_drop_by_sql, reserve
from tests.support.router import Router, running_router, service_of
from tests.support.waiting import eventually

HERE, AWAY = 0, 1
BUYERS = 8


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    """A router with two nodes."""
    with running_router() as router:
        yield router


class Load:
    """Buyers who hold a unit of a drop and give it back, again and again."""

    def __init__(self, http: httpx.AsyncClient, drop_id: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.longest_seconds = 0.0
        self._http = http
        self._drop_id = drop_id
        self._buyers = [asyncio.create_task(self._buy()) for _ in range(BUYERS)]

    async def _buy(self) -> None:
        user = str(uuid4())
        while True:
            answer = await self._timed(ask_reserve(self._http, self._drop_id, user))
            if answer.status_code == 201:
                held = answer.json()["data"]["reservation"]["id"]
            elif answer.status_code == 409:  # a hold of which the answer was lost
                mine = await self._http.get("/reservations/me", headers=as_user(user))
                held = mine.json()["data"]["reservations"][0]["id"]
            else:
                assert_unavailable(answer)
                await asyncio.sleep(0.05)
                continue
            while (await self._timed(self._http.delete(f"/reservations/{held}", headers=as_user(user)))).status_code != 200:
                await asyncio.sleep(0.05)

    async def _timed(self, request: Awaitable[httpx.Response]) -> httpx.Response:
        begin = monotonic()
        answer = await request
        self.longest_seconds = max(self.longest_seconds, monotonic() - begin)
        self.statuses[answer.status_code] += 1
        return answer

    async def gets(self, status: int, times: int) -> None:
        """Wait until so many more answers have this status."""
        goal = self.statuses[status] + times
        await eventually(lambda: self._failed() or self.statuses[status] >= goal, PATIENCE_SECONDS)

    def _failed(self) -> bool:
        for buyer in self._buyers:
            if buyer.done():
                buyer.result()
        return False

    async def stop(self) -> None:
        """They leave."""
        for buyer in self._buyers:
            buyer.cancel()
        await asyncio.gather(*self._buyers, return_exceptions=True)


async def incomplete(http: httpx.AsyncClient) -> list[str] | None:
    """The nodes that the list of drops lacks; None if it could not be read."""
    answer = await http.get("/drops")
    return answer.json()["meta"].get("incomplete", []) if answer.status_code == 200 else None


async def test_a_list_goes_on_after_a_row_of_a_node_that_is_away(router: Router) -> None:
    """The cursor has what the others need to know of it."""
    async with serving(router) as shop:
        user = as_user(uuid4())
        first, second = await shop.drops(), await shop.drops()
        ids = [second[AWAY], second[HERE], first[AWAY], first[HERE]]  # the newest first
        for drop_id in reversed(ids):
            assert (await shop.http.post(f"/drops/{drop_id}/reserve", headers=user)).status_code == 201
        lists = {"/drops": "drops", "/reservations/me": "reservations"}
        cursors = {}
        for path, name in lists.items():
            page = await shop.http.get(path, params={"limit": 1}, headers=user)
            cursors[path] = page.json()["meta"]["nextCursor"]
            everything = assert_success(
                await shop.http.get(path, params={"limit": 3, "cursor": cursors[path]}, headers=user), name
            )
            assert [row.get("drop_id", row["id"]) for row in everything] == ids[1:]
        await asyncio.to_thread(kill, router.nodes[AWAY])
        try:
            for path, name in lists.items():
                page = await shop.http.get(path, params={"limit": 2, "cursor": cursors[path]}, headers=user)
                assert page.status_code == 200, page.text
                assert page.json()["meta"]["incomplete"] == ["node 1"]
                assert [row.get("drop_id", row["id"]) for row in page.json()["data"][name]] == [second[HERE], first[HERE]]
        finally:
            await asyncio.to_thread(router.nodes[AWAY].start)


async def test_lists_of_a_seller_go_on_after_a_row_of_a_node_that_is_away(router: Router) -> None:
    """The same of deliveries of webhooks and of problems of payments."""
    async with serving(router) as shop, service_of(router.url) as service:
        endpoint_id = await service.fetchval(
            "select (endpoint).id from api.create_webhook_endpoint('https://shop.example', array['drop.created'])"
        )
        for number in (HERE, AWAY, HERE, AWAY):
            await make_drop_by_sql(shop.owners[number], 1)
            await shop.owners[number].fetch("select api.fan_out_webhooks(1000)")
            told = ("stripe", str(uuid4()), None, str(uuid4()), "paid", 1, "USD", None, "{}", None)
            await shop.owners[number].fetch("select from api.record_payment_event($1::api.payment_event)", told)
        lists = {f"/webhook-endpoints/{endpoint_id}/deliveries": "webhook_deliveries", "/payments/problems": "problems"}
        seller, whole, cursors = as_user(uuid4()), {}, {}
        for path, name in lists.items():
            whole[path] = [row["id"] for row in assert_success(await shop.http.get(path, headers=seller), name)]
            page = await shop.http.get(path, params={"limit": 1}, headers=seller)
            cursors[path] = page.json()["meta"]["nextCursor"]
            rest = await shop.http.get(path, params={"cursor": cursors[path]}, headers=seller)
            assert [row["id"] for row in assert_success(rest, name)] == whole[path][1:]
        await asyncio.to_thread(kill, router.nodes[AWAY])
        try:
            for path, name in lists.items():
                rest = await shop.http.get(path, params={"cursor": cursors[path]}, headers=seller)
                assert rest.status_code == 200, rest.text
                assert rest.json()["meta"]["incomplete"] == ["node 1"]
                assert [row["id"] for row in rest.json()["data"][name]] == whole[path][1::2]
        finally:
            await asyncio.to_thread(router.nodes[AWAY].start)
        await service.fetch("select from api.delete_webhook_endpoint($1)", endpoint_id)


async def test_a_node_is_killed_under_load(router: Router, record_property: Callable[[str, object], None]) -> None:
    """Sales on the other node go on; the list says which node is missing; the node sells again when it is back."""
    async with serving(router, expiry_poll_ms=200) as shop:
        drops = await shop.drops(1_000_000)
        here, away = (Load(shop.http, drops[number]) for number in (HERE, AWAY))
        try:
            await here.gets(201, 100)
            await away.gets(201, 100)
            here.longest_seconds = 0
            await asyncio.to_thread(kill, router.nodes[AWAY])
            away.longest_seconds = 0
            await away.gets(503, 20)
            await here.gets(201, 100)
            await eventually(lambda: lacks(shop, ["node 1"]), PATIENCE_SECONDS)
            listed = assert_success_but_incomplete(await shop.http.get("/drops"))
            assert drops[HERE] in listed
            record_property("longest_seconds_here", here.longest_seconds)
            record_property("longest_seconds_away", away.longest_seconds)
            await asyncio.to_thread(router.nodes[AWAY].start)
            await away.gets(201, 100)
            await eventually(lambda: lacks(shop, []), PATIENCE_SECONDS)
        finally:
            await here.stop()
            await away.stop()
        assert set(here.statuses) == {200, 201}
        for owner in shop.owners.values():
            await owner.expire_connections()
            await assert_healthy(owner)


async def test_a_frozen_node_takes_its_own_sessions_only(router: Router, record_property: Callable[[str, object], None]) -> None:
    """Requests for its drops of every kind wait in its own pool, and are answered 503; those of the other node go on."""
    async with serving(router, expiry_poll_ms=200, database_pool_size=4) as shop:
        drops = await shop.drops(1_000_000)
        users = [str(uuid4()) for _ in range(20)]
        for user in users:
            for drop_id in (await shop.drops()).values():
                await reserve(shop.http, drop_id, user)
        with frozen(router.nodes[AWAY]):
            begin = monotonic()
            batched = [ask_reserve(shop.http, drops[AWAY], user) for user in users]
            single = [shop.http.get(f"/drops/{drops[AWAY]}") for _ in range(20)]
            waiting = [asyncio.create_task(request) for request in (*batched, *single)]
            listing = asyncio.create_task(shop.http.get("/drops"))
            for user in users:
                await reserve(shop.http, drops[HERE], user)
                assert_success(await shop.http.get(f"/drops/{drops[HERE]}"), "drop")
            record_property("here_seconds", monotonic() - begin)
            for answer in await asyncio.gather(*waiting):
                assert_unavailable(answer)
            record_property("away_seconds", monotonic() - begin)
            assert drops[HERE] in assert_success_but_incomplete(await listing)
            await eventually(lambda: lacks(shop, ["node 1"]), PATIENCE_SECONDS)
            assert_unavailable(await ask_reserve(shop.http, drops[AWAY], users[0]))
            await reserve(shop.http, drops[HERE], str(uuid4()))
        await eventually(lambda: sells(shop, drops[AWAY]), PATIENCE_SECONDS)
        await eventually(lambda: lacks(shop, []), PATIENCE_SECONDS)


POINT = r"""
select format('alter server node_%s options (set p0 %L)', number, regexp_replace(
  address, 'host=\S+ port=\S+', 'host=127.0.0.1,127.0.0.1 port={},{}'))
from router.nodes_of_app() where number = {} \gexec
"""


@contextmanager
def port_of_a_machine_that_is_gone() -> Iterator[int]:
    """A port where nobody answers to an attempt to connect: the queue of those that wait to be accepted is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_node_whose_first_server_is_gone(router: Router) -> None:
    """The router needs three seconds to pass on to the second server; the node is used again all the same."""
    node = router.nodes[AWAY]
    async with serving(router) as shop:
        drops = await shop.drops(1_000_000)
        with port_of_a_machine_that_is_gone() as port, ExitStack() as stack:
            stack.callback(router.server.psql, POINT.format(node.port, node.port, AWAY), router.server.url)
            with frozen(node):
                answer = await ask_reserve(shop.http, drops[AWAY], str(uuid4()))
                assert_unavailable(answer)
                await eventually(lambda: lacks(shop, ["node 1"]), PATIENCE_SECONDS)
                router.server.psql(POINT.format(port, node.port, AWAY), router.server.url)
            await eventually(lambda: sells(shop, drops[AWAY]), PATIENCE_SECONDS)
            await eventually(lambda: lacks(shop, []), PATIENCE_SECONDS)


async def lacks(shop: ClusterShop, nodes: list[str]) -> bool:
    """Whether the list of drops lacks the rows of these nodes and of no others."""
    return await incomplete(shop.http) == nodes


async def sells(shop: ClusterShop, drop_id: str) -> bool:
    """Whether a unit of the drop can be held."""
    return (await ask_reserve(shop.http, drop_id, str(uuid4()))).status_code == 201


def assert_success_but_incomplete(answer: httpx.Response) -> set[str]:
    """The ids of a list that lacks the rows of node 1."""
    body = answer.json()
    assert body["meta"]["incomplete"] == ["node 1"]
    return {drop["id"] for drop in body["data"]["drops"]}
