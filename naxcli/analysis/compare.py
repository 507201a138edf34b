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
from naxcli.search_space.domains import describe_domain
from naxcli.settings.toml import flat_settings
from naxcli.settings.units import format_duration

# What two runs may have spent equally much of, the one that the verdict begins with first.
CLOCKS = ("trials", "epochs", "seconds")
# Trials that take less than this together look up a table: their time says nothing.
MIN_SECONDS = 1.0
NUM_POINTS = 25
NUM_RESAMPLES = 400
# Fewer trials of a run at a point in time give no interval.
MIN_TRIALS = 3
# Names that a sentence lists before it counts the rest.
MAX_NAMED = 5
# Settings in which runs of the same study may differ without a cost meaning something else.
HARMLESS = (
    "run",
    "seed",
    "budget",
    "budget_evaluations",
    "cost",
    "trials",
    "workers",
    "cluster",
    "searcher",
    "random_share",
    "data_root",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run to compare.

    Args:
        name: What the verdict calls it.
        frame: Its trials, as in trials.parquet.
        configuration_space: Of their configurations.
        settings: Nested mappings.
        summary: If there is one.
        continues: Whether a promoted trial goes on from its parent's checkpoint, which no objective of a space's own does.
    """

    name: str
    frame: pd.DataFrame
    configuration_space: ConfigurationSpace
    settings: Mapping[str, Any]
    summary: Mapping[str, Any] | None = None
    continues: bool = True


def compare_runs(first: Run, second: Run, *, seed: int = 0) -> dict[str, Any]:
    """Return two runs side by side, in JSON values.

    The runs are compared after equal numbers of finished trials, equal epochs, and equal time in which trials ran. A promoted trial costs
    the epochs beyond those of the trial it continues, an infeasible one none, a stopped one those before it was, another failed one all
    it was given. Epochs are left out where every trial of both runs has the same fidelity, time where it is not recorded or under a second.

    Returns:
        `runs` (name, num_trials, fidelity, best, and what was spent: trials, epochs, seconds each), `settings` and `space` (name, first,
        second: what differs), `anytime` (clock -> at, first, first_low, first_high, second, second_low, second_high, difference, low,
        high at points of that clock; difference is first - second), `final` (clock -> the last such point), `importance` (name, method,
        first, second, is_resolved: None without intervals), and `verdict`, in words. The intervals of a curve come from trials drawn with
        replacement, that of a difference from a permutation test (see `shift_interval`).

    Raises:
        NaxcliError: if a table does not fit its space.
    """
    curves = (_Curve.of(first), _Curve.of(second))
    settings = differing_settings(first.settings, second.settings)
    space = _space_differences(first.configuration_space, second.configuration_space)
    anytime = {clock: _anytime(curves[0], curves[1], clock, seed=seed) for clock in _clocks(curves)}
    final = {clock: points[-1] for clock, points in anytime.items()}
    return {
        "runs": [
            {
                "name": run.name,
                "num_trials": len(run.frame),
                "fidelity": curve.fidelity,
                "best": float(curve.costs.min()) if len(curve.costs) else None,
                **{clock: curve.spent.get(clock) for clock in CLOCKS},
            }
            for run, curve in zip((first, second), curves, strict=True)
        ],
        "settings": settings,
        "space": space,
        "anytime": anytime,
        "final": final,
        "importance": _importance(first.summary, second.summary),
        "verdict": _verdict((first.name, second.name), curves, final=final, settings=settings, space=space),
    }


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings in which two experiments differ, nested ones as `a.b`; None where one lacks it."""
    flat = [flat_settings(settings) for settings in (first, second)]
    return [
        {"name": name, "first": flat[0].get(name), "second": flat[1].get(name)}
        for name in sorted(flat[0].keys() | flat[1].keys())
        if flat[0].get(name) != flat[1].get(name)
    ]


def _space_differences(first: ConfigurationSpace, second: ConfigurationSpace) -> list[dict[str, Any]]:
    """Return the hyperparameters that only one has (None in the other), or that differ; conditions and forbidden clauses likewise."""
    described = [
        {name: _describe(hyperparameter) for name, hyperparameter in space.items()}
        | {
            kind: "; ".join(sorted(map(str, rules)))
            for kind, rules in (("conditions", space.conditions), ("forbidden clauses", space.forbidden_clauses))
            if rules
        }
        for space in (first, second)
    ]
    return differing_settings(*described)


def _describe(hyperparameter: Any) -> str:
    kind = type(hyperparameter).__name__.removesuffix("Hyperparameter").removeprefix("Uniform").lower()
    return f"{kind} {describe_domain(hyperparameter)}, default {hyperparameter.default_value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """The successful trials of a run at its highest fidelity.

    Args:
        fidelity: Fidelity of these trials, None without any.
        costs: Costs of these trials, (num_trials,).
        clocks: clock -> (num_trials,) what the run had spent when each of them ended; without clocks that were not recorded.
        spent: clock -> what the whole run spent.
        is_one_fidelity: whether every trial of the run has the same one, and none continues another.
    """

    fidelity: float | None
    costs: Floats
    clocks: Mapping[str, Floats]
    spent: Mapping[str, float]
    is_one_fidelity: bool

    @classmethod
    def of(cls, run: Run) -> _Curve:
        table, _ = check_table(run.frame, run.configuration_space)
        rows = np.flatnonzero(is_full_fidelity(table))
        clocks = {
            "trials": np.arange(1.0, len(table) + 1),
            "epochs": np.cumsum(_epochs(table, continues=run.continues)),
            "seconds": active_elapsed(table),
        }
        # All trials of a table that was looked up, or none, may lack their times.
        known = {clock: spent for clock, spent in clocks.items() if np.isfinite(spent[rows]).all()}
        return cls(
            fidelity=float(table["fidelity"].iloc[rows[0]]) if len(rows) else None,
            costs=table["cost"].to_numpy(dtype=float)[rows],
            clocks={clock: spent[rows] for clock, spent in known.items()},
            spent={clock: float(np.nanmax(spent)) for clock, spent in known.items() if np.isfinite(spent).any()},
            is_one_fidelity=table["fidelity"].nunique() <= 1,
        )

    def until(self, clock: str, at: float) -> Floats:
        return self.costs[self.clocks[clock] <= at]


def _epochs(table: pd.DataFrame, *, continues: bool) -> Floats:
    """Return the epochs that each trial cost; see `compare_runs`."""
    fidelity = table["fidelity"].to_numpy(dtype=float)
    epochs = np.where((table["status"] == "infeasible").to_numpy(dtype=bool), 0.0, np.nan_to_num(fidelity))
    if "stopped_after" in table:
        epochs = np.fmin(epochs, table["stopped_after"].to_numpy(dtype=float))
    if continues and "parent_trial_id" in table and "trial_id" in table:
        of_trial = pd.Series(fidelity, index=table["trial_id"]).groupby(level=0).first()
        continued = of_trial.reindex(table["parent_trial_id"]).to_numpy(dtype=float)
        epochs = np.maximum(0.0, epochs - np.nan_to_num(continued))
    return epochs


def _clocks(curves: tuple[_Curve, _Curve]) -> list[str]:
    """Return the clocks by which two runs can be compared."""
    if not all(len(curve.costs) for curve in curves):
        return []
    left_out = set()
    if all(curve.is_one_fidelity for curve in curves) and curves[0].fidelity == curves[1].fidelity:
        left_out.add("epochs")
    if min(curve.spent.get("seconds", 0.0) for curve in curves) < MIN_SECONDS:
        left_out.add("seconds")
    return [clock for clock in CLOCKS if clock not in left_out and all(clock in curve.clocks for curve in curves)]


def _anytime(first: _Curve, second: _Curve, clock: str, *, seed: int) -> list[dict[str, Any]]:
    """Return the lowest cost of both at points of a clock from the first at which both have a result, to the last of the shorter run."""
    start = max(first.clocks[clock].min(), second.clocks[clock].min())
    # A run that ended before the other had its first result is compared at that result.
    stop = max(start, min(first.spent[clock], second.spent[clock]))
    points = np.geomspace(start, stop, NUM_POINTS) if stop > start else np.array([start])
    points[[0, -1]] = start, stop
    if clock == "trials":
        points = np.unique(points.round())
    rng = np.random.default_rng(seed)
    rows = []
    for at in points:
        row: dict[str, Any] = {"at": float(at)}
        costs = [first.until(clock, at), second.until(clock, at)]
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


def _is_apart(one: Mapping[str, float | None] | None, other: Mapping[str, float | None] | None) -> bool | None:
    edges = [None if row is None else row[key] for row in (one, other) for key in ("low", "high")]
    if any(edge is None for edge in edges):
        return None
    low, high, other_low, other_high = (float(edge) for edge in edges if edge is not None)
    return high < other_low or other_high < low


def _verdict(
    names: tuple[str, str],
    curves: tuple[_Curve, _Curve],
    *,
    final: Mapping[str, Mapping[str, Any]],
    settings: list[dict[str, Any]],
    space: list[dict[str, Any]],
) -> str:
    if not final:
        without = [name for name, curve in zip(names, curves, strict=True) if not len(curve.costs)]
        return f"Nothing to compare: no successful trial in {' and '.join(without)}."
    caveats = []
    if curves[0].fidelity != curves[1].fidelity:
        caveats.append(
            f"the highest fidelities differ ({curves[0].fidelity:g} and {curves[1].fidelity:g}), so costs mean different things"
        )
    if space:
        caveats.append(f"the spaces differ in {_first([entry['name'] for entry in space])}")
    other = [entry["name"] for entry in settings if entry["name"].split(".")[0] not in HARMLESS]
    if other:
        caveats.append(f"the settings differ in {_first(other)}")
    lead, *others = final
    sentences = [
        _judgement(names, final[lead], after=_after(lead, final[lead]["at"])),
        *(_aside(names, final[clock], after=_after(clock, final[clock]["at"])) for clock in others),
        "Each run is one sample of its search: the intervals cover the luck among its trials, not that of another seed.",
        *([f"Beware: {'; '.join(caveats)}."] if caveats else []),
    ]
    return " ".join(sentences)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _after(clock: str, at: float) -> str:
    if clock == "seconds":
        return f"{format_duration(at)} of running trials"
    return f"{at:,.0f} {clock if at != 1 else clock.removesuffix('s')}"


def _outcome(final: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return which run (0 or 1) is shown to be better, None where neither is, and the numbers, those of the better one first."""
    first, second, low, high = (final[key] for key in ("first", "second", "low", "high"))
    if low is None:
        return None, f"{first:.4g} against {second:.4g}, too few trials for an interval"
    if low <= 0 <= high:
        return None, f"{first:.4g} against {second:.4g}, difference {final['difference']:.3g} ({low:.3g} to {high:.3g})"
    costs = (first, second) if high < 0 else (second, first)
    least, most = sorted([abs(low), abs(high)])
    numbers = f"{costs[0]:.4g} against {costs[1]:.4g}, lower by {least:.3g} to {most:.3g} (95 % interval)"
    return int(low > 0), numbers


def _judgement(names: tuple[str, str], final: Mapping[str, Any], *, after: str) -> str:
    better, numbers = _outcome(final)
    if final["low"] is None:
        return f"Too few trials to say which run is better: after {after} each {numbers}."
    if better is None:
        return f"No difference between {names[0]} and {names[1]} is shown after {after} each: {numbers}."
    return f"{names[better]} found a lower cost than {names[1 - better]} after {after} each: {numbers}."


def _aside(names: tuple[str, str], final: Mapping[str, Any], *, after: str) -> str:
    better, numbers = _outcome(final)
    return (
        f"After {after} each: {'no difference shown' if better is None else f'{names[better]} is better'}, {numbers}."
    )
