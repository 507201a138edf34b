"""The methods of importance by name."""

from __future__ import annotations

from collections.abc import Iterable

from naxcli.errors import NaxcliError

METHODS = ("lpi", "fanova", "ablation", "shapley", "ped_anova", "tunability")
# Whose definition of local importance.
LPI_DEFINITIONS = ("naxcli", "deepcave")


def check_quantiles(target: float, region: float) -> None:
    """Refuse shares of trials of which the first is no part of the second.

    Raises:
        NaxcliError: unless 0 < target < region <= 1.
    """
    if not 0 < target < region <= 1:
        raise NaxcliError(
            f"the best {100 * target:.3g} % of the trials are no part of the best {100 * region:.3g} %",
            hint="two shares of the trials, the smaller first, such as the best 10 % of the best 50 %",
        )


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
