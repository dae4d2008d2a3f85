"""The rows of answers, checked to the letter: their fields in order, and the type of each."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

Row = dict[str, Any]
Check = Callable[[object], bool]

DROP_STATUSES = ["draft", "scheduled", "live", "ended", "cancelled"]
RESERVATION_STATUSES = ["ACTIVE", "EXPIRED", "CANCELLED", "CONSUMED"]
PURCHASE_STATUSES = ["pending", "paid", "failed", "cancelled", "refunded"]


def is_uuid(value: object) -> bool:
    """A UUID as PostgreSQL writes it."""
    return isinstance(value, str) and str(UUID(value)) == value


def is_time(value: object) -> bool:
    """A time in UTC as PostgreSQL writes it in JSON."""
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00", value) is not None


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def is_integer(value: object) -> bool:
    """An integer, and no boolean."""
    return type(value) is int


def is_money(value: object) -> bool:
    """A number with two decimals."""
    return isinstance(value, Decimal) and value.as_tuple().exponent == -2


def is_currency(value: object) -> bool:
    """The code of a currency."""
    return isinstance(value, str) and re.fullmatch("[A-Z]{3}", value) is not None


def optional(check: Check) -> Check:
    """Null, or what the check wants."""
    return lambda value: value is None or check(value)


VARIANT = {"id": is_uuid, "name": is_text, "price": is_money, "total_stock": is_integer, "available_stock": is_integer}


def are_variants(value: object) -> bool:
    """A list of variants, which may be empty."""
    return isinstance(value, list) and all(assert_row(variant, VARIANT) for variant in value)


USER = {"id": is_uuid, "username": is_text, "createdAt": is_time, "updatedAt": is_time}
DROP = {
    "id": is_uuid,
    "name": is_text,
    "price": is_money,
    "currency": is_currency,
    "total_stock": is_integer,
    "available_stock": is_integer,
    "variants": are_variants,
    "starts_at": optional(is_time),
    "ends_at": optional(is_time),
    "status": DROP_STATUSES.__contains__,
    "paused_at": optional(is_time),
    "limit_per_user": optional(is_integer),
    "hold_seconds": optional(is_integer),
    "rehold_after_seconds": is_integer,
    "extension_seconds": optional(is_integer),
    "revision": is_integer,
    "created_by": is_uuid,
    "createdAt": is_time,
    "updatedAt": is_time,
    "image_url": optional(is_text),
}
LISTED_DROP = DROP | {"activity_feed": lambda feed: isinstance(feed, dict) and list(feed) == ["latest_purchasers", "held_stock"]}
PURCHASER = {"userId": is_uuid, "username": is_text, "qty": is_integer, "createdAt": is_time}
RESERVATION = {
    "id": is_uuid,
    "drop_id": is_uuid,
    "variant_id": optional(is_uuid),
    "user_id": is_uuid,
    "basket_id": optional(is_uuid),
    "qty": is_integer,
    "unit_price": is_money,
    "currency": is_currency,
    "amount": is_money,
    "status": RESERVATION_STATUSES.__contains__,
    "expires_at": is_time,
    "extended_at": optional(is_time),
    "createdAt": is_time,
    "updatedAt": is_time,
}
PURCHASE = {
    "id": is_uuid,
    "drop_id": is_uuid,
    "variant_id": optional(is_uuid),
    "reservation_id": is_uuid,
    "user_id": is_uuid,
    "qty": is_integer,
    "unit_price": is_money,
    "currency": is_currency,
    "amount": is_money,
    "status": PURCHASE_STATUSES.__contains__,
    "refunded_amount": optional(is_money),
    "refunded_at": optional(is_time),
    "createdAt": is_time,
    "updatedAt": is_time,
    "refunded_qty": is_integer,
    "payment_id": optional(is_uuid),
}


def assert_row(row: Row, shape: Mapping[str, Check]) -> Row:
    """The row has these fields, no others, and each is of its type."""
    assert list(row) == list(shape)
    wrong = {name: row[name] for name, check in shape.items() if not check(row[name])}
    assert wrong == {}
    return row
