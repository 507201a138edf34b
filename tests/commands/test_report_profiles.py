"""The report of a run whose space declares a profile by block."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from naxcli.cli import app
from naxcli.commands.run import Run
from naxcli.errors import NaxcliError
from naxcli.search_space.contract import Space
from tests.inline import search_inline

STAIRS = """
from ConfigSpace import ConfigurationSpace, Integer
from naxcli import Space

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Integer("first", (1, 40)))
    return space

def evaluate(config, *, fidelity, seed):
    return {"cost": config["first"] / 40, "num_params": 100 * config["first"]}

def stairs(config):
    return [config["first"] + block for block in range(3)]

SPACE = Space(name="stairs", configspace=configspace, evaluate=evaluate, profiles={"channels": stairs})
"""


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a space of which 20 configurations were evaluated in `run`, beside it."""
    file = tmp_path / "stairs.py"
    file.write_text(STAIRS)
    search_inline(file, tmp_path / "run", monkeypatch, trials=20)
    return file


def test_tenths_and_profiles_are_in_the_numbers_the_tables_and_the_figures_of_a_report(space: Path) -> None:
    run = Run(space.parent / "run", space=str(space))
    report = run.report(methods=("lpi",), bootstrap=0)
    costs = sorted(run.trials["cost"])
    found = {entry["tenth"]: entry for entry in report.to_dict()["tenths"]}
    assert found["top"]["cost"]["mean"] == pytest.approx(sum(costs[:2]) / 2)
    assert found["bottom"]["num_params"]["mean"] == pytest.approx(100 * 40 * sum(costs[-2:]) / 2)
    firsts = {name: entry["profiles"]["channels"][0]["mean"] for name, entry in found.items()}
    assert firsts["top"] < firsts["middle"] < firsts["bottom"]
    assert [point["mean"] - firsts["top"] for point in found["top"]["profiles"]["channels"]] == [0, 1, 2]
    page = report.to_html()
    assert "The best, the middle and the worst 10 % of the configurations" in page and "Channels by block" in page
    assert "## Best, middle and worst" in report.to_markdown() and "Channels by block" in report.to_markdown()


def test_a_report_on_a_run_without_a_finished_trial_says_so(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naxcli.records.database.Records._finished_rows", lambda _: [])
    shown = CliRunner().invoke(app, ["report", str(space.parent / "run")])
    assert shown.exit_code == 0, shown.output
    assert "none finished" in shown.output and "There are no trials yet." in shown.output


def test_a_profile_of_a_space_that_is_code_needs_its_name(space: Path) -> None:
    arguments = ["report", str(space.parent / "run"), "--method", "lpi", "--bootstrap", "0", "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert [entry["profiles"] for entry in found["tenths"]] == [{}, {}, {}]
    assert any("profiles by block (channels) are left out" in text and "--space" in text for text in found["warnings"])
    named = json.loads(CliRunner().invoke(app, [*arguments, "--space", str(space)]).stdout)
    assert all(entry["profiles"]["channels"] for entry in named["tenths"])
    assert not any("left out" in text for text in named["warnings"])


def test_a_profile_that_fails_since_the_run_costs_the_report_nothing_else(space: Path) -> None:
    space.write_text(STAIRS.replace('config["first"] + block', 'config["second"] + block'))
    report = Run(space.parent / "run", space=str(space)).report(methods=("lpi",), bootstrap=0)
    assert any("profile channels of space 'stairs' raised KeyError" in text for text in report.warnings)
    assert len(report.to_dict()["tenths"]) == 3


def test_a_profile_that_fails_for_some_configurations_is_left_out_of_those(space: Path) -> None:
    failing = '(config["first"] if config["first"] > 10 else config["gone"]) + block'
    space.write_text(STAIRS.replace('config["first"] + block', failing))
    report = Run(space.parent / "run", space=str(space)).report(methods=("lpi",), bootstrap=0)
    assert sum("profile channels is left out of configurations like" in text for text in report.warnings) == 1
    assert [len(entry["profiles"]["channels"]) for entry in report.to_dict()["tenths"]] == [0, 3, 3]
    assert "Channels by block" in report.to_html()


def test_a_profile_is_named_as_a_file_can_be() -> None:
    with pytest.raises(NaxcliError, match=r"the profile '\.\./x' of space 'own'"):
        Space(
            name="own", configspace=lambda seed: None, evaluate=lambda config: 0, profiles={"../x": lambda config: []}
        )
