"""Rows `backlog` and `recharge`: the whole chain, an emulated board in real time and a gateway."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from boards.emulated import flashing
from boards.emulated.board import HEAP_KB, EmulatedBoard
from boards.emulated.conductor import Conductor
from firmware.link import codec
from host_tests.bench.measure import Group, Row, alternate, config_file
from host_tests.bench.services import Broker, Gateway, wait
from host_tests.bench.storage import DAYS, history
from host_tests.fakes.documents import tariff_document

POLL_S = 0.05
ANSWER_S = 20
DRAIN_S = 120
QUICK_DAYS = 7  # long enough for some live values meanwhile
LIVE_PERIOD_S = 1
IDLE_S = 5
RECHARGE_MP = 1_000_000
FAILURE = re.compile(r"\w+Error: ")

# The flashed program; its time goes on while it awaits an answer, as that of a chip does.
OUR_MAIN = b"""
import gc

gc.threshold(8192)

import asyncio

import board


async def answer(self, awaitable, timeout_s):
    return await asyncio.wait_for(awaitable, timeout_s)


board.Board.answer = answer

import firmware.main

firmware.main.run()
"""

# But a batch that the broker has taken counts as acknowledged.
HASTY_MAIN = OUR_MAIN.replace(
    b"import firmware.main\n",
    b"""
import firmware.link.uplink


async def taken(self, seq):
    self._journal.acknowledge(seq)
    return True


firmware.link.uplink.Uplink._acknowledged = taken

import firmware.main
""",
)


def backlog(quick: bool, folder: Path) -> Group:
    """One meter's weeks without a link, delivered."""
    files = flashing.files_of(flashing.build())
    programs = {
        "ours": {**files, "main.py": OUR_MAIN},
        "hasty": {**files, "main.py": HASTY_MAIN},
    }
    config = config_file(folder)
    days = QUICK_DAYS if quick else DAYS
    records = 0
    for name, program in programs.items():
        flashing.flash_image(folder / name, program)
        records = history(folder / name, config, days)
    names = itertools.count(1)
    group = Group(
        "backlog",
        f"An emulated board on the 32-bit MicroPython, clock in real time, starts with {records:,} "
        f"records of {days} days on its flash; uplink, mosquitto, gateway. From `link up` "
        "on its console until they are committed at the gateway, in batches of up to 16 in "
        "2,500 bytes, each acknowledged after the commit before the next is sent. The baseline is "
        "the same program that goes on at the broker's PUBACK. Other than on the emulated board by "
        "default, time goes on while a meter awaits an answer. Live values are due each second "
        "after the last; late is how much longer the longest time between two was, for a "
        "subscriber of the broker. The processor is the host's, not an ESP32's.",
    )
    with contextlib.ExitStack() as services:
        broker = services.enter_context(Broker(folder / "broker"))
        external = ("--external-broker", f"127.0.0.1:{broker.port}")
        gateway = services.enter_context(Gateway(folder / "gateway", {}, *external))

        def drain(name: str, heap_kb: int) -> Drained:
            meter = f"{name.upper()}-{next(names)}"
            place = folder / meter
            place.mkdir()
            shutil.copy(folder / name / "flash.bin", place)
            flashing.flash_image(place, programs[name], provision(gateway, meter))
            with LiveValues(broker.port, meter) as live:
                return drained(gateway, live, place, meter, records, heap_kb)

        # The rate is worth knowing on a larger heap, too, and without its baseline.
        for heap_kb in (HEAP_KB, 2 * HEAP_KB):
            figures: dict[str, list[Drained]] = {"ours": [], "hasty": []}
            failed = {}
            for _ in range(1 if quick else 3):
                for name in sorted(figures.keys() - failed.keys(), reverse=True):
                    try:
                        figures[name].append(drain(name, heap_kb))
                    except BoardFailed as error:
                        failed[name] = f"{name}, heap of {heap_kb} kB: {error}"
            group.missing = "; ".join([group.missing, *failed.values()]).strip("; ")
            rates = {name: [d.per_s for d in runs] for name, runs in figures.items()}
            group.rows += [
                Row(f"one meter, heap of {heap_kb} kB", "records/s", rates["ours"],
                    "without awaiting `ack`", rates["hasty"]),
                Row(f"one meter, heap of {heap_kb} kB, live values late", "ms",
                    [d.late_ms for d in figures["ours"]],
                    "when nothing waits", [d.idle_late_ms for d in figures["ours"]]),
            ]  # fmt: skip
            if "ours" not in failed:
                break
    return group


class BoardFailed(Exception):
    """The firmware ended in an exception or does not go on; the text says which."""


@dataclass
class Drained:
    """What a board was measured at: records a second, and how late its live values came at most
    meanwhile and afterwards."""

    per_s: float
    late_ms: float
    idle_late_ms: float


class LiveValues:
    """When a meter's live values reach a subscriber."""

    def __init__(self, port: int, meter: str) -> None:
        self.came_s: list[float] = []
        ready = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda *_arguments: self.came_s.append(time.monotonic())
        self._client.on_subscribe = lambda *_arguments: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(codec.topic(meter, "live"))
        self._client.loop_start()
        ready.wait(ANSWER_S)

    def __enter__(self) -> LiveValues:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def late_ms(self, from_s: float, to_s: float) -> float:
        """How long at most they were awaited between these, beyond their period."""
        times = [from_s, *(s for s in self.came_s if from_s < s < to_s), to_s]
        longest_s = max(after - before for before, after in itertools.pairwise(times))
        return max(0.0, longest_s - LIVE_PERIOD_S) * 1000


def drained(
    gateway: Gateway, live: LiveValues, place: Path, meter: str, records: int, heap_kb: int
) -> Drained:
    """Has a board deliver so many records."""
    before = stored(gateway)
    failures: list[str] = []
    up_s: list[float] = []

    def read(line: str) -> None:
        if FAILURE.match(line):
            failures.append(line)
        elif line.endswith("link up"):
            up_s.append(time.monotonic())

    def reaches(count: int) -> bool:
        if failures:
            raise BoardFailed(failures[0])
        return stored(gateway) >= count

    settings = {"seed": 11}
    with Conductor(1.0, start_ms=int(time.time() * 1000)) as conductor:
        board = EmulatedBoard(
            place, meter, conductor.address, settings=settings, bits=32, heap_kb=heap_kb
        )
        board.console(read)
        with board:
            try:
                wait(lambda: reaches(before + records), POLL_S, DRAIN_S)
            except TimeoutError:
                arrived = f"{stored(gateway) - before:,} of {records:,} records after {DRAIN_S} s"
                raise BoardFailed(f"{arrived}, last line {board.lines()[-1]!r}") from None
            ended_s = time.monotonic()
            time.sleep(IDLE_S)
            idle_s = time.monotonic()
    return Drained(
        records / (ended_s - up_s[0]), live.late_ms(up_s[0], ended_s), live.late_ms(ended_s, idle_s)
    )


def stored(gateway: Gateway) -> int:
    """Records that are committed."""
    return int(gateway.health()["ingest"]["records"])


def provision(gateway: Gateway, meter: str) -> Any:
    """A new meter's configuration, with money."""
    return gateway.register(
        meter,
        tariff=tariff_document(),
        opening_balance_mp=10**9,
        live_period_s=LIVE_PERIOD_S,
    )


def recharge(quick: bool, folder: Path) -> Group:
    """From the API call to the meter's confirmation."""
    meter = "RECHARGE-1"
    with Broker(folder / "broker") as broker:
        external = ("--external-broker", f"127.0.0.1:{broker.port}")
        with (
            Gateway(folder / "gateway", {}, *external) as gateway,
            Conductor(1.0, start_ms=int(time.time() * 1000)) as conductor,
            Echo(broker.port) as echo,
        ):
            place = folder / meter
            files = flashing.files_of(flashing.build())
            flashing.flash_image(place, files, provision(gateway, meter))
            settings = {"seed": 11, "load": "constant:230V,1A"}
            board = EmulatedBoard(place, meter, conductor.address, settings=settings, bits=32)
            with board:
                board.wait_for("link up")
                wait(lambda: stored(gateway) >= 3)
                confirm_ms(gateway, meter)  # the first one warms caches
                confirmed, echoed = alternate(
                    2 if quick else 30, lambda: confirm_ms(gateway, meter), echo.round_trip_ms
                )
    return Group(
        "recharge",
        "POST of a recharge to the gateway's API until GET shows it confirmed (asked again and "
        "again without a pause), the board on the 32-bit MicroPython with its clock in real time: "
        "order on disk, signed, sent, credited on the meter's flash, answered, committed. The "
        "baseline is a paho client's QoS 1 message that another one sends back over the same "
        "mosquitto (one without passwords, with the product's limits).",
        [Row("API call to confirmed", "ms", confirmed, "MQTT there and back", echoed)],
    )


def confirm_ms(gateway: Gateway, meter: str) -> float:
    """One recharge."""
    key = {"Idempotency-Key": f"k-{time.monotonic_ns()}"}
    body = {"amount_mp": RECHARGE_MP}
    began_s = time.monotonic()
    answer = gateway.http.post(f"/api/meters/{meter}/recharges", json=body, headers=key)
    path = f"/api/recharges/{answer.raise_for_status().json()['id']}"
    ended_s = time_when(lambda: gateway.http.get(path).json()["state"] == "confirmed")
    return (ended_s - began_s) * 1000


def time_when(condition: Callable[[], bool]) -> float:
    """When it first was so."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() > began_s + ANSWER_S:
            raise TimeoutError("no confirmation")
    return time.monotonic()


class Echo:
    """Two clients of a broker: one sends back what the other sends."""

    def __init__(self, port: int) -> None:
        self._back = threading.Event()
        self._clients = []
        for topic, take in (("echo/there", self._return), ("echo/back", self._arrived)):
            ready = threading.Event()
            client = paho.Client(paho.CallbackAPIVersion.VERSION2)
            client.on_message = take
            client.on_subscribe = lambda *_arguments, ready=ready: ready.set()
            client.connect("127.0.0.1", port)
            client.subscribe(topic, 1)
            client.loop_start()
            ready.wait(ANSWER_S)
            self._clients.append(client)

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self._clients:
            client.disconnect()
            client.loop_stop()

    def _return(self, client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        client.publish("echo/back", message.payload, 1)

    def _arrived(self, *_arguments: object) -> None:
        self._back.set()

    def round_trip_ms(self) -> float:
        """One message there and back."""
        self._back.clear()
        began_s = time.monotonic()
        self._clients[1].publish("echo/there", bytes(200), 1)
        if not self._back.wait(ANSWER_S):
            raise TimeoutError("no echo")
        return (time.monotonic() - began_s) * 1000
