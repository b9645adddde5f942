"""The whole product: firmware on the emulated board, gateway with mosquitto, utility, one clock.

Every story ends with `judge`: the meter's flash, the gateway's database and the utility hold the
same records in the same order, every balance is credits minus price times register, and each
recharge was credited once (host_tests/fakes/worlds.py).
"""

import random
import re

import pytest

from host_tests.fakes.mpremote import mpremote
from host_tests.fakes.worlds import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    START_MS,
    Story,
    log_without_ids,
)


def of(records, kind, **members):
    return [
        record
        for record in records
        if record["type"] == kind and all(record[name] == v for name, v in members.items())
    ]


# --- recharges -----------------------------------------------------------------------------------


def test_a_recharge_while_the_meter_is_online(story):
    story.passes(HOUR_MS)
    id_ = story.recharge(100)
    story.until(lambda: story.state(id_) == "confirmed", 5 * SECOND_MS, "confirmed", 100)
    view = story.view(id_)
    states = [name.removesuffix("_utc_ms") for name in view["times"]]
    assert states == ["queued", "sent", "confirmed"]
    assert view["attempts"] == 1
    said = [line for line in story.board.lines() if f"id={id_}" in line]
    assert len(said) == 1
    story.delivered()
    records = story.judge({id_: 100})
    credit = of(records, "credit", id=id_)[0]
    assert credit["balance_mp"] == view["balance_mp"]
    assert (credit["counter"], credit["kind"]) == (1, "recharge")


def test_a_recharge_while_the_meter_has_no_power(story):
    story.board.cut_power()
    story.passes(10 * MINUTE_MS)
    id_ = story.recharge(100)
    story.passes(HOUR_MS)
    assert story.state(id_) == "queued"
    story.board.restore_power()
    story.until(lambda: story.state(id_) == "confirmed", 5 * MINUTE_MS, "confirmed")
    story.delivered()
    story.judge({id_: 100})


def test_recharges_while_the_wifi_is_away(story):
    story.board.set(wifi=False)
    story.passes(10 * MINUTE_MS)
    ids = {story.recharge(rupees): rupees for rupees in (100, 50)}
    story.passes(HOUR_MS)
    assert {story.state(id_) for id_ in ids} <= {"queued", "sent"}
    story.board.set(wifi=True)
    story.until(
        lambda: {story.state(id_) for id_ in ids} == {"confirmed"}, 10 * MINUTE_MS, "confirmed"
    )
    story.delivered()
    story.judge(ids)


# --- backlog -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_days_without_wifi(story):
    story.board.set(wifi=False)
    story.passes(2 * DAY_MS)
    stored = story.stored_count()
    story.board.set(wifi=True)
    story.delivered(20 * MINUTE_MS)
    truth_mj = story.board.look()["energy_mj"]
    records = story.judge({})
    assert len(records) >= stored + 96
    blocks = of(records, "load")
    starts = [block["start_utc_s"] for block in blocks]
    assert starts == list(range(starts[0], starts[0] + 1800 * len(blocks), 1800))
    # The register of the last record against the circuit, which has gone on since.
    assert (
        0
        <= truth_mj - records[-1]["import_wh"] * 3_600_000
        < truth_mj * 3 // 1000 + 460 * 3_600_000
    )


# --- the gateway dies ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_gateway_is_killed_in_the_middle_of_a_backlog(story):
    story.board.set(wifi=False)
    story.passes(2 * MINUTE_MS)
    story.make_records(200)
    before = story.stored_count()
    with story.crash_after(before + 40) as had:
        story.board.set(wifi=True)
        story.delivered(30 * MINUTE_MS)
    records = story.judge({})
    assert had and before + 40 <= had[0] < len(records) - 20


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["ordered", "sent", "on the meter's flash"])
def test_the_gateway_is_killed_in_the_middle_of_a_recharge(story, moment):
    last = story.board.line_count
    id_ = story.recharge(100)
    if moment == "sent":
        while story.state(id_) == "queued":
            pass
    elif moment != "ordered":
        story.board.wait_for(f"credit recharge .*id={id_}", after=last)
    story.crash_gateway()
    story.world.restart_gateway()
    story.until(lambda: story.state(id_) == "confirmed", 10 * MINUTE_MS, "confirmed")
    story.delivered()
    story.judge({id_: 100})


# --- the meter's power ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_power_cuts_at_random_instants(story, seed):
    random_ = random.Random(seed)
    ids = {}
    cuts = 0
    for _ in range(6):
        story.passes(random_.randrange(1, 2 * HOUR_MS))
        if random_.random() < 0.7:
            rupees = random_.randrange(1, 100)
            ids[story.recharge(rupees)] = rupees
            story.passes(random_.choice([0, 0, 1, 20, 500, 20_000]))
        story.board.cut_power()
        cuts += 1
        story.passes(random_.randrange(1, HOUR_MS))
        story.board.restore_power()
    story.until(
        lambda: {story.state(id_) for id_ in ids} == {"confirmed"}, 10 * MINUTE_MS, "confirmed"
    )
    story.delivered()
    records = story.judge(ids)
    assert [boot["boot"] for boot in of(records, "boot")] == list(range(1, cuts + 2))


# --- determinism ---------------------------------------------------------------------------------


def tell(folder):
    """A story with a bit of everything; returns (records, serial log) without random ids."""
    with Story(folder, load="appliances:7") as story:
        story.passes(HOUR_MS + 500)
        ids = [story.recharge(100)]
        story.passes(10 * MINUTE_MS)
        story.board.set(wifi=False)
        story.passes(2 * HOUR_MS)
        story.board.set(wifi=True)
        story.passes(10 * MINUTE_MS)
        story.board.cut_power()
        story.passes(HOUR_MS)
        story.board.restore_power()
        story.passes(10 * MINUTE_MS)
        ids.append(story.recharge(7))
        story.passes(2 * HOUR_MS)
        story.delivered()
        log = log_without_ids(story.board, ids)
        records = story.judge(dict(zip(ids, (100, 7), strict=True)))
    for record in records:
        if record["type"] == "credit" and record["kind"] == "recharge":
            record["id"] = "ID"
        record.pop("prev", None)  # a digest over such an id, among others
    return records, log


@pytest.mark.slow
def test_the_same_story_twice(tmp_path):
    first, second = tell(tmp_path / "first"), tell(tmp_path / "second")
    assert first[1] == second[1]
    assert first[0] == second[0]


# --- the utility ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_utility_is_away_for_a_day(story):
    story.world.stop_headend()
    story.passes(HOUR_MS)
    id_ = story.recharge(100)
    story.passes(DAY_MS)
    assert story.state(id_) == "confirmed"
    health = story.world.get("/api/health")
    assert health["upstream"]["backlog"]["records"] > 40
    assert any("head-end" in alarm for alarm in health["alarms"])
    story.world.restart_headend()
    story.delivered(15 * MINUTE_MS)
    story.judge({id_: 100})


# --- people with a cable -------------------------------------------------------------------------


def test_mpremote_interrupts_the_meter_and_it_goes_on(story):
    story.passes(HOUR_MS)
    story.board.set(load="constant:230V,0A")
    story.passes(20 * MINUTE_MS)  # a checkpoint: nothing is lost by the interrupt
    before = re.search(r"kWh=\S+ balance=\S+", story.board.lines()[-1])[0]
    listing = mpremote(story.board, "fs", "ls")
    for name in ("config.json", "main.py", "rom/", "data/"):
        assert name in listing
    assert mpremote(story.board, "resume", "eval", "6 * 7").strip() == "42"
    last = story.board.line_count
    story.board.type(b"\r\x02\x04")  # friendly prompt, soft reset: main.py runs
    line, _ = story.board.wait_for("boot cause=soft", after=last)
    assert before in line
    story.delivered()
    records = story.judge({})
    assert [boot["cause"] for boot in of(records, "boot")] == ["power", "soft"]


# --- the first seconds and the clock -------------------------------------------------------------


def test_a_fresh_meter_learns_the_time_and_the_battery_keeps_it(story):
    def boot_of(number):
        story.delivered()
        return of(story.at_gateway(), "boot", boot=number)[0]

    story.delivered()
    first = story.at_gateway()
    assert of(first, "boot")[0]["time_valid"] == 0
    (set_,) = of(first, "event", code=151)
    assert abs(set_["utc_s"] - START_MS // 1000) <= 60
    assert all(record["time_valid"] for record in first if record["seq"] >= set_["seq"])

    story.board.cut_power()
    story.passes(HOUR_MS)
    back_s = story.world.now_ms // 1000
    story.board.restore_power()
    kept = boot_of(2)
    assert kept["time_valid"] == 1
    assert abs(kept["utc_s"] - back_s) <= 1
    assert HOUR_MS // 1000 <= kept["off_s"] <= HOUR_MS // 1000 + 900

    story.board.set(rtc_battery=False)
    story.board.cut_power()
    story.passes(HOUR_MS)
    story.board.restore_power()
    lost = boot_of(3)
    assert (lost["time_valid"], lost["off_s"]) == (0, -1)
    records = story.judge({})
    assert len(of(records, "event", code=151)) == 2
    assert records[-1]["time_valid"] == 1
