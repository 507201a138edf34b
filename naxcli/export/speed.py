"""measure_speed: latency and throughput of an exported network on this machine's CPU, in a few seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from naxcli.devices import device_name

BATCH_SIZE = 8
SECONDS_PER_BATCH_SIZE = 1.0
MIN_REPETITIONS, MAX_REPETITIONS = 3, 100


def measure_speed(forward: Callable[[Tensor], Any], input_shape: tuple[int, ...], *, runtime: str) -> dict[str, Any]:
    """Return latency of one image and throughput of a batch, as medians after a pass to warm up, as plain data.

    A short look, to lie beside an export: passes are repeated for a second, three times at least. `naxcli bench` measures
    on GPUs, and longer.

    Args:
        forward: images -> outputs, on the CPU in float32.
        input_shape: of one image, (channels, height, width).
        runtime: what runs the network, such as `torch 2.9.0`.
    """
    seconds, num_repetitions = {}, {}
    with torch.inference_mode():
        for batch_size in (1, BATCH_SIZE):
            images = torch.randn(batch_size, *input_shape)
            times = _times(forward, images)
            seconds[batch_size], num_repetitions[batch_size] = statistics.median(times), len(times)
    return {
        "latency_ms": 1000 * seconds[1],
        "latency_repetitions": num_repetitions[1],
        "images_per_second": BATCH_SIZE / seconds[BATCH_SIZE],
        "throughput_repetitions": num_repetitions[BATCH_SIZE],
        "batch_size": BATCH_SIZE,
        "precision": "float32",
        "hardware": device_name(torch.device("cpu")),
        "runtime": runtime,
    }


def torch_runtime() -> str:
    return f"torch {torch.__version__}"


def _times(forward: Callable[[Tensor], Any], images: Tensor) -> list[float]:
    forward(images)
    times: list[float] = []
    while len(times) < MIN_REPETITIONS or (sum(times) < SECONDS_PER_BATCH_SIZE and len(times) < MAX_REPETITIONS):
        started = time.perf_counter()
        forward(images)
        times.append(time.perf_counter() - started)
    return times
