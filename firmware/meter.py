"""The meter as one object: readings, orders and time go in, records and relay commands come out.

Invariants
  - Persist, then act, then report: a decision is a journal record before the contact moves and
    before anybody is told. Recovery applies the same records by the same method (`apply`).
  - The register only grows; the balance is a function of ledger, register and tariff.
  - Doubt never cuts: not an unknown time, not a broken sensor, not a restart.

No hardware, no clock of its own, no files: they are handed in. Tests:
host_tests/unit/test_meter.py, host_tests/property/test_meter_machine.py.
"""

from firmware import VERSION, outlook
from firmware.billing import Billing
from firmware.console import text
from firmware.control import TAMPERS, Control
from firmware.core import events, seldom
from firmware.core.drift import STEP_MS
from firmware.core.records import LEDGER, LEDGER_LOST
from firmware.core.shim import const
from firmware.core.wallclock import PLAUSIBLE_UTC_S
from firmware.credentials import Credentials
from firmware.credit import tariff as tariffs
from firmware.credit.account import Account
from firmware.link import codec
from firmware.metering import quality, sampler, tamper
from firmware.metering.calibration import Calibration
from firmware.metering.energy import EnergyRegister
from firmware.metering.scale import bus_gain, shunt_gain
from firmware.orders import Orders
from firmware.payment import Payment
from firmware.profiles import Profiles
from firmware.relay import credit_rule
from firmware.relay.arbitration import BY_UTILITY
from firmware.storage import floors
from firmware.storage.errors import StorageError
from firmware.storage.floors import Floors
from firmware.warning import Warnings

# import_wh, its half mJ, grace_left_s, utc_s, export_wh, its half mJ, the running interval's
# supply_s and over_load_s, then as Control.checkpoint (0.1.0 had the first four)
CHECKPOINT_FORMAT = "<QIiIQIIIIIIII"

_CHECKPOINT_WH = const(10)
_CHECKPOINT_MAX_MS = const(900000)
_CHECKPOINT_LIMITED_MS = const(60000)  # while a limit has the contact open
_CHECKPOINT_MIN_MS = const(10000)
_SENSOR_FAULT_MS = const(5000)
_TIME_STEP_MAX_S = const(86400)
_RETRY_MS = const(60000)
_ENOMEM = const(12)
_NO_MEMORY_MAX_MS = const(600000)  # then a restart makes the heap whole again
# Events that only tell: so many at once, then one each so often. A loose plug must not fill a log.
_NOTES_MAX = const(300)
_NOTE_MS = const(900000)


class Meter:
    """One meter.

    config: core.config.Config; journal: storage.journal.Journal of CHECKPOINT_FORMAT, not yet
    opened; clock: core.wallclock.WallClock; relay: relay.driver.RelayDriver; nvs: as esp32.NVS
    (`get_i32`, `set_i32`, `commit`); shunt_uohm: the board's shunt; log: function of one line of
    text; changed: called after a record has been written; slots: a storage.slots.Slots for the
    credentials that orders change, None: they cannot; cover, magnet: input pins of the board, or
    None; random_s: as to relay.contactor.Contactor.
    """

    def __init__(
        self,
        config,
        journal,
        clock,
        relay,
        nvs,
        shunt_uohm,
        log,
        changed,
        slots=None,
        cover=None,
        magnet=None,
        random_s=None,
    ):
        codec.check_meter_id(config.meter)
        self.config = config
        self.journal = journal
        self.clock = clock
        self.floors = Floors(nvs)
        self._log = log
        self._changed = changed
        # Parsed before anything is touched: a wrong tariff must not leave a half-opened account.
        self.first_tariff = tariffs.parse(codec.check_document(config.tariff))
        self.account = Account()
        self.energy = EnergyRegister(
            bus_gain(config.voltage_ratio_x1000),
            shunt_gain(config.current_ratio_x1000, shunt_uohm),
            config.creep_ua(),
            config.export_counts,
        )
        self.profiles = Profiles(self)
        self.billing = Billing(self)
        self.payment = Payment(self)
        self.warnings = Warnings(self)
        self.calibration = Calibration(self.energy, config, shunt_uohm)
        self.pulse = None  # a metering.pulse.Pulse of a board that has the output
        self.measurement = None  # a metering.calibrating.Measurement that takes the readings, too
        self._watches = quality.Watches()
        self._cover = cover
        self._magnet = magnet
        self._cover_openings = 0
        self.mode_told = 0  # event of the mode in which a reversed current counts, 0: none yet
        self.off_from_utc_s = 0  # begin of a power failure whose end has no time yet; 0: none
        self.gap_limit_ms = max(2000, 2 * config.sample_period_ms)
        self._settings = {}  # by order; they win over the configuration
        self.missing_told = 0  # numbers without a record, at the last start
        self.orders = Orders(self)
        self.service = ""  # or LEDGER_LOST: somebody must come
        self.queue = []  # (function, arguments) that write and wait for the flash
        self._refused = None  # errno of a flash that takes no writes; None: it takes them
        self._refused_up_ms = 0  # since when, when next to be tried
        self._retry_up_ms = 0
        self._refusal_told = False
        self._trying = False
        self._floors_behind = False
        self.applying = False  # a record is on flash and not yet in the state
        self._notes_left = _NOTES_MAX
        self._notes_up_ms = 0
        self.control = Control(self, relay, random_s)
        self.credentials = Credentials(config, slots, nvs, self.note)
        self.last_utc_s = 0
        self._time_refused = False
        self._committed_wh = 0
        self._committed_export_wh = 0
        self._checkpoint_up_ms = 0
        self._sensor_failed_ms = 0
        self._sensor_fault = 0
        self._sensor_told = 0
        self._gap_ms = 0  # not told yet
        self._balance_key = None
        self._balance_mp = 0
        self.has_credit = True  # above the floor
        self.debt_mp = 0  # how far below it; both as of the last judgement
        self._steady_wh = -1  # up to this register that holds, and nothing has to be judged

    # --- start -----------------------------------------------------------------------------

    def start(self, cause, rtc_utc_s, fault=None, written=None, told=()):
        """Recovers the state from flash, restores the contact and writes the boot record.

        cause: reset cause of the board contract; rtc_utc_s: time of the board's clock or None;
        fault: (kind, place, up s, UTC s) of an exception that ended an earlier boot or None;
        written: called when its record is on flash; told: (code, detail) of further events.
        """
        from firmware import start

        try:
            start.start(self, cause, rtc_utc_s, fault, written, told)
        finally:
            seldom.drop("firmware.start")

    def raise_registers(self, wh, export_wh):
        """The registers are at least `wh` and `export_wh`, as a second place knows."""
        energy = self.energy
        if wh > energy.import_wh or export_wh > energy.export_wh:
            energy.imported.raise_to(wh)
            energy.exported.raise_to(export_wh)
            self.profiles.start_anew()
        self._committed_export_wh = energy.export_wh

    def keep_floors(self):
        """Writes to NVS what the journal must at least hold."""
        self._floors_behind = True
        self.floors.keep(
            {
                floors.COUNTER: self.orders.highest,
                floors.LEDGER: self.journal.ledger_count,
                floors.STORE: self.journal.store_id,
                floors.WH: self._committed_wh,
                floors.EXPORT_WH: self._committed_export_wh,
                floors.SEQ: self.journal.last_seq,
                floors.BY_UTILITY: self.control.standing & BY_UTILITY,
            }
        )
        self._floors_behind = False

    def _state(self):
        return {
            "account": self.account.state(),
            "control": self.control.state(),
            "service": self.service,
            "missing": self.journal.missing_records,
            "settings": self._settings,
            "warnings": self.warnings.state(),
            "highest": self.orders.highest,
            "last_order": self.orders.last,
            "last_utc_s": self.last_utc_s,
            "block_start_utc_s": self.profiles.start_utc_s,
            "block_start_wh": self.profiles.start_wh,
            "profiles": self.profiles.state(),
            "standing": self._watches.standing(),
            "cover_openings": self._cover_openings,
            "mode_told": self.mode_told,
            "payment": self.payment.state(),
            "import_wh": self.energy.import_wh,
            "remainder_half_mj": self.energy.imported.half_mj,
            "export_wh": self.energy.export_wh,
            "export_half_mj": self.energy.exported.half_mj,
            "calibration": self.calibration.state(),
        }

    def restore(self, state):
        self.account.restore(state["account"])
        self.control.restore(state)
        self.service = state.get("service", "")  # 0.1.0 did not have it
        self.missing_told = state.get("missing", 0)
        self._set(state.get("settings", {}))
        self.warnings.restore(state.get("warnings"), state.get("low_warned"))
        self.orders.highest = state["highest"]
        self.orders.last = state.get("last_order")
        self.last_utc_s = state["last_utc_s"]
        self.profiles.restore(
            state["block_start_utc_s"], state["block_start_wh"], state.get("profiles")
        )
        for code in state.get("standing", ()):
            self._watches.take(code)
        self._cover_openings = state.get("cover_openings", 0)
        self.mode_told = state.get("mode_told", 0)
        if "payment" in state:
            self.payment.restore(state["payment"])
        self.energy.imported.restore(state["import_wh"], state["remainder_half_mj"])
        self.energy.exported.restore(state.get("export_wh", 0), state.get("export_half_mj", 0))
        if "calibration" in state:
            self.calibration.restore(state["calibration"])

    def take_checkpoint(self, checkpoint):
        import_wh, half_mj, grace_left_s, utc_s, export_wh, export_half_mj = checkpoint[:6]
        if import_wh >= self.energy.import_wh:
            self.energy.imported.restore(import_wh, half_mj)
        if export_wh >= self.energy.export_wh:
            self.energy.exported.restore(export_wh, export_half_mj)
        self.control.rule.grace_left_s = grace_left_s
        self.control.take_checkpoint(*checkpoint[8:])
        self.last_utc_s = max(self.last_utc_s, utc_s)
        self.profiles.block.restore(*checkpoint[6:8])

    # --- records ---------------------------------------------------------------------------

    def append(self, kind, fields, utc_s=None, up_s=None):
        """Persists a record, takes it into the state, logs it. The balance is filled in, and unless
        given the register and the time. Raises StorageError; then nothing has changed."""
        self._must_be_writable()
        held = up_s is not None
        if not held:
            utc_s = self.clock.utc_s()
            up_s = self.clock.up_s()
        wh = fields.get("import_wh", self.energy.import_wh)
        if kind != "period":  # which has registers of its own
            fields["import_wh"] = wh
        record = dict(fields)
        record["type"] = kind
        record["utc_s"] = utc_s or 0
        record["time_valid"] = 0 if utc_s is None else 1
        record["boot"] = self.journal.boot
        record["up_s"] = up_s
        account = self.account
        if kind in LEDGER:
            # Tried first: what cannot be applied is not written, and the balance is that after it.
            account = account.copy()
            account.apply(record)
        record["balance_mp"] = fields["balance_mp"] = account.balance_mp(wh)
        self.journal.append(
            kind,
            fields,
            self.last_utc_s if utc_s is None else utc_s,
            record["time_valid"],
            up_s,
        )
        self.applying = True
        # One with a tariff is taken over, which is not read a second time. Others stay where they
        # lie: new ones would be scattered over the heap.
        self.apply(record, held, account if kind in ("tariff", "resync") else None)
        self.applying = False
        # The record is on flash: what follows from it is done; only the answer waits.
        self.attempt(self.keep_floors)
        self._log_record(record)
        self._changed()

    def _log_record(self, record):
        try:
            from firmware.console import lines

            line = lines.record_line(record, self.config.utc_offset_s)
        except MemoryError:  # the record is on flash; only its words are not
            line = "record"
        self.log(line)

    def drop_words(self):
        """Drops the words for records: these are rare, and come several at once."""
        seldom.drop("firmware.console.lines")

    def log(self, line):
        """Writes one line to the serial log, with the time in front."""
        try:
            stamp = text.when(self.clock.utc_s(), self.config.utc_offset_s, self.clock.up_s())
            line = stamp + " " + line
        except MemoryError:  # without its time, then
            pass
        self._log(line)

    def apply(self, record, held=False, account=None):
        """What a record means for the state: live after it is written, and at recovery. held: the
        profiles took it when it was made; account: one that it was applied to."""
        kind = record["type"]
        if account is None:
            self.account.apply(record)
        else:
            self.account = account
        self._balance_key = None
        self._steady_wh = -1
        if record["utc_s"] and record.get("code") != events.POWER_FAILED:  # of an older moment
            self.last_utc_s = record["utc_s"]
        # Every record with a register has persisted that register.
        wh = record.get("import_wh", 0)
        self.energy.imported.raise_to(wh)
        if wh > self._committed_wh:
            self._committed_wh = wh
        self.orders.apply(record)
        self.payment.apply(record)
        self.warnings.apply(record)
        self.control.apply(record)
        if kind == "settings":
            self._set(record["document"])
        elif kind == "calibration":
            self.calibration.apply(record)
        elif kind == "resync":
            self.service = ""
            if self.pulse is not None:
                self.pulse.align()
        elif kind == "event":
            self._apply_event(record["code"])
        if not held:
            self.profiles.apply(record)

    def _set(self, settings):
        """Takes settings that an order made."""
        self._settings.update(settings)
        for name in settings:
            setattr(self.config, name, settings[name])
        self.energy.creep_ua = self.config.creep_ua()
        self.control.set(settings)

    def _apply_event(self, code):
        if code == events.LEDGER_LOST:
            self.service = LEDGER_LOST
        elif code in (events.FORWARDED_ONLY, events.IMPORT_AND_EXPORT):
            self.mode_told = code
        else:
            if code == events.COVER_OPEN:
                self._cover_openings += 1
            self._watches.take(code)

    def event(self, code, detail, utc_s=None, up_s=None):
        """Persists an event, as of now unless its time is given (as to `append`)."""
        self.append(
            "event",
            {
                "code": code,
                "detail": detail,
                "voltage_mv": self.energy.voltage_mv,
                "current_ma": self.energy.current_ua // 1000,
            },
            utc_s,
            up_s,
        )

    def fault(self, kind, place, at_up_s, at_utc_s):
        """Persists an unhandled exception of an earlier moment."""
        self.append(
            "fault", {"kind": kind, "place": place, "at_up_s": at_up_s, "at_utc_s": at_utc_s}
        )

    def note(self, code, detail):
        """Writes an event that tells and changes nothing. False: not now, as there were too many or
        the flash refuses."""
        up_ms = self.clock.up_ms()
        new = (up_ms - self._notes_up_ms) // _NOTE_MS
        if new:
            self._notes_up_ms += new * _NOTE_MS
            self._notes_left = min(_NOTES_MAX, self._notes_left + new)
        if not self._notes_left or not self.attempt(self.event, code, detail):
            return False
        self._notes_left -= 1
        return True

    def credit(self, kind, entry_id, counter, amount_mp):
        """Persists a ledger entry of `amount_mp` (signed)."""
        self.append(
            "credit",
            {"kind": kind, "id": entry_id, "counter": counter, "amount_mp": amount_mp},
        )

    def snapshot(self):
        """Persists the whole state."""
        self._must_be_writable()
        self.journal.snapshot(self._state())
        self._checkpointed()

    def _checkpoint(self):
        self._must_be_writable()
        if self.journal.snapshot_due:
            self.snapshot()
            return
        imported, exported = self.energy.imported, self.energy.exported
        self.journal.checkpoint(
            (
                imported.wh,
                imported.half_mj,
                self.control.rule.grace_left_s,
                self.last_utc_s,
                exported.wh,
                exported.half_mj,
                self.profiles.block.supply_s,
                self.profiles.block.over_load_s,
            )
            + self.control.checkpoint()
        )
        self._checkpointed()

    def _checkpointed(self):
        self._committed_wh = self.energy.import_wh
        self._committed_export_wh = self.energy.export_wh
        self._checkpoint_up_ms = self.clock.up_ms()

    def stop(self):
        """Persists the register before a restart that somebody wants, if the flash takes it."""
        if not self.applying:
            self.attempt(self._checkpoint)

    # --- a flash that refuses ----------------------------------------------------------------

    def attempt(self, function, *arguments):
        """Calls what writes; False if the flash refused: then metering goes on in memory."""
        try:
            function(*arguments)
            return True
        except (StorageError, MemoryError) as error:
            self.storage_failed(error)
            return False

    def storage_failed(self, error):
        """Begins or prolongs the state in which nothing is written."""
        if self.applying:
            raise error  # flash and state differ: only a restart makes them one again
        up_ms = self.clock.up_ms()
        no_memory = isinstance(error, MemoryError)
        if self._refused is None:
            self._refused = _ENOMEM if no_memory else error.errno
            self._refused_up_ms = up_ms
            self._retry_up_ms = up_ms + _RETRY_MS
            self._refusal_told = False
            self.log(
                "SERVICE: flash refuses writes (%s). Metering goes on in memory, no order is "
                "answered; tried again each minute." % error
            )
        elif no_memory and up_ms - self._refused_up_ms > _NO_MEMORY_MAX_MS:
            raise error

    def is_writable(self):
        """False while the flash refuses: then only what must not wait tries it."""
        return self._refused is None

    def _must_be_writable(self):
        if self.applying:
            raise RuntimeError("a record on flash is not in the state")  # a restart puts it there
        if self._refused is not None and not self._trying:
            raise StorageError("flash", self._refused)

    def _try_flash(self):
        """Writes what waits; the state ends when all of it is on flash."""
        self._trying = True
        self._retry_up_ms = self.clock.up_ms() + _RETRY_MS
        try:
            if self.attempt(self._write_again):
                up_s = (self.clock.up_ms() - self._refused_up_ms) // 1000
                self.log("flash takes writes again after %d s, lost %d records of the profiles" % (
                    up_s, self.profiles.lost
                ))  # fmt: skip
                self._refused = None
                self.profiles.lost = 0
        finally:
            self._trying = False

    def _write_again(self):
        self.snapshot()  # first: what it contains may be dropped from a full log
        if not self._refusal_told:
            self.event(events.STORAGE_REFUSES, self._refused)
            self._refusal_told = True
        self.write_queued()
        self.control.close_for_recharge()
        self.event(events.STORAGE_WRITES, (self.clock.up_ms() - self._refused_up_ms) // 1000)
        self.snapshot()
        self.keep_floors()

    def write_queued(self):
        """Writes what waits for the flash, in order."""
        while self.queue:
            function, arguments = self.queue[0]
            seq = self.journal.last_seq
            done = False
            try:
                function(*arguments)
                done = True
            finally:
                # Whatever failed behind its write: nothing is written twice.
                if done or self.journal.last_seq != seq:
                    self.queue.pop(0)

    # --- samples ---------------------------------------------------------------------------

    def sample(self, bus_raw, shunt_raw, dt_ms, fault=0):
        """One reading of the sensor, `dt_ms` after the last good one (0: the first); `fault`:
        sampler.CURRENT_CLIPPED if the current is at least this."""
        if dt_ms > self.gap_limit_ms:
            self._gap_ms += dt_ms
            self._tell()
            dt_ms = 0
        self.energy.add(bus_raw, shunt_raw, dt_ms)
        if self.pulse is not None:
            self.pulse.add()
        if self.measurement is not None:
            self.measurement.add(bus_raw, shunt_raw)
        self._taken(dt_ms, fault)

    def _taken(self, dt_ms, fault):
        """A sample is in the registers. A function of its own: see sampler.py on frames."""
        energy = self.energy
        self.profiles.block.add(energy.voltage_mv, energy.current_ua, energy.power_mw, dt_ms)
        quality.judge(self._watches, self.config, energy, dt_ms)
        tamper.judge(self._watches, self.config, energy, self.control.contactor.seen, dt_ms)
        self._sensor_failed_ms = 0
        if self._sensor_fault != fault:
            self._sensor_fault = fault
            self._tell()

    def sample_failed(self, dt_ms, fault):
        """No reading this time: `fault` is one of the kinds in metering/sampler.py."""
        self._sensor_failed_ms += dt_ms
        self._watches.forget_samples()
        # Not before the gap is too long to be bridged: the last sample is needed for that.
        lasts = self._sensor_failed_ms > max(_SENSOR_FAULT_MS, self.gap_limit_ms)
        if lasts:
            self.energy.forget_sample()
        if not self._sensor_fault and (lasts or fault == sampler.CONFIGURATION_LOST):
            self._sensor_fault = fault
            self._tell()

    def _tell(self):
        """Tells what is not told yet."""
        if self._gap_ms and self.note(events.SAMPLE_GAP, self._gap_ms):
            self._gap_ms = 0
        fault = self._sensor_fault
        if (fault != 0) != (self._sensor_told != 0) and self.note(
            events.SENSOR_FAULT if fault else events.SENSOR_RESTORED, fault
        ):
            self._sensor_told = fault
        while True:
            code = self._watches.news()
            if not code or not self.note(code, self._detail(code)):
                break
        utc_s = self.clock.utc_s()
        if self.off_from_utc_s and utc_s is not None:
            off_s = max(0, utc_s - self.clock.up_s() - self.off_from_utc_s)
            if self.note(events.OFF_TIME_KNOWN, off_s):
                self.off_from_utc_s = 0

    def _detail(self, code):
        """What goes with an event of a condition; of a tamper, whether it shall cut."""
        if code in TAMPERS:
            return self.config.tamper_cut & 1 << TAMPERS.index(code)
        return self._watches.detail(code)

    # --- rules, once a second ----------------------------------------------------------------

    def tick(self, dt_ms):
        """Applies every rule; call about once a second with the time since the last call."""
        if self.applying:
            self._must_be_writable()
        if self._refused is not None and self.clock.up_ms() >= self._retry_up_ms:
            self._try_flash()
        self.profiles.block.supplied(dt_ms)
        utc_s = self.clock.utc_s()
        if utc_s is not None:
            self.last_utc_s = utc_s
            self.billing.close(utc_s)
        self.control.run(utc_s, dt_ms)
        self.attempt(self.control.step, utc_s)
        self.control.limit(dt_ms)
        tamper.poll(self._watches, self._magnet, self._cover, dt_ms)
        self._tell()
        self.control.contactor.step(None if self._sensor_failed_ms else self.energy.current_ua)
        if self._refused is not None:
            return
        since_ms = self.clock.up_ms() - self._checkpoint_up_ms
        if since_ms >= _CHECKPOINT_MIN_MS and (
            since_ms >= (_CHECKPOINT_LIMITED_MS if self.control.limits() else _CHECKPOINT_MAX_MS)
            or self.energy.import_wh - self._committed_wh >= _CHECKPOINT_WH
            or self.energy.export_wh - self._committed_export_wh >= _CHECKPOINT_WH
        ):
            self.attempt(self._checkpoint)

    def balance_mp(self):
        """The balance at the present register."""
        wh = self.energy.import_wh
        if wh != self._balance_key:
            self._balance_mp = self.account.balance_mp(wh)
            self._balance_key = wh
        return self._balance_mp

    def is_steady(self):
        """True while nothing about the balance has to be judged: amounts are long integers, which
        take heap, so it is not done each second."""
        return self.energy.import_wh <= self._steady_wh

    def judge_credit(self):
        """Judges whether there is credit; what is spent of the balance until that changes, in mp,
        None: credit has no end."""
        config = self.config
        if self.account.postpaid or self.control.stored():
            self.has_credit = True
            self.debt_mp = 0
            return None
        above_mp = self.account.available_mp(self.balance_mp()) - config.floor_mp
        self.has_credit = above_mp > 0
        self.debt_mp = max(0, -above_mp)
        spare_mp = None
        # Where credit ends, and behind that the debts of which a rule speaks.
        for cap_mp in (0, config.undated_debt_cap_mp, config.offline_debt_cap_mp):
            to_cap_mp = above_mp + cap_mp - 1
            if to_cap_mp >= 0 and (spare_mp is None or to_cap_mp < spare_mp):
                spare_mp = to_cap_mp
        return spare_mp

    def judge_warnings(self, spare_mp):
        """Warns of the balance; up to the register of the next warning, or where `spare_mp` is
        spent, nothing has to be judged. Raises StorageError."""
        wh = self.energy.import_wh
        if not (self.account.postpaid or self.control.stored()):
            balance_mp = self.balance_mp()
            next_mp = self.warnings.judge(balance_mp)
            if next_mp is not None and (spare_mp is None or balance_mp - next_mp - 1 < spare_mp):
                spare_mp = balance_mp - next_mp - 1
        self._steady_wh = wh + self.account.steady_wh(wh, spare_mp)

    def finish_operation(self):
        """Ends the relay's operation, PULSE_MS after it began; reports what the contact did."""
        self.control.contactor.finish()

    def sensor_fails(self):
        """True while there is no reading to be believed; one at the end of the range is."""
        return self._sensor_failed_ms != 0 or self._sensor_fault not in (0, sampler.CURRENT_CLIPPED)

    # --- orders and time ---------------------------------------------------------------------

    def handle_order(self, message):
        """Decides on a signed order (bytes), as `orders.Orders.handle`; None also if the flash
        refuses: the gateway sends the order again."""
        try:
            answer = self.orders.handle(message)
        except (StorageError, MemoryError) as error:
            self.storage_failed(error)
            self.control.order_lost()
            return None
        return None if self._floors_behind else answer

    def step_rules(self):
        """Applies the credit rules now, as after an order, instead of at the next second."""
        self.control.step(self.clock.utc_s())

    def resynced(self):
        """The totals of a resync were taken: tells it, and that the ledger is whole again."""
        self.event(events.RESYNCED, 0)
        self.billing.started()
        self.snapshot()

    def heard(self):
        """The gateway has answered what was sent to it just now."""
        self.control.heard()

    def open_signed(self, message):
        """As `credentials.Credentials.open_signed`."""
        return self.credentials.open_signed(message)

    def resend(self, seq):
        """Sends the records above `seq` again. On flash on return."""
        if seq < self.journal.acked_seq:
            self.journal.rewind(seq)
            self.snapshot()

    def set_time(self, utc_ms, round_trip_ms=0):
        """Sets the clock by the gateway's time of now, uncertain by half its round trip; True if it
        was taken. SPEC section 2.5.1 says which step is refused without an order."""
        if not self._is_allowed(utc_ms // 1000) and not self.orders.permits(utc_ms // 1000):
            self.log("time refused: the step is above 24 h or crosses a closed period")
            if not self._time_refused:
                self._time_refused = True
                self.note(events.TIME_REFUSED, utc_ms // 1000 - self.last_utc_s)
            return False
        self._time_refused = False
        step_ms = self.clock.sync(utc_ms, round_trip_ms)
        if step_ms is None or abs(step_ms) >= STEP_MS:
            self.note(events.CLOCK_SET, 0 if step_ms is None else step_ms // 1000)
        return True

    def _is_allowed(self, new_utc_s):
        """True if the gateway may set the time so without an order."""
        utc_s = self.clock.utc_s()
        if new_utc_s < self.billing.least_utc_s():
            return False
        step_s = new_utc_s - (self.last_utc_s if utc_s is None else utc_s)
        # Without power, and without knowing the time, any length may have passed.
        return step_s >= -_TIME_STEP_MAX_S and (utc_s is None or step_s <= _TIME_STEP_MAX_S)

    def least_utc_s(self):
        """The time by which certificates are judged: UTC s, or while that is unknown, a time that
        has passed for sure."""
        utc_s = self.clock.utc_s()
        if utc_s is not None:
            return utc_s
        return max(PLAUSIBLE_UTC_S[0], self.config.made_utc_s, self.last_utc_s)

    # --- for people and for the link -----------------------------------------------------------

    def credit_word(self):
        """`in_credit`, `low_credit` or `out_of_credit` (DLMS account, credit status)."""
        balance_mp = self.balance_mp()
        if self.account.postpaid or self.account.closed:
            return "in_credit"
        if self.account.available_mp(balance_mp) <= self.config.floor_mp:
            return "out_of_credit"
        return "low_credit" if balance_mp <= self.config.low_credit_mp else "in_credit"

    def is_out_of_credit(self):
        """True from when the credit is exhausted until there is some again."""
        return self.control.rule.word != credit_rule.IN_CREDIT

    def emergency_word(self):
        """Of the emergency credit: `none`, `selectable`, `in_use` or `consumed` (DLMS credit)."""
        account = self.account
        balance_mp = self.balance_mp()
        if account.emergency_mp:
            above = account.available_mp(balance_mp) > self.config.floor_mp
            return "in_use" if above else "consumed"
        if account.postpaid or account.closed or self.service == LEDGER_LOST:
            return "none"
        # Below the floor less the limit it would be used up at once.
        floor_mp = self.config.floor_mp
        if floor_mp - self.config.emergency_limit_mp < balance_mp <= floor_mp:
            return "selectable"
        return "none"

    def take_emergency(self, by):
        """The consumer takes the emergency credit that is offered; False if it is not, or if the
        flash refuses. by: `button` or `console`."""
        if self.emergency_word() != "selectable":
            return False
        fields = {"id": by, "counter": 0, "limit_mp": self.config.emergency_limit_mp}
        if not self.attempt(self.append, "emergency", fields):
            return False
        self.attempt(self.step_rules)
        return True

    def live(self):
        """The present values as in SPEC section 2.2 (without `waiting`)."""
        utc_s = self.clock.utc_s()
        energy = self.energy
        account = self.account
        tariff = account.tariff or self.first_tariff
        balance_mp = self.balance_mp()
        live = {
            "v": codec.VERSION,
            "store": self.journal.store_id,
            "boot": self.journal.boot,
            "up_s": self.clock.up_s(),
            "utc_s": utc_s or 0,
            "time_valid": 0 if utc_s is None else 1,
            "voltage_mv": energy.voltage_mv,
            "current_ma": energy.current_ua // 1000,
            "power_mw": energy.power_mw,
            "import_wh": self._committed_wh,
            "uncommitted_wh": energy.import_wh - self._committed_wh,
            "export_wh": self._committed_export_wh,
            "uncommitted_export_wh": energy.export_wh - self._committed_export_wh,
            "balance_mp": balance_mp,
            "credit": self.credit_word(),
            "mode": "credit" if account.postpaid else "prepayment",
            "due_mp": account.due_mp(balance_mp),
            "amount_to_clear_mp": account.clearing_mp(balance_mp),
            "aggregated_debt_mp": account.debt_mp(balance_mp),
            "last_recharge_mp": account.last_recharge_mp,
            "arrears_mp": account.arrears_mp,
            "emergency": self.emergency_word(),
            "emergency_limit_mp": account.emergency_mp,
            "account": account.number,
            "account_status": account.status(),
            "tariff": tariff.id,
            "tariff_version": tariff.version,
            "firmware": VERSION,
            "service": self._service_word(),
            "standing": self._watches.standing(),
            "cover_openings": self._cover_openings,
        }
        live.update(self.control.live())
        live.update(self.profiles.live())
        live.update(outlook.figures(self))
        return live

    def _service_word(self):
        return self.service or ("storage" if self._refused is not None else "")

    def status_line(self, link_up, waiting):
        """The line of the serial log that appears once a minute, without its time."""
        energy = self.energy
        return "status V=%s A=%s W=%d kWh=%s%s balance=%s %s relay=%s link=%s waiting=%d%s" % (
            text.fixed(energy.voltage_mv, 1000, 1),
            text.fixed(energy.current_ua, 1000000, 3),
            energy.power_mw // 1000,
            text.fixed(energy.import_wh, 1000, 3),
            " export=" + text.fixed(energy.export_wh, 1000, 3) if energy.export_wh else "",
            text.rupees(self.balance_mp()),
            self.credit_word(),
            self.control.words(),
            "up" if link_up else "down",
            waiting,
            "".join([" EVENT %d" % code for code in self._watches.standing()])
            + (" SENSOR FAULT" if self._sensor_fault else "")
            + (" SERVICE " + self._service_word() if self._service_word() else ""),
        )
