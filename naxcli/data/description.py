"""What a network builder needs to know of a data source. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a network builder needs to know of a data source.

    Args:
        name: Name of the data source.
        num_classes: Number of classes.
        in_channels: Number of channels of an image, 1 or 3.
        image_size: Side of the square images in pixels.
    """

    name: str
    num_classes: int
    in_channels: int
    image_size: int
