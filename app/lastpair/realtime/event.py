"""An event: what a commit did to a drop, as it travels from the database to every client."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from lastpair.realtime.track import Track

SNAPSHOT = "SNAPSHOT"
RESYNC_REQUIRED = "RESYNC_REQUIRED"
POSITION = "POSITION"
REPLACEABLE = frozenset({"STOCK_UPDATED", "ACTIVITY_UPDATED"})
"""The types whose newer event makes those unnecessary that are older and have the same `subject`."""

EVENTS = {
    SNAPSHOT: (
        "{ drops, incomplete, completes }",
        "The first message: the drops that are scheduled or live, or the drops asked for, no drafts. Every later event follows. "
        "Without a router `drops` is all. `incomplete` names nodes that are away; a SNAPSHOT with `completes` adds their drops.",
    ),
    "DROP_CREATED": (
        "{ drop }",
        "A drop was made, or a draft was published. A client that has the drop already takes it as it is now.",
    ),
    "DROP_UPDATED": (
        "{ drop }",
        "The name, price, times, status, `total_stock`, terms or variants of a drop changed, or it was paused or resumed.",
    ),
    "DROP_REMOVED": ("{ dropId }", "A drop went back to draft, or was deleted by hand: it is not to be seen any more."),
    "STOCK_UPDATED": (
        "{ dropId, availableStock, variants: [{ id, availableStock }] }",
        "Units were reserved, given back, expired, refunded, added or removed; one event for each drop and transaction. "
        "The stock may be as before, if a hold was extended, or was bought or paid at its end. "
        "`variants` has those whose stock changed; it is missing if the drop has none.",
    ),
    "RESERVATION_EXPIRED": ("{ dropId, reservationId }", "The time of a hold ran out, and its units went back."),
    "PURCHASE_COMPLETED": ("{ dropId, username, qty, purchasedAt }", "A purchase was paid."),
    "ACTIVITY_UPDATED": (
        "{ dropId, latestPurchasers: [{ userId, username, qty, createdAt }] }",
        "The three latest purchasers of a drop, or the name of one of them, changed, or units were refunded; one event for each"
        " drop and transaction.",
    ),
    "PAYMENT_UPDATED": (
        "{ dropId, payment: { id, amount, currency, status, refunded_amount, expires_at, client_secret, url } }",
        "A payment began, or its status changed. Only the streams of its buyer get it. `client_secret` and `url` are null if the "
        "provider gave none, and after the payment has ended.",
    ),
    RESYNC_REQUIRED: ("{ reason }", "Events were missed that are not in the log any more. A SNAPSHOT follows."),
    POSITION: (
        "{ }",
        "The first message of a stream without a SNAPSHOT. The client has everything up to this `id`, and can come back with it.",
    ),
}
"""Every type that a client may get: the fields of its data, and when it comes."""

DATA_KEY = ',"data":'
LINE_BREAKS = {"\n": " ", "\r": " ", "\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"}
"""What could end a line, and what replaces it. In JSON the first two stand only between tokens, the others only in strings."""


class Event:
    """An event, and its encoding for each transport, which is made once and only if a client needs it.

    It is made from the JSON text `{"type": …, "id": "…", "drop_id": …, "data": …}`, whose last key is `data`: a row of
    api.snapshot; or of api.events_after or api.relayed_events_after, which may have the key `user_id`; or a line of a
    notification.
    """

    __slots__ = (
        "_encoded", "committed_at", "data", "drop_id", "id", "position", "size_bytes", "subject", "track", "type", "user_id",
    )  # fmt: skip

    def __init__(self, text: str, committed_at: float | None = None) -> None:
        """`committed_at` is in seconds since 1970, by the clock of the database; only a notification has it."""
        head, _, data = text.partition(DATA_KEY)
        self.data = in_one_line(data.removesuffix("}"))
        """JSON text, in one line."""
        self.size_bytes = len(self.data.encode())
        fields = orjson.loads(head + "}")
        self.type: str = fields["type"]
        self.id = int(fields["id"])
        """The number that its node gave it."""
        self.position: str = fields["id"]
        """What clients get as its id: where a client is that has the event. Several nodes have a part in it, each its own id."""
        self.track: Track | None = None
        """The node that it is of; None if it is in no log."""
        self.committed_at = committed_at
        self.drop_id: str | None = fields["drop_id"]
        """The drop that it is of; None for a SNAPSHOT or RESYNC_REQUIRED, which is for one client."""
        self.user_id: str | None = fields.get("user_id")
        """The only user who may get the event. None: the event is public."""
        self.subject = (self.type, self.drop_id, _variants_in(self.data)) if self.type in REPLACEABLE else None
        """What the event says something new about: the stock of a drop and of certain variants, or a drop's latest purchasers."""
        self._encoded: dict[Callable[[Event], bytes], bytes] = {}

    @property
    def identity(self) -> tuple[int, str, str | None, str | None, str]:
        """What makes it the event that it is, however it was heard of."""
        return self.id, self.type, self.drop_id, self.user_id, self.data

    def at(self, position: str) -> "Event":
        """The same event for a client that is elsewhere."""
        found = object.__new__(Event)
        for name in self.__slots__:
            setattr(found, name, getattr(self, name))
        found.position, found._encoded = position, {}
        return found

    def encoded(self, encode: Callable[["Event"], bytes]) -> bytes:
        """The event as the transport of `encode` writes it, made once for all clients of that transport."""
        found = self._encoded.get(encode)
        if found is None:
            found = self._encoded[encode] = encode(self)
        return found


def in_one_line(data: str) -> str:
    """The JSON text without a character that any reader takes for the end of a line.

    An SSE field is one line. Many readers split lines as Python's str.splitlines does, which also splits at U+0085, U+2028 and
    U+2029, and the last two end a line in old JavaScript.
    """
    for character, replacement in LINE_BREAKS.items():
        if character in data:
            data = data.replace(character, replacement)
    return data


def _variants_in(data: str) -> frozenset[str]:
    if '"variants":' not in data:
        return frozenset()
    try:
        return frozenset(variant["id"] for variant in orjson.loads(data).get("variants", ()))
    except (ValueError, TypeError, KeyError, AttributeError):  # the owner may publish anything by hand
        return frozenset()


def make_event(event_type: str, position: int | str, data: object, drop_id: str | None = None) -> Event:
    """Make an event that the log does not have. Its id is `position`, because the client goes on from there."""
    text = str(position)
    event_id = text if text.isdecimal() else "0"
    event = Event(orjson.dumps({"type": event_type, "id": event_id, "drop_id": drop_id, "data": data}).decode())
    event.position = text
    return event
