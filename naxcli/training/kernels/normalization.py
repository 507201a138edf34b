"""The gradient of batch normalization in Triton, from the sums that the data gradient of the convolution behind it leaves."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from naxcli.training.kernels.depthwise import NormStatistics, Prologue
from naxcli.training.kernels.maps import (
    MAX_CHANNELS,
    MAX_POSITIONS,
    by_channel,
    empty_map,
    on_device,
    sum_type,
    with_channels_last,
)


def normalization_gradient(
    gradient: Tensor, images: Tensor, prologue: Prologue, statistics: NormStatistics, sums: Tensor
) -> Tensor:
    """Return the gradient of the images that a batch normalization was given in training.

    Args:
        gradient: Gradient of what it returned, as `data_gradient_before` leaves it.
        images: What it was given.
        prologue: Prologue with its scale.
        statistics: The batch's statistics.
        sums: Sums of shape (2, channels) of `data_gradient_before`.
    """
    assert prologue.scale is not None
    images = with_channels_last(images)
    mean_gradient, mean_product = (sums / (images.numel() // images.shape[1])).unbind()
    of_images = -prologue.scale * statistics.inverse_deviation * mean_product
    constant = -prologue.scale * mean_gradient - of_images * statistics.mean
    target = empty_map(images.shape, images, images.dtype)
    num_positions, channels = images.numel() // images.shape[1], images.shape[1]
    block = min(MAX_CHANNELS, triton.next_power_of_2(channels))
    with on_device(images):
        _combine_kernel[(triton.cdiv(num_positions, MAX_POSITIONS), triton.cdiv(channels, block))](
            gradient,
            images,
            target,
            prologue.scale,
            of_images,
            constant,
            num_positions,
            channels,
            TYPE=sum_type(images),
            POSITIONS=MAX_POSITIONS,
            CHANNELS=block,
        )
    return target


@triton.jit
def _combine_kernel(
    gradient: tl.tensor,
    images: tl.tensor,
    target: tl.tensor,
    of_gradient: tl.tensor,
    of_images: tl.tensor,
    constant: tl.tensor,
    num_positions: tl.tensor,
    channels: tl.tensor,
    TYPE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """Add gradient and images, each with a factor by channel, and a constant by channel."""
    position = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < channels
    offset = position[:, None] * channels + channel[None, :]
    mask = (position < num_positions)[:, None] & is_channel[None, :]
    total = by_channel(of_gradient, channel, is_channel, TYPE)[None, :] * tl.load(
        gradient + offset, mask=mask, other=0.0
    ).to(TYPE)
    total += by_channel(of_images, channel, is_channel, TYPE)[None, :] * tl.load(
        images + offset, mask=mask, other=0.0
    ).to(TYPE)
    total += by_channel(constant, channel, is_channel, TYPE)[None, :]
    tl.store(target + offset, total.to(target.dtype.element_ty), mask=mask)
