"""The register of meters: who they are, their keys and settings, and their provisioning document.

Keys are opened at the start and after each change and live in memory; the database holds them
sealed. A meter's keys and broker passwords come in generations. The next one of each is made ahead,
from the secret file: so a gateway restored from a backup can go on with a meter that was changed
once since. The configuration's ranges are the firmware's own (`firmware.core.config`), so that no
meter is ever provisioned with a document that it would refuse.
Tests: host_tests/gateway/test_api.py, test_keys.py.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from firmware.core import config as firmware_config
from firmware.core.config import Config, ConfigError
from firmware.core.sealing import SALT_BYTES, next_key
from firmware.credit.tariff import TariffError
from firmware.credit.tariff import parse as parse_tariff
from firmware.link import codec
from gateway import tables
from gateway.broker import Address
from gateway.broker_files import User, password_hash
from gateway.calendar_files import check_calendar
from gateway.errors import Conflict, FieldError, NotFound, StoreError
from gateway.messages import encode_sorted
from gateway.store import Store
from gateway.vault import Vault
from gateway.writer import Writer

KEY_BYTES = 32
PASSWORD_BYTES = 24
TRIES_PER_KEY = 2
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
    "block_min",
    "export_counts",
    "commissioning",
)
RULES = tuple(name for name, *_range in firmware_config.rows((firmware_config.RULES,)))
METERING = tuple(
    name
    for name, _default, _low, _high in firmware_config.rows(
        (firmware_config.METERING, firmware_config.RELAY)
    )
    if name not in ("sanctioned_load_w", "block_min")  # which have members of their own
)


@dataclass(frozen=True)
class Registration:
    """What is asked for a new meter. `settings` and `rules` may leave members out."""

    meter: str
    consumer: str
    phone: str | None
    sanctioned_load_w: int
    tariff: dict[str, Any]
    opening_balance_mp: int
    wifi: dict[str, Any] = field(repr=False)
    settings: dict[str, Any]
    rules: dict[str, Any]
    metering: dict[str, Any] = field(default_factory=dict)
    calendar: dict[str, Any] | None = None


class Keys(NamedTuple):
    """A meter's keys: `generation` is the present one's number."""

    generation: int
    current: bytes
    old: bytes | None
    following: bytes
    unsure: bool

    def __repr__(self) -> str:
        return f"Keys(generation {self.generation})"  # never the keys

    def attempt(self, number: int) -> tuple[int, bytes]:
        """(generation, key) to sign with at the attempt `number` (from 0) to reach a meter.

        While it is not proven which one the meter has, the others get their turn: the old one after
        a change, the next one after a restoration from a backup.
        """
        tries = [(self.generation, self.current)]
        if self.old is not None:
            tries.append((self.generation - 1, self.old))
        if self.unsure:
            tries.append((self.generation + 1, self.following))
        return tries[number // TRIES_PER_KEY % len(tries)]


def broker_user(meter: str, generation: int) -> str:
    """The broker's user name of a meter: its id, and from the first change of password on .N."""
    return f"{meter}.{generation}" if generation else meter


class Meters:
    """All registered meters."""

    def __init__(self, store: Store, writer: Writer, vault: Vault, broker: Address) -> None:
        """`broker` is where the meters find the broker, and the authority that they pin.

        Raises StoreError if the authority's certificate cannot be read.
        """
        self._store = store
        self._writer = writer
        self._vault = vault
        self._broker = broker
        try:
            self._broker_ca = Path(broker.ca_file).read_text("ascii") if broker.ca_file else ""
        except (OSError, ValueError) as error:
            raise StoreError(f"the certificate {broker.ca_file} cannot be read: {error}") from error
        self._keys: dict[str, Keys] = {}
        self._next_hashes: dict[str, str] = {}  # made, but perhaps not in the database yet
        with store.reading() as connection:
            for row in connection.execute(sa.select(tables.meters)):
                self._take(row)

    def refresh(self, meter: str) -> bool:
        """Read keys and broker access anew after a commit; True if the broker's users changed."""
        return self._take(self._row(meter))

    def _take(self, row: sa.Row[Any]) -> bool:
        """Hold a row's keys; make what the next generations lack. True if that was a password."""
        meter = row.id
        current = self._vault.open(row.key_sealed)
        following = next_key(current, self.salt(meter, row.key_generation + 1))
        self._keys[meter] = Keys(
            row.key_generation,
            current,
            self._vault.open(row.key_old_sealed) if row.key_old_sealed else None,
            following,
            bool(row.key_unsure),
        )
        missing = self._missing(row)
        if "broker_next_hash" in missing:
            self._next_hashes[meter] = missing["broker_next_hash"]
        if missing:
            table = tables.meters
            generations = (row.key_generation, row.broker_generation)

            def complete(connection: Connection) -> None:
                connection.execute(
                    sa.update(table)
                    .where(
                        table.c.id == meter,
                        table.c.key_generation == generations[0],
                        table.c.broker_generation == generations[1],
                    )
                    .values(missing)
                )

            self._writer.submit(complete)
        return "broker_next_hash" in missing

    def _missing(self, row: sa.Row[Any]) -> dict[str, Any]:
        """What a row lacks of the next generations."""
        missing: dict[str, Any] = {}
        if row.key_next_sealed is None:
            current = self._vault.open(row.key_sealed)
            following = next_key(current, self.salt(row.id, row.key_generation + 1))
            missing["key_next_sealed"] = self._vault.seal(following)
        if row.broker_next_hash is None:
            password = self.broker_password(row.id, row.broker_generation + 1)
            missing["broker_next_hash"] = password_hash(password)
        return missing

    def complete(self, connection: Connection, meter: str) -> None:
        """Make what the next generations lack, in a transaction that may change to them.

        `refresh` could not store it if the disk was full then.
        """
        table = tables.meters
        row = connection.execute(sa.select(table).where(table.c.id == meter)).one()
        missing = self._missing(row)
        if missing:
            connection.execute(sa.update(table).where(table.c.id == meter).values(missing))

    def salt(self, meter: str, generation: int) -> bytes:
        """The salt of the change to the key of a generation."""
        return self._vault.derive("key salt", meter, generation)[:SALT_BYTES]

    def broker_password(self, meter: str, generation: int) -> str:
        """The broker password of a generation from 1 on; the first one is not kept anywhere."""
        secret = self._vault.derive("broker password", meter, generation)[:PASSWORD_BYTES]
        return base64.urlsafe_b64encode(secret).decode()

    def seal(self, members: dict[str, Any]) -> bytes:
        """Secret members of an order, for the database."""
        return self._vault.seal(json.dumps(members).encode())

    def open(self, sealed: bytes) -> dict[str, Any]:
        """What `seal` took."""
        return dict(json.loads(self._vault.open(sealed)))

    def key(self, meter: str) -> bytes | None:
        """The present key of a registered meter, None for any other name."""
        keys = self._keys.get(meter)
        return None if keys is None else keys.current

    def keys(self, meter: str) -> Keys:
        """All keys of a registered meter. Raises NotFound."""
        self.check(meter)
        return self._keys[meter]

    def check(self, meter: str) -> None:
        """Raises NotFound unless the meter is registered."""
        if meter not in self._keys:
            raise NotFound("meter", meter)

    def ids(self) -> list[str]:
        """The registered meters, sorted."""
        return sorted(self._keys)

    def broker_generation(self, meter: str) -> int:
        """The generation of a meter's broker password that is in use."""
        return int(self._row(meter).broker_generation)

    def rules(self, meter: str) -> SimpleNamespace:
        """The rules and settings that the meter has, as attributes."""
        settings = json.loads(self._row(meter).settings)
        return SimpleNamespace(**{**settings, **settings["rules"]})

    def _row(self, meter: str) -> sa.Row[Any]:
        table = tables.meters
        with self._store.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == meter)).first()
        if row is None:
            raise NotFound("meter", meter)
        return row

    def broker_users(self) -> list[User]:
        """The meters' users at the broker: the present and the next one of each.

        A meter that got a new password tries both until one works: the broker takes both.
        """
        with self._store.reading() as connection:
            return broker_users(connection, self._next_hashes)

    def register(
        self, asked: Registration, now_utc_ms: int, replace: bool = False
    ) -> dict[str, Any]:
        """Register a meter and return its provisioning document, the only time that it exists.

        `replace`: also if it is registered already, as long as nothing was ever heard of it: for a
        document that got lost before it reached the meter. Raises FieldError naming the member and
        range, Conflict if the meter or another tariff under the same id and version is known.
        Nothing is changed then.
        """
        key = secrets.token_bytes(KEY_BYTES)
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        document = self._document(asked, key, password, now_utc_ms)
        row = {
            "id": asked.meter,
            "consumer": asked.consumer,
            "phone": asked.phone,
            "sanctioned_load_w": asked.sanctioned_load_w,
            "key_sealed": self._vault.seal(key),
            "key_next_sealed": None,
            "key_generation": 0,
            "key_unsure": 0,
            "broker_hash": password_hash(password),
            "broker_generation": 0,
            "broker_next_hash": password_hash(self.broker_password(asked.meter, 1)),
            "counter": 0,
            "opening_balance_mp": asked.opening_balance_mp,
            "tariff_id": asked.tariff["id"],
            "tariff_version": asked.tariff["version"],
            "settings": json.dumps(
                {name: document[name] for name in (*SETTINGS, *METERING, "rules")}, sort_keys=True
            ),
            "created_utc_ms": now_utc_ms,
        }

        def insert(connection: Connection) -> None:
            store_tariff(connection, asked.tariff, now_utc_ms)
            table = tables.meters
            known = sa.select(table.c.id).where(table.c.id == asked.meter)
            if not connection.execute(known).first():
                connection.execute(sa.insert(table), row)
                return
            heard = sa.select(tables.records.c.id).where(tables.records.c.meter == asked.meter)
            if not replace or connection.execute(heard.limit(1)).first():
                raise Conflict("id", f"{asked.meter} is registered already")
            connection.execute(sa.update(table).where(table.c.id == asked.meter).values(row))

        self._writer.write(insert)
        self.refresh(asked.meter)
        return document

    def _document(
        self, asked: Registration, key: bytes, password: str, now_utc_ms: int
    ) -> dict[str, Any]:
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
        for name in asked.metering:
            if name not in METERING:
                raise FieldError(f"metering.{name}", "is none of " + ", ".join(METERING))
        check_tariff(asked.tariff, "tariff")
        if asked.calendar is not None:
            check_calendar(asked.calendar, "calendar")
        document: dict[str, Any] = {
            "v": 1,
            "meter": asked.meter,
            "made_utc_s": now_utc_ms // 1000,
            "key": key.hex(),
            "wifi": asked.wifi,
            "broker": {
                "host": self._broker.host,
                "port": self._broker.port,
                "user": asked.meter,
                "password": password,
                **({"ca": self._broker_ca} if self._broker_ca else {}),
            },
            "opening_balance_mp": asked.opening_balance_mp,
            "sanctioned_load_w": asked.sanctioned_load_w,
            "tariff": asked.tariff,
            "rules": asked.rules,
            **({"calendar": asked.calendar} if asked.calendar else {}),
            **asked.settings,
            **asked.metering,
        }
        try:
            checked = Config(document)
        except ConfigError as error:
            raise FieldError(error.field, error.why) from error
        # Defaults are written out: what a meter does never changes with the firmware's defaults.
        document.update({name: getattr(checked, name) for name in (*SETTINGS, *METERING)})
        document["rules"] = {name: getattr(checked, name) for name in RULES}
        return document


def broker_users(connection: Connection, next_hashes: dict[str, str]) -> list[User]:
    """As `Meters.broker_users`; `next_hashes` fills in what the database lacks."""
    table = tables.meters
    users = []
    for row in connection.execute(sa.select(table).order_by(table.c.id)):
        for generation, hashed in (
            (row.broker_generation, row.broker_hash),
            (row.broker_generation + 1, row.broker_next_hash or next_hashes.get(row.id)),
        ):
            if hashed is not None:
                users.append(User(broker_user(row.id, generation), row.id, hashed))
    return users


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
