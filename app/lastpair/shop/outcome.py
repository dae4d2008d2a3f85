"""What became of a request, and the user who made it: the two types that a transport exchanges with the shop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

DONE, CREATED = 200, 201
"""The two statuses of `api.outcome` for a request that was carried out."""

AUTH_REQUIRED = "AUTH_REQUIRED"


class Outcome(NamedTuple):
    """What became of one request; the same fields as `api.outcome` of the database.

    A refusal is an outcome and not an exception, because most answers of a hot drop are refusals and raising costs time.
    """

    status: int
    """The class of the outcome, such as 201 or 409; the database defines it."""

    code: str | None
    """Why the request was refused; None when it was carried out."""

    message: str | None
    """The refusal for people."""

    replayed: bool
    """An earlier request with the same idempotency key was carried out; this is what it made, as it is now."""

    data: Any
    """What was made, changed or read, as JSON of the database (orjson.Fragment); None after a refusal."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user who makes a request."""

    id: str
    """A UUID in lower case."""

    name_if_new: Callable[[], str | None] | None = None
    """The name for a user who is missing and is therefore made now, or None for a default name. Without this function a missing
    user
    is refused. It may raise Refusal."""
