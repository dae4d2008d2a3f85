"""The rows of answers and the bodies of requests, with the names that they have on the wire.

docs/reference.md describes each field. Times are ISO 8601 with an offset from UTC; `datetime.fromisoformat` reads them.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

Amount = Decimal | int
"""An amount of money, exactly as the server wrote it: with decimals, or without if the currency has none."""

Status = Literal["draft", "scheduled", "live", "ended", "cancelled"]
ReservationStatus = Literal["ACTIVE", "EXPIRED", "CANCELLED", "CONSUMED"]
PurchaseStatus = Literal["pending", "paid", "failed", "cancelled", "refunded"]
PaymentStatus = Literal["pending", "paid", "failed", "cancelled", "refunded"]


class Variant(TypedDict):
    """A size or tier of a drop."""

    id: str
    name: str
    price: Amount
    total_stock: int
    available_stock: int


class Drop(TypedDict):
    """A limited number of units for sale."""

    id: str
    name: str
    price: Amount
    currency: str
    total_stock: int
    available_stock: int
    variants: list[Variant]
    starts_at: str | None
    ends_at: str | None
    status: Status
    paused_at: str | None
    limit_per_user: int | None
    hold_seconds: int | None
    rehold_after_seconds: int
    extension_seconds: int | None
    image_url: str | None
    revision: int
    created_by: str
    createdAt: str
    updatedAt: str


class Purchaser(TypedDict):
    """A user who bought, and when."""

    userId: str
    username: str
    qty: int
    createdAt: str


class ActivityFeed(TypedDict):
    """What happens on a drop, apart from its own fields."""

    latest_purchasers: list[Purchaser]
    held_stock: int


class ListedDrop(Drop):
    """A drop on sale, with its latest purchasers."""

    activity_feed: ActivityFeed


class Reservation(TypedDict):
    """Units held for a user until `expires_at`."""

    id: str
    drop_id: str
    variant_id: str | None
    user_id: str
    basket_id: str | None
    qty: int
    unit_price: Amount | None
    currency: str | None
    amount: Amount | None
    status: ReservationStatus
    expires_at: str
    extended_at: str | None
    createdAt: str
    updatedAt: str


class Purchase(TypedDict):
    """Units that were bought, at the price of the hold."""

    id: str
    drop_id: str
    variant_id: str | None
    reservation_id: str
    user_id: str
    qty: int
    unit_price: Amount | None
    currency: str | None
    amount: Amount | None
    status: PurchaseStatus
    refunded_amount: Amount | None
    refunded_at: str | None
    createdAt: str
    updatedAt: str
    refunded_qty: int
    payment_id: str | None


class Payment(TypedDict):
    """What you pay for a purchase, or for all purchases of a basket."""

    id: str
    drop_id: str
    basket_id: str | None
    user_id: str
    amount: Amount
    currency: str
    status: PaymentStatus
    refunded_amount: Amount
    provider: str
    provider_reference: str | None
    client_secret: str | None
    url: str | None
    expires_at: str
    paid_at: str | None
    createdAt: str
    updatedAt: str


class BuyersPayment(TypedDict):
    """A payment as the seller sees it."""

    id: str
    drop_id: str
    basket_id: str | None
    user_id: str
    amount: Amount
    currency: str
    status: PaymentStatus
    refunded_amount: Amount
    provider: str
    provider_reference: str | None
    expires_at: str
    paid_at: str | None
    createdAt: str
    updatedAt: str
    username: str


class PaymentProblem(TypedDict):
    """Something that a payment provider told and that the seller has to look at."""

    id: int
    at: str
    problem: str
    provider: str
    event_id: str
    status: PaymentStatus
    amount: Amount | None
    currency: str | None
    refunded_amount: Amount | None
    payment_id: str | None
    drop_id: str | None
    user_id: str | None
    username: str | None
    payment_status: PaymentStatus | None
    payment_amount: Amount | None
    payment_currency: str | None


class ProviderCall(TypedDict):
    """Something that a payment provider was told, or is to be told."""

    id: str
    payment_id: str
    drop_id: str
    action: Literal["create", "cancel", "refund"]
    amount: Amount
    currency: str
    attempts: int
    status: Literal["open", "done", "given_up"]
    next_attempt_at: str
    done_at: str | None
    gave_up_at: str | None
    last_error: str | None
    createdAt: str


class MoneyOfDrop(TypedDict):
    """The money of a drop in one currency."""

    currency: str
    sold_for: Amount
    refunded: Amount
    open: Amount
    counts: dict[str, int]


class BuyersReservation(Reservation):
    """A reservation as the seller sees it."""

    username: str
    variant_name: str | None


class BuyersPurchase(Purchase):
    """A purchase as the seller sees it."""

    username: str
    variant_name: str | None


WebhookType = Literal[
    "purchase.pending",
    "purchase.paid",
    "purchase.cancelled",
    "purchase.refunded",
    "hold.expired",
    "drop.created",
    "drop.updated",
    "drop.sold_out",
    "drop.cancelled",
    "payment.flagged",
]
DeliveryStatus = Literal["pending", "delivered", "given_up"]


class WebhookEndpoint(TypedDict):
    """A URL of the seller's that is told what happens."""

    id: str
    url: str
    event_types: list[WebhookType]
    active: bool
    disabled_at: str | None
    disabled_reason: Literal["failing", "gone"] | None
    failing_since: str | None
    previous_secret_ends_at: str | None
    createdAt: str
    updatedAt: str


class WebhookEndpointWithSecret(WebhookEndpoint):
    """The same with its secret, which signs the messages."""

    secret: str


class WebhookDelivery(TypedDict):
    """A message for a webhook endpoint, and what became of it."""

    id: str
    endpoint_id: str
    webhook_id: str
    drop_id: str | None
    type: WebhookType | Literal["webhook.test"]
    status: DeliveryStatus
    attempts: int
    last_attempt_at: str | None
    last_status: int | None
    last_error: str | None
    next_attempt_at: str | None
    give_up_at: str
    createdAt: str


class Basket(TypedDict):
    """Units of several drops that were held together."""

    id: str
    user_id: str
    reservations: list[Reservation]
    amounts: dict[str, Amount]
    expires_at: str
    createdAt: str


class User(TypedDict):
    """A buyer or seller."""

    id: str
    username: str
    createdAt: str
    updatedAt: str


class DropChange(TypedDict):
    """Something that a seller did to a drop."""

    id: int
    at: str
    action: Literal["created", "updated", "cancelled", "refunded"]
    user_id: str | None
    username: str | None
    db_user: str
    details: dict[str, Any]


class ReservationChange(TypedDict):
    """Something that became of a reservation."""

    at: str
    action: Literal["reserved", "extended", "expired", "cancelled", "purchased", "refunded"]
    user_id: str | None
    details: dict[str, Any]


class ActivityEvent(TypedDict):
    """An event of the last minutes, with its drop and the time of its commit."""

    id: str
    type: str
    dropId: str
    at: str
    data: dict[str, Any]


class ActivityPoint(TypedDict):
    """The stock of a drop at the end of a bucket of time, and what was sold within it."""

    at: str
    sold: int
    held: int | None
    available: int | None


class ActivityOfDrop(TypedDict):
    """The stock of a drop by time."""

    dropId: str
    points: list[ActivityPoint]


Activity = TypedDict(
    "Activity",
    {
        "position": str,
        "from": str,
        "to": str,
        "events": list[ActivityEvent],
        "bucket_seconds": int,
        "drops": list[ActivityOfDrop],
    },
)
"""What happened lately. `events()` with `position` as its `last_event_id` goes on from here."""

Price = Decimal | float
"""A price to send. A float is sent as it is written: 19.9 as 19.9."""


Time = str | datetime
"""A time to send, with its offset from UTC."""


class NewVariant(TypedDict):
    """A size or tier of a drop to make."""

    name: str
    total_stock: int
    price: NotRequired[Price | None]


class VariantChanges(TypedDict, total=False):
    """A variant as it is to be: with `id` one that exists, without a new one."""

    id: str
    name: str
    total_stock: int
    add_stock: int
    price: Price | None


class Terms(TypedDict, total=False):
    """What a seller decides of a drop, when it is made and later."""

    starts_at: Time | None
    ends_at: Time | None
    limit_per_user: int | None
    hold_seconds: int | None
    rehold_after_seconds: int
    extension_seconds: int | None
    image_url: str | None


class NewDrop(Terms):
    """A drop to make, with `total_stock` or with `variants`."""

    name: str
    price: Price
    total_stock: NotRequired[int]
    variants: NotRequired[list[NewVariant]]
    status: NotRequired[Literal["draft", "scheduled", "live"] | None]
    currency: NotRequired[str | None]
    near: NotRequired[str | None]


class DropChanges(Terms, total=False):
    """The fields of a drop to change."""

    name: str
    price: Price
    total_stock: int
    add_stock: int
    variants: list[VariantChanges]
    status: Status
    paused: bool


class BasketItem(TypedDict):
    """Units of a drop; of a variant, if it has variants."""

    drop_id: str
    variant_id: NotRequired[str | None]
    qty: NotRequired[int | None]


class NewWebhookEndpoint(TypedDict):
    """Where to tell what happens, and what."""

    url: str
    event_types: list[WebhookType]


class WebhookEndpointChanges(TypedDict, total=False):
    """The fields of a webhook endpoint to change."""

    url: str
    event_types: list[WebhookType]
    active: bool


class RefusedItem(TypedDict):
    """An item of a basket that cannot be held."""

    index: int
    code: str
    message: str
