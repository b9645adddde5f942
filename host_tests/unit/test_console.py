"""The serial console: lines, commands, the installer's code, and that refusals change nothing."""

import re

import pytest

from firmware.console.terminal import CODE_WAIT_S, LINE_MAX, UNLOCKED_S
from firmware.core.sealing import installer_code
from firmware.metering import calibrating
from firmware.storage.errors import StorageError
from host_tests.fakes.bench import Bench
from host_tests.fakes.console import BenchTerminal


def refusing(*arguments):
    raise StorageError("append", 28)


@pytest.fixture
def console(tmp_path):
    bench = Bench(tmp_path / "data")
    yield BenchTerminal(bench)
    bench.meter.journal.close()


def test_help_names_every_command_and_status_is_the_line_of_the_log(console):
    shown = console.type("help")
    for name in ("help", "status", "explain", "raw", "unlock", "lock", "calibrate"):
        assert f"\n{name} " in "\n" + shown
    assert console.type("status") == console.bench.meter.status_line(True, 3) + "\n"


def test_raw_shows_both_what_the_sensor_reads_and_what_counts(console):
    meter = console.bench.meter
    values = [0, 0, 0, -16 * 16, 0, 10000, 0]
    meter.append("calibration", calibrating.fields(meter.calibration, "zero", values))
    console.bench.meter.sample(5750, 4000, 0)
    shown = console.type("raw")
    assert "bus=5750 (23.000 V) shunt=-16 (-0.16 mV of 320)" in shown
    assert "V=232.299 A=5.0200 W=1166.1" in shown


def test_a_line_is_edited_echoed_and_bounded(console):
    for byte in b"\r\nstatux":
        assert console.take(byte) is None
    assert console.take(127) is None
    assert console.take(0xC3) is None  # half a character: dropped
    assert console.take(ord("s")) is None
    assert console.take(13) == "status"
    assert console.shown == "statux\b \bs\n"
    assert console.type("x" * (LINE_MAX + 1)).endswith(f"error line: must be at most {LINE_MAX} "
                                                       "characters\n")  # fmt: skip
    shown = console.type("x" * LINE_MAX)
    assert shown.startswith("error command: must be one of bill, calibrate, ")


def test_the_code_is_not_echoed(console):
    code = installer_code(console.bench.config.key)
    for byte in b"unlock " + code.encode():
        console.take(byte)
    assert console.shown == "unlock ********"
    console.passes(CODE_WAIT_S)
    console.type("")
    assert not any(code in line for line in console.bench.lines)


def test_emergency_credit_is_taken_where_it_is_offered(tmp_path):
    rules = {"emergency_limit_mp": 500_000}
    bench = Bench(tmp_path / "data", opening_balance_mp=0, rules=rules)
    shown = BenchTerminal(bench).type("emergency")
    assert shown == "emergency credit of 5.00 is in use\n"
    assert bench.records("emergency")[-1]["id"] == "console"
    shown = BenchTerminal(bench).type("emergency")
    assert shown == "error emergency: is not offered now\n"
    assert len(bench.records("emergency")) == 1
    bench.meter.journal.close()


REFUSED = [
    ("emergency 5", "command"),
    ("frobnicate", "command"),
    ("status now", "command"),
    ("calibrate", "calibrate"),
    ("calibrate power 5", "calibrate"),
    ("calibrate voltage", "voltage"),
    ("calibrate voltage 0.999", "voltage"),
    ("calibrate voltage 400.001", "voltage"),
    ("calibrate voltage 230.1234", "voltage"),
    ("calibrate voltage -230", "voltage"),
    ("calibrate voltage 230V", "voltage"),
    ("calibrate voltage 1e2", "voltage"),
    ("calibrate voltage 230 5", "voltage"),
    ("calibrate current 0.099", "current"),
    ("calibrate current 120.1", "current"),
    ("calibrate zero 5", "command"),
    ("calibrate undo 5", "command"),
    ("unlock", "code"),
    ("unlock 1234567", "code"),
    ("unlock 12345x78", "code"),
]


@pytest.mark.parametrize(("line", "field"), REFUSED)
def test_bad_input_is_refused_by_name_and_changes_no_byte(console, line, field):
    console.unlock()
    console.passes(1)
    image, state = console.bench.image(), console.bench.meter._state()
    assert console.type(line).startswith(f"error {field}: ")
    assert console.bench.image() == image
    assert console.bench.meter._state() == state


@pytest.mark.parametrize("line", ["zero", "voltage 230", "current 5", "undo"])
def test_what_changes_money_needs_the_code(console, line):
    image = console.bench.image()
    assert "error calibrate: is locked" in console.type("calibrate " + line)
    assert console.bench.image() == image
    assert console.type("calibrate show") == "not calibrated\n"


def test_the_code_is_rate_limited_also_right_after_a_start_and_locks_again(console):
    code = installer_code(console.bench.config.key)
    assert "error code: none is taken for 30 s" in console.type("unlock " + code)
    console.passes(CODE_WAIT_S)
    wrong = f"{(int(code) + 1) % 10**8:08d}"
    assert "error code: is wrong" in console.type("unlock " + wrong)
    console.passes(CODE_WAIT_S - 1)
    assert "error code: none is taken for 1 s" in console.type("unlock " + code)
    assert not console.unlocked()
    console.passes(1)
    assert console.type("unlock " + code).startswith("unlocked for 10 min")
    console.passes(UNLOCKED_S - 1)
    assert console.unlocked()
    console.passes(1)
    assert not console.unlocked()
    assert console.type("unlock " + code).startswith("unlocked")
    assert console.type("lock") == "locked\n"
    assert not console.unlocked()


def test_another_meters_code_is_wrong_and_a_changed_key_changes_it(console):
    assert len({installer_code(bytes([n]) * 32) for n in range(100)}) == 100
    console.passes(CODE_WAIT_S)
    assert "is wrong" in console.type("unlock " + installer_code(bytes(31) + b"x"))
    console.bench.order("k-1", 1, "key", salt="00" * 32)
    assert len(console.bench.meter.credentials.keys) == 2
    for key in console.bench.meter.credentials.keys:
        console.passes(CODE_WAIT_S)
        assert console.type("unlock " + installer_code(key)).startswith("unlocked")


def test_calibrating_by_zero_voltage_and_current(console):
    console.unlock()
    console.readings = [(5, 12), (5, 13)]
    assert "zero_320_x16 200" in console.type("calibrate zero")
    console.readings = [(5765, 12)]
    assert "voltage_gain_ppm -1736" in console.type("calibrate voltage 230")
    console.readings = [(5765, 4028)]
    shown = console.type("calibrate current 5.000")
    assert "calibration 3 of " in shown
    assert "current_gain_ppm -3860" in shown
    console.passes(1)
    energy = console.bench.meter.energy
    assert abs(energy.voltage_mv - 230000) <= 4
    assert abs(energy.current_ua - 5000000) <= 200
    assert "calibration 4 of " in console.type("calibrate undo")
    assert console.bench.meter.calibration.values[6] == 0
    records = console.bench.records("calibration")
    assert [r["what"] for r in records] == ["zero", "voltage", "current", "undo"]
    assert any("calibration 3 current: voltage -1736 ppm" in line for line in console.bench.lines)


def test_an_implausible_measurement_changes_no_record_and_metering_goes_on(console):
    console.unlock()
    console.readings = [(5750, 4000)]
    wh = console.bench.meter.energy.import_wh
    assert "error zero: the shunt reads 40000 uV" in console.type("calibrate zero")
    assert "error current: the reference is off by" in console.type("calibrate current 6")
    assert "error undo: there is no calibration" in console.type("calibrate undo")
    assert console.bench.records("calibration") == []
    assert console.bench.meter.measurement is None
    assert console.bench.meter.energy.import_wh > wh
    console.readings = [(5750, 0)]
    console.bench.meter.journal.append = refusing
    assert "error flash: refuses writes" in console.type("calibrate zero")
    assert console.bench.meter.calibration.number == 0
    console.readings = [None]
    assert "error sensor: gave 0 good samples" in console.type("calibrate zero")


def test_a_meter_is_put_into_service_by_somebody_with_the_code(tmp_path):
    bench = Bench(tmp_path / "data", commissioning=1)
    console = BenchTerminal(bench)
    assert "error commission: is locked" in console.type("commission")
    assert not bench.meter.control.commissioned
    console.passes(CODE_WAIT_S)
    console.type("unlock " + installer_code(bench.config.key))
    for _ in range(2):
        assert console.type("commission") == "the meter is in service\n"
    assert len(bench.records("event", 1068)) == 1
    bench.meter.journal.close()


def settled(tmp_path, **config):
    """A console, more than a minute behind the start."""
    bench = Bench(tmp_path / "data", **config)
    console = BenchTerminal(bench)
    console.passes(61)
    return console


def code_of(shown):
    return re.search(r"`relay test (\d{4})` within 60 s\n$", shown)[1]


def test_a_test_of_the_contact_is_confirmed_opens_it_for_5_s_and_says_so(tmp_path):
    console = settled(tmp_path)
    bench = console.bench
    assert console.type("relay") == "relay=closed operations=0\n"
    shown = console.type("relay test")
    assert shown.startswith("opens the supply for 5 s: ")
    assert bench.contact.closed
    begun_s = bench.utc_s
    assert console.type("relay test " + code_of(shown)) == "the contact has opened and closed\n"
    assert bench.contact.closed
    assert 5 <= bench.utc_s - begun_s <= 8
    assert [r["reason"] for r in bench.records("control")] == ["test", "ended"]
    opened, closed = (bench.records("event", code)[0] for code in (301, 302))
    assert closed["utc_s"] - opened["utc_s"] in (4, 5, 6)
    assert console.type("relay") == "relay=closed operations=2\n"
    bench.meter.journal.close()


def test_a_code_counts_once_and_for_a_minute_and_a_wrong_one_ends_it(tmp_path):
    console = settled(tmp_path)
    code = code_of(console.type("relay test"))
    wrong = "error code: must be the one that `relay test` shows, within its time\n"
    assert console.type("relay test 0000" if code != "0000" else "relay test 0001") == wrong
    assert console.type("relay test " + code) == wrong
    code = code_of(console.type("relay test"))
    console.passes(62)
    assert console.type("relay test " + code) == wrong
    code = code_of(console.type("relay test"))
    assert console.type("relay test " + code) == "the contact has opened and closed\n"
    assert console.type("relay test " + code) == wrong
    assert console.type("relay toast").startswith("error relay: takes nothing, test")
    assert len(console.bench.records("control")) == 2
    console.bench.meter.journal.close()


def test_a_test_is_refused_with_its_reason(tmp_path):
    console = BenchTerminal(Bench(tmp_path / "data"))
    bench = console.bench
    code = code_of(console.type("relay test"))
    shown = console.type("relay test " + code)
    assert shown == "error relay: is not tested now, because of: start\n"
    console.passes(61)
    expires_utc_s = bench.utc_s + 60
    bench.order("d-1", 1, "relay", state="disconnected", expires_utc_s=expires_utc_s)
    code = code_of(console.type("relay test"))
    shown = console.type("relay test " + code)
    assert shown == "error relay: is not tested now, because of: order\n"
    assert "open(order)" in console.type("relay")
    assert [r["reason"] for r in bench.records("control")] == ["order"]
    bench.meter.journal.close()


def test_a_test_finds_a_welded_contact(tmp_path):
    console = settled(tmp_path)
    console.bench.contact.welded = True
    code = code_of(console.type("relay test"))
    assert console.type("relay test " + code) == "the contact did not follow, event 253\n"
    assert console.type("relay").endswith("the contact does not follow, event 253\n")
    assert not console.bench.records("event", 302)
    console.bench.meter.journal.close()
