"""Streams over several nodes, without databases: each client gets the events of each node once and in order, whatever happens."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from json import dumps, loads
from uuid import UUID

import pytest

from lastpair.errors import Unavailable
from lastpair.realtime.event import Event, make_event
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.feed import Feed
from lastpair.realtime.hub import FOREVER, Hub
from lastpair.realtime.track import Track
from tests.support.hub import BATCH
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("small_bounds")

NUMBERS = [0, 2, 171]


def drop_on(number: int, n: int = 0) -> str:
    """The id of a drop that this node made."""
    return str(UUID(f"01900000-0000-7000-80{number:02x}-{n:012x}"))


def node_of(drop_id: str) -> int:
    """The number of the node that made this id."""
    return int(drop_id[21:23], 16)


DROPS = [drop_on(number, n) for number in NUMBERS for n in range(3)]
USERS = [str(UUID(int=n)) for n in range(3)]


class Node(EventLog):
    """A node: its log, which every process reads."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.texts: list[tuple[int, str, str | None, str]] = []  # id, drop, user and the whole event
        self.is_away = False
        self.pruned_to = 0

    @property
    def head_id(self) -> int:
        """The id of the latest event."""
        return self.texts[-1][0] if self.texts else 0

    def commit(self, drop_id: str, gap: int = 1, user_id: str | None = None) -> int:
        """An event of a drop; returns its id."""
        event_id = self.head_id + gap
        fields = {"type": "PURCHASE_COMPLETED", "id": str(event_id), "drop_id": drop_id, "user_id": user_id, "data": {}}
        self.texts.append((event_id, drop_id, user_id, dumps(fields, separators=(",", ":"))))
        return event_id

    def events(self, after: int) -> list[Event]:
        """All events after this id."""
        return [Event(text) for event_id, *_, text in self.texts if event_id > after]

    async def after(self, event_id: int, limit: int, drop_ids: Sequence[str] | None, user_id: str | None = None) -> list[Event]:
        """Answer as the database does."""
        await self._travel()
        if event_id < self.pruned_to or (event_id and all(event_id != each for each, *_ in self.texts)):
            return [make_event("RESYNC_REQUIRED", event_id, {"reason": "It is gone."})]
        return [
            Event(text)
            for each, drop_id, user, text in self.texts
            if each > event_id and (user == user_id if user else drop_ids is None or drop_id in drop_ids)
        ][:limit]

    async def snapshot(self, drop_ids: Sequence[str] | None) -> Event:
        """Answer as the database does. Of each drop the SNAPSHOT says up to which event it has everything."""
        await self._travel()
        shown = [drop_on(self.number, n) for n in range(3)] if drop_ids is None else sorted(drop_ids)
        drops = [{"id": drop_id, "starts_at": None, "price": 1.5, "upTo": self.head_id} for drop_id in shown]
        return make_event("SNAPSHOT", self.head_id, {"drops": drops})

    async def _travel(self) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("away")


class Process:
    """A process of the service: its hub, and what its relays have heard."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.hub = Hub(tick_seconds=0, node_of=node_of)
        self.tracks: dict[Node, Track] = {}
        for node in nodes:
            self.join(node)

    def join(self, node: Node) -> Track:
        """A node that this process has not connected to yet."""
        track = self.tracks[node] = self.hub.add(node.number, node)
        return track

    async def connect(self, node: Node) -> None:
        """Read the log, and hear of commits from now on."""
        track = self.tracks[node]
        if track.head_id is None:
            track.restart(0 if not node.texts else node.texts[0][0] - 1 if not node.pruned_to else node.pruned_to)
        track.hearing.set()
        await self.hear(node)

    async def hear(self, node: Node, limit: int = 1000) -> None:
        """Hear of the next events. As a relay, it waits for clients that are far behind."""
        track = self.tracks[node]
        if track.hearing.is_set():
            for n, event in enumerate(node.events(track.head_id or 0)[:limit]):
                if n % BATCH == 0:
                    await self.hub.caught_up()
                track.publish(event)

    def lose(self, node: Node) -> None:
        """The node is away for this process."""
        self.tracks[node].hearing.clear()
        self.tracks[node].settled.set()

    async def restart(self, node: Node) -> None:
        """The memory of the node is gone, as after a long loss: it begins with the latest events."""
        track = self.tracks[node]
        if not track.hearing.is_set() or len(node.texts) < 6:
            return
        track.restart(node.texts[-5][0])
        await self.hear(node)


def lines(batch: list[Event]) -> bytes:
    """Each event in a line: its position and its text."""
    shown = [(event.position, event.type, event.track.number if event.track else None, event.id, event.data) for event in batch]
    return b"".join(dumps(each).encode() + b"\n" for each in shown)


class Client:
    """A client that comes back with its last id, to any process. It notes what it is given of each node."""

    heartbeat = b""
    is_busy = False
    encode = staticmethod(lines)

    def __init__(self, *drop_ids: str, user_id: str | None = None, has_outlet: bool = True, wants_snapshot: bool = True) -> None:
        self.drop_ids, self.user_id, self.has_outlet, self.wants_snapshot = drop_ids, user_id, has_outlet, wants_snapshot
        self.position: str | None = None
        self.starts: dict[str, int] = {}  # of each drop the id up to which its snapshot has everything
        self.ids = defaultdict[int, list[int]](list)  # of the events, by node
        self.types: list[str] = []
        self.incomplete: set[str] = set()
        self.data: list[dict[str, object]] = []
        self.feed: Feed | None = None
        self.task: asyncio.Task[None] | None = None

    async def connect(self, process: Process) -> None:
        """Connect, with the last id."""
        self.feed = Feed(process.hub, self.drop_ids, wants_snapshot=self.wants_snapshot, user_id=self.user_id)
        with suppress(Unavailable):
            await self.feed.open(self.position)
            self.task = asyncio.create_task(self._read(self.feed))

    async def _read(self, feed: Feed) -> None:
        async for batch in feed.batches(self if self.has_outlet else None):
            self.write(lines(batch), "")

    def write(self, data: bytes, position: str) -> None:
        """Take lines."""
        for line in data.splitlines():
            self.position, event_type, number, event_id, text = loads(line)
            self.types.append(event_type)
            self.data.append(loads(text))
            if event_type == "SNAPSHOT":
                found = loads(text)
                self.starts |= {drop["id"]: drop["upTo"] for drop in found["drops"]}
                self.incomplete = self.incomplete - {*found.get("completes", ())} | {*found.get("incomplete", ())}
            elif event_type == "PURCHASE_COMPLETED":
                self.ids[number].append(event_id)
        assert position in {"", self.position}

    async def drain(self) -> None:
        """It is never busy."""

    async def disconnect(self) -> None:
        """Lose the connection."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.result()
        self.task = None

    def wanted(self, node: Node) -> list[int]:
        """The ids of the events of this node that it should have been given.

        If a node was away when it came, it has the drops of the node from a later snapshot, or every event from the first one on.
        """
        since = dict.fromkeys(self.drop_ids or DROPS, 0) if f"node {node.number}" in self.incomplete else {}
        since |= self.starts

        def is_wanted(event_id: int, drop_id: str, user_id: str | None) -> bool:
            return user_id in {None, self.user_id} and event_id > since.get(drop_id, FOREVER)

        return [event_id for event_id, drop_id, user_id, _ in node.texts if is_wanted(event_id, drop_id, user_id)]


@pytest.mark.parametrize("seed", range(8))
async def test_random_clients(seed: int) -> None:
    """Clients with any rooms lose connections and come back to either of two processes, which hear of the nodes' events in
    different orders, while nodes are away and memories are lost: each gets every event of its rooms once, in the node's order."""
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    nodes = [Node(number) for number in NUMBERS]
    processes = [Process(nodes) for _ in range(2)]
    for process in processes:
        for node in nodes:
            await process.connect(node)
    clients = [
        Client(
            *chance.choice([(), (), DROPS[:1], DROPS[2:5], DROPS[6:], [DROPS[0], DROPS[-1]]]),
            has_outlet=chance.random() < 0.7,
        )
        for _ in range(20)
    ] + [Client(user_id=user) for user in USERS for _ in range(2)]
    for _ in range(400):
        for _ in range(chance.choice([1, 1, 2, 5])):
            node = chance.choice(nodes)
            user = chance.choice([None, None, None, *USERS])
            node.commit(drop_on(node.number, chance.randrange(3)), chance.choice([1, 1, 4]), user)
        for process in processes:
            for node in chance.sample(nodes, 3):
                if chance.random() < 0.5:
                    await process.hear(node, chance.choice([1, 2, 1000]))
                if chance.random() < 0.01:
                    await process.restart(node)
            await process.hub.caught_up()
        if chance.random() < 0.05:
            node = chance.choice(nodes)
            node.is_away = not node.is_away and sum(each.is_away for each in nodes) < 2
            for process in processes:
                if node.is_away:
                    process.lose(node)
                else:
                    await process.connect(node)
        for client in chance.sample(clients, 2):
            if client.task is None:
                await client.connect(chance.choice(processes))
            elif chance.random() < 0.5:
                await client.disconnect()
        for _ in range(chance.choice([0, 1, 5])):
            await asyncio.sleep(0)
    for node in nodes:
        node.is_away = False
        for process in processes:
            await process.connect(node)
    for client in clients:
        if client.task is None:
            await client.connect(chance.choice(processes))
    for client in clients:
        assert client.task is not None
        await eventually(
            lambda client=client: all(client.ids[node.number] == client.wanted(node) for node in nodes) or client.task.done()
        )
        for node in nodes:
            assert client.ids[node.number] == client.wanted(node)
        assert "RESYNC_REQUIRED" not in client.types
        await client.disconnect()
    for process in processes:
        assert process.hub._subscribers == set()
