"""The main job from a search to an exported network, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import ENVIRONMENT, naxcli

QUICK = ["--set", "width=0.06", "--set", "images_per_class=40", "--workers", "1", "--set", "threads=1"]
SMALL = [*QUICK, "--epochs", "2"]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("main") / "run"
    done = naxcli("search", "--space", "nexception", "--data", "digits", "--trials", "4", "--run", run, *SMALL)
    assert done.returncode == 0, done.stderr
    return run


def test_a_search_on_digits_trains_networks_and_records_them(digits_run: Path) -> None:
    trials = pd.read_parquet(digits_run / "trials.parquet")
    assert len(trials) == 4 and trials["status"].isin(["success", "diverged"]).all()
    good = trials[trials["status"] == "success"]
    assert good["cost"].to_numpy() == pytest.approx(1 - good["val_accuracy"].to_numpy())
    assert (good["num_params"] > 10_000).all() and (good["flops"] > 10_000).all() and (good["seconds"] > 0).all()
    curves = pd.read_parquet(digits_run / "curves.parquet")
    assert curves.groupby("trial_id").size().loc[good["trial_id"]].eq(2).all()
    best = good.loc[good["cost"].idxmin(), "trial_id"]
    assert [path.name for path in (digits_run / "checkpoints").iterdir()] == [f"{best}.pt"]
    environment = json.loads((digits_run / "environment.json").read_text())
    assert environment["packages"]["torch"] and environment["data"]["content_hash"]


def test_the_report_is_the_contract_object(digits_run: Path) -> None:
    done = naxcli("report", digits_run, "--json", "--bootstrap", "5")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"run", "space", "incumbent", "trials", "importance", "warnings"} <= report.keys()
    entry = report["importance"][0]
    assert entry["fidelity"] == 2 and entry["num_trials"] == sum(report["trials"].values())
    assert {row["name"] for row in entry["lpi"]} >= {"kernel_size", "stem", "block", "activation_1"}
    assert {tuple(row["names"]) for row in entry["fanova"]} >= {("kernel_size",), ("block",)}
    assert entry["ablation"][0]["name"] == "default"


def test_the_python_export_runs_without_naxcli_and_gives_the_trained_networks_outputs(
    digits_run: Path, tmp_path: Path
) -> None:
    done = naxcli(
        "export", digits_run, "--format", "python", "--out", tmp_path / "out", "--name", "winner", "--no-bench"
    )
    assert done.returncode == 0, done.stderr
    program = (
        "import sys; sys.modules['naxcli'] = None\n"
        "import torch, winner\n"
        "torch.manual_seed(0)\n"
        "print(winner.load_weights().eval()(torch.randn(2, 1, 16, 16)[:, :, :8, :8]).sum().item())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert ran.returncode == 0, ran.stderr
    assert "naxcli" not in [
        line for line in (tmp_path / "out" / "winner.py").read_text().splitlines() if "import" in line
    ]
    again = naxcli(
        "export", digits_run, "--format", "python", "--out", tmp_path / "out", "--name", "winner", "--no-bench"
    )
    assert again.returncode == 2 and "--overwrite" in again.stderr


@pytest.mark.parametrize("name", ["config", "weights"])
def test_other_formats_of_a_run_are_written(digits_run: Path, tmp_path: Path, name: str) -> None:
    done = naxcli("export", digits_run, "--format", name, "--out", tmp_path / "out", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "out").iterdir())


def test_status_tells_progress_and_incumbent(digits_run: Path) -> None:
    status = json.loads(naxcli("status", digits_run, "--json").stdout)
    assert status["num_finished"] == 4 and not status["is_running"] and status["incumbent"]["fidelity"] == 2


@pytest.mark.usefixtures("inline")
def test_networks_trained_twice_with_one_seed_are_equal(digits_run: Path, tmp_path: Path) -> None:
    """By a worker, and in another process."""
    again = tmp_path / "again"
    naxcli("search", "--space", "nexception", "--data", "digits", "--trials", "1", "--run", again, *SMALL)
    columns = ["trial_id", "config_id", "cost", "train_loss"]
    first = pd.read_parquet(digits_run / "trials.parquet").sort_values("trial_id")[columns].head(1)
    second = pd.read_parquet(again / "trials.parquet").sort_values("trial_id")[columns]
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True), check_exact=True)


@pytest.mark.usefixtures("inline")
def test_hyperband_continues_checkpoints(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--space", "nexception", "--data", "digits", "--trials", "5", "--fidelity", "1:3:3"]
    done = naxcli("search", *arguments, *QUICK, "--run", run)
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(run / "trials.parquet")
    promoted = trials[trials["parent_trial_id"].notna()]
    assert set(trials["fidelity"]) == {1.0, 3.0} and len(promoted) > 0
    parents = trials.set_index("trial_id").loc[promoted["parent_trial_id"].astype(int)]
    assert (parents["config_id"].to_numpy() == promoted["config_id"].to_numpy()).all()
    assert (parents["fidelity"].to_numpy() < promoted["fidelity"].to_numpy()).all()


@pytest.mark.cifar
@pytest.mark.slow
def test_a_search_on_real_cifar100_beats_its_first_random_trials(cifar_mini: Path, tmp_path: Path) -> None:
    """15 images a class to train on, at half their size, a sixteenth of the width, one worker so that it repeats exactly.

    The incumbent is better than the best of the default and the first random configurations.
    """
    run = tmp_path / "run"
    arguments = [
        "--space",
        "nexception",
        "--data",
        "cifar100",
        "--data-root",
        str(cifar_mini),
        "--trials",
        "14",
        "--seed",
        "1",
    ]
    quick = (
        "width=0.06",
        "image_size=16",
        "validation_fraction=0.5",
        "recipe.batch_size=32",
        "recipe.learning_rate=0.02",
        "recipe.loss=cross_entropy",
        "recipe.mixup=0",
        "recipe.cutmix=0",
        'recipe.randaugment=""',
        "threads=1",
    )
    settings = ["--epochs", "5", "--workers", "1", *(part for setting in quick for part in ("--set", setting))]
    done = naxcli("search", *arguments, *settings, "--run", run)
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(run / "trials.parquet").sort_values("trial_id")
    assert trials["cost"].min() < trials["cost"].head(5).min()
    assert trials["val_accuracy"].max() > 0.02  # chance is 0.01


@pytest.mark.usefixtures("inline")
def test_limits_are_never_violated(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--space", "nexception", "--data", "digits", "--trials", "2", "--max-params", "150k", "--epochs", "1"]
    done = naxcli("search", *arguments, *QUICK, "--run", run)
    assert done.returncode == 0, done.stderr
    assert pd.read_parquet(run / "trials.parquet")["num_params"].max() <= 150_000


def test_an_empty_feasible_set_names_the_tightest_limit(tmp_path: Path) -> None:
    arguments = ["--space", "nexception", "--data", "digits", "--trials", "4", "--max-params", "10"]
    done = naxcli("search", *arguments, "--max-flops", "600M", "--run", tmp_path / "run")
    assert done.returncode == 2
    assert "max_params" in done.stderr and "smallest value" in done.stderr
