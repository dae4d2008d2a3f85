"""Which providers the settings name."""

from importlib.util import find_spec

from lastpair.payments.provider import Provider
from lastpair.settings import InvalidSettings, Settings


def check_payment_package(settings: Settings) -> None:
    """Raises InvalidSettings if Stripe is to take the money and its package is not installed."""
    if settings.stripe_secret_key is not None and find_spec("stripe") is None:
        variable = "PAYMENT_PROVIDER" if settings.payment_provider == "stripe" else "STRIPE_SECRET_KEY"
        raise InvalidSettings(f"{variable}: stripe is not installed; install the extra stripe (pip install 'lastpair[stripe]')")


def providers_of(settings: Settings) -> dict[str, Provider]:
    """The providers whose secrets are set, by name. Raises InvalidSettings.

    PAYMENT_PROVIDER says who takes the money for new purchases. A provider that was used before is served as long as its secrets
    are set, because its payments may still be refunded.
    """
    check_payment_package(settings)
    found: list[Provider] = []
    # The modules are imported only here, because a process without payments needs none of them.
    if settings.stripe_secret_key is not None:
        from lastpair.payments.stripe_provider import StripeProvider

        found.append(StripeProvider(settings))
    if settings.payment_webhook_secret is not None:
        from lastpair.payments.webhook_provider import WebhookProvider

        found.append(WebhookProvider(settings))
    return {provider.name: provider for provider in found}
