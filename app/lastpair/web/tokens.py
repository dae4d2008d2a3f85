"""AUTH_MODE=jwt: bearer tokens, and where the keys that verify them come from.

Import this only where tokens are used: what it imports takes a third of the time in which a process starts.
"""

import asyncio
import json
import logging
import re
from http import HTTPStatus
from time import monotonic, time
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

import jwt
from jwt.exceptions import InvalidSubjectError
from starlette.types import Scope

from lastpair.errors import Refusal, Unavailable
from lastpair.token_keys import Key, algorithm_for
from lastpair.web.at_once import MustWait, at_once
from lastpair.web.error_codes import RefusalWithHeaders
from lastpair.web.identity import SUBJECT, USERNAME
from lastpair.web.requests import headers_of
from lastpair.web.schemas import CANONICAL_UUID

LEEWAY_SECONDS = 10
"""How far the clock of the issuer of tokens may be off."""

MAX_TOKEN_LENGTH = 16 * 1024
"""Reading a longer token would take longer than serving the request."""

MAX_VERIFIED = 10_000
"""How many tokens that are good are remembered."""

MAX_VERIFIED_LENGTH = 2048
"""A longer token is not remembered, so that those that are do not take more than some ten megabytes."""

KEYS_LIFESPAN_SECONDS = 300
"""How long a key that was removed from the JWKS is still accepted, if the JWKS can be fetched."""

KEYS_PAUSE_SECONDS = 10
"""The shortest time between two fetches of the JWKS, whichever keys the tokens name."""

KEYS_TIMEOUT_SECONDS = 5
MAX_KEYS_BYTES = 256 * 1024

KIND_CLAIMS = ("typ", "type", "token_type", "token_use")
"""The claims in which issuers write the kind of a token: Keycloak, Flask-JWT-Extended, Simple JWT, and Cognito."""

OTHER_KIND = re.compile(r"(?:urn:.+:)?(?:id|logout|offline|refresh)(?:[ _-]?token)?", re.IGNORECASE)
"""The kinds that are no access token, such as `ID`, `refresh_token` or the URN of RFC 8693 for one."""

CHALLENGE = 'Bearer realm="lastpair"'
"""The challenge of RFC 6750; parameters may follow."""

logger = logging.getLogger("lastpair")


class Keys(Protocol):
    """Where the key that verifies a token comes from."""

    async def find(self, token: str) -> Key | None:
        """The key for this token; None when there is none. Raises PyJWTError."""


class OneKey:
    """JWT_SECRET or JWT_PUBLIC_KEY."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def find(self, token: str) -> Key | None:
        """The one key, even if the token names another."""
        return self._key


class KeySet:
    """JWT_JWKS_URL: a set of keys, fetched again when it gets old or when a token names an unknown key.

    PyJWT's own client is not used, because it reads without end from a server that does not stop sending, in a thread that keeps
    the process from stopping.
    """

    def __init__(self, url: str) -> None:
        import httpx  # only here, because a process without JWT_JWKS_URL needs none of it

        self._url = url
        self._client = httpx.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=None,  # noqa: S113 - _fetch_now has one for the whole fetch
            trust_env=urlsplit(url).scheme == "https",  # without TLS a proxy could replace the keys
        )
        self._keys: dict[str, Key] | None = None
        self._fetched_at = self._began_at = self._ended_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, token: str) -> Key | None:
        """The key of this `kid`. Raises IDENTITY_UNAVAILABLE when no keys were ever fetched."""
        header_alone = token.partition(".")[0] + ".."  # jwt.decode will decode the rest
        kid: str | None = jwt.get_unverified_header(header_alone).get("kid")
        if kid is None:
            return None
        now = monotonic()
        # If the last fetch failed, requests with a known kid use the old keys and do not wait for a new fetch.
        if self._keys is None or kid not in self._keys or now >= self._ended_at + KEYS_LIFESPAN_SECONDS:
            if (fetching := self._fetch(now)) is not None:
                await asyncio.shield(fetching)  # a client that leaves must not end the fetch, because others wait for it
            if self._keys is None:
                raise Unavailable("The keys that tokens are verified with cannot be had. Try again.", "IDENTITY_UNAVAILABLE")
        elif now >= self._fetched_at + KEYS_LIFESPAN_SECONDS / 2:
            self._fetch(now)
        return self._keys.get(kid)

    def _fetch(self, now: float) -> asyncio.Task[None] | None:
        # The fetch in flight, or a new one if the last began long enough ago.
        if self._fetching is None and now >= self._began_at + KEYS_PAUSE_SECONDS:
            self._began_at = now
            self._fetching = asyncio.create_task(self._fetch_now())
        return self._fetching

    async def _fetch_now(self) -> None:
        try:
            async with asyncio.timeout(KEYS_TIMEOUT_SECONDS):
                self._keys = await asyncio.to_thread(keys_of, await self._read())
            self._fetched_at = self._began_at
        except Exception as error:  # the server may answer anything
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("JWT_JWKS_URL: the keys cannot be fetched: %s", reason)
        finally:
            self._ended_at = monotonic()
            self._fetching = None

    async def _read(self) -> bytes:
        content = bytearray()
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != HTTPStatus.OK:  # a redirection is not followed
                raise ValueError(f"the answer is {response.status_code}")
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_KEYS_BYTES:
                    raise ValueError(f"the answer has more than {MAX_KEYS_BYTES} bytes")
        return bytes(content)


def keys_of(content: bytes) -> dict[str, Key]:
    """The keys of a JWKS by `kid`: for each the first that can be used here. Raises ValueError."""
    try:
        listed = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise ValueError("the answer is no JWKS")
    keys: dict[str, Key] = {}
    for entry in listed:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if isinstance(kid, str) and kid not in keys and (usable := key_of(entry)) is not None:
            keys[kid] = usable
    return keys


def key_of(entry: dict[str, Any]) -> Key | None:
    """The key of an entry of a JWKS; None when it cannot verify tokens here."""
    if entry.get("use", "sig") != "sig" or "d" in entry:  # a private key is not acceptable, and may take minutes to read
        return None
    try:
        found = jwt.PyJWK(entry)
    except Exception:  # the library raises many kinds
        return None
    algorithm = algorithm_for(found.key)
    return Key(found.key, algorithm) if algorithm is not None and algorithm == found.algorithm_name else None


def bearer_token(scope: Scope) -> str:
    """The token in the header Authorization; raises AUTH_REQUIRED."""
    given: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        raise refused_token("send Bearer and a token", "")
    if len(given) > 1:  # a proxy may have looked at the other one
        raise refused_token("must not be sent twice", "")
    scheme, _, token = given[0].decode("latin-1").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise refused_token("must be Bearer and a token", "")
    if len(token) > MAX_TOKEN_LENGTH:
        raise refused_token(f"the token must not have more than {MAX_TOKEN_LENGTH} characters")
    return token


class Verified(NamedTuple):
    """What a good token says, until when it is good, in seconds since 1970, and the key that verified it."""

    key: Key
    ends_at: int
    user_id: str
    claims: dict[str, Any]


class BearerToken:
    """AUTH_MODE=jwt: the user is the subject of a token with the right signature, kind, expiry, audience and issuer.

    A subject that is a UUID is the user's id. Any other one becomes a UUIDv5: its name is the subject, and its namespace is the
    UUIDv5 of the issuer among the URLs. So a user always has the same id, and no two issuers share one by chance.

    To verify a token takes longer than to serve its request, so good ones are remembered, each until it expires or its key is not
    the key for it any more.
    """

    creates_users = True
    follows_names = True

    def __init__(
        self, keys: Keys, *, audience: str, issuer: str, role_claim: str = "role", name_claim: str = "preferred_username"
    ) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._subjects = uuid5(NAMESPACE_URL, issuer)
        self._role_claim = role_claim
        self._name_claim = name_claim
        self._verified: dict[str, Verified] = {}  # the oldest first

    def is_anonymous(self, scope: Scope) -> bool:
        """Whether there is no header Authorization."""
        return b"authorization" not in headers_of(scope)

    async def user_id(self, scope: Scope) -> str:
        """The user of the claim `sub`. Leaves `claims` in the scope."""
        token = bearer_token(scope)
        try:
            key = await self._keys.find(token)
            if key is None:
                raise refused_token("the token is signed with a key that is not known here (kid)")
            found = self._verified.get(token)
            if found is None or found.key != key or time() >= found.ends_at:
                found = self._verify(token, key)
        except (jwt.PyJWTError, ValueError, ArithmeticError, RecursionError) as error:
            raise refused_token(REASONS.get(type(error), MALFORMED)) from None
        scope["claims"] = found.claims
        scope["user_id"] = found.user_id
        return found.user_id

    def _verify(self, token: str, key: Key) -> Verified:
        decoded = jwt.decode_complete(
            token,
            key.value,
            algorithms=[key.algorithm],  # never the token's own: `none`, or a public key used as a secret, would pass
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "aud", "iss", "sub"]},
        )
        claims: dict[str, Any] = decoded["payload"]
        if not is_access_token(decoded["header"], claims):
            raise refused_token("the token is of another kind (typ, cty, type, token_type, token_use, events)")
        subject: str = claims["sub"]
        if CANONICAL_UUID.fullmatch(subject):
            user_id = subject.lower()
        elif SUBJECT.fullmatch(subject):
            user_id = str(uuid5(self._subjects, subject))
        else:
            raise refused_token(REASONS[InvalidSubjectError])
        found = Verified(key, int(claims["exp"]) + LEEWAY_SECONDS, user_id, claims)
        if len(token) <= MAX_VERIFIED_LENGTH:
            self._verified.pop(token, None)
            while len(self._verified) >= MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = found
        return found

    async def admin_id(self, scope: Scope) -> str:
        """The same for a token whose claim JWT_ROLE_CLAIM is `admin`, or a list of strings with `admin` among them."""
        user_id = await self.user_id(scope)
        if not self._is_admin(scope):
            challenge = {"www-authenticate": f'{CHALLENGE}, error="insufficient_scope"'}
            message = f"This takes a token with the claim {self._role_claim}: admin."
            raise RefusalWithHeaders(403, "FORBIDDEN", message, challenge)
        return user_id

    async def reader_id(self, scope: Scope) -> str | None:
        """The user of the claim `sub`; None for such an admin."""
        user_id = await self.user_id(scope)
        return None if self._is_admin(scope) else user_id

    def known_user_id(self, scope: Scope) -> str | None:
        """The user of the claim `sub`; None if the keys that verify the token have to be fetched."""
        try:
            return at_once(self.user_id(scope))
        except MustWait:
            return None

    def _is_admin(self, scope: Scope) -> bool:
        given = claim_named(self._role_claim, scope["claims"])
        roles = given if isinstance(given, list) else [given]
        return all(isinstance(role, str) for role in roles) and "admin" in roles

    def user_name(self, scope: Scope) -> str | None:
        """The claim JWT_NAME_CLAIM, if it is acceptable as a name."""
        try:
            return USERNAME.validate_python(claim_named(self._name_claim, scope["claims"]))
        except ValueError:
            return None


def is_access_token(header: dict[str, Any], claims: dict[str, Any]) -> bool:
    """Whether this may be an access token. Issuers sign other kinds with the same key, and some for the same audience.

    An ID token passes if the issuer does not mark it, because some issuers, such as Google, give out nothing else.
    """
    return (
        media_type(header.get("typ", "JWT")) in {"jwt", "at+jwt"}
        and media_type(header.get("cty", "")) not in {"jwt", None}  # the claims would be in a token within
        and "events" not in claims  # a security event, such as a logout (RFC 8417)
        and not any(OTHER_KIND.fullmatch(value) for name in KIND_CLAIMS if isinstance(value := claims.get(name), str))
    )


def media_type(value: object) -> str | None:
    """The value of `typ` or `cty` in lower case and without `application/` (RFC 7515); None if it is no text."""
    return value.lower().removeprefix("application/") if isinstance(value, str) else None


def claim_named(name: str, claims: dict[str, Any]) -> Any:
    """The claim of this name, or else the claim at this dotted path; None if there is neither.

    A dot may also be part of a name on the path, such as `resource_access.shop.example.roles`: the longest name counts.
    """
    if name in claims:
        return claims[name]
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        inner = claims.get(".".join(parts[:length]))
        if isinstance(inner, dict):
            return claim_named(".".join(parts[length:]), inner)
    return None


MALFORMED = "the token is not a well-formed JSON Web Token"
REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet (nbf, iat)",
    jwt.InvalidAlgorithmError: "the token is signed with another algorithm than the key is for",
    jwt.InvalidAudienceError: "the token is for somebody else (aud)",
    jwt.InvalidIssuerError: "the token is from somebody else (iss)",
    jwt.InvalidSignatureError: "the token's signature is wrong",
    jwt.InvalidTokenError: "the token's header asks for what is not understood here (crit, kid)",
    jwt.MissingRequiredClaimError: "the token must have exp, aud, iss and sub",
    InvalidSubjectError: "the token's subject (sub) must be 1 to 255 characters, not all blank, without control characters",
}
"""Why a token is refused, in words for people. Nothing of the token is repeated."""


def refused_token(reason: str, error: str = ', error="invalid_token"') -> Refusal:
    """AUTH_REQUIRED with the challenge of RFC 6750, which names no error when there was no token."""
    return RefusalWithHeaders(401, "AUTH_REQUIRED", f"Authorization: {reason}.", {"www-authenticate": CHALLENGE + error})
