"""What every verb of the storage raises, and how a write is made to last."""

import os

from firmware.core.shim import const

_ENOSPC = const(28)  # MicroPython's errno module names neither
_ENAMETOOLONG = const(36)

# On MicroPython's littlefs `flush` commits; elsewhere the system's cache must be written too.
_fsync = getattr(os, "fsync", None)


class StorageError(Exception):
    """A flash operation failed and changed nothing: `errno` is the file system's number."""

    def __init__(self, what, number):
        super().__init__("%s failed, errno %d" % (what, number))
        self.errno = number


class JournalFull(StorageError):
    """There is no room, and nothing that may be dropped."""


def is_full(error):
    """True if an OSError says that the flash has no room."""
    # littlefs says the second where a folder has no room for a new name. Ours are short.
    return error.errno in (_ENOSPC, _ENAMETOOLONG)


def fault(what, error):
    """The exception for an OSError of the operation `what`."""
    kind = JournalFull if is_full(error) else StorageError
    return kind(what, error.errno or 0)


def sync(file):
    """Waits until all that was written to an open file is on flash."""
    file.flush()
    if _fsync is not None:
        _fsync(file.fileno())
