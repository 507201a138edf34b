"""Names and values that settings had in earlier versions, so that their runs, files and checkpoints still work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {"data_resident": "data_in_memory", "accumulate": "grad_accum_steps"}
_VALUES = {("schedule", "trunk"): "warmup_stable_decay", ("rung_schedule", "trunk"): "warmup_stable_decay"}


def with_present_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, nested or with dotted names, under the names and values of this version."""
    present: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            present[name] = with_present_names(value)
        else:
            last = name.rpartition(".")[2]
            is_former = isinstance(value, str) and (last, value) in _VALUES
            present[present_name(name)] = _VALUES[last, value] if is_former else value
    return present


def present_name(name: str) -> str:
    """Return the name that a setting has in this version."""
    return _NAMES.get(name, name)
