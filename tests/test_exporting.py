"""`naxcli export` as a command: what it measures and records, and what every kind of export is worth to it again."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from naxcli.cli import app
from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest, export_network, read_config, speed
from naxcli.export.bundle import make_bundle
from naxcli.export.python import render
from naxcli.exported_file import is_exported_file, load_exported_file
from naxcli.exporting import ExportCommand
from naxcli.exporting import export as export_selection
from naxcli.networks import build_network
from naxcli.selection import select
from naxcli.space import load_space

SPACE = load_space("nexception")
NEXCEPTION = dict(SPACE.reference["nexception"])
SIZES: dict[str, Any] = {"num_classes": 5, "in_channels": 1, "image_size": 16, "width": 0.05}
STATISTICS: dict[str, Any] = {"mean": (0.25,), "std": (0.125,)}
IMAGES = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network whose statistics have seen images, so that no layer is the identity."""
    torch.manual_seed(3)
    network = build_network(SPACE, NEXCEPTION, **SIZES)
    for _ in range(3):
        network(torch.randn(8, 1, 16, 16))
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS_PER_BATCH_SIZE", 0.0)


@pytest.fixture(scope="module")
def python_file(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(speed, "SECONDS_PER_BATCH_SIZE", 0.0)
        return export_from(weights, "python", tmp_path_factory.mktemp("code") / "leaf_net.py", bench=True)


def export_from(weights: Path, format: str, out: Path, **changes: Any) -> Path:
    request = ExportRequest(
        space=SPACE, config=NEXCEPTION, format=format, out=out, weights=weights, **{**SIZES, **STATISTICS, **changes}
    )
    return export_network(request).files[0]


def export(config: str | Path, out: Path, **changes: Any) -> list[str]:
    return list(export_selection(ExportCommand(config=str(config), out=str(out), **changes)))


def outputs_of(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


@pytest.mark.parametrize("format", ["config", "weights", "onnx", "torch"])
def test_every_export_says_how_fast_it_is_and_where(format: str, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    request = ExportRequest(space=SPACE, config=NEXCEPTION, format=format, out=tmp_path / "o", bench=True, **SIZES)
    exported = export_network(request)
    assert exported.speed is not None
    assert exported.speed["latency_ms"] > 0 and exported.speed["images_per_second"] > 0
    assert exported.speed["latency_repetitions"] == exported.speed["throughput_repetitions"] == speed.MIN_REPETITIONS
    path = exported.files[0]
    assert recorded_facts(format, path)["speed"] == exported.speed
    assert recorded_facts(format, path)["num_params"] == exported.num_params
    if format == "weights":
        assert f"{exported.speed['latency_ms']:.3g} ms for one image" in (path.parent / "README.md").read_text()
    if format == "onnx":
        assert exported.speed["runtime"].startswith("onnxruntime")


def test_the_header_of_a_python_export_says_how_fast_it_is_and_where(python_file: Path) -> None:
    header = " ".join(python_file.read_text().split('"""')[1].split())
    assert re.search(
        r"speed: [\d.e+]+ ms for one image, [\d.e+]+ images/s in batches of 8, float32, by torch \S+ on \S", header
    )


def recorded_facts(format: str, path: Path) -> dict[str, Any]:
    if format == "torch":
        extra = {"naxcli.json": ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra["naxcli.json"])
    if format == "onnx":
        import onnx

        return json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["naxcli"])
    data = json.loads(path.read_text())
    return data["naxcli"] if format == "weights" else data


def test_the_command_measures_unless_told_not_to(tmp_path: Path) -> None:
    arguments = ["export", "--config", "nexception:nexception", "--width", "0.05", "--format", "config"]
    measured = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "measured")])
    assert measured.exit_code == 0, measured.output
    assert "images/s in batches of 8, float32, by torch" in " ".join(measured.output.split())
    silent = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "silent"), "--no-bench"])
    assert silent.exit_code == 0 and "images/s" not in silent.output
    (path,) = (tmp_path / "silent").iterdir()
    assert "speed" not in json.loads(path.read_text())


def test_the_command_folds(tmp_path: Path, weights: Path) -> None:
    folder = export_from(weights, "weights", tmp_path / "hub").parent
    lines = export(folder, tmp_path / "folded.pt2", format="torch", fold=True)
    assert any("normalizations folded" in line for line in lines)
    program = torch.export.load(tmp_path / "folded.pt2")
    assert recorded_facts("torch", tmp_path / "folded.pt2")["folded"] is True
    folded = [node for node in program.graph.nodes if node.op == "call_function" and "norm" in str(node.target)]
    export(folder, tmp_path / "whole.pt2", format="torch", bench=False)
    program = torch.export.load(tmp_path / "whole.pt2")
    whole = [node for node in program.graph.nodes if node.op == "call_function" and "norm" in str(node.target)]
    assert len(folded) == 1 < len(whole)
    with pytest.raises(NaxcliError, match="cannot fold"):
        export(folder, tmp_path / "other", format="weights", fold=True)


@pytest.mark.parametrize("layout", ["config", "weights folder", "weights file", "python"])
def test_an_export_is_exported_again_as_it_was(
    layout: str, tmp_path: Path, weights: Path, network: nn.Module, python_file: Path
) -> None:
    format = layout.split(maxsplit=1)[0]
    path = python_file if format == "python" else export_from(weights, format, tmp_path / "first")
    named = path.parent if layout == "weights folder" else path
    export(named, tmp_path / "second", format="weights", bench=False)
    space = load_exported_file(path).space if format == "python" else None
    saved = read_config(tmp_path / "second", space=space)
    sizes = {name: getattr(saved, name) for name in SIZES}
    assert sizes == SIZES
    assert (saved.mean, saved.std) == (STATISTICS["mean"], STATISTICS["std"])
    assert dict(saved.config) == NEXCEPTION
    state = load_file(tmp_path / "second" / "model.safetensors")
    is_same = all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert is_same is (format != "config")  # which holds no weights


def test_finished_programs_hold_no_configuration(tmp_path: Path) -> None:
    for name in ("net.onnx", "net.pt2"):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(NaxcliError, match="holds no configuration") as caught:
            export(tmp_path / name, tmp_path / "out")
        assert "naxcli bench" in caught.value.why


def test_what_says_something_of_one_network_does_not_go_with_a_whole_run(tmp_path: Path) -> None:
    for name, value in {"fold": True, "config": "a.json", "variant": "T", "target_flops": "1G"}.items():
        with pytest.raises(NaxcliError, match=f"--{name.replace('_', '-')} does not go with --format deepcave"):
            list(export_selection(ExportCommand(format="deepcave", out=str(tmp_path / "out"), **{name: value})))


def test_a_python_export_is_known_without_running_it(python_file: Path, tmp_path: Path) -> None:
    assert is_exported_file(python_file)
    marker = tmp_path / "was_here"
    hostile = tmp_path / "hostile.py"
    hostile.write_text(f"import os; os.mkdir({str(marker)!r})\n" + python_file.read_text())
    assert is_exported_file(hostile) and not marker.exists()
    for name, text in {"space.py": "SPACE = 1\n", "broken.py": "def (\n", "notes.txt": "CONFIG = 1\n"}.items():
        (tmp_path / name).write_text(text)
        assert not is_exported_file(tmp_path / name)
    assert not is_exported_file(tmp_path / "missing.py")


def test_weights_that_are_not_trained_are_not_started_from(python_file: Path, tmp_path: Path) -> None:
    """An untrained export has weights beside it, for comparing; the file does not name them."""
    untrained = tmp_path / "leaf_net.py"
    lines = python_file.read_text().splitlines(keepends=True)
    untrained.write_text("".join(line for line in lines if not line.lstrip().startswith('"file": ')))
    (tmp_path / "leaf_net.safetensors").write_bytes(python_file.with_suffix(".safetensors").read_bytes())
    assert load_exported_file(untrained).weights is None
    assert load_exported_file(python_file).weights == python_file.with_suffix(".safetensors")


def test_a_python_export_is_a_space_of_one_network(python_file: Path, network: nn.Module) -> None:
    selection = select(run=None, trial="best", config=str(python_file))
    assert (selection.space.name, selection.variant, selection.network_name) == ("leaf_net", "reduced", "leaf_net")
    assert dict(selection.config) == NEXCEPTION
    built = build_network(selection.space, selection.config, **{**SIZES, "width": selection.width})
    built.load_state_dict(load_file(str(selection.weights)))
    assert torch.equal(outputs_of(built), outputs_of(network))
    assert not selection.starts_trained  # the file states a network; its weights are taken on request
    with pytest.raises(NaxcliError, match="name two spaces"):
        select(run=None, trial="best", config=str(python_file), space="nexception")
    with pytest.raises(NaxcliError, match="is a Python export already"):
        export(python_file, python_file.parent / "again", format="python")


def test_a_full_size_python_export_has_its_own_image_size(tmp_path: Path) -> None:
    request = ExportRequest(
        space=SPACE, config=NEXCEPTION, format="python", out=tmp_path / "big_net.py", variant="T", width=0.02,
        num_classes=7, in_channels=3, image_size=64,
    )  # fmt: skip
    path = tmp_path / "big_net.py"
    path.write_text(render(dataclasses.replace(request, name="big_net"), make_bundle(request)))
    file = load_exported_file(path)
    assert (file.variant, file.image_size, file.num_classes, file.width) == ("full", 64, 7, 0.02)
    assert file.weights is None
    lines = export(path, tmp_path / "big.json", format="config", bench=False)
    assert str(tmp_path / "big.json") in lines[-1]
    assert read_config(tmp_path / "big.json", space=file.space).variant == "full"


def test_a_file_called_as_a_library_leaves_the_library_alone(python_file: Path, tmp_path: Path) -> None:
    library = sys.modules["json"]
    (tmp_path / "json.py").write_text(python_file.read_text())
    load_exported_file(tmp_path / "json.py")
    assert sys.modules["json"] is library
    assert timm.is_model("leaf_net")


def test_a_python_file_that_fails_is_named(python_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(python_file.read_text() + "\n1 / 0\n")
    with pytest.raises(NaxcliError, match="does not import") as caught:
        select(run=None, trial="best", config=str(broken))
    assert "ZeroDivisionError" in caught.value.why
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(NaxcliError, match="is not a Python export"):
        select(run=None, trial="best", config=str(tmp_path / "empty.py"))
