"""The exact numbers of importance, each row with what it takes to read it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from naxcli.report.data import ReportData
from naxcli.report.importance import EFFECTS
from naxcli.report.section import Sheet

PROVENANCE = ("method", "seed", "num_trials", "fidelity", "incumbent", "r2")
_EFFECT = ("mean", "std", "low", "high", "rank_group", "matters")
_QUANTILES = ("target", "region", "num_target", "num_region")
_COLUMNS: dict[str, tuple[str, ...]] = {
    "lpi": ("name", *_EFFECT, "inactive"),
    "fanova": ("order", "name_1", "name_2", *_EFFECT),
    "groups": ("name", "members", *_EFFECT),
    "ablation": ("step", "name", "from", "to", "cost"),
    "shapley": ("name", "value", "low", "high"),
    "ped_anova": ("name", *_EFFECT, "optuna", "value", "target_share", "region_share", "region_value", *_QUANTILES),
    "tunability": ("name", *_EFFECT, "from", "to"),
    "partial_dependence": ("name", "value", "mean", "std"),
}


def sheets(data: ReportData) -> list[Sheet]:
    """Return a sheet per method with the rows of all fidelities."""
    found = [_rows(data, entry) for entry in data.importance]
    return [
        Sheet(name=name, columns=(*PROVENANCE, *columns), rows=[row for rows in found for row in rows[name]])
        for name, columns in _COLUMNS.items()
    ]


def _rows(data: ReportData, entry: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of one fidelity by table."""
    provenance = {
        "seed": data.summary.get("seed"),
        "num_trials": entry.get("num_trials"),
        "fidelity": entry["fidelity"],
        "incumbent": (data.incumbent or {}).get("config_id"),
        "r2": entry.get("r2"),
    }

    def rows(name: str) -> Iterable[Mapping[str, Any]]:
        return entry.get(name) or []

    def stamped(method: str, found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**provenance, "method": method, **row} for row in found]

    effects = (
        {
            **effect,
            "order": len(effect["names"]),
            **{f"name_{i}": name for i, name in enumerate(effect["names"], start=1)},
        }
        for effect in rows("fanova")
    )
    groups = [
        row
        for method in EFFECTS
        for row in stamped(
            method,
            (
                {"name": group["name"], "members": " ".join(group["members"]), **(group.get(method) or {})}
                for group in rows("groups")
            ),
        )
    ]
    curves = (
        {"name": curve["name"], "value": value, "mean": mean, "std": std}
        for curve in rows("partial_dependence")
        for value, mean, std in zip(curve["values"], curve["mean"], curve["std"], strict=True)
    )
    around = {"incumbent": entry.get("lpi_incumbent") or provenance["incumbent"]}
    return {
        "lpi": stamped("lpi", ({**row, **around} for row in rows("lpi"))),
        "fanova": stamped("fanova", effects),
        "groups": groups,
        "ablation": stamped("ablation", ({"step": step, **row} for step, row in enumerate(rows("ablation")))),
        "shapley": stamped("shapley", rows("shapley")),
        "ped_anova": stamped("ped_anova", ({**row, **(entry.get("quantiles") or {})} for row in rows("ped_anova"))),
        "tunability": stamped("tunability", rows("tunability")),
        "partial_dependence": stamped("partial_dependence", curves),
    }
