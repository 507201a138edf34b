"""What the rank ratios of random layers say of three claims of Han et al. (CVPR 2021), and nuclear norms against accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr, t

from naxcli.analysis.audit import spearman_interval
from naxcli.analysis.encoding import Floats

CONFIDENCE = 0.95
# Ends of the parts of the range of d_in / d_out that the table shows.
RATIO_ENDS = (0.0, 0.4, 0.7, 1.0)
AGREES, DISAGREES, UNDECIDED, SATURATED = "agrees", "disagrees", "undecided", "cannot tell: all are equal"
CLAIMS = {
    "expands": "every activation expands the rank of the linear layer",
    "rises": "the rank ratio rises with the ratio of channels, with every activation",
    "smooth": "SiLU and ELU expand the rank more than ReLU and ReLU6",
}
MIN_PAIRS = 4


def rank_ratios_by_part(measured: pd.DataFrame) -> list[dict[str, Any]]:
    """Return mean and standard deviation of the rank ratio for each layer, activation and part of the range of d_in / d_out.

    Args:
        measured: A row per network, layer and activation with the columns network, layer, activation, ratio and rank_ratio.
    """
    parts = measured.assign(part=np.searchsorted(RATIO_ENDS[1:-1], measured["ratio"], side="right"))
    rows = []
    for (layer, activation, _), group in parts.groupby(["layer", "activation", "part"], sort=False):
        values = group["rank_ratio"].to_numpy(dtype=float)
        number = int(group["part"].iloc[0])
        rows.append(
            {
                "layer": layer,
                "activation": activation,
                "from": RATIO_ENDS[number],
                "to": RATIO_ENDS[number + 1],
                "num_networks": len(values),
                "mean": float(values.mean()),
                "std": float(values.std(ddof=1)) if len(values) > 1 else None,
            }
        )
    order = {name: place for place, name in enumerate(dict.fromkeys([*measured["layer"], *measured["activation"]]))}
    return sorted(rows, key=lambda row: (order[row["layer"]], order[row["activation"]], row["from"]))


def judge_claims(measured: pd.DataFrame, *, linear: str) -> list[dict[str, Any]]:
    """Return a verdict on each claim for each type of layer, with the number that decides it and its 95 % interval.

    Networks have the same weights and inputs with every activation, so differences are of pairs. A claim about every activation is
    decided by the one that speaks most against it.

    Args:
        measured: As in `rank_ratios_by_part`, of one tolerance.
        linear: Name of the layers without an activation.
    """
    verdicts = []
    for layer, group in measured.groupby("layer", sort=False):
        table = group.pivot_table(index="network", columns="activation", values="rank_ratio")
        ratios = group.groupby("network")["ratio"].first().loc[table.index].to_numpy(dtype=float)
        activations = [name for name in table.columns if name != linear]
        smooth = table[["silu", "elu"]].mean(axis=1) - table[["relu", "relu6"]].mean(axis=1)
        found = {
            "expands": _weakest({name: _mean_of((table[name] - table[linear]).to_numpy()) for name in activations}),
            "rises": _weakest({name: _correlation(ratios, table[name].to_numpy()) for name in activations}),
            "smooth": {"activation": None, **_mean_of(smooth.to_numpy())},
        }
        verdicts += [
            {"claim": claim, "layer": layer, **numbers, "verdict": verdict_of(numbers)}
            for claim, numbers in found.items()
        ]
    return verdicts


def verdict_of(numbers: Mapping[str, Any]) -> str:
    """Return whether a number whose interval is known is above zero, as a claim says."""
    if numbers["low"] is None:
        return SATURATED
    return AGREES if numbers["low"] > 0 else DISAGREES if numbers["high"] < 0 else UNDECIDED


def correlate(names: Sequence[str], measured: Sequence[Mapping[str, float]], *, against: str) -> list[dict[str, Any]]:
    """Return Spearman's rank correlation of each named number with another one, with its 95 % interval.

    Args:
        names: Numbers to correlate.
        measured: Rows that hold them.
        against: Number that they are correlated with.
    """
    target = np.array([row[against] for row in measured], dtype=float)
    return [
        {"name": name, "num_trials": len(target), **_correlation(np.array([row[name] for row in measured]), target)}
        for name in names
    ]


def _weakest(found: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the numbers of the activation that speaks most against a claim; one that says nothing speaks least."""
    known = {name: numbers for name, numbers in found.items() if numbers["mean"] is not None} or dict(found)
    name = min(known, key=lambda each: known[each]["mean"] or 0.0)
    return {"activation": name, **known[name]}


def _mean_of(differences: Floats) -> dict[str, float | None]:
    """Return the mean of paired differences and Student's interval, null where all are zero."""
    if len(differences) < MIN_PAIRS or not differences.any():
        return {"mean": None, "low": None, "high": None}
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / np.sqrt(len(differences))
    margin = float(t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def _correlation(first: Floats, second: Floats) -> dict[str, float | None]:
    """Return Spearman's correlation and its interval, null where there is nothing to rank."""
    if len(first) < MIN_PAIRS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return {"mean": None, "low": None, "high": None}
    rho = float(spearmanr(first, second).statistic)
    low, high = spearman_interval(rho, len(first))
    return {"mean": rho, "low": low, "high": high}
