"""Which requests share a call: reserve, purchase, cancel, the list of drops, and the making of users on their first use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any

from asyncpg import Record

from app.batcher import Batcher
from app.database import Database
from app.metrics import BATCH_CALL_SECONDS, BATCH_SIZE, BATCH_WAIT_SECONDS
from app.settings import Settings

RESERVE = "select * from api.reserve_batch($1, $2, $3, $4)"
RESERVE_OF_MANY_DROPS = "select * from api.reserve_batches($1, $2, $3, $4)"
PURCHASE = "select * from api.purchase_batch($1, $2, $3)"
PURCHASE_OF_MANY_DROPS = "select * from api.purchase_batches($1, $2, $3)"
CANCEL = "select * from api.cancel_batch($1, $2)"
ENSURE_USERS = "select api.ensure_user_batch($1, $2)"
LIST_DROPS = "select to_json(array(select d from api.list_drops() d))"

Claim = tuple[str, str | None, float]
"""Who asks, by id; the Idempotency-Key; and since when, by perf_counter()."""

Newcomer = tuple[str, str | None, float]
"""Who is made, by id; what to call him, where that is known; and since when this waits, by perf_counter()."""


@dataclass(frozen=True)
class Batchers:
    """Where requests that can share a call wait for it.

    The lane is the drop; of a cancel, which names none, the reservation; of a user who is made, his id.
    """

    reserve: Batcher[str, Claim, Record]
    purchase: Batcher[str, Claim, Record]
    cancel: Batcher[str, Claim, Record]
    provision: Batcher[str, Newcomer, None]
    list_drops: Batcher[None, None, Any]


def batchers(database: Database, settings: Settings) -> Batchers:
    """The batchers of a process."""

    async def call(one_drop: str, many_drops: str, claims: Mapping[str, list[Claim]], *arguments: Any) -> list[Record]:
        user_ids, keys, _ = zip(*chain.from_iterable(claims.values()), strict=True)
        if len(claims) == 1:
            return await database.fetch(one_drop, *claims, user_ids, keys, *arguments)
        drop_ids = [drop_id for drop_id, of_drop in claims.items() for _ in of_drop]
        return await database.fetch(many_drops, drop_ids, user_ids, keys, *arguments)

    async def reserve(claims: Mapping[str, list[Claim]]) -> list[Record]:
        with measured("reserve", claims):
            return await call(RESERVE, RESERVE_OF_MANY_DROPS, claims, settings.reservation_ttl_seconds)

    async def purchase(claims: Mapping[str, list[Claim]]) -> list[Record]:
        with measured("purchase", claims):
            return await call(PURCHASE, PURCHASE_OF_MANY_DROPS, claims)

    async def cancel(claims: Mapping[str, list[Claim]]) -> list[Record]:
        with measured("cancel", claims):
            reservation_ids = [reservation_id for reservation_id, of_reservation in claims.items() for _ in of_reservation]
            user_ids, _, _ = zip(*chain.from_iterable(claims.values()), strict=True)
            return await database.fetch(CANCEL, reservation_ids, user_ids)

    async def provision(newcomers: Mapping[str, list[Newcomer]]) -> list[None]:
        with measured("provision", newcomers):
            user_ids, names, _ = zip(*chain.from_iterable(newcomers.values()), strict=True)
            # Those who have to be made one by one leave sessions to the others.
            await (database.fetch if len(newcomers) > 1 else database.fetch_single)(ENSURE_USERS, user_ids, names)
            return [None] * len(user_ids)

    async def list_drops(requests: Mapping[None, list[None]]) -> list[Any]:
        [(drops,)] = await database.fetch(LIST_DROPS)
        return [drops] * len(requests[None])

    size, pending = settings.batch_max_size, settings.max_pending
    return Batchers(
        reserve=Batcher(reserve, max_size=size, max_pending=pending),
        purchase=Batcher(purchase, max_size=size, max_pending=pending),
        cancel=Batcher(cancel, max_size=size, max_pending=pending),
        # Each is a subtransaction, of which PostgreSQL keeps 64 of a session at hand.
        provision=Batcher(provision, max_size=min(size, 64), max_pending=pending),
        list_drops=Batcher(list_drops, max_size=pending, max_pending=pending),
    )


@contextmanager
def measured(call: str, claims: Mapping[str, list[Claim]]) -> Iterator[None]:
    """Tell how large the call is, how long it takes and how long it was waited for."""
    begin = perf_counter()
    BATCH_SIZE.labels(call).observe(sum(map(len, claims.values())))
    BATCH_WAIT_SECONDS.labels(call).observe(begin - min(of_lane[0][2] for of_lane in claims.values()))
    with BATCH_CALL_SECONDS.labels(call).time():
        yield
