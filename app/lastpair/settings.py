"""The settings, read once from the environment and from `.env`, typed and checked."""

import re
from base64 import b64decode
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Hidden = Annotated[str | None, Field(repr=False)]
"""A text that may contain a password."""

HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
"""The host and port of an http URL, without a user: programs differ in how they read what is more complicated."""

HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([1-9][0-9]{0,4}))?")
APP_ORIGIN = re.compile(r"(?!(?:https?|wss?|ftp|file)://)[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+")
"""The origin of a page of an app or a browser extension, such as capacitor://localhost. Its host may have capitals.

A page has no origin of the schemes ws and wss. Those of ftp and file have the origin `null` in browsers.
"""

STRIPE_KEY = re.compile(r"[sr]k_(test|live)_[A-Za-z0-9_]+")
STRIPE_PUBLISHABLE_KEY = re.compile(r"pk_(test|live)_[A-Za-z0-9_]+")
PAYMENT_SECRETS = {
    "none": (),
    "stripe": ("stripe_secret_key", "stripe_webhook_secret"),
    "webhook": ("payment_webhook_secret",),
}
"""What each PAYMENT_PROVIDER does not work without."""

DEFAULT_PORTS = {"http": "80", "https": "443"}
MAX_QUOTED = 100
"""The most characters of a bad value that the line about it repeats."""


def is_host(text: str) -> bool:
    """Whether a URL can have this host as it is: a name, an IPv4 address, or an IPv6 address in brackets.

    As browsers do, it takes a name whose last part is a number for an IPv4 address. Such an address, and one in brackets, has one
    right form.
    """
    try:
        if text.startswith("["):
            address = IPv6Address(text[1:-1])
            right = str(address)
            if address.ipv4_mapped:  # from Python 3.13 on, str() writes its end as an IPv4 address
                right = f"::ffff:{int(address) >> 16 & 0xFFFF:x}:{int(address) & 0xFFFF:x}"
            return f"[{right}]" == text
        if re.search(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$", text):
            return str(IPv4Address(text)) == text
    except AddressValueError:
        return False
    return HOST_NAME.fullmatch(text) is not None


def is_ipv6_address(text: str) -> bool:
    """Whether this is an IPv6 address, in any of its forms, without brackets."""
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def is_origin(text: str) -> bool:
    """Whether a browser can send this text as `Origin`; `null` is not one."""
    match = ORIGIN.fullmatch(text)
    if match is None:
        return APP_ORIGIN.fullmatch(text) is not None
    scheme, host, port = match.groups()
    return is_host(host) and port != DEFAULT_PORTS[scheme] and int(port or 0) <= 65535


def is_webhook_secret(text: str) -> bool:
    """Whether this is a secret as Standard Webhooks describes it."""
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        return False


def listed(value: object) -> object:
    """The parts of a text between its commas, without spaces around them and without empty ones."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def quoted(text: str) -> str:
    """A value as a line about it shows it."""
    return ascii(text) if len(text) <= MAX_QUOTED else ascii(text[:MAX_QUOTED]) + "…"


class Settings(BaseSettings):
    """One field for each environment variable of the same name in upper case.

    docs/reference.md and .env.example are made of these fields, in this order; `make reference` writes both.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True)

    app_env: Literal["development", "production"] = Field(
        "development",
        description="`production` refuses what is convenient but unsafe: the embedded database, `AUTH_MODE=header`, seed data,"
        " the endpoints under `/internal`.",
    )
    host: str | None = Field(
        None,
        description="The address to listen on: an address, or a name of this machine. `0.0.0.0` is every IPv4 address, `::` every"
        " IPv4 and IPv6 address. Without it production listens on `0.0.0.0`, and development on `127.0.0.1`, which only this"
        " machine reaches.",
    )
    port: int = Field(4000, ge=0, le=65535, description="The port of the API. 0 chooses a free port.")
    admin_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="A port of its own for `/metrics`, `/healthz` and `/readyz`. The API's port then answers 404 for them.",
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        [],
        description="The names, separated by commas, that a request may have in `Host`, besides `localhost`, `*.localhost`,"
        " `127.0.0.1` and `[::1]`; others get 421. `*.example.com` is every name below, `*` any. Without it production takes any"
        " name, and development only those four.",
    )
    database_url: Hidden = Field(
        None,
        description="`postgresql://user:password@host:port/database`. Without it an embedded server runs in `DATA_DIR`."
        " Several hosts with `?target_session_attrs=read-write` follow a failover.",
        examples=["postgresql://lastpair_app:secret@localhost:5432/lastpair"],
    )
    database_direct_url: Hidden = Field(
        None,
        description="The URL that goes past the pooler, for migrations, psql and LISTEN, if `DATABASE_URL` leads through a"
        " transaction pooler.",
    )
    migration_database_url: Hidden = Field(
        None,
        description="The URL of the role that owns the schemas, for `migrate`, `rollback`, `seed`, `psql --as-owner`, and for"
        " `run` before it serves. Without it they use `DATABASE_DIRECT_URL` or `DATABASE_URL`. It goes past the pooler, too.",
    )
    database_pool_size: int = Field(
        10,
        ge=1,
        le=1000,
        description="The most database sessions of a process. Each process has two more: one listens for events, and one"
        " checks whether the database answers. Behind a router it has as many for each node besides.",
    )
    data_dir: Path = Field(Path(".data"), description="The folder in which the embedded server keeps its data.")
    auth_mode: Literal["header", "jwt"] = Field(
        "header",
        description="How a request names its user. `header` trusts `X-User-Id`, so production refuses it;"
        " `jwt` takes a bearer token.",
    )
    jwt_secret: SecretStr | None = Field(
        None,
        description="The secret of 32 bytes or more that signs tokens (HS256). `AUTH_MODE=jwt` requires exactly one of these"
        " three: `JWT_SECRET`, `JWT_PUBLIC_KEY` and `JWT_JWKS_URL`.",
    )
    jwt_public_key: str | None = Field(
        None,
        description="The public key that verifies tokens: RSA of 2048 bits or more (RS256), or P-256 (ES256). It is in PEM;"
        " `\\n` may stand for a line break.",
    )
    jwt_jwks_url: Hidden = Field(None, description="The URL of a JWKS of such public keys, for keys that are rotated.")
    jwt_audience: str | None = Field(
        None, description="The `aud` that a token must have. `AUTH_MODE=jwt` requires this and `JWT_ISSUER`."
    )
    jwt_issuer: str | None = Field(None, description="The `iss` that a token must have.")
    jwt_role_claim: str = Field(
        "role",
        pattern=r"^\S+$",
        description="The claim that makes an admin if it is `admin`, or a list with `admin` in it: the name of a claim, or a path"
        " such as `realm_access.roles`.",
    )
    jwt_name_claim: str = Field(
        "preferred_username",
        pattern=r"^\S+$",
        description="The claim that holds a user's name: the name of a claim, or a path.",
    )
    purchaser_names: Literal["full", "initials", "hidden"] = Field(
        "full",
        description="How everybody sees the names of purchasers, in lists and on streams: `full`, `initials`, or `hidden`. A name"
        " that looks like an e-mail address is never shown whole.",
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [],
        description="The origins, separated by commas, whose pages may call the API and open WebSockets, as browsers write them."
        " Production refuses `*`.",
        examples=["http://localhost:3000,http://localhost:5173"],
    )
    frame_ancestors: Annotated[list[str], NoDecode] = Field(
        [],
        description="The origins, separated by commas, whose pages may show the buyer's page, `/d/{dropId}`, in a frame. Without"
        " it none may, because a page around it could make a buyer press Pay unknowingly.",
        examples=["https://shop.example"],
    )
    reservation_ttl_seconds: int = Field(
        60, ge=1, le=86_400, description="How long a hold lasts, if its drop does not say (`hold_seconds`)."
    )
    default_currency: str = Field("USD", description="The currency of drops that are made without one, as ISO 4217 writes it.")
    payment_provider: Literal["none", "stripe", "webhook"] = Field(
        "none",
        description="Who takes the money for a purchase. `none`: nobody, so a purchase is paid at once. `stripe` takes"
        " `STRIPE_SECRET_KEY`, `STRIPE_WEBHOOK_SECRET` and the extra `lastpair[stripe]`. `webhook` is any other provider and"
        " takes `PAYMENT_WEBHOOK_SECRET`. docs/payments.md explains both.",
    )
    payment_ttl_seconds: int = Field(
        900,
        ge=1,
        le=86_400,
        description="How long a buyer may take to pay after a purchase. It is longer if the hold would have lasted longer.",
    )
    stripe_secret_key: SecretStr | None = Field(
        None,
        description="The secret or restricted key of Stripe's API: `sk_test_…`, `sk_live_…`, `rk_test_…` or `rk_live_…`."
        " Events of the other mode, test or live, are kept and change nothing.",
    )
    stripe_webhook_secret: SecretStr | None = Field(
        None, description="The secret, `whsec_…`, of the webhook endpoint at Stripe that leads to `/api/webhooks/stripe`."
    )
    stripe_publishable_key: str | None = Field(
        None,
        description="The publishable key, `pk_test_…` or `pk_live_…`, with which the buyer's page shows Stripe's form. Without"
        " it that page says that one pays in the shop.",
    )
    stripe_api_url: str = Field(
        "https://api.stripe.com", description="Where Stripe's API is; tests have another, which stands in for Stripe."
    )
    payment_webhook_secret: SecretStr | None = Field(
        None,
        description="The secret, `whsec_` and 24 to 64 bytes in Base64, that signs what another provider and the service tell"
        " each other (Standard Webhooks).",
    )
    payment_provider_url: str | None = Field(
        None,
        description="Where the service tells another provider what to do: to create, to cancel, to refund, and to say how a"
        " payment stands. Without it the provider is told nothing, and the seller refunds there by hand.",
    )
    expiry_poll_ms: int = Field(
        2000, ge=50, le=3_600_000, description="How often each process sweeps due holds and moves drops on, in milliseconds."
    )
    batch_max_size: int = Field(
        128, ge=1, le=1000, description="The most requests that share a call to the database. 1 turns batching off."
    )
    max_pending: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="The most requests of one kind (reserve, purchase, …) that wait in a process. More are refused at once.",
    )
    rate_limit_user_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="The most writes of one user per minute, in each process. 0 is no limit."
    )
    rate_limit_address_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="The most writes of one address per minute, in each process. 0 is no limit."
    )
    rate_limit_reads_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="The most reads of one address per minute, in each process. 0 is no limit."
    )
    rate_limit_streams_per_minute: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="The most SSE, WebSocket and Socket.IO streams that one address may open per minute, in each process."
        " 0 is no limit.",
    )
    max_streams: int = Field(
        10_000, ge=1, le=1_000_000, description="The most SSE, WebSocket and Socket.IO clients of a process."
    )
    max_streams_per_address: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="The most SSE, WebSocket and Socket.IO clients of one address, in each process. 0 is no limit.",
    )
    webhook_private_targets: Annotated[list[str], NoDecode] = Field(
        [],
        description="The networks, separated by commas, to which webhooks may be sent although they are not public, such as"
        " `10.1.0.0/16` or `127.0.0.1`. A webhook never goes to any other address that is private, local or reserved.",
        examples=["10.1.0.0/16"],
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1",
        description="The proxies whose `X-Forwarded-For` is believed: addresses or networks, separated by commas, or `*`.",
    )
    tick_ms: int = Field(
        20,
        ge=1,
        le=1000,
        description="The least time between two writes to a stream, in milliseconds. Events that come meanwhile leave together.",
    )
    event_retention_seconds: int = Field(
        3600, ge=1, le=2_592_000, description="How far the event log reaches back for clients that reconnect."
    )
    web_concurrency: int = Field(1, ge=1, le=256, description="The number of processes.")
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info", description="Requests are logged at `info`, and at `warning` if they failed because of a fault of the service."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="Where traces are sent (OTLP over HTTP). It requires the extra `lastpair[otel]`, which the image has.",
    )

    @field_validator("frame_ancestors", mode="before")
    @classmethod
    def _split_ancestors(cls, value: object) -> object:
        origins = listed(value)
        for origin in origins if isinstance(origins, list) else []:
            if not is_origin(origin):
                raise ValueError(f"{quoted(origin)} is not an origin as browsers write it, such as https://shop.example")
        return origins

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        origins = listed(value)
        for origin in origins if isinstance(origins, list) else []:
            if origin != "*" and not is_origin(origin):
                raise ValueError(
                    f"{quoted(origin)} is not *, nor an origin as browsers write it (https://shop.example,"
                    " capacitor://localhost). It has no wildcard and no slash at the end. With http and https the host is in"
                    " lower case, in punycode if it is not ASCII, and without the scheme's own port"
                )
        return origins

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        hosts = listed(value)
        if not isinstance(hosts, list):
            return hosts
        hosts = [host.lower() for host in hosts]
        for host in hosts:
            if host != "*" and (host.endswith(".") or not is_host(host.removeprefix("*."))):
                raise ValueError(
                    f"{quoted(host)} is not a name such as drops.example.com or *.example.com, an address such as 10.0.0.1 or"
                    " [fd00::1], nor *. Leave out scheme, port and path"
                )
        return hosts

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address, _, zone = value.removeprefix("[").removesuffix("]").partition("%")
        is_ipv6 = ":" in address and is_ipv6_address(address) and re.fullmatch(r"[\w.-]*", zone)
        if not is_ipv6 and not is_host(value.lower()):
            raise ValueError(f"{quoted(value)} is not an address such as 127.0.0.1 or ::1, nor a name. Leave out scheme and port")
        return value.removeprefix("[").removesuffix("]")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_level(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url", "database_direct_url", "migration_database_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"postgres(ql)?://", value):
            raise ValueError("must begin with postgresql://")
        if value is not None:
            # A URL may name several servers: in the authority or, with their sockets, in the query.
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
            from lastpair.token_keys import secret_key

            secret_key(value.get_secret_value())
        return value

    @field_validator("jwt_public_key")
    @classmethod
    def _unescape_key(cls, value: str | None) -> str | None:
        pem = value and value.replace("\\n", "\n")  # some places allow only one line for a variable
        if pem is not None:
            from lastpair.token_keys import public_key

            public_key(pem)
        return pem

    @field_validator("stripe_secret_key")
    @classmethod
    def _check_stripe_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not STRIPE_KEY.fullmatch(value.get_secret_value()):
            raise ValueError("must be a secret or restricted key of Stripe: sk_test_…, sk_live_…, rk_test_… or rk_live_…")
        return value

    @field_validator("stripe_publishable_key")
    @classmethod
    def _check_publishable_key(cls, value: str | None) -> str | None:
        if value is not None and not STRIPE_PUBLISHABLE_KEY.fullmatch(value):
            raise ValueError("must be a publishable key of Stripe, because every buyer sees it: pk_test_… or pk_live_…")
        return value

    @field_validator("stripe_webhook_secret")
    @classmethod
    def _check_stripe_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"whsec_[!-~]+", value.get_secret_value()):
            raise ValueError("must begin with whsec_; Stripe shows it with the webhook endpoint")
        return value

    @field_validator("payment_webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_webhook_secret(value.get_secret_value()):
            raise ValueError("must be whsec_ and 24 to 64 bytes in Base64 (printf whsec_; openssl rand -base64 32)")
        return value

    @field_validator("jwt_jwks_url", "otel_exporter_otlp_endpoint", "stripe_api_url", "payment_provider_url")
    @classmethod
    def _check_http_url(cls, value: str | None) -> str | None:
        if value is not None and not is_http_url(value):
            raise ValueError("must be a URL that begins with https:// or http://, in ASCII, without a user or password")
        return value

    @field_validator("webhook_private_targets", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        networks = listed(value)
        for network in networks if isinstance(networks, list) else []:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{quoted(network)} is not an address, nor a network such as 10.1.0.0/16") from None
        return networks

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
        if self.migration_database_url is not None and self.database_url is None:
            raise ValueError("DATABASE_URL: not set, but MIGRATION_DATABASE_URL is; set both, or none for the embedded server")
        if self.admin_port is not None and self.admin_port == self.port:
            raise ValueError(f"ADMIN_PORT: {self.admin_port} is PORT as well; set another")
        if self.auth_mode == "jwt":
            keys = [self.jwt_secret, self.jwt_public_key, self.jwt_jwks_url]
            if len([key for key in keys if key is not None]) != 1:
                raise ValueError("AUTH_MODE: jwt takes one of JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL; set exactly one")
            for name in ("jwt_audience", "jwt_issuer"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name.upper()}: AUTH_MODE=jwt accepts no token without it; set it")
        for name in PAYMENT_SECRETS[self.payment_provider]:
            if getattr(self, name) is None:
                raise ValueError(f"{name.upper()}: PAYMENT_PROVIDER={self.payment_provider} does not work without it; set it")
        if self.stripe_publishable_key is not None and self.stripe_secret_key is not None:
            modes = {key.split("_")[1] for key in (self.stripe_publishable_key, self.stripe_secret_key.get_secret_value())}
            if len(modes) > 1:
                raise ValueError("STRIPE_PUBLISHABLE_KEY: it and STRIPE_SECRET_KEY are of different modes, test and live")
        if self.app_env == "production":
            for name in ("stripe_api_url", "payment_provider_url"):
                if (url := getattr(self, name)) is not None and not is_safe(url):
                    raise ValueError(
                        f"{name.upper()}: over http:// a third party could change payments; production takes https://"
                    )
            if self.database_url is None:
                raise ValueError("DATABASE_URL: production does not run on the embedded server; set it")
            if self.auth_mode == "header":
                raise ValueError("AUTH_MODE: header trusts any user name that a client sends, so production refuses it; set jwt")
            if self.jwt_jwks_url is not None and not is_safe(self.jwt_jwks_url):
                raise ValueError("JWT_JWKS_URL: over http:// a third party could replace the keys; production takes https://")
            if "*" in self.cors_origins:
                raise ValueError("CORS_ORIGINS: * lets any page send a user's token, so production refuses it; list the origins")
        return self

    @property
    def development(self) -> bool:
        """Whether this is development.

        Development adds the endpoints under /internal, sample data and the embedded database. It allows AUTH_MODE=header, which
        makes a missing user on first use. Without HOST it listens on this machine only.
        """
        return self.app_env == "development"

    @property
    def listening_host(self) -> str:
        """The address to listen on, or a name of it."""
        return self.host or ("127.0.0.1" if self.development else "0.0.0.0")  # noqa: S104

    @property
    def session_url(self) -> str | None:
        """The URL for what needs a session of its own (psql, audit): it goes past the pooler, if there is one."""
        return self.database_direct_url or self.database_url


def is_http_url(text: str) -> bool:
    """Whether this is a URL of http or https that all programs read in the same way."""
    if not re.fullmatch(r"[!-~]+", text) or "\\" in text or "#" in text:
        return False
    try:
        parts = urlsplit(text)
        if parts.netloc.startswith("["):
            ip_address(parts.hostname or "")
        return parts.scheme in {"http", "https"} and HOST_AND_PORT.fullmatch(parts.netloc) is not None and parts.port != 0
    except ValueError:  # of the address, or the port
        return False


def is_safe(http_url: str) -> bool:
    """Whether no third party can change what this URL answers: it has TLS, or leads to this machine."""
    parts = urlsplit(http_url)
    try:
        return parts.scheme == "https" or parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:  # another name
        return False


class InvalidSettings(Exception):
    """A setting is not acceptable. The message is one line that names the variable."""


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
