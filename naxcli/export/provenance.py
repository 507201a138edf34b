"""Provenance in words, for the headers of exported files and for model cards. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from naxcli.export.request import ExportRequest


def network_title(request: ExportRequest) -> str:
    """Return what the network is, such as `variant T of a configuration of the search space nexception`."""
    return f"variant {request.variant} of a configuration of the search space {request.space.name}"


def network_facts(
    request: ExportRequest,
    *,
    num_params: int,
    macs: int,
    inference_counts: tuple[int, int] | None = None,
    speed: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return what a reader wants to know about the network, name -> text, provenance last."""
    channels, height, width = request.input_shape
    facts = {
        "paper": request.space.paper,
        "size": (
            f"{num_params:,} parameters and {macs:,} multiply-adds for one {channels} x {height} x {width} image, "
            f"width {request.width:g}"
        ),
        "size for inference": "" if inference_counts is None else _size_for_inference(*inference_counts),
        "speed": "" if speed is None else describe_speed(speed),
        "classes": str(request.num_classes),
        "weights": "trained" if request.weights is not None else "random: this network is not trained",
    }
    for name, value in request.provenance.items():
        facts[str(name).replace("_", " ")] = _in_words(value)
    return {name: text for name, text in facts.items() if text}


def _size_for_inference(num_params: int, macs: int) -> str:
    return f"{num_params:,} parameters and {macs:,} multiply-adds, with the branches of each block as one layer"


def describe_speed(speed: Mapping[str, Any]) -> str:
    """Return what `measure_speed` found, in words."""
    return (
        f"{speed['latency_ms']:.3g} ms for one image (IQR {speed['latency_spread']:.0%}), "
        f"{speed['images_per_second']:.3g} images/s in batches of {speed['batch_size']} (IQR {speed['throughput_spread']:.0%}), "
        f"{speed['precision']}, by {speed['runtime']} on {speed['hardware']}"
    )


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(item) for item in value)
    # A line break would end the list that the text stands in.
    return "" if value is None else " ".join(str(value).split())
