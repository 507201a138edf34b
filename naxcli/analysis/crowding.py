"""Trials that stand for the whole space where a searcher crowded the others around its good configurations.

How much costs vary over a space is not what they vary by among its good configurations. Scales of a stationary process that are fitted to
crowded trials are those of the crowd, so they are fitted to fewer of it. A trial's weight is one over the number of trials near it, and as
many are taken as these weights are worth (Kish, Survey Sampling, 1965), beside what those of random trials are worth.
"""

from __future__ import annotations

import numpy as np

from naxcli.analysis.encoding import Encoding, Floats, Parts

# Trials are close where they are closer than this share of random pairs.
CLOSE = 0.05
# Random trials are worth at least this share of other random ones; what is not less is not crowded.
UNCROWDED = 0.75


def drawn(num: int, at_most: int, rng: np.random.Generator) -> Parts:
    """Return numbers of trials, ascending: all, or as many as are allowed, at random."""
    return np.arange(num) if num <= at_most else np.sort(rng.choice(num, at_most, replace=False))


def spread_out(encoding: Encoding, vectors: Floats, *, at_most: int, rng: np.random.Generator) -> Parts:
    """Return the numbers, ascending, of trials that lie over the space about as random ones do; of random trials all.

    Args:
        encoding: of the space.
        vectors: (num_trials, num_hyperparameters) rows of ConfigSpace vectors.
        at_most: as many are taken.
        rng: decides which.
    """
    num = len(vectors)
    random = _distances(encoding, encoding.uniform_rows(num, rng))
    reach = float(np.quantile(random[~np.eye(num, dtype=bool)], CLOSE)) if num > 1 else 0.0
    weights = _room(_distances(encoding, vectors), reach)
    share = _worth(weights) / _worth(_room(random, reach))
    if share >= UNCROWDED:
        return drawn(num, at_most, rng)
    number = min(at_most, max(1, round(share * num)))
    return np.sort(rng.choice(num, number, replace=False, p=weights / weights.sum()))


def _distances(encoding: Encoding, vectors: Floats) -> Floats:
    """Return the distances between rows, (num_rows, num_rows): the sum over hyperparameters of how much they differ, 1 at most each."""
    total = np.zeros((len(vectors), len(vectors)))
    for domain in encoding.domains:
        codes = vectors[:, domain.index]
        is_inactive = np.isnan(codes)
        known = np.where(is_inactive, 0.0, codes)
        apart = np.abs(known[:, None] - known[None, :])
        if domain.kind == "categorical":
            apart = (apart > 0).astype(float)
        elif domain.values is not None:
            apart /= domain.values.max() - domain.values.min()
        total += np.where(
            is_inactive[:, None] | is_inactive[None, :], is_inactive[:, None] != is_inactive[None, :], apart
        )
    return total


def _room(distances: Floats, reach: float) -> Floats:
    """Return one over the number of rows within reach of each, itself included."""
    found: Floats = 1 / (distances <= reach).sum(axis=1)
    return found


def _worth(weights: Floats) -> float:
    """Return the number of equally weighted rows that weighted ones are worth."""
    return float(weights.sum() ** 2 / (weights**2).sum())
