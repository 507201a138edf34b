"""Description and Part: what a data source is, and its images, in memory or read when they are asked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from naxcli.data.arrays import Images, Labels, hash_of
from naxcli.data.lazy_images import LazyImages


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a network builder needs to know of a data source; `image_size` is the side in pixels."""

    name: str
    num_classes: int
    in_channels: int
    image_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a data source, training or test.

    Args:
        images: (n, channels, size, size) uint8, or what reads them when they are asked for.
        labels: (n,) class indices.
        class_names: one per class.
        is_official: whether the content is the published one, by its checksum.
        notices: what the user should know about how it was read.
    """

    images: Images | LazyImages
    labels: Labels
    class_names: tuple[str, ...]
    is_official: bool = True
    notices: tuple[str, ...] = field(default=())

    def content_hash(self) -> str:
        """Return 16 hexadecimal characters that identify images and labels; of lazy images not all pixels are read."""
        if isinstance(self.images, np.ndarray):
            return hash_of(self.images, self.labels)
        return self.images.listing.content_hash()
