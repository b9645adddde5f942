"""Orders of every kind from the gateway's API to the firmware on the emulated board, and back."""

import threading

import pytest

from gateway import backup
from gateway.errors import StartError
from gateway.folder import lock
from host_tests.fakes.worlds import METER, MINUTE_MS, SECOND_MS


def balance(story):
    return story.world.get(f"/api/meters/{METER}/balance")


def wait_released(folder):
    """Wait until a killed gateway has really let go of its folder."""
    waiter = threading.Event()
    for _ in range(200):
        try:
            lock(folder).close()
        except StartError:
            waiter.wait(0.05)
        else:
            return
    raise AssertionError("the killed gateway still holds its folder")


@pytest.mark.slow
def test_the_firmware_takes_every_kind_of_order(story):
    now_s = story.world.now_ms // 1000
    for number, body in enumerate(
        (
            {"kind": "settings", "document": {"grace_s": 7200, "live_period_s": 60}},
            {"kind": "relay", "state": "disconnected", "expires_utc_s": now_s + 3600},
            {"kind": "relay", "state": "connected"},
            {"kind": "arrears", "amount_mp": 10_000_000, "share_percent": 50},
            {"kind": "emergency", "limit_mp": 2_000_000},
            {"kind": "mode", "mode": "credit"},
            {"kind": "mode", "mode": "prepayment", "share_percent": 50},
            {"kind": "clock"},
            {"kind": "key"},
            # Under the new key from here on.
            {"kind": "key"},
            {"kind": "link", "broker": {"new_password": True}},
        )
    ):
        order = story.ended(story.order(f"k{number}", **body))
        assert (order["state"], order["result"]) == ("done", "accepted"), order
    recharge = story.recharge(100)
    story.until(lambda: story.state(recharge) == "confirmed", 10 * MINUTE_MS, "confirmed")

    def new_user():
        acl = (story.folder / "gateway" / "broker" / "passwords").read_text()
        return f"{METER}.2:" in acl and f"\n{METER}:" not in acl

    # The meter has come by the new password and said so: the old one is gone.
    story.until(new_user, 30 * MINUTE_MS, "the new broker password in use", 10 * SECOND_MS)
    assert story.world.get(f"/api/meters/{METER}")["settings"]["rules"]["grace_s"] == 7200
    story.delivered(20 * MINUTE_MS)
    found = balance(story)
    assert found["agree"] is True
    # Half of the recharge paid arrears, which were 100 rupees.
    assert found["credits_mp"] == 55_000_000
    again = story.recharge(10)
    story.until(lambda: story.state(again) == "confirmed", 10 * MINUTE_MS, "confirmed")


@pytest.mark.slow
def test_a_gateway_restored_from_a_backup_gets_everything_back(story, tmp_path):
    story.delivered()
    file = tmp_path / "backup.sqlite"
    folder = story.folder / "gateway"
    backup.back_up(folder, file)
    at_backup = story.stored_count()
    ids = {}
    for rupees in (100, 50):
        id_ = story.recharge(rupees)
        story.until(lambda i=id_: story.state(i) == "confirmed", 10 * MINUTE_MS, "confirmed")
        ids[id_] = rupees
    # The backup knows the key before this change.
    assert story.ended(story.order("key", kind="key"))["state"] == "done"
    story.make_records(40)
    story.delivered()
    assert story.stored_count() > at_backup + 40
    story.crash_gateway()
    wait_released(folder)
    for name in ("gateway.sqlite", "gateway.sqlite-wal", "gateway.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    backup.restore(folder, file, None, story.world.now_ms)
    story.world.restart_gateway()
    story.until(
        lambda: {r["id"] for r in story.world.get(f"/api/meters/{METER}/recharges")} == set(ids),
        30 * MINUTE_MS,
        "the recharges are back",
        10 * SECOND_MS,
    )
    last = story.recharge(10)
    story.until(lambda: story.state(last) == "confirmed", 10 * MINUTE_MS, "confirmed")
    story.delivered(30 * MINUTE_MS)
    story.judge({**ids, last: 10})
