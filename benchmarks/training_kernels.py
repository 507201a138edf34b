"""Depthwise convolutions in every way there is: {cuDNN on NHWC, native on NCHW, Triton} x kernel x width x direction.

    python -m benchmarks.training_kernels [--device cuda] [--batch-size 256] [--kernel-sizes 3 5 7 9] [--widths 0.25 1]

The maps are those of the reduced NEXcepTion for 32x32 images, with channels last, as they lie in a training: the native way's times
include bringing them to NCHW and back. Times are of the device alone, the least of several rounds in turn, as a training chooses by; on
a CPU, where there is no Triton way, of the process. Prints a row for each shape and direction, and the sums over the rows of a width.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.results import add_json_option, keep
from naxcli.measure.devices import device_name
from naxcli.training.kernels.choice import milliseconds
from naxcli.training.kernels.convolution import (
    Geometry,
    data_gradient_ways,
    forward_ways,
    weight_gradient_ways,
)

# Channels at width 1, and side of the map, of the bottleneck network's separable convolutions; the last two have kernel 3 always.
MAPS = ((96, 16), (512, 16), (512, 8), (1536, 8), (1024, 8), (1024, 4), (1536, 4))


def cpu_milliseconds(ways: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    times = {}
    for name, way in ways.items():
        way()
        start = time.process_time()
        way()
        times[name] = (time.process_time() - start) * 1e3
    return times


def measure(shape: tuple[int, int, int, int], size: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Return milliseconds by direction and way."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    images = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, upstream = torch.randn(shape[1], 1, size, size, device=device), torch.randn_like(images)
    geometry = Geometry(stride=1, padding=size // 2, dtype=dtype)
    directions = {
        "forward": forward_ways(images, weight, geometry),
        "data gradient": data_gradient_ways(upstream, weight, images, geometry),
        "weight gradient": weight_gradient_ways(images, upstream, weight, geometry),
    }
    if device.type == "cuda":
        return {direction: milliseconds(ways) for direction, ways in directions.items()}
    return {
        direction: cpu_milliseconds({name: way for name, way in ways.items() if name != "triton"})
        for direction, ways in directions.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--kernel-sizes", type=int, nargs="+", default=[3, 5, 7, 9])
    parser.add_argument("--widths", type=float, nargs="+", default=[0.25, 1.0])
    add_json_option(parser)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.backends.cudnn.benchmark = True
    print(f"{device_name(device)}, batch {arguments.batch_size}, milliseconds")
    rows = []
    for width in arguments.widths:
        sums: dict[str, float] = defaultdict(float)
        for size in arguments.kernel_sizes:
            for channels, side in MAPS:
                shape = (arguments.batch_size, max(8, round(channels * width)), side, side)
                for direction, times in measure(shape, size, device).items():
                    fastest = min(times, key=lambda name: times[name])
                    rows.append({"width": width, "size": size, "shape": shape, "direction": direction, **times})
                    listed = "  ".join(f"{name} {value:8.4f}" for name, value in times.items())
                    print(
                        f"k {size}  {'x'.join(map(str, shape)):>16s}  {direction:16s} {listed}  {fastest}", flush=True
                    )
                    for name, value in {**times, "fastest": times[fastest]}.items():
                        sums[name] += value
        print(f"width {width:g}: " + "  ".join(f"{name} {value:.3f}" for name, value in sums.items()))
    keep(arguments, device=device_name(device), rows=rows)


if __name__ == "__main__":
    main()
