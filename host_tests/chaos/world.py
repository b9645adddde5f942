"""The world of a chaos run: a World with hands that pull plugs.

Head-end, gateway, mosquitto and boards are the real processes. Between them are a `Network` of MQTT
packets and a `Door` in front of the head-end. The true energy of each board is kept over its power
cuts, beside the register that it comes up with (`Truth`).
"""

import contextlib
import os
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import time
from collections import Counter
from pathlib import Path

from boards.emulated.board import BoardError, Watch
from demo.world import World
from host_tests.chaos.network import Network
from host_tests.fakes.headend import Door, forwarder
from toolchain import locate

HOLD_CAP_S = 0.3  # a lost message costs the one who awaits its answer so much real time

_BOOT_LINE = re.compile(r" boot cause=.* kWh=(\d+)\.(\d{3}) balance=")

WRAPPER = """#!/bin/sh
umask 077
sed -e 's/^listener {port} /listener {behind} /' -e 's/^sys_interval .*/sys_interval 1/' \
"$2" > "$2.behind" || exit 1
exec {command} -c "$2.behind"
"""


class Truth:
    """What was really consumed behind one meter, and what its register said at each start."""

    def __init__(self):
        self.nj = 0  # delivered in the interpreter's runs that have ended
        self.runs = 0  # of the interpreter, ended
        self.starts = []  # (nJ delivered before it, Wh on the register, runs before it)
        # By boot, as the faults have it:
        self.unsaved_ms = Counter()  # while nothing could be saved
        self.unseen_nj = Counter()  # delivered while the sensor did not answer
        self.turns = Counter()  # of the sensor, to silence and back
        self.opened = set()  # the boots in which the contact opened
        self._silent_since_nj = None

    @property
    def boot(self):
        return len(self.starts)

    @property
    def silent(self):
        """True while the sensor does not answer."""
        return self._silent_since_nj is not None

    @property
    def has_begun(self):
        """True if the present run has told the register that it came up with."""
        return self.starts[-1][2] == self.runs

    def ended(self, seen):
        self.nj += _nj(seen)
        self.runs += 1

    def started(self, import_wh):
        self._see_nothing_until(self.nj)
        self.starts.append((self.nj, import_wh, self.runs))

    def sensor(self, answers, seen):
        """From now on, with `seen` delivered in this run, it answers or is silent."""
        nj = self.nj + _nj(seen)
        self._see_nothing_until(nj)
        self._silent_since_nj = None if answers else nj
        self.turns[self.boot] += 1

    def keeps(self, fields):
        """The board has kept a state of its hardware."""
        if fields["key"] == "contact" and not fields["value"]:
            self.opened.add(self.boot)

    def _see_nothing_until(self, nj):
        if self._silent_since_nj is not None:
            self.unseen_nj[self.boot] += nj - self._silent_since_nj
            self._silent_since_nj = nj


def _nj(seen):
    return seen["energy_mj"] * 1_000_000 + seen["energy_rest_nj"]


class ChaosWorld(World):
    """A world that can be hurt. `watch(client, way, packet)` sees every message."""

    modules = {"gateway": "host_tests.chaos.gateway_process"}

    def __init__(self, folder, households, start_ms, watch, heap_kb):
        super().__init__(
            folder,
            households,
            start_ms,
            None,
            lambda text: None,
            hold_cap_s=HOLD_CAP_S,
            heap_kb=heap_kb,
        )
        self._behind = _quiet_port()
        self.network = Network(self._behind, watch)
        self.broker_port = self.network.port
        self.door = Door(forwarder(lambda: self.headend_url))
        self.upstream_url = self.door.url
        self.truths = {household.meter: Truth() for household in households}
        self.loads = {household.meter: household.load for household in households}
        self.process = {}  # name: the process that runs under it
        self.gateway_stopped = False
        self.resets = []  # (meter, cause) of resets that nobody ordered
        self._ordered_resets = 0
        self.disk = self.folder / "disk"
        self.disk.mkdir(parents=True)
        self._clock_file = self.folder / "gateway-clock-ms"
        self._sync_file = self.folder / "gateway-sync-ms"
        self.set_gateway_clock(0)
        self.set_sync_ms(0)
        wrapper = self.folder / "mosquitto"
        command = shlex.join(locate.mosquitto())
        wrapper.write_text(
            WRAPPER.format(port=self.broker_port, behind=self._behind, command=command)
        )
        wrapper.chmod(0o700)
        self.environment = {
            **os.environ,
            "MOSQUITTO": str(wrapper),
            "CHAOS_CLOCK": str(self._clock_file),
            "CHAOS_DISK": str(self.disk),
            "CHAOS_SYNC": str(self._sync_file),
        }

    def _clock_started(self):
        self._watcher = Watch(self.conductor.address)
        self.network.start(self.clock)

    def stop(self):
        """End everything; the network and the door too. Returns the ids of processes left over."""
        if self.gateway_stopped:
            self.continue_gateway()
        pids = [process.pid for process in self.process.values()]
        pids += [child for pid in pids for child in _children(pid)]
        super().stop()
        self.network.close()
        self.door.close()
        if hasattr(self, "_watcher"):
            self._watcher.close()
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def start(self):
        """Start everything; what the gateway has written until then the kernel has written back."""
        super().start()
        self.awaits_broker = False  # a fault may be waiting for it, and to try again takes time
        self.settle_disk()

    def settle_disk(self):
        """What the gateway's database has in its files now is safe from a power cut."""
        for name in ("gateway.sqlite", "gateway.sqlite-wal"):
            (self.disk / name).unlink(missing_ok=True)
            if (self.folder / "gateway" / name).exists():
                shutil.copyfile(self.folder / "gateway" / name, self.disk / name)

    def _run(self, name, *arguments):
        process = super()._run(name, *arguments)
        self.process[name] = process
        return process

    def _start_board(self, household, files):
        super()._start_board(household, files)
        board, truth = self.boards[household.meter], self.truths[household.meter]

        def line(text):
            found = _BOOT_LINE.search(text)
            if found:
                truth.started(int(found[1]) * 1000 + int(found[2]))

        def reset(fields):
            truth.ended(fields)
            self.resets.append((household.meter, fields["cause"]))

        # The first start went by before anybody listened.
        truth.started(0)
        board.console(line)
        board.on("power_lost", truth.ended)
        board.on("reset", reset)
        board.on("keep", truth.keeps)

    # --- the gateway's computer ------------------------------------------------------------------

    @property
    def gateway_up(self):
        """True while the gateway runs and answers."""
        return "gateway" in self.process and not self.gateway_stopped

    def strike_gateway(self, with_broker):
        """SIGKILL, at once and from any thread; then `bury_gateway`."""
        process = self.process.get("gateway")
        if process is None:
            return
        # Stopped first: it would start its broker again.
        os.kill(process.pid, signal.SIGSTOP)
        if with_broker:
            for child in _children(process.pid):
                os.kill(child, signal.SIGKILL)
        process.kill()

    def bury_gateway(self):
        """Take note that the gateway was killed: time goes on without it."""
        process = self.process.pop("gateway")
        children = _children(process.pid)
        process.kill()
        process.wait()
        for child in children:
            _wait_gone(child)
        self._take_process("gateway")
        self._watcher.forget("gateway")
        self.gateway_stopped = False

    def lose_unsynced(self, sessions):
        """The gateway's computer lost its power: its files are what had been synced.

        sessions: the broker's file is lost too. The gateway must be dead.
        """
        for file in (self.folder / "gateway").glob("gateway.sqlite*"):
            if not file.name.endswith("marker"):
                file.unlink()
        for file in self.disk.glob("gateway.sqlite*"):
            shutil.copyfile(file, self.folder / "gateway" / file.name)
        if sessions:
            self.lose_sessions()

    def stop_gateway(self):
        """SIGSTOP: it is there and does nothing."""
        self._watcher.stopped("gateway")
        os.kill(self.process["gateway"].pid, signal.SIGSTOP)
        self.gateway_stopped = True

    def continue_gateway(self):
        os.kill(self.process["gateway"].pid, signal.SIGCONT)
        self._watcher.goes("gateway")
        self.gateway_stopped = False

    def fill_disk(self, full):
        """No file of the gateway's process can grow, or be written at all beyond a byte."""
        resource.prlimit(
            self.process["gateway"].pid,
            resource.RLIMIT_FSIZE,
            (1 if full else resource.RLIM_INFINITY, resource.RLIM_INFINITY),
        )

    def set_gateway_clock(self, ahead_ms):
        """The clock of the gateway's computer is wrong by so much."""
        _write_number(self._clock_file, ahead_ms)

    def set_sync_ms(self, ms):
        """Each sync of the gateway's database takes so much real time more."""
        _write_number(self._sync_file, ms)

    # --- broker and head-end -----------------------------------------------------------------

    def strike_broker(self):
        """SIGKILL of the broker, from any thread; the gateway starts it again."""
        process = self.process.get("gateway")
        for child in _children(process.pid) if process else ():
            os.kill(child, signal.SIGKILL)

    def kill_broker(self, sessions):
        """SIGKILL of the broker; sessions: what it had saved of them is lost too."""
        children = _children(self.process["gateway"].pid)
        self.strike_broker()
        for child in children:
            _wait_gone(child)
        if sessions:
            self.lose_sessions()

    def lose_sessions(self):
        (self.folder / "gateway" / "broker" / "sessions.db").unlink(missing_ok=True)

    def kill_headend(self):
        process = self.process.pop("headend")
        process.kill()
        process.wait()
        self._take_process("headend")

    # --- boards ----------------------------------------------------------------------------------

    def cut(self, meter):
        """Cut a meter's power; what it has consumed is known. False if it has none already."""
        board = self.boards[meter]
        return board.powered and self.end_run(meter, board.cut_power)

    def end_run(self, meter, do):
        """Ends a run of the interpreter by `do`; False if it ended by itself before that."""
        truth = self.truths[meter]
        runs = truth.runs
        try:
            seen = self.boards[meter].command("energy")
        except BoardError:
            return False
        do()
        if truth.runs != runs:  # its cut at a write came in between, and has been counted
            return False
        truth.ended(seen)
        return True

    def restore(self, meter, cut_at_write=0):
        """Power comes back; 0 < cut_at_write: and goes in the middle of that write."""
        self.boards[meter].restore_power(load=self.loads[meter], cut_at_write=cut_at_write)

    def set_sensor(self, meter, state):
        """ "ok", "absent" or "hang". Raises BoardError without power."""
        board = self.boards[meter]
        seen = board.command("energy")
        board.set(sensor=state)
        self.truths[meter].sensor(state == "ok", seen)

    def set_load(self, meter, load):
        self.loads[meter] = load
        if self.boards[meter].powered:
            self.boards[meter].set(load=load)


def _write_number(path, number):
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.pwrite(file, b"%31d" % number, 0)  # one write of fixed length: read whole or not
    os.close(file)


def _children(pid):
    """Process ids of the children of a process, of each of its threads."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += [int(child) for child in file.read_text().split()]
    return found


def _wait_gone(pid):
    """Wait in real time until a process is gone (a zombie counts)."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not end")


def _quiet_port():
    """A free port below those that the system gives out by itself: it must stay free."""
    for port in random.sample(range(15_000, 30_000), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
