"""Batchers under test: one whose calls return when the test says so, and one whose calls fail for certain items."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import pytest

from lastpair.errors import Unavailable
from lastpair.shop.batcher import Batcher, Places
from tests.support.waiting import PATIENCE_SECONDS

Answer = Sequence[Any] | BaseException
Lanes = dict[str, list[Any]]
Outcome = TypeVar("Outcome")
Task = asyncio.Task[Any]
MAX_PENDING = 1000
TIMEOUT_SECONDS = PATIENCE_SECONDS
NEVER_SECONDS = 3600.0


async def ticks(count: int = 10) -> None:
    """Let the event loop run so many iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, looking at it in each iteration of the event loop; fails when it does not in time."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def outcome_of(item: object) -> str:
    """What a call answers for an item."""
    return f"outcome of {item}"


def items_of(lanes: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The items of all lanes in order."""
    return list(chain.from_iterable(lanes.values()))


@dataclass(frozen=True)
class Call:
    """A call in flight, and the task that makes it."""

    lanes: Lanes
    answer: asyncio.Future[Answer]
    task: "Task | None"


class HeldBatcher:
    """A batcher whose calls are noted and held until the test answers them."""

    def __init__(self, max_size: int = 100, max_pending: int = MAX_PENDING, shared: Places | None = None, pause: int = 0) -> None:
        self.batcher = Batcher[str, Any, Any](self._call, max_size=max_size, max_pending=max_pending, shared=shared, pause=pause)
        self.calls: list[Lanes] = []
        self.in_flight: list[Call] = []
        self._max_size = max_size
        self._faults: list[object] = []
        self._requests: dict[Task, object] = {}
        self._left: set[Task] = set()

    async def _call(self, batch: Mapping[str, list[Any]]) -> Sequence[Any]:
        lanes = dict(batch)
        if any(lane in other.lanes for other in self.in_flight for lane in lanes):
            self._faults.append(("two calls at a time in a lane", lanes))
        if not lanes or not all(lanes.values()) or len(items_of(lanes)) > self._max_size:
            self._faults.append(("a call of this size", lanes))
        call = Call(lanes, asyncio.get_running_loop().create_future(), asyncio.current_task())
        self.calls.append(lanes)
        self.in_flight.append(call)
        try:
            answer = await call.answer
        finally:
            self.in_flight.remove(call)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def submit(self, item: object, lane: str = "lane") -> Task:
        """Submit a request now; its outcome comes later."""
        task = asyncio.create_task(self.batcher.submit(lane, item))
        self._requests[task] = item
        return task

    async def submit_all(self, *items: object, lane: str = "lane") -> list[Task]:
        """Submit requests in this order; returns when nothing more happens by itself."""
        return await self.submit_lanes({lane: items})

    async def submit_lanes(self, lanes: Mapping[str, Sequence[object]]) -> list[Task]:
        """Submit requests in several lanes at the same moment; returns when nothing more happens by itself."""
        tasks = [self.submit(item, lane) for lane, items in lanes.items() for item in items]
        await ticks()
        return tasks

    async def occupy(self, *lanes: str) -> list[Task]:
        """Begin a call for each of the lanes, of one item that is named like it."""
        return [task for lane in lanes for task in await self.submit_all(lane, lane=lane)]

    async def occupy_slowly(self, lane: str, slow_after: Callable[[float], None]) -> Task:
        """Begin a call for the lane, as occupy() does, for which no other call waits any more."""
        slow_after(0)
        [task] = await self.occupy(lane)
        await until(lambda: self.batcher._calling is None)
        slow_after(NEVER_SECONDS)
        return task

    def refuses(self, item: object = "refused", lane: str = "lane") -> bool:
        """Is a request refused with OVERLOADED at once?"""
        with pytest.raises(Unavailable) as refusal:
            self.batcher.submit(lane, item).send(None)
        assert_unavailable([refusal.value], code="OVERLOADED")
        return True

    async def leave(self, *tasks: Task) -> None:
        """Cancel these requests, as when their clients leave."""
        self._left.update(tasks)
        for task in tasks:
            task.cancel()
        await ticks()

    def call_of(self, lane: str = "lane") -> Call:
        """The call in flight for the lane."""
        [call] = [call for call in self.in_flight if lane in call.lanes]
        return call

    async def answer(self, answer: Answer | None = None, lane: str = "lane") -> None:
        """Let the call for the lane return this answer, or by default the outcome of each of its items."""
        call = self.call_of(lane)
        call.answer.set_result(list(map(outcome_of, items_of(call.lanes))) if answer is None else answer)
        await ticks()

    async def cancel_call(self, lane: str = "lane") -> None:
        """Cancel the task that makes the lane's call, as when the process stops."""
        task = self.call_of(lane).task
        assert task is not None
        task.cancel()
        await ticks()

    @property
    def items(self) -> list[list[Any]]:
        """The items of each call so far."""
        return [items_of(lanes) for lanes in self.calls]

    async def assert_served(self, *, but: Collection[Task] = ()) -> None:
        """Answer what is in flight. Every request that did not leave, but these, has its own outcome; nothing is left."""
        while self.in_flight:
            for call in list(self.in_flight):
                call.answer.set_result(list(map(outcome_of, items_of(call.lanes))))
            await ticks()
        outcomes = dict(zip(self._requests, await results(list(self._requests)), strict=True))
        assert {task for task in outcomes if task.cancelled()} == self._left
        found = {task: outcome for task, outcome in outcomes.items() if task not in self._left and task not in but}
        assert found == {task: outcome_of(self._requests[task]) for task in found}
        await ticks()
        assert self._faults == []
        assert_empty(self.batcher)


def assert_empty(batcher: Batcher[Any, Any, Any]) -> None:
    """The batcher's state is that of a new one."""
    left = (batcher._lanes, batcher._ready, batcher._calling, batcher._tasks, batcher._pending)
    assert left == ({}, {}, None, set(), 0)


async def results(tasks: Sequence["asyncio.Task[Outcome]"]) -> list[Outcome | BaseException]:
    """How each request ended; fails when one does not end in time."""
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=TIMEOUT_SECONDS)
        assert not pending, f"{len(pending)} of {len(tasks)} requests hang"
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def assert_unavailable(outcomes: Sequence[object], code: str = "DATABASE_UNAVAILABLE", message: str = "") -> None:
    """Each outcome is Unavailable with this code and this in its message, and says when to come again."""
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable)
        assert (outcome.status, outcome.code) == (503, code)
        assert (outcome.retry_after_seconds or 0) > 0
        assert message in outcome.message


class Poisoned(Exception):
    """Raised by a call because of certain items."""


class FragileBatcher:
    """A batcher whose calls fail as a whole, without an effect, when one of the items is poisoned."""

    def __init__(self) -> None:
        self.batcher = Batcher[str, str, str](self._call, max_size=100, max_pending=MAX_PENDING)
        self.calls: list[dict[str, list[str]]] = []
        self.effects: Counter[str] = Counter()

    async def _call(self, lanes: Mapping[str, list[str]]) -> list[str]:
        self.calls.append(dict(lanes))
        items = items_of(lanes)
        await asyncio.sleep(0)
        for item in items:
            if item.startswith("poison"):
                raise Poisoned(item)
        self.effects.update(items)
        return list(map(outcome_of, items))

    def submit(self, lane: str, *items: str) -> dict[str, "asyncio.Task[str]"]:
        """Submit requests in this order, each for another item."""
        return {item: asyncio.create_task(self.batcher.submit(lane, item)) for item in items}

    async def assert_settled(self, tasks: Mapping[str, "asyncio.Task[str]"]) -> None:
        """Each poisoned item failed with its own error, each other one succeeded, once; nothing is left."""
        for item, outcome in zip(tasks, await results(list(tasks.values())), strict=True):
            if item.startswith("poison"):
                assert isinstance(outcome, Poisoned)
                assert outcome.args == (item,)
            else:
                assert outcome == outcome_of(item)
        assert self.effects == {item: 1 for item in tasks if not item.startswith("poison")}
        await ticks()
        assert_empty(self.batcher)
