"""Short texts, compressed: deflate with a dictionary of what our events usually say.

The first byte names the dictionary. One that was used once stays for ever: without it nobody reads
what was packed with it. A better one is a new number.
"""

from __future__ import annotations

import zlib

_FIRST = b"""\
{"what":"driver","text":"the driver answers again"}{"active":false,"reason":"nobody is active"}\
{"active":true,"reason":"user is active at pts/0"}{"version":"0.1.0","source":"nvml","gpus":["GPU-\
{"run":"","entry":"","digest":"sha256:","gpus":["GPU-"],"parameters":{},"user":null,"job":null,\
"state":"starting","state":"running","state":"leaving","state":"finished","state":"failed",\
"state":"evicted","reason":"granted by the scheduler","reason":"it runs","term":1,"generation":1,\
"pid":null,"started_at":null,"exited_at":"2026-01-01T00:00:00.000000Z","exit_code":null,\
"exit_signal":15,"cause":{"kind":"person","text":" computes (pid "},"cause":null,\
"stages":{"noticed_to_term":0.00,"term_to_exit":0.0,"exit_to_clear":0.,"noticed_to_clear":0.},\
"stages":null,"token_sha256":"","boot_id":"","simulated":false,\
{"gpu":"GPU-","index":0,"state":"unknown","since":"2026-01-01T00:00:00.000000Z",\
"reasons":["no answer from the driver"],"state":"dirty","reasons":["memory is held by nobody \
we can name"],"state":"held","reasons":["idle for s, held by (pid "],"state":"ours","reasons":\
["our run"],"state":"idle","reasons":["nobody holds it"],"state":"busy","reasons":["user \
computes (pid 1, python)"],\
"holders":[{"pid":1,"started_at":"2026-01-01T00:00:00.000000Z","user_id":1000,\
"user":"user","command":"python train.py","kinds":["compute","device_open"],"memory_used_bytes":1,\
"run":null,"entry":null,"container":null,"ignored":null,"alive":true}],"holders":[],\
"at":"2026-01-01T00:00:00.000000Z","noticed_ns":null,"noticed_by":"fanotify","noticed_by":"exit",\
"noticed_by":"check","before":"unknown","before":"held","before":"ours","before":"busy",\
"before":"idle"}"""
_DICTIONARIES = {1: _FIRST}
_NEWEST = max(_DICTIONARIES)
_RAW = -15
"""No header and no checksum: the database has its own."""


def pack(text: str) -> bytes:
    """Return a text in few bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _RAW, zdict=_DICTIONARIES[_NEWEST])
    return bytes([_NEWEST]) + packer.compress(text.encode()) + packer.flush()


def unpack(data: bytes) -> str:
    """Return the text that was packed."""
    unpacker = zlib.decompressobj(_RAW, zdict=_DICTIONARIES[data[0]])
    return (unpacker.decompress(data[1:]) + unpacker.flush()).decode()
