"""TrialTask: what a worker needs for one trial, and its result, as plain values that can be sent to another process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from naxcli.records.trial import Config, EpochRecord, Result, Status
from naxcli.searchers.forecast import Forecast
from naxcli.settings.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Which images a trial trains on: the arguments of `load_dataset`.

    Args:
        name: Name of the data source.
        root: Folder that holds or receives data sets.
        split_seed: Random seed of the split into training and validation images.
        validation_fraction: Share of every class held out for validation.
        images_per_class: Training images of every class; None is all.
        image_size: Side in pixels that images are resized to; None keeps the source's own.
        on_test: Whether to train on training and validation images together (where `images_per_class` limits them, on the
            training images alone) and measure on the test split; a search
            never does.
        skip_corrupt: Whether unreadable image files are left out rather than refused.
        is_streaming: Whether images are read each time they are used rather than kept in memory.
    """

    name: str
    root: str
    split_seed: int
    validation_fraction: float
    images_per_class: int | None = None
    image_size: int | None = None
    on_test: bool = False
    skip_corrupt: bool = False
    is_streaming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTask:
    """Everything a worker needs for one trial.

    Args:
        trial_id: Number of the trial in its run.
        space: Reference by which the worker loads the search space.
        config: Configuration to evaluate.
        fidelity: Epochs to reach, counted from the start of training also when `checkpoint_from` continues an earlier trial.
        seed: Random seed of the trial.
        data: Images to train on; None where the space evaluates by itself, as are `width` and `recipe` then.
        width: Factor on the channels of the network.
        recipe: How the network is trained.
        schedule_epochs: Epochs against which the learning-rate schedule is written.
        threads: CPU threads of torch.
        measure_latency: Whether latency is measured, without a limit on it as well.
        max_latency_ms: Latency above which the trial is infeasible.
        checkpoint_from: Checkpoint of the trial that this one continues.
        checkpoint_to: File for the checkpoint of the trained network; None keeps none.
        keep_if_cost_below: Cost below which the checkpoint is kept; None keeps every one.
        seconds_limit: Time after which the trial ends as a timeout.
        uses_graphs: Whether steps of the training may be CUDA graphs.
        uses_kernels: Whether the network may be trained with Triton's kernels.
        may_cut_batches: Whether batches are cut where a GPU runs out of memory, rather than the trial ended.
        tells_beginning: Whether the worker reports when the trial begins, after loading what it loads once.
        needed_measures: Further objectives that the space's `evaluate` has to return beside the cost.
        space_digest: Digest of the search's own space; a worker that loads another one refuses. None does not compare.
        forecast: By which the training is stopped where it can hardly become the best; None lets it end.
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
    uses_graphs: bool = True
    uses_kernels: bool = True
    may_cut_batches: bool = True
    tells_beginning: bool = False
    needed_measures: tuple[str, ...] = ()
    space_digest: str | None = None
    forecast: Forecast | None = None

    def to_dict(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        nested = {
            name: dataclasses.asdict(values[name])
            for name in ("data", "recipe", "forecast")
            if values[name] is not None
        }
        return {**values, "config": dict(self.config), **nested}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialTask:
        values = dict(values)
        values["data"] = DataRequest(**values["data"]) if values["data"] else None
        values["recipe"] = Recipe(**values["recipe"]) if values["recipe"] else None
        values["forecast"] = Forecast.from_dict(values["forecast"]) if values.get("forecast") else None
        return cls(**values)


def result_to_dict(result: Result) -> dict[str, Any]:
    return dataclasses.asdict(result)


def result_from_dict(values: Mapping[str, Any]) -> Result:
    values = dict(values)
    values["status"] = Status(values["status"])
    values["curve"] = tuple(EpochRecord(**epoch) for epoch in values["curve"])
    return Result(**values)
