"""The last unhandled exception, kept over the restart that follows it: a blob in the chip's NVS.

Not on the flash's file system, which may be what failed. docs/SPEC.md section 5.6 gives the bytes.
Tests: host_tests/unit/test_storage_faults.py.
"""

import struct

from firmware.core.records import TEXT_MAX

_KEY = "exception"
_TIMES = "<II"


def keep(nvs, kind, place, up_s, utc_s):
    """Keeps a fault: name of the exception's type, `file:line`, uptime and UTC (0 unknown) in s.

    A failure of NVS itself is told by OSError.
    """
    blob = struct.pack(_TIMES, up_s, utc_s) + kind[:TEXT_MAX].encode() + b"\0"
    nvs.set_blob(_KEY, blob + place[-TEXT_MAX:].encode())
    nvs.commit()


def kept(nvs):
    """(kind, place, up s, UTC s) of the fault that is kept; None if there is none."""
    blob = bytearray(struct.calcsize(_TIMES) + 1 + 2 * TEXT_MAX)
    try:
        length = nvs.get_blob(_KEY, blob)
        times = struct.unpack_from(_TIMES, blob)
        kind, place = str(blob[struct.calcsize(_TIMES) : length], "ascii").split("\0")
    except (OSError, ValueError):  # nothing is kept, or nothing that can be read
        return None
    return (kind, place) + times if kind and place else None


def forget(nvs):
    """Drops the fault: its record is on flash."""
    try:
        nvs.erase_key(_KEY)
        nvs.commit()
    except OSError:  # it is not there
        pass
