"""UUIDs that come from elsewhere."""

from uuid import UUID


def uuid_or_none(text: str | None) -> str | None:
    """The UUID in lower case; None if it is not one."""
    try:
        return str(UUID(text or ""))
    except ValueError:
        return None
