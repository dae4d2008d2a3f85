"""The shapes of request bodies and of the rows in answers.

Bodies are strict: an unknown field or a value of another type is refused, never converted. Rows come from the database as JSON
and are never parsed here; their models serve the contract only.
"""

# ruff: noqa: N815 - columns have the wire's names

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict
from typing_extensions import TypeAliasType

CANONICAL_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:[0-5]\d)")
CURRENCY = re.compile("[A-Z]{3}")
MAX_NAME_LENGTH = 200
MAX_INTEGER = 2**31 - 1  # PostgreSQL's integer
# Answers have no multipleOf, because validators that divide in floating point, such as Ajv, refuse 19.9 by it.
AMOUNT = {"type": "number", "minimum": 0, "examples": [199.9]}
MONEY = AMOUNT | {"maximum": 9_999_999_999.999}

MAX_IMAGE_URL_LENGTH = 2000
# The same rule as in the database (drops_image_url_check): only the characters of RFC 3986, and a path begins with one slash.
URL_CHARACTERS = r"[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]*"
IMAGE_URL = (
    r"^((https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|http://(localhost|127\.0\.0\.1))(:[0-9]{1,5})?"
    rf"(/{URL_CHARACTERS})?|/[A-Za-z0-9._~%-]{URL_CHARACTERS})$"
)

MAX_WEBHOOK_URL_LENGTH = 2000
# The same rule as in the database (webhook_endpoints_url_check).
WEBHOOK_URL = (
    r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?]([A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?$"
)

A_DROP: JsonDict = {"name": "Air Jordan 1", "price": 199.9, "total_stock": 100, "starts_at": "2026-01-01T00:00:00Z"}


def _number(value: object) -> object:
    return Decimal(value) if type(value) is int else value


def _timestamp(value: object) -> object:
    # The value stays text, in UTC, because the database reads it without loss. asyncpg would turn a datetime at either end of
    # time into infinity.
    if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
        raise ValueError("must be an ISO 8601 time with its offset from UTC, such as 2026-12-24T18:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


def _uuid(value: object) -> object:
    if not isinstance(value, str) or not CANONICAL_UUID.fullmatch(value):
        raise ValueError("must be a UUID such as 0190b6c5-7d3e-7abc-9def-0123456789ab")
    return value.lower()


def _normal_form(value: object) -> object:
    # 64 KB of combining marks would take a second. No character is written with more than four, so what is longer is too long.
    if isinstance(value, str) and len(value) <= 4 * MAX_NAME_LENGTH:
        return unicodedata.normalize("NFC", value)
    return value


def _currency(value: object) -> object:
    if not isinstance(value, str) or not CURRENCY.fullmatch(value):
        raise ValueError("must be an ISO 4217 code, such as USD")
    return value


def _image_url(value: object) -> object:
    if not isinstance(value, str) or len(value) > MAX_IMAGE_URL_LENGTH or not re.fullmatch(IMAGE_URL, value):
        raise ValueError(
            "must be an https URL or a path on this host, such as /shoe.jpg, of at most 2000 characters; http is for localhost"
        )
    return value


def _webhook_url(value: object) -> object:
    if not isinstance(value, str) or len(value) > MAX_WEBHOOK_URL_LENGTH or not re.fullmatch(WEBHOOK_URL, value):
        raise ValueError(
            "must be an http or https URL of at most 2000 characters, in ASCII, without a user, a password and a fragment"
        )
    return value


def _thousandths(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.001"))  # exact, because the value has no more decimals; 0e9999999 becomes 0.000


Text = Annotated[
    str,
    Field(
        min_length=1, max_length=MAX_NAME_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    ),
]
# The same rule as in the database (users_username_check), which knows besides which names look alike.
FORBIDDEN = "\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
Username = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_LENGTH, pattern=f"^[^{FORBIDDEN}]*[^\\s{FORBIDDEN}{INVISIBLE}][^{FORBIDDEN}]*$"),
    BeforeValidator(_normal_form),
]
Money = Annotated[Decimal, WithJsonSchema(MONEY)]
Amount = Annotated[Decimal, WithJsonSchema(AMOUNT)]  # of any number of units
# No currency has more than three decimals. The database knows how many the drop's has.
Price = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(ge=0, max_digits=13, decimal_places=3),
    AfterValidator(_thousandths),
    WithJsonSchema(MONEY | {"multipleOf": 0.001}),
]
Stock = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
AddedStock = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER, description="Units to add; a negative number takes away.")]
Quantity = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Currency = Annotated[
    str,
    BeforeValidator(_currency),
    WithJsonSchema({"type": "string", "pattern": f"^{CURRENCY.pattern}$", "description": "ISO 4217.", "examples": ["EUR"]}),
]
Timestamp = Annotated[
    str,
    BeforeValidator(_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{TIMESTAMP.pattern}$"}),
]
ImageUrl = Annotated[
    str,
    BeforeValidator(_image_url),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": MAX_IMAGE_URL_LENGTH,
            "pattern": IMAGE_URL,
            "description": "An https URL, or a path on this host; http is for localhost.",
            "examples": ["https://shop.example/shoe.jpg"],
        }
    ),
]
WebhookUrl = Annotated[
    str,
    BeforeValidator(_webhook_url),
    WithJsonSchema(
        {
            "type": "string",
            "format": "uri",
            "maxLength": MAX_WEBHOOK_URL_LENGTH,
            "pattern": WEBHOOK_URL,
            "description": "An https URL that leads to a public address; in development http as well.",
            "examples": ["https://shop.example/lastpair"],
        }
    ),
]
UuidText = Annotated[str, BeforeValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
MAX_VARIANTS = 200
MAX_BASKET_ITEMS = 20
# These are aliases with a name, because the contract then has one schema of this name, and generated clients have one type.
DropStatus = TypeAliasType("DropStatus", Literal["draft", "scheduled", "live", "ended", "cancelled"])
ReservationStatus = TypeAliasType("ReservationStatus", Literal["ACTIVE", "EXPIRED", "CANCELLED", "CONSUMED"])
PurchaseStatus = TypeAliasType("PurchaseStatus", Literal["pending", "paid", "failed", "cancelled", "refunded"])
WebhookType = TypeAliasType(
    "WebhookType",
    Literal[
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
    ],
)
DeliveryStatus = TypeAliasType("DeliveryStatus", Literal["pending", "delivered", "given_up"])
ProblemName = Literal[
    "unknown_payment",
    "wrong_amount",
    "wrong_currency",
    "wrong_mode",
    "refunded_in_part",
    "refund_failed",
    "too_late",
    "paid_twice",
]
PaymentStatus = TypeAliasType("PaymentStatus", Literal["pending", "paid", "failed", "cancelled", "refunded"])
DROP_STATUSES: tuple[str, ...] = get_args(DropStatus.__value__)
RESERVATION_STATUSES: tuple[str, ...] = get_args(ReservationStatus.__value__)
PURCHASE_STATUSES: tuple[str, ...] = get_args(PurchaseStatus.__value__)
PAYMENT_STATUSES: tuple[str, ...] = get_args(PaymentStatus.__value__)
WEBHOOK_TYPES: tuple[str, ...] = get_args(WebhookType.__value__)
DELIVERY_STATUSES: tuple[str, ...] = get_args(DeliveryStatus.__value__)


def _as_json(model: BaseModel) -> str:
    return orjson.dumps(model.model_dump(exclude_unset=True), default=lambda price: orjson.Fragment(str(price))).decode()


class NewUser(BaseModel, extra="forbid", json_schema_extra={"examples": [{"username": "alice"}]}):
    """A user to make."""

    username: Username


class NewVariant(BaseModel, extra="forbid"):
    """A size or tier of a drop to make. Without a price it costs what the drop costs."""

    name: Text
    total_stock: Stock
    price: Price | None = None


class NewDrop(BaseModel, extra="forbid", json_schema_extra={"examples": [A_DROP]}):
    """A drop to make, with `total_stock` or with `variants`.

    Without a status it is a draft if `starts_at` is missing, scheduled if that is in the future, else live.
    """

    name: Text
    price: Price
    total_stock: Stock | None = None
    variants: Annotated[list[NewVariant], Field(min_length=1, max_length=MAX_VARIANTS, fail_fast=True)] | None = None
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    status: Literal["draft", "scheduled", "live"] | None = None
    currency: Currency | None = None
    limit_per_user: Quantity | None = None
    hold_seconds: Seconds | None = None
    rehold_after_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    extension_seconds: Seconds | None = None
    image_url: ImageUrl | None = None
    near: Annotated[UuidText, Field(description="Another drop: one basket can have both.")] | None = None

    def as_json(self) -> str:
        """The fields given, as JSON."""
        return _as_json(self)


class VariantChanges(BaseModel, extra="forbid"):
    """A variant as it is to be: with `id` one that exists, of which only the fields given are changed; without, a new one."""

    id: UuidText = ""
    name: Text = ""
    total_stock: Stock = 1
    add_stock: AddedStock = 0
    price: Price | None = None


class ReserveBody(BaseModel, extra="forbid", json_schema_extra={"examples": [{"qty": 1}]}):
    """What to hold. A drop with variants needs `variant_id`; without `qty` it is one unit."""

    variant_id: UuidText | None = None
    qty: Quantity | None = None


class BasketItem(BaseModel, extra="forbid"):
    """Units of a drop; of a variant, if it has variants. Without `qty` it is one unit."""

    drop_id: UuidText
    variant_id: UuidText | None = None
    qty: Quantity | None = None


class NewBasket(BaseModel, extra="forbid"):
    """What to hold together: all items, or none. No two items are the same drop and variant."""

    items: Annotated[list[BasketItem], Field(min_length=1, max_length=MAX_BASKET_ITEMS, fail_fast=True)]


class PurchaseBody(BaseModel, extra="forbid"):
    """What to buy: without `reservation_id` the one reservation that there is."""

    reservation_id: UuidText | None = None


class CancelDropBody(BaseModel, extra="forbid", json_schema_extra={"examples": [{"refund": True}]}):
    """How to cancel a drop. Without `refund`, or if it is false, sales stay paid."""

    refund: bool = False


class DropChanges(BaseModel, extra="forbid", json_schema_extra={"minProperties": 1, "examples": [{"price": 179.5}]}):
    """The fields of a drop to change.

    Only the fields given are changed; null clears a time, a term or the picture. `variants` are all that the drop is to have, in
    their order; one that is missing there goes.
    """

    name: Text = ""
    price: Price = Decimal(0)
    total_stock: Stock = 1
    add_stock: AddedStock = 0
    variants: Annotated[list[VariantChanges], Field(min_length=1, max_length=MAX_VARIANTS, fail_fast=True)] = []
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    status: DropStatus = "draft"
    paused: bool = False
    limit_per_user: Quantity | None = None
    hold_seconds: Seconds | None = None
    rehold_after_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    extension_seconds: Seconds | None = None
    image_url: ImageUrl | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_nothing(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("must have at least one field to change")
        return value

    def given(self) -> str:
        """The fields given, as JSON."""
        return _as_json(self)


class Row(BaseModel, extra="forbid"):
    """A row with these fields and no others."""


class User(Row):
    """A buyer or seller."""

    id: UUID
    username: str
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Variant(Row):
    """A size or tier of a drop."""

    id: UUID
    name: str
    price: Annotated[Money, Field(description="What a unit costs.")]
    total_stock: int
    available_stock: Annotated[int, Field(ge=0)]


class Drop(Row):
    """A limited number of units for sale."""

    id: UUID
    name: str
    price: Money
    currency: Currency
    total_stock: int
    available_stock: Annotated[int, Field(ge=0, description="Units neither held nor sold.")]
    variants: Annotated[list[Variant], Field(description="In the seller's order; empty if the drop has none.")]
    starts_at: AwareDatetime | None
    ends_at: AwareDatetime | None
    status: DropStatus
    paused_at: AwareDatetime | None
    limit_per_user: Annotated[int | None, Field(description="Units that a user may hold and have bought together.")]
    hold_seconds: int | None
    rehold_after_seconds: int
    extension_seconds: int | None
    revision: Annotated[int, Field(ge=1, description="Rises when a seller changes the drop, and not when units are sold.")]
    created_by: UUID
    createdAt: AwareDatetime
    updatedAt: AwareDatetime
    image_url: Annotated[str | None, Field(description="The picture: a URL, or a path on this host.")]


class Purchaser(Row):
    """A user who bought, and when."""

    userId: UUID
    username: str
    qty: int
    createdAt: AwareDatetime


class ActivityFeed(Row):
    """What happens on a drop, apart from its own fields."""

    latest_purchasers: Annotated[list[Purchaser], Field(max_length=3, description="The latest first.")]
    held_stock: Annotated[int, Field(ge=0, description="Units held, or bought and not yet paid.")]


class ListedDrop(Drop):
    """A drop on sale, with its latest purchasers."""

    activity_feed: ActivityFeed


class Reservation(Row):
    """Units held for a user until `expires_at`."""

    id: UUID
    drop_id: UUID
    variant_id: UUID | None
    user_id: UUID
    basket_id: UUID | None
    qty: int
    unit_price: Annotated[Money | None, Field(description="As it was when the hold was made.")]
    currency: Currency | None
    amount: Annotated[Amount | None, Field(description="`qty` times `unit_price`.")]
    status: ReservationStatus
    expires_at: AwareDatetime
    extended_at: AwareDatetime | None
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Basket(Row):
    """Units of several drops that were held together."""

    id: UUID
    user_id: UUID
    reservations: Annotated[list[Reservation], Field(description="As they are now, in the order of the items.")]
    amounts: Annotated[dict[str, Amount], Field(description="What they cost together, by currency.")]
    expires_at: Annotated[AwareDatetime, Field(description="When the first reservation ends.")]
    createdAt: AwareDatetime


class Purchase(Row):
    """Units that were bought, at the price of the hold."""

    id: UUID
    drop_id: UUID
    variant_id: UUID | None
    reservation_id: UUID
    user_id: UUID
    qty: int
    unit_price: Annotated[Money | None, Field(description="Null: sold before version 0.3.")]
    currency: Currency | None
    amount: Amount | None
    status: PurchaseStatus
    refunded_amount: Amount | None
    refunded_at: AwareDatetime | None
    createdAt: AwareDatetime
    updatedAt: AwareDatetime
    refunded_qty: Annotated[int, Field(ge=0, description="Units of it that were refunded.")]
    payment_id: Annotated[UUID | None, Field(description="Null: paid without a payment provider, or free.")]


class Payment(Row):
    """What a buyer pays for a purchase, or for all purchases of a basket, with the help of a payment provider."""

    id: UUID
    drop_id: Annotated[UUID, Field(description="Of a basket: the drop of its first purchase.")]
    basket_id: UUID | None
    user_id: UUID
    amount: Amount
    currency: Currency
    status: Annotated[PaymentStatus, Field(description="After `failed`, the buyer may try again until `expires_at`.")]
    refunded_amount: Amount
    provider: str
    provider_reference: Annotated[str | None, Field(description="The provider's own id.")]
    client_secret: Annotated[str | None, Field(description="What a page of the provider needs to pay, until the payment ends.")]
    url: Annotated[str | None, Field(description="Where the buyer pays, until the payment ends.")]
    expires_at: AwareDatetime
    paid_at: AwareDatetime | None
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class BuyersPayment(Row):
    """A payment as the seller sees it: with the name of its user, and without what the buyer pays with."""

    id: UUID
    drop_id: UUID
    basket_id: UUID | None
    user_id: UUID
    amount: Amount
    currency: Currency
    status: PaymentStatus
    refunded_amount: Amount
    provider: str
    provider_reference: str | None
    expires_at: AwareDatetime
    paid_at: AwareDatetime | None
    createdAt: AwareDatetime
    updatedAt: AwareDatetime
    username: str


class PaymentProblem(Row):
    """Something that a payment provider told and that the seller has to look at. It was kept."""

    id: int
    at: AwareDatetime
    problem: ProblemName
    provider: str
    event_id: Annotated[str, Field(description="The provider's id of what it told.")]
    status: Annotated[PaymentStatus, Field(description="What the payment has become, as the provider told it.")]
    amount: Amount | None
    currency: str | None
    refunded_amount: Amount | None
    payment_id: Annotated[UUID | None, Field(description="Null: no payment is known by what the provider told.")]
    drop_id: UUID | None
    user_id: UUID | None
    username: str | None
    payment_status: Annotated[PaymentStatus | None, Field(description="Of the payment now, as the next two.")]
    payment_amount: Amount | None
    payment_currency: Currency | None


class ProviderCall(Row):
    """Something that a payment provider was told, or is to be told."""

    id: Annotated[UUID, Field(description="The idempotency key at the provider.")]
    payment_id: UUID
    drop_id: UUID
    action: Literal["create", "cancel", "refund"]
    amount: Amount
    currency: Currency
    attempts: int
    status: Literal["open", "done", "given_up"]
    next_attempt_at: AwareDatetime
    done_at: AwareDatetime | None
    gave_up_at: AwareDatetime | None
    last_error: str | None
    createdAt: AwareDatetime


class MoneyOfDrop(Row):
    """The money of a drop in one currency."""

    currency: Currency
    sold_for: Annotated[Amount, Field(description="What was paid, before refunds.")]
    refunded: Amount
    open: Annotated[Amount, Field(description="What is not paid yet.")]
    counts: Annotated[dict[str, int], Field(description="How many purchases have each status.")]


class RefundBody(BaseModel, extra="forbid", json_schema_extra={"examples": [{"qty": 1}]}):
    """How many units to refund. Without `qty` it is all that are left of the purchase."""

    qty: Quantity | None = None


class BuyersReservation(Reservation):
    """A reservation as the seller sees it, with the names of its user and of its variant."""

    username: str
    variant_name: str | None


class BuyersPurchase(Purchase):
    """A purchase as the seller sees it, with the names of its user and of its variant."""

    username: str
    variant_name: str | None


class NewWebhookEndpoint(BaseModel, extra="forbid"):
    """Where to tell what happens, and what."""

    url: WebhookUrl
    event_types: Annotated[list[WebhookType], Field(min_length=1, max_length=len(WEBHOOK_TYPES), fail_fast=True)]


class WebhookEndpointChanges(BaseModel, extra="forbid", json_schema_extra={"minProperties": 1, "examples": [{"active": True}]}):
    """The fields of a webhook endpoint to change. Only the fields given are changed."""

    url: WebhookUrl = ""
    event_types: Annotated[list[WebhookType], Field(min_length=1, max_length=len(WEBHOOK_TYPES), fail_fast=True)] = []
    active: bool = True

    @model_validator(mode="before")
    @classmethod
    def _refuse_nothing(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("must have at least one field to change")
        return value

    def given(self) -> str:
        """The fields given, as JSON."""
        return _as_json(self)


class WebhookEndpoint(Row):
    """A URL of the seller's that is told what happens."""

    id: UUID
    url: str
    event_types: list[WebhookType]
    active: Annotated[bool, Field(description="False: nothing is sent, and what happens meanwhile is missed.")]
    disabled_at: Annotated[AwareDatetime | None, Field(description="When the service gave the endpoint up.")]
    disabled_reason: Annotated[
        Literal["failing", "gone"] | None,
        Field(description="`failing`: nothing succeeded for three days. `gone`: it answered 410."),
    ]
    failing_since: Annotated[AwareDatetime | None, Field(description="The first failure since the last success.")]
    previous_secret_ends_at: Annotated[
        AwareDatetime | None, Field(description="Until then messages are signed with the secret before the last rotation, too.")
    ]
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class WebhookEndpointWithSecret(WebhookEndpoint):
    """The same with its secret, which no other answer shows."""

    secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/]{43}=$", description="Signs the messages (Standard Webhooks).")]


class WebhookDelivery(Row):
    """A message for a webhook endpoint, and what became of it."""

    id: UUID
    endpoint_id: UUID
    webhook_id: Annotated[UUID, Field(description="The header `webhook-id` of every attempt.")]
    drop_id: Annotated[UUID | None, Field(description="Null: a test, or a payment that is not known.")]
    type: WebhookType | Literal["webhook.test"]
    status: DeliveryStatus
    attempts: Annotated[int, Field(ge=0)]
    last_attempt_at: AwareDatetime | None
    last_status: Annotated[int | None, Field(description="The status of the last answer; null: there was none.")]
    last_error: Annotated[str | None, Field(description="Why the last attempt failed.")]
    next_attempt_at: Annotated[AwareDatetime | None, Field(description="Of the oldest pending message of the drop.")]
    give_up_at: Annotated[AwareDatetime, Field(description="An attempt that fails later is the last one.")]
    createdAt: AwareDatetime


class DropChange(Row):
    """Something that a seller did to a drop. `user_id` is null if it was done in the database, as `db_user`."""

    id: int
    at: AwareDatetime
    action: Literal["created", "updated", "cancelled", "refunded"]
    user_id: UUID | None
    username: str | None
    db_user: str
    details: Annotated[dict[str, Any], Field(description="For changes the fields, each with `from` and `to`.")]


class ReservationChange(Row):
    """Something that became of a reservation. `user_id` is null if nobody did it."""

    at: AwareDatetime
    action: Literal["reserved", "extended", "expired", "cancelled", "purchased", "refunded"]
    user_id: UUID | None
    details: dict[str, Any]


class ActivityEvent(Row):
    """An event as streams send it, with its drop and the time of its commit."""

    id: Annotated[str, Field(description="Opaque.")]
    type: str
    dropId: UUID
    at: AwareDatetime
    data: dict[str, Any]


class ActivityPoint(Row):
    """The stock of a drop at the end of a bucket of time."""

    at: Annotated[AwareDatetime, Field(description="The end of the bucket.")]
    sold: Annotated[int, Field(ge=0, description="Units bought within the bucket and paid, also those refunded since.")]
    held: Annotated[int | None, Field(ge=0, description="Null: not known, because the events of that time are gone.")]
    available: Annotated[int | None, Field(ge=0, description="Null as `held`.")]


class ActivityOfDrop(Row):
    """The chart of a drop."""

    dropId: UUID
    points: Annotated[
        list[ActivityPoint],
        Field(max_length=240, description="Oldest first. One without a sale, as the ones before and behind it, is left out."),
    ]


class Activity(Row):
    """What happened lately."""

    position: Annotated[str, Field(description="The `lastEventId` of a stream that goes on from here.")]
    from_: Annotated[AwareDatetime, Field(alias="from")]
    to: AwareDatetime
    events: Annotated[list[ActivityEvent], Field(max_length=200, description="The latest, oldest first.")]
    bucket_seconds: Annotated[int, Field(ge=1)]
    drops: Annotated[
        list[ActivityOfDrop], Field(max_length=100, description="The drops asked for, or the 50 on sale that started last.")
    ]


MAX_RUSH = 100_000


class NewRush(BaseModel, extra="forbid", json_schema_extra={"examples": [{"buyers": 20000, "stock": 100}]}):
    """A rush to start: so many buyers who want one unit each of a new drop of so many units."""

    buyers: Annotated[int, Field(ge=1, le=MAX_RUSH)]
    stock: Annotated[int, Field(ge=1, le=MAX_RUSH)]


class RushSecond(Row):
    """What happened in one second of a rush."""

    second: Annotated[int, Field(ge=1)]
    reserved: int
    sold: int
    refused: int


class Violation(Row):
    """A violated invariant, as `api.audit()` names it."""

    drop_id: UUID
    invariant: str
    expected: int
    found: int


class Rush(Row):
    """A rush and how far it is. Its buyers count; in the end `sold`, `oversold` and `audit` come from the database."""

    id: UUID
    dropId: Annotated[UUID | None, Field(description="Null until the drop is made.")]
    status: Literal["running", "done", "failed"]
    error: Annotated[str | None, Field(description="What went wrong, if it failed.")]
    buyers: int
    stock: int
    startedAt: AwareDatetime
    endedAt: AwareDatetime | None
    asked: Annotated[int, Field(description="Buyers who have their answer: a unit, or a refusal.")]
    reserved: int
    sold: int
    refused: int
    refusals: Annotated[dict[str, int], Field(description="How many were refused with each code.")]
    p50_ms: Annotated[float | None, Field(description="How long half of the requests took at most.")]
    p99_ms: float | None
    requests_per_second: Annotated[int | None, Field(description="From the first request to the latest answer.")]
    seconds: list[RushSecond]
    oversold: Annotated[int | None, Field(ge=0, description="Units sold beyond the stock; null until it was looked up.")]
    audit: list[Violation]
