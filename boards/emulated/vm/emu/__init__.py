"""The emulator's own side of the interpreter; nothing in here is seen by the firmware.

`settings` is what the supervisor told at the start of this run (see boards/emulated/README.md):
`name`, `reset_cause`, `raw`, `kept` (hardware state that outlived the last run), `seed`, and the
world's settings. It is filled once, before any chip model is imported.
"""

settings = {}
