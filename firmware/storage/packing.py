"""A record's members as bytes and back, driven by the record table `firmware.core.records`.

No I/O. Integers are little-endian in their table's size; an enumerated text is one byte, its index;
a text has one byte of length before it, a JSON object two. docs/SPEC.md section 5 is the prose.
Tests: host_tests/unit/test_journal.py.
"""

import json
import struct

from firmware.core.records import ORDERED, RANGES, RECORDS, TEXT_MAX, code_of, members
from firmware.core.shim import part

_CODES = {"u8": "<B", "u16": "<H", "u32": "<I", "i32": "<i", "i64": "<q"}

ORDER_CODES = tuple(code_of(name) for name in ORDERED)
"""Types whose `id` is that of an order."""

RESYNC_CODE = code_of("resync")


class RecordError(Exception):
    """A record that the format cannot hold: `field` is the one at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__(field + ": " + why)
        self.field = field
        self.why = why


def pack(name, fields, link=b""):
    """(type code, payload behind `link`) of a record with exactly the members of the table."""
    if name not in RECORDS:
        raise RecordError("type", "is not in the record table")
    table = list(members(name))
    if len(fields) != len(table):
        raise RecordError(name, "takes %d members" % len(table))
    parts = [link]
    for field, form in table:
        if field not in fields:
            raise RecordError(field, "is missing")
        _pack_member(parts, field, form, fields[field])
    return code_of(name), b"".join(parts)


def _pack_member(parts, field, form, value):
    if isinstance(form, tuple):
        if value not in form:
            raise RecordError(field, "is not one of " + ", ".join(form))
        parts.append(struct.pack("<B", form.index(value)))
    elif form == "text":
        raw = value.encode()
        if len(raw) != len(value) or not 1 <= len(raw) <= TEXT_MAX:
            raise RecordError(field, "must be 1 to %d characters of ASCII" % TEXT_MAX)
        parts.append(struct.pack("<B", len(raw)))
        parts.append(raw)
    elif form == "json":
        # A long one may bring its bytes: the heap need not have room for another copy.
        raw = getattr(value, "json", None) or json.dumps(value, separators=(",", ":")).encode()
        parts.append(struct.pack("<H", len(raw)))
        parts.append(raw)
    else:
        # MicroPython's struct cuts a large value to size without a word, so it is judged here.
        low, high = RANGES[form]
        if not low <= value <= high:
            raise RecordError(field, "must be from %d to %d" % (low, high))
        parts.append(struct.pack(_CODES[form], value))


def unpack(number, payload, record):
    """Puts `type` and the members into the dict `record`; False if this firmware cannot read it.

    number: the code of the type.
    """
    if not 1 <= number <= len(RECORDS):
        return False
    name = RECORDS[number - 1]
    record["type"] = name
    offset = 0
    try:
        for field, form in members(name):
            offset = _unpack_member(payload, offset, field, form, record)
    except (ValueError, IndexError):
        return False
    return offset == len(payload)


def _unpack_member(payload, offset, field, form, record):
    if isinstance(form, tuple):
        record[field] = form[payload[offset]]
        return offset + 1
    if form in _CODES:
        size = struct.calcsize(_CODES[form])
        if offset + size > len(payload):
            raise ValueError("payload too short")
        record[field] = struct.unpack_from(_CODES[form], payload, offset)[0]
        return offset + size
    start = offset + (1 if form == "text" else 2)
    end = start + payload[offset] + (0 if form == "text" else payload[offset + 1] << 8)
    raw = part(payload, start, end)
    # A long document is not there as text as well.
    record[field] = str(raw, "utf-8") if form == "text" else json.loads(raw)
    return end
