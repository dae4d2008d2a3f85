"""The batcher without a database: which requests share a call, which outcome each gets, and that none is left waiting."""

from collections.abc import Callable, Sequence
from time import monotonic

import pytest

from lastpair.errors import Busy, Unavailable
from lastpair.shop.batcher import SLOW_CALL_SECONDS
from tests.support.batcher import FragileBatcher, HeldBatcher, Lanes, Poisoned, assert_unavailable, outcome_of, results, until

pytestmark = pytest.mark.usefixtures("slow_after")


async def test_a_single_request_gets_a_call_at_once() -> None:
    """Every time, not only the first time; no timer is involved."""
    held = HeldBatcher()
    for item in range(5):
        [task] = await held.submit_all(item)
        assert held.calls[item:] == [{"lane": [item]}]
        await held.answer()
        assert task.result() == outcome_of(item)
    await held.assert_served()


async def test_requests_that_come_during_a_call_share_the_next_one() -> None:
    """They are in it in the order in which they came."""
    held = HeldBatcher()
    tasks = await held.submit_all("first")
    for item in "abc":
        tasks += await held.submit_all(item)
    assert held.items == [["first"]]
    await held.answer()
    assert held.items == [["first"], ["a", "b", "c"]]
    tasks += await held.submit_all("d")
    await held.answer()
    assert held.items == [["first"], ["a", "b", "c"], ["d"]]
    assert [task.done() for task in tasks] == [True] * 4 + [False]
    await held.assert_served()


async def test_a_pause_lets_more_requests_share_a_call() -> None:
    """It lies between two calls. A request for which none is in flight gets a call at once, in the pause as well."""
    held = HeldBatcher(pause=20)
    [first, *_] = await held.submit_all("first", "second")
    await held.submit_all("a")
    held.call_of().answer.set_result([1, 2])
    await until(first.done)
    held.submit("b")
    await until(lambda: len(held.calls) == 2)
    assert held.items == [["first", "second"], ["a", "b"]]

    held = HeldBatcher(pause=1000)
    for item in "abc":
        await held.submit_all(item)
        assert held.items[-1] == [item]
        await held.answer()
    await held.assert_served()


@pytest.mark.parametrize(("max_size", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (5, [5, 5]), (9, [9, 1]), (10, [10])])
async def test_a_call_is_never_larger_than_max_size(max_size: int, sizes: list[int]) -> None:
    """The requests that do not fit go with the next call."""
    held = HeldBatcher(max_size)
    await held.submit_all("first")
    await held.submit_all(*range(10))
    await held.assert_served()
    assert [len(items) for items in held.items] == [1, *sizes]
    assert [item for items in held.items for item in items] == ["first", *range(10)]


async def test_equal_items_are_different_requests() -> None:
    """Each has a place and an outcome of its own, and is cancelled alone."""
    held = HeldBatcher()
    await held.submit_all("first")
    tasks = await held.submit_all("same", "same", "same", "same")
    await held.leave(tasks.pop(1))
    await held.answer()
    assert held.items[1] == ["same"] * 3
    await held.answer([1, 2, 3])
    assert await results(tasks) == [1, 2, 3]
    await held.assert_served(but=tasks)


@pytest.mark.parametrize("lane_count", [1, 3])
@pytest.mark.parametrize("places", [[0], [3], [8], [0, 8], [0, 1, 2], [2, 3], [1, 4, 7], range(9)])
async def test_a_poisoned_request_fails_alone(places: Sequence[int], lane_count: int) -> None:
    """First each lane is called alone, then each item of the lanes that still fail, in order; then those that came later."""
    fragile, size = FragileBatcher(), 9 // lane_count
    items = [f"{'poison' if n in places else 'good'} {n}" for n in range(9)]
    lanes = {f"lane {n}": items[n * size : (n + 1) * size] for n in range(lane_count)}
    tasks = {item: task for lane, of_lane in lanes.items() for item, task in fragile.submit(lane, *of_lane).items()}
    await until(lambda: fragile.calls)
    assert fragile.calls == [lanes]
    await fragile.assert_settled(tasks | fragile.submit("lane 0", "later"))
    for lane, of_lane in lanes.items():
        alone = [of_lane] if lane_count > 1 else []
        one_by_one = [[item] for item in of_lane] if any("poison" in item for item in of_lane) else []
        later = [["later"]] if lane == "lane 0" else []
        assert [call[lane] for call in fragile.calls if lane in call] == [of_lane, *alone, *one_by_one, *later]
    assert all(len(call) == 1 for call in fragile.calls[1:])


async def test_a_poisoned_request_that_is_alone_is_not_tried_again() -> None:
    """Its error is certain."""
    fragile = FragileBatcher()
    with pytest.raises(Poisoned):
        await fragile.batcher.submit("lane", "poison")
    assert fragile.calls == [{"lane": ["poison"]}]


@pytest.mark.parametrize(
    ("error", "lanes"),
    [
        (Unavailable("lost"), {"a": [1]}),
        (Unavailable("lost"), {"a": [1, 2, 3]}),
        (Unavailable("lost"), {"a": [1, 2], "b": [3]}),
        (Busy("another transaction holds a lock"), {"a": [1]}),
        (Busy("another transaction holds a lock"), {"a": [1, 2, 3]}),
    ],
    ids=str,
)
async def test_an_unavailable_call_is_not_repeated(error: Unavailable, lanes: Lanes, slow_after: Callable[[float], None]) -> None:
    """It may have taken effect, or waited for a lock already. Other calls, and requests that wait in its lanes, are served."""
    held = HeldBatcher()
    await held.occupy_slowly("other", slow_after)
    tasks = await held.submit_lanes(lanes)
    await held.submit_lanes({lane: ["later"] for lane in reversed(lanes)})
    await held.answer(error, lane="a")
    assert [outcome is error for outcome in await results(tasks)] == [True] * len(tasks)
    assert_unavailable([error])
    assert held.calls == [{"other": ["other"]}, lanes, {lane: ["later"] for lane in lanes}]
    await held.assert_served(but=tasks)


async def test_an_unavailable_call_ends_the_trying_of_items_alone() -> None:
    """Its item is not called again, nor are those behind it called at all; those before it have their outcomes."""
    held = HeldBatcher()
    await held.submit_all("first")
    tasks = await held.submit_all("a", "b", "c", "d")
    await held.answer()
    await held.answer(ValueError("one of them is to blame"))
    await held.answer()
    await held.submit_all("later")
    lost = Unavailable("lost")
    await held.answer(lost)
    assert await results(tasks) == [outcome_of("a"), lost, lost, lost]
    assert held.items == [["first"], ["a", "b", "c", "d"], ["a"], ["b"], ["later"]]
    await held.assert_served(but=tasks)


async def test_the_bounds_of_the_product(slow_after: Callable[[float], None]) -> None:
    """One call is in flight; another lane gets its call when that one has taken SLOW_CALL_SECONDS."""
    slow_after(SLOW_CALL_SECONDS)
    held, begin = HeldBatcher(), monotonic()
    await held.occupy("a", "b")
    assert held.items == [["a"]] or monotonic() - begin > SLOW_CALL_SECONDS
    await until(lambda: len(held.in_flight) > 1)
    assert monotonic() - begin >= SLOW_CALL_SECONDS
    await held.assert_served()
