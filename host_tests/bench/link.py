"""Rows `link`: how long the link keeps the sampling waiting, with peers of the zoo and over TLS."""

from __future__ import annotations

import getpass
import subprocess
import time
from pathlib import Path

from gateway.broker import free_port
from host_tests.bench.measure import Group, Row, alternate, rom_image, run_script
from host_tests.fakes.certificates import Authority
from host_tests.fakes.zoo import Zoo
from toolchain import locate

PEERS = (
    "perfect",
    "nobody",
    "deaf",
    "slow",
    "one byte at a time",
    "talks all the time",
    "much too long messages",
)


def link(quick: bool, folder: Path) -> Group:
    """The longest time for which no other task ran."""
    locate.micropython(32)
    rom = rom_image(folder)
    seconds = 1 if quick else 2
    group = Group(
        "link",
        f"The meter's MQTT client on the 32-bit MicroPython in real time, {seconds} s with each "
        "peer, reconnecting at once. The figure is the longest delay of a task that wants to run "
        "every 10 ms; the baseline is the same task alone. The processor is the host's, not an "
        "ESP32's. In `TLS` each connection verifies a P-256 certificate under its CA.",
    )

    def latest_ms(port: int, ca: Path | str = "") -> float:
        return run_script("link.py", rom, seconds, ca, port) / 1000

    def add(name: str, port: int, ca: Path | str = "") -> None:
        figure, alone = alternate(
            1 if quick else 3, lambda: latest_ms(port, ca), lambda: latest_ms(0)
        )
        group.rows.append(Row(name, "ms", figure, "no link", alone))

    with Zoo() as zoo:
        for name in PEERS:
            add(name, zoo.ports[name])
    authority = Authority()
    (folder / "ca.crt").write_text(authority.pem)
    certificate, key = authority.certify(folder, "broker")
    port = free_port("127.0.0.1")
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
        f"certfile {certificate}\nkeyfile {key}\n"
    )
    broker = subprocess.Popen(
        [*locate.mosquitto(), "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.5)
        add("TLS", port, folder / "ca.crt")
    finally:
        broker.terminate()
        broker.wait()
    return group
