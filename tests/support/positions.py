"""Positions in the log of events. That of one database is an id; that of a cluster is an id for each node, `0:12,1:7`.

Tests of one database reckon with ids. On a cluster they may do so as well: a position that says nothing but of the first node is
its id there, and the id of an event is a number that tells its node, too.
"""

import re
from collections.abc import Mapping

POSITION = "[0-9]+(?::[0-9]+(?:,[0-9]+:[0-9]+)*)?"
"""As the service writes it."""

FIRST_OF_NODE = 2**60
"""In tests the ids of node n begin at n times this."""


class Position(int):
    """As a number it is the id on the first node, or in the one database."""

    ids: Mapping[int, int]
    """By node; a node with 0 is left out."""

    def __new__(cls, ids: Mapping[int, int]) -> "Position":
        position = super().__new__(cls, ids.get(0, 0))
        position.ids = {node: ids[node] for node in sorted(ids) if ids[node] > 0}
        return position

    @classmethod
    def of(cls, text: object) -> "Position":
        """The position that is written so, or this number."""
        if isinstance(text, Position):
            return text
        if ":" not in str(text):
            return cls({0: int(str(text))})
        return cls({int(node): int(event_id) for node, event_id in re.findall("([0-9]+):([0-9]+)", str(text))})

    def __str__(self) -> str:
        if self.ids.keys() <= {0}:
            return int.__repr__(self)
        return ",".join(f"{node}:{event_id}" for node, event_id in self.ids.items())

    def __hash__(self) -> int:
        return hash(str(self))

    def __eq__(self, other: object) -> bool:
        return self.ids == other.ids if isinstance(other, Position) else int(self) == other

    def __add__(self, other: int) -> "Position":
        return Position({**self.ids, 0: int(self) + other})

    def __sub__(self, other: int) -> "Position":
        return self + -other

    def reaches(self, other: "Position") -> bool:
        """Is it on no node before the other one?"""
        return all(self.ids.get(node, 0) >= event_id for node, event_id in other.ids.items())


def node_of_table(name: str) -> int:
    """The number of the node that has this table, which is `data_<n>.events` on a cluster (tests/support/whole_cluster.py)."""
    match = re.match(r"data_(\d+)\.", name)
    return int(match[1]) if match else 0


def event_id_of(node: int, event_id: int) -> int:
    """The id of an event of this node, different from those of other nodes."""
    return node * FIRST_OF_NODE + event_id


def node_of_event(event_id: int) -> int:
    """The node that has the event with that id."""
    return event_id // FIRST_OF_NODE


def node_of_id(row_id: str) -> int:
    """The node that made this id of a drop; in one database it is 0."""
    return int(row_id[21:23], 16)
