"""`/d/{dropId}`: the page where a drop is bought, which a shop links to or embeds. Its scripts use the public API only."""

from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from json import loads
from pathlib import Path
from string import Template
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from lastpair.errors import Refusal
from lastpair.settings import Settings
from lastpair.web.components import components_of
from lastpair.web.guard import own_origin
from lastpair.web.limits import address_of
from lastpair.web.requests import headers_of
from lastpair.web.schemas import CANONICAL_UUID

BUYER_FOLDER = Path(__file__).with_name("buyer")
TEMPLATES = ("index.html", "notice.html")
"""The files in that folder which are filled in here; the others are served as they are."""

INDEX, NOTICE = (Template((BUYER_FOLDER / name).read_text()) for name in TEMPLATES)

STRIPE_SOURCES = (
    " https://js.stripe.com https://*.js.stripe.com",
    " https://api.stripe.com",
    " frame-src https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com;",
)
"""What Stripe's form adds to script-src and connect-src, and its frame-src, as Stripe's security guide lists it."""

NO_DROP = "There is no drop here", "The address may be mistyped, or the drop is not published yet. Ask the shop for its link."
NOT_NOW = "The shop cannot answer right now", "Load this page again in a moment."


def buyer_policy(settings: Settings) -> str:
    """The Content-Security-Policy: nothing inline, pictures also from shops' https hosts, and the frames of FRAME_ANCESTORS.

    Stripe's script, frames and API are allowed only where the page shows Stripe's form.
    """
    local = " http://localhost:* http://127.0.0.1:*" if settings.development else ""
    frames = " ".join(settings.frame_ancestors) or "'none'"
    script, connect, frame = STRIPE_SOURCES if stripe_key(settings) else ("", "", "")
    return (
        f"default-src 'none'; script-src 'self'{script}; style-src 'self'; img-src 'self' https:{local};"
        f" connect-src 'self'{connect};{frame} base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
    )


def stripe_key(settings: Settings) -> str | None:
    """The publishable key with which the page shows Stripe's form, if it does."""
    return settings.stripe_publishable_key if settings.payment_provider == "stripe" else None


def payment_settings(settings: Settings) -> dict[str, Any]:
    """What the page knows of the payment provider; nothing if there is none."""
    if settings.payment_provider == "none":
        return {}
    # A provider that is told nothing of a payment never answers with a way to pay.
    is_told = settings.payment_provider == "stripe" or settings.payment_provider_url is not None
    return {"payments": {"isProviderTold": is_told, "stripeKey": stripe_key(settings)}}


class BuyerPage:
    """Answers `/d/{dropId}`.

    It reads the drop, because a page that shows the link shows its name, price and picture without running scripts, and because a
    drop that does not exist, or is a draft, is a 404.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings: dict[str, Any] = {"authMode": settings.auth_mode, "holdSeconds": settings.reservation_ttl_seconds}
        self._settings |= payment_settings(settings)

    async def answer(self, request: Request) -> Response:
        """GET."""
        components, drop_id = components_of(request), request.path_params["dropId"]
        if not CANONICAL_UUID.fullmatch(drop_id):
            return _notice(request, 404, "DROP_NOT_FOUND", NO_DROP)
        try:
            components.read_limit.count(address_of(request.scope))
            outcome = await components.shop.get_drop(drop_id.lower(), drafts=False)
        except Refusal as refusal:  # too many reads, or the database is away
            retry_after_seconds = refusal.retry_after_seconds or 1
            return _notice(request, refusal.status, refusal.code, NOT_NOW, {"retry-after": str(retry_after_seconds)})
        if outcome.code is not None:
            return _notice(request, 404, outcome.code, NO_DROP)
        # Going back to a stored page would bring the time and the stock of then.
        return _html(self._filled(request, outcome.data), headers={"cache-control": "no-store"})

    def _filled(self, request: Request, row: str) -> str:
        drop = loads(row, parse_float=Decimal)  # a Decimal keeps the decimals of the currency
        origin = own_origin(request.scope, headers_of(request.scope))
        page = self._settings | {"now": datetime.now(UTC), "drop": orjson.Fragment(row)}
        return INDEX.substitute(
            name=escape(drop["name"]),
            description=escape(_description(drop)),
            url=escape(f"{origin}/d/{drop['id']}"),
            image=_image_tags(drop, origin),
            page=escape(orjson.dumps(page).decode()),
        )


def _description(drop: dict[str, Any]) -> str:
    # One sentence that stays true however old a preview is.
    starts_at = drop["starts_at"] and datetime.fromisoformat(drop["starts_at"]).astimezone(UTC)
    opens = f", from {starts_at.day} {starts_at:%B %Y, %H:%M} UTC" if starts_at else ""
    prices = [variant["price"] for variant in drop["variants"]] or [drop["price"]]
    price = f"{'From ' if min(prices) < max(prices) else ''}{min(prices)} {drop['currency']}"
    return f"{price}. A drop of {drop['total_stock']:,}{opens}."


def _image_tags(drop: dict[str, Any], origin: str) -> str:
    url = drop["image_url"]
    if url is None:
        return '<meta name="twitter:card" content="summary">'
    whole = escape(origin + url if url.startswith("/") else url)
    return (
        f'<meta property="og:image" content="{whole}">\n'
        f'<meta property="og:image:alt" content="{escape(drop["name"])}">\n'
        '<meta name="twitter:card" content="summary_large_image">'
    )


def _notice(request: Request, status: int, code: str, words: tuple[str, str], headers: dict[str, str] | None = None) -> Response:
    request.scope["outcome"] = code
    title, text = words
    return _html(NOTICE.substitute(title=title, text=text), status, headers)


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type="text/html")
