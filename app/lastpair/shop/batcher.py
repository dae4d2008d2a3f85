"""The batcher: while a call is in flight, requests gather for the next one, so load makes batches larger."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from lastpair.errors import STOPPING, Busy, Unavailable, overloaded

Lane = TypeVar("Lane", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")
Received = TypeVar("Received", contravariant=True)

SLOW_CALL_SECONDS = 0.1
"""A call that takes longer probably waits for a lock of another transaction. The next one then no longer waits for it."""


class Receiver(Protocol[Received]):
    """Who gets the outcome of a request. A future is one; another kind costs less than a future and the task that awaits it."""

    def done(self) -> bool:
        """Whether it has the outcome, or does not want it any more."""

    def set_result(self, outcome: Received, /) -> None:
        """Take the outcome."""

    def set_exception(self, error: Exception, /) -> None:
        """Take what the call raised instead."""


class Places:
    """Places for requests that wait or are in flight, which several batchers share."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0


class HadNoEffect(Exception):
    """A call failed and had no effect, and smaller calls may succeed."""


class Batcher(Generic[Lane, Item, Answer]):
    """Carries out requests in calls of many.

    One call is in flight at a time, unless calls are slow or are tried again for parts of their requests. A request waits in a
    lane; requests of one lane keep their order, because a lane has never more than one call in flight. A lane is in one of three
    states:

    - *ready*: requests wait in it, and no call for it is in flight;
    - *in flight*: a call took requests from it, and more may wait in it meanwhile;
    - absent: nothing waits and no call is in flight.

    When a call begins, it takes what waits in all ready lanes, up to `max_size` requests. When it ends, each of its lanes becomes
    ready again or is removed. There is no timer: a request that finds no call in flight starts one at once.
    """

    def __init__(
        self,
        call: Callable[[Mapping[Lane, list[Item]]], Awaitable[Sequence[Answer]]],
        *,
        max_size: int,
        max_pending: int,
        shared: Places | None = None,
        pause: int = 0,
    ) -> None:
        """`call` is given items by lane, at most `max_size` in all, and returns one outcome for each item, in that order.

        If `call` raises Unavailable, all its items fail, because the call may have had an effect. If it raises Busy (a kind of
        Unavailable) or another exception, it must have had no effect. A call for several lanes is then repeated for each lane
        alone. If a call for one lane raises Busy, all its items fail; if it raises another exception, each item is tried alone.

        At most `max_pending` requests may wait or be in flight. Each also takes a place of those that are `shared`, if any.

        Between a call and the next one, for which requests wait already, `pause` iterations of the event loop pass. Meanwhile
        answers are written and requests are read, which share the next call. `call` may change the attribute `pause`.
        """
        self._call = call
        self._max_size = max_size
        self._max_pending = max_pending
        self._pending = 0
        self._shared = shared
        self.pause = pause
        # The requests that wait in each lane, in order. A lane in flight is here even if nothing waits in it.
        self._lanes: dict[Lane, dict[Receiver[Answer], Item]] = {}
        self._ready: dict[Lane, None] = {}  # in the order in which they became ready
        self._calling: asyncio.Task[None] | None = None  # what makes the call that the next one waits for
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, lane: Lane, item: Item) -> Answer:
        """The outcome of this item. Raises OVERLOADED at once when too many requests wait, and what the call raised for the
        item."""
        outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.add(lane, item, outcome)
        try:
            return await outcome
        finally:
            if not self.withdraw(lane, outcome):
                self.end()

    def add(self, lane: Lane, item: Item, receiver: Receiver[Answer]) -> None:
        """Give the receiver the outcome of this item. Raises OVERLOADED at once when too many requests wait.

        The request counts among them until it is withdrawn, or until end() is called, once, when the receiver is done.
        """
        shared = self._shared
        if self._pending >= self._max_pending or (shared is not None and shared.taken >= shared.most):
            raise overloaded()
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = {}
            self._ready[lane] = None
            self._start()
        waiting[receiver] = item
        self._pending += 1
        if shared is not None:
            shared.taken += 1

    def end(self) -> None:
        """A receiver is done, so the place of its request is free."""
        self._pending -= 1
        if self._shared is not None:
            self._shared.taken -= 1

    def withdraw(self, lane: Lane, receiver: Receiver[Answer]) -> bool:
        """Forget a request if no call took it yet. Returns whether none did; otherwise the receiver will get its outcome."""
        waiting = self._lanes.get(lane)
        if waiting is None or receiver not in waiting:
            return False
        del waiting[receiver]
        self.end()
        return True

    def _start(self) -> None:
        if self._ready and self._calling is None:
            self._calling = self._spawn(self._run_calls())
            self._calling.add_done_callback(self._stop_waiting_for)

    def _stop_waiting_for(self, task: asyncio.Task[None]) -> None:
        if self._calling is task:
            self._calling = None
        self._start()

    async def _run_calls(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        # Without a pause the next call goes out in the same iteration of the event loop, before the answers of the last one are
        # written, because the database would be idle meanwhile.
        while self._calling is task and (batch := self._take()):
            timer = asyncio.get_running_loop().call_later(SLOW_CALL_SECONDS, self._stop_waiting_for, task)
            try:
                await self._settle(batch)
            finally:
                timer.cancel()
            for _ in range(self.pause if self._ready else 0):
                await asyncio.sleep(0)

    def _take(self) -> "_Batch[Lane, Answer, Item]":
        batch: _Batch[Lane, Answer, Item] = {}
        free_places = self._max_size
        while free_places and self._ready:
            lane = next(iter(self._ready))
            del self._ready[lane]
            waiting = self._lanes[lane]
            if len(waiting) <= free_places:
                requests = list(waiting.items())
                waiting.clear()
            else:
                requests = [(receiver, waiting.pop(receiver)) for receiver in list(islice(waiting, free_places))]
            if taken := [(receiver, item) for receiver, item in requests if not receiver.done()]:
                batch[lane] = taken
                free_places -= len(taken)
            else:
                self._free(lane)
        return batch

    def _free(self, lane: Lane) -> None:
        if self._lanes[lane]:
            self._ready[lane] = None
        else:
            del self._lanes[lane]

    async def _settle(self, batch: "_Batch[Lane, Answer, Item]") -> None:
        try:
            await self._attempt(batch)
            while batch:
                self._free(batch.popitem()[0])
        except HadNoEffect:
            if len(batch) > 1:
                for lane in list(batch):
                    self._settle_alone({lane: batch.pop(lane)})
            else:
                await self._settle_one_by_one(batch)
        finally:
            self._close(batch)

    def _settle_alone(self, batch: "_Batch[Lane, Answer, Item]") -> None:
        def close(_: asyncio.Task[None]) -> None:
            self._close(batch)
            self._start()

        self._spawn(self._settle(batch)).add_done_callback(close)

    async def _settle_one_by_one(self, batch: "_Batch[Lane, Answer, Item]") -> None:
        # One item made the call fail, and the call had no effect for any of them.
        [(lane, requests)] = batch.items()
        for receiver, item in requests:
            if not receiver.done():
                error = await self._attempt({lane: [(receiver, item)]})
                if isinstance(error, Unavailable):
                    _fail((receiver for receiver, _ in requests), error)  # the database is away, so the others would fail as well

    def _close(self, batch: "_Batch[Lane, Answer, Item]") -> None:
        while batch:
            lane, requests = batch.popitem()
            # Some have no outcome only if the task was cancelled.
            _fail((receiver for receiver, _ in requests), Unavailable(STOPPING))
            self._free(lane)

    async def _attempt(self, batch: "_Batch[Lane, Answer, Item]") -> Exception | None:
        """Make one call for this batch. Returns the exception that receivers got instead of outcomes. Raises HadNoEffect."""
        receivers = [receiver for requests in batch.values() for receiver, _ in requests]
        try:
            found = await self._call({lane: [item for _, item in requests] for lane, requests in batch.items()})
        except Unavailable as error:
            if isinstance(error, Busy) and len(batch) > 1:
                raise HadNoEffect from error
            return error if _fail(receivers, error) else None  # the call may have taken effect, so it is not repeated
        except Exception as error:
            if len(receivers) > 1:
                raise HadNoEffect from error
            return error if _fail(receivers, error) else None
        outcomes = list(found)
        for receiver, outcome in zip(receivers, outcomes, strict=False):
            if not receiver.done():
                receiver.set_result(outcome)
        _fail(receivers[len(outcomes) :], RuntimeError("the call did not return an outcome for each item"))
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # the process stops, so no later call will take what waits
            for waiting in self._lanes.values():
                _fail(list(waiting), Unavailable(STOPPING))


_Batch = dict[Lane, list[tuple[Receiver[Answer], Item]]]


def _fail(receivers: Iterable[Receiver[Any]], error: Exception) -> bool:
    """Give this error to those that are not done. Returns whether there was one."""
    found = False
    for receiver in receivers:
        if not receiver.done():
            found = True
            receiver.set_exception(error)
    return found
