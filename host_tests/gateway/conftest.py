"""A real gateway with real mosquitto, SQLite and HTTP, in this process, on a manual clock."""

import os
import threading

import httpx
import pytest

from gateway.errors import GatewayError
from gateway.service import Gateway, Settings
from host_tests.fakes.manual_clock import ManualClock
from host_tests.fakes.meter import FakeMeter
from toolchain import locate

TARIFF = {
    "id": "test-slabs",
    "version": 1,
    "currency": "INR",
    "effective_from_utc_s": 1_577_817_000,
    "lines": [
        {
            "name": "energy",
            "shape": "telescopic",
            "slabs": [
                {"up_to_kwh": 1, "rate_mp_per_kwh": 605_000},
                {"up_to_kwh": None, "rate_mp_per_kwh": 850_000},
            ],
        }
    ],
}


def mosquitto_or_skip():
    """The broker's command; skips where there is none and nobody insists."""
    try:
        return locate.mosquitto()
    except locate.ToolMissing as missing:
        if os.environ.get("BIJLI_REQUIRE_SERVERS"):
            raise
        pytest.skip(f"no mosquitto: {missing}")


class Bench:
    """A gateway and what a test does with it."""

    def __init__(self, folder, clock, **settings):
        self.folder = folder
        self.clock = clock
        self.settings = Settings(
            folder=folder,
            http_port=0,
            broker_port=0,
            broker_command=mosquitto_or_skip(),
            **settings,
        )
        self.meters = []
        self.gateway = None

    def start(self):
        gateway = Gateway(self.settings, self.clock)
        gateway.start()
        self.gateway = gateway
        self.http = httpx.Client(base_url=self.gateway.http_url, timeout=20, trust_env=False)
        self.stream = Changes(self.gateway.live)
        self.until(lambda: self.gateway.transport.connected)
        return self

    def stop(self):
        if self.gateway is not None:
            self.http.close()
            self.gateway.stop()
            self.gateway = None

    def close(self):
        for meter in self.meters:
            meter.close()
        self.stop()

    def register(self, meter="JH-0001", **members):
        body = {
            "id": meter,
            "consumer": "Asha Devi",
            "tariff": TARIFF,
            "opening_balance_mp": 10_000_000,
            **members,
        }
        response = self.http.post("/api/meters", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    def meter(self, meter="JH-0001", connect=True, **members):
        """Register a meter and have it there."""
        fake = FakeMeter(self.register(meter, **members))
        self.meters.append(fake)
        return fake.connect() if connect else fake

    def recharge(self, amount_mp=5_000_000, meter="JH-0001", key="k-1"):
        return self.http.post(
            f"/api/meters/{meter}/recharges",
            json={"amount_mp": amount_mp},
            headers={"Idempotency-Key": key},
        )

    def get(self, path, **params):
        response = self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def until(self, condition, timeout_s=20):
        """Wait until `condition()`, looking whenever anything changes at the gateway."""
        return self.stream.until(condition, timeout_s)

    def recharge_is(self, recharge, state):
        """Wait until a recharge has a state; returns it."""
        self.until(lambda: self.get(f"/api/recharges/{recharge}")["state"] == state)
        return self.get(f"/api/recharges/{recharge}")


class Changes:
    """Waits for changes of the live board, which is told of everything."""

    LOOK_AGAIN_S = 0.05

    def __init__(self, live):
        self._event = threading.Event()
        live.listen(self._event.set)

    def until(self, condition, timeout_s):
        looks = int(timeout_s / self.LOOK_AGAIN_S)
        for _ in range(looks):
            if value := condition():
                return value
            self._event.wait(self.LOOK_AGAIN_S)
            self._event.clear()
        raise AssertionError("waited in vain")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def make_bench(tmp_path, clock):
    """Makes gateways that are closed at the end."""
    made = []

    def make(folder=None, **settings):
        bench = Bench(folder or tmp_path / "gateway", clock, **settings)
        made.append(bench)
        return bench

    yield make
    errors = []
    for bench in made:
        try:
            bench.close()
        except GatewayError as error:
            errors.append(error)
    assert not errors


@pytest.fixture
def bench(make_bench):
    """A running gateway."""
    return make_bench().start()
