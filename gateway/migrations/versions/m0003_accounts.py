"""Changes of accounts: closing, opening, a new tenant, the move to another meter."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE account_changes (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL CHECK (kind IN ('close', 'open', 'tenant', 'replace')),
        meter TEXT NOT NULL REFERENCES meters (id),
        target TEXT NOT NULL REFERENCES meters (id),
        members TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('closing', 'opening', 'done', 'refused')),
        close_order TEXT REFERENCES orders (id),
        open_order TEXT REFERENCES orders (id),
        closing TEXT, result TEXT NOT NULL, field TEXT NOT NULL,
        idempotency_key TEXT NOT NULL UNIQUE, request_digest TEXT NOT NULL,
        created_utc_ms INTEGER NOT NULL, ended_utc_ms INTEGER)
    """,
    """
    CREATE INDEX account_changes_open ON account_changes (meter, target)
        WHERE state IN ('closing', 'opening')
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
