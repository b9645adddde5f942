"""A story's file: TOML with times of day in local time, rupees as text, and every name checked.

Invariant: what `read` returns can be played. Whatever cannot is refused here, with the key at fault
and what it may be. demo/scenario/README.md lists the keys.
Tests: host_tests/unit/test_scenario_files.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boards.emulated.vm.emu.loads import FORMS, load_from
from demo.households import IST_S
from firmware.core.config import SETTINGS, rows
from firmware.core.records import STATES
from gateway import calendar_files, kinds, models, tariff_files, words
from gateway.errors import FieldError, GatewayError
from gateway.meters import SANCTIONED_LOAD_MAX_W, SANCTIONED_LOAD_MIN_W, check_tariff

DAY_MS = 86_400_000
DAYS_MAX = 400
SHIPPED = Path(__file__).parent.parent / "scenarios"

KNOBS = {
    "contact": ("ok", "welded", "stuck_open"),
    "sensor": ("ok", "absent", "hang", "stuck", "reset", "overflow", "wild"),
    "cover": ("closed", "open"),
    "magnet": ("absent", "present"),
    "bypass": ("off", "on"),
    "swapped": ("off", "on"),
    "rtc_battery": ("on", "off"),
}
"""What a fault may turn at the emulated board, the sound word first."""

AWAY = ("network", "server", "utility")
ORDERS = tuple(kind for kind in models.KINDS if kind not in ("key", "link", "resend"))

PRESS_S = 150
"""How long the button is held: two looks of a meter that looks once a minute."""
LINE_MAX = 80
CODE = "CODE"
"""In a line for the console: the code that it has shown last."""

_DAY = re.compile(r"day (\d+) (\d\d):(\d\d)(?::(\d\d))?")


class ScenarioError(Exception):
    """A file that cannot be played: `key` is at fault, `why` what is allowed."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


@dataclass(frozen=True)
class Span:
    """From `from_ms` until before `until_ms`, simulated."""

    from_ms: int
    until_ms: int
    key: str


@dataclass(frozen=True)
class Step:
    """Something that happens at `at_ms`: `name` of what, with `what` it needs."""

    at_ms: int
    name: str
    what: dict[str, Any]
    key: str


@dataclass(frozen=True)
class Expectation:
    """What must be seen at `from_ms` (`until_ms` equal) or between the two: see judging.py."""

    kind: str
    value: Any
    from_ms: int
    until_ms: int
    count: int | None
    text: str
    key: str


@dataclass(frozen=True)
class Scenario:
    """One story. Times are simulated milliseconds since 1970, UTC."""

    title: str
    about: str
    start_ms: int
    days: int
    meter: dict[str, Any]
    """`id`, `consumer`, `opening_mp`, `sanctioned_load_w`, `sample_period_s`, `live_period_s`,
    `relay` (kind of the contactor)."""
    settings: dict[str, int]
    tariff: dict[str, Any]
    calendar: dict[str, Any] | None
    load: str
    """What is connected at the begin; `steps` change it."""
    steps: list[Step]
    expectations: list[Expectation]
    end_ms: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "end_ms", self.start_ms + self.days * DAY_MS)


class Keys:
    """A table of the file, taken key by key; `end` refuses what nobody took."""

    def __init__(self, values: Any, path: str) -> None:
        if not isinstance(values, dict):
            raise ScenarioError(path or "file", "must be a table")
        self._left = dict(values)
        self._path = path
        self._known: list[str] = []

    def path(self, name: str) -> str:
        """The whole name of a key, as errors say it."""
        return f"{self._path}.{name}" if self._path else name

    def refuse(self, name: str, why: str) -> ScenarioError:
        """The error for a key; to be raised."""
        return ScenarioError(self.path(name), why)

    def has(self, name: str) -> bool:
        """Whether the file has the key and nobody took it yet."""
        return name in self._left

    def take(self, name: str, default: Any = None) -> Any:
        """The value as it is. Without a default the key must be there."""
        self._known.append(name)
        if name not in self._left and default is None:
            raise self.refuse(name, "is missing")
        return self._left.pop(name, default)

    def text(self, name: str, longest: int, default: str | None = None) -> str:
        value = self.take(name, default)
        if not isinstance(value, str) or len(value) > longest:
            raise self.refuse(name, f"must be a text of at most {longest} characters")
        return value

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.refuse(name, f"must be an integer from {low} to {high}")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.take(name, default)
        if value not in allowed:
            raise self.refuse(name, "must be one of " + ", ".join(allowed))
        return str(value)

    def rupees(self, name: str, default: str | None = None) -> int:
        """Milli-paise of a text like "-300" or "99.50"."""
        value = self.take(name, default)
        if isinstance(value, str):
            try:
                amount_mp = words.parse_rupees(value.removeprefix("-"), name)
                return -amount_mp if value.startswith("-") else amount_mp
            except FieldError:
                pass
        raise self.refuse(name, 'must be rupees as text with at most 2 decimals, like "99.50"')

    def table(self, name: str) -> Keys:
        """A table of its own, empty if left out."""
        return Keys(self.take(name, {}), self.path(name))

    def tables(self, name: str) -> list[Keys]:
        """Each table of an array, none if left out."""
        values = self.take(name, [])
        if not isinstance(values, list):
            raise self.refuse(name, f"must be tables, [[{self.path(name)}]]")
        return [Keys(value, f"{self.path(name)}[{n}]") for n, value in enumerate(values, 1)]

    def rest(self) -> dict[str, Any]:
        """All that is left, for whoever checks it elsewhere."""
        left, self._left = self._left, {}
        return left

    def end(self) -> None:
        """Refuses the first key that is not known."""
        for name in self._left:
            raise self.refuse(name, "is not known, but " + ", ".join(self._known) + " are")


class Calendar:
    """Turns the file's times into milliseconds: "day 3 18:30" or "2026-01-07 18:30", local."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms

    def moment(self, keys: Keys, name: str, default_ms: int | None = None) -> int:
        """The moment of a key, inside the story."""
        value = keys.take(name, default_ms)
        if value == default_ms and isinstance(value, int):
            return value
        at_ms = self._parse(value)
        if at_ms is None or not self.start_ms <= at_ms <= self.end_ms:
            raise keys.refuse(
                name,
                'must be a local time in the story, like "day 2 18:30" or "2026-01-06 18:30": '
                f"from {local(self.start_ms)} to {local(self.end_ms)}",
            )
        return at_ms

    def span(self, keys: Keys, name_from: str = "from", name_until: str = "until") -> Span:
        """The span of two keys; the end of the story if the second is left out."""
        key = keys.path(name_from)
        from_ms = self.moment(keys, name_from)
        until_ms = self.moment(keys, name_until, self.end_ms)
        if until_ms <= from_ms:
            raise keys.refuse(name_until, f"must be after {name_from}")
        return Span(from_ms, until_ms, key)

    def _parse(self, value: Any) -> int | None:
        if isinstance(value, datetime):
            return _utc_ms(value)
        if not isinstance(value, str):
            return None
        found = _DAY.fullmatch(value)
        if found is None:
            try:
                return _utc_ms(datetime.fromisoformat(value))
            except ValueError:
                return None
        day, hour, minute, second = (int(part or 0) for part in found.groups())
        if not (1 <= day <= DAYS_MAX + 1 and hour < 24 and minute < 60 and second < 60):
            return None
        midnight_ms = (self.start_ms + IST_S * 1000) // DAY_MS * DAY_MS - IST_S * 1000
        return midnight_ms + (day - 1) * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000


def _utc_ms(moment: datetime) -> int:
    """A moment without a zone is in India."""
    if moment.tzinfo is not None:
        return int(moment.timestamp()) * 1000
    return (int(moment.replace(tzinfo=UTC).timestamp()) - IST_S) * 1000


def local(utc_ms: int) -> str:
    """A moment as the file writes it."""
    return f"{datetime.fromtimestamp(utc_ms // 1000 + IST_S, UTC):%Y-%m-%d %H:%M:%S}"


def read(path: Path) -> Scenario:
    """The story in a file, checked. Raises ScenarioError."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScenarioError(str(path), error.strerror or "cannot be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(str(path), f"is not TOML: {error}") from error
    return check(values, path.parent)


def check(values: dict[str, Any], folder: Path) -> Scenario:
    """The story of a parsed file; `folder` is where other files that it names are."""
    keys = Keys(values, "")
    title = keys.text("title", 120)
    about = keys.text("about", 2_000, "")
    start = keys.take("start")
    if not isinstance(start, datetime):
        raise keys.refuse("start", "must be a local date with time, like 2026-01-05T00:00:00")
    days = keys.integer("days", 1, DAYS_MAX)
    start_ms = _utc_ms(start)
    calendar = Calendar(start_ms, start_ms + days * DAY_MS)

    meter = _meter(keys.table("meter"))
    settings = _settings(keys.table("settings"))
    document = _tariff(keys, folder)
    closed = _calendar(keys)
    loads = _loads(keys, calendar)
    steps = loads[1:]
    server = _outages(keys, calendar, steps)
    for given in keys.tables("power_cut"):
        span = calendar.span(given)
        given.end()
        steps.append(Step(span.from_ms, "power", {"on": False}, span.key))
        steps.append(Step(span.until_ms, "power", {"on": True}, span.key))
    _orders(keys, calendar, steps, server)
    _faults(keys, calendar, steps)
    _hands(keys, calendar, steps)
    expectations = [
        _expectation(given, calendar, len(_named(steps, "recharge")), len(_named(steps, "order")))
        for given in keys.tables("expect")
    ]
    keys.end()
    steps.sort(key=lambda step: step.at_ms)
    return Scenario(
        title,
        about,
        start_ms,
        days,
        meter,
        settings,
        document,
        closed,
        loads[0].what["load"],
        steps,
        expectations,
    )


def _named(steps: list[Step], name: str) -> list[Step]:
    return [step for step in steps if step.name == name]


def _meter(keys: Keys) -> dict[str, Any]:
    meter = {
        "id": keys.text("id", 24, "BJ-STORY-01"),
        "consumer": keys.text("consumer", 80, "A consumer"),
        "opening_mp": keys.rupees("opening_rupees", "0"),
        "sanctioned_load_w": keys.integer(
            "sanctioned_load_w", SANCTIONED_LOAD_MIN_W, SANCTIONED_LOAD_MAX_W, 3_000
        ),
        "sample_period_s": keys.integer("sample_period_s", 1, 60, 10),
        "live_period_s": keys.integer("live_period_s", 1, 86_400, 300),
        "relay": keys.choice("relay", ("latching", "single"), "latching"),
    }
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,24}", str(meter["id"])):
        raise keys.refuse("id", "must be 1 to 24 characters of A-Z a-z 0-9 - _")
    keys.end()
    return meter


def _settings(keys: Keys) -> dict[str, int]:
    """Names and ranges are the firmware's own."""
    found = {}
    for name, _default, low, high in rows(SETTINGS):
        if keys.has(name):
            found[name] = keys.integer(name, low, high)
    for name in keys.rest():
        known = ", ".join(name for name, *_range in rows(SETTINGS))
        raise keys.refuse(name, "is no setting, but " + known)
    return found


def _tariff(keys: Keys, folder: Path) -> dict[str, Any]:
    given = keys.take("tariff")
    if isinstance(given, str):
        beside = folder / given
        try:
            given = tariff_files.read(str(beside) if beside.is_file() else given)
        except GatewayError as error:
            raise keys.refuse("tariff", str(error)) from error
    try:
        check_tariff(given, "tariff")
    except (FieldError, GatewayError) as error:
        raise ScenarioError("tariff", str(error).removeprefix("tariff: ")) from error
    return dict(given)


def _calendar(keys: Keys) -> dict[str, Any] | None:
    """A ready-made calendar by its name, or one's own; None: the settings' window."""
    given = keys.take("calendar", {})
    if not given:
        return None
    try:
        document = calendar_files.read(given) if isinstance(given, str) else given
        calendar_files.check_calendar(document, "calendar")
    except (FieldError, GatewayError) as error:
        raise ScenarioError("calendar", str(error).removeprefix("calendar: ")) from error
    return dict(document)


def _loads(keys: Keys, calendar: Calendar) -> list[Step]:
    """The changes of the load; the first is what is connected at the begin."""
    changes: list[Step] = []
    last_ms = -1
    for given in keys.tables("load"):
        if last_ms < 0 and given.has("from"):
            raise given.refuse("from", "must be left out of the first load: it is there at once")
        from_ms = calendar.moment(given, "from", calendar.start_ms)
        if from_ms <= last_ms:
            raise given.refuse("from", "must be after that of the load before")
        last_ms = from_ms
        changes = [change for change in changes if change.at_ms < from_ms]
        if given.has("pattern"):
            changes += _pattern(given, calendar, from_ms)
        else:
            changes.append(_load_step(from_ms, _load(given), given.path("from")))
        given.end()
    if not changes:
        raise keys.refuse("load", "is missing: at least one [[load]]")
    return changes


def _load_step(at_ms: int, load: str, key: str) -> Step:
    return Step(at_ms, "load", {"load": load}, key)


def _load(given: Keys) -> str:
    """A load's text for the emulated board."""
    forms = 'must be one of household = 11, constant = "230V,2A", recording = PATH, pattern = [..]'
    if given.has("household"):
        seed = given.integer("household", 0, 999_999)
        text = f"appliances:{seed},{given.integer('residents', 1, 9, 4)}"
    elif given.has("constant"):
        text = f"constant:{given.text('constant', 40)}"
    elif given.has("recording"):
        text = f"csv:{given.text('recording', 400)}"
    else:
        raise given.refuse("household", forms)
    try:
        load_from(text)
    except (ValueError, OSError) as error:
        raise ScenarioError(given.path("load"), f"{error} ({FORMS})") from error
    return text


def _pattern(given: Keys, calendar: Calendar, from_ms: int) -> list[Step]:
    """A day's pattern, [["06:00", "230V,2A"], ...], repeated to the end of the story."""
    why = 'must be rising times of day with loads, like [["00:00", "230V,0.5A"], ["18:00", "off"]]'
    entries: list[tuple[int, str]] = []
    pattern = given.take("pattern")
    if not isinstance(pattern, list) or not pattern:
        raise given.refuse("pattern", why)
    for entry in pattern:
        if not (isinstance(entry, list) and len(entry) == 2):
            raise given.refuse("pattern", why)
        found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", str(entry[0]))
        text = f"constant:{entry[1] if entry[1] != 'off' else '230V,0A'}"
        try:
            load_from(text)
        except ValueError as error:
            raise given.refuse("pattern", why) from error
        minute = int(found[1]) * 60 + int(found[2]) if found else -1
        if minute < 0 or (entries and minute <= entries[-1][0]):
            raise given.refuse("pattern", why)
        entries.append((minute, text))
    steps = []
    midnight_ms = (from_ms + IST_S * 1000) // DAY_MS * DAY_MS - IST_S * 1000 - DAY_MS
    now = entries[-1][1]
    while midnight_ms < calendar.end_ms:
        for minute, text in entries:
            at_ms = midnight_ms + minute * 60_000
            if at_ms <= from_ms:
                now = text
            elif at_ms < calendar.end_ms:
                steps.append(_load_step(at_ms, text, given.path("pattern")))
        midnight_ms += DAY_MS
    return [_load_step(from_ms, now, given.path("pattern")), *steps]


def _outages(keys: Keys, calendar: Calendar, steps: list[Step]) -> list[Span]:
    """Adds who is away when; returns when the gateway is, and nobody can be asked or ordered."""
    server = []
    for given in keys.tables("outage"):
        what = given.choice("of", AWAY)
        span = calendar.span(given)
        given.end()
        steps.append(Step(span.from_ms, what, {"on": False}, span.key))
        steps.append(Step(span.until_ms, what, {"on": True}, span.key))
        if what == "server":
            server.append(span)
    return server


def _orders(keys: Keys, calendar: Calendar, steps: list[Step], server: list[Span]) -> None:
    def moment(given: Keys) -> int:
        at_ms = calendar.moment(given, "at")
        for span in server:
            if span.from_ms <= at_ms < span.until_ms:
                raise given.refuse("at", f"nobody takes it: {span.key} has the server away then")
        return at_ms

    for number, given in enumerate(keys.tables("recharge"), 1):
        at_ms = moment(given)
        amount_mp = given.rupees("rupees")
        if not kinds.AMOUNT_MIN_MP <= amount_mp <= kinds.AMOUNT_MAX_MP:
            highest = words.rupees(kinds.AMOUNT_MAX_MP)
            raise given.refuse("rupees", f"must be from 0.01 to {highest}")
        given.end()
        what = {"rupees": words.rupees(amount_mp), "number": number}
        steps.append(Step(at_ms, "recharge", what, given.path("at")))
    for number, given in enumerate(keys.tables("order"), 1):
        at_ms = moment(given)
        body = {"kind": given.choice("kind", ORDERS)}
        hours = given.integer("expires_h", 1, 10_000, 0) if given.has("expires_h") else 0
        if hours:
            body["expires_utc_s"] = at_ms // 1000 + hours * 3600
        body.update(given.rest())
        what = {"body": body, "number": number}
        steps.append(Step(at_ms, "order", what, given.path("at")))


def _faults(keys: Keys, calendar: Calendar, steps: list[Step]) -> None:
    for given in keys.tables("fault"):
        span = calendar.span(given, "at")
        knobs = {name: given.choice(name, KNOBS[name]) for name in KNOBS if given.has(name)}
        if not knobs:
            raise given.refuse("contact", "is missing, or another of " + ", ".join(KNOBS))
        given.end()
        steps.append(Step(span.from_ms, "knobs", knobs, span.key))
        if span.until_ms < calendar.end_ms:
            well = {name: KNOBS[name][0] for name in knobs}
            steps.append(Step(span.until_ms, "knobs", well, span.key))


def _hands(keys: Keys, calendar: Calendar, steps: list[Step]) -> None:
    """What somebody does who stands before the meter."""
    for given in keys.tables("button"):
        at_ms = calendar.moment(given, "at")
        given.end()
        steps.append(Step(at_ms, "button", {"pressed": True}, given.path("at")))
        until_ms = at_ms + PRESS_S * 1000
        steps.append(Step(until_ms, "button", {"pressed": False}, given.path("at")))
    for given in keys.tables("console"):
        at_ms = calendar.moment(given, "at")
        line = given.text("line", LINE_MAX)
        if not line.isascii() or not line.isprintable() or not line:
            raise given.refuse("line", f"must be 1 to {LINE_MAX} printable characters of ASCII")
        given.end()
        steps.append(Step(at_ms, "console", {"line": line}, given.path("at")))


AT = ("contact", "state", "causes", "hold", "earliest_cut", "balance_above", "balance_below")
BETWEEN = ("event", "cuts", "reclosed_within_s")
RESULTS = ("recharge", "order")


def _expectation(given: Keys, calendar: Calendar, recharges: int, orders: int) -> Expectation:
    kinds_given = [kind for kind in (*AT, *BETWEEN, *RESULTS) if given.has(kind)]
    if len(kinds_given) != 1:
        raise given.refuse("event", "must be there, or another one of " + ", ".join(
            (*AT, *BETWEEN, *RESULTS)))  # fmt: skip
    kind = kinds_given[0]
    count: int | None = None
    value: Any
    checks: dict[str, Callable[[], Any]] = {
        "contact": lambda: given.choice("contact", ("closed", "open")),
        "state": lambda: given.choice("state", STATES),
        "causes": lambda: _words(given),
        "hold": lambda: given.text("hold", 20),
        "earliest_cut": lambda: _earliest(given, calendar),
        "balance_above": lambda: given.rupees("balance_above"),
        "balance_below": lambda: given.rupees("balance_below"),
        "event": lambda: given.integer("event", 1, 0xFFFF),
        "cuts": lambda: given.integer("cuts", 0, 1_000),
        "reclosed_within_s": lambda: given.integer("reclosed_within_s", 0, 86_400),
        "recharge": lambda: given.integer("recharge", 1, max(1, recharges)),
        "order": lambda: given.integer("order", 1, max(1, orders)),
    }
    value = checks[kind]()
    from_ms, until_ms = calendar.start_ms, calendar.end_ms
    if kind in AT:
        from_ms = until_ms = calendar.moment(given, "at")
        when = f"at {local(from_ms)}"
        text = f"{kind.replace('_', ' ')} {shown(kind, value)} {when}"
    elif kind in BETWEEN:
        from_ms = calendar.moment(given, "from", from_ms)
        until_ms = calendar.moment(given, "until", until_ms)
        if kind == "event" and given.has("count"):
            count = given.integer("count", 0, 10_000)
        times = "" if count is None else f" {count} times"
        text = f"{kind.replace('_', ' ')} {value}{times}, {local(from_ms)} to {local(until_ms)}"
    else:
        result = given.text("result", 20)
        text = f"{kind} {value} is {result}"
        value = (value, result)
    given.end()
    return Expectation(kind, value, from_ms, until_ms, count, text, given.path(kind))


def shown(kind: str, value: Any) -> str:
    """A value of an expectation as people read it."""
    if kind.startswith("balance"):
        return words.rupees(value)
    if kind == "earliest_cut":
        return local(value) if value else "none"
    if isinstance(value, list | tuple):
        return ", ".join(value) or "none"
    return str(value) or "none"


def _words(given: Keys) -> list[str]:
    value = given.take("causes")
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise given.refuse("causes", 'must be words, like ["credit", "order"], or []')
    return value


def _earliest(given: Keys, calendar: Calendar) -> int:
    """0: none in sight."""
    if given._left.get("earliest_cut") == "none":
        given.take("earliest_cut")
        return 0
    return calendar.moment(given, "earliest_cut")
