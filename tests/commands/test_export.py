"""`naxcli export` as a command: what it measures and records, and what every kind of export is worth to it again."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from naxcli.cli import app
from naxcli.commands.export import ExportCommand
from naxcli.commands.export import export as export_selection
from naxcli.commands.select import select
from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest, export_network, read_config
from naxcli.export.bundle import make_bundle
from naxcli.export.python import render
from naxcli.export.read_python import is_exported_file, load_exported_file
from naxcli.measure import timing as speed
from naxcli.measure.stable_timing import Timing
from naxcli.search_space.contract import load_space
from naxcli.search_space.networks import build_network

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


def timing(**changes: Any) -> Timing:
    """Return what a calm machine measures, with changes."""
    values = {"seconds": 0.004, "spread": 0.02, "num_repetitions": 50, "num_threads": 2, "num_cpus": 2, "load": 0.1}
    return Timing(**{**values, **changes})


def measure_at_once(call: Callable[[], Any], **_: float) -> Timing:
    call()
    return timing()


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "time_until_stable", measure_at_once)


@pytest.fixture(scope="module")
def python_file(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(speed, "time_until_stable", measure_at_once)
        monkeypatch.setattr("naxcli.export.python._load_back", lambda *_: 0.0)
        return export_from(weights, "python", tmp_path_factory.mktemp("code") / "leaf_net.py", bench=True)


def export_from(weights: Path, format: str, out: Path, **changes: Any) -> Path:
    request = ExportRequest(
        space=SPACE, config=NEXCEPTION, format=format, out=out, weights=weights, **{**SIZES, **STATISTICS, **changes}
    )
    return export_network(request).files[0]


def export(config: str | Path, out: Path, **changes: Any) -> list[str]:
    lines: list[str] = []
    export_selection(ExportCommand(config=str(config), out=str(out), **changes), lines.append)
    return lines


def outputs_of(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


@pytest.mark.parametrize("format", ["weights", "onnx", "torch"])
def test_every_export_of_a_network_says_how_fast_it_is_and_where(format: str, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    request = ExportRequest(space=SPACE, config=NEXCEPTION, format=format, out=tmp_path / "o", bench=True, **SIZES)
    exported = export_network(request)
    assert exported.speed is not None
    assert (exported.speed["latency_ms"], exported.speed["images_per_second"]) == (4.0, 8 / 0.004)
    for measure in ("latency", "throughput"):
        recorded = {name: exported.speed[f"{measure}_{name}"] for name in ("spread", "repetitions", "load")}
        assert recorded == {"spread": 0.02, "repetitions": 50, "load": 0.1}
    path = exported.files[0]
    assert recorded_facts(format, path)["speed"] == exported.speed
    assert recorded_facts(format, path)["num_params"] == exported.num_params
    if format == "weights":
        assert "4 ms for one image (IQR 2%)" in (path.parent / "README.md").read_text()
    if format == "onnx":
        assert exported.speed["runtime"].startswith("onnxruntime")


def test_the_header_of_a_python_export_says_how_fast_it_is_and_where(python_file: Path) -> None:
    header = " ".join(python_file.read_text().split('"""')[1].split())
    assert re.search(
        r"speed: 4 ms for one image \(IQR 2%\), 2e\+03 images/s in batches of 8 \(IQR 2%\), float32, by torch \S+ on \S",
        header,
    )


BUSY = ({"load": 1.5}, "1.5 of 2 CPUs busy")
UNSTEADY = ({"spread": 0.4}, "spreads over 40% of their median")


@pytest.mark.parametrize(
    ("format", "seen", "why"),
    [("python", *BUSY), ("weights", *UNSTEADY), ("onnx", *BUSY), ("torch", *UNSTEADY)],
    ids=["python", "weights", "onnx", "torch"],
)
@pytest.mark.usefixtures("not_loaded_back")
def test_on_a_busy_machine_an_export_warns_and_records_no_speed(
    format: str, seen: dict[str, float], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    monkeypatch.setattr(speed, "time_until_stable", lambda call, **_: timing(**seen))
    lines = export("nexception:nexception", tmp_path / "out", format=format, width=0.05, name=f"busy_{format}")
    (warning,) = (line for line in lines if line.startswith("warning: no speed is recorded"))
    assert why in warning
    assert not any(line.startswith("speed:") for line in lines)
    path = next(path for path in (tmp_path / "out").iterdir() if path.suffix in (".py", ".json", ".onnx", ".pt2"))
    if format == "python":
        assert "speed:" not in path.read_text().split('"""')[1]
    else:
        assert "speed" not in recorded_facts(format, path)


class Worked(Exception):
    """Something was built, run or measured."""


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object, **__: object) -> None:
        raise Worked

    for function in (
        "naxcli.export.bundle.build_network",
        "naxcli.search_space.sizes.build_network",
        "naxcli.measure.timing.time_until_stable",
    ):
        monkeypatch.setattr(function, work)


REFUSALS = {
    "format": ({"format": "gguf"}, "no format 'gguf'"),
    "folder": ({"out": "."}, "exists already and is not empty"),
    "variant": ({"variant": "XXL"}, "no variant 'XXL'"),
    "name": ({"name": "resnet18"}, "timm has a network named"),
    "name in use": ({"name": "Network"}, "is used in the network's code"),
    "opset": ({"format": "onnx", "opset": 9}, "opset 9 cannot be written"),
    "fold": ({"format": "weights", "fold": True}, "cannot fold"),
    "two targets": ({"target_flops": "1G", "target_params": "1M"}, "both fix the width"),
    "width and target": ({"width": 0.5, "target_params": "1M"}, "both fix the width"),
    "target": ({"target_params": "many"}, "--target-params"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("target", [None, "1M"])
@pytest.mark.usefixtures("no_work")
def test_a_request_that_is_refused_is_refused_before_any_work(refusal: str, target: str | None, tmp_path: Path) -> None:
    changes, message = REFUSALS[refusal]
    if "opset" in changes:
        pytest.importorskip("onnxscript")
    (tmp_path / "mine.txt").write_text("mine")
    out = tmp_path / changes.get("out", "new")
    changes = {"target_params": target, **{name: value for name, value in changes.items() if name != "out"}}
    with pytest.raises(NaxcliError, match=message):
        export("nexception:nexception", out, **changes)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("no_work")
def test_missing_packages_and_weights_are_seen_before_any_work(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NaxcliError, match="no weights at"):
        export_from(weights.with_name("other.safetensors"), "torch", tmp_path / "out")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(NaxcliError, match="needs onnx"):
        export("nexception:nexception", tmp_path / "out", format="onnx", target_params="1M")


def test_a_file_that_needs_a_neighbour_is_refused_before_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> None:
        raise Worked

    monkeypatch.setattr(speed, "time_until_stable", measure)
    monkeypatch.setattr("naxcli.export.python._LOAD_BACK", "import a_neighbour")
    with pytest.raises(NaxcliError, match="does not run without naxcli"):
        export("nexception:nexception", tmp_path / "out", width=0.05, name="neighbourly")


def test_a_configuration_is_exported_without_making_or_measuring_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise Worked

    monkeypatch.setattr(speed, "time_until_stable", work)
    monkeypatch.setattr("naxcli.export.bundle.build_network", work)
    lines = export("nexception:nexception", tmp_path / "best.json", format="config", variant="T")
    assert lines == [f"wrote {tmp_path / 'best.json'}"]
    facts = json.loads((tmp_path / "best.json").read_text())
    assert (facts["num_params"], facts["flops"]) == (24_544_976, 4_600_086_016)
    assert "speed" not in facts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_params": "100k"}, ["the width changes from 0.05 to ", "those of another network: width 0.05, not "]),
        ({"width": 0.1}, ["those of another network: width 0.05, not 0.1"]),
        ({"num_classes": 9}, ["those of another network: 5 classes, not 9"]),
        ({"variant": "T", "width": 0.05}, ["those of another network: variant reduced, not T"]),
    ],
    ids=["target", "width", "classes", "variant"],
)
def test_an_export_without_its_weights_says_what_changed(
    changes: dict[str, Any], said: list[str], tmp_path: Path, weights: Path
) -> None:
    folder = export_from(weights, "weights", tmp_path / "hub").parent
    lines = export(folder, tmp_path / "out", format="weights", bench=False, **changes)
    for text in said:
        assert any(text in line for line in lines), lines
    assert any("untrained weights" in line for line in lines)


def test_the_width_that_the_weights_have_keeps_them(tmp_path: Path, weights: Path) -> None:
    folder = export_from(weights, "weights", tmp_path / "hub").parent
    lines = export(folder, tmp_path / "same", format="weights", bench=False, width=0.05)
    assert any(line.endswith("multiply-adds, trained weights") for line in lines)


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
    arguments = ["export", "--config", "nexception:nexception", "--width", "0.05", "--format", "weights"]
    measured = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "measured")])
    assert measured.exit_code == 0, measured.output
    assert "images/s in batches of 8 (IQR 2%), float32, by torch" in " ".join(measured.output.split())
    silent = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "silent"), "--no-bench"])
    assert silent.exit_code == 0 and "images/s" not in silent.output
    assert "speed" in recorded_facts("weights", tmp_path / "measured" / "config.json")
    assert "speed" not in recorded_facts("weights", tmp_path / "silent" / "config.json")


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
            export_selection(ExportCommand(format="deepcave", out=str(tmp_path / "out"), **{name: value}), print)


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
        space=SPACE,
        config=NEXCEPTION,
        format="python",
        out=tmp_path / "big_net.py",
        variant="T",
        width=0.02,
        num_classes=7,
        in_channels=3,
        image_size=64,
    )
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
