"""What lies in a gateway's data folder beside the database, and the lock on it.

Tests: host_tests/gateway/test_service.py.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from gateway.errors import StartError

SECRET_FILE = "secret/meter-keys.secret"
LOCK_FILE = "lock"


def secret_path(folder: Path, given: Path | None) -> Path:
    """The secret file: `given`, or the one in the folder."""
    return given or folder / SECRET_FILE


def lock(folder: Path) -> IO[str]:
    """Hold the folder for this process. Raises StartError if another gateway has it."""
    file = (folder / LOCK_FILE).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StartError(f"another gateway is running on {folder}") from error
    return file
