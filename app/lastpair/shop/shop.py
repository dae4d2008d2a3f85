"""The class `Shop`: every operation on drops, for all transports. It knows no HTTP.

A transport parses a request, calls one method and renders the outcome. The database has the rules; the shop chooses the
statement, lets requests share calls, and makes a user on first use.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from lastpair.database.pool import Database
from lastpair.errors import Refusal, Unavailable
from lastpair.settings import Settings
from lastpair.shop.outcome import AUTH_REQUIRED, DONE, Caller, Outcome
from lastpair.shop.shared_calls import CancelRequest, PurchaseRequest, ReserveRequest, SharedCalls, UserRequest
from lastpair.shop.sweeper import expire_due_holds

CREATE_DROP = "select status, code, message, replayed, data from api.create_drop_from_json($1, $2, $3)"
UPDATE_DROP = "select to_json(d) from api.update_drop($1, $2, $3) d"
GET_DROP = "select to_json(d) from api.get_drop($1, $2) d"
MY_RESERVATIONS = "select to_json(array(select r from api.my_reservations($1) r))"
MY_PURCHASES = "select to_json(array(select p from api.my_purchases($1) p))"
FORGET_USER = "select to_json(u) from api.forget_user($1) u"
CREATE_USER = "select status, code, message, replayed, data from api.create_user_outcome($1, $2)"


class Shop:
    """Every operation on drops. Each method returns an Outcome, for a refusal as well as for a success.

    Every method may raise Unavailable: DATABASE_UNAVAILABLE, after which it is not known whether the request took effect, or
    OVERLOADED, when it was not begun. Ids are UUIDs in lower case, times are ISO 8601 text with an offset.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._batches = SharedCalls(database, settings)

    async def reserve(
        self,
        caller: Caller,
        drop_id: str,
        idempotency_key: str | None = None,
        variant_id: str | None = None,
        qty: int | None = None,
    ) -> Outcome:
        """Hold `qty` units of a drop, or one; of a variant, if it has variants. Data: the reservation."""
        request = ReserveRequest(drop_id, caller.id, idempotency_key, variant_id, qty)
        return await self._as_caller(caller, lambda: self._batches.reserve.submit(drop_id, request))

    async def purchase(
        self, caller: Caller, drop_id: str, idempotency_key: str | None = None, reservation_id: str | None = None
    ) -> Outcome:
        """Buy what the caller holds: this reservation, or the one that there is. Data: the purchase."""
        request = PurchaseRequest(drop_id, caller.id, idempotency_key, reservation_id)
        return await self._as_caller(caller, lambda: self._batches.purchase.submit(drop_id, request))

    async def cancel(self, caller: Caller, reservation_id: str) -> Outcome:
        """Give back the unit that the caller holds. Data: the reservation."""
        request = CancelRequest(reservation_id, caller.id)
        return await self._as_caller(caller, lambda: self._batches.cancel.submit(reservation_id, request))

    async def my_reservations(self, caller: Caller) -> Outcome:
        """The units that the caller holds. Data: a list of reservations, ACTIVE and not due, newest first."""
        return await self._as_caller(caller, lambda: self._single(MY_RESERVATIONS, caller.id))

    async def my_purchases(self, caller: Caller) -> Outcome:
        """The units that the caller has bought. Data: a list of purchases, newest first."""
        return await self._as_caller(caller, lambda: self._single(MY_PURCHASES, caller.id))

    async def create_drop(self, caller: Caller, drop: str, idempotency_key: str | None = None) -> Outcome:
        """Put a drop up for sale. `drop` is a JSON object with the parameters of api.create_drop. Data: the drop."""
        return await self._as_caller(caller, lambda: self._outcome(CREATE_DROP, drop, caller.id, idempotency_key))

    async def update_drop(self, drop_id: str, changes: str, if_revision: int | None = None) -> Outcome:
        """Change those fields of a drop that are in `changes`, a JSON object; only if it has this revision. Data: the drop."""
        return await self._single(UPDATE_DROP, drop_id, changes, if_revision)

    async def get_drop(self, drop_id: str, *, drafts: bool) -> Outcome:
        """One drop, in any status; a draft only with `drafts`, which is for sellers. Data: the drop."""
        return await self._single(GET_DROP, drop_id, drafts)

    async def list_drops(self) -> Outcome:
        """The drops on sale. Data: a list of drops with their activity, newest start first."""
        return Outcome(DONE, None, None, False, await self._batches.list_drops.submit(None, None))

    async def create_user(self, username: str, idempotency_key: str | None = None) -> Outcome:
        """Make a user. Data: the user."""
        return await self._outcome(CREATE_USER, username, idempotency_key)

    async def forget_user(self, user_id: str) -> Outcome:
        """Replace the user's name by one that says nothing. Data: the user."""
        return await self._single(FORGET_USER, user_id)

    async def expire_due_holds(self) -> Outcome:
        """Take back the due holds now, instead of at the next sweep. Data: the number of holds taken back."""
        return Outcome(DONE, None, None, False, await expire_due_holds(self._database))

    async def _as_caller(self, caller: Caller, act: Callable[[], Awaitable[Outcome]]) -> Outcome:
        # Every function that acts for a user refuses a missing one with AUTH_REQUIRED, so a known user costs no call of its own.
        try:
            outcome = await act()
            if outcome.code == AUTH_REQUIRED and caller.name_if_new is not None:
                await self._batches.ensure_user.submit(caller.id, UserRequest(caller.id, caller.name_if_new()))
                outcome = await act()
        except Unavailable:
            raise
        except Refusal as refusal:
            return _refused(refusal)
        return outcome

    async def _outcome(self, statement: str, *arguments: Any) -> Outcome:
        # The statement returns a row of api.outcome.
        try:
            [row] = await self._database.fetch_single(statement, *arguments)
            return Outcome(*row)
        except Unavailable:
            raise
        except Refusal as refusal:
            return _refused(refusal)

    async def _single(self, statement: str, *arguments: Any) -> Outcome:
        try:
            return Outcome(DONE, None, None, False, await self._database.value(statement, *arguments))
        except Unavailable:
            raise
        except Refusal as refusal:
            return _refused(refusal)


def _refused(refusal: Refusal) -> Outcome:
    return Outcome(refusal.status, refusal.code, refusal.message, False, None)
