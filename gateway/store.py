"""The database file: opening, upgrading, and the rule that it is never silently recreated.

SQLite with a write-ahead log, synchronous=FULL and foreign keys. Beside it lies a marker file with
the database's random id: a database that is missing, empty or another one where the marker says
that there was one is an error. Writing is `gateway.writer`'s alone; this module gives out reading
connections. Tests: host_tests/gateway/test_service.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.engine import Connection, Engine

from gateway import tables
from gateway.errors import StoreError
from gateway.vault import write_private

DATABASE = "gateway.sqlite"
MARKER = "gateway.sqlite.marker"
BUSY_TIMEOUT_MS = 5000


class Store:
    """An opened database: `reader` for queries, `writer` for the one writer thread."""

    def __init__(self, reader: Engine, writer: Engine, path: Path, is_new: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.path = path
        self.is_new = is_new

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database and cannot write."""
        with self.reader.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file."""
        self.reader.dispose()
        self.writer.dispose()


def open_store(folder: Path) -> Store:
    """Open the database in `folder`, creating or upgrading it where that is right.

    Raises StoreError if there should be one and there is none, or it is not one of ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / DATABASE
    marker = folder / MARKER
    expected = _read_marker(marker)
    has_content = path.exists() and path.stat().st_size > 0
    if expected is not None and not has_content:
        state = "is empty" if path.exists() else "is missing"
        raise StoreError(
            f"the database {path} {state}, but {marker.name} says that there was one. Restore it "
            "(bijli restore). Only to start anew with nothing, remove the marker file"
        )
    writer = _engine(path, writes=True)
    try:
        names = _table_names(writer, path)
        if expected is not None or names:
            if "meta" not in names or "alembic_version" not in names:
                raise StoreError(f"{path} holds no database of the gateway")
            found = _database_id(writer)
            if expected is not None and found != expected:
                raise StoreError(
                    f"{path} is another database ({found}) than {marker.name} says ({expected})"
                )
        _upgrade(writer)
        write_private(marker, json.dumps({"database_id": _database_id(writer)}).encode())
    except BaseException:
        writer.dispose()
        raise
    return Store(_engine(path, writes=False), writer, path, is_new=not names)


def _read_marker(marker: Path) -> str | None:
    if not marker.exists():
        return None
    try:
        return str(json.loads(marker.read_text("utf-8"))["database_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{marker} cannot be read: {error}") from error


def _table_names(engine: Engine, path: Path) -> set[str]:
    try:
        return set(sa.inspect(engine).get_table_names())
    except sa.exc.DatabaseError as error:
        raise StoreError(f"{path} is not a readable SQLite database: {error.orig}") from error


def _database_id(engine: Engine) -> str:
    with engine.connect() as connection:
        query = sa.select(tables.meta.c.value).where(tables.meta.c.name == "database_id")
        return str(connection.execute(query).scalar_one())


def _upgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(resources.files("gateway") / "migrations"))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                f"the database cannot be upgraded, it may belong to a newer gateway: {error}"
            ) from error
        connection.commit()


def _engine(path: Path, writes: bool) -> Engine:
    # What is written may be a sealed secret or somebody's phone number: not for the log.
    engine = sa.create_engine(
        f"sqlite:///{path}", pool_size=1 if writes else 8, hide_parameters=True
    )

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # The driver's own transactions begin too late (not before DDL): we begin them ourselves.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if not writes:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
