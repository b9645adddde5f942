"""Stand-in for emu.clock without a conductor: time jumps to whatever comes next."""

EPOCH_2000_MS = 946_684_800_000
START_MS = 1_790_000_000_000  # 21 September 2026

rtc_offset_ms = EPOCH_2000_MS - START_MS
ticks = 0
ticks_us = 0
held = 0
socket = None
_now_ms = START_MS
_alarms = []


def now_ms():
    return _now_ms


def look():
    pass


def attach(poller):
    pass


def drop_stale():
    pass


def at(ms, fn):
    cancel(fn)
    _alarms.append((ms, fn))


def cancel(fn):
    _alarms[:] = [alarm for alarm in _alarms if alarm[1] != fn]


def idle_until(ms):
    global _now_ms, ticks
    while True:
        due = [alarm for alarm in _alarms if alarm[0] <= ms]
        if not due:
            break
        alarm = min(due, key=lambda a: a[0])
        _alarms.remove(alarm)
        _now_ms = max(_now_ms, alarm[0])
        alarm[1]()
    ticks += ms - _now_ms
    _now_ms = max(_now_ms, ms)


def idle(until_ms, poller, alarms=True):
    # Real ms: a peer on the loopback answers within them; who holds waits longer, as on the board.
    for _ in poller.ipoll(5000 if held else 20):
        return True
    if until_ms is None:
        raise RuntimeError("nothing will ever happen")
    idle_until(until_ms)
    return False


def hold():
    global held
    held += 1


def release():
    global held
    held -= 1


def tell():
    pass
