"""What a failure of the database means: worth another try, or a fault of what was written."""

from __future__ import annotations

import os

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from services.recorder.storage.lock import InUse

UNREACHABLE = (OperationalError, InterfaceError, NoConnection, OSError)
"""The disk is full, the file locked, the server away: worth another try."""
_AWAY = ("08", "28", "3D", "53", "57")
"""PostgreSQL's classes of errors: no connection, not let in, no room, starting up or ending."""
UNACCEPTABLE = (SQLAlchemyError, ValueError, OverflowError)
"""Something in the batch itself."""
OF_THE_QUESTION = (ValueError, OverflowError, DataError)
"""Of what a question can cause: what it asks with fits nowhere."""


def may_pass(error: Exception) -> bool:
    """Whether it lies in the database's whereabouts, and not in what was to be written."""
    was_cut = isinstance(error, DBAPIError) and error.connection_invalidated
    is_away = str(getattr(getattr(error, "orig", None), "sqlstate", None))[:2] in _AWAY
    return was_cut or is_away or isinstance(error, UNREACHABLE)


def words_of(error: Exception) -> str:
    """Return an error without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, InUse):
        return str(cause)
    if not isinstance(cause, OSError) or not cause.strerror:
        return str(cause)
    if cause.filename is not None:
        return f"{cause.filename}: {cause.strerror}"
    # A server that is away: "[Errno 2] No such file or directory", where its socket was. asyncio
    # says "Connect call failed" and the address instead of why; numbers below 0 are of names.
    number = cause.errno or 0
    return f"it cannot be reached ({os.strerror(number) if number > 0 else cause.strerror})"
