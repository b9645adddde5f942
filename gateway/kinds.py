"""The kinds of orders: what may be asked for, within the firmware's own ranges, and what is sent.

`check` runs when an order is asked for, so that no order is queued that its meter must refuse;
`wire` makes the members that go over the air, at each publication. docs/SPEC.md section 2.4.
Tests: host_tests/gateway/test_orders.py.
"""

from __future__ import annotations

import json
import secrets
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from firmware.core.config import Config, ConfigError
from firmware.core.sealing import SEALED_MAX, seal
from firmware.core.settings import check_settings
from firmware.link import codec
from gateway.calendar_files import check_calendar
from gateway.errors import FieldError
from gateway.meters import Meters, broker_user, check_tariff

AMOUNT_MIN_MP = 1
AMOUNT_MAX_MP = codec.AMOUNT_MAX_MP
SHARE_MAX = 100
CLOCK_MIN_UTC_S = 1_704_067_200
CLOCK_MAX_UTC_S = 4_102_444_800
DOWN_MAX = 4096
"""Bytes of a message towards a meter (SPEC 2); above it the meter drops the connection."""
SIGNATURE_BYTES = 64
IV_BYTES = 16


class Asked(NamedTuple):
    """A checked order: `members` may be shown, `secret` only to the meter."""

    kind: str
    members: dict[str, Any]
    secret: dict[str, Any] | None = None
    expires_utc_s: int | None = None

    def __repr__(self) -> str:
        return f"Asked({self.kind}, {self.members})"  # never the secret


def check(meters: Meters, meter: str, kind: str, given: dict[str, Any], now_utc_ms: int) -> Asked:
    """An order as it is to be kept. Raises FieldError naming the member and what is allowed."""
    members = {name: value for name, value in given.items() if value is not None}
    expires_utc_s = members.get("expires_utc_s")
    if expires_utc_s is not None and expires_utc_s * 1000 <= now_utc_ms:
        raise FieldError("expires_utc_s", "must be in the future")
    if kind == "tariff":
        check_tariff(members["document"], "document")
    elif kind == "settings":
        try:
            check_settings(members["document"], meters.rules(meter))
        except ConfigError as error:
            field = "document" if error.field == "document" else f"document.{error.field}"
            raise FieldError(field, error.why) from error
    elif kind == "relay":
        if members["state"] == "disconnected" and expires_utc_s is None:
            raise FieldError("expires_utc_s", "must be given for disconnected")
    elif kind == "calendar":
        members["document"] = given["document"]  # None is one of its values
        if given["document"] is not None:
            check_calendar(given["document"], "document")
    elif kind == "adjustment":
        _check_adjustment(members["entry"], members["amount_mp"])
    elif kind == "key":
        members["generation"] = meters.keys(meter).generation + 1
    elif kind == "link":
        return _check_link(meters, meter, members)
    return Asked(kind, members, None, expires_utc_s)


def _check_adjustment(entry: str, amount_mp: int) -> None:
    if entry == "refund" and amount_mp >= 0:
        raise FieldError("amount_mp", f"must be an integer from {-AMOUNT_MAX_MP} to -1 in a refund")
    if amount_mp == 0:
        raise FieldError("amount_mp", "must not be 0")


def _check_link(meters: Meters, meter: str, given: dict[str, Any]) -> Asked:
    wifi, broker = given.get("wifi"), given.get("broker")
    if wifi is None and broker is None:
        raise FieldError("link", "must have wifi or broker")
    members: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    # The sections are checked by the firmware's own check of a whole configuration.
    filler: dict[str, Any] = {
        "v": 1,
        "meter": meter,
        "key": "0" * 64,
        "wifi": {"ssid": "-", "password": ""},
        "broker": {"host": "-", "user": "-", "password": "-"},
        "tariff": {},
    }
    if wifi is not None:
        _check_section(filler, "wifi", wifi)
        secret["wifi"] = dict(wifi)
        members["wifi"] = {"ssid": wifi["ssid"]}
    if broker is not None:
        section = {name: value for name, value in broker.items() if value is not None}
        renew = section.pop("new_password", False)
        if not section and not renew:
            raise FieldError("broker", "must have at least one of host, port, ca and new_password")
        if "ca" in section:
            shown_ca = _check_ca(section["ca"])
        _check_section(filler, "broker", {**filler["broker"], **section})
        shown = dict(section)
        if "ca" in section:
            shown["ca"] = shown_ca
        if renew:
            generation = meters.broker_generation(meter) + 1
            section["user"] = shown["user"] = broker_user(meter, generation)
            section["password"] = meters.broker_password(meter, generation)
            members["broker_generation"] = generation
        secret["broker"] = section
        members["broker"] = shown
    if len(seal(bytes(32), bytes(IV_BYTES), _plain(secret))) > SEALED_MAX:
        raise FieldError("broker.ca", "is too long for one order: give one certificate")
    return Asked("link", members, secret)


def _check_section(filler: dict[str, Any], name: str, section: dict[str, Any]) -> None:
    try:
        Config({**filler, name: section})
    except ConfigError as error:
        field = error.field.removeprefix(f"{name}.").removeprefix(f"{name}_")
        raise FieldError(f"{name}.{field}", error.why) from error


def _check_ca(text: str) -> str:
    """The certificate's fingerprint, "" for none. Raises FieldError."""
    if not text:
        return ""
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise FieldError("broker.ca", "must be a certificate in PEM, or empty") from error
    return "SHA-256 " + certificate.fingerprint(hashes.SHA256()).hex()


def _plain(secret: dict[str, Any]) -> bytes:
    return json.dumps(secret, separators=(",", ":")).encode()


def wire(
    kind: str,
    members: dict[str, Any],
    secret: dict[str, Any] | None,
    key: bytes,
    salt: bytes,
    now_utc_ms: int,
) -> dict[str, Any]:
    """The members that are sent, for the meter's `key`; `salt` is that of a change of key."""
    if kind == "key":
        return {"salt": salt.hex()}
    if kind == "link":
        return {"sealed": seal(key, secrets.token_bytes(IV_BYTES), _plain(secret or {}))}
    if kind == "clock" and "utc_s" not in members:
        # The order may have waited for its meter: what is permitted is the time as it is now.
        return {"utc_s": now_utc_ms // 1000}
    return members


def payload(meter: str, order_id: str, counter: int, kind: str, members: dict[str, Any]) -> bytes:
    """The bytes of an order, as they are signed and sent."""
    order = {
        "v": codec.VERSION,
        "meter": meter,
        "id": order_id,
        "counter": counter,
        "kind": kind,
        **members,
    }
    return bytes(codec.encode(order))


def check_length(meter: str, order_id: str, asked: Asked) -> None:
    """Raises FieldError if the order could not be sent: a meter takes 4,096 bytes at most."""
    members = wire(asked.kind, asked.members, asked.secret, bytes(32), bytes(32), 0)
    sent = payload(meter, order_id, codec.COUNTER_MAX, asked.kind, members)
    excess = len(sent) + SIGNATURE_BYTES - DOWN_MAX
    if excess > 0:
        longest = max(members, key=lambda name: len(json.dumps(members[name])))
        raise FieldError(longest, f"is {excess} bytes too long for one message to the meter")
