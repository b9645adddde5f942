"""A host's IPv4 address over DNS (RFC 1035), or over multicast DNS (RFC 6762) for a name in .local.

The `getaddrinfo` of the ESP32 blocks the whole interpreter while it asks, seconds for each server
that is silent; nothing is sampled and the watchdog is not fed meanwhile. This one waits as a task.

The answer is taken from whoever knows the number of the question: it may be forged by somebody on
the way, as may any DNS. TLS finds out; without TLS nothing does. Tests:
host_tests/unit/test_names.py.
"""

import asyncio
import socket
import struct

from firmware.core.shim import const
from firmware.link.mqtt import NameUnknown

ANSWER_MAX = const(512)
_MULTICAST = ("224.0.0.251", 5353)
_PORT = const(53)
_TRIES_S = (1, 2, 4)
_POINTER = const(0xC0)


def question(host, number):
    """The packet that asks for the addresses of `host`; `number`: 0 to 65,535."""
    packet = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0)
    for label in host.rstrip(".").split("."):
        raw = label.encode()
        if not 1 <= len(raw) <= 63:
            raise NameUnknown("no name")
        packet += bytes((len(raw),)) + raw
    return packet + b"\0\0\x01\0\x01"


def _behind_name(packet, at):
    while packet[at]:
        if packet[at] >= _POINTER:
            return at + 2
        at += 1 + packet[at]
    return at + 1


def address_in(packet, number):
    """The first address in an answer to question `number`, "" if it has none; None: no answer.

    Raises NameUnknown if the name does not exist.
    """
    if len(packet) < 12:
        return None
    found, flags, questions, answers = struct.unpack_from(">HHHH", packet)
    if found != number or not flags & 0x8000:
        return None
    if flags & 0x000F:
        raise NameUnknown("dns: code %d" % (flags & 0x000F))
    try:
        at = 12
        for _ in range(questions):
            at = _behind_name(packet, at) + 4
        for _ in range(answers):
            at = _behind_name(packet, at) + 10
            length = packet[at - 2] << 8 | packet[at - 1]
            if at + length > len(packet):
                return None
            # Type and class; the highest bit of the class is a mark of multicast DNS.
            if packet[at - 10 : at - 8] == b"\0\x01" and packet[at - 7] == 1 and length == 4:
                return "%d.%d.%d.%d" % tuple(packet[at : at + 4])
            at += length
    except IndexError:
        return None  # shorter than it says
    return ""


async def resolve(host, server, answer, number):
    """The address of `host` as text, asked of the DNS server at the address `server`.

    answer(awaitable, timeout_s): the board's; number: 0 to 65,535, not to be guessed. Raises
    NameUnknown after 7 s, OSError without a network. MicroPython only.
    """
    packet = question(host, number)
    where = _MULTICAST if host.endswith(".local") else (server, _PORT)
    where = socket.getaddrinfo(where[0], where[1])[0][-1]  # digits: nobody is asked
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        link.setblocking(False)
        stream = asyncio.StreamReader(link)
        for timeout_s in _TRIES_S:
            link.sendto(packet, where)
            try:
                while True:
                    address = address_in(await answer(stream.read(ANSWER_MAX), timeout_s), number)
                    if address:
                        return address
                    if address == "":
                        raise NameUnknown("dns: no address")
            except asyncio.TimeoutError:
                pass  # lost, perhaps: asked again
    finally:
        link.close()
    raise NameUnknown("dns: no answer")
