"""Puts a meter together from board, configuration and flash. Loaded once, then forgotten.

Tests: host_tests/system/test_faults.py.
"""

import gc
import json
import os
import time

from firmware.core.config import ConfigError, values_of
from firmware.core.events import CONFIG_COPY
from firmware.core.wallclock import WallClock
from firmware.credit.tariff import TariffError
from firmware.link.codec import CodecError
from firmware.meter import CHECKPOINT_FORMAT, Meter
from firmware.relay.driver import PULSE_MS, RelayDriver
from firmware.storage import faults
from firmware.storage.errors import StorageError
from firmware.storage.journal import Journal
from firmware.storage.slots import Slots

CONFIG_PATH = "/config.json"
DATA_FOLDER = "/data"
KEPT_FOLDER = "/keep"  # as in main.py


def load_config(path):
    """(Config, its values) of a file; ConfigError also for a missing one or one that is no JSON."""
    try:
        with open(path) as file:
            values = json.load(file)
    except OSError as error:
        raise ConfigError(path, "cannot be read, errno %s" % error.errno)
    except (ValueError, MemoryError):
        raise ConfigError(path, "must be JSON")
    return values_of(values), values


def begin(board, wires):
    """Fills `wires` (main.Wires) with a Meter that was started and its Uplink.

    With config.json or, if that cannot be used, its last good copy. Raises ConfigError, TariffError
    or CodecError without one.
    """
    kept = Slots(KEPT_FOLDER, "config")
    try:
        config, values = load_config(CONFIG_PATH)
        return _assemble(board, wires, config, values, kept, ())
    except (ConfigError, TariffError, CodecError) as error:
        copy = kept.read()
        if copy is None:
            raise
        print("%s; SERVICE: the last good copy is in use" % error)
    _assemble(board, wires, values_of(copy), copy, kept, ((CONFIG_COPY, 0),))


def _assemble(board, wires, config, values, kept, told):
    # No function of this module may be kept: it would keep the whole module in the heap.
    clock = WallClock(time.ticks_ms, board.nvs)
    relay = RelayDriver(
        board.relay_kind,
        board.relay_close,
        board.relay_open,
        board.aux_contact,
        wires.operating.set,
    )
    meter = Meter(
        config,
        Journal(DATA_FOLDER, CHECKPOINT_FORMAT),
        clock,
        relay,
        board.nvs,
        board.shunt_uohm,
        print,
        wires.changed,
        wires.secrets,
    )
    if not told:
        try:
            if kept.read() != values:
                kept.write(values)
        except StorageError as error:
            meter.log("no copy of the configuration: %s" % error)
    values = None
    fault = faults.kept(board.nvs)
    if fault:
        print("fault before this boot: %s at %s, up %d s" % fault[:3])
    try:
        meter.start(
            board.reset_cause,
            _rtc_utc_s(board.rtc),
            fault,
            wires.forget_fault if fault else None,
            told,
        )
    except Exception:
        time.sleep_ms(PULSE_MS)  # the contact may be on its way, and nobody else ends that
        relay.finish()
        raise

    wires.meter = meter
    board.assume_utc_s(meter.least_utc_s())
    # Only now: the code of the link and that of the start are not in the heap together.
    gc.collect()
    from firmware.link.uplink import Uplink

    wires.uplink = Uplink(config, meter, wires.set_time, board.wlan, board.answer, os.urandom)


def _rtc_utc_s(rtc):
    """The time of the board's clock; None, as if lost, if the chip does not answer."""
    try:
        return rtc.utc_s()
    except OSError:
        return None
