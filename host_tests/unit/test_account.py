"""What a recharge pays, against a model of three pots."""

from hypothesis import given
from hypothesis import strategies as st

from firmware.credit.account import Account
from host_tests.fakes.documents import tariff_document

PRICE_MP_PER_WH = 665
AMOUNT_MAX_MP = 10_000_000_000

amounts = st.integers(1, AMOUNT_MAX_MP) | st.integers(1, 1000)
steps = st.lists(
    st.tuples(st.just("recharge"), amounts)
    | st.tuples(st.just("adjustment"), st.integers(-AMOUNT_MAX_MP, AMOUNT_MAX_MP))
    | st.tuples(st.just("consume"), st.integers(0, 10_000_000))
    | st.tuples(st.just("arrears"), st.tuples(amounts, st.integers(0, 100)))
    | st.tuples(
        st.just("recovery"),
        st.tuples(amounts, st.integers(0, 100), st.integers(0, 10**9), st.integers(0, 1)),
    )
    | st.tuples(st.just("day"), st.integers(0, 9))
    | st.tuples(
        st.just("mode"),
        st.tuples(st.booleans(), st.integers(0, 100), st.integers(0, 10**9)),
    )
    | st.tuples(st.just("emergency"), st.integers(0, AMOUNT_MAX_MP)),
    max_size=30,
)


def opened(*records):
    account = Account()
    account.apply({"type": "tariff", "document": tariff_document(), "import_wh": 0})
    for record in records:
        account.apply({"import_wh": 0, **record})
    return account


def recovery(amount_mp, share_percent, per_day_mp=0, at_once=0):
    return {
        "type": "recovery",
        "amount_mp": amount_mp,
        "share_percent": share_percent,
        "per_day_mp": per_day_mp,
        "at_once": at_once,
    }


def mode(mode, amount_mp, share_percent, per_day_mp):
    return {**recovery(amount_mp, share_percent, per_day_mp), "type": "mode", "mode": mode}


def clears(account, import_wh):
    """The amount to clear is the least recharge after which there is credit (or nothing due)."""
    balance_mp = account.balance_mp(import_wh)
    least_mp = 0 if account.postpaid else 1
    amount_mp = account.clearing_mp(balance_mp)
    if balance_mp >= least_mp:
        assert amount_mp == 0
        return
    for paid_mp, enough in ((amount_mp, True), (amount_mp - 1, False)):
        parts = account.divide("recharge", paid_mp, import_wh)
        assert (balance_mp + parts[0] + parts[2] >= least_mp) == enough


def credit(kind, amount_mp, import_wh=0):
    return {"type": "credit", "kind": kind, "amount_mp": amount_mp, "import_wh": import_wh}


@given(steps)
def test_each_recharge_is_divided_without_rest_and_the_balance_is_exact(history):
    account = opened()
    balance_mp = arrears_mp = share = limit_mp = paid_mp = import_wh = per_day_mp = 0
    postpaid = False
    day, counted_day = 20_000, None
    for what, value in history:
        if what == "consume":
            import_wh += value
            balance_mp -= value * PRICE_MP_PER_WH
        elif what == "arrears":
            arrears_mp, share, per_day_mp = arrears_mp + value[0], value[1], 0
            account.apply({"type": "arrears", "amount_mp": value[0], "share_percent": share})
        elif what == "recovery":
            if not (arrears_mp and per_day_mp):
                counted_day = None
            arrears_mp, share, per_day_mp = arrears_mp + value[0], value[1], value[2]
            if value[3]:
                balance_mp, arrears_mp = balance_mp - arrears_mp, 0
            account.apply(recovery(*value))
        elif what == "day":
            day += value
            account.recover(day, import_wh)
            if arrears_mp and per_day_mp:
                if counted_day is not None and day > counted_day:
                    took_mp = min(arrears_mp, (day - counted_day) * per_day_mp, balance_mp)
                    if took_mp > 0:
                        balance_mp, arrears_mp = balance_mp - took_mp, arrears_mp - took_mp
                counted_day = day
        elif what == "mode":
            due_mp = -balance_mp if balance_mp < 0 else 0
            account.apply(mode("credit" if value[0] else "prepayment", due_mp, *value[1:]))
            postpaid = value[0]
            if postpaid:
                limit_mp = 0
            else:
                if not (arrears_mp and per_day_mp):
                    counted_day = None
                balance_mp, arrears_mp = balance_mp + due_mp, arrears_mp + due_mp
                paid_mp += due_mp  # not paid, but owed elsewhere
                share, per_day_mp = value[1:]
        elif what == "emergency" and postpaid:
            pass  # the meter refuses it
        elif what == "emergency":
            limit_mp = value
            account.apply({"type": "emergency", "limit_mp": value})
        elif what == "adjustment":
            balance_mp += value
            paid_mp += value
            account.apply(credit(what, value, import_wh))
        else:
            parts = account.divide(what, value, import_wh)
            assert sum(parts) == value
            assert min(parts) >= 0
            taken = min(value, min(limit_mp, -balance_mp)) if balance_mp < 0 else 0
            # Half up, in another way than the account's.
            due = int(f"{2 * (value - taken) * share + 100}") // 200
            assert parts[:2] == (taken, min(arrears_mp, due))
            account.apply(credit(what, value, import_wh))
            arrears_mp -= parts[1]
            balance_mp += value - parts[1]
            paid_mp += value
            limit_mp = 0 if balance_mp > 0 else limit_mp
        assert account.balance_mp(import_wh) == balance_mp
        assert (account.arrears_mp, account.emergency_mp) == (arrears_mp, limit_mp)
        assert balance_mp <= paid_mp - import_wh * PRICE_MP_PER_WH
        assert account.due_mp(balance_mp) == (-balance_mp if postpaid and balance_mp < 0 else 0)
        assert account.debt_mp(balance_mp) == arrears_mp - min(0, balance_mp)
        clears(account, import_wh)
        copy = Account()
        copy.restore(account.state())
        assert copy.state() == account.state()


def test_a_recharge_pays_emergency_credit_then_the_arrears_share_then_credit():
    account = opened(
        {"type": "arrears", "amount_mp": 1000, "share_percent": 25},
        {"type": "emergency", "limit_mp": 300},
        credit("adjustment", -200),
    )
    assert account.divide("recharge", 150, 0) == (150, 0, 0)
    assert account.divide("recharge", 1002, 0) == (200, 201, 601)  # 200.5 rounds up
    account.apply(credit("recharge", 1002))
    assert (account.balance_mp(0), account.arrears_mp, account.emergency_mp) == (601, 799, 0)
    account.apply(credit("recharge", 10_000))
    assert (account.balance_mp(0), account.arrears_mp) == (601 + 10_000 - 799, 0)


def test_debt_beyond_the_emergency_limit_is_paid_after_the_arrears_share():
    account = opened(
        {"type": "arrears", "amount_mp": 1000, "share_percent": 50},
        {"type": "emergency", "limit_mp": 100},
        credit("adjustment", -500),
    )
    assert account.divide("recharge", 300, 0) == (100, 100, 100)
    account.apply(credit("recharge", 300))
    assert (account.balance_mp(0), account.emergency_mp) == (-300, 100)


def test_a_snapshot_of_0_1_0_opens_without_arrears():
    account = opened()
    state = account.state()
    for name in ("arrears_mp", "arrears_percent", "emergency_mp"):
        del state[name]
    account.arrears_mp = 5
    account.restore(state)
    assert (account.arrears_mp, account.arrears_percent, account.emergency_mp) == (0, 0, 0)


def test_each_day_pays_a_part_of_the_arrears_out_of_a_positive_balance_only():
    account = opened(credit("adjustment", 1000), recovery(5000, 0, 300))
    account.recover(20_000, 0)  # begins it
    assert (account.balance_mp(0), account.arrears_mp) == (1000, 5000)
    account.recover(20_000, 0)
    account.recover(20_002, 0)
    assert (account.balance_mp(0), account.arrears_mp) == (400, 4400)
    account.recover(20_001, 0)  # a clock that went back by an hour
    account.recover(20_002, 0)
    assert (account.balance_mp(0), account.arrears_mp) == (400, 4400)
    account.recover(20_004, 0)
    assert (account.balance_mp(0), account.arrears_mp) == (0, 4000)
    account.recover(20_005, 1)  # nothing of a balance below zero
    assert (account.balance_mp(1), account.arrears_mp) == (-665, 4000)
    account.recover(19_000, 1)  # the time before was wrong: days count from here on
    account.apply(credit("adjustment", 10_000))
    account.recover(19_001, 1)
    assert (account.balance_mp(1), account.arrears_mp) == (10_000 - 665 - 300, 3700)


def test_arrears_placed_anew_do_not_count_the_days_before():
    account = opened(credit("adjustment", 100_000), recovery(500, 0, 300))
    account.recover(20_000, 0)
    account.recover(20_010, 0)
    assert account.arrears_mp == 0
    account.apply(recovery(50_000, 0, 300))
    account.recover(20_100, 0)
    account.recover(20_101, 0)
    assert account.arrears_mp == 50_000 - 300


def test_a_tariff_that_settles_is_the_same_one():
    account = opened()
    before = account.tariff
    state = account.state()
    account.settle()
    settled = account.tariff
    assert settled is not before
    assert account.state() == state
    assert (settled.lines, settled.fixed) == (before.lines, before.fixed)
    account.settle()
    again = account.tariff
    assert again is not settled and again.lines == before.lines
    account.settle()
    assert account.tariff is again
    Account().settle()  # none yet
