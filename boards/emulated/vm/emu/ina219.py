"""The INA219 current and power monitor as seen from its bus (TI datasheet SBOS448).

All six registers, 16 bits, most significant byte first (section "Register Information"). The
analogue side is an object with `advance(t_ms)`, `until_ms`, `version`, `shunt_uv` and `bus_mv`
(emu.circuit.Circuit). Time comes from `clock.now_ms()` and `clock.ticks`, the same in ms modulo
2**30: a small integer, which keeps a read that finds nothing new from allocating. Integers only.

Conversions happen at their own times: in continuous mode shunt and bus are converted one after
the other, again and again, from the write of the configuration on; a read sees the last one
completed, sampled when it ended. Averaging over several samples is taken as the value at that
instant with less noise, since nothing in the circuit changes within its 68 ms but by a step.

Where the datasheet is silent: an n-bit ADC below 12 bits rounds to 2, 4 or 8 times the 12-bit
step at the same full scale; current and power are truncated toward zero, the power of a negative
current is positive; registers 6 and 7 read as zero; a result out of range keeps its low 16 bits.

Tests: host_tests/unit/test_ina219_chip.py.
"""

CONFIGURATION = 0
SHUNT_VOLTAGE = 1
BUS_VOLTAGE = 2
POWER = 3
CURRENT = 4
CALIBRATION = 5

CONFIGURATION_RESET = 0x399F  # 32 V, 320 mV, 12 bits, continuous
RST = 0x8000
CNVR = 0x0002
OVF = 0x0001

SHUNT_LSB_UV = 10
BUS_LSB_MV = 4

# Full scale of the shunt register by PG, in steps of 10 uV (table "Shunt Voltage Register Format").
SHUNT_FULL_SCALE = (4_000, 8_000, 16_000, 32_000)
# Full scale of the bus register by BRNG, in steps of 4 mV: 16 V and 32 V.
BUS_FULL_SCALE = (4_000, 8_000)

# Table "ADC Settings" by the four BADC / SADC bits: conversion time, step of the ADC in LSB of
# the register, and what averaging leaves of the noise (16 / square root of samples).
_BITS_US = (84, 148, 276, 532)
_AVERAGE_US = (532, 1_060, 2_130, 4_260, 8_510, 17_020, 34_050, 68_100)
ADC_US = _BITS_US + _BITS_US + _AVERAGE_US
ADC_STEP = (8, 4, 2, 1) * 2 + (1,) * 8
NOISE_X16 = (16,) * 9 + (11, 8, 6, 4, 3, 2, 1)

TICKS_MASK = 0x3FFFFFFF
CALM_MAX_MS = 1 << 20  # us of it, and two conversions, are still a small integer

ERROR_NAMES = ("shunt_offset_uv", "shunt_gain_ppm", "bus_offset_mv", "bus_gain_ppm", "noise_lsb")


class INA219:
    """One chip; see the module's text.

    `errors` (all 0 unless given, signed integers): `shunt_offset_uv` (one for all, or a list of
    four by PG), `shunt_gain_ppm`, `bus_offset_mv`, `bus_gain_ppm`, `noise_lsb` (largest noise of
    one sample, triangular, from a generator seeded by `seed`). `kept` is what `on_keep(values)`
    was last given: the registers that outlive a reset of the processor.
    Knobs: `stuck` (data registers freeze), `power_up()`.
    """

    def __init__(self, circuit, clock, errors=None, seed=0, kept=None, on_keep=None):
        self._circuit = circuit
        self._clock = clock
        self._on_keep = None
        errors = errors or {}
        for name in errors:
            if name not in ERROR_NAMES:
                raise ValueError("chip: unknown " + name + ", known: " + ", ".join(ERROR_NAMES))
        offset = errors.get("shunt_offset_uv", 0)
        self._shunt_offset_uv = (offset,) * 4 if isinstance(offset, int) else tuple(offset)
        self._shunt_gain_ppm = errors.get("shunt_gain_ppm", 0)
        self._bus_offset_mv = errors.get("bus_offset_mv", 0)
        self._bus_gain_ppm = errors.get("bus_gain_ppm", 0)
        self._noise_lsb = errors.get("noise_lsb", 0)
        self._noise_state = seed & 0xFFFF or 0xACE1
        self.stuck = False
        self._calm_ticks = 0
        self._calm_ms = 0
        self._awaits = False  # since POWER was read in the calm, the end of a conversion
        self.power_up()
        if kept:
            self._registers[CALIBRATION] = kept[1]
            self._configure(kept[0])
        self._on_keep = on_keep

    def power_up(self):
        """Power-on reset: every register to its reset value, continuous conversion."""
        self.pointer = 0
        self._registers = [0] * 8
        self._shunt = self._bus = 0
        self._configure(CONFIGURATION_RESET)
        self._keep()

    # The bus.

    def write(self, data):
        """A write transaction: pointer, then at most one register, most significant byte first."""
        if not data:
            return
        self.pointer = data[0] & 7
        if len(data) < 3:
            return  # a register changes with its second byte only
        value = data[1] << 8 | data[2]
        self.catch_up(self._clock.now_ms())
        if self.pointer == CONFIGURATION:
            if value & RST:
                self.power_up()
            else:
                self._configure(value & 0x3FFF)
                self._keep()
        elif self.pointer == CALIBRATION:
            value &= 0xFFFE  # FS0 is a void bit, always 0
            if value != self._registers[CALIBRATION]:
                self._registers[CALIBRATION] = value
                self._seen_version = None
                self._calm_ms = 0
                self._keep()

    def read_into(self, buf):
        """A read transaction from the register that the pointer holds."""
        self.register_into(self.pointer, buf)

    def register_into(self, pointer, buf):
        """Sets the pointer and reads; beyond two bytes the bus stays high."""
        self.pointer = pointer = pointer & 7
        ticks = self._clock.ticks
        if (ticks - self._calm_ticks) & TICKS_MASK >= self._calm_ms:
            self.catch_up(self._clock.now_ms())
        elif self._awaits:
            self._look_ready(ticks)
        value = self._registers[pointer]
        if pointer == POWER:
            self._registers[BUS_VOLTAGE] &= ~CNVR
            if (ticks - self._calm_ticks) & TICKS_MASK < self._calm_ms:
                self._awaits = True
                self._cleared_ticks = ticks
        buf[0] = value >> 8
        if len(buf) > 1:
            buf[1] = value & 0xFF
            for i in range(2, len(buf)):
                buf[i] = 0xFF

    # Conversion.

    def _look_ready(self, ticks):
        """In the calm, after POWER was read: CNVR is 1 if a conversion has ended since."""
        passed_us = ((ticks - self._cleared_ticks) & TICKS_MASK) * 1000
        if self.stuck or (
            passed_us < self._period_us and passed_us + self._cleared_us() < self._period_us
        ):
            return
        self._awaits = False
        self._registers[BUS_VOLTAGE] |= CNVR

    def _cleared_us(self):
        """How long after the end of a conversion POWER was read."""
        calm_ms = (self._cleared_ticks - self._calm_ticks) & TICKS_MASK
        return (calm_ms * 1000 + self._phase_us) % self._period_us

    def _configure(self, value):
        """Takes a configuration and starts converting as its mode says."""
        self._registers[CONFIGURATION] = value
        mode = value & 7
        self._continuous = mode >= 4
        self._converts_shunt = bool(mode & 1)
        self._converts_bus = bool(mode & 2)
        self._running = bool(mode & 3)
        sadc = value >> 3 & 15
        badc = value >> 7 & 15
        self._period_us = 0
        if self._converts_shunt:
            self._period_us += ADC_US[sadc]
        if self._converts_bus:
            self._period_us += ADC_US[badc]
        gain = value >> 11 & 3
        self._shunt_step = ADC_STEP[sadc]
        self._shunt_limit = SHUNT_FULL_SCALE[gain]
        self._shunt_offset = self._shunt_offset_uv[gain]
        self._shunt_noise_uv = SHUNT_LSB_UV * self._noise_lsb * NOISE_X16[sadc] // 16
        self._bus_step = ADC_STEP[badc]
        self._bus_limit = BUS_FULL_SCALE[value >> 13 & 1]
        self._bus_noise_mv = BUS_LSB_MV * self._noise_lsb * NOISE_X16[badc] // 16
        self._seen_version = None
        self._calm_ms = 0
        self._awaits = False
        if self._running:
            self._registers[BUS_VOLTAGE] &= ~CNVR
            self._anchor_ms = self._clock.now_ms()
            self._phase_us = 0

    def catch_up(self, now_ms):
        """Ends the conversions that are over at `now_ms`; only the last of them is seen."""
        if not self._running or self.stuck:
            return
        if self._awaits:
            self._awaits = False
            self._calm_ms = 0
            self._anchor_ms = now_ms - ((self._clock.ticks - self._cleared_ticks) & TICKS_MASK)
            self._phase_us = self._cleared_us()
        elapsed_us = (now_ms - self._anchor_ms) * 1000 + self._phase_us
        if elapsed_us < self._period_us:
            return
        if self._continuous:
            late_us = elapsed_us % self._period_us
            self._anchor_ms = now_ms
            self._phase_us = late_us
        else:
            late_us = elapsed_us - self._period_us
            self._running = False
        end_ms = now_ms - (late_us + 999) // 1000
        circuit = self._circuit
        if end_ms >= circuit.until_ms:
            circuit.advance(end_ms)
        if circuit.version != self._seen_version or self._noise_lsb:
            self._seen_version = circuit.version
            self._convert(circuit.shunt_uv, circuit.bus_mv)
        self._registers[BUS_VOLTAGE] |= CNVR
        if self._continuous and not self._noise_lsb:
            # Until the circuit changes every conversion gives what the registers hold.
            self._calm_ticks = self._clock.ticks
            if circuit.until_ms >= now_ms + CALM_MAX_MS:
                self._calm_ms = CALM_MAX_MS
            else:
                self._calm_ms = max(0, circuit.until_ms - now_ms)

    def disturb(self):
        """The circuit is not what `catch_up` saw: look again at the next read."""
        self._calm_ms = 0

    def _convert(self, shunt_uv, bus_mv):
        """One conversion: ADC, then the multiplications of section "Programming"."""
        registers = self._registers
        if self._converts_shunt:
            shunt_uv += self._shunt_offset + shunt_uv * self._shunt_gain_ppm // 1_000_000
            if self._shunt_noise_uv:
                shunt_uv += self._noise(self._shunt_noise_uv)
            limit = self._shunt_limit
            shunt = _quantised(shunt_uv, SHUNT_LSB_UV, self._shunt_step)
            self._shunt = shunt = max(-limit, min(limit, shunt))
            registers[SHUNT_VOLTAGE] = shunt & 0xFFFF
        if self._converts_bus:
            bus_mv += self._bus_offset_mv + bus_mv * self._bus_gain_ppm // 1_000_000
            if self._bus_noise_mv:
                bus_mv += self._noise(self._bus_noise_mv)
            bus = _quantised(bus_mv, BUS_LSB_MV, self._bus_step)
            self._bus = max(0, min(self._bus_limit, bus))
        size = abs(self._shunt) * registers[CALIBRATION] // 4096
        current = -size if self._shunt < 0 else size
        power = size * self._bus // 5000
        registers[CURRENT] = current & 0xFFFF
        registers[POWER] = power & 0xFFFF
        overflow = OVF if not -0x8000 <= current <= 0x7FFF or power > 0xFFFF else 0
        registers[BUS_VOLTAGE] = self._bus << 3 | overflow

    def _noise(self, largest):
        """Triangular noise in -largest .. largest, from xorshift16 (small integers only)."""
        x = self._noise_state
        x ^= x << 7 & 0xFFFF
        x ^= x >> 9
        x ^= x << 8 & 0xFFFF
        self._noise_state = x
        return ((x & 0xFF) * (largest + 1) >> 8) - ((x >> 8) * (largest + 1) >> 8)

    def _keep(self):
        if self._on_keep:
            self._on_keep([self._registers[CONFIGURATION], self._registers[CALIBRATION]])


def _quantised(value, lsb, step):
    """`value` in steps of `lsb`, rounded to the nearest multiple of `step` of them."""
    unit = lsb * step
    return (value + unit // 2) // unit * step
