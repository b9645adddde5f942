"""The charges against a second opinion in exact fractions: the same to the last milli-paisa."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware.credit import charges, tariff
from host_tests.fakes.tariffs import make_document, make_quantities
from host_tests.property import charges_model

SLOW_TO_DRAW = settings(
    max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def of(document, members):
    """(tariff, quantities) of a made-up case."""
    parsed = tariff.parse(document)
    quantities = charges.Quantities(parsed)
    for name, value in members.items():
        setattr(quantities, name, value)
    return parsed, quantities


def by_line(document, lines):
    """{line of the document: the amounts that its lines of the charge have, without zeros}."""
    found = {line["name"]: [] for line in document["lines"]}
    for line in lines:
        found[line[0][: len("line a")]].append(line[5])
    return {name: sorted(amount for amount in found[name] if amount) for name in found}


def compare(document, members):
    """Asserts that firmware and model charge the same, in all and by line; the firmware's lines."""
    parsed, quantities = of(document, members)
    expected = charges_model.amounts(document, **members)
    lines = charges.charge_lines(parsed, quantities)
    assert by_line(document, lines) == {
        name: sorted(amount for amount in amounts if amount) for name, amounts in expected.items()
    }
    total_mp = sum(sum(amounts) for amounts in expected.values())
    assert charges.charge_mp(parsed, quantities) == total_mp == charges.total_mp(lines)
    return lines


@SLOW_TO_DRAW
@given(st.data())
def test_charges_are_those_of_the_model(data):
    def pick(low, high):
        return data.draw(st.integers(low, high))

    document = make_document(pick)
    compare(document, make_quantities(pick, document))


def test_thousands_of_seeded_cases_are_those_of_the_model_too():
    """Larger tariffs than hypothesis likes to draw: all shapes, many lines, most with classes."""
    pick = random.Random(20260105).randint
    shapes = set()
    re_rated = 0
    for _ in range(4000):
        document = make_document(pick)
        members = make_quantities(pick, document)
        charged = compare(document, members)
        shapes |= {line["shape"] for line in document["lines"]}
        re_rated += any(line[1] == "rerating" and line[5] for line in charged)
    assert len(shapes) == 8
    assert re_rated > 1000
