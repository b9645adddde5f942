"""The profiles of one meter: closes intervals, days and months, and writes their records.

Invariants
  - The energy of the intervals, one behind the other, is the register: none is lost or in two.
  - Energy metered while the time was unknown, or while the clock went through an interval again,
    is in an interval of length 0: it makes no demand.
  - State follows from records by `apply`, live as at recovery.

The arithmetic is metering/profile.py's. docs/SPEC.md sections 2.1 and 2.5.2 are the prose. Tests:
host_tests/unit/test_profiles.py, host_tests/property/test_profiles_model.py.
"""

from firmware.core import civil, events, seldom
from firmware.core.records import PROFILES
from firmware.core.shim import const
from firmware.metering.profile import Block, Span, demand_w

_SHORT_S = const(900)
_TIME_STEP_MAX_S = const(86400)
_HELD_MAX = const(8)
_WEEK_DAYS = const(7)
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
        self.week = []  # [s, Wh, mp] of each of the last days, the oldest first
        self.power_failures = 0  # ever
        self._moved = False  # in this month an account began or ended
        self._over_load_days = 0  # closed days of this month with a minute above the load
        self.lost = 0  # records that found no room while the flash refused
        self.undated = False  # there was a boot without the time since the interval began
        self.start_utc_s = 0  # of the running interval
        self.start_wh = 0
        self._start_export_wh = 0
        self._length_s = 0
        self._begun = False  # something of which no record tells
        self._again_utc_s = 0  # interval that the clock goes through for a second time; 0: none
        self.block.set_limit(meter.config.sanctioned_load_w)

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
            "week": self.week,
            "over_load_days": self._over_load_days,
            "moved": self._moved,
        }

    def restore(self, start_utc_s, start_wh, state):
        """Takes the running interval's start, and what `state` gave; None: 0.1.0 had no such."""
        self.start_utc_s = start_utc_s
        self.start_wh = start_wh
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
        # Older snapshots have none of these.
        self.week = state.get("week", [])
        self._over_load_days = state.get("over_load_days", 0)
        self._moved = state.get("moved", False)

    def start_anew(self):
        """The registers jumped: all of it is counted from where they are now."""
        registers = self._registers()
        self.start_wh, self._start_export_wh = registers[:2]
        self.day.start_from(*registers)
        self.month.start_from(*registers)

    def apply(self, record):
        """What a record means for the profiles: live after it is written, and at recovery."""
        kind = record["type"]
        if kind == "settings":  # the running interval keeps its length
            self.block.set_limit(self._meter.config.sanctioned_load_w)
        elif kind == "resync":
            self.start_anew()
        elif kind == "account":
            self._moved = True
        elif kind == "event" and record["code"] == events.POWER_RESTORED:
            self.power_failures += 1
        if kind not in PROFILES:
            return
        wh = record["import_wh"]
        exported = self._meter.energy.exported
        span = {"day": self.day, "billing": self.month}.get(kind, self)
        if record["start_utc_s"] < span.start_utc_s:
            return  # it waited for the flash, and was taken when it was closed
        if span is not self:
            charges_mp = self._meter.account.charges_mp(wh)
            if kind == "day":
                self._add_to_week(record)
                self._over_load_days += 1 if record["over_load_min"] else 0
            else:
                self._over_load_days = 0
                self._moved = False
            span.begin(record["end_utc_s"], wh, record["export_wh"], charges_mp)
            exported.raise_to(record["export_wh"])
            return
        end_utc_s = record["start_utc_s"] + record["length_s"]
        self.start_wh = wh
        self._start_export_wh += record.get("energy_export_wh", 0)
        exported.raise_to(self._start_export_wh)
        self._begin_interval(end_utc_s, end_utc_s)
        self.day.add(record)
        self.month.add(record)
        self.block.clear()

    def _add_to_week(self, day):
        length_s = day["end_utc_s"] - day["start_utc_s"]
        if length_s > 0:
            self.week.append([length_s, day["energy_wh"], day["cost_mp"]])
            del self.week[:-_WEEK_DAYS]

    def mean_day(self):
        """(Wh, mp) a day in the last 7 closed days; zeros before the first one is closed."""
        length_s = sum([day[0] for day in self.week])
        if not length_s:
            return 0, 0
        wh = sum([day[1] for day in self.week])
        cost_mp = sum([day[2] for day in self.week])
        return wh * civil.DAY_S // length_s, cost_mp * civil.DAY_S // length_s

    def _begin_interval(self, utc_s, least_utc_s):
        """The running interval is that of `utc_s`; it does not begin before `least_utc_s`."""
        length_s = self._meter.config.block_min * 60
        if utc_s - utc_s % length_s < least_utc_s:
            length_s = _SHORT_S  # a longer one would overlap: the setting has changed
        self.start_utc_s = utc_s - utc_s % length_s
        self._length_s = length_s

    def _registers(self):
        """(import Wh, export Wh, charges so far in mp)."""
        wh = self._meter.energy.import_wh
        return wh, self._meter.energy.export_wh, self._meter.account.charges_mp(wh)

    # --- closing -----------------------------------------------------------------------------

    def close_interval(self, utc_s):
        """Closes the interval if it is over. Call it each minute, and `close_spans` behind it.

        Raises StorageError, as do the records that it writes."""
        if self._close_interval(utc_s):
            self._begun = True

    def close_spans(self, utc_s):
        """Closes the day and then the month if they are over."""
        offset_s = self._meter.config.utc_offset_s
        midnight_utc_s = utc_s - (utc_s + offset_s) % civil.DAY_S
        self._close_span("day", self.day, midnight_utc_s, utc_s)
        month_utc_s = self._meter.billing.month_start_utc_s(utc_s)
        self._close_span("billing", self.month, month_utc_s, utc_s)
        if self._begun or self.undated:
            # No record says so: the next restart must find it.
            self.undated = False
            self._meter.snapshot()
            self._begun = False

    def _close_interval(self, utc_s):
        """True if another interval began than the one behind the last."""
        start_utc_s = self.start_utc_s
        ahead_s = start_utc_s - utc_s
        if not start_utc_s:
            self._begin_interval(utc_s, 0)
            if self.undated and self._meter.energy.import_wh > self.start_wh:
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
            late_s = _LATE_S + 2 * self._meter.config.sample_period_ms // 1000
            late = self.block.supply_s > self._length_s + late_s
            self._write_load(0 if self.undated or late else self._length_s)
            end_utc_s = self.start_utc_s
            if utc_s >= end_utc_s + self._length_s:
                # Intervals without supply have no record: the next restart must not fill them.
                self._begin_interval(utc_s, end_utc_s)
                return True
        return False

    def _close_span(self, kind, span, begin_utc_s, utc_s):
        """Closes a day or month that ends at `begin_utc_s`."""
        if span.start_utc_s == 0:
            span.begin(utc_s, *self._registers())
            self._begun = True
        elif span.start_utc_s - utc_s > _TIME_STEP_MAX_S:
            self._write_span(kind, span, span.start_utc_s)
            span.start_utc_s = utc_s
            self._begun = True
        elif begin_utc_s > span.start_utc_s:
            if span is self.month:
                self._charge_excess()
            # Without the time the meter went on behind midnight: the span says so.
            self._write_span(kind, span, utc_s if self.undated else begin_utc_s)

    def _charge_excess(self):
        """Charges the load of the month that is over, unless it may be somebody else's."""
        if self._meter.config.limit_mode != 1 or self._moved:
            return
        from firmware import excess

        try:
            excess.charge(self._meter, self.month)
        finally:
            seldom.drop("firmware.excess")

    def _write_load(self, length_s):
        block = self.block
        figures = block.figures()
        self._write(
            "load",
            {
                "start_utc_s": self.start_utc_s,
                "length_s": length_s,
                "energy_wh": self._meter.energy.import_wh - self.start_wh,
                "energy_export_wh": self._meter.energy.export_wh - self._start_export_wh,
                "voltage_mv": figures[0],
                "voltage_min_mv": figures[1],
                "voltage_max_mv": figures[2],
                "current_ma": figures[3],
                "current_min_ma": figures[4],
                "current_max_ma": figures[5],
                "supply_s": block.supply_s,
                "over_load_s": block.over_load_s,
            },
        )

    def _write_span(self, kind, span, end_utc_s):
        import_wh, export_wh, charges_mp = self._registers()
        fields = {
            "start_utc_s": span.start_utc_s,
            "end_utc_s": end_utc_s,
            "energy_wh": import_wh - span.start_wh,
            "energy_export_wh": export_wh - span.start_export_wh,
            "export_wh": export_wh,
            "supply_min": span.supply_s // 60,
            "demand_max_w": span.demand_max_w,
            "demand_max_utc_s": span.demand_max_utc_s,
        }
        if span is self.day:
            fields["over_load_min"] = span.over_load_s // 60
            fields["cost_mp"] = charges_mp - span.start_charges_mp
        else:
            fields["power_failures"] = self.power_failures
        self._write(kind, fields)

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
        energy_wh = self._meter.energy.import_wh - self.start_wh
        over_load_s = self.day.over_load_s + self.block.over_load_s
        return {
            "demand_w": demand_w(energy_wh, self._length_s),
            "demand_max_w": month.demand_max_w,
            "demand_max_utc_s": month.demand_max_utc_s,
            "supply_min": (self.day.supply_s + self.block.supply_s) // 60,
            "power_failures": self.power_failures,
            "over_load_days": self._over_load_days + (1 if over_load_s >= 60 else 0),
        }
