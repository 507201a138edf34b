"""A run from a stranger cannot execute code: a space file is loaded only when the user names it, and nothing foreign is unpickled."""

from __future__ import annotations

import ast
import io
import pickle
import shutil
import tarfile
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
import tomli_w
import torch
from typer.testing import CliRunner

from naxcli.cli import app
from naxcli.commands.select import select
from naxcli.commands.session import SearchRequest, open_session
from naxcli.data.dataset import load_dataset
from naxcli.errors import NaxcliError
from naxcli.export.bundle import read_weights
from naxcli.export.read_program import open_program
from naxcli.records.parquet import read_trials_parquet
from naxcli.search_space.recorded import load_recorded_space
from naxcli.training.checkpoint import load_checkpoint, load_weights
from tests.command_line import naxcli

PACKAGE = Path(__file__).parent.parent / "naxcli"


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


@pytest.fixture
def strange_run(inline: None, tiny_space: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run whose recorded space has become code that leaves a file when it is loaded, and that file."""
    run, trace = tmp_path / "run", tmp_path / "executed"
    arguments = ["--space", tiny_space, "--trials", "12", "--run", run, "--searcher", "random", "--workers", "1"]
    assert naxcli("search", *arguments).returncode == 0
    tiny_space.write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\n" + tiny_space.read_text())
    return run, trace


def test_the_code_of_a_strange_run_leaves_its_file_where_it_is_loaded(strange_run: tuple[Path, Path]) -> None:
    run, trace = strange_run
    naxcli("export", run, "--space", run.parent / "tiny.py")
    assert trace.exists()


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


@pytest.mark.parametrize("space", ["os:system", "../evil", "{folder}/evil.py", "{folder}/leaf_export.py"])
def test_an_experiment_file_cannot_name_the_code_that_runs(space: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    for name in ("evil.py", "leaf_export.py"):
        (tmp_path / name).write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\n")
    settings = {"space": space.format(folder=tmp_path)}
    with pytest.raises(NaxcliError, match="the run's space is the file") as refused:
        load_recorded_space(settings)
    assert "--space" in refused.value.hint
    (tmp_path / "experiment.toml").write_text(tomli_w.dumps(settings))
    with pytest.raises(NaxcliError):
        select(run=str(tmp_path), trial="best", config=None)
    with pytest.raises(NaxcliError, match=r"the space of .*experiment.toml is the (file|module)") as refused:
        open_session(SearchRequest(space=None, flags={}, experiment_file=str(tmp_path / "experiment.toml")))
    assert "--space" in refused.value.hint
    assert not trace.exists()


HOSTILE_SPACES = {
    "another type": '{"name": "x", "hyperparameters": [{"type": "os.system", "name": "touch executed"}]}',
    "an expression": '{"name": "x", "hyperparameters": [{"type": "uniform_int", "name": "a", "lower": "__import__(\'os\')", "upper": 2}]}',
    "depth": "[" * 100_000,
    "no object": "[1, 2]",
    "no text": "\udcff",
}


@pytest.mark.parametrize("content", HOSTILE_SPACES.values(), ids=HOSTILE_SPACES)
def test_a_hostile_space_file_is_named(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.json").write_bytes(content.encode(errors="surrogateescape"))
    pandas.DataFrame({"a": [1, 2], "cost": [0.1, 0.2]}).to_parquet(tmp_path / "trials.parquet")
    refused = CliRunner().invoke(app, ["report", "--trials", "trials.parquet", "--space-json", "space.json"])
    assert isinstance(refused.exception, SystemExit), refused.exception  # else it is a traceback
    assert refused.exit_code in (1, 2) and "space.json" in refused.output
    assert not (tmp_path / "executed").exists()


def test_a_hostile_parquet_file_runs_nothing(tmp_path: Path) -> None:
    """Old versions of pyarrow unpickled an extension type that a file named."""
    trace = tmp_path / "executed"
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Touch(trace)),
    }
    fields = [pyarrow.field("a", pyarrow.int64(), metadata=metadata), pyarrow.field("cost", pyarrow.float64())]
    columns = [pyarrow.array([1, 2]), pyarrow.array([0.1, 0.2])]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(columns, schema=pyarrow.schema(fields)), tmp_path / "t.parquet"
    )
    frame = read_trials_parquet(tmp_path / "t.parquet")
    assert len(frame) == 2
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoints/1.pt"])
def test_a_malicious_checkpoint_runs_nothing(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".pt":
        torch.save({"network": Touch(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Touch(trace)))
    for read in (read_weights, load_checkpoint, load_weights) if path.suffix == ".pt" else (read_weights,):
        with pytest.raises(NaxcliError, match=path.name):
            read(path)
    assert not trace.exists()


def test_an_archive_that_leaves_its_folder_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of data is unpacked only where its checksum is the published one."""
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz") as archive:
        for name in ("../escaped", "/" + str(tmp_path / "escaped").lstrip("/"), "cifar-100-python/train"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"evil"))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", no_network)
    with pytest.raises(NaxcliError, match="could not be downloaded"):
        load_dataset("cifar100", root=str(root), split_seed=0, validation_fraction=0.1)
    assert not (tmp_path / "escaped").exists()
    assert [path.name for path in root.iterdir()] == ["cifar-100-python.tar.gz"]


def test_a_torch_program_is_opened_only_where_the_user_vouches_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def load(path: Path, **_: object) -> None:
        opened.append(path)
        raise RuntimeError("stop here")

    monkeypatch.setattr(torch.export, "load", load)
    path = tmp_path / "net.pt2"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "executed")))
    for is_trusted, message in ((False, "is not opened"), (True, "is not a torch program")):
        assert opened == []
        with pytest.raises(NaxcliError, match=message):
            open_program(path, device=torch.device("cpu"), is_trusted=is_trusted)
    assert opened == [path]


def test_nothing_unpickles_but_the_restricted_reader() -> None:
    """Only the reader of CIFAR's files uses pickle, with classes refused; torch.load is always called with weights_only."""
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        for node in nodes:
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if node.value.id in ("pickle", "dill", "joblib", "cloudpickle"):
                assert node.attr == "UnpicklingError" or path.name == "sources.py", path
        for call in nodes:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.load":
                assert any(
                    word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords
                ), path
            # Programs of torch are unpickled whatever one asks for: our own after writing, and those that a user vouches for.
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.export.load":
                assert path.name in ("torch_program.py", "read_program.py"), path
