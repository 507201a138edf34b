"""Importance as tables: hyperparameters, groups, pairs, ablation path and Shapley values of one fidelity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from naxcli.analysis.methods import METHODS
from naxcli.errors import NaxcliError
from naxcli.report.data import ReportData
from naxcli.report.results import interval_column
from naxcli.report.section import Column, Row, Table
from naxcli.report.text import (
    NOT_AVAILABLE,
    counted,
    decimal,
    interval,
    is_missing,
    names_of,
    plain,
    plus_minus,
    sentence,
    signed,
    whole,
    with_unit,
)

TOP_PAIRS = 10
# The methods that give each hyperparameter a share of the variance, and their short names.
EFFECTS = {"lpi": "LPI", "fanova": "fANOVA"}
# Groups have no rank: they are not compared with each other by the analysis.
GROUP = "Design decision"

Entry = Mapping[str, Any]
LPI_NOTE = "LPI: share of the predicted variance around the incumbent that this hyperparameter alone explains."
DEEPCAVE_NOTE = (
    "LPI as DeepCAVE computes it: around the best of this fidelity, without its own value (so a binary hyperparameter scores 0); "
    "its ± is a variance."
)
FANOVA_NOTE = "fANOVA: share of the variance over the whole space."
SPREAD_NOTE = "± is the standard deviation over the forest's trees."
INTERVAL_NOTE = (
    "[ ] is the 95 % interval given the trials; equal rank: the intervals overlap, the order is unresolved. "
    "Not shown: no more than permuted copies of itself, so it may not matter at all."
)
NOT_SHOWN = "not shown"
# Below this out-of-bag R² the trials say nothing about what matters.
NO_R2 = 0.1


def entries_at(data: ReportData, at: float | str | None) -> list[Entry]:
    """Return the importance entries of one fidelity, of all (`"all"`), or of the highest (None)."""
    entries = data.importance
    if at == "all":
        return entries
    if at is None:
        return entries[-1:]
    try:
        fidelity = float(at)
    except ValueError as error:
        raise NaxcliError(f"{at!r} is not a fidelity", hint="--at 27, --at all") from error
    return [entry for entry in entries if float(entry["fidelity"]) == fidelity]


def name_of(entry: Entry) -> str:
    """Return the identifier of the section of one fidelity."""
    return f"importance-{plain(float(entry['fidelity']))}"


def title_of(data: ReportData, entry: Entry) -> str:
    """Return the heading of the section of one fidelity."""
    return f"Importance at {with_unit(entry['fidelity'], data.fidelity_unit)}"


def tables(entry: Entry, methods: Iterable[str] = METHODS) -> list[Table]:
    """Return the tables of one fidelity, without those of methods that were not asked for."""
    # Without any number, one sentence says why, not one per table.
    chosen = set(methods) if has_numbers(entry) else set()
    found = []
    if chosen & set(EFFECTS):
        found.append(hyperparameters(entry, chosen))
        if entry.get("groups"):
            found.append(groups(entry, chosen))
    if "fanova" in chosen:
        found.append(pairs(entry))
    if "ablation" in chosen:
        found.append(ablation(entry))
    if "shapley" in chosen:
        found.append(shapley(entry))
    return found


def has_numbers(entry: Entry) -> bool:
    """Return whether any method has a number at this fidelity."""
    effects = [*(entry.get("lpi") or []), *(entry.get("fanova") or [])]
    return any(not is_missing(effect.get("mean")) for effect in effects) or any(
        not is_missing(row.get(key))
        for method, key in (("ablation", "cost"), ("shapley", "value"))
        for row in entry.get(method) or []
    )


def basis(entry: Entry) -> str:
    """Return what the numbers of one fidelity rest on."""
    text = ""
    if not is_missing(entry.get("r2")) and float(entry["r2"]) < NO_R2:
        text = (
            "These trials do not show what matters: the forest explains nothing of the cost of trials it has not seen. "
        )
    text += counted(entry.get("num_trials"), "trial")
    if not is_missing(entry.get("num_configs")):
        text += f" of {counted(entry['num_configs'], 'configuration')}"
    text += "." if is_missing(entry.get("r2")) else f"; the forest's out-of-bag R² is {decimal(entry['r2'], 2)}."
    survivors = entry.get("survivors_of")
    if not is_missing(survivors):
        text += (
            f" Survivors only: {whole(entry.get('num_configs'))} of {whole(survivors)} configurations reached this fidelity, "
            "so importance here is biased towards what tells good ones apart."
        )
    if entry.get("note"):
        text += f" {sentence(str(entry['note']))}"
    return text


def merged_rows(entry: Entry) -> list[dict[str, Any]]:
    """Return a row per hyperparameter with its LPI and its fANOVA main effect, the most important first."""
    rows: dict[str, dict[str, Any]] = {}
    for effect in entry.get("lpi") or []:
        rows.setdefault(str(effect["name"]), {})["lpi"] = effect
    for effect in entry.get("fanova") or []:
        if len(effect["names"]) == 1:
            rows.setdefault(str(effect["names"][0]), {})["fanova"] = effect
    return sorted(({"name": name, **row} for name, row in rows.items()), key=_importance, reverse=True)


def group_rows(entry: Entry) -> list[dict[str, Any]]:
    """Return the named groups and the hyperparameters that belong to none, the most important first."""
    groups = entry.get("groups") or []
    members = {name for group in groups for name in group["members"]}
    rows = [dict(row) for row in merged_rows(entry) if row["name"] not in members]
    rows += [dict(group) for group in groups]
    return sorted(rows, key=_importance, reverse=True)


def _importance(row: Row) -> tuple[float, float]:
    def mean(method: str) -> float:
        value = _float((row.get(method) or {}).get("mean"))
        return -1.0 if value is None else value

    return mean("lpi"), mean("fanova")


def hyperparameters(entry: Entry, methods: Iterable[str] = METHODS) -> Table:
    """Return LPI and fANOVA main effects side by side."""
    return Table(
        name="hyperparameters",
        caption="Hyperparameters",
        columns=_effect_columns("Hyperparameter", set(methods), entry),
        rows=merged_rows(entry),
        note=_note(set(methods), entry),
        empty=_empty(entry),
    )


def groups(entry: Entry, methods: Iterable[str] = METHODS) -> Table:
    """Return groups, computed jointly, among the hyperparameters that are in none (the rows of the paper's Figure 4)."""
    names = "; ".join(f"{group['name']} = {', '.join(group['members'])}" for group in entry.get("groups") or [])
    return Table(
        name="groups",
        caption="Groups, computed jointly",
        columns=_effect_columns(GROUP, set(methods), entry),
        rows=group_rows(entry),
        note=names,
        empty=_empty(entry),
    )


def _effect_columns(title: str, methods: set[str], entry: Entry) -> list[Column]:
    columns = [Column(title=title, text=lambda row: str(row["name"]))]
    for method, heading in EFFECTS.items():
        if method not in methods:
            continue
        # One bar a row: of the method that the rows are ordered by.
        has_bar = len(columns) == 1
        columns.append(
            Column(title=heading, text=_effect(method), sort=_mean(method), is_numeric=True, has_bar=has_bar)
        )
        if _has_intervals(entry.get(method) or []):
            columns.append(
                Column(title="95 % interval", text=_interval(method), is_numeric=True, is_minor=method == "fanova")
            )
    ranked_by = "lpi" if "lpi" in methods else "fanova"
    if any(not is_missing(effect.get("rank_group")) for effect in entry.get(ranked_by) or []) and title != GROUP:
        columns.append(Column(title="Rank", text=_rank(ranked_by), sort=_rank_number(ranked_by), is_numeric=True))
    return columns


def _effect(method: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        effect = row.get(method) or {}
        return "inactive" if effect.get("inactive") else plus_minus(effect.get("mean"), effect.get("std"))

    return text


def _interval(method: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        effect = row.get(method) or {}
        return "" if effect.get("inactive") else interval(effect.get("low"), effect.get("high"), 2)

    return text


def _mean(method: str) -> Callable[[Row], float | None]:
    return lambda row: _float((row.get(method) or {}).get("mean"))


def _rank(method: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        effect = row.get(method) or {}
        if effect.get("inactive"):
            return ""
        return NOT_SHOWN if effect.get("matters") is False else plain(effect.get("rank_group"))

    return text


def _rank_number(method: str) -> Callable[[Row], float | None]:
    return lambda row: _float((row.get(method) or {}).get("rank_group"))


def _float(value: Any) -> float | None:
    return None if is_missing(value) else float(value)


def _has_intervals(effects: Iterable[Mapping[str, Any]]) -> bool:
    return any(not is_missing(effect.get("low")) for effect in effects)


def _note(methods: set[str], entry: Entry) -> str:
    parts = [DEEPCAVE_NOTE if entry.get("lpi_method") == "deepcave" else LPI_NOTE] if "lpi" in methods else []
    parts += [FANOVA_NOTE] if "fanova" in methods else []
    if not (methods == {"lpi"} and entry.get("lpi_method") == "deepcave"):
        parts.append(SPREAD_NOTE)
    if any(_has_intervals(entry.get(method) or []) for method in methods & set(EFFECTS)):
        parts.append(INTERVAL_NOTE)
    if entry.get("never_varied"):
        parts.append(f"Left out, since they never varied: {', '.join(row['name'] for row in entry['never_varied'])}.")
    return " ".join(parts)


def _empty(entry: Entry) -> str:
    return f"{NOT_AVAILABLE}: {entry.get('note') or 'too few different configurations, or all costs are equal'}"


def all_pairs(entry: Entry) -> list[Mapping[str, Any]]:
    """Return the interactions of two hyperparameters, the strongest first."""
    pairs = [effect for effect in entry.get("fanova") or [] if len(effect["names"]) == 2]
    return sorted(
        (pair for pair in pairs if not is_missing(pair["mean"])), key=lambda pair: float(pair["mean"]), reverse=True
    )


def pairs(entry: Entry, limit: int = TOP_PAIRS) -> Table:
    """Return the strongest interactions."""
    found = all_pairs(entry)
    return Table(
        name="pairs",
        caption=f"Strongest pairs ({min(limit, len(found))} of {len(found)})" if found else "Pairs",
        columns=[
            Column(title="Pair", text=names_of),
            Column(
                title="fANOVA",
                text=lambda row: plus_minus(row["mean"], row.get("std")),
                is_numeric=True,
                sort=lambda row: _float(row["mean"]),
                has_bar=True,
            ),
            interval_column(2),
        ],
        rows=found[:limit],
        note="Share of the variance that the two explain together, beyond what each explains alone. An interval from 0: not shown.",
        empty=_empty(entry),
    )


def ablation(entry: Entry) -> Table:
    """Return the greedy path from the default to the incumbent with the predicted cost after each step."""
    steps = [dict(step) for step in entry.get("ablation") or []]
    for before, step in zip([None, *steps], steps, strict=False):
        known = before is not None and not is_missing(before.get("cost")) and not is_missing(step.get("cost"))
        step["change"] = float(step["cost"]) - float(before["cost"]) if known and before is not None else None
    note = "Predicted by the forest; each step takes the change that lowers the predicted cost most."
    if (
        len(steps) > 1
        and all(not is_missing(steps[end].get("cost")) for end in (0, -1))
        and steps[-1]["cost"] >= steps[0]["cost"]
    ):
        note += " The forest predicts the incumbent no better than the default."
    has_intervals = _has_intervals(steps)
    return Table(
        name="ablation",
        caption="Ablation path from the default to the incumbent",
        columns=[
            Column(title="Step", text=lambda row: str(row["name"])),
            Column(title="From", text=lambda row: _setting(row.get("from"))),
            Column(title="To", text=lambda row: _setting(row.get("to"))),
            Column(
                title="Predicted cost",
                text=lambda row: decimal(row.get("cost"), 4),
                is_numeric=True,
                sort=lambda row: _float(row.get("cost")),
            ),
            *([interval_column(3, is_minor=True)] if has_intervals else []),
            Column(
                title="Change",
                text=lambda row: "" if row["change"] is None else signed(row["change"], 4),
                is_numeric=True,
                sort=lambda row: row["change"],
            ),
        ],
        rows=steps,
        note=note,
        empty=_empty(entry),
    )


def _setting(value: Any) -> str:
    return "" if is_missing(value) else plain(value)


def shapley(entry: Entry) -> Table:
    """Return the Shapley value of each change between default and incumbent."""
    rows = [row for row in entry.get("shapley") or [] if not is_missing(row.get("value"))]
    return Table(
        name="shapley",
        caption="Shapley values of the changes from the default to the incumbent",
        columns=[
            Column(title="Hyperparameter", text=lambda row: str(row["name"])),
            Column(
                title="Gain in predicted cost",
                text=_shapley_value,
                sort=lambda row: float(row["value"]),
                is_numeric=True,
            ),
            interval_column(4),
        ],
        rows=sorted(rows, key=lambda row: -abs(float(row["value"]))),
        note="Positive: the change lowers the predicted cost. The values add up to the whole difference.",
        empty=_empty(entry),
    )


def _shapley_value(row: Row) -> str:
    # Above 15 changes the value is a sampled estimate with a standard error.
    error = row.get("standard_error")
    return (
        signed(row["value"], 4)
        if is_missing(error) or error == 0
        else f"{signed(row['value'], 4)} ± {decimal(error, 4)}"
    )
