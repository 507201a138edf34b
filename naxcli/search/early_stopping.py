"""Early stopping: what the trials that ended tell of how the next one's learning curve will end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from naxcli.records.trial import Config, Status
from naxcli.search_space.contract import to_configuration
from naxcli.searchers.deep_ensemble import Encoder, Ensemble
from naxcli.searchers.forecast import Forecast, make_forecast

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from naxcli.records.history import FinishedTrial

TRAINED_ANYWAY = 10  # one in so many trials


class EarlyStopping:
    """Makes the forecast of a trial when it starts, from nothing but what is recorded of the trials that have ended by then.

    The worker looks at it after each epoch, so that a decision needs no message and depends on nothing that is not recorded.

    Args:
        configuration_space: of the search.
        seed: of the ensemble.
    """

    def __init__(self, configuration_space: ConfigurationSpace, *, seed: int) -> None:
        self._configuration_space = configuration_space
        self._encoder = Encoder(configuration_space)
        self._start = Ensemble.untrained(self._encoder.num_columns, seed=seed)
        self._inputs: list[npt.NDArray[np.float32]] = []
        self._costs: list[float] = []
        self._curves: list[Sequence[float] | None] = []

    def finished(self, item: FinishedTrial, curve: Sequence[float | None]) -> None:
        """Take a result into account.

        Args:
            item: A trial that ended in whatever way.
            curve: Validation accuracy after each of its epochs.
        """
        if item.status == Status.STOPPED and item.predicted_cost is not None:
            self.add(item.trial.config, item.predicted_cost, None)
        elif item.status == Status.SUCCESS and item.cost is not None:
            costs = [1 - accuracy for accuracy in curve if accuracy is not None]
            self.add(item.trial.config, item.cost, costs if len(costs) == math.ceil(item.trial.fidelity) else None)

    def add(self, config: Config, cost: float, curve: Sequence[float] | None) -> None:
        """Note the cost that a configuration reached or was predicted to, and its curve of costs where that is complete."""
        self._inputs.append(self._input(config))
        self._costs.append(cost)
        self._curves.append(curve)

    def forecast(self, config: Config, incumbent: float) -> Forecast | None:
        """Return the forecast of a trial of a configuration; None while there is too little to tell, and of every tenth trial.

        Those are trained to their end whatever comes, or nothing would tell where forecasts have become wrong.

        Args:
            config: Of the trial.
            incumbent: Cost to beat.
        """
        if len(self._costs) % TRAINED_ANYWAY == TRAINED_ANYWAY - 1:
            return None
        return make_forecast(
            self._start,
            inputs=np.array(self._inputs, dtype=np.float32).reshape(len(self._costs), self._encoder.num_columns),
            costs=np.array(self._costs),
            curves=self._curves,
            candidate=self._input(config)[None],
            incumbent=incumbent,
        )

    def _input(self, config: Config) -> npt.NDArray[np.float32]:
        vector = to_configuration(self._configuration_space, config).get_array()
        encoded: npt.NDArray[np.float32] = self._encoder(vector[None])[0]
        return encoded
