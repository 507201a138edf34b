"""Ablation path (Biedenkapp et al., AAAI 2017): which changes lead from the default to the incumbent, largest first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from naxcli.analysis.encoding import Floats
from naxcli.analysis.forest import Forest


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a path: the hyperparameters it sets, and the configuration (a vector row) before and after."""

    names: tuple[str, ...]
    before: Floats
    after: Floats


def ablation_path(forest: Forest, default: Floats, incumbent: Floats) -> list[Step]:
    """Return the greedy path from the default to the incumbent (vector rows) on a forest.

    Each step gives one active hyperparameter its value in the incumbent, the one with the lowest predicted cost; children it
    switches off are dropped, children it switches on start from their default. Where forbidden clauses refuse every single change,
    one last step makes all that remain.
    """
    encoding = forest.encoding
    steps: list[Step] = []
    current = default
    while not np.array_equal(current, incumbent, equal_nan=True):
        open_names, rows = [], []
        for domain in encoding.domains:
            is_active = not (np.isnan(current[domain.index]) or np.isnan(incumbent[domain.index]))
            if is_active and current[domain.index] != incumbent[domain.index]:
                row = current.copy()
                row[domain.index] = incumbent[domain.index]
                open_names.append(domain.name)
                rows.append(row)
        repaired = encoding.repair(np.array(rows))
        legal = np.flatnonzero(~encoding.is_forbidden(repaired))
        if len(legal):
            best = legal[forest.predict(repaired[legal]).argmin()]
            step = Step(names=(open_names[best],), before=current, after=repaired[best])
        else:
            step = Step(names=tuple(open_names), before=current, after=incumbent)
        steps.append(step)
        current = step.after
    return steps
