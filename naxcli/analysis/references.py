"""The references of a space beside the incumbent: measured where they were trained, predicted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from naxcli.analysis.encoding import Floats
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
    at_incumbent = {} if incumbent is None else _mean_costs(table, vectors, vectors[incumbent.row])
    entries = []
    for name, config in compared.items():
        entry: dict[str, Any] = {"name": name, "config": dict(config), "cost": None, "fidelity": None, "num_seeds": 0}
        predicted = difference = None
        if incumbent is not None:
            if forest is not None:
                predicted, of_incumbent = map(float, forest.predict(np.stack([rows[name], vectors[incumbent.row]])))
                difference = predicted - of_incumbent
            measured = _mean_costs(table, vectors, rows[name])
            if measured:
                fidelity = max(measured)
                cost, count = measured[fidelity]
                entry |= {"cost": cost, "fidelity": fidelity, "num_seeds": count}
                if fidelity in at_incumbent:
                    difference = cost - at_incumbent[fidelity][0]
        entries.append(entry | {"predicted_cost": predicted, "difference": difference})
    return entries


def _mean_costs(table: pd.DataFrame, vectors: Floats, vector: Floats) -> dict[float, tuple[float, int]]:
    """Return fidelity -> mean cost and number of a configuration's successful trials."""
    is_same = ((vectors == vector) | (np.isnan(vectors) & np.isnan(vector))).all(axis=1)
    costs = table[is_same & (table["status"] == "success")].groupby("fidelity")["cost"]
    return {float(fidelity): (float(of.mean()), len(of)) for fidelity, of in costs}
