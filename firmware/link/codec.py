"""Messages between meter and gateway: topics, signatures, and checks of everything that arrives.

No I/O. Shared by firmware and gateway, so that both read one definition; docs/SPEC.md section 2
is the prose. Everything that comes from outside goes through a `check_` function, which raises
`CodecError` naming the member and its allowed range, and changes nothing.
Tests: host_tests/unit/test_codec.py.
"""

import binascii
import json

from firmware.core.digest import hmac_sha256, same
from firmware.core.records import RANGES, RECORDS, TEXT_MAX, members

VERSION = 1
PREFIX = "bijli/1/"
LEAVES_UP = ("up", "live", "link", "answer", "ask")
LEAVES_DOWN = ("ack", "order", "time")
METER_ID_MAX = 24
MAX_RECORDS = 32
COUNTER_MAX = 0x7FFFFFFF
AMOUNT_MAX_MP = 10000000000
# Bytes of JSON. The heap has room for a tariff, the next, and all that is on the way of one; with
# 1,500 a meter had none left for the record after some changes.
DOCUMENT_MAX = 1200
_LEVELS_MAX = 8  # a tariff has seven
_METER_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_HEX_CHARS = "0123456789abcdef"
_SIGNATURE_CHARS = 64


class CodecError(Exception):
    """A message that is refused: `field` is the member at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__(field + ": " + why)
        self.field = field
        self.why = why


def check_meter_id(meter):
    """Returns `meter` if it is 1 to 24 characters of A-Z a-z 0-9 - _; CodecError otherwise."""
    if (
        not isinstance(meter, str)
        or not 1 <= len(meter) <= METER_ID_MAX
        or not all(c in _METER_CHARS for c in meter)
    ):
        raise CodecError("meter", "1 to 24 characters of A-Z a-z 0-9 - _")
    return meter


def topic(meter, leaf):
    """The topic of one meter's `leaf`."""
    return PREFIX + meter + "/" + leaf


def split_topic(text):
    """(meter, leaf) of a topic of ours; CodecError for any other."""
    parts = text.split("/")
    if len(parts) != 4 or parts[0] + "/" + parts[1] + "/" != PREFIX:
        raise CodecError("topic", "must be " + PREFIX + "METER/LEAF")
    if parts[3] not in LEAVES_UP and parts[3] not in LEAVES_DOWN:
        raise CodecError("topic", "unknown leaf")
    return check_meter_id(parts[2]), parts[3]


def encode(message):
    """The compact JSON bytes of a dict, as they are sent and signed."""
    # MicroPython's dumps takes separators since 1.16, CPython's always.
    return json.dumps(message, separators=(",", ":")).encode()


def decode(payload):
    """The dict in `payload` (bytes of JSON, form version 1); CodecError otherwise."""
    try:
        message = json.loads(payload)
    except (ValueError, RuntimeError, TypeError, OverflowError, MemoryError):
        # RuntimeError: nested deeper than the interpreter's stack. MemoryError: 1,200 brackets are
        # 60 kB of lists, more than a meter has; what was made of them is garbage again.
        raise CodecError("payload", "must be JSON")
    if not isinstance(message, dict):
        raise CodecError("payload", "must be a JSON object")
    if message.get("v") != VERSION:
        raise CodecError("v", "must be 1")
    return message


def _signature(key, meter, payload):
    return binascii.hexlify(hmac_sha256(key, meter.encode(), b"\0", payload))


def sign(key, meter, payload):
    """`payload` with its signature in front: HMAC-SHA256 over meter id, zero byte, payload."""
    return _signature(key, meter, payload) + payload


def open_signed(key, meter, message):
    """The payload of a signed message for `meter`; CodecError("signature") if it is not ours."""
    payload = bytes(message[_SIGNATURE_CHARS:])
    if not same(bytes(message[:_SIGNATURE_CHARS]), _signature(key, meter, payload)):
        raise CodecError("signature", "does not belong to this meter's key")
    return payload


def integer(message, field, low, high):
    """The integer member `field` of a message, inside low..high; CodecError otherwise."""
    value = message.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise CodecError(field, "must be an integer from %d to %d" % (low, high))
    return value


def text(message, field, longest):
    """The text member `field`, 1 to `longest` printable ASCII characters; CodecError otherwise."""
    value = message.get(field)
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= longest
        or not all(" " <= c <= "~" for c in value)
    ):
        raise CodecError(field, "must be 1 to %d printable ASCII characters" % longest)
    return value


def _is_digest(value):
    return isinstance(value, str) and len(value) == 32 and all(c in _HEX_CHARS for c in value)


def check_record(record):
    """Checks one record of an `up` message against the record table; returns it.

    Raises CodecError naming the member and its range. Members that the table does not name are
    left alone: a newer meter may send more.
    """
    if not isinstance(record, dict):
        raise CodecError("records", "must be objects")
    kind = record.get("type")
    if not isinstance(kind, str) or kind not in RECORDS:
        raise CodecError("type", "must be one of " + ", ".join(sorted(RECORDS)))
    integer(record, "seq", 1, 0xFFFFFFFF)
    integer(record, "boot", 1, 0xFFFFFFFF)
    integer(record, "utc_s", 0, 0xFFFFFFFF)
    integer(record, "time_valid", 0, 1)
    integer(record, "up_s", 0, 0xFFFFFFFF)
    if "prev" in record and not _is_digest(record["prev"]):
        raise CodecError("prev", "must be 32 hex digits")
    for field, form in members(kind):
        if isinstance(form, tuple):
            if record.get(field) not in form:
                raise CodecError(field, "must be one of " + ", ".join(form))
        elif form == "text":
            text(record, field, TEXT_MAX)
        elif form == "json":
            if not isinstance(record.get(field), dict):
                raise CodecError(field, "must be an object")
        else:
            low, high = RANGES[form]
            integer(record, field, low, high)
    return record


def check_order(meter, payload):
    """The order in `payload` (bytes, signature already opened) as a dict, all members checked.

    Raises CodecError; the kind's own members (amount, document) are checked by who executes it,
    so that a wrong one can be answered.
    """
    order = decode(payload)
    if order.get("meter") != meter:
        raise CodecError("meter", "is another meter's")
    text(order, "id", TEXT_MAX)
    integer(order, "counter", 1, COUNTER_MAX)
    text(order, "kind", 16)
    return order


def check_document(document):
    """Returns a document of an order if it is short enough and survives the way: meter, flash and
    gateway read it as it was sent. CodecError otherwise."""
    if not _is_plain(document, _LEVELS_MAX):
        raise CodecError(
            "document",
            "must have integers of 64 bits, texts of printable ASCII, true, false or null, in at "
            "most %d levels" % _LEVELS_MAX,
        )
    if len(encode(document)) > DOCUMENT_MAX:
        raise CodecError("document", "must be at most %d bytes of JSON" % DOCUMENT_MAX)
    return document


def _is_plain(value, levels):
    # MicroPython writes 1e999 as `inf`, half a surrogate as bytes that are no UTF-8, and stops at
    # deep nesting; a fraction is rounded to 32 bits on an ESP32.
    if isinstance(value, str):
        return all(" " <= c <= "~" for c in value)
    if isinstance(value, dict):
        return levels > 0 and all(
            isinstance(name, str) and _is_plain(name, 0) and _is_plain(value[name], levels - 1)
            for name in value
        )
    if isinstance(value, list):
        return levels > 0 and all(_is_plain(item, levels - 1) for item in value)
    low, high = RANGES["i64"]
    # On MicroPython true is no integer.
    return value is None or (isinstance(value, (bool, int)) and low <= value <= high)


def check_ack(payload):
    """(store, seq) of an `ack` message; CodecError otherwise."""
    message = decode(payload)
    return text(message, "store", 8), integer(message, "seq", 1, 0xFFFFFFFF)


def check_time(payload, nonce):
    """UTC milliseconds of a `time` answer to the question with `nonce`; CodecError otherwise."""
    message = decode(payload)
    if message.get("nonce") != nonce:
        raise CodecError("nonce", "is not that of the last question")
    # 2024-01-01 to 2100-01-01: a gateway that lost its own clock must not set ours.
    return integer(message, "utc_ms", 1704067200000, 4102444800000)
