"""The batcher where several lanes share a call: none waits for another, however long a call takes and however it fails."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from lastpair.errors import Busy, Unavailable
from lastpair.shop.batcher import Batcher
from tests.support.batcher import (
    MAX_PENDING,
    NEVER_SECONDS,
    HeldBatcher,
    Lanes,
    Task,
    assert_empty,
    items_of,
    outcome_of,
    results,
    ticks,
    until,
)

pytestmark = pytest.mark.usefixtures("slow_after")


async def test_lanes_that_are_ready_at_the_same_moment_share_a_call() -> None:
    """They are in it in the order in which they became ready, each with its requests in the order in which they came."""
    held = HeldBatcher()
    await held.submit_lanes({"b": [1, 2], "a": [3], "c": [4, 5, 6]})
    assert held.calls == [{"b": [1, 2], "a": [3], "c": [4, 5, 6]}]
    assert list(held.calls[0]) == ["b", "a", "c"]
    for lane, item in [("c", 7), ("y", 8), ("a", 9), ("c", 10), ("x", 11), ("b", 12), ("y", 13)]:
        await held.submit_all(item, lane=lane)
    await held.answer(lane="a")
    assert held.calls[1:] == [{"y": [8, 13], "x": [11], "b": [12], "a": [9], "c": [7, 10]}]
    assert list(held.calls[1])[:2] == ["y", "x"], "they were ready before the others' call ended"
    await held.assert_served()


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
async def test_a_call_of_several_lanes_is_never_larger_than_max_size(max_size: int, calls: list[Lanes]) -> None:
    """Lanes that did not fit are first in the next call; requests of a lane that did not fit wait behind the ready lanes."""
    held = HeldBatcher(max_size)
    await held.occupy("full")
    await held.submit_lanes({"a": [1, 2, 3], "b": [4, 5], "c": [6]})
    for call in calls:
        await held.answer(lane=next(iter(held.calls[-1])))
        assert list(held.calls[-1].items()) == list(call.items())
        assert len(held.in_flight) == 1
    await held.assert_served()
    assert held.calls[1:] == calls


async def test_a_lane_in_flight_is_in_no_other_call(slow_after: Callable[[float], None]) -> None:
    """Others are served and fail meanwhile; its own requests wait for its slow call, and then go together."""
    held, failed = HeldBatcher(), []
    await held.occupy_slowly("slow", slow_after)
    for n in range(1, 6):
        others = await held.submit_lanes({"a": [n], "b": [n]})
        await held.submit_all(n, lane="slow")
        assert held.calls[-1] == {"a": [n], "b": [n]}
        await held.answer(lane="a")
        assert await results(others) == [outcome_of(n)] * 2
        failed += await held.submit_all(n, lane="broken")
        await held.answer(ValueError("broken"), lane="broken")
        assert isinstance(failed[-1].exception(), ValueError)
    assert len(held.in_flight) == 1
    await held.answer(lane="slow")
    assert held.calls[11:] == [{"slow": [1, 2, 3, 4, 5]}]
    await held.assert_served(but=failed)


async def test_one_call_is_in_flight() -> None:
    """Requests of further lanes gather, and share the next call."""
    held = HeldBatcher()
    await held.occupy("full")
    for n in range(3):
        await held.submit_lanes({f"{n} {lane}": [lane] for lane in "abc"})
        await held.submit_all("d", lane=f"{n} a")
        assert len(held.in_flight) == 1
        await held.answer(lane=next(iter(held.calls[-1])))
        assert held.calls[1 + n :] == [{f"{n} a": ["a", "d"], f"{n} b": ["b"], f"{n} c": ["c"]}]
    await held.assert_served()


async def test_a_slow_call_holds_up_no_other_lane(slow_after: Callable[[float], None]) -> None:
    """Any number of calls may be slow; later requests of their lanes wait for them, and then go together."""
    slow_after(0)
    held = HeldBatcher()
    stuck: list[Task] = []
    for n in range(5):
        stuck += await held.submit_all(n, lane=f"stuck {n}")
        await until(lambda: len(held.in_flight) == n + 1)  # noqa: B023 - awaited before the next round
        assert held.calls[n] == {f"stuck {n}": [n]}
    for n in range(20):
        tasks = [held.submit(n, lane) for lane in ("free", "also free")]
        stuck.append(held.submit(n, "stuck 1"))
        await until(lambda: len(held.in_flight) == 6)
        await held.answer(lane="free")
        assert await results(tasks) == [outcome_of(n)] * 2
    assert not any(task.done() for task in stuck)
    slow_after(NEVER_SECONDS)
    await held.answer(lane="stuck 1")
    assert held.calls[-1] == {"stuck 1": list(range(20))}
    await held.assert_served()


async def test_lanes_that_wait_get_a_call_when_one_becomes_slow(slow_after: Callable[[float], None]) -> None:
    """No further request is needed to start it."""
    slow_after(0.01)
    held = HeldBatcher(max_size=1)
    lanes = [f"lane {n}" for n in range(4)]
    for lane in lanes:
        held.submit(lane, lane)
    await until(lambda: len(held.in_flight) == len(lanes))
    assert held.items == [[lane] for lane in lanes]
    await held.assert_served()


async def test_a_slow_call_has_lost_its_place(slow_after: Callable[[float], None]) -> None:
    """If another one is in flight when it ends, its lane waits like others, in the order in which they became ready."""
    held = HeldBatcher()
    slow = await held.occupy_slowly("slow", slow_after)
    await held.occupy("full")
    await held.submit_all("before", lane="before")
    await held.submit_all("slow again", lane="slow")
    await held.answer(lane="slow")
    assert slow.result() == outcome_of("slow")
    await held.submit_all("behind", lane="behind")
    assert len(held.calls) == 2
    await held.answer(lane="full")
    assert list(held.calls[-1].items()) == [("before", ["before"]), ("slow", ["slow again"]), ("behind", ["behind"])]
    await held.assert_served()


async def test_a_slow_call_is_followed_by_its_lane_at_once(slow_after: Callable[[float], None]) -> None:
    """This holds when no other call is in flight by then."""
    held = HeldBatcher()
    await held.occupy_slowly("lane", slow_after)
    await held.submit_all(2, 3)
    await held.answer()
    assert held.items == [["lane"], [2, 3]]
    await held.assert_served()


async def test_a_call_that_follows_another_has_a_timer_of_its_own(slow_after: Callable[[float], None]) -> None:
    """It keeps its place when the timer of the other call would have run out."""
    slow_after(0.02)
    held = HeldBatcher()
    await held.submit_all(1)
    slow_after(NEVER_SECONDS)
    await held.submit_all(2)
    await held.answer()
    assert held.items == [[1], [2]]
    await asyncio.sleep(0.03)  # after the first call's timer, because timers run out in order
    await held.submit_all("waits", lane="waits")
    assert len(held.in_flight) == 1
    await held.assert_served()


@pytest.mark.parametrize("lane", ["lane", "another"])
async def test_the_next_call_begins_before_the_answers_are_written(lane: str) -> None:
    """It begins in the same iteration of the event loop in which the last one ends, for whichever lane waits."""
    log: list[str] = []
    arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(lanes: Mapping[str, list[str]]) -> list[str]:
        items = items_of(lanes)
        log.append(f"call for {' '.join(items)}")
        if "first" in items:
            await arrival
            log.append("outcomes")
        return items

    batcher = Batcher[str, str, str](call, max_size=100, max_pending=MAX_PENDING)

    async def handle(lane: str, item: str) -> None:
        log.append(f"{await batcher.submit(lane, item)} is answered")

    handlers = []
    for other, item in [("lane", "first"), (lane, "next"), (lane, "and next")]:
        handlers.append(asyncio.create_task(handle(other, item)))
        await ticks()
    assert log == ["call for first"]
    del log[:]
    arrival.set_result(None)
    asyncio.get_running_loop().call_soon(log.append, "an iteration later")
    await results(handlers)
    assert log[:3] == ["outcomes", "call for next and next", "an iteration later"]
    assert sorted(log[3:]) == ["and next is answered", "first is answered", "next is answered"]
    await ticks()
    assert_empty(batcher)


async def test_busy_with_several_lanes_calls_each_lane_alone() -> None:
    """All at the same time, each for as long as it takes: one that is stuck blocks neither the others nor new ones.

    The order within the lanes is kept; later requests of the stuck one wait behind it.
    """
    held = HeldBatcher()
    lanes = {"stuck": [1, 2], "a": [3], "b": [4, 5], "c": [6]}
    tasks = await held.submit_lanes(lanes)
    later = await held.submit_lanes({"a": [7], "stuck": [8, 9]})
    await held.answer(Busy("another transaction holds a lock"), lane="stuck")
    assert held.calls == [lanes, *({lane: items} for lane, items in lanes.items())]
    assert len(held.in_flight) == 4
    for lane in ("c", "a", "b"):
        await held.answer(lane=lane)
    assert all(task.done() for task in tasks[2:])
    assert held.calls[5:] == [{"a": [7]}]
    await held.answer(lane="a")
    for n in range(10):
        others = await held.submit_lanes({"a": [n], "b": [n]})
        later += await held.submit_all(n, lane="stuck")
        assert held.calls[-1] == {"a": [n], "b": [n]}
        others += await held.occupy("c")
        await held.answer(lane="a")
        await held.answer(lane="c")
        assert all(task.done() for task in others)
    assert not any(task.done() for task in tasks[:2] + later[1:])
    await held.answer(lane="stuck")
    assert held.calls[-1] == {"stuck": [8, 9, *range(10)]}
    await held.assert_served()


async def test_lanes_that_are_called_alone_do_not_count() -> None:
    """Beside them one other call is in flight, and no more, also when their lanes become ready again."""
    held = HeldBatcher()
    await held.submit_lanes({lane: [lane] for lane in "abcd"})
    await held.answer(Busy("another transaction holds a lock"), lane="a")
    await held.occupy("full")
    assert len(held.in_flight) == 4 + 1
    await held.submit_lanes({"a": ["a"], "new": ["new"]})
    for lane in "ba":
        await held.answer(lane=lane)
    assert len(held.in_flight) == 2 + 1
    await held.answer(lane="full")
    assert held.calls[-1] == {"new": ["new"], "a": ["a"]}
    assert len(held.in_flight) == 2 + 1
    await held.assert_served()


async def test_each_lane_that_is_called_alone_has_its_own_outcome() -> None:
    """One is busy again, one is lost, one is poisoned, one succeeds; the requests that wait in each are served."""
    held = HeldBatcher()
    lanes = {lane: [f"{lane} {n}" for n in range(2)] for lane in ("busy", "lost", "poisoned", "good")}
    tasks = await held.submit_lanes(lanes)
    await held.submit_lanes({lane: ["later"] for lane in lanes})
    await held.answer(Busy("another transaction holds a lock"), lane="busy")
    busy, lost, poisoned = Busy("still"), Unavailable("lost"), ValueError("poisoned")
    await held.answer(lost, lane="lost")
    await held.answer(poisoned, lane="poisoned")
    await held.answer(poisoned, lane="poisoned")
    await held.answer(lane="poisoned")
    await held.answer(busy, lane="busy")
    assert await results(tasks[:5]) == [busy, busy, lost, lost, poisoned]
    await held.assert_served(but=tasks[:5])
    for lane, items in lanes.items():
        one_by_one = [[item] for item in items] if lane == "poisoned" else []
        assert [call[lane] for call in held.calls if lane in call] == [items, items, *one_by_one, ["later"]]


@pytest.mark.parametrize("latency_ticks", [0, 3])
@pytest.mark.parametrize("max_size", [1, 4, 10])
async def test_a_hot_lane_among_many_starves_none(max_size: int, latency_ticks: int) -> None:
    """A single request in a lane is called before another lane has a second turn; the hot lane has as many turns as the others.

    This holds even when calls take no time at all. Within the hot lane, every client is served as often as the others.
    """
    turns: Counter[str] = Counter()
    served = [0] * 30
    waits: list[int] = []

    async def call(lanes: Mapping[str, list[Counter[str] | None]]) -> list[None]:
        for lane, [before, *_] in lanes.items():
            if before is not None:
                waits.append(max([turns[other] - before[other] for other in turns], default=0))
            turns[lane] += 1
        await ticks(latency_ticks)
        return [None for items in lanes.values() for _ in items]

    batcher = Batcher[str, Counter[str] | None, None](call, max_size=max_size, max_pending=MAX_PENDING)

    async def insist(n: int) -> None:
        while True:
            await batcher.submit("hot", None)
            served[n] += 1

    async def come_and_go(lane: str) -> None:
        for _ in range(20):
            await batcher.submit(lane, turns.copy())

    hot = [asyncio.create_task(insist(n)) for n in range(30)]
    quiet = [asyncio.create_task(come_and_go(f"quiet {n}")) for n in range(12)]
    outcomes = await results(quiet)
    for client in hot:
        client.cancel()
    await results(hot)
    assert outcomes == [None] * 12
    assert len(waits) == 240
    assert max(waits) == 1
    assert turns["hot"] >= 20
    assert max(served) - min(served) <= 3
    await ticks()
    assert_empty(batcher)
