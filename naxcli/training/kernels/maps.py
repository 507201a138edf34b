"""Maps as the kernels take them: batches of images whose memory is in the order (n, h, w, channels)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Of a map that a program holds at once; more take more registers than they win, as compiled for an H100.
MAX_POSITIONS = 32
MAX_CHANNELS = 64


def with_channels_last(images: Tensor) -> Tensor:
    """Return images (n, channels, h, w) with that order of their memory, also where torch cannot tell it from another."""
    return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def empty_map(shape: Sequence[int], like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return uninitialised images of shape (n, channels, h, w) in that order of memory, on the device of `like`."""
    n, channels, height, width = shape
    return like.new_empty((n, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)


def layout_of(images: Tensor) -> torch.memory_format:
    """Return the memory format of images; channels last where they fit both."""
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


def sum_dtype(images: Tensor) -> torch.dtype:
    """Return the type that kernels sum up in: float64 for maps of that type, else float32."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32


def sum_type(images: Tensor) -> Any:
    """Return `sum_dtype` as Triton calls it."""
    return tl.float64 if images.dtype == torch.float64 else tl.float32


def on_device(images: Tensor) -> torch.cuda.device:
    """Return a context in which kernels run on the tensor's device."""
    return torch.cuda.device(images.device.index if images.is_cuda else -1)


@triton.jit
def by_channel(values: tl.tensor, channel: tl.tensor, is_channel: tl.tensor, TYPE: tl.constexpr) -> tl.tensor:
    """Return the values of some channels in a type, 0 of those that there are not."""
    return tl.load(values + channel, mask=is_channel, other=0.0).to(TYPE)
