"""Which requests share a call: reserve, purchase, cancel, the list of drops, and the making of users on their first use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import orjson
from asyncpg import Record

from app.batcher import Batcher
from app.database import Database
from app.metrics import BATCH_CALL_SECONDS, BATCH_SIZE, BATCH_WAIT_SECONDS
from app.settings import Settings

# Requests go as JSON, because it names their fields: a database whose request type has one more attribute still takes them, so
# a deployment may add one while this process runs. It also takes this process a third of the time that arrays or composites take.
RESERVE = (
    "select * from api.reserve_batch("
    "array(select r from json_populate_recordset(null::api.reserve_request, $1::text::json) r), $2)"
)
PURCHASE = (
    "select * from api.purchase_batch(array(select r from json_populate_recordset(null::api.purchase_request, $1::text::json) r))"
)
CANCEL = (
    "select * from api.cancel_batch(array(select r from json_populate_recordset(null::api.cancel_request, $1::text::json) r))"
)
ENSURE_USERS = (
    "select * from api.ensure_user_batch(array(select r from json_populate_recordset(null::api.user_request, $1::text::json) r))"
)
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
    provision: Batcher[str, Newcomer, Record]
    list_drops: Batcher[None, None, Any]


def batchers(database: Database, settings: Settings) -> Batchers:
    """The batchers of a process."""

    def claims_of_drops(claims: Mapping[str, list[Claim]]) -> str:
        return orjson.dumps(
            [
                {"drop_id": drop_id, "user_id": user_id, "idempotency_key": key}
                for drop_id, of_drop in claims.items()
                for user_id, key, _ in of_drop
            ]
        ).decode()

    async def reserve(claims: Mapping[str, list[Claim]]) -> list[Record]:
        with measured("reserve", claims):
            return await database.fetch(RESERVE, claims_of_drops(claims), settings.reservation_ttl_seconds)

    async def purchase(claims: Mapping[str, list[Claim]]) -> list[Record]:
        with measured("purchase", claims):
            return await database.fetch(PURCHASE, claims_of_drops(claims))

    async def cancel(claims: Mapping[str, list[Claim]]) -> list[Record]:
        with measured("cancel", claims):
            requests = [
                {"reservation_id": reservation_id, "user_id": user_id}
                for reservation_id, of_reservation in claims.items()
                for user_id, _, _ in of_reservation
            ]
            return await database.fetch(CANCEL, orjson.dumps(requests).decode())

    async def provision(newcomers: Mapping[str, list[Newcomer]]) -> list[Record]:
        with measured("provision", newcomers):
            requests = [{"user_id": user_id, "username": name} for lane in newcomers.values() for user_id, name, _ in lane]
            # Those who have to be made one by one leave sessions to the others.
            fetch = database.fetch if len(newcomers) > 1 else database.fetch_single
            return await fetch(ENSURE_USERS, orjson.dumps(requests).decode())

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
