"""The tools that the project needs and PyPI does not have: MicroPython and mosquitto.

`toolchain.locate` finds them, `toolchain.fetch` brings them into the project's folder. Both use
the standard library only, because `make` runs them before the virtual environment exists.
Tests: `pytest host_tests/unit/test_toolchain.py`.
"""
