"""The tables of the database, for queries. The migrations create them.

Times are UTC milliseconds (`_utc_ms`) of the gateway's clock, amounts milli-paise (`_mp`).
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

meters = Table(
    "meters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("consumer", Text, nullable=False),
    Column("phone", Text),
    Column("sanctioned_load_w", Integer, nullable=False),
    Column("key_sealed", LargeBinary, nullable=False),
    # The keys of one generation before, as long as the meter may still need it, and of the next.
    Column("key_generation", Integer, nullable=False),
    Column("key_old_sealed", LargeBinary),
    Column("key_next_sealed", LargeBinary),
    Column("key_unsure", Integer, nullable=False),  # 1: restored, the meter may be one ahead
    Column("broker_hash", Text, nullable=False),
    Column("broker_generation", Integer, nullable=False),
    Column("broker_next_hash", Text),
    Column("counter", Integer, nullable=False),  # the highest that was ever used in an order
    Column("opening_balance_mp", Integer, nullable=False),
    Column("tariff_id", Text, nullable=False),
    Column("tariff_version", Integer, nullable=False),
    Column("settings", Text, nullable=False),  # the configuration's members without secrets, JSON
    Column("created_utc_ms", Integer, nullable=False),
)

tariffs = Table(
    "tariffs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_utc_ms", Integer, nullable=False),
)

records = Table(
    "records",
    metadata,
    Column("id", Integer, primary_key=True),  # in order of commit; the upstream cursor counts it
    Column("meter", Text, nullable=False),
    Column("store", Text, nullable=False),
    Column("boot", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("at_utc_s", Integer, nullable=False),  # its own time if valid, else when it arrived
    Column("import_wh", Integer),
    Column("balance_mp", Integer),
    Column("received_utc_ms", Integer, nullable=False),
    Column("content", Text, nullable=False),  # the whole record, JSON with sorted members
)

gaps = Table(
    "gaps",
    metadata,
    Column("meter", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("first_seq", Integer, primary_key=True),
    Column("last_seq", Integer, nullable=False),
    Column("seen_utc_ms", Integer, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("times", Integer, nullable=False),
    Column("first_utc_ms", Integer, nullable=False),
    Column("last_utc_ms", Integer, nullable=False),
)

orders = Table(
    "orders",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("meter", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("members", Text, nullable=False),
    Column("secret_sealed", LargeBinary),  # members that only the meter may read, JSON
    Column("expires_utc_s", Integer),
    Column("state", Text, nullable=False),
    Column("counter", Integer, nullable=False),  # 0: the next publication takes a new one
    Column("key_generation", Integer, nullable=False),  # under which this counter was published
    Column("attempts", Integer, nullable=False),
    Column("result", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("balance_mp", Integer),
    Column("idempotency_key", Text, unique=True),
    Column("request_digest", Text, nullable=False),
    Column("created_utc_ms", Integer, nullable=False),
    Column("sent_utc_ms", Integer),
    Column("ended_utc_ms", Integer),
)

recharges = Table(
    "recharges",
    metadata,
    Column("id", Text, primary_key=True),
    Column("meter", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("request_digest", Text, nullable=False),
    Column("amount_mp", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("balance_mp", Integer),
    Column("code", Text, nullable=False),
    Column("field", Text, nullable=False),
)

recharge_events = Table(
    "recharge_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("recharge", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("utc_ms", Integer, nullable=False),
)

account_changes = Table(
    "account_changes",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("meter", Text, nullable=False),  # whose account is closed; in `open` that of `target`
    Column("target", Text, nullable=False),  # whose account is opened
    Column("members", Text, nullable=False),  # what the account that is opened is to have, JSON
    Column("state", Text, nullable=False),
    Column("close_order", Text),
    Column("open_order", Text),
    Column("closing", Text),  # the closed account as it is recomputed, JSON
    Column("result", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("request_digest", Text, nullable=False),
    Column("created_utc_ms", Integer, nullable=False),
    Column("ended_utc_ms", Integer),
)

upstream_cursor = Table(
    "upstream_cursor",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("last_id", Integer, nullable=False),
    Column("moved_utc_ms", Integer, nullable=False),
)

upstream_rejected = Table(
    "upstream_rejected",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("status", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("utc_ms", Integer, nullable=False),
)
