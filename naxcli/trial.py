"""Trial, Result, Status, Suggestion: the values that flow between searcher, workers and records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

ConfigValue = str | int | float | bool
Config = Mapping[str, ConfigValue]


class Status(StrEnum):
    """How a trial ended. `infeasible` breaks a stated limit; `crashed` is an exception of the evaluated code."""

    SUCCESS = "success"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    INFEASIBLE = "infeasible"


def config_id(config: Config) -> str:
    """Return the 12-character identity of a configuration, independent of the order of its keys."""
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What a searcher asks to be evaluated: a configuration at a fidelity (epochs) with a training seed."""

    config: Config
    fidelity: float
    seed: int
    bracket: int | None = None
    rung: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A suggestion with its identity in the run: config + fidelity + seed.

    `parent_trial_id` is the trial of the same configuration and seed at the next lower fidelity, whose checkpoint this one continues.
    """

    trial_id: int
    config: Config
    fidelity: float
    seed: int
    searcher: str
    bracket: int | None = None
    rung: int | None = None
    parent_trial_id: int | None = None

    @property
    def config_id(self) -> str:
        return config_id(self.config)

    @property
    def suggestion(self) -> Suggestion:
        return Suggestion(
            config=self.config, fidelity=self.fidelity, seed=self.seed, bracket=self.bracket, rung=self.rung
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch of a learning curve. Losses are means per image; `learning_rate` is that of the epoch's last step."""

    epoch: int
    train_loss: float
    val_accuracy: float | None
    val_loss: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of one trial.

    `cost` is minimised (1 - validation accuracy for networks) and is None unless `status` is success. `seconds` is wall time of the
    trial on its worker; `started_at` and `ended_at` are Unix times; sizes are in bytes; `flops` are multiply-adds of one image forward.
    """

    status: Status
    cost: float | None = None
    val_accuracy: float | None = None
    train_loss: float | None = None
    num_params: int | None = None
    flops: int | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None
    seconds: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    worker: str | None = None
    device: str | None = None
    error: str | None = None
    curve: tuple[EpochRecord, ...] = field(default=())
