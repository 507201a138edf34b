"""What a training is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from naxcli.records.trial import EpochRecord, Status
from naxcli.settings.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """How one network is trained, and where its checkpoints are.

    Args:
        recipe: Optimizer, schedule, loss and augmentation.
        epochs: Epochs to reach, counted from the start of the training; may be a fraction.
        seed: Random seed of data order, augmentation and stochastic depth.
        device: Device that the network is trained on.
        schedule_epochs: Length of the learning-rate schedule, at least `epochs`; None is `epochs`. A training that is to
            be continued is given the longest length that it may reach.
        checkpoint_from: Checkpoint of the training to continue.
        may_start_anew: Whether a training whose checkpoint cannot be read starts from the beginning, which has the same
            result; if not, that is an error.
        checkpoint_to: File for the checkpoint at the end, also of a training that is stopped. With the schedule
            `warmup_stable_decay` and `epochs` below `schedule_epochs` it holds the training before its decay, from where
            a longer one goes on, and the weights after it.
        checkpoint_every: Whole epochs between checkpoints on the way; None writes one at the end only.
        best_to: File for a checkpoint after each whole epoch that is more accurate than all before it.
        grad_accum_steps: Number of parts that each batch is cut into, to need less memory.
        uses_graphs: Whether steps may be CUDA graphs, where those are faster.
        uses_kernels: Whether the network may be computed with Triton's kernels on a GPU, where those are faster.
        may_cut_batches: Whether batches may be cut into more parts where a CUDA device runs out of memory, which changes
            what batch normalization sees; if not, the error propagates.
    """

    recipe: Recipe
    epochs: float
    seed: int
    device: torch.device | str
    schedule_epochs: float | None = None
    checkpoint_from: Path | None = None
    may_start_anew: bool = False
    checkpoint_to: Path | None = None
    checkpoint_every: int | None = None
    best_to: Path | None = None
    grad_accum_steps: int = 1
    uses_graphs: bool = True
    uses_kernels: bool = True
    may_cut_batches: bool = True

    @property
    def schedule_length(self) -> float:
        """The epochs against which the learning-rate schedule is written."""
        return self.epochs if self.schedule_epochs is None else max(self.epochs, self.schedule_epochs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a training.

    Args:
        status: Success or diverged; None where `should_stop` ended the training early.
        val_accuracy: Share of the validation images classified correctly at the end, None where it was not reached.
        val_loss: Mean of the recipe's loss over the validation images.
        train_loss: Mean of the loss over the last epoch.
        curve: One record per epoch from the start of the training, those of a continued checkpoint included.
        epochs_run: Epochs of this call, without those of the checkpoint.
        seconds: Wall time of this call.
        peak_memory_bytes: Largest memory of this call, on the device for CUDA, of the process for a CPU. On CUDA without that
            of the first step, in which cuDNN searches for plans, unless it is the only one.
        reserved_memory_bytes: Largest memory on the device that was kept from other processes, None on a CPU.
        grad_accum_steps: Number of parts that each batch was cut into at the end: more than requested where memory ran out.
    """

    status: Status | None
    val_accuracy: float | None
    val_loss: float | None
    train_loss: float | None
    curve: tuple[EpochRecord, ...]
    epochs_run: float
    seconds: float
    peak_memory_bytes: int | None
    reserved_memory_bytes: int | None = None
    grad_accum_steps: int = 1
