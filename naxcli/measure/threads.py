"""How many threads array arithmetic uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS compute in one thread: its sums then have one order on every machine, and it does not wait for threads beside it."""
    with threadpool_limits(1, user_api="blas"):
        yield
