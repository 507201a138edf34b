"""Trackers: TensorBoard, MLflow and Weights & Biases, which log every epoch of a training on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from naxcli.errors import NaxcliError
from naxcli.records.trial import EpochRecord

TRACKERS = ("tensorboard", "mlflow", "wandb")
MLFLOW_RUN_FILE = "mlflow_run"
WANDB_RUN_FILE = "wandb_run"


class Tracker(Protocol):
    """Where the numbers of an epoch go; `measured_on` is `test` or `validation`."""

    def log(self, record: EpochRecord, measured_on: str) -> None: ...


def require_tracker(name: str) -> None:
    """Raise NaxcliError if there is no tracker of that name."""
    if name not in TRACKERS:
        raise NaxcliError(f"there is no tracker {name!r}", hint=f"one of {', '.join(TRACKERS)}")


@contextmanager
def make_tracker(
    name: str | None, folder: Path, settings: Mapping[str, Any], num_done: int
) -> Iterator[Tracker | None]:
    """Yield the named tracker, continuing that of an earlier session of the same training; None for no name.

    Args:
        name: Name of the tracker, one of `TRACKERS`.
        folder: Folder of the training.
        settings: Settings of the training, nested one level.
        num_done: Epochs before this session; what a killed session logged after them is dropped.

    Raises:
        NaxcliError: If the name is unknown, or its package is not installed.
    """
    if name is None:
        yield None
    elif name == "tensorboard":
        with _tensorboard(folder, num_done) as tracker:
            yield tracker
    elif name == "mlflow":
        with _mlflow(folder, settings) as tracker:
            yield tracker
    else:
        require_tracker(name)
        with _wandb(folder, settings) as tracker:
            yield tracker


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, record: EpochRecord, measured_on: str) -> None:
        for name, value in _metrics(record, measured_on).items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()


@contextmanager
def _tensorboard(folder: Path, num_done: int) -> Iterator[_TensorBoard]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard") from error
    writer = SummaryWriter(folder / "tensorboard", purge_step=num_done + 1 if num_done else None)
    try:
        yield _TensorBoard(writer)
    finally:
        writer.close()


class _MLflow:
    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow

    def log(self, record: EpochRecord, measured_on: str) -> None:
        self._mlflow.log_metrics(_metrics(record, measured_on), step=record.epoch)


@contextmanager
def _mlflow(folder: Path, settings: Mapping[str, Any]) -> Iterator[_MLflow]:
    """Log to the server that MLflow's own environment variables name, or to its default folder."""
    try:
        import mlflow
    except ImportError as error:
        raise _missing("mlflow") from error
    noted = folder / MLFLOW_RUN_FILE
    run_id = noted.read_text(encoding="utf-8").strip() if noted.is_file() else None
    with mlflow.start_run(run_id=run_id, run_name=None if run_id else folder.resolve().name) as run:
        if run_id is None:
            noted.write_text(run.info.run_id, encoding="utf-8")
            for name, value in settings.items():
                inner = value if isinstance(value, Mapping) else {"": value}
                mlflow.log_params({f"{name}.{key}".rstrip("."): item for key, item in inner.items()})
        yield _MLflow(mlflow)


class _WandB:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, record: EpochRecord, measured_on: str) -> None:
        self._run.log(_metrics(record, measured_on), step=record.epoch)


@contextmanager
def _wandb(folder: Path, settings: Mapping[str, Any]) -> Iterator[_WandB]:
    """Log to where Weights & Biases' own environment variables point; `WANDB_MODE=offline` writes to the folder only."""
    try:
        import wandb
    except ImportError as error:
        raise _missing("wandb") from error
    noted = folder / WANDB_RUN_FILE
    run_id = noted.read_text(encoding="utf-8").strip() if noted.is_file() else None
    with wandb.init(
        project="naxcli", name=folder.resolve().name, id=run_id, resume="allow", dir=folder, config=dict(settings)
    ) as run:
        noted.write_text(run.id, encoding="utf-8")
        yield _WandB(run)


def _metrics(record: EpochRecord, measured_on: str) -> dict[str, float]:
    metrics = {
        "train/loss": record.train_loss,
        f"{measured_on}/accuracy": record.val_accuracy,
        f"{measured_on}/loss": record.val_loss,
        "learning_rate": record.learning_rate,
        "seconds": record.seconds,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _missing(package: str) -> NaxcliError:
    return NaxcliError(
        f"--tracker {package} needs the package {package}",
        why="it is not installed",
        hint="pip install 'naxcli[trackers]'",
    )
