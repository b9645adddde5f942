"""Puts a meter together from board, configuration and flash.

Tests: host_tests/system/test_faults.py.
"""

import os
import time

from firmware.core.config import Config, ConfigError, read_document
from firmware.core.events import CONFIG_COPY
from firmware.core.wallclock import WallClock
from firmware.credit.tariff import TariffError
from firmware.link.codec import CodecError
from firmware.link.uplink import Uplink
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.metering import pulse
from firmware.relay.driver import RelayDriver
from firmware.storage import faults, floors
from firmware.storage.errors import StorageError
from firmware.storage.journal import Journal
from firmware.storage.slots import Slots

CONFIG_PATH = "/config.json"
DATA_FOLDER = "/data"
KEPT_FOLDER = "/keep"


def begin(board, wires):
    """Gives `wires` (main.Wires) a Meter that was started and its Uplink.

    With config.json or, if that cannot be used, its last good copy. Raises ConfigError, TariffError
    or CodecError without one; behind any exception the supply is on unless the utility has cut it.
    """
    wires.relay = RelayDriver(
        board.relay_kind,
        board.relay_close,
        board.relay_open,
        board.aux_contact,
        wires.operating.set,
    )
    try:
        _begin(board, wires)
    except Exception:
        wires.end_pulse()
        _keep_supply(board, wires.relay)
        raise


def _keep_supply(board, relay):
    """Closes a single coil that nobody has set, as the state is not known: doubt never cuts."""
    if relay.latching or relay.commanded:
        return
    try:
        by_utility = board.nvs.get_i32(floors.BY_UTILITY)
    except OSError:  # never written
        by_utility = 0
    if not by_utility:
        relay.operate(1)


def _begin(board, wires):
    kept = Slots(KEPT_FOLDER, "config")
    try:
        values = read_document(CONFIG_PATH)
        return _assemble(board, wires, Config(values), values, kept, ())
    except (ConfigError, TariffError, CodecError) as error:
        copy = kept.read()
        if copy is None:
            raise
        print("%s; SERVICE: the last good copy is in use" % error)
    return _assemble(board, wires, Config(copy), copy, kept, ((CONFIG_COPY, 0),))


def _assemble(board, wires, config, values, kept, told):
    imp_per_kwh = board.pulse_imp_per_kwh if board.pulse_led else 0
    if imp_per_kwh:
        pulse.check(imp_per_kwh, config, board.shunt_uohm)
    clock = WallClock(time.ticks_ms, board.nvs)
    meter = Meter(
        config,
        Journal(DATA_FOLDER, CHECKPOINT_FORMAT),
        clock,
        wires.relay,
        board.nvs,
        board.shunt_uohm,
        print,
        wires.changed,
        Slots(KEPT_FOLDER, "secrets"),
        board.cover,
        board.magnet,
        wires.random_s,
    )
    if not told:
        try:
            if kept.read() != values:
                kept.write(values)
        except StorageError as error:
            meter.log("no copy of the configuration: %s" % error)
    fault = faults.kept(board.nvs)
    if fault:
        print("fault before this boot: %s at %s, up %d s" % fault[:3])
    meter.start(
        board.reset_cause,
        _rtc_utc_s(board.rtc),
        fault,
        wires.forget_fault if fault else None,
        told,
    )
    wires.meter = meter
    if imp_per_kwh:
        meter.pulse = pulse.Pulse(meter.energy.imported, imp_per_kwh, wires.pulsing.set)
    board.assume_utc_s(meter.least_utc_s())
    wires.uplink = Uplink(config, meter, wires.set_time, board.wlan, board.answer, os.urandom)


def _rtc_utc_s(rtc):
    """The time of the board's clock; None, as if lost, if the chip does not answer."""
    try:
        return rtc.utc_s()
    except OSError:
        return None
