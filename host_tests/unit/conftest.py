"""Fixtures that several modules use."""

import pytest

from firmware.storage import errors
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


class Flash:
    """`refuses` is an errno or None, from when `writes` more have been done."""

    refuses = None
    writes = 0

    def fsync(self, _descriptor):
        if self.refuses and self.writes:
            self.writes -= 1
        elif self.refuses:
            raise OSError(self.refuses, "injected")


@pytest.fixture
def flash(monkeypatch):
    """The flash under every bench of a test."""
    flash = Flash()
    monkeypatch.setattr(errors, "_fsync", flash.fsync)
    return flash
