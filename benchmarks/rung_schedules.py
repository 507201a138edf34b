"""Which learning-rate schedule makes the rungs of a multi-fidelity search comparable, on real CIFAR-100 images.

    python -m benchmarks.rung_schedules --data-root DIR [--configs 24] [--fidelity 1:9:3] [--out FILE]

Random configurations of `nexception` are trained to every rung on some classes, with crops and flips only, under four rules:

    cosine       one cosine over the highest fidelity, continued from rung to rung, with its whole warm-up
    short        the same with a warm-up that ends within the lowest rung
    decay        warmup-stable-decay with the short warm-up: every rung decays over its last fifth, the next continues
                 from before that
    again        a cosine of its own for every rung, trained from the start: nothing is continued

The truth of a configuration is its mean accuracy over two other seeds of the highest fidelity with its own cosine: what
retraining gives. Prints per rule and rung Spearman's correlation with the truth with its 95 % interval, the epochs and
seconds that a configuration costs to get there, and what successive halving picks under each rule: the mean over random
halves of the configurations of the rank (0 best, 1 worst) of the pick. Results are appended to --out as they come, and
found there are not computed again, so an interrupted measurement goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from benchmarks.training_accuracy import thinned
from naxcli.analysis.audit import spearman_interval
from naxcli.data.dataset import Dataset, load_dataset
from naxcli.search_space.contract import load_space
from naxcli.settings.fidelity import FidelityRange
from naxcli.settings.recipe import Recipe
from naxcli.training.loop import seed_everything, train
from naxcli.training.request import TrainingRequest

RULES = ("cosine", "short", "decay", "again")
TRUTH_SEEDS = (1, 2)
NUM_HALVES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--configs", type=int, default=20)
    parser.add_argument(
        "--start", type=int, default=0, help="first of the configurations, to share them out to processes"
    )
    parser.add_argument("--fidelity", default="1:9:3")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--classes", type=int, default=10, help="evenly spaced among the 100")
    parser.add_argument("--train-per-class", type=int, default=200)
    parser.add_argument("--test-per-class", type=int, default=200)
    parser.add_argument("--width", type=float, default=0.06)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("rung_schedules.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        name: str(value)
        for name, value in vars(arguments).items()
        if name not in ("data_root", "configs", "start", "out")
    }
    fidelity = FidelityRange.parse(arguments.fidelity)
    dataset = load_dataset(
        "cifar100", root=arguments.data_root, split_seed=0, validation_fraction=0.4, image_size=arguments.image_size
    )
    dataset = of_classes(dataset, arguments.classes)
    dataset = thinned(dataset, train_per_class=arguments.train_per_class, test_per_class=arguments.test_per_class)
    space = load_space("nexception")
    configurations = [dict(c) for c in space.configspace(0).sample_configuration(arguments.configs)]
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    rows = [row for row in map(json.loads, lines) if row["settings"] == settings]
    known = {(row["config"], row["rule"], row["seed"]) for row in rows}
    runs = [(rule, 0) for rule in RULES] + [("again", seed) for seed in TRUTH_SEEDS]
    # So few steps learn nothing that tells configurations apart from images as heavily augmented as in the paper.
    recipe = Recipe(
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        loss="cross_entropy",
        randaugment="",
        mixup=0,
        cutmix=0,
        crop_padding=2,
        drop_path=0,
    )
    for number, configuration in list(enumerate(configurations))[arguments.start :]:
        for rule, seed in runs:
            if (number, rule, seed) in known:
                continue
            # The truth needs the highest fidelity only.
            rungs = fidelity.rungs() if seed == 0 else fidelity.rungs()[-1:]
            row = {"config": number, "rule": rule, "seed": seed, "settings": settings} | trained(
                configuration,
                rule,
                seed=seed,
                rungs=rungs,
                recipe=recipe,
                dataset=dataset,
                width=arguments.width,
                device=arguments.device,
            )
            rows.append(row)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        print(f"configuration {number + 1} of {len(configurations)}", flush=True)
    print(settings)
    print_findings([row for row in rows if row["config"] < arguments.configs], list(fidelity.rungs()))


def of_classes(dataset: Dataset, num_classes: int) -> Dataset:
    """Return the images of so many classes, evenly spaced among all."""
    kept = torch.linspace(0, dataset.num_classes - 1, num_classes).round().long()
    parts: dict[str, torch.Tensor] = {}
    for part in ("train", "validation"):
        images, labels = getattr(dataset, f"{part}_images"), getattr(dataset, f"{part}_labels")
        chosen = torch.isin(labels, kept)
        parts[f"{part}_images"], parts[f"{part}_labels"] = images[chosen], torch.searchsorted(kept, labels[chosen])
    names = tuple(dataset.class_names[index] for index in kept.tolist())
    return dataclasses.replace(dataset, num_classes=num_classes, class_names=names, **parts)


def trained(
    configuration: dict[str, Any],
    rule: str,
    *,
    seed: int,
    rungs: Any,
    recipe: Recipe,
    dataset: Dataset,
    width: float,
    device: str,
) -> dict[str, Any]:
    """Return accuracy, epochs and seconds at every rung of one configuration trained under a rule."""
    space = load_space("nexception")
    assert space.build is not None
    longest = rungs[-1]
    if rule in ("short", "decay"):
        recipe = dataclasses.replace(recipe, warmup_epochs=recipe.warmup_length(rungs[0]))
    if rule == "decay":
        recipe = dataclasses.replace(recipe, schedule="warmup_stable_decay")
    found: dict[str, Any] = {"rungs": list(rungs), "accuracy": [], "epochs": [], "seconds": []}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "training.pt"
        for rung in rungs:
            seed_everything(seed)
            network = space.build(
                configuration,
                num_classes=dataset.num_classes,
                in_channels=dataset.in_channels,
                image_size=dataset.image_size,
                width=width,
            )
            started = time.perf_counter()
            outcome = train(
                network,
                dataset,
                TrainingRequest(
                    recipe=recipe,
                    epochs=rung,
                    seed=seed,
                    device=device,
                    schedule_epochs=rung if rule == "again" else longest,
                    checkpoint_from=checkpoint if rule != "again" and checkpoint.exists() else None,
                    checkpoint_to=checkpoint,
                ),
            )
            found["seconds"].append(time.perf_counter() - started)
            found["epochs"].append(outcome.epochs_run)
            found["accuracy"].append(outcome.val_accuracy or 0.0)
    return found


def print_findings(rows: list[dict[str, Any]], rungs: list[float]) -> None:
    """Print correlation, cost and the pick of successive halving for each rule."""
    truths: dict[int, list[float]] = {}
    for row in rows:
        if row["seed"] in TRUTH_SEEDS:
            truths.setdefault(row["config"], []).append(row["accuracy"][-1])
    complete = sorted(
        number
        for number, values in truths.items()
        if len(values) == len(TRUTH_SEEDS)
        and sum(row["config"] == number and row["seed"] == 0 for row in rows) == len(RULES)
    )
    truth = np.array([statistics.fmean(truths[number]) for number in complete])
    seeds = np.array([truths[number] for number in complete])
    print(f"n = {len(complete)} configurations, accuracy {truth.min():.3f} to {truth.max():.3f}; ", end="")
    print(f"two seeds of the truth correlate at {spearmanr(seeds[:, 0], seeds[:, 1]).statistic:.2f}")
    print("rule    rung  spearman  95 % interval    epochs  seconds  (a configuration, from the start)")
    scores, costs = {}, {}
    for rule in RULES:
        mine = {row["config"]: row for row in rows if row["rule"] == rule and row["seed"] == 0}
        scores[rule] = np.array([mine[number]["accuracy"] for number in complete])
        costs[rule] = np.array([mine[number]["epochs"] for number in complete]).mean(axis=0)
        seconds = np.array([mine[number]["seconds"] for number in complete]).mean(axis=0)
        for index, rung in enumerate(rungs):
            rho = float(spearmanr(scores[rule][:, index], truth).statistic)
            low, high = spearman_interval(rho, len(complete))
            # What is not continued is paid at its own rung only.
            spent = slice(index, index + 1) if rule == "again" else slice(0, index + 1)
            print(
                f"{rule:7s} {rung:4g}  {rho:8.2f}  {low:5.2f} to {high:4.2f}   {costs[rule][spent].sum():6.2f}  {seconds[spent].sum():7.1f}"
            )
    print(
        "successive halving, random halves of the configurations: rank of the pick, epochs for each configuration of the half"
    )
    rng = np.random.default_rng(0)
    size, eta = len(complete) // 2, round(rungs[1] / rungs[0])
    picks: dict[str, list[float]] = {rule: [] for rule in RULES}
    epochs: dict[str, list[float]] = {rule: [] for rule in RULES}
    for _ in range(NUM_HALVES):
        half = rng.choice(len(complete), size, replace=False)
        ranks = (rankdata(-truth[half]) - 1) / (size - 1)
        for rule in RULES:
            alive, spent = np.arange(size), 0.0
            for index in range(len(rungs)):
                spent += len(alive) * costs[rule][index]
                best_first = alive[np.argsort(-scores[rule][half[alive], index], kind="stable")]
                alive = best_first[: max(1, len(best_first) // eta)] if index + 1 < len(rungs) else best_first
            picks[rule].append(float(ranks[alive[0]]))
            epochs[rule].append(spent / size)
    for rule in RULES:
        print(f"{rule:7s} rank {np.mean(picks[rule]):.3f}   epochs {np.mean(epochs[rule]):.2f}")


if __name__ == "__main__":
    main()
