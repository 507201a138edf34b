"""Training batches made on the device: crop, flip and RandAugment in large chunks, normalisation, mixing and erasing per batch.

Everything random is drawn on the host from (seed, epoch, chunk or batch), so that a training continued at any step sees
the images that an uninterrupted one sees, and nothing asks the device for a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from naxcli.data import randaugment
from naxcli.data.dataset import Dataset
from naxcli.data.erasing import erased
from naxcli.data.resized_crop import draw_crops, resized_crops
from naxcli.data.transfer import sent_to
from naxcli.settings.recipe import Recipe

# Bytes of images augmented at once: enough of each operation to make its cost per call small (2,048 and 16,384 images
# of CIFAR's size).
_CHUNK_BYTES = {"cpu": 6 << 20, "cuda": 48 << 20}
ORDER, AUGMENTATION, MIXING, ERASING = range(4)  # streams of random numbers, independent of each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How one batch is mixed with its own reverse.

    Args:
        weight: Weight of the image itself, 1 where nothing is mixed.
        box: (top, bottom, left, right) of the rectangle taken from the other image by CutMix; None is mixup.
    """

    weight: float
    box: tuple[int, int, int, int] | None = None


class TrainingBatches:
    """The batches of one training, by step.

    Args:
        dataset: Dataset with its images in memory, on the device or on the host where they do not fit there.
        recipe: Augmentation, mixing and batch size.
        seed: Random seed of the trial.
        device: Device that batches are made on.

    Attributes:
        batch_size: Images of a batch.
        steps_per_epoch: Batches of an epoch.
        steps_per_chunk: Batches whose images are augmented at once, in the first of their steps.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, *, seed: int, device: torch.device) -> None:
        assert isinstance(dataset.train_images, Tensor)
        self._dataset = dataset
        self._images = dataset.train_images
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._randaugment = recipe.randaugment_settings()
        self._normalisation = Normalisation(dataset, device, recipe.resolution)
        self._fill = grey_fill(dataset)
        self.batch_size, self.steps_per_epoch = batch_counts(len(self._images), recipe)
        batch_bytes = self.batch_size * self._images[0].nbytes
        steps_per_chunk = max(1, _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cpu"]) // batch_bytes)
        self.steps_per_chunk = min(steps_per_chunk, self.steps_per_epoch)
        self._chunk: tuple[tuple[int, int], Tensor, Tensor] | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's normalised images (batch, channels, size, size) and soft targets (batch, classes)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        chunk_index, offset = divmod(position, self.steps_per_chunk)
        if self._chunk is None or self._chunk[0] != (epoch, chunk_index):
            self._chunk = None  # before the next one is made: two do not have to fit
            self._chunk = ((epoch, chunk_index), *self._make_chunk(epoch, chunk_index))
        _, images, labels = self._chunk
        part = slice(offset * self.batch_size, (offset + 1) * self.batch_size)
        size = self._normalisation.image_size
        mixing = draw_mixing(self._recipe, size, random_stream(self._seed, MIXING, epoch, position))
        mixed = mix_images(self._normalisation(images[part], channels_last=self._recipe.channels_last), mixing)
        return (
            erased(mixed, self._recipe, random_stream(self._seed, ERASING, epoch, position)),
            mix_targets(labels[part], mixing, self._dataset.num_classes, self._recipe.label_smoothing),
        )

    def close(self) -> None:
        """Free the batches made ahead."""
        self._chunk = None

    def _make_chunk(self, epoch: int, chunk_index: int) -> tuple[Tensor, Tensor]:
        """Return the augmented uint8 images and the labels of consecutive batches."""
        order = epoch_order(len(self._images), self._recipe, seed=self._seed, epoch=epoch)
        size = self.steps_per_chunk * self.batch_size
        indices = sent_to(self._images.device, order[chunk_index * size : (chunk_index + 1) * size])
        images = self._images.index_select(0, indices).to(self._device, non_blocking=True)
        labels = self._dataset.train_labels.index_select(0, indices).to(self._device, non_blocking=True)
        generator = random_stream(self._seed, AUGMENTATION, epoch, chunk_index)
        padding = self._recipe.crop_padding
        if self._recipe.resized_crop_scale:
            padding = 0
            images = resized_crops(images, draw_crops(self._recipe, len(images), images.shape[-1], generator))
        images = crop_and_flip(images, padding, self._recipe.horizontal_flip, generator)
        if self._randaugment is not None:
            layers = randaugment.draw_layers(self._randaugment, len(images), generator)
            images = randaugment.apply_layers(images, layers, self._fill)
        return images, labels


def batch_counts(num_images: int, recipe: Recipe) -> tuple[int, int]:
    """Return images per batch and batches per epoch; the last partial batch is dropped."""
    batch_size = min(recipe.batch_size, num_images)
    return batch_size, num_images // batch_size


def epoch_order(num_images: int, recipe: Recipe, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the indices of an epoch's images in the order in which they are shown."""
    batch_size, num_batches = batch_counts(num_images, recipe)
    order = random_stream(seed, ORDER, epoch).permutation(num_images)
    return np.repeat(order, recipe.augmentation_repeats)[: num_batches * batch_size]


def random_stream(seed: int, stream: int, *position: int) -> np.random.Generator:
    """Return the random numbers of one of the streams at a position in the training."""
    return np.random.default_rng([seed, stream, *position])


def grey_fill(dataset: Dataset) -> tuple[int, ...]:
    """Return the level per channel that geometric operations bring in from outside, as timm's transforms factory."""
    return tuple(min(255, round(255 * mean)) for mean in dataset.mean)


class Normalisation:
    """Turns uint8 images into float32 with the data set's mean 0 and standard deviation 1 per channel.

    Args:
        dataset: Data set of the images.
        device: Device that they are normalised on.
        resolution: Side in pixels that they are resized to; 0 keeps the data set's.
    """

    def __init__(self, dataset: Dataset, device: torch.device, resolution: int = 0) -> None:
        self.image_size = resolution or dataset.image_size
        std = torch.tensor(dataset.std, dtype=torch.float64).view(1, -1, 1, 1) * 255
        mean = torch.tensor(dataset.mean, dtype=torch.float64).view(1, -1, 1, 1) * 255
        self._scale = (1 / std).float().to(device)
        self._shift = (-mean / std).float().to(device)

    def __call__(self, images: Tensor, *, channels_last: bool) -> Tensor:
        """Return (n, channels, image_size, image_size) float32 in the wanted memory format."""
        pixels = images.float()
        if self.image_size != images.shape[-1]:
            pixels = functional.interpolate(pixels, self.image_size, mode="bilinear", antialias=True)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        # Scaled before the channels move last: with three values side by side a CPU is several times slower at it.
        return pixels.mul_(self._scale).add_(self._shift).contiguous(memory_format=layout)


def crop_and_flip(images: Tensor, padding: int, flip_probability: float, generator: np.random.Generator) -> Tensor:
    """Return uint8 images, each cropped at random from itself with a black border and mirrored with a probability.

    Args:
        images: Images of shape (n, channels, h, w), uint8.
        padding: Width of the border in pixels.
        flip_probability: Probability of mirroring an image.
        generator: Source of the random numbers.
    """
    n, channels, h, w = images.shape
    tops = generator.integers(2 * padding + 1, size=n)
    lefts = generator.integers(2 * padding + 1, size=n)
    is_flipped = generator.random(n) < flip_probability
    if not padding and not is_flipped.any():
        return images
    columns = np.arange(w)
    columns = lefts[:, None] + np.where(is_flipped[:, None], w - 1 - columns, columns)  # (n, w)
    rows = tops[:, None] + np.arange(h)  # (n, h)
    device = images.device
    row_starts = sent_to(device, rows * (w + 2 * padding)).view(n, h, 1)
    index = row_starts + sent_to(device, columns).view(n, 1, w)
    padded = functional.pad(images, (padding,) * 4).flatten(2)
    return padded.gather(2, index.view(n, 1, h * w).expand(n, channels, h * w)).view(n, channels, h, w)


def draw_mixing(recipe: Recipe, image_size: int, generator: np.random.Generator) -> Mixing:
    """Return the mixing of one batch, drawn as timm's `Mixup` in batch mode: one weight, one box."""
    if not (recipe.mixup or recipe.cutmix) or generator.random() >= recipe.mixup_prob:
        return Mixing(weight=1.0)
    is_cutmix = bool(recipe.cutmix) and (not recipe.mixup or generator.random() < recipe.switch_prob)
    if not is_cutmix:
        return Mixing(weight=float(generator.beta(recipe.mixup, recipe.mixup)))
    weight = generator.beta(recipe.cutmix, recipe.cutmix)
    side = int(image_size * np.sqrt(1 - weight))
    row, column = (int(centre) for centre in generator.integers(image_size, size=2))
    top, bottom = max(0, row - side // 2), min(image_size, row + (side + 1) // 2)
    left, right = max(0, column - side // 2), min(image_size, column + (side + 1) // 2)
    area = (bottom - top) * (right - left)  # a box cut off by the border counts for what is left of it
    return Mixing(weight=1 - area / image_size**2, box=(top, bottom, left, right))


def mix_images(images: Tensor, mixing: Mixing) -> Tensor:
    """Return float images mixed with their reverse: image i with image n - 1 - i; `images` may be overwritten."""
    if mixing.weight == 1:
        return images
    if mixing.box is None:
        return torch.lerp(images.flip(0), images, mixing.weight)
    top, bottom, left, right = mixing.box
    images[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].flip(0)
    return images


def mix_targets(labels: Tensor, mixing: Mixing, num_classes: int, smoothing: float) -> Tensor:
    """Return (n, num_classes) float32 targets of the mixed images."""
    off = smoothing / num_classes
    targets = torch.full((len(labels), num_classes), off, device=labels.device)
    targets.scatter_(1, labels.unsqueeze(1), 1 - smoothing + off)
    return targets if mixing.weight == 1 else torch.lerp(targets.flip(0), targets, mixing.weight)
