"""Side-by-side measurements: each module runs by `python -m benchmarks.NAME` and prints what it measured."""
