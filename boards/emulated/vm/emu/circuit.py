"""The circuit around the meter: supply, load, relay contact, and what the sensor sees of it.

    supply --- shunt (INA219) --- relay contact --- load

The voltage is the one behind the shunt, where the INA219 measures it (pin IN-), so power at the
load is that voltage times the current. An open contact leaves the voltage and stops the current.
A thief may put a wire past the contact (`set_bypass`), or swap the wires of the shunt
(`set_swapped`): then the sensor sees the current flow backwards.
The sensor sits behind ratios, as on the bench: it sees voltage / voltage_ratio and
current / current_ratio.

Energy is exact: between two changes everything is constant, and millivolt * milliampere *
millisecond is a whole number of nanojoules. Integers only; times are simulated milliseconds.

Nothing here looks at a clock: whoever asks brings the time, which never goes back.
Tests: host_tests/unit/test_circuit.py.
"""

from .loads import FOREVER_MS

CONTACT_FAULTS = ("ok", "welded", "stuck_open")
RELAY_KINDS = ("latching", "single")

OPERATE_MS = 10  # a contact follows its coil this late (typical of power relays: 5-15 ms)


class Circuit:
    """Supply, load and contact; see the module's text.

    `relay_kind` "latching": two coils, the armature moves when one has been driven alone for
    OPERATE_MS and stays. "single": one coil, the armature follows it after OPERATE_MS.
    `closed` is where the armature is at the start, `shunt_uohm` the resistor at the sensor.
    `on_contact(closed)` is called when the armature has moved (the host keeps it).
    `sampler.catch_up(t_ms)`, if set, is called before the past is lost: the sensor takes the
    samples that fall before a change; `sampler.disturb()` after a change or a change of plans.
    """

    def __init__(
        self,
        load,
        start_ms,
        voltage_ratio_x1000=1000,
        current_ratio_x1000=1000,
        shunt_uohm=100_000,
        relay_kind="latching",
        closed=False,
        on_contact=None,
    ):
        if relay_kind not in RELAY_KINDS:
            raise ValueError("relay_kind: must be latching or single, not " + str(relay_kind))
        self.load = load
        self.sampler = None
        self.start_ms = start_ms
        self.energy_nj = 0
        self.contact = closed
        self.contact_fault = "ok"
        self._bypass = False
        self._swapped = False
        self.version = 0  # grows whenever the sensor's inputs change
        self.bus_mv = self.shunt_uv = None
        self._voltage_ratio_x1000 = voltage_ratio_x1000
        self._current_ratio_x1000 = current_ratio_x1000
        self._shunt_uohm = shunt_uohm
        self._latching = relay_kind == "latching"
        self._on_contact = on_contact
        self._armature = closed
        self._move_to = None
        self._move_ms = FOREVER_MS
        self._since_ms = start_ms
        load.at(start_ms)
        self._refresh()
        if not self._latching:
            self._aim(start_ms, False)  # no coil holds it yet

    def advance(self, t_ms):
        """Brings the circuit to `t_ms`, through every change on the way."""
        while t_ms >= self.until_ms:
            at_ms = self.until_ms
            self._integrate(at_ms)
            if self.load.until_ms <= at_ms:
                self.load.at(at_ms)
            if self._move_ms <= at_ms:
                self._move_ms = FOREVER_MS
                self._armature = self._move_to
                self._follow()
                if self._on_contact:
                    self._on_contact(self._armature)
            self._refresh()

    def settle(self, now_ms):
        """As `advance`, for everybody but the sensor: it first takes what it has to sample."""
        if self.sampler:
            self.sampler.catch_up(now_ms)
        self.advance(now_ms)

    def set_coils(self, now_ms, close, open_=0):
        """The relay's coils as they are driven now (1 or 0); returns when the armature moves.

        `open_` is the second coil of a latching relay. None: nothing will move.
        """
        self.settle(now_ms)
        if self._latching and close == open_:
            wanted = self._armature  # no coil, or both, pulling against each other
        else:
            wanted = bool(close)
        self._aim(now_ms, wanted)
        return None if self._move_ms == FOREVER_MS else self._move_ms

    def _aim(self, now_ms, wanted):
        """The armature is pulled to `wanted`; it arrives unless the pull ends before."""
        if wanted == self._armature:
            self._move_ms = FOREVER_MS
        elif self._move_ms == FOREVER_MS:
            self._move_ms = now_ms + OPERATE_MS
        self._move_to = wanted
        self._refresh()

    def set_load(self, now_ms, load):
        """Replaces the load."""
        self.settle(now_ms)
        self._integrate(now_ms)
        load.at(now_ms)
        self.load = load
        self._refresh()

    def set_contact_fault(self, now_ms, fault):
        """Fault "welded": never opens again; "stuck_open": never closes again; "ok": repaired."""
        if fault not in CONTACT_FAULTS:
            raise ValueError("contact: must be one of " + ", ".join(CONTACT_FAULTS))
        self.settle(now_ms)
        self._integrate(now_ms)
        self.contact_fault = fault
        self._follow()
        self._refresh()

    def set_bypass(self, now_ms, there):
        """A wire past the contact, or none."""
        self.settle(now_ms)
        self._integrate(now_ms)
        self._bypass = there
        self._refresh()

    def set_swapped(self, now_ms, swapped):
        """The shunt's wires swapped, or as they should be."""
        self.settle(now_ms)
        self._integrate(now_ms)
        self._swapped = swapped
        self._refresh()

    def energy_mj(self, now_ms):
        """(mJ, remainder in nJ) delivered to the load since `start_ms`: the reference."""
        self.settle(now_ms)
        self._integrate(now_ms)
        return self.energy_nj // 1_000_000, self.energy_nj % 1_000_000

    def _follow(self):
        """The contact follows the armature as far as it can."""
        if self.contact_fault == "welded":
            self.contact = self.contact or self._armature
        elif self.contact_fault == "stuck_open":
            self.contact = self.contact and self._armature
        else:
            self.contact = self._armature

    def _integrate(self, t_ms):
        if self.current_ma:
            self.energy_nj += self.voltage_mv * self.current_ma * (t_ms - self._since_ms)
        self._since_ms = t_ms

    def _refresh(self):
        if self.sampler:
            self.sampler.disturb()
        load = self.load
        self.until_ms = min(load.until_ms, self._move_ms)
        self.voltage_mv = load.voltage_mv
        self.current_ma = load.current_ma if self.contact or self._bypass else 0
        half = self._voltage_ratio_x1000 // 2
        bus_mv = (self.voltage_mv * 1000 + half) // self._voltage_ratio_x1000
        # mA * 1e6 / ratio_x1000 is the sensor's uA; times uOhm / 1e6 its shunt's uV.
        half = self._current_ratio_x1000 // 2
        shunt_uv = (self.current_ma * self._shunt_uohm + half) // self._current_ratio_x1000
        if self._swapped:
            shunt_uv = -shunt_uv
        if bus_mv != self.bus_mv or shunt_uv != self.shunt_uv:
            self.bus_mv = bus_mv
            self.shunt_uv = shunt_uv
            self.version += 1
