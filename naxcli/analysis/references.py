"""The references of a space beside the incumbent: measured where they were trained, predicted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from naxcli.analysis.encoding import Flags, Floats
from naxcli.analysis.forest import Forest
from naxcli.analysis.incumbent import Incumbent
from naxcli.records.trial import Config


def compare_references(
    compared: Mapping[str, Config],
    rows: Mapping[str, Floats],
    table: pd.DataFrame,
    vectors: Floats,
    *,
    incumbent: Incumbent | None,
    forest: Forest | None,
) -> list[dict[str, Any]]:
    """Return the references beside the incumbent, each at the highest fidelity that it was measured at.

    `difference` is reference - incumbent: of the costs measured at that fidelity, or of those predicted at the highest where not both were.
    """
    entries = []
    for name, config in compared.items():
        entry: dict[str, Any] = {"name": name, "config": dict(config), "cost": None, "fidelity": None, "num_seeds": 0}
        predicted = difference = None
        if incumbent is not None:
            if forest is not None:
                predicted, at_incumbent = map(float, forest.predict(np.stack([rows[name], vectors[incumbent.row]])))
                difference = predicted - at_incumbent
            fidelity, costs = _highest_costs(table, vectors, rows[name])
            if len(costs):
                entry |= {"cost": float(costs.mean()), "fidelity": fidelity, "num_seeds": len(costs)}
                of_incumbent = _costs_at(table, vectors, vectors[incumbent.row], fidelity)
                if len(of_incumbent):
                    difference = entry["cost"] - float(of_incumbent.mean())
        entries.append(entry | {"predicted_cost": predicted, "difference": difference})
    return entries


def _highest_costs(table: pd.DataFrame, vectors: Floats, vector: Floats) -> tuple[float, Floats]:
    """Return the highest fidelity at which a configuration succeeded, and its costs there; 0 and none where it never did."""
    fidelities = table["fidelity"].to_numpy(dtype=float)[_successes_of(table, vectors, vector)]
    highest = float(fidelities.max()) if len(fidelities) else 0.0
    return highest, _costs_at(table, vectors, vector, highest)


def _costs_at(table: pd.DataFrame, vectors: Floats, vector: Floats, fidelity: float) -> Floats:
    rows = _successes_of(table, vectors, vector) & (table["fidelity"] == fidelity).to_numpy(dtype=bool)
    costs: Floats = table["cost"].to_numpy(dtype=float)[rows]
    return costs


def _successes_of(table: pd.DataFrame, vectors: Floats, vector: Floats) -> Flags:
    is_same = ((vectors == vector) | (np.isnan(vectors) & np.isnan(vector))).all(axis=1)
    successes: Flags = is_same & (table["status"] == "success").to_numpy(dtype=bool)
    return successes
