"""Records a second from MQTT into committed rows: `python -m host_tests.gateway.bench_ingest`.

A backlog flush: many meters deliver at once what they have kept. The gateway and its broker are
processes of their own, the meters' messages are made beforehand, so that the sender costs little.
Prints one line per shape.
"""

import argparse
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from firmware.link import codec
from host_tests.gateway.conftest import TARIFF

ROOT = Path(__file__).resolve().parents[2]


def mqtt_text(text):
    return struct.pack(">H", len(text)) + text


def packet(kind, body):
    length = len(body)
    head = bytes([kind])
    while True:
        digit, length = length % 128, length // 128
        head += bytes([digit | (0x80 if length else 0)])
        if not length:
            return head + body


def publish(topic, payload, mid):
    return packet(0x32, mqtt_text(topic.encode()) + struct.pack(">H", mid) + payload)


def connect(config):
    sock = socket.create_connection((config["broker"]["host"], config["broker"]["port"]))
    user, password = config["broker"]["user"].encode(), config["broker"]["password"].encode()
    sock.sendall(
        packet(
            0x10,
            mqtt_text(b"MQTT")
            + bytes([4, 0xC2])
            + struct.pack(">H", 600)
            + mqtt_text(user)
            + mqtt_text(user)
            + mqtt_text(password),
        )
    )
    assert sock.recv(4)[3] == 0
    return sock


def messages(meter, records, per_message):
    made = []
    for first in range(1, records + 1, per_message):
        batch = [
            {
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
            for seq in range(first, min(first + per_message, records + 1))
        ]
        payload = codec.encode({"v": 1, "store": "9f3a01bc", "records": batch})
        made.append(publish(codec.topic(meter, "up"), payload, len(made) % 65535 + 1))
    return b"".join(made)


def drain(sock):
    while True:
        try:
            if not sock.recv(65536):
                return
        except OSError:
            return


def run(meters, records, per_message):
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gateway.cli",
                "gateway",
                "run",
                "--data",
                folder,
                "--http-port",
                "0",
                "--broker-port",
                "0",
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        url = next(line.split()[-1] for line in process.stderr if "page and API on" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        http = httpx.Client(base_url=url, trust_env=False, timeout=60)
        backlogs = []
        for number in range(meters):
            body = {"id": f"M-{number:04d}", "consumer": "x", "tariff": TARIFF}
            config = http.post("/api/meters", json=body).json()
            backlogs.append((connect(config), messages(body["id"], records, per_message)))
        total = meters * records
        started = time.monotonic()
        for sock, data in backlogs:
            threading.Thread(target=drain, args=(sock,), daemon=True).start()
            threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
        while http.get("/api/health").json()["ingest"]["records"] < total:
            time.sleep(0.1)
        seconds = time.monotonic() - started
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / 100
        assert http.get("/api/health").json()["gaps"] == 0
        process.terminate()
        process.wait()
        sent = total // per_message
        print(
            f"{meters} meters, {per_message} records a message: {total / seconds:,.0f} records/s, "
            f"{sent / seconds:,.0f} messages/s, {cpu_s / total * 1e6:.0f} us processor a record"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meters", type=int, default=50)
    parser.add_argument("--records", type=int, default=1680, help="35 days of half hours")
    options = parser.parse_args()
    for size in (1, 32):
        run(options.meters, options.records if size > 1 else options.records // 2, size)
