"""One trial, evaluated where it runs: builds and trains the network or calls the space's objective; exceptions become a status.

Runs inside a worker process that lives for many trials, so the space and the data are loaded once. Tasks and results cross the
process boundary as plain dicts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.trial import EpochRecord, Result, Status
from naxcli.search_space.contract import Space, load_space, space_digest
from naxcli.searchers.forecast import MIN_CHANCE, Forecast
from naxcli.workers.device_lock import DeviceLock
from naxcli.workers.task import DataRequest, TrialTask

if TYPE_CHECKING:
    import torch
    from torch import nn

    from naxcli.training.request import Outcome

Heartbeat = Callable[[Mapping[str, Any]], None]

HEARTBEAT_SECONDS = 30.0  # between heartbeats within an epoch
MAX_ERROR_BYTES = 64_000  # of a traceback in UTF-8
# Models and statistics square costs, which must stay finite.
MAX_COST = 1e100


class NewProcessNeeded(Exception):
    """The trial has to be evaluated again, without a CUDA graph and by another process: this one failed to capture one."""


def _need_new_process() -> None:
    raise NewProcessNeeded


def evaluate(task: TrialTask, heartbeat: Heartbeat | None = None) -> Result:
    """Return the result of one trial; what the evaluated code raises or returns wrongly becomes its status and error.

    Args:
        task: Trial to evaluate.
        heartbeat: Called with what is told of a trial that is running; None tells nothing.

    Raises:
        NaxcliError: If the space or the data cannot be loaded, or the worker's GPU is gone, so that no trial of the run can
            be evaluated.
        NewProcessNeeded: If this process failed to capture a CUDA graph.
    """
    started_at, clock = time.time(), time.perf_counter()
    space = None
    try:
        space = _warm_up(task)
        # What a worker loads once, at its first trial, is not that trial's time.
        started_at, clock = time.time(), time.perf_counter()
        if heartbeat is not None and task.tells_beginning:
            heartbeat({"has_begun": True})
        result = _train(task, space, heartbeat) if space.is_trained else _call(task, space)
    except NewProcessNeeded:
        raise
    except BaseException as error:  # the evaluated code may raise anything at all, and every end of it is recorded
        if space is None and isinstance(error, NaxcliError):
            raise
        result = failure(error)
    finally:
        return_memory()
    seconds = time.perf_counter() - clock
    worker = f"{socket.gethostname()}:{os.getpid()}"
    # Not the time of day at the end, which may have been set in between.
    return dataclasses.replace(
        result, started_at=started_at, ended_at=started_at + seconds, seconds=seconds, worker=worker
    )


def failure(error: BaseException) -> Result:
    """Return the result of a trial that raised."""
    return Result(status=_status_of(error), error=error_text(error))


def error_text(error: BaseException) -> str:
    """Return the traceback of an error as Unicode without NUL, at most `MAX_ERROR_BYTES` long, which every file can hold."""
    # Where naxcli wraps an error of the user's code, the user looks for that one.
    raised = (error.__cause__ or error) if isinstance(error, NaxcliError) else error
    try:
        text = "".join(traceback.format_exception(raised))
    except BaseException:  # noqa: BLE001 - the error's own methods may raise anything as well
        text = f"{type(error).__name__}, which cannot be shown"
    encoded = text.replace("\0", "\\x00").encode(errors="backslashreplace")
    if len(encoded) > MAX_ERROR_BYTES:
        half = MAX_ERROR_BYTES // 2 - 50
        between = f"\n[{len(encoded) - 2 * half} bytes left out]\n"
        encoded = encoded[:half] + between.encode() + encoded[-half:]
    return encoded.decode(errors="ignore")


def _warm_up(task: TrialTask) -> Space:
    """Return the space, after loading the space, the libraries and the data where that was not done before."""
    space = loaded_space(task.space, task.space_digest)
    if space.is_trained and task.data is not None:
        import naxcli.measure.counts
        import naxcli.training.loop  # noqa: F401
        from naxcli.measure.devices import device_of_worker

        device_of_worker()
        load_data(task.data)
    _leave_out_of_collection(task.space, task.data)
    return space


@functools.lru_cache(maxsize=4)
def _leave_out_of_collection(space: str, data: DataRequest | None) -> None:
    """Keep the collection of garbage after each trial from looking through what the worker has loaded for all of them.

    With torch and timm that is a quarter of a second for each trial.
    """
    gc.collect()
    gc.freeze()


def load_task_data(task: TrialTask) -> tuple[Space, Any]:
    """Return the space and the Dataset of a task that trains, loaded once per worker."""
    assert task.data is not None
    return _warm_up(task), load_data(task.data)


def _call(task: TrialTask, space: Space) -> Result:
    assert space.evaluate is not None
    clock = time.monotonic()
    outcome = space.evaluate(dict(task.config), fidelity=task.fidelity, seed=task.seed)
    seconds = time.monotonic() - clock
    values = dict(outcome) if isinstance(outcome, Mapping) else {"cost": outcome}
    cost = math.nan if values.get("cost") is None else _number("cost", values["cost"], float)
    has_diverged = not abs(cost) <= MAX_COST
    needed = ["cost"]
    if not has_diverged:  # else an objective may have given up before it measured anything
        needed += [*task.needed_measures, *([] if task.max_latency_ms is None else ["latency_ms"])]
    if missing := [name for name in needed if values.get(name) is None]:
        raise KeyError(f"evaluate of space {space.name!r} returned no {', '.join(map(repr, missing))}")
    measures: dict[str, Any] = {
        name: _number(name, values[name], kind)
        for name, kind in (("val_accuracy", float), ("num_params", int), ("flops", int), ("latency_ms", float))
        if values.get(name) is not None
    }
    if task.seconds_limit is not None and seconds > task.seconds_limit:
        return Result(status=Status.TIMEOUT, error=_over_time(task), device="cpu", **measures)
    if has_diverged:
        return Result(status=Status.DIVERGED, error=f"the cost is {cost}", device="cpu", **measures)
    if (reason := _too_slow(measures.get("latency_ms"), task)) is not None:
        return Result(status=Status.INFEASIBLE, error=reason, device="cpu", **measures)
    return Result(status=Status.SUCCESS, cost=cost, device="cpu", **measures)


def _number(name: str, value: Any, kind: Callable[[Any], float]) -> float:
    """Return a value that the space's `evaluate` returned as a number; text is refused, which Python would convert."""
    if isinstance(value, str | bytes):
        raise TypeError(f"evaluate returned {name} = {value!r}, which is no number")
    return kind(value)


def _over_time(task: TrialTask) -> str:
    return f"longer than {task.seconds_limit:g} s"


def _too_slow(latency_ms: float | None, task: TrialTask) -> str | None:
    """Return why a latency is infeasible, None where it is not."""
    if latency_ms is None or task.max_latency_ms is None or latency_ms <= task.max_latency_ms:
        return None
    return f"latency {latency_ms:.2f} ms is above the limit of {task.max_latency_ms:g} ms"


def _train(task: TrialTask, space: Space, heartbeat: Heartbeat | None) -> Result:
    import torch

    from naxcli.measure.devices import device_of_worker
    from naxcli.search_space.networks import build_network
    from naxcli.search_space.sizes import measure_config
    from naxcli.training.loop import seed_everything, train
    from naxcli.training.request import TrainingRequest

    assert task.data is not None and task.recipe is not None
    torch.set_num_threads(task.threads)
    device = device_of_worker()
    dataset = load_data(task.data)
    image_size = task.recipe.resolution or dataset.image_size
    shape = {"num_classes": dataset.num_classes, "in_channels": dataset.in_channels, "image_size": image_size}
    counts = measure_config(space, task.config, width=task.width, **shape)
    seed_everything(task.seed)
    network = build_network(space, dict(task.config), **shape, width=task.width)
    latency_ms = _latency_ms(task, network, (dataset.in_channels, image_size, image_size), device)
    measured: dict[str, Any] = {**counts, "latency_ms": latency_ms, "device": _device_name(device)}
    if (reason := _too_slow(latency_ms, task)) is not None:
        return Result(status=Status.INFEASIBLE, error=reason, **measured)

    deadline = Deadline(task.seconds_limit)
    watch = CurveWatch(task.forecast)

    def result_of(outcome: Outcome) -> Result:
        return _result_of(outcome, task, watch, is_over_time=deadline.was_passed, **measured)

    def on_epoch(epoch: EpochRecord) -> None:
        watch.add(epoch)
        if heartbeat is not None:
            heartbeat(dataclasses.asdict(epoch))

    checkpoint = None if task.checkpoint_to is None else Path(task.checkpoint_to)
    request = TrainingRequest(
        recipe=task.recipe,
        epochs=task.fidelity,
        schedule_epochs=task.schedule_epochs,
        seed=task.seed,
        device=device,
        checkpoint_from=None if task.checkpoint_from is None else Path(task.checkpoint_from),
        may_start_anew=True,
        checkpoint_to=checkpoint,
        uses_graphs=task.uses_graphs,
        uses_kernels=task.uses_kernels,
        may_cut_batches=task.may_cut_batches,
    )
    with _beside_others(device, heartbeat) as before_step:
        outcome = train(
            network,
            dataset,
            request,
            on_step=before_step,
            on_epoch=on_epoch,
            should_stop=lambda: deadline.has_passed() or watch.is_hopeless,
            on_failed_capture=_need_new_process,
            is_kept=lambda outcome: _is_kept(result_of(outcome), task),
        )
    result = result_of(outcome)
    if checkpoint is not None and not _is_kept(result, task):
        checkpoint.unlink(missing_ok=True)  # of an earlier try
    return result


@contextlib.contextmanager
def _beside_others(device: torch.device, heartbeat: Heartbeat | None) -> Iterator[Callable[[float], None]]:
    """Yield what a training on a device calls before each step: it lets measurements pass, and sends a heartbeat now and then."""
    from naxcli.measure.devices import synchronise

    beat = None if heartbeat is None else StepHeartbeat(heartbeat)
    with DeviceLock.of_worker().together(functools.partial(synchronise, device)) as give_way:

        def before_step(epochs: float) -> None:
            give_way()
            if beat is not None:
                beat(epochs)

        yield before_step


class Deadline:
    """A limit on the seconds from its making; None is no limit.

    Attributes:
        was_passed: Whether it had passed when it was last looked at.
    """

    def __init__(self, seconds: float | None) -> None:
        self._at = math.inf if seconds is None else time.monotonic() + seconds
        self.was_passed = False

    def has_passed(self) -> bool:
        self.was_passed = time.monotonic() > self._at
        return self.was_passed


class CurveWatch:
    """The costs of a training's epochs so far, and whether a forecast still gives it a chance.

    Args:
        forecast: Of the training; None gives it every chance.
    """

    def __init__(self, forecast: Forecast | None) -> None:
        self._forecast = forecast
        self._costs: list[float] = []
        self.is_hopeless = False

    def add(self, epoch: EpochRecord) -> None:
        """Take the record of an epoch into account."""
        if self._forecast is None or epoch.val_accuracy is None:
            return
        self._costs.append(1.0 - epoch.val_accuracy)
        self.is_hopeless = self._forecast.chance(self._costs) < MIN_CHANCE

    @property
    def predicted_cost(self) -> float:
        """The cost that is expected at the end of a hopeless training: the incumbent's or a higher one."""
        assert self._forecast is not None
        return max(self._forecast.incumbent, self._forecast.end(self._costs))

    @property
    def reason(self) -> str:
        """Why a hopeless training was ended."""
        assert self._forecast is not None
        return (
            f"stopped after epoch {len(self._costs)} of {self._forecast.num_epochs}: "
            f"a chance of {self._forecast.chance(self._costs):.1%} to end below {self._forecast.incumbent:.4g}"
        )


class StepHeartbeat:
    """Sends a heartbeat with the epochs done, at most one per interval."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._sent_at = -math.inf

    def __call__(self, epochs: float) -> None:
        if time.monotonic() - self._sent_at > HEARTBEAT_SECONDS:
            self._heartbeat({"epochs": epochs})
            self._sent_at = time.monotonic()


def _latency_ms(
    task: TrialTask, network: nn.Module, input_shape: tuple[int, ...], device: torch.device
) -> float | None:
    """Return the latency, measured without trainings beside it on the device; None where the task does not ask for it."""
    from naxcli.measure.counts import latency_ms

    if not task.measure_latency and task.max_latency_ms is None:
        return None
    with DeviceLock.of_worker().alone():
        return latency_ms(network.to(device), input_shape, device=device)


def _result_of(outcome: Outcome, task: TrialTask, watch: CurveWatch, *, is_over_time: bool, **measured: Any) -> Result:
    common: dict[str, Any] = {
        **measured,
        "train_loss": outcome.train_loss,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "grad_accum_steps": outcome.grad_accum_steps,
        "curve": outcome.curve,
    }
    if is_over_time:
        return Result(status=Status.TIMEOUT, error=_over_time(task), **common)
    if outcome.status is None and watch.is_hopeless:
        last = outcome.curve[-1]
        common |= {"train_loss": last.train_loss, "val_accuracy": last.val_accuracy, "error": watch.reason}
        return Result(
            status=Status.STOPPED, predicted_cost=watch.predicted_cost, stopped_after=len(outcome.curve), **common
        )
    if outcome.status != Status.SUCCESS:
        return Result(status=Status.DIVERGED, error="the loss is not finite", **common)
    cost = None if outcome.val_accuracy is None else 1.0 - outcome.val_accuracy
    return Result(status=Status.SUCCESS, cost=cost, val_accuracy=outcome.val_accuracy, **common)


def _is_kept(result: Result, task: TrialTask) -> bool:
    """Return whether the checkpoint of a trial stays."""
    if result.status != Status.SUCCESS or task.keep_if_cost_below is None:
        return result.status == Status.SUCCESS
    return result.cost is not None and result.cost < task.keep_if_cost_below


def _status_of(error: BaseException) -> Status:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Status.OUT_OF_MEMORY
    # The CPU allocator, cuBLAS and cuDNN report it as a plain RuntimeError.
    signs = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    if isinstance(error, RuntimeError) and any(sign in _message(error) for sign in signs):
        return Status.OUT_OF_MEMORY
    return Status.CRASHED


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - as above
        return ""


def return_memory() -> None:
    """Give back what a trial of torch allocated: its autograd graph has cycles, and CUDA keeps freed blocks for itself."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    from naxcli.training.host_memory import return_freed_memory

    gc.collect()
    return_freed_memory()
    if torch.cuda.is_initialized():
        with contextlib.suppress(
            RuntimeError
        ):  # of a device that the trial left broken, which `is_device_broken` tells
            torch.cuda.empty_cache()


def is_device_broken() -> bool:
    """Return whether this process can no longer use its CUDA device, as after an illegal access or a failed capture."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.rand(1, device="cuda").item()
    except RuntimeError:
        return True
    return False


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@functools.lru_cache(maxsize=4)
def loaded_space(origin: str, digest: str | None) -> Space:
    """Return a space, loaded once per worker; one that is another than the search's is refused."""
    space = load_space(origin)
    if digest is not None and (own := space_digest(space)) != digest:
        is_same_code = own.partition("-")[0] == digest.partition("-")[0]
        raise NaxcliError(
            f"a worker on {socket.gethostname()} loads another space {origin!r} than the search",
            why="the same file says something else there: it depends on what it is run with, or where"
            if is_same_code
            else "its file was edited while the search ran, or differs on that machine",
            hint="have the file say the same wherever it is loaded, for instance by reading no environment variables"
            if is_same_code
            else "put the file back, and the same command goes on",
        )
    return space


@functools.lru_cache(maxsize=2)
def load_data(request: DataRequest) -> Any:
    """Return the Dataset of a request, which this process keeps for the next one."""
    from naxcli.data.dataset import load_dataset

    dataset = load_dataset(
        request.name,
        root=Path(request.root),
        split_seed=request.split_seed,
        validation_fraction=request.validation_fraction,
        images_per_class=request.images_per_class,
        image_size=request.image_size,
        with_test=request.on_test,
        skip_corrupt=request.skip_corrupt,
        is_streaming=request.is_streaming,
    )
    if not request.on_test:
        return dataset
    return dataset.with_test_as_validation(trains_on_validation=request.images_per_class is None)
