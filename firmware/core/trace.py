"""Where an exception was raised, from its traceback. Loaded when one was.

Tests: host_tests/unit/test_storage_faults.py.
"""

import io
import sys


def text(error):
    """The traceback of an exception as the console shows it."""
    stream = io.StringIO()
    if hasattr(sys, "print_exception"):
        sys.print_exception(error, stream)
    else:
        import traceback

        traceback.print_exception(error, file=stream)
    return stream.getvalue()


def place(trace):
    """`file:line` of the innermost frame inside the firmware, `unknown` if there is none."""
    found = "unknown"
    for line in trace.split("\n"):
        at = line.find("firmware/")
        if line.strip().startswith("File ") and at >= 0:
            name, _quote, rest = line[at:].partition('"')
            number = rest.split(",")[1].strip().split(" ")[1]
            found = name[len("firmware/") :] + ":" + number
    return found
