"""What the search found: facts of the run, incumbent against references, confirmation, random baseline, proxies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from naxcli.report.data import ReportData
from naxcli.report.section import MARKDOWN, PAGE, TERMINAL, Column, Medium, Row, Sheet, Table, Warnings
from naxcli.report.text import (
    NOT_AVAILABLE,
    cost_and_accuracy,
    counted,
    decimal,
    interval,
    is_missing,
    percent,
    plain,
    sentence,
    signed,
    whole,
    with_unit,
)
from naxcli.settings.units import format_count, format_duration

ABSENT = "—"


def facts(data: ReportData) -> list[tuple[str, str]]:
    """Return label and value of each line of the report's header."""
    counts = data.summary.get("trials") or {}
    by_status = ", ".join(
        f"{whole(count)} {str(status).replace('_', ' ')}" for status, count in counts.items() if count
    )
    lines = [
        ("Run", data.run),
        ("Space", data.space),
        ("Trials", f"{whole(sum(counts.values()))} ({by_status})" if by_status else "none finished"),
    ]
    if data.searchers:
        lines.append(("Searcher", ", ".join(data.searchers)))
    if "fidelity" in data.trials and len(data.trials):
        fidelities = sorted(data.trials["fidelity"].dropna().unique())
        lines.append((data.fidelity_unit.capitalize(), ", ".join(plain(float(value)) for value in fidelities)))
    lines.append(("Spent", _spent(data)))
    if not is_missing(data.summary.get("seed")):
        lines.append(("Seed", plain(data.summary["seed"])))
    return lines


def _spent(data: ReportData) -> str:
    if data.trials.empty or "seconds" not in data.trials:
        return NOT_AVAILABLE
    spent = f"{format_duration(float(data.trials['seconds'].fillna(0).sum()))} in trials"
    if {"started_at", "ended_at"} <= set(data.trials) and data.trials["ended_at"].notna().any():
        spent += f", over {format_duration(float(data.elapsed_seconds(data.trials).max()))}"
    budget = data.experiment.get("budget")
    return f"{spent}; budget {budget}" if budget else spent


def headline(data: ReportData) -> str:
    """Return one sentence: what the best configuration reaches."""
    best = data.incumbent
    if best is None:
        return "There is no incumbent: no trial has succeeded."
    reached = cost_and_accuracy(best.get("cost"), is_error_rate=data.cost_is_error_rate)
    seeds = best.get("num_seeds")
    count = NOT_AVAILABLE if is_missing(seeds) else f"{plain(seeds)} seed" + ("" if seeds == 1 else "s")
    identity = "" if is_missing(best.get("trial_id")) else f" (trial {plain(best['trial_id'])})"
    return (
        f"The incumbent{identity} has cost {reached} at {with_unit(best.get('fidelity'), data.fidelity_unit)}, {count}."
    )


def comparison(data: ReportData) -> Table:
    """Return the incumbent and each reference with their costs; null where a reference was not evaluated."""
    best = data.incumbent
    references = data.listed("references")
    rows: list[Row] = [*([] if best is None else [{"name": "incumbent", **best}]), *references]
    note = "Lower cost is better. Predicted: by the forest that importance is computed from, for configurations not evaluated."
    if sum(not is_missing(reference.get("cost")) for reference in references) > len(data.full_references()):
        note += f" A reference of fewer {data.fidelity_unit} is compared with the incumbent at as many, where that has a cost there."
    columns = [
        Column(title="Configuration", text=lambda row: str(row["name"])),
        cost_column("Cost", "cost"),
        Column(
            title="Difference",
            text=lambda row: signed(row.get("difference"), 4),
            is_numeric=True,
            sort=number_in("difference"),
        ),
        cost_column("Predicted", "predicted_cost"),
        Column(
            title=data.fidelity_unit.capitalize(),
            text=lambda row: plain(row.get("fidelity")),
            is_numeric=True,
            sort=number_in("fidelity"),
        ),
        Column(
            title="Seeds", text=lambda row: plain(row.get("num_seeds")), is_numeric=True, sort=number_in("num_seeds")
        ),
    ]
    if data.cost_is_error_rate:
        accuracy = Column(
            title="Accuracy",
            text=lambda row: NOT_AVAILABLE if is_missing(row.get("cost")) else percent(1 - row["cost"]),
            sort=number_in("cost"),
            is_numeric=True,
        )
        columns.insert(2, accuracy)
    return Table(
        name="references",
        caption="Incumbent against the references",
        columns=columns,
        rows=rows,
        note=note,
        empty="n/a: no trial has succeeded",
    )


def settings_side_by_side(data: ReportData) -> Table:
    """Return one row per hyperparameter: the incumbent's value and every reference's, with differences marked."""
    columns_of: dict[str, Mapping[str, Any]] = {}
    if data.incumbent is not None:
        columns_of["incumbent"] = data.incumbent.get("config") or {}
    for reference in data.listed("references"):
        config = reference.get("config") or {}
        twin = next((name for name, other in columns_of.items() if name != "incumbent" and other == config), None)
        if twin is not None:  # such as a default that is also a named reference: one column, both names
            columns_of = {
                f"{name} = {reference['name']}" if name == twin else name: other for name, other in columns_of.items()
            }
        else:
            columns_of[str(reference["name"])] = config
    configs = list(columns_of.values())
    names = [name for name in data.hyperparameters if any(name in config for config in configs)]
    names += sorted({name for config in configs for name in config} - set(names))
    rows = [{"name": name, **{f"={key}": config.get(name) for key, config in columns_of.items()}} for name in names]

    def column(key: str) -> Column:
        def differs(row: Row) -> bool:
            return key != "incumbent" and "=incumbent" in row and row[f"={key}"] != row["=incumbent"]

        def text(row: Row) -> str:
            value = row[f"={key}"]
            shown = ABSENT if value is None else plain(value)
            return f"≠ {shown}" if differs(row) else shown

        return Column(title=key, text=text, is_marked=differs)

    has_other = len(columns_of) > 1
    inactive = f"{ABSENT} is inactive."
    return Table(
        name="settings",
        caption="Hyperparameters side by side" if has_other else "The incumbent's hyperparameters",
        columns=[Column(title="Hyperparameter", text=lambda row: str(row["name"])), *map(column, columns_of)],
        rows=rows,
        note=f"≠ differs from the incumbent; {inactive}" if has_other and data.incumbent is not None else inactive,
        empty="n/a: no trial has succeeded",
    )


def proxy_audit(data: ReportData) -> Table:
    """Return how well each fidelity ranks configurations as the highest one does."""
    return Table(
        name="proxy-audit",
        caption="Rank correlation of each fidelity with the highest",
        columns=[
            Column(title="From", text=lambda row: plain(row["fidelity"]), sort=number_in("fidelity"), is_numeric=True),
            Column(title="To", text=lambda row: plain(row["to"]), sort=number_in("to"), is_numeric=True),
            Column(
                title="Configurations",
                text=lambda row: whole(row["num_configs"]),
                sort=number_in("num_configs"),
                is_numeric=True,
            ),
            Column(
                title="Spearman", text=lambda row: decimal(row["spearman"]), sort=number_in("spearman"), is_numeric=True
            ),
            Column(title="95 % interval", text=lambda row: interval(row["low"], row["high"], 2), sort=number_in("low")),
            Column(
                title="Kendall", text=lambda row: decimal(row["kendall"]), sort=number_in("kendall"), is_numeric=True
            ),
            Column(title="Verdict", text=lambda row: str(row.get("verdict") or NOT_AVAILABLE)),
        ],
        rows=data.listed("proxy_audit"),
        note="Rank correlation of the configurations evaluated at both fidelities; the promoted ones are a selection.",
        empty="n/a: the run has one fidelity, or too few configurations were evaluated at two",
        empty_on=MARKDOWN | PAGE,
    )


def pareto(data: ReportData) -> Table:
    """Return the configurations that no other beats in both cost and size."""
    counts = [("Parameters", "num_params"), ("Multiply-adds", "flops")]
    return Table(
        name="pareto",
        caption="Pareto front",
        columns=[
            Column(
                title="Trial", text=lambda row: plain(row.get("trial_id")), sort=number_in("trial_id"), is_numeric=True
            ),
            cost_column("Cost", "cost"),
            *(Column(title=title, text=_count(key), sort=number_in(key), is_numeric=True) for title, key in counts),
            Column(
                title="Latency ms",
                text=lambda row: decimal(row.get("latency_ms"), 2),
                sort=number_in("latency_ms"),
                is_numeric=True,
            ),
        ],
        rows=data.listed("pareto"),
        note="Successful trials at the highest fidelity.",
        empty="n/a: no successful trial has a measured size",
        on=MARKDOWN | PAGE | (TERMINAL if has_objectives(data) else Medium(0)),
        empty_on=MARKDOWN,
    )


def has_objectives(data: ReportData) -> bool:
    """Return whether the search minimised more than the cost."""
    return "," in str(data.experiment.get("objective") or "")


def verdicts(data: ReportData) -> list[str]:
    """Return the plain sentences on confirmation, the random baseline and the value of more search."""
    if data.incumbent is None:
        return []
    return [_confirmation(data), _random_baseline(data), _marginal_value(data)]


def confirmed_costs(data: ReportData) -> Table:
    """Return what `naxcli confirm` measured on the test set, beside what the search had measured for the same configurations."""
    verdict = data.confirmed or {}

    def name(row: Row) -> str:
        return f"{row['name']} (best)" if row["name"] == verdict.get("winner") else str(row["name"])

    return Table(
        name="confirmation",
        caption=f"Confirmed {'on the test set ' if data.is_trained else ''}with {counted(verdict.get('num_seeds'), 'fresh seed')}",
        columns=[
            Column(title="Configuration", text=name),
            cost_column("Search's cost", "search_cost"),
            cost_column("Confirmed", "mean"),
            interval_column(4),
        ],
        rows=verdict.get("costs") or [],
        note="The search's cost is a validation cost and the best of many; the confirmed one is neither."
        if data.is_trained
        else "The search's cost is the best of many; the confirmed one is not.",
        empty="n/a: not confirmed",
        empty_on=TERMINAL | MARKDOWN,
    )


def _confirmation(data: ReportData) -> str:
    verdict = data.confirmed
    if data.confirmation and verdict is None:
        return "Confirmation: n/a, it has started and is not finished; `naxcli confirm` resumes it."
    if verdict is None and not data.is_trained:
        return (
            "Not confirmed: the incumbent's cost is the best of many, so it is optimistic where evaluations are noisy. "
            "`naxcli confirm` evaluates it with fresh seeds."
        )
    if verdict is None:
        return (
            "Not confirmed: the incumbent's cost is the best of many on the same validation images, so it is optimistic. "
            "`naxcli confirm` retrains it with fresh seeds and measures on the test set."
        )
    is_settled = verdict.get("winner") is not None
    confirmed = "Confirmed on the test set: " if data.is_trained else "Confirmed: "
    return (confirmed if is_settled else "") + sentence(str(verdict.get("sentence") or ""))


def _random_baseline(data: ReportData) -> str:
    arm = data.summary.get("random_arm")
    if not arm:
        return f"Searcher against random: n/a, {_without_baseline(data)}."
    shares = [
        f"{'the first' if arm[f'num_{name}'] < arm[f'num_{name}_in_all'] else 'all'} {whole(arm[f'num_{name}'])}"
        for name in ("searcher", "random")
    ]
    equal = "as much time as" if arm.get("is_equal_time") else "as many as"
    best = f"best cost {decimal(arm.get('searcher_best'), 4)} against {decimal(arm.get('random_best'), 4)}"
    gain = ""
    if not is_missing(arm.get("difference")):
        gain = f", difference {signed(arm['difference'], 4)} {interval(arm.get('low'), arm.get('high'), 4)}"
    noun = "trial" if arm["num_searcher"] == 1 else "trials"
    return (
        f"Searcher against random: {shares[0]} searcher {noun}, {equal} {shares[1]} random "
        f"{'one' if arm['num_random'] == 1 else 'ones'}: {best}{gain}. {sentence(str(arm.get('verdict') or ''))}".strip()
    )


def _without_baseline(data: ReportData) -> str:
    if data.experiment.get("searcher") == "random":
        return "the searcher is random search itself"
    if not data.experiment.get("random_share"):
        return "there is no random baseline (`--random-share` adds one)"
    return f"the {'searcher' if 'random' in data.searchers else 'random baseline'} has no trial yet"


def _marginal_value(data: ReportData) -> str:
    value = data.summary.get("marginal_value")
    if not value:
        return "One more day of search: n/a, too few trials at the highest fidelity, or no times, to extrapolate from."
    expected = decimal(value.get("per_day_improvement"), 4)
    method = f" ({value['method']})" if value.get("method") else ""
    return f"One more day of search is expected to lower the cost by {expected} {interval(value.get('low'), value.get('high'), 4)}{method}."


def warnings(data: ReportData, *, on: Medium) -> Warnings:
    """Return the warnings of the analysis."""
    found = [sentence(str(text)) for text in data.summary.get("warnings") or []]
    return Warnings(title="Warnings", sentences=found, on=on)


def configurations(data: ReportData) -> Sheet:
    """Return a row per setting of the incumbent and of each reference."""
    named: list[Row] = [] if data.incumbent is None else [{"name": "incumbent", **data.incumbent}]
    return Sheet(
        name="configurations",
        columns=(
            "role",
            "cost",
            "fidelity",
            "num_seeds",
            "predicted_cost",
            "difference",
            "hyperparameter",
            "value",
        ),
        rows=[
            {**row, "role": row["name"], "hyperparameter": hyperparameter, "value": value}
            for row in [*named, *data.listed("references")]
            for hyperparameter, value in (row.get("config") or {}).items()
        ],
    )


def cost_column(title: str, key: str) -> Column:
    return Column(title=title, text=lambda row: decimal(row.get(key), 4), sort=number_in(key), is_numeric=True)


def _count(key: str) -> Callable[[Row], str]:
    return lambda row: NOT_AVAILABLE if is_missing(row.get(key)) else format_count(float(row[key]))


def interval_column(digits: int, *, is_minor: bool = False) -> Column:
    """Return the column of a row's `low` and `high`."""
    return Column(
        title="95 % interval",
        text=lambda row: interval(row.get("low"), row.get("high"), digits),
        is_numeric=True,
        is_minor=is_minor,
    )


def number_in(key: str) -> Callable[[Row], float | None]:
    return lambda row: None if is_missing(row.get(key)) else float(row[key])
