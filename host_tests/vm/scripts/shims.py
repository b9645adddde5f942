"""Runs on MicroPython: machine, network, esp32 and the emulated board.py. argv: VM folder, folder
of the project."""

import errno
import sys

sys.path.insert(0, sys.argv[1])
sys.path.append(sys.argv[2])

import emu

emu.settings.update(
    {
        "seed": 3,
        "load": "constant:230V,10A",
        "relay_kind": "latching",
        "reset_cause": "watchdog",
        "unique_id": "246f28aabbcc",
        "wifi_ssid": "home",
        "wifi_key": "secret",
        "kept": {"contact": True, "nvs:bijli": {"old": 5, "blob": "0102"}},
    }
)

import board
import esp32
import machine
import network
from emu import clock, control, wiring


def check(what, got, expected):
    if got != expected:
        raise ValueError("%s: %r is not %r" % (what, got, expected))


def fails(what, kind, fn, *args):
    """Checks that fn raises; returns the error's first argument."""
    try:
        fn(*args)
    except kind as error:
        return error.args[0] if error.args else None
    raise ValueError(what + ": no error")


def set_knobs(**fields):
    return control.commands["set"](fields)


def look():
    return control.commands["look"]({})


def wait_ms(ms):
    clock.idle_until(clock.now_ms() + ms)


def test_board():
    meter = board.make()
    check("cause", (meter.reset_cause, machine.reset_cause()), ("watchdog", machine.WDT_RESET))
    check("contact is left alone", look()["contact"], True)
    check("aux", meter.aux_contact.value(), 1)
    check("id", meter.unique_id, bytes.fromhex("246f28aabbcc"))
    check("scan", meter.i2c.scan(), [0x40, 0x68])
    check("rtc", meter.rtc.utc_s(), None)
    meter.rtc.set_utc_s(1_800_000_000)
    wait_ms(90_000)
    check("rtc", meter.rtc.utc_s(), 1_800_000_090)
    check("rtc is kept", control.kept["ds3231"][1], "power")
    set_knobs(rtc_battery=False)
    check("rtc is not kept", control.kept["ds3231"][1], "reset")

    meter.relay_open.value(1)
    wait_ms(59)
    check("pulse", look()["relay_open"], 1)
    wait_ms(2)
    check("the pulse has ended by itself", look()["relay_open"], 0)
    check("opened", (look()["contact"], meter.aux_contact.value()), (False, 0))
    check("contact kept", control.kept["contact"], (False, "power"))
    meter.relay_close.value(1)
    wait_ms(5)
    meter.relay_close.value(0)
    check("a pulse was ended", (look()["relay_close"], look()["contact"]), (0, False))
    meter.relay_close.value(1)
    wait_ms(40)
    meter.relay_close.value(1)
    wait_ms(40)
    check("and begun anew", look()["relay_close"], 1)
    wait_ms(21)
    check("and has ended", (look()["relay_close"], look()["contact"]), (0, True))
    meter.relay_open.value(1)
    wait_ms(100)
    set_knobs(contact="stuck_open")
    meter.relay_close.value(1)
    wait_ms(100)
    check("stuck", (look()["contact"], meter.aux_contact.value()), (False, 0))
    set_knobs(contact="ok")
    check("repaired", meter.aux_contact.value(), 1)
    before = look()
    wait_ms(3_600_000)
    after = look()
    check("energy", after["energy_mj"] - before["energy_mj"], 2_300 * 3_600 * 1000)
    check("power", (after["power_mw"], after["voltage_mv"], after["current_ma"]),
          (2_300_000, 230_000, 10_000))  # fmt: skip
    for _ in range(5):
        meter.pulse_led.on()
        meter.pulse_led.off()
    check("pulses", look()["pulses"], 5)


def test_inputs():
    edges = []
    cover = machine.Pin(32, machine.Pin.IN)
    cover.irq(lambda pin: edges.append(pin.value()), machine.Pin.IRQ_RISING)
    set_knobs(cover=True)
    check("cover", cover.value(), 1)
    set_knobs(cover="off")
    check("edges", edges, [1])
    check("invalid", fails("pin 20", ValueError, machine.Pin, 20), "invalid pin")
    fails("pin 34 cannot drive", ValueError, machine.Pin, 34, machine.Pin.OUT)


def test_sensor_faults():
    bus = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21))
    elsewhere = machine.I2C(1, scl=machine.Pin(18), sda=machine.Pin(19))
    check("other pins", elsewhere.scan(), [])
    bus.writeto_mem(0x40, 5, b"\x10\x00")
    bus.writeto(0x40, b"\x00\x21\x9f")
    wait_ms(10)
    check("config", bus.readfrom_mem(0x40, 0, 2), b"\x21\x9f")
    bus.writeto(0x40, b"\x02", False)
    bus_mv = int.from_bytes(bus.readfrom(0x40, 2), "big") >> 3 << 2
    check("bus", bus_mv, 23_000)
    check("shunt", bus.readfrom_mem(0x40, 1, 2), (4000).to_bytes(2, "big"))  # 40 mV range: full
    check("registers kept", control.kept["ina219"], ([0x219F, 0x1000], "reset"))
    read = bus.readfrom_mem
    set_knobs(sensor="absent")
    check("absent", fails("absent", OSError, read, 0x40, 0, 2), errno.ENODEV)
    check("scan", bus.scan(), [0x68])
    set_knobs(sensor="hang")
    check("hang", fails("hang", OSError, read, 0x68, 0, 2), errno.ETIMEDOUT)
    set_knobs(sensor="ok")
    set_knobs(sensor="absent")
    set_knobs(sensor="ok")
    check("came back with reset values", read(0x40, 0, 2), b"\x39\x9f")
    bus.writeto_mem(0x40, 5, b"\x10\x00")
    check("reset is over at once", set_knobs(sensor="reset")["sensor"], "ok")
    check("lost", read(0x40, 5, 2), b"\x00\x00")


def test_knobs():
    before = dict(wiring.knobs)
    check("unknown", fails("unknown", ValueError, set_knobs_of, {"cover": 1, "x": 1})[:2], "x:")
    text = fails("choice", ValueError, set_knobs_of, {"cover": True, "contact": "loose"})
    check("choice", text, "contact: must be one of ok, welded, stuck_open, not loose")
    fails("load", ValueError, set_knobs_of, {"cover": True, "load": "nothing"})
    text = fails("truth", ValueError, set_knobs_of, {"cover": True, "wifi": "maybe"})
    check("truth", text, "wifi: must be true or false (or on, off), not maybe")
    text = fails("word", ValueError, set_knobs_of, {"cover": "present"})
    check("word", text, "cover: must be true or false (or open, closed), not present")
    check("nothing changed", wiring.knobs, before)
    set_knobs(load="constant:240V,5A")
    check("load", (look()["voltage_mv"], look()["current_ma"]), (240_000, 5_000))


def set_knobs_of(fields):
    return control.commands["set"](fields)


def test_watchdog_and_timer():
    wdt = machine.WDT(timeout=8_000)
    check("told", control.told[-1], ("watchdog", {"timeout_ms": 8_000}))
    for _ in range(10):
        wait_ms(7_999)
        wdt.feed()
    try:
        wait_ms(7_999)
        wait_ms(1)
    except control.WasReset as reset:
        check("bite", reset.args[0], "watchdog")
    else:
        raise ValueError("not bitten")
    ticks = []
    timer = machine.Timer(0)
    timer.init(period=100, mode=machine.Timer.PERIODIC, callback=ticks.append)
    wait_ms(1_000)
    timer.deinit()
    wait_ms(1_000)
    check("timer", len(ticks), 10)
    for call, cause in ((machine.reset, "hard"), (machine.soft_reset, "soft")):
        check(cause, fails(cause, control.WasReset, call), cause)


def test_rtc():
    rtc = machine.RTC()
    check("2000", rtc.datetime()[0], 2000)
    rtc.datetime((2026, 9, 21, 0, 23, 59, 58, 500_000))
    wait_ms(2_000)
    check("time", rtc.datetime(), (2026, 9, 22, 1, 0, 0, 0, 500_000))
    check("kept", control.kept["rtc_offset_ms"], (clock.rtc_offset_ms, "reset"))
    pwm = machine.PWM(machine.Pin(25), freq=2_000)
    check("buzzer", look()["buzzer"], 1)
    pwm.deinit()
    check("buzzer", look()["buzzer"], 0)


def test_nvs():
    nvs = esp32.NVS("bijli")
    check("old", nvs.get_i32("old"), 5)
    blob = bytearray(4)
    check("blob", (nvs.get_blob("blob", blob), bytes(blob)), (2, b"\x01\x02\x00\x00"))
    check("small", fails("small", OSError, nvs.get_blob, "blob", bytearray(1)), -0x110C)
    check("none", fails("none", OSError, nvs.get_i32, "new"), -0x1102)
    check("kind", fails("kind", OSError, nvs.get_i32, "blob"), -0x1102)
    nvs.set_i32("new", -0x80000000)
    check("seen before commit", esp32.NVS("bijli").get_i32("new"), -0x80000000)
    check("not yet kept", "nvs:bijli" in control.kept, False)
    nvs.set_blob("b2", b"xyz")
    nvs.erase_key("old")
    nvs.commit()
    values = {"new": -0x80000000, "blob": "0102", "b2": "78797a"}
    check("kept", control.kept["nvs:bijli"], (values, "power"))
    fails("range", OverflowError, nvs.set_i32, "new", 1 << 31)
    check("long", fails("long", OSError, nvs.set_i32, "x" * 16, 1), -0x1109)
    check("type", fails("type", OSError, nvs.set_i32, "b2", 1), -0x1103)
    check("erase", fails("erase", OSError, nvs.erase_key, "old"), -0x1102)


def test_rmt():
    pin = machine.Pin(18, machine.Pin.OUT)
    rmt = esp32.RMT(5, pin=pin, clock_div=80)
    fails("channel in use", ValueError, second_rmt, pin, 5, 80)
    fails("divider", ValueError, second_rmt, pin, 6, 256)
    fails("long", ValueError, rmt.write_pulses, (32768,))
    rmt.write_pulses((3000, 5000, 2000))
    levels = []
    for _ in range(12):
        wait_ms(1)
        levels.append(pin.value())
    check("levels", levels, [1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0])
    rmt.deinit()
    second_rmt(pin, 5, 80)


def second_rmt(pin, channel, clock_div):
    return esp32.RMT(channel, pin=pin, clock_div=clock_div)


def test_wlan():
    wlan = network.WLAN(network.STA_IF)
    fails("not active", OSError, wlan.connect, "home", "secret")
    wlan.active(True)
    check("idle", (wlan.status(), wlan.isconnected()), (network.STAT_IDLE, False))
    check("scan", wlan.scan()[0][0], b"home")
    wlan.config(reconnects=1)
    wlan.connect("home", "wrong")
    check("connecting", wlan.status(), network.STAT_CONNECTING)
    fails("twice", OSError, wlan.connect, "home", "secret")
    wait_ms(2 * network.ATTEMPT_MS)
    check("wrong key", wlan.status(), network.STAT_WRONG_PASSWORD)
    wlan.connect("hotel", "secret")
    wait_ms(60_000)
    check("no such", wlan.status(), network.STAT_NO_AP_FOUND)
    wlan.config(reconnects=-1)
    wlan.disconnect()
    wlan.connect("home", "secret")
    check("address", wlan.ifconfig()[0], "0.0.0.0")
    wait_ms(network.JOIN_MS - 1)
    check("joining", wlan.status(), network.STAT_CONNECTING)
    wait_ms(1)
    check("joined", (wlan.status(), wlan.isconnected()), (network.STAT_GOT_IP, True))
    check("address", wlan.ifconfig()[0], "127.0.0.1")
    check("mac", wlan.config("mac"), machine.unique_id())
    set_knobs(wifi=False)
    check("lost", (wlan.status(), wlan.isconnected()), (network.STAT_CONNECTING, False))
    wait_ms(3_600_000)
    set_knobs(wifi=True)
    wait_ms(network.JOIN_MS)
    check("joined again by itself", wlan.isconnected(), True)
    wlan.active(False)
    check("off", (wlan.status(), wlan.isconnected()), (network.STAT_IDLE, False))


test_board()
test_inputs()
test_sensor_faults()
test_knobs()
test_watchdog_and_timer()
test_rtc()
test_nvs()
test_rmt()
test_wlan()
print("OK")
