"""`naxcli study rank`: the study of random layers, and that of a run's networks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from naxcli.cli import app
from naxcli.commands.study_rank import RankRequest, study_checkpoints, study_random_layers
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import open_run
from naxcli.search.retention import CheckpointPolicy
from naxcli.studies.rank import ACTIVATIONS, TOLERANCE
from tests.inline import search_inline

EVALUATES = """
from ConfigSpace import ConfigurationSpace, Integer
from naxcli import Space

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Integer("n", (0, 99)))
    return space

def evaluate(config, *, fidelity, seed):
    return config["n"] / 100

SPACE = Space(name="numbers", configspace=configspace, evaluate=evaluate)
"""

NETWORKS = """
from ConfigSpace import ConfigurationSpace, Integer
from naxcli import Space
from torch import nn

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Integer("hidden", (4, 40)))
    return space

def build(config, *, num_classes, in_channels, image_size, width=1.0):
    first = nn.Linear(in_channels * image_size**2, config["hidden"])
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(config["hidden"], num_classes))

SPACE = Space(name="layers", configspace=configspace, build=build)
"""


def test_every_claim_has_a_verdict_for_every_layer_at_the_fixed_tolerance_and_around_it() -> None:
    done: list[tuple[int, int]] = []
    found = study_random_layers(RankRequest(num_networks=12), lambda *numbers: done.append(numbers))
    assert done[-1] == (12, 12)
    assert found["tolerance"] == TOLERANCE and found["linear_deviation"] == 0
    assert len({(row["claim"], row["layer"]) for row in found["claims"]}) == len(found["claims"]) == 3 * 4
    for row in found["claims"]:
        tolerances = [other["tolerance"] for other in row["at_other_tolerances"]]
        assert tolerances == pytest.approx([10 * TOLERANCE, TOLERANCE / 10])
    assert sum(row["num_networks"] for row in found["rank_ratios"]) == 12 * 4 * 8


def test_the_page_on_rexnet_says_what_the_study_finds() -> None:
    """Of 1,000 networks; fewer are the first of them, and decide alike where differences are not tiny."""
    page = " ".join((Path(__file__).parents[2] / "docs" / "rexnet.md").read_text(encoding="utf-8").split())
    assert f"{RankRequest().num_networks:,} networks, seed {RankRequest().seed}" in page
    assert f"a singular value below {TOLERANCE:g} of the largest" in page
    found = study_random_layers(RankRequest(num_networks=40))
    for row in found["claims"]:
        if row["layer"] == "conv1x1":
            written = re.search(rf"\| {row['says']} \| 1x1 \| (\S+) [^|]* \| (\w+) \|", page)
            assert written is not None
            assert row["verdict"] in (written.group(2), "undecided") and row["mean"] * float(written.group(1)) > 0, row
    means = {(row["activation"], row["to"]): row["mean"] for row in found["rank_ratios"] if row["layer"] == "conv1x1"}
    for activation in ACTIVATIONS:
        written = re.search(rf"\| {activation} \| ([\d.]+) ± [\d.]+ \|", page)
        assert written is not None
        assert float(written.group(1)) == pytest.approx(means[activation, 0.4], abs=0.1)


def test_the_command_prints_tables_or_json() -> None:
    arguments = ["study", "rank", "--networks", "10", "--tolerance", "0.05", "--seed", "1"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "tolerance 0.05" in shown.output and "SiLU and ELU expand the rank more than ReLU and ReLU6?" in shown.output
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert printed["tolerance"] == 0.05 and printed["num_networks"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "3"], "fewer than 10 say nothing"),
        (["--tolerance", "1.5"], "--tolerance is 1.5"),
        (["--space", "rexnet"], "--space is of a run's networks"),
        (["--device", "cpu"], "--device is of a run's networks"),
        (["--run", "runs/a", "--networks", "20"], "--networks is of the study of random layers"),
        (["--run", "runs/a", "--tolerance", "0.1", "--seed", "0"], "--tolerance and --seed are of the study"),
    ],
)
def test_impossible_settings_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["study", "rank", *arguments])
    assert result.exit_code == ExitCode.USAGE and message in result.output


def test_a_run_without_networks_has_no_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numbers.py").write_text(EVALUATES)
    search_inline(tmp_path / "numbers.py", tmp_path / "run", monkeypatch, trials=3)
    with pytest.raises(NaxcliError, match="has no networks"):
        study_checkpoints(open_run(str(tmp_path / "run")))


def test_features_of_kept_weights_are_correlated_with_accuracy_and_too_few_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, folder = tmp_path / "layers.py", tmp_path / "run"
    space.write_text(NETWORKS)
    monkeypatch.setattr(CheckpointPolicy, "_prune", lambda _: None)  # as a search over many rungs keeps several
    monkeypatch.setattr(CheckpointPolicy, "keep_if_cost_below", lambda *_: None)
    search_inline(space, folder, monkeypatch, trials=4, data="digits", epochs=1)
    run = open_run(str(folder))
    kept = sorted(run.checkpoint_files())
    assert len(kept) == 4
    found = study_checkpoints(run, space=str(space))
    assert [row["trial_id"] for row in found["trials"]] == kept
    for row in found["trials"]:
        assert found["num_images"] > row["num_features"] and row["nuclear_norm"] > 0
        assert 0 < row["nuclear_norm_share"] <= 1 and 0 <= row["val_accuracy"] <= 1
    assert [row["name"] for row in found["correlations"]] == ["nuclear_norm", "nuclear_norm_share"]
    assert all(-1 <= row["low"] <= row["mean"] <= row["high"] <= 1 for row in found["correlations"])
    shown = CliRunner().invoke(app, ["study", "rank", "--run", str(folder), "--space", str(space)])
    assert shown.exit_code == 0 and "Rank correlation with accuracy" in shown.output, shown.output
    for trial_id in kept[3:]:
        run.checkpoint(trial_id).unlink()
    with pytest.raises(NaxcliError, match="kept the weights of 3 trials, and at least 4 are needed"):
        study_checkpoints(run, space=str(space))
