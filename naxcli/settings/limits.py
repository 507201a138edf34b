"""Limits: the sizes between which a network must lie, and how slow it may be, for a search to suggest it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

from naxcli.errors import NaxcliError
from naxcli.settings.units import format_count


class Bound(NamedTuple):
    """One end of the range of a quantity: `max_flops` is the upper one of `flops`."""

    name: str
    quantity: str
    is_upper: bool
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on a network: parameters, multiply-adds of one image forward, and latency in ms of one image on the search's device.

    `inference_params` and `inference_flops` are those of the network's form for inference, in which branches are one layer.
    Both ends of a quantity together are a band. Latency is measured by the trial itself, the others before it.

    Raises:
        NaxcliError: If a band is empty.
    """

    min_params: float | None = None
    max_params: float | None = None
    min_flops: float | None = None
    max_flops: float | None = None
    min_inference_params: float | None = None
    max_inference_params: float | None = None
    min_inference_flops: float | None = None
    max_inference_flops: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        ends = {(bound.quantity, bound.is_upper): bound for bound in self.bounds()}
        for bound in ends.values():
            upper = ends.get((bound.quantity, True))
            if not bound.is_upper and upper is not None and bound.value > upper.value:
                raise NaxcliError(
                    f"no network keeps {bound.name} = {format_count(bound.value)} and {upper.name} = {format_count(upper.value)}",
                    why="the lower end of a band is above its upper end",
                )

    def __bool__(self) -> bool:
        return any(True for _ in self.bounds())

    def bounds(self) -> Iterator[Bound]:
        """Yield the limits that are set."""
        for item in fields(self):
            end, _, quantity = item.name.partition("_")
            value = getattr(self, item.name)
            if value is not None:
                yield Bound(name=item.name, quantity=quantity, is_upper=end == "max", value=value)

    def before_training(self) -> Iterator[Bound]:
        """Yield the limits on what is counted, without a trial."""
        return (bound for bound in self.bounds() if bound.quantity != "latency_ms")
