"""mosquitto's configuration, topic rules and password file, as the product ships them.

For the broker that the gateway starts, and for one that somebody else runs (`bijli broker config`).
Invariants: no anonymous access; passwords only as hashes; a meter reaches its own topics only.
Tests: host_tests/gateway/test_broker.py.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from firmware.link import codec

GATEWAY_USER = "bijli.gateway"
"""The dot keeps it apart from every meter id."""

HASH_ITERATIONS = 1000
"""Passwords are random numbers of 128 bits and more, which no number of iterations makes safer."""


class User(NamedTuple):
    """A meter's access to the broker."""

    name: str
    meter: str
    password_hash: str


class Listener(NamedTuple):
    """An address that mosquitto serves; with certificate files (PEM) it speaks TLS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


def password_hash(password: str) -> str:
    """`password` in mosquitto's own form `$7$` (PBKDF2, SHA-512).

    Done here and not by mosquitto_passwd, so that no password stands in a process list or, even
    for a moment, in a file, and so that an external broker needs no local mosquitto.
    """
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ITERATIONS)
    parts = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"$7${HASH_ITERATIONS}$" + "$".join(parts)


def render(
    folder: Path, listeners: list[Listener], users: list[User], gateway_hash: str, run_as: str
) -> dict[str, bytes]:
    """The files by name. `folder` is where mosquitto finds them and keeps its sessions."""
    lines = []
    for listener in listeners:
        lines += [f"listener {listener.port} {listener.host}", "use_username_as_clientid true"]
        if listener.certificate is not None:
            lines += [f"certfile {listener.certificate}", f"keyfile {listener.key}"]
    values = {
        "folder": str(folder),
        "listeners": "\n".join(lines),
        "user": f"user {run_as}" if run_as else "",
        "gateway_user": GATEWAY_USER,
        "renamed": "".join(_rules(user) for user in users if user.name != user.meter),
    }
    passwords = {GATEWAY_USER: gateway_hash, **{user.name: user.password_hash for user in users}}
    files = {
        name: resources.files("gateway").joinpath("templates", template).read_text("utf-8")
        for template, name in (("mosquitto.conf", "mosquitto.conf"), ("acl.conf", "acl"))
    }
    return {
        **{name: text.format(**values).encode() for name, text in files.items()},
        "passwords": "".join(f"{user}:{hashed}\n" for user, hashed in passwords.items()).encode(),
    }


def _rules(user: User) -> str:
    """What a user may do whose name is not the meter's id, as after a change of password."""
    rules = [("write", leaf) for leaf in codec.LEAVES_UP]
    rules += [("read", leaf) for leaf in codec.LEAVES_DOWN]
    lines = [f"topic {verb} {codec.topic(user.meter, leaf)}\n" for verb, leaf in rules]
    return f"\nuser {user.name}\n" + "".join(lines)
