"""Tunability (Probst, Boulesteix, Bischl, JMLR 2019): what tuning one hyperparameter gains over the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from naxcli.analysis.encoding import Encoding, Floats, Parts
from naxcli.analysis.lpi import neighbourhood

# Points of the unit scale at which a hyperparameter with too many values to list is tried.
GRID_POINTS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The configurations that differ from the default in one hyperparameter, and in what hangs on it.

    Args:
        rows: (num_rows, num_hyperparameters) ConfigSpace vectors, the default first.
        parts: hyperparameter that is active in the default -> its rows.
    """

    rows: Floats
    parts: Mapping[str, slice]

    def gains(self, predictions: Floats) -> dict[str, Floats]:
        """Return hyperparameter -> by how much its best value lowers the cost, for each row of (num_functions, num_rows)."""
        return {
            name: predictions[:, 0] - predictions[:, self._with(part)].min(axis=1) for name, part in self.parts.items()
        }

    def best(self, predictions: Floats) -> dict[str, int]:
        """Return hyperparameter -> the row with its best value, given the predicted costs of all rows."""
        return {
            name: int(self._with(part)[predictions[self._with(part)].argmin()]) for name, part in self.parts.items()
        }

    def best_codes(self, predictions: Floats, encoding: Encoding) -> dict[str, float]:
        """Return hyperparameter -> the vector code of its best value, given the predicted costs of all rows."""
        return {
            name: float(self.rows[row, encoding.domain(name).index]) for name, row in self.best(predictions).items()
        }

    @staticmethod
    def _with(part: slice) -> Parts:
        """Return a hyperparameter's rows and the default, which stays where no other value is better."""
        return np.concatenate([[0], np.arange(part.start, part.stop)])


def make_tuning(encoding: Encoding, default: Floats) -> Tuning:
    """Return the configurations around the default (a vector row) that tuning one hyperparameter chooses from.

    As around an incumbent (see `neighbourhood`): what a value switches on gets its default, what a forbidden clause refuses is left out.
    """
    around = neighbourhood(encoding, default, {}, num_points=GRID_POINTS)
    return Tuning(
        rows=np.concatenate([default[None], around.rows]),
        parts={name: slice(part.start + 1, part.stop + 1) for name, part in around.parts.items()},
    )
