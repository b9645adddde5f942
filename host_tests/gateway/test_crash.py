"""SIGKILL of the gateway at the worst moments: nothing lost, nothing twice, no child left."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from host_tests.fakes.headend import FaultyHeadend
from host_tests.fakes.meter import FakeMeter
from host_tests.gateway.conftest import TARIFF, mosquitto_or_skip

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30

# The gateway, which kills itself between the commit and everything that follows it, the Nth time
# that a group with records was committed.
DIES_AFTER_COMMIT = """
import os, signal, sys
from gateway import cli, writer
original = writer.Writer._transaction
left = [int(sys.argv[1])]
def transaction(self, group):
    effects = original(self, group)
    if any(getattr(item, "topic", "").endswith("/up") for item in group):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return effects
writer.Writer._transaction = transaction
cli.app(["gateway", "run", *sys.argv[2:]])
"""


class Process:
    """A gateway as a process of its own."""

    def __init__(self, folder, *options, deaths=0, environment=None):
        """`deaths`: kill itself after so many commits; 0 never."""
        command = [sys.executable, "-m", "gateway.cli", "gateway", "run"]
        if deaths:
            command = [sys.executable, "-c", DIES_AFTER_COMMIT, str(deaths)]
        ports = ("--http-port", "0", "--broker-port", "0")
        self.process = subprocess.Popen(
            [*command, "--data", str(folder), *ports, *options],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.folder = folder
        self.log = []
        self.up = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line)
                if "page and API on" in line:
                    self.up.set()
        self.up.set()

    def wait_up(self):
        assert self.up.wait(WAIT_S), "".join(self.log)
        url = [line.split()[-1] for line in self.log if "page and API on" in line]
        assert url, "".join(self.log)
        self.http = httpx.Client(base_url=url[0], timeout=WAIT_S, trust_env=False)
        self.run = json.loads((self.folder / "run.json").read_text())
        return self

    def children(self):
        path = Path(f"/proc/{self.process.pid}/task")
        return [
            int(pid) for task in path.iterdir() for pid in (task / "children").read_text().split()
        ]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code


def gone(pid):
    """True if the process has ended (a zombie of somebody else's counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_gone(pid):
    waiter = threading.Event()
    for _ in range(WAIT_S * 20):
        if gone(pid):
            return True
        waiter.wait(0.05)
    return False


@pytest.fixture
def processes():
    mosquitto_or_skip()
    made = []
    yield made
    for process in made:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


def register(process, meter="JH-0001"):
    body = {"id": meter, "consumer": "A", "tariff": TARIFF, "opening_balance_mp": 10_000_000}
    answer = process.http.post("/api/meters", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_killed_between_commit_and_acknowledgement(processes, tmp_path):
    headend = FaultyHeadend(tmp_path / "headend")
    folder = tmp_path / "gateway"

    def start(deaths):
        process = Process(folder, "--headend", headend.url, deaths=deaths)
        processes.append(process)
        return process

    process = start(0).wait_up()
    meter = FakeMeter(register(process))
    process.end()
    try:
        for number in range(4):
            for _ in range(4):
                meter.block(10)
            process = start(deaths=1)
            if number == 0:
                process.wait_up()
                meter.connect_without_waiting()
            assert process.process.wait(WAIT_S) == -signal.SIGKILL, "".join(process.log)
        assert meter.acked == 0
        process = start(0).wait_up()
        process.http.post(
            "/api/meters/JH-0001/recharges",
            json={"rupees": "50"},
            headers={"Idempotency-Key": "k"},
        )
        meter.wait_for(lambda: meter.connected and meter.highest == 1)
        meter.flush()
        records = process.http.get("/api/meters/JH-0001").json()
        assert records["records"] == len(meter.journal)
        assert records["gaps"] == []
        balance = process.http.get("/api/meters/JH-0001/balance").json()
        assert balance["agree"] is True
        assert process.http.get("/api/quarantine").json() == []
        waiter = threading.Event()
        for _ in range(WAIT_S * 20):
            if len(headend.identities()) == len(meter.journal):
                break
            waiter.wait(0.05)
        assert [identity[3] for identity in headend.identities()] == list(
            range(1, len(meter.journal) + 1)
        )
        assert process.end() == 0
    finally:
        meter.close()
        headend.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_gateway_and_broker(processes, tmp_path, number):
    process = Process(tmp_path / "gateway")
    processes.append(process)
    process.wait_up()
    children = process.children()
    assert len(children) == 1
    # An open stream does not keep it alive.
    with process.http.stream("GET", "/api/stream") as response:
        next(response.iter_lines())
        assert process.end(number) == 0, "".join(process.log)
    assert all(gone(pid) for pid in children)
    assert not any("Traceback" in line for line in process.log), "".join(process.log)


def test_the_broker_dies_with_a_killed_gateway(processes, tmp_path):
    process = Process(tmp_path / "gateway")
    processes.append(process)
    process.wait_up()
    children = process.children()
    os.kill(process.process.pid, signal.SIGKILL)
    assert children
    assert all(wait_gone(pid) for pid in children)


def test_the_log_holds_no_secret(processes, tmp_path):
    process = Process(tmp_path / "gateway")
    processes.append(process)
    document = register(process.wait_up())
    meter = FakeMeter(document).connect()
    process.http.post(
        "/api/meters/JH-0001/recharges", json={"rupees": "50"}, headers={"Idempotency-Key": "k"}
    )
    meter.wait_for(lambda: meter.highest == 1)
    meter.flush()
    meter.close()
    process.end()
    log = "".join(process.log)
    assert "recharge" in log
    assert document["key"] not in log
    assert document["broker"]["password"] not in log
