"""Reads events and snapshots from the database."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import lru_cache
from json import JSONDecoder
from typing import Any

import orjson

from lastpair.database.pool import Database
from lastpair.errors import overloaded
from lastpair.realtime.event import SNAPSHOT, Event, make_event

EVENTS_AFTER = "select to_json(e)::text from api.events_after($1, $2, $3) e"
EVENTS_OF_USER_AFTER = "select to_json(e)::text from api.events_after($1, $2, $3, $4) e"
REDEEM_TICKET = "select api.redeem_stream_ticket($1)"
TAKE_SNAPSHOT = "select to_json(e)::text from api.snapshot($1) e"
TAKE_DROPS = """
select s.id, d.value ->> 'id', d.value::text
from api.snapshot($1) s left join lateral json_array_elements(s.data -> 'drops') d on true
"""
"""A snapshot in parts: for each drop the snapshot's id, the drop's id, and the drop as JSON text. If no drop exists, there is one
row, in which these two are null."""

SHARED_SETS, SHARED_DROPS = 8, 200
"""The most sets of drops, and the most drops (one set may have more), that share a query. They bound how long others wait."""

MAX_WAITING_SETS = 1000
"""Sets of drops that may wait for their snapshot. One that finds this many is refused, because it would wait for seconds."""

NODE_SESSIONS = 4
"""Sessions of a node's pool that read its log, so that sales always find a free one."""

DropSet = frozenset[str]


class EventLog:
    """The event log of a node and its snapshots. The methods raise Unavailable when the database cannot serve."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._whole_snapshot: asyncio.Task[Event] | None = None
        self._drop_snapshots: dict[DropSet, asyncio.Future[Event]] = {}  # in the order in which they were asked for
        self._taking_drops: asyncio.Task[None] | None = None

    async def after(self, event_id: int, limit: int, drop_ids: Sequence[str] | None, user_id: str | None = None) -> list[Event]:
        """The first `limit` events after this id: the public ones of these drops or of all, and those of the user, if any.

        If the log does not reach back to this id, or never had it, the list is one RESYNC_REQUIRED.
        """
        if user_id is None:
            rows = await self._fetch(EVENTS_AFTER, event_id, limit, drop_ids)
        else:
            rows = await self._fetch(EVENTS_OF_USER_AFTER, event_id, limit, drop_ids, user_id)
        return [Event(text) for (text,) in rows]

    async def user_of(self, ticket: str) -> str:
        """The user of a stream ticket. Raises TICKET_INVALID."""
        [(user_id,)] = await self._fetch(REDEEM_TICKET, ticket)
        return str(user_id)

    async def snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        """A SNAPSHOT of these drops; if `drop_ids` is None, of all drops that are scheduled or live.

        At most two queries run at once: one for all drops, and one for chosen drops. Clients that ask while such a query runs
        share it, or the next one. Otherwise many clients that open streams at the same time would take all sessions of the pool
        and all time of the server. Raises OVERLOADED.
        """
        if drop_ids is None:
            if self._whole_snapshot is None or self._whole_snapshot.done():
                self._whole_snapshot = asyncio.create_task(self._take_whole())
                self._whole_snapshot.add_done_callback(_retrieve_exception)
            return await asyncio.shield(self._whole_snapshot)
        drops = frozenset(drop_ids)
        snapshot = self._drop_snapshots.get(drops)
        if snapshot is None:
            if len(self._drop_snapshots) >= MAX_WAITING_SETS:
                raise overloaded()
            snapshot = self._drop_snapshots[drops] = asyncio.get_running_loop().create_future()
            snapshot.add_done_callback(_retrieve_exception)
            if self._taking_drops is None or self._taking_drops.done():
                self._taking_drops = asyncio.create_task(self._take_drops())
        return await asyncio.shield(snapshot)

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        return await self._database.fetch_single(statement, *arguments)

    async def _take_whole(self) -> Event:
        [(text,)] = await self._fetch(TAKE_SNAPSHOT, None)
        return Event(text)

    async def _take_drops(self) -> None:
        # Take the snapshots that wait, a few at a time, until none waits. An error ends the wait of all of them, because it comes
        # from the database and not from one set.
        waiting = self._drop_snapshots
        try:
            while waiting:
                shared = self._next_sets()
                rows = await self._fetch(TAKE_DROPS, list(frozenset().union(*shared)))
                for drops in shared:
                    waiting[drops].set_result(_snapshot_of(drops, rows))
                    del waiting[drops]
        except Exception as error:
            for snapshot in waiting.values():
                snapshot.set_exception(error)
            waiting.clear()

    def _next_sets(self) -> list[DropSet]:
        shared: list[DropSet] = []
        union: set[str] = set()
        for drops in self._drop_snapshots:
            union |= drops
            if len(shared) == SHARED_SETS or (shared and len(union) > SHARED_DROPS):
                break
            shared.append(drops)
        return shared


class NodeLog(EventLog):
    """The same behind a router, where only `Database.fetch` calls the functions of the node itself."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._sessions = asyncio.Semaphore(NODE_SESSIONS)
        self._calls = 0

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        if self._calls >= MAX_WAITING_SETS:
            raise overloaded()
        self._calls += 1
        try:
            async with self._sessions:
                return await self._database.fetch(statement, *arguments)
        finally:
            self._calls -= 1


@lru_cache(maxsize=8)
def merged(snapshots: tuple[Event, ...], position: str, incomplete: tuple[str, ...], completes: tuple[str, ...]) -> Event:
    """The SNAPSHOT of several nodes, made once for all clients. Its drops are in the order in which one node has them.

    The names are those of nodes whose drops are not in it, and of those whose drops were missing before.
    """
    drops = sorted((drop for snapshot in snapshots for drop in _drops_in(snapshot)), reverse=True)
    data = {"drops": [orjson.Fragment(text) for *_, text in drops]}
    names = {"incomplete": incomplete, "completes": completes}
    return make_event(SNAPSHOT, position, data | {name: value for name, value in names.items() if value})


def _drops_in(snapshot: Event) -> Iterator[tuple[bool, str, str, str]]:
    # Of each drop whether it has a start, its start, its id and its JSON text, in which amounts are exact. All times are in UTC
    # and written alike, so the texts of later ones are greater.
    text, decode = snapshot.data, JSONDecoder().raw_decode
    at = text.index("[") + 1
    while text[at] != "]":
        if text[at] in ", ":
            at += 1
            continue
        drop, end = decode(text, at)
        yield drop["starts_at"] is not None, drop["starts_at"] or "", drop["id"], text[at:end]
        at = end


def _snapshot_of(drops: DropSet, rows: Sequence[Any]) -> Event:
    # The SNAPSHOT of these drops out of the rows of TAKE_DROPS, whose order stays.
    texts = [text for _, drop_id, text in rows if drop_id in drops]
    return make_event(SNAPSHOT, int(rows[0][0]), {"drops": [orjson.Fragment(text) for text in texts]})


def _retrieve_exception(done: asyncio.Future[Event]) -> None:
    # asyncio logs an exception that nothing retrieved. All clients that waited for this snapshot may have left.
    if not done.cancelled():
        done.exception()
