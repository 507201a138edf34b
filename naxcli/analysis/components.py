"""Components of a space: hyperparameters tied by conditions, and the shares of a forest's leaves at their values.

The measure is the uniform product of all domains, in which a value of an inactive hyperparameter has no effect. Within a component the
joint states of the hyperparameters that others depend on (parents) are listed; given such a state, the other members are independent.
A hyperparameter without conditions is a component of its own, with a single state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import compress, product
from math import prod

import numpy as np

from naxcli.analysis.encoding import Domain, Encoding, Flags, Floats, Parts
from naxcli.analysis.forest import Boxes

# Parts into which the unit scale of a hyperparameter with too many values to list is cut.
NUM_CELLS = 16
# Above this number, joint states of parents are sampled.
MAX_STATES = 4_096

INACTIVE_PART = -1


def num_parts(domain: Domain) -> int:
    """Return the number of equally likely parts of a domain."""
    return NUM_CELLS if domain.values is None else len(domain.values)


def part_codes(domain: Domain) -> Floats:
    """Return the vector codes in the middle of each part of a domain."""
    lower, upper = domain.cells(NUM_CELLS)
    return (lower + upper) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Hyperparameters tied by conditions, or a free one.

    Args:
        domains: its members that are not constants.
        parents: the members, constants too, that others depend on.
        draws: (num_draws, num_parents) part of each parent's domain, before inactive ones are dropped; all, or a sample.
        state_of_draw: (num_draws,) the state that is left when inactive ones are dropped.
        states: (num_states, num_parents) part of each parent's domain, -1 where inactive.
        active: member -> (num_states,) whether the state switches it on.
    """

    domains: tuple[Domain, ...]
    parents: tuple[str, ...]
    draws: Parts
    state_of_draw: Parts
    states: Parts
    active: Mapping[str, Flags]

    def state_weights(self, names: Sequence[str], parts: Parts) -> Floats:
        """Return the probability of each state given parts of some parents, (num_rows, num_states)."""
        columns = [self.parents.index(name) for name in names]
        agrees = (self.draws[None, :, columns] == parts[:, None, :]).all(axis=2)
        weights = np.zeros((len(parts), len(self.states)))
        for state in range(len(self.states)):
            weights[:, state] = agrees[:, self.state_of_draw == state].sum(axis=1)
        # A sample of draws may lack a combination of parts: it then has no weight at all.
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
        return weights


def components(encoding: Encoding, *, seed: int) -> tuple[Component, ...]:
    """Return the components of a space in the order of their first members' names."""
    tied = {name: {name} for name in encoding.names}
    for name in encoding.names:
        for parent in encoding.configuration_space.parents_of[name]:
            union = tied[name] | tied[parent.name]
            for member in union:
                tied[member] = union
    found, seen = [], set[str]()
    for domain in encoding.domains:
        if domain.name not in seen:
            seen |= tied[domain.name]
            found.append(_component(encoding, sorted(tied[domain.name]), seed))
    return tuple(found)


def _component(encoding: Encoding, members: Sequence[str], seed: int) -> Component:
    space = encoding.configuration_space
    parents = tuple(name for name in members if space.children_of[name])
    grids = [_parent_grid(encoding.parent_codes(name)) for name in parents]
    draws = _draws([len(grid) for grid in grids], np.random.default_rng(seed))
    vectors = np.repeat(encoding.defaults[None], len(draws), axis=0)
    for column, (name, grid) in enumerate(zip(parents, grids, strict=True)):
        vectors[:, encoding.names.index(name)] = grid[draws[:, column]]
    is_active = ~np.isnan(encoding.repair(vectors))
    domains = tuple(domain for domain in encoding.domains if domain.name in members)
    parent_active = is_active[:, [encoding.names.index(name) for name in parents]]
    left = np.where(parent_active, draws, INACTIVE_PART)
    states, first, state_of_draw = np.unique(left, axis=0, return_index=True, return_inverse=True)
    return Component(
        domains=domains,
        parents=parents,
        draws=draws,
        state_of_draw=state_of_draw.reshape(-1),
        states=states,
        active={domain.name: is_active[first, domain.index] for domain in domains},
    )


def _parent_grid(codes: Floats | None) -> Floats:
    return (np.arange(NUM_CELLS) + 0.5) / NUM_CELLS if codes is None else codes


def _draws(sizes: Sequence[int], rng: np.random.Generator) -> Parts:
    """Return joint parts: all of them, or a sample in which every part of a parent is drawn equally often."""
    if prod(sizes) <= MAX_STATES:
        return np.array(list(product(*map(range, sizes))), dtype=np.intp).reshape(prod(sizes), len(sizes))
    balanced = [rng.permutation(np.resize(np.arange(size), MAX_STATES)) for size in sizes]
    return np.column_stack(balanced).astype(np.intp)


class ComponentShares:
    """The shares of leaves at the values of one component, in its measure."""

    def __init__(self, component: Component, boxes: Boxes) -> None:
        self.component = component
        # Member -> (num_leaves, num_parts), and (num_leaves,) at its inactive code.
        self.members: dict[str, Floats] = {}
        self.inactive: dict[str, Floats] = {}
        for domain in component.domains:
            lower, upper = domain.cells(NUM_CELLS)
            self.members[domain.name] = boxes.membership(domain, lower, upper)
            nowhere = np.array([np.nan])
            self.inactive[domain.name] = (
                boxes.membership(domain, nowhere, nowhere)[:, 0]
                if domain.is_conditional
                else np.zeros(len(boxes.costs))
            )
        self.means = {name: share.mean(axis=1) for name, share in self.members.items()}
        self.states = self._states(len(boxes.costs))
        # A member's share at each part over its mean share; a leaf that it never reaches has no share at all.
        self._relative = {
            name: np.divide(share, mean[:, None], out=np.zeros_like(share), where=mean[:, None] > 0)
            for (name, share), mean in zip(self.members.items(), self.means.values(), strict=True)
        }
        draws = np.bincount(component.state_of_draw, minlength=len(component.states))
        self.whole: Floats = self.states @ (draws / draws.sum())

    def _states(self, num_leaves: int) -> Floats:
        """Return the share of each leaf given each state, averaged over the members that are no parents."""
        component = self.component
        shares = np.ones((num_leaves, len(component.states)))
        for domain in component.domains:
            if domain.name in component.parents:
                parts = component.states[:, component.parents.index(domain.name)]
                # The inactive part is -1, the last column.
                values = np.column_stack([self.members[domain.name], self.inactive[domain.name]])
                shares *= values[:, parts]
            else:
                mean, inactive = self.means[domain.name], self.inactive[domain.name]
                shares *= np.where(component.active[domain.name], mean[:, None], inactive[:, None])
        return shares

    def at(self, names: Sequence[str], parts: Parts) -> Floats:
        """Return the share of each leaf given parts of some members' domains, over its mean share.

        Args:
            names: members of the component.
            parts: (num_rows, len(names)) parts of their domains.

        Returns:
            (num_leaves, num_rows).
        """
        listed = [column for column, name in enumerate(names) if name in self.component.parents]
        free = [column for column, name in enumerate(names) if name not in self.component.parents]
        weights = self.component.state_weights([names[column] for column in listed], parts[:, listed])
        total = np.zeros((len(self.states), len(parts)))
        for pattern, share in self._by_pattern([names[column] for column in free], weights):
            factors = [self._relative[names[column]][:, parts[:, column]] for column in compress(free, pattern)]
            total += reduce(np.multiply, factors, share)
        return total

    def pair(self, first: str, second: str) -> list[tuple[Floats, Floats]]:
        """Return what `at` gives for all pairs of parts of two members, as a sum of products.

        Returns:
            Pairs of (num_leaves, parts of first) and (num_leaves, parts of second). For two parents, a single pair of (num_leaves,
            parts of first * parts of second) and (num_leaves, 1).
        """
        counts = [self.members[name].shape[1] for name in (first, second)]
        parents = [name in self.component.parents for name in (first, second)]
        one = np.ones((len(self.states), 1))
        if all(parents):
            both = np.array(list(product(*map(range, counts))), dtype=np.intp)
            return [(self.at([first, second], both), one)]
        if parents[1]:
            return [(left, right) for right, left in self.pair(second, first)]
        listed = [first] if parents[0] else []
        parts = np.arange(counts[0] if parents[0] else 1, dtype=np.intp)[:, None][:, : len(listed)]
        terms = []
        for pattern, share in self._by_pattern(
            [second] if parents[0] else [first, second], self.component.state_weights(listed, parts)
        ):
            right = self._relative[second] if pattern[-1] else one.repeat(counts[1], axis=1)
            # (num_leaves, 1) where the first is no parent: every part of an inactive one is the same.
            left = self._relative[first] if not parents[0] and pattern[0] else one.repeat(counts[0], axis=1)
            terms.append((share * left, right))
        return terms

    def _by_pattern(self, names: Sequence[str], weights: Floats) -> Iterator[tuple[Flags, Floats]]:
        """Yield which of some members that are no parents are active, and the share of each leaf over its mean in these states.

        Args:
            names: of the members.
            weights: (num_rows, num_states).
        """
        active = self.component.active
        patterns = np.array([active[name] for name in names]).reshape(len(names), len(self.component.states)).T
        for pattern in np.unique(patterns, axis=0):
            share = self.states @ (weights * (patterns == pattern).all(axis=1)).T
            whole = self.whole[:, None]
            yield pattern, np.divide(share, whole, out=np.zeros_like(share), where=whole > 0)
