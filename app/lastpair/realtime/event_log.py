"""Reads events and snapshots from the database."""

import asyncio
from collections.abc import Sequence

from lastpair.database.pool import Database
from lastpair.realtime.event import Event

EVENTS_AFTER = "select to_json(e)::text from api.events_after($1, $2, $3) e"
TAKE_SNAPSHOT = "select to_json(e)::text from api.snapshot($1) e"


class EventLog:
    """The event log and the snapshots. The methods raise Unavailable when the database cannot serve."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._whole_snapshot: asyncio.Task[Event] | None = None

    async def after(self, event_id: int, limit: int, drop_ids: Sequence[str] | None) -> list[Event]:
        """The first `limit` events after this id, of these drops or of all.

        If the log does not reach back to this id, or never had it, the list is one RESYNC_REQUIRED.
        """
        return [Event(text) for (text,) in await self._database.fetch_single(EVENTS_AFTER, event_id, limit, drop_ids)]

    async def snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        """A SNAPSHOT of these drops; if `drop_ids` is None, of all drops that are draft, scheduled or live.

        Clients that ask for all drops at the same time share one query.
        """
        if drop_ids is not None:
            return await self._take_snapshot(drop_ids)
        if self._whole_snapshot is None or self._whole_snapshot.done():
            self._whole_snapshot = asyncio.create_task(self._take_snapshot(None))
            self._whole_snapshot.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._whole_snapshot)

    async def _take_snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        [(text,)] = await self._database.fetch_single(TAKE_SNAPSHOT, drop_ids)
        return Event(text)


def _retrieve_exception(task: asyncio.Task[Event]) -> None:
    # asyncio logs an exception that nothing retrieved. All clients that waited for this task may have left.
    if not task.cancelled():
        task.exception()
