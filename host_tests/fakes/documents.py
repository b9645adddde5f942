"""Valid documents for tests, each a fresh dict."""

KEY_HEX = "00112233445566778899aabbccddeeff" * 2


def tariff_document(*slabs):
    """A tariff of (limit in kWh or None, rate in mp per kWh) slabs; flat 6.65 rupees without."""
    return {
        "id": "test",
        "version": 1,
        "currency": "INR",
        "effective_from_utc_s": 0,
        "lines": [
            {
                "name": "energy",
                "shape": "telescopic",
                "slabs": [
                    {"up_to_kwh": limit, "rate_mp_per_kwh": rate}
                    for limit, rate in slabs or [(None, 665000)]
                ],
            }
        ],
    }


def meter_config(**changes):
    """A meter's configuration as provisioning makes it."""
    return {
        "v": 1,
        "meter": "JH-0001",
        "key": KEY_HEX,
        "wifi": {"ssid": "bijli", "password": ""},
        "broker": {"host": "127.0.0.1", "port": 1883, "user": "JH-0001", "password": "secret"},
        "utc_offset_s": 19800,
        "voltage_ratio_x1000": 10000,
        "current_ratio_x1000": 12500,
        "sample_period_ms": 1000,
        "live_period_s": 60,
        "opening_balance_mp": 10000000,
        "tariff": tariff_document(),
        "rules": {
            "low_credit_mp": 5000000,
            "grace_s": 86400,
            "window_start_min": 600,
            "window_end_min": 780,
        },
        **changes,
    }
