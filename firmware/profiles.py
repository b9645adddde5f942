"""The profiles of one meter: closes intervals, days and months, and writes their records.

Invariants
  - The energy of the intervals, one behind the other, is the register: none is lost or in two.
  - Energy metered while the time was unknown, or while the clock went through an interval again,
    is in an interval of length 0: it makes no demand.
  - State follows from records by `apply`, live as at recovery.

The arithmetic is metering/profile.py's. docs/SPEC.md sections 2.1 and 2.5.2 are the prose. Tests:
host_tests/unit/test_profiles.py, host_tests/property/test_profiles_model.py.
"""

from firmware.core import civil, events
from firmware.core.shim import const
from firmware.metering.profile import Block, Span, demand_w

_SHORT_S = const(900)
_TIME_STEP_MAX_S = const(86400)
_HELD_MAX = const(8)
# An interval is closed with a minute and a sample; more than this above its length, and the clock
# was set back in it.
_LATE_S = const(60)


class Profiles:
    """Load profile, days and months of a Meter."""

    def __init__(self, meter):
        self._meter = meter
        self.block = Block()
        self.day = Span()
        self.month = Span()
        self.power_failures = 0  # ever
        self.lost = 0  # records that found no room while the flash refused
        self.undated = False  # there was a boot without the time since the interval began
        self._start_utc_s = 0
        self._start_wh = 0
        self._start_export_wh = 0
        self._length_s = 0
        self._again_utc_s = 0  # interval that the clock goes through for a second time; 0: none
        self.take_settings()

    def take_settings(self):
        """The settings may have changed. The running interval keeps its length."""
        self.block.set_limit(self._meter.config.sanctioned_load_w)

    def state(self):
        """The state as a dict for a snapshot; `restore` takes it back."""
        return {
            "start_export_wh": self._start_export_wh,
            "length_s": self._length_s,
            "undated": self.undated,
            "supply_s": self.block.supply_s,
            "over_load_s": self.block.over_load_s,
            "power_failures": self.power_failures,
            "day": self.day.state(),
            "month": self.month.state(),
        }

    def restore(self, start_utc_s, start_wh, state):
        """Takes the running interval's start, and what `state` gave; None: 0.1.0 had no such."""
        self._start_utc_s = start_utc_s
        self._start_wh = start_wh
        if state is None:
            self._length_s = 1800
            return
        self._start_export_wh = state["start_export_wh"]
        self._length_s = state["length_s"]
        self.undated = state["undated"]
        self.block.restore(state["supply_s"], state["over_load_s"])
        self.power_failures = state["power_failures"]
        self.day.restore(state["day"])
        self.month.restore(state["month"])

    def start_state(self):
        """(UTC s, import register) of the running interval's start."""
        return self._start_utc_s, self._start_wh

    def start_anew(self):
        """The registers jumped: all of it is counted from where they are now."""
        registers = self._registers()
        self._start_wh, self._start_export_wh = registers[:2]
        self.day.start_from(*registers)
        self.month.start_from(*registers)

    def apply(self, record):
        """What a record means for the profiles: live after it is written, and at recovery."""
        kind = record["type"]
        if kind == "load" or kind == "block":
            # One that waited for the flash was taken when it was closed.
            if record["start_utc_s"] >= self._start_utc_s:
                self._take_load(record)
        elif kind == "day":
            self._take_span(self.day, record)
        elif kind == "billing":
            self._take_span(self.month, record)
        elif kind == "resync":
            self.start_anew()
        elif kind == "settings":
            self.take_settings()
        elif kind == "event" and record["code"] == events.POWER_RESTORED:
            self.power_failures += 1

    def _take_load(self, record):
        end_utc_s = record["start_utc_s"] + record["length_s"]
        self._start_wh = record["import_wh"]
        self._start_export_wh += record.get("energy_export_wh", 0)
        self._meter.energy.exported.raise_to(self._start_export_wh)
        self._begin_interval(end_utc_s, end_utc_s)
        self.day.add(record)
        self.month.add(record)
        self.block.clear()

    def _take_span(self, span, record):
        # One that waited for the flash was taken when it was closed.
        if record["start_utc_s"] >= span.start_utc_s:
            wh = record["import_wh"]
            charges_mp = self._meter.account.charges_mp(wh)
            span.begin(record["end_utc_s"], wh, record["export_wh"], charges_mp)
            self._meter.energy.exported.raise_to(record["export_wh"])

    def _begin_interval(self, utc_s, least_utc_s):
        """The running interval is that of `utc_s`; it does not begin before `least_utc_s`."""
        length_s = self._meter.config.block_min * 60
        if utc_s - utc_s % length_s < least_utc_s:
            length_s = _SHORT_S  # a longer one would overlap: the setting has changed
        self._start_utc_s = utc_s - utc_s % length_s
        self._length_s = length_s

    def _registers(self):
        """(import Wh, export Wh, charges so far in mp)."""
        wh = self._meter.energy.import_wh
        return wh, self._meter.energy.export_wh, self._meter.account.charges_mp(wh)

    # --- closing -----------------------------------------------------------------------------

    def close(self, utc_s):
        """Closes what is over: the interval, then the day, then the month. Call it each minute.

        Raises StorageError, as do the records that it writes."""
        begun = self._close_interval(utc_s)
        offset_s = self._meter.config.utc_offset_s
        midnight_utc_s = utc_s - (utc_s + offset_s) % civil.DAY_S
        begun = self._close_span(self.day, midnight_utc_s, utc_s, self._write_day) or begun
        month_utc_s = civil.month_start_utc_s(utc_s, offset_s)
        begun = self._close_span(self.month, month_utc_s, utc_s, self._write_billing) or begun
        if begun or self.undated:
            # No record says so: the next restart must find it.
            self.undated = False
            self._meter.snapshot()

    def _close_interval(self, utc_s):
        """True if another interval began than the one behind the last."""
        start_utc_s = self._start_utc_s
        ahead_s = start_utc_s - utc_s
        if not start_utc_s:
            self._begin_interval(utc_s, 0)
            if self.undated and self._meter.energy.import_wh > self._start_wh:
                self._write_load(0)
            return True
        if ahead_s > _TIME_STEP_MAX_S:  # the time before was wrong
            self._again_utc_s = 0
            self._write_load(0)
            self._begin_interval(utc_s, 0)
            return True
        if ahead_s > 0:
            # Intervals never overlap: until the clock has caught up they have no length.
            again_utc_s = utc_s - utc_s % self._length_s
            if again_utc_s != self._again_utc_s:
                if self._again_utc_s:
                    self._write_load(0)
                self._again_utc_s = again_utc_s
        elif self._again_utc_s:
            self._again_utc_s = 0
            self._write_load(0)
        elif utc_s >= start_utc_s + self._length_s:
            late = self.block.supply_s > self._length_s + self._late_s()
            self._write_load(0 if self.undated or late else self._length_s)
            end_utc_s = self._start_utc_s
            if utc_s >= end_utc_s + self._length_s:
                # Intervals without supply have no record: the next restart must not fill them.
                self._begin_interval(utc_s, end_utc_s)
                return True
        return False

    def _late_s(self):
        return _LATE_S + 2 * self._meter.config.sample_period_ms // 1000

    def _close_span(self, span, begin_utc_s, utc_s, write):
        """Closes a day or month that ends at `begin_utc_s`; True if its time was wrong, or the
        first is known now."""
        if span.start_utc_s == 0:
            span.begin(utc_s, *self._registers())
            return True
        if span.start_utc_s - utc_s > _TIME_STEP_MAX_S:
            write(span.start_utc_s)
            span.start_utc_s = utc_s
            return True
        if begin_utc_s > span.start_utc_s:
            # Without the time the meter went on behind midnight: the span says so.
            write(utc_s if self.undated else begin_utc_s)
        return False

    def _write_load(self, length_s):
        block = self.block
        self._write(
            "load",
            {
                "start_utc_s": self._start_utc_s,
                "length_s": length_s,
                "energy_wh": self._meter.energy.import_wh - self._start_wh,
                "energy_export_wh": self._meter.energy.export_wh - self._start_export_wh,
                "voltage_mv": block.voltage_mv(),
                "voltage_min_mv": block.voltage_min_mv(),
                "voltage_max_mv": block.voltage_max_mv,
                "current_ma": block.current_ma(),
                "current_min_ma": block.current_min_ma(),
                "current_max_ma": block.current_max_ma,
                "supply_s": block.supply_s,
                "over_load_s": block.over_load_s,
            },
        )

    def _write_day(self, end_utc_s):
        day = self.day
        fields = self._span_fields(day, end_utc_s)
        fields["over_load_min"] = day.over_load_s // 60
        fields["cost_mp"] = self._registers()[2] - day.start_charges_mp
        self._write("day", fields)

    def _write_billing(self, end_utc_s):
        fields = self._span_fields(self.month, end_utc_s)
        fields["power_failures"] = self.power_failures
        self._write("billing", fields)

    def _span_fields(self, span, end_utc_s):
        import_wh, export_wh, _charges_mp = self._registers()
        return {
            "start_utc_s": span.start_utc_s,
            "end_utc_s": end_utc_s,
            "energy_wh": import_wh - span.start_wh,
            "energy_export_wh": export_wh - span.start_export_wh,
            "export_wh": export_wh,
            "supply_min": span.supply_s // 60,
            "demand_max_w": span.demand_max_w,
            "demand_max_utc_s": span.demand_max_utc_s,
        }

    def _write(self, kind, fields):
        """Writes a record; while the flash refuses, keeps it in memory as it is now."""
        meter = self._meter
        if meter.is_writable():
            meter.append(kind, fields)
            return
        held = [entry for entry in meter.queue if entry[1][:1] == (kind,)]
        if len(held) >= _HELD_MAX:
            meter.queue.remove(held[0])
            self.lost += 1
        fields["import_wh"] = meter.energy.import_wh
        fields["type"] = kind
        self.apply(fields)
        del fields["type"]
        meter.queue.append((meter.append, (kind, fields, meter.last_utc_s, meter.clock.up_s())))

    # --- for people and for the link ---------------------------------------------------------

    def live(self):
        """The members of SPEC section 2.2 that are of the profiles."""
        month = self.month
        energy_wh = self._meter.energy.import_wh - self._start_wh
        return {
            "demand_w": demand_w(energy_wh, self._length_s),
            "demand_max_w": month.demand_max_w,
            "demand_max_utc_s": month.demand_max_utc_s,
            "supply_min": (self.day.supply_s + self.block.supply_s) // 60,
            "power_failures": self.power_failures,
        }
