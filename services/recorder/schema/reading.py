"""How what wants to read does so: a statement in, its rows out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Read = Callable[[Any], Awaitable[Sequence[Any]]]
