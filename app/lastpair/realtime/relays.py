"""The relays of a process: one for each node, from the moment it joins until it leaves."""

import asyncio

from lastpair.database.nodes import Node, Nodes
from lastpair.observability.metrics import NODE_LISTENING
from lastpair.realtime.event_log import EventLog, NodeLog
from lastpair.realtime.hub import Hub
from lastpair.realtime.relay import Relay
from lastpair.realtime.track import Track


class Relays:
    """One for each process."""

    def __init__(self, nodes: Nodes, hub: Hub, purchaser_names: str = "full") -> None:
        """`purchaser_names` is the setting."""
        self.all: list[Relay] = []
        self._hub = hub
        self._purchaser_names = purchaser_names
        self._running: dict[Node, tuple[Relay, Track, asyncio.Task[None]]] = {}
        nodes.on_join.append(self._start)
        nodes.on_leave.append(self._stop)

    @property
    def is_connected(self) -> bool:
        """Whether this process hears of commits. One node that is away takes nothing from the others, so one relay is enough."""
        return not self.all or any(relay.is_connected for relay in self.all)

    async def close(self) -> None:
        """Stop relaying."""
        tasks = [task for _, _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, node: Node) -> None:
        log = EventLog(node.database) if node.number is None else NodeLog(node.database)
        track = self._hub.add(node.number, log)
        relay = Relay(node.servers, track, node.watch, self._purchaser_names)
        self.all.append(relay)
        self._running[node] = relay, track, asyncio.create_task(relay.run())

    def _stop(self, node: Node) -> None:
        relay, track, task = self._running.pop(node)
        task.cancel()
        self.all.remove(relay)
        self._hub.remove(track)
        if node.number is not None:
            # No alert may fire for it. The label stays, because with several processes it cannot be removed.
            task.add_done_callback(lambda _: NODE_LISTENING.labels(str(node.number)).set(1))
