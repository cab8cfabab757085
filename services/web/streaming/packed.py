"""gzip, for answers that are made once and go to many; pure.

A piece that ends in a full flush refers to nothing before it, so the same bytes fit into the
stream of whoever is connected, wherever that stream began.
"""

from __future__ import annotations

import zlib

LEVEL = 1
"""Higher ones take twice the time for a tenth less."""
HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""How a gzip stream begins: deflate, no name, no time, any system."""
_RAW, _GZIP = -15, 31


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip, by its Accept-Encoding."""
    for one in accept_encoding.lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def piece(data: bytes) -> bytes:
    """Return a piece of a gzip stream, which needs `HEAD` once before the first one."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def packer() -> zlib._Compress:
    """Return what makes a whole gzip stream, with its checksum at the end."""
    return zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
