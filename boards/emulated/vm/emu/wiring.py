"""How the emulated board is wired, and what the world may do to it.

Made once, when the interpreter starts (`import emu.wiring`, before the host's folder is
unmounted: a recorded load opens its file here). `machine`, `network` and `socket` reach the
models through this module; pin numbers are those of boards/esp32_devkit.

`set` (control command) turns the knobs, all of them or none; `look` tells what a person with a
multimeter and a good eye would see, and the exact energy. Knobs outlive resets and power cuts,
except `load`, which outlives resets only: the supervisor's settings say what is connected.

Settings read here and in the device modules, each with a default:
`seed` (0), `load` ("appliances:default", see emu.loads), `utc_offset_min` (330), `csv_start_ms`
(any instant of the day on which a recording starts; the first power-up's), `voltage_ratio_x1000`
(10,000) and `current_ratio_x1000` (12,500), `shunt_uohm` (100,000), `pulse_imp_per_kwh` (1,000),
`relay_kind` ("latching" or "single"), `aux_contact` (true; false: the board has none),
`chip` (errors of the INA219, see emu.ina219), `rtc_battery` (true), `rom_partition` (true; false: a
chip built without one), `rtc_set` (false; true: the DS3231 was set before its first power-up),
`unique_id` (12 hexadecimal digits), `wifi_ssid` and `wifi_key` (none: any are taken), `names`
(address by name, what the network's DNS server knows; nothing), `reset_cause`, `kept`.

Knob `sensor`: "absent" does not answer, "hang" holds the bus, "stuck" converts no more, "reset" has
lost its supply for a moment, "overflow" has OVF set, "wild" gives results beyond its ranges.
"""

import errno
import gc

import emu
from emu import clock, control
from emu.circuit import CONTACT_FAULTS, Circuit
from emu.ds3231 import ADDRESS as DS3231_ADDRESS
from emu.ds3231 import DS3231
from emu.ds3231 import SET as DS3231_SET
from emu.ina219 import BUS_VOLTAGE, INA219, OVF, SHUNT_VOLTAGE
from emu.loads import load_from

SDA, SCL = 21, 22
RELAY_CLOSE, RELAY_OPEN, AUX_CONTACT = 26, 27, 13
PULSE_LED, STATUS_LED, BUZZER = 4, 2, 25
BUTTON, COVER, MAGNET = 33, 32, 14
INA219_ADDRESS = 0x40

SENSOR_STATES = ("ok", "absent", "hang", "stuck", "reset", "overflow", "wild")
SWITCHES = {"cover": COVER, "magnet": MAGNET, "button": BUTTON}
WORDS = {
    "cover": ("closed", "open"),
    "magnet": ("absent", "present"),
    "button": ("released", "pressed"),
}

# A TCP connection outlives a shorter loss of Wi-Fi, as lwIP goes on retransmitting for a while.
SHORT_OUTAGE_MS = 60_000

settings = emu.settings
kept = settings.get("kept") or {}


class Line:
    """One pin's wire: its level, who drives it, who looks at it.

    `sink()` is called when an output has changed, `source()` gives the level of an input that
    the world drives; `rises` counts rising edges.
    """

    def __init__(self):
        self.level = 0
        self.rises = 0
        self.sink = None
        self.source = None
        self.on_change = None

    def drive(self, level):
        """Sets the level, by the chip's output or by the world."""
        if level != self.level:
            self.level = level
            self.rises += level
            if self.sink:
                self.sink()
            if self.on_change:
                self.on_change(level)

    def read(self):
        """The level now, 0 or 1."""
        return self.source() if self.source else self.level


class Bus:
    """The I2C wires between SDA and SCL; `chips` maps the addresses that acknowledge now."""

    def __init__(self):
        self.chips = {}
        self.hung = False  # something holds the wires low

    def fail(self):
        """OSError as the ESP32's I2C raises it where nobody acknowledges."""
        raise OSError(errno.ETIMEDOUT if self.hung else errno.ENODEV)


class Spoilt:
    """A chip whose registers `numbers` are read with the bits of `mask` set."""

    def __init__(self, chip, numbers, mask):
        self._chip = chip
        self._numbers = numbers
        self._mask = mask >> 8, mask & 0xFF
        self.write = chip.write

    def read_into(self, buf):
        """As the chip's."""
        self.register_into(self._chip.pointer, buf)

    def register_into(self, number, buf):
        """As the chip's, spoilt."""
        self._chip.register_into(number, buf)
        if number in self._numbers:
            for i in range(len(buf)):
                buf[i] |= self._mask[i & 1]


class Air:
    """The access point: there or not, and since when."""

    def __init__(self):
        self.there = True
        self.since_ms = 0
        self.silent = 0  # questions for a name that nobody will answer
        self.outage = 0  # grows with every loss too long for a connection to outlive it

    def turn(self, there):
        """Switches it on or off."""
        now_ms = clock.now_ms()
        if there != self.there:
            if there and now_ms - self.since_ms > SHORT_OUTAGE_MS:
                self.outage += 1
            self.there = there
            self.since_ms = now_ms


lines = {}
bus = Bus()
air = Air()


def line(number):
    """The wire at a pin, made when first asked for."""
    if number not in lines:
        lines[number] = Line()
    return lines[number]


def _make_load(spec):
    return load_from(
        spec,
        settings.get("seed", 0),
        settings.get("utc_offset_min", 330),
        _csv_start_ms(),
    )


def _csv_start_ms():
    """Any instant of the day on which a recording starts: set, or that of the first power-up."""
    start_ms = settings.get("csv_start_ms", kept.get("csv_start_ms"))
    if start_ms is None:
        start_ms = kept["csv_start_ms"] = clock.now_ms()
        control.keep("csv_start_ms", start_ms, "power")
    return start_ms


def _keep_contact(closed):
    control.keep("contact", closed, "power" if relay_kind == "latching" else "reset")
    _aux.drive(int(circuit.contact))


def _coils_changed():
    close, open_ = line(RELAY_CLOSE).level, line(RELAY_OPEN).level
    control.keep("coils", [close, open_], "reset")
    clock.cancel(_contact_moves)
    moves_ms = circuit.set_coils(clock.now_ms(), close, open_)
    if moves_ms is not None:
        # On time, not when somebody next looks: the contact must be kept before a power cut.
        clock.at(moves_ms, _contact_moves)


def _contact_moves():
    circuit.settle(clock.now_ms())


def _aux_level():
    circuit.settle(clock.now_ms())
    return int(circuit.contact)


def _keep_clock(values):
    control.keep("ds3231", values, "power" if knobs["rtc_battery"] else "reset")


def _apply_sensor(state):
    if state == "reset" or (INA219_ADDRESS not in bus.chips and not bus.hung):
        ina219.power_up()  # it had no supply for a moment
    ina219.stuck = state == "stuck"
    bus.hung = state == "hang"
    bus.chips.clear()
    if state != "hang":
        bus.chips[DS3231_ADDRESS] = rtc
        if state == "overflow":
            bus.chips[INA219_ADDRESS] = Spoilt(ina219, (BUS_VOLTAGE,), OVF)
        elif state == "wild":
            bus.chips[INA219_ADDRESS] = Spoilt(ina219, (SHUNT_VOLTAGE, BUS_VOLTAGE), 0x7FF8)
        elif state != "absent":
            bus.chips[INA219_ADDRESS] = ina219


knobs = {
    "wifi": True,
    "dns": True,
    "sensor": "ok",
    "contact": "ok",
    "cover": False,
    "magnet": False,
    "button": False,
    "bypass": False,
    "swapped": False,
    "rtc_battery": settings.get("rtc_battery", True),
    "load": kept.get("load") or settings.get("load") or "appliances:default",
}


def _truth(name, value):
    no, yes = WORDS.get(name, ("off", "on"))
    if value in (True, "on", yes):
        return True
    if value in (False, "off", no):
        return False
    raise ValueError("%s: must be true or false (or %s, %s), not %s" % (name, yes, no, value))


def _choice(name, value, allowed):
    if value not in allowed:
        raise ValueError(name + ": must be one of " + ", ".join(allowed) + ", not " + str(value))
    return value


def set_knobs(fields):
    """Command `set`: checks every knob, then turns them; answers with all of them."""
    checked = {}
    load = None
    for name, value in fields.items():
        if name not in knobs:
            raise ValueError(name + ": no such knob, known: " + ", ".join(sorted(knobs)))
        if name == "sensor":
            checked[name] = _choice(name, value, SENSOR_STATES)
        elif name == "contact":
            checked[name] = _choice(name, value, CONTACT_FAULTS)
        elif name == "load":
            load = _make_load(value)
            checked[name] = value
        else:
            checked[name] = _truth(name, value)
    now_ms = clock.now_ms()
    for name, value in checked.items():
        knobs[name] = value
        if name in SWITCHES:
            line(SWITCHES[name]).drive(int(value))
        elif name == "wifi":
            air.turn(value)
        elif name == "sensor":
            _apply_sensor(value)
            if value == "reset":
                knobs[name] = "ok"  # over as soon as it has happened
        elif name == "contact":
            circuit.set_contact_fault(now_ms, value)
            _aux.drive(int(circuit.contact))
        elif name == "bypass":
            circuit.set_bypass(now_ms, value)
        elif name == "swapped":
            circuit.set_swapped(now_ms, value)
        elif name == "load":
            circuit.set_load(now_ms, load)
            control.keep("load", value, "reset")
        elif name == "rtc_battery":
            _keep_clock(rtc.kept())
    control.keep("knobs", {k: v for k, v in knobs.items() if k != "load"}, "power")
    return dict(knobs)


def look(fields):
    """Command `look`: voltage, current, contact, lamps, pulses and the exact energy so far.

    `energy_mj` (and `energy_rest_nj`) has been delivered to the load since `since_ms`, the
    interpreter's start; all at primary scale.
    """
    now_ms = clock.now_ms()
    energy_mj, energy_rest_nj = circuit.energy_mj(now_ms)
    seen = {
        "now_ms": now_ms,
        "since_ms": circuit.start_ms,
        "voltage_mv": circuit.voltage_mv,
        "current_ma": circuit.current_ma,
        "power_mw": circuit.voltage_mv * circuit.current_ma // 1000,
        "energy_mj": energy_mj,
        "energy_rest_nj": energy_rest_nj,
        "contact": circuit.contact,
        "relay_kind": relay_kind,
        "relay_close": line(RELAY_CLOSE).level,
        "relay_open": line(RELAY_OPEN).level,
        "pulse_led": line(PULSE_LED).level,
        "status_led": line(STATUS_LED).level,
        "buzzer": line(BUZZER).level,
        "pulses": line(PULSE_LED).rises,
        "beeps": line(BUZZER).rises,
        "held_values": getattr(circuit.load, "held", 0),
    }
    seen["knobs"] = dict(knobs)
    return seen


def heap(fields):
    """Command `heap`: bytes free after a collection, and the longest piece of them."""
    gc.collect()
    free = gc.mem_free()
    low, high = 0, free
    while high - low > 64:
        middle = (low + high) // 2
        try:
            bytearray(middle)
            low = middle
        except MemoryError:
            high = middle
    gc.collect()
    return {"free": free, "longest": low}


def step_rtc(fields):
    """Command `step_rtc`: the clock chip's time jumps by `seconds`."""
    rtc.step(int(fields["seconds"]))
    return {}


def energy(fields=None):
    """Command `energy`: the exact energy of `look` alone, in a line that costs little heap."""
    energy_mj, energy_rest_nj = circuit.energy_mj(clock.now_ms())
    return {"energy_mj": energy_mj, "energy_rest_nj": energy_rest_nj}


relay_kind = settings.get("relay_kind", "latching")
circuit = Circuit(
    _make_load(knobs["load"]),
    clock.now_ms(),
    settings.get("voltage_ratio_x1000", 10_000),
    settings.get("current_ratio_x1000", 12_500),
    settings.get("shunt_uohm", 100_000),
    relay_kind,
    bool(kept.get("contact", False)),
    _keep_contact,
)
ina219 = INA219(
    circuit,
    clock,
    settings.get("chip"),
    settings.get("seed", 0),
    kept.get("ina219"),
    lambda values: control.keep("ina219", values, "reset"),
)
circuit.sampler = ina219
_clock_kept = kept.get("ds3231")
if _clock_kept is None and settings.get("rtc_set") and knobs["rtc_battery"]:
    _clock_kept = DS3231_SET
rtc = DS3231(clock.now_ms, _clock_kept, _keep_clock)
bus.chips[INA219_ADDRESS] = ina219
bus.chips[DS3231_ADDRESS] = rtc
_aux = line(AUX_CONTACT)
_aux.level = int(circuit.contact)
_aux.source = _aux_level
line(RELAY_CLOSE).sink = line(RELAY_OPEN).sink = _coils_changed
if settings.get("reset_cause") == "soft":
    # A soft reset leaves the pins driven; every other one lets them go.
    line(RELAY_CLOSE).level, line(RELAY_OPEN).level = kept.get("coils", (0, 0))
_coils_changed()
set_knobs({name: v for name, v in (kept.get("knobs") or {}).items() if name in knobs})
clock.in_reach = lambda: air.there and not air.silent
control.on("set", set_knobs)
control.on("look", look)
control.on("heap", heap)
control.on("step_rtc", step_rtc)
control.on("energy", energy)
control.last_words = energy
