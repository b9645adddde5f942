"""What the supply feeds: appliances, a constant, or a recorded CSV.

A load is a pure function of (seed, simulated time): power cuts and restarts do not change the
story, and every Python gives the same numbers, because there are only integers in it.

Interface: `load.at(t_ms)` sets `load.voltage_mv`, `load.current_ma` (primary scale) and
`load.until_ms`, the first instant at which they may change; all hold over [t_ms, until_ms).
`t_ms` is simulated milliseconds since the Unix epoch, UTC.

Tests: host_tests/unit/test_loads.py, host_tests/vm/test_shims.py.
"""

DAY_MS = 86_400_000
FOREVER_MS = 1 << 62
NOMINAL_MV = 230_000  # India: 230 V (IS 12360)
MASK_32 = 0xFFFFFFFF

FORMS = "appliances:SEED|default[,RESIDENTS], constant:230V,2.5A or csv:PATH"


def load_from(spec, seed=0, utc_offset_min=330, csv_start_ms=0):
    """Makes a load from its text (see `FORMS`).

    `seed` is the board's, used by `appliances:default`; the CSV's minute 0 is the local midnight
    of the day that holds `csv_start_ms`. ValueError says what is wrong with the text.
    """
    kind, _, rest = spec.partition(":")
    if kind == "appliances":
        text, _, residents = rest.partition(",")
        if not (_is_count(text) or text in ("", "default")):
            raise ValueError("load: appliances needs a whole number or 'default', not " + text)
        if residents and not (_is_count(residents) and 1 <= int(residents) <= 9):
            raise ValueError("load: residents must be 1-9, not " + residents)
        house = int(text) if _is_count(text) else seed
        return Appliances(house, int(residents or "4"), utc_offset_min)
    if kind == "constant":
        volts, _, amperes = rest.partition(",")
        voltage_mv = milli(volts[:-1]) if volts.endswith("V") else None
        current_ma = milli(amperes[:-1]) if amperes.endswith("A") else None
        if voltage_mv is None or current_ma is None:
            raise ValueError("load: constant needs VOLTS and AMPERES as 230V,2.5A, not " + rest)
        return Constant(voltage_mv, current_ma)
    if kind == "csv":
        try:
            source = open(rest, "rb")  # read for as long as the board runs
        except OSError as error:
            raise ValueError("load: cannot open csv " + rest + " (" + str(error) + ")") from None
        return Recorded(source, csv_start_ms, utc_offset_min)
    raise ValueError("load: must be " + FORMS + ", not " + spec)


def _is_count(text):
    """Only decimal digits? (`str.isdigit` says so of other scripts' digits, too.)"""
    return bool(text) and all("0" <= letter <= "9" for letter in text)


def milli(text):
    """The decimal number `text` (str) in thousandths, rounded half away from zero, or None.

    No float: "242.730" is 242730. None for "", "?", "nan" and anything else not a plain decimal.
    """
    text = text.strip()
    negative = text[:1] == "-"
    if negative:
        text = text[1:]
    whole, _, part = text.partition(".")
    if not _is_count(whole + part):
        return None
    thousandths_x10 = int((whole or "0") + (part + "0000")[:4])
    value = (thousandths_x10 + 5) // 10
    return -value if negative else value


class Constant:
    """A bench supply and a resistor."""

    def __init__(self, voltage_mv, current_ma):
        self.voltage_mv = voltage_mv
        self.current_ma = current_ma
        self.until_ms = FOREVER_MS

    def at(self, t_ms):
        """Nothing ever changes."""


class Recorded:
    """A household recorded minute by minute, replayed again and again.

    `source` is an open binary file with a header line; columns are found by name (`minute`,
    `voltage_v`, `current_a`), separated by `,` or `;`, rows in rising order of `minute`.
    A missing value or row is bridged by the last good one (230 V and 0 A before the first) and
    counted in `held`, once for each value or minute of a pass over the file.
    The file is read forward in pieces: the heap holds one of them, whatever the file's length.
    """

    def __init__(self, source, start_ms, utc_offset_min):
        self._source = source
        offset_ms = utc_offset_min * 60_000
        self._zero_ms = (start_ms + offset_ms) // DAY_MS * DAY_MS - offset_ms
        self.held = 0
        header = self._rewind()
        self._separator = ";" if ";" in header else ","
        names = [name.strip().lower() for name in header.split(self._separator)]
        try:
            self._columns = [names.index(name) for name in ("minute", "voltage_v", "current_a")]
        except ValueError:
            raise ValueError("load: csv needs the columns minute,voltage_v,current_a") from None
        self._length_min = self._last_minute() + 1
        self._start_over()
        self.until_ms = 0

    def at(self, t_ms):
        """Values of the minute that holds `t_ms`, constant over it."""
        minute_of_all = (t_ms - self._zero_ms) // 60_000
        self.until_ms = self._zero_ms + (minute_of_all + 1) * 60_000
        minute = minute_of_all % self._length_min
        if minute < self._minute:
            self._start_over()
        while self._minute < minute:
            self._minute += 1
            if self._next_minute < self._minute:
                self._read_row()
            if self._next_minute == self._minute:
                self._take(self._next_voltage_mv, self._next_current_ma)
            else:
                self._take(None, None)

    def _take(self, voltage_mv, current_ma):
        if voltage_mv is None or current_ma is None:
            self.held += 1
        if voltage_mv is not None:
            self.voltage_mv = voltage_mv
        if current_ma is not None:
            self.current_ma = current_ma

    def _start_over(self):
        """Before the first row; what earlier passes saw is forgotten, so that time decides all."""
        self._rewind()
        self._minute = self._next_minute = -1
        self.voltage_mv = NOMINAL_MV
        self.current_ma = 0

    def _read_row(self):
        """The next row that has a minute; after the last one, a minute that never comes."""
        while True:
            line = self._read_line()
            if line is None:
                self._next_minute = FOREVER_MS
                return
            row = self._row(line)
            # A minute that does not rise is a damaged row: its time is unknown, so it is skipped.
            if row is not None and row[0] > self._next_minute:
                self._next_minute, self._next_voltage_mv, self._next_current_ma = row
                return

    def _row(self, line):
        fields = line.split(self._separator)
        cells = [fields[i] if i < len(fields) else "" for i in self._columns]
        minute = cells[0].strip()
        if not _is_count(minute):
            return None
        return int(minute), milli(cells[1]), milli(cells[2])

    def _last_minute(self):
        """Minute of the last good row, found from the end: the file may be a year long."""
        size = self._source.seek(0, 2)
        tail_bytes = 256
        while True:
            self._source.seek(max(0, size - tail_bytes))
            lines = self._source.read(tail_bytes).split(b"\n")
            for line in reversed(lines[1:]):  # the first is cut, or the header
                row = self._row(line.decode())
                if row is not None:
                    return row[0]
            if tail_bytes >= size:
                raise ValueError("load: csv has no row with a minute")
            tail_bytes *= 2

    def _rewind(self):
        """Back to the first line after the header; returns the header."""
        self._source.seek(0)
        self._lines = []
        self._rest = b""
        return self._read_line() or ""

    def _read_line(self):
        """The next line as str without its end, None at the end of the file."""
        while not self._lines:
            piece = self._source.read(512)
            if not piece:
                if not self._rest:
                    return None
                piece = b"\n"
            lines = (self._rest + piece).split(b"\n")
            self._rest = lines.pop()
            lines.reverse()
            self._lines = lines
        return self._lines.pop().decode().strip()


class Rng:
    """xorshift32 (Marsaglia, 2003): small, and the same on every Python."""

    def __init__(self, *seeds):
        state = 0x9E3779B9
        for seed in seeds:
            state = ((state ^ (seed & MASK_32)) * 0x01000193 + 0x7F4A7C15) & MASK_32
        self._state = state or 1
        for _ in range(4):  # close seeds start close together
            self.below(2)

    def below(self, n):
        """A number in 0 .. n-1; n below 2**16, so that the remainder's bias does not matter."""
        x = self._state
        x ^= (x << 13) & MASK_32
        x ^= x >> 17
        x ^= (x << 5) & MASK_32
        self._state = x
        return (x >> 8) % n

    def between(self, low, high):
        """A number in low .. high, both included."""
        return low + self.below(high - low + 1)


class Appliances:
    """A household of the plains of north India, single phase, 5 to 12 kWh on most days.

    What it owns follows from the seed and the number of residents (1-9); when each thing runs
    is drawn anew for each local day. An appliance takes a constant current (its power at 230 V);
    the voltage moves slowly by some volts and sags in the evening.
    """

    def __init__(self, seed, residents=4, utc_offset_min=330):
        self._seed = seed
        self._residents = residents
        self._offset_ms = utc_offset_min * 60_000
        traits = Rng(seed, 1)
        self._nominal_mv = NOMINAL_MV + traits.between(-4_000, 4_000)
        self._standby_w = traits.between(25, 45)  # router, set-top box, chargers, purifier
        self._fridge_w = traits.between(95, 150)
        self._fans = 1 + (residents + 1) // 2
        self._lamps_w = 25 + 9 * residents
        self._television_w = traits.between(60, 120)
        self._pump_w = traits.between(500, 900) if traits.below(4) else 0
        self._cooler_w = traits.between(150, 210) if traits.below(3) else 0
        self._washer_w = traits.between(300, 420) if traits.below(2) else 0
        self._day = None
        self._events = []
        self._knot = None
        self.voltage_mv = self.current_ma = self.until_ms = 0

    def at(self, t_ms):
        """Values at `t_ms`; they hold to the next switching or the next minute."""
        local_ms = t_ms + self._offset_ms
        day = local_ms // DAY_MS
        second = local_ms % DAY_MS // 1000
        if day != self._day:
            self._plan(day)
        elif second < self._second:
            self._next = 0
            self._power_w = self._standby_w
        self._second = second
        events = self._events
        i = self._next
        power_w = self._power_w
        while events[i] >> 13 <= second:
            power_w += (events[i] & 8191) - 4096
            i += 1
        self._next = i
        self._power_w = power_w
        minute = second // 60
        self.current_ma = power_w * 1_000_000 // NOMINAL_MV
        self.voltage_mv = self._voltage_mv(day, minute)
        until_s = min(events[i] >> 13, (minute + 1) * 60)
        self.until_ms = day * DAY_MS + until_s * 1000 - self._offset_ms

    def _voltage_mv(self, day, minute):
        """Slow wander between knots of 15 minutes, a sag in the evening, a little flicker."""
        knot = day * 96 + minute // 15
        into_knot = minute % 15
        if knot != self._knot or into_knot < self._flicker_minute:
            self._knot = knot
            self._knot_mv = Rng(self._seed, 2, knot).between(-4_000, 4_000)
            self._knot_after_mv = Rng(self._seed, 2, knot + 1).between(-4_000, 4_000)
            self._flicker = Rng(self._seed, 3, knot)
            self._flicker_minute = -1
            self._flicker_mv = 0
        # Drawn minute by minute from the knot on, so that a start in between sees the same.
        while self._flicker_minute < into_knot:
            self._flicker_minute += 1
            self._flicker_mv = self._flicker.between(-300, 300)
        wander_mv = self._knot_mv + (self._knot_after_mv - self._knot_mv) * into_knot // 15
        evening_mv = max(0, 150 - abs(minute - 1230)) * 40  # deepest, 6 V, at 20:30
        return self._nominal_mv + wander_mv - evening_mv + self._flicker_mv

    def _plan(self, day):
        """Draws the day: a sorted list of switchings, each `second << 13 | 4096 + watts`.

        30 bits: a small integer on the 32-bit interpreter, so a day costs its list and no more.
        """
        self._day = day
        self._next = 0
        self._second = 0
        self._power_w = self._standby_w
        self._knot = None
        self._events = []
        weekend = (day + 3) % 7 >= 5  # day 0, 1 January 1970, was a Thursday
        # Day of the year within two days; warm from April to October, cold from December on.
        year_day = day % 1461 % 365
        warm = 90 <= year_day < 300
        cold = year_day >= 330 or year_day < 50

        self._fridge(Rng(self._seed, day, 10), warm)
        self._room(Rng(self._seed, day, 11), weekend, warm, cold)
        self._water_and_work(Rng(self._seed, day, 12), weekend, warm, cold)
        self._events.append(DAY_MS // 1000 << 13)  # so that there is always a next one
        self._events.sort()

    def _run(self, start_min, length_s, power_w, shift_s=0):
        """Runs something from `start_min` of the day, cut at midnight."""
        start_s = start_min * 60 + shift_s
        end_s = min(start_s + length_s, DAY_MS // 1000)
        if start_s < end_s and power_w:
            self._events.append(start_s << 13 | 4096 + power_w)
            self._events.append(end_s << 13 | 4096 - power_w)

    def _fridge(self, rng, warm):
        at_s = rng.below(1500)
        while at_s < 86_400:
            on_s = rng.between(900, 1_260) if warm else rng.between(600, 900)
            self._run(0, on_s, self._fridge_w, at_s)
            at_s += on_s + rng.between(900, 1_500)

    def _room(self, rng, weekend, warm, cold):
        """Fans and cooler or heater, lamps and television."""
        if warm:
            for _ in range(self._fans):
                power_w = rng.between(55, 75)
                self._run(0, rng.between(330, 400) * 60, power_w)
                noon = rng.between(630, 720)
                self._run(noon, rng.between(240, 360) * 60, power_w)
                self._run(rng.between(1_170, 1_230), 86_400, power_w)
            hours = rng.between(3, 6) if weekend else rng.between(2, 5)
            self._run(rng.between(690, 750), hours * 3_600, self._cooler_w)
        elif not cold:
            for _ in range(self._fans):
                self._run(rng.between(660, 720), rng.between(300, 420) * 60, rng.between(45, 65))
                self._run(rng.between(1_100, 1_200), rng.between(150, 210) * 60, 55)
        elif rng.below(7) < 6:
            self._run(rng.between(1_080, 1_150), rng.between(90, 150) * 60, 1_000)  # heater
        self._run(rng.between(300, 330), rng.between(60, 90) * 60, self._lamps_w // 2)
        self._run(rng.between(1_065, 1_095), rng.between(255, 320) * 60, self._lamps_w)
        self._run(0, 86_400, 5)  # a night lamp
        if weekend:
            self._run(rng.between(600, 660), rng.between(90, 150) * 60, self._television_w)
        self._run(rng.between(1_140, 1_170), rng.between(120, 200) * 60, self._television_w)

    def _water_and_work(self, rng, weekend, warm, cold):
        """Pump, kitchen, iron, washing machine and water heater, each at its hour."""
        self._run(rng.between(345, 375), rng.between(15, 20) * 60, self._pump_w, rng.below(60))
        if self._residents > 3:
            self._run(rng.between(1_020, 1_040), rng.between(5, 10) * 60, self._pump_w)
        mixer_at = rng.between(430, 460)
        self._run(mixer_at, rng.between(120, 300), 500, rng.below(60))
        # Some households cook part of the meal on an induction plate.
        for around in (480, 1_190):
            start = around + rng.below(20)
            length_s = rng.between(15, 25) * 60
            if rng.below(5) < 3 + (self._residents > 3):
                self._run(start, length_s, 1_300)
        start = rng.between(505, 530)
        length_s = rng.between(8, 18) * 60
        if rng.below(7) < (2 if weekend else 3):
            self._run(start, length_s, 1_000)  # iron
        start = rng.between(580, 640)
        length_s = rng.between(30, 45) * 60
        if weekend or rng.below(6) == 0:
            self._run(start, length_s, self._washer_w)
        if not warm:
            per_bath_s = 540 if cold else 420
            self._run(rng.between(370, 400), self._residents * per_bath_s, 2_000)
