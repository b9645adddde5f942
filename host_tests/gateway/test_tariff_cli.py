"""`bijli tariff ...` as people type it."""

import json
import sys

import pytest
from typer.testing import CliRunner

import gateway
from gateway import tariff_files, words
from gateway.cli import app


def run(*arguments):
    """(exit code, output, errors) of `bijli tariff`, on a screen of 160 columns."""
    done = CliRunner().invoke(app, ["tariff", *arguments], env={"COLUMNS": "160"})
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def edited(tmp_path):
    """Writes a ready-made tariff with changes; returns the path."""

    def edited(name, change):
        document = tariff_files.read(name)
        change(document)
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(document, indent=2))
        return str(path)

    return edited


def test_list_names_what_the_other_commands_take():
    code, text, _errors = run("list")
    assert code == 0
    listed = [line.split()[0] for line in text.splitlines()[1:]]
    assert listed == tariff_files.names()
    assert "2025-05-01 00:00 IST" in text


def test_check_tells_what_a_valid_tariff_is():
    code, text, _errors = run("check", "sbpdcl-urban-2025")
    assert code == 0
    assert text == (
        "sbpdcl-urban-2025 version 1: valid, in force from 2025-07-01 00:00 IST; "
        "lines: 6, slabs: 6, bytes: 825\n"
    )


def test_check_names_line_and_field(edited):
    def gap(document):
        document["lines"][0]["slabs"][1]["up_to_kwh"] = 150

    code, text, errors = run("check", edited("sbpdcl-urban-2025", gap))
    assert (code, text) == (1, "")
    assert "mine.json: lines[0].slabs[1].up_to_kwh: must be null" in errors
    assert "line 'energy'" in errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.pop("lines"), "lines: must be a list"),
        (lambda document: document.update(version=1.5), "version: must be"),
        (lambda document: document["lines"].insert(0, 5), "lines[0]: must be an object"),
        (lambda document: document.update(remark="x" * 1200), "1200 bytes"),
    ],
)
def test_check_refuses_what_the_gateway_refuses(edited, change, words):
    code, _text, errors = run("check", edited("sbpdcl-urban-2025", change))
    assert code == 1
    assert words in errors


def test_check_points_to_members_that_charge_nothing(edited):
    def misspelt(document):
        document["lines"][0]["knd"] = "energy"

    code, text, _errors = run("check", edited("jbvnl-urban-2024", misspelt))
    assert code == 0
    assert text.splitlines()[1] == "note: lines[0].knd has no effect"


def test_price_shows_each_line_and_the_sum_so_far():
    code, text, _errors = run("price", "sbpdcl-urban-2025", "--kwh", "200", "--load-kw", "2")
    assert code == 0
    rows = [line.split() for line in text.splitlines()]
    # The published bill stands in the column SUM.
    assert rows[5] == ["125", "free", "units", "125", "kWh", "-550.00", "414.00"]
    assert rows[9][-3:] == ["month", "160.00", "578.965"]
    assert rows[10] == ["total", "578.965"]
    assert text.endswith("the next kWh costs 5.5862 ₹\n")


def test_price_warns_of_cliffs_ahead():
    _code, text, _errors = run("price", "jbvnl-urban-2025-subsidy", "--kwh", "300")
    assert text.splitlines()[-2:] == [
        "the next kWh costs 4.5945 ₹",
        "cliff: the kWh after 400 kWh costs 826.6445 ₹",
    ]


def test_price_as_json_is_exact_and_knows_zones():
    code, text, _errors = run(
        *("price", "example-time-of-day", "--kwh", "300", "--zone", "peak=40.5"),
        *("--zone", "solar=100", "--days", "31", "--json"),
    )
    assert code == 0
    answer = json.loads(text)
    assert sum(line["amount_mp"] for line in answer["lines"]) == answer["total_mp"]
    peak = next(line for line in answer["lines"] if line["name"] == "time of day peak")
    assert peak["amount_mp"] == 210_000_000 * 40_500 // 300_000 // 10
    # A kWh of the sun is the cheapest, one of the evening the dearest.
    price = answer["next_kwh_mp"]
    assert price["solar"] < price["normal"] < price["peak"]


def test_price_takes_hours_of_supply_and_the_load():
    code, text, _errors = run(
        *("price", "example-by-supply", "--kwh", "0", "--supply-h", "10.5"),
        *("--load-kw", "3.2", "--json"),
    )
    assert code == 0
    amounts = {line["name"]: line["amount_mp"] for line in json.loads(text)["lines"]}
    assert amounts == {"fixed charge": 7_500_000, "meter service": 1_000_000}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kwh", "1.2345"), "--kwh: '1.2345' must be digits with at most 3 decimals"),
        (("--kwh", "-1"), "--kwh: '-1' must be digits"),
        (("--kwh", "1000001"), "--kwh: must be from 0 to 1000000"),
        (("--kwh", "1", "--supply-h", "25"), "--supply-h: must be from 0 to 24"),
        (("--kwh", "1", "--zone", "night=1"), "night is none of normal, solar, peak"),
        (("--kwh", "1", "--zone", "peak"), "--zone: '' must be digits"),
        (("--kwh", "1", "--zone", "peak=2"), "more energy than the total"),
        (("--kwh", "9", "--zone", "peak=2", "--zone", "peak=1"), "peak must be there once"),
    ],
)
def test_price_refuses_wrong_quantities(arguments, words):
    code, text, errors = run("price", "example-time-of-day", *arguments)
    assert (code, text) == (1, "")
    assert words in errors


@pytest.mark.parametrize(
    "command", [["check"], ["price", "--kwh", "1"], ["plot", "--out", "a.png"]]
)
def test_a_tariff_that_is_not_there_is_an_error(command):
    code, _text, errors = run(command[0], "no-such", *command[1:])
    assert code == 1
    assert "bijli tariff list" in errors


def test_plot_draws_a_picture(tmp_path):
    out = tmp_path / "tariff.png"
    code, text, _errors = run("plot", "jbvnl-urban-2025-subsidy", "--to", "450", "--out", str(out))
    assert (code, text) == (0, f"{out}\n")
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_plot_draws_cost_price_and_cliffs(tmp_path):
    """What is in the picture, from its text: an SVG keeps the words."""
    import matplotlib

    out = tmp_path / "tariff.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        code, _text, _errors = run("plot", "jbvnl-urban-2022-subsidy", "--out", str(out))
    assert code == 0
    assert "the kWh after 400 costs 966.25 ₹" in out.read_text("utf-8")


def test_plot_refuses_an_ending_that_it_cannot_write(tmp_path):
    code, _text, errors = run("plot", "jbvnl-urban-2024", "--out", str(tmp_path / "a.txt"))
    assert code == 1
    assert "txt" in errors


def test_plot_without_matplotlib_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "gateway.tariff_plot", raising=False)
    monkeypatch.delattr(gateway, "tariff_plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _text, errors = run("plot", "jbvnl-urban-2024", "--out", str(tmp_path / "a.png"))
    assert code == 1
    assert "pip install 'bijli[plot]'" in errors


@pytest.mark.parametrize(
    ("amount_mp", "text"),
    [
        (0, "0.00"),
        (100_000, "1.00"),
        (1_234_567, "12.34567"),
        (-41_305, "-0.41305"),
        (-50, "-0.0005"),
    ],
)
def test_exact_rupees_round_nothing(amount_mp, text):
    assert words.exact_rupees(amount_mp) == text
