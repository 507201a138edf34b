"""RandAugment on whole batches of uint8 images, pixel for pixel as timm does it with PIL on single ones.

Cubuk et al., RandAugment, 2020; the operations, their strengths and the fill follow timm (`timm.data.auto_augment`,
Apache-2.0), the arithmetic follows Pillow. Which image gets which operation is drawn on the host, so images are grouped
by operation without asking the device, and an operation runs only on the images that drew it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from naxcli.data.transfer import sent_to
from naxcli.settings.recipe import RandAugmentSettings

OPERATIONS = (
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
_LEVELS = 10.0  # magnitudes are in tenths of an operation's full strength
_LUMA = (19595, 38470, 7471)  # Pillow's weights of red, green and blue in 2**16ths
_SMALLEST_FACTOR = 0.1  # of the increasing enhancements
_ROUNDING = 2e-4  # levels; weights that add up to a little less than 1 must not be truncated to the level below
_BORDER = 2  # pixels beyond the image that a cubic interpolation inside reaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One drawn layer of RandAugment for n images, all on the host.

    Args:
        operation: Indices into `OPERATIONS` of shape (n,), -1 where none is applied.
        argument: The operations' arguments of shape (n,): degrees, factor, share of the size, bits, threshold or addend.
        is_cubic: Booleans of shape (n,): whether a geometric operation interpolates bicubically rather than bilinearly.
    """

    operation: npt.NDArray[np.int64]
    argument: npt.NDArray[np.float64]
    is_cubic: npt.NDArray[np.bool_]


def draw_layers(settings: RandAugmentSettings, num_images: int, generator: np.random.Generator) -> list[Layer]:
    """Return the layers of RandAugment for `num_images` images, drawn as timm draws them."""
    layers = []
    for _ in range(settings.num_layers):
        operation = generator.integers(len(OPERATIONS), size=num_images)
        if math.isinf(settings.magnitude_std):
            magnitude = generator.uniform(0, settings.magnitude, num_images)
        else:
            magnitude = generator.normal(settings.magnitude, settings.magnitude_std, num_images)
        level = magnitude.clip(0, settings.magnitude_max) / _LEVELS
        sign = np.where(generator.random(num_images) > 0.5, -1.0, 1.0)
        is_cubic = generator.random(num_images) < 0.5
        is_applied = generator.random(num_images) <= settings.probability
        argument = np.zeros(num_images)
        for index, name in enumerate(OPERATIONS):
            chosen = operation == index
            argument[chosen] = argument_of(name, level[chosen], sign[chosen], settings.is_increasing)
        layers.append(
            Layer(operation=np.where(is_applied, operation, -1), argument=argument, is_cubic=is_cubic),
        )
    return layers


def argument_of(  # noqa: PLR0911 (a table of formulas)
    name: str, level: npt.NDArray[np.float64], sign: npt.NDArray[np.float64], is_increasing: bool
) -> npt.NDArray[np.float64]:
    """Return an operation's argument for levels (1 is full strength) and directions (1 or -1)."""
    if name == "rotate":
        return 30.0 * level * sign
    if name in ("shear_x", "shear_y"):
        return 0.3 * level * sign
    if name in ("translate_x", "translate_y"):
        return 0.45 * level * sign
    if name == "posterize":
        return 4 - np.trunc(level * 4) if is_increasing else np.trunc(level * 4)
    if name == "solarize":
        return 256 - np.minimum(256, np.trunc(level * 256)) if is_increasing else np.minimum(256, np.trunc(level * 256))
    if name == "solarize_add":
        return np.minimum(128, np.trunc(level * 110))
    if name in ("color", "contrast", "brightness", "sharpness"):
        return np.maximum(_SMALLEST_FACTOR, 1 + 0.9 * level * sign) if is_increasing else 1.8 * level + 0.1
    return np.zeros_like(level)


def apply_layers(images: Tensor, layers: list[Layer], fill: tuple[int, ...]) -> Tensor:
    """Return (n, channels, h, w) uint8 images with the layers applied in order; `images` is overwritten.

    Args:
        fill: Level per channel of what a geometric operation brings in from outside.
    """
    for layer in layers:
        for index, name in enumerate(OPERATIONS):
            for is_cubic in (False, True) if name in _GEOMETRIC else (None,):
                is_member = (layer.operation == index) & (True if is_cubic is None else layer.is_cubic == is_cubic)
                members = np.flatnonzero(is_member)
                if not len(members):
                    continue
                indices = sent_to(images.device, members)
                argument = sent_to(images.device, layer.argument[members].astype(np.float32))
                group = images.index_select(0, indices)
                if is_cubic is not None:
                    changed = warp(group, name, argument, is_cubic=is_cubic, fill=fill)
                else:
                    changed = _POINTWISE[name](group, argument)
                images.index_copy_(0, indices, changed)
    return images


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel from its darkest to its brightest level over 0 to 255."""
    low = images.amin((2, 3), keepdim=True).double()
    high = images.amax((2, 3), keepdim=True).double()
    # Not 255 / (high - low), which torch rounds twice. Infinite where the channel is constant: left as it is below.
    scale = torch.full_like(low, 255) / (high - low)
    stretched = (images.double() * scale - low * scale).clamp_(0, 255)
    return torch.where(high > low, stretched, images).to(torch.uint8)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Make each channel's histogram flat, with Pillow's integer table."""
    n, c, h, w = images.shape
    levels = images.view(n, c, h * w).long()
    counts = torch.zeros(n, c, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    brightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (h * w - brightest) // 255  # (n, c, 1)
    divisor = step.clamp(min=1)
    below = counts.cumsum(2) - counts
    table = ((below + divisor // 2) // divisor).clamp_(max=255)
    return torch.where(step > 0, table.gather(2, levels), levels).view(n, c, h, w).to(torch.uint8)


def invert(images: Tensor, _: Tensor) -> Tensor:
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of every level."""
    kept = 255 - (torch.exp2(8 - bits) - 1)  # 0 bits: 256 levels are dropped, and 0 is kept
    return images & kept.to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the levels at or above the threshold (0 to 256)."""
    highest_kept = (threshold - 1).clamp(min=0).to(torch.uint8).view(-1, 1, 1, 1)
    # Levels above threshold - 1, and where the threshold is 0 level 0 as well.
    is_inverted = (images > highest_kept) | (threshold == 0).view(-1, 1, 1, 1)
    return torch.where(is_inverted, 255 - images, images)


def solarize_add(images: Tensor, addend: Tensor) -> Tensor:
    """Add to the levels below 128."""
    raised = images + addend.to(torch.uint8).view(-1, 1, 1, 1)  # at most 127 + 128: no overflow
    return torch.where(images < 128, raised, images)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return _blend(_grey(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean grey level."""
    mean = (_grey(images).double().mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean.float(), images, factor)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros((), device=images.device), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by Pillow's 3x3 kernel (ones, 5 in the middle), whose border stays."""
    levels = images.short()
    pairs = levels[:, :, :, :-2] + levels[:, :, :, 2:] + levels[:, :, :, 1:-1]
    total = pairs[:, :, :-2] + pairs[:, :, 2:] + pairs[:, :, 1:-1] + 4 * levels[:, :, 1:-1, 1:-1]
    smooth = images.float()
    smooth[:, :, 1:-1, 1:-1] = total.float().mul_(1 / 13).add_(0.5).floor_()
    return _blend(smooth, images, factor)


def _grey(images: Tensor) -> Tensor:
    """Return Pillow's luma (n, 1, h, w) of three channels as floats; a single channel is its own."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = (images[:, channel : channel + 1].float() for channel in range(3))
    # Whole numbers below 2**24 times a power of two: exact.
    total = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).add_(1 << 15)
    return total.mul_(2**-16).floor_()


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Return degenerate + factor * (images - degenerate), cut to 0 to 255 and truncated as Pillow does."""
    blended = (images.float() - degenerate).mul_(factor.view(-1, 1, 1, 1)).add_(degenerate)
    return blended.clamp_(0, 255).to(torch.uint8)


_POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "invert": invert,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "color": color,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
}
_GEOMETRIC = frozenset(OPERATIONS) - frozenset(_POINTWISE)


def warp(images: Tensor, name: str, argument: Tensor, *, is_cubic: bool, fill: tuple[int, ...]) -> Tensor:
    """Return uint8 images under a geometric operation, each pixel interpolated at its source position.

    Args:
        images: Images of shape (n, channels, h, w), uint8.
        name: `rotate`, `shear_x`, `shear_y`, `translate_x` or `translate_y`.
        argument: Arguments of shape (n,): degrees, factor, or share of the size.
        is_cubic: Whether 4 rather than 2 neighbours per axis are used.
        fill: Level per channel of positions outside.
    """
    n, channels, h, w = images.shape
    rows = torch.arange(h, device=images.device, dtype=torch.float32).view(1, h, 1) + 0.5
    columns = torch.arange(w, device=images.device, dtype=torch.float32).view(1, 1, w) + 0.5
    argument = argument.view(n, 1, 1)
    if name == "rotate":
        cosine, sine = torch.cos(torch.deg2rad(argument)), torch.sin(torch.deg2rad(argument))
        x = cosine * (columns - w / 2) - sine * (rows - h / 2) + w / 2
        y = sine * (columns - w / 2) + cosine * (rows - h / 2) + h / 2
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        values = _resample(images, x, y, is_cubic=is_cubic)
    elif name in ("shear_x", "translate_x"):
        shift = argument * (rows if name == "shear_x" else w)  # (n, h or 1, 1)
        inside = (columns + shift >= 0) & (columns + shift < w)
        values = _shift(images, shift, axis=3, is_cubic=is_cubic)
    else:
        shift = argument * (columns if name == "shear_y" else h)  # (n, 1, w or 1)
        inside = (rows + shift >= 0) & (rows + shift < h)
        values = _shift(images, shift, axis=2, is_cubic=is_cubic)
    outside = torch.tensor(fill, dtype=torch.float32).view(1, channels, 1, 1).to(images.device, non_blocking=True)
    return torch.where(inside.unsqueeze(1), values.add_(_ROUNDING).clamp_(0, 255), outside).to(torch.uint8)


def _shift(images: Tensor, shift: Tensor, *, axis: int, is_cubic: bool) -> Tensor:
    """Return (n, channels, h, w) float levels, each row (axis 3) or column (axis 2) moved by its own shift in pixels.

    All pixels of a row have the same offset from their left neighbour, so the row is gathered once, a little longer, and
    its neighbours are slices of it.
    """
    n, channels, h, w = images.shape
    size = images.shape[axis]
    floor = shift.floor()
    weights = _weights((shift - floor).unsqueeze(1), is_cubic)
    first = -1 if is_cubic else 0
    longer = torch.arange(first, first + size + len(weights) - 1, device=images.device)
    if axis == 3:
        source = (longer.view(1, 1, -1) + floor.long()).clamp_(0, w - 1)
        index = source + torch.arange(h, device=images.device).view(1, h, 1) * w  # (n, h, longer)
    else:
        source = (longer.view(1, -1, 1) + floor.long()).clamp_(0, h - 1)
        index = source * w + torch.arange(w, device=images.device).view(1, 1, w)  # (n, longer, w)
    gathered = images.flatten(2).gather(2, index.view(n, 1, -1).expand(n, channels, -1))
    gathered = gathered.view(n, channels, *index.shape[1:]).float()
    return _weighted_sum([gathered.narrow(axis, step, size) for step in range(len(weights))], weights)


def _resample(images: Tensor, x: Tensor, y: Tensor, *, is_cubic: bool) -> Tensor:
    """Return (n, channels, h, w) float levels at source positions x and y (n, h, w), in pixels from the left and top edge."""
    n, channels, h, w = images.shape
    column, row = (x - 0.5).floor(), (y - 0.5).floor()
    column_weights = _weights((x - 0.5 - column).unsqueeze(1), is_cubic)
    row_weights = _weights((y - 0.5 - row).unsqueeze(1), is_cubic)
    bordered = functional.pad(images.float(), (_BORDER,) * 4, mode="replicate").flatten(2)
    width = w + 2 * _BORDER
    # Of the left upper neighbour, counted from one pixel outside: inside the image it reaches no further. Outside is
    # filled by the caller.
    index = (row.clamp_(-1, h - 1) + 1) * width + column.clamp_(-1, w - 1) + 1
    index = index.long().view(n, 1, h * w).expand(n, channels, h * w)
    first = _BORDER - (2 if is_cubic else 1)

    def neighbour(down: int, right: int) -> Tensor:
        start = (first + down) * width + first + right
        return bordered[:, :, start:].gather(2, index).view(n, channels, h, w)

    lines = [
        _weighted_sum([neighbour(down, right) for right in range(len(column_weights))], column_weights)
        for down in range(len(row_weights))
    ]
    return _weighted_sum(lines, row_weights)


def _weights(offset: Tensor, is_cubic: bool) -> list[Tensor]:
    """Return the weights of 2 or 4 neighbours for an offset (0 to 1) from the left middle one; the cubic is Pillow's, a = -1."""
    if not is_cubic:
        return [1 - offset, offset]
    square, cube = offset * offset, offset * offset * offset
    return [2 * square - cube - offset, 1 - 2 * square + cube, offset + square - cube, cube - square]


def _weighted_sum(values: list[Tensor], weights: list[Tensor]) -> Tensor:
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total.addcmul_(value, weight)
    return total
