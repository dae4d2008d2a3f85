"""The batcher without a database: who is called for with whom, who gets which outcome, and that nobody is left waiting."""

from collections.abc import Sequence

import pytest

from lastpair.errors import Unavailable
from tests.support.batcher import Fragile, Poisoned, Stage, assert_refused, outcome_of, outcomes_of, patience, results, until

__all__ = ["patience"]  # every test


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
