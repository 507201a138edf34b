"""Depthwise convolution of maps with channels last in Triton: forward, data gradient, weight gradient.

The forward kernel can begin with a per-channel affine map and an activation (what batch normalization applies, and what follows it),
and the data gradient can end with their gradient. Sums are in float32, or in float64 where the maps are. The kernels hold few rows
of a map at a time, and count on the caches for the others: they are for maps of at most 32 x 32 and kernels of at most 9 x 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from naxcli.training.kernels.activations import activated, activation_slope
from naxcli.training.kernels.maps import (
    MAX_CHANNELS,
    MAX_POSITIONS,
    by_channel,
    empty_map,
    on_device,
    sum_dtype,
    sum_type,
    with_channels_last,
)

_WEIGHT_POSITIONS = 16  # the weight gradient holds them once for every column of the kernel
_WEIGHT_CHANNELS = 32
_WEIGHT_PROGRAMS = 2048  # that share the images, several for each processor of a GPU


@dataclass(frozen=True, slots=True)
class Prologue:
    """What is done to the source of a convolution first: activation(scale * source + shift), by channel.

    Args:
        activation: `identity`, `relu`, `gelu` or `elu`.
        scale: Factors of shape (channels,); None is 1.
        shift: Summands of shape (channels,); None is 0, as `scale` is then.
    """

    activation: str
    scale: Tensor | None = None
    shift: Tensor | None = None


@dataclass(frozen=True, slots=True)
class NormStatistics:
    """Mean and inverse standard deviation, both of shape (channels,), that the source was normalized with."""

    mean: Tensor
    inverse_deviation: Tensor


def convolve(
    images: Tensor,
    weight: Tensor,
    *,
    stride: int,
    padding: int,
    dtype: torch.dtype,
    prologue: Prologue | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the convolution, with channels last, and the map that the taps saw: the images, or what the prologue made of them.

    Args:
        images: Images (n, channels, h, w).
        weight: Weight (channels, 1, k, k).
        stride: Step between two positions of the kernel.
        padding: Zeros around the map, which the prologue does not change.
        dtype: Type of both results.
        prologue: What is done to the images first.
    """
    images = with_channels_last(images)
    n, channels, height, width = images.shape
    size = weight.shape[-1]
    shape = (n, channels, *(((side + 2 * padding - size) // stride + 1) for side in (height, width)))
    target = empty_map(shape, images, dtype)
    seen = images if prologue is None else empty_map(images.shape, images, dtype)
    block = min(MAX_CHANNELS, triton.next_power_of_2(channels))
    scale, shift = (None, None) if prologue is None else (prologue.scale, prologue.shift)
    with on_device(images):
        _convolve_kernel[(n, triton.cdiv(channels, block))](
            images,
            seen,
            _taps(weight),
            target,
            images if scale is None else scale,
            images if shift is None else shift,
            height,
            width,
            *shape[2:],
            channels,
            SIZE=size,
            STRIDE=stride,
            PADDING=padding,
            HAS_PROLOGUE=prologue is not None,
            HAS_AFFINE=scale is not None,
            ACTIVATION="identity" if prologue is None else prologue.activation,
            TYPE=sum_type(images),
            POSITIONS=min(MAX_POSITIONS, triton.next_power_of_2(max(height * width, shape[2] * shape[3]))),
            CHANNELS=block,
        )
    return target, seen


def data_gradient(
    gradient: Tensor,
    weight: Tensor,
    *,
    sides: tuple[int, int],
    stride: int,
    padding: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return the gradient of the images (n, channels, *sides), with channels last, from that of the convolution."""
    result, _ = _data_gradient(gradient, weight, sides=sides, stride=stride, padding=padding, dtype=dtype)
    return result


def data_gradient_before(
    gradient: Tensor,
    weight: Tensor,
    images: Tensor,
    prologue: Prologue,
    statistics: NormStatistics | None,
    *,
    stride: int,
    padding: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of what the prologue's activation was given, and its sums for a normalization.

    Args:
        gradient: Gradient of the convolution.
        weight: Weight of the convolution.
        images: What the prologue was given.
        prologue: Prologue of the convolution.
        statistics: Statistics by which the sums are normalized; None leaves the sums empty.
        stride: As in `convolve`.
        padding: As in `convolve`.

    Returns:
        The gradient, in the images' shape and type; and of shape (2, channels) its sum over all positions, and the sum of its product
        with the normalized images.
    """
    return _data_gradient(
        gradient,
        weight,
        sides=(images.shape[2], images.shape[3]),
        stride=stride,
        padding=padding,
        dtype=images.dtype,
        images=with_channels_last(images),
        prologue=prologue,
        statistics=statistics,
    )


def _data_gradient(
    gradient: Tensor,
    weight: Tensor,
    *,
    sides: tuple[int, int],
    stride: int,
    padding: int,
    dtype: torch.dtype,
    images: Tensor | None = None,
    prologue: Prologue | None = None,
    statistics: NormStatistics | None = None,
) -> tuple[Tensor, Tensor]:
    gradient = with_channels_last(gradient)
    n, channels, out_height, out_width = gradient.shape
    target = empty_map((n, channels, *sides), gradient, dtype)
    positions = min(MAX_POSITIONS, triton.next_power_of_2(sides[0] * sides[1]))
    block, tiles = min(MAX_CHANNELS, triton.next_power_of_2(channels)), triton.cdiv(sides[0] * sides[1], positions)
    partial_sums = gradient.new_empty((n * tiles if statistics else 0, 2, channels), dtype=sum_dtype(gradient))
    scale, shift = (None, None) if prologue is None else (prologue.scale, prologue.shift)
    with on_device(gradient):
        _data_gradient_kernel[(n, triton.cdiv(channels, block), tiles)](
            gradient,
            _taps(weight),
            target,
            target if images is None else images,
            target if scale is None else scale,
            target if shift is None else shift,
            target if statistics is None else statistics.mean,
            target if statistics is None else statistics.inverse_deviation,
            partial_sums,
            *sides,
            out_height,
            out_width,
            channels,
            SIZE=weight.shape[-1],
            STRIDE=stride,
            PADDING=padding,
            HAS_PROLOGUE=prologue is not None,
            HAS_AFFINE=scale is not None,
            HAS_SUMS=statistics is not None,
            ACTIVATION="identity" if prologue is None else prologue.activation,
            TYPE=sum_type(gradient),
            POSITIONS=positions,
            CHANNELS=block,
        )
    return target, partial_sums.sum(0)


def weight_gradient(images: Tensor, gradient: Tensor, *, size: int, stride: int, padding: int) -> Tensor:
    """Return the gradient (channels, 1, size, size) of the weight in the type of the sums, float32 or float64."""
    images, gradient = with_channels_last(images), with_channels_last(gradient)
    n, channels, height, width = images.shape
    out_height, out_width = gradient.shape[2:]
    block = min(_WEIGHT_CHANNELS, triton.next_power_of_2(channels))
    positions = min(_WEIGHT_POSITIONS, triton.next_power_of_2(out_height * out_width))
    num_blocks, num_tiles = triton.cdiv(channels, block), n * triton.cdiv(out_height * out_width, positions)
    num_shares = max(1, min(num_tiles, _WEIGHT_PROGRAMS // (size * num_blocks)))
    partial_sums = images.new_empty((num_shares, channels, 1, size, size), dtype=sum_dtype(images))
    with on_device(images):
        _weight_gradient_kernel[(size, num_blocks, num_shares)](
            images,
            gradient,
            partial_sums,
            num_tiles,
            height,
            width,
            out_height,
            out_width,
            channels,
            SIZE=size,
            COLUMNS=triton.next_power_of_2(size),
            STRIDE=stride,
            PADDING=padding,
            TYPE=sum_type(images),
            POSITIONS=positions,
            CHANNELS=block,
        )
    return partial_sums.sum(0)


def _taps(weight: Tensor) -> Tensor:
    """Return a weight (channels, 1, k, k) as (k * k, channels), which kernels read fast: their threads are of neighbouring channels."""
    return weight.flatten(1).t().contiguous()


@triton.jit
def _convolve_kernel(
    images: tl.tensor,
    seen: tl.tensor,
    taps: tl.tensor,
    target: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    channels: tl.tensor,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    HAS_PROLOGUE: tl.constexpr,
    HAS_AFFINE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    TYPE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """Convolve some channels of one image."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < channels
    images += image * height * width * channels
    seen += image * height * width * channels
    target += image * out_height * out_width * channels
    if HAS_PROLOGUE:
        # Once for the map, into memory that the taps then read from a cache: within their loop it would be done k * k times.
        for start in range(0, height * width, POSITIONS):
            position = start + tl.arange(0, POSITIONS)
            offset = position[:, None] * channels + channel[None, :]
            mask = (position < height * width)[:, None] & is_channel[None, :]
            values = tl.load(images + offset, mask=mask, other=0.0).to(TYPE)
            if HAS_AFFINE:
                factor = by_channel(scale, channel, is_channel, TYPE)
                summand = by_channel(shift, channel, is_channel, TYPE)
                values = values * factor[None, :] + summand[None, :]
            tl.store(seen + offset, activated(values, ACTIVATION).to(seen.dtype.element_ty), mask=mask)
        tl.debug_barrier()  # other threads of this program read it
    for start in range(0, out_height * out_width, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        is_position = position < out_height * out_width
        total = tl.zeros((POSITIONS, CHANNELS), TYPE)
        for i in range(SIZE):
            row = position // out_width * STRIDE - PADDING + i
            is_row = is_position & (row >= 0) & (row < height)
            for j in tl.static_range(SIZE):
                column = position % out_width * STRIDE - PADDING + j
                mask = (is_row & (column >= 0) & (column < width))[:, None] & is_channel[None, :]
                offset = (row * width + column)[:, None] * channels + channel[None, :]
                values = tl.load(seen + offset, mask=mask, other=0.0).to(TYPE)
                tap = by_channel(taps + (i * SIZE + j) * channels, channel, is_channel, TYPE)
                total += values * tap[None, :]
        offset = position[:, None] * channels + channel[None, :]
        tl.store(target + offset, total.to(target.dtype.element_ty), mask=is_position[:, None] & is_channel[None, :])


@triton.jit
def _data_gradient_kernel(
    gradient: tl.tensor,
    taps: tl.tensor,
    target: tl.tensor,
    images: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    mean: tl.tensor,
    inverse_deviation: tl.tensor,
    partial_sums: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    channels: tl.tensor,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    HAS_PROLOGUE: tl.constexpr,
    HAS_AFFINE: tl.constexpr,
    HAS_SUMS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    TYPE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """Gather the gradient of some positions of one image and some channels from all outputs that saw them."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    position = tl.program_id(2) * POSITIONS + tl.arange(0, POSITIONS)
    is_channel = channel < channels
    is_position = position < height * width
    gradient += image * out_height * out_width * channels
    total = tl.zeros((POSITIONS, CHANNELS), TYPE)
    for i in range(SIZE):
        row = position // width + PADDING - i
        is_row = is_position & (row >= 0) & (row < out_height * STRIDE)
        for j in tl.static_range(SIZE):
            column = position % width + PADDING - j
            is_inside = is_row & (column >= 0) & (column < out_width * STRIDE)
            if STRIDE > 1:
                is_inside = is_inside & (row % STRIDE == 0) & (column % STRIDE == 0)
            mask = is_inside[:, None] & is_channel[None, :]
            offset = (row // STRIDE * out_width + column // STRIDE)[:, None] * channels + channel[None, :]
            values = tl.load(gradient + offset, mask=mask, other=0.0).to(TYPE)
            tap = by_channel(taps + (i * SIZE + j) * channels, channel, is_channel, TYPE)
            total += values * tap[None, :]
    mask = is_position[:, None] & is_channel[None, :]
    offset = image * height * width * channels + position[:, None] * channels + channel[None, :]
    if HAS_PROLOGUE:
        given = tl.load(images + offset, mask=mask, other=0.0).to(TYPE)
        values = given
        if HAS_AFFINE:
            factor = by_channel(scale, channel, is_channel, TYPE)
            summand = by_channel(shift, channel, is_channel, TYPE)
            values = values * factor[None, :] + summand[None, :]
        total = tl.where(mask, total * activation_slope(values, ACTIVATION), 0.0)
        if HAS_SUMS:
            center = by_channel(mean, channel, is_channel, TYPE)
            spread = by_channel(inverse_deviation, channel, is_channel, TYPE)
            normalized = (given - center[None, :]) * spread[None, :]
            share = partial_sums + (image * tl.num_programs(2) + tl.program_id(2)) * 2 * channels + channel
            tl.store(share, tl.sum(total, axis=0), mask=is_channel)
            tl.store(share + channels, tl.sum(total * normalized, axis=0), mask=is_channel)
    tl.store(target + offset, total.to(target.dtype.element_ty), mask=mask)


@triton.jit
def _weight_gradient_kernel(
    images: tl.tensor,
    gradient: tl.tensor,
    partial_sums: tl.tensor,
    num_tiles: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    channels: tl.tensor,
    SIZE: tl.constexpr,
    COLUMNS: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    TYPE: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """Sum up the gradient of one row of the kernel for some channels, over a share of the tiles of all images."""
    i = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    share = tl.program_id(2)
    is_channel = channel < channels
    j = tl.arange(0, COLUMNS)
    tiles_per_image = tl.cdiv(out_height * out_width, POSITIONS)
    total = tl.zeros((COLUMNS, POSITIONS, CHANNELS), TYPE)
    for tile in range(share, num_tiles, tl.num_programs(2)):
        image = (tile // tiles_per_image).to(tl.int64)
        position = tile % tiles_per_image * POSITIONS + tl.arange(0, POSITIONS)
        is_position = position < out_height * out_width
        offset = (image * out_height * out_width + position)[:, None] * channels + channel[None, :]
        upstream = tl.load(gradient + offset, mask=is_position[:, None] & is_channel[None, :], other=0.0).to(TYPE)
        row = position // out_width * STRIDE - PADDING + i
        column = (position % out_width * STRIDE - PADDING)[None, :] + j[:, None]
        is_inside = (is_position & (row >= 0) & (row < height))[None, :] & (column >= 0) & (column < width)
        mask = (is_inside & (j < SIZE)[:, None])[:, :, None] & is_channel[None, None, :]
        place = (image * height * width + row * width)[None, :] + column
        values = tl.load(images + place[:, :, None] * channels + channel[None, None, :], mask=mask, other=0.0)
        total += values.to(TYPE) * upstream[None, :, :]
    taps = share * channels * (SIZE * SIZE) + channel[None, :] * (SIZE * SIZE) + i * SIZE + j[:, None]
    tl.store(partial_sums + taps, tl.sum(total, axis=1), mask=(j < SIZE)[:, None] & is_channel[None, :])
