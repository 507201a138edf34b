"""One training step: the paper's loss and optimizer on the same network, as a timm script takes it against ours.

    python -m benchmarks.training_step [--width 0.25] [--batch-size 128] [--kernel-size 5] [--repeats 7] [--device cuda]
        [--kernels off]

The network is the reduced NEXcepTion for 32x32 images. Both use channels last, bfloat16 autocast on CUDA, cudnn.benchmark,
gradients set to None, timm's BinaryCrossEntropy rule, LAMB with clipping to norm 1; the baseline takes timm's Lamb with
whichever of its two implementations is faster here. Ours keeps freed host memory, as `train` does. Steps alternate
within one process, on one CPU thread by default; the measure is CPU time on a CPU, wall time on CUDA. The baseline asks
the device for nothing either.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import timm_baseline
from benchmarks.results import add_json_option, add_kernels_option, keep
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training.depthwise import speed_up_depthwise
from naxcli.training.host_memory import free_as_usual, keep_freed_memory
from naxcli.training.kernels.switch import switch_on
from naxcli.training.optimizer import build_optimizer
from naxcli.training.step import EagerStep, choose_step, holds_update

Step = Callable[[Tensor, Tensor], None]


def timm_step(network: nn.Module, recipe: Recipe, *, foreach: bool) -> Step:
    return timm_baseline.training_step(network, timm_baseline.lamb(network, recipe, foreach=foreach), recipe)


def our_step(
    network: nn.Module, recipe: Recipe, device: torch.device, images: Tensor, targets: Tensor, *, uses_kernels: bool
) -> Step:
    if device.type == "cpu":
        speed_up_depthwise(network)
    optimizer = build_optimizer(network, recipe, has_kernels=uses_kernels and switch_on(network, device))
    eager = EagerStep(network, recipe, device)
    gradient_step = choose_step(eager, images, targets, num_steps=10**6, optimizer=optimizer)

    def step(images: Tensor, targets: Tensor) -> None:
        gradient_step(images, targets)
        if not holds_update(gradient_step):
            optimizer.step()

    return step


def seconds(step: Step, images: Tensor, targets: Tensor, num_steps: int) -> float:
    """Return the time of one step, averaged over several."""
    is_cuda = images.device.type == "cuda"
    clock = time.perf_counter if is_cuda else time.process_time
    if is_cuda:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(num_steps):
        step(images, targets)
    if is_cuda:
        torch.cuda.synchronize()
    return (clock() - start) / num_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--kernel-size", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    add_kernels_option(parser)
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True
    device, recipe, space = torch.device(arguments.device), Recipe(), load_space("nexception")
    assert space.build is not None
    torch.manual_seed(0)
    config = {**space.reference["nexception"], "kernel_size": arguments.kernel_size}
    network = space.build(config, num_classes=100, in_channels=3, image_size=32, width=arguments.width)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    images = torch.randn(arguments.batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(arguments.batch_size, 100, device=device).pow(20)

    num_steps = 50 if device.type == "cuda" else 1
    candidates = [timm_step(copy.deepcopy(network), recipe, foreach=foreach) for foreach in (False, True)]
    for candidate in candidates:
        seconds(candidate, images, targets, num_steps)
    theirs = min(candidates, key=lambda candidate: seconds(candidate, images, targets, 2 * num_steps))
    uses_kernels = arguments.kernels != "off"
    ours = our_step(copy.deepcopy(network), recipe, device, images, targets, uses_kernels=uses_kernels)
    seconds(ours, images, targets, num_steps)
    times = []
    for _ in range(arguments.repeats):
        free_as_usual()
        baseline = seconds(theirs, images, targets, num_steps)
        keep_freed_memory()  # as `train` does
        ours(images, targets)
        times.append([baseline * 1e3, seconds(ours, images, targets, num_steps) * 1e3])

    print(
        f"reduced NEXcepTion, kernel {arguments.kernel_size}, width {arguments.width:g}, batch {arguments.batch_size}, "
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else f'cpu, {arguments.threads} thread(s)'}, "
        f"{arguments.repeats} alternating repeats, ms a step"
    )
    for label, column in (("timm", 0), ("naxcli", 1)):
        values = [row[column] for row in times]
        print(f"{label:8s} median {statistics.median(values):9.1f}   range {min(values):.1f} to {max(values):.1f}")
    ratios = [row[0] / row[1] for row in times]
    print(f"ratio    median {statistics.median(ratios):9.2f}   range {min(ratios):.2f} to {max(ratios):.2f}")
    keep(arguments, timm_ms=[row[0] for row in times], naxcli_ms=[row[1] for row in times], ratio=ratios)


if __name__ == "__main__":
    main()
