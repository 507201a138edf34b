"""One training step up to the gradients: forward, loss, backward, eagerly or as a CUDA graph, never asking the device.

A CUDA graph holds the optimizer's step as well where that reads learning rate and step from the device. Those of others are Python
numbers, which a capture would freeze.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from naxcli.measure.devices import set_tf32, synchronise
from naxcli.settings.recipe import Recipe
from naxcli.training.distributed import ALONE, Processes

_WARMUP_STEPS = 3  # before a capture, so that cuDNN has chosen its plans and autograd its streams
_TIMED_STEPS = 5
_GRAPH_HEADROOM = 1.3  # of the memory that a step was seen to take
_MIN_STEPS_FOR_GRAPH = 50  # a shorter training does not win back capture and comparison

GradientStep = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class GraphableOptimizer(Protocol):
    """An optimizer whose step a CUDA graph can hold; see `FusedLamb`, whose methods these are."""

    param_groups: list[dict[str, Any]]

    def prepare(self) -> None: ...
    def note_gradients(self) -> bool: ...
    def begin_step(self) -> None: ...
    def step_in_graph(self) -> None: ...
    def step(self, closure: None = None) -> None: ...
    def changed_tensors(self) -> list[Tensor]: ...


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type that autocast computes in, or None for plain float32."""
    if recipe.precision == "auto":
        is_native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_native else None
    return torch.bfloat16 if recipe.precision == "bfloat16" else None


def set_float32_precision(recipe: Recipe) -> None:
    """Let this process's CUDA devices compute float32 in TF32 where the recipe says so, and only there."""
    set_tf32(recipe.precision == "tf32")


def computed_precision(recipe: Recipe, device: torch.device) -> str:
    """Return the precision that a recipe means on a device: `float32`, `tf32` or `bfloat16`."""
    if autocast_dtype(recipe, device) is not None:
        return "bfloat16"
    return "tf32" if recipe.precision == "tf32" and device.type == "cuda" else "float32"


def loss_of(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the mean loss in float32; to be called outside of autocast.

    Args:
        logits: Logits of shape (n, classes).
        targets: Soft targets of shape (n, classes); `bce` applies the recipe's threshold to them.
        recipe: Loss and its threshold.
    """
    logits = logits.float()
    if recipe.loss == "cross_entropy":
        return functional.cross_entropy(logits, targets)
    if recipe.bce_target_threshold:
        targets = (targets > recipe.bce_target_threshold).to(targets.dtype)
    return functional.binary_cross_entropy_with_logits(logits, targets)


class EagerStep:
    """Computes loss and gradients of a batch.

    Where a CUDA device runs out of memory the batch is cut into ever more parts whose gradients add up to the same
    mean; only batch normalization then sees the parts. On a CPU, for single images, and where several processes share
    the batch, the error propagates.

    Args:
        network: Network on the device.
        recipe: Loss and precision.
        device: Device of the computation.
        grad_accum_steps: Number of parts that a batch, or a process's share of it, is cut into from the start.
        processes: Processes that share each batch; each is given the whole batch and gets the whole batch's gradients.
        may_cut: Whether a batch may be cut into more parts where memory runs out; if not, the error propagates.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        device: torch.device,
        *,
        grad_accum_steps: int = 1,
        processes: Processes = ALONE,
        may_cut: bool = True,
    ) -> None:
        self.network = network
        self.grad_accum_steps = grad_accum_steps
        self.processes = processes
        self._may_cut = may_cut and device.type == "cuda" and processes.num == 1
        self._recipe = recipe
        self._dtype = autocast_dtype(recipe, device)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss without gradient, and leave the gradients in the parameters."""
        while True:
            self.network.zero_grad(set_to_none=True)
            try:
                return self._share_work(images, targets)
            except torch.OutOfMemoryError:
                # Of several processes the others would wait for this one's part in the statistics forever.
                if not self._may_cut or self.grad_accum_steps >= len(images):
                    raise
            # Outside of the handler, whose exception keeps the failed step's tensors alive.
            self.grad_accum_steps *= 2
            torch.cuda.empty_cache()

    def _share_work(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.processes.num == 1:
            return self.accumulate(images, targets)
        share = self.processes.share(len(images))
        loss = self.accumulate(images[share], targets[share], num_images=len(images))
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        self.processes.sum_in_place([*gradients, loss])
        return loss

    def accumulate(
        self, images: Tensor, targets: Tensor, *, num_images: int | None = None, cache_casts: bool = True
    ) -> Tensor:
        """Add the gradients of the images' mean loss to the parameters' and return that loss, detached.

        Args:
            images: Images of shape (n, channels, h, w).
            targets: Soft targets of shape (n, classes).
            num_images: Number of images that the mean is over, where other processes have the rest; None is n.
            cache_casts: Whether autocast keeps the weights it has cast; a CUDA graph must not.
        """
        total = torch.zeros((), device=images.device)
        num_images = num_images or len(images)
        for part_images, part_targets in zip(
            images.chunk(self.grad_accum_steps), targets.chunk(self.grad_accum_steps), strict=True
        ):
            with torch.autocast(
                images.device.type,
                dtype=self._dtype or torch.bfloat16,
                enabled=self._dtype is not None,
                cache_enabled=cache_casts,
            ):
                logits = self.network(part_images)
            loss = loss_of(logits, part_targets, self._recipe) * (len(part_images) / num_images)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total


class GraphCaptureError(RuntimeError):
    """A CUDA graph could not be captured; the process may be unable to draw random numbers on the device from then on."""


class GraphedStep:
    """Forward and backward of one batch shape as a CUDA graph; the network is as before after the capture.

    Args:
        eager: Eager step of the network.
        images: Images of a typical batch.
        targets: Targets of that batch.
        optimizer: Optimizer, prepared, whose step the graph takes as well; None leaves the step to who calls.

    Raises:
        GraphCaptureError: If the capture fails.
        RuntimeError: If the network does, before.
    """

    def __init__(
        self, eager: EagerStep, images: Tensor, targets: Tensor, optimizer: GraphableOptimizer | None = None
    ) -> None:
        self.optimizer = optimizer
        self._images, self._targets = images.clone(), targets.clone()
        self._graph = torch.cuda.CUDAGraph()
        is_capturing = False
        try:
            with _unchanged(eager.network, images.device, optimizer):
                stream = self._warm_up(eager)
                is_capturing = True
                # On the stream of the warm-up, where autograd may have nodes. Other threads, such as a loader's that pins
                # memory, may ask CUDA for what a capture in the usual mode would break at.
                with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                    self._loss = eager.accumulate(self._images, self._targets, cache_casts=False)
                    if optimizer is not None:
                        optimizer.step_in_graph()
                if optimizer is not None:
                    optimizer.note_gradients()  # which the capture has made; they stay where they are
        except RuntimeError as error:  # of putting things back too, which is where a failed capture may show
            if is_capturing:
                raise GraphCaptureError("a CUDA graph of the network's step could not be captured") from error
            raise

    def _warm_up(self, eager: EagerStep) -> torch.cuda.Stream:
        """Take the step a few times on the stream of the capture, and return that."""
        device = self._images.device
        stream = capture_stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP_STEPS):
                eager.network.zero_grad(set_to_none=True)
                eager.accumulate(self._images, self._targets, cache_casts=False)
            if self.optimizer is not None:
                if not self.optimizer.note_gradients():
                    raise RuntimeError("gradients are laid out in memory otherwise than parameters")
                self.optimizer.step_in_graph()
        torch.cuda.current_stream(device).wait_stream(stream)
        eager.network.zero_grad(set_to_none=True)  # so that the capture makes gradients that each replay overwrites
        return stream

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, to be used before the next call, and leave the gradients in the parameters."""
        self._images.copy_(images)
        self._targets.copy_(targets)
        if self.optimizer is not None:
            self.optimizer.begin_step()
        self._graph.replay()
        return self._loss


@functools.cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process on which graphs are captured: cuBLAS keeps a workspace for every stream it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def holds_update(step: GradientStep) -> bool:
    """Return whether a step takes the optimizer's as well."""
    return isinstance(step, GraphedStep) and step.optimizer is not None


def choose_step(
    eager: EagerStep, images: Tensor, targets: Tensor, *, num_steps: int, optimizer: object = None
) -> GradientStep:
    """Return the faster of the eager step and its CUDA graph; always the eager one off CUDA and where batches are cut.

    Args:
        eager: Eager step of the network.
        images: Images of a typical batch.
        targets: Targets of that batch.
        num_steps: Steps of the training ahead; a capture takes time that few steps do not win back.
        optimizer: Optimizer whose step the graph may take as well, which `holds_update` tells.

    Raises:
        GraphCaptureError: If a capture failed that should have succeeded.
    """
    is_whole = eager.grad_accum_steps == 1 and eager.processes.num == 1
    if images.device.type != "cuda" or num_steps < _MIN_STEPS_FOR_GRAPH or not is_whole:
        return eager
    stream = torch.cuda.current_stream(images.device)
    graphable = optimizer if isinstance(optimizer, GraphableOptimizer) else None

    def eagerly(images: Tensor, targets: Tensor) -> Tensor:
        loss = eager(images, targets)
        if graphable is not None:
            graphable.step()
        return loss

    eager_seconds = graphed_seconds = float("inf")
    try:
        if graphable is not None:
            with _unchanged(eager.network, images.device):
                eager(images, targets)
            graphable.prepare()
        with _unchanged(eager.network, images.device, graphable):
            eager_seconds = _seconds(eagerly, images, targets)
            torch.cuda.reset_peak_memory_stats(images.device)  # that of cuDNN's search for plans is no step's
            # A capture that fails can leave the process's random numbers unusable, so it is not tried where it would.
            with _synchronisation_refused():
                eager(images, targets)
        if eager.grad_accum_steps == 1 and _has_room_for_graph(images.device):
            graphed = GraphedStep(eager, images, targets, graphable)
            with _unchanged(eager.network, images.device, graphable):
                graphed_seconds = _seconds(graphed, images, targets)
    except GraphCaptureError:
        torch.cuda.set_stream(stream)  # a failed capture leaves its own in some versions of torch
        raise
    except RuntimeError:
        # A network that asks the device for values cannot be captured. An error of the network itself comes again.
        graphed_seconds = float("inf")
    if graphed_seconds < eager_seconds:
        return graphed
    eager.network.zero_grad(set_to_none=True)
    return eager


def _has_room_for_graph(device: torch.device) -> bool:
    """Return whether the device holds a step's tensors a second time: a graph keeps memory of its own."""
    free, _ = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    unused = torch.cuda.memory_reserved(device) - allocated
    needed = torch.cuda.max_memory_allocated(device) - allocated
    return free + unused > _GRAPH_HEADROOM * needed


@contextmanager
def _synchronisation_refused() -> Iterator[None]:
    """Raise RuntimeError where the block waits for the device."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _seconds(step: GradientStep, images: Tensor, targets: Tensor) -> float:
    step(images, targets)
    synchronise(images.device)
    start = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        step(images, targets)
    synchronise(images.device)
    return time.perf_counter() - start


@contextmanager
def _unchanged(network: nn.Module, device: torch.device, optimizer: GraphableOptimizer | None = None) -> Iterator[None]:
    """Put buffers (running statistics), the device's random state, and what an optimizer changes back afterwards."""
    changed = [*network.buffers(), *(() if optimizer is None else optimizer.changed_tensors())]
    values = [(tensor, tensor.detach().clone()) for tensor in changed]
    groups = [] if optimizer is None else [(group, group["step"]) for group in optimizer.param_groups]
    random_state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)
        for group, num_steps in groups:
            group["step"] = num_steps
        torch.cuda.set_rng_state(random_state, device)
