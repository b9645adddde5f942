"""The meter's client over TLS, the same on CPython and MicroPython.

On MicroPython it is a program: argv: folder with firmware/, file of the CA, then NAME=HOST:PORT for
each broker. It prints one line of JSON: what came of each by name, and figures of the first:
bytes of heap that the connection takes, and how long at most nobody else ran (us).
"""

import asyncio
import gc
import json
import sys
import time

if sys.implementation.name == "micropython":
    sys.path.insert(0, sys.argv[1])

from firmware.link.mqtt import Client, LinkDown

ON_CHIP = sys.implementation.name == "micropython"
ECHOES = 20


async def attempt(host, port, ca, figures):
    """ "works" if messages come back, else why the connection ended."""
    up, got = asyncio.Event(), []

    async def lookup(name):
        return "127.0.0.1"

    client = Client(
        host, port, "JH-1", "JH-1", "secret", ("up/link", b"offline"), ["up/echo"], up.set,
        lambda topic, payload: got.append(payload), asyncio.wait_for, ca=ca, lookup=lookup,
    )  # fmt: skip
    longest_us = 0

    async def watch():
        nonlocal longest_us
        before_us = time.ticks_us()
        while True:
            await asyncio.sleep_ms(0)
            now_us = time.ticks_us()
            longest_us = max(longest_us, time.ticks_diff(now_us, before_us))
            before_us = now_us

    async def use():
        await up.wait()
        for number in range(ECHOES):
            await client.publish("up/echo", b"%d" % number, number % 2)
        while len(got) < ECHOES:
            await asyncio.sleep(0)
        return "works"

    if ON_CHIP:
        gc.collect()
        before = gc.mem_alloc()
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
    task = asyncio.create_task(client.run_once())
    using = asyncio.create_task(use())
    while not (task.done() or using.done()):
        await asyncio.sleep(0)
    if ON_CHIP:
        watching.cancel()
        gc.collect()
        figures["heap_bytes"] = gc.mem_alloc() - before
        figures["longest_us"] = longest_us
    result = await using if using.done() else ""
    task.cancel()
    using.cancel()
    try:
        await task
    except LinkDown as down:
        result = result or str(down)
    except asyncio.CancelledError:
        pass
    return result


async def visit(brokers, ca):
    """{name: what came of it} for {name: (host, port)}; and the figures of the first."""
    results = {}
    first = None
    for name in brokers:
        figures = {}
        host, port = brokers[name]
        results[name] = await attempt(host, port, ca, figures)
        first = first or figures
    return results, first


def main():
    with open(sys.argv[2]) as file:  # noqa: PTH123  MicroPython has no pathlib
        ca = file.read()
    brokers = {}
    for argument in sys.argv[3:]:
        name, place = argument.split("=")
        host, port = place.split(":")
        brokers[name] = host, int(port)
    results, figures = asyncio.run(visit(brokers, ca))
    print(json.dumps({"results": results, "figures": figures}))


if __name__ == "__main__":
    main()
