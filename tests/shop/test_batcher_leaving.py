"""The batcher where clients leave, calls are cancelled or do what they should not, and more come than may wait."""

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import pytest

from lastpair.errors import Busy, Unavailable
from lastpair.shop.batcher import MAX_CALLS, Batcher
from tests.support.batcher import (
    MAX_PENDING,
    Answer,
    Stage,
    assert_empty,
    assert_stopping,
    cancel,
    outcome_of,
    outcomes_of,
    patience,
    refused_at_once,
    results,
    ticks,
    until,
)

__all__ = ["patience"]  # every test


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
        full = await stage.occupy(*(f"full {n}" for n in range(MAX_CALLS)))
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
    alone = [each for each in stage.batcher._tasks if each not in stage.batcher._calling]
    assert len(alone) == 2
    for each in alone:
        each.cancel()
    assert_stopping(await results(tasks))
    assert len(stage.calls) == 1
    await stage.assert_idle()
