"""What is said about charges ahead holds for any tariff: how fast they grow, where they jump, and
that nothing but the energy of each zone counts."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware.credit import charges, tariff
from host_tests.fakes.tariffs import make_document, make_quantities

SLOW_TO_DRAW = settings(
    max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
SPARE_MP = (0, 50, 1000, 100_000, 10**7, 10**9)
ENDLESS_WH = 1_000_000  # where there is no limit


def made_up(pick):
    """(tariff, quantities) of a made-up case."""
    document = make_document(pick)
    parsed = tariff.parse(document)
    quantities = charges.Quantities(parsed)
    for name, value in make_quantities(pick, document).items():
        setattr(quantities, name, value)
    return parsed, quantities


def in_steps(pick, parsed, quantities, wh):
    """Takes some energy, in steps of any size and in any zones."""
    while wh:
        step = pick(1, wh)
        quantities.zone_wh[pick(0, len(parsed.zone_names) - 1)] += step
        wh -= step


def assert_steady_energy_costs_no_more(pick):
    parsed, quantities = made_up(pick)
    spare_mp = SPARE_MP[pick(0, len(SPARE_MP) - 1)]
    before_mp = charges.charge_mp(parsed, quantities)
    steady_wh = charges.steady_wh(parsed, quantities, spare_mp)
    steps = pick(1, 3)
    left = ENDLESS_WH if steady_wh is None else steady_wh
    for number in range(steps):
        part = left if number == steps - 1 else pick(0, left)
        in_steps(pick, parsed, quantities, part)
        left -= part
        assert charges.charge_mp(parsed, quantities) <= before_mp + spare_mp


@SLOW_TO_DRAW
@given(st.data())
def test_steady_energy_costs_no_more(data):
    assert_steady_energy_costs_no_more(lambda low, high: data.draw(st.integers(low, high)))


def test_steady_energy_costs_no_more_in_thousands_of_seeded_cases():
    pick = random.Random(20260203).randint
    for _ in range(4000):
        assert_steady_energy_costs_no_more(pick)


@SLOW_TO_DRAW
@given(st.data())
def test_the_same_energy_in_other_steps_costs_the_same(data):
    """However it came: what one part has used is added up by zone, and nothing else counts."""

    def pick(low, high):
        return data.draw(st.integers(low, high))

    parsed, quantities = made_up(pick)
    wanted = list(quantities.zone_wh)
    expected = charges.charge_lines(parsed, quantities)
    quantities.zone_wh = [0] * len(wanted)
    zones = data.draw(st.permutations(range(len(wanted))))
    while quantities.zone_wh != wanted:
        for zone in zones:
            left = wanted[zone] - quantities.zone_wh[zone]
            quantities.zone_wh[zone] += left if left < 1000 else pick(1, left)
            charges.charge_mp(parsed, quantities)  # asking changes nothing
    assert charges.charge_lines(parsed, quantities) == expected
