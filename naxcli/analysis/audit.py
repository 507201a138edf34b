"""Audits of a search: does a low fidelity rank configurations as the full one does, and did the searcher beat random?"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from naxcli.analysis.encoding import Flags, Floats, distinct_rows
from naxcli.settings.units import counted

CONFIDENCE = 0.95
# A rung is trusted from this rank correlation on.
TRUSTED_CORRELATION = 0.5
MIN_CONFIGS = 5
MIN_ARM_TRIALS = 5


def proxy_audit(table: pd.DataFrame, vectors: Floats) -> list[dict[str, Any]]:
    """Return for each lower fidelity of a table how well it ranks; see `rank_agreement`."""
    succeeded = (table["status"] == "success").to_numpy(dtype=bool)
    if not succeeded.any():
        return []
    _, config = distinct_rows(vectors[succeeded])
    return rank_agreement(config, table["fidelity"][succeeded].to_numpy(), table["cost"][succeeded].to_numpy())


def rank_agreement(configs: Any, fidelities: Any, costs: Any) -> list[dict[str, Any]]:
    """Return for each lower fidelity how well it ranks the configurations that were also run at the highest.

    Costs are averaged over seeds. The interval of Spearman's correlation is that of Bonett and Wright (Psychometrika 2000): Fisher's z with
    standard error sqrt((1 + rho^2 / 2) / (n - 3)). Promoted configurations are the better ones of a rung, and correlation within a narrower
    range is lower: the audit errs on the side of doubt.

    Args:
        configs: (num_trials,) identities of the configurations of the successful trials.
        fidelities: (num_trials,) of the trials.
        costs: (num_trials,) of the trials, minimised.
    """
    trials = pd.DataFrame({"config": configs, "fidelity": fidelities, "cost": costs})
    if trials.empty:
        return []
    means = trials.groupby(["config", "fidelity"])["cost"].mean().unstack()
    *lower, highest = sorted(means.columns)
    return [_compare_ranks(means[[fidelity, highest]].dropna(), float(fidelity), float(highest)) for fidelity in lower]


def _compare_ranks(costs: pd.DataFrame, fidelity: float, highest: float) -> dict[str, Any]:
    audit: dict[str, Any] = {"fidelity": fidelity, "to": highest, "num_configs": len(costs)}
    missing = {"spearman": None, "kendall": None, "low": None, "high": None}
    if len(costs) < MIN_CONFIGS:
        verdict = f"{counted(len(costs), 'configuration')} in common: too few to tell"
        return audit | missing | {"verdict": verdict}
    low_fidelity, full = costs.iloc[:, 0].to_numpy(), costs.iloc[:, 1].to_numpy()
    if np.ptp(low_fidelity) == 0 or np.ptp(full) == 0:
        return audit | missing | {"verdict": "all costs are equal, there is nothing to rank"}
    rho = float(spearmanr(low_fidelity, full).statistic)
    low, high = spearman_interval(rho, len(costs))
    if low >= TRUSTED_CORRELATION:
        verdict = "keeps the order"
    elif high < TRUSTED_CORRELATION:
        verdict = "misleads: its order is not that of the full fidelity"
    elif low > 0:
        verdict = "keeps the order in part"
    else:
        verdict = "not shown to keep the order"
    kendall = float(kendalltau(low_fidelity, full).statistic)
    return audit | {"spearman": rho, "kendall": kendall, "low": low, "high": high, "verdict": verdict}


def spearman_interval(rho: float, num_pairs: int) -> tuple[float, float]:
    """Return the 95 % interval of Spearman's rank correlation (Bonett and Wright 2000)."""
    error = np.sqrt((1 + rho**2 / 2) / (num_pairs - 3))
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    margin = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * error
    return float(np.tanh(z - margin)), float(np.tanh(z + margin))


def random_arm(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return whether the searcher's best beat the random baseline's at equal cost, or None where the run has not both.

    Both are cut off where the one that spent less stops (trial seconds; number of trials in tables without), in the order in
    which trials ended: `num_searcher` and `num_random` count what is left at the highest fidelity, `..._in_all` all. `difference`
    is searcher's best - random's best at the highest fidelity: negative where the searcher is better. Its interval holds every
    shift between the two that an exact permutation test of the difference of the bests does not reject at 5 %.
    """
    if "searcher" not in table:
        return None
    is_random = (table["searcher"].astype(str).str.lower() == "random").to_numpy(dtype=bool)
    named = table["searcher"].notna().to_numpy(dtype=bool)
    arms = {"searcher": named & ~is_random, "random": is_random}
    succeeded = (table["status"] == "success").to_numpy(dtype=bool)
    if not all(members.any() for members in arms.values()) or not succeeded.any():
        return None
    spent = {name: _cumulative_seconds(table, members) for name, members in arms.items()}
    affordable = min(np.nanmax(seconds) for seconds in spent.values())
    counts = succeeded & (table["fidelity"] == table["fidelity"][succeeded].max()).to_numpy()
    all_costs = table["cost"].to_numpy(dtype=float)
    costs = {name: all_costs[counts & (spent[name] <= affordable * (1 + 1e-9))] for name in arms}
    searcher, random = costs["searcher"], costs["random"]
    arm: dict[str, Any] = {
        "num_searcher": len(searcher),
        "num_random": len(random),
        "searcher_best": float(searcher.min()) if len(searcher) else None,
        "random_best": float(random.min()) if len(random) else None,
        "num_searcher_in_all": int((counts & arms["searcher"]).sum()),
        "num_random_in_all": int((counts & arms["random"]).sum()),
        "is_equal_time": _has_seconds(table, arms["searcher"]) and _has_seconds(table, arms["random"]),
    }
    if min(len(searcher), len(random)) < MIN_ARM_TRIALS:
        nothing = {"difference": None, "low": None, "high": None}
        return arm | nothing | {"verdict": "too few trials at the highest fidelity to compare with random"}
    low, high = shift_interval(searcher, random)
    if high < 0:
        verdict = "the searcher beat random at equal cost"
    elif low > 0:
        verdict = "random beat the searcher at equal cost"
    else:
        verdict = "not shown to differ from random at equal cost"
    return arm | {"difference": float(searcher.min() - random.min()), "low": low, "high": high, "verdict": verdict}


def _cumulative_seconds(table: pd.DataFrame, members: Flags) -> Floats:
    """Return what the searcher, or the baseline, had spent when each of its trials (`members`) ended, NaN for the others."""
    seconds = table["seconds"].to_numpy(dtype=float) if _has_seconds(table, members) else np.ones(len(table))
    spent = np.full(len(table), np.nan)
    spent[members] = np.cumsum(np.nan_to_num(seconds[members]))
    return spent


def _has_seconds(table: pd.DataFrame, members: Flags) -> bool:
    return "seconds" in table and float(np.nansum(table["seconds"].to_numpy(dtype=float)[members])) > 0


def shift_interval(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the shifts of the first sample against the second that a permutation test of their minima does not reject at 5 %."""
    width = float(np.ptp(np.concatenate([first, second]))) or 1.0
    centre = float(first.min() - second.min())
    tail = (1 - CONFIDENCE) / 2
    edges = []
    for side in (-1, 1):
        accepted, rejected = centre, centre + side * 2 * width
        for _ in range(50):
            middle = (accepted + rejected) / 2
            is_rejected = (
                _tail_probability(second, first - middle) <= tail
                if side < 0
                else _tail_probability(first - middle, second) <= tail
            )
            accepted, rejected = (accepted, middle) if is_rejected else (middle, rejected)
        edges.append(accepted)
    return edges[0], edges[1]


def _tail_probability(first: Floats, second: Floats) -> float:
    """Return the chance that a random division of the pooled costs has min(first) - min(second) as low as here or lower."""
    pooled = np.sort(np.concatenate([first, second]))
    observed = first.min() - second.min()
    chance = 0.0
    for lead, other, sign in ((len(first), len(second), -1), (len(second), len(first), 1)):
        # The `run` smallest costs all belong to the sample that leads, the next one to the other.
        run = np.arange(1, lead + 1)
        all_lead = np.cumprod((lead - run + 1) / (len(pooled) - run + 1))
        difference = sign * (pooled[run] - pooled[0])
        chance += float((all_lead * other / (len(pooled) - run))[difference <= observed + 1e-15].sum())
    return chance


def audit_warnings(audits: list[dict[str, Any]], arm: Mapping[str, Any] | None) -> list[str]:
    """Return a sentence for each rung that misleads, and for a searcher that random beat."""
    found = [
        f"fidelity {audit['fidelity']:g} misleads: its rank correlation with {audit['to']:g} is {audit['spearman']:.2f} "
        f"({audit['low']:.2f} to {audit['high']:.2f})"
        for audit in audits
        if audit["verdict"].startswith("misleads")
    ]
    if arm is not None and arm["low"] is not None and arm["low"] > 0:
        found.append("random beat the searcher at equal cost")
    return found
