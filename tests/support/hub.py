"""Hubs with small bounds, and the events that tests publish to them."""

from typing import cast
from uuid import UUID

from lastpair.realtime.event import Event, make_event
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.hub import TICK_SECONDS, Hub, Room, Subscriber
from lastpair.realtime.rounds import Rounds
from lastpair.realtime.track import Track

MEMORY, QUEUE, BATCH = 64, 16, 8
"""The bounds that the fixture `small_bounds` sets, so that tests reach them often."""

DROPS = [str(UUID(int=n)) for n in range(4)]
TYPES = ["DROP_UPDATED", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"]


def event_of(event_type: str, event_id: int, drop_id: str = DROPS[0], variants: str = "") -> Event:
    """An event of a drop, and of these variants of one letter; besides them its data is empty."""
    data = {"variants": [{"id": variant} for variant in variants]} if variants else {}
    return make_event(event_type, event_id, data, drop_id)


NO_LOG = cast("EventLog", None)
"""The log of a track whose clients read nothing."""


def started_hub(event_id: int = 0, log: EventLog = NO_LOG, tick_seconds: float = TICK_SECONDS) -> Hub:
    """A hub of a single database, whose relay has read the log up to this event."""
    hub = Hub(tick_seconds)
    hub.add(None, log).restart(event_id)
    return hub


def the_track(hub: Hub) -> Track:
    """That of a single database, or of the first node."""
    return hub.tracks[0]


class AtOnce(Rounds[Room, Subscriber]):
    """Rounds without an event loop: each client is served while an event is published."""

    def announce(self, room: Room, sequence: int) -> None:
        """Serve the clients of the room."""
        for client in self._rooms[room]:
            self._serve(client, sequence)


def hub_without_rounds(event_id: int = 0) -> Hub:
    """The same for a test of subscribers alone, which needs no event loop."""
    hub = started_hub(event_id)
    hub._rounds = AtOnce(hub._rooms, Subscriber.serve, 0)
    return hub
