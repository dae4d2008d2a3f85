"""The nodes: the databases that drops live in. Without a router it is one, the database of the service.

Behind a router there are several. A drop lives on one node, and every id that a node makes carries the number of the node, so an
id says where its row is.
"""

from dataclasses import dataclass

from lastpair.database.pool import Database
from lastpair.database.servers import Servers


@dataclass(frozen=True, eq=False)
class Node:
    """A database that drops live in."""

    number: int | None
    """Its number in the ids that it makes; None if there is no router."""

    database: Database
    """Calls the functions on this node."""

    servers: Servers
    """Where its events are heard: a router passes no notifications on."""

    @property
    def name(self) -> str:
        """What people and answers call it."""
        return f"node {self.number or 0}"


class Nodes:
    """The nodes as this process knows them. `all` has the first node first."""

    def __init__(self, database: Database, servers: Servers) -> None:
        """`servers` lead to the same database, without a pooler."""
        self.all = [Node(None, database, servers)]

    def of(self, row_id: str) -> Node:
        """The node on which the row with this id is."""
        return self.all[0]
