"""Days and demand on the emulated board with gateway: two days, power fails over a midnight."""

import pytest

from host_tests.fakes.worlds import (
    DAY_MS,
    HOUR_MS,
    METER,
    MINUTE_MS,
    PRICE_MP_PER_WH,
    SECOND_MS,
    START_MS,
    Story,
)

DAY_S = 86_400
START_S = START_MS // 1000
POWER_W = 920  # of worlds.LOAD
WH_MJ = 3_600_000


@pytest.fixture
def story(tmp_path):
    with Story(tmp_path / "world", sanctioned_load_w=2000) as made:
        made.passes(2 * MINUTE_MS + 500)
        yield made


def until(story, ms):
    story.passes(START_MS + ms - story.world.now_ms)


@pytest.mark.slow
def test_two_days_with_a_power_failure_over_midnight(story):
    until(story, DAY_MS - 20 * MINUTE_MS)
    truth_wh = story.board.look()["energy_mj"] / WH_MJ
    story.board.cut_power()
    until(story, DAY_MS + 40 * MINUTE_MS)
    story.board.restore_power()
    until(story, DAY_MS + 12 * HOUR_MS)
    story.board.set(load="constant:230V,9A")
    until(story, DAY_MS + 13 * HOUR_MS)
    story.board.set(load="constant:230V,4A")
    until(story, 2 * DAY_MS + 5 * MINUTE_MS + SECOND_MS)
    story.delivered()

    second, first = story.world.get(f"/api/meters/{METER}/days")
    # The register of midnight is what the meter had when the power failed, but for a checkpoint.
    assert 0 <= first["start_utc_s"] - START_S <= 60
    assert (first["end_utc_s"], second["start_utc_s"]) == (START_S + DAY_S,) * 2
    assert truth_wh - 11 - truth_wh * 0.003 <= first["import_wh"] <= truth_wh * 1.003
    assert first["supply_min"] in range(24 * 60 - 20 - 16, 24 * 60 - 20 + 1)
    assert first["demand_max_w"] == pytest.approx(POWER_W, rel=0.004)
    assert second["end_utc_s"] == START_S + 2 * DAY_S
    assert second["supply_min"] in range(24 * 60 - 41, 24 * 60 - 39)
    assert second["demand_max_w"] == pytest.approx(9 * 230, rel=0.004)
    assert (
        START_S + DAY_S + 12.5 * 3600 <= second["demand_max_utc_s"] <= START_S + DAY_S + 13 * 3600
    )
    for day in (first, second):
        assert day["cost_mp"] == day["energy_wh"] * PRICE_MP_PER_WH
        assert day["over_load_min"] == (0 if day is first else pytest.approx(60, abs=1))
    live = story.world.get(f"/api/meters/{METER}")["live"]
    assert (live["demand_max_w"], live["power_failures"]) == (second["demand_max_w"], 1)
    assert live["supply_min"] <= 6

    records = story.judge({})
    loads = [record for record in records if record["type"] == "load"]
    assert all(load["length_s"] == 1800 for load in loads)
    assert max(load["energy_wh"] * 2 for load in loads) == second["demand_max_w"]
    (cut,) = [load for load in loads if load["start_utc_s"] == START_S + DAY_S - 1800]
    # Ten minutes of it, which a checkpoint bounds.
    assert cut["energy_wh"] == pytest.approx(POWER_W / 6, abs=12)
