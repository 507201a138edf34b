"""Which values a hyperparameter may have, as plain values and in words."""

from __future__ import annotations

from typing import Any

from naxcli.records.trial import ConfigValue


def describe_domain(hyperparameter: Any) -> str:
    """Return the legal values of a ConfigSpace hyperparameter in words."""
    for attribute in ("choices", "sequence"):
        if hasattr(hyperparameter, attribute):
            return ", ".join(str(value) for value in getattr(hyperparameter, attribute))
    if hasattr(hyperparameter, "lower"):
        return f"{hyperparameter.lower} to {hyperparameter.upper}" + (" (log)" if hyperparameter.log else "")
    return str(hyperparameter.value)


def choices_of(hyperparameter: Any) -> list[ConfigValue] | None:
    """Return the values that a ConfigSpace hyperparameter chooses from as plain values, one of a constant; None of a number."""
    if hasattr(hyperparameter, "lower"):
        return None
    names = ("choices", "sequence")
    values = next((getattr(hyperparameter, name) for name in names if hasattr(hyperparameter, name)), None)
    values = [hyperparameter.value] if values is None else values
    return [value.item() if hasattr(value, "item") else value for value in values]
