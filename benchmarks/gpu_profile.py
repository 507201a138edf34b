"""Where the time of a training goes: one training under torch's profiler, its kernels by kind; or a device's ceilings.

    python -m benchmarks.gpu_profile [--width 1] [--batch-size 256] [--images 20000] [--device cuda] [--ceilings]

The training is `Training` of the library with the paper's recipe on the device, augmentation included, after its step was
chosen. Prints wall time a step without the profiler, the device's busy time a step, launches a step, and the time of the
kernels by kind and by name. --ceilings measures a large copy and a square matrix product instead.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import timm_baseline
from benchmarks.results import add_json_option, keep
from naxcli.measure.devices import device_name
from naxcli.measure.roofline import measure_ceilings
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training.checkpoint import CheckpointWriter
from naxcli.training.loop import Training, TrainingRequest, seed_everything

NUM_STEPS = 20
# Of a kernel's or operator's name, in lower case; the first that fits.
KINDS = (
    ("copy and cast", ("memcpy", "memset", "copy", "_to_copy", "cast")),
    ("optimizer", ("multi_tensor", "foreach", "lamb", "norm_kernel", "lpnorm")),
    ("normalization", ("batch_norm", "batchnorm", "layer_norm", "bn_fw", "bn_bw", "welford")),
    ("depthwise convolution", ("depthwise", "conv_depthwise", "dgrad2d_c1_k1", "grouped")),
    ("matrix product", ("gemm", "cutlass", "xmma", "nvjet", "sm90_", "addmm", "matmul", "cublas")),
    ("convolution", ("conv", "wgrad", "dgrad", "fprop", "nchwtonhwc", "nhwctonchw")),
    ("pooling", ("pool",)),
    ("reduction", ("reduce", "sum", "mean")),
    ("gather, scatter and index", ("gather", "scatter", "index", "flip")),
    ("elementwise", ("elementwise", "vectorized", "gelu", "mul", "add", "where", "sigmoid", "lerp")),
)


def kind_of(name: str) -> str:
    lowered = name.lower()
    return next((kind for kind, parts in KINDS if any(part in lowered for part in parts)), "other")


def make_training(arguments: argparse.Namespace, device: torch.device) -> Training:
    space = load_space("nexception")
    assert space.build is not None
    seed_everything(0)
    dataset = timm_baseline.synthetic_dataset(arguments.images)
    network = space.build(
        space.reference["nexception"], num_classes=100, in_channels=3, image_size=32, width=arguments.width
    )
    recipe = Recipe(batch_size=arguments.batch_size)
    request = TrainingRequest(recipe=recipe, epochs=100.0, seed=0, device=device)
    return Training(network, dataset, request, writer=CheckpointWriter())


def kernel_times(found: profile, *, is_cuda: bool) -> dict[str, tuple[float, int]]:
    """Return milliseconds and number of calls by name: of kernels on CUDA, of operators without their parts on a CPU."""
    times: dict[str, tuple[float, int]] = {}
    for event in found.key_averages():
        if is_cuda and event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        microseconds = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        times[event.key] = (microseconds / 1e3, event.count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ceilings", action="store_true")
    add_json_option(parser)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    is_cuda = device.type == "cuda"
    if arguments.ceilings:
        ceilings = measure_ceilings(device, torch.bfloat16 if is_cuda else torch.float32)
        copied, multiplied = ceilings.bytes_per_second, ceilings.flops_per_second
        print(f"{device_name(device)}: copies {copied / 1e12:.2f} TB/s, multiplies {multiplied / 1e12:.0f} TFLOP/s")
        keep(arguments, device=device_name(device), bytes_per_second=copied, flops_per_second=multiplied)
        return

    training = make_training(arguments, device)

    def take_steps(count: int) -> None:
        for _ in range(count):
            training.take_step()
        if is_cuda:
            torch.cuda.synchronize(device)

    take_steps(3)
    start = time.perf_counter()
    take_steps(NUM_STEPS)
    wall = (time.perf_counter() - start) / NUM_STEPS * 1e3
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as found:
        take_steps(NUM_STEPS)
    times = kernel_times(found, is_cuda=is_cuda)
    report(times, wall, arguments, device)


def report(
    times: dict[str, tuple[float, int]], wall: float, arguments: argparse.Namespace, device: torch.device
) -> None:
    total = sum(milliseconds for milliseconds, _ in times.values()) / NUM_STEPS
    launches = sum(count for _, count in times.values()) / NUM_STEPS
    kinds: dict[str, float] = defaultdict(float)
    for name, (milliseconds, _) in times.items():
        kinds[kind_of(name)] += milliseconds / NUM_STEPS
    print(
        f"reduced NEXcepTion, width {arguments.width:g}, batch {arguments.batch_size}, {device_name(device)}, "
        f"{NUM_STEPS} steps\n{wall:.2f} ms a step, {total:.2f} ms in {launches:.0f} "
        f"{'kernels' if device.type == 'cuda' else 'operators'}"
    )
    for kind, milliseconds in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{kind:28s} {milliseconds:8.3f} ms  {milliseconds / total:6.1%}")
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:25]
    for name, (milliseconds, count) in longest:
        print(f"  {milliseconds / NUM_STEPS:8.3f} ms  {count / NUM_STEPS:6.1f} calls  {name[:110]}")
    rows: list[Any] = [[name, milliseconds / NUM_STEPS, count / NUM_STEPS] for name, (milliseconds, count) in longest]
    busy = total if device.type == "cuda" else None
    keep(arguments, wall_ms_a_step=wall, device_ms_a_step=busy, launches_a_step=launches, kinds_ms=kinds, longest=rows)


if __name__ == "__main__":
    main()
