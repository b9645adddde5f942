"""Changes of key and link settings at the real meter: the old stay until the new have worked."""

import json
import secrets

import pytest

from firmware.core import sealing
from firmware.core.config import Config, ConfigError
from firmware.core.settings import MEMBERS
from firmware.credentials import LINK
from firmware.link import codec
from firmware.link.rotation import TRIALS_MAX, TRY_S
from firmware.storage.slots import Slots
from host_tests.fakes.documents import meter_config

SALT = bytes(range(32))
OTHER_SALT = bytes(32)
NEW = {
    "wifi": {"ssid": "new", "password": "pass-word"},
    "broker": {"host": "b.example", "port": 8883},
}


@pytest.fixture
def bench(make_bench):
    return make_bench()


class PowerFailed(Exception):
    pass


def fail(*_arguments, **_members):
    raise PowerFailed


def order(bench, key, order_id, counter, kind="recharge", **members):
    members = members or {"amount_mp": 100000}
    payload = codec.encode(
        {"v": 1, "meter": "JH-0001", "id": order_id, "counter": counter, "kind": kind, **members}
    )
    return bench.send(codec.sign(key, "JH-0001", payload))


def change_key(bench, key, counter=1, salt=SALT):
    answer = order(bench, key, f"k-{counter}", counter, "key", salt=salt.hex())
    return answer, sealing.next_key(key, salt)


def changes(bench):
    return [(e["code"], e["detail"]) for code in (1037, 1038) for e in bench.records("event", code)]


# --- key -----------------------------------------------------------------------------------------


def test_both_keys_count_until_the_new_one_is_used_then_the_old_is_dropped_for_good(bench):
    old = bench.config.key
    answer, new = change_key(bench, old)
    assert answer["result"] == "accepted"
    captured = order(bench, old, "r-2", 2)
    assert captured["result"] == "accepted"
    bench.restart()
    assert order(bench, old, "r-3", 3)["result"] == "accepted"
    assert not changes(bench)
    assert order(bench, new, "r-4", 4)["result"] == "accepted"
    assert changes(bench) == [(1037, 1)]
    for _ in range(2):
        image = bench.image()
        for number in range(2, 9):
            assert order(bench, old, f"r-{number}", number) is None
        assert bench.image() == image
        assert order(bench, new, "r-4", 9)["result"] == "accepted"
        bench.restart()
    assert changes(bench) == [(1037, 1)]


def test_a_signed_time_confirms_a_new_key_too(bench):
    _answer, new = change_key(bench, bench.config.key)
    assert bench.meter.open_signed(codec.sign(new, "JH-0001", b"{}")) == b"{}"
    with pytest.raises(codec.CodecError):
        bench.meter.open_signed(codec.sign(bench.config.key, "JH-0001", b"{}"))


def test_keys_follow_keys(bench):
    key = bench.config.key
    for counter in range(1, 4):
        answer, key = change_key(bench, key, counter)
        assert answer["result"] == "accepted"
        bench.restart()
    assert order(bench, key, "r-9", 9)["result"] == "accepted"


def test_a_key_that_was_not_used_is_replaced_by_the_next_order(bench):
    old = bench.config.key
    _answer, unused = change_key(bench, old, 1, OTHER_SALT)
    _answer, new = change_key(bench, old, 2, SALT)
    assert order(bench, unused, "r-3", 3) is None
    assert order(bench, new, "r-4", 4)["result"] == "accepted"


@pytest.mark.parametrize("place", ["slots", "journal"])
def test_power_cut_at_each_write_of_a_key_change_leads_to_the_same_end(bench, monkeypatch, place):
    old = bench.config.key
    with monkeypatch.context() as cut:
        cut.setattr(Slots, "write", fail) if place == "slots" else cut.setattr(
            bench.meter, "append", fail
        )
        with pytest.raises(PowerFailed):
            change_key(bench, old)
    bench.restart()
    assert order(bench, old, "r-2", 2)["result"] == "accepted"
    answer, new = change_key(bench, old, 3)
    assert answer["result"] == "accepted"
    with monkeypatch.context() as cut:
        cut.setattr(Slots, "write", fail)
        with pytest.raises(PowerFailed):
            order(bench, new, "r-4", 4)
    bench.restart()
    assert order(bench, old, "r-5", 5)["result"] == "accepted"
    assert order(bench, new, "r-6", 6)["result"] == "accepted"
    assert order(bench, old, "r-7", 7) is None


@pytest.mark.parametrize("salt", [None, "", "00" * 31, "00" * 33, "zz" * 32, 5, ["00"]])
def test_a_wrong_salt_changes_no_key(bench, salt):
    answer = order(bench, bench.config.key, "k-1", 1, "key", salt=salt)
    assert (answer["result"], answer["field"]) == ("range", "salt")
    assert len(bench.meter.credentials.keys) == 1


def test_another_key_put_into_the_configuration_by_hand_wins(bench):
    _answer, new = change_key(bench, bench.config.key)
    order(bench, new, "r-2", 2)
    by_hand = secrets.token_bytes(32)
    bench._values = json.dumps(meter_config(key=by_hand.hex()))
    bench.restart()
    assert order(bench, new, "r-3", 3) is None
    assert order(bench, by_hand, "r-3", 3)["result"] == "accepted"
    _answer, newer = change_key(bench, by_hand, 4)
    assert order(bench, newer, "r-5", 5)["result"] == "accepted"


def test_no_secret_is_shown(bench):
    _answer, new = change_key(bench, bench.config.key)
    change_link(bench, 2)
    change_link(bench, 3, {"wifi": {"ssid": "x" * 33, "password": "pass-word"}})
    bench.meter.credentials.choose(0)
    order(bench, new, "r-4", 4)
    order(bench, bench.config.key, "r-5", 5)
    shown = "\n".join([*bench.lines, repr(bench.meter.credentials), json.dumps(bench.meter.live())])
    shown += json.dumps(bench.records())
    for secret in (bench.config.key.hex(), new.hex(), SALT.hex(), "pass-word", "secret"):
        assert secret not in shown


# --- link ----------------------------------------------------------------------------------------


def change_link(bench, counter=1, document=NEW, key=None):
    key = key or bench.meter.credentials.keys[0]
    sealed = sealing.seal(key, secrets.token_bytes(16), json.dumps(document).encode())
    return order(bench, key, f"l-{counter}", counter, "link", sealed=sealed)


def link(bench):
    return [getattr(bench.config, name) for name in LINK]


NEW_LINK = ["new", "pass-word", "b.example", 8883, "JH-0001", "secret", ""]


def test_new_link_settings_are_tried_kept_when_they_worked_and_survive_a_restart(bench):
    old = link(bench)
    assert change_link(bench)["result"] == "accepted"
    credentials = bench.meter.credentials
    assert link(bench) == old
    assert credentials.due(0)
    assert credentials.choose(0)
    assert link(bench) == NEW_LINK
    bench.restart()
    assert link(bench) == old  # not worked yet
    assert bench.meter.credentials.choose(0)
    bench.meter.credentials.verified()
    assert changes(bench) == [(1037, 0)]
    for _ in range(2):
        assert link(bench) == NEW_LINK
        assert not bench.meter.credentials.due(10**6)
        assert not bench.meter.credentials.choose(10**6)
        bench.restart()


def test_settings_that_do_not_work_are_given_up_and_the_old_stay(bench):
    old = link(bench)
    change_link(bench)
    up_s = 0
    for number in range(TRIALS_MAX):
        assert bench.meter.credentials.choose(up_s)
        assert link(bench) == NEW_LINK
        up_s += TRY_S
        assert bench.meter.credentials.choose(up_s)
        assert link(bench) == old
        if number % 4 == 3:
            bench.restart()  # trials are counted on
            up_s = 0
        else:
            bench.meter.credentials.verified() if number < TRIALS_MAX - 1 else None
            up_s += 7200
    assert not changes(bench)
    bench.meter.credentials.verified()
    assert changes(bench) == [(1038, 0)]
    bench.restart()
    assert link(bench) == old
    assert not bench.meter.credentials.due(10**6)


def test_a_second_change_during_a_trial_keeps_the_settings_in_force(bench):
    old = link(bench)
    change_link(bench)
    bench.meter.credentials.choose(0)
    change_link(bench, 2, {"broker": {"host": "c.example"}})
    assert bench.meter.credentials.choose(1)
    assert link(bench) == [*old[:2], "c.example", *old[3:]]
    assert bench.meter.credentials.choose(1 + TRY_S)
    assert link(bench) == old


@pytest.mark.parametrize("place", ["slots", "journal", "confirm"])
def test_power_cut_at_each_write_of_a_link_change_leaves_old_or_new(bench, monkeypatch, place):
    old = link(bench)
    with monkeypatch.context() as cut:
        if place == "slots":
            cut.setattr(Slots, "write", fail)
        elif place == "journal":
            cut.setattr(bench.meter, "append", fail)
        else:
            change_link(bench)
            bench.meter.credentials.choose(0)
            cut.setattr(Slots, "write", fail)
        with pytest.raises(PowerFailed):
            bench.meter.credentials.verified() if place == "confirm" else change_link(bench)
    bench.restart()
    assert link(bench) == old
    assert bench.meter.credentials.due(0) == (place != "slots")
    assert change_link(bench)["result"] == "accepted"
    if place == "slots":
        assert bench.meter.credentials.choose(0)
    bench.meter.credentials.choose(0)
    bench.meter.credentials.verified()
    assert link(bench) == NEW_LINK


def test_no_memory_to_change_over_is_no_proof_of_settings_that_were_not_used(bench, monkeypatch):
    old = link(bench)
    change_link(bench)
    credentials = bench.meter.credentials

    def no_memory(_slots):
        raise MemoryError

    with monkeypatch.context() as full:
        full.setattr(Slots, "read", no_memory)
        with pytest.raises(MemoryError):
            credentials.choose(0)
    credentials.verified()  # over the old ones
    assert not changes(bench)
    assert link(bench) == old
    assert credentials.choose(1)
    assert link(bench) == NEW_LINK


def test_an_nvs_that_refuses_lets_new_link_settings_be_tried(bench):
    change_link(bench)

    def refuse():
        raise OSError(-0x1105)

    bench.nvs.commit = refuse
    assert bench.meter.credentials.choose(0)
    assert link(bench) == NEW_LINK
    assert change_link(bench, 2) is None  # not answered: the order comes again
    del bench.nvs.commit
    bench.run(120, 0, step_s=10)
    assert change_link(bench, 2)["result"] == "accepted"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "sealed"),
        ({}, "sealed"),
        ({"wifi": {"ssid": ""}}, "ssid"),
        ({"wifi": []}, "wifi"),
        ({"wifi": {"ssid": "a", "pass": "b"}}, "pass"),
        ({"broker": {"port": 0}}, "port"),
        ({"broker": {"ca": "no certificate"}}, "ca"),
        ({"broker": {"host": "a"}, "key": "00"}, "key"),
    ],
)
def test_wrong_link_settings_are_refused_by_the_member_and_change_nothing(bench, document, field):
    old = link(bench)
    answer = change_link(bench, 1, document)
    assert (answer["result"], answer["field"]) == ("range", field)
    assert link(bench) == old
    assert not bench.meter.credentials.due(0)


def test_settings_sealed_under_another_key_or_damaged_are_refused(bench):
    plain = json.dumps(NEW).encode()
    sealed = sealing.seal(bytes(32), bytes(16), plain)
    cases = [sealed, sealed[:-1], "", None, 5, "00" * 2000]
    cases.append(sealing.seal(bench.config.key, bytes(16), b"\xff no JSON"))
    for counter, case in enumerate(cases, 1):
        answer = order(bench, bench.config.key, f"l-{counter}", counter, "link", sealed=case)
        assert (answer["result"], answer["field"]) == ("range", "sealed")
    assert not bench.meter.credentials.due(0)


def test_another_broker_put_into_the_configuration_by_hand_wins(bench):
    change_link(bench)
    bench.meter.credentials.choose(0)
    bench.meter.credentials.verified()
    values = meter_config()
    values["broker"]["host"] = "by.hand"
    bench._values = json.dumps(values)
    bench.restart()
    assert link(bench)[:3] == ["bijli", "", "by.hand"]


def test_a_trial_that_the_flash_has_lost_ends_with_the_settings_in_use(bench, tmp_path):
    old = link(bench)
    change_link(bench)
    for file in (tmp_path / "data-keep").iterdir():
        file.write_bytes(b"lost")
    assert not bench.meter.credentials.choose(0)
    assert not bench.meter.credentials.due(10**6)
    assert link(bench) == old


def test_a_meter_without_a_place_for_them_takes_no_such_orders(bench):
    bench.meter.credentials.slots = None
    for counter, kind in enumerate(("key", "link"), 1):
        answer = order(bench, bench.config.key, f"x-{counter}", counter, kind, salt=SALT.hex())
        assert answer["result"] == "unsupported"


def test_the_configuration_checks_the_link_as_an_order_does():
    with pytest.raises(ConfigError) as refusal:
        Config(meter_config(broker={"host": "a", "user": "b", "password": "c", "port": 65536}))
    assert refusal.value.field == "port"


def test_the_order_of_the_link_settings_is_one():
    assert list(LINK) == [f"{part}_{name}" for part, names in MEMBERS for name in names]
