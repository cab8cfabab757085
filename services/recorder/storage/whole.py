"""Let a transaction end before somebody is cancelled who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

PATIENCE_SECONDS = 5.0
_P = ParamSpec("_P")
_T = TypeVar("_T")


def whole(
    doing: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Return it such that it is done to its end, within reason, and only then cancelled.

    A connection that is torn out of what it does may keep the lock of the file for seconds.
    """

    @wraps(doing)
    async def done(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        task = asyncio.ensure_future(doing(*args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not (await asyncio.wait([task], timeout=PATIENCE_SECONDS))[0]:
                # A server that does not answer must not hold us up.
                task.cancel()
                await asyncio.wait([task])
            if not task.cancelled():
                # It is nobody's any more.
                task.exception()
            raise

    return done
