"""Made-up tariffs and quantities of every shape, for tests that compare two implementations.

Everything is chosen by `pick(low, high)`, an integer of that range: hypothesis draws and shrinks
with it, a seeded generator makes the same cases for an interpreter without hypothesis.
"""

ENERGY_SHAPES = ("telescopic", "whole", "by_total", "per_kwh")
SLABS_MAX = 24
LINES_MAX = 12
ZONE_NAMES = ("normal", "zone-1", "zone-2", "zone-3")
RATE_MAX_MP = 100_000_000
MONTH_MAX_MP = 10_000_000_000
OTHER_KINDS = ("subsidy", "rebate", "surcharge", "duty")


def make_document(pick):
    """A tariff document that is valid by SPEC section 3."""
    document = {
        "id": "made-up",
        "version": pick(1, 65535),
        "currency": "INR",
        "effective_from_utc_s": 0,
        "full_supply_min": pick(1, 1440),
    }
    zones = pick(0, 3)
    if zones:
        document["zones"] = [
            {"name": ZONE_NAMES[number + 1], "from_min": 300 * number, "to_min": 300 * number + 200}
            for number in range(zones)
        ]
    lines = []
    left = SLABS_MAX
    for letter in "abcdefghijkl"[: pick(1, LINES_MAX)]:
        line = _line(pick, f"line {letter}", _possible(lines, left, zones), lines, left, zones)
        left -= _slabs_of(line)
        lines.append(line)
    document["lines"] = lines
    return document


def make_quantities(pick, document):
    """Quantities for a document, as a dict of the members of `charges.Quantities`."""
    days = pick(28, 31)
    num, den = (1, 1) if pick(0, 2) else (pick(0, days), days)
    zones = 4 if "zones" in document else 1
    limits = [limit * 1000 * num // den for limit in _limits(document)]
    base_wh = 0 if pick(0, 2) else _energy(pick, limits)
    # Mostly near a limit, counted with what was before: that is where the parts differ.
    energy_wh = max(0, _energy(pick, limits) - (base_wh if pick(0, 1) else 0))
    zone_wh = []
    for _ in range(1, len({zone["name"] for zone in document.get("zones", [])}) + 1):
        zone_wh.append(pick(0, energy_wh - sum(zone_wh)))
    zone_wh = [energy_wh - sum(zone_wh), *zone_wh]
    fixed = []
    for line in document["lines"]:
        if line["shape"] == "fixed":
            most = line["rate_mp"] if "rate_mp" in line else line["bands"][0]["rate_mp"]
            scale = days * (document["full_supply_min"] if line.get("by_supply") else 1)
            fixed.append(pick(0, 3 * most * scale))
    return {
        "zone_wh": zone_wh + [0] * (zones - len(zone_wh)),
        "base_wh": base_wh,
        "share": [num, den],
        "days": days,
        "fixed": fixed,
    }


def _possible(lines, slabs, zones):
    """The shapes that the next line may have."""
    shapes = ["per_kwh", "fixed"]
    if slabs:
        shapes += ["telescopic", "whole", "by_total"]
    if lines:
        shapes.append("percent")
    if any(line["shape"] in ENERGY_SHAPES for line in lines):
        shapes.append("free")
        if zones and not any(line["shape"] == "time_of_day" for line in lines):
            shapes.append("time_of_day")
    return shapes


def _line(pick, name, shapes, lines, slabs, zones):
    shape = shapes[pick(0, len(shapes) - 1)]
    if shape in ENERGY_SHAPES:
        return _energy_line(pick, name, min(slabs, 12), shape)
    if shape == "fixed":
        return _fixed_line(pick, name)
    line = {"name": name, "shape": shape}
    if shape == "free":
        line["kwh"] = pick(1, 600)
        fit = [other["name"] for other in lines if other["shape"] in ENERGY_SHAPES]
        if pick(0, 1):
            line["of"] = _some(pick, fit)
    elif shape == "percent":
        line["percent_x1000"] = pick(-100_000, 1_000_000) if pick(0, 1) else pick(-20, 30) * 1000
        line["of"] = _some(pick, [other["name"] for other in lines])
    else:
        line["percent_x1000"] = {
            ZONE_NAMES[zone]: pick(-100_000, 200_000) for zone in range(zones + 1) if pick(0, 3)
        }
        line["of"] = _some(pick, _without_fixed(lines))
    return line


def _some(pick, names):
    chosen = [name for name in names if pick(0, 2)]
    return chosen or [names[pick(0, len(names) - 1)]]


def _without_fixed(lines):
    """The names of lines in which no fixed charge is contained."""
    names = []
    for line in lines:
        if line["shape"] != "fixed" and all(name in names for name in line.get("of", ())):
            names.append(line["name"])
    return names


def _energy_line(pick, name, slabs, shape):
    line = {"name": name, "shape": shape}
    low = 0
    if shape == "per_kwh" or pick(0, 2) == 0:
        line["kind"] = OTHER_KINDS[pick(0, 3)]
        low = -RATE_MAX_MP
    if shape == "per_kwh":
        line["rate_mp_per_kwh"] = _rate(pick, low)
    elif shape == "by_total":
        count = pick(1, min(3, slabs))
        classes = []
        for number, limit in enumerate(_growing(pick, count)):
            inner = pick(1, min(3, slabs - (count - number - 1)))
            slabs -= inner
            classes.append({"up_to_kwh": limit, "slabs": _slabs(pick, inner, low)})
        line["classes"] = classes
    else:
        line["slabs"] = _slabs(pick, pick(1, slabs), low)
    return line


def _fixed_line(pick, name):
    per = ("connection", "kw", "band")[pick(0, 2)]
    line = {"name": name, "shape": "fixed", "per": per}
    if per == "band":
        line["bands"] = [
            {"up_to_kw": limit, "rate_mp": pick(0, MONTH_MAX_MP)}
            for limit in _growing(pick, pick(1, 4))
        ]
    else:
        line["rate_mp"] = pick(0, MONTH_MAX_MP)
    line["collect"] = ("daily", "monthly", "first_recharge")[pick(0, 2)]
    if line["collect"] == "daily" and pick(0, 1):
        line["by_supply"] = True
    return line


def _slabs(pick, count, low):
    return [
        {"up_to_kwh": limit, "rate_mp_per_kwh": _rate(pick, low)} for limit in _growing(pick, count)
    ]


def _growing(pick, count):
    """`count` limits, the last one None."""
    limits = []
    for _ in range(count - 1):
        limits.append((limits[-1] if limits else 0) + pick(1, 150))
    return [*limits, None]


def _rate(pick, low):
    """Like a real one, any, or one that gives halves of a milli-paisa."""
    choice = pick(0, 2)
    if choice == 0:
        return pick(max(low, -1000), 1000) * 1000
    if choice == 1:
        return pick(low, RATE_MAX_MP)
    return pick(max(low, -2000), 2000) * 500 + 500 * pick(0, 1)


def _energy(pick, limits):
    choice = pick(0, 3)
    if choice and limits:
        return max(0, limits[pick(0, len(limits) - 1)] + pick(-2, 2) * (1 if choice > 1 else 500))
    return pick(0, 2_000_000)


def _slabs_of(line):
    if "classes" in line:
        return sum(len(part["slabs"]) for part in line["classes"])
    return len(line.get("slabs", ()))


def _limits(document):
    found = []
    for line in document["lines"]:
        for part in [line, *line.get("classes", [])]:
            for entry in [part, *part.get("slabs", [])]:
                if entry.get("up_to_kwh"):
                    found.append(entry["up_to_kwh"])
        if line["shape"] == "free":
            found.append(line["kwh"])
    return found
