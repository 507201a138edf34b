"""What commands print: text that a stranger wrote is shown and not obeyed, and what is suggested can be pasted."""

from __future__ import annotations

import csv
import io
import os
import pty
import re
import shlex
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import tomli_w
from typer.testing import CliRunner

from naxcli.cli import app
from naxcli.cli.console import SafeConsole
from naxcli.cli.output import note, print_error
from naxcli.cli.progress import LiveProgress, SearchProgress
from naxcli.commands.search import SearchEnd
from naxcli.commands.session import SearchRequest, Session, open_session
from naxcli.commands.space import validate_space
from naxcli.errors import ExitCode, NaxcliError, did_you_mean, printable
from naxcli.records.directory import RunDirectory
from naxcli.records.incumbent import Incumbent
from naxcli.records.trial import Result, Status, Suggestion, Trial
from naxcli.report.csv import write_csv
from naxcli.search.loop import EndReason
from naxcli.search_space.contract import load_space
from naxcli.search_space.recorded import load_recorded_space
from naxcli.settings.sources import resolve
from naxcli.settings.units import counted
from tests.command_line import ENVIRONMENT, naxcli
from tests.inline import InlinePool, use_pool
from tests.report.examples import example_data

HOSTILE = "[/red][bold]x\x1b]0;owned\x07\x1b[31m\x9b2J\r\nerror: y\n\u202egnp\u2066\ud800"


def commands_run(*arguments: str | Path) -> Any:
    """Run a command in this process; a bug is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def is_shown(text: str) -> bool:
    """Return whether a terminal shows a text and obeys none of it, but for the line breaks of its layout."""
    return not [character for character in text if unicodedata.category(character)[0] == "C" and character not in "\n"]


# -- one function ---------------------------------------------------------------------------------------------------------


def test_text_from_elsewhere_loses_its_power_and_stays_visible() -> None:
    assert is_shown(printable(HOSTILE)) and "\n" not in printable(HOSTILE)
    assert printable("a\x1b[0m\x9b\u202e") == r"a\u001b[0m\u009b\u202e"
    assert printable("Schönes 日本語, 3\u00a0µs") == "Schönes 日本語, 3\u00a0µs"
    assert printable("two\nlines", keep="\n") == "two\nlines"


def test_settings_made_printable_are_the_same_settings() -> None:
    import tomllib

    settings = {"space": "a\x1b\x9b\u202e\n"}
    assert tomllib.loads(printable(tomli_w.dumps(settings), keep="\n")) == settings


@pytest.mark.parametrize("show", ["print", "cell", "title", "Text", "live"])
def test_the_console_obeys_nothing_that_it_is_given(show: str) -> None:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    console = SafeConsole()
    console.file = io.StringIO()
    table = Table(title=HOSTILE if show == "title" else None)
    table.add_column("x")
    table.add_row(HOSTILE if show == "cell" else "y")
    shown: Any = {"print": HOSTILE, "Text": Text(HOSTILE)}.get(show, table)
    if show == "live":
        with Live(HOSTILE, console=console):
            pass
    else:
        console.print(shown)
    written = console.file.getvalue()
    assert is_shown(written)
    assert "[/red]" in re.sub(r"\s", "", written)


def test_colours_of_our_own_still_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.text import Text

    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = SafeConsole()
    console.file = io.StringIO()
    console.print(Text("x", style="red"))
    assert "\x1b[31m" in console.file.getvalue()


def test_a_name_cannot_pass_for_a_line_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(NaxcliError(f"there is no run in {HOSTILE}", why=HOSTILE, hint=HOSTILE))
    note(HOSTILE)
    shown = capsys.readouterr().err
    assert is_shown(shown)
    assert len(re.findall("^error:", shown, flags=re.MULTILINE)) == 1


def test_the_traceback_of_a_bug_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    program = "import naxcli.cli as c; c.open_run = None\n"
    program += "import naxcli.records.directory as r\ndef fail(path): raise ValueError('\\x1b]0;owned\\x07')\nr.open_run = fail\n"
    program += "import sys; sys.argv = ['naxcli', 'status']; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=False, cwd=tmp_path
    )
    assert done.returncode == 1 and "Traceback" in done.stderr and r"\u001b]0;owned\u0007" in done.stderr
    assert is_shown(done.stderr)


# -- a hostile run, through every command that reads one ------------------------------------------------------------------

HOSTILE_SPACE = """
from ConfigSpace import Categorical, ConfigurationSpace, Float
from naxcli import Space

EVIL = {evil!r}


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical(EVIL, [EVIL + "1", "=1+1", "[bold]"]), Float("@rate", (0.1, 1.0)))
    return space


def evaluate(config, *, fidelity, seed):
    if config["@rate"] < 0.3:
        raise ValueError(EVIL)
    return config["@rate"]


SPACE = Space(name="evil", configspace=configspace, evaluate=evaluate, groups={{EVIL: [EVIL]}},
              reference={{EVIL: {{EVIL: "=1+1", "@rate": 0.5}}}})
"""
# What a file name and SQLite's text can hold of it.
HOSTILE_NAME = HOSTILE.replace("\ud800", "").replace("/", "-")


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose every name and error is hostile."""
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE_NAME
    folder.mkdir()
    (folder / "evil.py").write_text(HOSTILE_SPACE.format(evil=HOSTILE.replace("\ud800", "")))
    run = folder / HOSTILE_NAME
    flags = ["--searcher", "random", "--random-share", "0.5", "--workers", "1", "--trials", "16"]
    with pytest.MonkeyPatch.context() as patch:
        use_pool(InlinePool, patch)
        done = naxcli("search", "--space", folder / "evil.py", "--run", run, *flags)
    assert done.returncode == 0, done.stderr
    assert is_shown(done.stderr)
    settings = RunDirectory(path=run).settings() | {"space": HOSTILE_NAME, "searcher": "random"}
    (run / "experiment.toml").write_text(tomli_w.dumps(settings))
    with sqlite3.connect(run / "search.db") as database:
        columns = {row[1] for row in database.execute("pragma table_info(trials)")}
        for column in columns & {"worker", "device", "error"}:
            database.execute(f"update trials set {column} = ? where {column} is not null", (HOSTILE_NAME,))
    return run


@pytest.mark.parametrize("command", ["status", "report", "compare", "confirm", "export", "stop", "search", "plan"])
def test_no_command_obeys_a_hostile_run(command: str, hostile_run: Path, tmp_path: Path) -> None:
    arguments: dict[str, list[str | Path]] = {
        "status": [hostile_run],
        "report": [hostile_run, "--bootstrap", "0", "--md", tmp_path / "report.md", "--csv", tmp_path / "csv"],
        "compare": [hostile_run, hostile_run],
        "confirm": [hostile_run],
        "export": [hostile_run],
        "stop": [hostile_run],
        "search": ["--run", hostile_run, "--trials", "20"],
        "plan": ["--run", hostile_run, "--budget", "10s"],
    }
    done = commands_run(command, *arguments[command])
    assert done.exit_code == (0 if command in ("status", "report", "compare") else done.exit_code)
    assert done.exit_code in (0, 1, 2)
    assert is_shown(done.output)
    if command in ("status", "report", "compare"):
        assert r"\u001b]0;owned\u0007" in re.sub(r"\s", "", done.output)
    if command in ("confirm", "export", "search", "plan"):
        assert "--space" in done.output
        hint = next(line for line in done.output.splitlines() if "hint:" in line)
        assert shlex.split(hint.partition("--space ")[2])[0] == printable(HOSTILE_NAME)


def test_a_hostile_space_is_shown_and_checked_without_obeying_it(hostile_run: Path) -> None:
    for command in ("show", "validate"):
        done = commands_run("space", command, hostile_run.parent / "evil.py")
        assert is_shown(done.output) and r"\u001b" in done.output


def test_no_cell_of_a_csv_file_is_a_formula(hostile_run: Path, tmp_path: Path) -> None:
    commands_run("report", hostile_run, "--bootstrap", "0", "--csv", tmp_path)
    cells = set()
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="") as handle:
            cells |= {cell for row in csv.reader(handle) for cell in row}
    assert {"'=1+1", "'@rate"} <= cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r", "\n"))]


def test_numbers_below_zero_stay_numbers_in_csv(tmp_path: Path) -> None:
    write_csv(tmp_path, example_data())
    differences = pd.read_csv(tmp_path / "configurations.csv")["difference"]
    assert differences.dtype == float


# -- hints and suggested commands -----------------------------------------------------------------------------------------


def test_hints_quote_the_names_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "my runs/$(touch executed); x.py"
    with pytest.raises(NaxcliError) as refused:
        load_recorded_space({"space": name})
    assert shlex.split(refused.value.hint) == ["add", "--space", name]
    run = RunDirectory(path=tmp_path / "my run; x")
    with run.locked(), pytest.raises(NaxcliError) as held, run.locked():
        pass
    assert shlex.quote(str(run.path)) in held.value.hint
    with pytest.raises(NaxcliError) as cluster:
        resolve(flags={"space": "nexception"}, stored={"cluster": "slurm:a b.toml"}, environment={})
    assert "'slurm:a b.toml'" in cluster.value.hint


def _a_session(space: Path, run: Path, **flags: Any) -> Session:
    return open_session(SearchRequest(space=str(space), flags={"trials": 5, **flags}, run=str(run)))


def _notices(session: Session, act: Callable[[SearchProgress], None]) -> str:
    console = SafeConsole()
    console.file = io.StringIO()
    act(SearchProgress(session, console))
    return console.file.getvalue()


def _trial(number: int, config: dict[str, Any], fidelity: float = 1.0) -> Trial:
    return Trial(trial_id=number, suggestion=Suggestion(config=config, fidelity=fidelity, seed=0), searcher="smac")


def _end(num_finished: int = 1) -> SearchEnd:
    incumbent = Incumbent(trial=_trial(3, {"depth": 1}), cost=0.25, num_seeds=1)
    return SearchEnd(
        reason=EndReason.TRIALS,
        incumbent=incumbent,
        num_finished=num_finished,
        exit_code=ExitCode.DONE,
        seconds_left=0.0,
        seconds_per_trial=1.0,
    )


def test_the_next_command_works_as_printed_and_exports_only_networks(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "my run"
    objective = _notices(_a_session(tiny_space, run), lambda progress: progress.summarise(_end()))
    assert f"next: naxcli report '{run}'" in objective and "export" not in objective
    networks = tmp_path / "my nets.py"
    networks.write_text(tiny_space.read_text().replace("evaluate=evaluate", "build=evaluate"))
    shown = _notices(_a_session(networks, run, data="digits"), lambda progress: progress.summarise(_end()))
    assert f"      naxcli export '{run}' --space 'my nets.py'\n" in shown
    shipped = open_session(SearchRequest(space="nexception", flags={"trials": 5, "data": "digits"}, run="out"))
    shown = _notices(shipped, lambda progress: progress.summarise(_end()))
    assert "      naxcli export out\n" in shown


def test_one_trial_is_one_and_many_have_separators(tiny_space: Path, tmp_path: Path) -> None:
    session = _a_session(tiny_space, tmp_path / "run")
    assert "1 trial finished" in _notices(session, lambda progress: progress.summarise(_end()))
    assert "12,345 trials finished" in _notices(session, lambda progress: progress.summarise(_end(12_345)))
    assert (counted(1, "worker"), counted(0, "worker")) == ("1 worker", "0 workers")


@pytest.mark.parametrize(("fidelity", "rung"), [("1:9:3", " fidelity 9 "), ("9", "")])
def test_a_result_is_shown_with_its_fidelity_where_a_search_has_several(
    fidelity: str, rung: str, tiny_space: Path, tmp_path: Path
) -> None:
    session = _a_session(tiny_space, tmp_path / "run", fidelity=fidelity)
    result = Result(status=Status.SUCCESS, cost=0.25, seconds=1.0)
    line = _notices(session, lambda progress: progress.finished(_trial(7, {}, 9.0), result, None))
    assert line.startswith("trial     7  cost 0.25")
    assert ("fidelity" in line) == bool(rung) and rung in line
    for width in (60, 80):
        shown = _live_lines(session, width=width, height=24)
        assert max(map(len, shown)) <= width
        heading = next(text for text in shown if "last results" in text)
        assert ("fidelity" in heading) == bool(rung)


# -- the live display -----------------------------------------------------------------------------------------------------


def _live_lines(session: Session, *, width: int, height: int, last: Result | None = None) -> list[str]:
    """Return the lines of the live display with two trials running and twelve done, each a new best, or the last of them otherwise."""
    console = SafeConsole()
    console.file = io.StringIO()
    console.size = (width, height)  # type: ignore[assignment]
    config = {"learning_rate": 0.1 / 3, "kind": "x" * 300}
    trials = [_trial(number, config, 9.0) for number in range(1, 15)]
    done = [SimpleNamespace(status=Status.SUCCESS, trial=trial, cost=1.0, seconds=1.0) for trial in trials[:12]]
    search: Any = SimpleNamespace(
        finished=done,
        running={trial.trial_id: trial for trial in trials[12:]},
        active_seconds=lambda: 30.0,
        evaluations=SimpleNamespace(finished=12.0),
        incumbent=Incumbent(trial=trials[11], cost=0.1234, num_seeds=1),
        status_counts={Status.SUCCESS: 12, Status.CRASHED: 0},
    )
    progress = LiveProgress(session, console)
    progress._search = search
    for trial in trials[:12]:
        best = Incumbent(trial=trial, cost=0.5, num_seeds=1)
        progress.finished(trial, Result(status=Status.SUCCESS, cost=0.5, seconds=1.0), best)
    if last is not None:
        progress.finished(trials[11], last, None)
    console.print(progress._render())
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 10), (60, 10), (60, 24), (80, 24), (200, 60)])
def test_the_live_display_fits_and_shows_running_trials_before_the_configuration(
    width: int, height: int, tiny_space: Path, tmp_path: Path
) -> None:
    lines = _live_lines(_a_session(tiny_space, tmp_path / "run"), width=width, height=height)
    assert len(lines) < height and max(map(len, lines)) <= width
    shown = "\n".join(lines)
    assert "trial 13 " in shown and "trial 14 " in shown
    assert "running       fidelity" in shown
    assert shown.count("★") == (1 if height > 10 else 0)
    if "learning_rate=0.0333333" in shown:
        assert shown.index("learning_rate") > shown.index("trial 14 ")
    assert ("learning_rate" in shown) == (height > 10)


@pytest.mark.parametrize("status", [Status.CRASHED, Status.STOPPED])
def test_a_failure_is_shown_with_its_reason_and_a_trial_that_was_stopped_is_none(
    status: Status, tiny_space: Path, tmp_path: Path
) -> None:
    last = Result(status=status, error="the reason", seconds=1.0)
    shown = "\n".join(_live_lines(_a_session(tiny_space, tmp_path / "run"), width=80, height=24, last=last))
    assert f"trial 12      {status}" in shown
    assert ("the reason" in shown) == (status is Status.CRASHED)


def test_the_live_display_tells_what_is_done_before_the_search_starts(tiny_space: Path, tmp_path: Path) -> None:
    console = SafeConsole()
    console.file = io.StringIO()
    progress = LiveProgress(_a_session(tiny_space, tmp_path / "run"), console)
    progress.preparing("64 of 256 configurations measured")
    console.print(progress._render())
    assert "64 of 256 configurations measured" in console.file.getvalue()


def test_an_objective_shows_neither_epochs_nor_losses(tiny_space: Path, tmp_path: Path) -> None:
    objective = "\n".join(_live_lines(_a_session(tiny_space, tmp_path / "run"), width=80, height=24))
    assert "epoch" not in objective and "loss" not in objective
    networks = tmp_path / "nets.py"
    networks.write_text(tiny_space.read_text().replace("evaluate=evaluate", "build=evaluate"))
    session = _a_session(networks, tmp_path / "run", data="digits")
    trained = "\n".join(_live_lines(session, width=80, height=24))
    assert "epoch" in trained and "validation" in trained


def test_a_search_on_a_real_terminal_ends_with_its_summary(tiny_space: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "naxcli", "search", "--space", tiny_space, "--trials", "6", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--searcher", "random", "--run", tmp_path / "run"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**ENVIRONMENT, "COLUMNS": "60", "LINES": "10", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"all trials done: 6 trials finished" in shown and b"Traceback" not in shown


# -- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("sede=3", "seed"),
        ("recipe.mixpu=1", "recipe.mixup"),
        ("mixup=1", "recipe.mixup"),
        ("recpie.mixup=1", "recipe"),
        ("limits.max_parms=1", "limits.max_params"),
        ("searcher=smack", "smac"),
    ],
)
def test_an_unknown_setting_asks_what_was_meant(assignment: str, meant: str) -> None:
    with pytest.raises(NaxcliError) as refused:
        resolve(flags={"space": "nexception"}, assignments=[assignment], environment={}, has_networks=True)
    assert refused.value.hint == f"did you mean {meant}?"


def test_an_unknown_variable_or_space_asks_what_was_meant() -> None:
    with pytest.raises(NaxcliError) as variable:
        resolve(flags={"space": "nexception"}, environment={"NAXCLI_SEDE": "1"})
    assert variable.value.hint == "did you mean NAXCLI_SEED?"
    with pytest.raises(NaxcliError) as space:
        load_space("nexcepton")
    assert space.value.hint == "did you mean nexception?"
    assert did_you_mean("zzz", ["seed"], otherwise="look") == "look"


@pytest.mark.parametrize("assignment", ["seed=1.5", "trials=many", "threads=0.5", "recipe.batch_size=2.5"])
def test_a_whole_number_is_asked_for_where_one_is_needed(assignment: str) -> None:
    with pytest.raises(NaxcliError) as refused:
        resolve(flags={"space": "nexception"}, assignments=[assignment], environment={}, has_networks=True)
    assert "a whole number" in refused.value.why


def test_a_folder_source_without_a_folder_reads_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = commands_run("data", "check", "folder:")
    assert done.exit_code == 2 and "names no folder" in done.output and "folder:DIR" in done.output


@pytest.mark.usefixtures("inline")
def test_other_settings_of_a_run_are_named_as_the_user_wrote_them(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert naxcli("search", "--space", tiny_space, "--trials", "2", "--run", run, "--workers", "1").returncode == 0
    monkeypatch.setenv("NAXCLI_WIDTH", "0.5")
    request = SearchRequest(
        space=str(tiny_space), flags={"seed": 3, "epochs": 2.0}, assignments=["recipe.mixup=0.3"], run=str(run)
    )
    with pytest.raises(NaxcliError) as refused:
        open_session(request)
    assert refused.value.hint.startswith("leave out --epochs and recipe.mixup and --seed and NAXCLI_WIDTH to resume; ")


def test_the_start_says_when_it_ends_and_what_it_minimises(tiny_space: Path, tmp_path: Path) -> None:
    session = _a_session(tiny_space, tmp_path / "run", budget="10m", budget_evaluations=60.0, objective="params")
    search: Any = SimpleNamespace(
        finished=[], active_seconds=lambda: 0.0, records=SimpleNamespace(running=list), running={}
    )
    shown = _notices(session, lambda progress: progress.started(search))
    assert re.search(
        r"budget 10m \(ends about \d\d:\d\d:\d\d\), 5 trials, the cost of 60 full evaluations$", shown.strip()
    )
    assert "objectives cost,params" in shown


# -- experiment files that name a space -----------------------------------------------------------------------------------


@pytest.fixture
def study(tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file that names a space beside itself, seen from another folder."""
    folder = tmp_path / "a study"
    folder.mkdir()
    tiny_space.rename(folder / "tiny.py")
    file = folder / "study.toml"
    file.write_text('space = "tiny.py"\ntrials = 3\n')
    monkeypatch.chdir(tmp_path)
    return file


def test_an_experiment_file_names_a_space_beside_itself_where_it_is_trusted(study: Path) -> None:
    request = SearchRequest(space=None, flags={}, experiment_file=str(study), trust=True)
    session = open_session(request)
    assert session.space.name == "tiny" and session.space.origin == str(study.parent / "tiny.py")
    assert session.experiment.trials == 3


def test_without_trust_the_refusal_names_both_ways(study: Path) -> None:
    with pytest.raises(NaxcliError) as refused:
        open_session(SearchRequest(space=None, flags={}, experiment_file=str(study)))
    assert refused.value.hint == "add --trust, or --space 'a study/tiny.py'"


def test_trust_does_not_reach_the_space_that_a_run_names(objective_run: Path) -> None:
    with pytest.raises(NaxcliError, match="the run's space is the file"):
        open_session(SearchRequest(space=None, flags={}, run=str(objective_run), trust=True))


# -- space validate -------------------------------------------------------------------------------------------------------


def _checks(space: Path) -> list[tuple[str, str]]:
    return [
        (check.name, check.detail)
        for check in validate_space(load_space(str(space)), number=40, seed=0)
        if not check.is_good
    ]


def test_validation_groups_failures_by_error_and_names_the_users_own_line(tiny_space: Path, tmp_path: Path) -> None:
    code = tiny_space.read_text().replace(
        "    time.sleep(SLEEP_SECONDS)\n",
        "    if config['kind'] == 'x':\n        raise ValueError(f'cannot do {config}')\n"
        "    if config['depth'] == 5:\n        import json; json.loads('{')\n",
    )
    folder = tmp_path / "naxcli"  # a path that looks like naxcli's own
    folder.mkdir()
    file = folder / "broken.py"
    file.write_text(code)
    (first, detail), (second, decoding), (summary, _) = _checks(file)
    line = code.splitlines().index("        raise ValueError(f'cannot do {config}')") + 1
    assert first == "evaluate: ValueError" and f"line {line} of {file}" in detail
    assert re.search(r"\d+ configurations, such as depth=\d", detail)
    assert second == "evaluate: JSONDecodeError" and f"line {line + 2} of {file}" in decoding
    assert re.fullmatch(r"evaluate: \d+ of 42 configurations", summary)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("{'loss': 1.0}", "returned no cost, only loss"),
        ("None", "None, which is not a number"),
        ("float('nan')", "the cost is nan"),
    ],
)
def test_what_breaks_the_contract_without_an_exception_names_the_function(
    returned: str, said: str, tiny_space: Path
) -> None:
    tiny_space.write_text(tiny_space.read_text().replace("    time.sleep(SLEEP_SECONDS)\n", f"    return {returned}\n"))
    (_, detail), _ = _checks(tiny_space)
    line = next(n for n, text in enumerate(tiny_space.read_text().splitlines(), 1) if text.startswith("def evaluate"))
    assert said in detail and f"evaluate is at line {line} of {tiny_space}" in detail


# -- reports of an objective ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def objective_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a space that evaluates by itself, with a random baseline, and its confirmation."""
    from tests.conftest import TINY_SPACE

    folder = tmp_path_factory.mktemp("objective")
    (folder / "tiny.py").write_text(TINY_SPACE)
    flags = ["--workers", "1", "--trials", "24", "--random-share", "0.5", "--searcher", "evolution"]
    with pytest.MonkeyPatch.context() as patch:
        use_pool(InlinePool, patch)
        assert naxcli("search", "--space", folder / "tiny.py", "--run", folder / "run", *flags).returncode == 0
    return folder / "run"


@pytest.mark.usefixtures("inline")
def test_neither_test_set_nor_recipe_nor_epochs_appear_for_an_objective(objective_run: Path) -> None:
    before = commands_run("report", objective_run, "--bootstrap", "0").output
    space = objective_run.parent / "tiny.py"
    confirmed = naxcli("confirm", objective_run, "--space", space, "--top", "1", "--seeds", "2", "--workers", "1")
    assert confirmed.returncode == 0, confirmed.stderr
    after = commands_run("report", objective_run, "--bootstrap", "0").output
    for shown in (before, confirmed.stdout, after):
        assert not re.search("test set|recipe|epoch|validation|image|training", shown.replace("\n", " "), re.IGNORECASE)
    assert "fresh seeds" in before and "fresh seeds each, fidelity 1" in confirmed.stdout


def test_the_random_baseline_is_compared_in_words(objective_run: Path) -> None:
    shown = " ".join(commands_run("report", objective_run, "--bootstrap", "0").output.split())
    assert re.search(
        r"(all|the first) \d+ searcher trials, as much time as (all|the first) \d+ random ones: best", shown
    )


@pytest.mark.usefixtures("inline")
def test_a_random_baseline_without_a_trial_says_so(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--random-share", "0.01", "--searcher", "evolution", "--trials", "3", "--workers", "1"]
    assert naxcli("search", "--space", tiny_space, "--run", run, *flags).returncode == 0
    shown = " ".join(commands_run("report", run, "--bootstrap", "0").output.split())
    assert "the random baseline has no trial yet" in shown


def test_a_quiet_report_writes_its_files_and_nothing_else(objective_run: Path, tmp_path: Path) -> None:
    quiet = commands_run("report", objective_run, "--bootstrap", "2", "-q", "--md", tmp_path / "report.md")
    assert quiet.exit_code == 0 and quiet.output == "" and (tmp_path / "report.md").exists()
    assert "Incumbent" in commands_run("report", objective_run, "--bootstrap", "2", "-q").output.title()
