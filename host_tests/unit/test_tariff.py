"""What a tariff document may be, and that an error names its line and field."""

import copy

import pytest

from firmware.credit import document as documents
from firmware.credit import tariff as tariffs
from host_tests.fakes.documents import rich_tariff, steps, tariff_document, tariff_of

FLAT = tariff_document()["lines"][0]
ZONES = [{"name": "peak", "from_min": 1080, "to_min": 1380}]
FIXED = {
    "name": "rent",
    "shape": "fixed",
    "per": "connection",
    "rate_mp": 1,
    "collect": "daily",
}


def refusal_of(document):
    with pytest.raises(tariffs.TariffError) as refusal:
        tariffs.parse(document)
    return refusal.value


def test_a_tariff_with_every_shape_is_taken():
    document = rich_tariff(note="kept")
    tariff = tariffs.parse(document)
    assert tariff.document == document
    assert (tariff.id, tariff.version, tariff.effective_from_utc_s) == ("test", 1, 0)
    assert (tariff.period_start_day, tariff.pro_rata, tariff.full_supply_min) == (5, True, 1260)
    assert tariff.zone_names == ("normal", "peak", "night")
    assert tariff.zones == ((1, 1080, 1380), (2, 0, 300))
    assert [line[:2] for line in tariff.lines] == [
        ("energy", "energy"),
        ("sub", "subsidy"),
        ("free", "free"),
        ("off", "rebate"),
        ("time", "time_of_day"),
        ("rent", "fixed"),
        ("load", "fixed"),
        ("band", "fixed"),
        ("duty", "duty"),
    ]
    assert tariff.fixed == (
        (5, "connection", ((None, 310_000),), "monthly", False),
        (6, "kw", ((None, 40_000),), "daily", True),
        (7, "band", ((None, 10**10),), "first_recharge", False),
    )


def test_what_a_document_does_not_say_has_a_default():
    tariff = tariffs.parse(tariff_document())
    assert (tariff.period_start_day, tariff.pro_rata, tariff.full_supply_min) == (1, False, 0)
    assert (tariff.zones, tariff.zone_names, tariff.fixed) == ((), ("normal",), ())


def test_the_one_line_of_a_tariff_of_0_1_0_needs_no_name():
    line = {"shape": "telescopic", "slabs": steps((None, 1))}
    assert tariffs.parse(tariff_of(line)).lines[0][0] == "energy"
    assert refusal_of(tariff_of(FLAT, line)).field == "lines[1].name"


def test_free_units_are_of_all_earlier_energy_unless_it_says_of_which():
    free = {"name": "free", "shape": "free", "kwh": 5}
    per_kwh = {"name": "rebate", "shape": "per_kwh", "rate_mp_per_kwh": -1}
    duty = {"name": "duty", "shape": "percent", "percent_x1000": 1, "of": ["energy"]}
    assert tariffs.parse(tariff_of(FLAT, duty, per_kwh, free)).lines[3][3] == 0b101
    assert tariffs.parse(tariff_of(FLAT, per_kwh, {**free, "of": ["rebate"]})).lines[2][3] == 0b10


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "a" * 25}, "id"),
        ({"id": "a b"}, "id"),
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"currency": "EUR"}, "currency"),
        ({"effective_from_utc_s": -1}, "effective_from_utc_s"),
        ({"period_start_day": 0}, "period_start_day"),
        ({"period_start_day": 29}, "period_start_day"),
        ({"on_change": "anew"}, "on_change"),
        ({"on_change": None}, "on_change"),
        ({"full_supply_min": 0}, "full_supply_min"),
        ({"full_supply_min": 1441}, "full_supply_min"),
        ({"zones": []}, "zones"),
        ({"zones": ZONES * 9}, "zones"),
        ({"zones": [1]}, "zones[0]"),
        ({"zones": [{**ZONES[0], "name": ""}]}, "zones[0].name"),
        ({"zones": [{**ZONES[0], "name": "normal"}]}, "zones[0].name"),
        ({"zones": [{**ZONES[0], "from_min": -1}]}, "zones[0].from_min"),
        ({"zones": [{**ZONES[0], "from_min": 1440}]}, "zones[0].from_min"),
        ({"zones": [{**ZONES[0], "to_min": 1080}]}, "zones[0].to_min"),
        ({"zones": [{**ZONES[0], "to_min": 1441}]}, "zones[0].to_min"),
        ({"zones": [*ZONES, {**ZONES[0], "from_min": 1379}]}, "zones[1].from_min"),
        (
            {
                "zones": [
                    {"name": name, "from_min": number, "to_min": number + 1}
                    for number, name in enumerate("abac")
                ]
                + [{"name": "d", "from_min": 9, "to_min": 10}]
            },
            "zones[4].name",
        ),
        ({"lines": []}, "lines"),
        ({"lines": None}, "lines"),
        ({"lines": [{**FIXED, "name": str(number)} for number in range(13)]}, "lines"),
        ({"lines": [5]}, "lines[0]"),
        ({"lines": [{**FLAT, "shape": "cliff"}]}, "lines[0].shape"),
        ({"lines": [{**FLAT, "shape": ["telescopic"]}]}, "lines[0].shape"),
        ({"lines": [{**FLAT, "name": ""}]}, "lines[0].name"),
        ({"lines": [{**FLAT, "name": "a" * 25}]}, "lines[0].name"),
        ({"lines": [{**FLAT, "name": "é"}]}, "lines[0].name"),
        ({"lines": [FLAT, FLAT]}, "lines[1].name"),
        ({"lines": [{**FLAT, "kind": "rerating"}]}, "lines[0].kind"),
        ({"lines": [{**FLAT, "kind": None}]}, "lines[0].kind"),
        ({"lines": [{"shape": "telescopic", "slabs": []}]}, "lines[0].slabs"),
        ({"lines": [{"shape": "telescopic", "slabs": [None]}]}, "lines[0].slabs[0]"),
        ({"lines": [{"shape": "whole"}]}, "lines[0].slabs"),
        ({"lines": [{"shape": "by_total"}]}, "lines[0].classes"),
    ],
)
def test_a_wrong_document_names_its_field(change, field):
    assert refusal_of({**tariff_document(), **change}).field == field


@pytest.mark.parametrize("document", [None, [], "tariff"])
def test_a_document_must_be_an_object(document):
    assert refusal_of(document).field == "document"


@pytest.mark.parametrize("shape", ["telescopic", "whole"])
@pytest.mark.parametrize(
    ("slabs", "field"),
    [
        ([(100, 1), (100, 1), (None, 1)], "[1].up_to_kwh"),
        ([(100, 1), (50, 1), (None, 1)], "[1].up_to_kwh"),
        ([(0, 1), (None, 1)], "[0].up_to_kwh"),
        ([(1_000_001, 1), (None, 1)], "[0].up_to_kwh"),
        ([(None, 1), (None, 1)], "[0].up_to_kwh"),
        ([(100, 1)], "[0].up_to_kwh"),
        ([(None, -1)], "[0].rate_mp_per_kwh"),
        ([(None, 100_000_001)], "[0].rate_mp_per_kwh"),
        ([(None, 1.5)], "[0].rate_mp_per_kwh"),
        ([(i + 1, 1) for i in range(24)] + [(None, 1)], ""),
    ],
)
def test_wrong_slabs_name_line_and_field(shape, slabs, field):
    document = tariff_of(FIXED, {"name": "e", "shape": shape, "slabs": steps(*slabs)})
    assert refusal_of(document).field == "lines[1].slabs" + field


def test_a_slab_without_its_limit_is_no_last_one():
    document = tariff_of({"shape": "telescopic", "slabs": [{"rate_mp_per_kwh": 1}]})
    assert refusal_of(document).field == "lines[0].slabs[0].up_to_kwh"


@pytest.mark.parametrize(
    ("classes", "field"),
    [
        ([], ""),
        ([7], "[0]"),
        ([{"up_to_kwh": 5, "slabs": steps((None, 1))}], "[0].up_to_kwh"),
        ([{"slabs": steps((None, 1))}], "[0].up_to_kwh"),
        ([{"up_to_kwh": None, "slabs": []}], "[0].slabs"),
        ([{"up_to_kwh": None, "slabs": steps((5, 1))}], "[0].slabs[0].up_to_kwh"),
        ([{"up_to_kwh": None, "slabs": steps((None, -1))}], "[0].slabs[0].rate_mp_per_kwh"),
        (
            [
                {"up_to_kwh": 5, "slabs": steps((None, 1))},
                {"up_to_kwh": 5, "slabs": steps((None, 1))},
                {"up_to_kwh": None, "slabs": steps((None, 1))},
            ],
            "[1].up_to_kwh",
        ),
    ],
)
def test_wrong_classes_name_line_and_field(classes, field):
    document = tariff_of({"name": "e", "shape": "by_total", "classes": classes})
    assert refusal_of(document).field == "lines[0].classes" + field


def test_more_slabs_than_the_meter_stores_name_the_line_that_is_too_much():
    twelve = steps(*[(n + 1, 1) for n in range(11)], (None, 1))
    lines = [
        {"name": "a", "shape": "telescopic", "slabs": twelve},
        {"name": "b", "shape": "by_total", "classes": [{"up_to_kwh": None, "slabs": twelve}]},
        {"name": "c", "shape": "per_kwh", "rate_mp_per_kwh": 1},
    ]
    assert len(tariffs.parse(tariff_of(*lines)).lines) == 3
    one_more = {"name": "d", "shape": "whole", "slabs": steps((None, 1))}
    refusal = refusal_of(tariff_of(*lines, one_more))
    assert refusal.field == "lines[3].slabs"
    assert "at most 24" in refusal.why


@pytest.mark.parametrize("kind", [kind for kind in documents.KINDS if kind != "energy"])
def test_only_energy_has_no_negative_rate(kind):
    line = {**FLAT, "kind": kind, "slabs": steps((None, -100_000_000))}
    assert tariffs.parse(tariff_of(line)).lines[0][1] == kind
    line["slabs"] = steps((None, -100_000_001))
    assert refusal_of(tariff_of(line)).field == "lines[0].slabs[0].rate_mp_per_kwh"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"shape": "per_kwh"}, ".rate_mp_per_kwh"),
        ({"shape": "per_kwh", "rate_mp_per_kwh": -100_000_001}, ".rate_mp_per_kwh"),
        ({"shape": "per_kwh", "rate_mp_per_kwh": -1, "kind": "energy"}, ".rate_mp_per_kwh"),
        ({"shape": "free"}, ".kwh"),
        ({"shape": "free", "kwh": 0}, ".kwh"),
        ({"shape": "free", "kwh": 1_000_001}, ".kwh"),
        ({"shape": "free", "kwh": 5, "of": []}, ".of"),
        ({"shape": "free", "kwh": 5, "of": "energy"}, ".of"),
        ({"shape": "free", "kwh": 5, "of": ["later"]}, ".of[0]"),
        ({"shape": "free", "kwh": 5, "of": ["energy", "rent"]}, ".of[1]"),
        ({"shape": "free", "kwh": 5, "of": ["energy", "energy"]}, ".of[1]"),
        ({"shape": "percent", "of": ["energy"]}, ".percent_x1000"),
        ({"shape": "percent", "percent_x1000": -100_001, "of": ["energy"]}, ".percent_x1000"),
        ({"shape": "percent", "percent_x1000": 1_000_001, "of": ["energy"]}, ".percent_x1000"),
        ({"shape": "percent", "percent_x1000": 6000}, ".of"),
        ({"shape": "percent", "percent_x1000": 6000, "of": ["self"]}, ".of[0]"),
        ({"shape": "percent", "percent_x1000": 6000, "of": [["energy"]]}, ".of[0]"),
        ({"shape": "time_of_day", "of": ["energy"]}, ".percent_x1000"),
        ({"shape": "time_of_day", "percent_x1000": {"peak": 1}}, ".of"),
        ({"shape": "time_of_day", "percent_x1000": {"off": 1}, "of": ["energy"]}, "....off"),
        ({"shape": "time_of_day", "percent_x1000": {"peak": None}, "of": ["energy"]}, "....peak"),
        ({"shape": "time_of_day", "percent_x1000": {"peak": 1}, "of": ["rent"]}, ".of[0]"),
        ({"shape": "time_of_day", "percent_x1000": {"peak": 1}, "of": ["rent duty"]}, ".of[0]"),
        ({**FIXED, "per": "house"}, ".per"),
        ({**FIXED, "per": None}, ".per"),
        ({**FIXED, "rate_mp": -1}, ".rate_mp"),
        ({**FIXED, "rate_mp": 10**10 + 1}, ".rate_mp"),
        ({**FIXED, "collect": "yearly"}, ".collect"),
        ({**FIXED, "collect": None}, ".collect"),
        ({**FIXED, "by_supply": 1}, ".by_supply"),
        ({**FIXED, "by_supply": True, "collect": "monthly"}, ".by_supply"),
        ({**FIXED, "per": "band"}, ".bands"),
        ({**FIXED, "per": "band", "bands": [{"up_to_kw": None}]}, ".bands[0].rate_mp"),
        ({**FIXED, "per": "band", "bands": [{"up_to_kw": 2, "rate_mp": 1}]}, ".bands[0].up_to_kw"),
    ],
)
def test_a_wrong_line_of_each_shape_names_its_field(line, field):
    earlier = [
        FLAT,
        FIXED,
        {"name": "rent duty", "shape": "percent", "percent_x1000": 1, "of": ["energy", "rent"]},
    ]
    document = tariff_of(*earlier, {**line, "name": "self"}, zones=ZONES, full_supply_min=1260)
    expected = "lines[3]" + field.replace("...", ".percent_x1000")
    assert refusal_of(document).field == expected


def test_a_tariff_must_charge_something_by_itself():
    free = {"name": "free", "shape": "free", "kwh": 5}
    assert refusal_of(tariff_of(free)).field == "lines[0].of"
    assert tariffs.parse(tariff_of(FIXED)).lines[0][0] == "rent"


def test_supply_and_zones_that_a_line_needs_must_be_there():
    by_supply = {**FIXED, "by_supply": True}
    assert refusal_of(tariff_of(by_supply)).field == "full_supply_min"
    time = {"name": "t", "shape": "time_of_day", "percent_x1000": {"peak": 1}, "of": ["energy"]}
    assert refusal_of(tariff_of(FLAT, time)).field == "lines[1].shape"
    assert refusal_of(tariff_of(FLAT, time, {**time, "name": "u"}, zones=ZONES)).field == (
        "lines[2].shape"
    )


def test_a_document_is_kept_as_it_came_whatever_happens_to_the_dict():
    document = rich_tariff()
    before = copy.deepcopy(document)
    tariff = tariffs.parse(document)
    document["lines"].clear()
    tariff.document["lines"].clear()
    assert tariff.document == before
