"""The Python API: a search from a script, a notebook or another program, and what its run answers."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace

import naxcli
from naxcli import Limits, NaxcliError, Run, Space, open_run, run_search
from naxcli.analysis.methods import METHODS
from naxcli.commands.bar import SearchBar
from naxcli.commands.run import reference_of
from naxcli.search_space.contract import load_space
from naxcli.settings.experiment import Experiment
from tests.command_line import ENVIRONMENT
from tests.command_line import naxcli as naxcli_command

REPOSITORY = Path(__file__).parents[2]


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("a", [0, 1, 2]))
    return space


def evaluate(config: Mapping[str, Any], *, fidelity: float, seed: int) -> float:
    return float(config["a"])


def zero_cost(config: Mapping[str, Any]) -> dict[str, float]:
    return {"num_params": 100.0 * config["a"]}


# The space of a module that can be imported: this one.
SPACE = Space(name="importable", configspace=configspace, evaluate=evaluate, zero_cost=zero_cost)

# Writes down how often it is begun.
UNGUARDED = """
from naxcli import run_search
with open("beginnings", "a") as file:
    file.write("x")
run = run_search("tiny.py", trials=3, run="out", workers=1, searcher="random", progress=False)
print(len(run.trials), run.incumbent.num_seeds)
"""


@pytest.fixture
def run(inline: None, tiny_space: Path, tmp_path: Path) -> Run:
    """A finished search of 12 trials."""
    return run_search(tiny_space, trials=12, run=tmp_path / "run", searcher="random", workers=1, progress=False)


def python(program: str | None, *arguments: str, folder: Path) -> str:
    """Run Python in a folder, the program from standard input where it is no file, and return what it printed."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY), "NAXCLI_WORKERS": "1", "NAXCLI_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        input=program,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the names


def test_the_names_of_the_api_are_no_folders() -> None:
    folders = {path.name for path in Path(naxcli.__file__).parent.iterdir() if path.is_dir()}
    assert not folders & set(naxcli.__all__)
    assert all(hasattr(naxcli, name) for name in naxcli.__all__)
    assert set(naxcli.__all__) <= set(dir(naxcli))


def test_a_name_that_the_api_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        naxcli.serach  # noqa: B018


# -- a search


def test_a_search_returns_its_run(run: Run, tmp_path: Path) -> None:
    assert run.path == tmp_path / "run"
    assert len(run.trials) == 12
    assert run.incumbent is not None and run.incumbent.cost == run.trials["cost"].min()
    assert run.settings.searcher == "random"


def test_the_same_search_with_more_trials_extends_its_run(run: Run, tiny_space: Path) -> None:
    extended = run_search(tiny_space, trials=15, run=run.path, progress=False)
    assert extended == run and len(run.trials) == 15


def test_another_setting_is_refused_as_the_command_refuses_it(run: Run, tiny_space: Path) -> None:
    with pytest.raises(NaxcliError, match="is a run with other settings") as caught:
        run_search(tiny_space, trials=15, run=run.path, seed=7, progress=False)
    assert "seed: 0 in the run, 7 now" in caught.value.why


def test_settings_are_those_of_the_command(inline: None, tmp_path: Path) -> None:
    run = run_search(
        SPACE,
        trials=2,
        run=tmp_path / "run",
        seed=3,
        workers=1,
        limits=Limits(max_params=100),
        recipe={"mixup": 0.25},
        fidelity="1:9:3",
        progress=False,
    )
    assert run.settings.seed == 3 and run.settings.limits == Limits(max_params=100)
    assert run.settings.recipe.mixup == 0.25 and str(run.settings.fidelity) == "1:9:3"
    assert set(run.trials["config.a"]) <= {0, 1}


def test_an_unknown_setting_is_named(tiny_space: Path) -> None:
    with pytest.raises(NaxcliError, match="unknown setting trails"):
        run_search(tiny_space, trails=3)


def test_a_search_without_an_end_is_refused(tiny_space: Path, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="has no end"):
        run_search(tiny_space, run=tmp_path / "run", progress=False)


def test_a_search_in_which_nothing_succeeds_still_returns_its_run(inline: None, tmp_path: Path) -> None:
    space = tmp_path / "bad.py"
    space.write_text(
        "from ConfigSpace import ConfigurationSpace\nfrom naxcli import Space\n"
        "def configspace(seed=None):\n    return ConfigurationSpace({'a': [0, 1, 2]}, seed=seed)\n"
        "def evaluate(config, *, fidelity, seed):\n    raise RuntimeError('no luck')\n"
        "SPACE = Space(name='bad', configspace=configspace, evaluate=evaluate)\n"
    )
    run = run_search(space, trials=2, run=tmp_path / "run", searcher="random", workers=1, progress=False)
    assert run.incumbent is None
    assert list(run.trials["status"]) == ["crashed"] * 2 and run.trials["error"].str.contains("no luck").all()


def test_ctrl_c_ends_the_caller_too(
    inline: None, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naxcli.workers.shutdown.Interruption.is_set", property(lambda self: True))
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny_space, trials=9, run=tmp_path / "run", workers=1, progress=False)
    monkeypatch.undo()
    assert open_run(tmp_path / "run").settings.trials == 9


def test_the_bar_shows_trials_time_and_the_best(
    inline: None, tiny_space: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_search(tiny_space, trials=5, run=tmp_path / "run", searcher="random", workers=1)
    shown = capfd.readouterr().err
    assert run.incumbent is not None
    assert "5 of 5 trials" in shown and f"best cost {run.incumbent.cost:.6g}" in shown and "left" in shown


def test_a_quiet_bar_shows_nothing(
    inline: None, tiny_space: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_search(tiny_space, trials=3, run=tmp_path / "run", searcher="random", workers=1, progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_notice_of_a_stranger_cannot_move_the_cursor(capfd: pytest.CaptureFixture[str]) -> None:
    bar = SearchBar(Experiment(space="tiny", data=None), is_accuracy=False)
    bar.notice("\x1b[2Jfolder [red]x[/red]")
    assert capfd.readouterr().err == "\\u001b[2Jfolder [red]x[/red]\n"


# -- where the space and the program are


def test_a_script_without_a_guard_runs_once(tiny_space: Path) -> None:
    folder = tiny_space.parent
    (folder / "script.py").write_text(UNGUARDED)
    assert python(None, "script.py", folder=folder) == "3 1\n"
    assert (folder / "beginnings").read_text() == "x"


def test_a_notebook_whose_event_loop_runs_can_search(tiny_space: Path) -> None:
    """As a notebook's kernel: no file of a main module, and a loop of asyncio that runs; the space is an imported object."""
    lines = ["from tiny import SPACE", *UNGUARDED.replace('"tiny.py"', "SPACE").strip().splitlines()]
    cell = "".join(f"    {line}\n" for line in lines)
    program = f"import asyncio\nasync def cell():\n{cell}asyncio.run(cell())\n"
    assert python(program, "-", folder=tiny_space.parent) == "3 1\n"
    assert (tiny_space.parent / "beginnings").read_text() == "x"


def test_the_main_module_has_its_name_and_file_back(
    inline: None, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)  # a process of pytest-xdist has none
    before = (main.__spec__, "script.py")
    run_search(tiny_space, trials=1, run=tmp_path / "run", searcher="random", workers=1, progress=False)
    assert (main.__spec__, getattr(main, "__file__", None)) == before


def test_a_space_that_was_loaded_is_loaded_again_from_there(tiny_space: Path) -> None:
    assert reference_of(load_space(str(tiny_space))) == str(tiny_space)
    assert reference_of(load_space("nexception")) == "nexception"


def test_a_space_of_an_imported_module_is_loaded_from_it() -> None:
    assert reference_of(SPACE) == f"{__name__}:SPACE"


def test_a_space_object_is_searched(inline: None, tmp_path: Path) -> None:
    run = run_search(SPACE, trials=3, run=tmp_path / "run", searcher="random", workers=1, progress=False)
    assert run.incumbent is not None and run.incumbent.cost == 0.0


def test_a_space_that_no_module_holds_is_refused_with_a_hint() -> None:
    space = Space(name="mine", configspace=configspace, evaluate=evaluate)
    with pytest.raises(NaxcliError, match="no other process can load the space 'mine'") as caught:
        run_search(space, trials=3)
    assert "mine.py" in caught.value.hint


@pytest.mark.parametrize("part", ["evaluate", "configspace", "groups"])
def test_a_space_that_was_changed_after_it_was_loaded_is_refused(tiny_space: Path, part: str) -> None:
    changed = {
        "evaluate": evaluate,
        "configspace": configspace,
        "groups": {"other": ["kind"]},
    }[part]
    space = replace(load_space(str(tiny_space)), **{part: changed})
    with pytest.raises(NaxcliError, match="is not the one of"):
        reference_of(space)


# -- a run


def test_the_newest_run_is_opened_by_default(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NaxcliError, match="no run under runs"):
        open_run()
    Path("runs").mkdir()
    run.path.rename("runs/one")
    assert open_run().path == Path("runs/one")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="there is no run"):
        open_run(tmp_path)


def test_trials_are_those_of_the_parquet_file(run: Run) -> None:
    pd.testing.assert_frame_equal(run.trials, pd.read_parquet(run.path / "trials.parquet"))
    pd.testing.assert_frame_equal(run.curves, pd.read_parquet(run.path / "curves.parquet"))


def test_the_incumbent_is_that_of_every_command(run: Run) -> None:
    assert run.incumbent is not None
    expected = run.incumbent.to_json()
    assert run.status()["incumbent"] == expected
    assert run.report(methods=(), bootstrap=0).to_dict()["incumbent"] == expected
    assert {"config": dict(run.incumbent.config), "fidelity": run.incumbent.fidelity}.items() <= expected.items()


def test_status_and_report_are_what_the_commands_print(run: Run) -> None:
    def printed(*words: str) -> dict[str, object]:
        value: dict[str, object] = json.loads(naxcli_command(*words, "--json").stdout)
        return value

    assert run.status() == printed("status", str(run.path))
    assert run.report(bootstrap=3, at=1, seed=2).to_dict() == printed(
        "report", str(run.path), "--bootstrap", "3", "--at", "1", "--seed", "2"
    )


def test_importance_is_a_data_frame_per_method(run: Run) -> None:
    report = run.report(bootstrap=2)
    entry = report.to_dict()["importance"][0]
    assert tuple(report.importance) == METHODS
    for method, frame in report.importance.items():
        # Twelve trials are too few to tell the best ones of.
        assert (len(frame) > 0) == (method != "ped_anova")
        assert len(frame) == len(entry[method])
        assert (frame["fidelity"] == 1.0).all()
    lpi = report.importance["lpi"].set_index("name")["mean"]
    assert lpi.to_dict() == {row["name"]: row["mean"] for row in entry["lpi"]}
    assert ("depth", "kind") in set(report.importance["fanova"]["names"])


def test_a_method_that_was_not_asked_for_has_an_empty_table(run: Run) -> None:
    importance = run.report(methods=["lpi"], bootstrap=0).importance
    assert len(importance["lpi"]) == 4
    assert importance["shapley"].empty and list(importance["shapley"]) == ["fidelity", "name", "value", "low", "high"]


def test_a_notebook_shows_the_page_of_the_report_in_a_frame(run: Run) -> None:
    report = run.report(bootstrap=0)
    shown = report._repr_html_()
    assert shown is not None and shown.startswith("<iframe srcdoc=") and shown.count("<") == 2
    assert report.to_html().startswith("<!DOCTYPE html>")
    assert str(report) == report.to_markdown() and "Hyperparameters" in str(report)
    assert "12 trials" in repr(report)


def test_without_plotly_a_notebook_shows_the_tables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    report = run.report(bootstrap=0)
    assert report._repr_html_() is None and report._repr_markdown_() == report.to_markdown()


def test_an_exported_configuration_is_that_of_the_trial(run: Run, tmp_path: Path) -> None:
    lines: list[str] = []
    path = run.export(format="config", out=tmp_path / "exported", trial=2, on_notice=lines.append)
    config = run.trials.set_index("trial_id").filter(like="config.").loc[2]
    assert json.loads(path.read_text())["config"] == {
        name.removeprefix("config."): value for name, value in config.items()
    }
    assert lines == [f"wrote {path}"]


def test_a_whole_run_is_exported_to_a_folder(run: Run, tmp_path: Path) -> None:
    assert run.export(format="deepcave", out=tmp_path / "cave") == tmp_path / "cave"


def test_the_space_of_a_strangers_run_is_loaded_only_where_it_is_named(run: Run, tiny_space: Path) -> None:
    with pytest.raises(NaxcliError, match="the run's space is the file"):
        open_run(run.path).build_network()
    with pytest.raises(NaxcliError, match="makes no networks"):
        open_run(run.path, space=tiny_space).build_network()


# -- the page


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


@pytest.mark.usefixtures("inline", "not_loaded_back")
def test_the_page_on_python_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One program of all its blocks: a search on the digits, of few images, report, network, export."""
    monkeypatch.chdir(tmp_path)
    few = {"IMAGES_PER_CLASS": "20", "RECIPE__BATCH_SIZE": "8"}
    for name, value in {"WORKERS": "1", "THREADS": "1", **few}.items():
        monkeypatch.setenv(f"NAXCLI_{name}", value)
    (tmp_path / "page.py").write_text("\n".join(blocks(REPOSITORY / "docs" / "python.md")))
    runpy.run_path("page.py", run_name="__main__")
    shown = capsys.readouterr().out
    assert "success" in shown and "normalization" in shown
    assert Path(tmp_path, shown.splitlines()[-1]).is_file()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["nexception-digits"]


def test_the_page_on_python_is_linked() -> None:
    assert "docs/python.md" in (REPOSITORY / "README.md").read_text()
    assert "(python.md)" in (REPOSITORY / "docs" / "guide.md").read_text()
