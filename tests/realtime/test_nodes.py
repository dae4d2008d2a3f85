"""Streams over several nodes, without databases: each client gets the events of each node once and in order, whatever happens."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from json import dumps, loads
from typing import Any
from uuid import UUID

import pytest

from lastpair.errors import Unavailable
from lastpair.realtime.event import Event, make_event
from lastpair.realtime.event_log import EventLog
from lastpair.realtime.feed import Feed
from lastpair.realtime.hub import FOREVER, Hub
from lastpair.realtime.track import Track
from tests.support import waiting
from tests.support.hub import BATCH, started_hub, the_track

pytestmark = pytest.mark.usefixtures("small_bounds")

eventually = partial(waiting.eventually, timeout_seconds=60)
"""Waits as long as a slow machine needs."""

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
        self.is_frozen = False
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
        while self.is_frozen:
            await asyncio.sleep(0.001)
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


@pytest.fixture
def nodes() -> list[Node]:
    """Three nodes that have had events."""
    found = [Node(number) for number in NUMBERS]
    for node in found:
        for _ in range(3):
            node.commit(drop_on(node.number))
    return found


@pytest.fixture
async def process(nodes: list[Node]) -> Process:
    """A process that hears of all three."""
    process = Process(nodes)
    for node in nodes:
        await process.connect(node)
    return process


async def commit(process: Process, *nodes: Node) -> None:
    """An event of the first drop of each of these nodes."""
    for node in nodes:
        node.commit(drop_on(node.number))
        await process.hear(node)


async def opened(process: Process, *drop_ids: str, position: str | None = None, **options: Any) -> Client:
    """A client that is connected."""
    client = Client(*drop_ids, **options)
    client.position = position
    await client.connect(process)
    return client


async def test_a_position(nodes: list[Node], process: Process) -> None:
    """The ids of a stream say where it is on each node, in the order in which the nodes joined."""
    client = await opened(process)
    await eventually(lambda: client.position == "0:3,2:3,171:3")
    await commit(process, nodes[1], nodes[2], nodes[1])
    await eventually(lambda: client.position == "0:3,2:5,171:4")
    assert client.ids == {2: [4, 5], 171: [4]}
    await client.disconnect()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0", {0: 0}),
        ("17", {0: 17}),
        ("0:1,2:3,171:5", {0: 1, 2: 3, 171: 5}),
        ("171:5,0:1", {0: 1, 171: 5}),
        ("2:3,9:9", {2: 3}),
        ("9:9", {}),
        ("0:999999999999999999", {0: 999999999999999999}),
        *(
            (text, None)
            for text in ["", "x", "-1", "1.5", "0:", ":1", "0:1,", ",0:1", "0:1,0:1", "256:1", "01:1", "0:1 ,2:3", "٣"]
        ),
        *((text, None) for text in ["0:1\n", "1" * 19, "0:" + "1" * 19, ",".join(f"{n}:1" for n in range(257)), "0:1," * 9999]),
    ],
)
async def test_positions_of_clients(process: Process, text: str, ids: dict[int, int] | None) -> None:
    """What a client sends as its id is understood, or is none. One id is of the first node, and unknown nodes are left out."""
    vector = process.hub.vector_of(text)
    assert ids == (None if vector is None else {track.number: event_id for track, event_id in vector.items()})


@pytest.mark.parametrize(("text", "event_id"), [("17", 17), ("5:17", 17), ("0:17,1:4", None), ("5:", None)])
def test_positions_that_come_to_a_single_database(text: str, event_id: int | None) -> None:
    """A position on one node is one in its database. One on several nodes is none."""
    hub = started_hub()
    assert hub.vector_of(text) == (None if event_id is None else {the_track(hub): event_id})


@pytest.mark.parametrize("has_outlet", [True, False])
async def test_a_node_that_is_away(nodes: list[Node], process: Process, has_outlet: bool) -> None:
    """A stream of all drops opens without it, and gets its drops in a SNAPSHOT when it is back. Others are not told."""
    before = await opened(process, has_outlet=has_outlet)
    narrow = await opened(process, DROPS[0], has_outlet=has_outlet)
    nodes[1].is_away = True
    process.lose(nodes[1])
    wide = [await opened(process, has_outlet=has_outlet) for _ in range(3)]
    await commit(process, nodes[0], nodes[2])
    for client in wide:
        await eventually(lambda client=client: client.ids == {0: [4], 171: [4]})
        assert client.data[0]["incomplete"] == ["node 2"]
        assert client.position == "0:4,171:4"
        assert DROPS[3] not in client.starts
    nodes[1].commit(DROPS[3])
    nodes[1].is_away = False
    await process.connect(nodes[1])
    await commit(process, *nodes)
    for client in wide:
        await eventually(lambda client=client: client.position == "0:5,2:5,171:5")
        assert client.types.count("SNAPSHOT") == 2
        assert client.ids == {0: [4, 5], 2: client.wanted(nodes[1]), 171: [4, 5]}
        assert client.starts.keys() == {*DROPS}
        assert client.incomplete == set()
    await eventually(lambda: before.ids == {0: [4, 5], 2: [4, 5], 171: [4, 5]} and narrow.ids == {0: [4, 5]})
    for client in (before, narrow, *wide):
        assert client.types.count("SNAPSHOT") == (2 if client in wide else 1)
        await client.disconnect()


async def test_a_node_that_is_frozen(nodes: list[Node], process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream waits for its drops a limited time. Whatever is asked of the node later, the others' events come meanwhile."""
    monkeypatch.setattr("lastpair.realtime.feed.PATIENCE_SECONDS", 0.05)
    nodes[1].is_frozen = True
    wide, both = await opened(process), await opened(process, DROPS[0], DROPS[3])
    process.tracks[nodes[1]].restart(3)
    back = await opened(process, position="0:3,2:1,171:3")
    await commit(process, nodes[0], nodes[2])
    await eventually(lambda: wide.ids == back.ids == {0: [4], 171: [4]} and both.ids == {0: [4]})
    assert wide.data[0]["incomplete"] == both.data[0]["incomplete"] == ["node 2"]
    nodes[1].is_frozen = False
    await eventually(lambda: wide.types[-1] == both.types[-1] == "SNAPSHOT" and back.ids[2] == [2, 3])
    await commit(process, nodes[1])
    await eventually(lambda: wide.ids[2] == both.ids[2] == [4] and back.ids[2] == [2, 3, 4])
    for client in (wide, both, back):
        await client.disconnect()


async def test_all_nodes_are_away(nodes: list[Node], process: Process) -> None:
    """A stream that would have nothing is refused, as in a single database."""
    for node in nodes:
        node.is_away = True
    for drop_ids in ((), DROPS[:1], (DROPS[0], DROPS[3])):
        feed = Feed(process.hub, drop_ids, wants_snapshot=True)
        with pytest.raises(Unavailable):
            await feed.open(None)
    nodes[0].is_away = False
    client = await opened(process, *DROPS[:1])
    await eventually(lambda: client.types == ["SNAPSHOT"])
    await client.disconnect()


async def test_a_node_whose_log_is_read(nodes: list[Node], process: Process) -> None:
    """A client that comes back while a node is away, and whose missed events are not in memory, gets them when it is back."""
    process.tracks[nodes[1]].restart(3)
    nodes[1].is_away = True
    process.lose(nodes[1])
    client = await opened(process, position="0:1,2:1,171:1")
    client.starts = dict.fromkeys(DROPS, 1)
    await commit(process, nodes[0])
    await eventually(lambda: client.ids == {0: [2, 3, 4], 171: [2, 3]})
    assert client.position == "0:4,2:1,171:3"
    nodes[1].is_away = False
    await process.connect(nodes[1])
    await eventually(lambda: client.ids[2] == [2, 3])
    await commit(process, nodes[1], nodes[0])
    await eventually(lambda: client.position == "0:5,2:4,171:3")
    assert client.types == ["PURCHASE_COMPLETED"] * len(client.types)
    await client.disconnect()


async def test_a_stream_without_a_snapshot_while_a_node_is_away(nodes: list[Node]) -> None:
    """Nobody knows what it has missed of the node, so it must start again when the node is there."""
    process = Process(nodes)
    for node in nodes[:2]:
        await process.connect(node)
    process.lose(nodes[2])
    client = await opened(process, wants_snapshot=False)
    await commit(process, nodes[0])
    await eventually(lambda: client.ids == {0: [4]})
    assert client.position == "0:4,2:3"
    await process.connect(nodes[2])
    await eventually(lambda: client.types == ["POSITION", "PURCHASE_COMPLETED", "RESYNC_REQUIRED"])
    await commit(process, nodes[2])
    await eventually(lambda: client.ids == {0: [4], 171: [4]})
    await client.disconnect()


async def test_a_log_that_changed(nodes: list[Node], process: Process) -> None:
    """Clients that hear this node start again, and the others hear nothing of it."""
    wide, narrow, other = await opened(process), await opened(process, DROPS[0]), await opened(process, DROPS[3])
    await eventually(lambda: wide.types and narrow.types and other.types)
    process.tracks[nodes[1]].restart(3, log_changed=True)
    await eventually(lambda: wide.types == other.types == ["SNAPSHOT", "RESYNC_REQUIRED", "SNAPSHOT"])
    await commit(process, *nodes)
    await eventually(lambda: wide.ids == {0: [4], 2: [4], 171: [4]} and narrow.ids == {0: [4]} and other.ids == {2: [4]})
    assert narrow.types == ["SNAPSHOT", "PURCHASE_COMPLETED"]
    for client in (wide, narrow, other):
        await client.disconnect()


async def test_a_part_of_a_position_that_is_lost(nodes: list[Node], process: Process) -> None:
    """An id that one node's log does not have makes a client of its drops start again, and no other client."""
    wide = await opened(process, position="0:3,2:2222,171:3")
    await eventually(lambda: wide.types == ["RESYNC_REQUIRED", "SNAPSHOT"])
    narrow = await opened(process, DROPS[0], position="0:3,2:2222,171:3")
    await commit(process, nodes[0], nodes[1])
    await eventually(lambda: narrow.ids == {0: [4]})
    assert narrow.types == ["PURCHASE_COMPLETED"]
    assert narrow.position in {"0:4,2:3,171:3", "0:4,2:4,171:3"}
    for client in (wide, narrow):
        await client.disconnect()


@pytest.mark.parametrize("has_drops", [True, False])
async def test_a_node_that_joins(nodes: list[Node], has_drops: bool) -> None:
    """Open streams get its events from the first one on, and one that comes back with an older position gets them, too. Of a
    node whose first events are gone they get a SNAPSHOT."""
    new = Node(7)
    process = Process(nodes)
    for node in nodes:
        await process.connect(node)
    open_stream, narrow = await opened(process), await opened(process, DROPS[0])
    await eventually(lambda: open_stream.types and narrow.types)
    for _ in range(200 if has_drops else 0):
        new.commit(drop_on(7))
    new.pruned_to = 150 if has_drops else 0
    process.join(new)
    await commit(process, nodes[0])
    await eventually(lambda: open_stream.ids == {0: [4]})
    await process.connect(new)
    for _ in range(3):
        await commit(process, new, nodes[0])
    back = await opened(process, position="0:3,2:3,171:3")
    for client in (open_stream, back):
        await eventually(lambda client=client: client.position == f"0:7,2:3,171:3,7:{new.head_id}")
        assert client.ids[0] == [4, 5, 6, 7]
        assert client.ids[7] == ([event_id for event_id, *_ in new.texts if event_id > client.starts.get(drop_on(7), 0)])
        assert (drop_on(7) in client.starts) == has_drops
        assert "RESYNC_REQUIRED" not in client.types
    await eventually(lambda: narrow.types == ["SNAPSHOT", *["PURCHASE_COMPLETED"] * 4])
    for client in (open_stream, narrow, back):
        await client.disconnect()


async def test_a_node_that_leaves(nodes: list[Node], process: Process) -> None:
    """Streams go on with the others, and positions do not name it any more."""
    client, gone = await opened(process), process.tracks.pop(nodes[1])
    await eventually(lambda: client.types)
    process.hub.remove(gone)
    for node in (nodes[0], nodes[2]):
        await commit(process, node)
    await eventually(lambda: client.position == "0:4,171:4")
    assert client.types == ["SNAPSHOT", "PURCHASE_COMPLETED", "PURCHASE_COMPLETED"]
    await client.disconnect()


async def test_a_drop_of_another_node_is_joined(nodes: list[Node], process: Process) -> None:
    """It comes in a SNAPSHOT, also if its node is away at first. The other node's events go on meanwhile."""
    client = await opened(process, DROPS[0])
    await eventually(lambda: client.types)
    assert client.feed is not None
    for number, drop_id, ends_at in ((1, DROPS[3], "0:5,2:4,171:3"), (2, DROPS[6], "0:7,2:4,171:4")):
        nodes[number].is_away = True
        client.feed.join(drop_id)
        await commit(process, nodes[0])
        await eventually(lambda: client.ids[0][-1:] == [nodes[0].head_id])
        assert drop_id not in client.starts
        nodes[number].is_away = False
        await eventually(lambda drop_id=drop_id: drop_id in client.starts)
        await commit(process, nodes[number], nodes[0])
        await eventually(lambda ends_at=ends_at: client.position == ends_at)
    assert client.ids == {0: [4, 5, 6, 7], 2: [4], 171: [4]}
    await client.disconnect()


async def test_the_own_events_of_a_user(nodes: list[Node], process: Process) -> None:
    """A stream of one drop has them from every node, over a reconnect to another process, and none from before it was opened."""
    other = Process(nodes)
    for node in nodes:
        await other.connect(node)
    client = await opened(process, DROPS[0], user_id=USERS[0])
    await eventually(lambda: client.position == "0:3,2:3,171:3")
    for _ in range(2):
        for node in reversed(nodes):
            node.commit(drop_on(node.number, 1), user_id=USERS[0])
            node.commit(drop_on(node.number, 1), user_id=USERS[1])
            await other.hear(node)
    await process.hear(nodes[2])
    await eventually(lambda: client.ids == {171: [4, 6]})
    await client.disconnect()
    await client.connect(other)
    await eventually(lambda: client.ids == {0: [4, 6], 2: [4, 6], 171: [4, 6]})
    assert set(client.types) == {"SNAPSHOT", "PURCHASE_COMPLETED"}
    await client.disconnect()


async def test_bytes_are_shared_while_a_node_is_away(
    nodes: list[Node], process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that lack the same node are given the same bytes, so a crowd that comes meanwhile costs no more than another."""
    made: list[int] = []

    def noting(batch: list[Event]) -> bytes:
        made.append(len(batch))
        return lines(batch)

    monkeypatch.setattr(Client, "encode", staticmethod(noting))
    before = [await opened(process) for _ in range(10)]
    nodes[1].is_away = True
    process.lose(nodes[1])
    clients = [await opened(process) for _ in range(10)]
    await eventually(lambda: all(each._outlet for each in process.hub._subscribers) and len(process.hub._subscribers) == 20)
    await commit(process, nodes[0])
    await eventually(lambda: all(client.ids == {0: [4]} for client in (*before, *clients)))
    assert made == [1, 1]
    for client in (*before, *clients):
        await client.disconnect()
