"""The meter's configuration: one JSON document, made at provisioning, checked as a whole.

docs/SPEC.md section 6 describes the members. The key is never shown: errors name the member only.
"""

import binascii
import json

from firmware.core.shim import const

# Tables of name, default, lowest, highest. They are text because that stays in ROM: as tuples they
# would take 1 kB of heap.
RULES = """\
low_credit_mp 5000000 0 1000000000
low_days 3 0 60
warn_percent_1 30 0 100
warn_percent_2 10 0 100
warn_percent_3 0 0 100
cliff_warn_kwh 20 0 1000
emergency_limit_mp 0 0 10000000000
recharge_min_mp 0 0 10000000000
balance_max_mp 0 0 10000000000
grace_s 86400 0 2592000
window_start_min 600 0 1439
window_end_min 780 1 1440
window_days 63 1 127
cut_mode 1 0 1
floor_mp 0 -10000000000 0
warned_days 0 0 30
debt_cap_mp 0 0 10000000000
grace_counts_outage 0 0 1
restore_percent 0 0 100
undated_limit_h 72 0 720
undated_debt_cap_mp 30000000 0 10000000000
link_silence_h 24 1 720
offline_debt_cap_mp 30000000 0 10000000000
operation_min_s 5 0 600
reclose_spread_s 0 0 3600
tamper_cut 0 0 3"""
"""The rules about credit and about what moves the contact: `rows` reads it."""

RELAY = """\
limit_mode 0 0 2
limit_w 0 0 100000
limit_over_s 120 1 3600
limit_reclose_s 120 10 3600
limit_attempts 4 1 100
limit_within_s 1800 60 86400
limit_lockout_s 300 60 86400
trip_current_ma 0 0 100000
trip_over_s 10 1 600
excess_mp_per_kw 0 0 10000000000"""
"""Limits of load and current: `rows` reads it."""

_LIVE_PERIOD = "live_period_s 60 1 86400"

METERING = """\
creep_ppm 2000 0 3500
block_min 30 15 30
sanctioned_load_w 0 0 100000
over_voltage_mv 264000 20000 400000
low_voltage_mv 184000 1000 399000
voltage_hysteresis_mv 4000 0 20000
over_current_ma 0 0 100000
current_hysteresis_ma 500 0 10000
quality_persist_s 60 0 3600
tamper_persist_s 60 0 3600"""
"""Settings of the metering: `rows` reads it."""

SETTINGS = (RULES, _LIVE_PERIOD, METERING, RELAY)
"""What an order may set: `rows` of each."""

_OF_THE_BOARD = """\
utc_offset_s 19800 -43200 50400
voltage_ratio_x1000 10000 1000 12500
current_ratio_x1000 12500 1000 32000
basic_current_ma 12500 100 100000
sample_period_ms 1000 1000 60000
export_counts 0 0 1
commissioning 0 0 1
opening_balance_mp 0 -10000000000 10000000000"""

CA_MAX = const(4000)
_PEM = "-----BEGIN CERTIFICATE-----"
_VERSION = const(1)
_CHECK_BYTES = const(9)  # 8 hex digits and the end of the line


class ConfigError(Exception):
    """A configuration that is refused: `field` is the member at fault, `why` what is allowed."""

    def __init__(self, field, why):
        super().__init__("config " + field + ": " + why)
        self.field = field
        self.why = why


def rows(tables):
    """(name, default, lowest, highest) of each line of some tables."""
    for table in tables:
        for line in table.split("\n"):
            name, default, low, high = line.split(" ")
            yield name, int(default), int(low), int(high)


def read_document(path):
    """The JSON value in a file, which may end in a line with its CRC; ConfigError names it."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
        # Any other form of the line is no JSON behind the object, and refused as that.
        if len(raw) > _CHECK_BYTES and raw[-10] == 10 == raw[-1] and raw[-2] != 125:  # 125: }
            crc = raw[-_CHECK_BYTES:]
            raw = raw[:-_CHECK_BYTES]
            if crc != b"%08x\n" % binascii.crc32(raw):
                raise ValueError
        return json.loads(raw)
    except OSError as error:
        raise ConfigError(path, "cannot be read, errno %s" % error.errno)
    except (ValueError, MemoryError):
        raise ConfigError(path, "bad JSON or CRC")


def integer(values, field, default, low, high):
    """The integer member `field`, inside low..high; ConfigError otherwise."""
    value = values.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(field, "must be an integer from %d to %d" % (low, high))
    return value


def check_rising(values, present=None):
    """ConfigError unless each upper limit is above its lower one.

    present: has those that are not among `values` as attributes; what neither knows is not judged.
    """
    for pair in ("window_start_min window_end_min", "low_voltage_mv over_voltage_mv"):
        low, high = pair.split(" ")
        lower = values.get(low, getattr(present, low, None))
        upper = values.get(high, getattr(present, high, None))
        if lower is not None and upper is not None and upper <= lower:
            raise ConfigError(high, "must be above " + low)


def check_block_min(block_min):
    """ConfigError unless it is 15 or 30; None: not known."""
    if block_min not in (None, 15, 30):
        raise ConfigError("block_min", "must be 15 or 30")


def _text(values, field, longest, shortest=1, default=None):
    value = values.get(field, default)
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise ConfigError(field, "must be a text of %d to %d characters" % (shortest, longest))
    return value


def section(values, field):
    """The object `field`; ConfigError otherwise."""
    section = values.get(field)
    if not isinstance(section, dict):
        raise ConfigError(field, "must be an object")
    return section


def check_link(values):
    """The link's settings in a document, in the order of core.settings.MEMBERS."""
    wifi = section(values, "wifi")
    broker = section(values, "broker")
    ca = _text(broker, "ca", CA_MAX, 0, "")
    if ca and not ca.startswith(_PEM):
        raise ConfigError("ca", "must be a certificate in PEM")
    return [
        _text(wifi, "ssid", 32),
        _text(wifi, "password", 63, 0),
        _text(broker, "host", 253),
        integer(broker, "port", 1883, 1, 65535),
        _text(broker, "user", 64),
        _text(broker, "password", 64),
        ca,
    ]


class Config:
    """The checked configuration as attributes, units in their names."""

    def __init__(self, values):
        """Raises ConfigError. Who knows their form checks `meter`, `tariff` and `calendar`."""
        if not isinstance(values, dict):
            raise ConfigError("config", "must be an object")
        integer(values, "v", 0, _VERSION, _VERSION)
        self.meter = _text(values, "meter", 24)
        try:
            self.key = binascii.unhexlify(_text(values, "key", 64, 64))
        except ValueError:
            raise ConfigError("key", "must be 64 hex digits")
        link = check_link(values)
        self.wifi_ssid, self.wifi_password = link[:2]
        self.broker_host, self.broker_port, self.broker_user = link[2:5]
        self.broker_password, self.broker_ca = link[5:]
        self.made_utc_s = integer(values, "made_utc_s", 0, 0, 0xFFFFFFFF)
        for field, default, low, high in rows((_LIVE_PERIOD, _OF_THE_BOARD, METERING, RELAY)):
            setattr(self, field, integer(values, field, default, low, high))
        rules = values.get("rules", {})
        if not isinstance(rules, dict):
            raise ConfigError("rules", "must be an object")
        for field, default, low, high in rows((RULES,)):
            setattr(self, field, integer(rules, field, default, low, high))
        check_rising({}, self)
        check_block_min(self.block_min)
        self.tariff = section(values, "tariff")
        self.calendar = section(values, "calendar") if "calendar" in values else None

    def creep_ua(self):
        """The current below which nothing registers, in uA."""
        return self.basic_current_ma * self.creep_ppm // 1000
