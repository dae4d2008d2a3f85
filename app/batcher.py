"""The batcher: while calls are under way, requests for the next one gather, so that load makes batches larger."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from app.http import TOO_MANY, Busy, Unavailable

Lane = TypeVar("Lane", bound=Hashable)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

CALLS = 2
"""Calls of different lanes under way before requests gather: the database works on one while it writes the other to disk."""

PATIENCE_SECONDS = 0.1
"""A call that takes longer probably waits for somebody's lock; it no longer counts as one of those."""

STOPPING = "This process is stopping. Try again, and another one answers."


class Batcher(Generic[Lane, Item, Outcome]):
    """Serves requests in calls of many, one call at a time in each lane, in the order in which they came.

    There is no timer to gather by: a request that finds its lane free and less than CALLS under way is called for at once.
    Lanes share a call only when several have somebody waiting when it begins. How it goes: a lane with somebody waiting is
    *ready*; a *call* takes what waits in the ready lanes, which are then under way; when it is through they are ready again, or
    gone.
    """

    def __init__(
        self, call: Callable[[Mapping[Lane, list[Item]]], Awaitable[Sequence[Outcome]]], *, max_size: int, max_pending: int
    ) -> None:
        """A batcher of `call`, which is given items by lane and returns an outcome for each, in that order.

        It gets at most `max_size` items. If it raises Unavailable all of them fail; if it raises Busy, or anything else, it must
        have had no effect: the lanes are then called for each alone, and when that fails its items each alone. `max_pending`
        requests may wait or be under way.
        """
        self._call = call
        self._max_size = max_size
        self._max_pending = max_pending
        self._pending = 0
        self._lanes: dict[Lane, dict[asyncio.Future[Outcome], Item]] = {}  # who waits where, in order; with all lanes under way
        self._ready: dict[Lane, None] = {}  # in the order in which they became ready
        self._serving: set[asyncio.Task[None]] = set()  # at most CALLS
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, lane: Lane, item: Item) -> Outcome:
        """The outcome of this item. Raises Refusal: OVERLOADED at once when too many wait; whatever the call raised for it."""
        if self._pending >= self._max_pending:
            raise Unavailable(TOO_MANY, "OVERLOADED")
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = {}
            self._ready[lane] = None
            self._start()
        waiting[outcome] = item
        self._pending += 1
        try:
            return await outcome
        finally:
            self._pending -= 1
            waiting.pop(outcome, None)  # it may have gone while it still waited

    def _start(self) -> None:
        if self._ready and len(self._serving) < CALLS:
            task = self._spawn(self._serve())
            self._serving.add(task)
            task.add_done_callback(self._stop_serving)

    def _stop_serving(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._start()

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        # From one call to the next without a pause in which the event loop would write the answers: the database need not wait.
        while task in self._serving and (batch := self._take()):
            self._start()  # for what did not fit
            timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._stop_serving, task)
            try:
                await self._settle(batch)
            finally:
                timer.cancel()

    def _take(self) -> "_Batch[Lane, Outcome, Item]":
        batch: _Batch[Lane, Outcome, Item] = {}
        room = self._max_size
        while room and self._ready:
            lane = next(iter(self._ready))
            del self._ready[lane]
            waiting = self._lanes[lane]
            taken = [(outcome, waiting.pop(outcome)) for outcome in list(islice(waiting, room))]
            if taken := [(outcome, item) for outcome, item in taken if not outcome.done()]:
                batch[lane] = taken
                room -= len(taken)
            else:
                self._free(lane)
        return batch

    def _free(self, lane: Lane) -> None:
        if self._lanes[lane]:
            self._ready[lane] = None
        else:
            del self._lanes[lane]

    async def _settle(self, batch: "_Batch[Lane, Outcome, Item]") -> None:
        try:
            if not await self._attempt(batch):
                if len(batch) > 1:
                    for lane in list(batch):
                        self._settle_alone({lane: batch.pop(lane)})
                else:
                    await self._settle_one_by_one(batch)
        finally:
            self._close(batch)

    def _settle_alone(self, batch: "_Batch[Lane, Outcome, Item]") -> None:
        def close(_: asyncio.Task[None]) -> None:
            self._close(batch)
            self._start()

        self._spawn(self._settle(batch)).add_done_callback(close)

    async def _settle_one_by_one(self, batch: "_Batch[Lane, Outcome, Item]") -> None:
        # One of them is to blame, and the call had no effect for any.
        [(lane, requests)] = batch.items()
        for outcome, item in requests:
            if not outcome.done():
                await self._attempt({lane: [(outcome, item)]})
                if not outcome.cancelled() and isinstance(error := outcome.exception(), Unavailable):
                    _fail((outcome for outcome, _ in requests), error)  # nor will the others be served now

    def _close(self, batch: "_Batch[Lane, Outcome, Item]") -> None:
        while batch:
            lane, requests = batch.popitem()
            _fail((outcome for outcome, _ in requests), Unavailable(STOPPING))  # nobody, unless this was cancelled
            self._free(lane)

    async def _attempt(self, batch: "_Batch[Lane, Outcome, Item]") -> bool:
        """Call for these; False when that had no effect and fewer at a time may fare better."""
        outcomes = [outcome for requests in batch.values() for outcome, _ in requests]
        try:
            found = await self._call({lane: [item for _, item in requests] for lane, requests in batch.items()})
        except Unavailable as error:
            if isinstance(error, Busy) and len(batch) > 1:
                return False
            _fail(outcomes, error)  # it may have taken effect, so nothing is tried again
        except Exception as error:
            if len(outcomes) > 1:
                return False
            _fail(outcomes, error)
        else:
            for outcome, value in zip(outcomes, found, strict=False):
                if not outcome.done():
                    outcome.set_result(value)
            _fail(outcomes, RuntimeError("the call did not return an outcome for each item"))
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # as will whoever would serve them next
            for waiting in self._lanes.values():
                _fail(waiting, Unavailable(STOPPING))


_Batch = dict[Lane, list[tuple[asyncio.Future[Outcome], Item]]]


def _fail(outcomes: Iterable[asyncio.Future[Any]], error: Exception) -> None:
    for outcome in outcomes:
        if not outcome.done():
            outcome.set_exception(error)
