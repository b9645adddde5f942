# Entry of the emulated board's interpreter, started by the supervisor as
# `micropython boot.py CONTROL_PORT`. The namespace of this file is the `__main__` of the firmware
# and of the REPL, so nothing else is left in it.
import sys

sys.path[:] = [sys.path[0], ".frozen"]
import emu.start

emu.start.prepare(int(sys.argv[1]), globals())
del sys, emu, __file__
go()  # noqa: F821  put here by prepare(); it removes its own name
