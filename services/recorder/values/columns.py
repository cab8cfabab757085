"""How values lie in the database: small whole numbers, the same in SQLite and PostgreSQL.

SQLite keeps a whole number in as few bytes as it needs and a fraction in eight. A sum of whole
numbers is exact however often something is added to it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, LargeBinary, TypeDecorator

from services.recorder.values.packing import pack, unpack

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SLOT = timedelta(minutes=5)
DAY = timedelta(days=1) // _SLOT
"""In slots."""


def to_microseconds(at: datetime) -> int:
    """Return an instant as it is stored."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """Return a stored instant."""
    return _EPOCH + number * _MICROSECOND


def to_slot(at: datetime) -> int:
    """Return the number of the five minutes of an instant since 1970."""
    return (at - _EPOCH) // _SLOT


def from_slot(number: int) -> datetime:
    """Return when five minutes begin."""
    return _EPOCH + number * _SLOT


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else from_microseconds(value)


class Slot(TypeDecorator[datetime]):
    """The beginning of a bucket, stored as the number of its first five minutes since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database; what is no boundary goes to the one before."""
        return None if value is None else to_slot(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else from_slot(value)


class Fixed(TypeDecorator[float]):
    """A number, stored as so many whole parts of one."""

    impl = BigInteger
    cache_ok = True

    def __init__(self, parts: float = 1) -> None:
        super().__init__()
        self.parts = parts

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else round(value * self.parts)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:  # noqa: ARG002
        """From the database; PostgreSQL sums whole numbers to a decimal."""
        return None if value is None else int(value) / self.parts


class Packed(TypeDecorator[str]):
    """A text, stored compressed."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else pack(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else unpack(value)
