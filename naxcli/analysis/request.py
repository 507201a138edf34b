"""What is wanted of the importance at each fidelity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from naxcli.analysis.encoding import Encoding, Floats
from naxcli.analysis.ped_anova import Quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted of each fidelity; see `summarise`.

    `incumbent` is that of the highest fidelity; DeepCAVE's LPI takes `lpi_incumbent` where there is one.
    """

    encoding: Encoding
    groups: Mapping[str, tuple[str, ...]]
    default: Floats
    incumbent: Floats
    methods: Sequence[str]
    lpi: str
    num_draws: int
    seed: int
    is_exact: bool
    quantiles: Quantiles
    merged: frozenset[str] = frozenset()
    lpi_incumbent: Floats | None = None
