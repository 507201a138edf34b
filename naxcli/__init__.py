"""naxcli: neural architecture search, from the command line and from Python (docs/python.md).

Space files import only `Space`, `Variant`, `Limits`, `load_space` and `space_from_trials` from here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from naxcli.commands.run import Run, open_run, run_search
    from naxcli.errors import NaxcliError
    from naxcli.search_space.contract import Space, Variant, load_space
    from naxcli.search_space.surrogate_benchmark import space_from_trials
    from naxcli.settings.limits import Limits

__version__ = "0.1.0"
__all__ = [
    "Limits",
    "NaxcliError",
    "Run",
    "Space",
    "Variant",
    "__version__",
    "load_space",
    "open_run",
    "run_search",
    "space_from_trials",
]

# Imported on first use, so that `naxcli --help` stays fast.
_HOMES = {
    "Limits": "naxcli.settings.limits",
    "NaxcliError": "naxcli.errors",
    "Run": "naxcli.commands.run",
    "Space": "naxcli.search_space.contract",
    "Variant": "naxcli.search_space.contract",
    "load_space": "naxcli.search_space.contract",
    "open_run": "naxcli.commands.run",
    "run_search": "naxcli.commands.run",
    "space_from_trials": "naxcli.search_space.surrogate_benchmark",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
