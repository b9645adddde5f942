"""`select` of the emulated ESP32: waiting for streams takes simulated time.

Streams may be wrappers of real ones: `emu_real` is the stream to poll, and `emu_visible()`, where
it exists, says whether its readiness may show (Wi-Fi away: it may not).
"""

import uselect
from emu import clock, control

POLLIN = uselect.POLLIN
POLLOUT = uselect.POLLOUT
POLLERR = uselect.POLLERR
POLLHUP = uselect.POLLHUP


class poll:
    def __init__(self):
        self._real = uselect.poll()
        self._wrappers = {}  # id of the real stream: [wrapper, mask, shown]
        clock.attach(self._real)

    def register(self, obj, eventmask=POLLIN | POLLOUT):
        real = getattr(obj, "emu_real", None)
        if real is None:
            self._real.register(obj, eventmask)
            return
        self._real.register(real, eventmask)
        self._wrappers[id(real)] = [obj, eventmask, True]

    def modify(self, obj, eventmask):
        real = getattr(obj, "emu_real", None)
        if real is None:
            self._real.modify(obj, eventmask)
            return
        entry = self._wrappers.get(id(real))
        if entry is None:
            raise OSError(2)  # ENOENT, as the built-in
        entry[1] = eventmask
        if entry[2]:
            self._real.modify(real, eventmask)

    def unregister(self, obj):
        real = getattr(obj, "emu_real", None)
        if real is None:
            self._real.unregister(obj)
            return
        entry = self._wrappers.pop(id(real), None)
        if entry is not None and entry[2]:
            self._real.unregister(real)

    def poll(self, timeout=-1, flags=0):
        return list(self.ipoll(timeout))

    def ipoll(self, timeout=-1, flags=0):
        """Iterate (stream, events); timeout in simulated ms, -1: for ever."""
        if timeout is None or timeout < 0:
            until = None
        else:
            until = clock.now_ms() + timeout
        found = self._ready()
        if not found and timeout == 0:
            clock.look()
        elif not found:
            while not found and clock.idle(until, self._real):
                found = self._ready()
                if until is not None and clock.now_ms() >= until:
                    break
            else:
                found = found or self._ready()
        return iter(found)

    def _ready(self):
        """What is ready now; commands and Ctrl-C of the supervisor are served on the way."""
        for entry in self._wrappers.values():
            self._show(entry)
        found = ()
        stale = arrived = False
        # The built-in ipoll reuses its tuple: each is copied.
        for item in self._real.ipoll(0):
            obj = item[0]
            if obj is control.socket:
                arrived = True
            elif obj is clock.socket:
                stale = True
            else:
                if self._wrappers:
                    entry = self._wrappers.get(id(obj))
                    if entry is not None:
                        obj = entry[0]
                if not found:
                    found = []
                found.append((obj, item[1]))
        if stale:
            clock.drop_stale()
        if arrived or control.waiting():
            control.pump(arrived)
        return found

    def _show(self, entry):
        """Take a stream out of the real poll set while its readiness must not show."""
        visible = getattr(entry[0], "emu_visible", None)
        shown = visible is None or visible()
        if shown != entry[2]:
            entry[2] = shown
            real = entry[0].emu_real
            if shown:
                self._real.register(real, entry[1])
            else:
                self._real.unregister(real)


def select(readers, writers, errors, timeout=None):
    """As the built-in: three lists of what is ready; timeout in s, None: for ever."""
    poller = poll()
    masks = {}
    for streams, mask in ((readers, POLLIN), (writers, POLLOUT), (errors, 0)):
        for stream in streams:
            old = masks.get(id(stream), (stream, 0))[1]
            masks[id(stream)] = (stream, old | mask)
    for stream, mask in masks.values():
        poller.register(stream, mask)
    ready = {}
    for stream, events in poller.ipoll(-1 if timeout is None else int(timeout * 1000)):
        ready[id(stream)] = events
    bad = POLLERR | POLLHUP
    return (
        [s for s in readers if ready.get(id(s), 0) & (POLLIN | bad)],
        [s for s in writers if ready.get(id(s), 0) & (POLLOUT | bad)],
        [s for s in errors if ready.get(id(s), 0) & bad],
    )
