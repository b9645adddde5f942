"""The whole product as processes on one clock: head-end, gateway with its broker, boards.

Everything that must outlive a run is in one folder, so a second start goes on where the first
stopped: simulated time included. The scenario is a participant of the clock like everybody: while
it is not waiting, nobody's time moves.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx

from boards.emulated import flashing
from boards.emulated.board import HEAP_KB, EmulatedBoard
from boards.emulated.conductor import CAP_S, Conductor
from boards.emulated.sim_clock import ConductedClock
from demo.households import IST_S, Household
from gateway import meters
from gateway.errors import StartError
from gateway.folder import LOCK_FILE, lock
from toolchain import locate

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
STATE = "state.json"


class WorldError(Exception):
    """A part of the world did not come up or did not answer; the text names its log."""


class World:
    """`start` brings everything up, `stop` ends every process; both may be called once.

    folder: what outlives a run. rate: simulated seconds per second, None for as fast as events
    allow. start_ms: simulated time of the very first start. http_port: of page and API, 0 for a
    free one. hold_cap_s, cap_s: see Timekeeper. heap_kb: free heap of each board.
    """

    modules: dict[str, str] = {}
    """Which module is run as the gateway or the head-end, if not `gateway.cli`."""
    environment: dict[str, str] | None = None
    broker_port = 0
    awaits_broker = True
    """Whether a gateway has started only when it is connected; time stands still for that."""
    upstream_url = ""
    """Where the gateway finds the head-end, if not at the head-end's own address."""

    def __init__(
        self,
        folder: Path,
        households: list[Household],
        start_ms: int,
        rate: float | None,
        say: Callable[[str], None],
        http_port: int = 0,
        hold_cap_s: float | None = None,
        heap_kb: int = HEAP_KB,
        cap_s: float = CAP_S,
    ) -> None:
        self._http_port = http_port
        self._heap_kb = heap_kb
        self.folder = folder.resolve()
        self.households = households
        self.boards: dict[str, EmulatedBoard] = {}
        self._say = say
        self._processes: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []
        self._logs: list[IO[str]] = []
        self._state = self._load_state(start_ms)
        self.start_ms: int = self._state["start_ms"]
        self.conductor = Conductor(
            rate, start_ms=self._state["now_ms"], cap_s=cap_s, hold_cap_s=hold_cap_s
        )
        self.clock: ConductedClock
        self.url = ""
        self.headend_url = ""
        self._http = httpx.Client(timeout=30, trust_env=False)

    # --- start and stop --------------------------------------------------------------------

    def start(self) -> None:
        """Start everything. Raises WorldError, BoardError or FlashError; then call `stop`."""
        self.conductor.start()
        self.clock = ConductedClock(self.conductor.address, "scenario")
        self.story = self.clock.worker("story")
        self._clock_started()
        self._start_headend()
        self._start_gateway()
        files = flashing.files_of(flashing.build())
        for household in self.households:
            self._start_board(household, files)

    def _clock_started(self) -> None:
        """For those who take part before everybody else."""

    def stop(self) -> None:
        """End every process and remember the simulated time."""
        if hasattr(self, "clock"):
            self.clock.worker("end")  # busy from now on: time stands still while all end
        self._save_state()
        for board in self.boards.values():
            board.stop()
        self.boards.clear()
        # The gateway leaves before its head-end: what it delivers last still arrives.
        for name, process, log in reversed(self._processes):
            _end(name, process, self._say)
            log.close()
        self._processes.clear()
        if hasattr(self, "clock"):
            self.clock.close()
        self.conductor.stop()
        self._http.close()
        for text in self._logs:
            text.close()
        self._logs.clear()

    def _load_state(self, start_ms: int) -> dict[str, Any]:
        path = self.folder / STATE
        if path.exists():
            return dict(json.loads(path.read_text("utf-8")))
        return {"start_ms": start_ms, "now_ms": start_ms}

    def _save_state(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._state["now_ms"] = max(self._state["now_ms"], self.conductor.now_ms())
        new = self.folder / (STATE + ".new")
        new.write_text(json.dumps(self._state), "utf-8")
        new.replace(self.folder / STATE)

    def _run(self, name: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / f"{name}.log").open("ab")
        # A session of its own: Ctrl-C at the terminal ends this program, which ends the others.
        process = subprocess.Popen(
            [sys.executable, "-m", self.modules.get(name, "gateway.cli"), *map(str, arguments)],
            cwd=locate.project_root(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self.environment,
            start_new_session=True,
        )
        self._processes.append((name, process, log))
        return process

    def _start_headend(self, port: int = 0) -> None:
        port_file = self.folder / "headend.url"
        port_file.unlink(missing_ok=True)
        process = self._run(
            "headend",
            "headend",
            "run",
            "--data",
            self.folder / "headend",
            "--http-port",
            str(port),
            "--port-file",
            port_file,
        )
        self._await("headend", process, port_file.exists)
        self.headend_url = port_file.read_text("utf-8").strip()

    def _start_gateway(self) -> None:
        host, port = self.conductor.address
        data = self.folder / "gateway"
        process = self._run(
            "gateway",
            "gateway",
            "run",
            "--data",
            data,
            "--http-port",
            str(self._http_port),
            "--broker-port",
            str(self.broker_port),
            "--headend",
            self.upstream_url or self.headend_url,
            "--clock",
            f"{host}:{port}",
        )
        run_file = data / "run.json"

        def serves() -> bool:
            if not run_file.exists():
                return False
            run = json.loads(run_file.read_text("utf-8"))
            if run["pid"] != process.pid:
                return False
            self.url = run["http"]
            try:
                health = self.get("/api/health")
            except httpx.TransportError:  # it listens, and is not ready to answer
                return False
            return bool(health["broker"]["connected"]) or not self.awaits_broker

        self._await("gateway", process, serves)

    def _await(
        self, name: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]
    ) -> None:
        """Wait in real time until a process serves: starting is no event of the simulated world."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                raise WorldError(f"{name} ended at once, see {self.folder / name}.log")
            if ready():
                return
            time.sleep(0.02)
        raise WorldError(f"{name} does not answer, see {self.folder / name}.log")

    def _start_board(self, household: Household, files: dict[str, bytes]) -> None:
        folder = self.folder / "boards" / household.meter
        folder.mkdir(parents=True, exist_ok=True)
        provisioned = folder / "provisioned"
        config = None if provisioned.exists() else self._register(household)
        flashing.flash_image(folder, files, config, self._say)
        provisioned.touch()
        board = EmulatedBoard(
            folder,
            household.meter,
            self.conductor.address,
            settings={
                "load": household.load,
                "seed": household.seed,
                "csv_start_ms": self.start_ms,
                "unique_id": f"246f28{household.seed:06x}",
                **household.board,
            },
            heap_kb=self._heap_kb,
        )
        console = (folder / "console.log").open("a", encoding="utf-8", buffering=1)
        self._logs.append(console)
        board.console(lambda line: _write_line(console, line))
        self.boards[household.meter] = board.start()

    def _register(self, household: Household) -> dict[str, Any]:
        """Registers the meter; the provisioning document is given out only once.

        Anew if a run was killed between that and the flashing.
        """
        return dict(
            self.post(
                "/api/meters",
                {
                    "id": household.meter,
                    "consumer": household.consumer,
                    "sanctioned_load_w": household.sanctioned_load_w,
                    "tariff": household.tariff,
                    "opening_balance_mp": household.opening_balance_mp,
                    "sample_period_ms": household.sample_period_ms,
                    "live_period_s": household.live_period_s,
                    "voltage_ratio_x1000": 10_000,
                    "current_ratio_x1000": 12_500,
                    "utc_offset_s": IST_S,
                    "rules": {
                        "low_credit_mp": household.low_credit_mp,
                        **_those(household.settings, meters.RULES),
                    },
                    "metering": _those(household.settings, meters.METERING),
                    "replace": True,
                },
            )
        )

    # --- the scenario's hands ----------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Simulated time, exact while the scenario does not wait."""
        return self.clock.utc_ms()

    def wait_until(self, utc_ms: int) -> None:
        """Let everybody live until this simulated time."""
        while self.story.wait(utc_ms):
            pass

    def watch_only(self) -> None:
        """The scenario does nothing: time goes on by itself."""
        self.story.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """The gateway's answer to GET."""
        return self._answer(self._http.get(self.url + path, params=parameters))

    def post(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        """The gateway's answer to POST."""
        return self._answer(self._http.post(self.url + path, json=body, headers=headers))

    def headend(self, path: str) -> Any:
        """The utility's answer to GET."""
        return self._answer(self._http.get(self.headend_url + path))

    def recharge(self, meter: str, rupees: str) -> dict[str, Any]:
        """Orders a recharge; returns it in its first state."""
        return dict(
            self.post(
                f"/api/meters/{meter}/recharges",
                {"rupees": rupees},
                {"Idempotency-Key": uuid.uuid4().hex},
            )
        )

    def crash_gateway(self) -> None:
        """SIGKILL: the gateway is gone in the middle of whatever it did, its broker with it.

        The clock expects it back, and time stands still until then (10 s at most).
        """
        self._take_process("gateway").kill()

    def restart_gateway(self) -> None:
        """Start the gateway again on its folder; returns when it serves."""
        self._start_gateway()

    def stop_gateway(self) -> None:
        """The gateway and its broker end in order; time goes on without them."""
        _end("gateway", self._take_process("gateway"), self._say)

    def stop_headend(self) -> None:
        """The utility is away."""
        _end("headend", self._take_process("headend"), self._say)

    def restart_headend(self) -> None:
        """The utility is back, under its old address and with what it had."""
        self._start_headend(httpx.URL(self.headend_url).port or 0)

    def _take_process(self, wanted: str) -> subprocess.Popen[bytes]:
        for entry in self._processes:
            name, process, log = entry
            if name == wanted:
                self._processes.remove(entry)
                log.close()
                return process
        raise WorldError(f"{wanted} does not run")

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if not response.is_success:
            raise WorldError(f"{response.request.url.path}: {response.status_code} {response.text}")
        return response.json()


def erase(folder: Path) -> None:
    """Forget a world. Only a folder that holds one (or nothing) is touched.

    Raises WorldError, also if its gateway runs.
    """
    if not folder.exists():
        return
    if (folder / "gateway" / LOCK_FILE).exists():
        try:
            lock(folder / "gateway").close()
        except StartError as error:
            raise WorldError(f"another demo is running in {folder}") from error
    if not (folder / STATE).exists() and any(folder.iterdir()):
        raise WorldError(f"{folder} is not a demo's folder")
    shutil.rmtree(folder)


def _those(settings: dict[str, int], names: tuple[str, ...]) -> dict[str, int]:
    return {name: value for name, value in settings.items() if name in names}


def _write_line(file: IO[str], line: str) -> None:
    file.write(line + "\n")


def _end(name: str, process: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        say(f"{name} does not end, killed")
        process.kill()
        process.wait()
