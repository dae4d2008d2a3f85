"""The settings, read once from the environment (and `.env`), typed and checked."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """One field for each environment variable of the same name in upper case; README.md explains them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True)

    app_env: Literal["development", "production"] = "development"
    port: Annotated[int, Field(ge=0, le=65535)] = 4000
    database_url: str | None = None
    database_direct_url: str | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    data_dir: Path = Path(".data")
    cors_origins: Annotated[list[str], NoDecode] = []
    reservation_ttl_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    expiry_poll_ms: Annotated[int, Field(ge=50, le=3_600_000)] = 2000
    batch_max_size: Annotated[int, Field(ge=1, le=1000)] = 128
    max_pending: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    event_retention_seconds: Annotated[int, Field(ge=1, le=2_592_000)] = 3600
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    auth_mode: Literal["header"] = "header"
    web_concurrency: Annotated[int, Field(ge=1, le=256)] = 1

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
        for port in re.findall(r":(\d+)(?=[,/?]|$)", urlsplit(value).netloc.rpartition("@")[2]) if value else []:
            if not 1 <= int(port[:6]) <= 65535:
                raise ValueError("must have ports between 1 and 65535")
        return value

    @model_validator(mode="after")
    def _refuse_development_in_production(self) -> Self:
        if self.app_env == "production":
            if self.database_url is None:
                raise ValueError("DATABASE_URL: production does not run on the embedded server; set it")
            if self.auth_mode == "header":
                raise ValueError("AUTH_MODE: header trusts whoever names a user, so production refuses it")
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
