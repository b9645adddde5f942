"""Wires the meter: board, configuration, journal, link, and the only endless loop.

`/main.py` on the flash calls `run()`. Everything hardware comes from `/board.py` (the contract is
boards/README.md); the rules are in meter.py and below. Nothing here decides about money.
"""

import asyncio
import gc
import json
import os
import sys
import time

from firmware import VERSION
from firmware.core.errors import ConfigError
from firmware.core.shim import const, forget
from firmware.core.wallclock import WallClock
from firmware.credit.tariff import TariffError
from firmware.link.codec import CodecError
from firmware.link.uplink import Uplink
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.metering.ina219 import INA219, ConfigurationLost
from firmware.relay.driver import PULSE_MS, RelayDriver
from firmware.storage.journal import Journal

CONFIG_PATH = "/config.json"
DATA_FOLDER = "/data"
KEEP_FOLDER = "/keep"

_WATCHDOG_MS = const(8000)
# A person at the prompt, or mpremote, gets this long before the meter restarts by itself.
_SERVICE_MS = const(600000)
# A meter that cannot start tries again after so long; until then a person can look into it.
_START_AGAIN_S = const(60)
_VERIFY_EVERY = const(10)
# Less than what is free, else only a full heap is collected: with 16 kB the longest free piece a
# day later was 0.4 to 0.7 kB, with 4 kB 2 to 2.9 kB; without the collection each minute 1.6 kB.
_COLLECT_EVERY_BYTES = const(4096)

_NO_ANSWER = const(1)
_CONFIGURATION_LOST = const(2)
_OVERFLOW = const(3)


def load_config(path):
    """The configuration in a file; ConfigError also for a missing file or one that is not JSON."""
    try:
        with open(path) as file:
            values = json.load(file)
    except OSError as error:
        raise ConfigError(path, "cannot be read, errno %s" % error.errno)
    except (ValueError, MemoryError):
        raise ConfigError(path, "must be JSON")
    from firmware.core import config  # needed at the start only

    try:
        return config.values_of(values)
    finally:
        forget("firmware.core.config")


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
        config = load_config(CONFIG_PATH)
        meter, uplink, operating = _assemble(board, config)
    except (ConfigError, TariffError, CodecError) as error:
        print("no meter: %s" % error)
        return
    except Exception as error:
        _note_fault(board, error)
        print("no start, tries again in %d s" % _START_AGAIN_S)
        time.sleep(_START_AGAIN_S)
        board.reset()
    gc.threshold(_COLLECT_EVERY_BYTES)
    watchdog = board.watchdog(max(_WATCHDOG_MS, 3 * config.sample_period_ms))
    try:
        asyncio.run(_run(board, meter, uplink, operating, watchdog))
    except KeyboardInterrupt:
        board.watchdog(_SERVICE_MS)
        meter.log("stopped at the console, restarts by itself after 10 minutes")
        raise
    except Exception as error:
        _note_fault(board, error)
        board.reset()


def _note_fault(board, error):
    sys.print_exception(error)
    board.nvs.set_i32("fault", 1)
    board.nvs.commit()


def _secrets():
    from firmware.storage.slots import Slots  # rarely needed

    return Slots(KEEP_FOLDER, "secrets")


def _assemble(board, config):
    clock = WallClock(time.ticks_ms, board.nvs)
    operating = asyncio.Event()
    uplink = None

    def changed():
        if uplink is not None:
            uplink.wake()

    relay = RelayDriver(
        board.relay_kind, board.relay_close, board.relay_open, board.aux_contact, operating.set
    )
    meter = Meter(
        config,
        Journal(DATA_FOLDER, CHECKPOINT_FORMAT),
        clock,
        relay,
        board.nvs,
        board.shunt_uohm,
        print,
        changed,
        _secrets,
    )
    try:
        meter.start(board.reset_cause, _rtc_utc_s(board.rtc), _take_fault(board.nvs))
    except Exception:
        time.sleep_ms(PULSE_MS)  # the contact may be on its way, and nobody else ends that
        relay.finish()
        raise

    def set_time(utc_ms, round_trip_ms):
        if meter.set_time(utc_ms, round_trip_ms):
            try:
                board.rtc.set_utc_s(utc_ms // 1000)
            except OSError:
                meter.log("the clock chip does not answer, the time was not written to it")
            board.assume_utc_s(meter.least_utc_s())

    board.assume_utc_s(meter.least_utc_s())
    uplink = Uplink(config, meter, set_time, board.wlan, board.answer, os.urandom)
    return meter, uplink, operating


def _rtc_utc_s(rtc):
    """The time of the board's clock; None, as if lost, if the chip does not answer."""
    try:
        return rtc.utc_s()
    except OSError:
        return None


def _take_fault(nvs):
    try:
        fault = nvs.get_i32("fault")
    except OSError:
        return False  # never written
    if fault:
        nvs.set_i32("fault", 0)
        nvs.commit()
    return fault != 0


async def _run(board, meter, uplink, operating, watchdog):
    sensor = INA219(board.i2c, board.ina219_address, board.shunt_uohm)
    await asyncio.gather(
        _sample(board, meter, sensor, uplink, watchdog),
        _finish_operations(meter, operating),
        uplink.run(),
    )


async def _finish_operations(meter, operating):
    """Ends each operation of the relay in its time."""
    while True:
        await operating.wait()
        operating.clear()
        await asyncio.sleep_ms(PULSE_MS)
        if not operating.is_set():  # else another command came: it gets its full time
            meter.finish_operation()


async def _sample(board, meter, sensor, uplink, watchdog):
    """Reads the sensor and applies the rules; never waits for anybody."""
    period_ms = meter.config.sample_period_ms
    before = due = time.ticks_ms()
    since_good_ms = -1  # none yet
    until_verify = 0
    configured = False
    minute = None
    while True:
        now = time.ticks_ms()
        dt_ms = time.ticks_diff(now, before)
        before = now
        if since_good_ms >= 0:
            since_good_ms += dt_ms
        try:
            if not configured:
                # The first conversion is not done before the next round.
                sensor.configure()
                configured = True
                until_verify = _VERIFY_EVERY
            else:
                until_verify -= 1
                if until_verify == 0:
                    sensor.verify()
                    until_verify = _VERIFY_EVERY
                sensor.read()
                if sensor.overflow:
                    meter.sample_failed(dt_ms, _OVERFLOW)
                else:
                    meter.sample(sensor.bus_raw, sensor.shunt_raw, max(0, since_good_ms))
                    since_good_ms = 0
        except OSError:
            configured = False
            meter.sample_failed(dt_ms, _NO_ANSWER)
        except ConfigurationLost:
            configured = False
            meter.sample_failed(dt_ms, _CONFIGURATION_LOST)
        meter.tick(dt_ms)
        watchdog.feed()
        this_minute = (meter.clock.utc_s() or meter.clock.up_s()) // 60
        if minute is None:
            minute = this_minute  # nothing measured yet
        elif this_minute != minute:
            minute = this_minute
            meter.log(meter.status_line(uplink.connected, uplink.waiting()))
            if board.status_led:
                board.status_led.value(0 if meter.credit_word() == "in_credit" else 1)
            gc.collect()
        due = time.ticks_add(due, period_ms)
        wait_ms = time.ticks_diff(due, time.ticks_ms())
        if wait_ms < 0:
            due = time.ticks_ms()
            wait_ms = 0
        await asyncio.sleep_ms(wait_ms)
