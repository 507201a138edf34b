"""train: one network trained by a recipe, with checkpoints that continue bit for bit on a CPU."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import DropPath
from timm.utils import ModelEmaV3
from torch import nn

from naxcli.data.dataset import Dataset
from naxcli.data.streaming import make_batches
from naxcli.errors import NaxcliError
from naxcli.measure.memory import PeakMemory
from naxcli.records.trial import EpochRecord, Status
from naxcli.settings.recipe import Recipe
from naxcli.training.checkpoint import load_checkpoint, save_checkpoint
from naxcli.training.depthwise import restore_convolutions, speed_up_depthwise
from naxcli.training.distributed import ALONE, Processes, synchronise_batch_norms
from naxcli.training.host_memory import keep_freed_memory, return_freed_memory
from naxcli.training.optimizer import build_optimizer
from naxcli.training.step import EagerStep, GradientStep, choose_step
from naxcli.training.validation import evaluate_network

_logger = logging.getLogger(__name__)

_STEPS_BETWEEN_CHECKS = 100  # of the loss, which asks the device and so waits for it
_DATA_SHARE_OF_MEMORY = 0.5  # of what is free on the device, above which images stay on the host
_NETWORK_SEED_OFFSET = 1 << 32  # stochastic depth draws other numbers than the initialisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a training.

    Args:
        status: success or diverged; None where `should_stop` ended it early.
        val_accuracy: share of the validation images classified correctly at the end, None where it was not reached.
        val_loss: mean over the validation images of the recipe's loss.
        train_loss: mean over the last epoch.
        curve: one record per epoch from the start of the training, those of a continued checkpoint included.
        epochs_run: epochs of this call, without those of the checkpoint.
        seconds: wall time of this call.
        peak_memory_bytes: largest memory of this call, on the device for CUDA, of the process for a CPU.
        num_parts: parts that each batch was cut into for lack of memory.
    """

    status: Status | None
    val_accuracy: float | None
    val_loss: float | None
    train_loss: float | None
    curve: tuple[EpochRecord, ...]
    epochs_run: float
    seconds: float
    peak_memory_bytes: int | None
    num_parts: int = 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, on all devices; to be called before a network is built."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def train(
    network: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    epochs: float,
    seed: int,
    device: torch.device | str,
    schedule_epochs: float | None = None,
    checkpoint_from: Path | None = None,
    checkpoint_to: Path | None = None,
    checkpoint_every: int | None = None,
    best_to: Path | None = None,
    num_parts: int = 1,
    processes: Processes = ALONE,
    on_step: Callable[[float], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train a network in place and validate it after every epoch.

    On a CPU the same network, seed and number of threads give the same result bit for bit, whether in one go or
    continued from checkpoints.

    Args:
        network: freshly built after `seed_everything`; a `set_drop_path_rate(rate)` method sets its stochastic depth.
        epochs: to reach, counted from the start of the training; may be a fraction.
        seed: of data order, augmentation and stochastic depth.
        schedule_epochs: length of the learning-rate schedule, at least `epochs`; None is `epochs`. A training that
            is to be continued is written against the longest length it may get.
        checkpoint_from: training to continue.
        checkpoint_to: where to leave the training at its end, also when stopped; of the schedule `trunk` below
            `schedule_epochs`, where its learning rate begins to fall, as that is where a longer training goes on.
        checkpoint_every: whole epochs between checkpoints on the way; None writes one at the end only.
        best_to: where to leave the training after each whole epoch more accurate than all before it.
        num_parts: parts that each batch is cut into, to need less memory (gradient accumulation).
        processes: that train the network together; the first one writes the checkpoints.
        on_step: called before every step with the epochs done.
        on_epoch: called after every epoch.
        should_stop: asked before every step; ends the training early, in all processes if in any.

    Raises:
        NaxcliError: if the checkpoint belongs to another training.
        torch.OutOfMemoryError: if not even single images fit.
    """
    started, device = time.perf_counter(), torch.device(device)
    return_freed_memory()  # what an earlier training that failed has left
    keep_freed_memory()
    memory = PeakMemory(device)
    schedule_epochs = epochs if schedule_epochs is None else max(epochs, schedule_epochs)
    training = Training(
        network,
        dataset,
        recipe,
        seed=seed,
        device=device,
        schedule_epochs=schedule_epochs,
        num_parts=num_parts,
        processes=processes,
    )
    if checkpoint_from is not None:
        training.load_state_dict(load_checkpoint(checkpoint_from), source=checkpoint_from)
    first_step, last_step = training.step, max(1, round(epochs * training.steps_per_epoch))
    branch_step = _branch_step(recipe, last_step) if epochs < schedule_epochs else None

    def before_step() -> None:
        if on_step is not None:
            on_step(training.step / training.steps_per_epoch)
        if training.step == branch_step and checkpoint_to is not None:
            training.save(checkpoint_to)

    status: Status | None = Status.SUCCESS
    record = training.curve[-1] if training.curve else None
    while training.step < last_step:
        if should_stop is not None and processes.any(should_stop()):
            status = None
            break
        before_step()
        training.take_step(last_step)
        is_epoch_end = training.is_epoch_end or training.step == last_step
        if not is_epoch_end and training.step % _STEPS_BETWEEN_CHECKS:
            continue
        if not math.isfinite(training.mean_loss()):
            status = Status.DIVERGED
            break
        if not is_epoch_end:
            continue
        record = training.finish_epoch()
        if not math.isfinite(record.val_loss or 0.0):
            status = Status.DIVERGED
            break
        if on_epoch is not None:
            on_epoch(record)
        if best_to is not None and training.is_best:
            training.save(best_to)
        is_due = checkpoint_every is not None and len(training.curve) % checkpoint_every == 0
        if checkpoint_to is not None and is_due and training.is_epoch_end and training.step < last_step:
            training.save(checkpoint_to)

    peak_memory_bytes = memory.read()
    training.close()
    return_freed_memory()
    if checkpoint_to is not None and status is not Status.DIVERGED:
        training.save(checkpoint_to, is_branch=branch_step is not None)
    has_part = record is not None and record not in training.curve
    last = record if status is Status.SUCCESS else None
    return Outcome(
        status=status,
        val_accuracy=last.val_accuracy if last else None,
        val_loss=last.val_loss if last else None,
        train_loss=last.train_loss if last else None,
        curve=(*training.curve, record) if has_part and record else tuple(training.curve),
        epochs_run=(training.step - first_step) / training.steps_per_epoch,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes,
        num_parts=training.num_parts,
    )


def _branch_step(recipe: Recipe, last_step: int) -> int | None:
    """Return the step from which a longer training of the schedule `trunk` goes on, None for other schedules."""
    return round((1 - recipe.decay_fraction) * last_step) if recipe.schedule == "trunk" else None


class Training:
    """One training under way: network, data, optimizer and where it stands.

    Attributes:
        step: optimizer steps done since the training began.
        steps_per_epoch: of the data set at the recipe's batch size.
        curve: records of the whole epochs done.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        schedule_epochs: float,
        num_parts: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        torch.manual_seed(seed + _NETWORK_SEED_OFFSET + processes.rank)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        set_drop_path(network, recipe.drop_path)
        network.to(device)
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)
            if device.type == "cpu":
                speed_up_depthwise(network)
        if processes.num > 1:
            processes.broadcast(network)
            network = synchronise_batch_norms(network, device)
        self.step = 0
        self._last_step = 0
        self.curve: list[EpochRecord] = []
        self._network = network.train()
        self._dataset = _placed(dataset, device)
        self._recipe = recipe
        self._device = device
        self._schedule_epochs = schedule_epochs
        self._batches = make_batches(self._dataset, recipe, seed=seed, device=device)
        self._optimizer = build_optimizer(network, recipe)
        self._average = ModelEmaV3(network, decay=recipe.ema_decay) if recipe.ema_decay else None
        self._processes = processes
        self._eager = EagerStep(network, recipe, device, num_parts=num_parts, processes=processes)
        self._gradient_step: GradientStep | None = None
        self._loss_sum = torch.zeros((), device=device)  # of the epoch under way
        self._epoch_started = time.perf_counter()
        self._identity = {
            **_identity_of(recipe),
            # Streamed images are augmented by other random numbers.
            "data": f"{dataset.name} {dataset.content_hash}" + ("" if dataset.is_resident else " streamed"),
            "num_train_images": len(dataset.train_images),
            "seed": seed,
            "schedule_epochs": float(schedule_epochs),
        }

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch

    @property
    def is_epoch_end(self) -> bool:
        return self.step % self.steps_per_epoch == 0

    @property
    def is_best(self) -> bool:
        """Whether an epoch ended now, more accurate than all before it."""
        accuracies = [record.val_accuracy or 0.0 for record in self.curve]
        return self.is_epoch_end and accuracies.index(max(accuracies)) == len(accuracies) - 1

    @property
    def num_parts(self) -> int:
        """Parts that each batch is cut into for lack of memory."""
        return self._eager.num_parts

    def take_step(self, last_step: int) -> None:
        """Train on the next batch, of a training that ends at `last_step`; asks the device for nothing."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step, last_step)
        images, targets = self._batches.batch(self.step)
        if self._gradient_step is None:
            self._gradient_step = choose_step(self._eager, images, targets, num_steps=last_step - self.step)
        self._loss_sum += self._gradient_step(images, targets)
        self._optimizer.step()
        self.step += 1
        self._last_step = last_step
        if self._average is not None:
            self._average.update(self._network, step=self.step)

    def mean_loss(self) -> float:
        """Return the mean training loss of the epoch under way, waiting for the device."""
        return self._loss_sum.item() / (self.step % self.steps_per_epoch or self.steps_per_epoch)

    def finish_epoch(self) -> EpochRecord:
        """Validate and return the epoch's record; that of a part of an epoch is superseded if the training goes on."""
        evaluated = self._network if self._average is None else self._average.module
        val_accuracy, val_loss = evaluate_network(evaluated, self._dataset, self._recipe, self._processes)
        record = EpochRecord(
            epoch=math.ceil(self.step / self.steps_per_epoch),
            train_loss=self.mean_loss(),
            val_accuracy=val_accuracy,
            val_loss=val_loss,
            learning_rate=self._learning_rate(self.step - 1, self._last_step),
            seconds=time.perf_counter() - self._epoch_started,
        )
        if self.is_epoch_end:
            self.curve.append(record)
            self._loss_sum.zero_()
            self._epoch_started = time.perf_counter()
        return record

    def close(self) -> None:
        """End what makes batches, and leave the network's layers as they came."""
        self._batches.close()
        restore_convolutions(self._network)

    def save(self, path: Path, *, is_branch: bool = False) -> None:
        """Write a checkpoint; all processes have to call it.

        Args:
            is_branch: adds the weights of now to the checkpoint there is, from which a longer training goes on.
        """
        state = self.state_dict()
        if is_branch:
            weights = state["network"] if state["average"] is None else state["average"]
            state = {**load_checkpoint(path), "evaluated": weights} if path.exists() else {}
        if state and self._processes.is_first:
            save_checkpoint(state, path)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on as if the training had never stopped."""
        is_cuda = self._device.type == "cuda"
        return {
            "identity": self._identity,
            "network": self._network.state_dict(),
            "average": None if self._average is None else self._average.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "curve": [dataclasses.asdict(record) for record in self.curve],
            "loss_sum": self._loss_sum,
            "epoch_seconds": time.perf_counter() - self._epoch_started,
            # One row per process.
            "random_state": self._processes.gather(torch.get_rng_state()),
            "device_random_state": self._processes.gather(torch.cuda.get_rng_state(self._device)) if is_cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any], *, source: Path) -> None:
        """Go on from a state, of which `source` is named in errors.

        Raises:
            NaxcliError: if it is of another training or network.
        """
        # A setting that came after the checkpoint was written had its default then.
        stored, wanted = {**_identity_of(Recipe()), **state["identity"]}, self._identity
        different = [
            f"{name} was {stored.get(name)}, is {wanted[name]}" for name in wanted if stored.get(name) != wanted[name]
        ]
        if different:
            raise NaxcliError(f"the checkpoint {source} is of another training", why="; ".join(different))
        try:
            self._network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._average is not None:
                self._average.module.load_state_dict(state["average"])
        except (RuntimeError, ValueError) as error:
            raise NaxcliError(f"the checkpoint {source} is of another network", why=str(error)) from error
        self.step = state["step"]
        self.curve = [EpochRecord(**record) for record in state["curve"]]
        self._loss_sum.copy_(state["loss_sum"])
        self._epoch_started = time.perf_counter() - state["epoch_seconds"]
        rank = self._processes.rank
        if rank < len(state["random_state"]):  # a process that was not there before keeps its fresh seed
            torch.set_rng_state(state["random_state"][rank].clone())  # torch reads from the start of the storage
            if self._device.type == "cuda" and state["device_random_state"] is not None:
                torch.cuda.set_rng_state(state["device_random_state"][rank].clone(), self._device)

    def _learning_rate(self, step: int, last_step: int) -> float:
        """Return the learning rate in the middle of a step of a training that ends at `last_step`."""
        epoch, end = (step + 0.5) / self.steps_per_epoch, last_step / self.steps_per_epoch
        return self._recipe.learning_rate_at(epoch, self._schedule_epochs, end=end)


def _identity_of(recipe: Recipe) -> dict[str, Any]:
    return {f"recipe.{name}": value for name, value in dataclasses.asdict(recipe).items()}


def set_drop_path(network: nn.Module, rate: float) -> None:
    """Set the rate of stochastic depth, by the network's own `set_drop_path_rate` or on its timm DropPath layers."""
    setter: Callable[[float], None] | None = getattr(network, "set_drop_path_rate", None)
    if setter is not None:
        setter(rate)
        return
    for module in network.modules():
        if isinstance(module, DropPath):
            module.drop_prob = rate


@functools.lru_cache(maxsize=1)
def _placed(dataset: Dataset, device: torch.device) -> Dataset:
    """Return the dataset on the device, kept there for the next trial, or on the host where it would leave no room."""
    if device.type == "cuda":
        num_bytes = dataset.resident_bytes
        free, _ = torch.cuda.mem_get_info(device)
        if num_bytes > _DATA_SHARE_OF_MEMORY * free:
            _logger.warning("%s does not fit on the device: its images stay on the host", dataset.name)
            return dataset
    return dataset.to(device)
