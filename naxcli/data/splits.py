"""Splits of labelled images into training and validation, the same on every machine. Imports no torch."""

from __future__ import annotations

import numpy as np

from naxcli.data.arrays import Labels
from naxcli.errors import NaxcliError


def stratified_split(labels: Labels, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Return sorted indices (rest, chosen) where `chosen` is that fraction of every class, at least one image of each.

    The same labels, fraction and seed give the same split on every machine.

    Raises:
        NaxcliError: if a class has fewer than two images.
    """
    if not 0 < fraction < 1:
        raise NaxcliError(f"the validation fraction is {fraction}", why="it must be between 0 and 1")
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise NaxcliError(
                f"class {label} has only one image", why="a class needs one image for training and one for validation"
            )
        size = min(max(1, round(fraction * len(members))), len(members) - 1)
        chosen.append(generator.permutation(members)[:size])
    is_chosen = np.zeros(len(labels), dtype=bool)
    is_chosen[np.concatenate(chosen)] = True
    return np.flatnonzero(~is_chosen), np.flatnonzero(is_chosen)


def limited_per_class(labels: Labels, indices: Labels, images_per_class: int, seed: int) -> Labels:
    """Return sorted indices among the given ones, `images_per_class` of every class or all that a class has."""
    generator = np.random.default_rng(seed)
    members = [np.array(indices[labels[indices] == label]) for label in np.unique(labels)]
    return np.sort(np.concatenate([generator.permutation(group)[:images_per_class] for group in members]))
