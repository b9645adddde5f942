"""Driver for the INA219 current and voltage sensor (Texas Instruments, datasheet SBOS448).

Register and field names are the datasheet's (section 8.6). The driver is handed a bus with
`readfrom_mem_into` and `writeto_mem` (as `machine.I2C`) and raises the bus's OSError as it is.
`read()` allocates nothing. Tests: host_tests/unit/test_ina219_chip.py.
"""

from firmware.core.shim import const

_REG_CONFIG = const(0x00)
_REG_SHUNT_VOLTAGE = const(0x01)
_REG_BUS_VOLTAGE = const(0x02)
_REG_CALIBRATION = const(0x05)

# BRNG = 1 (32 V), PG = /8 (320 mV), BADC = SADC = 128 samples (68.1 ms each), mode = shunt and bus,
# continuous: a reading every 136 ms, averaged over mains ripple and noise.
_CONFIG = const(0x3FFF)

# Full scale 3.2 A on 0.1 ohm: CURRENT has a step of 100 uA (datasheet section 8.5.1).
_CURRENT_LSB_UA = const(100)


class ConfigurationLost(Exception):
    """The chip answers with another configuration than was written: it has reset itself."""


class INA219:
    """One sensor. After `read()`: `bus_raw` (0-8191, step 4 mV) and `shunt_raw` (-32000 to 32000,
    step 10 uV), `overflow` (the chip's OVF bit).
    """

    def __init__(self, i2c, address, shunt_uohm):
        self._i2c = i2c
        self._address = address
        # Equation 1: 0.04096 / (current_LSB * R_shunt), bit 0 of the register is always 0.
        self._calibration = 40960000000 // (_CURRENT_LSB_UA * shunt_uohm) & 0xFFFE
        self._buffer = bytearray(2)
        self.bus_raw = 0
        self.shunt_raw = 0
        self.overflow = False

    def configure(self):
        """Writes configuration and calibration and reads them back; ConfigurationLost if another
        value comes back, OSError if the chip does not answer."""
        self._write(_REG_CONFIG, _CONFIG)
        self._write(_REG_CALIBRATION, self._calibration)
        self.verify()

    def verify(self):
        """Checks that the chip still has what was written; ConfigurationLost if not.

        A chip that lost its supply for a moment comes back with a 16-bit calibration of 0 and
        another range, and would go on to answer plausible values.
        """
        if self._read(_REG_CONFIG) != _CONFIG or self._read(_REG_CALIBRATION) != self._calibration:
            raise ConfigurationLost()

    def read(self):
        """Reads shunt and bus voltage into `shunt_raw`, `bus_raw` and `overflow`."""
        raw = self._read(_REG_SHUNT_VOLTAGE)
        self.shunt_raw = raw - 0x10000 if raw & 0x8000 else raw
        raw = self._read(_REG_BUS_VOLTAGE)
        self.bus_raw = raw >> 3
        self.overflow = raw & 1 != 0

    def _read(self, register):
        buffer = self._buffer
        self._i2c.readfrom_mem_into(self._address, register, buffer)
        return buffer[0] << 8 | buffer[1]

    def _write(self, register, value):
        self._buffer[0] = value >> 8
        self._buffer[1] = value & 0xFF
        self._i2c.writeto_mem(self._address, register, self._buffer)
