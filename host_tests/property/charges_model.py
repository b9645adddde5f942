"""What a tariff document charges, once more: in fractions, from SPEC section 3 alone.

It shares nothing with firmware/credit but the document. It works on the document as it was sent,
with exact fractions, and rounds where the specification says so: each line of the charge once.
"""

import math
from fractions import Fraction

ENDLESS = math.inf


def half_up(value):
    """`value` rounded to an integer, halves towards plus infinity."""
    return math.floor(value + Fraction(1, 2))


def amounts(document, zone_wh, base_wh, share, days, fixed):
    """The amounts in mp of each line of `document` by its name, a list each (slabs, zones, ...).

    The arguments are the members of `Quantities`, in the same units.
    """
    end_wh = base_wh + sum(zone_wh)
    part = _Part(base_wh, end_wh, share)
    fixed = iter(fixed)
    found = {}
    for line in document["lines"]:
        shape = line["shape"]
        if shape in ("telescopic", "whole", "by_total", "per_kwh"):
            exact = part.priced(line)
        elif shape == "free":
            named = line.get("of")
            paid = [
                other
                for other in document["lines"][: document["lines"].index(line)]
                if other["shape"] in ("telescopic", "whole", "by_total", "per_kwh")
                and (named is None or other["name"] in named)
            ]
            exact = [-sum(part.first(other, part.scaled(line["kwh"])) for other in paid)]
        else:
            sum_mp = sum(sum(found[name]) for name in line.get("of", ()))
            if shape == "percent":
                exact = [Fraction(sum_mp * line["percent_x1000"], 100_000)]
            elif shape == "time_of_day":
                exact = [
                    Fraction(sum_mp * wh * percent, sum(zone_wh) * 100_000) if wh else 0
                    for wh, percent in _by_zone(document, line, zone_wh)
                ]
            else:
                whole = days * (document["full_supply_min"] if line.get("by_supply") else 1)
                exact = [Fraction(next(fixed), whole)]
        found[line["name"]] = [half_up(value) for value in exact]
    return found


def _by_zone(document, line, zone_wh):
    names = ["normal"]
    for window in document["zones"]:
        if window["name"] not in names:
            names.append(window["name"])
    for name, percent in line["percent_x1000"].items():
        yield zone_wh[names.index(name)], percent


class _Part:
    """Prices of the units from `base_wh` to `end_wh` of a billing period."""

    def __init__(self, base_wh, end_wh, share):
        self.base_wh = base_wh
        self.end_wh = end_wh
        self.share = share

    def scaled(self, limit_kwh):
        """A limit in Wh, for the part's share of the period."""
        if limit_kwh is None:
            return ENDLESS
        num, den = self.share
        return limit_kwh * 1000 * num // den

    def priced(self, line):
        """The exact amounts of the slabs of a line, and of its re-ratings."""
        classes = self.classes(line)
        found = []
        below_wh = 0
        for number, (limit_wh, slabs) in enumerate(classes):
            if number and below_wh >= self.end_wh:
                break
            if number and below_wh > self.base_wh:
                found.append(
                    sum(self.pieces(slabs, self.base_wh, below_wh))
                    - sum(self.pieces(classes[number - 1][1], self.base_wh, below_wh))
                )
            found += self.pieces(slabs, max(self.base_wh, below_wh), min(self.end_wh, limit_wh))
            below_wh = limit_wh
        return found

    def first(self, line, free_wh):
        """The exact cost of those of the period's first `free_wh` that are in this part."""
        slabs = next(slabs for limit_wh, slabs in self.classes(line) if self.end_wh <= limit_wh)
        return sum(self.pieces(slabs, self.base_wh, min(self.end_wh, free_wh)))

    def classes(self, line):
        """(limit in Wh, slabs) of a line: one without a limit, if its shape has no classes."""
        shape = line["shape"]
        if shape == "per_kwh":
            return [(ENDLESS, [{"up_to_kwh": None, **line}])]
        if shape == "telescopic":
            return [(ENDLESS, line["slabs"])]
        if shape == "whole":
            return [
                (self.scaled(slab["up_to_kwh"]), [{**slab, "up_to_kwh": None}])
                for slab in line["slabs"]
            ]
        return [(self.scaled(each["up_to_kwh"]), each["slabs"]) for each in line["classes"]]

    def pieces(self, slabs, from_wh, to_wh):
        """The exact costs of the units from `from_wh` to `to_wh`, one for each slab they touch."""
        found = []
        below_wh = 0
        for slab in slabs:
            limit_wh = self.scaled(slab["up_to_kwh"])
            wh = min(limit_wh, to_wh) - max(below_wh, from_wh)
            if wh > 0:
                found.append(Fraction(wh * slab["rate_mp_per_kwh"], 1000))
            below_wh = limit_wh
        return found
