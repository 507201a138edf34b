"""Shares of variance of functions that are sums of effects (see `surrogate`), over the uniform product of all domains.

Hyperparameters without conditions have effects of their own. Where conditions tie some (a component), the effect of one holds what the
others' functions average to given its value: these averages are taken over the joint values of the component, or over a sample of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np

from naxcli.analysis.basis import Basis
from naxcli.analysis.components import Component, components, part_codes
from naxcli.analysis.encoding import Encoding, Floats
from naxcli.analysis.surrogate import Functions

# Up to this number, all joint values of a component are listed; of more, as many as the second number are drawn.
MAX_VALUES = 4_096
NUM_DRAWN_VALUES = 1_024
# Rows of the whole space, all or drawn, where effects do not add up.
MAX_SPACE_ROWS = 6_561


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A component's functions: those of its members side by side, then the products of any two members'.

    Args:
        members: numbers of its hyperparameters.
        num_plain: functions that are no products.
        mean: (num_functions,) over the component.
        spread: (rank, num_functions); squared and summed, it gives the variance of a combination of functions.
        plain_spread: the same for the functions that are no products, (rank, num_plain).
        mains: member -> the same for the average given its value.
        pairs: two members -> the same for the average given both values, beyond what each explains alone.
    """

    members: tuple[int, ...]
    num_plain: int
    mean: Floats
    spread: Floats
    plain_spread: Floats
    mains: Mapping[int, Floats]
    pairs: Mapping[tuple[int, int], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """The effects of drawn functions: each is a vector per draw whose squared length is the variance that it explains.

    Args:
        mains: number of a hyperparameter -> (num_dimensions, num_draws).
        pairs: numbers of two -> (num_dimensions, num_draws).
        total: (num_draws,) variance of the functions.
    """

    mains: Mapping[int, Floats]
    pairs: Mapping[tuple[int, int], Floats]
    total: Floats


class Decomposer:
    """What is the same for all functions over a space."""

    def __init__(self, encoding: Encoding, bases: Sequence[Basis], *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        numbers = {domain.name: number for number, domain in enumerate(encoding.domains)}
        self._blocks = [
            _block(encoding, bases, component, numbers, rng) for component in components(encoding, seed=seed)
        ]

    def __call__(self, functions: Functions) -> Decomposition:
        """Return the effects of drawn functions."""
        total = functions.triples.copy()
        mains: dict[int, Floats] = {}
        pairs: dict[tuple[int, int], Floats] = {}
        between = {
            (a, b): _between(functions, left, right)
            for (a, left), (b, right) in combinations(enumerate(self._blocks), 2)
        }
        for number, block in enumerate(self._blocks):
            combined = np.concatenate(
                [
                    *(functions.mains[i] for i in block.members),
                    *(_flat(functions.pairs[i, j]) for i, j in combinations(block.members, 2)),
                ]
            )
            # Of a product with another component's function, its own function times the other's average is left.
            for (a, b), coefficients in between.items():
                if number == a:
                    other = self._blocks[b]
                    combined[: block.num_plain] += np.einsum("abd,b->ad", coefficients, other.mean[: other.num_plain])
                elif number == b:
                    other = self._blocks[a]
                    combined[: block.num_plain] += np.einsum("abd,a->bd", coefficients, other.mean[: other.num_plain])
            total += ((block.spread @ combined) ** 2).sum(axis=0)
            mains |= {i: root @ combined for i, root in block.mains.items()}
            pairs |= {both: root @ combined for both, root in block.pairs.items()}
        for (a, b), coefficients in between.items():
            left, right = self._blocks[a], self._blocks[b]
            total += (_project(left.plain_spread, right.plain_spread, coefficients) ** 2).sum(axis=0)
            for i in left.members:
                for j in right.members:
                    both = (min(i, j), max(i, j))
                    pairs[both] = _project(
                        left.mains[i][:, : left.num_plain], right.mains[j][:, : right.num_plain], coefficients
                    )
        return Decomposition(mains=mains, pairs=pairs, total=total)


class SampledDecomposer:
    """The effects of costs that are no sum of the drawn functions' effects, from their values all over the space.

    Args:
        encoding: of the space.
        bases: of its hyperparameters.
        seed: of the joint values, where they are too many to list.
    """

    def __init__(self, encoding: Encoding, bases: Sequence[Basis], *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        codes = [part_codes(base.domain) for base in bases]
        if prod(map(len, codes)) <= MAX_SPACE_ROWS:
            columns = [grid.reshape(-1) for grid in np.meshgrid(*codes, indexing="ij")]
        else:
            columns = [rng.permutation(np.resize(values, MAX_SPACE_ROWS)) for values in codes]
        rows = np.repeat(encoding.defaults[None], len(columns[0]), axis=0)
        for base, column in zip(bases, columns, strict=True):
            rows[:, base.domain.index] = column
        self.rows: Floats = encoding.repair(rows)
        # Of the values before inactive ones are dropped: over these the measure is a product.
        self._features = [base.at(column) for base, column in zip(bases, columns, strict=True)]
        # A cost may bend more sharply along one hyperparameter than its basis does: its mean at each value is taken as it is.
        self._parts = [
            (column[:, None] == values) * np.sqrt(len(values)) for column, values in zip(columns, codes, strict=True)
        ]

    def __call__(self, costs: Floats, unseen: Floats) -> Decomposition:
        """Return the effects of costs at the rows.

        Args:
            costs: (num_draws, num_rows).
            unseen: (num_draws,) variance of what the costs leave out, over what they hold.
        """
        centred = self._centred(costs)
        pairs = {}
        for (i, left), (j, right) in combinations(enumerate(self._features), 2):
            pairs[i, j] = (left[:, :, None] * right[:, None, :]).reshape(len(left), -1).T @ centred
        return Decomposition(mains=self._mains(centred), pairs=pairs, total=costs.var(axis=1) * (1 + unseen))

    def mains(self, costs: Floats) -> dict[int, Floats]:
        """Return the effects of single hyperparameters, (num_dimensions, num_draws) each, of (num_draws, num_rows) costs at the rows."""
        return self._mains(self._centred(costs))

    def _mains(self, centred: Floats) -> dict[int, Floats]:
        return {i: parts.T @ centred for i, parts in enumerate(self._parts)}

    def _centred(self, costs: Floats) -> Floats:
        centred: Floats = (costs - costs.mean(axis=1, keepdims=True)).T / len(self.rows)
        return centred


def _project(left: Floats, right: Floats, coefficients: Floats) -> Floats:
    """Return `left @ coefficients @ right.T` of every draw, flat: (num_left * num_right, num_draws)."""
    return _flat(np.einsum("pa,abd,qb->pqd", left, coefficients, right, optimize=True))


def _flat(coefficients: Floats) -> Floats:
    return coefficients.reshape(-1, coefficients.shape[-1])


def _between(functions: Functions, left: _Block, right: _Block) -> Floats:
    """Return the coefficients of the products of two components' functions, (num_left, num_right, num_draws)."""

    def pair(i: int, j: int) -> Floats:
        return functions.pairs[i, j] if i < j else functions.pairs[j, i].transpose(1, 0, 2)

    return np.concatenate([np.concatenate([pair(i, j) for j in right.members], axis=1) for i in left.members], axis=0)


def _block(
    encoding: Encoding,
    bases: Sequence[Basis],
    component: Component,
    numbers: Mapping[str, int],
    rng: np.random.Generator,
) -> _Block:
    members = tuple(sorted(numbers[domain.name] for domain in component.domains))
    rows = _joint_values(encoding, component, rng)
    plain = [bases[i].at(encoding.repair(rows)[:, bases[i].domain.index]) for i in members]
    values = _functions(encoding, bases, members, rows)
    mean = values.mean(axis=0)
    mains = {i: _conditional_means(encoding, bases, members, rows, (i,)) - mean for i in members}
    pairs = {}
    for i, j in combinations(members, 2):
        both = _conditional_means(encoding, bases, members, rows, (i, j)) - mean
        sizes = len(mains[i]), len(mains[j])
        both = both - np.repeat(mains[i], sizes[1], axis=0) - np.tile(mains[j], (sizes[0], 1))
        pairs[i, j] = _root(both)
    num_plain = sum(columns.shape[1] for columns in plain)
    return _Block(
        members=members,
        num_plain=num_plain,
        mean=mean,
        spread=_root(values - mean),
        plain_spread=_root(values[:, :num_plain] - mean[:num_plain]),
        mains={i: _root(effect) for i, effect in mains.items()},
        pairs=pairs,
    )


def _root(deviations: Floats) -> Floats:
    """Return a short matrix with the same sum of squares, divided by the number of rows, for any combination of columns."""
    _, sizes, directions = np.linalg.svd(deviations / np.sqrt(len(deviations)), full_matrices=False)
    kept = sizes > 1e-9 * max(float(sizes.max(initial=0.0)), 1e-9)
    root: Floats = sizes[kept, None] * directions[kept]
    return root


def _joint_values(encoding: Encoding, component: Component, rng: np.random.Generator) -> Floats:
    """Return vector rows with joint values of a component before what is inactive is dropped; the rest has defaults."""
    names = [*component.parents, *(d.name for d in component.domains if d.name not in component.parents)]
    codes = [_part_codes(encoding, name) for name in names]
    if prod(map(len, codes)) <= MAX_VALUES:
        columns = [grid.reshape(-1) for grid in np.meshgrid(*codes, indexing="ij")]
    else:
        columns = [rng.permutation(np.resize(values, NUM_DRAWN_VALUES)) for values in codes]
    rows = np.repeat(encoding.defaults[None], len(columns[0]), axis=0)
    for name, column in zip(names, columns, strict=True):
        rows[:, encoding.names.index(name)] = column
    return rows


def _part_codes(encoding: Encoding, name: str) -> Floats:
    varied = [domain for domain in encoding.domains if domain.name == name]
    if varied:
        return part_codes(varied[0])
    codes = encoding.parent_codes(name)
    assert codes is not None  # a constant has one
    return codes


def _functions(encoding: Encoding, bases: Sequence[Basis], members: Sequence[int], rows: Floats) -> Floats:
    """Return a component's functions at joint values, (num_rows, num_functions)."""
    repaired = encoding.repair(rows)
    plain = [bases[i].at(repaired[:, bases[i].domain.index]) for i in members]
    products = [(a[:, :, None] * b[:, None, :]).reshape(len(rows), -1) for a, b in combinations(plain, 2)]
    return np.hstack([*plain, *products])


def _conditional_means(
    encoding: Encoding, bases: Sequence[Basis], members: Sequence[int], rows: Floats, given: Sequence[int]
) -> Floats:
    """Return the means of a component's functions given all joint values of some members, (num_values, num_functions)."""
    codes = [part_codes(bases[i].domain) for i in given]
    grids = [grid.reshape(-1) for grid in np.meshgrid(*codes, indexing="ij")]
    columns = [bases[i].domain.index for i in given]
    others = rows.copy()
    others[:, columns] = 0.0
    # Of a full product, each joint value of the others is left once.
    others = np.unique(others, axis=0)
    changed = np.tile(others, (len(grids[0]), 1))
    changed[:, columns] = np.repeat(np.column_stack(grids), len(others), axis=0)
    values = _functions(encoding, bases, members, changed)
    means: Floats = values.reshape(len(grids[0]), len(others), -1).mean(axis=1)
    return means
