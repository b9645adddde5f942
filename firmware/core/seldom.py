"""Modules that are needed seldom, so that a chip's heap does not keep them.

Whoever needs one imports it in the function that does, and drops it behind that.
"""

import sys


def drop(name):
    """Forgets a module (full name) if it is loaded; the next import loads it anew.

    On CPython it stays: there is no heap to be saved, and reading it again takes long.
    """
    if sys.implementation.name == "micropython" and name in sys.modules:
        package, _dot, last = name.rpartition(".")
        del sys.modules[name]
        delattr(sys.modules[package], last)
