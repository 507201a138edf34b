"""What each command does, without a terminal: the Python API of `docs/python.md`."""
