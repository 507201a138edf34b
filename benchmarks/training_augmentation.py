"""Augmentation and mixing: training batches a core-second, timm's loader against ours.

    python -m benchmarks.training_augmentation [--data-root DIR] [--repeats 7] [--device cuda]

Both read CIFAR-sized images from memory and apply the paper's recipe: crop with padding 4, flip, RandAugment
rand-m7-mstd0.5-inc1, mixup 0.1 or CutMix 1.0, normalisation. The baseline is timm's create_loader with FastCollateMixup
and its prefetcher, in one process, which spends the least CPU time per image. They alternate within one process; on a
CPU the measure is images per second of CPU time on one thread, so a busy machine matters little. With --device cuda it
is images per second of wall time, the baseline with all cores as workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks import timm_baseline
from benchmarks.results import add_json_option, keep
from naxcli.data.augment import TrainingBatches
from naxcli.data.dataset import Dataset, load_dataset
from naxcli.settings.recipe import Recipe


def timm_batches(loader: torch.utils.data.DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


def our_batches(dataset: Dataset, recipe: Recipe, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    batches = TrainingBatches(dataset.to(device), recipe, seed=0, device=device)
    step = 0
    while True:
        yield batches.batch(step)
        step += 1


def images_per_second(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]], num_batches: int, device: torch.device
) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    count = sum(len(next(batches)[0].contiguous(memory_format=torch.channels_last)) for _ in range(num_batches))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="folder with cifar-100-python; synthetic images otherwise")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, recipe = torch.device(arguments.device), Recipe()
    if arguments.data_root:
        dataset = load_dataset("cifar100", root=arguments.data_root, split_seed=0, validation_fraction=0.1)
    else:
        dataset = timm_baseline.synthetic_dataset(20_000)
    num_workers = (os.cpu_count() or 1) if device.type == "cuda" else 0
    theirs = timm_batches(timm_baseline.train_loader(dataset, recipe, device, num_workers))
    ours = our_batches(dataset, recipe, device)
    chunk = 16 if device.type == "cpu" else 256  # whole chunks of ours, so that each measurement pays for its own
    images_per_second(theirs, 2, device), images_per_second(ours, chunk, device)  # warm-up
    ratios, rates = [], []
    for _ in range(arguments.repeats):
        baseline = images_per_second(theirs, 4 if device.type == "cpu" else 64, device)
        rate = images_per_second(ours, chunk, device)
        ratios.append(rate / baseline)
        rates.append((baseline, rate))
    unit = "images per core-second" if device.type == "cpu" else "images per second"
    print(f"{dataset.name}, batch {recipe.batch_size}, {device.type}, {arguments.repeats} alternating repeats, {unit}")
    for label, column in (("timm", 0), ("naxcli", 1)):
        values = [rate[column] for rate in rates]
        print(f"{label:8s} median {statistics.median(values):12,.0f}   range {min(values):,.0f} to {max(values):,.0f}")
    print(f"ratio    median {statistics.median(ratios):12.2f}   range {min(ratios):.2f} to {max(ratios):.2f}")
    baselines, ours_rates = zip(*rates, strict=True)
    keep(arguments, timm_images_per_second=baselines, naxcli_images_per_second=ours_rates, ratio=ratios)


if __name__ == "__main__":
    main()
