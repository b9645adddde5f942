"""Driver for the INA219 current and power monitor (Texas Instruments, datasheet SBOS448G).

Register and field names are the datasheet's (section 8.6). The driver is handed a bus with
`readfrom_mem_into` and `writeto_mem` (as `machine.I2C`) and raises the bus's OSError as it is.
`read()` and what scales its result allocate nothing. Tests: host_tests/unit/test_ina219.py,
host_tests/property/test_ina219_equal.py (against Adafruit's driver).
"""

from firmware.core.shim import const

_REG_CONFIG = const(0x00)
_REG_SHUNT_VOLTAGE = const(0x01)
_REG_BUS_VOLTAGE = const(0x02)
_REG_POWER = const(0x03)
_REG_CURRENT = const(0x04)
_REG_CALIBRATION = const(0x05)

# Flags of BUS_VOLTAGE (section 8.6.3.2): a conversion has ended since POWER was read; CURRENT and
# POWER mean nothing.
CNVR = const(0x0002)
OVF = const(0x0001)


class ConfigurationLost(Exception):
    """The chip answers with another configuration than was written: it has reset itself."""


class INA219:
    """One sensor. After `read()`:

    `shunt_raw` (-32768 to 32767, step 10 uV at every gain), `bus_raw` (0 to 8191, step 4 mV),
    `flags` (of CNVR and OVF), `power_raw` (0 to 65535, step 20 * `current_lsb_ua` uW).

    `shunt_full_scale` and `bus_full_scale` are the largest values of the range, in these steps;
    `current_lsb_ua` is the step of CURRENT.
    """

    def __init__(self, i2c, address, shunt_uohm):
        self._i2c = i2c
        self._address = address
        # CURRENT in the steps of SHUNT_VOLTAGE, 10 uV / shunt, rounded up to whole uA: so neither
        # CURRENT nor POWER can overflow inside the ranges of the converter.
        self.current_lsb_ua = (10000000 + shunt_uohm - 1) // shunt_uohm
        # Equation 1 (section 8.5.1): 0.04096 / (current_LSB * R_shunt).
        self.calibration = 40960000000 // (self.current_lsb_ua * shunt_uohm)
        self._buffer = bytearray(2)
        self.shunt_raw = 0
        self.bus_raw = 0
        self.power_raw = 0
        self.flags = 0
        self.choose()

    def choose(self, brng=1, pg=3, badc=15, sadc=15, mode=7):
        """Says what `configure` is to write; ValueError names the field that is out of range.

        brng: bus range, 0 16 V, 1 32 V. pg: range of the shunt, 0 to 3: 40, 80, 160, 320 mV.
        badc, sadc: bits or averaging of bus and shunt, 0 to 15: 0-3 9 to 12 bits, 8-15 1 to 128
        samples of 532 us (table 5). mode: 0 power-down, 1 shunt, 2 bus, 3 both triggered, 4
        converter off, 5 shunt, 6 bus, 7 both continuous (table 6).

        The meter's choice is the default: 128 samples of each, 136 ms, which averages mains ripple
        and noise.
        """
        fields = (
            ("brng", brng, 1),
            ("pg", pg, 3),
            ("badc", badc, 15),
            ("sadc", sadc, 15),
            ("mode", mode, 7),
        )
        for name, value, highest in fields:
            if not 0 <= value <= highest:
                raise ValueError("%s: must be 0 to %d, not %s" % (name, highest, value))
        self._configuration = brng << 13 | pg << 11 | badc << 7 | sadc << 3 | mode
        self.bus_full_scale = 4000 << brng  # section 8.6.3.2
        self.shunt_full_scale = 4000 << pg  # section 8.6.3.1

    def configure(self):
        """Writes configuration and calibration and reads them back; ConfigurationLost if another
        value comes back, OSError if the chip does not answer.

        `calibration` may be set before: 0 to 65535, bit 0 is void (section 8.6.4.1).
        """
        self._write(_REG_CONFIG, self._configuration)
        self._write(_REG_CALIBRATION, self.calibration)
        if not self.verify():
            raise ConfigurationLost()

    def trigger(self):
        """Starts a conversion in a triggered mode: CNVR when it is done (section 8.4)."""
        self._write(_REG_CONFIG, self._configuration)

    def verify(self):
        """True if the chip still has what was written.

        A chip that lost its supply for a moment comes back with a 16-bit calibration of 0 and
        another averaging, and would go on to answer plausible values.
        """
        return (
            self._read(_REG_CONFIG) == self._configuration
            and self._read(_REG_CALIBRATION) == self.calibration & 0xFFFE
        )

    def read(self, power=True):
        """Reads the results of the last conversion; POWER only if `power`.

        POWER comes last: reading it clears CNVR (section 8.6.3.2), so that CNVR at the next
        `read` says that a conversion has ended since. Without it CNVR stays.
        """
        i2c = self._i2c
        buffer = self._buffer
        i2c.readfrom_mem_into(self._address, _REG_SHUNT_VOLTAGE, buffer)
        raw = buffer[0] << 8 | buffer[1]
        self.shunt_raw = raw - 0x10000 if raw & 0x8000 else raw
        i2c.readfrom_mem_into(self._address, _REG_BUS_VOLTAGE, buffer)
        raw = buffer[0] << 8 | buffer[1]
        self.bus_raw = raw >> 3
        self.flags = raw & (CNVR | OVF)
        if power:
            i2c.readfrom_mem_into(self._address, _REG_POWER, buffer)
            self.power_raw = buffer[0] << 8 | buffer[1]

    def shunt_uv(self):
        """Voltage across the shunt at the last `read`, uV, signed."""
        return self.shunt_raw * 10

    def bus_uv(self):
        """Voltage behind the shunt (IN-) at the last `read`, uV, below 2**25."""
        return self.bus_raw * 4000

    def power_uw(self):
        """POWER at the last `read`, uW, a magnitude. Below 2**30 for steps up to 819 uA, which are
        shunts above 12 milliohm; below that it is a long integer."""
        return self.power_raw * (20 * self.current_lsb_ua)

    def read_current_ua(self):
        """Reads CURRENT: uA, signed. Not in `read`: the meter scales SHUNT_VOLTAGE by itself."""
        raw = self._read(_REG_CURRENT)
        return (raw - 0x10000 if raw & 0x8000 else raw) * self.current_lsb_ua

    def _read(self, register):
        buffer = self._buffer
        self._i2c.readfrom_mem_into(self._address, register, buffer)
        return buffer[0] << 8 | buffer[1]

    def _write(self, register, value):
        self._buffer[0] = value >> 8
        self._buffer[1] = value & 0xFF
        self._i2c.writeto_mem(self._address, register, self._buffer)
