"""The batcher in worlds where every delay is drawn by lot: what must always hold does."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from app.batcher import Batcher
from app.http import Unavailable
from tests.test_batcher import PATIENCE_SECONDS, Poisoned, assert_empty, results, ticks


class World:
    """Clients, lanes and calls whose every delay is drawn by lot; what must always hold is checked as it happens."""

    LANES = 4

    def __init__(self, seed: int, met: Counter[str]) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
        self.met = met
        self.lanes = [f"lane {n}" for n in range(self.chance.randint(1, self.LANES))]
        self.max_size = self.chance.choice([1, 2, 3, 5, 100])
        self.max_pending = self.chance.choice([2, 4, 8, 100, 100])
        self.slowness = self.chance.choice([0, 0, 1, 2, 6])
        self.poison, self.loss = (self.chance.choice([0, 0, 0.05, 0.3]) for _ in range(2))
        self.leaving = self.chance.choice([0, 0.2, 0.8])
        self.batcher = Batcher[str, int, str](self.call, max_size=self.max_size, max_pending=self.max_pending)
        self.inside = 0
        self.arrived: dict[str, list[int]] = {lane: [] for lane in self.lanes}
        self.called: dict[str, list[int]] = {lane: [] for lane in self.lanes}
        self.tried_alone: dict[str, list[int]] = {}
        self.wrong: list[object] = []
        self.busy: set[str] = set()
        self.poisoned: set[int] = set()
        self.failed_with_others: set[int] = set()
        self.effects: Counter[int] = Counter()
        self.answers: dict[int, object] = {}
        self.gone: set[int] = set()
        self.clients: list[asyncio.Task[None]] = []
        self.count = 0

    def follows(self, lane: str, items: list[int]) -> bool:
        """Did these arrive after those that were tried alone before?"""
        order = self.arrived[lane].index
        return all(order(before) < order(item) for before in self.tried_alone[lane] for item in items)

    async def pause(self) -> None:
        """Nothing at all, or some ticks."""
        await ticks(self.chance.randint(0, self.slowness))

    async def call(self, lane: str, items: list[int]) -> list[str]:
        """Check what is called for, take a while, and succeed, fail for a poisoned item or be lost with or without effect."""
        tried = self.failed_with_others & set(items)
        wrong = {
            "two calls at a time in a lane": lane in self.busy,
            "a call of this size": not 1 <= len(items) <= (1 if tried else self.max_size),
            "called for one that had gone while it waited": not self.gone.isdisjoint(items),
            "tried alone, but not in order": bool(tried) and not self.follows(lane, items),
        }
        self.wrong += [(what, items) for what, is_so in wrong.items() if is_so]  # an exception would be taken for the call's
        if tried:
            self.failed_with_others -= tried  # this is the last time
            self.tried_alone[lane] = items
        else:
            self.called[lane] += items
            self.tried_alone[lane] = []
        self.busy.add(lane)
        self.met["shared"] += len(items) > 1
        await self.pause()
        self.busy.discard(lane)
        if self.chance.random() < 0.3:  # somebody comes in the very moment
            self.come(lane)
        if self.chance.random() < self.loss:
            if self.chance.random() < 0.5:
                self.effects.update(items)
            lost = Unavailable("lost")
            self.answers.update(dict.fromkeys(items, lost))
            raise lost
        if not self.poisoned.isdisjoint(items):
            if len(items) > 1:
                self.failed_with_others |= set(items)
            poisoned = Poisoned(items)
            self.answers.update(dict.fromkeys(items, poisoned))
            raise poisoned
        self.effects.update(items)
        outcomes = [f"{item} {self.chance.random()}" for item in items]
        self.answers.update(zip(items, outcomes, strict=True))
        return outcomes

    def come(self, lane: str) -> None:
        """Another client, unless there were enough; perhaps one that leaves at some moment."""
        if self.count < 60:
            self.count += 1
            task = asyncio.create_task(self.request(lane, self.count))
            self.clients.append(task)
            if self.chance.random() < self.leaving:
                self.clients.append(asyncio.create_task(self.leave(lane, self.count, task)))

    async def request(self, lane: str, item: int) -> None:
        """Ask, and check the outcome; then, perhaps at once, ask for something else."""
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
            not_tried = item in self.failed_with_others and isinstance(outcome, Unavailable)
            assert outcome is self.answers[item] or not_tried, "not its own outcome"
            assert isinstance(outcome, Poisoned) == (item in self.poisoned) or isinstance(outcome, Unavailable)
            self.met[type(outcome).__name__] += 1
        if self.chance.random() < 0.5:
            await self.pause()
            self.come(self.chance.choice(self.lanes))

    async def leave(self, lane: str, item: int, request: "asyncio.Task[None]") -> None:
        """Some time later the client goes, unless it has its answer."""
        await self.pause()
        await self.pause()
        was_called = item in self.called[lane]
        if request.cancel():
            await asyncio.sleep(0)
            if item not in self.called[lane]:
                self.gone.add(item)
                self.met["left before its call"] += 1
            elif was_called:
                self.met["left in flight"] += 1

    async def run(self) -> None:
        """Clients come in bursts; in the end each has had its outcome and nothing is left."""
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
        while self.batcher._tasks:  # a call all of whose clients have gone ends by itself
            await asyncio.wait(self.batcher._tasks, timeout=PATIENCE_SECONDS)
            await asyncio.sleep(0)
        assert_empty(self.batcher)
        assert self.wrong == []
        for lane in self.lanes:
            assert self.called[lane] == [item for item in self.arrived[lane] if item not in self.gone], "not in order"
        assert max(self.effects.values(), default=0) <= 1, "it took effect twice"
        answered = [item for item, answer in self.answers.items() if isinstance(answer, str)]
        assert all(self.effects[item] == 1 for item in answered)


@pytest.mark.parametrize("seed", range(8))
async def test_random_interleavings(seed: int) -> None:
    """Hundreds of worlds each: every request gets its own outcome exactly once, in order, within bounds, and nothing is left."""
    met: Counter[str] = Counter()
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    handler: Callable[..., Any] | None = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    try:
        for n in range(200):
            number = seed * 200 + n
            try:
                await World(number, met).run()
            except BaseException as error:
                error.add_note(f"in world {number}")
                raise
    finally:
        loop.set_exception_handler(handler)
    assert errors == []
    kinds = ["shared", "overloaded", "str", "Poisoned", "Unavailable", "left before its call", "left in flight"]
    assert all(met[kind] >= 50 for kind in kinds), met
