"""Events as clients get them, and the log they are read from."""

import asyncio
from collections.abc import Sequence
from functools import cached_property

import orjson
from websockets.frames import Frame, Opcode

from app.database import Database

SNAPSHOT = "SNAPSHOT"
RESYNC_REQUIRED = "RESYNC_REQUIRED"
REPLACEABLE = frozenset({"STOCK_UPDATED", "ACTIVITY_UPDATED"})
"""Types of which a drop's newer event says all that an older one did."""

EVENTS_AFTER = "select to_json(e)::text from api.events_after($1, $2, $3) e"
TAKE_SNAPSHOT = "select to_json(e)::text from api.snapshot($1) e"


class Event:
    """An event, and how it looks on either transport, worked out once and only if a client is there to see it.

    Made from `{"type": …, "id": "…", "drop_id": …, "data": …}`, which is how the database writes a row of `api.events_after`; a
    notification begins with `committedAt`. Clients get type, id and data.
    """

    def __init__(self, text: str) -> None:
        head, _, data = text.partition(',"data":')
        self.data = data.removesuffix("}")
        fields, content = orjson.loads(head + "}"), orjson.loads(self.data)
        self.type: str = fields["type"]
        self.id = int(fields["id"])
        # Seconds since 1970; only of what was heard, and whoever may NOTIFY may have invented it.
        self.committed_at = float(fields["committedAt"]) if "committedAt" in fields else None
        # The functions of 0.1, which an old process may put back during a deployment, name the drop only in the data. Until 0.3.
        drop_id = fields.get("drop_id") or content.get("dropId") or content.get("drop", {}).get("id")
        self.drop_id: str | None = None if drop_id is None else str(drop_id)

    @cached_property
    def sse(self) -> bytes:
        """A Server-Sent Event."""
        return f"event: {self.type}\nid: {self.id}\ndata: {self.data}\n\n".encode()

    @cached_property
    def websocket(self) -> bytes:
        """A WebSocket frame."""
        return Frame(Opcode.TEXT, self.text.encode()).serialize(mask=False)

    @property
    def text(self) -> str:
        """A WebSocket message."""
        return f'{{"type":"{self.type}","id":"{self.id}","data":{self.data}}}'


def make_event(event_type: str, event_id: int, data: object) -> Event:
    """An event that is not in the log."""
    return Event(orjson.dumps({"type": event_type, "id": str(event_id), "data": data}).decode())


def renumbered(event: Event, event_id: int) -> Event:
    """The event under another id."""
    return make_event(event.type, event_id, orjson.Fragment(event.data))


class EventLog:
    """What the database knows of events. Its methods raise Refusal when it cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._whole_snapshot: asyncio.Task[Event] | None = None

    async def after(self, position: int, limit: int, drop_ids: Sequence[str] | None) -> list[Event]:
        """The first `limit` events after this id, of these drops or all; RESYNC_REQUIRED alone when the log begins later."""
        return [Event(text) for (text,) in await self._database.fetch_single(EVENTS_AFTER, position, limit, drop_ids)]

    async def snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        """A SNAPSHOT of these drops, or of all that are not over, which everybody who asks meanwhile shares."""
        if drop_ids is not None:
            return await self._take_snapshot(drop_ids)
        if self._whole_snapshot is None or self._whole_snapshot.done():
            self._whole_snapshot = asyncio.create_task(self._take_snapshot(None))
            self._whole_snapshot.add_done_callback(_look_at)
        return await asyncio.shield(self._whole_snapshot)

    async def _take_snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        [(text,)] = await self._database.fetch_single(TAKE_SNAPSHOT, drop_ids)
        return Event(text)


def _look_at(task: asyncio.Task[Event]) -> None:
    # An exception that nobody waits for any more is nothing to log.
    if not task.cancelled():
        task.exception()
