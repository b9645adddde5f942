"""All kinds of orders, the change of a meter's key and of its broker password."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "ALTER TABLE orders ADD COLUMN idempotency_key TEXT",
    "ALTER TABLE orders ADD COLUMN request_digest TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE orders ADD COLUMN secret_sealed BLOB",
    "ALTER TABLE orders ADD COLUMN balance_mp INTEGER",
    "ALTER TABLE orders ADD COLUMN expires_utc_s INTEGER",
    "ALTER TABLE orders ADD COLUMN key_generation INTEGER NOT NULL DEFAULT 0",
    "CREATE UNIQUE INDEX orders_by_key ON orders (idempotency_key)",
    "ALTER TABLE meters ADD COLUMN key_generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meters ADD COLUMN key_next_sealed BLOB",
    "ALTER TABLE meters ADD COLUMN key_old_sealed BLOB",
    "ALTER TABLE meters ADD COLUMN key_unsure INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meters ADD COLUMN broker_generation INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE meters ADD COLUMN broker_next_hash TEXT",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
