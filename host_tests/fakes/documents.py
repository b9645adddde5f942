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


def tariff_of(*lines, **members):
    """A tariff of some lines, with other members of the document."""
    return {**tariff_document(), "lines": list(lines), **members}


def steps(*limits_and_rates):
    """Slabs of (limit in kWh or None, rate in mp per kWh)."""
    return [{"up_to_kwh": limit, "rate_mp_per_kwh": rate} for limit, rate in limits_and_rates]


def rich_tariff(**members):
    """A tariff with nearly every shape, every way to collect, and zones, as long as may be sent."""
    return tariff_of(
        {"name": "energy", "shape": "telescopic", "slabs": steps((100, 742000), (None, 895000))},
        {
            "name": "sub",
            "shape": "by_total",
            "kind": "subsidy",
            "classes": [
                {"up_to_kwh": 200, "slabs": steps((None, -330000))},
                {"up_to_kwh": None, "slabs": steps((None, 0))},
            ],
        },
        {"name": "free", "shape": "free", "kwh": 125},
        {"name": "off", "shape": "percent", "percent_x1000": -3000, "of": ["free"]},
        {
            "name": "time",
            "shape": "time_of_day",
            "percent_x1000": {"peak": 20000, "night": -15000},
            "of": ["energy"],
        },
        {
            "name": "rent",
            "shape": "fixed",
            "per": "connection",
            "rate_mp": 310_000,
            "collect": "monthly",
        },
        {
            "name": "load",
            "shape": "fixed",
            "per": "kw",
            "rate_mp": 40_000,
            "collect": "daily",
            "by_supply": True,
        },
        {
            "name": "band",
            "shape": "fixed",
            "per": "band",
            "bands": [{"up_to_kw": None, "rate_mp": 10**10}],
            "collect": "first_recharge",
        },
        {
            "name": "duty",
            "shape": "percent",
            "kind": "duty",
            "percent_x1000": 6000,
            "of": ["time"],
        },
        **{
            "period_start_day": 5,
            "on_change": "pro_rata",
            "full_supply_min": 1260,
            "zones": [
                {"name": "peak", "from_min": 1080, "to_min": 1380},
                {"name": "night", "from_min": 0, "to_min": 300},
            ],
            **members,
        },
    )


def largest_tariff():
    """One that takes the most heap: of many lines and slabs, with as many bytes as there may be."""
    slabs = [(10 * number, 600_001) for number in range(1, 6)]
    subsidies = [(9 * number, -number) for number in range(1, 6)]
    load = {"shape": "fixed", "per": "kw", "rate_mp": 10**10, "collect": "daily"}
    duty = {"shape": "percent", "percent_x1000": 6000, "of": ["e"]}
    return tariff_of(
        {"name": "e", "shape": "telescopic", "slabs": steps(*slabs, (None, 999_999))},
        {"name": "s", "shape": "whole", "kind": "subsidy", "slabs": steps(*subsidies, (None, 0))},
        {"name": "t", "shape": "time_of_day", "percent_x1000": {"p": 20000}, "of": ["e"]},
        {**load, "name": "load", "by_supply": True},
        {**load, "name": "more"},
        *[{**duty, "name": f"duty{number}"} for number in range(3)],
        full_supply_min=1260,
        zones=[{"name": "p", "from_min": 1080, "to_min": 1380}],
    )


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
