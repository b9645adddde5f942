"""Who may open the contact of one meter, and who does: causes and holds, records and contact.

Invariants
  - Persist, then act: a cause begins and ends with its `control` record, and only then moves the
    contact. What a record means is taken by `apply`, live as at recovery.
  - A hold keeps a cause from beginning; but for a lost ledger and payment mode credit, which end
    a credit cut, it ends none that stands.

The rules are pure and in relay/: which cause wins (arbitration.py), credit (credit_rule.py). What
moves the contact is relay/contactor.py. docs/SPEC.md section 2.4.1 is the prose. Tests:
host_tests/unit/test_control.py.
"""

from firmware.core import civil, events
from firmware.core.livedtime import LivedTime
from firmware.core.records import LEDGER_LOST
from firmware.core.shim import const
from firmware.relay import arbitration as causes
from firmware.relay import credit_rule
from firmware.relay.calendar import Calendar, check
from firmware.relay.contactor import Contactor
from firmware.relay.limiter import CURRENT, POWER, RECLOSE, TRIP, Limiter
from firmware.storage.errors import StorageError

_STARTING_S = const(60)
_TEST_MS = const(5000)
_ORDER_MS = const(1000)  # what begins so long behind the last second was begun by an order
_LISTEN_S = const(60)
_LINK_UP_S = const(900)  # so long a start gets to find the gateway
_DOUBT_S = const(600)  # the gateway sends an order without an answer again before that
_HOUR_S = const(3600)
_UNDATED = const(-1)  # of a warning at an unknown time

# Holds without an end in sight.
_FOR_NOW = (
    causes.COMMISSIONING
    | causes.LEDGER_LOST
    | causes.CREDIT_MODE
    | causes.ACCOUNT_CLOSED
    | causes.WARN_ONLY
)
# Those that a running grace outlasts, or that begin with it.
_BY_TIME = causes.STARTING | causes.WARNED | causes.OUTSIDE | causes.INTERVAL

TAMPERS = (events.COVER_OPEN, events.MAGNET)
"""Events by which `tamper_cut` can cut: its bits in order, 1 first."""

_WARNINGS = (
    events.LOW_CREDIT,
    events.CREDIT_EXHAUSTED,
    events.EMERGENCY_OFFERED,
    events.PERCENT_LEFT,
    events.DAYS_LEFT,
)


class Control:
    """What a Meter does about its contact. driver, random_s: as to relay.contactor.Contactor."""

    def __init__(self, meter, driver, random_s):
        self._meter = meter
        self.rule = credit_rule.CreditRule(meter.config)
        self.calendar = Calendar(meter.config)
        self.contactor = Contactor(
            driver, meter.config, meter.clock, meter.note, self.may_open, random_s
        )
        if meter.config.calendar:
            self.calendar.take(check(meter.config.calendar))
            meter.config.calendar = None  # a long one takes 2 kB of heap
        self._power = Limiter(meter.config, POWER)
        self._current = Limiter(meter.config, CURRENT)
        self.standing = 0
        self.commissioned = False
        self._heard_utc_s = 0  # before this boot; 0: never
        self._heard_up_s = None  # in this one
        self._listen_up_s = 0  # when to look for silence next: UTC s are long integers
        self._doubt_up_s = 0  # until then an order may be there that was not decided on
        self._doubt_again_up_s = 0  # before that no other begins
        self._tampered = 0  # what is to be cut for and has happened: bits of `tamper_cut`
        self._warned_utc_s = 0
        self._undated_told = False
        self._time = LivedTime()
        self._grace_s = 0  # when by that count the grace began
        self._run_up_ms = 0  # when time was let pass last
        self._was_dated = False  # then
        self._early_ms = 0  # of what passes next: that in which no grace ran
        self._test_up_ms = 0
        self._closed_early = False  # though a credit cut stands, before the record that ends it

    # --- state ---------------------------------------------------------------------------------

    def state(self):
        """The state as a list for a snapshot; `restore` takes it back."""
        self._live_on()
        state = [
            self.standing,
            self.rule.state(),
            self._warned_utc_s,
            self.heard_utc_s(),
            self.commissioned,
            self._tampered,
            self.contactor.state(),
            self.calendar.state(),
            self._power.state(),
            self._current.state(),
        ]
        return state + self._time.state() + [self._grace_s]

    def restore(self, state):
        """Takes what `state` gave, out of a snapshot; older ones have members of their own."""
        if "control" in state:
            self.standing, rule, self._warned_utc_s, self._heard_utc_s = state["control"][:4]
            self.commissioned, self._tampered, contactor = state["control"][4:7]
            self.rule.restore(rule)
            self.contactor.restore(contactor)
            calendar, power, current = state["control"][7:10]
            self._time.restore(self._meter.journal.checkpoint_boot, *state["control"][10:15])
            self._grace_s = (state["control"][15:] or [0])[0]
            self.calendar.restore(calendar)
            self._power.restore(power)
            self._current.restore(current)
            return
        word = state["credit_state"]
        self.rule.restore([word, state["grace_left_s"]])
        self._warned_utc_s = _UNDATED  # for a grace that runs it was, sometime
        if word == credit_rule.CUT:
            self.standing = causes.CREDIT
        if state.get("ordered_off", False):  # 0.1.0 did not have it
            self.standing |= causes.ORDER

    def apply(self, record):
        """Takes a journal record: live after it is written, and at recovery."""
        kind = record["type"]
        # Event 101 has the time at which the power failed, not that of its record.
        dated = record["time_valid"] and record.get("code") != events.POWER_FAILED
        if dated and (
            self._warned_utc_s == _UNDATED
            or self._warned_utc_s > record["utc_s"] + civil.DAY_S  # the clock was far ahead
        ):
            self._warned_utc_s = record["utc_s"]
        self._time.live(record["boot"], record["up_s"])
        if kind == "control":
            self._apply_control(record, record["standing"])
        elif kind == "relay":
            # Of older firmware, which knew two causes and told which one had changed.
            standing = causes.ORDER if record["state"] == "disconnected" else 0
            if record["reason"] == "order":
                standing |= self.standing & causes.CREDIT
            elif record["reason"] == "credit":
                standing |= causes.CREDIT
            self._apply_control(record, standing)
        elif kind == "event":
            self._apply_event(record)
        elif kind == "credit":
            if record["kind"] == "recharge":
                self.rule.apply_recharge(record["amount_mp"])
        elif kind == "settings":
            settings = record["document"]
            if settings.get("cut_mode") and not self._meter.config.cut_mode:
                self.rule.begin_anew()  # who was only warned gets a grace before the first cut
            self._tampered &= settings.get("tamper_cut", self._tampered)
        elif kind == "calendar":
            self.calendar.take(record["document"], 1)
        elif kind == "boot":
            self._without_power(record, record["off_s"])
        elif kind == "account" and record["action"] == "opened":
            self.rule.open_account()
        elif kind == "account" or (kind == "mode" and record["mode"] == "credit"):
            self.rule.begin_anew()
        if self.rule.begun:
            self.rule.begun = False
            self._grace_s = self._time.now_s
            self._early_ms = self._meter.clock.up_ms() - self._run_up_ms
        if dated:
            self._time.dated()

    def _live_on(self):
        """Time has passed up to now."""
        self._time.live(self._meter.journal.boot, self._meter.clock.up_s())
        if self._meter.clock.utc_s() is not None:
            self._time.dated()

    def _apply_control(self, record, standing):
        begun = standing & ~self.standing
        if self.standing and not standing:
            self._early_ms = self._meter.clock.up_ms() - self._run_up_ms
        self.standing = standing
        self._power.apply(standing & causes.LIMITER, self._time.now_s)
        self._current.apply(standing & causes.OVER_CURRENT, self._time.now_s)
        self._closed_early = False
        reason = record["reason"]
        self.contactor.want(causes.decide(standing)[1], reason)
        if begun & causes.TEST:
            self._test_up_ms = self._meter.clock.up_ms()
        if begun & causes.TAMPER or (reason == "order" and not standing & causes.ORDER):
            self._tampered = 0
        owed_mp = max(0, -record["balance_mp"])
        self.rule.apply_control(reason, standing, owed_mp)

    def _apply_event(self, record):
        code = record["code"]
        if code in _WARNINGS:
            self._warned_utc_s = record["utc_s"] if record["time_valid"] else _UNDATED
        elif code == events.COMMISSIONED:
            self.commissioned = True
            self._tampered = 0
        elif code in TAMPERS:
            if not self.standing & causes.TAMPER:
                self._tampered |= record["detail"]
        elif code == events.LIMITER_LOCKED:
            limiter = self._power if record["detail"] == causes.LIMITER else self._current
            limiter.apply(True, self._time.now_s, True)
        elif code == events.LINK_SILENT:
            self._heard_utc_s = record["detail"]
        elif code == events.LINK_HEARD:
            self._heard_utc_s = record["utc_s"]
        elif code == events.OFF_TIME_KNOWN:
            self._without_power(record, record["detail"])
        self.rule.apply_event(code, record["detail"])
        self.contactor.apply_event(code, record["detail"])

    def _without_power(self, record, off_s):
        away_s = self._time.away_s(off_s)
        if away_s and record["time_valid"]:
            mark_s = self._time.mark_s
            # Of what began behind that moment nobody knows whether it was before the outage.
            if not self.standing and self._grace_s <= mark_s:
                self.rule.run(record["utc_s"], away_s * 1000, False)
            self._power.shift(mark_s, away_s)
            self._current.shift(mark_s, away_s)
            if self._grace_s > mark_s:
                self._grace_s += away_s
            self._time.insert(away_s)
        # What has passed since the limits were judged last is still to come to them.
        judged_s = self._time.now_s - (record["up_s"] - self._run_up_ms // 1000)
        self._power.resume(judged_s)
        self._current.resume(judged_s)

    def set(self, settings):
        """Takes settings that an order made: a grace that runs goes on as it is."""
        rule = self.rule
        if "grace_s" in settings and rule.word in (credit_rule.IN_CREDIT, credit_rule.CUT):
            rule.grace_left_s = settings["grace_s"]

    # --- start and end -------------------------------------------------------------------------

    def start(self, cause, by_utility):
        """The contact shall be where the state says, closed if that is in doubt; does not write.
        cause: as Meter.start; by_utility: the utility's causes as NVS has them, if the ledger is
        not whole, else None: `keep_order` writes their record."""
        if by_utility is not None:
            self.standing = self.standing & ~causes.BY_UTILITY | by_utility
        self._heard_utc_s = self._heard_utc_s or self._meter.clock.utc_s() or 0
        self._tampered &= self._meter.config.tamper_cut
        self._was_dated = self._meter.clock.utc_s() is not None
        wanted = self.standing & ~causes.TEST
        reason = "start"
        if wanted & causes.CREDIT and (self._meter.service or self._is_undone()):
            wanted &= ~causes.CREDIT
            reason = LEDGER_LOST if self._meter.service else "undone"
            self._closed_early = True
        self.contactor.want(causes.decide(wanted)[1], reason)
        if self._meter.service:
            self.contactor.doubt()  # it may be an old copy that says where the contact is
        self.contactor.start(cause)
        if self.contactor.held_up_ms:
            delay_ms = self.contactor.held_up_ms - self._meter.clock.up_ms()
            self._meter.log("behind the power failure closes in %d s" % (delay_ms // 1000))

    def _is_undone(self):
        """True for a credit cut whose opening nobody has seen: the power failed between the two."""
        alone = self.standing & ~causes.TEST == causes.CREDIT
        return alone and self.rule.word == credit_rule.CUT and self.contactor.is_undone()

    def take_back(self):
        """Takes back the credit cut that the start has found undone: it is due again, and done when
        nothing holds it."""
        if self._closed_early:
            self.end(causes.CREDIT, "undone")

    def keep_order(self):
        """Writes what a lost ledger did not show: only an order begins or lifts an order."""
        self._switch(self.standing & ~causes.CREDIT, "order")

    def test(self):
        """Opens the contact for 5 s; as `begin`."""
        return self.begin(causes.TEST, "test")

    def end_test(self):
        """Ends a test that a restart has cut short."""
        self.end(causes.TEST, "ended")

    def keep_supplied(self):
        """Ends a cut for want of credit: the credit is not known any more."""
        self.end(causes.CREDIT, LEDGER_LOST)

    def close_for_recharge(self):
        """Writes the record of a contact that was closed before its own could be."""
        if self._closed_early:
            self._restore("recharge")

    # --- causes --------------------------------------------------------------------------------

    def begin(self, cause, reason):
        """Begins a cause; a word of arbitration.py says why not now, "" if it has begun.

        A test begins only while nothing stands. Raises StorageError.
        """
        if cause == causes.TEST and self.standing:
            return causes.decide(self.standing)[2]
        holds = self._holds(self._meter.clock.utc_s())
        if not causes.may_begin(cause, holds):
            return causes.hold_word(holds & causes.FORBIDS[cause])
        self._switch(self.standing | cause, reason)
        return ""

    def end(self, some, reason):
        """Ends those of some causes, none of the utility's, that stand. Raises StorageError; the
        contact closes all the same: nobody stays in the dark for want of a record."""
        if not self.standing & some:
            return
        standing = self.standing & ~some
        try:
            self._switch(standing, reason)
        except (StorageError, MemoryError):
            if not standing and not self._meter.applying:
                self.contactor.want(1, reason)
            raise

    def order(self, off):
        """Sets or lifts the utility's order to disconnect, which also lifts a cut for tamper, or
        one that is still to come, and what a closed account has left; no change if it is so
        already."""
        if not off:
            lifted = causes.BY_UTILITY
            if self._meter.account.closed:
                lifted |= causes.CREDIT  # no recharge would
            if self.standing & lifted or self._tampered:
                self._switch(self.standing & ~lifted, "order")
        elif not self.standing & causes.ORDER:
            self._switch(self.standing | causes.ORDER, "order")

    def commission(self):
        """Puts a meter into service whose configuration says that it was not; else no change."""
        if self._meter.config.commissioning and not self.commissioned:
            self._meter.event(events.COMMISSIONED, 0)

    def _switch(self, standing, reason):
        state, contact, _word = causes.decide(standing)
        self._meter.append(
            "control",
            {"state": state, "contact": contact, "reason": reason, "standing": standing},
        )

    def _restore(self, reason):
        """Ends the credit cut."""
        standing = self.standing & ~causes.CREDIT
        try:
            self._switch(standing, "mode" if self._meter.account.postpaid else reason)
        except (StorageError, MemoryError):
            # The recharge is on flash: after a restart the contact would be closed as well.
            if not standing and not self._meter.applying:
                self._closed_early = True
                self.contactor.want(1, reason)
            raise

    # --- once a second -------------------------------------------------------------------------

    def run(self, utc_s, dt_ms):
        """Lets time pass for the grace, which runs only while the contact is closed."""
        if utc_s is not None:
            self._undated_told = False
            self._heard_utc_s = self._heard_utc_s or utc_s
        elif self._grace_runs() and not self._undated_told:
            self._undated_told = self._meter.note(events.TIME_UNKNOWN, 0)
        self._run_up_ms = self._meter.clock.up_ms()
        if self._early_ms >= _ORDER_MS:
            dt_ms = max(0, dt_ms - self._early_ms)
        self._early_ms = 0
        dated_utc_s = utc_s if self._was_dated else None  # for all of this time
        self._was_dated = utc_s is not None
        self.rule.run(dated_utc_s, dt_ms, not self.standing and self._is_supplied())

    def _is_supplied(self):
        """The contact is closed, or so much flows that it must be, whatever its feedback says."""
        meter = self._meter
        flows = not meter.sensor_fails() and meter.energy.current_ua > meter.config.creep_ua()
        return self.contactor.seen or flows

    def _grace_runs(self):
        return self.rule.word in (credit_rule.GRACE, credit_rule.DUE) and not self.standing

    def limit(self, dt_ms):
        """Trips, recloses or locks out what load and current ask for."""
        energy = self._meter.energy
        load_w = energy.power_mw // 1000
        current_ma = energy.current_ua // 1000
        if self._meter.sensor_fails():
            load_w = current_ma = 0  # the last values are none to trip by
        elif energy.reversed and self._meter.config.export_counts:
            load_w = 0  # what is exported is no load
        attempt = self._meter.attempt
        attempt(self._limit, self._power, load_w, dt_ms, causes.LIMITER, "limiter")
        attempt(self._limit, self._current, current_ma, dt_ms, causes.OVER_CURRENT, "over_current")

    def _limit(self, limiter, value, dt_ms, cause, reason):
        if dt_ms > self._meter.gap_limit_ms and not limiter.stands:
            dt_ms = 0  # there were no samples
        asked = limiter.judge(value, dt_ms, True)
        if asked == TRIP:
            self.begin(cause, reason)  # or it is asked again with the next second
        elif asked == RECLOSE:
            self.end(cause, "ended")
        elif asked:
            self._meter.event(events.LIMITER_LOCKED, cause)

    def step(self, utc_s):
        """Begins and ends what is due. Raises StorageError."""
        meter = self._meter
        if self.standing & causes.TEST and meter.clock.up_ms() - self._test_up_ms >= _TEST_MS:
            self.end(causes.TEST, "ended")
        if meter.service == LEDGER_LOST:
            self.keep_supplied()  # the balance is not known, and doubt never cuts
        elif not meter.account.closed:
            # Else nothing is charged, so nothing is warned of, cut, or restored.
            if not meter.is_steady():
                spare_mp = meter.judge_credit()
                if self.standing & causes.CREDIT:
                    self._step_credit(utc_s)  # what restores waits for no warning's record
                meter.judge_warnings(spare_mp)
            self._step_credit(utc_s)
            meter.payment.step(utc_s)
        self._listen(utc_s)
        if self._tampered and causes.may_begin(causes.TAMPER, self._holds(utc_s)):
            self._switch(self.standing | causes.TAMPER, "tamper")

    def stored(self):
        """True for a meter that is not in service yet: its credit does not count."""
        return self._meter.config.commissioning and not self.commissioned

    def _step_credit(self, utc_s):
        meter = self._meter
        if self.standing & causes.CREDIT and self.rule.word != credit_rule.CUT:
            self.end(causes.CREDIT, "account")
        while not meter.has_credit or self.rule.word != credit_rule.IN_CREDIT:
            found = self.rule.next(meter.has_credit, meter.debt_mp, self._credit_holds(utc_s))
            if found is None:
                return
            action, value = found
            if action == "cut":
                self._switch(self.standing | causes.CREDIT, "credit")
            elif action == "restore":
                self._restore(value)
            else:
                code, detail = value
                if detail is None:
                    detail = self.earliest_cut_utc_s() or 0
                meter.event(code, detail)
                meter.warnings.sound(code)

    def _credit_holds(self, utc_s):
        """Everything that keeps a cut for want of credit from beginning now."""
        holds = self._holds(utc_s)
        if (
            not self.rule.silent  # not told yet
            and self._silent_s(utc_s) >= self._meter.config.link_silence_h * _HOUR_S
        ):
            holds |= causes.STARTING  # the gateway gets its time to answer, which may be down
        return holds

    def _holding(self):
        """What keeps a cut for want of credit from beginning now, at the present debt."""
        holds = self._credit_holds(self._meter.clock.utc_s())
        return self.rule.holding(self._meter.debt_mp, holds)

    def _opening_holds(self):
        """What keeps a contact that did not open for a credit cut from being tried again now."""
        # The time between two operations is the contactor's own affair.
        return self._holding() & ~causes.INTERVAL

    def may_open(self):
        """False while credit alone has the contact open, and a hold keeps a cut from beginning: a
        weld opens at no other hour than a cut."""
        return self.standing & ~causes.TEST != causes.CREDIT or not self._opening_holds()

    def _holds(self, utc_s):
        """Everything that keeps some cause from beginning now."""
        meter = self._meter
        config = meter.config
        holds = 0
        if self.stored():
            holds |= causes.COMMISSIONING
        if meter.service == LEDGER_LOST:
            holds |= causes.LEDGER_LOST
        if meter.account.postpaid:
            holds |= causes.CREDIT_MODE
        if meter.account.closed:
            holds |= causes.ACCOUNT_CLOSED
        if meter.clock.up_s() < _STARTING_S:
            holds |= causes.STARTING
        if meter.sensor_fails():
            holds |= causes.SENSOR_FAULT
        if not meter.is_writable() or meter.clock.up_s() < self._doubt_up_s:
            holds |= causes.UNVERIFIED
        if self.rule.silent:
            holds |= causes.SERVER_DOWN
        if meter.payment.holds():
            holds |= causes.SWITCHED
        if not self._warned_utc_s or (
            utc_s is not None and utc_s < self._warned_utc_s + config.warned_days * civil.DAY_S
        ):
            holds |= causes.WARNED
        if utc_s is None:
            holds |= causes.UNDATED | causes.OUTSIDE
        elif not self.calendar.is_open(utc_s):
            holds |= causes.OUTSIDE
        if self.contactor.interval_s():
            holds |= causes.INTERVAL
        return holds

    # --- the gateway ---------------------------------------------------------------------------

    def heard(self):
        """The gateway has answered."""
        self._heard_up_s = self._meter.clock.up_s()
        if self.rule.silent:
            self._listen_up_s = 0

    def order_lost(self):
        """An order came that could not be decided on: until it can have come again there is no
        credit cut; at most once a day, as nobody knows whose it was."""
        up_s = self._meter.clock.up_s()
        if up_s >= self._doubt_again_up_s:
            self._doubt_up_s = up_s + _DOUBT_S
            self._doubt_again_up_s = up_s + civil.DAY_S

    def checkpoint(self):
        """What `take_checkpoint` takes back, a tuple."""
        self._live_on()
        return (self.rule.undated_s, self.heard_utc_s()) + self._time.checkpoint()

    def take_checkpoint(self, undated_s, heard_utc_s, *lived):
        """How far time had come when a checkpoint was written."""
        self.rule.undated_s = undated_s
        self._heard_utc_s = max(self._heard_utc_s, heard_utc_s)
        self._time.take_checkpoint(self._meter.journal.checkpoint_boot, *lived)

    def limits(self):
        """True while a limit has the contact open, whose delay is to come to its end."""
        return self.standing & (causes.LIMITER | causes.OVER_CURRENT) != 0

    def heard_utc_s(self):
        """When the gateway was heard last, UTC s; before it ever was, when the time was first
        known; 0 before that."""
        utc_s = self._meter.clock.utc_s()
        if utc_s is None or self._heard_up_s is None:
            return self._heard_utc_s
        return utc_s - (self._meter.clock.up_s() - self._heard_up_s)

    def _silent_s(self, utc_s):
        """For how long the gateway has not answered, as far as that is known."""
        up_s = self._meter.clock.up_s()
        if self._heard_up_s is not None:
            return up_s - self._heard_up_s
        if utc_s is None or not self._heard_utc_s:
            return max(up_s, self.rule.undated_s)  # no gateway has told the time
        return max(up_s, utc_s - self._heard_utc_s)

    def _listen(self, utc_s):
        """Tells when the gateway is silent for long, and when it is back."""
        meter = self._meter
        up_s = meter.clock.up_s()
        if up_s < self._listen_up_s:
            return
        silent_s = self._silent_s(utc_s)
        if self.rule.silent:
            if self._heard_up_s is not None and silent_s < _LINK_UP_S:
                away_s = 0 if utc_s is None else max(0, utc_s - self._heard_utc_s)
                meter.event(events.LINK_HEARD, away_s)
        elif silent_s >= meter.config.link_silence_h * _HOUR_S and (
            up_s >= _LINK_UP_S
            # A power failure every few minutes must not be free supply.
            or (up_s >= _STARTING_S and meter.debt_mp >= meter.config.offline_debt_cap_mp)
        ):
            meter.event(events.LINK_SILENT, self.heard_utc_s())
        self._listen_up_s = up_s + _LISTEN_S

    # --- for people ----------------------------------------------------------------------------

    def hold(self):
        """Why nothing is cut though the credit is exhausted, or why a contact that did not open is
        not tried again, a word of arbitration.py; "" if there is credit, or if nothing but the
        grace stands before the cut."""
        rule = self.rule
        if self.standing == causes.CREDIT and self.contactor.seen:
            return causes.hold_word(self._opening_holds())
        if rule.word not in (credit_rule.GRACE, credit_rule.DUE):
            return ""
        holds = self._holding()
        if rule.word == credit_rule.GRACE:
            holds &= ~_BY_TIME
        return causes.hold_word(holds)

    def earliest_cut_utc_s(self):
        """UTC seconds of the earliest instant at which credit can cut, None if none is in sight."""
        meter = self._meter
        config = meter.config
        utc_s = meter.clock.utc_s()
        earliest_s = self.rule.earliest_s(utc_s)
        if earliest_s is None:
            return None
        if self._holding() & _FOR_NOW:
            return None
        earliest_s = meter.payment.earliest_utc_s(earliest_s)
        warned_utc_s = max(0, self._warned_utc_s) or utc_s
        earliest_s = max(earliest_s, warned_utc_s + config.warned_days * civil.DAY_S)
        return self.calendar.next_open_utc_s(earliest_s)

    def words(self):
        """The contact, its causes and what comes next, for the status line."""
        words = "closed"
        if self.standing:
            words = "open(%s)" % "+".join(causes.words(self.standing))
        if self.contactor.failed:
            words += " fault=%d" % self.contactor.failed
        hold = self.hold()
        if hold:
            words += " hold=" + hold
        earliest_s = self.earliest_cut_utc_s()
        if earliest_s is not None:
            words += " cut>=" + civil.text(earliest_s, self._meter.config.utc_offset_s)
        return words

    def live(self):
        """The members of SPEC section 2.2 that are of the contact."""
        state, contact, reason = causes.decide(self.standing)
        return {
            "state": state,
            "contact": contact,
            "reason": reason,
            "causes": causes.words(self.standing),
            "hold": self.hold(),
            "would_cut": self.rule.would_cut,
            "operations": self.contactor.operations,
            "grace_s": self.rule.grace_left_s,
            "earliest_cut_utc_s": self.earliest_cut_utc_s() or 0,
            "heard_utc_s": self.heard_utc_s(),
            "calendar": self.calendar.id,
        }
