import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.credit import tariff as tariffs
from host_tests.fakes.documents import tariff_document

# SBPDCL 2020-21 urban DS-II: 0-100 6.05, 101-200 6.85, 201-300 7.70, above 8.50 rupees.
URBAN = tariff_document((100, 605000), (200, 685000), (300, 770000), (None, 850000))


def test_lines_of_a_month_of_350_kwh():
    lines = tariffs.charge_lines(tariffs.parse(URBAN), 350_000)
    assert [line[1:] for line in lines] == [
        (100_000, 605000, 60_500_000),
        (100_000, 685000, 68_500_000),
        (100_000, 770000, 77_000_000),
        (50_000, 850000, 42_500_000),
    ]
    assert tariffs.total_mp(lines) == 248_500_000  # 2,485.00 rupees


def test_a_line_is_rounded_half_up_once():
    tariff = tariffs.parse(tariff_document((None, 499)))
    assert [tariffs.charge_mp(tariff, wh) for wh in (1, 2, 3)] == [0, 1, 1]
    tariff = tariffs.parse(tariff_document((None, 500)))
    assert tariffs.charge_mp(tariff, 1) == 1


slabs = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(0, 2_000_000)), min_size=0, max_size=11
).map(
    lambda steps: [(sum(s[0] for s in steps[: i + 1]), rate) for i, (_, rate) in enumerate(steps)]
)


@given(slabs, st.integers(0, 2_000_000), st.integers(0, 20_000_000))
def test_total_is_the_sum_of_lines_and_lines_cover_the_energy(steps, last_rate, energy_wh):
    tariff = tariffs.parse(tariff_document(*steps, (None, last_rate)))
    lines = tariffs.charge_lines(tariff, energy_wh)
    assert sum(line[1] for line in lines) == energy_wh
    assert tariffs.total_mp(lines) == tariffs.charge_mp(tariff, energy_wh)
    assert tariffs.charge_mp(tariff, energy_wh + 1) >= tariffs.charge_mp(tariff, energy_wh) - len(
        lines
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "a" * 25}, "id"),
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"currency": "EUR"}, "currency"),
        ({"effective_from_utc_s": -1}, "effective_from_utc_s"),
        ({"lines": []}, "lines"),
        ({"lines": [{"shape": "cliff"}]}, "lines[0].shape"),
        ({"lines": [{"shape": "telescopic", "slabs": []}]}, "lines[0].slabs"),
    ],
)
def test_a_wrong_document_names_its_field(change, field):
    with pytest.raises(tariffs.TariffError) as refusal:
        tariffs.parse({**URBAN, **change})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([(100, 1), (100, 1), (None, 1)], "lines[0].slabs[1].up_to_kwh"),
        ([(100, 1), (50, 1), (None, 1)], "lines[0].slabs[1].up_to_kwh"),
        ([(None, 1), (None, 1)], "lines[0].slabs[0].up_to_kwh"),
        ([(100, 1)], "lines[0].slabs[0].up_to_kwh"),
        ([(None, -1)], "lines[0].slabs[0].rate_mp_per_kwh"),
        ([(None, 1.5)], "lines[0].slabs[0].rate_mp_per_kwh"),
        ([(i + 1, 1) for i in range(12)] + [(None, 1)], "lines[0].slabs"),
    ],
)
def test_wrong_slabs_name_line_and_field(steps, field):
    with pytest.raises(tariffs.TariffError) as refusal:
        tariffs.parse(tariff_document(*steps))
    assert refusal.value.field == field
