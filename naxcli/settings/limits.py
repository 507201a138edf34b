"""Limits: the largest network, or the slowest, that a search may suggest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper limits on a network: parameters, multiply-adds of one image forward, and latency in ms of one image on the search's device."""

    max_params: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.max_params, self.max_flops, self.max_latency_ms))
