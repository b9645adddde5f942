"""Charges by hand: published results, each shape's lines, and the rounding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.credit import charges
from firmware.credit import tariff as tariffs
from host_tests.fakes.documents import rich_tariff, steps, tariff_document, tariff_of

RUPEE_MP = 100_000
ZONES = [
    {"name": "peak", "from_min": 1080, "to_min": 1380},
    {"name": "night", "from_min": 0, "to_min": 300},
    {"name": "night", "from_min": 1380, "to_min": 1440},
]


def energy(*slabs, **members):
    return {"name": "energy", "shape": "telescopic", "slabs": steps(*slabs), **members}


def percent(percent_x1000, *of, **members):
    line = {"name": "percent", "shape": "percent", "percent_x1000": percent_x1000}
    return {**line, "of": list(of), **members}


def fixed(per, rate_mp=0, **members):
    line = {"name": "fixed", "shape": "fixed", "per": per, "collect": "daily"}
    return {**line, "rate_mp": rate_mp, **members}


def by_total(*classes, **members):
    classes = [{"up_to_kwh": limit, "slabs": steps(*slabs)} for limit, slabs in classes]
    return {"name": "energy", "shape": "by_total", "classes": classes, **members}


def of(document, kwh=0, **members):
    """(tariff, quantities) of a document and a period of some kWh."""
    tariff = tariffs.parse(document)
    quantities = charges.Quantities(tariff, kwh * 1000)
    for name, value in members.items():
        setattr(quantities, name, value)
    return tariff, quantities


def lines_of(document, kwh=0, **members):
    tariff, quantities = of(document, kwh, **members)
    lines = charges.charge_lines(tariff, quantities)
    assert charges.total_mp(lines) == charges.charge_mp(tariff, quantities)
    return lines


def amounts(document, kwh=0, **members):
    return [(line[0], line[5]) for line in lines_of(document, kwh, **members)]


def rupees(document, kwh, **members):
    return charges.charge_mp(*of(document, kwh, **members)) / RUPEE_MP


# SBPDCL 2020-21, rupees 6.05 ... per kWh and 40 or 20 per kW.
URBAN_2020 = tariff_of(energy((100, 605000), (200, 685000), (300, 770000), (None, 850000)))
RURAL_2020 = tariff_of(energy((50, 605000), (100, 630000), (200, 660000), (None, 695000)))
FREE = {"name": "free", "shape": "free", "kwh": 125}
URBAN_2025 = tariff_of(
    energy((100, 742000), (None, 895000)),
    energy((100, -330000), (None, -343000), name="subsidy", kind="subsidy"),
    FREE,
)
RURAL_2025 = tariff_of(
    energy((None, 742000)), energy((None, -497000), name="subsidy", kind="subsidy"), FREE
)
JBVNL_2022 = tariff_of(by_total((400, [(200, 350000), (None, 420000)]), (None, [(None, 625000)])))
JBVNL_2025 = tariff_of(
    energy((None, 685000)),
    by_total(
        (200, [(None, -685000)]),
        (400, [(None, -205000)]),
        (None, [(None, 0)]),
        name="subsidy",
        kind="subsidy",
    ),
)
LIFELINE = tariff_of(
    by_total(
        (50, [(None, 463000)]),
        (
            None,
            [
                (75, 526000),
                (200, 720000),
                (300, 759000),
                (400, 802000),
                (600, 1267000),
                (None, 1461000),
            ],
        ),
    )
)


@pytest.mark.parametrize(
    ("document", "kwh", "expected"),
    [
        (URBAN_2025, 125, 0),
        (URBAN_2025, 200, 414),
        (URBAN_2025, 300, 966),
        (URBAN_2025, 400, 1518),
        (RURAL_2025, 100, 0),
        (RURAL_2025, 200, 183.75),
        (RURAL_2025, 300, 428.75),
        (RURAL_2025, 400, 673.75),
        (URBAN_2020, 350, 2485),
        (RURAL_2020, 250, 302.5 + 315 + 660 + 347.5),
        (JBVNL_2022, 400, 200 * 3.5 + 200 * 4.2),
        (JBVNL_2022, 401, 401 * 6.25),
        (JBVNL_2025, 200, 0),
        (JBVNL_2025, 201, 964.80),
        (JBVNL_2025, 400, 1920),
        (JBVNL_2025, 401, 2746.85),
        (LIFELINE, 50, 231.50),
        (LIFELINE, 51, 268.26),
        (LIFELINE, 300, 394.50 + 900 + 759),
    ],
)
def test_published_results(document, kwh, expected):
    assert rupees(document, kwh) == expected


@pytest.mark.parametrize(("rate_mp", "expected"), [(630000, 1833.30), (665000, 1935.15)])
def test_a_rebate_of_3_percent_off_a_flat_price(rate_mp, expected):
    document = tariff_of(energy((None, rate_mp)), percent(-3000, "energy"))
    assert rupees(document, 300) == expected
    assert [line[1] for line in lines_of(document, 300)] == ["energy", "rebate"]


def test_each_slab_is_a_line_and_what_is_not_reached_is_none():
    assert lines_of(URBAN_2020, 150) == [
        ("energy up to 100 kWh", "energy", 100_000, "Wh", 605000, 60_500_000),
        ("energy up to 200 kWh", "energy", 50_000, "Wh", 685000, 34_250_000),
    ]
    assert lines_of(URBAN_2020, 301)[3][:3] == ("energy above 300 kWh", "energy", 1_000)
    assert lines_of(tariff_document(), 2) == [("energy", "energy", 2000, "Wh", 665000, 1_330_000)]
    for document in (URBAN_2020, rich_tariff()):
        assert lines_of(document) == []


def test_a_class_that_ends_re_rates_what_came_before_it():
    assert amounts(LIFELINE, 50) == [("energy up to 50 kWh", 23_150_000)]
    assert lines_of(LIFELINE, 60) == [
        ("energy up to 50 kWh", "energy", 50_000, "Wh", 463000, 23_150_000),
        ("energy re-rated at 50 kWh", "rerating", 50_000, "Wh", None, 3_150_000),
        ("energy up to 75 kWh", "energy", 10_000, "Wh", 526000, 5_260_000),
    ]
    assert amounts(JBVNL_2022, 401) == [
        ("energy up to 200 kWh", 70_000_000),
        ("energy up to 400 kWh", 84_000_000),
        ("energy re-rated at 400 kWh", 96_000_000),
        ("energy above 400 kWh", 625_000),
    ]
    # The subsidy that is withdrawn: 960 rupees for the 201st unit, besides its own price.
    assert amounts(JBVNL_2025, 401)[1:] == [
        ("subsidy up to 200 kWh", -137_000_000),
        ("subsidy re-rated at 200 kWh", 96_000_000),
        ("subsidy up to 400 kWh", -41_000_000),
        ("subsidy re-rated at 400 kWh", 82_000_000),
        ("subsidy above 400 kWh", 0),
    ]


def test_whole_is_by_total_with_classes_of_one_slab():
    whole = tariff_of(energy((50, 400000), (None, 500000), shape="whole"))
    classes = tariff_of(by_total((50, [(None, 400000)]), (None, [(None, 500000)])))
    for kwh in (50, 51, 300):
        assert lines_of(whole, kwh) == lines_of(classes, kwh)
    assert rupees(whole, 50) == 200
    assert rupees(whole, 51) == 255


def test_half_a_milli_paisa_is_rounded_up_also_below_zero():
    for rate, expected in ((499, [0, 1, 1]), (500, [1, 1, 2]), (-500, [0, -1, -1])):
        document = tariff_of(energy((None, rate), kind="subsidy"))
        tariff, quantities = of(document)
        for wh, amount_mp in zip((1, 2, 3), expected, strict=True):
            quantities.zone_wh[0] = wh
            assert charges.charge_mp(tariff, quantities) == amount_mp
    # 5 % of 10 mp and of -10 mp: each line is rounded, not the sum.
    for rate, expected in ((10, (10, 1)), (-10, (-10, 0))):
        document = tariff_of(energy((None, rate), kind="subsidy"), percent(5000, "energy"))
        assert tuple(line[5] for line in lines_of(document, 1)) == expected


def test_per_kwh_is_for_all_units():
    line = {"name": "FPPPA", "shape": "per_kwh", "rate_mp_per_kwh": -1234}
    last = lines_of(tariff_of(URBAN_2020["lines"][0], line), 350)[-1]
    assert last == ("FPPPA", "rebate", 350_000, "Wh", -1234, -431_900)


def test_free_units_cost_what_the_first_units_cost():
    assert amounts(URBAN_2025, 200)[-1] == ("free", -(41_200_000 + 25 * 552_000))
    assert lines_of(URBAN_2025, 30)[-1] == ("free", "free", 30_000, "Wh", None, -30 * 412_000)
    # By the class that the whole total has reached.
    document = tariff_of(LIFELINE["lines"][0], {**FREE, "kwh": 10})
    assert amounts(document, 50)[-1] == ("free", -4_630_000)
    assert amounts(document, 51)[-1] == ("free", -5_260_000)


def test_duty_before_or_after_a_subsidy_is_what_it_is_of():
    subsidy = {"name": "subsidy", "shape": "per_kwh", "kind": "subsidy", "rate_mp_per_kwh": -200000}
    before = tariff_of(energy((None, 500000)), subsidy, percent(6000, "energy", kind="duty"))
    after = tariff_of(
        energy((None, 500000)), subsidy, percent(6000, "energy", "subsidy", kind="duty")
    )
    assert lines_of(before, 100)[-1] == ("percent", "duty", 50_000_000, "%", 6000, 3_000_000)
    assert lines_of(after, 100)[-1] == ("percent", "duty", 30_000_000, "%", 6000, 1_800_000)


def test_time_of_day_takes_each_zones_part_of_the_sum():
    time = {
        "name": "time",
        "shape": "time_of_day",
        "percent_x1000": {"peak": 20000, "night": -15000},
        "of": ["energy"],
    }
    document = tariff_of(energy((100, 100000), (None, 300000)), time, zones=ZONES)
    lines = lines_of(document, zone_wh=[100_000, 60_000, 40_000, 0])
    # 400 rupees for 200 kWh: 120 in the peak, 80 at night.
    assert lines[2:] == [
        ("time peak", "time_of_day", 12_000_000, "%", 20000, 2_400_000),
        ("time night", "time_of_day", 8_000_000, "%", -15000, -1_200_000),
    ]
    assert lines_of(document, zone_wh=[0, 0, 0, 0]) == []


@pytest.mark.parametrize(
    ("minute", "zone"), [(0, 2), (299, 2), (300, 0), (1079, 0), (1080, 1), (1380, 2), (1439, 2)]
)
def test_each_minute_of_the_day_is_in_one_zone(minute, zone):
    assert charges.zone_at(tariffs.parse(tariff_of(energy((None, 1)), zones=ZONES)), minute) == zone
    assert charges.zone_at(tariffs.parse(tariff_document()), minute) == 0


BANDS = [
    {"up_to_kw": 2, "rate_mp": 100},
    {"up_to_kw": 5, "rate_mp": 300},
    {"up_to_kw": None, "rate_mp": 700},
]


@pytest.mark.parametrize(
    ("line", "loads_w", "monthly_mp"),
    [
        (fixed("connection", 500), (0, 1000, 9999), [500, 500, 500]),
        (fixed("kw", 500), (0, 1, 1000, 1001, 3000, 3001), [500, 500, 500, 1000, 1500, 2000]),
        (fixed("band", bands=BANDS), (0, 2000, 2001, 5000, 5001), [100, 100, 300, 300, 700]),
    ],
)
def test_a_fixed_charge_by_the_sanctioned_load(line, loads_w, monthly_mp):
    tariff = tariffs.parse(tariff_of(line))
    assert [charges.fixed_rate_mp(tariff, 0, load_w) for load_w in loads_w] == monthly_mp


def test_a_fixed_charge_is_a_days_share_of_the_month_rounded_once():
    document = tariff_of(fixed("connection", 10_000_000))
    assert lines_of(document, fixed=[12 * 10_000_000], days=31) == [
        ("fixed", "fixed", 12, "days", 10_000_000, 3_870_968)
    ]
    document = tariff_of(fixed("kw", 4_000_000))
    assert lines_of(document, fixed=[10 * 3 * 4_000_000], days=30) == [
        ("fixed", "fixed", 30, "kW days", 4_000_000, 4_000_000)
    ]
    document = tariff_of(fixed("band", bands=BANDS))
    assert lines_of(document, fixed=[300 * 15], days=30) == [("fixed", "fixed", 0, "", None, 150)]
    document = tariff_of(fixed("connection", 3000, by_supply=True), full_supply_min=1260)
    # 10 whole days and one of 630 minutes of supply.
    assert lines_of(document, fixed=[3000 * (10 * 1260 + 630)], days=30) == [
        ("fixed", "fixed", 10, "days", 3000, 1050)
    ]
    assert lines_of(tariff_of(fixed("kw", 0)), fixed=[0]) == []


def test_slabs_go_on_behind_the_energy_of_an_earlier_part():
    assert amounts(URBAN_2020, 100, base_wh=150_000) == [
        ("energy up to 200 kWh", 34_250_000),
        ("energy up to 300 kWh", 38_500_000),
    ]
    assert amounts(JBVNL_2022, 100, base_wh=350_000) == [
        ("energy up to 400 kWh", 21_000_000),
        ("energy re-rated at 400 kWh", 50 * 205_000),
        ("energy above 400 kWh", 31_250_000),
    ]
    # Behind the end of a class nothing of this part was charged before it.
    assert amounts(JBVNL_2022, 10, base_wh=400_000) == [("energy above 400 kWh", 6_250_000)]
    assert amounts(URBAN_2025, 50, base_wh=100_000)[-1] == ("free", -25 * 552_000)


def test_limits_by_a_share_of_the_days():
    assert amounts(URBAN_2020, 100, share=(15, 30)) == [
        ("energy up to 50 kWh", 30_250_000),
        ("energy up to 100 kWh", 34_250_000),
    ]
    first = lines_of(URBAN_2020, 50, share=(15, 31))[0]
    assert first[:3] == ("energy up to 48.387 kWh", "energy", 48_387)
    assert amounts(JBVNL_2022, 201, share=(1, 2))[2] == ("energy re-rated at 200 kWh", 48_000_000)
    assert amounts(URBAN_2025, 100, share=(1, 2))[-1] == ("free", -50 * 412_000 - 12_500 * 552)


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 2_000_000)), max_size=11),
    st.integers(0, 2_000_000),
    st.integers(0, 1_200_000),
    st.integers(0, 1000),
)
def test_telescopic_is_continuous_and_never_falls(parts, last_rate, energy_wh, more_wh):
    limits = [sum(width for width, _ in parts[: number + 1]) for number in range(len(parts))]
    rates = [rate for _, rate in parts] + [last_rate]
    document = tariff_of(energy(*zip([*limits, None], rates, strict=True)))
    tariff, quantities = of(document)
    quantities.zone_wh[0] = energy_wh
    lines = charges.charge_lines(tariff, quantities)
    assert sum(line[2] for line in lines) == energy_wh
    before_mp = charges.charge_mp(tariff, quantities)
    assert before_mp == charges.total_mp(lines)
    quantities.zone_wh[0] += more_wh
    grown_mp = charges.charge_mp(tariff, quantities) - before_mp
    # A line of which only a part was charged is rounded at another place.
    assert 0 <= grown_mp <= -(-more_wh * max(rates) // 1000) + len(rates)


def test_the_next_step_is_where_a_class_ends():
    tariff = tariffs.parse(JBVNL_2025)
    nexts = [charges.next_step_wh(tariff, wh, (1, 1)) for wh in (0, 200_000, 200_001, 400_001)]
    assert nexts == [200_000, 200_000, 400_000, None]
    assert charges.next_step_wh(tariff, 100_001, (1, 2)) == 200_000
    assert charges.next_step_wh(tariffs.parse(URBAN_2020), 0, (1, 1)) is None


def test_the_highest_price_has_subsidy_rebate_duty_and_zones_in_it():
    def price(*lines, **members):
        return charges.max_price_mp_per_kwh(tariffs.parse(tariff_of(*lines, **members)))

    assert price(*URBAN_2020["lines"]) == 850_000
    assert price(*URBAN_2025["lines"]) == 895_000 - 330_000
    assert price(energy((None, 100_000)), percent(-3000, "energy")) == 97_000
    assert price(energy((None, 100_000)), percent(6000, "energy", kind="duty")) == 106_000
    time = {"name": "time", "shape": "time_of_day", "of": ["energy"]}
    time["percent_x1000"] = {"peak": 20000, "night": -15000}
    assert price(energy((None, 100_000)), time, zones=ZONES) == 120_000
    assert price(fixed("connection", 10**10)) == 0


def test_a_balance_cannot_fall_faster_than_the_steady_energy_says():
    tariff, quantities = of(JBVNL_2025, 150)
    assert charges.steady_wh(tariff, quantities, 10**9) == 50_000
    quantities.zone_wh[0] = 200_000
    assert charges.steady_wh(tariff, quantities, 10**9) == 0
    tariff, quantities = of(tariff_document(), 1)
    assert charges.steady_wh(tariff, quantities, 665_001) == 1000
    assert charges.steady_wh(tariff, quantities, 0) == 0
    tariff, quantities = of(tariff_of(fixed("connection", 10**10)))
    assert charges.steady_wh(tariff, quantities, 0) is None
