"""Depthwise convolution trained faster on a CPU: another way to the same gradients, behind the same module.

oneDNN computes the weight gradient of a depthwise convolution fast for kernels at most three columns wide, whatever their
height, and several times slower for wider ones. A wide kernel's gradient is therefore put together from strips of three
columns, each the gradient of a narrow convolution of an image moved sideways; the gradient of the input is a convolution
with the turned kernel. `benchmarks/training_depthwise.py` compares the two.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_STRIP = 3  # columns of a kernel whose weight gradient is fast
_CHUNK_BYTES = 2 << 20  # of images: a chunk, its moved copies and their gradient stay in a core's caches
_MIN_ELEMENTS = 1 << 15  # of images: below, the calls cost more than they save
_MACHINES = frozenset({"x86_64", "AMD64"})  # where this was measured


class StripDepthwiseConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d of stride 1 and odd, square kernel whose gradients are computed in strips."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        is_plain = input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not (is_plain and torch.is_grad_enabled() and input.numel() >= _MIN_ELEMENTS):
            return functional.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        output: Tensor = _Depthwise.apply(input, weight)
        return output if bias is None else output + bias.view(1, -1, 1, 1)


def use_strips(network: nn.Module) -> None:
    """Let a network's wide depthwise convolutions compute their gradients in strips; parameters and names stay.

    Worth it for tensors on a CPU with channels last only.
    """
    if platform.machine() not in _MACHINES or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_eligible(module):
            module.__class__ = StripDepthwiseConv2d


def restore_convolutions(network: nn.Module) -> None:
    """Undo `use_strips`."""
    for module in network.modules():
        if type(module) is StripDepthwiseConv2d:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def _is_eligible(module: nn.Conv2d) -> bool:
    size = module.kernel_size[0]
    return (
        module.groups == module.in_channels == module.out_channels
        and module.groups > 1
        and module.kernel_size == (size, size)
        and size > _STRIP
        and size % 2 == 1
        and module.stride == (1, 1)
        and module.dilation == (1, 1)
        and module.padding == (size // 2, size // 2)
        and module.padding_mode == "zeros"
    )


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution of images (n, channels, h, w) with (channels, 1, k, k), the size kept."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return _convolve(images, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = _convolve(gradient, weight.flip(2, 3)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_images, None
        num_chunks = max(1, images.nbytes // _CHUNK_BYTES)
        chunks = zip(images.chunk(num_chunks), gradient.chunk(num_chunks), strict=True)
        parts = [_weight_gradient(*chunk, size=weight.shape[-1]) for chunk in chunks]
        return of_images, parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _convolve(images: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(images, weight, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def _weight_gradient(images: Tensor, gradient: Tensor, *, size: int) -> Tensor:
    """Return the (channels, 1, size, size) gradient of the weight, from strips of its columns.

    Column j is the sum over images[y + i - size // 2, x + j - size // 2] * gradient[y, x], with zeros outside.
    """
    channels, middle = images.shape[1], size // 2
    border = middle if size > images.shape[2] else 0  # a kernel higher than the image is fast without padding only
    bordered = functional.pad(images, (middle, middle + 1, border, border))
    columns: list[Tensor] = []
    while len(columns) < size:
        width = _STRIP if size - len(columns) >= 2 else 1  # of two columns left, a third is computed and dropped
        seen = bordered.narrow(3, len(columns), images.shape[3] + width - 1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        _, strip, _ = torch.ops.aten.convolution_backward(
            gradient, seen, images.new_empty(channels, 1, size, width), None,
            [1, 1], [middle - border, 0], [1, 1], False, [0, 0], channels, [False, True, False],
        )  # fmt: skip
        columns += strip.unbind(3)
    return torch.stack(columns[:size], dim=3)
