"""Values as they come and go in JSON."""

from decimal import Decimal
from uuid import UUID

import orjson


def uuid_or_none(text: str | None) -> str | None:
    """The UUID in lower case; None if it is not one."""
    try:
        return str(UUID(text or ""))
    except ValueError:
        return None


def as_number(value: object) -> object:
    """An amount with all its digits, for orjson's `default`."""
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError
