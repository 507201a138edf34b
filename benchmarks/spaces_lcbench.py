"""LCBench's learning curves as a user-defined space: a real objective over several fidelities, without training.

Papers: Zimmer, Lindauer, Hutter, "Auto-PyTorch Tabular" (LCBench), TPAMI 2021; Pfisterer et al., "YAHPO Gym", AutoML 2022, whose
surrogate of the curves this calls (slds-lmu/yahpo_data, Apache-2.0). A multi-layer perceptron with seven hyperparameters is trained on
one of 34 OpenML tasks for 1 to 52 epochs, which are the fidelity. `cost` is 1 minus the validation accuracy; the surrogate has no
noise, and the trial's seed no effect.

LCBENCH_TASK names the task (default 3945). The surrogate is looked for in the folder LCBENCH names, else in
../shared/data/yahpo-lcbench beside the repository, and needs onnxruntime (`pip install naxcli[onnx]`).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ConfigSpace import ConfigurationSpace, Float, Integer

from naxcli import Space

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "yahpo-lcbench"
MAX_EPOCHS = 52
# In the surrogate's order.
HYPERPARAMETERS = (
    Integer("batch_size", (16, 512), log=True),
    Float("learning_rate", (1e-4, 1e-1), log=True),
    Float("momentum", (0.1, 0.99)),
    Float("weight_decay", (1e-5, 1e-1)),
    Integer("num_layers", (1, 5)),
    Integer("max_units", (64, 1024), log=True),
    Float("max_dropout", (0.0, 1.0)),
)


def folder() -> Path:
    """Return where the surrogate is."""
    path = Path(os.environ.get("LCBENCH", DEFAULT_FOLDER))
    if not (path / "model.onnx").is_file():
        raise FileNotFoundError(
            f"{path}/model.onnx is missing: put YAHPO Gym's surrogate of LCBench there, or set LCBENCH"
        )
    return path


@functools.cache
def tasks() -> dict[str, int]:
    """Return the surrogate's number of each OpenML task."""
    numbers: dict[str, int] = json.loads((folder() / "encoding.json").read_text())["OpenML_task_id"]
    known = json.loads((folder() / "config_space.json").read_text())["hyperparameters"]
    names = next(hyperparameter["choices"] for hyperparameter in known if hyperparameter["name"] == "OpenML_task_id")
    return {name: numbers[name] for name in names}


@functools.cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder() / "model.onnx", options, providers=["CPUExecutionProvider"])


def costs(configs: Sequence[Mapping[str, Any]], *, epochs: float, task: str) -> npt.NDArray[np.float64]:
    """Return the cost of each configuration on a task after some epochs, (num_configs,)."""
    rows = [[epochs, *(config[hyperparameter.name] for hyperparameter in HYPERPARAMETERS)] for config in configs]
    return predicted_costs(rows, task=task)


def predicted_costs(rows: Sequence[Sequence[float]], *, task: str) -> npt.NDArray[np.float64]:
    """Return the cost of each row of epochs and hyperparameters, in the surrogate's order, (num_rows,)."""
    inputs = {
        "x_cat": np.full((len(rows), 1), tasks()[task], dtype=np.int32),
        "x_cont": np.array(rows, dtype=np.float32),
    }
    predicted = _session().run(None, inputs)[0]
    found: npt.NDArray[np.float64] = 1 - predicted[:, 1].astype(np.float64) / 100
    return found


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(*HYPERPARAMETERS)
    return space


def evaluate(config: Mapping[str, Any], *, fidelity: float, seed: int) -> dict[str, float]:
    task = os.environ.get("LCBENCH_TASK", "3945")
    return {"cost": float(costs([config], epochs=min(fidelity, MAX_EPOCHS), task=task)[0])}


SPACE = Space(
    name="lcbench",
    configspace=configspace,
    evaluate=evaluate,
    paper="Zimmer et al., Auto-PyTorch Tabular, TPAMI 2021; Pfisterer et al., YAHPO Gym, AutoML 2022",
)
