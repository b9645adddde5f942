"""Accounts on the emulated boards: a meter passes to another tenant and then to another meter."""

import pytest

from demo.households import JBVNL_URBAN, RUPEE_MP, Household
from demo.world import World
from host_tests.fakes.interpreters import need
from host_tests.fakes.worlds import HOUR_MS, LOAD, MINUTE_MS, SECOND_MS, START_MS
from toolchain import locate

OLD, NEW = "BJ-OLD-01", "BJ-NEW-01"
PRICE_MP_PER_WH = 685


@pytest.fixture
def world(tmp_path):
    need(locate.mosquitto)
    households = [
        Household(
            meter,
            "Asha Devi",
            LOAD,
            opening_mp,
            50 * RUPEE_MP,
            JBVNL_URBAN,
            sample_period_ms=10_000,
            live_period_s=300,
        )
        for meter, opening_mp in ((OLD, 500 * RUPEE_MP), (NEW, 0))
    ]
    made = World(tmp_path / "world", households, START_MS, None, lambda line: None)
    try:
        made.start()
        made.wait_until(made.now_ms + 2 * MINUTE_MS)
        yield made
    finally:
        made.stop()


def passes(world, ms):
    world.wait_until(world.now_ms + ms)


def done(world, key, **body):
    """Let time pass until a change of the old meter's account is done; returns it."""
    made = world.post(f"/api/meters/{OLD}/accounts", body, {"Idempotency-Key": key})
    for _ in range(600):
        view = world.get(f"/api/account-changes/{made['id']}")
        if view["state"] not in ("closing", "opening"):
            break
        passes(world, SECOND_MS)
    assert view["state"] == "done", view
    return view


def balance(world, meter):
    """The balance of a meter that has delivered everything; both say the same of it."""
    for _ in range(60):
        found = world.get(f"/api/meters/{meter}/balance")
        if found["agree"]:
            return found
        passes(world, 10 * SECOND_MS)
    raise AssertionError(found)


@pytest.mark.slow
def test_a_tenant_moves_out_and_the_meter_of_the_next_is_replaced(world):
    passes(world, HOUR_MS)
    closing = done(
        world,
        "t-1",
        kind="tenant",
        account="A-2",
        consumer="Birsa Munda",
        opening_balance_mp=100 * RUPEE_MP,
    )["closing"]
    charge_mp = closing["import_wh"] * PRICE_MP_PER_WH
    assert closing["import_wh"] > 900
    assert closing["document"]["charge_mp"] == charge_mp
    assert closing["document"]["refund_mp"] == 500 * RUPEE_MP - charge_mp
    passes(world, HOUR_MS)
    found = balance(world, OLD)
    used_wh = found["by_meter"]["import_wh"] - closing["import_wh"]
    assert used_wh > 800
    assert found["by_meter"]["balance_mp"] == 100 * RUPEE_MP - used_wh * PRICE_MP_PER_WH

    moving = done(world, "m-1", kind="replace", account="A-2", target=NEW)["closing"]
    moved_mp = moving["document"]["balance_mp"]
    used_wh = moving["import_wh"] - closing["import_wh"]
    assert moved_mp == 100 * RUPEE_MP - used_wh * PRICE_MP_PER_WH
    passes(world, HOUR_MS)
    assert balance(world, OLD)["by_meter"]["balance_mp"] == 0
    found = balance(world, NEW)
    # All that the new meter measured since it was put in.
    new_wh = found["by_meter"]["import_wh"]
    assert found["by_meter"]["balance_mp"] == moved_mp - new_wh * PRICE_MP_PER_WH
    shown = world.get(f"/api/meters/{NEW}")
    assert shown["consumer"] == "Birsa Munda"
    assert (shown["live"]["account"], shown["live"]["account_status"]) == ("A-2", "active")
    assert world.get(f"/api/meters/{OLD}")["live"]["account_status"] == "closed"
