"""The batcher without a database: who is called for with whom, who gets which outcome, and that nobody is left waiting."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from app.batcher import Batcher
from app.http import Refusal, Unavailable

Answer = Sequence[Any] | BaseException
Outcome = TypeVar("Outcome")

MAX_PENDING = 1000
PATIENCE_SECONDS = 10


async def ticks(count: int = 10) -> None:
    """Let everybody who can go on do so, that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def outcome_of(item: object) -> str:
    """What a call answers for an item."""
    return f"outcome of {item}"


class Stage:
    """A batcher, and what it calls: every call is noted and goes on for as long as the test wants."""

    def __init__(self, max_size: int = 100, max_pending: int = MAX_PENDING) -> None:
        self.batcher = Batcher[str, Any, Any](self._call, max_size=max_size, max_pending=max_pending)
        self.calls: list[tuple[str, list[Any]]] = []
        self._answers: dict[str, asyncio.Future[Answer]] = {}

    async def _call(self, lane: str, items: list[Any]) -> Sequence[Any]:
        assert lane not in self._answers, "two calls at a time in a lane"
        self.calls.append((lane, items))
        self._answers[lane] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._answers[lane]
        finally:
            del self._answers[lane]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def submit(self, item: object, lane: str = "lane") -> asyncio.Task[Any]:
        """A request, whose outcome is awaited."""
        return asyncio.create_task(self.batcher.submit(lane, item))

    async def submit_all(self, *items: object, lane: str = "lane") -> list[asyncio.Task[Any]]:
        """Requests in this order; comes back when nothing more happens by itself."""
        tasks = [self.submit(item, lane) for item in items]
        await ticks()
        return tasks

    async def answer(self, answer: Answer | None = None, lane: str = "lane") -> None:
        """The call that is under way in the lane returns, with the outcome of each of its items unless another is given."""
        [items] = [items for called, items in self.calls[::-1] if called == lane][:1]
        self._answers[lane].set_result([outcome_of(item) for item in items] if answer is None else answer)
        await ticks()

    @property
    def items(self) -> list[list[Any]]:
        """Of each call so far."""
        return [items for _, items in self.calls]

    async def assert_idle(self) -> None:
        """Nobody waits, and nothing is left of those that did."""
        await ticks()
        assert self._answers == {}
        assert_empty(self.batcher)


def assert_empty(batcher: Batcher[Any, Any, Any]) -> None:
    """Its state is that of a new one."""
    assert (batcher._lanes, batcher._tasks, batcher._pending) == ({}, set(), 0)


async def results(tasks: Sequence["asyncio.Task[Outcome]"]) -> list[Outcome | BaseException]:
    """How each request ended, all of them soon."""
    done, pending = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
    assert not pending, f"{len(pending)} of {len(tasks)} requests hang"
    assert len(done) == len(tasks)
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def assert_refused(outcomes: Sequence[object], code: str = "DATABASE_UNAVAILABLE") -> None:
    """All are told 503 with that code and when to come again."""
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(outcomes)
    for outcome in outcomes:
        assert isinstance(outcome, Refusal)
        assert (outcome.status, outcome.code) == (503, code)
        assert int((outcome.headers or {})["retry-after"]) > 0


async def test_a_lone_request_is_called_for_at_once_and_alone() -> None:
    """Every time, not only the first; no timer is involved."""
    stage = Stage()
    for item in range(5):
        [task] = await stage.submit_all(item)
        assert stage.calls[item:] == [("lane", [item])]
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
    assert [task.result() for task in tasks] == [outcome_of(item) for item in ["first", *"abcd"]]
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
    assert [task.result() for task in tasks] == [outcome_of(item) for item in ["first", *range(10)]]
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


class Poisoned(Exception):
    """Raised by a call for an item it cannot bear."""


class Fragile:
    """A call that fails as a whole, without an effect, when it holds an item that it cannot bear."""

    def __init__(self, max_size: int = 100) -> None:
        self.batcher = Batcher[str, str, str](self._call, max_size=max_size, max_pending=MAX_PENDING)
        self.calls: list[list[str]] = []
        self.effects: Counter[str] = Counter()

    async def _call(self, _: str, items: list[str]) -> list[str]:
        self.calls.append(items)
        await asyncio.sleep(0)
        for item in items:
            if item.startswith("poison"):
                raise Poisoned(item)
        self.effects.update(items)
        return [outcome_of(item) for item in items]


@pytest.mark.parametrize("places", [[0], [3], [6], [0, 6], [2, 3], range(7)])
async def test_a_poisoned_request_fails_alone(places: Sequence[int]) -> None:
    """With its own error; its neighbours succeed, each once and in order, and so does whoever comes after them."""
    fragile = Fragile()
    items = ["poison" if n in places else "good" for n in range(7)]
    items = [f"{item} {n}" for n, item in enumerate(items)]
    tasks = [asyncio.create_task(fragile.batcher.submit("lane", item)) for item in items]
    while not fragile.calls:
        await asyncio.sleep(0)
    assert fragile.calls == [items]
    later = asyncio.create_task(fragile.batcher.submit("lane", "later"))
    outcomes = await results([*tasks, later])
    for item, outcome in zip([*items, "later"], outcomes, strict=True):
        if item.startswith("poison"):
            assert isinstance(outcome, Poisoned)
            assert outcome.args == (item,)
        else:
            assert outcome == outcome_of(item)
    assert fragile.effects == {item: 1 for item in [*items, "later"] if not item.startswith("poison")}
    assert fragile.calls == [items, *([item] for item in items), ["later"]]
    await ticks()
    assert_empty(fragile.batcher)


async def test_a_poisoned_request_that_is_alone_is_not_tried_again() -> None:
    """Its error is certain."""
    fragile = Fragile()
    with pytest.raises(Poisoned):
        await fragile.batcher.submit("lane", "poison")
    assert fragile.calls == [["poison"]]


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
    assert await results(waiting) == [outcome_of("d"), outcome_of("e")]
    await stage.assert_idle()


async def test_unavailable_while_items_are_tried_alone_is_not_tried_again() -> None:
    """The one it met is not called for a second time, and nobody hangs."""
    stage = Stage()
    await stage.submit_all("first")
    tasks = await stage.submit_all("a", "b")
    await stage.answer()
    await stage.answer(ValueError("one of them is to blame"))
    await stage.answer(Unavailable("lost"))
    with suppress(KeyError):  # whether the other one is tried at all is not said
        await stage.answer()
    [lost, other] = await results(tasks)
    assert_refused([lost])
    assert other == outcome_of("b") or isinstance(other, Unavailable)
    assert stage.items[:4] == [["first"], ["a", "b"], ["a"], ["b"]][: len(stage.calls)]
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
    assert [tasks[n].result() for n in left] == [outcome_of(n) for n in left]
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
        while stage.batcher._lanes:  # those tried alone, and the one that came later
            await stage.answer()
        outcomes = [tasks[0].result(), tasks[2].result()] if not isinstance(answer, Unavailable) else []
        assert outcomes == [outcome_of("a"), outcome_of("c")][: len(outcomes)]
        assert await results(later) == [outcome_of("d")]
        await results(tasks)
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
    assert stage.items[-1][-1] == "second"
    await stage.assert_idle()
    alone = stage.submit("alone")
    await asyncio.sleep(0)
    alone.cancel()
    await ticks()
    if stage.batcher._lanes:
        await stage.answer()
    assert alone.cancelled()
    await stage.assert_idle()


def refused_at_once(stage: Stage, item: object = "refused", lane: str = "lane") -> None:
    """A request is answered OVERLOADED without waiting for anything whatever, and is not called for."""
    with pytest.raises(Unavailable) as refusal:
        stage.batcher.submit(lane, item).send(None)
    assert_refused([refusal.value], "OVERLOADED")


async def test_overloaded_at_exactly_max_pending() -> None:
    """Those in flight and those that wait count, in all lanes together; when any of them is done there is room for one more."""
    stage = Stage(max_size=2, max_pending=7)
    tasks = await stage.submit_all(1, 2, 3, 4, lane="a")
    tasks += await stage.submit_all(5, 6, lane="b")
    for _ in range(3):
        tasks += await stage.submit_all("last", lane="c")
        for lane in ("a", "b", "c", "d"):
            refused_at_once(stage, lane=lane)
        await stage.answer(lane="c")
        assert tasks.pop().result() == outcome_of("last")
    assert stage.batcher._pending == 6
    tasks += await stage.submit_all("last", lane="b")
    refused_at_once(stage)
    while stage.batcher._lanes:
        for lane in list(stage.batcher._lanes):
            await stage.answer(lane=lane)
    assert await results(tasks) == [outcome_of(item) for item in [1, 2, 3, 4, 5, 6, "last"]]
    assert all("refused" not in items for items in stage.items)
    await stage.assert_idle()


@pytest.mark.parametrize("place", range(4))
async def test_a_cancelled_request_frees_its_place(place: int) -> None:
    """In flight (the first) or waiting: exactly one more is let in."""
    stage = Stage(max_pending=4)
    tasks = [stage.submit(n) for n in range(1)]
    await ticks()
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
    assert outcomes == [outcome_of(n) for n in [0, 1, 2, 3, "new"] if n != place]
    await stage.assert_idle()


@pytest.mark.parametrize("failure", [Unavailable("lost"), ValueError("broken"), asyncio.CancelledError(), []])
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


@pytest.mark.parametrize("count", range(4))
async def test_a_call_that_returns_too_few_outcomes(count: int) -> None:
    """Nobody hangs: those it has none for fail, and those that wait are served."""
    stage = Stage()
    await stage.submit_all("first")
    tasks = await stage.submit_all(*range(4))
    await stage.answer()
    later = await stage.submit_all("later")
    await stage.answer(list(range(count)))
    outcomes = await results(tasks)
    assert [type(outcome) for outcome in outcomes[count:]] == [RuntimeError] * (4 - count)
    await stage.answer()
    assert await results(later) == [outcome_of("later")]
    await stage.assert_idle()


@pytest.mark.parametrize("answer", [None, asyncio.CancelledError(), 5, (n for n in range(0))], ids=type)
async def test_a_call_that_does_what_no_call_should(answer: Any) -> None:
    """Returns no sequence, or is cancelled from within: nobody hangs, and the next ones are served."""

    async def call(_: str, items: list[object]) -> Any:
        await asyncio.sleep(0)
        if "good" in items:
            return items
        if isinstance(answer, BaseException):
            raise answer
        return answer

    batcher = Batcher[str, object, object](call, max_size=2, max_pending=MAX_PENDING)
    outcomes = await results([asyncio.create_task(batcher.submit("lane", n)) for n in range(5)])
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    for task in list(batcher._tasks):
        task.exception() if not task.cancelled() else None
    await ticks()
    assert_empty(batcher)
    assert await batcher.submit("lane", "good") == "good"


async def test_a_cancelled_lane_leaves_nobody_hanging() -> None:
    """As when the process stops: those in flight and those that wait are told to go elsewhere; other lanes go on."""
    stage = Stage(max_size=2)
    tasks = await stage.submit_all(*range(5))
    [serving] = stage.batcher._tasks
    others = await stage.submit_all("other", lane="other")
    serving.cancel()
    outcomes = await results(tasks)
    assert_refused(outcomes)
    assert "stopping" in getattr(outcomes[0], "message", "")
    assert stage.items == [[0, 1], ["other"]]
    again = await stage.submit_all("again")
    await stage.answer()
    await stage.answer(lane="other")
    assert await results(again + others) == [outcome_of("again"), outcome_of("other")]
    await stage.assert_idle()


async def test_a_lane_cancelled_while_it_tries_items_alone() -> None:
    """Those that were tried have their outcomes; the others are told to go elsewhere."""
    stage = Stage()
    await stage.submit_all("first")
    tasks = await stage.submit_all("a", "b", "c")
    await stage.answer()
    tasks += await stage.submit_all("d")
    await stage.answer(ValueError("one of them is to blame"))
    await stage.answer()
    [serving] = stage.batcher._tasks
    serving.cancel()
    outcomes = await results(tasks)
    assert outcomes[0] == outcome_of("a")
    assert_refused(outcomes[1:])
    assert stage.items[2:] == [["a"], ["b"]]
    await stage.assert_idle()


async def test_a_lane_cancelled_before_it_began() -> None:
    """In the very moment in which it was opened."""
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
    assert_refused(await results([task]))
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
    assert await results(stuck) == [outcome_of(n) for n in (1, 2, 3)]
    await stage.assert_idle()


@pytest.mark.parametrize("latency_ticks", [0, 1, 3])
async def test_a_lane_that_is_never_idle_starves_no_other(latency_ticks: int) -> None:
    """Not even when its calls take no time at all."""

    async def call(_: str, items: list[int]) -> list[int]:
        for _ in range(latency_ticks):
            await asyncio.sleep(0)
        return items

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
    for task in busy:
        task.cancel()
    await results(busy)
    await ticks()
    assert_empty(batcher)
