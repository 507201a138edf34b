"""What trials cost, in equivalents of full evaluations: trials at the highest fidelity that start from the beginning."""

from __future__ import annotations

from collections.abc import Iterable

from naxcli.records.trial import Trial
from naxcli.settings.experiment import Experiment


class EvaluationCount:
    """The cost of trials together, however they end, from nothing but their records.

    A trial costs what is stated of its fidelity. Where nothing is, that is its share of the highest fidelity, less what a promoted
    training goes on from; an objective of a space's own is evaluated from the beginning.

    Attributes:
        total: in full evaluations.
    """

    def __init__(self, experiment: Experiment, trials: Iterable[Trial] = ()) -> None:
        self.total = 0.0
        self._experiment = experiment
        self._fidelities: dict[int, float] = {}  # by trial
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Take one more trial into account; the one that it continues came before."""
        self._fidelities[trial.trial_id] = trial.fidelity
        self.total += self._cost(trial)

    def _cost(self, trial: Trial) -> float:
        experiment = self._experiment
        stated = None if experiment.cost is None else experiment.cost.of(trial.fidelity)
        if stated is not None:
            return stated
        continued = 0.0
        if experiment.data is not None and trial.parent_trial_id is not None:
            continued = experiment.continued_share(trial.config) * self._fidelities[trial.parent_trial_id]
        return (trial.fidelity - continued) / experiment.fidelity.max
