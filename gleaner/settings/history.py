"""Sections `database` and `accounting`: where history is kept, and how use is counted from it."""

from __future__ import annotations

import zoneinfo
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from gleaner.settings.fields import Section


class DatabaseSettings(Section):
    """Where history is kept."""

    url: str | None = Field(
        None,
        description="`sqlite:///path` (four slashes for an absolute one) or "
        "`postgresql://user:password@host/name`. "
        "Default: `recorder/gleaner.sqlite` in the data directory.",
    )
    sample_days: Annotated[float, Field(gt=0, le=3660)] = Field(
        2, description="How long each single sample of a GPU or host is kept."
    )
    five_minute_days: Annotated[float, Field(gt=0, le=36600)] = Field(
        14, description="How long sums of five minutes are kept."
    )
    hour_days: Annotated[float, Field(gt=0, le=36600)] = Field(
        731, description="How long sums of an hour are kept; those of a day, and sessions, stay."
    )
    max_bytes: Annotated[int, Field(ge=10_000_000)] | None = Field(
        None,
        description="When the database is larger, the oldest samples and events go before their "
        "time.",
    )
    event_days: Annotated[float, Field(gt=0, le=36600)] = Field(
        731, description="How long events and runs are kept."
    )

    @field_validator("url")
    @classmethod
    def _is_database_url(cls, url: str | None) -> str | None:
        known = ("sqlite:///", "postgresql://")
        if url is not None and not (url.startswith(known) and url not in known):
            raise ValueError("expected sqlite:///path or postgresql://user@host/name")
        return url


class AccountingSettings(Section):
    """How use is counted and told."""

    time_zone: str | None = Field(
        None,
        description="Where days, months and hours of the day begin, like `Europe/Berlin`. "
        "Default: the zone of the machine that the recorder runs on.",
    )
    groups_file: Path | None = Field(
        None,
        description="Lines of `user: group`. Default: each user's primary group on the recorder's "
        "machine.",
    )
    aliases: dict[str, str] = Field(
        {}, description="User to the name that use is counted under, where somebody has several."
    )
    quota_gpu_hours: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="User, or `*` for everybody else, to GPU-hours a month; shown, not enforced.",
    )
    csv_directory: Path | None = Field(
        None, description="Where a daily `YYYYMMDD_gpu_stats.csv` is written. Default: none is."
    )
    csv_minutes: Annotated[int, Field(ge=1, le=1440)] = Field(
        5, description="Between two samples in that file."
    )
    csv_idle_gpus: bool = Field(
        False,
        description="A row of nobody also for each GPU on which nothing runs; the GPU Stats "
        "Service has none.",
    )

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, time_zone: str | None) -> str | None:
        if time_zone is not None and time_zone not in zoneinfo.available_timezones():
            raise ValueError("expected the name of a time zone, like Europe/Berlin")
        return time_zone
