"""Settings and link settings that come by order, checked against the configuration's table.

Shared with the gateway. docs/SPEC.md sections 2.7 and 6. Tests: host_tests/unit/test_orders.py,
host_tests/unit/test_credentials.py.
"""

from firmware.core.config import (
    SETTINGS,
    ConfigError,
    check_block_min,
    check_link,
    check_rising,
    integer,
    rows,
    section,
)

MEMBERS = (
    ("wifi", ("ssid", "password")),
    ("broker", ("host", "port", "user", "password", "ca")),
)
"""Members of the link settings, by section."""


def check_settings(document, present=None):
    """Returns the `document` of a settings order (names of SETTINGS to values) if all is right.

    Raises ConfigError naming the first member at fault. present: what has the values of the names
    that the document leaves out as attributes; without it a pair of limits is judged only if both
    are in the document.
    """
    if not isinstance(document, dict) or not document:
        raise ConfigError("document", "must be an object with at least one setting")
    known = [row[0] for row in rows(SETTINGS)]
    for name in document:
        if name not in known:
            raise ConfigError(name, "is no setting for an order: " + ", ".join(known))
    for name, default, low, high in rows(SETTINGS):
        if name in document:
            integer(document, name, default, low, high)
    check_rising(document, present)
    check_block_min(document.get("block_min"))
    return document


def merge_link(document, link):
    """`link` (settings in the order of MEMBERS) changed by the members of an order's document.

    Raises ConfigError naming the member, never its value.
    """
    if not isinstance(document, dict) or not document:
        raise ConfigError("sealed", "must hold wifi or broker")
    merged = {}
    place = 0
    for part, members in MEMBERS:
        given = section(document, part) if part in document else {}
        for name in given:
            if name not in members:
                raise ConfigError(name, "is not known")
        merged[part] = {}
        for name in members:
            merged[part][name] = given.get(name, link[place])
            place += 1
    for part in document:
        if part not in merged:
            raise ConfigError(part, "is not known")
    return check_link(merged)
