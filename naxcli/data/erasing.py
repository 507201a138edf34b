"""Random erasing of whole batches, with timm's semantics.

Zhong et al., Random Erasing Data Augmentation, AAAI 2020; what is drawn follows timm (`RandomErasing`, Apache-2.0): boxes of 2 % to a
third of the image, of aspect ratios 0.3 to 1 / 0.3, in normalised images, after mixing. Boxes are drawn on the host; random pixels on
the device, from a seed, so that they are the same again on the same kind of device.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from naxcli.data.transfer import sent_to
from naxcli.settings.recipe import Recipe

_SMALLEST_AREA, _LARGEST_AREA = 0.02, 1 / 3  # of the image, for all boxes of an image together
_SMALLEST_RATIO = 0.3
_ATTEMPTS = 10  # at a box that fits, before there is none
_SEEDS = 1 << 62

Boxes = npt.NDArray[np.int64]


def erased(images: Tensor, recipe: Recipe, generator: np.random.Generator) -> Tensor:
    """Return normalised images (n, channels, size, size) with boxes erased as the recipe says; `images` may be overwritten."""
    if not recipe.erase_prob:
        return images
    boxes = draw_boxes(recipe, len(images), images.shape[-1], generator)
    noise = torch.Generator(device=images.device).manual_seed(int(generator.integers(_SEEDS)))
    return erase(images, boxes, recipe.erase_mode, noise)


def draw_boxes(recipe: Recipe, num_images: int, image_size: int, generator: np.random.Generator) -> Boxes:
    """Return (top, bottom, left, right) of the boxes of each image, (num_images, erase_count, 4); all 0 where there is none."""
    is_erased = generator.random(num_images) <= recipe.erase_prob
    counts = generator.integers(1, recipe.erase_count + 1, size=num_images)
    shape = (num_images, recipe.erase_count, _ATTEMPTS)
    areas = generator.uniform(_SMALLEST_AREA, _LARGEST_AREA, shape) * image_size**2 / counts[:, None, None]
    ratios = np.exp(generator.uniform(math.log(_SMALLEST_RATIO), -math.log(_SMALLEST_RATIO), shape))
    heights, widths = (np.rint(np.sqrt(side)).astype(np.int64) for side in (areas * ratios, areas / ratios))
    fits = (heights < image_size) & (widths < image_size)
    is_box = fits.any(axis=2) & is_erased[:, None] & (np.arange(recipe.erase_count) < counts[:, None])
    first = fits.argmax(axis=2)[..., None]
    height, width = (np.take_along_axis(side, first, axis=2)[..., 0] * is_box for side in (heights, widths))
    top, left = generator.integers(image_size - height + 1), generator.integers(image_size - width + 1)
    return np.stack([top, top + height, left, left + width], axis=2) * is_box[..., None]


def erase(images: Tensor, boxes: Boxes, mode: str, noise: torch.Generator) -> Tensor:
    """Return the images with boxes of 0 (`const`), of one normal value per channel (`rand`) or per pixel (`pixel`).

    Args:
        images: Normalised images of shape (n, channels, size, size), which are overwritten.
        boxes: As of `draw_boxes`.
        mode: One of `naxcli.settings.recipe.ERASE_MODES`.
        noise: Generator on the images' device.
    """
    heights, widths = boxes[..., 1] - boxes[..., 0], boxes[..., 3] - boxes[..., 2]
    chosen = np.flatnonzero(((heights > 0) & (widths > 0)).any(axis=1))
    if not len(chosen):
        return images
    rows = sent_to(images.device, chosen)
    part = images.index_select(0, rows)
    side = np.arange(part.shape[-1])
    for box in boxes[chosen].transpose(1, 2, 0)[..., None]:  # (4, images, 1), of one number of box
        inside_rows = sent_to(images.device, (side >= box[0]) & (side < box[1]))
        inside_columns = sent_to(images.device, (side >= box[2]) & (side < box[3]))
        is_inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        part = torch.where(is_inside, _fill(part, mode, noise), part)
    return images.index_copy_(0, rows, part)


def _fill(images: Tensor, mode: str, noise: torch.Generator) -> Tensor:
    n, channels, size, _ = images.shape
    if mode == "const":
        return torch.zeros((), device=images.device)
    shape = (n, channels, size, size) if mode == "pixel" else (n, channels, 1, 1)
    return torch.randn(shape, generator=noise, device=images.device)
