"""The request bodies, strict: an unknown field or a value of another type is refused, never converted."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:[0-5]\d)")
MAX_INTEGER = 2**31 - 1  # PostgreSQL's integer


def _number(value: object) -> object:
    return Decimal(value) if type(value) is int else value


def _timestamp(value: object) -> object:
    # Stays text, in UTC: the database reads it without loss, where a datetime at either end of time would become infinity.
    if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
        raise ValueError("must be an ISO 8601 time with its offset from UTC, such as 2026-12-24T18:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


def _cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"))  # exact, for it has no more decimals; 0e9999999 becomes a plain 0.00


Text = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
]
Price = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, max_digits=12, decimal_places=2), AfterValidator(_cents)]
Stock = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Timestamp = Annotated[str, BeforeValidator(_timestamp)]
Status = Literal["draft", "scheduled", "live", "ended", "cancelled"]


class NewUser(BaseModel, extra="forbid"):
    """POST /internal/users."""

    username: Text


class NewDrop(BaseModel, extra="forbid"):
    """POST /drops. Without a status the times decide it."""

    name: Text
    price: Price
    total_stock: Stock
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    status: Status | None = None


class DropChanges(BaseModel, extra="forbid"):
    """PATCH /drops/{dropId}: only the fields given are changed; null clears a time."""

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
