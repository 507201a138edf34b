"""A deep ensemble: several small networks with one trunk and one head per target each, trained side by side.

Paper: Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017.

In NumPy: a search that trains nothing itself does without torch, whose import alone takes longer than an ask may.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

NUM_MEMBERS = 5
NUM_UNITS = 64
PRETRAINING_STEPS = 300
FITTING_STEPS = 150
BATCH_SIZE = 128  # of a step, which bounds the time of a fit; fewer rows are learned all at once
ROWS_AT_ONCE = 512  # of a prediction, whose hidden units then stay in the cache
NUM_THREADS = 2
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-4
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
MIN_STD = 1e-3

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]  # (num_inputs,)
Vectors = npt.NDArray[np.float64]
Parameters = Sequence[
    Floats
]  # weights and biases in turn, (num_members, num_inputs, num_outputs) and (num_members, 1, num_outputs)


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

    def __call__(self, vectors: Vectors) -> Floats:
        """Return the inputs, (num_vectors, num_columns)."""
        inputs = np.empty((self.num_columns, len(vectors)), dtype=np.float32)
        row = 0
        for (kind, size), values in zip(self._sizes, vectors.T, strict=True):
            if kind == "choice":
                for choice in range(size):
                    inputs[row + choice] = values == choice
                row += size
            else:
                active = np.isfinite(values)
                inputs[row] = np.where(active, 2 * np.nan_to_num(values) / size - 1, 0.0)
                inputs[row + 1] = active
                row += 2
        return np.ascontiguousarray(inputs.T)


class Ensemble:
    """Networks with a trunk of two layers and a linear head per target, all members side by side in each array.

    The cost at the highest fidelity has a head of its own; a lower one adds its difference to that.

    Args:
        trunk: weights and biases of the two layers.
        heads: weights and biases of the targets; none before costs are learned.
        seed: of the heads' first weights and of batches.
        offset: mean of the costs that were learned.
        scale: their standard deviation.
    """

    def __init__(
        self, trunk: Parameters, heads: Parameters = (), *, seed: int, offset: float = 0.0, scale: float = 1.0
    ) -> None:
        self.trunk = tuple(trunk)
        self._heads = heads
        self._seed = seed
        self._offset = offset
        self._scale = scale

    @classmethod
    def untrained(cls, num_columns: int, *, seed: int) -> Ensemble:
        """Return members of random weights for inputs of so many columns."""
        rng = np.random.default_rng([seed, 0])
        trunk: list[Floats] = []
        for num_inputs in (num_columns, NUM_UNITS):
            trunk += _layer(rng, num_inputs, NUM_UNITS, scale=(2 / num_inputs) ** 0.5)
        return cls(trunk, seed=seed)

    def pretrained(self, inputs: Floats, metrics: Vectors) -> Ensemble:
        """Return members that learned the metrics, (num_configurations, num_metrics); only their trunk is kept."""
        spread = metrics.std(axis=0)
        targets = ((metrics - metrics.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)

        def gradient(outputs: Floats, rows: slice | npt.NDArray[np.intp]) -> Floats:
            errors: Floats = outputs - targets[rows]
            return errors * (2 / errors.size)

        trunk, _ = self._trained(inputs, gradient, num_targets=metrics.shape[1], num_steps=PRETRAINING_STEPS)
        return Ensemble(trunk, seed=self._seed)

    def fitted(self, inputs: Floats, fidelities: Values, costs: Values) -> Ensemble:
        """Return members that learned costs, (num_trials,), each at its fidelity."""
        rungs = np.unique(fidelities)[::-1]
        centre, spread = float(costs.mean()), float(costs.std()) or 1.0
        # Column 0 is the highest fidelity, and part of every cost.
        parts = (fidelities[:, None] == rungs).astype(np.float32)
        parts[:, 0] = 1.0
        targets = ((costs - centre) / spread).astype(np.float32)

        def gradient(outputs: Floats, rows: slice | npt.NDArray[np.intp]) -> Floats:
            errors = (outputs * parts[rows]).sum(axis=2) - targets[rows]
            found: Floats = (2 / errors.size) * errors[:, :, None] * parts[rows]
            return found

        trunk, heads = self._trained(inputs, gradient, num_targets=len(rungs), num_steps=FITTING_STEPS)
        return Ensemble(trunk, heads, seed=self._seed, offset=centre, scale=spread)

    def predict(self, inputs: Floats) -> tuple[Values, Values]:
        """Return mean and standard deviation over the members of the cost at the highest fidelity, (num_inputs,) each."""
        weights, biases = self._heads
        head = (weights[:, :, :1], biases[:, :, :1])

        def outputs(start: int) -> Floats:
            return _forward(inputs[start : start + ROWS_AT_ONCE], (*self.trunk, *head))[-1][:, :, 0]

        starts = range(0, len(inputs), ROWS_AT_ONCE)
        if len(starts) == 1:
            parts = [outputs(0)]
        else:  # each part is computed in one thread, whichever that is
            with ThreadPoolExecutor(NUM_THREADS) as threads:
                parts = list(threads.map(outputs, starts))
        values = self._offset + self._scale * np.concatenate(parts, axis=1).astype(np.float64)
        return values.mean(axis=0), np.maximum(values.std(axis=0, ddof=1), MIN_STD)

    def _trained(
        self,
        inputs: Floats,
        gradient: Callable[[Floats, slice | npt.NDArray[np.intp]], Floats],
        *,
        num_targets: int,
        num_steps: int,
    ) -> tuple[Parameters, Parameters]:
        """Return trunk and new heads after steps of AdamW with a cosine schedule.

        Args:
            inputs: (num_rows, num_columns).
            gradient: of the loss by the outputs (num_members, batch, num_targets) of some rows.
            num_targets: heads of each member.
            num_steps: steps to take.
        """
        rng = np.random.default_rng([self._seed, 1])
        first = [*self.trunk, *_layer(rng, NUM_UNITS, num_targets, scale=NUM_UNITS**-0.5)]
        weights = np.concatenate([parameter.ravel() for parameter in first])
        gradients, mean, square = (np.zeros_like(weights) for _ in range(3))
        parameters, slopes = _views(weights, first), _views(gradients, first)
        for step in range(num_steps):
            rows = slice(None) if len(inputs) <= BATCH_SIZE else rng.permutation(len(inputs))[:BATCH_SIZE]
            layers = _forward(inputs[rows], parameters)
            _backward(layers, gradient(layers[-1], rows), parameters, slopes)
            rate = LEARNING_RATE * (1 + math.cos(math.pi * step / num_steps)) / 2
            mean += (1 - BETAS[0]) * (gradients - mean)
            square += (1 - BETAS[1]) * (gradients**2 - square)
            corrected = np.sqrt(square / (1 - BETAS[1] ** (step + 1))) + EPSILON
            weights *= 1 - rate * WEIGHT_DECAY
            weights -= rate / (1 - BETAS[0] ** (step + 1)) * mean / corrected
        return parameters[:4], parameters[4:]


def _layer(rng: np.random.Generator, num_inputs: int, num_outputs: int, *, scale: float) -> list[Floats]:
    weights = rng.standard_normal((NUM_MEMBERS, num_inputs, num_outputs), dtype=np.float32) * np.float32(scale)
    return [weights, np.zeros((NUM_MEMBERS, 1, num_outputs), dtype=np.float32)]


def _views(flat: Floats, like: Parameters) -> list[Floats]:
    """Return the parts of a flat array in the shapes of some parameters."""
    ends = np.cumsum([parameter.size for parameter in like])[:-1]
    return [part.reshape(parameter.shape) for part, parameter in zip(np.split(flat, ends), like, strict=True)]


def _forward(x: Floats, parameters: Parameters) -> list[Floats]:
    """Return the inputs, then gates and units of each hidden layer, and the outputs: units are SiLUs, pre-activations times their gate."""
    layers = [x]
    for weights, biases in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        units = np.matmul(layers[-1], weights)
        units += biases
        gates = _sigmoid(units)
        units *= gates
        layers += [gates, units]
    layers.append(np.matmul(layers[-1], parameters[-2]) + parameters[-1])
    return layers


def _backward(layers: Sequence[Floats], slope: Floats, parameters: Parameters, slopes: Parameters) -> None:
    """Write the gradient by the parameters, given that by the outputs.

    Args:
        layers: what `_forward` returned.
        slope: gradient of the loss by the outputs.
        parameters: weights and biases.
        slopes: where their gradients go.
    """
    for number in range(len(parameters) // 2 - 1, -1, -1):
        below = layers[2 * number]
        np.matmul(np.swapaxes(below, -1, -2), slope, out=slopes[2 * number])
        slope.sum(axis=1, keepdims=True, out=slopes[2 * number + 1])
        if number:
            gates = layers[2 * number - 1]
            slope = np.matmul(slope, np.swapaxes(parameters[2 * number], -1, -2))
            slope *= gates + below * (1 - gates)


def _sigmoid(x: Floats) -> Floats:
    found = np.negative(x)
    with np.errstate(over="ignore"):  # which ends at 0, as it should
        np.exp(found, out=found)
    found += 1
    return np.reciprocal(found, out=found)
