"""The faults and the operations of a chaos run, each by name, with its share of the whole.

Each is a function of (run, rng): `rng` is that step's own, so what one step draws depends on seed
and step number alone. It returns True if it happened now, False if it cannot happen now, None if it
was armed and will be counted when it happens.
"""

import errno

from host_tests.chaos.network import FROM_BROKER, GATEWAY, TO_BROKER, Rule

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000

# Where a message may be hurt: (client, way, leaf). What the gateway sends and gets is on its own
# connection; a rule there takes the message of whichever meter comes first.
UP = ("up", "answer", "ask", "live")
DOWN = ("ack", "order", "time")


def _place(run, rng, leaves, meters_only=False):
    leaf = rng.choice(leaves)
    if meters_only or rng.random() < 0.5:
        client = rng.choice(run.meters)
        way = TO_BROKER if leaf in (*UP, "link") else FROM_BROKER
        if leaf == "puback":
            way = rng.choice((TO_BROKER, FROM_BROKER))
    else:
        client = GATEWAY
        way = FROM_BROKER if leaf in (*UP, "link") else TO_BROKER
        if leaf == "puback":
            way = rng.choice((TO_BROKER, FROM_BROKER))
    return client, way, leaf


def _message(do, leaves, low_ms=0, high_ms=0):
    def arm(run, rng):
        ms = rng.randint(low_ms, high_ms)
        run.arm(Rule(run.step_name, *_place(run, rng, leaves), do, ms))

    return arm


# The order of a meter's `link` messages is kept and none is lost without its connection: MQTT says
# so for one topic, and the retained one comes again with the next subscription.
duplicate = _message("duplicate", (*UP, *DOWN, "link"))
delay = _message("delay", (*UP, *DOWN), 100, 10 * MINUTE_MS)
reorder = _message("swap", (*UP, *DOWN))
lose = _message("drop", (*UP, *DOWN))
lose_puback = _message("drop", ("puback",))
cut_before = _message("cut_before", (*UP, *DOWN, "link"))
cut_after = _message("cut_after", (*UP, *DOWN, "link", "puback"))
order_again_late = _message("echo", ("order",), 10 * SECOND_MS, HOUR_MS)
half_open = _message("half_open", (*UP, *DOWN, "puback"), 10 * SECOND_MS, HOUR_MS)
byte_by_byte = _message("trickle", (*UP, *DOWN))


# --- meters --------------------------------------------------------------------------------------


def power_cut(run, rng):
    return run.with_power(rng, run.cut)


def power_cut_in_write(run, rng):
    n = rng.choice((1, 1, 2, 3, 5, 8, rng.randint(1, 60)))

    def arm(meter):
        return run.cut_in_write(meter, n)

    return run.with_power(rng, arm) and None


def power_cut_at_message(run, rng):
    """The meter's power goes when one of its messages has just been handed on."""
    meter = rng.choice(run.meters)
    leaf = rng.choice(("answer", "answer", "up", "live", "live", "order", "ack"))
    way = TO_BROKER if leaf in UP else FROM_BROKER

    def strike():
        run.world.cut(meter)
        run.world.story.wake()

    run.arm(Rule(run.step_name, meter, way, leaf, strike))


def brown_out(run, rng):
    """The power comes and goes in the middle of what the meter writes at its start."""
    cuts = [rng.randint(1, 25) for _ in range(rng.randint(2, 4))]

    def cut(meter):
        run.brown[meter] = cuts
        return run.cut(meter)

    return run.with_power(rng, cut)


def reset(run, rng):
    return run.with_power(rng, run.reset)


def wifi_away(run, rng):
    ms = rng.choice((5 * SECOND_MS, 5 * MINUTE_MS, rng.randint(1, 12 * HOUR_MS)))
    return run.with_power(rng, lambda meter: run.wifi_away(meter, ms))


def rtc_lost(run, rng):
    return run.with_power(rng, lambda meter: run.knob_and_cut(meter, rtc_battery=False))


def rtc_day_back(run, rng):
    seconds = -86_400 - rng.randint(0, 3_600)
    return run.with_power(rng, lambda meter: run.step_rtc(meter, seconds))


def rtc_years_ahead(run, rng):
    return run.with_power(rng, lambda meter: run.step_rtc(meter, 450 * 86_400))


def flash_refuses(run, rng):
    """Its flash is full, or fails: what it measures is in memory, and no order is answered."""
    number = rng.choice((errno.EIO, errno.ENOSPC))
    ms = rng.choice((SECOND_MS, 5 * MINUTE_MS, rng.randint(MINUTE_MS, HOUR_MS)))
    return run.with_power(rng, lambda meter: run.refuse_writes(meter, number, ms))


def bit_flip(run, rng):
    """A bit in its journal flips while it has no power; see damage.py for which."""
    return run.with_power(rng, lambda meter: run.flip_bit(meter, rng))


def sensor_away(run, rng):
    """The chip does not answer, or holds the bus, also over power cuts. (One that repeats itself
    is not to be told from a steady load.)"""
    state = rng.choice(("absent", "hang"))
    ms = rng.choice((5 * SECOND_MS, 5 * MINUTE_MS, rng.randint(MINUTE_MS, 3 * HOUR_MS)))
    return run.with_power(rng, lambda meter: run.sensor_away(meter, state, ms))


def sensor_reset(run, rng):
    """The chip loses its configuration."""
    return run.with_power(rng, run.reset_sensor)


# --- gateway and broker --------------------------------------------------------------------------


def _away_ms(rng):
    return rng.choice((0, 0, 5 * SECOND_MS, 5 * MINUTE_MS, rng.randint(0, 4 * HOUR_MS)))


def gateway_killed(run, rng):
    return run.kill_gateway(_away_ms(rng), with_broker=rng.random() < 0.5)


def gateway_killed_at_message(run, rng):
    """The gateway dies right behind one of its messages, or before it has seen one."""
    leaf, way = rng.choice(
        (("ack", TO_BROKER), ("order", TO_BROKER), ("puback", TO_BROKER), ("up", FROM_BROKER))
    )
    with_broker = rng.random() < 0.5
    away_ms = _away_ms(rng)

    def strike():
        run.struck = away_ms
        run.world.strike_gateway(with_broker)
        run.world.story.wake()

    run.arm(Rule(run.step_name, GATEWAY, way, leaf, strike))


def gateway_power_cut(run, rng):
    """The gateway's computer loses its power, and with it what was not synced."""
    return run.cut_gateway_power(_away_ms(rng), sessions=rng.random() < 0.5)


def gateway_stopped(run, rng):
    return run.stop_gateway(rng.choice((30 * SECOND_MS, 30 * SECOND_MS, HOUR_MS)))


def disk_full(run, rng):
    """While it is full orders and records come, and at times the gateway dies of it."""
    return run.fill_disk(rng.randint(MINUTE_MS, 2 * HOUR_MS), then_kill=rng.random() < 0.4)


def slow_disk(run, rng):
    """Each sync takes as long as that of a bad SD card."""
    return run.slow_disk(rng.choice((5, 20, 50)), rng.randint(MINUTE_MS, HOUR_MS))


def old_backup(run, rng):
    """The disk is dead: the gateway goes on from a backup, which knows nothing of what followed."""
    return run.restore_backup(rng.random(), _away_ms(rng))


def flood(run, rng):
    """A meter of another make hands the broker its backlog of years at once, and then leaves."""
    return run.flood(rng.randint(1_200, 1_500))


def gateway_clock_steps(run, rng):
    ahead_ms = rng.choice((-20 * HOUR_MS, -HOUR_MS, -5 * SECOND_MS, HOUR_MS, 20 * HOUR_MS))
    return run.step_gateway_clock(ahead_ms, rng.randint(MINUTE_MS, 3 * HOUR_MS))


def broker_killed(run, rng):
    return run.kill_broker(sessions=False)


def broker_sessions_lost(run, rng):
    return run.kill_broker(sessions=True)


# --- head-end ------------------------------------------------------------------------------------


def headend_fails(run, rng):
    status = rng.choice((500, 503, 429, 404, 401))
    return run.headend_answers(status, rng.randint(1, 5))


def headend_answer_lost(run, rng):
    """It has committed, and nobody hears of it."""
    how = ("after", rng.choice((500, "close")))
    return run.headend_answers(how, rng.randint(1, 3))


def headend_part(run, rng):
    return run.headend_answers(("part", 500), 1)


def headend_twice(run, rng):
    return run.headend_answers("twice", rng.randint(1, 3))


def headend_away(run, rng):
    return run.kill_headend(rng.choice((MINUTE_MS, HOUR_MS, rng.randint(0, 12 * HOUR_MS))))


FAULTS = {
    "message twice": (duplicate, 90),
    "message late": (delay, 70),
    "order once more, late": (order_again_late, 40),
    "messages swapped": (reorder, 60),
    "message lost": (lose, 60),
    "PUBACK lost": (lose_puback, 40),
    "connection cut before a message": (cut_before, 40),
    "connection cut behind a message": (cut_after, 50),
    "half-open connection": (half_open, 30),
    "byte by byte": (byte_by_byte, 30),
    "flood while the gateway is stopped": (flood, 5),
    "meter: power cut": (power_cut, 90),
    "meter: power cut in a write": (power_cut_in_write, 100),
    "meter: power cut at a message": (power_cut_at_message, 60),
    "meter: brown-out at the start": (brown_out, 20),
    "meter: reset": (reset, 15),
    "meter: Wi-Fi away": (wifi_away, 30),
    "meter: clock chip lost": (rtc_lost, 10),
    "meter: clock chip a day back": (rtc_day_back, 10),
    "meter: clock chip years ahead": (rtc_years_ahead, 5),
    "meter: flash refuses": (flash_refuses, 30),
    "meter: bit flip": (bit_flip, 20),
    "meter: sensor away": (sensor_away, 25),
    "meter: sensor reset": (sensor_reset, 10),
    "gateway: killed": (gateway_killed, 20),
    "gateway: killed at a message": (gateway_killed_at_message, 25),
    "gateway: power cut": (gateway_power_cut, 15),
    "gateway: stopped": (gateway_stopped, 15),
    "gateway: disk full": (disk_full, 20),
    "gateway: slow disk": (slow_disk, 15),
    "gateway: clock steps": (gateway_clock_steps, 15),
    "gateway: restored from an old backup": (old_backup, 10),
    "broker: killed": (broker_killed, 20),
    "broker: killed, sessions lost": (broker_sessions_lost, 20),
    "head-end: fails": (headend_fails, 30),
    "head-end: answer lost": (headend_answer_lost, 30),
    "head-end: takes a part": (headend_part, 20),
    "head-end: gets it twice": (headend_twice, 20),
    "head-end: killed": (headend_away, 15),
}


# --- operations ----------------------------------------------------------------------------------

ORDERS = (
    "arrears",
    "adjustment",
    "emergency",
    "mode",
    "settings",
    "relay",
    "clock",
    "resend",
    "key",
    "link",
    "calendar",
)


def recharge(run, rng):
    # So little that the credit of a meter ends now and then.
    run.recharge(rng.choice(run.meters), rng.randint(1, rng.choice((20_000, 100_000, 300_000))))


def repeat_request(run, rng):
    run.repeat_request(rng.random())


def recharge_unknown(run, rng):
    run.recharge_unknown()


def cancel(run, rng):
    run.cancel(rng.choice(run.meters), rng.randint(1, 1_000_000))


def tariff(run, rng):
    run.tariff(rng.choice(run.meters), rng.randint(300, 900) * 1_000)


def order(run, rng):
    meter = rng.choice(run.meters)
    kind = rng.choice(ORDERS)
    if kind == "arrears":
        members = {"amount_mp": rng.randint(1, 500_000), "share_percent": rng.randint(0, 60)}
        if rng.random() < 0.2:
            members["at_once"] = 1
        elif rng.random() < 0.5:
            members["per_day_mp"] = rng.randint(1, 200_000)
    elif kind == "adjustment":
        entry, amount_mp = rng.choice((("refund", -1), ("adjustment", -1), ("adjustment", 1)))
        members = {"entry": entry, "amount_mp": amount_mp * rng.randint(1, 500_000)}
    elif kind == "mode":
        meter = run.meters[0]  # for 7 days behind a switch nobody is cut: not all of them
        members = {"mode": rng.choice(("credit", "prepayment"))}
        if members["mode"] == "prepayment":
            members["share_percent"] = rng.randint(0, 60)
    elif kind == "emergency":
        members = {"limit_mp": rng.choice((0, rng.randint(1, 2_000_000)))}
    elif kind == "settings":
        members = {"document": {"low_credit_mp": rng.randint(0, 3_000_000)}}
    elif kind == "calendar":
        start_min = rng.randint(0, 1200)
        windows = [[rng.randint(1, 127), start_min, start_min + rng.randint(1, 240)]]
        document = {"v": 1, "id": f"chaos-{start_min}", "windows": windows}
        members = {"document": rng.choice((document, None))}
    elif kind == "relay":
        run.disconnect(meter, rng.randint(MINUTE_MS, HOUR_MS))
        return
    elif kind == "resend":
        run.resend(meter, rng.random())
        return
    elif kind == "key":
        run.change_credentials(meter, kind, {})
        return
    elif kind == "link":
        wifi = {"ssid": f"chaos {rng.randint(0, 99)}", "password": "a new password"}
        section = rng.choice(({"wifi": wifi}, {"broker": {"new_password": True}}))
        run.change_credentials(meter, kind, section)
        return
    else:
        members = {}
    run.order(meter, kind, members)


def tenant(run, rng):
    """Another consumer: the account is closed, and one for him opened."""
    run.change_tenant(rng.choice(run.meters), rng.randint(0, 300_000))


def cover(run, rng):
    """Somebody opens the meter that cuts for it, and the utility switches it on again."""
    run.open_cover(run.meters[0], rng.randint(MINUTE_MS, HOUR_MS))


def backup(run, rng):
    run.back_up()


def load(run, rng):
    run.change_load(rng.choice(run.meters), rng.choice(run.currents))


OPERATIONS = {
    "request repeated": (repeat_request, 40),
    "recharge of an unknown meter": (recharge_unknown, 5),
    "recharge cancelled": (cancel, 20),
    "tariff order": (tariff, 30),
    "other order": (order, 120),
    "new tenant": (tenant, 15),
    "cover opened": (cover, 15),
    "backup": (backup, 40),
    "load changed": (load, 60),
}
"""Beside the recharges; shares for 1,000 of these."""
