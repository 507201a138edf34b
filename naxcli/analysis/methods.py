"""The methods of importance by name."""

from __future__ import annotations

from collections.abc import Iterable

from naxcli.errors import NaxcliError

METHODS = ("lpi", "fanova", "ablation", "shapley")
# Whose definition of local importance.
LPI_DEFINITIONS = ("naxcli", "deepcave")


def check_methods(methods: Iterable[str], lpi: str = "naxcli") -> None:
    """Refuse a method, or a definition of LPI, that does not exist.

    Raises:
        NaxcliError: naming those that do.
    """
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise NaxcliError(f"there is no method {', '.join(unknown)}", hint=f"choose from {', '.join(METHODS)}")
    if lpi not in LPI_DEFINITIONS:
        raise NaxcliError(f"there is no LPI of kind {lpi!r}", hint=f"choose from {', '.join(LPI_DEFINITIONS)}")
