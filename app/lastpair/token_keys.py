"""The keys that verify tokens: which ones are accepted, and the one algorithm that each is used for.

Import this only where tokens are used: reading keys takes a third of the time in which a process starts.
"""

from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

MIN_RSA_BITS = 2048
MIN_SECRET_BYTES = 32
"""HS256 signatures have as many (RFC 7518)."""


class Key(NamedTuple):
    """A key, and the only algorithm that it verifies."""

    value: Any
    algorithm: str


def secret_key(secret: str) -> Key:
    """The key of JWT_SECRET; raises ValueError when it is not acceptable."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes, as many as the signatures it makes")
    try:
        return Key(HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret), "HS256")
    except jwt.InvalidKeyError:
        raise ValueError("must not be a key in PEM or JSON; a public one in PEM belongs into JWT_PUBLIC_KEY") from None


def public_key(pem: str) -> Key:
    """The key of JWT_PUBLIC_KEY; raises ValueError when it is not acceptable."""
    try:
        key = load_pem_public_key(pem.encode())
    except Exception:  # the library raises several kinds
        raise ValueError("must be a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    algorithm = algorithm_for(key)
    if algorithm is None:
        raise ValueError(f"must be of RSA with at least {MIN_RSA_BITS} bits, for RS256, or of P-256, for ES256")
    return Key(key, algorithm)


def algorithm_for(key: object) -> str | None:
    """The one algorithm that this public key verifies here; None when the key is not acceptable."""
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    return None
