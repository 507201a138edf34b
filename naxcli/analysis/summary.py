"""The summary of a run that `naxcli report` shows: one dictionary, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from ConfigSpace import ConfigurationSpace

from naxcli.analysis.anytime import is_full_fidelity, marginal_value, pareto_front, trajectory
from naxcli.analysis.audit import audit_warnings, proxy_audit, random_arm
from naxcli.analysis.changes import importance_changes
from naxcli.analysis.encoding import Encoding, Flags, Floats, Parts, check_groups, distinct_rows
from naxcli.analysis.failures import failure_rates
from naxcli.analysis.fidelity import Answer, Failures, answer
from naxcli.analysis.incumbent import Incumbent, find_incumbent
from naxcli.analysis.methods import METHODS, check_methods, check_quantiles
from naxcli.analysis.ped_anova import Quantiles
from naxcli.analysis.references import compare_references
from naxcli.analysis.request import Request
from naxcli.analysis.table import check_table, unused_columns
from naxcli.analysis.tenths import Profile, tenths
from naxcli.analysis.trade_off import trade_offs
from naxcli.errors import NaxcliError
from naxcli.records.trial import NO_FAILURES, Config
from naxcli.search_space.contract import plain_config, to_configuration
from naxcli.search_space.enumeration import count_configurations
from naxcli.settings.units import counted


def summarise(
    frame: pd.DataFrame,
    configuration_space: ConfigurationSpace,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    references: Mapping[str, Config] | None = None,
    default: Config | None = None,
    methods: Sequence[str] = METHODS,
    lpi: str = "naxcli",
    at: float | Literal["all"] | None = None,
    bootstrap: int = 100,
    seed: int = 0,
    exact_model: bool = False,
    progress: Callable[[int, int], None] | None = None,
    run: str | None = None,
    space: str | None = None,
    merged: Collection[str] = (),
    best: tuple[float, float] = (0.1, 0.5),
    objectives: Sequence[str] = (),
    profiles: Mapping[str, Profile] = MappingProxyType({}),
    is_exhausted: bool = False,
) -> dict[str, Any]:
    """Return everything a report says about a table of trials.

    Args:
        frame: trials as in trials.parquet, or a table from elsewhere (see `normalise_table`).
        configuration_space: the space of its configurations.
        groups: name -> hyperparameters whose importance is also given jointly.
        references: name -> configuration to compare the incumbent with.
        default: where ablation path and Shapley values start; the space's default if None.
        methods: which of `METHODS` to compute.
        lpi: `naxcli`, or `deepcave` for the definition of DeepCAVE, in which `std` is a variance.
        at: the fidelity to analyse; all of them if None or `all`.
        bootstrap: number of draws from the posterior for the intervals, 0 for none.
        seed: of forests, draws and samples; the same seed gives the same numbers.
        exact_model: one tree of full depth, for complete factorials without noise; no intervals.
        progress: called with draws done and in all.
        run: name of the run, passed on.
        space: name of the space, passed on.
        merged: choices (`name=value`) that the space counts as other names of the same network, so that no trial can have them.
        best: which share of the trials PED-ANOVA takes for the best, and which larger share it tells them from.
        objectives: columns of further objectives that the search lowered, such as `num_params`.
        profiles: functions of a configuration that return one number for each block, by name.
        is_exhausted: whether the search has found no further configuration in the space.

    Returns:
        JSON values only: numbers that do not exist are None, never NaN.

    Raises:
        NaxcliError: if the table, the references or the arguments do not fit the space.
    """
    _check_arguments(methods, lpi, bootstrap)
    check_quantiles(*best)
    table, vectors = check_table(frame, configuration_space)
    encoding = Encoding(configuration_space)
    compared = _compared(configuration_space, default, references or {})
    rows = {
        name: encoding.vector(to_configuration(configuration_space, config, what=f"the configuration {name!r}"))
        for name, config in compared.items()
    }
    incumbent = find_incumbent(table, vectors)
    request = Request(
        encoding=encoding,
        groups=check_groups(groups or {}, encoding),
        default=rows["default"],
        # Without an incumbent there is no importance either, so that the default may stand in its place.
        incumbent=rows["default"] if incumbent is None else vectors[incumbent.row],
        methods=methods,
        lpi=lpi,
        num_draws=bootstrap,
        seed=seed,
        is_exact=exact_model,
        merged=frozenset(merged),
        quantiles=Quantiles(target=best[0], region=best[1]),
    )
    answers = _answers(table, vectors, request, fidelities=_fidelities(table, at), progress=progress)
    audits, arm = proxy_audit(table, vectors), random_arm(table)
    forest = next((a.forest for a in answers if incumbent and a.entry["fidelity"] == incumbent.fidelity), None)
    num_configs = count_configurations(configuration_space)
    return {
        "run": run,
        "space": space,
        "seed": seed,
        "incumbent": _incumbent_entry(incumbent),
        "references": compare_references(compared, rows, table, vectors, incumbent=incumbent, forest=forest),
        "trials": {str(status): int(count) for status, count in table["status"].value_counts(sort=True).items()},
        "failures": _failures(table),
        "failure_rates": failure_rates(table, vectors, encoding, seed=seed),
        "importance": [a.entry for a in answers],
        "importance_changes": importance_changes([a.measured for a in answers], seed=seed),
        "trajectory": trajectory(table),
        "proxy_audit": audits,
        "random_arm": arm,
        "marginal_value": marginal_value(table, vectors, num_configs=0 if is_exhausted else num_configs, seed=seed),
        "pareto": pareto_front(table, vectors),
        "trade_offs": _trade_offs(table, vectors, request, objectives),
        "tenths": tenths(table, vectors, profiles),
        "warnings": [
            *_table_warnings(frame, configuration_space, table),
            *(warning for a in answers for warning in a.warnings),
            *audit_warnings(audits, arm),
        ],
    }


def _compared(
    configuration_space: ConfigurationSpace, default: Config | None, references: Mapping[str, Config]
) -> dict[str, dict[str, Any]]:
    """Return the configurations that the incumbent is compared with by name, the default first."""
    if default is None:
        default = plain_config(configuration_space.get_default_configuration())
    return {name: plain_config(config) for name, config in {"default": default, **references}.items()}


def _check_arguments(methods: Sequence[str], lpi: str, bootstrap: int) -> None:
    check_methods(methods, lpi)
    if bootstrap < 0:
        raise NaxcliError(f"the number of draws is {bootstrap}", hint="0 for no intervals, 100 for good ones")


def _fidelities(table: pd.DataFrame, at: float | Literal["all"] | None) -> list[float]:
    present = sorted(float(fidelity) for fidelity in table["fidelity"].dropna().unique())
    if at is None or at == "all":
        return present
    if float(at) not in present:
        known = ", ".join(f"{fidelity:g}" for fidelity in present) or "none: there are no trials yet"
        raise NaxcliError(f"no trial has fidelity {float(at):g}", why=f"fidelities of the trials: {known}")
    return [float(at)]


def _answers(
    table: pd.DataFrame,
    vectors: Floats,
    request: Request,
    *,
    fidelities: Sequence[float],
    progress: Callable[[int, int], None] | None,
) -> list[Answer]:
    succeeded = (table["status"] == "success").to_numpy(dtype=bool)
    costs = table["cost"].to_numpy(dtype=float)
    fidelity_of = table["fidelity"].to_numpy(dtype=float)
    _, config = distinct_rows(vectors)
    answers = []
    for position, fidelity in enumerate(fidelities):
        rows = succeeded & (fidelity_of == fidelity)

        def advance(done: int, total: int, *, before: int = position) -> None:
            if progress is not None:
                progress(before * total + done, len(fidelities) * total)

        failed = np.flatnonzero((fidelity_of == fidelity) & ~succeeded)
        # DeepCAVE looks around the best of each fidelity, naxcli around the incumbent.
        own = find_incumbent(table[rows], vectors[rows]) if request.lpi == "deepcave" else None
        found = answer(
            fidelity,
            vectors[rows],
            costs[rows],
            request if own is None else replace(request, lpi_incumbent=vectors[rows][own.row]),
            failures=Failures(vectors=vectors[failed], statuses=table["status"].iloc[failed].tolist()),
            survivors_of=_survivors_of(config, fidelity_of, succeeded, fidelity),
            progress=advance,
        )
        answers.append(found if own is None else replace(found, entry={**found.entry, "lpi_incumbent": own.config_id}))
    return answers


def _trade_offs(
    table: pd.DataFrame, vectors: Floats, request: Request, objectives: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the importance for the cost together with each further objective, at the highest fidelity."""
    rows = np.flatnonzero(is_full_fidelity(table))
    sizes = {name: table[name].to_numpy(dtype=float)[rows] for name in objectives if name in table}
    if "fanova" not in request.methods or len(rows) == 0 or not sizes:
        return []
    fidelity, costs = float(table["fidelity"].iloc[rows[0]]), table["cost"].to_numpy(dtype=float)[rows]
    return trade_offs(fidelity, vectors[rows], costs, sizes, request)


def _survivors_of(config: Parts, fidelity_of: Floats, succeeded: Flags, fidelity: float) -> int | None:
    """Return the number of configurations at the lowest rung, where most of those at this one were promoted from below."""
    if not succeeded.any():
        return None
    here = set(config[succeeded & (fidelity_of == fidelity)])
    below = set(config[succeeded & (fidelity_of < fidelity)])
    lowest = set(config[succeeded & (fidelity_of == fidelity_of[succeeded].min())])
    was_promoted = len(here & below) * 2 > len(here)
    return len(lowest) if here and was_promoted and len(here) < len(lowest) else None


def _incumbent_entry(incumbent: Incumbent | None) -> dict[str, Any] | None:
    if incumbent is None:
        return None
    return {
        "config": incumbent.config,
        "cost": incumbent.cost,
        "fidelity": incumbent.fidelity,
        "num_seeds": incumbent.num_seeds,
        "config_id": incumbent.config_id,
        "trial_id": incumbent.trial_id,
    }


def _failures(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the failed trials by status, most frequent first, each with the last line of one error."""
    failed = table[~table["status"].isin(NO_FAILURES)]
    counts = failed["status"].value_counts()
    return [
        {"status": str(status), "count": int(count), "example": _example(failed[failed["status"] == status])}
        for status, count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    ]


def _example(failed: pd.DataFrame) -> str | None:
    if "error" not in failed:
        return None
    lines = [str(error).strip().splitlines()[-1] for error in failed["error"].dropna() if str(error).strip()]
    return lines[0] if lines else None


def _table_warnings(frame: pd.DataFrame, configuration_space: ConfigurationSpace, table: pd.DataFrame) -> list[str]:
    succeeded = (table["status"] == "success").to_numpy(dtype=bool)
    has_failed = ~table["status"].isin(NO_FAILURES).to_numpy(dtype=bool)
    found = []
    if len(frame) == 0:
        found.append("there are no trials yet")
    elif not succeeded.any():
        found.append(f"{counted(len(frame), 'trial')} failed, and none succeeded")
    elif has_failed.any():
        found.append(f"{int(has_failed.sum()):,} of {len(frame):,} trials failed: left out of costs and importance")
    if (num_stopped := int((table["status"] == "stopped").sum())) and succeeded.any():
        found.append(
            f"{counted(num_stopped, 'trial')} stopped early: costs and importance are of those that were trained to their end"
        )
    num_cut = int((table["grad_accum_steps"] > 1).sum()) if "grad_accum_steps" in table else 0
    if num_cut:
        found.append(
            f"{counted(num_cut, 'trial')} trained with batches cut for lack of memory (grad_accum_steps in trials.parquet): "
            "batch normalization saw fewer images than the recipe says, and the costs are not quite comparable"
        )
    unused = unused_columns(frame, configuration_space)
    if unused:
        found.append(f"columns that are no hyperparameter of the space are not used: {', '.join(unused)}")
    return found
