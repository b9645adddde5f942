"""Run by test_mqtt_client.py on MicroPython: echoes over a real broker; a handler that fails."""

import json
import sys

sys.path.insert(0, sys.argv[1])

import asyncio

from firmware.link.mqtt import Client, LinkDown

PORT = int(sys.argv[2])
ROUNDS = 100


def client(port, up, take):

    return Client(
        "127.0.0.1",
        port,
        "JH-1",
        "JH-1",
        "secret",
        ("up/link", b"offline"),
        ["down/a", "down/b"],
        up,
        take,
        asyncio.wait_for,
    )


async def echoes():
    up, arrived, got = asyncio.Event(), asyncio.Event(), []

    def take(topic, payload):
        got.append(payload)
        arrived.set()

    meter = client(PORT, up.set, take)
    task = asyncio.create_task(meter.run_once())
    await asyncio.wait_for(up.wait(), 10)
    for number in range(ROUNDS):
        arrived.clear()
        payload = b"%d " % number + bytes(number * 30)
        await meter.publish("up/echo", payload, number % 2)
        await asyncio.wait_for(arrived.wait(), 10)
        if got.pop() != payload:
            raise ValueError("other bytes came back")
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return ROUNDS


async def handler_fails():
    up = asyncio.Event()

    def take(topic, payload):
        raise ValueError("handler")

    meter = client(PORT, up.set, take)
    task = asyncio.create_task(meter.run_once())
    await asyncio.wait_for(up.wait(), 10)
    await meter.publish("up/echo", b"x", 0)
    try:
        await asyncio.wait_for(task, 10)
    except ValueError:
        return "ValueError"


async def refused():
    try:
        await client(1, None, None).run_once()
    except LinkDown:
        return True


async def main():
    result = {"echoes": await echoes(), "refused": await refused()}
    result["handler"] = await handler_fails()
    print(json.dumps(result))


asyncio.run(main())
