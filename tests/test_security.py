"""A run from a stranger cannot execute code: a space file is loaded only when the user names it, and nothing foreign is unpickled."""

from __future__ import annotations

import ast
import pickle
import shutil
from pathlib import Path

import pytest

from tests.commands import naxcli

PACKAGE = Path(__file__).parent.parent / "naxcli"


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


@pytest.fixture
def strange_run(tiny_space: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run whose recorded space has become code that leaves a file when it is loaded, and that file."""
    run, trace = tmp_path / "run", tmp_path / "executed"
    arguments = ["--space", tiny_space, "--trials", "12", "--run", run, "--searcher", "random", "--workers", "1"]
    assert naxcli("search", *arguments).returncode == 0
    tiny_space.write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\n" + tiny_space.read_text())
    return run, trace


def test_no_command_loads_the_space_that_a_run_names(strange_run: tuple[Path, Path], tmp_path: Path) -> None:
    run, trace = strange_run
    for arguments in (["report", run, "--bootstrap", "0", "--json"], ["status", run]):
        assert naxcli(*arguments).returncode == 0
    for arguments in (
        ["export", run, "--out", tmp_path / "out"],
        ["confirm", run],
        ["search", "--run", run, "--trials", "20"],
    ):
        refused = naxcli(*arguments)
        assert refused.returncode == 2 and "--space" in refused.stderr, arguments
    assert not trace.exists()


def test_damaged_or_hostile_files_of_a_run_are_named(strange_run: tuple[Path, Path], tmp_path: Path) -> None:
    run, trace = strange_run
    hostile = pickle.dumps(Touch(trace))
    for name in ("space.json", "experiment.toml", "environment.json", "search.db"):
        copy = tmp_path / f"copy-{name}"
        shutil.copytree(run, copy)
        (copy / name).write_bytes(hostile)
        refused = naxcli("report", copy, "--bootstrap", "0")
        assert refused.returncode in (1, 2) and name in refused.stderr and "Traceback" not in refused.stderr, name
    table = tmp_path / "foreign.parquet"
    table.write_bytes(hostile)
    refused = naxcli("report", "--trials", table, "--space-json", run / "space.json")
    assert refused.returncode == 2 and "Parquet" in refused.stderr
    assert not trace.exists()


def test_nothing_unpickles_but_the_restricted_reader() -> None:
    """Only the reader of CIFAR's files uses pickle, with classes refused; torch.load is always called with weights_only."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if node.value.id in ("pickle", "dill", "joblib", "cloudpickle"):
                assert node.attr == "UnpicklingError" or path.name == "sources.py", path
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.load":
                assert any(
                    word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords
                ), path
