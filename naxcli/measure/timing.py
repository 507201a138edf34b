"""measure_speed: latency and throughput of an exported network on this machine's CPU, in a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from naxcli.measure.devices import device_name
from naxcli.measure.stable_timing import Timing, time_until_stable

BATCH_SIZE = 8
MIN_SECONDS, MAX_SECONDS = 1.0, 5.0


class UnstableError(Exception):
    """Raised where the speed could not be measured; its text says why."""


def measure_speed(forward: Callable[[Tensor], Any], input_shape: tuple[int, ...], *, runtime: str) -> dict[str, Any]:
    """Return latency of one image and throughput of a batch, as medians with their spread and load, as plain data.

    A short measurement for the record of an export: forward passes are repeated for one second, and then until they
    agree, for five at most. `naxcli bench` takes longer, and measures on GPUs too.

    Args:
        forward: Function from images to outputs, on the CPU in float32.
        input_shape: Shape of one image, (channels, height, width).
        runtime: Name and version of what runs the network, such as `torch 2.9.0`.

    Raises:
        UnstableError: If the forward passes do not agree, or the machine is busy with other things.
    """
    latency, throughput = (_timing(forward, input_shape, batch_size) for batch_size in (1, BATCH_SIZE))
    return {
        "latency_ms": 1000 * latency.seconds,
        "latency_spread": latency.spread,
        "latency_repetitions": latency.num_repetitions,
        "latency_load": latency.load,
        "images_per_second": BATCH_SIZE / throughput.seconds,
        "throughput_spread": throughput.spread,
        "throughput_repetitions": throughput.num_repetitions,
        "throughput_load": throughput.load,
        "batch_size": BATCH_SIZE,
        "precision": "float32",
        "hardware": device_name(torch.device("cpu")),
        "runtime": runtime,
    }


def torch_runtime() -> str:
    return f"torch {torch.__version__}"


def _timing(forward: Callable[[Tensor], Any], input_shape: tuple[int, ...], batch_size: int) -> Timing:
    images = torch.randn(batch_size, *input_shape)
    with torch.inference_mode():
        timing = time_until_stable(lambda: forward(images), min_seconds=MIN_SECONDS, max_seconds=MAX_SECONDS)
    if timing.why_unstable:
        raise UnstableError(timing.why_unstable)
    return timing
