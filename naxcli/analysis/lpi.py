"""Local parameter importance (Biedenkapp et al., CAVE, LION 2018): how much the cost varies around the incumbent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from naxcli.analysis.encoding import Domain, Encoding, Floats
from naxcli.analysis.forest import Forest

# Points of the unit scale at which a hyperparameter with too many values to list is tried.
GRID_POINTS = 100
# Above this number, the joint values of a group are sampled.
MAX_JOINT_VALUES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """The configurations around an incumbent.

    Args:
        rows: (num_rows, num_hyperparameters) ConfigSpace vectors, legal and repaired.
        parts: hyperparameter or group -> its rows. Inactive hyperparameters are absent.
        shares: name -> names whose variances add up to the whole of which its variance is a share.
        method: one of `LPI_DEFINITIONS`.
    """

    rows: Floats
    parts: Mapping[str, slice]
    shares: Mapping[str, tuple[str, ...]]
    method: str

    def importance(self, forest: Forest) -> dict[str, Floats]:
        """Return name -> fractions of the variance around the incumbent, one per tree that varies there (maybe none)."""
        return self.shares_of(forest.predict_trees(self.rows))

    def shares_of(self, predictions: Floats) -> dict[str, Floats]:
        """Return name -> fractions of the variance around the incumbent for each row of (num_functions, num_rows) that varies there."""
        # One value alone, or none that is legal, does not vary.
        still = np.zeros(len(predictions))
        variances = {
            name: predictions[:, part].var(axis=1) if part.stop - part.start > 1 else still
            for name, part in self.parts.items()
        }
        fractions = {}
        for name, others in self.shares.items():
            whole = np.sum([variances[other] for other in others], axis=0)
            varies = whole > 0
            fractions[name] = variances[name][varies] / whole[varies]
        return fractions


def neighbourhood(
    encoding: Encoding,
    incumbent: Floats,
    groups: Mapping[str, Sequence[str]],
    *,
    method: str = "naxcli",
    num_points: int = GRID_POINTS,
    seed: int = 0,
) -> Neighbourhood:
    """Return the configurations that importance around an incumbent (a vector row) compares.

    Each active hyperparameter takes all its legal values, the incumbent's among them. Children it switches off are dropped, children
    it switches on get their default, and what a forbidden clause refuses is left out. A group takes all joint values of its active
    members and is then one term of the sum, in place of its members, next to the other groups and the remaining hyperparameters.

    `deepcave` does as DeepCAVE: the incumbent's own value is left out (a binary hyperparameter then scores exactly 0), and an ordinal
    looks only one step to each side.
    """
    rng = np.random.default_rng(seed)
    values = {
        domain.name: _values(domain, incumbent[domain.index], method, num_points)
        for domain in encoding.domains
        if not np.isnan(incumbent[domain.index])
    }
    blocks: dict[str, Floats] = {}
    for name, codes in values.items():
        blocks[name] = _changed(encoding, incumbent, [name], codes[:, None])
    active_groups = {group: [name for name in members if name in values] for group, members in groups.items()}
    active_groups = {group: members for group, members in active_groups.items() if members}
    for group, members in active_groups.items():
        blocks[_key(group)] = _changed(encoding, incumbent, members, _joint_values([values[n] for n in members], rng))
    parts, start = {}, 0
    for key, block in blocks.items():
        parts[key] = slice(start, start + len(block))
        start += len(block)
    return Neighbourhood(
        rows=np.concatenate(list(blocks.values())) if blocks else np.empty((0, len(incumbent))),
        parts=parts,
        shares={name: tuple(values) for name in values}
        | {_key(group): _terms(group, active_groups, list(values)) for group in active_groups},
        method=method,
    )


def _key(group: str) -> str:
    """Return the name of a group that no hyperparameter has, since a group may be named like one of its members."""
    return f"group:{group}"


def _values(domain: Domain, incumbent: float, method: str, num_points: int) -> Floats:
    values = domain.grid(num_points)
    if method == "deepcave":
        others = values[values != incumbent]
        one_step: Floats = others[np.abs(others - incumbent) <= 1]
        return one_step if domain.kind == "ordinal" else others
    return np.union1d(values, [incumbent])


def _joint_values(values: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """Return joint values, (num_rows, num_members): all of them, or as many independent draws as are allowed."""
    if prod(len(codes) for codes in values) <= MAX_JOINT_VALUES:
        return np.array(list(product(*values)), dtype=float)
    return np.column_stack([rng.choice(codes, MAX_JOINT_VALUES) for codes in values])


def _changed(encoding: Encoding, incumbent: Floats, names: Sequence[str], codes: Floats) -> Floats:
    """Return the legal configurations that differ from the incumbent in the named hyperparameters and what hangs on them."""
    rows = np.repeat(incumbent[None], len(codes), axis=0)
    rows[:, [encoding.domain(name).index for name in names]] = codes
    rows = encoding.repair(rows)
    legal: Floats = rows[~encoding.is_forbidden(rows)]
    return legal


def _terms(group: str, groups: Mapping[str, Sequence[str]], names: Sequence[str]) -> tuple[str, ...]:
    """Return a group, the other groups that do not overlap, and the hyperparameters in none of these."""
    taken = set(groups[group])
    terms = [_key(group)]
    for other, members in groups.items():
        if taken.isdisjoint(members):
            taken.update(members)
            terms.append(_key(other))
    return (*terms, *(name for name in names if name not in taken))
