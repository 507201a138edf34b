"""From a run directory, or a foreign table, to the data of a report: reads the records, asks the analysis."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from naxcli.analysis.methods import METHODS, check_methods
from naxcli.errors import NaxcliError
from naxcli.records.database import Records, read_trials_parquet
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import CONFIG_PREFIX
from naxcli.search_space.contract import plain_config
from naxcli.search_space.recorded import read_space

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from pandas import DataFrame

    from naxcli.report.data import ReportData


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What a report computes: the methods, the flavour of LPI, the fidelities, and how uncertainty is estimated."""

    methods: Sequence[str] = METHODS
    lpi: str = "naxcli"
    at: str | None = None
    bootstrap: int = 100
    seed: int = 0
    is_exact: bool = False

    def __post_init__(self) -> None:
        check_methods(self.methods, self.lpi)


def report_run(
    run: RunDirectory, request: ReportRequest, progress: Callable[[int, int], None] | None = None
) -> ReportData:
    """Return the data of a report on a run, from its records as they are now.

    Raises:
        NaxcliError: if the run's files cannot be read.
    """
    from naxcli.report.data import ReportData

    experiment = run.experiment()
    with Records.open(run) as records:
        trials, curves = records.trials_frame(), records.curves_frame()
        facts = json.loads(records.meta("space") or "{}")
    configuration_space = read_space(run.space_file)
    trials = with_every_hyperparameter(trials, configuration_space)
    summary = _summarise(
        trials,
        configuration_space,
        request,
        progress,
        groups=facts.get("groups", {}),
        references=facts.get("reference", {}),
        run=str(run.path),
        space=facts.get("name", experiment.space),
        merged=facts.get("merged", ()),
    )
    return ReportData(
        summary=summary,
        trials=trials,
        curves=curves,
        environment=run.read_json(run.environment_file),
        experiment=experiment.to_settings(),
        confirmation=run.read_json(run.confirmation_file) or None,
        scales=_scales(configuration_space),
    )


def compare_run_directories(first: RunDirectory, second: RunDirectory, request: ReportRequest) -> dict[str, Any]:
    """Return two runs side by side, as `analysis.compare.compare_runs` describes it.

    Raises:
        NaxcliError: if a run cannot be read.
    """
    from naxcli.analysis.compare import Run, compare_runs

    runs = []
    for run in (first, second):
        data = report_run(run, request)
        runs.append(
            Run(
                name=str(run.path),
                frame=data.trials,
                configuration_space=read_space(run.space_file),
                settings=data.experiment,
                summary=data.summary,
            )
        )
    return compare_runs(runs[0], runs[1], seed=request.seed)


def report_table(
    trials_file: Path, space_file: Path, request: ReportRequest, progress: Callable[[int, int], None] | None = None
) -> ReportData:
    """Return the data of a report on a table from elsewhere.

    Raises:
        NaxcliError: if a file cannot be read, or its columns do not fit the space.
    """
    from naxcli.analysis.table import normalise_table
    from naxcli.report.data import ReportData

    configuration_space = read_space(space_file)
    trials = normalise_table(read_trials_parquet(trials_file), configuration_space)
    summary = _summarise(
        trials,
        configuration_space,
        request,
        progress,
        groups={},
        references={},
        run=str(trials_file),
        space=space_file.stem,
    )
    return ReportData(summary=summary, trials=trials, scales=_scales(configuration_space))


def with_every_hyperparameter(trials: DataFrame, configuration_space: ConfigurationSpace) -> DataFrame:
    """Return a run's trials with a column for those hyperparameters too that were inactive in all of them."""
    columns = [CONFIG_PREFIX + name for name in configuration_space]
    absent = [column for column in columns if column not in trials]
    return trials.reindex(columns=[*trials.columns, *absent]) if len(trials) else trials


def _scales(configuration_space: ConfigurationSpace) -> dict[str, str]:
    from ConfigSpace.hyperparameters import NumericalHyperparameter

    return {
        name: "log" if getattr(hyperparameter, "log", False) else "linear"
        for name, hyperparameter in configuration_space.items()
        if isinstance(hyperparameter, NumericalHyperparameter)
    }


def _summarise(
    trials: Any,
    configuration_space: ConfigurationSpace,
    request: ReportRequest,
    progress: Callable[[int, int], None] | None,
    *,
    groups: dict[str, list[str]],
    references: dict[str, Any],
    run: str,
    space: str,
    merged: Sequence[str] = (),
) -> dict[str, Any]:
    from naxcli.analysis.summary import summarise

    summary = summarise(
        trials,
        configuration_space,
        groups=groups,
        references=references,
        default=plain_config(configuration_space.get_default_configuration()),
        methods=tuple(request.methods),
        lpi=request.lpi,
        at=_fidelity(request.at),
        bootstrap=0 if request.is_exact else request.bootstrap,
        seed=request.seed,
        exact_model=request.is_exact,
        progress=progress,
        merged=merged,
    )
    return {"run": run, "space": space, **{key: value for key, value in summary.items() if key not in ("run", "space")}}


def _fidelity(at: str | None) -> float | Literal["all"] | None:
    if at is None:
        return None
    if at == "all":
        return "all"
    try:
        return float(at)
    except ValueError:
        raise NaxcliError(f"--at {at!r} is not a number of epochs", hint="--at 9, or --at all") from None
