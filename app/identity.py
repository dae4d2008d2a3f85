"""Who is asking. AUTH_MODE=header trusts X-User-Id, as a placeholder that production refuses; for jwt see app/tokens.py."""

from typing import Protocol

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.types import Scope

from app.bodies import Text
from app.http import CANONICAL_UUID, Refusal, header, invalid

USERNAME: TypeAdapter[str] = TypeAdapter(Text)


class Identity(Protocol):
    """How the process knows who is asking."""

    makes_users: bool
    """Is a user who is not there made on first use?"""

    async def user_id(self, request: Request) -> str:
        """The id of who is asking, in lower case; raises AUTH_REQUIRED."""

    async def admin_id(self, request: Request) -> str:
        """The same of one who may create and change drops; raises FORBIDDEN, too."""

    def user_name(self, scope: Scope) -> str | None:
        """What to call a user who is made now, where that was said; raises VALIDATION_ERROR."""


class TrustedHeader:
    """AUTH_MODE=header: the user is who X-User-Id says, and may do everything."""

    def __init__(self, *, makes_users: bool) -> None:
        self.makes_users = makes_users

    async def user_id(self, request: Request) -> str:
        """From X-User-Id."""
        given = header(request.scope, b"x-user-id")
        if given is None:
            raise Refusal(401, "AUTH_REQUIRED", "Say who you are: send the header X-User-Id with a user's UUID.")
        if not CANONICAL_UUID.fullmatch(given):
            raise Refusal(401, "AUTH_REQUIRED", "X-User-Id: must be a UUID such as 0190b6c5-7d3e-7abc-9def-0123456789ab")
        request.scope["user_id"] = user_id = given.lower()
        return user_id

    async def admin_id(self, request: Request) -> str:
        """Whoever it is."""
        return await self.user_id(request)

    def user_name(self, scope: Scope) -> str | None:
        """From X-User-Name."""
        name = header(scope, b"x-user-name")
        if name is None:
            return None
        try:
            return USERNAME.validate_python(name.encode("latin-1").decode())
        except ValueError:  # not UTF-8, or not a name
            raise invalid(
                "X-User-Name", "must be 1 to 200 characters of UTF-8, not all blank, without control characters"
            ) from None
