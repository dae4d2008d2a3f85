"""Tokens as an issuer makes them, and as an attacker does."""

import json
import time
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

AUDIENCE, ISSUER = "https://shop.example", "https://issuer.example/realms/shop"
SECRET = "a secret of thirty-two characters"  # noqa: S105

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey


def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    """A new one."""
    return generate_rsa_key(public_exponent=65537, key_size=bits)


def ec_key() -> EllipticCurvePrivateKey:
    """A new one, on P-256."""
    return generate_ec_key(SECP256R1())


def public_pem(key: PrivateKey | Ed25519PrivateKey) -> str:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: PrivateKey) -> str:
    """Both halves."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_jwk(key: PrivateKey, **fields: Any) -> dict[str, Any]:
    """The public half as an entry of a JWKS."""
    algorithm = RSAAlgorithm if isinstance(key, RSAPrivateKey) else ECAlgorithm
    return algorithm.to_jwk(key.public_key(), as_dict=True) | fields


def claims(user_id: object = None, **changes: Any) -> dict[str, Any]:
    """Those of a good token; what the changes set to None is left out."""
    now = int(time.time())
    good = {"sub": str(user_id or uuid4()), "exp": now + 600, "iat": now, "aud": AUDIENCE, "iss": ISSUER}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(key: PrivateKey | str, user_id: object = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token signed with the key, as the key is meant to be used."""
    algorithm = "HS256" if isinstance(key, str) else "RS256" if isinstance(key, RSAPrivateKey) else "ES256"
    return jwt.encode(claims(user_id, **changes), key, algorithm, header)


def forged(header: Any, payload: Any, key: PrivateKey | str | None = None) -> str:
    """Any header and payload, bytes as they are and all else as JSON; signed as a token is, where there is a key."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = b".".join(base64url_encode(part) for part in parts)
    signature = b""
    if isinstance(key, str):
        signature = jwt.get_algorithm_by_name("HS256").sign(signed, key.encode())
    elif key is not None:
        signature = jwt.get_algorithm_by_name("RS256" if isinstance(key, RSAPrivateKey) else "ES256").sign(signed, key)
    return b".".join([signed, base64url_encode(signature)]).decode()


def bearer(given: str) -> dict[str, str]:
    """The header of a request."""
    return {"Authorization": f"Bearer {given}"}
