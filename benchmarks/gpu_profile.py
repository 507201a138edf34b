"""Where the time of a training goes: one training under torch's profiler, its kernels by kind; or a device's ceilings.

    python -m benchmarks.gpu_profile [--width 1] [--batch-size 256] [--images 32768] [--device cuda] [--ceilings]

The training is `Training` of the library with the paper's recipe on the device, after its step was chosen. Its steps are
profiled over whole chunks of images that are augmented together, at least --min-steps, so that augmentation has its share. Prints
wall time a step without the profiler, the device's busy time a step and what it idles, which add up to the wall time, launches
a step, and the time of the kernels by kind and by name. --ceilings measures a large copy and a square matrix product instead.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import timm_baseline
from benchmarks.results import add_json_option, add_kernels_option, keep
from naxcli.data.augment import TrainingBatches
from naxcli.measure.devices import device_name
from naxcli.measure.roofline import measure_ceilings
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training.checkpoint import CheckpointWriter
from naxcli.training.loop import Training, seed_everything
from naxcli.training.request import TrainingRequest

NUM_VALIDATION = 100
# Of a kernel's or operator's name, in lower case; the first that fits.
KINDS = (
    ("copy and cast", ("memcpy", "memset", "copy", "_to_copy", "cast")),
    (
        "optimizer",
        (
            "multi_tensor",
            "foreach",
            "lamb",
            "norm_kernel",
            "lpnorm",
            "_square_kernel",
            "_moment_kernel",
            "_apply_kernel",
        ),
    ),
    ("normalization", ("batch_norm", "batchnorm", "layer_norm", "bn_fw", "bn_bw", "welford", "_combine_kernel")),
    ("block end", ("_scaled_sum_kernel", "_gradients_kernel")),
    (
        "depthwise convolution",
        (
            "_convolve_kernel",
            "_data_gradient_kernel",
            "_weight_gradient_kernel",
            "depthwise",
            "conv_depthwise",
            "dgrad2d_c1_k1",
            "grouped",
        ),
    ),
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


def make_training(arguments: argparse.Namespace, device: torch.device) -> tuple[Training, int]:
    """Return the training, and the number of steps to profile: those of whole chunks of images."""
    space = load_space("nexception")
    assert space.build is not None
    seed_everything(0)
    dataset = timm_baseline.synthetic_dataset(arguments.images + NUM_VALIDATION, num_validation=NUM_VALIDATION)
    network = space.build(
        space.reference["nexception"], num_classes=100, in_channels=3, image_size=32, width=arguments.width
    )
    recipe = Recipe(batch_size=arguments.batch_size)
    uses_kernels = arguments.kernels != "off"
    request = TrainingRequest(recipe=recipe, epochs=100.0, seed=0, device=device, uses_kernels=uses_kernels)
    chunk = TrainingBatches(dataset, recipe, seed=0, device=device).steps_per_chunk
    num_steps = chunk * math.ceil(arguments.min_steps / chunk)
    return Training(network, dataset, request, writer=CheckpointWriter()), num_steps


def kernel_times(found: profile, *, is_cuda: bool) -> dict[str, tuple[float, int]]:
    """Return milliseconds and number of calls by name: of kernels on CUDA, of operators without their parts on a CPU.

    Annotations, such as the optimizer's own of its step, span kernels that are counted already.
    """
    times: dict[str, tuple[float, int]] = {}
    for event in found.key_averages():
        if event.is_user_annotation or (is_cuda and event.device_type != torch.autograd.DeviceType.CUDA):
            continue
        microseconds = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        milliseconds, count = times.get(event.key, (0.0, 0))
        times[event.key] = (milliseconds + microseconds / 1e3, count + event.count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=32_768, help="of an epoch: two chunks of CUDA's")
    parser.add_argument("--min-steps", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ceilings", action="store_true")
    add_kernels_option(parser)
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

    training, num_steps = make_training(arguments, device)

    def take_steps(count: int) -> None:
        for _ in range(count):
            training.take_step()
        if is_cuda:
            torch.cuda.synchronize(device)

    take_steps(3)
    start = time.perf_counter()
    take_steps(num_steps)
    wall = (time.perf_counter() - start) / num_steps * 1e3
    # The kernels alone on CUDA: thousands of operators a step would take longer to sort than to run.
    with profile(activities=[ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU]) as found:
        take_steps(num_steps)
    times = kernel_times(found, is_cuda=is_cuda)
    report(times, wall, num_steps, arguments, device)


def report(
    times: dict[str, tuple[float, int]],
    wall: float,
    num_steps: int,
    arguments: argparse.Namespace,
    device: torch.device,
) -> None:
    total = sum(milliseconds for milliseconds, _ in times.values()) / num_steps
    launches = sum(count for _, count in times.values()) / num_steps
    kinds: dict[str, float] = defaultdict(float)
    for name, (milliseconds, _) in times.items():
        kinds[kind_of(name)] += milliseconds / num_steps
    print(
        f"reduced NEXcepTion, width {arguments.width:g}, batch {arguments.batch_size}, {device_name(device)}, "
        f"{num_steps} steps\n{wall:.2f} ms a step, {total:.2f} ms in {launches:.0f} "
        f"{'kernels' if device.type == 'cuda' else 'operators'}"
    )
    idle = wall - total if device.type == "cuda" else None
    if idle is not None:
        print(f"{'idle':28s} {idle:8.3f} ms")
    for kind, milliseconds in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"{kind:28s} {milliseconds:8.3f} ms  {milliseconds / total:6.1%}")
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:25]
    for name, (milliseconds, count) in longest:
        print(f"  {milliseconds / num_steps:8.3f} ms  {count / num_steps:6.1f} calls  {name[:110]}")
    rows: list[Any] = [[name, milliseconds / num_steps, count / num_steps] for name, (milliseconds, count) in longest]
    busy = total if device.type == "cuda" else None
    keep(
        arguments,
        num_steps=num_steps,
        wall_ms_a_step=wall,
        device_ms_a_step=busy,
        idle_ms_a_step=idle,
        launches_a_step=launches,
        kinds_ms=kinds,
        longest=rows,
    )


if __name__ == "__main__":
    main()
