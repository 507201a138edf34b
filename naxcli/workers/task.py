"""TrialTask: what a worker needs for one trial, and its result, as plain values that travel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from naxcli.records.trial import Config, EpochRecord, Result, Status
from naxcli.settings.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Which images a trial trains on: the arguments of `load_dataset`.

    `on_test` trains on training and validation images together and measures on the test part; no search does.
    """

    name: str
    root: str
    split_seed: int
    validation_fraction: float
    images_per_class: int | None = None
    image_size: int | None = None
    on_test: bool = False
    skip_corrupt: bool = False
    is_lazy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTask:
    """Everything a worker needs for one trial.

    Args:
        fidelity: epochs to reach, counted from the start of training also when `checkpoint_from` continues an earlier trial.
        schedule_epochs: epochs against which the learning-rate schedule is written.
        checkpoint_to: where to leave the trained network; None keeps nothing.
        keep_if_cost_below: leaves the network only if its cost is below; None always does.
        seconds_limit: time after which the trial ends as a timeout.
        tells_beginning: whether it is reported when the trial begins, after what its worker loads first.
        needed_measures: what `evaluate` of the space has to return beside the cost, because it is an objective.
        space_digest: of the space that the search walks; a worker that loads another one refuses. None does not compare.
    """

    trial_id: int
    space: str
    config: Config
    fidelity: float
    seed: int
    data: DataRequest | None = None
    width: float = 1.0
    recipe: Recipe | None = None
    schedule_epochs: float | None = None
    threads: int = 1
    measure_latency: bool = False
    max_latency_ms: float | None = None
    checkpoint_from: str | None = None
    checkpoint_to: str | None = None
    keep_if_cost_below: float | None = None
    seconds_limit: float | None = None
    tells_beginning: bool = False
    needed_measures: tuple[str, ...] = ()
    space_digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        nested = {name: dataclasses.asdict(values[name]) for name in ("data", "recipe") if values[name] is not None}
        return {**values, "config": dict(self.config), **nested}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialTask:
        values = dict(values)
        values["data"] = DataRequest(**values["data"]) if values["data"] else None
        values["recipe"] = Recipe(**values["recipe"]) if values["recipe"] else None
        return cls(**values)


def result_to_dict(result: Result) -> dict[str, Any]:
    return dataclasses.asdict(result)


def result_from_dict(values: Mapping[str, Any]) -> Result:
    values = dict(values)
    values["status"] = Status(values["status"])
    values["curve"] = tuple(EpochRecord(**epoch) for epoch in values["curve"])
    return Result(**values)
