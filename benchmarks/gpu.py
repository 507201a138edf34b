"""`make bench-gpu`: the training benchmarks on a GPU, each beside timm's pipeline, and where the rest of the time goes.

    python -m benchmarks.gpu [--out runs/bench-gpu] [--device cuda] [--data-root DIR] [--seconds 540] [--smoke] [--again]

Runs the scripts beside this one with --device, one after another, and then a profile of our training; at the end it
prints a table of measured values beside the bars. Each measurement leaves a JSON file in --out as it ends, and what is there is not
measured again, so that a run cut short goes on. --seconds starts no measurement later than that. The exit status is 1 where
a measurement that was asked for is missing at the end. --smoke takes tiny sizes: it shows that the scripts run, on any device,
and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAFFIC_BYTES = 61.7e6  # of one image forward and backward, unfused, in bfloat16, at width 1 and kernel size 5
TRAIN_IMAGES = 45_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One script of this folder with its flags.

    Args:
        name: of its file of results.
        script: module of this folder.
        flags: on a GPU.
        smoke_flags: at tiny sizes.
        needs_data: whether it trains on real CIFAR-100.
    """

    name: str
    script: str
    flags: str
    smoke_flags: str
    needs_data: bool = False


MEASUREMENTS = (
    Measurement(name="ceilings", script="gpu_profile", flags="--ceilings", smoke_flags="--ceilings"),
    Measurement(name="augmentation", script="training_augmentation", flags="", smoke_flags="--repeats 1"),
    Measurement(
        name="step-128",
        script="training_step",
        flags="--width 1 --batch-size 128",
        smoke_flags="--width 0.05 --batch-size 8 --repeats 1",
    ),
    Measurement(
        name="step-256",
        script="training_step",
        flags="--width 1 --batch-size 256",
        smoke_flags="--width 0.05 --batch-size 8 --repeats 1",
    ),
    Measurement(
        name="kernels",
        script="training_kernels",
        flags="--batch-size 256",
        smoke_flags="--batch-size 1 --kernel-sizes 3 --widths 0.02",
    ),
    Measurement(
        name="step-128-off",
        script="training_step",
        flags="--width 1 --batch-size 128 --kernels off",
        smoke_flags="--width 0.05 --batch-size 8 --repeats 1 --kernels off",
    ),
    Measurement(
        name="step-256-off",
        script="training_step",
        flags="--width 1 --batch-size 256 --kernels off",
        smoke_flags="--width 0.05 --batch-size 8 --repeats 1 --kernels off",
    ),
    Measurement(
        name="preparation",
        script="training_preparation",
        flags="--width 1",
        smoke_flags="--width 0.05 --batch-size 8 --repeats 1",
    ),
    Measurement(
        name="profile",
        script="gpu_profile",
        flags="--width 1",
        smoke_flags="--width 0.05 --batch-size 8 --images 80 --min-steps 8",
    ),
    Measurement(
        name="profile-off",
        script="gpu_profile",
        flags="--width 1 --kernels off",
        smoke_flags="--width 0.05 --batch-size 8 --images 80 --min-steps 8 --kernels off",
    ),
    Measurement(
        name="trials",
        script="training_trials",
        flags=f"--images {TRAIN_IMAGES + 11_250} --width 1 --batch-size 256 --repeats 3",
        smoke_flags="--images 500 --width 0.02 --batch-size 64 --repeats 1 --epochs 0.01 1",
    ),
    Measurement(
        name="trials-off",
        script="training_trials",
        flags=f"--images {TRAIN_IMAGES + 11_250} --width 1 --batch-size 256 --repeats 3 --kernels off",
        smoke_flags="--images 500 --width 0.02 --batch-size 64 --repeats 1 --epochs 0.01 1 --kernels off",
    ),
    Measurement(
        name="accuracy",
        script="training_accuracy",
        needs_data=True,
        flags="--seeds 10 --epochs 10 --train-per-class 450 --test-per-class 100 --width 1 --batch-size 256 "
        "--learning-rate 0.002 --workers 16",
        smoke_flags="--seeds 2 --epochs 1 --train-per-class 2 --test-per-class 1 --width 0.02 --batch-size 32",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gpu"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data-root", help="folder with cifar-100-python, for the accuracy")
    parser.add_argument("--seconds", type=float, help="no measurement starts later")
    parser.add_argument("--only", nargs="*", choices=[item.name for item in MEASUREMENTS])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    missing = measure(arguments)
    print()
    print(("tiny sizes, which measure nothing\n\n" if arguments.smoke else "") + table(read_results(arguments.out)))
    if missing:
        sys.exit(f"\nmissing: {', '.join(missing)}; the next run measures them")


def measure(arguments: argparse.Namespace) -> list[str]:
    """Run the measurements that were asked for and are not there yet, and return the names of those that are missing then."""
    deadline = time.monotonic() + (arguments.seconds or float("inf"))
    missing = []
    for item in MEASUREMENTS:
        file = arguments.out / f"{item.name}.json"
        is_wanted = arguments.only is None or item.name in arguments.only
        if not is_wanted or (file.exists() and not arguments.again) or (item.needs_data and not arguments.data_root):
            continue
        if time.monotonic() > deadline:
            print(f"{item.name}: no time left", flush=True)
            missing.append(item.name)
            continue
        print(f"\n== {item.name}", flush=True)
        if run(item, file, arguments) or not file.exists():
            missing.append(item.name)
    return missing


def run(item: Measurement, file: Path, arguments: argparse.Namespace) -> int:
    """Run one script, its output on the terminal and in a file, and return its exit status."""
    flags = (item.smoke_flags if arguments.smoke else item.flags).split()
    if item.needs_data:
        flags += ["--data-root", arguments.data_root, "--out", str(arguments.out / f"{item.name}.jsonl")]
    command = [sys.executable, "-u", "-m", f"benchmarks.{item.script}", *flags]
    command += ["--device", arguments.device, "--json", str(file)]
    with (
        (arguments.out / f"{item.name}.txt").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
    if process.returncode:
        print(f"{item.name}: ended with {process.returncode}", flush=True)
    return process.returncode


def read_results(folder: Path) -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def table(results: Mapping[str, Any]) -> str:
    """Return the measured values beside the bars, as Markdown; what was not measured is a dash."""
    rows = [
        ("augmentation and mixing, images/s", "naxcli {:,.0f}, timm {:,.0f}", ">= 1,000,000", _augmentation),
        ("augmentation, share of an epoch of 45,000 images", "{:.1%}", "<= 3 %", _augmentation_share),
        ("step at batch 128 over timm's", "{:.2f}x ({:.2f} ms, timm {:.2f} ms)", ">= 1.5x", _step("step-128")),
        ("step at batch 256 over timm's", "{:.2f}x ({:.2f} ms, timm {:.2f} ms)", "", _step("step-256")),
        ("the same without kernels, batch 128", "{:.2f}x ({:.2f} ms, timm {:.2f} ms)", "", _step("step-128-off")),
        ("the same without kernels, batch 256", "{:.2f}x ({:.2f} ms, timm {:.2f} ms)", "", _step("step-256-off")),
        ("depthwise, all shapes", "fastest {:.2f} ms, cuDNN {:.2f}, native {:.2f}, Triton {:.2f}", "", _depthwise),
        ("fixed cost of a trial", "{:.2f} s, timm {:.2f} s", "<= 1.5 s", _seconds("one step")),
        ("trials an hour at 1 epoch over a timm script", "{:.2f}x", ">= 4x", _ratio("1 epochs")),
        ("trials an hour at 10 epochs over a timm script", "{:.2f}x", ">= 2x", _ratio("10 epochs")),
        ("the same without kernels, 1 epoch", "{:.2f}x", "", _ratio("1 epochs", "trials-off")),
        ("the same without kernels, 10 epochs", "{:.2f}x", "", _ratio("10 epochs", "trials-off")),
        ("share of the unfused memory roofline, batch 128", "{:.0%}", ">= 50 %", _roofline("step-128", 128)),
        ("share of the unfused memory roofline, batch 256", "{:.0%}", "", _roofline("step-256", 256)),
        ("accuracy against the timm loop, points", "{:+.2f}, 95 % {:+.2f} to {:+.2f}, n {}", "within 0.5", _accuracy),
        ("network built beside the training would save", "{:.0f} ms, {:.1%} of one epoch", "", _saved),
        ("time of the steps that the GPU is busy", "{:.0%}", "", _busy),
    ]
    lines = ["| | measured | bar |", "|---|---|---|"]
    for name, form, bar, values in rows:
        try:
            measured = form.format(*values(results))
        except KeyError:
            measured = "–"
        lines.append(f"| {name} | {measured} | {bar} |")
    device = results.get("ceilings", {}).get("device")
    return "\n".join([f"{device}; medians", "", *lines] if device else lines)


def _augmentation(results: Mapping[str, Any]) -> Sequence[float]:
    found = results["augmentation"]
    return [statistics.median(found[f"{name}_images_per_second"]) for name in ("naxcli", "timm")]


def _augmentation_share(results: Mapping[str, Any]) -> Sequence[float]:
    step = statistics.median(results["step-256"]["naxcli_ms"]) / 1e3 / results["step-256"]["settings"]["batch_size"]
    augmentation = 1 / _augmentation(results)[0]
    return [augmentation / (step + augmentation)]


def _step(name: str) -> Callable[[Mapping[str, Any]], Sequence[float]]:
    return lambda results: [statistics.median(results[name][key]) for key in ("ratio", "naxcli_ms", "timm_ms")]


def _seconds(name: str) -> Callable[[Mapping[str, Any]], Sequence[float]]:
    return lambda results: [
        statistics.median(results["trials"]["trials"][name][key]) for key in ("naxcli_seconds", "timm_seconds")
    ]


def _ratio(name: str, measurement: str = "trials") -> Callable[[Mapping[str, Any]], Sequence[float]]:
    return lambda results: [statistics.median(results[measurement]["trials"][name]["ratio"])]


def _depthwise(results: Mapping[str, Any]) -> Sequence[float]:
    rows = results["kernels"]["rows"]
    ways = ("cudnn", "native", "triton")
    return [sum(min(row[way] for way in ways) for row in rows), *(sum(row[way] for row in rows) for way in ways)]


def _roofline(name: str, batch_size: int) -> Callable[[Mapping[str, Any]], Sequence[float]]:
    def share(results: Mapping[str, Any]) -> Sequence[float]:
        if results[name]["settings"]["batch_size"] != batch_size:  # another network's traffic
            raise KeyError(name)
        least = batch_size * TRAFFIC_BYTES / results["ceilings"]["bytes_per_second"]
        return [least / (statistics.median(results[name]["naxcli_ms"]) / 1e3)]

    return share


def _accuracy(results: Mapping[str, Any]) -> Sequence[float]:
    found = results["accuracy"]
    mean = statistics.mean(found["difference"])
    return [100 * mean, 100 * found["low"], 100 * found["high"], len(found["difference"])]


def _saved(results: Mapping[str, Any]) -> Sequence[float]:
    found = results["preparation"]
    saved = statistics.median(found["saved_ms"])
    return [saved, saved / found["epoch_ms"]]


def _busy(results: Mapping[str, Any]) -> Sequence[float]:
    found = results["profile"]
    if not found["device_ms_a_step"]:
        raise KeyError("profile")
    return [found["device_ms_a_step"] / found["wall_ms_a_step"]]


if __name__ == "__main__":
    main()
