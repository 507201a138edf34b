"""Depthwise convolution trained faster on a CPU: other ways to the same values and gradients, behind the same module.

oneDNN computes the weight gradient of a depthwise convolution fast for kernels at most three columns wide and no higher
than the image, and several times slower for others. A wide kernel's gradient is therefore put together from strips of three
columns, each the gradient of a narrow convolution of an image moved sideways; the gradient of the input is a convolution
with the turned kernel. And of a kernel that reaches across the whole map and beyond, only the part that ever meets the map
is computed. `benchmarks/training_depthwise.py` compares them with PyTorch's own.
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
_MIN_ELEMENTS = 1 << 15  # of images: below, the calls of the strips cost more than they save
_MACHINES = frozenset({"x86_64", "AMD64"})  # where this was measured


class FastDepthwiseConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d of stride 1 and odd, square kernel that keeps the size of its maps."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        middle, height = self.kernel_size[0] // 2, input.shape[2]
        reach = min(middle, max(input.shape[2:]) - 1)  # taps further from the middle meet nothing but the border
        size = 2 * reach + 1
        if reach < middle:
            weight = weight[:, :, middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        if reach == 0:
            output = input * weight.view(1, -1, 1, 1)
        elif (size > _STRIP or size > height) and _is_worth_strips(input):
            output = _StripDepthwise.apply(input, weight)
        else:
            return functional.conv2d(input, weight, bias, padding=reach, groups=self.groups)
        return output if bias is None else output + bias.view(1, -1, 1, 1)


def _is_worth_strips(images: Tensor) -> bool:
    is_plain = images.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return is_plain and torch.is_grad_enabled() and images.numel() >= _MIN_ELEMENTS


def speed_up_depthwise(network: nn.Module) -> None:
    """Let a network's depthwise convolutions be computed in these ways; parameters and names stay.

    Worth it for tensors on a CPU with channels last only.
    """
    if platform.machine() not in _MACHINES or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_eligible(module):
            module.__class__ = FastDepthwiseConv2d


def restore_convolutions(network: nn.Module) -> None:
    """Undo `speed_up_depthwise`."""
    for module in network.modules():
        if type(module) is FastDepthwiseConv2d:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def _is_eligible(module: nn.Conv2d) -> bool:
    size = module.kernel_size[0]
    return (
        module.groups == module.in_channels == module.out_channels
        and module.groups > 1
        and module.kernel_size == (size, size)
        and size >= 3
        and size % 2 == 1
        and module.stride == (1, 1)
        and module.dilation == (1, 1)
        and module.padding == (size // 2, size // 2)
        and module.padding_mode == "zeros"
    )


class _StripDepthwise(torch.autograd.Function):
    """Depthwise convolution of images (n, channels, h, w) with (channels, 1, k, k), the size kept, k odd."""

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
            gradient,
            seen,
            images.new_empty(channels, 1, size, width),
            None,
            [1, 1],
            [middle - border, 0],
            [1, 1],
            False,
            [0, 0],
            channels,
            [False, True, False],
        )
        columns += strip.unbind(3)
    return torch.stack(columns[:size], dim=3)
