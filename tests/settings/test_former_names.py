"""Settings of earlier versions, in old run directories, files and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from naxcli.errors import NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.settings.experiment import Experiment, differences
from naxcli.settings.sources import resolve

FORMER = """\
space = "nexception"
data = "digits"
data_resident = "never"
fidelity = "1:9:3"
rung_schedule = "trunk"

[recipe]
schedule = "trunk"
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "experiment.toml").write_text(FORMER)
    return RunDirectory(path=tmp_path)


def is_translated(experiment: Experiment) -> bool:
    schedules = {experiment.recipe.schedule, experiment.rung_schedule, experiment.trial_recipe().schedule}
    return experiment.data_in_memory == "never" and schedules == {"warmup_stable_decay"}


def test_the_settings_of_an_old_run_are_read_under_their_present_names(run: RunDirectory) -> None:
    assert is_translated(run.experiment())


def test_an_old_run_goes_on_with_a_shorter_command_and_with_its_whole_one(run: RunDirectory) -> None:
    shorter = resolve(flags={}, stored=run.settings(), environment={})
    assert is_translated(shorter) and not differences(run.experiment(), shorter)
    for name in ("data_resident", "data_in_memory"):
        same = resolve(flags={}, assignments=[f"{name}=never"], stored=run.settings(), environment={})
        assert not differences(run.experiment(), same)
        other = resolve(flags={}, assignments=[f"{name}=always"], stored=run.settings(), environment={})
        assert differences(run.experiment(), other) == [("data_in_memory", "never", "always")]


def test_an_old_experiment_file_and_an_old_variable_still_work(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(FORMER)
    assert is_translated(resolve(flags={}, experiment_file=str(file), environment={}))
    variables = {"NAXCLI_DATA_RESIDENT": "never", "NAXCLI_RECIPE__SCHEDULE": "trunk"}
    assert is_translated(resolve(flags={"space": "nexception", "fidelity": "1:9:3"}, environment=variables))


def test_what_a_present_run_writes_has_the_present_names_only(run: RunDirectory) -> None:
    text = run.experiment().to_toml()
    assert "trunk" not in text and "data_resident" not in text


def test_an_unknown_setting_is_still_refused() -> None:
    with pytest.raises(NaxcliError, match="unknown setting data_residence"):
        resolve(flags={"space": "nexception"}, assignments=["data_residence=never"], environment={})
