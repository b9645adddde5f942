"""`network` of the emulated ESP32: a station that joins and loses an access point.

Joining takes JOIN_MS of simulated time. The access point takes any name and key unless the
board's settings name `wifi_ssid` and `wifi_key`. Like the chip, the station tries again for ever
(status STAT_CONNECTING) unless `config(reconnects=N)` limits it; then the reason remains.
Tests: host_tests/vm/test_shims.py.
"""

import emu
from emu import clock, wiring

STA_IF = 0
AP_IF = 1

STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202
STAT_BEACON_TIMEOUT = 200
STAT_ASSOC_FAIL = 203
STAT_HANDSHAKE_TIMEOUT = 204

AUTH_OPEN = 0
AUTH_WPA_PSK = 2
AUTH_WPA2_PSK = 3

JOIN_MS = 2_500
ATTEMPT_MS = 3_000  # one attempt that fails

_hostname = "mpy-esp32"
_country = "XX"


class WLAN:
    """The station interface. Every object of it is the same radio, as on the chip."""

    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    _active = False
    _requested_ms = None  # when connect() was called, None: not wanted
    _ssid = ""
    _key = ""
    _reconnects = -1
    _lost_ms = 0
    _options = {"pm": 1, "channel": 6, "txpower": 20}

    def __init__(self, interface_id=STA_IF):
        if interface_id != STA_IF:
            raise ValueError("the emulated board has a station interface only")

    def active(self, on=None):
        """Is the radio on? With an argument, switches it."""
        if on is not None and bool(on) != WLAN._active:
            WLAN._active = bool(on)
            if not on:
                self._leave()
        return WLAN._active

    def connect(self, ssid=None, key=None, *, bssid=None):
        """Starts joining; the result shows in `status()` and `isconnected()`."""
        if not WLAN._active:
            raise OSError("Wifi Not Started")
        if WLAN._requested_ms is not None and not self.isconnected() and not self._gave_up():
            raise OSError("Wifi Internal State Error")  # still connecting
        if ssid is not None:
            WLAN._ssid = ssid
            WLAN._key = key or ""
        WLAN._requested_ms = clock.now_ms()

    def disconnect(self):
        """Leaves the access point and does not come back."""
        if not WLAN._active:
            raise OSError("Wifi Not Started")
        self._leave()

    def _leave(self):
        if self.isconnected():
            wiring.air.outage += 1
        WLAN._requested_ms = None

    def isconnected(self):
        """Joined, with an address."""
        return online()

    def status(self, param=None):
        """STAT_*; `status("rssi")` in dBm."""
        if param == "rssi":
            if not online():
                raise OSError("Wifi Not Connected")
            return -58
        if param is not None:
            raise ValueError("unknown status param")
        if online():
            return STAT_GOT_IP
        if WLAN._requested_ms is None:
            return STAT_IDLE
        return self._reason() if self._gave_up() else STAT_CONNECTING

    def _gave_up(self):
        """Have all allowed attempts failed?"""
        if WLAN._reconnects < 0:
            return False
        since_ms = WLAN._requested_ms
        if not wiring.air.there:
            since_ms = max(since_ms, wiring.air.since_ms)
        elif not _refusal():
            return False
        return clock.now_ms() - since_ms >= ATTEMPT_MS * (1 + WLAN._reconnects)

    def _reason(self):
        return STAT_NO_AP_FOUND if not wiring.air.there else _refusal()

    def scan(self):
        """[(ssid, bssid, channel, rssi, security, hidden)] of the one access point."""
        if not WLAN._active:
            raise OSError("STA must be active")
        if not wiring.air.there:
            return []
        name = emu.settings.get("wifi_ssid") or "emulated"
        return [(name.encode(), b"\x02\x00\x00\x00\x00\x01", 6, -58, AUTH_WPA2_PSK, False)]

    def config(self, param=None, **changes):
        """Reads one parameter by name, or sets by keyword."""
        if param is None:
            for name, value in changes.items():
                if name == "reconnects":
                    WLAN._reconnects = value
                elif name in ("dhcp_hostname", "hostname"):
                    hostname(value)
                elif name in WLAN._options:
                    WLAN._options[name] = value
                else:
                    raise ValueError("unknown config param")
            return None
        if param == "mac":
            return bytes.fromhex(emu.settings.get("unique_id", "246f28000001"))
        if param in ("ssid", "essid"):
            return WLAN._ssid
        if param == "reconnects":
            return WLAN._reconnects
        if param in ("dhcp_hostname", "hostname"):
            return _hostname
        if param in WLAN._options:
            return WLAN._options[param]
        raise ValueError("unknown config param")

    def ifconfig(self, config=None):
        """(address, netmask, gateway, DNS server)."""
        if config is not None:
            return None  # static addresses change nothing on the loopback
        if online():
            return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
        return ("0.0.0.0",) * 4

    def ipconfig(self, param=None, **changes):
        """As `ifconfig`, one value at a time."""
        if param is None:
            return None
        address, netmask, gateway, _ = self.ifconfig()
        values = {"addr4": (address, netmask), "gw4": gateway, "dhcp4": True}
        values["has_dhcp4"] = online()
        if param not in values:
            raise ValueError("unexpected key: " + param)
        return values[param]


def _refusal():
    """STAT_* of why this access point refuses the station, 0 if it does not."""
    wanted = emu.settings.get("wifi_ssid")
    if wanted and WLAN._ssid != wanted:
        return STAT_NO_AP_FOUND
    key = emu.settings.get("wifi_key")
    if key and WLAN._key != key:
        return STAT_WRONG_PASSWORD
    return 0


def online():
    """Is the station joined at this instant? A function of time: nothing has to be awaited."""
    if WLAN._requested_ms is None or not wiring.air.there or _refusal():
        return False
    return clock.now_ms() >= max(WLAN._requested_ms, wiring.air.since_ms) + JOIN_MS


def hostname(name=None):
    """The name given to the DHCP server."""
    global _hostname
    if name is None:
        return _hostname
    _hostname = name


def country(code=None):
    """Two letters; of no account here."""
    global _country
    if code is None:
        return _country
    _country = code
