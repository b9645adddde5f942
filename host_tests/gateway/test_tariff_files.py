"""The ready-made tariffs: valid, told about, and equal to what utilities published."""

import json
from pathlib import Path

import pytest

from firmware.credit import charges, tariff
from gateway import pricing, tariff_files
from gateway.errors import GatewayError
from gateway.meters import check_tariff

NAMES = tariff_files.names()
RUPEE_MP = 100_000


def lines(name, kwh, **use):
    """{line of the document: mp} of a whole period, slabs and re-ratings together."""
    document = tariff_files.read(name)
    parsed = tariff.parse(document)
    found = pricing.quantities(parsed, pricing.Use(energy_wh=kwh * 1000, **use))
    sums = {line["name"]: 0 for line in document["lines"]}
    for line in charges.charge_lines(parsed, found):
        # The longest of the names with which the line's begins: "energy" of "energy up to 50 kWh".
        sums[max((each for each in sums if line[0].startswith(each)), key=len)] += line[5]
    assert sum(sums.values()) == charges.charge_mp(parsed, found)
    return sums


def rupees(name, kwh, *chosen, **use):
    sums = lines(name, kwh, **use)
    return sum(sums[line] for line in chosen or sums) / RUPEE_MP


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_a_tariff_that_meter_and_gateway_take(name):
    document = tariff_files.read(name)
    check_tariff(document, "tariff")
    assert document["id"] == name
    assert list(tariff_files.without_effect(document)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_in_the_table_of_its_sources(name):
    table = (tariff_files.FOLDER / "README.md").read_text("utf-8")
    assert f"`{name}`" in table


# Bihar 2025-26, energy only, after the 125 free units.
@pytest.mark.parametrize(
    ("name", "kwh", "published"),
    [
        ("sbpdcl-urban-2025", 200, 414.00),
        ("sbpdcl-urban-2025", 300, 966.00),
        ("sbpdcl-urban-2025", 400, 1518.00),
        ("sbpdcl-rural-2025", 200, 183.75),
        ("sbpdcl-rural-2025", 300, 428.75),
        ("sbpdcl-rural-2025", 400, 673.75),
    ],
)
def test_the_published_bills_of_bihar(name, kwh, published):
    assert rupees(name, kwh, "energy", "subsidy", "125 free units") == published


def test_the_rest_of_a_bill_in_bihar():
    assert lines("sbpdcl-urban-2025", 200, load_w=1500) == {
        "energy": 163_700_000,
        "subsidy": -67_300_000,
        "125 free units": -55_000_000,
        "prepaid rebate": -75 * 25_000,
        "electricity duty": (41_400_000 - 75 * 25_000) * 6 // 100,
        "fixed charge": 2 * 80 * RUPEE_MP,
    }
    assert rupees("sbpdcl-urban-2025", 125, load_w=1000) == 80
    # One slab of 7.42 less 3.30 since April 2026.
    assert rupees("sbpdcl-urban-2026", 400, "energy", "subsidy", "125 free units") == 275 * 4.12


@pytest.mark.parametrize(
    ("name", "price", "fixed"),
    [
        ("jbvnl-rural-2024", 6.30, 75),
        ("jbvnl-urban-2024", 6.65, 100),
        ("jbvnl-rural-2025", 6.70, 75),
        ("jbvnl-urban-2025", 6.85, 100),
    ],
)
def test_jharkhand_flat_with_three_per_cent_off(name, price, fixed):
    assert rupees(name, 300, "energy") == pytest.approx(300 * price)
    assert rupees(name, 300, "prepaid rebate") == pytest.approx(-9 * price)
    # From 21 h of supply a day on the fixed charge is due whole, below in proportion.
    for hours, due in ((24, fixed), (21, fixed), (10.5, fixed / 2), (0, 0)):
        assert rupees(name, 300, "fixed charge", supply_min=int(hours * 60)) == due


@pytest.mark.parametrize("place", ["rural", "urban"])
@pytest.mark.parametrize("year", [2024, 2025])
def test_the_subsidy_of_jharkhand_goes_by_the_whole_month(place, year):
    name = f"jbvnl-{place}-{year}-subsidy"
    price = {"rural2024": 6.30, "urban2024": 6.65, "rural2025": 6.70, "urban2025": 6.85}[
        f"{place}{year}"
    ]
    paid = ("energy", "prepaid rebate", "state subsidy")
    for kwh in (1, 100, 200):
        assert rupees(name, kwh, *paid) == 0
    for kwh in (201, 400):
        assert rupees(name, kwh, "energy", "state subsidy") == pytest.approx(kwh * (price - 2.05))
    assert rupees(name, 401, *paid) == pytest.approx(401 * price * 0.97)


def test_the_cliff_behind_200_units_costs_some_960_rupees():
    name = "jbvnl-urban-2025-subsidy"
    assert rupees(name, 201, "energy", "state subsidy") == pytest.approx(964.80)
    parsed = tariff.parse(tariff_files.read(name))
    found = pricing.quantities(parsed, pricing.Use(energy_wh=180_000))
    assert pricing.cliffs(parsed, found) == [
        pricing.Cliff(200_000, 92_349_450),  # 964.80 less 3 % of 201 units at 6.85
        pricing.Cliff(400_000, 82_664_450),
    ]


def test_the_cliff_of_2022_re_rates_the_month():
    name = "jbvnl-urban-2022-subsidy"
    assert rupees(name, 200) == 700
    assert rupees(name, 400) == 700 + 840
    assert rupees(name, 401) == 401 * 6.25
    parsed = tariff.parse(tariff_files.read(name))
    found = pricing.quantities(parsed, pricing.Use(energy_wh=401_000))
    shown = [line[:2] for line in charges.charge_lines(parsed, found)]
    assert ("energy re-rated at 400 kWh", "rerating") in shown


@pytest.mark.parametrize(
    ("name", "kwh", "energy", "per_kw"),
    [
        ("sbpdcl-rural-2020", 250, 50 * 6.05 + 50 * 6.30 + 100 * 6.60 + 50 * 6.95, 20),
        ("sbpdcl-urban-2020", 350, 100 * (6.05 + 6.85 + 7.70) + 50 * 8.50, 40),
    ],
)
def test_bihar_2020(name, kwh, energy, per_kw):
    assert rupees(name, kwh, "energy") == pytest.approx(energy)
    assert rupees(name, kwh, "fixed charge", load_w=2001) == 3 * per_kw


def test_the_lifeline_of_bangladesh_ends_with_the_51st_unit():
    assert rupees("bangladesh-lifeline", 50) == 50 * 4.63
    assert rupees("bangladesh-lifeline", 51) == pytest.approx(51 * 5.26)
    assert rupees("bangladesh-lifeline", 600) == pytest.approx(
        75 * 5.26 + 125 * 7.20 + 100 * 7.59 + 100 * 8.02 + 200 * 12.67
    )


def test_the_examples_show_zones_bands_and_supply():
    zone_wh = {"solar": 100_000, "peak": 40_000}
    sums = lines("example-time-of-day", 300, zone_wh=zone_wh)
    assert sums["energy"] == 210_000_000
    assert sums["time of day"] == -14_000_000 + 2_800_000
    assert rupees("example-by-supply", 0, load_w=3000, supply_min=630) == 150 / 2 + 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "a",\n "version" 1}', "line 2, column 12"),
        ('{"id": "a", "id": "b"}', "id: must be there once"),
        ("[]", "must be an object"),
        (b"\xff", "not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, text, words):
    path = tmp_path / "mine.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GatewayError) as refusal:
        tariff_files.read(str(path))
    assert str(path) in str(refusal.value) and words in str(refusal.value)


def test_a_name_that_is_nothing_says_where_names_are():
    with pytest.raises(GatewayError, match="bijli tariff list"):
        tariff_files.read("jbvnl-lunar-2024")


def test_a_file_goes_before_a_ready_made_tariff_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bangladesh-lifeline").write_text(json.dumps({"id": "mine"}))
    assert tariff_files.read("bangladesh-lifeline") == {"id": "mine"}


def test_members_without_effect_are_found_at_every_depth():
    document = tariff_files.read("example-by-supply")
    document["remark"] = ""
    document["lines"][0]["slabs"][1]["up_to"] = 5
    document["lines"][1]["colect"] = "daily"
    document["lines"][1]["bands"][0]["rate"] = 1
    document["lines"][2]["of"] = ["energy"]
    assert list(tariff_files.without_effect(document)) == [
        "remark",
        "lines[0].slabs[1].up_to",
        "lines[1].colect",
        "lines[1].bands[0].rate",
        "lines[2].of",
    ]
