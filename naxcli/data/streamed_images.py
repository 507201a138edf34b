"""StreamedImages: images read from their files each time they are used, for data that does not fit into memory. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from naxcli.data.arrays import Images, Labels, hash_of
from naxcli.errors import NaxcliError

# What Pillow raises for a file that is not a whole image.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
CORRUPT_HINT = "repair or remove them, or have them left out: --set skip_corrupt=true (of train, confirm and data check: --skip-corrupt)"

_SAMPLE_BYTES = 128 << 20  # of images that statistics are counted from
_logger = logging.getLogger(__name__)


class Listing(Protocol):
    """Where the images of one split are, before any is read. Can be sent to another process."""

    @property
    def labels(self) -> Labels: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    def open(self, index: int) -> Image.Image: ...
    def item_name(self, index: int) -> str: ...
    def content_hash(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayListing:
    """Images in memory of shape (n, 1 or 3, h, w), uint8, that are resized each time they are used."""

    images: Images
    labels: Labels
    class_names: tuple[str, ...]

    def open(self, index: int) -> Image.Image:
        image = self.images[index]
        return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))

    def item_name(self, index: int) -> str:
        return f"image {index}"

    def content_hash(self) -> str:
        return hash_of(self.images, self.labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamedImages:
    """Square images that are read each time they are used, in place of a uint8 array of shape (n, channels, size, size).

    Args:
        listing: Where the images come from.
        indices: Indices into the listing, of shape (n,).
        channels: Number of channels, 1 or 3.
        image_size: Side in pixels.
        resized: Side that images are scaled to before all but the middle `image_size` pixels are cut off.
        skip_corrupt: Whether an unreadable image is logged and replaced by the next of its class, rather than refused.
    """

    listing: Listing
    indices: Labels
    channels: int
    image_size: int
    resized: int
    skip_corrupt: bool = False

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), self.channels, self.image_size, self.image_size)

    def subset(self, indices: npt.NDArray[np.integer[Any]]) -> StreamedImages:
        return dataclasses.replace(self, indices=self.indices[indices])

    def followed_by(self, other: StreamedImages) -> StreamedImages:
        """Return these images and then those of another subset of the same listing."""
        assert other.listing is self.listing
        return dataclasses.replace(self, indices=np.concatenate([self.indices, other.indices]))

    def image(self, index: int) -> Image.Image:
        """Return one image as a square, RGB or grey.

        Raises:
            NaxcliError: If the image cannot be read and `skip_corrupt` is false; it is named.
        """
        return self._opened(index, lambda image: square_of(image, self.resized, self.image_size, self.channels))

    def whole_image(self, index: int) -> Image.Image:
        """Return one image in its own size and shape, RGB or grey; raises as `image`."""
        return self._opened(index, lambda image: plain_of(image, self.channels))

    def _opened(self, index: int, made_of: Callable[[Image.Image], Image.Image]) -> Image.Image:
        for candidate in self._candidates(index):
            try:
                with self.listing.open(int(candidate)) as image:
                    return made_of(image)
            except UNREADABLE as error:
                named = f"{self.listing.item_name(int(candidate))}: {error}"
                if not self.skip_corrupt:
                    raise NaxcliError("an image cannot be read", why=named, hint=CORRUPT_HINT) from error
                _warn_once(f"unreadable, another image of its class is shown in its place: {named}")
        raise NaxcliError("no image of a class can be read", why=named)

    def read(self, part: slice | npt.NDArray[np.integer[Any]]) -> Images:
        """Return the images at a slice or at indices, of shape (n, channels, size, size), uint8; several threads read them."""
        chosen = np.arange(len(self))[part]
        images = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for target, image in zip(images, pool.map(self.image, chosen), strict=True):
                target[:] = array_of(image)
        return images

    def sample(self) -> Images:
        """Return evenly spaced images for statistics, or all images where they are few."""
        count = max(1, min(len(self), _SAMPLE_BYTES // (self.channels * self.image_size**2)))
        return self.read(np.linspace(0, len(self) - 1, count).round().astype(np.int64))

    def _candidates(self, index: int) -> Iterator[int]:
        """Yield the listing's index of an image, then those of the others of its class, the next one first."""
        yield self.indices[index]
        labels = self.listing.labels[self.indices]
        members = np.flatnonzero(labels == labels[index])
        yield from self.indices[np.concatenate([members[members > index], members[members < index]])]


def square_of(image: Image.Image, resized: int, image_size: int, channels: int = 3) -> Image.Image:
    """Return the middle `image_size` pixels of an image whose shorter side is scaled to `resized`, in RGB or grey."""
    square = ImageOps.fit(plain_of(image, channels), (resized, resized), Image.Resampling.BICUBIC)
    border = (resized - image_size) // 2
    return square if not border else square.crop((border, border, border + image_size, border + image_size))


def plain_of(image: Image.Image, channels: int) -> Image.Image:
    """Return an image in grey (one channel) or RGB, read in full."""
    plain = image.convert("L") if channels == 1 else _to_rgb(image)
    plain.load()
    return plain


def array_of(image: Image.Image) -> Images:
    """Return an RGB or grey image as (3 or 1, h, w) uint8."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return an RGB image; a transparent one lies on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    if image.mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


@functools.lru_cache(maxsize=10_000)
def _warn_once(text: str) -> None:
    _logger.warning(text)
