"""Turns: what a client sent is parsed in small pieces, so that no client holds the event loop.

uvloop delivers up to 256 KiB at once. Parsing that much takes a second or more if it consists of tiny frames, chunks or headers.
A connection that got more than a piece therefore waits in line with the others, and reads nothing more until it is through.
Other work that clients can cause, and that takes long, waits in the same line: the JSON of a large body, and each piece of
/metrics.
"""

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

TURN_SECONDS = 0.001
"""How long the waiting connections together may hold the event loop in one iteration. The last piece may exceed it."""


Result = TypeVar("Result")


class InLine(Protocol):
    """A connection that has something to parse, or other work."""

    loop: asyncio.AbstractEventLoop

    def take_turn(self) -> None:
        """Do the next piece."""


class Turns:
    """What waits for its turn in one event loop, in line."""

    def __init__(self) -> None:
        self._line: deque[InLine] = deque()
        self._is_scheduled = False

    def add(self, waiting: InLine) -> None:
        """Give it a turn after all that are in line."""
        self._line.append(waiting)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._line[0].loop.call_soon(self._run)

    def _run(self) -> None:
        end = perf_counter() + TURN_SECONDS
        try:
            while self._line:
                self._line.popleft().take_turn()
                if perf_counter() >= end:
                    break
        finally:
            self._is_scheduled = False
            if self._line:
                self._schedule()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def _stand_in_line(waiting: InLine) -> None:
    _turns.setdefault(waiting.loop, Turns()).add(waiting)


async def in_turn(work: Callable[[], Result]) -> Result:
    """Call this function when it is its turn. Returns what it returns, and raises what it raises."""
    waiting = Work(work)
    _stand_in_line(waiting)
    return await waiting.result


class Work(Generic[Result]):
    """A function that waits for its turn, and its result."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Result] = self.loop.create_future()
        self._work = work

    def take_turn(self) -> None:
        """Call the function, unless its result is not waited for any more."""
        if not self.result.done():
            try:
                self.result.set_result(self._work())
            except Exception as error:
                self.result.set_exception(error)


class PacedReading(asyncio.Protocol):
    """A protocol that parses at most a piece at a time.

    There are two reasons not to read from the transport: bytes still wait for their turn, or uvicorn wants no more of them. So
    uvicorn must call pause_reading and resume_reading of the protocol instead of the transport's.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _piece_bytes: int
    _waiting: memoryview = memoryview(b"")  # what arrived and is not parsed yet
    _is_in_line = False

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, in turns if it is more than a piece."""
        if self._waiting or len(data) > self._piece_bytes:
            self.transport.pause_reading()
            self._waiting = memoryview(b"".join((self._waiting, data)) if self._waiting else data)
            self._stand_in_line()
        else:
            self._parse(data)

    def pause_reading(self) -> None:
        """Give the protocol no more bytes."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Give the protocol bytes again: first those that wait, then new ones."""
        if self._waiting:
            self._stand_in_line()
        else:
            self.transport.resume_reading()

    def take_turn(self) -> None:
        """Parse the next piece."""
        self._is_in_line = False
        if self._is_listening() and not self._is_paused():
            piece = bytes(self._waiting[: self._piece_bytes])
            self._waiting = self._waiting[self._piece_bytes :]
            try:
                self._parse(piece)
            except BaseException:
                self.transport.abort()  # as the transport itself does
                raise
        if not self._is_listening():
            self._waiting = memoryview(b"")
            if not self.transport.is_closing():  # another protocol has the transport now
                protocol = self.transport.get_protocol()
                if not isinstance(protocol, PacedReading):
                    self.transport.resume_reading()
                elif not protocol._is_paused():
                    protocol.resume_reading()
        elif not self._is_paused():
            self.resume_reading()

    @abstractmethod
    def _parse(self, data: bytes) -> None:
        """Parse a piece."""

    def _stand_in_line(self) -> None:
        if not self._is_in_line:
            self._is_in_line = True
            _stand_in_line(self)

    def _is_listening(self) -> bool:
        return not self.transport.is_closing() and self.transport.get_protocol() is self

    @abstractmethod
    def _is_paused(self) -> bool:
        """Whether uvicorn wants no more bytes for now."""
