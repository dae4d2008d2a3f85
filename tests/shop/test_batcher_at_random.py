"""The batcher in random runs, where every delay and failure is drawn by lot: what must always hold does."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lastpair.errors import Busy, Unavailable
from lastpair.shop import batcher as batcher_module
from lastpair.shop.batcher import Batcher
from tests.support.batcher import NEVER_SECONDS, TIMEOUT_SECONDS, Poisoned, assert_empty, items_of, results, ticks


class RandomRun:
    """Clients, lanes and calls whose every delay is drawn by lot; what must always hold is checked as it happens."""

    LANES = 6

    def __init__(self, seed: int, met: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
        self.met = met
        self.lanes = [f"lane {n}" for n in range(self.chance.randint(1, self.LANES))]
        self.max_size = self.chance.choice([1, 2, 3, 5, 100])
        self.max_pending = self.chance.choice([2, 4, 8, 100, 100])
        self.slowness = self.chance.choice([0, 0, 1, 2, 6])
        self.poison, self.loss = (self.chance.choice([0, 0, 0.05, 0.3]) for _ in range(2))
        self.locks = self.chance.choice([0, 0, 0.1, 0.5])
        self.leaving = self.chance.choice([0, 0.2, 0.8])
        self.slow_seconds = self.chance.choice([0.0, NEVER_SECONDS, NEVER_SECONDS])
        monkeypatch.setattr(batcher_module, "SLOW_CALL_SECONDS", self.slow_seconds)
        self.batcher = Batcher[str, int, str](
            self.call, max_size=self.max_size, max_pending=self.max_pending, pause=(0, 0, 0, 4)[seed % 4]
        )
        self.inside = 0
        self.arrived: dict[str, list[int]] = {lane: [] for lane in self.lanes}
        self.called: dict[str, list[int]] = {lane: [] for lane in self.lanes}  # the items of first calls, in order
        self.alone: dict[str, list[int]] = {}  # the items of the next call of a lane, which must be without other lanes
        self.one_by_one: dict[str, list[int]] = {}  # the items that are next called one by one, unless they left
        self.beside: set[str] = set()  # lanes for whose call no other waits
        self.faults: list[object] = []
        self.busy: set[str] = set()
        self.in_flight = 0
        self.poisoned: set[int] = set()
        self.effects: Counter[int] = Counter()
        self.answers: dict[int, object] = {}
        self.gone: set[int] = set()
        self.left: set[int] = set()
        self.clients: list[asyncio.Task[None]] = []
        self.count = 0

    async def pause(self) -> None:
        """Let the event loop run for no or some iterations."""
        await ticks(self.chance.randint(0, self.slowness))

    def check(self, lanes: Mapping[str, list[int]]) -> None:
        """Note it if this call may not be made now. An exception would count as a failure of the call."""
        items = items_of(lanes)
        wrong = {
            "two calls at a time in a lane": not self.busy.isdisjoint(lanes),
            "a call of this size": not all(lanes.values()) or not 1 <= len(items) <= self.max_size,
            "called for a request that had left while it waited": not self.gone.isdisjoint(items),
        }
        if any(lane in self.alone for lane in lanes):
            [(lane, of_lane), *others] = lanes.items()
            wrong["alone, but not as it was to be"] = bool(others) or of_lane != self.alone.pop(lane, None)
        elif any(item in self.one_by_one.get(lane, []) for lane, of_lane in lanes.items() for item in of_lane):
            [(lane, [item, *more]), *others] = lanes.items()
            place = self.one_by_one[lane].index(item)
            passed_over = self.one_by_one[lane][:place]
            wrong["tried with others"] = bool(more or others)
            wrong["tried, but not in order"] = not self.left.issuperset(passed_over)
            del self.one_by_one[lane][: place + 1]
        else:
            for lane, of_lane in lanes.items():
                self.called[lane] += of_lane
                self.beside.discard(lane)
                untried = self.one_by_one.pop(lane, [])
                wrong[f"{untried} not tried"] = not self.left.issuperset(untried)
        is_beside = not self.beside.isdisjoint(lanes)
        wrong["too many calls"] = self.slow_seconds > 0 and not is_beside and self.in_flight > 0
        self.faults += [(what, lanes) for what, is_so in wrong.items() if is_so]

    async def call(self, lanes: Mapping[str, list[int]]) -> list[str]:
        """Check the items, take a while, and succeed or fail."""
        self.check(lanes)
        items = items_of(lanes)
        counts = self.beside.isdisjoint(lanes)
        self.met["shared"] += len(items) > 1
        self.met["shared by lanes"] += len(lanes) > 1
        self.met["beside"] += not counts
        self.busy.update(lanes)
        self.in_flight += counts
        await self.pause()
        self.in_flight -= counts
        self.busy.difference_update(lanes)
        if self.chance.random() < 0.3:  # a request comes in the very moment in which the call ends
            self.come(self.chance.choice(list(lanes)))
        return self.outcomes(lanes, items)

    def outcomes(self, lanes: Mapping[str, list[int]], items: list[int]) -> list[str]:
        """How a call ends: it may meet a lock, be lost with or without effect, or fail because of a poisoned item."""
        failure: Exception | None = None
        if self.chance.random() < self.locks:
            failure = Busy("another transaction holds a lock")
        elif self.chance.random() < self.loss:
            failure = Unavailable("lost")
            if self.chance.random() < 0.5:
                self.effects.update(items)
        elif not self.poisoned.isdisjoint(items):
            failure = Poisoned(items)
        if failure is None:
            self.effects.update(items)
            outcomes = [f"{item} {self.chance.random()}" for item in items]
            self.answers.update(zip(items, outcomes, strict=True))
            return outcomes
        is_final = isinstance(failure, Unavailable) and not (isinstance(failure, Busy) and len(lanes) > 1)
        if is_final:
            self.answers.update(dict.fromkeys(items, failure))
            if self.left.isdisjoint(items):  # the failure of a request that left stops no others
                self.answers.update(dict.fromkeys((item for lane in lanes for item in self.one_by_one.pop(lane, [])), failure))
        elif len(lanes) > 1:
            self.alone.update({lane: list(of_lane) for lane, of_lane in lanes.items()})
            self.beside.update(lanes)
        elif len(items) > 1:
            [lane] = lanes
            self.one_by_one[lane] = list(items)
        else:
            self.answers[items[0]] = failure
        self.met[f"{type(failure).__name__} of {'several lanes' if len(lanes) > 1 else 'a lane'}"] += 1
        raise failure

    def come(self, lane: str) -> None:
        """Start another client, unless there were enough; perhaps one that leaves at some moment."""
        if self.count < 60:
            self.count += 1
            task = asyncio.create_task(self.request(lane, self.count))
            self.clients.append(task)
            if self.chance.random() < self.leaving:
                self.clients.append(asyncio.create_task(self.leave(lane, self.count, task)))

    async def request(self, lane: str, item: int) -> None:
        """Submit a request and check its outcome; then perhaps start another client."""
        if self.chance.random() < self.poison:
            self.poisoned.add(item)
        if self.inside < self.max_pending:
            self.arrived[lane].append(item)
        else:
            self.gone.add(item)
        self.inside += 1
        was_full = self.inside > self.max_pending
        try:
            outcome: object = await self.batcher.submit(lane, item)
        except (Unavailable, Poisoned) as error:
            outcome = error
        finally:
            self.inside -= 1
        if was_full:
            assert isinstance(outcome, Unavailable)
            assert outcome.code == "OVERLOADED"
            self.met["overloaded"] += 1
        else:
            assert outcome is self.answers[item], "not its own outcome"
            assert isinstance(outcome, Poisoned) == (item in self.poisoned) or isinstance(outcome, Unavailable)
            self.met[type(outcome).__name__] += 1
        if self.chance.random() < 0.5:
            await self.pause()
            self.come(self.chance.choice(self.lanes))

    async def leave(self, lane: str, item: int, request: "asyncio.Task[None]") -> None:
        """Cancel the request some time later, unless it has its outcome."""
        await self.pause()
        await self.pause()
        was_called = item in self.called[lane]
        was_alone = item in self.alone.get(lane, []) or lane in self.beside
        if request.cancel():
            self.left.add(item)
            await asyncio.sleep(0)
            if item not in self.called[lane]:
                self.gone.add(item)
                self.met["left before its call"] += 1
            elif was_called:
                self.met["left in flight"] += 1
                self.met["left beside"] += was_alone

    async def run(self) -> None:
        """Start clients in bursts; in the end each has had its outcome and nothing is left."""
        for _ in range(self.chance.randint(1, 6)):
            lane = self.chance.choice(self.lanes)
            for _ in range(self.chance.randint(1, 8)):
                self.come(self.chance.choice([lane, *self.lanes]))
                if self.chance.random() < 0.3:
                    await self.pause()
            await self.pause()
        seen = 0
        while seen < len(self.clients):
            now, seen = self.clients[seen:], len(self.clients)
            for outcome in await results(now):
                if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                    assert isinstance(outcome, BaseException)
                    raise outcome
        while self.batcher._tasks:  # a call whose clients have all left ends by itself
            await asyncio.wait(self.batcher._tasks, timeout=TIMEOUT_SECONDS)
            await asyncio.sleep(0)
        assert_empty(self.batcher)
        assert self.faults == []
        assert (self.busy, self.in_flight, self.alone) == (set(), 0, {})
        for lane in self.lanes:
            assert self.called[lane] == [item for item in self.arrived[lane] if item not in self.gone], "not in order"
        assert max(self.effects.values(), default=0) <= 1, "it took effect twice"
        answered = [item for item, answer in self.answers.items() if isinstance(answer, str)]
        assert all(self.effects[item] == 1 for item in answered)


@pytest.mark.parametrize("seed", range(8))
async def test_random_interleavings(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each of 1,600 runs every request gets its own outcome exactly once, in order, within bounds, and nothing is left."""
    met: Counter[str] = Counter()
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    handler: Callable[..., Any] | None = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    try:
        for n in range(200):
            number = seed * 200 + n
            try:
                await RandomRun(number, met, monkeypatch).run()
            except BaseException as error:
                error.add_note(f"in run {number}")
                raise
    finally:
        loop.set_exception_handler(handler)
    assert errors == []
    kinds = ["shared", "shared by lanes", "beside", "overloaded", "str", "Poisoned", "Unavailable", "Busy"]
    kinds += [f"{kind} of {what}" for kind in ("Poisoned", "Unavailable", "Busy") for what in ("several lanes", "a lane")]
    kinds += ["left before its call", "left in flight", "left beside"]
    assert all(met[kind] >= 20 for kind in kinds), met
