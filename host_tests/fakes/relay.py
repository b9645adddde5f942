"""What tests of the relay's rules share: their settings, and a calendar written with `datetime`."""

import datetime
from types import SimpleNamespace

from firmware.core import config


def rule_config(**changes):
    """The settings at their defaults, as attributes, with some changed."""
    values = {name: default for name, default, _low, _high in config.rows(config.SETTINGS)}
    unknown = set(changes) - set(values)
    if unknown:
        raise ValueError(f"no such settings: {sorted(unknown)}")
    return SimpleNamespace(utc_offset_s=19800, **{**values, **changes})


def allowed(document, moment):
    """Whether a cut is allowed at a local datetime, by the words of the specification."""

    def in_span(span):
        mask, start, end = span
        for begins in (moment.date(), moment.date() - datetime.timedelta(days=1)):
            if not mask >> begins.weekday() & 1:
                continue
            first = datetime.datetime.combine(begins, datetime.time()) + datetime.timedelta(
                minutes=start
            )
            length = end - start if end > start else end - start + 1440
            if first <= moment < first + datetime.timedelta(minutes=length):
                return True
        return False

    second = moment.weekday() == 5 and 8 <= moment.day <= 14
    return (
        any(map(in_span, document["windows"]))
        and not any(map(in_span, document["happy"]))
        and moment.date().isoformat() not in document["holidays"]
        and not (second and document["second_saturdays"])
    )
