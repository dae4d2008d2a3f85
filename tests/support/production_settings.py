"""The settings of a service in production, as tests start it."""

from tests.support.tokens import AUDIENCE, ISSUER, SECRET

ORIGIN = "https://shop.example"
"""The one origin that CORS_ORIGINS allows."""

PRODUCTION = {
    "APP_ENV": "production",
    "AUTH_MODE": "jwt",
    "JWT_SECRET": SECRET,
    "JWT_AUDIENCE": AUDIENCE,
    "JWT_ISSUER": ISSUER,
    "EXPIRY_POLL_MS": "100",
    "CORS_ORIGINS": ORIGIN,
}
