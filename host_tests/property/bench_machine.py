"""What the state machines of a whole meter share."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine

from firmware.storage import errors
from host_tests.fakes.bench import Bench

_fsync = errors._fsync

SETTINGS = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class BenchMachine(RuleBasedStateMachine):
    """Its meter is `bench`, which the rule that begins makes by `make_bench`."""

    def sync(self, descriptor):
        """Nothing: no machine loses its power here, and to sync for real is most of the time."""

    def make_bench(self, utc_s, **config):
        errors._fsync = self.sync
        self.folder = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.folder.name) / "data", utc_s, **config)

    def teardown(self):
        errors._fsync = _fsync
        if hasattr(self, "bench"):
            self.bench.meter.journal.close()
            self.folder.cleanup()
