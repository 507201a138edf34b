"""What a trial costs before its first step, and what building the next network beside a training would save.

    python -m benchmarks.training_preparation [--width 1] [--batch-size 256] [--device cuda]

Measures, for the reduced NEXcepTion in a warm process: counting parameters and multiply-adds, building with
initialisation, moving to the device, and the steps of one epoch of CIFAR-100 (45,000 images). Then, alternating, a
network is built before a number of steps, and in another thread while they run, as a worker could do for the trial to
come; the difference is what that saves. Wall time, on all cores that torch takes.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable

import torch

from benchmarks.results import add_json_option, add_kernels_option, keep
from naxcli.search_space.contract import load_space
from naxcli.search_space.sizes import measure_config
from naxcli.settings.recipe import Recipe
from naxcli.training.depthwise import speed_up_depthwise
from naxcli.training.host_memory import keep_freed_memory
from naxcli.training.kernels.switch import switch_on
from naxcli.training.optimizer import build_optimizer
from naxcli.training.step import EagerStep, choose_step, holds_update

TRAIN_IMAGES = 45_000


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def saved_ms(build: Callable[[], object], train: Callable[[], None], device: torch.device) -> float:
    """Return what building in another thread during a training takes less than building before it."""
    one_after_the_other = seconds_of(lambda: (build(), train()), device)

    def side_by_side() -> None:
        thread = threading.Thread(target=build)
        thread.start()
        train()
        thread.join()

    return (one_after_the_other - seconds_of(side_by_side, device)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, help="of one training; enough to outlast a build by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    add_kernels_option(parser)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device, recipe, space = torch.device(arguments.device), Recipe(), load_space("nexception")
    assert space.build is not None
    config, sizes = space.reference["nexception"], {"num_classes": 100, "in_channels": 3, "image_size": 32}
    torch.backends.cudnn.benchmark = True
    keep_freed_memory()

    def build() -> torch.nn.Module:
        return space.build(config, **sizes, width=arguments.width)

    network = build().to(device).to(memory_format=torch.channels_last).train()
    if device.type == "cpu":
        speed_up_depthwise(network)
    has_kernels = arguments.kernels != "off" and switch_on(network, device)
    optimizer = build_optimizer(network, recipe, has_kernels=has_kernels)
    images = torch.randn(arguments.batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(arguments.batch_size, 100, device=device).pow(20)
    eager = EagerStep(network, recipe, device)
    gradient_step = choose_step(eager, images, targets, num_steps=10**6, optimizer=optimizer)

    def train(num_steps: int) -> None:
        for _ in range(num_steps):
            gradient_step(images, targets)
            if not holds_update(gradient_step):
                optimizer.step()

    train(1)
    times = {
        "count parameters and multiply-adds": lambda: measure_config(space, config, width=arguments.width, **sizes),
        "build and initialise": build,
        "move to the device": lambda: build().to(device),
        "step": lambda: train(1),
    }
    medians = {}
    print(
        f"reduced NEXcepTion, width {arguments.width:g}, batch {arguments.batch_size}, {arguments.repeats} repeats, "
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else f'cpu, {torch.get_num_threads()} thread(s)'}, ms"
    )
    for name, work in times.items():
        work()
        values = sorted(seconds_of(work, device) * 1e3 for _ in range(arguments.repeats))
        medians[name] = statistics.median(values)
        if name == "move to the device":
            medians[name] -= medians["build and initialise"]
        print(f"{name:36s} median {medians[name]:9.1f}   range {values[0]:.1f} to {values[-1]:.1f}")
    epoch = medians["step"] * (TRAIN_IMAGES // arguments.batch_size)
    built = medians["build and initialise"]
    print(f"{'epoch of 45,000 images':36s}        {epoch:9.0f}   building is {built / epoch:.2%} of it")

    num_steps = arguments.steps or max(3, round(2 * built / medians["step"]))
    savings = [saved_ms(build, lambda: train(num_steps), device) for _ in range(arguments.repeats)]
    savings.sort()
    print(
        f"{f'saved by building beside {num_steps} steps':36s} median {statistics.median(savings):9.1f}   range "
        f"{savings[0]:.1f} to {savings[-1]:.1f}, {statistics.median(savings) / epoch:.2%} of a trial of one epoch"
    )
    keep(arguments, median_ms=medians, epoch_ms=epoch, saved_ms=savings)


if __name__ == "__main__":
    main()
