"""What studies leave in a run: whole or not at all, taken up again, and deleted with the run only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from naxcli.errors import NaxcliError
from naxcli.records import studies
from naxcli.records.directory import RunDirectory
from naxcli.records.studies import StudyFile, read_studies, study_name

SETTINGS = {"trial": {"trial_id": 3}, "seed": 0}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(path=tmp_path)


def begin(run: RunDirectory, **settings: object) -> StudyFile:
    return StudyFile(run, "lesion", networks=["trial 3"], settings={**SETTINGS, **settings})


def test_an_interrupted_study_goes_on_with_the_rows_that_it_had(run: RunDirectory) -> None:
    with pytest.raises(KeyboardInterrupt), begin(run) as file:
        file.add({"name": "a", "val_loss": 1.0})
        raise KeyboardInterrupt
    assert read_studies(run) == []  # not finished
    with begin(run) as file:
        assert not file.is_finished and [row["name"] for row in file.rows] == ["a"]
        file.state_file.write_bytes(b"state")
        file.add({"name": "b", "val_loss": None})
        found = file.finish({"device": "cpu"}, {"num_blocks": 2})
    (stored,) = read_studies(run)
    assert stored == found and stored.facts["device"] == "cpu" and stored.facts["seconds"] > 0
    assert [path.name for path in run.study_files()] == [f"{study_name('lesion', SETTINGS)}.json"]
    assert begin(run).is_finished
    assert not begin(run, seed=1).is_finished


def test_rows_reach_the_disk_before_a_study_ends(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves, at which nothing is written any more."""
    monkeypatch.setattr(studies, "SECONDS_BETWEEN_WRITES", -1.0)
    file = begin(run).__enter__()
    file.add({"name": "a", "val_loss": 1.0})
    assert [row["name"] for row in begin(run).rows] == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"schema": 2, "study": "lesion", "settings": {}, "facts": {}, "rows": [], "networks": []}),
        json.dumps({"schema": 1, "study": "lesion", "settings": {}, "facts": {}, "rows": {}, "networks": []}),
        json.dumps(
            {"schema": 1, "study": "lesion", "settings": {}, "facts": {}, "rows": [{"val_loss": "x"}], "networks": []}
        ),
    ],
)
def test_a_file_that_is_no_study_is_an_error_that_names_it(run: RunDirectory, content: str) -> None:
    run.studies.mkdir()
    path = run.studies / "lesion-0123456789ab.json"
    path.write_text(content)
    with pytest.raises(NaxcliError, match=path.name):
        read_studies(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"facts": {"seconds": "abc"}},
        {"facts": {"num_val_images": None}},
        {"summary": {"train_loss": "low"}},
        {"summary": {"num_blocks": 10**400}},
        {"summary": {"most_needed": 3}},
        {"summary": {"cycles": [{"cycle": "first"}]}},
        {"rows": [{"x": 0.0, "y": None, "train_loss": 1.0}]},
        {"rows": [{"x": float("inf")}]},
        {"rows": [{"on": None, "t": 0.5}]},
    ],
)
def test_a_study_whose_numbers_are_none_is_an_error_that_names_its_file(
    run: RunDirectory, changes: dict[str, object]
) -> None:
    with begin(run) as file:
        file.add({"x": 0.0, "train_loss": None, "on": "line"})
        file.finish(
            {"device": "cpu", "num_val_images": 3}, {"best_cycle": 1, "most_needed": "a", "cycles": [{"cycle": 1}]}
        )
    assert len(read_studies(run)) == 1
    file.path.write_text(json.dumps({**json.loads(file.path.read_text()), **changes}))
    with pytest.raises(NaxcliError, match=file.path.name):
        read_studies(run)


def test_a_new_run_in_the_folder_has_no_studies_of_the_old_one_and_files_of_others_stay(run: RunDirectory) -> None:
    ours = (
        "studies/path-0123456789ab.json",
        "studies/path-0123456789ab.safetensors",
        "studies/.path-0123456789ab.json.12.tmp",
        "confirmed/0123456789ab-7.pt",
        "confirmed/.0123456789ab-7.pt.12.tmp",
    )
    others = ("studies/notes.md", "studies/path-mine.json", "confirmed/best.pt")
    for name in (*ours, *others):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("x")
    run.clear()
    left = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert left == set(others)
