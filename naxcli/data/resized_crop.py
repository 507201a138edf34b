"""Random-resized crops of whole batches of uint8 images, pixel for pixel as timm takes them with Pillow of single ones.

Szegedy et al., Going Deeper with Convolutions, CVPR 2015; what is drawn follows timm (`RandomResizedCropAndInterpolation` with
random interpolation, Apache-2.0), the arithmetic follows Pillow's `resize`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from naxcli.data.transfer import sent_to
from naxcli.settings.recipe import Recipe

_ATTEMPTS = 10  # at a crop that fits, before the whole image is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """The crops of n square images, all on the host.

    Args:
        tops: First rows, of shape (n,).
        lefts: First columns, of shape (n,).
        heights: Rows, of shape (n,), at least 1.
        widths: Columns, of shape (n,), at least 1.
        is_cubic: Booleans of shape (n,): whether a crop is resized bicubically rather than bilinearly.
    """

    tops: npt.NDArray[np.int64]
    lefts: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    is_cubic: npt.NDArray[np.bool_]


def draw_crops(recipe: Recipe, num_images: int, image_size: int, generator: np.random.Generator) -> Crops:
    """Return the crops of as many images: area and logarithm of the aspect ratio are uniform, place and interpolation random."""
    shape = (num_images, _ATTEMPTS)
    areas = generator.uniform(recipe.resized_crop_scale, 1, shape) * image_size**2
    log_ratio = abs(math.log(recipe.resized_crop_ratio))
    ratios = np.exp(generator.uniform(-log_ratio, log_ratio, shape))
    widths, heights = (np.rint(np.sqrt(side)).astype(np.int64).clip(1) for side in (areas * ratios, areas / ratios))
    fits = (widths <= image_size) & (heights <= image_size)
    first = np.arange(num_images), fits.argmax(axis=1)
    widths, heights = (np.where(fits[first], side[first], image_size) for side in (widths, heights))
    return Crops(
        tops=generator.integers(image_size - heights + 1),
        lefts=generator.integers(image_size - widths + 1),
        heights=heights,
        widths=widths,
        is_cubic=generator.random(num_images) < 0.5,
    )


def resized_crops(images: Tensor, crops: Crops) -> Tensor:
    """Return uint8 images (n, channels, size, size), of each its crop resized to the size of the whole."""
    n, channels, size, _ = images.shape
    device = images.device
    is_cubic = sent_to(device, crops.is_cubic).view(n, 1, 1)
    # Rows of all channels side by side: (n, channels * height, width) @ (n, width, new width), then the same of columns.
    columns = _weights(sent_to(device, crops.lefts), sent_to(device, crops.widths), is_cubic, size)
    narrowed = _levels(images.flatten(1, 2).float() @ columns.mT).view(n, channels, size, size)
    rows = _weights(sent_to(device, crops.tops), sent_to(device, crops.heights), is_cubic, size)
    resized = _levels(narrowed.mT.flatten(1, 2) @ rows.mT).view(n, channels, size, size).mT
    return resized.to(torch.uint8, memory_format=torch.contiguous_format)


def _weights(starts: Tensor, lengths: Tensor, is_cubic: Tensor, size: int) -> Tensor:
    """Return the weight of each pixel of a side for each pixel of the resized crop, (n, size, size).

    Args:
        starts: First pixels of the crops, of shape (n,).
        lengths: Lengths of the crops, of shape (n,), at most `size`: a crop is never made smaller.
        is_cubic: Of shape (n, 1, 1).
        size: Length of the side, and of what the crop is resized to.
    """
    starts, ends = starts.view(-1, 1, 1), (starts + lengths).view(-1, 1, 1)
    pixels = torch.arange(size, device=starts.device)
    centres = starts + (pixels.view(1, -1, 1) + 0.5) * (lengths.view(-1, 1, 1) / size)
    x = (pixels + 0.5 - centres).abs()  # (n, size, size)
    linear = (1 - x).clamp_(min=0)
    # Keys' kernel with a = -0.5, as Pillow's.
    cubic = torch.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2) * (x < 2)
    weights = torch.where(is_cubic, cubic, linear) * ((pixels >= starts) & (pixels < ends))
    return weights / weights.sum(dim=2, keepdim=True)


def _levels(pixels: Tensor) -> Tensor:
    """Return float pixels rounded to levels, as Pillow does after each of its two passes."""
    return pixels.add_(0.5).floor_().clamp_(0, 255)
