"""The batcher: while a call is under way, requests for the next one gather, so that load makes batches larger."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from app.http import Unavailable

Lane = TypeVar("Lane", bound=Hashable)
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

STOPPING = "This process is stopping. Try again, and another one answers."
TOO_MANY = "Too many requests are waiting. Try again in a moment."


class _Waiter(Generic[Item, Outcome]):
    """One request: what it asks, and where its outcome goes."""

    __slots__ = ("future", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()


class Batcher(Generic[Lane, Item, Outcome]):
    """Serves requests in calls of many, one call at a time in each lane, in the order in which they came.

    There is no timer: a request that finds its lane free is called for at once, alone.
    """

    def __init__(
        self, call: Callable[[Lane, list[Item]], Awaitable[Sequence[Outcome]]], *, max_size: int, max_pending: int
    ) -> None:
        """`call` gets at most `max_size` items and returns an outcome for each; `max_pending` requests may wait in all lanes."""
        self._call = call
        self._max_size = max_size
        self._max_pending = max_pending
        self._pending = 0
        self._lanes: dict[Lane, dict[_Waiter[Item, Outcome], None]] = {}  # dict: in order, and one can leave from the middle
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, lane: Lane, item: Item) -> Outcome:
        """The outcome of this item. Raises Refusal: OVERLOADED at once when too many wait; whatever the call raised for it."""
        if self._pending >= self._max_pending:
            raise Unavailable(TOO_MANY, "OVERLOADED")
        waiter: _Waiter[Item, Outcome] = _Waiter(item)
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = {}
            task = asyncio.create_task(self._serve(lane, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._close(lane, waiting))
        waiting[waiter] = None
        self._pending += 1
        try:
            return await waiter.future
        finally:
            self._pending -= 1
            waiting.pop(waiter, None)  # it may have gone while it still waited

    async def _serve(self, lane: Lane, waiting: dict[_Waiter[Item, Outcome], None]) -> None:
        batch: list[_Waiter[Item, Outcome]] = []
        try:
            # Nothing happens between finding the lane empty and closing it, so no request can come in between and hang.
            while waiting:
                batch = list(islice(waiting, self._max_size))
                for waiter in batch:
                    del waiting[waiter]
                if batch := [waiter for waiter in batch if not waiter.future.done()]:
                    await self._settle(lane, batch)
        finally:
            self._close(lane, waiting)
            _fail(batch, Unavailable(STOPPING))  # they have their outcomes, unless this was cancelled

    def _close(self, lane: Lane, waiting: dict[_Waiter[Item, Outcome], None]) -> None:
        if self._lanes.get(lane) is waiting:
            del self._lanes[lane]
        _fail(waiting, Unavailable(STOPPING))  # nobody, unless serving was cancelled

    async def _settle(self, lane: Lane, batch: list[_Waiter[Item, Outcome]]) -> None:
        try:
            outcomes = await self._call(lane, [waiter.item for waiter in batch])
        except Unavailable as error:  # it may have taken effect, so nothing is tried again
            _fail(batch, error)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                await self._settle_one_by_one(lane, batch)
        else:
            for waiter, outcome in zip(batch, outcomes, strict=False):
                if not waiter.future.done():
                    waiter.future.set_result(outcome)
            _fail(batch, RuntimeError("the call did not return an outcome for each item"))

    async def _settle_one_by_one(self, lane: Lane, batch: list[_Waiter[Item, Outcome]]) -> None:
        # One of them is to blame, and the call had no effect for any.
        for waiter in batch:
            if not waiter.future.done():
                await self._settle(lane, [waiter])
                if not waiter.future.cancelled() and isinstance(error := waiter.future.exception(), Unavailable):
                    _fail(batch, error)  # nor will the others be served now


def _fail(waiters: Iterable[_Waiter[Any, Any]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)
