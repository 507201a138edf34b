"""Depthwise convolutions under autograd whose every direction is computed in the fastest way for its shape.

The ways are cuDNN on maps with channels last, PyTorch's own kernels on plain maps, and Triton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from naxcli.training.kernels import depthwise
from naxcli.training.kernels.choice import Choices
from naxcli.training.kernels.depthwise import NormStatistics, Prologue
from naxcli.training.kernels.maps import layout_of, sum_dtype
from naxcli.training.kernels.normalization import normalization_gradient

Ways = dict[str, Callable[[], Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a depthwise convolution meets its images.

    Args:
        stride: Step between two positions of the kernel.
        padding: Zeros around the map.
        dtype: Type that the convolution computes in and returns.
    """

    stride: int
    padding: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """What a batch normalization in front of a convolution normalizes with.

    Args:
        running_mean: Running mean, updated in training; None keeps none.
        running_var: Running variance, as the mean.
        momentum: Weight of the batch in the running statistics.
        eps: Number added to the variance.
        is_training: Whether the statistics are the batch's own, rather than the running ones.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    momentum: float
    eps: float
    is_training: bool

    def statistics(self, images: Tensor) -> NormStatistics:
        """Return the statistics to normalize with, in the type of the sums, and update the running ones in training."""
        dtype = sum_dtype(images)
        if self.is_training:
            mean, variance = torch.batch_norm_update_stats(images, self.running_mean, self.running_var, self.momentum)
        else:
            assert self.running_mean is not None and self.running_var is not None
            mean, variance = self.running_mean, self.running_var
        return NormStatistics(mean.to(dtype), (variance.to(dtype) + self.eps).rsqrt())


def normalizing_prologue(
    activation: str, statistics: NormStatistics, weight: Tensor | None, bias: Tensor | None
) -> Prologue:
    """Return what a normalization with these statistics, factors and summands does to the source, before an activation."""
    scale = statistics.inverse_deviation if weight is None else weight * statistics.inverse_deviation
    shift = -statistics.mean * scale if bias is None else bias - statistics.mean * scale
    return Prologue(activation, scale, shift)


def forward_ways(images: Tensor, weight: Tensor, geometry: Geometry) -> Ways:
    """Return the ways to the convolution of images (n, channels, h, w) with (channels, 1, k, k), in the images' memory format."""
    layout, dtype = layout_of(images), geometry.dtype

    def torch_with(memory_format: torch.memory_format) -> Tensor:
        given = images.to(dtype).contiguous(memory_format=memory_format)
        taps, padding = _plain(weight).to(dtype), geometry.padding
        result = functional.conv2d(given, taps, stride=geometry.stride, padding=padding, groups=weight.shape[0])
        return result.contiguous(memory_format=layout)

    def triton() -> Tensor:
        result, _ = depthwise.convolve(images, weight, stride=geometry.stride, padding=geometry.padding, dtype=dtype)
        return result.contiguous(memory_format=layout)

    return {
        "cudnn": lambda: torch_with(torch.channels_last),
        "native": lambda: torch_with(torch.contiguous_format),
        "triton": triton,
    }


def data_gradient_ways(gradient: Tensor, weight: Tensor, images: Tensor, geometry: Geometry) -> Ways:
    """Return the ways to the gradient of the images, in their type and memory format."""
    layout = layout_of(images)

    def torch_with(memory_format: torch.memory_format) -> Tensor:
        of_images, _ = _convolution_backward(gradient, images, weight, geometry, memory_format, (True, False))
        assert of_images is not None
        return of_images.to(images.dtype).contiguous(memory_format=layout)

    def triton() -> Tensor:
        return depthwise.data_gradient(
            gradient,
            weight,
            sides=(images.shape[2], images.shape[3]),
            stride=geometry.stride,
            padding=geometry.padding,
            dtype=images.dtype,
        ).contiguous(memory_format=layout)

    return {
        "cudnn": lambda: torch_with(torch.channels_last),
        "native": lambda: torch_with(torch.contiguous_format),
        "triton": triton,
    }


def weight_gradient_ways(images: Tensor, gradient: Tensor, weight: Tensor, geometry: Geometry) -> Ways:
    """Return the ways to the gradient of the weight, in its type."""

    def torch_with(memory_format: torch.memory_format) -> Tensor:
        _, of_weight = _convolution_backward(gradient, images, weight, geometry, memory_format, (False, True))
        assert of_weight is not None
        return of_weight.to(weight.dtype)

    def triton() -> Tensor:
        return depthwise.weight_gradient(
            images, gradient, size=weight.shape[-1], stride=geometry.stride, padding=geometry.padding
        ).to(weight.dtype)

    return {
        "cudnn": lambda: torch_with(torch.channels_last),
        "native": lambda: torch_with(torch.contiguous_format),
        "triton": triton,
    }


def _convolution_backward(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    geometry: Geometry,
    memory_format: torch.memory_format,
    is_needed: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    of_images, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient.contiguous(memory_format=memory_format),
        images.to(geometry.dtype).contiguous(memory_format=memory_format),
        _plain(weight).to(geometry.dtype),
        None,
        [geometry.stride] * 2,
        [geometry.padding] * 2,
        [1, 1],
        False,
        [0, 0],
        weight.shape[0],
        [*is_needed, False],
    )
    return of_images, of_weight


def _plain(weight: Tensor) -> Tensor:
    """Return the weight (channels, 1, k, k) with strides from which torch does not conclude that channels are last."""
    return weight.squeeze(1).contiguous().unsqueeze(1)


def question(direction: str, images: Tensor, weight: Tensor, geometry: Geometry) -> str:
    """Return what the time of a direction depends on, as the name that its choice is kept by."""
    layout = "last" if layout_of(images) is torch.channels_last else "first"
    types = " ".join(str(dtype).removeprefix("torch.") for dtype in (images.dtype, geometry.dtype))
    shape = "x".join(map(str, images.shape))
    return f"{direction} {shape} k{weight.shape[-1]} s{geometry.stride} p{geometry.padding} {types} {layout}"


class DepthwiseConvolution(torch.autograd.Function):
    """Depthwise convolution of images (n, channels, h, w) with (channels, 1, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, geometry: Geometry, choices: Choices) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry, ctx.choices = geometry, choices
        ways = forward_ways(images, weight, geometry)
        return ways[choices.fastest(question("forward", images, weight, geometry), ways)]()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        geometry, choices = ctx.geometry, ctx.choices
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            ways = data_gradient_ways(gradient, weight, images, geometry)
            of_images = ways[choices.fastest(question("data gradient", images, weight, geometry), ways)]()
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(images, gradient, weight, geometry, choices)
        return of_images, of_weight, None, None


def _weight_gradient(images: Tensor, gradient: Tensor, weight: Tensor, geometry: Geometry, choices: Choices) -> Tensor:
    ways = weight_gradient_ways(images, gradient, weight, geometry)
    return ways[choices.fastest(question("weight gradient", images, weight, geometry), ways)]()


class FusedConvolution(torch.autograd.Function):
    """A batch normalization, if any, an activation and a depthwise convolution as one kernel, and as two and a reduction backward."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        normalization: Normalization | None,
        activation: str,
        geometry: Geometry,
        choices: Choices,
    ) -> Tensor:
        prologue, statistics = Prologue(activation), None
        if normalization is not None:
            statistics = normalization.statistics(images)
            prologue = normalizing_prologue(activation, statistics, norm_weight, norm_bias)
        result, seen = depthwise.convolve(
            images,
            weight,
            stride=geometry.stride,
            padding=geometry.padding,
            dtype=geometry.dtype,
            prologue=prologue,
        )
        tensors = (prologue.scale, prologue.shift)
        of_norm = (None, None) if statistics is None else (statistics.mean, statistics.inverse_deviation)
        ctx.save_for_backward(images, weight, seen, *tensors, *of_norm)
        ctx.activation, ctx.geometry, ctx.choices = activation, geometry, choices
        ctx.is_training = normalization is not None and normalization.is_training
        return result.contiguous(memory_format=layout_of(images))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, seen, scale, shift, mean, inverse_deviation = ctx.saved_tensors
        prologue = Prologue(ctx.activation, scale, shift)
        statistics = None if mean is None else NormStatistics(mean, inverse_deviation)
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(seen, gradient, weight, ctx.geometry, ctx.choices)
        of_images, sums = depthwise.data_gradient_before(
            gradient,
            weight,
            images,
            prologue,
            statistics,
            stride=ctx.geometry.stride,
            padding=ctx.geometry.padding,
        )
        of_bias = of_factor = None
        if statistics is not None:
            of_bias, of_factor = sums.unbind()
            if ctx.is_training:
                of_images = normalization_gradient(of_images, images, prologue, statistics, sums)
            else:
                of_images = of_images * scale.view(1, -1, 1, 1).to(of_images.dtype)
        of_images = of_images.contiguous(memory_format=layout_of(images))
        needs_factor, needs_bias = ctx.needs_input_grad[2:4]
        return (
            of_images,
            of_weight,
            of_factor if needs_factor else None,
            of_bias if needs_bias else None,
            *(None,) * 4,
        )
