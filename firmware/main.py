"""Wires the meter: board, configuration, journal, link, and the only endless loop.

`/main.py` on the flash calls `run()`. Everything hardware comes from `board.py` (the contract is
boards/README.md); the rules are in meter.py and below. Nothing here decides about money.
"""

import asyncio
import gc
import os
import select
import sys
import time

from firmware import VERSION
from firmware.core import seldom, trace
from firmware.core.config import ConfigError
from firmware.core.shim import const
from firmware.credit.tariff import TariffError
from firmware.link.codec import CodecError
from firmware.metering.ina219 import INA219
from firmware.metering.pulse import ON_MS
from firmware.metering.sampler import Sampler
from firmware.relay.driver import PULSE_MS
from firmware.storage import faults
from firmware.storage.errors import StorageError

_WATCHDOG_MS = const(8000)
_BEEP_MS = const(100)  # and as long a pause
# A person at the prompt, or mpremote, gets this long before the meter restarts by itself.
_SERVICE_MS = const(600000)
# A meter that cannot start tries again after so long; until then a person can look into it.
_START_AGAIN_S = const(60)
# An exception so soon after the start would be met again at once: restarts that each write records
# must not wear the flash, nor fill the journal.
_EARLY_S = const(600)
_PAUSE_MAX_S = const(300)  # nothing is metered meanwhile
# A link that fails by itself is begun anew after so long, doubled each time.
_LINK_AGAIN_MIN_S = const(10)
_LINK_AGAIN_MAX_S = const(3600)
# Less than what is free, else only a full heap is collected, which leaves it in small pieces. With
# 16 kB two days left a piece of 25 kB (host_tests/vm/test_heap.py); with 4 kB the meter spent more
# time on collections than on everything else.
_COLLECT_EVERY_BYTES = const(16384)


class Wires:
    """What connects the parts of a running meter."""

    def __init__(self, board):
        self._board = board
        self.operating = asyncio.Event()  # the relay has begun to move
        self.pulsing = asyncio.Event()  # pulses are due
        self.relay = None
        self.meter = None
        self.uplink = None

    def end_pulse(self):
        """Ends an operation of the relay, in its time, that nobody else will end."""
        if self.relay.busy:
            time.sleep_ms(PULSE_MS)
            self.relay.finish()

    def changed(self):
        """There is a new record."""
        if self.uplink is not None:
            self.uplink.wake()

    def set_time(self, utc_ms, round_trip_ms):
        """Sets the time, as Meter.set_time, and that of the board's clock chip."""
        if self.meter.set_time(utc_ms, round_trip_ms):
            try:
                self._board.rtc.set_utc_s(utc_ms // 1000)
            except OSError:
                self.meter.log("the clock chip does not answer, the time was not written to it")
            self._board.assume_utc_s(self.meter.least_utc_s())

    def random_s(self, most_s):
        """0 to `most_s`, each as likely."""
        return int.from_bytes(os.urandom(3), "big") % (most_s + 1)

    def forget_fault(self):
        """The fault before this boot has its record."""
        faults.forget(self._board.nvs)


def run():
    """Runs the meter for ever. Ctrl-C ends it and leaves the prompt; an unhandled exception is
    shown, kept over the restart, and restarts the chip: the supply stays as it is."""
    import board as board_module  # flashed beside; on the host there is none

    board = board_module.make()
    print(
        "Bijli meter %s on %s, %s, id %s, reset cause %s"
        % (
            VERSION,
            board.name,
            sys.version,
            "".join("%02x" % byte for byte in board.unique_id),
            board.reset_cause,
        )
    )
    try:
        wires = _begin(board)
    except (ConfigError, TariffError, CodecError) as error:
        print("no meter: %s" % error)
        return
    except Exception as error:
        _keep_fault(board, error, 0, 0)
        print("no start, tries again in %d s" % _START_AGAIN_S)
        time.sleep(_START_AGAIN_S)
        board.reset()
    meter = wires.meter
    gc.threshold(_COLLECT_EVERY_BYTES)
    watchdog = board.watchdog(max(_WATCHDOG_MS, 3 * meter.config.sample_period_ms))
    try:
        asyncio.run(_run(board, wires, watchdog))
    except KeyboardInterrupt:
        wires.end_pulse()
        board.watchdog(_SERVICE_MS)
        meter.stop()
        meter.log("stopped at the console, restarts by itself after 10 minutes")
        raise
    except Exception as error:
        wires.end_pulse()
        up_s = meter.clock.up_s()
        _keep_fault(board, error, up_s, meter.clock.utc_s() or 0)
        meter.stop()
        if up_s < _EARLY_S:
            board.watchdog(_SERVICE_MS)
            pause_s = _pause_s(board.nvs, meter.journal.boot)
            print("failed soon after the start, starts again in %d s" % pause_s)
            time.sleep(pause_s)
        board.reset()


def _begin(board):
    from firmware import begin

    wires = Wires(board)
    try:
        begin.begin(board, wires)
    finally:
        seldom.drop("firmware.begin")
    return wires


def _pause_s(nvs, boot):
    """How long to wait after an early fault: doubled while each boot ends in one."""
    times = 0
    try:
        if nvs.get_i32("early_boot") == boot - 1:
            times = min(nvs.get_i32("early") + 1, 16)
    except OSError:  # the first one
        pass
    nvs.set_i32("early", times)
    nvs.set_i32("early_boot", boot)
    nvs.commit()
    return min(_PAUSE_MAX_S, 1 << times)


def _keep_fault(board, error, up_s, utc_s):
    """Shows an exception and keeps it over the restart."""
    kind, place = _describe(error)
    try:
        faults.keep(board.nvs, kind, place, up_s, utc_s)
    except OSError as refused:
        print("the fault cannot be kept, errno %s" % refused.errno)


def _describe(error):
    """(name of the type, `file:line`) of an exception, which is shown."""
    try:
        shown = trace.text(error)
        print(shown)
        return type(error).__name__, trace.place(shown)
    except MemoryError:
        sys.print_exception(error)
        return type(error).__name__, "unknown"


async def _run(board, wires, watchdog):
    sensor = INA219(board.i2c, board.ina219_address, board.shunt_uohm)
    meter, uplink = wires.meter, wires.uplink
    tasks = [
        _sample(board, meter, sensor, uplink, watchdog),
        _finish_operations(meter, wires.operating),
        _keep_linked(meter, uplink),
    ]
    if meter.pulse is not None:
        tasks.append(_give_pulses(board.pulse_led, meter.pulse, wires.pulsing))
    await asyncio.gather(*tasks)


async def _keep_linked(meter, uplink):
    """Runs the link; one that fails is begun anew, later each time, and the sampling goes on."""
    pause_s = _LINK_AGAIN_MIN_S
    while True:
        began_s = meter.clock.up_s()
        try:
            await uplink.run()
        except StorageError as error:
            meter.storage_failed(error)
        except Exception as error:
            kind, place = _describe(error)
            meter.attempt(meter.fault, kind, place, meter.clock.up_s(), meter.clock.utc_s() or 0)
        gc.collect()
        if meter.clock.up_s() - began_s > _LINK_AGAIN_MAX_S:
            pause_s = _LINK_AGAIN_MIN_S
        await asyncio.sleep(pause_s)
        pause_s = min(_LINK_AGAIN_MAX_S, 2 * pause_s)


async def _give_pulses(pin, pulse, pulsing):
    """Shows the pulses that are due, one behind the other."""
    while True:
        await pulsing.wait()
        pulsing.clear()
        while pulse.due:
            pulse.due -= 1
            pin.value(1)
            await asyncio.sleep_ms(ON_MS)
            pin.value(0)
            await asyncio.sleep_ms(ON_MS)


async def _beep(pin, times):
    """Sounds the buzzer."""
    for _ in range(times):
        pin.value(1)
        await asyncio.sleep_ms(_BEEP_MS)
        pin.value(0)
        await asyncio.sleep_ms(_BEEP_MS)


async def _finish_operations(meter, operating):
    """Ends each operation of the relay in its time."""
    while True:
        await operating.wait()
        operating.clear()
        await asyncio.sleep_ms(PULSE_MS)
        if not operating.is_set():  # else another command came: it gets its full time
            meter.finish_operation()


async def _serve_console(meter, sensor, uplink, poller):
    """Serves a person who types at the serial port; the code for that is there only meanwhile."""
    meter.drop_words()
    gc.collect()
    from firmware.console.terminal import Terminal

    try:
        await Terminal(meter, sensor, uplink, sys.stdout.write).serve(poller, sys.stdin.buffer)
    finally:
        for name in (
            "console.terminal",
            "console.commands",
            "console.contact",
            "console.explaining",
            "console.statements",
            "credit.statement",
            "metering.calibrating",
        ):
            seldom.drop("firmware." + name)


async def _sample(board, meter, sensor, uplink, watchdog):
    """Reads the sensor and applies the rules; never waits for anybody."""
    sampler = Sampler(sensor, meter)
    poller = select.poll()
    poller.register(sys.stdin, select.POLLIN)
    person = None  # the task that serves who types at the console
    period_ms = meter.config.sample_period_ms
    before = due = time.ticks_ms()
    minute = None
    lamp = 0
    beeping = None  # the task that sounds the buzzer
    held = 0  # looks in a row at which the button was pressed
    while True:
        now = time.ticks_ms()
        dt_ms = time.ticks_diff(now, before)
        before = now
        sampler.step(dt_ms)
        meter.tick(dt_ms)
        watchdog.feed()
        if board.status_led:
            lamp = meter.warnings.lamp(lamp)
            board.status_led.value(lamp)
        if beeping is not None and beeping.done():
            beeping = None  # as below
        if board.buzzer and meter.warnings.beeps and beeping is None:
            beeps = meter.warnings.take_beeps(meter.clock.utc_s())
            if beeps:
                beeping = asyncio.create_task(_beep(board.buzzer, beeps))
        held = held + 1 if board.button and board.button.value() else 0
        if held == 2:
            meter.warnings.beeps = 0  # heard
            meter.take_emergency("button")
            meter.log(meter.status_line(uplink.connected, uplink.waiting()))
        if person is not None and person.done():
            person = None  # a finished task holds on to what it ran
        for _ready in poller.ipoll(0):
            if person is None:
                person = asyncio.create_task(_serve_console(meter, sensor, uplink, poller))
        this_minute = (meter.clock.utc_s() or meter.clock.up_s()) // 60
        if minute is None:
            minute = this_minute  # nothing measured yet
        elif this_minute != minute:
            minute = this_minute
            meter.log(meter.status_line(uplink.connected, uplink.waiting()))
            meter.drop_words()
            gc.collect()
            meter.account.settle()
        due = time.ticks_add(due, period_ms)
        wait_ms = time.ticks_diff(due, time.ticks_ms())
        if wait_ms < 0:
            due = time.ticks_ms()
            wait_ms = 0
        await asyncio.sleep_ms(wait_ms)
