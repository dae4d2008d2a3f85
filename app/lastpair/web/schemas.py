"""The shapes of request bodies and of the rows in answers.

Bodies are strict: an unknown field or a value of another type is refused, never converted. Rows come from the database as JSON
and are never parsed here; their models serve the contract only.
"""

# ruff: noqa: N815 - columns have the wire's names

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:[0-5]\d)")
MAX_INTEGER = 2**31 - 1  # PostgreSQL's integer
MONEY = WithJsonSchema({"type": "number", "minimum": 0, "maximum": 9_999_999_999.99, "multipleOf": 0.01, "examples": [199.9]})

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


def _cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"))  # exact, because the value has no more decimals; 0e9999999 becomes 0.00


Text = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
]
Money = Annotated[Decimal, MONEY]
Price = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, max_digits=12, decimal_places=2), AfterValidator(_cents), MONEY]
Stock = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Timestamp = Annotated[
    str,
    BeforeValidator(_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{TIMESTAMP.pattern}$"}),
]
Status = Literal["draft", "scheduled", "live", "ended", "cancelled"]


class NewUser(BaseModel, extra="forbid", json_schema_extra={"examples": [{"username": "alice"}]}):
    """A user to make."""

    username: Text


class NewDrop(BaseModel, extra="forbid", json_schema_extra={"examples": [A_DROP]}):
    """A drop to make. Without a status it is a draft if `starts_at` is missing, scheduled if that is in the future, else live."""

    name: Text
    price: Price
    total_stock: Stock
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    status: Literal["draft", "scheduled", "live"] | None = None


class DropChanges(BaseModel, extra="forbid", json_schema_extra={"minProperties": 1, "examples": [{"price": 179.5}]}):
    """The fields of a drop to change. Only the fields given are changed; null clears a time."""

    name: Text = ""
    price: Price = Decimal(0)
    total_stock: Stock = 1
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    status: Status = "draft"

    @model_validator(mode="before")
    @classmethod
    def _refuse_nothing(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("must have at least one field to change")
        return value

    def given(self) -> str:
        """The fields given, as JSON."""
        return orjson.dumps(self.model_dump(exclude_unset=True), default=lambda price: orjson.Fragment(str(price))).decode()


class Row(BaseModel, extra="forbid"):
    """A row with these fields and no others."""


class User(Row):
    """A buyer or seller."""

    id: UUID
    username: str
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Drop(Row):
    """A limited number of units for sale."""

    id: UUID
    name: str
    price: Money
    total_stock: int
    available_stock: Annotated[int, Field(ge=0, description="Units neither held nor sold.")]
    starts_at: AwareDatetime | None
    ends_at: AwareDatetime | None
    status: Status
    created_by: UUID
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Purchaser(Row):
    """A user who bought, and when."""

    userId: UUID
    username: str
    qty: int
    createdAt: AwareDatetime


class ActivityFeed(Row):
    """What happens on a drop, apart from its own fields."""

    latest_purchasers: Annotated[list[Purchaser], Field(max_length=3, description="The latest first.")]
    held_stock: Annotated[int, Field(ge=0, description="Units held and not yet bought.")]


class ListedDrop(Drop):
    """A drop on sale, with its latest purchasers."""

    activity_feed: ActivityFeed


class Reservation(Row):
    """A unit held for a user until `expires_at`."""

    id: UUID
    drop_id: UUID
    user_id: UUID
    status: Literal["ACTIVE", "EXPIRED", "CANCELLED", "CONSUMED"]
    expires_at: AwareDatetime
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Purchase(Row):
    """A unit that was bought."""

    id: UUID
    drop_id: UUID
    reservation_id: UUID
    user_id: UUID
    qty: int
    status: Literal["pending", "paid", "failed", "cancelled", "refunded"]
    createdAt: AwareDatetime
    updatedAt: AwareDatetime
