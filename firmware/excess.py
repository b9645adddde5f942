"""What a month above the sanctioned load costs. Loaded when a month is over: see core/seldom.py.

It is charged once: its ledger entry is looked for by its id, and written before the month is
closed. docs/SPEC.md section 2.4.6 is the prose. Tests: host_tests/unit/test_limits.py.
"""

from firmware.core import civil
from firmware.core.shim import const

_W_PER_KW = const(1000)


def charge(meter, month):
    """Charges the excess of a month (metering.profile.Span) that is over and not yet closed.

    Raises StorageError.
    """
    config = meter.config
    excess_w = max(0, month.demand_max_w - config.sanctioned_load_w)
    amount_mp = -(-excess_w // _W_PER_KW) * config.excess_mp_per_kw
    if not amount_mp or not config.sanctioned_load_w or meter.account.closed:
        return
    day = (month.start_utc_s + config.utc_offset_s) // civil.DAY_S
    entry = (meter, "excess-%04d-%02d" % civil.civil_from_days(day)[:2], -amount_mp)
    if meter.is_writable():
        _enter(*entry)
    else:
        meter.queue.append((_enter, entry))


def _enter(meter, entry_id, amount_mp):
    if meter.journal.find_order(entry_id) is None:
        meter.credit("adjustment", entry_id, 0, amount_mp)
