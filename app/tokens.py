"""AUTH_MODE=jwt: bearer tokens, and the keys that verify them.

Imported only where they are: what it takes to read keys and fetch them is a third of the time in which a process starts.
"""

import asyncio
import json
import logging
from time import monotonic
from typing import Any, Protocol

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidSubjectError
from starlette.requests import Request
from starlette.types import Scope

from app.http import CANONICAL_UUID, Refusal, Unavailable
from app.identity import USERNAME

LEEWAY_SECONDS = 10
"""How far the clock of who issues tokens may be off."""

MAX_TOKEN_LENGTH = 16 * 1024
"""Reading a longer one would take longer than serving the request."""

KEYS_LIFESPAN_SECONDS = 300
"""How long a key that was taken out of the JWKS may still be believed, if that can be asked."""

KEYS_PAUSE_SECONDS = 10
"""At least so long between two fetches of the JWKS, whatever keys the tokens name."""

KEYS_TIMEOUT_SECONDS = 5
MAX_KEYS_BYTES = 256 * 1024
MIN_RSA_BITS = 2048
MIN_SECRET_BYTES = 32
"""As many as HS256's signatures have (RFC 7518)."""

CHALLENGE = 'Bearer realm="lastpair"'
"""Of RFC 6750; parameters may follow."""

logger = logging.getLogger("lastpair")


class Keys(Protocol):
    """Where the key that verifies a token comes from, and with it the only algorithm that it may be used for."""

    async def find(self, token: str) -> tuple[Any, str] | None:
        """The key and the algorithm, None when there is none for this token. Raises PyJWTError."""


class OneKey:
    """JWT_SECRET or JWT_PUBLIC_KEY."""

    def __init__(self, key: Any, algorithm: str) -> None:
        self._found = key, algorithm

    async def find(self, token: str) -> tuple[Any, str] | None:
        """That key, whichever is named."""
        return self._found


class KeySet:
    """JWT_JWKS_URL: the keys that are there, fetched again when they get old or a token names one that is unknown.

    PyJWT's own client reads without end from a server that does not stop, in a thread that keeps the process from stopping.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=None,  # noqa: S113 - there is one for all of it
        )
        self._keys: dict[str, tuple[Any, str]] | None = None
        self._fetched_at = self._began_at = self._ended_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, token: str) -> tuple[Any, str] | None:
        """The key of this `kid`. Raises 503 IDENTITY_UNAVAILABLE when none were ever fetched."""
        header_alone = token.partition(".")[0] + ".."  # the rest need not be decoded twice
        kid: str | None = jwt.get_unverified_header(header_alone).get("kid")
        if kid is None:
            return None
        now = monotonic()
        # After a fetch that failed nobody waits for the next one: the old keys are better than none.
        if self._keys is None or kid not in self._keys or now >= self._ended_at + KEYS_LIFESPAN_SECONDS:
            if (fetching := self._fetch(now)) is not None:
                await asyncio.shield(fetching)  # whoever stops waiting does not stop it for the others
            if self._keys is None:
                raise Unavailable("The keys that tokens are verified with cannot be had. Try again.", "IDENTITY_UNAVAILABLE")
        elif now >= self._fetched_at + KEYS_LIFESPAN_SECONDS / 2:
            self._fetch(now)
        return self._keys.get(kid)

    def _fetch(self, now: float) -> asyncio.Task[None] | None:
        # The fetch under way, or a new one if the last is long enough ago.
        if self._fetching is None and now >= self._began_at + KEYS_PAUSE_SECONDS:
            self._began_at = now
            self._fetching = asyncio.create_task(self._fetch_now())
        return self._fetching

    async def _fetch_now(self) -> None:
        try:
            async with asyncio.timeout(KEYS_TIMEOUT_SECONDS):
                self._keys = await asyncio.to_thread(keys_of, await self._read())
            self._fetched_at = self._began_at
        except Exception as error:  # whatever the server answers
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("JWT_JWKS_URL: the keys cannot be fetched: %s", reason)
        finally:
            self._ended_at = monotonic()
            self._fetching = None

    async def _read(self) -> bytes:
        content = bytearray()
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:  # a redirection is not followed
                raise ValueError(f"the answer is {response.status_code}")
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_KEYS_BYTES:
                    raise ValueError(f"the answer has more than {MAX_KEYS_BYTES} bytes")
        return bytes(content)


def keys_of(content: bytes) -> dict[str, tuple[Any, str]]:
    """The keys of a JWKS by `kid`, the first that can be used of each; what is of no use here is left out. Raises ValueError."""
    try:
        listed = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise ValueError("the answer is no JWKS")
    keys: dict[str, tuple[Any, str]] = {}
    for entry in listed:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if isinstance(kid, str) and kid not in keys and (usable := key_of(entry)) is not None:
            keys[kid] = usable
    return keys


def key_of(entry: dict[str, Any]) -> tuple[Any, str] | None:
    """The key of an entry of a JWKS, and its algorithm; None when it is none that verifies tokens here."""
    if entry.get("use", "sig") != "sig" or "d" in entry:  # a private key is nothing to believe, and may take minutes to read
        return None
    try:
        found = jwt.PyJWK(entry)
    except Exception:  # many kinds, by what is wrong
        return None
    algorithm = algorithm_for(found.key)
    return (found.key, algorithm) if algorithm == found.algorithm_name else None


def algorithm_for(key: object) -> str | None:
    """The one algorithm that this public key verifies here; None when it is none that is accepted."""
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    return None


def secret_key(secret: str) -> OneKey:
    """JWT_SECRET; raises ValueError when it is not one that is accepted."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes, as many as the signatures it makes")
    try:
        return OneKey(HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret), "HS256")
    except jwt.InvalidKeyError:
        raise ValueError("must not be a key in PEM or JSON; a public one in PEM belongs into JWT_PUBLIC_KEY") from None


def public_key(pem: str) -> OneKey:
    """JWT_PUBLIC_KEY; raises ValueError when it is not one that is accepted."""
    try:
        key = load_pem_public_key(pem.encode())
    except Exception:  # several kinds, by what is wrong
        raise ValueError("must be a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    algorithm = algorithm_for(key)
    if algorithm is None:
        raise ValueError(f"must be of RSA with at least {MIN_RSA_BITS} bits, for RS256, or of P-256, for ES256")
    return OneKey(key, algorithm)


def bearer_token(scope: Scope) -> str:
    """What Authorization holds; raises AUTH_REQUIRED."""
    given: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        raise refused_token("send Bearer and a token", "")
    if len(given) > 1:  # what stands before this server may have looked at another one
        raise refused_token("must not be sent twice", "")
    scheme, _, token = given[0].decode("latin-1").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise refused_token("must be Bearer and a token", "")
    if len(token) > MAX_TOKEN_LENGTH:
        raise refused_token(f"the token must not have more than {MAX_TOKEN_LENGTH} characters")
    return token


class BearerToken:
    """AUTH_MODE=jwt: the user is the subject of a token whose signature, expiry, audience and issuer are right."""

    makes_users = True

    def __init__(self, keys: Keys, *, audience: str, issuer: str) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    async def user_id(self, request: Request) -> str:
        """From `sub`; the claims are left in the scope."""
        token = bearer_token(request.scope)
        try:
            found = await self._keys.find(token)
            if found is None:
                raise refused_token("the token is signed with a key that is not known here (kid)")
            key, algorithm = found
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],  # never what the token says: that is how `none` and a public key as a secret would pass
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "aud", "iss", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, ArithmeticError, RecursionError) as error:
            raise refused_token(REASONS.get(type(error), MALFORMED)) from None
        if not CANONICAL_UUID.fullmatch(claims["sub"]):
            raise refused_token(REASONS[InvalidSubjectError])
        request.scope["claims"] = claims
        user_id: str = claims["sub"].lower()
        request.scope["user_id"] = user_id
        return user_id

    async def admin_id(self, request: Request) -> str:
        """Of one whose claim `role` is admin."""
        user_id = await self.user_id(request)
        if request.scope["claims"].get("role") != "admin":
            challenge = {"www-authenticate": f'{CHALLENGE}, error="insufficient_scope"'}
            raise Refusal(403, "FORBIDDEN", "This takes a token with the claim role: admin.", challenge)
        return user_id

    def user_name(self, scope: Scope) -> str | None:
        """From `preferred_username`, where it is acceptable."""
        try:
            return USERNAME.validate_python(scope["claims"].get("preferred_username"))
        except ValueError:
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
    InvalidSubjectError: "the token's subject (sub) is not a UUID",
}
"""Why a token is refused, for people, unless it is malformed; nothing of the token is repeated."""


def refused_token(reason: str, error: str = ', error="invalid_token"') -> Refusal:
    """401 AUTH_REQUIRED with the challenge of RFC 6750, which names no error where there was no token."""
    return Refusal(401, "AUTH_REQUIRED", f"Authorization: {reason}.", {"www-authenticate": CHALLENGE + error})
