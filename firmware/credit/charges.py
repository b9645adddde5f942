"""The charge of a billing period, line by line: a pure function of its quantities and the tariff.

Each line is rounded once, half up, to a milli-paisa, and the total is the sum of the lines, so that
any deduction can be explained line by line. The cost is that of the number of slabs. docs/SPEC.md
section 3 is the prose. Tests: host_tests/unit/test_charges.py.
"""

from firmware.credit.tariff import ENERGY, FREE, PERCENT, TIME_OF_DAY, ZONES_MAX

_PERCENT_X1000 = 100000


class Quantities:
    """What the charge of one part of a billing period follows from.

    zone_wh: Wh by zone, 0 is "normal"; one without zones, else four.
    base_wh: Wh earlier in the billing period, behind which this part's slabs go on.
    share: (numerator, denominator) by which slab, class and free limits are taken.
    days: days of the billing period.
    fixed: of each fixed line the mp a month x days collected (x minutes, if by supply).
    """

    def __init__(self, tariff, energy_wh=0):
        """Those of a whole period with `energy_wh` in the normal zone and nothing fixed."""
        self.zone_wh = [energy_wh] + [0] * (ZONES_MAX - 1 if tariff.zones else 0)
        self.base_wh = 0
        self.share = (1, 1)
        self.days = 30
        self.fixed = [0] * len(tariff.fixed)


def charge_lines(tariff, quantities):
    """The lines of the charge of `quantities`.

    Each is (name, kind, quantity, unit, rate, amount in mp); those with no quantity are left out.
    Units are "Wh" (rate: mp per kWh), "%" (quantity: the mp it is taken of, rate: percent x 1000),
    "days" and "kW days" (rate: mp a month), "" (no quantity); rate is None where it is not one.
    """
    lines = []
    _charge(tariff, quantities, lines)
    return lines


def charge_mp(tariff, quantities):
    """The sum of the charge lines in mp, without building them."""
    return _charge(tariff, quantities, None)


def total_mp(lines):
    """The sum of charge lines in mp."""
    return sum([line[5] for line in lines])


def zone_at(tariff, minute):
    """The number of the zone of a local minute of the day, 0 to 1439."""
    for zone, from_min, to_min in tariff.zones:
        if from_min <= minute < to_min:
            return zone
    return 0


def fixed_rate_mp(tariff, index, load_w):
    """mp a month of `tariff.fixed[index]` at a sanctioned load; 0 W counts as up to 1 kW."""
    _line, per, bands, _collect, _by_supply = tariff.fixed[index]
    load_kw = max(1, (load_w + 999) // 1000)
    _limit, rate_mp = _at(bands, load_kw)
    return rate_mp * load_kw if per == "kw" else rate_mp


def next_step_wh(tariff, total_wh, share):
    """The least total from `total_wh` on behind which a class ends, and so the charge may jump.

    None: there is none. Both are Wh since the billing period began, with what was carried on.
    """
    least_wh = None
    for line in tariff.lines:
        if line[2] == ENERGY:
            for limit_wh, _slabs in line[4]:
                limit_wh = _scaled(limit_wh, share)
                if limit_wh is not None and limit_wh >= total_wh:
                    if least_wh is None or limit_wh < least_wh:
                        least_wh = limit_wh
                    break
    return least_wh


def max_price_mp_per_kwh(tariff):
    """What a kWh adds to the charge at most where no class ends, but for rounding; never < 0."""
    return _growth(tariff)[0]


def steady_wh(tariff, quantities, spare_mp):
    """Wh, in whatever zones, during which the charge surely grows by at most `spare_mp`.

    It ends where a class ends; None: it never does. For as long as nothing but energy changes.
    """
    price, slack_mp = _growth(tariff)
    wh = None
    if spare_mp < slack_mp:
        return 0
    if price:
        wh = (spare_mp - slack_mp) * 1000 // price
    total_wh = quantities.base_wh + sum(quantities.zone_wh)
    step_wh = next_step_wh(tariff, total_wh, quantities.share)
    if step_wh is not None and (wh is None or step_wh - total_wh < wh):
        wh = step_wh - total_wh
    return wh


def _charge(tariff, quantities, lines):
    """The charge in mp; its lines are appended to `lines` unless that is None."""
    amounts = []
    total_wh = sum(quantities.zone_wh)
    end_wh = quantities.base_wh + total_wh
    for line in tariff.lines:
        name, kind, form, of, terms = line
        if form == ENERGY:
            amounts.append(_energy_mp(line, quantities, end_wh, lines))
            continue
        if form == FREE:
            unit = "Wh"
            rate = None
            quantity, amount_mp = _free(tariff, quantities, end_wh, of, terms)
        elif form == PERCENT:
            unit = "%"
            rate = terms
            quantity = _sum_of(amounts, of)
            amount_mp = _rounded(quantity * rate, _PERCENT_X1000)
        elif form == TIME_OF_DAY:
            of_mp = _sum_of(amounts, of)
            amounts.append(_time_of_day_mp(tariff, line, of_mp, quantities.zone_wh, lines))
            continue
        else:
            quantity, unit, rate, amount_mp = _fixed(tariff, quantities, terms)
        amounts.append(amount_mp)
        if lines is not None and (quantity or amount_mp):
            lines.append((name, kind, quantity, unit, rate, amount_mp))
    return sum(amounts)


def _rounded(numerator, denominator):
    """The quotient, rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _scaled(limit_wh, share):
    return None if limit_wh is None else limit_wh * share[0] // share[1]


def _sum_of(amounts, of):
    total = 0
    for number, amount in enumerate(amounts):
        if of >> number & 1:
            total += amount
    return total


def _cost_x1000(slabs, from_wh, to_wh, share):
    """What the units between two totals cost by slabs, in 1/1000 mp."""
    cost = 0
    for limit_wh, rate in slabs:
        limit_wh = _scaled(limit_wh, share)
        upper_wh = to_wh if limit_wh is None else min(limit_wh, to_wh)
        if upper_wh > from_wh:
            cost += (upper_wh - from_wh) * rate
            from_wh = upper_wh
    return cost


def _at(steps, value, share=(1, 1)):
    """The one of some steps (first member: upper limit or None) that a value has reached."""
    for step in steps:
        limit = _scaled(step[0], share)
        if limit is None or value <= limit:
            return step
    raise ValueError("the last of steps has no limit")


def _energy_mp(line, quantities, end_wh, lines):
    """Units are charged by the class in which they were used; where a class ended, what came before
    it in this part is re-rated to the prices of the next."""
    name, kind, _form, _of, classes = line
    base_wh = quantities.base_wh
    share = quantities.share
    amount_mp = 0
    class_wh = 0  # where the class begins
    before = None  # slabs of the class before
    for limit_wh, slabs in classes:
        limit_wh = _scaled(limit_wh, share)
        if before and class_wh > base_wh:
            more = _cost_x1000(slabs, base_wh, class_wh, share)
            step_mp = _rounded(more - _cost_x1000(before, base_wh, class_wh, share), 1000)
            amount_mp += step_mp
            if lines is not None:
                words = "%s re-rated at %s kWh" % (name, _kwh(class_wh))
                lines.append((words, "rerating", class_wh - base_wh, "Wh", None, step_mp))
        last = limit_wh is None or end_wh <= limit_wh
        class_end_wh = end_wh if last else limit_wh
        below_wh = max(base_wh, class_wh)
        slab_wh = class_wh  # where the slab begins
        for upper_wh, rate in slabs:
            upper_wh = _scaled(upper_wh, share)
            if upper_wh is None or (limit_wh is not None and limit_wh < upper_wh):
                upper_wh = limit_wh
            to_wh = class_end_wh if upper_wh is None else min(upper_wh, class_end_wh)
            if to_wh > below_wh:
                wh = to_wh - below_wh
                slab_mp = _rounded(wh * rate, 1000)
                amount_mp += slab_mp
                if lines is not None:
                    words = name + _range(slab_wh, upper_wh)
                    lines.append((words, kind, wh, "Wh", rate, slab_mp))
                below_wh = to_wh
            slab_wh = max(slab_wh, upper_wh or 0)
        if last:
            break
        class_wh = limit_wh
        before = slabs
    return amount_mp


def _range(from_wh, to_wh):
    if to_wh is not None:
        return " up to %s kWh" % _kwh(to_wh)
    return " above %s kWh" % _kwh(from_wh) if from_wh else ""


def _kwh(wh):
    kwh = "%d" % (wh // 1000)
    return kwh if wh % 1000 == 0 else "%s.%03d" % (kwh, wh % 1000)


def _free(tariff, quantities, end_wh, of, limit_wh):
    """(Wh that are free, minus what they cost in mp)."""
    share = quantities.share
    from_wh = quantities.base_wh
    to_wh = min(end_wh, _scaled(limit_wh, share))
    if to_wh <= from_wh:
        return 0, 0
    cost = 0
    for number, line in enumerate(tariff.lines):
        if of >> number & 1:
            _limit, slabs = _at(line[4], end_wh, share)
            cost += _cost_x1000(slabs, from_wh, to_wh, share)
    return to_wh - from_wh, _rounded(-cost, 1000)


def _time_of_day_mp(tariff, line, of_mp, zone_wh, lines):
    """Each zone's part of the sum, by its energy, times its percentage."""
    name, kind, _form, _of, percents = line
    total_wh = sum(zone_wh)
    amount_mp = 0
    for zone, percent in enumerate(percents):
        wh = zone_wh[zone]
        if wh and percent:
            zone_mp = _rounded(of_mp * wh * percent, total_wh * _PERCENT_X1000)
            amount_mp += zone_mp
            if lines is not None:
                words = name + " " + tariff.zone_names[zone]
                lines.append((words, kind, of_mp * wh // total_wh, "%", percent, zone_mp))
    return amount_mp


def _fixed(tariff, quantities, index):
    """(quantity, unit, mp a month, amount in mp) of `tariff.fixed[index]`."""
    _line, per, bands, _collect, by_supply = tariff.fixed[index]
    collected = quantities.fixed[index]
    full = tariff.full_supply_min if by_supply else 1
    amount_mp = _rounded(collected, quantities.days * full)
    rate_mp = bands[0][1]
    if per == "band" or not rate_mp:
        return 0, "", None, amount_mp
    return collected // (rate_mp * full), "kW days" if per == "kw" else "days", rate_mp, amount_mp


def _growth(tariff):
    """(price in mp per kWh, mp): what d kWh add where no class ends is at most price * d + mp."""
    if tariff.growth is None:
        tariff.growth = _bounds(tariff)  # it takes some kB of heap
    return tariff.growth


def _bounds(tariff):
    # Of each line the least and greatest growth, and how far rounding can be off, in half mp.
    lows, highs, errors = [], [], []
    for _name, _kind, form, of, terms in tariff.lines:
        low = high = error = 0
        if form == ENERGY:
            rates = [rate for _limit, slabs in terms for _limit, rate in slabs]
            low, high = min(rates), max(rates)
            error = len(rates) + len(terms) - 1
        elif form == FREE:
            low, high = min(0, -_sum_of(highs, of)), max(0, -_sum_of(lows, of))
            error = 1
        elif form in (PERCENT, TIME_OF_DAY):
            percents = (terms,) if form == PERCENT else terms
            products = _products(_sum_of(lows, of), _sum_of(highs, of), percents)
            low, high = min(products) // _PERCENT_X1000, -(-max(products) // _PERCENT_X1000)
            most = max([abs(percent) for percent in percents])
            error = len(percents) - (-_sum_of(errors, of) * most // _PERCENT_X1000)
        lows.append(low)
        highs.append(high)
        errors.append(error)
    return max(0, sum(highs)), sum(errors)


def _products(low, high, percents):
    """Extremes of what a kWh can add to percentages of a sum that grows by low..high a kWh.

    A kWh in a zone of p adds growth * a + average * (p - a): a is the mean percentage so far, the
    average is that of the sum by kWh. It is linear in each, so extremes are at the ends.
    """
    ends = (min(percents), max(percents))
    prices = (low, high)
    return [
        growth * a + average * (p - a)
        for growth in prices
        for average in prices
        for a in ends
        for p in ends
    ]
