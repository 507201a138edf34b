"""Neighbours of a configuration: one hyperparameter changed, its children switched on or off as the conditions say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Vector = npt.NDArray[np.float64]  # ConfigSpace's (num_hyperparameters,), NaN where inactive

DIFFERENT_VALUE_DRAWS = 32


def one_exchange(configuration_space: ConfigurationSpace, vector: Vector, rng: np.random.Generator) -> list[Vector]:
    """Return the legal neighbours: all other categories, adjacent ordinals, four nearby numbers per number.

    ConfigSpace gives hyperparameters that become active their default value.
    """
    from ConfigSpace import Configuration
    from ConfigSpace.util import get_one_exchange_neighbourhood

    sizes = [hyperparameter.size for hyperparameter in configuration_space.values()]
    if not any(size > 1 and np.isfinite(element) for size, element in zip(sizes, vector, strict=True)):
        return []
    configuration = Configuration(configuration_space, vector=vector.copy())
    neighbours = get_one_exchange_neighbourhood(configuration, seed=int(rng.integers(2**31)))
    return [neighbour.get_array() for neighbour in neighbours]


def mutate(configuration_space: ConfigurationSpace, vector: Vector, rng: np.random.Generator) -> Vector | None:
    """Return the vector with one active hyperparameter drawn anew; those that become active are drawn as well.

    Returns None where the result would be forbidden.
    """
    from ConfigSpace import Configuration
    from ConfigSpace.exceptions import ForbiddenValueError
    from ConfigSpace.util import change_hp_value

    random_state = np.random.RandomState(int(rng.integers(2**31)))  # ConfigSpace samples with the older interface
    names = list(configuration_space)
    variable = [index for index, name in enumerate(names) if configuration_space[name].size > 1]
    was_active = np.isfinite(vector)
    changed = int(rng.choice([index for index in variable if was_active[index]]))
    for index in [changed, *(index for index in variable if not was_active[index])]:
        if index != changed and np.isnan(vector[index]):
            continue
        drawn = configuration_space[names[index]].sample_vector(size=DIFFERENT_VALUE_DRAWS, seed=random_state)
        value = next((value for value in drawn if index != changed or value != vector[index]), vector[index])
        vector = change_hp_value(configuration_space, vector.copy(), names[index], value, index)
    try:
        Configuration(configuration_space, vector=vector).check_valid_configuration()
    except ForbiddenValueError:
        return None
    return vector
