"""The count of lived time against a model that knows the true time, over power failures."""

import copy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firmware.core.livedtime import LivedTime

SPANS_S = st.integers(0, 5000)


class LivedTimeMachine(RuleBasedStateMachine):
    """A meter that writes records, checkpoints and snapshots, and starts from them.

    The model: each boot has a count at its start, `base_s`. With the time without power known, that
    is the count at the last dated moment on flash, and the true span from there to the boot;
    without, it is the last count on flash.
    """

    def __init__(self):
        super().__init__()
        self.lived = LivedTime()
        self.true_s = self.boot_true_s = self.base_s = 0
        self.boot = 1
        self.written_s = 0  # uptime up to which something is on flash
        self.mark = (0, 0)  # (true time, count) of the last dated moment of earlier boots
        self.dated_s = None  # the same of this boot, as an uptime
        self.clock = True
        self.off_s = None  # what the boot's record is going to say: it is not written yet
        self.snapshot = (1, self.lived.state())
        self.checkpoint = None
        self.log = []  # (boot, uptime, dated, time without power or None) behind the snapshot

    @property
    def up_s(self):
        return self.true_s - self.boot_true_s

    def write(self, up_s):
        self.written_s = max(self.written_s, up_s)
        if self.clock:
            self.dated_s = self.written_s

    @staticmethod
    def apply(lived, boot, up_s, dated, off_s):
        lived.live(boot, up_s)
        if off_s is not None:
            away_s = lived.away_s(off_s)
            if away_s and dated:
                lived.insert(away_s)
        if dated:
            lived.dated()

    def append(self, off_s=None, up_s=None):
        up_s = self.up_s if up_s is None else up_s
        record = (self.boot, up_s, self.clock, off_s)
        self.log.append(record)
        self.apply(self.lived, *record)
        self.write(up_s)
        if off_s is not None and off_s >= 0 and self.clock:
            true_s, count_s = self.mark
            self.base_s = count_s + self.boot_true_s - true_s

    def live_on(self):
        self.lived.live(self.boot, self.up_s)
        if self.clock:
            self.lived.dated()

    @rule(span_s=SPANS_S)
    def time_passes(self, span_s):
        self.true_s += span_s

    @rule()
    def a_record_is_written(self):
        self.append()

    @rule(ago_s=SPANS_S)
    def a_record_is_written_that_waited(self, ago_s):
        self.append(up_s=max(0, self.up_s - ago_s))

    @rule()
    def a_checkpoint_is_written(self):
        if self.snapshot[0] == self.boot:  # each boot begins with one
            self.live_on()
            self.write(self.up_s)
            self.checkpoint = (len(self.log), self.lived.checkpoint())

    @rule()
    def a_snapshot_is_written(self):
        self.live_on()
        self.write(self.up_s)
        self.snapshot = (self.boot, self.lived.state())
        self.checkpoint = None
        self.log = []

    @rule(off_s=SPANS_S, clock=st.booleans(), late=st.booleans())
    def power_fails(self, off_s, clock, late):
        if self.dated_s is not None:
            self.mark = (self.boot_true_s + self.dated_s, self.base_s + self.dated_s)
        self.base_s += self.written_s
        self.true_s += off_s
        self.boot_true_s = self.true_s
        self.boot += 1
        self.written_s, self.dated_s = 0, None
        self.clock = clock
        self.recover()
        self.off_s = self.true_s - self.mark[0] if clock else -1
        if not late:  # else the flash refuses it for now
            self.the_boot_s_record_is_written()
            self.a_snapshot_is_written()

    def recover(self):
        boot, state = self.snapshot
        self.lived = LivedTime()
        self.lived.restore(boot, *state)
        at, values = self.checkpoint or (None, None)
        for number, record in enumerate(self.log):
            if number == at:
                self.lived.take_checkpoint(boot, *values)
            self.apply(self.lived, *record)
        if at == len(self.log):
            self.lived.take_checkpoint(boot, *values)

    @precondition(lambda self: self.off_s is not None)
    @rule()
    def the_boot_s_record_is_written(self):
        self.append(self.off_s)
        self.off_s = None

    @precondition(lambda self: self.off_s is None)
    @rule()
    def the_gateway_tells_the_time(self):
        self.clock = True
        self.append(self.boot_true_s - self.mark[0])

    @invariant()
    def the_count_is_that_of_the_model(self):
        lived = copy.copy(self.lived)
        lived.live(self.boot, self.up_s)
        assert lived.now_s == self.base_s + self.up_s <= self.true_s


TestLivedTime = LivedTimeMachine.TestCase
TestLivedTime.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_with_a_clock_chip_nothing_is_lost():
    machine = LivedTimeMachine()
    for span_s in (1, 3600, 86400):
        machine.time_passes(span_s)
        machine.a_record_is_written()
        machine.time_passes(span_s)  # on no flash
        machine.power_fails(span_s, clock=True, late=False)
        machine.live_on()
        assert machine.lived.now_s == machine.true_s


def test_a_flash_that_refuses_the_boot_s_record_counts_its_uptime_once():
    machine = LivedTimeMachine()
    machine.time_passes(600)
    machine.a_snapshot_is_written()
    machine.power_fails(60, clock=False, late=True)
    machine.time_passes(3600)
    machine.a_snapshot_is_written()  # first of what a flash takes again
    machine.the_boot_s_record_is_written()
    assert machine.lived.now_s == 600 + 3600
