"""The batcher where several lanes share a call: none waits for another, however long it takes and however it fails."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import pytest

from lastpair.errors import Busy, Unavailable
from lastpair.shop import batcher as batcher_module
from lastpair.shop.batcher import MAX_CALLS, Batcher
from tests.support.batcher import (
    FOREVER_SECONDS,
    MAX_PENDING,
    Fragile,
    Stage,
    assert_empty,
    assert_refused,
    outcome_of,
    outcomes_of,
    patience,
    results,
    ticks,
    until,
)

__all__ = ["patience"]  # every test


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
    full = await stage.occupy(*(f"full {n}" for n in range(MAX_CALLS)))
    tasks = await stage.submit_lanes({"a": [1, 2, 3], "b": [4, 5], "c": [6]})
    for call in calls:
        await stage.answer(lane=next(iter(stage.under_way[-1].lanes)))
        assert stage.calls[-1] == call
        assert list(stage.calls[-1]) == list(call)
    await stage.answer_all()
    assert stage.calls[MAX_CALLS:] == calls
    assert await results(tasks + full) == outcomes_of(*range(1, 7), *(f"full {n}" for n in range(MAX_CALLS)))
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
    monkeypatch.setattr(batcher_module, "MAX_CALLS", calls)
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
    for n in range(MAX_CALLS + 3):
        stuck += await stage.submit_all(n, lane=f"stuck {n}")
        await until(lambda: len(stage.under_way) == n + 1)  # noqa: B023 - awaited before the next round
        assert stage.calls[n] == {f"stuck {n}": [n]}
    for n in range(20):
        tasks = [stage.submit(n, lane) for lane in ("free", "also free")]
        stuck.append(stage.submit(n, "stuck 1"))
        await until(lambda: len(stage.under_way) == MAX_CALLS + 4)
        await stage.answer(lane="free")
        assert await results(tasks) == outcomes_of(n, n)
    assert not any(task.done() for task in stuck)
    patience(FOREVER_SECONDS)
    await stage.answer(lane="stuck 1")
    assert stage.calls[-1] == {"stuck 1": list(range(20))}
    await stage.answer_all()
    assert await results(stuck) == outcomes_of(*range(MAX_CALLS + 3), *range(20))
    await stage.assert_idle()


async def test_those_that_wait_when_a_call_begins_to_take_long_are_called_for_then(patience: Callable[[float], None]) -> None:
    """Nobody need come to start it."""
    patience(0.01)
    stage = Stage(max_size=1)
    lanes = [f"lane {n}" for n in range(2 * MAX_CALLS + 1)]
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
    await until(lambda: not stage.batcher._calling)
    patience(FOREVER_SECONDS)
    tasks += await stage.occupy(*(f"full {n}" for n in range(MAX_CALLS)))
    tasks += await stage.submit_all("before", lane="before")
    tasks += await stage.submit_all("slow again", lane="slow")
    await stage.answer(lane="slow")
    assert tasks[0].result() == outcome_of("slow")
    tasks += await stage.submit_all("behind", lane="behind")
    assert len(stage.calls) == 1 + MAX_CALLS
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
    await until(lambda: not stage.batcher._calling)
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
    tasks += await stage.occupy(*(f"full {n}" for n in range(MAX_CALLS - 1)))
    await asyncio.sleep(0.1)
    tasks += await stage.submit_all("waits", lane="waits")
    assert len(stage.under_way) == MAX_CALLS
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
    tasks += await stage.occupy(*(f"full {n}" for n in range(MAX_CALLS)))
    assert len(stage.under_way) == 4 + MAX_CALLS
    tasks += await stage.submit_lanes({"a": ["a"], "new": ["new"]})
    for lane in "ba":
        await stage.answer(lane=lane)
    assert len(stage.under_way) == 2 + MAX_CALLS
    await stage.answer(lane="full 0")
    assert stage.calls[-1] == {"new": ["new"], "a": ["a"]}
    assert len(stage.under_way) == 2 + MAX_CALLS
    await stage.answer_all()
    assert await results(tasks) == outcomes_of(*"abcd", *(f"full {n}" for n in range(MAX_CALLS)), "a", "new")
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
    monkeypatch.setattr(batcher_module, "MAX_CALLS", calls)
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
