"""The report on a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float
from rich.console import Console
from typer.testing import CliRunner

from naxcli.analysis.table import check_table
from naxcli.cli import app
from naxcli.commands.report import with_every_hyperparameter
from naxcli.errors import ExitCode, NaxcliError
from naxcli.report import ReportData, checklist
from naxcli.report.csv import write_csv
from naxcli.report.figures.files import write_plots
from naxcli.report.html import write_html
from naxcli.report.markdown import render_markdown, write_markdown
from naxcli.report.terminal import print_report
from tests.report.examples import CONFIRMATION, all_failed, empty_run, example_data, one_trial

RUNS = {"full": lambda: example_data(150), "empty": empty_run, "one trial": one_trial, "all failed": all_failed}
HOSTILE = "</td>|x|\x1b[31m`<b>\n# y"


@pytest.fixture(scope="module")
def data() -> ReportData:
    return example_data(150)


def printed(data: ReportData, *, width: int = 80, **choices: object) -> str:
    """Return what the report prints on a terminal without colour."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, no_color=True, color_system=None)
    print_report(console, data, **choices)  # type: ignore[arg-type]
    return stream.getvalue()


def with_summary(data: ReportData, **changes: object) -> ReportData:
    return dataclasses.replace(data, summary={**data.summary, **changes})


def test_a_terminal_too_narrow_for_a_table_shows_its_rows_one_below_the_other(data: ReportData) -> None:
    wide, narrow = printed(data, width=80), printed(data, width=40)
    assert max(map(len, narrow.splitlines())) <= 40
    cost = re.search(r"incumbent +(\d\.\d{4}) ", wide)
    assert cost is not None
    assert re.search(rf"Configuration +incumbent *\n *Cost +{cost[1]}", narrow), narrow
    assert "Difference" in narrow and "Seeds" in narrow


def test_a_search_of_several_objectives_shows_its_front_on_a_terminal(data: ReportData) -> None:
    several = dataclasses.replace(data, experiment={**data.experiment, "objective": "cost,params"})
    assert "Pareto front" in printed(several) and "Pareto front" not in printed(data)


def test_short_texts_are_whole_words_in_a_table_as_wide_as_the_terminal(data: ReportData) -> None:
    spread = {"mean": 0.1774, "std": 0.0013}
    sizes = {"num_params": {"mean": 307_000, "std": 73_900}, "flops": {"mean": 3_660_000, "std": 1_060_000}}
    tenths = [
        {"tenth": tenth, "num_configs": 10, "val_accuracy": spread, "cost": spread, **sizes, "profiles": {}}
        for tenth in ("top", "middle", "bottom")
    ]
    lines = printed(with_summary(data, tenths=tenths), width=80).splitlines()
    assert [line.split()[0] for line in lines if "307k ± 73.9k" in line] == ["Top", "Middle", "Bottom"]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(run: str, width: int) -> None:
    lines = printed(RUNS[run](), width=width, at="all").splitlines()
    assert lines
    assert max(map(len, lines)) <= width


def test_numbers_of_a_column_align_at_their_decimal_point(data: ReportData) -> None:
    table = printed(data, methods=("lpi",)).split("Hyperparameters\n")[1].split(" LPI:")[0]
    rows = [line for line in table.splitlines() if "±" in line]
    assert len(rows) == 13
    assert len({line.index("±") for line in rows}) == 1


def test_differences_from_the_incumbent_are_marked_without_colour(data: ReportData) -> None:
    config, row = data.summary["incumbent"]["config"], None
    for row in printed(data).split("side by side\n")[1].splitlines():
        if row.startswith("block "):
            break
    assert ("≠ xception" in row) == (config["block"] == "bottleneck")
    assert not row.split()[1].startswith("≠")


def test_a_cost_of_one_minus_accuracy_is_also_shown_as_accuracy(data: ReportData) -> None:
    cost = data.summary["incumbent"]["cost"]
    assert f"accuracy {100 * (1 - cost):.2f} %" in printed(data)
    other = dataclasses.replace(data, trials=data.trials.assign(val_accuracy=float("nan")))
    assert "accuracy" not in printed(other)


def test_the_highest_fidelity_is_shown_unless_another_is_asked_for(data: ReportData) -> None:
    assert re.findall(r"Importance at (\d+) epochs", printed(data)) == ["27"]
    assert re.findall(r"Importance at (\d+) epochs", printed(data, at="3")) == ["3"]
    assert re.findall(r"Importance at (\d+) epochs", printed(data, at="all")) == ["3", "9", "27"]


@pytest.mark.parametrize("choices", [{"at": 5}, {"at": "many"}, {"methods": ("lpi", "tarot")}])
def test_an_unknown_fidelity_or_method_is_a_clear_error(data: ReportData, choices: dict[str, object]) -> None:
    with pytest.raises(NaxcliError) as caught:
        printed(data, **choices)
    assert caught.value.hint


def test_only_the_methods_asked_for_are_shown(data: ReportData) -> None:
    text = printed(data, methods=("lpi",))
    assert "LPI" in text
    assert not any(word in text for word in ("fANOVA", "Ablation", "Shapley"))


def test_an_inactive_hyperparameter_is_called_inactive(data: ReportData) -> None:
    assert re.search(r"normalization_3 +inactive", printed(data))


def test_survivors_failures_and_warnings_are_told_and_warnings_come_last(data: ReportData) -> None:
    text = printed(data)
    assert "Survivors only" in " ".join(text.split())
    for failure in data.summary["failures"]:
        assert failure["status"].replace("_", " ") in text
    last = text.rstrip().split("Warnings\n")[1]
    assert last.count("!") == len(data.summary["warnings"])


def test_deepcave_s_lpi_is_labelled_and_its_spread_is_called_a_variance(data: ReportData) -> None:
    entries = [entry | {"lpi_method": "deepcave"} for entry in data.summary["importance"]]
    text = " ".join(printed(with_summary(data, importance=entries), methods=("lpi",)).split())
    assert "LPI as DeepCAVE computes it" in text
    assert "its ± is a variance" in text
    assert "± is the standard deviation" not in text


def test_without_a_bootstrap_there_is_no_interval_column(data: ReportData) -> None:
    entries = [
        entry | {"lpi": [row | {"low": None, "high": None, "rank_group": None} for row in entry["lpi"]]}
        for entry in data.summary["importance"]
    ]
    text = (
        printed(with_summary(data, importance=entries), methods=("lpi",))
        .split("Hyperparameters\n")[1]
        .split("Groups")[0]
    )
    assert "interval" not in text
    assert "Rank" not in text


def test_what_is_not_shown_to_matter_is_called_so_in_place_of_a_rank(data: ReportData) -> None:
    entries = [
        entry | {"lpi": [row | {"matters": row["name"] != entry["lpi"][0]["name"]} for row in entry["lpi"]]}
        for entry in data.summary["importance"]
    ]
    text = printed(with_summary(data, importance=entries), methods=("lpi",), width=120)
    name = entries[-1]["lpi"][0]["name"]
    assert re.search(rf"{name} .*not shown", text)
    assert len(re.findall("not shown", text)) == 1
    assert "no more than permuted copies of itself" in " ".join(text.split())


def test_trials_that_explain_nothing_are_called_so_before_the_table(data: ReportData) -> None:
    entries = [entry | {"r2": -0.04} for entry in data.summary["importance"]]
    text = " ".join(printed(with_summary(data, importance=entries)).split())
    assert text.index("These trials do not show what matters") < text.index("fANOVA")
    assert "do not show what matters" not in printed(data)


def test_a_default_equal_to_a_reference_shares_its_column(data: ReportData) -> None:
    assert "xception = default" in printed(data, width=120)


def test_a_confirmation_is_shown_with_its_costs_and_an_unfinished_one_is_called_so(data: ReportData) -> None:
    assert "Not confirmed" in printed(data)
    confirmed = dataclasses.replace(data, confirmation=CONFIRMATION)
    for text in (printed(confirmed), render_markdown(confirmed)):
        assert "Confirmed on the test set: Trial 7 gains 3.1 points over xception." in " ".join(text.split())
        assert "0.2260" in text
        assert "0.2570" in text
    started = dataclasses.replace(data, confirmation={**CONFIRMATION, "verdict": None, "sentence": None})
    assert "has started and is not finished" in " ".join(printed(started).split())


def test_no_escape_sequence_of_a_run_reaches_the_terminal() -> None:
    assert "\x1b[31m" not in printed(example_data(60, hostile=HOSTILE), at="all")


@pytest.mark.parametrize("run", ["empty", "one trial", "all failed"])
def test_what_cannot_be_computed_is_said_with_a_reason(run: str) -> None:
    text = printed(RUNS[run]())
    assert "no trial has succeeded" in text or "needs at least 2 configurations" in " ".join(text.split())


@pytest.mark.parametrize("run", RUNS)
def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_heading(run: str, data: ReportData) -> None:
    for text in (render_markdown(RUNS[run]()), render_markdown(example_data(60, hostile=HOSTILE))):
        width = None
        for line in text.splitlines():
            cells = len(re.findall(r"(?<!\\)\|", line))
            width = None if not cells else width or cells
            assert cells == (width or 0)


def test_markdown_starts_no_html_of_a_run() -> None:
    text = render_markdown(example_data(60, hostile=HOSTILE))
    assert "/td" in text
    assert not re.search(r"(?<!\\)[<`]", text)


def test_a_file_of_the_report_holds_the_whole_report(tmp_path, data: ReportData) -> None:
    write_markdown(tmp_path / "report.md", data)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == render_markdown(data)


def test_a_file_in_a_missing_folder_is_refused_and_no_folder_made(tmp_path, data: ReportData) -> None:
    missing = tmp_path / "slip of the pen"
    for write in (
        lambda: write_markdown(missing / "report.md", data),
        lambda: write_html(missing / "report.html", empty_run()),
        lambda: write_csv(missing / "tables", data),
        lambda: write_plots(missing / "plots", empty_run()),
    ):
        with pytest.raises(NaxcliError, match="cannot be written") as caught:
            write()
        assert caught.value.why == f"there is no folder {missing}"
        assert caught.value.hint == f"mkdir -p '{missing}'"
    assert not missing.exists()


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_refused(tmp_path, data: ReportData) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NaxcliError, match="cannot be written"):
        write_markdown(tmp_path, data)
    with pytest.raises(NaxcliError, match="cannot be written"):
        write_csv(tmp_path / "file", data)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_command_refuses_a_missing_folder_before_it_reads_the_run(tmp_path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path / "no run"), "--html", str(tmp_path / "no" / "x.html")])
    assert done.exit_code == ExitCode.USAGE
    assert "mkdir -p" in done.output


def test_a_run_that_never_activated_a_conditional_hyperparameter_has_a_column_for_it() -> None:
    space = ConfigurationSpace()
    optimizer, momentum = Categorical("optimizer", ["adam", "sgd"]), Float("momentum", (0.0, 1.0))
    space.add(optimizer, momentum)
    space.add(EqualsCondition(momentum, optimizer, "sgd"))
    trials = pd.DataFrame({"trial_id": [1, 2], "status": "success", "cost": [0.1, 0.2], "config.optimizer": "adam"})
    found = with_every_hyperparameter(trials, space)
    assert found["config.momentum"].isna().all()
    assert list(found["config.optimizer"]) == ["adam", "adam"]
    check_table(found.assign(fidelity=1.0, seed=0), space)
    with pytest.raises(NaxcliError, match="no column for momentum"):
        check_table(trials.assign(fidelity=1.0, seed=0), space)


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_csv_rows_say_what_they_rest_on_and_hold_the_exact_numbers(tmp_path, data: ReportData) -> None:
    paths = {path.stem: path for path in write_csv(tmp_path, data)}
    rows = read(paths["lpi"])
    entry = data.summary["importance"][-1]
    row = next(row for row in rows if row["name"] == "block" and float(row["fidelity"]) == 27)
    expected = next(effect for effect in entry["lpi"] if effect["name"] == "block")
    assert (row["method"], row["seed"], row["incumbent"]) == ("lpi", "0", data.summary["incumbent"]["config_id"])
    assert int(row["num_trials"]) == entry["num_trials"]
    assert float(row["r2"]) == entry["r2"]
    assert all(float(row[key]) == expected[key] for key in ("mean", "std", "low", "high"))
    assert len(rows) == sum(len(entry["lpi"]) for entry in data.summary["importance"])


def test_csv_replaces_tables_of_a_report_and_nothing_else(tmp_path, data: ReportData) -> None:
    paths = {path.stem: path for path in write_csv(tmp_path, data)}
    assert write_csv(tmp_path, data) == list(paths.values())
    paths["failures"].write_text("date,part\n")
    with pytest.raises(NaxcliError, match=r"failures\.csv is not a table of a report"):
        write_csv(tmp_path, data)
    assert paths["failures"].read_text() == "date,part\n"


def test_csv_leaves_what_is_not_available_empty(tmp_path, data: ReportData) -> None:
    paths = {path.stem: path for path in write_csv(tmp_path, data)}
    inactive = [row for row in read(paths["lpi"]) if row["inactive"] == "True"]
    assert inactive
    assert all(row["mean"] == "" for row in inactive)
    pairs = [row for row in read(paths["fanova"]) if row["order"] == "2"]
    assert len(pairs) == 91 * 3
    assert all(row["name_2"] for row in pairs)


@pytest.mark.parametrize("run", ["empty", "one trial", "all failed"])
def test_csv_of_a_run_without_numbers_has_headings(run: str, tmp_path) -> None:
    for path in write_csv(tmp_path, RUNS[run]()):
        assert "," in path.read_text(encoding="utf-8").splitlines()[0]


def answers(data: ReportData) -> dict[str, str]:
    return {answer.question: answer.answer for answer in checklist.answers(data)}


def test_the_checklist_answers_yes_only_where_the_records_prove_it(data: ReportData) -> None:
    found, nothing = answers(data), answers(empty_run())
    random_search = "Compared with random search"
    assert len(found) == 16
    assert (found[random_search], nothing[random_search]) == ("yes", "no")
    assert found["Hyperparameters and seeds of the final evaluation"] == "no"
    confirmed = dataclasses.replace(data, confirmation=CONFIRMATION)
    assert answers(confirmed)["Hyperparameters and seeds of the final evaluation"] == "yes"
    assert found["How hyperparameters were tuned, and what it took"] == "not recorded"
    assert not [question for question, answer in nothing.items() if answer == "yes"]


def test_uncommitted_changes_are_no_released_code(data: ReportData) -> None:
    question = "Code of the search method"
    assert answers(data)[question] == "yes"
    environment = {**data.environment, "git": {"commit": "0123abc", "patch": "+ x"}}
    assert answers(dataclasses.replace(data, environment=environment))[question] == "partly"


@pytest.mark.parametrize(
    ("name", "question"), [("commit", "Code of the search method"), ("torch", "Confounders controlled")]
)
def test_a_run_that_went_on_with_something_else_is_not_one_setup(data: ReportData, name: str, question: str) -> None:
    question = next(known for known in answers(data) if known.startswith(question))
    changes = [{"at": 1.8e9, "changed": {name: ["a", "b"]}}]
    after = answers(dataclasses.replace(data, environment={**data.environment, "changes": changes}))
    assert {known for known, answer in answers(data).items() if after[known] != answer} >= {question}
    assert after[question] == "partly"
