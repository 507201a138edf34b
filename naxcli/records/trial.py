"""Trial, Result, Status, Suggestion: the values that flow between searcher, workers and records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from naxcli.errors import NaxcliError

MAX_REASON_LENGTH = 300
TRACEBACK_HEAD = "Traceback (most recent call last):"

# Columns of trials.parquet besides the hyperparameters, whose columns begin with the prefix.
TRIAL_COLUMNS = (
    "trial_id",
    "config_id",
    "searcher",
    "bracket",
    "rung",
    "fidelity",
    "seed",
    "status",
    "cost",
    "val_accuracy",
    "train_loss",
    "num_params",
    "flops",
    "latency_ms",
    "peak_memory_bytes",
    "seconds",
    "started_at",
    "ended_at",
    "worker",
    "device",
    "parent_trial_id",
    "error",
    "grad_accum_steps",
    "predicted_cost",
    "stopped_after",
)
CONFIG_PREFIX = "config."

ConfigValue = str | int | float | bool
Config = Mapping[str, ConfigValue]


class Status(StrEnum):
    """How a trial ended.

    `infeasible` breaks a stated limit; `crashed` is an exception of the evaluated code; `stopped` was ended because it could hardly become
    the best, and is no failure.
    """

    SUCCESS = "success"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"


NO_FAILURES = (Status.SUCCESS, Status.STOPPED)


def is_int64(number: int) -> bool:
    """Return whether a whole number fits into 64 bits with its sign."""
    return -(2**63) <= number < 2**63


def config_id(config: Config) -> str:
    """Return the 12-character identity of a configuration, independent of the order of its keys."""
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What a searcher asks to be evaluated: a configuration at a fidelity (epochs) with a training seed.

    `config_id` is that of `config`, computed once: it is looked up with every result.
    """

    config: Config
    fidelity: float
    seed: int
    bracket: int | None = None
    rung: int | None = None
    config_id: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config_id", config_id(self.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A suggestion with its identity in the run: config + fidelity + seed.

    `parent_trial_id` is the trial of the same configuration and seed at the next lower fidelity, whose checkpoint this one continues.
    """

    trial_id: int
    suggestion: Suggestion
    searcher: str
    parent_trial_id: int | None = None

    @property
    def config(self) -> Config:
        return self.suggestion.config

    @property
    def config_id(self) -> str:
        return self.suggestion.config_id

    @property
    def fidelity(self) -> float:
        return self.suggestion.fidelity

    @property
    def seed(self) -> int:
        return self.suggestion.seed


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
    `grad_accum_steps` is the number of parts that a training's batches were cut into: more than 1 where memory ran out, and then
    batch normalization saw the parts. Of a stopped trial, `stopped_after` is the number of its epochs, and `predicted_cost` what it was
    expected to reach at its fidelity, which the searcher is told: the incumbent's cost or a higher one.

    Raises:
        OverflowError: if a whole number has more than 64 bits, which neither SQLite nor Parquet can hold.
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
    grad_accum_steps: int | None = None
    predicted_cost: float | None = None
    stopped_after: float | None = None
    curve: tuple[EpochRecord, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("num_params", "flops", "peak_memory_bytes"):
            if not is_int64(getattr(self, name) or 0):
                raise OverflowError(f"{name} has more than 64 bits")

    @property
    def reason(self) -> str:
        """Why it is no success, on one line: the last exception's type and message, or the error as it is; empty of a success."""
        lines = [line.rstrip() for line in (self.error or "").splitlines() if line.strip()]
        heads = [number for number, line in enumerate(lines) if line == TRACEBACK_HEAD]
        # A message may have many lines, the first of which says most; of a traceback, it is the first that is not indented.
        after = lines[heads[-1] + 1 :] if heads else lines[-1:]
        line = next((line for line in after if not line.startswith(" ")), "".join(after[-1:]))
        line = line.removeprefix(f"{NaxcliError.__module__}.{NaxcliError.__name__}: ")
        return line if len(line) <= MAX_REASON_LENGTH else f"{line[:MAX_REASON_LENGTH]}…"
