"""Why the balance moved between two moments: charges by line, and each entry of the ledger.

A statement follows an account through records and gives movements whose sum is closing minus
opening balance, to the milli-paisa. The lines of a charge are those at its end less those at its
beginning, part by part of the billing periods. Used by the meter's console and by the gateway: the
same code. docs/SPEC.md section 11. Tests: host_tests/unit/test_statement.py,
host_tests/property/test_statement.py.
"""

from firmware.core.records import LEDGER
from firmware.core.shim import const
from firmware.credit import charges
from firmware.credit.account import Account, ends_period

ENTRIES_MAX = const(40)
# What closes a day or a period is written with the first sample behind its end.
_CLOSING_S = const(60)

SKIPPED = "passive"
"""Type of records that move nothing, and may be long: they need not be read."""

_CLOSINGS = ("day", "billing", "period")

# Movements of the ledger other than credits, by the type of the record that makes them.
_NAMES = {
    "recovery": ("arrears taken at once", "arrears"),
    "tally": ("arrears taken by the day", "arrears"),
    "mode": ("change of the payment mode", "mode"),
    "resync": ("totals by the gateway's resync", "resync"),
}


class Statement:
    """The movements of `account` (which it changes) from a register of `import_wh` on.

    tariff: a Tariff that is there already, or None.

    `movements` is a list of [name, kind, quantity, unit, rate, amount in mp, UTC s]: lines of
    charges as `charges.charge_lines` has them, with the amount's sign that of the balance and time
    0, then entries. kind of an entry: opening, recharge (quantity: mp that repaid emergency
    credit), refund, adjustment, arrears, mode, account, resync, closing (of a period, what its
    lines do not explain) or unknown (what the records do not explain).
    """

    def __init__(self, account, import_wh, tariff=None, entries_max=ENTRIES_MAX):
        self.account = account
        self._tariff = tariff
        self.opening_mp = self.closing_mp = account.balance_mp(import_wh)
        self._wh = import_wh
        self._entries_max = entries_max
        self._lines = []
        self._entries = []
        self._before = account.open_lines(import_wh)

    def take(self, record):
        """The next record."""
        self._wh = wh = register(record, self._wh)
        kind = record["type"]
        if kind not in LEDGER:
            return
        account = self.account
        if kind == "resync" or record.get("action") == "opened":
            self._begin_anew(record, wh)
            return
        lines = self._last_lines(record, wh)
        credits_mp, closed_mp = account.credits_mp, account.closed_mp
        taken_mp = 0
        if kind == "credit":
            taken_mp = account.divide(record["kind"], record["amount_mp"], wh)[0]
        apply(account, record, wh, self._tariff)
        if lines is not None:
            self._close(lines, account.closed_mp - closed_mp, record["utc_s"])
        self._enter(record, account.credits_mp - credits_mp, taken_mp)

    def _last_lines(self, record, wh):
        """The lines of the part that a record ends; None: it goes on."""
        account, kind = self.account, record["type"]
        if kind == "account" and "moved_to" in record["document"]:
            return account.open_lines(wh)
        if kind in ("tariff", "account") or (kind == "period" and ends_period(record)):
            if account.tariff is None or account.closed:
                return ()
            return charges.charge_lines(account.tariff, account.closing(record))
        return None

    def _begin_anew(self, record, wh):
        """A record says what the account is from now on, or was from an earlier register on."""
        account = self.account
        balance_mp = account.balance_mp(wh)
        self._add_lines(account.open_lines(wh))
        apply(account, record, wh)
        from_wh = record["document"].get("start_wh", wh)
        self._before = account.open_lines(from_wh)
        self._enter(record, account.balance_mp(from_wh) - balance_mp, 0)

    def begin_journal(self, utc_s):
        """The meter began another journal: what its account was is not known to it."""
        account, wh = self.account, self._wh
        self._close(account.open_lines(wh), account.open_charge_mp(wh), utc_s)
        left_mp = account.balance_mp(wh)
        self.account = Account()
        if left_mp:
            self._add("balance of the journal before", "unknown", 0, "", -left_mp, utc_s)

    def finish(self, import_wh=None):
        """No more records; `import_wh`: the register now. Fills `movements` and `closing_mp`."""
        wh = self._wh if import_wh is None else max(self._wh, import_wh)
        self._add_lines(self.account.open_lines(wh))
        self.closing_mp = self.account.balance_mp(wh)
        self.movements = [row for row in self._lines if row[2] or row[5]] + self._entries

    def _close(self, lines, charge_mp, utc_s):
        """A part of a period ended with these lines, and was charged with `charge_mp`."""
        self._add_lines(lines)
        self._before = ()
        rest_mp = charge_mp - sum([line[5] for line in lines])
        if rest_mp:
            self._add("closing of the period", "closing", 0, "", -rest_mp, utc_s)

    def _add_lines(self, lines):
        for line in lines:
            self._add_line(line, 1)
        for line in self._before:
            self._add_line(line, -1)

    def _add_line(self, line, sign):
        name, kind, quantity, unit, rate, amount_mp = line
        for row in self._lines:
            if row[0] == name and row[4] == rate and row[3] == unit and row[1] == kind:
                break
        else:
            row = [name, kind, 0, unit, rate, 0, 0]
            self._lines.append(row)
        row[2] += sign * quantity
        row[5] -= sign * amount_mp

    def _enter(self, record, moved_mp, taken_mp):
        kind, utc_s = record["type"], record["utc_s"]
        if kind == "credit":
            kind, amount_mp = record["kind"], record["amount_mp"]
            if amount_mp:
                name = kind if kind == record["id"] else kind + " " + record["id"]
                unit = "emergency" if taken_mp else ""
                self._add(name, kind, taken_mp, unit, amount_mp, utc_s)
            if moved_mp != amount_mp:
                self._add("arrears taken from it", "arrears", 0, "", moved_mp - amount_mp, utc_s)
        elif kind == "account":
            self._enter_account(record, moved_mp)
        elif moved_mp:
            name, kind = _NAMES.get(kind, ("not explained by the records", "unknown"))
            self._add(name, kind, 0, "", moved_mp, utc_s)

    def _enter_account(self, record, moved_mp):
        document, utc_s = record["document"], record["utc_s"]
        if "refund_mp" in document:  # closed, and settled
            for name, kind in (("arrears settled", "arrears"), ("refund at the closing", "refund")):
                amount_mp = document[kind + "_mp"]
                if amount_mp:
                    self._add(name, kind, 0, "", -amount_mp, utc_s)
                moved_mp += amount_mp
        if moved_mp:
            name = "account " + record["action"]
            for member in ("moved_to", "moved_from"):
                if member in document:
                    name = "account %s %s" % (member.replace("_", " "), document[member])
            self._add(name, "account", 0, "", moved_mp, utc_s)

    def _add(self, name, kind, quantity, unit, amount_mp, utc_s):
        entries = self._entries
        for row in entries:
            # The days' arrears are one movement; so is what finds no place of its own.
            same = row[0] == name and kind == "arrears" and name != "arrears taken from it"
            if same or (len(entries) >= self._entries_max and row[1] == kind):
                row[0] = name if same else "further: " + kind
                row[2] += quantity
                row[5] += amount_mp
                row[6] = utc_s
                return
        entries.append([name, kind, quantity, unit, 0, amount_mp, utc_s])


def register(record, import_wh):
    """The register in Wh of a record; `import_wh` if it has none."""
    return record.get("import_wh", record.get("end_wh", import_wh))


def apply(account, record, wh, tariff=None):
    """Takes a record into an account, and believes the balance that it says at its register.

    tariff: used instead of parsing its document once more, which spares some kB of heap."""
    if record["type"] == "tariff" and tariff and tariff.is_of(record["document"]):
        record["document"] = tariff
    account.apply(record)
    if "import_wh" in record:
        _believe(account, record, wh)


def _believe(account, record, wh):
    account.credits_mp += record["balance_mp"] - account.balance_mp(wh)


class Explanation:
    """The Statement between two UTC times, found in records from the oldest on.

    A moment lies behind what closed the day or the period that ended with it, else before the
    first record that is not older. A journal that does not begin with record 1 is understood from
    the first period on that was closed at the prices of `tariff` (a Tariff or None), or from a
    resync on. `statement` is None if the account at `since_utc_s` is not known.
    """

    def __init__(self, since_utc_s, until_utc_s, tariff=None, entries_max=ENTRIES_MAX):
        self._moment_utc_s = since_utc_s
        self._until_utc_s = until_utc_s
        self._tariff = tariff
        self._entries_max = entries_max
        self._account = None
        self._wh = 0
        self._held = []  # records that may be behind the moment
        self._first_utc_s = None  # of the first of them
        self._closed = False  # one of them ended with the moment
        self.known_utc_s = None  # of the first record that is understood
        self.statement = None
        self.finished = False

    def take(self, record):
        """The next record; when `finished`, no more are needed."""
        if self.finished or record["type"] == SKIPPED:
            return
        if self._account is None:
            if not self._understand(record):
                return
        elif record["seq"] == 1:
            self._begin_journal(record)
        self._place(record)

    def _place(self, record):
        """Before, at or behind the moment?"""
        if self._first_utc_s is None:
            if not record["time_valid"] or record["utc_s"] < self._moment_utc_s:
                self._apply(record)
                return
            self._first_utc_s = record["utc_s"]
        self._held.append(record)
        if self._ends_with_the_moment(record):
            self._closed = True
            for held in self._held:
                self._apply(held)
            self._held = []
        elif record["utc_s"] > self._first_utc_s + _CLOSING_S:
            self._reach()

    def end(self, import_wh):
        """There are no more records, and the register is `import_wh` now."""
        while self._account is not None and not self.finished:
            if self._first_utc_s is None:
                self._wh = max(self._wh, import_wh)
                self._closed = True
            self._reach()

    def _understand(self, record):
        """True if `record` is to be taken by an account that is known."""
        kind = record["type"]
        if record["seq"] == 1 or kind == "resync":
            self._account = Account()
        elif kind == "period" and self._tariff is not None and record["start_utc_s"]:
            same = record["tariff"] == self._tariff.id
            if same and record["tariff_version"] == self._tariff.version:
                self._account = Account()
                self._account.tariff = self._tariff
        if self._account is None:
            return False
        self.known_utc_s = record["utc_s"] if record["time_valid"] else None
        if record["seq"] == 1:
            return True
        self._apply(record)
        _believe(self._account, record, self._wh)
        if record["time_valid"] and record["utc_s"] >= self._moment_utc_s:
            # Only what ended with the moment tells what the account was then.
            self._first_utc_s = record["utc_s"]
            self._closed = self._ends_with_the_moment(record)
            self.finished = not self._closed
        return False

    def _ends_with_the_moment(self, record):
        return (
            record["type"] in _CLOSINGS
            and 0 < record["start_utc_s"] < record["end_utc_s"] <= self._moment_utc_s
        )

    def _begin_journal(self, record):
        for held in self._held:
            self._apply(held)
        self._held = []
        if self.statement is None:
            self._account = Account()
        else:
            self.statement.begin_journal(record["utc_s"])

    def _apply(self, record):
        self._wh = register(record, self._wh)
        if self.statement is not None:
            self.statement.take(record)
        elif record["type"] in LEDGER:
            apply(self._account, record, self._wh, self._tariff)

    def _reach(self):
        """The moment is found: where it began to be looked for, or behind the last that ended."""
        held = self._held
        wh = self._wh if self._closed else register(held[0], self._wh)
        self._held = []
        self._first_utc_s = None
        self._closed = False
        if self.statement is not None:
            self.statement.finish(wh)
            self.finished = True
            return
        self.statement = Statement(self._account, wh, self._tariff, self._entries_max)
        self._moment_utc_s = self._until_utc_s
        for record in held:
            if not self.finished:
                self._place(record)
