"""What is printed reaches every terminal: in ASCII where it knows nothing else, and a path too long is an error like others."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ConfigSpace import ConfigurationSpace
from typer.testing import CliRunner

from naxcli.cli import app, streams
from naxcli.workers.streams import outlive_reader
from tests.command_line import ENVIRONMENT, naxcli_process

PACKAGE = Path(__file__).parents[2] / "naxcli"


def texts_of(path: Path) -> set[str]:
    """Return the string literals of a file, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def test_every_character_that_naxcli_prints_has_a_meaning_in_ascii() -> None:
    texts = set().union(*(texts_of(path) for path in PACKAGE.rglob("*.py")))
    characters = {
        character for text in texts for character in text if not character.isascii() and character.isprintable()
    }
    assert {"≠", "±", "★"} <= characters
    assert not [character for character in characters if "\\" in streams._replacement(character)]


def test_a_reader_that_has_seen_enough_is_no_failure(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--trials", "30", "--workers", "1", "--searcher", "random"]
    assert naxcli_process("search", "--space", tiny_space, "--run", run, *settings).returncode == 0
    for command in (["report", run, "--bootstrap", "0"], ["space", "sample", tiny_space, "-n", "5000"]):
        words = [sys.executable, "-m", "naxcli", *map(str, command)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()  # before anything is printed: what is short would fit into the pipe
            errors = process.stderr.read().decode()
        assert process.returncode == 0 and "Error" not in errors, errors


def test_commands_print_on_a_terminal_without_unicode(tiny_space: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--trials", "30", "--workers", "1", "--searcher", "random"]
    searched, reported = ["search", "--space", tiny_space, "--run", run, *settings], ["report", run, "--bootstrap", "0"]
    printed = {"ascii": "", "latin-1": ""}
    for encoding, command in (
        *(("ascii", command) for command in (searched, reported, ["status", run], ["--help"], ["train", "--help"])),
        ("latin-1", reported),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "naxcli", *map(str, command)],
            capture_output=True,
            timeout=300,
            check=False,
            env={**ENVIRONMENT, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "COLUMNS": "100"},
        )
        assert done.returncode == 0, done.stderr
        printed[encoding] += done.stdout.decode(encoding) + done.stderr.decode(encoding)
    for text in printed.values():
        assert "!= differs from the incumbent" in text and "Traceback" not in text
    assert "+- is the standard deviation" in printed["ascii"] and "± is the standard deviation" in printed["latin-1"]


def test_a_name_that_is_no_text_is_printed_with_its_bytes(tmp_path: Path) -> None:
    done = naxcli_process("status", os.fsdecode(bytes(tmp_path / "r") + b"\xff"))
    assert done.returncode == 2 and "r\\udcff" in done.stderr and "Traceback" not in done.stderr


LONG = "a" * 300
DEEP = "/".join(["directory"] * 600)


@pytest.mark.parametrize("path", [LONG, DEEP], ids=["name", "path"])
@pytest.mark.parametrize(
    "command",
    [
        ("search", "--space", "nexception", "--data", "digits", "--trials", "1", "--run"),
        ("search", "--trials", "1", "--run", "run", "--experiment"),
        ("status",),
        ("report",),
        ("report", "--space-json", "space.json", "--trials"),
        ("stop",),
        ("confirm",),
        ("compare", "run"),
        ("space", "show"),
        ("export", "--config"),
        ("train", "--data", "digits", "--config", "nexception:T-NeXception", "--out"),
    ],
    ids=" ".join,
)
def test_a_path_that_is_too_long_is_an_error(
    command: tuple[str, ...], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, [*command, path])
    assert isinstance(refused.exception, SystemExit), refused.exception  # else it is a traceback
    assert refused.exit_code == 2 and "error:" in refused.output


def test_a_stream_without_a_reader_swallows_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    stream = io.TextIOWrapper(os.fdopen(writing, "wb"), encoding="ascii", errors="replace", line_buffering=True)
    monkeypatch.setattr(sys, "stdout", stream)
    outlive_reader("stdout")
    print("read")
    assert os.read(reading, 100) == b"read\n"
    assert (sys.stdout.encoding, sys.stdout.errors) == ("ascii", "replace")
    os.close(reading)
    for _ in range(2):
        print("x" * 100_000, flush=True)
    os.write(writing, b"and what others write there")


def test_files_are_written_before_a_report_whose_reader_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = ConfigurationSpace({"kind": ["x", "y"]})
    space.to_json(tmp_path / "space.json")
    rows = [
        {"config.kind": kind, "cost": cost, "fidelity": 1.0, "status": "success"}
        for kind, cost in (("x", 1.0), ("y", 2.0))
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "trials.parquet")

    def closed(*_: object, **__: object) -> None:
        raise SystemExit(1)  # whatever ends it there, such as a pipe without a reader

    monkeypatch.setattr("naxcli.report.terminal.print_report", closed)
    sources = ["--trials", str(tmp_path / "trials.parquet"), "--space-json", str(tmp_path / "space.json")]
    CliRunner().invoke(app, ["report", *sources, "--md", str(tmp_path / "report.md")])
    assert "kind" in (tmp_path / "report.md").read_text()


def test_a_full_disk_behind_a_stream_is_no_reader_that_went(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        outlive_reader("stdout")
        with pytest.raises(OSError, match="No space left"):
            print("lost", flush=True)
        monkeypatch.undo()
