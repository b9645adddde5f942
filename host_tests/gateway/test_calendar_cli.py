"""`bijli calendar ...` as people type it, and the ready-made calendars."""

import json

import pytest
from typer.testing import CliRunner

from firmware.relay.calendar import check
from gateway import calendar_files
from gateway.cli import app
from gateway.errors import FieldError


def run(*arguments):
    """(exit code, output, errors) of `bijli calendar`, on a screen of 160 columns."""
    done = CliRunner().invoke(app, ["calendar", *arguments], env={"COLUMNS": "160"})
    return done.exit_code, done.stdout, done.stderr


def days(text):
    """What `show` says, by the day of the month."""
    return {int(line[8:10]): line.split(maxsplit=2)[2].strip() for line in text.splitlines()[1:]}


@pytest.fixture
def edited(tmp_path):
    """Writes a ready-made calendar with changes; returns the path."""

    def edited(name, **changes):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({**calendar_files.read(name), **changes}))
        return str(path)

    return edited


@pytest.mark.parametrize("name", calendar_files.names())
def test_a_ready_made_calendar_is_valid_and_named_in_the_readme(name):
    document = calendar_files.read(name)
    check(document)
    assert document["id"] in (name, f"{name}-2026")
    assert f"| `{name}` |" in (calendar_files.FOLDER / "README.md").read_text("utf-8")


def test_list_names_what_the_other_commands_take():
    code, text, _errors = run("list")
    assert code == 0
    listed = [line.split()[0] for line in text.splitlines()[1:]]
    assert listed == calendar_files.names()
    assert {"bihar", "default", "uttar-pradesh", "west-bengal"} <= set(listed)


def test_check_tells_what_a_valid_calendar_is():
    assert run("check", "bihar") == (
        0,
        "bihar-2026: valid; windows: 1, happy hours: 2, holidays: 17, the last on 2026-12-25\n",
        "",
    )
    assert run("check", "default")[1] == (
        "default: valid; windows: 1, happy hours: 0, holidays: 0\n"
    )


def test_check_names_file_field_and_range(edited):
    path = edited("bihar", windows=[[63, 600, 780], [0, 1, 2]])
    code, text, errors = run("check", path)
    assert (code, text) == (1, "")
    assert f"{path}.windows[1].days: must be an integer from 1 to 127" in errors.replace("\n", "")


def test_a_name_that_is_neither_a_file_nor_ready_made():
    code, _text, errors = run("check", "atlantis")
    assert code == 1
    assert "neither a file nor a ready-made calendar; `bijli calendar list`" in errors


def test_show_has_the_hours_of_each_day():
    code, text, _errors = run("show", "uttar-pradesh", "--month", "2026-01")
    assert code == 0
    shown = days(text)
    assert len(shown) == 31
    assert shown[5] == "08:00-18:00"
    assert shown[4] == "never"  # a Sunday
    assert shown[10].split(maxsplit=1) == ["never", "second Saturday"]
    assert shown[26].split(maxsplit=1) == ["never", "holiday"]


def test_show_leaves_happy_hours_out(edited):
    path = edited("default", windows=[[1, 0, 1440]], happy=[[127, 1320, 360], [1, 720, 780]])
    shown = days(run("show", path, "--month", "2026-06")[1])
    assert shown[1] == "06:00-12:00, 13:00-22:00"
    assert shown[2] == "never"


@pytest.mark.parametrize("month", ["2026", "2026-13", "June", "2026-1"])
def test_a_month_that_is_none(month):
    code, _text, errors = run("show", "bihar", "--month", month)
    assert code == 1
    assert "--month" in errors
    assert "must be like 2026-01" in errors


def test_a_refusal_inside_a_request_names_its_place():
    with pytest.raises(FieldError) as refusal:
        calendar_files.check_calendar([], "calendar")
    assert refusal.value.field == "calendar"
    with pytest.raises(FieldError) as refusal:
        calendar_files.check_calendar({"v": 2}, "document")
    assert refusal.value.field == "document.v"
