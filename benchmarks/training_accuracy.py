"""Accuracy: our training against the timm loop, paired by seed, on real CIFAR-100 images.

    python -m benchmarks.training_accuracy --data-root DIR [--seeds 10] [--epochs 5] [--train-per-class 30] [--image-size 32]
        [--reference nexception] [--out FILE]

Both train the same initial weights of a reduced network with the same recipe and schedule; order, augmentation and
stochastic depth are drawn by each in its own way. Both validate on the same test images. Prints
the mean difference of the accuracies with its 95 % interval (Student's t over pairs). Results are appended to --out as
they come, and pairs found there are not trained again, so an interrupted measurement goes on.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import random
import statistics
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from benchmarks import timm_baseline
from benchmarks.results import add_json_option, add_kernels_option, keep
from naxcli.data.dataset import Dataset, load_dataset
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training.loop import seed_everything, set_drop_path, train
from naxcli.training.request import TrainingRequest

SETTINGS = (
    "reference",
    "image_size",
    "epochs",
    "width",
    "train_per_class",
    "test_per_class",
    "batch_size",
    "learning_rate",
    "device",
)


def thinned(dataset: Dataset, *, train_per_class: int, test_per_class: int) -> Dataset:
    """Return a data set with so many training and validation images of every class."""
    train, test = (
        torch.cat([torch.nonzero(labels == label).flatten()[:count] for label in range(dataset.num_classes)])
        for labels, count in ((dataset.train_labels, train_per_class), (dataset.validation_labels, test_per_class))
    )
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[train],
        train_labels=dataset.train_labels[train],
        validation_images=dataset.validation_images[test],
        validation_labels=dataset.validation_labels[test],
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--start", type=int, default=0, help="first seed, to share them out to processes")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--train-per-class", type=int, default=30)
    parser.add_argument("--test-per-class", type=int, default=20)
    parser.add_argument("--reference", choices=("nexception", "xception"), default="nexception")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the baseline")
    parser.add_argument("--device", default="cpu")
    add_kernels_option(parser)
    add_json_option(parser)
    parser.add_argument("--out", type=Path, default=Path("training_accuracy.jsonl"))
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(batch_size=arguments.batch_size, learning_rate=arguments.learning_rate)
    dataset = load_dataset(
        "cifar100",
        root=arguments.data_root,
        split_seed=0,
        validation_fraction=0.1,
        with_test=True,
        image_size=arguments.image_size,
    )
    dataset = thinned(
        dataset.with_test_as_validation(),
        train_per_class=arguments.train_per_class,
        test_per_class=arguments.test_per_class,
    )
    settings = {name: str(getattr(arguments, name)) for name in SETTINGS}
    space = load_space("nexception")
    assert space.build is not None

    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    pairs = {row["seed"]: row for row in map(json.loads, lines) if row["settings"] == settings}
    for seed in range(arguments.start, arguments.seeds):
        if seed in pairs:
            continue
        seed_everything(seed)
        ours = space.build(
            space.reference[arguments.reference],
            num_classes=100,
            in_channels=3,
            image_size=arguments.image_size,
            width=arguments.width,
        )
        theirs = copy.deepcopy(ours)
        set_drop_path(theirs, recipe.drop_path)
        request = TrainingRequest(
            recipe=recipe,
            epochs=arguments.epochs,
            seed=seed,
            device=arguments.device,
            uses_kernels=arguments.kernels != "off",
        )
        outcome = train(ours, dataset, request)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        accuracy = timm_baseline.train(
            theirs,
            dataset,
            recipe,
            epochs=arguments.epochs,
            device=torch.device(arguments.device),
            num_workers=arguments.workers,
        )
        pairs[seed] = {"seed": seed, "settings": settings, "naxcli": outcome.val_accuracy, "timm": accuracy}
        with arguments.out.open("a") as file:
            file.write(json.dumps(pairs[seed]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(f"seed {seed}: naxcli {outcome.val_accuracy:.4f}, timm {accuracy:.4f}", flush=True)

    differences = [row["naxcli"] - row["timm"] for row in pairs.values()]
    mean = statistics.mean(differences)
    half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    print(settings)
    for label in ("naxcli", "timm"):
        values = [row[label] for row in pairs.values()]
        print(
            f"{label:7s} mean {statistics.mean(values):.4f}, standard deviation {statistics.stdev(values):.4f}, n {len(values)}"
        )
    print(
        f"difference {100 * mean:+.2f} points, 95 % interval {100 * (mean - half):+.2f} to {100 * (mean + half):+.2f}"
    )
    keep(arguments, difference=differences, low=mean - half, high=mean + half)


if __name__ == "__main__":
    main()
