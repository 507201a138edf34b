"""train: one network trained by a recipe, with checkpoints that continue bit for bit on a CPU."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import DropPath
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from naxcli.data.dataset import Dataset
from naxcli.data.streaming import make_batches
from naxcli.errors import NaxcliError
from naxcli.measure.memory import PeakMemory
from naxcli.records.trial import EpochRecord, Status
from naxcli.settings.former_names import with_present_names
from naxcli.settings.recipe import Recipe
from naxcli.training.checkpoint import CheckpointWriter, load_checkpoint, on_host
from naxcli.training.depthwise import restore_convolutions, speed_up_depthwise
from naxcli.training.distributed import ALONE, Processes, synchronise_batch_norms
from naxcli.training.host_memory import keep_freed_memory, return_freed_memory
from naxcli.training.kernels.switch import switch_off, switch_on
from naxcli.training.optimizer import build_optimizer
from naxcli.training.request import Outcome, TrainingRequest
from naxcli.training.step import (
    EagerStep,
    GradientStep,
    GraphCaptureError,
    choose_step,
    holds_update,
    set_float32_precision,
)
from naxcli.training.validation import validation_sums

_logger = logging.getLogger(__name__)

_STEPS_BETWEEN_CHECKS = 100  # of the loss, which asks the device and so waits for it
_DATA_SHARE_OF_MEMORY = 0.5  # of what is free on the device, above which images stay on the host
_MAX_CUDNN_PLANS = 4  # that are tried for each shape: a short training has dozens of shapes, and the best come first
_NETWORK_SEED_OFFSET = 1 << 32  # stochastic depth draws other numbers than the initialisation


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, on all devices; to be called before a network is built."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def train(
    network: nn.Module,
    dataset: Dataset,
    request: TrainingRequest,
    *,
    processes: Processes = ALONE,
    on_step: Callable[[float], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_failed_capture: Callable[[], None] = lambda: None,
    is_kept: Callable[[Outcome], bool] = lambda _: True,
) -> Outcome:
    """Train a network in place and validate it after every epoch.

    On a CPU the same network, seed and number of threads give the same result bit for bit, whether in one go or
    continued from checkpoints.

    Args:
        network: Network freshly built after `seed_everything`; its method `set_drop_path_rate(rate)`, where it has one,
            sets its stochastic depth.
        dataset: Images to train on and to validate with.
        request: How to train.
        processes: Processes that train the network together; the main one writes the checkpoints.
        on_step: Called before every step with the epochs done.
        on_epoch: Called after every epoch with its record.
        should_stop: Asked before every step; true ends the training early, in all processes if in any.
        on_failed_capture: Called where a CUDA graph could not be captured, after which this process may be unable to train on
            the device. It may raise; else the training tries to go on without a graph.
        is_kept: Asked at the end whether the checkpoint there is worth writing.

    Raises:
        NaxcliError: If the checkpoint belongs to another training or cannot be read, or one cannot be written.
        torch.OutOfMemoryError: If not even single images fit.
    """
    started = time.perf_counter()
    return_freed_memory()  # what an earlier training that failed has left
    keep_freed_memory()
    memory = PeakMemory(request.device)
    with CheckpointWriter() as writer:
        training = Training(
            network, dataset, request, writer=writer, processes=processes, on_failed_capture=on_failed_capture
        )
        training.continue_from_checkpoint()
        first_step = training.step
        status = _run(training, memory, on_step=on_step, on_epoch=on_epoch, should_stop=should_stop)
        outcome = _outcome(training, status, memory, num_steps=training.step - first_step)
        if status is not Status.DIVERGED and is_kept(outcome):
            training.save_at_end()
        training.close()
        return_freed_memory()
    return dataclasses.replace(outcome, seconds=time.perf_counter() - started)


def _outcome(training: Training, status: Status | None, memory: PeakMemory, *, num_steps: int) -> Outcome:
    """Return the result of a training that ended after so many steps, but for its wall time."""
    last = training.last_record if status is Status.SUCCESS else None
    return Outcome(
        status=status,
        val_accuracy=last.val_accuracy if last else None,
        val_loss=last.val_loss if last else None,
        train_loss=last.train_loss if last else None,
        curve=training.records,
        epochs_run=num_steps / training.steps_per_epoch,
        seconds=0.0,
        peak_memory_bytes=memory.read(),
        reserved_memory_bytes=memory.read_reserved(),
        grad_accum_steps=training.grad_accum_steps,
    )


def _run(
    training: Training,
    memory: PeakMemory,
    *,
    on_step: Callable[[float], None] | None,
    on_epoch: Callable[[EpochRecord], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Status | None:
    """Train to the last step and return success, or diverged where a loss is not finite, or None where stopped."""
    second_step = training.step + 1
    while training.step < training.last_step:
        if training.step == second_step:
            memory.forget_first_step()
        if should_stop is not None and training.processes.any(should_stop()):
            return None
        if on_step is not None:
            on_step(training.step / training.steps_per_epoch)
        training.save_before_decay()
        training.take_step()
        is_record_due = training.is_epoch_end or training.step == training.last_step
        if not is_record_due:
            if training.step % _STEPS_BETWEEN_CHECKS == 0 and not math.isfinite(training.mean_loss()):
                return Status.DIVERGED
            continue
        record = training.finish_epoch()
        if record is None or not math.isfinite(record.val_loss or 0.0):
            return Status.DIVERGED
        if on_epoch is not None:
            on_epoch(record)
        training.save_after_epoch()
    return Status.SUCCESS


class Training:
    """One training under way: network, data, optimizer and where it stands.

    Attributes:
        step: Optimizer steps done since the training began.
        last_step: Step at which the training ends.
        curve: Records of the whole epochs done.
        processes: Processes that train the network together.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        request: TrainingRequest,
        *,
        writer: CheckpointWriter,
        processes: Processes = ALONE,
        on_failed_capture: Callable[[], None] = lambda: None,
    ) -> None:
        recipe, device = request.recipe, torch.device(request.device)
        torch.manual_seed(request.seed + _NETWORK_SEED_OFFSET + processes.rank)
        self.processes = processes
        self._writer = writer
        self._branch: dict[str, Any] | None = None  # the state before the decay, on the host
        self._request = request
        self._device = device
        self._network = _prepared(network, recipe, device, processes)
        self._has_kernels = request.uses_kernels and switch_on(self._network, device)
        self._dataset = _placed(dataset, device)
        self._batches = make_batches(self._dataset, recipe, seed=request.seed, device=device)
        self._optimizer = build_optimizer(self._network, recipe, has_kernels=self._has_kernels)
        self._average = ModelEmaV3(self._network, decay=recipe.ema_decay) if recipe.ema_decay else None
        self._eager = EagerStep(
            self._network,
            recipe,
            device,
            grad_accum_steps=request.grad_accum_steps,
            processes=processes,
            may_cut=request.may_cut_batches,
        )
        self._on_failed_capture = on_failed_capture
        self._gradient_step: GradientStep | None = None if request.uses_graphs else self._eager
        self.step = 0
        self.last_step = max(1, round(request.epochs * self.steps_per_epoch))
        self.curve: list[EpochRecord] = []
        self._partial: EpochRecord | None = None  # of a last epoch that is not whole
        self._loss_sum = torch.zeros((), device=device)  # of the epoch under way
        self._epoch_started = time.perf_counter()
        self._identity = {
            **_identity_of(recipe),
            # Streamed images are augmented by other random numbers.
            "data": f"{dataset.name} {dataset.content_hash}" + ("" if dataset.is_in_memory else " streamed"),
            "num_train_images": len(dataset.train_images),
            "seed": request.seed,
            "schedule_epochs": float(request.schedule_length),
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
        if not self.is_epoch_end:
            return False
        accuracies = [record.val_accuracy or 0.0 for record in self.curve]
        return accuracies.index(max(accuracies)) == len(accuracies) - 1

    @property
    def grad_accum_steps(self) -> int:
        """Number of parts that each batch is cut into."""
        return self._eager.grad_accum_steps

    @property
    def records(self) -> tuple[EpochRecord, ...]:
        """The records of all epochs, that of a last part of an epoch included."""
        return tuple(self.curve) if self._partial is None else (*self.curve, self._partial)

    @property
    def last_record(self) -> EpochRecord | None:
        return self.records[-1] if self.records else None

    def take_step(self) -> None:
        """Train on the next batch, without waiting for the device."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        images, targets = self._batches.batch(self.step)
        if self._gradient_step is None:
            self._gradient_step = self._choose_step(images, targets)
        self._loss_sum += self._gradient_step(images, targets)
        if not holds_update(self._gradient_step):
            self._optimizer.step()
        self.step += 1
        if self._average is not None:
            self._average.update(self._network, step=self.step)

    def _choose_step(self, images: Tensor, targets: Tensor) -> GradientStep:
        try:
            num_steps = self.last_step - self.step
            return choose_step(self._eager, images, targets, num_steps=num_steps, optimizer=self._optimizer)
        except GraphCaptureError:
            self._on_failed_capture()
            return self._eager

    def mean_loss(self) -> float:
        """Return the mean training loss of the epoch under way, waiting for the device."""
        return self._loss_sum.item() / self._steps_in_epoch

    @property
    def _steps_in_epoch(self) -> int:
        """Steps done of the epoch under way, or of the one that ends now."""
        return self.step % self.steps_per_epoch or self.steps_per_epoch

    def finish_epoch(self) -> EpochRecord | None:
        """Validate and return the epoch's record, None where its training loss is not finite.

        The record of a part of an epoch is not kept where the training is continued.
        """
        evaluated = self._network if self._average is None else self._average.module
        sums = validation_sums(evaluated, self._dataset, self._request.recipe, self.processes)
        # The epoch's one wait for the device.
        num_correct, val_loss_sum, train_loss_sum = torch.stack([*sums, self._loss_sum]).tolist()
        self._writer.wait()  # for the last epoch's checkpoint, whose error shows here at the latest
        if not math.isfinite(train_loss_sum):
            return None
        num_images = len(self._dataset.validation_labels)
        record = EpochRecord(
            epoch=math.ceil(self.step / self.steps_per_epoch),
            train_loss=train_loss_sum / self._steps_in_epoch,
            val_accuracy=num_correct / num_images,
            val_loss=val_loss_sum / num_images,
            learning_rate=self._learning_rate(self.step - 1),
            seconds=time.perf_counter() - self._epoch_started,
        )
        if self.is_epoch_end:
            self.curve.append(record)
            self._loss_sum.zero_()
            self._epoch_started = time.perf_counter()
        else:
            self._partial = record
        return record

    def close(self) -> None:
        """End what makes batches, and leave the network's layers as they came."""
        self._batches.close()
        restore_convolutions(self._network)
        if self._has_kernels:
            switch_off(self._network)

    def save_before_decay(self) -> None:
        """Keep, until the end, the state that a longer training continues from, where the decay begins with this step."""
        if self.step == self._decay_step and self._request.checkpoint_to is not None:
            state = self.state_dict()
            self._branch = on_host(state) if self.processes.is_main_process else None

    def save_after_epoch(self) -> None:
        """Write the checkpoints that are due after an epoch."""
        request = self._request
        paths = [request.best_to] if request.best_to is not None and self.is_best else []
        is_due = request.checkpoint_every is not None and len(self.curve) % request.checkpoint_every == 0
        if request.checkpoint_to is not None and is_due and self.is_epoch_end and self.step < self.last_step:
            paths.append(request.checkpoint_to)
        if paths:
            self._save(self.state_dict(), *paths)

    def save_at_end(self) -> None:
        """Write the checkpoint of where the training stands, or its weights only into that of before the decay."""
        path = self._request.checkpoint_to
        if path is None:
            return
        state = self.state_dict()
        if self._branch is None:  # no decay began here, so that a longer training goes on from where this one stands
            self._save(state, path)
            return
        weights = state["network"] if state["average"] is None else state["average"]
        self._writer.write_copied({**self._branch, "evaluated": on_host(weights)}, path)

    def _save(self, state: dict[str, Any], *paths: Path) -> None:
        # Every process has to call `state_dict`, which gathers from all of them; one writes.
        if self.processes.is_main_process:
            self._writer.write(state, *paths)

    @property
    def _decay_step(self) -> int | None:
        """The step before which a longer training leaves this one's schedule, None where it never does."""
        recipe, request = self._request.recipe, self._request
        if recipe.schedule != "warmup_stable_decay" or request.epochs >= request.schedule_length:
            return None
        return round((1 - recipe.decay_fraction) * self.last_step)

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
            "random_state": self.processes.gather(torch.get_rng_state()),
            "device_random_state": self.processes.gather(torch.cuda.get_rng_state(self._device)) if is_cuda else None,
        }

    def continue_from_checkpoint(self) -> None:
        """Continue from the request's checkpoint, if it has one.

        Raises:
            NaxcliError: If it is of another training, or cannot be read and the training may not start anew.
        """
        path = self._request.checkpoint_from
        if path is None:
            return
        try:
            state = load_checkpoint(path)
        except NaxcliError:
            if self._request.may_start_anew:
                return
            raise
        self.load_state_dict(state, source=path)

    def load_state_dict(self, state: dict[str, Any], *, source: Path) -> None:
        """Continue from a state.

        Args:
            state: State of `state_dict`.
            source: File that the state comes from, named in errors.

        Raises:
            NaxcliError: If the state is of another training or network.
        """
        # A setting that came after the checkpoint was written had its default then.
        stored, wanted = {**_identity_of(Recipe()), **with_present_names(state["identity"])}, self._identity
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
        rank = self.processes.rank
        if rank < len(state["random_state"]):  # a process that was not there before keeps its fresh seed
            torch.set_rng_state(state["random_state"][rank].clone())  # torch reads from the start of the storage
            if self._device.type == "cuda" and state["device_random_state"] is not None:
                torch.cuda.set_rng_state(state["device_random_state"][rank].clone(), self._device)

    def _learning_rate(self, step: int) -> float:
        """Return the learning rate in the middle of a step."""
        epoch, end = (step + 0.5) / self.steps_per_epoch, self.last_step / self.steps_per_epoch
        return self._request.recipe.learning_rate_at(epoch, self._request.schedule_length, end=end)


def _prepared(network: nn.Module, recipe: Recipe, device: torch.device, processes: Processes) -> nn.Module:
    """Return the network in training mode on the device, in the recipe's memory format, the same in all processes."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = _MAX_CUDNN_PLANS
    set_float32_precision(recipe)
    set_drop_path(network, recipe.drop_path)
    network.to(device)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
        if device.type == "cpu":
            speed_up_depthwise(network)
    if processes.num > 1:
        processes.broadcast(network)
        network = synchronise_batch_norms(network, device)
    return network.train()


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
        num_bytes = dataset.in_memory_bytes
        free, _ = torch.cuda.mem_get_info(device)
        if num_bytes > _DATA_SHARE_OF_MEMORY * free:
            _logger.warning("%s does not fit on the device: its images stay on the host", dataset.name)
            return dataset
    return dataset.to(device)
