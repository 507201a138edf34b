"""naxcli: a command-line runner for neural architecture search. Space files import only `Space`, `Variant` and `Limits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from naxcli.search_space.contract import Space, Variant
    from naxcli.settings.limits import Limits

__version__ = "0.1.0"
__all__ = ["Limits", "Space", "Variant", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `naxcli --help` stays fast.
    if name in ("Limits", "Space", "Variant"):
        from naxcli.search_space import contract as space

        return getattr(space, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
