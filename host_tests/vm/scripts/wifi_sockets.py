"""Runs on MicroPython: asyncio streams over the emulated Wi-Fi. argv: VM folder, port
of a peer that echoes lines, free port."""

import sys

sys.path.insert(0, sys.argv[1])
PORT, FREE_PORT = int(sys.argv[2]), int(sys.argv[3])

import emu

emu.settings.update({"load": "constant:230V,1A"})

from emu import tasks

sys.modules["_asyncio"] = tasks  # as emu.start does

import asyncio
import errno

import network
from emu import clock, control


def check(what, got, expected):
    if got != expected:
        raise ValueError("%s: %r is not %r" % (what, got, expected))


def wifi(on):
    control.commands["set"]({"wifi": on})


async def fails(awaitable):
    """Number of the OSError that it must raise."""
    try:
        await awaitable
    except OSError as error:
        return error.args[0]
    raise ValueError("no error")


async def ask(stream, text):
    stream.write(text)
    await stream.drain()
    return await stream.readline()


async def main():
    check("no wifi", await fails(asyncio.open_connection("127.0.0.1", PORT)), errno.EHOSTUNREACH)
    check("no names", await fails(asyncio.open_connection("localhost", PORT)), -202)
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    wlan.connect("any", "key")
    while not wlan.isconnected():
        await asyncio.sleep_ms(100)

    stream, _ = await asyncio.open_connection("localhost", PORT)
    check("echo", await ask(stream, b"one\n"), b"one\n")

    # Gone for a short time: nothing goes through, a wait times out, and then all is well again.
    wifi(False)
    before_ms = clock.now_ms()
    try:
        await asyncio.wait_for(ask(stream, b"two\n"), 20)
    except asyncio.TimeoutError:
        pass
    else:
        raise ValueError("answered without wifi")
    check("waited in simulated time", clock.now_ms() - before_ms >= 20_000, True)
    wifi(True)
    await asyncio.sleep_ms(network.JOIN_MS)
    check("after a short loss", await ask(stream, b"three\n"), b"two\n")
    check("the rest", await stream.readline(), b"three\n")

    # Gone for long: the connection did not outlive it.
    wifi(False)
    await asyncio.sleep(3600)
    wifi(True)
    await asyncio.sleep_ms(network.JOIN_MS)
    check("dead", await fails(ask(stream, b"four\n")), errno.ECONNRESET)
    stream.close()
    await stream.wait_closed()

    stream, _ = await asyncio.open_connection("127.0.0.1", PORT)
    check("anew", await ask(stream, b"five\n"), b"five\n")
    wlan.disconnect()
    wlan.connect("any", "key")
    await asyncio.sleep_ms(network.JOIN_MS)
    check("left on its own", await fails(ask(stream, b"six\n")), errno.ECONNRESET)
    stream.close()
    await stream.wait_closed()

    # A server on the board.
    async def serve(reader, writer):
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", FREE_PORT)
    stream, _ = await asyncio.open_connection("127.0.0.1", FREE_PORT)
    check("server", await ask(stream, b"hello\n"), b"you said hello\n")
    check("end", await stream.read(10), b"")
    server.close()
    await server.wait_closed()


asyncio.run(main())
print("OK")
