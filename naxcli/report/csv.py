"""The report as CSV: one file per table, each row with what it takes to read it alone."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.files import make_folder, write_file
from naxcli.report.data import ReportData

PROVENANCE = ("method", "seed", "num_trials", "fidelity", "incumbent", "r2")
_EFFECT = ("mean", "std", "low", "high", "rank_group")
_TABLES: dict[str, tuple[str, ...]] = {
    "lpi": (*PROVENANCE, "name", *_EFFECT, "inactive"),
    "fanova": (*PROVENANCE, "order", "name_1", "name_2", *_EFFECT),
    "groups": (*PROVENANCE, "name", "members", *_EFFECT),
    "ablation": (*PROVENANCE, "step", "name", "from", "to", "cost"),
    "shapley": (*PROVENANCE, "name", "value", "low", "high"),
    "partial_dependence": (*PROVENANCE, "name", "value", "mean", "std"),
    "configurations": (
        "role",
        "cost",
        "fidelity",
        "num_seeds",
        "predicted_cost",
        "difference",
        "hyperparameter",
        "value",
    ),
    "trajectory": ("trial_id", "ended_at", "elapsed_seconds", "trial_seconds_sum", "cost"),
    "proxy_audit": ("fidelity", "to", "num_configs", "spearman", "kendall", "low", "high", "verdict"),
    "pareto": ("trial_id", "config_id", "cost", "num_params", "flops", "latency_ms"),
    "failures": ("status", "count", "example"),
}


# A cell that begins with one of these is a formula to a spreadsheet, or the rest of one.
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def write_csv(folder: Path, data: ReportData) -> list[Path]:
    """Write every table of the report into a folder and return the files; a table without rows has its header only.

    Raises:
        NaxcliError: if a file of such a name is there that is not a table of a report, or the folder cannot be written.
    """
    make_folder(folder)
    for name, columns in _TABLES.items():
        path = folder / f"{name}.csv"
        if path.exists() and not path.read_bytes().startswith(columns[0].encode()):
            raise NaxcliError(f"{path} is not a table of a report", hint="name another folder, or move the file away")
    tables: dict[str, list[Mapping[str, Any]]] = {name: data.listed(name) for name in _TABLES if name in data.summary}
    tables |= {name: [] for name in ("lpi", "fanova", "groups", "ablation", "shapley", "partial_dependence")}
    for entry in data.importance:
        for name, rows in _importance_rows(data, entry).items():
            tables[name] = [*tables[name], *rows]
    tables["configurations"] = list(_configurations(data))
    paths = []
    for name, columns in _TABLES.items():
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _inert(value) for key, value in row.items()} for row in tables.get(name, []))
        paths.append(folder / f"{name}.csv")
        write_file(paths[-1], buffer.getvalue())
    return paths


def _inert(value: Any) -> Any:
    """Return a cell's value; text that a spreadsheet would compute gets an apostrophe in front, as OWASP advises."""
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    return f"'{value}"


def _importance_rows(data: ReportData, entry: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of one fidelity by table; null becomes an empty cell."""
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
        for method in ("lpi", "fanova")
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
        "partial_dependence": stamped("partial_dependence", curves),
    }


def _configurations(data: ReportData) -> Iterable[dict[str, Any]]:
    named = [] if data.incumbent is None else [{"name": "incumbent", **data.incumbent}]
    for row in [*named, *data.listed("references")]:
        for hyperparameter, value in (row.get("config") or {}).items():
            yield {**row, "role": row["name"], "hyperparameter": hyperparameter, "value": value}
