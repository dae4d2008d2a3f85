"""The settings, read once from the environment (and `.env`), typed and checked."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

HTTP_URL = TypeAdapter(AnyHttpUrl)
Hidden = Annotated[str | None, Field(repr=False)]
"""May hold a password."""

SAFE_URL = re.compile(r"https://|http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])[:/]")
"""What comes from there is what was sent: nobody is on the way, or can be."""


class Settings(BaseSettings):
    """One field for each environment variable of the same name in upper case; README.md explains them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True)

    app_env: Literal["development", "production"] = "development"
    port: Annotated[int, Field(ge=0, le=65535)] = 4000
    database_url: Hidden = None
    database_direct_url: Hidden = None
    database_pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    data_dir: Path = Path(".data")
    cors_origins: Annotated[list[str], NoDecode] = []
    reservation_ttl_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    expiry_poll_ms: Annotated[int, Field(ge=50, le=3_600_000)] = 2000
    batch_max_size: Annotated[int, Field(ge=1, le=1000)] = 128
    max_pending: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    event_retention_seconds: Annotated[int, Field(ge=1, le=2_592_000)] = 3600
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    web_concurrency: Annotated[int, Field(ge=1, le=256)] = 1
    auth_mode: Literal["header", "jwt"] = "header"
    jwt_secret: SecretStr | None = None
    jwt_public_key: str | None = None
    jwt_jwks_url: Hidden = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    rate_limit_user_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    rate_limit_address_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_streams: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    max_streams_per_address: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    forwarded_allow_ips: str = "127.0.0.1"
    otel_exporter_otlp_endpoint: str | None = None

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        origins = [origin.strip() for origin in value.split(",") if origin.strip()] if isinstance(value, str) else value
        for origin in origins if isinstance(origins, list) else []:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ValueError(f"{origin} is not an origin such as https://shop.example, nor *")
        return origins

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_level(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"postgres(ql)?://", value):
            raise ValueError("must begin with postgresql://")
        if value is not None:
            # Several servers may be named, in the authority or, where their sockets are, in the query.
            parts = urlsplit(value)
            hosts = parts.netloc.rpartition("@")[2]
            ports = re.findall(r":([^:\]]*)(?=,|$)", hosts)
            for named in parse_qs(parts.query).get("port", []):
                ports += named.split(",")
            if not all(re.fullmatch(r"\d{1,5}", port) and 1 <= int(port) <= 65535 for port in ports):
                raise ValueError("must have ports between 1 and 65535")
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from lastpair.keys import secret_key

            secret_key(value.get_secret_value())
        return value

    @field_validator("jwt_public_key")
    @classmethod
    def _unescape_key(cls, value: str | None) -> str | None:
        pem = value and value.replace("\\n", "\n")  # as it is written where a variable has one line only
        if pem is not None:
            from lastpair.keys import public_key

            public_key(pem)
        return pem

    @field_validator("jwt_jwks_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _check_http_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                HTTP_URL.validate_python(value)  # returns it in another form
            except ValidationError:
                value = ""
            if not re.fullmatch(r"https?://[^/\s]\S*", value):
                raise ValueError("must be a URL that begins with https:// or http://")
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_addresses(cls, value: str) -> str:
        for address in filter(None, map(str.strip, value.split(","))):
            try:
                if address != "*":
                    ip_network(address)
            except ValueError:
                raise ValueError(f"{address} is not an address, a network such as 10.0.0.0/8, nor *") from None
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.auth_mode == "jwt":
            keys = [self.jwt_secret, self.jwt_public_key, self.jwt_jwks_url]
            if len([key for key in keys if key is not None]) != 1:
                raise ValueError("AUTH_MODE: jwt takes one of JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL; set exactly one")
            for name in ("jwt_audience", "jwt_issuer"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name.upper()}: AUTH_MODE=jwt believes no token without it; set it")
        if self.app_env == "production":
            if self.database_url is None:
                raise ValueError("DATABASE_URL: production does not run on the embedded server; set it")
            if self.auth_mode == "header":
                raise ValueError("AUTH_MODE: header trusts whoever names a user, so production refuses it; set jwt")
            if self.jwt_jwks_url is not None and not SAFE_URL.match(self.jwt_jwks_url):
                raise ValueError("JWT_JWKS_URL: whoever is on the way could send keys of their own; production takes https://")
            if "*" in self.cors_origins:
                raise ValueError("CORS_ORIGINS: * lets any page send a user's token, so production refuses it; list the origins")
        return self

    @property
    def development(self) -> bool:
        """Are the development conveniences on: /internal endpoints, users made on first use, seeding?"""
        return self.app_env == "development"

    @property
    def session_url(self) -> str | None:
        """The URL for what needs a session of its own (migrations, psql): past the pooler, when there is one."""
        return self.database_direct_url or self.database_url


class InvalidSettings(Exception):
    """A setting is not acceptable; the message is one line naming the variable."""


def load_settings() -> Settings:
    """Read the settings; raises InvalidSettings."""
    try:
        return Settings()
    except ValidationError as error:
        reasons = []
        for detail in error.errors():
            name = str(detail["loc"][0]).upper() + ": " if detail["loc"] else ""
            reasons.append(name + detail["msg"].removeprefix("Value error, "))
        raise InvalidSettings("; ".join(reasons)) from None
