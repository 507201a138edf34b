"""Zero-cost metrics of a few configurations, measured on a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from naxcli.search_space.zero_cost import zero_cost_metrics
from naxcli.workers.evaluate import loaded_space

ZERO_COST = "zero_cost"
"""Key of a payload that asks for metrics, and of the list of them in its result."""


def measure_configs(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of the configurations that a payload holds under `ZERO_COST`.

    Args:
        payload: Also holds `space`, by which it is loaded, its `space_digest`, the `shape` of its networks, and `with_latency`.
    """
    space = loaded_space(payload["space"], payload["space_digest"])
    shape, with_latency = payload["shape"], payload["with_latency"]
    return {
        ZERO_COST: [
            zero_cost_metrics(space, config, **shape, with_latency=with_latency) for config in payload[ZERO_COST]
        ]
    }
