"""Who is asking. AUTH_MODE=header trusts X-User-Id, as a placeholder that production refuses."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from pydantic import TypeAdapter
from starlette.requests import Request

from app.bodies import Text
from app.database import Database
from app.http import CANONICAL_UUID, Refusal, header, invalid

ENSURE_USER = "select from api.ensure_user($1, $2)"
USERNAME: TypeAdapter[str] = TypeAdapter(Text)
Answer = TypeVar("Answer")


def user_id_of(request: Request) -> UUID:
    """The user's id from X-User-Id; raises AUTH_REQUIRED."""
    given = header(request.scope, b"x-user-id")
    if given is None:
        raise Refusal(401, "AUTH_REQUIRED", "Say who you are: send the header X-User-Id with a user's UUID.")
    if not CANONICAL_UUID.fullmatch(given):
        raise Refusal(401, "AUTH_REQUIRED", "X-User-Id: must be a UUID such as 0190b6c5-7d3e-7abc-9def-0123456789ab")
    return UUID(given)


async def as_user(request: Request, call: Callable[[UUID], Awaitable[Answer]]) -> Answer:
    """What `call` answers for the request's user, who is made on first use in development.

    Every function that acts for a user says AUTH_REQUIRED when there is none, so a known user costs no call of its own.
    """
    user_id = user_id_of(request)
    try:
        return await call(user_id)
    except Refusal as refusal:
        if refusal.code != "AUTH_REQUIRED" or not request.app.state.settings.development:
            raise
    database: Database = request.app.state.database
    await database.fetch(ENSURE_USER, user_id, _user_name(request))
    return await call(user_id)


def _user_name(request: Request) -> str | None:
    name = header(request.scope, b"x-user-name")
    if name is None:
        return None
    try:
        return USERNAME.validate_python(name.encode("latin-1").decode())
    except ValueError:  # not UTF-8, or not a name
        raise invalid("X-User-Name", "must be 1 to 200 characters of UTF-8, not all blank, without control characters") from None
