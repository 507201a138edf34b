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

# Above this number, joint values of a group are sampled.
MAX_GROUP_STATES = 1_024
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
class Measure:
    """What is the same for every forest over a space: its components, pairs, and the joint values of the groups.

    Args:
        encoding: of the space.
        components: of the space.
        groups: group -> its hyperparameters.
        group_parts: group -> (num_rows, num_members) parts of their domains.
    """

    encoding: Encoding
    components: tuple[Component, ...]
    groups: Mapping[str, tuple[str, ...]]
    group_parts: Mapping[str, Parts]

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
    found = components(encoding, seed=seed)
    sizes = {domain.name: num_parts(domain) for domain in encoding.domains}
    rng = np.random.default_rng(seed)
    group_parts = {}
    for group, members in groups.items():
        if prod(sizes[name] for name in members) <= MAX_GROUP_STATES:
            rows = list(product(*(range(sizes[name]) for name in members)))
            group_parts[group] = np.array(rows, dtype=np.intp)
        else:
            draws = [rng.integers(sizes[name], size=MAX_GROUP_STATES) for name in members]
            group_parts[group] = np.column_stack(draws).astype(np.intp)
    return Measure(
        encoding=encoding,
        components=found,
        groups={group: tuple(members) for group, members in groups.items()},
        group_parts=group_parts,
    )


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

    relative, counts = [], []
    for domain in measure.encoding.domains:
        share = shares[measure.component_of(domain.name)]
        parts = np.arange(num_parts(domain), dtype=np.intp)[:, None]
        relative.append(_over_whole(share.at([domain.name], parts), share))
        counts.append(len(parts))
    design = np.hstack(relative)
    marginal = np.add.reduceat(weighted[:, None] * design, boxes.starts, axis=0)
    edges = np.cumsum([0, *counts])
    mains = np.add.reduceat(marginal**2, edges[:-1], axis=1) / counts

    pairs = _pair_variances(design, weighted, marginal, boxes.starts, edges)
    _replace_tied_pairs(pairs, shares, weighted, boxes.starts, measure=measure, mains=mains)
    return _ChunkEffects(
        total=total,
        mains=mains,
        pairs=pairs,
        groups=_group_variances(shares, weighted, boxes.starts, measure),
        marginals={
            domain.name: mean[:, None] + marginal[:, edges[number] : edges[number + 1]]
            for number, domain in enumerate(measure.encoding.domains)
        },
    )


def _over_whole(share_at: Floats, share: ComponentShares) -> Floats:
    """Return shares of leaves over their mean share; a leaf outside the measure has none."""
    whole = share.whole[:, None]
    return np.divide(share_at, whole, out=np.zeros_like(share_at), where=whole > 0)


def _pair_variances(design: Floats, weighted: Floats, marginal: Floats, starts: Parts, edges: Parts) -> Floats:
    """Return each tree's interaction variances of all pairs, as if no two hyperparameters were tied by conditions."""
    counts = np.diff(edges)
    upper = np.triu_indices(len(counts), 1)
    pairs = np.empty((len(starts), len(upper[0])))
    for tree, (start, stop) in enumerate(zip(starts, np.append(starts[1:], len(design)), strict=True)):
        rows = design[start:stop]
        joint = (rows * weighted[start:stop, None]).T @ rows
        joint -= marginal[tree][:, None] + marginal[tree][None, :]
        squares = np.add.reduceat(np.add.reduceat(joint**2, edges[:-1], axis=0), edges[:-1], axis=1)
        pairs[tree] = (squares / np.outer(counts, counts))[upper]
    return pairs


def _replace_tied_pairs(
    pairs: Floats,
    shares: Sequence[ComponentShares],
    weighted: Floats,
    starts: Parts,
    *,
    measure: Measure,
    mains: Floats,
) -> None:
    """Put in the interaction variances of pairs within one component, where the shares of two are not a product."""
    names = [domain.name for domain in measure.encoding.domains]
    homes = [measure.component_of(name) for name in names]
    for number, (i, j) in enumerate(combinations(range(len(names)), 2)):
        if homes[i] == homes[j]:
            share = shares[homes[i]]
            sizes = [num_parts(measure.encoding.domains[k]) for k in (i, j)]
            parts = np.array(list(product(*map(range, sizes))), dtype=np.intp)
            joint = _over_whole(share.at([names[i], names[j]], parts), share)
            marginal = np.add.reduceat(weighted[:, None] * joint, starts, axis=0)
            pairs[:, number] = (marginal**2).mean(axis=1) - mains[:, i] - mains[:, j]


def _group_variances(shares: Sequence[ComponentShares], weighted: Floats, starts: Parts, measure: Measure) -> Floats:
    variances = np.empty((len(starts), len(measure.groups)))
    for number, (group, members) in enumerate(measure.groups.items()):
        parts = measure.group_parts[group]
        joint = np.repeat(weighted[:, None], len(parts), axis=1)
        for home in sorted({measure.component_of(name) for name in members}):
            columns = [column for column, name in enumerate(members) if measure.component_of(name) == home]
            share = shares[home]
            # Few different parts repeat in many rows of the group.
            distinct, row = np.unique(parts[:, columns], axis=0, return_inverse=True)
            at = _over_whole(share.at([members[column] for column in columns], distinct), share)
            joint *= at[:, row.reshape(-1)]
        variances[:, number] = np.add.reduceat(joint, starts, axis=0).var(axis=1)
    return variances
