from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from naxcli.commands.plan import NUM_CALIBRATION_TRIALS, Share, ways_to_more_trials
from naxcli.commands.session import SearchRequest, Session, open_session
from tests.command_line import naxcli

WORKERS = ["--workers", "1"]


@pytest.fixture
def slow_space(slow_space: Path) -> Path:
    """The slow space with 1,200 configurations, so that it does not run out."""
    slow_space.write_text(slow_space.read_text().replace("[1, 2, 3, 4, 5]", "list(range(100))"))
    return slow_space


def plan(space: Path, run: Path, budget: str, *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return naxcli("plan", "--space", space, "--run", run, "--budget", budget, *flags, *WORKERS, **options)


@pytest.mark.usefixtures("inline")
def test_a_plan_foresees_the_trials_of_a_search(slow_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--space", slow_space, "--run", run, "--budget", "5m", *WORKERS]
    done = plan(slow_space, run, "5m", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    rung = made["rungs"][0]
    assert made["calibration_trials"] == NUM_CALIBRATION_TRIALS  # for which 5 % of the budget is enough
    assert rung["low"] <= rung["expected"] <= rung["high"]
    assert rung["expected"] == pytest.approx(300 / 0.2, rel=0.2)
    searched = naxcli("search", *arguments, "--searcher", "random", "--trials", "50")
    assert searched.returncode == 0, searched.stderr
    (compared,) = json.loads(naxcli("status", run, "--json").stdout)["plan"]
    assert compared["finished"] == len(pd.read_parquet(run / "trials.parquet")) == 50
    assert 25 < compared["planned"] < 200


@pytest.mark.usefixtures("inline")
def test_a_plan_counts_trials_per_rung(slow_space: Path, tmp_path: Path) -> None:
    done = plan(slow_space, tmp_path / "run", "2m", "--fidelity", "1:9:3", "--json")
    assert done.returncode == 0, done.stderr
    rungs = json.loads(done.stdout)["rungs"]
    assert [rung["fidelity"] for rung in rungs] == [1, 3, 9]
    assert rungs[0]["expected"] > rungs[1]["expected"] > rungs[2]["expected"] > 0


@pytest.mark.usefixtures("inline")
def test_too_small_a_budget_exits_with_3(slow_space: Path, tmp_path: Path) -> None:
    done = plan(slow_space, tmp_path / "run", "30s", "--fidelity", "1:729:3")
    assert done.returncode == 3, done.stderr
    assert "too little" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.usefixtures("inline")
def test_a_plan_of_which_every_trial_fails_exits_with_3(slow_space: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(slow_space.read_text().replace("time.sleep", "time.no_such_function"))
    done = plan(broken, tmp_path / "run", "2m", "--epochs", "1")
    assert done.returncode == 3, done.stderr
    assert "no trial could be timed" in done.stderr and "Traceback" not in done.stderr
    assert "12 crashed; the last one: AttributeError: module 'time' has no attribute 'no_such_function'" in done.stderr
    assert "Status" not in done.stderr and "--budget" not in done.stderr  # more of it would only crash more


@pytest.mark.usefixtures("inline")
def test_one_timed_trial_gives_an_interval_too(slow_space: Path, tmp_path: Path) -> None:
    slow_space.write_text(slow_space.read_text().replace("SLEEP_SECONDS = 0.2", "SLEEP_SECONDS = 1.5"))
    made = json.loads(plan(slow_space, tmp_path / "run", "20s", "--epochs", "1", "--json").stdout)
    assert made["calibration_trials"] == 1
    rung = made["rungs"][0]
    assert rung["low"] <= rung["expected"] <= rung["high"] and rung["low"] < rung["high"]


def test_a_trial_that_takes_longer_than_the_plans_share_ends_with_it(slow_space: Path, tmp_path: Path) -> None:
    slow_space.write_text(slow_space.read_text().replace("SLEEP_SECONDS = 0.2", "SLEEP_SECONDS = 600.0"))
    done = plan(slow_space, tmp_path / "run", "20s")
    assert done.returncode == 3, done.stderr
    assert "5% of the budget, 1.0s, and no trial ended" in done.stderr and "a larger --budget" in done.stderr


def _session(space: Path, run: Path, *, has_networks: bool, **flags: Any) -> Session:
    if has_networks:
        space.write_text(space.read_text().replace("evaluate=evaluate", "build=evaluate"))
    settings = {"budget": "1m", "data": "digits" if has_networks else None, **flags}
    return open_session(SearchRequest(space=str(space), flags=settings, run=str(run)))


def test_what_is_advised_gives_more_trials(tiny_space: Path, tmp_path: Path) -> None:
    objective = _session(tiny_space, tmp_path / "run", has_networks=False)
    assert ways_to_more_trials(objective) == ["a larger --budget"]
    networks = _session(tiny_space, tmp_path / "run", has_networks=True, width=0.06, epochs=1)
    assert ways_to_more_trials(networks) == ["a larger --budget", "narrower networks (--set width=0.03)"]
    for fidelity, fewer in (("3:27:3", "--fidelity 3:9:3"), ("3:9:3", "--epochs 3"), ("9", "--epochs 4")):
        session = _session(tiny_space, tmp_path / "run", has_networks=True, fidelity=fidelity)
        advised = next(way for way in ways_to_more_trials(session) if "(--" in way).partition("(")[2].rstrip(")")
        assert advised == fewer
        flag, value = advised.split()
        cheaper = _session(tiny_space, tmp_path / "run", has_networks=True, **{flag.removeprefix("--"): value})
        assert cheaper.experiment.fidelity.max < session.experiment.fidelity.max


def test_the_share_of_the_calibration_runs_from_the_first_trials_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("naxcli.commands.plan.time.monotonic", lambda: now[0])
    share = Share(5.0)
    now[0] = 60.0  # the workers start
    assert not share.is_spent() and share.left == 5.0
    share.hear({"trial_id": 0, "has_begun": True})
    now[0] = 63.0
    share.hear({"trial_id": 1, "has_begun": True})
    assert (share.start_seconds, share.spent, share.left) == (60.0, 3.0, 2.0)
    now[0] = 65.0
    assert share.is_spent()


@pytest.mark.usefixtures("inline")
def test_a_plan_says_what_it_minimises_and_whose_settings_it_takes(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--space", tiny_space, "--run", run, "--objective", "params", *WORKERS]
    assert naxcli("search", *flags, "--trials", "2").returncode == 0
    done = naxcli("plan", "--run", run, "--space", tiny_space, "--budget", "1m")
    assert done.returncode == 0, done.stderr
    assert "objectives: cost,params" in done.stderr
    assert f"{run} is an existing run: what you do not set is as it is there" in done.stderr
    assert "epoch" not in done.stderr + done.stdout and "on 1 worker " in done.stdout
    assert "60 to 60" in done.stdout  # the space has no more, and they are enough
    other = naxcli("plan", "--run", run, "--space", tiny_space, "--budget", "1m", "--objective", "cost")
    assert other.returncode == 2 and "leave out --objective" in other.stderr


def test_a_plan_needs_a_budget(tiny_space: Path, tmp_path: Path) -> None:
    done = naxcli("plan", "--space", tiny_space, "--run", tmp_path / "run")
    assert done.returncode == 2 and "--budget" in done.stderr


@pytest.mark.usefixtures("inline")
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
