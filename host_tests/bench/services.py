"""Processes that several groups need: a gateway, a broker, a slow disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from host_tests.bench.measure import ROOT
from toolchain import locate

START_TIMEOUT_S = 30
WAIT_S = 300
GATEWAY = (sys.executable, "-m", "gateway.cli", "gateway", "run")
FREE_PORTS = ("--http-port", "0", "--broker-port", "0")
SLOW_FSYNC_MS = 10  # a fast SD card

SLOW_FSYNC_C = f"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int file) {{ usleep({SLOW_FSYNC_MS * 1000}); return syscall(SYS_fsync, file); }}
int fdatasync(int file) {{ usleep({SLOW_FSYNC_MS * 1000}); return syscall(SYS_fdatasync, file); }}
"""


class Gateway:
    """`bijli gateway run` as a process of its own, on free ports."""

    def __init__(self, folder: Path, env: dict[str, str], *options: str) -> None:
        locate.mosquitto()
        self.process = subprocess.Popen(
            [*GATEWAY, "--data", str(folder), *FREE_PORTS, *options],
            cwd=ROOT,
            env={**os.environ, **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "page and API on" in line:
                break
        else:
            raise RuntimeError("the gateway ended:\n" + "".join(said))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.http = httpx.Client(base_url=line.split()[-1], trust_env=False, timeout=60)
        wait(lambda: self.health()["broker"]["connected"])

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(START_TIMEOUT_S)

    def health(self) -> Any:
        """What the gateway says of itself."""
        return self.http.get("/api/health").raise_for_status().json()

    def register(self, meter: str, **members: Any) -> Any:
        """A new meter's provisioning document."""
        body = {"id": meter, "consumer": "x", **members}
        return self.http.post("/api/meters", json=body).raise_for_status().json()


class Broker:
    """A mosquitto without passwords, with the product's limits."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        conf = folder / "mosquitto.conf"
        conf.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 100000\nmax_inflight_messages 1000\n"
            "message_size_limit 16384\nset_tcp_nodelay true\nsys_interval 10\n"
        )
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [*locate.mosquitto(), "-c", str(conf)], stdout=quiet, stderr=quiet
        )
        wait(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(START_TIMEOUT_S)


def wait(condition: Callable[[], bool], every_s: float = 0.02, limit_s: float = WAIT_S) -> None:
    """Look again and again until it is so. Raises TimeoutError."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("waited in vain")
        time.sleep(every_s)


def processor_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slow_fsync(folder: Path) -> dict[str, str]:
    """The environment in which each fsync takes SLOW_FSYNC_MS more. Raises locate.ToolMissing."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise locate.ToolMissing("cc", "install a C compiler")
    source, library = folder / "slow_fsync.c", folder / "slow_fsync.so"
    source.write_text(SLOW_FSYNC_C)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}
