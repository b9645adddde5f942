"""The commands of the serial console. Loaded when somebody types.

A command that cannot be done answers `error FIELD: WHY` and changes nothing. Those that change what
is charged need the installer's code (`unlock`). Tests: host_tests/unit/test_console.py.
"""

from firmware.console import text
from firmware.core import civil
from firmware.core.digest import same
from firmware.core.records import CALIBRATED
from firmware.core.sealing import CODE_DIGITS, installer_code
from firmware.metering import calibrating
from firmware.metering.calibrating import CalibrationError
from firmware.metering.calibration import RANGE, RANGES_MV


class CommandError(Exception):
    """A line that is refused: `field` is the part at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__(field + ": " + why)


async def run(console, line):
    """Does what a line says and answers on the console."""
    words = line.split()
    if not words:
        return
    try:
        command = COMMANDS.get(words[0])
        if command is None:
            names = ", ".join(sorted(COMMANDS))
            raise CommandError("command", "must be one of " + names)
        await command[0](console, words[1:])
    except (CommandError, CalibrationError) as error:
        console.say("error %s" % error)
    except MemoryError:
        console.say("error memory: not enough now, try again")


def _no_more(words):
    if words:
        raise CommandError("command", "takes nothing behind it")


async def _help(console, words):
    _no_more(words)
    for name in sorted(COMMANDS):
        console.say("%-28s %s" % (name + COMMANDS[name][1], COMMANDS[name][2]))


async def _status(console, words):
    _no_more(words)
    console.say(console.meter.status_line(console.uplink.connected, console.uplink.waiting()))


async def _explain(console, words):
    console.free()
    from firmware.console import explaining

    await explaining.explain(console, words)


async def _bill(console, words):
    console.free()
    from firmware.console import explaining

    await explaining.bill(console, words)


async def _raw(console, words):
    _no_more(words)
    sensor, energy = console.sensor, console.meter.energy
    console.say(
        "raw bus=%d (%s V) shunt=%d (%s mV of %d) at the sensor"
        % (
            sensor.bus_raw,
            text.fixed(sensor.bus_raw * 4, 1000, 3),
            sensor.shunt_raw,
            text.fixed(sensor.shunt_raw * 10, 1000, 2),
            RANGES_MV[RANGE],
        )
    )
    console.say(
        "calibrated V=%s A=%s W=%s%s"
        % (
            text.fixed(energy.voltage_mv, 1000, 3),
            text.fixed(energy.current_ua, 1000000, 4),
            text.fixed(energy.power_mw, 1000, 3),
            " reversed" if energy.reversed else "",
        )
    )


async def _emergency(console, words):
    _no_more(words)
    if not console.meter.take_emergency("console"):
        raise CommandError("emergency", "is not offered now")
    granted_mp = console.meter.account.emergency_mp
    console.say("emergency credit of %s is in use" % text.rupees(granted_mp))


async def _unlock(console, words):
    if len(words) != 1 or len(words[0]) != CODE_DIGITS or not words[0].isdigit():
        raise CommandError("code", "must be %d digits" % CODE_DIGITS)
    wait_s = console.code_wait_s()
    if wait_s:
        raise CommandError("code", "none is taken for %d s" % wait_s)
    given = words[0].encode()
    right = False
    for key in console.meter.credentials.keys:
        right |= same(installer_code(key).encode(), given)
    console.judged(right)
    if not right:
        raise CommandError("code", "is wrong, the next is taken in %d s" % console.code_wait_s())
    console.say("unlocked for 10 min, `lock` ends it")


async def _lock(console, words):
    _no_more(words)
    console.lock()
    console.say("locked")


async def _calibrate(console, words):
    what = words[0] if words else ""
    if what == "show":
        _no_more(words[1:])
        _show(console)
        return
    if what not in ("zero", "voltage", "current", "undo"):
        raise CommandError("calibrate", "must be zero, voltage V, current A, undo or show")
    reference = 0
    if what in ("voltage", "current"):
        reference = _thousandths(what, words[1:])
    else:
        _no_more(words[1:])
    if not console.unlocked():
        raise CommandError("calibrate", "is locked: `unlock CODE` first")
    calibration = console.meter.calibration
    if what == "undo":
        if not calibration.number:
            raise CommandError("undo", "there is no calibration")
        values = calibration.before
    else:
        values = _judge(console, what, await _measure(console), reference)
    fields = calibrating.fields(calibration, what, values)
    if not console.meter.attempt(console.meter.append, "calibration", fields):
        raise CommandError("flash", "refuses writes, nothing was changed")
    _show(console)


async def _commission(console, words):
    _no_more(words)
    if not console.unlocked():
        raise CommandError("commission", "is locked: `unlock CODE` first")
    if not console.meter.attempt(console.meter.control.commission):
        raise CommandError("flash", "refuses writes, nothing was changed")
    console.say("the meter is in service")


async def _relay(console, words):
    from firmware.console import contact

    await contact.relay(console, words)


# name: (lowest, highest) in thousandths of its unit
_REFERENCES = {"voltage": (1000, 400000), "current": (100, 120000)}


def _thousandths(name, words):
    """A decimal number of at most 3 decimals, in thousandths, inside its range."""
    low, high = _REFERENCES[name]
    whole, _dot, part = (words[0] if len(words) == 1 else "").partition(".")
    if whole.isdigit() and len(whole) <= 6 and len(part) <= 3 and (part.isdigit() or not part):
        value = int(whole) * 1000 + int((part + "000")[:3])
        if low <= value <= high:
            return value
    raise CommandError(
        name,
        "the reference must be %s to %s with at most 3 decimals"
        % (text.fixed(low, 1000, 1), text.fixed(high, 1000, 1)),
    )


async def _measure(console):
    """Takes the next samples as they come; the metering goes on."""
    console.say("measuring %d samples" % calibrating.SAMPLES)
    measured = calibrating.Measurement()
    console.meter.measurement = measured
    try:
        for _ in range(2 * calibrating.SAMPLES):
            if measured.count == calibrating.SAMPLES:
                return measured
            await console.pause()
    finally:
        console.meter.measurement = None
    raise CommandError("sensor", "gave %d good samples" % measured.count)


def _judge(console, what, measured, reference):
    meter = console.meter
    config, values = meter.config, meter.calibration.values
    if what == "zero":
        return calibrating.zero(measured, values, RANGE)
    if what == "voltage":
        return calibrating.voltage(measured, values, reference, config.voltage_ratio_x1000)
    return calibrating.current(
        measured, values, reference, config.current_ratio_x1000, meter.calibration.shunt_uohm, RANGE
    )


def _show(console):
    calibration = console.meter.calibration
    if not calibration.number:
        console.say("not calibrated")
        return
    when = "at an unknown time"
    if calibration.utc_s:
        when = "of " + civil.text(calibration.utc_s, console.meter.config.utc_offset_s)
    console.say("calibration %d %s" % (calibration.number, when))
    for name, value in zip(CALIBRATED, calibration.values):
        console.say("  %s %d" % (name, value))


COMMANDS = {
    "help": (_help, "", "shows this"),
    "status": (_status, "", "the line that comes once a minute"),
    "explain": (_explain, " [month | FROM [TO]]", "why the balance moved, today or since a date"),
    "bill": (_bill, "", "today, the month so far, and what is to be expected"),
    "emergency": (_emergency, "", "takes the emergency credit that is offered"),
    "commission": (_commission, "", "puts a new meter into service"),
    "relay": (_relay, " [test [CODE]]", "the contact; test: opens it for 5 s, asks before"),
    "raw": (_raw, "", "what the sensor reads, before and after calibration"),
    "unlock": (_unlock, " CODE", "allows calibration for 10 minutes"),
    "lock": (_lock, "", "ends that"),
    "calibrate": (_calibrate, " zero | voltage V | current A", "also: calibrate undo, show"),
}
