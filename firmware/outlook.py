"""What a consumer wants to know beforehand: cost so far, days left, the month's end, the next kWh.

Estimates, which decide nothing; all follow from the days that were closed, the register and the
tariff. docs/SPEC.md section 2.2 is the prose. Tests: host_tests/unit/test_outlook.py.
"""

from firmware.core import civil
from firmware.core.shim import const
from firmware.credit import charges

_KWH_WH = const(1000)
_STEPS_MAX = const(24)


def figures(meter):
    """The members of SPEC section 2.2 of a meter's `live`."""
    account, profiles = meter.account, meter.profiles
    wh = meter.energy.import_wh
    charged_mp = account.charges_mp(wh)
    day, month = profiles.day, profiles.month
    month_mp = charged_mp - month.start_charges_mp
    daily_wh, daily_mp = profiles.mean_day()
    days_left = -1
    if daily_mp > 0:
        days_left = min(9999, max(0, account.credits_mp - charged_mp) // daily_mp)
    more_mp = _rest_of_month_mp(meter, daily_wh)
    return {
        "today_wh": wh - day.start_wh,
        "today_mp": charged_mp - day.start_charges_mp,
        "month_wh": wh - month.start_wh,
        "month_mp": month_mp,
        "days_left": days_left,
        "projected_mp": -1 if more_mp is None else max(0, month_mp + more_mp),
        "next_kwh_mp": account.charges_mp(wh + _KWH_WH) - charged_mp,
    }


def _rest_of_month_mp(meter, daily_wh):
    """What the rest of the billing month will be charged, at so many Wh a day in the zones as so
    far; None if that is not known."""
    account = meter.account
    if account.closed:
        return 0
    tariff = account.tariff
    utc_s = meter.clock.utc_s()
    if utc_s is None or tariff is None or not daily_wh:
        return None
    wh = meter.energy.import_wh
    local_s = utc_s + meter.config.utc_offset_s
    first_day, days = civil.period_of(local_s // civil.DAY_S, tariff.period_start_day)
    end_day = first_day + days
    rest_s = end_day * civil.DAY_S - local_s
    usage = account.usage.copy()
    if account.needs_tallies():
        usage.take(
            tariff,
            {
                "import_wh": wh,
                "zone": usage.zone,
                "load_w": meter.config.sanctioned_load_w,
                "period_day": first_day,
                "period_days": days,
                "day": end_day,
                "supply_min": rest_s // 60,
            },
        )
    usage.finish(tariff, wh)
    later = usage.quantities(tariff, wh)
    more_wh = daily_wh * rest_s // civil.DAY_S
    used_wh = sum(later.zone_wh)
    if used_wh:
        later.zone_wh = [zone_wh + more_wh * zone_wh // used_wh for zone_wh in later.zone_wh]
    else:
        later.zone_wh[0] = more_wh
    return charges.charge_mp(tariff, later) - account.open_charge_mp(wh)


def cliff(account, import_wh):
    """(Wh until it, mp that it costs) of the next cliff: where one more Wh re-rates what was used
    before; None if none is ahead."""
    tariff = account.tariff
    if tariff is None:
        return None
    now = account.quantities(import_wh)
    total_wh = now.base_wh + sum(now.zone_wh)
    step_wh = charges.next_step_wh(tariff, total_wh, now.share)
    for _ in range(_STEPS_MAX):
        if step_wh is None:
            return None
        ahead_wh = step_wh - total_wh
        at, over, behind = [
            account.open_charge_mp(import_wh + ahead_wh + more_wh) for more_wh in range(3)
        ]
        jump_mp = over - at - (behind - over)
        if jump_mp > 0:
            return ahead_wh, jump_mp
        step_wh = charges.next_step_wh(tariff, step_wh + 1, now.share)
    return None
