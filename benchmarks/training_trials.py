"""Whole trials: a timm script per trial against `naxcli search`: fixed cost, trials an hour at 1 and 10 epochs, memory.

    python -m benchmarks.training_trials [--images 1000] [--width 0.125] [--batch-size 64] [--repeats 3] [--device cuda]
                                         [--workers 1]

A trial builds the reduced NEXcepTion, trains it with the paper's recipe on CIFAR-sized images and validates after every
epoch. The baseline is a fresh process that runs `timm_baseline.train` with a loader process per core. Ours is a search whose
configurations all are this network, from the end of its first trials, one per worker, to the end of its last: with asking,
recording, checkpoints, and what lies between trials. Both use all cores, one after the other; times are wall time, memory is
the largest resident size of the process (of CUDA's allocator there). The fixed cost is that of a trial of one step.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import add_json_option, add_kernels_option, keep

EPOCHS = (0.01, 1.0, 10.0)  # less than one is a single step
VALIDATION_FRACTION = 0.2
SPACE = """
from ConfigSpace import ConfigurationSpace, Integer
from naxcli import Space
from naxcli.search_space.contract import load_space

NEXCEPTION = load_space("nexception")


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Integer("copy", (0, 1_000_000)))
    return space


def build(config, **arguments):
    return NEXCEPTION.build(NEXCEPTION.reference["nexception"], **arguments)


SPACE = Space(name="one-network", configspace=configspace, build=build)
"""


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


def write_images(folder: Path, num_images: int) -> None:
    """Write synthetic images in CIFAR-100's layout, from which a search takes its validation images too."""
    from benchmarks import timm_baseline

    dataset = timm_baseline.synthetic_dataset(num_images, num_validation=0)
    images = dataset.train_images.numpy().reshape(num_images, -1)  # type: ignore[union-attr]
    entries = {"data": images, "fine_labels": dataset.train_labels.tolist()}
    folder.mkdir(parents=True)
    for name, content in (
        ("train", entries),
        ("test", {name: values[:100] for name, values in entries.items()}),
        ("meta", {"fine_label_names": [f"class {number}" for number in range(100)]}),
    ):
        (folder / name).write_bytes(pickle.dumps(content))


def measure_search(arguments: argparse.Namespace, epochs: float, folder: Path) -> tuple[float, int]:
    """Return the seconds for each trial of a search, and the peak memory of one in bytes."""
    import pandas as pd

    run, space, num_workers = folder / f"run-{epochs:g}", folder / "space.py", arguments.workers
    space.write_text(SPACE)
    if not (folder / "data").exists():
        write_images(folder / "data" / "cifar-100-python", arguments.images)
    settings = {
        "width": arguments.width,
        "recipe.batch_size": arguments.batch_size,
        "validation_fraction": VALIDATION_FRACTION,
        "threads": max(1, arguments.threads // num_workers),
        "kernels": arguments.kernels,
    }
    flags = {
        "space": space,
        "run": run,
        "data": "cifar100",
        "data-root": folder / "data",
        "searcher": "random",
        "workers": num_workers,
        "trials": num_workers * (1 + arguments.repeats),
        "epochs": epochs,
    }
    command = [sys.executable, "-m", "naxcli", "search", "--quiet"]
    command += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    command += [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if arguments.device == "cpu" else {})}
    subprocess.run(command, check=True, env=environment)
    trials = pd.read_parquet(run / "trials.parquet")
    if (failed := trials[trials["status"] != "success"]).size:
        raise RuntimeError(f"{len(failed)} trials failed: {failed['error'].iloc[0]}")
    ends = sorted(trials["ended_at"])
    seconds = (ends[-1] - ends[num_workers - 1]) / (len(ends) - num_workers)
    return seconds, int(trials["peak_memory_bytes"].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="a fifth of them for validation")
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="trials at once in the search")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=float, nargs="+", default=EPOCHS)
    add_kernels_option(parser)
    add_json_option(parser)
    parser.add_argument("--trial", type=float, help=argparse.SUPPRESS)  # epochs of a baseline trial in this process
    arguments = parser.parse_args()
    if arguments.trial is not None:
        run_baseline(arguments)
        return

    print(
        f"reduced NEXcepTion, width {arguments.width:g}, {arguments.images} images, batch {arguments.batch_size}, "
        f"{arguments.device}, {arguments.threads} threads, {arguments.repeats} repeats, "
        f"{arguments.workers} worker(s) in the search"
    )
    print(
        f"{'trial':10s} {'timm s':>8s} {'naxcli s':>8s} {'timm/h':>8s} {'naxcli/h':>8s} {'ratio':>7s}  range          MB timm, naxcli"
    )
    kept = {}
    for epochs in arguments.epochs:
        with tempfile.TemporaryDirectory() as folder:
            ours, ours_bytes = measure_search(arguments, epochs, Path(folder))
        baselines = [measure_baseline(arguments, epochs) for _ in range(arguments.repeats)]
        theirs = statistics.median(seconds for seconds, _ in baselines)
        ratios = sorted(seconds / ours for seconds, _ in baselines)
        memory = [max(num_bytes for _, num_bytes in baselines) // 10**6, ours_bytes // 10**6]
        name = "one step" if epochs < 1 else f"{epochs:g} epochs"
        print(
            f"{name:10s} {theirs:8.2f} {ours:8.2f} {3600 / theirs:8.0f} {3600 / ours:8.0f} {statistics.median(ratios):7.2f}  "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}   {memory[0]}, {memory[1]}"
        )
        kept[name] = {
            "timm_seconds": [seconds for seconds, _ in baselines],
            "naxcli_seconds": [ours],
            "ratio": ratios,
            "timm_megabytes": memory[0],
            "naxcli_megabytes": memory[1],
        }
    keep(arguments, trials=kept)


if __name__ == "__main__":
    main()
