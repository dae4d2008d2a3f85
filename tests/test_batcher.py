"""The batcher without a database: who is called for with whom, who gets which outcome, and that nobody is left waiting."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import pytest

from app import batcher as batcher_module
from app.batcher import CALLS, Batcher
from app.http import Busy, Refusal, Unavailable

Answer = Sequence[Any] | BaseException
Outcome = TypeVar("Outcome")

MAX_PENDING = 1000
TIMEOUT_SECONDS = 10
FOREVER_SECONDS = 3600.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """No call takes long, however slow the machine, unless the test sets the patience itself."""

    def set_patience(seconds: float) -> None:
        monkeypatch.setattr(batcher_module, "PATIENCE_SECONDS", seconds)

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
    left = (batcher._lanes, batcher._ready, batcher._serving, batcher._tasks, batcher._pending)
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
        assert int((outcome.headers or {})["retry-after"]) > 0


def assert_stopping(outcomes: Sequence[object]) -> None:
    """All are told 503 and that the process stops."""
    assert_refused(outcomes)
    assert all("stopping" in getattr(outcome, "message", "") for outcome in outcomes)


async def test_a_lone_request_is_called_for_at_once_and_alone() -> None:
    """Every time, not only the first; no timer is involved."""
    stage = Stage()
    for item in range(5):
        [task] = await stage.submit_all(item)
        assert stage.calls[item:] == [{"lane": [item]}]
        await stage.answer()
        assert task.result() == outcome_of(item)
        await stage.assert_idle()


async def test_those_that_come_meanwhile_share_the_next_call() -> None:
    """In the order in which they came."""
    stage = Stage()
    tasks = await stage.submit_all("first")
    for item in "abc":
        tasks += await stage.submit_all(item)
    assert stage.items == [["first"]]
    await stage.answer()
    assert stage.items == [["first"], ["a", "b", "c"]]
    tasks += await stage.submit_all("d")
    await stage.answer()
    assert stage.items == [["first"], ["a", "b", "c"], ["d"]]
    assert [task.done() for task in tasks] == [True] * 4 + [False]
    await stage.answer()
    assert [task.result() for task in tasks] == outcomes_of("first", *"abcd")
    await stage.assert_idle()


@pytest.mark.parametrize(("max_size", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (5, [5, 5]), (9, [9, 1]), (10, [10])])
async def test_a_call_is_never_larger_than_max_size(max_size: int, sizes: list[int]) -> None:
    """What is over goes next."""
    stage = Stage(max_size)
    tasks = await stage.submit_all("first")
    tasks += await stage.submit_all(*range(10))
    for _ in range(1 + len(sizes)):
        await stage.answer()
    assert [len(items) for items in stage.items] == [1, *sizes]
    assert [item for items in stage.items for item in items] == ["first", *range(10)]
    assert [task.result() for task in tasks] == outcomes_of("first", *range(10))
    await stage.assert_idle()


async def test_requests_that_ask_the_same_are_not_the_same() -> None:
    """Each has a place and an outcome of its own, and goes alone when it is cancelled."""
    stage = Stage()
    await stage.submit_all("first")
    tasks = await stage.submit_all("same", "same", "same", "same")
    tasks.pop(1).cancel()
    await stage.answer()
    assert stage.items[1] == ["same"] * 3
    await stage.answer([1, 2, 3])
    assert await results(tasks) == [1, 2, 3]
    await stage.assert_idle()


async def test_lanes_that_are_ready_at_the_same_moment_share_a_call() -> None:
    """In the order in which they became ready, each with its requests in the order in which they came."""
    stage = Stage()
    tasks = await stage.submit_lanes({"b": [1, 2], "a": [3], "c": [4, 5, 6]})
    assert stage.calls == [{"b": [1, 2], "a": [3], "c": [4, 5, 6]}]
    assert list(stage.calls[0]) == ["b", "a", "c"]
    tasks += await stage.occupy("other")
    for lane, item in [("c", 7), ("y", 8), ("a", 9), ("c", 10), ("x", 11), ("b", 12), ("y", 13)]:
        tasks += await stage.submit_all(item, lane=lane)
    await stage.answer(lane="a")
    assert stage.calls[2:] == [{"y": [8, 13], "x": [11], "b": [12], "a": [9], "c": [7, 10]}]
    assert list(stage.calls[2])[:2] == ["y", "x"], "they were ready before the others' call was through"
    await stage.answer_all()
    assert await results(tasks) == outcomes_of(*range(1, 7), "other", *range(7, 14))
    await stage.assert_idle()


@pytest.mark.parametrize(
    ("max_size", "calls"),
    [
        (1, [{"a": [1]}, {"b": [4]}, {"c": [6]}, {"a": [2]}, {"b": [5]}, {"a": [3]}]),
        (2, [{"a": [1, 2]}, {"b": [4, 5]}, {"c": [6], "a": [3]}]),
        (4, [{"a": [1, 2, 3], "b": [4]}, {"c": [6], "b": [5]}]),
        (5, [{"a": [1, 2, 3], "b": [4, 5]}, {"c": [6]}]),
        (6, [{"a": [1, 2, 3], "b": [4, 5], "c": [6]}]),
    ],
)
async def test_a_call_of_several_lanes_is_never_larger_than_max_size(max_size: int, calls: list[dict[str, list[int]]]) -> None:
    """Who did not fit is first in the next one; a lane's requests that did not fit wait behind the lanes that were ready."""
    stage = Stage(max_size)
    full = await stage.occupy(*(f"full {n}" for n in range(CALLS)))
    tasks = await stage.submit_lanes({"a": [1, 2, 3], "b": [4, 5], "c": [6]})
    for call in calls:
        await stage.answer(lane=next(iter(stage.under_way[-1].lanes)))
        assert stage.calls[-1] == call
        assert list(stage.calls[-1]) == list(call)
    await stage.answer_all()
    assert stage.calls[CALLS:] == calls
    assert await results(tasks + full) == outcomes_of(*range(1, 7), *(f"full {n}" for n in range(CALLS)))
    await stage.assert_idle()


async def test_what_does_not_fit_is_called_for_at_once_where_a_call_is_free() -> None:
    """It does not wait for the call that it did not fit into; but that of the same lane does."""
    stage = Stage(max_size=3)
    tasks = await stage.submit_lanes({"a": [1, 2], "b": [3, 4], "c": [5]})
    assert stage.calls == [{"a": [1, 2], "b": [3]}, {"c": [5]}]
    await stage.answer(lane="c")
    assert len(stage.calls) == 2
    await stage.answer(lane="a")
    assert stage.calls[2:] == [{"b": [4]}]
    await stage.answer(lane="b")
    assert await results(tasks) == outcomes_of(*range(1, 6))
    await stage.assert_idle()


async def test_lanes_that_come_back_together_and_do_not_fit_together() -> None:
    """Each is called for at once where a call is free."""
    stage = Stage(max_size=2)
    tasks = await stage.submit_lanes({"a": [1], "b": [2]})
    tasks += await stage.submit_lanes({"a": [3, 4], "b": [5, 6]})
    await stage.answer(lane="a")
    assert sorted(map(str, stage.calls[1:])) == ["{'a': [3, 4]}", "{'b': [5, 6]}"]
    await stage.answer_all()
    assert await results(tasks) == outcomes_of(*range(1, 7))
    await stage.assert_idle()


async def test_a_lane_whose_call_is_under_way_is_in_no_other() -> None:
    """Others come and go, alone and together; its requests wait for its call, though there is a free one, and go together."""
    stage = Stage()
    tasks = await stage.submit_all(0, lane="slow")
    for n in range(1, 6):
        others = await stage.submit_lanes({"a": [n], "b": [n]})
        tasks += await stage.submit_all(n, lane="slow")
        assert stage.calls[n] == {"a": [n], "b": [n]}
        await stage.answer(lane="a")
        assert await results(others) == outcomes_of(n, n)
    assert len(stage.under_way) == 1
    await stage.answer(lane="slow")
    assert stage.calls[6:] == [{"slow": [1, 2, 3, 4, 5]}]
    await stage.answer(lane="slow")
    assert await results(tasks) == outcomes_of(*range(6))
    await stage.assert_idle()


@pytest.mark.parametrize("calls", [1, 2, 3])
async def test_no_more_calls_than_that(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Requests of more lanes gather, and share the next one, whichever call it is that returns."""
    monkeypatch.setattr(batcher_module, "CALLS", calls)
    stage = Stage()
    full = await stage.occupy(*(f"full {n}" for n in range(calls)))
    assert stage.calls == [{f"full {n}": [f"full {n}"]} for n in range(calls)]
    for n in range(2 * calls):
        waiting = await stage.submit_lanes({f"{n} {lane}": [lane] for lane in "abc"})
        waiting += await stage.submit_all("d", lane=f"{n} a")
        assert len(stage.under_way) == calls
        lane = next(iter(stage.under_way[n % calls].lanes))
        await stage.answer(lane=lane)
        assert stage.calls[-1] == {f"{n} a": ["a", "d"], f"{n} b": ["b"], f"{n} c": ["c"]}
        assert len(stage.under_way) == calls
        full += waiting
    await stage.answer_all()
    assert all(isinstance(outcome, str) for outcome in await results(full))
    await stage.assert_idle()


async def test_a_call_that_takes_long_holds_up_no_other_lane(patience: Callable[[float], None]) -> None:
    """However many take long; their own later requests wait for them, and go together."""
    patience(0)
    stage = Stage()
    stuck: list[asyncio.Task[Any]] = []
    for n in range(CALLS + 3):
        stuck += await stage.submit_all(n, lane=f"stuck {n}")
        await until(lambda: len(stage.under_way) == n + 1)  # noqa: B023 - awaited before the next round
        assert stage.calls[n] == {f"stuck {n}": [n]}
    for n in range(20):
        tasks = [stage.submit(n, lane) for lane in ("free", "also free")]
        stuck.append(stage.submit(n, "stuck 1"))
        await until(lambda: len(stage.under_way) == CALLS + 4)
        await stage.answer(lane="free")
        assert await results(tasks) == outcomes_of(n, n)
    assert not any(task.done() for task in stuck)
    patience(FOREVER_SECONDS)
    await stage.answer(lane="stuck 1")
    assert stage.calls[-1] == {"stuck 1": list(range(20))}
    await stage.answer_all()
    assert await results(stuck) == outcomes_of(*range(CALLS + 3), *range(20))
    await stage.assert_idle()


async def test_those_that_wait_when_a_call_begins_to_take_long_are_called_for_then(patience: Callable[[float], None]) -> None:
    """Nobody need come to start it."""
    patience(0.01)
    stage = Stage(max_size=1)
    lanes = [f"lane {n}" for n in range(2 * CALLS + 1)]
    tasks = [stage.submit(lane, lane) for lane in lanes]
    await until(lambda: len(stage.under_way) == len(lanes))
    assert stage.items == [[lane] for lane in lanes]
    await stage.answer_all()
    assert await results(tasks) == outcomes_of(*lanes)
    await stage.assert_idle()


async def test_a_call_that_took_long_has_lost_its_place(patience: Callable[[float], None]) -> None:
    """When it returns while as many as there may be are under way its lane waits like others, in the order of becoming ready."""
    patience(0)
    stage = Stage()
    tasks = await stage.submit_all("slow", lane="slow")
    await until(lambda: not stage.batcher._serving)
    patience(FOREVER_SECONDS)
    tasks += await stage.occupy(*(f"full {n}" for n in range(CALLS)))
    tasks += await stage.submit_all("before", lane="before")
    tasks += await stage.submit_all("slow again", lane="slow")
    await stage.answer(lane="slow")
    assert tasks[0].result() == outcome_of("slow")
    tasks += await stage.submit_all("behind", lane="behind")
    assert len(stage.calls) == 1 + CALLS
    await stage.answer(lane="full 0")
    assert list(stage.calls[-1].items()) == [("before", ["before"]), ("slow", ["slow again"]), ("behind", ["behind"])]
    await stage.answer_all()
    assert all(isinstance(outcome, str) for outcome in await results(tasks))
    await stage.assert_idle()


async def test_a_call_that_took_long_is_followed_by_its_lane_at_once(patience: Callable[[float], None]) -> None:
    """When there is a free one by then."""
    patience(0)
    stage = Stage()
    tasks = await stage.submit_all(1)
    await until(lambda: not stage.batcher._serving)
    tasks += await stage.submit_all(2, 3)
    for items in ([1], [2, 3]):
        assert stage.items[-1] == items
        await stage.answer()
    assert await results(tasks) == outcomes_of(1, 2, 3)
    await stage.assert_idle()


async def test_a_call_that_follows_another_has_a_time_of_its_own(patience: Callable[[float], None]) -> None:
    """It keeps its place when the other's would be over."""
    patience(0.05)
    stage = Stage()
    tasks = await stage.submit_all(1)
    patience(FOREVER_SECONDS)
    tasks += await stage.submit_all(2)
    await stage.answer()
    assert stage.items == [[1], [2]]
    tasks += await stage.occupy(*(f"full {n}" for n in range(CALLS - 1)))
    await asyncio.sleep(0.1)
    tasks += await stage.submit_all("waits", lane="waits")
    assert len(stage.under_way) == CALLS
    await stage.answer_all()
    assert all(isinstance(outcome, str) for outcome in await results(tasks))
    await stage.assert_idle()


@pytest.mark.parametrize("lane", ["lane", "another"])
async def test_the_next_call_begins_before_the_answers_are_written(lane: str) -> None:
    """In the very turn of the event loop in which the outcomes of the last one come, for whoever waits in whatever lane."""
    log: list[str] = []
    arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(lanes: Mapping[str, list[str]]) -> list[str]:
        items = list(chain.from_iterable(lanes.values()))
        log.append(f"call for {' '.join(items)}")
        if "first" in items or "full" in items:
            await arrival
            log.append("outcomes")
        return items

    batcher = Batcher[str, str, str](call, max_size=100, max_pending=MAX_PENDING)

    async def handle(lane: str, item: str) -> None:
        log.append(f"{await batcher.submit(lane, item)} is answered")

    handlers = []
    for other, item in [("lane", "first"), ("full", "full"), (lane, "next"), (lane, "and next")]:
        handlers.append(asyncio.create_task(handle(other, item)))
        await ticks()
    assert log == ["call for first", "call for full"]
    del log[:]
    arrival.set_result(None)
    asyncio.get_running_loop().call_soon(log.append, "a turn later")
    await results(handlers)
    assert log[:3] == ["outcomes", "call for next and next", "outcomes"]
    assert log[3] == "a turn later"
    assert sorted(log[4:]) == ["and next is answered", "first is answered", "full is answered", "next is answered"]
    await ticks()
    assert_empty(batcher)


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


@pytest.mark.parametrize("places", [[0], [3], [6], [0, 6], [2, 3], range(7)])
async def test_a_poisoned_request_fails_alone(places: Sequence[int]) -> None:
    """With its own error; its neighbours succeed, each once and in order, and so does whoever comes after them."""
    fragile = Fragile()
    items = ["poison" if n in places else "good" for n in range(7)]
    items = [f"{item} {n}" for n, item in enumerate(items)]
    tasks = fragile.submit("lane", *items)
    await until(lambda: fragile.calls)
    assert fragile.calls == [{"lane": items}]
    tasks += fragile.submit("lane", "later")
    await fragile.assert_settled([*items, "later"], tasks)
    assert fragile.calls == [{"lane": items}, *({"lane": [item]} for item in items), {"lane": ["later"]}]


@pytest.mark.parametrize("places", [[0], [3], [8], [0, 1, 2], [2, 3], [1, 4, 7], range(9)])
async def test_a_poisoned_request_in_a_shared_call_fails_alone(places: Sequence[int]) -> None:
    """First each lane is called for alone, then each item of those that still fail, in the order of their lane."""
    fragile = Fragile()
    items = [f"{'poison' if n in places else 'good'} {n}" for n in range(9)]
    lanes = {lane: items[3 * n : 3 * n + 3] for n, lane in enumerate("abc")}
    tasks = [task for lane, of_lane in lanes.items() for task in fragile.submit(lane, *of_lane)]
    await until(lambda: fragile.calls)
    assert fragile.calls == [lanes]
    tasks += fragile.submit("b", "later")
    await fragile.assert_settled([*items, "later"], tasks)
    assert sorted(fragile.calls[1:4], key=str) == [{lane: of_lane} for lane, of_lane in lanes.items()]
    for lane, of_lane in lanes.items():
        one_by_one = [[item] for item in of_lane] if any("poison" in item for item in of_lane) else []
        later = [["later"]] if lane == "b" else []
        assert [call[lane] for call in fragile.calls if lane in call] == [of_lane, of_lane, *one_by_one, *later]


async def test_a_poisoned_request_that_is_alone_is_not_tried_again() -> None:
    """Its error is certain."""
    fragile = Fragile()
    with pytest.raises(Poisoned):
        await fragile.batcher.submit("lane", "poison")
    assert fragile.calls == [{"lane": ["poison"]}]


async def test_unavailable_fails_all_in_flight_without_a_retry() -> None:
    """For it may have taken effect; those that waited go out next, and the loss of theirs is not that of the next ones."""
    stage = Stage()
    tasks = await stage.submit_all("first")
    tasks += await stage.submit_all("a", "b", "c")
    await stage.answer(Unavailable("the first is lost"))
    waiting = await stage.submit_all("d", "e")
    await stage.answer(Unavailable("and so are these"))
    assert stage.items == [["first"], ["a", "b", "c"], ["d", "e"]]
    outcomes = await results(tasks)
    assert_refused(outcomes)
    assert [getattr(outcome, "message", "") for outcome in outcomes] == ["the first is lost"] + ["and so are these"] * 3
    await stage.answer()
    assert await results(waiting) == outcomes_of("d", "e")
    await stage.assert_idle()


async def test_unavailable_fails_all_lanes_of_a_call_without_a_retry() -> None:
    """Those of other calls are not concerned, nor those that wait in the same lanes."""
    stage = Stage()
    other = await stage.occupy("other")
    tasks = await stage.submit_lanes({"a": [1, 2], "b": [3]})
    waiting = await stage.submit_lanes({"b": [4], "a": [5]})
    lost = Unavailable("lost")
    await stage.answer(lost, lane="a")
    assert [outcome is lost for outcome in await results(tasks)] == [True] * 3
    assert len(stage.calls) == 3
    assert stage.calls[2] == {"a": [5], "b": [4]}
    await stage.answer_all()
    assert await results(waiting + other) == outcomes_of(4, 5, "other")
    await stage.assert_idle()


async def test_unavailable_while_items_are_tried_alone_is_the_end() -> None:
    """The one it met is not called for a second time, nor are those behind it for a first; those before have their outcomes."""
    stage = Stage()
    await stage.submit_all("first")
    tasks = await stage.submit_all("a", "b", "c", "d")
    await stage.answer()
    await stage.answer(ValueError("one of them is to blame"))
    await stage.answer()
    later = await stage.submit_all("later")
    lost = Unavailable("lost")
    await stage.answer(lost)
    assert await results(tasks) == [outcome_of("a"), lost, lost, lost]
    assert stage.items == [["first"], ["a", "b", "c", "d"], ["a"], ["b"], ["later"]]
    await stage.answer()
    assert await results(later) == [outcome_of("later")]
    await stage.assert_idle()


async def test_busy_with_several_lanes_calls_for_each_alone() -> None:
    """At the same time, each for as long as it takes: one that is stuck blocks neither the others nor new ones.

    The order within the lanes is kept; later requests of the stuck one wait behind it.
    """
    stage = Stage()
    lanes = {"stuck": [1, 2], "a": [3], "b": [4, 5], "c": [6]}
    tasks = await stage.submit_lanes(lanes)
    later = await stage.submit_lanes({"a": [7], "stuck": [8, 9]})
    await stage.answer(Busy("somebody holds a lock"), lane="stuck")
    assert stage.calls == [lanes, *({lane: items} for lane, items in lanes.items())]
    assert len(stage.under_way) == 4
    for lane in ("c", "a", "b"):
        await stage.answer(lane=lane)
    assert await results(tasks[2:]) == outcomes_of(3, 4, 5, 6)
    assert stage.calls[5:] == [{"a": [7]}]
    await stage.answer(lane="a")
    assert await results(later[:1]) == outcomes_of(7)
    for n in range(10):
        others = await stage.submit_lanes({"a": [n], "b": [n]})
        later += await stage.submit_all(n, lane="stuck")
        assert stage.calls[-1] == {"a": [n], "b": [n]}
        others += await stage.occupy("c")
        await stage.answer(lane="a")
        await stage.answer(lane="c")
        assert await results(others) == outcomes_of(n, n, "c")
    assert not any(task.done() for task in tasks[:2] + later[1:])
    await stage.answer(lane="stuck")
    assert await results(tasks[:2]) == outcomes_of(1, 2)
    assert stage.calls[-1] == {"stuck": [8, 9, *range(10)]}
    await stage.answer(lane="stuck")
    assert await results(later[1:]) == outcomes_of(8, 9, *range(10))
    await stage.assert_idle()


async def test_lanes_that_are_called_for_alone_are_none_of_the_calls() -> None:
    """As many as ever go on beside them, and no more, also when they come back."""
    stage = Stage()
    tasks = await stage.submit_lanes({lane: [lane] for lane in "abcd"})
    await stage.answer(Busy("somebody holds a lock"), lane="a")
    tasks += await stage.occupy(*(f"full {n}" for n in range(CALLS)))
    assert len(stage.under_way) == 4 + CALLS
    tasks += await stage.submit_lanes({"a": ["a"], "new": ["new"]})
    for lane in "ba":
        await stage.answer(lane=lane)
    assert len(stage.under_way) == 2 + CALLS
    await stage.answer(lane="full 0")
    assert stage.calls[-1] == {"new": ["new"], "a": ["a"]}
    assert len(stage.under_way) == 2 + CALLS
    await stage.answer_all()
    assert await results(tasks) == outcomes_of(*"abcd", *(f"full {n}" for n in range(CALLS)), "a", "new")
    await stage.assert_idle()


@pytest.mark.parametrize("items", [[1], [1, 2, 3]])
async def test_busy_of_a_single_lane_fails_it(items: list[int]) -> None:
    """It is not tried again, neither together nor one by one; whoever waits behind it is served."""
    stage = Stage()
    tasks = await stage.submit_all(*items)
    later = await stage.submit_all("later")
    busy = Busy("somebody holds a lock")
    await stage.answer(busy)
    assert [outcome is busy for outcome in await results(tasks)] == [True] * len(items)
    assert_refused([busy])
    assert stage.items == [items, ["later"]]
    await stage.answer()
    assert await results(later) == [outcome_of("later")]
    await stage.assert_idle()


async def test_whatever_becomes_of_lanes_that_are_called_for_alone() -> None:
    """Busy again, lost, poisoned or well: each has its own outcome, and those that wait in it are served."""
    stage = Stage()
    lanes = {lane: [f"{lane} {n}" for n in range(2)] for lane in ("busy", "lost", "poisoned", "good")}
    tasks = await stage.submit_lanes(lanes)
    later = await stage.submit_lanes({lane: ["later"] for lane in lanes})
    await stage.answer(Busy("somebody holds a lock"), lane="busy")
    busy, lost, poisoned = Busy("still"), Unavailable("lost"), ValueError("poisoned")
    await stage.answer(lost, lane="lost")
    await stage.answer(poisoned, lane="poisoned")
    await stage.answer(poisoned, lane="poisoned")
    await stage.answer(lane="poisoned")
    await stage.answer(lane="good")
    await stage.answer(busy, lane="busy")
    expected = [busy, busy, lost, lost, poisoned, outcome_of("poisoned 1"), *outcomes_of("good 0", "good 1")]
    assert await results(tasks) == expected
    await stage.answer_all()
    assert await results(later) == outcomes_of(*["later"] * 4)
    for lane, items in lanes.items():
        one_by_one = [[item] for item in items] if lane == "poisoned" else []
        assert [call[lane] for call in stage.calls if lane in call] == [items, items, *one_by_one, ["later"]]
    await stage.assert_idle()


@pytest.mark.parametrize("gone", [[0], [2], [4], [1, 3], range(5)])
async def test_a_cancelled_request_that_still_waited_is_not_called_for(gone: Sequence[int]) -> None:
    """The others keep their order; when none is left there is no call."""
    stage = Stage()
    [first] = await stage.submit_all("first")
    tasks = await stage.submit_all(*range(5))
    for n in gone:
        tasks[n].cancel()
    await ticks()
    left = [n for n in range(5) if n not in gone]
    assert stage.batcher._pending == 1 + len(left)
    await stage.answer()
    assert first.result() == outcome_of("first")
    assert stage.items == [["first"], left][: 1 + bool(left)]
    if left:
        await stage.answer()
    assert [task.cancelled() for task in tasks] == [n in gone for n in range(5)]
    assert [tasks[n].result() for n in left] == outcomes_of(*left)
    await stage.assert_idle()


async def test_who_has_gone_takes_no_room() -> None:
    """In a call, or in memory."""
    stage = Stage(max_size=2)
    await stage.submit_all("first")
    tasks = await stage.submit_all(*range(5))
    for n in (0, 2):
        tasks[n].cancel()
    await ticks()
    assert list(stage.batcher._lanes["lane"].values()) == [1, 3, 4]
    await stage.answer()
    await stage.answer()
    await stage.answer()
    assert stage.items == [["first"], [1, 3], [4]]
    await stage.assert_idle()


@pytest.mark.parametrize("gone", [["a"], ["b", "c"], ["a", "b", "c"]])
async def test_a_lane_all_of_whose_requests_were_cancelled_is_not_called_for(gone: Sequence[str]) -> None:
    """Whether the others gather for a shared call; also when they go in the very moment in which it begins."""
    stage = Stage()
    for at_once in (False, True):
        full = await stage.occupy(*(f"full {n}" for n in range(CALLS)))
        tasks = dict(zip("abc", await stage.submit_lanes({lane: [lane] for lane in "abc"}), strict=True))
        begun = len(stage.calls)
        if at_once:
            stage.call("full 0").answer.set_result(["full 0"])
        for lane in gone:
            tasks[lane].cancel()
        if not at_once:
            await ticks()
            stage.call("full 0").answer.set_result(["full 0"])
        await ticks()
        left = {lane: [lane] for lane in "abc" if lane not in gone}
        assert stage.calls[begun:] == ([left] if left else [])
        await stage.answer_all()
        await results([*full, *tasks.values()])
        assert [lane for lane, task in tasks.items() if task.cancelled()] == list(gone)
        await stage.assert_idle()


async def test_a_request_cancelled_in_flight_harms_nobody() -> None:
    """Neither its neighbours, whose outcomes stay theirs, nor those that wait."""
    for answer in (None, Unavailable("lost"), ValueError("poisoned")):
        stage = Stage()
        await stage.submit_all("first")
        tasks = await stage.submit_all("a", "b", "c")
        await stage.answer()
        later = await stage.submit_all("d")
        tasks[1].cancel()
        await ticks()
        assert tasks[1].cancelled()
        await stage.answer(answer)
        await stage.answer_all()  # those tried alone, and the one that came later
        outcomes = [tasks[0].result(), tasks[2].result()] if not isinstance(answer, Unavailable) else []
        assert outcomes == [outcome_of("a"), outcome_of("c")][: len(outcomes)]
        if isinstance(answer, ValueError):
            assert stage.items[2:] == [["a"], ["c"], ["d"]]
        assert await results(later) == [outcome_of("d")]
        await results(tasks)
        await stage.assert_idle()


@pytest.mark.parametrize("answer", [None, Unavailable("lost"), Busy("busy"), ValueError("poisoned")], ids=type)
@pytest.mark.parametrize("gone", [[0], [1, 2], [0, 1, 2, 3]])
async def test_requests_cancelled_in_a_shared_call_harm_nobody(answer: Answer | None, gone: list[int]) -> None:
    """Whatever becomes of the call: the others of the lane and of other lanes have their outcomes, and those behind them."""
    stage = Stage()
    tasks = await stage.submit_lanes({"a": [0, 1], "b": [2, 3]})
    later = await stage.submit_lanes({"a": [4], "b": [5]})
    for n in gone:
        tasks[n].cancel()
    await ticks()
    await stage.answer(answer, lane="a")
    await stage.answer_all()
    lost = isinstance(answer, Unavailable) and not isinstance(answer, Busy)
    for n, outcome in enumerate(await results(tasks)):
        if n in gone:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert outcome == (answer if lost else outcome_of(n))
    assert await results(later) == outcomes_of(4, 5)
    await stage.assert_idle()


@pytest.mark.parametrize("gone", [[0], [1], [0, 1], [2], [0, 1, 2]])
@pytest.mark.parametrize("answer", [None, Busy("busy"), ValueError("poisoned")], ids=type)
async def test_requests_cancelled_while_lanes_are_called_for_alone_harm_nobody(answer: Answer | None, gone: list[int]) -> None:
    """Neither the others of their lane, nor those that wait behind them, nor other lanes."""
    stage = Stage()
    tasks = await stage.submit_lanes({"a": [0, 1], "b": [2]})
    await stage.answer(Busy("somebody holds a lock"), lane="a")
    later = await stage.submit_lanes({"a": [3, 4], "b": [5]})
    for n in gone:
        tasks[n].cancel()
    later.pop(0).cancel()
    await ticks()
    await stage.answer(answer, lane="a")
    await stage.answer_all()
    for n, outcome in enumerate(await results(tasks)):
        if n in gone:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert outcome == (answer if isinstance(answer, Busy) and n < 2 else outcome_of(n))
    assert await results(later) == outcomes_of(4, 5)
    assert all(3 not in items for items in stage.items), "it had gone while it waited"
    await stage.assert_idle()


async def test_cancelled_before_it_was_called_for() -> None:
    """Its lane was opened for it, and serves those that came behind it."""
    stage = Stage()
    first, second = stage.submit("first"), stage.submit("second")
    await asyncio.sleep(0)  # both are in the lane, and the lane has not begun
    assert stage.calls == []
    first.cancel()
    await ticks()
    await stage.answer()
    assert second.result() == outcome_of("second")
    assert stage.items == [["second"]]
    await stage.assert_idle()
    alone = stage.submit("alone")
    await asyncio.sleep(0)
    alone.cancel()
    await ticks()
    assert stage.items == [["second"]]
    assert alone.cancelled()
    await stage.assert_idle()


def refused_at_once(stage: Stage, item: object = "refused", lane: str = "lane") -> None:
    """A request is answered OVERLOADED without waiting for anything whatever, and is not called for."""
    with pytest.raises(Unavailable) as refusal:
        stage.batcher.submit(lane, item).send(None)
    assert_refused([refusal.value], "OVERLOADED")


async def test_overloaded_at_exactly_max_pending(patience: Callable[[float], None]) -> None:
    """Those in flight and those that wait count, in all lanes together; when any of them is done there is room for one more."""
    patience(0)
    stage = Stage(max_size=2, max_pending=7)
    tasks = await stage.submit_all(1, 2, 3, 4, lane="a")
    tasks += await stage.submit_all(5, 6, lane="b")
    for n in range(3):
        tasks += await stage.submit_all("last", lane="c")
        for lane in ("a", "b", "c", "d"):
            refused_at_once(stage, lane=lane)
        await until(lambda: len(stage.calls) == 3 + n)  # noqa: B023 - awaited before the next round
        await stage.answer(lane="c")
        assert tasks.pop().result() == outcome_of("last")
    assert stage.batcher._pending == 6
    tasks += await stage.submit_all("last", lane="b")
    refused_at_once(stage)
    await stage.answer_all()
    assert await results(tasks) == outcomes_of(1, 2, 3, 4, 5, 6, "last")
    assert all("refused" not in items for items in stage.items)
    await stage.assert_idle()


@pytest.mark.parametrize("place", range(4))
async def test_a_cancelled_request_frees_its_place(place: int) -> None:
    """In flight (the first) or waiting: exactly one more is let in."""
    stage = Stage(max_pending=4)
    tasks = await stage.submit_all(0)
    tasks += await stage.submit_all(1, 2, 3)
    refused_at_once(stage)
    tasks[place].cancel()
    await ticks()
    tasks += await stage.submit_all("new")
    refused_at_once(stage)
    await stage.answer()
    await stage.answer()
    outcomes = await results(tasks)
    assert isinstance(outcomes.pop(place), asyncio.CancelledError)
    assert outcomes == outcomes_of(*(n for n in [0, 1, 2, 3, "new"] if n != place))
    await stage.assert_idle()


@pytest.mark.parametrize("failure", [Unavailable("lost"), Busy("busy"), ValueError("broken"), asyncio.CancelledError(), []])
async def test_a_failed_request_frees_its_place(failure: Answer) -> None:
    """However its call failed."""
    stage = Stage(max_pending=1)
    for n in range(3):
        [task] = await stage.submit_all(n)
        refused_at_once(stage)
        await stage.answer(failure)
        assert isinstance(task.exception(), Exception)
        await stage.assert_idle()
    [task] = await stage.submit_all("good")
    await stage.answer()
    assert task.result() == outcome_of("good")


@pytest.mark.parametrize("lanes", [{"a": [0, 1, 2, 3]}, {"a": [0, 1], "b": [2], "c": [3]}], ids=len)
@pytest.mark.parametrize("count", range(4))
async def test_a_call_that_returns_too_few_outcomes(count: int, lanes: dict[str, list[int]]) -> None:
    """Nobody hangs: those it has none for fail, and those that wait are served."""
    stage = Stage()
    tasks = await stage.submit_lanes(lanes)
    later = await stage.submit_all("later", lane="a")
    await stage.answer(list(range(count)), lane="a")
    outcomes = await results(tasks)
    assert outcomes[:count] == list(range(count))
    assert [type(outcome) for outcome in outcomes[count:]] == [RuntimeError] * (4 - count)
    assert stage.calls == [lanes, {"a": ["later"]}]
    await stage.answer(lane="a")
    assert await results(later) == [outcome_of("later")]
    await stage.assert_idle()


@pytest.mark.parametrize("answer", [None, asyncio.CancelledError(), 5, (n for n in range(0))], ids=type)
@pytest.mark.parametrize("lane_count", [1, 2, 5])
async def test_a_call_that_does_what_no_call_should(answer: Any, lane_count: int) -> None:
    """Returns no sequence, or is cancelled from within: nobody hangs, the next ones are served, and the fault is reported."""

    async def call(lanes: Mapping[str, list[object]]) -> Any:
        await asyncio.sleep(0)
        if "good" in chain.from_iterable(lanes.values()):
            return list(chain.from_iterable(lanes.values()))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    try:
        batcher = Batcher[str, object, object](call, max_size=2, max_pending=MAX_PENDING)
        for outcome in await results([asyncio.create_task(batcher.submit(f"lane {n % lane_count}", n)) for n in range(5)]):
            assert isinstance(outcome, Exception)
        await ticks()
        assert_empty(batcher)
        assert await batcher.submit("lane 0", "good") == "good"
        await ticks()
        assert_empty(batcher)
        gc.collect()  # of a task that has failed it is reported when it goes
    finally:
        loop.set_exception_handler(None)
    assert [type(fault) for fault in reported] == ([TypeError] * 3 if answer in (None, 5) else [])


def cancel(stage: Stage, lane: str = "lane") -> None:
    """Whoever makes the lane's call is cancelled, as when the process stops."""
    task = stage.call(lane).task
    assert task is not None
    task.cancel()


async def test_a_cancelled_call_leaves_nobody_hanging() -> None:
    """As when the process stops: those in flight and all that wait are told to go elsewhere; other calls go on."""
    stage = Stage(max_size=3)
    tasks = await stage.submit_lanes({"a": [0, 1], "b": [2]})
    others = await stage.submit_all("other", lane="other")
    tasks += await stage.submit_lanes({"a": [3, 4], "c": [5], "other": [6]})
    cancel(stage, "a")
    assert_stopping(await results(tasks))
    assert stage.calls == [{"a": [0, 1], "b": [2]}, {"other": ["other"]}]
    again = await stage.submit_all("again", lane="b")
    await stage.answer(lane="b")
    await stage.answer(lane="other")
    assert await results(again + others) == outcomes_of("again", "other")
    await stage.assert_idle()


async def test_a_call_cancelled_while_it_tries_items_alone() -> None:
    """Those that were tried have their outcomes; the others are told to go elsewhere."""
    stage = Stage()
    await stage.submit_all("first")
    tasks = await stage.submit_all("a", "b", "c")
    await stage.answer()
    tasks += await stage.submit_all("d")
    await stage.answer(ValueError("one of them is to blame"))
    await stage.answer()
    cancel(stage)
    outcomes = await results(tasks)
    assert outcomes[0] == outcome_of("a")
    assert_stopping(outcomes[1:])
    assert stage.items[2:] == [["a"], ["b"]]
    await stage.assert_idle()


async def test_a_call_cancelled_while_lanes_are_called_for_alone() -> None:
    """Its own requests and all that wait are told to go elsewhere; the other lanes' calls go on."""
    stage = Stage()
    tasks = await stage.submit_lanes({"a": [0, 1], "b": [2]})
    await stage.answer(Busy("somebody holds a lock"), lane="a")
    tasks += await stage.submit_lanes({"a": [3], "b": [4]})
    cancel(stage, "a")
    assert_stopping(await results(tasks[:2] + tasks[3:]))
    again = await stage.submit_all("again", lane="a")
    await stage.answer_all()
    assert await results([tasks[2], *again]) == outcomes_of(2, "again")
    await stage.assert_idle()


async def test_calls_cancelled_before_they_began() -> None:
    """In the very moment in which a request came, or in which its lane is to be called for alone."""
    stage = Stage()
    task = stage.submit("early")
    await asyncio.sleep(0)
    [serving] = stage.batcher._tasks
    assert stage.calls == []
    serving.cancel()
    await ticks()
    hangs = not task.done()
    task.cancel()
    assert not hangs
    assert_stopping(await results([task]))
    await stage.assert_idle()

    tasks = await stage.submit_lanes({"a": [0, 1], "b": [2]})
    stage.call("a").answer.set_result(Busy("somebody holds a lock"))
    await asyncio.sleep(0)
    assert stage.calls == [{"a": [0, 1], "b": [2]}]
    alone = [each for each in stage.batcher._tasks if each not in stage.batcher._serving]
    assert len(alone) == 2
    for each in alone:
        each.cancel()
    assert_stopping(await results(tasks))
    assert len(stage.calls) == 1
    await stage.assert_idle()


async def test_lanes_do_not_wait_for_each_other() -> None:
    """While a call of one is under way, another is served many times, and a third fails."""
    stage = Stage()
    stuck = await stage.submit_all(1, 2, lane="stuck")
    for n in range(20):
        tasks = await stage.submit_all(n, lane="free")
        tasks += await stage.submit_all(n, lane="broken")
        await stage.answer(lane="free")
        await stage.answer(ValueError("broken"), lane="broken")
        outcomes = await results(tasks)
        assert outcomes[0] == outcome_of(n)
        assert isinstance(outcomes[1], ValueError)
    stuck += await stage.submit_all(3, lane="stuck")
    assert not any(task.done() for task in stuck)
    await stage.answer(lane="stuck")
    await stage.answer(lane="stuck")
    assert await results(stuck) == outcomes_of(1, 2, 3)
    await stage.assert_idle()


@pytest.mark.parametrize("latency_ticks", [0, 1, 3])
async def test_a_lane_that_is_never_idle_starves_no_other(latency_ticks: int) -> None:
    """Not even when its calls take no time at all."""

    async def call(lanes: Mapping[str, list[int]]) -> list[int]:
        await ticks(latency_ticks)
        return list(chain.from_iterable(lanes.values()))

    batcher = Batcher[str, int, int](call, max_size=2, max_pending=MAX_PENDING)
    counts = [0] * 5

    async def insist(n: int) -> None:
        while True:
            assert await batcher.submit("busy", n) == n
            counts[n] += 1

    busy = [asyncio.create_task(insist(n)) for n in range(5)]
    await ticks(100)
    for n in range(20):
        task = asyncio.create_task(batcher.submit("quiet", n))
        await ticks(5 + latency_ticks)
        assert task.result() == n
    assert max(counts) - min(counts) <= 3, "one of them is served more often than another"
    for client in busy:
        client.cancel()
    await results(busy)
    await ticks()
    assert_empty(batcher)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("max_size", [1, 4, 10])
async def test_a_hot_lane_among_many_starves_none(monkeypatch: pytest.MonkeyPatch, max_size: int, calls: int) -> None:
    """Whoever is alone in a lane is called for before another lane has a second turn; the hot lane has as many as they."""
    monkeypatch.setattr(batcher_module, "CALLS", calls)
    turns: Counter[str] = Counter()
    waits: list[int] = []

    async def call(lanes: Mapping[str, list[Counter[str] | None]]) -> list[None]:
        for lane, [before, *_] in lanes.items():
            if before is not None:
                waits.append(max([turns[other] - before[other] for other in turns], default=0))
            turns[lane] += 1
        await ticks(3)
        return [None for items in lanes.values() for _ in items]

    batcher = Batcher[str, Counter[str] | None, None](call, max_size=max_size, max_pending=MAX_PENDING)

    async def insist() -> None:
        while True:
            await batcher.submit("hot", None)

    async def come_and_go(lane: str) -> None:
        for _ in range(20):
            await batcher.submit(lane, turns.copy())

    hot = [asyncio.create_task(insist()) for _ in range(30)]
    quiet = [asyncio.create_task(come_and_go(f"quiet {n}")) for n in range(12)]
    outcomes = await results(quiet)
    for client in hot:
        client.cancel()
    await results(hot)
    assert outcomes == [None] * 12
    assert len(waits) == 240
    assert max(waits) == 1
    assert turns["hot"] >= 20
    await ticks()
    assert_empty(batcher)
