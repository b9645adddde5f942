"""Class-1-shaped DC test: the meter's energy against the truth, on a sensor at its worst.

`make bench-accuracy` (ACCURACY_ARGS="--short"). The firmware runs on the 32-bit MicroPython from
the ROM image; the chip model has the datasheet's largest errors. The limits are those of
IEC 62053-21, class 1, a standard for alternating current on mains: this is a direct-current test
that borrows its shape, no statement of conformity. Some chips are a test:
host_tests/vm/test_accuracy.py.
"""
