"""Run by test_mqtt_client.py on MicroPython: echoes over a real broker, and two peers at fault."""

import json
import sys

sys.path.insert(0, sys.argv[1])

import asyncio

from firmware.link.mqtt import Client, LinkDown

PORT = int(sys.argv[2])
ROUNDS = 100


def client(port, up, take, timeout_scale=1, keepalive_s=120):
    async def answer(awaitable, timeout_s):
        return await asyncio.wait_for_ms(awaitable, timeout_s * 1000 // timeout_scale)

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
        answer,
        keepalive_s,
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


async def deaf():
    """The peer answers CONNECT and SUBSCRIBE, then is never heard again."""
    never = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(200)
        writer.write(b"\x20\x02\0\0")
        await writer.drain()
        await reader.read(200)
        writer.write(b"\x90\x04\0\x01\x01\x01")
        await writer.drain()
        await never.wait()

    server = await asyncio.start_server(serve, "127.0.0.1", PORT + 1)
    meter = client(PORT + 1, lambda: None, None, 100, 2)
    try:
        await asyncio.wait_for(meter.run_once(), 10)
    except LinkDown as error:
        return str(error)
    finally:
        server.close()


async def refused():
    try:
        await client(1, None, None).run_once()
    except LinkDown:
        return True


async def main():
    result = {"echoes": await echoes(), "dropped": await deaf(), "refused": await refused()}
    result["handler"] = await handler_fails()
    print(json.dumps(result))


asyncio.run(main())
