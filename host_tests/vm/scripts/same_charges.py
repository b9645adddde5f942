"""Runs on MicroPython: charges again what CPython charged.

argv: repository root, file with a case of JSON on each line. Prints the number of cases and OK, or
the first difference.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

from firmware.credit import charges, tariff


def answers(document, members, asked):
    parsed = tariff.parse(document)
    quantities = charges.Quantities(parsed)
    for name in members:
        setattr(quantities, name, members[name])
    total_wh = quantities.base_wh + sum(quantities.zone_wh)
    rates_mp = [
        charges.fixed_rate_mp(parsed, index, asked["load_w"]) for index in range(len(parsed.fixed))
    ]
    return [
        charges.charge_mp(parsed, quantities),
        [list(line) for line in charges.charge_lines(parsed, quantities)],
        rates_mp,
        charges.next_step_wh(parsed, total_wh, quantities.share),
        charges.max_price_mp_per_kwh(parsed),
        charges.steady_wh(parsed, quantities, asked["spare_mp"]),
        charges.zone_at(parsed, asked["minute"]),
    ]


def main():
    count = 0
    with open(sys.argv[2]) as file:
        for line in file:
            document, members, asked, expected = json.loads(line)
            got = answers(document, members, asked)
            if got != expected:
                raise ValueError("case %d: %r is not %r" % (count, got, expected))
            count += 1
    print(count, "OK")


main()
