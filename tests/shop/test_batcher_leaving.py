"""The batcher where clients leave, calls are cancelled or break their contract, and more requests come than may wait."""

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from lastpair.errors import Busy, Unavailable
from lastpair.shop.batcher import Batcher, Places
from tests.support.batcher import (
    MAX_PENDING,
    Answer,
    HeldBatcher,
    Lanes,
    assert_empty,
    assert_unavailable,
    items_of,
    outcome_of,
    results,
    ticks,
    until,
)

pytestmark = pytest.mark.usefixtures("slow_after")

ONE_LANE, TWO_LANES = {"a": [0, 1, 2, 3]}, {"a": [0, 1], "b": [2, 3]}
STOPPING = "stopping"
"""In the message for requests that are not carried out because the process stops."""


@pytest.mark.parametrize("gone", [[0], [2], [4], [1, 3], range(5)])
async def test_a_request_that_left_while_it_waited_is_not_called(gone: Sequence[int]) -> None:
    """The others keep their order and find its place free; when none is left there is no call."""
    held = HeldBatcher(max_size=2)
    await held.submit_all("first")
    tasks = await held.submit_all(*range(5))
    await held.leave(*(tasks[n] for n in gone))
    left = [n for n in range(5) if n not in gone]
    assert held.batcher._pending == 1 + len(left)
    assert list(held.batcher._lanes["lane"].values()) == left
    await held.assert_served()
    assert held.items == [["first"], *(left[n : n + 2] for n in range(0, len(left), 2))]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("gone", [["a"], ["b", "c"], ["a", "b", "c"]])
async def test_a_lane_without_requests_is_not_called(gone: Sequence[str], at_once: bool) -> None:
    """Requests may leave while they gather for a shared call, and in the very moment in which the call begins."""
    held = HeldBatcher()
    await held.occupy("full")
    tasks = dict(zip("abc", await held.submit_lanes({lane: [lane] for lane in "abc"}), strict=True))
    answer = held.call_of("full").answer
    if at_once:
        answer.set_result([outcome_of("full")])
    await held.leave(*(tasks[lane] for lane in gone))
    if not at_once:
        answer.set_result([outcome_of("full")])
        await ticks()
    left = {lane: [lane] for lane in "abc" if lane not in gone}
    assert held.calls[1:] == ([left] if left else [])
    await held.assert_served()


@pytest.mark.parametrize("answer", [None, Unavailable("lost"), Busy("busy"), ValueError("poisoned")], ids=type)
@pytest.mark.parametrize("gone", [[0], [1, 2], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("lanes", [ONE_LANE, TWO_LANES], ids=len)
async def test_requests_that_leave_in_flight_harm_no_other(answer: Answer | None, gone: list[int], lanes: Lanes) -> None:
    """However the call ends, the others in it have their outcomes and later requests are served."""
    held = HeldBatcher()
    tasks = await held.submit_lanes(lanes)
    await held.submit_lanes({lane: ["later"] for lane in lanes})
    await held.leave(*(tasks[n] for n in gone))
    await held.answer(answer, lane="a")
    others = [task for n, task in enumerate(tasks) if n not in gone]
    if isinstance(answer, Unavailable) and not (isinstance(answer, Busy) and len(lanes) > 1):
        assert await results(others) == [answer] * len(others)
        await held.assert_served(but=others)
    else:
        await held.assert_served()
    if isinstance(answer, ValueError) and len(lanes) == 1:
        assert held.items[1:] == [*([n] for n in range(4) if n not in gone), ["later"]]


@pytest.mark.parametrize("gone", [[0], [1], [0, 1], [2], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("answer", [None, Busy("busy"), ValueError("poisoned")], ids=type)
async def test_requests_that_leave_while_lanes_are_called_alone(answer: Answer | None, gone: list[int]) -> None:
    """They harm neither the others of their lane, nor those that wait behind them, nor other lanes."""
    held = HeldBatcher()
    tasks = await held.submit_lanes({"a": [0, 1], "b": [2]})
    await held.answer(Busy("another transaction holds a lock"), lane="a")
    later = await held.submit_lanes({"a": [3, 4], "b": [5]})
    await held.leave(later[0], *(tasks[n] for n in gone))
    await held.answer(answer, lane="a")
    busy = [tasks[n] for n in range(2) if isinstance(answer, Busy) and n not in gone]
    assert await results(busy) == [answer] * len(busy)
    await held.assert_served(but=busy)
    assert all(3 not in items for items in held.items), "it had left while it waited"


async def test_a_request_that_leaves_before_its_first_call() -> None:
    """Its lane was made for it, and serves the requests that came behind it."""
    held = HeldBatcher()
    first, _ = held.submit("first"), held.submit("second")
    await asyncio.sleep(0)  # both are in the lane, and no call has begun
    assert held.calls == []
    await held.leave(first)
    await held.answer()
    alone = held.submit("alone")
    await asyncio.sleep(0)
    await held.leave(alone)
    assert held.items == [["second"]]
    await held.assert_served()


async def test_batchers_that_share_places() -> None:
    """All of them are full together, but one alone cannot take all places. A request that ends or leaves gives its place back."""
    places = Places(4)
    first, second = HeldBatcher(max_pending=3, shared=places), HeldBatcher(max_pending=3, shared=places)
    [leaving, *_] = await first.submit_all(1, 2, 3)
    assert first.refuses()
    await second.submit_all(4)
    assert second.refuses()
    await first.leave(leaving)
    await second.submit_all(5)
    assert first.refuses()
    assert second.refuses()
    await first.assert_served()
    await second.assert_served()
    assert places.taken == 0


async def test_overloaded_at_exactly_max_pending(slow_after: Callable[[float], None]) -> None:
    """Requests in flight and waiting count, in all lanes together; when one of them ends there is room for one more."""
    slow_after(0)
    held = HeldBatcher(max_size=2, max_pending=7)
    await held.submit_lanes({"a": [1, 2, 3, 4], "b": [5, 6]})
    for n in range(3):
        [task] = await held.submit_all("last", lane="c")
        assert all(held.refuses(lane=lane) for lane in "abcd")
        await until(lambda: len(held.calls) == 3 + n)  # noqa: B023 - awaited before the next round
        await held.answer(lane="c")
        assert task.result() == outcome_of("last")
    assert held.batcher._pending == 6
    await held.submit_all("last", lane="b")
    assert held.refuses()
    await held.assert_served()
    assert all("refused" not in items for items in held.items)


@pytest.mark.parametrize("place", range(4))
async def test_a_request_that_leaves_frees_its_place(place: int) -> None:
    """In flight (the first) or waiting: exactly one more request is accepted."""
    held = HeldBatcher(max_pending=4)
    tasks = await held.submit_all(0)
    tasks += await held.submit_all(1, 2, 3)
    assert held.refuses()
    await held.leave(tasks[place])
    await held.submit_all("new")
    assert held.refuses()
    await held.assert_served()


@pytest.mark.parametrize(
    "failure", [Unavailable("lost"), Busy("busy"), ValueError("broken"), asyncio.CancelledError(), []], ids=type
)
async def test_a_failed_request_frees_its_place(failure: Answer) -> None:
    """However its call failed, the next request is accepted."""
    held, failed = HeldBatcher(max_pending=1), []
    for n in range(3):
        failed += await held.submit_all(n)
        assert held.refuses()
        await held.answer(failure)
        assert isinstance(failed[-1].exception(), Exception)
        assert_empty(held.batcher)
    await held.submit_all("good")
    await held.assert_served(but=failed)


@pytest.mark.parametrize("lanes", [ONE_LANE, {"a": [0, 1], "b": [2], "c": [3]}], ids=len)
@pytest.mark.parametrize("count", range(4))
async def test_a_call_that_returns_too_few_outcomes(count: int, lanes: Lanes) -> None:
    """Requests without an outcome fail and none hangs; requests that wait are served."""
    held = HeldBatcher()
    tasks = await held.submit_lanes(lanes)
    await held.submit_all("later", lane="a")
    await held.answer(list(range(count)), lane="a")
    outcomes = await results(tasks)
    assert outcomes[:count] == list(range(count))
    assert [type(outcome) for outcome in outcomes[count:]] == [RuntimeError] * (4 - count)
    assert held.calls == [lanes, {"a": ["later"]}]
    await held.assert_served(but=tasks)


@pytest.mark.parametrize("answer", [None, asyncio.CancelledError(), 5, (n for n in range(0))], ids=type)
@pytest.mark.parametrize("lane_count", [1, 2, 5])
async def test_a_call_that_breaks_its_contract(answer: Any, lane_count: int) -> None:
    """It returns no sequence, or is cancelled from within: no request hangs, the next is served, and the fault is reported."""

    async def call(lanes: Mapping[str, list[object]]) -> Any:
        await asyncio.sleep(0)
        if "good" in items_of(lanes):
            return items_of(lanes)
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
        gc.collect()  # a task's failure is reported when the task is collected
    finally:
        loop.set_exception_handler(None)
    assert [type(fault) for fault in reported] == ([TypeError] * 3 if answer in (None, 5) else [])


async def test_a_cancelled_call_leaves_no_request_hanging(slow_after: Callable[[float], None]) -> None:
    """As when the process stops: all in flight and all that wait are told so; other calls go on."""
    held = HeldBatcher(max_size=3)
    await held.occupy_slowly("other", slow_after)
    tasks = await held.submit_lanes({"a": [0, 1], "b": [2]})
    tasks += await held.submit_lanes({"a": [3, 4], "c": [5], "other": [6]})
    await held.cancel_call("a")
    assert_unavailable(await results(tasks), message=STOPPING)
    assert held.calls == [{"other": ["other"]}, {"a": [0, 1], "b": [2]}]
    await held.submit_all("again", lane="b")
    await held.assert_served(but=tasks)


async def test_a_call_cancelled_while_it_tries_items_alone() -> None:
    """The requests that were tried have their outcomes; the others are told that the process stops."""
    held = HeldBatcher()
    await held.submit_all("first")
    tasks = await held.submit_all("a", "b", "c")
    await held.answer()
    tasks += await held.submit_all("d")
    await held.answer(ValueError("one of them is to blame"))
    await held.answer()
    await held.cancel_call()
    assert_unavailable(await results(tasks[1:]), message=STOPPING)
    await held.assert_served(but=tasks[1:])
    assert held.items[2:] == [["a"], ["b"]]


async def test_a_call_cancelled_while_lanes_are_called_alone() -> None:
    """Its own requests, and all that wait, are told that the process stops; the other lanes' calls go on."""
    held = HeldBatcher()
    tasks = await held.submit_lanes({"a": [0, 1], "b": [2]})
    await held.answer(Busy("another transaction holds a lock"), lane="a")
    stopped = tasks[:2] + await held.submit_lanes({"a": [3], "b": [4]})
    await held.cancel_call("a")
    assert_unavailable(await results(stopped), message=STOPPING)
    await held.submit_all("again", lane="a")
    await held.assert_served(but=stopped)


async def test_a_call_cancelled_before_it_began() -> None:
    """Its task is cancelled in the very moment in which the request came."""
    held = HeldBatcher()
    task = held.submit("early")
    await asyncio.sleep(0)
    [making] = held.batcher._tasks
    assert held.calls == []
    making.cancel()
    assert_unavailable(await results([task]), message=STOPPING)
    await held.assert_served(but=[task])


async def test_lanes_cancelled_before_they_are_called_alone() -> None:
    """Their tasks are cancelled in the very moment in which the shared call was busy."""
    held = HeldBatcher()
    tasks = await held.submit_lanes({"a": [0, 1], "b": [2]})
    held.call_of("a").answer.set_result(Busy("another transaction holds a lock"))
    await asyncio.sleep(0)
    alone = [task for task in held.batcher._tasks if task is not held.batcher._calling]
    assert len(alone) == 2
    for task in alone:
        task.cancel()
    assert_unavailable(await results(tasks), message=STOPPING)
    assert held.calls == [{"a": [0, 1], "b": [2]}]
    await held.assert_served(but=tasks)


class Noted:
    """A receiver that is no future."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def done(self) -> bool:
        """Whether it got an outcome."""
        return bool(self.got)

    def set_result(self, outcome: object) -> None:
        """Note it."""
        self.got.append(outcome)

    def set_exception(self, error: Exception) -> None:
        """Note it."""
        self.got.append(error)


async def test_receivers_that_are_no_futures() -> None:
    """Each gets its outcome or the call's error once. One that is withdrawn before its call gets nothing."""
    held = HeldBatcher()
    first, second, withdrawn, failed = (Noted() for _ in range(4))
    for item, receiver in enumerate((first, second, withdrawn)):
        held.batcher.add("lane", item, receiver)
        await ticks()
    assert held.items == [[0]]
    assert not held.batcher.withdraw("lane", first)
    assert held.batcher.withdraw("lane", withdrawn)
    assert not held.batcher.withdraw("lane", withdrawn)
    await held.answer()
    held.batcher.add("lane", 3, failed)
    await held.answer()
    lost = Unavailable("lost")
    await held.answer(lost)
    assert [receiver.got for receiver in (first, second, withdrawn, failed)] == [[outcome_of(0)], [outcome_of(1)], [], [lost]]
    assert held.items == [[0], [1], [3]]
    for _ in (first, second, failed):
        held.batcher.end()
    assert not held.batcher.withdraw("no lane", first)
    await held.assert_served()
