"""Rounds: events that come together are written together, once for each client, and no client waits for another one."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest

from lastpair.realtime import rounds
from lastpair.realtime.event import REPLACEABLE, Event
from lastpair.realtime.feed import Feed
from lastpair.realtime.hub import Hub
from lastpair.realtime.rounds import BUSY_FACTOR, IDLE_FACTOR, IDLE_PAUSE_SECONDS, MAX_PAUSE_SECONDS, RELAXED_FACTOR, Rounds
from tests.support.hub import DROPS, MEMORY, QUEUE, TYPES, event_of, started_hub, the_track
from tests.support.waiting import Clock, eventually

pytestmark = pytest.mark.usefixtures("small_bounds")

TICK_SECONDS, SHORT_TICK_SECONDS = 0.1, 0.02


def encode(batch: list[Event]) -> bytes:
    """The ids, a line each."""
    return b"".join(b"%s\n" % event.position.encode() for event in batch)


class Dashboard:
    """A client and its transport, which is busy while a test says so."""

    encode = staticmethod(encode)
    heartbeat = b"heartbeat\n"

    def __init__(self, hub: Hub, *drop_ids: str) -> None:
        self.feed = Feed(hub, drop_ids, wants_snapshot=False)
        self.writes: list[bytes] = []
        self.batches: list[list[Event]] = []  # those that its task was woken for
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def is_busy(self) -> bool:
        """Has the test paused it?"""
        return not self._writable.is_set()

    def pause(self) -> None:
        """Take nothing from now on."""
        self._writable.clear()

    def resume(self) -> None:
        """Take everything again."""
        self._writable.set()

    async def drain(self) -> None:
        """Wait while it is paused."""
        await self._writable.wait()

    def write(self, data: bytes, position: str) -> None:
        """A round writes."""
        assert not self.is_busy
        assert data == self.heartbeat or data.endswith(b"%s\n" % position.encode())
        self.writes.append(data)

    @property
    def ids(self) -> list[int]:
        """Of all events that it has got."""
        return [int(line) for line in b"".join(self.writes).split() if line != b"heartbeat"]

    async def run(self) -> None:
        """Do as the transports do."""
        async for batch in self.feed.batches(self):
            self.batches.append(batch)
            await self.drain()
            if events := [event for event in batch if event.type != "POSITION"]:
                self.writes.append(encode(events))


@asynccontextmanager
async def opened(hub: Hub, *dashboards: Dashboard) -> AsyncIterator[None]:
    """These clients are connected and wait for events."""
    for dashboard in dashboards:
        await dashboard.feed.open(None)
    tasks = [asyncio.create_task(dashboard.run()) for dashboard in dashboards]
    await eventually(lambda: all(dashboard.feed._subscriber._outlet for dashboard in dashboards))
    yield
    for dashboard in dashboards:
        dashboard.feed.close()
        dashboard.resume()
    await asyncio.gather(*tasks)
    assert not hub._subscribers


def happen(hub: Hub, number: int = 1, drop_id: str = DROPS[0], event_type: str = "DROP_UPDATED") -> list[int]:
    """So many events are published; returns their ids."""
    ids = [(the_track(hub).head_id or 0) + 1 + n for n in range(number)]
    for event_id in ids:
        the_track(hub).publish(event_of(event_type, event_id, drop_id))
    return ids


@pytest.fixture
def hub() -> Hub:
    """A hub with long ticks."""
    found = started_hub()
    found._rounds._tick_seconds = TICK_SECONDS
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids for which bytes were made, each time."""
    found: list[list[int]] = []

    def noting(batch: list[Event]) -> bytes:
        found.append([event.id for event in batch])
        return encode(batch)

    monkeypatch.setattr(Dashboard, "encode", staticmethod(noting))
    return found


async def test_the_first_event_after_a_pause_is_written_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for the tick. What comes within the tick after it is one write, and no client's task is woken."""
    monkeypatch.setattr(rounds, "TURN_SECONDS", 60)  # all clients get it in one turn, also when the process is held up in it
    hub._rounds._tick_seconds = 5 * TICK_SECONDS  # longer than this process may be held up
    dashboards = [Dashboard(hub) for _ in range(3)]
    async with opened(hub, *dashboards):
        for _ in range(3):
            for dashboard in dashboards:
                dashboard.writes.clear()
            [first] = happen(hub)
            begin = asyncio.get_running_loop().time()
            await asyncio.sleep(0)
            assert [dashboard.writes for dashboard in dashboards] == [[b"%d\n" % first]] * 3
            later = []
            for _ in range(4):
                later += happen(hub)
                await asyncio.sleep(0)
            await eventually(lambda last=later[-1]: all(dashboard.ids[-1] == last for dashboard in dashboards))
            assert asyncio.get_running_loop().time() - begin > 4 * TICK_SECONDS
            assert [dashboard.writes[1:] for dashboard in dashboards] == [[b"".join(b"%d\n" % n for n in later)]] * 3
            await eventually(lambda: not hub._rounds._is_scheduled and rounds.perf_counter() > hub._rounds._next_at)
        assert [len(dashboard.batches) for dashboard in dashboards] == [1] * 3


async def test_bytes_are_made_once(hub: Hub, made: list[list[int]]) -> None:
    """Clients that are equally far in the same rooms share the bytes, and the others get theirs."""
    wide, narrow = [Dashboard(hub) for _ in range(20)], [Dashboard(hub, *DROPS[:2]) for _ in range(20)]
    async with opened(hub, *wide, *narrow):
        first = happen(hub, 2) + happen(hub, 1, DROPS[2]) + happen(hub, 1, DROPS[1])
        await eventually(lambda: all(dashboard.ids for dashboard in wide + narrow))
        assert sorted(made) == [first, [*first[:2], first[3]]]
        assert {tuple(dashboard.ids) for dashboard in wide} == {tuple(first)}
        assert {tuple(dashboard.ids) for dashboard in narrow} == {(*first[:2], first[3])}


async def test_a_paused_client_does_not_hold_the_others(hub: Hub) -> None:
    """The others get every event. It gets those that no newer one replaces when it takes bytes again."""
    paused, quick = Dashboard(hub), Dashboard(hub)
    async with opened(hub, paused, quick):
        paused.pause()
        ids = []
        for length in (3, 6, 9):
            ids += happen(hub, 2, event_type="STOCK_UPDATED") + happen(hub)
            await eventually(lambda length=length: len(quick.ids) == length)
        assert paused.writes == []
        paused.resume()
        await eventually(lambda: paused.ids)
        assert paused.ids == [ids[2], ids[5], ids[7], ids[8]]
        more = happen(hub, 2, event_type="STOCK_UPDATED")
        await eventually(lambda: paused.ids[-2:] == more)
        assert quick.ids == ids + more


async def test_a_client_that_is_paused_for_long_starts_again(hub: Hub) -> None:
    """More events than may wait came meanwhile, so it gets RESYNC_REQUIRED, and goes on with the next event."""
    paused, quick = Dashboard(hub), Dashboard(hub)
    async with opened(hub, paused, quick):
        paused.pause()
        ids = happen(hub, QUEUE + 1)
        await eventually(lambda: quick.ids == ids)
        paused.resume()
        await eventually(lambda: len(paused.batches) == 2)
        assert [event.type for event in paused.batches[1]] == ["RESYNC_REQUIRED"]
        [last] = happen(hub)
        await eventually(lambda: paused.ids[-1] == last)
        assert paused.ids == [ids[-1], last]  # RESYNC_REQUIRED has the first id


@pytest.mark.parametrize("seed", range(6))
async def test_clients_that_pause_at_random(hub: Hub, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever clients do, each gets the events of its rooms in order and once; what it misses was replaced while it was busy."""
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    hub._rounds._tick_seconds = 0.002
    monkeypatch.setattr(rounds, "TURN_SECONDS", chance.choice([0, 0.001]))
    rooms: list[tuple[str, ...]] = [(), (DROPS[0],), (DROPS[1], DROPS[2])]
    dashboards = [(Dashboard(hub, *drop_ids), drop_ids) for drop_ids in rooms for _ in range(4)]
    published: list[Event] = []

    def has_all(dashboard: Dashboard) -> bool:
        """Has it got the last event for it? Nothing replaces that one."""
        wanted = [event.id for event in published if event.drop_id in (dict(dashboards)[dashboard] or DROPS)]
        return dashboard.ids[-1:] == wanted[-1:]

    async with opened(hub, *(dashboard for dashboard, _ in dashboards)):
        waiting = 0
        for number in range(1, 300):
            published.append(event_of(chance.choice(TYPES), number, chance.choice(DROPS)))
            the_track(hub).publish(published[-1])
            waiting += 1
            for dashboard, _ in dashboards[::2]:
                (dashboard.pause if chance.random() < 0.1 else dashboard.resume)()
            if waiting >= QUEUE - 1 or chance.random() < 0.3:
                for dashboard, _ in dashboards if waiting >= QUEUE - 1 else ():
                    dashboard.resume()
                if waiting < QUEUE - 1:
                    await asyncio.sleep(chance.choice([0, 0, 0.001]))
                else:
                    await eventually(lambda: all(has_all(dashboard) for dashboard, _ in dashboards))
                    waiting = 0
            if chance.random() < 0.05:
                hub.beat()
        for dashboard, _ in dashboards:
            dashboard.resume()
        last = [event_of("DROP_UPDATED", 300 + n, drop_id) for n, drop_id in enumerate(DROPS)]
        published += last
        for event in last:
            the_track(hub).publish(event)
        for number, (dashboard, drop_ids) in enumerate(dashboards):
            wanted = [event for event in published if not drop_ids or event.drop_id in drop_ids]
            await eventually(lambda d=dashboard, w=wanted: d.ids[-1] == w[-1].id)
            assert dashboard.ids == sorted(set(dashboard.ids))
            assert set(dashboard.ids) <= {event.id for event in wanted}
            missed = [event for event in wanted if event.id not in dashboard.ids]
            assert not missed or number % 2 == 0
            assert all(event.type in REPLACEABLE for event in missed)


async def test_a_heartbeat_needs_no_task(hub: Hub) -> None:
    """It is written by a round, but not to a client that is busy, and after the events that wait."""
    dashboard, paused = Dashboard(hub), Dashboard(hub)
    async with opened(hub, dashboard, paused):
        paused.pause()
        hub.beat()
        await eventually(lambda: dashboard.writes == [b"heartbeat\n"])
        assert paused.writes == []
        hub.beat()
        [event_id] = happen(hub)
        await eventually(lambda: dashboard.ids == [event_id])
        assert dashboard.writes == [b"heartbeat\n", b"%d\n" % event_id, b"heartbeat\n"]
        assert len(dashboard.batches) == 1


async def test_a_transport_that_fails_does_not_end_the_round(hub: Hub) -> None:
    """The other clients get the event."""
    broken, *others = dashboards = [Dashboard(hub) for _ in range(5)]
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail(data: bytes, last_event_id: int) -> None:
        raise RuntimeError

    async with opened(hub, *dashboards):
        broken.write = fail  # type: ignore[method-assign]
        ids = happen(hub, 3)
        await eventually(lambda: all(dashboard.ids == ids for dashboard in others))
    assert [type(error) for error in failures] == [RuntimeError]


def counted(rooms: dict[str, range], serve: Callable[[int], object], tick_seconds: float = TICK_SECONDS) -> Rounds[str, int]:
    """Rounds over clients that are numbers."""
    return Rounds(rooms, lambda client, _: serve(client) and None, tick_seconds)


async def test_other_work_is_done_between_the_turns() -> None:
    """A round over clients that take long holds the event loop for a short time at once."""
    served, between = list[int](), list[int]()

    def serve(client: int) -> None:
        served.append(client)
        end = rounds.perf_counter() + rounds.TURN_SECONDS
        while rounds.perf_counter() < end:
            pass

    counted({"all": range(20)}, serve).announce("all", 0)
    while len(served) < 20:
        await asyncio.sleep(0)
        between.append(len(served))
    assert between == list(range(1, 21))


@pytest.mark.parametrize(
    ("own_seconds", "other_seconds", "pause_seconds"),
    [
        (0.001, 0.0, SHORT_TICK_SECONDS),
        (0.010, 0.0, 0.010 * RELAXED_FACTOR),
        (0.018, 0.0, IDLE_PAUSE_SECONDS),
        (0.050, 0.0, 0.050 * IDLE_FACTOR),
        (0.020, 0.020, 0.020 * (IDLE_FACTOR + BUSY_FACTOR) / 2),
        (0.050, 1.0, MAX_PAUSE_SECONDS),
        (0.200, 1.0, 0.200 * IDLE_FACTOR),
    ],
)
async def test_the_pause_after_a_round(
    own_seconds: float, other_seconds: float, pause_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is longer, the longer the round took and the more other work there was, within bounds."""
    clock = Clock()
    monkeypatch.setattr(rounds, "perf_counter", clock)
    monkeypatch.setattr(rounds, "thread_time", clock)

    def serve(client: int) -> None:
        clock.now += own_seconds / 10

    waiting = counted({"all": range(10)}, serve, SHORT_TICK_SECONDS)
    begin = clock.now
    waiting.announce("all", 0)
    for turns in count(1):
        await asyncio.sleep(0)
        if not waiting._is_scheduled:
            break
        if turns == 1:
            clock.now += other_seconds
    assert waiting._next_at - begin == pytest.approx(pause_seconds)


async def test_the_relay_waits_for_the_clients(hub: Hub) -> None:
    """If more events came than half of the memory since the last round, the next ones are published after the next round."""
    dashboard = Dashboard(hub)
    async with opened(hub, dashboard):
        happen(hub)
        await eventually(lambda: dashboard.ids == [1])
        happen(hub, MEMORY // 2)
        await hub.caught_up()
        assert dashboard.ids == [1]
        happen(hub)
        await hub.caught_up()
        assert dashboard.ids == list(range(1, MEMORY // 2 + 3))
    happen(hub, 2 * MEMORY)
    await hub.caught_up()  # nobody follows
