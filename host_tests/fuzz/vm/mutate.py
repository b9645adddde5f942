"""Inputs from valid ones: bytes flipped, cut, repeated, spliced, values replaced by nasty ones.

The same on MicroPython and CPython, but for the numbers that `random` gives.
"""

import random

LONGEST = 4096

NASTY = (
    b"", b"0", b"-1", b"1", b"31", b"1073741824", b"2147483647", b"2147483648", b"4294967296",
    b"9223372036854775808", b"-9223372036854775809", b"9" * 60, b"-" + b"1" * 400,
    b"0.1", b"1e999", b"-1e-999", b"NaN", b"true", b"null", b"{}", b"[]", b'""', b'"\\ud800"',
    b'"\\u0000"', b'"\\udfff\\ud800"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"' + b"x" * 300 + b'"',
    b"[" * 300 + b"]" * 300, b"[" * 1500 + b"]" * 1500, b"{1:2}",
    b"[" * 40, b"[" * 1200, b'{"a":' * 40, b'{"a":' * 500, b'{"v":1,"v":2}', b"\0", b"\xff" * 8,
    b"\\", b"//", b"+", b"#", b"$SYS/", b"\xb7", b"\xb7\x01", b"BJ",
)  # fmt: skip


def below(n):
    """A number in 0 .. n-1."""
    return random.getrandbits(24) % n


def pick(items):
    """One of the items."""
    return items[below(len(items))]


def mutate(seeds):
    """An input of at most LONGEST bytes; now and then only noise."""
    if below(50) == 0:
        return noise()
    data = bytes(pick(seeds))
    for _ in range(pick((1, 1, 1, 2, 4))):
        data = pick(CHANGES)(data, seeds)
    return data[:LONGEST]


def noise():
    """Random bytes."""
    return bytes([below(256) for _ in range(below(64))])


def _cut_in_two(data):
    at = below(len(data) + 1)
    return data[:at], data[at:]


def _span(data):
    start = below(len(data) + 1)
    return start, min(len(data), start + (below(8) if below(2) else below(200)))


def _flip(data, _seeds):
    if not data:
        return data
    changed = bytearray(data)
    changed[below(len(changed))] ^= 1 << below(8)
    return bytes(changed)


def _set(data, _seeds):
    before, after = _cut_in_two(data)
    return before + bytes((pick((0, 1, 0x7F, 0x80, 0xFF, below(256))),)) + after[1:]


def _delete(data, _seeds):
    start, end = _span(data)
    return data[:start] + data[end:]


def _repeat(data, _seeds):
    start, end = _span(data)
    return data[:end] + data[start:end] * (1 + below(3)) + data[end:]


def _truncate(data, _seeds):
    return data[: below(len(data) + 1)]


def _insert(data, _seeds):
    before, after = _cut_in_two(data)
    return before + pick(NASTY) + after


def _splice(data, seeds):
    return _cut_in_two(data)[0] + _cut_in_two(bytes(pick(seeds)))[1]


def _value(data, _seeds):
    """Another value for a member of a JSON object."""
    at = data.find(b":", below(len(data) + 1))
    if at < 0:
        return data
    end = at + 1
    while end < len(data) and data[end] not in b",}]":
        end += 1
    return data[: at + 1] + pick(NASTY) + data[end:]


def _member(data, _seeds):
    """One member more of a JSON object, unknown or there already."""
    at = data.find(b"{", below(len(data) + 1)) + 1
    name = pick((b"x", b"v", b"id", b"kind", b"document", b"counter", b"import_wh", b"balance_mp"))
    return data[:at] + b'"' + name + b'":' + pick(NASTY) + b"," + data[at:]


CHANGES = (
    _flip, _set, _delete, _repeat, _truncate, _insert, _splice, _value, _value, _value, _member,
    _member,
)  # fmt: skip
