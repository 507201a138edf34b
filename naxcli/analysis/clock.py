"""When trials ran, on a clock that only goes forward.

Rows of a table are in the order in which the trials ended, whatever the machine's clock said: it may have been set back during a run.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from naxcli.analysis.encoding import Floats


def column_of(table: pd.DataFrame, name: str) -> Floats:
    """Return a column of numbers, all NaN where the table lacks it."""
    return table[name].to_numpy(dtype=float) if name in table else np.full(len(table), np.nan)


def steady_times(table: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return when each trial started and ended, as recorded unless the clock was set back.

    A trial that ended, by its times, before an earlier row had started was timed by a clock that had been set back. It then counts
    as ended when the last trial before it had, and so do the later trials of that clock relative to it.

    Args:
        table: trials in the order in which they ended, with `started_at` and `ended_at` where they are known.
    """
    started, ended = column_of(table, "started_at"), column_of(table, "ended_at")
    known = np.flatnonzero(np.isfinite(started) & np.isfinite(ended))
    latest_start = np.maximum.accumulate(started[known])
    if not (ended[known][1:] < latest_start[:-1]).any():
        return started, ended
    started, ended = started.copy(), ended.copy()
    shifts = [0.0]
    last_start = last_end = -np.inf
    for row in known:
        # A trial that began before the clock was set back, and ended after, keeps the times of its own clock.
        shift = next((shift for shift in shifts if ended[row] + shift >= last_start), last_end - ended[row])
        if shift > shifts[-1]:
            shifts.append(shift)
        started[row] += shift
        ended[row] += shift
        last_start, last_end = max(last_start, started[row]), max(last_end, ended[row])
    return started, ended


def elapsed_seconds(table: pd.DataFrame) -> Floats:
    """Return the seconds from the start of the first trial to the end of each, NaN where they are not known."""
    started, ended = steady_times(table)
    known = started[np.isfinite(started)]
    return ended - known.min() if len(known) else np.full(len(table), np.nan)
