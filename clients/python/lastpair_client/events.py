"""The events of a stream and the state of drops, without any input or output, so that both clients share them."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import httpx

from lastpair_client.requests import Id, backoff, decoded, refusal
from lastpair_client.rows import ListedDrop

SILENCE_SECONDS = 40.0
"""A connection that sends nothing for this long is lost. A running server sends at least a heartbeat every 15 s."""

STREAM_RETRY_SECONDS, MAX_RETRY_SECONDS, MAX_RETRY_AFTER_SECONDS = 1.0, 30.0, 300.0
REREAD_SECONDS, MAX_REREAD = 1.0, 50


@dataclass(frozen=True)
class Event:
    """An event as it came. `id` is the position to come back with, an opaque string."""

    type: str
    data: dict[str, Any]
    id: str

    @property
    def drop_id(self) -> str | None:
        """The drop that it tells of; None for a SNAPSHOT and for RESYNC_REQUIRED."""
        found: str | None = self.data.get("dropId") or self.data.get("drop", {}).get("id")
        return found


class Position:
    """What a stream has told so far, over all its connections."""

    def __init__(
        self, drop_ids: Iterable[Id], last_event_id: str | None, retry_seconds: float, *, gets_new_tokens: bool = False
    ) -> None:
        """`gets_new_tokens`: each connection has a new token, so one that is refused does not end the stream."""
        self._final_statuses = {400} if gets_new_tokens else {400, 401}
        self._drop_ids = [str(drop_id) for drop_id in drop_ids]
        self._last_event_id = last_event_id
        self._retry_seconds = retry_seconds
        self._failures = 0
        self._wait_seconds = 0.0
        self._rest = b""

    def connect(self) -> list[tuple[str, str | int | float | bool | None]]:
        """The query of the next connection."""
        self._rest = b""
        position = [] if self._last_event_id is None else [("lastEventId", self._last_event_id)]
        return [*(("dropId", drop_id) for drop_id in self._drop_ids), *position]

    def check(self, response: httpx.Response) -> None:
        """Raise LastpairError if the request itself is wrong, so that another try would be in vain.

        After any other refusal, the next pause is as long as it asks for.
        """
        error = refusal(response)
        if error.status in self._final_statuses:
            raise error
        self._wait_seconds = min(error.retry_after_seconds or 0, MAX_RETRY_AFTER_SECONDS)

    def feed(self, received: bytes) -> Iterator[Event]:
        """The events that are complete with these bytes. An event counts as told as soon as the caller has it."""
        self._failures = 0
        *blocks, self._rest = (self._rest + received).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
            if "data" in fields:
                self._last_event_id = fields["id"]
                if fields["event"] != "POSITION":
                    yield Event(fields["event"], decoded(fields["data"]), fields["id"])

    def pause(self) -> float:
        """How many seconds to wait before the next connection."""
        seconds = max(backoff(self._retry_seconds, self._failures, MAX_RETRY_SECONDS), self._wait_seconds)
        self._failures += 1
        self._wait_seconds = 0
        return seconds


def is_stream(response: httpx.Response) -> bool:
    """Whether this is the stream that was asked for, and not a refusal or a proxy's page."""
    return response.is_success and response.headers.get("content-type", "").startswith("text/event-stream")


class Change(NamedTuple):
    """An event, and its drop after it."""

    drop: ListedDrop | None
    """As it was before DROP_REMOVED. None for a SNAPSHOT, for RESYNC_REQUIRED, and for a drop that is not followed."""

    event: Event


class State:
    """The drops as the events so far say. A drop that changes is replaced by a new dict."""

    def __init__(self) -> None:
        self.drops: dict[str, ListedDrop] = {}
        """The drops by id, as they are now."""

        self._bought: set[str] = set()  # drops of which the last event was PURCHASE_COMPLETED
        self._unsure: set[str] = set()  # drops whose held_stock must be read again
        self._reread_at = 0.0
        self._failures = 0  # of rereads, in a row

    def apply(self, event: Event) -> Change:
        """Change the drops as the event says."""
        before = self.drops.get(event.drop_id or "")
        if event.type == "SNAPSHOT":
            rows = {row["id"]: row for row in event.data["drops"]}
            if "completes" in event.data:  # these are missing from the one before
                self.drops |= rows
                self._unsure -= rows.keys()
            else:
                self.drops = rows
                self._bought.clear()
                self._unsure.clear()
        elif event.type == "DROP_CREATED" or (event.type == "DROP_UPDATED" and before is not None):
            self._put(before, event.data["drop"])
        elif event.type == "DROP_REMOVED":
            self.drops.pop(event.data["dropId"], None)
            self._unsure.discard(event.data["dropId"])
        elif before is not None:
            self._change(before, event)
        if event.type == "PURCHASE_COMPLETED":
            self._bought.add(event.data["dropId"])
        else:
            self._bought.discard(event.drop_id or "")
        return Change(self.drops.get(event.drop_id or "", before), event)

    def _change(self, drop: ListedDrop, event: Event) -> None:
        data, feed = event.data, drop["activity_feed"]
        if event.type == "STOCK_UPDATED":
            left = {variant["id"]: variant["availableStock"] for variant in data.get("variants", [])}
            variants = [
                {**variant, "available_stock": left.get(variant["id"], variant["available_stock"])}
                for variant in drop["variants"]
            ]
            self._put(drop, {"available_stock": data["availableStock"], "variants": variants})
        elif event.type == "PURCHASE_COMPLETED":
            self._put(drop, {}, held_stock=feed["held_stock"] - data["qty"])
        elif event.type == "ACTIVITY_UPDATED":
            # A refund is announced like a change of a purchaser's name, and without its units. So the units held are read again.
            # Right after a PURCHASE_COMPLETED this event tells of that purchase alone.
            if drop["id"] not in self._bought:
                self._unsure.add(drop["id"])
            self._put(drop, {}, latest_purchasers=data["latestPurchasers"])

    def _put(self, drop: ListedDrop | None, fields: dict[str, Any], **activity: object) -> None:
        # The units held are those that are neither left nor sold.
        row: dict[str, Any] = {"activity_feed": {"latest_purchasers": [], "held_stock": 0}, **(drop or {}), **fields}
        if drop is not None:
            held_stock = drop["activity_feed"]["held_stock"]
            sold_stock = drop["total_stock"] - drop["available_stock"] - held_stock
            held_stock = row["total_stock"] - row["available_stock"] - sold_stock
            row["activity_feed"] = {**drop["activity_feed"], "held_stock": held_stock, **activity}
        self.drops[row["id"]] = cast(ListedDrop, row)

    def seconds_to_reread(self) -> float | None:
        """How many seconds from now drops are to be read again. None if the units held of all drops are known."""
        return max(self._reread_at - time.monotonic(), 0) if self._unsure else None

    def to_reread(self) -> list[str]:
        """The drops to read again now. The next time is a second later."""
        self._reread_at = time.monotonic() + REREAD_SECONDS
        return list(self._unsure)[:MAX_REREAD]

    def correct(self, rows: list[ListedDrop] | None) -> None:
        """Take the units held from a row that was read again, unless the row is of another moment than the drop.

        None says that nothing could be read. Then the next time is later.
        """
        if rows is None:
            self._failures += 1
            self._reread_at = time.monotonic() + backoff(REREAD_SECONDS, self._failures, MAX_RETRY_SECONDS)
            return
        self._failures = 0

        def moment(drop: ListedDrop) -> tuple[object, ...]:
            return drop["total_stock"], drop["available_stock"], drop["activity_feed"]["latest_purchasers"]

        for row in rows:
            drop = self.drops.get(row["id"])
            if drop is not None and moment(drop) == moment(row):
                self._unsure.discard(row["id"])
                self.drops[row["id"]] = {**drop, "activity_feed": row["activity_feed"]}
