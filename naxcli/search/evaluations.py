"""What trials cost, in equivalents of full evaluations: trials at the highest fidelity that start from the beginning."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from naxcli.records.history import FinishedTrial
from naxcli.records.trial import Status, Trial
from naxcli.settings.experiment import Experiment


class EvaluationCount:
    """The cost of a search's trials together, however they end, from nothing but their records.

    A trial costs what is stated of its fidelity. Where nothing is, that is its share of the highest fidelity, less what a promoted
    training goes on from, whether or not that checkpoint is still there; an objective of a space's own is evaluated from the
    beginning. Of either, one that was stopped early costs the share of its epochs. A measured cost is the trial's time, in units of that
    of a full evaluation: the median, over the successes of the highest rung that has some, of time over share.

    Args:
        experiment: Settings of the search.
        finished: Trials that have ended, in the order in which they did.
        running: Trials that were asked for and have not ended.
    """

    def __init__(
        self, experiment: Experiment, finished: Iterable[FinishedTrial] = (), running: Iterable[Trial] = ()
    ) -> None:
        self._experiment = experiment
        self._is_measured = experiment.cost is not None and experiment.cost.is_measured
        self._fidelities: dict[int, float] = {}  # of the trials that have ended
        self._shares = 0.0
        self._running: dict[int, float] = {}
        self._seconds = 0.0
        self._rung = 0.0
        self._full_seconds: list[float] = []  # of full evaluations, as the successes of that rung tell, ascending
        for item in finished:
            self.ended(item)
        for trial in running:
            self.started(trial)

    @property
    def finished(self) -> float:
        """The cost of the trials that have ended."""
        full = self._full_seconds[len(self._full_seconds) // 2] if self._full_seconds else 0.0
        return self._seconds / full if self._is_measured and full > 0 else self._shares

    @property
    def asked(self) -> float:
        """The cost of all trials, those that run included."""
        return self.finished + sum(self._running.values())

    def started(self, trial: Trial) -> None:
        """Take a trial into account that runs from now on."""
        self._running[trial.trial_id] = self._cost(trial)

    def ended(self, item: FinishedTrial) -> None:
        """Take a result into account; the trial that this one continues ended before."""
        trial = item.trial
        self._running.pop(trial.trial_id, None)
        cost = self._cost(trial)
        if item.stopped_after is not None:
            cost *= item.stopped_after / trial.fidelity
        self._fidelities[trial.trial_id] = trial.fidelity
        self._shares += cost
        self._seconds += item.seconds
        if item.status != Status.SUCCESS or trial.fidelity < self._rung:
            return
        if trial.fidelity > self._rung:
            self._rung, self._full_seconds = trial.fidelity, []
        bisect.insort(self._full_seconds, item.seconds / cost)

    def _cost(self, trial: Trial) -> float:
        """Return what is stated of a trial's fidelity, or else its share."""
        experiment = self._experiment
        stated = None if experiment.cost is None else experiment.cost.of(trial.fidelity)
        if stated is not None:
            return stated
        continued = 0.0
        if experiment.data is not None and trial.parent_trial_id is not None:
            continued = experiment.continued_share(trial.config) * self._fidelities[trial.parent_trial_id]
        return (trial.fidelity - continued) / experiment.fidelity.max
