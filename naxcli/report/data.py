"""ReportData: everything a report shows, in one value, and the few numbers that every rendering derives from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from naxcli.analysis.clock import elapsed_seconds
from naxcli.analysis.table import is_error_rate
from naxcli.records.studies import Study
from naxcli.records.trial import CONFIG_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The records and the analysis of one run.

    Args:
        summary: The object of `report --json`, made by the analysis; null stands for "not available".
        trials: One row per finished trial in the order in which they ended, columns as in `trials.parquet`.
        curves: One row per epoch with the columns trial_id, epoch, train_loss, val_accuracy, val_loss, learning_rate, seconds.
        environment: Versions, git commit, hardware and data hash at the time of the run.
        experiment: The resolved settings of the run.
        confirmation: The content of the run's confirmation.json, if `naxcli confirm` ran.
        scales: Numeric hyperparameter -> `linear` or `log`, as the space searches it. All others are choices.
        studies: The finished studies of its trained networks.
    """

    summary: Mapping[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    experiment: Mapping[str, Any] = field(default_factory=dict)
    confirmation: Mapping[str, Any] | None = None
    scales: Mapping[str, str] = field(default_factory=dict)
    studies: Sequence[Study] = ()

    @property
    def run(self) -> str:
        return str(self.summary.get("run") or "run")

    @property
    def space(self) -> str:
        return str(self.summary.get("space") or "unknown space")

    @property
    def incumbent(self) -> Mapping[str, Any] | None:
        """The best configuration at the highest fidelity, or None before the first success."""
        incumbent: Mapping[str, Any] | None = self.summary.get("incumbent")
        return incumbent

    @property
    def importance(self) -> list[Mapping[str, Any]]:
        """One entry per fidelity, the lowest first."""
        return sorted(self.summary.get("importance") or [], key=lambda entry: float(entry["fidelity"]))

    @property
    def searchers(self) -> list[str]:
        """Names of the searchers that suggested the trials."""
        return sorted(map(str, self.trials["searcher"].dropna().unique())) if "searcher" in self.trials else []

    @property
    def confirmed(self) -> Mapping[str, Any] | None:
        """The verdict of `naxcli confirm`, or None before it has one."""
        verdict: Mapping[str, Any] | None = (self.confirmation or {}).get("verdict")
        return verdict

    @property
    def is_trained(self) -> bool:
        """Whether the trials trained networks on a data set, as far as the settings say: else there is no recipe and no test set."""
        return self.experiment.get("data") is not None

    def listed(self, key: str) -> list[Mapping[str, Any]]:
        """Return a list of the summary; a missing one and null are empty."""
        return list(self.summary.get(key) or [])

    def full_references(self) -> list[Mapping[str, Any]]:
        """Return the references that were measured at the incumbent's fidelity, and can be drawn beside it."""
        if self.incumbent is None:
            return []
        known = [reference for reference in self.listed("references") if reference.get("cost") is not None]
        return [reference for reference in known if reference.get("fidelity") == self.incumbent.get("fidelity")]

    @property
    def successes(self) -> pd.DataFrame:
        """Successful trials with a finite cost, in the order in which they ended."""
        trials = self.trials
        if trials.empty or "status" not in trials or "cost" not in trials:
            return trials.iloc[:0]
        cost = pd.to_numeric(trials["cost"], errors="coerce")
        chosen: pd.DataFrame = trials[(trials["status"] == "success") & np.isfinite(cost.to_numpy(dtype=float))]
        return chosen

    @property
    def cost_is_error_rate(self) -> bool:
        """Whether the cost of the trials is 1 - validation accuracy, so that it can be shown as an accuracy."""
        return is_error_rate(self.successes)

    @property
    def hyperparameters(self) -> list[str]:
        """Names of the hyperparameters in the order of the records."""
        return [name.removeprefix(CONFIG_PREFIX) for name in self.trials.columns if name.startswith(CONFIG_PREFIX)]

    @property
    def fidelity_unit(self) -> str:
        """`epochs` where networks were trained (their learning curves say so), else the neutral `fidelity`."""
        return "epochs" if self.curves is not None and not self.curves.empty else "fidelity"

    @property
    def seconds_name(self) -> str:
        """`GPU-seconds` where every trial ran on a GPU, else `trial-seconds`."""
        if self.trials.empty or "device" not in self.trials:
            return "trial-seconds"
        devices = self.trials["device"].dropna().astype(str)
        return "GPU-seconds" if len(devices) and devices.str.startswith("cuda").all() else "trial-seconds"

    @property
    def spent_name(self) -> str:
        """Heading of an axis of `seconds_name` in any unit of time."""
        return "GPU time" if self.seconds_name == "GPU-seconds" else "Time in trials"

    def elapsed_seconds(self, trials: pd.DataFrame) -> pd.Series:
        """Return seconds from the start of the first trial of the run to the end of each given trial, NaN where not recorded."""
        return pd.Series(elapsed_seconds(self.trials), index=self.trials.index).reindex(trials.index)

    def trial_seconds(self, trials: pd.DataFrame) -> pd.Series:
        """Return the seconds spent in all trials of the run that had ended when each given trial ended, NaN where not recorded."""
        if "seconds" not in self.trials:
            return pd.Series(np.nan, index=trials.index)
        return self.trials["seconds"].fillna(0.0).astype(float).cumsum().reindex(trials.index)

    def trial_ids(self, trials: pd.DataFrame) -> pd.Series:
        """Return the trials' ids; tables from elsewhere, which have none, are numbered by row."""
        return trials["trial_id"].astype(int) if "trial_id" in trials else pd.Series(trials.index, index=trials.index)
