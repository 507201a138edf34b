"""Measure a network: parameters, multiply-adds, latency and memory. Counting needs no weights and no device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from naxcli.errors import ExitCode, NaxcliError
from naxcli.networks import REDUCED, build_network
from naxcli.space import Space
from naxcli.timing import time_until_stable
from naxcli.trial import Config

# On the meta device torch finds the shape of these by decompositions in Python that cost more than all the rest.
_SHAPE_KEEPING_ACTIVATIONS = {torch.ops.aten.gelu, torch.ops.aten.elu}
_SHAPE_KEEPING_NORMALIZATIONS = {torch.ops.aten.native_batch_norm, torch.ops.aten.native_layer_norm}

TARGET_TOLERANCE = 0.02
LATENCY_SECONDS = 0.1
_MIN_WIDTH = 0.01
_MAX_WIDTH = 64.0
_NUM_HALVINGS = 24

_STATUS_FILE = Path("/proc/self/status")
_CLEAR_REFS_FILE = Path("/proc/self/clear_refs")


def num_params(network: nn.Module) -> int:
    """Return the number of weights that training changes; statistics of normalizations are not among them."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of one forward pass of one image, in convolutions, linear layers and matrix products.

    The network is not run: shapes alone flow through it on torch's meta device, in evaluation mode. Papers call this
    number FLOPs; normalizations, activations and additions are not counted. Poolings made of convolutions are.

    Args:
        network: any module, on any device; left as it is.
        input_shape: of one image, (channels, height, width).

    Raises:
        RuntimeError, NotImplementedError: if the forward pass needs the values of tensors, not only their shapes.
    """
    # Shapes take the place of all weights, so that neither a copy of the network nor its activations are allocated.
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    with _evaluation_mode(network), torch.device("meta"), torch.no_grad(), _MultiplyAddCounter() as counter:
        torch.func.functional_call(network, shapes, (torch.empty(1, *input_shape, dtype=dtype),))
    multiply_adds: int = counter.multiply_adds
    return multiply_adds


def measure_config(
    space: Space,
    config: Config,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
    variant: str = REDUCED,
) -> dict[str, int]:
    """Return `num_params` and `flops` (multiply-adds of one image forward) of a configuration's network.

    The network is built on the meta device: it has shapes, but no memory. A builder that needs real tensors gets them.

    Raises:
        NaxcliError: if the space makes no networks, or has no such variant.
    """

    def measure() -> dict[str, int]:
        network = build_network(
            space,
            config,
            variant=variant,
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            width=width,
        )
        return {
            "num_params": num_params(network),
            "flops": count_flops(network, (in_channels, image_size, image_size)),
        }

    try:
        with torch.device("meta"):
            return measure()
    except (RuntimeError, NotImplementedError):
        # Torch says so where a value is asked of a tensor that has none; a real mistake raises again below.
        return measure()


def width_for_target(
    space: Space,
    config: Config,
    *,
    variant: str = REDUCED,
    num_classes: int,
    in_channels: int,
    image_size: int,
    target_params: float | None = None,
    target_flops: float | None = None,
) -> float:
    """Return the width, rounded to 4 digits, at which a configuration's network meets a target size within 2 %.

    Channel counts are rounded, so the size grows with the width in steps; the widths nearest to the target on both sides
    are found by bisection, and the better one is returned.

    Args:
        space: of the configuration.
        config: of the network.
        variant: `reduced`, or one of the space's full-size networks.
        num_classes: of the classifier.
        in_channels: of the images.
        image_size: in pixels; what multiply-adds are counted for.
        target_params: number of parameters wanted.
        target_flops: multiply-adds of one image forward wanted; exactly one of the two is given.

    Raises:
        NaxcliError: if both or neither target is given, or no width comes within 2 %; the nearest is named.
    """
    if (target_params is None) == (target_flops is None):
        raise NaxcliError(
            "a target is either a number of parameters or one of multiply-adds", hint="give one of the two"
        )
    measure, target = ("num_params", target_params) if target_params is not None else ("flops", target_flops)
    assert target is not None
    sizes: dict[float, int] = {}

    def size_at(width: float) -> int:
        if width not in sizes:
            sizes[width] = measure_config(
                space,
                config,
                variant=variant,
                num_classes=num_classes,
                in_channels=in_channels,
                image_size=image_size,
                width=width,
            )[measure]
        return sizes[width]

    low, high = _MIN_WIDTH, 1.0
    while size_at(high) < target and high < _MAX_WIDTH:
        low, high = high, 2 * high
    for _ in range(_NUM_HALVINGS):
        middle = round((low + high) / 2, 4)
        # A tenth of the tolerance is as good as exact, and spares building a dozen networks more.
        if middle in (low, high) or any(
            abs(size - target) <= TARGET_TOLERANCE / 10 * target for size in sizes.values()
        ):
            break
        low, high = (middle, high) if size_at(middle) < target else (low, middle)
    width, size = min(sizes.items(), key=lambda item: abs(item[1] - target))
    if abs(size - target) > TARGET_TOLERANCE * target:
        what = "parameters" if measure == "num_params" else "multiply-adds"
        raise NaxcliError(
            f"no width gives variant {variant} within {TARGET_TOLERANCE:.0%} of {target:,.0f} {what}",
            why=f"the nearest is {size:,} at width {width:g}",
            hint="choose a target near that, or another variant",
            exit_code=ExitCode.FAILED,
        )
    return width


def latency_ms(network: nn.Module, input_shape: tuple[int, ...], *, device: torch.device | str = "cpu") -> float:
    """Return the median time in milliseconds of a forward pass of one image in evaluation mode, synchronised with the device.

    A trial has to have a number, however busy its machine is with the trials beside it: the median is returned where the
    repetitions do not agree, too.

    Args:
        network: is moved to `device`.
        input_shape: of one image, (channels, height, width).
        device: to run on.
    """
    network.to(device)
    images = torch.randn(1, *input_shape, device=device)
    with _evaluation_mode(network), torch.inference_mode():
        timing = time_until_stable(
            lambda: network(images), min_seconds=LATENCY_SECONDS, max_seconds=10 * LATENCY_SECONDS
        )
    return 1000 * timing.seconds


def reset_peak_memory(device: torch.device | str) -> None:
    """Start a new measurement of peak memory, where the system allows one."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS_FILE.exists():
        # Linux: 5 sets the peak of the resident set to its present size. Some containers forbid it.
        try:
            _CLEAR_REFS_FILE.write_text("5")
        except OSError:
            return


def peak_memory_bytes(device: torch.device | str) -> int | None:
    """Return the largest memory in use since `reset_peak_memory`: torch's on a GPU, the whole process's on a CPU.

    None where the system does not tell (a CPU on anything but Linux). Where the reset is forbidden, it is the peak
    since the start of the process.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if not _STATUS_FILE.exists():
        return None
    for line in _STATUS_FILE.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


class _MultiplyAddCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds of forward operations by torch's own formulas.

    Does what `torch.utils.flop_counter.FlopCounterMode` does, without noting modules and taking composite operations
    apart, which cost most of the time: a search with limits counts thousands of networks.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = func.overloadpacket
        if operation in _SHAPE_KEEPING_ACTIVATIONS:
            out: Any = torch.empty_like(args[0])
        elif operation in _SHAPE_KEEPING_NORMALIZATIONS:
            statistics = torch.empty(0, device="meta")
            out = (torch.empty_like(args[0]), statistics, statistics)
        else:
            out = func(*args, **kwargs)
        if operation in flop_registry:
            # The formulas count a multiplication and an addition as two.
            self.multiply_adds += flop_registry[operation](*args, **kwargs, out_val=out) // 2
        return out


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    were_training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, was_training in were_training.items():
            module.training = was_training
