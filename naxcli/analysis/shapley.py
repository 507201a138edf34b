"""Shapley values of the choices in which the incumbent differs from the default, on a forest.

The players are these hyperparameters, a coalition is the blend of both configurations that has the incumbent's value for its members, and
its worth is minus the predicted cost: the values add up to the predicted gain. Blends are repaired like neighbours of the incumbent. Where
forbidden clauses refuse some blends, only the orders of change that avoid them are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from naxcli.analysis.encoding import Encoding, Flags, Floats, Parts, distinct_rows
from naxcli.analysis.forest import Forest

# Up to this number of players all coalitions are listed.
MAX_EXACT_PLAYERS = 15
NUM_SAMPLED_ORDERS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """The blends of two configurations and how their worths add up to Shapley values.

    Args:
        players: hyperparameters in which the configurations differ.
        rows: (num_rows, num_hyperparameters) vector rows, the blends.
        weights: (num_players, num_rows), or empty where orders are sampled.
        orders: (num_orders, num_players) players in the order of their change, empty where all coalitions are listed.
        path: (num_orders, num_players + 1) row of the blend before and after each change.
    """

    players: tuple[str, ...]
    rows: Floats
    weights: Floats
    orders: Parts
    path: Parts

    @property
    def is_sampled(self) -> bool:
        return len(self.orders) > 0

    def values(self, forest: Forest) -> tuple[Floats, Floats | None]:
        """Return the (num_players,) values in units of cost saved, and their standard errors where orders are sampled."""
        worth = -forest.predict(self.rows)
        if not self.is_sampled:
            return self.weights @ worth, None
        gains = self._gains(worth)
        # An order and its reverse are drawn together: the pairs are independent, the two are not.
        pairs = (gains[0::2] + gains[1::2]) / 2
        return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))

    def values_of(self, worths: Floats) -> Floats:
        """Return the values, (num_functions, num_players), of (num_functions, num_rows) worths of the blends."""
        if not self.is_sampled:
            return worths @ self.weights.T
        return np.stack([self._gains(worth).mean(axis=0) for worth in worths])

    def _gains(self, worth: Floats) -> Floats:
        """Return what each player adds in each order, (num_orders, num_players)."""
        gains: Floats = np.take_along_axis(np.diff(worth[self.path], axis=1), np.argsort(self.orders, axis=1), axis=1)
        return gains


def shapley_game(encoding: Encoding, default: Floats, incumbent: Floats, *, seed: int = 0) -> Game | None:
    """Return the game between the default and the incumbent (vector rows), or None where no order of changes is legal."""
    differs = ~((default == incumbent) | (np.isnan(default) & np.isnan(incumbent)))
    players = tuple(domain.name for domain in encoding.domains if differs[domain.index])
    columns = np.array([encoding.domain(name).index for name in players], dtype=np.intp)
    if len(players) <= MAX_EXACT_PLAYERS:
        return _listed_game(encoding, default, incumbent, players, columns)
    return _sampled_game(encoding, default, incumbent, players, columns, seed=seed)


def _blends(encoding: Encoding, default: Floats, incumbent: Floats, columns: Parts, members: Flags) -> Floats:
    """Return the repaired blend of each coalition, given as (num_coalitions, num_players) membership."""
    rows = np.repeat(default[None], len(members), axis=0)
    rows[:, columns] = np.where(members, incumbent[columns], default[columns])
    return encoding.repair(rows)


def _listed_game(
    encoding: Encoding, default: Floats, incumbent: Floats, players: tuple[str, ...], columns: Parts
) -> Game | None:
    num_players = len(players)
    coalitions = np.arange(2**num_players)
    members = (coalitions[:, None] >> np.arange(num_players)) & 1 == 1
    blends = _blends(encoding, default, incumbent, columns, members)
    legal = ~encoding.is_forbidden(blends)
    to_here = _count_orders(members, legal)
    # The orders from a coalition to the whole are those from nothing to its complement, reversed.
    from_here = _count_orders(members, legal[::-1])[::-1]
    if to_here[-1] == 0:
        return None
    weights = np.zeros((num_players, len(coalitions)))
    for player in range(num_players):
        without = coalitions[~members[:, player]]
        joined = without | (1 << player)
        weight = to_here[without] * from_here[joined] / to_here[-1]
        weights[player, without] = -weight
        weights[player, joined] = weight
    first, blend_row = distinct_rows(blends)
    merged = np.zeros((num_players, len(first)))
    np.add.at(merged.T, blend_row, weights.T)
    no_orders = np.empty((0, num_players), dtype=np.intp)
    return Game(players=players, rows=blends[first], weights=merged, orders=no_orders, path=no_orders)


def _count_orders(members: Flags, legal: Flags) -> Floats:
    """Return for each coalition in how many orders its members can join one by one through legal coalitions only."""
    num_players = members.shape[1]
    size = members.sum(axis=1)
    count = np.zeros(len(members))
    count[0] = legal[0]
    for level in range(1, num_players + 1):
        of_level = np.flatnonzero((size == level) & legal)
        for player in range(num_players):
            having = of_level[members[of_level, player]]
            count[having] += count[having ^ (1 << player)]
    assert count.max(initial=0) <= factorial(num_players)
    return count


def _sampled_game(
    encoding: Encoding, default: Floats, incumbent: Floats, players: tuple[str, ...], columns: Parts, *, seed: int
) -> Game | None:
    rng = np.random.default_rng(seed)
    num_players = len(players)
    half = np.array([rng.permutation(num_players) for _ in range(NUM_SAMPLED_ORDERS // 2)])
    orders = np.stack([half, half[:, ::-1]], axis=1).reshape(-1, num_players)
    position = np.argsort(orders, axis=1)
    members = position[:, None, :] < np.arange(num_players + 1)[None, :, None]
    blends = _blends(encoding, default, incumbent, columns, members.reshape(-1, num_players))
    refused = encoding.is_forbidden(blends).reshape(len(orders), num_players + 1).max(axis=1)
    legal = np.repeat(~(refused[0::2] | refused[1::2]), 2)
    if legal.sum() < 4:
        return None
    first, blend_row = distinct_rows(blends)
    path = blend_row.reshape(len(orders), -1)
    return Game(
        players=players,
        rows=blends[first],
        weights=np.empty((num_players, 0)),
        orders=orders[legal],
        path=path[legal],
    )
