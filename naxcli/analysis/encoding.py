"""Encoding: configurations as ConfigSpace vectors, their repair, and the columns a forest learns from.

A configuration is a row of ConfigSpace's own vector: index of the choice (categorical, ordinal), unit scale of the bounds, log where the
hyperparameter is log (numeric), NaN where inactive. All work on many configurations is done on such rows at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace
from ConfigSpace.forbidden import ForbiddenAndConjunction, ForbiddenLessThanEqualsClause, ForbiddenOrConjunction
from ConfigSpace.hyperparameters import CategoricalHyperparameter, Constant, OrdinalHyperparameter
from numpy.typing import NDArray

from naxcli.records.trial import Config, ConfigValue

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Parts = NDArray[np.intp]

# Integers with more values than this are treated as continuous.
MAX_LISTED_VALUES = 100
# How the forest sees an inactive ordinal or numeric hyperparameter; legal codes are never negative.
INACTIVE = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One hyperparameter that has something to choose.

    Args:
        name: of the hyperparameter.
        index: its column in ConfigSpace's vector.
        kind: `categorical`, `ordinal` or `numeric`.
        values: vector codes of all legal values, or None where they are too many to list (a float, a wide integer).
        is_conditional: whether it can be inactive.
        columns: its columns in the forest's input.
    """

    name: str
    index: int
    kind: str
    values: Floats | None
    is_conditional: bool
    columns: slice

    def grid(self, num_points: int) -> Floats:
        """Return the codes of all legal values, or that many evenly spaced points of the unit scale, ends included."""
        return self.values if self.values is not None else np.linspace(0.0, 1.0, num_points)

    def cells(self, num_cells: int) -> tuple[Floats, Floats]:
        """Return lower and upper edges of equally likely parts of the domain; a listed value is a part with equal edges."""
        if self.values is not None:
            return self.values, self.values
        edges = np.linspace(0.0, 1.0, num_cells + 1)
        return edges[:-1], edges[1:]

    def encode(self, codes: Floats) -> Floats:
        """Return the forest's columns, (num_codes, num_columns), of vector codes with NaN for inactive."""
        inactive = np.isnan(codes)
        if self.kind != "categorical" or self.columns.stop - self.columns.start == 1:
            return np.where(inactive, INACTIVE, codes)[:, None]
        assert self.values is not None
        one_hot = codes[:, None] == self.values[None, :]
        return np.column_stack([one_hot, inactive] if self.is_conditional else [one_hot]).astype(float)


class Encoding:
    """The hyperparameters of a space by name, with their conditions and forbidden clauses, for rows of vectors.

    Hyperparameters are kept in the order of their names, so that results do not depend on the order in which a space adds them;
    constants are left out of `domains`.

    Args:
        configuration_space: the space.
        fixed: hyperparameter -> the only code it ever has; it counts as a constant.
        defaults: (num_hyperparameters,) codes that `repair` gives to what becomes active; the space's defaults if None.
        left_out: hyperparameter -> codes that it never has; they are no values of its domain.
    """

    def __init__(
        self,
        configuration_space: ConfigurationSpace,
        *,
        fixed: Mapping[str, float] | None = None,
        defaults: Floats | None = None,
        left_out: Mapping[str, Floats] | None = None,
    ) -> None:
        self.configuration_space = configuration_space
        self.names: tuple[str, ...] = tuple(configuration_space)
        self.fixed: Mapping[str, float] = fixed or {}
        self.left_out: Mapping[str, Floats] = left_out or {}
        self.defaults: Floats = _default_codes(configuration_space) if defaults is None else defaults
        self.domains: tuple[Domain, ...] = tuple(self._domains())
        self.num_columns = self.domains[-1].columns.stop if self.domains else 0

    def _domains(self) -> list[Domain]:
        domains: list[Domain] = []
        start = 0
        for name in sorted(self.names):
            hyperparameter = self.configuration_space[name]
            if hyperparameter.size == 1 or name in self.fixed:
                continue
            is_conditional = bool(self.configuration_space.parents_of[name])
            kind = _kind(hyperparameter)
            values = legal_codes(hyperparameter)
            if values is not None and name in self.left_out:
                values = np.setdiff1d(values, self.left_out[name])
            width = 1
            if kind == "categorical" and values is not None and (len(values) > 2 or is_conditional):
                # Two choices that are always active need one column only: a second would say the same.
                width = len(values) + is_conditional
            domains.append(
                Domain(
                    name=name,
                    index=self.names.index(name),
                    kind=kind,
                    values=values,
                    is_conditional=is_conditional,
                    columns=slice(start, start + width),
                )
            )
            start += width
        return domains

    def uniform_rows(self, number: int, rng: np.random.Generator) -> Floats:
        """Return rows of vectors, (number, num_hyperparameters), drawn from the uniform product of all domains, repaired."""
        rows = np.repeat(self.defaults[None], number, axis=0)
        for domain in self.domains:
            rows[:, domain.index] = rng.random(number) if domain.values is None else rng.choice(domain.values, number)
        return self.repair(rows)

    def varied(self, vectors: Floats, *, incumbent: Floats, merged: Collection[str] = ()) -> Encoding:
        """Return the encoding of the hyperparameters that had at least two values in some trials; the others are constants.

        Nothing can be learned about what never varied. A child that was switched on and off, always with the same value, never varied
        either: all that could be learned is its parent's.

        Args:
            vectors: (num_trials, num_hyperparameters) rows of the trials.
            incumbent: the row that neighbours and paths are about, whose values the constants have there.
            merged: choices (`name=value`) that are other names of what another choice names; those that no trial had are left out.
        """
        fixed = {}
        for domain in self.domains:
            seen = np.unique(vectors[:, domain.index])
            seen = seen[~np.isnan(seen)]
            if len(seen) < 2:
                fixed[domain.name] = float(seen[0]) if len(seen) else float(self.defaults[domain.index])
        is_taken = np.isin(self.names, list(fixed)) & ~np.isnan(incumbent)
        seen_defaults = np.array([fixed.get(name, code) for name, code in zip(self.names, self.defaults, strict=True)])
        defaults = np.where(is_taken, incumbent, seen_defaults)
        known = np.vstack([vectors, incumbent, defaults])
        left_out = {
            domain.name: np.array([code for text, code in self.unseen(domain, known).items() if text in merged])
            for domain in self.domains
            if domain.kind == "categorical"
        }
        return Encoding(self.configuration_space, fixed=fixed, defaults=defaults, left_out=left_out)

    def unseen(self, domain: Domain, vectors: Floats) -> dict[str, float]:
        """Return the listed values of a hyperparameter that none of the rows has, as `name=value`, with their codes."""
        if domain.values is None:
            return {}
        codes = np.setdiff1d(domain.values, vectors[:, domain.index])
        return {f"{domain.name}={self.value(domain.name, code)}": float(code) for code in codes}

    def start(self, default: Floats) -> Floats:
        """Return the default (a vector row) with the encoding's values for all that is fixed, repaired."""
        is_fixed = np.isin(self.names, list(self.fixed))
        row: Floats = self.repair(np.where(is_fixed, self.defaults, default)[None])[0]
        return row

    def parent_codes(self, name: str) -> Floats | None:
        """Return the codes that a hyperparameter, a constant too, can have, or None where they are too many to list."""
        if name in self.fixed:
            return np.array([self.fixed[name]])
        return legal_codes(self.configuration_space[name])

    def domain(self, name: str) -> Domain:
        """Return the domain of a hyperparameter that is not a constant."""
        return next(domain for domain in self.domains if domain.name == name)

    def vector(self, config: Config) -> Floats:
        """Return the vector row of one legal configuration."""
        row = np.full(len(self.names), np.nan)
        for index, name in enumerate(self.names):
            if name in config:
                row[index] = nearest_code(self.configuration_space[name], config[name])
        return row

    def config(self, row: Floats) -> dict[str, ConfigValue]:
        """Return the plain values of one vector row; inactive hyperparameters are absent."""
        return {name: self.value(name, row[index]) for index, name in enumerate(self.names) if not np.isnan(row[index])}  # type: ignore[misc]

    def value(self, name: str, code: float) -> ConfigValue | None:
        """Return the plain value of one vector code, None where it is inactive."""
        if np.isnan(code):
            return None
        hyperparameter = self.configuration_space[name]
        # Choices are looked up directly: through an array, mixed types would all become strings.
        if isinstance(hyperparameter, Constant):
            value: Any = hyperparameter.value
        elif isinstance(hyperparameter, CategoricalHyperparameter):
            value = hyperparameter.choices[int(code)]
        elif isinstance(hyperparameter, OrdinalHyperparameter):
            value = hyperparameter.sequence[int(code)]
        else:
            value = hyperparameter.to_value(np.float64(code))
            if isinstance(value, float):
                # The way through the unit scale costs the last digits: 0.01 comes back as 0.010000000000000004.
                value = float(f"{value:.12g}")
        return value.item() if hasattr(value, "item") else value  # type: ignore[no-any-return]

    def encode(self, vectors: Floats) -> NDArray[np.float32]:
        """Return the forest's input, (num_rows, num_columns), in the precision in which scikit-learn's trees compare."""
        encoded = np.empty((len(vectors), self.num_columns), dtype=np.float32)
        for domain in self.domains:
            encoded[:, domain.columns] = domain.encode(vectors[:, domain.index])
        return encoded

    def repair(self, vectors: Floats) -> Floats:
        """Return copies of the rows in which exactly the active hyperparameters have a value.

        Children that are no longer switched on lose their value; newly active ones get their default.
        """
        repaired = vectors.copy()
        # ConfigSpace orders parents before their children.
        for index, name in enumerate(self.names):
            active = self._is_active(name, repaired)
            column = np.where(np.isnan(repaired[:, index]), self.defaults[index], repaired[:, index])
            repaired[:, index] = np.where(active, column, np.nan)
        return repaired

    def is_forbidden(self, vectors: Floats) -> Flags:
        """Return for each row whether a forbidden clause refuses it."""
        refused = np.zeros(len(vectors), dtype=bool)
        for clause in self.configuration_space.forbidden_clauses:
            refused |= _clause_holds(clause, vectors.T)
        return refused

    def _is_active(self, name: str, vectors: Floats) -> Flags:
        active = np.ones(len(vectors), dtype=bool)
        for condition in self.configuration_space.parent_conditions_of[name]:
            # As ConfigSpace samples and checks: an inactive parent differs from every value, so that `!=` holds.
            active &= condition.satisfied_by_vector_array(vectors.T)
        return active


def legal_codes(hyperparameter: Any) -> Floats | None:
    """Return the vector codes of all legal values of a hyperparameter, or None where they are too many to list."""
    kind = _kind(hyperparameter)
    if isinstance(hyperparameter, Constant):
        return np.array([_default_code(hyperparameter)])
    if kind != "numeric":
        return np.arange(hyperparameter.size, dtype=float)
    if hyperparameter.size > MAX_LISTED_VALUES:
        return None
    return np.asarray(hyperparameter.to_vector(np.arange(hyperparameter.lower, hyperparameter.upper + 1)), dtype=float)


def _default_codes(configuration_space: ConfigurationSpace) -> Floats:
    return np.array([nearest_code(item, item.default_value) for item in configuration_space.values()])


def nearest_code(hyperparameter: Any, value: ConfigValue) -> float:
    """Return the vector code of a legal value, exactly one of `legal_codes` where they are listed."""
    code = float(hyperparameter.to_vector(value))
    listed = legal_codes(hyperparameter)
    return code if listed is None else float(listed[np.abs(listed - code).argmin()])


def _kind(hyperparameter: Any) -> str:
    if isinstance(hyperparameter, CategoricalHyperparameter):
        return "categorical"
    return "ordinal" if isinstance(hyperparameter, OrdinalHyperparameter) else "numeric"


def _default_code(hyperparameter: Any) -> float:
    return float(hyperparameter.to_vector(hyperparameter.default_value))


def _combine(operation: np.ufunc, parts: list[Flags]) -> Flags:
    combined: Flags = operation.reduce(parts)
    return combined


def _clause_holds(clause: Any, columns: Floats) -> Flags:
    if isinstance(clause, ForbiddenAndConjunction):
        return _combine(np.logical_and, [_clause_holds(part, columns) for part in clause.components])
    if isinstance(clause, ForbiddenOrConjunction):
        return _combine(np.logical_or, [_clause_holds(part, columns) for part in clause.components])
    if isinstance(clause, ForbiddenLessThanEqualsClause):
        # ConfigSpace 1.2.2 compares arrays with >= here, single vectors with <=.
        below: Flags = columns[clause.vector_id] <= clause.vector_value
        return below
    holds: Flags = clause.is_forbidden_vector_array(columns)
    return holds


def distinct_rows(vectors: Floats) -> tuple[Parts, Parts]:
    """Return the first row of each different configuration, and for each row the number of its configuration."""
    # NaN equals nothing, not even itself; codes are never negative.
    _, first, number = np.unique(np.nan_to_num(vectors, nan=INACTIVE), axis=0, return_index=True, return_inverse=True)
    return first, number.reshape(-1)


def check_groups(groups: Mapping[str, Sequence[str]], encoding: Encoding) -> dict[str, tuple[str, ...]]:
    """Return each group's hyperparameters that are not constants, in the encoding's order; empty groups are left out."""
    known = [domain.name for domain in encoding.domains]
    kept = {group: tuple(name for name in known if name in members) for group, members in groups.items()}
    return {group: members for group, members in kept.items() if members}
