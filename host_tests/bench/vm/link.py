"""How long at most a task that wants to run each 10 ms is kept waiting by the link.

argv: the ROM partition's image, seconds, "" or a file with the CA, port (0: no link). Prints us.
"""

import asyncio
import json
import sys
import time

import parts

parts.import_from_rom(sys.argv[1])

from firmware.link.mqtt import Client, LinkDown  # noqa: E402

SECONDS, PORT = int(sys.argv[2]), int(sys.argv[4])
PERIOD_MS = 10


async def sample(latest_us):
    due_us = time.ticks_us()
    while True:
        late_us = time.ticks_diff(time.ticks_us(), due_us)
        latest_us[0] = max(latest_us[0], late_us)
        due_us = time.ticks_add(time.ticks_us(), PERIOD_MS * 1000)
        await asyncio.sleep_ms(PERIOD_MS)


async def use(ca):
    def up():
        publishing.append(asyncio.create_task(publish()))

    async def publish():
        for number in range(100):
            await client.publish("up/a", b"%d" % number * 50, number % 2)

    publishing = []
    client = Client(
        "127.0.0.1", PORT, "JH-1", "JH-1", "secret", ("up/link", b"offline"),
        ["down/a", "down/b"], up, lambda topic, payload: None, asyncio.wait_for, ca=ca,
    )  # fmt: skip
    while True:
        try:
            await client.run_once()
        except LinkDown:
            await asyncio.sleep_ms(50)


async def main():
    ca = ""
    if sys.argv[3]:
        with open(sys.argv[3]) as file:  # noqa: PTH123  MicroPython has no pathlib
            ca = file.read()
    latest_us = [0]
    tasks = [asyncio.create_task(sample(latest_us))]
    if PORT:
        tasks.append(asyncio.create_task(use(ca)))
    await asyncio.sleep(SECONDS)
    for task in tasks:
        task.cancel()
    print(json.dumps(latest_us[0]))


asyncio.run(main())
