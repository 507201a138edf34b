"""Hyperparameters named `recipe.<setting>`, by which a configuration of a space of networks says how it is trained itself."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError, did_you_mean
from naxcli.search_space.domains import choices_of
from naxcli.settings.recipe import CHOICE_PREFIX, Recipe

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

# Settings that no configuration chooses, and why.
FIXED_SETTINGS = {
    "schedule": "a search over several fidelities has a schedule of its own, from which a checkpoint goes on at the next rung",
    "precision": "it says how a machine computes, and is the same for all trials",
    "channels_last": "it says how a machine computes, and is the same for all trials",
}
CHOOSABLE_SETTINGS = tuple(field.name for field in fields(Recipe) if field.name not in FIXED_SETTINGS)


def check_recipe_choices(configuration_space: ConfigurationSpace, *, space_name: str) -> None:
    """Check the choices of the recipe that a space has: their names, and their values by the recipe's own rules.

    Raises:
        NaxcliError: naming the choice, with those that are possible.
    """
    for name in _names(configuration_space):
        setting = name.removeprefix(CHOICE_PREFIX)
        if setting not in CHOOSABLE_SETTINGS:
            run_wide = "the recipe has no such setting; data, validation, width and epochs are those of the whole run"
            meant = did_you_mean(name, [CHOICE_PREFIX + known for known in CHOOSABLE_SETTINGS])
            raise NaxcliError(
                f"hyperparameter {name!r} of space {space_name!r} cannot be a choice of the recipe",
                why=FIXED_SETTINGS.get(setting, run_wide),
                hint=f"{meant} The choices are {', '.join(CHOOSABLE_SETTINGS)}".lstrip(),
            )
    require_legal_choices(configuration_space, Recipe(min_learning_rate=0.0), space_name=space_name)


def require_legal_choices(configuration_space: ConfigurationSpace, recipe: Recipe, *, space_name: str) -> None:
    """Check that a run's recipe stays a legal one whatever a configuration chooses.

    Raises:
        NaxcliError: naming the choice that it refuses.
    """
    choices = [(name, value) for name in _names(configuration_space) for value in _extremes(configuration_space[name])]
    _require_legal(tuple(choices), recipe, space_name)


@functools.lru_cache(typed=True)  # a search reads the configurations of its space several times
def _require_legal(choices: tuple[tuple[str, Any], ...], recipe: Recipe, space_name: str) -> None:
    # No rule of the recipe relates more than two settings.
    for pair in itertools.combinations_with_replacement(choices, 2):
        if pair[0] != pair[1] and pair[0][0] == pair[1][0]:
            continue
        try:
            recipe.with_choices(dict(pair))
        except NaxcliError as error:
            chosen = " and ".join(dict.fromkeys(f"{name} = {value!r}" for name, value in pair))
            raise NaxcliError(
                f"{chosen} is a choice of space {space_name!r}, and no recipe", why=f"{error.what}: {error.why}"
            ) from error


def settings_always_chosen(configuration_space: ConfigurationSpace) -> tuple[str, ...]:
    """Return the settings, as `--set` names them, that every configuration chooses, so that the run's own never count."""
    return tuple(name for name in _names(configuration_space) if not configuration_space.parents_of[name])


def _names(configuration_space: Mapping[str, Any]) -> list[str]:
    return [name for name in configuration_space if name.startswith(CHOICE_PREFIX)]


def _extremes(hyperparameter: Any) -> Sequence[Any]:
    """Return all values of a hyperparameter, or the ends of its range."""
    choices = choices_of(hyperparameter)
    if choices is not None:
        return choices
    ends = (hyperparameter.lower, hyperparameter.upper)
    return [end.item() if hasattr(end, "item") else end for end in ends]
