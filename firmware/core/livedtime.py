"""Seconds that a meter has lived: a count that goes on over restarts, through outages as well.

What lasts for minutes or days, as the delay of a limit, must come to its end also where power
fails every few minutes. Uptime begins anew with each boot, UTC may be unknown for weeks. This count
takes the uptimes of all boots together, and the time without power as soon as somebody tells it.
It never runs ahead of true time, and stays behind by what is known to nobody: the end of a boot
after its last record or checkpoint, and an outage that no time of day came after.

Tests: host_tests/property/test_livedtime.py.
"""


class LivedTime:
    """Feed it with every record in order, live as at recovery: `live`, what the record means for
    the time without power (`away_s`, `insert`), then `dated` if the record's time is known."""

    def __init__(self):
        self.now_s = 0  # up to `_up_s` of boot `_boot`
        self._boot = 0
        self._up_s = 0
        # By that count:
        self._dated_s = 0  # the last moment with a time of day
        self._boot_s = 0  # where the boot began
        self.mark_s = 0  # the last such moment before the boot

    def live(self, boot, up_s):
        """Time has passed up to uptime `up_s`, s, of a boot: its number, from 1 on."""
        if boot != self._boot:
            self._boot = boot
            self._up_s = 0
            self._boot_s, self.mark_s = self.now_s, self._dated_s
        if up_s > self._up_s:  # a record that waited is older than the last
            self.now_s += up_s - self._up_s
            self._up_s = up_s

    def dated(self):
        """At this moment the time of day is known."""
        self._dated_s = self.now_s

    def away_s(self, off_s):
        """Seconds without power before this boot, 0 or more. off_s: s from the last known time of
        day to the boot; negative: unknown."""
        return max(0, off_s - (self._boot_s - self.mark_s))

    def insert(self, away_s):
        """Counts so many seconds without power, which were before this boot: told by a record with
        a time, so `dated` follows. What is later than `mark_s` by this count is so much later now:
        nobody knows which of it was before them."""
        self._boot_s += away_s
        self.now_s += away_s

    def state(self):
        """The state as a list for a snapshot, which is of the boot that is counted now."""
        return [self.now_s, self._up_s, self._dated_s, self._boot_s, self.mark_s]

    def restore(self, boot, now_s, up_s, dated_s=0, boot_s=0, mark_s=0):
        """Takes what `state` gave in that boot; older firmware counted the first two only."""
        self._boot = boot
        self.now_s, self._up_s, self._dated_s = now_s, up_s, dated_s
        self._boot_s, self.mark_s = boot_s, mark_s

    def checkpoint(self):
        """What `take_checkpoint` takes back, a tuple; snapshot and records give the rest."""
        return self.now_s, self._up_s, self._dated_s

    def take_checkpoint(self, boot, now_s, up_s, dated_s):
        """How far time had come in that boot when a checkpoint was written."""
        if now_s > self.now_s:  # one of older firmware says 0
            self._boot = boot
            self.now_s, self._up_s, self._dated_s = now_s, up_s, dated_s
