"""Counting, enumerating and sampling the configurations of a ConfigSpace, with conditions and forbidden clauses.

ConfigSpace's own `estimate_size` is a product that ignores both. Hyperparameters are visited in the order ConfigSpace
keeps them, parents before children; each step expands a whole table of partial configurations at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from naxcli.records.trial import Config, ConfigValue
from naxcli.search_space.contract import plain_config

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

ROWS_AT_ONCE = 1 << 16  # bounds the float copies that ConfigSpace's vectorised checks need
MAX_LEVELS = 1 << 15

Codes = npt.NDArray[np.uint16]
Vectors = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.object_]  # of Python integers, which do not overflow


class _TooManyConfigurationsError(Exception):
    """The table has more rows than asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Enumeration:
    """All configurations of a finite space, as a table of small integers.

    Attributes:
        names: hyperparameters, in the order of ConfigSpace's vectors.
        levels: per hyperparameter, its values in ConfigSpace's order.
        level_vectors: per hyperparameter, ConfigSpace's vector element of each value, then NaN for inactive.
        codes: (num_configurations, num_hyperparameters), the index of the value, len(levels) where inactive; rows are
            sorted, and each column is contiguous in memory.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[ConfigValue, ...], ...]
    level_vectors: tuple[Vectors, ...]
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    def vectors(self, rows: slice | npt.NDArray[np.intp] = slice(None)) -> Vectors:
        """Return ConfigSpace's vectors of the rows, (num_rows, num_hyperparameters), NaN where inactive."""
        codes = self.codes[rows]
        vectors = np.empty(codes.shape, dtype=np.float64)
        for column, elements in enumerate(self.level_vectors):
            vectors[:, column] = elements[codes[:, column]]
        return vectors

    def config(self, row: int) -> dict[str, ConfigValue]:
        """Return the configuration of a row as plain values, without inactive hyperparameters."""
        pairs = zip(self.names, self.levels, self.codes[row], strict=True)
        return {name: levels[code] for name, levels, code in pairs if code < len(levels)}

    def row_of(self, config: Config) -> int | None:
        """Return the row of a configuration, None if it is not one of this space."""
        low, high = 0, len(self.codes)
        for column, (name, levels) in enumerate(zip(self.names, self.levels, strict=True)):
            if name not in config:
                code = len(levels)
            elif config[name] in levels:
                code = levels.index(config[name])
            else:
                return None
            bounds = np.array([code, code + 1], dtype=np.uint16)
            low, high = (low + np.searchsorted(self.codes[low:high, column], bounds)).tolist()
        return low if low < high else None


def enumerate_configurations(configuration_space: ConfigurationSpace, *, limit: int = 2_000_000) -> Enumeration | None:
    """Return the table of all legal configurations.

    Returns None for a continuous space, and where more than `limit` rows would be needed on the way.
    """
    if not is_finite(configuration_space):
        return None
    order = range(len(configuration_space))
    structure = _Structure.of(configuration_space, order)
    table = _Table.empty()
    try:
        for column in order:
            table, _ = structure.expand(table, column, limit)
    except _TooManyConfigurationsError:
        return None
    return Enumeration(
        names=tuple(configuration_space),
        levels=tuple(tuple(_levels(hyperparameter)) for hyperparameter in configuration_space.values()),
        level_vectors=structure.level_vectors,
        codes=np.asfortranarray(table.codes),
    )


def enumerate_vectors(configuration_space: ConfigurationSpace, limit: int = 2_000_000) -> Vectors | None:
    """Return ConfigSpace's vectors of all legal configurations, (num_configurations, num_hyperparameters).

    Returns None where `enumerate_configurations` does.
    """
    enumeration = enumerate_configurations(configuration_space, limit=limit)
    return None if enumeration is None else enumeration.vectors()


def count_configurations(configuration_space: ConfigurationSpace, *, limit: int = 2_000_000) -> int | None:
    """Return the exact number of legal configurations, None for a continuous space.

    A hyperparameter is forgotten as soon as no later condition or clause asks for it, and partial configurations that
    have become equal are merged and their counts added, so that spaces far too large to enumerate are counted as well.
    None is also returned where more than `limit` partial configurations would have to be told apart.
    """
    if not is_finite(configuration_space):
        return None
    groups = _columns_asked_together(configuration_space)
    order = _order_with_few_live(configuration_space, groups)
    structure = _Structure.of(configuration_space, order)
    table = _Table.empty()
    counts: Counts = np.array([1], dtype=object)
    try:
        for position, column in enumerate(order):
            table, parents = structure.expand(table, column, limit)
            live = _live(groups, frozenset(order[: position + 1]))
            kept = [place for place, known in enumerate(table.columns) if known in live]
            codes, counts = _merge_equal(table.codes[:, kept], counts[parents])
            table = _Table(codes=codes, columns=tuple(table.columns[place] for place in kept))
    except _TooManyConfigurationsError:
        return None
    return int(sum(counts))


def sample_configs(configuration_space: ConfigurationSpace, n: int, seed: int) -> list[dict[str, ConfigValue]]:
    """Return n legal configurations as plain values, repeats included.

    Sampling is ConfigSpace's: uniform per hyperparameter, which is not uniform over the architectures where there are
    conditions.
    """
    return [plain_config(configuration) for configuration in _sample(configuration_space, n, seed)]


def sample_vectors(configuration_space: ConfigurationSpace, n: int, seed: int) -> Vectors:
    """Return ConfigSpace's vectors of n legal configurations, (n, num_hyperparameters), sampled as above."""
    return np.stack([configuration.get_array() for configuration in _sample(configuration_space, n, seed)])


def is_finite(configuration_space: ConfigurationSpace) -> bool:
    """Return whether every hyperparameter has finitely many values (at most 32,768)."""
    return all(hyperparameter.size <= MAX_LEVELS for hyperparameter in configuration_space.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """Partial configurations: codes (num_rows, num_columns) of the hyperparameters at `columns`."""

    codes: Codes
    columns: tuple[int, ...]

    @classmethod
    def empty(cls) -> _Table:
        """Return the one configuration of no hyperparameters."""
        return cls(codes=np.empty((1, 0), dtype=np.uint16), columns=())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Structure:
    """What the expansion asks of a ConfigSpace, per hyperparameter: levels, conditions, clauses it decides."""

    level_vectors: tuple[Vectors, ...]
    conditions: tuple[tuple[Any, ...], ...]
    clauses: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, configuration_space: ConfigurationSpace, order: Sequence[int]) -> _Structure:
        """Return the structure for hyperparameters that are expanded in the given order."""
        clauses: list[list[Any]] = [[] for _ in order]
        for clause in configuration_space.forbidden_clauses:
            clauses[max(_columns_of_clause(configuration_space, clause), key=order.index)].append(clause)
        return cls(
            level_vectors=tuple(
                np.array([*(float(hyperparameter.to_vector(value)) for value in _levels(hyperparameter)), np.nan])
                for hyperparameter in configuration_space.values()
            ),
            conditions=tuple(tuple(configuration_space.parent_conditions_of[name]) for name in configuration_space),
            clauses=tuple(map(tuple, clauses)),
        )

    def expand(self, table: _Table, column: int, limit: int) -> tuple[_Table, npt.NDArray[np.intp]]:
        """Return the table with one more hyperparameter, and the row of the old table each new row came from."""
        num_levels = len(self.level_vectors[column]) - 1
        active = np.ones(len(table.codes), dtype=np.bool_)
        for condition in self.conditions[column]:
            active &= self._evaluate(condition.satisfied_by_vector_array, table)
        repeats = np.where(active, num_levels, 1)
        if repeats.sum() > limit:
            raise _TooManyConfigurationsError
        parents = np.repeat(np.arange(len(active)), repeats)
        first_row = np.cumsum(repeats) - repeats
        values = np.where(active[parents], np.arange(len(parents)) - first_row[parents], num_levels)
        expanded = _Table(
            codes=np.column_stack([table.codes[parents], values.astype(np.uint16)]), columns=(*table.columns, column)
        )
        if not self.clauses[column]:
            return expanded, parents
        allowed = np.ones(len(parents), dtype=np.bool_)
        for clause in self.clauses[column]:
            allowed &= ~self._evaluate(clause.is_forbidden_vector_array, expanded)
        return _Table(codes=expanded.codes[allowed], columns=expanded.columns), parents[allowed]

    def _evaluate(self, check: Callable[[Vectors], Mask], table: _Table) -> Mask:
        """Return ConfigSpace's check of each row; it takes one vector per column, with all hyperparameters as rows."""
        result = np.empty(len(table.codes), dtype=np.bool_)
        for start in range(0, len(table.codes), ROWS_AT_ONCE):
            codes = table.codes[start : start + ROWS_AT_ONCE]
            vectors = np.full((len(self.level_vectors), len(codes)), np.nan)
            for position, column in enumerate(table.columns):
                vectors[column] = self.level_vectors[column][codes[:, position]]
            result[start : start + ROWS_AT_ONCE] = check(vectors)
        return result


def _sample(configuration_space: ConfigurationSpace, n: int, seed: int) -> list[Configuration]:
    """Return n sampled configurations, leaving the space's random state as it was."""
    state = configuration_space.random.get_state()
    configuration_space.seed(seed)
    try:
        return list(configuration_space.sample_configuration(max(n, 2)))[:n]  # a size of 1 is not answered with a list
    finally:
        configuration_space.random.set_state(state)


def _levels(hyperparameter: Any) -> Iterator[ConfigValue]:
    values: Sequence[Any]
    if hasattr(hyperparameter, "choices"):
        values = hyperparameter.choices
    elif hasattr(hyperparameter, "sequence"):
        values = hyperparameter.sequence
    elif hasattr(hyperparameter, "lower"):
        values = range(hyperparameter.lower, hyperparameter.upper + 1)
    else:
        values = [hyperparameter.value]
    return (value.item() if hasattr(value, "item") else value for value in values)


def _columns_of_clause(configuration_space: ConfigurationSpace, clause: Any) -> frozenset[int]:
    if hasattr(clause, "components"):
        return frozenset().union(*(_columns_of_clause(configuration_space, part) for part in clause.components))
    parts = [clause.left, clause.right] if hasattr(clause, "left") else [clause.hyperparameter]
    return frozenset(configuration_space.index_of[part.name] for part in parts)


def _columns_asked_together(configuration_space: ConfigurationSpace) -> list[frozenset[int]]:
    """Return the hyperparameters that each condition (with its child) and each clause looks at."""
    index_of = configuration_space.index_of
    families = [
        frozenset([index_of[name], *(index_of[parent.name] for parent in configuration_space.parents_of[name])])
        for name in configuration_space
    ]
    return families + [
        _columns_of_clause(configuration_space, clause) for clause in configuration_space.forbidden_clauses
    ]


def _live(groups: Sequence[frozenset[int]], known: frozenset[int]) -> frozenset[int]:
    """Return the known hyperparameters that some group with unknown ones will still look at."""
    return frozenset().union(*(group & known for group in groups if not group <= known))


def _order_with_few_live(configuration_space: ConfigurationSpace, groups: Sequence[frozenset[int]]) -> list[int]:
    """Return an order, parents before children, chosen greedily so that few hyperparameters are live at any time."""
    parents = groups[: len(configuration_space)]
    order: list[int] = []
    remaining = set(range(len(configuration_space)))
    while remaining:
        known = frozenset(order)
        ready = [column for column in remaining if parents[column] <= known | {column}]
        order.append(min(ready, key=lambda column: (len(_live(groups, known | {column})), column)))
        remaining.remove(order[-1])
    return order


def _merge_equal(codes: Codes, counts: Counts) -> tuple[Codes, Counts]:
    """Return the distinct rows and the sums of their counts."""
    if codes.shape[1] == 0:
        num_rows = min(1, len(codes))
        return codes[:num_rows], np.array([sum(counts)], dtype=object)[:num_rows]
    merged, inverse = np.unique(codes, axis=0, return_inverse=True)
    totals = np.zeros(len(merged), dtype=object)
    np.add.at(totals, inverse.ravel(), counts)
    return merged, totals
