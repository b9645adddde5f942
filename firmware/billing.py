"""The billing of one meter: closes what is over by the calendar, and writes what the ledger needs.

Invariants
  - A period is closed once, at a register that the record holds.
  - State follows from records by `Account.apply`, live as at recovery.

docs/SPEC.md section 2.1 is the prose. Tests: host_tests/unit/test_meter.py,
host_tests/unit/test_storage_faults.py.
"""

from firmware.core import civil
from firmware.core.shim import const

_TIME_STEP_MAX_S = const(86400)


class Billing:
    """Billing periods of a Meter."""

    def __init__(self, meter):
        self._meter = meter
        self._closed_minute = 0
        self._end_wh = 0  # register at the end of a period that waits to be closed; 0: none

    def close(self, utc_s):
        """Closes what is over at a known time; call it at least once a minute.

        Profiles and periods begin with a minute; in between there is nothing to close."""
        minute = utc_s // 60
        if minute == self._closed_minute:
            return
        meter = self._meter
        closed = meter.attempt(meter.profiles.close, utc_s)
        if meter.attempt(self._close_period, utc_s) and closed:
            self._closed_minute = minute

    def least_utc_s(self):
        """UTC s before which no time may be set without an order: a closed period would open."""
        meter = self._meter
        period_utc_s = meter.account.period_start_utc_s
        return civil.month_start_utc_s(period_utc_s, meter.config.utc_offset_s)

    def _close_period(self, utc_s):
        meter = self._meter
        account = meter.account
        if account.tariff is None:
            return  # it waits for the flash
        month_utc_s = civil.month_start_utc_s(utc_s, meter.config.utc_offset_s)
        ahead_s = account.period_start_utc_s - utc_s
        if account.period_start_utc_s == 0 or ahead_s > _TIME_STEP_MAX_S:
            # It began at an unknown or a wrong time: date it, without closing anything.
            self._write_period(month_utc_s, account.period_start_wh, 0)
        elif month_utc_s > account.period_start_utc_s:
            # A flash that refuses must not put the new month's consumption into the old one.
            self._end_wh = self._end_wh or meter.energy.import_wh
            self._write_period(month_utc_s, self._end_wh, account.open_charge_mp(self._end_wh))
            self._end_wh = 0

    def _write_period(self, end_utc_s, end_wh, charge_mp):
        account = self._meter.account
        self._meter.append(
            "period",
            {
                "start_utc_s": account.period_start_utc_s,
                "end_utc_s": end_utc_s,
                "start_wh": account.period_start_wh,
                "end_wh": end_wh,
                "charge_mp": charge_mp,
                "tariff": account.tariff.id,
                "tariff_version": account.tariff.version,
            },
        )
