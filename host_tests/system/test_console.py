"""The meter's console on the serial port that it shares with mpremote, on the emulated board."""

import pytest

from host_tests.fakes.interpreters import micropython
from host_tests.fakes.lab import Lab
from host_tests.fakes.mpremote import mpremote

# A worn divider, a shunt off by 1 %, offsets at the datasheet's worst.
ERRORS = {"shunt_offset_uv": 200, "shunt_gain_ppm": -10_000, "bus_gain_ppm": 8_000, "noise_lsb": 2}


@pytest.fixture
def bench(tmp_path):
    micropython(32)
    with Lab(tmp_path / "meter", ERRORS, "230V,10A") as made:
        yield made


def test_a_meter_is_calibrated_at_its_serial_port(bench):
    bench.type("help", "^calibrate zero | voltage V | current A")
    assert "relay=closed" in bench.type("status", "^status ")
    assert "bus=" in bench.type("raw", "^raw ")
    bench.type("calibrate zero", "^error calibrate: is locked")
    bench.type("unlock 00000000", "^error code: none is taken for")
    bench.passes(30)
    bench.unlock()
    bench.type("calibrate zero", "^error zero: the shunt reads .* is there a current", 30)

    bench.board.set(load="constant:0V,0A")
    bench.passes(2)
    bench.type("calibrate zero", "^calibration 1 of 2026-01-05", 30)
    bench.board.set(load="constant:230V,10A")
    bench.passes(2)
    bench.type("calibrate voltage 230", "^calibration 2 of", 30)
    bench.type("calibrate current 10.000", "^calibration 3 of", 30)
    words = bench.type("raw", "^calibrated V=").split()
    assert abs(float(words[1][2:]) - 230) < 0.1
    assert abs(float(words[2][2:]) - 10) < 0.01

    # The energy since then is that of the circuit, within the noise.
    before_mj, wh = bench.board.look()["energy_mj"], counted_wh(bench)
    bench.passes(3600)
    true_wh = (bench.board.look()["energy_mj"] - before_mj) / 3_600_000
    assert abs(counted_wh(bench) - wh - true_wh) < 0.001 * true_wh + 3

    bench.board.cut_power()
    bench.board.restore_power()
    bench.passes(5)
    bench.type("calibrate undo", "^error calibrate: is locked")
    assert bench.type("calibrate show", "^calibration 3 of")
    bench.passes(30)
    bench.unlock()
    bench.type("calibrate undo", "^calibration 4 of")
    log = "\n".join(bench.board.lines())
    assert bench.code() not in log
    assert "Traceback" not in log


def counted_wh(bench):
    line = bench.type("status", "^status ")
    return round(float(line.split("kWh=")[1].split()[0]) * 1000)


def test_a_balance_is_explained_while_every_second_is_sampled(bench):
    bench.passes(3600)
    wh = counted_wh(bench)
    said = bench.type("explain", "^moved in all", 60).split()[-1]
    lines = bench.board.lines()
    begin = max(n for n, line in enumerate(lines) if line.startswith("opening balance"))
    rows = [line.split() for line in lines[begin:]]
    rows = rows[: [row[:1] for row in rows].index(["moved"])]
    assert rows[0][-1] == "0.00000"
    moved = sum(round(float(row[-1]) * 100_000) for row in rows[1:-1])
    assert moved == round(float(said) * 100_000) == round(float(rows[-1][-1]) * 100_000)
    assert any(row[0] == "energy" and "kWh" in row for row in rows)
    bench.passes(600)
    # 2.3 kW less 1 % for 10 minutes and the minute of the command.
    assert 410 <= counted_wh(bench) - wh <= 430


def test_mpremote_gets_the_port_also_behind_a_half_typed_line(bench):
    bench.board.type(b"calibr")
    bench.passes(2)
    assert mpremote(bench.board, "exec", "print(6 * 7)") == "42\n"
    assert "data/" in mpremote(bench.board, "resume", "fs", "ls")


def test_bytes_that_are_no_characters_stop_nothing(bench):
    wh = counted_wh(bench)
    bench.board.type(bytes(range(128, 256)) + b"\xc3")
    bench.passes(600)
    bench.board.type(b"x" * 300 + b"\r")
    bench.passes(600)
    bench.board.wait_for("^error line: must be at most 80 characters")
    bench.board.type(b"\x00\x04\x1b[A\r")
    bench.passes(3)
    # Every second was sampled: 2.3 kW less 1 % for 20 minutes.
    assert 750 <= counted_wh(bench) - wh <= 780


def test_what_serves_a_person_is_dropped_when_nobody_types_any_more(bench):
    bench.passes(120)
    before = bench.board.command("heap")["free"]
    bench.type("help", "^unlock CODE")
    assert bench.board.command("heap")["free"] < before - 2000
    bench.passes(700)
    dropped = bench.board.command("heap")["free"]
    assert dropped > before - 800  # names that were new stay with the interpreter
    bench.type("help", "^unlock CODE")
    bench.type("bill", "^the next kWh")
    bench.passes(700)
    again = bench.board.command("heap")["free"]
    bench.type("bill", "^the next kWh")
    bench.passes(700)
    assert bench.board.command("heap")["free"] > again - 300  # a table may have grown
