"""The reading of the sensor: check its configuration, read, judge, and try again after a fault.

Handed the sensor, the meter that takes the readings, and how much time has passed: no hardware, no
clock. What is wrong with a reading is one of the kinds below; docs/SPEC.md section 4.1 says what
follows from each. Every fault is tried again in the next round, with less trust in the
chip each time; the first good reading ends it.

The functions on the way of a good reading are small on purpose: MicroPython takes a frame of more
than 11 words (locals, operands, 3 for each handler) from the heap, which costs more than the rest.
Tests: host_tests/unit/test_sampler.py, host_tests/vm/test_sample.py,
host_tests/system/test_sensor_faults.py.
"""

import errno

from firmware.core.shim import const
from firmware.metering.ina219 import CNVR, OVF, ConfigurationLost

# What is wrong with a reading: `detail` of event 1010.
NO_ANSWER = const(1)
CONFIGURATION_LOST = const(2)
OVERFLOW = const(3)
OUT_OF_RANGE = const(4)
NO_CONVERSION = const(5)
BUS_HANGS = const(6)
CURRENT_CLIPPED = const(7)

_CHECK_EVERY = const(10)  # readings
_CLIPPED_MS = const(5000)  # the start of a motor is not worth telling

_GOOD = const(0)
_WAITS = const(-1)  # for the first conversion after the start


class Sampler:
    """Reads `sensor` (metering.ina219.INA219) for `meter` (of meter.Meter it needs `sample`,
    `sample_failed` and `gap_limit_ms`)."""

    def __init__(self, sensor, meter):
        self._sensor = sensor
        self._meter = meter
        # 0: read; 1: check the configuration, then read; 2 and more: write the configuration.
        self._doubts = 0
        self._until_check = 0  # readings that are not doubted either
        self._fault = _WAITS  # the last one
        self._since_good_ms = 0  # or since the start
        self._clipped_ms = 0
        self._was_good = False

    def step(self, dt_ms):
        """One round, `dt_ms` after the one before. Allocates nothing while the sensor is well."""
        sensor = self._sensor
        fault = _GOOD
        if self._doubts or not self._until_check:
            fault = self._prepare()
        fault = fault or self._read() or self._judge()
        since_ms = self._since_good_ms + dt_ms
        if fault and fault != CURRENT_CLIPPED:
            self._since_good_ms = since_ms
            self._fail(dt_ms, fault)
            return
        self._since_good_ms = 0
        self._until_check -= 1
        self._doubts = 0
        if not self._was_good:
            self._was_good = True
            if since_ms <= self._meter.gap_limit_ms:
                since_ms = 0  # there is no sample before to draw a line from
        if not fault:
            self._clipped_ms = 0
        elif self._clipped_ms <= _CLIPPED_MS:
            self._clipped_ms += dt_ms
            fault = _GOOD  # not yet
        self._meter.sample(sensor.bus_raw, sensor.shunt_raw, since_ms, fault)

    def _fail(self, dt_ms, fault):
        self._doubts += 1
        if fault != _WAITS:
            self._fault = fault
            self._meter.sample_failed(dt_ms, fault)

    def _prepare(self):
        """Sees to the configuration: _GOOD if the chip has it, else what is wrong."""
        self._until_check = _CHECK_EVERY
        if self._doubts < 2:
            try:
                if self._sensor.verify():
                    return _GOOD
            except OSError:
                return NO_ANSWER
        return self._configure()

    def _configure(self):
        fault = self._fault
        if self._doubts < 2 and self._was_good:
            fault = CONFIGURATION_LOST
        try:
            self._sensor.configure()
        except OSError as error:
            return BUS_HANGS if error.errno == errno.ETIMEDOUT else NO_ANSWER
        except ConfigurationLost:
            return CONFIGURATION_LOST
        self._doubts = 0  # it converts anew; the next round checks it and reads
        return fault

    def _read(self):
        try:
            # Each second reading asks for a new conversion, so a converter that stands still is
            # believed for one sample: no longer than a gap that is bridged.
            self._sensor.read(self._until_check & 1)
            return _GOOD
        except OSError:  # a name for it would take more room; a later round sees why
            return NO_ANSWER

    def _judge(self):
        """What is wrong with the values that were read."""
        sensor = self._sensor
        size = abs(sensor.shunt_raw)
        if (
            sensor.flags == CNVR
            and size < sensor.shunt_full_scale
            and sensor.bus_raw < sensor.bus_full_scale
        ):
            return _GOOD
        if not sensor.flags & CNVR:
            return NO_CONVERSION
        if sensor.bus_raw >= sensor.bus_full_scale:
            return OUT_OF_RANGE
        if sensor.flags & OVF:
            return OVERFLOW
        return CURRENT_CLIPPED if size == sensor.shunt_full_scale else OUT_OF_RANGE
