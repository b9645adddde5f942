"""`socket` of the emulated ESP32: the host's sockets, reachable only over the emulated Wi-Fi.

While the station is not joined, names are not found, nothing connects, and open sockets are
half-open: they neither send nor receive, and their readiness does not show (`emu_visible()`, asked
by emulated `select`). They work on after a short loss; after a long one, or after the station
left on its own, they fail with ECONNRESET at the next use.

The class is a stream (io.IOBase), so that `tls` can wrap it; `emu_real` is the host's socket.
Tests: host_tests/vm/test_shims.py.
"""

import errno
import io

import emu
import network
import uselect
import usocket
from emu import clock, wiring

AF_INET = usocket.AF_INET
AF_INET6 = usocket.AF_INET6
SOCK_STREAM = usocket.SOCK_STREAM
SOCK_DGRAM = usocket.SOCK_DGRAM
SOL_SOCKET = usocket.SOL_SOCKET
SO_REUSEADDR = usocket.SO_REUSEADDR
SO_BROADCAST = usocket.SO_BROADCAST
SO_KEEPALIVE = usocket.SO_KEEPALIVE
IPPROTO_TCP = 6
TCP_NODELAY = 1

_NAME_NOT_FOUND = -202  # lwIP's EAI_FAIL, what the ESP32 raises without a network

_NAME_PORTS = (53, 5353)  # DNS, multicast DNS

# Requests of the stream protocol (py/stream.h).
_POLL = 3
_CLOSE = 4


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    """As the host's; without Wi-Fi OSError(-202) for a name, numbers need no network."""
    if not host[:1].isdigit() and not network.online():
        raise OSError(_NAME_NOT_FOUND)
    return usocket.getaddrinfo(host, port, af or AF_INET, type or SOCK_STREAM)


class socket(io.IOBase):
    """A socket behind the emulated Wi-Fi; see the module's text."""

    def __init__(self, af=AF_INET, type=SOCK_STREAM, proto=0, real=None):
        self.emu_real = real or usocket.socket(af, type)
        self._outage = wiring.air.outage
        self._blocking = True
        self._unheard = 0
        self._poller = None

    # What the emulator asks.

    def emu_visible(self):
        """May its readiness be seen? A connection that has died shows itself by an error."""
        return network.online()

    def _reachable(self):
        """False while the Wi-Fi is away. OSError on a connection that did not outlive that."""
        if not network.online():
            if self._blocking:
                raise OSError(errno.ETIMEDOUT)  # waiting here would stop time for ever
            return False
        if self._outage != wiring.air.outage:
            raise OSError(errno.ECONNRESET)
        return True

    # Connection.

    def connect(self, address):
        """EHOSTUNREACH without Wi-Fi; else as the host's."""
        if not network.online():
            raise OSError(errno.EHOSTUNREACH)
        self._outage = wiring.air.outage
        clock.tell()
        self.emu_real.connect(address)

    def bind(self, address):
        """As the host's."""
        self.emu_real.bind(address)

    def listen(self, backlog=2):
        """As the host's."""
        self.emu_real.listen(backlog)

    def accept(self):
        """(socket, address) of a peer; EAGAIN without Wi-Fi."""
        if not network.online():
            raise OSError(errno.EAGAIN)
        real, address = self.emu_real.accept()
        return socket(real=real), address

    def close(self):
        """As the host's; closing twice does no harm."""
        clock.tell()
        wiring.air.silent -= self._unheard
        self._unheard = 0
        self.emu_real.close()

    def fileno(self):
        """The host's file number."""
        return self.emu_real.fileno()

    def setblocking(self, flag):
        """As the host's."""
        self._blocking = bool(flag)
        self.emu_real.setblocking(flag)

    def settimeout(self, seconds):
        """As the host's: a wait in real time, so better not to wait."""
        self._blocking = seconds is None or seconds > 0
        self.emu_real.settimeout(seconds)

    def setsockopt(self, level, name, value):
        """As the host's, which wants integers for flags."""
        self.emu_real.setsockopt(level, name, value)

    # Data. None stands for "would block", as in MicroPython's streams.

    def readinto(self, buf, nbytes=-1):
        """As the host's."""
        if not self._reachable():
            return None
        return self.emu_real.readinto(buf) if nbytes < 0 else self.emu_real.readinto(buf, nbytes)

    def read(self, size=-1):
        """As the host's."""
        return self.emu_real.read(size) if self._reachable() else None

    def readline(self, size=-1):
        """As the host's."""
        return self.emu_real.readline() if self._reachable() else None

    def write(self, buf, size=-1):
        """As the host's: number of bytes taken."""
        if not self._reachable():
            return None
        clock.tell()
        return self.emu_real.write(buf if size < 0 else memoryview(buf)[:size])

    def send(self, buf):
        """As the host's; EAGAIN instead of waiting."""
        if not self._reachable():
            raise OSError(errno.EAGAIN)
        clock.tell()
        return self.emu_real.send(buf)

    def sendall(self, buf):
        """Sends all of it; for blocking sockets."""
        while buf:
            buf = buf[self.send(buf) :]

    def sendto(self, buf, address):
        """A datagram; lost in silence without Wi-Fi, as in the air. Questions for a name go to the
        supervisor, unless the knob `dns` is off."""
        if not network.online():
            return len(buf)
        clock.tell()
        if usocket.sockaddr(address)[2] in _NAME_PORTS:
            if not wiring.knobs["dns"]:
                self._unheard += 1
                wiring.air.silent += 1
                return len(buf)
            address = usocket.getaddrinfo("127.0.0.1", emu.settings["dns_port"])[0][-1]
        return self.emu_real.sendto(buf, address)

    def recv(self, size):
        """As the host's; EAGAIN instead of waiting."""
        if not self._reachable():
            raise OSError(errno.EAGAIN)
        return self.emu_real.recv(size)

    def recvfrom(self, size):
        """As the host's; EAGAIN instead of waiting."""
        if not network.online():
            raise OSError(errno.EAGAIN)
        return self.emu_real.recvfrom(size)

    def makefile(self, mode="rb", buffering=0):
        """The socket is its own stream."""
        return self

    def ioctl(self, request, argument):
        """Stream protocol, for `tls` around this socket and the built-in poll."""
        if request == _POLL:
            if not network.online():
                return 0
            if self._poller is None:  # kept: `tls` asks again and again
                self._poller = uselect.poll()
            self._poller.register(self.emu_real, argument)
            for _, events in self._poller.ipoll(0):
                return events
            return 0
        if request == _CLOSE:
            self.close()
            return 0
        return -1
