"""Short texts, compressed: deflate with a dictionary of what our events usually say.

The first byte names the dictionary. One that was used once stays for ever: without it nobody reads
what was packed with it. A better one is a new number.
"""

from __future__ import annotations

import zlib

_FIRST = (
    b'{"what":"driver","text":"the driver answers again"}{"active":false,"reason":"nobody is '
    b'active"}{"active":true,"reason":"user is active at pts/0"}{"version":"","source":"nvml",'
    b'"gpus":["GPU-"],"state":"failed","reason":"failed with exit code 1","state":"succeeded",'
    b'"reason":"exit code 0","state":"clearing","state":"killing","state":"stopping",'
    b'"exit_code":0,"exit_signal":null,"exit_signal":9,"cause":{"kind":"not_desired",'
    b'"kind":"person","text":"user is active at pts/0"},"user":"nobody","simulated":true,'
    b'{"run":"00","entry":"","digest":"sha256:","gpus":["GPU-"],"state":"starting","reason":'
    b'"granted by the scheduler","state":"running","reason":"running since 00:00","state":'
    b'"evicted","reason":"evicted: user computes (pid 1, python)","term":1,"pid":null,'
    b'"supervisor_pid":null,"supervisor_started_ticks":null,"token_digest":"","cgroup":null,'
    b'"user":null,"started_at":null,"term_sent_at":null,"killed_at":null,"exited_at":null,'
    b'"cleared_at":null,"exit_code":null,"exit_signal":15,"cause":{"kind":"gpu_process",'
    b'"text":"GPU 0: "},"stages":{"noticed_to_term":0.00,"term_to_exit":0.0,"exit_to_clear":0.0,'
    b'"noticed_to_clear":0.0},"cause":null,"stages":null,"limits_not_set":[],"simulated":false,'
    b'"at":"2026-01-01T00:00:00.000000Z"}[["GPU-",[],0,"idle",10,[0,0],[[{"user":"","processes":1,'
    b'"memory_used_bytes":0}],[[]'
    b'{"gpu":"GPU-","index":0,"state":"unknown","since":"2026-01-01T00:00:00Z","reasons":["no '
    b'answer from the driver"],"state":"dirty","reasons":["memory is held by nobody we can name"],'
    b'"state":"held","since":"2026-01-01T00:00:00.000000Z","reasons":["user holds it and has done '
    b'nothing for 1800 s (pid 1, python)"],"state":"ours","reasons":["run 0 of "],"state":"idle",'
    b'"reasons":["nobody holds it"],"state":"busy","reasons":["user computes (pid 1, python)"],'
    b'"holders":[{"pid":1,"started_at":"2026-01-01T00:00:00.000000Z","user_id":1000,"user":"user",'
    b'"command":"python train.py","kinds":["compute","graphics","device_open"],'
    b'"kinds":["compute"],"memory_used_bytes":1,"run":null,"entry":null,"container":null,'
    b'"ignored":null,"alive":true}],"holders":[],"at":"2026-01-01T00:00:00.000000Z",'
    b'"noticed_ns":null,"noticed_by":"exit","noticed_by":"check","noticed_by":"fanotify",'
    b'"before":"unknown","before":"held","before":"ours","before":"busy","before":"idle"}'
)
_DICTIONARIES = {1: _FIRST}
_NEWEST = max(_DICTIONARIES)
_RAW = -15
"""No header and no checksum: the database has its own."""


def pack(text: str) -> bytes:
    """Return a text in few bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _RAW, zdict=_DICTIONARIES[_NEWEST])
    return bytes([_NEWEST]) + packer.compress(text.encode()) + packer.flush()


def unpack(data: bytes) -> str:
    """Return the text that was packed; raise ValueError where a disk has changed it since."""
    try:
        unpacker = zlib.decompressobj(_RAW, zdict=_DICTIONARIES[data[0]])
        text = unpacker.decompress(data[1:]) + unpacker.flush()
    except (LookupError, zlib.error) as error:
        raise ValueError(f"what was packed is damaged: {error}") from error
    if not unpacker.eof:
        raise ValueError("what was packed is damaged: its end is missing")
    return text.decode()
