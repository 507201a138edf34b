"""PriorSettings: what a user believes of good configurations, as a file or a table of settings holds it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.settings.toml import read_toml

# Of each confidence, the number of results after which the prior itself multiplies the acquisition: with n results, its power beta/n.
CONFIDENCES = {"low": 3.0, "medium": 10.0, "high": 30.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSettings:
    """A prior as it is written; whether its names are those of a space, `naxcli.search_space.prior` checks.

    Args:
        confidence: How long it counts, one of `CONFIDENCES`.
        reference: Name of a reference configuration of the space, near which good configurations are believed to be.
        hyperparameters: Weights by choice, or `centre` and `width`, of each hyperparameter; it replaces what the reference says.
    """

    confidence: str = "medium"
    reference: str | None = None
    hyperparameters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.confidence not in CONFIDENCES:
            raise NaxcliError(f"the prior's confidence is {self.confidence!r}", why="it is low, medium or high")
        if self.reference is None and not self.hyperparameters:
            raise NaxcliError(
                "the prior says nothing", hint="give it a table hyperparameters, or reference = NAME of the space"
            )
        for name, numbers in self.hyperparameters.items():
            for key, number in numbers.items():
                if not math.isfinite(number) or (key != "centre" and number < 0):
                    raise NaxcliError(f"the prior of {name} has {key} = {number:g}", why="it is finite and at least 0")


def parse_prior(value: Any) -> PriorSettings:
    """Return the prior of a TOML file's path, or of the table that such a file holds.

    Raises:
        NaxcliError: Naming what it has and should not have.
    """
    table = read_toml(Path(value)) if isinstance(value, str | Path) else value
    if not isinstance(table, Mapping):
        raise NaxcliError(f"setting prior is {value!r}", why="it is the path of a TOML file, or the table in one")
    known = [item.name for item in fields(PriorSettings)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise NaxcliError(
            f"the prior has an unknown setting {unknown[0]}",
            why=f"it has {', '.join(known)}",
            hint=did_you_mean(
                unknown[0], known, otherwise=f"of a hyperparameter: [hyperparameters] and {unknown[0]} = ..."
            ),
        )
    hyperparameters = table.get("hyperparameters", {})
    if not isinstance(hyperparameters, Mapping):
        raise NaxcliError(f"the prior's hyperparameters are {hyperparameters!r}", why="they are a table")
    reference = table.get("reference")
    if not isinstance(reference, str | None):
        raise NaxcliError(f"the prior's reference is {reference!r}", why="it is the name of a reference configuration")
    return PriorSettings(
        confidence=str(table.get("confidence", "medium")),
        reference=reference,
        hyperparameters={name: _numbers(name, entry) for name, entry in _entries(hyperparameters)},
    )


def _entries(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each hyperparameter with its entry; a name with a point is a table in a table, as TOML reads it without quotes."""
    for name, entry in table.items():
        if isinstance(entry, Mapping) and entry and all(isinstance(inner, Mapping) for inner in entry.values()):
            yield from _entries(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry


def _numbers(name: str, entry: Any) -> dict[str, float]:
    is_table = isinstance(entry, Mapping) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in entry.values()
    )
    if not is_table:
        raise NaxcliError(
            f"the prior of {name} is {entry!r}",
            why="it is a table of numbers: of weights by choice, or of centre and width",
            hint="CHOICE = 3 in { }, with quotes around a choice that holds a point; or { centre = 1e-3, width = 3 }",
        )
    return {str(key): float(number) for key, number in entry.items()}
