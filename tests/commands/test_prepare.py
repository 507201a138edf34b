"""Preparing a space for the ensemble: what is measured, kept and refused."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naxcli.commands.prepare import prepare_on, prepare_space_file
from naxcli.errors import NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.search.loop import EndReason
from naxcli.search_space.contract import load_space
from naxcli.search_space.prepared import PreparedSpace
from naxcli.search_space.zero_cost import zero_cost_metrics
from tests.inline import InlinePool, search_inline

SPACE = """
from ConfigSpace import Categorical, ConfigurationSpace, OrdinalHyperparameter
from naxcli import Space


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(OrdinalHyperparameter("width", [2, 4, 8, 16]), Categorical("act", ["relu", "gelu"]),
              OrdinalHyperparameter("depth", [1, 2, 3]), Categorical("bias", [False, True]))
    return space


def build(config, *, num_classes, in_channels, image_size, width=1.0):
    from torch import nn
    size = config["width"]
    layers = [nn.Conv2d(in_channels, size, 3)]
    for _ in range(config["depth"]):
        layers += [{"relu": nn.ReLU, "gelu": nn.GELU}[config["act"]](), nn.Conv2d(size, size, 1, bias=config["bias"])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(size, num_classes))


def evaluate(config, *, fidelity, seed):
    return abs(config["width"] - 8) / 10 + (config["act"] == "relu") * 0.1 + config["depth"] / 100


SPACE = Space(name="small", configspace=configspace, build=build, evaluate=evaluate)
"""
SHAPE = {"num_classes": 100, "in_channels": 3, "image_size": 32, "width": 1.0}


@pytest.fixture
def space_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("naxcli.workers.pool.WorkerPool", InlinePool)
    monkeypatch.setattr("naxcli.search_space.zero_cost.NUM_MEASURED", 16)
    monkeypatch.setattr("naxcli.measure.zero_cost.LATENCY_SECONDS", 1e-4)
    path = tmp_path / "small.py"
    path.write_text(SPACE)
    return path


def asked(run: Path) -> list[tuple[Any, ...]]:
    with Records.open(RunDirectory(path=run)) as records:
        return [tuple(sorted(item.trial.config.items())) for item in records.finished()]


def refuse_to_measure(payload: object) -> None:
    raise AssertionError("a network was built before the first trial")


def test_a_prepared_space_is_searched_as_an_unprepared_one_without_building_a_network(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {"searcher": "ensemble", "seed": 3, "trials": 18}
    prepared = tmp_path / "small.safetensors"
    found = prepare_space_file(load_space(str(space_file)), prepared, shape=SHAPE)
    assert {"num_params", "flops", "memory_bytes", "latency_ms"} < set(found.metric_names)
    assert {f"inference_{name}" for name in ("num_params", "flops", "memory_bytes", "latency_ms")} < set(
        found.metric_names
    )
    search_inline(space_file, tmp_path / "unprepared", monkeypatch, **{**flags, "trials": 13})
    monkeypatch.setattr("tests.inline.measure_configs", refuse_to_measure)
    search_inline(space_file, tmp_path / "unprepared", monkeypatch, **flags)  # resumed, which measures nothing again
    search_inline(prepared, tmp_path / "prepared", monkeypatch, **flags)
    assert len(asked(tmp_path / "prepared")) == 18
    assert asked(tmp_path / "prepared") == asked(tmp_path / "unprepared")


def test_a_prepared_file_is_moved_with_its_space_and_refused_with_another_version_of_it(
    space_file: Path, tmp_path: Path
) -> None:
    prepared = tmp_path / "small.safetensors"
    written = prepare_space_file(load_space(str(space_file)), prepared, shape=SHAPE)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (space_file, prepared):
        (moved / path.name).write_bytes(path.read_bytes())
    space = load_space(str(moved / prepared.name))
    assert space.prepared is not None
    assert space.origin == str(moved / space_file.name)
    assert np.array_equal(space.prepared.trunk[0], written.trunk[0])
    for changed, why in (('version="2"', "version 1 then, 2 now"), ("groups={}", "code was changed")):
        (moved / space_file.name).write_text(SPACE.replace("build=build,", f"build=build, {changed},"))
        with pytest.raises(NaxcliError, match="another version of space") as error:
            load_space(str(moved / prepared.name))
        assert why in error.value.why


@pytest.mark.parametrize("content", [b"", b"no such thing", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_prepared_space_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(content)
    with pytest.raises(NaxcliError, match="no prepared space"):
        load_space(str(path))


def test_a_prepared_file_loads_no_code_but_that_of_its_own_name_beside_it(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = prepare_space_file(load_space(str(space_file)), tmp_path / "small.safetensors", shape=SHAPE)
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a stranger ran')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "p.safetensors"
    references: list[Any] = [f"/{tmp_path}/evil.py", "../evil.py", "evil:SPACE", "evil.py", "p.safetensors", 5]
    for reference in references:
        path.write_bytes(dataclasses.replace(written, reference=reference).to_bytes())
        with pytest.raises(NaxcliError):
            load_space(str(path))


def test_a_space_of_the_users_is_prepared_beside_its_file(space_file: Path, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="not beside the space's file") as error:
        prepare_space_file(load_space(str(space_file)), tmp_path / "other.safetensors", shape=SHAPE)
    assert str(space_file.with_suffix(".safetensors")) in error.value.hint


def test_a_space_without_networks_or_metrics_is_not_prepared(tiny_space: Path, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="nothing to measure"):
        prepare_space_file(load_space(str(tiny_space)), tmp_path / "tiny.safetensors", shape=SHAPE)
    with pytest.raises(NaxcliError, match="not named"):
        prepare_space_file(load_space(str(tiny_space)), tmp_path / "tiny.bin", shape=SHAPE)


def test_networks_are_measured_at_the_shape_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[dict[str, float]] = []

    def measure(*_: object, shape: dict[str, float], **__: object) -> PreparedSpace:
        shapes.append(shape)
        raise NaxcliError("seen enough")

    monkeypatch.setattr("naxcli.commands.prepare.prepare_on", measure)
    space = tmp_path / "small.py"
    space.write_text(SPACE.replace(", evaluate=evaluate", ""))
    with pytest.raises(NaxcliError, match="seen enough"):
        search_inline(space, tmp_path / "run", monkeypatch, searcher="ensemble", data="digits", trials=1)
    assert shapes == [{"num_classes": 10, "in_channels": 1, "image_size": 8, "width": 0.125}]


def test_metrics_of_a_space_s_own_need_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tmp_path / "small.py"
    space.write_text(
        SPACE.replace("SPACE = Space(", "SPACE = Space(zero_cost=lambda config: {'size': config['width']}, ")
    )
    for module in ("naxcli.measure.zero_cost", "naxcli.search_space.sizes"):  # which import it
        monkeypatch.setitem(sys.modules, module, None)
    loaded = load_space(str(space))
    assert zero_cost_metrics(loaded, loaded.default_config(), **SHAPE) == {"size": 2.0}


BROKEN = {
    "a network that cannot be built": ('    size = config["width"]', '    size = {2: 2, 4: 4, 8: 8}[config["width"]]'),
    "a metric of its own that is none": (
        "SPACE = Space(",
        """def zero_cost(config):
    values = {2: float("nan"), 4: float("inf"), 8: "many", 16: None}
    if config["depth"] == 3:
        return None if config["width"] > 4 else {"size": 1 / 0}
    return {"size": 1.0 if config["depth"] == 2 else values[config["width"]], "depth": config["depth"]}


SPACE = Space(zero_cost=zero_cost, """,
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_configurations_that_cannot_be_measured_are_left_out_and_said(
    broken: tuple[str, str], space_file: Path
) -> None:
    space_file.write_text(SPACE.replace(*broken))
    notices: list[str] = []
    pool: Any = InlinePool()
    found = prepare_on(pool, load_space(str(space_file)), shape=SHAPE, on_notice=notices.append)
    assert found is not None and 0 < len(found.vectors) == len(found.metrics) < 16
    assert np.isfinite(found.metrics).all() and all(np.isfinite(weights).all() for weights in found.trunk)
    assert notices == [f"{16 - len(found.metrics)} of 16 configurations could not be measured, and are left out"]


def test_naxcli_stop_ends_the_measuring(space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedPool(InlinePool):
        num_payloads = 0

        def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
            super().submit(task_id, payload, worker=worker)
            StoppedPool.num_payloads += 1
            RunDirectory(path=tmp_path / "run").stop_file.touch()

    end = search_inline(
        space_file, tmp_path / "run", monkeypatch, pool=StoppedPool, searcher="ensemble", seed=0, trials=2
    )
    assert end.reason == EndReason.STOPPED
    assert StoppedPool.num_payloads == 1
