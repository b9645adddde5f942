"""Flashed as /main.py: runs the meter."""

import gc

# Before anything is loaded: collecting early keeps the heap in one piece.
gc.threshold(8192)

import firmware.main

firmware.main.run()
