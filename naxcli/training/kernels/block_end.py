"""The end of a residual block in Triton: branch * scale + shortcut, where the scale is a gate by channel, stochastic depth, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from naxcli.training.kernels.choice import Choices
from naxcli.training.kernels.maps import (
    MAX_CHANNELS,
    MAX_POSITIONS,
    by_channel,
    empty_map,
    layout_of,
    on_device,
    sum_dtype,
    sum_type,
    with_channels_last,
)


class ScaledSum(torch.autograd.Function):
    """branch * scale + shortcut of maps (n, channels, h, w), with a scale of shape (n, channels, 1, 1)."""

    @staticmethod
    def forward(ctx: Any, branch: Tensor, scale: Tensor, shortcut: Tensor, choices: Choices) -> Tensor:
        ctx.save_for_backward(branch, scale)
        ctx.shortcut_dtype, ctx.choices = shortcut.dtype, choices
        ways = {
            "torch": lambda: torch.addcmul(shortcut, branch, scale),
            "triton": lambda: scaled_sum(branch, scale, shortcut),
        }
        return ways[choices.fastest(_question("scaled sum", branch, shortcut), ways)]()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        branch, scale = ctx.saved_tensors
        needs_scale = ctx.needs_input_grad[1]

        def by_torch() -> tuple[Tensor, Tensor | None]:
            of_scale = (gradient * branch).sum((2, 3), keepdim=True).to(scale.dtype) if needs_scale else None
            return (gradient * scale).to(branch.dtype), of_scale

        ways: dict[str, Callable[[], tuple[Tensor, Tensor | None]]] = {
            "torch": by_torch,
            "triton": lambda: scaled_sum_gradients(gradient, branch, scale, needs_scale=needs_scale),
        }
        question = _question(f"scaled sum's gradient {needs_scale:d}", branch, gradient)
        of_branch, of_scale = ways[ctx.choices.fastest(question, ways)]()
        return of_branch, of_scale, gradient.to(ctx.shortcut_dtype), None


def _question(direction: str, branch: Tensor, other: Tensor) -> str:
    types = " ".join(str(tensor.dtype).removeprefix("torch.") for tensor in (branch, other))
    return f"{direction} {'x'.join(map(str, branch.shape))} {types} {layout_of(branch)}"


def scaled_sum(branch: Tensor, scale: Tensor, shortcut: Tensor) -> Tensor:
    """Return branch * scale + shortcut in the memory format of the branch, from one kernel."""
    layout, dtype = layout_of(branch), torch.result_type(branch, shortcut)
    branch, shortcut, scale = with_channels_last(branch), with_channels_last(shortcut), scale.contiguous()
    target = empty_map(branch.shape, branch, dtype)
    _launch(_scaled_sum_kernel, branch, branch, scale, shortcut, target)
    return target.contiguous(memory_format=layout)


def scaled_sum_gradients(
    gradient: Tensor, branch: Tensor, scale: Tensor, *, needs_scale: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of branch and, if needed, scale, in their types, from one kernel."""
    layout, scale_dtype = layout_of(branch), scale.dtype
    gradient, branch, scale = with_channels_last(gradient), with_channels_last(branch), scale.contiguous()
    of_branch = empty_map(branch.shape, branch, branch.dtype)
    of_scale = scale.new_empty(scale.shape, dtype=sum_dtype(branch))
    _launch(_gradients_kernel, branch, gradient, branch, scale, of_branch, of_scale, NEEDS_SCALE=needs_scale)
    return of_branch.contiguous(memory_format=layout), of_scale.to(scale_dtype) if needs_scale else None


def _launch(kernel: Any, images: Tensor, *tensors: Tensor, **constants: Any) -> None:
    """Run a kernel with a program for each image and some of its channels."""
    n, channels, height, width = images.shape
    block = min(MAX_CHANNELS, triton.next_power_of_2(channels))
    with on_device(images):
        kernel[(n, triton.cdiv(channels, block))](
            *tensors,
            height * width,
            channels,
            TYPE=sum_type(images),
            POSITIONS=min(MAX_POSITIONS, triton.next_power_of_2(height * width)),
            CHANNELS=block,
            **constants,
        )


@triton.jit
def _scaled_sum_kernel(
    branch: tl.tensor,
    scale: tl.tensor,
    shortcut: tl.tensor,
    target: tl.tensor,
    num_positions: tl.tensor,
    channels: tl.tensor,
    TYPE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < channels
    factor = by_channel(scale + image * channels, channel, is_channel, TYPE)
    for start in range(0, num_positions, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        mask = (position < num_positions)[:, None] & is_channel[None, :]
        offset = (image * num_positions + position)[:, None] * channels + channel[None, :]
        total = tl.load(branch + offset, mask=mask, other=0.0).to(TYPE) * factor[None, :]
        total += tl.load(shortcut + offset, mask=mask, other=0.0).to(TYPE)
        tl.store(target + offset, total.to(target.dtype.element_ty), mask=mask)


@triton.jit
def _gradients_kernel(
    gradient: tl.tensor,
    branch: tl.tensor,
    scale: tl.tensor,
    of_branch: tl.tensor,
    of_scale: tl.tensor,
    num_positions: tl.tensor,
    channels: tl.tensor,
    TYPE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    NEEDS_SCALE: tl.constexpr,
) -> None:
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < channels
    factor = by_channel(scale + image * channels, channel, is_channel, TYPE)
    total = tl.zeros((POSITIONS, CHANNELS), TYPE)
    for start in range(0, num_positions, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        mask = (position < num_positions)[:, None] & is_channel[None, :]
        offset = (image * num_positions + position)[:, None] * channels + channel[None, :]
        upstream = tl.load(gradient + offset, mask=mask, other=0.0).to(TYPE)
        tl.store(of_branch + offset, (upstream * factor[None, :]).to(of_branch.dtype.element_ty), mask=mask)
        if NEEDS_SCALE:
            total += upstream * tl.load(branch + offset, mask=mask, other=0.0).to(TYPE)
    if NEEDS_SCALE:
        tl.store(of_scale + image * channels + channel, tl.sum(total, axis=0), mask=is_channel)
