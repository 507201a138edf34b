"""What `make gpu` and `make bench-gpu` run, as far as it shows without a GPU."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_profile, gpu_study
from naxcli.settings.sources import resolve


def test_the_study_searches_the_whole_space_on_cifar100_with_the_papers_recipe() -> None:
    study = resolve(flags={}, experiment_file=str(gpu_study.EXPERIMENT), environment={}, has_networks=True)
    paper = resolve(flags={"space": "nexception"}, experiment_file="cifar100", environment={}, has_networks=True)
    assert (study.space, study.data, study.width, study.limits) == ("nexception", "cifar100", 1.0, paper.limits)
    assert study.recipe == paper.recipe
    assert not study.fidelity.is_single


def test_the_table_has_what_was_measured_and_dashes_for_the_rest() -> None:
    results = {
        "ceilings": {"device": "H100", "bytes_per_second": 3e12},
        "step-128": {
            "settings": {"batch_size": 128},
            "ratio": [1.4, 1.6, 1.5],
            "naxcli_ms": [4.0, 5.0, 6.0],
            "timm_ms": [7.0, 7.5, 8.0],
        },
    }
    rows = [{"cudnn": 2.0, "native": 1.0, "triton": 3.0}, {"cudnn": 1.0, "native": 2.0, "triton": 0.5}]
    results["kernels"] = {"rows": rows}
    results["step-128-off"] = results["step-128"]
    lines = gpu.table(results).splitlines()
    assert lines[0].startswith("H100")
    assert "| depthwise, all shapes | fastest 1.50 ms, cuDNN 3.00, native 3.00, Triton 3.50 |  |" in lines
    assert "| the same without kernels, batch 128 | 1.50x (5.00 ms, timm 7.50 ms) |  |" in lines
    assert "| step at batch 128 over timm's | 1.50x (5.00 ms, timm 7.50 ms) | >= 1.5x |" in lines
    share = 128 * 61.7e6 / 3e12 / 5e-3
    assert f"| share of the unfused memory roofline, batch 128 | {share:.0%} | >= 50 % |" in lines
    assert "| fixed cost of a trial | – | <= 1.5 s |" in lines


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW", "normalization"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix product"),
        ("void at::native::multi_tensor_apply_kernel", "optimizer"),
        ("void at::native::vectorized_elementwise_kernel<4, GeluCUDAKernel>", "elementwise"),
        ("Memcpy DtoD (Device -> Device)", "copy and cast"),
        ("conv_depthwise2d_backward_kernel", "depthwise convolution"),
        ("_data_gradient_kernel", "depthwise convolution"),
        ("_moment_kernel", "optimizer"),
    ],
)
def test_kernels_are_told_apart(kernel: str, kind: str) -> None:
    assert gpu_profile.kind_of(kernel) == kind


def test_a_profile_counts_kernels_and_not_the_annotations_that_span_them() -> None:
    def event(key: str, *, milliseconds: float, is_cuda: bool = True, is_user_annotation: bool = False) -> Any:
        return SimpleNamespace(
            key=key,
            count=2,
            device_type=torch.autograd.DeviceType.CUDA if is_cuda else torch.autograd.DeviceType.CPU,
            self_device_time_total=1e3 * milliseconds,
            self_cpu_time_total=1e3 * milliseconds,
            is_user_annotation=is_user_annotation,
        )

    events = [
        event("gemm", milliseconds=3.0),
        event("lamb", milliseconds=1.0),
        event("Optimizer.step#Lamb.step", milliseconds=1.5, is_user_annotation=True),
        event("cudaLaunchKernel", milliseconds=9.0, is_cuda=False),
    ]
    found: Any = SimpleNamespace(key_averages=lambda: events)
    assert gpu_profile.kernel_times(found, is_cuda=True) == {"gemm": (3.0, 2), "lamb": (1.0, 2)}


def test_a_profile_holds_whole_chunks_of_augmented_images() -> None:
    arguments = argparse.Namespace(kernels="auto", images=80, width=0.02, batch_size=8, min_steps=64)
    training, num_steps = gpu_profile.make_training(arguments, torch.device("cpu"))
    assert training.steps_per_epoch == 10 and num_steps == 70  # a chunk is an epoch, and 64 steps are not seven of them


@pytest.mark.parametrize("stops", ["a script fails", "a script writes nothing", "the time is over"])
def test_benchmarks_with_a_measurement_missing_end_with_a_failure(
    stops: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(item: gpu.Measurement, file: Path, _: object) -> int:
        is_bad = item.name == "step-256" and stops.startswith("a script")
        if not is_bad:
            file.write_text("{}")
        return 1 if is_bad and stops == "a script fails" else 0

    monkeypatch.setattr(gpu, "run", run)
    seconds = ["--seconds", "-1"] if stops == "the time is over" else []
    wanted = ["--only", "step-128", "step-256"]
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), *wanted, *seconds])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code and "step-256" in str(ended.value.code)
    stops = ""
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), *wanted])
    gpu.main()  # what was missing is measured, and nothing else


def test_packs_are_taken_from_any_folder_and_in_turn(study: gpu_study.Study, tmp_path: Path) -> None:
    unpack = """import pathlib, sys
root = pathlib.Path(sys.argv[1]) / "cifar-100-python"
root.mkdir(parents=True, exist_ok=True)
assert all((pathlib.Path(__file__).parent / f"cifar100-{name}.npz").exists() for name in sys.argv[3].split(","))
(root / "train").write_text(sys.argv[3])
"""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, files in (
        (first, {"unpack.py": unpack, "meta": "", "cifar100-a.npz": ""}),
        (second, {"cifar100-b.npz": ""}),
    ):
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    study.is_smoke = False

    def prepare(packs: list[Path], *stages: str) -> str | None:
        root = gpu_study.prepare_data(study, argparse.Namespace(packs=packs, data_root=None, stages=stages))
        train = root / "cifar-100-python" / "train"
        return train.read_text() if train.exists() else None

    assert prepare([first], "tests") is None  # they need no data: half of it is not unpacked
    assert prepare([], "search") == "a"
    assert prepare([second], "search") == "a,b"
    assert prepare([], "search") == "a,b"


def test_a_folder_that_did_not_come_along_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_study", "--packs", "../nowhere/cifar100"])
    with pytest.raises(SystemExit):
        gpu_study.parse()
    assert "copy it into the checkout" in capsys.readouterr().err


@pytest.fixture
def study(tmp_path: Path) -> gpu_study.Study:
    return gpu_study.Study(
        out=tmp_path, deadline=time.monotonic() + 60, is_smoke=True, environment=dict(os.environ), state={}
    )


@pytest.fixture(params=["a terminal", "the background of a script"])
def started_in(request: pytest.FixtureRequest) -> Iterator[None]:
    """How SIGINT is met: with Python's own handler, or not at all, as a shell starts what a script does not wait for."""
    handler = signal.default_int_handler if request.param == "a terminal" else signal.SIG_IGN
    before = signal.signal(signal.SIGINT, handler)
    yield
    assert signal.signal(signal.SIGINT, before) is handler


@pytest.mark.usefixtures("started_in")
def test_a_stage_out_of_time_is_interrupted_and_goes_on_next_time(study: gpu_study.Study) -> None:
    study.deadline = time.monotonic() + gpu_study.STOP_SECONDS + 1.0
    waiting = (
        "import time\ntry:\n  print('begun', flush=True); time.sleep(30)\nexcept KeyboardInterrupt:\n  print('asked')"
    )
    assert not study.stage("search", [sys.executable, "-c", waiting])
    assert study.state["search"]["is_cut"] and not study.state["search"]["is_done"]
    assert (study.out / "search.log").read_text() == "begun\nasked\n"
    study.deadline = time.monotonic() + 60
    assert study.stage("search", [sys.executable, "-c", "print('ended')"])
    assert (study.out / "search.log").read_text().endswith("ended\n")
    assert gpu_study.ending(study.state["search"]).startswith("done")
    assert not study.stage("tests", [sys.executable, "-c", "raise SystemExit(3)"])
    assert gpu_study.ending(study.state["tests"]).startswith("failed with 3")


def test_without_time_no_stage_starts(study: gpu_study.Study) -> None:
    study.deadline = time.monotonic() + 1
    assert not study.stage("search", [sys.executable, "-c", "raise SystemExit(1)"])
    assert study.state == {}


def test_results_are_packed_without_data_and_checkpoints(study: gpu_study.Study) -> None:
    for name in (
        "run/checkpoints/1.pt",
        "run/trials.parquet",
        "data/cifar",
        "site/x.py",
        "packs/a.npz",
        "bench/step.json",
        ".hidden",
    ):
        (study.out / name).parent.mkdir(parents=True, exist_ok=True)
        (study.out / name).write_text("x")
    study.state = {"bench": {"is_done": True}}
    study.save()
    study.save()
    with tarfile.open(study.out / "results.tar.gz") as archive:
        names = {item.name for item in archive if item.isfile()}
    assert names == {"run/trials.parquet", "bench/step.json", "state.json"}
    assert json.loads((study.out / "state.json").read_text()) == study.state
