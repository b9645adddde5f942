"""A disk that is full or fails under the gateway: nothing acknowledged that is not stored."""

import os
import resource
import shutil
import sqlite3
import subprocess
import threading

import pytest

from host_tests.fakes.meter import FakeMeter
from host_tests.gateway.test_crash import Process, processes, register  # noqa: F401, fixture

WAIT_S = 30

# fsync and fdatasync fail as long as the file exists that FSYNC_FAILS names.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int failing(void) {
    const char *path = getenv("FSYNC_FAILS");
    return path && access(path, F_OK) == 0;
}
int fsync(int fd) {
    if (failing()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    if (failing()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""


def stored(folder):
    with sqlite3.connect(f"file:{folder}/gateway.sqlite?mode=ro", uri=True) as database:
        return database.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0]


def until(condition):
    """Wait for another process, which nothing here is told of."""
    waiter = threading.Event()
    for _ in range(WAIT_S * 20):
        if condition():
            return
        waiter.wait(0.05)
    raise AssertionError("waited in vain")


def refused_recharge(process):
    return process.http.post(
        "/api/meters/JH-0001/recharges", json={"amount_mp": 5}, headers={"Idempotency-Key": "k"}
    )


def live_through(process, meter, fail, mend):
    """The disk fails, messages and requests come, the disk works again."""
    meter.block(10)
    meter.flush()
    before = len(meter.journal)
    fail()
    for _ in range(40):
        meter.block(10)
    meter.flush(wait=False)
    until(lambda: "commits failed" in str(process.http.get("/api/health").json()["alarms"]))
    answer = refused_recharge(process)
    assert answer.status_code == 503
    assert answer.json()["title"] == "cannot be stored now"
    assert meter.acked == before == stored(process.folder)
    assert process.process.poll() is None
    mend()
    meter.wait_for(lambda: meter.acked == len(meter.journal), WAIT_S)
    assert stored(process.folder) == len(meter.journal)
    # What was refused was not made; asked for again it is made once.
    until(lambda: refused_recharge(process).status_code == 201)
    meter.wait_for(lambda: meter.highest == 1, WAIT_S)
    assert process.http.get("/api/meters/JH-0001/balance").json()["agree"] is True
    assert len(process.http.get("/api/meters/JH-0001/recharges").json()) == 1
    assert process.end() == 0


def test_a_full_disk(processes, tmp_path):  # noqa: F811
    process = Process(tmp_path / "gateway")
    processes.append(process)
    meter = FakeMeter(register(process.wait_up())).connect()
    pid = process.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    try:
        live_through(
            process,
            meter,
            # No file grows, and none is written behind its first byte.
            lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard)),
            lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard)),
        )
    finally:
        meter.close()


def test_a_disk_that_cannot_sync(processes, tmp_path):  # noqa: F811
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the shim")
    source, library, switch = (tmp_path / name for name in ("shim.c", "shim.so", "fails"))
    source.write_text(SHIM)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60
    )
    environment = {**os.environ, "LD_PRELOAD": str(library), "FSYNC_FAILS": str(switch)}
    process = Process(tmp_path / "gateway", environment=environment)
    processes.append(process)
    meter = FakeMeter(register(process.wait_up())).connect()
    try:
        live_through(process, meter, switch.touch, switch.unlink)
    finally:
        meter.close()
