"""The random forest that stands for the cost, its predictions tree by tree, and its leaves as boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.ensemble import RandomForestRegressor

from naxcli.analysis.encoding import Domain, Encoding, Floats

NUM_TREES = 100
# Above this number of trials, leaves hold at least five of them.
MANY_TRIALS = 3_000
# Each tree is grown from at most this many draws: of more trials a hundred trees still see nearly all, and time no longer grows with them.
MAX_DRAWS = 10_000
# Standardised costs are rounded so that the same costs in another unit grow the same trees.
COST_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """All leaves of a forest as boxes of the forest's columns.

    Args:
        lower: (num_leaves, num_columns), exclusive lower edges.
        upper: (num_leaves, num_columns), inclusive upper edges.
        costs: (num_leaves,) predicted costs.
        starts: (num_trees,) index of each tree's first leaf; the leaves of a tree are adjacent.
    """

    lower: Floats
    upper: Floats
    costs: Floats
    starts: NDArray[np.intp]

    def membership(self, domain: Domain, lower: Floats, upper: Floats) -> Floats:
        """Return which share of each part of a domain lies in each leaf, (num_leaves, num_parts).

        A part with equal edges is a single code (NaN for inactive) and lies in a leaf or does not; another is an interval of the
        unit scale.
        """
        box_lower, box_upper = self.lower[:, domain.columns, None], self.upper[:, domain.columns, None]
        if not np.array_equal(lower, upper, equal_nan=True):
            overlap = np.minimum(box_upper[:, 0], upper) - np.maximum(box_lower[:, 0], lower)
            return np.clip(overlap / (upper - lower), 0.0, 1.0)
        codes = domain.encode(lower).astype(np.float32).T[None]
        return ((box_lower < codes) & (codes <= box_upper)).all(axis=1).astype(float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """A fitted forest.

    Args:
        encoding: of the configurations it was fitted to.
        model: scikit-learn's forest, of standardised costs.
        offset: cost at standardised cost 0.
        scale: cost per unit of standardised cost.
    """

    encoding: Encoding
    model: RandomForestRegressor
    offset: float
    scale: float

    def predict_trees(self, vectors: Floats) -> Floats:
        """Return the cost each tree predicts for rows of ConfigSpace vectors, (num_trees, num_rows)."""
        columns = self.encoding.encode(vectors)
        predictions = np.stack([tree.tree_.predict(columns)[:, 0] for tree in self.model.estimators_])
        return self.offset + self.scale * predictions

    def predict(self, vectors: Floats) -> Floats:
        """Return the predicted costs of rows of ConfigSpace vectors, (num_rows,)."""
        costs: Floats = self.predict_trees(vectors).mean(axis=0)
        return costs

    def boxes(self) -> Boxes:
        """Return the leaves of all trees, without walking through any tree: one step per level for all nodes of the level."""
        trees = [tree.tree_ for tree in self.model.estimators_]
        sizes = [tree.node_count for tree in trees]
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        left = _join([tree.children_left for tree in trees], first)
        right = _join([tree.children_right for tree in trees], first)
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        costs = np.concatenate([tree.value[:, 0, 0] for tree in trees])
        lower = np.full((len(left), self.encoding.num_columns), -np.inf)
        upper = np.full((len(left), self.encoding.num_columns), np.inf)
        level = first
        while len(level):
            level = level[left[level] >= 0]
            for children, edge in ((left[level], upper), (right[level], lower)):
                lower[children], upper[children] = lower[level], upper[level]
                edge[children, feature[level]] = threshold[level]
            level = np.concatenate([left[level], right[level]])
        is_leaf = left < 0
        return Boxes(
            lower=lower[is_leaf],
            upper=upper[is_leaf],
            costs=self.offset + self.scale * costs[is_leaf],
            starts=np.concatenate([[0], np.cumsum(is_leaf)])[first].astype(np.intp),
        )


def fit_forest(
    encoding: Encoding,
    vectors: Floats,
    costs: Floats,
    *,
    seed: int,
    num_trees: int = NUM_TREES,
    is_exact: bool = False,
    num_jobs: int = 1,
) -> Forest:
    """Return a forest fitted to configurations (rows of ConfigSpace vectors) and their costs.

    Args:
        encoding: of the space.
        vectors: (num_trials, num_hyperparameters).
        costs: (num_trials,), finite, not all equal.
        seed: of the trees' resampling.
        num_trees: number of trees.
        is_exact: one tree of full depth without resampling, which reproduces a complete factorial.
        num_jobs: threads; the result does not depend on it.
    """
    columns = encoding.encode(vectors)
    offset, scale = float(costs.mean()), float(costs.std()) or 1.0
    standardised = (costs - offset) / scale
    model = RandomForestRegressor(
        n_estimators=1 if is_exact else num_trees,
        max_features=1.0,
        min_samples_leaf=5 if len(costs) > MANY_TRIALS and not is_exact else 1,
        bootstrap=not is_exact,
        max_samples=MAX_DRAWS if len(costs) > MAX_DRAWS and not is_exact else None,
        random_state=seed,
        n_jobs=num_jobs,
    )
    # The input is finite and the parameters are ours: checking both again takes a third of the time of small forests.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        model.fit(columns, standardised if is_exact else standardised.round(COST_DIGITS))
    return Forest(encoding=encoding, model=model, offset=offset, scale=scale)


def _join(children: Sequence[Any], first: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return node indices of all trees in one numbering, -1 for leaves."""
    return np.concatenate(
        [np.where(nodes >= 0, nodes + start, -1) for nodes, start in zip(children, first, strict=True)]
    )


def out_of_bag_r2(forest: Forest, vectors: Floats, costs: Floats) -> float | None:
    """Return the coefficient of determination on the trials that each tree left out, None where there is no such trial or variance.

    Args:
        forest: fitted to just these trials.
        vectors: (num_trials, num_hyperparameters).
        costs: (num_trials,).
    """
    if not forest.model.bootstrap:
        return None
    columns = forest.encoding.encode(vectors)
    total, count = np.zeros(len(costs)), np.zeros(len(costs))
    for tree, sample in zip(forest.model.estimators_, forest.model.estimators_samples_, strict=True):
        outside = np.ones(len(costs), dtype=bool)
        outside[sample] = False
        if outside.any():
            total[outside] += tree.tree_.predict(columns[outside])[:, 0]
            count += outside
    seen = count > 0
    if seen.sum() < 2 or np.ptp(costs[seen]) == 0:
        return None
    predicted = forest.offset + forest.scale * total[seen] / count[seen]
    return 1.0 - float(np.mean((costs[seen] - predicted) ** 2) / costs[seen].var())
