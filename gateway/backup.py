"""Backup of a running gateway's database, and its restoration.

A backup is one SQLite file, one moment of the database, readable by its owner only. The keys of
the meters in it are sealed: without the secret file, which is kept apart, it opens no meter. A
restoration prepares what the time since the backup needs:

- every meter's order counter jumps, so that no counter is used twice for different orders;
- orders in flight get a new counter and go out again; the meter repeats its first answer, unless
  it may have forgotten it: the open ones of an old backup are ended, for an operator to settle;
- every meter is asked to send again what lies above the last record here; the head-end knows by
  identity what it has already;
- a meter whose key was changed since is found with the next key.

Tests: host_tests/gateway/test_backup.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from firmware.link import codec
from gateway import orders, tables
from gateway.errors import StoreError
from gateway.folder import lock, secret_path
from gateway.kinds import Asked
from gateway.store import DATABASE, MARKER, open_store
from gateway.vault import Vault, sync_folder

log = logging.getLogger("gateway.backup")

COUNTER_JUMP = 100_000
"""More orders than a meter gets between a backup and its restoration; 2**31 allow 21,000 jumps."""
AGE_DAYS_MAX = 30
"""A meter knows what it did for 35 days: an older order would be done once more."""
OLD_BACKUP = "old_backup"
"""Result of an order whose outcome nobody may know."""
PAGES_AT_ONCE = 256
DAY_MS = 86_400_000


def back_up(folder: Path, file: Path) -> int:
    """Copy the database in `folder` to `file`, whether a gateway runs or not; returns its bytes.

    Raises StoreError if there is no database, or `file` exists or cannot be written.
    """
    path = folder / DATABASE
    if not path.exists():
        raise StoreError(f"there is no database in {folder}")
    if file.exists():
        raise StoreError(f"{file} exists already; it is not overwritten")
    part = file.with_name(file.name + ".part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with (
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(part)) as target,
        ):
            # In steps: a writer is held up by one step at most.
            source.backup(target, pages=PAGES_AT_ONCE)
            target.execute("PRAGMA journal_mode=DELETE")
        _check(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        size = part.stat().st_size
        part.replace(file)
        sync_folder(file.parent)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"the backup failed: {error}") from error
    return size


def restore(
    folder: Path, file: Path, secret_file: Path | None, now_utc_ms: int, old: bool = False
) -> str:
    """Make `file` the database in `folder`; returns what was done, for the operator.

    A database that is there is kept under another name. With `old` also a backup of more than
    AGE_DAYS_MAX days, or of times that are still to come: orders that were open in it are ended.
    Raises StoreError, or StartError if a gateway runs on the folder; nothing is changed then.
    """
    if not file.exists():
        raise StoreError(f"there is no backup {file}")
    secret = secret_path(folder, secret_file)
    if not secret.exists():
        raise StoreError(
            f"the secret file {secret} is missing: restore it first, it seals the meters' keys"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(lock(folder)):
        work = folder / "restore"
        work.mkdir(mode=0o700, exist_ok=True)
        for left in work.iterdir():
            left.unlink()
        try:
            _copy(file, work / DATABASE)
            _check(work / DATABASE)
            store = open_store(work)
            try:
                with store.writer.begin() as connection:
                    meters, waiting = _prepare(connection, secret, now_utc_ms, old)
            finally:
                store.close()
            kept = _put_aside(folder)
            (work / DATABASE).replace(folder / DATABASE)
            (work / MARKER).replace(folder / MARKER)
            sync_folder(folder)
        except (OSError, sqlite3.Error, sa.exc.DBAPIError) as error:
            raise StoreError(f"the restoration failed: {error}") from error
        finally:
            for left in work.iterdir():
                left.unlink()
            work.rmdir()
    text = f"{meters} meters restored, each is asked for what came since; {waiting} orders wait"
    return text + (f"; the database that was there is {kept}" if kept else "")


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
    target.chmod(0o600)


def _check(path: Path) -> None:
    """Raises StoreError unless `path` is a sound database of a gateway."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            sound = database.execute("PRAGMA integrity_check").fetchone()[0]
            database.execute("SELECT value FROM meta WHERE name='database_id'").fetchone()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} is no database of a gateway: {error}") from error
    if sound != "ok":
        raise StoreError(f"{path} is damaged: {sound}")


def _put_aside(folder: Path) -> str:
    """Rename the database that is there, with its write-ahead log."""
    if not (folder / DATABASE).exists():
        return ""
    number = 1
    while (folder / f"{DATABASE}.before-restore-{number}").exists():
        number += 1
    name = f"{DATABASE}.before-restore-{number}"
    for suffix in ("", "-wal", "-shm"):
        if (folder / (DATABASE + suffix)).exists():
            (folder / (DATABASE + suffix)).replace(folder / (name + suffix))
    return name


def _made_utc_ms(connection: Connection) -> int:
    """When a backup was made: the newest time that its gateway wrote down, which is not later."""
    records, order_table = tables.records, tables.orders
    times = (
        tables.meters.c.created_utc_ms,
        records.c.received_utc_ms,
        order_table.c.created_utc_ms,
        order_table.c.sent_utc_ms,
        order_table.c.ended_utc_ms,
    )
    return max(connection.execute(sa.select(sa.func.max(time))).scalar() or 0 for time in times)


def _prepare(connection: Connection, secret: Path, now_utc_ms: int, old: bool) -> tuple[int, int]:
    """Make the database fit for meters that have lived on; (meters, open orders)."""
    vault = Vault(secret, may_create=False)
    meters, order_table = tables.meters, tables.orders
    rows = connection.execute(sa.select(meters.c.id, meters.c.key_sealed)).all()
    for row in rows:
        vault.open(row.key_sealed)  # StoreError: the backup belongs to another secret file
    connection.execute(
        sa.update(meters).values(
            counter=sa.func.min(meters.c.counter + COUNTER_JUMP, codec.COUNTER_MAX - 1),
            key_unsure=1,
        )
    )
    made_utc_ms = _made_utc_ms(connection)
    age_days = (now_utc_ms - made_utc_ms) // DAY_MS if made_utc_ms else 0
    # A clock that is a little behind is no reason to refuse; one that is far behind hides the age.
    if not -1 <= age_days <= AGE_DAYS_MAX:
        if not old:
            age = f"{age_days} days old, at most {AGE_DAYS_MAX} are allowed"
            if age_days < 0:
                age = f"from {-age_days} days after this computer's time, set its clock"
            raise StoreError(
                f"the backup is {age}: meters may have forgotten recharges that were open in it"
                " and would take them once more; with --old these are ended instead, and are yours"
                " to settle"
            )
        orders.give_up_open(connection, OLD_BACKUP, now_utc_ms)
    connection.execute(
        sa.update(order_table).where(order_table.c.state == "sent").values(counter=0)
    )
    for row in rows:
        _ask_again(connection, row.id, now_utc_ms)
    open_orders = sum(orders.open_counts(connection).values())
    return len(rows), open_orders


def _ask_again(connection: Connection, meter: str, now_utc_ms: int) -> None:
    """Queue the order to send again what lies above the newest store's last record here."""
    table = tables.records
    newest = connection.execute(
        sa.select(table.c.store).where(table.c.meter == meter).order_by(table.c.id.desc()).limit(1)
    ).scalar()
    if newest is None:
        return  # no record: the meter's first one shows whether there are others before it
    last = connection.execute(
        sa.select(sa.func.max(table.c.seq)).where(table.c.meter == meter, table.c.store == newest)
    ).scalar_one()
    asked = Asked("resend", {"store": newest, "seq": last})
    orders.enqueue(connection, orders.order_id("o-"), meter, asked, now_utc_ms)
