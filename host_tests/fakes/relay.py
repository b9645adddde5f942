"""Settings of the relay's rules without a meter."""

from types import SimpleNamespace

from firmware.core import config


def rule_config(**changes):
    """The settings at their defaults, as attributes, with some changed."""
    values = {name: default for name, default, _low, _high in config.rows(config.SETTINGS)}
    unknown = set(changes) - set(values)
    if unknown:
        raise ValueError(f"no such settings: {sorted(unknown)}")
    return SimpleNamespace(utc_offset_s=19800, **{**values, **changes})
