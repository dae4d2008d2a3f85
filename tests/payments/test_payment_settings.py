"""The settings of payments: what each accepts, what belongs together, and the one line that says what is wrong."""

import subprocess
import sys

import pytest

from lastpair.payments import providers
from lastpair.settings import InvalidSettings, Settings, load_settings
from tests.support.commands import lastpair
from tests.support.localstripe import SECRET_KEY, WEBHOOK_SECRET
from tests.support.payment_provider import SECRET
from tests.support.tokens import SECRET as JWT_SECRET

STRIPE = {"PAYMENT_PROVIDER": "stripe", "STRIPE_SECRET_KEY": SECRET_KEY, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
OWN = {"PAYMENT_PROVIDER": "webhook", "PAYMENT_WEBHOOK_SECRET": SECRET}
PRODUCTION = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgresql://db.example/lastpair",
    "AUTH_MODE": "jwt",
    "JWT_SECRET": JWT_SECRET,
    "JWT_AUDIENCE": "shop",
    "JWT_ISSUER": "issuer",
}


@pytest.fixture(autouse=True)
def only_these(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """No settings of the machine."""
    monkeypatch.chdir(str(tmp_path))
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def settings_of(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    """What these variables mean."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes money, and no package of a provider is imported."""
    settings = settings_of(monkeypatch, {})
    assert (settings.payment_provider, settings.payment_ttl_seconds) == ("none", 900)
    assert providers.providers_of(settings) == {}
    code = "import sys, lastpair.web.application; print({'stripe', 'httpx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    "environment",
    [
        STRIPE,
        OWN,
        OWN | {"PAYMENT_PROVIDER_URL": "http://localhost:8080/pay", "PAYMENT_TTL_SECONDS": "60"},
        STRIPE | {"STRIPE_PUBLISHABLE_KEY": "pk_test_1"},
        STRIPE | {"STRIPE_SECRET_KEY": "rk_live_1", "STRIPE_API_URL": "http://localhost:8420"},
        STRIPE | OWN,
        STRIPE | PRODUCTION,
        {"STRIPE_SECRET_KEY": SECRET_KEY, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET},
    ],
)
def test_good(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """These are accepted, and show no secret when they are printed."""
    settings = settings_of(monkeypatch, environment)
    for secret in (SECRET_KEY, WEBHOOK_SECRET, SECRET):
        assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "environment"),
    [
        ("PAYMENT_PROVIDER", {"PAYMENT_PROVIDER": "paypal"}),
        ("PAYMENT_TTL_SECONDS", {"PAYMENT_TTL_SECONDS": "0"}),
        ("STRIPE_SECRET_KEY", {"PAYMENT_PROVIDER": "stripe"}),
        ("STRIPE_WEBHOOK_SECRET", {"PAYMENT_PROVIDER": "stripe", "STRIPE_SECRET_KEY": SECRET_KEY}),
        ("PAYMENT_WEBHOOK_SECRET", {"PAYMENT_PROVIDER": "webhook"}),
        ("STRIPE_SECRET_KEY", STRIPE | {"STRIPE_SECRET_KEY": "pk_test_1"}),
        ("STRIPE_SECRET_KEY", STRIPE | {"STRIPE_SECRET_KEY": "sk_test_ 1"}),
        ("STRIPE_WEBHOOK_SECRET", STRIPE | {"STRIPE_WEBHOOK_SECRET": "secret"}),
        ("STRIPE_PUBLISHABLE_KEY", STRIPE | {"STRIPE_PUBLISHABLE_KEY": SECRET_KEY}),
        ("STRIPE_PUBLISHABLE_KEY", STRIPE | {"STRIPE_PUBLISHABLE_KEY": "pk_live_1"}),
        ("STRIPE_API_URL", STRIPE | {"STRIPE_API_URL": "stripe.com"}),
        ("STRIPE_API_URL", STRIPE | PRODUCTION | {"STRIPE_API_URL": "http://stripe.example"}),
        ("PAYMENT_WEBHOOK_SECRET", OWN | {"PAYMENT_WEBHOOK_SECRET": "whsec_c2hvcnQ="}),
        ("PAYMENT_WEBHOOK_SECRET", OWN | {"PAYMENT_WEBHOOK_SECRET": "whsec_?"}),
        ("PAYMENT_PROVIDER_URL", OWN | {"PAYMENT_PROVIDER_URL": "ftp://pay.example"}),
        ("PAYMENT_PROVIDER_URL", OWN | PRODUCTION | {"PAYMENT_PROVIDER_URL": "http://pay.example"}),
    ],
)
def test_bad(monkeypatch: pytest.MonkeyPatch, variable: str, environment: dict[str, str]) -> None:
    """These are refused in one line that names the variable and quotes no secret."""
    with pytest.raises(InvalidSettings) as refused:
        settings_of(monkeypatch, environment)
    line = str(refused.value)
    assert line.startswith(f"{variable}: ")
    assert "\n" not in line
    for secret in ("c2hvcnQ=", "pk_test_1", "sk_test_ 1", SECRET, SECRET_KEY):
        assert secret not in line


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the service does not start, and says what to install."""
    monkeypatch.setattr(providers, "find_spec", lambda _: None)
    with pytest.raises(InvalidSettings, match=r"^PAYMENT_PROVIDER: .*pip install 'lastpair\[stripe\]'"):
        providers.check_payment_package(settings_of(monkeypatch, STRIPE))


def test_start_is_refused() -> None:
    """`lastpair run` ends before it touches the database."""
    ended = lastpair("run", PAYMENT_PROVIDER="stripe", DATABASE_URL="postgresql://nowhere.invalid/x")
    assert ended.returncode == 1
    assert ended.stderr == "STRIPE_SECRET_KEY: PAYMENT_PROVIDER=stripe does not work without it; set it\n"
