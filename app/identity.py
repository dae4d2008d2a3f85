"""Who is asking. AUTH_MODE=header trusts X-User-Id, as a placeholder that production refuses."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import TypeAdapter
from starlette.requests import Request

from app.bodies import Text
from app.database import Database
from app.http import CANONICAL_UUID, Refusal, header, invalid

ENSURE_USER = "select from api.ensure_user($1, $2)"
USERNAME: TypeAdapter[str] = TypeAdapter(Text)
Answer = TypeVar("Answer")


def user_id_of(request: Request) -> str:
    """The user's id from X-User-Id, in lower case; raises AUTH_REQUIRED."""
    given = header(request.scope, b"x-user-id")
    if given is None:
        raise Refusal(401, "AUTH_REQUIRED", "Say who you are: send the header X-User-Id with a user's UUID.")
    if not CANONICAL_UUID.fullmatch(given):
        raise Refusal(401, "AUTH_REQUIRED", "X-User-Id: must be a UUID such as 0190b6c5-7d3e-7abc-9def-0123456789ab")
    return given.lower()


async def as_user(request: Request, call: Callable[[str], Awaitable[Answer]]) -> Answer:
    """What `call` answers for the request's user, who is made on first use in development.

    Every function that acts for a user says AUTH_REQUIRED when there is none, so a known user costs no call of its own.
    """
    user_id = user_id_of(request)
    try:
        return await call(user_id)
    except Refusal as refusal:
        if refusal.code != "AUTH_REQUIRED" or not await provision(request, user_id):
            raise
    return await call(user_id)


async def provision(request: Request, user_id: str) -> bool:
    """Make the user that was not found, if that is how users come to be here."""
    if not request.app.state.settings.development:
        return False
    database: Database = request.app.state.database
    await database.fetch(ENSURE_USER, user_id, _user_name(request))
    return True


def _user_name(request: Request) -> str | None:
    name = header(request.scope, b"x-user-name")
    if name is None:
        return None
    try:
        return USERNAME.validate_python(name.encode("latin-1").decode())
    except ValueError:  # not UTF-8, or not a name
        raise invalid("X-User-Name", "must be 1 to 200 characters of UTF-8, not all blank, without control characters") from None
