"""The gateway as a process of the chaos run: the product, and three things that a test must be able
to do to its computer.

- $CHAOS_CLOCK names a file with a number of ms by which the computer's clock is wrong.
- $CHAOS_DISK names a folder that gets a copy of each database file whenever SQLite has synced it:
  what a power cut would leave, whatever the page cache held. The kernel forgets nothing when a
  process is killed, so without this nobody would notice a missing sync.
- $CHAOS_SYNC names a file with a number of real ms that each of these syncs takes more. Simulated
  time stands still meanwhile: who is slow is busy.

Run as `python -m host_tests.chaos.gateway_process gateway run ...`. $CHAOS_MUTANT names a module
that is imported first (host_tests/chaos/mutants.py).
"""

import ctypes
import ctypes.util
import faulthandler
import importlib
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

from boards.emulated import sim_clock
from gateway import cli

DATABASE_FILES = ("gateway.sqlite", "gateway.sqlite-wal")


def _number(path):
    """A function that reads the number in a file."""
    file = os.open(path, os.O_RDONLY)
    return lambda: int(os.pread(file, 32, 0) or b"0")


def shift_clock(path):
    """Let the gateway's clock be wrong by what the file says."""
    offset_ms = _number(path)
    plain_wait = sim_clock.Worker.wait
    plain_utc_ms = sim_clock.ConductedClock.utc_ms

    def wait(self, until_ms, hold=False):
        # The span is fixed when the wait begins, as with the system's monotonic clock.
        return plain_wait(self, None if until_ms is None else until_ms - offset_ms(), hold)

    sim_clock.Worker.wait = wait
    sim_clock.ConductedClock.utc_ms = lambda self: plain_utc_ms(self) + offset_ms()


# sqlite3_vfs and sqlite3_io_methods, https://www.sqlite.org/c3ref/vfs.html and io_methods.html.
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,  # not c_char_p: SQLite keeps the pointer, so it must be the very one
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_int,
    ctypes.c_void_p,
)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", _OPEN),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("xClose", ctypes.c_void_p),
        ("xRead", ctypes.c_void_p),
        ("xWrite", ctypes.c_void_p),
        ("xTruncate", ctypes.c_void_p),
        ("xSync", _SYNC),
        ("rest", ctypes.c_void_p * 13),
    ]


_kept = []  # what C holds pointers to


def keep_what_is_synced(folder, late_ms):
    """Copy each database file into `folder` when SQLite has synced it, `late_ms()` later."""
    name = ctypes.util.find_library("sqlite3")
    library = ctypes.CDLL(name)
    library.sqlite3_libversion.restype = ctypes.c_char_p
    if library.sqlite3_libversion().decode() != sqlite3.sqlite_version:
        raise SystemExit(f"{name} is not the library that this Python uses")
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    plain_open = _OPEN(ctypes.cast(vfs.xOpen, ctypes.c_void_p).value)
    tables = {}

    def table_for(methods_at):
        if methods_at not in tables:
            table = _Methods.from_buffer_copy(ctypes.string_at(methods_at, ctypes.sizeof(_Methods)))
            plain_sync = _SYNC(ctypes.cast(table.xSync, ctypes.c_void_p).value)

            def sync(file, flags):
                result = plain_sync(file, flags)
                path = opened.get(ctypes.addressof(file.contents))
                if path is not None and result == 0:
                    time.sleep(late_ms() / 1000)
                    copy = folder / path.name
                    shutil.copyfile(path, copy.with_suffix(".new"))
                    copy.with_suffix(".new").replace(copy)
                return result

            table.xSync = _SYNC(sync)
            tables[methods_at] = table
            _kept.extend((plain_sync, table.xSync))
        return ctypes.addressof(tables[methods_at])

    opened = {}

    def open_(vfs_at, path, file, flags, out):
        result = plain_open(vfs_at, path, file, flags, out)
        address = ctypes.addressof(file.contents)
        opened.pop(address, None)
        if result == 0 and path and file[0]:
            where = Path(os.fsdecode(ctypes.string_at(path)))
            if where.name in DATABASE_FILES:
                opened[address] = where
            file[0] = table_for(file[0])
        return result

    vfs.xOpen = _OPEN(open_)
    _kept.extend((plain_open, vfs.xOpen))


def main():
    faulthandler.register(signal.SIGUSR1)  # where does it hang?
    if path := os.environ.get("CHAOS_CLOCK"):
        shift_clock(path)
    if path := os.environ.get("CHAOS_DISK"):
        keep_what_is_synced(Path(path), _number(os.environ["CHAOS_SYNC"]))
    if name := os.environ.get("CHAOS_MUTANT"):
        importlib.import_module(name)
    cli.app()


if __name__ == "__main__":
    main()
