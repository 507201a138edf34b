from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.commands import naxcli

WORKERS = ["--workers", "1"]


@pytest.fixture
def slow_space(slow_space: Path) -> Path:
    """The slow space with 1,200 configurations, so that it does not run out."""
    slow_space.write_text(slow_space.read_text().replace("[1, 2, 3, 4, 5]", "list(range(100))"))
    return slow_space


def test_a_plan_foresees_the_trials_of_a_search(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--space", slow_space, "--run", run, "--budget", "5m", *WORKERS]
    done = naxcli("plan", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    rung = plan["rungs"][0]
    assert plan["calibration_seconds"] < 0.05 * 300 + 5  # and the time it takes to start and end a worker
    assert rung["low"] <= rung["expected"] <= rung["high"]
    assert rung["expected"] == pytest.approx(300 / 0.2, rel=0.2)
    searched = naxcli("search", *arguments, "--searcher", "random", "--trials", "50")
    assert searched.returncode == 0, searched.stderr
    (compared,) = json.loads(naxcli("status", run, "--json").stdout)["plan"]
    assert compared["finished"] == len(pd.read_parquet(run / "trials.parquet")) == 50
    assert 25 < compared["planned"] < 200


def test_a_plan_counts_trials_per_rung(slow_space: Path, tmp_path: Path) -> None:
    done = naxcli(
        "plan",
        "--space",
        slow_space,
        "--run",
        tmp_path / "run",
        "--budget",
        "10m",
        "--fidelity",
        "1:9:3",
        *WORKERS,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    rungs = json.loads(done.stdout)["rungs"]
    assert [rung["fidelity"] for rung in rungs] == [1, 3, 9]
    assert rungs[0]["expected"] > rungs[1]["expected"] > rungs[2]["expected"] > 0


def test_too_small_a_budget_exits_with_3(slow_space: Path, tmp_path: Path) -> None:
    for budget in ("1s", "2m"):
        done = naxcli(
            "plan",
            "--space",
            slow_space,
            "--run",
            tmp_path / "run",
            "--budget",
            budget,
            "--fidelity",
            "1:729:3",
            *WORKERS,
        )
        assert done.returncode == 3, done.stderr
        assert "too little" in done.stderr and "Traceback" not in done.stderr


def test_a_plan_of_which_every_trial_fails_exits_with_3(slow_space: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(slow_space.read_text().replace("time.sleep", "time.no_such_function"))
    done = naxcli("plan", "--space", broken, "--run", tmp_path / "run", "--budget", "2m", "--epochs", "1", *WORKERS)
    assert done.returncode == 3, done.stderr
    assert "no trial could be timed" in done.stderr and "Traceback" not in done.stderr


def test_one_timed_trial_gives_an_interval_too(slow_space: Path, tmp_path: Path) -> None:
    flags = ["--run", tmp_path / "run", "--budget", "5s", "--epochs", "1", "--json", *WORKERS]
    made = json.loads(naxcli("plan", "--space", slow_space, *flags).stdout)
    assert made["calibration_trials"] <= 2
    rung = made["rungs"][0]
    assert rung["low"] <= rung["expected"] <= rung["high"] and rung["low"] < rung["high"]


def test_a_plan_needs_a_budget(tiny_space: Path, tmp_path: Path) -> None:
    done = naxcli("plan", "--space", tiny_space, "--run", tmp_path / "run")
    assert done.returncode == 2 and "--budget" in done.stderr


def test_status_tells_how_well_each_rung_ranks(slow_space: Path, tmp_path: Path) -> None:
    slow_space.write_text(slow_space.read_text().replace("SLEEP_SECONDS = 0.2", "SLEEP_SECONDS = 0.0"))
    slow_space.write_text(
        slow_space.read_text().replace("0.3 / fidelity", "0.1 * seed / fidelity - config['depth'] * (fidelity < 3)")
    )
    run = tmp_path / "run"
    done = naxcli("search", "--space", slow_space, "--run", run, "--fidelity", "1:9:3", "--trials", "80", *WORKERS)
    assert done.returncode == 0, done.stderr
    audit = {rung["fidelity"]: rung for rung in json.loads(naxcli("status", run, "--json").stdout)["proxy_audit"]}
    assert audit[3]["spearman"] == pytest.approx(1) and audit[3]["verdict"] == "keeps the order"
    assert audit[1]["verdict"] != "keeps the order"
    shown = " ".join(naxcli("status", run).stdout.split())
    assert "fidelity 3: rank correlation with 9 1.00" in shown
