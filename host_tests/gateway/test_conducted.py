"""The gateway on conducted time: it works, holds time while a meter owes an answer, and lets go."""

import threading

import pytest

from boards.emulated.conductor import Conductor
from boards.emulated.sim_clock import ConductedClock
from firmware.link import codec
from gateway.desk import ANSWER_TIMEOUT_MS
from host_tests.gateway.conftest import Bench
from host_tests.gateway.test_crash import WAIT_S, Process

START_MS = 1_767_600_000_000


@pytest.fixture
def conductor():
    made = Conductor(None, start_ms=START_MS)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def scenario(conductor):
    clock = ConductedClock(conductor.address, "scenario")
    yield clock
    clock.close()


def pass_time(worker, until_ms):
    while worker.wait(until_ms):
        pass


def test_a_recharge_takes_no_simulated_time_and_a_day_passes(conductor, scenario, tmp_path):
    story = scenario.worker("story")
    bench = Bench(tmp_path / "gateway", ConductedClock(conductor.address, "gateway")).start()
    try:
        meter = bench.meter()
        done = bench.recharge_is(bench.recharge().json()["id"], "confirmed")
        assert set(done["times"].values()) == {START_MS}
        pass_time(story, START_MS + 86_400_000)
        assert bench.get("/api/health")["utc_ms"] == START_MS + 86_400_000
        assert meter.ask_time() == START_MS + 86_400_000
        meter.block(10)
        meter.flush()
    finally:
        bench.close()
        bench.clock.close()


def test_time_stands_still_while_a_live_meter_owes_an_answer(conductor, scenario, tmp_path):
    story = scenario.worker("story")
    bench = Bench(tmp_path / "gateway", ConductedClock(conductor.address, "gateway")).start()
    try:
        meter = bench.meter()
        meter.deaf = True
        recharge = bench.recharge().json()["id"]
        meter.wait_for(lambda: meter.orders)
        # The scenario would let an hour pass; the clock is held until the meter answers.
        meter.deaf = False
        order = meter.orders[0]
        answer = meter._decide(order)
        passed = threading.Event()

        def let_pass():
            pass_time(story, START_MS + 3_600_000)
            passed.set()

        thread = threading.Thread(target=let_pass)
        thread.start()
        assert not passed.wait(0.3)
        meter.send("answer", codec.encode(answer))
        assert passed.wait(WAIT_S)
        thread.join()
        done = bench.recharge_is(recharge, "confirmed")
        assert done["times"]["confirmed_utc_ms"] < START_MS + ANSWER_TIMEOUT_MS
        assert done["attempts"] == 1
    finally:
        bench.close()
        bench.clock.close()


def test_a_gateway_whose_conductor_ends_says_so_and_ends(conductor, tmp_path):
    host, port = conductor.address
    process = Process(tmp_path / "gateway", "--clock", f"{host}:{port}")
    try:
        process.wait_up()
        children = process.children()
        conductor.stop()
        assert process.process.wait(WAIT_S) == 1
        process._reader.join(WAIT_S)
        assert "stopped" in process.log[-1]
        assert not any("Traceback" in line for line in process.log), "".join(process.log)
        assert len(children) == 1
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()
