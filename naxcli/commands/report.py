"""From a run directory, or a foreign table, to the data of a report: reads the records, asks the analysis."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from naxcli.analysis.methods import METHODS, check_methods, check_quantiles
from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.history import OBJECTIVE_COLUMNS
from naxcli.records.parquet import read_trials_parquet
from naxcli.records.studies import read_studies
from naxcli.records.trial import CONFIG_PREFIX, Config
from naxcli.search_space.contract import plain_config
from naxcli.search_space.recorded import load_recorded_space, read_space

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from pandas import DataFrame

    from naxcli.analysis.tenths import Profile
    from naxcli.report.data import ReportData
    from naxcli.settings.experiment import Experiment


# Columns of a method's table of importance, the first ones of each.
_COLUMNS = {
    "lpi": ("fidelity", "name", "mean", "std", "low", "high"),
    "fanova": ("fidelity", "names", "mean", "std", "low", "high"),
    "ablation": ("fidelity", "name", "from", "to", "cost"),
    "shapley": ("fidelity", "name", "value", "low", "high"),
    "ped_anova": ("fidelity", "name", "mean", "low", "high"),
    "tunability": ("fidelity", "name", "mean", "low", "high", "from", "to"),
}
FRAME_HEIGHT = 800  # pixels of a report in a notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What a report computes.

    Args:
        methods: Methods of importance: any of `METHODS`.
        lpi: Definition of local parameter importance, `naxcli` or `deepcave`.
        at: Fidelity that is analysed, as a number or `all`; None analyses all.
        bootstrap: Number of draws from the posterior behind the intervals; 0 gives none.
        seed: Random seed of forests and draws.
        is_exact: Whether the table is a complete factorial without noise: one tree of full depth, and no intervals.
        best: Which share of the trials PED-ANOVA takes for the best, and which larger share it tells them from.

    Raises:
        NaxcliError: If a method or a definition does not exist, or if the shares are none.
    """

    methods: Sequence[str] = METHODS
    lpi: str = "naxcli"
    at: str | None = None
    bootstrap: int = 100
    seed: int = 0
    is_exact: bool = False
    best: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        check_methods(self.methods, self.lpi)
        check_quantiles(*self.best)


@dataclass(frozen=True, slots=True)
class Report:
    """A report on a run, for Python: numbers as data frames, and the page that a notebook shows.

    Args:
        data: What every rendering of the report is made from.
    """

    data: ReportData

    @property
    def importance(self) -> dict[str, DataFrame]:
        """A data frame per method (see `METHODS`): a row per fidelity and hyperparameter.

        One of fANOVA is of one hyperparameter or of a pair, whose `names` are a tuple; the rows of an ablation path are in its order.
        Missing numbers are NaN.
        """
        return {method: self._table(method) for method in METHODS}

    def _table(self, method: str) -> DataFrame:
        import pandas as pd

        rows = [
            {"fidelity": entry["fidelity"], **row} for entry in self.data.importance for row in entry.get(method) or ()
        ]
        for row in rows:
            row.update({name: tuple(row[name]) for name in ("names",) if name in row})
        further = dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS[method])
        return pd.DataFrame(rows, columns=[*_COLUMNS[method], *further])

    @property
    def warnings(self) -> list[str]:
        """What to know before the numbers are believed, in sentences."""
        return list(self.data.summary["warnings"])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values: what `naxcli report --json` prints."""
        return dict(self.data.summary)

    def to_html(self) -> str:
        """Return the report as one page that needs no network: what `naxcli report --html` writes.

        Raises:
            NaxcliError: If Plotly is not installed.
        """
        from naxcli.report.html import render_html

        return render_html(self.data)

    def to_markdown(self) -> str:
        """Return the tables as Markdown: what `naxcli report --md` writes."""
        from naxcli.report.markdown import render_markdown

        return render_markdown(self.data)

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return f"<Report on {self.data.run}: {len(self.data.trials):,} trials, {len(self.warnings):,} warnings>"

    def _repr_html_(self) -> str | None:
        """Return the page in a frame, whose style and scripts stay apart from the notebook's; None without Plotly."""
        try:
            page = self.to_html()
        except NaxcliError:
            return None
        return f'<iframe srcdoc="{html.escape(page)}" width="100%" height="{FRAME_HEIGHT}" frameborder="0"></iframe>'

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def report_run(
    run: RunDirectory,
    request: ReportRequest,
    progress: Callable[[int, int], None] | None = None,
    *,
    space: str | None = None,
) -> ReportData:
    """Return the data of a report on a run, from its records as they are now.

    Args:
        run: Directory of the run.
        request: What is computed.
        progress: Called with the number of draws that are done, and of all.
        space: The space, where it does not ship with naxcli: its profiles are code. Without it they are left out, with a warning.

    Raises:
        NaxcliError: If the run's files cannot be read.
    """
    from naxcli.report.data import ReportData

    experiment = run.experiment()
    with Records.open(run) as records:
        trials, curves = records.trials_frame(), records.curves_frame()
        facts = json.loads(records.meta("space") or "{}")
        is_exhausted = records.meta("exhausted") is not None
    configuration_space = read_space(run.space_file)
    trials = with_every_hyperparameter(trials, configuration_space)
    profiles, warnings = _profiles(facts.get("profiles", ()), experiment, configuration_space, named=space)
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
        objectives=[OBJECTIVE_COLUMNS[name] for name in experiment.objective],
        profiles=profiles,
        is_exhausted=is_exhausted,
    )
    summary["warnings"] += warnings
    return ReportData(
        summary=summary,
        trials=trials,
        curves=curves,
        environment=run.read_json(run.environment_file),
        experiment=experiment.to_settings(),
        confirmation=run.read_json(run.confirmation_file) or None,
        scales=_scales(configuration_space),
        studies=read_studies(run),
    )


def _profiles(
    names: Sequence[str], experiment: Experiment, configuration_space: ConfigurationSpace, *, named: str | None
) -> tuple[dict[str, Profile], list[str]]:
    """Return the profiles that a run's space declared, and a warning where they cannot be had."""
    if not names:
        return {}, []
    default = plain_config(configuration_space.get_default_configuration())
    try:
        space = load_recorded_space({"space": experiment.space}, named=named)
        known = [name for name in names if name in space.profiles]
        for name in known:
            space.profile(name, default)  # the space may have changed since
    except NaxcliError as error:
        reason = "; ".join(part for part in (error.why, error.hint) if part)
        return {}, [f"profiles by block ({', '.join(names)}) are left out: {error.what}: {reason}"]
    warnings: list[str] = []

    def profile_of(name: str, config: Config) -> tuple[float, ...]:
        """Return a configuration's profile, empty where its space has none of it."""
        try:
            return space.profile(name, config)
        except NaxcliError as error:
            warning = f"profile {name} is left out of configurations like {dict(config)}: {error.what}: {error.why}"
            if not any(known.startswith(f"profile {name} ") for known in warnings):
                warnings.append(warning)
            return ()

    return {name: partial(profile_of, name) for name in known}, warnings


def report_table(
    trials_file: Path, space_file: Path, request: ReportRequest, progress: Callable[[int, int], None] | None = None
) -> ReportData:
    """Return the data of a report on a table from elsewhere.

    Args:
        trials_file: Parquet table of trials, a column per hyperparameter.
        space_file: ConfigSpace of the table, as its `to_json` writes it.
        request: What is computed.
        progress: Called with the number of draws that are done, and of all.

    Raises:
        NaxcliError: If a file cannot be read, or its columns do not fit the space.
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
    return trials.reindex(columns=[*trials.columns, *absent])


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
    objectives: Sequence[str] = (),
    profiles: Mapping[str, Profile] = MappingProxyType({}),
    is_exhausted: bool = False,
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
        best=request.best,
        progress=progress,
        merged=merged,
        objectives=objectives,
        profiles=profiles,
        is_exhausted=is_exhausted,
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
