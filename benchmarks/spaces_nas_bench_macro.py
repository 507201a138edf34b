"""NAS-Bench-Macro as a user-defined space: a real objective for searchers, without training.

Paper: Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021; table: xiusu/NAS-Bench-Macro,
Apache-2.0. All 6,561 networks of eight layers, each an identity or an inverted bottleneck of kernel 3 or 5, trained on
CIFAR-10 with three seeds. `cost` is 1 minus the mean test accuracy of the seeds; with `NAS_BENCH_MACRO_SEED=each` it is
that of the one seed that the trial's training seed picks.

The table is looked for in the folder NAS_BENCH_MACRO names, else in ../shared/data/nas-bench-macro beside the repository.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from ConfigSpace import Categorical, ConfigurationSpace

from naxcli import Space

NUM_LAYERS = 8
FILE = "nas-bench-macro_cifar10.json"
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "nas-bench-macro"


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """Return the results of every network, keyed by its eight choices such as "22212220"."""
    path = Path(os.environ.get("NAS_BENCH_MACRO", DEFAULT_FOLDER)) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: put the table of NAS-Bench-Macro there, or set NAS_BENCH_MACRO")
    results: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return results


def key(config: Any) -> str:
    """Return a configuration's key in the table."""
    return "".join(str(config[f"layer_{layer}"]) for layer in range(1, NUM_LAYERS + 1))


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    space.add(*(Categorical(f"layer_{layer}", [0, 1, 2]) for layer in range(1, NUM_LAYERS + 1)))
    return space


def evaluate(config: Any, *, fidelity: float, seed: int) -> dict[str, float]:
    result = table()[key(config)]
    accuracy = result["mean_acc"]
    if os.environ.get("NAS_BENCH_MACRO_SEED") == "each":
        accuracy = result["test_acc"][seed % len(result["test_acc"])]
    return {"cost": 1 - accuracy / 100, "num_params": result["params"], "flops": result["flops"]}


SPACE = Space(
    name="nas-bench-macro",
    configspace=configspace,
    evaluate=evaluate,
    zero_cost=lambda config: {"num_params": table()[key(config)]["params"], "flops": table()[key(config)]["flops"]},
    reference={"best": {f"layer_{layer}": int(choice) for layer, choice in enumerate("22212220", start=1)}},
    paper="Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021",
)
