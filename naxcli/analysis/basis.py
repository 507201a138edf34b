"""Orthogonal functions of one hyperparameter, of which effects are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from naxcli.analysis.encoding import Domain, Floats

# Waves of an ordered or numeric hyperparameter; the variance of the k-th falls as 1/k², as that of a random walk.
NUM_WAVES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Orthonormal functions on a domain that average 0, all 0 where it is inactive, with their prior variances (of sum 1)."""

    domain: Domain
    table: Floats | None
    variances: Floats

    def at(self, codes: Floats) -> Floats:
        """Return the functions at vector codes, (num_codes, num_functions)."""
        known = np.nan_to_num(codes)
        if self.table is None:
            values = _waves(known, len(self.variances))
        else:
            assert self.domain.values is not None
            values = self.table[np.searchsorted(self.domain.values, known).clip(max=len(self.table) - 1)]
        found: Floats = np.where(np.isnan(codes)[:, None], 0.0, values)
        return found


def basis(domain: Domain) -> Basis:
    """Return the basis of a domain: contrasts of choices, cosine waves of what has an order."""
    if domain.kind == "categorical":
        assert domain.values is not None
        size = len(domain.values)
        contrasts = np.linalg.qr(np.column_stack([np.ones(size), np.eye(size)[:, :-1]]))[0][:, 1:]
        return Basis(domain=domain, table=contrasts * np.sqrt(size), variances=np.full(size - 1, 1 / (size - 1)))
    num_waves = NUM_WAVES if domain.values is None else min(NUM_WAVES, len(domain.values) - 1)
    variances = 1.0 / np.arange(1, num_waves + 1) ** 2
    table = None
    if domain.values is not None:
        table = _waves((np.arange(len(domain.values)) + 0.5) / len(domain.values), num_waves)
    return Basis(domain=domain, table=table, variances=variances / variances.sum())


def _waves(positions: Floats, num_waves: int) -> Floats:
    waves: Floats = np.sqrt(2) * np.cos(np.pi * positions[:, None] * np.arange(1, num_waves + 1))
    return waves
