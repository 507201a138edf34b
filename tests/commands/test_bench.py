"""`naxcli bench`: which networks are measured, how the roofline is counted, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from naxcli.commands.bench import BenchCommand, bench, find_subjects
from naxcli.errors import NaxcliError
from naxcli.export import Exported, ExportRequest, export_network
from naxcli.measure.roofline import Ceilings, Operation, least_seconds, list_operations, measure_ceilings
from naxcli.search_space.contract import load_space
from naxcli.search_space.networks import build_network
from tests.command_line import naxcli

SMALL = {"width": 0.05, "image_size": 16, "num_classes": 10, "batch_size": 2, "repetitions": 3, "device": "cpu"}


def run(**changes: Any) -> dict[str, Any]:
    command = BenchCommand(**{"configs": ("nexception:xception",), **SMALL, **changes})
    return bench(command, on_network=lambda entry: None, notice=lambda text: None)


def test_without_a_name_the_papers_networks_are_measured_at_their_sizes() -> None:
    subjects = find_subjects(BenchCommand())
    assert [(subject.name, subject.input_shape, subject.num_classes) for subject in subjects] == [
        ("nexception:nexception T", (3, 224, 224), 1000),
        ("nexception:nexception S", (3, 224, 224), 1000),
        ("nexception:nexception TP", (3, 224, 224), 1000),
        ("timm:legacy_xception", (3, 299, 299), 1000),
    ]


def test_each_variant_of_each_configuration_is_a_network() -> None:
    command = BenchCommand(configs=("nexception:xception", "nexception:nexception"), variants=("T", "reduced"))
    assert [subject.name for subject in find_subjects(command)] == [
        "nexception:xception T",
        "nexception:xception reduced",
        "nexception:nexception T",
        "nexception:nexception reduced",
    ]


def test_a_bench_measures_both_phases() -> None:
    result = run()
    assert (result["precision"], result["batch_size"], result["repetitions"]) == ("float32", 2, 3)
    entry = result["networks"][0]
    network = find_subjects(BenchCommand(configs=("nexception:xception",), width=0.05, num_classes=10))[0].build()
    assert entry["num_params"] == sum(parameter.numel() for parameter in network.parameters())
    inference, training = entry["inference"], entry["training"]
    assert inference["images_per_second"] > training["images_per_second"] > 0
    assert training["flops_per_second"] == pytest.approx(6 * entry["flops"] * training["images_per_second"])
    assert inference["flops_per_second"] == pytest.approx(2 * entry["flops"] * inference["images_per_second"])
    assert training["roofline_share"] > 0
    json.dumps(result, allow_nan=False)


def test_one_phase_can_be_measured_alone() -> None:
    entry = run(phases=("inference",))["networks"][0]
    assert "inference" in entry and "training" not in entry


def test_the_training_step_changes_no_weight_to_infinity() -> None:
    # Rates of numbers that are not finite are other rates on many devices.
    subject = find_subjects(BenchCommand(configs=("nexception:nexception",), width=0.05, image_size=16))[0]
    from naxcli.commands import bench as module

    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(subject.build())
        return built[0]

    import dataclasses

    from naxcli.settings.recipe import Recipe

    protocol = module.Protocol(
        device=torch.device("cpu"),
        recipe=Recipe(learning_rate=1e-6),
        batch_size=4,
        repetitions=3,
        ceilings=Ceilings(bytes_per_second=1e9, flops_per_second=1e9),
    )
    module.measure_subject(dataclasses.replace(subject, build=build), protocol, ("training",))
    assert all(torch.isfinite(parameter).all() for parameter in built[0].parameters())


def export(format: str, out: Path) -> Exported:
    space = load_space("nexception")
    request = ExportRequest(
        space=space,
        config=space.reference["xception"],
        format=format,
        out=out,
        width=0.05,
        num_classes=10,
        in_channels=3,
        image_size=16,
    )
    return export_network(request)


AS_IT_IS: dict[str, Any] = {"width": None, "image_size": None, "num_classes": None, "phases": ("inference",)}


@pytest.mark.usefixtures("not_loaded_back")
@pytest.mark.parametrize("format", ["config", "weights", "python", "onnx", "torch"])
def test_every_export_of_a_network_is_measured_as_that_network(format: str, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    exported = export(format, tmp_path / "leaf_bench.py" if format == "python" else tmp_path / "out")
    path = exported.files[0].parent if format == "weights" else exported.files[0]
    entry = run(configs=(str(path),), trusted=format == "torch", **AS_IT_IS)["networks"][0]
    assert (entry["num_params"], entry["flops"]) == (exported.num_params, exported.macs)
    assert entry["image_size"] == 16
    assert entry["inference"]["images_per_second"] > 0
    expected = 2 * exported.macs * entry["inference"]["images_per_second"]  # type: ignore[operator]
    assert entry["inference"]["flops_per_second"] == pytest.approx(expected)
    assert entry["name"].startswith(path.name if format in ("python", "onnx", "torch") else str(path))
    if format in ("onnx", "torch"):
        assert entry["precision"] == "float32" and format in entry["runtime"]


def test_a_finished_program_is_measured_without_the_training_step(tmp_path: Path) -> None:
    path = export("torch", tmp_path / "net.pt2").files[0]
    program = {"configs": (str(path),), "trusted": True, **AS_IT_IS}
    entry = run(**{**program, "phases": ("inference", "training")})["networks"][0]
    assert "inference" in entry and "training" not in entry
    for changes, message in (
        ({"phases": ("training",)}, "cannot be trained"),
        ({"width": 0.5}, "whose width cannot be chosen"),
        ({"image_size": 32}, "images of 16 pixels only"),
        ({"trusted": False}, "is not opened"),
    ):
        with pytest.raises(NaxcliError, match=message):
            run(**{**program, **changes})


def test_a_graph_of_another_program_is_measured_as_far_as_it_tells(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def write(shape: list[Any], path: Path) -> None:
        images = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
        outputs = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [images], [outputs])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)

    write([2, 3, 8, 8], tmp_path / "fixed.onnx")
    entry = run(configs=(str(tmp_path / "fixed.onnx"),), **AS_IT_IS)["networks"][0]
    assert (entry["num_params"], entry["flops"], entry["image_size"]) == (None, None, 8)
    assert entry["inference"]["flops_per_second"] is None and entry["inference"]["images_per_second"] > 0
    with pytest.raises(NaxcliError, match="batches of 2 only") as caught:
        run(configs=(str(tmp_path / "fixed.onnx"),), **{**AS_IT_IS, "batch_size": 4})
    assert caught.value.hint == "--batch 2"
    write(["n", 3, "h", "w"], tmp_path / "free.onnx")
    with pytest.raises(NaxcliError, match=r"the input of .* is"):
        run(configs=(str(tmp_path / "free.onnx"),), **AS_IT_IS)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_damaged_programs_are_clear_errors(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(b"\x00damaged" * 100)
    with pytest.raises(NaxcliError, match="is not a"):
        run(configs=(str(path),), trusted=True, **AS_IT_IS)


def test_a_python_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty_file.py").write_text("x = 1\n")
    with pytest.raises(NaxcliError, match="is not a Python export"):
        run(configs=(str(tmp_path / "empty_file.py"),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configs": ("timm:no_such_network",)}, "has no network 'no_such_network'"),
        ({"configs": ("nexception:no_such_reference",)}, "no reference configuration"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"precision": "int4"}, "no precision 'int4'"),
    ],
)
def test_what_does_not_exist_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NaxcliError, match=message):
        run(**changes)


def test_operations_are_counted_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5, bias=False)
    )
    operations = list_operations(network, (2, 3, 4, 4), bytes_per_value=2)
    image, feature, convolution, linear = 2 * 3 * 16, 2 * 8 * 16, 8 * 3 * 9, 8 * 16 * 5
    assert operations == [
        Operation(macs=2 * 16 * convolution, traffic_bytes=2 * (image + convolution + feature)),
        Operation(macs=0, traffic_bytes=2 * 2 * feature),
        Operation(macs=2 * linear, traffic_bytes=2 * (feature + linear + 2 * 5)),
    ]


def test_the_bound_takes_the_slower_of_arithmetic_and_memory_for_each_operation() -> None:
    operations = [Operation(macs=50, traffic_bytes=10), Operation(macs=0, traffic_bytes=30)]
    assert least_seconds(operations, Ceilings(bytes_per_second=10, flops_per_second=50)) == 2 + 3


def test_the_reduced_network_counts_as_in_the_study_of_its_cost() -> None:
    # 4.26 GFLOP of arithmetic and 61.7 MB of bfloat16 traffic per image of a training step, counted independently.
    space = load_space("nexception")
    network = build_network(space, space.reference["nexception"], num_classes=100, in_channels=3, image_size=32)
    operations = list_operations(network.train(), (256, 3, 32, 32), bytes_per_value=2)
    assert 3 * 2 * sum(operation.macs for operation in operations) / 256 == pytest.approx(4.26e9, rel=0.01)
    assert 3 * sum(operation.traffic_bytes for operation in operations) / 256 == pytest.approx(61.7e6, rel=0.06)


def test_ceilings_are_measured() -> None:
    ceilings = measure_ceilings(torch.device("cpu"), torch.float32)
    assert ceilings.bytes_per_second > 1e7 and ceilings.flops_per_second > 1e7


def test_the_command_prints_a_table_or_json() -> None:
    arguments = (
        "bench",
        "--config",
        "nexception:xception",
        "--width",
        "0.05",
        "--image-size",
        "16",
        "--phase",
        "inference",
    )
    done = naxcli(*arguments, "--repetitions", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout and "nexception:xception" in done.stdout and "inference" in done.stdout
    assert "on a CPU: batches of 8 images and 2 repetitions instead of the paper's 256 and 30" in done.stderr
    wrong = naxcli("bench", "--phase", "sleep")
    assert wrong.returncode == 2 and "no phase 'sleep'" in wrong.stderr
