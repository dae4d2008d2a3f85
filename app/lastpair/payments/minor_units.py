"""Amounts as Stripe counts them: whole numbers of the smallest unit, with exceptions (https://docs.stripe.com/currencies)."""

from decimal import Decimal

ZERO_DECIMALS = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
THREE_DECIMALS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])

MULTIPLES = dict.fromkeys(("ISK", "UGX"), 100) | dict.fromkeys(THREE_DECIMALS, 10)
"""Amounts of these currencies have to be multiples of so many units: ISK and UGX have no decimals, but are counted as if they had
two, and the last of three decimals must be 0."""


class NotRepresentable(ValueError):
    """Stripe has no such amount of this currency."""


def to_minor_units(amount: Decimal, currency: str) -> int:
    """The amount as Stripe counts it. It is never rounded: raises NotRepresentable instead."""
    exact = amount.scaleb(_decimals(currency))
    units = int(exact)
    if units != exact or units % MULTIPLES.get(currency, 1):
        raise NotRepresentable(f"Stripe cannot take {amount} {currency}, because it counts this currency in larger units")
    return units


def from_minor_units(units: int, currency: str) -> Decimal:
    """The amount that Stripe means. The code of the currency is in upper case."""
    return Decimal(units).scaleb(-_decimals(currency))


def _decimals(currency: str) -> int:
    return 0 if currency in ZERO_DECIMALS else 3 if currency in THREE_DECIMALS else 2
