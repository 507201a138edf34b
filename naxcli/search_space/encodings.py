"""A space made of a plain list of encodings: one hyperparameter per position, and a constraint where not every combination is listed."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.trial import Config, ConfigValue

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

MAX_COMBINATIONS = 2_000_000  # that searchers go through to find those that are listed


class Encodings:
    """A list of encodings as configurations.

    Args:
        encodings: Sequences of equal length of numbers, texts or truths, without repeats.
        positions: Names of the positions; none are `x0`, `x1`, ...
        space_name: What errors call the space.

    Raises:
        NaxcliError: If they are no such list.
    """

    def __init__(self, encodings: Sequence[Sequence[Any]], *, positions: Sequence[str], space_name: str) -> None:
        self._where = f"the encodings of space {space_name!r}"
        given = self._as_list(encodings, why="they are no list")
        rows = [
            tuple(map(_plain, self._as_list(encoding, why=f"{encoding!r} is no sequence of values")))
            for encoding in given
        ]
        if not rows:
            raise NaxcliError(f"{self._where} are none")
        if len({len(row) for row in rows}) > 1 or not rows[0]:
            raise NaxcliError(
                f"{self._where} are not of one length",
                why="each position is a hyperparameter",
                hint="fill the shorter ones up with a value of their own, such as 0 or 'none'",
            )
        for value in (value for row in rows for value in row if not isinstance(value, str | int | float | bool)):
            raise NaxcliError(f"{self._where} hold {value!r}", why="values are texts, numbers, True or False")
        self._known = dict(zip(rows, given, strict=True))
        if len(self._known) < len(rows):
            raise NaxcliError(f"{self._where} hold the same one twice")
        self.names = tuple(positions) or tuple(f"x{number}" for number in range(len(rows[0])))
        if len(self.names) != len(rows[0]) or len(set(self.names)) < len(self.names):
            raise NaxcliError(f"{self._where} have {len(rows[0])} positions, and not these: {', '.join(self.names)}")
        self._first = rows[0]
        self._choices = [list(dict.fromkeys(row[position] for row in rows)) for position in range(len(rows[0]))]
        num_combinations = math.prod(map(len, self._choices))
        self.is_complete = num_combinations == len(rows)
        if not self.is_complete and num_combinations > MAX_COMBINATIONS:
            raise NaxcliError(
                f"{self._where} are {len(rows):,} of {num_combinations:,} combinations of their values",
                why=f"more than {MAX_COMBINATIONS:,} are too many to look for them among",
                hint="write a configspace function whose conditions leave out what is not meant",
            )

    def configspace(self, seed: int | None = None) -> ConfigurationSpace:
        """Return the space of all combinations, whose default is the first encoding: numbers are ordered, other values are not."""
        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, OrdinalHyperparameter

        space = ConfigurationSpace(seed=seed)
        for name, choices, first in zip(self.names, self._choices, self._first, strict=True):
            if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
                space.add(OrdinalHyperparameter(name, sorted(choices), default_value=first))
            else:
                space.add(CategoricalHyperparameter(name, choices, default_value=first))
        return space

    def is_listed(self, config: Config) -> bool:
        """Return whether a configuration is one of the encodings."""
        return self._row(config) in self._known

    def encoding(self, config: Config) -> Any:
        """Return the encoding of a configuration, as it was given."""
        return self._known[self._row(config)]

    def builder(self, build: Callable[..., Any]) -> Callable[..., Any]:
        """Return a `build` of the contract that calls a function of an encoding, with the sizes that it has parameters for."""
        asked = _asked_of(build)

        @functools.wraps(build)
        def build_network(
            config: Config, *, num_classes: int, in_channels: int, image_size: int, width: float = 1.0
        ) -> Any:
            sizes = {
                "num_classes": num_classes,
                "in_channels": in_channels,
                "image_size": image_size,
                "width": width,
            }
            return build(self.encoding(config), **{name: size for name, size in sizes.items() if name in asked})

        return build_network

    def evaluator(self, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        """Return an `evaluate` of the space's contract that calls a function of an encoding."""
        asked = _asked_of(evaluate)

        @functools.wraps(evaluate)
        def evaluate_encoding(config: Config, *, fidelity: float, seed: int) -> float | Mapping[str, float]:
            given = {"fidelity": fidelity, "seed": seed}
            outcome: float | Mapping[str, float] = evaluate(
                self.encoding(config), **{name: value for name, value in given.items() if name in asked}
            )
            return outcome

        return evaluate_encoding

    def measurer(self, zero_cost: Callable[..., Mapping[str, float]]) -> Callable[[Config], Mapping[str, float]]:
        """Return a `zero_cost` of the space's contract that calls a function of an encoding."""

        @functools.wraps(zero_cost)
        def measure_encoding(config: Config) -> Mapping[str, float]:
            return zero_cost(self.encoding(config))

        return measure_encoding

    def _as_list(self, values: Any, *, why: str) -> list[Any]:
        try:
            return list(values)
        except TypeError:
            raise NaxcliError(
                f"{self._where} are not a list of sequences", why=why, hint='write [(3, "relu"), (5, "gelu")]'
            ) from None

    def _row(self, config: Config) -> tuple[ConfigValue, ...]:
        return tuple(config[name] for name in self.names)


def _asked_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's parameters."""
    return set(inspect.signature(function).parameters)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
