"""Functional ANOVA of a forest (Hutter, Hoos, Leyton-Brown, ICML 2014): which share of the variance each choice explains.

A leaf is a box, so the mean of a tree over everything but a few hyperparameters is a sum over its leaves: cost times the share of the leaf
at the given values. No tree is walked through, and all pairs of a tree are one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import prod

import numpy as np

from naxcli.analysis.components import Component, ComponentShares, components, num_parts
from naxcli.analysis.encoding import Encoding, Floats, Parts
from naxcli.analysis.forest import Boxes, Forest

# Up to this number, all joint values of a group are listed; of more, as many as the second number are drawn.
MAX_GROUP_VALUES = 65_536
NUM_DRAWN_VALUES = 1_024
# Trees are treated together until they have this many leaves: large enough for numpy, small enough for the cache.
LEAVES_AT_ONCE = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Fractions of variance, one row per tree that varies at all, and mean costs.

    Args:
        mains: (num_trees, num_hyperparameters), in the order of the encoding's domains.
        pairs: (num_trees, num_pairs), what two explain beyond their mains, in the order of `pairs_of`.
        groups: (num_trees, num_groups), all that the members explain jointly.
        marginals: hyperparameter -> (num_trees, num_parts) mean cost at each part of its domain.
    """

    mains: Floats
    pairs: Floats
    groups: Floats
    marginals: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupValues:
    """The joint values of a group.

    Args:
        factors: number of a component, its members in the group, and (num_rows, num_members) joint parts of their domains.
        rows: (num_draws, num_factors) rows of the factors drawn together, or None for all combinations.
    """

    factors: tuple[tuple[int, tuple[str, ...], Parts], ...]
    rows: Parts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is the same for every forest over a space: its components and the joint values of the groups."""

    encoding: Encoding
    components: tuple[Component, ...]
    groups: Mapping[str, GroupValues]

    def component_of(self, name: str) -> int:
        """Return the number of the component that a hyperparameter belongs to."""
        return next(
            number
            for number, component in enumerate(self.components)
            if any(domain.name == name for domain in component.domains)
        )


def pairs_of(encoding: Encoding) -> list[tuple[str, str]]:
    """Return all pairs of hyperparameters in the order in which `Effects` has them."""
    return list(combinations((domain.name for domain in encoding.domains), 2))


def make_measure(encoding: Encoding, groups: Mapping[str, Sequence[str]], *, seed: int) -> Measure:
    """Return the uniform product measure of a space; what is too large to list is sampled, always the same for a seed."""
    measure = Measure(encoding=encoding, components=components(encoding, seed=seed), groups={})
    values = {group: _group_values(measure, members, np.random.default_rng(seed)) for group, members in groups.items()}
    return replace(measure, groups=values)


def _group_values(measure: Measure, members: Sequence[str], rng: np.random.Generator) -> GroupValues:
    sizes = {name: num_parts(measure.encoding.domain(name)) for name in members}
    is_listed = prod(sizes.values()) <= MAX_GROUP_VALUES
    factors = []
    for home in sorted({measure.component_of(name) for name in members}):
        names = tuple(name for name in members if measure.component_of(name) == home)
        if prod(sizes[name] for name in names) <= MAX_GROUP_VALUES:
            parts = np.array(list(product(*(range(sizes[name]) for name in names))), dtype=np.intp)
        else:
            parts = np.column_stack([rng.integers(sizes[name], size=NUM_DRAWN_VALUES) for name in names])
        factors.append((home, names, parts.astype(np.intp)))
    rows = np.column_stack([rng.integers(len(parts), size=NUM_DRAWN_VALUES) for _, _, parts in factors])
    return GroupValues(factors=tuple(factors), rows=None if is_listed else rows.astype(np.intp))


def effects(forest: Forest, measure: Measure) -> Effects:
    """Return the shares of variance that hyperparameters, pairs and groups explain in each tree of a forest."""
    chunks = [_chunk_effects(boxes, measure) for boxes in _chunks(forest.boxes())]
    total = np.concatenate([chunk.total for chunk in chunks])
    varies = total > 0
    return Effects(
        mains=np.concatenate([chunk.mains for chunk in chunks])[varies] / total[varies, None],
        pairs=np.concatenate([chunk.pairs for chunk in chunks])[varies] / total[varies, None],
        groups=np.concatenate([chunk.groups for chunk in chunks])[varies] / total[varies, None],
        marginals={
            domain.name: np.concatenate([chunk.marginals[domain.name] for chunk in chunks])
            for domain in measure.encoding.domains
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChunkEffects:
    """As `Effects`, in units of variance, with the (num_trees,) total variance."""

    total: Floats
    mains: Floats
    pairs: Floats
    groups: Floats
    marginals: Mapping[str, Floats]


def _chunks(boxes: Boxes) -> list[Boxes]:
    """Return the leaves of a forest in pieces of whole trees."""
    stops = np.append(boxes.starts[1:], len(boxes.costs))
    pieces, first = [], 0
    for tree, stop in enumerate(stops):
        is_last = tree + 1 == len(stops)
        if is_last or stops[tree + 1] - boxes.starts[first] > LEAVES_AT_ONCE:
            start = boxes.starts[first]
            pieces.append(
                replace(
                    boxes,
                    lower=boxes.lower[start:stop],
                    upper=boxes.upper[start:stop],
                    costs=boxes.costs[start:stop],
                    starts=boxes.starts[first : tree + 1] - start,
                )
            )
            first = tree + 1
    return pieces


def _chunk_effects(boxes: Boxes, measure: Measure) -> _ChunkEffects:
    shares = [ComponentShares(component, boxes) for component in measure.components]
    size = np.prod([share.whole for share in shares], axis=0)
    mean = np.add.reduceat(boxes.costs * size, boxes.starts)
    lengths = np.diff(np.append(boxes.starts, len(size)))
    centred = boxes.costs - np.repeat(mean, lengths)
    weighted = centred * size
    total = np.add.reduceat(centred * weighted, boxes.starts)

    domains = measure.encoding.domains
    homes = {domain.name: shares[measure.component_of(domain.name)] for domain in domains}
    counts = [num_parts(domain) for domain in domains]
    edges = np.cumsum([0, *counts])
    columns = {domain.name: slice(*edges[number : number + 2]) for number, domain in enumerate(domains)}
    design = np.hstack(
        [homes[name].at([name], np.arange(edges[-1])[: part.stop - part.start, None]) for name, part in columns.items()]
    )
    tied = [
        (columns[first], columns[second], homes[first].pair(first, second))
        for first, second in pairs_of(measure.encoding)
        if homes[first] is homes[second]
    ]
    marginal = np.empty((len(total), edges[-1]))
    pairs = np.empty((len(total), len(counts) * (len(counts) - 1) // 2))
    for tree, (start, stop) in enumerate(zip(boxes.starts, np.append(boxes.starts[1:], len(size)), strict=True)):
        leaves = slice(start, stop)
        marginal[tree] = weighted[leaves] @ design[leaves]
        joint = (design[leaves] * weighted[leaves, None]).T @ design[leaves]
        for first, second, terms in tied:
            # Within a component the shares of two are no product of their shares.
            block = np.sum([(left[leaves] * weighted[leaves, None]).T @ right[leaves] for left, right in terms], axis=0)
            joint[first, second] = block.reshape(first.stop - first.start, second.stop - second.start)
        joint -= marginal[tree][:, None] + marginal[tree][None, :]
        squares = np.add.reduceat(np.add.reduceat(joint**2, edges[:-1], axis=0), edges[:-1], axis=1)
        pairs[tree] = (squares / np.outer(counts, counts))[np.triu_indices(len(counts), 1)]
    mains = np.add.reduceat(marginal**2, edges[:-1], axis=1) / counts
    return _ChunkEffects(
        total=total,
        mains=mains,
        pairs=pairs,
        groups=_group_variances(shares, weighted, boxes.starts, measure),
        marginals={name: mean[:, None] + marginal[:, part] for name, part in columns.items()},
    )


def _group_variances(shares: Sequence[ComponentShares], weighted: Floats, starts: Parts, measure: Measure) -> Floats:
    """Return each tree's variance over the joint values of each group, everything else averaged: (num_trees, num_groups)."""
    variances = np.empty((len(starts), len(measure.groups)))
    for number, plan in enumerate(measure.groups.values()):
        factors = [shares[home].at(names, parts) for home, names, parts in plan.factors]
        if plan.rows is not None:
            joint = np.repeat(weighted[:, None], len(plan.rows), axis=1)
            for factor, rows in zip(factors, plan.rows.T, strict=True):
                joint *= factor[:, rows]
            variances[:, number] = np.add.reduceat(joint, starts, axis=0).var(axis=1)
            continue
        # All joint values of two halves: within each half products of columns, across them one matrix product.
        halves = [weighted[:, None], np.ones((len(weighted), 1))]
        for factor in sorted(factors, key=lambda factor: -factor.shape[1]):
            halves.sort(key=lambda half: half.shape[1])
            halves[0] = (halves[0][:, :, None] * factor[:, None, :]).reshape(len(factor), -1)
        for tree, (start, stop) in enumerate(zip(starts, np.append(starts[1:], len(weighted)), strict=True)):
            variances[tree, number] = (halves[0][start:stop].T @ halves[1][start:stop]).var()
    return variances
