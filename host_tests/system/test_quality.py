"""Quality and tamper on the emulated board: each condition in the serial log and at the gateway."""

import pytest

from host_tests.fakes.worlds import HOUR_MS, LOAD, METER, MINUTE_MS, SECOND_MS, Story

# (knobs that begin it, knobs that end it, what occurs, what is restored, volts, least mA)
CONDITIONS = [
    ({"load": "constant:270V,3A"}, {"load": LOAD}, (7,), (8,), 270, 3000),
    ({"load": "constant:180V,3A"}, {"load": LOAD}, (9,), (10,), 180, 3000),
    ({"load": "constant:230V,39A"}, {"load": LOAD}, (67, 215), (68, 216), 230, 38900),
    ({"swapped": True}, {"swapped": False}, (51,), (52,), 230, 3900),
    ({"magnet": "present"}, {"magnet": "absent"}, (201,), (202,), 230, 3900),
    ({"cover": "open"}, {"cover": "closed"}, (251,), (1052,), 230, 3900),
]


@pytest.fixture
def story(tmp_path):
    with Story(tmp_path / "world", sample_period_ms=5_000, live_period_s=60) as made:
        made.passes(2 * MINUTE_MS + 500)
        yield made


def said(story, code):
    """Lines of the serial log that tell of an event."""
    return [line for line in story.board.lines() if f" event {code} " in line]


def live(story):
    return story.world.get(f"/api/meters/{METER}")["live"]


def happens(story, knobs, codes):
    """Turns knobs; each of the events is in the log within three minutes, once."""
    story.board.set(**knobs)
    story.until(lambda: all(said(story, code) for code in codes), 3 * MINUTE_MS, codes)
    assert [len(said(story, code)) for code in codes] == [1] * len(codes)


def test_each_condition_is_told_begins_once_and_ends_once(story):
    for begin, end, occurred, restored, _volts, _least_ma in CONDITIONS:
        happens(story, begin, occurred)
        story.passes(5 * MINUTE_MS)
        assert any(f" EVENT {occurred[0]}" in line for line in story.board.lines()[-3:])
        assert len(live(story)["standing_words"]) == len(occurred)
        happens(story, end, restored)
        story.passes(2 * MINUTE_MS)
        assert live(story)["standing_words"] == []
    assert live(story)["cover_openings"] == 1
    story.delivered()
    events = [record for record in story.judge({}) if record["type"] == "event"]
    for _begin, _end, occurred, restored, volts, least_ma in CONDITIONS:
        for first, last in zip(occurred, restored, strict=True):
            pair = [record for record in events if record["code"] in (first, last)]
            assert [record["code"] for record in pair] == [first, last]
            assert abs(pair[0]["voltage_mv"] - volts * 1000) < 500
            assert pair[0]["current_ma"] >= least_ma
            assert pair[0]["import_wh"] <= pair[1]["import_wh"]


def test_a_wire_past_the_contact_is_told_metered_and_stands_over_a_power_failure(story):
    expires_utc_s = story.world.now_ms // 1000 + 3600
    body = {"kind": "relay", "state": "disconnected", "expires_utc_s": expires_utc_s}
    story.world.post(f"/api/meters/{METER}/orders", body, {"Idempotency-Key": "off"})
    story.until(lambda: said(story, 301), 2 * MINUTE_MS, "disconnected")
    story.passes(5 * MINUTE_MS)
    assert not said(story, 1050)
    happens(story, {"bypass": True}, (1050,))
    story.passes(HOUR_MS)
    story.board.cut_power()
    story.passes(10 * MINUTE_MS)
    story.board.restore_power()
    story.until(lambda: said(story, 102), MINUTE_MS, "started")
    story.passes(5 * MINUTE_MS)
    assert len(said(story, 1050)) == 1
    assert len(said(story, 101)) == 1
    happens(story, {"bypass": False}, (1051,))
    story.passes(30 * SECOND_MS)
    story.delivered()
    records = story.judge({})
    by_code = {r["code"]: r for r in records if r["type"] == "event"}
    assert by_code[1051]["import_wh"] - by_code[1050]["import_wh"] > 900
    assert by_code[1050]["current_ma"] >= 3900
    length_s = by_code[102]["detail"]
    assert 600 <= length_s <= 600 + 900 + 60
    assert by_code[101]["detail"] == length_s
    assert by_code[102]["utc_s"] - by_code[101]["utc_s"] == length_s
