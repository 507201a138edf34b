"""Roofline: the least time a network can take on a device, from what the device was measured to do.

Every operation of the forward pass takes at least the time of its arithmetic at the device's peak rate of matrix products, and
at least the time of reading its inputs and writing its outputs once at its peak bandwidth; the bound is the sum over
operations of the larger one. Nothing is fused in it, so a compiler that fuses can be faster than the bound. A training step
counts three times the forward pass, in arithmetic and in traffic: torch's counter is wrong for grouped convolutions backward.
Source: Williams et al., Roofline: An Insightful Visual Performance Model, CACM 2009.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from naxcli.measure.counts import FLOPS_PER_MAC, macs_of, pass_shapes
from naxcli.measure.devices import synchronise

TRAINING_FACTOR = 3
_PROBE_SECONDS = 0.3
# On an accelerator large enough to fill it; on a CPU beyond its caches, and soon done.
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 28}
_MATRIX_SIZE = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Measured peaks of a device.

    Args:
        bytes_per_second: Peak bandwidth: that of a copy within its memory, reads and writes counted.
        flops_per_second: Peak arithmetic: that of a square matrix product in the precision of the measurement, in FLOP/s
            as hardware is rated, two for each multiply-add.
    """

    bytes_per_second: float
    flops_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a forward pass: its multiply-adds and its unfused memory traffic."""

    macs: int
    traffic_bytes: int


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Return a device's ceilings from two short probes, each the best of its repetitions."""
    num_bytes, size = _COPY_BYTES[device.type], _MATRIX_SIZE[device.type]
    copy_seconds = _shortest_copy(device, num_bytes)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product_seconds = _shortest(lambda: left @ right, device)
    return Ceilings(
        bytes_per_second=2 * num_bytes / copy_seconds,
        flops_per_second=FLOPS_PER_MAC * float(size) ** 3 / product_seconds,
    )


def list_operations(network: nn.Module, input_shape: tuple[int, ...], *, bytes_per_value: int) -> list[Operation]:
    """Return the operations of one forward pass that compute anything, without running it.

    Args:
        network: Network in the mode to be counted; it is not changed.
        input_shape: Shape of a batch, (n, channels, height, width).
        bytes_per_value: Size of a number in the precision: 4 in float32, 2 in bfloat16.

    Raises:
        RuntimeError: If the forward pass needs the values of tensors.
    """
    found = _OperationList(bytes_per_value)
    pass_shapes(network, input_shape, watcher=found)
    return found.operations


def least_seconds(operations: list[Operation], ceilings: Ceilings) -> float:
    """Return the roofline's bound of one forward pass."""
    return sum(
        max(
            FLOPS_PER_MAC * operation.macs / ceilings.flops_per_second,
            operation.traffic_bytes / ceilings.bytes_per_second,
        )
        for operation in operations
    )


def _shortest_copy(device: torch.device, num_bytes: int) -> float:
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    return _shortest(lambda: target.copy_(source), device)


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of one call, of as many as fit into the probe's time, at least three."""
    work()
    synchronise(device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < _PROBE_SECONDS:
        started = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - started)
    return min(times)


class _OperationList(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, bytes_per_value: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._bytes_per_value = bytes_per_value

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if _is_view(func) or func.overloadpacket in _ALLOCATIONS:
            return out
        num_values = sum(tensor.numel() for tensor in _tensors((args, tuple(kwargs.values()), out)))
        self.operations.append(
            Operation(
                macs=macs_of(func, args, kwargs, out),
                traffic_bytes=num_values * self._bytes_per_value,
            )
        )
        return out


_ALLOCATIONS = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.empty_strided, torch.ops.aten.detach}


def _is_view(func: Any) -> bool:
    """Return whether an operation only looks at its input in another shape; one that writes in place is none."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
