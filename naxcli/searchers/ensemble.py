"""Deep ensemble: several small networks that learn sizes and costs together, and the configuration of highest expected improvement.

Paper: Ouertatani et al., "Neural Architecture Tuning" (NAT), OLA 2024. Every member has one trunk and one head per target. It is
pretrained on the zero-cost metrics of a sample of the space, all at once, and then learns the results of all fidelities together, so
that cheap ones help before there are expensive ones.

Deviations: all members are fitted at once as one batched computation. The metrics are the space's own `zero_cost`, or parameters and
multiply-adds of its networks; latency and memory are left out, as they depend on the machine and a resumed run may be on another. A
tenth of the suggestions is drawn at random, as with the other model-based searcher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, ConfigValue
from naxcli.search_space.contract import Space
from naxcli.search_space.enumeration import sample_vectors
from naxcli.searchers.acquisition import Surrogate, Values, Vectors, expected_improvement
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.costs import has_random_weights, log_scaled, scalarised
from naxcli.searchers.history import History, Told

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from torch import Tensor

NUM_MEMBERS = 5
NUM_UNITS = 64
NUM_METRIC_CONFIGS = 256
PRETRAINING_STEPS = 300
FITTING_STEPS = 150
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-4
RANDOM_SHARE = 0.1
NUM_INITIAL = 10
MIN_STD = 1e-3
# Of the networks whose sizes are learned: what matters is how they compare.
MEASURED_SHAPE: dict[str, Any] = {"num_classes": 100, "in_channels": 3, "image_size": 32}

Parameters = list["Tensor"]


class EnsembleProposer:
    """Proposes the default and the references, random configurations up to ten, then by expected improvement at the highest fidelity tried.

    Args:
        space: whose zero-cost metrics the members are pretrained on; without any they start from random weights.
        seed: of the sample of the space and of the first weights.
        references: legal configurations that are to be compared with.
    """

    def __init__(self, space: Space, *, seed: int, references: Sequence[Config] = ()) -> None:
        self._space = space
        self._first = [space.default_config(), *references]
        self._seed = seed
        self._start: Ensemble | None = None  # pretrained, at the first suggestion that needs it
        self._surrogate: Surrogate | None = None

    def propose(
        self, history: History, candidates: Candidates, rng: np.random.Generator
    ) -> dict[str, ConfigValue] | None:
        first = candidates.first_open(self._first)
        if first is not None:
            return first
        if (
            len(history.asked) < NUM_INITIAL
            or rng.random() < RANDOM_SHARE
            or all(told.cost is None for told in history.told)
        ):
            return candidates.draw(rng)
        with _one_thread():
            surrogate = self._surrogate
            if surrogate is None or surrogate.num_told != len(history.told) or has_random_weights(history.told):
                surrogate = self._surrogate = self._fitted(history, candidates, rng)
            return surrogate.highest(candidates, rng) or candidates.draw(rng)

    def notice(self, history: History) -> str:
        return ""

    def _fitted(self, history: History, candidates: Candidates, rng: np.random.Generator) -> Surrogate:
        told = [item for item in history.told if _has_success(history.told, item.suggestion.fidelity)]
        vectors = np.stack([candidates.vector(item.suggestion.config) for item in told])
        fidelities = np.array([item.suggestion.fidelity for item in told])
        costs = np.empty(len(told))
        for fidelity in np.unique(fidelities):
            members = np.flatnonzero(fidelities == fidelity)
            costs[members] = log_scaled(scalarised([told[index] for index in members], rng))
        encoder = Encoder(candidates.configuration_space)
        ensemble = self._pretrained(candidates.configuration_space).fitted(encoder(vectors), fidelities, costs)
        is_full = fidelities == fidelities.max()
        best = ensemble.predict(encoder(vectors[is_full]))[0].min()

        def acquisition(rows: Vectors) -> Values:
            return expected_improvement(*ensemble.predict(encoder(rows)), best)

        order = np.lexsort((costs, ~is_full))
        return Surrogate(acquisition, best_first=vectors[order], num_told=len(history.told))

    def _pretrained(self, configuration_space: ConfigurationSpace) -> Ensemble:
        if self._start is None:
            self._start = self._pretrain(configuration_space)
        return self._start

    def _pretrain(self, configuration_space: ConfigurationSpace) -> Ensemble:
        encoder = Encoder(configuration_space)
        ensemble = Ensemble.untrained(encoder.num_columns, seed=self._seed)
        if self._space.zero_cost is None and self._space.build is None:
            return ensemble
        vectors = sample_vectors(configuration_space, NUM_METRIC_CONFIGS, self._seed)
        metrics = [self._metrics(configuration_space, vector) for vector in vectors]
        known = [index for index, values in enumerate(metrics) if values]
        if not known:
            return ensemble
        names = sorted(metrics[known[0]])
        table = np.array([[metrics[index][name] for name in names] for index in known])
        # Sizes span orders of magnitude.
        table = np.where((table > 0).all(axis=0), np.log(np.maximum(table, 1e-30)), table)
        return ensemble.pretrained(encoder(vectors[known]), table)

    def _metrics(self, configuration_space: ConfigurationSpace, vector: Values) -> dict[str, float]:
        """Return the zero-cost metrics of a configuration; empty where its network cannot be built."""
        from ConfigSpace import Configuration

        from naxcli.search_space.contract import plain_config

        config = self._space.canonicalise(plain_config(Configuration(configuration_space, vector=vector)))
        if self._space.zero_cost is not None:
            return {name: float(value) for name, value in self._space.cheap_metrics(config).items()}
        from naxcli.search_space.sizes import measure_config

        try:
            return {name: float(value) for name, value in measure_config(self._space, config, **MEASURED_SHAPE).items()}
        except (NaxcliError, ValueError, RuntimeError):  # the trial of such a network fails, and is learned from then
            return {}


def _has_success(told: list[Told], fidelity: float) -> bool:
    return any(item.cost is not None and item.suggestion.fidelity == fidelity for item in told)


class Encoder:
    """Turns ConfigSpace's vectors into a network's inputs.

    A category is one column per choice; an ordinal or a number its place on the unit scale around 0, and one column that tells whether
    it is active.
    """

    def __init__(self, configuration_space: ConfigurationSpace) -> None:
        from ConfigSpace import CategoricalHyperparameter, OrdinalHyperparameter

        self._sizes: list[tuple[str, int]] = []
        for hyperparameter in configuration_space.values():
            if isinstance(hyperparameter, CategoricalHyperparameter):
                self._sizes.append(("choice", int(hyperparameter.size)))
            elif isinstance(hyperparameter, OrdinalHyperparameter):
                self._sizes.append(("place", max(1, int(hyperparameter.size) - 1)))
            else:
                self._sizes.append(("place", 1))
        self.num_columns = sum(size if kind == "choice" else 2 for kind, size in self._sizes)

    def __call__(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Return the inputs, (num_vectors, num_columns)."""
        columns: list[npt.NDArray[Any]] = []
        for (kind, size), values in zip(self._sizes, vectors.T, strict=True):
            active = np.isfinite(values)
            if kind == "choice":
                columns += [values == choice for choice in range(size)]
            else:
                columns += [np.where(active, 2 * np.nan_to_num(values) / size - 1, 0.0), active]
        return np.stack(columns, axis=1).astype(np.float32)


class Ensemble:
    """Networks with a trunk of two layers and a linear head per target, all members side by side in each tensor.

    The cost at the highest fidelity has a head of its own; a lower one adds its difference to that.
    """

    def __init__(
        self, trunk: Parameters, heads: Parameters, *, seed: int, offset: float = 0.0, scale: float = 1.0
    ) -> None:
        self._trunk = trunk
        self._heads = heads
        self._seed = seed
        self._offset = offset  # of the costs that were learned
        self._scale = scale

    @classmethod
    def untrained(cls, num_columns: int, *, seed: int) -> Ensemble:
        import torch

        generator = torch.Generator().manual_seed(seed)
        trunk: Parameters = []
        for num_inputs in (num_columns, NUM_UNITS):
            shape = (NUM_MEMBERS, num_inputs, NUM_UNITS)
            trunk += [
                torch.randn(shape, generator=generator) * (2 / num_inputs) ** 0.5,
                torch.zeros(NUM_MEMBERS, 1, NUM_UNITS),
            ]
        return cls(trunk, [], seed=seed)

    def pretrained(self, inputs: npt.NDArray[np.float32], metrics: Vectors) -> Ensemble:
        """Return members that learned the metrics, (num_configurations, num_metrics); only their trunk is kept."""
        import torch

        spread = metrics.std(axis=0)
        targets = torch.from_numpy((metrics - metrics.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).float()
        trunk, heads = self._copied_trunk(), self._new_heads(metrics.shape[1])
        x = torch.from_numpy(inputs)
        _minimise([*trunk, *heads], lambda: (_outputs(x, trunk, heads) - targets).square().mean(), PRETRAINING_STEPS)
        return Ensemble(trunk, [], seed=self._seed)

    def fitted(self, inputs: npt.NDArray[np.float32], fidelities: Values, costs: Values) -> Ensemble:
        """Return members that learned costs, (num_trials,), each at its fidelity."""
        import torch

        rungs = np.unique(fidelities)[::-1]
        centre, spread = float(costs.mean()), float(costs.std()) or 1.0
        # Column 0 is the highest fidelity, and part of every cost.
        parts = (fidelities[:, None] == rungs).astype(np.float32)
        parts[:, 0] = 1.0
        x, mask = torch.from_numpy(inputs), torch.from_numpy(parts)
        targets = torch.from_numpy((costs - centre) / spread).float()
        trunk, heads = self._copied_trunk(), self._new_heads(len(rungs))

        def loss() -> Tensor:
            predicted = (_outputs(x, trunk, heads) * mask).sum(dim=2)
            return (predicted - targets).square().mean()

        _minimise([*trunk, *heads], loss, FITTING_STEPS)
        return Ensemble(trunk, heads, seed=self._seed, offset=centre, scale=spread)

    def predict(self, inputs: npt.NDArray[np.float32]) -> tuple[Values, Values]:
        """Return mean and standard deviation over the members of the cost at the highest fidelity, (num_inputs,) each."""
        import torch

        with torch.no_grad():
            values = _outputs(torch.from_numpy(inputs), self._trunk, self._heads)[:, :, 0].double().numpy()
        values = self._offset + self._scale * values
        return values.mean(axis=0), np.maximum(values.std(axis=0, ddof=1), MIN_STD)

    def _copied_trunk(self) -> Parameters:
        return [parameter.detach().clone().requires_grad_() for parameter in self._trunk]

    def _new_heads(self, num_targets: int) -> Parameters:
        import torch

        generator = torch.Generator().manual_seed(self._seed + 1)
        weights = torch.randn(NUM_MEMBERS, NUM_UNITS, num_targets, generator=generator) * NUM_UNITS**-0.5
        return [weights.requires_grad_(), torch.zeros(NUM_MEMBERS, 1, num_targets, requires_grad=True)]


def _outputs(x: Tensor, trunk: Parameters, heads: Parameters) -> Tensor:
    """Return (num_members, num_inputs, num_targets)."""
    import torch

    hidden = x.expand(NUM_MEMBERS, *x.shape)
    for weight, bias in zip(trunk[::2], trunk[1::2], strict=True):
        hidden = torch.nn.functional.silu(torch.baddbmm(bias, hidden, weight))
    return torch.baddbmm(heads[1], hidden, heads[0])


def _minimise(parameters: Parameters, loss: Any, num_steps: int) -> None:
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: sums in another order would make other suggestions on resume with other settings."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
