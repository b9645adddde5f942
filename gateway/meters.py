"""The register of meters: who they are, their keys and settings, and their provisioning document.

Keys are opened once at the start and live in memory; the database holds them sealed. The
configuration's ranges are the firmware's own (`firmware.core.config`), so that no meter is ever
provisioned with a document that it would refuse. Tests: host_tests/gateway/test_api.py.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from firmware.core.config import Config, ConfigError
from firmware.credit.tariff import TariffError
from firmware.credit.tariff import parse as parse_tariff
from firmware.link import codec
from gateway import tables
from gateway.broker import Address, password_hash
from gateway.errors import Conflict, FieldError, NotFound
from gateway.messages import encode_sorted
from gateway.store import Store
from gateway.vault import Vault
from gateway.writer import Writer

KEY_BYTES = 32
CONSUMER_MAX = 80
SANCTIONED_LOAD_MIN_W = 100
SANCTIONED_LOAD_MAX_W = 100_000
PHONE = re.compile(r"\+?[0-9]{10,15}")

SETTINGS = (
    "utc_offset_s",
    "voltage_ratio_x1000",
    "current_ratio_x1000",
    "basic_current_ma",
    "sample_period_ms",
    "live_period_s",
)
RULES = ("low_credit_mp", "grace_s", "window_start_min", "window_end_min")


@dataclass(frozen=True)
class Registration:
    """What is asked for a new meter. `settings` and `rules` may leave members out."""

    meter: str
    consumer: str
    phone: str | None
    sanctioned_load_w: int
    tariff: dict[str, Any]
    opening_balance_mp: int
    wifi: dict[str, Any]
    settings: dict[str, Any]
    rules: dict[str, Any]


class Meters:
    """All registered meters."""

    def __init__(self, store: Store, writer: Writer, vault: Vault, broker: Address) -> None:
        """`broker` is where the meters find the broker (host and port)."""
        self._store = store
        self._writer = writer
        self._vault = vault
        self._broker = broker
        self._keys: dict[str, bytes] = {}
        with store.reading() as connection:
            for row in connection.execute(sa.select(*tables.meters.c["id", "key_sealed"])):
                self._keys[row.id] = vault.open(row.key_sealed)

    def key(self, meter: str) -> bytes | None:
        """The key of a registered meter, None for any other name."""
        return self._keys.get(meter)

    def check(self, meter: str) -> None:
        """Raises NotFound unless the meter is registered."""
        if meter not in self._keys:
            raise NotFound("meter", meter)

    def ids(self) -> list[str]:
        """The registered meters, sorted."""
        return sorted(self._keys)

    def broker_users(self) -> dict[str, str]:
        """Broker user name to password hash."""
        with self._store.reading() as connection:
            query = sa.select(*tables.meters.c["id", "broker_hash"])
            return {row.id: row.broker_hash for row in connection.execute(query)}

    def register(self, asked: Registration, now_utc_ms: int) -> dict[str, Any]:
        """Register a meter and return its provisioning document, the only time that it exists.

        Raises FieldError naming the member and range, Conflict if the meter or another tariff under
        the same id and version is known. Nothing is changed then.
        """
        key = secrets.token_bytes(KEY_BYTES)
        password = secrets.token_urlsafe(24)
        document = self._document(asked, key, password)
        row = {
            "id": asked.meter,
            "consumer": asked.consumer,
            "phone": asked.phone,
            "sanctioned_load_w": asked.sanctioned_load_w,
            "key_sealed": self._vault.seal(key),
            "broker_hash": password_hash(password),
            "counter": 0,
            "opening_balance_mp": asked.opening_balance_mp,
            "tariff_id": asked.tariff["id"],
            "tariff_version": asked.tariff["version"],
            "settings": json.dumps(
                {name: document[name] for name in (*SETTINGS, "rules")}, sort_keys=True
            ),
            "created_utc_ms": now_utc_ms,
        }

        def insert(connection: Connection) -> None:
            known = sa.select(tables.meters.c.id).where(tables.meters.c.id == asked.meter)
            if connection.execute(known).first():
                raise Conflict("id", f"{asked.meter} is registered already")
            store_tariff(connection, asked.tariff, now_utc_ms)
            connection.execute(sa.insert(tables.meters), row)

        self._writer.write(insert)
        self._keys[asked.meter] = key
        return document

    def _document(self, asked: Registration, key: bytes, password: str) -> dict[str, Any]:
        try:
            codec.check_meter_id(asked.meter)
        except codec.CodecError as error:
            raise FieldError("id", error.why) from error
        if not 1 <= len(asked.consumer) <= CONSUMER_MAX or not asked.consumer.isprintable():
            raise FieldError("consumer", f"must be 1 to {CONSUMER_MAX} printable characters")
        if asked.phone is not None and not PHONE.fullmatch(asked.phone):
            raise FieldError("phone", "must be 10 to 15 digits, with or without + in front")
        if not SANCTIONED_LOAD_MIN_W <= asked.sanctioned_load_w <= SANCTIONED_LOAD_MAX_W:
            raise FieldError(
                "sanctioned_load_w",
                f"must be an integer from {SANCTIONED_LOAD_MIN_W} to {SANCTIONED_LOAD_MAX_W}",
            )
        check_tariff(asked.tariff, "tariff")
        document: dict[str, Any] = {
            "v": 1,
            "meter": asked.meter,
            "key": key.hex(),
            "wifi": asked.wifi,
            "broker": {
                "host": self._broker.host,
                "port": self._broker.port,
                "user": asked.meter,
                "password": password,
            },
            "opening_balance_mp": asked.opening_balance_mp,
            "tariff": asked.tariff,
            "rules": asked.rules,
            **asked.settings,
        }
        try:
            checked = Config(document)
        except ConfigError as error:
            raise FieldError(error.field, error.why) from error
        # Defaults are written out: what a meter does never changes with the firmware's defaults.
        document.update({name: getattr(checked, name) for name in SETTINGS})
        document["rules"] = {name: getattr(checked, name) for name in RULES}
        return document


def check_tariff(document: dict[str, Any], field: str) -> None:
    """Raises FieldError if the meter's own parser refuses the tariff; `field` is its place."""
    try:
        codec.check_document(document)
    except codec.CodecError as error:
        raise FieldError(field, error.why) from error
    try:
        parse_tariff(document)
    except TariffError as error:
        raise FieldError(f"{field}.{error.field}", error.why) from error


def store_tariff(connection: Connection, document: dict[str, Any], now_utc_ms: int) -> None:
    """Keep a checked tariff version. Raises Conflict if its id and version name another one."""
    where = (tables.tariffs.c.id == document["id"]) & (
        tables.tariffs.c.version == document["version"]
    )
    text = encode_sorted(document).decode()
    known = connection.execute(sa.select(tables.tariffs.c.document).where(where)).scalar()
    if known is None:
        connection.execute(
            sa.insert(tables.tariffs),
            {
                "id": document["id"],
                "version": document["version"],
                "document": text,
                "created_utc_ms": now_utc_ms,
            },
        )
    elif known != text:
        raise Conflict(
            "tariff",
            f"{document['id']} version {document['version']} is known with other content: "
            "a change needs a new version",
        )
