"""Final training: one configuration, trained long by the full recipe, in a folder that the same command resumes.

The folder holds `training.toml` (what decides the result), `environment.json`, `log.csv` (a row per epoch),
`checkpoints/last.pt` and `best.pt`, and at the end a `weights` export: `config.json`, `model.safetensors`, `README.md`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tomli_w

from naxcli.commands.train_settings import TrainingPlan, decided_again
from naxcli.errors import ExitCode, NaxcliError
from naxcli.measure.devices import choose_device, device_name
from naxcli.records.directory import RunDirectory
from naxcli.records.files import DISK_FULL, write_atomically
from naxcli.records.trial import EpochRecord, Status
from naxcli.workers.shutdown import Interruption

if TYPE_CHECKING:
    from torch import nn

    from naxcli.data.dataset import Dataset
    from naxcli.training.distributed import Processes
    from naxcli.training.request import Outcome
    from naxcli.training.trackers import Tracker


# What a training writes into its folder beside `training.toml`, the folders of Weights & Biases excepted, each of which has a new name.
TRAINING_FILES = (
    "checkpoints/last.pt",
    "checkpoints/best.pt",
    "checkpoints/.last.pt.*.tmp",
    "checkpoints/.best.pt.*.tmp",
    "best/config.json",
    "best/model.safetensors",
    "best/README.md",
    "tensorboard/events.out.tfevents.*",
    "log.csv",
    "config.json",
    "model.safetensors",
    "README.md",
    "mlflow_run",
    "wandb_run",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEnd:
    """How a training ended: `exit_code` tells Ctrl-C from SIGTERM and from divergence; `facts` are plain data."""

    exit_code: ExitCode
    facts: dict[str, Any]


class Display(Protocol):
    """What is told of a training under way."""

    def started(self, plan: TrainingPlan, facts: Mapping[str, Any], done: Sequence[EpochRecord]) -> None: ...
    def notice(self, text: str) -> None: ...
    def step(self, epochs_done: float) -> None: ...
    def epoch(self, record: EpochRecord) -> None: ...


def is_main_process() -> bool:
    """Return whether this process prints and writes: the only one, or the main one of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def run_training(plan: TrainingPlan, display: Display) -> TrainingEnd:
    """Train from where the folder's last checkpoint is to the end, and leave the trained network there.

    To be called in each process that torchrun started; the main one writes and displays.

    Raises:
        NaxcliError: if data, device or tracker are missing, another process holds the folder, or the disk is full.
    """
    from naxcli.training.distributed import joined_processes

    with Interruption() as interruption, joined_processes() as processes:
        if not processes.is_main_process:
            return _train(plan, display, processes, interruption)
        with _disk_guarded(plan.folder), RunDirectory(path=plan.folder).locked(hint="wait for it, or stop it"):
            return _train(decided_again(plan), display, processes, interruption)


def _train(plan: TrainingPlan, display: Display, processes: Processes, interruption: Interruption) -> TrainingEnd:
    from naxcli.search_space.sizes import measure_config
    from naxcli.training.loop import seed_everything, train
    from naxcli.training.request import TrainingRequest

    command, selection, experiment = plan.command, plan.selection, plan.experiment
    device = choose_device(command.device, num_processes=processes.num)
    if processes.is_main_process:
        _prepare_folder(plan)
    with processes.main_process_first():
        is_streaming = _needs_streaming(plan, processes)
    is_streaming = processes.any(is_streaming)  # all of them train on the same batches
    with processes.main_process_first():
        dataset = _load_data(plan, is_streaming)
    sizes: dict[str, Any] = {
        "num_classes": dataset.num_classes,
        "in_channels": dataset.in_channels,
        "image_size": experiment.recipe.resolution or dataset.image_size,
        "variant": plan.variant,
        "width": experiment.width,
    }
    counts = measure_config(selection.space, selection.config, **sizes)
    seed_everything(experiment.seed)
    network, notices = _make_network(plan, sizes)
    log = _CurveLog(plan, display if processes.is_main_process else None)
    facts = {
        "folder": str(plan.folder),
        "space": selection.space.name,
        "config": dict(selection.config),
        **sizes,
        **counts,
        "data": experiment.data,
        "num_train_images": len(dataset.train_labels),
        "measured_on": plan.measured_on,
        "num_measured_images": len(dataset.validation_labels),
        "epochs": command.epochs,
        "seed": experiment.seed,
        "device": device_name(device),
        "num_processes": processes.num,
    }
    with log.opened(facts, [*dataset.notices, *notices]):
        outcome = train(
            network,
            dataset,
            TrainingRequest(
                recipe=experiment.recipe,
                epochs=command.epochs,
                seed=experiment.seed,
                device=device,
                checkpoint_from=plan.last if plan.last.is_file() else None,
                checkpoint_to=plan.last,
                checkpoint_every=1,
                best_to=plan.best,
                grad_accum_steps=command.grad_accum_steps,
                # What is compiled has kernels of its own.
                uses_kernels=experiment.uses_kernels and not command.compile,
            ),
            processes=processes,
            on_epoch=log.epoch,
            on_step=display.step if processes.is_main_process else None,
            should_stop=lambda: interruption.is_set,
        )
    if outcome.status is Status.SUCCESS and processes.is_main_process:
        _export(plan, dataset, outcome)
    return _end(outcome, facts, interruption)


def _make_network(plan: TrainingPlan, sizes: Mapping[str, Any]) -> tuple[nn.Module, list[str]]:
    """Return the network to train, with the initial weights that were asked for, and what is to be said of it."""
    from naxcli.search_space.networks import build_network

    network = build_network(plan.selection.space, plan.selection.config, **sizes)
    notices = []
    if plan.initial_weights is not None:
        from naxcli.export.bundle import load_into, read_weights

        weights = read_weights(plan.initial_weights)
        kept_out = load_into(network, weights, source=plan.initial_weights, new_classifier=True)
        new_layer = f", with a new {kept_out}" if kept_out else ""
        notices.append(f"starting from the weights of {plan.initial_weights}{new_layer}")
    if plan.command.compile:
        network.compile()
    return network, notices


class _CurveLog:
    """The curve of a training: in `log.csv`, on the display and at the tracker; `display` is None in all but the main process."""

    def __init__(self, plan: TrainingPlan, display: Display | None) -> None:
        self._plan = plan
        self._display = display
        self._curve = _curve_so_far(plan.last)
        self._tracker: Tracker | None = None

    @contextlib.contextmanager
    def opened(self, facts: Mapping[str, Any], notices: Iterable[str]) -> Iterator[None]:
        from naxcli.training.trackers import make_tracker

        if self._display is None:
            yield
            return
        plan = self._plan
        self._display.started(plan, facts, self._curve)
        for notice in notices:
            self._display.notice(notice)
        with make_tracker(plan.command.tracker, plan.folder, plan.settings, len(self._curve)) as self._tracker:
            yield

    def epoch(self, record: EpochRecord) -> None:
        if self._display is None:
            return
        self._curve.append(record)
        write_atomically(self._plan.log_file, _csv(self._curve, self._plan.measured_on))
        self._display.epoch(record)
        if self._tracker is not None:
            self._tracker.log(record, self._plan.measured_on)


def _prepare_folder(plan: TrainingPlan) -> None:
    from naxcli.records.environment import describe_environment

    if not plan.is_new:
        return
    if plan.command.overwrite:
        _remove_training(plan.folder)
    write_atomically(plan.settings_file, tomli_w.dumps(plan.settings))
    write_atomically(plan.folder / "environment.json", json.dumps(describe_environment(None), indent=1))


def _remove_training(folder: Path) -> None:
    """Delete what a training writes, but for its settings, by which the folder is known as one; files of others stay."""
    for pattern in TRAINING_FILES:
        for path in folder.glob(pattern):
            if path.is_symlink() or path.is_file():
                path.unlink(missing_ok=True)
    for name in ("checkpoints", "best", "tensorboard"):
        with contextlib.suppress(OSError):  # a link, or not empty
            (folder / name).rmdir()


def _needs_streaming(plan: TrainingPlan, processes: Processes) -> bool:
    from naxcli.data.memory_fit import needs_streaming

    experiment = plan.experiment
    return needs_streaming(
        str(experiment.data),
        experiment.data_root,
        image_size=plan.image_size,
        in_memory=experiment.data_in_memory,
        num_processes=processes.num,
    )


def _load_data(plan: TrainingPlan, is_streaming: bool) -> Dataset:
    from naxcli.data.dataset import load_dataset
    from naxcli.data.memory_fit import streaming_notice

    experiment, on_test = plan.experiment, plan.command.on_test
    dataset = load_dataset(
        str(experiment.data),
        root=experiment.data_root,
        split_seed=experiment.seed,
        validation_fraction=experiment.validation_fraction,
        image_size=plan.image_size,
        with_test=on_test,
        test_crop=plan.test_crop if on_test else 1.0,
        skip_corrupt=plan.command.skip_corrupt or experiment.skip_corrupt,
        is_streaming=is_streaming,
    )
    if is_streaming:
        notice = streaming_notice(dataset.name, in_memory=experiment.data_in_memory)
        dataset = dataclasses.replace(dataset, notices=(*dataset.notices, notice))
    return dataset.with_test_as_validation() if on_test else dataset


def _curve_so_far(checkpoint: Path) -> list[EpochRecord]:
    """Return the records of the whole epochs that a checkpoint holds."""
    if not checkpoint.is_file():
        return []
    from naxcli.training.checkpoint import load_checkpoint

    return [EpochRecord(**record) for record in load_checkpoint(checkpoint)["curve"]]


def _csv(curve: Sequence[EpochRecord], measured_on: str) -> str:
    """Return the CSV file of a curve."""
    lines = [f"epoch,learning_rate,train_loss,{measured_on}_accuracy,{measured_on}_loss,seconds"]
    lines += [
        f"{record.epoch},{record.learning_rate!r},{record.train_loss!r},{record.val_accuracy!r},{record.val_loss!r},"
        f"{record.seconds:.3f}"
        for record in curve
    ]
    return "\n".join(lines) + "\n"


def _export(plan: TrainingPlan, dataset: Dataset, outcome: Outcome) -> None:
    """Leave the last epoch's network in the folder, and the best epoch's in its folder `best` where that is another."""
    from naxcli.export import ExportRequest, export_network

    best = _best(outcome.curve)
    targets = [(plan.folder, plan.last, outcome.curve[-1])]
    if best.epoch != outcome.curve[-1].epoch:
        targets.append((plan.folder / "best", plan.best, best))
    for folder, weights, record in targets:
        provenance = {
            **plan.selection.provenance,
            "trained_on": plan.experiment.data,
            "epochs": record.epoch,
            "of_epochs": plan.command.epochs,
            "seed": plan.experiment.seed,
            f"{plan.measured_on}_accuracy": record.val_accuracy,
            "recipe": dataclasses.asdict(plan.experiment.recipe),
        }
        export_network(
            ExportRequest(
                space=plan.selection.space,
                config=plan.selection.config,
                format="weights",
                out=folder,
                variant=plan.variant,
                width=plan.experiment.width,
                num_classes=dataset.num_classes,
                in_channels=dataset.in_channels,
                image_size=plan.experiment.recipe.resolution or dataset.image_size,
                weights=weights,
                provenance=provenance,
                mean=dataset.mean,
                std=dataset.std,
                overwrite=True,
                name=plan.selection.network_name,
            )
        )


def _best(curve: Sequence[EpochRecord]) -> EpochRecord:
    return max(curve, key=lambda record: (record.val_accuracy or 0.0, -record.epoch))


def _end(outcome: Outcome, facts: dict[str, Any], interruption: Interruption) -> TrainingEnd:
    exit_codes = {Status.SUCCESS: ExitCode.DONE, Status.DIVERGED: ExitCode.FAILED, None: interruption.exit_code}
    status = "interrupted" if outcome.status is None else str(outcome.status)
    facts = {
        **facts,
        "status": status,
        "epochs_done": len(outcome.curve),
        "accuracy": outcome.val_accuracy,
        "loss": outcome.val_loss,
        "train_loss": outcome.train_loss,
        "best": None,
        "seconds": outcome.seconds,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }
    if outcome.curve:
        best = _best(outcome.curve)
        facts["best"] = {"epoch": best.epoch, "accuracy": best.val_accuracy}
    return TrainingEnd(exit_code=exit_codes[outcome.status], facts=facts)


@contextlib.contextmanager
def _disk_guarded(folder: Path) -> Iterator[None]:
    """Say of a full disk what is safe: the last whole checkpoint."""
    try:
        yield
    except (OSError, NaxcliError) as error:
        cause = error.__cause__ if isinstance(error, NaxcliError) else error
        if not (isinstance(cause, OSError) and cause.errno in DISK_FULL):
            raise
        raise NaxcliError(
            f"the disk is full: {folder} could not be written",
            why="the checkpoint of the last whole epoch is safe",
            hint="free some space and run the same command again: it resumes",
            exit_code=ExitCode.FAILED,
        ) from error
