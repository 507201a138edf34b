"""Prior: what a user believes of good configurations, as a density over a space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.records.trial import ConfigValue
from naxcli.search_space.contract import Space, plain_config, to_configuration
from naxcli.search_space.domains import choices_of, describe_domain
from naxcli.settings.prior import CONFIDENCES, PriorSettings

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Vectors = npt.NDArray[np.float64]  # ConfigSpace's (num_configurations, num_hyperparameters), NaN where inactive
Values = npt.NDArray[np.float64]  # (num_configurations,)

# Near a reference: three quarters of the weight for its own choice, a fifth of the unit scale around its own number.
REFERENCE_SHARE = 0.75
REFERENCE_WIDTH = 0.2
# No belief is so strong that no result could speak against it.
MIN_FACTOR = 1e-3


class Prior:
    """A density over a space: the product of one factor per hyperparameter, each 1 on average and where it is inactive.

    Args:
        settings: as the user wrote them.
        space: whose references may be named.
        configuration_space: of the search.

    Raises:
        NaxcliError: naming the unknown reference, hyperparameter or choice, or the weights that are all zero.
    """

    def __init__(self, settings: PriorSettings, *, space: Space, configuration_space: ConfigurationSpace) -> None:
        self.beta = CONFIDENCES[settings.confidence]
        beliefs: dict[str, Mapping[str, float]] = {}
        if settings.reference is not None:
            beliefs.update(_around(_reference(settings.reference, space, configuration_space), configuration_space))
        for name, numbers in settings.hyperparameters.items():
            if name not in configuration_space:
                raise NaxcliError(
                    f"the prior names an unknown hyperparameter {name}",
                    why=f"the space has {', '.join(configuration_space)}",
                    hint=did_you_mean(name, configuration_space),
                )
            beliefs[name] = numbers
        self._factors = [
            (configuration_space.index_of[name], _Factor(name, configuration_space[name], numbers))
            for name, numbers in beliefs.items()
        ]

    def log_density(self, vectors: Vectors) -> Values:
        """Return the logarithm of the density relative to the uniform one, (num_vectors,)."""
        total = np.zeros(len(vectors))
        for column, factor in self._factors:
            values = vectors[:, column]
            total += np.where(np.isnan(values), 0.0, factor.logarithm(np.nan_to_num(values)))
        return total


class _Factor:
    """The belief in the values of one hyperparameter: a weight for each choice, or a normal density around a number."""

    def __init__(self, name: str, hyperparameter: Any, numbers: Mapping[str, float]) -> None:
        choices = _choices(hyperparameter)
        self._weights: Values | None = None
        if choices is None:
            self._centre, self._width = _place(name, hyperparameter, numbers)
            ends = ndtr((np.array([0.0, 1.0]) - self._centre) / self._width)
            self._average = self._width * math.sqrt(2 * math.pi) * float(ends[1] - ends[0])
            return
        unknown = sorted(set(numbers) - set(choices))
        if unknown:
            raise NaxcliError(
                f"the prior of {name} has a weight for {unknown[0]}, which is none of its choices",
                why=f"legal: {describe_domain(hyperparameter)}",
                hint=did_you_mean(unknown[0], choices),
            )
        weights = np.array([numbers.get(choice, 1.0) for choice in choices])
        if not weights.any():
            raise NaxcliError(
                f"the prior of {name} is zero for each of its choices",
                hint=f"give one of {', '.join(choices)} a weight above 0",
            )
        self._weights = weights / weights.mean()

    def logarithm(self, values: Values) -> Values:
        """Return the logarithm of the factor at ConfigSpace's vector elements."""
        if self._weights is None:
            exponents = -np.square((values - self._centre) / self._width) / 2
            return np.maximum(exponents - math.log(self._average), math.log(MIN_FACTOR))
        factors: Values = np.log(np.maximum(self._weights, MIN_FACTOR))[values.astype(np.intp)]
        return factors


def _choices(hyperparameter: Any) -> list[str] | None:
    """Return the choices as a prior writes them, true and false as TOML does; None of a number."""
    choices = choices_of(hyperparameter)
    return None if choices is None else [_text(value) for value in choices]


def _text(value: ConfigValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _place(name: str, hyperparameter: Any, numbers: Mapping[str, float]) -> tuple[float, float]:
    """Return centre and width on the unit scale, on which ConfigSpace's vectors are."""
    if set(numbers) != {"centre", "width"}:
        raise NaxcliError(
            f"the prior of {name} has {', '.join(numbers) or 'no numbers'}",
            why=f"{name} is a number, {describe_domain(hyperparameter)}: its prior has centre and width",
            hint=f"{name} = {{ centre = {hyperparameter.default_value}, width = {3 if hyperparameter.log else 1} }}",
        )
    centre, width = numbers["centre"], numbers["width"]
    low, high = float(hyperparameter.lower), float(hyperparameter.upper)
    if not low <= centre <= high:
        raise NaxcliError(
            f"the prior of {name} has its centre at {centre:g}", why=f"legal: {describe_domain(hyperparameter)}"
        )
    if width <= (1 if hyperparameter.log else 0):
        raise NaxcliError(
            f"the prior of {name} has the width {width:g}",
            why="of a logarithmic hyperparameter it is a factor above 1: 3 is from a third of the centre to three times it"
            if hyperparameter.log
            else "it is a standard deviation, above 0",
        )
    if hyperparameter.log:
        span = math.log(high / low)
        return math.log(centre / low) / span, math.log(width) / span
    return (centre - low) / (high - low), width / (high - low)


def _reference(name: str, space: Space, configuration_space: ConfigurationSpace) -> dict[str, ConfigValue]:
    if name not in space.reference:
        raise NaxcliError(
            f"the prior names a reference {name!r}, which space {space.name!r} has not",
            why=f"it has {', '.join(space.reference) or 'none'}",
            hint=did_you_mean(name, space.reference),
        )
    what = f"reference {name!r} of space {space.name!r}"
    return plain_config(to_configuration(configuration_space, space.reference[name], what=what))


def _around(
    config: Mapping[str, ConfigValue], configuration_space: ConfigurationSpace
) -> dict[str, Mapping[str, float]]:
    """Return the belief that good configurations are near one, hyperparameter by hyperparameter."""
    beliefs: dict[str, Mapping[str, float]] = {}
    for name, value in config.items():
        hyperparameter = configuration_space[name]
        choices = _choices(hyperparameter)
        if choices is not None:
            share = REFERENCE_SHARE / (1 - REFERENCE_SHARE)
            beliefs[name] = {_text(value): share * max(1, len(choices) - 1)}
        else:
            low, high = float(hyperparameter.lower), float(hyperparameter.upper)
            width = (high / low) ** REFERENCE_WIDTH if hyperparameter.log else REFERENCE_WIDTH * (high - low)
            beliefs[name] = {"centre": float(value), "width": width}
    return beliefs
