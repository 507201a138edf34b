"""Description and Part: what a data source is, as NumPy arrays, and how a part is split. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from naxcli.errors import NaxcliError

if TYPE_CHECKING:
    from naxcli.training.lazy_images import LazyImages

Images = npt.NDArray[np.uint8]  # (n, channels, size, size)
Labels = npt.NDArray[np.int64]  # (n,)


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


def hash_of(*parts: npt.NDArray[Any] | str) -> str:
    """Return 16 hexadecimal characters that identify arrays and texts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def stratified_split(labels: Labels, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Return sorted indices (rest, chosen) where `chosen` is that fraction of every class, at least one image of each.

    The same labels, fraction and seed give the same split on every machine.

    Raises:
        NaxcliError: if a class has fewer than two images.
    """
    if not 0 < fraction < 1:
        raise NaxcliError(f"the validation fraction is {fraction}", why="it must be between 0 and 1")
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise NaxcliError(
                f"class {label} has only one image", why="a class needs one image for training and one for validation"
            )
        size = min(max(1, round(fraction * len(members))), len(members) - 1)
        chosen.append(generator.permutation(members)[:size])
    is_chosen = np.zeros(len(labels), dtype=bool)
    is_chosen[np.concatenate(chosen)] = True
    return np.flatnonzero(~is_chosen), np.flatnonzero(is_chosen)


def limited_per_class(labels: Labels, indices: Labels, images_per_class: int, seed: int) -> Labels:
    """Return sorted indices among the given ones, `images_per_class` of every class or all that a class has."""
    generator = np.random.default_rng(seed)
    members = [np.array(indices[labels[indices] == label]) for label in np.unique(labels)]
    return np.sort(np.concatenate([generator.permutation(group)[:images_per_class] for group in members]))
