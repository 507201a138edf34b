"""Split: the training or test images of a data source, and how labels are split further. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from naxcli.data.arrays import Images, Labels, hash_of
from naxcli.data.streamed_images import StreamedImages
from naxcli.errors import NaxcliError


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The training or test split of a data source.

    Args:
        images: Images of shape (n, channels, size, size), uint8, in memory or streamed.
        labels: Class indices of shape (n,).
        class_names: Name of each class.
        is_official: Whether the content is the published one, by its checksum.
        notices: What the user should know about how it was read.
    """

    images: Images | StreamedImages
    labels: Labels
    class_names: tuple[str, ...]
    is_official: bool = True
    notices: tuple[str, ...] = field(default=())

    def content_hash(self) -> str:
        """Return 16 hexadecimal characters that identify images and labels; streamed images are not all read for it."""
        if isinstance(self.images, np.ndarray):
            return hash_of(self.images, self.labels)
        return self.images.listing.content_hash()


def stratified_split(labels: Labels, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Return two sorted arrays of indices: the rest, and a random share of every class.

    The same labels, fraction and seed give the same split on every machine.

    Args:
        labels: Class indices of shape (n,).
        fraction: Share of every class that is drawn, at least one image and not all of them.
        seed: Random seed of the draw.

    Raises:
        NaxcliError: If a class has fewer than two images.
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
    """Return sorted indices of a random subset with the same number of images of every class.

    Args:
        labels: Class indices of shape (n,).
        indices: Indices to draw from.
        images_per_class: Images of every class; a class that has fewer keeps all.
        seed: Random seed of the draw.
    """
    generator = np.random.default_rng(seed)
    members = [np.array(indices[labels[indices] == label]) for label in np.unique(labels)]
    return np.sort(np.concatenate([generator.permutation(group)[:images_per_class] for group in members]))
