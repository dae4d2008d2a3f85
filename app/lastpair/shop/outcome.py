"""The result of a request (Outcome) and its user (Caller): the types that a transport and the shop exchange."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

DONE, CREATED = 200, 201
"""The two statuses of `api.outcome` for a request that was carried out."""

AUTH_REQUIRED = "AUTH_REQUIRED"


class Outcome(NamedTuple):
    """The result of one request, with the fields of the type `api.outcome` in the database.

    A refusal is an outcome and not an exception, because most answers of a hot drop are refusals and raising costs time.
    """

    status: int
    """The status, such as 201 or 409, as the database defines it."""

    code: str | None
    """The code of the refusal; None if the request was carried out."""

    message: str | None
    """The text of the refusal, for people; None if the request was carried out."""

    replayed: bool
    """Whether an earlier request with the same idempotency key was carried out. `data` is then the row that it made, as it is
    now."""

    data: Any
    """The row or rows that were made, changed or read: a text of JSON, which the database made and nobody parses here, or a Page.
    After a refusal None, or of a basket its refused items: a list of `index`, `code` and `message`."""


class Page(NamedTuple):
    """A page of a list: the data of the Outcome of such a request."""

    rows: str
    """The rows, as the database's text of a JSON array."""

    next_cursor: str | None
    """Where the next page begins; None: this is the last one."""

    incomplete: str | None = None
    """The nodes that are away, whose rows are missing here, such as `node 2, node 5`; None: none is."""


@dataclass(slots=True)
class Caller:
    """The user who makes a request."""

    id: str
    """A UUID in lower case."""

    name_if_new: Callable[[], str | None] | None = None
    """Returns the name for a user who does not exist yet, or None for a default name. It may raise Refusal.

    If there is no such function, a user who does not exist is refused with AUTH_REQUIRED.
    """

    is_named_elsewhere: bool = False
    """Whether that name is the user's at this moment, so that a user who has another one here is renamed."""
