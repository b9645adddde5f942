"""Changes of keys and link settings, step by step; each function takes the Credentials.

What came by order counts while `config.json` holds what it was made from; a key or link settings
that were put there by hand win. docs/SPEC.md sections 2.7, 2.8 and 5.8. Tests:
host_tests/unit/test_credentials.py.
"""

import binascii
import hashlib
import json

from firmware.core import events
from firmware.core.sealing import SALT_BYTES, SealError, next_key, unseal
from firmware.link import codec
from firmware.link.rotation import Rotation

_LINK_CHANGE = 0  # details of the events
_KEY_CHANGE = 1
LINK = (
    "wifi_ssid",
    "wifi_password",
    "broker_host",
    "broker_port",
    "broker_user",
    "broker_password",
    "broker_ca",
)
"""Attributes of Config that are link settings, in the order of core.settings.merge_link."""

_TRIALS = "trials"  # in NVS


def _hex(raw):
    return str(binascii.hexlify(raw), "ascii")


def _mark(raw):
    return _hex(hashlib.sha256(raw).digest()[:8])


def link_in_use(credentials):
    """The link settings in use, in the order of LINK."""
    return [getattr(credentials.config, name) for name in LINK]


def _use(credentials, link):
    for name, value in zip(LINK, link):
        setattr(credentials.config, name, value)


def _read(credentials):
    """What orders have changed, as far as it counts: a dict as in SPEC section 5.8."""
    kept = (credentials.slots().read() if credentials.slots else None) or {}
    for of, mark, names in zip(
        ("key_of", "link_of"), credentials.marks, (("key", "next"), ("link", "trial"))
    ):
        if kept.get(of) != mark:
            kept[of] = mark
            for name in names:
                kept.pop(name, None)
    return kept


def _write(credentials, **changes):
    """Changes members of what is kept, None takes one out. On flash on return."""
    kept = _read(credentials)
    kept.update(changes)
    credentials.slots().write({name: kept[name] for name in kept if kept[name] is not None})


def begin(credentials):
    """At the start: takes what is on flash over what the configuration says."""
    config = credentials.config
    credentials.marks = (_mark(config.key), _mark(codec.encode(link_in_use(credentials))))
    kept = _read(credentials)
    if "key" in kept:
        names = ("key", "next") if "next" in kept else ("key",)
        credentials.keys = [binascii.unhexlify(kept[name]) for name in names]
    if "link" in kept:
        _use(credentials, kept["link"])
    if "trial" in kept:
        try:
            trials = credentials.nvs.get_i32(_TRIALS)
        except OSError:
            trials = 0  # NVS was erased
        credentials.rotation = Rotation(trials)


def new_key(credentials, salt):
    """Keeps the key that follows beside the one in force."""
    # An order is signed under keys[0]: one under the key that waits would have put it there.
    key = credentials.keys[0]
    new = next_key(key, salt)
    _write(credentials, key=_hex(key), next=_hex(new))
    credentials.keys = [key, new]


def take_key(credentials, order):
    """Executes a `key` order; CodecError for a wrong member, before anything is written."""
    try:
        salt = binascii.unhexlify(order.get("salt"))
    except (ValueError, TypeError):
        salt = b""
    if len(salt) != SALT_BYTES:
        raise codec.CodecError("salt", "must be 64 hex digits")
    new_key(credentials, salt)


def take_link(credentials, order):
    """Executes a `link` order; CodecError or ConfigError for a wrong member."""
    try:
        document = json.loads(unseal(credentials.keys[0], order.get("sealed")))
    except SealError as error:
        raise codec.CodecError("sealed", str(error))
    except (ValueError, RuntimeError, TypeError, OverflowError):
        raise codec.CodecError("sealed", "must hold JSON")
    from firmware.core.settings import merge_link  # brings the checks of the configuration along

    try_link(credentials, merge_link(document, link_in_force(credentials)))


def key_works(credentials):
    """The new key was used: drops the old one."""
    _write(credentials, key=_hex(credentials.keys[1]), next=None)
    credentials.keys.pop(0)
    credentials.report(events.CHANGE_WORKS, _KEY_CHANGE)


def _keep_trials(credentials, trials):
    credentials.nvs.set_i32(_TRIALS, trials)
    credentials.nvs.commit()


def link_in_force(credentials):
    """The link settings that count, whatever is on trial."""
    return _read(credentials).get("link") or link_in_use(credentials)


def try_link(credentials, link):
    """Keeps link settings beside those in force, and tries them with the next connection."""
    _keep_trials(credentials, 0)
    _write(credentials, link=link_in_force(credentials), trial=link)
    credentials.rotation = Rotation()


def other_link(credentials, up_s):
    """Uses the other link settings, as the rotation says; False if it does not."""
    rotation = credentials.rotation
    if not rotation.choose(up_s):
        return False
    link = _read(credentials).get("trial" if rotation.trying else "link")
    if link is None:  # the flash lost it: go on with what is in use
        credentials.rotation = None
        return False
    _use(credentials, link)
    if rotation.trying:
        _keep_trials(credentials, rotation.trials)
    return True


def gateway_met(credentials):
    """Ends the trial, if that is the moment: the new link settings are kept or given up."""
    rotation = credentials.rotation
    if rotation.trying:
        _write(credentials, link=link_in_use(credentials), trial=None)
        code = events.CHANGE_WORKS
    elif rotation.given_up():
        _write(credentials, trial=None)
        code = events.CHANGE_GIVEN_UP
    else:
        return
    credentials.rotation = None
    credentials.report(code, _LINK_CHANGE)
