"""The billing of one meter: closes what is over by the calendar, and writes what the ledger needs.

Invariants
  - A period is closed once, at a register that the record holds.
  - Days and zones of the tariff count by `tally` records, and those are written at a known time:
    energy of an unknown one is of the zone "normal", and its days are counted when the time comes.
  - A tariff that is held comes into force once its time has come and is known.
  - State follows from records by `Account.apply`, live as at recovery.

docs/SPEC.md section 3.5 is the prose. Tests: host_tests/unit/test_billing.py,
host_tests/unit/test_storage_faults.py, host_tests/property/test_meter_machine.py.
"""

from firmware.core import civil
from firmware.core.shim import const
from firmware.credit import charges
from firmware.credit import tariff as tariffs
from firmware.credit.account import ends_period

_TIME_STEP_MAX_S = const(86400)
_HELD_MAX = const(8)


class Billing:
    """Billing periods, tariffs and tallies of a Meter."""

    def __init__(self, meter):
        self._meter = meter
        self._closed_minute = 0
        self._end_wh = 0  # register at the end of a period that waits to be closed; 0: none

    def started(self):
        """A boot has begun, or a lost account is back: without the time, what is consumed from here
        on is of the zone "normal"."""
        meter = self._meter
        usage = meter.account.usage
        if usage.zone and meter.clock.utc_s() is None:
            fields = {
                "day": usage.day,
                "period_day": usage.period_day,
                "period_days": usage.days,
                "zone": 0,
                "supply_min": 0,
                "load_w": usage.load_w,
            }
            meter.append("tally", fields)

    def close(self, utc_s):
        """Closes what is over at a known time; call it at least once a minute.

        Profiles, zones and periods begin with a minute; in between there is nothing to close."""
        minute = utc_s // 60
        if minute == self._closed_minute:
            return
        attempt = self._meter.attempt
        if not attempt(self._close_day, utc_s):
            return  # with the next second: a period must not end before its last day is counted
        closed = attempt(self._meter.profiles.close_spans, utc_s)
        if attempt(self._close_period, utc_s) and closed:
            self._closed_minute = minute

    def change_tariff(self, tariff):
        """Brings a Tariff into force now.

        Raises StorageError; then the tariff in force still is."""
        utc_s = self._meter.clock.utc_s()
        if utc_s is not None:
            self.close(utc_s)
            self._tally(utc_s, True)
        self._meter.append("tariff", {"document": tariff})
        if utc_s is not None:
            self._tally(utc_s)

    def change_account(self, write):
        """Closes what is over, and has `write` persist an `account` record.

        The first tally of an account that is opened comes with the next tick: the answer to its
        order has the balance of the record."""
        utc_s = self._meter.clock.utc_s()
        if utc_s is not None:
            self.close(utc_s)
        write()
        self._closed_minute = 0

    def least_utc_s(self):
        """UTC s before which no time may be set without an order: a closed period would open."""
        meter = self._meter
        period_utc_s = meter.account.period_start_utc_s
        return civil.month_start_utc_s(period_utc_s, meter.config.utc_offset_s, self._start_day())

    def month_start_utc_s(self, utc_s):
        """UTC s at which the billing month of a time began."""
        return civil.month_start_utc_s(utc_s, self._meter.config.utc_offset_s, self._start_day())

    def _start_day(self):
        meter = self._meter
        return (meter.account.tariff or meter.first_tariff).period_start_day

    # --- what is over ------------------------------------------------------------------------

    def _close_day(self, utc_s):
        self._meter.profiles.close_interval(utc_s)
        self._tally(utc_s)  # the day's record has the cost of the day

    def _is_dated(self, utc_s):
        """False while the open period began at an unknown time, or at one that was wrong."""
        period_utc_s = self._meter.account.period_start_utc_s
        return period_utc_s != 0 and period_utc_s - utc_s <= _TIME_STEP_MAX_S

    def _close_period(self, utc_s):
        meter = self._meter
        account = meter.account
        if account.tariff is None:
            return  # it waits for the flash
        month_utc_s = self.month_start_utc_s(utc_s)
        begins = False
        if account.closed:
            begins = True  # it has no period, and no part that would end
        elif not self._is_dated(utc_s):
            # Nothing is closed by this.
            self._write_period(month_utc_s, account.period_start_wh)
        elif month_utc_s > account.period_start_utc_s:
            # A flash that refuses must not put the new month's consumption into the old one.
            self._end_wh = self._end_wh or meter.energy.import_wh
            self._tally(utc_s)  # those that found no place in memory, up to its last day
            self._write_period(month_utc_s, self._end_wh)
            self._end_wh = 0
            begins = utc_s - month_utc_s < civil.DAY_S
        else:
            self._end_wh = 0  # the clock was set back before the end
        account = meter.account
        if 0 < account.passive_from_utc_s <= utc_s:
            if not begins:  # else the old one collects nothing in the new period
                self._tally(utc_s, True)
            meter.append("tariff", {"document": tariffs.parse(account.passive)})
        self._tally(utc_s)

    def _write_period(self, end_utc_s, end_wh):
        account = self._meter.account
        fields = {
            "start_utc_s": account.period_start_utc_s,
            "end_utc_s": end_utc_s,
            "start_wh": account.period_start_wh,
            "end_wh": end_wh,
            "tariff": account.tariff.id,
            "tariff_version": account.tariff.version,
        }
        fields["charge_mp"] = account.period_charge_mp(end_wh) if ends_period(fields) else 0
        self._meter.append("period", fields)

    # --- tallies -----------------------------------------------------------------------------

    def _tally(self, utc_s, part_ends=False):
        """Writes a tally if the day or the zone has changed, or the first of a part, where the
        tariff or the arrears ask for it, or before the part ends. While the flash refuses, keeps it
        in memory as it is now."""
        meter = self._meter
        account = meter.account
        tariff = account.tariff
        if tariff is None or account.closed or not self._is_dated(utc_s):
            return
        over = self._end_wh != 0  # what comes behind it is not of the open part
        if over and not meter.is_writable():
            return
        if not part_ends and not account.needs_tallies():
            return
        usage = account.usage
        offset_s = meter.config.utc_offset_s
        day = (utc_s + offset_s) // civil.DAY_S
        zone = charges.zone_at(tariff, (utc_s + offset_s) % civil.DAY_S // 60)
        start_day = tariff.period_start_day
        begin_utc_s = account.period_start_utc_s
        period_day, days = civil.period_of((begin_utc_s + offset_s) // civil.DAY_S, start_day)
        # The open period may be over: what is behind its end is the next one's.
        now_day = civil.period_of(day, start_day)[0]
        if now_day > period_day:
            day = now_day
        counted_day, counted_zone = usage.day, usage.zone
        held = [entry[1][1] for entry in meter.queue if entry[1][:1] == ("tally",)]
        if held:
            counted_day, counted_zone = held[-1]["day"], held[-1]["zone"]
            if len(held) == _HELD_MAX:
                return
        begins = not held and (not usage.first_day or account.recovery_begins())
        same_zone = over or zone == counted_zone
        if not begins and counted_day and day <= counted_day and same_zone:
            return
        from_day = counted_day or (period_day if usage.whole else day)
        fields = {
            "day": day,
            "period_day": period_day,
            "period_days": days,
            "zone": zone,
            "supply_min": meter.profiles.day.supply_s // 60 if day > from_day else 0,
            "load_w": meter.config.sanctioned_load_w,
        }
        if over:
            fields["import_wh"] = self._end_wh
        if meter.is_writable():
            meter.append("tally", fields)
            return
        fields["import_wh"] = meter.energy.import_wh
        meter.queue.append((meter.append, ("tally", fields, utc_s, meter.clock.up_s())))
