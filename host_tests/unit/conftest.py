"""Fixtures that several modules use."""

import pytest

from host_tests.fakes.bench import MIDNIGHT_UTC_S, Bench


@pytest.fixture
def make_bench(tmp_path):
    """Makes meters on benches; what they leave open is closed at the end."""
    benches = []

    def make(utc_s=MIDNIGHT_UTC_S, folder="data", **config):
        benches.append(Bench(tmp_path / folder, utc_s, **config))
        return benches[-1]

    yield make
    for bench in benches:
        bench.meter.journal.close()
