"""Which requests share a call to the database: reserve, of single units and of baskets, purchase, cancel, the list of drops, what
happened lately, and making users on their first use. A call goes to one node, so a slow node holds up nobody else's requests."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any, Generic, TypeVar, cast

import orjson

from lastpair.database.nodes import Node, Nodes
from lastpair.errors import DATABASE_UNAVAILABLE, Busy, Unavailable
from lastpair.observability.metrics import BATCH_CALL_SECONDS, BATCH_SIZE, BATCH_WAIT_SECONDS
from lastpair.settings import Settings
from lastpair.shop.batcher import Batcher, Places, Receiver
from lastpair.shop.outcome import DONE, Outcome, Page
from lastpair.shop.statements import Statements

# Requests go as JSON, because JSON names their fields: during a deployment the database may already have a request type with one
# more attribute. It also costs this process a quarter less than arrays or composites (docs/decisions/0003).
RESERVE = """
select status, code, message, replayed, data
from api.reserve_batch(array(select r from json_populate_recordset(null::api.reserve_request, $1::text::json) r), $2)
"""
RESERVE_BASKETS = """
select status, code, message, replayed, data
from api.reserve_basket_batch(array(select r from json_populate_recordset(null::api.basket_request, $1::text::json) r), $2)
"""
PURCHASE = """
select status, code, message, replayed, data
from api.purchase_batch(array(select r from json_populate_recordset(null::api.purchase_request, $1::text::json) r))
"""
CANCEL = """
select status, code, message, replayed, data
from api.cancel_batch(array(select r from json_populate_recordset(null::api.cancel_request, $1::text::json) r))
"""
ENSURE_USERS = """
select status, code, message, replayed, data
from api.ensure_user_batch(array(select r from json_populate_recordset(null::api.user_request, $1::text::json) r))
"""
ENSURE_USERS_ON_NODE = """
select status, code, message, replayed, data
from router.ensure_users($2, array(select r from json_populate_recordset(null::api.user_request, $1::text::json) r))
"""
"""A name is unique over all nodes, so the router makes the users."""

PAGE_PAUSE = 4
"""Iterations of the event loop after a call that read the drops on sale, which takes as long for many requests as for one."""

DEFAULT_LIMIT = 50
"""Rows of a page, unless the request says."""


LAST_ROW = "(array_agg(r))[$1]"


def page_of(rows: str, cursor: str = f"{LAST_ROW} ->> 'id'", where: str = "true") -> str:
    """A statement for a page of $1 of these rows, which are one more if there is another page: the fields of Page."""
    return f"""
select coalesce(array_to_json((array_agg(r))[:$1]), '[]'), case when count(*) > $1 then {cursor} end,
  nullif(current_setting('lastpair.incomplete', true), '')
from (select to_json(r) as r from {rows} r where {where}) page
"""  # noqa: S608 - only of the constants here


def page_by_time(function: str, at: str, arguments: str = "$2, $1 + 1", cursor: str = "$3", key: str = "uuid") -> str:
    """A statement for a page of a list that is sorted by its column `at`: the fields of Page.

    A cursor has the time of its row, too: `<id>~<time>`, in microseconds since 1970. When the next page is read, that time may
    have changed, and the row may be gone, or on a node that is away. A cursor that is an id alone has its row looked up.

    `arguments` are those before the row after which the page comes; `cursor` is the parameter of the statement that says which
    row that is, and `key` the type of its id.
    """
    # An interval is multiplied as a floating-point number, which is exact for the seconds and for what is left of them.
    text = f"split_part({cursor}, '~', 2)"
    micros = f"{text}::bigint"
    exact = f"timestamptz 'epoch' + {micros} / 1000000 * interval '1 second' + {micros} % 1000000 * interval '1 microsecond'"
    time = f"case {text} when '' then null when 'infinity' then 'infinity' else {exact} end"
    return page_of(f"{function}({arguments}, split_part({cursor}, '~', 1)::{key}, {time})", cursor_with_time(at))


def cursor_with_time(at: str) -> str:
    """The cursor of page_by_time. A row without a time comes first. A time that only SQL can make is left out."""
    time = f"({LAST_ROW} ->> '{at}')::timestamptz"
    microseconds = f"(extract(epoch from {time}) * 1000000)::bigint"
    return (
        f"({LAST_ROW} ->> 'id') || case when {time} is null then '~infinity'"
        f" when {time} >= '0001-01-01Z' and {time} < '10000-01-01Z' then '~' || {microseconds} else '' end"
    )


ON_SALE = f"api.list_drops(p_limit => {DEFAULT_LIMIT + 1})"
ON_SALE_CURSOR = cursor_with_time("starts_at")
DROPS_ON_SALE = page_of(ON_SALE, ON_SALE_CURSOR)
"""The statement for a router."""

CHANGED_DROPS_ON_SALE = f"""
select v.version, page.*
from (select api.on_sale_version($1 + 1, $2) as version offset 0) v
cross join lateral ({page_of(ON_SALE, ON_SALE_CURSOR, "v.version is distinct from $2")}) page
"""  # noqa: S608 - only of the constants here
"""The statement for a single database: it returns the version, and the page only if the version is not $2."""

ACTIVITY = "select to_json(a) from api.activity($1, $2) a"

RENAME_USERS = """
select api.rename_user_batch(array(select r from json_populate_recordset(null::api.user_request, $1::text::json) r))
"""

MAX_USERS = 64
"""Users that one call makes at most: each takes a subtransaction, and PostgreSQL keeps 64 of a session in shared memory."""

KEPT_FREE = 32
"""Of the places for requests that wait, a node leaves one in so many to the other nodes."""

MAX_BASKETS = 64
"""Baskets that one call holds at most, because all of their drops are locked until it ends."""

BASKET_RETRY_SECONDS = 1
"""For how long a call for baskets is tried again. While it holds the lock of one drop, it waits 100 ms at most for that of
another, and then lets everything go."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")


# These classes have no slots, because orjson writes an object with slots seven times as slowly.
@dataclass
class ReserveRequest:
    """`api.reserve_request`."""

    drop_id: str
    user_id: str
    idempotency_key: str | None
    variant_id: str | None
    qty: int | None

    @property
    def lane(self) -> str:
        """The drop."""
        return self.drop_id

    at = lane


@dataclass
class BasketItem:
    """`api.basket_item`."""

    drop_id: str
    variant_id: str | None
    qty: int | None


@dataclass
class BasketRequest:
    """`api.basket_request`; its lane is the set of its drops."""

    user_id: str
    items: Sequence[BasketItem]
    idempotency_key: str | None

    @property
    def lane(self) -> frozenset[str]:
        """The drops, which the call locks."""
        return frozenset(item.drop_id for item in self.items)


@dataclass
class PurchaseRequest:
    """`api.purchase_request`."""

    drop_id: str
    user_id: str
    idempotency_key: str | None
    reservation_id: str | None

    @property
    def lane(self) -> str:
        """The drop."""
        return self.drop_id


@dataclass
class CancelRequest:
    """`api.cancel_request`."""

    reservation_id: str
    user_id: str

    @property
    def lane(self) -> str:
        """The reservation, because the request names no drop."""
        return self.reservation_id


@dataclass(frozen=True)
class ActivityRequest:
    """The arguments of `api.activity`; all requests with the same ones share a call."""

    seconds: int
    drop_ids: tuple[str, ...] | None


BuyersRequest = ReserveRequest | BasketRequest | PurchaseRequest | CancelRequest
"""What buyers ask for most."""


@dataclass
class UserRequest:
    """`api.user_request`; its lane is the user."""

    user_id: str
    username: str | None


class MeasuredBatcher(Generic[Request, Answer]):
    """A batcher that observes, for each call, its size, its duration and how long its oldest request waited."""

    def __init__(
        self,
        name: str,
        call: Callable[[list[Request]], Awaitable[Sequence[Answer]]],
        *,
        max_size: int,
        max_pending: int,
        shared: Places | None = None,
    ) -> None:
        """`name` is the label `call` of the metrics."""
        self._call = call
        self._size = BATCH_SIZE.labels(name)
        self._wait_seconds = BATCH_WAIT_SECONDS.labels(name)
        self._call_seconds = BATCH_CALL_SECONDS.labels(name)
        self._batcher: Batcher[Hashable, tuple[float, Request], Answer] = Batcher(
            self._measured, max_size=max_size, max_pending=max_pending, shared=shared
        )
        self.end, self.withdraw = self._batcher.end, self._batcher.withdraw

    def submit(self, lane: Hashable, request: Request) -> Awaitable[Answer]:
        """What the call answers for this request. Raises as Batcher.submit does."""
        return self._batcher.submit(lane, (perf_counter(), request))

    def add(self, lane: Hashable, request: Request, receiver: Receiver[Answer]) -> None:
        """Give the receiver what the call answers for this request, as Batcher.add does."""
        self._batcher.add(lane, (perf_counter(), request), receiver)

    async def _measured(self, batch: Mapping[Hashable, list[tuple[float, Request]]]) -> Sequence[Answer]:
        begin = perf_counter()
        items = list(chain.from_iterable(batch.values()))
        self._size.observe(len(items))
        self._wait_seconds.observe(begin - min(of_lane[0][0] for of_lane in batch.values()))
        with self._call_seconds.time():
            return await self._call([request for _, request in items])


class NodeCalls(Statements):
    """The calls to one node: batchers of what buyers ask for most, and statements of requests that share no call."""

    def __init__(self, node: Node, nodes: Nodes, settings: Settings, places: Mapping[str, Places]) -> None:
        """`places` has those of all nodes together, by the name of a batcher."""
        super().__init__(node.database)
        self._nodes = nodes
        self._number = node.number
        self._ttl_seconds = settings.reservation_ttl_seconds
        size, pending = settings.batch_max_size, settings.max_pending
        is_one_of_several = node.number is not None
        if is_one_of_several:
            pending -= pending // KEPT_FREE  # for the others, because all places fill up if this node is away

        def batcher(
            name: str, call: Callable[[list[Any]], Awaitable[Sequence[Outcome]]], max_size: int = size
        ) -> MeasuredBatcher[Any, Outcome]:
            shared = places[name] if is_one_of_several else None
            return MeasuredBatcher(name, call, max_size=min(size, max_size), max_pending=pending, shared=shared)

        self.reserve = batcher("reserve", self._reserve)
        # In the metrics the label `provision` stands for making users.
        self.ensure_user = batcher("provision", self._ensure_user, MAX_USERS)
        self.of_buyers: dict[type[BuyersRequest], MeasuredBatcher[Any, Outcome]] = {
            ReserveRequest: self.reserve,
            BasketRequest: batcher("reserve_basket", self._reserve_baskets, MAX_BASKETS),
            PurchaseRequest: batcher("purchase", self._purchase),
            CancelRequest: batcher("cancel", self._cancel),
        }

    async def page(self, statement: str, limit: int, *arguments: Any) -> Outcome:
        """A page of a list; the statement is one of page_of()."""
        page = super().page
        if self._number is not None:
            return await page(statement, limit, *arguments)
        return await of_several(self._nodes, lambda: page(statement, limit, *arguments))

    async def _reserve(self, requests: list[ReserveRequest]) -> list[Outcome]:
        return await self._outcomes(RESERVE, requests, self._ttl_seconds)

    async def _reserve_baskets(self, requests: list[BasketRequest]) -> list[Outcome]:
        arguments = (RESERVE_BASKETS, _as_json(requests), self._ttl_seconds)
        # After a call for several lanes was busy, many calls for one basket may follow. They must leave sessions to the batches.
        fetch = self.database.fetch if len(requests) > 1 else self.database.fetch_single
        # A call for several lanes is not tried again here, because the batcher makes one for each lane, and not all may be busy.
        if len({request.lane for request in requests}) > 1:
            rows = await fetch(*arguments)
        else:
            rows = await while_busy(lambda: fetch(*arguments))
        return list(map(_outcome, rows))

    async def _purchase(self, requests: list[PurchaseRequest]) -> list[Outcome]:
        return await self._outcomes(PURCHASE, requests)

    async def _cancel(self, requests: list[CancelRequest]) -> list[Outcome]:
        return await self._outcomes(CANCEL, requests)

    async def _ensure_user(self, requests: list[UserRequest]) -> list[Outcome]:
        # Calls for one user are made when a call for many failed. There are many of them, and they must leave sessions to the
        # batches.
        database = self._nodes.whole.database
        fetch = database.fetch if len(requests) > 1 else database.fetch_single
        users = _as_json(requests)
        if self._number is None:
            return [Outcome(*row) for row in await fetch(ENSURE_USERS, users)]
        rows = await of_several(self._nodes, lambda: fetch(ENSURE_USERS_ON_NODE, users, self._number))
        return [Outcome(*row) for row in rows]

    async def _outcomes(self, statement: str, requests: Sequence[object], *arguments: Any) -> list[Outcome]:
        return list(map(_outcome, await self.database.fetch(statement, _as_json(requests), *arguments)))


class SharedCalls:
    """The calls of a process: those to each node, and those that concern all nodes."""

    def __init__(self, nodes: Nodes, settings: Settings) -> None:
        self._nodes = nodes
        self._settings = settings
        self._database = nodes.whole.database
        size, pending = settings.batch_max_size, settings.max_pending
        self._places: dict[str, Places] = defaultdict(lambda: Places(pending))
        self._of_nodes: dict[Node, NodeCalls] = {}
        nodes.on_leave.append(self._forget)
        self.whole = self._of(nodes.whole)
        self.rename_user: MeasuredBatcher[UserRequest, None] = MeasuredBatcher(
            "rename", self._rename_user, max_size=min(size, MAX_USERS), max_pending=pending
        )
        self.drops_on_sale: Batcher[None, None, Outcome] = Batcher(
            self._drops_on_sale, max_size=pending, max_pending=pending, pause=PAGE_PAUSE
        )
        self._seen: tuple[str | None, Page] = (None, Page("[]", None))  # the version of the drops on sale, and the page
        self.activity: Batcher[ActivityRequest, None, Any] = Batcher(self._activity, max_size=pending, max_pending=pending)

    def at(self, row_id: str) -> NodeCalls:
        """The calls to the node where the row with this id is."""
        return self._of(self._nodes.of(row_id))

    def to(self, lane: str | frozenset[str]) -> NodeCalls:
        """The calls to the node where the row or the rows of this lane are; to the database as a whole if on several."""
        if not self._nodes.is_router:
            return self.whole
        if isinstance(lane, str):
            return self._of(self._nodes.of(lane))
        nodes = {self._nodes.of(row_id) for row_id in lane}
        return self._of(nodes.pop()) if len(nodes) == 1 else self.whole  # the router refuses it

    def _of(self, node: Node) -> NodeCalls:
        calls = self._of_nodes.get(node)
        if calls is None:
            calls = self._of_nodes[node] = NodeCalls(node, self._nodes, self._settings, self._places)
        return calls

    def _forget(self, node: Node) -> None:
        self._of_nodes.pop(node, None)

    async def _drops_on_sale(self, requests: Mapping[None, list[None]]) -> list[Outcome]:
        if self._nodes.is_router is not False:
            [row] = await of_several(self._nodes, lambda: self._database.fetch(DROPS_ON_SALE, DEFAULT_LIMIT))
            page = Page(*row)
        else:
            seen_version, page = self._seen
            [(version, *fields)] = await self._database.fetch(CHANGED_DROPS_ON_SALE, DEFAULT_LIMIT, seen_version)
            if version == seen_version:
                self.drops_on_sale.pause = 0
            else:
                self.drops_on_sale.pause = PAGE_PAUSE
                page = Page(*fields)
                self._seen = version, page
        return [Outcome(DONE, None, None, False, page)] * len(requests[None])

    async def _activity(self, requests: Mapping[ActivityRequest, list[None]]) -> list[Any]:
        answers: list[Any] = []
        for request, askers in requests.items():
            # Few of these take as long as many small calls, so they must leave sessions to the batches.
            [(activity,)] = await self._database.fetch_single(ACTIVITY, request.seconds, request.drop_ids)
            answers += [activity] * len(askers)
        return answers

    async def _rename_user(self, requests: list[UserRequest]) -> list[None]:
        await self._database.fetch_single(RENAME_USERS, _as_json(requests))
        return [None] * len(requests)


async def while_busy(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """What the call returns; it is tried again for BASKET_RETRY_SECONDS while it raises Busy, because then it had no effect."""
    last_try_at = perf_counter() + BASKET_RETRY_SECONDS
    while perf_counter() < last_try_at:
        with suppress(Busy):
            return await call()
    return await call()


async def of_several(nodes: Nodes, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """What the call returns, which asks several nodes of a router and has no effect, or always the same one.

    If it fails because the router waited for a node that is away, it is repeated. Then the router knows that the node is away.
    """
    try:
        return await call()
    except Unavailable as error:
        if not nodes.is_router or error.code != DATABASE_UNAVAILABLE:
            raise
    return await call()


_outcome = partial(cast(Callable[[type[Outcome], Sequence[Any]], Outcome], tuple.__new__), Outcome)
"""The outcome in a row. Outcome(*row) takes twice as long."""


def _as_json(requests: Sequence[object]) -> str:
    return orjson.dumps(requests).decode()
