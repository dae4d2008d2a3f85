"""A stage for the batcher: calls that go on for as long as a test wants, and what can be said of it afterwards."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import pytest

from lastpair.errors import Refusal, Unavailable
from lastpair.shop import batcher as batcher_module
from lastpair.shop.batcher import Batcher

Answer = Sequence[Any] | BaseException
Outcome = TypeVar("Outcome")
MAX_PENDING = 1000
TIMEOUT_SECONDS = 10
FOREVER_SECONDS = 3600.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """No call takes long, however slow the machine, unless the test sets the patience itself."""

    def set_patience(seconds: float) -> None:
        monkeypatch.setattr(batcher_module, "SLOW_CALL_SECONDS", seconds)

    set_patience(FOREVER_SECONDS)
    return set_patience


async def ticks(count: int = 10) -> None:
    """Let everybody who can go on do so, that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fails when it does not soon."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def outcome_of(item: object) -> str:
    """What a call answers for an item."""
    return f"outcome of {item}"


@dataclass(frozen=True)
class Call:
    """A call that is under way: whom for, and who makes it."""

    lanes: dict[str, list[Any]]
    answer: asyncio.Future[Answer]
    task: "asyncio.Task[Any] | None"


class Stage:
    """A batcher, and what it calls: every call is noted and goes on for as long as the test wants."""

    def __init__(self, max_size: int = 100, max_pending: int = MAX_PENDING) -> None:
        self.batcher = Batcher[str, Any, Any](self._call, max_size=max_size, max_pending=max_pending)
        self.max_size = max_size
        self.calls: list[dict[str, list[Any]]] = []
        self.under_way: list[Call] = []
        self.wrong: list[object] = []

    async def _call(self, batch: Mapping[str, list[Any]]) -> Sequence[Any]:
        lanes = dict(batch)
        if any(lane in other.lanes for other in self.under_way for lane in lanes):
            self.wrong.append(("two calls at a time in a lane", lanes))
        if not lanes or not all(lanes.values()) or sum(map(len, lanes.values())) > self.max_size:
            self.wrong.append(("a call of this size", lanes))
        call = Call(lanes, asyncio.get_running_loop().create_future(), asyncio.current_task())
        self.calls.append(lanes)
        self.under_way.append(call)
        try:
            answer = await call.answer
        finally:
            self.under_way.remove(call)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def submit(self, item: object, lane: str = "lane") -> asyncio.Task[Any]:
        """A request, whose outcome is awaited."""
        return asyncio.create_task(self.batcher.submit(lane, item))

    async def submit_all(self, *items: object, lane: str = "lane") -> list[asyncio.Task[Any]]:
        """Requests in this order; comes back when nothing more happens by itself."""
        return await self.submit_lanes({lane: items})

    async def submit_lanes(self, lanes: Mapping[str, Sequence[object]]) -> list[asyncio.Task[Any]]:
        """Requests in several lanes at the same moment; comes back when nothing more happens by itself."""
        tasks = [self.submit(item, lane) for lane, items in lanes.items() for item in items]
        await ticks()
        return tasks

    async def occupy(self, *lanes: str) -> list[asyncio.Task[Any]]:
        """A call for each of the lanes, of one item that is called like it."""
        return [task for lane in lanes for task in await self.submit_all(lane, lane=lane)]

    def call(self, lane: str = "lane") -> Call:
        """The call that is under way in the lane."""
        [call] = [call for call in self.under_way if lane in call.lanes]
        return call

    async def answer(self, answer: Answer | None = None, lane: str = "lane") -> None:
        """The call that is under way in the lane returns, with the outcome of each of its items unless another is given."""
        call = self.call(lane)
        items = chain.from_iterable(call.lanes.values())
        call.answer.set_result([outcome_of(item) for item in items] if answer is None else answer)
        await ticks()

    async def answer_all(self) -> None:
        """Every call returns, and those that come of it."""
        while self.under_way:
            for call in self.under_way:
                call.answer.set_result([outcome_of(item) for items in call.lanes.values() for item in items])
            await ticks()

    @property
    def items(self) -> list[list[Any]]:
        """Of each call so far."""
        return [list(chain.from_iterable(lanes.values())) for lanes in self.calls]

    async def assert_idle(self) -> None:
        """Nobody waits, nothing is left of those that did, and no call was one that must not be."""
        await ticks()
        assert self.wrong == []
        assert self.under_way == []
        assert_empty(self.batcher)


def assert_empty(batcher: Batcher[Any, Any, Any]) -> None:
    """Its state is that of a new one."""
    left = (batcher._lanes, batcher._ready, batcher._calling, batcher._tasks, batcher._pending)
    assert left == ({}, {}, set(), set(), 0)


async def results(tasks: Sequence["asyncio.Task[Outcome]"]) -> list[Outcome | BaseException]:
    """How each request ended, all of them soon."""
    done, pending = await asyncio.wait(tasks, timeout=TIMEOUT_SECONDS)
    assert not pending, f"{len(pending)} of {len(tasks)} requests hang"
    assert len(done) == len(tasks)
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def outcomes_of(*items: object) -> list[str]:
    """What a call answers for the items."""
    return [outcome_of(item) for item in items]


def assert_refused(outcomes: Sequence[object], code: str = "DATABASE_UNAVAILABLE") -> None:
    """All are told 503 with that code and when to come again."""
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable)
        assert isinstance(outcome, Refusal)
        assert (outcome.status, outcome.code) == (503, code)
        assert (outcome.retry_after_seconds or 0) > 0


def assert_stopping(outcomes: Sequence[object]) -> None:
    """All are told 503 and that the process stops."""
    assert_refused(outcomes)
    assert all("stopping" in getattr(outcome, "message", "") for outcome in outcomes)


class Poisoned(Exception):
    """Raised by a call for an item it cannot bear."""


class Fragile:
    """A call that fails as a whole, without an effect, when it holds an item that it cannot bear."""

    def __init__(self, max_size: int = 100) -> None:
        self.batcher = Batcher[str, str, str](self._call, max_size=max_size, max_pending=MAX_PENDING)
        self.calls: list[dict[str, list[str]]] = []
        self.effects: Counter[str] = Counter()

    async def _call(self, lanes: Mapping[str, list[str]]) -> list[str]:
        self.calls.append(dict(lanes))
        items = list(chain.from_iterable(lanes.values()))
        await asyncio.sleep(0)
        for item in items:
            if item.startswith("poison"):
                raise Poisoned(item)
        self.effects.update(items)
        return outcomes_of(*items)

    def submit(self, lane: str, *items: str) -> list[asyncio.Task[str]]:
        """Requests in this order."""
        return [asyncio.create_task(self.batcher.submit(lane, item)) for item in items]

    async def assert_settled(self, items: Sequence[str], tasks: Sequence["asyncio.Task[str]"]) -> None:
        """Each poisoned one has failed with its own error, each other one succeeded, once; nothing is left."""
        for item, outcome in zip(items, await results(tasks), strict=True):
            if item.startswith("poison"):
                assert isinstance(outcome, Poisoned)
                assert outcome.args == (item,)
            else:
                assert outcome == outcome_of(item)
        assert self.effects == {item: 1 for item in items if not item.startswith("poison")}
        await ticks()
        assert_empty(self.batcher)


def refused_at_once(stage: Stage, item: object = "refused", lane: str = "lane") -> None:
    """A request is answered OVERLOADED without waiting for anything whatever, and is not called for."""
    with pytest.raises(Unavailable) as refusal:
        stage.batcher.submit(lane, item).send(None)
    assert_refused([refusal.value], "OVERLOADED")


def cancel(stage: Stage, lane: str = "lane") -> None:
    """Whoever makes the lane's call is cancelled, as when the process stops."""
    task = stage.call(lane).task
    assert task is not None
    task.cancel()
