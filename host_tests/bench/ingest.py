"""Row `ingest`: records a second from MQTT into committed rows.

A backlog flush: many meters deliver at once what they have kept. The messages are made beforehand,
so that the sender costs little; consumer and broker are processes of their own.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from firmware.link import codec
from host_tests.bench.measure import ROOT, Group, Row, alternate, column
from host_tests.bench.services import SLOW_FSYNC_MS, Broker, Gateway, processor_s, slow_fsync, wait
from host_tests.fakes.documents import tariff_document
from toolchain import locate

METERS = 50
POLL_S = 0.05
NAIVE = (sys.executable, "-m", "host_tests.bench.naive_consumer")
TIMEOUT_S = 300

# Records a message: records of the gateway's run, of the naive consumer's, of the latter when each
# of its commits takes 10 ms more. A run shall take a second or some.
SIZES = {32: (80_000, 40_000, 6_400), 1: (20_000, 6_000, 200)}
QUICK_PART = 20


def ingest(quick: bool, folder: Path) -> Group:
    """The gateway beside a consumer that commits each message."""
    group = Group(
        "ingest",
        f"{METERS} meters send block records as fast as the broker takes them; from the first byte "
        "sent until the last row is committed, SQLite in WAL mode with synchronous=FULL for both. "
        "Gateway: `bijli gateway run` with its own mosquitto: typed decoding, checks, duplicates, "
        "group commit, an acknowledgement to each meter, and its page. Baseline: paho-mqtt, json, "
        "INSERT and one commit a message, nothing else, with a mosquitto of the same limits and "
        "fewer records (they take longer). `us` is the consumer's processor time. The slow disk "
        "is LD_PRELOAD under the consumer and what it starts: each fsync takes "
        f"{SLOW_FSYNC_MS} ms more.",
    )
    disks: list[tuple[str, dict[str, str]]] = [("", {})]
    try:
        disks.append((f", +{SLOW_FSYNC_MS} ms per fsync", slow_fsync(folder)))
    except locate.ToolMissing as missing:
        group.missing = f"slow disk: not measured, {missing}"
    for disk, env in disks:
        with Ours(folder / f"gateway{len(env)}", env, 5 if quick else METERS) as ours:
            for per_message, sizes in SIZES.items():
                part = QUICK_PART if quick else 1
                counts = [max(count // part, per_message) for count in sizes]
                results = alternate(
                    1 if quick else 3,
                    lambda p=per_message, n=counts[0], o=ours: o.run(p, n),
                    lambda p=per_message, n=counts[2 if env else 1], e=env: naive(e, p, n),
                )
                name = f"{per_message} a message{disk}"
                for key, unit in (("rate", "records/s"), ("us", "us/record")):
                    values = [column(result, key) for result in results]
                    group.rows.append(Row(name, unit, values[0], "a commit a message", values[1]))
    return group


class Ours:
    """A gateway that takes one run after the other: for each, its meters have a new journal."""

    def __init__(self, folder: Path, env: dict[str, str], meters: int) -> None:
        self._gateway = Gateway(folder, env)
        self._brokers = [
            self._gateway.register(meter, tariff=tariff_document())["broker"]
            for meter in names(meters)
        ]

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *exc: object) -> None:
        self._gateway.__exit__()

    def run(self, per_message: int, records: int) -> dict[str, float]:
        """From the first byte to the last row."""
        gateway = self._gateway
        senders = [
            (connect(broker["port"], broker["user"], broker["password"]), broker["user"])
            for broker in self._brokers
        ]
        total, data = backlogs(senders, records, per_message)
        before = gateway.health()["ingest"]["records"]
        busy_s = processor_s(gateway.process.pid)
        began_s = time.monotonic()
        send(data)
        wait(lambda: gateway.health()["ingest"]["records"] >= before + total, POLL_S)
        took_s = time.monotonic() - began_s
        busy_s = processor_s(gateway.process.pid) - busy_s
        health = gateway.health()
        assert health["gaps"] == 0 and health["ingest"]["records"] == before + total, health
        close(senders)
        return {"rate": total / took_s, "us": busy_s / total * 1e6}


def naive(env: dict[str, str], per_message: int, records: int) -> dict[str, float]:
    """One run of the baseline."""
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        senders = [(connect(broker.port, meter), meter) for meter in names(min(METERS, records))]
        total, data = backlogs(senders, records, per_message)
        consumer = subprocess.Popen(
            [*NAIVE, str(broker.port), str(Path(folder) / "rows.db"), str(total)],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert consumer.stdout is not None
        try:
            assert consumer.stdout.readline() == "ready\n"
            busy_s = processor_s(consumer.pid)
            began_s = time.monotonic()
            send(data)
            assert consumer.stdout.readline() == "done\n"
            took_s = time.monotonic() - began_s
            busy_s = processor_s(consumer.pid) - busy_s
        finally:
            consumer.communicate("\n", TIMEOUT_S)
        close(senders)
    return {"rate": total / took_s, "us": busy_s / total * 1e6}


# --- the meters ----------------------------------------------------------------------------------

Sender = tuple[socket.socket, str]


def names(meters: int) -> list[str]:
    """So many meters."""
    return [f"M-{number:04d}" for number in range(meters)]


def backlogs(
    senders: list[Sender], records: int, per_message: int
) -> tuple[int, list[tuple[socket.socket, bytes]]]:
    """How many records there are, and the bytes of each meter."""
    each = max(per_message, records // len(senders))
    data = [(sock, messages(meter, each, per_message)) for sock, meter in senders]
    return each * len(senders), data


def messages(meter: str, records: int, per_message: int) -> bytes:
    """PUBLISH packets of block records, numbered from 1."""
    made: list[bytes] = []
    store = secrets.token_hex(4)
    for first in range(1, records + 1, per_message):
        last = min(first + per_message, records + 1)
        batch = [block(seq) for seq in range(first, last)]
        payload = codec.encode({"v": 1, "store": store, "records": batch})
        mid = struct.pack(">H", len(made) % 65535 + 1)
        made.append(packet(0x32, text(codec.topic(meter, "up")) + mid + payload))
    return b"".join(made)


def block(seq: int) -> dict[str, Any]:
    """One half hour."""
    return {
        "seq": seq,
        "boot": 1,
        "utc_s": 1_767_600_000 + seq * 1800,
        "time_valid": 1,
        "up_s": seq * 1800,
        "type": "block",
        "start_utc_s": 1_767_600_000,
        "length_s": 1800,
        "energy_wh": 100,
        "voltage_mv": 230000,
        "current_ma": 900,
        "power_max_w": 400,
        "supply_s": 1800,
        "import_wh": seq * 100,
        "balance_mp": 0,
    }


def text(value: str) -> bytes:
    """An MQTT string."""
    return struct.pack(">H", len(value)) + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet with its length."""
    head, length = bytes([kind]), len(body)
    while True:
        digit, length = length % 128, length // 128
        head += bytes([digit | (0x80 if length else 0)])
        if not length:
            return head + body


def connect(port: int, user: str, password: str | None = None) -> socket.socket:
    """A connection of a meter that only writes."""
    sock = socket.create_connection(("127.0.0.1", port))
    flags = bytes([4, 0x02 if password is None else 0xC2])
    body = text("MQTT") + flags + struct.pack(">H", 600) + text(user)
    if password is not None:
        body += text(user) + text(password)
    sock.sendall(packet(0x10, body))
    assert sock.recv(4)[3] == 0
    return sock


def send(data: list[tuple[socket.socket, bytes]]) -> None:
    """All meters at once; what the broker answers is read and dropped."""
    for sock, backlog in data:
        threading.Thread(target=drain, args=(sock,), daemon=True).start()
        threading.Thread(target=sock.sendall, args=(backlog,), daemon=True).start()


def drain(sock: socket.socket) -> None:
    """Read until the end."""
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass


def close(senders: list[Sender]) -> None:
    """End the connections and with them the threads."""
    for sock, _meter in senders:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
