"""Failure rate per choice: of the trials that have a value, how many failed, and whether that is more than chance.

Trials of one configuration at one fidelity, which tend to fail together, count once, as failed if any of them did. Intervals are those of
Clopper and Pearson (Biometrika 1934), which hold at any number. The null are permuted copies of the hyperparameter (decoys): the failures
of each fidelity, dealt at random to its trials in which it is active, so that promoted configurations, which have more chances to fail, do
not stand out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from naxcli.analysis.encoding import Domain, Encoding, Flags, Floats, Parts, distinct_rows
from naxcli.records.trial import NO_FAILURES

CONFIDENCE = 0.95
NUM_DECOYS = 2_000
# A hyperparameter with more values is cut into parts of equal width on its scale.
MAX_VALUES = 16
NUM_PARTS = 4

Counts = NDArray[np.intp]


def failure_rates(table: pd.DataFrame, vectors: Floats, encoding: Encoding, *, seed: int) -> list[dict[str, Any]]:
    """Return a row per value, or part of a range, of each hyperparameter, those shown to fail more often first, then by their rates.

    There are none unless some trials failed and some did not.
    """
    statuses = table["status"].to_numpy(dtype=object)
    fidelity = table["fidelity"].to_numpy(dtype=float)
    first, config = distinct_rows(np.column_stack([vectors, fidelity]))
    is_failure = ~np.isin(statuses, NO_FAILURES)
    failed = np.bincount(config, weights=is_failure, minlength=len(first)) > 0
    if failed.all() or not failed.any():
        return []
    how: dict[int, list[str]] = defaultdict(list)
    for row in np.flatnonzero(is_failure):
        how[int(config[row])].append(str(statuses[row]))
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for domain in encoding.domains:
        active = np.flatnonzero(~np.isnan(vectors[first, domain.index]))
        if len(active) == 0:
            continue
        part, names = _parts(encoding, domain, vectors[first[active], domain.index])
        by_fidelity = [
            (
                np.bincount(part[here], minlength=len(names)),
                np.bincount(part[here & failed[active]], minlength=len(names)),
            )
            for here in (fidelity[first[active]] == each for each in np.unique(fidelity[first[active]]))
        ]
        is_more = _is_more(by_fidelity, rng, num_hyperparameters=len(encoding.domains))
        counts = np.bincount(part, minlength=len(names)), np.bincount(part[failed[active]], minlength=len(names))
        for place in map(int, np.flatnonzero(counts[0])):
            here = Counter(status for number in active[(part == place) & failed[active]] for status in how[int(number)])
            matters = {"matters": bool(is_more[place]), "statuses": dict(here.most_common())}
            rows.append({"name": domain.name, **names[place], **_rate(*counts, place), **matters})
    return sorted(rows, key=lambda row: (not row["matters"], -row["rate"], row["name"]))


def _rate(number: Counts, num_failed: Counts, place: int) -> dict[str, float | None]:
    """Return how often one part of a hyperparameter failed, and how often all its others did."""
    others = number.sum() - number[place]
    low, high = _clopper_pearson(int(num_failed[place]), int(number[place]))
    return {
        "num_trials": int(number[place]),
        "num_failed": int(num_failed[place]),
        "rate": float(num_failed[place] / number[place]),
        "low": low,
        "high": high,
        "other_rate": float((num_failed.sum() - num_failed[place]) / others) if others else None,
    }


def _parts(encoding: Encoding, domain: Domain, codes: Floats) -> tuple[Parts, list[dict[str, Any]]]:
    """Return the part of a hyperparameter's domain that each code is in, and how each part is called."""
    if domain.values is not None and len(domain.values) <= MAX_VALUES:
        parts = np.searchsorted(domain.values, codes).astype(np.intp)
        return parts, [{"value": encoding.value(domain.name, code), "from": None, "to": None} for code in domain.values]
    highest = 1.0 if domain.values is None else float(domain.values[-1])
    edges = np.linspace(0.0, highest, NUM_PARTS + 1)
    ends = [encoding.value(domain.name, edge if domain.kind == "numeric" else np.rint(edge)) for edge in edges]
    # An edge belongs to the part above it.
    parts = np.minimum((codes / highest * NUM_PARTS).astype(np.intp), NUM_PARTS - 1)
    return parts, [{"value": None, "from": low, "to": high} for low, high in pairwise(ends)]


def _is_more(
    by_fidelity: Sequence[tuple[Counts, Counts]], rng: np.random.Generator, *, num_hyperparameters: int
) -> Flags:
    """Return which parts have more failures than their decoys, of a hyperparameter whose failures differ more than its decoys'.

    With a chance of 5 % at the most, any is found in all hyperparameters where the failures have nothing to do with them (Bonferroni).
    """
    confidence = 1 - (1 - CONFIDENCE) / num_hyperparameters
    num_failed = np.sum([failed for _, failed in by_fidelity], axis=0)
    decoys = np.sum(
        [rng.multivariate_hypergeometric(all_, int(failed.sum()), size=NUM_DECOYS) for all_, failed in by_fidelity],
        axis=0,
    )
    expected = np.sum([all_ * failed.sum() / all_.sum() for all_, failed in by_fidelity], axis=0)

    def differences(counts: Counts) -> Floats:
        found: Floats = ((counts - expected) ** 2 / np.maximum(expected, 1e-12)).sum(axis=-1)
        return found

    differs = differences(num_failed) > np.quantile(differences(decoys), confidence)
    more: Flags = differs & (num_failed > np.quantile(decoys, (1 + CONFIDENCE) / 2, axis=0))
    return more


def _clopper_pearson(count: int, total: int) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return low, high
