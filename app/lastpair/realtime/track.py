"""A track: the events of one node in the hub's memory.

The memory is one for all nodes. Its order is that in which this process heard of the events, so the events of each node are in
the order of their ids. A track knows where in the memory the events of its node are.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from lastpair.realtime.event import Event
from lastpair.realtime.event_log import EventLog

if TYPE_CHECKING:
    from lastpair.realtime.hub import Hub


class Track:
    """One for each node. Its relay calls restart() first."""

    def __init__(self, hub: "Hub", number: int | None, log: EventLog) -> None:
        """`number` is the node's, or None in a single database. `log` reads the node's log, for clients."""
        self.hub = hub
        self.number = number
        self.log = log
        self.head_id: int | None = None  # the latest event's; None until the relay has read the log for the first time
        self.forgotten_id = 0  # every event after this one, up to head_id, is in memory; see reaches()
        self.started = asyncio.Event()
        self.settled = asyncio.Event()
        """The relay has read the log, or has failed to."""

        self.hearing = asyncio.Event()
        """Set while the relay hears of commits."""

        self.sequences = deque[int]()  # of the events in memory
        self.restarted_at = 0
        """Since restart() only events with this sequence number or a later one are of this track."""

    @property
    def name(self) -> str:
        """What answers call the node."""
        return f"node {self.number or 0}"

    def restart(self, event_id: int, *, log_changed: bool = False) -> None:
        """Forget all events and go on after this one (0: the log is empty).

        The clients that hear this node go on from the log, or start again from a snapshot if the log lost events that were
        published.
        """
        self.hub.forget(self)
        self.restarted_at = self.hub.count
        self.head_id = self.forgotten_id = event_id
        self.hub.lose(self, log_changed=log_changed)
        self.started.set()
        self.settled.set()

    def publish(self, event: Event) -> None:
        """Keep an event, and give it to the clients that it is for in the next round. An event that is not newer than the latest
        was published before."""
        assert self.head_id is not None  # noqa: S101 - restart() comes first
        if event.id <= self.head_id:
            return
        if self.head_id == 0 and event.id > 1:
            self.forgotten_id = -1  # the log was emptied before this event; a client that comes with 0 may have missed others
        self.head_id = event.id
        event.track = self
        self.sequences.append(self.hub.count)
        self.hub.publish(event)

    def reaches(self, event_id: int) -> bool:
        """Whether this is the id of an event, and every event after it is in memory.

        An id between two events may be one that was lost, so it is looked up in the log.
        """
        if self.head_id is None or not self.forgotten_id <= event_id <= self.head_id:
            return False
        return event_id == self.forgotten_id or self._in_memory(event_id) is not None

    def has_id(self, event_id: int) -> bool:
        """Whether an event with this id is in memory."""
        return self._in_memory(event_id) is not None

    def has(self, event: Event) -> bool:
        """Whether this very event is in memory."""
        found = self._in_memory(event.id)
        return found is not None and found.identity == event.identity

    def agrees_with(self, latest: list[Event]) -> bool:
        """Whether the events in memory are those of the log, as far as its latest events, given oldest first, can tell."""
        oldest_id = latest[0].id if latest else 0
        if self.head_id is None or oldest_id > self.head_id:
            return True
        if self.head_id not in {event.id for event in latest} | {0}:
            return False
        published = [self.hub.event(sequence) for sequence in islice(self.sequences, self._index_after(oldest_id - 1), None)]
        logged = [event for event in latest if self.forgotten_id < event.id <= self.head_id]
        return [event.identity for event in published] == [event.identity for event in logged]

    def sequence_after(self, event_id: int) -> int:
        """The sequence number of the first event in memory after this id; if there is none, that of the next event."""
        n = self._index_after(event_id)
        return self.sequences[n] if n < len(self.sequences) else self.hub.count

    def _in_memory(self, event_id: int) -> Event | None:
        n = self._index_after(event_id - 1)
        found = self.hub.event(self.sequences[n]) if n < len(self.sequences) else None
        return found if found is not None and found.id == event_id else None

    def _index_after(self, event_id: int) -> int:
        return bisect_right(self.sequences, event_id, key=lambda sequence: self.hub.event(sequence).id)


Vector = dict[Track, int]
"""For each node the id of its latest event that a client has. A node of which the client has nothing is absent."""
