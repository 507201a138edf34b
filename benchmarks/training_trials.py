"""Whole trials: a timm script per trial against a warm worker: fixed cost, trials an hour at 1 and 10 epochs, memory.

    python -m benchmarks.training_trials [--images 480] [--width 0.125] [--batch-size 64] [--repeats 3] [--device cuda]

A trial builds the reduced NEXcepTion, trains it with the paper's recipe on CIFAR-sized images and validates after every
epoch. The baseline is a fresh process that runs `timm_baseline.train` with a loader process per core; ours is `train` in
a process that has run a trial before, as a worker has. Both use all cores and alternate; times are wall time, memory is
the largest resident size of the process (of CUDA's allocator there). The fixed cost is that of a trial of one step.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import add_json_option, keep

EPOCHS = (0.01, 1.0, 10.0)  # less than one is a single step


def run_baseline(arguments: argparse.Namespace) -> None:
    """Run one trial as a user's script does, in this process, and print its peak memory in bytes."""
    import torch

    from benchmarks import timm_baseline
    from naxcli.settings.recipe import Recipe

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device, recipe = torch.device(arguments.device), Recipe(batch_size=arguments.batch_size)
    network = build_network(arguments.width)
    dataset = timm_baseline.synthetic_dataset(arguments.images, num_validation=arguments.images // 5)
    num_workers = os.cpu_count() or 1
    timm_baseline.train(network, dataset, recipe, epochs=arguments.trial, device=device, num_workers=num_workers)
    is_cuda = device.type == "cuda"
    print(torch.cuda.max_memory_allocated() if is_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def build_network(width: float):  # type: ignore[no-untyped-def]  # torch is imported by the trial, not before
    from naxcli.search_space.contract import load_space

    space = load_space("nexception")
    assert space.build is not None
    network = space.build(space.reference["nexception"], num_classes=100, in_channels=3, image_size=32, width=width)
    network.set_drop_path_rate(0.05)
    return network


def resident_megabytes() -> int:
    """Return the resident size of this process, 0 where the system does not tell."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 10**6 if file.exists() else 0


def measure_baseline(arguments: argparse.Namespace, epochs: float) -> tuple[float, int]:
    """Return wall time in seconds and peak memory in bytes of a trial in a fresh process."""
    names = ("images", "width", "batch_size", "threads", "device")
    flags = [text for name in names for text in (f"--{name.replace('_', '-')}", str(getattr(arguments, name)))]
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_trials", "--trial", str(epochs), *flags],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return time.perf_counter() - start, int(process.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480, help="a fifth of them for validation")
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=float, nargs="+", default=EPOCHS)
    add_json_option(parser)
    parser.add_argument("--trial", type=float, help=argparse.SUPPRESS)  # epochs of a baseline trial in this process
    arguments = parser.parse_args()
    if arguments.trial is not None:
        run_baseline(arguments)
        return

    import torch

    from benchmarks import timm_baseline
    from naxcli.settings.recipe import Recipe
    from naxcli.training.loop import TrainingRequest, seed_everything, train

    torch.set_num_threads(arguments.threads)
    recipe = Recipe(batch_size=arguments.batch_size)
    dataset = timm_baseline.synthetic_dataset(arguments.images, num_validation=arguments.images // 5)

    def measure_ours(epochs: float) -> tuple[float, int]:
        start = time.perf_counter()
        seed_everything(0)
        network = build_network(arguments.width)
        request = TrainingRequest(recipe=recipe, epochs=epochs, seed=0, device=arguments.device)
        outcome = train(network, dataset, request)
        return time.perf_counter() - start, outcome.peak_memory_bytes or 0

    before = resident_megabytes()
    measure_ours(0.01)
    print(
        f"reduced NEXcepTion, width {arguments.width:g}, {arguments.images} images, batch {arguments.batch_size}, "
        f"{arguments.device}, {arguments.threads} threads, {arguments.repeats} alternating repeats; "
        f"{before} MB resident before the first trial"
    )
    print(
        f"{'trial':10s} {'timm s':>8s} {'naxcli s':>8s} {'timm/h':>8s} {'naxcli/h':>8s} {'ratio':>7s}  range          MB timm, naxcli"
    )
    kept = {}
    for epochs in arguments.epochs:
        pairs = [(measure_baseline(arguments, epochs), measure_ours(epochs)) for _ in range(arguments.repeats)]
        theirs, ours = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
        ratios = sorted(pair[0][0] / pair[1][0] for pair in pairs)
        memory = [max(pair[side][1] for pair in pairs) // 10**6 for side in (0, 1)]
        name = "one step" if epochs < 1 else f"{epochs:g} epochs"
        print(
            f"{name:10s} {theirs:8.2f} {ours:8.2f} {3600 / theirs:8.0f} {3600 / ours:8.0f} {statistics.median(ratios):7.2f}  "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}   {memory[0]}, {memory[1]}"
        )
        kept[name] = {
            "timm_seconds": [pair[0][0] for pair in pairs],
            "naxcli_seconds": [pair[1][0] for pair in pairs],
            "ratio": ratios,
            "timm_megabytes": memory[0],
            "naxcli_megabytes": memory[1],
        }
    keep(arguments, trials=kept)


if __name__ == "__main__":
    main()
