"""What the meter and its gateway cost, each figure beside a named baseline of the same run.

`make bench` (BENCH_ARGS="--quick sample journal"). One module per group of rows; `vm/` holds what
runs on MicroPython. Nothing here passes or fails, and no test judges a time:
host_tests/unit/test_bench_smoke.py runs each row's code once.
"""
