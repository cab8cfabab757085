"""What mosquitto reads: its limits, a listener, a password; for `gleaner up` and the deployment."""

from __future__ import annotations

import base64
import hashlib
import os

from gleaner.bus.codec import MAX_PAYLOAD_BYTES

_ITERATIONS = 101  # mosquitto's own; our passwords are 32 random bytes, which nobody guesses

COMMON = f"""\
per_listener_settings true
persistence true
persistence_location data/
autosave_interval 30
persistent_client_expiration 7d
# 0 would mean no limit, and loses messages in mosquitto 2.0.
max_queued_messages 100000
max_queued_bytes 268435456
max_inflight_messages 200
max_packet_size {MAX_PAYLOAD_BYTES}
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_type error
log_type warning
log_timestamp_format %H:%M:%S broker
"""
"""What holds for the whole broker."""


def listener(
    accounts: str,
    port: int,
    host: str = "",
    *,
    anonymous: bool = False,
    own_ids: bool = False,
    certificate: str | None = None,
) -> str:
    """Return a listener with the files `ACCOUNTS.passwords` and `ACCOUNTS.acl`.

    `own_ids`: the user name is the client id. `certificate`: the folder of one, for TLS.
    """
    lines = [f"listener {port} {host}".rstrip()]
    lines.append(f"allow_anonymous {'true' if anonymous else 'false'}")
    if own_ids:
        lines.append("use_username_as_clientid true")
    lines += [f"password_file {accounts}.passwords", f"acl_file {accounts}.acl"]
    if certificate is not None:
        lines += [f"certfile {certificate}/server.pem", f"keyfile {certificate}/server.key"]
        lines.append("tls_version tlsv1.2")
    return "\n".join(lines) + "\n"


def password_hash(password: str, salt: bytes | None = None) -> str:
    """Return what mosquitto keeps of a password (PBKDF2 with SHA-512)."""
    salt = os.urandom(12) if salt is None else salt
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    encoded = [base64.b64encode(raw).decode() for raw in (salt, key)]
    return f"$7${_ITERATIONS}${encoded[0]}${encoded[1]}"


def password_line(user: str, password: str, salt: bytes) -> str:
    """Return a line of mosquitto's password file."""
    return f"{user}:{password_hash(password, salt)}"


def is_password(password: str, kept: str) -> bool:
    """Whether a password is the one of which this was kept."""
    salt = base64.b64decode(kept.split("$")[3])
    return password_hash(password, salt) == kept
