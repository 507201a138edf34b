"""A benchmark made of recorded trials: a random forest that answers for every configuration at the recorded fidelities.

Eggensperger et al., "Efficient Benchmarking of Hyperparameter Optimizers via Surrogates", AAAI 2015.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, config_id
from naxcli.search_space.contract import Space, to_configuration
from naxcli.search_space.domains import choices_of
from naxcli.search_space.recorded import read_space
from naxcli.search_space.result_tables import legal_config, read_table
from naxcli.settings.fidelity import FidelityRange
from naxcli.settings.units import counted

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from sklearn.ensemble import RandomForestRegressor

NUM_TREES = 100
NUM_FOLDS = 5
MIN_CONFIGS = 20
_INACTIVE = -1.0  # below every value of ConfigSpace's vectors

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """How well a surrogate knows a fidelity.

    Args:
        fidelity: Of the trials.
        num_trials: Number of successful trials.
        r2: Share of the variance of their costs that forests explain which saw nothing of their configurations, at any fidelity.
        deviation: Root mean square of what those do not explain, in units of the cost.
    """

    fidelity: float
    num_trials: int
    r2: float
    deviation: float


class SurrogateBenchmark:
    """A random forest of recorded costs over configurations and fidelities.

    Args:
        configuration_space: Of the trials.
        trials: Configuration, fidelity and cost of each successful trial.
        source: What errors call them.

    Raises:
        NaxcliError: If there are too few configurations.
    """

    def __init__(
        self, configuration_space: ConfigurationSpace, trials: Sequence[tuple[Config, float, float]], *, source: str
    ) -> None:
        self.configuration_space = configuration_space
        self._source = source
        self.trials = tuple(trials)
        self._identities = [config_id(config) for config, _, _ in self.trials]
        if len(set(self._identities)) < MIN_CONFIGS:
            raise NaxcliError(
                f"{source} has {counted(len(set(self._identities)), 'configuration')}",
                why=f"a benchmark needs at least {MIN_CONFIGS} that were trained",
            )
        self._fidelities = np.array([fidelity for _, fidelity, _ in self.trials])
        self._costs = np.array([cost for _, _, cost in self.trials])

    @property
    def fidelities(self) -> tuple[float, ...]:
        """The recorded fidelities, in ascending order."""
        return tuple(np.unique(self._fidelities).tolist())

    @property
    def ladder(self) -> str:
        """The recorded fidelities as `--fidelity` takes them; the highest alone where they are no ladder."""
        low, high = self.fidelities[0], self.fidelities[-1]
        eta = round((high / low) ** (1 / max(1, len(self.fidelities) - 1)))
        try:
            ladder = FidelityRange(min=low, max=high, eta=max(2, eta))
        except NaxcliError:
            return f"{high:g}"
        return str(ladder) if np.allclose(ladder.rungs(), self.fidelities) else f"{high:g}"

    @property
    def num_configs(self) -> int:
        """Number of configurations that were trained."""
        return len(set(self._identities))

    @property
    def content_hash(self) -> str:
        """The first 16 digits of the SHA-256 of the trials, in whatever order they are."""
        rows = sorted(
            json.dumps([dict(config), fidelity, cost], sort_keys=True) for config, fidelity, cost in self.trials
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]

    @functools.cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """How well each fidelity is known, lowest first."""
        from sklearn.model_selection import GroupKFold

        predicted = np.empty_like(self._costs)
        for train, test in GroupKFold(NUM_FOLDS).split(self._inputs, groups=self._identities):
            predicted[test] = _forest(self._inputs[train], self._costs[train]).predict(self._inputs[test])
        rungs = []
        for fidelity in self.fidelities:
            at = self._fidelities == fidelity
            error, variance = np.mean((self._costs - predicted)[at] ** 2), np.var(self._costs[at])
            rungs.append(
                Rung(
                    fidelity=fidelity,
                    num_trials=int(at.sum()),
                    r2=float(1 - error / variance) if variance else 0.0,
                    deviation=float(np.sqrt(error)),
                )
            )
        return tuple(rungs)

    def expected_costs(self, configs: Sequence[Config], *, fidelity: float) -> Floats:
        """Return the costs that the forest expects, (num_configs,).

        Raises:
            NaxcliError: If a configuration is not of the space, or the fidelity was not recorded.
        """
        self._rung(fidelity)
        vectors = np.stack([to_configuration(self.configuration_space, config).get_array() for config in configs])
        costs: Floats = self._fitted.predict(self._columns(vectors, np.full(len(configs), fidelity)))
        return costs

    def cost(self, config: Config, *, fidelity: float, seed: int) -> float:
        """Return the cost of one training: what the forest expects, and a deviation as large as what it does not explain.

        The deviation is normally distributed, and the same whenever configuration, fidelity and seed are: a training repeated.

        Raises:
            NaxcliError: As above.
        """
        digest = hashlib.sha256(f"{config_id(config)} {fidelity:g} {seed}".encode()).digest()
        deviation = np.random.default_rng(int.from_bytes(digest)).normal(scale=self._rung(fidelity).deviation)
        return float(self.expected_costs([config], fidelity=fidelity)[0] + deviation)

    def as_space(self, name: str, *, like: Space | None = None) -> Space:
        """Return a space whose objective is `cost`.

        Args:
            name: Of the space.
            like: Space that the trials are of, whose groups, references and networks the new one has too.
        """

        def configspace(seed: int | None = None) -> ConfigurationSpace:
            fresh = copy.deepcopy(self.configuration_space)
            fresh.seed(seed)
            return fresh

        if like is None:
            return Space(name=name, configspace=configspace, evaluate=self.cost)
        return dataclasses.replace(like, name=name, evaluate=self.cost, origin="")

    def _rung(self, fidelity: float) -> Rung:
        for rung in self.rungs:
            if math.isclose(rung.fidelity, fidelity):
                return rung
        known = ", ".join(f"{known:g}" for known in self.fidelities)
        raise NaxcliError(
            f"{self._source} has no trials at fidelity {fidelity:g}",
            why=f"it has some at {known}",
            hint=f"search with --fidelity {self.ladder}",
        )

    @functools.cached_property
    def _fitted(self) -> RandomForestRegressor:
        return _forest(self._inputs, self._costs)

    @functools.cached_property
    def _inputs(self) -> Floats:
        vectors = [to_configuration(self.configuration_space, config).get_array() for config, _, _ in self.trials]
        return self._columns(np.stack(vectors), self._fidelities)

    def _columns(self, vectors: Floats, fidelities: Floats) -> Floats:
        """Return the forest's input: a column a choice of unordered hyperparameters, one of each other, and the fidelity's."""
        columns = [np.log(fidelities)]
        for column, hyperparameter in zip(vectors.T, self.configuration_space.values(), strict=True):
            choices = choices_of(hyperparameter)
            if choices is None or hasattr(hyperparameter, "sequence"):
                columns.append(np.nan_to_num(column, nan=_INACTIVE))
            else:
                columns.extend(column == number for number in range(len(choices)))
        return np.stack(columns, axis=1).astype(np.float64)


def space_from_trials(
    trials: str | Path, *, name: str, space: Space | None = None, content_hash: str = "", paper: str = ""
) -> Space:
    """Return the space of recorded trials, in which a forest of them tells what a training costs: a benchmark for searchers.

    Args:
        trials: Parquet file with the columns of a run's trials.parquet.
        name: Name of the space.
        space: Whose configurations the trials are; its networks are then known to limits and exports. None reads the run's
            space.json beside the trials.
        content_hash: Hash of the trials that are meant; others are refused. Empty accepts any.
        paper: Citation.

    Raises:
        NaxcliError: If a file cannot be read, or has too few trials of the space, or others.
    """
    path = Path(trials)
    benchmark = read_benchmark(path, space=space)
    if content_hash not in ("", benchmark.content_hash):
        raise NaxcliError(
            f"{path} has other trials than the benchmark was made of",
            why=f"content hash {content_hash} then, {benchmark.content_hash} now",
            hint=f"naxcli space from-trials {path} makes another",
        )
    made = benchmark.as_space(name, like=space)
    return dataclasses.replace(made, paper=paper or made.paper)


def read_benchmark(path: Path, *, space: Space | None = None) -> SurrogateBenchmark:
    """Return the benchmark of the trials of a file; arguments and errors as above."""
    configuration_space = read_space(path.with_name("space.json")) if space is None else space.configuration_space()
    table = read_table(path, configuration_space)
    missing = [item for item in configuration_space if item not in table.names]
    if missing:
        raise NaxcliError(
            f"{path} has not the hyperparameters {', '.join(missing)}",
            why=f"it has {', '.join(table.names) or 'none'}",
            hint="name the space that its trials were of with --space",
        )
    known = []
    for values, fidelity, cost in table.trials:
        config, _ = legal_config(values, configuration_space)
        if config is not None:
            known.append((config if space is None else space.canonicalise(config), fidelity, cost))
    return SurrogateBenchmark(configuration_space, known, source=str(path))


def _forest(inputs: Floats, costs: Floats) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(NUM_TREES, max_features=0.5, min_samples_leaf=2, random_state=0).fit(inputs, costs)
