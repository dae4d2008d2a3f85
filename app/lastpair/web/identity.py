"""Finds the user of a request. AUTH_MODE=header trusts X-User-Id, so production refuses it. tokens.py has AUTH_MODE=jwt."""

import re
from typing import Protocol

from pydantic import TypeAdapter
from starlette.types import Scope

from lastpair.errors import Refusal, invalid
from lastpair.web.requests import header
from lastpair.web.schemas import CANONICAL_UUID, Username

USERNAME: TypeAdapter[str] = TypeAdapter(Username)
SUBJECT = re.compile(r"(?=.*\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}")
"""What the subject of a token may be: 255 is the limit of OpenID Connect."""


class Identity(Protocol):
    """Finds the user of a request. Every method takes the ASGI scope of the connection."""

    creates_users: bool
    """Whether a missing user is made on first use."""

    follows_names: bool
    """Whether `user_name` is the user's name at this moment, so that a user who has another one here is renamed."""

    def is_anonymous(self, scope: Scope) -> bool:
        """Whether the request does not say whose it is."""

    async def user_id(self, scope: Scope) -> str:
        """The id of the user, in lower case. Leaves `user_id` in the scope for the process log.

        Raises AUTH_REQUIRED or IDENTITY_UNAVAILABLE.
        """

    def known_user_id(self, scope: Scope) -> str | None:
        """The same at once; None if finding the user takes time."""

    async def admin_id(self, scope: Scope) -> str:
        """The same for a user who may create and change drops. Also raises FORBIDDEN."""

    async def reader_id(self, scope: Scope) -> str | None:
        """The user whose rows may be read; None, a seller, may read anyone's. Raises as `user_id` does."""

    def user_name(self, scope: Scope) -> str | None:
        """The name for a user who is made now, if the request gives one. Raises VALIDATION_ERROR."""


class TrustedHeader:
    """AUTH_MODE=header: the user is the one that X-User-Id names, and may do everything."""

    def __init__(self, *, creates_users: bool) -> None:
        self.creates_users = creates_users
        self.follows_names = False

    def is_anonymous(self, scope: Scope) -> bool:
        """Whether there is no X-User-Id."""
        return header(scope, b"x-user-id") is None

    async def user_id(self, scope: Scope) -> str:
        """The id in X-User-Id."""
        return self.known_user_id(scope)

    def known_user_id(self, scope: Scope) -> str:
        """The same."""
        given = header(scope, b"x-user-id")
        if given is None:
            raise Refusal(401, "AUTH_REQUIRED", "Say who you are: send the header X-User-Id with a user's UUID.")
        if not CANONICAL_UUID.fullmatch(given):
            raise Refusal(401, "AUTH_REQUIRED", "X-User-Id: must be a UUID such as 0190b6c5-7d3e-7abc-9def-0123456789ab")
        scope["user_id"] = user_id = given.lower()
        return user_id

    async def admin_id(self, scope: Scope) -> str:
        """The id in X-User-Id, because every user may create and change drops here."""
        return await self.user_id(scope)

    async def reader_id(self, scope: Scope) -> str | None:
        """The id in X-User-Id, because a user here is the seller of nothing but the drops that the user made."""
        return await self.user_id(scope)

    def user_name(self, scope: Scope) -> str | None:
        """The name in X-User-Name."""
        name = header(scope, b"x-user-name")
        if name is None:
            return None
        try:
            return USERNAME.validate_python(name.encode("latin-1").decode())
        except ValueError:  # not UTF-8, or not a name
            raise invalid(
                "X-User-Name",
                "must be 1 to 200 characters in UTF-8, not all invisible, without control characters or changes of direction",
            ) from None
