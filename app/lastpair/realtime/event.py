"""An event: what a commit did to a drop, as it travels from the database to every client."""

from collections.abc import Callable

import orjson

SNAPSHOT = "SNAPSHOT"
RESYNC_REQUIRED = "RESYNC_REQUIRED"
REPLACEABLE = frozenset({"STOCK_UPDATED", "ACTIVITY_UPDATED"})
"""The types whose newer event of a drop makes the older ones unnecessary."""

EVENTS = {
    SNAPSHOT: (
        "{ drops }",
        "The first message: the drops that are draft, scheduled or live, or the drops asked for. Every later event follows.",
    ),
    "DROP_CREATED": ("{ drop }", "A drop was made."),
    "DROP_UPDATED": ("{ drop }", "The name, price, times, status or `total_stock` of a drop changed."),
    "STOCK_UPDATED": (
        "{ dropId, availableStock }",
        "Units were reserved, given back, expired, refunded, added or removed; one event for each drop and transaction.",
    ),
    "RESERVATION_EXPIRED": ("{ dropId, reservationId }", "The time of a hold ran out, and its unit went back."),
    "PURCHASE_COMPLETED": ("{ dropId, username, purchasedAt }", "A purchase was paid."),
    "ACTIVITY_UPDATED": (
        "{ dropId, latestPurchasers: [{ userId, username, qty, createdAt }] }",
        "The three latest purchasers of a drop changed; one event for each drop and transaction.",
    ),
    RESYNC_REQUIRED: ("{ reason }", "Events were missed that are not in the log any more. A SNAPSHOT follows."),
}
"""Every type that a client may get: the fields of its data, and when it comes."""

DATA_KEY = ',"data":'


class Event:
    """An event, and its encoding for each transport, which is made once and only if a client needs it.

    It is made from the JSON text `{"type": …, "id": "…", "drop_id": …, "data": …}`, whose last key is `data`: a row of
    api.events_after or api.snapshot, or a notification that is an event, which has the key `committedAt` besides.
    """

    __slots__ = ("_encoded", "committed_at", "data", "drop_id", "id", "size_bytes", "type")

    def __init__(self, text: str) -> None:
        head, _, data = text.partition(DATA_KEY)
        # In JSON a line break is only ever between values. In SSE it would begin another field.
        self.data = data.removesuffix("}").replace("\n", " ").replace("\r", " ")
        """JSON text, on one line."""
        self.size_bytes = len(self.data.encode())
        fields = orjson.loads(head + "}")
        self.type: str = fields["type"]
        self.id = int(fields["id"])
        self.committed_at: float | None = fields.get("committedAt")  # seconds since 1970; only a notification has it
        self.drop_id: str | None = fields["drop_id"] if "drop_id" in fields else _drop_id_in(self.data)
        """The room that the event is for; None for a SNAPSHOT or RESYNC_REQUIRED, which is for one client."""
        self._encoded: dict[Callable[[Event], bytes], bytes] = {}

    @property
    def identity(self) -> tuple[int, str, str | None, str]:
        """What makes it the event that it is, however it was heard of."""
        return self.id, self.type, self.drop_id, self.data

    def encoded(self, encode: Callable[["Event"], bytes]) -> bytes:
        """The event as the transport of `encode` writes it, made once for all clients of that transport."""
        found = self._encoded.get(encode)
        if found is None:
            found = self._encoded[encode] = encode(self)
        return found


def _drop_id_in(data: str) -> str | None:
    # The functions of 0.1, which an old process may put back during a deployment, name the drop only in the data. Remove this in
    # 0.3.
    content = orjson.loads(data)
    drop_id: str | None = content.get("dropId") or content.get("drop", {}).get("id")
    return drop_id


def make_event(event_type: str, event_id: int, data: object, drop_id: str | None = None) -> Event:
    """An event that is not in the log."""
    return Event(orjson.dumps({"type": event_type, "id": str(event_id), "drop_id": drop_id, "data": data}).decode())


def renumbered(event: Event, event_id: int) -> Event:
    """The event under another id."""
    return make_event(event.type, event_id, orjson.Fragment(event.data))
