"""Signs of tampering: reversed current, current past an open contact, magnet, open cover.

They are conditions as those of metering/quality.py, which has the rest.
Tests: host_tests/unit/test_tamper.py.
"""

from firmware.core.shim import const

_REVERSED = const(4)
_BYPASSED = const(5)
_MAGNET = const(6)
_COVER = const(7)

_DEBOUNCE_MS = const(1000)  # the same at two looks in a row


def judge(watches, config, energy, contact, dt_ms):
    """Judges the last sample, `dt_ms` after the one before (0: a new stretch); contact: 0 open.

    A meter that counts export takes a reversed current for what it is.
    """
    persist_ms = config.tamper_persist_s * 1000
    current_ma = energy.current_ua // 1000 if energy.power_mw else 0
    backwards_ma = current_ma if energy.reversed and not config.export_counts else 0
    watches.add(_REVERSED, backwards_ma, 0, 0, persist_ms, dt_ms)
    watches.add(_BYPASSED, 0 if contact else current_ma, 0, 0, persist_ms, dt_ms)


def poll(watches, magnet, cover, dt_ms):
    """Looks at input pins (1 present, 1 open; None: there is none), `dt_ms` after the last look."""
    if magnet:
        watches.add(_MAGNET, magnet.value(), 0, 0, _DEBOUNCE_MS, dt_ms)
    if cover:
        watches.add(_COVER, cover.value(), 0, 0, _DEBOUNCE_MS, dt_ms)
