"""TLS with a pinned CA: real mosquitto, the meter's client on both interpreters, and the board.

Certificates are judged by the host's real clock: mbedtls on this port knows no other.
"""

import asyncio
import contextlib
import getpass
import json
import subprocess
import time

import pytest

from boards.emulated import flashing
from boards.emulated.board import EmulatedBoard
from boards.emulated.conductor import Conductor
from host_tests.fakes import tls_client
from host_tests.fakes.certificates import Authority
from host_tests.fakes.documents import meter_config
from host_tests.fakes.interpreters import micropython, need
from host_tests.system.test_mqtt_client import ROOT, WAIT_S, free_port
from toolchain import locate

START_MS = 1_767_600_000_000
HEAP_FREE_MIN_BYTES = 21_000  # measured: 22.6 kB with the link up
HEAP_PIECE_MIN_BYTES = 12_000

# What is said of each broker, in mbedtls's words and in OpenSSL's.
ENDS = {
    "right": ("works", "works"),
    "by address": ("works", "works"),
    "rsa": ("correctly signed", "tls: "),
    "wrong name": ("does not match", "tls: "),
    "other ca": ("correctly signed", "tls: "),
    "expired": ("expired", "tls: "),
    "future": ("in the future", "tls: "),
    "plain": ("tls: ", "tls: "),
}


class Brokers:
    """One mosquitto with a listener for each certificate; `places` by name: (host, port)."""

    def __init__(self, folder):
        self.ca = Authority()
        self.ca_file = folder / "ca.crt"
        self.ca_file.write_text(self.ca.pem)
        right = self.ca.certify(folder, "right")
        files = {
            "right": right,
            "wrong name": right,
            "expired": self.ca.certify(folder, "expired", (-9, -2)),
            "future": self.ca.certify(folder, "future", (2, 9)),
            "other ca": Authority().certify(folder, "other"),
            "rsa": Authority("rsa").certify(folder, "rsa"),
            "plain": None,
        }
        self.places = {}
        # Started by root it would become somebody who must not read here.
        text = f"allow_anonymous true\npersistence false\nuser {getpass.getuser()}\n"
        for name, pair in files.items():
            port = free_port()
            self.places[name] = ("other.test" if name == "wrong name" else "broker.test", port)
            text += f"listener {port} 127.0.0.1\n"
            if pair:
                text += f"certfile {pair[0]}\nkeyfile {pair[1]}\n"
        self.places["by address"] = ("127.0.0.1", self.places["right"][1])
        conf = folder / "mosquitto.conf"
        conf.write_text(text)
        self.log = (folder / "mosquitto.log").open("w")
        self.process = subprocess.Popen(
            [*need(locate.mosquitto), "-c", conf], stdout=self.log, stderr=self.log
        )
        deadline_s = time.monotonic() + WAIT_S
        while " running" not in (folder / "mosquitto.log").read_text():
            assert time.monotonic() < deadline_s, "mosquitto does not start"
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_S)
        self.log.close()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory):
    brokers = Brokers(tmp_path_factory.mktemp("brokers"))
    yield brokers
    brokers.stop()


def judge(results, words):
    for name in results:
        ends = ENDS[name]
        assert ends[words] in results[name], (name, results[name])
        if ends[words] != "works":
            assert results[name].startswith("tls: "), (name, results[name])


def test_only_the_broker_with_the_right_certificate_is_taken(brokers):
    # CPython's streams wait a minute for the handshake of a peer that closes.
    places = {name: place for name, place in brokers.places.items() if name != "plain"}
    results, _ = asyncio.run(tls_client.visit(places, brokers.ca.pem))
    judge(results, 1)


@pytest.mark.parametrize("bits", [64, 32])
def test_only_the_broker_with_the_right_certificate_is_taken_on_micropython(brokers, bits):
    places = [f"{name}={host}:{port}" for name, (host, port) in brokers.places.items()]
    run = subprocess.run(
        [
            *micropython(bits),
            "-X",
            f"heapsize={110 * bits // 32}k",
            tls_client.__file__,
            ROOT,
            brokers.ca_file,
            *places,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["results"].keys() == ENDS.keys()
    judge(result["results"], 0)
    assert result["figures"]["heap_bytes"] < 16_000 * bits // 32


@pytest.mark.parametrize(("broker", "ends"), [("right", ""), ("other ca", "correctly signed")])
def test_the_flashed_meter_speaks_tls_to_a_name(brokers, tmp_path, broker, ends):
    """The whole firmware on the board: it finds the name, then verifies who answers to it."""
    micropython(32)
    host, port = brokers.places[broker]
    config = meter_config()
    config["broker"].update(host=host, port=port, ca=brokers.ca.pem)
    flashing.flash_image(tmp_path, flashing.files_of(flashing.build()), config)
    settings = {"names": {host: "127.0.0.1"}, "load": "constant:230V,1A", "rtc_set": True}
    with contextlib.ExitStack() as stack:
        conductor = stack.enter_context(Conductor(60, start_ms=START_MS))
        board = EmulatedBoard(tmp_path, "JH-0001", conductor.address, settings=settings, bits=32)
        stack.enter_context(board)
        line, _ = board.wait_for("link (up|down)", 60)
        assert ("link down: tls: " in line and ends in line) if ends else "link up" in line, line
        board.wait_for("status ", 60)  # it goes on measuring
        heap = board.command("heap")
        assert heap["free"] >= HEAP_FREE_MIN_BYTES, heap
        assert heap["longest"] >= HEAP_PIECE_MIN_BYTES, heap
        assert not [line for line in board.lines() if "event 1012" in line or "rror" in line]
