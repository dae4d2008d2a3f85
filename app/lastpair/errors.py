"""The errors that every transport answers with.

The database defines its own refusals (`api.errors()`). This module has the classes for refusals, and the errors that two or more
folders raise themselves.
"""

TOO_MANY_WAITING = "Too many requests are waiting. Try again in a moment."
DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
STOPPING = "This process is stopping. Try again, and another one answers."


class Refusal(Exception):
    """A request that is not carried out.

    `code` is for programs and `message` for people. `status` is the class of the error as `api.errors()` defines it: three
    digits, such as 409. `retry_after_seconds` says when to try again, if that makes sense.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class Unavailable(Refusal):
    """The service cannot carry the request out now; the client may try again after a second."""

    def __init__(self, message: str, code: str = DATABASE_UNAVAILABLE) -> None:
        super().__init__(503, code, message, retry_after_seconds=1)


class Busy(Unavailable):
    """Another transaction held a lock for longer than the call would wait. The call had no effect."""


def overloaded(message: str = TOO_MANY_WAITING) -> Unavailable:
    """OVERLOADED: the request was not begun, because too much is waiting already."""
    return Unavailable(message, "OVERLOADED")


def invalid(field: str, reason: str) -> Refusal:
    """VALIDATION_ERROR: a value is not acceptable; the message names the field and the reason."""
    return Refusal(400, "VALIDATION_ERROR", f"{field}: {reason}")
