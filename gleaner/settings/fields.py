"""What every section of the configuration file is made of: its base, and types of its fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def strip(words: object) -> object:
    """`"a, b"`, as an environment variable has it, means a and b."""
    if isinstance(words, str):
        words = [word for word in words.split(",") if word.strip()]
    if isinstance(words, list | tuple):
        return tuple(word.strip() if isinstance(word, str) else word for word in words)
    return words


Words = Annotated[tuple[str, ...], BeforeValidator(strip)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86400)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,63}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:=/-]{1,63}$")]


class Section(BaseModel):
    """A section of the file: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
