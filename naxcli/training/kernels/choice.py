"""Choice between several ways to compute the same, by their time on the device: measured once, and kept beside the worker.

Torch is imported when something is measured: the search's own process, which has none, tells its workers where they keep choices.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.files import replaced

if TYPE_CHECKING:
    import torch

CHOICES_VARIABLE = "_NAXCLI_KERNEL_CHOICES"
"""Environment variable by which the pool tells the workers of one machine where they keep what they chose."""

_WARM_UP_CALLS = 3  # compiles, and lets cuDNN search for its plan
_TIMED_CALLS = 5
_ROUNDS = 2
_BUSY_SIDE = 4096  # of the matrix products, together milliseconds long, behind which the calls queue up
_BUSY_CALLS = 8

_logger = logging.getLogger(__name__)


@functools.cache
def works_on(device: torch.device) -> bool:
    """Return whether Triton is installed and its kernels run on the device, which must be a GPU, LAMB's rightly; asked once a process."""
    if device.type != "cuda":
        return False
    import torch

    try:
        from naxcli.training.kernels.depthwise import convolve

        images = torch.ones(1, 2, 2, 2, device=device)
        convolve(images, torch.ones(2, 1, 1, 1, device=device), stride=1, padding=0, dtype=images.dtype)
        torch.cuda.synchronize(device)
        is_right = _is_lamb_right(device)
    except Exception as error:  # noqa: BLE001 - no triton, no compiler, no memory: each has its own, and all mean the same here
        _logger.info("training goes without Triton: %s", str(error).split("\n", maxsplit=1)[0])
        return False
    if not is_right:
        _logger.info("training goes without Triton: its step of LAMB is another")
    return is_right


def _is_lamb_right(device: torch.device) -> bool:
    """Return whether a step of `FusedLamb`, beside which no other way is tried, is one of `Lamb`."""
    import torch

    from naxcli.training.kernels.lamb import FusedLamb
    from naxcli.training.lamb import Lamb

    stepped = []
    for kind in (FusedLamb, Lamb):
        matrix, vector = (
            torch.linspace(0.5, 1.0, 6, device=device).reshape(shape).requires_grad_() for shape in ((2, 3), (6,))
        )
        for parameter in (matrix, vector):
            parameter.grad = torch.linspace(-1.0, 2.0, 6, device=device).reshape(parameter.shape)
        kind([{"params": [matrix], "weight_decay": 0.02}, {"params": [vector], "weight_decay": 0.0}], lr=0.1).step()
        stepped.append(torch.cat([matrix.detach().flatten(), vector.detach()]))
    return torch.allclose(stepped[0], stepped[1], rtol=1e-4, atol=1e-5)


class Choices:
    """What was chosen so far.

    Args:
        path: File that other processes on this machine read and write as well; None keeps the choices in this process.
        measure: Returns the times of several calls, in any unit, `inf` of one that fails.
    """

    def __init__(
        self,
        path: Path | None = None,
        measure: Callable[[Mapping[str, Callable[[], Any]]], dict[str, float]] | None = None,
    ) -> None:
        self._path = path
        self._measure = measure or milliseconds
        self._chosen: dict[str, str] = {}

    def __deepcopy__(self, _memo: Any) -> Choices:
        return self  # copies of a network share what was measured

    def fastest(self, question: str, ways: Mapping[str, Callable[[], Any]]) -> str:
        """Return the name of the fastest way; of the first one where that cannot be measured now.

        Args:
            question: What is computed, with everything that the time depends on beside the device.
            ways: Calls with the same result, by name. They are made several times, and change nothing.
        """
        if (known := self._chosen.get(question)) in ways:
            return str(known)
        import torch

        first = next(iter(ways))
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return first  # nothing can be waited for here; it is measured the next time
        self._chosen |= self._read()
        if (known := self._chosen.get(question)) in ways:
            return str(known)
        times = self._measure(ways)
        self._chosen[question] = min(
            times, key=lambda name: times[name]
        )  # the first where all fail: it shows the error
        self._write()
        return self._chosen[question]

    def _read(self) -> dict[str, str]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(question): str(way) for question, way in found.items()} if isinstance(found, dict) else {}

    def _write(self) -> None:
        """Add the choices to the file's. One that another process writes at the same time may be lost, and is measured again."""
        if self._path is None:
            return
        try:
            with replaced(self._path) as file:
                file.write(json.dumps({**self._read(), **self._chosen}).encode())
        except (OSError, NaxcliError) as error:
            _logger.info("the choice of kernels is not kept: %s", error)


@functools.cache
def choices_of_worker(device_name: str) -> Choices:
    """Return the choices for one kind of device that this process shares with the others of its search on this machine."""
    path = os.environ.get(CHOICES_VARIABLE)
    kind = "".join(c if c.isalnum() else "-" for c in device_name)
    return Choices(Path(f"{path}-{kind}.json") if path else None)


def milliseconds(ways: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the device's time for some calls of each way, the least of several rounds in turn; `inf` for a way that fails.

    Calls queue up behind a long computation, so that it is not the host's time: in a CUDA graph that does not count.
    """
    import torch

    times = dict.fromkeys(ways, float("inf"))
    for name, way in ways.items():
        try:
            for _ in range(_WARM_UP_CALLS):
                way()
            times[name] = 0.0
        except Exception as error:  # noqa: BLE001 - a kernel too large for this device, or no memory; others may do
            _logger.info("%s cannot be used here: %s", name, str(error).split("\n", maxsplit=1)[0])
    working = [name for name, time in times.items() if time == 0.0]
    if len(working) < 2:
        return times
    rounds: dict[str, list[float]] = {name: [] for name in working}
    try:
        busy = torch.empty(_BUSY_SIDE, _BUSY_SIDE, dtype=torch.bfloat16, device="cuda")
        for _ in range(_ROUNDS):
            for name in working:
                rounds[name].append(_queued_milliseconds(ways[name], busy))
    except torch.OutOfMemoryError:
        return times  # the training itself may have room enough
    return times | {name: min(values) for name, values in rounds.items()}


def _queued_milliseconds(way: Callable[[], Any], busy: torch.Tensor) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    for _ in range(_BUSY_CALLS):
        busy @ busy
    start.record()
    for _ in range(_TIMED_CALLS):
        way()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
