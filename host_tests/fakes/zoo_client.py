"""The client's part with a peer of the zoo: one scenario, on CPython and on MicroPython.

On MicroPython it is a program: argv: folder with firmware/, then NAME=PORT for each peer. It
prints one line of JSON: the results by name, and the heap in use behind each of two rounds.
"""

import asyncio
import gc
import json
import sys

if sys.implementation.name == "micropython":
    sys.path.insert(0, sys.argv[1])

from firmware.link.mqtt import Client, LinkDown

MESSAGES = 12
LIMIT_S = 25
FASTER = 16  # a second of the client's patience is 62 ms
KEEPALIVE_S = 2


async def answer(awaitable, timeout_s):
    """The board's `answer`, hasty."""
    if hasattr(asyncio, "wait_for_ms"):
        return await asyncio.wait_for_ms(awaitable, timeout_s * 1000 // FASTER)
    return await asyncio.wait_for(awaitable, timeout_s / FASTER)


async def meet(port):
    """[what came of it, messages echoed, strays, oversized]; "works" if all came back."""
    up = asyncio.Event()
    echoed = []

    def take(topic, payload):
        if topic == "down/a":
            echoed.append(payload)

    client = Client(
        "127.0.0.1", port, "JH-1", "JH-1", "secret", ("up/link", b"offline"),
        ["down/a", "down/b"], up.set, take, answer, KEEPALIVE_S,
    )  # fmt: skip
    client._packet_id = 0xFFFA  # so that the packet ids wrap

    async def work():
        await up.wait()
        for number in range(MESSAGES):
            await client.publish("up/a", b"%d " % number + bytes(number * 8), number % 2)
        while len(echoed) < MESSAGES:
            await asyncio.sleep(0)
        await asyncio.sleep(KEEPALIVE_S)  # a ping, or more

    async def serve():
        try:
            await client.run_once()
        except LinkDown as down:
            return str(down)

    async def use():
        try:
            await work()
        except LinkDown:
            return ""  # `serve` knows the reason
        return "works"

    tasks = [asyncio.create_task(serve()), asyncio.create_task(use())]
    result = "hangs"
    for _ in range(LIMIT_S * 50):
        if tasks[1].done() and client.connected and await tasks[1]:
            result = "works"
            break
        if tasks[0].done():
            result = await tasks[0]
            break
        await pause()
    for task in tasks:
        task.cancel()
        try:  # noqa: SIM105  MicroPython has no contextlib
            await task
        except (asyncio.CancelledError, LinkDown):
            pass
    if client.connected:
        result = "still connected"
    in_order = echoed == sorted(echoed, key=lambda payload: int(payload.split()[0]))
    return [result, len(echoed) if in_order else -1, client.stray_packets, client.oversized]


async def pause():
    """20 ms."""
    if hasattr(asyncio, "sleep_ms"):
        await asyncio.sleep_ms(20)
    else:
        await asyncio.sleep(0.02)


async def visit(ports):
    """Meets all peers at once: {name: result}."""
    names = sorted(ports)
    results = await asyncio.gather(*[meet(ports[name]) for name in names])
    return {names[i]: results[i] for i in range(len(names))}


def main():
    ports = {}
    for argument in sys.argv[2:]:
        name, port = argument.split("=")
        ports[name] = int(port)
    heap = []
    for _ in range(2):
        results = asyncio.run(visit(ports))
        gc.collect()
        heap.append(gc.mem_alloc())
    print(json.dumps({"results": results, "heap": heap}))


if __name__ == "__main__":
    main()
