"""Measure a network: parameters, multiply-adds and latency. Counting needs no weights and no device."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from naxcli.measure.devices import set_tf32
from naxcli.measure.stable_timing import time_until_stable

# On the meta device torch finds the shape of these by decompositions in Python that cost more than all the rest.
_SHAPE_KEEPING_ACTIVATIONS = {torch.ops.aten.gelu, torch.ops.aten.elu}
_SHAPE_KEEPING_NORMALIZATIONS = {torch.ops.aten.native_batch_norm, torch.ops.aten.native_layer_norm}

_INTO_ONE_LAYER = (
    "fuse",
    "reparameterize",
    "switch_to_deploy",
)  # methods of blocks, in the order in which timm looks for them

LATENCY_SECONDS = 0.1
FLOPS_PER_MAC = 2
"""Floating-point operations of a multiply-add, as torch's formulas and the rates of hardware count them."""


def num_params(network: nn.Module) -> int:
    """Return the number of weights that training changes; statistics of normalizations are not among them."""
    return sum(parameter.numel() for parameter in network.parameters())


def has_branches(network: nn.Module) -> bool:
    """Return whether blocks of a network train as several branches and infer as one layer, as timm's know how to."""
    return any(_into_one_layer(module) for module in network.modules() if module is not network)


def single_branch_form(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode whose blocks of several branches are the one layer that they infer as.

    Args:
        network: Any module; it is not changed, and returned itself where it has no such blocks.
    """
    if not has_branches(network):
        return network
    single = copy.deepcopy(network).eval()
    _fuse_children(single)
    return single.eval()


def _fuse_children(network: nn.Module) -> None:
    """Turn each block of branches into its one layer, as timm's `reparameterize_model` does."""
    for name, child in network.named_children():
        method = _into_one_layer(child)
        if method == "fuse":
            setattr(network, name, getattr(child, method)())
        elif method is not None:
            getattr(child, method)()
        _fuse_children(child)


def _into_one_layer(module: nn.Module) -> str | None:
    """Return the method that turns a block into one layer, if its class has one that needs no arguments.

    An attribute of such a name may as well be a layer, and a method with arguments may fuse something else.
    """
    for name in _INTO_ONE_LAYER:
        method = getattr(type(module), name, None)
        if callable(method):
            try:
                inspect.signature(method).bind(module)
            except (TypeError, ValueError):
                continue
            return name
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardCounts:
    """What one forward pass of one image takes.

    Args:
        macs: Multiply-adds.
        num_bytes: Of the image and all that its operations put out, which is what training keeps for the backward pass.
        peak_bytes: Of the inputs and outputs of its largest operation, which is what inference needs at once.
    """

    macs: int
    num_bytes: int
    peak_bytes: int


def count_macs(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds (MACs) of one forward pass of one image; see `count_forward`."""
    return count_forward(network, input_shape).macs


def count_forward(network: nn.Module, input_shape: tuple[int, ...]) -> ForwardCounts:
    """Return the multiply-adds (MACs) of one forward pass of one image, in convolutions, linear layers and matrix products, and its memory.

    The network is not run: shapes alone flow through it on torch's meta device, in evaluation mode. Papers on
    image classification call this number FLOPs, and so do the column and the flags of naxcli. Normalizations, activations
    and additions are not counted; poolings made of convolutions are.

    Args:
        network: Any module, on any device; it is not changed.
        input_shape: Shape of one image, (channels, height, width).

    Raises:
        RuntimeError: If the forward pass needs the values of tensors, not only their shapes.
    """
    counter = _Counter()
    with _evaluation_mode(network):
        pass_shapes(network, (1, *input_shape), watcher=counter)
    return ForwardCounts(macs=counter.macs, num_bytes=counter.num_bytes, peak_bytes=counter.peak_bytes)


def pass_shapes(network: nn.Module, input_shape: tuple[int, ...], *, watcher: TorchDispatchMode) -> None:
    """Let shapes alone flow through a network on torch's meta device, and a dispatch mode watch the operations.

    Args:
        network: Network in the mode to be watched; it is not changed.
        input_shape: Shape of a batch, (n, channels, height, width).
        watcher: Mode that sees every operation of the forward pass.

    Raises:
        RuntimeError: If the forward pass needs the values of tensors, not only their shapes.
    """
    # Shapes take the place of all weights, so that neither a copy of the network nor its activations are allocated.
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    with torch.device("meta"), torch.no_grad(), watcher:
        torch.func.functional_call(network, shapes, (torch.empty(input_shape, dtype=dtype),))


def latency_ms(
    network: nn.Module,
    input_shape: tuple[int, ...],
    *,
    device: torch.device | str = "cpu",
    max_seconds: float = 10 * LATENCY_SECONDS,
    is_inference: bool = True,
) -> float:
    """Return the median time in milliseconds of a forward pass of one image in evaluation mode, synchronised with the device.

    It is that of the network as it is deployed: in float32, which is not rounded to TF32, and with branches as one layer,
    unless the form that is trained is asked for.
    The median is returned also where the repetitions do not agree: a trial needs a number, however busy its machine is
    with other trials.

    Args:
        network: Network; it may be moved to `device`.
        input_shape: Shape of one image, (channels, height, width).
        device: Device to run on.
        max_seconds: Longest time of the measurement.
        is_inference: Whether branches are one layer.
    """
    set_tf32(False)
    network = (single_branch_form(network) if is_inference else network).to(device)
    images = torch.randn(1, *input_shape, device=device)
    with _evaluation_mode(network), torch.inference_mode():
        timing = time_until_stable(lambda: network(images), min_seconds=LATENCY_SECONDS, max_seconds=max_seconds)
    return 1000 * timing.seconds


def macs_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Return the multiply-adds of one call of an operator by torch's own formulas, 0 where it has none for it."""
    operation = func.overloadpacket
    if operation in flop_registry:
        return int(flop_registry[operation](*args, **kwargs, out_val=out)) // FLOPS_PER_MAC
    if str(operation) == "torchvision.deform_conv2d":
        # As a plain convolution; between positions it also interpolates, which is not counted.
        weight = args[1]
        return int(out.numel() * weight[0].numel())
    return 0


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds of forward operations by torch's own formulas, and the bytes of what they read and put out.

    Does what `torch.utils.flop_counter.FlopCounterMode` does, but neither records modules nor decomposes composite
    operations, which takes most of the time: a search with limits counts thousands of networks.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: int = 0
        self.num_bytes: int = 0
        self.peak_bytes: int = 0

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
        self.macs += macs_of(func, args, kwargs, out)
        if isinstance(result := out[0] if isinstance(out, tuple) else out, torch.Tensor):
            num_bytes = result.nbytes
            self.num_bytes += num_bytes
            read = args[0].nbytes if args and isinstance(args[0], torch.Tensor) else 0
            self.peak_bytes = max(self.peak_bytes, read + num_bytes)
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
