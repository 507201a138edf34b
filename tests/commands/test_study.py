"""`naxcli study`: from a run to its studies and back into the report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from naxcli.commands.path_ends import select_ends
from naxcli.commands.study_landscape import LandscapeRequest, study_landscape
from naxcli.commands.study_lesion import LesionRequest, study_lesion
from naxcli.commands.study_path import PathRequest, study_path
from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.studies import Study, read_studies
from naxcli.records.trial import Result, Status, Suggestion
from tests.command_line import naxcli
from tests.inline import InlinePool, search_inline

SPACE = '''
"""Residual networks of one or two blocks."""

from ConfigSpace import Categorical, ConfigurationSpace
from torch import nn

from naxcli import Space


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x):
        return x + self.branch(x)


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("depth", [1, 2], ordered=True))
    return space


def build(config, *, num_classes, in_channels, image_size, width=1.0):
    stem = nn.Conv2d(in_channels, 4, 3, stride=2)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
    return nn.Sequential(stem, *(Block(4) for _ in range(config["depth"])), *head)


SPACE = Space(name="small", configspace=configspace, build=build)
'''
RECIPE = {"batch_size": 256, "loss": "cross_entropy", "randaugment": "", "learning_rate": 0.01}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.py"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def searched(space: Path) -> RunDirectory:
    """A run on the digits of two trials, whose best is confirmed with two seeds that are kept."""
    folder = space.parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        search_inline(space, folder, patch, data="digits", trials=2, epochs=1, recipe=RECIPE)
        patch.setattr("naxcli.commands.confirm.WorkerPool", InlinePool)
        done = naxcli(
            *("confirm", folder, "--space", space, "--top", "1", "--seeds", "2", "--workers", "1", "--keep-checkpoints")
        )
        assert done.returncode == 0, done.stderr
    return RunDirectory(path=folder)


@pytest.fixture
def run(searched: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """The run, without studies; paths are measured at few places."""
    monkeypatch.setattr("naxcli.studies.energy_path.NUM_BETWEEN", 1)
    monkeypatch.setattr("naxcli.commands.study_path.NUM_ON_LINE", 1)
    for path in searched.study_files():
        path.unlink()
    return searched


def arguments(space: Path) -> dict[str, Any]:
    return {"space": str(space), "num_images": 32, "device": "cpu"}


def test_studies_are_printed_written_kept_and_shown_in_the_report(
    run: RunDirectory, space: Path, tmp_path: Path
) -> None:
    common = ("--space", space, "--images", "64", "--device", "cpu")
    line = naxcli("study", "landscape", run.path, *common, "--points", "3", "--plots", tmp_path / "plots")
    assert line.returncode == 0 and "Points of the slice" in line.stdout, line.stderr
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".png", ".svg"}
    plane = naxcli("study", "landscape", run.path, *common, "--points", "3", "--directions", "2")
    assert plane.returncode == 0 and "across, the first direction" in plane.stdout, plane.stderr
    lesion = naxcli("study", "lesion", run.path, *common, "--csv", tmp_path / "csv", "--json")
    found = json.loads(lesion.stdout)
    assert [row["kind"] for row in found["rows"]][:2] == ["whole", "identity"]
    with (tmp_path / "csv" / "study_lesion.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in found["rows"]]
    path = naxcli("study", "path", run.path, *common, "--cycles", "1", "--steps", "1")
    assert path.returncode == 0 and "The straight line" in path.stdout and "cycle 1/1: 3 pivots" in path.stderr
    report = tmp_path / "report.html"
    shown = naxcli(
        "report", run.path, "--method", "lpi", "--bootstrap", "0", "--html", report, "--csv", tmp_path / "all"
    )
    assert shown.returncode == 0, shown.stderr
    page = report.read_text()
    studies = read_studies(run)
    assert len(studies) == 4
    figures = {"landscape": ("loss", "accuracy"), "lesion": ("blocks",), "path": ("loss", "accuracy")}
    for study in studies:
        is_plane = any("y" in row for row in study.rows)
        assert f"id='{study.name}'" in page
        for quantity in ("surface",) if is_plane else figures[study.kind]:
            assert f"{study.name}-{quantity}-data" in page
    assert {"study_landscape.csv", "study_lesion.csv", "study_path.csv"} <= {
        path.name for path in (tmp_path / "all").iterdir()
    }


def test_the_network_in_the_middle_of_a_slice_is_the_trial_s_and_the_whole_one_of_a_lesion(
    run: RunDirectory, space: Path
) -> None:
    with Records.open(run) as records:
        best = min(records.finished(), key=lambda item: item.cost or 0.0)
    everything = {**arguments(space), "num_images": 0}
    slice_ = study_landscape(run, LandscapeRequest(**everything, num_points=3))
    lesion = study_lesion(run, LesionRequest(**everything))
    assert slice_.summary is not None and lesion.summary is not None
    assert slice_.summary["val_accuracy"] == lesion.summary["val_accuracy"] == pytest.approx(1 - (best.cost or 0.0))
    assert slice_.networks == (f"trial {best.trial.trial_id}",)


def interrupted_after(num_calls: int) -> Any:
    calls = 0

    def on_progress(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > num_calls:
            raise KeyboardInterrupt

    return on_progress


@pytest.mark.parametrize("kind", ["landscape", "path"])
def test_an_interrupted_study_ends_as_an_uninterrupted_one(run: RunDirectory, space: Path, kind: str) -> None:
    def study(on_progress: Any = lambda *_: None) -> Study:
        if kind == "landscape":
            return study_landscape(run, LandscapeRequest(**arguments(space), num_points=5), on_progress)
        return study_path(run, PathRequest(**arguments(space), num_cycles=2, num_steps=2), on_progress)

    whole = study()
    for path in run.study_files():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        study(interrupted_after(3))
    assert read_studies(run) == [] and run.study_files()
    again = study()
    assert again.rows == whole.rows and again.summary == whole.summary
    assert [path.suffix for path in run.study_files()] == [".json"]
    assert study(interrupted_after(0)) == again  # at once: it is finished


def test_what_cannot_be_studied_is_said(searched: RunDirectory, space: Path, tmp_path: Path) -> None:
    run = RunDirectory(path=tmp_path / "run")
    shutil.copytree(searched.path, run.path)
    with Records.open(run) as records:
        first, second = (item.trial for item in records.finished())
        suggestion = Suggestion(config=first.config, fidelity=1.0, seed=first.seed + 1)
        other = records.add_trial(suggestion, searcher="random", state="{}")
        records.add_result(other.trial_id, Result(status=Status.SUCCESS, cost=1.0, ended_at=1.0))
    kept = first.trial_id if run.checkpoint(first.trial_id).is_file() else second.trial_id
    messages = {
        ("landscape", "--trial", "77"): (2, "no finished trial 77"),
        ("lesion", "--trial", str(other.trial_id)): (1, f"it kept those of trial {kept}"),
        ("landscape", "--points", "4"): (2, "odd number"),
        ("landscape", "--radius", "0"): (2, "--radius"),
        ("lesion", "--trial", str(kept), "--device", "tpu"): (2, "tpu"),
        ("lesion", "--plots", str(space)): (2, "small.py"),
        ("path", "--trial", "1"): (2, "two ends"),
        ("path", "--trial", "1", "--trial", "1"): (2, "one training"),
        ("path", "--trial", "1", "--trial", "2"): (2, "two configurations"),
        ("path", "--trial", "1", "--trial", str(other.trial_id)): (1, "did not keep the weights"),
        ("path", "--steps", "0"): (2, "--steps"),
        ("path", "--confirmed", "top 9"): (2, "top 9"),
    }
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    for words, (code, text) in messages.items():
        done = naxcli("study", words[0], run.path, "--space", space, *words[1:])
        assert done.returncode == code and text in done.stderr.replace("\n", " "), (words, done.stderr)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()} == before


def test_a_run_without_networks_has_none_to_study(tiny_space: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        search_inline(tiny_space, tmp_path / "run", patch, trials=1)
    for words in (["lesion"], ["landscape"], ["path", "--trial", "1", "--trial", "1"]):
        done = naxcli("study", words[0], tmp_path / "run", "--space", tiny_space, *words[1:])
        assert done.returncode == 2 and "trains no networks" in done.stderr
    done = naxcli("study", "path", tmp_path / "run", "--space", tiny_space)
    assert done.returncode == 1 and "naxcli confirm --keep-checkpoints" in done.stderr.replace("\n", " ")
    done = naxcli("confirm", tmp_path / "run", "--space", tiny_space, "--keep-checkpoints")
    assert done.returncode == 2 and "trains no networks" in done.stderr
    assert not (tmp_path / "run" / "studies").exists()


def test_networks_of_another_confirmation_are_not_mistaken_for_those_of_this_one(
    run: RunDirectory, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naxcli.commands.confirm.WorkerPool", InlinePool)
    copy = RunDirectory(path=tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    kept = sorted(copy.confirmed.iterdir())
    command = ("confirm", copy.path, "--space", space, "--top", "1", "--seeds", "2", "--workers", "1")
    kept[0].unlink()
    again = naxcli(*command, "--keep-checkpoints")  # trains the one that is gone
    assert again.returncode == 0 and again.stderr.count("seed") == 1, again.stderr
    assert sorted(copy.confirmed.iterdir()) == kept
    assert naxcli(*command, "--epochs", "0.5").returncode == 0
    assert not list(copy.confirmed.iterdir())


def test_the_ends_of_a_confirmed_path_are_the_first_seeds_whatever_order_they_ended_in(
    run: RunDirectory, space: Path, tmp_path: Path
) -> None:
    copy = RunDirectory(path=tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    request = PathRequest(**arguments(space))
    names = select_ends(copy, (), None, request).names
    confirmation = copy.read_json(copy.confirmation_file)
    confirmation["results"].reverse()
    copy.confirmation_file.write_text(json.dumps(confirmation))
    assert select_ends(copy, (), None, request).names == names == sorted(names)


def test_a_request_with_an_impossible_number_is_refused() -> None:
    for wrong in ({"num_directions": 3}, {"num_points": 1}, {"radius": float("nan")}, {"num_images": -1}):
        with pytest.raises(NaxcliError):
            LandscapeRequest(**wrong)
    request = PathRequest(num_cycles=14, learning_rate=0.1)
    rates = [request.learning_rate_of(cycle) for cycle in range(14)]
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 4 + [0.001] * 4)
