"""Two runs side by side: settings that differ, anytime curves with intervals, importance, and a plain verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ConfigSpace import ConfigurationSpace

from naxcli.analysis.anytime import active_elapsed, is_full_fidelity
from naxcli.analysis.audit import shift_interval
from naxcli.analysis.encoding import Floats
from naxcli.analysis.table import check_table

NUM_POINTS = 25
NUM_RESAMPLES = 400
# Fewer trials of a run at a point in time give no interval.
MIN_TRIALS = 3
# Settings in which runs of the same study may differ without a cost meaning something else.
HARMLESS = ("run", "seed", "budget", "trials", "workers", "cluster", "searcher", "random_share", "data_root")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run to compare: its trials (as in trials.parquet), space, settings (nested mappings), and summary if there is one."""

    name: str
    frame: pd.DataFrame
    configuration_space: ConfigurationSpace
    settings: Mapping[str, Any]
    summary: Mapping[str, Any] | None = None


def compare_runs(first: Run, second: Run, *, seed: int = 0) -> dict[str, Any]:
    """Return two runs side by side, in JSON values.

    Returns:
        `runs` (name, num_trials, fidelity, best, and active `seconds` each), `settings` (name, first, second: those that differ),
        `space` (hyperparameters that only one has, or whose values differ), `anytime` (seconds, first, first_low, first_high, second,
        second_low, second_high, difference, low, high at points in active time; difference is first - second), `final` (the last
        such point), `importance` (name, method, first, second, is_resolved), and `verdict`, in words. The intervals of a curve come
        from trials drawn with replacement, that of a difference from a permutation test (see `shift_interval`).

    Raises:
        NaxcliError: if a table does not fit its space.
    """
    curves = [_Curve.of(run) for run in (first, second)]
    settings = differing_settings(first.settings, second.settings)
    space = _space_differences(first.configuration_space, second.configuration_space)
    anytime = _anytime(curves[0], curves[1], seed=seed)
    final = anytime[-1] if anytime else None
    return {
        "runs": [
            {
                "name": run.name,
                "num_trials": len(run.frame),
                "fidelity": curve.fidelity,
                "best": float(curve.costs.min()) if len(curve.costs) else None,
                "seconds": float(curve.seconds.max()) if len(curve.costs) and curve.has_times else None,
            }
            for run, curve in zip((first, second), curves, strict=True)
        ],
        "settings": settings,
        "space": space,
        "anytime": anytime,
        "final": final,
        "importance": _importance(first.summary, second.summary),
        "verdict": _verdict(first.name, second.name, curves, final=final, settings=settings, space=space),
    }


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings in which two experiments differ, nested ones as `a.b`; None where one lacks it."""
    flat = [_flatten(settings) for settings in (first, second)]
    return [
        {"name": name, "first": flat[0].get(name), "second": flat[1].get(name)}
        for name in sorted(flat[0].keys() | flat[1].keys())
        if flat[0].get(name) != flat[1].get(name)
    ]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _space_differences(first: ConfigurationSpace, second: ConfigurationSpace) -> list[str]:
    return sorted(
        name
        for name in {*first, *second}
        if name not in first or name not in second or str(first[name]) != str(second[name])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """The successful trials of a run at its highest fidelity, in the order in which they ended.

    `seconds` is active time, or the number of trials that had ended where the table has no times.
    """

    fidelity: float | None
    seconds: Floats
    costs: Floats
    has_times: bool

    @classmethod
    def of(cls, run: Run) -> _Curve:
        table, _ = check_table(run.frame, run.configuration_space)
        elapsed = active_elapsed(table)
        rows = np.flatnonzero(is_full_fidelity(table))
        has_times = len(rows) > 0 and bool(np.isfinite(elapsed[rows]).all())
        seconds = elapsed[rows] if has_times else np.arange(1.0, len(rows) + 1)
        order = np.argsort(seconds, kind="stable")
        return cls(
            fidelity=float(table["fidelity"].iloc[rows[0]]) if len(rows) else None,
            seconds=seconds[order],
            costs=table["cost"].to_numpy(dtype=float)[rows][order],
            has_times=has_times,
        )

    def until(self, seconds: float) -> Floats:
        return self.costs[self.seconds <= seconds]


def _anytime(first: _Curve, second: _Curve, *, seed: int) -> list[dict[str, Any]]:
    """Return the lowest cost of both at points in time from the first that both have a result, to the last that both ran."""
    if not len(first.costs) or not len(second.costs) or first.has_times != second.has_times:
        return []
    start = max(first.seconds[0], second.seconds[0])
    stop = min(first.seconds[-1], second.seconds[-1])
    # A run that ended before the other had its first result is compared at that result.
    points = np.geomspace(start, stop, NUM_POINTS) if stop > start else np.array([start])
    points[-1] = max(start, stop)
    rng = np.random.default_rng(seed)
    rows = []
    for seconds in points:
        row: dict[str, Any] = {"seconds": float(seconds)}
        costs = [first.until(seconds), second.until(seconds)]
        for name, here in zip(("first", "second"), costs, strict=True):
            low, high = _best_interval(here, rng)
            row |= {name: float(here.min()), f"{name}_low": low, f"{name}_high": high}
        row["difference"] = row["first"] - row["second"]
        row["low"], row["high"] = shift_interval(*costs) if min(map(len, costs)) >= MIN_TRIALS else (None, None)
        rows.append(row)
    return rows


def _best_interval(costs: Floats, rng: np.random.Generator) -> tuple[float | None, float | None]:
    if len(costs) < MIN_TRIALS:
        return None, None
    bests = rng.choice(costs, (NUM_RESAMPLES, len(costs))).min(axis=1)
    low, high = np.percentile(bests, [2.5, 97.5])
    return float(low), float(high)


def _importance(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return LPI and fANOVA mains of both runs at their highest fidelities; resolved where the intervals do not overlap."""
    if first is None or second is None:
        return []
    tables = [_mains(summary) for summary in (first, second)]
    rows = []
    for method, name in sorted(tables[0].keys() | tables[1].keys()):
        one, other = (table.get((method, name)) for table in tables)
        rows.append(
            {"name": name, "method": method, "first": one, "second": other, "is_resolved": _is_apart(one, other)}
        )
    return rows


def _mains(summary: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, float | None]]:
    entries = [entry for entry in summary["importance"] if entry["note"] is None]
    if not entries:
        return {}
    entry = max(entries, key=lambda entry: float(entry["fidelity"]))
    named = [("lpi", row["name"], row) for row in entry["lpi"]]
    named += [("fanova", row["names"][0], row) for row in entry["fanova"] if len(row["names"]) == 1]
    return {(method, name): {key: row[key] for key in ("mean", "std", "low", "high")} for method, name, row in named}


def _is_apart(one: Mapping[str, float | None] | None, other: Mapping[str, float | None] | None) -> bool:
    edges = [None if row is None else row[key] for row in (one, other) for key in ("low", "high")]
    if any(edge is None for edge in edges):
        return False
    low, high, other_low, other_high = (float(edge) for edge in edges if edge is not None)
    return high < other_low or other_high < low


def _verdict(
    first: str,
    second: str,
    curves: list[_Curve],
    *,
    final: Mapping[str, Any] | None,
    settings: list[dict[str, Any]],
    space: list[str],
) -> str:
    if not all(len(curve.costs) for curve in curves):
        without = " and ".join(
            name for name, curve in zip((first, second), curves, strict=True) if not len(curve.costs)
        )
        return f"Nothing to compare: no successful trial in {without}."
    if final is None:
        return "Nothing to compare: one of the runs has no times."
    caveats = []
    if curves[0].fidelity != curves[1].fidelity:
        caveats.append(
            f"the highest fidelities differ ({curves[0].fidelity:g} and {curves[1].fidelity:g}), so costs mean different things"
        )
    if space:
        caveats.append(f"the spaces differ in {', '.join(space)}")
    other = [entry["name"] for entry in settings if entry["name"].split(".")[0] not in HARMLESS]
    if other:
        caveats.append(f"the settings differ in {', '.join(other)}")
    unit = f"{final['seconds']:.0f} s of search" if curves[0].has_times else f"{final['seconds']:.0f} trials"
    numbers = f"{final['first']:.4g} against {final['second']:.4g} after {unit} each"
    if final["low"] is None:
        verdict = f"Too few trials to say which run is better: {numbers}."
    elif final["low"] <= 0 <= final["high"]:
        verdict = f"No difference between {first} and {second} is shown: {numbers}"
        verdict += f", difference {final['difference']:.3g} ({final['low']:.3g} to {final['high']:.3g})."
    else:
        better, worse = (first, second) if final["high"] < 0 else (second, first)
        low, high = sorted([abs(final["low"]), abs(final["high"])])
        verdict = (
            f"{better} found a lower cost than {worse}: {numbers}, lower by {low:.3g} to {high:.3g} (95 % interval)."
        )
    return verdict + (f" Beware: {'; '.join(caveats)}." if caveats else "")
