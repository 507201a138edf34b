"""Training batches of streamed images, through timm's loader, by the same recipe as those of images in memory.

timm's loader reads and augments image by image on the host; normalisation, mixing and erasing happen on the device. An item's
random numbers depend on the seed, the epoch and its position only, not on the process that makes it, so a training
continued at any step sees the images of an uninterrupted one. Order, mixing and erasing are those of images in memory;
crop, flip and RandAugment are drawn by timm and torchvision, from the same distributions. A random-resized crop is taken from the
image as it is in its file, not from a square of the size that the network sees.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data import create_loader
from timm.data.auto_augment import rand_augment_transform
from timm.data.loader import fast_collate
from timm.data.transforms import MaybePILToTensor, RandomResizedCropAndInterpolation
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from naxcli.data.augment import (
    AUGMENTATION,
    ERASING,
    MIXING,
    Normalisation,
    TrainingBatches,
    batch_counts,
    draw_mixing,
    epoch_order,
    grey_fill,
    mix_images,
    mix_targets,
    random_stream,
)
from naxcli.data.dataset import Dataset
from naxcli.data.erasing import erased
from naxcli.data.streamed_images import StreamedImages
from naxcli.errors import NaxcliError
from naxcli.settings.recipe import Recipe

_ENDLESS = 1 << 40  # items: the loader does not know where the training ends


def make_batches(
    dataset: Dataset, recipe: Recipe, *, seed: int, device: torch.device
) -> TrainingBatches | StreamedBatches:
    """Return the batches of a training, made on the device from images in memory or streamed from their files."""
    if isinstance(dataset.train_images, StreamedImages):
        # On a CPU the loader shares the cores with the training, and a process for it would only copy.
        num_processes = torch.get_num_threads() if device.type == "cuda" else 0
        return StreamedBatches(dataset, recipe, seed=seed, device=device, num_processes=num_processes)
    return TrainingBatches(dataset, recipe, seed=seed, device=device)


class StreamedBatches:
    """The batches of one training, by step; quick for steps in order.

    Args:
        dataset: Dataset whose images are streamed.
        recipe: Augmentation, mixing and batch size.
        seed: Random seed of the trial.
        device: Device that batches are wanted on.
        num_processes: Number of loader processes; 0 reads and augments in this one when a batch is asked for.
    """

    def __init__(
        self, dataset: Dataset, recipe: Recipe, *, seed: int, device: torch.device, num_processes: int
    ) -> None:
        assert isinstance(dataset.train_images, StreamedImages)
        self._dataset = dataset
        self._images = dataset.train_images
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._num_processes = num_processes
        self._normalisation = Normalisation(dataset, device, recipe.resolution)
        self.batch_size, self.steps_per_epoch = batch_counts(len(self._images), recipe)
        self._iterator: Iterator[tuple[Tensor, Tensor]] | None = None
        self._next_step = 0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's normalised images (batch, channels, size, size) and soft targets (batch, classes).

        Raises:
            NaxcliError: If an image cannot be read; it is named.
        """
        if self._iterator is None or step != self._next_step:
            self.close()
            self._iterator = iter(self._loader(step))
        try:
            images, labels = next(self._iterator)
        except NaxcliError:
            self.close()
            self._items(step).read(self.batch_size)  # again in this process, for the error as it was raised
            raise
        self._next_step = step + 1
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self._normalisation.image_size
        mixing = draw_mixing(self._recipe, size, random_stream(self._seed, MIXING, epoch, position))
        images, labels = (part.to(self._device, non_blocking=True) for part in (images, labels))
        mixed = mix_images(self._normalisation(images, channels_last=self._recipe.channels_last), mixing)
        return (
            erased(mixed, self._recipe, random_stream(self._seed, ERASING, epoch, position)),
            mix_targets(labels, mixing, self._dataset.num_classes, self._recipe.label_smoothing),
        )

    def close(self) -> None:
        """End the loader's processes."""
        self._iterator = None

    def _items(self, first_step: int) -> _ShownImages:
        return _ShownImages(self._dataset, self._recipe, seed=self._seed, first_step=first_step)

    def _loader(self, first_step: int) -> Any:
        """Return timm's loader of the batches from a step on."""
        items, dataset = self._items(first_step), self._dataset
        # Not its prefetcher, which would make a batch too many and normalise in another arithmetic.
        loader = create_loader(
            items,
            input_size=(dataset.in_channels, dataset.image_size, dataset.image_size),
            batch_size=self.batch_size,
            mean=dataset.mean,
            std=dataset.std,
            num_workers=self._num_processes,
            device=self._device,
            pin_memory=self._device.type == "cuda",
            persistent_workers=False,
            use_prefetcher=False,
            collate_fn=fast_collate,
        )
        # Not timm's, which always takes random-resized crops.
        items.transform = _transform(self._recipe, grey_fill(dataset), dataset.image_size)
        # Not the default generator, which is the network's: it would draw other numbers after a restart of the loader.
        loader.generator = torch.Generator().manual_seed(0)
        return loader


class _ShownImages(TorchDataset[tuple[object, int]]):
    """The images of a training in the order in which they are shown, from one step on, each augmented in its own way."""

    def __init__(self, dataset: Dataset, recipe: Recipe, *, seed: int, first_step: int) -> None:
        assert isinstance(dataset.train_images, StreamedImages)
        self._images = dataset.train_images
        self._labels = dataset.train_labels.cpu().numpy()
        self._recipe = recipe
        self._seed = seed
        batch_size, num_batches = batch_counts(len(self._images), recipe)
        self._first = first_step * batch_size
        self._per_epoch = num_batches * batch_size
        self.transform: Callable[[Image.Image], object] | None = None

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> tuple[object, int]:
        epoch, position = divmod(self._first + index, self._per_epoch)
        shown = int(_order(len(self._images), self._recipe, self._seed, epoch)[position])
        image = self._images.whole_image(shown) if self._recipe.resized_crop_scale else self._images.image(shown)
        assert self.transform is not None
        with _own_random_numbers(self._seed, AUGMENTATION, epoch, position):
            return self.transform(image), int(self._labels[shown])

    def read(self, count: int) -> None:
        """Read the first `count` images for the errors that they raise."""
        for index in range(count):
            epoch, position = divmod(self._first + index, self._per_epoch)
            self._images.image(int(_order(len(self._images), self._recipe, self._seed, epoch)[position]))


@functools.lru_cache(maxsize=2)  # a loader that runs ahead is in two epochs at once
def _order(num_images: int, recipe: Recipe, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return epoch_order(num_images, recipe, seed=seed, epoch=epoch)


def _transform(recipe: Recipe, fill: tuple[int, ...], image_size: int) -> Callable[[Image.Image], object]:
    """Return what is done to one image: crop to its size, flip, RandAugment; then to a uint8 tensor."""
    steps: list[Any] = []
    if recipe.resized_crop_scale:
        steps.append(
            RandomResizedCropAndInterpolation(
                image_size,
                scale=(recipe.resized_crop_scale, 1.0),
                ratio=(recipe.resized_crop_ratio, 1 / recipe.resized_crop_ratio),
                interpolation="random",
            )
        )
    elif recipe.crop_padding:
        steps.append(transforms.RandomCrop(image_size, padding=recipe.crop_padding))
    if recipe.horizontal_flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.horizontal_flip))
    if recipe.randaugment:
        steps.append(rand_augment_transform(recipe.randaugment, {"img_mean": fill}))
    composed: Callable[[Image.Image], object] = transforms.Compose([*steps, MaybePILToTensor()])
    return composed


@contextmanager
def _own_random_numbers(*position: int) -> Iterator[None]:
    """Let Python, NumPy and torch draw the numbers of a position for the block, and go on as before after it."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    seeds = np.random.SeedSequence(position).generate_state(3)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seeds[0]))
        random.seed(int(seeds[1]))
        np.random.seed(seeds[2])
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
