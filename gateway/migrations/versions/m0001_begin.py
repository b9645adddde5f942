"""The first schema. Written as SQL, because a migration that has run somewhere never changes."""

import sqlite3

from alembic import op

revision = "0001"
down_revision = None

# STRICT (SQLite 3.37, 2021) makes SQLite itself refuse a text in an integer column.
STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

TABLES = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) {strict}
    """,
    """
    CREATE TABLE tariffs (
        id TEXT NOT NULL, version INTEGER NOT NULL, document TEXT NOT NULL,
        created_utc_ms INTEGER NOT NULL,
        PRIMARY KEY (id, version)) {strict}
    """,
    """
    CREATE TABLE meters (
        id TEXT PRIMARY KEY, consumer TEXT NOT NULL, phone TEXT,
        sanctioned_load_w INTEGER NOT NULL,
        key_sealed BLOB NOT NULL, broker_hash TEXT NOT NULL,
        counter INTEGER NOT NULL CHECK (counter >= 0),
        opening_balance_mp INTEGER NOT NULL,
        tariff_id TEXT NOT NULL, tariff_version INTEGER NOT NULL,
        settings TEXT NOT NULL, created_utc_ms INTEGER NOT NULL,
        FOREIGN KEY (tariff_id, tariff_version) REFERENCES tariffs (id, version)) {strict}
    """,
    """
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        meter TEXT NOT NULL REFERENCES meters (id),
        store TEXT NOT NULL, boot INTEGER NOT NULL, seq INTEGER NOT NULL,
        type TEXT NOT NULL, at_utc_s INTEGER NOT NULL,
        import_wh INTEGER, balance_mp INTEGER,
        received_utc_ms INTEGER NOT NULL, content TEXT NOT NULL,
        UNIQUE (meter, store, seq, boot)) {strict}
    """,
    "CREATE INDEX records_by_time ON records (meter, type, at_utc_s)",
    """
    CREATE TABLE gaps (
        meter TEXT NOT NULL REFERENCES meters (id), store TEXT NOT NULL,
        first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, seen_utc_ms INTEGER NOT NULL,
        PRIMARY KEY (meter, store, first_seq)) {strict}
    """,
    """
    CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL, field TEXT NOT NULL, reason TEXT NOT NULL, digest TEXT NOT NULL,
        payload BLOB NOT NULL, times INTEGER NOT NULL,
        first_utc_ms INTEGER NOT NULL, last_utc_ms INTEGER NOT NULL,
        UNIQUE (topic, digest)) {strict}
    """,
    """
    CREATE TABLE orders (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE, meter TEXT NOT NULL REFERENCES meters (id),
        kind TEXT NOT NULL, members TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'done', 'refused', 'cancelled')),
        counter INTEGER NOT NULL, attempts INTEGER NOT NULL,
        result TEXT NOT NULL, field TEXT NOT NULL,
        created_utc_ms INTEGER NOT NULL, sent_utc_ms INTEGER, ended_utc_ms INTEGER) {strict}
    """,
    "CREATE INDEX orders_open ON orders (meter, position) WHERE state IN ('queued', 'sent')",
    """
    CREATE TABLE recharges (
        id TEXT PRIMARY KEY REFERENCES orders (id),
        meter TEXT NOT NULL REFERENCES meters (id),
        idempotency_key TEXT NOT NULL UNIQUE, request_digest TEXT NOT NULL,
        amount_mp INTEGER NOT NULL CHECK (amount_mp > 0),
        state TEXT NOT NULL
            CHECK (state IN ('queued', 'sent', 'confirmed', 'refused', 'cancelled')),
        balance_mp INTEGER, code TEXT NOT NULL, field TEXT NOT NULL) {strict}
    """,
    "CREATE INDEX recharges_by_meter ON recharges (meter)",
    """
    CREATE TABLE recharge_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        recharge TEXT NOT NULL REFERENCES recharges (id),
        state TEXT NOT NULL, utc_ms INTEGER NOT NULL,
        UNIQUE (recharge, state)) {strict}
    """,
    """
    CREATE TABLE upstream_cursor (
        stream TEXT PRIMARY KEY, last_id INTEGER NOT NULL, moved_utc_ms INTEGER NOT NULL) {strict}
    """,
    """
    CREATE TABLE upstream_rejected (
        stream TEXT NOT NULL, item INTEGER NOT NULL, status INTEGER NOT NULL,
        reason TEXT NOT NULL, utc_ms INTEGER NOT NULL,
        PRIMARY KEY (stream, item)) {strict}
    """,
    "INSERT INTO meta VALUES ('database_id', lower(hex(randomblob(8))))",
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement.format(strict=STRICT))
