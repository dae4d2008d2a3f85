"""Rounds: when the clients are given the events that have come.

A round goes once over all clients of the rooms that have new events. What comes within a tick is given together, because a client
costs a system call, however many events it gets with it. So the first event after a pause begins a round at once, and the next
round begins a tick later at the earliest.

With thousands of clients a round takes longer than a tick. It then runs in short turns, and other work of the event loop is done
between them. After it comes a pause that grows with what the round took, and with how much other work there was: a crowd that
watches gets its events in fewer and larger writes while buyers need the process.
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from itertools import chain, repeat
from time import perf_counter, thread_time
from typing import Generic, TypeVar

TURN_SECONDS = 0.001
"""How long a round may hold the event loop at once. The last client of a turn may exceed it."""

IDLE_FACTOR, BUSY_FACTOR = 3, 14
"""From the begin of a round to the next one are at least so many times the CPU seconds that its turns took: the first number if
the event loop had nothing else to do meanwhile, the second if it had nearly nothing but other work, and in between in proportion.

CPU time counts, because a machine that is busy with other programs would make the turns look long, and events come late.
"""

RELAXED_FACTOR, IDLE_PAUSE_SECONDS = 4, 0.06
"""Instead of the first number above this one counts while the pause is not longer than these seconds. Events that come faster
than that then share writes. The bound is there because 2,000 clients should get an event within 0.1 s.
"""

MAX_PAUSE_SECONDS = 0.25
"""But not longer than this, unless the first number asks for it, because events would come late."""

Room = TypeVar("Room", bound=Hashable)
Client = TypeVar("Client")


class Rounds(Generic[Room, Client]):
    """The rounds over the clients of these rooms, which may change at any time."""

    def __init__(
        self, rooms: Mapping[Room, Collection[Client]], serve: Callable[[Client, int | None], None], tick_seconds: float
    ) -> None:
        """`serve` gives a client its events, the first of which has this sequence number, or a heartbeat if it is None."""
        self._rooms = rooms
        self._serve = serve
        self._tick_seconds = tick_seconds
        self._due: dict[Room, int] = {}  # the first event of each room since the last round began
        self._resting: Collection[Client] = ()  # those that get a heartbeat in the next round
        self._line: Iterator[tuple[Client, int | None]] = iter(())  # those that the present round has not served yet
        self._line_from: int | None = None  # the first event of the present round
        self._is_scheduled = False  # a round runs, or is about to begin
        self._ended = asyncio.Event()
        self._next_at = self._began_at = 0.0
        self._cpu_before = self._own_seconds = 0.0  # the CPU time when the present round began, and what its turns took of it

    def announce(self, room: Room, sequence: int) -> None:
        """A room has a new event."""
        if room not in self._due:
            self._due[room] = sequence
            self._schedule()

    def beat(self, clients: Collection[Client]) -> None:
        """Give these clients a heartbeat."""
        self._resting = clients
        self._schedule()

    def oldest(self, default: int) -> int:
        """The first event that some client may not have been given yet."""
        return min((first for first in (self._line_from, *self._due.values()) if first is not None), default=default)

    async def end(self) -> None:
        """Wait until a round ends."""
        self._ended.clear()
        await self._ended.wait()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            loop = asyncio.get_running_loop()
            seconds = self._next_at - perf_counter()
            if seconds > 0:
                loop.call_later(seconds, self._begin)
            else:
                loop.call_soon(self._begin)

    def _begin(self) -> None:
        due, self._due = self._due, {}
        groups = [*((self._rooms.get(room, ()), first) for room, first in due.items()), (self._resting, None)]
        self._resting = ()
        # The clients are copied, because they come and go between the turns. zip makes one tuple for all of them.
        self._line = chain.from_iterable([zip(list(clients), repeat(first)) for clients, first in groups])
        self._line_from = min(due.values(), default=None)
        self._began_at, self._cpu_before = perf_counter(), thread_time()
        self._own_seconds = 0.0
        self._turn()

    def _turn(self) -> None:
        end, cpu_before = perf_counter() + TURN_SECONDS, thread_time()
        serve = self._serve
        is_last = False
        try:
            for client, first in self._line:
                serve(client, first)
                if perf_counter() >= end:
                    break
            else:
                is_last = True
        finally:
            self._own_seconds += thread_time() - cpu_before
            asyncio.get_running_loop().call_soon(self._end if is_last else self._turn)

    def _end(self) -> None:
        all_seconds = thread_time() - self._cpu_before
        load = 1 - self._own_seconds / all_seconds if all_seconds else 0.0
        own_seconds = self._own_seconds
        least = max(IDLE_FACTOR * own_seconds, min(RELAXED_FACTOR * own_seconds, IDLE_PAUSE_SECONDS))
        most = max(least, MAX_PAUSE_SECONDS)
        pause_seconds = min(most, least + (BUSY_FACTOR * own_seconds - least) * load)
        self._next_at = self._began_at + max(self._tick_seconds, pause_seconds)
        self._line_from = None
        self._is_scheduled = False
        self._ended.set()
        if self._due or self._resting:
            self._schedule()
