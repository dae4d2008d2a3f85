"""The class `Shop`: every operation on drops, for all transports. It knows no HTTP.

A transport parses a request, calls one method and renders the outcome. The database has the rules; the shop chooses the
statement, lets requests share calls, and makes a user on first use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

from lastpair.database.nodes import Nodes
from lastpair.errors import STOPPING, Refusal, Unavailable
from lastpair.settings import Settings
from lastpair.shop.batcher import Batcher
from lastpair.shop.current_names import CurrentNames
from lastpair.shop.outcome import AUTH_REQUIRED, CREATED, DONE, Caller, Outcome
from lastpair.shop.shared_calls import (
    ActivityRequest,
    BuyersRequest,
    CancelRequest,
    MeasuredBatcher,
    NodeCalls,
    PurchaseRequest,
    ReserveRequest,
    SharedCalls,
    UserRequest,
    page_by_time,
    page_of,
    while_busy,
)
from lastpair.shop.statements import outcome_of, refused
from lastpair.shop.sweeper import expire_due_holds

CREATE_DROP = """
select status, code, message, replayed, data
from api.create_drop_from_json(jsonb_build_object('currency', $4::text) || jsonb_strip_nulls($1::jsonb), $2, $3)
"""
UPDATE_DROP = "select to_json(d) from api.update_drop($1, $2, $3, $4) d"
REFUND_PURCHASE = "select status, code, message, replayed, data from api.refund_purchase_outcome($1, $2, $3, $4)"
GET_PAYMENT = "select to_json(p) from api.get_payment($1, $2) p"
LIST_PAYMENTS = page_of("api.list_payments($2, $4::text[], $1 + 1, $3)")
LIST_PAYMENT_PROBLEMS = page_by_time("api.list_payment_problems", at="at", arguments="$1 + 1", cursor="$2", key="bigint")
LIST_PROVIDER_CALLS = page_by_time("api.list_provider_calls", at="done_at")
RETRY_PROVIDER_CALL = "select to_json(c) from api.retry_provider_call($1) c"
DROP_MONEY = "select to_json(array(select m from api.drop_money($1) m))"
CANCEL_PAYMENT = "select to_json(p) from api.cancel_payment($1, $2) p"
CANCEL_DROP = "select remaining, replayed, to_json(drop) from api.cancel_drop($1, $2, $3, $4)"
GET_RESERVATION = "select to_json(r) from api.get_reservation($1, $2) r"
GET_PURCHASE = "select to_json(p) from api.get_purchase($1, $2) p"
RESERVATION_HISTORY = "select to_json(array(select h from api.reservation_history($1, $2) h))"
HISTORY = page_of("api.history($2, $1 + 1, $3)")
GET_DROP = "select to_json(d) from api.get_drop($1, $2) d"
MY_RESERVATIONS = page_by_time("api.my_reservations", at="createdAt")
MY_PURCHASES = page_by_time("api.my_purchases", at="createdAt")
LIST_DROPS = page_by_time("api.list_drops", at="starts_at")
LIST_RESERVATIONS = page_of("api.list_reservations($2, $4, $5, $6, $1 + 1, $3)")
LIST_PURCHASES = page_of("api.list_purchases($2, $4, $5, $6, $1 + 1, $3)")
PURCHASE_BASKET = "select bool_or(b.replayed), json_agg(b.purchase) from api.purchase_basket($1, $2, $3) b"
CANCEL_BASKET = "select to_json(b) from api.cancel_basket($1, $2) b"
GET_BASKET = "select to_json(b) from api.get_basket($1, $2) b"
EXTEND = "select e.replayed, to_json(e.reservation) from api.extend_reservation($1, $2, $3) e"
FORGET_USER = "select to_json(u) from api.forget_user($1) u"
CREATE_STREAM_TICKET = "select to_json(t) from api.create_stream_ticket($1) t"
CREATE_USER = "select status, code, message, replayed, data from api.create_user_outcome($1, $2)"


class OfDrop(NamedTuple):
    """What a list for the seller of a drop has: rows of this drop, and only those of this status, variant or user, if given."""

    drop_id: str
    status: str | None = None
    variant_id: str | None = None
    user_id: str | None = None


Receive = Callable[[Outcome | Exception], None]


class Shop:
    """Every operation on drops. Each method returns an Outcome, for a refusal as well as for a success.

    Every method may raise Unavailable: DATABASE_UNAVAILABLE, after which it is not known whether the request took effect, or
    OVERLOADED, when it was not begun. Ids are UUIDs in lower case, times are ISO 8601 text with an offset.
    """

    def __init__(self, nodes: Nodes, settings: Settings) -> None:
        self._nodes = nodes
        self._default_currency = settings.default_currency
        self._ttl_seconds = settings.reservation_ttl_seconds
        self._batches = SharedCalls(nodes, settings)
        self._whole = self._batches.whole
        self._names = CurrentNames(self._batches.rename_user)

    async def reserve(
        self,
        caller: Caller,
        drop_id: str,
        idempotency_key: str | None = None,
        variant_id: str | None = None,
        qty: int | None = None,
    ) -> Outcome:
        """Hold `qty` units of a drop, or one; of a variant, if it has variants. Data: the reservation."""
        return await self.carry_out(caller, ReserveRequest(drop_id, caller.id, idempotency_key, variant_id, qty))

    async def purchase(
        self, caller: Caller, drop_id: str, idempotency_key: str | None = None, reservation_id: str | None = None
    ) -> Outcome:
        """Buy what the caller holds: this reservation, or the one that there is. Data: the purchase."""
        return await self.carry_out(caller, PurchaseRequest(drop_id, caller.id, idempotency_key, reservation_id))

    async def cancel(self, caller: Caller, reservation_id: str) -> Outcome:
        """Give back the unit that the caller holds. Data: the reservation."""
        return await self.carry_out(caller, CancelRequest(reservation_id, caller.id))

    async def carry_out(self, caller: Caller, request: BuyersRequest) -> Outcome:
        """Reserve, purchase or cancel, as the request says. Data: the reservation, the purchase, or the basket; of a refused
        basket, the refused items."""
        lane = request.lane
        calls = self._batches.to(lane)
        batcher = calls.of_buyers[type(request)]
        return await self._as_caller(caller, calls, lambda: batcher.submit(lane, request))

    def begin(self, caller: Caller, request: BuyersRequest, receive: Receive) -> "Begun":
        """The same without a task: the function gets the outcome, or what carry_out would raise. Raises OVERLOADED."""
        lane = request.lane
        calls = self._batches.to(lane)
        batcher = calls.of_buyers[type(request)]
        begun = Begun(self, calls, batcher, lane, caller, request, receive)
        batcher.add(lane, request, begun)
        return begun

    async def extend(self, caller: Caller, reservation_id: str, idempotency_key: str | None = None) -> Outcome:
        """Let the caller's hold end later, once. Data: the reservation."""
        arguments = (reservation_id, caller.id, idempotency_key)
        return await self._at(reservation_id, caller, lambda calls: calls.repeatable(DONE, EXTEND, *arguments))

    async def purchase_basket(self, caller: Caller, basket_id: str, idempotency_key: str | None = None) -> Outcome:
        """Buy all that the caller holds in a basket, or nothing. Data: a list of purchases, in the order of the items."""
        arguments = (basket_id, caller.id, idempotency_key)
        return await self._at(basket_id, caller, lambda calls: calls.repeatable(CREATED, PURCHASE_BASKET, *arguments))

    async def cancel_basket(self, caller: Caller, basket_id: str) -> Outcome:
        """Give back all that the caller holds in a basket. Data: the basket."""

        async def act(calls: NodeCalls) -> Outcome:
            [(basket,)] = await while_busy(lambda: calls.database.fetch_single(CANCEL_BASKET, basket_id, caller.id))
            return Outcome(DONE, None, None, False, basket)

        return await self._at(basket_id, caller, lambda calls: outcome_of(act(calls)))

    async def get_basket(self, caller: Caller, basket_id: str) -> Outcome:
        """One of the caller's baskets. Data: the basket."""
        return await self._at(basket_id, caller, lambda calls: calls.single(GET_BASKET, basket_id, caller.id))

    async def my_reservations(self, caller: Caller, limit: int, cursor: str | None) -> Outcome:
        """The units that the caller holds. Data: a page of reservations, ACTIVE and not due, newest first."""
        return await self._as_caller(caller, self._whole, lambda: self._whole.page(MY_RESERVATIONS, limit, caller.id, cursor))

    async def my_purchases(self, caller: Caller, limit: int, cursor: str | None) -> Outcome:
        """The units that the caller has bought. Data: a page of purchases, newest first."""
        return await self._as_caller(caller, self._whole, lambda: self._whole.page(MY_PURCHASES, limit, caller.id, cursor))

    async def list_reservations(self, of_drop: OfDrop, limit: int, cursor: str | None) -> Outcome:
        """Who holds, or held, units of a drop. Data: a page of reservations with usernames, newest first."""
        return await self._batches.at(of_drop.drop_id).page(LIST_RESERVATIONS, limit, of_drop.drop_id, cursor, *of_drop[1:])

    async def list_purchases(self, of_drop: OfDrop, limit: int, cursor: str | None) -> Outcome:
        """Who bought units of a drop. Data: a page of purchases with usernames, newest first."""
        return await self._batches.at(of_drop.drop_id).page(LIST_PURCHASES, limit, of_drop.drop_id, cursor, *of_drop[1:])

    async def create_drop(self, caller: Caller, drop: str, idempotency_key: str | None = None) -> Outcome:
        """Put a drop up for sale. `drop` is a JSON object with the parameters of api.create_drop. Data: the drop.

        Without a currency it gets DEFAULT_CURRENCY.
        """
        arguments = (drop, caller.id, idempotency_key, self._default_currency)
        return await self._as_caller(caller, self._whole, lambda: self._whole.row(CREATE_DROP, *arguments))

    async def update_drop(self, caller: Caller, drop_id: str, changes: str, if_revision: int | None = None) -> Outcome:
        """Change those fields of a drop that are in `changes`, a JSON object; only if it has this revision. Data: the drop."""
        return await self._at(drop_id, caller, lambda calls: calls.single(UPDATE_DROP, drop_id, changes, if_revision, caller.id))

    async def refund_purchase(
        self, caller: Caller, purchase_id: str, qty: int | None = None, idempotency_key: str | None = None
    ) -> Outcome:
        """Refund so many units of a purchase, or all that are left. Data: the purchase."""
        arguments = (purchase_id, caller.id, idempotency_key, qty)
        return await self._at(purchase_id, caller, lambda calls: calls.row(REFUND_PURCHASE, *arguments))

    async def get_payment(self, caller: Caller, payment_id: str) -> Outcome:
        """One of the caller's payments. Data: the payment."""
        return await self._at(payment_id, caller, lambda calls: calls.single(GET_PAYMENT, payment_id, caller.id))

    async def cancel_payment(self, caller: Caller, payment_id: str) -> Outcome:
        """Let one of the caller's payments end unpaid, so that its units go back. Data: the payment."""
        return await self._at(payment_id, caller, lambda calls: calls.single(CANCEL_PAYMENT, payment_id, caller.id))

    async def list_payments(self, drop_id: str, status: str | None, limit: int, cursor: str | None) -> Outcome:
        """The payments of a drop, as its seller sees them. Data: a page of payments with usernames, newest first."""
        return await self._batches.at(drop_id).page(LIST_PAYMENTS, limit, drop_id, cursor, None if status is None else [status])

    async def list_payment_problems(self, limit: int, cursor: str | None) -> Outcome:
        """What payment providers told and a seller has to look at. Data: a page of problems, newest first."""
        return await self.page_of_all(LIST_PAYMENT_PROBLEMS, limit, cursor)

    async def list_provider_calls(self, drop_id: str, limit: int, cursor: str | None) -> Outcome:
        """What payment providers are told of a drop's payments. Data: a page of calls, those that are not done first."""
        return await self._batches.at(drop_id).page(LIST_PROVIDER_CALLS, limit, drop_id, cursor)

    async def retry_provider_call(self, caller: Caller, call_id: str) -> Outcome:
        """Make a call that failed or was given up soon. Data: the call."""
        return await self._at(call_id, caller, lambda calls: calls.single(RETRY_PROVIDER_CALL, call_id))

    async def drop_money(self, drop_id: str) -> Outcome:
        """How much money a drop has earned. Data: a list with one row per currency."""
        return await self._batches.at(drop_id).single(DROP_MONEY, drop_id)

    async def cancel_drop(self, caller: Caller, drop_id: str, *, refund: bool, idempotency_key: str | None = None) -> Outcome:
        """Cancel a drop, and refund what was paid if `refund`, in as many calls as that takes. Data: the drop.

        It is safe to repeat after a failure: a drop that is cancelled stays so, and the rest is refunded.
        """

        async def act(calls: NodeCalls) -> Outcome:
            arguments = (drop_id, refund, caller.id, idempotency_key)
            [(remaining, replayed, drop)] = await calls.database.fetch_single(CANCEL_DROP, *arguments)
            while remaining:
                [(remaining, _, drop)] = await calls.database.fetch_single(CANCEL_DROP, *arguments)
            return Outcome(DONE, None, None, replayed, drop)

        return await self._at(drop_id, caller, lambda calls: outcome_of(act(calls)))

    async def get_drop(self, drop_id: str, *, drafts: bool) -> Outcome:
        """One drop, in any status; a draft only with `drafts`, which is for sellers. Data: the drop."""
        return await self._batches.at(drop_id).single(GET_DROP, drop_id, drafts)

    async def get_reservation(self, caller: Caller, reservation_id: str, user_id: str | None) -> Outcome:
        """A reservation of this user or on a drop that this user made; of anyone if None. Data: the reservation."""
        return await self._at(reservation_id, caller, lambda calls: calls.single(GET_RESERVATION, reservation_id, user_id))

    async def get_purchase(self, caller: Caller, purchase_id: str, user_id: str | None) -> Outcome:
        """The same for a purchase. Data: the purchase."""
        return await self._at(purchase_id, caller, lambda calls: calls.single(GET_PURCHASE, purchase_id, user_id))

    async def reservation_history(self, caller: Caller, reservation_id: str, user_id: str | None) -> Outcome:
        """What became of such a reservation. Data: a list of who did what when, the oldest first."""
        return await self._at(reservation_id, caller, lambda calls: calls.single(RESERVATION_HISTORY, reservation_id, user_id))

    async def history(self, drop_id: str, limit: int, cursor: int | None) -> Outcome:
        """What sellers did to a drop. Data: a page of who did what when, newest first."""
        return await self._batches.at(drop_id).page(HISTORY, limit, drop_id, cursor)

    async def drops_on_sale(self) -> Outcome:
        """The first DEFAULT_LIMIT drops on sale. Data: a page of drops with their activity, newest start first."""
        return await self._batches.drops_on_sale.submit(None, None)

    def begin_drops_on_sale(self, receive: Receive) -> None:
        """The same without a task: the function gets the outcome, or what drops_on_sale would raise. Raises OVERLOADED."""
        page = BegunPage(self._batches.drops_on_sale, receive)
        self._batches.drops_on_sale.add(None, None, page)

    async def list_drops(self, status: str | None, limit: int, cursor: str | None) -> Outcome:
        """The drops of this status, or on sale. Data: a page of drops with their activity, newest start first."""
        return await self.page_of_all(LIST_DROPS, limit, status, cursor)

    async def activity(self, seconds: int, drop_ids: Sequence[str] | None) -> Outcome:
        """What happened in the last seconds, of these drops or of all. Data: an object with events, points and the position."""
        request = ActivityRequest(seconds, None if drop_ids is None else tuple(drop_ids))
        return Outcome(DONE, None, None, False, await self._batches.activity.submit(request, None))

    async def create_user(self, username: str, idempotency_key: str | None = None) -> Outcome:
        """Make a user. Data: the user."""
        return await self._whole.row(CREATE_USER, username, idempotency_key)

    async def forget_user(self, caller: Caller) -> Outcome:
        """Replace the caller's name by one that says nothing. Data: the user."""
        return await self._as_caller(caller, self._whole, lambda: self._whole.single(FORGET_USER, caller.id))

    async def create_stream_ticket(self, caller: Caller) -> Outcome:
        """Make a ticket for a stream that gets the caller's own events. Data: the ticket and the end of its time."""
        return await self._as_caller(caller, self._whole, lambda: self._whole.single(CREATE_STREAM_TICKET, caller.id))

    async def expire_due_holds(self) -> Outcome:
        """Take back the due holds now, instead of at the next sweep. Data: the number of holds taken back.

        A node that is away is left out; if all are, this raises Unavailable.
        """
        found = await asyncio.gather(*map(expire_due_holds, self._nodes.all), return_exceptions=True)
        expired = [count for count in found if isinstance(count, int)]
        for error in found:
            if isinstance(error, BaseException) and not (isinstance(error, Unavailable) and expired):
                raise error
        return Outcome(DONE, None, None, False, str(sum(expired)))

    async def page_of_all(self, statement: str, limit: int, *arguments: object) -> Outcome:
        """A page of a list to which every node has rows."""
        return await self._whole.page(statement, limit, *arguments)

    async def act_for(self, caller: Caller, act: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do what the function does; if it is refused because the caller does not exist, make the caller and repeat it."""
        return await self._as_caller(caller, self._whole, act)

    async def _at(self, row_id: str, caller: Caller, act: Callable[[NodeCalls], Awaitable[Outcome]]) -> Outcome:
        # Do what the function does on the node where this row is.
        calls = self._batches.at(row_id)
        return await self._as_caller(caller, calls, lambda: act(calls))

    async def _as_caller(
        self, caller: Caller, calls: NodeCalls, act: Callable[[], Awaitable[Outcome]], refusal_of_missing: Outcome | None = None
    ) -> Outcome:
        # Every function that acts for a user refuses a missing one with AUTH_REQUIRED, so a known user costs no call of its own.
        # The user is made where the function acts.
        try:
            outcome = refusal_of_missing or await act()
            if outcome.code == AUTH_REQUIRED and caller.name_if_new is not None:
                await calls.ensure_user.submit(caller.id, UserRequest(caller.id, caller.name_if_new()))
                outcome = await act()
        except Unavailable:
            raise
        except Refusal as refusal:
            return refused(refusal)
        self._follow_name(caller)
        return outcome

    def _follow_name(self, caller: Caller) -> None:
        if caller.is_named_elsewhere and caller.name_if_new is not None:
            self._names.follow(caller.id, caller.name_if_new())


class Begun:
    """A request that Shop.begin submitted. The batcher gives it the outcome, which then goes to a function."""

    __slots__ = ("_batcher", "_caller", "_calls", "_is_answered", "_lane", "_making_user", "_receive", "_request", "_shop")

    def __init__(
        self,
        shop: Shop,
        calls: NodeCalls,
        batcher: MeasuredBatcher[Any, Outcome],
        lane: Hashable,
        caller: Caller,
        request: BuyersRequest,
        receive: Receive,
    ) -> None:
        self._shop = shop
        self._calls = calls
        self._batcher = batcher
        self._lane = lane
        self._caller = caller
        self._request = request
        self._receive = receive
        self._is_answered = False
        self._making_user: asyncio.Task[Outcome] | None = None

    def withdraw(self) -> bool:
        """Take the request back if no call took it yet. Returns whether none did; otherwise the function gets the outcome."""
        return self._batcher.withdraw(self._lane, self)

    def done(self) -> bool:
        """Whether the batcher has answered."""
        return self._is_answered

    def set_result(self, outcome: Outcome) -> None:
        """Pass the outcome on. A caller who does not exist is made first, if that is done here, and the request is repeated."""
        self._is_answered = True
        self._batcher.end()
        caller = self._caller
        if outcome.code == AUTH_REQUIRED and caller.name_if_new is not None:
            repeat = partial(self._batcher.submit, self._lane, self._request)
            self._making_user = asyncio.create_task(self._shop._as_caller(caller, self._calls, repeat, outcome))
            self._making_user.add_done_callback(self._pass_on)
            return
        try:
            self._shop._follow_name(caller)
        except Exception as error:  # the batcher has other requests to answer
            self._receive(error)
        else:
            self._receive(outcome)

    def set_exception(self, error: Exception) -> None:
        """Pass the error on."""
        self._is_answered = True
        self._batcher.end()
        self._receive(refused(error) if isinstance(error, Refusal) and not isinstance(error, Unavailable) else error)

    def _pass_on(self, making_user: "asyncio.Task[Outcome]") -> None:
        if making_user.cancelled():
            self._receive(Unavailable(STOPPING))
        else:
            error = making_user.exception()
            self._receive(error if isinstance(error, Exception) else making_user.result())


class BegunPage:
    """A page that Shop.begin_drops_on_sale asked for. The batcher gives it the page, which then goes to a function."""

    __slots__ = ("_batcher", "_is_answered", "_receive")

    def __init__(self, batcher: Batcher[None, None, Outcome], receive: Receive) -> None:
        self._batcher = batcher
        self._receive = receive
        self._is_answered = False

    def done(self) -> bool:
        """Whether the batcher has answered."""
        return self._is_answered

    def set_result(self, outcome: Outcome) -> None:
        """Pass the page on."""
        self._end()
        self._receive(outcome)

    def set_exception(self, error: Exception) -> None:
        """Pass the error on."""
        self._end()
        self._receive(error)

    def _end(self) -> None:
        self._is_answered = True
        self._batcher.end()
